/* Constants, common subexpressions and, for inference, per-channel factors and
 * terms that a convolution can take into its weights and bias. */
#include "../cnnc.h"

#include <string.h>

/* Whether every element of n has the same known value. */
static bool uniform(const Node *n, double *value)
{
    while (n->op->traits & (OP_INDEX_MAP | OP_ALIAS))
        n = n->in[0];
    *value = n->value;
    return (n->op->traits & OP_LEAF) && !n->param && !n->input;
}

/* A pointwise node over uniform operands is a constant: evaluate one element. */
static Node *fold_constant(Graph *g, Node *n, Node **in)
{
    if (!(n->op->traits & OP_POINTWISE) || (n->op->traits & OP_PLACED))
        return NULL;
    double value[8], result = 0;
    Tensor operand[8], *pointer[8], out = {.data = &result};
    if (n->ins < 1 || n->ins > 8)
        return NULL;
    for (int i = 0; i < n->ins; i++) {
        if (!uniform(in[i], &value[i]))
            return NULL;
        operand[i] = (Tensor){.data = &value[i]};
        pointer[i] = &operand[i];
    }
    Node one = *n;
    one.shape = (Shape){0};
    n->op->eval(g->c, &one, &(Bindings){0}, (const Tensor *const *)pointer, &out);
    return build_broadcast(g, scalar_new(g, result), &n->shape, n->batched);
}

static bool same(const Node *a, const Node *b)
{
    return a->op == b->op && a->ins == b->ins && shape_equal(&a->shape, &b->shape) &&
           (a->ins == 0 || memcmp(a->in, b->in, (size_t)a->ins * sizeof *a->in) == 0) &&
           (a->op->attrs_size == 0 || memcmp(a->attrs, b->attrs, a->op->attrs_size) == 0) &&
           a->value == b->value && a->param == b->param && a->input == b->input;
}

/* The first node that computes what n, the newest node, computes. */
static Node *common(Graph *g, Node *n)
{
    for (int i = 0; i < n->id; i++)
        if (same(g->node[i], n)) {
            if (n->id == g->nodes - 1)
                g->nodes--;
            return g->node[i];
        }
    return n;
}

/* mul(x, factor) or add(x, term) with a channel vector of parameters, x read here
 * alone: let x's own parameters take it in. */
static Node *absorb_channels(Rewrite *r, Node *old)
{
    const int *uses = r->user;
    Node *rest, *factor = channel_factor(old, &rest), *term = factor ? NULL : channel_term(old, &rest);
    if ((!factor && !term) || uses[rest->id] != 1)
        return NULL;
    Node *x = r->image[rest->id];                /* may be another op by now */
    if (factor)
        return x->op->absorb_scale ? x->op->absorb_scale(r->to, x, r->image[factor->id]) : NULL;
    return x->op->absorb_shift ? x->op->absorb_shift(r->to, x, r->image[term->id]) : NULL;
}

static Node *visit(Rewrite *r, Node *old, Node **in)
{
    Node *n = r->user ? absorb_channels(r, old) : NULL;
    if (!n)
        n = fold_constant(r->to, old, in);
    return common(r->to, n ? n : node_copy(r, old, in));
}

Graph *fold(Graph *g, bool absorb)
{
    int *uses = NULL;
    if (absorb) {
        bool *live = graph_live(g);
        uses = NEW_ARRAY(g->c, int, g->nodes + 1);
        for (int i = 0; i < g->nodes; i++)
            for (int k = 0; live[i] && k < g->node[i]->ins; k++)
                uses[g->node[i]->in[k]->id]++;
        for (int r = 0; r < g->roots; r++)
            uses[g->root[r].node->id]++;
    }
    return graph_rewrite(g, visit, uses);
}
