/* Runs a program by the reference interpreter: slow, in double precision, and
 * independent of everything between the graph and the C text.
 *
 * Parameters are the flat, state_dict-ordered floats themselves.  Every call
 * evaluates in a context of its own, so that its memory goes when it is done. */
#include "runtime.h"

#include <math.h>
#include <string.h>

typedef struct Interpreter {
    Graph *forward;            /* roots: the outputs, in the order of Program.output */
    Graph *loss;               /* root: the loss at inference */
    Graph *backward;           /* roots: the loss in training, gradients, updates */
} Interpreter;

/* ------------------------------------------------------------ one evaluation */

/* The arguments of one of Code's functions. */
typedef struct Run {
    const Graph *graph;
    const float *flat;         /* the parameters */
    void *const *in;           /* values of the inputs; those only for the loss are among them */
    bool with_loss;            /* if this is set */
    uint64_t seed;
    /* where the results go: */
    void *const *out, *const *in_grad;
    float loss, *statistics, *grad;
} Run;

static double *to_double(Context *c, const void *from, DType type, int count)
{
    double *to = NEW_ARRAY(c, double, count);
    for (int i = 0; i < count; i++)
        to[i] = type == I32 ? (double)((const int32_t *)from)[i] : (double)((const float *)from)[i];
    return to;
}

static void to_float(float *to, const Tensor *from)
{
    int count = shape_count(&from->shape);
    for (int i = 0; i < count; i++)
        to[i] = (float)from->data[i];
}

static void add_to(float *to, const Tensor *from)
{
    int count = shape_count(&from->shape);
    for (int i = 0; i < count; i++)
        to[i] += (float)from->data[i];
}

/* One result a root, in memory of `work`. */
static const Tensor *evaluate(Context *work, const Run *run)
{
    Graph g = *run->graph;
    g.c = work;
    double **param = NEW_ARRAY(work, double *, g.params), **input = NEW_ARRAY(work, double *, g.inputs);
    for (int i = 0; i < g.params; i++)
        param[i] = to_double(work, run->flat + g.param[i]->offset, F32, g.param[i]->count);
    for (int i = 0, next = 0; i < g.inputs; i++)
        if (run->with_loss || !g.input[i]->loss_only)
            input[i] = to_double(work, run->in[next++], g.input[i]->dtype, shape_count(&g.input[i]->shape));
    return eval(&g, &(Bindings){ param, input, run->seed });
}

/* The place of an input among those that are not only for the loss. */
static int forward_place(const Graph *g, int index)
{
    int place = 0;
    for (int i = 0; i < index; i++)
        place += !g->input[i]->loss_only;
    return place;
}

static void run_forward(Context *work, void *argument)
{
    Run *run = argument;
    const Tensor *result = evaluate(work, run);
    for (int r = 0; r < run->graph->roots; r++)
        to_float(run->out[r], &result[r]);
}

static void run_loss(Context *work, void *argument)
{
    Run *run = argument;
    run->loss = (float)evaluate(work, run)->data[0];
}

static void run_backward(Context *work, void *argument)
{
    Run *run = argument;
    const Graph *g = run->graph;
    const Tensor *result = evaluate(work, run);
    for (int r = 0; r < g->roots; r++) {
        const Root *root = &g->root[r];
        if (root->kind == ROOT_LOSS)
            run->loss = (float)result[r].data[0];
        else if (root->kind == ROOT_PARAM_GRAD)
            add_to(run->grad + root->param->offset, &result[r]);
        else if (root->kind == ROOT_INPUT_GRAD)
            to_float(run->in_grad[forward_place(g, root->input->index)], &result[r]);
        else if (root->kind == ROOT_UPDATE)
            to_float(run->statistics + root->param->offset, &result[r]);
    }
}

/* ------------------------------------------------------------- Code's functions */

static void eval_forward(Code *code, const void *params, void *const *io, void *workspace)
{
    (void)workspace;
    Graph *g = ((Interpreter *)code->state)->forward;
    Run run = { .graph = g, .flat = params, .in = io, .out = io + forward_place(g, g->inputs) };
    scratch(g->c, run_forward, &run);
}

static void eval_pack(Code *code, void *params, const float *flat)
{
    memcpy(params, flat, (size_t)code->params_bytes);
}

static void eval_unpack(Code *code, float *flat, const void *params)
{
    memcpy(flat, params, (size_t)code->params_bytes);
}

static void eval_init(Code *code, void *params, uint64_t seed)
{
    const Graph *g = code->program->net;
    float *flat = params;
    for (int p = 0; p < g->params; p++)
        for (int i = 0; i < g->param[p]->count; i++)
            flat[g->param[p]->offset + i] = param_initial(g->param[p], seed, i);
}

static float eval_loss(Code *code, const void *params, void *const *in, void *workspace)
{
    (void)workspace;
    Graph *g = ((Interpreter *)code->state)->loss;
    Run run = { .graph = g, .flat = params, .in = in, .with_loss = true };
    scratch(g->c, run_loss, &run);
    return run.loss;
}

static float eval_backward(Code *code, void *params, void *const *in, void *grad, void *const *in_grad,
                           void *workspace, uint64_t seed, bool accumulate)
{
    (void)workspace;
    Graph *g = ((Interpreter *)code->state)->backward;
    Run run = { .graph = g, .flat = params, .in = in, .with_loss = true, .seed = seed,
                .statistics = params, .grad = grad, .in_grad = in_grad };
    if (!accumulate)
        memset(grad, 0, (size_t)code->params_bytes);
    scratch(g->c, run_backward, &run);
    return run.loss;
}

/* torch.optim.SGD: g += weight_decay * p; v = momentum * v + g; p -= lr * v. */
static void eval_sgd(Code *code, void *params, const void *grad, void *velocity,
                     float lr, float momentum, float weight_decay)
{
    const Graph *net = code->program->net;
    for (int k = 0; k < net->params; k++) {
        const Param *param = net->param[k];
        if (!param->trainable || param->statistic)
            continue;
        float *p = (float *)params + param->offset, *v = (float *)velocity + param->offset;
        const float *g = (const float *)grad + param->offset;
        for (int i = 0; i < param->count; i++) {
            v[i] = momentum * v[i] + (g[i] + weight_decay * p[i]);
            p[i] -= lr * v[i];
        }
    }
}

/* torch.optim.Adam (Kingma and Ba, ICLR 2015, algorithm 1): g += weight_decay * p;
 * m and v are running means of g and g*g, freed from their bias towards zero;
 * p -= lr * m / (sqrt(v) + eps). */
static void eval_adam(Code *code, void *params, const void *grad, void *mean, void *square, int step,
                      float lr, float beta1, float beta2, float eps, float weight_decay)
{
    const Graph *net = code->program->net;
    float size = (float)(lr / (1 - pow(beta1, step))), root = (float)sqrt(1 - pow(beta2, step));
    for (int k = 0; k < net->params; k++) {
        const Param *param = net->param[k];
        if (!param->trainable || param->statistic)
            continue;
        float *p = (float *)params + param->offset;
        float *m = (float *)mean + param->offset, *v = (float *)square + param->offset;
        const float *gradient = (const float *)grad + param->offset;
        for (int i = 0; i < param->count; i++) {
            float g = gradient[i] + weight_decay * p[i];
            m[i] = beta1 * m[i] + (1 - beta1) * g;
            v[i] = beta2 * v[i] + (1 - beta2) * g * g;
            p[i] -= size * m[i] / (sqrtf(v[i]) / root + eps);
        }
    }
}

static void eval_close(Code *code)
{
    (void)code;
}

/* ----------------------------------------------------------------------- opening */

/* The part of g that computes its roots of one kind. */
static Graph *only(const Graph *g, RootKind kind)
{
    Graph part = *g;
    part.root = NULL;
    part.roots = 0;
    for (int r = 0; r < g->roots; r++)
        if (g->root[r].kind == kind)
            root_add(&part, g->root[r]);
    return graph_rewrite(&part, node_copy, NULL);
}

/* Puts the outputs into the order in which forward takes them. */
static void order_outputs(Graph *g, const Program *p)
{
    for (int i = 0; i < p->outputs; i++)
        for (int r = i; r < g->roots; r++)
            if (!strcmp(g->root[r].name, p->output[i].name)) {
                Root root = g->root[i];
                g->root[i] = g->root[r];
                g->root[r] = root;
                break;
            }
}

void jit_eval_open(Code *code)
{
    Program *p = code->program;
    Interpreter *s = NEW(p->c, Interpreter);
    Graph *inference = mode(p->net, false);
    s->forward = only(inference, ROOT_OUTPUT);
    order_outputs(s->forward, p);
    code->state = s;
    code->params_bytes = (int64_t)sizeof(float) * params_count(p->net);
    code->workspace_bytes = code->train_workspace_bytes = 0;
    code->forward = eval_forward;
    code->pack = eval_pack;
    code->init = eval_init;
    code->close = eval_close;
    if (p->options.train) {
        s->loss = only(inference, ROOT_LOSS);
        s->backward = autodiff(mode(p->net, true), (Wanted){ true, p->options.input_grad });
        code->unpack = eval_unpack;
        code->backward = eval_backward;
        code->loss = eval_loss;
        code->sgd = eval_sgd;
        code->adam = eval_adam;
    }
}
