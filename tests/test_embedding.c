/* What a program gets that takes a generated file in: which symbols it wants and has, where its
 * parts can be put, how compilers for other processors like it. */
#define _GNU_SOURCE
#include "tests.h"
#include "trial.h"

#include <stdlib.h>
#include <string.h>

#define STRICT "-Wall -Wextra -Wpedantic -Wconversion -Wdouble-promotion -Wshadow -Wundef -Wcast-align -Werror "

/* -- files -- */

typedef struct Networks { Context *c; const char *folder; } Networks;

/* "all.c" includes the file of every sample, for inference and for training, "few.c" every fifth's. */
static void write_networks(void *argument)
{
    Networks *n = argument;
    Network *network;
    Text all = {.c = n->c}, few = {.c = n->c};
    for (int i = 0, count = sample_networks(n->c, &network); i < count; i++)
        for (int train = 0; train < 2; train++) {
            Program *p = trial_compile(n->c, &network[i], train, target_find("generic"),
                                       format(n->c, "%s%d", train ? "train" : "infer", i), 1);
            const char *header = format(n->c, "%s.h", p->prefix);
            text_write(format(n->c, "%s/%s.c", n->folder, p->prefix), print_source(p, header, PRINT_FILE));
            text_write(format(n->c, "%s/%s", n->folder, header), print_header(p));
            text_add(&all, "#include \"%s.c\"\n", p->prefix);
            if (i % 5 == 0)
                text_add(&few, "#include \"%s.c\"\n", p->prefix);
        }
    text_write(format(n->c, "%s/all.c", n->folder), all.data);
    text_write(format(n->c, "%s/few.c", n->folder), few.data);
}

static Networks open_networks(Context *c)
{
    context_init(c);
    Networks n = {c, scratch_folder("embedding")};
    ck_assert_msg(attempt(c, write_networks, &n), "%s", c->message);
    return n;
}

/* What a command prints that must succeed; freed by the caller. */
static char *output_of(const char *command, ...) __attribute__((format(printf, 1, 2)));
static char *output_of(const char *command, ...)
{
    char *line;
    va_list args;
    va_start(args, command);
    ck_assert_int_ge(vasprintf(&line, command, args), 0);
    va_end(args);
    Run r = run("%s", line);
    ck_assert_msg(r.status == 0, "%s: exit status %d\n%.3000s%.1000s", line, r.status, r.err, r.out);
    free(line);
    free(r.err);
    return r.out;
}

static void succeed(const char *command, const char *folder)
{
    free(output_of("cd %s && %s", folder, command));
}

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
    Networks n = open_networks(&c);
    for (size_t i = 0; i < sizeof compiler / sizeof *compiler; i++)
        succeed(compiler[i], n.folder);
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
    Networks n = open_networks(&c);
    succeed("gcc -std=c99 -O2 -fno-pie " STRICT "-c all.c", n.folder);
    char *wanted = output_of("nm -u -P %s/all.o | cut -d' ' -f1", n.folder);
    ck_assert_msg(strstr(wanted, "expf\n") && strstr(wanted, "pow\n"), "found only %s", wanted);
    check_undefined(wanted);
    char *writable = output_of("nm -P %s/all.o | awk '$2 ~ /^[bBdDcC]$/'", n.folder);
    ck_assert_str_eq(writable, "");
    char *code = output_of("nm -P %s/all.o | awk '$2 ~ /^[tT]$/' | wc -l", n.folder);
    ck_assert_int_gt(atoi(code), 1000);          /* nm has seen something */
    free(wanted), free(writable), free(code);
    context_free(&c);
}
END_TEST

START_TEST(wants_the_same_on_a_microcontroller)
{
    Context c;
    Networks n = open_networks(&c);
    succeed("arm-none-eabi-gcc -mcpu=cortex-m4 -std=c99 -O2 " STRICT "-c few.c", n.folder);
    char *wanted = output_of("arm-none-eabi-nm -u -P %s/few.o | cut -d' ' -f1 | grep -v ^__aeabi_",
                             n.folder);          /* those are the compiler's own */
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
