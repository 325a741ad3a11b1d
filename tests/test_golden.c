/* Numbers that a person can check with a pencil, from the tutorial "Understand and
 * Build CNN from the Ground Up and Intuition": the filters that find an X, and where
 * the error goes on its way back.  By every way to run a network, and by programs that
 * stand alone.  And the committed output of the emitter, byte for byte. */
#define _GNU_SOURCE
#include "files.h"
#include "tests.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CNNC "build/cnnc"

static const Jit backends[] = {JIT_EVAL, JIT_TCC, JIT_CC};
enum { BACKENDS = 3 };

static void expect_run(Run r)
{
    ck_assert_msg(r.status == 0 && !*r.err, "status %d: %s%s", r.status, r.err, r.out);
    run_free(&r);
}

/* tests/data/NAME.c as a program around the C of a network, compiled in the test's folder
 * and run there with `in` as its standard input; `out` from its standard output. */
static void run_standalone(const char *name, const char *cnnc_arguments, const char *flags,
                           const void *in, size_t in_bytes, void *out, size_t out_bytes)
{
    const char *folder = in_folder("");
    expect_run(run(CNNC " %s", cnnc_arguments));
    expect_run(run("gcc -O2 %s -Wall -Wextra -Werror -I%s -o %sprogram tests/data/%s.c %s*.c -lm", flags,
                   folder, folder, name, folder));
    put(in_folder("in"), in, in_bytes);
    expect_run(run("%sprogram <%sin >%sout", folder, folder, folder));
    size_t length;
    const void *found = file_read(files_context(), in_folder("out"), &length);
    ck_assert_uint_eq(length, out_bytes);
    memcpy(out, found, length);
}

/* ------------------------------------------------------------- the filters of an X */

enum { FILTERS = 3, SIDE = 9, KERNEL = 3, MAP = 7, POOLED = 4 };

/* The outputs of graphs/x.lua, in their order. */
typedef struct Answers {
    float map[FILTERS][MAP][MAP], relu[FILTERS][MAP][MAP], pooled[FILTERS][POOLED][POOLED];
} Answers;

static float stroke(int row, int column)
{
    bool inside = row >= 1 && row <= 7;
    return inside && (row == column || row + column == 8) ? 1 : -1;
}

/* Diagonal, cross, antidiagonal. */
static float filter(int k, int row, int column)
{
    bool falling = row == column, rising = row + column == 2;
    return (k != 2 && falling) || (k != 0 && rising) ? 1 : -1;
}

static double answer(int k, int row, int column)
{
    double sum = 0;
    for (int i = 0; i < KERNEL; i++)
        for (int j = 0; j < KERNEL; j++)
            sum += (double)stroke(row + i, column + j) * (double)filter(k, i, j);
    return sum / (KERNEL * KERNEL);
}

/* The largest answer of a 2x2 window, which the map's edge may cut. */
static double strongest(int k, int row, int column)
{
    double best = -INFINITY;
    for (int i = 2 * row; i < 2 * row + 2 && i < MAP; i++)
        for (int j = 2 * column; j < 2 * column + 2 && j < MAP; j++)
            best = fmax(best, answer(k, i, j));
    return best;
}

/* As the tutorial prints them, cut off behind two decimals. */
static const double diagonal_map[MAP][MAP] = {
    { 0.77, -0.11,  0.11,  0.33,  0.55, -0.11,  0.33},
    {-0.11,  1.00, -0.11,  0.33, -0.11,  0.11, -0.11},
    { 0.11, -0.11,  1.00, -0.33,  0.11, -0.11,  0.55},
    { 0.33,  0.33, -0.33,  0.55, -0.33,  0.33,  0.33},
    { 0.55, -0.11,  0.11, -0.33,  1.00, -0.11,  0.11},
    {-0.11,  0.11, -0.11,  0.33, -0.11,  1.00, -0.11},
    { 0.33, -0.11,  0.55,  0.33,  0.11, -0.11,  0.77},
};
static const double diagonal_pooled[POOLED][POOLED] = {
    {1.00, 0.33, 0.55, 0.33},
    {0.33, 1.00, 0.33, 0.55},
    {0.55, 0.33, 1.00, 0.11},
    {0.33, 0.55, 0.11, 0.77},
};

/* Every answer is a number of ninths. */
static void assert_printed(double found, double printed)
{
    int ninths = (int)lround(9 * found);
    ck_assert_double_eq_tol(found, ninths / 9.0, 1e-6);
    ck_assert_int_eq(100 * ninths / 9, lround(100 * printed));
}

static void assert_answers(const Answers *found)
{
    for (int k = 0; k < FILTERS; k++) {
        for (int i = 0; i < MAP * MAP; i++) {
            int row = i / MAP, column = i % MAP;
            ck_assert_double_eq_tol(found->map[k][row][column], answer(k, row, column), 1e-6);
            ck_assert_double_eq_tol(found->relu[k][row][column], fmax(0, answer(k, row, column)), 1e-6);
        }
        for (int i = 0; i < POOLED * POOLED; i++) {
            int row = i / POOLED, column = i % POOLED;
            ck_assert_double_eq_tol(found->pooled[k][row][column], strongest(k, row, column), 1e-6);
        }
    }
    for (int i = 0; i < MAP * MAP; i++) {
        double printed = diagonal_map[i / MAP][i % MAP];
        assert_printed(found->map[0][i / MAP][i % MAP], printed);
        assert_printed(found->relu[0][i / MAP][i % MAP], fmax(0, printed));
    }
    for (int i = 0; i < POOLED * POOLED; i++)
        assert_printed(found->pooled[0][i / POOLED][i % POOLED], diagonal_pooled[i / POOLED][i % POOLED]);
}

static void draw(float image[SIDE * SIDE])
{
    for (int i = 0; i < SIDE * SIDE; i++)
        image[i] = stroke(i / SIDE, i % SIDE);
}

START_TEST(filters_find_the_x)
{
    float image[SIDE * SIDE];
    Answers found;
    Model *m = model_open(files_context(), "graphs/x.lua",
                          (ModelOptions){.batch = 1, .jit = backends[_i], .target = target_find("native")});
    draw(image);
    model_forward(m, 1, &(const float *){image},
                  (float *[]){found.map[0][0], found.relu[0][0], found.pooled[0][0]});
    assert_answers(&found);
    model_close(m);
}
END_TEST

static const struct { const char *target, *flags; } standalone[] = {
    {"generic", "-std=c99"}, {"native", "-std=gnu11 -O3 -march=native"}
};
enum { STANDALONE = 2 };

START_TEST(filters_find_the_x_standalone)
{
    float image[SIDE * SIDE];
    Answers found;
    draw(image);
    const char *arguments = format(files_context(), "graphs/x.lua --target %s -o %s", standalone[_i].target,
                                   in_folder("x.c"));
    run_standalone("x", arguments, standalone[_i].flags, image, sizeof image, &found, sizeof found);
    assert_answers(&found);
}
END_TEST

START_TEST(dense_layer_explodes)
{
    Run r = run(CNNC " summary --json graphs/mlp.lua");
    ck_assert_int_eq(r.status, 0);
    json_t *summary = json_loads(r.out, 0, NULL);
    const json_t *dense = json_array_get(json_object_get(summary, "layers"), 1);
    ck_assert_str_eq(json_string_value(json_object_get(dense, "name")), "neurons");
    ck_assert_int_eq(json_integer_value(json_object_get(dense, "params")), 12288000 + 1000);
    ck_assert_int_eq(json_integer_value(json_object_get(dense, "macs")), 12288000);      /* one a weight */
    json_decref(summary);
    run_free(&r);
}
END_TEST

/* ----------------------------------------- the truth about rotating the kernel: Y = X * K */

enum { X = 5, K = 3, Y = X - K + 1, PADDED = Y + 2 * (K - 1) };

/* What is asked of a network file, and what the tutorial's definitions say. */
typedef struct Way { float image[X * X], target[Y * Y]; } Way;
typedef struct Back { float y[Y * Y], dk[K * K], dx[X * X]; } Back;

static const double kernel[K * K] = {1, 2, 0, -1, 3, 1, 0, -2, 4};      /* as in both files */

/* out[m,n] = sum over i,j of in[m+i, n+j] * k[i,j]: the cross-correlation of two squares. */
static void slide(int side, const double *in, int size, const double *k, float *out)
{
    int places = side - size + 1;
    for (int m = 0; m < places * places; m++) {
        double sum = 0;
        for (int i = 0; i < size * size; i++)
            sum += in[(m / places + i / size) * side + m % places + i % size] * k[i];
        out[m] = (float)sum;
    }
}

/* By 180 degrees. */
static void rotate(int count, const double *in, double *out)
{
    for (int i = 0; i < count; i++)
        out[i] = in[count - 1 - i];
}

/* Forward, and the gradients of the mean of (y - target)^2, as sums over windows alone.
 * true_convolution: the kernel is rotated forward, and not on the way back. */
static Back by_definition(const Way *way, bool true_convolution)
{
    Back b = {0};
    double x[X * X], rotated[K * K], dy[Y * Y], padded[PADDED * PADDED] = {0};
    for (int i = 0; i < X * X; i++)
        x[i] = (double)way->image[i];
    rotate(K * K, kernel, rotated);
    slide(X, x, K, true_convolution ? rotated : kernel, b.y);
    for (int i = 0; i < Y * Y; i++) {
        dy[i] = 2 * (double)(b.y[i] - way->target[i]) / (Y * Y);
        padded[(i / Y + K - 1) * PADDED + i % Y + K - 1] = dy[i];
    }
    slide(PADDED, padded, K, true_convolution ? kernel : rotated, b.dx);
    slide(X, x, Y, dy, b.dk);
    for (int i = 0; true_convolution && i < K * K / 2; i++) {
        float kept = b.dk[i];
        b.dk[i] = b.dk[K * K - 1 - i];
        b.dk[K * K - 1 - i] = kept;
    }
    return b;
}

static Way some_way(void)
{
    Way way;
    for (int i = 0; i < X * X; i++)
        way.image[i] = (float)((3 * (i / X) + 5 * (i % X) * (i % X)) % 7 - 3);
    for (int i = 0; i < Y * Y; i++)
        way.target[i] = (float)(i * i % 5 - 2);
    return way;
}

static void assert_back(const Back *found, const Back *expected)
{
    const float *a = found->y, *b = expected->y;
    for (size_t i = 0; i < sizeof *found / sizeof *a; i++)
        ck_assert_msg(fabs((double)a[i] - (double)b[i]) <= 1e-6 * fmax(1, fabs((double)b[i])),
                      "entry %zu: found %.9g, expected %.9g", i, (double)a[i], (double)b[i]);
}

static const char *const convolutions[] = {"cross_correlation", "true_convolution"};

START_TEST(error_returns_through_the_rotated_kernel)
{
    Way way = some_way();
    Back found, expected = by_definition(&way, _i / BACKENDS);
    Context *c = files_context();
    ModelOptions options = {.batch = 1, .jit = backends[_i % BACKENDS], .train = true,
                            .target = target_find("native")};
    Model *m = model_open(c, format(c, "graphs/%s.lua", convolutions[_i / BACKENDS]), options);
    model_forward(m, 1, &(const float *){way.image}, (float *[]){found.y});
    Code *code = model_code_input_grad(m, 1);
    code->backward(code, m->params, (void *[]){way.image, way.target}, m->grad, (void *[]){found.dx},
                   m->workspace, 0, false);
    code->unpack(code, found.dk, m->grad);
    assert_back(&found, &expected);
    model_close(m);
}
END_TEST

START_TEST(error_returns_standalone)
{
    Way way = some_way();
    Back found, expected = by_definition(&way, _i / STANDALONE);
    const char *target = standalone[_i % STANDALONE].target, *flags = standalone[_i % STANDALONE].flags;
    const char *arguments = format(files_context(), "graphs/%s.lua --train --input-grad --name net -o %s "
                                   "--target %s", convolutions[_i / STANDALONE], in_folder("net.c"), target);
    run_standalone("filter", arguments, flags, &way, sizeof way, &found, sizeof found);
    assert_back(&found, &expected);
}
END_TEST

/* ------------------------------------------------------------- the committed output */

/* From another folder, with decimal commas where a locale has them, in another time zone. */
START_TEST(committed_output_is_of_this_emitter)
{
    Context *c = files_context();
    char *root = getcwd(NULL, 0);
    const char *folder = format(c, "%s/%s", root, in_folder("generated"));
    const char *locales = format(c, "%s/%s", root, in_folder("locales"));
    expect_run(run("mkdir %s %s", folder, locales));
    Run german = run("localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8", locales);
    if (german.status)
        printf("skipped: committed_output_is_of_this_emitter: no locale with decimal commas\n");
    expect_run(run("cd / && LOCPATH=%s LC_ALL=%s TZ=Asia/Kathmandu %s/generated/generate %s/" CNNC " %s",
                   locales, german.status ? "C.UTF-8" : "de_DE.UTF-8", root, root, folder));
    Run difference = run("diff -r -x generate generated %s", folder);
    ck_assert_msg(difference.status == 0, "generated/ is not what cnnc writes (`make generated`):\n%.2000s",
                  difference.out);
    run_free(&difference);
    run_free(&german);
    free(root);
}
END_TEST

/* ------------------------------------------------------- from Lua to a C program that sees */

#define FASHION "/usr/share/datasets/fashion-mnist/t10k-"

/* The label that a model finds most likely for each picture, one byte each. */
static unsigned char *recognise(Model *m, const Dataset *d)
{
    enum { CLASSES = 10 };
    float *logits = NEW_ARRAY(m->c, float, d->count * CLASSES);
    unsigned char *label = NEW_ARRAY(m->c, unsigned char, d->count);
    model_forward(m, d->count, &(const float *){d->value}, (float *[]){logits});
    for (int i = 0; i < d->count; i++)
        for (int k = 1; k < CLASSES; k++)
            if (logits[i * CLASSES + k] > logits[i * CLASSES + label[i]])
                label[i] = (unsigned char)k;
    return label;
}

/* Learns by libtcc; leaves weights and answers in the folder.  The answers' number. */
static int learn(double *accuracy)
{
    Context *c = files_context();
    Dataset *d = data_idx(c, FASHION "images-idx3-ubyte.gz", FASHION "labels-idx1-ubyte.gz");
    Dataset some = *d;
    some.count = 1280;
    Model *m = model_open(c, "graphs/lenet5.lua",
                          (ModelOptions){.batch = 64, .jit = JIT_TCC, .train = true, .seed = 42,
                                         .target = target_find("native")});
    Fit fit = {{.lr = 0.05f, .momentum = 0.9f}, .shuffle = true};
    for (; fit.shuffle_seed < 4; fit.shuffle_seed++)
        model_fit(m, &some, &fit);
    *accuracy = model_accuracy(m, d);
    model_save(m, in_folder("lenet5.safetensors"));
    put(in_folder("answers"), recognise(m, d), (size_t)d->count);
    model_close(m);
    return d->count;
}

START_TEST(standalone_program_sees_as_the_model_does)
{
    if (access(FASHION "images-idx3-ubyte.gz", R_OK) != 0) {
        printf("skipped: standalone_program_sees_as_the_model_does: %s is not there\n", FASHION);
        return;
    }
    double accuracy;
    int pictures = learn(&accuracy), right, same;
    const char *folder = in_folder("");
    ck_assert_double_gt(accuracy, 0.5);
    expect_run(run(CNNC " graphs/lenet5.lua --weights %slenet5.safetensors -o %slenet5.c", folder, folder));
    expect_run(run("gcc -std=gnu11 -O2 -march=native -I%s -o %sfashion graphs/experiments/fashion.c "
                   "%slenet5.c -lm", folder, folder, folder));
    expect_run(run("gzip -dc " FASHION "images-idx3-ubyte.gz >%simages", folder));
    expect_run(run("gzip -dc " FASHION "labels-idx1-ubyte.gz >%slabels", folder));
    Run r = run("%sfashion %simages %slabels %sanswers", folder, folder, folder, folder);
    ck_assert_msg(r.status == 0 && !*r.err, "status %d: %s", r.status, r.err);
    const char *says = strstr(r.out, "standalone C program: "), *agrees = strstr(r.out, "by libtcc: ");
    ck_assert_msg(says && sscanf(says, "standalone C program: %d", &right) == 1 && agrees
                  && sscanf(agrees, "by libtcc: %d", &same) == 1, "%s", r.out);
    ck_assert_msg(same >= 0.9995 * pictures, "%d of %d labels agree", same, pictures);
    ck_assert_double_eq_tol((double)right / pictures, accuracy, 0.0005);
    run_free(&r);
}
END_TEST

Suite *golden_suite(void)
{
    Suite *s = suite_create("golden");
    TCase *t = tcase_create("golden");
    tcase_add_checked_fixture(t, files_setup, files_teardown);
    tcase_add_loop_test(t, filters_find_the_x, 0, BACKENDS);
    tcase_add_loop_test(t, filters_find_the_x_standalone, 0, STANDALONE);
    tcase_add_test(t, dense_layer_explodes);
    tcase_add_loop_test(t, error_returns_through_the_rotated_kernel, 0, 2 * BACKENDS);
    tcase_add_loop_test(t, error_returns_standalone, 0, 2 * STANDALONE);
    tcase_add_test(t, committed_output_is_of_this_emitter);
    tcase_add_test(t, standalone_program_sees_as_the_model_does);
    suite_add_tcase(s, t);
    return s;
}
