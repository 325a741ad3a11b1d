#include "trial.h"

#include <math.h>
#include <string.h>

static const double tolerance = 1e-4;      /* of the largest output, or the largest gradient */

enum { STREAM = 0x30000, DRAWS = 20 };

/* -- distance -- */

void distance_add(Distance *d, const float *found, const float *expected, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        double difference = fabs((double)found[i] - (double)expected[i]);
        if (!(difference <= d->difference))
            d->difference = isnan(difference) ? INFINITY : difference;
        d->largest = fmax(d->largest, fabs((double)expected[i]));
    }
}

double distance(const Distance *d)
{
    return d->difference / fmax(d->largest, 1e-12);
}

/* -- values -- */

/* In [-1, 1). */
static float symmetric(const Trial *t, int draw, int stream, int i)
{
    uint64_t seed = t->network.seed + ((uint64_t)draw << 40);
    return 2 * random_unit(seed, STREAM + (uint32_t)stream, (uint32_t)i) - 1;
}

/* Weights as PyTorch draws them; around their initial value those that start as
 * constants, so that no bias is zero and no variance one. */
static void draw_params(Trial *t, const Graph *net, int draw)
{
    for (int p = 0; p < net->params; p++) {
        const Param *param = net->param[p];
        for (int i = 0; i < param->count; i++) {
            float unit = symmetric(t, draw, p, i), *to = &t->flat[param->offset + i];
            *to = param->init == INIT_UNIFORM ? unit * param->value
                                              : param_initial(param, 0, i) + 0.5f * unit;
        }
    }
}

static void draw_inputs(Trial *t, const Graph *net, int draw)
{
    for (int k = 0; k < net->inputs; k++) {
        const Input *in = net->input[k];
        for (int i = 0, count = shape_count(&in->shape); i < count; i++) {
            float value = symmetric(t, draw, net->params + k, i);
            if (in->dtype == I32)
                ((int32_t *)t->in[k])[i] = (int32_t)((value + 1) / 2 * (float)in->classes);
            else
                ((float *)t->in[k])[i] = value;
        }
    }
}

/* -- a point that rounding does not move across a tie -- */

static double *doubled(Context *c, const void *from, DType type, int count)
{
    double *to = NEW_ARRAY(c, double, count);
    for (int i = 0; i < count; i++)
        to[i] = type == I32 ? (double)((const int32_t *)from)[i] : (double)((const float *)from)[i];
    return to;
}

Bindings trial_bindings(const Trial *t, Context *c)
{
    const Graph *net = t->oracle->program->net;
    double **param = NEW_ARRAY(c, double *, net->params + 1);
    double **input = NEW_ARRAY(c, double *, net->inputs + 1);
    for (int p = 0; p < net->params; p++)
        param[p] = doubled(c, t->flat + net->param[p]->offset, F32, net->param[p]->count);
    for (int k = 0; k < net->inputs; k++)
        input[k] = doubled(c, t->in[k], net->input[k]->dtype, shape_count(&net->input[k]->shape));
    return (Bindings){param, input, t->network.seed};
}

/* Off by some rounding errors, unless it is a float as it is: an input, a parameter, a
 * bound that an activation clips to. */
static double rounded(double x, uint32_t node, uint32_t i)
{
    return (double)(float)x == x ? x : x * (1 + 0x1p-22 * (2 * (double)random_unit(1, node, i) - 1));
}

/* eval() as arithmetic with rounding would do it. */
static const Tensor *shaken(Context *c, Graph *g, const Bindings *b)
{
    const bool *live = graph_live(g);
    Tensor *value = NEW_ARRAY(c, Tensor, g->nodes);
    for (int id = 0; id < g->nodes; id++) {
        const Node *n = g->node[id];
        const Tensor *in[8];
        value[id] = (Tensor){n->shape, NEW_ARRAY(c, double, shape_count(&n->shape))};
        for (int i = 0; i < n->ins; i++)
            in[i] = &value[n->in[i]->id];
        if (!live[id])
            continue;
        n->op->eval(c, n, b, in, &value[id]);
        for (int i = 0, count = shape_count(&n->shape); i < count && n->dtype == F32; i++)
            value[id].data[i] = rounded(value[id].data[i], (uint32_t)id, (uint32_t)i);
    }
    Tensor *result = NEW_ARRAY(c, Tensor, g->roots);
    for (int r = 0; r < g->roots; r++)
        result[r] = value[g->root[r].node->id];
    return result;
}

typedef struct Stability { const Trial *trial; bool stable; } Stability;

static void judge(Context *work, void *argument)
{
    Stability *s = argument;
    Graph g = *autodiff(mode(s->trial->oracle->program->net, true), (Wanted){true, true});
    g.c = work;
    Bindings b = trial_bindings(s->trial, work);
    const Tensor *still = eval(&g, &b), *moved = shaken(work, &g, &b);
    double largest = 0, difference = 0;
    for (int r = 0; r < g.roots; r++) {
        bool gradient = g.root[r].kind == ROOT_PARAM_GRAD || g.root[r].kind == ROOT_INPUT_GRAD;
        for (int i = 0, count = shape_count(&still[r].shape); gradient && i < count; i++) {
            largest = fmax(largest, fabs(still[r].data[i]));
            difference = fmax(difference, fabs(still[r].data[i] - moved[r].data[i]));
        }
    }
    s->stable = difference <= 0.2 * tolerance * largest;
}

static const char *draw_values(Trial *t, const Graph *net)
{
    Stability s = {.trial = t};
    for (int draw = 0; draw < DRAWS && !s.stable; draw++) {
        draw_params(t, net, draw);
        draw_inputs(t, net, draw);
        scratch(&t->c, judge, &s);
    }
    return s.stable ? NULL : "no values found that are away from ties";
}

/* -- results -- */

static int64_t floats(const Node *n)
{
    return shape_count(&n->shape);
}

/* Memory that shows when it is read before it is written: all NaN. */
static void *poisoned(Context *c, int64_t bytes)
{
    void *memory = aligned_memory(c, bytes);
    memset(memory, 0xff, (size_t)bytes);
    return memory;
}

static void run_forward(const Trial *t, Context *c, Code *code, const void *params, Results *r)
{
    const Program *p = code->program;
    void **io = NEW_ARRAY(c, void *, p->net->inputs + p->outputs);
    int next = 0;
    for (int k = 0; k < p->net->inputs; k++)
        if (!p->net->input[k]->loss_only)
            io[next++] = t->in[k];
    r->output = NEW_ARRAY(c, float *, p->outputs);
    for (int o = 0; o < p->outputs; o++)
        io[next++] = r->output[o] = poisoned(c, 4 * floats(p->output[o].node));
    code->forward(code, params, io, poisoned(c, code->workspace_bytes));
}

static void make_in_grad(const Program *p, Context *c, Results *r)
{
    int next = 0;
    r->in_grad = NEW_ARRAY(c, float *, p->net->inputs + 1);
    for (int k = 0; k < p->net->inputs; k++)
        if (!p->net->input[k]->loss_only)
            r->in_grad[next++] = poisoned(c, 4 * (int64_t)shape_count(&p->net->input[k]->shape));
}

/* The state of a Code in training. */
typedef struct Training { Code *code; void *params, *grad, *moment[2]; int64_t count; } Training;

static float *unpacked(const Training *s, Context *c, const void *params)
{
    float *flat = NEW_ARRAY(c, float, s->count);
    s->code->unpack(s->code, flat, params);
    return flat;
}

static Training training(const Trial *t, Context *c, Code *code)
{
    int64_t bytes = code->params_bytes;
    Training s = {code, poisoned(c, bytes), poisoned(c, bytes),
                  {aligned_memory(c, bytes), aligned_memory(c, bytes)}, params_count(code->program->net)};
    code->pack(code, s.params, t->flat);
    return s;
}

static float run_backward(const Trial *t, Context *c, Training *s, const Results *r, bool accumulate)
{
    return s->code->backward(s->code, s->params, t->in, s->grad, (void *const *)r->in_grad,
                             poisoned(c, s->code->train_workspace_bytes), t->network.seed, accumulate);
}

static void run_all(const Trial *t, Context *c, Training *s, Results *r)
{
    Code *code = s->code;
    run_forward(t, c, code, s->params, r);
    r->loss = code->loss(code, s->params, t->in, poisoned(c, code->workspace_bytes));
    make_in_grad(code->program, c, r);
    r->trained_loss = run_backward(t, c, s, r, false);
    r->grad = unpacked(s, c, s->grad);
    r->after = unpacked(s, c, s->params);
}

/* -- opening -- */

Program *trial_compile(Context *c, const Network *network, bool train, const Target *target,
                       const char *prefix, int threads)
{
    Graph *net = frontend_load_text(c, network->text, strlen(network->text), "random.lua", network->batch);
    Options options = {.batch = network->batch, .train = train, .input_grad = train, .target = target,
                       .prefix = prefix, .threads = threads, .share_least = 1};
    return compile(net, &options, NULL);
}

typedef struct Opening { Trial *trial; const char *message; } Opening;

static void open_oracle(void *argument)
{
    Opening *o = argument;
    Trial *t = o->trial;
    Context *c = &t->c;
    t->oracle = code_open(trial_compile(c, &t->network, true, target_find("generic"), NULL, 1), JIT_EVAL);
    const Graph *net = t->oracle->program->net;
    t->flat = NEW_ARRAY(c, float, params_count(net));
    t->in = NEW_ARRAY(c, void *, net->inputs);
    for (int k = 0; k < net->inputs; k++)
        t->in[k] = NEW_ARRAY(c, float, shape_count(&net->input[k]->shape));
    o->message = draw_values(t, net);
    Training s = training(t, c, t->oracle);
    run_all(t, c, &s, &t->expected);
}

/* The message together with what reproduces it. */
static const char *report(Context *c, const Network *n, const char *message)
{
    return format(c, "%s\n-- seed %llu, batch %d\n%s", message, (unsigned long long)n->seed, n->batch,
                  n->text);
}

const char *trial_open(Trial *t, const Network *network)
{
    *t = (Trial){.network = *network};
    context_init(&t->c);
    Opening o = {.trial = t};
    if (!attempt(&t->c, open_oracle, &o))
        o.message = t->c.message;
    return o.message ? report(&t->c, network, o.message) : NULL;
}

void trial_close(Trial *t)
{
    context_free(&t->c);
}

/* -- comparing -- */

/* What a check found first. */
typedef struct Finding { Context *c; const char *message; } Finding;

static void require(Finding *f, const char *what, Distance d, double allowed)
{
    if (!f->message && !(distance(&d) <= allowed))
        f->message = format(f->c, "%s: differs by %g of the largest, %g", what, distance(&d), d.largest);
}

static void require_equal(Finding *f, const char *what, const float *found, const float *expected,
                          int64_t count)
{
    for (int64_t i = 0; i < count && !f->message; i++)
        if (memcmp(&found[i], &expected[i], sizeof *found))
            f->message = format(f->c, "%s: entry %lld is %.9g, expected the bits of %.9g", what, (long long)i,
                                (double)found[i], (double)expected[i]);
}

/* The same parameters and shapes: otherwise there is nothing to compare. */
static bool comparable(const Trial *t, const Program *p, Finding *f)
{
    const Program *q = t->oracle->program;
    bool alike = params_count(p->net) == params_count(q->net) && p->outputs == q->outputs;
    for (int o = 0; alike && o < p->outputs; o++)
        alike = shape_equal(&p->output[o].node->shape, &q->output[o].node->shape);
    for (int k = 0; alike && k < p->net->inputs; k++)
        alike = shape_equal(&p->net->input[k]->shape, &q->net->input[k]->shape);
    if (!alike)
        f->message = "other shapes than the reference has";
    return alike;
}

static void compare_outputs(const Trial *t, const Program *p, const Results *r, Finding *f)
{
    Distance d = {0};
    for (int o = 0; o < p->outputs; o++)
        distance_add(&d, r->output[o], t->expected.output[o], floats(p->output[o].node));
    require(f, "forward", d, tolerance);
}

static void compare_training(const Trial *t, const Program *p, const Results *r, Finding *f)
{
    Distance d = {0}, loss = {0}, trained = {0}, after = {0};
    int64_t count = params_count(p->net);
    distance_add(&loss, &r->loss, &t->expected.loss, 1);
    require(f, "loss", loss, tolerance);
    distance_add(&trained, &r->trained_loss, &t->expected.trained_loss, 1);
    require(f, "loss of backward", trained, tolerance);
    distance_add(&d, r->grad, t->expected.grad, count);
    for (int k = 0, next = 0; k < p->net->inputs; k++)
        if (!p->net->input[k]->loss_only) {
            int size = shape_count(&p->net->input[k]->shape);
            distance_add(&d, r->in_grad[next], t->expected.in_grad[next], size);
            next++;
        }
    require(f, "gradients", d, tolerance);
    distance_add(&after, r->after, t->expected.after, count);
    require(f, "running statistics", after, tolerance);
}

/* -- parameters and optimisers -- */

static float *initial(Context *c, const Graph *net, uint64_t seed)
{
    float *flat = NEW_ARRAY(c, float, params_count(net));
    for (int p = 0; p < net->params; p++)
        for (int i = 0; i < net->param[p]->count; i++)
            flat[net->param[p]->offset + i] = param_initial(net->param[p], seed, i);
    return flat;
}

static void check_parameters(const Trial *t, Training *s, Finding *f)
{
    s->code->init(s->code, s->params, t->network.seed);
    const float *expected = initial(f->c, s->code->program->net, t->network.seed);
    require_equal(f, "init", unpacked(s, f->c, s->params), expected, s->count);
    s->code->pack(s->code, s->params, t->flat);
    require_equal(f, "unpack", unpacked(s, f->c, s->params), t->flat, s->count);
}

static void check_accumulate(const Trial *t, Training *s, Results *r, Finding *f)
{
    run_backward(t, f->c, s, r, true);
    Distance d = {0};
    float *twice = NEW_ARRAY(f->c, float, s->count);
    for (int64_t i = 0; i < s->count; i++)
        twice[i] = 2 * r->grad[i];
    distance_add(&d, unpacked(s, f->c, s->grad), twice, s->count);
    require(f, "accumulate behind backward", d, 1e-6);
}

enum { STEPS = 2 };
static const double rate = 0.1, decay = 0.01, momentum = 0.9, beta1 = 0.9, beta2 = 0.99, eps = 1e-3;

/* torch.optim.SGD. */
static double sgd(double p, double g)
{
    double velocity = 0;
    for (int step = 1; step <= STEPS; step++) {
        velocity = momentum * velocity + g + decay * p;
        p -= rate * velocity;
    }
    return p;
}

/* torch.optim.Adam. */
static double adam(double p, double g)
{
    double m = 0, v = 0;
    for (int step = 1; step <= STEPS; step++) {
        double d = g + decay * p;
        m = beta1 * m + (1 - beta1) * d;
        v = beta2 * v + (1 - beta2) * d * d;
        p -= rate * (m / (1 - pow(beta1, step))) / (sqrt(v / (1 - pow(beta2, step))) + eps);
    }
    return p;
}

/* Every trainable parameter moved by the rule, everything else left alone. */
static void check_steps(const Training *s, const char *what, double (*rule)(double, double),
                        const float *start, const float *grad, Finding *f)
{
    const Graph *net = s->code->program->net;
    const float *found = unpacked(s, f->c, s->params);
    Distance d = {0};
    for (int p = 0; p < net->params; p++) {
        const Param *param = net->param[p];
        bool moves = param->trainable && !param->statistic;
        for (int64_t i = param->offset; i < param->offset + param->count; i++) {
            float expected = moves ? (float)rule((double)start[i], (double)grad[i]) : start[i];
            distance_add(&d, &found[i], &expected, 1);
            if (!moves)
                require_equal(f, what, &found[i], &expected, 1);
        }
    }
    require(f, what, d, 1e-5);
}

static void check_optimizers(Training *s, Finding *f)
{
    Code *code = s->code;
    const float *start = unpacked(s, f->c, s->params), *grad = unpacked(s, f->c, s->grad);
    for (int step = 1; step <= STEPS; step++)
        code->sgd(code, s->params, s->grad, s->moment[0], (float)rate, (float)momentum, (float)decay);
    check_steps(s, "sgd", sgd, start, grad, f);
    code->pack(code, s->params, start);
    memset(s->moment[0], 0, (size_t)code->params_bytes);
    for (int step = 1; step <= STEPS; step++)
        code->adam(code, s->params, s->grad, s->moment[0], s->moment[1], step, (float)rate, (float)beta1,
                   (float)beta2, (float)eps, (float)decay);
    check_steps(s, "adam", adam, start, grad, f);
}

/* -- trials -- */

const char *trial_train(const Trial *t, Context *c, Code *code)
{
    Finding f = {.c = c};
    if (comparable(t, code->program, &f)) {
        Training s = training(t, c, code);
        Results r = {0};
        check_parameters(t, &s, &f);
        run_all(t, c, &s, &r);
        compare_outputs(t, code->program, &r, &f);
        compare_training(t, code->program, &r, &f);
        check_accumulate(t, &s, &r, &f);
        check_optimizers(&s, &f);
    }
    return f.message ? report(c, &t->network, f.message) : NULL;
}

/* init must leave what pack makes of the initial values. */
static void check_init(const Trial *t, Code *code, void *params, Finding *f)
{
    const Program *p = code->program;
    Results by_init = {0}, by_pack = {0};
    code->init(code, params, t->network.seed);
    run_forward(t, f->c, code, params, &by_init);
    code->pack(code, params, initial(f->c, p->net, t->network.seed));
    run_forward(t, f->c, code, params, &by_pack);
    for (int o = 0; o < p->outputs; o++)
        require_equal(f, "init", by_init.output[o], by_pack.output[o], floats(p->output[o].node));
}

const char *trial_infer(const Trial *t, Context *c, Code *code)
{
    Finding f = {.c = c};
    if (comparable(t, code->program, &f)) {
        void *params = poisoned(c, code->params_bytes);
        Results r = {0};
        code->pack(code, params, t->flat);
        run_forward(t, c, code, params, &r);
        compare_outputs(t, code->program, &r, &f);
        check_init(t, code, params, &f);
    }
    return f.message ? report(c, &t->network, format(c, "inference: %s", f.message)) : NULL;
}

/* -- the same bits -- */

Results trial_run(const Trial *t, Context *c, Code *code)
{
    Results r = {0};
    if (code->program->options.train) {
        Training s = training(t, c, code);
        run_all(t, c, &s, &r);
    } else {
        void *params = poisoned(c, code->params_bytes);
        code->pack(code, params, t->flat);
        run_forward(t, c, code, params, &r);
    }
    return r;
}

const char *trial_same(const Trial *t, Context *c, Code *code, const Results *expected)
{
    const Program *p = code->program;
    Finding f = {.c = c};
    const Results r = trial_run(t, c, code);
    for (int o = 0; o < p->outputs; o++)
        require_equal(&f, "forward", r.output[o], expected->output[o], floats(p->output[o].node));
    require_equal(&f, "loss", &r.loss, &expected->loss, 1);
    require_equal(&f, "loss of backward", &r.trained_loss, &expected->trained_loss, 1);
    if (p->options.train) {
        require_equal(&f, "gradients", r.grad, expected->grad, params_count(p->net));
        require_equal(&f, "parameters after backward", r.after, expected->after, params_count(p->net));
    }
    for (int k = 0, next = 0; k < p->net->inputs && p->options.train; k++)
        if (!p->net->input[k]->loss_only) {
            require_equal(&f, "input gradients", r.in_grad[next], expected->in_grad[next],
                          shape_count(&p->net->input[k]->shape));
            next++;
        }
    return f.message ? report(c, &t->network, format(c, "%d threads: %s", p->options.threads, f.message))
                     : NULL;
}
