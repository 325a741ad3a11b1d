/* What a network costs, layer by layer, before anything is compiled or run. */
#include "cnnc.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

/* ---------------------------------------------------------- receptive fields
 * What one output cell sees of the network's input: the cells of the field of
 * output position i are  offset + stride*i ... offset + stride*i + size - 1. */

typedef struct Reach {
    bool known;               /* false: made of parameters alone */
    bool all;                 /* sees the input as a whole */
    int spatial;
    int64_t size[MAX_SPATIAL], stride[MAX_SPATIAL], offset[MAX_SPATIAL];
} Reach;

static int spatial_rank(const Node *n)
{
    return n->batched && n->shape.rank > 2 ? n->shape.rank - 2 : 0;
}

static bool same_places(const Node *a, const Node *b)
{
    return a->shape.rank == b->shape.rank
        && memcmp(a->shape.dim + 2, b->shape.dim + 2, (size_t)spatial_rank(a) * sizeof(int)) == 0;
}

static Reach reach_input(const Node *n)
{
    Reach r = {.known = true, .spatial = spatial_rank(n)};
    for (int a = 0; a < r.spatial; a++)
        r.size[a] = r.stride[a] = 1;
    return r;
}

/* One window of cells that see `r` each.  The first window starts `begin` cells
 * before the first; neighbours' fields are r.stride apart, so k taps widen the
 * field by (k - 1)*dilation of those. */
static Reach reach_window(Reach r, const Window *w)
{
    for (int a = 0; a < r.spatial && a < w->spatial; a++) {
        r.size[a] += (int64_t)(w->kernel[a] - 1) * w->dilation[a] * r.stride[a];
        r.offset[a] -= w->begin[a] * r.stride[a];
        r.stride[a] *= w->stride[a];
    }
    return r;
}

/* How n sees through its input number i. */
static Reach reach_through(const Node *n, int i, Reach r)
{
    const Window *w = i == 0 && n->op->window ? n->op->window(n) : NULL;
    if (!r.known || r.all)
        return r;
    if (w)
        return reach_window(r, w);
    bool per_place = r.spatial ? same_places(n, n->in[i]) : shape_equal(&n->shape, &n->in[i]->shape);
    r.all = !per_place;
    return r;
}

/* Where branches join, the largest path counts, axis by axis. */
static Reach reach_join(Reach a, Reach b)
{
    if (!a.known || !b.known)
        return a.known ? a : b;
    if (a.all || b.all)
        return a.all ? a : b;
    for (int i = 0; i < a.spatial && i < b.spatial; i++)
        if (b.size[i] > a.size[i]) {
            a.size[i] = b.size[i];
            a.stride[i] = b.stride[i];
            a.offset[i] = b.offset[i];
        }
    return a;
}

static Reach *reach_all(const Graph *net)
{
    Reach *reach = NEW_ARRAY(net->c, Reach, net->nodes);
    for (int id = 0; id < net->nodes; id++) {
        const Node *n = net->node[id];
        if (n->input)
            reach[id] = reach_input(n);
        for (int i = 0; i < n->ins; i++)
            reach[id] = reach_join(reach[id], reach_through(n, i, reach[n->in[i]->id]));
    }
    return reach;
}

/* ----------------------------------------------------------------- the figures */

typedef struct LayerCost {
    const Layer *layer;
    const Node *window;       /* the node that slides a window, or NULL */
    const char *algorithm;    /* of inference, where there is a choice, or NULL */
    Reach reach;
    int64_t params, macs, bytes;
    int64_t dense;            /* parameters of a fully connected layer instead; 0: no weights to replace */
} LayerCost;

typedef struct Cost {
    const Graph *net;
    LayerCost *layer;  int layers;
    int64_t params, macs, bytes;
    int64_t workspace, train_workspace;    /* train_workspace -1: no loss, no training */
} Cost;

/* Elements of one sample. */
static int64_t sample_count(const Node *n)
{
    int64_t count = shape_count(&n->shape);
    return n->batched ? count / n->shape.dim[0] : count;
}

static LayerCost cost_layer(const Graph *net, const Layer *layer, const Reach *reach)
{
    LayerCost cost = {.layer = layer, .reach = reach[layer->output->id]};
    for (int id = 0; id < net->nodes; id++) {
        const Node *n = net->node[id];
        if (n->layer != layer)
            continue;
        if (n->op->macs)
            cost.macs += n->op->macs(n);
        if (!cost.window && n->op->window && n->op->window(n))
            cost.window = n;
    }
    for (int p = 0; p < net->params; p++)
        if (net->param[p]->layer == layer)
            cost.params += net->param[p]->count;
    cost.bytes = 4 * (int64_t)shape_count(&layer->output->shape);
    if (cost.params && cost.macs && layer->froms) {
        int64_t inputs = sample_count(layer->from[0]), outputs = sample_count(layer->output);
        cost.dense = inputs * outputs + outputs;
    }
    return cost;
}

/* How the layer is computed, if not by the definition. */
static const char *algorithm_of(const Graph *g, const Layer *layer)
{
    const char *found = NULL;
    const bool *live = graph_live(g);
    for (int id = 0; id < g->nodes; id++)
        if (live[id] && g->node[id]->layer == layer && g->node[id]->op->algorithm)
            found = g->node[id]->op->algorithm(g->c, g->node[id]);
    return found;
}

static Cost cost_network(const Program *inference, const Program *training)
{
    const Graph *net = inference->net;
    const Reach *reach = reach_all(net);
    Cost cost = {.net = net, .layers = net->layers, .params = params_count(net)};
    cost.layer = NEW_ARRAY(net->c, LayerCost, net->layers);
    for (int i = 0; i < net->layers; i++) {
        cost.layer[i] = cost_layer(net, net->layer[i], reach);
        cost.layer[i].algorithm = algorithm_of(inference->forward->graph, net->layer[i]);
        cost.macs += cost.layer[i].macs;
        cost.bytes += cost.layer[i].bytes;
    }
    cost.workspace = inference->forward->workspace;
    cost.train_workspace = -1;
    if (training) {
        int64_t loss = training->loss->workspace, backward = training->backward->workspace;
        cost.train_workspace = loss > backward ? loss : backward;
    }
    return cost;
}

/* -- as text -- */

enum { COLUMNS = 9 };
typedef struct Row { const char *cell[COLUMNS], *note; } Row;

static const char *number(Context *c, int64_t value)
{
    return value ? format(c, "%" PRId64, value) : "-";
}

/* One number when all axes agree, else all of them. */
static const char *per_axis(Context *c, const int64_t *value, int count, const char *between)
{
    Text t = {.c = c};
    bool same = true;
    for (int a = 1; a < count; a++)
        same = same && value[a] == value[0];
    for (int a = 0; a < (same ? 1 : count); a++)
        text_add(&t, "%s%" PRId64, a ? between : "", value[a]);
    return t.data;
}

static const char *size_text(Context *c, const Reach *r)
{
    Text t = {.c = c};
    for (int a = 0; a < r->spatial; a++)
        text_add(&t, "%s%" PRId64, a ? "x" : "", r->size[a]);
    return t.data;
}

/* The output-size law with its numbers, each axis once. */
static const char *formula_text(Context *c, const Node *n)
{
    Text t = {.c = c};
    const Window *w = n->op->window(n);
    const char *last = NULL;
    for (int a = 0; a < w->spatial; a++) {
        const char *formula = window_formula(c, w, a, n->in[0]->shape.dim[2 + a]);
        if (!last || strcmp(formula, last))
            text_add(&t, "%s%s", last ? ",  " : "", formula);
        last = formula;
    }
    return t.data;
}

static Row row_of(Context *c, const LayerCost *cost)
{
    const Node *out = cost->layer->output;
    const Reach *r = &cost->reach;
    Row row = {{cost->layer->name, shape_text(c, &out->shape, out->batched), number(c, cost->params),
                number(c, cost->dense), number(c, cost->macs), number(c, cost->bytes), "-", "-", "-"}, NULL};
    if (r->all) {
        row.cell[6] = "all";
    } else if (r->known && r->spatial) {
        row.cell[6] = size_text(c, r);
        row.cell[7] = per_axis(c, r->stride, r->spatial, ",");
        row.cell[8] = per_axis(c, r->offset, r->spatial, ",");
    }
    row.note = cost->window ? formula_text(c, cost->window) : cost->algorithm;
    if (cost->window && cost->algorithm)
        row.note = format(c, "%s;  %s", row.note, cost->algorithm);
    return row;
}

/* Names and shapes to the left, numbers to the right of their column. */
static void print_rows(const Row *row, int rows, FILE *out)
{
    int width[COLUMNS] = {0};
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < COLUMNS; k++)
            if ((int)strlen(row[i].cell[k]) > width[k])
                width[k] = (int)strlen(row[i].cell[k]);
    for (int i = 0; i < rows; i++) {
        for (int k = 0; k < COLUMNS; k++)
            fprintf(out, k < 2 ? "%s%-*s" : "%s%*s", k ? "  " : "", width[k], row[i].cell[k]);
        fputc('\n', out);
        if (row[i].note)
            fprintf(out, "%*s%s\n", width[0] + 2, "", row[i].note);
    }
}

void summary_print(Program *inference, Program *training, FILE *out)
{
    Context *c = inference->c;
    Cost cost = cost_network(inference, training);
    const Graph *net = cost.net;
    fprintf(out, "%s, batch %d\n", net->name, net->batch);
    for (int i = 0; i < net->inputs; i++)
        if (!net->input[i]->loss_only)
            fprintf(out, "input %s: %s\n", net->input[i]->name, shape_text(c, &net->input[i]->shape, true));
    fputc('\n', out);

    Row *row = NEW_ARRAY(c, Row, cost.layers + 1);
    row[0] = (Row){{"layer", "output", "params", "if dense", "MACs", "bytes", "sees", "step", "from"}, NULL};
    for (int i = 0; i < cost.layers; i++)
        row[i + 1] = row_of(c, &cost.layer[i]);
    print_rows(row, cost.layers + 1, out);

    fprintf(out, "\nparameters   %" PRId64 " (%" PRId64 " bytes)\n", cost.params, 4 * cost.params);
    fprintf(out, "MACs         %" PRId64 "\n", cost.macs);
    fprintf(out, "activations  %" PRId64 " bytes\n", cost.bytes);
    fprintf(out, "workspace    %" PRId64 " bytes for inference", cost.workspace);
    if (cost.train_workspace >= 0)
        fprintf(out, ", %" PRId64 " for training", cost.train_workspace);
    fprintf(out, "\n\nif dense: parameters of a fully connected layer instead, inputs*outputs + outputs\n"
                 "sees: input cells that one output cell depends on (the largest path); the field of\n"
                 "      output i starts at from + step*i\n");
}

/* -- as JSON -- */

/* JSON is UTF-8; a name that is not shows as in C. */
static json_t *json_text(Context *c, const char *text)
{
    json_t *string = json_string(text);
    return string ? string : json_string(c_identifier(c, text));
}

static json_t *json_axes(const int64_t *value, int count)
{
    json_t *list = json_array();
    for (int a = 0; a < count; a++)
        json_array_append_new(list, json_integer(value[a]));
    return list;
}

static json_t *json_shape(const Shape *s, bool skip_batch)
{
    json_t *list = json_array();
    for (int d = skip_batch; d < s->rank; d++)
        json_array_append_new(list, json_integer(s->dim[d]));
    return list;
}

static json_t *json_reach(const Reach *r)
{
    if (r->all)
        return json_string("all");
    if (!r->known || !r->spatial)
        return json_null();
    return json_pack("{s:o, s:o, s:o}", "size", json_axes(r->size, r->spatial),
                     "stride", json_axes(r->stride, r->spatial), "offset", json_axes(r->offset, r->spatial));
}

static json_t *json_layer(Context *c, const LayerCost *cost)
{
    const Layer *layer = cost->layer;
    const Node *out = layer->output;
    json_t *o = json_pack("{s:o, s:s, s:o, s:o, s:I, s:I, s:I, s:o}",
                          "name", json_text(c, layer->name), "op", layer->method,
                          "where", json_text(c, layer->where),
                          "output", json_shape(&out->shape, out->batched),
                          "params", (json_int_t)cost->params, "macs", (json_int_t)cost->macs,
                          "activation_bytes", (json_int_t)cost->bytes,
                          "receptive_field", json_reach(&cost->reach));
    json_object_set_new(o, "dense_params", cost->dense ? json_integer(cost->dense) : json_null());
    json_t *formulas = json_array();
    const Node *n = cost->window;
    for (int a = 0; n && a < spatial_rank(n); a++) {
        const char *formula = window_formula(c, n->op->window(n), a, n->in[0]->shape.dim[2 + a]);
        json_array_append_new(formulas, json_string(formula));
    }
    json_object_set_new(o, "formula", formulas);
    json_object_set_new(o, "algorithm", cost->algorithm ? json_string(cost->algorithm) : json_null());
    return o;
}

void summary_json(Program *inference, Program *training, FILE *out)
{
    Context *c = inference->c;
    Cost cost = cost_network(inference, training);
    json_t *layers = json_array(), *inputs = json_array();
    for (int i = 0; i < cost.layers; i++)
        json_array_append_new(layers, json_layer(c, &cost.layer[i]));
    for (int i = 0; i < cost.net->inputs; i++) {
        const Input *in = cost.net->input[i];
        if (!in->loss_only)
            json_array_append_new(inputs, json_pack("{s:o, s:o}", "name", json_text(c, in->name),
                                                    "shape", json_shape(&in->shape, true)));
    }
    json_t *o = json_pack("{s:o, s:i, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}",
                          "name", json_text(c, cost.net->name), "batch", cost.net->batch,
                          "params", (json_int_t)cost.params, "param_bytes", (json_int_t)(4 * cost.params),
                          "macs", (json_int_t)cost.macs, "activation_bytes", (json_int_t)cost.bytes,
                          "workspace_bytes", (json_int_t)cost.workspace,
                          "train_workspace_bytes",
                          cost.train_workspace < 0 ? json_null() : json_integer(cost.train_workspace),
                          "inputs", inputs, "layers", layers);
    if (o && json_dumpf(o, out, JSON_INDENT(2)) == 0)
        fputc('\n', out);
    json_decref(o);
}
