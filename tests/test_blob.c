/* Parameters as a blob: what the generated load accepts and refuses, in a program under the
 * address sanitizer; 16-bit storage; checkpoints. */
#include "tests.h"

#include "../compiler/cnnc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *folder;

static const char net[] =
    "local x = input { 1, 5, 5, name = 'image' }\n"
    "local y = x:conv2d { 2, kernel = 3 }:batchnorm():relu():flatten():linear { 3, name = 'scores' }\n"
    "return model { output = y, loss = y:cross_entropy(), name = 'net' }\n";

static const char save[] =
    "local m = load_model(arg[1]):compile {}\nm:init(tonumber(arg[3]))\nm:save(arg[2])\n";

static void write_file(const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    text_write(path, text);
}

/* In the test's folder; what it prints. */
static char *shell(const char *command)
{
    Run r = run("export CNNC=$PWD/build/cnnc && cd %s && { %s\n}", folder, command);
    ck_assert_msg(r.status == 0, "%s\nexit status %d: %s%s", command, r.status, r.out, r.err);
    free(r.err);
    return r.out;
}

static void does(const char *command)
{
    free(shell(command));
}

static void prints(const char *command, const char *expected)
{
    char *out = shell(command);
    ck_assert_msg(!strcmp(out, expected), "%s\nprinted:\n%s\nexpected:\n%s", command, out, expected);
    free(out);
}

static void set_up(void)
{
    folder = scratch_folder("blob");
    write_file("net.lua", net);
    write_file("save.lua", save);
    does("$CNNC run save.lua net.lua a.safetensors 1 && $CNNC run save.lua net.lua b.safetensors 2");
}

#define SANITIZED "cc -std=gnu11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -Wall -Werror "

/* Reads argv[1] into memory of exactly its size. */
#define READ \
    "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include \"net.h\"\n" \
    "static unsigned char *blob; static size_t size;\n" \
    "static void read_blob(const char *path)\n{\n" \
    "    FILE *f = fopen(path, \"rb\");\n    if (!f) exit(9);\n" \
    "    fseek(f, 0, SEEK_END); size = (size_t)ftell(f); rewind(f);\n" \
    "    blob = malloc(size); if (fread(blob, 1, size, f) != size) exit(9); fclose(f);\n}\n"

/* ------------------------------------------------------------------- hostile blobs */

static const char hostile[] = READ
    "static net_params other;\n"
    "static int status(const unsigned char *from, size_t length)\n{\n"
    "    unsigned char *copy = malloc(length + !length);     /* the sanitizer sees a byte beyond */\n"
    "    memcpy(copy, from, length);\n"
    "    memset(&other, 7, sizeof other);\n"
    "    const net_params before = other;\n"
    "    int found = net_load(&other, copy, length);\n"
    "    if (found && memcmp(&other, &before, sizeof other)) { puts(\"params were touched\"); exit(1); }\n"
    "    free(copy);\n    return found;\n}\n"
    "int main(int argc, char **argv)\n{\n"
    "    read_blob(argv[argc - 1]);\n"
    "    printf(\"whole: %d\\n\", status(blob, size));\n"
    "    int count[8] = {0};\n"
    "    for (size_t cut = 0; cut < size; cut++)\n"
    "        count[status(blob, cut)]++;\n"
    "    printf(\"cut: %d accepted, %d of wrong size\\n\", count[0], count[NET_WRONG_SIZE] == (int)size);\n"
    "    unsigned char *longer = calloc(1, size + 1);\n"
    "    memcpy(longer, blob, size);\n"
    "    printf(\"longer: %d\\n\", status(longer, size + 1) == NET_WRONG_SIZE);\n"
    "    memset(count, 0, sizeof count);\n"
    "    static const size_t head[] = {0, 8, 16, 24, 12, 48, 64};\n"
    "    static const int expected[] = {NET_WRONG_MAGIC, NET_WRONG_VERSION, NET_WRONG_GRAPH,\n"
    "        NET_WRONG_TARGET, NET_WRONG_KIND, NET_WRONG_SIZE, NET_WRONG_CHECKSUM};\n"
    "    for (size_t at = 0; at < size; at++)\n"
    "        for (int change = 1; change < 256; change++) {\n"
    "            blob[at] ^= (unsigned char)change;\n"
    "            int found = status(blob, size);\n"
    "            count[found]++;\n"
    "            for (int k = 0; k < 7; k++)\n"
    "                if (at == head[k] && found != expected[k] && change > 3)\n"
    "                    printf(\"byte %zu: status %d\\n\", at, found);\n"
    "            blob[at] ^= (unsigned char)change;\n"
    "        }\n"
    "    printf(\"altered: %d accepted\\n\", count[0]);\n"
    "    for (int k = 1; k < 8; k++)\n"
    "        if (!count[k]) printf(\"status %d was never seen\\n\", k);\n"
    "}\n";

START_TEST(hostile_blobs_are_refused)
{
    write_file("main.c", hostile);
    does("$CNNC net.lua --target generic -o net.c && " SANITIZED "main.c net.c -lm -o main");
    static const char *const store[] = {"f32", "f16"};
    for (int i = 0; i < 2; i++) {
        char command[200];
        snprintf(command, sizeof command, "$CNNC pack net.lua --target generic --store %s --weights"
                 " a.safetensors -o net.blob 2>/dev/null && ASAN_OPTIONS=detect_leaks=0 ./main net.blob",
                 store[i]);
        prints(command, "whole: 0\ncut: 0 accepted, 1 of wrong size\nlonger: 1\naltered: 0 accepted\n");
    }
}
END_TEST

/* ----------------------------------------------------------------------- what it is for */

static const char loads[] = READ
    "int main(int argc, char **argv)\n{\n"
    "    static _Alignas(64) char workspace[NET_WORKSPACE_BYTES];\n"
    "    float image[NET_BATCH * NET_IMAGE_SIZE], scores[NET_BATCH * NET_SCORES_SIZE];\n"
    "    for (int i = 0; i < NET_BATCH * NET_IMAGE_SIZE; i++)\n        image[i] = (float)(i % 25 % 7) / 7;\n"
    "    static _Alignas(64) net_params aligned;\n"
    "    if (argc > 1) {\n        read_blob(argv[1]);\n"
    "        int status = net_load(&aligned, blob, size);\n"
    "        if (status || net_load(NULL, blob, size)) { printf(\"status %d\\n\", status); return 0; }\n"
    "    } else {\n        net_init(&aligned, 0);\n    }\n"
    "    net_forward(&aligned, image, scores, workspace);\n"
    "    printf(\"%a %a %a\\n\", scores[0], scores[1], scores[2]);\n}\n";

/* A program compiled once takes new weights and answers, bit by bit, as one compiled with them. */
START_TEST(new_weights_need_no_new_program)
{
    static const char *const options[] = {"--target generic", "--target native", "--train", "--winograd f2"};
    write_file("main.c", loads);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char command[600];
        snprintf(command, sizeof command,
                 "$CNNC net.lua %s --weights b.safetensors -o net.c && "
                 "cc -std=gnu11 -O1 -march=native main.c net.c -lm -o compiled && "
                 "$CNNC net.lua %s --weights a.safetensors -o net.c && "
                 "cc -std=gnu11 -O1 -march=native main.c net.c -lm -o packed && "
                 "$CNNC pack net.lua %s --weights b.safetensors -o net.blob && "
                 "./compiled >want && ./packed net.blob >have && ./packed >old && cmp want have && "
                 "! cmp -s old have && grep -c 0x have", options[i], options[i], options[i]);
        prints(command, "1\n");
    }
}
END_TEST

START_TEST(blobs_belong_to_a_network_and_a_target)
{
    write_file("main.c", loads);
    does("$CNNC net.lua --target x86-64-v2 --batch 2 -o net.c && "
         "cc -std=gnu11 -O1 main.c net.c -lm -o main && sed 's/relu/tanh/' net.lua >tanh.lua && "
         "sed 's/kernel = 3/kernel = 3, bias = false/' net.lua >bias.lua");
    prints("$CNNC pack net.lua --target generic --weights a.safetensors -o net.blob && ./main net.blob",
           "status 3\n");
    prints("$CNNC pack net.lua --train --weights a.safetensors -o net.blob && ./main net.blob", "status 3\n");
    prints("$CNNC pack tanh.lua --target x86-64-v2 --weights a.safetensors -o net.blob && ./main net.blob",
           "status 4\n");
    prints("$CNNC pack net.lua --target x86-64-v2 --weights a.safetensors -o net.blob && "
           "./main net.blob | grep -c 0x", "1\n");
    Run r = run("cd %s && ../../../cnnc pack bias.lua --weights a.safetensors -o no.blob; ls no.blob",
                folder);
    ck_assert_msg(strstr(r.err, "conv1.bias"), "%s", r.err);
    run_free(&r);
}
END_TEST

/* ------------------------------------------------------------------------------- 16 bits */

static uint16_t bits_of_half(_Float16 half)
{
    uint16_t bits;
    memcpy(&bits, &half, sizeof bits);
    return bits;
}

/* Against the compiler's own type: all halves, and floats around the middle between two. */
START_TEST(halves_round_to_nearest_even)
{
    for (uint32_t h = 0; h < 65536; h++) {
        _Float16 half;
        uint16_t stored = (uint16_t)h;
        memcpy(&half, &stored, sizeof half);
        float value = store_widen(STORE_F16, stored);
        ck_assert_msg(isnan(value) ? isnan((float)half) : value == (float)half, "%04x: %a", h, (double)value);
        if (!isnan(value))
            ck_assert_uint_eq(store_narrow(STORE_F16, value), h);
        for (int step = -0x2001; step <= 0x2001 && isfinite(value); step += 0x800 + (step & 1)) {
            uint32_t bits;
            float near;
            memcpy(&bits, &value, sizeof bits);
            bits += (uint32_t)step;
            memcpy(&near, &bits, sizeof near);
            if (!isnan(near))
                ck_assert_msg(store_narrow(STORE_F16, near) == bits_of_half((_Float16)near), "%a",
                              (double)near);
        }
    }
}
END_TEST

START_TEST(bfloats_round_to_nearest_even)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float value = store_widen(STORE_BF16, (uint16_t)h), next = store_widen(STORE_BF16, (uint16_t)(h + 1));
        if (!isfinite(value) || !isfinite(next))
            continue;
        ck_assert_uint_eq(store_narrow(STORE_BF16, value), h);
        float middle = (float)(((double)value + (double)next) / 2);
        ck_assert_uint_eq(store_narrow(STORE_BF16, middle), h & 1 ? h + 1 : h);
        ck_assert_uint_eq(store_narrow(STORE_BF16, nextafterf(middle, value)), h);
        ck_assert_uint_eq(store_narrow(STORE_BF16, nextafterf(middle, next)), h + 1);
    }
    ck_assert(isnan(store_widen(STORE_BF16, store_narrow(STORE_BF16, NAN))));
    ck_assert(isinf(store_widen(STORE_BF16, store_narrow(STORE_BF16, INFINITY))));
}
END_TEST

static const char widens[] =
    "#include <math.h>\n#include <stdio.h>\n#include <string.h>\n#include \"net.c\"\n"
    "int main(void)\n{\n    int wrong = 0;\n"
    "    for (uint32_t h = 0; h < 65536; h++) {\n"
    "        unsigned short s = (unsigned short)h; _Float16 half; memcpy(&half, &s, 2);\n"
    "        float found = net_from_f16(h), want = (float)half;\n"
    "        wrong += isnan(want) ? !isnan(found) : memcmp(&found, &want, 4) != 0;\n"
    "    }\n    printf(\"%d\\n\", wrong);\n}\n";

START_TEST(generated_code_widens_every_half)
{
    write_file("widens.c", widens);
    prints("$CNNC net.lua --target generic -o net.c && cc -std=gnu11 -O1 widens.c -lm -o widens && ./widens",
           "0\n");
}
END_TEST

/* Constants of 16 bits, in the text or beside it, and a blob of the same give the same. */
START_TEST(constants_of_16_bits)
{
    static const char *const store[] = {"f16", "bf16"}, *const target[] = {"generic", "native"};
    write_file("main.c", loads);
    write_file("wide.lua", "local y = input { 1, 5, 5, name = 'image' }:flatten():linear { 25000 }:relu()\n"
                           "y = y:linear { 3, name = 'scores' }\n"
                           "return model { output = y, name = 'net' }\n");
    does("$CNNC run save.lua wide.lua wide.safetensors 1");
    for (int i = 0; i < 4; i++) {
        char command[700];
        snprintf(command, sizeof command,
                 "for n in net wide; do w=$n.safetensors; [ $n = net ] && w=a.safetensors;\n"
                 "$CNNC $n.lua --target %s --weights $w --store %s -o net.c && "
                 "grep -q 'stored as %s' net.c && "
                 "cc -std=gnu11 -O1 -march=native -I. main.c net.c -lm -o main && "
                 "$CNNC pack $n.lua --target %s --store %s --weights $w -o net.blob 2>/dev/null && "
                 "./main net.blob >want && ./main >have && "
                 "if [ ${n}%s = widegeneric ]; then cmp net.weights net.blob; else cmp want have; fi && "
                 "grep -c 0x want || exit 1; done",
                 target[i % 2], store[i / 2], store[i / 2], target[i % 2], store[i / 2], target[i % 2]);
        prints(command, "1\n1\n");
    }
}
END_TEST

START_TEST(what_16_bits_cannot_hold_is_refused)
{
    write_file("big.lua", "return input { 1, 2, 2 }:conv2d { 1, kernel = 1, bias = false,"
                          " weight = { { { { 70000 } } } } }\n");
    Run r = run("cd %s && ../../../cnnc big.lua --store f16 -o big.c; echo $?; ls big.c", folder);
    ck_assert_msg(!strcmp(r.out, "1\n") && strstr(r.err, "beyond the range of f16"), "%s%s", r.out, r.err);
    run_free(&r);
    does("$CNNC big.lua --store bf16 -o big.c");
    r = run("cd %s && ../../../cnnc net.lua --store f16 -o c.c; echo $?; ls c.c", folder);
    ck_assert_msg(!strcmp(r.out, "2\n") && strstr(r.err, "--weights"), "%s%s", r.out, r.err);
    run_free(&r);
}
END_TEST

/* --------------------------------------------------------------------------- checkpoints */

static const char resumes[] =
    "#include <stdio.h>\n#include <string.h>\n#include \"net.h\"\n"
    "static net_params p, m, v, g, q, n, w, t;\n"
    "static _Alignas(64) char workspace[NET_TRAIN_WORKSPACE_BYTES];\n"
    "static unsigned char blob[NET_CHECKPOINT_BYTES + 1];\n"
    "static void step(net_params *p, net_params *m, net_params *v, int step)\n{\n"
    "    float image[NET_IMAGE_SIZE]; int32_t label = step % 3;\n"
    "    for (int i = 0; i < NET_IMAGE_SIZE; i++) image[i] = (float)((i + step) % 7) / 7;\n"
    "    net_backward(p, image, &label, &g, workspace);\n"
    "    net_adam(p, &g, m, v, step, 0.01f, 0.9f, 0.999f, 1e-8f, 0.0f);\n}\n"
    "int main(void)\n{\n    int at = 0;\n"
    "    net_init(&p, 1);\n"
    "    for (int i = 1; i <= 3; i++) step(&p, &m, &v, i);\n"
    "    size_t size = net_save(blob, sizeof blob, &p, &m, &v, 3);\n"
    "    printf(\"%d\", size == NET_CHECKPOINT_BYTES);\n"
    "    printf(\"%d\", net_save(blob, size - 1, &p, &m, &v, 3) == 0);\n"
    "    printf(\"%d\", net_restore(&q, &n, &w, &at, blob, size) == 0 && at == 3);\n"
    "    printf(\"%d\", net_restore(&q, &n, NULL, &at, blob, size) == NET_WRONG_KIND);\n"
    "    printf(\"%d\", net_load(&t, blob, size) == 0 && !memcmp(&t, &p, sizeof p));\n"
    "    for (int i = 4; i <= 6; i++) { step(&p, &m, &v, i); step(&q, &n, &w, i); }\n"
    "    printf(\"%d\", !memcmp(&p, &q, sizeof p) && !memcmp(&v, &w, sizeof v));\n"
    "    blob[100] ^= 1;\n"
    "    printf(\"%d\\n\", net_restore(&q, &n, &w, &at, blob, size) == NET_WRONG_CHECKSUM &&\n"
    "           !memcmp(&p, &q, sizeof p));\n}\n";

/* Training that was interrupted goes on as if it had not been. */
START_TEST(training_resumes_from_a_checkpoint)
{
    write_file("resumes.c", resumes);
    prints("$CNNC net.lua --train --target generic -o net.c && " SANITIZED
           "resumes.c net.c -lm -o main && ./main", "1111111\n");
}
END_TEST

Suite *blob_suite(void)
{
    Suite *s = suite_create("blob");
    TCase *t = tcase_create("blobs");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, hostile_blobs_are_refused);
    tcase_add_test(t, new_weights_need_no_new_program);
    tcase_add_test(t, blobs_belong_to_a_network_and_a_target);
    tcase_add_test(t, halves_round_to_nearest_even);
    tcase_add_test(t, bfloats_round_to_nearest_even);
    tcase_add_test(t, generated_code_widens_every_half);
    tcase_add_test(t, constants_of_16_bits);
    tcase_add_test(t, what_16_bits_cannot_hold_is_refused);
    tcase_add_test(t, training_resumes_from_a_checkpoint);
    suite_add_tcase(s, t);
    return s;
}
