/* CNNC_DEBUG: what happens inside, on stderr. */
#define _POSIX_C_SOURCE 200809L
#include "cnnc.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

int debug_level(const char *text)
{
    return text && text[0] >= '1' && text[0] <= '4' && !text[1] ? text[0] - '0' : 0;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void debug_begin(Debug *d, Context *c, const char *function)
{
    *d = (Debug){c, function, c->debug ? now() : 0};
}

static void print_time(Debug *d, const char *pass)
{
    double time = now();
    fprintf(stderr, "%-9s %-10s %9.3f ms", d->function, pass, time - d->start);
}

void debug_pass(Debug *d, const char *pass, const Graph *g)
{
    if (!d->c->debug)
        return;
    print_time(d, pass);
    if (d->c->debug >= 2) {
        const bool *live = graph_live(g);
        int nodes = 0;
        for (int i = 0; i < g->nodes; i++)
            nodes += live[i];
        fprintf(stderr, "  %5d nodes, %d params, %d roots", nodes, g->params, g->roots);
    }
    fputc('\n', stderr);
    if (d->c->debug >= 4)
        dump_ir(g, format(d->c, "%s, after %s", d->function, pass), stderr);
    d->start = now();                            /* what is printed is no part of a pass */
}

void debug_step(Debug *d, const char *step, const Function *f)
{
    if (!d->c->debug)
        return;
    print_time(d, step);
    if (d->c->debug >= 2)
        fprintf(stderr, "  %5d kernels, workspace %" PRId64 " bytes", f->kernels, f->workspace);
    fputc('\n', stderr);
    d->start = now();
}
