/* Training where memory is short: gradients of single samples added up, layers that stay as they
 * are, and digits learnt by a Cortex-M4. */
#include "tests.h"

#include "../compiler/cnnc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------- accumulation */

static const char net[] =
    "local x = input { 2, 7, 6, name = 'image' }\n"
    "local y = x:conv2d { 5, kernel = 3, pad = 1 }:relu():maxpool { 2 }:flatten():linear { 4 }\n"
    "return model { output = y, loss = y:cross_entropy() }\n";

static const char adds[] =
    "#include <math.h>\n#include <stdio.h>\n#include \"one.h\"\n#include \"all.h\"\n"
    "static one_params p, g;\nstatic all_params q, h;\n"
    "static _Alignas(64) char small[ONE_TRAIN_WORKSPACE_BYTES], large[ALL_TRAIN_WORKSPACE_BYTES];\n"
    "int main(void)\n{\n"
    "    static float image[ALL_BATCH * ALL_IMAGE_SIZE]; int32_t label[ALL_BATCH]; float loss = 0;\n"
    "    for (int i = 0; i < ALL_BATCH * ALL_IMAGE_SIZE; i++) image[i] = (float)(i * 7919 % 1009) / 1009;\n"
    "    for (int i = 0; i < ALL_BATCH; i++) label[i] = i * 3 % 4;\n"
    "    one_init(&p, 3); all_init(&q, 3);\n"
    "    for (int i = 0; i < ALL_BATCH; i++)\n"
    "        loss += one_accumulate(&p, image + i * ONE_IMAGE_SIZE, &label[i], &g, small) / ALL_BATCH;\n"
    "    float whole = all_backward(&q, image, label, &h, large), most = 0, off = 0;\n"
    "    const float *a = (const float *)&g, *b = (const float *)&h;\n"
    "    for (size_t i = 0; i < sizeof g / sizeof *a; i++) {\n"
    "        most = fmaxf(most, fabsf(b[i])); off = fmaxf(off, fabsf(a[i] / ALL_BATCH - b[i]));\n    }\n"
    "    printf(\"%d %d %d\\n\", sizeof g == sizeof h, fabsf(loss - whole) <= 1e-6f * whole,\n"
    "           most > 0 && off <= 1e-5f * most);\n"
    "    printf(\"%d\\n\", 3 * sizeof small < sizeof large);\n}\n";

START_TEST(samples_add_up_to_a_batch)
{
    static const char *const target[] = {"generic", "native"};
    const char *folder = scratch_folder("device");
    char path[300];
    snprintf(path, sizeof path, "%s/net.lua", folder);
    text_write(path, net);
    snprintf(path, sizeof path, "%s/main.c", folder);
    text_write(path, adds);
    for (int i = 0; i < 2; i++) {
        Run r = run("c=$PWD/build/cnnc; cd %s && $c net.lua --train --target %s --name one -o one.c && "
                    "$c net.lua --train --target %s --batch 8 --name all -o all.c && "
                    "cc -std=gnu11 -O2 -march=native main.c one.c all.c -lm -o main && ./main",
                    folder, target[i], target[i]);
        ck_assert_msg(r.status == 0 && !strncmp(r.out, "1 1 1\n", 6), "%s: %s%s", target[i], r.out, r.err);
        ck_assert_msg(i > 0 || !strcmp(r.out, "1 1 1\n1\n"), "one sample's workspace is not small");
        run_free(&r);
    }
}
END_TEST

/* -------------------------------------------------------------------------- fine-tuning */

static const char tuned[] =
    "local function net(image, train)\n"
    "  local x = image:conv2d { 6, kernel = 5, pad = 2, trainable = train }:relu():maxpool { 2 }\n"
    "  x = x:conv2d { 16, kernel = 5, trainable = train }:relu():maxpool { 2 }\n"
    "  x = x:flatten():linear { 120, trainable = train }:relu()\n"
    "  return x:linear { 10, name = 'scores' }\nend\n"
    "local y = net(input { 1, 28, 28, name = 'image' }, %s)\n"
    "return model { output = y, loss = y:cross_entropy() }\n";

typedef struct Tuned { Context c; char text[800]; Program *program; } Tuned;

static void compile_tuned(void *argument)
{
    Tuned *t = argument;
    Graph *g = frontend_load_text(&t->c, t->text, strlen(t->text), "net.lua", 1);
    Options options = {.batch = 1, .train = true, .target = target_find("generic")};
    t->program = compile(g, &options, NULL);
}

static int64_t macs(const Graph *g)
{
    const bool *live = graph_live(g);
    int64_t sum = 0;
    for (int i = 0; i < g->nodes; i++)
        sum += live[i] && g->node[i]->op->macs ? g->node[i]->op->macs(g->node[i]) : 0;
    return sum;
}

static int gradients(const Graph *g)
{
    int count = 0;
    for (int r = 0; r < g->roots; r++)
        count += g->root[r].kind == ROOT_PARAM_GRAD;
    return count;
}

/* With all layers but the last as they are, the way back is that layer's weights' gradient. */
START_TEST(layers_that_stay_cost_nothing_on_the_way_back)
{
    Tuned t[2] = {0};
    for (int i = 0; i < 2; i++) {
        context_init(&t[i].c);
        snprintf(t[i].text, sizeof t[i].text, tuned, i ? "false" : "true");
        ck_assert_msg(attempt(&t[i].c, compile_tuned, &t[i]), "%s", t[i].c.message);
    }
    const Function *all = t[0].program->backward, *last = t[1].program->backward;
    int64_t forward = macs(t[1].program->forward->graph);
    ck_assert_int_eq(gradients(all->graph), 8);
    ck_assert_int_eq(gradients(last->graph), 2);
    ck_assert_int_eq(macs(last->graph), forward + 10 * 120);
    ck_assert_int_gt(macs(all->graph), 2 * forward);
    ck_assert_int_lt(3 * last->workspace, all->workspace);
    for (int i = 0; i < 2; i++)
        context_free(&t[i].c);
}
END_TEST

/* ---------------------------------------------------------------------------- Cortex-M4 */

typedef struct Learnt { double loss[3]; int right; } Learnt;

static Learnt learnt(const char *text)
{
    Learnt l = {{NAN, NAN, NAN}, 0};
    int found = sscanf(text, "100 %lf\n200 %lf\n300 %lf\nright %d", &l.loss[0], &l.loss[1], &l.loss[2],
                       &l.right);
    ck_assert_msg(found == 4, "%s", text);
    return l;
}

/* Digits drawn by a seeded generator stream in, one at a time.  The C libraries' exp and log round
 * in their own ways, and what they differ by grows from step to step: so the bound. */
START_TEST(a_cortex_m4_learns_digits)
{
    const char *folder = scratch_folder("device");
    Run r = run("cp tests/data/device/* %s && build/cnnc %s/digits.lua --train --target generic "
                "--max-workspace 64K -o %s/digits.c && cd %s && "
                "cc -std=gnu11 -O2 -ffp-contract=off learn.c digits.c -lm -o learn && ./learn",
                folder, folder, folder, folder);
    ck_assert_msg(r.status == 0, "%s", r.err);
    Learnt host = learnt(r.out);
    run_free(&r);
    r = run("cd %s && arm-none-eabi-gcc -std=gnu11 -O2 -ffp-contract=off -mcpu=cortex-m4 -mthumb "
            "-mfloat-abi=hard -mfpu=fpv4-sp-d16 --specs=rdimon.specs -T m4.ld start.c learn.c digits.c -lm "
            "-o learn.elf && timeout 100 qemu-system-arm -M mps2-an386 -nographic "
            "-semihosting-config enable=on,target=native -kernel learn.elf", folder);
    ck_assert_msg(r.status == 0, "%s", r.err);
    Learnt device = learnt(*r.out ? r.out : r.err);
    run_free(&r);
    for (int i = 0; i < 3; i++)
        ck_assert_double_eq_tol(device.loss[i], host.loss[i], 1e-3);
    ck_assert_double_lt(device.loss[2], device.loss[0] / 2);
    ck_assert_int_gt(device.right, 120);         /* of 200; 20 by chance */
}
END_TEST

Suite *device_suite(void)
{
    Suite *s = suite_create("device");
    TCase *t = tcase_create("training");
    tcase_set_timeout(t, 180);
    tcase_add_test(t, samples_add_up_to_a_batch);
    tcase_add_test(t, layers_that_stay_cost_nothing_on_the_way_back);
    tcase_add_test(t, a_cortex_m4_learns_digits);
    suite_add_tcase(s, t);
    return s;
}
