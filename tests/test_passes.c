/* Graph passes keep the values of all roots: the reference interpreter before and after. */
#include "tests.h"
#include "trial.h"

#include <math.h>
#include <string.h>

enum { RANDOM = 150 };

static const double tolerance = 1e-9;

typedef struct Passing {
    Context *c;
    const Trial *trial;
    Bindings bindings;
    Graph *g;                  /* before the pass */
    const Tensor *value;       /* of its roots */
    int tiles;                 /* nodes that Winograd's algorithm has made */
} Passing;

static const Tensor *evaluate(const Passing *p, Graph *g)
{
    return eval(g, &p->bindings);
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
        ck_assert_msg(difference <= tolerance * largest, "%s: root %d differs by %g\n%s", pass, r,
                      difference, text);
    }
    p->g = after;
    p->value = value;
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
    Graph *net = trial_compile(p->c, &p->trial->network, true, target_find("generic"), NULL, 1)->net;
    p->bindings = trial_bindings(p->trial, p->c);
    p->g = net;
    p->value = depends_on_mode(net) ? NULL : evaluate(p, net);
    Graph *specialised = mode(net, training);
    if (p->value)
        assert_same_values(p, "mode", specialised);
    p->g = training ? autodiff(specialised, (Wanted){true, true}) : specialised;
    p->value = evaluate(p, p->g);
    return net;
}

/* By every tile: convolutions and both of their gradients. */
static void winograd_passes(Passing *p)
{
    Graph *direct = p->g;
    for (int tile = 2; tile <= 6; tile += 2) {
        Graph *tiled = winograd(direct, target_find("generic"), tile, false);
        for (int i = 0; i < tiled->nodes; i++)
            p->tiles += tiled->node[i]->op->band != NULL;
        assert_same_values(p, "winograd", tiled);
    }
}

static void training_passes(Passing *p)
{
    start(p, true);
    assert_same_values(p, "expand", expand(p->g));
    assert_same_values(p, "fold", fold(p->g, false));
    winograd_passes(p);
    assert_same_values(p, "fuse", fuse(p->g));
}

/* Derived parameters get the values that their graph computes. */
static void derive(Passing *p, const Graph *net, Graph *pack)
{
    const Tensor *derived = evaluate(p, pack);
    double **param = NEW_ARRAY(p->c, double *, net->params + pack->roots);
    memcpy(param, p->bindings.param, (size_t)net->params * sizeof *param);
    for (int r = 0; r < pack->roots; r++) {
        pack->root[r].param->index = net->params + r;
        param[net->params + r] = derived[r].data;
    }
    p->bindings.param = param;
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
    int count = all_networks(&c, RANDOM, &network), tried = 0, tiled = 0;
    for (int i = 0; i < count; i++) {
        Trial t;
        Passing p = {.c = &t.c, .trial = &t};
        if (!trial_open(&t, &network[i])) {
            ck_assert_msg(attempt(&t.c, all_passes, &p), "%s\n%s", t.c.message, network[i].text);
            tried++;
            tiled += p.tiles > 0;
        }
        trial_close(&t);
    }
    ck_assert_int_ge(tried, count - count / 50);
    ck_assert_int_gt(tiled, 0);
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
