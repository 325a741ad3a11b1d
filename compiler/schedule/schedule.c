/* Nests -> loop trees.  What is legal is decided here, and here alone.
 *
 * A schedule has four knobs: which neighbouring axes are one loop (collapse), how
 * many elements of the innermost parallel axis are computed together (tile), which
 * reduction taps are written out (unroll), and where a border splits the innermost
 * parallel axis so that its middle needs no clipping (peel). */
#include "schedule.h"

#include <string.h>

/* -- binding: logical indices to addresses, borders to clips -- */

static void add_clip(Schedule *s, const Affine *index, int extent)
{
    for (int i = 0; i < s->clips; i++)
        if (memcmp(&s->clip[i].index, index, sizeof *index) == 0 && s->clip[i].extent == extent)
            return;
    if (s->clips == MAX_CLIPS)
        fail(s->c, STATUS_FAULT, "schedule: more than %d borders", MAX_CLIPS);
    s->clip[s->clips++] = (Clip){*index, extent, -1};
}

static void bind_load(Expr *load, void *user)
{
    Schedule *s = user;
    const Node *n = load->load.node;
    load->affine = layout_address(s->c, s->nest, n, load->load.index);
    for (int d = 0; d < n->shape.rank && load->load.border; d++) {
        int low, high, extent = n->shape.dim[d];
        affine_range(&load->load.index[d], s->nest, &low, &high);
        int outside = -low > high - (extent - 1) ? -low : high - (extent - 1);
        bool in_gap = d == n->shape.rank - 1 && s->nest->reduce == REDUCE_SUM &&
                      outside <= n->storage->gap;
        if (outside > 0 && !in_gap)
            add_clip(s, &load->load.index[d], extent);
    }
}

/* Between the peeled ends the tile axis crosses no border. */
static bool in_force(const Schedule *s, const Clip *clip)
{
    return !(s->inside && clip->index.coef[s->tile_axis]);
}

bool clipped(const Schedule *s, int axis)
{
    for (int i = 0; i < s->clips; i++)
        if (s->clip[i].axis == axis && in_force(s, &s->clip[i]))
            return true;
    return false;
}

/* -- the last block of lanes: whether it may be computed beyond the last channel -- */

typedef struct Overshoot { const Nest *nest; int lane; bool plain; } Overshoot;

static void check_overshoot(Overshoot *o, const Node *n, const Affine *index)
{
    for (int d = 0; d < n->shape.rank; d++) {
        bool padded = false;
        for (int i = 0; i < n->storage->layout.pieces; i++)
            padded |= n->storage->layout.piece[i].dim == d && n->storage->layout.piece[i].div > 1;
        o->plain |= index[d].coef[o->lane] && !padded;
    }
}

static void check_overshoot_load(Expr *load, void *user)
{
    check_overshoot(user, load->load.node, load->load.index);
}

/* The value where every element is zero, as in padding lanes. */
static double value_at_zero(const Expr *e)
{
    double a[3] = {0};
    if (e->kind == X_FLOAT || e->kind == X_INT)
        return e->number;
    if (e->kind != X_CALL)
        return e->kind == X_AFFINE;              /* unknown */
    for (int i = 0; i < 3 && e->arg[i]; i++)
        a[i] = value_at_zero(e->arg[i]);
    switch (e->fn) {
    case FN_ADD: return a[0] + a[1];
    case FN_SUB: return a[0] - a[1];
    case FN_MUL: return a[0] * a[1];
    case FN_MIN: return a[0] < a[1] ? a[0] : a[1];
    case FN_MAX: return a[0] > a[1] ? a[0] : a[1];
    case FN_NEG: return -a[0];
    case FN_TANH: case FN_SQRT: return a[0];
    case FN_LT: return a[0] < a[1];
    case FN_LE: return a[0] <= a[1];
    case FN_EQ: return a[0] == a[1];
    case FN_SELECT: return a[0] != 0 ? a[1] : a[2];
    default: return 1;                           /* exp, log, division ...: not zero */
    }
}

/* A lane axis whose last block is not full stops at the last channel, unless all
 * memory it meets has room for the whole block and the block's rest stays zero. */
static void clip_lanes(Schedule *s)
{
    Nest *nest = s->nest;
    for (int i = 0; i < nest->axes; i++) {
        const Axis *axis = &nest->axis[i];
        if (!axis->lanes || axis->whole % axis->lanes == 0 || i == nest->lane)
            continue;
        Overshoot o = {nest, i, false};
        nest_loads(nest, check_overshoot_load, &o);
        check_overshoot(&o, nest->store.node, nest->store.index);
        bool neutral = axis->reduce ? nest->reduce == REDUCE_SUM && value_at_zero(nest->term) == 0
                                    : value_at_zero(nest->store.value) == 0;
        if (!o.plain && neutral)
            continue;
        Affine index = {0};
        index.coef[axis->outer] = axis->lanes;
        index.coef[i] = 1;
        add_clip(s, &index, axis->whole);
        s->clip[s->clips - 1].axis = i;
        nest->store.node->storage->clear |= !axis->reduce && layout_packed(&nest->store.node->storage->layout);
    }
}

/* -- collapse -- */

typedef struct Merge { int outer, inner, extent; bool legal; } Merge;

static void check_affine(Merge *m, const Affine *a)
{
    m->legal &= a->coef[m->outer] == a->coef[m->inner] * m->extent;
}

static void check_expr(Merge *m, const Expr *e)
{
    if (!e)
        return;
    if (e->kind == X_LOAD || e->kind == X_AFFINE)
        check_affine(m, &e->affine);
    for (int i = 0; i < 3 && e->kind == X_CALL; i++)
        check_expr(m, e->arg[i]);
}

/* The lanes of a leaf and the blocks along them. */
static bool has_vectors(const Nest *nest, int axis)
{
    return nest->lane >= 0 && (axis == nest->lane || axis == nest->axis[nest->lane].outer);
}

/* Outer and inner are one loop where every address advances as if they were. */
static void collapse(Schedule *s)
{
    Nest *nest = s->nest;
    for (int i = nest->axes - 2; i >= 0; i--) {
        int inner = i + 1;
        while (inner < nest->axes && nest->axis[inner].extent == 1)
            inner++;                             /* an axis of one element is no loop */
        if (inner == nest->axes || nest->axis[i].extent == 1 || has_vectors(nest, i) || has_vectors(nest, inner) ||
            nest->axis[i].reduce != nest->axis[inner].reduce)
            continue;
        Merge m = {i, inner, nest->axis[inner].extent, true};
        check_affine(&m, &nest->store.address);
        check_expr(&m, nest->reduces ? nest->term : NULL);
        check_expr(&m, nest->reduces ? nest->tag : NULL);
        check_expr(&m, nest->store.value);
        for (int k = 0; k < s->clips; k++)
            m.legal &= !s->clip[k].index.coef[i] && !s->clip[k].index.coef[inner];
        if (m.legal) {
            nest->axis[inner].extent *= nest->axis[i].extent;
            nest->axis[inner].name = "i";
            nest->axis[inner].lanes = 0;
            nest->axis[i].extent = 1;
        }
    }
}

/* -- choosing -- */

/* A border is kept by the innermost reduction axis that moves across it. */
static void assign_clips(Schedule *s)
{
    for (int i = 0; i < s->clips; i++) {
        for (int a = 0; a < s->nest->axes; a++)
            if (s->nest->axis[a].reduce && s->clip[i].index.coef[a])
                s->clip[i].axis = a;
        if (s->clip[i].axis < 0)
            fail(s->c, STATUS_FAULT, "schedule: a border without a reduction axis");
    }
    if (FAULT(s->c, FAULT_NO_CLIP))
        s->clips = 0;
}

static void choose_order(Schedule *s)
{
    for (int reduce = 0; reduce < 2; reduce++) {
        for (int a = 0; a < s->nest->axes; a++)
            if (s->nest->axis[a].reduce == reduce && (s->nest->axis[a].extent > 1 || clipped(s, a)))
                s->order[s->axes++] = a;
        if (!reduce)
            s->parallel = s->axes;
    }
    for (int a = 0; a < MAX_AXES; a++)
        s->fixed[a] = true;                      /* at zero: one element, or merged into another */
    for (int i = 0; i < s->axes; i++)
        s->fixed[s->order[i]] = false;
}

/* The largest divisor of extent in [low, high], or high. */
static int good_part(int extent, int low, int high)
{
    for (int part = high; part >= low; part--)
        if (extent % part == 0)
            return part;
    return high;
}

/* Which reduction axes are written out; returns how many taps that makes. */
static int choose_unroll(Schedule *s)
{
    int taps = 1;
    s->rolled = s->axes;
    s->part_axis = -1;
    for (int i = s->axes - 1; i >= s->parallel && !clipped(s, s->order[i]); i--) {
        int extent = s->nest->axis[s->order[i]].extent;
        if (taps * extent > UNROLL_WHOLE) {
            if (taps == 1) {
                s->part_axis = s->order[i];
                s->part = taps = good_part(extent, UNROLL_PART / 2, UNROLL_PART);
            }
            break;
        }
        taps *= extent;
        s->rolled = i;
    }
    return taps;
}

/* Equal tiles where they exist, else as equal as the extent allows. */
static void choose_tile(Schedule *s, int taps)
{
    s->tile = 1;
    s->tile_axis = s->parallel ? s->order[s->parallel - 1] : -1;
    if (s->tile_axis < 0 || !s->nest->reduces || s->nest->reduce != REDUCE_SUM)
        return;
    int extent = s->nest->axis[s->tile_axis].extent;
    int most = CODE_BUDGET / taps < TILE ? CODE_BUDGET / taps : TILE;
    if (most > extent)
        most = extent;
    if (most < 2)
        return;
    s->tile = good_part(extent, (most + 1) / 2, most);
    if (extent % s->tile) {
        int tiles = (extent + most - 1) / most;
        s->tile = (extent + tiles - 1) / tiles;
    }
}

static int floor_div(int a, int b)
{
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

/* Where on the tile axis no border is crossed, whatever the other axes do. */
void choose_peel(Schedule *s)
{
    if (s->tile_axis < 0)
        return;
    s->peel_begin = 0;
    s->peel_end = s->nest->axis[s->tile_axis].extent;
    for (int i = 0; i < s->clips; i++) {
        Affine rest = s->clip[i].index;
        int coef = rest.coef[s->tile_axis], low, high;
        if (!coef)
            continue;
        rest.coef[s->tile_axis] = 0;
        affine_range(&rest, s->nest, &low, &high);
        if (coef < 0)
            fail(s->c, STATUS_FAULT, "schedule: a border is crossed backwards");
        int begin = -floor_div(low, coef), end = floor_div(s->clip[i].extent - 1 - high, coef) + 1;
        s->peel_begin = begin > s->peel_begin ? begin : s->peel_begin;
        s->peel_end = end < s->peel_end ? end : s->peel_end;
    }
    if (s->peel_end < s->peel_begin)
        s->peel_begin = s->peel_end = s->nest->axis[s->tile_axis].extent;    /* all of it is border */
}

/* -- building -- */

Affine placed(const Schedule *s, Affine a)
{
    for (int i = 0; i < MAX_AXES; i++) {
        a.constant += a.coef[i] * s->offset[i];
        if (s->fixed[i])
            a.coef[i] = 0;
    }
    return a;
}

static Expr *placed_expr(const Schedule *s, const Expr *e, int acc)
{
    if (!e)
        return NULL;
    Expr *copy = NEW(s->c, Expr);
    *copy = *e;
    if (e->kind == X_LOAD || e->kind == X_AFFINE)
        copy->affine = placed(s, e->affine);
    if (e->kind == X_ACC)
        copy->acc = acc;
    for (int i = 0; i < 3 && e->kind == X_CALL; i++)
        copy->arg[i] = placed_expr(s, e->arg[i], acc);
    return copy;
}

Loop *append(Schedule *s, Loop ***tail, LoopKind kind)
{
    Loop *l = NEW(s->c, Loop);
    l->kind = kind;
    **tail = l;
    *tail = &l->next;
    return l;
}

/* A bound that never binds is dropped, one that is constant becomes begin or end. */
static void add_bound(Schedule *s, Loop *loop, bool low, Bound b)
{
    int least, most;
    affine_range(&b.value, s->nest, &least, &most);
    least /= b.divisor, most /= b.divisor;
    if (low ? most <= loop->begin : least >= loop->end)
        return;
    if (least == most)
        *(low ? &loop->begin : &loop->end) = least;
    else if (low)
        PUSH(s->c, loop->low, loop->lows) = b;
    else
        PUSH(s->c, loop->high, loop->highs) = b;
}

/* index = rest + coef * axis must lie in [0, extent):
 *   coef > 0: axis from ceil(-rest / coef) to floor((extent - 1 - rest) / coef) + 1
 *   coef < 0: axis from ceil((rest - extent + 1) / -coef) to floor(rest / -coef) + 1
 * ceil(x / d) = (x + d - 1) / d and floor(x / d) + 1 = (x + d) / d hold in C for
 * results above zero; below, C rounds to at most 0, where the loop begins anyhow,
 * and ends before it begins. */
static void set_bounds(Schedule *s, Loop *loop, const Clip *clip)
{
    Affine rest = clip->index;
    int coef = rest.coef[loop->axis];
    rest.coef[loop->axis] = 0;
    rest = placed(s, rest);
    Affine low = affine_times(rest, -1), high = affine_sum(low, affine_constant(clip->extent - 1));
    if (coef < 0) {
        coef = -coef;
        low = affine_sum(rest, affine_constant(1 - clip->extent));
        high = rest;
    }
    add_bound(s, loop, true, (Bound){affine_sum(low, affine_constant(coef - 1)), coef});
    add_bound(s, loop, false, (Bound){affine_sum(high, affine_constant(coef)), coef});
}

Loop *append_for(Schedule *s, Loop ***tail, int axis, int begin, int end, int step)
{
    Loop *l = append(s, tail, LOOP_FOR);
    l->axis = axis;
    l->begin = begin;
    l->end = end;
    l->step = step;
    for (int i = 0; i < s->clips; i++)
        if (s->clip[i].axis == axis && in_force(s, &s->clip[i]))
            set_bounds(s, l, &s->clip[i]);
    return l;
}

Loop **open_loop(Schedule *s, Loop ***tail, int axis, int begin, int end, int step)
{
    Loop *l = append_for(s, tail, axis, begin, end, step);
    s->fixed[axis] = l->end - l->begin == step && !l->lows && !l->highs;
    s->offset[axis] = s->fixed[axis] ? l->begin : 0;
    return &l->body;
}

void close_loop(Schedule *s, int axis)
{
    s->fixed[axis] = false;
    s->offset[axis] = 0;
}

/* All taps of order[depth..] into the update's list of terms. */
static void collect_terms(Schedule *s, int depth, int acc, Loop *update)
{
    if (depth == s->axes) {
        PUSH(s->c, update->term, update->terms) = placed_expr(s, s->nest->term, acc);
        if (s->nest->tag) {
            int tags = update->terms - 1;
            PUSH(s->c, update->tag, tags) = placed_expr(s, s->nest->tag, acc);
        }
        return;
    }
    int axis = s->order[depth];
    s->fixed[axis] = true;
    for (int v = 0; v < s->nest->axis[axis].extent; v++) {
        s->offset[axis] = v;
        collect_terms(s, depth + 1, acc, update);
    }
    s->fixed[axis] = false;
    s->offset[axis] = 0;
}

/* `count` taps of the partly unrolled axis, starting at `first` (or at its loop's
 * value when first < 0); without such an axis, all written-out taps. */
static void build_updates(Schedule *s, Loop ***tail, int tile, int first, int count)
{
    for (int t = 0; t < tile; t++) {
        Loop *update = append(s, tail, LOOP_UPDATE);
        update->acc = t;
        if (s->tile_axis >= 0)
            s->offset[s->tile_axis] += t;
        for (int v = 0; v < count; v++) {
            if (s->part_axis >= 0) {
                s->fixed[s->part_axis] = first >= 0;
                s->offset[s->part_axis] = first >= 0 ? first + v : v;
            }
            collect_terms(s, s->rolled, t, update);
        }
        if (s->part_axis >= 0)
            s->fixed[s->part_axis] = false, s->offset[s->part_axis] = 0;
        if (s->tile_axis >= 0)
            s->offset[s->tile_axis] -= t;
    }
}

static void build_reduction(Schedule *s, Loop ***tail, int depth, int tile)
{
    if (depth == s->rolled) {
        build_updates(s, tail, tile, -1, 1);
        return;
    }
    int axis = s->order[depth], extent = s->nest->axis[axis].extent;
    if (axis != s->part_axis) {
        Loop **body = open_loop(s, tail, axis, 0, extent, 1);
        build_reduction(s, &body, depth + 1, tile);
        close_loop(s, axis);
        return;
    }
    int whole = extent / s->part * s->part;
    Loop **body = &append_for(s, tail, axis, 0, whole, s->part)->body;
    build_updates(s, &body, tile, -1, s->part);
    if (whole < extent && !FAULT(s->c, FAULT_TAIL_LOST))
        build_updates(s, tail, tile, whole, extent - whole);
}

static void build_tile(Schedule *s, Loop ***tail, int tile)
{
    Nest *nest = s->nest;
    for (int t = 0; t < tile && nest->reduces; t++)
        append(s, tail, LOOP_INIT)->acc = t;
    if (nest->reduces)
        build_reduction(s, tail, s->parallel, tile);
    for (int t = 0; t < tile; t++) {
        if (s->tile_axis >= 0)
            s->offset[s->tile_axis] += t;
        Loop *l = append(s, tail, LOOP_STORE);
        l->acc = t;
        l->store = nest->store;
        l->store.address = placed(s, nest->store.address);
        l->store.value = placed_expr(s, nest->store.value, t);
        if (s->tile_axis >= 0)
            s->offset[s->tile_axis] -= t;
    }
}

/* The tile axis from begin to end by tiles, the rest as one smaller tile. */
static void build_segment(Schedule *s, Loop ***tail, int begin, int end, int tile)
{
    while (begin < end) {
        if (tile > end - begin)
            tile = end - begin;
        int stop = begin + (end - begin) / tile * tile;
        if (begin > 0 && stop == end && stop - begin == tile && FAULT(s->c, FAULT_TAIL_LOST))
            return;
        Loop **body = open_loop(s, tail, s->tile_axis, begin, stop, tile);
        build_tile(s, &body, tile);
        close_loop(s, s->tile_axis);
        begin = stop;
    }
}

static void build(Schedule *s, Loop ***tail, int depth)
{
    if (s->parallel == 0) {
        build_tile(s, tail, 1);
    } else if (depth == s->parallel - 1) {
        choose_unroll(s);
        build_segment(s, tail, 0, s->peel_begin, 1);
        s->inside = true;
        choose_unroll(s);
        build_segment(s, tail, s->peel_begin, s->peel_end, s->tile);
        s->inside = false;
        choose_unroll(s);
        build_segment(s, tail, s->peel_end, s->nest->axis[s->tile_axis].extent, 1);
    } else {
        int axis = s->order[depth];
        Loop **body = open_loop(s, tail, axis, 0, s->nest->axis[axis].extent, 1);
        build(s, &body, depth + 1);
        close_loop(s, axis);
    }
}

/* -- the same for people -- */

static const char *describe(const Schedule *s)
{
    Text t = {.c = s->c};
    for (int i = 0; i < s->axes; i++) {
        int axis = s->order[i];
        const char *name = s->nest->axis[axis].name;
        if (axis == s->tile_axis && s->tile > 1)
            text_add(&t, "; tile %s %d", name, s->tile);
        if (axis == s->tile_axis && s->peel_end - s->peel_begin < s->nest->axis[axis].extent)
            text_add(&t, "; peel %s to %d, from %d", name, s->peel_begin, s->peel_end);
        if (clipped(s, axis))
            text_add(&t, "; clip %s", name);
        if (i >= s->rolled)
            text_add(&t, "; unroll %s", name);
        if (axis == s->part_axis)
            text_add(&t, "; unroll %s by %d", name, s->part);
    }
    return t.data ? t.data + 2 : "plain loops";
}

/* Addresses, borders, and which axes have loops. */
static Schedule prepare(Function *f, Nest *nest)
{
    Schedule s = {.c = f->c, .target = f->target, .nest = nest, .tile_axis = -1, .vector_axis = -1};
    nest->store.address = layout_address(f->c, nest, nest->store.node, nest->store.index);
    nest_loads(nest, bind_load, &s);
    assign_clips(&s);
    clip_lanes(&s);
    collapse(&s);
    choose_order(&s);
    return s;
}

static void schedule_nest(Function *f, Nest *nest)
{
    Nest unbound = *nest;
    Schedule s = prepare(f, nest);
    Loop **tail = &nest->loops;
    if (nest->lane >= 0 && tile_fits(&s)) {
        tile_build(&s, &tail);
        nest->schedule = tile_describe(&s);
        return;
    }
    if (nest->lane >= 0) {                       /* one element at a time after all */
        *nest = unbound;
        nest->lane = -1;
        s = prepare(f, nest);
    }
    choose_tile(&s, choose_unroll(&s));
    choose_peel(&s);
    build(&s, &tail, 0);
    s.inside = s.tile_axis >= 0;
    choose_unroll(&s);
    nest->schedule = describe(&s);
}

void schedule(Function *f)
{
    for (int k = 0; k < f->kernels; k++)
        for (int i = 0; i < f->kernel[k]->nests; i++)
            schedule_nest(f, f->kernel[k]->nest[i]);
}
