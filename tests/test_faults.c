/* Would the tests notice?  The compiler is broken on purpose, one mistake at a time,
 * and the trials that it passes otherwise must fail. */
#include "tests.h"
#include "trial.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANDOM = 40 };

static const struct { Fault fault; const char *name; } faults[] = {
    {FAULT_NONE, "none"},
    {FAULT_NO_ROTATION, "no rotation"},
    {FAULT_SWAP_HEIGHT_WIDTH, "height and width swapped"},
    {FAULT_PAD_OFF_BY_ONE, "padding off by one"},
    {FAULT_CEIL_FOR_FLOOR, "ceil for floor"},
    {FAULT_NO_BIAS_GRADIENT, "no gradient of the bias"},
    {FAULT_GAP_NOT_CLEARED, "gap not cleared"},
    {FAULT_REUSED_TOO_EARLY, "buffer reused too early"},
    {FAULT_NO_CLIP, "borders not clipped"},
    {FAULT_FIRST_USE_ONLY, "gradient of the first use only"},
    {FAULT_POOL_INDEX, "wrong tap of a pool"},
    {FAULT_GROUP_OFFSET, "first group's channels for all"},
    {FAULT_DILATION_IGNORED, "dilation ignored"},
    {FAULT_TAIL_LOST, "tail lost"},
    {FAULT_BIASED_VARIANCE, "biased variance"},
    {FAULT_COUNT_PAD, "padding counted wrongly"},
    {FAULT_FOLD_BIAS, "bias not folded"},
    {FAULT_MOMENTUM, "momentum forgotten"},
};

typedef struct Attempted { Context c; const Trial *trial; const char *message; } Attempted;

static void try_network(void *argument)
{
    Attempted *a = argument;
    for (int train = 0; train < 2 && !a->message; train++) {
        Program *p = trial_compile(&a->c, &a->trial->network, train, target_find("generic"), NULL, 1);
        Code *code = code_open(p, JIT_TCC);
        a->message = (train ? trial_train : trial_infer)(a->trial, &a->c, code);
        code->close(code);
    }
}

/* Whether the network compiled with the fault behaves as without. */
static bool passes(const Network *network, Fault fault)
{
    Trial t;
    Attempted a = {.trial = &t};
    const char *unstable = trial_open(&t, network);
    context_init(&a.c);
    a.c.fault = fault;
    bool good = unstable || (attempt(&a.c, try_network, &a) && !a.message);
    context_free(&a.c);
    trial_close(&t);
    return good;
}

/* In a process of its own: what a broken compiler makes may crash. */
static bool all_pass(const Network *network, int count, Fault fault)
{
    fflush(NULL);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        for (int i = 0; i < count; i++)
            if (!passes(&network[i], fault))
                _exit(1);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

START_TEST(faults_are_caught)
{
    Context c;
    Network *network;
    context_init(&c);
    int count = all_networks(&c, RANDOM, &network);
    bool good = all_pass(network, count, faults[_i].fault);
    ck_assert_msg(good == (faults[_i].fault == FAULT_NONE), "%s: %s", faults[_i].name,
                  good ? "not caught" : "differs");
    context_free(&c);
}
END_TEST

START_TEST(every_fault_is_tried)
{
    for (int fault = FAULT_NONE; fault <= FAULT_MOMENTUM; fault++)
        ck_assert_int_eq(faults[fault].fault, fault);
    ck_assert_int_eq(sizeof faults / sizeof *faults, FAULT_MOMENTUM + 1);
}
END_TEST

Suite *faults_suite(void)
{
    Suite *s = suite_create("faults");
    TCase *t = tcase_create("faults");
    tcase_add_loop_test(t, faults_are_caught, 0, sizeof faults / sizeof *faults);
    tcase_add_test(t, every_fault_is_tried);
    suite_add_tcase(s, t);
    return s;
}
