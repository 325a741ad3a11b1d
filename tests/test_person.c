/* What a person meets: the line that a message speaks of, hints, help, completions, the
 * manual page, a new project, and what editors are told. */
#define _GNU_SOURCE
#include "tests.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../runtime/runtime.h"

#define CNNC "build/cnnc"

/* ------------------------------------------------------- below the first line */

static const struct { const char *file, *text, *below; } mistakes[] = {
    {"net.lua", "local x = input { 1, 8, 8 }\nreturn x:conv2d { 4, kernal = 3 }\n",
     "    2 | return x:conv2d { 4, kernal = 3 }\n"
     "      |                      ^~~~~~\n"
     "hint: did you mean 'kernel'?\n"},
    {"net.lua", "local x = input { 1, 8, 8 }\nreturn x:Conv2D { 4, kernel = 3 }\n",
     "    2 | return x:Conv2D { 4, kernel = 3 }\n"
     "      |          ^~~~~~\n"
     "hint: did you mean 'conv2d'?\n"},
    {"net.lua", "local x = imput { 1, 8, 8 }\nreturn x\n",
     "    1 | local x = imput { 1, 8, 8 }\n"
     "      |           ^~~~~\n"
     "hint: did you mean 'input'?\n"},
    {"net.lua", "local x = input { 1, 8, 8 }\nreturn x:linear { 10 }\n",
     "    2 | return x:linear { 10 }\n"
     "      |          ^~~~~~\n"
     "hint: x:flatten():linear { ... }\n"},
    /* the third call of the line, in the second turn of the loop */
    {"net.lua", "local x = input { 1, 9, 9 }\nfor i = 1, 2 do\n"
     "\tx = x:maxpool { 2 - i // 2 }:maxpool { 1 }:maxpool { i * 2 }\nend\nreturn x:relu { 1 } -- maxpool\n",
     "    3 | x = x:maxpool { 2 - i // 2 }:maxpool { 1 }:maxpool { i * 2 }\n"
     "      |                                            ^~~~~~~\n"
     "hint: pad = \"same\" keeps the size; or take a smaller kernel\n"},
    /* an option on a line of its own, and a comment that names it */
    {"net.lua",
     "local x = input { 1, 9, 9 }\nreturn x:conv2d { 4, -- kernel = 1\n  kernel = 3,\n  stride = 0 }\n",
     "    4 | stride = 0 }\n"
     "      | ^~~~~~\n"},
    {"net.lua", "return input { 8 } +\n  input { 7, name = \"b\" }\n",
     "    1 | return input { 8 } +\n"
     "      |                    ^\n"
     "hint: one number for each channel: reshape { channels, 1, 1 }\n"},
    {"net.lua", "local x = input { 1, 9, 9 }\nreturn x:relu( }\n",
     "    2 | return x:relu( }\n"
     "      |                ^\n"},
    /* columns count characters, not bytes */
    {"net.lua", "local \"\xc3\xbc\" = nowhere\n",
     "    1 | local \"\xc3\xbc\" = nowhere\n"
     "      |       ^~~\n"},
};

static Run run_mistake(const char *folder, const char *file, const char *text, const char *how)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    text_write(path, text);
    return run("cd %s && $OLDPWD/" CNNC " %s", folder, how);
}

START_TEST(the_line_and_a_hint)
{
    const char *folder = scratch_folder("person");
    Run r = run_mistake(folder, mistakes[_i].file, mistakes[_i].text, "summary net.lua");
    ck_assert_int_eq(r.status, STATUS_INPUT);
    const char *below = strchr(r.err, '\n');
    ck_assert_msg(!strncmp(r.err, "cnnc: net.lua:", 14) && below, "%s", r.err);
    ck_assert_str_eq(below + 1, mistakes[_i].below);
    run_free(&r);
}
END_TEST

static const struct { const char *text, *below; } scripts[] = {
    {"local m = load_model('net.lua'):compile {}\nm:fit(data.idx('x'), {\n  optimiser = 3 })\n", NULL},
    {"local m = load_model('net.lua'):compile {\n  bacth = 3 }\n",
     "    2 | bacth = 3 }\n"
     "      | ^~~~~\n"
     "hint: did you mean 'batch'?\n"},
    {"local m = load_model('wrong.lua')\n",      /* the network's line, not the script's */
     "    1 | return input { 4 }:rleu()\n"
     "      |                    ^~~~\n"
     "hint: did you mean 'relu'?\n"},
    {"pcall(load_model, 'wrong.lua')\nerror 'later'\n",
     "    2 | error 'later'\n"
     "      | ^\n"},
    {"return input { 3 }\n",
     "    1 | return input { 3 }\n"
     "      |        ^~~~~\n"
     "hint: a network file is no experiment: cnnc summary FILE, or load_model(FILE) in an experiment\n"},
};

START_TEST(experiments_have_lines_too)
{
    const char *folder = scratch_folder("person");
    char path[300];
    snprintf(path, sizeof path, "%s/net.lua", folder);
    text_write(path, "return input { 4 }:linear { 2 }\n");
    snprintf(path, sizeof path, "%s/wrong.lua", folder);
    text_write(path, "return input { 4 }:rleu()\n");
    Run r = run_mistake(folder, "script.lua", scripts[_i].text, "run script.lua");
    ck_assert_int_eq(r.status, STATUS_INPUT);
    const char *below = strchr(r.err, '\n');
    ck_assert_ptr_nonnull(below);
    if (scripts[_i].below)
        ck_assert_str_eq(below + 1, scripts[_i].below);
    run_free(&r);
}
END_TEST

/* --------------------------------------------------------------- the command line */

static const struct { const char *arguments, *hint; } slips[] = {
    {"sumary net.lua", "hint: did you mean 'summary'?\n"},
    {"summary net.lua --sed 3", "hint: did you mean '--seed'?\n"},
    {"summary net.lua --jit tc", "hint: did you mean 'tcc'?\n"},
    {"summary net.lua --target x86-64-V3", "hint: did you mean 'x86-64-v3'?\n"},
    {"help gradchek", "hint: did you mean 'gradcheck'?\n"},
    {"help max_pool", "hint: did you mean 'maxpool'?\n"},
    {"", "hint: cnnc new NAME makes a folder with a network to begin with\n"},
};

START_TEST(slips_have_hints)
{
    Run r = run(CNNC " %s", slips[_i].arguments);
    ck_assert_int_eq(r.status, STATUS_USAGE);
    ck_assert_msg(strstr(r.err, slips[_i].hint) && !*r.out, "cnnc %s: %s", slips[_i].arguments, r.err);
    run_free(&r);
}
END_TEST

START_TEST(nothing_near_has_no_hint)
{
    Run r = run(CNNC " frobnicate");
    ck_assert_msg(!strstr(r.err, "hint"), "%s", r.err);
    run_free(&r);
}
END_TEST

START_TEST(help_has_topics)
{
    static const struct { const char *topic, *shows; } topics[] = {
        {"summary", "cnnc summary NETWORK"}, {"compile", "cnnc NETWORK -o net.c"}, {"help", "--man"},
        {"run", "--watch"}, {"conv2d", "x:conv2d { out, kernel = ... }"}, {"concat", "concat { a, b, ... }"},
        {"relu", "max(x, 0)"}, {"", "cnnc new"}};
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
        Run r = run(CNNC " help %s", topics[i].topic);
        ck_assert_int_eq(r.status, 0);
        ck_assert_msg(strstr(r.out, topics[i].shows), "%s: %s", topics[i].topic, r.out);
        run_free(&r);
    }
}
END_TEST

START_TEST(every_operation_has_help)
{
    for (const Op *const *op = op_table(); *op; op++) {
        Run r = run(CNNC " help %s", (*op)->method[0].name);
        ck_assert_msg(r.status == 0 && strstr(r.out, (*op)->doc), "%s: %s", (*op)->name, r.err);
        run_free(&r);
    }
}
END_TEST

/* ------------------------------------------------------- completions and the manual */

/* What bash offers behind these words, one a line and sorted. */
static const struct { const char *words, *offers; } completions[] = {
    {"cnnc s", "summary\n"},
    {"cnnc predict --inp", "--input\n"},
    {"cnnc summary --js", "--json\n"},
    {"cnnc summary --lay", ""},
    {"cnnc net.lua --target g", "generic\n"},
    {"cnnc bench net.lua --jit \"\"", "cc\neval\ntcc\n"},
    {"cnnc bench net.lua --jit = e", "eval\n"},
    {"cnnc help maxp", "maxpool\n"},
    {"cnnc summary n", "net.lua\nnets\n"},
    {"cnnc predict net.lua --weights w", "w.safetensors\n"},
    {"cnnc net.lua --winograd f", "f2\nf4\nf6\n"},
    {"cnnc summary net.lua --seed \"\"", ""},
};

START_TEST(bash_completes)
{
    const char *folder = scratch_folder("person");
    Run r = run("cd %s && mkdir nets && touch net.lua notes.txt w.safetensors && "
                "$OLDPWD/" CNNC " help --bash >cnnc.bash && bash -c 'source ./cnnc.bash; "
                "COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _cnnc; "
                "((${#COMPREPLY[@]} == 0)) || printf \"%%s\\n\" \"${COMPREPLY[@]}\" | sort'",
                folder, completions[_i].words);
    ck_assert_msg(r.status == 0 && !*r.err, "%s", r.err);
    ck_assert_str_eq(r.out, completions[_i].offers);
    run_free(&r);
}
END_TEST

START_TEST(zsh_has_every_option)
{
    Run zsh = run(CNNC " help --zsh"), help = run(CNNC " --help");
    ck_assert(zsh.status == 0 && help.status == 0);
    int options = 0;
    for (const char *at = help.out; (at = strstr(at, "--")); at += 2, options++) {
        char name[40];
        ck_assert_int_eq(sscanf(at, "%30[a-z-]", name), 1);
        ck_assert_msg(strstr(zsh.out, name), "zsh lacks %s", name);
    }
    ck_assert_int_gt(options, 15);
    run_free(&zsh);
    run_free(&help);
}
END_TEST

START_TEST(manual_has_no_warnings)
{
    Run page = run(CNNC " help --man >build/test/tmp/cnnc.1 && "
                   "groff -man -Tutf8 -ww -z build/test/tmp/cnnc.1 && "
                   "mandoc -T lint -W warning build/test/tmp/cnnc.1");
    ck_assert_msg(page.status == 0 && !*page.err && !*page.out, "%s%s", page.err, page.out);
    run_free(&page);
    page = run("mandoc -T ascii build/test/tmp/cnnc.1 | col -b");
    ck_assert_msg(strstr(page.out, "--winograd TILE") && strstr(page.out, "cnnc gradcheck"), "%s", page.out);
    run_free(&page);
}
END_TEST

/* ---------------------------------------------------------------- a new project */

START_TEST(a_new_project_works_at_once)
{
    const char *folder = scratch_folder("person");
    Run r = run("cd %s && $OLDPWD/" CNNC " new bars && MAKEFLAGS= make -C bars run", folder);
    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_msg(strstr(r.out, "a horizontal line: the network says horizontal\n") &&
                  strstr(r.out, "a vertical line: the network says vertical\n") &&
                  strstr(r.out, "a diagonal line: the network says diagonal\n"), "%s", r.out);
    run_free(&r);
    r = run("cd %s && $OLDPWD/" CNNC " new bars", folder);
    ck_assert_msg(r.status == STATUS_INPUT && strstr(r.err, "bars"), "%s", r.err);
    run_free(&r);
    r = run("cd %s && $OLDPWD/" CNNC " new 9lives; ls -d 9lives", folder);
    ck_assert_msg(r.status != 0 && strstr(r.err, "'9lives'"), "%s", r.err);
    run_free(&r);
    r = run("cd %s && $OLDPWD/" CNNC " new nowhere/bars", folder);
    ck_assert_int_eq(r.status, STATUS_INPUT);
    run_free(&r);
}
END_TEST

/* -------------------------------------------------------------------- for editors */

static void expect_in(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "lacks %s", part);
}

START_TEST(editors_know_every_operation)
{
    Run r = run(CNNC " help --luals");
    Context c;
    context_init(&c);
    for (const Op *const *op = op_table(); *op; op++)
        for (int i = 0; i < 4 && (*op)->method[i].name; i++) {
            expect_in(r.out, format(&c, "---%s\n", (*op)->doc));
            expect_in(r.out, format(&c, "function %s%s(", (*op)->operands < 0 ? "" : "Node:",
                                    (*op)->method[i].name));
            for (const ArgSpec *a = (*op)->args; a && a->kind != ARG_END; a++)
                if (a->kind != ARG_SHAPE)
                    expect_in(r.out, format(&c, "---@field %s", a->name));
        }
    context_free(&c);
    run_free(&r);
}
END_TEST

/* The names of what experiments have, taken from a running one. */
static const char inventory[] =
    "local m = load_model 'net.lua':compile {}\n"
    "for name in pairs(getmetatable(m).__index) do print('function Trained:' .. name .. '(') end\n"
    "for name in pairs(data) do print('function data.' .. name .. '(') end\n"
    "for _, name in ipairs { 'tensor', 'load_model', 'sgd', 'adam' } do\n"
    "  assert(_G[name]); print('function ' .. name .. '(') end\n"
    "for call, where in pairs { fit = function() m:fit(data.tensor({{1}}, {0}), { nonsense = 1 }) end,\n"
    "    compile = function() load_model 'net.lua':compile { nonsense = 1 } end,\n"
    "    sgd = function() sgd { nonsense = 1 } end, adam = function() adam { nonsense = 1 } end } do\n"
    "  local list = select(2, pcall(where)):match 'it knows (.*)'\n"
    "  for name in list:gmatch '[%w_]+' do print(call == 'fit' and '---@field ' .. name or name) end\n"
    "end\n";

START_TEST(editors_know_experiments)
{
    const char *folder = scratch_folder("person");
    char path[300];
    snprintf(path, sizeof path, "%s/net.lua", folder);
    text_write(path, "local x = input { 1 }:linear { 2 }\n"
                     "return model { output = x, loss = x:cross_entropy() }\n");
    Run names = run_mistake(folder, "script.lua", inventory, "run script.lua"), r = run(CNNC " help --luals");
    ck_assert_msg(names.status == 0, "%s", names.err);
    int count = 0;
    for (char *name = strtok(names.out, "\n"); name; name = strtok(NULL, "\n"), count++)
        expect_in(r.out, name);
    ck_assert_int_gt(count, 25);
    run_free(&names);
    run_free(&r);
}
END_TEST

START_TEST(editor_definitions_are_lua)
{
    Run r = run("mkdir -p build/test/tmp && { " CNNC " help --luals; echo 'print(\"loads\")'; } "
                ">build/test/tmp/definitions.lua && " CNNC " run build/test/tmp/definitions.lua");
    ck_assert_msg(r.status == 0 && !strcmp(r.out, "loads\n"), "%s", r.err);
    run_free(&r);
}
END_TEST

/* ------------------------------------------------------------------------- debug */

START_TEST(debug_tells_more_and_more)
{
    static const struct { const char *level, *shows, *not_yet; } levels[] = {
        {"1", "forward   fuse", " nodes, "}, {"2", " nodes, ", "function forward: "},
        {"3", "function forward: ", "graph lenet5 after"},
        {"4", "graph lenet5 after forward, after mode", NULL},
        {"0", "", "forward"}, {"5", "", "forward"}, {"all", "", "forward"}};
    Run plain = run(CNNC " graphs/lenet5.lua -o -");
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        Run r = run("CNNC_DEBUG=%s " CNNC " graphs/lenet5.lua -o -", levels[i].level);
        ck_assert_int_eq(r.status, 0);
        ck_assert_str_eq(r.out, plain.out);
        ck_assert_msg(strstr(r.err, levels[i].shows), "level %s: %s", levels[i].level, r.err);
        bool early = levels[i].not_yet && strstr(r.err, levels[i].not_yet);
        ck_assert_msg(!early, "level %s: %s", levels[i].level, r.err);
        run_free(&r);
    }
    run_free(&plain);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

Suite *person_suite(void)
{
    Suite *s = suite_create("person");
    TCase *t = tcase_create("person");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, the_line_and_a_hint, 0, COUNT(mistakes));
    tcase_add_loop_test(t, experiments_have_lines_too, 0, COUNT(scripts));
    tcase_add_loop_test(t, slips_have_hints, 0, COUNT(slips));
    tcase_add_test(t, nothing_near_has_no_hint);
    tcase_add_test(t, help_has_topics);
    tcase_add_test(t, every_operation_has_help);
    tcase_add_loop_test(t, bash_completes, 0, COUNT(completions));
    tcase_add_test(t, zsh_has_every_option);
    tcase_add_test(t, manual_has_no_warnings);
    tcase_add_test(t, a_new_project_works_at_once);
    tcase_add_test(t, editors_know_every_operation);
    tcase_add_test(t, editors_know_experiments);
    tcase_add_test(t, editor_definitions_are_lua);
    tcase_add_test(t, debug_tells_more_and_more);
    suite_add_tcase(s, t);
    return s;
}
