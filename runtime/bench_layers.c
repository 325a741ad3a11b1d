/* `cnnc bench --layers`: a row a kernel, its time beside what the machine's limits allow. */
#include "runtime.h"

#include <jansson.h>
#include <string.h>

enum { MAX_RUNS = 10000 };

typedef struct LayerRow {
    const char *name, *operations, *output;
    const Shape *shape;
    int64_t macs;                      /* multiplications with addition */
    int64_t weights, read, written;    /* bytes: of parameters, else read, written */
    double ms;                         /* median */
    double compute_ms, traffic_ms, bound_ms;       /* at the machine's limits; the larger one */
} LayerRow;

struct BenchLayers {
    Context *c;
    const Target *target;              /* the row that ran, never "native" */
    Limits limits;
    LayerRow *row;  int rows;
    LayerRow total;
};

/* ------------------------------------------------------------- what has to be done */

/* Elements that a kernel stores: the places of its nests' parallel axes. */
static int64_t stored_elements(const Kernel *k)
{
    int64_t sum = 0;
    for (int i = 0; i < k->nests; i++) {
        const Nest *nest = k->nest[i];
        int64_t places = 1;
        for (int a = 0; a < nest->axes; a++)
            places *= nest->axis[a].reduce ? 1 : nest->axis[a].extent;
        sum += places;
    }
    return sum;
}

/* Of all kernels that were taken together. */
static int64_t macs_of(const Kernel *k)
{
    const Node *last = NULL;
    int64_t macs = 0;
    for (int i = 0; i < k->nests; i++) {
        const Node *n = k->nest[i]->store.node, *start = n->root ? n->root : n;
        bool counts = !k->nest[i]->moves && n != last && start->op->macs;
        macs += counts ? start->op->macs(start) : 0;
        last = n;
    }
    return macs;
}

static LayerRow row_of(Context *c, const Kernel *k)
{
    const Node *start = kernel_start(k);
    LayerRow row = {.name = kernel_layers(c, k), .operations = kernel_operations(c, k),
                    .output = shape_text(c, &k->node->shape, false), .shape = &k->node->shape,
                    .macs = k->start ? macs_of(k) : start->op->macs ? start->op->macs(start) : 0,
                    .written = 4 * stored_elements(k)};
    for (int i = 1; i < k->storages; i++) {
        const Storage *s = k->storage[i];
        *(s->place == PLACE_PARAM ? &row.weights : &row.read) += 4 * (int64_t)s->layout.elements;
    }
    return row;
}

/* ------------------------------------------------------------------------- timing */

typedef struct Clock { double last, *time; int runs; } Clock;      /* time: MAX_RUNS a kernel */

static void tick(void *user, int kernel)
{
    Clock *clock = user;
    double now = milliseconds();
    clock->time[(int64_t)kernel * MAX_RUNS + clock->runs] = now - clock->last;
    clock->last = now;
}

static const Function *timed(const Model *m)
{
    const Program *p = model_program(m);
    return m->options.train ? p->backward : p->forward;
}

static void run(Model *m, Code *code, void *const *io, Clock *clock)
{
    code->profile(code, m->params, io, m->grad, NULL, m->workspace, m->options.seed, tick, clock);
}

void kernels_time(Model *m, int wanted, void *const *io, double *ms)
{
    Code *code = model_code(m, m->options.batch);
    int kernels = timed(m)->kernels;
    Clock clock = {.time = NEW_ARRAY(m->c, double, (int64_t)kernels * MAX_RUNS)};
    int most = wanted && wanted < MAX_RUNS ? wanted : MAX_RUNS;
    for (int i = 0; i < BENCH_WARM_UP; i++)
        run(m, code, io, &clock);
    double begin = milliseconds();
    while (clock.runs < most && (wanted || clock.last - begin < BENCH_MS)) {
        clock.last = milliseconds();
        run(m, code, io, &clock);
        clock.runs++;
    }
    for (int k = 0; k < kernels; k++) {
        double *time = clock.time + (int64_t)k * MAX_RUNS;
        bench_sort(time, clock.runs);
        ms[k] = time[clock.runs / 2];
    }
}

/* ------------------------------------------------------------------ what it could be */

static bool known(const BenchLayers *b)
{
    return b->limits.peak_gflops > 0;
}

/* What a kernel reads was written shortly before; its weights were last seen a whole call
 * ago, and `call` bytes have passed since. */
static void set_bounds(LayerRow *row, const Limits *limits, int64_t call)
{
    row->compute_ms = 2e-6 * (double)row->macs / limits->peak_gflops;
    row->traffic_ms = limits_traffic_ms(limits, row->read + row->written, row->read, row->written) +
                      limits_traffic_ms(limits, call, row->weights, 0);
    row->bound_ms = row->compute_ms > row->traffic_ms ? row->compute_ms : row->traffic_ms;
}

static LayerRow total_of(const BenchLayers *b)
{
    LayerRow total = {.name = "total", .operations = "", .output = ""};
    for (int k = 0; k < b->rows; k++) {
        const LayerRow *row = &b->row[k];
        total.macs += row->macs;
        total.weights += row->weights;
        total.read += row->read;
        total.written += row->written;
        total.ms += row->ms;
        total.compute_ms += row->compute_ms;
        total.traffic_ms += row->traffic_ms;
        total.bound_ms += row->bound_ms;
    }
    return total;
}

BenchLayers *bench_layers(Model *m, int runs, void *const *io)
{
    const Function *f = timed(m);
    const Code *code = model_code(m, m->options.batch);
    BenchLayers *b = NEW(m->c, BenchLayers);
    b->c = m->c;
    b->target = f->target;
    b->rows = f->kernels;
    b->row = NEW_ARRAY(b->c, LayerRow, b->rows);
    for (int k = 0; k < b->rows; k++)
        b->row[k] = row_of(b->c, f->kernel[k]);
    limits_measure(b->c, b->target, &b->limits);
    double *ms = NEW_ARRAY(b->c, double, b->rows);
    kernels_time(m, runs, io, ms);
    for (int k = 0; k < b->rows; k++)
        b->row[k].ms = ms[k];
    limits_measure_peak(b->target, &b->limits);
    for (int k = 0; k < b->rows && known(b); k++)
        set_bounds(&b->row[k], &b->limits, code->params_bytes + code->workspace_bytes);
    b->total = total_of(b);
    return b;
}

static double gflops(const LayerRow *row)
{
    return 2e-6 * (double)row->macs / row->ms;
}

static int64_t bytes(const LayerRow *row)
{
    return row->weights + row->read + row->written;
}

static double gbs(const LayerRow *row)
{
    return 1e-6 * (double)bytes(row) / row->ms;
}

/* ------------------------------------------------------------------------- as text */

static void print_limits(const BenchLayers *b)
{
    if (!known(b)) {
        printf("\nNo peak measured: target %s has no vectors to measure with.\n\n", b->target->name);
        return;
    }
    printf("\npeak of %s, one thread: %.1f GFLOP/s\n", b->target->name, b->limits.peak_gflops);
    for (int i = 0; i < TRAFFICS; i++) {
        const Traffic *t = &b->limits.traffic[i];
        printf("%-9s %6d KiB: copy %6.1f, read %6.1f GB/s\n", i ? "" : "bandwidth", (int)(t->bytes >> 10),
               t->copy_gbs, t->read_gbs);
    }
    putchar('\n');
}

static void print_percent(const BenchLayers *b, double least_ms, double ms, int width)
{
    if (known(b))
        printf("  %*.0f", width, 100 * least_ms / ms);
    else
        printf("  %*s", width, "-");
}

static void print_row(const BenchLayers *b, const LayerRow *row, const int *width)
{
    printf("%-*s  %-*s  %-*s  %9.4f  %7.1f", width[0], row->name, width[1], row->operations, width[2],
           row->output, row->ms, gflops(row));
    print_percent(b, row->compute_ms, row->ms, 6);
    printf("  %6.1f", gbs(row));
    print_percent(b, row->traffic_ms, row->ms, 11);
    print_percent(b, row->bound_ms, row->ms, 7);
    putchar('\n');
}

static void widen(int *width, const char *text)
{
    if ((int)strlen(text) > *width)
        *width = (int)strlen(text);
}

void bench_layers_print(const BenchLayers *b)
{
    static const char *const title[] = {"layer", "operations", "output"};
    int width[3] = {0};
    for (int i = 0; i < 3; i++)
        widen(&width[i], title[i]);
    for (int k = 0; k < b->rows; k++) {
        widen(&width[0], b->row[k].name);
        widen(&width[1], b->row[k].operations);
        widen(&width[2], b->row[k].output);
    }
    print_limits(b);
    printf("%-*s  %-*s  %-*s  %9s  %7s  %6s  %6s  %11s  %7s\n", width[0], title[0], width[1], title[1],
           width[2], title[2], "ms", "GFLOP/s", "% peak", "GB/s", "% bandwidth", "% bound");
    for (int k = 0; k < b->rows; k++)
        print_row(b, &b->row[k], width);
    print_row(b, &b->total, width);
}

/* ------------------------------------------------------------------------- as JSON */

/* Of the least time in the measured one; null where the limits are not known. */
static json_t *json_percent(const BenchLayers *b, double least_ms, double ms)
{
    return known(b) ? json_real(100 * least_ms / ms) : json_null();
}

static json_t *json_row(const BenchLayers *b, const LayerRow *row)
{
    json_t *output = json_array(), *name = json_string(row->name);
    for (int d = 0; d < row->shape->rank; d++)
        json_array_append_new(output, json_integer(row->shape->dim[d]));
    if (!name)                                   /* JSON is UTF-8, a layer's name need not be */
        name = json_string(c_identifier(b->c, row->name));
    return json_pack("{s:o, s:s, s:o, s:I, s:I, s:f, s:f, s:f, s:o, s:o, s:o}",
                     "name", name, "operations", row->operations, "output", output,
                     "macs", (json_int_t)row->macs, "bytes", (json_int_t)bytes(row),
                     "ms", row->ms, "gflops", gflops(row), "gbs", gbs(row),
                     "peak_percent", json_percent(b, row->compute_ms, row->ms),
                     "bandwidth_percent", json_percent(b, row->traffic_ms, row->ms),
                     "bound_percent", json_percent(b, row->bound_ms, row->ms));
}

void bench_layers_json(const BenchLayers *b, json_t *to)
{
    json_t *layers = json_array(), *bandwidth = json_array();
    for (int k = 0; k < b->rows; k++)
        json_array_append_new(layers, json_row(b, &b->row[k]));
    for (int i = 0; i < TRAFFICS && known(b); i++) {
        const Traffic *t = &b->limits.traffic[i];
        json_array_append_new(bandwidth, json_pack("{s:I, s:f, s:f}", "bytes", (json_int_t)t->bytes,
                                                   "copy_gbs", t->copy_gbs, "read_gbs", t->read_gbs));
    }
    json_object_set_new(to, "peak_gflops", known(b) ? json_real(b->limits.peak_gflops) : json_null());
    json_object_set_new(to, "bandwidth", bandwidth);
    json_object_set_new(to, "bound_percent", json_percent(b, b->total.bound_ms, b->total.ms));
    json_object_set_new(to, "layers", layers);
}
