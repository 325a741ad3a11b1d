/* The host's leaves as machine code: the innermost loop of a multiply-add keeps all its
 * sums in registers.  A member too large for them would be just as right, and slow. */
#define _GNU_SOURCE
#include "tests.h"

#include <stdlib.h>
#include <string.h>

#include "../compiler/print/print.h"
#include "../runtime/runtime.h"

/* -- disassembly: objdump's, in AT&T's syntax -- */

typedef struct Instruction { long address; const char *text; } Instruction;

typedef struct Machine {
    Context c;
    char *text;
    Instruction *at; int count;        /* a function's name, "<name>:", stands before its first */
} Machine;

static Machine *disassemble(const char *object)
{
    Machine *m = calloc(1, sizeof *m);
    context_init(&m->c);
    Run r = run("objdump -d --no-show-raw-insn %s", object);
    ck_assert_msg(r.status == 0, "%s", r.err);
    m->text = strdup(r.out);
    run_free(&r);
    char *rest = m->text, *line;
    while ((line = strsep(&rest, "\n"))) {
        char *text;
        long address = strtol(line, &text, 16);
        if (text == line || (*text != ':' && strncmp(text, " <", 2)))
            continue;
        text += strspn(text, ": \t");
        PUSH(&m->c, m->at, m->count) = (Instruction){address, text};
    }
    return m;
}

static void machine_close(Machine *m)
{
    context_free(&m->c);
    free(m->text);
    free(m);
}

static bool starts(const Instruction *i, const char *text)
{
    return !strncmp(i->text, text, strlen(text));
}

/* The instructions of a function; NULL: there is no such. */
static const Instruction *find_function(const Machine *m, const char *name, int *count)
{
    char title[100];
    snprintf(title, sizeof title, "<%s>:", name);
    for (int i = 0; i < m->count; i++) {
        if (strcmp(m->at[i].text, title))
            continue;
        int end = i + 1;
        while (end < m->count && m->at[end].text[0] != '<')
            end++;
        *count = end - i - 1;
        return &m->at[i + 1];
    }
    return NULL;
}

/* -- loops -- */

typedef struct Span { const Instruction *begin, *end; } Span;

/* From where a jump leads back to, to the jump; empty: it is none, or leads on. */
static Span loop_of(const Instruction *function, const Instruction *jump)
{
    Span loop = {jump, jump};
    const char *to = strpbrk(jump->text, " \t");
    long target = *jump->text == 'j' && to ? strtol(to, NULL, 16) : 0;
    while (target && loop.begin > function && loop.begin->address > target)
        loop.begin--;
    return loop;
}

/* Products that a pass of a loop adds to its sums: fused or, before AVX2, apart. */
static int products(Span loop)
{
    int count = 0;
    for (const Instruction *i = loop.begin; i < loop.end; i++)
        count += starts(i, "vfmadd") || starts(i, "mulps");
    return count;
}

/* The shortest loop that fills all sums of a member. */
static Span innermost(const Instruction *function, int count, int sums)
{
    Span shortest = {NULL, NULL};
    for (int i = 0; i < count; i++) {
        Span loop = loop_of(function, &function[i]);
        bool shorter = !shortest.end || loop.end - loop.begin < shortest.end - shortest.begin;
        if (shorter && products(loop) >= sums)
            shortest = loop;
    }
    return shortest;
}

static bool touches_stack(const Instruction *i, bool framed)
{
    bool vector = strstr(i->text, "%xmm") || strstr(i->text, "%ymm") || strstr(i->text, "%zmm");
    return vector && (strstr(i->text, "(%rsp") || (framed && strstr(i->text, "(%rbp")));
}

/* NULL, or the instruction by which the loop of a member moves a vector to or from the stack. */
static const char *spill(const Machine *m, const char *function, int tile, int vectors)
{
    int count;
    const Instruction *code = find_function(m, function, &count);
    ck_assert_msg(code != NULL, "no %s", function);
    if (count && starts(code, "jmp"))            /* the same code as another member's */
        return NULL;
    bool framed = false;                         /* %rbp is not one more pointer */
    for (int i = 0; i < count; i++)
        framed |= starts(&code[i], "mov ") && strstr(code[i].text, "%rsp,%rbp");
    Span loop = innermost(code, count, tile * vectors);
    ck_assert_msg(loop.end != NULL, "%s: no loop", function);
    for (const Instruction *i = loop.begin; i < loop.end; i++)
        if (touches_stack(i, framed))
            return i->text;
    return NULL;
}

/* -- the host's family -- */

/* Returns how many multiply-adds there are. */
static int check_family(const Target *target, const HostLeaf *leaf)
{
    int checked = 0, tile, vectors;
    char path[100];
    snprintf(path, sizeof path, "build/leaves/%s.o", target->name);
    Machine *m = disassemble(path);
    const char *prefix = c_identifier(&m->c, format(&m->c, "cnnc_%s", target->name));
    for (; leaf->name; leaf++) {
        if (sscanf(leaf->name, "cnnc_fma_%dx%d", &tile, &vectors) != 2)
            continue;
        const char *function = format(&m->c, "%s_%s", prefix, leaf->name + strlen("cnnc_"));
        const char *found = spill(m, function, tile, vectors);
        ck_assert_msg(!found, "%s: %s", function, found);
        checked++;
    }
    machine_close(m);
    return checked;
}

START_TEST(sums_stay_in_registers)
{
    int targets;
    const Target *target = target_list(&targets);
    for (int i = 0; i < targets; i++) {
        const HostLeaf *leaves = host_leaves(&target[i]);
        if (leaves)
            ck_assert_int_gt(check_family(&target[i], leaves), 40);
    }
}
END_TEST

/* A multiply-add compiled as those of the host are; the object's path, without ".o". */
static const char *compile_member(Context *c, const char *folder, const Target *target, const Leaf *leaf)
{
    Text t = {.c = c};
    const char *path = format(c, "%s/%s", folder, target->name);
    text_add(&t, "#include <math.h>\n");
    print_leaf_types(&t, "large", target, &(Leaves){.hosted = true});
    print_leaf_body(&t, "large", leaf, false);
    text_write(format(c, "%s.c", path), t.data);
    Run r = run("${CC:-cc} -std=gnu11 -O2 %s -c -o %s.o %s.c", target->cflags, path, path);
    ck_assert_msg(r.status == 0, "%s", r.err);
    run_free(&r);
    return path;
}

/* The check itself: as many sums as registers leave none for what is added to them. */
START_TEST(too_large_a_member_is_seen)
{
    Context c;
    int targets;
    const char *folder = scratch_folder("leaves");
    const Target *target = target_list(&targets);
    context_init(&c);
    for (int i = 0; i < targets; i++) {
        if (!host_leaves(&target[i]))
            continue;
        int tile = target[i].registers / 2;
        Leaf leaf = {.kind = LEAF_FMA, .lanes = target[i].lanes, .tile = tile, .vectors = 2, .stride = 1};
        const char *path = compile_member(&c, folder, &target[i], &leaf);
        Machine *m = disassemble(format(&c, "%s.o", path));
        const char *name = format(&c, "large_%s", print_leaf_member(&c, &leaf));
        ck_assert_msg(spill(m, name, tile, 2) != NULL, "%s: nothing was seen", target[i].name);
        machine_close(m);
    }
    context_free(&c);
}
END_TEST

/* A network may end with a convolution: its result is the caller's, channels apart. */
START_TEST(last_convolutions_have_leaves)
{
    static const char *const text[] = {
        "return input { 3, 12, 14 }:conv2d { 32, kernel = 3, pad = 1 }:conv2d { 24, kernel = 3, pad = 1 }",
        "return input { 3, 12, 14 }:conv2d { 16, kernel = 3, pad = 1 }:conv2d { 21, kernel = 1 }",
    };
    Context c;
    int targets;
    const Target *target = target_list(&targets);
    context_init(&c);
    for (int i = 0; i < targets; i++) {
        if (target[i].lanes < 2)
            continue;
        Options options = {.batch = 1, .target = &target[i], .winograd = WINOGRAD_OFF, .threads = 1};
        Graph *net = frontend_load_text(&c, text[_i], strlen(text[_i]), "last.lua", 1);
        const Program *p = compile(net, &options, NULL);
        const Kernel *last = p->forward->kernel[p->forward->kernels - 1];
        ck_assert_int_eq(last->storage[0]->place, PLACE_OUTPUT);
        ck_assert_msg(last->nest[0]->tile > 0, "%s: %s", target[i].name, last->nest[0]->schedule);
    }
    context_free(&c);
}
END_TEST

Suite *leaves_suite(void)
{
    Suite *s = suite_create("leaves");
    TCase *t = tcase_create("leaves");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, sums_stay_in_registers);
    tcase_add_test(t, too_large_a_member_is_seen);
    tcase_add_loop_test(t, last_convolutions_have_leaves, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
