/* Lines, names, pointers and bounds of a kernel's text. */
#include "print.h"

#include <ctype.h>
#include <string.h>

/* Where a statement of more than a line breaks: before an operator or behind a comma that fits,
 * in the second half of the line, within the fewest brackets. */
static size_t break_at(const char *text, size_t room)
{
    size_t at = 0;
    int depth = 0, least = 0;
    for (size_t i = 1; text[i] && i < room; i++) {
        depth += (text[i] == '(') - (text[i] == ')');
        bool before = text[i - 1] == ' ' && strchr("+-*/?:", text[i]) && text[i + 1] == ' ';
        bool behind = text[i - 1] == ',' && text[i] == ' ';
        if ((before || behind) && (!at || at < room / 2 || depth <= least)) {
            at = before ? i - 1 : i;
            least = depth;
        }
    }
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
    p->statements++;
}

Braces printer_open(Printer *p, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    printer_line(p, "%s {", vformat(p->c, text, args));
    va_end(args);
    Braces b = {p->text.length, p->statements};
    p->depth++;
    p->statements = 0;
    return b;
}

void printer_close(Printer *p, Braces b)
{
    static const char brace[] = " {\n";
    bool one = p->statements == 1;
    p->depth--;
    if (one)
        text_cut(&p->text, b.at - strlen(brace), strlen(" {"));
    else
        printer_line(p, "}");
    p->statements = b.outside;
}

/* -- names -- */

static bool taken_by_loops(const Kernel *k, const char *name)
{
    for (int i = 0; i < k->nests; i++)
        for (int a = 0; a < k->nest[i]->axes; a++)
            if (!strcmp(k->nest[i]->axis[a].name, name))
                return true;
    if (!strcmp(name, "i") || !strcmp(name, "row") || !strcmp(name, "seed") || !strcmp(name, "from") ||
        !strcmp(name, "team") || !strcmp(name, "end") || !strcmp(name, "by") || !strcmp(name, "times"))
        return true;
    return name[0] && strchr("skv", name[0]) && isdigit((unsigned char)name[1]);
}

static const char *part(const Printer *p, const Storage *s)
{
    if (s == p->kernel->storage[0])
        return "out";
    if (printer_by_number(p->f, s))
        return "param";
    if (s->band)
        return "tiles";
    return s->place != PLACE_PARAM ? "in" : s->shape.rank > 1 ? "weight" : "bias";
}

const Storage *printer_memory(const Kernel *k, const Storage *s)
{
    return k->storage[0]->takes == s ? k->storage[0] : s;
}

/* out, in, in2, in3, weight ... */
static const char *numbered_part(const Printer *p, const Storage *s)
{
    const char *name = part(p, s);
    int serial = 1;
    for (int i = 0; p->kernel->storage[i] != s; i++)
        serial += !strcmp(part(p, p->kernel->storage[i]), name);
    return serial > 1 ? format(p->c, "%s%d", name, serial) : name;
}

bool printer_by_number(const Function *f, const Storage *s)
{
    return f->packs && s->param && !s->param->derived;
}

const char *printer_argument(const Printer *p, const Storage *s)
{
    s = printer_memory(p->kernel, s);
    const char *name = p->by_part ? numbered_part(p, s) : s->name;
    while (taken_by_loops(p->kernel, name))
        name = format(p->c, "%s_", name);
    return name;
}

static bool taken(const Printer *p, const char *name)
{
    if (taken_by_loops(p->kernel, name))
        return true;
    for (int i = 0; i < p->kernel->storages; i++)
        if (!strcmp(printer_argument(p, p->kernel->storage[i]), name))
            return true;
    for (int i = 0; i < p->pointers; i++)
        if (!strcmp(p->pointer[i].name, name))
            return true;
    for (int i = 0; i < p->bounds; i++)
        if (!strcmp(p->bound[i].from, name) || !strcmp(p->bound[i].to, name))
            return true;
    return false;
}

const char *printer_fresh(Printer *p, const char *base, const char *suffix)
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

const char *printer_type(DType dtype)
{
    return dtype == I32 ? "int32_t" : "float";
}

/* Loops of one nest have different names, whatever was collapsed. */
void printer_name_axes(Printer *p)
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
        if (q->storage == printer_memory(p->kernel, s) && same_part(&q->address, address)) {
            *base = q->address.constant;
            return q->name;
        }
    }
    return NULL;
}

bool printer_writes(const Kernel *k, const Storage *s)
{
    bool found = s == k->storage[0];
    for (int i = 0; i < k->nests; i++)
        found |= k->nest[i]->store.node->storage == s;
    return found;
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
    if (printer_by_number(g->p->f, s) || constant(address) || !settled(g->known, g->axis, address))
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
    Gather *g = user;
    gather_access(g, printer_memory(g->p->kernel, load->load.node->storage), &load->affine);
}

bool printer_runs_once(const Loop *l)
{
    return l->kind == LOOP_FOR && l->end - l->begin == l->step && !l->lows && !l->highs;
}

static void gather(Gather *g, const Loop *l)
{
    for (; l; l = l->next) {
        if (l->kind == LOOP_FOR) {
            bool before = g->deeper;
            g->deeper |= !printer_runs_once(l);
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

void printer_declare_pointers(Printer *p, const bool *known, int axis, const Loop *body)
{
    Gather g = {.p = p, .known = known, .axis = axis};
    gather(&g, body);
    for (int i = 0; i < g.groups; i++) {
        const Group *group = &g.group[i];
        if (group->uses < 2 && !group->deeper)
            continue;
        const char *argument = printer_argument(p, group->storage);
        const char *name = printer_fresh(p, letter(p, group->storage), "");
        bool writes = printer_writes(p->kernel, group->storage);
        const char *offset = print_affine(p, &group->address, group->address.constant);
        bool sum = strpbrk(offset, "+-") != NULL;   /* one offset: nothing in between leaves the array */
        printer_line(p, "%s%s *const %s = %s + %s%s%s;", writes ? "" : "const ",
                     printer_type(group->storage->dtype), name, argument,
                     sum ? "(" : "", offset, sum ? ")" : "");
        PUSH(p->c, p->pointer, p->pointers) = (Pointer){group->storage, group->address, name, p->depth};
    }
}

/* "oc = 2 * net_part(team, 8, 0)": where the calling thread's part of a loop begins or ends. */
const char *printer_part(const Printer *p, const Loop *l, int end)
{
    const char *part = format(p->c, "%s_part(team, %d, %d)", p->prefix, (l->end - l->begin) / l->step, end);
    if (l->step > 1)
        part = format(p->c, "%d * %s", l->step, part);
    return l->begin ? format(p->c, "%d + %s", l->begin, part) : part;
}

/* -- bounds of clipped loops -- */

static bool same_bounds(const Loop *a, const Loop *b)
{
    return a->axis == b->axis && a->begin == b->begin && a->end == b->end && a->lows == b->lows &&
           a->highs == b->highs && (!a->lows || !memcmp(a->low, b->low, (size_t)a->lows * sizeof(Bound))) &&
           (!a->highs || !memcmp(a->high, b->high, (size_t)a->highs * sizeof(Bound)));
}

const BoundName *printer_bound(const Printer *p, const Loop *l)
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
    const char *name = printer_fresh(p, p->axis[l->axis], suffix);
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

void printer_declare_bounds(Printer *p, const bool *known, const Loop *l)
{
    for (; l; l = l->next) {
        for (int i = 0; (l->kind == LOOP_LEAF || l->kind == LOOP_TRANSFORM) && i < LEAF_LOOPS; i++)
            if (l->clip[i])
                printer_declare_bounds(p, known, l->clip[i]);
        for (int i = 0; l->kind == LOOP_STRIP && i < l->strip->loops; i++)
            printer_declare_bounds(p, known, l->strip->loop[i]);
        if (l->kind != LOOP_FOR)
            continue;
        if (bounds_settled(known, l) && !printer_bound(p, l))
            declare_bound(p, l);
        printer_declare_bounds(p, known, l->body);
    }
}
