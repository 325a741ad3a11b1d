/* Weights in Hugging Face's safetensors format: the length of a header (8 bytes),
 * the header (JSON: name -> dtype, shape, data_offsets), the data.  The offsets
 * must cover the data without holes or overlaps, as the format's own reader insists.
 * JSON is read and written by jansson, whose values a guard() lets go. */
#include "runtime.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "floats are copied as they lie in the file");

enum {
    PREFIX = 8,
    MAX_HEADER = 100000000             /* of the format's own reader */
};

typedef struct Entry {
    const char *name, *dtype;
    json_t *shape;
    size_t begin, end;                 /* in the data */
    bool used;
} Entry;

typedef struct Loading {
    Context *work;
    const Graph *net;
    const char *path;
    float *flat;
    json_t *header;
    const unsigned char *data;         /* behind the header */
    size_t length;                     /* of it */
    Entry *entry;  int entries;
} Loading;

/* ---- the file by itself */

static void read_header(Loading *l)
{
    size_t length;
    const unsigned char *file = file_read(l->work, l->path, &length);
    uint64_t header;
    if (length < PREFIX)
        fail(l->work, STATUS_INPUT, "%s: not a safetensors file: found %zu bytes, expected %d at least",
             l->path, length, PREFIX);
    memcpy(&header, file, PREFIX);
    if (header > length - PREFIX || header > MAX_HEADER)
        fail(l->work, STATUS_INPUT, "%s: safetensors header: found a length of %llu, expected at most %zu",
             l->path, (unsigned long long)header,
             length - PREFIX < MAX_HEADER ? length - PREFIX : (size_t)MAX_HEADER);
    json_error_t error;
    l->header = json_loadb((const char *)file + PREFIX, header, JSON_REJECT_DUPLICATES, &error);
    if (!l->header)
        fail(l->work, STATUS_INPUT, "%s: safetensors header: byte %d: %s",
             l->path, error.position, error.text);
    if (!json_is_object(l->header))
        fail(l->work, STATUS_INPUT, "%s: safetensors header: found no JSON object", l->path);
    l->data = file + PREFIX + header;
    l->length = length - PREFIX - (size_t)header;
}

/* Elements by the shape, or -1 when it is none. */
static json_int_t shape_elements(const json_t *shape)
{
    json_int_t count = 1;
    size_t d;
    json_t *dim;
    json_array_foreach(shape, d, dim)
        if (!json_is_integer(dim) || json_integer_value(dim) < 0
            || __builtin_mul_overflow(count, json_integer_value(dim), &count))
            return -1;
    return count;
}

static Entry read_entry(const Loading *l, const char *name, const json_t *value)
{
    const json_t *offsets = json_object_get(value, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    Entry e = {.name = name, .dtype = json_string_value(json_object_get(value, "dtype")),
               .shape = json_object_get(value, "shape")};
    if (!e.dtype || !json_is_array(e.shape) || json_array_size(offsets) != 2
        || !json_is_integer(begin) || !json_is_integer(end))
        fail(l->work, STATUS_INPUT, "%s: safetensors header: %s: expected dtype, shape and two data_offsets",
             l->path, name);
    json_int_t from = json_integer_value(begin), to = json_integer_value(end), bytes;
    if (from < 0 || to < from || (uint64_t)to > l->length)
        fail(l->work, STATUS_INPUT, "%s: %s: data_offsets: found %lld to %lld, expected 0 to %zu at most",
             l->path, name, (long long)from, (long long)to, l->length);
    json_int_t count = shape_elements(e.shape);
    if (count < 0)
        fail(l->work, STATUS_INPUT, "%s: %s: shape: found one that no tensor has", l->path, name);
    if (strcmp(e.dtype, "F32") == 0 && (__builtin_mul_overflow(count, 4, &bytes) || bytes != to - from))
        fail(l->work, STATUS_INPUT, "%s: %s: data_offsets: found %lld bytes, expected 4 x %lld",
             l->path, name, (long long)(to - from), (long long)count);
    e.begin = (size_t)from;
    e.end = (size_t)to;
    return e;
}

static int by_begin(const void *a, const void *b)
{
    const Entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Every byte of the data belongs to exactly one entry. */
static void check_cover(const Loading *l)
{
    size_t at = 0;
    for (int i = 0; i < l->entries; at = l->entry[i++].end)
        if (l->entry[i].begin != at)
            fail(l->work, STATUS_INPUT, "%s: %s: data_offsets: found a begin of %zu, expected %zu",
                 l->path, l->entry[i].name, l->entry[i].begin, at);
    if (at != l->length)
        fail(l->work, STATUS_INPUT, "%s: safetensors data: found %zu bytes, expected %zu by the header",
             l->path, l->length, at);
}

static void read_entries(Loading *l)
{
    const char *name;
    json_t *value;
    l->entry = NEW_ARRAY(l->work, Entry, json_object_size(l->header));
    json_object_foreach(l->header, name, value)
        if (strcmp(name, "__metadata__") != 0)
            l->entry[l->entries++] = read_entry(l, name, value);
    qsort(l->entry, (size_t)l->entries, sizeof *l->entry, by_begin);
    check_cover(l);
}

/* ---- the file against the network */

/* PyTorch counts the batches that its norms have seen; nothing here depends on it. */
static bool is_batch_counter(const char *name)
{
    static const char end[] = "num_batches_tracked";
    size_t length = strlen(name), ending = sizeof end - 1;
    return strcmp(name, end) == 0
        || (length > ending && name[length - ending - 1] == '.' && strcmp(name + length - ending, end) == 0);
}

/* A list for a message: the first few names. */
typedef struct Names { Text text; int count; } Names;

static void names_add(Names *n, const char *name)
{
    enum { SHOWN = 5 };
    if (n->count++ < SHOWN)
        text_add(&n->text, "%s%.100s", n->count > 1 ? ", " : " (", name);
    else if (n->count == SHOWN + 1)
        text_add(&n->text, ", ...");
}

static const char *names_text(Names *n)
{
    text_add(&n->text, n->count ? ")" : "");
    return n->text.data;
}

/* The entry of each parameter; complains about all wrong names at once. */
static Entry **match_names(Loading *l)
{
    Names missing = {.text.c = l->work}, unknown = {.text.c = l->work};
    Entry **of = NEW_ARRAY(l->work, Entry *, l->net->params);
    for (int p = 0; p < l->net->params; p++) {
        for (int i = 0; i < l->entries && !of[p]; i++)
            if (strcmp(l->entry[i].name, l->net->param[p]->name) == 0)
                of[p] = &l->entry[i];
        if (of[p])
            of[p]->used = true;
        else
            names_add(&missing, l->net->param[p]->name);
    }
    for (int i = 0; i < l->entries; i++)
        if (!l->entry[i].used && !is_batch_counter(l->entry[i].name))
            names_add(&unknown, l->entry[i].name);
    if (missing.count || unknown.count)
        fail(l->work, STATUS_INPUT, "%s: found %d parameters unknown to the network%s, missed %d of its %d%s",
             l->path, unknown.count, names_text(&unknown), missing.count, l->net->params,
             names_text(&missing));
    return of;
}

static void check_entry(const Loading *l, const Entry *e, const Param *p)
{
    if (strcmp(e->dtype, "F32") != 0)
        fail(l->work, STATUS_INPUT, "%s: %s: dtype: found %s, expected F32", l->path, e->name, e->dtype);
    Text found = {.c = l->work};
    text_add(&found, "%s", "");
    size_t d;
    json_t *dim;
    bool equal = json_array_size(e->shape) == (size_t)p->shape.rank;
    json_array_foreach(e->shape, d, dim) {
        equal = equal && json_integer_value(dim) == p->shape.dim[d];
        text_add(&found, d ? "x%lld" : "%lld", (long long)json_integer_value(dim));
    }
    if (!equal)
        fail(l->work, STATUS_INPUT, "%s: %s: shape: found %s, expected %s", l->path, e->name,
             found.length ? found.data : "a scalar", shape_text(l->work, &p->shape, false));
}

static void load(void *argument)
{
    Loading *l = argument;
    read_header(l);
    read_entries(l);
    Entry **of = match_names(l);
    for (int p = 0; p < l->net->params; p++)
        check_entry(l, of[p], l->net->param[p]);
    for (int p = 0; p < l->net->params; p++)           /* nothing is wrong: now the weights may change */
        memcpy(l->flat + l->net->param[p]->offset, l->data + of[p]->begin, of[p]->end - of[p]->begin);
}

static void load_release(void *argument)
{
    json_decref(((Loading *)argument)->header);
}

static void load_guarded(Context *work, void *argument)
{
    Loading *l = argument;
    l->work = work;
    guard(work, load, load_release, l);
}

void safetensors_load(const Graph *net, const char *path, float *flat)
{
    scratch(net->c, load_guarded, &(Loading){.net = net, .path = path, .flat = flat});
}

/* ---- saving */

typedef struct Saving {
    Context *work;
    const Graph *net;
    const char *path;
    const float *flat;
    json_t *header;
} Saving;

static void describe(Saving *s, const Param *p, size_t begin)
{
    json_t *shape = json_array();
    for (int d = 0; d < p->shape.rank; d++)
        json_array_append_new(shape, json_integer(p->shape.dim[d]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets",
                              (json_int_t)begin, (json_int_t)(begin + 4 * (size_t)p->count));
    if (json_object_set_new(s->header, p->name, entry) != 0)
        fail(s->work, STATUS_INPUT, "%s: parameter %s: the name is not UTF-8", s->path, p->name);
}

static void save(void *argument)
{
    Saving *s = argument;
    size_t bytes = 0;
    s->header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    for (int p = 0; p < s->net->params; p++) {
        describe(s, s->net->param[p], bytes);
        bytes += 4 * (size_t)s->net->param[p]->count;
    }
    size_t text = json_dumpb(s->header, NULL, 0, JSON_COMPACT), header = (text + 7) / 8 * 8;
    unsigned char *file = arena_alloc(s->work, PREFIX + header + bytes, 1);
    memcpy(file, &(uint64_t){header}, PREFIX);
    memset(file + PREFIX, ' ', header);
    json_dumpb(s->header, (char *)file + PREFIX, text, JSON_COMPACT);

    unsigned char *at = file + PREFIX + header;
    for (int p = 0; p < s->net->params; p++) {
        size_t size = 4 * (size_t)s->net->param[p]->count;
        memcpy(at, s->flat + s->net->param[p]->offset, size);
        at += size;
    }
    file_write(s->work, s->path, file, PREFIX + header + bytes);
}

static void save_release(void *argument)
{
    json_decref(((Saving *)argument)->header);
}

static void save_guarded(Context *work, void *argument)
{
    Saving *s = argument;
    s->work = work;
    guard(work, save, save_release, s);
}

void safetensors_save(const Graph *net, const char *path, const float *flat)
{
    scratch(net->c, save_guarded, &(Saving){.net = net, .path = path, .flat = flat});
}
