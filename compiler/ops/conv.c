/* Convolution in one to three dimensions and its two gradients.
 *
 * What libraries call convolution is cross-correlation: the kernel is not rotated.
 *
 *     y[n, o, window] = sum over i, tap of w[o, i, tap] * x[n, i, cell]
 *
 * with cell = stride * window + dilation * tap - begin (sliding.c), w (O, C/groups,
 * kernel...); group q of the O/groups outputs reads group q of the C/groups inputs.
 * The sum is linear in w and in x, so each gradient is the same sum over the same
 * meetings of window, tap and cell with another factor left out:
 *
 *     dw[o, i, tap]  = sum over n, window of dy[n, o, window] * x[n, i, cell]
 *     dx[n, i, cell] = sum over o, tap    of dy[n, o, window] * w[o, i, tap]
 *
 * In dx the window falls as the tap rises: seen from the cell, the kernel is rotated
 * by 180 degrees. */
#include "ops.h"

#include <limits.h>

typedef struct ConvAttrs {
    Window window;
    int groups;
    int input[MAX_SPATIAL];   /* spatial sizes of x: only for its gradient */
} ConvAttrs;

/* -- in Lua -- */

enum { OUT, KERNEL, STRIDE, PAD, DILATION, GROUPS, BIAS, FLIP, WEIGHT, NAME, TRAINABLE };

static const ArgSpec conv_args[] = {
    [OUT] = {"out", ARG_INT, .positional = true, .required = true, .low = 1, .doc = "output channels"},
    [KERNEL] = {"kernel", ARG_DIMS, .required = true, .low = 1, .high = MAX_EXTENT, .doc = "window size"},
    [STRIDE] = {"stride", ARG_DIMS, .standard = 1, .low = 1, .high = MAX_EXTENT, .doc = "jump of the window"},
    [PAD] = {"pad", ARG_PADS, .high = MAX_EXTENT, .doc = "zeros around the input"},
    [DILATION] = {"dilation", ARG_DIMS, .standard = 1, .low = 1, .high = MAX_EXTENT,
                  .doc = "distance of the kernel's taps"},
    [GROUPS] = {"groups", ARG_INT, .standard = 1, .low = 1,
                .doc = "independent groups of channels; as many as channels: depthwise"},
    [BIAS] = {"bias", ARG_BIAS, .standard = 1, .doc = "add a number per output channel"},
    [FLIP] = {"flip", ARG_BOOL, .doc = "true convolution: the kernel rotated by 180 degrees"},
    [WEIGHT] = {"weight", ARG_LITERAL, .doc = "the filters, (out, channels / groups, kernel...)"},
    [NAME] = {"name", ARG_NAME, .doc = "of the layer"},
    [TRAINABLE] = {"trainable", ARG_BOOL, .standard = 1, .doc = "whether optimisers change it"},
    {.kind = ARG_END},
};

static Node *conv(Graph *g, Node *x, Node *w, const ConvAttrs *a)
{
    return node_new(g, &op_conv, 2, (Node *[]){x, w}, a);
}

static Node *conv_build(Call *call)
{
    Graph *g = call->g;
    Node *x = call->tensor[0];
    const Arg *arg = call->arg;
    ConvAttrs a = {.groups = (int)arg[GROUPS].number};
    a.window = window_of(call, &arg[KERNEL], &arg[STRIDE], &arg[PAD], &arg[DILATION]);
    int spatial = a.window.spatial, out = (int)arg[OUT].number, channels = x->shape.dim[1];
    if (channels % a.groups || out % a.groups)
        refuse(call, "%d groups do not divide %d input and %d output channels", a.groups, channels, out);

    Shape shape = {.rank = 2 + spatial, .dim = {out, channels / a.groups}};
    for (int d = 0; d < spatial; d++)
        shape.dim[2 + d] = a.window.kernel[d];
    int64_t fan_in = (int64_t)shape.dim[1] * window_cells(&a.window);
    if (fan_in > INT_MAX)
        refuse(call, "a filter has more than 2^31 - 1 weights");
    Node *weight = weight_param(call, &arg[WEIGHT], shape, (int)fan_in, arg[TRAINABLE].flag);
    Node *w = arg[FLIP].flag ? reverse(g, weight, ((1u << spatial) - 1) << 2) : weight;
    Node *y = conv(g, x, w, &a);
    if (!arg[BIAS].flag)
        return y;
    Node *bias = bias_param(call, &arg[BIAS], out, (int)fan_in, arg[TRAINABLE].flag);
    return add(g, y, along_channels(g, bias, y));
}

/* -- shapes -- */

/* x (N, C, ...), w (O, C/groups, kernel...) -> y (N, O, ...) */
static void conv_infer(Graph *g, Node *n)
{
    const ConvAttrs *a = n->attrs;
    n->shape = n->in[0]->shape;
    n->shape.dim[1] = n->in[1]->shape.dim[0];
    window_slide(g, n, &a->window, &n->shape);
}

/* dy (N, O, ...), w -> dx (N, C, ...) */
static void conv_input_grad_infer(Graph *g, Node *n)
{
    (void)g;
    const ConvAttrs *a = n->attrs;
    n->shape = n->in[0]->shape;
    n->shape.dim[1] = n->in[1]->shape.dim[1] * a->groups;
    for (int d = 0; d < a->window.spatial; d++)
        n->shape.dim[2 + d] = a->input[d];
}

/* dy, x -> dw (O, C/groups, kernel...) */
static void conv_weight_grad_infer(Graph *g, Node *n)
{
    (void)g;
    const ConvAttrs *a = n->attrs;
    n->shape = n->in[0]->shape;
    n->shape.dim[0] = n->in[0]->shape.dim[1];
    n->shape.dim[1] = n->in[1]->shape.dim[1] / a->groups;
    for (int d = 0; d < a->window.spatial; d++)
        n->shape.dim[2 + d] = a->window.kernel[d];
    n->batched = false;
}

/* -- evaluation: three readings of one definition -- */

typedef enum Factor { Y, W, X } Factor;

/* Adds to the tensor `result` of y, w and x the products of the two others over all
 * meetings. */
static void accumulate(Context *c, const ConvAttrs *a, const Tensor *y, const Tensor *w, const Tensor *x,
                       Factor result)
{
    int meetings;
    const Meeting *list = window_meetings(c, &a->window, x->shape.dim + 2, y->shape.dim + 2, &meetings);
    int outs = y->shape.dim[1], ins = x->shape.dim[1];
    int group_outs = outs / a->groups, group_ins = ins / a->groups;
    size_t y_plane = 1, w_plane = 1, x_plane = 1;
    for (int d = 2; d < x->shape.rank; d++) {
        y_plane *= (size_t)y->shape.dim[d];
        w_plane *= (size_t)w->shape.dim[d];
        x_plane *= (size_t)x->shape.dim[d];
    }
    for (int n = 0; n < x->shape.dim[0]; n++)
        for (int o = 0; o < outs; o++)
            for (int i = 0; i < group_ins; i++) {
                int channel = o / group_outs * group_ins + i;
                double *yp = y->data + ((size_t)n * outs + o) * y_plane;
                double *wp = w->data + ((size_t)o * group_ins + i) * w_plane;
                double *xp = x->data + ((size_t)n * ins + channel) * x_plane;
                for (const Meeting *m = list; m < list + meetings; m++)
                    switch (result) {
                    case Y: yp[m->window] += wp[m->tap] * xp[m->cell]; break;
                    case W: wp[m->tap] += yp[m->window] * xp[m->cell]; break;
                    case X: xp[m->cell] += yp[m->window] * wp[m->tap]; break;
                    }
            }
}

static void conv_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in, Tensor *out)
{
    (void)b;
    accumulate(c, n->attrs, out, in[1], in[0], Y);
}

static void conv_input_grad_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                                 Tensor *out)
{
    (void)b;
    accumulate(c, n->attrs, in[0], in[1], out, X);
}

static void conv_weight_grad_eval(Context *c, const Node *n, const Bindings *b, const Tensor *const *in,
                                  Tensor *out)
{
    (void)b;
    accumulate(c, n->attrs, in[0], out, in[1], W);
}

/* -- gradient -- */

static Node *conv_gradient(Graph *g, Node *n, Node *dy, int i)
{
    ConvAttrs a = *(const ConvAttrs *)n->attrs;
    Node *x = n->in[0], *w = n->in[1];
    if (i == 1)
        return node_new(g, &op_conv_weight_grad, 2, (Node *[]){dy, x}, &a);
    for (int d = 0; d < a.window.spatial; d++)
        a.input[d] = x->shape.dim[2 + d];
    return node_new(g, &op_conv_input_grad, 2, (Node *[]){dy, w}, &a);
}

/* -- lowering -- */

/* Where a nest is: indices of y, w and x that meet. */
typedef struct ConvIndex { Affine y[MAX_RANK], w[MAX_RANK], x[MAX_RANK]; } ConvIndex;

/* out and in count within the group. */
static ConvIndex conv_index(const ConvAttrs *a, int outs, int ins, Affine sample, Affine group, Affine out,
                            Affine in, const Sweep *s)
{
    ConvIndex index;
    index.y[0] = index.x[0] = sample;
    index.y[1] = index.w[0] = affine_sum(affine_times(group, outs / a->groups), out);
    index.x[1] = affine_sum(affine_times(group, ins / a->groups), in);
    index.w[1] = in;
    for (int d = 0; d < a->window.spatial; d++) {
        index.y[2 + d] = s->window[d];
        index.w[2 + d] = s->tap[d];
        index.x[2 + d] = s->cell[d];
    }
    return index;
}

static Affine group_axis(Nest *nest, const ConvAttrs *a)
{
    return a->groups > 1 ? nest_axis(nest, "g", a->groups, false) : affine_constant(0);
}

static void conv_lower(Lower *l, Node *n)
{
    const ConvAttrs *a = n->attrs;
    Node *x = n->in[0], *w = n->in[1];
    int outs = n->shape.dim[1], ins = x->shape.dim[1];
    Sweep s;
    Nest *nest = nest_open(l);
    Affine sample = nest_axis(nest, "n", n->shape.dim[0], false);
    Affine group = group_axis(nest, a);
    Affine out = nest_axis(nest, "oc", outs / a->groups, false);
    sweep_windows(nest, &a->window, n->shape.dim + 2, false, &s);
    Affine in = nest_axis(nest, "ic", ins / a->groups, true);
    sweep_taps(nest, &a->window, true, &s);
    sweep_cells(l, &a->window, &s);
    ConvIndex index = conv_index(a, outs, ins, sample, group, out, in, &s);
    if (FAULT(lower_context(l), FAULT_GROUP_OFFSET))
        index.x[1] = in;
    Expr *term = expr_call(l, FN_MUL, element_bordered(l, x, index.x), element(l, w, index.w), NULL);
    nest_close(l, n, nest, REDUCE_SUM, term, NULL, index.y);
}

static void conv_weight_grad_lower(Lower *l, Node *n)
{
    const ConvAttrs *a = n->attrs;
    Node *dy = n->in[0], *x = n->in[1];
    int outs = dy->shape.dim[1], ins = x->shape.dim[1];
    Window window = a->window;
    for (int d = 0; FAULT(lower_context(l), FAULT_DILATION_IGNORED) && d < window.spatial; d++)
        window.dilation[d] = 1;
    Sweep s;
    Nest *nest = nest_open(l);
    Affine group = group_axis(nest, a);
    Affine out = nest_axis(nest, "oc", outs / a->groups, false);
    Affine in = nest_axis(nest, "ic", ins / a->groups, false);
    sweep_taps(nest, &window, false, &s);
    Affine sample = nest_axis(nest, "n", x->shape.dim[0], true);
    sweep_windows(nest, &window, dy->shape.dim + 2, true, &s);
    sweep_cells(l, &window, &s);
    ConvIndex index = conv_index(a, outs, ins, sample, group, out, in, &s);
    Expr *term = expr_call(l, FN_MUL, element(l, dy, index.y), element_bordered(l, x, index.x), NULL);
    nest_close(l, n, nest, REDUCE_SUM, term, NULL, index.w);
}

/* The cells of one gather; those that no window sees get 0. */
static void conv_input_grad_nest(Lower *l, Node *n, const Gather *gather)
{
    const ConvAttrs *a = n->attrs;
    Node *dy = n->in[0], *w = n->in[1];
    int outs = dy->shape.dim[1], ins = n->shape.dim[1];
    Sweep s;
    Nest *nest = nest_open(l);
    Affine sample = nest_axis(nest, "n", n->shape.dim[0], false);
    Affine group = group_axis(nest, a);
    Affine in = nest_axis(nest, "ic", ins / a->groups, false);
    gather_cells(nest, gather, &s);
    Affine out = affine_constant(0);
    if (gather->seen) {
        out = nest_axis(nest, "oc", outs / a->groups, true);
        gather_taps(nest, gather, &s);
    }
    ConvIndex index = conv_index(a, outs, ins, sample, group, out, in, &s);
    for (int d = 0; FAULT(lower_context(l), FAULT_NO_ROTATION) && d < a->window.spatial; d++)
        index.w[2 + d] = affine_sum(affine_constant(a->window.kernel[d] - 1), affine_times(s.tap[d], -1));
    Expr *term = expr_float(l, 0);
    if (gather->seen)
        term = expr_call(l, FN_MUL, element_bordered(l, dy, index.y), element(l, w, index.w), NULL);
    nest_close(l, n, nest, REDUCE_SUM, term, NULL, index.x);
}

static void conv_input_grad_lower(Lower *l, Node *n)
{
    const ConvAttrs *a = n->attrs;
    int count;
    Gather *gather = window_gathers(lower_context(l), &a->window, n->shape.dim + 2, &count);
    for (int i = 0; i < count; i++)
        conv_input_grad_nest(l, n, &gather[i]);
}

/* -- rewriting -- */

/* conv(x, w) * factor = conv(x, w * factor), the factor taken along w's outputs. */
static Node *conv_absorb_scale(Graph *g, Node *n, Node *factor)
{
    Node *x = n->in[0], *w = n->in[1];
    return params_only(w) ? conv(g, x, scaled_along(g, w, 0, factor), n->attrs) : NULL;
}

/* Filters of 3x3 taps that meet neighbouring cells, window by window. */
static bool winograd_window(const ConvAttrs *a)
{
    const Window *w = &a->window;
    bool fits = w->spatial == 2 && a->groups == 1;
    for (int d = 0; d < 2 && fits; d++)
        fits = w->kernel[d] == 3 && w->stride[d] == 1 && w->dilation[d] == 1;
    return fits;
}

static bool winograd_fits(const ConvAttrs *a, const Node *filters)
{
    return winograd_window(a) && params_only(filters);
}

static Node *conv_winograd(Graph *g, Node *n, Node **in, int tile)
{
    const ConvAttrs *a = n->attrs;
    const Window *w = &a->window;
    return winograd_fits(a, in[1]) ? winograd_conv(g, in[0], in[1], tile, w->begin, w->end) : NULL;
}

/* dx is dy correlated with the rotated filters, inputs and outputs exchanged, as if dy had the
 * zeros around it that let every tap see every window. */
static Node *conv_input_grad_winograd(Graph *g, Node *n, Node **in, int tile)
{
    const ConvAttrs *a = n->attrs;
    int begin[2], end[2];
    bool fits = winograd_fits(a, in[1]);
    for (int d = 0; d < 2 && fits; d++) {
        begin[d] = a->window.kernel[d] - 1 - a->window.begin[d];
        end[d] = a->window.kernel[d] - 1 - a->window.end[d];
        fits = begin[d] >= 0 && end[d] >= 0;
    }
    if (!fits)
        return NULL;
    return winograd_conv(g, in[0], exchanged(g, reverse(g, in[1], 3u << 2)), tile, begin, end);
}

/* Both correlate x with dy. */
static Node *conv_weight_grad_winograd(Graph *g, Node *n, Node **in, int tile)
{
    const ConvAttrs *a = n->attrs;
    return winograd_window(a) ? winograd_weight_grad(g, in[0], in[1], tile, a->window.begin) : NULL;
}

static ConvWork work_of(const Node *y, const Node *x, bool gathers)
{
    const int *in = x->shape.dim, *out = y->shape.dim;
    return (ConvWork){in[0], in[1], out[1], out[2], out[3], gathers};
}

/* Of conv and, what is computed in y's place being dx, of conv_input_grad. */
static ConvWork conv_work(const Node *n)
{
    return work_of(n, n->in[0], false);
}

static ConvWork conv_weight_grad_work(const Node *n)
{
    return work_of(n->in[0], n->in[1], true);
}

/* -- for people -- */

/* One for each output channel of each window and each weight that it is multiplied by. */
static int64_t products(const Node *y_like, const Node *w_like)
{
    int64_t per_output = shape_count(&w_like->shape) / w_like->shape.dim[0];
    return shape_count(&y_like->shape) * per_output;
}

static int64_t conv_macs(const Node *n)
{
    return products(n, n->in[1]);
}

static int64_t conv_input_grad_macs(const Node *n)
{
    return products(n->in[0], n->in[1]);
}

static int64_t conv_weight_grad_macs(const Node *n)
{
    return products(n->in[0], n);
}

static const Window *conv_window(const Node *n)
{
    const ConvAttrs *a = n->attrs;
    return &a->window;
}

static void conv_print(const Node *n, Text *t)
{
    const ConvAttrs *a = n->attrs;
    window_print(&a->window, t);
    if (a->groups > 1)
        text_add(t, " groups %d", a->groups);
}

static const char *const conv_samples[] = {
    "return input { 3, 6, 7 }:conv2d { 4, kernel = 3 }",
    "return input { 2, 6, 5 }:conv2d { 3, kernel = { 3, 2 }, stride = { 2, 1 }, pad = { 1, 0, 0, 2 } }",
    "return input { 2, 9, 8 }:conv2d { 2, kernel = 3, stride = { 1, 3 }, dilation = { 2, 3 }, pad = 3 }",
    "return input { 2, 9, 9 }:conv2d { 2, kernel = { 2, 3 }, stride = 4, dilation = { 2, 3 }, pad = 2 }",
    "return input { 4, 5, 5 }:conv2d { 6, kernel = 3, pad = \"same\", groups = 2, stride = 2 }",
    "return input { 3, 6, 6 }:conv2d { 3, kernel = 3, pad = 1, groups = 3, bias = false }",
    "return input { 5, 4, 4 }:conv2d { 3, kernel = 1 }",
    "return input { 1, 9, 9 }:conv2d { 2, kernel = 1, stride = 3 }",
    "return input { 2, 8, 8 }:conv2d { 2, kernel = 4, stride = 4 }",
    "return input { 2, 5, 6 }:conv2d { 2, kernel = 3, pad = 1, flip = true, name = \"turned\" }",
    "return input { 1, 3, 3 }:conv2d { 1, kernel = 2, weight = {{{{ 1, -1 }, { 0, 2 }}}}, bias = { 3 } }",
    "return input { 2, 6, 6 }:conv2d { 2, kernel = 3, pad = 1 }:conv2d { 3, kernel = 3, stride = 2 }",
    "return input { 2, 13 }:conv1d { 3, kernel = 4, stride = 3, pad = { 2, 1 } }",
    "return input { 4, 12 }:conv1d { 4, kernel = 3, dilation = 2, pad = 2, groups = 4 }",
    "return input { 2, 4, 5, 6 }:conv3d { 3, kernel = { 2, 3, 3 }, stride = { 1, 2, 1 }, "
        "pad = { 0, 1, 1, 1, 0, 1 } }",
    NULL
};

const Op op_conv = {
    .name = "conv", .doc = "cross-correlation with a set of filters, in 1 to 3 dimensions",
    .attrs_size = sizeof(ConvAttrs),
    .method = {{"conv1d", 1}, {"conv2d", 2}, {"conv3d", 3}}, .kind = "conv", .args = conv_args, .operands = 1,
    .build = conv_build, .infer = conv_infer, .eval = conv_eval, .gradient = conv_gradient,
    .absorb_scale = conv_absorb_scale, .winograd = conv_winograd, .work = conv_work, .lower = conv_lower,
    .macs = conv_macs, .window = conv_window, .print_attrs = conv_print, .samples = conv_samples,
};

const Op op_conv_input_grad = {
    .name = "conv_input_grad", .doc = "gradient of conv for its input: the error through the rotated filters",
    .attrs_size = sizeof(ConvAttrs),
    .infer = conv_input_grad_infer, .eval = conv_input_grad_eval, .winograd = conv_input_grad_winograd,
    .work = conv_work, .lower = conv_input_grad_lower, .macs = conv_input_grad_macs,
    .print_attrs = conv_print,
};

const Op op_conv_weight_grad = {
    .name = "conv_weight_grad", .doc = "gradient of conv for its filters: input and error correlated",
    .attrs_size = sizeof(ConvAttrs),
    .infer = conv_weight_grad_infer, .eval = conv_weight_grad_eval,
    .winograd = conv_weight_grad_winograd, .work = conv_weight_grad_work, .lower = conv_weight_grad_lower,
    .macs = conv_weight_grad_macs, .print_attrs = conv_print,
};
