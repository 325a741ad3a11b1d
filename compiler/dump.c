/* Graphs and plans as text: what --emit prints and what tests compare. */
#include "cnnc.h"

#include <inttypes.h>
#include <string.h>

const char *dump_operation(Context *c, const Node *n)
{
    Text t = {.c = c};
    text_add(&t, "%s", n->op->name);
    if (n->param)
        text_add(&t, " %s", n->param->name);
    else if (n->input)
        text_add(&t, " %s", n->input->name);
    else if (n->op->traits & OP_LEAF)
        text_add(&t, " %.9g", n->value);
    else if (n->op->print_attrs)
        n->op->print_attrs(n, &t);
    return t.data;
}

static const char *type_text(Context *c, const Node *n)
{
    return format(c, "%s%s", shape_text(c, &n->shape, false), n->dtype == I32 ? " int" : "");
}

static void dump_node(Context *c, const Node *n, FILE *out)
{
    Text t = {.c = c};
    text_add(&t, "%%%d = %s", n->id, dump_operation(c, n));
    for (int i = 0; i < n->ins; i++)
        text_add(&t, "%s%%%d", i ? ", " : " of ", n->in[i]->id);
    fprintf(out, "  %-52s  %-16s", t.data, type_text(c, n));
    if (n->inlined)
        fprintf(out, "  inlined");
    if (n->root)
        fprintf(out, "  in %%%d", n->root->id);
    if (n->layer)
        fprintf(out, "  ; %s, %s", n->layer->name, n->layer->where);
    fputc('\n', out);
}

static const char *root_text(Context *c, const Root *root)
{
    switch (root->kind) {
    case ROOT_OUTPUT:     return format(c, "output %s", root->name);
    case ROOT_LOSS:       return "loss";
    case ROOT_PARAM_GRAD: return format(c, "gradient of %s", root->param->name);
    case ROOT_INPUT_GRAD: return format(c, "gradient of %s", root->input->name);
    case ROOT_UPDATE:     return format(c, "update of %s", root->param->name);
    case ROOT_DERIVED:    return format(c, "derived %s", root->name);
    }
    return "root";
}

void dump_ir(const Graph *g, const char *pass, FILE *out)
{
    fprintf(out, "graph %s after %s, batch %d\n", g->name, pass, g->batch);
    for (int i = 0; i < g->nodes; i++)
        dump_node(g->c, g->node[i], out);
    for (int r = 0; r < g->roots; r++)
        fprintf(out, "  %s = %%%d\n", root_text(g->c, &g->root[r]), g->root[r].node->id);
    fputc('\n', out);
}

/* A string of DOT: quotes and backslashes of names escaped. */
static void dot_text(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
}

void dump_dot(const Graph *g, FILE *out)
{
    const bool *live = graph_live(g);
    fprintf(out, "digraph {\n  label=\"");
    dot_text(g->name, out);
    fprintf(out, "\";\n  node [shape=box];\n");
    for (int i = 0; i < g->nodes; i++) {
        const Node *n = g->node[i];
        if (!live[i])
            continue;
        fprintf(out, "  n%d [label=\"", i);
        dot_text(dump_operation(g->c, n), out);
        fprintf(out, "\\n%s\"%s];\n", type_text(g->c, n), n->op->traits & OP_LEAF ? ", style=rounded" : "");
        for (int k = 0; k < n->ins; k++)
            fprintf(out, "  n%d -> n%d;\n", n->in[k]->id, i);
    }
    for (int r = 0; r < g->roots; r++) {
        fprintf(out, "  r%d [shape=plaintext, label=\"", r);
        dot_text(root_text(g->c, &g->root[r]), out);
        fprintf(out, "\"];\n  n%d -> r%d;\n", g->root[r].node->id, r);
    }
    fprintf(out, "}\n");
}

const Node *kernel_start(const Kernel *k)
{
    const Node *n = k->start ? k->start : k->node;
    return n->root ? n->root : n;
}

const char *kernel_layers(Context *c, const Kernel *k)
{
    const Layer *first = kernel_start(k)->layer, *last = k->node->layer;
    if (first && last && first != last)
        return format(c, "%s + %s", first->name, last->name);
    return first ? first->name : last ? last->name : "";
}

const char *kernel_operations(Context *c, const Kernel *k)
{
    const Node *first = kernel_start(k), *last = k->node;
    return first == last ? last->op->name : format(c, "%s + %s", first->op->name, last->op->name);
}

/* A workspace buffer: where it lies, and from which kernel to which it is alive. */
static void dump_storage(Context *c, const Storage *s, FILE *out)
{
    int64_t bytes = s->layout.elements * 4;
    const char *shape = shape_text(c, &s->shape, false);
    fprintf(out, "  %-28s %-16s %10" PRId64 " bytes", s->name, shape, bytes);
    if (s->shares)
        fprintf(out, "  in the memory of %s", s->shares->name);
    else
        fprintf(out, "  at %10" PRId64, s->offset);
    fprintf(out, "  kernels %d to %d\n", s->birth, s->death);
}

void dump_plan(const Function *f, FILE *out)
{
    fprintf(out, "function %s: %d kernels, workspace %" PRId64 " bytes\n", f->name, f->kernels, f->workspace);
    for (int k = 0; k < f->kernels; k++) {
        const Kernel *kernel = f->kernel[k];
        fprintf(out, "  %3d  %s", k, kernel->name);
        for (int n = 0; n < kernel->nests; n++)
            if (kernel->nest[n]->schedule)
                fprintf(out, "%s%s", n ? " | " : "  ; ", kernel->nest[n]->schedule);
        fputc('\n', out);
    }
    fprintf(out, "buffers\n");
    for (int i = 0; i < f->storages; i++)
        if (f->storage[i]->place == PLACE_WORKSPACE)
            dump_storage(f->c, f->storage[i], out);
    fputc('\n', out);
}
