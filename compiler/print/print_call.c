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

static const char *loop_count(Printer *p, const Loop *l, int i)
{
    const Loop *clip = l->clip[i];
    if (!clip)
        return format(p->c, "%d", l->leaf->count[i]);
    if (!clip->lows && !clip->highs)
        return format(p->c, "%d", clip->end - clip->begin);
    const BoundName *b = printer_bound(p, clip);
    return strcmp(b->from, "0") ? format(p->c, "%s - %s", b->to, b->from) : b->to;
}

void print_leaf_call(Printer *p, const Loop *l)
{
    const Leaf *leaf = l->leaf;
    printer_line(p, "%s(%s, %s, %s, %s, %s, %s, %s, %s);", leaf_name(p, leaf),
                 operand_start(p, l, &leaf->y), operand_start(p, l, &leaf->a), operand_start(p, l, &leaf->b),
                 operand_start(p, l, &leaf->bias), operand_start(p, l, &leaf->add),
                 operand_start(p, l, &leaf->ahead), loop_count(p, l, 1), loop_count(p, l, 2));
}
