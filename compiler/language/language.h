/* The network language: what its files share. */
#ifndef LANGUAGE_H
#define LANGUAGE_H

#include "../cnnc.h"

struct lua_State;

/* What the C functions that a network file calls share. */
typedef struct Frontend {
    Context *c;
    Graph *g;
    struct lua_State *L;
    const char *file;         /* as messages name it */
    const char *chunk;        /* as Lua names it: the same unless too long for Lua */
    const char *source;  size_t length;
    struct Counter { const char *kind; int used; } *counter;   /* of automatic layer names */
    int counters;
    int calls;                /* of operations, also failed ones */
    size_t memory;            /* bytes that Lua holds */
    int64_t steps;            /* Lua instructions so far */
    int64_t start;            /* processor time when the file began to run */
    char stopped[64];         /* the limit that was exceeded, or "" */
    int repeats;              /* of the operation that failed last: calls before it on its line */
    int last_line;            /* of the file: the position of errors once it has run */
    struct Declared *model;   /* what the file declares, once it has run */
} Frontend;

/* sandbox.c: a Lua state that reaches no file and no process, and limits on memory and
 * time.  NULL when there is no memory.  The rest is for functions called by Lua. */
struct lua_State *sandbox_open(Frontend *f);
int sandbox_libraries(struct lua_State *L);          /* to be called in protected mode */
int sandbox_message(struct lua_State *L);            /* message handler: completes positions */
Frontend *sandbox_frontend(struct lua_State *L);
void sandbox_push_position(struct lua_State *L);     /* "net.lua:3" */
void sandbox_push_callers(struct lua_State *L);      /* " (called from net.lua:12)", or "" */
/* Runs body(argument), which may fail() but raises no Lua error (but that of memory, while the
 * graph is still as it was).  A failure leaves the graph as it was and becomes the Lua error
 * "net.lua:3: method: message" (method NULL: without; the message may begin with it itself). */
void sandbox_attempt(struct lua_State *L, const char *method, void (*body)(void *), void *argument);

/* tensor.c: tensors and operations as Lua sees them. */
void tensor_open(struct lua_State *L);               /* defines input, concat and all methods */
Node *tensor_at(struct lua_State *L, int at);        /* NULL: something else */

/* args.c: reads the option table at stack index `at` (0: there is none) by op->args.
 * spatial: spatial dims of the tensor, negative without any. */
const Arg *args_read(struct lua_State *L, int at, Graph *g, const Op *op, const char *method, int spatial);

/* values.c: raw Lua values. */
const char *value_text(struct lua_State *L, int at, Context *c);      /* as messages show it */
/* A text fit for messages, C comments and JSON, copied to the arena; fails with "what: ". */
const char *value_name(struct lua_State *L, int at, Context *c, const char *what);
/* The number of entries of a plain list (keys 1, 2, ... n); fails with "what: " on other tables. */
int value_list(struct lua_State *L, int at, Context *c, const char *what);
int value_hole(struct lua_State *L, int at);         /* the first entry that is nil */

#endif
