/* The state of a training run in a file, from which an interrupted one goes on to the same
 * bits: parameters, the optimiser's moments, the counters that seeds depend on, the place in
 * the epoch.  The order of samples and dropout follow from those.
 *
 *   "cnnc checkpoint 1\n", one line of JSON, the floats of parameters and of both moments in
 *   the order of state_dict, CRC-32C of all before.
 */
#define _GNU_SOURCE
#include "runtime.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[] = "cnnc checkpoint 1\n";
enum { LEAST_MS = 500, SHARE = 20 };       /* apart at least, and this many times as long as one takes */

/* The parameters' names and shapes. */
static uint32_t fingerprint(const Graph *net)
{
    uint32_t crc = 0;
    for (int i = 0; i < net->params; i++) {
        const Param *p = net->param[i];
        crc = crc32c(crc, p->name, strlen(p->name) + 1);
        crc = crc32c(crc, p->shape.dim, (size_t)p->shape.rank * sizeof(int));
    }
    return crc;
}

/* ----------------------------------------------------------------------- writing */

typedef struct Saving { Checkpoint *k; const Model *m; const Position *place; } Saving;

static json_t *describe(const Saving *s)
{
    const Model *m = s->m;
    json_t *losses = json_array();
    for (int i = 0; i < s->k->epochs; i++)
        json_array_append_new(losses, json_real(s->k->loss[i]));
    return json_pack("{sI sI sI sI sI sI sI sb sI sI sf sI so}",
                     "network", (json_int_t)fingerprint(model_net(m)), "batch", (json_int_t)m->options.batch,
                     "samples", (json_int_t)s->place->samples, "seed", (json_int_t)m->options.seed,
                     "steps", (json_int_t)m->steps, "optimizer_steps", (json_int_t)m->optimizer_steps,
                     "order", (json_int_t)s->place->order, "adam", (int)m->adam,
                     "log", (json_int_t)s->place->log, "position", (json_int_t)s->place->position,
                     "sum", s->place->sum, "epochs", (json_int_t)s->k->epochs, "losses", losses);
}

static void save(Context *work, void *argument)
{
    const Saving *s = argument;
    const Model *m = s->m;
    Code *code = m->code[0];
    json_t *state = describe(s);
    char *line = state ? json_dumps(state, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(state);
    if (!line)
        fail(work, STATUS_INPUT, "%s: out of memory", s->k->path);
    size_t head = strlen(magic), text = strlen(line), count = (size_t)params_count(model_net(m));
    size_t length = head + text + 1 + 3 * count * sizeof(float);
    float *flat = NEW_ARRAY(work, float, count);
    unsigned char *data = arena_alloc(work, length + 4, 1), *at = data + head + text + 1;
    memcpy(data, magic, head);
    memcpy(data + head, line, text);
    data[head + text] = '\n';
    free(line);
    const void *part[] = {m->params, m->moment[0], m->moment[1]};
    for (int i = 0; i < 3; i++, at += count * sizeof(float)) {
        code->unpack(code, flat, part[i]);
        memcpy(at, flat, count * sizeof(float));
    }
    uint32_t crc = crc32c(0, data, length);
    for (int i = 0; i < 4; i++)
        data[length + (size_t)i] = (unsigned char)(crc >> 8 * i);
    file_write(work, s->k->path, data, length + 4);
}

void checkpoint_save(Checkpoint *k, Model *m, const Position *place)
{
    double start = milliseconds();
    scratch(m->c, save, &(Saving){k, m, place});
    k->saved = milliseconds();
    k->took = k->saved - start;
}

void checkpoint_step(Checkpoint *k, Model *m, const Position *place)
{
    double pause = SHARE * k->took > LEAST_MS ? SHARE * k->took : LEAST_MS;
    bool due = k->every ? m->steps % k->every == 0 : milliseconds() - k->saved > pause;
    if (due)
        checkpoint_save(k, m, place);
}

void checkpoint_epoch(Checkpoint *k, Model *m, double loss, int samples, int64_t log)
{
    PUSH(m->c, k->loss, k->epochs) = loss;
    checkpoint_save(k, m, &(Position){.samples = samples, .log = log});
}

/* ----------------------------------------------------------------------- reading */

typedef struct Loading { Checkpoint *k; Model *m; int samples; json_t *state; } Loading;

static int64_t state_number(const Loading *l, const char *name)
{
    const json_t *value = json_object_get(l->state, name);
    if (!json_is_integer(value))
        fail(l->m->c, STATUS_INPUT, "%s: found no whole number \"%s\"", l->k->path, name);
    return json_integer_value(value);
}

static void expect_same(const Loading *l, const char *name, int64_t expected)
{
    int64_t found = state_number(l, name);
    if (found != expected)
        fail(l->m->c, STATUS_INPUT,
             "%s: is of another run: %s: found %lld, expected %lld; remove it to begin anew", l->k->path,
             name, (long long)found, (long long)expected);
}

static void read_losses(const Loading *l)
{
    const json_t *losses = json_object_get(l->state, "losses"), *sum = json_object_get(l->state, "sum");
    int64_t epochs = state_number(l, "epochs");
    if (!json_is_array(losses) || !json_is_real(sum) || (int64_t)json_array_size(losses) != epochs)
        fail(l->m->c, STATUS_INPUT, "%s: found no losses of %lld epochs", l->k->path, (long long)epochs);
    for (int64_t i = 0; i < epochs; i++)
        PUSH(l->m->c, l->k->loss, l->k->epochs) = json_number_value(json_array_get(losses, (size_t)i));
    l->k->place.sum = json_real_value(sum);
}

static void take_state(void *argument)
{
    Loading *l = argument;
    Model *m = l->m;
    expect_same(l, "network", fingerprint(model_net(m)));
    expect_same(l, "batch", m->options.batch);
    expect_same(l, "samples", l->samples);
    expect_same(l, "seed", (int64_t)m->options.seed);
    read_losses(l);
    int64_t position = state_number(l, "position"), steps = state_number(l, "steps");
    int64_t optimizer_steps = state_number(l, "optimizer_steps");
    bool inside = position >= 0 && position < l->samples && position % m->options.batch == 0;
    if (!inside || steps < 0 || optimizer_steps < 0 || optimizer_steps > INT32_MAX)
        fail(m->c, STATUS_INPUT, "%s: found position %lld and step %lld of %d samples", l->k->path,
             (long long)position, (long long)steps, l->samples);
    l->k->place.position = (int)position;
    l->k->place.samples = l->samples;
    l->k->place.order = (uint64_t)state_number(l, "order");
    l->k->place.log = state_number(l, "log");
    m->adam = json_is_true(json_object_get(l->state, "adam"));
    m->steps = steps;
    m->optimizer_steps = (int)optimizer_steps;
}

static void release_state(void *argument)
{
    json_decref(((Loading *)argument)->state);
}

static void load(Context *work, void *argument)
{
    Loading *l = argument;
    Model *m = l->m;
    size_t length, head = strlen(magic), count = (size_t)params_count(model_net(m));
    const unsigned char *data = file_read(work, l->k->path, &length);
    if (length < head + 4 || memcmp(data, magic, head))
        fail(work, STATUS_INPUT, "%s: is no checkpoint of cnnc", l->k->path);
    const unsigned char *end = memchr(data + head, '\n', length - head);
    uint32_t crc = 0;
    for (int i = 0; i < 4; i++)
        crc |= (uint32_t)data[length - 4 + (size_t)i] << 8 * i;
    if (!end || crc32c(0, data, length - 4) != crc)
        fail(work, STATUS_INPUT, "%s: is damaged: its checksum differs", l->k->path);
    l->state = json_loadb((const char *)data + head, (size_t)(end - data) - head, 0, NULL);
    guard(work, take_state, release_state, l);
    if (length - 4 - (size_t)(end + 1 - data) != 3 * count * sizeof(float))
        fail(work, STATUS_INPUT, "%s: found %zu bytes, expected %zu numbers", l->k->path, length, 3 * count);
    void *part[] = {m->params, m->moment[0], m->moment[1]};
    float *flat = NEW_ARRAY(work, float, count);
    for (int i = 0; i < 3; i++) {
        memcpy(flat, end + 1 + (size_t)i * count * sizeof(float), count * sizeof(float));
        m->code[0]->pack(m->code[0], part[i], flat);
    }
}

Checkpoint *checkpoint_open(Model *m, const Fit *fit, int samples)
{
    Checkpoint *k = m->checkpoint;
    if (!fit->checkpoint)
        return NULL;
    if (k && !strcmp(k->path, fit->checkpoint))
        return k;
    if (m->steps)
        fail(m->c, STATUS_INPUT, "%s: fit: checkpoint has to be given from the first epoch on", m->network);
    k = NEW(m->c, Checkpoint);
    *k = (Checkpoint){.path = format(m->c, "%s", fit->checkpoint), .every = fit->checkpoint_every,
                      .saved = milliseconds()};
    if (access(k->path, F_OK) == 0) {
        scratch(m->c, load, &(Loading){k, m, samples, NULL});
        fprintf(stderr, "%s: going on from %s: epoch %d, sample %d of %d\n", m->network, k->path,
                k->epochs + 1, k->place.position, samples);
    }
    return m->checkpoint = k;
}
