/* Winograd's convolutions: every tile against the reference, for sizes that no tile divides,
 * channels that no vector divides, all that may stand behind a convolution; and what whole
 * networks lose by it. */
#include "tests.h"
#include "trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int tiles[] = {2, 4, 6};
enum { TILES = sizeof tiles / sizeof *tiles };

/* -- small networks -- */

static const char *const networks[] = {
    "local x = input { 16, 9, 11 }:conv2d { 16, kernel = 1 }\n"
    "local y = x:conv2d { 32, kernel = 3, pad = 1 }:relu():global_avgpool():linear { 3 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n",
    /* no padding, a whole number of tiles for 2 and 4; both channels in ragged blocks */
    "local x = input { 19, 14, 10 }:conv2d { 21, kernel = 1 }\n"
    "local y = x:conv2d { 37, kernel = 3, bias = false }:relu6():flatten():linear { 2 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n",
    /* every border different; a row of outputs; the result as the caller's memory has it */
    "local x = input { 3, 5, 8 }:conv2d { 16, kernel = 1 }:relu()\n"
    "local y = x:conv2d { 18, kernel = 3, pad = { 0, 2, 1, 0 } }\n"
    "return model { output = y, loss = y:flatten():linear { 2 }:cross_entropy() }\n",
    "local x = input { 2, 3, 17 }:conv2d { 16, kernel = 1 }\n"
    "local y = x:conv2d { 16, kernel = 3 }:tanh():flatten():linear { 2 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n",
    /* normalised and added, inputs and outputs read twice */
    "local x = input { 4, 13, 7 }:conv2d { 32, kernel = 1 }:relu()\n"
    "local y = x:conv2d { 32, kernel = 3, pad = 1, bias = false }:batchnorm():relu()\n"
    "y = y:conv2d { 32, kernel = 3, pad = 1, bias = false }:batchnorm() + x\n"
    "y = y:relu():maxpool { 2 }:flatten():linear { 3 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n",
    /* side by side in one tensor; a true convolution; pads of 2 */
    "local x = input { 5, 6, 6 }:conv2d { 16, kernel = 1 }:relu()\n"
    "local a, b = x:conv2d { 16, kernel = 3, pad = 2, flip = true }, x:conv2d { 32, kernel = 3, pad = 2 }\n"
    "local y = concat(a, b):relu():conv2d { 4, kernel = 3 }:flatten():linear { 2 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n",
    /* few channels; straight from the input and into the output */
    "local x = input { 3, 8, 9 }\n"
    "local y = x:conv2d { 5, kernel = 3, pad = 1 }:conv2d { 2, kernel = 3, pad = 1, name = \"band\" }\n"
    "return model { output = y, loss = y:flatten():linear { 2 }:cross_entropy() }\n",
    /* many bands */
    "local x = input { 2, 50, 60 }:conv2d { 64, kernel = 1 }:relu()\n"
    "local y = x:conv2d { 64, kernel = 3, pad = 1 }:relu():maxpool { 7 }:flatten():linear { 2 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n",
    /* what cannot: strides, dilation, groups, other kernels */
    "local x = input { 16, 12, 12 }:conv2d { 16, kernel = 3, stride = 2, pad = 1 }\n"
    "x = x:conv2d { 16, kernel = 3, dilation = 2, pad = 2 }:conv2d { 16, kernel = 3, groups = 2, pad = 1 }\n"
    "local y = x:conv2d { 16, kernel = { 3, 1 } }:flatten():linear { 2 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n",
};
enum { NETWORKS = sizeof networks / sizeof *networks };

static Code *open_code(Context *c, const Network *n, bool train, const Target *target, int tile, Jit jit,
                       int threads)
{
    Graph *net = frontend_load_text(c, n->text, strlen(n->text), "winograd.lua", n->batch);
    Options options = {.batch = n->batch, .target = target, .winograd = tile, .threads = threads,
                       .share_least = threads > 1, .train = train, .input_grad = train};
    return code_open(compile(net, &options, NULL), jit);
}

static void try_tile(Context *c, const Trial *t, bool train, const Target *target, int tile, Jit jit)
{
    Code *code = open_code(c, &t->network, train, target, tile, jit, 1);
    const char *message = (train ? trial_train : trial_infer)(t, c, code);
    ck_assert_msg(!message, "F(%d), %s: %s", tile, target->name, message);
    if (jit == JIT_TCC) {
        const Results expected = trial_run(t, c, code);
        Code *shared = open_code(c, &t->network, train, target, tile, jit, 3);
        message = trial_same(t, c, shared, &expected);
        ck_assert_msg(!message, "F(%d), %s: %s", tile, target->name, message);
        shared->close(shared);
    }
    code->close(code);
}

static void open_trial(Trial *t, int network, int batch)
{
    const char *message = trial_open(t, &(Network){networks[network], batch, 7});
    ck_assert_msg(!message, "%s", message);
}

START_TEST(every_tile_is_right_by_tcc)
{
    int targets;
    const Target *target = target_list(&targets);
    for (int batch = 1; batch <= 3; batch += 2) {
        Trial t;
        Context c;
        context_init(&c);
        open_trial(&t, _i, batch);
        for (int i = 0; i < targets; i++)
            for (int k = 0; k < 2 * TILES && target_runs(&target[i]); k++)
                try_tile(&c, &t, k % 2, &target[i], tiles[k / 2], JIT_TCC);
        trial_close(&t);
        context_free(&c);
    }
}
END_TEST

START_TEST(every_tile_is_right_by_cc)
{
    Trial t;
    Context c;
    context_init(&c);
    open_trial(&t, _i, 1);
    for (int train = 0; train < 2; train++)
        try_tile(&c, &t, train, target_find("native"), tiles[_i % TILES], JIT_CC);
    trial_close(&t);
    context_free(&c);
}
END_TEST

/* -- matrices -- */

/* The outputs of a tile of a row, by the definition and by the matrices. */
START_TEST(matrices_correlate)
{
    static const double w[] = {0.5, -2, 3}, x[] = {1, 4, -2, 0.25, 7, -5, 2, 6};
    Context c;
    context_init(&c);
    const Matrix *a = winograd_matrix(&c, tiles[_i], WINOGRAD_OUTPUT);
    const Matrix *b = winograd_matrix(&c, tiles[_i], WINOGRAD_INPUT);
    const Matrix *g = winograd_matrix(&c, tiles[_i], WINOGRAD_FILTER);
    for (int i = 0; i < tiles[_i]; i++) {
        double sum = 0, expected = w[0] * x[i] + w[1] * x[i + 1] + w[2] * x[i + 2];
        for (int p = 0; p < a->columns; p++) {
            double u = 0, v = 0;
            for (int k = 0; k < g->columns; k++)
                u += g->entry[p][k] * w[k];
            for (int k = 0; k < b->columns; k++)
                v += b->entry[p][k] * x[k];
            sum += a->entry[i][p] * u * v;
        }
        ck_assert_double_eq_tol(sum, expected, 1e-12);
    }
    context_free(&c);
}
END_TEST

/* -- whole networks -- */

static const char *const wholes[] = {"cifar_cnn", "squeezenet1_1", "resnet18", "resnet50", "vgg16"};
enum { WHOLES = sizeof wholes / sizeof *wholes };

typedef struct Whole { Context c; const char *name; int tile, count; float *output; bool used; } Whole;

static void run_whole(void *argument)
{
    Whole *w = argument;
    Context *c = &w->c;
    Graph *net = network_load(c, format(c, "graphs/%s.lua", w->name), 1);
    Options options = {.batch = 1, .target = target_find("native"), .winograd = w->tile};
    Program *p = compile(net, &options, NULL);
    Code *code = code_open(p, JIT_TCC);
    void *params = aligned_memory(c, code->params_bytes);
    int inputs = shape_count(&net->input[0]->shape);
    float *input = NEW_ARRAY(c, float, inputs);
    for (int i = 0; i < inputs; i++)
        input[i] = 2 * random_unit(3, 1, (uint32_t)i) - 1;
    w->count = shape_count(&p->output[0].node->shape);
    w->output = NEW_ARRAY(c, float, w->count);
    for (int i = 0; i < p->forward->kernels; i++)
        w->used |= kernel_start(p->forward->kernel[i])->op->algorithm != NULL;
    code->init(code, params, 5);
    code->forward(code, params, (void *const[]){input, w->output}, aligned_memory(c, code->workspace_bytes));
    code->close(code);
}

START_TEST(networks_keep_their_digits)
{
    const char *name = wholes[_i];
    Whole whole[2] = {{.name = name, .tile = WINOGRAD_OFF}, {.name = name, .tile = WINOGRAD_AUTO}};
    for (int i = 0; i < 2; i++) {
        context_init(&whole[i].c);
        ck_assert_msg(attempt(&whole[i].c, run_whole, &whole[i]), "%s", whole[i].c.message);
    }
    Distance d = {0, 0};
    distance_add(&d, whole[1].output, whole[0].output, whole[0].count);
    ck_assert_msg(distance(&d) < 1e-4, "%s: %g of the largest output", name, distance(&d));
    ck_assert(!whole[0].used && whole[1].used == (target_level(target_find("native"))->lanes > 1));
    for (int i = 0; i < 2; i++)
        context_free(&whole[i].c);
}
END_TEST

Suite *winograd_suite(void)
{
    Suite *s = suite_create("winograd");
    TCase *t = tcase_create("winograd");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, matrices_correlate, 0, TILES);
    tcase_add_loop_test(t, every_tile_is_right_by_tcc, 0, NETWORKS);
    tcase_add_loop_test(t, every_tile_is_right_by_cc, 0, NETWORKS);
    tcase_add_loop_test(t, networks_keep_their_digits, 0, WHOLES);
    suite_add_tcase(s, t);
    return s;
}
