/* Where the generated file's parameters come from: initial values, pack, init,
 * literal weights. */
#include "print.h"

#include <math.h>
#include <string.h>

enum { LITERAL_BYTES = 1 << 20 };                /* larger sets go to a file of their own */

/* What has vectors is for gcc and clang. */
static bool has_attributes(const Program *p)
{
    return p->forward->target->lanes > 1;
}

/* Elsewhere a file of weights is for the caller, who gives it to pack. */
static bool draws_in(const Program *p)
{
    return p->options.target->incbin;
}

const void *print_weights_file(const Program *p, size_t *bytes)
{
    bool half = p->options.store != STORE_F32;
    if (!p->weights || p->params_bytes / (half ? 2 : 1) <= LITERAL_BYTES)
        return NULL;
    if (half)
        return blob_make(p, bytes);
    if (draws_in(p)) {
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
    print_named(t, p,
                "\n#ifdef __GNUC__\n__attribute__((aligned(%d)))\n#endif\n"
                "$_WEIGHTS_SECTION const @_params @_weights = {\n", p->options.target->alignment);
    for (int i = 0; i < p->fields; i++) {
        text_add(t, "    /* %s */\n    {", p->field[i].name);
        numbers(t, value, p->field[i].count);
        text_add(t, "},\n");
        value += p->field[i].count;
    }
    text_add(t, "};\n");
}

/* What the assembler draws in from a file, as an object of that name. */
static void file_included(Text *t, const Program *p, const char *name, size_t bytes, const char *file)
{
    const char *type = "%object";                /* @object is half a comment to ARM's assembler */
    print_named(t, p,
                "\n/* The contents of %s; the assembler looks for the file where -I points, too. */\n"
                "__asm__(\".pushsection .rodata\\n\"\n"
                "        \".balign %d\\n\"\n"
                "        \".globl %s\\n\"\n"
                "        \".type %s, %s\\n\"\n"
                "        \".size %s, %lld\\n\"\n"
                "        \"%s:\\n\"\n"
                "        \".incbin \\\"%s\\\"\\n\"\n"
                "        \".popsection\\n\");\n",
                name, p->options.target->alignment, name, name, type, name, (long long)bytes, name, file);
}

/* Numbers of 16 bits as a constant. */
static void weights_stored(Text *t, const Program *p)
{
    const float *value = p->weights;
    const char *name = store_name(p->options.store);
    print_named(t, p, "\n/* The parameters as %s, field by field. */\n"
                "static const uint16_t @_stored[%lld] = {", name, (long long)p->params_bytes / 4);
    for (int64_t i = 0; i < p->params_bytes / 4; i++)
        text_add(t, "%s%u,", i % 16 ? " " : "\n    ", store_narrow(p->options.store, value[i]));
    text_add(t, "\n};\n");
}

static void weights(Text *t, const Program *p, const char *weights_file, size_t bytes)
{
    bool half = p->options.store != STORE_F32;
    const char *name = format(p->c, half ? "%s_blob" : "%s_weights", p->prefix);
    if (weights_file && draws_in(p)) {
        file_included(t, p, name, bytes, weights_file);
        if (half)
            text_add(t, "extern const unsigned char %s[];\n", name);
    } else if (!weights_file && half) {
        weights_stored(t, p);
    } else if (!weights_file) {
        weights_literal(t, p);
    }
}

/* -- values -- */

static void literal_arrays(Text *t, const Program *p)
{
    for (int i = 0; i < p->net->params; i++) {
        const Param *param = p->net->param[i];
        if (param->init != INIT_LITERAL)
            continue;
        print_named(t, p, "\nstatic const float @_initial_%s[%d] = {\n    ", param->c_name, param->count);
        numbers(t, param->literal, param->count);
        text_add(t, "\n};\n");
    }
}

static const char *number(Context *c, float value)
{
    return value == 0 && !signbit(value) ? "0" : print_float(c, (double)value);
}

static bool is_literal(const Program *p, const Param *param)
{
    return param->init == INIT_LITERAL && !p->weights;
}

static const char *value_row(const Program *p, const Param *param, bool literals)
{
    const char *literal = !is_literal(p, param) ? "0"
                        : format(p->c, "%s_initial_%s", p->prefix, param->c_name);
    return format(p->c, "{%lld, %s, %s%s%s}", (long long)param->offset,
                  number(p->c, param->init == INIT_CONSTANT ? param->value : 0),
                  number(p->c, param->init == INIT_UNIFORM ? param->value : 0),
                  literals ? ", " : "", literals ? literal : "");
}

/* A layer a line, and the number of its first parameter. */
static void value_rows(Text *t, const Program *p, bool literals)
{
    Param *const *param = p->net->param;
    for (int k = 0, end; k < p->net->params; k = end) {
        const char *name = param[k]->name, *dot = strrchr(name, '.');
        size_t layer = dot ? (size_t)(dot - name) + 1 : strlen(name) + 1;
        Text names = {.c = t->c};
        text_add(t, "       ");
        for (end = k; end < p->net->params && !strncmp(param[end]->name, name, layer); end++) {
            text_add(t, " %s,", value_row(p, param[end], literals));
            text_add(&names, end > k ? ", %s" : "%s", param[end]->name + (end > k ? layer : 0));
        }
        text_add(t, "  /* %d: %s */\n", k, names.data);
    }
}

void print_values(Text *t, const Program *p)
{
    const Graph *net = p->net;
    bool literals = false, uniforms = false, attributes = has_attributes(p);
    for (int k = 0; k < net->params; k++) {
        uniforms |= net->param[k]->init == INIT_UNIFORM;
        literals |= is_literal(p, net->param[k]);
    }
    if (!p->fields)
        return;
    if (!p->weights)
        literal_arrays(t, p);
    print_named(t, p,
                "\n/* Where parameters come from: an array in the order of state_dict, or a seed. */\n"
                "typedef struct @_source { const float *flat; uint64_t seed; } @_source;\n\n"
                "/* Element i of parameter k.%s */\n"
                "static %sfloat @_value(const @_source *from, int k, int i)\n{\n"
                "    static const struct { int offset; float constant, bound;%s } param[%d] = {\n",
                attributes ? "  Copies of it in every loop would take long to compile." : "",
                attributes ? "__attribute__((noinline, hot)) " : "",
                literals ? " const float *literal;" : "", net->params);
    value_rows(t, p, literals);
    text_add(t, "    };\n    if (from->flat)\n        return from->flat[param[k].offset + i];\n");
    if (literals)
        text_add(t, "    if (param[k].literal)\n        return param[k].literal[i];\n");
    if (uniforms)
        print_named(t, p,
                    "    if (param[k].bound > 0.0f)\n"
                    "        return (2.0f * @_random_unit(from->seed, (uint32_t)k, (uint32_t)i) - 1.0f) *"
                    " param[k].bound;\n");
    text_add(t, "    return param[k].constant;\n}\n");
}

/* -- pack, init, unpack -- */

static void take_function(Text *t, const Program *p, const char *calls)
{
    const char *cold = has_attributes(p) ? "__attribute__((cold)) " : "";      /* runs once, compiles fast */
    print_named(t, p, "\nstatic %svoid @_take(@_params *params, const @_source *from)\n{\n", cold);
    if (p->options.train)                        /* the struct is the state_dict */
        print_named(t, p,
                    "    for (int k = 0; k < %d; k++)\n"
                    "        for (int i = 0; i < @_field[k].count; i++)\n"
                    "            @_at(params, k)[i] = @_value(from, k, i);\n", p->fields);
    for (int i = 0; i < p->fields && !p->options.train; i++)
        if (!p->field[i].param->derived)
            print_named(t, p,
                        "    for (int i = 0; i < %d; i++)\n"
                        "        params->%s[i] = @_value(from, %d, i);\n",
                        p->field[i].count, p->field[i].name, p->field[i].param->index);
    text_add(t, "%s}\n", calls);
}

static void init_body(Text *t, const Program *p, bool in_file)
{
    Store16 store = p->options.store;
    if (p->weights && store != STORE_F32 && !in_file) {
        print_named(t, p,
                    "    (void)seed;\n    float *const value = (float *)(void *)params;\n"
                    "    for (int i = 0; i < %lld; i++)\n"
                    "        value[i] = @_from_%s(@_stored[i]);\n", (long long)p->params_bytes / 4,
                    store_name(store));
        return;
    }
    if (p->weights && store != STORE_F32 && draws_in(p)) {
        print_named(t, p, "    (void)seed;\n    @_take_struct(params, @_blob, 0);\n");
        return;
    }
    if (p->weights && !(in_file && !draws_in(p))) {
        print_named(t, p, "    (void)seed;\n    *params = @_weights;\n");
        return;
    }
    if (p->weights)
        print_named(t, p, "    /* all zero: the values are in the .weights file, for @_%s */\n",
                    store == STORE_F32 ? "pack" : "load");
    print_named(t, p, "    const @_source from = {0, seed};\n    @_take(params, &from);\n");
}

static void empty_params(Text *t, const Program *p)
{
    print_named(t, p,
                "\nvoid @_pack(@_params *params, const float *flat)\n{\n"
                "    (void)params;\n    (void)flat;\n}\n"
                "\nvoid @_init(@_params *params, uint64_t seed)\n{\n"
                "    (void)params;\n    (void)seed;\n}\n");
}

void print_pack(Text *t, const Program *p, const char *calls, const char *weights_file)
{
    size_t bytes = 0;
    bool in_file = weights_file && print_weights_file(p, &bytes);
    if (!p->fields) {
        empty_params(t, p);
        return;
    }
    if (p->weights)
        weights(t, p, in_file ? weights_file : NULL, bytes);
    take_function(t, p, calls);
    print_named(t, p,
                "\nvoid @_pack(@_params *params, const float *flat)\n{\n"
                "    const @_source from = {flat, 0};\n    @_take(params, &from);\n}\n"
                "\nvoid @_init(@_params *params, uint64_t seed)\n{\n");
    init_body(t, p, in_file);
    text_add(t, "}\n");
}
