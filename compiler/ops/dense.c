/* linear, and the matrix product that it and its gradients are. */
#include "ops.h"

/* y = a' b', where a' is a or its transpose: (M, K) times (K, N) */
typedef struct MatmulAttrs { int transpose_a, transpose_b; } MatmulAttrs;

static int inner_size(const Node *n)
{
    const MatmulAttrs *at = n->attrs;
    return n->in[0]->shape.dim[at->transpose_a ? 0 : 1];
}

static void matmul_infer(Graph *g, Node *n)
{
    const MatmulAttrs *at = n->attrs;
    const Shape *a = &n->in[0]->shape, *b = &n->in[1]->shape;
    if (a->rank != 2 || b->rank != 2 || b->dim[at->transpose_b ? 1 : 0] != inner_size(n))
        fail(g->c, STATUS_FAULT, "matmul: %s and %s do not fit", shape_text(g->c, a, false),
             shape_text(g->c, b, false));
    n->shape.rank = 2;
    n->shape.dim[0] = a->dim[at->transpose_a ? 1 : 0];
    n->shape.dim[1] = b->dim[at->transpose_b ? 0 : 1];
    n->batched = !at->transpose_a && n->in[0]->batched;
}

static void matmul_eval(Context *c, const Node *n, const Bindings *bindings,
                        const Tensor *const *in, Tensor *out)
{
    (void)c, (void)bindings;
    const MatmulAttrs *at = n->attrs;
    int rows = n->shape.dim[0], columns = n->shape.dim[1], inner = inner_size(n);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            double sum = 0;
            for (int k = 0; k < inner; k++)
                sum += in[0]->data[at->transpose_a ? k * rows + i : i * inner + k]
                     * in[1]->data[at->transpose_b ? j * inner + k : k * columns + j];
            out->data[i * columns + j] = sum;
        }
}

/* Y = A'B': dA' = dY B'^T and dB' = A'^T dY; where an operand was transposed, so is
 * its gradient: (dY B'^T)^T = B' dY^T and (A'^T dY)^T = dY^T A'. */
static Node *matmul_gradient(Graph *g, Node *n, Node *dy, int i)
{
    const MatmulAttrs *at = n->attrs;
    Node *a = n->in[0], *b = n->in[1];
    if (i == 0)
        return at->transpose_a ? matmul(g, b, dy, at->transpose_b, true)
                               : matmul(g, dy, b, false, !at->transpose_b);
    return at->transpose_b ? matmul(g, dy, a, true, at->transpose_a)
                           : matmul(g, a, dy, !at->transpose_a, false);
}

static void matmul_lower(Lower *l, Node *n)
{
    const MatmulAttrs *at = n->attrs;
    Nest *nest = nest_open(l);
    Affine row = nest_axis(nest, n->batched ? "n" : "m", n->shape.dim[0], false);
    Affine column = nest_axis(nest, "o", n->shape.dim[1], false);
    Affine k = nest_axis(nest, "k", inner_size(n), true);
    Expr *a = element(l, n->in[0], at->transpose_a ? (Affine[]){k, row} : (Affine[]){row, k});
    Expr *b = element(l, n->in[1], at->transpose_b ? (Affine[]){column, k} : (Affine[]){k, column});
    nest_close(l, n, nest, REDUCE_SUM, expr_call(l, FN_MUL, a, b, NULL), NULL, (Affine[]){row, column});
}

/* Column j of the product is column j of b' alone: scaled with it. */
static Node *matmul_absorb_scale(Graph *g, Node *n, Node *factor)
{
    const MatmulAttrs *at = n->attrs;
    if (!n->batched || !params_only(n->in[1]))
        return NULL;
    Node *weight = scaled_along(g, n->in[1], at->transpose_b ? 0 : 1, factor);
    return matmul(g, n->in[0], weight, at->transpose_a, at->transpose_b);
}

static int64_t matmul_macs(const Node *n)
{
    return (int64_t)shape_count(&n->shape) * inner_size(n);
}

static void matmul_print(const Node *n, Text *t)
{
    const MatmulAttrs *at = n->attrs;
    text_add(t, "%s%s", at->transpose_a ? " a^T" : "", at->transpose_b ? " b^T" : "");
}

const Op op_matmul = {
    .name = "matmul", .doc = "product of two matrices, either transposed first",
    .attrs_size = sizeof(MatmulAttrs), .infer = matmul_infer, .eval = matmul_eval,
    .gradient = matmul_gradient, .absorb_scale = matmul_absorb_scale, .lower = matmul_lower,
    .macs = matmul_macs, .print_attrs = matmul_print,
};

Node *matmul(Graph *g, Node *a, Node *b, bool transpose_a, bool transpose_b)
{
    MatmulAttrs at = {transpose_a, transpose_b};
    return node_new(g, &op_matmul, 2, (Node *[]){a, b}, &at);
}

/* -- linear -- */

enum { LINEAR_OUT, LINEAR_BIAS, LINEAR_WEIGHT, LINEAR_TRAINABLE };

static const ArgSpec linear_args[] = {
    [LINEAR_OUT] = {"out", ARG_INT, .positional = true, .required = true, .low = 1, .doc = "neurons"},
    [LINEAR_BIAS] = {"bias", ARG_BIAS, .standard = 1, .doc = "add a number per neuron, or a table of them"},
    [LINEAR_WEIGHT] = {"weight", ARG_LITERAL, .doc = "fixed initial weights, {out, in}"},
    [LINEAR_TRAINABLE] = {"trainable", ARG_BOOL, .standard = 1, .doc = "false: optimisers leave it alone"},
    {"name", ARG_NAME, .doc = "of the layer"},
    {.kind = ARG_END}
};

/* x (N, F), weight (out, F): x weight^T + bias */
static Node *linear_build(Call *call)
{
    Graph *g = call->g;
    Node *x = call->tensor[0];
    if (!x->batched || x->shape.rank != 2)
        refuse(call, "found input %s, expected a row of features: flatten() it first",
               shape_text(g->c, &x->shape, x->batched));
    const Arg *bias = &call->arg[LINEAR_BIAS];
    int features = x->shape.dim[1], out = (int)call->arg[LINEAR_OUT].number;
    bool trainable = call->arg[LINEAR_TRAINABLE].flag;
    Shape shape = {.rank = 2, .dim = {out, features}};
    Node *weight = weight_param(call, &call->arg[LINEAR_WEIGHT], shape, features, trainable);
    Node *y = matmul(g, x, weight, false, true);
    if (!bias->flag && !bias->literal)
        return y;
    return add(g, y, along_channels(g, bias_param(call, bias, out, features, trainable), y));
}

const Op op_linear = {
    .name = "linear", .doc = "every output a weighted sum of all inputs", .method = {{"linear", 0}},
    .kind = "linear", .args = linear_args, .operands = 1, .build = linear_build,
    .samples = (const char *const[]){
        "return input { 7 }:linear { 5 }",
        "return input { 3 }:linear { 4, bias = false }:tanh():linear { 2 }",
        "return input { 2 }:linear { 3, weight = { { 1, 2 }, { 3, 4 }, { 5, 6 } }, bias = { 0.5, -1, 0 } }",
        "return input { 2, 3, 2 }:flatten():linear { 4 }:batchnorm():relu()",
        "return input { 3 }:linear { 4, trainable = false }:sigmoid():linear { 1 }", NULL},
};
