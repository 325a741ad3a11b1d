/* Which axis of a nest runs along the lanes of a vector.
 *
 * A reduction is computed a vector at a time where its result and at least one of its
 * operands lie side by side along one parallel axis, the others not depending on it:
 * channels in blocks, outputs of a matrix product, or pixels of a row where channels
 * are few.  Parameters lie as their reader likes best: they are packed once. */
#include "../cnnc.h"

#include <string.h>

typedef struct Choice {
    Function *f;
    Kernel *kernel;
    Nest *nest;
    int axis;                 /* the candidate */
    bool possible, in_term;
    bool apart;               /* results may lie apart, and are stored one by one */
    int vectors;              /* operands along the axis */
    bool pack;                /* second round: lay parameters out for it */
} Choice;

/* The only dim of n whose index moves with the axis, at most so many places a step; -1: none
 * moves, -2: several, or in longer jumps. */
static int moving_dim(const Node *n, const Affine *index, int axis, int most)
{
    int dim = -1;
    for (int d = 0; d < n->shape.rank; d++) {
        if (!index[d].coef[axis])
            continue;
        if (dim >= 0 || index[d].coef[axis] < 1 || index[d].coef[axis] > most)
            return -2;
        dim = d;
    }
    return dim;
}

/* Whether a step along the dim is a step in memory. */
static bool side_by_side(const Node *n, int dim)
{
    const Storage *s = n->storage;
    return s->lanes > 1 ? dim == s->lane_dim : dim == n->shape.rank - 1;
}

static bool reduces_along(const Nest *nest, const Affine *index)
{
    bool reduces = false;
    for (int i = 0; i < nest->axes; i++)
        reduces |= nest->axis[i].reduce && index->coef[i];
    return reduces;
}

/* Blocks of the lane's dim outside, after dims that choose a matrix of weights; then all other
 * dims (a reduction that comes in blocks likewise), the places within blocks innermost: the
 * lane's last. */
static Layout packed(const Access *a, const Nest *nest, int lane_dim, int lane)
{
    Layout l = {0};
    int rank = a->node->shape.rank, lanes = nest->axis[lane].lanes, inner[MAX_RANK] = {0}, inners = 0;
    int outer = 0;
    while (outer < lane_dim && !reduces_along(nest, &a->index[outer]))
        l.piece[l.pieces++] = (Piece){.dim = outer++, .div = 1};
    l.piece[l.pieces++] = (Piece){.dim = lane_dim, .div = lanes};
    for (int d = outer; d < rank; d++) {
        if (d == lane_dim)
            continue;
        int div = 1;
        for (int i = 0; i < nest->axes; i++)
            if (nest->axis[i].lanes && nest->axis[i].reduce && a->index[d].coef[i] == 1)
                div = nest->axis[i].lanes;
        l.piece[l.pieces++] = (Piece){.dim = d, .div = div};
        if (div > 1)
            inner[inners++] = d;
    }
    for (int i = 0; i < inners; i++)
        l.piece[l.pieces++] = (Piece){.dim = inner[i], .div = 1, .mod = lanes};
    l.piece[l.pieces++] = (Piece){.dim = lane_dim, .div = 1, .mod = lanes};
    return l;
}

static void check_param(Choice *c, Access *a, int dim)
{
    Storage *s = a->node->storage;
    bool full = a->node->shape.dim[dim] % c->f->target->lanes == 0;      /* no vector reads past its end */
    if (s->param->derived && s->param->layout && !c->pack)
        c->possible = false;
    if (a->node->shape.rank != s->shape.rank)
        c->possible = false;
    if (!c->pack || (!c->f->frozen && full && side_by_side(a->node, dim)))
        return;
    Layout l = packed(a, c->nest, dim, c->axis);
    if (!c->f->frozen) {
        a->node = layout_copy(c->f, a->node, &l, c->kernel->node->layer);
        return;
    }
    if (s->layout.pieces && memcmp(s->layout.piece, l.piece, sizeof l.piece))    /* unused pieces are zero */
        fail(c->f->c, STATUS_FAULT, "lanes: %s is wanted in two layouts", s->name);
    s->layout = l;
}

/* Sums and maxima of elements as they are: their leaves also take every second element, and
 * store lanes apart. */
static bool reduces_elements(const Nest *nest)
{
    return nest->term->kind == X_LOAD && !nest->matrix;
}

static void check_load(Expr *load, void *user)
{
    Choice *c = user;
    Access *a = &load->load;
    bool pools = reduces_elements(c->nest) && c->in_term && a->node->storage->lanes == 1 &&
                 a->node->storage->place == PLACE_WORKSPACE;
    int dim = moving_dim(a->node, a->index, c->axis, pools ? LEAF_SPREAD : 1);
    if (dim == -1)
        return;
    c->vectors++;
    if (dim == -2)
        c->possible = false;
    else if (a->node->storage->place == PLACE_PARAM)
        check_param(c, a, dim);
    else if (!side_by_side(a->node, dim))
        c->possible = false;
    else if (c->nest->valid < c->f->target->lanes && a->node->storage->place != PLACE_WORKSPACE)
        c->possible = false;                     /* the last vector reads past the user's row */
    else if (c->pack && (c->nest->valid < c->f->target->lanes || a->index[dim].coef[c->axis] > 1))
        a->node->storage->slack = c->f->target->lanes * a->index[dim].coef[c->axis];
}

/* Terms that leaves can reduce: products of two elements, or elements; by a matrix these alone. */
static bool has_leaf(const Nest *nest)
{
    const Expr *t = nest->term;
    if (!nest->reduces || nest->reduce == REDUCE_ARGMAX || t->dtype != F32 ||
        (nest->matrix && t->kind != X_LOAD))
        return false;
    if (t->kind == X_LOAD)
        return true;
    return nest->reduce == REDUCE_SUM && t->kind == X_CALL && t->fn == FN_MUL && t->arg[0]->kind == X_LOAD &&
           t->arg[1]->kind == X_LOAD;
}

static bool try_axis(Choice *c, int axis)
{
    const Store *store = &c->nest->store;
    c->axis = axis;
    c->possible = true;
    c->vectors = 0;
    int dim = moving_dim(store->node, store->index, axis, 1);
    bool beside = dim >= 0 && side_by_side(store->node, dim);
    bool apart = reduces_elements(c->nest) || c->nest->matrix || store->node->storage->place == PLACE_GRAD ||
                 c->apart;
    if (dim < 0 || !(beside || apart))
        return false;
    c->in_term = true;
    expr_loads(c->nest->term, check_load, c);
    c->in_term = false;
    if (c->vectors == 0)
        return false;
    expr_loads(store->value, check_load, c);
    return c->possible;
}

/* An axis that is a dim of its own and long enough to be split into vectors. */
static int row_axis(const Nest *nest)
{
    const Store *store = &nest->store;
    const Storage *s = store->node->storage;
    int dim = s->lanes > 1 && s->lane_dim == 0 ? 0 : store->node->shape.rank - 1;
    for (int i = 0; i < nest->axes && dim >= 0; i++)
        if (!nest->axis[i].reduce && nest->axis[i].extent > 3 && store->index[dim].coef[i] == 1)
            return i;
    return -1;
}

/* How many lanes of the last vector along an axis exist. */
static int last_vector(int extent, int lanes)
{
    return extent % lanes ? extent % lanes : lanes;
}

/* The axis is split only once it is known to serve. */
static bool try_rows(Choice *c)
{
    int axis = row_axis(c->nest), lanes = c->f->target->lanes;
    if (axis < 0 || c->nest->axis[axis].lanes)
        return false;
    c->nest->valid = last_vector(c->nest->axis[axis].extent, lanes);
    if (!try_axis(c, axis))
        return false;
    c->axis = nest_split(c->nest, axis, lanes);
    return true;
}

/* The channels of a result that is the caller's: its rows could be vectors only if the operand's
 * were, but weights can be packed for any axis. */
static bool try_channels(Choice *c)
{
    Nest *nest = c->nest;
    const Store *store = &nest->store;
    if (store->node->storage->place != PLACE_OUTPUT || store->node->shape.rank < 3)
        return false;
    c->apart = true;
    for (int i = 0; i < nest->axes; i++) {
        const Axis *axis = &nest->axis[i];
        if (axis->reduce || axis->lanes || axis->extent < 2 || !store->index[1].coef[i])
            continue;
        nest->valid = last_vector(axis->extent, c->f->target->lanes);
        if (!try_axis(c, i))
            return false;
        c->axis = nest_split(nest, i, c->f->target->lanes);
        return true;
    }
    return false;
}

/* -- sums over samples that lie side by side -- */

typedef struct Across { int axis, moving; bool possible; } Across;

static void check_across(Expr *load, void *user)
{
    Across *a = user;
    const Node *n = load->load.node;
    int dim = moving_dim(n, load->load.index, a->axis, 1);
    if (dim == -1)
        return;
    a->moving++;
    a->possible &= dim == 0 && n->storage->lanes > 1 && n->storage->lane_dim == 0;
}

/* The lanes are then terms of the sum: all of its factors move along them. */
static bool try_across(Choice *c)
{
    Nest *nest = c->nest;
    int lanes = c->f->target->lanes;
    for (int i = 0; i < nest->axes && nest->reduce == REDUCE_SUM; i++) {
        Across a = {.axis = i, .possible = true};
        expr_loads(nest->term, check_across, &a);
        if (!nest->axis[i].reduce || nest->axis[i].extent % lanes || !a.possible ||
            a.moving != (nest->term->kind == X_LOAD ? 1 : 2))
            continue;
        nest->valid = lanes;
        nest->lane = nest_split(nest, i, lanes);
        return true;
    }
    return false;
}

void lanes_choose(Function *f, Kernel *kernel, Nest *nest)
{
    Choice c = {.f = f, .kernel = kernel, .nest = nest};
    bool found = false;
    if (!has_leaf(nest))
        return;
    for (int i = 0; i < nest->axes && !found; i++) {
        if (!nest->axis[i].lanes || nest->axis[i].reduce)
            continue;
        bool padded = nest->store.node->storage->lanes > 1;
        nest->valid = padded ? f->target->lanes : last_vector(nest->axis[i].whole, f->target->lanes);
        found = try_axis(&c, i);
    }
    if (!found && !try_rows(&c) && !try_channels(&c)) {
        if (c.f->by_samples)
            try_across(&c);
        return;
    }
    nest->lane = c.axis;
    c.pack = true;
    try_axis(&c, nest->lane);
}
