/* Leaves as C: for each member of the family a body that keeps its accumulators in
 * registers, for each geometry a function of its own that hands its constants to the
 * body.  Bodies stand in the file for a C compiler to inline, or are linked into the
 * host for code that libtcc compiles; drivers and geometries are the same text. */
#include "print.h"

#include <math.h>
#include <string.h>

/* -- geometry -- */

void print_leaf_types(Text *t, int lanes, bool bodies)
{
    text_add(t,
             "\n/* How a leaf walks: loops n0 .. n3 (n1 and n2 come with the call); steps of its operands a, b\n"
             " * along the loops, along the tile (t) and from vector to vector (k); likewise of the addends c\n"
             " * and d and the result y; what happens to the sum. */\n"
             "typedef struct cnnc_leaf {\n"
             "    int n0, n3, a0, a1, a2, a3, b0, b1, b2, b3;\n"
             "    int at, ak, bt, bk, ct, ck, dt, dk, yt, yk;\n"
             "    int c_vector, d_vector, valid;\n"
             "    float scale, low, high;\n"
             "} cnnc_leaf;\n");
    if (!bodies)
        return;
    text_add(t,
             "\ntypedef float cnnc_vec __attribute__((vector_size(%d), aligned(4), may_alias));\n"
             "typedef int cnnc_mask __attribute__((vector_size(%d), aligned(4), may_alias));\n\n"
             "#define CNNC_INLINE static inline __attribute__((always_inline))\n\n"
             "CNNC_INLINE cnnc_vec cnnc_load(const float *from)\n{\n    return *(const cnnc_vec *)from;\n}\n\n"
             "CNNC_INLINE cnnc_vec cnnc_all(float x)\n{\n    return (cnnc_vec){0} + x;\n}\n\n"
             "CNNC_INLINE cnnc_vec cnnc_choose(cnnc_mask which, cnnc_vec a, cnnc_vec b)\n{\n"
             "    return (cnnc_vec)((which & (cnnc_mask)a) | (~which & (cnnc_mask)b));\n}\n\n"
             "/* What becomes of a sum before it is stored: the first `valid` lanes of it. */\n"
             "CNNC_INLINE void cnnc_finish(float *y, cnnc_vec s, const float *c, const float *d, int valid, const cnnc_leaf *g)\n{\n"
             "    if (g->scale != 1.0f)\n        s *= g->scale;\n"
             "    if (c)\n        s += g->c_vector ? cnnc_load(c) : cnnc_all(*c);\n"
             "    if (d)\n        s += g->d_vector ? cnnc_load(d) : cnnc_all(*d);\n"
             "    if (g->low > -INFINITY)\n        s = cnnc_choose(s > cnnc_all(g->low), s, cnnc_all(g->low));\n"
             "    if (g->high < INFINITY)\n        s = cnnc_choose(s < cnnc_all(g->high), s, cnnc_all(g->high));\n"
             "    if (valid == %d)\n        *(cnnc_vec *)y = s;\n"
             "    else\n        __builtin_memcpy(y, &s, (unsigned)valid * sizeof(float));\n}\n",
             lanes * 4, lanes * 4, lanes);
}

/* -- bodies -- */

static const char *const arguments =
    "float *y, const float *a, const float *b, const float *c, const float *d, int n1, int n2,\n"
    "    const cnnc_leaf *g";

const char *print_leaf_member(Context *c, const Leaf *leaf)
{
    const char *kind = leaf->kind == LEAF_MAX ? "max" : leaf->kind == LEAF_SUM ? "sum"
                     : leaf->b.vector ? "mul" : "fma";
    return format(c, "%s_%dx%d", kind, leaf->tile, leaf->vectors);
}

void print_leaf_declaration(Text *t, const Leaf *leaf)
{
    text_add(t, "\nvoid cnnc_%s(%s);\n", print_leaf_member(t->c, leaf), arguments);
}

static const char *step(Context *c, int times, const char *name)
{
    return times == 0 ? "" : times == 1 ? format(c, " + g->%s", name) : format(c, " + %d * g->%s", times, name);
}

/* One pass of the innermost loop. */
static void print_step(Text *t, const Leaf *leaf)
{
    Context *c = t->c;
    bool scalar = leaf->kind == LEAF_FMA && !leaf->b.vector;
    const char *in = "                    ";
    for (int k = 0; scalar && k < leaf->vectors; k++)
        text_add(t, "%sconst cnnc_vec v%d = cnnc_load(p%s);\n", in, k, step(c, k, "ak"));
    for (int k = 0; leaf->kind == LEAF_FMA && !scalar && k < leaf->vectors; k++)
        text_add(t, "%sconst cnnc_vec w%d = cnnc_load(q%s);\n", in, k, step(c, k, "bk"));
    for (int i = 0; i < leaf->tile; i++) {
        if (scalar)
            text_add(t, "%sconst float x%d = *(q%s);\n", in, i, step(c, i, "bt"));
        for (int k = 0; k < leaf->vectors; k++) {
            const char *a = format(c, "cnnc_load(p%s%s)", step(c, i, "at"), step(c, k, "ak"));
            if (scalar)
                text_add(t, "%ss%d_%d += v%d * x%d;\n", in, i, k, k, i);
            else if (leaf->kind == LEAF_FMA)
                text_add(t, "%ss%d_%d += %s * w%d;\n", in, i, k, a, k);
            else if (leaf->kind == LEAF_SUM)
                text_add(t, "%ss%d_%d += %s;\n", in, i, k, a);
            else
                text_add(t, "%ss%d_%d = cnnc_choose(%s > s%d_%d, %s, s%d_%d);\n", in, i, k, a, i, k, a, i, k);
        }
    }
}

void print_leaf_body(Text *t, const Leaf *leaf, const char *linkage)
{
    Context *c = t->c;
    const char *start = leaf->kind == LEAF_MAX ? "cnnc_all(-INFINITY)" : "{0}";
    text_add(t, "\n%s void cnnc_%s(%s)\n{\n", linkage, print_leaf_member(c, leaf), arguments);
    if (leaf->kind != LEAF_FMA)
        text_add(t, "    (void)b;\n");
    for (int i = 0; i < leaf->tile; i++)
        for (int k = 0; k < leaf->vectors; k++)
            text_add(t, "%ss%d_%d = %s%s", k ? ", " : "    cnnc_vec ", i, k, start, k == leaf->vectors - 1 ? ";\n" : "");
    text_add(t,
             "    for (int i0 = 0; i0 < g->n0; i0++)\n"
             "        for (int i1 = 0; i1 < n1; i1++)\n"
             "            for (int i2 = 0; i2 < n2; i2++) {\n"
             "                const float *p = a + i0 * g->a0 + i1 * g->a1 + i2 * g->a2;\n");
    if (leaf->kind == LEAF_FMA)
        text_add(t, "                const float *q = b + i0 * g->b0 + i1 * g->b1 + i2 * g->b2;\n");
    text_add(t, "                for (int i3 = 0; i3 < g->n3; i3++) {\n");
    print_step(t, leaf);
    text_add(t, "                    p += g->a3;\n%s                }\n            }\n",
             leaf->kind == LEAF_FMA ? "                    q += g->b3;\n" : "");
    for (int i = 0; i < leaf->tile; i++)
        for (int k = 0; k < leaf->vectors; k++)
            text_add(t, "    cnnc_finish(y%s%s, s%d_%d, c ? c%s%s : c, d ? d%s%s : d, %s, g);\n", step(c, i, "yt"),
                     step(c, k, "yk"), i, k, step(c, i, "ct"), step(c, k, "ck"), step(c, i, "dt"), step(c, k, "dk"),
                     k == leaf->vectors - 1 ? "g->valid" : "CNNC_LANES");
    text_add(t, "}\n");
}

/* -- a geometry's own function -- */

static const char *limit(Context *c, float value)
{
    return isinf(value) ? (value < 0 ? "-INFINITY" : "INFINITY") : print_float(c, (double)value);
}

static const char *unused_arguments(Context *c, const Leaf *l)
{
    const char *unused[] = {l->b.node ? "" : "b", l->bias.node ? "" : "c", l->add.node ? "" : "d",
                            l->count[1] ? "n1" : "", l->count[2] ? "n2" : ""};
    Text t = {.c = c};
    for (int i = 0; i < 5; i++)
        if (*unused[i])
            text_add(&t, "%s(void)%s", t.length ? ", " : "    ", unused[i]);
    return t.length ? format(c, "%s;\n", t.data) : "";
}

/* Everything behind the function's name: two leaves of one geometry have one text. */
const char *print_leaf_geometry(Context *c, const Leaf *l)
{
    const Operand *a = &l->a, *b = &l->b;
    return format(c,
                  "(float *y, const float *a, const float *b, const float *c, const float *d,\n    int n1, int n2)\n{\n"
                  "    static const cnnc_leaf g = {\n"
                  "        %d, %d, %d, %d, %d, %d, %d, %d, %d, %d,\n"
                  "        %d, %d, %d, %d, %d, %d, %d, %d, %d, %d,\n"
                  "        %d, %d, %d, %s, %s, %s};\n"
                  "%s    cnnc_%s(y, a, %s, %s, %s, %s, %s, &g);\n}\n",
                  l->count[0], l->count[3], a->step[0], a->step[1], a->step[2], a->step[3], b->step[0], b->step[1],
                  b->step[2], b->step[3], a->t, a->k, b->t, b->k, l->bias.t, l->bias.k, l->add.t, l->add.k, l->y.t,
                  l->y.k, l->bias.vector, l->add.vector, l->valid, print_float(c, (double)l->scale),
                  limit(c, l->low), limit(c, l->high), unused_arguments(c, l), print_leaf_member(c, l), b->node ? "b" : "0",
                  l->bias.node ? "c" : "0", l->add.node ? "d" : "0",
                  l->count[1] ? format(c, "%d", l->count[1]) : "n1", l->count[2] ? format(c, "%d", l->count[2]) : "n2");
}
