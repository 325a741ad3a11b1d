/* The call of a leaf: where its operands begin, how often its clipped loops run. */
#include "print.h"

#include <string.h>

static const char *leaf_name(Printer *p, const Leaf *wanted)
{
    Context *c = p->c;
    Leaf *leaf = NEW(c, Leaf);
    *leaf = *wanted;
    if (p->file->hosted)                         /* a compiler sees the constants */
        print_leaf_suit(leaf);
    const char *text = print_leaf_geometry(c, leaf);
    for (int i = 0; i < p->file->leaves; i++)
        if (!strcmp(p->file->leaf[i].text, text))
            return p->file->leaf[i].name;
    const char *name = format(c, "%s_%s_%d", p->prefix, print_leaf_member(c, leaf), p->file->leaves + 1);
    PUSH(c, p->file->leaf, p->file->leaves) = (LeafText){leaf, text, name};
    return name;
}

/* Where an operand begins: a clipped loop's first value is its bound's, and a row's its loop's. */
static const char *operand_start(Printer *p, const Loop *l, const Operand *o, const Loop *row)
{
    if (!o->node)
        return "0";
    Affine address = o->address;
    if (row && row->axis != p->nest->shared) {
        address.constant += address.coef[row->axis] * row->begin;
        address.coef[row->axis] = 0;
    }
    const char *saved[MAX_AXES];
    memcpy(saved, p->axis, sizeof saved);
    for (int i = 0; i < LEAF_LOOPS; i++) {
        const Loop *clip = l->clip[i];
        if (clip && !clip->lows) {
            address.constant += address.coef[clip->axis] * clip->begin;
            address.coef[clip->axis] = 0;
        } else if (clip) {
            p->axis[clip->axis] = printer_bound(p, clip)->from;
        }
    }
    const char *offset = print_affine(p, &address, address.constant);
    memcpy(p->axis, saved, sizeof saved);
    const char *name = printer_argument(p, o->node->storage);
    if (!strcmp(offset, "0"))
        return name;
    return format(p->c, strpbrk(offset, "+-") ? "%s + (%s)" : "%s + %s", name, offset);
}

/* Of a transform's rows the first that exists (1), the one behind the last (2). */
static const char *row_limit(Printer *p, const Loop *l, int i)
{
    const Loop *clip = l->clip[1];
    if (!clip)
        return format(p->c, "%d", i == 1 ? 0 : l->leaf->matrix->columns);
    if (!clip->lows && !clip->highs)
        return format(p->c, "%d", i == 1 ? clip->begin : clip->end);
    const BoundName *b = printer_bound(p, clip);
    return i == 1 ? b->from : b->to;
}

static const char *loop_count(Printer *p, const Loop *l, int i)
{
    const Loop *clip = l->clip[i];
    if (l->leaf->matrix)
        return row_limit(p, l, i);
    if (!clip)
        return format(p->c, "%d", l->leaf->count[i]);
    if (!clip->lows && !clip->highs)
        return format(p->c, "%d", clip->end - clip->begin);
    const BoundName *b = printer_bound(p, clip);
    return strcmp(b->from, "0") ? format(p->c, "%s - %s", b->to, b->from) : b->to;
}

/* The rows of its operand that a window meets: the first (0) or the end (1). */
static const char *window_row(Printer *p, const Loop *l, int end)
{
    const Leaf *leaf = l->leaf;
    const Loop *clip = l->clip[LEAF_LOOPS - 2];
    if (clip && (clip->lows || clip->highs))
        return end ? printer_bound(p, clip)->to : printer_bound(p, clip)->from;
    int rows = leaf->window + (leaf->vectors - 1) * leaf->stride / leaf->lanes;
    return format(p->c, "%d", clip ? end ? clip->end : clip->begin : end * rows);
}

static void print_call(Printer *p, const Loop *l, const Loop *row, const char *times)
{
    const Leaf *leaf = l->leaf;
    const char *n1 = leaf->window ? window_row(p, l, 0) : loop_count(p, l, 1);
    const char *n2 = leaf->window ? window_row(p, l, 1) : loop_count(p, l, 2);
    const char *more = !p->file->hosted ? "" : row ? format(p->c, ", %s, &by", times) : ", 1, 0";
    printer_line(p, "%s(%s, %s, %s, %s, %s, %s, %s, %s%s);", leaf_name(p, leaf),
                 operand_start(p, l, &leaf->y, row), operand_start(p, l, &leaf->a, row),
                 operand_start(p, l, &leaf->b, row), operand_start(p, l, &leaf->bias, row),
                 operand_start(p, l, &leaf->add, row), operand_start(p, l, &leaf->ahead, row),
                 n1, n2, more);
}

void print_leaf_call(Printer *p, const Loop *l)
{
    print_call(p, l, NULL, NULL);
}

/* Whether the passes of a loop differ in nothing but where their leaf's operands begin. */
static bool is_row(const Printer *p, const Loop *l)
{
    const Loop *leaf = l->body;
    if (!p->file->hosted || l->lows || l->highs || printer_runs_once(l) || leaf->kind != LOOP_LEAF ||
        leaf->next)
        return false;
    for (int i = 0; i < LEAF_LOOPS; i++) {
        const Loop *clip = leaf->clip[i];
        for (int k = 0; clip && k < clip->lows; k++)
            if (clip->low[k].value.coef[l->axis])
                return false;
        for (int k = 0; clip && k < clip->highs; k++)
            if (clip->high[k].value.coef[l->axis])
                return false;
    }
    return true;
}

bool print_leaf_row(Printer *p, const Loop *l)
{
    if (!is_row(p, l))
        return false;
    const Leaf *leaf = l->body->leaf;
    const Operand *const operand[] = {&leaf->y, &leaf->a, &leaf->b, &leaf->bias, &leaf->add, &leaf->ahead};
    Text by = {.c = p->c};
    for (int i = 0; i < 6; i++)
        printer_argument_list(&by, 8, format(p->c, "%d", operand[i]->node
                                                         ? operand[i]->address.coef[l->axis] * l->step : 0));
    printer_line(p, "{");
    p->depth++;
    printer_line(p, "static const %s_next by = {%s};", p->prefix, by.data);
    if (l->axis == p->nest->shared) {
        const char *axis = p->axis[l->axis], *end = printer_part(p, l, 1);
        printer_line(p, "const int %s = %s, times = (%s - %s) / %d;", axis, printer_part(p, l, 0), end, axis,
                     l->step);
        printer_line(p, "if (times > 0)");
        p->depth++;
        print_call(p, l->body, l, "times");
        p->depth--;
    } else {
        print_call(p, l->body, l, format(p->c, "%d", (l->end - l->begin) / l->step));
    }
    p->depth--;
    printer_line(p, "}");
    return true;
}

/* -- loops that borders clip at their ends -- */

/* A bound where the axis, the only one that it may know, has this value. */
static int bound_at(const Bound *b, int axis, int at, bool *simple)
{
    for (int i = 0; i < MAX_AXES; i++)
        *simple &= i == axis || !b->value.coef[i];
    return (b->value.constant + b->value.coef[axis] * at) / b->divisor;
}

/* A leaf in one pass: its clipped loops have constant ends. */
static Loop *leaf_at(Context *c, const Loop *l, int axis, int at, bool *simple)
{
    Loop *to = NEW(c, Loop);
    *to = *l;
    for (int i = 0; i < LEAF_LOOPS; i++) {
        if (!l->clip[i])
            continue;
        Loop *clip = to->clip[i] = NEW(c, Loop);
        *clip = *l->clip[i];
        for (int k = 0; k < l->clip[i]->lows; k++) {
            int low = bound_at(&clip->low[k], axis, at, simple);
            clip->begin = low > clip->begin ? low : clip->begin;
        }
        for (int k = 0; k < l->clip[i]->highs; k++) {
            int high = bound_at(&clip->high[k], axis, at, simple);
            clip->end = high < clip->end ? high : clip->end;
        }
        clip->lows = clip->highs = 0;
    }
    return to;
}

static bool is_whole(const Loop *l, const Loop *cut)
{
    bool whole = true;
    for (int i = 0; i < LEAF_LOOPS; i++) {
        const Loop *all = l->clip[i], *part = cut->clip[i];
        whole &= !all || (all->begin == part->begin && all->end == part->end);
    }
    return whole;
}

/* The same without the axis, which has no variable where a loop runs once. */
static void fix_axis(Context *c, Loop *l, int axis, int at)
{
    Leaf *leaf = NEW(c, Leaf);
    *leaf = *l->leaf;
    l->leaf = leaf;
    Operand *const operand[] = {&leaf->y, &leaf->a, &leaf->b, &leaf->bias, &leaf->add, &leaf->ahead};
    for (int i = 0; i < 6; i++) {
        operand[i]->address.constant += operand[i]->address.coef[axis] * at;
        operand[i]->address.coef[axis] = 0;
    }
}

bool print_leaf_parts(Printer *p, const Loop *l, Loop part[3])
{
    Loop *leaf = l->body;
    if (!p->file->hosted || l->axis == p->nest->shared || l->lows || l->highs || printer_runs_once(l) ||
        leaf->kind != LOOP_LEAF || leaf->next || is_row(p, l))
        return false;
    bool simple = true;
    int from = l->begin, to;
    while (from < l->end && !is_whole(leaf, leaf_at(p->c, leaf, l->axis, from, &simple)))
        from += l->step;
    for (to = from; to < l->end && is_whole(leaf, leaf_at(p->c, leaf, l->axis, to, &simple)); )
        to += l->step;
    if (!simple || to - from <= l->step)
        return false;
    part[0] = part[1] = part[2] = *l;
    part[0].end = part[1].begin = from;
    part[1].end = part[2].begin = to;
    part[1].body = leaf_at(p->c, leaf, l->axis, from, &simple);
    for (int i = 0; i < 3; i += 2)
        if (printer_runs_once(&part[i])) {
            part[i].body = leaf_at(p->c, leaf, l->axis, part[i].begin, &simple);
            fix_axis(p->c, part[i].body, l->axis, part[i].begin);
        }
    return true;
}
