/* Long sums of what no leaf knows, a row at a time: statistics of batch norm and their gradients.
 *
 * The sums along the innermost parallel axis, where elements lie side by side, are an array; every
 * step of the reduction adds a row to it.  A compiler makes vectors of such rows, but not of a sum
 * of floats, whose order it keeps. */
#include "schedule.h"

enum {
    ROW_LEAST = 4, ROW_MOST = 256,               /* sums */
    STEPS_WORTH = 32,                            /* of the reduction, for the array to pay */
    CLIPPED_WORTH = 2                            /* where bounds lie between the lanes and their sums */
};

typedef struct Row { int axis; bool along, beside; } Row;

static void check_row(Row *r, const Expr *e)
{
    if (!e)
        return;
    if (e->kind == X_LOAD || e->kind == X_AFFINE) {
        int step = e->affine.coef[r->axis];
        r->along |= e->kind == X_LOAD && step == 1;
        r->beside &= step == 0 || (e->kind == X_LOAD && step == 1);
    }
    for (int i = 0; i < 3 && e->kind == X_CALL; i++)
        check_row(r, e->arg[i]);
}

bool sums_fit(const Schedule *s)
{
    const Nest *nest = s->nest;
    if (!nest->reduces || nest->reduce != REDUCE_SUM || nest->term->dtype != F32 || !s->parallel)
        return false;
    Row row = {.axis = s->order[s->parallel - 1], .beside = true};
    int64_t steps = 1;
    for (int i = s->parallel; i < s->axes; i++)
        steps *= nest->axis[s->order[i]].extent;
    bool clipped = false;
    for (int i = 0; i < s->clips; i++) {
        if (s->clip[i].axis != row.axis && s->clip[i].index.coef[row.axis])
            return false;
        clipped |= nest->axis[s->clip[i].axis].reduce;
    }
    check_row(&row, nest->term);
    int extent = nest->axis[row.axis].extent;
    return row.along && row.beside && extent >= ROW_LEAST && extent <= ROW_MOST &&
           steps >= (clipped && nest->store.node->storage->lanes > 1 ? CLIPPED_WORTH : STEPS_WORTH);
}

static void build_rows(Schedule *s, Loop ***tail, int depth, int row)
{
    if (depth < s->axes) {
        int axis = s->order[depth];
        Loop **body = open_loop(s, tail, axis, 0, s->nest->axis[axis].extent, 1);
        build_rows(s, &body, depth + 1, row);
        close_loop(s, axis);
        return;
    }
    Loop **body = &append_for(s, tail, row, 0, s->nest->axis[row].extent, 1)->body;
    Loop *update = append(s, &body, LOOP_UPDATE);
    update->acc = ACC_OF_ROW;
    PUSH(s->c, update->term, update->terms) = placed_expr(s, s->nest->term, ACC_OF_ROW);
}

static void build_around(Schedule *s, Loop ***tail, int depth, int row)
{
    int axis = s->order[depth];
    if (axis != row) {
        Loop **body = open_loop(s, tail, axis, 0, s->nest->axis[axis].extent, 1);
        build_around(s, &body, depth + 1, row);
        close_loop(s, axis);
        return;
    }
    Loop *sums = append(s, tail, LOOP_SUMS);
    sums->axis = row;
    sums->end = s->nest->axis[row].extent;
    Loop **body = &append_for(s, tail, row, 0, s->nest->axis[row].extent, 1)->body;
    append(s, &body, LOOP_INIT)->acc = ACC_OF_ROW;
    build_rows(s, tail, s->parallel, row);
    body = &append_for(s, tail, row, 0, s->nest->axis[row].extent, 1)->body;
    append_store(s, &body, ACC_OF_ROW);
}

void sums_build(Schedule *s, Loop ***tail)
{
    build_around(s, tail, 0, s->order[s->parallel - 1]);
}
