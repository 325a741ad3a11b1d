/* The command as a process: exit statuses, what goes to which stream, and that a
 * failure leaves every file as it was. */
#include "tests.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../runtime/runtime.h"

#define CNNC "build/cnnc"

static const char *folder;    /* of this test's files; each test is a process of its own */

static const char small_net[] =
    "local x = input { 1, 6, 6, name = 'image' }\n"
    "x = x:conv2d { 2, kernel = 3, pad = 1 }:relu():maxpool { 2 }\n"
    "local y = x:flatten():linear { 4, name = 'scores' }\n"
    "return model { output = y, loss = y:cross_entropy(), name = 'small' }\n";

static void set_up(void)
{
    folder = scratch_folder("command");
    Run r = run("touch %s/empty.lua", folder);
    run_free(&r);
    char path[300];
    snprintf(path, sizeof path, "%s/small.lua", folder);
    text_write(path, small_net);
}

/* In a command line, FOLDER stands for the test's folder. */
static Run cnnc(const char *arguments)
{
    char line[1000];
    size_t length = 0;
    for (const char *at = arguments; *at; at++) {
        bool stands = !strncmp(at, "FOLDER", 6);
        length += (size_t)snprintf(line + length, sizeof line - length, "%.*s",
                                   stands ? (int)strlen(folder) : 1, stands ? folder : at);
        ck_assert_uint_lt(length, sizeof line);
        at += stands ? 5 : 0;
    }
    line[length] = 0;
    return run(CNNC " %s", line);
}

static char *file_text(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return text_read(path);
}

static void expect_success(const char *arguments)
{
    Run r = cnnc(arguments);
    ck_assert_msg(r.status == 0, "cnnc %s: exit status %d: %s", arguments, r.status, r.err);
    run_free(&r);
}

/* Fails with the status, says so on stderr only and mentions `says`. */
static void expect_failure(const char *arguments, int status, const char *says)
{
    Run r = cnnc(arguments);
    ck_assert_msg(r.status == status, "cnnc %s: exit status %d, not %d: %s", arguments, r.status, status,
                  r.err);
    ck_assert_msg(!*r.out, "cnnc %s: failed, but printed: %s", arguments, r.out);
    ck_assert_msg(!strncmp(r.err, "cnnc: ", 6) && strstr(r.err, says), "cnnc %s: said: %s", arguments, r.err);
    ck_assert_msg((strstr(r.err, "\ntry: cnnc") != NULL) == (status == STATUS_USAGE),
                  "cnnc %s: hint: %s", arguments, r.err);
    run_free(&r);
}

/* ------------------------------------------------------------ help and usage */

START_TEST(help_goes_to_stdout)
{
    static const char *const asked[] = {"--help", "summary --help", "predict --help", "gradcheck --help",
                                        "bench --help", "run --help", "--version"};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        Run r = cnnc(asked[i]);
        ck_assert_int_eq(r.status, 0);
        ck_assert_msg(strstr(r.out, "cnnc") && !*r.err, "%s: %s%s", asked[i], r.out, r.err);
        run_free(&r);
    }
}
END_TEST

static const struct { const char *arguments, *says; } misuses[] = {
    {"", "no network file"},
    {"frobnicate", "unknown command 'frobnicate'"},
    {"import model.onnx -o net.lua", "unknown command 'import'"},
    {"explain FOLDER/small.lua", "unknown command 'explain'"},
    {"FOLDER/small.lua", "-o net.c"},
    {"FOLDER/small.lua --frobnicate", "unknown option --frobnicate"},
    {"FOLDER/small.lua -x", "unknown option -x"},
    {"FOLDER/small.lua -o", "-o needs a value"},
    {"FOLDER/small.lua -o FOLDER/net.txt", "expected a name that ends in"},
    {"FOLDER/small.lua -o FOLDER/net", "expected a name that ends in"},
    {"FOLDER/small.lua -o FOLDER/a.c -o FOLDER/b.c", "expected once"},
    {"FOLDER/small.lua FOLDER/other.lua -o FOLDER/net.c", "one too many"},
    {"FOLDER/small.lua -o - --emit ir", "standard output"},
    {"FOLDER/small.lua -o FOLDER/net.c --input-grad", "--train"},
    {"FOLDER/small.lua --emit sonnet", "--emit"},
    {"FOLDER/small.lua --emit ir:sonnet", "sonnet"},
    {"summary", "which file"},
    {"summary FOLDER/small.lua --layers", "does not take --layers"},
    {"bench FOLDER/small.lua --layers --jit eval", "found --jit eval"},
    {"summary FOLDER/small.lua --input x.npy", "does not take --input"},
    {"summary FOLDER/small.lua --json=3", "--json=3"},
    {"summary FOLDER/small.lua --batch 0", "whole number"},
    {"summary FOLDER/small.lua --batch -1", "whole number"},
    {"summary FOLDER/small.lua --batch 1.5", "whole number"},
    {"summary FOLDER/small.lua --batch 4294967297", "whole number"},
    {"summary FOLDER/small.lua --batch ' 1'", "whole number"},
    {"summary FOLDER/small.lua --batch ''", "whole number"},
    {"summary FOLDER/small.lua --seed 18446744073709551616", "whole number"},
    {"summary FOLDER/small.lua --seed 0x10", "whole number"},
    {"summary FOLDER/small.lua --threads 0", "whole number"},
    {"summary FOLDER/small.lua --target potato", "unknown target 'potato'"},
    {"summary FOLDER/small.lua --jit potato", "potato"},
    {"summary FOLDER/small.lua --name 9lives", "--name"},
    {"predict FOLDER/small.lua", "--input"},
    {"run", "which file"},
    {"run --jit cc FOLDER/small.lua", "does not take --jit"},
};

START_TEST(misuse_is_status_2)
{
    expect_failure(misuses[_i].arguments, STATUS_USAGE, misuses[_i].says);
}
END_TEST

/* ------------------------------------------------------------------ bad input */

static const struct { const char *arguments, *says; } refusals[] = {
    {"FOLDER/missing.lua -o FOLDER/net.c", "missing.lua"},
    {"FOLDER/empty.lua -o FOLDER/net.c", "empty.lua"},
    {"summary FOLDER/missing.lua", "missing.lua"},
    {"summary model.onnx", "ONNX"},
    {"FOLDER/small.lua -o FOLDER/nowhere/net.c", "nowhere"},
    {"FOLDER/small.lua -o FOLDER/net.c --weights FOLDER/missing.safetensors", "missing.safetensors"},
    {"predict FOLDER/small.lua --input FOLDER/missing.npy", "missing.npy"},
    {"predict FOLDER/small.lua --input FOLDER/missing.png", "missing.png"},
    {"run FOLDER/missing.lua", "missing.lua"},
};

START_TEST(bad_input_is_status_1)
{
    expect_failure(refusals[_i].arguments, STATUS_INPUT, refusals[_i].says);
}
END_TEST

START_TEST(full_output_device_is_status_1)
{
    Run r = cnnc("--help >/dev/full");
    ck_assert_int_eq(r.status, STATUS_INPUT);
    ck_assert_ptr_nonnull(strstr(r.err, "standard output"));
    run_free(&r);
}
END_TEST

START_TEST(closed_pipe_is_no_crash)
{
    Run r = run("bash -c '{ sleep 0.5; %s --help; echo $? >&2; } | true'", CNNC);
    ck_assert_str_eq(r.err, "1\n");
    run_free(&r);
}
END_TEST

/* ------------------------------------------------------------------ compiling */

static void squeeze_blanks(char *text)
{
    char *to = text;
    for (const char *from = text; *from; from++) {
        bool blank = *from == ' ' || *from == '\n';
        if (!blank || (to > text && to[-1] != ' ' && to[-1] != '('))
            *to++ = blank ? ' ' : *from;
    }
    *to = 0;
}

START_TEST(source_comes_with_its_header)
{
    expect_success("FOLDER/small.lua -o FOLDER/net.c");
    char *source = file_text("net.c"), *header = file_text("net.h");
    ck_assert(source && header);
    ck_assert_ptr_nonnull(strstr(source, "#include \"net.h\""));
    ck_assert_ptr_nonnull(strstr(header, "#define SMALL_BATCH 1"));
    ck_assert_ptr_nonnull(strstr(header, "#define SMALL_IMAGE_SIZE 36"));
    squeeze_blanks(header);                      /* where the printer breaks lines is its own affair */
    ck_assert_ptr_nonnull(strstr(header, "void small_forward(const small_params *params, const float *image, "
                                         "float *scores, void *workspace);"));
    free(source);
    free(header);
}
END_TEST

START_TEST(name_sets_the_prefix)
{
    expect_success("FOLDER/small.lua --name tiny -o FOLDER/net.h");
    char *header = file_text("net.h"), *source = file_text("net.c");
    ck_assert(header && strstr(header, "TINY_BATCH") && !source);
    free(header);
}
END_TEST

START_TEST(dash_is_stdout)
{
    Run r = cnnc("FOLDER/small.lua -o -");
    ck_assert_int_eq(r.status, 0);
    ck_assert(strstr(r.out, "small_forward") && !*r.err);
    run_free(&r);
}
END_TEST

START_TEST(network_from_stdin)
{
    Run r = run("%s summary --json - < %s/small.lua", CNNC, folder);
    ck_assert_msg(r.status == 0, "%s", r.err);
    run_free(&r);
}
END_TEST

START_TEST(emit_prints_each_form)
{
    static const struct { const char *form, *shows; } forms[] = {
        {"ir", "%0 = "}, {"ir:autodiff", "gradient of scores.weight"},
        {"plan", "workspace"}, {"dot", "digraph"}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char arguments[100];
        snprintf(arguments, sizeof arguments, "FOLDER/small.lua --train --emit %s", forms[i].form);
        Run r = cnnc(arguments);
        ck_assert_msg(r.status == 0 && strstr(r.out, forms[i].shows) && !*r.err, "%s: %s%s", arguments, r.err,
                      r.out);
        run_free(&r);
    }
}
END_TEST

START_TEST(objects_and_libraries_link)
{
    static const char *const kinds[] = {"o", "a", "so"};
    char path[300];
    snprintf(path, sizeof path, "%s/main.c", folder);
    text_write(path, "#include \"net.h\"\n#include <stdio.h>\n"
                     "int main(void)\n{\n    printf(\"%d\\n\", SMALL_SCORES_SIZE);\n"
                     "    return (void *)small_forward == 0;\n}\n");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char arguments[100];
        snprintf(arguments, sizeof arguments, "FOLDER/small.lua -o FOLDER/net.%s", kinds[i]);
        expect_success(arguments);
        Run r = run("cd %s && cc -o main main.c ./net.%s -lm && ./main && rm net.h", folder, kinds[i]);
        ck_assert_msg(r.status == 0 && !strcmp(r.out, "4\n"), "%s: %s%s", kinds[i], r.err, r.out);
        run_free(&r);
    }
}
END_TEST

/* -------------------------------------------------------------- nothing broken */

/* Sentinels in place of net.c and net.h; what fails must leave them and add nothing. */
static void expect_untouched(const char *arguments)
{
    Run before = run("cd %s && printf old-c >net.c && printf old-h >net.h && ls -A", folder);
    Run r = cnnc(arguments);
    ck_assert_msg(r.status == STATUS_INPUT || r.status == STATUS_USAGE, "cnnc %s: status %d", arguments,
                  r.status);
    run_free(&r);
    Run after = run("cd %s && ls -A", folder);
    ck_assert_str_eq(before.out, after.out);
    char *source = file_text("net.c"), *header = file_text("net.h");
    ck_assert_str_eq(source, "old-c");
    ck_assert_str_eq(header, "old-h");
    free(source);
    free(header);
    run_free(&before);
    run_free(&after);
}

START_TEST(failure_leaves_files_alone)
{
    expect_untouched("FOLDER/empty.lua -o FOLDER/net.c");
    expect_untouched("FOLDER/small.lua --weights FOLDER/missing -o FOLDER/net.c");
    expect_untouched("FOLDER/small.lua --emit ir:sonnet -o FOLDER/net.c");
    Run r = run("cd %s && mkdir net.o net.so", folder);
    run_free(&r);
    /* the header could be written, the object not */
    expect_untouched("FOLDER/small.lua -o FOLDER/net.o");
    expect_untouched("FOLDER/small.lua -o FOLDER/net.so");
}
END_TEST

START_TEST(header_is_not_left_without_its_source)
{
    Run r = run("mkdir %s/fresh.c", folder);
    run_free(&r);
    expect_failure("FOLDER/small.lua -o FOLDER/fresh.c", STATUS_INPUT, "fresh.c");
    ck_assert_ptr_null(file_text("fresh.h"));
}
END_TEST

/* --------------------------------------------------------------------- summary */

START_TEST(summary_fits_a_page)
{
    Run r = cnnc("summary FOLDER/small.lua");
    ck_assert_int_eq(r.status, 0);
    ck_assert_ptr_nonnull(strstr(r.out, "(6 - 3 + 2*1)/1 + 1 = 6"));
    for (char *line = strtok(r.out, "\n"); line; line = strtok(NULL, "\n"))
        ck_assert_msg(strlen(line) <= 100, "%zu columns: %s", strlen(line), line);
    run_free(&r);
}
END_TEST

static long integer_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    ck_assert_msg(json_is_integer(value), "no whole number %s", key);
    return (long)json_integer_value(value);
}

START_TEST(summary_counts)
{
    Run r = cnnc("summary --json FOLDER/small.lua");
    ck_assert_int_eq(r.status, 0);
    json_t *o = json_loads(r.out, 0, NULL);
    ck_assert_ptr_nonnull(o);
    ck_assert_int_eq(integer_of(o, "params"), (2 * 9 + 2) + (18 * 4 + 4));
    ck_assert_int_eq(integer_of(o, "param_bytes"), 4 * 96);
    ck_assert_int_eq(integer_of(o, "macs"), 2 * 9 * 36 + 18 * 4);
    ck_assert_int_gt(integer_of(o, "train_workspace_bytes"), integer_of(o, "workspace_bytes"));
    const json_t *conv = json_array_get(json_object_get(o, "layers"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(conv, "name")), "conv1");
    ck_assert_int_eq(integer_of(conv, "params"), 20);
    ck_assert_int_eq(integer_of(conv, "dense_params"), 36 * 72 + 72);
    ck_assert_int_eq(integer_of(conv, "activation_bytes"), 4 * 72);
    json_decref(o);
    run_free(&r);
}
END_TEST

/* Two 3x3 convolutions, a pool of 2 and a convolution of stride 2:
 * size 3, 5, 6, 10; step 1, 1, 2, 4; from -1, -2, -2, -4.  The other branch sees 1. */
START_TEST(summary_receptive_field)
{
    char path[300];
    snprintf(path, sizeof path, "%s/deep.lua", folder);
    text_write(path, "local image = input { 1, 16, 16 }\n"
                     "local x = image:conv2d { 1, kernel = 3, pad = 1 }:conv2d { 1, kernel = 3, pad = 1 }\n"
                     "x = (x + image):maxpool { 2 }\n"
                     "x = x:conv2d { 1, kernel = 3, stride = 2, pad = 1, name = 'last' }\n"
                     "return x\n");
    Run r = cnnc("summary --json FOLDER/deep.lua");
    ck_assert_msg(r.status == 0, "%s", r.err);
    json_t *o = json_loads(r.out, 0, NULL), *layers = json_object_get(o, "layers"), *layer;
    size_t i;
    bool seen = false;
    json_array_foreach(layers, i, layer) {
        if (strcmp(json_string_value(json_object_get(layer, "name")), "last"))
            continue;
        const json_t *field = json_object_get(layer, "receptive_field");
        ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(field, "size"), 0)), 10);
        ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(field, "stride"), 1)), 4);
        ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(field, "offset"), 0)), -4);
        seen = true;
    }
    ck_assert(seen);
    ck_assert(json_is_null(json_object_get(o, "train_workspace_bytes")));
    json_decref(o);
    run_free(&r);
}
END_TEST

/* --------------------------------------------------------------------- predict */

static void write_samples(const char *name, int rank, const int *dim)
{
    Context c;
    context_init(&c);
    Array a = {.rank = rank, .type = ARRAY_F32, .count = 1};
    for (int d = 0; d < rank; d++)
        a.count *= a.dim[d] = dim[d];
    float *value = NEW_ARRAY(&c, float, a.count + 1);
    for (int i = 0; i < a.count; i++)
        value[i] = (float)(i * 7 % 11) / 11;
    a.data = value;
    npy_write(&c, format(&c, "%s/%s", folder, name), &a);
    context_free(&c);
}

static void expect_shape(Context *c, const char *name, int rank, int first)
{
    Array a = npy_read(c, format(c, "%s/%s", folder, name));
    ck_assert_int_eq(a.rank, rank);
    ck_assert_int_eq(a.dim[0], first);
    ck_assert_int_eq(a.dim[rank - 1], 4);
}

START_TEST(predict_takes_any_number_of_samples)
{
    Context c;
    context_init(&c);
    write_samples("five.npy", 4, (int[]){5, 1, 6, 6});
    write_samples("one.npy", 3, (int[]){1, 6, 6});
    expect_success("predict FOLDER/small.lua --batch 2 --input FOLDER/five.npy --output FOLDER/five-out.npy");
    expect_shape(&c, "five-out.npy", 2, 5);
    expect_success("predict FOLDER/small.lua --input image=FOLDER/one.npy "
                   "--output scores=FOLDER/one-out.npy");
    expect_shape(&c, "one-out.npy", 1, 4);
    context_free(&c);
}
END_TEST

START_TEST(predict_agrees_in_every_way_to_run)
{
    static const char *const jits[] = {"eval", "tcc", "cc"};
    Context c;
    context_init(&c);
    write_samples("five.npy", 4, (int[]){5, 1, 6, 6});
    const float *expected = NULL;
    for (size_t i = 0; i < sizeof jits / sizeof *jits; i++) {
        expect_success(format(&c, "predict FOLDER/small.lua --seed 3 --jit %s --input FOLDER/five.npy "
                                  "--output FOLDER/out.npy", jits[i]));
        Array a = npy_read(&c, format(&c, "%s/out.npy", folder));
        const float *value = a.data;
        for (int k = 0; expected && k < 20; k++)
            ck_assert_float_eq_tol(value[k], expected[k], 1e-5f);
        expected = expected ? expected : value;
    }
    context_free(&c);
}
END_TEST

START_TEST(predict_prints_the_strongest)
{
    write_samples("five.npy", 4, (int[]){5, 1, 6, 6});
    Run r = cnnc("predict FOLDER/small.lua --input FOLDER/five.npy");
    ck_assert_int_eq(r.status, 0);
    int lines = 0;
    for (char *line = strtok(r.out, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        int sample, place[4];
        float value[4];
        ck_assert_int_eq(sscanf(line, "%d scores %d: %f %d: %f %d: %f %d: %f", &sample, &place[0], &value[0],
                                &place[1], &value[1], &place[2], &value[2], &place[3], &value[3]), 9);
        ck_assert_int_eq(sample, lines);
        for (int k = 1; k < 4; k++)
            ck_assert(value[k - 1] >= value[k]);
    }
    ck_assert_int_eq(lines, 5);
    run_free(&r);
}
END_TEST

START_TEST(predict_refuses_what_does_not_fit)
{
    write_samples("wrong.npy", 4, (int[]){5, 1, 6, 7});
    write_samples("five.npy", 4, (int[]){5, 1, 6, 6});
    expect_failure("predict FOLDER/small.lua --input FOLDER/wrong.npy --output FOLDER/out.npy", STATUS_INPUT,
                   "5x1x6x7");
    expect_failure("predict FOLDER/small.lua --input FOLDER/small.lua", STATUS_INPUT, "small.lua");
    expect_failure("predict FOLDER/small.lua --input FOLDER/five.npy --input FOLDER/five.npy", STATUS_USAGE,
                   "image");
    expect_failure("predict FOLDER/small.lua --input FOLDER/five.npy --output FOLDER/nowhere/out.npy",
                   STATUS_INPUT, "nowhere");
    ck_assert_ptr_null(file_text("out.npy"));
}
END_TEST

/* ----------------------------------------------------------- the other commands */

START_TEST(gradcheck_accepts_right_gradients)
{
    Run r = cnnc("gradcheck FOLDER/small.lua --batch 2");
    ck_assert_msg(r.status == 0, "%s%s", r.out, r.err);
    ck_assert(strstr(r.out, "conv1.weight") && strstr(r.out, "scores.bias") && strstr(r.out, "image"));
    ck_assert_ptr_null(strstr(r.out, "label"));
    run_free(&r);
}
END_TEST

START_TEST(bench_reports_figures)
{
    Run r = cnnc("bench --json --runs 20 --train --batch 2 FOLDER/small.lua");
    ck_assert_msg(r.status == 0, "%s", r.err);
    json_t *o = json_loads(r.out, 0, NULL);
    ck_assert(json_number_value(json_object_get(o, "latency_ms")) > 0);
    ck_assert(json_number_value(json_object_get(o, "throughput")) > 0);
    ck_assert_int_gt(integer_of(o, "workspace_bytes"), 0);
    ck_assert_int_eq(integer_of(o, "runs"), 20);
    json_decref(o);
    run_free(&r);
}
END_TEST

/* A percentage of a limit: null together with all others where nothing was measured. */
static void expect_percent(const json_t *object, const char *key, bool known)
{
    const json_t *percent = json_object_get(object, key);
    ck_assert_msg(known ? json_is_real(percent) : json_is_null(percent), "%s", key);
    double value = json_number_value(percent);
    ck_assert_msg(isfinite(value) && value >= 0, "%s: %g", key, value);
}

/* Returns its multiplications. */
static long expect_layer(const json_t *layer, bool known)
{
    static const char *const rates[] = {"peak_percent", "bandwidth_percent", "bound_percent"};
    double most = 0;
    for (int i = 0; i < 3; i++) {
        expect_percent(layer, rates[i], known);
        double value = json_number_value(json_object_get(layer, rates[i]));
        ck_assert(i < 2 || value == most);
        most = value > most ? value : most;
    }
    ck_assert_int_gt((int)strlen(json_string_value(json_object_get(layer, "name"))), 0);
    ck_assert_int_gt((int)json_array_size(json_object_get(layer, "output")), 0);
    double ms = json_number_value(json_object_get(layer, "ms"));
    ck_assert(isfinite(ms) && ms > 0);
    ck_assert_int_gt(integer_of(layer, "bytes"), 0);
    return integer_of(layer, "macs");
}

static const char *const layer_runs[] = {"", "--jit cc", "--target generic"};

START_TEST(bench_times_each_kernel)
{
    char line[200];
    Run plan = cnnc("FOLDER/small.lua --batch 2 --emit plan");
    int kernels = 0;
    ck_assert_int_eq(sscanf(plan.out, "function forward: %d", &kernels), 1);
    snprintf(line, sizeof line, "bench --json --layers --batch 2 --runs 5 FOLDER/small.lua %s",
             layer_runs[_i]);
    Run r = cnnc(line);
    ck_assert_msg(r.status == 0, "%s", r.err);
    json_t *o = json_loads(r.out, 0, NULL), *layers = json_object_get(o, "layers");
    bool known = json_is_real(json_object_get(o, "peak_gflops"));
    ck_assert(known || !json_array_size(json_object_get(o, "bandwidth")));
    ck_assert(!known || !strstr(line, "generic"));
    expect_percent(o, "bound_percent", known);
    long macs = 0;
    for (size_t i = 0; i < json_array_size(layers); i++)
        macs += expect_layer(json_array_get(layers, i), known);
    ck_assert_int_eq(macs, 2 * (2 * 9 * 36 + 18 * 4));
    ck_assert(strstr(line, "generic") || (int)json_array_size(layers) == kernels);
    ck_assert(strstr(r.out, "\"conv1 + relu1\"") || strstr(r.out, "\"conv1 + maxpool1\""));
    json_decref(o);
    run_free(&r);
    run_free(&plan);
}
END_TEST

/* Kernels whose nests a team meets between are timed on one thread, which waits for nobody. */
START_TEST(bench_times_kernels_of_many_nests)
{
    char path[300];
    snprintf(path, sizeof path, "%s/tiles.lua", folder);
    text_write(path, "local x = input { 3, 28, 28 }:conv2d { 64, kernel = 1 }\n"
                     "return x:conv2d { 64, kernel = 3, pad = 1 }\n");
    Run r = cnnc("bench --json --layers --runs 3 --winograd f4 FOLDER/tiles.lua");
    ck_assert_msg(r.status == 0, "%s", r.err);
    ck_assert_ptr_nonnull(strstr(r.out, "winograd_conv"));
    run_free(&r);
}
END_TEST

/* Parts of a concatenation are stored where it lies: each writes its own bytes alone. */
START_TEST(bench_counts_what_a_kernel_writes)
{
    char path[300];
    snprintf(path, sizeof path, "%s/joined.lua", folder);
    text_write(path, "local x = input { 8, 5, 5 }\n"
                     "local y = concat { x:conv2d { 4, kernel = 1 }, x:conv2d { 4, kernel = 1 } }\n"
                     "return model { output = y:conv2d { 2, kernel = 1 }, name = 'joined' }\n");
    Run r = cnnc("bench --json --layers --runs 5 --target generic FOLDER/joined.lua");
    ck_assert_msg(r.status == 0, "%s", r.err);
    json_t *o = json_loads(r.out, 0, NULL), *layers = json_object_get(o, "layers");
    ck_assert_int_eq((int)json_array_size(layers), 3);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(integer_of(json_array_get(layers, i), "bytes"),
                         4 * (i < 2 ? 8 * 25 + 4 * 8 + 4 + 4 * 25 : 8 * 25 + 2 * 8 + 2 + 2 * 25));
    json_decref(o);
    run_free(&r);
}
END_TEST

START_TEST(experiment_gets_its_arguments)
{
    char path[300];
    snprintf(path, sizeof path, "%s/arguments.lua", folder);
    text_write(path, "print(#arg, arg[1], arg[2], arg[3])\n");
    Run r = cnnc("run FOLDER/arguments.lua --json -o 'a b'");
    ck_assert_msg(r.status == 0 && !*r.err, "%s", r.err);
    ck_assert_str_eq(r.out, "3\t--json\t-o\ta b\n");
    run_free(&r);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static void add_tests(TCase *t)
{
    tcase_add_test(t, help_goes_to_stdout);
    tcase_add_loop_test(t, misuse_is_status_2, 0, COUNT(misuses));
    tcase_add_loop_test(t, bad_input_is_status_1, 0, COUNT(refusals));
    tcase_add_test(t, full_output_device_is_status_1);
    tcase_add_test(t, closed_pipe_is_no_crash);
    tcase_add_test(t, source_comes_with_its_header);
    tcase_add_test(t, name_sets_the_prefix);
    tcase_add_test(t, dash_is_stdout);
    tcase_add_test(t, network_from_stdin);
    tcase_add_test(t, emit_prints_each_form);
    tcase_add_test(t, objects_and_libraries_link);
    tcase_add_test(t, failure_leaves_files_alone);
    tcase_add_test(t, header_is_not_left_without_its_source);
    tcase_add_test(t, summary_fits_a_page);
    tcase_add_test(t, summary_counts);
    tcase_add_test(t, summary_receptive_field);
    tcase_add_test(t, predict_takes_any_number_of_samples);
    tcase_add_test(t, predict_agrees_in_every_way_to_run);
    tcase_add_test(t, predict_prints_the_strongest);
    tcase_add_test(t, predict_refuses_what_does_not_fit);
    tcase_add_test(t, gradcheck_accepts_right_gradients);
    tcase_add_test(t, bench_reports_figures);
    tcase_add_loop_test(t, bench_times_each_kernel, 0, COUNT(layer_runs));
    tcase_add_test(t, bench_times_kernels_of_many_nests);
    tcase_add_test(t, bench_counts_what_a_kernel_writes);
    tcase_add_test(t, experiment_gets_its_arguments);
}

Suite *command_suite(void)
{
    Suite *s = suite_create("command");
    TCase *t = tcase_create("command");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_set_timeout(t, 60);
    add_tests(t);
    suite_add_tcase(s, t);
    return s;
}
