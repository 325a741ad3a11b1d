/* Graph -> kernels: one per stored node, each one nest or more.
 *
 * A nest says what is computed over which axes; accesses are logical indices into
 * tensors.  Order, tiles and addresses come later (layout, schedule). */
#include "../cnnc.h"

#include <string.h>

struct Lower {
    Context *c;
    Function *f;
    Kernel *kernel;
    Node *target;             /* what the kernel stores */
    Node *reduction;          /* what it reduces, or NULL */
    Expr *reduced;            /* the reduction's value while its epilogue is built, else NULL */
};

Context *lower_context(Lower *l)
{
    return l->c;
}

/* -- affine indices -- */

Affine affine_constant(int constant)
{
    return (Affine){.constant = constant};
}

Affine affine_sum(Affine a, Affine b)
{
    a.constant += b.constant;
    for (int i = 0; i < MAX_AXES; i++)
        a.coef[i] += b.coef[i];
    return a;
}

Affine affine_times(Affine a, int factor)
{
    a.constant *= factor;
    for (int i = 0; i < MAX_AXES; i++)
        a.coef[i] *= factor;
    return a;
}

/* -- expressions -- */

static Expr *expr_new(Lower *l, ExprKind kind, DType dtype)
{
    Expr *e = NEW(l->c, Expr);
    e->kind = kind;
    e->dtype = dtype;
    return e;
}

Expr *expr_float(Lower *l, double value)
{
    Expr *e = expr_new(l, X_FLOAT, F32);
    e->number = value;
    return e;
}

Expr *expr_int(Lower *l, int value)
{
    Expr *e = expr_new(l, X_INT, I32);
    e->number = value;
    return e;
}

Expr *expr_affine(Lower *l, Affine a)
{
    Expr *e = expr_new(l, X_AFFINE, I32);
    e->affine = a;
    return e;
}

static DType result_type(Fn fn, const Expr *a, const Expr *b)
{
    switch (fn) {
    case FN_LT: case FN_LE: case FN_EQ: case FN_AND:
        return I32;
    case FN_TO_FLOAT: case FN_RANDOM:
        return F32;
    case FN_SELECT:
        return b->dtype;
    default:
        return a->dtype;
    }
}

Expr *expr_call(Lower *l, Fn fn, Expr *a, Expr *b, Expr *c)
{
    Expr *e = expr_new(l, X_CALL, result_type(fn, a, b));
    e->fn = fn;
    e->arg[0] = a;
    e->arg[1] = b;
    e->arg[2] = c;
    return e;
}

static Expr *load(Lower *l, Node *x, const Affine *index, bool border)
{
    Expr *e = expr_new(l, X_LOAD, x->dtype);
    e->load.node = x;
    e->load.border = border;
    memcpy(e->load.index, index, (size_t)x->shape.rank * sizeof *index);
    return e;
}

Expr *element(Lower *l, Node *x, const Affine *index)
{
    if (x == l->reduction && l->reduced)
        return l->reduced;
    if ((x->op->traits & OP_LEAF) && !x->param && !x->input)
        return expr_float(l, x->value);
    if (x->inlined || (x == l->target && x->op->element))
        return x->op->element(l, x, index);
    return load(l, x, index, false);
}

/* What lies outside counts as zero: only a stored tensor can be read that way. */
Expr *element_bordered(Lower *l, Node *x, const Affine *index)
{
    if (x->inlined && !(x->op->traits & OP_INDEX_MAP))
        fail(l->c, STATUS_FAULT, "lower: %s reads outside the unstored %s", l->target->op->name, x->op->name);
    Expr *e = element(l, x, index);
    if (e->kind == X_LOAD)
        e->load.border = true;
    return e;
}

void expr_loads(Expr *e, void (*visit)(Expr *load, void *user), void *user)
{
    if (!e)
        return;
    if (e->kind == X_LOAD)
        visit(e, user);
    for (int i = 0; i < 3 && e->kind == X_CALL; i++)
        expr_loads(e->arg[i], visit, user);
}

void nest_loads(Nest *nest, void (*visit)(Expr *load, void *user), void *user)
{
    if (nest->reduces) {
        expr_loads(nest->term, visit, user);
        expr_loads(nest->tag, visit, user);
    }
    expr_loads(nest->store.value, visit, user);
}

static void expr_affines(Expr *e, void (*visit)(Affine *a, void *user), void *user)
{
    if (!e)
        return;
    if (e->kind == X_AFFINE)
        visit(&e->affine, user);
    for (int d = 0; e->kind == X_LOAD && d < e->load.node->shape.rank; d++)
        visit(&e->load.index[d], user);
    for (int i = 0; i < 3 && e->kind == X_CALL; i++)
        expr_affines(e->arg[i], visit, user);
}

void nest_affines(Nest *nest, void (*visit)(Affine *a, void *user), void *user)
{
    if (nest->reduces) {
        expr_affines(nest->term, visit, user);
        expr_affines(nest->tag, visit, user);
    }
    expr_affines(nest->store.value, visit, user);
    for (int d = 0; d < nest->store.node->shape.rank; d++)
        visit(&nest->store.index[d], user);
}

/* -- nests -- */

Nest *nest_open(Lower *l)
{
    Nest *nest = NEW(l->c, Nest);
    nest->lane = nest->rows = -1;
    return nest;
}

typedef struct Split { int outer, inner, lanes; } Split;

static void split_affine(Affine *a, void *user)
{
    const Split *s = user;
    a->coef[s->inner] = a->coef[s->outer];
    a->coef[s->outer] *= s->lanes;
}

int nest_split(Nest *nest, int axis, int lanes)
{
    if (nest->axes == MAX_AXES)
        __builtin_trap();
    int extent = nest->axis[axis].extent;
    Split s = {axis, nest->axes++, lanes};
    nest->axis[s.inner] = (Axis){.name = "lane", .extent = lanes, .reduce = nest->axis[axis].reduce,
                                 .lanes = lanes, .outer = axis, .whole = extent};
    nest->axis[axis].extent = (extent + lanes - 1) / lanes;
    nest_affines(nest, split_affine, &s);
    return s.inner;
}

Affine nest_axis(Nest *nest, const char *name, int extent, bool reduce)
{
    if (nest->axes == MAX_AXES)
        __builtin_trap();                        /* MAX_AXES covers the deepest op */
    nest->axis[nest->axes] = (Axis){.name = name, .extent = extent, .reduce = reduce};
    nest->reduces |= reduce;
    Affine a = {0};
    a.coef[nest->axes++] = 1;
    return a;
}

void nest_matrix(Nest *nest, const Matrix *m, const int *rows, Affine *row, Affine *column)
{
    static const char *const row_names[] = {"i", "j"}, *const column_names[] = {"p", "q"};
    nest->matrix = m;
    for (int k = 0; k < 2; k++) {
        nest->row[k] = nest->axes;
        row[k] = nest_axis(nest, row_names[k], rows[k], false);
    }
    for (int k = 0; k < 2; k++) {
        nest->column[k] = nest->axes;
        column[k] = nest_axis(nest, column_names[k], m->columns, true);
    }
}

bool nest_matrix_axis(const Nest *nest, int axis)
{
    return nest->matrix && (axis == nest->row[0] || axis == nest->row[1] || axis == nest->column[0] ||
                            axis == nest->column[1]);
}

const char *axis_name(const Node *n, int d)
{
    static const char *const plain[] = {"i", "j", "k", "l", "p", "q"};
    static const char *const spatial[] = {"t", "d", "h", "w"};
    if (!n->batched)
        return plain[d];
    return d == 0 ? "n" : d == 1 ? "c" : spatial[4 - (n->shape.rank - d)];
}

void nest_axes(Nest *nest, const Node *n, Affine *index)
{
    for (int d = 0; d < n->shape.rank; d++)
        index[d] = nest_axis(nest, axis_name(n, d), n->shape.dim[d], false);
}

Affine nest_band(Nest *nest, int extent)
{
    Affine a = nest_axis(nest, "band", extent, false);
    nest->axis[nest->axes - 1].band = true;
    return a;
}

int nest_band_axis(const Nest *nest)
{
    for (int a = 0; a < nest->axes; a++)
        if (nest->axis[a].band)
            return a;
    return -1;
}

static bool accumulates(const Function *f, const Node *n)
{
    for (int i = 0; i < f->graph->roots; i++)
        if (f->graph->root[i].node == n)
            return f->graph->root[i].kind == ROOT_PARAM_GRAD;
    return false;
}

/* Ops may use a subexpression twice; passes rewrite trees, each load once. */
static Expr *as_tree(Lower *l, const Expr *e)
{
    if (!e)
        return NULL;
    Expr *copy = NEW(l->c, Expr);
    *copy = *e;
    for (int i = 0; i < 3 && e->kind == X_CALL; i++)
        copy->arg[i] = as_tree(l, e->arg[i]);
    return copy;
}

static void store(Lower *l, Node *n, Nest *nest, Expr *value, const Affine *index)
{
    nest->term = as_tree(l, nest->term);
    nest->tag = as_tree(l, nest->tag);
    value = as_tree(l, value);
    nest->store.node = n;
    nest->store.value = value;
    nest->store.accumulate = accumulates(l->f, n);
    memcpy(nest->store.index, index, (size_t)n->shape.rank * sizeof *index);
    PUSH(l->c, l->kernel->nest, l->kernel->nests) = nest;
}

void nest_close(Lower *l, Node *n, Nest *nest, ReduceKind kind, Expr *term, Expr *tag, const Affine *index)
{
    nest->reduce = kind;
    nest->term = term;
    nest->tag = tag;
    l->reduction = n;
    l->reduced = term;
    if (nest->reduces)
        l->reduced = expr_new(l, X_ACC, kind == REDUCE_ARGMAX ? I32 : term->dtype);
    Expr *value = n == l->target ? l->reduced : element(l, l->target, index);
    l->reduced = NULL;
    store(l, l->target, nest, value, index);
}

void nest_close_part(Lower *l, Node *n, Nest *nest, ReduceKind kind, Expr *term, const Affine *index)
{
    nest->reduce = kind;
    nest->term = term;
    store(l, n, nest, expr_new(l, X_ACC, term->dtype), index);
}

static void lower_pointwise(Lower *l, Node *n)
{
    Nest *nest = nest_open(l);
    Affine index[MAX_RANK];
    nest_axes(nest, n, index);
    store(l, n, nest, n->op->element(l, n, index), index);
}

static bool stored(const Node *n)
{
    return !n->inlined && !n->within && !(n->op->traits & (OP_LEAF | OP_ALIAS));
}

Kernel *lower_node(Function *f, Node *n)
{
    Lower l = {.c = f->c, .f = f, .kernel = NEW(f->c, Kernel), .target = n};
    l.kernel->node = n;
    l.reduction = n->root ? n->root : n->op->lower ? n : NULL;
    if (l.reduction)
        l.reduction->op->lower(&l, l.reduction);
    else
        lower_pointwise(&l, n);
    return l.kernel;
}

Function *lower(Graph *g, const char *name, const Target *target)
{
    Function *f = NEW(g->c, Function);
    f->c = g->c;
    f->target = target;
    f->name = name;
    f->graph = g;
    bool *live = graph_live(g);
    for (int i = 0; i < g->nodes; i++)
        if (live[i] && stored(g->node[i])) {
            Kernel *k = lower_node(f, g->node[i]);
            if (k->nests)                        /* none: its inputs have stored it */
                PUSH(g->c, f->kernel, f->kernels) = k;
        }
    return f;
}
