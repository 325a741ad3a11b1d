/* net_self_test: calls of forward whose outputs the reference interpreter has computed. */
#include "print.h"

#include <string.h>

/* Whether the file has the weights as a constant; else the caller brings the parameters. */
static bool has_weights(const Program *p)
{
    size_t bytes;
    return p->weights && (!print_weights_file(p, &bytes) || *p->options.target->cflags);
}

static int64_t aligned(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static int input_count(const Program *p, int k)
{
    return shape_count(&p->net->input[k]->shape);
}

static int output_count(const Program *p, int o)
{
    return shape_count(&p->output[o].node->shape);
}

/* Bytes of forward's workspace, then its inputs and outputs. */
static int64_t memory(const Program *p)
{
    int64_t bytes = aligned(p->forward->workspace);
    for (int k = 0; k < p->net->inputs; k++)
        bytes += p->net->input[k]->loss_only ? 0 : aligned(4 * (int64_t)input_count(p, k));
    for (int o = 0; o < p->outputs; o++)
        bytes += aligned(4 * (int64_t)output_count(p, o));
    return bytes;
}

/* With which parameters the interpreter has worked. */
static const char *meant(const Program *p)
{
    if (has_weights(p))
        return "";
    return p->weights ? "  params: those of the .weights file."
         : format(p->c, "  params: as %s_init(params, %llu) leaves them.", p->prefix,
                  (unsigned long long)p->options.seed);
}

static const char *arguments(const Program *p)
{
    const char *params = has_weights(p) ? "" : format(p->c, "const %s_params *params, ", p->prefix);
    return format(p->c, "%svoid *workspace", params);
}

void print_self_test_header(Text *t, const Program *p)
{
    if (!p->self_test)
        return;
    print_named(t, p,
                "#define $_SELF_TEST_BYTES %lld  /* of @_self_test's workspace, aligned like any */\n\n"
                "/* Calls forward with %d inputs drawn from a seed.  0: each output is as the reference\n"
                " * interpreter has it, within 1e-4 of its largest value; else the number of the first call\n"
                " * that is not, from 1.%s */\n"
                "int @_self_test(%s);\n\n", (long long)memory(p), p->options.self_test,
                meant(p), arguments(p));
}

static void expected(Text *t, const Program *p, int o)
{
    int vectors = p->options.self_test;
    print_named(t, p, "\nstatic const float @_expected_%s[%d][%d] = {\n", p->output[o].name, vectors,
                p->self_test[o].count);
    for (int k = 0; k < vectors; k++) {
        const SelfTest *s = &p->self_test[k * p->outputs + o];
        text_add(t, "    {");
        for (int i = 0; i < s->count; i++)
            text_add(t, "%s%s", i == 0 ? "" : i % 6 ? ", " : ",\n     ",
                     print_float(p->c, (double)s->expected[i]));
        text_add(t, "},\n");
    }
    text_add(t, "};\n");
}

static void differs(Text *t, const Program *p)
{
    print_named(t, p,
                "\n/* Whether a step-th element found is off by more than 1e-4 of the largest expected. */\n"
                "static int @_differs(const float *found, const float *expected, int count, int step)\n{\n"
                "    float largest = 0.0f;\n"
                "    for (int i = 0; i < count; i++) {\n"
                "        const float size = expected[i] < 0.0f ? -expected[i] : expected[i];\n"
                "        largest = size > largest ? size : largest;\n    }\n"
                "    for (int i = 0; i < count; i++) {\n"
                "        const float off = found[i * step] - expected[i], most = 1e-4f * largest;\n"
                "        if (!(off <= most && -off <= most))  /* nor is it when found is not a number */\n"
                "            return 1;\n    }\n"
                "    return 0;\n}\n");
}

static void place(Text *t, const char *name, const char *base, int64_t at)
{
    text_add(t, "    float *const %s = (float *)(void *)(%s + %lld);\n", name, base, (long long)at);
}

/* Local names that no input or output has. */
static void body(Text *t, const Program *p)
{
    const char *k = print_free_name(p, "call"), *i = print_free_name(p, "i");
    const char *base = print_free_name(p, "base");
    unsigned long long seed = p->options.seed;
    int64_t at = aligned(p->forward->workspace);
    Text places = {.c = p->c}, draws = {.c = p->c}, checks = {.c = p->c}, names = {.c = p->c};
    printer_argument_list(&names, 12, has_weights(p) ? format(p->c, "&%s_weights", p->prefix) : "params");
    for (int n = 0; n < p->net->inputs; n++) {
        const Input *in = p->net->input[n];
        if (in->loss_only)
            continue;
        place(&places, in->c_name, base, at);
        text_add(&draws,
                 "        for (int %s = 0; %s < %d; %s++)\n            %s[%s] = 2.0f * %s_random_unit("
                 "%lluu, %uu + %uu * (uint32_t)%s, (uint32_t)%s) - 1.0f;\n",
                 i, i, input_count(p, n), i, in->c_name, i, p->prefix, seed, self_test_stream(p, 0, n),
                 (unsigned)p->net->inputs, k, i);
        printer_argument_list(&names, 12, in->c_name);
        at += aligned(4 * (int64_t)input_count(p, n));
    }
    for (int o = 0; o < p->outputs; o++) {
        const char *name = p->output[o].node->storage->name;
        place(&places, name, base, at);
        text_add(&checks,
                 "        if (%s_differs(%s, %s_expected_%s[%s], %d, %d))\n            return %s + 1;\n",
                 p->prefix, name, p->prefix, p->output[o].name, k, p->self_test[o].count,
                 p->self_test[o].step, k);
        printer_argument_list(&names, 12, name);
        at += aligned(4 * (int64_t)output_count(p, o));
    }
    printer_argument_list(&names, 12, "workspace");
    text_add(t, "    char *const %s = (char *)workspace;\n%s    for (int %s = 0; %s < %d; %s++) {\n%s"
             "        %s_forward(%s);\n%s    }\n    return 0;\n}\n", base, places.data, k, k,
             p->options.self_test, k, draws.data, p->prefix, names.data, checks.data);
}

void print_self_test(Text *t, const Program *p)
{
    if (!p->self_test)
        return;
    for (int o = 0; o < p->outputs; o++)
        expected(t, p, o);
    differs(t, p);
    print_named(t, p, "\nint @_self_test(%s)\n{\n", arguments(p));
    body(t, p);
}
