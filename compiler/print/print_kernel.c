/* A kernel as a C function: its arguments, and its loop trees as statements.
 *
 * What a careful engineer would do by hand is done here: an address is split into a
 * pointer, declared in the outermost block where it is constant, and the constant
 * that the unrolled taps add to it; the bounds of clipped loops stand in the outermost
 * block that knows them. */
#include "print.h"

#include <ctype.h>
#include <string.h>

enum { LINE = 100 };

/* Where a statement of more than a line breaks: before its last operator that fits. */
static size_t break_at(const char *text, size_t room)
{
    size_t at = 0;
    for (size_t i = 1; text[i] && i < room; i++)
        if (text[i - 1] == ' ' && strchr("+-*/?:", text[i]) && text[i + 1] == ' ')
            at = i - 1;
    return at;
}

void printer_line(Printer *p, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    const char *rest = vformat(p->c, text, args);
    va_end(args);
    int indent = 4 * p->depth;
    while (!strchr(rest, '\n') && strlen(rest) + (size_t)indent > LINE + 10) {
        size_t at = break_at(rest, (size_t)(LINE - indent));
        if (!at)
            break;
        text_add(&p->text, "%*s%.*s\n", indent, "", (int)at, rest);
        rest += at + 1;
        indent = 4 * p->depth + 4;
    }
    text_add(&p->text, "%*s%s\n", indent, "", rest);
}

void printer_argument_list(Text *t, int indent, const char *argument)
{
    const char *line = t->length ? strrchr(t->data, '\n') : NULL;
    size_t used = t->length ? strlen(line ? line : t->data) : 0;
    if (t->length && used + strlen(argument) > LINE - 8)
        text_add(t, ",\n%*s%s", indent, "", argument);
    else
        text_add(t, "%s%s", t->length ? ", " : "", argument);
}

/* -- names -- */

static bool taken_by_loops(const Kernel *k, const char *name)
{
    for (int i = 0; i < k->nests; i++)
        for (int a = 0; a < k->nest[i]->axes; a++)
            if (!strcmp(k->nest[i]->axis[a].name, name))
                return true;
    if (!strcmp(name, "i") || !strcmp(name, "row") || !strcmp(name, "seed") || !strcmp(name, "from"))
        return true;
    return name[0] && strchr("skv", name[0]) && isdigit((unsigned char)name[1]);
}

const char *printer_argument(Printer *p, const Storage *s)
{
    const char *name = s->name;
    while (taken_by_loops(p->kernel, name))
        name = format(p->c, "%s_", name);
    return name;
}

static bool taken(const Printer *p, const char *name)
{
    if (taken_by_loops(p->kernel, name))
        return true;
    for (int i = 0; i < p->kernel->storages; i++)
        if (!strcmp(p->kernel->storage[i]->name, name))
            return true;
    for (int i = 0; i < p->pointers; i++)
        if (!strcmp(p->pointer[i].name, name))
            return true;
    for (int i = 0; i < p->bounds; i++)
        if (!strcmp(p->bound[i].from, name) || !strcmp(p->bound[i].to, name))
            return true;
    return false;
}

static const char *fresh(Printer *p, const char *base, const char *suffix)
{
    const char *name = format(p->c, "%s%s", base, suffix);
    for (int serial = 2; taken(p, name); serial++)
        name = format(p->c, "%s%d%s", base, serial, suffix);
    return name;
}

/* Pointers are called as in a formula: y = w * x + b. */
static const char *letter(const Printer *p, const Storage *s)
{
    if (s == p->kernel->storage[0])
        return "y";
    return s->place != PLACE_PARAM ? "x" : s->shape.rank > 1 ? "w" : "b";
}

static const char *type_name(DType dtype)
{
    return dtype == I32 ? "int32_t" : "float";
}

/* Loops of one nest have different names, whatever was collapsed. */
static void name_axes(Printer *p)
{
    for (int a = 0; a < p->nest->axes; a++) {
        p->axis[a] = p->nest->axis[a].name;
        for (int b = 0; b < a; b++)
            if (p->nest->axis[b].extent > 1 && !strcmp(p->axis[a], p->axis[b]))
                p->axis[a] = format(p->c, "%s%d", p->nest->axis[a].name, a);
    }
}

/* -- pointers -- */

static bool same_part(const Affine *a, const Affine *b)
{
    return memcmp(a->coef, b->coef, sizeof a->coef) == 0;
}

const char *printer_pointer(Printer *p, const Storage *s, const Affine *address, int *base)
{
    for (int i = p->pointers - 1; i >= 0; i--) {
        Pointer *q = &p->pointer[i];
        if (q->storage == s && same_part(&q->address, address)) {
            *base = q->address.constant;
            return q->name;
        }
    }
    return NULL;
}

/* Addresses below a block that change in its loop, but in none inside. */
typedef struct Group { const Storage *storage; Affine address; int uses; bool deeper; } Group;

typedef struct Gather {
    Printer *p;
    const bool *known;        /* axes with a value in this block */
    int axis;                 /* of the block's own loop; -1: outside all loops */
    bool deeper;              /* now inside a further loop */
    int weight;               /* how often the text names an access */
    Group *group;  int groups;
} Gather;

static bool settled(const bool *known, int axis, const Affine *a)
{
    for (int i = 0; i < MAX_AXES; i++)
        if (a->coef[i] && !known[i])
            return false;
    return axis < 0 || a->coef[axis];
}

static bool constant(const Affine *a)
{
    for (int i = 0; i < MAX_AXES; i++)
        if (a->coef[i])
            return false;
    return true;
}

static void gather_access(Gather *g, const Storage *s, const Affine *address)
{
    bool by_call = g->p->f->packs && s->param && !s->param->derived;
    if (by_call || constant(address) || !settled(g->known, g->axis, address))
        return;
    for (int i = 0; i < g->groups; i++) {
        Group *group = &g->group[i];
        if (group->storage == s && same_part(&group->address, address)) {
            group->uses += g->weight;
            group->deeper |= g->deeper;
            if (address->constant < group->address.constant)
                group->address.constant = address->constant;
            return;
        }
    }
    PUSH(g->p->c, g->group, g->groups) = (Group){s, *address, g->weight, g->deeper};
}

static void gather_load(Expr *load, void *user)
{
    gather_access(user, load->load.node->storage, &load->affine);
}

static bool runs_once(const Loop *l)
{
    return l->kind == LOOP_FOR && l->end - l->begin == l->step && !l->lows && !l->highs;
}

static void gather(Gather *g, const Loop *l)
{
    for (; l; l = l->next) {
        if (l->kind == LOOP_FOR) {
            bool before = g->deeper;
            g->deeper |= !runs_once(l);
            gather(g, l->body);
            g->deeper = before;
        }
        g->weight = g->p->nest->reduce == REDUCE_SUM ? 1 : 2;      /* if (x > s) s = x; */
        for (int i = 0; l->kind == LOOP_UPDATE && i < l->terms; i++) {
            expr_loads(l->term[i], gather_load, g);
            expr_loads(l->tag ? l->tag[i] : NULL, gather_load, g);
        }
        g->weight = 1;
        if (l->kind == LOOP_STORE) {
            expr_loads(l->store.value, gather_load, g);
            gather_access(g, l->store.node->storage, &l->store.address);
        }
    }
}

static void declare_pointers(Printer *p, const bool *known, int axis, const Loop *body)
{
    Gather g = {.p = p, .known = known, .axis = axis};
    gather(&g, body);
    for (int i = 0; i < g.groups; i++) {
        const Group *group = &g.group[i];
        if (group->uses < 2 && !group->deeper)
            continue;
        const char *argument = printer_argument(p, group->storage);
        const char *name = fresh(p, letter(p, group->storage), "");
        bool writes = group->storage == p->kernel->storage[0];
        const char *offset = print_affine(p, &group->address, group->address.constant);
        bool sum = strpbrk(offset, "+-") != NULL;   /* one offset: nothing in between leaves the array */
        printer_line(p, "%s%s *const %s = %s + %s%s%s;", writes ? "" : "const ",
                     type_name(group->storage->dtype), name, argument, sum ? "(" : "", offset, sum ? ")" : "");
        PUSH(p->c, p->pointer, p->pointers) = (Pointer){group->storage, group->address, name, p->depth};
    }
}

/* -- bounds of clipped loops -- */

static bool same_bounds(const Loop *a, const Loop *b)
{
    return a->axis == b->axis && a->begin == b->begin && a->end == b->end && a->lows == b->lows &&
           a->highs == b->highs && (!a->lows || !memcmp(a->low, b->low, (size_t)a->lows * sizeof(Bound))) &&
           (!a->highs || !memcmp(a->high, b->high, (size_t)a->highs * sizeof(Bound)));
}

static const BoundName *find_bound(const Printer *p, const Loop *l)
{
    for (int i = 0; i < p->bounds; i++)
        if (same_bounds(p->bound[i].loop, l))
            return &p->bound[i];
    return NULL;
}

static const char *print_bound(Printer *p, const Bound *b)
{
    const char *value = print_affine(p, &b->value, b->value.constant);
    return b->divisor == 1 ? value : format(p->c, "(%s) / %d", value, b->divisor);
}

/* One end of a clipped loop: the constant if that is all, else a variable that
 * every bound narrows. */
static const char *declare_end(Printer *p, const Loop *l, const char *suffix, int limit, const Bound *bound,
                               int bounds, char sign)
{
    if (!bounds)
        return format(p->c, "%d", limit);
    const char *name = fresh(p, p->axis[l->axis], suffix);
    printer_line(p, "int %s = %s;", name, print_bound(p, &bound[0]));
    for (int i = 1; i < bounds; i++) {
        const char *value = print_bound(p, &bound[i]);
        printer_line(p, "%s = %s %c %s ? %s : %s;", name, name, sign, value, name, value);
    }
    printer_line(p, "%s = %s %c %d ? %s : %d;", name, name, sign, limit, name, limit);
    return name;
}

static void declare_bound(Printer *p, const Loop *l)
{
    const char *from = declare_end(p, l, "_from", l->begin, l->low, l->lows, '>');
    const char *to = declare_end(p, l, "_to", l->end, l->high, l->highs, '<');
    PUSH(p->c, p->bound, p->bounds) = (BoundName){l, from, to, p->depth};
}

static bool bounds_settled(const bool *known, const Loop *l)
{
    for (int i = 0; i < l->lows; i++)
        if (!settled(known, -1, &l->low[i].value))
            return false;
    for (int i = 0; i < l->highs; i++)
        if (!settled(known, -1, &l->high[i].value))
            return false;
    return l->lows || l->highs;
}

static void declare_bounds(Printer *p, const bool *known, const Loop *l)
{
    for (; l; l = l->next) {
        for (int i = 0; l->kind == LOOP_LEAF && i < LEAF_LOOPS; i++)
            if (l->clip[i])
                declare_bounds(p, known, l->clip[i]);
        if (l->kind != LOOP_FOR)
            continue;
        if (bounds_settled(known, l) && !find_bound(p, l))
            declare_bound(p, l);
        declare_bounds(p, known, l->body);
    }
}

/* -- statements -- */

static void print_block(Printer *p, bool *known, int axis, const Loop *body);

/* A loop that copies elements side by side, as one call: libtcc has no vectors. */
static bool print_copy(Printer *p, const Loop *l)
{
    const Loop *store = l->body;
    if (!p->file->hosted || p->f->packs || l->lows || l->highs || l->step != 1 || !store || store->next ||
        store->kind != LOOP_STORE || store->store.accumulate || store->store.value->kind != X_LOAD)
        return false;
    const Expr *from = store->store.value;
    if (store->store.address.coef[l->axis] != 1 || from->affine.coef[l->axis] != 1)
        return false;
    Affine to = store->store.address, at = from->affine;
    to.constant += l->begin, to.coef[l->axis] = 0;
    at.constant += l->begin, at.coef[l->axis] = 0;
    printer_line(p, "memcpy(%s + (%s), %s + (%s), %d * sizeof(float));",
                 printer_argument(p, store->store.node->storage), print_affine(p, &to, to.constant),
                 printer_argument(p, from->load.node->storage), print_affine(p, &at, at.constant), l->end - l->begin);
    return true;
}

/* A loop that runs once is a block, and not even that where nothing else stands. */
static void print_for(Printer *p, bool *known, const Loop *l, bool alone)
{
    const char *v = p->axis[l->axis];
    if (l->end <= l->begin || print_copy(p, l))  /* clipped away; or done */
        return;
    if (runs_once(l) && alone) {
        print_block(p, known, -1, l->body);
        return;
    }
    if (runs_once(l)) {
        printer_line(p, "{");
    } else if (l->lows || l->highs) {
        const BoundName *b = find_bound(p, l);
        printer_line(p, "for (int %s = %s; %s < %s; %s++) {", v, b->from, v, b->to, v);
    } else {
        const char *step = l->step == 1 ? "++" : format(p->c, " += %d", l->step);
        printer_line(p, "for (int %s = %d; %s < %d; %s%s) {", v, l->begin, v, l->end, v, step);
    }
    p->depth++;
    bool once = runs_once(l);
    known[l->axis] = !once;
    print_block(p, known, once ? -1 : l->axis, l->body);
    known[l->axis] = false;
    p->depth--;
    printer_line(p, "}");
}

static void print_init(Printer *p, const Loop *l)
{
    printer_line(p, "float s%d = %s;", l->acc, p->nest->reduce == REDUCE_SUM ? "0.0f" : "-INFINITY");
    if (p->nest->reduce == REDUCE_ARGMAX)
        printer_line(p, "int k%d = 0;", l->acc);
}

/* All terms in one expression: a compiler without optimiser keeps it in registers. */
static void print_sum(Printer *p, const Loop *l, bool first)
{
    Text t = {.c = p->c};
    size_t start = 0;
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

/* -- leaves -- */

static const char *leaf_name(Printer *p, const Leaf *wanted)
{
    Context *c = p->c;
    Leaf *leaf = NEW(c, Leaf);
    *leaf = *wanted;
    leaf->stride = p->file->hosted ? print_leaf_stride(leaf) : 0;    /* a compiler sees the constants */
    const char *text = print_leaf_geometry(c, p->prefix, p->file->hosted, leaf);
    for (int i = 0; i < p->file->leaves; i++)
        if (!strcmp(p->file->leaf[i].text, text))
            return p->file->leaf[i].name;
    const char *name = format(c, "%s_%s_%d", p->prefix, print_leaf_member(c, leaf), p->file->leaves + 1);
    PUSH(c, p->file->leaf, p->file->leaves) = (LeafText){leaf, text, name};
    return name;
}

/* Where an operand begins: a clipped loop's first value is its bound's. */
static const char *operand_start(Printer *p, const Loop *l, const Operand *o)
{
    if (!o->node)
        return "0";
    Affine address = o->address;
    const char *saved[MAX_AXES];
    memcpy(saved, p->axis, sizeof saved);
    for (int i = 0; i < LEAF_LOOPS; i++) {
        const Loop *clip = l->clip[i];
        if (clip && !clip->lows) {
            address.constant += address.coef[clip->axis] * clip->begin;
            address.coef[clip->axis] = 0;
        } else if (clip) {
            p->axis[clip->axis] = find_bound(p, clip)->from;
        }
    }
    const char *offset = print_affine(p, &address, address.constant);
    memcpy(p->axis, saved, sizeof saved);
    const char *name = printer_argument(p, o->node->storage);
    return !strcmp(offset, "0") ? name : format(p->c, strpbrk(offset, "+-") ? "%s + (%s)" : "%s + %s", name, offset);
}

static const char *loop_count(Printer *p, const Loop *l, int i)
{
    const Loop *clip = l->clip[i];
    if (!clip)
        return format(p->c, "%d", l->leaf->count[i]);
    if (!clip->lows && !clip->highs)
        return format(p->c, "%d", clip->end - clip->begin);
    const BoundName *b = find_bound(p, clip);
    return strcmp(b->from, "0") ? format(p->c, "%s - %s", b->to, b->from) : b->to;
}

static void print_leaf(Printer *p, const Loop *l)
{
    const Leaf *leaf = l->leaf;
    printer_line(p, "%s(%s, %s, %s, %s, %s, %s, %s, %s);", leaf_name(p, leaf), operand_start(p, l, &leaf->y),
                 operand_start(p, l, &leaf->a), operand_start(p, l, &leaf->b), operand_start(p, l, &leaf->bias),
                 operand_start(p, l, &leaf->add), operand_start(p, l, &leaf->ahead),
                 loop_count(p, l, 1), loop_count(p, l, 2));
}

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
        } else if (l->kind == LOOP_INIT && filled_at_once(l)) {
            unborn |= 1u << l->acc;
        } else if (l->kind == LOOP_INIT) {
            print_init(p, l);
        } else if (l->kind == LOOP_UPDATE) {
            (p->nest->reduce == REDUCE_SUM ? print_sum : print_max)(p, l, unborn >> l->acc & 1);
            unborn &= ~(1u << l->acc);
        } else if (l->kind == LOOP_LEAF) {
            print_leaf(p, l);
        } else {
            print_store(p, l);
        }
    }
}

/* A block: bounds and pointers that its own axis settles, then its statements. */
static void print_block(Printer *p, bool *known, int axis, const Loop *body)
{
    int pointers = p->pointers, bounds = p->bounds;
    declare_bounds(p, known, body);
    if (axis >= 0)
        declare_pointers(p, known, axis, body);
    print_statements(p, known, body);
    p->pointers = pointers;
    p->bounds = bounds;
}

static void print_nest(Printer *p, Nest *nest)
{
    bool known[MAX_AXES] = {false};
    p->nest = nest;
    p->values = 0;
    name_axes(p);
    const Loop *l = nest->loops;
    bool looped = l && l->kind == LOOP_FOR && !l->lows && !l->highs && !runs_once(l);
    bool bare = !looped && p->kernel->nests > 1;
    if (bare) {                                  /* its locals must not meet another nest's */
        printer_line(p, "{");
        p->depth++;
    }
    print_block(p, known, -1, nest->loops);
    if (bare) {
        p->depth--;
        printer_line(p, "}");
    }
}

/* -- the function -- */

/* The zeros between the rows, or of lanes that nothing writes, once for every birth
 * of the buffer. */
static void print_zeros(Printer *p, const Storage *s)
{
    const Layout *l = &s->layout;
    const char *name = printer_argument(p, s);
    if (s->clear) {
        printer_line(p, "for (int i = 0; i < %d; i++)", l->elements);
        printer_line(p, "    %s[i] = 0;", name);
    } else if (l->gap && !FAULT(p->c, FAULT_GAP_NOT_CLEARED)) {
        printer_line(p, "for (int row = 0; row <= %d; row++)", l->rows);
        if (l->gap == 1) {
            printer_line(p, "    %s[row * %d] = 0;", name, l->pitch);
        } else {
            printer_line(p, "    for (int i = 0; i < %d; i++)", l->gap);
            printer_line(p, "        %s[row * %d + i] = 0;", name, l->pitch);
        }
    }
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

/* Two arguments in one place must not claim to be apart. */
static bool shared(const Kernel *k, const Storage *s)
{
    for (int i = 0; i < k->storages; i++)
        if (k->storage[i] != s && k->storage[i]->place == PLACE_WORKSPACE && s->place == PLACE_WORKSPACE &&
            k->storage[i]->offset == s->offset)
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
        if (p->f->packs && s->param && !s->param->derived) {
            from = true;
            continue;
        }
        printer_argument_list(&t, 4, format(p->c, "%s%s *%s%s", i ? "const " : "", type_name(s->dtype),
                                            shared(k, s) ? "" : "CNNC_RESTRICT ", printer_argument(p, s)));
    }
    if (from)
        printer_argument_list(&t, 4, format(p->c, "const %s_source *from", p->prefix));
    if (kernel_seeded(k))
        printer_argument_list(&t, 4, "uint64_t seed");
    return t.length > LINE / 2 ? format(p->c, "\n    %s", t.data) : t.data;
}

const char *print_kernel(Leaves *leaves, Context *c, const char *prefix, const Function *f, const Kernel *k)
{
    Printer p = {.c = c, .file = leaves, .prefix = prefix, .f = f, .kernel = k, .text = {.c = c}};
    printer_line(&p, "(%s)", print_arguments(&p));
    printer_line(&p, "{");
    p.depth++;
    if (k->storage[0]->place != PLACE_WORKSPACE || f->kernel[k->storage[0]->birth] == k)
        print_zeros(&p, k->storage[0]);
    for (int i = 0; i < k->nests; i++)
        print_nest(&p, k->nest[i]);
    p.depth--;
    printer_line(&p, "}");
    return p.text.data;
}
