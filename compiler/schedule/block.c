/* Long reductions in parts.
 *
 * A gradient of weights sums over all samples and pixels, for every filter and tap anew: what
 * it reads would come from memory each time.  A nest that adds to its result may do so once a
 * part instead: the loop over parts of the outermost reduction axis then encloses those over
 * taps and filters, and the operands of one part stay in the cache meanwhile. */
#include "schedule.h"

enum {
    CACHE = 3 << 17,          /* bytes of a part's operands: less than half of a second-level cache */
    LINE_BYTES = 64, LINES = 3,                  /* that a step of the reduction reads: vectors, numbers */
    FIRST_CACHE = 1 << 15, LINES_ACROSS = 5,     /* of vectors alone, from the first level ... */
    STEPS = 48                                   /* ... and sums across lanes cost as much as a few steps */
};

static int outermost_reduction(const Nest *nest)
{
    for (int i = 0; i < nest->axes; i++)
        if (nest->axis[i].reduce)
            return i;
    return -1;
}

static int64_t steps_within(const Nest *nest, int axis)
{
    int64_t steps = 1;
    for (int i = 0; i < nest->axes; i++)
        if (nest->axis[i].reduce && i != axis)
            steps *= nest->axis[i].extent;
    return steps;
}

/* Sums across lanes go by vectors of samples. */
static bool block_across(Nest *nest)
{
    int axis = nest->axis[nest->lane].outer, extent = nest->axis[axis].extent;
    int64_t steps = steps_within(nest, axis) / nest->axis[nest->lane].extent;
    if (extent < 2 || steps < STEPS || steps * extent * LINE_BYTES * LINES_ACROSS < FIRST_CACHE)
        return false;
    return nest->axis[axis].hoisted = true;
}

bool block_reduction(Nest *nest)
{
    if (nest->lane >= 0 && nest->axis[nest->lane].reduce)
        return nest->store.accumulate && block_across(nest);
    int axis = outermost_reduction(nest);
    if (axis < 0 || !nest->store.accumulate || nest->store.value->kind != X_ACC || nest->axis[axis].lanes ||
        nest->reduce != REDUCE_SUM || nest->term->kind == X_LOAD || nest->axes == MAX_AXES)
        return false;
    int64_t bytes = steps_within(nest, axis) * LINE_BYTES * LINES;
    int extent = nest->axis[axis].extent, part = extent;
    while (part > 1 && (part * bytes > CACHE || extent % part))
        part--;
    if (part == extent)
        return false;
    if (part > 1)
        nest_split(nest, axis, part);
    nest->axis[axis].hoisted = true;
    return true;
}
