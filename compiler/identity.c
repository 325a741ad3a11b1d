/* What parameters belong to: a hash of the network and of how the struct holds its values.
 * Programs with the same one can exchange the bytes of their parameters. */
#include "cnnc.h"

#include <string.h>

/* FNV-1a (Fowler, Noll, Vo), 64 bits. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001B3u;
    return hash;
}

/* What the roots of one kind reach, whatever the batch. */
static void describe_graph(Text *t, const Graph *g, RootKind kind)
{
    Graph part = *g;
    part.root = NEW_ARRAY(g->c, Root, g->roots + 1);
    part.roots = 0;
    for (int i = 0; i < g->roots; i++)
        if (g->root[i].kind == kind)
            part.root[part.roots++] = g->root[i];
    const bool *live = graph_live(&part);
    int *number = NEW_ARRAY(g->c, int, g->nodes + 1), count = 0;
    for (int i = 0; i < g->nodes; i++) {
        const Node *n = g->node[i];
        if (!live[i])
            continue;
        number[i] = count++;
        text_add(t, "%s %s", dump_operation(g->c, n), shape_text(g->c, &n->shape, n->batched));
        for (int k = 0; k < n->ins; k++)
            text_add(t, " %d", number[n->in[k]->id]);
        text_add(t, "\n");
    }
}

static void describe_field(Text *t, const Field *field)
{
    const Layout *layout = field->param->layout;
    text_add(t, "%s %d", field->name, field->count);
    for (int i = 0; layout && i < layout->pieces; i++)
        text_add(t, " %d/%d%%%d*%d", layout->piece[i].dim, layout->piece[i].div, layout->piece[i].mod,
                 layout->piece[i].stride);
    text_add(t, "\n");
}

uint64_t program_identity(const Program *p, const Graph *pack)
{
    Text t = {.c = p->c};
    describe_graph(&t, p->net, ROOT_OUTPUT);
    for (int i = 0; i < p->fields; i++)
        describe_field(&t, &p->field[i]);
    if (pack)
        describe_graph(&t, pack, ROOT_DERIVED);
    return hash_text(0xCBF29CE484222325u, t.length ? t.data : "");
}
