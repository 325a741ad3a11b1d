/* Shapes, nodes, parameters, inputs and the one way to rewrite a graph. */
#include "../cnnc.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

/* -- shapes -- */

int shape_count(const Shape *s)
{
    int count = 1;
    for (int d = 0; d < s->rank; d++)
        count *= s->dim[d];                      /* node_new has checked the product */
    return count;
}

bool shape_equal(const Shape *a, const Shape *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof(int)) == 0;
}

Shape shape_of(int rank, const int *dim)
{
    Shape s = {.rank = rank};
    for (int d = 0; d < rank; d++)
        s.dim[d] = dim[d];
    return s;
}

const char *shape_text(Context *c, const Shape *s, bool skip_batch)
{
    Text t = {.c = c};
    text_add(&t, "%s", s->rank > (int)skip_batch ? "" : "scalar");
    for (int d = skip_batch; d < s->rank; d++)
        text_add(&t, "%s%d", d > (int)skip_batch ? "x" : "", s->dim[d]);
    return t.data;
}

static void check_size(Graph *g, const char *what, const Shape *s)
{
    int64_t count = 1;
    for (int d = 0; d < s->rank; d++) {
        if (s->dim[d] < 1)
            fail(g->c, STATUS_INPUT, "%s: size %d of dimension %d is not positive", what, s->dim[d], d);
        count *= s->dim[d];                      /* both factors are below 2^31 */
        if (count > INT_MAX)
            fail(g->c, STATUS_INPUT, "%s: %s%s has more than 2^31 - 1 elements", what,
                 shape_text(g->c, s, false), g->batch > 1 ? " (with the batch)" : "");
    }
}

/* -- nodes -- */

Graph *graph_new(Context *c, const char *name, int batch)
{
    Graph *g = NEW(c, Graph);
    g->c = c;
    g->name = name;
    g->batch = batch;
    return g;
}

static Node *append(Graph *g, const Op *op)
{
    Node *n = NEW(g->c, Node);
    n->op = op;
    n->id = g->nodes;
    n->layer = g->current;
    PUSH(g->c, g->node, g->nodes) = n;
    return n;
}

Node *node_new(Graph *g, const Op *op, int ins, Node *const *in, const void *attrs)
{
    Node *n = append(g, op);
    n->ins = ins;
    n->in = NEW_ARRAY(g->c, Node *, ins);
    for (int i = 0; i < ins; i++) {
        n->in[i] = in[i];
        n->batched |= in[i]->batched;
    }
    if (op->attrs_size) {
        n->attrs = arena_alloc(g->c, 1, op->attrs_size);
        memcpy(n->attrs, attrs, op->attrs_size);
    }
    op->infer(g, n);
    check_size(g, g->current ? g->current->method : op->name, &n->shape);
    return n;
}

Node *scalar_new(Graph *g, double value)
{
    Node *n = append(g, op_scalar());
    n->value = value;
    return n;
}

/* -- parameters and inputs: one declaration, one leaf per graph -- */

const char *c_identifier(Context *c, const char *name)
{
    char *out = format(c, "%s%s", isdigit((unsigned char)name[0]) ? "_" : "", name);
    for (char *p = out; *p; p++)
        if (!isalnum((unsigned char)*p) || (unsigned char)*p > 127)
            *p = '_';
    return out;
}

static void check_unique(Graph *g, const char *what, const char *name, const char *c_name,
                         const char *other, const char *other_c_name)
{
    if (strcmp(name, other) == 0)
        fail(g->c, STATUS_INPUT, "%s \"%s\" is already declared", what, name);
    if (strcmp(c_name, other_c_name) == 0)
        fail(g->c, STATUS_INPUT, "%s \"%s\" and \"%s\" are both %s in C", what, name, other, c_name);
}

Node *param_new(Graph *g, Layer *layer, const char *suffix, Shape shape, InitKind init,
                float value, const float *literal, bool trainable)
{
    Param *p = NEW(g->c, Param);
    p->name = format(g->c, "%s.%s", layer->name, suffix);
    p->c_name = c_identifier(g->c, p->name);
    for (int i = 0; i < g->params; i++)
        check_unique(g, "parameter", p->name, p->c_name, g->param[i]->name, g->param[i]->c_name);
    check_size(g, p->name, &shape);
    p->shape = shape;
    p->count = shape_count(&shape);
    p->offset = params_count(g);
    p->index = g->params;
    p->init = init;
    p->value = value;
    p->literal = literal;
    p->trainable = trainable;
    p->layer = layer;
    PUSH(g->c, g->param, g->params) = p;
    return param_leaf(g, p);
}

Node *input_new(Graph *g, const char *name, Shape shape, DType dtype, bool loss_only, int classes)
{
    Input *in = NEW(g->c, Input);
    in->name = name;
    in->c_name = c_identifier(g->c, name);
    for (int i = 0; i < g->inputs; i++)
        check_unique(g, "input", name, in->c_name, g->input[i]->name, g->input[i]->c_name);
    check_size(g, name, &shape);
    in->shape = shape;
    in->dtype = dtype;
    in->loss_only = loss_only;
    in->classes = classes;
    in->index = g->inputs;
    PUSH(g->c, g->input, g->inputs) = in;
    return input_leaf(g, in);
}

Node *param_leaf(Graph *g, Param *p)
{
    for (int i = 0; i < g->nodes; i++)
        if (g->node[i]->param == p)
            return g->node[i];
    Node *n = append(g, op_param());
    n->param = p;
    n->shape = p->shape;
    n->layer = p->layer;
    return n;
}

Node *input_leaf(Graph *g, Input *in)
{
    for (int i = 0; i < g->nodes; i++)
        if (g->node[i]->input == in)
            return g->node[i];
    Node *n = append(g, op_input());
    n->input = in;
    n->shape = in->shape;
    n->dtype = in->dtype;
    n->batched = true;
    n->layer = NULL;
    return n;
}

int64_t params_count(const Graph *g)
{
    const Param *last = g->params ? g->param[g->params - 1] : NULL;
    return last ? last->offset + last->count : 0;
}

void root_add(Graph *g, Root root)
{
    PUSH(g->c, g->root, g->roots) = root;
}

/* -- rewriting -- */

bool *graph_live(const Graph *g)
{
    bool *live = NEW_ARRAY(g->c, bool, g->nodes + 1);
    for (int r = 0; r < g->roots; r++)
        live[g->root[r].node->id] = true;
    for (int i = g->nodes - 1; i >= 0; i--)
        for (int k = 0; live[i] && k < g->node[i]->ins; k++)
            live[g->node[i]->in[k]->id] = true;
    return live;
}

/* Parameters and inputs are declarations: the new graph shares them. */
static Graph *graph_like(const Graph *from)
{
    Graph *g = graph_new(from->c, from->name, from->batch);
    g->file = from->file;
    g->layer = from->layer, g->layers = from->layers;
    g->param = from->param, g->params = from->params;
    g->input = from->input, g->inputs = from->inputs;
    return g;
}

Node *node_copy(Rewrite *r, Node *old, Node **in)
{
    if (old->param)
        return param_leaf(r->to, old->param);
    if (old->input)
        return input_leaf(r->to, old->input);
    if (old->op->traits & OP_LEAF)
        return scalar_new(r->to, old->value);
    Node *n = node_new(r->to, old->op, old->ins, in, old->attrs);
    n->batched = old->batched;
    return n;
}

Graph *graph_rewrite(Graph *from, Node *(*visit)(Rewrite *r, Node *old, Node **in), void *user)
{
    Context *c = from->c;
    Rewrite r = {.from = from, .to = graph_like(from), .user = user};
    r.image = NEW_ARRAY(c, Node *, from->nodes + 1);
    bool *live = graph_live(from);
    for (int i = 0; i < from->nodes; i++) {
        Node *old = from->node[i];
        if (!live[i])
            continue;
        Node **in = NEW_ARRAY(c, Node *, old->ins);
        for (int k = 0; k < old->ins; k++)
            in[k] = r.image[old->in[k]->id];
        r.to->current = old->layer;
        r.image[i] = visit(&r, old, in);
    }
    r.to->current = NULL;
    for (int i = 0; i < from->roots; i++) {
        Root root = from->root[i];
        root.node = r.image[root.node->id];
        root_add(r.to, root);
    }
    return r.to;
}

void graph_check(const Graph *g, const char *pass)
{
    for (int i = 0; i < g->nodes; i++) {
        const Node *n = g->node[i];
        bool leaf = n->op->traits & OP_LEAF;
        if (n->id != i || leaf != (n->ins == 0))
            fail(g->c, STATUS_FAULT, "%s: node %d (%s) is malformed", pass, i, n->op->name);
        for (int k = 0; k < n->ins; k++) {
            if (n->in[k]->id >= i || g->node[n->in[k]->id] != n->in[k])
                fail(g->c, STATUS_FAULT, "%s: input %d of node %d (%s) does not precede it", pass, k, i,
                     n->op->name);
            if ((n->op->traits & OP_POINTWISE) && !shape_equal(&n->shape, &n->in[k]->shape))
                fail(g->c, STATUS_FAULT, "%s: node %d (%s): operand %d is %s, not %s", pass, i, n->op->name,
                     k, shape_text(g->c, &n->in[k]->shape, false), shape_text(g->c, &n->shape, false));
        }
    }
    for (int r = 0; r < g->roots; r++)
        if (g->node[g->root[r].node->id] != g->root[r].node)
            fail(g->c, STATUS_FAULT, "%s: root %d is not of this graph", pass, r);
}
