/* Reverse-mode differentiation, graph to graph.
 *
 * Gradients are ordinary nodes behind the nodes of the forward pass, built by the
 * ops' own rules; nothing behind this pass knows that they are gradients. */
#include "../cnnc.h"

static bool wanted_leaf(const Node *n, Wanted wanted)
{
    if (n->param)
        return wanted.params && n->param->trainable && !n->param->statistic;
    return n->input && wanted.inputs && n->dtype == F32 && !n->input->loss_only;
}

/* leads[id]: the node depends on a leaf whose gradient is wanted. */
static bool *leads_to_wanted(const Graph *g, Wanted wanted)
{
    bool *leads = NEW_ARRAY(g->c, bool, g->nodes);
    for (int id = 0; id < g->nodes; id++) {
        const Node *n = g->node[id];
        leads[id] = wanted_leaf(n, wanted);
        for (int i = 0; i < n->ins; i++)
            leads[id] |= leads[n->in[i]->id];
    }
    return leads;
}

/* The same graph without the roots that training has no use for. */
static Graph *copy_for_training(Graph *g)
{
    Graph trimmed = *g;
    trimmed.root = NULL;
    trimmed.roots = 0;
    for (int r = 0; r < g->roots; r++)
        if (g->root[r].kind != ROOT_OUTPUT)
            root_add(&trimmed, g->root[r]);
    return graph_rewrite(&trimmed, node_copy, NULL);
}

static Node *find_loss(const Graph *g)
{
    for (int r = 0; r < g->roots; r++)
        if (g->root[r].kind == ROOT_LOSS)
            return g->root[r].node;
    fail(g->c, STATUS_INPUT, "%s: the model has no loss: training needs one, made by cross_entropy or mse",
         g->file ? g->file : g->name);
}

/* Sends dy, the complete gradient for n, on to the inputs of n. */
static void propagate(Graph *g, Node *n, Node *dy, const bool *leads, Node **gradient)
{
    for (int i = 0; i < n->ins; i++) {
        int to = n->in[i]->id;
        if (!leads[to])
            continue;
        if (!n->op->gradient)
            fail(g->c, STATUS_FAULT, "autodiff: %s has no gradient rule", n->op->name);
        Node *d = n->op->gradient(g, n, dy, i);
        if (!d)
            continue;
        if (!gradient[to])
            gradient[to] = d;
        else if (!FAULT(g->c, FAULT_FIRST_USE_ONLY))
            gradient[to] = build_add(g, gradient[to], d);
    }
}

static Node *zeros(Graph *g, const Shape *batched)
{
    return build_broadcast(g, scalar_new(g, 0), batched, true);
}

static void add_gradient_roots(Graph *g, Node *const *gradient, int nodes, Wanted wanted)
{
    Node **of_param = NEW_ARRAY(g->c, Node *, g->params), **of_input = NEW_ARRAY(g->c, Node *, g->inputs);
    for (int id = 0; id < nodes; id++) {
        const Node *n = g->node[id];
        if (!gradient[id] || !wanted_leaf(n, wanted))
            continue;
        if (n->param)
            of_param[n->param->index] = gradient[id];
        else
            of_input[n->input->index] = gradient[id];
    }
    for (int p = 0; p < g->params; p++)
        if (of_param[p])
            root_add(g, (Root){.kind = ROOT_PARAM_GRAD, .node = of_param[p], .param = g->param[p]});
    for (int i = 0; i < g->inputs; i++) {
        Input *in = g->input[i];
        if (wanted.inputs && in->dtype == F32 && !in->loss_only)
            root_add(g, (Root){.kind = ROOT_INPUT_GRAD, .input = in,
                               .node = of_input[i] ? of_input[i] : zeros(g, &in->shape)});
    }
}

/* In: a graph in training mode with a loss.  Out: a copy whose roots are the loss,
 * the updates of running statistics and the gradients, in order of declaration, of
 * the wanted leaves.  Parameters that the loss does not depend on have none, inputs
 * have zeros: gradients of parameters are added to what is there, those of inputs are
 * stored.
 *
 * Nodes are visited from the loss backwards, so that all uses of a node have added
 * their share to gradient[id] before it is passed on. */
Graph *autodiff(Graph *forward, Wanted wanted)
{
    Graph *g = copy_for_training(forward);
    Node *loss = find_loss(g);
    int nodes = g->nodes;                        /* without those that gradients add */
    bool *leads = leads_to_wanted(g, wanted);
    Node **gradient = NEW_ARRAY(g->c, Node *, nodes);

    g->current = loss->layer;
    gradient[loss->id] = scalar_new(g, 1);
    for (int id = loss->id; id >= 0; id--) {
        Node *n = g->node[id];
        if (!gradient[id] || !leads[id])
            continue;
        g->current = n->layer;
        propagate(g, n, gradient[id], leads, gradient);
    }
    g->current = NULL;
    add_gradient_roots(g, gradient, nodes, wanted);
    return g;
}
