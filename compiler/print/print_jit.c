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

static void forward(Text *t, const Program *p, bool profile)
{
    const char *name = profile ? "profile" : "forward";
    int next = 0;
    text_add(t, "\nvoid cnnc_%s(const void *params, void *const *io, void *workspace%s)\n{\n", name,
             profile ? ",\n    void (*tick)(void *user, int kernel), void *user" : "");
    print_named(t, p, "    @_%s((const @_params *)params%s", name, inputs(p, false, "io", &next));
    for (int i = 0; i < p->outputs; i++)
        text_add(t, ", (float *)io[%d]", next++);
    text_add(t, ", workspace%s);\n}\n", profile ? ", tick, user" : "");
}

static void backward(Text *t, const Program *p, const char *name)
{
    int next = 0, grads = 0;
    text_add(t,
             "\nfloat cnnc_%s("
             "void *params, void *const *in, void *grad, void *const *in_grad, void *workspace,\n"
             "    uint64_t seed)\n{\n", name);
    print_named(t, p, "    return @_%s((@_params *)params%s, (@_params *)grad", name,
                inputs(p, true, "in", &next));
    for (int i = 0; p->options.input_grad && i < p->net->inputs; i++)
        if (!p->net->input[i]->loss_only && p->net->input[i]->dtype == F32)
            text_add(t, ", (float *)in_grad[%d]", grads++);
    text_add(t, ", workspace%s);\n}\n", p->seeded ? ", seed" : "");
}

static void training(Text *t, const Program *p)
{
    int next = 0;
    print_named(t, p,
                "\nvoid cnnc_unpack(float *flat, const void *params)\n{\n"
                "    @_unpack(flat, (const @_params *)params);\n}\n");
    backward(t, p, "backward");
    backward(t, p, "accumulate");
    print_named(t, p,
                "\nfloat cnnc_loss(const void *params, void *const *in, void *workspace)\n{\n"
                "    return @_loss((const @_params *)params%s, workspace);\n}\n",
                inputs(p, true, "in", &next));
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

void print_jit_entries(Text *t, const Program *p)
{
    forward(t, p, false);
    if (p->options.profile)
        forward(t, p, true);
    print_named(t, p,
                "\nvoid cnnc_pack(void *params, const float *flat)\n{\n"
                "    @_pack((@_params *)params, flat);\n}\n"
                "\nvoid cnnc_init(void *params, uint64_t seed)\n{\n"
                "    @_init((@_params *)params, seed);\n}\n");
    if (p->options.train)
        training(t, p);
}
