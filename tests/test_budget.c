/* Limits on workspace, parameters and code, and the picture of what is alive. */
#include "tests.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char net[] =
    "local x = input { 1, 12, 12, name = 'image' }\n"
    "x = x:conv2d { 4, kernel = 3, pad = 1 }:relu():conv2d { 8, kernel = 3, pad = 1 }:relu()\n"
    "local y = x:global_avgpool():linear { 3, name = 'scores' }\n"
    "return model { output = y, loss = y:cross_entropy(), name = 'small' }\n";

static const char *folder;

static void set_up(void)
{
    char path[300];
    folder = scratch_folder("budget");
    snprintf(path, sizeof path, "%s/net.lua", folder);
    text_write(path, net);
}

static long long figure(const char *key)
{
    Run r = run("build/cnnc summary %s/net.lua --json --target generic", folder);
    json_t *summary = json_loads(r.out, 0, NULL);
    ck_assert_msg(summary != NULL, "%s", r.err);
    long long value = json_integer_value(json_object_get(summary, key));
    json_decref(summary);
    run_free(&r);
    return value;
}

/* At the limit it compiles; a byte less, and nothing is written and the message says why. */
static void expect_limit(const char *option, long long bytes, const char *says)
{
    Run r = run("build/cnnc %s/net.lua --target generic --%s %lld -o %s/net.c", folder, option, bytes,
                folder);
    ck_assert_msg(r.status == 0, "%s %lld: %s", option, bytes, r.err);
    run_free(&r);
    r = run("rm %s/net.c %s/net.h && build/cnnc %s/net.lua --target generic --%s %lld -o %s/net.c", folder,
            folder, folder, option, bytes - 1, folder);
    ck_assert_msg(r.status == 1 && strstr(r.err, says) && strstr(r.err, option), "%s: %s", option, r.err);
    run_free(&r);
    r = run("ls %s", folder);
    ck_assert_str_eq(r.out, "net.lua\n");
    run_free(&r);
}

START_TEST(workspace_is_limited)
{
    expect_limit("max-workspace", figure("workspace_bytes"), "at conv2 + relu2: relu2");
}
END_TEST

START_TEST(parameters_are_limited)
{
    expect_limit("max-params", figure("param_bytes"), "largest are conv2_weight 1152, conv1_weight 144");
}
END_TEST

/* What a compiler makes of the text: the same number as binutils' size. */
START_TEST(code_is_limited)
{
    Run r = run("build/cnnc %s/net.lua --target generic -o %s/net.o && size -A %s/net.o"
                " | awk '$1 ~ /^.text/ { sum += $2 } END { print sum }' && rm %s/net.o %s/net.h",
                folder, folder, folder, folder, folder);
    long long bytes = atoll(r.out);
    ck_assert_msg(bytes > 500, "%s%s", r.out, r.err);
    run_free(&r);
    expect_limit("max-code", bytes, "largest functions are small_forward");
}
END_TEST

START_TEST(limits_take_suffixes)
{
    static const struct { const char *text; int status; } limit[] = {
        {"1M", 0}, {"64K", 0}, {"1K", 1}, {"100000", 0}, {"0", 2}, {"K", 2}, {"1k", 2}, {"1KB", 2}, {"-1", 2},
        {"9223372036854775807", 0}, {"9223372036854775808", 2}, {"9007199254740992K", 2}
    };
    for (size_t i = 0; i < sizeof limit / sizeof *limit; i++) {
        Run r = run("build/cnnc %s/net.lua --max-workspace %s -o %s/net.c", folder, limit[i].text, folder);
        ck_assert_msg(r.status == limit[i].status, "%s: %d: %s", limit[i].text, r.status, r.err);
        run_free(&r);
    }
}
END_TEST

/* A line a kernel; the longest bar belongs to the most bytes; a tensor that is alive is named. */
START_TEST(memory_is_drawn)
{
    Run r = run("build/cnnc summary %s/net.lua --memory --train --target generic", folder);
    ck_assert_int_eq(r.status, 0);
    long long most = 0, bytes;
    int longest = 0, longest_of_most = 0, lines = 0;
    for (const char *line = r.out; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        const char *bar = strchr(line, '#'), *end = strchr(line, '\n');
        if (!strncmp(line, "backward", 8))
            break;
        if (!bar || bar > end)
            continue;
        int length = (int)strspn(bar, "#");
        const char *number = bar - 3;            /* the last digit */
        while (number[-1] != ' ')
            number--;
        bytes = atoll(number);
        longest = length > longest ? length : longest;
        if (bytes > most) {
            most = bytes;
            longest_of_most = length;
        }
        lines++;
    }
    ck_assert_int_ge(lines, 3);
    ck_assert_int_eq(longest, longest_of_most);
    ck_assert_int_le(most, figure("workspace_bytes"));
    ck_assert(strstr(r.out, "relu2, relu1") || strstr(r.out, "relu2, relu1_rows"));
    ck_assert(strstr(r.out, "backward: "));
    run_free(&r);
}
END_TEST

Suite *budget_suite(void)
{
    Suite *s = suite_create("budget");
    TCase *t = tcase_create("limits");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, workspace_is_limited);
    tcase_add_test(t, parameters_are_limited);
    tcase_add_test(t, code_is_limited);
    tcase_add_test(t, limits_take_suffixes);
    tcase_add_test(t, memory_is_drawn);
    suite_add_tcase(s, t);
    return s;
}
