/* Where the elements of every tensor lie.
 *
 * Rows.  Row-major order, but rows of the innermost spatial axis may be followed by
 * a gap of zeros: one row's right border is the next row's left one, and a window
 * that leaves the row on either side reads zeros without a test.  The other axes
 * need no border: their loops are clipped (schedule).
 *
 * Blocks.  For a target with vectors, activations hold their channels in blocks of
 * its lanes, [C/lanes][H][W][lanes]: a pixel's block is one vector.  Lanes beyond C
 * are zero.
 *
 * Samples.  Training knows many of them at once.  Where most tensors have few channels, the
 * samples lie innermost, [C][H][W][N]: whatever is computed is then the same for a whole vector.
 *
 * Memory that is the user's, or is also seen in another shape, is plain: whoever
 * wants it otherwise reads a copy. */
#include "../cnnc.h"

#include <limits.h>
#include <string.h>

void affine_range(const Affine *a, const Nest *nest, int *low, int *high)
{
    *low = *high = a->constant;
    for (int i = 0; i < nest->axes; i++) {
        const Axis *axis = &nest->axis[i];
        int reach = a->coef[i] * (axis->extent - 1);
        bool blocks = axis->lanes && a->coef[axis->outer] == a->coef[i] * axis->lanes;
        if (blocks)                              /* the last block's rest is nowhere */
            reach -= a->coef[i] * (nest->axis[axis->outer].extent * axis->lanes - axis->whole);
        *(reach < 0 ? low : high) += reach;
    }
}

/* -- copies -- */

typedef struct Copies {
    Function *f;
    Layer *layer;             /* of the reader */
    Nest *nest;
    Node **copy;              /* by node: its copy in the workspace, once made */
    Kernel **kernel; int kernels;
} Copies;

/* The copy of n in the workspace, made in front of its first reader. */
static Node *copy_of(Copies *copies, Node *n, const char *form)
{
    Node **copy = &copies->copy[n->id];
    if (!*copy) {
        Function *f = copies->f;
        f->graph->current = copies->layer;
        *copy = build_copy(f->graph, n);
        f->graph->current = NULL;
        (*copy)->storage = storage_new(f, PLACE_WORKSPACE, format(f->c, "%s_%s", n->storage->name, form), n);
        PUSH(f->c, copies->kernel, copies->kernels) = lower_node(f, *copy);
    }
    return *copy;
}

/* -- samples side by side -- */

/* Few channels would leave lanes idle and their memory unused. */
static bool few_channels(const Storage *s, int lanes)
{
    return s->shape.dim[1] * 10 < lanes * 8;
}

/* Whether samples fill vectors where channels would not, in most of the memory. */
static bool worth_samples(const Function *f)
{
    int64_t few = 0, all = 0;
    for (int i = 0; i < f->storages; i++) {
        const Storage *s = f->storage[i];
        if (s->place != PLACE_WORKSPACE || !s->batched || s->shape.rank < 3)
            continue;
        all += shape_count(&s->shape);
        few += few_channels(s, f->target->lanes) ? shape_count(&s->shape) : 0;
    }
    return f->target->lanes > 1 && f->graph->batch >= f->target->lanes && 2 * few > all;
}

bool layout_by_samples(Graph *g, const Target *target)
{
    Function f = {.c = g->c, .target = target, .graph = g};
    storage_assign(&f);
    return worth_samples(&f);
}

/* What the caller has in rows of samples is laid out anew for reductions. */
static void want_samples(Expr *load, void *user)
{
    Access *a = &load->load;
    if (a->node->storage->place == PLACE_INPUT && a->node->storage->batched && a->node->dtype == F32)
        a->node = copy_of(user, a->node, "rows");
}

typedef struct Swap { int a, b; } Swap;

static void swap_axes(Affine *a, void *user)
{
    const Swap *s = user;
    int coef = a->coef[s->a];
    a->coef[s->a] = a->coef[s->b];
    a->coef[s->b] = coef;
}

static void find_sample_axis(Expr *load, void *user)
{
    int *axis = user;
    for (int i = 0; load->load.node->storage->lanes > 1 && i < MAX_AXES; i++)
        if (load->load.index[0].coef[i])
            *axis = i;
}

/* The axis of the samples becomes the innermost: neighbours in memory are neighbours in loops. */
static void sink_samples(Nest *nest)
{
    int axis = -1;
    Expr store = {.kind = X_LOAD, .load.node = nest->store.node};
    memcpy(store.load.index, nest->store.index, sizeof nest->store.index);
    find_sample_axis(&store, &axis);
    nest_loads(nest, find_sample_axis, &axis);
    for (; axis >= 0 && axis < nest->axes - 1; axis++) {
        Axis moved = nest->axis[axis];
        nest->axis[axis] = nest->axis[axis + 1];
        nest->axis[axis + 1] = moved;
        nest_affines(nest, swap_axes, &(Swap){axis, axis + 1});
    }
}

static void lay_out_samples(Function *f)
{
    for (int i = 0; i < f->storages; i++) {
        Storage *s = f->storage[i];
        bool inside = s->place == PLACE_WORKSPACE && s->batched && s->shape.rank > 0;
        s->lanes = inside ? f->target->lanes : 1;
        s->lane_dim = 0;
    }
    for (int k = 0; k < f->kernels; k++)
        for (int i = 0; i < f->kernel[k]->nests; i++)
            sink_samples(f->kernel[k]->nest[i]);
}

/* -- gaps -- */

/* A read that leaves its row needs a gap as wide as it leaves it. */
static void want_gap(Expr *load, void *user)
{
    Copies *copies = user;
    Access *a = &load->load;
    int last = a->node->shape.rank - 1, low, high;
    if (!a->border || last < 0)
        return;
    affine_range(&a->index[last], copies->nest, &low, &high);
    int width = a->node->shape.dim[last], gap = -low;
    if (high - (width - 1) > gap)
        gap = high - (width - 1);
    if (gap <= 0)
        return;
    if (a->node->storage->plain)
        a->node = copy_of(copies, a->node, "rows");
    if (gap > a->node->storage->gap)
        a->node->storage->gap = gap;
}

/* -- copies in blocks -- */

/* Of few channels rows are the better vectors. */
static bool worth_blocks(const Storage *s, int lanes)
{
    return s->place == PLACE_WORKSPACE && !s->plain && s->shape.rank > 2 && !few_channels(s, lanes);
}

/* In rows the lanes of a block lie a channel apart: what is read several times is read from a copy. */
static void want_blocks(Expr *load, void *user)
{
    Copies *copies = user;
    Access *a = &load->load;
    int64_t reads = 1;
    for (int i = 0; i < copies->nest->axes; i++)
        reads *= copies->nest->axis[i].extent;
    const Storage *s = a->node->storage;
    bool rows = s->plain && s->place == PLACE_WORKSPACE && a->node->shape.rank > 2;
    if (rows && reads >= 2 * shape_count(&a->node->shape))
        a->node = copy_of(copies, a->node, "blocks");
}

/* -- what readers wish -- */

static void find_wishes(Copies *copies, Nest *nest)
{
    const Function *f = copies->f;
    copies->nest = nest;
    if (nest->reduces && f->by_samples)
        expr_loads(nest->term, want_samples, copies);
    if (nest->reduces && nest->reduce == REDUCE_SUM)     /* zero is neutral */
        expr_loads(nest->term, want_gap, copies);
    if (!f->by_samples && f->target->lanes > 1 && worth_blocks(nest->store.node->storage, f->target->lanes))
        nest_loads(nest, want_blocks, copies);
}

static void find_copies(Function *f)
{
    Copies copies = {.f = f, .copy = NEW_ARRAY(f->c, Node *, f->graph->nodes + 1)};
    for (int k = 0; k < f->kernels; k++) {
        Kernel *kernel = f->kernel[k];
        copies.layer = kernel->node->layer;
        for (int i = 0; i < kernel->nests; i++)
            find_wishes(&copies, kernel->nest[i]);
        PUSH(f->c, copies.kernel, copies.kernels) = kernel;
    }
    f->kernel = copies.kernel;
    f->kernels = copies.kernels;
}

/* -- parts -- */

/* An index into a part as an index into the whole that it is stored in. */
static Affine in_whole(const Node *n, int d, const Affine *index)
{
    Affine whole = *index;
    for (; n->joined; n = n->joined)
        for (int k = 0; k < n->joined->ins; k++) {
            int dim, begin = n->joined->op->part(n->joined, k, &dim);
            if (n->joined->in[k] == n && dim == d)
                whole.constant += begin;
        }
    return whole;
}

/* -- blocks of channels -- */

/* The axis that must be split so that an index into blocked channels falls into
 * block and lane; -1: none needs to be, -2: impossible. */
static int axis_to_split(const Nest *nest, const Affine *channel, int lanes)
{
    int axis = -1;
    for (int i = 0; i < nest->axes; i++) {
        if (channel->coef[i] % lanes == 0 || nest->axis[i].extent == 1)
            continue;
        if (axis >= 0 || channel->coef[i] != 1 || channel->constant % lanes)
            return -2;
        axis = i;
    }
    return axis >= 0 && nest->axis[axis].lanes == lanes ? -1 : axis;
}

typedef struct Block { Nest *nest; bool split; } Block;

static void block_access(Block *b, const Node *n, const Affine *index)
{
    Storage *s = n->storage;
    if (s->lanes > 1) {
        Affine channel = in_whole(n, 1, &index[1]);
        int axis = axis_to_split(b->nest, &channel, s->lanes);
        if (axis == -2)
            s->lanes = 1;
        else if (axis >= 0 && b->split)
            nest_split(b->nest, axis, s->lanes);
    }
    for (int i = 0; i < s->layout.pieces; i++) {         /* a parameter, packed by its reader's choice */
        const Piece *p = &s->layout.piece[i];
        int axis = p->div > 1 ? axis_to_split(b->nest, &index[p->dim], p->div) : -1;
        if (axis >= 0 && b->split)
            nest_split(b->nest, axis, p->div);
    }
}

static void block_load(Expr *load, void *user)
{
    block_access(user, load->load.node, load->load.index);
}

static void visit_accesses(Function *f, bool split)
{
    for (int k = 0; k < f->kernels; k++)
        for (int i = 0; i < f->kernel[k]->nests; i++) {
            Block b = {f->kernel[k]->nest[i], split};
            block_access(&b, b.nest->store.node, b.nest->store.index);
            nest_loads(b.nest, block_load, &b);
        }
}

static void find_blocks(Function *f)
{
    int lanes = f->target->lanes;
    for (int i = 0; i < f->storages; i++) {
        f->storage[i]->lanes = lanes > 1 && worth_blocks(f->storage[i], lanes) ? lanes : 1;
        f->storage[i]->lane_dim = 1;
    }
    visit_accesses(f, false);                    /* what some access cannot follow becomes plain */
    visit_accesses(f, true);
}

/* -- vectors -- */

/* Nests of one kernel may want the same. */
static Node *made_copy(const Function *f, const Node *n, const Layout *l)
{
    for (int k = f->laid_out; k < f->kernels; k++) {
        Node *copy = f->kernel[k]->node;
        if (copy->in[0] == n && !memcmp(copy->storage->layout.piece, l->piece, sizeof l->piece))
            return copy;
    }
    return NULL;
}

Node *layout_copy(Function *f, Node *n, const Layout *l, Layer *layer)
{
    Node *made = made_copy(f, n, l);
    if (made)
        return made;
    f->graph->current = layer;
    Node *copy = build_copy(f->graph, n);
    f->graph->current = NULL;
    copy->storage = storage_new(f, PLACE_WORKSPACE, format(f->c, "%s_packed", n->storage->name), n);
    copy->storage->lanes = 1;
    copy->storage->layout = *l;
    Kernel *kernel = lower_node(f, copy);
    Block b = {kernel->nest[0], true};
    block_access(&b, copy, b.nest->store.index);
    PUSH(f->c, f->kernel, f->kernels) = kernel;
    return copy;
}

static void choose_lanes(Function *f)
{
    Kernel **kernel = f->kernel;
    int kernels = f->kernels;
    if (f->target->lanes < 2)
        return;
    f->kernel = NULL;
    f->kernels = 0;
    for (int k = 0; k < kernels; k++) {          /* behind the copies that it reads */
        f->laid_out = f->kernels;
        for (int i = 0; i < kernel[k]->nests; i++)
            lanes_choose(f, kernel[k], kernel[k]->nest[i]);
        PUSH(f->c, f->kernel, f->kernels) = kernel[k];
    }
}

/* -- strides -- */

enum { LINE = 16, PAGE = 1024 };                /* floats */

static int extent_of(const Piece *p, const Shape *s)
{
    return p->mod ? p->mod : (s->dim[p->dim] + p->div - 1) / p->div;
}

static void choose_pieces(Storage *s)
{
    Layout *l = &s->layout;
    bool samples = s->lanes > 1 && s->lane_dim == 0, blocks = s->lanes > 1 && !samples;
    for (int d = samples; d < s->shape.rank; d++)
        l->piece[l->pieces++] = (Piece){.dim = d, .div = d == 1 && blocks ? s->lanes : 1,
                                        .mod = s->band && d == s->band_dim ? s->band : 0};
    if (samples)
        l->piece[l->pieces++] = (Piece){.dim = 0, .div = 1};
    if (blocks)
        l->piece[l->pieces++] = (Piece){.dim = 1, .div = 1, .mod = s->lanes};
}

/* Strides from the innermost piece outwards; the gap widens the rows.  Matrices of a stack are not
 * read alone: whole pages apart, equal places in them would share few lines of a cache. */
static void place_elements(Function *f, Storage *s)
{
    Layout *l = &s->layout;
    int last = s->shape.rank - 1;
    int64_t stride = 1;
    if (l->elements)                             /* as its reader has laid it out */
        return;
    l->rows = 1;
    if (!l->pieces)
        choose_pieces(s);
    for (int i = l->pieces - 1; i >= 0; i--) {
        Piece *p = &l->piece[i];
        bool row = s->gap && p->dim == last && !p->mod;
        if (i == 0 && s->lanes > 1 && !s->batched && stride % PAGE == 0)
            stride += LINE;
        p->stride = (int)stride;
        stride *= extent_of(p, &s->shape) + (row ? s->gap : 0);
        if (row) {
            l->gap = s->gap * p->stride;
            l->pitch = (int)stride;
        } else if (l->gap) {
            l->rows *= extent_of(p, &s->shape);
        }
        if (stride + l->gap + s->slack > INT_MAX)
            fail(f->c, STATUS_INPUT, "%s: %s with %d zeros between the rows has more than 2^31 - 1 elements",
                 s->name, shape_text(f->c, &s->shape, false), s->gap);
    }
    l->lead = l->gap;
    l->elements = (int)stride + l->gap + s->slack;
}

/* -- addresses -- */

/* index / div % mod, where the axes allow it exactly. */
static Affine part(Context *c, const Nest *nest, const Affine *index, const Piece *p)
{
    Affine quotient = {0}, rest = {0};
    quotient.constant = index->constant / p->div - (index->constant % p->div < 0);
    rest.constant = index->constant - quotient.constant * p->div;
    for (int i = 0; i < MAX_AXES; i++) {
        if (index->coef[i] % p->div == 0)
            quotient.coef[i] = index->coef[i] / p->div;
        else if (nest->axis[i].extent > 1)
            rest.coef[i] = index->coef[i];
    }
    int low, high;
    affine_range(&rest, nest, &low, &high);
    bool exact = low >= 0 && high < p->div;
    if (p->mod) {
        quotient.constant %= p->mod;
        for (int i = 0; i < MAX_AXES; i++)
            if (quotient.coef[i] % p->mod == 0)
                quotient.coef[i] = 0;
        affine_range(&quotient, nest, &low, &high);
        exact &= low >= 0 && high < p->mod;
    }
    if (!exact)
        fail(c, STATUS_FAULT, "layout: an index does not fall into blocks of %d", p->mod ? p->mod : p->div);
    return quotient;
}

Affine layout_address(Context *c, const Nest *nest, const Node *n, const Affine *index)
{
    const Storage *s = n->storage;
    Affine address = affine_constant(s->layout.lead);
    if (n->joined || shape_equal(&n->shape, &s->shape)) {
        for (int i = 0; i < s->layout.pieces; i++) {
            const Piece *p = &s->layout.piece[i];
            Affine whole = in_whole(n, p->dim, &index[p->dim]);
            if (n->rows && p->dim == s->band_dim) {      /* counted from the band's first */
                whole.coef[nest_band_axis(nest)] = 0;
                whole.constant += n->rows_base;
            }
            address = affine_sum(address, affine_times(part(c, nest, &whole, p), p->stride));
        }
        return address;
    }
    bool samples = s->lanes > 1 && s->lane_dim == 0;
    int stride = samples ? n->shape.dim[0] : 1;  /* an alias: another shape of memory without gaps */
    for (int d = n->shape.rank - 1; d >= samples; d--) {
        address = affine_sum(address, affine_times(index[d], stride));
        stride *= n->shape.dim[d];
    }
    return samples ? affine_sum(address, index[0]) : address;
}

int layout_offset(const Layout *l, const int *index)
{
    int offset = l->lead;
    for (int i = 0; i < l->pieces; i++) {
        int part = index[l->piece[i].dim] / l->piece[i].div;
        offset += l->piece[i].stride * (l->piece[i].mod ? part % l->piece[i].mod : part);
    }
    return offset;
}

bool layout_packed(const Layout *l)
{
    for (int i = 0; i < l->pieces; i++)
        if (l->piece[i].div > 1)
            return true;
    return false;
}

/* -- arguments -- */

typedef struct Arguments { Function *f; Kernel *kernel; } Arguments;

static void add_argument(Arguments *a, Storage *s)
{
    for (int i = 0; i < a->kernel->storages; i++)
        if (a->kernel->storage[i] == s)
            return;
    PUSH(a->f->c, a->kernel->storage, a->kernel->storages) = s;
}

static void visit_load(Expr *load, void *user)
{
    add_argument(user, load->load.node->storage);
}

static void list_arguments(Function *f, Kernel *kernel)
{
    Arguments a = {f, kernel};
    add_argument(&a, kernel->node->storage);
    for (int i = 0; i < kernel->nests; i++)
        nest_loads(kernel->nest[i], visit_load, &a);
    kernel->name = kernel->node->joined ? storage_name(f, kernel->node) : kernel->node->storage->name;
}

void layout(Function *f)
{
    storage_assign(f);
    f->by_samples = !f->frozen && worth_samples(f);
    find_copies(f);
    if (f->by_samples)
        lay_out_samples(f);
    else
        find_blocks(f);
    choose_lanes(f);
    for (int i = 0; i < f->storages; i++)
        place_elements(f, f->storage[i]);
    for (int k = 0; k < f->kernels; k++)
        list_arguments(f, f->kernel[k]);
}
