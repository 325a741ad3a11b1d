/* Datasets in experiments: data.idx, data.npy, data.cifar, data.images. */
#include "runtime.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <string.h>

static const char *const TYPE = "cnnc.dataset";

enum { MAX_FILES = 64 };

/* A slice shares the samples of another dataset, its user value. */
typedef struct Box {
    Context c;
    Dataset *d;
} Box;

static Box *push_box(lua_State *L)
{
    Box *box = lua_newuserdatauv(L, sizeof *box, 1);
    context_init(&box->c);
    box->d = NULL;
    luaL_setmetatable(L, TYPE);                  /* from here on the collector frees it */
    return box;
}

const Dataset *script_dataset_at(lua_State *L, int index)
{
    const Box *box = luaL_checkudata(L, index, TYPE);
    return box->d;
}

/* --------------------------------------------------------------------- readers */

typedef struct Request {
    Box *box;
    Dataset *(*read)(Context *c, const char *values, const char *labels);
    const char *file[MAX_FILES];
    int files;
} Request;

static void read_pair(void *argument)
{
    Request *r = argument;
    r->box->d = r->read(&r->box->c, r->file[0], r->file[1]);
}

static int push_pair(lua_State *L, Dataset *(*read)(Context *c, const char *values, const char *labels))
{
    Request r = { .read = read, .file = { luaL_checkstring(L, 1), luaL_optstring(L, 2, NULL) } };
    r.box = push_box(L);
    guarded(L, &r.box->c, read_pair, &r);
    return 1;
}

static int read_idx(lua_State *L)
{
    return push_pair(L, data_idx);
}

static int read_npy(lua_State *L)
{
    return push_pair(L, data_npy);
}

static void read_files(void *argument)
{
    Request *r = argument;
    r->box->d = data_cifar(&r->box->c, r->files, r->file);
}

static int read_cifar(lua_State *L)
{
    Request r = { .files = lua_gettop(L) };
    luaL_argcheck(L, r.files >= 1 && r.files <= MAX_FILES, 1, "expected 1 to 64 files");
    for (int i = 0; i < r.files; i++)
        r.file[i] = luaL_checkstring(L, i + 1);
    r.box = push_box(L);
    guarded(L, &r.box->c, read_files, &r);
    return 1;
}

static void read_folder(void *argument)
{
    Request *r = argument;
    r->box->d = data_images(&r->box->c, r->file[0]);
}

static int read_images(lua_State *L)
{
    Request r = { .file = { luaL_checkstring(L, 1) } };
    r.box = push_box(L);
    guarded(L, &r.box->c, read_folder, &r);
    return 1;
}

typedef struct Made { Box *box; const Tensor *value, *label; } Made;

static void make_dataset(void *argument)
{
    const Made *m = argument;
    Context *c = &m->box->c;
    Shape sample = shape_of(m->value->shape.rank - 1, m->value->shape.dim + 1);
    Dataset *d = dataset_new(c, "data.tensor", m->value->shape.dim[0], sample, m->label != NULL);
    for (int i = 0, count = shape_count(&m->value->shape); i < count; i++)
        d->value[i] = (float)m->value->data[i];
    for (int i = 0; m->label && i < d->count; i++)
        d->label[i] = (int32_t)m->label->data[i];
    if (m->label)
        dataset_count_classes(d);
    m->box->d = d;
}

/* data.tensor(x, y): samples that the script has made, (N, C, H, W), and their N labels. */
static int make_from_tensors(lua_State *L)
{
    lua_settop(L, 2);
    Made m = { .value = script_tensor_at(L, 1) };
    if (m.value->shape.rank < 2)
        luaL_error(L, "data.tensor: found samples of shape %s, expected several of one size",
                   script_shape_text(L, &m.value->shape));
    if (!lua_isnil(L, 2)) {
        m.label = script_tensor_at(L, 2);
        if (m.label->shape.rank != 1 || m.label->shape.dim[0] != m.value->shape.dim[0])
            luaL_error(L, "data.tensor: found labels of shape %s, expected %d",
                       script_shape_text(L, &m.label->shape), m.value->shape.dim[0]);
        for (int i = 0; i < m.label->shape.dim[0]; i++) {
            double y = m.label->data[i];
            if (!(y >= 0 && y < INT32_MAX && y == floor(y)))
                luaL_error(L, "data.tensor: label %d: found %f, expected a whole number from 0", i + 1, y);
        }
    }
    m.box = push_box(L);
    guarded(L, &m.box->c, make_dataset, &m);
    return 1;
}

/* -------------------------------------------------------------------- datasets */

static void take_slice(void *argument)
{
    Box *box = argument;
    box->d = NEW(&box->c, Dataset);
}

/* d:slice(first, last), both counted from 1 and both included. */
static int dataset_slice(lua_State *L)
{
    const Dataset *d = script_dataset_at(L, 1);
    lua_Integer first = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3);
    if (first < 1 || last < first || last > d->count)
        luaL_error(L, "%s: slice: found %I to %I, expected a part of 1 to %d", d->name, first, last,
                   d->count);
    Box *box = push_box(L);
    guarded(L, &box->c, take_slice, box);
    *box->d = *d;
    box->d->count = (int)(last - first + 1);
    box->d->value += (size_t)(first - 1) * (size_t)shape_count(&d->sample);
    if (d->label)
        box->d->label += first - 1;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* All samples, (N, C, H, W), as a tensor. */
static void push_values(lua_State *L, const Dataset *d)
{
    Shape shape = { .rank = d->sample.rank + 1, .dim = { d->count } };
    memcpy(shape.dim + 1, d->sample.dim, (size_t)d->sample.rank * sizeof(int));
    Tensor *t = script_tensor_push(L, &shape);
    for (int i = 0, count = shape_count(&shape); i < count; i++)
        t->data[i] = (double)d->value[i];
}

static void push_labels(lua_State *L, const Dataset *d)
{
    if (!d->label) {
        lua_pushnil(L);
        return;
    }
    Tensor *t = script_tensor_push(L, &(Shape){ .rank = 1, .dim = { d->count } });
    for (int i = 0; i < d->count; i++)
        t->data[i] = d->label[i];
}

static int dataset_index(lua_State *L)
{
    const Dataset *d = script_dataset_at(L, 1);
    const char *key = luaL_checkstring(L, 2);
    if (!strcmp(key, "slice"))
        lua_pushcfunction(L, dataset_slice);
    else if (!strcmp(key, "classes"))
        lua_pushinteger(L, d->classes);
    else if (!strcmp(key, "name"))
        lua_pushstring(L, d->name);
    else if (!strcmp(key, "shape"))
        script_shape_push(L, &d->sample);
    else if (!strcmp(key, "x"))
        push_values(L, d);
    else if (!strcmp(key, "y"))
        push_labels(L, d);
    else
        luaL_error(L, "dataset: found no field \"%s\", expected slice, classes, name, shape, x or y", key);
    return 1;
}

static int dataset_length(lua_State *L)
{
    lua_pushinteger(L, script_dataset_at(L, 1)->count);
    return 1;
}

static int dataset_tostring(lua_State *L)
{
    const Dataset *d = script_dataset_at(L, 1);
    const char *shape = script_shape_text(L, &d->sample);
    lua_pushfstring(L, "%s: %d samples of %s, %d classes", d->name, d->count, shape, d->classes);
    return 1;
}

static int dataset_free(lua_State *L)
{
    context_free(&((Box *)luaL_checkudata(L, 1, TYPE))->c);
    return 0;
}

void experiment_data(lua_State *L)
{
    static const luaL_Reg methods[] = {
        { "__index", dataset_index }, { "__len", dataset_length }, { "__tostring", dataset_tostring },
        { "__gc", dataset_free }, { NULL, NULL }
    };
    static const luaL_Reg readers[] = {
        { "idx", read_idx }, { "npy", read_npy }, { "cifar", read_cifar }, { "images", read_images },
        { "tensor", make_from_tensors },
        { NULL, NULL }
    };
    luaL_newmetatable(L, TYPE);
    luaL_setfuncs(L, methods, 0);
    lua_pop(L, 1);
    luaL_newlib(L, readers);
    lua_setglobal(L, "data");
}
