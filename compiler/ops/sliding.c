/* What convolutions and pools share.
 *
 * Both rest on one relation between an output position (window), a place inside the
 * kernel (tap) and an input position (cell), in every spatial dimension:
 *
 *     cell = stride * window + dilation * tap - begin
 *
 * Going forward, windows and taps are free and the cell follows.  Gradients for the
 * input go the other way, from a cell to the windows that see it; for them the
 * relation is solved once per residue class of the stride (window_gathers). */
#include "ops.h"

#include <limits.h>

/* -- options -- */

/* ONNX SAME_UPPER: ceil(input / stride) windows, the odd cell of padding at the end. */
static void pad_same(Window *w, int d, int input)
{
    int64_t windows = (input - 1) / w->stride[d] + 1;
    int64_t extent = (int64_t)w->dilation[d] * (w->kernel[d] - 1) + 1;
    int64_t total = (windows - 1) * w->stride[d] + extent - input;
    total = total < 0 ? 0 : total > INT_MAX ? INT_MAX : total;
    w->begin[d] = (int)(total / 2);
    w->end[d] = (int)(total - total / 2);
}

Window window_of(const Call *call, const Arg *kernel, const Arg *stride, const Arg *pad, const Arg *dilation)
{
    static const char *const layout[] = {"", "channels x length", "channels x height x width",
                                         "channels x depth x height x width"};
    const Node *x = call->tensor[0];
    Window w = {.spatial = kernel->count};
    int64_t cells = 1;
    if (x->shape.rank != w.spatial + 2)
        refuse(call, "the input is %s, expected %s", shape_text(call->g->c, &x->shape, x->batched),
               layout[w.spatial]);
    for (int d = 0; d < w.spatial; d++) {
        w.kernel[d] = kernel->dim[d];
        cells *= w.kernel[d];
        w.stride[d] = stride ? stride->dim[d] : kernel->dim[d];
        w.dilation[d] = dilation ? dilation->dim[d] : 1;
        w.begin[d] = pad->dim[d];
        w.end[d] = pad->dim[w.spatial + d];
        if (pad->same)
            pad_same(&w, d, x->shape.dim[2 + d]);
        if (cells > INT_MAX)
            refuse(call, "the kernel has more than 2^31 - 1 cells");
    }
    return w;
}

/* -- shapes -- */

static const char *sizes_text(Context *c, const Window *w, const int *size)
{
    Shape s = shape_of(w->spatial, size);
    return shape_text(c, &s, false);
}

void window_slide(const Graph *g, const Node *n, const Window *w, Shape *s)
{
    const Shape in = *s;
    const char *method = n->layer ? n->layer->method : n->op->name;
    bool ceil = w->ceil || FAULT(g->c, FAULT_CEIL_FOR_FLOOR);
    for (int d = 0; d < w->spatial; d++) {
        int size = in.dim[2 + d];
        if ((int64_t)size + w->begin[d] + w->end[d] + w->stride[d] > INT_MAX)
            fail(g->c, STATUS_INPUT, "%s: padding of %d and %d is too large", method, w->begin[d], w->end[d]);
        int64_t out = window_output(size, w->kernel[d], w->stride[d], w->dilation[d], w->begin[d], w->end[d],
                                    ceil);
        if (out < 1)
            fail(g->c, STATUS_INPUT, "%s: kernel %s does not fit the %s input: %s", method,
                 sizes_text(g->c, w, w->kernel), sizes_text(g->c, w, in.dim + 2),
                 window_formula(g->c, w, d, size));
        s->dim[2 + d] = (int)out;
    }
}

int window_cells(const Window *w)
{
    int cells = 1;
    for (int d = 0; d < w->spatial; d++)
        cells *= w->kernel[d];
    return cells;
}

void window_print(const Window *w, Text *t)
{
    bool strided = false, padded = false, dilated = false;
    for (int d = 0; d < w->spatial; d++) {
        strided |= w->stride[d] > 1;
        dilated |= w->dilation[d] > 1;
        padded |= w->begin[d] || w->end[d];
    }
    text_add(t, " kernel %s", sizes_text(t->c, w, w->kernel));
    if (strided)
        text_add(t, " stride %s", sizes_text(t->c, w, w->stride));
    if (dilated)
        text_add(t, " dilation %s", sizes_text(t->c, w, w->dilation));
    if (padded)
        text_add(t, " pad %s+%s", sizes_text(t->c, w, w->begin), sizes_text(t->c, w, w->end));
    if (w->ceil)
        text_add(t, " ceil");
}

/* -- evaluation -- */

/* One dimension at a time: the meetings of a plane are all pairs of those of its
 * rows and those of its columns. */
Meeting *window_meetings(Context *c, const Window *w, const int *input, const int *output, int *count)
{
    Meeting *list = NEW(c, Meeting);
    *count = 1;
    for (int d = 0; d < w->spatial; d++) {
        Meeting *outer = list;
        int outers = *count;
        list = NULL, *count = 0;
        for (int m = 0; m < outers; m++)
            for (int i = 0; i < output[d]; i++)
                for (int k = 0; k < w->kernel[d]; k++) {
                    int cell = i * w->stride[d] + k * w->dilation[d] - w->begin[d];
                    if (cell >= 0 && cell < input[d])
                        PUSH(c, list, *count) = (Meeting){outer[m].window * output[d] + i,
                                                          outer[m].tap * w->kernel[d] + k,
                                                          outer[m].cell * input[d] + cell};
                }
    }
    return list;
}

/* -- lowering: from windows and taps to cells -- */

/* The name of spatial axis d, counted so that the last one is "w". */
static const char *spatial_name(const char *const names[MAX_SPATIAL], int spatial, int d)
{
    return names[MAX_SPATIAL - spatial + d];
}

void sweep_windows(Nest *nest, const Window *w, const int *output, bool reduce, Sweep *s)
{
    static const char *const names[MAX_SPATIAL] = {"od", "oh", "ow"};
    for (int d = 0; d < w->spatial; d++)
        s->window[d] = nest_axis(nest, spatial_name(names, w->spatial, d), output[d], reduce);
}

void sweep_taps(Nest *nest, const Window *w, bool reduce, Sweep *s)
{
    static const char *const names[MAX_SPATIAL] = {"kd", "kh", "kw"};
    for (int d = 0; d < w->spatial; d++)
        s->tap[d] = nest_axis(nest, spatial_name(names, w->spatial, d), w->kernel[d], reduce);
}

void sweep_cells(Lower *l, const Window *w, Sweep *s)
{
    Context *c = lower_context(l);
    for (int d = 0; d < w->spatial; d++) {
        int stride = w->stride[FAULT(c, FAULT_SWAP_HEIGHT_WIDTH) ? w->spatial - 1 - d : d];
        int begin = w->begin[d] - (FAULT(c, FAULT_PAD_OFF_BY_ONE) && d == w->spatial - 1);
        s->cell[d] = affine_sum(affine_sum(affine_times(s->window[d], stride),
                                           affine_times(s->tap[d], w->dilation[d])),
                                affine_constant(-begin));
    }
}

/* -- lowering: from cells to windows and taps --
 *
 * A window sees `cell` by `tap` iff stride divides cell + begin - dilation * tap.  For
 * the cells = a (mod stride) these are every step-th tap, step = stride / gcd(stride,
 * dilation), from some first one on; with cell = a + stride * i, tap = first + step * t:
 *
 *     window = i - (dilation / gcd) * t + (a + begin - dilation * first) / stride
 *
 * Neighbouring classes whose first taps are neighbours too and which agree in all else
 * form a run: one nest with one more axis. */

static int greatest_common_divisor(int a, int b)
{
    return b ? greatest_common_divisor(b, a % b) : a;
}

static Reach reach_of_class(const Window *w, int d, int input, int a)
{
    int stride = w->stride[d], dilation = w->dilation[d], kernel = w->kernel[d];
    int common = greatest_common_divisor(stride, dilation), step = stride / common;
    Reach reach = {.first = a, .run = 1, .stride = stride, .cells = (input - 1 - a) / stride + 1,
                   .step = step, .back = dilation / common};
    for (int tap = 0; tap < step && tap < kernel; tap++) {
        int64_t distance = (int64_t)a + w->begin[d] - (int64_t)dilation * tap;
        if (distance % stride == 0) {
            reach.tap = tap;
            reach.taps = (kernel - 1 - tap) / step + 1;
            reach.shift = (int)(distance / stride);
            break;
        }
    }
    return reach;
}

static bool continues(const Reach *run, const Reach *next)
{
    return next->cells == run->cells && next->taps == run->taps &&
           (next->taps == 0 || (next->tap == run->tap + run->run && next->shift == run->shift));
}

static Reach *reaches(Context *c, const Window *w, int d, int input, int *count)
{
    Reach *list = NULL;
    *count = 0;
    for (int a = 0; a < w->stride[d] && a < input; a++) {
        Reach next = reach_of_class(w, d, input, a);
        if (*count && continues(&list[*count - 1], &next))
            list[*count - 1].run++;
        else
            PUSH(c, list, *count) = next;
    }
    return list;
}

Gather *window_gathers(Context *c, const Window *w, const int *input, int *count)
{
    Gather *list = NEW(c, Gather);
    *list = (Gather){.spatial = w->spatial, .seen = true};
    *count = 1;
    for (int d = 0; d < w->spatial; d++) {
        Gather *outer = list;
        int outers = *count, classes;
        Reach *reach = reaches(c, w, d, input[d], &classes);
        list = NULL, *count = 0;
        for (int i = 0; i < outers; i++)
            for (int k = 0; k < classes; k++) {
                Gather gather = outer[i];
                gather.axis[d] = reach[k];
                gather.seen &= reach[k].taps > 0;
                PUSH(c, list, *count) = gather;
            }
    }
    return list;
}

/* Until gather_taps adds the axes of the taps, window and tap are the first ones. */
void gather_cells(Nest *nest, const Gather *gather, Sweep *s)
{
    static const char *const names[MAX_SPATIAL] = {"id", "ih", "iw"};
    static const char *const run_names[MAX_SPATIAL] = {"rd", "rh", "rw"};
    for (int d = 0; d < gather->spatial; d++) {
        const Reach *reach = &gather->axis[d];
        Affine run = affine_constant(0);
        if (reach->run > 1)
            run = nest_axis(nest, spatial_name(run_names, gather->spatial, d), reach->run, false);
        Affine i = nest_axis(nest, spatial_name(names, gather->spatial, d), reach->cells, false);
        s->cell[d] = affine_sum(affine_sum(affine_times(i, reach->stride), run),
                                affine_constant(reach->first));
        s->window[d] = affine_sum(i, affine_constant(reach->shift));
        s->tap[d] = affine_sum(run, affine_constant(reach->tap));
    }
}

void gather_taps(Nest *nest, const Gather *gather, Sweep *s)
{
    static const char *const names[MAX_SPATIAL] = {"td", "th", "tw"};
    for (int d = 0; d < gather->spatial; d++) {
        const Reach *reach = &gather->axis[d];
        Affine t = nest_axis(nest, spatial_name(names, gather->spatial, d), reach->taps, true);
        s->window[d] = affine_sum(s->window[d], affine_times(t, -reach->back));
        s->tap[d] = affine_sum(s->tap[d], affine_times(t, reach->step));
    }
}
