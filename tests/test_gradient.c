/* The gradient rules against central differences, in double: every sample of every op,
 * and random networks.  Compiled code is then measured against these rules by the
 * differential tests. */
#include "tests.h"
#include "trial.h"

enum { RANDOM = 300, CHUNK = 50, POINTS = 64 };

static const double most_ties = 0.02;      /* of the points of all networks of a test */

/* Over all networks so far; error: of the last gradient that was wrong. */
typedef struct Tally { int points, ties; double error; } Tally;

typedef struct Checking { const Trial *trial; Context *c; Tally *tally; bool right; } Checking;

static void check_gradients(void *argument)
{
    Checking *k = argument;
    const Trial *t = k->trial;
    Program *p = trial_compile(k->c, &t->network, true, target_find("generic"), NULL, 1);
    Verdict *verdict;
    int count = gradients_check(k->c, p->net, &(GradientCheck){t->flat, t->network.seed, POINTS}, &verdict);
    for (int i = 0; i < count; i++) {
        k->tally->points += verdict[i].points;
        k->tally->ties += verdict[i].ties;
        if (verdict[i].points > 0 && !verdict[i].right) {
            k->right = false;
            k->tally->error = verdict[i].error;
        }
    }
}

/* Whether all gradients that the compiler, with a fault, derives are right. */
static bool gradients_right(const Network *network, Fault fault, Tally *tally)
{
    Context c;
    Trial t;
    Checking k = {.trial = &t, .c = &c, .tally = tally, .right = true};
    context_init(&c);
    c.fault = fault;
    if (!trial_open(&t, network))
        ck_assert_msg(attempt(&c, check_gradients, &k), "%s\n%s", c.message, network->text);
    context_free(&c);
    trial_close(&t);
    return k.right;
}

START_TEST(gradients_are_slopes)
{
    Context c;
    Network *network;
    Tally tally = {0};
    context_init(&c);
    int count = all_networks(&c, RANDOM, &network);
    for (int i = _i * CHUNK; i < (_i + 1) * CHUNK && i < count; i++)
        ck_assert_msg(gradients_right(&network[i], FAULT_NONE, &tally),
                      "relative error %g\n-- seed %llu, batch %d\n%s", tally.error,
                      (unsigned long long)network[i].seed, network[i].batch, network[i].text);
    ck_assert_int_gt(tally.points, 0);
    ck_assert_msg(tally.ties <= most_ties * (tally.points + tally.ties), "%d ties, %d points", tally.ties,
                  tally.points);
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
    Tally tally = {0};
    ck_assert(gradients_right(&network, FAULT_NONE, &tally));
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        ck_assert(!gradients_right(&network, rules[i], &tally));
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
