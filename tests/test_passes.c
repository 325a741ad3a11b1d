/* Graph passes keep the values of all roots: the reference interpreter before and after. */
#include "tests.h"
#include "trial.h"

#include <math.h>

enum { RANDOM = 150 };

static const double tolerance = 1e-9;

typedef struct Passing {
    Context *c;
    const Trial *trial;
    double **param, **input;
    Graph *g;                  /* before the pass */
    const Tensor *value;       /* of its roots */
} Passing;

static const Tensor *evaluate(const Passing *p, Graph *g)
{
    return eval(g, &(Bindings){p->param, p->input, p->trial->network.seed});
}

/* A pass keeps the roots and their order. */
static void assert_same_values(Passing *p, const char *pass, Graph *after)
{
    const Tensor *value = evaluate(p, after);
    const char *text = p->trial->network.text;
    ck_assert_msg(after->roots == p->g->roots, "%s: other roots\n%s", pass, text);
    for (int r = 0; r < after->roots; r++) {
        double largest = 1e-3, difference = 0;
        ck_assert(after->root[r].kind == p->g->root[r].kind && after->root[r].param == p->g->root[r].param);
        ck_assert(shape_equal(&value[r].shape, &p->value[r].shape));
        for (int i = 0, count = shape_count(&value[r].shape); i < count; i++) {
            largest = fmax(largest, fabs(p->value[r].data[i]));
            difference = fmax(difference, fabs(value[r].data[i] - p->value[r].data[i]));
        }
        ck_assert_msg(difference <= tolerance * largest, "%s: root %d differs by %g\n%s", pass, r, difference, text);
    }
    p->g = after;
    p->value = value;
}

static double *doubled(Context *c, const void *from, DType type, int count)
{
    double *to = NEW_ARRAY(c, double, count);
    for (int i = 0; i < count; i++)
        to[i] = type == I32 ? (double)((const int32_t *)from)[i] : (double)((const float *)from)[i];
    return to;
}

/* What does has no value of its own. */
static bool depends_on_mode(const Graph *g)
{
    for (int i = 0; i < g->nodes; i++)
        if (g->node[i]->op->specialise)
            return true;
    return false;
}

static Graph *start(Passing *p, bool training)
{
    p->value = NULL;
    Graph *net = trial_compile(p->c, &p->trial->network, true, target_find("generic"), NULL)->net;
    p->param = NEW_ARRAY(p->c, double *, net->params + net->nodes + 1);      /* room for derived ones */
    p->input = NEW_ARRAY(p->c, double *, net->inputs);
    for (int k = 0; k < net->params; k++)
        p->param[k] = doubled(p->c, p->trial->flat + net->param[k]->offset, F32, net->param[k]->count);
    for (int k = 0; k < net->inputs; k++)
        p->input[k] = doubled(p->c, p->trial->in[k], net->input[k]->dtype, shape_count(&net->input[k]->shape));
    p->g = net;
    if (!depends_on_mode(net))
        p->value = evaluate(p, net);
    Graph *specialised = mode(net, training);
    if (p->value)
        assert_same_values(p, "mode", specialised);
    p->g = specialised;
    if (training)
        p->g = autodiff(p->g, (Wanted){true, true});
    p->value = evaluate(p, p->g);
    return net;
}

static void training_passes(Passing *p)
{
    start(p, true);
    assert_same_values(p, "expand", expand(p->g));
    assert_same_values(p, "fold", fold(p->g, false));
    assert_same_values(p, "fuse", fuse(p->g));
}

/* Derived parameters get the values that their graph computes. */
static void derive(Passing *p, const Graph *net, Graph *pack)
{
    const Tensor *derived = evaluate(p, pack);
    for (int r = 0; r < pack->roots; r++) {
        pack->root[r].param->index = net->params + r;
        p->param[net->params + r] = derived[r].data;
    }
}

static void inference_passes(Passing *p)
{
    Graph *net = start(p, false), *pack;
    assert_same_values(p, "expand", expand(p->g));
    assert_same_values(p, "fold", fold(p->g, true));
    Graph *hoisted = hoist(p->g, &pack);
    if (pack)
        derive(p, net, pack);
    assert_same_values(p, "hoist", hoisted);
    assert_same_values(p, "fuse", fuse(hoisted));
}

static void all_passes(void *argument)
{
    training_passes(argument);
    inference_passes(argument);
}

START_TEST(passes_keep_values)
{
    Context c;
    Network *network;
    context_init(&c);
    int count = all_networks(&c, RANDOM, &network), tried = 0;
    for (int i = 0; i < count; i++) {
        Trial t;
        Passing p = {.c = &t.c, .trial = &t};
        if (!trial_open(&t, &network[i])) {
            ck_assert_msg(attempt(&t.c, all_passes, &p), "%s\n%s", t.c.message, network[i].text);
            tried++;
        }
        trial_close(&t);
    }
    ck_assert_int_ge(tried, count - count / 50);
    context_free(&c);
}
END_TEST

Suite *passes_suite(void)
{
    Suite *s = suite_create("passes");
    TCase *t = tcase_create("passes");
    tcase_add_test(t, passes_keep_values);
    suite_add_tcase(s, t);
    return s;
}
