/* Sums over samples that lie side by side: gradients of weights and of biases.
 *
 * Each lane sums its own samples; the lanes' sums are added once, at the end.  The tile runs
 * along an axis of one factor, the vectors along one of the other, so that of tile times
 * vectors products only tile plus vectors factors are loaded. */
#include "schedule.h"

#include <math.h>

enum {
    TILE_MOST = 14, VECTORS_MOST = 4,            /* of the family */
    PIPELINE = 8                                 /* products that a processor has under way */
};

static bool in_clip(const Schedule *s, int axis)
{
    for (int i = 0; i < s->clips; i++)
        if (s->clip[i].index.coef[axis])
            return true;
    return false;
}

/* The innermost parallel axis along which one factor moves and the other stays; -1: none. */
static int axis_of_factor(const Schedule *s, const Operand *moves, const Operand *stays)
{
    for (int i = s->parallel - 1; i >= 0; i--) {
        int axis = s->order[i];
        if (moves->address.coef[axis] && (!stays->node || !stays->address.coef[axis]) && !in_clip(s, axis))
            return axis;
    }
    return -1;
}

static int extent_of(const Schedule *s, int axis)
{
    return axis < 0 ? 1 : s->nest->axis[axis].extent;
}

static int groups(int extent, int size)
{
    return (extent + size - 1) / size;
}

/* Accumulators, the vectors of both factors that meet in them. */
static int tile_beside(const Schedule *s, int vectors)
{
    int most = (s->target->registers - 1 - vectors) / vectors, extent = extent_of(s, s->tile_axis);
    most = most < TILE_MOST ? most : TILE_MOST;
    most = most < extent ? most : extent;
    return groups(extent, groups(extent, most));
}

/* The passes of the innermost loops for all products, each as long as its products or loads. */
static int cost(const Schedule *s, int vectors)
{
    int tile = tile_beside(s, vectors), pass = tile * vectors > PIPELINE ? tile * vectors : PIPELINE;
    pass = tile + vectors > pass ? tile + vectors : pass;
    return pass * groups(extent_of(s, s->tile_axis), tile) * groups(extent_of(s, s->vector_axis), vectors);
}

bool choose_across(Schedule *s)
{
    Leaf *leaf = &s->leaf;
    bool product = leaf->kind == LEAF_FMA;
    if (leaf->kind == LEAF_MAX || leaf->bias.node || leaf->add.node || leaf->gated ||
        leaf->low > -INFINITY || leaf->high < INFINITY || (product && !leaf->b.vector))
        return false;
    leaf->across = true;
    s->tile_axis = axis_of_factor(s, &leaf->a, &leaf->b);
    s->vector_axis = product ? axis_of_factor(s, &leaf->b, &leaf->a) : -1;
    s->vectors = 1;
    for (int v = 2; v <= VECTORS_MOST && v <= extent_of(s, s->vector_axis); v++)
        if (cost(s, v) < cost(s, s->vectors))
            s->vectors = v;
    s->tile = tile_beside(s, s->vectors);
    return true;
}
