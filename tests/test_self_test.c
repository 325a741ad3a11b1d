/* --self-test: the function finds nothing in good code, and something in code that is not. */
#define _GNU_SOURCE
#include "embed.h"

#include <stdlib.h>
#include <string.h>

static const char constant[] =
    "#include <stdio.h>\n#include \"net.h\"\n"
    "static _Alignas(NET_ALIGNMENT) char workspace[NET_SELF_TEST_BYTES];\n"
    "int main(void)\n{\n    printf(\"%d\\n\", net_self_test(workspace));\n    return 0;\n}\n";

static const char drawn[] =
    "#include <stdio.h>\n#include \"net.h\"\n"
    "static _Alignas(NET_ALIGNMENT) char workspace[NET_SELF_TEST_BYTES];\n"
    "static _Alignas(NET_ALIGNMENT) net_params params;\n"
    "int main(void)\n{\n    net_init(&params, SEED);\n"
    "    printf(\"%d\\n\", net_self_test(&params, workspace));\n    return 0;\n}\n";

static int result(const char *folder, const char *flags)
{
    char *text = output_of("cd %s && gcc -std=gnu11 -O2 -Wall -Wextra -Wpedantic -Wconversion -Wshadow "
                           "-Werror %s main.c net.c -o main -lm && ./main", folder, flags);
    int value = atoi(text);
    free(text);
    return value;
}

static const struct { const char *network, *options, *flags; bool constants; } good[] = {
    {"x", "--target generic", "", true},
    {"lenet5", "--target generic --seed 7", "-DSEED=7", false},
    {"lenet5", "--target x86-64-v2 --batch 3", "-DSEED=0", false},
    {"resnet8", "--target generic --winograd f4 --train", "-DSEED=0", false},
    {"pointwise", "--target generic --seed 18446744073709551615", "-DSEED=18446744073709551615u", false},
};

static const char *build(int i)
{
    const char *folder = scratch_folder("self_test");
    free(output_of("build/cnnc graphs/%s.lua %s --self-test 3 --name net -o %s/net.c", good[i].network,
                   good[i].options, folder));
    char *path;
    ck_assert_int_ge(asprintf(&path, "%s/main.c", folder), 0);
    text_write(path, good[i].constants ? constant : drawn);
    free(path);
    return folder;
}

START_TEST(good_code_passes)
{
    ck_assert_int_eq(result(build(_i), good[_i].flags), 0);
}
END_TEST

/* Other parameters than the interpreter's; and an infinity, which makes no number of the outputs. */
START_TEST(other_weights_fail)
{
    const char *folder = build(1);
    ck_assert_int_eq(result(folder, "-DSEED=8"), 1);
    free(output_of("sed -i 's/net_init(&params, SEED);/& params.conv1_bias[0] = 1.0f \\/ 0.0f;/' %s/main.c",
                   folder));
    ck_assert_int_eq(result(folder, "-DSEED=7"), 1);
}
END_TEST

START_TEST(lost_signs_are_found)
{
    const char *folder = build(0);
    free(output_of("sed -i '/net_weights = {/,/};/s/-0x/0x/' %s/net.c", folder));
    ck_assert_int_eq(result(folder, ""), 1);
}
END_TEST

START_TEST(rounded_parameters_are_refused)
{
    const char *folder = scratch_folder("self_test");
    char *script;
    ck_assert_int_ge(asprintf(&script, "%s/save.lua", folder), 0);
    text_write(script, "load_model(arg[1]):compile { batch = 1 }:save(arg[2])\n");
    free(output_of("build/cnnc run %s graphs/lenet5.lua %s/net.safetensors", script, folder));
    free(script);
    Run r = run("build/cnnc graphs/lenet5.lua --weights %s/net.safetensors --self-test 1 --store f16 -o -",
                folder);
    ck_assert_int_eq(r.status, 2);
    ck_assert_str_eq(r.out, "");
    ck_assert_ptr_nonnull(strstr(r.err, "--self-test: its results are those of unrounded parameters, "
                                        "found --store f16"));
    run_free(&r);
}
END_TEST

Suite *self_test_suite(void)
{
    Suite *s = suite_create("self_test");
    TCase *t = tcase_create("self_test");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, good_code_passes, 0, sizeof good / sizeof *good);
    tcase_add_test(t, other_weights_fail);
    tcase_add_test(t, lost_signs_are_found);
    tcase_add_test(t, rounded_parameters_are_refused);
    suite_add_tcase(s, t);
    return s;
}
