/* The generated files as their users compile them: without warnings by three compilers,
 * as C++ too, and run under sanitizers with buffers of exactly the promised sizes. */
#define _GNU_SOURCE
#include "tests.h"
#include "trial.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { RANDOM = 300, CHUNK = 72, FILES = 2 };

typedef struct Chunk {
    Context *c;
    const char *folder;
    Network *network;
    int first, end;            /* of network */
    FILE *all[FILES];          /* "0.c", "1.c": include every FILES-th network and run it */
} Chunk;

/* -- programs that call everything a header declares -- */

static const char *macro(Context *c, const char *prefix, const char *name)
{
    char *text = format(c, "%s_%s", prefix, name);
    for (char *s = text; *s; s++)
        *s = (char)toupper((unsigned char)*s);
    return text;
}

static void add_inputs(Text *t, const Program *p, bool with_loss)
{
    for (int i = 0; i < p->net->inputs; i++) {
        const Input *in = p->net->input[i];
        const char *size = macro(t->c, p->prefix, format(t->c, "%s_size", in->c_name));
        const char *batch = macro(t->c, p->prefix, "batch");
        if (in->loss_only && !with_loss)
            continue;
        if (in->dtype == I32)
            text_add(t, ", labels(%s * %s, %d)", batch, size, in->classes);
        else
            text_add(t, ", floats(%s * %s)", batch, size);
    }
}

static const char *forward_call(Context *c, const Program *p)
{
    Text t = {.c = c};
    text_add(&t, "%s_forward(params", p->prefix);
    add_inputs(&t, p, false);
    for (int o = 0; o < p->outputs; o++)
        text_add(&t, ", floats(%s * %s)", macro(c, p->prefix, "batch"),
                 macro(c, p->prefix, format(c, "%s_size", p->output[o].name)));
    text_add(&t, ", bytes(%s))", macro(c, p->prefix, "workspace_bytes"));
    return t.data;
}

static const char *backward_call(Context *c, const Program *p, const char *name)
{
    Text t = {.c = c};
    text_add(&t, "%s_%s(params", p->prefix, name);
    add_inputs(&t, p, true);
    text_add(&t, ", grad");
    add_inputs(&t, p, false);                    /* their gradients have the same sizes */
    text_add(&t, ", bytes(%s)%s)", macro(c, p->prefix, "train_workspace_bytes"), p->seeded ? ", 5" : "");
    return t.data;
}

static const char *loss_call(Context *c, const Program *p)
{
    Text t = {.c = c};
    text_add(&t, "%s_loss(params", p->prefix);
    add_inputs(&t, p, true);
    text_add(&t, ", bytes(%s))", macro(c, p->prefix, "train_workspace_bytes"));
    return t.data;
}

static void write_run(Context *c, FILE *file, const Program *p)
{
    const char *n = p->prefix, *count = macro(c, n, "param_count");
    fprintf(file, "\nstatic void run_%s(void)\n{\n    %s_params *params = bytes(sizeof *params);\n", n, n);
    fprintf(file, "    float *flat = floats(%s);\n    %s_init(params, 7);\n", count, n);
    if (p->options.train) {
        fprintf(file, "    %s_params *grad = bytes(sizeof *grad), *m = bytes(sizeof *m), "
                "*v = bytes(sizeof *v);\n", n);
        fprintf(file, "    %s_unpack(flat, params);\n    check(%s);\n", n, loss_call(c, p));
        fprintf(file, "    check(%s);\n", backward_call(c, p, "backward"));
        fprintf(file, "    check(%s);\n", backward_call(c, p, "accumulate"));
        fprintf(file, "    %s_sgd(params, grad, m, 0.01f, 0.9f, 0.1f);\n    zero(m, sizeof *m);\n", n);
        fprintf(file, "    %s_adam(params, grad, m, v, 1, 0.01f, 0.9f, 0.99f, 0.001f, 0.1f);\n", n);
    }
    fprintf(file, "    %s_pack(params, flat);\n    %s;\n}\n", n, forward_call(c, p));
}

/* Memory that ends where it was said to; nothing is freed. */
static const char helpers[] =
    "#include <math.h>\n#include <stdint.h>\n#include <stdlib.h>\n#include <string.h>\n\n"
    "static void zero(void *memory, size_t size)\n{\n    memset(memory, 0, size);\n}\n\n"
    "static void *bytes(size_t size)\n{\n    void *memory;\n"
    "    if (posix_memalign(&memory, 64, size))\n        abort();\n"
    "    zero(memory, size);\n    return memory;\n}\n\n"
    "static float *floats(size_t count)\n{\n    float *memory = malloc(count * sizeof *memory);\n"
    "    for (size_t i = 0; i < count; i++)\n        memory[i] = (float)(i * 37 % 64) / 32.0f - 1.0f;\n"
    "    return memory;\n}\n\n"
    "static int32_t *labels(size_t count, int classes)\n{\n"
    "    int32_t *memory = malloc(count * sizeof *memory);\n"
    "    for (size_t i = 0; i < count; i++)\n        memory[i] = (int32_t)(i % (size_t)classes);\n"
    "    return memory;\n}\n\n"
    "static void check(float loss)\n{\n    if (!isfinite(loss))\n        abort();\n}\n";

/* -- files -- */

static void write_network(Chunk *k, int i, bool train)
{
    Context *c = k->c;
    Program *p = trial_compile(c, &k->network[i], train, target_find("generic"),
                               format(c, "%s%d", train ? "train" : "infer", i), 1);
    const char *header = format(c, "%s.h", p->prefix);
    text_write(format(c, "%s/%s.c", k->folder, p->prefix), print_source(p, header, PRINT_FILE));
    text_write(format(c, "%s/%s", k->folder, header), print_header(p));
    FILE *runs = fopen(format(c, "%s/run-%s", k->folder, p->prefix), "w");
    write_run(c, runs, p);
    fclose(runs);
    fprintf(k->all[i % FILES], "#include \"%s.c\"\n", p->prefix);
}

static void write_all(void *argument)
{
    Chunk *k = argument;
    int count = all_networks(k->c, RANDOM, &k->network);
    k->end = k->first + CHUNK < count ? k->first + CHUNK : count;
    for (int f = 0; f < FILES; f++)
        k->all[f] = fopen(format(k->c, "%s/%d.c", k->folder, f), "w");
    for (int i = k->first; i < k->end; i++)
        for (int train = 0; train < 2; train++)
            write_network(k, i, train);
    for (int f = 0; f < FILES; f++)
        fclose(k->all[f]);
}

/* "run0.c", "run1.c": what is in "0.c" or "1.c", and runs each network of it once. */
static void write_main(Chunk *k, int f)
{
    Context *c = k->c;
    FILE *file = fopen(format(c, "%s/run%d.c", k->folder, f), "w");
    fprintf(file, "#include \"%d.c\"\n%s", f, helpers);
    for (int i = k->first; i < k->end; i++)
        for (int train = 0; train < 2 && i % FILES == f; train++)
            fprintf(file, "#include \"run-%s%d\"\n", train ? "train" : "infer", i);
    fprintf(file, "\nint main(void)\n{\n");
    for (int i = k->first; i < k->end; i++)
        for (int train = 0; train < 2 && i % FILES == f; train++)
            fprintf(file, "    run_%s%d();\n", train ? "train" : "infer", i);
    fprintf(file, "    return 0;\n}\n");
    fclose(file);
}

/* Runs the command for each of the files, # being its number, side by side. */
static void assert_good(const Chunk *k, const char *command)
{
    Text t = {.c = k->c};
    for (int f = 0; f < FILES; f++) {
        text_add(&t, "%s(cd %s && ", f ? " & first=$!; " : "", k->folder);
        for (const char *s = command; *s; s++)
            text_add(&t, "%c", *s == '#' ? '0' + f : *s);
        text_add(&t, ")");
    }
    text_add(&t, " && wait $first");
    Run r = run("%s", t.data);
    ck_assert_msg(r.status == 0, "networks %d to %d: %s\n%.3000s%.1000s", k->first, k->end - 1, command,
                  r.err, r.out);
    run_free(&r);
}

static Chunk open_chunk(Context *c, int number)
{
    context_init(c);
    Chunk k = {.c = c, .folder = scratch_folder("generated"), .first = number * CHUNK};
    ck_assert_msg(attempt(c, write_all, &k), "%s", c->message);
    return k;
}

#define STRICT \
    "-Wall -Wextra -Wpedantic -Wconversion -Wdouble-promotion -Wshadow -Wundef -Wcast-align -Werror "

START_TEST(no_compiler_warns)
{
    static const char *const compiler[] = {
        "gcc -std=c99 -fsyntax-only " STRICT "#.c",
        "clang -std=c99 -fsyntax-only " STRICT "#.c",
        "g++ -x c++ -std=c++17 -fsyntax-only " STRICT "#.c"
    };
    Context c;
    Chunk k = open_chunk(&c, _i);
    for (size_t i = 0; i < sizeof compiler / sizeof *compiler; i++)
        assert_good(&k, compiler[i]);
    context_free(&c);
}
END_TEST

START_TEST(sanitizers_find_nothing)
{
    Context c;
    Chunk k = open_chunk(&c, _i);
    for (int f = 0; f < FILES; f++)
        write_main(&k, f);
    assert_good(&k, "clang -std=gnu11 -w -fsanitize=address,undefined -fno-sanitize-recover=all "
                    "-o run# run#.c -lm");
    assert_good(&k, "ASAN_OPTIONS=detect_leaks=0 ./run#");
    context_free(&c);
}
END_TEST

/* -- how long they are -- */

static const struct { const char *target; int direct, whole; } lengths[] = {
    {"generic", 2000, 2000}, {"x86-64-v2", 2020, 2360}, {"x86-64-v3", 2200, 2680}, {"x86-64-v4", 2000, 2640},
};

static int lines_of(Context *c, const char *target, const char *winograd)
{
    const char *path = format(c, "%s/net.c", scratch_folder("short"));
    Run r = run("build/cnnc graphs/resnet50.lua --target %s --winograd %s -o %s", target, winograd, path);
    ck_assert_msg(r.status == 0, "exit status %d\n%.3000s", r.status, r.err);
    run_free(&r);
    char *text = text_read(path);
    ck_assert_ptr_nonnull(text);
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    free(text);
    return lines;
}

/* ResNet-50's 53 convolutions have few geometries, and kernels of one geometry are one function;
 * Winograd's transforms and the tiles of its products come on top.  The aim is 2,000 lines for all:
 * where a number is larger it is what has been reached, rounded up to ten, and may only sink. */
START_TEST(deep_networks_stay_short)
{
    Context c;
    context_init(&c);
    ck_assert_int_lt(lines_of(&c, lengths[_i].target, "off"), lengths[_i].direct);
    ck_assert_int_lt(lines_of(&c, lengths[_i].target, "auto"), lengths[_i].whole);
    context_free(&c);
}
END_TEST

/* -- the JIT's code and the command around it -- */

START_TEST(valgrind_finds_nothing)
{
    Context c;
    context_init(&c);
    const char *folder = scratch_folder("generated");
    Network network = random_network(&c, base_seed() + (uint64_t)_i);
    text_write(format(&c, "%s/net.lua", folder), network.text);
    Run r = run("valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite "
                "build/cnnc bench %s/net.lua --train --batch %d --runs 1", folder, network.batch);
    ck_assert_msg(r.status == 0, "exit status %d\n%.3000s\n%s", r.status, r.err, network.text);
    run_free(&r);
    context_free(&c);
}
END_TEST

Suite *generated_suite(void)
{
    Suite *s = suite_create("generated");
    TCase *warnings = tcase_create("warnings"), *sanitizers = tcase_create("sanitizers");
    TCase *valgrind = tcase_create("valgrind"), *size = tcase_create("size");
    Context c;
    Network *network;
    context_init(&c);
    int chunks = (all_networks(&c, RANDOM, &network) + CHUNK - 1) / CHUNK;
    context_free(&c);
    tcase_set_timeout(sanitizers, 400);
    tcase_add_loop_test(warnings, no_compiler_warns, 0, chunks);
    tcase_add_loop_test(sanitizers, sanitizers_find_nothing, 0, chunks);
    tcase_add_loop_test(size, deep_networks_stay_short, 0, sizeof lengths / sizeof *lengths);
    tcase_add_loop_test(valgrind, valgrind_finds_nothing, 0, 4);
    suite_add_tcase(s, warnings);
    suite_add_tcase(s, sanitizers);
    suite_add_tcase(s, size);
    suite_add_tcase(s, valgrind);
    return s;
}
