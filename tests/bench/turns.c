/* turns NETWORK.lua WEIGHTS.safetensors INPUT THREADS
 * turns --train BATCH NETWORK.lua WEIGHTS.safetensors INPUT THREADS
 *
 * cnnc's side of a comparison: compiles a network by libtcc and by the system's C compiler,
 * then runs one of them for a while whenever it is told to on standard input, and sleeps in
 * between.  INPUT holds all inputs, one behind the other.  With --train a run is a training
 * step, and WEIGHTS and INPUT are written: the other side starts from them.  Every answer
 * is a line of JSON:
 *
 *     {"jit": "cc", "compile_ms": 812.5, "workspace_bytes": 4096, "output": [...]}    at the start, for each
 *     [5.21, 5.19, 5.2]                                 milliseconds of each run, for a line "cc 100"
 *
 * The output of training is the loss in each of the first steps.
 */
#include "../../runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 10000, STEPS = 2 };

/* Of the first steps, and of those that are timed: the loss stays far from 0 however many they are. */
static const float RATE = 0.01f, TIMED_RATE = 1e-4f, MOMENTUM = 0.9f;

typedef struct Contender {
    const char *name;
    Model *model;
    Code *code;
    void **io;                /* inputs, then outputs; for training all inputs */
} Contender;

typedef struct Turns {
    Context *c;
    const char *network, *weights, *input;
    int batch, threads;
    bool train;
    Contender contender[2];
} Turns;

static size_t input_bytes(const Input *in)
{
    return sizeof(float) * (size_t)shape_count(&in->shape);      /* labels have as many */
}

/* Memory for forward's arguments, the inputs filled from the file. */
static void **arguments(Turns *t, const Program *p)
{
    size_t length, used = 0;
    const unsigned char *value = file_read(t->c, t->input, &length);
    void **io = NEW_ARRAY(t->c, void *, p->net->inputs + p->outputs);
    int next = 0;
    for (int i = 0; i < p->net->inputs; i++) {
        if (p->net->input[i]->loss_only)
            continue;
        size_t bytes = input_bytes(p->net->input[i]);
        if (bytes > length - used)
            fail(t->c, STATUS_INPUT, "%s: found %zu bytes, expected more", t->input, length);
        io[next++] = memcpy(aligned_memory(t->c, (int64_t)bytes), value + used, bytes);
        used += bytes;
    }
    if (used != length)
        fail(t->c, STATUS_INPUT, "%s: found %zu bytes, expected %zu", t->input, length, used);
    for (int i = 0; i < p->outputs; i++)
        io[next++] = aligned_memory(t->c, (int64_t)sizeof(float) * shape_count(&p->output[i].node->shape));
    return io;
}

/* What training starts from, for the other side. */
static void write_start(Turns *t, const Contender *who)
{
    const Graph *net = model_net(who->model);
    size_t length = 0, used = 0;
    for (int i = 0; i < net->inputs; i++)
        length += input_bytes(net->input[i]);
    char *value = NEW_ARRAY(t->c, char, length);
    for (int i = 0; i < net->inputs; i++) {
        memcpy(value + used, who->io[i], input_bytes(net->input[i]));
        used += input_bytes(net->input[i]);
    }
    file_write(t->c, t->input, value, length);
    model_save(who->model, t->weights);
}

static float train(const Contender *who, float rate)
{
    const Model *m = who->model;
    Code *code = who->code;
    float loss = code->backward(code, m->params, who->io, m->grad, NULL, m->workspace, m->options.seed, false);
    code->sgd(code, m->params, m->grad, m->moment[0], rate, MOMENTUM, 0);
    return loss;
}

static void forward(const Contender *who)
{
    who->code->forward(who->code, who->model->params, who->io, who->model->workspace);
}

static void print_output(const Contender *who)
{
    const Program *p = who->code->program;
    int first = 0;
    for (int i = 0; i < p->net->inputs; i++)
        first += !p->net->input[i]->loss_only;
    forward(who);
    for (int i = 0; i < p->outputs; i++) {
        const float *output = who->io[first + i];
        for (int k = 0; k < shape_count(&p->output[i].node->shape); k++)
            printf("%s%.9g", i + k ? ", " : "", (double)output[k]);
    }
}

static void introduce(const Turns *t, const Contender *who)
{
    const Code *code = who->code;
    int64_t workspace = t->train ? code->train_workspace_bytes : code->workspace_bytes;
    printf("{\"jit\": \"%s\", \"compile_ms\": %.3f, \"workspace_bytes\": %lld, \"output\": [", who->name,
           code->compile_ms, (long long)workspace);
    if (!t->train)
        print_output(who);
    for (int i = 0; t->train && i < STEPS; i++)
        printf("%s%.9g", i ? ", " : "", (double)train(who, RATE));
    printf("]}\n");
    fflush(stdout);
}

static void prepare(Turns *t, Contender *who, const char *jit)
{
    who->name = jit;
    who->model = model_open(t->c, t->network, (ModelOptions){
        .batch = t->batch, .jit = jit_find(t->c, jit), .train = t->train, .target = target_find("native"),
        .threads = t->threads});
    who->code = model_code(who->model, t->batch);
    if (t->train) {
        who->io = bench_io(who->model);
        write_start(t, who);
    } else {
        who->io = arguments(t, who->code->program);
        model_load(who->model, t->weights);
    }
    introduce(t, who);
}

static double timed(const Turns *t, const Contender *who)
{
    double begin = milliseconds();
    if (t->train)
        train(who, TIMED_RATE);
    else
        forward(who);
    return milliseconds() - begin;
}

/* Runs for the given time.  The first run of a turn finds the caches full of another's data
 * and is not counted, unless it is so long that they do not matter. */
static void take_turn(const Turns *t, const Contender *who, double slice)
{
    double end = milliseconds() + slice, time[MAX_RUNS] = {timed(t, who)};
    int runs = time[0] >= slice;
    while (runs == 0 || (runs < MAX_RUNS && milliseconds() < end))
        time[runs++] = timed(t, who);
    for (int i = 0; i < runs; i++)
        printf("%s%.6g", i ? ", " : "[", time[i]);
    printf("]\n");
    fflush(stdout);
}

static void serve(Turns *t)
{
    char name[8], line[64];
    double slice;
    while (fgets(line, sizeof line, stdin)) {
        const Contender *who = NULL;
        if (sscanf(line, "%7s %lf", name, &slice) == 2)
            for (int i = 0; i < 2; i++)
                if (!strcmp(t->contender[i].name, name))
                    who = &t->contender[i];
        if (!who)
            fail(t->c, STATUS_USAGE, "expected \"cc MILLISECONDS\" or \"tcc MILLISECONDS\", found %s", line);
        take_turn(t, who, slice);
    }
}

static void run(void *argument)
{
    Turns *t = argument;
    prepare(t, &t->contender[0], "tcc");
    prepare(t, &t->contender[1], "cc");
    serve(t);
}

static void unload(void *argument)
{
    Turns *t = argument;
    for (int i = 0; i < 2; i++)
        if (t->contender[i].model)
            model_close(t->contender[i].model);
}

static void run_and_unload(void *argument)
{
    Turns *t = argument;
    guard(t->c, run, unload, t);
}

int main(int argc, char **argv)
{
    bool train = argc > 1 && !strcmp(argv[1], "--train");
    char **word = argv + (train ? 3 : 1);
    if (argc - (word - argv) != 4) {
        fprintf(stderr, "usage: turns [--train BATCH] NETWORK.lua WEIGHTS.safetensors INPUT THREADS\n");
        return STATUS_USAGE;
    }
    Context c;
    context_init(&c);
    Turns turns = {.c = &c, .train = train, .batch = train ? atoi(argv[2]) : 1, .network = word[0],
                   .weights = word[1], .input = word[2], .threads = atoi(word[3])};
    int status = attempt(&c, run_and_unload, &turns) ? STATUS_OK : c.status;
    if (status != STATUS_OK)
        fprintf(stderr, "turns: %s\n", c.message);
    context_free(&c);
    return status;
}
