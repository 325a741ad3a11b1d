/* The size law of everything that slides a window over its input. */
#include "../cnnc.h"

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Windows fit where their first cell lies `steps` strides from the start of the
 * padding.  The rules for ceil are PyTorch's: a window may hang over the padded
 * input by less than a stride, but must not start behind the input proper. */
int64_t window_output(int input, int kernel, int stride, int dilation, int begin, int end, bool ceil)
{
    int64_t extent = (int64_t)dilation * (kernel - 1) + 1;
    int64_t room = (int64_t)input + begin + end - extent;
    int64_t steps = floor_divide(room + (ceil ? stride - 1 : 0), stride);
    if (ceil && steps * stride >= (int64_t)input + begin)
        steps--;
    return steps + 1;
}

/* "5", or "(2*(5 - 1) + 1)" when dilated. */
static const char *extent_text(Context *c, int kernel, int dilation)
{
    return dilation == 1 || kernel == 1 ? format(c, "%d", kernel)
                                        : format(c, "(%d*(%d - 1) + 1)", dilation, kernel);
}

static const char *padding_text(Context *c, int begin, int end)
{
    return begin == end ? format(c, "2*%d", begin) : format(c, "%d + %d", begin, end);
}

const char *window_formula(Context *c, const Window *w, int axis, int input)
{
    int kernel = w->kernel[axis], stride = w->stride[axis], dilation = w->dilation[axis];
    int begin = w->begin[axis], end = w->end[axis];
    int64_t output = window_output(input, kernel, stride, dilation, begin, end, w->ceil);
    int64_t room = (int64_t)input + begin + end - ((int64_t)dilation * (kernel - 1) + 1);
    bool dropped = w->ceil && output <= floor_divide(room + stride - 1, stride);

    const char *steps = format(c, "(%d - %s + %s)/%d", input, extent_text(c, kernel, dilation),
                               padding_text(c, begin, end), stride);
    if (w->ceil)
        steps = format(c, "ceil(%s)", steps);
    else if (room % stride)
        steps = format(c, "floor(%s)", steps);
    return format(c, "%s + 1%s = %lld", steps,
                  dropped ? " - 1 (the last window would start in the padding)" : "",
                  (long long)output);
}
