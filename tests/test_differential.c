/* Compiled code against the reference interpreter: every op's samples and random
 * networks, by tcc and by the C compiler, compiled for training and for inference.
 *
 * Calls of the C compiler cost more than what they compile, so a test takes a few
 * dozen networks and has them compiled in two calls that run side by side. */
#define _GNU_SOURCE
#include "tests.h"
#include "trial.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RANDOM = 330, CHUNK = 26, MOST_UNSTABLE = 2, FILES = 2, BATCHES = 100, BATCH_CHUNKS = 8 };

typedef struct Chunk {
    Context c;
    const char *folder;
    Trial trial[CHUNK];
    int trials;
    Program *program[CHUNK][2];        /* for inference, for training */
    void *library[FILES];
} Chunk;

/* -- the C compiler -- */

static const char *prefix(Chunk *k, int trial, int train)
{
    return format(&k->c, "%s%d", train ? "train" : "infer", trial);
}

/* The uniform entry points get the network's prefix, since others lie beside it. */
static void write_program(Chunk *k, FILE *file, int trial, int train)
{
    static const char *const entry[] = {
        "forward", "pack", "init", "unpack", "backward", "accumulate", "loss", "sgd", "adam"
    };
    for (size_t i = 0; i < sizeof entry / sizeof *entry; i++)
        fprintf(file, "#undef cnnc_%s\n#define cnnc_%s %s_entry_%s\n", entry[i], entry[i],
                prefix(k, trial, train), entry[i]);
    fputs(print_source(k->program[trial][train], NULL, PRINT_LIBRARY), file);
}

static void compile_chunk(Chunk *k)
{
    Text command = {.c = &k->c};
    for (int f = 0; f < FILES; f++) {
        const char *path = format(&k->c, "%s/%d", k->folder, f);
        FILE *file = fopen(format(&k->c, "%s.c", path), "w");
        for (int i = f; i < k->trials; i += FILES)
            for (int train = 0; train < 2; train++)
                write_program(k, file, i, train);
        ck_assert_int_eq(fclose(file), 0);
        text_add(&command, "${CC:-cc} -std=gnu11 -O2 -march=native -fopenmp -w -fPIC -shared"
                 " -o %s.so %s.c -lm & ", path, path);
    }
    text_add(&command, "wait");
    Run r = run("%s", command.data);
    for (int f = 0; f < FILES; f++) {
        k->library[f] = dlopen(format(&k->c, "%s/%d.so", k->folder, f), RTLD_NOW | RTLD_LOCAL);
        ck_assert_msg(k->library[f] != NULL, "%s", *r.err ? r.err : dlerror());
    }
    run_free(&r);
}

typedef struct Member { Chunk *chunk; int trial, train; } Member;

static void *member_symbol(Library *l, const char *name)
{
    Member *m = l->handle;
    const char *symbol = format(&m->chunk->c, "%s_entry_%s", prefix(m->chunk, m->trial, m->train),
                                strchr(name, '_') + 1);
    return dlsym(m->chunk->library[m->trial % FILES], symbol);
}

static void member_unload(Library *l)
{
    (void)l;                                     /* the process ends with the test */
}

static Code *member_code(Chunk *k, int trial, int train)
{
    Member *m = NEW(&k->c, Member);
    *m = (Member){k, trial, train};
    Code *code = code_new(k->program[trial][train]);
    code_bind(code, (Library){member_symbol, member_unload, m}, NULL);
    return code;
}

/* -- trying -- */

static void open_trials(Chunk *k, int first)
{
    Network *network;
    int count = all_networks(&k->c, RANDOM, &network), unstable = 0;
    for (int i = first; i < first + CHUNK && i < count; i++) {
        const char *message = trial_open(&k->trial[k->trials], &network[i]);
        k->trials += !message;
        unstable += message != NULL;
        ck_assert_msg(unstable <= MOST_UNSTABLE, "%s", message);
    }
}

static void compile_programs(void *argument)
{
    Chunk *k = argument;
    for (int i = 0; i < k->trials; i++)
        for (int train = 0; train < 2; train++)
            k->program[i][train] = trial_compile(&k->c, &k->trial[i].network, train, target_find("native"),
                                                 prefix(k, i, train), 1);
}

static void try_code(Chunk *k, const Trial *t, Code *code, const char *compiler)
{
    bool train = code->program->options.train;
    const char *message = (train ? trial_train : trial_infer)(t, &k->c, code);
    ck_assert_msg(!message, "%s: %s", compiler, message);
}

/* Inference for every target that this machine runs, by tcc and its leaves. */
static void try_targets(Chunk *k, int trial)
{
    int targets;
    const Target *target = target_list(&targets);
    for (int i = 0; i < targets; i++) {
        if (!target_runs(&target[i]))
            continue;
        Program *p = trial_compile(&k->c, &k->trial[trial].network, false, &target[i], "net", 1);
        Code *code = code_open(p, JIT_TCC);
        try_code(k, &k->trial[trial], code, format(&k->c, "tcc, %s", target[i].name));
        code->close(code);
    }
}

/* Two and three threads must give what one gives: in the host's pool, and in OpenMP's. */
static void try_threads(Chunk *k, int trial, int train, Code *by_tcc, Code *by_cc)
{
    const Trial *t = &k->trial[trial];
    const Results tcc = trial_run(t, &k->c, by_tcc), cc = trial_run(t, &k->c, by_cc);
    for (int threads = 2; threads <= 3; threads++) {
        Program *p = trial_compile(&k->c, &t->network, train, target_find("native"), "net", threads);
        Code *code = code_open(p, JIT_TCC);
        const char *message = trial_same(t, &k->c, code, &tcc);
        ck_assert_msg(!message, "tcc, %s", message);
        code->close(code);
        by_cc->program->options.threads = threads;
        message = trial_same(t, &k->c, by_cc, &cc);
        ck_assert_msg(!message, "cc, %s", message);
    }
}

static void try_programs(void *argument)
{
    Chunk *k = argument;
    for (int i = 0; i < k->trials; i++)
        try_targets(k, i);
    for (int i = 0; i < k->trials; i++)
        for (int train = 0; train < 2; train++) {
            Code *by_tcc = code_open(k->program[i][train], JIT_TCC), *by_cc = member_code(k, i, train);
            try_code(k, &k->trial[i], by_tcc, "tcc");
            try_code(k, &k->trial[i], by_cc, "cc");
            try_threads(k, i, train, by_tcc, by_cc);
            by_tcc->close(by_tcc);
        }
}

START_TEST(compiled_code_agrees)
{
    Chunk *k = calloc(1, sizeof *k);
    context_init(&k->c);
    k->folder = scratch_folder("differential");
    open_trials(k, _i * CHUNK);
    ck_assert_msg(attempt(&k->c, compile_programs, k), "%s", k->c.message);
    compile_chunk(k);
    ck_assert_msg(attempt(&k->c, try_programs, k), "%s", k->c.message);
    for (int i = 0; i < k->trials; i++)
        trial_close(&k->trial[i]);
    context_free(&k->c);
    free(k);
}
END_TEST

/* -- networks that random ones seldom are -- */

static void try_by_tcc(void *argument)
{
    const Trial *t = argument;
    Context *c = t->oracle->program->c;
    for (int train = 0; train < 2; train++) {
        Program *p = trial_compile(c, &t->network, train, target_find("generic"), NULL, 1);
        Code *code = code_open(p, JIT_TCC);
        const char *message = (train ? trial_train : trial_infer)(t, c, code);
        ck_assert_msg(!message, "%s", message);
        code->close(code);
    }
}

static const char *const rare[] = {
    /* gradients that are one node: each is added to what its own parameter has */
    "local x = input { 4 }\nlocal y = x:linear { 3 } + x:linear { 3 }\n"
    "return model { output = y, loss = y:mse() }\n",
    /* an input that the loss does not depend on */
    "local x, z = input { 4 }, input { 2, 3, name = \"idle\" }\nlocal y = x:linear { 3 }\n"
    "return model { output = { y = y, z = z:tanh() }, loss = y:mse() }\n",
    /* a batch norm that the loss does not see moves its statistics nevertheless */
    "local x = input { 3, 4 }\nlocal y, z = x:conv1d { 2, kernel = 3 }, x:batchnorm()\n"
    "return model { output = { y = y, z = z }, loss = y:mse() }\n",
    /* parameters that no output needs */
    "local x = input { 4 }\nlocal y = x:linear { 3 }\nreturn model { output = x * 2, loss = y:mse() }\n",
};

START_TEST(rare_networks_agree)
{
    Trial t;
    ck_assert_ptr_null(trial_open(&t, &(Network){rare[_i], 2, (uint64_t)_i}));
    ck_assert_msg(attempt(&t.c, try_by_tcc, &t), "%s", t.c.message);
    trial_close(&t);
}
END_TEST

/* -- windows of vectors: odd and even rows, both strides, every border, channels short of a vector -- */

#define WINDOWS(network) "local y = " network "\nreturn model { output = y, loss = y:mse() }\n"

static const char *const windows[] = {
    WINDOWS("input { 3, 9, 20 }:conv2d { 40, kernel = 1 }"
            ":conv2d { 40, kernel = 3, pad = 1, groups = 40 }:relu6()"),
    WINDOWS("input { 3, 7, 7 }:conv2d { 32, kernel = 1 }"
            ":conv2d { 32, kernel = 3, stride = 2, pad = { 0, 1, 1, 0 }, groups = 32 }"),
    "local x = input { 3, 8, 5 }:conv2d { 16, kernel = 1 }\n"
        WINDOWS("x + x:conv2d { 16, kernel = 3, pad = 1, groups = 16 }"),
    WINDOWS("input { 2, 3, 3 }:conv2d { 16, kernel = 1 }:conv2d { 16, kernel = 3, groups = 16 }"),
    WINDOWS("input { 2, 5, 33 }:conv2d { 16, kernel = 1 }:conv2d { 16, kernel = 3, pad = 2, groups = 16 }"),
};

static void try_windows(void *argument)
{
    const Trial *t = argument;
    Context *c = t->oracle->program->c;
    int count;
    const Target *target = target_list(&count);
    for (int i = 0; i < count; i++) {
        if (!target_runs(&target[i]))
            continue;
        Program *p = trial_compile(c, &t->network, false, &target[i], NULL, 1);
        Code *code = code_open(p, i ? JIT_TCC : JIT_CC);
        const char *message = trial_infer(t, c, code);
        ck_assert_msg(!message, "%s: %s", target[i].name, message);
        code->close(code);
    }
}

START_TEST(windows_agree)
{
    Trial t;
    ck_assert_ptr_null(trial_open(&t, &(Network){windows[_i], 2, (uint64_t)_i}));
    ck_assert_msg(attempt(&t.c, try_windows, &t), "%s", t.c.message);
    trial_close(&t);
}
END_TEST

/* -- batches that fill vectors: training then lays samples side by side -- */

enum { LEVELS = 3 };
static const char *const levels[LEVELS] = {"native", "x86-64-v3", "x86-64-v2"};

/* Of one level of x86-64 each, by the batch. */
static void try_batch(void *argument)
{
    const Trial *t = argument;
    Context *c = t->oracle->program->c;
    const Target *target = target_find(levels[t->network.batch % LEVELS]);
    if (!target_runs(target))
        target = target_find("native");
    Program *p = trial_compile(c, &t->network, true, target, NULL, 1);
    Code *code = code_open(p, JIT_TCC);
    const char *message = trial_train(t, c, code);
    ck_assert_msg(!message, "%s: %s", p->options.target->name, message);
    code->close(code);
}

START_TEST(batches_agree)
{
    Context c;
    Network *network;
    int tried = 0;
    context_init(&c);
    int count = all_networks(&c, BATCHES, &network);
    for (int i = _i; i < count; i += BATCH_CHUNKS) {
        Trial t;
        network[i].batch = 16 + i % 6;               /* whole vectors, or one that is not full */
        if (trial_open(&t, &network[i]))
            continue;
        ck_assert_msg(attempt(&t.c, try_batch, &t), "%s", t.c.message);
        trial_close(&t);
        tried++;
    }
    ck_assert_int_gt(tried, (count - _i) / BATCH_CHUNKS - MOST_UNSTABLE);
    context_free(&c);
}
END_TEST

/* -- running statistics: the one result that no gradient check sees -- */

enum { N = 4, C = 3, L = 5 };

/* torch.nn.BatchNorm1d: the mean and the unbiased variance, by momentum. */
static void update_by_definition(const float *x, int channel, double momentum, float *mean, float *variance)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < N * L; i++)
        sum += (double)x[i / L * C * L + channel * L + i % L];
    for (int i = 0; i < N * L; i++)
        squares += pow((double)x[i / L * C * L + channel * L + i % L] - sum / (N * L), 2);
    *mean = (float)((1 - momentum) * (double)*mean + momentum * sum / (N * L));
    *variance = (float)((1 - momentum) * (double)*variance + momentum * squares / (N * L - 1));
}

START_TEST(running_statistics_by_definition)
{
    static const Network network = {
        "local x = input { 3, 5 }\nlocal y = x:batchnorm { momentum = 0.3 }\n"
        "return model { output = y, loss = y:mse() }\n", N, 1};
    Trial t;
    ck_assert_ptr_null(trial_open(&t, &network));
    float flat[4 * C], *mean = flat + 2 * C, *variance = flat + 3 * C;
    memcpy(flat, t.flat, sizeof flat);
    for (int channel = 0; channel < C; channel++)
        update_by_definition(t.in[0], channel, 0.3, &mean[channel], &variance[channel]);
    Distance d = {0};
    distance_add(&d, t.expected.after, flat, 4 * C);
    ck_assert_double_lt(distance(&d), 1e-6);
    trial_close(&t);
}
END_TEST

Suite *differential_suite(void)
{
    Suite *s = suite_create("differential");
    TCase *agree = tcase_create("agree"), *statistics = tcase_create("statistics");
    Context c;
    Network *network;
    context_init(&c);
    int count = all_networks(&c, RANDOM, &network);
    context_free(&c);
    printf("random networks: CNNC_SEED=%llu\n", (unsigned long long)base_seed());
    tcase_set_timeout(agree, 300);
    tcase_add_loop_test(agree, compiled_code_agrees, 0, (count + CHUNK - 1) / CHUNK);
    tcase_add_loop_test(agree, rare_networks_agree, 0, sizeof rare / sizeof *rare);
    tcase_add_loop_test(agree, batches_agree, 0, BATCH_CHUNKS);
    tcase_add_loop_test(agree, windows_agree, 0, sizeof windows / sizeof *windows);
    tcase_add_test(statistics, running_statistics_by_definition);
    suite_add_tcase(s, agree);
    suite_add_tcase(s, statistics);
    return s;
}
