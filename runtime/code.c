/* A Program as something to call, whichever backend compiled it.
 *
 * The C text of a program defines, besides the functions that a person calls,
 * entry points whose names and types are the same for every network.  This file
 * binds them; jit_tcc.c and jit_cc.c only produce a library to look them up in.
 * jit_eval.c fills in the functions of Code by itself. */
#define _GNU_SOURCE
#include "runtime.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

typedef struct Native {
    Library library;
    Threads *threads;         /* NULL: the code's own, or one */
    void (*forward)(const void *params, void *const *io, void *workspace, const void *team);
    void (*profile)(void *params, void *const *io, void *grad, void *const *in_grad, void *workspace,
                    unsigned long long seed, void (*tick)(void *user, int kernel), void *user);
    void (*pack)(void *params, const float *flat);
    void (*init)(void *params, unsigned long long seed);
    void (*unpack)(float *flat, const void *params);
    float (*backward)(void *params, void *const *in, void *grad, void *const *in_grad,
                      void *workspace, unsigned long long seed, const void *team);
    float (*accumulate)(void *params, void *const *in, void *grad, void *const *in_grad,
                        void *workspace, unsigned long long seed, const void *team);
    float (*loss)(const void *params, void *const *in, void *workspace, const void *team);
    void (*sgd)(void *params, const void *grad, void *velocity,
                float lr, float momentum, float weight_decay);
    void (*adam)(void *params, const void *grad, void *m, void *v, int step,
                 float lr, float beta1, float beta2, float eps, float weight_decay);
} Native;

typedef enum Asked { ALWAYS, TRAIN, PROFILE } Asked;       /* the option that adds an entry */
#define ENTRY(name, asked) { "cnnc_" #name, offsetof(Native, name), asked }
static const struct Entry { const char *name; size_t slot; Asked asked; } entries[] = {
    ENTRY(forward, ALWAYS), ENTRY(pack, ALWAYS), ENTRY(init, ALWAYS), ENTRY(profile, PROFILE),
    ENTRY(unpack, TRAIN), ENTRY(backward, TRAIN), ENTRY(accumulate, TRAIN),
    ENTRY(loss, TRAIN), ENTRY(sgd, TRAIN), ENTRY(adam, TRAIN)
};
#undef ENTRY

/* Arguments of a call that a team makes together, and what the first thread got. */
typedef struct Share {
    const Native *native;
    int threads;
    void *params;
    void *const *io;
    void *grad;
    void *const *in_grad;
    void *workspace;
    uint64_t seed;
    bool accumulate;
    float result;
} Share;

static void share_forward(void *argument, const Team *team)
{
    Share *c = argument;
    c->native->forward(c->params, c->io, c->workspace, team);
}

static void share_backward(void *argument, const Team *team)
{
    Share *c = argument;
    const Native *n = c->native;
    float loss = (c->accumulate ? n->accumulate : n->backward)(c->params, c->io, c->grad, c->in_grad,
                                                               c->workspace, c->seed, team);
    if (team->thread == 0)
        c->result = loss;
}

static void share_loss(void *argument, const Team *team)
{
    Share *c = argument;
    float loss = c->native->loss(c->params, c->io, c->workspace, team);
    if (team->thread == 0)
        c->result = loss;
}

/* By all threads where the function has work for them; OpenMP starts its own. */
static float together(const Function *f, void (*share)(void *, const Team *), Share *call)
{
    if (function_shared(f) && call->native->threads)
        threads_run(call->native->threads, share, call);
    else
        share(call, &(Team){.threads = call->threads > 1 ? call->threads : 1});
    return call->result;
}

static void native_forward(Code *code, const void *params, void *const *io, void *workspace)
{
    Share call = {.native = code->state, .threads = code->program->options.threads,
                  .params = (void *)params, .io = io, .workspace = workspace};
    together(code->program->forward, share_forward, &call);
}

static void native_profile(Code *code, void *params, void *const *io, void *grad, void *const *in_grad,
                           void *workspace, uint64_t seed,
                           void (*tick)(void *user, int kernel), void *user)
{
    ((Native *)code->state)->profile(params, io, grad, in_grad, workspace, seed, tick, user);
}

static void native_pack(Code *code, void *params, const float *flat)
{
    ((Native *)code->state)->pack(params, flat);
}

static void native_init(Code *code, void *params, uint64_t seed)
{
    ((Native *)code->state)->init(params, seed);
}

static void native_unpack(Code *code, float *flat, const void *params)
{
    ((Native *)code->state)->unpack(flat, params);
}

static float native_backward(Code *code, void *params, void *const *in, void *grad, void *const *in_grad,
                             void *workspace, uint64_t seed, bool accumulate)
{
    Share call = {.native = code->state, .threads = code->program->options.threads,
                  .params = params, .io = in, .grad = grad, .in_grad = in_grad,
                 .workspace = workspace, .seed = seed, .accumulate = accumulate};
    return together(code->program->backward, share_backward, &call);
}

static float native_loss(Code *code, const void *params, void *const *in, void *workspace)
{
    Share call = {.native = code->state, .threads = code->program->options.threads,
                  .params = (void *)params, .io = in, .workspace = workspace};
    return together(code->program->loss, share_loss, &call);
}

static void native_sgd(Code *code, void *params, const void *grad, void *velocity,
                       float lr, float momentum, float weight_decay)
{
    ((Native *)code->state)->sgd(params, grad, velocity, lr, momentum, weight_decay);
}

static void native_adam(Code *code, void *params, const void *grad, void *m, void *v, int step,
                        float lr, float beta1, float beta2, float eps, float weight_decay)
{
    ((Native *)code->state)->adam(params, grad, m, v, step, lr, beta1, beta2, eps, weight_decay);
}

static void native_close(Code *code)
{
    Native *n = code->state;
    threads_close(n->threads);
    n->library.unload(&n->library);
}

void code_bind(Code *code, Library library, Threads *threads)
{
    Program *p = code->program;
    Native *n = NEW(p->c, Native);
    n->library = library;
    n->threads = threads;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        Asked asked = entries[i].asked;
        if ((asked == TRAIN && !p->options.train) || (asked == PROFILE && !p->options.profile))
            continue;
        void *address = library.symbol(&library, entries[i].name);
        if (!address) {
            threads_close(threads);
            library.unload(&library);
            fail(p->c, STATUS_FAULT, "%s: compiled code: found no %s", p->prefix, entries[i].name);
        }
        /* ISO C has no cast from an object to a function pointer. */
        memcpy((char *)n + entries[i].slot, &address, sizeof address);
    }
    code->state = n;
    code->forward = native_forward;
    code->pack = native_pack;
    code->init = native_init;
    code->close = native_close;
    if (p->options.profile)
        code->profile = native_profile;
    if (p->options.train) {
        code->unpack = native_unpack;
        code->backward = native_backward;
        code->loss = native_loss;
        code->sgd = native_sgd;
        code->adam = native_adam;
    }
}

void *aligned_memory(Context *c, int64_t bytes)
{
    enum { ALIGNMENT = 64 };
    char *p = arena_alloc(c, (size_t)bytes + ALIGNMENT, 1);
    return p + (ALIGNMENT - (uintptr_t)p % ALIGNMENT) % ALIGNMENT;
}

double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static const struct Backend { const char *name; Jit jit; void (*open)(Code *code); } backends[] = {
    { "tcc", JIT_TCC, jit_tcc_open },
    { "cc", JIT_CC, jit_cc_open },
    { "eval", JIT_EVAL, jit_eval_open }
};

Jit jit_find(Context *c, const char *name)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(backends[i].name, name))
            return backends[i].jit;
    fail(c, STATUS_USAGE, "jit: found \"%s\", expected tcc, cc or eval", name);
}

Code *code_new(Program *p)
{
    Code *code = NEW(p->c, Code);
    code->program = p;
    for (int i = 0; i < p->fields; i++)
        code->params_bytes += (int64_t)sizeof(float) * p->field[i].count;
    code->workspace_bytes = p->forward->workspace;
    if (p->options.train) {
        if (p->loss->workspace > code->workspace_bytes)
            code->workspace_bytes = p->loss->workspace;
        code->train_workspace_bytes = p->backward->workspace;
    }
    return code;
}

Code *code_open(Program *p, Jit jit)
{
    if (jit != JIT_EVAL && !target_runs(p->options.target))
        fail(p->c, STATUS_INPUT, "target %s: this machine has the instructions of %s only",
             p->options.target->name, target_level(target_find("native"))->name);
    Code *code = code_new(p);
    backends[jit].open(code);
    return code;
}
