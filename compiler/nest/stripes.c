/* Stripes: neighbouring kernels become one that computes their tensors a few rows at a time.
 *
 * A row of a convolution's or a pool's result needs some rows of its input. Where nobody else
 * reads that input, only these rows have to exist: a loop over bands stands around the nests of
 * all kernels of a chain, and in each turn every nest computes its next rows,
 *
 *     rows [band * step + ahead, band * step + ahead + step)       that lie in the tensor,
 *
 * step rows for `step / stride` of its reader's, so far ahead that the reader finds what it
 * needs. A buffer holds the rows from the first that is still read; at the end of a turn they
 * move up by a step. So each row is computed once, by the same sums in the same order.
 *
 * Without being asked, windows that do not overlap (pooling) are taken together with what they
 * read; for the sake of memory, whatever chain lowers the peak of the whole function. */
#include "../cnnc.h"

#include <string.h>

enum { ROWS = 2 };            /* the dim that is cut: batch, channels, rows, columns */

/* What becomes of the tensor that a kernel stores. */
typedef struct Stage {
    int step;                 /* rows a turn; 0: not known yet */
    int ahead;                /* of the first row that is computed in turn 0 */
    int first;                /* row that is read in turn 0 */
    bool inside;              /* read by kernels of the chain alone: a buffer of rows */
} Stage;

typedef struct Chain { int first, last; Stage *stage; int turns, early; } Chain;     /* of kernels */

/* -- who reads what -- */

typedef struct Tensors {
    Function *f;
    int *maker;               /* by node: the kernel that stores it, -1: none */
    int *last;                /* by kernel: the last that reads what it stores */
    bool *whole;              /* by kernel: somebody needs all rows of that at once */
    int64_t *bytes, *inside;  /* by kernel: of what it stores; of buffers that it has to itself */
} Tensors;

typedef struct Visit { Tensors *t; int kernel; const Nest *nest; Chain *chain; bool fits; } Visit;

static void note_reader(Expr *load, void *user)
{
    Visit *v = user;
    const Node *n = load->load.node;
    while (n->op->traits & OP_ALIAS)
        n = n->in[0];
    if (v->t->maker[n->id] >= 0)
        v->t->last[v->t->maker[n->id]] = v->kernel;
    if (n->input && load->load.border && v->nest->reduces)       /* a copy with room for the border */
        v->t->inside[v->kernel] += 4 * (int64_t)shape_count(&n->shape);
}

static void need_whole(Tensors *t, const Node *n)
{
    if (t->maker[n->id] >= 0)
        t->whole[t->maker[n->id]] = true;
}

static Tensors find_readers(Function *f)
{
    Graph *g = f->graph;
    int kernels = f->kernels + 1;
    Tensors t = {f, NEW_ARRAY(f->c, int, g->nodes + 1), NEW_ARRAY(f->c, int, kernels),
                 NEW_ARRAY(f->c, bool, kernels), NEW_ARRAY(f->c, int64_t, kernels),
                 NEW_ARRAY(f->c, int64_t, kernels)};
    for (int i = 0; i < g->nodes; i++)
        t.maker[i] = -1;
    for (int k = 0; k < f->kernels; k++) {
        const Kernel *kernel = f->kernel[k];
        t.maker[kernel->node->id] = t.last[k] = k;
        t.bytes[k] = 4 * (int64_t)shape_count(&kernel->node->shape);
        for (int i = 0; i < kernel->nests; i++) {
            const Node *n = kernel->nest[i]->store.node;
            t.inside[k] += n->rows ? 4 * (int64_t)shape_count(&n->shape) / n->shape.dim[ROWS] * n->rows : 0;
        }
    }
    for (int k = 0; k < f->kernels; k++)
        for (int i = 0; i < f->kernel[k]->nests; i++)
            nest_loads(f->kernel[k]->nest[i], note_reader,
                       &(Visit){.t = &t, .kernel = k, .nest = f->kernel[k]->nest[i]});
    for (int i = 0; i < g->nodes; i++)           /* seen in another shape, stored as a part */
        for (int k = 0; k < g->node[i]->ins; k++)
            if ((g->node[i]->op->traits & OP_ALIAS) || g->node[i]->in[k]->joined)
                need_whole(&t, g->node[i]->in[k]);
    for (int r = 0; r < g->roots; r++) {
        need_whole(&t, g->root[r].node);
        if (g->root[r].kind == ROOT_OUTPUT && t.maker[g->root[r].node->id] >= 0)
            t.bytes[t.maker[g->root[r].node->id]] = 0;           /* the caller's memory */
    }
    return t;
}

/* -- which kernels can be cut -- */

static int row_axis(const Nest *nest)
{
    const Affine *row = &nest->store.index[ROWS];
    int axis = -1;
    for (int a = 0; a < nest->axes; a++)
        if (row->coef[a] && axis < 0 && row->coef[a] == 1)
            axis = a;
        else if (row->coef[a])
            return -1;
    return row->constant ? -1 : axis;
}

/* One nest that stores whole rows of pictures, each in a loop of its own. */
static bool can_be_cut(const Kernel *k)
{
    const Nest *nest = k->nest[0];
    const Node *n = k->node;
    if (k->nests != 1 || n->shape.rank != 4 || !n->batched || n->joined || n->dtype != F32 ||
        nest->store.node != n || nest->store.accumulate || nest->matrix || nest->axes >= MAX_AXES - 1)
        return false;
    int axis = row_axis(nest);
    bool columns = false;                        /* the schedule's tiles lie along them */
    for (int a = axis + 1; a < nest->axes && axis >= 0; a++)
        columns |= !nest->axis[a].reduce && nest->axis[a].extent > 1;
    return columns && !nest->axis[axis].reduce && nest->axis[axis].extent == n->shape.dim[ROWS] &&
           n->shape.dim[ROWS] > 1;
}

/* The rows of a tensor inside the chain that a reader, whose stage is known, needs. */
static void note_rows(Expr *load, void *user)
{
    Visit *v = user;
    int maker = v->t->maker[load->load.node->id];
    if (maker < v->chain->first || maker > v->chain->last)
        return;
    const Stage *reader = &v->chain->stage[v->kernel];
    Stage *stage = &v->chain->stage[maker];
    Affine rest = load->load.index[ROWS];
    int axis = row_axis(v->nest), stride = rest.coef[axis], low, high;
    rest.coef[axis] = 0;
    affine_range(&rest, v->nest, &low, &high);
    int step = stride * reader->step, first = stride * reader->ahead + low;
    int ahead = stride * (reader->ahead - 1) + high + 1;
    v->fits &= stride > 0 && (!stage->step || stage->step == step);
    stage->first = !stage->step || first < stage->first ? first : stage->first;
    stage->ahead = !stage->step || ahead > stage->ahead ? ahead : stage->ahead;
    stage->step = step;
}

static int rows_kept(const Stage *s)
{
    return s->ahead + s->step - (s->first < s->ahead ? s->first : s->ahead);
}

/* Steps from the last kernel, of one row a turn, to the first; false: it is no chain. */
static bool find_stages(Tensors *t, Chain *chain)
{
    Function *f = t->f;
    chain->stage = NEW_ARRAY(f->c, Stage, f->kernels);
    chain->stage[chain->last].step = 1;
    for (int k = chain->last; k >= chain->first; k--) {
        Stage *s = &chain->stage[k];
        s->inside = k < chain->last;
        bool whole = s->inside && (t->whole[k] || t->last[k] <= k || t->last[k] > chain->last);
        if (whole || !s->step || !can_be_cut(f->kernel[k]))
            return false;
        s->ahead = s->ahead > 0 ? s->ahead : 0;
        int height = f->kernel[k]->node->shape.dim[ROWS], early = (s->ahead + s->step - 1) / s->step;
        if (s->inside && rows_kept(s) >= height)
            return false;
        chain->early = early > chain->early ? early : chain->early;
        Visit v = {.t = t, .kernel = k, .nest = f->kernel[k]->nest[0], .chain = chain, .fits = true};
        nest_loads(f->kernel[k]->nest[0], note_rows, &v);
        if (!v.fits)
            return false;
    }
    chain->turns = chain->early + f->kernel[chain->last]->node->shape.dim[ROWS];
    return true;
}

/* -- cutting -- */

typedef struct Cut { int axis, band, step, shift; } Cut;

/* The row axis counts within a turn: row = step * (band - early) + ahead + h. */
static void cut_affine(Affine *a, void *user)
{
    const Cut *c = user;
    int coef = a->coef[c->axis];
    a->coef[c->band] += coef * c->step;
    a->constant += coef * c->shift;
}

static void cut_nest(Function *f, Chain *chain, int k)
{
    Nest *nest = f->kernel[k]->nest[0];
    const Stage *s = &chain->stage[k];
    int axis = row_axis(nest);
    nest_band(nest, chain->turns);
    Cut cut = {.axis = axis, .band = nest_band_axis(nest), .step = s->step,
               .shift = s->ahead - s->step * chain->early};
    nest->axis[axis].extent = s->step;
    nest->rows = axis;
    nest_affines(nest, cut_affine, &cut);
    if (s->inside) {
        Node *n = f->kernel[k]->node;
        n->rows = rows_kept(s);
        n->rows_base = s->step * chain->early - (s->first < s->ahead ? s->first : s->ahead);
    }
}

/* What the next turn still reads moves to the front of the buffer: an index of 0 is its first
 * row when `rows_base` is added and the band is not counted. */
static Nest *move_nest(Function *f, Node *n, int keep, int step, int turns)
{
    Nest *nest = NEW(f->c, Nest);
    Expr *from = NEW(f->c, Expr);
    Affine index[MAX_RANK];
    nest->lane = nest->rows = -1;
    nest->moves = true;
    nest_axes(nest, n, index);
    nest->axis[ROWS].extent = keep;
    index[ROWS] = affine_sum(index[ROWS], affine_times(nest_band(nest, turns), step));
    index[ROWS].constant = -n->rows_base;
    *from = (Expr){.kind = X_LOAD, .dtype = n->dtype, .load.node = n};
    memcpy(nest->store.index, index, sizeof index);
    index[ROWS].constant += step;
    memcpy(from->load.index, index, sizeof index);
    nest->store.node = n;
    nest->store.value = from;
    return nest;
}

static void add_moves(Function *f, const Chain *chain, Kernel *to)
{
    for (int k = chain->first; k < chain->last; k++) {
        Node *n = f->kernel[k]->node;
        int keep = n->rows - chain->stage[k].step;
        if (keep > 0)
            PUSH(f->c, to->nest, to->nests) = move_nest(f, n, keep, chain->stage[k].step, chain->turns);
    }
}

static void take_together(Function *f, Chain *chain)
{
    Kernel *all = f->kernel[chain->last];
    Nest **nest = NULL;
    int nests = 0;
    for (int k = chain->first; k <= chain->last; k++) {
        cut_nest(f, chain, k);
        PUSH(f->c, nest, nests) = f->kernel[k]->nest[0];
        f->kernel[k]->node->within = k < chain->last ? all->node : NULL;
    }
    all->nest = nest;
    all->nests = nests;
    all->start = f->kernel[chain->first]->node;
    add_moves(f, chain, all);
    for (int k = chain->last; k < f->kernels; k++)
        f->kernel[chain->first + k - chain->last] = f->kernel[k];
    f->kernels -= chain->last - chain->first;
}

/* -- choosing -- */

/* Bytes alive while kernels from .. to run, as one if they are those of a chain. */
static int64_t alive(const Tensors *t, const Chain *chain, int from, int to)
{
    int64_t sum = 0;
    for (int i = 0; i <= to; i++) {
        int rows = chain && i >= from && i < to ? rows_kept(&chain->stage[i]) : 0;
        int64_t bytes = rows ? t->bytes[i] / t->f->kernel[i]->node->shape.dim[ROWS] * rows : t->bytes[i];
        sum += t->last[i] >= from ? bytes : 0;
        sum += i >= from ? t->inside[i] : 0;
    }
    return sum;
}

/* The most bytes alive at once, where the chain's kernels run as one; *at: while which runs. */
static int64_t peak(const Tensors *t, const Chain *chain, int *at)
{
    int64_t most = 0;
    for (int k = 0; k < t->f->kernels; k++) {
        bool within = chain && k >= chain->first && k <= chain->last;
        int64_t sum = within ? alive(t, chain, chain->first, chain->last) : alive(t, NULL, k, k);
        if (at && sum > most)
            *at = k;
        most = sum > most ? sum : most;
    }
    return most;
}

/* The chain around the peak that lowers it most; false: none does. */
static bool lower_peak(Function *f)
{
    Tensors t = find_readers(f);
    int at = 0;
    int64_t least = peak(&t, NULL, &at);
    Chain best = {0};
    for (int first = at; first >= 0; first--)
        for (int last = at; last < f->kernels; last++) {
            Chain chain = {first, last, NULL, 0, 0};
            if (first == last || !find_stages(&t, &chain))
                continue;
            int64_t bytes = peak(&t, &chain, NULL);
            if (bytes < least) {
                least = bytes;
                best = chain;
            }
        }
    if (best.stage)
        take_together(f, &best);
    return best.stage != NULL;
}

/* A window that does not overlap the next is read as soon as its rows are there. */
static void take_pools(Function *f)
{
    for (int k = 0; k + 1 < f->kernels; k++) {
        Tensors t = find_readers(f);
        Chain chain = {k, k + 1, NULL, 0, 0};
        if (!find_stages(&t, &chain))
            continue;
        const Stage *s = &chain.stage[k];
        if (s->step > 1 && rows_kept(s) == s->step && f->kernel[k]->nest[0]->reduces)
            take_together(f, &chain);
    }
}

void stripes(Function *f, bool for_memory)
{
    if (f->target->lanes > 1 || f->packs)
        return;
    if (!for_memory)
        take_pools(f);
    while (for_memory && lower_peak(f))
        continue;
}
