/* `cnnc bench`: how long one call of the compiled network takes. */
#include "runtime.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

enum { MAX_RUNS = 100000 };

typedef struct Bench {
    Context *c;
    const CommandOptions *options;
    Model *model;
    double open_ms;           /* reading, compiling, initialising */
    void **io;                /* forward: inputs, then outputs; training: all inputs */
    double *time_ms;          /* of each run, sorted in the end */
    int runs;
    BenchLayers *layers;      /* with --layers */
} Bench;

static void *random_input(Context *c, const Input *in, uint64_t seed)
{
    int count = shape_count(&in->shape);
    if (in->dtype == I32) {
        int32_t *label = NEW_ARRAY(c, int32_t, count);
        for (int i = 0; i < count; i++)
            label[i] = i % in->classes;
        return label;
    }
    float *value = NEW_ARRAY(c, float, count);
    for (int i = 0; i < count; i++)
        value[i] = 2 * random_unit(seed, 0x10000u + (uint32_t)in->index, (uint32_t)i) - 1;
    return value;
}

void **bench_io(const Model *m)
{
    const Program *p = model_program(m);
    bool train = m->options.train;
    void **io = NEW_ARRAY(m->c, void *, p->net->inputs + p->outputs);
    int next = 0;
    for (int i = 0; i < p->net->inputs; i++)
        if (train || !p->net->input[i]->loss_only)
            io[next++] = random_input(m->c, p->net->input[i], m->options.seed);
    for (int i = 0; i < p->outputs && !train; i++)
        io[next++] = NEW_ARRAY(m->c, float, shape_count(&p->output[i].node->shape));
    return io;
}

/* One forward pass, or one training step. */
static void run_once(Bench *b, Code *code)
{
    Model *m = b->model;
    if (!b->options->train) {
        code->forward(code, m->params, b->io, m->workspace);
        return;
    }
    code->backward(code, m->params, b->io, m->grad, NULL, m->workspace, b->options->seed, false);
    code->sgd(code, m->params, m->grad, m->moment[0], 1e-4f, 0.9f, 0);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bench_sort(double *time, int count)
{
    qsort(time, (size_t)count, sizeof *time, compare);
}

static void measure(Bench *b)
{
    Code *code = model_code(b->model, b->options->compile.batch);
    int wanted = b->options->runs ? b->options->runs : MAX_RUNS;
    b->time_ms = NEW_ARRAY(b->c, double, wanted);
    for (int i = 0; i < BENCH_WARM_UP; i++)
        run_once(b, code);
    double begin = milliseconds(), last = begin;
    while (b->runs < wanted && (b->options->runs || last - begin < BENCH_MS)) {
        run_once(b, code);
        double now = milliseconds();
        b->time_ms[b->runs++] = now - last;
        last = now;
    }
    bench_sort(b->time_ms, b->runs);
}

static int64_t graph_macs(const Graph *g)
{
    int64_t macs = 0;
    const bool *live = graph_live(g);
    for (int i = 0; i < g->nodes; i++)
        if (live[i] && g->node[i]->op->macs)
            macs += g->node[i]->op->macs(g->node[i]);
    return macs;
}

static void report(const Bench *b)
{
    static const char *const jits[] = {[JIT_TCC] = "tcc", [JIT_CC] = "cc", [JIT_EVAL] = "eval"};
    const CommandOptions *o = b->options;
    const Program *p = model_program(b->model);
    Code *code = model_code(b->model, o->compile.batch);
    const Function *f = o->train ? p->backward : p->forward;
    const char *mode = o->train ? "train" : "forward", *jit = jits[o->jit];
    double median = b->time_ms[b->runs / 2], least = b->time_ms[0];
    double throughput = 1e3 * o->compile.batch / median;
    double gflops = 2e-6 * (double)graph_macs(f->graph) / median;
    int64_t workspace = o->train ? code->train_workspace_bytes : code->workspace_bytes;
    if (!o->json) {
        printf("%-12s %-7s batch %-3d %-4s %10.4f ms (best %.4f) %10.0f/s %7.2f GFLOP/s  compile %.2f ms, "
               "ready in %.2f ms, workspace %" PRId64 " bytes\n",
               p->net->name, mode, o->compile.batch, jit, median, least, throughput, gflops, code->compile_ms,
               b->open_ms, workspace);
        if (b->layers)
            bench_layers_print(b->layers);
        return;
    }
    json_t *row = json_pack("{s:s, s:s, s:i, s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:I}",
                            "network", c_identifier(b->c, p->net->name), "mode", mode,
                            "batch", o->compile.batch, "jit", jit, "runs", b->runs, "latency_ms", median,
                            "latency_best_ms", least, "throughput", throughput, "gflops", gflops,
                            "compile_ms", code->compile_ms, "ready_ms", b->open_ms,
                            "workspace_bytes", (json_int_t)workspace);
    if (b->layers)
        bench_layers_json(b->layers, row);
    if (json_dumpf(row, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) == 0)
        putchar('\n');
    json_decref(row);
}

static void bench(void *argument)
{
    Bench *b = argument;
    if (b->options->weights)
        model_load(b->model, b->options->weights);
    b->io = bench_io(b->model);
    measure(b);
    if (b->options->layers)
        b->layers = bench_layers(b->model, b->options->runs, b->io);
    report(b);
}

static void close_model(void *argument)
{
    model_close(((Bench *)argument)->model);
}

int command_bench(Context *c, const CommandOptions *o)
{
    if (o->layers && o->jit == JIT_EVAL)
        fail(c, STATUS_USAGE, "--layers: times kernels by tcc or cc, found --jit eval");
    if (o->layers && o->compile.threads > 1)
        fail(c, STATUS_USAGE, "--layers: times one thread, found --threads %d", o->compile.threads);
    Bench b = {.c = c, .options = o};
    ModelOptions options = {.batch = o->compile.batch, .jit = o->jit, .train = o->train,
                            .profile = o->layers, .target = o->compile.target, .seed = o->seed,
                            .threads = o->compile.threads, .shapes = o->compile.shapes,
                            .winograd = o->compile.winograd, .optimize = o->compile.optimize};
    double start = milliseconds();
    b.model = model_open(c, o->network, options);
    b.open_ms = milliseconds() - start;
    guard(c, bench, close_model, &b);
    return STATUS_OK;
}
