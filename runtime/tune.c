/* `--tune`: times a few shapes of leaves for every kernel on this machine and keeps the
 * winners in a file, which `--schedule` reads.
 *
 * All kernels take the same candidate at once, so that a handful of programs tells about
 * all of them: each kernel is timed where it runs, behind the kernel before it. */
#include "runtime.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

enum {
    ROUNDS = 3,               /* over the candidates: what disturbs one seldom disturbs the other */
    RUNS = 40                 /* of a candidate in a round */
};
static const double worth = 0.98;      /* of the default's time: less gain is noise */

/* ------------------------------------------------------------------------ the file */

typedef struct Reading {
    Context *c;
    const char *path;
    const Target *target;
    json_t *json;
    LeafShapes *shapes;
} Reading;

static LeafShape read_shape(const Reading *r, size_t row, const json_t *value)
{
    const char *kernel = json_string_value(json_object_get(value, "kernel"));
    const json_t *tile = json_object_get(value, "tile"), *vectors = json_object_get(value, "vectors");
    if (!kernel || !json_is_integer(tile) || !json_is_integer(vectors))
        fail(r->c, STATUS_INPUT, "%s: kernels, row %zu: expected {\"kernel\": name, \"tile\": number, "
             "\"vectors\": number}", r->path, row + 1);
    json_int_t t = json_integer_value(tile), v = json_integer_value(vectors);
    if (t < 1 || t > 1000 || v < 1 || v > 1000 || !leaf_shape_fits(r->target, (int)t, (int)v))
        fail(r->c, STATUS_INPUT, "%s: kernels, row %zu: %s: found tile %lld, vectors %lld: %s has no leaf of "
             "that shape", r->path, row + 1, kernel, (long long)t, (long long)v, r->target->name);
    return (LeafShape){format(r->c, "%s", kernel), (int)t, (int)v};
}

static void read_json(void *argument)
{
    Reading *r = argument;
    size_t length;
    const char *text = (const char *)file_read(r->c, r->path, &length);
    json_error_t error;
    r->json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!r->json)
        fail(r->c, STATUS_INPUT, "%s:%d: not a schedule: %s", r->path, error.line, error.text);
    const char *target = json_string_value(json_object_get(r->json, "target"));
    const json_t *kernels = json_object_get(r->json, "kernels");
    if (!target || !json_is_array(kernels))
        fail(r->c, STATUS_INPUT, "%s: not a schedule: expected {\"target\": name, \"kernels\": [...]}",
             r->path);
    if (strcmp(target, r->target->name))
        fail(r->c, STATUS_INPUT, "%s: target: found %s, expected %s", r->path, target, r->target->name);
    for (size_t row = 0; row < json_array_size(kernels); row++)
        PUSH(r->c, r->shapes->shape, r->shapes->count) = read_shape(r, row, json_array_get(kernels, row));
}

static void release_json(void *argument)
{
    json_decref(((Reading *)argument)->json);
}

const LeafShapes *schedule_read(Context *c, const char *path, const Target *target)
{
    Reading r = {.c = c, .path = path, .target = target_level(target), .shapes = NEW(c, LeafShapes)};
    r.shapes->file = path;
    guard(c, read_json, release_json, &r);
    return r.shapes;
}

static void schedule_write(Context *c, const LeafShapes *shapes, const Target *target)
{
    Text t = {.c = c};
    text_add(&t, "{\n  \"target\": \"%s\",\n  \"kernels\": [", target_level(target)->name);
    for (int i = 0; i < shapes->count; i++)
        text_add(&t, "%s\n    {\"kernel\": \"%s\", \"tile\": %d, \"vectors\": %d}", i ? "," : "",
                 shapes->shape[i].kernel, shapes->shape[i].tile, shapes->shape[i].vectors);
    text_add(&t, "\n  ]\n}\n");
    file_write(c, shapes->file, t.data, strlen(t.data));
}

/* ---------------------------------------------------------------------- the search */

typedef struct Tuning {
    Context *c;
    const CommandOptions *options;
    Model *model;             /* the candidate's */
    int candidate;
    int kernels;
    const char **name;
    double *ms[CANDIDATES];   /* least median of a kernel so far */
    LeafShape *shape[CANDIDATES];
} Tuning;

static void prepare(Tuning *t)
{
    const Function *f = model_program(t->model)->forward;
    t->kernels = f->kernels;
    t->name = NEW_ARRAY(t->c, const char *, f->kernels);
    for (int i = 0; i < CANDIDATES; i++) {
        t->ms[i] = NEW_ARRAY(t->c, double, f->kernels);
        t->shape[i] = NEW_ARRAY(t->c, LeafShape, f->kernels);
    }
}

static void time_candidate(void *argument)
{
    Tuning *t = argument;
    const Function *f = model_program(t->model)->forward;
    if (!t->kernels)
        prepare(t);
    double *ms = NEW_ARRAY(t->c, double, t->kernels), *least = t->ms[t->candidate];
    kernels_time(t->model, RUNS, bench_io(t->model), ms);
    for (int k = 0; k < t->kernels; k++) {
        const Nest *nest = f->kernel[k]->nest[0];
        t->name[k] = format(t->c, "%s", f->kernel[k]->name);
        t->shape[t->candidate][k] = (LeafShape){NULL, nest->tile, nest->vectors};
        least[k] = least[k] > 0 && least[k] < ms[k] ? least[k] : ms[k];
    }
}

static void close_candidate(void *argument)
{
    model_close(((Tuning *)argument)->model);
}

/* In memory of its own, but for what it finds. */
static void try_candidate(Context *work, void *argument)
{
    Tuning *t = argument;
    const CommandOptions *o = t->options;
    t->model = model_open(work, o->network, (ModelOptions){
        .batch = o->compile.batch, .jit = o->jit, .profile = true, .target = o->compile.target,
        .seed = o->seed, .candidate = t->candidate, .winograd = o->compile.winograd});
    guard(t->c, time_candidate, close_candidate, t);
}

/* The least time of a kernel in a candidate's shape, whichever candidates have it. */
static double time_of_shape(const Tuning *t, int kernel, int candidate)
{
    const LeafShape *shape = &t->shape[candidate][kernel];
    double least = t->ms[candidate][kernel];
    for (int i = 0; i < CANDIDATES; i++)
        if (t->shape[i][kernel].tile == shape->tile && t->shape[i][kernel].vectors == shape->vectors &&
            t->ms[i][kernel] < least)
            least = t->ms[i][kernel];
    return least;
}

/* 0 unless another is worth it. */
static int best_candidate(const Tuning *t, int kernel)
{
    int best = 0;
    double least = worth * time_of_shape(t, kernel, 0);
    for (int i = 1; i < CANDIDATES; i++)
        if (time_of_shape(t, kernel, i) < least) {
            best = i;
            least = time_of_shape(t, kernel, i);
        }
    return best;
}

const LeafShapes *tune(Context *c, const CommandOptions *o)
{
    Tuning t = {.c = c, .options = o};
    LeafShapes *winners = NEW(c, LeafShapes);
    winners->file = o->schedule;
    Progress progress = progress_start(ROUNDS * CANDIDATES);
    for (int round = 0; round < ROUNDS; round++)
        for (t.candidate = 0; t.candidate < CANDIDATES; t.candidate++) {
            scratch(c, try_candidate, &t);
            progress_show(&progress, round * CANDIDATES + t.candidate + 1, NAN);
        }
    progress_clear(&progress);
    for (int k = 0; k < t.kernels; k++) {
        int best = best_candidate(&t, k);
        if (best)
            PUSH(c, winners->shape, winners->count) =
                (LeafShape){t.name[k], t.shape[best][k].tile, t.shape[best][k].vectors};
    }
    schedule_write(c, winners, o->compile.target);
    return winners;
}
