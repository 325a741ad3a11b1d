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
    return tile_operand(s, nest->term, 1, &leaf->a) && leaf->a.vector && tile_value(s, nest->store.value);
}

static void set_steps(const Schedule *s, Operand *o, const int *axis)
{
    o->t = o->address.coef[axis[0]];
    o->k = o->address.coef[axis[1]];
    o->address = placed(s, o->address);
}

static void append_leaf(Schedule *s, Loop ***tail, int valid)
{
    const Nest *nest = s->nest;
    Loop *l = append(s, tail, LOOP_LEAF);
    Leaf *leaf = l->leaf = NEW(s->c, Leaf);
    *leaf = s->leaf;
    leaf->tile = leaf->vectors = 1;
    leaf->lanes = s->target->lanes;
    leaf->valid = valid;
    leaf->accumulate = nest->store.accumulate;
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

static void build_axes(Schedule *s, Loop ***tail, int depth, int valid);

static void build_loop(Schedule *s, Loop ***tail, int depth, int begin, int end, int valid)
{
    if (begin == end)
        return;
    Loop **body = open_loop(s, tail, s->order[depth], begin, end, 1);
    build_axes(s, &body, depth + 1, valid);
    close_loop(s, s->order[depth]);
}

/* `valid` lanes exist of the vectors inside; of the last block's maybe fewer. */
static void build_axes(Schedule *s, Loop ***tail, int depth, int valid)
{
    const Nest *nest = s->nest;
    int axis = depth < s->parallel ? s->order[depth] : -1;
    if (axis < 0 && nest->lane >= 0) {
        append_leaf(s, tail, valid);
    } else if (axis < 0) {
        append_elements(s, tail);
    } else if (axis == nest->lane) {
        build_axes(s, tail, depth + 1, valid);
    } else if (nest->lane >= 0 && axis == nest->axis[nest->lane].outer && nest->valid < valid) {
        int last = nest->axis[axis].extent - 1;
        build_loop(s, tail, depth, 0, last, valid);
        build_loop(s, tail, depth, last, last + 1, nest->valid);
    } else {
        build_loop(s, tail, depth, 0, nest->axis[axis].extent, valid);
    }
}

void transform_build(Schedule *s, Loop ***tail)
{
    const Nest *nest = s->nest;
    bool only = nest->lane >= 0 && nest->axis[nest->axis[nest->lane].outer].extent == 1;
    build_axes(s, tail, 0, only ? nest->valid : s->target->lanes);
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
