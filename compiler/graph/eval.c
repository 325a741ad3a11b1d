/* The reference interpreter: every node that a root needs, in order, in double,
 * each by its op's own definition.  Nothing here knows of nests or schedules, which
 * is what makes it the oracle for them. */
#include "../cnnc.h"

#include <string.h>

typedef struct Evaluation {
    Graph *g;
    const Bindings *bindings;
    const bool *live;         /* what the roots need */
    Context scratch;          /* all that they are computed from */
    Tensor *result;
} Evaluation;

static Tensor evaluate(Evaluation *e, const Node *n, const Tensor *value)
{
    Tensor out = {n->shape, NULL};
    if (!n->op->eval)
        fail(&e->scratch, STATUS_FAULT, "eval: %s has no evaluation", n->op->name);
    const Tensor **in = NEW_ARRAY(&e->scratch, const Tensor *, n->ins);
    for (int i = 0; i < n->ins; i++)
        in[i] = &value[n->in[i]->id];
    out.data = NEW_ARRAY(&e->scratch, double, shape_count(&n->shape));
    n->op->eval(&e->scratch, n, e->bindings, in, &out);
    return out;
}

static void evaluate_all(void *argument)
{
    Evaluation *e = argument;
    Graph *g = e->g;
    Tensor *value = NEW_ARRAY(&e->scratch, Tensor, g->nodes);
    for (int id = 0; id < g->nodes; id++)
        if (e->live[id])
            value[id] = evaluate(e, g->node[id], value);
    for (int r = 0; r < g->roots; r++) {
        const Tensor *from = &value[g->root[r].node->id];
        memcpy(e->result[r].data, from->data, (size_t)shape_count(&from->shape) * sizeof(double));
    }
}

/* Intermediate values have an arena of their own, freed on return: gradient checks
 * evaluate the same graph thousands of times. */
Tensor *eval(Graph *g, const Bindings *b)
{
    Evaluation e = {.g = g, .bindings = b, .live = graph_live(g)};
    e.result = NEW_ARRAY(g->c, Tensor, g->roots);
    for (int r = 0; r < g->roots; r++) {
        Shape shape = g->root[r].node->shape;
        e.result[r] = (Tensor){shape, NEW_ARRAY(g->c, double, shape_count(&shape))};
    }
    context_init(&e.scratch);
    bool done = attempt(&e.scratch, evaluate_all, &e);
    context_free(&e.scratch);
    if (!done)
        fail(g->c, e.scratch.status, "%s", e.scratch.message);
    return e.result;
}
