/* What the generated file does to parameters in training: unpack, optimisers. */
#include "print.h"

static bool optimised(const Param *p)
{
    return p->trainable && !p->statistic;
}

void print_fields(Text *t, const Program *p)
{
    if (!p->options.train || !p->fields)
        return;
    print_named(t, p,
                "\n/* The fields of @_params, in the order of state_dict. */\n"
                "static const struct { size_t offset; int count, optimised; } @_field[%d] = {\n", p->fields);
    for (int i = 0; i < p->fields; i++)
        print_named(t, p, "    {offsetof(@_params, %s), %d, %d},\n", p->field[i].name, p->field[i].count,
                    optimised(p->field[i].param));
    print_named(t, p,
                "};\n\n"
                "static float *@_at(@_params *params, int k)\n{\n"
                "    return (float *)(void *)((char *)params + @_field[k].offset);\n}\n\n"
                "static const float *@_read(const @_params *params, int k)\n{\n"
                "    return (const float *)(const void *)((const char *)params + @_field[k].offset);\n}\n");
}

void print_clear(Text *t, const Program *p, bool strips)
{
    if (p->fields && strips)
        print_named(t, p,
                    "    for (int k = 0; k < %d; k++)\n"
                    "        cnnc_zeros(@_at(grad, k), 1, 0, @_field[k].count);\n", p->fields);
    else if (p->fields)
        print_named(t, p,
                    "    for (int k = 0; k < %d; k++)\n"
                    "        for (int i = 0; i < @_field[k].count; i++)\n"
                    "            @_at(grad, k)[i] = 0.0f;\n", p->fields);
}

static void unpack(Text *t, const Program *p)
{
    print_named(t, p, "\nvoid @_unpack(float *flat, const @_params *params)\n{\n");
    if (p->fields)
        print_named(t, p,
                    "    for (int k = 0; k < %d; k++)\n"
                    "        for (int i = 0; i < @_field[k].count; i++)\n"
                    "            *flat++ = @_read(params, k)[i];\n}\n", p->fields);
    else
        text_add(t, "    (void)flat, (void)params;\n}\n");
}

/* The loop over the elements of all fields that optimisers change.  states: a template
 * that declares what the optimiser remembers of field k; body: its statements, which
 * know param, d (the gradient with its decay) and i; or host: what has the host do it. */
static void optimiser(Text *t, const Program *p, const char *states, const char *body, const char *host)
{
    print_named(t, p,
                "    for (int k = 0; k < %d; k++) {\n"
                "        if (!@_field[k].optimised)\n"
                "            continue;\n"
                "        float *const param = @_at(params, k);\n"
                "        const float *const g = @_read(grad, k);\n", p->fields);
    print_prefixed(t, p->prefix, states);
    if (host) {
        print_prefixed(t, p->prefix, format(p->c, "        %s\n    }\n}\n", host));
        return;
    }
    print_named(t, p,
                "        for (int i = 0; i < @_field[k].count; i++) {\n"
                "            const float d = g[i] + weight_decay * param[i];\n"
                "%s        }\n    }\n}\n", body);
}

static void sgd(Text *t, const Program *p, bool strips)
{
    print_named(t, p,
                "\nvoid @_sgd(@_params *params, const @_params *grad, @_params *velocity,\n"
                "    float lr, float momentum, float weight_decay)\n{\n");
    if (!p->fields) {
        text_add(t,
                 "    (void)params, (void)grad, (void)velocity, (void)lr, (void)momentum,"
                 " (void)weight_decay;\n}\n");
        return;
    }
    const char *velocity = FAULT(p->c, FAULT_MOMENTUM) ? "d" : "momentum * v[i] + d";
    optimiser(t, p, "        float *const v = @_at(velocity, k);\n",
              format(p->c, "            v[i] = %s;\n            param[i] -= lr * v[i];\n", velocity),
              strips ? "cnnc_host_sgd(param, g, v, @_field[k].count, lr, momentum, weight_decay);" : NULL);
}

/* Kingma and Ba, Adam, ICLR 2015, algorithm 1, with the corrections folded into the
 * step size and the root as PyTorch does. */
static void adam(Text *t, const Program *p, bool strips)
{
    print_named(t, p,
                "\nvoid @_adam(@_params *params, const @_params *grad, @_params *m, @_params *v, int step,\n"
                "    float lr, float beta1, float beta2, float eps, float weight_decay)\n{\n");
    if (!p->fields) {
        text_add(t,
                 "    (void)params, (void)grad, (void)m, (void)v, (void)step, (void)lr;\n"
                 "    (void)beta1, (void)beta2, (void)eps, (void)weight_decay;\n}\n");
        return;
    }
    text_add(t,
             "    const float step_size = (float)((double)lr / (1.0 - pow((double)beta1, (double)step)));\n"
             "    const float root = (float)sqrt(1.0 - pow((double)beta2, (double)step));\n");
    if (strips)
        text_add(t, "    const float rate[] = {step_size, root, beta1, beta2, eps, weight_decay};\n");
    optimiser(t, p, "        float *const mean = @_at(m, k), *const square = @_at(v, k);\n",
              "            mean[i] = beta1 * mean[i] + (1.0f - beta1) * d;\n"
              "            square[i] = beta2 * square[i] + (1.0f - beta2) * d * d;\n"
              "            param[i] -= step_size * mean[i] / (sqrtf(square[i]) / root + eps);\n",
              strips ? "cnnc_host_adam(param, g, mean, square, @_field[k].count, rate);" : NULL);
}

void print_training(Text *t, const Program *p, bool strips)
{
    unpack(t, p);
    sgd(t, p, strips);
    adam(t, p, strips);
}
