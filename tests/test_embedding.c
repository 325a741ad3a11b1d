/* What a program gets that takes a generated file in: which symbols it wants and has, where its
 * parts can be put, how compilers for other processors like it. */
#define _GNU_SOURCE
#include "embed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRICT \
    "-Wall -Wextra -Wpedantic -Wconversion -Wdouble-promotion -Wshadow -Wundef -Wcast-align -Werror "

/* -- warnings -- */

START_TEST(no_cross_compiler_warns)
{
    static const char *const compiler[] = {
        "clang -x c++ -std=c++17 -fsyntax-only " STRICT "all.c",
        "aarch64-linux-gnu-gcc -std=c99 -fsyntax-only " STRICT "all.c",
        "arm-linux-gnueabihf-gcc -std=c99 -fsyntax-only " STRICT "all.c",
        "riscv64-linux-gnu-gcc -std=c99 -fsyntax-only " STRICT "all.c",
        "arm-none-eabi-gcc -mcpu=cortex-m4 -std=c99 -fsyntax-only " STRICT "all.c",
    };
    Context c;
    Embedded e = embed_samples(&c, "embedding", "generic");
    for (size_t i = 0; i < sizeof compiler / sizeof *compiler; i++) {
        char *found = output_of("command -v %.*s || true", (int)strcspn(compiler[i], " "), compiler[i]);
        if (*found)
            free(output_of("cd %s && %s", e.folder, compiler[i]));
        else
            printf("skipped: %.*s is not installed\n", (int)strcspn(compiler[i], " "), compiler[i]);
        free(found);
    }
    context_free(&c);
}
END_TEST

/* -- symbols -- */

/* Whether a symbol stands, `as code`, in the list of docs/embedding.md. */
static bool listed(const char *document, const char *symbol)
{
    static const char begin[] = "<!-- undefined symbols -->", end[] = "<!-- end of undefined symbols -->";
    const char *from = strstr(document, begin), *to = strstr(document, end);
    ck_assert_msg(from && to, "docs/embedding.md: the marks around the list of symbols are missing");
    char *code;
    ck_assert_int_ge(asprintf(&code, "`%s`", symbol), 0);
    const char *hit = strstr(from, code);
    free(code);
    return hit && hit < to;
}

static void check_undefined(const char *symbols)
{
    char *document = text_read("docs/embedding.md"), *copy = strdup(symbols), *rest = copy, *line;
    ck_assert_ptr_nonnull(document);
    while ((line = strsep(&rest, "\n")) && *line)
        ck_assert_msg(listed(document, line), "%s is wanted, but not in docs/embedding.md's list", line);
    free(copy);
    free(document);
}

/* Constants with addresses in them would be written by a loader: not so without -fPIE. */
START_TEST(wants_listed_symbols_and_writes_none)
{
    Context c;
    Embedded e = embed_samples(&c, "embedding", "generic");
    free(output_of("cd %s && gcc -std=c99 -O2 -fno-pie " STRICT "-c all.c", e.folder));
    char *wanted = output_of("nm -u -P %s/all.o | cut -d' ' -f1", e.folder);
    ck_assert_msg(strstr(wanted, "expf\n") && strstr(wanted, "pow\n"), "found only %s", wanted);
    check_undefined(wanted);
    char *writable = output_of("nm -P %s/all.o | awk '$2 ~ /^[bBdDcC]$/'", e.folder);
    ck_assert_str_eq(writable, "");
    char *code = output_of("nm -P %s/all.o | awk '$2 ~ /^[tT]$/' | wc -l", e.folder);
    ck_assert_int_gt(atoi(code), 1000);          /* nm has seen something */
    free(wanted), free(writable), free(code);
    context_free(&c);
}
END_TEST

START_TEST(wants_the_same_on_a_microcontroller)
{
    Context c;
    Embedded e = embed_samples(&c, "embedding", "generic");
    free(output_of("cd %s && arm-none-eabi-gcc -mcpu=cortex-m4 -std=c99 -O2 " STRICT "-c few.c", e.folder));
    char *wanted = output_of("arm-none-eabi-nm -u -P %s/few.o | cut -d' ' -f1 | grep -v ^__aeabi_",
                             e.folder);          /* those are the compiler's own */
    ck_assert_ptr_nonnull(strstr(wanted, "expf\n"));
    check_undefined(wanted);
    free(wanted);
    context_free(&c);
}
END_TEST

/* -- places -- */

START_TEST(builds_place_code_and_constants)
{
    Context c;
    context_init(&c);
    const char *folder = scratch_folder("embedding");
    free(output_of("build/cnnc graphs/x.lua --target generic -o %s/x.c", folder));
    free(output_of("cd %s && gcc -std=c99 -O2 -Wall -Wextra -Werror "
                   "'-DX_CODE_SECTION=__attribute__((section(\".fast\")))' "
                   "'-DX_WEIGHTS_SECTION=__attribute__((section(\".far\")))' -DX_RESTRICT= -c x.c", folder));
    char *placed = output_of("cd %s && objdump -t x.o", folder);
    static const struct { const char *symbol, *section; } want[] = {
        {" x_forward\n", ".fast"}, {" x_weights\n", ".far"}, {" x_pack\n", ".text"}, {" x_init\n", ".text"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char *at = strstr(placed, want[i].symbol), *line = at;
        ck_assert_msg(at != NULL, "no%s in\n%s", want[i].symbol, placed);
        while (line > placed && line[-1] != '\n')
            line--;
        *at = 0;
        ck_assert_msg(strstr(line, want[i].section), "%s is not in %s", line, want[i].section);
        *at = ' ';
    }
    free(placed);
    context_free(&c);
}
END_TEST

Suite *embedding_suite(void)
{
    Suite *s = suite_create("embedding");
    TCase *t = tcase_create("embedding");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, no_cross_compiler_warns);
    tcase_add_test(t, wants_listed_symbols_and_writes_none);
    tcase_add_test(t, wants_the_same_on_a_microcontroller);
    tcase_add_test(t, builds_place_code_and_constants);
    suite_add_tcase(s, t);
    return s;
}
