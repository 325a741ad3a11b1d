/* Training follows PyTorch's, step by step: the same weights, the same batches, the same losses.
 * PyTorch's side was computed once, by the scripts in tests/pytorch/. */
#include "files.h"
#include "tests.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FASHION "/usr/share/datasets/fashion-mnist"

enum { STEPS = 100 };
static const double NEAR = 1e-3;                 /* relative */

static void expect_run(Run r)
{
    ck_assert_msg(r.status == 0 && !*r.err, "status %d: %s%s", r.status, r.err, r.out);
    run_free(&r);
}

START_TEST(losses_are_pytorchs)
{
    if (access(FASHION, R_OK) != 0) {
        printf("skipped: losses_are_pytorchs: %s is not there\n", FASHION);
        return;
    }
    const char *log = in_folder("log.csv");
    expect_run(run("build/cnnc run tests/pytorch/curve.lua %s %s", in_folder("start.safetensors"), log));
    char *found = text_read(log), *expected = text_read("tests/data/pytorch/lenet5_losses.txt");
    ck_assert(found && expected);
    char *line = strchr(found, '\n'), *next = expected;           /* behind the title */
    for (int step = 1; step <= STEPS; step++) {
        double loss;
        ck_assert_msg(line && sscanf(line + 1, "%*d,%*d,%lf", &loss) == 1, "step %d is missing", step);
        double pytorchs = strtod(next, &next);
        ck_assert_msg(fabs(loss - pytorchs) <= NEAR * pytorchs,
                      "step %d: found a loss of %.7g, expected %.7g",
                      step, loss, pytorchs);
        line = strchr(line + 1, '\n');
    }
    ck_assert_str_eq(line, "\n");
    ck_assert_str_eq(next, "\n");
    free(found);
    free(expected);
}
END_TEST

/* Lines such as "batchnorm1.running_mean 0.25 0.5": numbers may differ a little, names may not. */
START_TEST(running_statistics_are_pytorchs)
{
    Run r = run("build/cnnc run tests/pytorch/running.lua %s", in_folder(""));
    ck_assert_msg(r.status == 0 && !*r.err, "status %d: %s", r.status, r.err);
    char *expected = text_read("tests/data/pytorch/resnet8_statistics.txt");
    ck_assert_ptr_nonnull(expected);
    char *found_at = r.out, *expected_at = expected;
    for (char *f, *e; (f = strsep(&found_at, " \n")) && (e = strsep(&expected_at, " \n"));) {
        char *end;
        double pytorchs = strtod(e, &end), number = strtod(f, NULL);
        if (end == e || *end)
            ck_assert_str_eq(f, e);
        else
            ck_assert_msg(fabs(number - pytorchs) <= NEAR * pytorchs, "found %s in place of %s", f, e);
    }
    ck_assert(!found_at && !expected_at);
    run_free(&r);
    free(expected);
}
END_TEST

Suite *curve_suite(void)
{
    Suite *s = suite_create("curve");
    TCase *t = tcase_create("curve");
    tcase_add_checked_fixture(t, files_setup, files_teardown);
    tcase_add_test(t, losses_are_pytorchs);
    tcase_add_test(t, running_statistics_are_pytorchs);
    suite_add_tcase(s, t);
    return s;
}
