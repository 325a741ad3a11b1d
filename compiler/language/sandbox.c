/* The Lua state in which network files run.
 *
 * A network file may come from anyone.  It reaches no file, no process, no bytecode
 * and no clock; it gets a bounded amount of memory and time.  Lua's own means, an
 * allocator that says no and a hook called every so many instructions, do not see
 * into library functions written in C: those that could run for ever inside one call
 * stand behind guards that first check their arguments.
 *
 * fail() and Lua's errors are both longjmps and must not cross: see sandbox_attempt. */
#include "language.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

enum {
    MEGABYTE = 1 << 20,
    MEMORY_LIMIT = 256,                          /* megabytes that survive a collection */
    MEMORY_WALL = 512,                           /* megabytes that are never exceeded, garbage included */
    STEP_LIMIT = 100,                            /* million instructions */
    TIME_LIMIT = 10,                             /* seconds of processor time */
    STEPS_PER_LOOK = 1000,
    MOVE_LIMIT = 10000000,                       /* entries that table.move moves */
    MAX_CALLERS = 4
};
static const double PATTERN_LIMIT = 1e9;         /* steps of one pattern search */

Frontend *sandbox_frontend(lua_State *L)
{
    return *(Frontend **)lua_getextraspace(L);
}

/* -- memory and time -- */

static void *allocate(void *user, void *block, size_t old_size, size_t new_size)
{
    Frontend *f = user;
    size_t held = block ? old_size : 0;          /* without a block old_size is a type */
    if (new_size == 0) {
        free(block);
        f->memory -= held;
        return NULL;
    }
    if (new_size > held && f->memory - held + new_size > (size_t)MEMORY_WALL * MEGABYTE)
        return NULL;
    void *moved = realloc(block, new_size);
    if (moved)
        f->memory += new_size - held;
    return moved;
}

static int64_t processor_seconds(void)
{
    return (int64_t)clock() / CLOCKS_PER_SEC;
}

/* The hook.  Once a limit is exceeded every further instruction is an error, so that
 * pcall cannot go on. */
static void look(lua_State *L, lua_Debug *where)
{
    Frontend *f = sandbox_frontend(L);
    size_t limit = (size_t)MEMORY_LIMIT * MEGABYTE;
    f->steps += STEPS_PER_LOOK;
    if (f->memory > limit)
        lua_gc(L, LUA_GCCOLLECT);
    if (!f->stopped[0] && f->memory > limit)
        snprintf(f->stopped, sizeof f->stopped, "needs more than %d megabytes of memory", MEMORY_LIMIT);
    if (!f->stopped[0] && f->steps > STEP_LIMIT * INT64_C(1000000))
        snprintf(f->stopped, sizeof f->stopped, "no end after %d million steps", STEP_LIMIT);
    if (!f->stopped[0] && processor_seconds() - f->start > TIME_LIMIT)
        snprintf(f->stopped, sizeof f->stopped, "no end after %d seconds", TIME_LIMIT);
    if (!f->stopped[0])
        return;
    lua_sethook(L, look, LUA_MASKCOUNT, 1);
    lua_getinfo(L, "l", where);
    lua_pushfstring(L, "%s:%d: %s", f->file, where->currentline, f->stopped);
    lua_error(L);
}

/* -- positions -- */

/* The line of the next Lua function at or above *level in the call stack, 0: none left. */
static int next_line(lua_State *L, int *level)
{
    lua_Debug ar;
    while (lua_getstack(L, (*level)++, &ar)) {
        lua_getinfo(L, "l", &ar);
        if (ar.currentline > 0)
            return ar.currentline;
    }
    return 0;
}

void sandbox_push_position(lua_State *L)
{
    Frontend *f = sandbox_frontend(L);
    int level = 0, line = next_line(L, &level);
    if (line == 0)
        line = f->last_line;
    lua_pushfstring(L, line ? "%s:%d" : "%s", f->file, line);
}

static void push_callers_above(lua_State *L, int level)
{
    Frontend *f = sandbox_frontend(L);
    lua_pushliteral(L, "");
    for (int n = 0, line; n <= MAX_CALLERS && (line = next_line(L, &level)) != 0; n++) {
        lua_pushstring(L, n == 0 ? " (called from " : ", ");
        if (n < MAX_CALLERS)
            lua_pushfstring(L, "%s:%d", f->file, line);
        else
            lua_pushliteral(L, "...");
        lua_concat(L, 3);
    }
    if (lua_rawlen(L, -1) > 0) {
        lua_pushliteral(L, ")");
        lua_concat(L, 2);
    }
}

void sandbox_push_callers(lua_State *L)
{
    int level = 0;
    next_line(L, &level);
    push_callers_above(L, level);
}

/* The line that the message names as "file:line: ", 0: none. */
static int line_of(const char *message, const char *file)
{
    size_t length = strlen(file);
    if (strncmp(message, file, length) != 0 || message[length] != ':')
        return 0;
    return (int)strtol(message + length + 1, NULL, 10);
}

/* Lua's name of the file becomes ours; other values than texts become one. */
static void push_message(lua_State *L, const Frontend *f)
{
    if (lua_type(L, 1) != LUA_TSTRING) {
        lua_pushfstring(L, "the file raised an error with a %s value instead of a text", luaL_typename(L, 1));
        return;
    }
    const char *message = lua_tostring(L, 1);
    if (strcmp(f->chunk, f->file) != 0 && line_of(message, f->chunk))
        lua_pushfstring(L, "%s%s", f->file, message + strlen(f->chunk));
    else
        lua_pushvalue(L, 1);
}

/* The level above the function that stands at the line (0: above the innermost one). */
static int level_above(lua_State *L, int named)
{
    int level = 0, first = 0;
    for (int line; (line = next_line(L, &level)) != 0;) {
        first = first ? first : level;
        if (named == 0 || line == named)
            return level;
    }
    return first;
}

/* Error value -> "net.lua:3: text (called from net.lua:12)". */
int sandbox_message(lua_State *L)
{
    Frontend *f = sandbox_frontend(L);
    push_message(L, f);
    const char *message = lua_tostring(L, -1);
    int named = line_of(message, f->file);
    if (!named) {
        sandbox_push_position(L);
        lua_pushfstring(L, "%s: %s", lua_tostring(L, -1), message);
    }
    push_callers_above(L, level_above(L, named));
    lua_concat(L, 2);
    return 1;
}

/* -- fail() <-> Lua errors -- */

static bool begins_with_method(const char *message, const char *method)
{
    size_t length = strlen(method);
    return strncmp(message, method, length) == 0 && message[length] == ':';
}

/* Calls of the operation that its line has made right before, on the way to the one that failed. */
static int count_repeats(const Graph *g, const char *where, const char *method)
{
    int repeats = 0;
    for (int i = g->layers - 1; i >= 0; i--) {
        const Layer *l = g->layer[i];
        size_t length = strlen(where);
        if (strncmp(l->where, where, length) || (l->where[length] && l->where[length] != ' '))
            break;
        repeats += strcmp(l->method, method) == 0;
    }
    return repeats;
}

void sandbox_attempt(lua_State *L, const char *method, void (*body)(void *), void *argument)
{
    Frontend *f = sandbox_frontend(L);
    Graph *g = f->g;
    int nodes = g->nodes, layers = g->layers, params = g->params, inputs = g->inputs, top = lua_gettop(L);
    bool done = attempt(f->c, body, argument);
    lua_settop(L, top);
    g->current = NULL;
    if (done)
        return;
    g->nodes = nodes, g->layers = layers, g->params = params, g->inputs = inputs;
    sandbox_push_position(L);
    f->repeats = method ? count_repeats(g, lua_tostring(L, -1), method) : 0;
    if (!method || begins_with_method(f->c->message, method))
        lua_pushfstring(L, "%s: %s", lua_tostring(L, -1), f->c->message);
    else
        lua_pushfstring(L, "%s: %s: %s", lua_tostring(L, -1), method, f->c->message);
    lua_error(L);
}

/* -- guards: the library function behind one keeps its name and its place in errors -- */

static int unguarded(lua_State *L)
{
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* string.rep of nothing would count to n in C; of much, would end without a line. */
static int guarded_rep(lua_State *L)
{
    size_t length, between;
    luaL_checklstring(L, 1, &length);
    lua_Integer n = luaL_checkinteger(L, 2);
    luaL_optlstring(L, 3, "", &between);
    if (n > 0 && (double)n * (double)(length + between) > MEMORY_LIMIT * (double)MEGABYTE)
        return luaL_error(L, "string.rep: the text would need more than %d megabytes", MEMORY_LIMIT);
    if (length + between == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    return unguarded(L);
}

static int guarded_move(lua_State *L)
{
    lua_Integer first = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3);
    if ((double)last - (double)first > MOVE_LIMIT)
        return luaL_error(L, "table.move: more than %d entries", MOVE_LIMIT);
    return unguarded(L);
}

/* A table may claim any length by __len, and a library function would believe it. */
static int guarded_list(lua_State *L)
{
    if (luaL_getmetafield(L, 1, "__len") != LUA_TNIL)
        return luaL_error(L, "the functions of table do not take a table with __len");
    return unguarded(L);
}

/* Repetitions in a pattern: each can multiply the steps by the length of the text. */
static int repetitions(const char *pattern, size_t length)
{
    int count = 0;
    bool set = false;                            /* inside [...] */
    for (size_t i = 0; i < length; i++) {
        char next = i + 1 < length ? pattern[i + 1] : 0;
        if (pattern[i] == '%') {
            count += !set && memchr("bf0123456789", next, 12) != NULL;
            i++;
        } else if (set) {
            set = pattern[i] != ']';
        } else if (pattern[i] == '[') {
            set = true;
            i += next == '^';
            i += i + 1 < length && pattern[i + 1] == ']';      /* the first one is a member */
        } else {
            count += memchr("*+-?", pattern[i], 4) != NULL;
        }
    }
    return count;
}

static int guarded_pattern(lua_State *L)
{
    size_t length, pattern_length;
    luaL_checklstring(L, 1, &length);
    const char *pattern = luaL_checklstring(L, 2, &pattern_length);
    double steps = ((double)length + 1) * ((double)pattern_length + 1);
    for (int i = repetitions(pattern, pattern_length); i > 0 && steps <= PATTERN_LIMIT; i--)
        steps *= (double)length + 1;
    if (steps > PATTERN_LIMIT)
        return luaL_error(L, "the pattern could take too long on a text of %d characters", (int)length);
    return unguarded(L);
}

/* A finaliser would run where no hook sees it. */
static int guarded_setmetatable(lua_State *L)
{
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "setmetatable: __gc is not available in a network file");
        lua_pop(L, 1);
    }
    return unguarded(L);
}

/* Upvalue: the file's message handler.  Lua calls handlers before it leaves the hook
 * that raised the error, that is without a hook: not after a limit. */
static int handle(lua_State *L)
{
    if (sandbox_frontend(L)->stopped[0])
        return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

static int guarded_xpcall(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, handle, 1);
    lua_replace(L, 2);
    return unguarded(L);
}

/* Standard output belongs to the command. */
static int print(lua_State *L)
{
    for (int i = 1, n = lua_gettop(L); i <= n; i++) {
        fprintf(stderr, "%s%s", i > 1 ? "\t" : "", luaL_tolstring(L, i, NULL));
        lua_pop(L, 1);
    }
    fputc('\n', stderr);
    return 0;
}

/* -- what there is -- */

/* Replaces or, where guard is NULL, removes entries of the library on top of the stack. */
typedef struct Change { const char *name; lua_CFunction guard; } Change;

static void change(lua_State *L, const Change *changes)
{
    for (; changes->name; changes++) {
        if (changes->guard) {
            lua_getfield(L, -1, changes->name);
            lua_pushcclosure(L, changes->guard, 1);
        } else {
            lua_pushnil(L);
        }
        lua_setfield(L, -2, changes->name);
    }
}

int sandbox_libraries(lua_State *L)
{
    static const Change basic[] = {
        {"collectgarbage", NULL}, {"dofile", NULL}, {"load", NULL}, {"loadfile", NULL}, {"warn", NULL},
        {"print", print}, {"setmetatable", guarded_setmetatable}, {"xpcall", guarded_xpcall}, {NULL, NULL}
    };
    static const Change string[] = {
        {"dump", NULL}, {"rep", guarded_rep}, {"find", guarded_pattern}, {"match", guarded_pattern},
        {"gmatch", guarded_pattern}, {"gsub", guarded_pattern}, {NULL, NULL}
    };
    static const Change table[] = {
        {"move", guarded_move}, {"insert", guarded_list}, {"remove", guarded_list}, {"concat", guarded_list},
        {"sort", guarded_list}, {"unpack", guarded_list}, {NULL, NULL}
    };
    static const Change math[] = {               /* the same file is always the same network */
        {"random", NULL}, {"randomseed", NULL}, {NULL, NULL}
    };
    static const Change none[] = {{NULL, NULL}};
    static const struct { const char *name; lua_CFunction open; const Change *changes; } library[] = {
        {"_G", luaopen_base, basic}, {"string", luaopen_string, string}, {"table", luaopen_table, table},
        {"math", luaopen_math, math}, {"utf8", luaopen_utf8, none}
    };
    for (size_t i = 0; i < sizeof library / sizeof *library; i++) {
        luaL_requiref(L, library[i].name, library[i].open, 1);
        change(L, library[i].changes);
        lua_pop(L, 1);
    }
    return 0;
}

lua_State *sandbox_open(Frontend *f)
{
    lua_State *L = lua_newstate(allocate, f);
    if (!L)
        return NULL;
    *(Frontend **)lua_getextraspace(L) = f;
    f->L = L;
    f->start = processor_seconds();
    lua_sethook(L, look, LUA_MASKCOUNT, STEPS_PER_LOOK);
    return L;
}
