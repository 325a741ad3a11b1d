/* Nests with a matrix: loops over tiles, inside them a grid that is transformed as a whole,
 * a vector of channels at a time by a leaf, else one channel. */
#include "schedule.h"

/* Rows of the grid may cross a border, the other operands have none. */
bool transform_fits(Schedule *s)
{
    Nest *nest = s->nest;
    Leaf *leaf = &s->leaf;
    for (int i = 0; i < s->clips; i++)
        if (s->clip[i].axis != nest->column[0] || s->clip[i].index.coef[nest->lane])
            return false;
    leaf->kind = LEAF_TRANSFORM;
    leaf->matrix = nest->matrix;
    leaf->y = (Operand){.node = nest->store.node, .address = nest->store.address, .vector = true,
                        .spread = nest->store.address.coef[nest->lane]};
    return nest->valid == s->target->lanes && leaf->y.spread == 1 &&
           tile_operand(s, nest->term, 1, &leaf->a) && leaf->a.vector && tile_value(s, nest->store.value);
}

static void set_steps(const Schedule *s, Operand *o, const int *axis)
{
    o->t = o->address.coef[axis[0]];
    o->k = o->address.coef[axis[1]];
    o->address = placed(s, o->address);
}

static void append_leaf(Schedule *s, Loop ***tail)
{
    const Nest *nest = s->nest;
    Loop *l = append(s, tail, LOOP_LEAF);
    Leaf *leaf = l->leaf = NEW(s->c, Leaf);
    *leaf = s->leaf;
    leaf->tile = leaf->vectors = 1;
    leaf->lanes = leaf->valid = s->target->lanes;
    leaf->count[0] = nest->axis[nest->row[0]].extent;
    leaf->count[3] = nest->axis[nest->row[1]].extent;
    if (clipped(s, nest->column[0])) {
        Loop **none = &l->clip[1];
        append_for(s, &none, nest->column[0], 0, nest->matrix->columns, 1);
        s->fixed[nest->column[0]] = false;       /* it starts where its bound says */
    } else {
        leaf->count[1] = leaf->count[2] = nest->matrix->columns;
    }
    s->fixed[nest->lane] = true;
    set_steps(s, &leaf->a, nest->column);
    set_steps(s, &leaf->bias, nest->row);
    set_steps(s, &leaf->add, nest->row);
    set_steps(s, &leaf->y, nest->row);
}

static void append_elements(Schedule *s, Loop ***tail)
{
    const Nest *nest = s->nest;
    Loop *l = append(s, tail, LOOP_TRANSFORM);
    for (int k = 0; k < 2; k++) {
        s->fixed[nest->row[k]] = s->fixed[nest->column[k]] = false;      /* loops of the statement */
        Loop **none = &l->clip[k];
        append_for(s, &none, nest->column[k], 0, nest->matrix->columns, 1);
    }
    PUSH(s->c, l->term, l->terms) = placed_expr(s, nest->term, 0);
    l->store = nest->store;
    l->store.address = placed(s, nest->store.address);
    l->store.value = placed_expr(s, nest->store.value, 0);
}

static void build_axes(Schedule *s, Loop ***tail, int depth)
{
    if (depth < s->parallel && s->order[depth] == s->nest->lane) {
        build_axes(s, tail, depth + 1);
    } else if (depth < s->parallel) {
        int axis = s->order[depth];
        Loop **body = open_loop(s, tail, axis, 0, s->nest->axis[axis].extent, 1);
        build_axes(s, &body, depth + 1);
        close_loop(s, axis);
    } else if (s->nest->lane >= 0) {
        append_leaf(s, tail);
    } else {
        append_elements(s, tail);
    }
}

void transform_build(Schedule *s, Loop ***tail)
{
    build_axes(s, tail, 0);
}

const char *transform_describe(const Schedule *s)
{
    const Nest *nest = s->nest;
    Text t = {.c = s->c};
    if (nest->lane >= 0)
        text_add(&t, "lanes %s %d; ", nest->axis[nest->axis[nest->lane].outer].name, s->target->lanes);
    text_add(&t, "transform by %s", nest->matrix->name);
    for (int k = 0; k < 2; k++)
        if (clipped(s, nest->column[k]))
            text_add(&t, "; clip %s", nest->axis[nest->column[k]].name);
    return t.data;
}
