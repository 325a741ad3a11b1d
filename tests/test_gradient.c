/* The gradient rules against central differences, in double: every sample of every op,
 * and random networks.  Compiled code is then measured against these rules by the
 * differential tests. */
#include "tests.h"
#include "trial.h"

#include <stdlib.h>

enum { RANDOM = 300, CHUNK = 50, POINTS = 64 };

static const double most_ties = 0.1;       /* of the points of all networks of a test */

typedef struct Checking { const Trial *trial; Context *c; Verdict *verdict; int verdicts; } Checking;

static void check_network(void *argument)
{
    Checking *k = argument;
    const Trial *t = k->trial;
    GradientCheck check = {t->flat, t->network.seed, POINTS};
    Program *p = trial_compile(k->c, &t->network, true, target_find("generic"), NULL);
    k->verdicts = gradients_check(k->c, p->net, &check, &k->verdict);
}

/* Adds to the counts of points; false: some gradient is wrong. */
static bool check(const Network *network, Fault fault, int *points, int *ties, Verdict *wrong)
{
    Context c;
    Trial t;
    context_init(&c);
    c.fault = fault;
    Checking k = {.trial = &t, .c = &c};
    bool good = true;
    if (!trial_open(&t, network)) {
        ck_assert_msg(attempt(&c, check_network, &k), "%s\n%s", c.message, network->text);
        for (int i = 0; i < k.verdicts; i++) {
            *points += k.verdict[i].points;
            *ties += k.verdict[i].ties;
            if (k.verdict[i].points > 0 && !k.verdict[i].right) {
                good = false;
                *wrong = k.verdict[i];
                wrong->name = NULL;              /* goes with the context */
            }
        }
    }
    context_free(&c);
    trial_close(&t);
    return good;
}

START_TEST(gradients_are_slopes)
{
    Context c;
    Network *network;
    Verdict wrong;
    context_init(&c);
    int count = all_networks(&c, RANDOM, &network), points = 0, ties = 0;
    for (int i = _i * CHUNK; i < (_i + 1) * CHUNK && i < count; i++)
        ck_assert_msg(check(&network[i], FAULT_NONE, &points, &ties, &wrong), "relative error %g\n-- seed %llu, "
                      "batch %d\n%s", wrong.error, (unsigned long long)network[i].seed, network[i].batch,
                      network[i].text);
    ck_assert_int_gt(points, 0);
    ck_assert_msg(ties <= most_ties * (points + ties), "%d ties, %d points", ties, points);
    context_free(&c);
}
END_TEST

/* Mistakes in rules that code and reference share: only finite differences show them. */
START_TEST(wrong_rules_are_caught)
{
    static const Fault rules[] = {FAULT_FIRST_USE_ONLY, FAULT_NO_BIAS_GRADIENT};
    static const Network network = {
        "local x = input { 2, 5 }\nlocal y = x + x:conv1d { 2, kernel = 3, pad = 1 }:tanh()\n"
        "return model { output = y, loss = y:mse() }\n", 2, 5};
    Verdict wrong;
    int points = 0, ties = 0;
    ck_assert(check(&network, FAULT_NONE, &points, &ties, &wrong));
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        ck_assert(!check(&network, rules[i], &points, &ties, &wrong));
}
END_TEST

Suite *gradient_suite(void)
{
    Suite *s = suite_create("gradient");
    TCase *t = tcase_create("gradient");
    Context c;
    Network *network;
    context_init(&c);
    int count = all_networks(&c, RANDOM, &network);
    context_free(&c);
    tcase_add_loop_test(t, gradients_are_slopes, 0, (count + CHUNK - 1) / CHUNK);
    tcase_add_test(t, wrong_rules_are_caught);
    suite_add_tcase(s, t);
    return s;
}
