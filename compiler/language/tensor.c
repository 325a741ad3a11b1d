/* Tensors and operations as Lua sees them.
 *
 * A tensor is a userdata that holds a Node.  Its methods, the arithmetic and the
 * global functions follow from the op table; a call becomes a Layer with a name, its
 * options read by args.c, and what op->build makes of it. */
#include "language.h"

#include <math.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

enum { MAX_CALLS = 20000 };
static const char tensor_type[] = "tensor";

/* -- values -- */

static void tensor_push(lua_State *L, Node *n)
{
    *(Node **)lua_newuserdatauv(L, sizeof n, 0) = n;
    luaL_setmetatable(L, tensor_type);
}

Node *tensor_at(lua_State *L, int at)
{
    Node **n = luaL_testudata(L, at, tensor_type);
    return n ? *n : NULL;
}

/* -- names -- */

static int *counter_of(Frontend *f, const char *kind)
{
    for (int i = 0; i < f->counters; i++)
        if (strcmp(f->counter[i].kind, kind) == 0)
            return &f->counter[i].used;
    PUSH(f->c, f->counter, f->counters) = (struct Counter){kind, 0};
    return &f->counter[f->counters - 1].used;
}

/* The name given, or the kind with its number: named layers are not counted. */
static void name_layer(Frontend *f, Layer *layer, const char *given, int *counter, const char *kind)
{
    layer->named = given != NULL;
    layer->name = given ? given : format(f->c, "%s%d", kind, *counter + 1);
    for (int i = 0; i < f->g->layers; i++)
        if (strcmp(f->g->layer[i]->name, layer->name) == 0)
            fail(f->c, STATUS_INPUT, "the %sname \"%s\" is taken by the layer at %s",
                 given ? "" : "automatic ", layer->name, f->g->layer[i]->where);
}

static const char *given_name(const Op *op, const Arg *args)
{
    for (int i = 0; op->args && op->args[i].kind != ARG_END; i++)
        if (op->args[i].kind == ARG_NAME)
            return args[i].text;
    return NULL;
}

/* -- calls -- */

/* A call in the making. */
typedef struct Making {
    lua_State *L;
    Frontend *f;
    const Op *op;
    const struct Method *method;
    const char *name;         /* of the method */
    int values;               /* Lua arguments of the call */
    const char *position, *callers;
    Node **tensor;            /* operands */
    int tensors;
    int options;              /* stack index of the option table, 0: none */
    Node *result;
} Making;

static _Noreturn void refuse_operand(Making *m, const char *expected, int at)
{
    fail(m->f->c, STATUS_INPUT, "expects %s, found %s", expected, value_text(m->L, at, m->f->c));
}

/* x:method { options } */
static void receiver(Making *m)
{
    Node *x = tensor_at(m->L, 1);
    if (!x)
        refuse_operand(m, format(m->f->c, "a tensor before a colon, x:%s", m->name), 1);
    else if (x->shape.rank == 0)
        fail(m->f->c, STATUS_INPUT, "a loss is one number; layers take tensors with dimensions");
    if (m->values > 2)
        fail(m->f->c, STATUS_INPUT, "expects one table of options, found %d values", m->values - 1);
    m->tensor = NEW(m->f->c, Node *);
    m->tensor[m->tensors++] = x;
    m->options = m->values < 2 ? 0 : 2;
}

/* concat(a, b, ...) or concat { a, b, ..., options } */
static void several(Making *m)
{
    lua_State *L = m->L;
    bool table = m->values == 1 && lua_type(L, 1) == LUA_TTABLE;
    int count = table ? (int)lua_rawlen(L, 1) : m->values;
    if (count == 0)
        fail(m->f->c, STATUS_INPUT, "expects tensors, found none");
    m->tensor = NEW_ARRAY(m->f->c, Node *, count);
    for (int i = 1; i <= count; i++) {
        if (table)
            lua_rawgeti(L, 1, i);
        else
            lua_pushvalue(L, i);
        Node *x = tensor_at(L, -1);
        if (!x)
            refuse_operand(m, format(m->f->c, "a tensor as entry %d", i), -1);
        m->tensor[m->tensors++] = x;
        lua_pop(L, 1);
    }
    m->options = table ? 1 : 0;
}

/* a + b: tensors or numbers.  Constants become nodes, so the layer must be current. */
static void operands(Making *m)
{
    if (m->values != 2)
        fail(m->f->c, STATUS_INPUT, "expects two operands, found %d", m->values);
    m->tensor = NEW_ARRAY(m->f->c, Node *, 2);
    for (int i = 1; i <= 2; i++) {
        Node *x = tensor_at(m->L, i);
        if (!x) {
            double value = lua_type(m->L, i) == LUA_TNUMBER ? lua_tonumber(m->L, i) : NAN;
            if (!isfinite((float)value))
                refuse_operand(m, "tensors or numbers that a 32-bit float can hold", i);
            x = scalar_new(m->f->g, value);
        }
        m->tensor[m->tensors++] = x;
    }
}

static void record_layer(Making *m, Layer *layer)
{
    Context *c = m->f->c;
    layer->output = m->result;
    layer->from = NEW_ARRAY(c, Node *, m->tensors);
    for (int i = 0; i < m->tensors; i++)
        if (!(m->tensor[i]->op->traits & OP_LEAF) || m->tensor[i]->input)     /* no constants */
            layer->from[layer->froms++] = m->tensor[i];
    PUSH(c, m->f->g->layer, m->f->g->layers) = layer;
}

static void make(void *argument)
{
    Making *m = argument;
    Frontend *f = m->f;
    const Op *op = m->op;
    if (f->calls++ >= MAX_CALLS)
        fail(f->c, STATUS_INPUT, "the network has more than %d operations", MAX_CALLS);
    Layer *layer = NEW(f->c, Layer);
    layer->method = m->name;
    layer->where = format(f->c, "%s%s", m->position, m->callers);
    f->g->current = layer;
    if (op->operands == 1)
        receiver(m);
    else if (op->operands == 2)
        operands(m);
    else
        several(m);
    int spatial = m->method && m->method->spatial ? m->method->spatial : m->tensor[0]->shape.rank - 2;
    const Arg *args = args_read(m->L, m->options, f->g, op, m->name, spatial);
    const char *kind = op->kind ? op->kind : op->name, *given = given_name(op, args);
    int *counter = counter_of(f, kind);
    name_layer(f, layer, given, counter, kind);
    Call call = {f->g, op, m->name, m->tensor, m->tensors, args, layer};
    m->result = op->build(&call);
    record_layer(m, layer);
    *counter += given == NULL;
}

/* Upvalues: op, method (NULL for arithmetic). */
static int call_op(lua_State *L)
{
    Making m = {.L = L, .f = sandbox_frontend(L), .values = lua_gettop(L)};
    m.op = lua_touserdata(L, lua_upvalueindex(1));
    m.method = lua_touserdata(L, lua_upvalueindex(2));
    m.name = m.method ? m.method->name : m.op->name;
    sandbox_push_position(L);
    m.position = lua_tostring(L, -1);
    sandbox_push_callers(L);
    m.callers = lua_tostring(L, -1);
    sandbox_attempt(L, m.name, make, &m);
    tensor_push(L, m.result);
    return 1;
}

static void push_op(lua_State *L, const Op *op, const struct Method *method)
{
    lua_pushlightuserdata(L, (void *)op);
    lua_pushlightuserdata(L, (void *)method);
    lua_pushcclosure(L, call_op, 2);
}

/* -x is x * -1 */
static int negate(lua_State *L)
{
    lua_settop(L, 1);
    push_op(L, op_arithmetic('*'), NULL);
    lua_insert(L, 1);
    lua_pushinteger(L, -1);
    lua_call(L, 2, 1);
    return 1;
}

/* -- input { dims..., name = "image" } -- */

static const ArgSpec input_args[] = {
    {"dims", ARG_SHAPE, .positional = true, .required = true, .low = 1, .doc = "sizes, without the batch"},
    {"name", ARG_INPUT_NAME, .doc = "of the input, in C"},
    {.kind = ARG_END}
};
static const Op input_call = {.name = "input", .args = input_args};

static void make_input(void *argument)
{
    Making *m = argument;
    Graph *g = m->f->g;
    if (m->values != 1)
        fail(g->c, STATUS_INPUT, "expects one table of sizes, input { ... }, found %d values", m->values);
    const Arg *args = args_read(m->L, 1, g, &input_call, "input", 0);
    Shape s = {.rank = 1 + args[0].count, .dim = {g->batch}};
    if (args[0].count > 1 + MAX_SPATIAL)
        fail(g->c, STATUS_INPUT, "expects 1 to %d dimensions, found %d", 1 + MAX_SPATIAL, args[0].count);
    memcpy(s.dim + 1, args[0].dim, (size_t)args[0].count * sizeof(int));
    m->result = input_new(g, args[1].given ? args[1].text : "input", s, F32, false, 0);
}

static int input(lua_State *L)
{
    Making m = {.L = L, .f = sandbox_frontend(L), .values = lua_gettop(L)};
    sandbox_attempt(L, "input", make_input, &m);
    tensor_push(L, m.result);
    return 1;
}

/* -- fields -- */

/* Sizes by name, counted from the last dimension; `most` spatial dims have them. */
static const struct { const char *name; int least, most, from_end; } size[] = {
    {"length", 1, 1, 0}, {"width", 2, 3, 0}, {"height", 2, 3, 1}, {"depth", 3, 3, 2}
};

static int push_shape(lua_State *L, const Node *n)
{
    lua_createtable(L, n->shape.rank, 0);
    for (int d = n->batched; d < n->shape.rank; d++) {
        lua_pushinteger(L, n->shape.dim[d]);
        lua_rawseti(L, -2, d + !n->batched);
    }
    return 1;
}

static void push_shape_text(lua_State *L, const Node *n)
{
    if (n->shape.rank <= (int)n->batched)
        lua_pushliteral(L, "scalar");
    for (int d = n->batched; d < n->shape.rank; d++) {
        lua_pushfstring(L, d > (int)n->batched ? "x%d" : "%d", n->shape.dim[d]);
        if (d > (int)n->batched)
            lua_concat(L, 2);
    }
}

static int unknown_field(lua_State *L)
{
    luaL_Buffer known;
    luaL_buffinit(L, &known);
    for (const Op *const *op = op_table(); *op; op++)
        for (int i = 0; i < 4 && (*op)->operands == 1 && (*op)->method[i].name; i++) {
            luaL_addstring(&known, (*op)->method[i].name);
            luaL_addstring(&known, ", ");
        }
    luaL_addstring(&known, "and the fields shape, channels, length, height, width, depth");
    luaL_pushresult(&known);
    const char *name = luaL_tolstring(L, 2, NULL);
    return luaL_error(L, "a tensor has no \"%s\"; it has %s", name, lua_tostring(L, -2));
}

/* Upvalue: the table of methods. */
static int index_tensor(lua_State *L)
{
    const Node *n = tensor_at(L, 1);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
        return 1;
    lua_pop(L, 1);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    int spatial = n->shape.rank - 2, channels = strcmp(name, "channels") == 0;
    if (strcmp(name, "shape") == 0)
        return push_shape(L, n);
    if (channels && n->shape.rank > 1) {
        lua_pushinteger(L, n->shape.dim[1]);
        return 1;
    }
    for (int i = 0; !channels; i++) {
        if (i == sizeof size / sizeof *size)
            return unknown_field(L);
        if (strcmp(name, size[i].name) != 0)
            continue;
        if (spatial < size[i].least || spatial > size[i].most)
            break;
        lua_pushinteger(L, n->shape.dim[n->shape.rank - 1 - size[i].from_end]);
        return 1;
    }
    push_shape_text(L, n);
    return luaL_error(L, "a tensor of shape %s has no %s", lua_tostring(L, -1), name);
}

static int assign_tensor(lua_State *L)
{
    return luaL_error(L, "a tensor cannot be changed: assignment to its \"%s\"", luaL_tolstring(L, 2, NULL));
}

static int tensor_text(lua_State *L)
{
    lua_pushliteral(L, "tensor ");
    push_shape_text(L, tensor_at(L, 1));
    lua_concat(L, 2);
    return 1;
}

/* -- definitions -- */

/* Methods into the table on top of the stack, functions of several tensors into the globals. */
static void define_methods(lua_State *L)
{
    for (const Op *const *op = op_table(); *op; op++)
        for (int i = 0; i < 4 && (*op)->method[i].name; i++) {
            push_op(L, *op, &(*op)->method[i]);
            if ((*op)->operands < 0)
                lua_setglobal(L, (*op)->method[i].name);
            else
                lua_setfield(L, -2, (*op)->method[i].name);
        }
}

void tensor_open(lua_State *L)
{
    static const struct { const char *event; char sign; } arithmetic[] = {
        {"__add", '+'}, {"__sub", '-'}, {"__mul", '*'}, {"__div", '/'}
    };
    luaL_newmetatable(L, tensor_type);
    lua_newtable(L);
    define_methods(L);
    lua_pushcclosure(L, index_tensor, 1);
    lua_setfield(L, -2, "__index");
    for (size_t i = 0; i < sizeof arithmetic / sizeof *arithmetic; i++) {
        push_op(L, op_arithmetic(arithmetic[i].sign), NULL);
        lua_setfield(L, -2, arithmetic[i].event);
    }
    static const luaL_Reg events[] = {
        {"__unm", negate}, {"__newindex", assign_tensor}, {"__tostring", tensor_text}, {NULL, NULL}
    };
    luaL_setfuncs(L, events, 0);
    lua_pushliteral(L, "tensor");
    lua_setfield(L, -2, "__metatable");          /* out of the file's reach */
    lua_pop(L, 1);
    lua_register(L, "input", input);
}
