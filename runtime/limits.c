/* The limits of the machine: what a kernel's time is compared with. */
#include "runtime.h"

#include <string.h>

enum {
    ROUNDS = 10,              /* of each measurement; the best counts */
    PASSES = 100000,          /* of the chains in registers: about 2 ms */
    SMALLEST = 16 << 10, LARGEST = SMALLEST << 2 * (TRAFFICS - 1)      /* bytes */
};

typedef int Peak(int n, float *sum);
typedef void Copy(float *to, const float *from, int n);
typedef float Read(const float *from, int n);

static uintptr_t probe(const Target *target, const char *name)
{
    const HostLeaf *leaf = host_leaves(target_level(target));
    for (; leaf && leaf->name; leaf++)
        if (!strcmp(leaf->name, name))
            return (uintptr_t)leaf->address;
    return 0;
}

void limits_measure_peak(const Target *target, Limits *l)
{
    Peak *peak = (Peak *)probe(target, "cnnc_probe_peak");
    for (int i = 0; peak && i < ROUNDS; i++) {
        float sum;
        double start = milliseconds();
        double operations = (double)peak(PASSES, &sum) * PASSES;
        double gflops = 1e-6 * operations / (milliseconds() - start);
        if (gflops > l->peak_gflops)
            l->peak_gflops = gflops;
    }
}

/* memory: t->bytes. */
static void measure_traffic(Traffic *t, float *memory, Copy *copy, Read *read)
{
    int floats = (int)(t->bytes / (int)sizeof(float)), passes = (int)(LARGEST / t->bytes);
    double amount = 1e-6 * (double)t->bytes * passes;
    for (int i = 0; i < ROUNDS; i++) {
        double start = milliseconds();
        for (int k = 0; k < passes; k++)
            copy(memory + floats / 2, memory, floats / 2);
        double between = milliseconds();
        volatile float sum = 0;
        for (int k = 0; k < passes; k++)
            sum += read(memory, floats);
        double end = milliseconds();
        if (amount / (between - start) > t->copy_gbs)
            t->copy_gbs = amount / (between - start);
        if (amount / (end - between) > t->read_gbs)
            t->read_gbs = amount / (end - between);
    }
}

typedef struct Measurement { Limits *limits; Copy *copy; Read *read; } Measurement;

static void measure_traffics(Context *work, void *argument)
{
    Measurement *m = argument;
    float *memory = aligned_memory(work, LARGEST);
    for (int i = 0; i < LARGEST / (int)sizeof(float); i++)
        memory[i] = 1;                           /* untouched pages would be one and the same */
    for (int i = 0; i < TRAFFICS; i++) {
        m->limits->traffic[i].bytes = (int64_t)SMALLEST << 2 * i;
        measure_traffic(&m->limits->traffic[i], memory, m->copy, m->read);
    }
}

void limits_measure(Context *c, const Target *target, Limits *l)
{
    *l = (Limits){0};
    Copy *copy = (Copy *)probe(target, "cnnc_probe_copy");
    Read *read = (Read *)probe(target, "cnnc_probe_read");
    if (!copy || !read)
        return;
    scratch(c, measure_traffics, &(Measurement){l, copy, read});
    limits_measure_peak(target, l);
}

/* Between two measured working sets rates change evenly. */
static Traffic traffic_at(const Limits *l, int64_t bytes)
{
    const Traffic *t = l->traffic;
    int above = 0;
    while (above < TRAFFICS && t[above].bytes < bytes)
        above++;
    if (above == 0 || above == TRAFFICS)
        return t[above ? TRAFFICS - 1 : 0];
    const Traffic *from = &t[above - 1], *to = &t[above];
    double part = (double)(bytes - from->bytes) / (double)(to->bytes - from->bytes);
    return (Traffic){bytes, from->copy_gbs + part * (to->copy_gbs - from->copy_gbs),
                     from->read_gbs + part * (to->read_gbs - from->read_gbs)};
}

double limits_traffic_ms(const Limits *l, int64_t working_set, int64_t read, int64_t written)
{
    Traffic rate = traffic_at(l, working_set);
    int64_t copied = 2 * (read < written ? read : written), rest = read + written - copied;
    double rest_gbs = read > written ? rate.read_gbs : rate.copy_gbs;
    return 1e-6 * ((double)copied / rate.copy_gbs + (double)rest / rest_gbs);
}
