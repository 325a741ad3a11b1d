/* `cnnc run`: what scripts see, and how they fail. */
#include "files.h"
#include "tests.h"

#include <string.h>

static const char NET[] =
    "local x = input { 1, 2, 2 }\n"
    "local y = x:flatten():linear { 3, name = \"last\" }\n"
    "return model { output = y, loss = y:cross_entropy() }\n";

/* Put before each script. */
static const char HELPERS[] =
    "local folder = arg[1]; local function close(a, b) return math.abs(a - b) < 1e-5 end "
    "local function refuses(part, f, ...) local ok, message = pcall(f, ...) "
    "assert(not ok and message:find(part, 1, true), tostring(message)) end "
    "local function net() return load_model(folder .. '/net.lua') end\n";

typedef struct Script { const char *path; char *arg[1]; } Script;

static void run_script(void *argument)
{
    Script *s = argument;
    experiment_run(files_context(), s->path, 1, s->arg);
}

/* Writes the script below the helpers, so its first line is line 2. */
static bool runs(const char *text)
{
    Context *c = files_context();
    const char *whole = format(c, "%s%s", HELPERS, text);
    Script s = { in_folder("script.lua"), { in_folder("") } };
    put(s.path, whole, strlen(whole));
    put(in_folder("net.lua"), NET, strlen(NET));
    return attempt(c, run_script, &s);
}

static void assert_runs(const char *text)
{
    ck_assert_msg(runs(text), "%s", files_context()->message);
}

static void assert_fails(const char *text, const char *message)
{
    Context *c = files_context();
    ck_assert(!runs(text));
    ck_assert_int_eq(c->status, STATUS_INPUT);
    ck_assert_msg(strstr(c->message, message) != NULL, "found \"%s\", expected \"%s\"", c->message, message);
}

START_TEST(tensors)
{
    assert_runs("local t = tensor { { 1, 2, 3 }, { 4, 5, 6 } }\n"
                "assert(#t == 2 and #t[1] == 3 and t.count == 6 and t[2][3] == 6 and t[3] == nil)\n"
                "assert(t.shape[1] == 2 and t.shape[2] == 3 and #t.shape == 2)\n"
                "local sum = 0\n"
                "for i, row in ipairs(t) do for j, v in pairs(row) do sum = sum + i * j * v end end\n"
                "assert(sum == 14 + 2 * 32)\n"
                "t[1][2] = 9; t[2] = { 7, 8, 7 }\n"
                "assert(t[1][2] == 9 and t[2][2] == 8)\n"
                "local stacked = tensor { t, t }\n"
                "assert(#stacked.shape == 3 and stacked[2][1][2] == 9)\n"
                "assert(tostring(t):find('^tensor 2x3\\n.*9.*\\n.*8'))\n"
                "local part = t[2]; t = nil; collectgarbage(); collectgarbage()\n"
                "assert(part[2] == 8)\n"
                "refuses('another shape', tensor, { { 1, 2 }, { 3 } })\n"
                "refuses('another shape', tensor, { { 1, 2 }, 3 })\n"
                "refuses('empty', tensor, { {} })\n"
                "refuses('a string', tensor, { 'x' })\n"
                "local loop = {}; loop[1] = loop\n"
                "refuses('dimensions', tensor, loop)\n"
                "refuses('no field', function() return part.size end)\n"
                "refuses('outside', function() part[4] = 1 end)\n");
}
END_TEST

START_TEST(passes)
{
    assert_runs("local m = net():compile { batch = 2, jit = 'eval' }\n"
                "m:init(3)\n"
                "local p = m:params()\n"
                "local w, b = p['last.weight'], p['last.bias']\n"
                "assert(w.shape[1] == 3 and w.shape[2] == 4 and #b == 3)\n"
                "local x = { { { 1, 2 }, { 3, 4 } } }\n"
                "local y = m:forward(x)\n"
                "local expected = b[1] + w[1][1] + 2 * w[1][2] + 3 * w[1][3] + 4 * w[1][4]\n"
                "assert(#y.shape == 1 and close(y[1], expected))\n"
                "local many = m:forward { x, x, x }\n"
                "assert(many.shape[1] == 3 and close(many[3][1], expected))\n"
                "local loss, dx = m:backward(x, 2)\n"
                "local e = {}\n"
                "for i = 1, 3 do e[i] = math.exp(y[i]) end\n"
                "local s = e[1] + e[2] + e[3]\n"
                "assert(close(loss, -math.log(e[3] / s)))\n"
                "local g = m:grads()\n"
                "assert(close(g['last.bias'][1], e[1] / s) and close(g['last.bias'][3], e[3] / s - 1))\n"
                "assert(close(g['last.weight'][2][4], 4 * e[2] / s))\n"
                "local d = 0\n"
                "for i = 1, 3 do d = d + g['last.bias'][i] * w[i][3] end\n"
                "assert(#dx.shape == 3 and close(dx[1][2][1], d))\n"
                "local norms, square = m:grad_norms(), 0\n"
                "for _, t in pairs(g) do\n"
                "  for _, row in ipairs(t) do\n"
                "    if type(row) == 'number' then square = square + row * row\n"
                "    else for _, v in ipairs(row) do square = square + v * v end end\n"
                "  end\n"
                "end\n"
                "assert(#norms == 1 and norms[1].name == 'last')\n"
                "assert(close(norms[1].norm, math.sqrt(square)))\n"
                "refuses('label: label 1: found 3', m.backward, m, x, 3)\n"
                "refuses('label 2: found 0.5', m.backward, m, { x, x }, { 0, 0.5 })\n"
                "refuses('found 1 samples, expected 2', m.backward, m, { x, x }, { 0 })\n"
                "refuses('found 4, expected 1x2x2', m.forward, m, { 1, 2, 3, 4 })\n");
}
END_TEST

START_TEST(several_tensors_go_by_name)
{
    const char *two = "local a, b = input { 3, name = 'a' }, input { 3, name = 'b' }\n"
                      "return model { output = { sum = a + b, product = a * b } }\n";
    put(in_folder("two.lua"), two, strlen(two));
    assert_runs("local m = load_model(folder .. '/two.lua'):compile { jit = 'eval' }\n"
                "local y = m:forward { a = { 1, 2, 3 }, b = { 4, 5, 6 } }\n"
                "assert(y.sum[3] == 9 and y.product[2] == 10)\n"
                "refuses('input \"b\" is missing', m.forward, m, { a = { 1, 2, 3 } })\n"
                "refuses('compiled without training', m.backward, m, {}, {})\n");
}
END_TEST

START_TEST(training)
{
    static const char npy[] = "\x93NUMPY\1\0v\0"
                              "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1, 2, 2), }";
    unsigned char values[128 + 12 * sizeof(float)], labels[] = { 0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2 };
    memset(values, ' ', 128);
    memcpy(values, npy, sizeof npy - 1);
    values[127] = '\n';
    for (int i = 0; i < 12; i++)
        memcpy(values + 128 + (size_t)i * sizeof(float), &(float){ i % 5 == 0 }, sizeof(float));
    unsigned char images[16 + 12] = { 0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2 };
    for (int i = 0; i < 12; i++)
        images[16 + i] = i % 5 == 0 ? 255 : 0;
    put(in_folder("x.npy"), values, sizeof values);
    put(in_folder("x.idx"), images, sizeof images);
    put(in_folder("y.idx"), labels, sizeof labels);
    assert_runs("local d = data.idx(folder .. '/x.idx', folder .. '/y.idx')\n"
                "assert(#d == 3 and d.classes == 3 and d.shape[3] == 2)\n"
                "assert(d.y[3] == 2 and d.x[2][1][1][2] == 1)\n"
                "local part = d:slice(2, 3)\n"
                "assert(#part == 2 and part.classes == 3 and part.y[1] == 1 and part.x[1][1][1][2] == 1)\n"
                "refuses('slice: found 2 to 4', d.slice, d, 2, 4)\n"
                "assert(data.npy(folder .. '/x.npy').y == nil)\n"
                "local m = net():compile { batch = 2, jit = 'eval' }\n"
                "m:init(1)\n"
                "local step, loss = sgd { lr = 0.5, momentum = 0.9 }\n"
                "for epoch = 1, 30 do loss = m:fit(d, { optimizer = step, shuffle = epoch }) end\n"
                "assert(loss < 0.05 and m:accuracy(d) == 1 and m:accuracy(part) == 1)\n"
                "local y = m:forward(d.x)\n"
                "m:save(folder .. '/w.safetensors')\n"
                "m:init(2)\n"
                "m:load(folder .. '/w.safetensors')\n"
                "assert(m:forward(d.x)[3][2] == y[3][2])\n"
                "step = adam { lr = 0.01 }\n"
                "loss = m:fit(d, { optimizer = step, shuffle = true, log = folder .. '/log' })\n"
                "assert(loss < 0.05 and io.open(folder .. '/log'):read('l') == 'step,epoch,loss,lr')\n"
                "refuses('unknown option \"optimiser\"', m.fit, m, d, { optimiser = step })\n"
                "refuses('expected sgd {...} or adam {...}', m.fit, m, d, { optimizer = {} })\n"
                "refuses('shuffle: found a table', m.fit, m, d, { optimizer = step, shuffle = {} })\n"
                "refuses('found no labels', m.fit, m, data.idx(folder .. '/x.idx'), { optimizer = step })\n");
}
END_TEST

START_TEST(wrong_options)
{
    assert_runs("local compile = net().compile\n"
                "refuses('compile: unknown option \"bath\"', compile, net(), { bath = 3 })\n"
                "refuses('batch: found 0, expected a whole number from 1', compile, net(), { batch = 0 })\n"
                "refuses('batch: found 1.5', compile, net(), { batch = 1.5 })\n"
                "refuses('train: found 1, expected true or false', compile, net(), { train = 1 })\n"
                "refuses('unknown target \"z80\"', compile, net(), { target = 'z80' })\n"
                "refuses('found \"llvm\", expected tcc, cc or eval', compile, net(), { jit = 'llvm' })\n"
                "refuses('expected a table of options', compile, net(), 3)\n"
                "refuses('sgd: lr is missing', sgd, {})\n"
                "refuses('momentum: found x, expected a number from 0', sgd, { lr = 1, momentum = 'x' })\n"
                "refuses('lr: found ', adam, { lr = 0 / 0 })\n"
                "refuses('unknown option \"1\"', sgd, { 0.1 })\n");
}
END_TEST

START_TEST(errors_have_the_scripts_line)
{
    assert_fails("\nerror 'boom'", "script.lua:3: boom");
    assert_fails("local x = = 3", "script.lua:2: ");
    const char *here = in_folder("");
    assert_fails("load_model(folder .. '/none.lua')",
                 format(files_context(), "script.lua:2: %s/none.lua: ", here));
    assert_fails("data.idx('nowhere')", "script.lua:2: nowhere: ");
    assert_fails("error { code = 1 }", "the error object is a table");
    assert_fails("error(setmetatable({}, { __tostring = function() return 'mine' end }))", "mine");
    const char *bad = "local x = input { 1, 2, 2 }\nreturn x:conv2d { 1, kernel = 3 }\n";
    put(in_folder("bad.lua"), bad, strlen(bad));
    assert_fails("\n\nload_model(folder .. '/bad.lua')",
                 format(files_context(), "script.lua:4: %s/bad.lua:2: conv2d: ", here));
    assert_runs("assert(arg[0]:find('script.lua') and #arg == 1 and ... == arg[1])");
}
END_TEST

/* Everything libtcc makes is executed, and nothing is lost or read unset. */
START_TEST(valgrind_finds_nothing)
{
    static const char script[] =
        "local m = load_model(arg[1]):compile { batch = 2, jit = 'tcc' }\n"
        "local x = { { { 1, 2 }, { 3, 4 } } }\n"
        "m:forward { x, x, x }\n"
        "m:backward({ x, x, x }, { 0, 1, 2 })\n"
        "pcall(m.backward, m, x, 3)\n";
    put(in_folder("net.lua"), NET, strlen(NET));
    put(in_folder("script.lua"), script, strlen(script));
    Run r = run("valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=all "
                "--errors-for-leak-kinds=all build/cnnc run %s %s",
                in_folder("script.lua"), in_folder("net.lua"));
    ck_assert_msg(r.status == 0 && !*r.err, "status %d: %s", r.status, r.err);
    run_free(&r);
}
END_TEST

/* They compare their results themselves; a pipe gets no progress bar. */
START_TEST(experiments_run)
{
    static const char *const name[] = { "convolution", "vanishing" };
    Run r = run("build/cnnc run graphs/experiments/%s.lua", name[_i]);
    ck_assert_msg(r.status == 0 && !*r.err, "status %d: %s", r.status, r.err);
    run_free(&r);
}
END_TEST

START_TEST(no_progress_on_a_pipe)
{
    static const char script[] =
        "local dir = '/usr/share/datasets/fashion-mnist/t10k-'\n"
        "local d = data.idx(dir .. 'images-idx3-ubyte.gz', dir .. 'labels-idx1-ubyte.gz'):slice(1, 1000)\n"
        "local m = load_model('graphs/lenet5.lua'):compile { batch = 64 }\n"
        "local loss = m:fit(d, { optimizer = sgd { lr = 0.05, momentum = 0.9 } })\n"
        "assert(loss < 2.31 and m:accuracy(d) > 0)\n";
    put(in_folder("script.lua"), script, strlen(script));
    Run r = run("build/cnnc run %s", in_folder("script.lua"));
    ck_assert_msg(r.status == 0 && !*r.err && !*r.out, "status %d: %s", r.status, r.err);
    run_free(&r);
}
END_TEST

Suite *experiment_suite(void)
{
    Suite *s = suite_create("experiment");
    TCase *t = tcase_create("experiment");
    tcase_add_checked_fixture(t, files_setup, files_teardown);
    tcase_add_test(t, tensors);
    tcase_add_test(t, passes);
    tcase_add_test(t, several_tensors_go_by_name);
    tcase_add_test(t, training);
    tcase_add_test(t, wrong_options);
    tcase_add_test(t, errors_have_the_scripts_line);
    tcase_add_test(t, valgrind_finds_nothing);
    tcase_add_loop_test(t, experiments_run, 0, 2);
    tcase_add_test(t, no_progress_on_a_pipe);
    suite_add_tcase(s, t);
    return s;
}
