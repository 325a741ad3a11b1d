/* Networks, models and optimisers in experiments.  experiment_pass.c has the methods
 * that pass tensors through a model. */
#include "runtime.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <string.h>

static const char *const NETWORK = "cnnc.network";
static const char *const MODEL = "cnnc.model";
static const char *const OPTIMIZER = "cnnc.optimizer";

/* ------------------------------------------------------------------ optimisers */

static void push_optimizer(lua_State *L, Optimizer o)
{
    Optimizer *to = lua_newuserdatauv(L, sizeof *to, 0);
    *to = o;
    luaL_setmetatable(L, OPTIMIZER);
}

static int sgd(lua_State *L)
{
    static const char *const known[] = { "lr", "momentum", "weight_decay", NULL };
    OptionTable o = options_open(L, 1, "sgd", known);
    push_optimizer(L, (Optimizer){
        .lr = (float)option_number(&o, "lr", NAN, 0, 1e6),
        .momentum = (float)option_number(&o, "momentum", 0, 0, 1),
        .weight_decay = (float)option_number(&o, "weight_decay", 0, 0, 1e6) });
    return 1;
}

/* Defaults as torch.optim.Adam. */
static int adam(lua_State *L)
{
    static const char *const known[] = { "lr", "beta1", "beta2", "eps", "weight_decay", NULL };
    OptionTable o = options_open(L, 1, "adam", known);
    push_optimizer(L, (Optimizer){
        .adam = true,
        .lr = (float)option_number(&o, "lr", 1e-3, 0, 1e6),
        .beta1 = (float)option_number(&o, "beta1", 0.9, 0, 0.999999),
        .beta2 = (float)option_number(&o, "beta2", 0.999, 0, 0.999999),
        .eps = (float)option_number(&o, "eps", 1e-8, 0, 1e6),
        .weight_decay = (float)option_number(&o, "weight_decay", 0, 0, 1e6) });
    return 1;
}

/* ------------------------------------------------------------ networks and models */

typedef struct Network { bool has_loss; char path[]; } Network;

/* A model and the memory that goes with it. */
typedef struct Box {
    Context c;
    Model *m;
} Box;

Model *script_model_at(lua_State *L, int index)
{
    const Box *box = luaL_checkudata(L, index, MODEL);
    if (!box->m)
        luaL_error(L, "the model is closed");
    return box->m;
}

static int model_free(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, MODEL);
    if (box->m)
        model_close(box->m);
    box->m = NULL;
    context_free(&box->c);
    return 0;
}

static Box *push_box(lua_State *L)
{
    Box *box = lua_newuserdatauv(L, sizeof *box, 0);
    context_init(&box->c);
    box->m = NULL;
    luaL_setmetatable(L, MODEL);                 /* from here on the collector frees it */
    return box;
}

typedef struct Probe { Box *box; const char *path; bool has_loss; } Probe;

static void probe(void *argument)
{
    Probe *p = argument;
    const Graph *g = network_load(&p->box->c, p->path, 1);
    for (int r = 0; r < g->roots; r++)
        p->has_loss |= g->root[r].kind == ROOT_LOSS;
}

/* Reads the file once now, so that its errors show where it is named. */
static int load_model(lua_State *L)
{
    size_t length;
    Probe p = { .path = luaL_checklstring(L, 1, &length), .box = push_box(L) };
    watch_note(p.path);
    guarded(L, &p.box->c, probe, &p);
    context_free(&p.box->c);
    Network *n = lua_newuserdatauv(L, sizeof *n + length + 1, 0);
    n->has_loss = p.has_loss;
    memcpy(n->path, p.path, length + 1);
    luaL_setmetatable(L, NETWORK);
    return 1;
}

typedef struct Opening { Box *box; const char *path, *jit; ModelOptions options; } Opening;

static void open_model(void *argument)
{
    Opening *o = argument;
    o->options.jit = jit_find(&o->box->c, o->jit);
    o->box->m = model_open(&o->box->c, o->path, o->options);
}

/* network:compile { batch =, jit =, target =, train = } */
static int network_compile(lua_State *L)
{
    static const char *const known[] = { "batch", "jit", "target", "train", NULL };
    const Network *n = luaL_checkudata(L, 1, NETWORK);
    OptionTable o = options_open(L, 2, "compile", known);
    const char *target = option_text(&o, "target", "native");
    Opening opening = { .path = n->path, .jit = option_text(&o, "jit", "tcc") };
    opening.options = (ModelOptions){ .batch = option_whole(&o, "batch", 1, 1, 1 << 20),
                                      .train = option_flag(&o, "train", n->has_loss),
                                      .target = target_find(target) };
    if (!opening.options.target)
        luaL_error(L, "compile: target: unknown target \"%s\"", target);
    opening.box = push_box(L);
    guarded(L, &opening.box->c, open_model, &opening);
    return 1;
}

/* ---------------------------------------------------------- parameters and files */

typedef struct Action {
    Model *m;
    uint64_t seed;
    const char *path;
    const Dataset *d;
    Fit fit;
    double result;
    const float *flat;
} Action;

static void init(void *argument)
{
    Action *a = argument;
    model_init(a->m, a->seed);
}

static int model_lua_init(lua_State *L)
{
    Action a = { .m = script_model_at(L, 1), .seed = (uint64_t)luaL_optinteger(L, 2, 0) };
    guarded(L, a.m->c, init, &a);
    return 0;
}

static void load(void *argument)
{
    Action *a = argument;
    model_load(a->m, a->path);
}

static int model_lua_load(lua_State *L)
{
    Action a = { .m = script_model_at(L, 1), .path = luaL_checkstring(L, 2) };
    guarded(L, a.m->c, load, &a);
    return 0;
}

static void save(void *argument)
{
    Action *a = argument;
    model_save(a->m, a->path);
}

static int model_lua_save(lua_State *L)
{
    Action a = { .m = script_model_at(L, 1), .path = luaL_checkstring(L, 2) };
    guarded(L, a.m->c, save, &a);
    return 0;
}

/* A new table from the names of parameters to their part of flat. */
static void push_flat(lua_State *L, const Graph *net, const float *flat, bool trainable_only)
{
    lua_createtable(L, 0, net->params);
    for (int k = 0; k < net->params; k++) {
        const Param *p = net->param[k];
        if (trainable_only && (!p->trainable || p->statistic))
            continue;
        Tensor *t = script_tensor_push(L, &p->shape);
        for (int i = 0; i < p->count; i++)
            t->data[i] = (double)flat[p->offset + i];
        lua_setfield(L, -2, p->name);
    }
}

static void unpack_params(void *argument)
{
    Action *a = argument;
    a->flat = model_flat(a->m);
}

static int model_params(lua_State *L)
{
    Action a = { .m = script_model_at(L, 1) };
    guarded(L, a.m->c, unpack_params, &a);
    push_flat(L, model_net(a.m), a.flat, false);
    return 1;
}

static void unpack_grad(void *argument)
{
    Action *a = argument;
    Code *code = a->m->code[0];
    if (!a->m->options.train)
        fail(a->m->c, STATUS_INPUT, "%s: gradients: the model was compiled without training", a->m->network);
    code->unpack(code, (float *)a->flat, a->m->grad);
}

/* Pushes room for the gradients of the last backward or step, and fills it. */
static const float *push_grad(lua_State *L, Model *m)
{
    size_t bytes = (size_t)params_count(model_net(m)) * sizeof(float);
    Action a = { .m = m, .flat = lua_newuserdatauv(L, bytes, 0) };
    guarded(L, m->c, unpack_grad, &a);
    return a.flat;
}

static int model_grads(lua_State *L)
{
    Model *m = script_model_at(L, 1);
    const float *flat = push_grad(L, m);
    push_flat(L, model_net(m), flat, true);
    return 1;
}

/* {{ name = "conv1", norm = 0.5 }, ...}: the length of the gradient of all that a
 * layer learns, in order of declaration. */
static int model_grad_norms(lua_State *L)
{
    Model *m = script_model_at(L, 1);
    const Graph *net = model_net(m);
    const float *flat = push_grad(L, m);
    const char **name = lua_newuserdatauv(L, (size_t)(net->params + 1) * sizeof *name, 0);
    double *norm = lua_newuserdatauv(L, (size_t)(net->params + 1) * sizeof *norm, 0);
    int layers = layer_norms(net, flat, name, norm);
    lua_createtable(L, layers, 0);
    for (int i = 0; i < layers; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, name[i]);
        lua_setfield(L, -2, "name");
        lua_pushnumber(L, norm[i]);
        lua_setfield(L, -2, "norm");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* ------------------------------------------------------------------- training */

static void fit(void *argument)
{
    Action *a = argument;
    a->result = model_fit(a->m, a->d, &a->fit);
}

/* shuffle = N: the order that N stands for; true: another order each epoch. */
static void read_shuffle(lua_State *L, int table, const Model *m, Fit *fit)
{
    if (lua_getfield(L, table, "shuffle") == LUA_TNUMBER) {
        fit->shuffle = true;
        fit->shuffle_seed = (uint64_t)luaL_checkinteger(L, -1);
    } else if (lua_isboolean(L, -1) || lua_isnil(L, -1)) {
        fit->shuffle = lua_toboolean(L, -1);
        fit->shuffle_seed = m->options.seed + (uint64_t)m->epochs;
    } else {
        luaL_error(L, "fit: shuffle: found a %s, expected a whole number, true or false",
                   luaL_typename(L, -1));
    }
    lua_pop(L, 1);
}

/* m:fit(dataset, { optimizer =, shuffle =, log =, report =, csv =, tensorboard =, checkpoint =,
 * checkpoint_every = }): the mean loss of the epoch */
static int model_lua_fit(lua_State *L)
{
    static const char *const known[] = {
        "optimizer", "shuffle", "log", "report", "csv", "tensorboard", "checkpoint", "checkpoint_every",
        NULL };
    Action a = { .m = script_model_at(L, 1), .d = script_dataset_at(L, 2) };
    OptionTable o = options_open(L, 3, "fit", known);
    luaL_checktype(L, 3, LUA_TTABLE);
    a.fit.log = option_text(&o, "log", NULL);
    a.fit.report = option_text(&o, "report", NULL);
    a.fit.csv = option_text(&o, "csv", NULL);
    a.fit.tensorboard = option_text(&o, "tensorboard", NULL);
    a.fit.checkpoint = option_text(&o, "checkpoint", NULL);
    a.fit.checkpoint_every = option_whole(&o, "checkpoint_every", 0, 0, 1000000000);
    read_shuffle(L, 3, a.m, &a.fit);
    lua_getfield(L, 3, "optimizer");
    const Optimizer *optimizer = luaL_testudata(L, -1, OPTIMIZER);
    if (!optimizer)
        return luaL_error(L, "fit: optimizer: found a %s, expected sgd {...} or adam {...}",
                          luaL_typename(L, -1));
    a.fit.optimizer = *optimizer;
    guarded(L, a.m->c, fit, &a);
    lua_pushnumber(L, a.result);
    return 1;
}

static void accuracy(void *argument)
{
    Action *a = argument;
    a->result = model_accuracy(a->m, a->d);
}

static int model_lua_accuracy(lua_State *L)
{
    Action a = { .m = script_model_at(L, 1), .d = script_dataset_at(L, 2) };
    guarded(L, a.m->c, accuracy, &a);
    lua_pushnumber(L, a.result);
    return 1;
}

static int model_tostring(lua_State *L)
{
    const Model *m = script_model_at(L, 1);
    lua_pushfstring(L, "%s: batch %d, %I parameters", m->network, m->options.batch,
                    (lua_Integer)params_count(model_net(m)));
    return 1;
}

/* ---------------------------------------------------------------- registration */

static void register_type(lua_State *L, const char *type, const luaL_Reg *meta, const luaL_Reg *methods)
{
    luaL_newmetatable(L, type);
    luaL_setfuncs(L, meta, 0);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

void experiment_model(lua_State *L)
{
    static const luaL_Reg nothing[] = { { NULL, NULL } };
    static const luaL_Reg network[] = { { "compile", network_compile }, { NULL, NULL } };
    static const luaL_Reg meta[] = {
        { "__gc", model_free }, { "__close", model_free }, { "__tostring", model_tostring }, { NULL, NULL }
    };
    static const luaL_Reg model[] = {
        { "init", model_lua_init }, { "fit", model_lua_fit }, { "accuracy", model_lua_accuracy },
        { "save", model_lua_save }, { "load", model_lua_load }, { "forward", script_forward },
        { "backward", script_backward }, { "params", model_params }, { "grads", model_grads },
        { "grad_norms", model_grad_norms }, { NULL, NULL }
    };
    register_type(L, NETWORK, nothing, network);
    register_type(L, MODEL, meta, model);
    register_type(L, OPTIMIZER, nothing, nothing);
    lua_register(L, "load_model", load_model);
    lua_register(L, "sgd", sgd);
    lua_register(L, "adam", adam);
}
