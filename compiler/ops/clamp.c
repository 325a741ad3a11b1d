/* Activations made of straight pieces: relu, relu6, clip, leaky_relu, and the gate
 * that is the gradient of all of them. */
#include "ops.h"

#include <math.h>

/* y = min(max(x, low), high); either bound may be infinite. */
typedef struct ClampAttrs {
    double low, high;
    int64_t inclusive;        /* does dy pass where x equals a bound? */
} ClampAttrs;

/* y = dy where x is between the bounds, dy * outside elsewhere */
typedef struct GateAttrs {
    double low, high, outside;
    int64_t inclusive;
} GateAttrs;

static double clamp(const Node *n, double x)
{
    const ClampAttrs *at = n->attrs;
    return fmin(fmax(x, at->low), at->high);
}

static bool inside(const GateAttrs *at, double x)
{
    return at->inclusive ? at->low <= x && x <= at->high : at->low < x && x < at->high;
}

static double gate(const Node *n, double x, double dy)
{
    const GateAttrs *at = n->attrs;
    return inside(at, x) ? dy : at->outside * dy;
}

POINTWISE_EVAL(clamp, clamp(n, a))
POINTWISE_EVAL(gate, gate(n, a, b))
POINTWISE_EVAL(leaky_relu, a > 0 ? a : *(const double *)n->attrs * a)

static Expr *clamp_element(Lower *l, Node *n, const Affine *index)
{
    const ClampAttrs *at = n->attrs;
    Expr *x = element(l, n->in[0], index);
    if (isfinite(at->low))
        x = expr_call(l, FN_MAX, x, expr_float(l, at->low), NULL);
    if (isfinite(at->high))
        x = expr_call(l, FN_MIN, x, expr_float(l, at->high), NULL);
    return x;
}

static Expr *gate_element(Lower *l, Node *n, const Affine *index)
{
    const GateAttrs *at = n->attrs;
    Fn less = at->inclusive ? FN_LE : FN_LT;
    Expr *x = element(l, n->in[0], index), *dy = element(l, n->in[1], index);
    Expr *above = expr_call(l, less, expr_float(l, at->low), x, NULL);
    Expr *below = expr_call(l, less, x, expr_float(l, at->high), NULL);
    Expr *open = !isfinite(at->high) ? above : !isfinite(at->low) ? below
        : expr_call(l, FN_AND, above, below, NULL);
    Expr *shut = at->outside == 0 ? expr_float(l, 0)
        : expr_call(l, FN_MUL, expr_float(l, at->outside), dy, NULL);
    return expr_call(l, FN_SELECT, open, dy, shut);
}

static Expr *leaky_relu_element(Lower *l, Node *n, const Affine *index)
{
    Expr *x = element(l, n->in[0], index);
    Expr *below = expr_call(l, FN_MUL, expr_float(l, *(const double *)n->attrs), x, NULL);
    return expr_call(l, FN_SELECT, expr_call(l, FN_LT, expr_float(l, 0), x, NULL), x, below);
}

/* y' = 1 between the bounds, 0 outside.  With strict bounds y lies between them
 * just where x does, and x need not be kept. */
static Node *clamp_gradient(Graph *g, Node *n, Node *dy, int i)
{
    const ClampAttrs *at = n->attrs;
    GateAttrs gate = {at->low, at->high, 0, at->inclusive};
    return node_new(g, &op_gate, 2, (Node *[]){at->inclusive ? n->in[i] : n, dy}, &gate);
}

/* y' = 1 for x > 0, the slope elsewhere */
static Node *leaky_relu_gradient(Graph *g, Node *n, Node *dy, int i)
{
    GateAttrs gate = {0, INFINITY, *(const double *)n->attrs, false};
    return node_new(g, &op_gate, 2, (Node *[]){n->in[i], dy}, &gate);
}

static Node *relu_build(Call *call)
{
    return node_new(call->g, &op_relu, 1, call->tensor, &(ClampAttrs){0, INFINITY, false});
}

static Node *relu6_build(Call *call)
{
    return node_new(call->g, &op_relu6, 1, call->tensor, &(ClampAttrs){0, 6, false});
}

static Node *clip_build(Call *call)
{
    double low = call->arg[0].number, high = call->arg[1].number;
    if (low > high)
        refuse(call, "min %g is above max %g", low, high);
    return node_new(call->g, &op_clip, 1, call->tensor, &(ClampAttrs){low, high, true});
}

static Node *leaky_relu_build(Call *call)
{
    return node_new(call->g, &op_leaky_relu, 1, call->tensor, &call->arg[0].number);
}

static void clip_print(const Node *n, Text *t)
{
    const ClampAttrs *at = n->attrs;
    text_add(t, " min %g max %g", at->low, at->high);
}

static void gate_print(const Node *n, Text *t)
{
    const GateAttrs *at = n->attrs;
    text_add(t, " open %g..%g", at->low, at->high);
}

static void leaky_relu_print(const Node *n, Text *t)
{
    text_add(t, " slope %g", *(const double *)n->attrs);
}

#define CLAMP(title)                                                                              \
    .name = title, .traits = OP_POINTWISE | OP_CHEAP, .attrs_size = sizeof(ClampAttrs),           \
    .method = {{title, 0}}, .kind = title, .operands = 1, .infer = same_shape,                    \
    .eval = clamp_eval, .gradient = clamp_gradient, .element = clamp_element

const Op op_relu = {
    CLAMP("relu"), .doc = "max(x, 0)", .build = relu_build,
    .samples = (const char *const[]){
        "return input { 3, 4, 5 }:relu()", "return input { 2, 7 }:relu()", "return input { 9 }:relu()",
        "return input { 2, 3, 2, 3 }:relu()", NULL},
};

const Op op_relu6 = {
    CLAMP("relu6"), .doc = "min(max(x, 0), 6)", .build = relu6_build,
    .samples = (const char *const[]){
        "return (input { 3, 4, 5 } * 8):relu6()", "return (input { 2, 7 } * 8):relu6()", NULL},
};

const Op op_clip = {
    CLAMP("clip"), .doc = "min(max(x, min), max)", .build = clip_build, .print_attrs = clip_print,
    .args = (const ArgSpec[]){
        {"min", ARG_NUMBER, .positional = true, .required = true, .low = -INFINITY, .doc = "lower bound"},
        {"max", ARG_NUMBER, .positional = true, .required = true, .low = -INFINITY, .doc = "upper bound"},
        {.kind = ARG_END}},
    .samples = (const char *const[]){
        "return input { 3, 4, 5 }:clip { -0.5, 0.25 }",
        "return input { 2, 7 }:clip { min = 0, max = 1 }", NULL},
};

const Op op_leaky_relu = {
    .name = "leaky_relu", .doc = "x for x > 0, else slope * x", .traits = OP_POINTWISE,
    .attrs_size = sizeof(double), .method = {{"leaky_relu", 0}}, .kind = "leaky_relu", .operands = 1,
    .args = (const ArgSpec[]){
        {"slope", ARG_NUMBER, .positional = true, .standard = 0.01, .low = -INFINITY,
          .doc = "factor below zero"},
        {.kind = ARG_END}},
    .build = leaky_relu_build, .infer = same_shape, .eval = leaky_relu_eval, .gradient = leaky_relu_gradient,
    .element = leaky_relu_element, .print_attrs = leaky_relu_print,
    .samples = (const char *const[]){
        "return input { 3, 4, 5 }:leaky_relu()", "return input { 2, 7 }:leaky_relu { 0.2 }",
        "return input { 2, 2, 3, 2 }:leaky_relu { slope = 0.1 }", NULL},
};

const Op op_gate = {
    .name = "gate", .doc = "dy where x is within bounds, else a share of it (gradients of relu and its kin)",
    .traits = OP_POINTWISE, .attrs_size = sizeof(GateAttrs), .infer = same_shape,
    .eval = gate_eval, .element = gate_element, .print_attrs = gate_print,
};
