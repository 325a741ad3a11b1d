/* Reductions computed a vector at a time: loops around leaves.
 *
 * A leaf keeps `tile` times `vectors` accumulators in registers through the whole
 * reduction.  Along the vector axis lie blocks of lanes, along the tile axis whatever
 * shares the vector operand: pixels that share weights, filters that share a row of
 * pixels.  Rows are split into equal tiles: 28 is 2 x 14, 30 is 10 + 10 + 10. */
#include "schedule.h"

#include <math.h>
#include <string.h>

enum {
    TILE_MOST = 14,                              /* the largest member of the leaf family */
    VECTORS_MOST = 4,                            /* of a tile of one */
    PIPELINE = 8,                                /* products that a processor has under way */
    LINES_WORTH = 128                            /* a block that other data may have driven from the cache */
};

/* -- operands -- */

bool tile_operand(const Schedule *s, const Expr *load, int spread, Operand *o)
{
    if (load->kind != X_LOAD || load->dtype != F32)
        return false;
    o->node = load->load.node;
    o->address = load->affine;
    o->spread = load->affine.coef[s->nest->lane];
    o->vector = o->spread != 0;
    return o->spread >= 0 && o->spread <= spread;
}

static bool parse_term(Schedule *s)
{
    const Expr *t = s->nest->term;
    Leaf *leaf = &s->leaf;
    leaf->kind = s->nest->reduce == REDUCE_MAX ? LEAF_MAX : t->kind == X_LOAD ? LEAF_SUM : LEAF_FMA;
    if (leaf->kind != LEAF_FMA)
        return tile_operand(s, t, LEAF_SPREAD, &leaf->a) && leaf->a.vector;
    if (!tile_operand(s, t->arg[0], 1, &leaf->a) || !tile_operand(s, t->arg[1], 1, &leaf->b))
        return false;
    if (!leaf->a.vector) {                       /* a is a vector, b may be one */
        Operand a = leaf->a;
        leaf->a = leaf->b;
        leaf->b = a;
    }
    return leaf->a.vector;
}

/* The accumulator, times a constant, plus at most two elements. */
static bool parse_sum(Schedule *s, const Expr *e)
{
    Leaf *leaf = &s->leaf;
    if (e->kind == X_ACC)
        return true;
    if (e->kind == X_CALL && e->fn == FN_ADD)
        return parse_sum(s, e->arg[0]) && parse_sum(s, e->arg[1]);
    if (e->kind == X_CALL && e->fn == FN_MUL && e->arg[0]->kind == X_ACC && e->arg[1]->kind == X_FLOAT) {
        leaf->scale = (float)e->arg[1]->number;
        return true;
    }
    Operand *free = !leaf->bias.node ? &leaf->bias : !leaf->add.node ? &leaf->add : NULL;
    return free && tile_operand(s, e, 1, free);
}

/* Conditions low < element and element < high, or one of them. */
static bool parse_gate(Schedule *s, const Expr *e)
{
    Leaf *leaf = &s->leaf;
    if (e->kind == X_CALL && e->fn == FN_AND)
        return parse_gate(s, e->arg[0]) && parse_gate(s, e->arg[1]);
    if (e->kind != X_CALL || e->fn != FN_LT)
        return false;
    bool low = e->arg[0]->kind == X_FLOAT;
    const Expr *bound = e->arg[!low], *x = e->arg[low];
    if (bound->kind != X_FLOAT)
        return false;
    *(low ? &leaf->low : &leaf->high) = (float)bound->number;
    Operand gate = leaf->bias;
    return tile_operand(s, x, 1, &leaf->bias) && leaf->bias.vector &&
           (!gate.node || !memcmp(&gate, &leaf->bias, sizeof gate));
}

static bool parse_gated(Schedule *s, const Expr *e)
{
    s->leaf.gated = true;
    return e->arg[2]->kind == X_FLOAT && e->arg[2]->number == 0 && parse_gate(s, e->arg[0]) &&
           parse_sum(s, e->arg[1]);
}

bool tile_value(Schedule *s, const Expr *e)
{
    Leaf *leaf = &s->leaf;
    leaf->scale = 1;
    leaf->low = -INFINITY;
    leaf->high = INFINITY;
    if (e->kind == X_CALL && e->fn == FN_SELECT)
        return parse_gated(s, e);
    if (e->kind == X_CALL && e->fn == FN_MIN && e->arg[1]->kind == X_FLOAT) {
        leaf->high = (float)e->arg[1]->number;
        e = e->arg[0];
    }
    if (e->kind == X_CALL && e->fn == FN_MAX && e->arg[1]->kind == X_FLOAT) {
        leaf->low = (float)e->arg[1]->number;
        e = e->arg[0];
    }
    return parse_sum(s, e);
}

bool leaf_shares(const Leaf *leaf)
{
    return leaf->kind == LEAF_FMA && !leaf->b.vector;
}

/* -- axes -- */

/* Along the tile axis the operand that its sums share must stay: a vector that meets single
 * numbers, or the second of two vectors. */
static bool tiles_along(const Schedule *s, int axis)
{
    const Leaf *leaf = &s->leaf;
    if (axis == s->nest->lane || axis == s->vector_axis || s->nest->axis[axis].reduce)
        return false;
    if (!leaf_shares(leaf))
        return leaf->kind != LEAF_FMA || !leaf->b.address.coef[axis];
    return leaf->b.address.coef[axis] && !leaf->a.address.coef[axis];
}

static void choose_axes(Schedule *s)
{
    s->vector_axis = s->nest->axis[s->nest->lane].outer;
    s->tile_axis = -1;
    for (int i = 0; i < s->parallel; i++)
        if (tiles_along(s, s->order[i]))
            s->tile_axis = s->order[i];
}

static int at_most(int extent, int most)
{
    return extent < most ? extent : most;
}

/* Accumulators, the vectors that fill them and one number must fit the registers, one of which
 * stays free where that is cheap. */
static int tile_most(const Target *target, int vectors)
{
    return at_most((target->registers - vectors - (vectors > 2 ? 1 : 2)) / vectors, TILE_MOST);
}

/* Vectors of a tile of several: three make short tiles long enough where registers are few, but
 * products that are not fused take one more. */
static int vectors_most(const Target *target)
{
    return target->fused && target->registers < LEAF_WINDOW_REGISTERS ? 3 : 2;
}

bool leaf_rolled(const Target *target, int tile, int vectors)
{
    return 2 * tile * vectors + tile > target->registers - 2;
}

bool leaf_shape_fits(const Target *target, int tile, int vectors)
{
    return target->lanes > 1 && vectors >= 1 && vectors <= VECTORS_MOST && tile >= 1 &&
           tile <= tile_most(target, vectors) && (vectors <= vectors_most(target) || tile == 1);
}

/* Whether results and what is added to them lie a vector a step. */
static bool blocks_along(const Schedule *s, int axis)
{
    const Leaf *leaf = &s->leaf;
    int lanes = s->target->lanes;
    return s->nest->store.address.coef[axis] == lanes &&
           (!leaf->bias.node || leaf->bias.address.coef[axis] == 0) &&
           (!leaf->add.node || leaf->add.address.coef[axis] == lanes);
}

/* The axis along which windows of vectors, one vector a place and the same step in both
 * directions, overlap from row to row; -1: none. */
static int window_rows(const Schedule *s)
{
    const Leaf *leaf = &s->leaf;
    const Affine *a = &leaf->a.address, *b = &leaf->b.address;
    if (leaf->kind != LEAF_FMA || leaf_shares(leaf) || s->axes != s->parallel + 2 || s->tile_axis < 0 ||
        s->target->registers < LEAF_WINDOW_REGISTERS || s->nest->valid < s->target->lanes ||
        s->nest->store.accumulate)
        return -1;
    int height = s->order[s->parallel], width = s->order[s->axes - 1], lanes = s->target->lanes;
    int stride = a->coef[s->tile_axis] / lanes;
    if (s->nest->axis[height].extent != LEAF_WINDOW || s->nest->axis[width].extent != LEAF_WINDOW ||
        clipped(s, width) || a->coef[width] != lanes || b->coef[width] != lanes ||
        (stride != 1 && stride != 2) || a->coef[s->tile_axis] % lanes || !blocks_along(s, s->tile_axis))
        return -1;
    for (int i = 0; i < s->parallel; i++) {
        int axis = s->order[i];
        if (axis != s->tile_axis && axis != s->nest->lane && axis != s->vector_axis && !b->coef[axis] &&
            a->coef[axis] == stride * a->coef[height])
            return axis;
    }
    return -1;
}

/* What all tiles of a row of blocks take: a pass as long as its products, but not shorter than
 * one takes until it can be added to. */
static int row_cost(const Schedule *s, int blocks, int extent, int vectors)
{
    int most = tile_most(s->target, vectors), tiles = (extent + most - 1) / most, cost = 0;
    for (int left = blocks; left > 0; left -= vectors)
        for (int i = 0; i < tiles; i++) {
            int products = (extent * (i + 1) / tiles - extent * i / tiles) * at_most(left, vectors);
            cost += products > PIPELINE ? products : PIPELINE;
        }
    return cost;
}

static int choose_vectors(const Schedule *s, int blocks, int extent)
{
    if (extent == 1)
        return at_most(blocks, VECTORS_MOST);
    if (!leaf_shares(&s->leaf))
        return 1;
    int best = at_most(blocks, 2);
    for (int v = 3; v <= at_most(blocks, vectors_most(s->target)); v++)
        if (row_cost(s, blocks, extent, v) < row_cost(s, blocks, extent, best))
            best = v;
    return best;
}

/* As few tiles as possible, equal ones; the candidates: one vector, or one or two tiles more. */
static void choose_tile(Schedule *s)
{
    int blocks = s->nest->axis[s->vector_axis].extent;
    int extent = s->tile_axis < 0 ? 1 : s->nest->axis[s->tile_axis].extent;
    s->vectors = choose_vectors(s, blocks, extent);
    if (s->candidate >= CANDIDATES / 2)
        s->vectors = at_most(s->vectors, extent == 1 ? 2 : 1);
    s->row_axis = window_rows(s);
    s->rows = s->row_axis < 0 ? 1 : at_most(s->nest->axis[s->row_axis].extent, LEAF_WINDOW_ROWS);
    int most = s->row_axis < 0 ? tile_most(s->target, s->vectors) : LEAF_WINDOW_TILE;
    int tiles = (extent + most - 1) / most + s->candidate % (CANDIDATES / 2);
    s->tile = (extent + tiles - 1) / tiles;
    bool wide = leaf_shares(&s->leaf) || extent == 1;
    if (s->wanted && (wide || s->wanted->vectors == 1)) {
        s->vectors = at_most(blocks, s->wanted->vectors);
        s->tile = at_most(at_most(extent, s->wanted->tile), most);
    }
}

/* Whether the reduction runs over blocks of lanes, outermost, and the last is not full. */
static bool ragged_blocks(const Schedule *s)
{
    if (s->axes < s->parallel + 2)
        return false;
    int first = s->order[s->parallel], inner = s->order[s->axes - 1];
    const Axis *lanes = &s->nest->axis[inner];
    return lanes->lanes && lanes->whole % lanes->lanes && lanes->outer == first &&
           !clipped(s, first) && !clipped(s, inner);
}

/* Whether where an axis ends depends on another loop of the reduction: calls of leaves cannot say. */
static bool clipped_within(const Schedule *s, int axis)
{
    bool within = false;
    for (int i = 0; i < s->clips; i++)
        for (int k = s->parallel; k < s->axes && s->clip[i].axis == axis; k++)
            within |= s->order[k] != axis && s->clip[i].index.coef[s->order[k]];
    return within;
}

/* Reduction loops fill the leaf's from the inside, but a clipped one cannot be the
 * innermost or the outermost. */
static bool place_loops(Schedule *s)
{
    int loops = s->axes - s->parallel, at = LEAF_LOOPS - loops;
    if (loops > LEAF_LOOPS)
        return false;
    if (loops && loops < LEAF_LOOPS && clipped(s, s->order[s->axes - 1]))
        at--;
    for (int i = 0; i < LEAF_LOOPS; i++) {
        s->leaf.count[i] = 1;
        s->loop_axis[i] = -1;
    }
    bool ragged = ragged_blocks(s);              /* their last one is the outermost loop's last pass */
    for (int i = 0; i < loops; i++) {
        int axis = s->order[s->parallel + i], slot = ragged && i == 0 ? 0 : at + i;
        bool clip = clipped(s, axis);
        if (slot < 0 || (clip && ((slot != 1 && slot != 2) || clipped_within(s, axis))))
            return false;
        s->leaf.count[slot] = clip ? 0 : s->nest->axis[axis].extent;
        s->loop_axis[slot] = axis;
    }
    s->leaf.last = s->leaf.count[LEAF_LOOPS - 1];
    if (ragged) {
        const Axis *lanes = &s->nest->axis[s->order[s->axes - 1]];
        s->leaf.last = lanes->whole % lanes->lanes;
    }
    return true;
}

static void set_steps(const Schedule *s, Operand *o)
{
    if (!o->node)
        return;
    o->t = s->tile_axis < 0 ? 0 : o->address.coef[s->tile_axis];
    int vectors = s->row_axis < 0 ? s->vector_axis : s->row_axis;
    o->k = vectors < 0 ? 0 : o->address.coef[vectors];
    for (int i = 0; i < LEAF_LOOPS; i++)
        o->step[i] = s->loop_axis[i] < 0 ? 0 : o->address.coef[s->loop_axis[i]];
}

/* A parallel axis within blocks, of which the last is not full, needs no bounds where that block
 * is computed apart.  False: there are two of them. */
static bool take_ragged(Schedule *s)
{
    for (int i = 0; i < s->clips; i++) {
        int axis = s->clip[i].axis;
        const Axis *a = &s->nest->axis[axis];
        if (a->reduce || !a->lanes || axis == s->nest->lane)
            continue;
        if (s->ragged_axis >= 0)
            return false;
        s->ragged_axis = axis;
        s->ragged = a->whole % a->lanes;
        s->clip[i--] = s->clip[--s->clips];
    }
    return true;
}

/* Of an axis within blocks: how much of this one exists. */
static int places(const Schedule *s, int axis)
{
    bool last = axis == s->ragged_axis && s->in_last;
    return last ? s->ragged : s->nest->axis[axis].extent;
}

bool tile_fits(Schedule *s)
{
    Leaf *leaf = &s->leaf;
    if (!take_ragged(s))
        return false;
    for (int i = 0; i < s->clips; i++)           /* lanes cross a border all together */
        if (!s->nest->axis[s->clip[i].axis].reduce || s->clip[i].index.coef[s->nest->lane])
            return false;
    if (!parse_term(s) || !tile_value(s, s->nest->store.value))
        return false;
    if (s->nest->axis[s->nest->lane].reduce) {
        if (!choose_across(s))
            return false;
    } else {
        choose_axes(s);
        choose_tile(s);
    }
    choose_peel(s);
    leaf->y = (Operand){.node = s->nest->store.node, .address = s->nest->store.address, .vector = true,
                        .spread = s->nest->store.address.coef[s->nest->lane]};
    return place_loops(s);
}

/* -- looking ahead -- */

/* The calls that share a block of weights draw in the next one, each its slice: the
 * slice follows the outermost axis that they differ in. */
static void look_ahead(Schedule *s, Leaf *leaf)
{
    int at = 0, blocks = s->nest->axis[s->vector_axis].extent, line = s->target->line;
    int lines = line ? leaf->vectors * leaf->a.k / line : 0;
    while (at < s->parallel && s->order[at] != s->vector_axis)
        at++;
    int axis = at + 1 < s->parallel ? s->order[at + 1] : s->nest->lane;
    bool weights = leaf_shares(leaf) && leaf->a.node->storage->place == PLACE_PARAM;
    if (!weights || axis == s->nest->lane ||
        blocks <= leaf->vectors || lines < LINES_WORTH)
        return;
    int step = axis == s->tile_axis ? leaf->tile : 1, calls = (s->nest->axis[axis].extent + step - 1) / step;
    int slice = (lines + calls - 1) / calls, passes = 1;
    while (slice * line % step)
        slice++;
    for (int i = 0; i < LEAF_LOOPS - 1; i++)
        passes *= s->loop_axis[i] < 0 ? 1 : s->nest->axis[s->loop_axis[i]].extent;
    leaf->ahead_lines = (slice + passes - 1) / passes;
    leaf->ahead = s->leaf.a;
    for (int i = 0; i < s->nest->axes; i++)
        if (s->nest->axis[i].reduce || i == s->nest->lane)
            leaf->ahead.address.coef[i] = 0;
    leaf->ahead.address.coef[axis] += slice * line / step;
    leaf->ahead.address.constant += leaf->vectors * leaf->a.k;
    leaf->ahead.address = placed(s, leaf->ahead.address);
}

/* Where blocks of numbers are all that is reduced, a tile reads each once, one here, one
 * there: no processor guesses the next tile's. */
static bool draws_next(const Schedule *s, const Leaf *leaf)
{
    int line = s->target->line;
    if (!leaf_shares(leaf) || leaf->tile < 2 || !line || leaf->b.t < line / 2 || s->axes != s->parallel + 2 ||
        s->nest->axis[s->tile_axis].extent <= 2 * leaf->tile)
        return false;
    const Axis *lanes = &s->nest->axis[s->order[s->axes - 1]];
    return lanes->lanes && lanes->outer == s->order[s->parallel];
}

/* -- building -- */

static void append_leaf(Schedule *s, Loop ***tail, int tile, int vectors, bool last)
{
    Loop *l = append(s, tail, LOOP_LEAF);
    Leaf *leaf = l->leaf = NEW(s->c, Leaf);
    place_loops(s);                              /* inside the peeled ends less is clipped */
    *leaf = s->leaf;
    leaf->tile = tile;
    leaf->vectors = vectors;
    leaf->lanes = s->target->lanes;
    leaf->rolled = leaf_rolled(s->target, tile, vectors);
    leaf->valid = last ? s->nest->valid : s->target->lanes;
    leaf->accumulate = s->nest->store.accumulate;
    if (s->row_axis >= 0) {
        leaf->window = LEAF_WINDOW;
        leaf->stride = leaf->a.address.coef[s->tile_axis];
    }
    Operand *operands[] = {&leaf->a, &leaf->b, &leaf->bias, &leaf->add, &leaf->y};
    for (int i = 0; i < LEAF_LOOPS; i++) {
        int axis = s->loop_axis[i];
        if (axis < 0)
            continue;
        if (!leaf->count[i]) {
            Loop **none = &l->clip[i];
            int more = leaf->window ? (vectors - 1) * leaf->stride / leaf->lanes : 0;
            append_for(s, &none, axis, 0, s->nest->axis[axis].extent + more, 1);
        }
        /* A clipped loop starts where its bound says. */
        s->fixed[axis] = leaf->count[i] || leaf->window;
    }
    s->fixed[s->nest->lane] = true;
    for (int i = 0; i < 5; i++) {
        set_steps(s, operands[i]);
        operands[i]->address = placed(s, operands[i]->address);
    }
    for (int i = 0; i < LEAF_LOOPS; i++)
        if (s->loop_axis[i] >= 0)
            s->fixed[s->loop_axis[i]] = false;
    look_ahead(s, leaf);
    leaf->next_tile = draws_next(s, leaf);
}

static void build_axes(Schedule *s, Loop ***tail, int depth, int tile, int vectors, bool last);

/* The axis from begin to end in steps, which must divide it. */
static void build_steps(Schedule *s, Loop ***tail, int depth, int begin, int end, int step, int tile,
                        int vectors, bool last)
{
    if (begin == end)
        return;
    Loop **body = open_loop(s, tail, s->order[depth], begin, end, step);
    build_axes(s, &body, depth + 1, tile, vectors, last);
    close_loop(s, s->order[depth]);
}

/* Blocks of lanes: whole groups, then what is left; the last vector alone if it is short. */
static void build_vectors(Schedule *s, Loop ***tail, int depth, int tile)
{
    int blocks = s->nest->axis[s->order[depth]].extent, v = s->vectors;
    bool ragged = s->nest->valid < s->target->lanes;
    int whole = (ragged ? blocks - 1 : blocks) / v * v;
    build_steps(s, tail, depth, 0, whole, v, tile, v, false);
    for (int at = whole; at < blocks; at += v) {
        int left = at_most(blocks - at, v);
        build_steps(s, tail, depth, at, at + left, left, tile, left, at + left == blocks);
    }
}

/* `big` tiles first, then tiles one smaller: together they are the whole. */
static void build_tiles(Schedule *s, Loop ***tail, int depth, int begin, int end, int tile, int vectors,
                        bool last)
{
    int extent = end - begin;
    if (extent <= 0)
        return;
    int tiles = (extent + tile - 1) / tile, big = (extent + tiles - 1) / tiles;
    int bigs = extent - tiles * (big - 1), middle = begin + bigs * big;
    if (FAULT(s->c, FAULT_TAIL_LOST) && middle < end)
        end = middle;
    build_steps(s, tail, depth, begin, middle, big, big, vectors, last);
    build_steps(s, tail, depth, middle, end, big - 1, big - 1, vectors, last);
}

static void build_axes(Schedule *s, Loop ***tail, int depth, int tile, int vectors, bool last)
{
    if (depth == s->parallel) {
        append_leaf(s, tail, tile, vectors, last);
        return;
    }
    int axis = s->order[depth], extent = places(s, axis);
    if (s->ragged_axis >= 0 && axis == s->nest->axis[s->ragged_axis].outer) {
        build_steps(s, tail, depth, 0, extent - 1, 1, tile, vectors, last);
        s->in_last = true;
        build_steps(s, tail, depth, extent - 1, extent, 1, tile, vectors, last);
        s->in_last = false;
    } else if (axis == s->nest->lane) {
        build_axes(s, tail, depth + 1, tile, vectors, last);
    } else if (axis == s->vector_axis) {
        build_vectors(s, tail, depth, tile);
    } else if (axis == s->tile_axis) {
        build_tiles(s, tail, depth, 0, s->peel_begin, 1, vectors, last);
        s->inside = true;
        build_tiles(s, tail, depth, s->peel_begin, at_most(s->peel_end, extent), s->tile, vectors, last);
        s->inside = false;
        build_tiles(s, tail, depth, s->peel_end, extent, 1, vectors, last);
    } else {
        int rows = axis == s->row_axis ? s->rows : 1, whole = extent / rows * rows;
        build_steps(s, tail, depth, 0, whole, rows, tile, axis == s->row_axis ? rows : vectors, last);
        build_steps(s, tail, depth, whole, extent, 1, tile, vectors, last);
    }
}

void tile_build(Schedule *s, Loop ***tail)
{
    /* Without a loop over vectors none finds the last. */
    bool only = s->vector_axis < 0 || s->nest->axis[s->vector_axis].extent == 1;
    build_axes(s, tail, 0, 1, 1, only);
}

const char *tile_describe(const Schedule *s)
{
    const Axis *axis = s->nest->axis;
    Text t = {.c = s->c};
    text_add(&t, "lanes %s %d", axis[axis[s->nest->lane].outer].name, s->target->lanes);
    if (s->vectors > 1)
        text_add(&t, "; vectors %s %d", axis[s->vector_axis].name, s->vectors);
    if (s->rows > 1)
        text_add(&t, "; rows %s %d", axis[s->row_axis].name, s->rows);
    if (s->tile > 1)
        text_add(&t, "; tile %s %d", axis[s->tile_axis].name, s->tile);
    for (int i = s->parallel; i < s->axes; i++)
        if (clipped(s, s->order[i]))
            text_add(&t, "; clip %s", axis[s->order[i]].name);
    return t.data;
}
