/* Lua file -> Graph.
 *
 * Runs the file in the sandbox; operations append to the graph as they are called
 * (tensor.c).  What is left to do here is to read the file, and to check what it
 * returns and turn it into roots. */

#include "language.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <lauxlib.h>
#include <lua.h>

static const char model_type[] = "model";

/* -- model { output = ..., loss = ..., name = ... } -- */

typedef struct Named { const char *name; Node *node; } Named;

/* What a network file declares. */
typedef struct Declared {
    const char *name;         /* NULL: the file's */
    Named *output; int outputs;
    Node *loss;               /* or NULL */
    const char *where;
} Declared;

static bool *depends_on_labels(const Graph *g)
{
    bool *depends = NEW_ARRAY(g->c, bool, g->nodes + 1);
    for (int i = 0; i < g->nodes; i++) {
        const Node *n = g->node[i];
        depends[i] = n->input && n->input->loss_only;
        for (int k = 0; k < n->ins; k++)
            depends[i] |= depends[n->in[k]->id];
    }
    return depends;
}

static void check_outputs(const Graph *g, const Declared *d)
{
    const bool *depends = depends_on_labels(g);
    for (int i = 0; i < d->outputs; i++)
        if (depends[d->output[i].node->id])
            fail(g->c, STATUS_INPUT, "output \"%s\" depends on labels or targets, as only the loss may",
                 d->output[i].name);
}

static void check_loss(const Graph *g, const Node *n)
{
    if (n->shape.rank > 0)
        fail(g->c, STATUS_INPUT, "loss: expects one number made by cross_entropy or mse, found shape %s",
             shape_text(g->c, &n->shape, n->batched));
}

/* The layer's name if the file gave one. */
static const char *bare_name(const Node *n)
{
    const Layer *l = n->layer;
    return l && l->named && l->output == n ? l->name : "output";
}

static int by_creation(const void *a, const void *b)
{
    const Named *x = a, *y = b;
    return x->node->id != y->node->id ? x->node->id - y->node->id : strcmp(x->name, y->name);
}

/* {name = tensor, ...} at `at` */
static void read_outputs(lua_State *L, Graph *g, int at, Declared *d)
{
    Context *c = g->c;
    for (lua_pushnil(L); lua_next(L, at); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            fail(c, STATUS_INPUT, "outputs need names, output = { name = tensor }: found the key %s",
                 value_text(L, -2, c));
        Named named = {value_name(L, -2, c, "output"), tensor_at(L, -1)};
        if (!named.node)
            fail(c, STATUS_INPUT, "output \"%s\": expects a tensor, found %s", named.name,
                 value_text(L, -1, c));
        PUSH(c, d->output, d->outputs) = named;
    }
    if (d->outputs == 0)
        fail(c, STATUS_INPUT, "the table of outputs is empty");
    qsort(d->output, (size_t)d->outputs, sizeof *d->output, by_creation);
}

static void add_bare_output(Graph *g, Node *n, Declared *d)
{
    PUSH(g->c, d->output, d->outputs) = (Named){bare_name(n), n};
}

/* The value of a key of the table at stack index 1, on the stack; false: nil. */
static bool push_entry(lua_State *L, const char *key)
{
    lua_pushstring(L, key);
    return lua_rawget(L, 1) != LUA_TNIL;
}

static void check_model_keys(lua_State *L, Context *c)
{
    const char *unknown = NULL;
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            fail(c, STATUS_INPUT, "entries are named: output, loss, name; found the key %s",
                 value_text(L, -2, c));
        const char *key = lua_tostring(L, -2);
        bool known = strcmp(key, "output") == 0 || strcmp(key, "loss") == 0 || strcmp(key, "name") == 0;
        if (!known && (!unknown || strcmp(key, unknown) < 0))
            unknown = key;
    }
    if (unknown)
        fail(c, STATUS_INPUT, "unknown option \"%.40s\": it knows output, loss, name", unknown);
}

typedef struct Declaring {
    lua_State *L;
    Frontend *f;
    int values;               /* Lua arguments of the call */
    const char *where;
    Declared *declared;
} Declaring;

static void declare(void *argument)
{
    Declaring *m = argument;
    lua_State *L = m->L;
    Graph *g = m->f->g;
    Context *c = g->c;
    Declared *d = m->declared = NEW(c, Declared);
    d->where = format(c, "%s", m->where);
    if (m->values != 1 || lua_type(L, 1) != LUA_TTABLE)
        fail(c, STATUS_INPUT, "expects one table, model { output = ... }");
    check_model_keys(L, c);
    if (!push_entry(L, "output"))
        fail(c, STATUS_INPUT, "output is missing");
    Node *output = tensor_at(L, -1);
    if (output)
        add_bare_output(g, output, d);
    else if (lua_type(L, -1) == LUA_TTABLE)
        read_outputs(L, g, lua_gettop(L), d);
    else
        fail(c, STATUS_INPUT, "output: expects a tensor or { name = tensor, ... }, found %s",
             value_text(L, -1, c));
    check_outputs(g, d);
    if (push_entry(L, "loss")) {
        d->loss = tensor_at(L, -1);
        if (!d->loss)
            fail(c, STATUS_INPUT, "loss: expects a tensor, found %s", value_text(L, -1, c));
        check_loss(g, d->loss);
    }
    if (push_entry(L, "name"))
        d->name = value_name(L, lua_gettop(L), c, "name");
}

/* Lua: model { ... } */
static int model(lua_State *L)
{
    Declaring m = {.L = L, .f = sandbox_frontend(L), .values = lua_gettop(L)};
    sandbox_push_position(L);
    m.where = lua_tostring(L, -1);
    sandbox_attempt(L, "model", declare, &m);
    *(Declared **)lua_newuserdatauv(L, sizeof m.declared, 0) = m.declared;
    luaL_setmetatable(L, model_type);
    return 1;
}

/* -- names in the generated C -- */

/* What cannot name an argument of a function in C or C++, and what names others there. */
static const char reserved[] =
    " alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept "
    "const const_cast consteval constexpr constinit continue co_await co_return co_yield decltype "
    "default delete do double dynamic_cast else enum explicit export extern false float for friend goto "
    "if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private "
    "protected public register reinterpret_cast requires restrict return short signed sizeof static "
    "static_assert static_cast struct switch template this thread_local throw true try typedef typeid "
    "typename union unsigned using virtual void volatile wchar_t while xor xor_eq params workspace grad "
    "seed base team self ";

/* Inputs and outputs are arguments of one function and, in capitals, macros. */
static void check_names(const Graph *g, const Declared *d)
{
    Context *c = g->c;
    int count = g->inputs + d->outputs;
    const char **name = NEW_ARRAY(c, const char *, count);
    for (int i = 0; i < count; i++) {
        const char *given = i < g->inputs ? g->input[i]->name : d->output[i - g->inputs].name;
        name[i] = c_identifier(c, given);
        if (strstr(reserved, format(c, " %s ", name[i])))
            fail(c, STATUS_INPUT, "%s: model: \"%s\" cannot name an input or output: it means something in C",
                 d->where, given);
        for (int k = 0; k < i; k++)
            if (strcasecmp(name[i], name[k]) == 0)
                fail(c, STATUS_INPUT, "%s: model: two inputs or outputs are called \"%s\" in C", d->where,
                     name[i]);
    }
}

/* -- the file's result -- */

static void add_roots(Frontend *f, const Declared *d)
{
    Graph *g = f->g;
    check_names(g, d);
    if (d->name)
        g->name = d->name;
    for (int i = 0; i < d->outputs; i++)
        root_add(g, (Root){.kind = ROOT_OUTPUT, .node = d->output[i].node,
                           .name = c_identifier(g->c, d->output[i].name)});
    if (d->loss)
        root_add(g, (Root){.kind = ROOT_LOSS, .node = d->loss});
}

/* The file's results are the values from stack index 1. */
static void finish(void *argument)
{
    Frontend *f = argument;
    lua_State *L = f->L;
    int values = lua_gettop(L);
    if (values != 1)
        fail(f->c, STATUS_INPUT, "the file must end with one result, return model { output = ... }, found %s",
             values == 0 ? "none" : format(f->c, "%d", values));
    Node *bare = tensor_at(L, 1);
    Declared **declared = luaL_testudata(L, 1, model_type);
    if (!bare && !declared)
        fail(f->c, STATUS_INPUT, "the file must return a model or a tensor, found %s",
             value_text(L, 1, f->c));
    if (declared) {
        f->model = *declared;
        return;
    }
    f->model = NEW(f->c, Declared);
    f->model->where = format(f->c, "%s:%d", f->file, f->last_line);
    add_bare_output(f->g, bare, f->model);
    check_outputs(f->g, f->model);
}

/* -- running -- */

/* The file's last line that is not blank. */
static int last_line(const Frontend *f)
{
    int line = 1, last = 1;
    for (size_t i = 0; i < f->length; i++) {
        if (f->source[i] == '\n')
            line++;
        else if (!isspace((unsigned char)f->source[i]))
            last = line;
    }
    return last;
}

/* Lua, in protected mode: everything from the libraries to the checked result. */
static int run(lua_State *L)
{
    Frontend *f = sandbox_frontend(L);
    sandbox_libraries(L);
    tensor_open(L);
    luaL_newmetatable(L, model_type);
    lua_pushliteral(L, "model");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_register(L, "model", model);
    lua_pushfstring(L, "@%s", f->chunk);
    if (luaL_loadbufferx(L, f->source, f->length, lua_tostring(L, -1), "t") != LUA_OK)
        return lua_error(L);
    lua_remove(L, -2);
    lua_call(L, 0, LUA_MULTRET);
    f->last_line = last_line(f);
    sandbox_attempt(L, NULL, finish, f);
    return 0;
}

/* fail()s with what went wrong in Lua.  A Lua error may have left a handler of an
 * attempt() that it jumped over. */
static void run_protected(void *argument)
{
    Frontend *f = argument;
    jmp_buf *handler = f->c->handler;
    lua_pushcfunction(f->L, sandbox_message);
    lua_pushcfunction(f->L, run);
    int status = lua_pcall(f->L, 0, 0, 1);
    f->c->handler = handler;
    if (status != LUA_OK && lua_type(f->L, -1) == LUA_TSTRING)
        quote_source(f->c, lua_tostring(f->L, -1), f->file, f->source, f->length, f->repeats);
    if (status == LUA_ERRRUN)
        fail(f->c, STATUS_INPUT, "%s", lua_tostring(f->L, -1));
    if (f->stopped[0])
        fail(f->c, STATUS_INPUT, "%s: %s", f->file, f->stopped);
    if (status != LUA_OK)                        /* sandbox_message itself found no room */
        fail(f->c, STATUS_INPUT, "%s: needs too much memory", f->file);
    add_roots(f, f->model);
}

static void close_state(void *argument)
{
    lua_close(((Frontend *)argument)->L);
}

/* -- files -- */

/* "graphs/lenet5.lua" -> "lenet5" */
static const char *stem(Context *c, const char *file)
{
    const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
    const char *dot = strrchr(base, '.');
    int length = (int)(dot && dot > base ? (size_t)(dot - base) : strlen(base));
    return length ? format(c, "%.*s", length, base) : "model";
}

/* Only Lua source is run. */
static void check_source(const Frontend *f)
{
    static const char onnx[] = ".onnx";
    size_t length = strlen(f->file), tail = sizeof onnx - 1;
    if (length >= tail && strcmp(f->file + length - tail, onnx) == 0)
        fail(f->c, STATUS_INPUT, "%s: ONNX files are not supported; expected Lua source", f->file);
    if (f->length > 0 && f->source[0] == LUA_SIGNATURE[0])
        fail(f->c, STATUS_INPUT, "%s: compiled Lua is not supported; expected Lua source", f->file);
    const char *zero = memchr(f->source, 0, f->length);
    if (zero)
        fail(f->c, STATUS_INPUT, "%s: found a zero byte at offset %zu; expected Lua source", f->file,
             (size_t)(zero - f->source));
}

Graph *frontend_load_text(Context *c, const char *chunk, size_t length, const char *file, int batch)
{
    bool is_stdin = strcmp(file, "-") == 0;
    size_t mark = length >= 3 && memcmp(chunk, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;     /* of UTF-8 editors */
    Frontend f = {.c = c, .file = is_stdin ? "stdin" : file, .source = chunk + mark, .length = length - mark};
    f.chunk = strlen(f.file) < LUA_IDSIZE ? f.file : "network";
    check_source(&f);
    f.g = graph_new(c, is_stdin ? "model" : stem(c, file), batch);
    f.g->file = format(c, "%s", f.file);
    if (!sandbox_open(&f))
        fail(c, STATUS_INPUT, "%s: no memory to run it", f.file);
    guard(c, run_protected, close_state, &f);
    return f.g;
}
