/* cnnc: a graph compiler for convolutional networks.
 *
 * This header is the map of compiler/: the types that flow from a Lua file to C
 * text, and under each file's name its entry points, in the order in which a
 * network passes through them:
 *
 *   frontend -> Graph -> mode -> autodiff -> expand -> fold -> hoist -> fuse
 *            -> lower -> Nests -> layout -> schedule -> Loops -> plan -> print -> C
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
typedef struct Loop Loop;
typedef struct Kernel Kernel;
typedef struct Storage Storage;
typedef struct Layout Layout;
typedef struct Target Target;
typedef struct Leaf Leaf;
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

/* Formats the message and jumps to c->handler with the status.  STATUS_FAULT is
 * for broken invariants of cnnc itself. */
_Noreturn void fail(Context *c, int status, const char *text, ...) __attribute__((format(printf, 3, 4)));

/* Runs body(argument); true when it returned, false when it failed (the message
 * and status are then in c).  Nests: the former handler is restored. */
bool attempt(Context *c, void (*body)(void *), void *argument);

/* ------------------------------------------------------------------- graph.c
 * Tensors and operations.  A node is one operation and the tensor it makes. */

enum { MAX_RANK = 6, MAX_SPATIAL = 3 };

typedef struct Shape { int rank; int dim[MAX_RANK]; } Shape;   /* batch first where there is one */
typedef enum DType { F32, I32 } DType;

int shape_count(const Shape *s);              /* elements; 1 for rank 0 */
bool shape_equal(const Shape *a, const Shape *b);
Shape shape_of(int rank, const int *dim);
const char *shape_text(Context *c, const Shape *s, bool skip_batch);   /* "1x28x28" */

/* One call of the network file: what a person calls a layer. */
struct Layer {
    const char *name;         /* "conv1", or as named */
    bool named;               /* the network file gave the name */
    const char *method;       /* "conv2d" */
    const char *where;        /* "net.lua:7" (with the callers of a helper function) */
    Node *output;             /* the last node that the call made */
    Node **from;              /* the tensors it was called on */
    int froms;
};

typedef enum InitKind { INIT_CONSTANT, INIT_UNIFORM, INIT_LITERAL } InitKind;

/* An entry of the state_dict, trainable or not. */
struct Param {
    const char *name;         /* "conv1.weight" */
    const char *c_name;       /* "conv1_weight" */
    Shape shape;              /* as in PyTorch: OIHW, (out, in) */
    int count;
    int64_t offset;           /* in the flat, declaration-ordered form, in floats */
    int index;                /* in declaration order */
    InitKind init;
    float value;              /* INIT_CONSTANT: the value; INIT_UNIFORM: U(-value, value) */
    const float *literal;     /* INIT_LITERAL: count numbers */
    bool trainable;
    bool statistic;           /* a running statistic: written by training, not by optimisers */
    bool derived;             /* no entry of the state_dict: computed by pack (hoist, layout) */
    const Layout *layout;     /* of a derived one, once forward has chosen it */
    Layer *layer;
};

struct Input {
    const char *name, *c_name;
    Shape shape;              /* with the batch */
    DType dtype;              /* I32: class labels */
    int classes;              /* of labels: 0 <= label < classes */
    bool loss_only;           /* label or target: forward never needs it */
    int index;                /* in order of declaration */
};

struct Node {
    const Op *op;
    int id;                   /* place in graph->node: inputs come before their users */
    Node **in;
    int ins;
    void *attrs;              /* op->attrs_size bytes, zero-padded, comparable by memcmp */
    Shape shape;
    DType dtype;
    bool batched;             /* dim[0] is the batch */
    Layer *layer;             /* NULL for none; its position heads the generated code */
    Param *param;             /* of a param leaf */
    Input *input;             /* of an input leaf */
    double value;             /* of a scalar constant leaf */

    /* fuse.c */
    int uses;                 /* nodes that read it, and roots */
    bool inlined;             /* never stored: recomputed inside its reader's expression */
    Node *root;               /* the reduction in whose epilogue this node is computed, or NULL */
    /* layout.c */
    Storage *storage;
};

/* What a graph is for.  Every pass keeps the roots. */
typedef enum RootKind {
    ROOT_OUTPUT,              /* a named output of the model */
    ROOT_LOSS,                /* the scalar loss */
    ROOT_PARAM_GRAD,          /* added to the gradient of .param */
    ROOT_INPUT_GRAD,          /* stored as the gradient of .input */
    ROOT_UPDATE,              /* stored into .param (running statistics) */
    ROOT_DERIVED              /* stored into the derived .param (hoist) */
} RootKind;

typedef struct Root {
    RootKind kind;
    Node *node;
    const char *name;         /* of an output, as in C */
    Param *param;
    Input *input;
} Root;

struct Graph {
    Context *c;
    const char *name;         /* the model's */
    const char *file;         /* the network file */
    int batch;
    Node **node;   int nodes;
    Root *root;    int roots;
    /* shared by all graphs made from one network: */
    Layer **layer; int layers;
    Param **param; int params;
    Input **input; int inputs;
    Layer *current;           /* the layer that new nodes belong to */
};

Graph *graph_new(Context *c, const char *name, int batch);

/* A node with room for its attributes; infers shape and type by op->infer and
 * checks that sizes stay below 2^31.  Copies `in` and `attrs`. */
Node *node_new(Graph *g, const Op *op, int ins, Node *const *in, const void *attrs);

/* Declares a parameter "<layer>.<suffix>" / an input; duplicate names (also after
 * mangling to C) fail.  The returned leaf is the parameter's only node in g. */
Node *param_new(Graph *g, Layer *layer, const char *suffix, Shape shape, InitKind init,
                float value, const float *literal, bool trainable);
Node *input_new(Graph *g, const char *name, Shape shape, DType dtype, bool loss_only, int classes);
Node *param_leaf(Graph *g, Param *p);       /* finds or makes the leaf in this graph */
Node *input_leaf(Graph *g, Input *in);
Node *scalar_new(Graph *g, double value);    /* rank 0 constant */

void root_add(Graph *g, Root root);
int64_t params_count(const Graph *g);        /* floats in the flat form */
const char *c_identifier(Context *c, const char *name);

/* Rebuilds a graph node by node in topological order, visiting only what the
 * roots reach.  visit gets the old node and its inputs' images and returns the
 * node's image in `to` (node_copy for "the same").  Roots are mapped at the end. */
typedef struct Rewrite { Graph *from, *to; Node **image; void *user; } Rewrite;
Graph *graph_rewrite(Graph *from, Node *(*visit)(Rewrite *r, Node *old, Node **in), void *user);
Node *node_copy(Rewrite *r, Node *old, Node **in);

/* Marks[id] is true for what the roots reach. */
bool *graph_live(const Graph *g);

/* Verifies the invariants of a graph (order, arity, shapes); fails with STATUS_FAULT. */
void graph_check(const Graph *g, const char *pass);

/* -------------------------------------------------------------------- window.c
 * The geometry that convolutions and pools share. */

typedef struct Window {
    int spatial;
    int kernel[MAX_SPATIAL], stride[MAX_SPATIAL], dilation[MAX_SPATIAL];
    int begin[MAX_SPATIAL], end[MAX_SPATIAL];     /* zero padding before and after */
    int ceil;                                     /* round the output size up */
} Window;

/* Output = (Input - (dilation*(Kernel-1)+1) + begin + end) / stride + 1, floor or
 * ceil; in ceil mode a last window that would start in the right padding is
 * dropped, as PyTorch does.  <= 0 when the window does not fit.  64-bit inside. */
int64_t window_output(int input, int kernel, int stride, int dilation, int begin, int end, bool ceil);
/* The same as text with its numbers: "(28 - 5 + 2*2)/1 + 1 = 28". */
const char *window_formula(Context *c, const Window *w, int axis, int input);

/* ------------------------------------------------------------- ops/: the op table
 * One row an operation; see docs/architecture.md for a worked example. */

typedef enum ArgKind {
    ARG_END,
    ARG_INT,                  /* whole number in [low, high] */
    ARG_NUMBER,               /* finite number in [low, high] */
    ARG_BOOL,
    ARG_NAME,                 /* string: the layer's name */
    ARG_INPUT_NAME,           /* string: the name of the input that the call adds */
    ARG_DIMS,                 /* a number or one per spatial dim, each >= low */
    ARG_PADS,                 /* a number, one per dim, all begins then all ends, or "same" */
    ARG_SHAPE,                /* positive whole numbers: all positional entries */
    ARG_LITERAL,              /* nested table of numbers */
    ARG_BIAS                  /* true, false or a flat table of numbers */
} ArgKind;

typedef struct ArgSpec {
    const char *name;         /* key in the option table */
    ArgKind kind;
    bool positional;          /* may also stand at [1] (in order among positionals) */
    bool required;
    double standard;          /* default (ARG_BOOL, ARG_BIAS: 0 or 1) */
    double low, high;         /* range; high 0: no bound above low */
    const char *doc;
} ArgSpec;

typedef struct Arg {
    bool given;
    double number;            /* INT, NUMBER */
    bool flag;                /* BOOL, BIAS */
    const char *text;         /* NAME, INPUT_NAME; NULL: not given */
    int count;                /* DIMS, PADS, SHAPE: entries of dim */
    int dim[2 * MAX_SPATIAL]; /* DIMS: one per spatial dim; PADS: begins, then ends */
    bool same;                /* PADS "same" */
    Shape shape;              /* LITERAL, BIAS: of the table */
    const float *literal;
} Arg;

/* A method of a tensor as it was called: what op->build gets. */
typedef struct Call {
    Graph *g;
    const Op *op;
    const char *method;       /* "conv2d" */
    Node **tensor;            /* operands; [0] is the receiver */
    int tensors;
    const Arg *arg;           /* as op->args, same order, defaults filled in */
    Layer *layer;
} Call;

/* A dense tensor in double, for evaluation. */
typedef struct Tensor { Shape shape; double *data; } Tensor;

/* Values of the leaves during evaluation. */
typedef struct Bindings {
    double *const *param;     /* by Param.index */
    double *const *input;     /* by Input.index; NULL where not needed */
    uint64_t seed;            /* of dropout */
} Bindings;

enum {                        /* traits */
    OP_LEAF = 1,              /* input, param or constant */
    OP_POINTWISE = 2,         /* y[i] = f(a[i], b[i], ...), all shapes equal */
    OP_INDEX_MAP = 4,         /* y[i] = x[m(i)]: never worth storing */
    OP_CHEAP = 8,             /* costs less than loading it */
    OP_READS_ONCE = 16,       /* a reduction that reads each input element once */
    OP_ALIAS = 32,            /* same elements in the same order, other shape */
    OP_PLACED = 64            /* an element's value depends on its place, too */
};

struct Op {
    const char *name;         /* in IR dumps and comments */
    const char *doc;          /* one line */
    unsigned traits;
    size_t attrs_size;

    /* Lua: NULL methods for ops that only the compiler makes. */
    struct Method { const char *name; int spatial; } method[4];   /* spatial 0: any rank */
    const char *kind;         /* prefix of automatic layer names: "conv" */
    const ArgSpec *args;      /* ends with ARG_END; NULL for none */
    int operands;             /* tensors in Lua: 1 for most, 2 for arithmetic, -1 for concat */
    Node *(*build)(Call *call);

    /* Meaning. */
    void (*infer)(Graph *g, Node *n);
    void (*eval)(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out);
    /* Gradient of the loss for n->in[i], from dy, its gradient for n; NULL: none flows. */
    Node *(*gradient)(Graph *g, Node *n, Node *dy, int i);

    /* Graph rewriting, each NULL if it does not apply; in[]: inputs in the new graph. */
    Node *(*specialise)(Graph *g, Node *n, Node **in, bool training);   /* mode */
    Node *(*expand)(Graph *g, Node *n, Node **in);                      /* into primitives */
    /* n * factor or n + term with the second operand (rank 1, one entry per
     * channel, made of parameters alone) absorbed into n's own parameters; NULL
     * if impossible. */
    Node *(*absorb_scale)(Graph *g, Node *n, Node *factor);
    Node *(*absorb_shift)(Graph *g, Node *n, Node *term);

    /* Lowering: one of the two. */
    Expr *(*element)(Lower *l, Node *n, const Affine *index);           /* value of one element */
    void (*lower)(Lower *l, Node *n);                                   /* a reduction */

    /* For people. */
    int64_t (*macs)(const Node *n);
    const Window *(*window)(const Node *n);       /* geometry, for receptive fields */
    void (*print_attrs)(const Node *n, Text *t);  /* for IR dumps, " kernel 3x3" */
    const char *const *samples;                   /* Lua networks that exercise the op; NULL ends */
};

/* Every op that a network file can name, for the frontend, the reference and the
 * tests; NULL ends the list. */
const Op *const *op_table(void);
/* The arithmetic operators of Lua tensors: '+', '-', '*', '/'. */
const Op *op_arithmetic(char sign);
const Op *op_input(void), *op_param(void), *op_scalar(void);

/* Builders that passes outside ops/ need. */
Node *build_add(Graph *g, Node *a, Node *b);         /* equal shapes */
Node *build_copy(Graph *g, Node *x);                 /* a second home for a value */
Node *build_broadcast(Graph *g, Node *x, const Shape *shape, bool batched);  /* NumPy, right-aligned behind the batch */

/* When n is a multiplication by (an addition of) one number per channel made of
 * parameters alone: that vector, and in *rest the other operand; otherwise NULL. */
Node *channel_factor(Node *n, Node **rest);
Node *channel_term(Node *n, Node **rest);

/* ----------------------------------------------------------------- frontend.c
 * Lua file -> Graph. */

struct lua_State;
Graph *frontend_load(Context *c, const char *path, int batch);             /* "-": stdin */
Graph *frontend_load_text(Context *c, const char *chunk, size_t length, const char *file, int batch);

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

/* --------------------------------------------------- mode.c, autodiff.c, expand.c
 *                                                     fold.c, hoist.c, fuse.c */

Graph *mode(Graph *g, bool training);        /* dropout and batch norm become what they do in this mode */
typedef struct Wanted { bool params; bool inputs; } Wanted;
Graph *autodiff(Graph *g, Wanted wanted);    /* adds gradient roots */
Graph *expand(Graph *g);                     /* softmax, losses ... into primitive ops */
Graph *fold(Graph *g, bool absorb);          /* constants, common nodes; absorb: per-channel
                                                factors and terms into weights and bias */
Graph *hoist(Graph *g, Graph **pack);        /* parameter-only subgraphs become derived fields,
                                                computed by the graph *pack */
Graph *fuse(Graph *g);                       /* a node of its own for every root; then sets uses,
                                                inlined, root */

/* --------------------------------------------------------------------- lower.c
 * Graph -> nests: loops without an order over accesses without an address. */

enum { MAX_AXES = 16 };

/* constant + sum of coef[a] * axis a */
struct Affine { int constant; int coef[MAX_AXES]; };

/* An element of a stored tensor, by logical index.  An index may run outside the
 * tensor when `border`: the element then counts as the reduction's neutral value.
 * Who keeps the read inside (clipped loops or a gap of zeros) is decided later. */
typedef struct Access { Node *node; Affine index[MAX_RANK]; bool border; } Access;

typedef enum ExprKind { X_FLOAT, X_INT, X_AFFINE, X_LOAD, X_ACC, X_CALL } ExprKind;

/* Operators of expressions; their C text is the printer's. */
typedef enum Fn {
    FN_ADD, FN_SUB, FN_MUL, FN_DIV, FN_MIN, FN_MAX, FN_NEG,
    FN_EXP, FN_LOG, FN_TANH, FN_SQRT,
    FN_LT, FN_LE, FN_EQ, FN_AND, FN_SELECT,      /* SELECT: condition, then, else */
    FN_TO_FLOAT,                                 /* int -> float */
    FN_RANDOM                                    /* (stream, counter) -> uniform float in [0, 1) */
} Fn;

struct Expr {
    ExprKind kind;
    DType dtype;
    double number;            /* FLOAT, INT */
    Affine affine;            /* AFFINE: an int made of axis values; LOAD: the address (schedule) */
    Access load;              /* LOAD */
    int acc;                  /* ACC */
    Fn fn;                    /* CALL */
    Expr *arg[3];
};

typedef struct Axis {
    const char *name;
    int extent;
    bool reduce;
    int lanes;                /* > 0: the place within a block of so many, split off ... */
    int outer, whole;         /* ... this axis, which had this extent */
} Axis;

enum { MAX_ACCS = 2 };
typedef enum ReduceKind { REDUCE_SUM, REDUCE_MAX, REDUCE_ARGMAX } ReduceKind;

typedef struct Store {
    Node *node;
    Affine index[MAX_RANK];
    Affine address;           /* set by schedule */
    Expr *value;
    bool accumulate;          /* += */
} Store;

/* for all parallel axes: acc = init; for all reduce axes: acc = update(acc, term); store */
struct Nest {
    Axis axis[MAX_AXES];
    int axes;
    bool reduces;
    ReduceKind reduce;
    Expr *term;               /* what is summed or compared */
    Expr *tag;                /* ARGMAX: the int that names the winner */
    Store store;
    int lane;                 /* the axis along which vectors lie (lanes.c), -1: none */
    int valid;                /* of the last vector along it, so many lanes exist */
    Loop *loops;              /* set by schedule */
    const char *schedule;     /* the same, for people */
};

/* A function of the generated C: one stored node, one or more nests. */
struct Kernel {
    Node *node;               /* what it stores */
    const char *name;         /* C identifier */
    Nest **nest;  int nests;
    Storage **storage; int storages;   /* arguments: written one first */
};

/* For ops: open a nest whose result is node n (or what is fused behind it). */
Nest *nest_open(Lower *l);
Affine nest_axis(Nest *nest, const char *name, int extent, bool reduce);
/* An axis for every dim of n, called n, c, d, h, w (i, j, k ... without a batch). */
void nest_axes(Nest *nest, const Node *n, Affine *index);
const char *axis_name(const Node *n, int d);
/* Closes it: term reduced by kind, result stored at `index` of n with the epilogue. */
void nest_close(Lower *l, Node *n, Nest *nest, ReduceKind kind, Expr *term, Expr *tag, const Affine *index);

Affine affine_constant(int constant);
Affine affine_sum(Affine a, Affine b);
Affine affine_times(Affine a, int factor);

/* The value of x at an index: inlined expression, accumulator or load.  The
 * second form may run outside x's shape (zero, or skipped by a maximum). */
Expr *element(Lower *l, Node *x, const Affine *index);
Expr *element_bordered(Lower *l, Node *x, const Affine *index);
Expr *expr_float(Lower *l, double value);
Expr *expr_int(Lower *l, int value);
Expr *expr_affine(Lower *l, Affine a);
Expr *expr_call(Lower *l, Fn fn, Expr *a, Expr *b, Expr *c);
Context *lower_context(Lower *l);

Function *lower(Graph *g, const char *name, const Target *target);
Kernel *lower_node(Function *f, Node *n);    /* one stored node (layout adds copies) */

/* Visits every load of an expression; of a nest's term, tag and value. */
void expr_loads(Expr *e, void (*visit)(Expr *load, void *user), void *user);
void nest_loads(Nest *nest, void (*visit)(Expr *load, void *user), void *user);
/* Visits every affine of a nest: indices of loads and of the store, axis values. */
void nest_affines(Nest *nest, void (*visit)(Affine *a, void *user), void *user);
/* Axis becomes blocks of `lanes` and, as a new last axis, the place within one. */
int nest_split(Nest *nest, int axis, int lanes);

/* ------------------------------------------------------------------- storage.c
 * The memory that a tensor lies in. */

/* address = lead + sum over the pieces of stride * (index[dim] / div % mod), in
 * elements; mod 0: no limit.  Row-major order, channels in blocks of the target's
 * lanes and packed weights are all of this form.  `rows` rows, `pitch` apart, are
 * each followed by `gap` zeros. */
typedef struct Piece { int dim, div, mod, stride; } Piece;
struct Layout {
    Piece piece[MAX_RANK + 3];
    int pieces;
    int lead, gap, pitch, rows;
    int elements;             /* with gaps and padding lanes */
};

typedef enum Place {
    PLACE_WORKSPACE, PLACE_INPUT, PLACE_OUTPUT, PLACE_PARAM, PLACE_GRAD, PLACE_INPUT_GRAD
} Place;

struct Storage {
    Place place;
    const char *name;         /* C identifier of the pointer */
    Shape shape;              /* of the node that it was made for */
    DType dtype;
    const Param *param;       /* PARAM, GRAD */
    const Input *input;       /* INPUT, INPUT_GRAD */
    const Root *output;       /* OUTPUT */
    bool plain;               /* seen in another shape, or the user's: row-major, no gaps */
    /* layout.c */
    int gap;                  /* zeros wanted between the rows, in places of the last dim */
    int lanes;                /* > 1: channels in blocks of so many */
    int slack;                /* elements behind the last that may be read */
    bool clear;               /* set to zero before it is written: padding lanes stay untouched (schedule) */
    Layout layout;
    /* plan.c */
    int birth, death;         /* first and last kernel that touches it */
    Storage *shares;          /* lives in the memory of this one (in place), or NULL */
    int64_t offset;           /* WORKSPACE: in bytes */
};

void storage_assign(Function *f);            /* a storage for every stored node, leaf and alias */
Storage *storage_new(Function *f, Place place, const char *name, const Node *n);

/* -------------------------------------------------------------------- layout.c
 * Where elements lie: gaps, blocks of channels, packed parameters. */

void layout(Function *f);
/* Element offset of an index of n from its storage's pointer. */
Affine layout_address(Context *c, const Nest *nest, const Node *n, const Affine *index);
int layout_offset(const Layout *l, const int *index);        /* of one element */
bool layout_packed(const Layout *l);         /* in blocks */
/* Smallest and largest value of an index over the axes of a nest. */
void affine_range(const Affine *a, const Nest *nest, int *low, int *high);

/* --------------------------------------------------------------------- lanes.c
 * Which axis of a nest runs along the lanes of a vector. */

void lanes_choose(Function *f, Nest *nest);

/* ------------------------------------------------- schedule/: schedule.c, tile.c
 * Nests -> loop trees.  Only these files know what is legal. */

/* value / divisor, rounded towards zero: a clipped loop runs from the largest low
 * to the smallest high (schedule.c shows why this rounding is right). */
typedef struct Bound { Affine value; int divisor; } Bound;

typedef enum LoopKind { LOOP_FOR, LOOP_INIT, LOOP_UPDATE, LOOP_STORE, LOOP_LEAF } LoopKind;

/* The innermost part of a vectorised reduction: `tile` times `vectors` accumulators
 * of a vector each, filled over four loops (outer first),
 *
 *     acc[t][k] += a[t][k] * b[t][k]        (FMA)
 *     acc[t][k] += a[t][k]                  (SUM; MAX likewise)
 *     y[t][k] = clamp(scale * acc[t][k] + bias[k] + add[t][k])
 *
 * where an operand moves by fixed steps with t, k and the loops, and is a vector or
 * one number for all lanes.  The second and third loop may be clipped: how often they
 * run is an argument of the call. */
typedef enum LeafKind { LEAF_FMA, LEAF_SUM, LEAF_MAX } LeafKind;
enum { LEAF_LOOPS = 4 };

typedef struct Operand {
    const Node *node;         /* NULL: not there */
    Affine address;
    bool vector;
    int t, k, step[LEAF_LOOPS];
} Operand;

struct Leaf {
    LeafKind kind;
    int tile, vectors;
    int valid;                /* lanes of the last vector that are stored */
    int count[LEAF_LOOPS];    /* 0: clipped, given by the call */
    Operand a, b, bias, add, y;
    float scale, low, high;
};

/* A statement.  Unrolled and tiled axis values are already in the expressions. */
struct Loop {
    LoopKind kind;
    Loop *next;
    /* FOR */
    int axis, begin, end, step;
    Bound *low, *high;        /* what clips it besides begin and end */
    int lows, highs;
    Loop *body;
    /* INIT, UPDATE, STORE */
    int acc;                  /* which accumulator of the tile */
    Expr **term, **tag;       /* UPDATE: all are reduced, in order */
    int terms;
    Store store;
    /* LEAF */
    Leaf *leaf;
    Loop *clip[LEAF_LOOPS];   /* bounds of its clipped loops (FOR, without a body), or NULL */
};

void schedule(Function *f);

/* ----------------------------------------------------------------------- plan.c */

void plan(Function *f);       /* offsets of all workspace buffers; in-place reuse */

struct Function {
    Context *c;
    const Target *target;
    bool packs;               /* computes derived fields from the flat parameters */
    const char *name;         /* "forward" */
    Graph *graph;
    Kernel **kernel; int kernels;
    Storage **storage; int storages;
    int64_t workspace;        /* bytes */
};

/* --------------------------------------------------------------------- target.c
 * A row per target: what its C compiler is told, and later lanes and registers. */

struct Target {
    const char *name, *doc, *cflags;
    int lanes;                /* floats in a vector; 1: scalar code */
    int registers;            /* vectors */
};
const Target *target_find(const char *name);             /* NULL: unknown */
const Target *target_list(int *count);
const Target *target_level(const Target *t);             /* native: the row that it is on this machine */

/* -------------------------------------------------------------------- compile.c
 * The pass list. */

typedef struct Options {
    int batch;
    bool train, input_grad;
    const char *prefix;       /* of C names; NULL: the model's name */
    const Target *target;
    const char *emit;         /* NULL, or "ir", "plan", "dot" */
    const char *emit_after;   /* the pass after which ir is printed; NULL: the last */
} Options;

/* A field of the generated parameter struct. */
typedef struct Field { const char *name; int count; const Param *param; } Field;

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
};

/* Net and options -> everything that the printer needs. */
Program *compile(Graph *net, const Options *options, FILE *emit);

/* ------------------------------------------- print.c, print_kernel.c, print_expr.c,
 *                                  print_params.c, print_train.c, print_jit.c (print.h)
 * The only place that writes C. */

bool kernel_seeded(const Kernel *k);         /* takes the dropout seed */
/* A file for a person's build; a library that cnnc loads; a text for libtcc, whose
 * leaves are linked into cnnc.  The last two have no header and uniform entry points. */
typedef enum PrintKind { PRINT_FILE, PRINT_LIBRARY, PRINT_HOSTED } PrintKind;
const char *print_source(Program *p, const char *header_name, PrintKind kind);
const char *print_header(Program *p);
/* Literal weights too large for C text, to be written beside net.c as net.weights:
 * the struct, or for targets without an assembler of their own the flat form.  NULL:
 * none. */
const float *print_weights_file(const Program *p, size_t *bytes);

/* ----------------------------------------------------------------------- dump.c */

void dump_ir(const Graph *g, const char *pass, FILE *out);
void dump_dot(const Graph *g, FILE *out);
void dump_plan(const Function *f, FILE *out);

/* ----------------------------------------------------------------------- eval.c
 * The reference interpreter. */

/* Evaluates all roots; result[r] belongs to g->root[r].  Arena memory. */
Tensor *eval(Graph *g, const Bindings *b);

/* --------------------------------------------------------------------- random.c
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011, section 3). */

uint32_t random_bits(uint64_t seed, uint32_t stream, uint32_t counter);
float random_unit(uint64_t seed, uint32_t stream, uint32_t counter);      /* [0, 1) */
/* Element i of the parameter's initial value. */
float param_initial(const Param *p, uint64_t seed, int i);

/* -------------------------------------------------------------------- summary.c */

void summary_print(Program *inference, Program *training, FILE *out);     /* text table */
void summary_json(Program *inference, Program *training, FILE *out);

#endif
