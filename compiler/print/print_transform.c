/* Grids transformed by a constant matrix along both axes: as a leaf, whose products are written
 * out, and for single elements as loops over a table. */
#include "print.h"

#include <math.h>
#include <string.h>

/* -- y = M x, written out -- */

/* Equal magnitudes in two rows (columns) of a matrix. */
static bool rows_pair(const Matrix *m, int i)
{
    int same = 0, opposite = 0;
    for (int p = 0; p < m->columns; p++) {
        if (i + 1 == m->rows || fabs(m->entry[i][p]) != fabs(m->entry[i + 1][p]))
            return false;
        same += m->entry[i][p] != 0 && m->entry[i][p] == m->entry[i + 1][p];
        opposite += m->entry[i][p] != 0 && m->entry[i][p] != m->entry[i + 1][p];
    }
    return same && opposite;
}

static bool columns_pair(const Matrix *m, int p)
{
    bool opposite = false;
    for (int i = 0; i < m->rows; i++) {
        if (p + 1 == m->columns || fabs(m->entry[i][p]) != fabs(m->entry[i][p + 1]))
            return false;
        opposite |= m->entry[i][p] != m->entry[i][p + 1];
    }
    return opposite;
}

static void add_term(Text *t, double factor, const char *name)
{
    double size = fabs(factor);
    if (factor == 0)
        return;
    text_add(t, t->length ? factor < 0 ? " - " : " + " : factor < 0 ? "-" : "");
    if (size != 1)
        text_add(t, "%s * ", print_float(t->c, size));
    text_add(t, "%s", name);
}

typedef enum Signs { ALL, SAME, OPPOSITE } Signs;        /* terms of a row; those that it has as the next */

/* Where columns pair, the sum and the difference of their elements stand for both. */
static const char *row_sum(Context *c, const Matrix *m, int i, Signs signs)
{
    Text t = {.c = c};
    for (int sign = 1; sign >= -1; sign -= 2)    /* what is added first */
        for (int p = 0; p < m->columns; p++) {
            double factor = m->entry[i][p];
            bool same = signs == ALL || (factor == m->entry[i + 1][p]) == (signs == SAME);
            bool pair = columns_pair(m, p);
            const char *name = !pair ? "x" : factor == m->entry[i][p + 1] ? "sum" : "difference";
            if (same && factor * sign > 0)
                add_term(&t, factor, format(c, "%s%d", name, p));
            p += pair;
        }
    return t.data;
}

/* Statements that declare y0, y1, ... as the matrix times x0, x1, ... */
static void print_product(Text *t, const Matrix *m)
{
    const char *line = "        @_vec %s%d = %s;\n";
    for (int p = 0; p < m->columns; p++)
        if (columns_pair(m, p)) {
            text_add(t, line, "sum", p, format(t->c, "x%d + x%d", p, p + 1));
            text_add(t, line, "difference", p, format(t->c, "x%d - x%d", p, p + 1));
            p++;
        }
    for (int i = 0; i < m->rows; i++) {
        if (!rows_pair(m, i)) {
            text_add(t, line, "y", i, row_sum(t->c, m, i, ALL));
            continue;
        }
        text_add(t, line, "even", i, row_sum(t->c, m, i, SAME));
        text_add(t, line, "odd", i, row_sum(t->c, m, i, OPPOSITE));
        text_add(t, line, "y", i, format(t->c, "even%d + odd%d", i, i));
        text_add(t, line, "y", i + 1, format(t->c, "even%d - odd%d", i, i));
        i++;
    }
}

/* -- the leaf -- */

/* What becomes of a column of results. */
static void print_finish(Text *t, const Matrix *m)
{
    for (int i = 0; i < m->rows; i++)
        text_add(t, "        if (%d < g->n0)\n            @_finish(y, y%d, c, d, %d, j, 1, g);\n", i, i, i);
}

typedef struct Phase { const char *head, *statement; } Phase;

/* The same in the host, where each question is asked once for all of them. */
static void print_phases(Text *t, const Matrix *m, const Phase *phase, int phases)
{
    for (const Phase *end = phase + phases; phase < end; phase++) {
        text_add(t, "        %s\n", phase->head);
        for (int i = 0; i < m->rows; i++)
            text_add(t, format(t->c, "            %s\n", phase->statement), i);
        text_add(t, "        }\n");
    }
}

static const Phase clamp[] = {
    {"if (!g->gated && g->low > -3.4028235e+38f) {", "y%1$d = @_larger(y%1$d, @_all(g->low));"},
    {"if (!g->gated && g->high < 3.4028235e+38f) {", "y%1$d = @_smaller(y%1$d, @_all(g->high));"},
};

static void print_any_finish(Text *t, const Matrix *m)
{
    static const Phase phase[] = {
        {"if (g->scale != 1.0f) {", "y%1$d *= g->scale;"},
        {"if (c && !g->gated) {", "y%1$d += @_addend(c + %1$d * g->ct + j * g->ck, g->c_vector);"},
        {"if (d) {", "y%1$d += @_addend(d + %1$d * g->dt + j * g->dk, g->d_vector);"},
        {"if (g->gated) {",
         "y%1$d = @_gate(y%1$d, @_addend(c + %1$d * g->ct + j * g->ck, g->c_vector), g);"},
    };
    print_phases(t, m, phase, sizeof phase / sizeof *phase);
    print_phases(t, m, clamp, sizeof clamp / sizeof *clamp);
    for (int i = 0; i < m->rows; i++)
        text_add(t, "        if (%d < g->n0)\n"
                    "            @_store(y + %d * g->yt + j * g->yk, y%d, g->valid, g->spread, g->add);\n",
                 i, i, i);
}

/* Whole vectors of a whole grid, c the same for all of it: what convolutions end with. */
static void print_plain_finish(Text *t, const Matrix *m)
{
    static const Phase phase[] = {
        {"if (c) {", "y%1$d += shift;"},
        {"if (d) {", "y%1$d += @_fetch(d + %1$d * g->dt + j * g->dk);"},
    };
    print_phases(t, m, phase, sizeof phase / sizeof *phase);
    print_phases(t, m, clamp, sizeof clamp / sizeof *clamp);
    for (int i = 0; i < m->rows; i++)
        text_add(t, "        *(@_vec *)(y + %d * g->yt + j * g->yk) = y%d;\n", i, i);
}

/* Both passes of a grid, as pieces of text: the loads of a row of it and of a column of half
 * the product, and the matrix's product with either. */
typedef struct Passes { const Matrix *m; const char *load, *read, *product; } Passes;

static void print_rows(Text *t, const Passes *passes, bool whole)
{
    const Matrix *m = passes->m;
    text_add(t, whole ? "#pragma GCC unroll %1$d\n    for (int p = 0; p < %1$d; p++) {\n"
                      : "    for (int p = 0; p < %1$d; p++) {\n"
                        "        if (p < n1 || p >= n2) {\n"
                        "            for (int j = 0; j < %2$d; j++)\n"
                        "                half[p][j] = (@_vec){0};\n"
                        "            continue;\n"
                        "        }\n", m->columns, m->rows);
    text_add(t, "        const float *const x = a + %s * g->at;\n%s%s", whole ? "p" : "(p - n1)",
             passes->load, passes->product);
    for (int j = 0; j < m->rows; j++)
        text_add(t, "        half[p][%d] = y%d;\n", j, j);
    text_add(t, "    }\n");
}

static void print_columns(Text *t, const Passes *passes, const char *count,
                          void finish(Text *, const Matrix *))
{
    text_add(t, "    for (int j = 0; j < %s; j++) {\n%s%s", count, passes->read, passes->product);
    finish(t, passes->m);
    text_add(t, "    }\n");
}

/* The host's members meet any grid, but nearly all are whole. */
static void print_host_passes(Text *t, const Passes *passes)
{
    const Matrix *m = passes->m;
    text_add(t, "    if (n1 == 0 && n2 == %d) {\n", m->columns);
    print_rows(t, passes, true);
    text_add(t, "    } else {\n");
    print_rows(t, passes, false);
    text_add(t, "    }\n"
                "    const int plain = g->valid == @_lanes && g->spread == 1 && !g->add && !g->gated &&\n"
                "        g->scale == 1.0f && g->n0 == %1$d && g->n3 == %1$d && (!d || g->d_vector) &&\n"
                "        (!c || (g->c_vector && !g->ct && !g->ck));\n"
                "    if (plain) {\n"
                "    const @_vec shift = c ? @_fetch(c) : (@_vec){0};\n"
                "#pragma GCC unroll %1$d\n", m->rows);
    print_columns(t, passes, format(t->c, "%d", m->rows), print_plain_finish);
    text_add(t, "    } else {\n");
    print_columns(t, passes, "g->n3", print_any_finish);
    text_add(t, "    }\n");
}

void print_transform_body(Text *t, const Leaf *leaf, bool is_static)
{
    const Matrix *m = leaf->matrix;
    Text product = {.c = t->c}, load = {.c = t->c}, read = {.c = t->c};
    print_product(&product, m);
    for (int p = 0; p < m->columns; p++) {
        text_add(&load, "        const @_vec x%d = @_fetch(x + %d * g->ak);\n", p, p);
        text_add(&read, "        const @_vec x%d = half[%d][j];\n", p, p);
    }
    const Passes passes = {m, load.data, read.data, product.data};
    text_add(t, "    @_vec half[%d][%d] __attribute__((aligned(64)));\n", m->columns, m->rows);
    if (!is_static) {
        print_host_passes(t, &passes);
        return;
    }
    print_rows(t, &passes, false);
    print_columns(t, &passes, "g->n3", print_finish);
}

/* -- element by element -- */

static const char *table_name(Printer *p, const Matrix *m)
{
    return printer_fresh(p, m->name, "");
}

static bool has_table(const Nest *nest)
{
    return nest->matrix && nest->lane < 0;
}

void print_matrices(Printer *p)
{
    const Kernel *k = p->kernel;
    for (int n = 0; n < k->nests; n++) {
        const Matrix *m = k->nest[n]->matrix;
        bool printed = !has_table(k->nest[n]);
        for (int i = 0; i < n && !printed; i++)
            printed |= has_table(k->nest[i]) && !strcmp(k->nest[i]->matrix->name, m->name);
        if (printed)
            continue;
        printer_line(p, "static const float %s[%d][%d] = {", table_name(p, m), m->rows, m->columns);
        for (int i = 0; i < m->rows; i++) {
            Text row = {.c = p->c};
            for (int j = 0; j < m->columns; j++)
                text_add(&row, "%s%s", j ? ", " : "", print_float(p->c, m->entry[i][j]));
            printer_line(p, "    {%s}%s", row.data, i < m->rows - 1 ? "," : "");
        }
        printer_line(p, "};");
    }
}

/* The head of a loop over one of the matrix's axes. */
static void open_axis(Printer *p, int axis, const Loop *clip, bool block)
{
    const char *v = p->axis[axis], *end = block ? " {" : "";
    const BoundName *b = clip && (clip->lows || clip->highs) ? printer_bound(p, clip) : NULL;
    if (b)
        printer_line(p, "for (int %s = %s; %s < %s; %s++)%s", v, b->from, v, b->to, v, end);
    else
        printer_line(p, "for (int %s = %d; %s < %d; %s++)%s", v, clip ? clip->begin : 0, v,
                     clip ? clip->end : p->nest->axis[axis].extent, v, end);
    p->depth++;
}

static void close_block(Printer *p)
{
    p->depth--;
    printer_line(p, "}");
}

void print_transform(Printer *p, const Loop *l)
{
    const Nest *nest = p->nest;
    const int *row = nest->row, *column = nest->column;
    int columns = nest->matrix->columns, bind;
    const char *m = table_name(p, nest->matrix), *i = p->axis[row[0]], *j = p->axis[row[1]];
    const char *a = p->axis[column[0]], *b = p->axis[column[1]];
    const char *grid = printer_fresh(p, "grid", ""), *half = printer_fresh(p, "half", "");
    bool cut = false;
    for (int k = 0; k < 2; k++)
        cut |= l->clip[k]->lows || l->clip[k]->highs || l->clip[k]->end - l->clip[k]->begin < columns;
    printer_line(p, "float %s[%d][%d]%s, %s[%d][%d];", grid, columns, columns, cut ? " = {{0}}" : "", half,
                 nest->axis[row[0]].extent, columns);
    open_axis(p, column[0], l->clip[0], true);
    open_axis(p, column[1], l->clip[1], true);
    printer_line(p, "%s[%s][%s] = %s;", grid, a, b, print_expr(p, l->term[0], &bind));
    close_block(p);
    close_block(p);
    open_axis(p, row[0], NULL, true);
    open_axis(p, column[1], NULL, true);
    printer_line(p, "float s0 = 0.0f;");
    open_axis(p, column[0], NULL, false);
    printer_line(p, "s0 += %s[%s][%s] * %s[%s][%s];", m, i, a, grid, a, b);
    p->depth--;
    printer_line(p, "%s[%s][%s] = s0;", half, i, b);
    close_block(p);
    close_block(p);
    open_axis(p, row[0], NULL, true);
    open_axis(p, row[1], NULL, true);
    printer_line(p, "float s0 = 0.0f;");
    open_axis(p, column[1], NULL, false);
    printer_line(p, "s0 += %s[%s][%s] * %s[%s][%s];", half, i, b, m, j, b);
    p->depth--;
    const char *value = print_expr(p, l->store.value, &bind);
    printer_line(p, "%s %s %s;", print_access(p, l->store.node, &l->store.address),
                 l->store.accumulate ? "+=" : "=", value);
    close_block(p);
    close_block(p);
}
