/* Reductions over axes, and softmax, which is made of them. */
#include "ops.h"

#include <math.h>

/* -- reduce_sum, reduce_max -- */

typedef struct ReduceAttrs { unsigned axes; } ReduceAttrs;

static bool reduced(const Node *n, int d)
{
    return ((const ReduceAttrs *)n->attrs)->axes >> d & 1;
}

static void reduce_infer(Graph *g, Node *n)
{
    (void)g;
    const Shape *x = &n->in[0]->shape;
    for (int d = 0; d < x->rank; d++)
        if (!reduced(n, d))
            n->shape.dim[n->shape.rank++] = x->dim[d];
    n->batched = n->in[0]->batched && !reduced(n, 0);
}

/* Calls combine(&out, x) for every x and the out that it goes into. */
static void reduce(const Node *n, const Tensor *x, Tensor *out, void (*combine)(double *, double))
{
    int from[MAX_RANK] = {0}, i = 0;
    do {
        int to[MAX_RANK] = {0}, rank = 0;
        for (int d = 0; d < x->shape.rank; d++)
            if (!reduced(n, d))
                to[rank++] = from[d];
        combine(&out->data[index_flat(&out->shape, to)], x->data[i++]);
    } while (index_next(&x->shape, from));
}

static void combine_sum(double *sum, double x)
{
    *sum += x;
}

static void combine_max(double *max, double x)
{
    *max = x > *max ? x : *max;
}

static void reduce_sum_eval(Context *c, const Node *n, const Bindings *b,
                            const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    reduce(n, in[0], out, combine_sum);
}

static void reduce_max_eval(Context *c, const Node *n, const Bindings *b,
                            const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    for (int i = 0, count = shape_count(&out->shape); i < count; i++)
        out->data[i] = -INFINITY;
    reduce(n, in[0], out, combine_max);
}

/* Each term of a sum has the sum's gradient. */
static Node *reduce_sum_gradient(Graph *g, Node *n, Node *dy, int i)
{
    return unreduce(g, dy, n->in[i], ((const ReduceAttrs *)n->attrs)->axes);
}

static void reduce_lower(Lower *l, Node *n, ReduceKind kind)
{
    Nest *nest = nest_open(l);
    Node *x = n->in[0];
    Affine from[MAX_RANK], to[MAX_RANK];
    int rank = 0;
    for (int d = 0; d < x->shape.rank; d++)
        if (!reduced(n, d))
            from[d] = to[rank++] = nest_axis(nest, axis_name(x, d), x->shape.dim[d], false);
    for (int d = 0; d < x->shape.rank; d++)
        if (reduced(n, d))
            from[d] = nest_axis(nest, axis_name(x, d), x->shape.dim[d], true);
    nest_close(l, n, nest, kind, element(l, x, from), NULL, to);
}

static void reduce_sum_lower(Lower *l, Node *n)
{
    reduce_lower(l, n, REDUCE_SUM);
}

static void reduce_max_lower(Lower *l, Node *n)
{
    reduce_lower(l, n, REDUCE_MAX);
}

static void reduce_print(const Node *n, Text *t)
{
    for (int d = 0; d < n->in[0]->shape.rank; d++)
        if (reduced(n, d))
            text_add(t, " %s", axis_name(n->in[0], d));
}

const Op op_reduce_sum = {
    .name = "reduce_sum", .doc = "sum over some axes", .traits = OP_READS_ONCE,
    .attrs_size = sizeof(ReduceAttrs), .infer = reduce_infer, .eval = reduce_sum_eval,
    .gradient = reduce_sum_gradient, .lower = reduce_sum_lower, .print_attrs = reduce_print,
};

/* No gradient: it only shifts an exponent, where its influence cancels. */
const Op op_reduce_max = {
    .name = "reduce_max", .doc = "largest over some axes", .traits = OP_READS_ONCE,
    .attrs_size = sizeof(ReduceAttrs), .infer = reduce_infer, .eval = reduce_max_eval,
    .lower = reduce_max_lower, .print_attrs = reduce_print,
};

static Node *reduction(Graph *g, const Op *op, Node *x, unsigned axes)
{
    axes &= (1u << x->shape.rank) - 1;
    ReduceAttrs at = {axes};
    return axes ? node_new(g, op, 1, &x, &at) : x;
}

Node *reduce_sum(Graph *g, Node *x, unsigned axes)
{
    return reduction(g, &op_reduce_sum, x, axes);
}

Node *reduce_max(Graph *g, Node *x, unsigned axes)
{
    return reduction(g, &op_reduce_max, x, axes);
}

/* -- softmax, log_softmax -- */

typedef struct SoftmaxAttrs { int axis; } SoftmaxAttrs;

static unsigned softmax_axes(const Node *n)
{
    return 1u << ((const SoftmaxAttrs *)n->attrs)->axis;
}

static void log_softmax_eval(Context *c, const Node *n, const Bindings *b,
                             const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    int axis = ((const SoftmaxAttrs *)n->attrs)->axis, length = n->shape.dim[axis], step = 1;
    for (int d = axis + 1; d < n->shape.rank; d++)
        step *= n->shape.dim[d];
    for (int i = 0, rows = shape_count(&n->shape) / length; i < rows; i++) {
        const double *x = in[0]->data + i / step * length * step + i % step;
        double *y = out->data + (x - in[0]->data), max = -INFINITY, sum = 0;
        for (int k = 0; k < length; k++)
            max = fmax(max, x[k * step]);
        for (int k = 0; k < length; k++)
            sum += exp(x[k * step] - max);
        for (int k = 0; k < length; k++)
            y[k * step] = x[k * step] - max - log(sum);
    }
}

static void softmax_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    log_softmax_eval(c, n, b, in, out);
    for (int i = 0, count = shape_count(&n->shape); i < count; i++)
        out->data[i] = exp(out->data[i]);
}

/* y_k = e^x_k / sum e^x: dy_k/dx_j = y_k ([k = j] - y_j), so dx = y (dy - sum(dy y)) */
static Node *softmax_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)i;
    unsigned axes = softmax_axes(n);
    Node *sum = reduce_sum(g, mul(g, dy, n), axes);
    return mul(g, n, sub(g, dy, unreduce(g, sum, n, axes)));
}

/* y_k = x_k - log sum e^x: dy_k/dx_j = [k = j] - softmax_j, so dx = dy - softmax(x) sum(dy) */
static Node *log_softmax_gradient(Graph *g, Node *n, Node *dy, int i)
{
    unsigned axes = softmax_axes(n);
    Node *sum = unreduce(g, reduce_sum(g, dy, axes), n, axes);
    return sub(g, dy, mul(g, softmax(g, n->in[i], ((const SoftmaxAttrs *)n->attrs)->axis), sum));
}

/* x less its maximum, so that no exponential overflows. */
static Node *shifted(Graph *g, Node *x, unsigned axes)
{
    return sub(g, x, unreduce(g, reduce_max(g, x, axes), x, axes));
}

static Node *softmax_expand(Graph *g, Node *n, Node **in)
{
    unsigned axes = softmax_axes(n);
    Node *power = exponential(g, shifted(g, in[0], axes));
    return divide(g, power, unreduce(g, reduce_sum(g, power, axes), power, axes));
}

Node *log_softmax_primitives(Graph *g, Node *x, int axis)
{
    unsigned axes = 1u << axis;
    Node *z = shifted(g, x, axes);
    Node *sum = reduce_sum(g, exponential(g, z), axes);
    return sub(g, z, unreduce(g, logarithm(g, sum), z, axes));
}

static Node *log_softmax_expand(Graph *g, Node *n, Node **in)
{
    return log_softmax_primitives(g, in[0], ((const SoftmaxAttrs *)n->attrs)->axis);
}

Node *softmax(Graph *g, Node *x, int axis)
{
    SoftmaxAttrs at = {axis};
    return node_new(g, &op_softmax, 1, &x, &at);
}

static Node *softmax_build(Call *call)
{
    SoftmaxAttrs at = {axis_of(call, &call->arg[0], call->tensor[0])};
    return node_new(call->g, call->op, 1, call->tensor, &at);
}

static void softmax_print(const Node *n, Text *t)
{
    text_add(t, " axis %d", ((const SoftmaxAttrs *)n->attrs)->axis);
}

static const ArgSpec softmax_args[] = {
    {"axis", ARG_INT, .positional = true, .standard = 1, .low = 1, .doc = "1 = channels"},
    {.kind = ARG_END}
};

#define SOFTMAX(title)                                                                            \
    .name = title, .attrs_size = sizeof(SoftmaxAttrs), .method = {{title, 0}}, .kind = title,     \
    .args = softmax_args, .operands = 1, .build = softmax_build, .infer = same_shape,             \
    .print_attrs = softmax_print, .samples = (const char *const[]){                               \
        "return input { 5 }:" title "()", "return input { 3, 4, 5 }:" title "()",                 \
        "return input { 2, 7 }:" title " { axis = 2 }",                                           \
        "return input { 2, 3, 2, 2 }:" title " { axis = 3 }", NULL}

const Op op_softmax = {
    SOFTMAX("softmax"), .doc = "e^x over the sum of e^x along an axis",
    .eval = softmax_eval, .gradient = softmax_gradient, .expand = softmax_expand,
};

const Op op_log_softmax = {
    SOFTMAX("log_softmax"), .doc = "logarithm of softmax",
    .eval = log_softmax_eval, .gradient = log_softmax_gradient, .expand = log_softmax_expand,
};
