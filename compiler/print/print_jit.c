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

static void forward(Text *t, const Program *p)
{
    int next = 0;
    text_add(t, "\nvoid cnnc_forward(const void *params, void *const *io, void *workspace)\n{\n");
    text_add(t, "    %s_forward((const %s_params *)params%s", p->prefix, p->prefix, inputs(p, false, "io", &next));
    for (int i = 0; i < p->outputs; i++)
        text_add(t, ", (float *)io[%d]", next++);
    text_add(t, ", workspace);\n}\n");
}

static void backward(Text *t, const Program *p, const char *name)
{
    int next = 0, grads = 0;
    text_add(t,
             "\n"
             "float cnnc_%s(void *params, void *const *in, void *grad, void *const *in_grad, void *workspace,\n"
             "    uint64_t seed)\n{\n", name);
    text_add(t, "    return %s_%s((%s_params *)params%s, (%s_params *)grad", p->prefix, name, p->prefix,
             inputs(p, true, "in", &next), p->prefix);
    for (int i = 0; p->options.input_grad && i < p->net->inputs; i++)
        if (!p->net->input[i]->loss_only && p->net->input[i]->dtype == F32)
            text_add(t, ", (float *)in_grad[%d]", grads++);
    text_add(t, ", workspace%s);\n}\n", p->seeded ? ", seed" : "");
}

void print_jit_entries(Text *t, const Program *p)
{
    const char *n = p->prefix;
    int next = 0;
    forward(t, p);
    text_add(t, "\nvoid cnnc_pack(void *params, const float *flat)\n{\n"
                "    %s_pack((%s_params *)params, flat);\n}\n", n, n);
    text_add(t, "\nvoid cnnc_init(void *params, uint64_t seed)\n{\n"
                "    %s_init((%s_params *)params, seed);\n}\n", n, n);
    if (!p->options.train)
        return;
    text_add(t, "\nvoid cnnc_unpack(float *flat, const void *params)\n{\n"
                "    %s_unpack(flat, (const %s_params *)params);\n}\n",
             n, n);
    backward(t, p, "backward");
    backward(t, p, "accumulate");
    text_add(t, "\nfloat cnnc_loss(const void *params, void *const *in, void *workspace)\n{\n"
             "    return %s_loss((const %s_params *)params%s, workspace);\n"
             "}\n", n, n, inputs(p, true, "in", &next));
    text_add(t,
             "\n"
             "void cnnc_sgd(void *params, const void *grad, void *velocity,\n"
             "    float lr, float momentum, float weight_decay)\n{\n"
             "    %s_sgd((%s_params *)params, (const %s_params *)grad, (%s_params *)velocity,\n"
             "        lr, momentum, weight_decay);\n}\n",
             n, n, n, n);
    text_add(t,
             "\nvoid cnnc_adam(void *params, const void *grad, void *m, void *v, int step,\n"
             "    float lr, float beta1, float beta2, float eps, float weight_decay)\n{\n"
             "    %s_adam((%s_params *)params, (const %s_params *)grad, (%s_params *)m, (%s_params *)v, step,\n"
             "        lr, beta1, beta2, eps, weight_decay);\n}\n", n, n, n, n, n);
}
