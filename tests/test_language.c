/* The network language: what files may say, what they get, and how they are refused.
 * Every tests/data/wrong/NAME.lua must fail with the message in NAME.txt. */
#include "../runtime/runtime.h"
#include "tests.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

/* -- loading -- */

typedef struct Load {
    Context c;
    const char *text, *file;  /* text NULL: the file is read */
    int batch;
    Graph *g;                 /* NULL: refused */
} Load;

static void load_body(void *argument)
{
    Load *l = argument;
    l->g = l->text ? frontend_load_text(&l->c, l->text, strlen(l->text), l->file, l->batch)
                   : network_load(&l->c, l->file, l->batch);
    graph_check(l->g, "frontend");
}

static Load *load_batch(const char *text, const char *file, int batch)
{
    Load *l = calloc(1, sizeof *l);
    context_init(&l->c);
    l->text = text, l->file = file, l->batch = batch;
    if (!attempt(&l->c, load_body, l))
        l->g = NULL;
    return l;
}

static Load *load(const char *text)
{
    return load_batch(text, "net.lua", 1);
}

static void load_free(Load *l)
{
    context_free(&l->c);
    free(l);
}

static void accept(const char *text)
{
    Load *l = load(text);
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    load_free(l);
}

static void refuse_file(const char *text, const char *file, const char *message)
{
    Load *l = load_batch(text, file, 1);
    ck_assert_ptr_null(l->g);
    ck_assert_int_eq(l->c.status, STATUS_INPUT);
    ck_assert_str_eq(l->c.message, message);
    load_free(l);
}

/* "conv1 relu1 ..." */
static void check_layers(const char *text, const char *expected)
{
    Load *l = load(text);
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    Text names = {.c = &l->c};
    for (int i = 0; i < l->g->layers; i++)
        text_add(&names, "%s%s", i ? " " : "", l->g->layer[i]->name);
    ck_assert_str_eq(names.data, expected);
    load_free(l);
}

/* "name:shape ..." of the outputs, in order. */
static void check_outputs(const char *text, const char *expected)
{
    Load *l = load(text);
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    Text found = {.c = &l->c};
    for (int i = 0; i < l->g->roots; i++) {
        const Root *r = &l->g->root[i];
        if (r->kind == ROOT_OUTPUT)
            text_add(&found, "%s%s:%s", i ? " " : "", r->name, shape_text(&l->c, &r->node->shape, true));
    }
    ck_assert_str_eq(found.data, expected);
    load_free(l);
}

/* -- wrong networks -- */

static glob_t wrong;

/* The message expected, without the folder; one that ends in "..." is a beginning. */
START_TEST(wrong_network)
{
    static const char folder[] = "tests/data/wrong/";
    const char *path = wrong.gl_pathv[_i];
    Load *l = load_batch(NULL, path, 1);
    ck_assert_msg(l->g == NULL, "%s: accepted", path);
    ck_assert_int_eq(l->c.status, STATUS_INPUT);

    char *expected = text_read(format(&l->c, "%.*s.txt", (int)strlen(path) - 4, path));
    ck_assert_msg(expected != NULL, "%s: no message is expected", path);
    expected[strcspn(expected, "\n")] = 0;
    Text found = {.c = &l->c};
    const char *rest = l->c.message;
    for (const char *at; (at = strstr(rest, folder)) != NULL; rest = at + strlen(folder))
        text_add(&found, "%.*s", (int)(at - rest), rest);
    text_add(&found, "%s", rest);
    size_t length = strlen(expected);
    if (length > 3 && strcmp(expected + length - 3, "...") == 0)
        expected[length - 3] = found.data[length - 3] = 0;
    ck_assert_str_eq(found.data, expected);
    free(expected);
    load_free(l);
}
END_TEST

START_TEST(wrong_networks_are_there)
{
    ck_assert_uint_ge(wrong.gl_pathc, 100);
}
END_TEST

/* -- names -- */

START_TEST(layers_are_counted_by_kind)
{
    check_layers("local x = input { 2, 9, 9 }\n"
                 "x = x:conv2d { 4, kernel = 3 }:relu():conv2d { 4, kernel = 3, name = \"middle\" }\n"
                 "x = x:conv2d { 4, kernel = 3 }:maxpool { 2 }:relu()\n"
                 "return (x + x):flatten():linear { 3 }:linear { 3 } + 1",
                 "conv1 relu1 middle conv2 maxpool1 relu2 add1 flatten1 linear1 linear2 add2");
    check_layers("local x = input { 2, 9 }:conv1d { 4, kernel = 3 }\n"
                 "return x:reshape { 4, 7, 1 }:conv2d { 4, kernel = 1 }", "conv1 reshape1 conv2");
}
END_TEST

START_TEST(parameters_are_named_as_in_pytorch)
{
    static const char *const expected[] = {
        "conv1.weight 4x1x3x3", "batchnorm1.weight 4", "batchnorm1.bias 4", "batchnorm1.running_mean 4",
        "batchnorm1.running_var 4", "head.fc.weight 5x36", "head.fc.bias 5"
    };
    Load *l = load("local x = input { 1, 5, 5 }:conv2d { 4, kernel = 3, bias = false }:batchnorm {}\n"
                   "return x:flatten():linear { 5, name = \"head.fc\" }");
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    ck_assert_int_eq(l->g->params, 7);
    for (int i = 0; i < 7; i++) {
        const Param *p = l->g->param[i];
        ck_assert_str_eq(format(&l->c, "%s %s", p->name, shape_text(&l->c, &p->shape, false)), expected[i]);
        ck_assert_int_eq(p->index, i);
    }
    ck_assert_str_eq(l->g->param[5]->c_name, "head_fc_weight");
    load_free(l);
}
END_TEST

START_TEST(layers_know_their_line_and_callers)
{
    Load *l = load("local function twice(x)\n"
                   "  return x:relu():tanh()\n"
                   "end\n"
                   "local x = twice(input { 3 })\n"
                   "return x:sigmoid()");
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    const Layer *tanh = l->g->layer[1], *sigmoid = l->g->layer[2];
    ck_assert_str_eq(tanh->where, "net.lua:2 (called from net.lua:4)");
    ck_assert_str_eq(tanh->method, "tanh");
    ck_assert_int_eq(tanh->froms, 1);
    ck_assert_ptr_eq(tanh->from[0], l->g->layer[0]->output);
    ck_assert_str_eq(sigmoid->where, "net.lua:5");
    ck_assert_ptr_eq(sigmoid->output->layer, sigmoid);
    load_free(l);
}
END_TEST

START_TEST(outputs_have_names_and_an_order)
{
    check_outputs("return input { 4 }:linear { 3, name = \"logits\" }", "logits:3");
    check_outputs("return input { 4 }:linear { 3 }", "output:3");
    check_outputs("return input { 4 }:linear { 3, name = \"logits\" }:softmax()", "output:3");
    check_outputs("return model { output = input { 4 }:linear { 3, name = \"head.out\" } }", "head_out:3");
    check_outputs("local a = input { 4 }:relu()\nlocal b = a:linear { 3 }\n"
                  "return model { output = { zero = a, first = b, also = a } }", "also:4 zero:4 first:3");
}
END_TEST

static void check_model_name(const char *text, const char *file, const char *name)
{
    Load *l = load_batch(text, file, 1);
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    ck_assert_str_eq(l->g->name, name);
    load_free(l);
}

START_TEST(models_are_named_by_the_file_or_themselves)
{
    const char *bare = "return input { 3 }:relu()";
    check_model_name(bare, "graphs/lenet5.lua", "lenet5");
    check_model_name(bare, "a.b/net", "net");
    check_model_name(bare, "-", "model");
    check_model_name("return model { output = input { 3 }:relu(), name = \"mine\" }", "net.lua", "mine");
}
END_TEST

/* -- tensors -- */

START_TEST(fields_are_sizes_without_the_batch)
{
    static const char text[] =
        "local function is(a, b) assert(a == b, tostring(a) .. ' ~= ' .. tostring(b)) end\n"
        "local x = input { 3, 8, 6 }\n"
        "is(x.channels, 3) is(x.height, 8) is(x.width, 6) is(#x.shape, 3)\n"
        "is(table.concat(x.shape, 'x'), '3x8x6')\n"
        "local v = input { 2, 4, 8, 6, name = 'video' }\n"
        "is(v.depth, 4) is(v.height, 8) is(v.width, 6)\n"
        "local s = input { 2, 7, name = 'sound' }\n"
        "is(s.channels, 2) is(s.length, 7)\n"
        "is(x:flatten().channels, 144)\n"
        "is(tostring(x), 'tensor 3x8x6') is(tostring(x:mse()), 'tensor scalar')\n"
        "is(#x:mse { name = 't' }.shape, 0)\n"
        "return x";
    Load *l = load_batch(text, "net.lua", 16);
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    ck_assert_int_eq(l->g->input[0]->shape.dim[0], 16);
    load_free(l);
}
END_TEST

START_TEST(arithmetic_broadcasts_as_numpy)
{
    check_outputs("local x = input { 3, 8, 8 }\nreturn x * x:maxpool { 8 } / 2 - -x", "output:3x8x8");
    check_outputs("local x = input { 3, 8, 8 }\n"
                  "return x:maxpool { kernel = { 1, 8 } } + x:maxpool { kernel = { 8, 1 } }", "output:3x8x8");
    check_outputs("local x = input { 3, 8, 8 }\nreturn x + input { 8, name = 'row' }", "output:3x8x8");
    check_outputs("local x = input { 5 }\nreturn 1 - (2 / x) * 3 + x", "output:5");
    accept("local x = input { 5 }\nlocal y = x:linear { 4 }\n"
           "return model { output = y, loss = y:cross_entropy() + 0.1 * y:mse() }");
}
END_TEST

START_TEST(concat_takes_tensors_or_a_table)
{
    check_outputs("local x = input { 3, 8, 8 }\nreturn concat(x, x:relu(), x)", "output:9x8x8");
    check_outputs("local x = input { 3, 8, 8 }\nreturn concat { x, x, axis = 3 }", "output:3x8x16");
}
END_TEST

START_TEST(options_by_place_name_and_list)
{
    check_outputs("return input { 3, 8, 9 }:conv2d { out = 4, kernel = { 3, 2 }, stride = { 2, 1 } }",
                  "output:4x3x8");
    check_outputs("return input { 1, 8, 9 }:maxpool { { 2, 3 } }", "output:1x4x3");
    check_outputs("return input { 1, 8, 9 }:avgpool { 3, pad = { 0, 1, 1, 1 }, stride = 1 }", "output:1x7x9");
    check_outputs("return input { 1, 8, 9 }:conv2d { 1, kernel = 3, pad = { 1, 0 } }", "output:1x8x7");
    check_outputs("return input { 1, 8, 9 }:conv2d { 1, kernel = 4, stride = 2, pad = 'same' }",
                  "output:1x4x5");
    check_outputs("return input { 6 }:linear { 12 / 2 }:relu {}", "output:6");
}
END_TEST

START_TEST(literals_keep_their_numbers)
{
    Load *l = load("return input { 2, 1, 2 }:conv2d { 1, kernel = { 1, 2 }, bias = { -7 },\n"
                   "  weight = { { { { 1, 2 } }, { { 3, 0.1 } } } } }");
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    const float weight[] = {1, 2, 3, 0.1f}, bias = -7;
    ck_assert_int_eq(l->g->param[0]->init, INIT_LITERAL);
    ck_assert_mem_eq(l->g->param[0]->literal, weight, sizeof weight);
    ck_assert_mem_eq(l->g->param[1]->literal, &bias, sizeof bias);
    load_free(l);
}
END_TEST

START_TEST(labels_and_targets_are_inputs_of_the_loss)
{
    Load *l = load("local y = input { 4 }:linear { 3 }\n"
                   "return model { output = y, loss = y:cross_entropy { name = 'digit' } + y:mse() }");
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    ck_assert_int_eq(l->g->inputs, 3);
    ck_assert_str_eq(l->g->input[1]->name, "digit");
    ck_assert_int_eq(l->g->input[1]->dtype, I32);
    ck_assert_int_eq(l->g->input[1]->classes, 3);
    ck_assert_str_eq(l->g->input[2]->name, "target");
    ck_assert(l->g->input[1]->loss_only && l->g->input[2]->loss_only && !l->g->input[0]->loss_only);
    ck_assert_str_eq(l->g->layer[1]->name, "cross_entropy1");
    ck_assert_int_eq(l->g->root[1].kind, ROOT_LOSS);
    load_free(l);
}
END_TEST

/* -- sandbox -- */

/* Whatever a Lua library adds one day must be looked at before files may use it. */
START_TEST(globals_are_these_and_no_others)
{
    accept("local function names(t)\n"
           "  local list = {}\n"
           "  for name in pairs(t) do list[#list + 1] = name end\n"
           "  table.sort(list)\n"
           "  return table.concat(list, ' ')\n"
           "end\n"
           "local function is(t, expected) assert(names(t) == expected, names(t)) end\n"
           "is(_G, '_G _VERSION assert concat error getmetatable input ipairs math model next pairs pcall '\n"
           "  .. 'print rawequal rawget rawlen rawset select setmetatable string table tonumber tostring '\n"
           "  .. 'type utf8 xpcall')\n"
           "is(string, 'byte char find format gmatch gsub len lower match pack packsize rep reverse sub '\n"
           "  .. 'unpack upper')\n"
           "is(table, 'concat insert move pack remove sort unpack')\n"
           "assert(math.sqrt and not math.random and not math.randomseed)\n"     /* more: as Lua was built */
           "is(utf8, 'char charpattern codepoint codes len offset')\n"
           "return input { 3 }");
}
END_TEST

START_TEST(libraries_work_behind_their_guards)
{
    accept("assert(('a-b-c'):gsub('%-', '_') == 'a_b_c')\n"
           "assert(('3x28'):match '^(%d+)x(%d+)$' == '3')\n"
           "assert(('[]]'):find('[]]', 1) == 2 and ('x'):rep(3, ',') == 'x,x,x' and ('x'):rep(-1) == '')\n"
           "local t = { 3, 1, 2 }\n"
           "table.insert(t, 1, 9) table.sort(t) table.move(t, 1, 4, 2)\n"
           "assert(table.concat(t, ' ') == '1 1 2 3 9' and select('#', table.unpack(t)) == 5)\n"
           "assert(setmetatable({}, { __index = { a = 1 } }).a == 1)\n"
           "local n = 0\n"
           "for i = 1, 1000000 do n = n + i end\n"
           "return input { 3 }");
}
END_TEST

START_TEST(caught_failures_leave_no_trace)
{
    Load *l = load("local x = input { 3, 8, 8 }\n"
                   "assert(not pcall(x.conv2d, x, { 4, kernel = 9 }))\n"
                   "assert(not pcall(x.conv2d, x, { 4, kernel = 3, bias = { 1 } }))\n"
                   "assert(not pcall(x.linear, x, { 4 }))\n"
                   "assert(not pcall(function() return x + 'text' end))\n"
                   "return x:conv2d { 2, kernel = 3 }");
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    ck_assert_int_eq(l->g->params, 2);
    ck_assert_int_eq(l->g->layers, 1);
    ck_assert_str_eq(l->g->param[0]->name, "conv1.weight");
    load_free(l);
}
END_TEST

START_TEST(errors_name_the_path_as_given)
{
    char path[300], expected[400];
    memset(path, 'd', sizeof path);
    strcpy(path + 250, "/net.lua");
    snprintf(expected, sizeof expected, "%s:2: attempt to call a nil value (global 'nothing')", path);
    refuse_file("local x = input { 3 }\nnothing()", path, expected);
    snprintf(expected, sizeof expected, "%s:1: unexpected symbol near <eof>", path);
    refuse_file("return (", path, expected);
    refuse_file("return input { 0 }", "-",
                "stdin:1: input: dims: expects a whole number of at least 1, found 0");
    refuse_file("x", "net.onnx", "net.onnx: ONNX files are not supported; expected Lua source");
}
END_TEST

START_TEST(files_that_cannot_be_read)
{
    refuse_file(NULL, "tests/data/no-such.lua",
                "tests/data/no-such.lua: cannot open: No such file or directory");
    refuse_file(NULL, "tests/data", "tests/data: cannot read: found a directory, expected a file");
}
END_TEST

START_TEST(byte_order_mark_is_skipped)
{
    accept("\xEF\xBB\xBFreturn input { 3 }");
}
END_TEST

/* -- the networks of graphs/ -- */

static const struct { const char *file; int params; const char *layers; } known[] = {
    {"graphs/x.lua", 27, "strokes"},
    {"graphs/mlp.lua", 12289000, "flatten1"},     /* 12,288,000 weights and 1,000 biases */
    {"graphs/lenet5.lua", 61706, "conv1"},
    {"graphs/cifar_cnn.lua", 1116970, "conv1"},
    {"graphs/resnet8.lua", 78666, "conv1"},       /* as Keras counts MLPerf Tiny's */
    {"graphs/video3d.lua", 4213, "conv1"},
    {"graphs/pointwise.lua", 1040, "reduce"},
};

START_TEST(graphs_have_their_parameters)
{
    Load *l = load_batch(NULL, known[_i].file, 2);
    ck_assert_msg(l->g != NULL, "%s", l->c.message);
    ck_assert_int_eq(params_count(l->g), known[_i].params);
    ck_assert_str_eq(l->g->layer[0]->name, known[_i].layers);
    load_free(l);
}
END_TEST

Suite *language_suite(void)
{
    Suite *suite = suite_create("language");
    glob("tests/data/wrong/*.lua", 0, NULL, &wrong);

    TCase *refusals = tcase_create("refusals");
    tcase_add_loop_test(refusals, wrong_network, 0, (int)wrong.gl_pathc);
    tcase_add_test(refusals, wrong_networks_are_there);
    tcase_add_test(refusals, errors_name_the_path_as_given);
    tcase_add_test(refusals, files_that_cannot_be_read);
    tcase_add_test(refusals, caught_failures_leave_no_trace);
    suite_add_tcase(suite, refusals);

    TCase *names = tcase_create("names");
    tcase_add_test(names, layers_are_counted_by_kind);
    tcase_add_test(names, parameters_are_named_as_in_pytorch);
    tcase_add_test(names, layers_know_their_line_and_callers);
    tcase_add_test(names, outputs_have_names_and_an_order);
    tcase_add_test(names, models_are_named_by_the_file_or_themselves);
    suite_add_tcase(suite, names);

    TCase *tensors = tcase_create("tensors");
    tcase_add_test(tensors, fields_are_sizes_without_the_batch);
    tcase_add_test(tensors, arithmetic_broadcasts_as_numpy);
    tcase_add_test(tensors, concat_takes_tensors_or_a_table);
    tcase_add_test(tensors, options_by_place_name_and_list);
    tcase_add_test(tensors, literals_keep_their_numbers);
    tcase_add_test(tensors, labels_and_targets_are_inputs_of_the_loss);
    suite_add_tcase(suite, tensors);

    TCase *sandbox = tcase_create("sandbox");
    tcase_add_test(sandbox, globals_are_these_and_no_others);
    tcase_add_test(sandbox, libraries_work_behind_their_guards);
    tcase_add_test(sandbox, byte_order_mark_is_skipped);
    suite_add_tcase(suite, sandbox);

    TCase *graphs = tcase_create("graphs");
    tcase_add_loop_test(graphs, graphs_have_their_parameters, 0, sizeof known / sizeof *known);
    suite_add_tcase(suite, graphs);
    return suite;
}
