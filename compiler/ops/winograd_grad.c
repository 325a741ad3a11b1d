/* Gradients of 3x3 filters by Winograd's algorithm: the chain rule of its convolution (winograd.c),
 * which is linear in the filters, with dy the gradient for y:
 *
 *     v[p, q] = sum over a, b of B[p, a] B[q, b] x[a, b]                 input, as there
 *     e[p, q] = sum over i, j of A[i, p] A[j, q] dy[i, j]                error
 *     s[p, q] = sum over all tiles of v[p, q] e[p, q]                    product
 *     dw[a, b] = sum over p, q of G[p, a] G[q, b] s[p, q]                filter's gradient
 *
 * n*n multiplications for the 9*m*m of a tile, as many times fewer as in the convolution.
 *
 *     e (n*n, O, N, tile rows, tile columns)    s (n*n, O, C) */
#include "ops.h"

/* -- shapes -- */

/* dy (N, O, ...) */
static void winograd_error_infer(Graph *g, Node *n)
{
    (void)g;
    n->shape = winograd_shape(n->attrs, &n->in[0]->shape);
    n->batched = false;
}

/* e, v */
static void winograd_filter_product_infer(Graph *g, Node *n)
{
    (void)g;
    const Shape *e = &n->in[0]->shape, *v = &n->in[1]->shape;
    n->shape = shape_of(3, (int[]){e->dim[0], e->dim[1], v->dim[1]});
    n->batched = false;
}

/* s */
static void winograd_filter_grad_infer(Graph *g, Node *n)
{
    (void)g;
    const Shape *s = &n->in[0]->shape;
    n->shape = shape_of(4, (int[]){s->dim[1], s->dim[2], WINOGRAD_TAPS, WINOGRAD_TAPS});
    n->batched = false;
}

/* -- evaluation -- */

/* No zeros stand before dy: its tiles are those of y. */
static const int no_border[2];

static void winograd_error_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                                Tensor *out)
{
    (void)b;
    winograd_tiles_eval(c, n, WINOGRAD_ERROR, no_border, in, out);
}

static void winograd_filter_product_eval(Context *c, const Node *n, const Bindings *b,
                                         const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    int positions = n->shape.dim[0], outs = n->shape.dim[1], ins = n->shape.dim[2];
    int per_channel = shape_count(&in[0]->shape) / (positions * outs);
    for (int k = 0; k < positions * outs * ins; k++) {
        int p = k / (outs * ins), o = k / ins % outs, i = k % ins;
        const double *e = in[0]->data + (p * outs + o) * per_channel;
        const double *v = in[1]->data + (p * ins + i) * per_channel;
        double sum = 0;
        for (int t = 0; t < per_channel; t++)
            sum += e[t] * v[t];
        out->data[k] = sum;
    }
}

static void winograd_filter_grad_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                                      Tensor *out)
{
    (void)b;
    const WinogradAttrs *a = n->attrs;
    const Matrix *m = winograd_matrix(c, a->tile, WINOGRAD_FILTER_GRAD);
    int filters = n->shape.dim[0] * n->shape.dim[1], size = winograd_grid(a);
    for (int f = 0; f < filters; f++) {
        Grid s = {0};
        for (int p = 0; p < size * size; p++)
            s.at[p / size][p % size] = in[0]->data[p * filters + f];
        Grid w = winograd_transformed(m, &s);
        for (int k = 0; k < WINOGRAD_TAPS * WINOGRAD_TAPS; k++)
            out->data[f * WINOGRAD_TAPS * WINOGRAD_TAPS + k] = w.at[k / WINOGRAD_TAPS][k % WINOGRAD_TAPS];
    }
}

/* -- lowering: one kernel for all of it -- */

/* Parts add up. */
static bool is_part(const Node *e, const TilePart *part)
{
    int64_t count = 1, all = 1;
    for (int d = 0; d < TILE_DIMS; d++) {
        count *= part->count[d];
        all *= e->shape.dim[FIRST_DIM + d];
    }
    return count < all;
}

static void product_nest(Lower *l, Node *n, const TilePart *part)
{
    Nest *nest = nest_open(l);
    Affine tile[TILE_DIMS];
    Affine p = nest_axis(nest, "p", n->shape.dim[0], false);
    Affine out = nest_axis(nest, "oc", n->shape.dim[1], false);
    Affine in = nest_axis(nest, "ic", n->shape.dim[2], false);
    winograd_tile_axes(nest, n, part, true, tile);
    Expr *e = element(l, n->in[0], (Affine[]){p, out, tile[SAMPLES], tile[ROWS], tile[COLUMNS]});
    Expr *v = element(l, n->in[1], (Affine[]){p, in, tile[SAMPLES], tile[ROWS], tile[COLUMNS]});
    nest_close_part(l, n, nest, REDUCE_SUM, expr_call(l, FN_MUL, e, v, NULL), (Affine[]){p, out, in});
    nest->store.accumulate = is_part(n->in[0], part);
}

static void grad_nest(Lower *l, Node *n)
{
    const WinogradAttrs *a = n->attrs;
    const Matrix *m = winograd_matrix(lower_context(l), a->tile, WINOGRAD_FILTER_GRAD);
    Nest *nest = nest_open(l);
    Affine row[2], column[2];
    Affine out = nest_axis(nest, "oc", n->shape.dim[0], false);
    Affine in = nest_axis(nest, "ic", n->shape.dim[1], false);
    nest_matrix(nest, m, (int[]){m->rows, m->rows}, row, column);
    Expr *term = element(l, n->in[0], (Affine[]){winograd_position(n, column), out, in});
    nest_close(l, n, nest, REDUCE_SUM, term, NULL, (Affine[]){out, in, row[0], row[1]});
}

static void band_nests(Lower *l, Node *n, const TilePart *part)
{
    Node *product = n->in[0];
    winograd_input_nest(l, product->in[1], part);
    winograd_tiles_nest(l, product->in[0], part, WINOGRAD_ERROR, no_border);
    product_nest(l, product, part);
}

static void winograd_filter_grad_lower(Lower *l, Node *n)
{
    const Node *e = n->in[0]->in[0];
    winograd_in_bands(l, n, e->shape.dim[FIRST_DIM + SAMPLES], band_nests);
    grad_nest(l, n);
}

static int all_at_a_time(const Node *n, int *dim)
{
    (void)n;
    *dim = 0;
    return 0;
}

/* -- for people -- */

static int64_t winograd_filter_grad_macs(const Node *n)
{
    const Node *s = n->in[0], *e = s->in[0];
    return (int64_t)shape_count(&e->shape) * s->shape.dim[2];
}

const Op op_winograd_error = {
    .name = "winograd_error", .doc = "tiles of an error as Winograd's algorithm multiplies them",
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_error_infer, .eval = winograd_error_eval,
    .band = winograd_band, .print_attrs = winograd_print,
};

const Op op_winograd_filter_product = {
    .name = "winograd_filter_product",
    .doc = "for each position in a tile, errors times inputs over all tiles",
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_filter_product_infer,
    .eval = winograd_filter_product_eval, .band = all_at_a_time, .print_attrs = winograd_print,
};

const Op op_winograd_filter_grad = {
    .name = "winograd_filter_grad", .doc = "gradients of filters from the sums of Winograd's products",
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_filter_grad_infer,
    .eval = winograd_filter_grad_eval,
    .lower = winograd_filter_grad_lower, .macs = winograd_filter_grad_macs,
    .algorithm = winograd_algorithm,
    .print_attrs = winograd_print,
};

Node *winograd_weight_grad(Graph *g, Node *dy, Node *x, int tile, const int *begin)
{
    WinogradAttrs a = winograd_attrs(tile, begin, &x->shape, &dy->shape);
    Node *e = node_new(g, &op_winograd_error, 1, &dy, &a);
    Node *v = node_new(g, &op_winograd_input, 1, &x, &a);
    Node *s = node_new(g, &op_winograd_filter_product, 2, (Node *[]){e, v}, &a);
    return node_new(g, &op_winograd_filter_grad, 1, &s, &a);
}
