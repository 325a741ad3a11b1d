/* Convolution by Winograd's algorithm: 3x3 filters, stride 1, in tiles of m x m outputs, each
 * from n x n inputs, n = m + 2 (nest/matrix.c has the matrices A, B and G):
 *
 *     u[p, q] = sum over a, b of G[p, a] G[q, b] w[a, b]          filter
 *     v[p, q] = sum over a, b of B[p, a] B[q, b] x[a, b]          input
 *     z[p, q] = sum over input channels of v[p, q] u[p, q]        product
 *     y[i, j] = sum over p, q of A[i, p] A[j, q] z[p, q]          output
 *
 * n*n multiplications for m*m outputs of 9 taps: 2.25, 4 and 5.06 times fewer for m = 2, 4, 6.
 * A tile's position (p, q) is the outermost dim, a matrix product each over channels and tiles:
 *
 *     u (n*n, O, C)    v (n*n, C, N, tile rows, tile columns)    z (n*n, O, N, tile rows, tile columns) */
#include "ops.h"

typedef struct WinogradAttrs {
    int tile;
    int begin[2];             /* zeros before x */
    int output[2];            /* spatial sizes of y */
} WinogradAttrs;

enum { TAPS = 3 };

/* Rows and columns of a tile's inputs, and of its positions. */
static int grid(const WinogradAttrs *a)
{
    return a->tile + TAPS - 1;
}

static int tiles(const WinogradAttrs *a, int d)
{
    return (a->output[d] + a->tile - 1) / a->tile;
}

/* -- shapes -- */

/* w (O, C, 3, 3) */
static void winograd_filter_infer(Graph *g, Node *n)
{
    (void)g;
    const Shape *w = &n->in[0]->shape;
    int positions = grid(n->attrs) * grid(n->attrs);
    n->shape = shape_of(3, (int[]){positions, w->dim[0], w->dim[1]});
}

/* x (N, C, H, W) */
static void winograd_input_infer(Graph *g, Node *n)
{
    (void)g;
    const WinogradAttrs *a = n->attrs;
    const Shape *x = &n->in[0]->shape;
    n->shape = shape_of(5, (int[]){grid(a) * grid(a), x->dim[1], x->dim[0], tiles(a, 0), tiles(a, 1)});
    n->batched = false;                          /* not in front */
}

/* v, u */
static void winograd_product_infer(Graph *g, Node *n)
{
    (void)g;
    n->shape = n->in[0]->shape;
    n->shape.dim[1] = n->in[1]->shape.dim[1];
}

/* z */
static void winograd_output_infer(Graph *g, Node *n)
{
    (void)g;
    const WinogradAttrs *a = n->attrs;
    const Shape *z = &n->in[0]->shape;
    n->shape = shape_of(4, (int[]){z->dim[2], z->dim[1], a->output[0], a->output[1]});
    n->batched = true;
}

/* -- evaluation -- */

/* to[i][j] = sum over p, q of m[i][p] m[j][q] from[p][q] */
typedef struct Grid { double at[MATRIX_MOST][MATRIX_MOST]; } Grid;

static Grid transformed(const Matrix *m, const Grid *from)
{
    Grid to = {0};
    for (int i = 0; i < m->rows; i++)
        for (int j = 0; j < m->rows; j++)
            for (int p = 0; p < m->columns; p++)
                for (int q = 0; q < m->columns; q++)
                    to.at[i][j] += m->entry[i][p] * m->entry[j][q] * from->at[p][q];
    return to;
}

static void winograd_filter_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                                 Tensor *out)
{
    (void)b;
    const WinogradAttrs *a = n->attrs;
    const Matrix *m = winograd_matrix(c, a->tile, WINOGRAD_FILTER);
    int filters = n->shape.dim[1] * n->shape.dim[2], size = grid(a);
    for (int f = 0; f < filters; f++) {
        Grid w = {0};
        for (int k = 0; k < TAPS * TAPS; k++)
            w.at[k / TAPS][k % TAPS] = in[0]->data[f * TAPS * TAPS + k];
        Grid u = transformed(m, &w);
        for (int k = 0; k < size * size; k++)
            out->data[k * filters + f] = u.at[k / size][k % size];
    }
}

/* Where tile number t of a channel is: its sample, its first output row and column. */
typedef struct Tile { int sample, row, column; } Tile;

static Tile tile_at(const WinogradAttrs *a, int t)
{
    int columns = tiles(a, 1), plane = tiles(a, 0) * columns;
    return (Tile){t / plane, t % plane / columns * a->tile, t % columns * a->tile};
}

static void winograd_input_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                                Tensor *out)
{
    (void)b;
    const WinogradAttrs *a = n->attrs;
    const Matrix *m = winograd_matrix(c, a->tile, WINOGRAD_INPUT);
    const Shape *x = &in[0]->shape;
    int channels = x->dim[1], height = x->dim[2], width = x->dim[3], size = grid(a);
    int per_channel = x->dim[0] * tiles(a, 0) * tiles(a, 1);
    for (int k = 0; k < channels * per_channel; k++) {
        Tile t = tile_at(a, k % per_channel);
        const double *plane = in[0]->data + (t.sample * channels + k / per_channel) * height * width;
        Grid g = {0};
        for (int p = 0; p < size * size; p++) {
            int row = t.row + p / size - a->begin[0], column = t.column + p % size - a->begin[1];
            if (row >= 0 && row < height && column >= 0 && column < width)
                g.at[p / size][p % size] = plane[row * width + column];
        }
        g = transformed(m, &g);
        for (int p = 0; p < size * size; p++)
            out->data[p * channels * per_channel + k] = g.at[p / size][p % size];
    }
}

static void winograd_product_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                                  Tensor *out)
{
    (void)c, (void)b;
    int positions = n->shape.dim[0], outs = n->shape.dim[1], ins = in[0]->shape.dim[1];
    int per_channel = shape_count(&n->shape) / (positions * outs);
    for (int p = 0; p < positions; p++)
        for (int o = 0; o < outs; o++)
            for (int t = 0; t < per_channel; t++) {
                double sum = 0;
                for (int i = 0; i < ins; i++)
                    sum += in[0]->data[(p * ins + i) * per_channel + t] * in[1]->data[(p * outs + o) * ins + i];
                out->data[(p * outs + o) * per_channel + t] = sum;
            }
}

static void winograd_output_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                                 Tensor *out)
{
    (void)b;
    const WinogradAttrs *a = n->attrs;
    const Matrix *m = winograd_matrix(c, a->tile, WINOGRAD_OUTPUT);
    int channels = n->shape.dim[1], height = n->shape.dim[2], width = n->shape.dim[3], size = grid(a);
    int per_channel = n->shape.dim[0] * tiles(a, 0) * tiles(a, 1);
    for (int k = 0; k < channels * per_channel; k++) {
        Tile t = tile_at(a, k % per_channel);
        double *plane = out->data + (t.sample * channels + k / per_channel) * height * width;
        Grid g = {0};
        for (int p = 0; p < size * size; p++)
            g.at[p / size][p % size] = in[0]->data[p * channels * per_channel + k];
        g = transformed(m, &g);
        for (int i = 0; i < a->tile && t.row + i < height; i++)
            for (int j = 0; j < a->tile && t.column + j < width; j++)
                plane[(t.row + i) * width + t.column + j] = g.at[i][j];
    }
}

/* -- lowering -- */

static const Matrix *matrix_of(Lower *l, const Node *n, WinogradSide side)
{
    const WinogradAttrs *a = n->attrs;
    return winograd_matrix(lower_context(l), a->tile, side);
}

/* Row i and column j of a tile's grid as one position. */
static Affine position(const Node *n, const Affine *at)
{
    return affine_sum(affine_times(at[0], grid(n->attrs)), at[1]);
}

static void winograd_filter_lower(Lower *l, Node *n)
{
    const Matrix *m = matrix_of(l, n, WINOGRAD_FILTER);
    Nest *nest = nest_open(l);
    Affine row[2], column[2];
    Affine out = nest_axis(nest, "oc", n->shape.dim[1], false);
    Affine in = nest_axis(nest, "ic", n->shape.dim[2], false);
    nest_matrix(nest, m, (int[]){m->rows, m->rows}, row, column);
    Expr *term = element(l, n->in[0], (Affine[]){out, in, column[0], column[1]});
    nest_close(l, n, nest, REDUCE_SUM, term, NULL, (Affine[]){position(n, row), out, in});
}

static void winograd_input_lower(Lower *l, Node *n)
{
    const WinogradAttrs *a = n->attrs;
    const Matrix *m = matrix_of(l, n, WINOGRAD_INPUT);
    Nest *nest = nest_open(l);
    Affine row[2], column[2], tile[2], cell[2];
    Affine channel = nest_axis(nest, "c", n->shape.dim[1], false);
    Affine sample = nest_axis(nest, "n", n->shape.dim[2], false);
    tile[0] = nest_axis(nest, "th", n->shape.dim[3], false);
    tile[1] = nest_axis(nest, "tw", n->shape.dim[4], false);
    nest_matrix(nest, m, (int[]){m->rows, m->rows}, row, column);
    for (int d = 0; d < 2; d++)
        cell[d] = affine_sum(affine_sum(affine_times(tile[d], a->tile), column[d]), affine_constant(-a->begin[d]));
    Expr *term = element_bordered(l, n->in[0], (Affine[]){sample, channel, cell[0], cell[1]});
    nest_close(l, n, nest, REDUCE_SUM, term, NULL,
               (Affine[]){position(n, row), channel, sample, tile[0], tile[1]});
}

static void winograd_product_lower(Lower *l, Node *n)
{
    Nest *nest = nest_open(l);
    Affine p = nest_axis(nest, "p", n->shape.dim[0], false);
    Affine out = nest_axis(nest, "oc", n->shape.dim[1], false);
    Affine sample = nest_axis(nest, "n", n->shape.dim[2], false);
    Affine th = nest_axis(nest, "th", n->shape.dim[3], false);
    Affine tw = nest_axis(nest, "tw", n->shape.dim[4], false);
    Affine in = nest_axis(nest, "ic", n->in[0]->shape.dim[1], true);
    Expr *v = element(l, n->in[0], (Affine[]){p, in, sample, th, tw});
    Expr *u = element(l, n->in[1], (Affine[]){p, out, in});
    Expr *term = expr_call(l, FN_MUL, v, u, NULL);
    nest_close(l, n, nest, REDUCE_SUM, term, NULL, (Affine[]){p, out, sample, th, tw});
}

/* Tiles of so many rows and columns of outputs: the whole ones, or the last, cut off ones. */
static void output_nest(Lower *l, Node *n, const int *first, const int *count, const int *size)
{
    const WinogradAttrs *a = n->attrs;
    Nest *nest = nest_open(l);
    Affine row[2], column[2], tile[2], cell[2];
    Affine channel = nest_axis(nest, "c", n->shape.dim[1], false);
    Affine sample = nest_axis(nest, "n", n->shape.dim[0], false);
    tile[0] = affine_sum(nest_axis(nest, "th", count[0], false), affine_constant(first[0]));
    tile[1] = affine_sum(nest_axis(nest, "tw", count[1], false), affine_constant(first[1]));
    nest_matrix(nest, matrix_of(l, n, WINOGRAD_OUTPUT), size, row, column);
    for (int d = 0; d < 2; d++)
        cell[d] = affine_sum(affine_times(tile[d], a->tile), row[d]);
    Expr *term = element(l, n->in[0], (Affine[]){position(n, column), channel, sample, tile[0], tile[1]});
    nest_close(l, n, nest, REDUCE_SUM, term, NULL, (Affine[]){sample, channel, cell[0], cell[1]});
}

static void winograd_output_lower(Lower *l, Node *n)
{
    const WinogradAttrs *a = n->attrs;
    for (int part = 0; part < 4; part++) {
        int first[2], count[2], size[2];
        for (int d = 0; d < 2; d++) {
            bool cut = part >> d & 1;
            int whole = a->output[d] / a->tile;
            first[d] = cut ? whole : 0;
            count[d] = cut ? a->output[d] % a->tile > 0 : whole;
            size[d] = cut ? a->output[d] % a->tile : a->tile;
        }
        if (count[0] && count[1])
            output_nest(l, n, first, count, size);
    }
}

/* -- for people -- */

static int64_t winograd_product_macs(const Node *n)
{
    return (int64_t)shape_count(&n->shape) * n->in[0]->shape.dim[1];
}

static const char *winograd_algorithm(Context *c, const Node *n)
{
    const WinogradAttrs *a = n->attrs;
    return format(c, "Winograd F(%dx%d, 3x3)", a->tile, a->tile);
}

static void winograd_print(const Node *n, Text *t)
{
    const WinogradAttrs *a = n->attrs;
    text_add(t, " tile %dx%d", a->tile, a->tile);
}

const Op op_winograd_filter = {
    .name = "winograd_filter", .doc = "3x3 filters as Winograd's algorithm multiplies them",
    .traits = OP_READS_ONCE,                     /* what scales the weights is done on the way */
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_filter_infer, .eval = winograd_filter_eval,
    .lower = winograd_filter_lower, .algorithm = winograd_algorithm, .print_attrs = winograd_print,
};

const Op op_winograd_input = {
    .name = "winograd_input", .doc = "tiles of an input as Winograd's algorithm multiplies them",
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_input_infer, .eval = winograd_input_eval,
    .lower = winograd_input_lower, .algorithm = winograd_algorithm, .print_attrs = winograd_print,
};

const Op op_winograd_product = {
    .name = "winograd_product", .doc = "for each position in a tile, inputs times filters over channels",
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_product_infer, .eval = winograd_product_eval,
    .lower = winograd_product_lower, .macs = winograd_product_macs, .algorithm = winograd_algorithm,
    .print_attrs = winograd_print,
};

const Op op_winograd_output = {
    .name = "winograd_output", .doc = "tiles of products back to outputs",
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_output_infer, .eval = winograd_output_eval,
    .lower = winograd_output_lower, .algorithm = winograd_algorithm, .print_attrs = winograd_print,
};

Node *winograd_conv(Graph *g, Node *x, Node *w, int tile, const int *begin, const int *end)
{
    WinogradAttrs a = {.tile = tile};
    for (int d = 0; d < 2; d++) {
        a.begin[d] = begin[d];
        a.output[d] = x->shape.dim[2 + d] + begin[d] + end[d] - TAPS + 1;
    }
    Node *u = node_new(g, &op_winograd_filter, 1, &w, &a);
    Node *v = node_new(g, &op_winograd_input, 1, &x, &a);
    Node *z = node_new(g, &op_winograd_product, 2, (Node *[]){v, u}, &a);
    return node_new(g, &op_winograd_output, 1, &z, &a);
}
