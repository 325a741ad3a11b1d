/* turns NETWORK.lua WEIGHTS.safetensors INPUT THREADS
 *
 * cnnc's side of a comparison: compiles a network by libtcc and by the system's C compiler,
 * then runs one of them for a while whenever it is told to on standard input, and sleeps in
 * between.  INPUT holds the floats of all inputs.  Every answer is a line of JSON:
 *
 *     {"jit": "cc", "compile_ms": 812.5, "workspace_bytes": 4096, "output": [...]}    at the start, for each
 *     [5.21, 5.19, 5.2]                                 milliseconds of each run, for a line "cc 100"
 */
#include "../../runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 10000 };

typedef struct Contender {
    const char *name;
    Code *code;
    void *params, *workspace;
    void **io;                /* inputs, then outputs */
} Contender;

typedef struct Turns {
    Context *c;
    const char *network, *weights, *input;
    int threads;
    Graph *net;
    const float *flat;        /* the weights */
    Contender contender[2];
} Turns;

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
        size_t bytes = sizeof(float) * (size_t)shape_count(&p->net->input[i]->shape);
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

static void forward(const Contender *who)
{
    who->code->forward(who->code, who->params, who->io, who->workspace);
}

static void introduce(const Contender *who)
{
    const Program *p = who->code->program;
    printf("{\"jit\": \"%s\", \"compile_ms\": %.3f, \"workspace_bytes\": %lld, \"output\": [", who->name,
           who->code->compile_ms, (long long)who->code->workspace_bytes);
    int first = 0;
    for (int i = 0; i < p->net->inputs; i++)
        first += !p->net->input[i]->loss_only;
    for (int i = 0; i < p->outputs; i++) {
        const float *output = who->io[first + i];
        for (int k = 0; k < shape_count(&p->output[i].node->shape); k++)
            printf("%s%.9g", i + k ? ", " : "", (double)output[k]);
    }
    printf("]}\n");
    fflush(stdout);
}

static void prepare(Turns *t, Contender *who, const char *jit)
{
    Options options = {.batch = 1, .target = target_find("native"), .threads = t->threads};
    who->name = jit;
    who->code = code_open(compile(t->net, &options, NULL), jit_find(t->c, jit));
    who->params = aligned_memory(t->c, who->code->params_bytes);
    who->workspace = aligned_memory(t->c, who->code->workspace_bytes);
    who->io = arguments(t, who->code->program);
    who->code->pack(who->code, who->params, t->flat);
    forward(who);
    introduce(who);
}

static double timed(const Contender *who)
{
    double begin = milliseconds();
    forward(who);
    return milliseconds() - begin;
}

/* Runs for the given time.  The first run of a turn finds the caches full of another's data
 * and is not counted, unless it is so long that they do not matter. */
static void take_turn(const Contender *who, double slice)
{
    double end = milliseconds() + slice, time[MAX_RUNS] = {timed(who)};
    int runs = time[0] >= slice;
    while (runs == 0 || (runs < MAX_RUNS && milliseconds() < end))
        time[runs++] = timed(who);
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
        take_turn(who, slice);
    }
}

static void run(void *argument)
{
    Turns *t = argument;
    t->net = network_load(t->c, t->network, 1);
    float *flat = NEW_ARRAY(t->c, float, params_count(t->net));
    safetensors_load(t->net, t->weights, flat);
    t->flat = flat;
    prepare(t, &t->contender[0], "tcc");
    prepare(t, &t->contender[1], "cc");
    serve(t);
}

static void unload(void *argument)
{
    Turns *t = argument;
    for (int i = 0; i < 2; i++)
        if (t->contender[i].code)
            t->contender[i].code->close(t->contender[i].code);
}

static void run_and_unload(void *argument)
{
    Turns *t = argument;
    guard(t->c, run, unload, t);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: turns NETWORK.lua WEIGHTS.safetensors INPUT THREADS\n");
        return STATUS_USAGE;
    }
    Context c;
    context_init(&c);
    Turns turns = {.c = &c, .network = argv[1], .weights = argv[2], .input = argv[3],
                   .threads = atoi(argv[4])};
    int status = attempt(&c, run_and_unload, &turns) ? STATUS_OK : c.status;
    if (status != STATUS_OK)
        fprintf(stderr, "turns: %s\n", c.message);
    context_free(&c);
    return status;
}
