/* A storage for every tensor of a function that has memory: whose it is and what it
 * is called in C.  How its elements lie is layout's to say. */
#include "../cnnc.h"

#include <string.h>

static bool name_taken(const Function *f, const char *name)
{
    if (!strcmp(name, "base") || !strcmp(name, "team"))      /* of the driver's own */
        return true;
    for (int i = 0; i < f->storages; i++)
        if (strcmp(f->storage[i]->name, name) == 0)
            return true;
    return false;
}

/* "conv1" for what layer conv1 gives, "conv1_input_grad" for what it takes on the way. */
const char *storage_name(Function *f, const Node *n)
{
    Context *c = f->c;
    if (!n->layer)
        return n->op->name;
    const char *layer = c_identifier(c, n->layer->name), *op = n->op->name;
    if (!name_taken(f, layer) && shape_equal(&n->shape, &n->layer->output->shape))
        return layer;
    const char *rest = strchr(op, '_');
    if (rest && strncmp(layer, op, (size_t)(rest - op)) == 0)
        op = rest + 1;
    return format(c, "%s_%s", layer, op);
}

Storage *storage_new(Function *f, Place place, const char *name, const Node *n)
{
    Storage *s = NEW(f->c, Storage);
    const char *base = name;
    for (int serial = 2; name_taken(f, name); serial++)
        name = format(f->c, "%s_%d", base, serial);
    s->place = place;
    s->name = name;
    s->shape = n->shape;
    s->dtype = n->dtype;
    s->batched = n->batched;
    s->plain = place != PLACE_WORKSPACE;
    s->band = n->op->band ? n->op->band(n, &s->band_dim) : 0;
    if (n->rows) {
        s->band = n->rows;
        s->band_dim = 2;
    }
    PUSH(f->c, f->storage, f->storages) = s;
    return s;
}

static Storage *root_storage(Function *f, const Root *r)
{
    Storage *s;
    switch (r->kind) {
    case ROOT_OUTPUT:
        s = storage_new(f, PLACE_OUTPUT, r->name, r->node);
        s->output = r;
        return s;
    case ROOT_PARAM_GRAD:
        s = storage_new(f, PLACE_GRAD, format(f->c, "%s_grad", r->param->c_name), r->node);
        s->param = r->param;
        return s;
    case ROOT_INPUT_GRAD:
        s = storage_new(f, PLACE_INPUT_GRAD, format(f->c, "%s_grad", r->input->c_name), r->node);
        s->input = r->input;
        return s;
    case ROOT_UPDATE:                            /* the parameter itself, which the node also reads */
        return NULL;
    case ROOT_DERIVED:
        s = storage_new(f, PLACE_PARAM, r->param->c_name, r->node);
        s->param = r->param;
        if (r->param->layout)
            s->layout = *r->param->layout;
        return s;
    case ROOT_LOSS:
        break;
    }
    return storage_new(f, PLACE_WORKSPACE, "loss", r->node);
}

static Storage *leaf_storage(Function *f, const Node *n)
{
    if (!n->param && !n->input)
        return NULL;
    Storage *s = storage_new(f, n->param ? PLACE_PARAM : PLACE_INPUT,
                             n->param ? n->param->c_name : n->input->c_name, n);
    s->param = n->param;
    s->input = n->input;
    return s;
}

void storage_assign(Function *f)
{
    Graph *g = f->graph;
    bool *live = graph_live(g);
    for (int i = 0; i < g->nodes; i++)           /* the user's names first */
        if (live[i] && g->node[i]->op->traits & OP_LEAF)
            g->node[i]->storage = leaf_storage(f, g->node[i]);
    for (int i = 0; i < g->roots; i++)
        g->root[i].node->storage = root_storage(f, &g->root[i]);
    for (int i = 0; i < g->roots; i++)
        if (g->root[i].kind == ROOT_UPDATE)
            g->root[i].node->storage = param_leaf(g, g->root[i].param)->storage;
    for (int i = g->nodes - 1; i >= 0; i--) {    /* what holds a part before the part */
        Node *n = g->node[i];
        bool has_place = live[i] && !n->storage && !n->inlined && !(n->op->traits & (OP_LEAF | OP_ALIAS));
        if (has_place && n->joined)
            n->storage = n->joined->storage;
        else if (has_place && n->op->part)
            n->storage = storage_new(f, PLACE_WORKSPACE, storage_name(f, n), n);
    }
    for (int i = 0; i < g->nodes; i++) {
        Node *n = g->node[i];
        if (!live[i] || n->storage || n->inlined || (n->op->traits & OP_LEAF))
            continue;
        if (n->op->traits & OP_ALIAS) {
            n->storage = n->in[0]->storage;
            n->storage->plain = true;
            n->storage->batched &= n->batched;
        } else {
            n->storage = storage_new(f, PLACE_WORKSPACE, storage_name(f, n), n);
        }
    }
}
