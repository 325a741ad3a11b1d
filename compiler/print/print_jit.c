/* Entry points with one signature for every model, for programs that load the code
 * themselves: arguments of forward, backward and loss come as arrays of pointers. */
#include "print.h"

static const char *inputs(const Program *p, bool with_loss, const char *array, int *next)
{
    Text t = {.c = p->c};
    for (int i = 0; i < p->net->inputs; i++) {
        const Input *in = p->net->input[i];
        if (with_loss || !in->loss_only)
            text_add(&t, ", (const %s *)%s[%d]", in->dtype == I32 ? "int32_t" : "float", array, (*next)++);
    }
    return t.data ? t.data : "";
}

/* The driver that an entry calls, a name to complete: for the host a thread's share of it,
 * else all of it, by as many threads as the team says. */
static const char *driver(Text *t, const Program *p, const Function *f, bool hosted, const char *name)
{
    bool shared = function_shared(f);
    if (shared && !hosted)
        print_named(t, p,
                    "#ifdef _OPENMP\n    omp_set_num_threads(((const @_team *)team)->threads);\n#endif\n");
    if (!shared || !hosted)
        text_add(t, "    (void)team;\n");
    return format(p->c, "@_%s%s", name, shared && hosted ? "_share" : "");
}

static const char *team_argument(const Program *p, const Function *f, bool hosted)
{
    return hosted && function_shared(f) ? format(p->c, ", (const %s_team *)team", p->prefix) : "";
}

static void forward(Text *t, const Program *p, bool hosted)
{
    int next = 0;
    text_add(t,
             "\nvoid cnnc_forward("
             "const void *params, void *const *io, void *workspace, const void *team)\n{\n");
    print_named(t, p, format(p->c, "    %s((const @_params *)params%%s",
                             driver(t, p, p->forward, hosted, "forward")), inputs(p, false, "io", &next));
    for (int i = 0; i < p->outputs; i++)
        text_add(t, ", (float *)io[%d]", next++);
    text_add(t, ", workspace%s);\n}\n", team_argument(p, p->forward, hosted));
}

static const char *input_grads(const Program *p)
{
    Text t = {.c = p->c};
    int grads = 0;
    for (int i = 0; p->options.input_grad && i < p->net->inputs; i++)
        if (!p->net->input[i]->loss_only && p->net->input[i]->dtype == F32)
            text_add(&t, ", (float *)in_grad[%d]", grads++);
    return t.data ? t.data : "";
}

/* The forward, or with training the backward, that calls tick(user, k) after kernel k. */
static void profile(Text *t, const Program *p)
{
    bool train = p->options.train;
    int next = 0;
    text_add(t, "\nvoid cnnc_profile(void *params, void *const *io, void *grad, void *const *in_grad,\n"
                "    void *workspace, uint64_t seed, void (*tick)(void *user, int kernel), void *user)\n{\n"
                "    (void)grad, (void)in_grad, (void)seed;\n");
    print_named(t, p, "    @_profile((@_params *)params%s", inputs(p, train, "io", &next));
    for (int i = 0; i < p->outputs && !train; i++)
        text_add(t, ", (float *)io[%d]", next++);
    if (train)
        print_named(t, p, ", (@_params *)grad%s", input_grads(p));
    text_add(t, ", workspace%s, tick, user);\n}\n", train && p->seeded ? ", seed" : "");
}

static void backward(Text *t, const Program *p, const char *name, bool hosted)
{
    int next = 0;
    text_add(t,
             "\nfloat cnnc_%s("
             "void *params, void *const *in, void *grad, void *const *in_grad, void *workspace,\n"
             "    uint64_t seed, const void *team)\n{\n", name);
    print_named(t, p, format(p->c, "    return %s((@_params *)params%%s, (@_params *)grad",
                             driver(t, p, p->backward, hosted, name)), inputs(p, true, "in", &next));
    text_add(t, "%s, workspace%s%s);\n}\n", input_grads(p), p->seeded ? ", seed" : "",
             team_argument(p, p->backward, hosted));
}

static void loss(Text *t, const Program *p, bool hosted)
{
    int next = 0;
    text_add(t,
             "\nfloat cnnc_loss("
             "const void *params, void *const *in, void *workspace, const void *team)\n{\n");
    print_named(t, p, format(p->c, "    return %s((const @_params *)params%%s, workspace%%s);\n}\n",
                             driver(t, p, p->loss, hosted, "loss")), inputs(p, true, "in", &next),
                team_argument(p, p->loss, hosted));
}

static void training(Text *t, const Program *p, bool hosted)
{
    print_named(t, p,
                "\nvoid cnnc_unpack(float *flat, const void *params)\n{\n"
                "    @_unpack(flat, (const @_params *)params);\n}\n");
    backward(t, p, "backward", hosted);
    backward(t, p, "accumulate", hosted);
    loss(t, p, hosted);
    print_named(t, p,
                "\nvoid cnnc_sgd(void *params, const void *grad, void *velocity,\n"
                "    float lr, float momentum, float weight_decay)\n{\n"
                "    @_sgd((@_params *)params, (const @_params *)grad, (@_params *)velocity,\n"
                "        lr, momentum, weight_decay);\n}\n"
                "\nvoid cnnc_adam(void *params, const void *grad, void *m, void *v, int step,\n"
                "    float lr, float beta1, float beta2, float eps, float weight_decay)\n{\n"
                "    @_adam((@_params *)params, (const @_params *)grad, (@_params *)m, (@_params *)v, step,\n"
                "        lr, beta1, beta2, eps, weight_decay);\n}\n");
}

void print_jit_entries(Text *t, const Program *p, bool hosted)
{
    forward(t, p, hosted);
    if (p->options.profile)
        profile(t, p);
    print_named(t, p,
                "\nvoid cnnc_pack(void *params, const float *flat)\n{\n"
                "    @_pack((@_params *)params, flat);\n}\n"
                "\nvoid cnnc_init(void *params, uint64_t seed)\n{\n"
                "    @_init((@_params *)params, seed);\n}\n");
    if (p->options.train)
        training(t, p, hosted);
}
