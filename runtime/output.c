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
    const char *source_text, *header_text;
    const char *header_name;  /* as the source includes it */
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
    out->header_name = base_name(out->header);
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

/* From here on the file's values are the parameters' initial ones, as literal
 * weights of the network file would be. */
static void take_weights(Graph *net, const char *path)
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
    Graph *net = frontend_load(out->c, o->network, o->compile.batch);
    if (o->weights)
        take_weights(net, o->weights);
    Program *p = compile(net, &o->compile, out->emit);
    if (!out->path)
        return;
    if (!out->header_name)
        out->header_name = format(out->c, "%s.h", p->prefix);
    out->source_text = print_source(p, out->header_name, false);
    out->header_text = print_header(p);
}

static void write_files(void *argument)
{
    Output *out = argument;
    Context *c = out->c;
    if (out->header)
        file_write(c, out->header, out->header_text, strlen(out->header_text));
    if (!strcmp(out->kind, "c"))
        file_write(c, out->path, out->source_text, strlen(out->source_text));
    else if (strcmp(out->kind, "h"))
        cc_build(c, out->source_text, out->header_text, out->header_name, out->options->compile.target,
                 out->kind, out->path);
}

static void make_output(void *argument)
{
    Output *out = argument;
    make_text(out);
    if (out->header)
        write_together(out->c, strcmp(out->kind, "h") ? 2 : 1, (const char *const[]){out->header, out->path},
                       write_files, out);
    else if (out->path)
        write_files(out);
    if (out->emit && fflush(out->emit) == 0)
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
