/* From the sum of every window to its mean: division by the number of cells that
 * count, which at the borders depends on the window's place.
 *
 * PyTorch's rules: with count_include_pad the padding counts, without it only the
 * input does; what a last window of ceil mode covers behind the padding never counts. */
#include "ops.h"

typedef struct ScaleAttrs {
    Window window;
    int input[MAX_SPATIAL];   /* spatial sizes of what was summed */
    int count_pad;
} ScaleAttrs;

/* Cells begin to end - 1 of an axis. */
typedef struct Span { int begin, end; } Span;

static Span counting_cells(const ScaleAttrs *a, int d)
{
    if (!a->count_pad)
        return (Span){0, a->input[d]};
    return (Span){-a->window.begin[d], a->input[d] + a->window.end[d]};
}

static int count_along(const ScaleAttrs *a, int d, int window)
{
    Span counting = counting_cells(a, d);
    int begin = window * a->window.stride[d] - a->window.begin[d], end = begin + a->window.kernel[d];
    return (end < counting.end ? end : counting.end) - (begin > counting.begin ? begin : counting.begin);
}

/* True when on axis d every window counts as many cells as the kernel has. */
static bool counts_all(const ScaleAttrs *a, int d, int windows)
{
    for (int i = 0; i < windows; i++)
        if (count_along(a, d, i) < a->window.kernel[d])
            return false;
    return true;
}

Node *window_mean(Graph *g, Node *sum, const Window *w, const int *input, bool count_pad)
{
    ScaleAttrs a = {.window = *w, .count_pad = count_pad};
    bool even = true;
    for (int d = 0; d < w->spatial; d++) {
        a.input[d] = input[d];
        even &= counts_all(&a, d, sum->shape.dim[2 + d]);
    }
    return even ? mul_scalar(g, sum, 1.0 / window_cells(w)) : node_new(g, &op_pool_scale, 1, &sum, &a);
}

static void scale_infer(Graph *g, Node *n)
{
    (void)g;
    n->shape = n->in[0]->shape;
}

static void scale_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)c, (void)b;
    const ScaleAttrs *a = n->attrs;
    int index[MAX_RANK] = {0}, i = 0;
    do {
        double cells = 1;
        for (int d = 0; d < a->window.spatial; d++)
            cells *= count_along(a, d, index[2 + d]);
        out->data[i] = in[0]->data[i] / cells;
        i++;
    } while (index_next(&n->shape, index));
}

/* Each window's error is divided as its sum was. */
static Node *scale_gradient(Graph *g, Node *n, Node *dy, int i)
{
    (void)i;
    return node_new(g, &op_pool_scale, 1, &dy, n->attrs);
}

/* count_along as an expression. */
static Expr *count_expr(Lower *l, const ScaleAttrs *a, int d, int windows, Affine window)
{
    if (counts_all(a, d, windows))
        return expr_int(l, a->window.kernel[d]);
    Span counting = counting_cells(a, d);
    Affine begin = affine_sum(affine_times(window, a->window.stride[d]),
                              affine_constant(-a->window.begin[d]));
    Affine end = affine_sum(begin, affine_constant(a->window.kernel[d]));
    Expr *first = expr_call(l, FN_MAX, expr_affine(l, begin), expr_int(l, counting.begin), NULL);
    Expr *last = expr_call(l, FN_MIN, expr_affine(l, end), expr_int(l, counting.end), NULL);
    return expr_call(l, FN_SUB, last, first, NULL);
}

static Expr *scale_element(Lower *l, Node *n, const Affine *index)
{
    ScaleAttrs a = *(const ScaleAttrs *)n->attrs;
    a.count_pad ^= FAULT(lower_context(l), FAULT_COUNT_PAD);
    Expr *cells = NULL;
    for (int d = 0; d < a.window.spatial; d++) {
        Expr *along = count_expr(l, &a, d, n->shape.dim[2 + d], index[2 + d]);
        cells = cells ? expr_call(l, FN_MUL, cells, along, NULL) : along;
    }
    Expr *divisor = expr_call(l, FN_TO_FLOAT, cells, NULL, NULL);
    return expr_call(l, FN_DIV, element(l, n->in[0], index), divisor, NULL);
}

static void scale_print(const Node *n, Text *t)
{
    const ScaleAttrs *a = n->attrs;
    window_print(&a->window, t);
    text_add(t, a->count_pad ? " counting pad" : " without pad");
}

const Op op_pool_scale = {
    .name = "pool_scale", .doc = "divides every window's sum by the cells that count",
    .traits = OP_POINTWISE | OP_PLACED, .attrs_size = sizeof(ScaleAttrs),
    .infer = scale_infer, .eval = scale_eval, .gradient = scale_gradient, .element = scale_element,
    .print_attrs = scale_print,
};
