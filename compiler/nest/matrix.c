/* The constant matrices of Winograd's convolution F(m, 3): m outputs of a filter of 3 taps by
 * n = m + 2 multiplications (Winograd, Arithmetic Complexity of Computations, 1980; Lavin and
 * Gray, CVPR 2016),
 *
 *     y = A [ (G w) * (B x) ]           w: 3 taps, x: n inputs, A: m x n, G: n x 3, B: n x n
 *
 * The product of two polynomials is known from its values at n points p, the last at infinity
 * (Toom and Cook): G takes the values of w, the transpose of A those of a polynomial with m
 * coefficients, and the transpose of B interpolates.  What multiplies that way also correlates
 * with its outer matrices transposed.  In two dimensions each matrix acts on columns and rows.
 *
 * Points come as p and -p, so that rows of B and G come in pairs that differ in signs alone. */
#include "../cnnc.h"

enum { TAPS = 3 };

static const double points[] = {0, 1, -1, 2, -2, 0.5, -0.5};
static const char *const side_names[] = {"input", "filter", "output", "error", "filter_grad"};

static double power(double x, int n)
{
    return n ? x * power(x, n - 1) : 1;
}

/* Coefficients of the product of (x - p) over all points but number `out`. */
static void product_of_roots(double *coef, int count, int out)
{
    int degree = 0;
    coef[0] = 1;
    for (int l = 0; l < count; l++) {
        if (l == out)
            continue;
        coef[++degree] = 0;
        for (int d = degree; d >= 0; d--)
            coef[d] = (d ? coef[d - 1] : 0) - points[l] * coef[d];
    }
}

/* The product of p - q over all other points q. */
static double distance(int point, int count)
{
    double product = 1;
    for (int l = 0; l < count; l++)
        product *= l == point ? 1 : points[point] - points[l];
    return product;
}

static Matrix *transposed(Matrix *m)
{
    Matrix old = *m;
    m->rows = old.columns;
    m->columns = old.rows;
    for (int i = 0; i < m->rows; i++)
        for (int j = 0; j < m->columns; j++)
            m->entry[i][j] = old.entry[j][i];
    return m;
}

static Matrix *matrix_of(Context *c, int tile, WinogradSide side)
{
    int n = tile + TAPS - 1, finite = n - 1;
    Matrix *m = NEW(c, Matrix);
    m->rows = side == WINOGRAD_OUTPUT ? tile : n;
    m->columns = side == WINOGRAD_FILTER ? TAPS : n;
    for (int k = 0; k < n; k++) {
        double coef[MATRIX_MOST] = {0}, factor = k < finite ? distance(k, finite) : 1;
        product_of_roots(coef, finite, k);
        for (int j = 0; j < n; j++) {
            bool last = k == finite;
            if (side == WINOGRAD_INPUT)
                m->entry[k][j] = factor < 0 ? -coef[j] : coef[j];
            else if (side == WINOGRAD_FILTER && j < TAPS)
                m->entry[k][j] = last ? j == TAPS - 1 : power(points[k], j) / (factor < 0 ? -factor : factor);
            else if (side == WINOGRAD_OUTPUT && j < tile)
                m->entry[j][k] = last ? j == tile - 1 : power(points[k], j);
        }
    }
    return m;
}

const Matrix *winograd_matrix(Context *c, int tile, WinogradSide side)
{
    Matrix *m = side == WINOGRAD_ERROR ? transposed(matrix_of(c, tile, WINOGRAD_OUTPUT))
              : side == WINOGRAD_FILTER_GRAD ? transposed(matrix_of(c, tile, WINOGRAD_FILTER))
              : matrix_of(c, tile, side);
    m->name = format(c, "f%d_%s", tile, side_names[side]);
    return m;
}
