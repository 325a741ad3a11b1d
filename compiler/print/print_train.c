/* What the generated file does to parameters in training: unpack, optimisers. */
#include "print.h"

static bool optimised(const Param *p)
{
    return p->trainable && !p->statistic;
}

void print_fields(Text *t, const Program *p)
{
    const char *n = p->prefix;
    if (!p->options.train || !p->fields)
        return;
    text_add(t,
             "\n/* The fields of %s_params, in the order of state_dict. */\n"
             "static const struct { size_t offset; int count, optimised; } %s_field[%d] = {\n", n, n, p->fields);
    for (int i = 0; i < p->fields; i++)
        text_add(t, "    {offsetof(%s_params, %s), %d, %d},\n", n, p->field[i].name, p->field[i].count,
                 optimised(p->field[i].param));
    text_add(t,
             "};\n\nstatic float *%s_at(%s_params *params, int k)\n{\n"
             "    return (float *)(void *)((char *)params + %s_field[k].offset);\n}\n\n"
             "static const float *%s_read(const %s_params *params, int k)\n{\n"
             "    return (const float *)(const void *)((const char *)params + %s_field[k].offset);\n}\n",
             n, n, n, n, n, n);
}

void print_clear(Text *t, const Program *p)
{
    if (p->fields)
        text_add(t,
                 "    for (int k = 0; k < %d; k++)\n        for (int i = 0; i < %s_field[k].count; i++)\n"
                 "            %s_at(grad, k)[i] = 0.0f;\n", p->fields, p->prefix, p->prefix);
}

static void unpack(Text *t, const Program *p)
{
    const char *n = p->prefix;
    text_add(t, "\nvoid %s_unpack(float *flat, const %s_params *params)\n{\n", n, n);
    if (p->fields)
        text_add(t,
                 "    for (int k = 0; k < %d; k++)\n        for (int i = 0; i < %s_field[k].count; i++)\n"
                 "            *flat++ = %s_read(params, k)[i];\n}\n", p->fields, n, n);
    else
        text_add(t, "    (void)flat, (void)params;\n}\n");
}

/* The loop over the elements of all fields that optimisers change; body: its
 * statements, which know param, grad and i. */
static void optimiser(Text *t, const Program *p, const char *states, const char *body)
{
    const char *n = p->prefix;
    text_add(t,
             "    for (int k = 0; k < %d; k++) {\n        if (!%s_field[k].optimised)\n"
             "            continue;\n"
             "        float *const param = %s_at(params, k);\n"
             "        const float *const g = %s_read(grad, k);\n%s"
             "        for (int i = 0; i < %s_field[k].count; i++) {\n"
             "            const float d = g[i] + weight_decay * param[i];\n%s        }\n    }\n}\n",
             p->fields, n, n, n, states, n, body);
}

static void sgd(Text *t, const Program *p)
{
    const char *n = p->prefix;
    text_add(t,
             "\nvoid %s_sgd(%s_params *params, const %s_params *grad, %s_params *velocity,\n"
             "    float lr, float momentum, float weight_decay)\n{\n", n, n, n, n);
    if (!p->fields) {
        text_add(t, "    (void)params, (void)grad, (void)velocity, (void)lr, (void)momentum, (void)weight_decay;\n}\n");
        return;
    }
    const char *velocity = FAULT(p->c, FAULT_MOMENTUM) ? "d" : "momentum * v[i] + d";
    optimiser(t, p, format(p->c, "        float *const v = %s_at(velocity, k);\n", n),
              format(p->c, "            v[i] = %s;\n            param[i] -= lr * v[i];\n", velocity));
}

/* Kingma and Ba, Adam, ICLR 2015, algorithm 1, with the corrections folded into the
 * step size and the root as PyTorch does. */
static void adam(Text *t, const Program *p)
{
    const char *n = p->prefix;
    text_add(t,
             "\n"
             "void %s_adam(%s_params *params, const %s_params *grad, %s_params *m, %s_params *v, int step,\n"
             "    float lr, float beta1, float beta2, float eps, float weight_decay)\n{\n", n, n, n, n, n);
    if (!p->fields) {
        text_add(t,
                 "    (void)params, (void)grad, (void)m, (void)v, (void)step, (void)lr;\n"
                 "    (void)beta1, (void)beta2, (void)eps, (void)weight_decay;\n}\n");
        return;
    }
    text_add(t,
             "    const float step_size = (float)((double)lr / (1.0 - pow((double)beta1, (double)step)));\n"
             "    const float root = (float)sqrt(1.0 - pow((double)beta2, (double)step));\n");
    optimiser(t, p,
              format(p->c, "        float *const mean = %s_at(m, k), *const square = %s_at(v, k);\n", n, n),
              "            mean[i] = beta1 * mean[i] + (1.0f - beta1) * d;\n"
              "            square[i] = beta2 * square[i] + (1.0f - beta2) * d * d;\n"
              "            param[i] -= step_size * mean[i] / (sqrtf(square[i]) / root + eps);\n");
}

void print_training(Text *t, const Program *p)
{
    unpack(t, p);
    sgd(t, p);
    adam(t, p);
}
