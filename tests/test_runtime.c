/* Backends, models and the training loop. */
#include "files.h"
#include "tests.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BATCH = 8, SIZE = 2 * 4 * 4, CLASSES = 4, SAMPLES = 22 };

static const char PLAIN[] =
    "local x = input { 2, 4, 4 }\n"
    "local y = x:conv2d { 3, kernel = 3, pad = 1 }:relu():maxpool { 2 }:flatten():linear { 4 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n";
enum { PLAIN_PARAMS = 3 * 2 * 9 + 3 + 4 * 12 + 4 };
static const char NORMED[] =
    "local x = input { 2, 4, 4 }\n"
    "local h = x:conv2d { 3, kernel = 3, pad = 1 }:batchnorm{}:relu():dropout { 0.25 }:flatten()\n"
    "h = h:linear { 6, bias = false }:batchnorm{}:tanh()\n"
    "local y = h:linear { 4 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n";

static const Jit backends[] = { JIT_TCC, JIT_CC, JIT_EVAL };

static Model *open_model(const char *text, int batch, Jit jit, bool train)
{
    const char *path = in_folder("net.lua");
    put(path, text, strlen(text));
    return model_open(files_context(), path,
                      (ModelOptions){ .batch = batch, .jit = jit, .train = train,
                                      .target = target_find("native"), .seed = 7 });
}

/* Samples whose brightest quarter is their class. */
static Dataset *quarters(int samples)
{
    Context *c = files_context();
    Dataset *d = NEW(c, Dataset);
    *d = (Dataset){ .name = "quarters", .count = samples, .sample = shape_of(3, (int[]){ 2, 4, 4 }),
                    .value = NEW_ARRAY(c, float, samples * SIZE), .label = NEW_ARRAY(c, int32_t, samples),
                    .classes = CLASSES };
    for (int i = 0; i < samples; i++) {
        d->label[i] = i % CLASSES;
        for (int k = 0; k < SIZE; k++) {
            int quarter = 2 * (k % 16 / 8) + k % 4 / 2;
            float noise = random_unit(3, 0, (uint32_t)(i * SIZE + k));
            d->value[i * SIZE + k] = noise + (float)(quarter == i % CLASSES);
        }
    }
    return d;
}

static void assert_close(const float *found, const float *expected, int64_t count, double tolerance)
{
    double largest = 1e-6;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs((double)expected[i]));
    for (int64_t i = 0; i < count; i++)
        ck_assert_msg(fabs((double)found[i] - (double)expected[i]) <= tolerance * largest,
                      "entry %d: found %g, expected %g", (int)i, (double)found[i], (double)expected[i]);
}

/* --------------------------------------------------------------------- backends */

static float *unpacked(Model *m, const void *params)
{
    float *flat = NEW_ARRAY(m->c, float, params_count(model_net(m)));
    m->code[0]->unpack(m->code[0], flat, params);
    return flat;
}

/* Loss, gradients, running statistics and one step of each optimiser. */
static void assert_trains_alike(Model *a, Model *b)
{
    const Dataset *d = quarters(BATCH);
    void *in[] = { d->value, d->label };
    int64_t count = params_count(model_net(a));
    Model *model[] = { a, b };
    float loss[2], before[2];
    for (int i = 0; i < 2; i++) {
        Model *m = model[i];
        Code *code = m->code[0];
        before[i] = code->loss(code, m->params, in, m->workspace);
        code->backward(code, m->params, in, m->grad, NULL, m->workspace, 99, false);
        loss[i] = code->backward(code, m->params, in, m->grad, NULL, m->workspace, 5, true);
    }
    assert_close(&before[0], &before[1], 1, 1e-5);
    assert_close(&loss[0], &loss[1], 1, 1e-5);
    assert_close(unpacked(a, a->grad), unpacked(b, b->grad), count, 1e-4);
    assert_close(unpacked(a, a->params), unpacked(b, b->params), count, 1e-5);
    for (int i = 0; i < 2; i++) {
        Model *m = model[i];
        Code *code = m->code[0];
        code->sgd(code, m->params, m->grad, m->moment[0], 0.1f, 0.9f, 0.01f);
        code->sgd(code, m->params, m->grad, m->moment[0], 0.1f, 0.9f, 0.01f);
        memset(m->moment[0], 0, (size_t)code->params_bytes);
        for (int step = 1; step <= 3; step++)
            code->adam(code, m->params, m->grad, m->moment[0], m->moment[1], step, 0.01f, 0.9f, 0.999f, 1e-3f,
                       0.01f);
    }
    assert_close(unpacked(a, a->params), unpacked(b, b->params), count, 1e-4);
}

START_TEST(backends_agree)
{
    const char *net = _i % 2 ? NORMED : PLAIN;
    Model *oracle = open_model(net, BATCH, JIT_EVAL, true);
    Model *m = open_model(net, BATCH, backends[_i / 2], true);
    const Dataset *d = quarters(BATCH);
    float expected[BATCH * CLASSES], found[BATCH * CLASSES];
    const float *in = d->value;
    model_forward(oracle, BATCH, &in, (float *[]){ expected });
    model_forward(m, BATCH, &in, (float *[]){ found });
    assert_close(found, expected, BATCH * CLASSES, 1e-5);
    assert_trains_alike(m, oracle);
    model_close(m);
    model_close(oracle);
}
END_TEST

START_TEST(init_is_the_models)
{
    Model *m = open_model(NORMED, BATCH, backends[_i], true);
    Code *code = m->code[0];
    float *expected = unpacked(m, m->params);
    memset(m->params, 0, (size_t)code->params_bytes);
    code->init(code, m->params, 7);
    assert_close(unpacked(m, m->params), expected, params_count(model_net(m)), 0);
    model_close(m);
}
END_TEST

/* By torch.optim's formulas, in double, for gradients that stay as they are. */
START_TEST(optimisers_follow_pytorch)
{
    enum { STEPS = 3 };
    const double lr = 0.1, decay = 0.01;
    Model *m = open_model(PLAIN, BATCH, backends[_i], true);
    Code *code = m->code[0];
    const Dataset *d = quarters(BATCH);
    code->backward(code, m->params, (void *[]){ d->value, d->label }, m->grad, NULL, m->workspace, 0, false);
    int count = (int)params_count(model_net(m));
    float *g = unpacked(m, m->grad), *start = unpacked(m, m->params);
    float *by_sgd = NEW_ARRAY(m->c, float, count), *by_adam = NEW_ARRAY(m->c, float, count);
    for (int i = 0; i < count; i++) {
        double p = (double)start[i], q = p, velocity = 0, mean = 0, square = 0;
        for (int t = 1; t <= STEPS; t++) {
            velocity = 0.9 * velocity + (double)g[i] + decay * p;
            p -= lr * velocity;
            double h = (double)g[i] + decay * q;
            mean = 0.9 * mean + 0.1 * h;
            square = 0.99 * square + 0.01 * h * h;
            q -= lr * (mean / (1 - pow(0.9, t))) / (sqrt(square / (1 - pow(0.99, t))) + 1e-3);
        }
        by_sgd[i] = (float)p;
        by_adam[i] = (float)q;
    }
    for (int t = 0; t < STEPS; t++)
        code->sgd(code, m->params, m->grad, m->moment[0], (float)lr, 0.9f, (float)decay);
    assert_close(unpacked(m, m->params), by_sgd, count, 1e-5);
    code->pack(code, m->params, start);
    memset(m->moment[0], 0, (size_t)code->params_bytes);
    for (int t = 1; t <= STEPS; t++)
        code->adam(code, m->params, m->grad, m->moment[0], m->moment[1], t, (float)lr, 0.9f, 0.99f, 1e-3f,
                   (float)decay);
    assert_close(unpacked(m, m->params), by_adam, count, 1e-5);
    model_close(m);
}
END_TEST

/* -------------------------------------------------------------- the C compiler */

static void open_by_cc(void *unused)
{
    (void)unused;
    model_close(open_model(PLAIN, 1, JIT_CC, false));
}

START_TEST(cc_cleans_up)
{
    Context *c = files_context();
    const char *folder = in_folder("temporary");
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    setenv("TMPDIR", folder, 1);
    ck_assert(attempt(c, open_by_cc, NULL));
    ck_assert_int_eq(files_in(folder), 0);
    setenv("CC", "false", 1);
    ck_assert(!attempt(c, open_by_cc, NULL));
    ck_assert_int_eq(c->status, STATUS_FAULT);
    setenv("CC", "no-such-compiler -x", 1);
    ck_assert(!attempt(c, open_by_cc, NULL));
    ck_assert_int_eq(c->status, STATUS_INPUT);
    ck_assert_ptr_nonnull(strstr(c->message, "no-such-compiler: cannot be run"));
    ck_assert_int_eq(files_in(folder), 0);
    unsetenv("CC");
    unsetenv("TMPDIR");
}
END_TEST

START_TEST(cc_builds_files)
{
    static const char *const kind[] = { "o", "a", "so" };
    static const Files files = { .source = "#include \"one.h\"\nint one(void) { return 1; }\n",
                                 .header = "int one(void);\n", .header_name = "one.h" };
    const char *path = in_folder(kind[_i]);
    cc_build(files_context(), &files, &(Options){.target = target_find("native")}, kind[_i], path);
    size_t length;
    const unsigned char *data = file_read(files_context(), path, &length);
    const char *magic = _i == 1 ? "!<arch>" : "\177ELF";
    ck_assert(length > strlen(magic) && !memcmp(data, magic, strlen(magic)));
}
END_TEST

/* ----------------------------------------------------------------------- models */

START_TEST(last_batch_is_short)
{
    const Dataset *d = quarters(SAMPLES);
    Model *one = open_model(NORMED, 1, backends[_i], false);
    Model *many = open_model(NORMED, BATCH, backends[_i], false);
    float expected[SAMPLES * CLASSES], found[SAMPLES * CLASSES];
    const float *in = d->value;
    model_forward(one, SAMPLES, &in, (float *[]){ expected });
    model_forward(many, SAMPLES, &in, (float *[]){ found });
    assert_close(found, expected, SAMPLES * CLASSES, 1e-5);
    ck_assert_int_eq(many->codes, 2);
    model_close(one);
    model_close(many);
}
END_TEST

START_TEST(saved_parameters_come_back)
{
    Model *m = open_model(NORMED, BATCH, backends[_i], true);
    const Dataset *d = quarters(SAMPLES);
    Fit fit = { .optimizer = { .lr = 0.1f } };
    model_fit(m, d, &fit);
    int count = (int)params_count(model_net(m));
    float *expected = unpacked(m, m->params);
    model_save(m, in_folder("net.safetensors"));
    Model *other = open_model(NORMED, 1, JIT_EVAL, false);
    model_load(other, in_folder("net.safetensors"));
    ck_assert(!memcmp(model_flat(other), expected, (size_t)count * sizeof(float)));
    model_close(other);
    model_close(m);
}
END_TEST

/* --------------------------------------------------------------------- training */

static const float *trained(const char *net, Jit jit, uint64_t shuffle_seed, double *loss)
{
    Model *m = open_model(net, BATCH, jit, true);
    const Dataset *d = quarters(SAMPLES);
    Fit fit = { { .lr = 0.05f, .momentum = 0.9f }, .shuffle = true, .shuffle_seed = shuffle_seed };
    for (int epoch = 0; epoch < 25; epoch++)
        *loss = model_fit(m, d, &fit);
    ck_assert_int_eq(m->optimizer_steps, 25 * 3);
    if (shuffle_seed == 1)
        ck_assert_double_eq(model_accuracy(m, d), 1);
    const float *flat = model_flat(m);
    model_close(m);                              /* the parameters stay in the context */
    return flat;
}

START_TEST(learns_with_the_same_bits)
{
    double first, again, other;
    const float *a = trained(PLAIN, backends[_i], 1, &first), *b = trained(PLAIN, backends[_i], 1, &again);
    const float *c = trained(PLAIN, backends[_i], 2, &other);
    size_t bytes = (size_t)PLAIN_PARAMS * sizeof(float);
    ck_assert_double_lt(first, 0.2);
    ck_assert_double_eq(first, again);
    ck_assert_double_ne(first, other);
    ck_assert(!memcmp(a, b, bytes) && memcmp(a, c, bytes));
}
END_TEST

START_TEST(changing_the_optimiser_clears_its_state)
{
    Model *m = open_model(PLAIN, BATCH, JIT_EVAL, true);
    const Dataset *d = quarters(BATCH);
    Fit sgd = { .optimizer = { .lr = 0, .momentum = 0.9f } };
    Fit adam = { .optimizer = { .adam = true, .lr = 0, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1 } };
    model_fit(m, d, &sgd);
    model_fit(m, d, &sgd);
    ck_assert_int_eq(m->optimizer_steps, 2);
    model_fit(m, d, &adam);
    ck_assert_int_eq(m->optimizer_steps, 1);
    int count = (int)params_count(model_net(m));
    float *mean = unpacked(m, m->moment[0]), *g = unpacked(m, m->grad);
    for (int i = 0; i < count; i++)
        mean[i] *= 10;
    assert_close(mean, g, count, 1e-5);
    model_close(m);
}
END_TEST

START_TEST(log_has_a_line_a_step)
{
    Model *m = open_model(PLAIN, BATCH, JIT_EVAL, true);
    const Dataset *d = quarters(SAMPLES);
    Fit fit = { .optimizer = { .lr = 0.25f }, .log = in_folder("log.csv") };
    model_fit(m, d, &fit);
    model_fit(m, d, &fit);
    char *text = text_read(in_folder("log.csv"));
    ck_assert_int_eq(strncmp(text, "step,epoch,loss,lr\n1,1,", 23), 0);
    ck_assert_ptr_nonnull(strstr(text, "\n4,2,"));
    int lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    ck_assert_int_eq(lines, 1 + 2 * 3);
    ck_assert_str_eq(text + strlen(text) - 6, ",0.25\n");
    free(text);
    model_close(m);
}
END_TEST

/* ---------------------------------------------------------------------- refusals */

typedef struct Attempt { Model *m; const Dataset *d; } Attempt;

static void try_fit(void *argument)
{
    Attempt *a = argument;
    model_fit(a->m, a->d, &(Fit){ .optimizer = { .lr = 0.1f } });
}

static void assert_fit_refused(const char *net, const Dataset *d, const char *part)
{
    Context *c = files_context();
    Attempt a = { open_model(net, BATCH, JIT_EVAL, true), d };
    ck_assert(!attempt(c, try_fit, &a));
    ck_assert_int_eq(c->status, STATUS_INPUT);
    ck_assert_msg(strstr(c->message, part) != NULL, "found \"%s\", expected \"%s\"", c->message, part);
    model_close(a.m);
}

START_TEST(wrong_data_is_refused)
{
    Dataset *d = quarters(SAMPLES);
    d->label[20] = 4;
    assert_fit_refused(PLAIN, d, "quarters: label of sample 20: found 4, expected 0 to 3");
    d->label[20] = -1;
    assert_fit_refused(PLAIN, d, "quarters: label of sample 20: found -1, expected 0 to 3");
    d->label = NULL;
    assert_fit_refused(PLAIN, d, "quarters: found no labels");
    d = quarters(SAMPLES);
    d->sample.dim[2] = 5;
    assert_fit_refused(PLAIN, d, "quarters: samples: found 2x4x5, expected 2x4x4 as input \"input\"");
    assert_fit_refused("local x = input { 2, 4, 4 }\nreturn model { output = x, loss = x:mse() }\n",
                       quarters(8), "the loss reads \"target\" of shape 2x4x4");
    assert_fit_refused("local x = input { 2, 4, 4, name = \"a\" } + input { 2, 4, 4, name = \"b\" }\n"
                       "local y = x:flatten():linear { 4 }\n"
                       "return model { output = y, loss = y:cross_entropy() }\n", quarters(8),
                       "found the inputs \"a\" and \"b\", expected one");
}
END_TEST

START_TEST(one_sample_has_no_variance)
{
    assert_fit_refused("local x = input { 2, 4, 4 }\nlocal y = x:flatten():batchnorm{}:linear { 4 }\n"
                       "return model { output = y, loss = y:cross_entropy() }\n", quarters(2 * BATCH + 1),
                       "quarters: the last batch has 1 of 8 samples");
}
END_TEST

Suite *runtime_suite(void)
{
    Suite *s = suite_create("runtime");
    TCase *t = tcase_create("runtime");
    tcase_add_checked_fixture(t, files_setup, files_teardown);
    tcase_add_loop_test(t, backends_agree, 0, 6);
    tcase_add_loop_test(t, init_is_the_models, 0, 3);
    tcase_add_loop_test(t, optimisers_follow_pytorch, 0, 3);
    tcase_add_test(t, cc_cleans_up);
    tcase_add_loop_test(t, cc_builds_files, 0, 3);
    tcase_add_loop_test(t, last_batch_is_short, 0, 3);
    tcase_add_loop_test(t, saved_parameters_come_back, 0, 3);
    tcase_add_loop_test(t, learns_with_the_same_bits, 0, 3);
    tcase_add_test(t, changing_the_optimiser_clears_its_state);
    tcase_add_test(t, log_has_a_line_a_step);
    tcase_add_test(t, wrong_data_is_refused);
    tcase_add_test(t, one_sample_has_no_variance);
    suite_add_tcase(s, t);
    return s;
}
