/* What a generated file can test itself by: inputs drawn from a seed, and what the reference
 * interpreter makes of them. */
#include "cnnc.h"

#include <string.h>

typedef struct Vector { Program *p; Graph *g; int number; } Vector;

static Graph *outputs_only(const Program *p)
{
    const Graph *inference = mode(p->net, false);
    Graph part = *inference;
    part.root = NULL;
    part.roots = 0;
    for (int o = 0; o < p->outputs; o++)         /* in the order of forward */
        for (int r = 0; r < inference->roots; r++)
            if (inference->root[r].kind == ROOT_OUTPUT && !strcmp(inference->root[r].name, p->output[o].name))
                root_add(&part, inference->root[r]);
    return graph_rewrite(&part, node_copy, NULL);
}

static double **params(Context *work, const Program *p)
{
    double **value = NEW_ARRAY(work, double *, p->net->params + 1);
    for (int k = 0; k < p->net->params; k++) {
        const Param *param = p->net->param[k];
        value[k] = NEW_ARRAY(work, double, param->count);
        for (int i = 0; i < param->count; i++)
            value[k][i] = (double)param_initial(param, p->options.seed, i);
    }
    return value;
}

/* As the generated function draws them: print_self_test.c. */
static double **inputs(Context *work, const Program *p, int number)
{
    double **value = NEW_ARRAY(work, double *, p->net->inputs + 1);
    for (int k = 0; k < p->net->inputs; k++) {
        const Input *in = p->net->input[k];
        int count = shape_count(&in->shape);
        uint32_t stream = self_test_stream(p, number, k);
        if (in->loss_only)
            continue;
        value[k] = NEW_ARRAY(work, double, count);
        for (int i = 0; i < count; i++)
            value[k][i] = (double)(2 * random_unit(p->options.seed, stream, (uint32_t)i) - 1);
    }
    return value;
}

static void compute(Context *work, void *argument)
{
    Vector *v = argument;
    Program *p = v->p;
    Graph g = *v->g;
    g.c = work;
    const Tensor *result = eval(&g, &(Bindings){params(work, p), inputs(work, p, v->number), 0});
    for (int o = 0; o < p->outputs; o++) {
        SelfTest *t = &p->self_test[v->number * p->outputs + o];
        int count = shape_count(&result[o].shape);
        t->step = (count + SELF_TEST_MOST - 1) / SELF_TEST_MOST;
        t->count = (count + t->step - 1) / t->step;
        t->expected = NEW_ARRAY(p->c, float, t->count);
        for (int i = 0; i < t->count; i++)
            t->expected[i] = (float)result[o].data[i * t->step];
    }
}

uint32_t self_test_stream(const Program *p, int number, int input)
{
    return SELF_TEST_STREAM + (uint32_t)(number * p->net->inputs + input);
}

void self_test(Program *p)
{
    int vectors = p->options.self_test;
    p->self_test = NEW_ARRAY(p->c, SelfTest, vectors * p->outputs);
    Graph *g = outputs_only(p);
    for (int k = 0; k < vectors; k++)
        scratch(p->c, compute, &(Vector){p, g, k});
}
