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

/* pointwise.c: equal shapes; b may also be a scalar constant where said */
Node *add(Graph *g, Node *a, Node *b);
Node *sub(Graph *g, Node *a, Node *b);
Node *mul(Graph *g, Node *a, Node *b);
Node *divide(Graph *g, Node *a, Node *b);
Node *mul_scalar(Graph *g, Node *a, double factor);
Node *add_scalar(Graph *g, Node *a, double term);
Node *negate(Graph *g, Node *a);
Node *exponential(Graph *g, Node *a);
Node *logarithm(Graph *g, Node *a);
Node *rsqrt(Graph *g, Node *a);

/* norm.c: reductions over the axes in the bit mask `axes` (bit 0 = dim 0); the
 * reduced axes are dropped from the shape */
Node *reduce_sum(Graph *g, Node *x, unsigned axes);
Node *reduce_max(Graph *g, Node *x, unsigned axes);

/* move.c */
Node *reshape(Graph *g, Node *x, Shape shape, bool batched);
/* out dim d runs along x's dim map[d], or repeats where map[d] is -1 or that dim is 1 */
Node *broadcast(Graph *g, Node *x, Shape shape, bool batched, const int *map);
/* x {C} along axis 1 of `like`; the undo of reducing `axes` of `like` */
Node *along_channels(Graph *g, Node *x, const Node *like);
Node *unreduce(Graph *g, Node *x, const Node *like, unsigned axes);
Node *reverse(Graph *g, Node *x, unsigned axes);

/* dense.c: a (M, K) times b (K, N), either transposed first */
Node *matmul(Graph *g, Node *a, Node *b, bool transpose_a, bool transpose_b);

#endif
