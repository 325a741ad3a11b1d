/* Which nodes are stored, and which are computed inside their reader.
 *
 * After this pass a node is one of
 *   leaf        a parameter, an input or a scalar;
 *   alias       another shape of what its input stores;
 *   inlined     an expression inside its readers (index maps, cheap values, pointwise
 *               nodes with one reader) or the reduction inside a stored node's kernel;
 *   stored      everything else: one kernel each.  `root` is the reduction whose
 *               epilogue (bias, activation, residual sum ...) ends in this node,
 *               `joined` a reader whose memory holds it as a part, `within` a reader
 *               whose kernel computes it, too. */
#include "../cnnc.h"

/* -- a home for every root -- */

typedef struct Landing { int *readers, *roots; bool *taken; } Landing;     /* by node */

/* A root is stored by its own kernel in its own place.  Leaves and aliases have no
 * kernel; two roots may want one node; a gradient that is added to what is there, or
 * an updated statistic, cannot be read back, not even by the copy for another root. */
static bool needs_copy(const Root *root, const Landing *l)
{
    bool readable = root->kind == ROOT_OUTPUT || root->kind == ROOT_LOSS;
    return (root->node->op->traits & (OP_LEAF | OP_ALIAS)) || l->taken[root->node->id] ||
           (!readable && (l->readers[root->node->id] > 0 || l->roots[root->node->id] > 1));
}

static Graph *land(Graph *old)
{
    Graph *g = graph_rewrite(old, node_copy, NULL);
    Landing l = {NEW_ARRAY(g->c, int, g->nodes + 1), NEW_ARRAY(g->c, int, g->nodes + 1),
                 NEW_ARRAY(g->c, bool, g->nodes + 1)};
    for (int i = 0; i < g->nodes; i++)
        for (int k = 0; k < g->node[i]->ins; k++)
            l.readers[g->node[i]->in[k]->id]++;
    for (int i = 0; i < g->roots; i++)
        l.roots[g->root[i].node->id]++;
    for (int i = 0; i < g->roots; i++) {
        Root *root = &g->root[i];
        if (needs_copy(root, &l)) {
            g->current = root->node->layer;
            root->node = build_copy(g, root->node);
        } else {
            l.taken[root->node->id] = true;
        }
    }
    g->current = NULL;
    return g;
}

/* -- readers -- */

typedef struct Readers {
    Node **first;             /* by node: one of its readers */
    bool *rooted;             /* by node: a root, or read by an alias */
    bool *windowed;           /* by node: activations that a reduction reads repeatedly or past the edge */
} Readers;

static Readers count_readers(Graph *g)
{
    Readers r = {NEW_ARRAY(g->c, Node *, g->nodes + 1), NEW_ARRAY(g->c, bool, g->nodes + 1),
                 NEW_ARRAY(g->c, bool, g->nodes + 1)};
    for (int i = 0; i < g->nodes; i++) {
        Node *n = g->node[i];
        bool window = (n->op->lower || n->op->band) && !(n->op->traits & OP_READS_ONCE);
        for (int k = 0; k < n->ins; k++) {
            Node *in = n->in[k];
            in->uses += r.first[in->id] != n;    /* x * x reads x once */
            r.first[in->id] = n;
            r.rooted[in->id] |= (n->op->traits & OP_ALIAS) != 0;
            r.windowed[in->id] |= window && in->batched;
        }
    }
    for (int i = 0; i < g->roots; i++) {
        g->root[i].node->uses++;
        r.rooted[g->root[i].node->id] = true;
    }
    return r;
}

static int times_read(const Node *reader, const Node *n)
{
    int times = 0;
    for (int k = 0; k < reader->ins; k++)
        times += reader->in[k] == n;
    return times;
}

/* Whether each element of n, written as an expression, would be computed once. */
static bool computed_once(const Readers *r, const Node *n)
{
    const Node *reader = r->first[n->id];
    if (n->uses != 1 || r->rooted[n->id])
        return false;
    if (reader->op->traits & OP_INDEX_MAP)
        return shape_count(&reader->shape) <= shape_count(&n->shape) && computed_once(r, reader);
    if (times_read(reader, n) > 1) {                /* (x - m) * (x - m): fine while it stays that small */
        for (int k = 0; k < n->ins; k++)
            if (n->in[k]->inlined && !(n->in[k]->op->traits & OP_INDEX_MAP))
                return false;
    }
    return reader->op->traits & (OP_POINTWISE | OP_READS_ONCE);
}

/* The pointwise nodes behind a reduction belong to its epilogue as long as each is
 * the only reader of the one before and no later reduction has claimed it. */
static void claim_epilogue(const Readers *r, Node *reduction)
{
    Node *last = reduction;
    while (last->uses == 1 && !r->rooted[last->id]) {
        Node *next = r->first[last->id];
        if (!(next->op->traits & OP_POINTWISE) || next->root || times_read(next, last) > 1)
            break;
        last->inlined = true;
        next->root = reduction;
        last = next;
    }
    last->inlined = false;
}

/* Stored inputs of a node that puts its inputs side by side are stored there at once.
 * Not along rows: what is beyond the end of a row must be zero. */
static void join_parts(const Readers *r, Node *n)
{
    for (int k = 0; k < n->ins; k++) {
        Node *in = n->in[k];
        int dim;
        n->op->part(n, k, &dim);
        bool stored = !in->inlined && !(in->op->traits & (OP_LEAF | OP_ALIAS)) && !r->rooted[in->id];
        bool outer = dim < n->shape.rank - 1 || n->shape.rank == 2;
        if (stored && !in->joined && times_read(n, in) == 1 && outer)
            in->joined = n;
    }
}

Graph *fuse(Graph *old)
{
    Graph *g = land(old);
    Readers r = count_readers(g);
    for (int i = 0; i < g->nodes; i++) {
        Node *n = g->node[i];
        if (!n->op->element || r.rooted[n->id] || r.windowed[n->id])
            continue;
        n->inlined = (n->op->traits & (OP_INDEX_MAP | OP_CHEAP)) || computed_once(&r, n);
    }
    for (int i = 0; i < g->nodes; i++)
        if (g->node[i]->op->band)
            g->node[i]->within = r.first[i];
    for (int i = g->nodes - 1; i >= 0; i--)
        if (g->node[i]->op->lower)
            claim_epilogue(&r, g->node[i]);
    for (int i = 0; i < g->nodes; i++)
        if (g->node[i]->op->part && !g->node[i]->inlined && !g->node[i]->root && !r.rooted[i])
            join_parts(&r, g->node[i]);
    return g;
}
