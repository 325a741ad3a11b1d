/* Where the generated file's parameters come from: initial values, pack, init,
 * literal weights. */
#include "print.h"

#include <math.h>
#include <string.h>

enum { LITERAL_BYTES = 1 << 20 };                /* larger sets go to a file of their own */

static bool native_assembler(const Program *p)
{
    return *p->options.target->cflags != 0;      /* generic: for compilers that may not have .incbin */
}

const float *print_weights_file(const Program *p, size_t *bytes)
{
    if (!p->weights || p->params_bytes <= LITERAL_BYTES)
        return NULL;
    if (native_assembler(p)) {
        *bytes = (size_t)p->params_bytes;
        return p->weights;
    }
    float *flat = NEW_ARRAY(p->c, float, params_count(p->net));
    for (int i = 0; i < p->net->params; i++)
        memcpy(flat + p->net->param[i]->offset, p->net->param[i]->literal,
               sizeof(float) * (size_t)p->net->param[i]->count);
    *bytes = sizeof(float) * (size_t)params_count(p->net);
    return flat;
}

/* -- literal numbers -- */

static void numbers(Text *t, const float *value, int count)
{
    for (int i = 0; i < count; i++) {
        const char *separator = i == 0 ? "" : i % 6 == 0 ? ",\n     " : ", ";
        if (isfinite(value[i]))
            text_add(t, "%s%af", separator, (double)value[i]);
        else
            text_add(t, "%s%s", separator, isnan(value[i]) ? "NAN" : value[i] > 0 ? "INFINITY" : "-INFINITY");
    }
}

static void weights_literal(Text *t, const Program *p)
{
    const float *value = p->weights;
    text_add(t, "\n#ifdef __GNUC__\n__attribute__((aligned(64)))\n#endif\n"
                "const %s_params %s_weights = {\n", p->prefix,
             p->prefix);
    for (int i = 0; i < p->fields; i++) {
        text_add(t, "    /* %s */\n    {", p->field[i].name);
        numbers(t, value, p->field[i].count);
        text_add(t, "},\n");
        value += p->field[i].count;
    }
    text_add(t, "};\n");
}

static void weights_included(Text *t, const Program *p, const char *file)
{
    text_add(t,
             "\n/* The contents of %s_weights; the assembler looks for the file where -I points, too. */\n"
             "__asm__(\".pushsection .rodata\\n\"\n        \".balign 64\\n\"\n"
             "        \".globl %s_weights\\n\"\n        \".type %s_weights, @object\\n\"\n"
             "        \".size %s_weights, %lld\\n\"\n        \"%s_weights:\\n\"\n"
             "        \".incbin \\\"%s\\\"\\n\"\n        \".popsection\\n\");\n",
             p->prefix, p->prefix, p->prefix, p->prefix, (long long)p->params_bytes, p->prefix, file);
}

/* -- values -- */

static void literal_arrays(Text *t, const Program *p)
{
    for (int i = 0; i < p->net->params; i++) {
        const Param *param = p->net->param[i];
        if (param->init != INIT_LITERAL)
            continue;
        text_add(t, "\nstatic const float %s_initial_%s[%d] = {\n"
                    "    ", p->prefix, param->c_name, param->count);
        numbers(t, param->literal, param->count);
        text_add(t, "\n};\n");
    }
}

void print_values(Text *t, const Program *p)
{
    const Graph *net = p->net;
    bool literals = false, uniforms = false;
    if (!p->fields)
        return;
    if (!p->weights)
        literal_arrays(t, p);
    text_add(t,
             "\n/* Where parameters come from: an array in the order of state_dict, or a seed. */\n"
             "typedef struct %s_source { const float *flat; uint64_t seed; } %s_source;\n\n"
             "/* Element i of parameter k. */\n"
             "static float %s_value(const %s_source *from, int k, int i)\n{\n"
             "    static const struct { int offset; float constant, bound; const float *literal; } param[%d] = {\n",
             p->prefix, p->prefix, p->prefix, p->prefix, net->params);
    for (int k = 0; k < net->params; k++) {
        const Param *param = net->param[k];
        bool uniform = param->init == INIT_UNIFORM, literal = param->init == INIT_LITERAL && !p->weights;
        text_add(t, "        {%lld, %s, %s, %s},  /* %s */\n", (long long)param->offset,
                 print_float(p->c, param->init == INIT_CONSTANT ? (double)param->value : 0),
                 print_float(p->c, uniform ? (double)param->value : 0),
                 literal ? format(p->c, "%s_initial_%s", p->prefix, param->c_name) : "0", param->name);
        uniforms |= uniform;
        literals |= literal;
    }
    text_add(t, "    };\n    if (from->flat)\n        return from->flat[param[k].offset + i];\n");
    if (literals)
        text_add(t, "    if (param[k].literal)\n        return param[k].literal[i];\n");
    if (uniforms)
        text_add(t,
                 "    if (param[k].bound > 0.0f)\n"
                 "        return (2.0f * %s_random_unit(from->seed, (uint32_t)k, (uint32_t)i) - 1.0f) *"
                 " param[k].bound;\n",
                 p->prefix);
    text_add(t, "    return param[k].constant;\n}\n");
}

/* -- pack, init, unpack -- */

static void take_function(Text *t, const Program *p, const char *calls)
{
    text_add(t, "\nstatic void %s_take(%s_params *params, const %s_source *from)\n"
                "{\n", p->prefix, p->prefix, p->prefix);
    if (p->options.train)                        /* the struct is the state_dict */
        text_add(t,
                 "    for (int k = 0; k < %d; k++)\n        for (int i = 0; i < %s_field[k].count; i++)\n"
                 "            %s_at(params, k)[i] = %s_value(from, k, i);\n",
                 p->fields, p->prefix, p->prefix, p->prefix);
    for (int i = 0; i < p->fields && !p->options.train; i++)
        if (!p->field[i].param->derived)
            text_add(t, "    for (int i = 0; i < %d; i++)\n        params->%s[i] = %s_value(from, %d, i);\n",
                     p->field[i].count, p->field[i].name, p->prefix, p->field[i].param->index);
    text_add(t, "%s}\n", calls);
}

static void init_body(Text *t, const Program *p, bool in_file)
{
    if (p->weights && !(in_file && !native_assembler(p)))
        text_add(t, "    (void)seed;\n    *params = %s_weights;\n", p->prefix);
    else if (p->weights)
        text_add(t, "    /* all zero: the values are in the .weights file, for %s_pack */\n"
                 "    const %s_source from = {0, seed};\n"
                 "    %s_take(params, &from);\n", p->prefix, p->prefix, p->prefix);
    else
        text_add(t, "    const %s_source from = {0, seed};\n"
                    "    %s_take(params, &from);\n", p->prefix, p->prefix);
}

static void empty_params(Text *t, const Program *p)
{
    const char *n = p->prefix;
    text_add(t, "\nvoid %s_pack(%s_params *params, const float *flat)\n{\n    (void)params;\n"
                "    (void)flat;\n}\n", n, n);
    text_add(t, "\nvoid %s_init(%s_params *params, uint64_t seed)\n{\n    (void)params;\n    (void)seed;\n"
                "}\n", n, n);
}

void print_pack(Text *t, const Program *p, const char *calls, const char *weights_file)
{
    const char *n = p->prefix;
    size_t bytes;
    bool in_file = weights_file && print_weights_file(p, &bytes);
    if (!p->fields) {
        empty_params(t, p);
        return;
    }
    if (p->weights && in_file && native_assembler(p))
        weights_included(t, p, weights_file);
    else if (p->weights && !in_file)
        weights_literal(t, p);
    take_function(t, p, calls);
    text_add(t, "\nvoid %s_pack(%s_params *params, const float *flat)\n{\n"
                "    const %s_source from = {flat, 0};\n"
             "    %s_take(params, &from);\n}\n", n, n, n, n);
    text_add(t, "\nvoid %s_init(%s_params *params, uint64_t seed)\n{\n", n, n);
    init_body(t, p, in_file);
    text_add(t, "}\n");
}
