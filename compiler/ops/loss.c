/* Losses: cross_entropy and mse, means over the batch that training makes small. */
#include "ops.h"

#include <math.h>

static const char *name_or(const Arg *name, const char *standard)
{
    return name->given ? name->text : standard;
}

/* -- one_hot -- */

typedef struct OneHotAttrs { int classes; } OneHotAttrs;

/* label (N, positions...) -> (N, classes, positions...) */
static void one_hot_infer(Graph *g, Node *n)
{
    (void)g;
    const Shape *label = &n->in[0]->shape;
    const OneHotAttrs *at = n->attrs;
    n->shape = (Shape){.rank = label->rank + 1, .dim = {label->dim[0], at->classes}};
    for (int d = 1; d < label->rank; d++)
        n->shape.dim[d + 1] = label->dim[d];
}

static void one_hot_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    int classes = n->shape.dim[1], labels = shape_count(&in[0]->shape), positions = labels / n->shape.dim[0];
    for (int i = 0; i < labels; i++) {
        int k = (int)in[0]->data[i];
        if (k >= 0 && k < classes)
            out->data[(i / positions * classes + k) * positions + i % positions] = 1;
    }
}

static Expr *one_hot_element(Lower *l, Node *n, const Affine *index)
{
    Affine at[MAX_RANK] = {index[0]};
    for (int d = 2; d < n->shape.rank; d++)
        at[d - 1] = index[d];
    Expr *hit = expr_call(l, FN_EQ, element(l, n->in[0], at), expr_affine(l, index[1]), NULL);
    return expr_call(l, FN_SELECT, hit, expr_float(l, 1), expr_float(l, 0));
}

const Op op_one_hot = {
    .name = "one_hot", .doc = "1 where the class is the label, else 0", .traits = OP_CHEAP,
    .attrs_size = sizeof(OneHotAttrs), .infer = one_hot_infer, .eval = one_hot_eval,
    .element = one_hot_element,
};

static Node *one_hot(Graph *g, Node *label, int classes)
{
    OneHotAttrs at = {classes};
    return node_new(g, &op_one_hot, 1, &label, &at);
}

/* -- cross_entropy -- */

/* operands: x (N, classes, positions...), label (N, positions...) */
static void cross_entropy_infer(Graph *g, Node *n)
{
    (void)g;
    n->shape = (Shape){.rank = 0};
    n->batched = false;
}

static void cross_entropy_eval(Context *c, const Node *n, const Bindings *b,
                               const Tensor *const *in, Tensor *out)
{
    (void)c, (void)n, (void)b;
    int classes = in[0]->shape.dim[1], labels = shape_count(&in[1]->shape);
    int positions = labels / in[0]->shape.dim[0];
    double loss = 0;
    for (int i = 0; i < labels; i++) {
        const double *x = in[0]->data + (int64_t)(i / positions) * classes * positions + i % positions;
        double max = -INFINITY, sum = 0;
        for (int k = 0; k < classes; k++)
            max = fmax(max, x[k * positions]);
        for (int k = 0; k < classes; k++)
            sum += exp(x[k * positions] - max);
        int label = (int)in[1]->data[i];
        if (label >= 0 && label < classes)
            loss += max + log(sum) - x[label * positions];
    }
    out->data[0] = loss / labels;
}

/* L = -mean(log softmax(x)[label]): dL/dx = (softmax(x) - one_hot(label)) / count */
static Node *cross_entropy_gradient(Graph *g, Node *n, Node *dy, int i)
{
    if (i > 0)
        return NULL;
    Node *x = n->in[0], *label = n->in[1];
    Node *error = sub(g, softmax(g, x, 1), one_hot(g, label, x->shape.dim[1]));
    Node *share = mul_scalar(g, dy, 1.0 / shape_count(&label->shape));
    return mul(g, error, unreduce(g, share, x, ~0u));
}

static Node *cross_entropy_expand(Graph *g, Node *n, Node **in)
{
    (void)n;
    Node *likelihood = log_softmax_primitives(g, in[0], 1);
    Node *chosen = mul(g, one_hot(g, in[1], in[0]->shape.dim[1]), likelihood);
    return mul_scalar(g, reduce_sum(g, chosen, ~0u), -1.0 / shape_count(&in[1]->shape));
}

static Node *cross_entropy_build(Call *call)
{
    Graph *g = call->g;
    Node *x = call->tensor[0];
    if (!x->batched || x->shape.rank < 2)
        refuse(call, "found a scalar, expected scores of classes on axis 1");
    Shape shape = {.rank = 1, .dim = {g->batch}};
    for (int d = 2; d < x->shape.rank; d++)
        shape.dim[shape.rank++] = x->shape.dim[d];
    Node *label = input_new(g, name_or(&call->arg[0], "label"), shape, I32, true, x->shape.dim[1]);
    return node_new(g, &op_cross_entropy, 2, (Node *[]){x, label}, NULL);
}

#define CROSS_ENTROPY_SAMPLE(x) "local x = " x "; return model { output = x, loss = x:cross_entropy() }"

const Op op_cross_entropy = {
    .name = "cross_entropy", .doc = "mean of -log softmax(x)[label] over batch and positions",
    .method = {{"cross_entropy", 0}}, .kind = "cross_entropy", .operands = 1,
    .args = (const ArgSpec[]){
        {"name", ARG_INPUT_NAME, .doc = "of the label input (\"label\")"},
        {.kind = ARG_END}},
    .build = cross_entropy_build, .infer = cross_entropy_infer, .eval = cross_entropy_eval,
    .gradient = cross_entropy_gradient, .expand = cross_entropy_expand,
    .samples = (const char *const[]){
        CROSS_ENTROPY_SAMPLE("input { 5 }:linear { 4 }"), CROSS_ENTROPY_SAMPLE("input { 3, 4, 5 } * 2"),
        CROSS_ENTROPY_SAMPLE("input { 4, 6 }:tanh()"), NULL},
};

/* -- mse -- */

/* Primitives all the way: their gradients give 2 (x - target) / count. */
static Node *mse_build(Call *call)
{
    Graph *g = call->g;
    Node *x = call->tensor[0];
    if (!x->batched)
        refuse(call, "found a scalar, expected a tensor");
    Node *error = sub(g, x, input_new(g, name_or(&call->arg[0], "target"), x->shape, F32, true, 0));
    return mul_scalar(g, reduce_sum(g, mul(g, error, error), ~0u), 1.0 / shape_count(&x->shape));
}

#define MSE_SAMPLE(x) "local x = " x "; return model { output = x, loss = x:mse() }"

const Op op_mse = {
    .name = "mse", .doc = "mean of (x - target)^2 over all elements",
    .method = {{"mse", 0}}, .kind = "mse", .operands = 1,
    .args = (const ArgSpec[]){
        {"name", ARG_INPUT_NAME, .doc = "of the target input (\"target\")"},
        {.kind = ARG_END}},
    .build = mse_build,
    .samples = (const char *const[]){
        MSE_SAMPLE("input { 5 }:linear { 4 }"), MSE_SAMPLE("input { 3, 4, 5 }:sigmoid()"),
        MSE_SAMPLE("input { 2, 6 } * 0.5"), NULL},
};
