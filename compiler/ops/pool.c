/* Pools: the maximum or the mean of every window, channel by channel.
 *
 * Mean: a sum over the window, divided by the number of cells that count
 * (pool_scale.c); the sum's gradient spreads each error over the cells of its window.
 *
 * Maximum: the error goes to the cell that won.  maxpool_index names the winner of
 * each window by the number of its tap (the first one among equals), and the gradient
 * is a gather: each cell adds the errors of those windows that it won. */
#include "ops.h"

#include <math.h>

typedef struct PoolAttrs {
    Window window;
    int input[MAX_SPATIAL];   /* spatial sizes of the input */
} PoolAttrs;

/* -- in Lua -- */

enum { KERNEL, STRIDE, PAD, CEIL, NAME, COUNT_PAD };

#define POOL_ARGS                                                                                           \
    [KERNEL] = {"kernel", ARG_DIMS, .positional = true, .required = true, .low = 1, .high = MAX_EXTENT,     \
                .doc = "window size"},                                                                      \
    [STRIDE] = {"stride", ARG_DIMS, .low = 1, .high = MAX_EXTENT, .doc = "jump of the window (= kernel)"},  \
    [PAD] = {"pad", ARG_PADS, .high = MAX_EXTENT, .doc = "cells around the input"},                         \
    [CEIL] = {"ceil", ARG_BOOL, .doc = "round the output size up"},                                         \
    [NAME] = {"name", ARG_NAME, .doc = "of the layer"}

static const ArgSpec maxpool_args[] = { POOL_ARGS, {.kind = ARG_END} };

static const ArgSpec avgpool_args[] = {
    POOL_ARGS,
    [COUNT_PAD] = {"count_include_pad", ARG_BOOL, .standard = 1, .doc = "padding counts as zeros"},
    {.kind = ARG_END},
};

static PoolAttrs pool_attrs(Call *call)
{
    const Arg *arg = call->arg;
    const Node *x = call->tensor[0];
    PoolAttrs a = {0};
    a.window = window_of(call, &arg[KERNEL], arg[STRIDE].given ? &arg[STRIDE] : NULL, &arg[PAD], NULL);
    a.window.ceil = arg[CEIL].flag;
    for (int d = 0; d < a.window.spatial; d++)
        a.input[d] = x->shape.dim[2 + d];
    return a;
}

static Node *maxpool_build(Call *call)
{
    PoolAttrs a = pool_attrs(call);
    return node_new(call->g, &op_maxpool, 1, call->tensor, &a);
}

static Node *avgpool_build(Call *call)
{
    PoolAttrs a = pool_attrs(call);
    Node *sum = node_new(call->g, &op_sumpool, 1, call->tensor, &a);
    return window_mean(call->g, sum, &a.window, a.input, call->arg[COUNT_PAD].flag);
}

static Node *global_avgpool_build(Call *call)
{
    Graph *g = call->g;
    Node *x = call->tensor[0];
    if (x->shape.rank < 3)
        refuse(call, "the input is %s, expected channels and spatial dimensions",
               shape_text(g->c, &x->shape, x->batched));
    unsigned spatial = (1u << x->shape.rank) - (1u << 2);
    Node *sum = reduce_sum(g, x, spatial);
    double cells = (double)shape_count(&x->shape) / shape_count(&sum->shape);
    return mul_scalar(g, sum, 1 / cells);
}

/* -- shapes -- */

/* x (N, C, ...) -> y (N, C, ...).  A window wholly in the padding would have neither
 * maximum nor mean. */
static void pool_infer(Graph *g, Node *n)
{
    const PoolAttrs *a = n->attrs;
    const Window *w = &a->window;
    n->shape = n->in[0]->shape;
    window_slide(g, n, w, &n->shape);
    for (int d = 0; d < w->spatial; d++) {
        int last = (n->shape.dim[2 + d] - 1) * w->stride[d] - w->begin[d];
        if (w->begin[d] >= w->kernel[d] || last >= a->input[d])
            fail(g->c, STATUS_INPUT, "%s: a window of %d would lie wholly in the padding of %d and %d",
                 n->layer ? n->layer->method : n->op->name, w->kernel[d], w->begin[d], w->end[d]);
    }
}

static void maxpool_index_infer(Graph *g, Node *n)
{
    pool_infer(g, n);
    n->dtype = I32;
}

/* dy, or index and dy -> dx */
static void pool_grad_infer(Graph *g, Node *n)
{
    (void)g;
    const PoolAttrs *a = n->attrs;
    n->shape = n->in[0]->shape;
    for (int d = 0; d < a->window.spatial; d++)
        n->shape.dim[2 + d] = a->input[d];
}

/* -- evaluation -- */

static int planes(const Shape *s)
{
    return s->dim[0] * s->dim[1];
}

static size_t plane_size(const Shape *s)
{
    return (size_t)(shape_count(s) / planes(s));
}

/* The meetings of one channel, x's side given by the attributes, y's by y. */
static const Meeting *pool_meetings(Context *c, const PoolAttrs *a, const Shape *y, const Meeting **end)
{
    int count;
    const Meeting *list = window_meetings(c, &a->window, a->input, y->dim + 2, &count);
    *end = list + count;
    return list;
}

/* A window's taps come in order, so that the first of equals stays the winner. */
static void maxpool_both_eval(Context *c, const Node *n, const Tensor *x, const Tensor *out, bool want_index)
{
    const Meeting *end, *list = pool_meetings(c, n->attrs, &n->shape, &end);
    size_t x_plane = plane_size(&x->shape), y_plane = plane_size(&n->shape);
    double *best = NEW_ARRAY(c, double, y_plane);
    for (int p = 0; p < planes(&n->shape); p++) {
        const double *xp = x->data + p * x_plane;
        double *yp = out->data + p * y_plane;
        for (size_t w = 0; w < y_plane; w++)
            best[w] = -INFINITY;
        for (const Meeting *m = list; m < end; m++)
            if (xp[m->cell] > best[m->window]) {
                best[m->window] = xp[m->cell];
                yp[m->window] = want_index ? m->tap : best[m->window];
            }
    }
}

static void maxpool_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)b;
    maxpool_both_eval(c, n, in[0], out, false);
}

static void maxpool_index_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                               Tensor *out)
{
    (void)b;
    maxpool_both_eval(c, n, in[0], out, true);
}

static void sumpool_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)b;
    const Meeting *end, *list = pool_meetings(c, n->attrs, &n->shape, &end);
    size_t x_plane = plane_size(&in[0]->shape), y_plane = plane_size(&n->shape);
    for (int p = 0; p < planes(&n->shape); p++)
        for (const Meeting *m = list; m < end; m++)
            out->data[p * y_plane + m->window] += in[0]->data[p * x_plane + m->cell];
}

/* Every cell gets the error of each window that covers it or, with an index, of
 * each that it won. */
static void spread(Context *c, const Node *n, const Tensor *index, const Tensor *dy, Tensor *dx)
{
    const Meeting *end, *list = pool_meetings(c, n->attrs, &dy->shape, &end);
    size_t x_plane = plane_size(&dx->shape), y_plane = plane_size(&dy->shape);
    for (int p = 0; p < planes(&n->shape); p++)
        for (const Meeting *m = list; m < end; m++)
            if (!index || index->data[p * y_plane + m->window] == m->tap)
                dx->data[p * x_plane + m->cell] += dy->data[p * y_plane + m->window];
}

static void maxpool_grad_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                              Tensor *out)
{
    (void)b;
    spread(c, n, in[0], in[1], out);
}

static void sumpool_grad_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                              Tensor *out)
{
    (void)b;
    spread(c, n, NULL, in[0], out);
}

/* -- gradients -- */

static Node *sumpool_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)i;
    return node_new(g, &op_sumpool_grad, 1, &dy, n->attrs);
}

/* A window of one cell leaves no choice. */
static Node *maxpool_gradient(Graph *g, Node *n, Node *dy, int i)
{
    if (window_cells(&((const PoolAttrs *)n->attrs)->window) == 1)
        return sumpool_gradient(g, n, dy, i);
    Node *index = node_new(g, &op_maxpool_index, 1, n->in, n->attrs);
    return node_new(g, &op_maxpool_grad, 2, (Node *[]){index, dy}, n->attrs);
}

/* -- lowering -- */

/* Where a nest is: indices of y and x that meet, and the number of the tap. */
typedef struct PoolIndex { Affine y[MAX_RANK], x[MAX_RANK], tap; } PoolIndex;

static PoolIndex pool_index(const Window *w, Affine sample, Affine channel, const Sweep *s)
{
    PoolIndex index = {.y = {sample, channel}, .x = {sample, channel}, .tap = affine_constant(0)};
    for (int d = 0; d < w->spatial; d++) {
        index.y[2 + d] = s->window[d];
        index.x[2 + d] = s->cell[d];
        index.tap = affine_sum(affine_times(index.tap, w->kernel[d]), s->tap[d]);
    }
    return index;
}

static void pool_lower(Lower *l, Node *n, ReduceKind kind)
{
    const PoolAttrs *a = n->attrs;
    Sweep s;
    Nest *nest = nest_open(l);
    Affine sample = nest_axis(nest, "n", n->shape.dim[0], false);
    Affine channel = nest_axis(nest, "c", n->shape.dim[1], false);
    sweep_windows(nest, &a->window, n->shape.dim + 2, false, &s);
    sweep_taps(nest, &a->window, true, &s);
    sweep_cells(l, &a->window, &s);
    PoolIndex index = pool_index(&a->window, sample, channel, &s);
    Expr *tag = kind == REDUCE_ARGMAX ? expr_affine(l, index.tap) : NULL;
    nest_close(l, n, nest, kind, element_bordered(l, n->in[0], index.x), tag, index.y);
}

static void maxpool_lower(Lower *l, Node *n)
{
    pool_lower(l, n, REDUCE_MAX);
}

static void maxpool_index_lower(Lower *l, Node *n)
{
    pool_lower(l, n, REDUCE_ARGMAX);
}

static void sumpool_lower(Lower *l, Node *n)
{
    pool_lower(l, n, REDUCE_SUM);
}

/* What the window at index.y passes back through index.tap. */
static Expr *error_passed(Lower *l, Node *winner, Node *dy, PoolIndex *index)
{
    Expr *error = element_bordered(l, dy, index->y);
    if (!winner)
        return error;
    Affine tap = index->tap;
    if (FAULT(lower_context(l), FAULT_POOL_INDEX))
        tap = affine_sum(tap, affine_constant(1));
    Expr *won = expr_call(l, FN_EQ, element_bordered(l, winner, index->y), expr_affine(l, tap), NULL);
    return expr_call(l, FN_SELECT, won, error, expr_float(l, 0));
}

static void gather_lower(Lower *l, Node *n, Node *winner, Node *dy)
{
    const PoolAttrs *a = n->attrs;
    int count;
    const Gather *gather = window_gathers(lower_context(l), &a->window, a->input, &count);
    for (const Gather *end = gather + count; gather < end; gather++) {
        Sweep s;
        Nest *nest = nest_open(l);
        Affine sample = nest_axis(nest, "n", n->shape.dim[0], false);
        Affine channel = nest_axis(nest, "c", n->shape.dim[1], false);
        gather_cells(nest, gather, &s);
        if (gather->seen)
            gather_taps(nest, gather, &s);
        PoolIndex index = pool_index(&a->window, sample, channel, &s);
        Expr *term = gather->seen ? error_passed(l, winner, dy, &index) : expr_float(l, 0);
        nest_close(l, n, nest, REDUCE_SUM, term, NULL, index.x);
    }
}

static void maxpool_grad_lower(Lower *l, Node *n)
{
    gather_lower(l, n, n->in[0], n->in[1]);
}

static void sumpool_grad_lower(Lower *l, Node *n)
{
    gather_lower(l, n, NULL, n->in[0]);
}

/* -- for people -- */

static const Window *pool_window(const Node *n)
{
    const PoolAttrs *a = n->attrs;
    return &a->window;
}

static void pool_print(const Node *n, Text *t)
{
    const PoolAttrs *a = n->attrs;
    window_print(&a->window, t);
}

static const char *const maxpool_samples[] = {
    "return input { 2, 6, 8 }:maxpool { 2 }",
    "return input { 2, 7, 7 }:maxpool { 2, ceil = true }",
    "return input { 1, 9, 8 }:maxpool { 3, stride = 2, pad = 1 }",
    "return input { 2, 7, 6 }:maxpool { kernel = { 3, 2 }, stride = { 1, 2 }, pad = { 1, 0, 2, 1 } }",
    "return input { 1, 8, 11 }:maxpool { 2, stride = { 3, 4 }, ceil = true }",
    "return input { 2, 7, 5 }:maxpool { 3, stride = 2, pad = \"same\" }",
    "return input { 3, 11 }:maxpool { 3, stride = 2, pad = { 1, 0 } }",
    "return input { 1, 4, 5, 6 }:maxpool { 2, stride = { 2, 1, 2 } }",
    NULL
};

static const char *const avgpool_samples[] = {
    "return input { 2, 6, 8 }:avgpool { 2 }",
    "return input { 2, 7, 7 }:avgpool { 2, ceil = true }",
    "return input { 1, 9, 8 }:avgpool { 3, stride = 2, pad = 1 }",
    "return input { 1, 9, 8 }:avgpool { 3, stride = 2, pad = 1, count_include_pad = false }",
    "return input { 2, 6, 7 }:avgpool { kernel = { 3, 2 }, stride = 3, pad = { 1, 0, 2, 1 }, ceil = true }",
    "return input { 1, 6, 9 }:avgpool { 4, stride = 3, pad = \"same\", count_include_pad = false }",
    "return input { 3, 11 }:avgpool { 2, stride = 3, pad = { 1, 0 }, ceil = true }",
    "return input { 1, 4, 5, 6 }:avgpool { { 2, 3, 2 }, stride = { 2, 1, 2 } }",
    NULL
};

static const char *const global_avgpool_samples[] = {
    "return input { 3, 4, 5 }:global_avgpool()", "return input { 2, 7 }:global_avgpool()",
    "return input { 2, 2, 3, 4 }:global_avgpool()", NULL
};

const Op op_maxpool = {
    .name = "maxpool", .doc = "largest cell of every window", .attrs_size = sizeof(PoolAttrs),
    .method = {{"maxpool", 0}}, .kind = "maxpool", .args = maxpool_args, .operands = 1,
    .build = maxpool_build, .infer = pool_infer, .eval = maxpool_eval, .gradient = maxpool_gradient,
    .lower = maxpool_lower, .window = pool_window, .print_attrs = pool_print, .samples = maxpool_samples,
};

const Op op_maxpool_index = {
    .name = "maxpool_index", .doc = "the tap that wins every window", .attrs_size = sizeof(PoolAttrs),
    .infer = maxpool_index_infer, .eval = maxpool_index_eval, .lower = maxpool_index_lower,
    .print_attrs = pool_print,
};

const Op op_maxpool_grad = {
    .name = "maxpool_grad", .doc = "gradient of maxpool: the errors of the windows that a cell won",
    .attrs_size = sizeof(PoolAttrs),
    .infer = pool_grad_infer, .eval = maxpool_grad_eval, .lower = maxpool_grad_lower,
    .print_attrs = pool_print,
};

const Op op_avgpool = {
    .name = "avgpool", .doc = "mean of every window",
    .method = {{"avgpool", 0}}, .kind = "avgpool", .args = avgpool_args, .operands = 1,
    .build = avgpool_build, .samples = avgpool_samples,
};

const Op op_sumpool = {
    .name = "sumpool", .doc = "sum of every window", .attrs_size = sizeof(PoolAttrs),
    .infer = pool_infer, .eval = sumpool_eval, .gradient = sumpool_gradient, .lower = sumpool_lower,
    .window = pool_window, .print_attrs = pool_print,
};

const Op op_sumpool_grad = {
    .name = "sumpool_grad", .doc = "gradient of sumpool: the errors of the windows over a cell",
    .attrs_size = sizeof(PoolAttrs),
    .infer = pool_grad_infer, .eval = sumpool_grad_eval, .lower = sumpool_grad_lower,
    .print_attrs = pool_print,
};

const Op op_global_avgpool = {
    .name = "global_avgpool", .doc = "mean of every channel",
    .method = {{"global_avgpool", 0}}, .kind = "global_avgpool", .operands = 1,
    .build = global_avgpool_build, .samples = global_avgpool_samples,
};
