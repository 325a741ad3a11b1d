/* `cnnc run`: a Lua script with the whole standard library and a few globals that
 * read data, load networks and train them.
 *
 * Two ways to fail meet here.  A failure of the runtime (fail(), a longjmp to the
 * innermost attempt()) must not jump over Lua's frames, and a Lua error must not
 * jump over an attempt().  So every call into the runtime goes through guarded(),
 * and what it needs from the script is read before. */
#include "runtime.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <math.h>
#include <string.h>

typedef struct Experiment {
    Context *c;
    lua_State *L;
    const char *script;
    int args;
    char *const *arg;
    bool fault;               /* the last failure of the runtime was cnnc's own */
} Experiment;

static Experiment *experiment_of(lua_State *L)
{
    return *(Experiment **)lua_getextraspace(L);
}

void guarded(lua_State *L, Context *c, void (*body)(void *), void *argument)
{
    if (attempt(c, body, argument))
        return;
    experiment_of(L)->fault = c->status == STATUS_FAULT;
    experiment_of(L)->c->quote = c->quote;
    luaL_error(L, "%s", c->message);
}

/* --------------------------------------------------------------------- options */

static void refuse_key(lua_State *L, const char *call, const char *key, const char *const *known)
{
    luaL_Buffer list;
    luaL_buffinit(L, &list);
    for (int i = 0; known[i]; i++) {
        luaL_addstring(&list, i ? ", " : "");
        luaL_addstring(&list, known[i]);
    }
    luaL_pushresult(&list);
    luaL_error(L, "%s: unknown option \"%s\": it knows %s", call, key, lua_tostring(L, -1));
}

OptionTable options_open(lua_State *L, int index, const char *call, const char *const *known)
{
    OptionTable o = { L, lua_absindex(L, index), call };
    if (lua_isnoneornil(L, index))
        return o;
    if (!lua_istable(L, index))
        luaL_error(L, "%s: found a %s, expected a table of options", call, luaL_typename(L, index));
    for (lua_pushnil(L); lua_next(L, o.index); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_tolstring(L, -2, NULL);
        int i = 0;
        while (known[i] && strcmp(known[i], key))
            i++;
        if (!known[i])
            refuse_key(L, call, key, known);
    }
    return o;
}

/* Pushes the option; false, and nothing pushed, when it is not given. */
static bool option_push(const OptionTable *o, const char *key)
{
    if (lua_isnoneornil(o->L, o->index))
        return false;
    if (lua_getfield(o->L, o->index, key) != LUA_TNIL)
        return true;
    lua_pop(o->L, 1);
    return false;
}

/* Refuses the option's value, which is on top of the stack. */
static void option_wrong(const OptionTable *o, const char *key, const char *expected, ...)
{
    va_list args;
    va_start(args, expected);
    const char *found = luaL_tolstring(o->L, -1, NULL), *wanted = lua_pushvfstring(o->L, expected, args);
    va_end(args);
    luaL_error(o->L, "%s: %s: found %s, expected %s", o->call, key, found, wanted);
}

double option_number(const OptionTable *o, const char *key, double standard, double low, double high)
{
    if (!option_push(o, key)) {
        if (isnan(standard))
            luaL_error(o->L, "%s: %s is missing", o->call, key);
        return standard;
    }
    double value = lua_type(o->L, -1) == LUA_TNUMBER ? lua_tonumber(o->L, -1) : NAN;
    if (!(value >= low && value <= high))
        option_wrong(o, key, "a number from %f to %f", low, high);
    lua_pop(o->L, 1);
    return value;
}

int option_whole(const OptionTable *o, const char *key, int standard, int low, int high)
{
    if (!option_push(o, key))
        return standard;
    int whole = 0;
    lua_Integer value = lua_type(o->L, -1) == LUA_TNUMBER ? lua_tointegerx(o->L, -1, &whole) : 0;
    if (!whole || value < low || value > high)
        option_wrong(o, key, "a whole number from %d to %d", low, high);
    lua_pop(o->L, 1);
    return (int)value;
}

const char *option_text(const OptionTable *o, const char *key, const char *standard)
{
    if (!option_push(o, key))
        return standard;
    if (lua_type(o->L, -1) != LUA_TSTRING)
        option_wrong(o, key, "a string");
    const char *text = lua_tostring(o->L, -1);
    lua_pop(o->L, 1);                            /* the table keeps it alive */
    return text;
}

bool option_flag(const OptionTable *o, const char *key, bool standard)
{
    if (!option_push(o, key))
        return standard;
    if (!lua_isboolean(o->L, -1))
        option_wrong(o, key, "true or false");
    bool flag = lua_toboolean(o->L, -1);
    lua_pop(o->L, 1);
    return flag;
}

/* --------------------------------------------------------------------- running */

static void set_arguments(lua_State *L, const Experiment *e)
{
    lua_createtable(L, e->args, 1);
    lua_pushstring(L, e->script);
    lua_rawseti(L, -2, 0);
    for (int i = 0; i < e->args; i++) {
        lua_pushstring(L, e->arg[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setglobal(L, "arg");
}

/* Runs under lua_pcall, since opening libraries may already fail. */
static int run_script(lua_State *L)
{
    const Experiment *e = experiment_of(L);
    luaL_openlibs(L);
    experiment_tensor(L);
    experiment_data(L);
    experiment_model(L);
    set_arguments(L, e);
    if (luaL_loadfilex(L, strcmp(e->script, "-") ? e->script : NULL, "t") != LUA_OK)
        return lua_error(L);
    for (int i = 0; i < e->args; i++)
        lua_pushstring(L, e->arg[i]);
    lua_call(L, e->args, 0);
    return 0;
}

/* Error values of any type become text, as in the standalone interpreter. */
static int message_of(lua_State *L)
{
    if (!lua_tostring(L, 1) && !luaL_callmeta(L, 1, "__tostring"))
        lua_pushfstring(L, "the error object is a %s", luaL_typename(L, 1));
    return 1;
}

/* The script's line that the message names, unless it is known which line of a network is meant. */
static void quote_script(void *argument)
{
    Experiment *e = argument;
    const char *message = lua_tostring(e->L, -1);
    bool quoted = e->c->quote.message[0] && strstr(message, e->c->quote.message);
    if (quoted || !strcmp(e->script, "-"))
        return;
    size_t length;
    const char *source = (const char *)file_read(e->c, e->script, &length);
    quote_source(e->c, message, e->script, source, length, 0);
}

static void run(void *argument)
{
    Experiment *e = argument;
    lua_State *L = e->L;
    lua_pushcfunction(L, message_of);
    lua_pushcfunction(L, run_script);
    if (lua_pcall(L, 0, 0, 1) != LUA_OK) {
        const char *message = lua_tostring(L, -1);
        if (message)
            attempt(e->c, quote_script, e);      /* a script that cannot be read again is not shown */
        fail(e->c, e->fault ? STATUS_FAULT : STATUS_INPUT, "%s", message ? message : e->script);
    }
}

static void close_state(void *argument)
{
    lua_close(((Experiment *)argument)->L);
}

int experiment_run(Context *c, const char *script, int args, char *const *arg)
{
    Experiment e = { .c = c, .L = luaL_newstate(), .script = script, .args = args, .arg = arg };
    if (!e.L)
        fail(c, STATUS_INPUT, "%s: out of memory", script);
    *(Experiment **)lua_getextraspace(e.L) = &e;
    guard(c, run, close_state, &e);
    return STATUS_OK;
}
