/* 3x3 convolutions of stride 1 by Winograd's algorithm F(tile x tile, 3x3), where it is the
 * faster way.
 *
 * The larger the tile, the fewer multiplications are left, but the more weights: they outgrow
 * the caches, and where maps are small, a call takes as long as reading them does.  Larger
 * tiles also lose digits, about one from 2 to 4 and one more to 6: the choice leaves 6 to those
 * who ask for it.
 *
 * Where filters are transformed once, it is made for one sample: the layout of parameters is the
 * same for all batches.  Where parameters change, every call transforms them, which is not worth
 * it for few samples and many weights. */
#include "../cnnc.h"

typedef struct Choice { const Target *target; int tile; bool frozen; } Choice;

/* What the model of a processor's core knows, in cycles and bytes. */
static const double multiply_adds = 2;           /* vectors of them a cycle */
static const double direct_rate = 0.9, product_rate = 0.8;     /* what leaves reach of that */
static const double cold_bytes = 6;              /* of weights a cycle, from beyond the second cache */
static const double overlap = 0.7;               /* of the shorter part, with the longer */
static const double transform_cycles = 6;        /* to make one vector of a tile and to take it apart */
static const double filter_cycles = 0.55;        /* of a filter's vector, for each position of a tile: they
                                                    lie a matrix apart and crowd in the cache */

/* Multiplying while weights are read. */
static double streamed(double compute, double weights)
{
    double longer = compute > weights ? compute : weights;
    return longer + (1 - overlap) * (compute + weights - longer);
}

static int64_t blocks(int channels, int lanes)
{
    return (channels + lanes - 1) / lanes;
}

/* Cycles of a sample, or of a call that transforms filters or their gradients; tile WINOGRAD_OFF:
 * directly. */
static double cycles(const ConvWork *w, int lanes, int tile, bool frozen)
{
    bool direct = tile == WINOGRAD_OFF;
    int samples = frozen ? 1 : w->samples;
    int side = direct ? 3 : tile + 2;
    int64_t ins = blocks(w->ins, lanes), outs = blocks(w->outs, lanes);
    int64_t rows = (w->rows + tile - 1) / tile, columns = (w->columns + tile - 1) / tile;
    double weights = (double)(side * side * ins * outs) * lanes;      /* vectors */
    double products = weights * (double)(rows * columns * samples) / multiply_adds;
    double tiles = (double)(side * side * (ins + outs) * rows * columns * samples);
    double filters = frozen ? 0 : weights * filter_cycles * side * side;
    return streamed(products / (direct ? direct_rate : product_rate), weights * lanes * 4 / cold_bytes) +
           (direct ? 0 : tiles * transform_cycles + filters);
}

/* Vectors need channels in blocks, and kernels of their own that store what is read that way.
 * Filters that a call transforms have no room for the rest of a block. */
static bool has_blocks(const Node *n, const ConvWork *w, int lanes, bool frozen)
{
    bool own = !(n->in[0]->op->traits & (OP_LEAF | OP_ALIAS)) &&
               !(w->gathers && n->in[1]->op->traits & (OP_LEAF | OP_ALIAS));
    return lanes > 1 && own && w->ins * 10 >= lanes * 8 && w->outs * 10 >= lanes * 8 &&
           (frozen || (w->ins % lanes == 0 && (!w->gathers || w->outs % lanes == 0)));
}

static int choose(const Choice *c, const Node *n)
{
    int lanes = c->target->lanes, best = WINOGRAD_OFF;
    if (c->tile != WINOGRAD_AUTO)
        return c->tile;
    if (n->shape.rank != 4)
        return WINOGRAD_OFF;
    const ConvWork w = n->op->work(n);
    for (int tile = 2; tile <= 4 && has_blocks(n, &w, lanes, c->frozen); tile += 2)
        if (cycles(&w, lanes, tile, c->frozen) < cycles(&w, lanes, best, c->frozen))
            best = tile;
    return best;
}

static Node *visit(Rewrite *r, Node *old, Node **in)
{
    int tile = old->op->winograd ? choose(r->user, old) : WINOGRAD_OFF;
    Node *n = tile == WINOGRAD_OFF ? NULL : old->op->winograd(r->to, old, in, tile);
    return n ? n : node_copy(r, old, in);
}

Graph *winograd(Graph *g, const Target *target, int tile, bool frozen)
{
    return graph_rewrite(g, visit, &(Choice){target, tile, frozen});
}
