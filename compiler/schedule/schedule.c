/* Nests -> loop trees.  What is legal is decided here, and here alone.
 *
 * A schedule has four knobs: which neighbouring axes are one loop (collapse), how
 * many elements of the innermost parallel axis are computed together (tile), which
 * reduction taps are written out (unroll), and where a border splits the innermost
 * parallel axis so that its middle needs no clipping (peel). */
#include "schedule.h"

#include <string.h>

enum { LEAST_JOINED = 1 << 8 };        /* vector or scalar operations that a team at hand divides */

/* -- choosing -- */

/* The rest of a reduction axis whose parts have a loop of their own. */
static bool is_part(const Nest *nest, int a)
{
    return nest->axis[a].lanes && nest->axis[nest->axis[a].outer].hoisted;
}

/* Axes of a matrix are loops within a statement, bands around all of the nest. */
static void order_axis(Schedule *s, int a)
{
    const Axis *axis = &s->nest->axis[a];
    if (!nest_matrix_axis(s->nest, a) && !axis->band && (axis->extent > 1 || clipped(s, a)))
        s->order[s->axes++] = a;
}

/* Parallel axes, with the loop over parts of a reduction behind the blocks of lanes, or around all
 * where lanes are summed; then those of the reduction, the part first. */
static void choose_order(Schedule *s)
{
    const Nest *nest = s->nest;
    int blocks = nest->lane < 0 ? -1 : nest->axis[nest->lane].outer;
    bool across = nest->lane >= 0 && nest->axis[nest->lane].reduce;
    if (across && nest->axis[blocks].hoisted)
        order_axis(s, blocks);
    for (int a = 0; a < nest->axes; a++) {
        if (!nest->axis[a].reduce)
            order_axis(s, a);
        for (int i = 0; i < nest->axes && !across && a == blocks; i++)
            if (nest->axis[i].hoisted)
                order_axis(s, i);
    }
    s->parallel = s->axes;
    for (int rest = 0; rest < 2; rest++)
        for (int a = 0; a < nest->axes; a++)
            if (nest->axis[a].reduce && a != nest->lane && !nest->axis[a].hoisted &&
                is_part(nest, a) == !rest)
                order_axis(s, a);
    for (int a = 0; a < MAX_AXES; a++)
        s->fixed[a] = a != nest_band_axis(s->nest);      /* at zero: one element, or merged into another */
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
        if (taps * extent > s->taps || s->small) {
            if (taps == 1 && !s->small) {
                int most = s->taps < UNROLL_PART ? s->taps : UNROLL_PART;
                s->part_axis = s->order[i];
                s->part = taps = good_part(extent, (most + 1) / 2, most);
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
    if (s->tile_axis < 0 || !s->nest->reduces || s->nest->reduce != REDUCE_SUM || s->small)
        return;
    const Storage *to = s->nest->store.node->storage;
    if (to->lanes > 1)                           /* a compiler's vectors, or strips, lie along it */
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

Expr *placed_expr(const Schedule *s, const Expr *e, int acc)
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

/* To (1) or back from (-1) the place of accumulator acc in a tile. */
static void move_in_tile(Schedule *s, int tile, int acc, int sign)
{
    if (s->tile_axis >= 0)
        s->offset[s->tile_axis] += sign * (acc % tile);
    if (s->cross_axis >= 0)
        s->offset[s->cross_axis] += sign * (acc / tile);
}

static int accumulators(const Schedule *s, int tile)
{
    return tile * (s->cross_axis < 0 ? 1 : s->cross_now);
}

/* Tap v of the partly unrolled axis, from `first` or, below 0, from its loop's value. */
static void place_tap(Schedule *s, int first, int v)
{
    if (s->part_axis < 0)
        return;
    s->fixed[s->part_axis] = first >= 0;
    s->offset[s->part_axis] = first >= 0 ? first + v : v;
}

/* All taps of order[depth..], each for all accumulators: what a tap loads is soon done with. */
static void build_taps(Schedule *s, Loop ***tail, int depth, int tile)
{
    for (int acc = 0; depth == s->axes && acc < accumulators(s, tile); acc++) {
        Loop *update = append(s, tail, LOOP_UPDATE);
        update->acc = acc;
        move_in_tile(s, tile, acc, 1);
        collect_terms(s, depth, acc, update);
        move_in_tile(s, tile, acc, -1);
    }
    if (depth == s->axes)
        return;
    int axis = s->order[depth];
    if (axis == s->part_axis) {
        build_taps(s, tail, depth + 1, tile);
        return;
    }
    s->fixed[axis] = true;
    for (int v = 0; v < s->nest->axis[axis].extent; v++) {
        s->offset[axis] = v;
        build_taps(s, tail, depth + 1, tile);
    }
    s->fixed[axis] = false;
    s->offset[axis] = 0;
}

/* `count` taps of the partly unrolled axis, starting at `first` (or at its loop's
 * value when first < 0); without such an axis, all written-out taps. */
static void build_updates(Schedule *s, Loop ***tail, int tile, int first, int count)
{
    for (int v = 0; v < count && s->by_tap; v++) {
        place_tap(s, first, v);
        build_taps(s, tail, s->rolled, tile);
    }
    for (int t = 0; t < tile && !s->by_tap; t++) {
        Loop *update = append(s, tail, LOOP_UPDATE);
        update->acc = t;
        move_in_tile(s, tile, t, 1);
        for (int v = 0; v < count; v++) {
            place_tap(s, first, v);
            collect_terms(s, s->rolled, t, update);
        }
        move_in_tile(s, tile, t, -1);
    }
    if (s->part_axis >= 0)
        s->fixed[s->part_axis] = false, s->offset[s->part_axis] = 0;
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
    if (whole == s->part) {                      /* a loop that runs once is none */
        build_updates(s, tail, tile, 0, s->part);
    } else {
        Loop **body = &append_for(s, tail, axis, 0, whole, s->part)->body;
        build_updates(s, &body, tile, -1, s->part);
    }
    if (whole < extent && !FAULT(s->c, FAULT_TAIL_LOST))
        build_updates(s, tail, tile, whole, extent - whole);
}

void append_store(Schedule *s, Loop ***tail, int acc)
{
    Loop *l = append(s, tail, LOOP_STORE);
    l->acc = acc;
    l->store = s->nest->store;
    l->store.address = placed(s, s->nest->store.address);
    l->store.value = placed_expr(s, s->nest->store.value, acc);
}

static void build_tile(Schedule *s, Loop ***tail, int tile)
{
    Nest *nest = s->nest;
    int sums = accumulators(s, tile);
    for (int acc = 0; acc < sums && nest->reduces; acc++)
        append(s, tail, LOOP_INIT)->acc = acc;
    if (nest->reduces)
        build_reduction(s, tail, s->parallel, tile);
    for (int acc = 0; acc < sums; acc++) {
        move_in_tile(s, tile, acc, 1);
        append_store(s, tail, acc);
        move_in_tile(s, tile, acc, -1);
    }
}

void build_element(Schedule *s, Loop ***tail)
{
    choose_unroll(s);
    build_tile(s, tail, 1);
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

static void build_crossed(Schedule *s, Loop ***tail, int depth, int begin, int end, int cross);

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
    } else if (s->order[depth] == s->cross_axis) {
        int extent = s->nest->axis[s->cross_axis].extent, whole = extent / s->cross * s->cross;
        build_crossed(s, tail, depth, 0, whole, s->cross);
        build_crossed(s, tail, depth, whole, extent, extent - whole);
    } else {
        int axis = s->order[depth];
        Loop **body = open_loop(s, tail, axis, 0, s->nest->axis[axis].extent, 1);
        build(s, &body, depth + 1);
        close_loop(s, axis);
    }
}

/* The second axis of a tile, from begin to end by so many at a time. */
static void build_crossed(Schedule *s, Loop ***tail, int depth, int begin, int end, int cross)
{
    if (begin == end)
        return;
    s->cross_now = cross;
    Loop **body = open_loop(s, tail, s->cross_axis, begin, end, cross);
    build(s, &body, depth + 1);
    close_loop(s, s->cross_axis);
}

/* -- the same for people -- */

static const char *describe(const Schedule *s)
{
    Text t = {.c = s->c};
    for (int i = 0; i < s->axes; i++) {
        int axis = s->order[i];
        const char *name = s->nest->axis[axis].name;
        if (axis == s->cross_axis)
            text_add(&t, "; tile %s %d", name, s->cross);
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
static Schedule prepare(Function *f, Nest *nest, const LeafShape *wanted)
{
    Schedule s = {.c = f->c, .target = f->target, .wanted = wanted, .candidate = f->candidate,
                  .small = f->small, .nest = nest, .taps = UNROLL_WHOLE,
                  .tile_axis = -1, .cross_axis = -1, .vector_axis = -1, .row_axis = -1, .ragged_axis = -1};
    bind(&s);
    choose_order(&s);
    return s;
}

/* Who runs the loops.  What pack does is done once: it has no team.  After a nest that a team
 * shares its threads are at hand, and meet anyway. */
static void finish(const Function *f, const Kernel *kernel, int at, const Schedule *s)
{
    Nest *nest = s->nest;
    bool joined = at && kernel->nest[at - 1]->shared >= 0;
    int least = f->share_least || !joined ? f->share_least : LEAST_JOINED;
    nest->shared = f->packs || nest->moves ? -1 : share_axis(s, least);
    if (nest->shared >= 0)
        nest->schedule = format(f->c, "%s; threads share %s", nest->schedule, nest->axis[nest->shared].name);
}

static void schedule_nest(Function *f, Kernel *kernel, int at, const LeafShape *wanted)
{
    Nest *nest = kernel->nest[at], unbound = *nest;
    Schedule s = prepare(f, nest, wanted);
    Loop **tail = &nest->loops;
    if (nest->lane >= 0 && !nest->matrix && tile_fits(&s)) {
        Nest blocked = unbound;
        if (block_reduction(&blocked)) {
            *nest = blocked;
            s = prepare(f, nest, wanted);
            if (!tile_fits(&s))
                fail(f->c, STATUS_FAULT, "schedule: a reduction in parts has no leaf");
        }
        tile_build(&s, &tail);
        nest->tile = s.tile;
        nest->vectors = s.vectors;
        nest->schedule = tile_describe(&s);
        finish(f, kernel, at, &s);
        return;
    }
    if (nest->lane >= 0 && !nest->matrix) {
        *nest = unbound;
        if (split_epilogue(f, kernel, at)) {
            schedule_nest(f, kernel, at, wanted);
            return;
        }
    }
    if (nest->lane >= 0 && !(nest->matrix && transform_fits(&s))) {      /* one element at a time after all */
        *nest = unbound;
        nest->lane = -1;
        s = prepare(f, nest, wanted);
    }
    if (nest->matrix) {
        transform_build(&s, &tail);
        nest->schedule = transform_describe(&s);
        finish(f, kernel, at, &s);
        return;
    }
    if (f->target->lanes > 1 && !f->packs && sums_fit(&s)) {
        sums_build(&s, &tail);
        nest->schedule = format(f->c, "sums of rows of %s", nest->axis[s.order[s.parallel - 1]].name);
    } else {
        choose_tile(&s, choose_unroll(&s));
        choose_peel(&s);
        if (registers_fit(&s))
            registers_choose(&s);
        build(&s, &tail, 0);
        s.inside = s.tile_axis >= 0;
        choose_unroll(&s);
        nest->schedule = describe(&s);
    }
    finish(f, kernel, at, &s);
    if (!f->packs && nest_band_axis(nest) < 0)
        nest->strips = strips_build(&s);
}

static const LeafShape *find_shape(const Function *f, const Kernel *k)
{
    for (int i = 0; f->shapes && i < f->shapes->count; i++)
        if (!strcmp(f->shapes->shape[i].kernel, k->name))
            return &f->shapes->shape[i];
    return NULL;
}

/* LeafShapes of another network would be lost without a word. */
static void check_shapes(const Function *f)
{
    for (int i = 0; f->shapes && i < f->shapes->count; i++) {
        bool known = false;
        for (int k = 0; k < f->kernels; k++)
            known |= !strcmp(f->shapes->shape[i].kernel, f->kernel[k]->name);
        if (!known)
            fail(f->c, STATUS_INPUT, "%s: kernel \"%s\": %s has none of that name", f->shapes->file,
                 f->shapes->shape[i].kernel, f->graph->name);
    }
}

void schedule(Function *f)
{
    check_shapes(f);
    for (int k = 0; k < f->kernels; k++)
        for (int i = 0; i < f->kernel[k]->nests; i++)
            schedule_nest(f, f->kernel[k], i, find_shape(f, f->kernel[k]));
}
