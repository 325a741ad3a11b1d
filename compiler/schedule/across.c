/* Sums over samples that lie side by side: gradients of weights and of biases.
 *
 * Each lane sums its own samples; the lanes' sums are added once, at the end.  The tile runs
 * along an axis of one factor, the vectors along one of the other, so that of tile times
 * vectors products only tile plus vectors factors are loaded. */
#include "schedule.h"

#include <math.h>

enum {
    TILE_MOST = 14, VECTORS_MOST = 4,            /* of the family */
    PIPELINE = 8,                                /* products that a processor has under way */
    LINE_COST = 4
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

/* One factor: the axis along which it moves, and whether the next step of the reduction finds
 * there what this one has left, as neighbouring taps of a window do. */
typedef struct Factor { int axis, extent; bool overlaps; } Factor;

static Factor factor_of(const Schedule *s, const Operand *moves, const Operand *stays)
{
    Factor f = {.axis = moves->node ? axis_of_factor(s, moves, stays) : -1};
    f.extent = extent_of(s, f.axis);
    for (int i = s->parallel; i < s->axes && f.axis >= 0; i++)
        f.overlaps |= moves->address.coef[s->order[i]] == moves->address.coef[f.axis];
    return f;
}

/* The factor along the tile, in equal parts: accumulators and the vectors that meet in them must
 * fit the registers. */
static int tile_beside(const Schedule *s, const Factor *tile, int vectors)
{
    int most = (s->target->registers - 1 - vectors) / vectors;
    most = most < TILE_MOST ? most : TILE_MOST;
    most = most < tile->extent ? most : tile->extent;
    return groups(tile->extent, groups(tile->extent, most));
}

/* Half cycles of the passes for all products: a product or a load takes one, a line that comes
 * from the second-level cache LINE_COST; a pass is no shorter than the pipeline. */
static int cost(const Schedule *s, const Factor *tile, const Factor *vector, int vectors)
{
    int size = tile_beside(s, tile, vectors), loads = size + vectors;
    int lines = (tile->overlaps ? 1 : size) + (vector->overlaps ? 1 : vectors);
    int pass = size * vectors > PIPELINE ? size * vectors : PIPELINE;
    pass = loads > pass ? loads : pass;
    pass = lines * LINE_COST > pass ? lines * LINE_COST : pass;
    return pass * groups(tile->extent, size) * groups(vector->extent, vectors);
}

/* The best number of vectors, and what it costs. */
static int best_vectors(const Schedule *s, const Factor *tile, const Factor *vector, int *least)
{
    int best = 1;
    *least = cost(s, tile, vector, 1);
    for (int v = 2; v <= VECTORS_MOST && v <= vector->extent; v++)
        if (cost(s, tile, vector, v) < *least) {
            best = v;
            *least = cost(s, tile, vector, v);
        }
    return best;
}

bool choose_across(Schedule *s)
{
    Leaf *leaf = &s->leaf;
    bool product = leaf->kind == LEAF_FMA;
    if (leaf->kind == LEAF_MAX || leaf->bias.node || leaf->add.node || leaf->gated ||
        leaf->low > -INFINITY || leaf->high < INFINITY || (product && !leaf->b.vector))
        return false;
    leaf->across = true;
    Factor a = factor_of(s, &leaf->a, &leaf->b), b = factor_of(s, &leaf->b, &leaf->a);
    int straight, turned, turned_vectors = best_vectors(s, &b, &a, &turned);
    s->vectors = best_vectors(s, &a, &b, &straight);
    if (product && turned < straight) {
        Operand operand = leaf->a;
        leaf->a = leaf->b;
        leaf->b = operand;
        Factor factor = a;
        a = b;
        b = factor;
        s->vectors = turned_vectors;
    }
    s->tile_axis = a.axis;
    s->vector_axis = b.axis;
    s->tile = tile_beside(s, &a, s->vectors);
    return true;
}
