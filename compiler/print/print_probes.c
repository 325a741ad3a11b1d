/* What a target's vectors do at best, as functions beside its leaves: multiplications with
 * addition in registers, reading, and copying as a kernel does it. */
#include "print.h"

/* As many chains as registers hold beside the two operands cover the latency of an
 * operation.  They tend to 1 and start apart from it and from each other: a compiler keeps
 * one for all that are equal, and none for what stays as it is. */
static void print_peak(Text *t, const char *prefix, int chains)
{
    Text text = {.c = t->c};
    text_add(&text, "\n/* n passes over %d chains; returns the operations of one pass. */\n"
                    "int @_probe_peak(int n, float *sum)\n{\n"
                    "    const @_vec factor = @_all(0.999f), term = @_all(0.001f);\n", chains);
    for (int i = 0; i < chains; i++)
        text_add(&text, "    @_vec s%d = @_all(%d.0f);\n", i, i + 2);
    text_add(&text, "    for (int i = 0; i < n; i++) {\n");
    for (int i = 0; i < chains; i++)
        text_add(&text, "        s%d = s%d * factor + term;\n", i, i);
    text_add(&text, "    }\n");
    for (int i = 1; i < chains; i++)
        text_add(&text, "    s0 += s%d;\n", i);
    text_add(&text, "    *sum = s0[0];\n    return 2 * %d * @_lanes;\n}\n", chains);
    print_prefixed(t, prefix, text.data);
}

enum { UNROLL = 8 };          /* vectors of a pass, enough chains for the sum */

static void print_traffic(Text *t, const char *prefix)
{
    Text copy = {.c = t->c}, read = {.c = t->c};
    text_add(&copy, "\n/* n floats, a multiple of %d vectors. */\n"
                    "void @_probe_copy(float *to, const float *from, int n)\n{\n"
                    "    const @_vec half = @_all(0.5f);\n"
                    "    for (int i = 0; i < n; i += %d * @_lanes) {\n", UNROLL, UNROLL);
    text_add(&read, "\nfloat @_probe_read(const float *from, int n)\n{\n");
    for (int k = 0; k < UNROLL; k++)
        text_add(&read, "    @_vec s%d = {0};\n", k);
    text_add(&read, "    for (int i = 0; i < n; i += %d * @_lanes) {\n", UNROLL);
    for (int k = 0; k < UNROLL; k++) {
        const char *place = k ? format(t->c, "i + %d * @_lanes", k) : "i";
        text_add(&copy, "        *(@_vec *)(to + %s) = half * @_fetch(from + %s);\n", place, place);
        text_add(&read, "        s%d += @_fetch(from + %s);\n", k, place);
    }
    text_add(&copy, "    }\n}\n");
    text_add(&read, "    }\n");
    for (int k = 1; k < UNROLL; k++)
        text_add(&read, "    s0 += s%d;\n", k);
    text_add(&read, "    return s0[0];\n}\n");
    print_prefixed(t, prefix, copy.data);
    print_prefixed(t, prefix, read.data);
}

void print_probes(Text *t, Text *table, const char *prefix, const Target *target)
{
    static const char *const names[] = {"peak", "copy", "read"};
    print_peak(t, prefix, target->registers - 4);
    print_traffic(t, prefix);
    for (int i = 0; i < 3; i++)
        text_add(table, "    {\"cnnc_probe_%s\", (const void *)%s_probe_%s},\n", names[i], prefix, names[i]);
}
