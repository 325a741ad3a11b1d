/* The project's own rules, read off its sources: who may know what, and how long a
 * file may be. */
#define _GNU_SOURCE
#include "tests.h"

#include <ctype.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const everything[] = {
    "compiler/*.[ch]", "compiler/*/*.[ch]", "runtime/*.[ch]", "tests/*.[ch]",
    "tests/bench/*", "tests/pytorch/*", "graphs/*.lua", "graphs/experiments/*", "runtime/embedded/*.lua",
    "runtime/embedded/new/*", "docs/*.md", "generated/*",
    "README.md", "Makefile", ".ci/*", NULL
};
static const char *const sources[] = {"compiler/*.[ch]", "compiler/*/*.[ch]", "runtime/*.[ch]", NULL};
static const char *const outside_ops[] = {
    "compiler/*.c", "compiler/graph/*.c", "compiler/language/*.c", "compiler/nest/*.c",
    "compiler/schedule/*.c", "compiler/print/*.c", "runtime/*.c", NULL
};
static const char *const passes[] = {
    "compiler/graph/*.c", "compiler/nest/*.c", "compiler/schedule/*.c", "compiler/summary.c",
    "compiler/dump.c", "compiler/compile.c", NULL
};

/* Calls `each` for every line of every file of the patterns; returns the number of
 * files, so that a test can tell that it has looked at something. */
static int for_lines(const char *const *pattern,
                     void (*each)(const char *file, int number, const char *line, void *user), void *user)
{
    glob_t found;
    for (int i = 0; pattern[i]; i++)
        glob(pattern[i], i ? GLOB_APPEND : 0, NULL, &found);
    for (size_t f = 0; f < found.gl_pathc; f++) {
        char *text = text_read(found.gl_pathv[f]), *rest = text, *line;
        ck_assert_ptr_nonnull(text);
        for (int number = 1; (line = strsep(&rest, "\n")); number++)
            if (rest || *line)                   /* what follows the last newline is no line */
                each(found.gl_pathv[f], number, line, user);
        free(text);
    }
    int files = (int)found.gl_pathc;
    globfree(&found);
    return files;
}

static bool is_word(char ch)
{
    return isalnum((unsigned char)ch) || ch == '_';
}

static bool has_word(const char *line, const char *word)
{
    for (const char *at = line; (at = strstr(at, word)); at++)
        if ((at == line || !is_word(at[-1])) && !is_word(at[strlen(word)]))
            return true;
    return false;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcmp(text + a - b, end);
}

/* ----------------------------------------------------------------------- size */

static void check_length(const char *file, int number, const char *line, void *user)
{
    (void)user;
    ck_assert_msg(number <= 600, "%s: more than 600 lines", file);
    ck_assert_msg(strlen(line) <= 110, "%s:%d: %zu columns", file, number, strlen(line));
    size_t length = strlen(line);
    ck_assert_msg(!length || !isspace((unsigned char)line[length - 1]), "%s:%d: blanks at the end", file,
                  number);
    ck_assert_msg(!strchr(line, '\t'), "%s:%d: a tab", file, number);
}

START_TEST(files_are_short)
{
    ck_assert_int_gt(for_lines(sources, check_length, NULL), 20);
}
END_TEST

/* ------------------------------------------------------------------- includes */

static void check_include(const char *file, int number, const char *line, void *user)
{
    (void)user;
    if (strncmp(line, "#include", 8))
        return;
    bool main_file = ends_with(file, "/main.c");
    ck_assert_msg(main_file || !strstr(line, "runtime/"), "%s:%d: the compiler includes the runtime: %s",
                  file, number, line);
    bool in_ops = !strncmp(file, "compiler/ops/", 13);
    ck_assert_msg(in_ops || !strstr(line, "ops.h"), "%s:%d: the op families' header outside ops/: %s", file,
                  number, line);
}

START_TEST(compiler_knows_no_runtime)
{
    static const char *const compiler[] = {"compiler/*.[ch]", "compiler/*/*.[ch]", NULL};
    ck_assert_int_gt(for_lines(compiler, check_include, NULL), 15);
}
END_TEST

START_TEST(one_header_per_folder)
{
    glob_t folder;
    glob("compiler", 0, NULL, &folder);
    glob("compiler/*/", GLOB_APPEND, NULL, &folder);
    glob("runtime", GLOB_APPEND, NULL, &folder);
    ck_assert_int_gt((int)folder.gl_pathc, 5);
    for (size_t i = 0; i < folder.gl_pathc; i++) {
        Run r = run("ls %s/*.h | wc -l", folder.gl_pathv[i]);
        ck_assert_msg(atoi(r.out) == 1, "%s: %d headers", folder.gl_pathv[i], atoi(r.out));
        run_free(&r);
    }
    globfree(&folder);
}
END_TEST

/* -------------------------------------------------------------- who knows ops */

typedef struct Names { char name[128][40]; int count; } Names;

static void collect_name(const char *file, int number, const char *line, void *user)
{
    (void)file, (void)number;
    Names *names = user;
    const char *at = strstr(line, ".name = \"");
    if (at && names->count < 128)
        names->count += sscanf(at, ".name = \"%39[a-z_0-9]\"", names->name[names->count]) == 1;
}

static Names op_names(void)
{
    static const char *const ops[] = {"compiler/ops/*.c", NULL};
    Names names = {.count = 0};
    for_lines(ops, collect_name, &names);
    ck_assert_int_gt(names.count, 30);           /* the rows are still found this way */
    return names;
}

/* Leaves are part of a graph's structure and have accessors. */
static bool is_leaf(const char *name)
{
    return !strcmp(name, "input") || !strcmp(name, "param") || !strcmp(name, "scalar");
}

static void check_op_symbol(const char *file, int number, const char *line, void *user)
{
    const Names *names = user;
    for (int i = 0; i < names->count; i++) {
        char symbol[48];
        snprintf(symbol, sizeof symbol, "op_%s", names->name[i]);
        ck_assert_msg(is_leaf(names->name[i]) || !has_word(line, symbol), "%s:%d: names an op: %s", file,
                      number, line);
    }
    bool compares = strstr(line, "strcmp") || strstr(line, "strncmp") || strstr(line, "strstr");
    ck_assert_msg(!compares || !strstr(line, "op->name"), "%s:%d: asks which op a node is: %s", file,
                  number, line);
}

START_TEST(ops_are_named_in_one_place)
{
    Names names = op_names();
    ck_assert_int_gt(for_lines(outside_ops, check_op_symbol, &names), 20);
}
END_TEST

static void check_op_literal(const char *file, int number, const char *line, void *user)
{
    const Names *names = user;
    for (int i = 0; i < names->count; i++) {
        char literal[48];
        snprintf(literal, sizeof literal, "\"%s\"", names->name[i]);
        ck_assert_msg(is_leaf(names->name[i]) || !strstr(line, literal), "%s:%d: names an op: %s", file,
                      number, line);
    }
}

START_TEST(passes_do_not_spell_ops)
{
    Names names = op_names();
    ck_assert_int_gt(for_lines(passes, check_op_literal, &names), 8);
}
END_TEST

/* ------------------------------------------------------------- who writes C */

static void check_c_text(const char *file, int number, const char *line, void *user)
{
    static const char *const text[] = {
        "#include <", "#include \\\"", "#define ", "#if", "for (int", "float *", "typedef struct",
        "static const", "*restrict", "__attribute__", "void *"
    };
    (void)user;
    if (!strncmp(file, "compiler/print/", 15))
        return;
    for (const char *at = strchr(line, '"'); at; at = strchr(at, '"')) {      /* each literal of the line */
        const char *end = ++at;
        while (*end && *end != '"')
            end += *end == '\\' && end[1] ? 2 : 1;
        for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
            const char *hit = memmem(at, (size_t)(end - at), text[i], strlen(text[i]));
            ck_assert_msg(!hit, "%s:%d: writes C outside the printer: %s", file, number, line);
        }
        at = *end ? end + 1 : end;
    }
}

START_TEST(only_the_printer_writes_c)
{
    static const char *const writers[] = {"compiler/*.c", "compiler/ops/*.c", "runtime/*.c", NULL};
    ck_assert_int_gt(for_lines(writers, check_c_text, NULL), 20);
}
END_TEST

/* ------------------------------------------------------------------- leftovers */

/* Spelt in two halves, since this file is among those searched. */
static const struct { const char *head, *tail; } leftovers[] = {
    {"TO", "DO"}, {"FIX", "ME"}, {"XX", "X"}, {"HA", "CK"}, {"not ", "implemented"}, {"unimple", "mented"},
    {"/wo", "rk/"}, {"../sha", "red"}, {"/ho", "me/"},
};

static void check_leftover(const char *file, int number, const char *line, void *user)
{
    (void)user;
    for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++) {
        char word[40];
        snprintf(word, sizeof word, "%s%s", leftovers[i].head, leftovers[i].tail);
        bool found = isalpha((unsigned char)*word) ? has_word(line, word) : strstr(line, word) != NULL;
        ck_assert_msg(!found, "%s:%d: %s: %s", file, number, word, line);
    }
}

START_TEST(nothing_is_left_over)
{
    ck_assert_int_gt(for_lines(everything, check_leftover, NULL), 30);
}
END_TEST

static void check_exit(const char *file, int number, const char *line, void *user)
{
    (void)user;
    const char *comment = strstr(line, "/*"), *call = strstr(line, "exit(");
    bool code = call && (!comment || call < comment) && strncmp(line, " *", 2);
    ck_assert_msg(!code, "%s:%d: ends the process: %s", file, number, line);
}

START_TEST(failures_return_to_the_caller)
{
    ck_assert_int_gt(for_lines(sources, check_exit, NULL), 20);
}
END_TEST

Suite *structure_suite(void)
{
    Suite *s = suite_create("structure");
    TCase *t = tcase_create("structure");
    tcase_add_test(t, files_are_short);
    tcase_add_test(t, compiler_knows_no_runtime);
    tcase_add_test(t, one_header_per_folder);
    tcase_add_test(t, ops_are_named_in_one_place);
    tcase_add_test(t, passes_do_not_spell_ops);
    tcase_add_test(t, only_the_printer_writes_c);
    tcase_add_test(t, nothing_is_left_over);
    tcase_add_test(t, failures_return_to_the_caller);
    suite_add_tcase(s, t);
    return s;
}
