/* Compiles a program in memory with libtcc.
 *
 * Nothing outside the process takes part: with -nostdlib and a text without
 * includes libtcc opens no file, and whatever the text calls is handed to it by
 * address.  libtcc would load the code into heap pages that stay writable and
 * executable; it is therefore asked for its size, placed into a mapping of our
 * own, and that mapping is made read-only before anything in it runs. */
#define _GNU_SOURCE
#include "runtime.h"

#include <libtcc.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

enum { MESSAGE_SIZE = 512 };

/* libtcc keeps its state in globals while it compiles: one at a time. */
static pthread_mutex_t compiling = PTHREAD_MUTEX_INITIALIZER;

/* Conversions between floating point and unsigned 64-bit integers, which tcc
 * leaves to its run-time library. */
static unsigned long long float_to_unsigned(float x) { return (unsigned long long)x; }
static unsigned long long double_to_unsigned(double x) { return (unsigned long long)x; }
static float unsigned_to_float(unsigned long long x) { return (float)x; }
static double unsigned_to_double(unsigned long long x) { return (double)x; }

static bool add_leaves(TCCState *s, const HostLeaf *leaf)
{
    for (; leaf && leaf->name; leaf++)
        if (tcc_add_symbol(s, leaf->name, leaf->address) < 0)
            return false;
    return true;
}

static bool add_symbols(TCCState *s, const Program *p)
{
#define HOST(function) { #function, (const void *)(uintptr_t)function }
#define HELPER(name, function) { name, (const void *)(uintptr_t)function }
    const struct { const char *name; const void *address; } host[] = {
        HOST(expf), HOST(logf), HOST(tanhf), HOST(sqrtf), HOST(pow), HOST(sqrt),
        HELPER("cnnc_meet", team_meet), HOST(memset), HOST(memmove), HOST(memcpy),
        HELPER("__fixunssfdi", float_to_unsigned), HELPER("__fixunsdfdi", double_to_unsigned),
        HELPER("__floatundisf", unsigned_to_float), HELPER("__floatundidf", unsigned_to_double)
    };
#undef HOST
#undef HELPER
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        if (tcc_add_symbol(s, host[i].name, host[i].address) < 0)
            return false;
    return add_leaves(s, host_leaves(p->forward->target)) &&
           add_leaves(s, host_strips(target_level(p->options.target)));
}

/* What libtcc has to say.  The first error counts, the others follow from it; a
 * warning stands until an error comes. */
static void collect(void *message, const char *text)
{
    char *to = message;
    if (!*to || strstr(to, "warning:"))
        snprintf(to, MESSAGE_SIZE, "%s", text);
}

typedef struct Tcc {
    TCCState *state;          /* NULL once the symbols are known and the code stands on its own */
    void *memory;             /* the mapping with the code */
    size_t bytes;
    char message[MESSAGE_SIZE];
} Tcc;

#ifdef TCC_RELOCATE_AUTO

/* Moves the code into a mapping of its own.  All that the text defines besides
 * functions is constant, so read and execute is enough for every page. */
static bool place(Tcc *t)
{
    int size = tcc_relocate(t->state, NULL);
    if (size <= 0)
        return false;
    void *memory = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        snprintf(t->message, MESSAGE_SIZE, "no memory for %d bytes of code", size);
        return false;
    }
    t->memory = memory;
    t->bytes = (size_t)size;
    return tcc_relocate(t->state, memory) >= 0 && mprotect(memory, t->bytes, PROT_READ | PROT_EXEC) == 0;
}

static void release_state(Tcc *t)
{
    tcc_delete(t->state);
    t->state = NULL;
}

#else      /* newer versions place the code themselves, and it dies with the state */

static bool place(Tcc *t) { return tcc_relocate(t->state) >= 0; }
static void release_state(Tcc *t) { (void)t; }

#endif

static bool build(Tcc *t, const char *source, const Program *p)
{
    t->state = tcc_new();
    if (!t->state)
        return false;
    tcc_set_error_func(t->state, t->message, collect);
    tcc_set_options(t->state, "-nostdlib");      /* a string that it does not know makes it call exit() */
    return tcc_set_output_type(t->state, TCC_OUTPUT_MEMORY) >= 0
        && tcc_compile_string(t->state, source) >= 0
        && add_symbols(t->state, p)
        && place(t);
}

static void *symbol(Library *l, const char *name)
{
    Tcc *t = l->handle;
    pthread_mutex_lock(&compiling);
    void *address = tcc_get_symbol(t->state, name);
    pthread_mutex_unlock(&compiling);
    return address;
}

static void unload(Library *l)
{
    Tcc *t = l->handle;
    pthread_mutex_lock(&compiling);
    if (t->state)
        tcc_delete(t->state);
    pthread_mutex_unlock(&compiling);
    if (t->memory)
        munmap(t->memory, t->bytes);
    *t = (Tcc){0};
}

void jit_tcc_open(Code *code)
{
    Program *p = code->program;
    const char *source = print_source(p, NULL, PRINT_HOSTED);
    Tcc *t = NEW(p->c, Tcc);
    Library library = { symbol, unload, t };

    double start = milliseconds();
    pthread_mutex_lock(&compiling);
    bool done = build(t, source, p);
    pthread_mutex_unlock(&compiling);
    code->compile_ms = milliseconds() - start;
    if (!done) {
        const char *message = format(p->c, "%s", *t->message ? t->message : "failed without a message");
        unload(&library);
        fail(p->c, STATUS_FAULT, "%s: libtcc: %s", p->prefix, message);
    }
    code_bind(code, library, threads_open(p->c, p->options.threads));
    pthread_mutex_lock(&compiling);
    release_state(t);
    pthread_mutex_unlock(&compiling);
}
