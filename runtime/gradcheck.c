/* `cnnc gradcheck`: the gradients that autodiff derives against central differences
 * of the loss, both by the reference interpreter in double.
 *
 *     D(h)  =  (L(x + h) - L(x - h)) / 2h
 *     dL/dx  =  D(h)  +  O(h^2)  =  (4 D(h) - D(2h)) / 3  +  O(h^4)
 *
 * besides the rounding of L, divided by h.  Which h balances the errors depends on the
 * curvature, so a few are tried; a wrong gradient agrees at none of them.  Where a ReLU
 * or a maximum has a tie within h of x, the slopes to both sides differ and the
 * derivative is not defined: such a point is left out. */
#include "runtime.h"

#include <float.h>
#include <math.h>
#include <string.h>

static const double tolerance = 1e-5;      /* largest relative error */
static const double steps[] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2};

enum { POINTS = 32, STREAM = 0x20000 };    /* points of a tensor; stream of random inputs */

typedef struct Check {
    Context *c;
    const GradientCheck *options;
    Graph *net;
    Graph *loss;              /* only computes the loss, in training mode */
    Graph *gradients;
    double **param, **input;  /* values of the leaves, by index */
    Tensor *gradient;         /* by root of `gradients` */
    double smallest;          /* gradient that is told from the rounding of the loss */
} Check;

static double loss_at(Check *k)
{
    Bindings b = {k->param, k->input, k->options->seed};
    return eval(k->loss, &b)[0].data[0];
}

/* ---------------------------------------------------------------- the values */

static double *param_values(Check *k, const Param *p, const float *flat)
{
    double *value = NEW_ARRAY(k->c, double, p->count);
    for (int i = 0; i < p->count; i++)
        value[i] = (double)(flat ? flat[p->offset + i] : param_initial(p, k->options->seed, i));
    return value;
}

/* Labels in their range, everything else uniform in [-1, 1). */
static double *input_values(Check *k, const Input *in)
{
    int count = shape_count(&in->shape);
    double *value = NEW_ARRAY(k->c, double, count);
    for (int i = 0; i < count; i++) {
        double unit = (double)random_unit(k->options->seed, STREAM + (uint32_t)in->index, (uint32_t)i);
        value[i] = in->dtype == I32 ? floor(unit * in->classes) : 2 * unit - 1;
    }
    return value;
}

static void set_values(Check *k)
{
    const Graph *net = k->net;
    k->param = NEW_ARRAY(k->c, double *, net->params);
    for (int i = 0; i < net->params; i++)
        k->param[i] = param_values(k, net->param[i], k->options->flat);
    k->input = NEW_ARRAY(k->c, double *, net->inputs);
    for (int i = 0; i < net->inputs; i++)
        k->input[i] = input_values(k, net->input[i]);
}

/* ---------------------------------------------------------------- the graphs */

/* The training-mode graph with the loss as its only root. */
static Graph *loss_alone(Graph *trained)
{
    Graph only = *trained;
    only.root = NULL;
    only.roots = 0;
    for (int r = 0; r < trained->roots; r++)
        if (trained->root[r].kind == ROOT_LOSS)
            root_add(&only, trained->root[r]);
    return graph_rewrite(&only, node_copy, NULL);
}

static void derive(Check *k)
{
    Graph *trained = mode(k->net, true);
    k->gradients = autodiff(trained, (Wanted){.params = true, .inputs = true});
    k->loss = loss_alone(trained);
    Bindings b = {k->param, k->input, k->options->seed};
    k->gradient = eval(k->gradients, &b);
    double largest = 0;
    for (int r = 0; r < k->gradients->roots; r++) {
        RootKind kind = k->gradients->root[r].kind;
        int count = shape_count(&k->gradient[r].shape);
        for (int i = 0; (kind == ROOT_PARAM_GRAD || kind == ROOT_INPUT_GRAD) && i < count; i++)
            largest = fmax(largest, fabs(k->gradient[r].data[i]));
    }
    k->smallest = fmax(fmax(1e-5 * largest, 1e-7 * fabs(loss_at(k))), 1e-12);
}

/* ------------------------------------------------------------------ checking */

/* Relative to the larger of both, but not to less than finite differences can tell. */
static double relative_error(const Check *k, double found, double expected)
{
    return fabs(found - expected) / fmax(fmax(fabs(found), fabs(expected)), k->smallest);
}

/* The loss with *x moved by `by`. */
static double moved_loss(Check *k, double *x, double by)
{
    double before = *x;
    *x = before + by;
    double loss = loss_at(k);
    *x = before;
    return loss;
}

/* How far the slopes to the left and right of *x, over h, are apart. */
static double slope_jump(Check *k, double *x, double h, double here)
{
    double left = (here - moved_loss(k, x, -h)) / h, right = (moved_loss(k, x, h) - here) / h;
    return fabs(right - left);
}

/* At a smooth point the jump shrinks with h; at a kink it stays, once h reaches it:
 * beside one it is missed by the smallest h.  What rounding of the loss can make is no
 * jump. */
static bool is_tie(Check *k, double *x, double size, double gradient)
{
    double here = loss_at(k), h = size * steps[0], jump = slope_jump(k, x, h, here);
    for (int tries = 0; tries < 2; tries++, h *= 10) {
        double rounding = 64 * DBL_EPSILON * fabs(here) / h, wider = slope_jump(k, x, 10 * h, here);
        if (jump > rounding && jump > 1e-5 * fabs(gradient) && jump > 0.3 * wider)
            return true;
        jump = wider;
    }
    return false;
}

static void check_point(Check *k, double *x, double gradient, Verdict *v)
{
    double size = fmax(1, fabs(*x)), error = INFINITY;
    for (size_t s = 0; s < sizeof steps / sizeof *steps && error > tolerance; s++) {
        double h = size * steps[s];
        double near = moved_loss(k, x, h) - moved_loss(k, x, -h);
        error = fmin(error, relative_error(k, gradient, near / (2 * h)));
        if (error > tolerance) {
            double far = moved_loss(k, x, 2 * h) - moved_loss(k, x, -2 * h);
            error = fmin(error, relative_error(k, gradient, (8 * near - far) / (12 * h)));
        }
    }
    if (!(error <= tolerance) && isfinite(gradient) && is_tie(k, x, size, gradient)) {
        v->ties++;
        return;
    }
    v->points++;
    v->error = fmax(v->error, error);
}

/* All elements of small tensors, of large ones a spread of random ones. */
static void check_tensor(Check *k, double *value, const Tensor *gradient, int number, Verdict *v)
{
    int count = v->elements = shape_count(&gradient->shape);
    int points = k->options->points ? k->options->points : POINTS;
    for (int i = 0; i < points && i < count; i++) {
        int at = i;
        if (count > points) {                    /* one of each of `points` equal stretches */
            int from = (int)((int64_t)count * i / points), to = (int)((int64_t)count * (i + 1) / points);
            at = from + (int)(random_bits(k->options->seed, STREAM - 1u - (uint32_t)number, (uint32_t)i)
                              % (uint32_t)(to - from));
        }
        check_point(k, &value[at], gradient->data[at], v);
    }
    v->right = v->points > 0 && v->error <= tolerance;
}

int gradients_check(Context *c, Graph *net, const GradientCheck *options, Verdict **verdict)
{
    Check k = {.c = c, .options = options, .net = net};
    int verdicts = 0;
    set_values(&k);
    derive(&k);
    *verdict = NULL;
    Progress progress = progress_start(k.gradients->roots);
    for (int r = 0; r < k.gradients->roots; r++) {
        const Root *root = &k.gradients->root[r];
        if (root->kind != ROOT_PARAM_GRAD && root->kind != ROOT_INPUT_GRAD)
            continue;
        Verdict *v = &PUSH(c, *verdict, verdicts);
        *v = (Verdict){.name = root->param ? root->param->name : root->input->name};
        check_tensor(&k, root->param ? k.param[root->param->index] : k.input[root->input->index],
                     &k.gradient[r], r, v);
        progress_show(&progress, r + 1, NAN);
    }
    progress_clear(&progress);
    return verdicts;
}

/* ------------------------------------------------------------------- the command */

/* True when all gradients are right. */
static bool print_verdicts(const Verdict *verdict, int count)
{
    bool good = true;
    int width = 10;
    for (int i = 0; i < count; i++)
        width = (int)strlen(verdict[i].name) > width ? (int)strlen(verdict[i].name) : width;
    printf("%-*s  %9s  %7s  %5s  %s\n", width, "gradient", "elements", "checked", "ties", "relative error");
    for (int i = 0; i < count; i++) {
        const Verdict *v = &verdict[i];
        printf("%-*s  %9d  %7d  %5d  %.1e%s\n", width, v->name, v->elements, v->points, v->ties, v->error,
               v->right ? "" : v->points ? "  WRONG" : "  every point lies at a tie");
        good = good && v->right;
    }
    return good;
}

int command_gradcheck(Context *c, const CommandOptions *o)
{
    Graph *net = network_load(c, o->network, o->compile.batch);
    float *flat = NULL;
    if (o->weights) {
        flat = NEW_ARRAY(c, float, params_count(net));
        safetensors_load(net, o->weights, flat);
    }
    Verdict *verdict;
    int count = gradients_check(c, net, &(GradientCheck){flat, o->seed, o->runs}, &verdict);
    if (!print_verdicts(verdict, count))
        fail(c, STATUS_INPUT, "%s: gradients differ from finite differences by more than %g", o->network,
             tolerance);
    return STATUS_OK;
}
