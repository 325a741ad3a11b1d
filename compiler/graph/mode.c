/* What a network does depends on its mode: in training, dropout drops and batch
 * norm normalises by the batch and updates its running statistics; at inference
 * both are per-channel arithmetic or nothing.  After this pass no node of the
 * graph depends on the mode. */
#include "../cnnc.h"

static Node *visit(Rewrite *r, Node *old, Node **in)
{
    const bool *training = r->user;
    Node *n = old->op->specialise ? old->op->specialise(r->to, old, in, *training) : NULL;
    return n ? n : node_copy(r, old, in);
}

Graph *mode(Graph *g, bool training)
{
    return graph_rewrite(g, visit, &training);
}
