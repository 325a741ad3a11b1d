/* Where the elements of every tensor lie.
 *
 * Plain row-major order, but rows of the innermost spatial axis may be followed by
 * a gap of zeros: one row's right border is the next row's left one, and a window
 * that leaves the row on either side reads zeros without a test.  The other axes
 * need no border: their loops are clipped (schedule).  A tensor whose memory is
 * the user's, or is also seen in another shape, cannot have gaps: whoever wants
 * them reads a copy. */
#include "cnnc.h"

#include <limits.h>
#include <string.h>

void affine_range(const Affine *a, const Nest *nest, int *low, int *high)
{
    *low = *high = a->constant;
    for (int i = 0; i < nest->axes; i++) {
        int reach = a->coef[i] * (nest->axis[i].extent - 1);
        *(reach < 0 ? low : high) += reach;
    }
}

/* -- storages -- */

static bool name_taken(const Function *f, const char *name)
{
    for (int i = 0; i < f->storages; i++)
        if (strcmp(f->storage[i]->name, name) == 0)
            return true;
    return false;
}

/* "conv1" for what layer conv1 gives, "conv1_input_grad" for what it takes on the way. */
static const char *workspace_name(Function *f, const Node *n)
{
    Context *c = f->c;
    if (!n->layer)
        return n->op->name;
    const char *layer = c_identifier(c, n->layer->name), *op = n->op->name;
    if (!name_taken(f, layer) && shape_equal(&n->shape, &n->layer->output->shape))
        return layer;
    const char *rest = strchr(op, '_');
    if (rest && strncmp(layer, op, (size_t)(rest - op)) == 0)
        op = rest + 1;
    return format(c, "%s_%s", layer, op);
}

static Storage *storage_new(Function *f, Place place, const char *name, const Node *n)
{
    Storage *s = NEW(f->c, Storage);
    const char *base = name;
    for (int serial = 2; name_taken(f, name); serial++)
        name = format(f->c, "%s_%d", base, serial);
    s->place = place;
    s->name = name;
    s->shape = n->shape;
    s->dtype = n->dtype;
    s->plain = place != PLACE_WORKSPACE;
    PUSH(f->c, f->storage, f->storages) = s;
    return s;
}

static Storage *root_storage(Function *f, const Root *r)
{
    Storage *s;
    switch (r->kind) {
    case ROOT_OUTPUT:
        s = storage_new(f, PLACE_OUTPUT, r->name, r->node);
        s->output = r;
        return s;
    case ROOT_PARAM_GRAD:
        s = storage_new(f, PLACE_GRAD, format(f->c, "%s_grad", r->param->c_name), r->node);
        s->param = r->param;
        return s;
    case ROOT_INPUT_GRAD:
        s = storage_new(f, PLACE_INPUT_GRAD, format(f->c, "%s_grad", r->input->c_name), r->node);
        s->input = r->input;
        return s;
    case ROOT_UPDATE:                            /* the parameter itself, which the node also reads */
        return NULL;
    case ROOT_DERIVED:
        s = storage_new(f, PLACE_PARAM, r->param->c_name, r->node);
        s->param = r->param;
        return s;
    case ROOT_LOSS:
        break;
    }
    return storage_new(f, PLACE_WORKSPACE, "loss", r->node);
}

static Storage *leaf_storage(Function *f, const Node *n)
{
    if (!n->param && !n->input)
        return NULL;
    Storage *s = storage_new(f, n->param ? PLACE_PARAM : PLACE_INPUT,
                             n->param ? n->param->c_name : n->input->c_name, n);
    s->param = n->param;
    s->input = n->input;
    return s;
}

static void assign_storages(Function *f)
{
    Graph *g = f->graph;
    bool *live = graph_live(g);
    for (int i = 0; i < g->nodes; i++)           /* the user's names first */
        if (live[i] && g->node[i]->op->traits & OP_LEAF)
            g->node[i]->storage = leaf_storage(f, g->node[i]);
    for (int i = 0; i < g->roots; i++)
        g->root[i].node->storage = root_storage(f, &g->root[i]);
    for (int i = 0; i < g->roots; i++)
        if (g->root[i].kind == ROOT_UPDATE)
            g->root[i].node->storage = param_leaf(g, g->root[i].param)->storage;
    for (int i = 0; i < g->nodes; i++) {
        Node *n = g->node[i];
        if (!live[i] || n->storage || n->inlined || (n->op->traits & OP_LEAF))
            continue;
        if (n->op->traits & OP_ALIAS) {
            n->storage = n->in[0]->storage;
            n->storage->plain = true;
        } else {
            n->storage = storage_new(f, PLACE_WORKSPACE, workspace_name(f, n), n);
        }
    }
}

/* -- gaps -- */

typedef struct Gaps {
    Function *f;
    Layer *layer;             /* of the reader */
    Nest *nest;
    Node **copy;              /* by node: its copy with gaps, once made */
    Kernel **kernel; int kernels;
} Gaps;

/* The copy of n in the workspace, made in front of its first reader. */
static Node *copy_of(Gaps *gaps, Node *n)
{
    Node **copy = &gaps->copy[n->id];
    if (!*copy) {
        Function *f = gaps->f;
        f->graph->current = gaps->layer;
        *copy = build_copy(f->graph, n);
        f->graph->current = NULL;
        (*copy)->storage = storage_new(f, PLACE_WORKSPACE, format(f->c, "%s_rows", n->storage->name), n);
        PUSH(f->c, gaps->kernel, gaps->kernels) = lower_node(f, *copy);
    }
    return *copy;
}

/* A read that leaves its row needs a gap as wide as it leaves it. */
static void want_gap(Expr *load, void *user)
{
    Gaps *gaps = user;
    Access *a = &load->load;
    int last = a->node->shape.rank - 1, low, high;
    if (!a->border || last < 0)
        return;
    affine_range(&a->index[last], gaps->nest, &low, &high);
    int width = a->node->shape.dim[last], gap = -low;
    if (high - (width - 1) > gap)
        gap = high - (width - 1);
    if (gap <= 0)
        return;
    if (a->node->storage->plain)
        a->node = copy_of(gaps, a->node);
    if (gap > a->node->storage->layout.gap)
        a->node->storage->layout.gap = gap;
}

static void find_gaps(Function *f)
{
    Gaps gaps = {.f = f, .copy = NEW_ARRAY(f->c, Node *, f->graph->nodes + 1)};
    for (int k = 0; k < f->kernels; k++) {
        Kernel *kernel = f->kernel[k];
        gaps.layer = kernel->node->layer;
        for (int i = 0; i < kernel->nests; i++) {
            gaps.nest = kernel->nest[i];
            if (gaps.nest->reduces && gaps.nest->reduce == REDUCE_SUM)   /* zero is neutral */
                expr_loads(gaps.nest->term, want_gap, &gaps);
        }
        PUSH(f->c, gaps.kernel, gaps.kernels) = kernel;
    }
    f->kernel = gaps.kernel;
    f->kernels = gaps.kernels;
}

/* -- addresses -- */

int layout_rows(const Storage *s)
{
    int rank = s->shape.rank;
    return rank ? shape_count(&s->shape) / s->shape.dim[rank - 1] : 1;
}

static void place_elements(Function *f, Storage *s)
{
    Layout *l = &s->layout;
    int rank = s->shape.rank;
    int64_t stride = 1;
    for (int d = rank - 1; d >= 0; d--) {
        l->stride[d] = (int)stride;
        stride *= s->shape.dim[d] + (d == rank - 1 ? l->gap : 0);
        if (stride + l->gap > INT_MAX)
            fail(f->c, STATUS_INPUT, "%s: %s with %d zeros between the rows has more than 2^31 - 1 elements",
                 s->name, shape_text(f->c, &s->shape, false), l->gap);
    }
    l->lead = l->gap;
    l->elements = (int)stride + l->gap;
}

Affine layout_address(const Node *n, const Affine *index)
{
    const Storage *s = n->storage;
    Affine address = affine_constant(s->layout.lead);
    int stride = 1;                              /* of an alias: its own, without gaps */
    for (int d = n->shape.rank - 1; d >= 0; d--) {
        bool own = shape_equal(&n->shape, &s->shape);
        address = affine_sum(address, affine_times(index[d], own ? s->layout.stride[d] : stride));
        stride *= n->shape.dim[d];
    }
    return address;
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

void layout(Function *f)
{
    assign_storages(f);
    find_gaps(f);
    for (int i = 0; i < f->storages; i++)
        place_elements(f, f->storage[i]);
    for (int k = 0; k < f->kernels; k++) {
        Arguments a = {f, f->kernel[k]};
        add_argument(&a, f->kernel[k]->node->storage);
        for (int i = 0; i < f->kernel[k]->nests; i++)
            nest_loads(f->kernel[k]->nest[i], visit_load, &a);
        f->kernel[k]->name = f->kernel[k]->node->storage->name;
    }
}
