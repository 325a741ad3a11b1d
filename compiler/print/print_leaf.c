/* Leaves as C: for each member of the family a body that keeps its accumulators in
 * registers, for each geometry a function of its own that hands its constants to the
 * body.  Bodies stand in the file for a C compiler to inline, or are linked into the
 * host for code that libtcc compiles; drivers and geometries are the same text. */
#include "print.h"

#include <math.h>
#include <string.h>

#define UNBOUNDED "3.4028235e+38f"
enum { WEIGHTS_AHEAD = 384 };                    /* floats, to be drawn from the second cache in time */
#define INLINE "static inline __attribute__((always_inline))"

/* -- geometry -- */

/* Members of the host compute a row of so many leaves in one call. */
static const char *const row_arguments = ", int times, const @_next *by";

/* What defines a leaf function: it hands its constants to the body. */
void print_leaf_macro(Text *t, const char *prefix, const char *place, bool hosted)
{
    print_prefixed(t, prefix, format(t->c,
              "\n"
              "/* A leaf of one geometry: what its body gets of the call's b, c, d, ahead, n1, n2; then how\n"
              " * it walks. */\n"
              "#define $_LEAF(name, body, its_b, its_c, its_d, its_ahead, its_n1, its_n2, ...) \\\n"
              "    %sstatic %svoid name( \\\n"
              "        float *y, const float *a, const float *b, const float *c, const float *d, \\\n"
              "        const float *ahead, int n1, int n2%s) \\\n"
              "    { \\\n"
              "        static const @_leaf g = {__VA_ARGS__}; \\\n"
              "        (void)b, (void)c, (void)d, (void)ahead, (void)n1, (void)n2; \\\n"
              "        %s_##body(y, a, its_b, its_c, its_d, its_ahead, its_n1, its_n2, &g%s); \\\n"
              "    }\n", place, hosted ? "" : "__attribute__((noinline)) ", hosted ? row_arguments : "",
              hosted ? "cnnc" : prefix, hosted ? ", times, by" : ""));
}

/* Lane by lane the larger or smaller, b where a is not a number: one instruction of some
 * processors, which gcc would find for a loop too, but looks long. */
static void print_choice(Text *t, const char *prefix, const Target *target, const char *name, char than)
{
    text_add(t, "%s", INLINE);
    print_prefixed(t, prefix, format(t->c, " @_vec @_%s(@_vec a, @_vec b)\n{\n", name));
    if (target->choice) {
        const char *one = format(t->c, target->choice, than == '>' ? "max" : "min");
        text_add(t, "#if defined %s && defined __GNUC__ && !defined __clang__\n", target->choice_guard);
        text_add(t, "    return %s;\n#else\n", one);
    }
    text_add(t, "    typedef int mask __attribute__((vector_size(%d)));\n", target->lanes * 4);
    text_add(t, "    const mask a_wins = a %c b;\n", than);
    print_prefixed(t, prefix, "    return (@_vec)((a_wins & (mask)a) | (~a_wins & (mask)b));\n");
    text_add(t, target->choice ? "#endif\n}\n\n" : "}\n\n");
}

/* Sums across lanes, halves onto halves. */
static void print_total(Text *t, const char *prefix, int lanes)
{
    Text text = {.c = t->c};
    text_add(&text, "\n/* The sum of all lanes, and what becomes of it as sum t, k. */\n"
                    INLINE " float @_total(@_vec s)\n{\n"
                    "#if defined __clang__ || __GNUC__ >= 12\n");
    for (int half = lanes / 2; half; half /= 2) {
        Text turned = {.c = t->c};
        for (int i = 0; i < lanes; i++)
            printer_argument_list(&turned, 8, format(t->c, "%d", (i + half) % lanes));
        text_add(&text, "    s += __builtin_shufflevector(s, s, %s);\n", turned.data);
    }
    text_add(&text, "#else\n    for (int half = @_lanes / 2; half; half /= 2)\n"
                    "        for (int i = 0; i < half; i++)\n            s[i] += s[i + half];\n#endif\n"
                    "    return s[0];\n}\n\n"
                    INLINE " void @_finish_total(float *y, @_vec s, int t, int k, const @_leaf *g)\n{\n"
                    "    const float sum = g->scale * @_total(s);\n"
                    "    float *const to = y + t * g->yt + k * g->yk;\n"
                    "    *to = g->add ? *to + sum : sum;\n}\n");
    print_prefixed(t, prefix, text.data);
}

static void print_seconds(Text *t, const char *prefix, int lanes)
{
    Text even = {.c = t->c};
    for (int i = 0; i < lanes; i++)
        printer_argument_list(&even, 8, format(t->c, "%d", 2 * i));
    print_prefixed(t, prefix,
              "/* Every second element. */\n"
              INLINE " @_vec @_second(const float *from)\n{\n"
              "#if defined __clang__ || __GNUC__ >= 12\n"
              "    return __builtin_shufflevector(@_fetch(from), @_fetch(from + @_lanes),\n        ");
    text_add(t, "%s);\n", even.data);
    print_prefixed(t, prefix,
              "#else\n    @_vec to;\n    for (int i = 0; i < @_lanes; i++)\n        to[i] = from[2 * i];\n"
              "    return to;\n#endif\n}\n\n");
}

void print_leaf_types(Text *t, const char *prefix, const Target *target, const Leaves *used)
{
    Context *c = t->c;
    int lanes = target->lanes;
    bool seconds = false, totals = false;
    for (int i = 0; used && i < used->leaves; i++) {
        seconds |= used->leaf[i].leaf->a.spread > 1;
        totals |= used->leaf[i].leaf->across;
    }
    print_prefixed(t, prefix,
              "\n"
              "/* How a leaf walks: loops n0 .. n3 (n1 and n2 come with the call; in the last pass of\n"
              " * n0, last replaces n3); steps of its operands a, b along the loops, along the tile\n"
              " * (t) and from vector to vector (k); likewise of the addends c and d and the result y,\n"
              " * whose lanes lie `spread` apart; what happens to the sum, which may add to what is there;\n"
              " * what to draw into the cache.  Gated, c is no addend: the sum passes where c is between\n"
              " * low and high. */\n"
              "typedef struct @_leaf {\n"
              "    float scale, low, high;\n"
              "    int n0, n3, last, a0, a1, a2, a3, b0, b1, b2, b3;\n"
              "    int at, ak, bt, bk, ct, ck, dt, dk, yt, yk;\n"
              "    int c_vector, d_vector, valid, spread, add, gated, ahead_lines, next_tile;\n"
              "} @_leaf;\n");
    if (!used || used->hosted)
        print_prefixed(t, prefix,
              "\n"
              "/* How far the operands move from one leaf of a row to the next. */\n"
              "typedef struct @_next { int y, a, b, c, d, ahead; } @_next;\n");
    if (!used)
        return;
    print_prefixed(t, prefix, format(c,
              "\n/* Numbers kept for a later pass would take the registers of the sums. */\n"
              "#if defined __GNUC__ && !defined __clang__\n"
              "#pragma GCC optimize (\"no-predictive-commoning\")\n#endif\n"
              "\nenum { @_lanes = %d };\n"
              "typedef float @_vec __attribute__((vector_size(%d), aligned(4), may_alias));\n\n",
              lanes, lanes * 4));
    print_prefixed(t, prefix,
              INLINE " @_vec @_fetch(const float *from)\n{\n    return *(const @_vec *)from;\n}\n\n"
              INLINE " @_vec @_all(float x)\n{\n    return (@_vec){0} + x;\n}\n\n");
    print_choice(t, prefix, target, "larger", '>');
    print_choice(t, prefix, target, "smaller", '<');
    if (seconds)
        print_seconds(t, prefix, lanes);
    print_prefixed(t, prefix,
              "/* An addend of sum t, k. */\n"
              INLINE " @_vec @_addend(const float *from, int vector)\n{\n"
              "    return vector ? @_fetch(from) : @_all(*from);\n}\n\n"
              INLINE " void @_store(float *y, @_vec s, int valid, int spread, int add)\n{\n"
              "    if (spread == 1 && valid == @_lanes) {\n"
              "        if (add)\n            s += @_fetch(y);\n"
              "        *(@_vec *)y = s;\n        return;\n    }\n"
              "    if (spread > 1 || add) {\n        for (int i = 0; i < valid; i++)\n"
              "            y[i * spread] = add ? y[i * spread] + s[i] : s[i];\n        return;\n    }\n"
              "    const float *from = (const float *)&s;\n");
    for (int half = lanes / 2; half; half /= 2)
        text_add(t, "    if (valid & %1$d) {\n        __builtin_memcpy(y, from, %2$d);\n"
                    "        y += %1$d, from += %1$d;\n    }\n", half, half * 4);
    print_prefixed(t, prefix, format(c,
              "}\n\n"
              "/* s where x is between the bounds, elsewhere 0. */\n"
              INLINE " @_vec @_gate(@_vec s, @_vec x, const @_leaf *g)\n{\n"
              "    typedef int mask __attribute__((vector_size(%d)));\n"
              "    mask open = x > @_all(g->low);\n"
              "    if (g->high < " UNBOUNDED ")\n        open &= x < @_all(g->high);\n"
              "    return (@_vec)(open & (mask)s);\n}\n\n", lanes * 4));
    print_prefixed(t, prefix,
              "/* What becomes of sum t, k before it is stored; the last vector has `valid` lanes. */\n"
              INLINE " void @_finish(\n"
              "    float *y, @_vec s, const float *c, const float *d, int t, int k, int last,"
              " const @_leaf *g)\n{\n"
              "    if (g->scale != 1.0f)\n        s *= g->scale;\n"
              "    if (c && !g->gated)\n        s += @_addend(c + t * g->ct + k * g->ck, g->c_vector);\n"
              "    if (d)\n        s += @_addend(d + t * g->dt + k * g->dk, g->d_vector);\n"
              "    if (g->gated)\n"
              "        s = @_gate(s, @_addend(c + t * g->ct + k * g->ck, g->c_vector), g);\n"
              "    else if (g->low > -" UNBOUNDED ")\n        s = @_larger(s, @_all(g->low));\n"
              "    if (!g->gated && g->high < " UNBOUNDED ")\n"
              "        s = @_smaller(s, @_all(g->high));\n"
              "    const int valid = last ? g->valid : @_lanes;\n"
              "    @_store(y + t * g->yt + k * g->yk, s, valid, g->spread, g->add);\n}\n");
    if (totals)
        print_total(t, prefix, lanes);
}

/* -- bodies -- */

static const char *const arguments =
    "\n    float *y, const float *a, const float *b, const float *c, const float *d, const float *ahead,\n"
    "    int n1, int n2, const @_leaf *g";

const char *print_leaf_member(Context *c, const Leaf *leaf)
{
    if (leaf->window)
        return format(c, "win_%dx%d_s%d", leaf->vectors, leaf->tile, leaf->stride);
    if (leaf->matrix)
        return format(c, "transform_%s", leaf->matrix->name);
    const char *kind = leaf->kind == LEAF_MAX ? "max" : leaf->kind == LEAF_SUM ? "sum"
                     : leaf->b.vector ? "mul" : "fma";
    if (leaf->across)
        kind = leaf->kind == LEAF_SUM ? "total" : "dot";
    const char *stride = leaf->stride ? format(c, "_s%d", leaf->stride) : "";
    const char *spread = leaf->a.spread > 1 ? format(c, "_e%d", leaf->a.spread) : "";
    const char *taps = leaf->taps ? format(c, "_n%d", leaf->taps) : "";
    return format(c, "%s_%dx%d%s%s%s", kind, leaf->tile, leaf->vectors, spread, stride, taps);
}

void print_leaf_declaration(Text *t, const char *prefix, const Leaf *leaf)
{
    const char *list = format(t->c, "(%s%s);\n", arguments, row_arguments);
    text_add(t, "\nvoid cnnc_%s", print_leaf_member(t->c, leaf));
    print_prefixed(t, prefix, list);
}

static const char *step(Context *c, int times, const char *name)
{
    if (times < 2)
        return times ? format(c, " + g->%s", name) : "";
    return format(c, " + %d * g->%s", times, name);
}

/* Along the tile: numbers of b that share a vector, else vectors of a. */
static const char *tile_step(Context *c, const Leaf *leaf, int times)
{
    if (!leaf->stride || !times)
        return step(c, times, leaf_shares(leaf) ? "bt" : "at");
    return format(c, " + %d", times * leaf->stride);
}

/* One pass of the innermost loop. */
static void print_step(Text *t, const Leaf *leaf)
{
    Context *c = t->c;
    bool scalar = leaf_shares(leaf);
    const char *in = "                    ";
    for (int k = 0; scalar && k < leaf->vectors; k++)
        text_add(t, "%s v%d = @_fetch(p%s)%s", k ? "," : format(c, "%sconst @_vec", in), k, step(c, k, "ak"),
                 k == leaf->vectors - 1 ? ";\n" : "");
    for (int k = 0; leaf->kind == LEAF_FMA && !scalar && k < leaf->vectors; k++)
        text_add(t, "%sconst @_vec w%d = @_fetch(q%s);\n", in, k, step(c, k, "bk"));
    for (int i = 0; i < leaf->tile; i++) {
        if (scalar)
            text_add(t, "%sconst float x%d = *(q%s);", in, i, tile_step(c, leaf, i));
        for (int k = 0; k < leaf->vectors; k++) {
            const char *load = leaf->a.spread > 1 ? "@_second" : "@_fetch";
            const char *along = scalar ? "" : tile_step(c, leaf, i);
            const char *a = format(c, "%s(p%s%s)", load, along, leaf->across ? "" : step(c, k, "ak"));
            if (scalar)                          /* on one line */
                text_add(t, " s%d_%d += v%d * x%d;%s", i, k, k, i, k == leaf->vectors - 1 ? "\n" : "");
            else if (leaf->kind == LEAF_FMA)
                text_add(t, "%ss%d_%d += %s * w%d;\n", in, i, k, a, k);
            else if (leaf->kind == LEAF_SUM)
                text_add(t, "%ss%d_%d += %s;\n", in, i, k, a);
            else
                text_add(t, "%ss%d_%d = @_larger(%s, s%d_%d);\n", in, i, k, a, i, k);
        }
    }
}

/* A statement for every sum, as many as fit on a line; its place in the tile (1), its vector (2), whether
 * that is the last, of which only `valid` lanes exist (3). */
static void each_sum(Text *t, const Leaf *leaf, const char *prefix, int indent, const char *statement)
{
    size_t column = 0;
    for (int i = 0; i < leaf->tile; i++)
        for (int k = 0; k < leaf->vectors; k++) {
            bool last = leaf->window || k == leaf->vectors - 1;
            const char *one = format(t->c, statement, i, k, last);
            size_t width = strlen(one);
            for (const char *at = one; (at = strchr(at, '@')); at++)
                width += strlen(prefix) - 1;
            bool beside = column && column + 1 + width <= LINE;
            if (beside)
                text_add(t, " %s", one);
            else
                text_add(t, "%s%*s%s", column ? "\n" : "", indent, "", one);
            column = beside ? column + 1 + width : (size_t)indent + width;
        }
    text_add(t, "\n");
}

/* What @_finish does, step by step for all sums: the host's members ask once for what a
 * compiler knows. */
static void print_phases(Text *t, const Leaf *leaf, const char *prefix)
{
    static const struct { const char *head, *statement; } phase[] = {
        {"if (g->scale != 1.0f) {", "s%1$d_%2$d *= g->scale;"},
        {"if (c && g->c_vector && !g->gated) {", "s%1$d_%2$d += @_fetch(c + %1$d * ct + %2$d * g->ck);"},
        {"if (c && !g->c_vector && !g->gated) {", "s%1$d_%2$d += @_all(c[%1$d * ct + %2$d * g->ck]);"},
        {"if (d && g->d_vector) {", "s%1$d_%2$d += @_fetch(d + %1$d * dt + %2$d * g->dk);"},
        {"if (d && !g->d_vector) {", "s%1$d_%2$d += @_all(d[%1$d * dt + %2$d * g->dk]);"},
        {"if (g->gated) {", "s%1$d_%2$d = @_gate(s%1$d_%2$d, @_fetch(c + %1$d * ct + %2$d * g->ck), g);"},
        {"if (!g->gated && g->low > -" UNBOUNDED ") {\n        const @_vec low = @_all(g->low);",
         "s%1$d_%2$d = @_larger(s%1$d_%2$d, low);"},
        {"if (!g->gated && g->high < " UNBOUNDED ") {\n        const @_vec high = @_all(g->high);",
         "s%1$d_%2$d = @_smaller(s%1$d_%2$d, high);"},
    };
    const char *lanes = leaf->stride && leaf->kind == LEAF_FMA ? format(t->c, "%d", leaf->lanes) : NULL;
    text_add(t, "    const int ct = %s, dt = %s, yt = %s, yk = g->yk;\n", lanes ? "0" : "g->ct",
             lanes ? lanes : "g->dt", lanes ? lanes : "g->yt");
    for (size_t i = 0; i < sizeof phase / sizeof *phase; i++) {
        text_add(t, "    %s\n", phase[i].head);
        each_sum(t, leaf, prefix, 8, phase[i].statement);
        text_add(t, "    }\n");
    }
    const char *whole = "*(@_vec *)(y + %1$d * yt + %2$d * yk) = s%1$d_%2$d;";
    if (leaf->window) {
        each_sum(t, leaf, prefix, 4, whole);
        return;
    }
    text_add(t, "    if (g->valid == @_lanes && g->spread == 1 && !g->add) {\n");
    each_sum(t, leaf, prefix, 8, whole);
    text_add(t, "    } else {\n");
    each_sum(t, leaf, prefix, 8, "@_store(y + %1$d * yt + %2$d * yk, s%1$d_%2$d, %3$d ? g->valid : @_lanes,"
                                 " g->spread, g->add);");
    text_add(t, "    }\n");
}

/* The reduction as loops, the innermost's body written out for the tile; soon: what to draw
 * into the cache meanwhile. */
static void print_loops(Text *t, const Leaf *leaf, const char *soon)
{
    text_add(t,
             "    for (int i0 = 0; i0 < g->n0; i0++) {\n%s"
             "        for (int i1 = 0; i1 < n1; i1++)\n"
             "            for (int i2 = 0; i2 < n2; i2++) {\n"
             "                const float *p = a + i0 * g->a0 + i1 * g->a1 + i2 * g->a2;\n",
             leaf->taps ? "" : "        const int n3 = i0 < g->n0 - 1 ? g->n3 : g->last;\n");
    if (leaf->kind == LEAF_FMA)
        text_add(t, "                const float *q = b + i0 * g->b0 + i1 * g->b1 + i2 * g->b2;\n");
    if (leaf_shares(leaf))
        text_add(t,
                 "                for (int line = 0; line < g->ahead_lines; line++, %1$s += 16)\n"
                 "                    __builtin_prefetch(%1$s);\n", soon);
    if (leaf_shares(leaf) && leaf->tile > 1)
        text_add(t, "                if (g->next_tile) {\n#pragma GCC unroll %1$d\n"
                    "                    for (int i = %1$d; i < %2$d; i++)\n"
                    "                        __builtin_prefetch(q + i * g->bt);\n"
                    "                }\n", leaf->tile, 2 * leaf->tile);
    if (leaf->taps)                              /* neighbours in the tile share what they load */
        text_add(t, "#pragma GCC unroll %d\n                for (int i3 = 0; i3 < %d; i3++) {\n", leaf->taps,
                 leaf->taps);
    else
        text_add(t, "%s                for (int i3 = 0; i3 < n3; i3++) {\n",
                 leaf->rolled && leaf_shares(leaf) ? "#pragma GCC unroll 1\n" : "");
    if (leaf->rolled && leaf_shares(leaf))
        for (int k = 0; k < leaf->vectors; k++)
            text_add(t, "%s__builtin_prefetch(p + %d%s)%s", k ? ", " : "                    ", WEIGHTS_AHEAD,
                     step(t->c, k, "ak"), k == leaf->vectors - 1 ? ";\n" : "");
    print_step(t, leaf);
    text_add(t, "                    p += %s%s", leaf->stride ? format(t->c, "%d", leaf->lanes) : "g->a3",
             leaf->kind == LEAF_FMA ? ", " : ";\n");
    if (leaf->kind == LEAF_FMA)
        text_add(t, "q += %s;\n",
                 !leaf->stride ? "g->b3" : leaf_shares(leaf) ? "1" : format(t->c, "%d", leaf->lanes));
    text_add(t, "                }\n            }\n    }\n");
}

static const char *lanes_on(Context *c, int vectors, const Leaf *leaf)
{
    return vectors ? format(c, " + %d", vectors * leaf->lanes) : "";
}

/* The sums that meet place x of row y of operand a. */
static void print_place(Text *t, const Leaf *leaf, int x, int y)
{
    int stride = leaf->stride / leaf->lanes;
    text_add(t, "        v = @_fetch(p%s);\n", lanes_on(t->c, x, leaf));
    for (int k = 0; k < leaf->vectors; k++) {
        int row = y - k * stride, sums = 0;
        for (int i = 0; i < leaf->tile && row >= 0 && row < leaf->window; i++) {
            int column = x - i * stride;
            if (column >= 0 && column < leaf->window)
                text_add(t, "%ss%d_%d += v * w%d_%d;", sums++ ? " " : "        ", i, k, row, column);
        }
        text_add(t, sums ? "\n" : "");
    }
}

/* A window of all taps: every row of operand a that exists meets its rows of weights, and is
 * loaded once. */
static void print_window(Text *t, const Leaf *leaf)
{
    int stride = leaf->stride / leaf->lanes;
    int rows = leaf->window + (leaf->vectors - 1) * stride;
    int columns = leaf->window + (leaf->tile - 1) * stride;
    for (int row = 0; row < leaf->window; row++)
        for (int column = 0; column < leaf->window; column++)
            text_add(t, "    const @_vec w%d_%d = @_fetch(b%s%s);\n", row, column, step(t->c, row, "b2"),
                     lanes_on(t->c, column, leaf));
    text_add(t, "    const float *p = a;\n    @_vec v;\n");
    for (int row = 0; row < rows; row++) {
        text_add(t, "    if (n1 <= %d && %d < n2) {\n", row, row);
        for (int column = 0; column < columns; column++)
            print_place(t, leaf, column, row);
        text_add(t, row < rows - 1 ? "    }\n    p += g->a2;\n" : "    }\n");
    }
}

/* All accumulators filled, then finished. */
static void print_sums(Text *t, const Leaf *leaf, const char *prefix, bool is_static)
{
    Context *c = t->c;
    const char *start = leaf->kind == LEAF_MAX ? "@_all(-INFINITY)" : "{0}";
    Text sums = {.c = c};
    for (int i = 0; i < leaf->tile; i++)
        for (int k = 0; k < leaf->vectors; k++)
            printer_argument_list(&sums, 8, format(c, "s%d_%d = %s", i, k, start));
    text_add(t, "    @_vec %s;\n", sums.data);
    if (leaf->window)
        print_window(t, leaf);
    else
        print_loops(t, leaf, is_static ? "ahead" : "soon");
    if (leaf->across)
        each_sum(t, leaf, prefix, 4, "@_finish_total(y, s%1$d_%2$d, %1$d, %2$d, g);");
    else if (is_static)
        each_sum(t, leaf, prefix, 4, "@_finish(y, s%1$d_%2$d, c, d, %1$d, %2$d, %3$d, g);");
    else
        print_phases(t, leaf, prefix);
}

void print_leaf_body(Text *out, const char *prefix, const Leaf *leaf, bool is_static)
{
    Text text = {.c = out->c}, *t = &text;
    text_add(t, "\n%svoid @_%s(%s%s)\n{\n", is_static ? INLINE " " : "", print_leaf_member(t->c, leaf),
             arguments, is_static ? "" : row_arguments);
    if (!leaf_shares(leaf))
        text_add(t, "    (void)ahead;\n");
    if (leaf->kind != LEAF_FMA)
        text_add(t, "    (void)b;\n");
    if (!is_static)
        text_add(t, "    for (;;) {\n%s", leaf_shares(leaf) ? "    const float *soon = ahead;\n" : "");
    if (leaf->matrix)
        print_transform_body(t, leaf, is_static);
    else
        print_sums(t, leaf, prefix, is_static);
    if (!is_static)
        text_add(t, "    if (--times <= 0)\n        break;\n    y += by->y, a += by->a, b += by->b;\n"
                    "    c += by->c, d += by->d, ahead += by->ahead;\n    }\n");
    text_add(t, "}\n");
    print_prefixed(out, prefix, text.data);
}

/* -- a geometry's own function -- */

/* No bound is the largest number: libtcc has no constant infinity. */
static const char *limit(Context *c, float value)
{
    return isinf(value) ? (value < 0 ? "-" UNBOUNDED : UNBOUNDED) : print_float(c, (double)value);
}

static void numbers(Text *t, const int *number, int count)
{
    for (int i = 0; i < count; i++)
        printer_argument_list(t, 4, format(t->c, "%d", number[i]));
}

/* How often a loop runs, or which rows a transform has: all, where nothing is clipped. */
static const char *count_text(Context *c, const Leaf *l, int i, const char *given)
{
    bool first = l->matrix && i == 1;
    return l->count[i] && !l->window ? format(c, "%d", first ? 0 : l->count[i]) : given;
}

/* The rest of the macro's arguments: two leaves of one geometry have one text. */
const char *print_leaf_geometry(Context *c, const Leaf *l)
{
    const Operand *a = &l->a, *b = &l->b;
    Text t = {.c = c};
    numbers(&t, (const int[]){l->count[0], l->count[3], l->last,
                              a->step[0], a->step[1], a->step[2], a->step[3],
                              b->step[0], b->step[1], b->step[2], b->step[3]}, 11);
    numbers(&t, (const int[]){a->t, a->k, b->t, b->k, l->bias.t, l->bias.k, l->add.t, l->add.k,
                              l->y.t, l->y.k}, 10);
    numbers(&t, (const int[]){l->bias.vector, l->add.vector, l->valid, l->y.spread, l->accumulate, l->gated,
                              l->ahead_lines, l->next_tile}, 8);
    return format(c, "%s, %s, %s, %s, %s, %s, %s, %s, %s, %s,\n    %s", print_leaf_member(c, l),
                  b->node ? "b" : "0", l->bias.node ? "c" : "0", l->add.node ? "d" : "0",
                  l->ahead.node ? "ahead" : "0",
                  count_text(c, l, 1, "n1"), count_text(c, l, 2, "n2"),
                  print_float(c, (double)l->scale), limit(c, l->low), limit(c, l->high), t.data);
}
