/* From logical indices to addresses: what must be clipped, and which axes are one. */
#include "schedule.h"

#include <string.h>

enum { ROWS = 2 };            /* the dim that stripes cut */

static void add_clip(Schedule *s, const Affine *index, int extent)
{
    for (int i = 0; i < s->clips; i++)
        if (memcmp(&s->clip[i].index, index, sizeof *index) == 0 && s->clip[i].extent == extent)
            return;
    if (s->clips == MAX_CLIPS)
        fail(s->c, STATUS_FAULT, "schedule: more than %d borders", MAX_CLIPS);
    s->clip[s->clips++] = (Clip){*index, extent, -1};
}

/* The range of an index, where rows that do not exist are left out. */
static void reading_range(const Nest *nest, const Affine *index, int *low, int *high)
{
    int stride = nest->rows >= 0 ? index->coef[nest->rows] : 0, extent = nest->store.node->shape.dim[ROWS];
    Affine rest = affine_sum(*index, affine_times(nest->store.index[ROWS], -stride));
    affine_range(stride ? &rest : index, nest, low, high);
    *high += stride ? stride * (extent - 1) : 0;
}

static void bind_load(Expr *load, void *user)
{
    Schedule *s = user;
    const Node *n = load->load.node;
    load->affine = layout_address(s->c, s->nest, n, load->load.index);
    for (int d = 0; d < n->shape.rank && load->load.border; d++) {
        int low, high, extent = n->shape.dim[d];
        reading_range(s->nest, &load->load.index[d], &low, &high);
        int outside = -low > high - (extent - 1) ? -low : high - (extent - 1);
        bool in_gap = d == n->shape.rank - 1 && s->nest->reduce == REDUCE_SUM &&
                      outside <= n->storage->gap;
        if (outside > 0 && !in_gap)
            add_clip(s, &load->load.index[d], extent);
    }
}

/* Between the peeled ends the tile axis crosses no border. */
bool in_force(const Schedule *s, const Clip *clip)
{
    return !(s->inside && clip->index.coef[s->tile_axis]);
}

bool clipped(const Schedule *s, int axis)
{
    for (int i = 0; i < s->clips; i++)
        if (s->clip[i].axis == axis && in_force(s, &s->clip[i]))
            return true;
    return false;
}

/* -- the last block of lanes: whether it may be computed beyond the last channel -- */

typedef struct Overshoot { const Nest *nest; int lane; bool plain; } Overshoot;

static void check_overshoot(Overshoot *o, const Node *n, const Affine *index)
{
    for (int d = 0; d < n->shape.rank; d++) {
        bool padded = false;
        for (int i = 0; i < n->storage->layout.pieces; i++)
            padded |= n->storage->layout.piece[i].dim == d && n->storage->layout.piece[i].div > 1;
        o->plain |= index[d].coef[o->lane] && !padded;
    }
}

static void check_overshoot_load(Expr *load, void *user)
{
    check_overshoot(user, load->load.node, load->load.index);
}

/* The value where every element is zero, as in padding lanes. */
static double value_at_zero(const Expr *e)
{
    double a[3] = {0};
    if (e->kind == X_FLOAT || e->kind == X_INT)
        return e->number;
    if (e->kind != X_CALL)
        return e->kind == X_AFFINE;              /* unknown */
    for (int i = 0; i < 3 && e->arg[i]; i++)
        a[i] = value_at_zero(e->arg[i]);
    switch (e->fn) {
    case FN_ADD: return a[0] + a[1];
    case FN_SUB: return a[0] - a[1];
    case FN_MUL: return a[0] * a[1];
    case FN_MIN: return a[0] < a[1] ? a[0] : a[1];
    case FN_MAX: return a[0] > a[1] ? a[0] : a[1];
    case FN_NEG: return -a[0];
    case FN_TANH: case FN_SQRT: return a[0];
    case FN_LT: return a[0] < a[1];
    case FN_LE: return a[0] <= a[1];
    case FN_EQ: return a[0] == a[1];
    case FN_SELECT: return a[0] != 0 ? a[1] : a[2];
    default: return 1;                           /* exp, log, division ...: not zero */
    }
}

/* A lane axis whose last block is not full stops at the last channel, unless all
 * memory it meets has room for the whole block and the block's rest stays zero. */
static void clip_lanes(Schedule *s)
{
    Nest *nest = s->nest;
    for (int i = 0; i < nest->axes; i++) {
        const Axis *axis = &nest->axis[i];
        if (!axis->lanes || axis->whole % axis->lanes == 0 || i == nest->lane)
            continue;
        Overshoot o = {nest, i, false};
        nest_loads(nest, check_overshoot_load, &o);
        check_overshoot(&o, nest->store.node, nest->store.index);
        bool neutral = axis->reduce ? nest->reduce == REDUCE_SUM && value_at_zero(nest->term) == 0
                                    : value_at_zero(nest->store.value) == 0;
        if (!o.plain && neutral)
            continue;
        Affine index = {0};
        index.coef[axis->outer] = axis->lanes;
        index.coef[i] = 1;
        add_clip(s, &index, axis->whole);
        s->clip[s->clips - 1].axis = i;
        Storage *to = nest->store.node->storage;
        to->clear |= !axis->reduce && layout_packed(&to->layout);
    }
}

/* -- collapse -- */

typedef struct Merge { int outer, inner, extent; bool legal; } Merge;

static void check_affine(Merge *m, const Affine *a)
{
    m->legal &= a->coef[m->outer] == a->coef[m->inner] * m->extent;
}

static void check_expr(Merge *m, const Expr *e)
{
    if (!e)
        return;
    if (e->kind == X_LOAD || e->kind == X_AFFINE)
        check_affine(m, &e->affine);
    for (int i = 0; i < 3 && e->kind == X_CALL; i++)
        check_expr(m, e->arg[i]);
}

/* The lanes of a leaf and the blocks along them. */
static bool has_vectors(const Nest *nest, int axis)
{
    return nest->lane >= 0 && (axis == nest->lane || axis == nest->axis[nest->lane].outer);
}

/* Outer and inner are one loop where every address advances as if they were. */
static void collapse(Schedule *s)
{
    Nest *nest = s->nest;
    for (int i = nest->axes - 2; i >= 0; i--) {
        int inner = i + 1;
        while (inner < nest->axes && nest->axis[inner].extent == 1)
            inner++;                             /* an axis of one element is no loop */
        if (inner == nest->axes || nest->axis[i].extent == 1 || has_vectors(nest, i) ||
            has_vectors(nest, inner) || nest_matrix_axis(nest, i) || nest_matrix_axis(nest, inner) ||
            nest->axis[i].band || nest->axis[inner].band ||
            nest->axis[i].reduce != nest->axis[inner].reduce)
            continue;
        Merge m = {i, inner, nest->axis[inner].extent, true};
        check_affine(&m, &nest->store.address);
        check_expr(&m, nest->reduces ? nest->term : NULL);
        check_expr(&m, nest->reduces ? nest->tag : NULL);
        check_expr(&m, nest->store.value);
        for (int k = 0; k < s->clips; k++)
            m.legal &= !s->clip[k].index.coef[i] && !s->clip[k].index.coef[inner];
        if (m.legal) {
            nest->axis[inner].extent *= nest->axis[i].extent;
            nest->axis[inner].name = "i";
            nest->axis[inner].lanes = 0;
            nest->axis[i].extent = 1;
        }
    }
}

/* -- all of it -- */

/* A border is kept by the innermost reduction axis that moves across it. */
static void assign_clips(Schedule *s)
{
    for (int i = 0; i < s->clips; i++) {
        for (int a = 0; a < s->nest->axes; a++)
            if (s->nest->axis[a].reduce && s->clip[i].index.coef[a])
                s->clip[i].axis = a;
        if (s->clip[i].axis < 0)
            fail(s->c, STATUS_FAULT, "schedule: a border without a reduction axis");
    }
    if (FAULT(s->c, FAULT_NO_CLIP))
        s->clips = 0;
}

/* Of a turn's rows those exist that lie in the tensor. */
static void clip_rows(Schedule *s)
{
    const Nest *nest = s->nest;
    if (nest->rows < 0)
        return;
    const Affine *row = &nest->store.index[ROWS];
    int low, high, extent = nest->store.node->shape.dim[ROWS];
    affine_range(row, nest, &low, &high);
    if (low >= 0 && high < extent)
        return;
    add_clip(s, row, extent);
    s->clip[s->clips - 1].axis = nest->rows;
}

void bind(Schedule *s)
{
    Nest *nest = s->nest;
    nest->store.address = layout_address(s->c, nest, nest->store.node, nest->store.index);
    nest_loads(nest, bind_load, s);
    assign_clips(s);
    Storage *to = nest->store.node->storage;
    to->clear |= nest->store.accumulate && to->place == PLACE_WORKSPACE;
    clip_rows(s);
    clip_lanes(s);
    collapse(s);
}
