/* A kernel as a C function: its arguments, and its loop trees as statements.
 *
 * What a careful engineer would do by hand is done here: an address is split into a
 * pointer, declared in the outermost block where it is constant, and the constant
 * that the unrolled taps add to it; the bounds of clipped loops stand in the outermost
 * block that knows them. */
#include "print.h"

#include <string.h>

/* -- statements -- */

static void print_block(Printer *p, bool *known, int axis, const Loop *body);

/* A loop that runs once is a block, and not even that where nothing else stands. */
static void print_for(Printer *p, bool *known, const Loop *l, bool alone)
{
    const char *v = p->axis[l->axis];
    bool shared = l->axis == p->nest->shared;
    if (l->end <= l->begin || print_leaf_row(p, l))      /* clipped away; or done */
        return;
    Loop part[3];
    if (print_leaf_parts(p, l, part)) {
        for (int i = 0; i < 3; i++)
            print_for(p, known, &part[i], false);
        return;
    }
    if (printer_runs_once(l) && alone && !shared) {
        print_block(p, known, -1, l->body);
        return;
    }
    bool once = printer_runs_once(l), block = once && !shared;
    Braces braces = {0};
    if (block) {
        printer_line(p, "{");
        p->depth++;
    } else if (once) {
        braces = printer_open(p, "if (team->thread == team->threads - 1)");
    } else if (shared) {
        const char *step = l->step == 1 ? "++" : format(p->c, " += %d", l->step);
        const char *end = printer_fresh(p, v, "_end");
        braces = printer_open(p, "for (int %s = %s, %s = %s; %s < %s; %s%s)", v, printer_part(p, l, 0), end,
                              printer_part(p, l, 1), v, end, v, step);
    } else if (l->lows || l->highs) {
        const BoundName *b = printer_bound(p, l);
        braces = printer_open(p, "for (int %s = %s; %s < %s; %s++)", v, b->from, v, b->to, v);
    } else {
        const char *step = l->step == 1 ? "++" : format(p->c, " += %d", l->step);
        braces = printer_open(p, "for (int %s = %d; %s < %d; %s%s)", v, l->begin, v, l->end, v, step);
    }
    known[l->axis] = !once;
    print_block(p, known, once ? -1 : l->axis, l->body);
    known[l->axis] = false;
    if (block) {
        p->depth--;
        printer_line(p, "}");
    } else {
        printer_close(p, braces);
    }
}

/* The accumulators that begin together; the last of their statements. */
static const Loop *print_init(Printer *p, const Loop *l)
{
    const char *neutral = p->nest->reduce == REDUCE_SUM ? "0.0f" : "-INFINITY";
    Text sums = {.c = p->c}, tags = {.c = p->c};
    for (;; l = l->next) {
        printer_argument_list(&sums, 4 * p->depth + 4, format(p->c, "s%d = %s", l->acc, neutral));
        printer_argument_list(&tags, 4 * p->depth + 4, format(p->c, "k%d = 0", l->acc));
        if (!l->next || l->next->kind != LOOP_INIT)
            break;
    }
    printer_line(p, "float %s;", sums.data);
    if (p->nest->reduce == REDUCE_ARGMAX)
        printer_line(p, "int %s;", tags.data);
    return l;
}

static void print_sums(Printer *p, const Loop *l)
{
    const char *name = printer_fresh(p, "sums", "");
    p->sums = format(p->c, "%s[%s]", name, p->axis[l->axis]);
    printer_line(p, "float %s[%d];", name, l->end);
}

/* All terms in one expression: a compiler without optimiser keeps it in registers. */
static void print_sum(Printer *p, const Loop *l, bool first)
{
    Text t = {.c = p->c};
    size_t start = 0;
    if (l->acc == ACC_OF_ROW)
        text_add(&t, "%s +=", p->sums);
    else
        text_add(&t, "%ss%d %s", first ? "float " : "", l->acc, first ? "=" : "+=");
    for (int i = 0; i < l->terms; i++) {
        int bind;
        const char *term = print_expr(p, l->term[i], &bind);
        if (bind < BIND_PRODUCT)
            term = format(p->c, "(%s)", term);
        if (t.length - start + strlen(term) + (size_t)(4 * p->depth) > LINE && i) {
            text_add(&t, "\n%*s", 4 * p->depth + 3, "");
            start = t.length;
        }
        text_add(&t, "%s %s", i ? " +" : "", term);
    }
    printer_line(p, "%s;", t.data);
}

static void print_max(Printer *p, const Loop *l, bool first)
{
    for (int i = 0; i < l->terms; i++) {
        int bind;
        const char *term = print_expr(p, l->term[i], &bind);
        if (bind < BIND_SUM)
            term = format(p->c, "(%s)", term);
        const char *tag = l->tag ? print_expr(p, l->tag[i], &bind) : NULL;
        if (first && i == 0) {
            printer_line(p, "float s%d = %s;", l->acc, term);
            if (tag)
                printer_line(p, "int k%d = %s;", l->acc, tag);
        } else if (tag) {
            printer_line(p, "if (%s > s%d) { s%d = %s; k%d = %s; }", term, l->acc, l->acc, term, l->acc, tag);
        } else {
            printer_line(p, "if (%s > s%d) s%d = %s;", term, l->acc, l->acc, term);
        }
    }
}

static void print_store(Printer *p, const Loop *l)
{
    int bind;
    const char *value = print_expr(p, l->store.value, &bind);
    const char *place = print_access(p, l->store.node, &l->store.address);
    printer_line(p, "%s %s %s;", place, l->store.accumulate ? "+=" : "=", value);
}

/* -- blocks -- */

/* An accumulator that no loop fills begins with its first terms. */
static bool filled_at_once(const Loop *l)
{
    while (l && l->kind == LOOP_INIT)
        l = l->next;
    return l && l->kind == LOOP_UPDATE;
}

static void print_statements(Printer *p, bool *known, const Loop *l)
{
    const Loop *first = l;
    unsigned unborn = 0;                         /* accumulators whose first update declares them */
    for (; l; l = l->next) {
        if (l->kind == LOOP_FOR) {
            print_for(p, known, l, l == first && !l->next);
        } else if (l->kind == LOOP_SUMS) {
            print_sums(p, l);
        } else if (l->kind == LOOP_INIT && l->acc == ACC_OF_ROW) {
            printer_line(p, "%s = 0.0f;", p->sums);
        } else if (l->kind == LOOP_INIT && filled_at_once(l)) {
            unborn |= 1u << l->acc;
        } else if (l->kind == LOOP_INIT) {
            l = print_init(p, l);
        } else if (l->kind == LOOP_UPDATE) {
            bool begins = l->acc != ACC_OF_ROW && (unborn >> l->acc & 1);
            (p->nest->reduce == REDUCE_SUM ? print_sum : print_max)(p, l, begins);
            unborn &= begins ? ~(1u << l->acc) : ~0u;
        } else if (l->kind == LOOP_LEAF) {
            print_leaf_call(p, l);
        } else if (l->kind == LOOP_STRIP) {
            print_strip(p, l->strip);
        } else if (l->kind == LOOP_TRANSFORM) {
            print_transform(p, l);
        } else {
            print_store(p, l);
        }
    }
}

/* A block: bounds and pointers that its own axis settles, then its statements. */
static void print_block(Printer *p, bool *known, int axis, const Loop *body)
{
    int pointers = p->pointers, bounds = p->bounds;
    printer_declare_bounds(p, known, body);
    if (axis >= 0)
        printer_declare_pointers(p, known, axis, body);
    print_statements(p, known, body);
    p->pointers = pointers;
    p->bounds = bounds;
}

static void print_nest(Printer *p, Nest *nest)
{
    bool known[MAX_AXES] = {false};
    if (nest_band_axis(nest) >= 0)
        known[nest_band_axis(nest)] = true;
    p->nest = nest;
    p->values = 0;
    printer_name_axes(p);
    bool strips = p->file->strips && nest->strips && print_strips_fit(p, nest->strips);
    const Loop *l = strips ? nest->strips : nest->loops;
    bool looped = l && l->kind == LOOP_FOR && !l->lows && !l->highs && !printer_runs_once(l);
    bool alone = nest->shared < 0 && kernel_shared(p->kernel);
    bool bounded = nest->rows >= 0;              /* the band settles which rows there are */
    bool bare = alone || ((!looped || bounded) && p->kernel->nests > 1);
    if (bare) {                                  /* its locals must not meet another nest's */
        printer_line(p, alone ? "if (team->thread == 0) {" : "{");
        p->depth++;
    }
    print_block(p, known, -1, l);
    if (bare) {
        p->depth--;
        printer_line(p, "}");
    }
}

/* -- the function -- */

typedef struct Reading { const Storage *storage; bool found; } Reading;

static void find_reading(Expr *load, void *user)
{
    Reading *r = user;
    r->found |= load->load.node->storage == r->storage;
}

static bool stores(const Kernel *k, const Storage *s)
{
    bool found = false;
    for (int i = 0; i < k->nests; i++)
        found |= k->nest[i]->store.node->storage == s;
    return found;
}

static bool reads_result(const Kernel *k, int reader, int writer)
{
    Reading r = {.storage = k->nest[writer]->store.node->storage};
    if (r.storage != k->nest[reader]->store.node->storage)
        nest_loads(k->nest[reader], find_reading, &r);
    return r.found;
}

/* Whether nest i reads what one of nests from .. i - 1 has stored, or stores what one of them reads. */
static bool follows(const Kernel *k, int from, int i)
{
    bool found = k->nest[i]->again;
    for (int j = from; j < i; j++)
        found |= reads_result(k, i, j) || reads_result(k, j, i);
    return found;
}

/* Nests within a loop over bands; where threads meet first and last in it, -1: nowhere. */
typedef struct Band { int first, met_first, met_last; } Band;

/* Whether one of the next band's nests may overwrite what nests of this one still read: no
 * meeting is between them. */
static bool overtakes(const Kernel *k, const Band *b, int end)
{
    bool found = false;
    for (int i = b->met_last; i < end && b->met_last >= 0; i++)
        for (int j = b->first; j < b->met_first; j++)
            found |= reads_result(k, i, j) ||    /* or moves it */
                     k->nest[i]->store.node->storage == k->nest[j]->store.node->storage;
    return found;
}

static void close_band(Printer *p, const Band *b, int end)
{
    if (kernel_shared(p->kernel) && overtakes(p->kernel, b, end))
        printer_line(p, "%s_meet(team);", p->prefix);
    p->depth--;
    printer_line(p, "}");
}

static void open_band(Printer *p, const Axis *axis)
{
    printer_line(p, "for (int %s = 0; %s < %d; %s++) {", axis->name, axis->name, axis->extent, axis->name);
    p->depth++;
}

/* Bands are a loop around their nests.  What one thread has stored another may read. */
static void print_nests(Printer *p)
{
    const Kernel *k = p->kernel;
    Band b = {.first = -1};
    for (int i = 0, met = 0; i < k->nests; i++) {
        int band = nest_band_axis(k->nest[i]);
        if (b.first >= 0 && band < 0) {
            close_band(p, &b, i);
            b.first = -1;
        }
        if (b.first < 0 && band >= 0) {
            open_band(p, &k->nest[i]->axis[band]);
            b = (Band){i, -1, -1};
        }
        if (kernel_shared(k) && follows(k, met, i)) {
            printer_line(p, "%s_meet(team);", p->prefix);
            met = b.met_last = i;
            b.met_first = b.met_first < 0 ? i : b.met_first;
        }
        print_nest(p, k->nest[i]);
    }
    if (b.first >= 0)
        close_band(p, &b, k->nests);
}

/* The head of a loop over all threads' parts of n, or over all n. */
static void print_zero_loop(Printer *p, const char *name, int n)
{
    if (kernel_shared(p->kernel))
        printer_line(p, "for (int %s = %s_part(team, %d, 0), end = %s_part(team, %d, 1); %s < end; %s++)",
                     name, p->prefix, n, p->prefix, n, name, name);
    else
        printer_line(p, "for (int %s = 0; %s < %d; %s++)", name, name, n, name);
}

/* The same by the host: every thread's part of `rows` rows of n zeros. */
static void print_zero_call(Printer *p, const char *name, int rows, int pitch, int n)
{
    bool team = kernel_shared(p->kernel);
    const char *from = team ? format(p->c, "%s_part(team, %d, 0)", p->prefix, rows) : "0";
    const char *to = team ? format(p->c, "%s_part(team, %d, 1)", p->prefix, rows) : format(p->c, "%d", rows);
    const char *start = !team ? name : pitch == 1 ? format(p->c, "%s + %s", name, from)
                      : format(p->c, "%s + %d * %s", name, pitch, from);
    const char *count = team ? format(p->c, "%s - %s", to, from) : to;
    if (pitch == 1)
        printer_line(p, "cnnc_zeros(%s, 1, 0, %s);", start, count);
    else
        printer_line(p, "cnnc_zeros(%s, %s, %d, %d);", start, count, pitch, n);
}

/* The zeros between the rows, or of lanes that nothing writes, once for every birth
 * of the buffer. */
static void print_zeros(Printer *p, const Storage *s)
{
    const Layout *l = &s->layout;
    const char *name = printer_argument(p, s);
    bool gaps = !s->clear && l->gap && !FAULT(p->c, FAULT_GAP_NOT_CLEARED);
    if (p->file->strips && (s->clear || gaps)) {
        print_zero_call(p, name, gaps ? l->rows + 1 : l->elements, gaps ? l->pitch : 1, gaps ? l->gap : 1);
    } else if (s->clear) {
        print_zero_loop(p, "i", l->elements);
        printer_line(p, "    %s[i] = 0;", name);
    } else if (gaps) {
        print_zero_loop(p, "row", l->rows + 1);
        if (l->gap == 1) {
            printer_line(p, "    %s[row * %d] = 0;", name, l->pitch);
        } else {
            printer_line(p, "    for (int i = 0; i < %d; i++)", l->gap);
            printer_line(p, "        %s[row * %d + i] = 0;", name, l->pitch);
        }
    }
    if (s->clear && kernel_shared(p->kernel))    /* the nests write into what is cleared */
        printer_line(p, "%s_meet(team);", p->prefix);
}

static bool expr_seeded(const Expr *e)
{
    bool found = e && e->kind == X_CALL && e->fn == FN_RANDOM;
    for (int i = 0; e && i < 3 && e->kind == X_CALL; i++)
        found |= expr_seeded(e->arg[i]);
    return found;
}

bool kernel_seeded(const Kernel *k)
{
    for (int i = 0; i < k->nests; i++)
        if (expr_seeded(k->nest[i]->store.value) || (k->nest[i]->reduces && expr_seeded(k->nest[i]->term)))
            return true;
    return false;
}

bool kernel_shared(const Kernel *k)
{
    for (int i = 0; i < k->nests; i++)
        if (k->nest[i]->shared >= 0)
            return true;
    return false;
}

/* Two arguments in one place must not claim to be apart. */
static bool shared(const Kernel *k, const Storage *s)
{
    for (int i = 0; i < k->storages; i++)
        if (k->storage[i] != s && k->storage[i]->place == PLACE_WORKSPACE && s->place == PLACE_WORKSPACE &&
            k->storage[i]->offset == s->offset && printer_memory(k, k->storage[i]) == k->storage[i])
            return true;
    return false;
}

static const char *print_arguments(Printer *p)
{
    const Kernel *k = p->kernel;
    Text t = {.c = p->c};
    bool from = false;
    for (int i = 0; i < k->storages; i++) {
        const Storage *s = k->storage[i];
        if (printer_memory(k, s) != s)
            continue;
        const char *name = printer_argument(p, s);
        const char *read_only = printer_writes(k, s) ? "" : "const ";
        bool by_number = printer_by_number(p->f, s);
        printer_argument_list(&t, 4, by_number ? format(p->c, "int %s", name) :
                              format(p->c, "%s%s *%s%s", read_only, printer_type(s->dtype),
                                     shared(k, s) ? "" : p->restricted, name));
        from |= by_number;
    }
    if (from)
        printer_argument_list(&t, 4, format(p->c, "const %s_source *from", p->prefix));
    if (kernel_seeded(k))
        printer_argument_list(&t, 4, "uint64_t seed");
    if (kernel_shared(k))
        printer_argument_list(&t, 4, format(p->c, "const %s_team *team", p->prefix));
    return t.length > LINE / 2 ? format(p->c, "\n    %s", t.data) : t.data;
}

const char *print_kernel(Leaves *leaves, Context *c, const char *prefix, const Function *f, const Kernel *k,
                         bool by_part)
{
    Printer p = {.c = c, .file = leaves, .prefix = prefix, .f = f, .kernel = k, .by_part = by_part,
                 .restricted = format(c, "%s_RESTRICT ", print_upper(c, prefix)), .text = {.c = c}};
    printer_line(&p, "(%s)", print_arguments(&p));
    printer_line(&p, "{");
    p.depth++;
    print_matrices(&p);
    for (int i = 0; i < k->storages; i++) {
        const Storage *s = k->storage[i];
        bool own = i == 0 || ((s->clear || s->layout.gap) && stores(k, s));
        if (own && (s->place != PLACE_WORKSPACE || f->kernel[s->birth] == k))
            print_zeros(&p, s);
    }
    print_nests(&p);
    p.depth--;
    printer_line(&p, "}");
    return p.text.data;
}
