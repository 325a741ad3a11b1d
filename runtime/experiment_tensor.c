/* The tensors that experiments look at: `t[1][2]`, `#t`, `t.shape`, tensor {...}.
 *
 * Numbers are doubles in C order.  A tensor owns its numbers or is a part of
 * another one, which its user value then keeps alive. */
#include "runtime.h"

#include <lauxlib.h>
#include <lua.h>
#include <string.h>

static const char *const TYPE = "cnnc.tensor";

enum { SHOWN = 256 };         /* numbers that tostring() prints */

/* ---------------------------------------------------------------------- shapes */

void script_shape_push(lua_State *L, const Shape *shape)
{
    lua_createtable(L, shape->rank, 0);
    for (int d = 0; d < shape->rank; d++) {
        lua_pushinteger(L, shape->dim[d]);
        lua_rawseti(L, -2, d + 1);
    }
}

const char *script_shape_text(lua_State *L, const Shape *shape)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int d = 0; d < shape->rank; d++) {
        char text[16];
        snprintf(text, sizeof text, "%s%d", d ? "x" : "", shape->dim[d]);
        luaL_addstring(&b, text);
    }
    if (!shape->rank)
        luaL_addstring(&b, "scalar");
    luaL_pushresult(&b);
    return lua_tostring(L, -1);
}

/* -------------------------------------------------------------------- creation */

static Tensor *push(lua_State *L, const Shape *shape, size_t count)
{
    Tensor *t = lua_newuserdatauv(L, sizeof *t + count * sizeof(double), 1);
    t->shape = *shape;
    t->data = (double *)(t + 1);
    luaL_setmetatable(L, TYPE);
    return t;
}

Tensor *script_tensor_push(lua_State *L, const Shape *shape)
{
    size_t count = (size_t)shape_count(shape);
    Tensor *t = push(L, shape, count);
    memset(t->data, 0, count * sizeof(double));
    return t;
}

/* Part i of the tensor at a stack index, without a copy. */
static void push_part(lua_State *L, int index, const Tensor *whole, int i)
{
    index = lua_absindex(L, index);
    Shape shape = shape_of(whole->shape.rank - 1, whole->shape.dim + 1);
    Tensor *part = push(L, &shape, 0);
    part->data = whole->data + (size_t)i * (size_t)shape_count(&shape);
    lua_pushvalue(L, index);
    lua_setiuservalue(L, -2, 1);
}

/* Adds the dimensions of the number, tensor or nested table on top of the stack. */
static void measure(lua_State *L, Shape *shape)
{
    const Tensor *t = luaL_testudata(L, -1, TYPE);
    if (t) {
        luaL_argcheck(L, shape->rank + t->shape.rank <= MAX_RANK, 1, "too many dimensions");
        for (int d = 0; d < t->shape.rank; d++)
            shape->dim[shape->rank++] = t->shape.dim[d];
    } else if (lua_istable(L, -1)) {
        luaL_argcheck(L, shape->rank < MAX_RANK, 1, "too many dimensions");
        int length = (int)lua_rawlen(L, -1);
        if (length == 0)
            luaL_error(L, "tensor: found an empty table, expected numbers");
        shape->dim[shape->rank++] = length;
        lua_rawgeti(L, -1, 1);
        measure(L, shape);
        lua_pop(L, 1);
    } else if (lua_type(L, -1) != LUA_TNUMBER) {
        luaL_error(L, "tensor: found a %s, expected a number, a tensor or a nested table of them",
                   luaL_typename(L, -1));
    }
}

static void ragged(lua_State *L, int depth, const Shape *shape)
{
    Shape rest = shape_of(shape->rank - depth, shape->dim + depth);
    luaL_error(L, "tensor: found an entry at depth %d of another shape than the first, which is %s", depth,
               script_shape_text(L, &rest));
}

/* Copies what is on top of the stack, which must have the dims of shape from
 * `depth` on; returns the place behind it. */
static double *fill(lua_State *L, const Shape *shape, int depth, double *to)
{
    const Tensor *t = luaL_testudata(L, -1, TYPE);
    Shape rest = shape_of(shape->rank - depth, shape->dim + depth);
    if (t) {
        if (!shape_equal(&t->shape, &rest))
            ragged(L, depth, shape);
        size_t count = (size_t)shape_count(&rest);
        memcpy(to, t->data, count * sizeof(double));
        return to + count;
    }
    if (rest.rank == 0) {
        if (lua_type(L, -1) != LUA_TNUMBER)
            ragged(L, depth, shape);
        *to = lua_tonumber(L, -1);
        return to + 1;
    }
    if (!lua_istable(L, -1) || (int)lua_rawlen(L, -1) != rest.dim[0])
        ragged(L, depth, shape);
    for (int i = 1; i <= rest.dim[0]; i++) {
        lua_rawgeti(L, -1, i);
        to = fill(L, shape, depth + 1, to);
        lua_pop(L, 1);
    }
    return to;
}

/* Replaces what is on top of the stack by a tensor of it. */
static Tensor *convert(lua_State *L)
{
    luaL_checkstack(L, 3 * MAX_RANK, NULL);
    Shape shape = {0};
    measure(L, &shape);
    int64_t count = 1;
    for (int d = 0; d < shape.rank; d++)
        if ((count *= shape.dim[d]) > INT32_MAX)
            luaL_error(L, "tensor: %s has more than 2^31 - 1 elements", script_shape_text(L, &shape));
    Tensor *t = script_tensor_push(L, &shape);
    lua_insert(L, -2);
    fill(L, &shape, 0, t->data);
    lua_pop(L, 1);
    return t;
}

Tensor *script_tensor_at(lua_State *L, int index)
{
    Tensor *t = luaL_testudata(L, index, TYPE);
    if (t)
        return t;
    index = lua_absindex(L, index);
    lua_pushvalue(L, index);
    t = convert(L);
    lua_replace(L, index);
    return t;
}

static int tensor_new(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    convert(L);
    return 1;
}

/* ---------------------------------------------------------------------- access */

static int tensor_index(lua_State *L)
{
    const Tensor *t = luaL_checkudata(L, 1, TYPE);
    if (lua_isinteger(L, 2)) {
        lua_Integer i = lua_tointeger(L, 2);
        if (t->shape.rank == 0 || i < 1 || i > t->shape.dim[0])
            lua_pushnil(L);                      /* as a table's, so that ipairs() ends */
        else if (t->shape.rank == 1)
            lua_pushnumber(L, t->data[i - 1]);
        else
            push_part(L, 1, t, (int)i - 1);
        return 1;
    }
    const char *key = luaL_checkstring(L, 2);
    if (!strcmp(key, "shape"))
        script_shape_push(L, &t->shape);
    else if (!strcmp(key, "count"))
        lua_pushinteger(L, shape_count(&t->shape));
    else
        luaL_error(L, "tensor: found no field \"%s\", expected shape, count or a whole number", key);
    return 1;
}

static int tensor_newindex(lua_State *L)
{
    Tensor *t = luaL_checkudata(L, 1, TYPE);
    lua_Integer i = luaL_checkinteger(L, 2);
    if (t->shape.rank == 0 || i < 1 || i > t->shape.dim[0])
        luaL_error(L, "tensor: index %I is outside %s", i, script_shape_text(L, &t->shape));
    size_t size = (size_t)(shape_count(&t->shape) / t->shape.dim[0]);
    lua_settop(L, 3);
    fill(L, &t->shape, 1, t->data + (size_t)(i - 1) * size);
    return 0;
}

static int tensor_length(lua_State *L)
{
    const Tensor *t = luaL_checkudata(L, 1, TYPE);
    lua_pushinteger(L, t->shape.rank ? t->shape.dim[0] : 0);
    return 1;
}

static int next_part(lua_State *L)
{
    lua_Integer i = luaL_checkinteger(L, 2) + 1;
    lua_pushinteger(L, i);
    return lua_geti(L, 1, i) == LUA_TNIL ? 1 : 2;
}

static int tensor_pairs(lua_State *L)
{
    luaL_checkudata(L, 1, TYPE);
    lua_pushcfunction(L, next_part);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    return 3;
}

/* One line a row of the last dimension, a blank line between matrices. */
static void add_numbers(luaL_Buffer *b, const Tensor *t)
{
    int count = shape_count(&t->shape), rank = t->shape.rank;
    int row = rank ? t->shape.dim[rank - 1] : 1, matrix = rank > 1 ? row * t->shape.dim[rank - 2] : count;
    for (int i = 0; i < count; i++) {
        char text[40];
        const char *between = i % matrix == 0 && i ? "\n\n" : i % row == 0 ? "\n" : " ";
        snprintf(text, sizeof text, "%s%12.6g", between, t->data[i]);
        luaL_addstring(b, text);
    }
}

static int tensor_tostring(lua_State *L)
{
    const Tensor *t = luaL_checkudata(L, 1, TYPE);
    const char *shape = script_shape_text(L, &t->shape);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addstring(&b, "tensor ");
    luaL_addstring(&b, shape);
    if (shape_count(&t->shape) <= SHOWN)
        add_numbers(&b, t);
    luaL_pushresult(&b);
    return 1;
}

void experiment_tensor(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "__index", tensor_index }, { "__newindex", tensor_newindex }, { "__len", tensor_length },
        { "__pairs", tensor_pairs }, { "__tostring", tensor_tostring }, { NULL, NULL }
    };
    luaL_newmetatable(L, TYPE);
    luaL_setfuncs(L, methods, 0);
    lua_pop(L, 1);
    lua_pushcfunction(L, tensor_new);
    lua_setglobal(L, "tensor");
}
