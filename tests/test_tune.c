/* --tune and --schedule: shapes of leaves from a file. */
#define _GNU_SOURCE
#include "tests.h"

#include "../runtime/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CNNC "build/cnnc"

static const char *folder;

static const char net[] =
    "local x = input { 16, 20, 20 }\n"
    "local y = x:conv2d { 64, kernel = 3, pad = 1 }:relu():maxpool { 2 }:conv2d { 32, kernel = 1 }\n"
    "return model { output = y, name = 'tuned' }\n";

static void set_up(void)
{
    folder = scratch_folder("tune");
    char path[300];
    snprintf(path, sizeof path, "%s/net.lua", folder);
    text_write(path, net);
}

static void write_schedule(const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/net.schedule", folder);
    text_write(path, text);
}

static void expect(int status, const char *says, Run r)
{
    ck_assert_msg(r.status == status, "exit status %d, not %d: %s", r.status, status, r.err);
    const char *said = status ? r.err : r.out;
    ck_assert_msg(strstr(said, says), "not said: %s, but: %s", says, said);
    run_free(&r);
}

START_TEST(a_schedule_shapes_the_leaves)
{
    write_schedule("{\"target\": \"x86-64-v4\","
                   " \"kernels\": [{\"kernel\": \"relu1\", \"tile\": 5, \"vectors\": 1}]}");
    Run r = run("%s %s/net.lua --target x86-64-v4 -o -", CNNC, folder);
    ck_assert(strstr(r.out, "lanes oc 16; vectors oc 2; tile ow 10;"));
    run_free(&r);
    expect(0, "lanes oc 16; tile ow 5;",
           run("%s %s/net.lua --target x86-64-v4 --schedule %s/net.schedule -o -", CNNC, folder, folder));
}
END_TEST

static const struct { const char *text, *says; } wrong[] = {
    {"potato", "net.schedule:1: not a schedule"},
    {"[1, 2]", "expected {\"target\""},
    {"{\"target\": \"x86-64-v3\", \"kernels\": []}", "found x86-64-v3, expected x86-64-v4"},
    {"{\"target\": \"x86-64-v4\", \"kernels\": [{\"kernel\": \"relu1\"}]}", "row 1: expected"},
    {"{\"target\": \"x86-64-v4\", \"kernels\": [{\"kernel\": \"relu1\", \"tile\": 15, \"vectors\": 2}]}",
     "found tile 15, vectors 2"},
    {"{\"target\": \"x86-64-v4\", \"kernels\": [{\"kernel\": \"relu1\", \"tile\": 9999999, \"vectors\": 2}]}",
     "no leaf of that shape"},
    {"{\"target\": \"x86-64-v4\", \"kernels\": [{\"kernel\": \"fc\", \"tile\": 1, \"vectors\": 1}]}",
     "kernel \"fc\": tuned has none of that name"},
};

START_TEST(wrong_schedules_are_refused)
{
    write_schedule(wrong[_i].text);
    expect(1, wrong[_i].says,
           run("%s %s/net.lua --target x86-64-v4 --schedule %s/net.schedule -o -", CNNC, folder, folder));
}
END_TEST

START_TEST(misuse_is_told)
{
    expect(2, "--schedule FILE", run("%s bench %s/net.lua --tune", CNNC, folder));
    expect(2, "found --train", run("%s bench %s/net.lua --train --schedule x", CNNC, folder));
    expect(1, "missing.schedule",
           run("%s bench %s/net.lua --schedule %s/missing.schedule", CNNC, folder, folder));
}
END_TEST

static char *output_of(const char *options)
{
    Run r = run("%s predict %s/net.lua --input %s/x.npy --output %s/y.npy %s && cksum <%s/y.npy",
                CNNC, folder, folder, folder, options, folder);
    ck_assert_msg(r.status == 0, "%s", r.err);
    char *sum = strdup(r.out);
    run_free(&r);
    return sum;
}

/* The winners depend on the machine and the moment; what they compute does not. */
START_TEST(tuning_changes_no_bit)
{
    enum { SIDE = 20, CHANNELS = 16, COUNT = CHANNELS * SIDE * SIDE };
    static float value[COUNT];
    char path[300], options[400];
    for (int i = 0; i < COUNT; i++)
        value[i] = (float)(i * 7 % 11) / 11;
    Context c;
    context_init(&c);
    snprintf(path, sizeof path, "%s/x.npy", folder);
    npy_write(&c, path, &(Array){3, {CHANNELS, SIDE, SIDE}, COUNT, ARRAY_F32, value});
    context_free(&c);
    snprintf(options, sizeof options, "--tune --schedule %s/found", folder);
    char *plain = output_of(""), *tuned = output_of(options), *again = output_of(options + strlen("--tune "));
    ck_assert_str_eq(tuned, plain);
    ck_assert_str_eq(again, plain);
    snprintf(path, sizeof path, "%s/found", folder);
    char *found = text_read(path);
    ck_assert(strstr(found, "\"target\": ") && strstr(found, "\"kernels\": ["));
    free(found);
    free(plain);
    free(tuned);
    free(again);
}
END_TEST

Suite *tune_suite(void)
{
    Suite *suite = suite_create("tune");
    TCase *t = tcase_create("schedule");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_schedule_shapes_the_leaves);
    tcase_add_loop_test(t, wrong_schedules_are_refused, 0, (int)(sizeof wrong / sizeof *wrong));
    tcase_add_test(t, misuse_is_told);
    tcase_add_test(t, tuning_changes_no_bit);
    suite_add_tcase(suite, t);
    return suite;
}
