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

int winograd_grid(const WinogradAttrs *a)
{
    return a->tile + WINOGRAD_TAPS - 1;
}

int winograd_tiles(const WinogradAttrs *a, int d)
{
    return (a->output[d] + a->tile - 1) / a->tile;
}

/* -- shapes -- */

Shape winograd_shape(const WinogradAttrs *a, const Shape *x)
{
    int positions = winograd_grid(a) * winograd_grid(a);
    return shape_of(5, (int[]){positions, x->dim[1], x->dim[0], winograd_tiles(a, 0), winograd_tiles(a, 1)});
}

/* w (O, C, 3, 3) */
static void winograd_filter_infer(Graph *g, Node *n)
{
    (void)g;
    const Shape *w = &n->in[0]->shape;
    int positions = winograd_grid(n->attrs) * winograd_grid(n->attrs);
    n->shape = shape_of(3, (int[]){positions, w->dim[0], w->dim[1]});
}

/* x (N, C, H, W) */
static void winograd_input_infer(Graph *g, Node *n)
{
    (void)g;
    const WinogradAttrs *a = n->attrs;
    const Shape *x = &n->in[0]->shape;
    n->shape = winograd_shape(a, x);
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
static void winograd_conv_infer(Graph *g, Node *n)
{
    (void)g;
    const WinogradAttrs *a = n->attrs;
    const Shape *z = &n->in[0]->shape;
    n->shape = shape_of(4, (int[]){z->dim[2], z->dim[1], a->output[0], a->output[1]});
    n->batched = true;
}

/* -- evaluation -- */

/* to[i][j] = sum over p, q of m[i][p] m[j][q] from[p][q] */
Grid winograd_transformed(const Matrix *m, const Grid *from)
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
    int filters = n->shape.dim[1] * n->shape.dim[2], size = winograd_grid(a);
    for (int f = 0; f < filters; f++) {
        Grid w = {0};
        for (int k = 0; k < WINOGRAD_TAPS * WINOGRAD_TAPS; k++)
            w.at[k / WINOGRAD_TAPS][k % WINOGRAD_TAPS] = in[0]->data[f * WINOGRAD_TAPS * WINOGRAD_TAPS + k];
        Grid u = winograd_transformed(m, &w);
        for (int k = 0; k < size * size; k++)
            out->data[k * filters + f] = u.at[k / size][k % size];
    }
}

Tile winograd_tile(const WinogradAttrs *a, int t)
{
    int columns = winograd_tiles(a, 1), plane = winograd_tiles(a, 0) * columns;
    return (Tile){t / plane, t % plane / columns * a->tile, t % columns * a->tile};
}

void winograd_tiles_eval(Context *c, const Node *n, WinogradSide side, const int *begin,
                         const Tensor *const *in, Tensor *out)
{
    const WinogradAttrs *a = n->attrs;
    const Matrix *m = winograd_matrix(c, a->tile, side);
    const Shape *x = &in[0]->shape;
    int channels = x->dim[1], height = x->dim[2], width = x->dim[3], size = winograd_grid(a);
    int per_channel = x->dim[0] * winograd_tiles(a, 0) * winograd_tiles(a, 1);
    for (int k = 0; k < channels * per_channel; k++) {
        Tile t = winograd_tile(a, k % per_channel);
        const double *plane = in[0]->data + (t.sample * channels + k / per_channel) * height * width;
        Grid g = {0};
        for (int p = 0; p < m->columns * m->columns; p++) {
            int i = p / m->columns, j = p % m->columns;
            int row = t.row + i - begin[0], column = t.column + j - begin[1];
            if (row >= 0 && row < height && column >= 0 && column < width)
                g.at[i][j] = plane[row * width + column];
        }
        g = winograd_transformed(m, &g);
        for (int p = 0; p < size * size; p++)
            out->data[p * channels * per_channel + k] = g.at[p / size][p % size];
    }
}

static void winograd_input_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                                Tensor *out)
{
    const WinogradAttrs *a = n->attrs;
    (void)b;
    winograd_tiles_eval(c, n, WINOGRAD_INPUT, a->begin, in, out);
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
                const double *v = in[0]->data + p * ins * per_channel + t;
                const double *u = in[1]->data + (p * outs + o) * ins;
                double sum = 0;
                for (int i = 0; i < ins; i++)
                    sum += v[i * per_channel] * u[i];
                out->data[(p * outs + o) * per_channel + t] = sum;
            }
}

static void winograd_conv_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                                 Tensor *out)
{
    (void)b;
    const WinogradAttrs *a = n->attrs;
    const Matrix *m = winograd_matrix(c, a->tile, WINOGRAD_OUTPUT);
    int channels = n->shape.dim[1], height = n->shape.dim[2], width = n->shape.dim[3];
    int size = winograd_grid(a);
    int per_channel = n->shape.dim[0] * winograd_tiles(a, 0) * winograd_tiles(a, 1);
    for (int k = 0; k < channels * per_channel; k++) {
        Tile t = winograd_tile(a, k % per_channel);
        double *plane = out->data + (t.sample * channels + k / per_channel) * height * width;
        Grid g = {0};
        for (int p = 0; p < size * size; p++)
            g.at[p / size][p % size] = in[0]->data[p * channels * per_channel + k];
        g = winograd_transformed(m, &g);
        for (int i = 0; i < a->tile && t.row + i < height; i++)
            for (int j = 0; j < a->tile && t.column + j < width; j++)
                plane[(t.row + i) * width + t.column + j] = g.at[i][j];
    }
}

/* -- lowering: one kernel for input, product and output -- */

int winograd_band(const Node *n, int *dim)
{
    const WinogradAttrs *a = n->attrs;
    *dim = a->band_dim;
    return a->band;
}

Affine winograd_position(const Node *n, const Affine *at)
{
    return affine_sum(affine_times(at[0], winograd_grid(n->attrs)), at[1]);
}

static void winograd_filter_lower(Lower *l, Node *n)
{
    const WinogradAttrs *a = n->attrs;
    const Matrix *m = winograd_matrix(lower_context(l), a->tile, WINOGRAD_FILTER);
    Nest *nest = nest_open(l);
    Affine row[2], column[2];
    Affine out = nest_axis(nest, "oc", n->shape.dim[1], false);
    Affine in = nest_axis(nest, "ic", n->shape.dim[2], false);
    nest_matrix(nest, m, (int[]){m->rows, m->rows}, row, column);
    Expr *term = element(l, n->in[0], (Affine[]){out, in, column[0], column[1]});
    nest_close(l, n, nest, REDUCE_SUM, term, NULL, (Affine[]){winograd_position(n, row), out, in});
}

void winograd_tile_axes(Nest *nest, const Node *n, const TilePart *part, bool reduce, Affine *tile)
{
    static const char *const names[] = {"n", "th", "tw"};
    const WinogradAttrs *a = n->attrs;
    for (int d = 0; d < TILE_DIMS; d++) {
        tile[d] = nest_axis(nest, names[d], part->count[d], reduce);
        tile[d].constant = part->first[d];
    }
    Affine *banded = &tile[a->band_dim - FIRST_DIM];
    if (part->bands > 1)
        *banded = affine_sum(*banded, affine_times(nest_band(nest, part->bands), a->band));
}

void winograd_cells(const Node *n, const Affine *tile, const Affine *at, Affine *cell)
{
    const WinogradAttrs *a = n->attrs;
    for (int d = 0; d < 2; d++)
        cell[d] = affine_sum(affine_times(tile[ROWS + d], a->tile), at[d]);
}

void winograd_tiles_nest(Lower *l, Node *n, const TilePart *part, WinogradSide side, const int *begin)
{
    const WinogradAttrs *a = n->attrs;
    const Matrix *m = winograd_matrix(lower_context(l), a->tile, side);
    Nest *nest = nest_open(l);
    Affine row[2], column[2], tile[TILE_DIMS], cell[2];
    Affine channel = nest_axis(nest, "c", n->shape.dim[1], false);
    winograd_tile_axes(nest, n, part, false, tile);
    nest_matrix(nest, m, (int[]){m->rows, m->rows}, row, column);
    winograd_cells(n, tile, column, cell);
    for (int d = 0; d < 2; d++)
        cell[d].constant -= begin[d];
    Expr *term = element_bordered(l, n->in[0], (Affine[]){tile[SAMPLES], channel, cell[0], cell[1]});
    nest_close_part(l, n, nest, REDUCE_SUM, term,
                    (Affine[]){winograd_position(n, row), channel, tile[SAMPLES], tile[ROWS], tile[COLUMNS]});
}

void winograd_input_nest(Lower *l, Node *n, const TilePart *part)
{
    const WinogradAttrs *a = n->attrs;
    winograd_tiles_nest(l, n, part, WINOGRAD_INPUT, a->begin);
}

static void product_nest(Lower *l, Node *n, const TilePart *part)
{
    Nest *nest = nest_open(l);
    Affine tile[TILE_DIMS];
    Affine p = nest_axis(nest, "p", n->shape.dim[0], false);
    Affine out = nest_axis(nest, "oc", n->shape.dim[1], false);
    winograd_tile_axes(nest, n, part, false, tile);
    Affine in = nest_axis(nest, "ic", n->in[0]->shape.dim[1], true);
    Expr *v = element(l, n->in[0], (Affine[]){p, in, tile[SAMPLES], tile[ROWS], tile[COLUMNS]});
    Expr *u = element(l, n->in[1], (Affine[]){p, out, in});
    nest_close_part(l, n, nest, REDUCE_SUM, expr_call(l, FN_MUL, v, u, NULL),
                    (Affine[]){p, out, tile[SAMPLES], tile[ROWS], tile[COLUMNS]});
}

/* Tiles of which size[0] rows and size[1] columns of outputs exist. */
static void output_nest(Lower *l, Node *n, const TilePart *part, const int *size)
{
    const WinogradAttrs *a = n->attrs;
    Nest *nest = nest_open(l);
    Affine row[2], column[2], tile[TILE_DIMS], cell[2];
    Affine channel = nest_axis(nest, "c", n->shape.dim[1], false);
    winograd_tile_axes(nest, n, part, false, tile);
    nest_matrix(nest, winograd_matrix(lower_context(l), a->tile, WINOGRAD_OUTPUT), size, row, column);
    winograd_cells(n, tile, row, cell);
    Expr *term = element(l, n->in[0], (Affine[]){winograd_position(n, column), channel, tile[SAMPLES],
                                                 tile[ROWS], tile[COLUMNS]});
    nest_close(l, n, nest, REDUCE_SUM, term, NULL, (Affine[]){tile[SAMPLES], channel, cell[0], cell[1]});
}

/* Whole tiles, and those that the last row and the last column cut off. */
static void output_nests(Lower *l, Node *n, const TilePart *part)
{
    const WinogradAttrs *a = n->attrs;
    for (int k = 0; k < 4; k++) {
        TilePart piece = *part;
        int size[2];
        for (int d = 0; d < 2; d++) {
            int t = ROWS + d, whole = a->output[d] / a->tile - part->first[t], cut = k >> d & 1;
            whole = whole < part->count[t] ? whole : part->count[t];
            piece.first[t] += cut ? whole : 0;
            piece.count[t] = cut ? part->count[t] - whole : whole;
            size[d] = cut ? a->output[d] % a->tile : a->tile;
        }
        if (piece.count[ROWS] && piece.count[COLUMNS])
            output_nest(l, n, &piece, size);
    }
}

static void band_nests(Lower *l, Node *n, const TilePart *part)
{
    winograd_input_nest(l, n->in[0]->in[0], part);
    product_nest(l, n->in[0], part);
    output_nests(l, n, part);
}

void winograd_in_bands(Lower *l, Node *n, int samples, void nests(Lower *l, Node *n, const TilePart *part))
{
    const WinogradAttrs *a = n->attrs;
    int d = a->band_dim - FIRST_DIM;
    int bands = (d == SAMPLES ? samples : a->output[0] / a->tile) / a->band;
    TilePart part = {.bands = bands, .count = {samples, winograd_tiles(a, 0), winograd_tiles(a, 1)}};
    TilePart rest = part;
    part.count[d] = a->band;
    rest.bands = 1;
    rest.first[d] = bands * a->band;
    rest.count[d] -= rest.first[d];
    if (bands)
        nests(l, n, &part);
    if (rest.count[d])
        nests(l, n, &rest);
}

static void winograd_conv_lower(Lower *l, Node *n)
{
    winograd_in_bands(l, n, n->shape.dim[0], band_nests);
}

/* -- for people -- */

static int64_t winograd_conv_macs(const Node *n)
{
    const Node *z = n->in[0];
    return (int64_t)shape_count(&z->shape) * z->in[0]->shape.dim[1];
}

const char *winograd_algorithm(Context *c, const Node *n)
{
    const WinogradAttrs *a = n->attrs;
    return format(c, "Winograd F(%dx%d, 3x3)", a->tile, a->tile);
}

void winograd_print(const Node *n, Text *t)
{
    const WinogradAttrs *a = n->attrs;
    text_add(t, " tile %dx%d", a->tile, a->tile);
}

const Op op_winograd_filter = {
    .name = "winograd_filter", .doc = "3x3 filters as Winograd's algorithm multiplies them",
    .traits = OP_READS_ONCE,                     /* what scales the weights is done on the way */
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_filter_infer, .eval = winograd_filter_eval,
    .lower = winograd_filter_lower, .print_attrs = winograd_print,
};

const Op op_winograd_input = {
    .name = "winograd_input", .doc = "tiles of an input as Winograd's algorithm multiplies them",
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_input_infer, .eval = winograd_input_eval,
    .band = winograd_band, .print_attrs = winograd_print,
};

const Op op_winograd_product = {
    .name = "winograd_product", .doc = "for each position in a tile, inputs times filters over channels",
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_product_infer, .eval = winograd_product_eval,
    .band = winograd_band, .print_attrs = winograd_print,
};

const Op op_winograd_conv = {
    .name = "winograd_conv", .doc = "outputs from the tiles of Winograd's products",
    .attrs_size = sizeof(WinogradAttrs), .infer = winograd_conv_infer, .eval = winograd_conv_eval,
    .lower = winograd_conv_lower, .macs = winograd_conv_macs, .algorithm = winograd_algorithm,
    .print_attrs = winograd_print,
};

/* The band: samples or rows of tiles of all samples, whichever has fewer tiles. */
WinogradAttrs winograd_attrs(int tile, const int *begin, const Shape *x, const Shape *y)
{
    enum { BAND_BYTES = 1 << 19, BAND_TILES = 28 };
    WinogradAttrs a = {.tile = tile};
    for (int d = 0; d < 2; d++) {
        a.begin[d] = begin[d];
        a.output[d] = y->dim[2 + d];
    }
    int64_t positions = winograd_grid(&a) * winograd_grid(&a), channels = x->dim[1] + y->dim[1];
    int64_t tile_bytes = 4 * positions * channels, samples = x->dim[0];
    int64_t filters = 4 * positions * x->dim[1] * y->dim[1];
    int64_t bytes = filters / 2 > BAND_BYTES ? filters / 2 : BAND_BYTES;
    int64_t wanted = bytes / tile_bytes > BAND_TILES ? bytes / tile_bytes : BAND_TILES;
    bool by_samples = winograd_tiles(&a, 0) < samples;
    int64_t all = by_samples ? samples : winograd_tiles(&a, 0);
    int64_t each = (by_samples ? winograd_tiles(&a, 0) : samples) * winograd_tiles(&a, 1);
    int64_t most = (wanted + each / 2) / each, bands;
    if (most < 1)
        most = 1;
    bands = (all + most - 1) / most;             /* of equal size, as far as that goes */
    a.band = (int)((all + bands - 1) / bands);
    a.band_dim = FIRST_DIM + (by_samples ? SAMPLES : ROWS);
    return a;
}

Node *winograd_conv(Graph *g, Node *x, Node *w, int tile, const int *begin, const int *end)
{
    Shape y = x->shape;
    y.dim[1] = w->shape.dim[0];
    for (int d = 0; d < 2; d++)
        y.dim[2 + d] += begin[d] + end[d] - WINOGRAD_TAPS + 1;
    WinogradAttrs a = winograd_attrs(tile, begin, &x->shape, &y);
    Node *u = node_new(g, &op_winograd_filter, 1, &w, &a);
    Node *v = node_new(g, &op_winograd_input, 1, &x, &a);
    Node *z = node_new(g, &op_winograd_product, 2, (Node *[]){v, u}, &a);
    return node_new(g, &op_winograd_conv, 1, &z, &a);
}
