/* m:forward(x) and m:backward(x, y): tensors of a script through a model. */
#include "runtime.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>

enum { MAX_TENSORS = 32 };

/* The tensors of one call of forward or backward. */
typedef struct Pass {
    Model *m;
    int n;                    /* samples; 0: not known yet */
    bool single;              /* given and returned without the batch */
    void *in[MAX_TENSORS];    /* by Input.index */
    void *out[MAX_TENSORS];   /* by Program.output, or one an input with a gradient */
    float loss;
} Pass;

static int count_inputs(const Graph *net, bool loss_only)
{
    int count = 0;
    for (int i = 0; i < net->inputs; i++)
        count += net->input[i]->loss_only == loss_only;
    return count;
}

/* Checks a tensor against an input; it may lack the batch. */
static void check_shape(lua_State *L, Pass *pass, const Input *input, const Tensor *t)
{
    Shape sample = shape_of(input->shape.rank - 1, input->shape.dim + 1);
    bool single = shape_equal(&t->shape, &sample);
    Shape rest = t->shape.rank ? shape_of(t->shape.rank - 1, t->shape.dim + 1) : sample;
    if (!single && (t->shape.rank != input->shape.rank || !shape_equal(&rest, &sample)))
        luaL_error(L, "%s: found %s, expected %s or several of them", input->name,
                   script_shape_text(L, &t->shape), script_shape_text(L, &sample));
    int n = single ? 1 : t->shape.dim[0];
    if (pass->n && (n != pass->n || single != pass->single))
        luaL_error(L, "%s: found %d samples, expected %d as before", input->name, n, pass->n);
    pass->n = n;
    pass->single = single;
}

/* Pushes memory with the tensor's numbers as generated code takes them. */
static void *push_native(lua_State *L, const Input *input, const Tensor *t)
{
    int count = shape_count(&t->shape);
    void *memory = lua_newuserdatauv(L, (size_t)count * sizeof(float), 0);
    for (int i = 0; i < count; i++) {
        double value = t->data[i];
        if (input->dtype == F32) {
            ((float *)memory)[i] = (float)value;
            continue;
        }
        if (!(value >= 0 && value < input->classes && value == floor(value)))
            luaL_error(L, "%s: label %d: found %f, expected a whole number from 0 to %d", input->name, i + 1,
                       value, input->classes - 1);
        ((int32_t *)memory)[i] = (int32_t)value;
    }
    return memory;
}

/* Takes the inputs of one kind from a stack index: the tensor itself where there
 * is one, a table by name where there are more. */
static void take_inputs(lua_State *L, Pass *pass, int index, bool loss_only)
{
    const Graph *net = model_net(pass->m);
    int count = count_inputs(net, loss_only);
    if (net->inputs > MAX_TENSORS)
        luaL_error(L, "%s: found %d inputs, expected at most %d", pass->m->network, net->inputs, MAX_TENSORS);
    luaL_checkstack(L, 2 * count + 8, NULL);
    for (int i = 0; i < net->inputs; i++) {
        const Input *input = net->input[i];
        if (input->loss_only != loss_only)
            continue;
        if (count == 1)
            lua_pushvalue(L, index);
        else if (!lua_istable(L, index) || lua_getfield(L, index, input->name) == LUA_TNIL)
            luaL_error(L, "%s: input \"%s\" is missing: found a %s, expected a table by name",
                       pass->m->network, input->name, luaL_typename(L, index));
        const Tensor *t = script_tensor_at(L, -1);
        check_shape(L, pass, input, t);
        pass->in[i] = push_native(L, input, t);
    }
}

/* Pushes a tensor of n samples (or one, without the batch) like `shape`. */
static void push_result(lua_State *L, const Pass *pass, const Shape *shape, const float *value)
{
    Shape result = pass->single ? shape_of(shape->rank - 1, shape->dim + 1) : *shape;
    if (!pass->single)
        result.dim[0] = pass->n;
    Tensor *t = script_tensor_push(L, &result);
    for (int i = 0, count = shape_count(&result); i < count; i++)
        t->data[i] = (double)value[i];
}

static float *push_room(lua_State *L, const Pass *pass, const Shape *shape)
{
    size_t sample = (size_t)(shape_count(shape) / shape->dim[0]);
    return lua_newuserdatauv(L, (size_t)pass->n * sample * sizeof(float), 0);
}

static void forward(void *argument)
{
    Pass *pass = argument;
    const Graph *net = model_net(pass->m);
    const float *in[MAX_TENSORS];
    float *out[MAX_TENSORS];
    int next = 0;
    for (int i = 0; i < net->inputs; i++)
        if (!net->input[i]->loss_only)
            in[next++] = pass->in[i];
    for (int i = 0; i < model_program(pass->m)->outputs; i++)
        out[i] = pass->out[i];
    model_forward(pass->m, pass->n, in, out);
}

/* m:forward(x): the output, or a table by name where there are several */
int script_forward(lua_State *L)
{
    Pass pass = { .m = script_model_at(L, 1) };
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    take_inputs(L, &pass, 2, false);
    const Program *p = model_program(pass.m);
    if (p->outputs > MAX_TENSORS)
        luaL_error(L, "%s: found %d outputs, expected at most %d", pass.m->network, p->outputs, MAX_TENSORS);
    luaL_checkstack(L, p->outputs + 8, NULL);
    for (int i = 0; i < p->outputs; i++)
        pass.out[i] = push_room(L, &pass, &p->output[i].node->shape);
    guarded(L, pass.m->c, forward, &pass);
    if (p->outputs == 1) {
        push_result(L, &pass, &p->output[0].node->shape, pass.out[0]);
        return 1;
    }
    lua_createtable(L, 0, p->outputs);
    for (int i = 0; i < p->outputs; i++) {
        push_result(L, &pass, &p->output[i].node->shape, pass.out[i]);
        lua_setfield(L, -2, p->output[i].name);
    }
    return 1;
}

static void backward(void *argument)
{
    Pass *pass = argument;
    Model *m = pass->m;
    Code *code = model_code_input_grad(m, pass->n);
    pass->loss = code->backward(code, m->params, pass->in, m->grad, pass->out, m->workspace,
                                m->options.seed, false);
}

/* m:backward(x, y): the mean loss, and the gradient of the input (or a table of
 * gradients by name); m:grads() then has those of the parameters. */
int script_backward(lua_State *L)
{
    Pass pass = { .m = script_model_at(L, 1) };
    if (!pass.m->options.train)
        luaL_error(L, "%s: backward: the model was compiled without training", pass.m->network);
    luaL_checkany(L, 2);
    lua_settop(L, 3);
    take_inputs(L, &pass, 2, false);
    take_inputs(L, &pass, 3, true);
    const Graph *net = model_net(pass.m);
    int count = count_inputs(net, false), next = 0;
    luaL_checkstack(L, count + 8, NULL);
    for (int i = 0; i < net->inputs; i++)
        if (!net->input[i]->loss_only)
            pass.out[next++] = push_room(L, &pass, &net->input[i]->shape);
    guarded(L, pass.m->c, backward, &pass);
    lua_pushnumber(L, (double)pass.loss);
    if (count != 1)
        lua_createtable(L, 0, count);
    next = 0;
    for (int i = 0; i < net->inputs; i++) {
        if (net->input[i]->loss_only)
            continue;
        push_result(L, &pass, &net->input[i]->shape, pass.out[next++]);
        if (count != 1)
            lua_setfield(L, -2, net->input[i]->name);
    }
    return 2;
}
