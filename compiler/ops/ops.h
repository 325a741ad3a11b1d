/* Builders that the op families share: each makes one node (or a short chain) in
 * the graph's primitive ops.  Shapes are given with the batch. */
#ifndef OPS_H
#define OPS_H

#include "../cnnc.h"

/* The families; ops.c joins them into the table. */
extern const Op op_conv, op_conv_input_grad, op_conv_weight_grad;                  /* conv.c */
extern const Op op_maxpool, op_maxpool_index, op_maxpool_grad, op_sumpool,
    op_sumpool_grad, op_pool_scale, op_avgpool, op_global_avgpool;                 /* pool.c */
extern const Op op_linear, op_matmul;                                              /* dense.c */
extern const Op *const pointwise_ops[], *const norm_ops[], *const move_ops[], *const loss_ops[];

/* ops.c: what every family needs */

/* Fails with "conv2d: " before the text. */
_Noreturn void refuse(const Call *call, const char *text, ...) __attribute__((format(printf, 2, 3)));
/* The axis that a network file counts from 1 = channels, as a dim of x; refuses others. */
int axis_of(const Call *call, const Arg *axis, const Node *x);
/* "<layer>.weight" and "<layer>.bias" {count}: PyTorch's U(-1/sqrt(fan_in), 1/sqrt(fan_in)),
 * or the table given, whose shape must be this one. */
Node *weight_param(Call *call, const Arg *literal, Shape shape, int fan_in, bool trainable);
Node *bias_param(Call *call, const Arg *literal, int count, int fan_in, bool trainable);
/* What loops over dim d of n are called: n, c, d, h, w; i, j, k... without a batch. */
const char *axis_name(const Node *n, int d);
/* Opens a loop axis for every dim of n: the nest of an output that needs no reduction, or its outer half. */
void nest_axes(Nest *nest, const Node *n, Affine *index);
/* The next index in C order; false behind the last one.  Position of an index in C order. */
bool index_next(const Shape *s, int *index);
int index_flat(const Shape *s, const int *index);
/* True when n is computed from parameters and constants alone. */
bool params_only(const Node *n);

/* pointwise.c: equal shapes */
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

/* norm.c: reductions over the axes in the bit mask `axes` (bit 0 = dim 0); the
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
/* w with everything at index k of dim d multiplied by factor[k] */
Node *scaled_along(Graph *g, Node *w, int d, Node *factor);
/* the vector {C} of parameters alone that n repeats along its channels, or NULL */
Node *channel_vector(Node *n);

/* dense.c: a (M, K) times b (K, N), either transposed first */
Node *matmul(Graph *g, Node *a, Node *b, bool transpose_a, bool transpose_b);

#endif
