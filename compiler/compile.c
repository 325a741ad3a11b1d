/* The pass list: a network and options become the functions that the printer writes. */
#include "cnnc.h"

#include <string.h>

typedef struct Build { Program *p; const char *function; FILE *emit; Debug debug; } Build;

static bool emits(const Build *b, const char *what)
{
    const char *emit = b->p->options.emit;
    return b->emit && emit && !strcmp(emit, what);
}

static void begin(Build *b, const char *function)
{
    b->function = function;
    debug_begin(&b->debug, b->p->c, function);
}

/* After every graph pass: verify it in debug builds, show it when asked to. */
static Graph *after(Build *b, const char *pass, Graph *g)
{
#ifdef CNNC_CHECK
    graph_check(g, pass);
#endif
    debug_pass(&b->debug, pass, g);
    const char *wanted = b->p->options.emit_after ? b->p->options.emit_after : "fuse";
    if (emits(b, "ir") && !strcmp(wanted, pass))
        dump_ir(g, format(g->c, "%s, after %s", b->function, pass), b->emit);
    return g;
}

static Graph *select_roots(Graph *g, RootKind kind)
{
    Graph selected = *g;
    selected.root = NULL;
    selected.roots = 0;
    for (int i = 0; i < g->roots; i++)
        if (g->root[i].kind == kind)
            root_add(&selected, g->root[i]);
    return graph_rewrite(&selected, node_copy, NULL);
}

/* The second half of the way: a graph of primitive operations becomes loops in a
 * planned workspace. */
static Function *generate(Build *b, Graph *g, const Target *target, bool frozen)
{
    g = after(b, "fuse", fuse(g));
    if (emits(b, "dot") && !strcmp(b->function, "forward"))
        dump_dot(g, b->emit);
    Function *f = lower(g, b->function, target);
    f->packs = !strcmp(b->function, "pack");
    f->frozen = frozen;
    f->small = b->p->options.optimize == OPTIMIZE_SIZE;
    f->share_least = b->p->options.share_least;
    f->candidate = b->p->options.candidate;
    f->shapes = strcmp(b->function, "forward") ? NULL : b->p->options.shapes;
    stripes(f, b->p->options.optimize == OPTIMIZE_MEMORY);
    debug_step(&b->debug, "lower", f);
    layout(f);
    debug_step(&b->debug, "layout", f);
    schedule(f);
    debug_step(&b->debug, "schedule", f);
    plan(f);
    debug_step(&b->debug, "plan", f);
    if (emits(b, "plan"))
        dump_plan(f, b->emit);
    if (f->c->debug >= 3)
        dump_plan(f, stderr);
    return f;
}

/* Samples that lie side by side are vectors in every convolution: those stay as they are. */
static Graph *convolve(Build *b, Graph *g, const Target *target, bool frozen)
{
    const Options *o = &b->p->options;
    bool by_samples = !frozen && layout_by_samples(fuse(g), target);
    return after(b, "winograd", winograd(g, target, by_samples ? WINOGRAD_OFF : o->winograd, frozen));
}

/* With chains of kernels in stripes, where that takes less than without. */
static Function *generate_small(Build *b, Graph *g, const Target *target, bool frozen)
{
    Build usual = *b;
    usual.emit = NULL;
    b->p->options.optimize = OPTIMIZE_SPEED;
    Function *plain = generate(&usual, g, target, frozen);
    b->p->options.optimize = OPTIMIZE_MEMORY;
    Function *striped = generate(b, g, target, frozen);
    if (!strcmp(b->function, "forward"))
        b->p->plain_workspace = plain->workspace;
    return striped->workspace < plain->workspace ? striped : plain;
}

/* Inference on its own folds and hoists what depends on parameters alone; beside
 * training code the parameters change between calls and stay as they are. */
static Function *build_inference(Build *b, const char *function, RootKind root, bool frozen, Graph **pack)
{
    begin(b, function);
    Graph *g = after(b, "select", select_roots(b->p->net, root));
    g = after(b, "mode", mode(g, false));
    g = after(b, "expand", expand(g));
    g = after(b, "fold", fold(g, frozen));
    const Target *target = target_level(b->p->options.target);
    g = convolve(b, g, target, frozen);
    if (frozen)
        g = after(b, "hoist", hoist(g, pack));
    return b->p->options.optimize == OPTIMIZE_MEMORY ? generate_small(b, g, target, frozen)
                                                     : generate(b, g, target, frozen);
}

static Function *build_training(Build *b)
{
    begin(b, "backward");
    Graph *g = after(b, "mode", mode(b->p->net, true));      /* statistics of all branches, as PyTorch */
    g = after(b, "autodiff", autodiff(g, (Wanted){.params = true, .inputs = b->p->options.input_grad}));
    g = after(b, "expand", expand(g));
    g = after(b, "fold", fold(g, false));
    const Target *target = target_level(b->p->options.target);
    return generate(b, convolve(b, g, target, false), target, false);
}

/* A parameter that forward wants in another layout than the state_dict's becomes a
 * derived field: a copy, made by pack. */
static void derive_packed(Function *forward, Graph *pack)
{
    for (int i = 0; i < forward->storages; i++) {
        Storage *s = forward->storage[i];
        if (s->place != PLACE_PARAM || !layout_packed(&s->layout))
            continue;
        Param *p = (Param *)s->param;
        if (!p->derived) {
            Node *leaf = param_leaf(pack, p);
            p = NEW(forward->c, Param);
            *p = *s->param;
            p->derived = true;
            root_add(pack, (Root){.kind = ROOT_DERIVED, .node = leaf, .param = p});
            s->param = p;
        }
        p->layout = &s->layout;
        p->count = s->layout.elements;
    }
}

static Function *build_pack(Build *b, Graph *pack)
{
    begin(b, "pack");
    derive_packed(b->p->forward, pack);
    return pack->roots ? generate(b, pack, target_find("generic"), true) : NULL;
}

/* -- the struct -- */

static void add_field(Program *p, const Param *param)
{
    PUSH(p->c, p->field, p->fields) = (Field){param->c_name, param->count, param};
    p->params_bytes += (int64_t)sizeof(float) * param->count;
}

/* With training: the state_dict.  For inference: what forward reads. */
static void choose_fields(Program *p)
{
    const Graph *g = p->options.train ? p->net : p->forward->graph;
    for (int i = 0; p->options.train && i < g->params; i++)
        add_field(p, g->param[i]);
    bool *live = graph_live(g);
    for (int i = 0; !p->options.train && i < g->nodes; i++)
        if (live[i] && g->node[i]->param)
            add_field(p, g->node[i]->storage->param);
}

/* Element by element to where the field's layout has it. */
static void lay_out(float *to, const Param *param, const float *from)
{
    int index[MAX_RANK] = {0}, elements = shape_count(&param->shape);
    for (int k = 0; k < elements; k++) {
        to[param->layout ? layout_offset(param->layout, index) : k] = from[k];
        for (int d = param->shape.rank - 1; d >= 0 && ++index[d] == param->shape.dim[d]; d--)
            index[d] = 0;
    }
}

typedef struct Derivation { const Graph *pack; Root *root; float *to; } Derivation;

static double *literal_values(Context *c, const Param *p)
{
    double *values = NEW_ARRAY(c, double, p->count);
    for (int k = 0; k < p->count; k++)
        values[k] = (double)p->literal[k];
    return values;
}

/* One field's part of the pack graph.  Its memory goes at once: on their way to 4 bytes
 * weights take ten times that, and there may be hundreds of megabytes of them. */
static void derive_field(Context *work, void *argument)
{
    Derivation *d = argument;
    Graph part = *d->pack;
    part.c = work;
    part.root = d->root;
    part.roots = 1;
    const bool *live = graph_live(&part);
    double **values = NEW_ARRAY(work, double *, part.params + 1);
    for (int i = 0; i < part.nodes; i++)
        if (live[i] && part.node[i]->param)
            values[part.node[i]->param->index] = literal_values(work, part.node[i]->param);
    const Tensor *exact = eval(&part, &(Bindings){.param = values});
    int count = shape_count(&exact->shape);
    float *rounded = NEW_ARRAY(work, float, count);
    for (int k = 0; k < count; k++)
        rounded[k] = (float)exact->data[k];
    lay_out(d->to, d->root->param, rounded);
}

static void write_derived(const Graph *pack, const Param *param, float *to)
{
    Root *root = pack->root;
    while (root->param != param)
        root++;
    if (root->node->param)                       /* nothing but another layout */
        lay_out(to, param, root->node->param->literal);
    else
        scratch(pack->c, derive_field, &(Derivation){pack, root, to});
}

/* The struct's contents when the network file or --weights gives every value. */
static const float *literal_weights(const Program *p, const Graph *pack)
{
    const Graph *net = p->net;
    for (int i = 0; i < net->params; i++)
        if (net->param[i]->init != INIT_LITERAL)
            return NULL;
    float *weights = NEW_ARRAY(p->c, float, p->params_bytes / 4 + 1), *to = weights;
    for (int i = 0; i < p->fields; i++) {
        const Param *param = p->field[i].param;
        if (param->derived)
            write_derived(pack, param, to);
        else
            memcpy(to, param->literal, sizeof(float) * (size_t)param->count);     /* bit by bit */
        to += param->count;
    }
    return net->params ? weights : NULL;
}

static bool seeded(const Function *f)
{
    for (int k = 0; k < f->kernels; k++)
        if (kernel_seeded(f->kernel[k]))
            return true;
    return false;
}

static bool has_loss(const Graph *net)
{
    for (int i = 0; i < net->roots; i++)
        if (net->root[i].kind == ROOT_LOSS)
            return true;
    return false;
}

Program *compile(Graph *net, const Options *options, FILE *emit)
{
    Program *p = NEW(net->c, Program);
    Build b = {.p = p, .emit = emit};
    Graph *pack = NULL;
    p->c = net->c;
    p->net = net;
    p->options = *options;
    p->prefix = c_identifier(net->c, options->prefix ? options->prefix : net->name);
    if (options->optimize != OPTIMIZE_SPEED && target_level(options->target)->lanes > 1)
        fail(net->c, STATUS_INPUT, "--optimize size or memory: needs a scalar target (generic), found %s",
             options->target->name);
    if (options->train && !has_loss(net))
        fail(net->c, STATUS_INPUT, "%s: training needs a loss: model { ..., loss = logits:cross_entropy() }",
             net->file);
    p->forward = build_inference(&b, "forward", ROOT_OUTPUT, !options->train, &pack);
    p->pack = options->train ? NULL : build_pack(&b, pack);
    if (options->train) {
        p->loss = build_inference(&b, "loss", ROOT_LOSS, false, NULL);
        p->backward = build_training(&b);
        p->seeded = seeded(p->backward);
    }
    p->output = p->forward->graph->root;
    p->outputs = p->forward->graph->roots;
    choose_fields(p);
    p->identity = program_identity(p, pack);
    memory_check(p);
    p->weights = literal_weights(p, pack);
    if (options->self_test && options->store != STORE_F32)
        fail(p->c, STATUS_USAGE, "--self-test: its results are those of unrounded parameters, "
                                 "found --store %s", store_name(options->store));
    if (options->self_test)
        self_test(p);
    return p;
}
