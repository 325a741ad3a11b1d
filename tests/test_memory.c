/* Memory.  The plan of a workspace against its bound, by means that share nothing with the
 * plan: who is alive when is read off the kernels' arguments, how large a tensor is off its
 * shape.  And what the compiler itself takes. */
#include "tests.h"
#include "networks.h"

#include <stdlib.h>
#include <string.h>

enum { RANDOM = 150, ALIGNMENT = 64 };

/* What gaps between rows, padding lanes and alignment may add to the bound. */
static const double allowance = 1.15;

/* -- lives -- */

/* The first and the last kernel that touches a tensor; last < 0: none does. */
typedef struct Life { int first, last; } Life;

static Life life_of(const Function *f, const Storage *s)
{
    Life life = {0, -1};
    for (int k = 0; k < f->kernels; k++)
        for (int i = 0; i < f->kernel[k]->storages; i++)
            if (f->kernel[k]->storage[i] == s)
                life = (Life){life.last < 0 ? k : life.first, k};
    for (int r = 0; r < f->graph->roots; r++)        /* read as the function returns */
        if (f->graph->root[r].kind == ROOT_LOSS && f->graph->root[r].node->storage == s)
            life.last = f->kernels;
    return life;
}

typedef struct Tenant { const Storage *storage; Life life; int64_t end; } Tenant;

static Tenant *tenants_of(const Function *f, int *count)
{
    Tenant *tenant = NEW_ARRAY(f->c, Tenant, f->storages + 1);
    *count = 0;
    for (int i = 0; i < f->storages; i++) {
        const Storage *s = f->storage[i];
        Life life = life_of(f, s);
        if (s->place == PLACE_WORKSPACE && life.last >= 0)
            tenant[(*count)++] = (Tenant){s, life, s->offset + 4 * (int64_t)s->layout.elements};
    }
    return tenant;
}

/* b is made where a is read for the last time, element by element in a's place. */
static bool in_place(const Tenant *a, const Tenant *b)
{
    return b->storage->shares && a->life.last == b->life.first && a->storage->offset == b->storage->offset;
}

/* -- size -- */

/* Whether a tensor counts while kernel k runs: what takes another's place adds nothing to it. */
static bool counts(const Tenant *tenant, int tenants, const Tenant *t, int k)
{
    bool counted = t->life.first <= k && k <= t->life.last;
    for (int i = 0; i < tenants && counted && k == t->life.last; i++)
        counted = !in_place(t, &tenant[i]);
    return counted;
}

/* The largest sum of the elements that are alive while a kernel runs, its result's
 * among them, in bytes. */
static int64_t bound_of(const Function *f)
{
    int count;
    const Tenant *tenant = tenants_of(f, &count);
    int64_t largest = 0;
    for (int k = 0; k <= f->kernels; k++) {
        int64_t sum = 0;
        for (int i = 0; i < count; i++)
            if (counts(tenant, count, &tenant[i], k))
                sum += 4 * (int64_t)shape_count(&tenant[i].storage->shape);
        largest = sum > largest ? sum : largest;
    }
    return largest;
}

/* -- room -- */

/* Whether b, made while a is needed, overwrites a byte of it. */
static bool overwrites(const Tenant *b, const Tenant *a)
{
    bool needed = a->life.first <= b->life.first && b->life.first <= a->life.last;
    bool meets = a->storage->offset < b->end && b->storage->offset < a->end;
    return a != b && needed && meets && !in_place(a, b);
}

/* NULL, or what is wrong with where the tensors of a function lie. */
static const char *misplaced(const Function *f)
{
    int count;
    const Tenant *tenant = tenants_of(f, &count);
    for (int i = 0; i < count; i++) {
        const Storage *s = tenant[i].storage;
        if (s->offset % ALIGNMENT || tenant[i].end > f->workspace)
            return format(f->c, "%s: %s is unaligned or ends outside", f->name, s->name);
        for (int k = 0; k < count; k++)
            if (overwrites(&tenant[k], &tenant[i]))
                return format(f->c, "%s: %s overwrites %s", f->name, tenant[k].storage->name, s->name);
    }
    return NULL;
}

typedef struct Plan { Context c; const char *text; Options options; Program *program; } Plan;

static void compile_text(void *argument)
{
    Plan *p = argument;
    Graph *net = frontend_load_text(&p->c, p->text, strlen(p->text), "net.lua", p->options.batch);
    p->program = compile(net, &p->options, NULL);
}

static Plan *plan_open(const char *text, Options options, Fault fault)
{
    Plan *p = calloc(1, sizeof *p);
    context_init(&p->c);
    p->c.fault = fault;
    p->text = text;
    p->options = options;
    ck_assert_msg(attempt(&p->c, compile_text, p), "%s\n%s", p->c.message, text);
    return p;
}

static void plan_close(Plan *p)
{
    context_free(&p->c);
    free(p);
}

static const char *misplaced_in(const Program *p)
{
    const Function *const function[] = {p->forward, p->pack, p->loss, p->backward};
    const char *message = NULL;
    for (int i = 0; i < 4 && !message; i++)
        message = function[i] ? misplaced(function[i]) : NULL;
    return message;
}

/* -- reference networks -- */

static const char *const networks[] = {
    "lenet5", "cifar_cnn", "resnet8", "squeezenet1_1", "mobilenet_v2", "resnet18", "resnet50", "vgg16"
};
enum { NETWORKS = sizeof networks / sizeof *networks, TRAINED = 3 };     /* the first three */

static char *network_text(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "graphs/%s.lua", name);
    char *text = text_read(path);
    ck_assert_ptr_nonnull(text);
    return text;
}

static void check_size(const char *network, const Function *f)
{
    double bound = (double)bound_of(f);
    ck_assert_msg(f->workspace > 0 && (double)f->workspace <= allowance * bound,
                  "%s, %s, %s: a workspace of %lld bytes, where %.0f are alive at once", network,
                  f->target->name, f->name, (long long)f->workspace, bound);
}

START_TEST(workspace_is_near_its_bound)
{
    static const char *const target[] = {"x86-64-v4", "x86-64-v3", "generic"};
    char *text = network_text(networks[_i]);
    for (int i = 0; i < 3; i++) {
        Plan *p = plan_open(text, (Options){.batch = 1, .target = target_find(target[i])}, FAULT_NONE);
        check_size(networks[_i], p->program->forward);
        plan_close(p);
    }
    if (_i < TRAINED) {
        Options options = {.batch = 1, .train = true, .target = target_find("generic")};
        Plan *p = plan_open(text, options, FAULT_NONE);
        check_size(networks[_i], p->program->forward);
        check_size(networks[_i], p->program->loss);
        check_size(networks[_i], p->program->backward);
        plan_close(p);
    }
    free(text);
}
END_TEST

static void check_room(const char *text, Options options)
{
    Plan *p = plan_open(text, options, FAULT_NONE);
    const char *message = misplaced_in(p->program);
    ck_assert_msg(!message, "%s: %s\n%s", options.target->name, message, text);
    plan_close(p);
}

/* For inference on every target, and for training, whose code is the same for all. */
static void check_rooms(const char *text, int batch)
{
    int targets;
    const Target *target = target_list(&targets);
    for (int i = 0; i < targets; i++)
        check_room(text, (Options){.batch = batch, .target = &target[i]});
    check_room(text, (Options){.batch = batch, .train = true, .input_grad = true, .target = target});
}

START_TEST(no_tensor_overwrites_another)
{
    char *text = network_text(networks[_i]);
    check_rooms(text, 2);
    free(text);
}
END_TEST

START_TEST(no_tensor_overwrites_another_at_random)
{
    Context c;
    Network *network;
    context_init(&c);
    int count = all_networks(&c, RANDOM, &network);
    for (int i = 0; i < count; i++)
        check_rooms(network[i].text, network[i].batch);
    context_free(&c);
}
END_TEST

/* The check itself: it sees a plan that gives memory away before the last reader is done. */
START_TEST(early_reuse_is_seen)
{
    char *text = network_text("lenet5");
    Options options = {.batch = 1, .target = target_find("generic")};
    Plan *p = plan_open(text, options, FAULT_REUSED_TOO_EARLY);
    const char *message = misplaced_in(p->program);
    ck_assert_msg(message && strstr(message, "overwrites"), "nothing was seen");
    plan_close(p);
    free(text);
}
END_TEST

/* -- the compiler's own memory -- */

static const char save[] =
    "local m = load_model(\"graphs/resnet50.lua\"):compile { batch = 1 }\n"
    "m:init(1)\n"
    "m:save(arg[1])\n";

/* ResNet-50's 100 MB of weights are folded and packed within 1 GiB of address space. */
START_TEST(compiling_takes_less_than_a_gibibyte)
{
    static const char *const target[] = {"native", "generic"};
    const char *folder = scratch_folder("memory");
    char path[300];
    snprintf(path, sizeof path, "%s/save.lua", folder);
    text_write(path, save);
    Run r = run("build/cnnc run %s %s/w.safetensors", path, folder);
    ck_assert_msg(r.status == 0, "%s", r.err);
    run_free(&r);
    for (int i = 0; i < 2; i++) {
        r = run("ulimit -v %d; build/cnnc graphs/resnet50.lua --target %s --weights %s/w.safetensors "
                "-o %s/net.c", 1 << 20, target[i], folder, folder);
        ck_assert_msg(r.status == 0, "%s: %s", target[i], r.err);
        run_free(&r);
    }
    r = run("find %s -name net.weights -size +97M; rm -r %s", folder, folder);
    ck_assert_msg(strstr(r.out, "net.weights"), "no weights were written");
    run_free(&r);
}
END_TEST

Suite *memory_suite(void)
{
    Suite *s = suite_create("memory");
    TCase *plans = tcase_create("plans"), *compiler = tcase_create("compiler");
    tcase_set_timeout(compiler, 120);
    tcase_add_test(compiler, compiling_takes_less_than_a_gibibyte);
    suite_add_tcase(s, compiler);
    tcase_set_timeout(plans, 120);
    tcase_add_loop_test(plans, workspace_is_near_its_bound, 0, NETWORKS);
    tcase_add_loop_test(plans, no_tensor_overwrites_another, 0, NETWORKS);
    tcase_add_test(plans, no_tensor_overwrites_another_at_random);
    tcase_add_test(plans, early_reuse_is_seen);
    suite_add_tcase(s, plans);
    return s;
}
