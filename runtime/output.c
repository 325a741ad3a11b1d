/* `cnnc NETWORK -o FILE`: a network becomes C text, an object or a library. */
#define _GNU_SOURCE
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

typedef struct Output {
    Context *c;
    const CommandOptions *options;
    const char *path;         /* of the result, NULL: none wanted */
    const char *kind;         /* "c", "h", "o", "a", "so" */
    const char *header;       /* path of the header; NULL: none is written */
    const char *weights;      /* path of the weights; NULL: none are written */
    Files files;
    const char *trade;        /* what optimising for memory has changed, or NULL */
    char *emitted;            /* text of --emit */
    size_t emitted_length;
    FILE *emit;
} Output;

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void choose_kind(Output *out)
{
    static const char *const kinds[] = {"c", "h", "o", "a", "so"};
    const char *dot = strrchr(base_name(out->path), '.');
    for (size_t i = 0; dot && i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(dot + 1, kinds[i]))
            out->kind = kinds[i];
    if (!out->kind)
        fail(out->c, STATUS_USAGE, "-o %s: expected a name that ends in .c, .h, .o, .a or .so", out->path);
    out->header = format(out->c, "%.*s.h", (int)(dot - out->path), out->path);
    out->files.header_name = base_name(out->header);
    out->weights = format(out->c, "%.*s.weights", (int)(dot - out->path), out->path);
    out->files.weights_name = base_name(out->weights);
}

static void choose_output(Output *out)
{
    const CommandOptions *o = out->options;
    Context *c = out->c;
    if (o->n_outputs > 1)
        fail(c, STATUS_USAGE, "-o: given %d times, expected once", o->n_outputs);
    if (o->n_outputs == 0 && !o->compile.emit)
        fail(c, STATUS_USAGE, "nothing to make: expected -o net.c (.h, .o, .a, .so) or --emit");
    if (o->compile.input_grad && !o->train)
        fail(c, STATUS_USAGE, "--input-grad: gradients need --train");
    if (o->n_outputs == 0)
        return;
    out->path = o->outputs[0];
    if (strcmp(out->path, "-"))
        choose_kind(out);
    else if (o->compile.emit)
        fail(c, STATUS_USAGE, "-o - and --emit: both would go to standard output");
    else
        out->kind = "c";
}

void take_weights(Graph *net, const char *path)
{
    float *flat = NEW_ARRAY(net->c, float, params_count(net));
    safetensors_load(net, path, flat);
    for (int i = 0; i < net->params; i++) {
        net->param[i]->init = INIT_LITERAL;
        net->param[i]->literal = flat + net->param[i]->offset;
    }
}

static void make_text(Output *out)
{
    const CommandOptions *o = out->options;
    Graph *net = network_load(out->c, o->network, o->compile.batch);
    if (o->weights)
        take_weights(net, o->weights);
    Program *p = compile(net, &o->compile, out->emit);
    if (o->compile.store != STORE_F32 && !p->weights)
        fail(out->c, STATUS_USAGE, "--store: how constant parameters are kept: expected --weights");
    if (!out->path)
        return;
    if (o->compile.optimize == OPTIMIZE_MEMORY)
        out->trade = format(out->c,
                            "forward: %lld bytes of workspace instead of %lld, 0 MACs computed again\n",
                            (long long)p->forward->workspace, (long long)p->plain_workspace);
    if (!out->files.header_name)
        out->files.header_name = format(out->c, "%s.h", p->prefix);
    out->files.source = print_source(p, out->files.header_name, PRINT_FILE);
    out->files.header = print_header(p);
    out->files.weights = print_weights_file(p, &out->files.weights_bytes);
    if (out->files.weights && !out->weights)
        fail(out->c, STATUS_INPUT, "-o -: %zu bytes of weights need a file of their own: -o net.c",
             out->files.weights_bytes);
    /* What the assembler draws in becomes part of an object; where it cannot, the file stays
     * beside it for pack. */
    bool drawn_in = strcmp(out->kind, "c") && o->compile.target->incbin;
    if (!out->files.weights || drawn_in || !strcmp(out->kind, "h"))
        out->weights = NULL;
}

static void write_files(void *argument)
{
    Output *out = argument;
    Context *c = out->c;
    const Files *f = &out->files;
    if (out->header)
        file_write(c, out->header, f->header, strlen(f->header));
    if (out->weights)
        file_write(c, out->weights, f->weights, f->weights_bytes);
    if (!strcmp(out->kind, "c"))
        file_write(c, out->path, f->source, strlen(f->source));
    else if (strcmp(out->kind, "h"))
        cc_build(c, f, &out->options->compile, out->kind, out->path);
}

static void check_emitted(Output *out)
{
    const Options *o = &out->options->compile;
    if (!out->emit)
        return;
    fflush(out->emit);
    if (!out->emitted_length)
        fail(out->c, STATUS_USAGE, "--emit ir:%s: this network does not go through such a pass: expected "
             "select, mode, autodiff (with --train), expand, fold, hoist (without --train) or fuse",
             o->emit_after);
}

static void check_code(Output *out)
{
    const CommandOptions *o = out->options;
    const char *largest;
    if (!o->max_code || !out->path)
        return;
    int64_t bytes = cc_code_bytes(out->c, &out->files, &o->compile, &largest);
    if (bytes > o->max_code)
        fail(out->c, STATUS_INPUT, "%s: the code takes %lld bytes, --max-code allows %lld; the largest"
             " functions are %s", o->network, (long long)bytes, (long long)o->max_code, largest);
}

static void make_output(void *argument)
{
    Output *out = argument;
    make_text(out);
    check_emitted(out);
    check_code(out);
    const char *const path[] = {out->header, out->weights, out->path};
    if (out->path)
        write_together(out->c, 3, path, write_files, out);
    if (out->trade)
        fprintf(stderr, "%s", out->trade);
    if (out->emit)
        fwrite(out->emitted, 1, out->emitted_length, stdout);
}

static void close_emit(void *argument)
{
    Output *out = argument;
    if (out->emit)
        fclose(out->emit);
    free(out->emitted);
}

int command_compile(Context *c, const CommandOptions *o)
{
    Output out = {.c = c, .options = o};
    choose_output(&out);
    if (o->compile.emit && !(out.emit = open_memstream(&out.emitted, &out.emitted_length)))
        fail(c, STATUS_INPUT, "out of memory");
    guard(c, make_output, close_emit, &out);
    return STATUS_OK;
}
