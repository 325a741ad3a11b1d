/* cnnc: a graph compiler for convolutional networks.
 *
 * This header and those that it includes are the map of compiler/: the types that
 * flow from a Lua file to C text, and under each file's name its entry points, in the
 * order in which a network passes through them:
 *
 *   frontend -> Graph -> mode -> autodiff -> expand -> fold -> winograd -> hoist -> fuse
 *            -> lower -> Nests -> stripes -> layout -> schedule -> Loops -> plan -> print -> C
 *
 * Everything lives in the arena of one Context and is freed with it; nothing
 * here is global or mutable.  A failure never returns: fail() jumps to the
 * handler that the caller of the compiler has set (see context.c).
 */
#ifndef CNNC_H
#define CNNC_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CNNC_VERSION "0.1.0"

typedef struct Context Context;
typedef struct Node Node;
typedef struct Graph Graph;
typedef struct Op Op;
typedef struct Layer Layer;
typedef struct Param Param;
typedef struct Input Input;
typedef struct Lower Lower;
typedef struct Affine Affine;
typedef struct Expr Expr;
typedef struct Nest Nest;
typedef struct Matrix Matrix;
typedef struct Loop Loop;
typedef struct Kernel Kernel;
typedef struct Storage Storage;
typedef struct Layout Layout;
typedef struct Target Target;
typedef struct Leaf Leaf;
typedef struct Strip Strip;
typedef struct Function Function;
typedef struct Program Program;

/* ------------------------------------------------------------------ context.c
 * Arena, failures, text. */

/* Exit statuses of the command, and the kinds of failure. */
enum { STATUS_OK = 0, STATUS_INPUT = 1, STATUS_USAGE = 2, STATUS_FAULT = 3 };

/* Deliberate mistakes, switched on by tests to show that the tests would catch
 * them.  Only the test build (-DCNNC_FAULTS) has them: elsewhere FAULT() is 0. */
typedef enum Fault {
    FAULT_NONE,
    FAULT_NO_ROTATION,        /* dL/dX uses the kernel unrotated */
    FAULT_SWAP_HEIGHT_WIDTH,  /* stride of height used for width and back */
    FAULT_PAD_OFF_BY_ONE,     /* convolution reads one column too far right */
    FAULT_CEIL_FOR_FLOOR,     /* output size rounded up */
    FAULT_NO_BIAS_GRADIENT,   /* the sum over broadcast axes is lost */
    FAULT_GAP_NOT_CLEARED,    /* zeros between rows never written */
    FAULT_REUSED_TOO_EARLY,   /* a buffer dies one kernel before its last reader */
    FAULT_NO_CLIP,            /* a border tap is read although it is outside */
    FAULT_FIRST_USE_ONLY,     /* gradient of a tensor used twice: one use lost */
    FAULT_POOL_INDEX,         /* max pooling's gradient goes to the wrong tap */
    FAULT_GROUP_OFFSET,       /* every group reads the first group's channels */
    FAULT_DILATION_IGNORED,   /* gradient of the weights ignores dilation */
    FAULT_TAIL_LOST,          /* the rest after the last full tile is not computed */
    FAULT_BIASED_VARIANCE,    /* running_var gets the biased variance */
    FAULT_COUNT_PAD,          /* count_include_pad inverted */
    FAULT_FOLD_BIAS,          /* batch norm folded into the weights but not the bias */
    FAULT_MOMENTUM            /* SGD forgets the velocity */
} Fault;

struct Context {
    struct Block *blocks;     /* the arena, newest block first */
    jmp_buf *handler;         /* where fail() goes */
    int status;               /* of the failure */
    char message[2048];       /* of the failure */
    struct Quote { char message[300], text[800]; } quote;    /* the source line that a message speaks of */
    int debug;                /* CNNC_DEBUG: 0 nothing .. 4 everything, on stderr; see debug.c */
    Fault fault;
};

#ifdef CNNC_FAULTS
#define FAULT(context, which) ((context)->fault == (which))
#else
#define FAULT(context, which) ((void)(context), 0)
#endif

void context_init(Context *c);
void context_free(Context *c);

/* Zeroed memory that lives as long as the context.  count * size is checked. */
void *arena_alloc(Context *c, size_t count, size_t size);
#define NEW(c, type) ((type *)arena_alloc((c), 1, sizeof(type)))
#define NEW_ARRAY(c, type, count) ((type *)arena_alloc((c), (size_t)(count), sizeof(type)))

/* Appends to an arena array held as (pointer, count): `PUSH(c, g->node, g->nodes) = n;`.
 * Capacity doubles at powers of two; the pointer may move. */
#define PUSH(c, array, count) \
    (*((array) = arena_grow((c), (array), (size_t)(count), sizeof *(array)), &(array)[(count)++]))
void *arena_grow(Context *c, void *array, size_t count, size_t size);

char *format(Context *c, const char *text, ...) __attribute__((format(printf, 2, 3)));
char *vformat(Context *c, const char *text, va_list args);

/* Text that grows in the arena. */
typedef struct Text { Context *c; char *data; size_t length, capacity; } Text;
void text_add(Text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_cut(Text *t, size_t at, size_t length);

/* Formats the message and jumps to c->handler with the status.  STATUS_FAULT is
 * for broken invariants of cnnc itself. */
_Noreturn void fail(Context *c, int status, const char *text, ...) __attribute__((format(printf, 3, 4)));

/* Runs body(argument); true when it returned, false when it failed (the message
 * and status are then in c).  Nests: the former handler is restored. */
bool attempt(Context *c, void (*body)(void *), void *argument);

/* ------------------------------------------------------------------- guard.c */

/* body(argument), then release(argument), also when body fails; the failure then
 * goes on.  For whatever is open and is not arena memory. */
void guard(Context *c, void (*body)(void *), void (*release)(void *), void *argument);
/* body with a context of its own for what it needs for a while: that memory is
 * freed when body returns or fails.  A failure in either context goes on in c. */
void scratch(Context *c, void (*body)(Context *work, void *argument), void *argument);

/* ---------------------------------------------------------- quote.c, advice.c
 * What a person reads below a message; the message itself stays one line. */

/* Keeps, as c->quote, the line that "file:line: operation: ..." speaks of, with a caret under
 * the place.  repeats: how many calls of that operation came before it on the line. */
void quote_source(Context *c, const char *message, const char *file, const char *source, size_t length,
                  int repeats);
/* That line, if c's last failure passed its message on; else "". */
const char *quote_text(const Context *c);
/* A hint on what the last failure mostly means, or NULL. */
const char *advice(Context *c);

/* The nearest of the names tried to a misspelt word; name "": none is near. */
typedef struct Nearest { const char *word; size_t word_length; char name[48]; int far; } Nearest;
void nearest_try(Nearest *n, const char *name, size_t length);

/* --------------------------------------------------------------------- random.c
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011, section 3). */

uint32_t random_bits(uint64_t seed, uint32_t stream, uint32_t counter);
float random_unit(uint64_t seed, uint32_t stream, uint32_t counter);      /* [0, 1) */
/* Element i of the parameter's initial value. */
float param_initial(const Param *p, uint64_t seed, int i);

/* ------------------------------------------------------- language/ (language.h)
 * Lua file -> Graph. */

struct lua_State;
Graph *frontend_load_text(Context *c, const char *chunk, size_t length, const char *file, int batch);

/* ---------------- graph/: the graph and its passes; ops/ (ops.h): the operations;
 *                  nest/: from tensors to loops; schedule/ (schedule.h) */

/* The shape of a kernel's leaves where it was found by timing: --tune. */
typedef struct LeafShape { const char *kernel; int tile, vectors; } LeafShape;
typedef struct LeafShapes { const char *file; LeafShape *shape; int count; } LeafShapes;

#include "graph/graph.h"
#include "nest/nest.h"

/* --------------------------------------------------------------------- target.c
 * A row per target: its instructions, and the C compiler that makes them. */

struct Target {
    const char *name, *doc, *cflags;
    int lanes;                /* floats in a vector; 1: scalar code */
    int registers;            /* vectors, or floats of scalar code; 0: unknown */
    bool fused;               /* multiplies and adds at once */
    int line;                 /* floats that a prefetch draws into the cache; 0: it has none */
    int alignment;            /* bytes, of parameters and workspace */
    const char *guard;        /* C condition: the compiler makes code for such a processor; NULL: any does */
    const char *condition;    /* C expression: this processor has what the row needs; NULL: all of them do */
    const char *features;     /* what a C compiler is told of a function for it; NULL: nothing */
    const char *compiler, *archiver;    /* elsewhere than on such a machine */
    bool here;                /* this machine's own compiler makes code for it */
    bool (*runs)(void);       /* this machine has its instructions */
    const char *choice_guard, *choice;  /* the instruction for the larger of two vectors: max for %s or min */
    bool small;               /* without an operating system; size counts */
    bool hosted;              /* with one: shared libraries, threads */
    bool incbin;              /* its assembler writes ELF and draws in files */
};
const Target *target_find(const char *name);             /* NULL: unknown */
const Target *target_list(int *count);
const Target *target_level(const Target *t);             /* native: the row that it is on this machine */
bool target_runs(const Target *t);                       /* whether this machine has its instructions */
/* The command of its C compiler here, and how much that is to optimise. */
const char *target_compiler(const Target *t);
const char *target_optimise(const Target *t);

/* -------------------------------------------------------------------- compile.c
 * The pass list. */

/* How parameters are kept: as they are computed with, or in 16 bits and widened when loaded. */
typedef enum Store16 { STORE_F32, STORE_F16, STORE_BF16 } Store16;

/* What inference is made for: by default speed. */
typedef enum Optimize { OPTIMIZE_SPEED, OPTIMIZE_SIZE, OPTIMIZE_MEMORY } Optimize;

typedef struct Options {
    int batch;
    bool train, input_grad;
    bool profile;             /* libraries also have a forward that reports every kernel's end */
    const char *prefix;       /* of C names; NULL: the model's name */
    const Target *target;
    int threads;              /* of a call of code that cnnc loads; 0: one */
    int share_least;          /* operations from which threads share a nest; 0: the schedule's choice */
    const LeafShapes *shapes;   /* NULL: the schedule's own */
    int candidate;            /* which shape it chooses: 0 its best, 1 .. CANDIDATES - 1 for timing */
    int winograd;             /* WINOGRAD_AUTO, WINOGRAD_OFF or the tile of all that can: 2, 4, 6 */
    int64_t max_workspace, max_params;    /* bytes that code and parameters may take; 0: any */
    Optimize optimize;
    Store16 store;            /* of constant parameters */
    int self_test;            /* calls that the file can test itself by */
    uint64_t seed;            /* of their inputs, and of parameters that are not given */
    const char *emit;         /* NULL, or "ir", "plan", "dot" */
    const char *emit_after;   /* the pass after which ir is printed; NULL: the last */
} Options;

/* A field of the generated parameter struct. */
typedef struct Field { const char *name; int count; const Param *param; } Field;

/* What an output of one call of the self-test has to be, every step-th element of it. */
typedef struct SelfTest { float *expected; int count, step; } SelfTest;

struct Program {
    Context *c;
    Graph *net;
    Options options;
    const char *prefix;
    Field *field; int fields;
    Function *forward;
    Function *pack;           /* computes derived fields; NULL without any */
    Function *loss, *backward;    /* with train */
    Root *output; int outputs;    /* sorted as the signature of forward has them */
    bool seeded;              /* backward takes a dropout seed */
    const float *weights;     /* the whole struct, when every parameter is literal; else NULL */
    int64_t params_bytes;     /* of the struct */
    int64_t plain_workspace;  /* what forward would take if it were not optimised for memory */
    uint64_t identity;        /* of what its bytes mean: network, fields, layouts */
    SelfTest *self_test;      /* [call * outputs + output]; NULL: none */
};

/* Net and options -> everything that the printer needs. */
Program *compile(Graph *net, const Options *options, FILE *emit);

/* ----------------------------------------------------------- identity.c, blob.c
 * Parameters as a file of their own, for @_load. */

/* Programs of equal identity can exchange the bytes of their parameters.  pack: the graph of
 * derived fields, or NULL. */
uint64_t program_identity(const Program *p, const Graph *pack);

#define BLOB_MAGIC "cnncblob"
enum { BLOB_VERSION = 1, BLOB_HEAD = 64, BLOB_TARGET = 24 };
/* The parameters p->weights as p->options.store says. */
unsigned char *blob_make(const Program *p, size_t *size);
const char *blob_target(const Program *p);   /* whose order the struct is in; "any": the state_dict's */
uint16_t store_narrow(Store16 store, float value);           /* to the nearest, ties to even */
float store_widen(Store16 store, uint16_t stored);
const char *store_name(Store16 store);
/* The largest change by rounding p->weights; relative: of those that are at least 2^-14.  Fails
 * for a number beyond the range. */
typedef struct StoreError { double absolute, relative; } StoreError;
StoreError store_error(const Program *p);

/* ------------------------------------------------------------------- memory.c
 * What is alive in a workspace while each kernel runs. */

/* Fails when the workspaces or the parameters exceed the options' limits, with the layers
 * that need most. */
void memory_check(const Program *p);
/* Live bytes over time, a bar and the tensors' names for each kernel; training may be NULL. */
void memory_print(const Program *inference, const Program *training, FILE *out);

/* ----------------------------------------------------------------- self_test.c */

enum { SELF_TEST_MOST = 4096 };              /* elements of an output that are compared */
enum { SELF_TEST_STREAM = 0x20000 };
/* The random numbers that are an input of a call. */
uint32_t self_test_stream(const Program *p, int number, int input);
void self_test(Program *p);

/* ------------------------------------------------------------- print/ (print.h)
 * The only place that writes C. */

bool kernel_seeded(const Kernel *k);         /* takes the dropout seed */
bool function_shared(const Function *f);     /* has work for a team of threads */
/* A file for a person's build; a library that cnnc loads; a text for libtcc, whose
 * leaves are linked into cnnc.  The last two have no header and uniform entry points. */
typedef enum PrintKind { PRINT_FILE, PRINT_LIBRARY, PRINT_HOSTED } PrintKind;
const char *print_source(Program *p, const char *header_name, PrintKind kind);
const char *print_header(Program *p);
/* Literal weights too large for C text, to be written beside net.c as net.weights:
 * the struct, or for targets whose assembler cannot draw it in the flat form; in 16 bits
 * a blob.  NULL: none. */
const void *print_weights_file(const Program *p, size_t *bytes);

/* All leaves of a target as a C file, with a table of their names: what the host links
 * for code that libtcc compiles.  The probes of print_probes.c are in it, too. */
void print_leaf_family(Text *t, const Target *target);

/* ----------------------------------------------------------------------- dump.c */

/* The node with which a kernel begins: its reduction, if it has one. */
const Node *kernel_start(const Kernel *k);
/* A kernel for people: the layers from its reduction to its end, "conv1 + relu1" ("": made
 * without one), and their operations, "conv + relu". */
const char *kernel_layers(Context *c, const Kernel *k);
const char *kernel_operations(Context *c, const Kernel *k);

/* "conv kernel 5x5 pad 2", "param conv1.weight", "scalar 0.25" */
const char *dump_operation(Context *c, const Node *n);
void dump_ir(const Graph *g, const char *pass, FILE *out);
void dump_dot(const Graph *g, FILE *out);
void dump_plan(const Function *f, FILE *out);

/* ---------------------------------------------------------------------- debug.c
 * What happens inside, on stderr: CNNC_DEBUG=1 the passes with their times, 2 the sizes of graphs
 * and kernels too, 3 schedules, 4 the graph after each pass. */

typedef struct Debug { Context *c; const char *function; double start; } Debug;
int debug_level(const char *text);                       /* NULL and what is no level: 0 */
void debug_begin(Debug *d, Context *c, const char *function);
void debug_pass(Debug *d, const char *pass, const Graph *g);     /* a graph pass has ended */
void debug_step(Debug *d, const char *step, const Function *f);  /* one from graph to loops */

/* ------------------------------------------------------------------ reference.c
 * The op table as a reference. */

void reference_op(Text *t, const Op *op);                /* for a terminal */
void reference_markdown(Text *t);                        /* the operations of docs/language.md */
void reference_luals(Text *t);                           /* definitions for the Lua language server */

/* ------------- command/ (command.h): the command line's tables; help, completions, manual */

/* -------------------------------------------------------------------- summary.c */

void summary_print(Program *inference, Program *training, FILE *out);     /* text table */
void summary_json(Program *inference, Program *training, FILE *out);

#endif
