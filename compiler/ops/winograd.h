/* What Winograd's convolution (winograd.c) and its gradient for filters (winograd_grad.c) share. */
#ifndef WINOGRAD_H
#define WINOGRAD_H

#include "ops.h"

enum { TAPS = 3 };

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
/* Stores v, node n, of the part. */
void winograd_input_nest(Lower *l, Node *n, const TilePart *part);

#endif
