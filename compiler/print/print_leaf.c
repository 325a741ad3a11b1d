/* Leaves as C: for each member of the family a body that keeps its accumulators in
 * registers, for each geometry a function of its own that hands its constants to the
 * body.  Bodies stand in the file for a C compiler to inline, or are linked into the
 * host for code that libtcc compiles; drivers and geometries are the same text. */
#include "print.h"

#include <math.h>
#include <string.h>

#define UNBOUNDED "3.4028235e+38f"
#define INLINE "static inline __attribute__((always_inline))"

/* -- geometry -- */

/* Members of the host compute a row of so many leaves in one call. */
static const char *const row_arguments = ", int times, const @_next *by";

/* What defines a leaf function: it hands its constants to the body. */
void print_leaf_macro(Text *t, const char *prefix, bool hosted)
{
    print_prefixed(t, prefix, format(t->c,
              "\n"
              "/* A leaf of one geometry: what its body gets of the call's b, c, d, ahead, n1, n2; then how\n"
              " * it walks. */\n"
              "#define $_LEAF(name, body, b_, c_, d_, ahead_, n1_, n2_, ...) \\\n"
              "    static %svoid name( \\\n"
              "        float *y, const float *a, const float *b, const float *c, const float *d, \\\n"
              "        const float *ahead, int n1, int n2%s) \\\n"
              "    { \\\n"
              "        static const @_leaf g = {__VA_ARGS__}; \\\n"
              "        (void)b, (void)c, (void)d, (void)ahead, (void)n1, (void)n2; \\\n"
              "        %s_##body(y, a, b_, c_, d_, ahead_, n1_, n2_, &g%s); \\\n"
              "    }\n", hosted ? "" : "__attribute__((noinline)) ", hosted ? row_arguments : "",
              hosted ? "cnnc" : prefix, hosted ? ", times, by" : ""));
}

/* Lane by lane the larger or smaller, b where a is not a number.  gcc finds the processor's
 * instruction for the loop, but looks long: that is for the host's build alone. */
static void print_choice(Text *t, const char *prefix, int lanes, const char *name, char than, bool host)
{
    const char *loop = "    @_vec to;\n    for (int i = 0; i < @_lanes; i++)\n"
                       "        to[i] = a[i] %c b[i] ? a[i] : b[i];\n    return to;\n";
    const char *mask = "    typedef int mask __attribute__((vector_size(%2$d)));\n"
                       "    const mask a_wins = a %1$c b;\n"
                       "    return (@_vec)((a_wins & (mask)a) | (~a_wins & (mask)b));\n";
    print_prefixed(t, prefix, format(t->c, INLINE " @_vec @_%s(@_vec a, @_vec b)\n{\n", name));
    print_prefixed(t, prefix, format(t->c, host ? loop : mask, than, lanes * 4));
    text_add(t, "}\n\n");
}

void print_leaf_types(Text *t, const char *prefix, int lanes, bool bodies, bool host)
{
    Context *c = t->c;
    print_prefixed(t, prefix,
              "\n"
              "/* How a leaf walks: loops n0 .. n3 (n1 and n2 come with the call; in the last pass of\n"
              " * n0, last replaces n3); steps of its operands a, b along the loops, along the tile\n"
              " * (t) and from vector to vector (k); likewise of the addends c and d and the result y,\n"
              " * whose lanes lie `spread` apart; what happens to the sum. */\n"
              "typedef struct @_leaf {\n"
              "    float scale, low, high;\n"
              "    int n0, n3, last, a0, a1, a2, a3, b0, b1, b2, b3;\n"
              "    int at, ak, bt, bk, ct, ck, dt, dk, yt, yk;\n"
              "    int c_vector, d_vector, valid, spread, ahead_lines;\n"
              "} @_leaf;\n");
    if (host || !bodies)
        print_prefixed(t, prefix,
              "\n"
              "/* How far the operands move from one leaf of a row to the next. */\n"
              "typedef struct @_next { int y, a, b, c, d, ahead; } @_next;\n");
    if (!bodies)
        return;
    print_prefixed(t, prefix, format(c,
              "\nenum { @_lanes = %d };\n"
              "typedef float @_vec __attribute__((vector_size(%d), aligned(4), may_alias));\n\n",
              lanes, lanes * 4));
    Text even = {.c = c};
    for (int i = 0; i < lanes; i++)
        printer_argument_list(&even, 8, format(c, "%d", 2 * i));
    print_prefixed(t, prefix,
              INLINE " @_vec @_load(const float *from)\n{\n    return *(const @_vec *)from;\n}\n\n"
              INLINE " @_vec @_all(float x)\n{\n    return (@_vec){0} + x;\n}\n\n");
    print_choice(t, prefix, lanes, "larger", '>', host);
    print_choice(t, prefix, lanes, "smaller", '<', host);
    print_prefixed(t, prefix,
              "/* Every second element. */\n"
              INLINE " @_vec @_second(const float *from)\n{\n"
              "#if defined __clang__ || __GNUC__ >= 12\n"
              "    return __builtin_shufflevector(@_load(from), @_load(from + @_lanes),\n        ");
    text_add(t, "%s);\n", even.data);
    print_prefixed(t, prefix,
              "#else\n    @_vec to;\n    for (int i = 0; i < @_lanes; i++)\n        to[i] = from[2 * i];\n"
              "    return to;\n#endif\n}\n\n"
              "/* An addend of sum t, k. */\n"
              INLINE " @_vec @_addend(const float *from, int vector)\n{\n"
              "    return vector ? @_load(from) : @_all(*from);\n}\n\n"
              INLINE " void @_store(float *y, @_vec s, int valid, int spread)\n{\n"
              "    if (spread == 1 && valid == @_lanes)\n        *(@_vec *)y = s;\n"
              "    for (int i = 0; i < valid && !(spread == 1 && valid == @_lanes); i++)\n"
              "        y[i * spread] = s[i];\n}\n\n"
              "/* What becomes of sum t, k before its first `valid` lanes are stored. */\n"
              INLINE " void @_finish(\n"
              "    float *y, @_vec s, const float *c, const float *d, int t, int k, int valid,"
              " const @_leaf *g)\n{\n"
              "    if (g->scale != 1.0f)\n        s *= g->scale;\n"
              "    if (c)\n        s += @_addend(c + t * g->ct + k * g->ck, g->c_vector);\n"
              "    if (d)\n        s += @_addend(d + t * g->dt + k * g->dk, g->d_vector);\n"
              "    if (g->low > -" UNBOUNDED ")\n        s = @_larger(s, @_all(g->low));\n"
              "    if (g->high < " UNBOUNDED ")\n"
              "        s = @_smaller(s, @_all(g->high));\n"
              "    @_store(y + t * g->yt + k * g->yk, s, valid, g->spread);\n}\n");
}

/* -- bodies -- */

static const char *const arguments =
    "\n    float *y, const float *a, const float *b, const float *c, const float *d, const float *ahead,\n"
    "    int n1, int n2, const @_leaf *g";

const char *print_leaf_member(Context *c, const Leaf *leaf)
{
    if (leaf->matrix)
        return format(c, "transform_%s", leaf->matrix->name);
    const char *kind = leaf->kind == LEAF_MAX ? "max" : leaf->kind == LEAF_SUM ? "sum"
                     : leaf->b.vector ? "mul" : "fma";
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
        text_add(t, "%sconst @_vec v%d = @_load(p%s);\n", in, k, step(c, k, "ak"));
    for (int k = 0; leaf->kind == LEAF_FMA && !scalar && k < leaf->vectors; k++)
        text_add(t, "%sconst @_vec w%d = @_load(q%s);\n", in, k, step(c, k, "bk"));
    for (int i = 0; i < leaf->tile; i++) {
        if (scalar)
            text_add(t, "%sconst float x%d = *(q%s);", in, i, tile_step(c, leaf, i));
        for (int k = 0; k < leaf->vectors; k++) {
            const char *load = leaf->a.spread > 1 ? "@_second" : "@_load";
            const char *along = scalar ? "" : tile_step(c, leaf, i);
            const char *a = format(c, "%s(p%s%s)", load, along, step(c, k, "ak"));
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

/* A statement for every sum; its place in the tile (1), its vector (2), how much of it exists (3). */
static void each_sum(Text *t, const Leaf *leaf, const char *statement)
{
    for (int i = 0; i < leaf->tile; i++)
        for (int k = 0; k < leaf->vectors; k++)
            text_add(t, statement, i, k, k == leaf->vectors - 1 ? "g->valid" : "@_lanes");
}

/* What @_finish does, step by step for all sums: the host's members ask once for what a
 * compiler knows. */
static void print_phases(Text *t, const Leaf *leaf)
{
    static const struct { const char *head, *statement; } phase[] = {
        {"if (g->scale != 1.0f) {", "s%1$d_%2$d *= g->scale;"},
        {"if (c && g->c_vector) {", "s%1$d_%2$d += @_load(c + %1$d * g->ct + %2$d * g->ck);"},
        {"if (c && !g->c_vector) {", "s%1$d_%2$d += @_all(c[%1$d * g->ct + %2$d * g->ck]);"},
        {"if (d && g->d_vector) {", "s%1$d_%2$d += @_load(d + %1$d * g->dt + %2$d * g->dk);"},
        {"if (d && !g->d_vector) {", "s%1$d_%2$d += @_all(d[%1$d * g->dt + %2$d * g->dk]);"},
        {"if (g->low > -" UNBOUNDED ") {\n        const @_vec low = @_all(g->low);",
         "s%1$d_%2$d = @_larger(s%1$d_%2$d, low);"},
        {"if (g->high < " UNBOUNDED ") {\n        const @_vec high = @_all(g->high);",
         "s%1$d_%2$d = @_smaller(s%1$d_%2$d, high);"},
        {"const int yt = g->yt, yk = g->yk;\n    if (g->valid == @_lanes && g->spread == 1) {",
         "*(@_vec *)(y + %1$d * yt + %2$d * yk) = s%1$d_%2$d;"},
    };
    for (size_t i = 0; i < sizeof phase / sizeof *phase; i++) {
        text_add(t, "    %s\n", phase[i].head);
        each_sum(t, leaf, format(t->c, "        %s\n", phase[i].statement));
        text_add(t, "    }\n");
    }
    text_add(t, "    else {\n");
    each_sum(t, leaf, "        @_store(y + %1$d * yt + %2$d * yk, s%1$d_%2$d, %3$s, g->spread);\n");
    text_add(t, "    }\n");
}

/* All accumulators filled, then finished. */
static void print_sums(Text *t, const Leaf *leaf, bool is_static)
{
    Context *c = t->c;
    const char *start = leaf->kind == LEAF_MAX ? "@_all(-INFINITY)" : "{0}";
    Text sums = {.c = c};
    for (int i = 0; i < leaf->tile; i++)
        for (int k = 0; k < leaf->vectors; k++)
            printer_argument_list(&sums, 8, format(c, "s%d_%d = %s", i, k, start));
    text_add(t, "    @_vec %s;\n", sums.data);
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
                 "                for (int line = 0; line < g->ahead_lines; line++, ahead += 16)\n"
                 "                    __builtin_prefetch(ahead);\n");
    if (leaf->taps)                              /* neighbours in the tile share what they load */
        text_add(t, "#pragma GCC unroll %d\n                for (int i3 = 0; i3 < %d; i3++) {\n", leaf->taps,
                 leaf->taps);
    else
        text_add(t, "                for (int i3 = 0; i3 < n3; i3++) {\n");
    print_step(t, leaf);
    text_add(t, "                    p += %s;\n", leaf->stride ? format(c, "%d", leaf->lanes) : "g->a3");
    if (leaf->kind == LEAF_FMA)
        text_add(t, "                    q += %s;\n",
                 !leaf->stride ? "g->b3" : leaf_shares(leaf) ? "1" : format(c, "%d", leaf->lanes));
    text_add(t, "                }\n            }\n    }\n");
    if (is_static)
        each_sum(t, leaf, "    @_finish(y, s%1$d_%2$d, c, d, %1$d, %2$d, %3$s, g);\n");
    else
        print_phases(t, leaf);
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
        text_add(t, "    for (;;) {\n");
    if (leaf->matrix)
        print_transform_body(t, leaf, is_static);
    else
        print_sums(t, leaf, is_static);
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
    return l->count[i] ? format(c, "%d", first ? 0 : l->count[i]) : given;
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
    numbers(&t, (const int[]){l->bias.vector, l->add.vector, l->valid, l->y.spread, l->ahead_lines}, 5);
    return format(c, "%s, %s, %s, %s, %s, %s, %s, %s, %s, %s,\n    %s", print_leaf_member(c, l),
                  b->node ? "b" : "0", l->bias.node ? "c" : "0", l->add.node ? "d" : "0",
                  l->ahead.node ? "ahead" : "0",
                  count_text(c, l, 1, "n1"), count_text(c, l, 2, "n2"),
                  print_float(c, (double)l->scale), limit(c, l->low), limit(c, l->high), t.data);
}

/* -- the host's family -- */

enum { FAMILY_TILE = 14, FAMILY_VECTORS = 4, FAMILY_TAPS = 3 };

/* Steps along the tile that members know: of one or two vectors.  Numbers side by side would
 * tempt gcc to keep those of the next pass, for which there are no registers. */
static bool stride_in_family(const Leaf *l, int stride)
{
    return stride == l->lanes || stride == 2 * l->lanes;
}

void print_leaf_suit(Leaf *l)
{
    if (l->matrix)
        return;
    int along = leaf_shares(l) ? l->b.t : l->a.t;
    bool b_steps = l->kind != LEAF_FMA || l->b.step[3] == (leaf_shares(l) ? 1 : l->lanes);
    bool steps = b_steps && l->a.spread <= 1 && l->a.step[3] == l->lanes;
    l->stride = steps && stride_in_family(l, along) ? along : 0;
    bool taps = l->stride && !leaf_shares(l) && l->kind != LEAF_SUM && l->vectors == 1;
    int count = l->last == l->count[3] ? l->count[3] : 0;
    l->taps = taps && count > 1 && count <= FAMILY_TAPS ? count : 0;
}

static bool in_family(const Target *target, const Leaf *l)
{
    bool shares = leaf_shares(l);
    if (l->a.spread > 1 && (l->kind == LEAF_FMA || l->vectors > 1 || l->stride))
        return false;
    if (l->stride && !stride_in_family(l, l->stride))
        return false;
    if (l->taps == 1 || (l->taps && (shares || !l->stride || l->kind == LEAF_SUM || l->vectors > 1)))
        return false;
    if (!shares)
        return l->vectors == 1 ? l->tile + 3 <= target->registers : l->tile == 1;
    return (l->tile + 1) * l->vectors + 2 <= target->registers && (l->vectors <= 2 || l->tile == 1);
}

/* The members of one kind, tile and number of vectors, and their rows of the table. */
static void print_members(Text *t, Text *table, const char *prefix, const Target *target, Leaf l)
{
    l.lanes = target->lanes;
    for (l.a.spread = 1; l.a.spread <= LEAF_SPREAD; l.a.spread++)
        for (l.stride = 0; l.stride <= 2 * l.lanes; l.stride++)
            for (l.taps = 0; l.taps <= FAMILY_TAPS; l.taps++) {
                if (!in_family(target, &l))
                    continue;
                const char *member = print_leaf_member(t->c, &l);
                print_leaf_body(t, prefix, &l, false);
                text_add(table, "    {\"cnnc_%s\", (const void *)%s_%s},\n", member, prefix, member);
            }
}

static void print_transforms(Text *t, Text *table, const char *prefix, const Target *target)
{
    static const WinogradSide sides[] = {WINOGRAD_INPUT, WINOGRAD_OUTPUT};
    for (int tile = 2; tile <= 6; tile += 2)
        for (int k = 0; k < 2; k++) {
            Leaf l = {.kind = LEAF_TRANSFORM, .lanes = target->lanes,
                      .matrix = winograd_matrix(t->c, tile, sides[k])};
            print_leaf_body(t, prefix, &l, false);
            const char *member = print_leaf_member(t->c, &l);
            text_add(table, "    {\"cnnc_%s\", (const void *)%s_%s},\n", member, prefix, member);
        }
}

void print_leaf_family(Text *t, const Target *target)
{
    static const Leaf kinds[] = {{.kind = LEAF_FMA}, {.kind = LEAF_FMA, .b.vector = true}, {.kind = LEAF_SUM},
                                 {.kind = LEAF_MAX}};
    Context *c = t->c;
    const char *prefix = c_identifier(c, format(c, "cnnc_%s", target->name));
    Text table = {.c = c};
    text_add(t, "/* The leaves of %s for code that libtcc compiles; printed by cnnc. */\n"
                "#include <math.h>\n", target->name);
    print_leaf_types(t, prefix, target->lanes, true, true);
    for (int kind = 0; kind < 4; kind++)
        for (int tile = 1; tile <= FAMILY_TILE; tile++)
            for (int vectors = 1; vectors <= FAMILY_VECTORS; vectors++) {
                Leaf l = kinds[kind];
                l.tile = tile;
                l.vectors = vectors;
                print_members(t, &table, prefix, target, l);
            }
    print_transforms(t, &table, prefix, target);
    print_probes(t, &table, prefix, target);
    text_add(t, "\nconst struct { const char *name; const void *address; } %s_leaves[] = {\n%s    {0, 0}\n"
                "};\n", prefix,
             table.data);
}
