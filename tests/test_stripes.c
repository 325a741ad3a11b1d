/* Kernels that compute their tensors a few rows at a time: values, memory, threads. */
#include "tests.h"
#include "trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANDOM = 120 };

static Program *compiled(Context *c, const Network *network, Optimize optimize, int threads)
{
    Graph *net = frontend_load_text(c, network->text, strlen(network->text), "net.lua", network->batch);
    Options options = {.batch = network->batch, .target = target_find("generic"), .optimize = optimize,
                       .threads = threads, .share_least = 1, .prefix = "net"};
    return compile(net, &options, NULL);
}

static int striped_kernels(const Function *f)
{
    int count = 0;
    for (int k = 0; k < f->kernels; k++)
        count += f->kernel[k]->start != NULL;
    return count;
}

typedef struct Try { Trial *trial; int striped; } Try;

/* Against the interpreter, and three threads against one. */
static void try_network(void *argument)
{
    Try *try = argument;
    Context *c = try->trial->oracle->program->c;
    Program *p = compiled(c, &try->trial->network, OPTIMIZE_MEMORY, 1);
    try->striped += striped_kernels(p->forward);
    Code *code = code_open(p, JIT_TCC);
    const char *message = trial_infer(try->trial, c, code);
    ck_assert_msg(!message, "%s", message);
    const Results results = trial_run(try->trial, c, code);
    code->close(code);
    code = code_open(compiled(c, &try->trial->network, OPTIMIZE_SIZE, 1), JIT_TCC);
    message = trial_infer(try->trial, c, code);
    ck_assert_msg(!message, "small code: %s", message);
    code->close(code);
    code = code_open(compiled(c, &try->trial->network, OPTIMIZE_MEMORY, 3), JIT_TCC);
    message = trial_same(try->trial, c, code, &results);
    ck_assert_msg(!message, "three threads: %s", message);
    code->close(code);
}

static void try_all(Network *network, int count, int least)
{
    int striped = 0;
    for (int i = 0; i < count; i++) {
        Trial t;
        if (trial_open(&t, &network[i])) {       /* no values away from ties: another suite tells */
            trial_close(&t);
            continue;
        }
        Try try = {&t, 0};
        if (!attempt(t.oracle->program->c, try_network, &try))
            ck_abort_msg("%s\n%s", t.oracle->program->c->message, network[i].text);
        striped += try.striped;
        trial_close(&t);
    }
    ck_assert_msg(striped >= least, "only %d kernels are in stripes", striped);
}

START_TEST(stripes_keep_the_values_of_random_networks)
{
    Context c;
    Network *network;
    context_init(&c);
    int count = all_networks(&c, RANDOM, &network);
    try_all(network, count, 12);
    context_free(&c);
}
END_TEST

#define NET(image, body) \
    "local x = input { " image ", name = 'image' }\n" body \
    "local y = x:global_avgpool():linear { 3 }\nreturn model { output = y, loss = y:cross_entropy() }\n"

/* Chains with windows of all kinds, branches of different reach, odd sizes. */
static const char *const chains[] = {
    NET("3, 13, 11", "x = x:conv2d { 8, kernel = 3, pad = 1 }:relu()\n"
        "     :conv2d { 4, kernel = 3, pad = 1 }:relu()\n"),
    NET("2, 17, 9", "local a = x:conv2d { 6, kernel = 3, pad = 1 }:relu()\n"
        "x = (a:conv2d { 6, kernel = 5, pad = 2 }:relu():conv2d { 6, kernel = 3, pad = 1 } + a):relu()\n"),
    NET("2, 18, 12", "local a = x:conv2d { 6, kernel = 3, pad = 1 }:relu()\n"
        "x = (a:conv2d { 8, kernel = 3, stride = 2, pad = 1 }:relu():conv2d { 8, kernel = 3, pad = 1 }\n"
        "     + a:conv2d { 8, kernel = 1, stride = 2 }):relu()\n"),
    NET("4, 16, 16", "x = x:conv2d { 24, kernel = 1 }:relu6()\n"
        "     :conv2d { 24, kernel = 3, pad = 1, groups = 24 }:relu6():conv2d { 4, kernel = 1 } + x\n"),
    NET("3, 20, 20", "x = x:conv2d { 6, kernel = 5 }:relu():maxpool { 2 }:conv2d { 8, kernel = 3 }:relu()\n"
        "     :maxpool { 3, stride = 2, pad = 1 }\n"),
    NET("3, 23, 10", "x = x:conv2d { 6, kernel = 3, pad = 2, dilation = 2 }:tanh()\n"
        "     :avgpool { 3, stride = 1, pad = 1 }:conv2d { 5, kernel = 3, stride = 3, pad = 1 }\n"),
    NET("3, 15, 9", "x = x:conv2d { 6, kernel = 3, pad = { 2, 0, 0, 2 } }:relu()\n"
        "     :conv2d { 6, kernel = { 4, 2 }, pad = { 0, 1, 3, 0 } }:sigmoid()\n"),
};
enum { CHAINS = sizeof chains / sizeof *chains };

START_TEST(stripes_keep_the_values_of_chains)
{
    for (int batch = 1; batch <= 2; batch++) {
        Network network = {chains[_i], batch, (uint64_t)_i + 1};
        try_all(&network, 1, 1);
    }
}
END_TEST

/* -- memory -- */

static const struct { const char *name; Optimize optimize; int most; } bounds[] = {
    {"lenet5", OPTIMIZE_SPEED, 16 << 10}, {"lenet5", OPTIMIZE_MEMORY, 16 << 10},
    {"resnet8", OPTIMIZE_MEMORY, 96 << 10}, {"cifar_cnn", OPTIMIZE_MEMORY, 112 << 10},
    {"mobilenet_v2", OPTIMIZE_MEMORY, 1500 << 10},       /* 6 MB without */
};
enum { BOUNDS = sizeof bounds / sizeof *bounds };

typedef struct Small { Context c; Network network; int bound; Program *program; } Small;

static void compile_small(void *argument)
{
    Small *s = argument;
    s->program = compiled(&s->c, &s->network, bounds[s->bound].optimize, 1);
}

START_TEST(workspaces_stay_below)
{
    Small s = {.bound = _i};
    char path[64];
    context_init(&s.c);
    snprintf(path, sizeof path, "graphs/%s.lua", bounds[_i].name);
    char *text = text_read(path);
    s.network = (Network){text, 1, 1};
    ck_assert_msg(attempt(&s.c, compile_small, &s), "%s", s.c.message);
    ck_assert_int_le(s.program->forward->workspace, bounds[_i].most);
    free(text);
    context_free(&s.c);
}
END_TEST

START_TEST(the_trade_is_told)
{
    const char *folder = scratch_folder("stripes");
    Run r = run("build/cnnc graphs/resnet8.lua --target generic --optimize memory -o %s/net.c && "
                "grep -c 'Optimised for memory: a workspace of' %s/net.c", folder, folder);
    ck_assert_msg(r.status == 0 && !strcmp(r.out, "1\n"), "%s%s", r.out, r.err);
    ck_assert_msg(strstr(r.err, "instead of 135296, 0 MACs computed again"), "%s", r.err);
    run_free(&r);
    r = run("build/cnnc graphs/resnet8.lua --target x86-64-v3 --optimize memory -o %s/no.c; echo $?; "
            "ls %s/no.c", folder, folder);
    ck_assert_msg(!strcmp(r.out, "1\n") && strstr(r.err, "scalar target"), "%s%s", r.out, r.err);
    run_free(&r);
}
END_TEST

/* -- code -- */

static long forward_bytes(const char *network, const char *options)
{
    const char *folder = scratch_folder("stripes");
    Run r = run("build/cnnc graphs/%s.lua --target generic %s -o %s/net.c && "
                "cc -std=gnu11 -O2 -ffunction-sections -c %s/net.c -o %s/net.o && "
                "size -A %s/net.o | awk '$1 ~ /^.text.*forward/ { sum += $2 } END { print sum }'",
                network, options, folder, folder, folder, folder);
    long bytes = atol(r.out);
    ck_assert_msg(bytes > 500, "%s%s", r.out, r.err);
    run_free(&r);
    return bytes;
}

/* The same compiler and flags; cortex-m4's figures are in docs/embedding.md. */
START_TEST(small_code_is_half)
{
    static const char *const network[] = {"lenet5", "resnet8", "cifar_cnn", "mobilenet_v2"};
    for (int i = 0; i < 4; i++) {
        long speed = forward_bytes(network[i], ""), small = forward_bytes(network[i], "--optimize size");
        ck_assert_msg(2 * small <= speed, "%s: %ld bytes of code instead of %ld", network[i], small, speed);
    }
}
END_TEST

Suite *stripes_suite(void)
{
    Suite *s = suite_create("stripes");
    TCase *values = tcase_create("values"), *memory = tcase_create("memory");
    tcase_set_timeout(values, 240);
    tcase_add_loop_test(values, stripes_keep_the_values_of_chains, 0, CHAINS);
    tcase_add_test(values, stripes_keep_the_values_of_random_networks);
    suite_add_tcase(s, values);
    tcase_set_timeout(memory, 60);
    tcase_add_loop_test(memory, workspaces_stay_below, 0, BOUNDS);
    tcase_add_test(memory, the_trade_is_told);
    tcase_add_test(memory, small_code_is_half);
    suite_add_tcase(s, memory);
    return s;
}
