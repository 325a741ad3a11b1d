/* Arithmetic and smooth functions: y[i] = f(a[i], b[i]), all shapes equal.  The Lua
 * operators broadcast their operands first, so that the gradient of broadcasting
 * is the broadcast node's alone.  Functions made of pieces are in clamp.c. */
#include "ops.h"

#include <math.h>

void same_shape(Graph *g, Node *n)
{
    n->shape = n->in[0]->shape;
    for (int i = 1; i < n->ins; i++)
        if (!shape_equal(&n->shape, &n->in[i]->shape))
            fail(g->c, STATUS_FAULT, "%s: operands of shapes %s and %s", n->op->name,
                 shape_text(g->c, &n->shape, false), shape_text(g->c, &n->in[i]->shape, false));
}

static Node *unary(Graph *g, const Op *op, Node *x)
{
    return node_new(g, op, 1, &x, NULL);
}

static Node *binary(Graph *g, const Op *op, Node *a, Node *b)
{
    return node_new(g, op, 2, (Node *[]){a, b}, NULL);
}

static Node *unary_build(Call *call)
{
    return unary(call->g, call->op, call->tensor[0]);
}

/* Element of operand i of n. */
static Expr *operand(Lower *l, Node *n, int i, const Affine *index)
{
    return element(l, n->in[i], index);
}

/* -- + - * / -- */

/* NumPy's rule for the dims behind the batch: right-aligned, equal or 1. */
static Node *arithmetic_build(Call *call)
{
    Graph *g = call->g;
    Node *a = call->tensor[0], *b = call->tensor[1];
    bool batched = a->batched || b->batched;
    int rank_a = a->shape.rank - a->batched, rank_b = b->shape.rank - b->batched;
    int rank = rank_a > rank_b ? rank_a : rank_b;
    Shape shape = {.rank = rank + batched, .dim = {g->batch}};
    for (int k = 1; k <= rank; k++) {/* k-th dim from the right */
        int da = k <= rank_a ? a->shape.dim[a->shape.rank - k] : 1;
        int db = k <= rank_b ? b->shape.dim[b->shape.rank - k] : 1;
        if (da != db && da != 1 && db != 1)
            refuse(call, "shapes %s and %s do not broadcast: %d against %d",
                   shape_text(g->c, &a->shape, a->batched), shape_text(g->c, &b->shape, b->batched), da, db);
        shape.dim[shape.rank - k] = da == 1 ? db : da;
    }
    a = build_broadcast(g, a, &shape, batched);
    b = build_broadcast(g, b, &shape, batched);
    return binary(g, call->op, a, b);
}

POINTWISE_EVAL(add, a + b)
POINTWISE_EVAL(sub, a - b)
POINTWISE_EVAL(mul, a * b)
POINTWISE_EVAL(div, a / b)

static Expr *add_element(Lower *l, Node *n, const Affine *index)
{
    return expr_call(l, FN_ADD, operand(l, n, 0, index), operand(l, n, 1, index), NULL);
}

static Expr *sub_element(Lower *l, Node *n, const Affine *index)
{
    return expr_call(l, FN_SUB, operand(l, n, 0, index), operand(l, n, 1, index), NULL);
}

static Expr *mul_element(Lower *l, Node *n, const Affine *index)
{
    return expr_call(l, FN_MUL, operand(l, n, 0, index), operand(l, n, 1, index), NULL);
}

static Expr *div_element(Lower *l, Node *n, const Affine *index)
{
    return expr_call(l, FN_DIV, operand(l, n, 0, index), operand(l, n, 1, index), NULL);
}

/* d(a + b) = da + db */
static Node *add_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)g, (void)n, (void)i;
    return dy;
}

/* d(a - b) = da - db */
static Node *sub_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)n;
    return i == 0 ? dy : negate(g, dy);
}

/* d(a b) = b da + a db */
static Node *mul_gradient(Graph *g, Node *n, Node *dy, int i)
{
    return mul(g, dy, n->in[1 - i]);
}

/* y = a/b: dy = da/b - (y/b) db */
static Node *div_gradient(Graph *g, Node *n, Node *dy, int i)
{
    Node *da = divide(g, dy, n->in[1]);
    return i == 0 ? da : negate(g, mul(g, da, n));
}

/* Channel vectors of parameters join: (x f) s = x (f s), (x + t) + u = x + (t + u),
 * (x + t) s = x s + t s where x takes s into its weights.  In the last, x has no
 * other reader to be robbed of: channel terms are only made behind their own
 * layer's convolution or product, or behind a factor that was absorbed already. */
static Node *mul_absorb_scale(Graph *g, Node *n, Node *scale)
{
    Node *x, *factor = channel_factor(n, &x);
    return factor ? mul(g, x, along_channels(g, mul(g, factor, scale), x)) : NULL;
}

static Node *add_absorb_shift(Graph *g, Node *n, Node *shift)
{
    Node *x, *term = channel_term(n, &x);
    return term ? add(g, x, along_channels(g, add(g, term, shift), x)) : NULL;
}

static Node *add_absorb_scale(Graph *g, Node *n, Node *scale)
{
    Node *x, *term = channel_term(n, &x);
    Node *scaled = term && x->op->absorb_scale ? x->op->absorb_scale(g, x, scale) : NULL;
    if (!scaled)
        return NULL;
    if (!FAULT(g->c, FAULT_FOLD_BIAS))
        term = mul(g, term, scale);
    return add(g, scaled, along_channels(g, term, scaled));
}

static Node *channel_operand(Node *n, Node **rest)
{
    for (int i = 0; i < 2; i++) {
        Node *vector = channel_vector(n->in[i]);
        *rest = n->in[1 - i];
        if (vector && !params_only(*rest))
            return vector;
    }
    return NULL;
}

Node *channel_factor(Node *n, Node **rest)
{
    return n->op == &op_mul ? channel_operand(n, rest) : NULL;
}

Node *channel_term(Node *n, Node **rest)
{
    return n->op == &op_add ? channel_operand(n, rest) : NULL;
}

#define ARITHMETIC_SAMPLES(sign) (const char *const[]){                                           \
    "local x = input { 3, 4, 5 }; return x:sigmoid() " sign " (x:tanh() + 2)",                    \
    "local x = input { 2, 7 }; return (x " sign " 3) + (0.5 " sign " (x:exp() + 1))",             \
    "local x = input { 3, 4, 5 }; return x " sign " (x:global_avgpool():reshape { 3, 1, 1 }:sigmoid() + 1)", \
    "local x = input { 6 }; return x:reshape { 6, 1 } " sign " (x:reshape { 2, 1, 3 }:sigmoid() + 1)", \
    NULL}

const Op op_add = {
    .name = "add", .doc = "a + b, broadcast as NumPy does, batch aside",
    .traits = OP_POINTWISE, .method = {{"add", 0}}, .kind = "add", .operands = 2,
    .build = arithmetic_build, .infer = same_shape, .eval = add_eval, .gradient = add_gradient,
    .absorb_scale = add_absorb_scale, .absorb_shift = add_absorb_shift, .element = add_element,
    .samples = ARITHMETIC_SAMPLES("+"),
};

const Op op_sub = {
    .name = "sub", .doc = "a - b, broadcast as NumPy does, batch aside",
    .traits = OP_POINTWISE, .method = {{"sub", 0}}, .kind = "sub", .operands = 2,
    .build = arithmetic_build, .infer = same_shape, .eval = sub_eval, .gradient = sub_gradient,
    .element = sub_element, .samples = ARITHMETIC_SAMPLES("-"),
};

const Op op_mul = {
    .name = "mul", .doc = "a * b, broadcast as NumPy does, batch aside",
    .traits = OP_POINTWISE, .method = {{"mul", 0}}, .kind = "mul", .operands = 2,
    .build = arithmetic_build, .infer = same_shape, .eval = mul_eval, .gradient = mul_gradient,
    .absorb_scale = mul_absorb_scale, .element = mul_element, .samples = ARITHMETIC_SAMPLES("*"),
};

const Op op_div = {
    .name = "div", .doc = "a / b, broadcast as NumPy does, batch aside",
    .traits = OP_POINTWISE, .method = {{"div", 0}}, .kind = "div", .operands = 2,
    .build = arithmetic_build, .infer = same_shape, .eval = div_eval, .gradient = div_gradient,
    .element = div_element, .samples = ARITHMETIC_SAMPLES("/"),
};

/* -- functions of one number -- */

POINTWISE_EVAL(neg, -a)
POINTWISE_EVAL(exp, exp(a))
POINTWISE_EVAL(log, log(a))
POINTWISE_EVAL(sqrt, sqrt(a))
POINTWISE_EVAL(sigmoid, 1 / (1 + exp(-a)))
POINTWISE_EVAL(tanh, tanh(a))
POINTWISE_EVAL(copy, a)

static Expr *neg_element(Lower *l, Node *n, const Affine *index)
{
    return expr_call(l, FN_NEG, operand(l, n, 0, index), NULL, NULL);
}

static Expr *exp_element(Lower *l, Node *n, const Affine *index)
{
    return expr_call(l, FN_EXP, operand(l, n, 0, index), NULL, NULL);
}

static Expr *log_element(Lower *l, Node *n, const Affine *index)
{
    return expr_call(l, FN_LOG, operand(l, n, 0, index), NULL, NULL);
}

static Expr *sqrt_element(Lower *l, Node *n, const Affine *index)
{
    return expr_call(l, FN_SQRT, operand(l, n, 0, index), NULL, NULL);
}

static Expr *tanh_element(Lower *l, Node *n, const Affine *index)
{
    return expr_call(l, FN_TANH, operand(l, n, 0, index), NULL, NULL);
}

static Expr *sigmoid_element(Lower *l, Node *n, const Affine *index)
{
    Expr *power = expr_call(l, FN_EXP, expr_call(l, FN_NEG, operand(l, n, 0, index), NULL, NULL), NULL, NULL);
    return expr_call(l, FN_DIV, expr_float(l, 1), expr_call(l, FN_ADD, expr_float(l, 1), power, NULL), NULL);
}

static Expr *copy_element(Lower *l, Node *n, const Affine *index)
{
    return operand(l, n, 0, index);
}

/* (-x)' = -1 */
static Node *neg_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)n, (void)i;
    return negate(g, dy);
}

/* exp' = exp */
static Node *exp_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)i;
    return mul(g, dy, n);
}

/* log' x = 1/x */
static Node *log_gradient(Graph *g, Node *n, Node *dy, int i)
{
    return divide(g, dy, n->in[i]);
}

/* sqrt' x = 1 / (2 sqrt x) */
static Node *sqrt_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)i;
    return divide(g, mul_scalar(g, dy, 0.5), n);
}

/* y = 1/(1 + e^-x): y' = e^-x / (1 + e^-x)^2 = y (1 - y) */
static Node *sigmoid_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)i;
    return mul(g, dy, mul(g, n, sub(g, constant_like(g, 1, n), n)));
}

/* tanh' = 1 - tanh^2 */
static Node *tanh_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)i;
    return mul(g, dy, sub(g, constant_like(g, 1, n), mul(g, n, n)));
}

static Node *copy_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)g, (void)n, (void)i;
    return dy;
}

#define UNARY_SAMPLES(call) (const char *const[]){                                                \
    "return input { 3, 4, 5 }" call, "return input { 2, 7 }" call, "return input { 10 }" call,    \
    "return input { 2, 3, 2, 3 }" call, NULL}

const Op op_neg = {
    .name = "neg", .doc = "-x", .traits = OP_POINTWISE | OP_CHEAP,
    .method = {{"neg", 0}}, .kind = "neg", .operands = 1, .build = unary_build, .infer = same_shape,
    .eval = neg_eval, .gradient = neg_gradient, .element = neg_element, .samples = UNARY_SAMPLES(":neg()"),
};

const Op op_exp = {
    .name = "exp", .doc = "e to the x", .traits = OP_POINTWISE,
    .method = {{"exp", 0}}, .kind = "exp", .operands = 1, .build = unary_build, .infer = same_shape,
    .eval = exp_eval, .gradient = exp_gradient, .element = exp_element, .samples = UNARY_SAMPLES(":exp()"),
};

const Op op_log = {
    .name = "log", .doc = "natural logarithm", .traits = OP_POINTWISE,
    .method = {{"log", 0}}, .kind = "log", .operands = 1, .build = unary_build, .infer = same_shape,
    .eval = log_eval, .gradient = log_gradient, .element = log_element,
    .samples = UNARY_SAMPLES(":sigmoid():log()"),
};

const Op op_sqrt = {
    .name = "sqrt", .doc = "square root", .traits = OP_POINTWISE,
    .method = {{"sqrt", 0}}, .kind = "sqrt", .operands = 1, .build = unary_build, .infer = same_shape,
    .eval = sqrt_eval, .gradient = sqrt_gradient, .element = sqrt_element,
    .samples = UNARY_SAMPLES(":sigmoid():sqrt()"),
};

const Op op_sigmoid = {
    .name = "sigmoid", .doc = "1 / (1 + e^-x)", .traits = OP_POINTWISE,
    .method = {{"sigmoid", 0}}, .kind = "sigmoid", .operands = 1, .build = unary_build,
    .infer = same_shape, .eval = sigmoid_eval, .gradient = sigmoid_gradient, .element = sigmoid_element,
    .samples = UNARY_SAMPLES(":sigmoid()"),
};

const Op op_tanh = {
    .name = "tanh", .doc = "hyperbolic tangent", .traits = OP_POINTWISE,
    .method = {{"tanh", 0}}, .kind = "tanh", .operands = 1, .build = unary_build, .infer = same_shape,
    .eval = tanh_eval, .gradient = tanh_gradient, .element = tanh_element,
    .samples = UNARY_SAMPLES(":tanh()"),
};

const Op op_copy = {
    .name = "copy", .doc = "x itself, in a place of its own", .traits = OP_POINTWISE | OP_CHEAP,
    .infer = same_shape, .eval = copy_eval, .gradient = copy_gradient, .element = copy_element,
};

/* -- builders -- */

Node *add(Graph *g, Node *a, Node *b)
{
    return binary(g, &op_add, a, b);
}

Node *sub(Graph *g, Node *a, Node *b)
{
    return binary(g, &op_sub, a, b);
}

Node *mul(Graph *g, Node *a, Node *b)
{
    return binary(g, &op_mul, a, b);
}

Node *divide(Graph *g, Node *a, Node *b)
{
    return binary(g, &op_div, a, b);
}

Node *mul_scalar(Graph *g, Node *a, double factor)
{
    return factor == 1 ? a : mul(g, a, constant_like(g, factor, a));
}

Node *add_scalar(Graph *g, Node *a, double term)
{
    return add(g, a, constant_like(g, term, a));
}

Node *negate(Graph *g, Node *a)
{
    return unary(g, &op_neg, a);
}

Node *exponential(Graph *g, Node *a)
{
    return unary(g, &op_exp, a);
}

Node *logarithm(Graph *g, Node *a)
{
    return unary(g, &op_log, a);
}

Node *square_root(Graph *g, Node *a)
{
    return unary(g, &op_sqrt, a);
}
