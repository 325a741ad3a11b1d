/* Loops for the host: where libtcc compiles, the innermost loops of a nest run in the host,
 * on strips of elements (print/print_strip.c).  A strip lies along one axis, the run, or along
 * short ones in rows; both are parallel, or both are reduced and the strip is folded.  All
 * axes but those that decide where a border clips another are loops of the host too. */
#include "schedule.h"

#include <string.h>

/* Nanoseconds, roughly: what the host needs beside the elements themselves. */
enum { PER_CALL = 60, PER_STEP = 6, PER_ROW = 2, PER_FOLD = 40, PER_APART = 1, LANES = 8 };

typedef struct Choice {
    int run, row;             /* -1: none */
    bool peeled;              /* the run crosses borders: between them it does not */
    double cost;
} Choice;

typedef struct Strips {
    Schedule *s;
    bool outside[MAX_AXES];   /* loops of the text: they decide where others are clipped */
    int steps, last_steps;    /* of a term, of the epilogue */
} Strips;

static int steps_of(const Expr *e)
{
    if (!e || e->kind != X_CALL)
        return 0;
    int steps = e->fn == FN_EXP || e->fn == FN_LOG || e->fn == FN_TANH || e->fn == FN_RANDOM ? 5 : 1;
    for (int i = 0; i < 3; i++)
        steps += steps_of(e->arg[i]);
    return steps;
}

/* Elements that do not lie side by side. */
static double stride_cost(int stride)
{
    return stride >= -1 && stride <= 1 ? 0 : PER_APART;
}

static double strided(const Expr *e, int axis)
{
    if (!e || e->kind != X_CALL)
        return e && e->kind == X_LOAD ? stride_cost(e->affine.coef[axis]) : 0;
    double sum = 0;
    for (int i = 0; i < 3; i++)
        sum += strided(e->arg[i], axis);
    return sum;
}

static double pieces(int whole, int part)
{
    return (whole + part - 1) / part;
}

/* What strips along run and row cost, where the run has `extent` elements. */
static double cost(const Strips *t, int run, int row, int extent)
{
    const Schedule *s = t->s;
    const Nest *nest = s->nest;
    bool across = nest->axis[run].reduce;
    int rows = row < 0 ? 1 : nest->axis[row].extent;
    int length = extent < STRIP ? extent : STRIP;
    int height = STRIP / length < rows ? STRIP / length : rows;
    double outputs = 1, terms = 1, calls = 1;
    for (int i = 0; i < s->axes; i++) {
        int axis = s->order[i], size = axis == run ? extent : nest->axis[axis].extent;
        *(nest->axis[axis].reduce ? &terms : &outputs) *= size;
        calls *= t->outside[axis] && axis != run ? size : 1;
    }
    double apart = strided(nest->reduces ? nest->term : nest->store.value, run);
    double last_apart = nest->reduces && !across ? strided(nest->store.value, run) : 0;
    last_apart += across ? 0 : stride_cost(nest->store.address.coef[run]);
    double strip = (double)length * height;
    double per_row = height > 1 ? height * (PER_ROW + length % LANES / 2) : 0;
    double step = PER_STEP + per_row + strip / LANES / 2;
    double strips = pieces(extent, length) * pieces(rows, height) / ((double)extent * rows);
    double work = outputs * terms * strips * ((t->steps + 1) * step + apart * strip);
    double ends = across ? outputs * (PER_FOLD + (t->last_steps + 2) * PER_STEP + strip / LANES)
                : outputs * strips * ((t->last_steps + nest->reduces) * step + last_apart * strip);
    return calls * PER_CALL + work + ends;
}

/* The same loops element by element, compiled by libtcc. */
static double scalar_cost(const Strips *t)
{
    double volume = 1;
    for (int i = 0; i < t->s->axes; i++)
        volume *= t->s->nest->axis[t->s->order[i]].extent;
    return volume * (2 + t->steps);
}

/* Whether the axis crosses borders, all of them forwards, and of loops inside it alone. */
static bool peels(const Strips *t, int axis)
{
    const Schedule *s = t->s;
    bool crosses = false;
    for (int i = 0; i < s->clips; i++) {
        int coef = s->clip[i].index.coef[axis];
        if (coef < 0 || s->clip[i].axis == axis || (coef && t->outside[s->clip[i].axis]))
            return false;
        crosses |= coef > 0;
    }
    return crosses;
}

static void consider(const Strips *t, Choice *best, int run, int extent, bool peeled)
{
    const Schedule *s = t->s;
    for (int i = s->axes; i >= 0; i--) {
        int row = i == s->axes ? -1 : s->order[i];
        if (row >= 0 && (row == run || t->outside[row] || clipped(s, row) ||
                       s->nest->axis[row].reduce != s->nest->axis[run].reduce))
            continue;
        Choice c = {run, row, peeled, cost(t, run, row, extent)};
        if (best->run < 0 || c.cost < best->cost)
            *best = c;
    }
}

/* The cheapest run and row; a run of -1: none. */
static Choice choose(const Strips *t, bool peel)
{
    Schedule *s = t->s;
    Choice best = {-1, -1, false, 0};
    for (int i = s->axes - 1; i >= 0; i--) {
        int axis = s->order[i];
        bool reduce = s->nest->axis[axis].reduce;
        if (reduce && s->nest->reduce == REDUCE_ARGMAX)
            continue;
        if (!t->outside[axis]) {
            consider(t, &best, axis, s->nest->axis[axis].extent, false);
        } else if (peel && !reduce && peels(t, axis)) {
            s->tile_axis = axis;
            choose_peel(s);
            if (s->peel_end - s->peel_begin > s->nest->axis[axis].extent / 2)
                consider(t, &best, axis, s->peel_end - s->peel_begin, true);
        }
    }
    return best;
}

/* -- building -- */

static void add_loop(Schedule *s, Strip *strip, int axis, int begin, int end)
{
    Loop *unused, **tail = &unused;
    strip->loop[strip->loops++] = append_for(s, &tail, axis, begin, end, 1);
}

static Loop *append_strip(const Strips *t, Loop ***tail, const Choice *c)
{
    Schedule *s = t->s;
    const Nest *nest = s->nest;
    Loop *l = append(s, tail, LOOP_STRIP);
    Strip *strip = l->strip = NEW(s->c, Strip);
    for (int i = 0; i < s->axes; i++) {
        int axis = s->order[i];
        strip->outer = i == s->parallel ? strip->loops : strip->outer;
        if (axis != c->run && axis != c->row && !t->outside[axis])
            add_loop(s, strip, axis, 0, nest->axis[axis].extent);
    }
    strip->outer = s->parallel == s->axes ? strip->loops : strip->outer;
    strip->across = nest->axis[c->run].reduce;
    strip->row = c->row;
    strip->run = c->run;
    if (c->row >= 0)
        add_loop(s, strip, c->row, 0, nest->axis[c->row].extent);
    add_loop(s, strip, c->run, c->peeled ? s->peel_begin : 0,
             c->peeled ? s->peel_end : nest->axis[c->run].extent);
    strip->term = nest->reduces ? placed_expr(s, nest->term, 0) : NULL;
    strip->tag = nest->reduces ? placed_expr(s, nest->tag, 0) : NULL;
    strip->store = nest->store;
    strip->store.address = placed(s, nest->store.address);
    strip->store.value = placed_expr(s, nest->store.value, 0);
    return l;
}

/* What is left of a peeled run, place by place. */
static void build_end(Strips *t, Loop ***tail, const Choice *c, const Choice *rest, int begin, int end)
{
    Schedule *s = t->s;
    if (begin >= end)
        return;
    Loop **body = open_loop(s, tail, c->run, begin, end, 1);
    if (rest->run >= 0)
        append_strip(t, &body, rest);
    else
        build_element(s, &body);
    close_loop(s, c->run);
}

/* The loops of the text from order[depth] on, then the strips. */
static void build(Strips *t, Loop ***tail, int depth, const Choice *c, const Choice *rest)
{
    Schedule *s = t->s;
    while (depth < s->parallel && (!t->outside[s->order[depth]] || s->order[depth] == c->run))
        depth++;
    if (depth < s->parallel) {
        int axis = s->order[depth];
        Loop **body = open_loop(s, tail, axis, 0, s->nest->axis[axis].extent, 1);
        build(t, &body, depth + 1, c, rest);
        close_loop(s, axis);
        return;
    }
    if (!c->peeled) {
        append_strip(t, tail, c);
        return;
    }
    build_end(t, tail, c, rest, 0, s->peel_begin);
    s->inside = true;
    append_strip(t, tail, c);
    s->inside = false;
    build_end(t, tail, c, rest, s->peel_end, s->nest->axis[c->run].extent);
}

Loop *strips_build(Schedule *s)
{
    const Nest *nest = s->nest;
    Strips t = {.s = s, .last_steps = steps_of(nest->store.value) + nest->store.accumulate};
    s->inside = false;
    s->tile = 1;
    t.steps = nest->reduces ? steps_of(nest->term) : t.last_steps;
    for (int i = 0; i < s->clips; i++)
        for (int a = 0; a < MAX_AXES; a++) {
            bool decides = s->clip[i].index.coef[a] && a != s->clip[i].axis && !s->fixed[a];
            if (decides && nest->axis[a].reduce)
                return NULL;                     /* its bounds would change within the host's loops */
            t.outside[a] |= decides;
        }
    Choice c = choose(&t, true), rest = {.run = -1};
    if (c.run < 0 || c.cost > scalar_cost(&t))
        return NULL;
    s->tile_axis = -1;
    if (c.peeled) {
        rest = choose(&t, false);
        s->tile_axis = c.run;
        choose_peel(s);
    }
    Loop *loops = NULL, **tail = &loops;
    build(&t, &tail, 0, &c, &rest);
    return loops;
}
