/* Nests: from tensors to loops over memory. */
#ifndef NEST_H
#define NEST_H

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
    bool band;                /* a loop around this and the neighbouring nests of its kernel */
    int lanes;                /* > 0: the place within a block of so many, split off ... */
    int outer, whole;         /* ... this axis, which had this extent */
    bool hoisted;             /* a reduction's: its loop encloses those of parallel axes (schedule) */
} Axis;

typedef enum ReduceKind { REDUCE_SUM, REDUCE_MAX, REDUCE_ARGMAX } ReduceKind;

typedef struct Store {
    Node *node;
    Affine index[MAX_RANK];
    Affine address;           /* set by schedule */
    Expr *value;
    bool accumulate;          /* += */
} Store;

/* for all parallel axes: acc = init; for all reduce axes: acc = update(acc, term); store
 *
 * With a matrix M the sum is that of M[i][p] * M[j][q] * term, where i, j are the parallel axes
 * row[] and p, q the reducing axes column[]: all elements of i, j are computed from all of p, q
 * together, one axis after the other. */
struct Nest {
    Axis axis[MAX_AXES];
    int axes;
    bool reduces;
    ReduceKind reduce;
    Expr *term;               /* what is summed or compared */
    const Matrix *matrix;     /* or NULL */
    int row[2], column[2];
    Expr *tag;                /* ARGMAX: the int that names the winner */
    Store store;
    int lane;                 /* the axis along which vectors lie (lanes.c), -1: none */
    int rows;                 /* the axis of rows that a turn of the band computes (stripes.c), -1: all */
    int valid;                /* of the last vector along it, so many lanes exist */
    Loop *loops;              /* set by schedule */
    Loop *strips;             /* the same for code whose inner loops the host runs, or NULL */
    int tile, vectors;        /* of its leaves; 0: it has none */
    int shared;               /* the axis whose loops threads divide, -1: one thread runs it all */
    const char *schedule;     /* the same, for people */
    bool moves;               /* rows within their buffer, one after the other: no work for a team */
    bool again;               /* reads what the nest before it in its kernel has stored */
};

/* A function of the generated C: one stored node, one or more nests. */
struct Kernel {
    Node *node;               /* what it stores */
    Node *start;              /* what the first of kernels that were taken together stored, or NULL */
    const char *name;         /* C identifier */
    Nest **nest;  int nests;
    Storage **storage; int storages;   /* arguments: written one first */
};

/* For ops: open a nest whose result is node n (or what is fused behind it). */
Nest *nest_open(Lower *l);
Affine nest_axis(Nest *nest, const char *name, int extent, bool reduce);
/* Axes for the first rows[0], rows[1] rows of a matrix and for all of its columns, both twice. */
void nest_matrix(Nest *nest, const Matrix *m, const int *rows, Affine *row, Affine *column);
bool nest_matrix_axis(const Nest *nest, int axis);
/* An axis for every dim of n, called n, c, d, h, w (i, j, k ... without a batch). */
void nest_axes(Nest *nest, const Node *n, Affine *index);
const char *axis_name(const Node *n, int d);
/* Closes it: term reduced by kind, result stored at `index` of n with the epilogue. */
void nest_close(Lower *l, Node *n, Nest *nest, ReduceKind kind, Expr *term, Expr *tag, const Affine *index);

/* The same for a node that is computed within the kernel: no epilogue. */
void nest_close_part(Lower *l, Node *n, Nest *nest, ReduceKind kind, Expr *term, const Affine *index);
/* An axis whose loop stands around all nests that follow one another with such an axis. */
Affine nest_band(Nest *nest, int extent);
int nest_band_axis(const Nest *nest);            /* -1: none */

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

/* -------------------------------------------------------------------- matrix.c
 * Constant matrices that nests transform tensors by. */

enum { MATRIX_MOST = 8 };
struct Matrix {
    const char *name;         /* as in C: "f4_input" */
    int rows, columns;
    double entry[MATRIX_MOST][MATRIX_MOST];
};

typedef enum WinogradSide {
    WINOGRAD_INPUT, WINOGRAD_FILTER, WINOGRAD_OUTPUT, WINOGRAD_ERROR, WINOGRAD_FILTER_GRAD, WINOGRAD_SIDES
} WinogradSide;
/* B, G or A of F(tile, 3), or A or G transposed; tile at most 6. */
const Matrix *winograd_matrix(Context *c, int tile, WinogradSide side);

/* ------------------------------------------------------------------- stripes.c
 * Chains of kernels that compute their tensors a few rows at a time. */

/* For scalar targets: pools together with what they read; for memory: whatever lowers the peak. */
void stripes(Function *f, bool for_memory);

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
    bool batched;             /* dim 0 is the batch, in all shapes that it is seen in */
    bool plain;               /* seen in another shape, or the user's: row-major, no gaps */
    /* layout.c */
    int gap;                  /* zeros wanted between the rows, in places of the last dim */
    int lanes;                /* > 1: channels in blocks of so many, or samples side by side ... */
    int lane_dim;             /* ... as this dim says: 1 or 0 */
    int slack;                /* elements behind the last that may be read */
    int band, band_dim;       /* > 0: so many places along a dim exist at a time */
    bool clear;               /* set to zero before it is written: padding lanes stay untouched (schedule) */
    Layout layout;
    /* plan.c */
    int birth, death;         /* first and last kernel that touches it */
    Storage *shares;          /* lives in the memory of this one (in place), or NULL */
    Storage *takes;           /* what the kernel of its birth reads of that, element for element, or NULL */
    int64_t offset;           /* WORKSPACE: in bytes */
};

void storage_assign(Function *f);            /* a storage for every stored node, leaf and alias */
/* A free name for what node n computes. */
const char *storage_name(Function *f, const Node *n);
Storage *storage_new(Function *f, Place place, const char *name, const Node *n);

/* -------------------------------------------------------------------- layout.c
 * Where elements lie: gaps, blocks of channels, packed parameters. */

void layout(Function *f);
/* Whether samples will lie side by side in the function of a graph that fuse has left, when its
 * parameters change between calls. */
bool layout_by_samples(Graph *g, const Target *target);
/* Element offset of an index of n from its storage's pointer. */
Affine layout_address(Context *c, const Nest *nest, const Node *n, const Affine *index);
int layout_offset(const Layout *l, const int *index);        /* of one element */
/* A parameter laid out anew in the workspace, by a kernel behind those that f has so far. */
Node *layout_copy(Function *f, Node *n, const Layout *l, Layer *layer);
bool layout_packed(const Layout *l);         /* in blocks */
/* Smallest and largest value of an index over the axes of a nest. */
void affine_range(const Affine *a, const Nest *nest, int *low, int *high);

/* --------------------------------------------------------------------- lanes.c
 * Which axis of a nest runs along the lanes of a vector. */

void lanes_choose(Function *f, Kernel *kernel, Nest *nest);

/* ------------------------------------------------- schedule/: schedule.c, tile.c
 * Nests -> loop trees.  Only these files know what is legal. */

/* value / divisor, rounded towards zero: a clipped loop runs from the largest low
 * to the smallest high (schedule.c shows why this rounding is right). */
typedef struct Bound { Affine value; int divisor; } Bound;

typedef enum LoopKind {
    LOOP_FOR, LOOP_INIT, LOOP_UPDATE, LOOP_STORE, LOOP_LEAF, LOOP_TRANSFORM, LOOP_STRIP, LOOP_SUMS
} LoopKind;
enum { ACC_OF_ROW = -1 };     /* in place of an accumulator's number: the axis' element of an array */

/* The innermost part of a vectorised reduction: `tile` times `vectors` accumulators
 * of a vector each, filled over four loops (outer first),
 *
 *     acc[t][k] += a[t][k] * b[t][k]        (FMA)
 *     acc[t][k] += a[t][k]                  (SUM; MAX likewise)
 *     y[t][k] = clamp(scale * acc[t][k] + bias[k] + add[t][k])
 *
 * or, gated, bias says where the sum without it passes: y = low < bias < high ? sum : 0,
 * where an operand moves by fixed steps with t, k and the loops, and is a vector or
 * one number for all lanes; operand a of a sum or maximum and the result may have their
 * lanes apart.  The second and third loop may be clipped: how often they
 * run is an argument of the call.
 *
 * Or a grid of vectors transformed by a matrix M along both of its axes (TRANSFORM),
 *
 *     acc[t][k] = sum over p, q of M[t][p] * M[k][q] * a[p][q]
 *
 * where t and k are steps from row to row and from column to column, for all operands, count[0]
 * rows and count[3] columns of the result are stored, and rows of `a` may be clipped: the call
 * gives the first that exists and the one behind the last. */
typedef enum LeafKind { LEAF_FMA, LEAF_SUM, LEAF_MAX, LEAF_TRANSFORM } LeafKind;
enum {
    LEAF_LOOPS = 4,
    LEAF_SPREAD = 2,              /* of lanes of operand a, at most */
    LEAF_WINDOW = 3,              /* height and width of windows that are written out */
    LEAF_WINDOW_REGISTERS = 32,   /* which keep their weights in registers ... */
    LEAF_WINDOW_ROWS = 2,         /* ... beside so many rows ... */
    LEAF_WINDOW_TILE = 9          /* ... of so many */
};

typedef struct Operand {
    const Node *node;         /* NULL: not there */
    Affine address;
    bool vector;
    int spread;               /* from lane to lane of a vector */
    int t, k, step[LEAF_LOOPS];
} Operand;

struct Leaf {
    LeafKind kind;
    int lanes, tile, vectors;
    int valid;                /* lanes of the last vector that are stored */
    bool accumulate;          /* added to what is there */
    bool gated;
    bool across;              /* the lanes are terms of one sum: y[t][k] is a number */
    int count[LEAF_LOOPS];    /* 0: clipped, given by the call */
    int last;                 /* of the innermost loop, in the last pass of the outermost */
    Operand a, b, bias, add, y;
    float scale, low, high;
    const Matrix *matrix;     /* TRANSFORM */
    /* Lines of the next vectors' operand a that each pass of the third loop draws into the
     * cache, and where they begin: read for the first time, weights are cold. */
    int ahead_lines;
    Operand ahead;
    bool next_tile;           /* such a pass draws in what the next tile reads of operand b */
    /* Of the host, which has members apart for what is common; 0: anything.  Along the tile
     * the operand that moves advances by so many elements, and in the innermost loop every
     * vector by one and every number by one; that loop runs so often. */
    int stride, taps;
    /* Of products of vectors: the window's height and width, where all its taps are written out
     * and the vectors are rows of the result that share what they read.  The call then gives the
     * first and the end of those rows of operand a that exist. */
    int window;
    bool rolled;              /* the sums leave no registers for what passes of the innermost loop share */
};

/* Whether b gives numbers that meet all lanes of a: tiles then share a's vectors. */
bool leaf_shares(const Leaf *leaf);          /* tile.c */

/* Loops that the host runs: outer ones, then those of the reduction, then the strip's rows
 * and its run. */
enum { STRIP = 512 };         /* elements of a strip, at most */
struct Strip {
    Loop *loop[MAX_AXES];     /* FOR, without a body; clipped ones by what stands outside */
    int loops, outer;
    int row, run;             /* axes; row -1: there is only one */
    bool across;              /* row and run are reduced, the strip is folded */
    Expr *term, *tag;         /* as the nest's; NULL: no reduction */
    Store store;
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
    /* SUMS: the array of accumulators along axis, `end` of them.  INIT, UPDATE, STORE */
    int acc;                  /* which accumulator of the tile */
    Expr **term, **tag;       /* UPDATE: all are reduced, in order */
    int terms;
    Store store;
    /* LEAF */
    Leaf *leaf;
    Strip *strip;             /* STRIP */
    Loop *clip[LEAF_LOOPS];   /* bounds of its clipped loops (FOR, without a body), or NULL */
    /* TRANSFORM: term[0], store and the bounds clip[0], clip[1] of p and q; the axes of the nest's
     * matrix are loops within the statement */
};

void schedule(Function *f);

/* Shapes of leaves that are worth timing: one vector or as many as fit, rows in as few tiles as
 * the registers allow or in one or two more. */
enum { CANDIDATES = 6 };
/* Whether leaves of this shape keep to the target's registers and to the family; tile.c. */
bool leaf_shape_fits(const Target *target, int tile, int vectors);
bool leaf_rolled(const Target *target, int tile, int vectors);

/* ----------------------------------------------------------------------- plan.c */

void plan(Function *f);       /* offsets of all workspace buffers; in-place reuse */
int64_t storage_bytes(const Storage *s);     /* of the workspace */

struct Function {
    Context *c;
    const Target *target;
    bool packs;               /* computes derived fields from the flat parameters */
    bool by_samples;          /* vectors lie along the batch (layout) */
    int laid_out;             /* kernels before it have layouts, behind are copies for the next (layout) */
    bool frozen;              /* parameters stay as pack has left them: they may lie as their reader likes */
    const LeafShapes *shapes;   /* as the options have them */
    int candidate;
    int share_least;          /* operations from which threads share a nest; 0: the schedule's choice */
    bool small;               /* loops stay rolled: little code rather than speed */
    const char *name;         /* "forward" */
    Graph *graph;
    Kernel **kernel; int kernels;
    Storage **storage; int storages;
    int64_t workspace;        /* bytes */
};

#endif
