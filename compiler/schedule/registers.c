/* The tile of a scalar sum of products where the number of registers is known.
 *
 * A product takes one instruction, and a load of each of its factors.  Of a tile of m x n sums along two
 * axes, each of which moves one factor alone, a tap loads m + n numbers for m n products: as many sums as
 * there are registers for, in tiles that leave little over. */
#include "schedule.h"

enum {
    SIDE_MOST = 8,            /* of a tile */
    TERMS_MOST = 96,          /* written out in a body */
    PASS = 2                  /* instructions to count and jump */
};

/* Sums, the factors along one side, and one along the other. */
static bool sums_fit_registers(const Schedule *s, int tile, int cross)
{
    int shorter = tile < cross ? tile : cross;
    return tile * cross + shorter + 2 <= s->target->registers;
}

static bool multiplies(const Nest *nest)
{
    const Expr *t = nest->term;
    return nest->reduces && nest->reduce == REDUCE_SUM && t->kind == X_CALL && t->fn == FN_MUL &&
           t->arg[0]->kind == X_LOAD && t->arg[1]->kind == X_LOAD && t->dtype == F32;
}

bool registers_fit(Schedule *s)
{
    return s->target->lanes == 1 && s->target->registers && !s->small && s->tile_axis >= 0 &&
           multiplies(s->nest);
}

/* Whether one factor moves along the first axis alone, the other along the second; no border may depend
 * on the second. */
static bool crosses(const Schedule *s, int axis)
{
    const Affine *a = &s->nest->term->arg[0]->affine, *b = &s->nest->term->arg[1]->affine;
    int tile = s->tile_axis;
    bool clip = false;
    for (int i = 0; i < s->clips; i++)
        clip |= s->clip[i].axis == axis || s->clip[i].index.coef[axis];
    return !clip && ((a->coef[tile] && !a->coef[axis] && b->coef[axis] && !b->coef[tile]) ||
                     (b->coef[tile] && !b->coef[axis] && a->coef[axis] && !a->coef[tile]));
}

/* Instructions of a tap for all sums of length x height, in tiles; every kind of tile is code. */
static double taps_cost(int length, int height, int tile, int cross)
{
    double cost = 0, kinds = (length % tile ? 1.02 : 1) * (height % cross ? 1.02 : 1);
    for (int h = height; h > 0; h -= cross)
        for (int l = length; l > 0; l -= tile) {
            int m = l < tile ? l : tile, n = h < cross ? h : cross;
            cost += m * n + m + n + PASS;
        }
    return cost * kinds;
}

static int at_most(int extent, int most)
{
    return extent < most ? extent : most;
}

void registers_choose(Schedule *s)
{
    int height = 1, length = s->peel_end - s->peel_begin;
    for (int i = 0; i < s->parallel - 1; i++)
        if (crosses(s, s->order[i]))
            s->cross_axis = s->order[i];
    if (s->cross_axis >= 0)
        height = s->nest->axis[s->cross_axis].extent;
    double best = -1;
    s->tile = s->cross = 1;
    for (int cross = 1; cross <= at_most(height, SIDE_MOST); cross++)
        for (int tile = 1; tile <= at_most(length, SIDE_MOST); tile++) {
            double cost = taps_cost(length, height, tile, cross);
            if (sums_fit_registers(s, tile, cross) && (best < 0 || cost < best)) {
                best = cost;
                s->tile = tile;
                s->cross = cross;
            }
        }
    s->taps = at_most(TERMS_MOST / (s->tile * s->cross), UNROLL_WHOLE);
    s->by_tap = true;
    s->cross_now = s->cross;
}
