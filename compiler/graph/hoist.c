/* Subgraphs of parameters alone become derived fields of the parameter struct,
 * computed once by `pack` and `init` instead of in every call. */
#include "../cnnc.h"

typedef struct Hoist {
    bool *constant;           /* by node: made of parameters and scalars, at least one parameter */
    Param **derived;          /* by node: the field that it became */
} Hoist;

/* What an index map or another shape of it would have to load. */
static Node *core(Node *n)
{
    while (n->op->traits & (OP_INDEX_MAP | OP_ALIAS))
        n = n->in[0];
    return n;
}

static bool *find_constant(const Graph *g)
{
    bool *constant = NEW_ARRAY(g->c, bool, g->nodes + 1), *scalar = NEW_ARRAY(g->c, bool, g->nodes + 1);
    for (int i = 0; i < g->nodes; i++) {
        const Node *n = g->node[i];
        bool all = n->ins > 0, any = false, scalars = n->ins > 0;
        for (int k = 0; k < n->ins; k++) {
            int id = n->in[k]->id;
            all &= constant[id] || scalar[id];
            any |= constant[id];
            scalars &= scalar[id];
        }
        constant[i] = n->param || (all && any);
        scalar[i] = ((n->op->traits & OP_LEAF) && !n->param && !n->input) || scalars;
    }
    return constant;
}

/* Named after the parameter of its shape that it is made from, else its layer. */
static const char *derived_name(Context *c, const Graph *g, const Node *n, int serial)
{
    const Node *walk = n;
    while (walk->ins) {
        for (int k = 0; k < walk->ins; k++) {
            const Node *in = core(walk->in[k]);
            if (in->param && shape_equal(&in->shape, &n->shape))
                return format(c, "%s_folded", in->param->c_name);
        }
        walk = core(walk->in[0]);
    }
    return format(c, "%s_derived%d", n->layer ? c_identifier(c, n->layer->name) : g->name, serial);
}

static bool name_taken(const Graph *g, Param *const *derived, const char *name)
{
    for (int i = 0; i < g->nodes; i++)
        if (derived[i] && __builtin_strcmp(derived[i]->c_name, name) == 0)
            return true;
    for (int i = 0; i < g->params; i++)
        if (__builtin_strcmp(g->param[i]->c_name, name) == 0)
            return true;
    return false;
}

static Param *derive(Graph *g, const Hoist *h, Node *n, int serial)
{
    Param *p = NEW(g->c, Param);
    p->name = derived_name(g->c, g, n, serial);
    while (name_taken(g, h->derived, p->name) || name_taken(g, h->derived, c_identifier(g->c, p->name)))
        p->name = format(g->c, "%s_%d", p->name, serial);
    p->c_name = c_identifier(g->c, p->name);
    p->shape = n->shape;
    p->count = shape_count(&n->shape);
    p->derived = true;
    p->layer = n->layer;
    return p;
}

static Node *visit(Rewrite *r, Node *old, Node **in)
{
    const Hoist *h = r->user;
    return h->derived[old->id] ? param_leaf(r->to, h->derived[old->id]) : node_copy(r, old, in);
}

Graph *hoist(Graph *g, Graph **pack)
{
    Hoist h = {find_constant(g), NEW_ARRAY(g->c, Param *, g->nodes + 1)};
    Graph derived = *g;                          /* the same nodes, other roots */
    derived.root = NULL;
    derived.roots = 0;
    bool *live = graph_live(g);
    for (int i = 0; i < g->nodes; i++) {
        Node *n = g->node[i];
        for (int k = 0; live[i] && !h.constant[i] && k < n->ins; k++) {
            Node *value = core(n->in[k]);
            if (!h.constant[value->id] || value->param || h.derived[value->id])
                continue;
            Param *p = h.derived[value->id] = derive(g, &h, value, derived.roots + 1);
            root_add(&derived, (Root){.kind = ROOT_DERIVED, .node = value, .param = p});
        }
    }
    *pack = graph_rewrite(&derived, node_copy, NULL);
    return graph_rewrite(g, visit, &h);
}
