/* Code for other processors, cross-compiled and run under emulation: every op's samples and random
 * networks, forward and backward, against the reference interpreter.
 *
 * A target's networks are one program, which prints its results as the bits of floats.  What a
 * target needs and is not installed is named, and the target skipped. */
#include "tests.h"
#include "trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UNSTABLE_MOST = 3, FILES = 2, ARENA = 1 << 20 };

/* How a target's program is made and run: $ stands for its folder. */
typedef struct Machine {
    const char *target;
    int networks;              /* random ones, behind the samples */
    int trains;               /* 1: its training code is tried, too */
    const char *needs;         /* commands and files */
    const char *link, *run;
} Machine;

#define CORTEX "-nostartfiles -T tests/cross/cortex_m.ld tests/cross/cortex_m.c $/*.o -o $/program -lm"
#define LINUX "-static tests/cross/linux.c $/*.o -o $/program -lm"
#define BOARD " -display none -serial none -monitor none -chardev stdio,id=out" \
    " -semihosting-config enable=on,chardev=out -kernel $/program"

static const Machine machines[] = {
    {"aarch64", 20, true, "aarch64-linux-gnu-gcc qemu-aarch64", LINUX, "qemu-aarch64 $/program"},
    {"armv7", 40, false, "arm-linux-gnueabihf-gcc qemu-arm", LINUX, "qemu-arm $/program"},
    {"riscv64", 40, false, "riscv64-linux-gnu-gcc qemu-riscv64", LINUX, "qemu-riscv64 $/program"},
    {"cortex-m4", 20, true, "arm-none-eabi-gcc qemu-system-arm", CORTEX,
     "qemu-system-arm -M mps2-an386" BOARD},
    {"cortex-m7", 20, false, "arm-none-eabi-gcc qemu-system-arm", CORTEX,
     "qemu-system-arm -M mps2-an500" BOARD},
    {"cortex-m0", 20, false, "arm-none-eabi-gcc qemu-system-arm", CORTEX,
     "qemu-system-arm -M mps2-an385" BOARD},
    {"wasm32", 40, false, "clang wasm-ld node /usr/lib/wasm32-wasi/libc.a",
     "-nostartfiles -Wl,--no-entry tests/cross/wasm.c $/*.o -o $/program -lm",
     "node tests/cross/wasm.js $/program"},
};
enum { MACHINES = sizeof machines / sizeof *machines };

typedef struct Cross {
    Context c;
    const Machine *machine;
    const Target *target;
    const char *folder;
    Trial *trial;
    Program *(*program)[2];    /* for inference, for training */
    int trials, first;         /* of the samples and random networks from `first` on */
    FILE *file;
    const char *says;          /* what the program has printed so far unread */
    double worst;              /* difference, in units of what is allowed */
} Cross;

static const char *with_folder(Cross *k, const char *text)
{
    Text t = {.c = &k->c};
    for (; *text; text++)
        text_add(&t, *text == '$' ? "%s" : "%.1s", *text == '$' ? k->folder : text);
    return t.data;
}

/* The first thing that is missing, or NULL. */
static const char *missing(Cross *k)
{
    char *list = format(&k->c, "%s", k->machine->needs);
    for (char *need = strtok(list, " "); need; need = strtok(NULL, " ")) {
        Run r = run("command -v %s || test -e %s", need, need);
        bool found = r.status == 0;
        run_free(&r);
        if (!found)
            return need;
    }
    return NULL;
}

/* -- the program -- */

static void write_numbers(FILE *file, const void *from, DType type, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (type == I32)
            fprintf(file, "%d, ", ((const int32_t *)from)[i]);
        else
            fprintf(file, "%af, ", (double)((const float *)from)[i]);
}

static void write_array(FILE *file, const char *name, const void *from, DType type, int64_t count)
{
    fprintf(file, "static const %s %s[] = {", type == I32 ? "int32_t" : "float", name);
    write_numbers(file, from, type, count);
    fprintf(file, "0};\n");
}

static int64_t floats(const Node *n)
{
    return shape_count(&n->shape);
}

static void write_forward(Cross *k, const Trial *t, const Program *p)
{
    FILE *f = k->file;
    const char *x = p->prefix;
    for (int o = 0; o < p->outputs; o++)
        fprintf(f, "    float *out%d = room(%lld);\n", o, (long long)floats(p->output[o].node) * 4);
    fprintf(f, "    %s_pack(params, flat);\n    %s_forward(params", x, x);
    for (int i = 0; i < p->net->inputs; i++)
        if (!p->net->input[i]->loss_only)
            fprintf(f, ", in%d", i);
    for (int o = 0; o < p->outputs; o++)
        fprintf(f, ", out%d", o);
    fprintf(f, ", room(%lld));\n", (long long)p->forward->workspace);
    for (int o = 0; o < p->outputs; o++)
        fprintf(f, "    show(out%d, %lld);\n", o, (long long)floats(p->output[o].node));
    (void)t;
}

static void write_backward(Cross *k, const Trial *t, const Program *p)
{
    FILE *f = k->file;
    const char *x = p->prefix;
    long long params = (long long)params_count(p->net);
    fprintf(f, "    %s_params *grad = room(sizeof *grad);\n    float *grads = room(%lld);\n", x, params * 4);
    for (int i = 0; i < p->net->inputs; i++)
        if (!p->net->input[i]->loss_only)
            fprintf(f, "    float *in_grad%d = room(%lld);\n", i,
                    (long long)shape_count(&p->net->input[i]->shape) * 4);
    fprintf(f, "    const float loss = %s_backward(params", x);
    for (int i = 0; i < p->net->inputs; i++)
        fprintf(f, ", in%d", i);
    fprintf(f, ", grad");
    for (int i = 0; i < p->net->inputs; i++)
        if (!p->net->input[i]->loss_only)
            fprintf(f, ", in_grad%d", i);
    int64_t loss = p->loss->workspace, backward = p->backward->workspace;
    fprintf(f, ", room(%lld)", (long long)(loss > backward ? loss : backward));
    if (p->seeded)
        fprintf(f, ", %lluu", (unsigned long long)t->network.seed);
    fprintf(f, ");\n    show(&loss, 1);\n    %s_unpack(grads, grad);\n    show(grads, %lld);\n", x, params);
    for (int i = 0; i < p->net->inputs; i++)
        if (!p->net->input[i]->loss_only)
            fprintf(f, "    show(in_grad%d, %d);\n", i, shape_count(&p->net->input[i]->shape));
}

/* The files as a user gets them, in one text with others, and functions that run them. */
static void write_trial(Cross *k, int i)
{
    const Trial *t = &k->trial[i];
    const Graph *net = t->oracle->program->net;
    for (int train = 0; train <= k->machine->trains; train++) {
        Program *p = k->program[i][train];
        const char *name = format(&k->c, "%s.h", p->prefix);
        text_write(format(&k->c, "%s/%s", k->folder, name), print_header(p));
        fputs(print_source(p, name, PRINT_FILE), k->file);
        fprintf(k->file, "\nvoid try_%s(void)\n{\n", p->prefix);
        write_array(k->file, "flat", t->flat, F32, params_count(net));
        for (int in = 0; in < net->inputs; in++)
            if (train || !net->input[in]->loss_only)
                write_array(k->file, format(&k->c, "in%d", in), t->in[in], net->input[in]->dtype,
                            shape_count(&net->input[in]->shape));
        fprintf(k->file, "    clear();\n    %s_params *params = room(sizeof *params);\n", p->prefix);
        write_forward(k, t, p);
        if (train)
            write_backward(k, t, p);
        fprintf(k->file, "}\n");
    }
}

/* Memory that shows when it is read before it is written, and results as hexadecimal digits. */
static void write_main(Cross *k)
{
    FILE *f = k->file = fopen(format(&k->c, "%s/main.c", k->folder), "w");
    fprintf(f, "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n"
               "#include \"tests/cross/port.h\"\n"
               "static _Alignas(64) unsigned char arena[%d];\nstatic size_t used;\n"
               "void clear(void)\n{\n    memset(arena, 0xff, sizeof arena);\n    used = 0;\n}\n"
               "void *room(size_t bytes)\n{\n    void *at = arena + used;\n"
               "    used += (bytes + 15) / 16 * 16 + 16;\n"
               "    if (used > sizeof arena) {\n        port_write(\"no room\\n\");\n        for (;;)\n"
               "            ;\n    }\n"
               "    return at;\n}\n"
               "void show(const float *from, int count)\n{\n    char line[10] = {0};\n"
               "    for (int i = 0; i < count; i++) {\n        uint32_t bits;\n"
               "        memcpy(&bits, from + i, 4);\n        for (int k = 0; k < 8; k++)\n"
               "            line[k] = \"0123456789abcdef\"[bits >> (28 - 4 * k) & 15];\n"
               "        line[8] = '\\n';\n        port_write(line);\n    }\n}\n", ARENA);
    for (int i = 0; i < k->trials; i++)
        for (int train = 0; train <= k->machine->trains; train++)
            fprintf(f, "void try_%s(void);\n", k->program[i][train]->prefix);
    fprintf(f, "int program(void)\n{\n");
    for (int i = 0; i < k->trials; i++)
        for (int train = 0; train <= k->machine->trains; train++)
            fprintf(f, "    try_%s();\n", k->program[i][train]->prefix);
    fprintf(f, "    return 0;\n}\n");
    ck_assert_int_eq(fclose(f), 0);
}

static void compile_programs(void *argument)
{
    Cross *k = argument;
    for (int i = 0; i < k->trials; i++)
        for (int train = 0; train <= k->machine->trains; train++)
            k->program[i][train] = trial_compile(&k->c, &k->trial[i].network, train, k->target,
                                                 format(&k->c, "%s%d", train ? "train" : "infer", i), 1);
}

static void build(Cross *k)
{
    Text command = {.c = &k->c};
    const char *flags = format(&k->c, "%s -std=gnu11 %s -w -I. -I%s", target_compiler(k->target),
                               k->target->cflags, k->folder);
    for (int n = 0; n < FILES; n++) {
        k->file = fopen(format(&k->c, "%s/%d.c", k->folder, n), "w");
        fprintf(k->file, "#include <stddef.h>\nvoid clear(void), *room(size_t), show(const float *, int);\n");
        for (int i = n; i < k->trials; i += FILES)
            write_trial(k, i);
        ck_assert_int_eq(fclose(k->file), 0);
        text_add(&command, "%s -O1 -c -o %s/%d.o %s/%d.c & ", flags, k->folder, n, k->folder, n);
    }
    write_main(k);
    text_add(&command, "%s -O1 -c -o %s/main.o %s/main.c; wait; ", flags, k->folder, k->folder);
    text_add(&command, "%s -O1 %s", flags, with_folder(k, k->machine->link));
    Run r = run("%s", command.data);
    ck_assert_msg(r.status == 0 && !*r.err, "%s: %.2000s", k->target->name, r.err);
    run_free(&r);
}

/* -- what it says -- */

/* Terms that one element of the result is accumulated from: of every kernel on the way as many as its
 * longest reduction has, and one for what follows it. */
static int64_t terms(const Function *f)
{
    int64_t sum = 0;
    for (int i = 0; i < f->kernels; i++) {
        int64_t most = 1;
        for (int n = 0; n < f->kernel[i]->nests; n++) {
            const Nest *nest = f->kernel[i]->nest[n];
            int64_t reduced = 1;
            for (int a = 0; a < nest->axes; a++)
                reduced *= nest->axis[a].reduce ? nest->axis[a].extent : 1;
            most = reduced > most ? reduced : most;
        }
        sum += most + 1;
    }
    return sum;
}

static void take_floats(Cross *k, Distance *d, const float *expected, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        unsigned bits = 0;
        int length = 0;
        ck_assert_msg(sscanf(k->says, "%8x %n", &bits, &length) == 1, "%s: %lld of %lld floats, then: %.80s",
                      k->target->name, (long long)i, (long long)count, k->says);
        float found;
        memcpy(&found, &bits, sizeof found);
        k->says += length;
        distance_add(d, &found, &expected[i], 1);
    }
}

/* 4 units in the last place of the largest expected entry for every term. */
static void allow(Cross *k, const Trial *t, const char *what, Distance d, int64_t count)
{
    double allowed = 4 * (double)count * 0x1p-23, found = distance(&d);
    k->worst = fmax(k->worst, found / allowed);
    ck_assert_msg(found <= allowed, "%s: %s differs by %g of the largest, %g; %lld terms\n"
                  "-- seed %llu, batch %d\n%s", k->target->name, what, found, d.largest, (long long)count,
                  (unsigned long long)t->network.seed, t->network.batch, t->network.text);
}

static void compare(Cross *k, int i)
{
    const Trial *t = &k->trial[i];
    const Program *oracle = t->oracle->program;
    for (int train = 0; train <= k->machine->trains; train++) {
        const Program *p = k->program[i][train];
        Distance out = {0}, loss = {0}, grad = {0};
        for (int o = 0; o < p->outputs; o++)
            take_floats(k, &out, t->expected.output[o], floats(p->output[o].node));
        allow(k, t, train ? "forward beside training" : "forward", out, terms(oracle->forward));
        if (!train)
            continue;
        take_floats(k, &loss, &t->expected.trained_loss, 1);
        allow(k, t, "loss", loss, terms(oracle->backward));
        take_floats(k, &grad, t->expected.grad, params_count(p->net));
        for (int in = 0, next = 0; in < p->net->inputs; in++)
            if (!p->net->input[in]->loss_only)
                take_floats(k, &grad, t->expected.in_grad[next++], shape_count(&p->net->input[in]->shape));
        allow(k, t, "gradient", grad, terms(oracle->backward));
    }
}

/* -- tests -- */

static void open_trials(Cross *k)
{
    Network *network;
    int count = all_networks(&k->c, k->machine->networks, &network), unstable = 0;
    k->trial = NEW_ARRAY(&k->c, Trial, count);
    k->program = arena_alloc(&k->c, (size_t)count, sizeof *k->program);
    for (int i = 0; i < count; i++) {
        const char *message = trial_open(&k->trial[k->trials], &network[i]);
        k->trials += !message;
        unstable += message != NULL;
        ck_assert_msg(unstable <= UNSTABLE_MOST, "%s", message);
    }
}

START_TEST(networks_agree)
{
    Cross *k = calloc(1, sizeof *k);
    context_init(&k->c);
    k->machine = &machines[_i];
    k->target = target_find(k->machine->target);
    const char *lacks = missing(k);
    if (lacks) {
        printf("cross: %s skipped: there is no %s\n", k->target->name, lacks);
    } else {
        double start = milliseconds();
        k->folder = scratch_folder(format(&k->c, "cross-%s", k->target->name));
        open_trials(k);
        ck_assert_msg(attempt(&k->c, compile_programs, k), "%s", k->c.message);
        double opened = milliseconds();
        build(k);
        double built = milliseconds();
        Run r = run("timeout 100 %s", with_folder(k, k->machine->run));
        ck_assert_msg(r.status == 0, "%s: status %d: %.1000s", k->target->name, r.status, r.err);
        k->says = r.out;
        for (int i = 0; i < k->trials; i++)
            compare(k, i);
        ck_assert_msg(!*k->says, "%s: more than expected: %.80s", k->target->name, k->says);
        printf("cross: %s: %d networks%s; at worst %.2f of what rounding may do (%.0f + %.0f + %.0f ms)\n",
               k->target->name, k->trials, k->machine->trains ? ", trained too" : "", k->worst,
               opened - start, built - opened, milliseconds() - built);
        run_free(&r);
    }
    for (int i = 0; i < k->trials; i++)
        trial_close(&k->trial[i]);
    context_free(&k->c);
    free(k);
}
END_TEST

Suite *cross_suite(void)
{
    Suite *s = suite_create("cross");
    for (int i = 0; i < MACHINES; i++) {         /* one alone: CK_RUN_CASE=aarch64 */
        TCase *agree = tcase_create(machines[i].target);
        tcase_set_timeout(agree, 300);
        tcase_add_loop_test(agree, networks_agree, i, i + 1);
        suite_add_tcase(s, agree);
    }
    return s;
}
