/* Random networks as Lua text.
 *
 * A list of tensors grows line by line: each line takes one or two of the list and
 * appends what it makes of them.  Shapes are tracked here, without the frontend, so
 * that every line is valid.  Values stay moderate: whatever grows fast (exp, division,
 * products) gets a bounded operand. */
#include "networks.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 64, MAX_ELEMENTS = 240 };

typedef struct Value { int number, rank, dim[4]; } Value;     /* without the batch; dim[0]: channels */

typedef struct Writer {
    Context *c;
    Text text;
    uint64_t seed;
    uint32_t drawn;            /* random numbers so far */
    Value value[MAX_TENSORS];
    int values, batch, names;
} Writer;

/* -- chance -- */

static int draw(Writer *w, int low, int high)
{
    return low + (int)(random_bits(w->seed, 0, w->drawn++) % (uint32_t)(high - low + 1));
}

static bool chance(Writer *w, int percent)
{
    return draw(w, 0, 99) < percent;
}

/* A number with two digits behind the point. */
static const char *number(Writer *w, int low, int high)
{
    return format(w->c, "%.2f", 0.01 * draw(w, 100 * low, 100 * high));
}

/* Mostly the newest tensor, sometimes an older one. */
static Value pick(Writer *w)
{
    return w->value[chance(w, 75) ? w->values - 1 : draw(w, 0, w->values - 1)];
}

/* -- tensors -- */

static int elements(const Value *v)
{
    int count = 1;
    for (int d = 0; d < v->rank; d++)
        count *= v->dim[d];
    return count;
}

static int positions(const Value *v)
{
    return elements(v) / v->dim[0];
}

static bool fits(const Value *v)
{
    return elements(v) <= MAX_ELEMENTS;
}

/* `local t7 = ` and the text; the tensor is the newest from now on. */
static void emit(Writer *w, Value made, const char *text, ...) __attribute__((format(printf, 3, 4)));
static void emit(Writer *w, Value made, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    made.number = w->values;
    w->value[w->values++] = made;
    text_add(&w->text, "local t%d = %s\n", made.number, vformat(w->c, text, args));
    va_end(args);
}

static const char *numbers(Writer *w, const int *number, int count)
{
    Text t = {.c = w->c};
    for (int i = 0; i < count; i++)
        text_add(&t, "%s%d", i ? ", " : "", number[i]);
    return t.data;
}

static const char *list(Writer *w, const int *number, int count)
{
    return format(w->c, "{ %s }", numbers(w, number, count));
}

static void add_input(Writer *w, const char *name)
{
    static const int largest[] = {0, 12, 14, 8, 5};           /* of the spatial dims, by rank */
    Value v = {.rank = chance(w, 60) ? 3 : draw(w, 1, 4)};
    v.dim[0] = v.rank == 1 ? draw(w, 2, 12) : draw(w, 1, v.rank == 4 ? 2 : 4);
    for (int d = 1; d < v.rank; d++)
        v.dim[d] = draw(w, 3, largest[v.rank]);
    if (!fits(&v))
        v.dim[0] = 1;
    emit(w, v, "input { %s, name = \"%s\" }", numbers(w, v.dim, v.rank), name);
}

/* -- windows -- */

typedef struct Slide { int spatial, kernel[3], stride[3], dilation[3], pad[6]; bool same, ceil; } Slide;

static void draw_slide(Writer *w, const Value *x, bool pool, Slide *s)
{
    *s = (Slide){.spatial = x->rank - 1, .same = chance(w, 12), .ceil = pool && chance(w, 40)};
    bool pads = chance(w, 60), even = chance(w, 50), strides = chance(w, 50);
    for (int d = 0; d < s->spatial; d++) {
        int extent = x->dim[d + 1];
        s->kernel[d] = draw(w, 1, extent < 4 ? extent : 4);
        s->stride[d] = strides ? draw(w, 1, 3) : 1;
        s->dilation[d] = !pool && chance(w, 25) ? draw(w, 2, 3) : 1;
        if ((s->kernel[d] - 1) * s->dilation[d] + 1 > extent)
            s->dilation[d] = 1;
        int reach = (s->kernel[d] - 1) * s->dilation[d];      /* more padding: windows that see nothing */
        s->pad[d] = pads ? draw(w, 0, reach < 3 ? reach : 3) : 0;
        s->pad[d + s->spatial] = even ? s->pad[d] : pads ? draw(w, 0, reach < 3 ? reach : 3) : 0;
    }
}

static Value slid(const Value *x, const Slide *s, int channels)
{
    Value y = *x;
    y.dim[0] = channels;
    for (int d = 0; d < s->spatial; d++)
        y.dim[d + 1] = s->same ? (x->dim[d + 1] + s->stride[d] - 1) / s->stride[d]
                               : (int)window_output(x->dim[d + 1], s->kernel[d], s->stride[d], s->dilation[d],
                                                    s->pad[d], s->pad[d + s->spatial], s->ceil);
    return y;
}

static const char *slide_text(Writer *w, const Slide *s)
{
    Text t = {.c = w->c};
    int n = s->spatial;
    text_add(&t, "kernel = %s, stride = %s", list(w, s->kernel, n), list(w, s->stride, n));
    if (s->same)
        text_add(&t, ", pad = \"same\"");
    else if (memcmp(s->pad, s->pad + n, (size_t)n * sizeof(int)))
        text_add(&t, ", pad = %s", list(w, s->pad, 2 * n));
    else
        text_add(&t, ", pad = %s", list(w, s->pad, n));
    for (int d = 0; d < n; d++)
        if (s->dilation[d] > 1) {
            text_add(&t, ", dilation = %s", list(w, s->dilation, n));
            break;
        }
    return t.data;
}

/* -- layers: each appends a tensor, or nothing where it does not fit -- */

/* Options that every layer with weights has. */
static const char *weighted(Writer *w)
{
    Text t = {.c = w->c};
    if (chance(w, 20))
        text_add(&t, ", bias = false");
    if (chance(w, 10))
        text_add(&t, ", trainable = false");
    if (chance(w, 10))
        text_add(&t, ", name = \"block.%d\"", w->names++);
    return t.data ? t.data : "";
}

static void conv(Writer *w)
{
    Value x = pick(w);
    if (x.rank < 2)
        return;
    Slide s;
    draw_slide(w, &x, false, &s);
    int groups = chance(w, 35) ? draw(w, 1, x.dim[0]) : 1;
    while (x.dim[0] % groups)
        groups--;
    Value y = slid(&x, &s, groups * draw(w, 1, groups > 1 ? 2 : 5));
    if (fits(&y))
        emit(w, y, "t%d:conv%dd { %d, %s%s%s%s }", x.number, s.spatial, y.dim[0], slide_text(w, &s),
             groups > 1 ? format(w->c, ", groups = %d", groups) : "", chance(w, 15) ? ", flip = true" : "",
             weighted(w));
}

/* 1x1 with weights and bias from the file. */
static void fixed_conv(Writer *w)
{
    Value x = pick(w), y = x;
    if (x.rank != 3)
        return;
    Text t = {.c = w->c};
    y.dim[0] = draw(w, 1, 2);
    for (int o = 0; o < y.dim[0]; o++)
        for (int i = 0; i < x.dim[0]; i++)
            text_add(&t, "%s{ { %s } }%s", i ? ", " : "{ ", number(w, -1, 1), i + 1 < x.dim[0] ? "" : " }, ");
    emit(w, y, "t%d:conv2d { %d, kernel = 1, weight = { %s}, bias = { %s%s } }", x.number, y.dim[0], t.data,
         number(w, -1, 1), y.dim[0] > 1 ? format(w->c, ", %s", number(w, -1, 1)) : "");
}

static void pool(Writer *w)
{
    Value x = pick(w);
    if (x.rank < 2)
        return;
    Slide s;
    draw_slide(w, &x, true, &s);
    bool largest = chance(w, 50);
    Value y = slid(&x, &s, x.dim[0]);
    if (fits(&y))
        emit(w, y, "t%d:%s { %s%s%s }", x.number, largest ? "maxpool" : "avgpool", slide_text(w, &s),
             s.ceil && !s.same ? ", ceil = true" : "",
             !largest && chance(w, 50) ? ", count_include_pad = false" : "");
}

static void linear(Writer *w)
{
    Value x = pick(w), y = {.rank = 1, .dim = {draw(w, 1, 9)}};
    emit(w, y, "t%d%s:linear { %d%s }", x.number, x.rank > 1 ? ":flatten()" : "", y.dim[0], weighted(w));
}

static void pointwise(Writer *w)
{
    static const char *const form[] = {
        "t%d:relu()", "t%d:relu()", "(t%d * 4):relu6()", "t%d:leaky_relu { 0.1 }", "t%d:leaky_relu()",
        "t%d:clip { -0.75, 0.5 }", "t%d:sigmoid()", "t%d:tanh()", "t%d:neg()", "t%d:tanh():exp()",
        "(t%d:sigmoid() + 0.25):log()", "(t%d:sigmoid() + 0.5):sqrt()"
    };
    Value x = pick(w);
    const char *call = form[draw(w, 0, sizeof form / sizeof *form - 1)], *mark = strstr(call, "%d");
    emit(w, x, "%.*s%d%s", (int)(mark - call), call, x.number, mark + 2);
}

static void with_number(Writer *w)
{
    Value x = pick(w);
    const char *a = number(w, -2, 2);
    switch (draw(w, 0, 5)) {
    case 0: emit(w, x, "t%d + %s", x.number, a); break;
    case 1: emit(w, x, "%s - t%d", a, x.number); break;
    case 2: emit(w, x, "t%d * %s", x.number, a); break;
    case 3: emit(w, x, "t%d / %s", x.number, number(w, 1, 3)); break;
    case 4: emit(w, x, "t%d - %s", x.number, a); break;
    default: emit(w, x, "%s / (t%d:sigmoid() + 0.5)", a, x.number); break;
    }
}

/* Two tensors of one shape, which also makes branches meet. */
static void with_tensor(Writer *w)
{
    Value x = pick(w), other = x;
    for (int i = draw(w, 0, w->values - 1), tries = 0; tries < w->values; tries++, i = (i + 1) % w->values)
        if (w->value[i].rank == x.rank && !memcmp(w->value[i].dim, x.dim, sizeof x.dim)) {
            other = w->value[i];
            break;
        }
    switch (draw(w, 0, 3)) {
    case 0: emit(w, x, "t%d + t%d", x.number, other.number); break;
    case 1: emit(w, x, "t%d - t%d * 0.5", x.number, other.number); break;
    case 2: emit(w, x, "t%d * t%d:tanh()", x.number, other.number); break;
    default: emit(w, x, "t%d / (t%d:sigmoid() + 0.5)", x.number, other.number); break;
    }
}

/* One factor or term a channel; for vectors an outer product. */
static void broadcasting(Writer *w)
{
    static const char *const sign[] = {"+", "-", "*"};
    Value x = pick(w);
    int one[4] = {x.dim[0], 1, 1, 1};
    if (x.rank > 1) {
        emit(w, x, "t%d %s t%d:global_avgpool():tanh():reshape %s", x.number, sign[draw(w, 0, 2)], x.number,
             list(w, one, x.rank));
    } else if (x.dim[0] <= 8) {
        Value y = {.rank = 2, .dim = {x.dim[0], x.dim[0]}};
        emit(w, y, "t%d:reshape { %d, 1 } %s t%d:tanh()", x.number, x.dim[0], sign[draw(w, 0, 2)], x.number);
    }
}

static void residual(Writer *w)
{
    Value x = pick(w);
    if (x.rank < 2)
        return;
    emit(w, x, "t%d + t%d:conv%dd { %d, kernel = 3, pad = 1%s }%s", x.number, x.number, x.rank - 1, x.dim[0],
         weighted(w), chance(w, 50) ? ":relu()" : "");
}

static void concatenation(Writer *w)
{
    Value x = pick(w), y = x;
    int axis = draw(w, 1, x.rank);
    y.dim[axis - 1] *= 2;
    if (!fits(&y))
        return;
    if (axis == 1 && x.rank > 1 && chance(w, 50)) {
        y.dim[0] = x.dim[0] + 2;
        emit(w, y, "concat(t%d:conv%dd { 2, kernel = 1%s }, t%d)", x.number, x.rank - 1, weighted(w),
             x.number);
    } else {
        emit(w, y, "concat { t%d, t%d:tanh(), axis = %d }", x.number, x.number, axis);
    }
}

/* Only where the batch's variance tells something. */
static void batchnorm(Writer *w)
{
    Value x = w->value[w->values - 1];
    if (w->batch * positions(&x) >= 4)
        emit(w, x, "t%d:batchnorm%s%s", x.number, chance(w, 50) ? " { momentum = 0.3, eps = 0.001 }" : "()",
             chance(w, 50) ? ":relu()" : "");
}

static void dropout(Writer *w)
{
    Value x = pick(w);
    emit(w, x, "t%d:dropout { %s }", x.number, chance(w, 50) ? "0.5" : "0.2");
}

static void soft(Writer *w)
{
    Value x = pick(w);
    int axis = draw(w, 1, x.rank);
    if (x.dim[axis - 1] > 1)                     /* of one class the gradient is nothing but rounding */
        emit(w, x, "t%d:%s { axis = %d }", x.number, chance(w, 50) ? "softmax" : "log_softmax", axis);
}

static void reshaped(Writer *w)
{
    Value x = pick(w), y = x;
    if (x.rank == 1) {
        y = (Value){.rank = 2, .dim = {1, x.dim[0]}};
        for (int c = 2; c <= 4; c++)
            if (x.dim[0] % c == 0)
                y = (Value){.rank = 2, .dim = {c, x.dim[0] / c}};
    } else {
        y.rank--;
        y.dim[y.rank - 1] = x.dim[x.rank - 2] * x.dim[x.rank - 1];
        y.dim[y.rank] = 0;
    }
    emit(w, y, "t%d:reshape %s", x.number, list(w, y.dim, y.rank));
}

static void global(Writer *w)
{
    Value x = pick(w), y = {.rank = 1, .dim = {x.dim[0]}};
    if (x.rank > 1)
        emit(w, y, "t%d:global_avgpool()", x.number);
}

static const struct { void (*add)(Writer *w); int weight; } layers[] = {
    {conv, 26}, {fixed_conv, 2}, {pool, 14}, {linear, 6}, {pointwise, 16}, {with_number, 4},
    {with_tensor, 7}, {broadcasting, 4}, {residual, 5}, {concatenation, 6}, {batchnorm, 7}, {dropout, 4},
    {soft, 3}, {reshaped, 3}, {global, 2}
};

static void add_layer(Writer *w)
{
    int total = 0, i = 0;
    for (size_t k = 0; k < sizeof layers / sizeof *layers; k++)
        total += layers[k].weight;
    for (int at = draw(w, 0, total - 1); at >= layers[i].weight; i++)
        at -= layers[i].weight;
    layers[i].add(w);
}

/* -- the end of a network -- */

static const char *loss_text(Writer *w, const Value *y)
{
    bool classes = y->dim[0] > 1;
    if (classes && chance(w, 20))
        return format(w->c, "t%d:cross_entropy() + 0.5 * t%d:mse { name = \"wanted\" }", y->number,
                      y->number);
    if (classes && chance(w, 60))
        return format(w->c, "t%d:cross_entropy()", y->number);
    return format(w->c, "t%d:mse()", y->number);
}

/* The last tensor, sometimes reduced to votes, is what the loss sees. */
static void finish(Writer *w)
{
    if (chance(w, 40)) {
        Value x = w->value[w->values - 1], y = {.rank = 1, .dim = {draw(w, 2, 6)}};
        emit(w, y, "t%d%s:linear { %d }", x.number, x.rank > 1 ? ":flatten()" : "", y.dim[0]);
    }
    Value y = w->value[w->values - 1];
    const char *loss = loss_text(w, &y);
    if (chance(w, 25))
        text_add(&w->text, "return model { output = { last = t%d, early = t%d }, loss = %s }\n", y.number,
                 draw(w, 0, w->values - 1), loss);
    else
        text_add(&w->text, "return model { output = t%d, loss = %s }\n", y.number, loss);
}

Network random_network(Context *c, uint64_t seed)
{
    Writer w = {.c = c, .text = {.c = c}, .seed = seed};
    w.batch = draw(&w, 1, 4);
    add_input(&w, "image");
    if (chance(&w, 10))
        add_input(&w, "other");
    int most = draw(&w, 3, 13);
    for (int tries = 0; w.values < most && tries < 100; tries++)
        add_layer(&w);
    finish(&w);
    return (Network){w.text.data, w.batch, seed};
}

/* -- samples -- */

int sample_networks(Context *c, Network **network)
{
    int count = 0;
    *network = NULL;
    for (const Op *const *op = op_table(); *op; op++)
        for (const char *const *sample = (*op)->samples; sample && *sample; sample++) {
            bool has_loss = strstr(*sample, "loss =") != NULL;
            const char *text = has_loss ? *sample : format(c, "local function net() %s end\n"
                "local y = net()\nreturn model { output = y, loss = y:mse() }\n", *sample);
            PUSH(c, *network, count) = (Network){text, 2 + count % 2, (uint64_t)count};
        }
    return count;
}

int all_networks(Context *c, int count, Network **network)
{
    int all = sample_networks(c, network);
    for (int i = 0; i < count; i++)
        PUSH(c, *network, all) = random_network(c, base_seed() + (uint64_t)i);
    return all;
}

uint64_t base_seed(void)
{
    const char *given = getenv("CNNC_SEED");
    return given ? strtoull(given, NULL, 0) : 20250;
}
