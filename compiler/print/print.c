/* net.c: the frame around the kernels. */
#include "print.h"

#include <string.h>

/* Positions name the network file without its folder: the text must not depend on
 * where it was made. */
static const char *position(const Program *p, const char *where)
{
    const char *file = p->net->file, *base = print_base_name(file);
    Text t = {.c = p->c};
    while (*where) {
        bool hit = base != file && !strncmp(where, file, strlen(file));
        text_add(&t, "%s%.*s", hit ? base : "", hit ? 0 : 1, where);
        where += hit ? strlen(file) : 1;
    }
    return t.data ? t.data : "";
}

/* -- kernels -- */

/* Where what a kernel computes begins; its own node is where it ends. */
typedef struct Printed { const char *text, *name; } Printed;

typedef struct File {
    Program *p;
    Text *t;
    Printed *printed;  int count;
    Leaves leaves;            /* geometries */
    int printed_leaves;
    const char *place;        /* before the functions that a call runs: a macro of print_places */
    const char **member;  int members;       /* of the leaf family, printed or declared */
} File;

static const char *kernel_name(File *file, const Function *f, const Kernel *k, bool shared)
{
    const char *what = shared ? kernel_start(k)->op->name : k->name;
    const char *base = format(file->p->c, "%s_%s_%s", file->p->prefix, f->name, what), *name = base;
    for (int serial = 2, i = 0; i < file->count; i++)
        if (!strcmp(file->printed[i].name, name)) {
            name = format(file->p->c, "%s_%d", base, serial++);
            i = -1;
        }
    return name;
}

/* "conv1 + relu1: conv + relu -> 1x6x28x28, lenet5.lua:8" and the schedule. */
static void kernel_comment(File *file, const Kernel *k, int others)
{
    Program *p = file->p;
    const Layer *layer = kernel_start(k)->layer ? kernel_start(k)->layer : k->node->layer;
    text_add(file->t, "\n/* %s%s%s -> %s", kernel_layers(p->c, k), layer ? ": " : "",
             kernel_operations(p->c, k), shape_text(p->c, &k->node->shape, false));
    if (layer)
        text_add(file->t, ", %s", position(p, layer->where));
    if (kernel_start(k)->op->algorithm)
        text_add(file->t, "; %s", kernel_start(k)->op->algorithm(p->c, kernel_start(k)));
    if (others)
        text_add(file->t, "; and %d like it", others);
    if (k->storage[0]->takes)
        text_add(file->t, "; in place%s%s", others ? "" : " of ", others ? "" : k->storage[0]->takes->name);
    const char *schedule = "";
    for (int i = 0; i < k->nests; i++)           /* residue classes often share theirs */
        if (strcmp(k->nest[i]->schedule, schedule))
            text_add(file->t, "\n * %s", schedule = k->nest[i]->schedule);
    text_add(file->t, " */\n");
}

static void leaf_member(File *file, const Leaf *leaf)
{
    const char *member = print_leaf_member(file->p->c, leaf);
    for (int i = 0; i < file->members; i++)
        if (!strcmp(file->member[i], member))
            return;
    if (file->leaves.hosted)
        print_leaf_declaration(file->t, file->p->prefix, leaf);
    else
        print_leaf_body(file->t, file->p->prefix, leaf, true);
    PUSH(file->p->c, file->member, file->members) = member;
}

/* The leaf functions that the last kernel was the first to call. */
static void new_leaves(File *file)
{
    for (int i = file->printed_leaves; i < file->leaves.leaves; i++)
        leaf_member(file, file->leaves.leaf[i].leaf);
    if (file->printed_leaves < file->leaves.leaves)
        text_add(file->t, "\n");
    for (; file->printed_leaves < file->leaves.leaves; file->printed_leaves++) {
        const LeafText *l = &file->leaves.leaf[file->printed_leaves];
        print_named(file->t, file->p, "$_LEAF(%s, %s)\n", l->name, l->text);
    }
}

/* Prints a kernel unless the same text stands above; its name in either case. */
static const char *kernel(File *file, const Function *f, const Kernel *k, const Share *share)
{
    const char *text = share->text ? share->text
                     : print_kernel(&file->leaves, file->p->c, file->p->prefix, f, k, share->by_part);
    for (int i = 0; i < file->count; i++)
        if (!strcmp(file->printed[i].text, text))
            return file->printed[i].name;
    const char *name = kernel_name(file, f, k, share->by_part);
    new_leaves(file);
    kernel_comment(file, k, share->others);
    text_add(file->t, "%sstatic void %s%s", f->packs ? "" : file->place, name, text);
    PUSH(file->p->c, file->printed, file->count) = (Printed){text, name};
    return name;
}

/* -- functions: a workspace and calls -- */

static const char *argument(const Program *p, const Function *f, const Storage *s)
{
    if (f->packs && s->place == PLACE_WORKSPACE)
        return s->offset ? format(p->c, "scratch + %lld", (long long)s->offset / 4) : "scratch";
    switch (s->place) {
    case PLACE_PARAM:
        return format(p->c, "params->%s", s->param->c_name);
    case PLACE_GRAD:
        return format(p->c, "grad->%s", s->param->c_name);
    default:
        return s->name;
    }
}

static const char *call(const Program *p, const Function *f, const Kernel *k, const char *name,
                        const Share *share)
{
    Text t = {.c = p->c};
    bool from = false;
    for (int i = 0; i < k->storages; i++) {
        bool by_number = printer_by_number(f, k->storage[i]);
        if (printer_memory(k, k->storage[i]) != k->storage[i])
            continue;
        printer_argument_list(&t, 8, by_number ? format(p->c, "%d", k->storage[i]->param->index)
                                     : argument(p, f, k->storage[i]));
        from |= by_number;
    }
    if (from)
        printer_argument_list(&t, 8, "from");
    if (kernel_seeded(k))
        printer_argument_list(&t, 8, "seed");
    if (kernel_shared(k))
        printer_argument_list(&t, 8, "team");
    for (int i = 0; i < share->numbers; i++)
        printer_argument_list(&t, 8, share->number[i]);
    const char *line = strlen(name) + t.length > LINE && !strchr(t.data, '\n') ? "\n        " : "";
    return format(p->c, "    %s(%s%s);\n", name, strchr(t.data, '\n') ? "\n        " : line, t.data);
}

static bool used(const Function *f, Place place, const char *name)
{
    for (int k = 0; k < f->kernels; k++)
        for (int i = 0; i < f->kernel[k]->storages; i++) {
            const Storage *s = f->kernel[k]->storage[i];
            if (s->place == place && (!name || !strcmp(s->name, name)))
                return true;
        }
    return false;
}

static void unused(Text *t, bool is_used, const char *name)
{
    if (!is_used)
        text_add(t, "    (void)%s;\n", name);
}

static void mark_unused(Text *t, const Program *p, const Function *f, Signature kind)
{
    unused(t, used(f, PLACE_PARAM, NULL), "params");
    for (int i = 0; i < p->net->inputs; i++)
        if (print_has_loss(kind) || !p->net->input[i]->loss_only)
            unused(t, used(f, PLACE_INPUT, p->net->input[i]->c_name), p->net->input[i]->c_name);
    if (print_has_gradients(kind))
        unused(t, used(f, PLACE_GRAD, NULL), "grad");
    unused(t, used(f, PLACE_WORKSPACE, NULL), "workspace");
}

static void declare_buffers(Text *t, const Program *p, const Function *f)
{
    if (used(f, PLACE_WORKSPACE, NULL))
        text_add(t, "    char *const base = (char *)workspace;\n");
    for (int i = 0; i < f->storages; i++) {
        const Storage *s = f->storage[i];
        if (s->place != PLACE_WORKSPACE || s->birth < 0)
            continue;
        const char *type = s->dtype == I32 ? "int32_t" : "float";
        text_add(t, "    %s *const %s = (%s *)(void *)(base + %lld);  /* %s", type, s->name, type,
                 (long long)s->offset, shape_text(p->c, &s->shape, false));
        if (s->lanes > 1 && s->lane_dim == 0)
            text_add(t, ", samples side by side");
        else if (s->lanes > 1)
            text_add(t, ", channels in blocks of %d", s->lanes);
        if (s->band)
            text_add(t, ", %d of %d at a time", s->band, s->shape.dim[s->band_dim]);
        if (s->layout.gap)
            text_add(t, ", rows %d apart", s->layout.pitch);
        text_add(t, " */\n");
    }
}

static const char *loss_name(const Function *f)
{
    for (int r = 0; r < f->graph->roots; r++)
        if (f->graph->root[r].kind == ROOT_LOSS)
            return f->graph->root[r].node->storage->name;
    return NULL;
}

/* Prints a function's kernels; the calls of them.  In a driver that a team shares, what a
 * kernel writes the next may read, and what it reads the next may overwrite: all threads meet
 * between, but where the first thread goes on alone. */
static const char *kernels(File *file, const Function *f, Signature kind)
{
    const Program *p = file->p;
    bool team = function_shared(f) && !print_ticks(kind), alone = false;
    Text calls = {.c = p->c};
    const Share *share = print_shares(p->c, &file->leaves, p->prefix, f);
    for (int k = 0; k < f->kernels; k++) {
        const char *name = kernel(file, f, f->kernel[k], &share[k]);
        bool shared = kernel_shared(f->kernel[k]);
        if (team && k && !(alone && !shared))
            print_named(&calls, p, "    @_meet(team);\n");
        if (team && !shared)
            text_add(&calls, "    if (team->thread == 0)\n    ");
        text_add(&calls, "%s", call(p, f, f->kernel[k], name, &share[k]));
        if (print_ticks(kind))
            text_add(&calls, "    tick(user, %d);\n", k);
        alone = !shared;
    }
    return calls.data ? calls.data : "";
}

static void signature(File *file, const Program *p, const char *name, Signature kind, bool team)
{
    print_named(file->t, p, "\n%s%s%s @_%s%s(%s%s)\n{\n", file->place, team ? "static " : "",
                print_has_loss(kind) ? "float" : "void", name, team ? "_share" : "", print_signature(p, kind),
                team ? format(p->c, ",\n    const %s_team *team", p->prefix) : "");
}

/* The driver's head and body.  Where a team shares the work, each thread calls it; kernels
 * are timed on one. */
static void driver(File *file, const Function *f, const char *name, Signature kind)
{
    const Program *p = file->p;
    bool team = function_shared(f) && !print_ticks(kind);
    const char *calls = kernels(file, f, kind);
    signature(file, p, name, kind, team);
    mark_unused(file->t, p, f, kind);
    declare_buffers(file->t, p, f);
    if (function_shared(f) && !team)
        print_named(file->t, p, "    const @_team self = {0, 1, 0}, *const team = &self;\n");
    text_add(file->t, "%s", calls);
    if (print_has_loss(kind))
        text_add(file->t, team ? "    return team->thread == 0 ? %s[0] : 0.0f;\n" : "    return %s[0];\n",
                 loss_name(f));
    text_add(file->t, "}\n");
}

/* `name`: accumulate for the function that the compiler calls backward. */
static void function(File *file, const Function *f, const char *name, Signature kind)
{
    const Program *p = file->p;
    driver(file, f, name, kind);
    if (!function_shared(f) || file->leaves.hosted || print_ticks(kind))
        return;
    signature(file, p, name, kind, false);
    print_team(file->t, p, name, kind);
    text_add(file->t, "}\n");
}

static void backward(File *file)
{
    const Program *p = file->p;
    bool team = file->leaves.hosted && function_shared(p->backward);
    function(file, p->backward, "accumulate", BACKWARD);
    signature(file, p, "backward", BACKWARD, team);
    if (team)
        text_add(file->t, "    if (team->thread == 0) {\n");
    print_clear(file->t, p, file->leaves.strips);
    if (team)
        print_named(file->t, p, "    }\n    @_meet(team);\n");
    Text t = {.c = p->c};
    print_argument_names(&t, p, BACKWARD);
    print_named(file->t, p, "    return @_accumulate%s(%s%s);\n}\n", team ? "_share" : "", t.data,
                team ? ", team" : "");
}

/* The calls of the pack graph's kernels, which are printed.  Their workspace is on the stack. */
static const char *pack_calls(File *file)
{
    Program *p = file->p;
    const Function *f = p->pack;
    if (!f)
        return "";
    const char *calls = kernels(file, f, FORWARD);
    long long floats = (long long)f->workspace / 4;
    return floats ? format(p->c, "    float scratch[%lld];\n%s", floats, calls) : calls;
}

/* -- the source -- */

static const char *stored(const Program *p)
{
    if (!p->weights || p->options.store == STORE_F32)
        return "";
    StoreError error = store_error(p);
    return format(p->c,
                  " * Parameters are stored as %s, which moves them by at most %.2g, %.2g of their size;\n"
                  " * init makes floats of them.\n *\n", store_name(p->options.store), error.absolute,
                  error.relative);
}

/* What the options have cost or saved. */
static const char *trades(const Program *p)
{
    Text t = {.c = p->c};
    if (p->options.optimize == OPTIMIZE_MEMORY)
        text_add(&t,
                 " * Optimised for memory: a workspace of %lld bytes instead of %lld, no product is"
                 " computed twice.\n *\n",
                 (long long)p->forward->workspace, (long long)p->plain_workspace);
    text_add(&t, "%s", stored(p));
    return t.data;
}

static void head(Text *t, const Program *p, const char *header_name)
{
    const Target *target = p->options.target;
    bool team = program_shared(p);
    print_named(t, p,
                "/* @: generated by cnnc %s from %s."
                "  This file belongs to its user, without conditions.\n *\n%s"
                " * Compiles best with:  %s -std=gnu11 %s%s%s -c @.c\n%s */\n"
                "#include \"%s\"\n\n#include <math.h>\n#include <stddef.h>\n%s\n",
                CNNC_VERSION, print_base_name(p->net->file), trades(p),
                target_compiler(target),
                p->options.optimize == OPTIMIZE_SIZE ? "-Os" : target_optimise(target),
                *target->cflags ? " " : "", target->cflags,
                team ? " * With -fopenmp threads share the work of a call.\n" : "", header_name,
                team ? "#ifdef _OPENMP\n#include <omp.h>\n"
                       "#ifdef __unix__\n#include <sched.h>\n#endif\n#endif\n" : "");
    print_places(t, p);
    if (p->forward->target->lanes > 1)
        text_add(t, "\n#ifndef __GNUC__\n#error \"vectors of gcc and clang; "
                    "cnnc --target generic fits any compiler\"\n#endif\n");
}

/* libtcc gets no include files: every one costs more than the compilation. */
static void jit_head(Text *t, const Program *p)
{
    print_named(t, p,
             "typedef int int32_t;\ntypedef unsigned int uint32_t;\ntypedef unsigned long long uint64_t;\n"
             "typedef unsigned long size_t;\n#define offsetof(type, field) ((size_t)&((type *)0)->field)\n"
             "#define $_WEIGHTS_SECTION\n#define $_RESTRICT\n#define INFINITY (1.0f / 0.0f)\n"
             "float expf(float), logf(float), tanhf(float), sqrtf(float);\n"
             "double pow(double, double), sqrt(double);\n\n");
}

static bool any_seeded(const Program *p)
{
    for (int i = 0; i < p->net->params && p->fields; i++)
        if (p->net->param[i]->init == INIT_UNIFORM)
            return true;
    return p->seeded || p->self_test;
}

/* Must agree with random.c bit for bit. */
static void random_functions(Text *t, const Program *p)
{
    if (!any_seeded(p))
        return;
    print_named(t, p,
                "\n/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011), uniform in"
                " [0, 1). */\n"
                "static float @_random_unit(uint64_t seed, uint32_t stream, uint32_t counter)\n{\n"
                "    uint32_t x0 = counter, x1 = stream, x2 = 0, x3 = 0;\n"
                "    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);\n"
                "    for (int round = 0; round < 10; round++) {\n"
                "        const uint64_t a = (uint64_t)x0 * 0xD2511F53u, b = (uint64_t)x2 * 0xCD9E8D57u;\n"
                "        x0 = (uint32_t)(b >> 32) ^ x1 ^ key0;\n"
                "        x1 = (uint32_t)b;\n"
                "        x2 = (uint32_t)(a >> 32) ^ x3 ^ key1;\n"
                "        x3 = (uint32_t)a;\n"
                "        key0 += 0x9E3779B9u;\n"
                "        key1 += 0xBB67AE85u;\n"
                "    }\n"
                "    return (float)(int32_t)(x0 >> 8) * (1.0f / 16777216.0f);\n}\n");
}

const char *print_source(Program *p, const char *header_name, PrintKind kind)
{
    bool jit = kind != PRINT_FILE, hosted = kind == PRINT_HOSTED;
    Text t = {.c = p->c}, top = {.c = p->c};
    bool strips = hosted && target_level(p->options.target)->lanes > 1;
    File file = {.p = p, .t = &t, .leaves = {.hosted = hosted, .strips = strips},
                 .place = jit ? "" : format(p->c, "%s_CODE_SECTION ", print_upper(p->c, p->prefix))};
    print_fields(&t, p);
    print_values(&t, p);
    const char *weights = jit ? NULL
                        : format(p->c, "%.*s.weights", (int)strlen(header_name) - 2, header_name);
    if (!jit)
        print_blob(&t, p);
    print_pack(&t, p, pack_calls(&file), weights);
    function(&file, p->forward, "forward", FORWARD);
    if (jit && p->options.profile && !p->options.train)
        function(&file, p->forward, "profile", PROFILE);
    if (p->options.train) {
        function(&file, p->loss, "loss", LOSS);
        backward(&file);
        if (jit && p->options.profile)
            function(&file, p->backward, "profile", PROFILE_BACKWARD);
        print_training(&t, p, strips);
    }
    if (jit)
        print_jit_entries(&t, p, hosted);
    else
        print_self_test(&t, p);
    /* The types come first, and follow from what has been printed. */
    if (jit) {
        jit_head(&top, p);
        print_params_struct(&top, p);
    } else {
        head(&top, p, header_name);
    }
    if (p->forward->target->lanes > 1) {
        print_leaf_types(&top, p->prefix, p->forward->target, hosted ? NULL : &file.leaves);
        print_leaf_macro(&top, p->prefix, file.place, hosted);
    }
    if (strips)
        print_strip_types(&top);
    if (program_shared(p))
        print_team_types(&top, p, kind);
    random_functions(&top, p);
    text_add(&top, "%s", t.data);
    return top.data;
}
