/* Ops that are one node to a person and to autodiff (their gradients have short
 * closed forms), but several nests to a machine: softmax, losses.  After this pass
 * every node is a leaf, an element formula or a reduction that can be lowered. */
#include "../cnnc.h"

static Node *visit(Rewrite *r, Node *old, Node **in)
{
    Node *n = old->op->expand ? old->op->expand(r->to, old, in) : NULL;
    return n ? n : node_copy(r, old, in);
}

Graph *expand(Graph *g)
{
    return graph_rewrite(g, visit, NULL);
}
