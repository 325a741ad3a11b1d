/* Builders that the op families share: each makes one node (or a short chain) in
 * the graph's primitive ops.  Shapes are given with the batch. */
#ifndef OPS_H
#define OPS_H

#include "../cnnc.h"

/* The rows, by family.  Those with a method are listed once more in ops.c: the table. */
extern const Op op_conv, op_conv_input_grad, op_conv_weight_grad;                  /* conv.c */
extern const Op op_winograd_filter, op_winograd_input, op_winograd_product,
    op_winograd_conv,                                                              /* winograd.c */
    op_winograd_error, op_winograd_filter_product, op_winograd_filter_grad;        /* winograd_grad.c */
extern const Op op_maxpool, op_maxpool_index, op_maxpool_grad, op_sumpool,
    op_sumpool_grad, op_pool_scale, op_avgpool, op_global_avgpool;                 /* pool.c, pool_scale.c */
extern const Op op_linear, op_matmul;                                              /* dense.c */
extern const Op op_add, op_sub, op_mul, op_div, op_neg, op_exp, op_log, op_sqrt,
    op_sigmoid, op_tanh, op_copy;                                                  /* pointwise.c */
extern const Op op_relu, op_relu6, op_clip, op_leaky_relu, op_gate;                /* clamp.c */
extern const Op op_reduce_sum, op_reduce_max, op_softmax, op_log_softmax;          /* reduce.c */
extern const Op op_batchnorm, op_held, op_centred, op_normalize, op_dropout,
    op_drop;                                                                       /* norm.c */
extern const Op op_flatten, op_reshape, op_broadcast, op_slice, op_concat, op_reverse;    /* move.c */
extern const Op op_cross_entropy, op_mse, op_one_hot;                              /* loss.c */

/* ops.c: what every family needs */

/* Fails with "conv2d: " before the text. */
_Noreturn void refuse(const Call *call, const char *text, ...) __attribute__((format(printf, 2, 3)));
/* The axis that a network file counts from 1 = channels, as a dim of x; refuses others. */
int axis_of(const Call *call, const Arg *axis, const Node *x);
/* "<layer>.weight" and "<layer>.bias" {count}: PyTorch's U(-1/sqrt(fan_in), 1/sqrt(fan_in)),
 * or the table given, whose shape must be this one. */
Node *weight_param(Call *call, const Arg *literal, Shape shape, int fan_in, bool trainable);
Node *bias_param(Call *call, const Arg *literal, int count, int fan_in, bool trainable);
/* The next index in C order; false behind the last one.  Position of an index in C order. */
bool index_next(const Shape *s, int *index);
int index_flat(const Shape *s, const int *index);
/* True when n is computed from parameters and constants alone. */
bool params_only(const Node *n);

/* pointwise.c: equal shapes */
void same_shape(Graph *g, Node *n);              /* op->infer of every pointwise op */
/* Defines name_eval, which evaluates a pointwise op: the formula of an element in
 * terms of the operands' elements a and b (and of n). */
#define POINTWISE_EVAL(name, formula)                                                             \
    static void name##_eval(Context *c, const Node *n, const Bindings *bindings,                  \
                            const Tensor *const *in, Tensor *out)                                 \
    {                                                                                             \
        (void)c, (void)bindings;                                                                  \
        for (int i = 0, count = shape_count(&out->shape); i < count; i++) {                       \
            double a = in[0]->data[i], b = n->ins > 1 ? in[1]->data[i] : 0;                       \
            (void)a, (void)b;                                                                     \
            out->data[i] = (formula);                                                             \
        }                                                                                         \
    }

Node *add(Graph *g, Node *a, Node *b);
Node *sub(Graph *g, Node *a, Node *b);
Node *mul(Graph *g, Node *a, Node *b);
Node *divide(Graph *g, Node *a, Node *b);
Node *mul_scalar(Graph *g, Node *a, double factor);
Node *add_scalar(Graph *g, Node *a, double term);
Node *negate(Graph *g, Node *a);
Node *exponential(Graph *g, Node *a);
Node *logarithm(Graph *g, Node *a);
Node *square_root(Graph *g, Node *a);

/* reduce.c: reductions over the axes in the bit mask `axes` (bit 0 = dim 0); the
 * reduced axes are dropped from the shape */
Node *reduce_sum(Graph *g, Node *x, unsigned axes);
Node *reduce_max(Graph *g, Node *x, unsigned axes);
Node *softmax(Graph *g, Node *x, int axis);
/* x - log(sum(exp(x))) along the axis in primitives, safe for any x */
Node *log_softmax_primitives(Graph *g, Node *x, int axis);

/* move.c */
Node *reshape(Graph *g, Node *x, Shape shape, bool batched);
/* out dim d runs along x's dim map[d], or repeats where map[d] is -1 or that dim is 1 */
Node *broadcast(Graph *g, Node *x, Shape shape, bool batched, const int *map);
/* x {C} along axis 1 of `like`; the undo of reducing `axes` of `like` */
Node *along_channels(Graph *g, Node *x, const Node *like);
Node *unreduce(Graph *g, Node *x, const Node *like, unsigned axes);
Node *reverse(Graph *g, Node *x, unsigned axes);
Node *constant_like(Graph *g, double value, const Node *like);
Node *exchanged(Graph *g, Node *x);          /* the first two dims */
/* w with everything at index k of dim d multiplied by factor[k] */
Node *scaled_along(Graph *g, Node *w, int d, Node *factor);
/* the vector {C} of parameters alone that n repeats along its channels, or NULL */
Node *channel_vector(Node *n);

/* dense.c: a (M, K) times b (K, N), either transposed first */
Node *matmul(Graph *g, Node *a, Node *b, bool transpose_a, bool transpose_b);

/* winograd.c: x (N, C, H, W) with w (O, C, 3, 3), stride 1, zeros before and after, by F(tile) */
Node *winograd_conv(Graph *g, Node *x, Node *w, int tile, const int *begin, const int *end);
/* winograd_grad.c: the gradient for w from dy (N, O, ...) and x, before which are so many zeros */
Node *winograd_weight_grad(Graph *g, Node *dy, Node *x, int tile, const int *begin);

/* pool_scale.c: sums of windows over an input of these spatial sizes -> their means */
Node *window_mean(Graph *g, Node *sum, const Window *w, const int *input, bool count_pad);

/* sliding.c: what convolutions and pools share.  Arrays run over the spatial dims. */

/* A kernel, stride or padding of more would only be a mistake. */
enum { MAX_EXTENT = 1 << 20 };

/* The window that the options describe; stride NULL: as the kernel, dilation NULL:
 * 1.  Refuses inputs that have not as many spatial dims as the kernel. */
Window window_of(const Call *call, const Arg *kernel, const Arg *stride, const Arg *pad, const Arg *dilation);
/* Replaces dims 2... of *s, the input's shape, by the output's; fails if the window does not fit. */
void window_slide(const Graph *g, const Node *n, const Window *w, Shape *s);
int window_cells(const Window *w);                   /* of the kernel */
void window_print(const Window *w, Text *t);         /* " kernel 3x3 stride 2x2 ..." */

/* The definition, for evaluation: every tap of every window that lies on a cell of
 * the input, as positions inside one channel; the taps of a window are in C order. */
typedef struct Meeting { int window, tap, cell; } Meeting;
Meeting *window_meetings(Context *c, const Window *w, const int *input, const int *output, int *count);

/* For lowering: where a nest is, cell = stride * window + dilation * tap - begin. */
typedef struct Sweep { Affine window[MAX_SPATIAL], tap[MAX_SPATIAL], cell[MAX_SPATIAL]; } Sweep;
void sweep_windows(Nest *nest, const Window *w, const int *output, bool reduce, Sweep *s);
void sweep_taps(Nest *nest, const Window *w, bool reduce, Sweep *s);
void sweep_cells(Lower *l, const Window *w, Sweep *s);      /* sets cell from window and tap */

/* The same relation, solved for the windows that see a given cell: cells that are
 * seen by the same pattern of taps make one nest. */
typedef struct Reach { int first, run, stride, cells, tap, step, taps, shift, back; } Reach;
typedef struct Gather { int spatial; Reach axis[MAX_SPATIAL]; bool seen; } Gather;
Gather *window_gathers(Context *c, const Window *w, const int *input, int *count);
void gather_cells(Nest *nest, const Gather *gather, Sweep *s);    /* parallel axes; sets cell */
void gather_taps(Nest *nest, const Gather *gather, Sweep *s);     /* reduce axes; sets window and tap */

/* winograd.c: what Winograd's convolution and its gradient for filters (winograd_grad.c) share. */

enum { WINOGRAD_TAPS = 3 };

typedef struct WinogradAttrs {
    int tile;
    int begin[2];             /* zeros before x */
    int output[2];            /* spatial sizes of y */
    int band, band_dim;       /* of v and z so many samples (2) or rows of tiles (3) exist at a time */
} WinogradAttrs;

/* For x (N, C, H, W) and y (N, O, ...).  What is computed at a time stays in the second cache, but
 * filters stream by once a band: they must not become most of the traffic, nor products have too
 * few tiles. */
WinogradAttrs winograd_attrs(int tile, const int *begin, const Shape *x, const Shape *y);
int winograd_grid(const WinogradAttrs *a);           /* rows and columns of a tile's inputs, and positions */
int winograd_tiles(const WinogradAttrs *a, int d);   /* rows (0) or columns of tiles of a sample */
Shape winograd_shape(const WinogradAttrs *a, const Shape *x);        /* of the tiles of x, or of dy */
int winograd_band(const Node *n, int *dim);
const char *winograd_algorithm(Context *c, const Node *n);
void winograd_print(const Node *n, Text *t);

/* -- evaluation -- */

typedef struct Grid { double at[MATRIX_MOST][MATRIX_MOST]; } Grid;
/* to[i][j] = sum over p, q of m[i][p] m[j][q] from[p][q] */
Grid winograd_transformed(const Matrix *m, const Grid *from);

/* Where tile number t of a channel is: its sample, its first output row and column. */
typedef struct Tile { int sample, row, column; } Tile;
Tile winograd_tile(const WinogradAttrs *a, int t);
/* The tiles of in[0], before which are `begin` zeros, by one side's matrix. */
void winograd_tiles_eval(Context *c, const Node *n, WinogradSide side, const int *begin,
                         const Tensor *const *in, Tensor *out);

/* -- lowering -- */

/* Tiles that nests work on, as samples, rows and columns: so many of each from the first; along
 * the band's dim that is the first of `bands` bands. */
enum { SAMPLES, ROWS, COLUMNS, TILE_DIMS, FIRST_DIM = 2 };
typedef struct TilePart { int bands, first[TILE_DIMS], count[TILE_DIMS]; } TilePart;

/* Bands of whole tiles, then what is left. */
void winograd_in_bands(Lower *l, Node *n, int samples, void nests(Lower *l, Node *n, const TilePart *part));
/* Axes of the part's samples, rows and columns of tiles, which are summed over or not. */
void winograd_tile_axes(Nest *nest, const Node *n, const TilePart *part, bool reduce, Affine *tile);
/* Row and column `at` of the tiles as those of the tensor. */
void winograd_cells(const Node *n, const Affine *tile, const Affine *at, Affine *cell);
/* Row at[0] and column at[1] of a tile's grid as one position. */
Affine winograd_position(const Node *n, const Affine *at);
/* Stores node n, the part's tiles of its operand as winograd_tiles_eval has them. */
void winograd_tiles_nest(Lower *l, Node *n, const TilePart *part, WinogradSide side, const int *begin);
/* The same of v. */
void winograd_input_nest(Lower *l, Node *n, const TilePart *part);

#endif
