/* Lua values as network files hand them over: shown in messages, checked as names and
 * as lists.  Tables are read raw and values never converted, so no Lua code runs. */
#include "language.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include <lua.h>

enum { MAX_NAME = 200 };

const char *value_text(lua_State *L, int at, Context *c)
{
    switch (lua_type(L, at)) {
    case LUA_TNUMBER:
        if (lua_isinteger(L, at))
            return format(c, "%lld", (long long)lua_tointeger(L, at));
        return isnan(lua_tonumber(L, at)) ? "nan" : format(c, "%.14g", lua_tonumber(L, at));
    case LUA_TSTRING:
        return format(c, "\"%.40s\"%s", lua_tostring(L, at), lua_rawlen(L, at) > 40 ? "..." : "");
    case LUA_TBOOLEAN:
        return lua_toboolean(L, at) ? "true" : "false";
    case LUA_TNONE: case LUA_TNIL:
        return "nothing";
    case LUA_TUSERDATA:
        return tensor_at(L, at) ? "a tensor" : "a model";
    default:
        return format(c, "a %s", lua_typename(L, lua_type(L, at)));
    }
}

/* Bytes of the well-formed UTF-8 character at p, 0 for anything else. */
static int utf8_length(const unsigned char *p)
{
    int length = p[0] < 0x80 ? 1 : p[0] >= 0xC2 && p[0] < 0xE0 ? 2 : (p[0] & 0xF0) == 0xE0 ? 3
               : p[0] >= 0xF0 && p[0] < 0xF5 ? 4 : 0;
    for (int i = 1; i < length; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return length;
}

const char *value_name(lua_State *L, int at, Context *c, const char *what)
{
    if (lua_type(L, at) != LUA_TSTRING)
        fail(c, STATUS_INPUT, "%s: expects a text, found %s", what, value_text(L, at, c));
    size_t length;
    const char *name = lua_tolstring(L, at, &length);
    if (length == 0 || length > MAX_NAME)
        fail(c, STATUS_INPUT, "%s: expects 1 to %d characters, found %zu", what, MAX_NAME, length);
    for (const char *p = name; p < name + length;) {
        int bytes = utf8_length((const unsigned char *)p);
        if (bytes == 0)
            fail(c, STATUS_INPUT, "%s: is not UTF-8 text", what);
        if (bytes == 1 && ((unsigned char)*p < ' ' || *p == 127 || strchr("\"\\*?", *p)))
            fail(c, STATUS_INPUT, "%s: \"%s\" contains control characters or one of \" \\ * ?", what, name);
        p += bytes;
    }
    return format(c, "%s", name);
}

int value_hole(lua_State *L, int at)
{
    int hole = 0;
    do
        lua_pop(L, hole ? 1 : 0);
    while (lua_rawgeti(L, at, ++hole) != LUA_TNIL);
    lua_pop(L, 1);
    return hole;
}

int value_list(lua_State *L, int at, Context *c, const char *what)
{
    at = lua_absindex(L, at);
    lua_Integer entries = 0, last = 0;
    for (lua_pushnil(L); lua_next(L, at); lua_pop(L, 1)) {
        if (!lua_isinteger(L, -2))
            fail(c, STATUS_INPUT, "%s: expects a plain list, found a table with names", what);
        lua_Integer key = lua_tointeger(L, -2);
        if (key < 1)
            fail(c, STATUS_INPUT, "%s: lists begin at 1, found the key %lld", what, (long long)key);
        last = key > last ? key : last;
        entries++;
    }
    if (entries != last)
        fail(c, STATUS_INPUT, "%s: the list has a hole: entry %d is nil", what, value_hole(L, at));
    return entries > INT_MAX ? INT_MAX : (int)entries;
}
