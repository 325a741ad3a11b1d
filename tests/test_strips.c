/* The host's strips: its functions against the C library's in double, and strips of awkward
 * lengths, strides and rows against the reference interpreter, at every level of x86-64. */
#include "tests.h"
#include "trial.h"

#include <math.h>
#include <string.h>

#include "../compiler/print/print.h"

typedef void Run_strip(const cnnc_strip *g, const size_t *at, const int *count);

static Run_strip *find_strips(const Target *target)
{
    for (const HostLeaf *l = host_strips(target); l && l->name; l++)
        if (!strcmp(l->name, "cnnc_strips"))
            return (Run_strip *)(uintptr_t)l->address;
    return NULL;
}

/* to[i] = fn(from[i]) */
static void apply(Run_strip *run, int fn, float *to, const float *from, int n)
{
    static const int pitch[] = {0, 1, 0, 1};     /* of rows, of elements */
    const cnnc_step step = {fn, STRIP_VECTOR | 7, 1, 0, 0, 0};
    const cnnc_strip strip = {2, 0, 0, 0, STRIP, 0, 0, 1, pitch, &step};
    run(&strip, (size_t[]){(size_t)from, (size_t)to}, (int[]){1, n});
}

/* -- functions -- */

enum { BATCH = 4096 };

static const struct { int fn; const char *name; double (*exact)(double); } functions[] = {
    {STRIP_EXP, "exp", exp}, {STRIP_LOG, "log", log}, {STRIP_TANH, "tanh", tanh}, {STRIP_SQRT, "sqrt", sqrt},
};

/* The distance in units of the last place of a float near the exact value. */
static double ulps(float found, double exact)
{
    if ((float)exact == found || (isnan(exact) && isnan(found)))
        return 0;
    int exponent;
    frexp(exact, &exponent);
    double unit = ldexp(1, exponent < -125 ? -149 : exponent - 24);
    return fabs((double)found - exact) / unit;
}

static void check_batch(const Target *target, Run_strip *run, int f, const float *x)
{
    float y[BATCH];
    apply(run, functions[f].fn, y, x, BATCH);
    for (int i = 0; i < BATCH; i++) {
        double error = ulps(y[i], functions[f].exact((double)x[i]));
        ck_assert_msg(error < 2, "%s: %s(%a) = %a: %g units off", target->name, functions[f].name,
                      (double)x[i], (double)y[i], error);
    }
}

/* Every exponent, both signs, infinities and what is not a number. */
START_TEST(functions_are_exact_to_two_units)
{
    int targets;
    const Target *target = target_list(&targets);
    float x[BATCH];
    for (int t = 0; t < targets; t++) {
        Run_strip *run = target_runs(&target[t]) ? find_strips(&target[t]) : NULL;
        for (uint32_t high = 0; run && high < 512; high++) {
            for (uint32_t i = 0; i < BATCH; i++) {
                uint32_t bits = high << 23 | (i * 2053 & 0x007FFFFF);
                memcpy(&x[i], &bits, sizeof bits);
            }
            check_batch(&target[t], run, _i, x);
        }
    }
}
END_TEST

/* However threads divide a strip: an element's place in it does not count. */
START_TEST(places_do_not_change_bits)
{
    enum { LENGTH = 100 };
    int targets;
    const Target *target = target_list(&targets);
    float x[LENGTH], whole[LENGTH], part[LENGTH];
    for (int i = 0; i < LENGTH; i++)
        x[i] = random_unit(1, 2, (uint32_t)i) * 8 - (functions[_i].fn == STRIP_LOG ? 0 : 4);
    for (int t = 0; t < targets; t++) {
        Run_strip *run = target_runs(&target[t]) ? find_strips(&target[t]) : NULL;
        if (!run)
            continue;
        apply(run, functions[_i].fn, whole, x, LENGTH);
        for (int from = 0; from < LENGTH; from++) {
            apply(run, functions[_i].fn, part, x + from, LENGTH - from);
            ck_assert_mem_eq(part, whole + from, sizeof *part * (size_t)(LENGTH - from));
        }
    }
}
END_TEST

/* -- nests -- */

static const char *const networks[] = {
    "return input { 3, 7, 171 }:tanh()",         /* longer than a strip, by rows and pieces of rows */
    "return input { 2, 3, 517 }:sigmoid()",
    "return input { 1, 1, 1 }:exp()",
    "return input { 5, 9, 13 }:maxpool { 3, stride = 2, pad = 1 }",
    "return input { 2, 5, 37 }:maxpool { { 2, 5 }, stride = { 1, 3 }, pad = { 1, 2 } }",
    "return input { 3, 11, 19 }:avgpool { { 3, 4 }, stride = { 3, 2 }, pad = 1 }",
    "return input { 4, 6, 33 }:batchnorm{}:leaky_relu { 0.2 }:dropout { 0.3 }",
    "return input { 17, 5, 3 }:batchnorm{}:relu6()",
    "return input { 23 }:softmax()",
    "return input { 7, 61 }:maxpool { 4, stride = 3 }:clip { -0.5, 0.5 }",
    "return input { 3, 9, 10 }:global_avgpool()",
    "return input { 2, 6, 600 }:conv2d { 3, kernel = { 3, 5 }, stride = { 1, 3 }, pad = 2 }",
};

typedef struct Attempted {
    Context c;
    const Trial *trial;
    const Target *target;
    const char *message;
} Attempted;

static Results run_code(Attempted *a, bool train, int threads, const Results *expected)
{
    Program *p = trial_compile(&a->c, &a->trial->network, train, a->target, NULL, threads);
    Code *code = code_open(p, JIT_TCC);
    Results found = {0};
    if (expected)
        a->message = trial_same(a->trial, &a->c, code, expected);
    else
        a->message = (train ? trial_train : trial_infer)(a->trial, &a->c, code);
    if (!a->message && !expected)
        found = trial_run(a->trial, &a->c, code);
    code->close(code);
    return found;
}

static void try_network(void *argument)
{
    Attempted *a = argument;
    for (int train = 0; train < 2 && !a->message; train++) {
        Results one = run_code(a, train, 1, NULL);
        for (int threads = 2; threads <= 3 && !a->message; threads++)
            run_code(a, train, threads, &one);
    }
}

START_TEST(awkward_strips_are_right)
{
    int targets;
    const Target *target = target_list(&targets);
    Context c;
    context_init(&c);
    const char *text = format(&c, "local function net() %s end\nlocal y = net()\n"
                                  "return model { output = y, loss = y:mse() }\n", networks[_i]);
    Trial trial;
    const char *unstable = trial_open(&trial, &(Network){text, 3, 1});
    ck_assert_msg(!unstable, "%s", unstable);
    for (int i = 0; i < targets; i++) {
        Attempted a = {.trial = &trial, .target = &target[i]};
        if (!target_runs(&target[i]))
            continue;
        context_init(&a.c);
        bool done = attempt(&a.c, try_network, &a);
        ck_assert_msg(done && !a.message, "%s: %s", target[i].name, done ? a.message : a.c.message);
        context_free(&a.c);
    }
    trial_close(&trial);
    context_free(&c);
}
END_TEST

Suite *strips_suite(void)
{
    Suite *s = suite_create("strips");
    TCase *t = tcase_create("strips");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, functions_are_exact_to_two_units, 0, sizeof functions / sizeof *functions);
    tcase_add_loop_test(t, places_do_not_change_bits, 0, sizeof functions / sizeof *functions);
    tcase_add_loop_test(t, awkward_strips_are_right, 0, sizeof networks / sizeof *networks);
    suite_add_tcase(s, t);
    return s;
}
