/* Batch norm and dropout: what a mode turns into arithmetic. */
#include "ops.h"

#include <math.h>
#include <string.h>

/* -- normalize -- */

/* A statistic of x as a number of its own: what flows back to x through it is normalize's to say. */
static Expr *held_element(Lower *l, Node *n, const Affine *index)
{
    return element(l, n->in[0], index);
}

static void held_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    memcpy(out->data, in[0]->data, (size_t)shape_count(&n->shape) * sizeof *out->data);
}

static Node *held_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)g, (void)n, (void)dy, (void)i;
    return NULL;
}

const Op op_held = {
    .name = "held", .doc = "x, through which no gradient flows", .traits = OP_POINTWISE | OP_CHEAP,
    .infer = same_shape, .eval = held_eval, .gradient = held_gradient, .element = held_element,
};

/* x - mean, which is never worth storing. */
static void centred_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    for (int i = 0, count = shape_count(&n->shape); i < count; i++)
        out->data[i] = in[0]->data[i] - in[1]->data[i];
}

static Expr *centred_element(Lower *l, Node *n, const Affine *index)
{
    return expr_call(l, FN_SUB, element(l, n->in[0], index), element(l, n->in[1], index), NULL);
}

const Op op_centred = {
    .name = "centred", .doc = "x - mean, in gradients of normalize", .traits = OP_POINTWISE | OP_CHEAP,
    .infer = same_shape, .eval = centred_eval, .element = centred_element,
};

/* Operands: x; then, along its channels, mean, scale = gamma rstd, shift = beta and, for gradients
 * alone, rstd.  Mean and rstd are statistics of x itself. */
enum { NORM_X, NORM_MEAN, NORM_SCALE, NORM_SHIFT, NORM_RSTD, NORM_INS };

static Node *normalize(Graph *g, Node *x, Node *mean, Node *rstd, Node *gamma, Node *beta)
{
    Node *held = node_new(g, &op_held, 1, &rstd, NULL);
    Node *in[NORM_INS] = {[NORM_MEAN] = mean, [NORM_SCALE] = mul(g, gamma, held), [NORM_SHIFT] = beta,
                          [NORM_RSTD] = rstd};
    for (int i = NORM_MEAN; i < NORM_INS; i++)
        in[i] = along_channels(g, in[i], x);
    in[NORM_X] = x;
    return node_new(g, &op_normalize, NORM_INS, in, NULL);
}

/* What lies along the channels, a number each. */
static Node *by_channel(const Node *n, int operand)
{
    return n->in[operand]->in[0];
}

static void normalize_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    for (int i = 0, count = shape_count(&n->shape); i < count; i++) {
        double centred = in[NORM_X]->data[i] - in[NORM_MEAN]->data[i];
        out->data[i] = centred * in[NORM_SCALE]->data[i] + in[NORM_SHIFT]->data[i];
    }
}

static Expr *normalize_element(Lower *l, Node *n, const Affine *index)
{
    Expr *in[NORM_SHIFT + 1];
    for (int i = 0; i <= NORM_SHIFT; i++)
        in[i] = element(l, n->in[i], index);
    Expr *centred = expr_call(l, FN_SUB, in[NORM_X], in[NORM_MEAN], NULL);
    return expr_call(l, FN_ADD, expr_call(l, FN_MUL, centred, in[NORM_SCALE], NULL), in[NORM_SHIFT], NULL);
}

/* y = gamma r d + beta with d = x - mean(x), r = 1/sqrt(mean(d^2) + eps), per channel:
 * dr/dx_j = -r^3 d_j / count, so
 * dx_j = gamma r (dy_j - mean(dy) - d_j r^2 mean(dy d)) = a dy_j + b d_j + c, the whole gradient:
 * nothing more flows through mean and rstd.  The sums behind the two means are also those of the
 * gradients of beta and gamma (Ioffe and Szegedy, Batch Normalization, ICML 2015). */
static Node *normalize_gradient(Graph *g, Node *n, Node *dy, int i)
{
    if (i == NORM_MEAN || i == NORM_RSTD)
        return NULL;
    if (i == NORM_SHIFT)
        return dy;
    Node *centred = node_new(g, &op_centred, 2, n->in, NULL), *dyd = mul(g, dy, centred);
    if (i == NORM_SCALE)
        return dyd;
    unsigned axes = ~(1u << 1);
    double count = (double)shape_count(&n->shape) / n->shape.dim[1];
    Node *rstd = by_channel(n, NORM_RSTD), *a = by_channel(n, NORM_SCALE);
    Node *b = mul(g, mul(g, a, mul(g, rstd, rstd)), mul_scalar(g, reduce_sum(g, dyd, axes), -1 / count));
    Node *c = mul(g, a, mul_scalar(g, reduce_sum(g, dy, axes), -1 / count));
    Node *passed = add(g, mul(g, dy, along_channels(g, a, n)), along_channels(g, c, n));
    return add(g, mul(g, centred, along_channels(g, b, n)), passed);
}

const Op op_normalize = {
    .name = "normalize", .doc = "(x - mean) * gamma * rstd + beta, mean and rstd those of x itself",
    .traits = OP_POINTWISE | OP_CHEAP, .infer = same_shape, .eval = normalize_eval,
    .gradient = normalize_gradient, .element = normalize_element,
};

/* -- batchnorm -- */

typedef struct BatchnormAttrs { double eps, momentum; } BatchnormAttrs;

enum { BN_X, BN_GAMMA, BN_BETA, BN_MEAN, BN_VAR, BN_INS };

/* As at inference; in training it is gone before anything is evaluated. */
static void batchnorm_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    const BatchnormAttrs *at = n->attrs;
    int channels = n->shape.dim[1], size = 1;
    for (int d = 2; d < n->shape.rank; d++)
        size *= n->shape.dim[d];
    for (int i = 0, count = shape_count(&n->shape); i < count; i++) {
        int k = i / size % channels;
        double xhat = (in[BN_X]->data[i] - in[BN_MEAN]->data[k]) / sqrt(in[BN_VAR]->data[k] + at->eps);
        out->data[i] = xhat * in[BN_GAMMA]->data[k] + in[BN_BETA]->data[k];
    }
}

/* 1 / sqrt(var + eps) */
static Node *inverse_deviation(Graph *g, Node *var, double eps)
{
    Node *deviation = square_root(g, add_scalar(g, var, eps));
    return divide(g, constant_like(g, 1, var), deviation);
}

/* (x - mean) gamma / sqrt(var + eps) + beta = x s + t with s = gamma / sqrt(var + eps), t = beta - mean s */
static Node *batchnorm_inference(Graph *g, const BatchnormAttrs *at, Node **in)
{
    Node *s = mul(g, in[BN_GAMMA], inverse_deviation(g, in[BN_VAR], at->eps));
    Node *t = sub(g, in[BN_BETA], mul(g, in[BN_MEAN], s));
    Node *scaled = mul(g, in[BN_X], along_channels(g, s, in[BN_X]));
    return add(g, scaled, along_channels(g, t, in[BN_X]));
}

/* statistic <- (1 - momentum) statistic + momentum value */
static void update(Graph *g, Node *statistic, Node *value, double momentum)
{
    Node *next = add(g, mul_scalar(g, statistic, 1 - momentum), mul_scalar(g, value, momentum));
    root_add(g, (Root){.kind = ROOT_UPDATE, .node = next, .param = statistic->param});
}

static Node *batchnorm_training(Graph *g, const BatchnormAttrs *at, Node **in)
{
    Node *x = in[BN_X];
    unsigned axes = ~(1u << 1);
    double count = (double)shape_count(&x->shape) / x->shape.dim[1];
    if (count < 2)
        fail(g->c, STATUS_INPUT, "%s: batchnorm: found one value per channel (shape %s, batch %d), expected "
             "more in training: use a larger batch", g->current ? g->current->where : g->name,
             shape_text(g->c, &x->shape, true), g->batch);
    Node *mean = mul_scalar(g, reduce_sum(g, x, axes), 1 / count);
    Node *centred = sub(g, x, along_channels(g, mean, x));
    Node *var = mul_scalar(g, reduce_sum(g, mul(g, centred, centred), axes), 1 / count);
    Node *rstd = inverse_deviation(g, var, at->eps);
    double unbiased = FAULT(g->c, FAULT_BIASED_VARIANCE) ? 1 : count / (count - 1);
    update(g, in[BN_MEAN], mean, at->momentum);
    update(g, in[BN_VAR], mul_scalar(g, var, unbiased), at->momentum);
    return normalize(g, x, mean, rstd, in[BN_GAMMA], in[BN_BETA]);
}

static Node *batchnorm_specialise(Graph *g, Node *n, Node **in, bool training)
{
    return training ? batchnorm_training(g, n->attrs, in) : batchnorm_inference(g, n->attrs, in);
}

static Node *batchnorm_build(Call *call)
{
    Graph *g = call->g;
    Node *x = call->tensor[0];
    if (!x->batched || x->shape.rank < 2)
        refuse(call, "found a scalar, expected a tensor with channels");
    BatchnormAttrs at = {call->arg[0].number, call->arg[1].number};
    Shape shape = {.rank = 1, .dim = {x->shape.dim[1]}};
    Node *in[BN_INS] = {
        [BN_X] = x,
        [BN_GAMMA] = param_new(g, call->layer, "weight", shape, INIT_CONSTANT, 1, NULL, true),
        [BN_BETA] = param_new(g, call->layer, "bias", shape, INIT_CONSTANT, 0, NULL, true),
        [BN_MEAN] = param_new(g, call->layer, "running_mean", shape, INIT_CONSTANT, 0, NULL, false),
        [BN_VAR] = param_new(g, call->layer, "running_var", shape, INIT_CONSTANT, 1, NULL, false),
    };
    in[BN_MEAN]->param->statistic = in[BN_VAR]->param->statistic = true;
    return node_new(g, &op_batchnorm, BN_INS, in, &at);
}

static void batchnorm_infer(Graph *g, Node *n)
{
    (void)g;
    n->shape = n->in[BN_X]->shape;
}

static void batchnorm_print(const Node *n, Text *t)
{
    const BatchnormAttrs *at = n->attrs;
    text_add(t, " eps %g momentum %g", at->eps, at->momentum);
}

const Op op_batchnorm = {
    .name = "batchnorm", .doc = "each channel brought to mean 0 and variance 1, then to learnt ones",
    .attrs_size = sizeof(BatchnormAttrs), .method = {{"batchnorm", 0}}, .kind = "batchnorm",
    .operands = 1,
    .args = (const ArgSpec[]){
        {"eps", ARG_NUMBER, .standard = 1e-5, .doc = "added to the variance"},
        {"momentum", ARG_NUMBER, .standard = 0.1, .high = 1, .doc = "a batch's share in the statistics"},
        {"name", ARG_NAME, .doc = "of the layer"},
        {.kind = ARG_END}},
    .build = batchnorm_build, .infer = batchnorm_infer, .eval = batchnorm_eval,
    .specialise = batchnorm_specialise, .print_attrs = batchnorm_print,
    .samples = (const char *const[]){
        "return input { 3, 4, 5 }:batchnorm()",
        "return input { 2, 7 }:batchnorm { eps = 0.01, momentum = 0.3 }",
        "return input { 2, 2, 3, 2 }:batchnorm():relu()", "return input { 4 }:linear { 3 }:batchnorm()",
        "return input { 2, 5, 5 }:conv2d { 3, kernel = 3 }:batchnorm():relu()", NULL},
};

/* -- dropout -- */

/* stream: a number of its own for every dropout of a network */
typedef struct DropoutAttrs { double p; int64_t stream; } DropoutAttrs;

/* Initial values draw from the streams below, one per parameter. */
enum { FIRST_STREAM = 1 << 30 };

static double keep_factor(const DropoutAttrs *at)
{
    return at->p < 1 ? 1 / (1 - at->p) : 0;
}

static void dropout_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)n, (void)b;
    for (int i = 0, count = shape_count(&out->shape); i < count; i++)
        out->data[i] = in[0]->data[i];
}

/* Dropped or not is decided by the element's position in the whole batch. */
static void drop_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c;
    const DropoutAttrs *at = n->attrs;
    for (int i = 0, count = shape_count(&out->shape); i < count; i++) {
        bool keep = random_unit(b->seed, (uint32_t)at->stream, (uint32_t)i) >= (float)at->p;
        out->data[i] = keep ? in[0]->data[i] * keep_factor(at) : 0;
    }
}

static Expr *drop_element(Lower *l, Node *n, const Affine *index)
{
    const DropoutAttrs *at = n->attrs;
    Affine position = affine_constant(0);
    for (int d = 0; d < n->shape.rank; d++)
        position = affine_sum(affine_times(position, n->shape.dim[d]), index[d]);
    Expr *unit = expr_call(l, FN_RANDOM, expr_int(l, (int)at->stream), expr_affine(l, position), NULL);
    Expr *keep = expr_call(l, FN_LE, expr_float(l, at->p), unit, NULL);
    Expr *x = expr_call(l, FN_MUL, element(l, n->in[0], index), expr_float(l, keep_factor(at)), NULL);
    return expr_call(l, FN_SELECT, keep, x, expr_float(l, 0));
}

/* Linear in x: what was dropped or scaled forward is so backward, by the same numbers. */
static Node *drop_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)i;
    return node_new(g, &op_drop, 1, &dy, n->attrs);
}

static Node *dropout_specialise(Graph *g, Node *n, Node **in, bool training)
{
    return training ? node_new(g, &op_drop, 1, in, n->attrs) : in[0];
}

static Node *dropout_build(Call *call)
{
    Graph *g = call->g;
    DropoutAttrs at = {call->arg[0].number, FIRST_STREAM};
    for (int i = 0; i < g->nodes; i++)
        at.stream += g->node[i]->op == &op_dropout;
    return node_new(g, &op_dropout, 1, call->tensor, &at);
}

static void dropout_print(const Node *n, Text *t)
{
    const DropoutAttrs *at = n->attrs;
    text_add(t, " p %g stream %d", at->p, (int)at->stream - FIRST_STREAM);
}

const Op op_dropout = {
    .name = "dropout", .doc = "in training each element is 0 with probability p, else divided by 1 - p",
    .attrs_size = sizeof(DropoutAttrs), .method = {{"dropout", 0}}, .kind = "dropout", .operands = 1,
    .args = (const ArgSpec[]){
        {"p", ARG_NUMBER, .positional = true, .standard = 0.5, .high = 1, .doc = "probability of 0"},
        {.kind = ARG_END}},
    .build = dropout_build, .infer = same_shape, .eval = dropout_eval, .specialise = dropout_specialise,
    .print_attrs = dropout_print,
    .samples = (const char *const[]){
        "return input { 3, 4, 5 }:dropout()",
        "return input { 20 }:dropout { 0.3 }:linear { 4 }:dropout { p = 0.1 }",
        "return input { 2, 7 }:tanh():dropout { 0.5 }", NULL},
};

const Op op_drop = {
    .name = "drop", .doc = "dropout in training, by random numbers that depend on seed and position alone",
    .traits = OP_POINTWISE | OP_PLACED, .attrs_size = sizeof(DropoutAttrs), .infer = same_shape,
    .eval = drop_eval, .gradient = drop_gradient, .element = drop_element, .print_attrs = dropout_print,
};
