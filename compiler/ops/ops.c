/* The op table, the leaves of the graph, and what all families share. */
#include "ops.h"

#include <math.h>
#include <string.h>

/* -- leaves -- */

static void copy_values(const double *from, Tensor *out)
{
    memcpy(out->data, from, (size_t)shape_count(&out->shape) * sizeof *from);
}

static void input_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)in;
    const double *value = b->input[n->input->index];
    if (!value)
        fail(c, STATUS_FAULT, "eval: input \"%s\" has no value", n->input->name);
    copy_values(value, out);
}

static void param_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)in;
    copy_values(b->param[n->param->index], out);
}

static void scalar_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b, (void)in;
    out->data[0] = n->value;
}

static Expr *scalar_element(Lower *l, Node *n, const Affine *index)
{
    (void)index;
    return expr_float(l, n->value);
}

static void input_print(const Node *n, Text *t)
{
    text_add(t, " %s", n->input->name);
}

static void param_print(const Node *n, Text *t)
{
    text_add(t, " %s", n->param->name);
}

static void scalar_print(const Node *n, Text *t)
{
    text_add(t, " %.9g", n->value);
}

static const Op input_row = {
    .name = "input", .doc = "what the caller passes in", .traits = OP_LEAF,
    .eval = input_eval, .print_attrs = input_print,
};

static const Op param_row = {
    .name = "param", .doc = "an entry of the state_dict", .traits = OP_LEAF,
    .eval = param_eval, .print_attrs = param_print,
};

static const Op scalar_row = {
    .name = "scalar", .doc = "a constant", .traits = OP_LEAF,
    .eval = scalar_eval, .element = scalar_element, .print_attrs = scalar_print,
};

const Op *op_input(void)
{
    return &input_row;
}

const Op *op_param(void)
{
    return &param_row;
}

const Op *op_scalar(void)
{
    return &scalar_row;
}

/* -- the table -- */

static const Op *const table[] = {
    &op_conv, &op_linear,
    &op_maxpool, &op_avgpool, &op_global_avgpool,
    &op_relu, &op_relu6, &op_clip, &op_leaky_relu, &op_sigmoid, &op_tanh,
    &op_exp, &op_log, &op_sqrt, &op_neg, &op_add, &op_sub, &op_mul, &op_div,
    &op_softmax, &op_log_softmax, &op_batchnorm, &op_dropout,
    &op_flatten, &op_reshape, &op_concat,
    &op_cross_entropy, &op_mse,
    NULL
};

const Op *const *op_table(void)
{
    return table;
}

const Op *op_arithmetic(char sign)
{
    switch (sign) {
    case '+': return &op_add;
    case '-': return &op_sub;
    case '*': return &op_mul;
    case '/': return &op_div;
    }
    return NULL;
}

/* -- calls -- */

void refuse(const Call *call, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    const char *reason = vformat(call->g->c, text, args);
    va_end(args);
    fail(call->g->c, STATUS_INPUT, "%s: %s", call->method, reason);
}

int axis_of(const Call *call, const Arg *axis, const Node *x)
{
    int axes = x->batched ? x->shape.rank - 1 : 0;
    if (axes == 0)
        refuse(call, "a scalar has no axes");
    if (axis->number > axes)
        refuse(call, "axis %.0f: a tensor of shape %s has axes 1 to %d", axis->number,
               shape_text(call->g->c, &x->shape, true), axes);
    return (int)axis->number;                    /* dim 0 is the batch */
}

static Node *layer_param(Call *call, const char *suffix, const Arg *literal, Shape shape, int fan_in,
                         bool trainable)
{
    Graph *g = call->g;
    if (!literal->literal)
        return param_new(g, call->layer, suffix, shape, INIT_UNIFORM, (float)(1 / sqrt(fan_in)), NULL,
                         trainable);
    if (!shape_equal(&literal->shape, &shape))
        refuse(call, "%s: found a table of shape %s, expected %s", suffix,
               shape_text(g->c, &literal->shape, false), shape_text(g->c, &shape, false));
    return param_new(g, call->layer, suffix, shape, INIT_LITERAL, 0, literal->literal, trainable);
}

Node *weight_param(Call *call, const Arg *literal, Shape shape, int fan_in, bool trainable)
{
    return layer_param(call, "weight", literal, shape, fan_in, trainable);
}

Node *bias_param(Call *call, const Arg *literal, int count, int fan_in, bool trainable)
{
    return layer_param(call, "bias", literal, shape_of(1, &count), fan_in, trainable);
}

/* -- indices -- */

bool index_next(const Shape *s, int *index)
{
    for (int d = s->rank - 1; d >= 0; d--) {
        if (++index[d] < s->dim[d])
            return true;
        index[d] = 0;
    }
    return false;
}

int index_flat(const Shape *s, const int *index)
{
    int flat = 0;
    for (int d = 0; d < s->rank; d++)
        flat = flat * s->dim[d] + index[d];
    return flat;
}

/* -- parameters -- */

/* Parameters have no batch, so the search stops at the first activation. */
bool params_only(const Node *n)
{
    if (n->batched)
        return false;
    for (int i = 0; i < n->ins; i++)
        if (!params_only(n->in[i]))
            return false;
    return true;
}

/* -- builders for the passes -- */

Node *build_add(Graph *g, Node *a, Node *b)
{
    return add(g, a, b);
}

Node *build_copy(Graph *g, Node *x)
{
    return node_new(g, &op_copy, 1, &x, NULL);
}

Node *build_broadcast(Graph *g, Node *x, const Shape *shape, bool batched)
{
    if (shape_equal(&x->shape, shape))
        return x;
    int map[MAX_RANK], shift = shape->rank - x->shape.rank;
    for (int d = 0; d < shape->rank; d++)
        map[d] = d - shift >= x->batched ? d - shift : -1;
    if (x->batched)
        map[0] = 0;                              /* the batch stays in front */
    return broadcast(g, x, *shape, batched, map);
}
