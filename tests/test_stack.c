/* The headers' bounds on stack against what compilers make of the files: gcc writes every
 * function's frame and every call (-fcallgraph-info=su). */
#define _GNU_SOURCE
#include "embed.h"

#include <stdlib.h>
#include <string.h>

/* A function, and the longest way down from it. */
typedef struct Frame { char *name; int own, below; bool open, known; int *callee, callees; } Frame;
typedef struct Frames { Frame *frame; int count; } Frames;

/* Clones (.constprop.0, .isra.0, .part.0) are called, too: names are kept whole. */
static Frame *find(Frames *f, const char *name)
{
    for (int i = 0; i < f->count; i++)
        if (!strcmp(f->frame[i].name, name))
            return &f->frame[i];
    return NULL;
}

static char *quoted(const char *line, const char *before)
{
    const char *at = strstr(line, before);
    ck_assert_msg(at != NULL, "no %s in %s", before, line);
    at += strlen(before);
    return strndup(at, strcspn(at, "\""));
}

static void add_node(Frames *f, const char *line)
{
    const char *bytes = strstr(line, " bytes (");
    while (bytes && bytes[-1] >= '0' && bytes[-1] <= '9')
        bytes--;
    if (!bytes)
        return;                                  /* of another file: libm's */
    ck_assert_msg(!strstr(line, "dynamic)"), "a frame whose size is not fixed: %s", line);
    f->frame = realloc(f->frame, (size_t)(f->count + 1) * sizeof *f->frame);
    f->frame[f->count++] = (Frame){.name = quoted(line, "title: \""), .own = atoi(bytes)};
}

static void add_edge(Frames *f, const char *line)
{
    char *from = quoted(line, "sourcename: \""), *to = quoted(line, "targetname: \"");
    Frame *caller = find(f, from), *callee = find(f, to);
    ck_assert_msg(strcmp(to, "__indirect_call"), "a call through a pointer: %s", line);
    if (caller && callee) {
        caller->callee = realloc(caller->callee, (size_t)(caller->callees + 1) * sizeof *caller->callee);
        caller->callee[caller->callees++] = (int)(callee - f->frame);
    }
    free(from);
    free(to);
}

static void for_lines(Frames *f, const char *text, const char *kind, void (*add)(Frames *, const char *))
{
    char *copy = strdup(text), *rest = copy, *line;
    while ((line = strsep(&rest, "\n")))
        if (!strncmp(line, kind, strlen(kind)))
            add(f, line);
    free(copy);
}

static int depth(Frames *f, Frame *frame)
{
    ck_assert_msg(!frame->open, "%s calls itself", frame->name);
    frame->open = true;
    for (int i = 0; !frame->known && i < frame->callees; i++) {
        int below = depth(f, &f->frame[frame->callee[i]]);
        frame->below = below > frame->below ? below : frame->below;
    }
    frame->open = false;
    frame->known = true;
    return frame->own + frame->below;
}

static void free_frames(Frames *f)
{
    for (int i = 0; i < f->count; i++) {
        free(f->frame[i].name);
        free(f->frame[i].callee);
    }
    free(f->frame);
}

enum { LIBM = 256 };          /* bytes, for the deepest of its functions */

static void check_function(Frames *f, const char *prefix, const char *name, long bound)
{
    char *whole;
    ck_assert_int_ge(asprintf(&whole, "%s_%s", prefix, name), 0);
    Frame *frame = find(f, whole);
    ck_assert_msg(frame != NULL, "no function %s", whole);
    int found = depth(f, frame) + LIBM;
    ck_assert_msg(found <= bound, "%s takes %d bytes of stack, the header allows %ld", whole, found, bound);
    free(whole);
}

static void check_program(Frames *f, const char *folder, const char *prefix, bool train)
{
    char *path, *header;
    ck_assert_int_ge(asprintf(&path, "%s/%s.h", folder, prefix), 0);
    header = text_read(path);
    ck_assert_ptr_nonnull(header);
    long stack = macro_value(header, prefix, "STACK_BYTES");
    long pack = macro_value(header, prefix, "PACK_STACK_BYTES");
    check_function(f, prefix, "forward", stack);
    for (int i = 0; i < 2; i++)
        check_function(f, prefix, i ? "init" : "pack", pack > 0 ? pack : stack);
    static const char *const trained[] = {"backward", "accumulate", "loss", "sgd", "adam", "unpack"};
    for (size_t i = 0; train && i < sizeof trained / sizeof *trained; i++)
        check_function(f, prefix, trained[i], macro_value(header, prefix, "TRAIN_STACK_BYTES"));
    free(path);
    free(header);
}

static Frames read_frames(const char *path)
{
    Frames f = {0};
    char *text = text_read(path);
    ck_assert_msg(text != NULL, "no %s", path);
    for_lines(&f, text, "node: ", add_node);
    for_lines(&f, text, "edge: ", add_edge);
    free(text);
    return f;
}

static const struct { const char *target, *compiler; } builds[] = {
    {"generic", "gcc -std=c99 -O0"}, {"generic", "gcc -std=c99 -O2"}, {"generic", "gcc -std=c99 -O3"},
    {"generic", "arm-none-eabi-gcc -std=c99 -Os -mcpu=cortex-m4"},
    {"x86-64-v3", "gcc -std=gnu11 -O3 -march=x86-64-v3"},
};

START_TEST(calls_keep_to_the_bound)
{
    Context c;
    Embedded e = embed_samples(&c, "stack", builds[_i].target);
    free(output_of("cd %s && %s -fcallgraph-info=su -w -c few.c", e.folder, builds[_i].compiler));
    Frames f = read_frames(format(&c, "%s/few.ci", e.folder));
    ck_assert_int_gt(f.count, 200);
    for (int i = 0; i < e.networks; i += 5)
        for (int train = 0; train < 2; train++)
            check_program(&f, e.folder, format(&c, "%s%d", train ? "train" : "infer", i), train);
    free_frames(&f);
    context_free(&c);
}
END_TEST

static const struct { const char *network, *options, *compiler; } large[] = {
    {"resnet8", "--target generic", "gcc -std=c99 -O3"},
    {"resnet8", "--target generic --train", "gcc -std=c99 -O3"},
    {"resnet8", "--target x86-64-v4", "gcc -std=gnu11 -O3 -march=x86-64-v4"},
    {"mobilenet_v2", "--target generic", "arm-none-eabi-gcc -std=c99 -O2 -mcpu=cortex-m4"},
    {"lenet5", "--target x86-64-v3 --train --winograd f4", "gcc -std=gnu11 -O3 -march=x86-64-v3"},
};

START_TEST(so_do_larger_networks)
{
    Context c;
    context_init(&c);
    const char *folder = scratch_folder("stack");
    free(output_of("build/cnnc graphs/%s.lua %s --name net -o %s/net.c", large[_i].network, large[_i].options,
                   folder));
    free(output_of("cd %s && %s -fcallgraph-info=su -c net.c", folder, large[_i].compiler));
    Frames f = read_frames(format(&c, "%s/net.ci", folder));
    check_program(&f, folder, "net", strstr(large[_i].options, "--train") != NULL);
    free_frames(&f);
    context_free(&c);
}
END_TEST

Suite *stack_suite(void)
{
    Suite *s = suite_create("stack");
    TCase *t = tcase_create("stack");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, calls_keep_to_the_bound, 0, sizeof builds / sizeof *builds);
    tcase_add_loop_test(t, so_do_larger_networks, 0, sizeof large / sizeof *large);
    suite_add_tcase(s, t);
    return s;
}
