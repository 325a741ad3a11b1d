/* 3x3 convolutions of stride 1 by Winograd's algorithm, where that is worth it. */
#include "../cnnc.h"

typedef struct Choice { const Target *target; int tile; } Choice;

static int choose(const Choice *c, const Node *n)
{
    (void)n;
    return c->tile == WINOGRAD_AUTO ? WINOGRAD_OFF : c->tile;
}

static Node *visit(Rewrite *r, Node *old, Node **in)
{
    int tile = old->op->winograd ? choose(r->user, old) : WINOGRAD_OFF;
    Node *n = tile == WINOGRAD_OFF ? NULL : old->op->winograd(r->to, old, in, tile);
    return n ? n : node_copy(r, old, in);
}

Graph *winograd(Graph *g, const Target *target, int tile)
{
    return graph_rewrite(g, visit, &(Choice){target, tile});
}
