/* Graphs: tensors, operations, and the passes that rewrite them. */
#ifndef GRAPH_H
#define GRAPH_H

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
    Node *joined;             /* the reader in whose memory it is stored as a part, or NULL */
    Node *within;             /* the reader in whose kernel it is computed, a band at a time, or NULL */
    int rows, rows_base;      /* > 0: so many rows exist at a time, and where they begin (stripes) */
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

/* What a convolution, or a gradient of one, multiplies: channels of either side and cells of the
 * outputs that meet; gathers: its result is the filters' gradient. */
typedef struct ConvWork { int samples, ins, outs, rows, columns; bool gathers; } ConvWork;

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
    /* The same by Winograd's F(tile x tile, 3x3); NULL: it is none of those.  And what there is to
     * do, so that the choice of a tile can be made. */
    Node *(*winograd)(Graph *g, Node *n, Node **in, int tile);
    ConvWork (*work)(const Node *n);

    /* Lowering: one of the two. */
    Expr *(*element)(Lower *l, Node *n, const Affine *index);           /* value of one element */
    void (*lower)(Lower *l, Node *n);                                   /* a reduction */

    /* For ops whose result is their inputs side by side: where input i begins in it; NULL
     * for others.  An input that is stored there already needs no nest. */
    int (*part)(const Node *n, int i, int *dim);
    /* For ops that their only reader computes on its way: how many places along a dim exist at a
     * time.  Such an op has neither element nor lower. */
    int (*band)(const Node *n, int *dim);

    /* For people. */
    int64_t (*macs)(const Node *n);
    const Window *(*window)(const Node *n);       /* geometry, for receptive fields */
    const char *(*algorithm)(Context *c, const Node *n);     /* how, where that is a choice */
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
/* As NumPy, right-aligned behind the batch. */
Node *build_broadcast(Graph *g, Node *x, const Shape *shape, bool batched);

/* When n is a multiplication by (an addition of) one number per channel made of
 * parameters alone: that vector, and in *rest the other operand; otherwise NULL. */
Node *channel_factor(Node *n, Node **rest);
Node *channel_term(Node *n, Node **rest);

/* --------------------------------------------------- mode.c, autodiff.c, expand.c
 *                                                     fold.c, winograd.c, hoist.c, fuse.c */

Graph *mode(Graph *g, bool training);        /* dropout and batch norm become what they do in this mode */
typedef struct Wanted { bool params; bool inputs; } Wanted;
Graph *autodiff(Graph *g, Wanted wanted);    /* adds gradient roots */
Graph *expand(Graph *g);                     /* softmax, losses ... into primitive ops */
Graph *fold(Graph *g, bool absorb);          /* constants, common nodes; absorb: per-channel
                                                factors and terms into weights and bias */
/* 3x3 convolutions by Winograd's algorithm; tile: of Options.winograd. */
enum { WINOGRAD_AUTO, WINOGRAD_OFF };
Graph *winograd(Graph *g, const Target *target, int tile, bool frozen);
Graph *hoist(Graph *g, Graph **pack);        /* parameter-only subgraphs become derived fields,
                                                computed by the graph *pack */
Graph *fuse(Graph *g);                       /* a node of its own for every root; then sets uses,
                                                inlined, root */

/* ----------------------------------------------------------------------- eval.c
 * The reference interpreter. */

/* Evaluates all roots; result[r] belongs to g->root[r].  Arena memory. */
Tensor *eval(Graph *g, const Bindings *b);

#endif
