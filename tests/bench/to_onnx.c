/* to_onnx NETWORK.lua MODEL.onnx WEIGHTS.safetensors
 *
 * A reference network for another runtime: the network file as an ONNX model with random
 * weights, and the same weights as cnnc loads them.  Every call of the network file becomes
 * the ONNX operation of that meaning, before any of cnnc's passes: the other side gets what a
 * person would have exported.  It knows the calls of the reference networks, no others.
 *
 * ONNX is protobuf, written here by hand: a message is a row of fields, each a tag (number
 * and kind), then a number or counted bytes; nested messages are counted bytes, too. */
#include "../../runtime/runtime.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* -- protobuf -- */

typedef struct Message { Context *c; unsigned char *data; size_t length, capacity; } Message;

static void put_bytes(Message *m, const void *data, size_t length)
{
    if (m->length + length > m->capacity) {
        size_t capacity = 2 * m->capacity + length;
        unsigned char *grown = NEW_ARRAY(m->c, unsigned char, capacity);
        memcpy(grown, m->data ? m->data : grown, m->length);
        m->data = grown;
        m->capacity = capacity;
    }
    memcpy(m->data + m->length, data, length);
    m->length += length;
}

/* Seven bits a byte, the lowest first; the eighth says that more follow. */
static void put_varint(Message *m, uint64_t value)
{
    do {
        unsigned char byte = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        put_bytes(m, &byte, 1);
    } while (value >>= 7);
}

enum { VARINT = 0, COUNTED = 2, FIXED32 = 5 };

static void put_int(Message *m, int field, int64_t value)
{
    put_varint(m, (uint64_t)field << 3 | VARINT);
    put_varint(m, (uint64_t)value);
}

static void put_float(Message *m, int field, float value)
{
    put_varint(m, (uint64_t)field << 3 | FIXED32);
    put_bytes(m, &value, sizeof value);
}

static void put_counted(Message *m, int field, const void *data, size_t length)
{
    put_varint(m, (uint64_t)field << 3 | COUNTED);
    put_varint(m, length);
    put_bytes(m, data, length);
}

static void put_text(Message *m, int field, const char *text)
{
    put_counted(m, field, text, strlen(text));
}

static void put_message(Message *m, int field, const Message *part)
{
    put_counted(m, field, part->data, part->length);
}

/* -- ONNX: field numbers of onnx.proto3 -- */

enum { OPSET = 13, IR_VERSION = 7 };
enum { MODEL_IR_VERSION = 1, MODEL_PRODUCER = 2, MODEL_GRAPH = 7, MODEL_OPSET = 8, OPSET_VERSION = 2 };
enum { GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_OP = 4, NODE_ATTRIBUTE = 5 };
enum { ATTRIBUTE_NAME = 1, ATTRIBUTE_FLOAT = 2, ATTRIBUTE_INT = 3, ATTRIBUTE_INTS = 8, ATTRIBUTE_TYPE = 20 };
enum { TYPE_FLOAT = 1, TYPE_INT = 2, TYPE_INTS = 7 };             /* of attributes */
enum { TENSOR_DIMS = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW = 9 };
enum { ELEMENT_FLOAT = 1 };                                       /* of tensors */
enum { VALUE_NAME = 1, VALUE_TYPE = 2, TYPE_TENSOR = 1, TENSOR_ELEMENT = 1, TENSOR_SHAPE = 2,
       SHAPE_DIM = 1, DIM_VALUE = 1 };

typedef struct Export {
    Context *c;
    Graph *net;
    FILE *file;
    const Layer *layer;       /* which is being written */
    Message node;             /* of it */
} Export;

static Message message(const Export *e)
{
    return (Message){.c = e->c};
}

static void write_bytes(Export *e, const Message *model)
{
    if (fwrite(model->data, 1, model->length, e->file) != model->length)
        fail(e->c, STATUS_INPUT, "the model cannot be written: %s", strerror(errno));
}

/* Writes a field of the graph.  A message that stands in a file several times counts as
 * one, all parts together: so the graph is written piece by piece. */
static void write_part(Export *e, int field, const Message *part)
{
    Message graph = message(e), model = message(e);
    put_message(&graph, field, part);
    put_message(&model, MODEL_GRAPH, &graph);
    write_bytes(e, &model);
}

/* In a context of its own: a part may be large. */
typedef struct NamedTensor { Export *e; const char *name; Shape shape; const float *value; } NamedTensor;

static void write_tensor(Context *work, void *argument)
{
    const NamedTensor *t = argument;
    Export e = *t->e;
    e.c = work;
    Message tensor = message(&e);
    for (int d = 0; d < t->shape.rank; d++)
        put_int(&tensor, TENSOR_DIMS, t->shape.dim[d]);
    put_int(&tensor, TENSOR_TYPE, ELEMENT_FLOAT);
    put_text(&tensor, TENSOR_NAME, t->name);
    put_counted(&tensor, TENSOR_RAW, t->value, sizeof(float) * (size_t)shape_count(&t->shape));
    write_part(&e, GRAPH_INITIALIZER, &tensor);
}

static void write_initializer(Export *e, const char *name, Shape shape, const float *value)
{
    scratch(e->c, write_tensor, &(NamedTensor){e, name, shape, value});
}

static void write_value(Export *e, int field, const char *name, const Shape *s)
{
    Message shape = message(e), tensor = message(e), type = message(e), value = message(e);
    for (int d = 0; d < s->rank; d++) {
        Message dim = message(e);
        put_int(&dim, DIM_VALUE, s->dim[d]);
        put_message(&shape, SHAPE_DIM, &dim);
    }
    put_int(&tensor, TENSOR_ELEMENT, ELEMENT_FLOAT);
    put_message(&tensor, TENSOR_SHAPE, &shape);
    put_message(&type, TYPE_TENSOR, &tensor);
    put_text(&value, VALUE_NAME, name);
    put_message(&value, VALUE_TYPE, &type);
    write_part(e, field, &value);
}

/* -- names -- */

static const char *tensor_name(const Export *e, const Node *n)
{
    for (int r = 0; r < e->net->roots; r++)
        if (e->net->root[r].kind == ROOT_OUTPUT && e->net->root[r].node == n)
            return e->net->root[r].name;
    return n->input ? n->input->name : format(e->c, "t%d", n->id);
}

/* A parameter of the layer, or NULL. */
static const Param *find_param(const Export *e, const char *suffix)
{
    const char *name = format(e->c, "%s.%s", e->layer->name, suffix);
    for (int p = 0; p < e->net->params; p++)
        if (!strcmp(e->net->param[p]->name, name))
            return e->net->param[p];
    return NULL;
}

/* What the outputs depend on: a loss is nothing to export. */
static bool *live_for_outputs(const Graph *g)
{
    Graph outputs = *g;
    outputs.root = NULL;
    outputs.roots = 0;
    for (int r = 0; r < g->roots; r++)
        if (g->root[r].kind == ROOT_OUTPUT)
            root_add(&outputs, g->root[r]);
    return graph_live(&outputs);
}

/* -- one layer -- */

static void begin(Export *e, const char *op)
{
    e->node = message(e);
    put_text(&e->node, NODE_OP, op);
}

static void end(Export *e, const char *output)
{
    put_text(&e->node, NODE_OUTPUT, output);
    put_text(&e->node, NODE_NAME, output);
    write_part(e, GRAPH_NODE, &e->node);
}

static void add_attribute(Export *e, const char *name, int type, Message *value)
{
    put_text(value, ATTRIBUTE_NAME, name);
    put_int(value, ATTRIBUTE_TYPE, type);
    put_message(&e->node, NODE_ATTRIBUTE, value);
}

static void add_int(Export *e, const char *name, int number)
{
    Message value = message(e);
    put_int(&value, ATTRIBUTE_INT, number);
    add_attribute(e, name, TYPE_INT, &value);
}

static void add_float(Export *e, const char *name, float number)
{
    Message value = message(e);
    put_float(&value, ATTRIBUTE_FLOAT, number);
    add_attribute(e, name, TYPE_FLOAT, &value);
}

/* Both rows; the second may be NULL. */
static void add_ints(Export *e, const char *name, int count, const int *first, const int *second)
{
    Message value = message(e);
    for (int i = 0; i < count; i++)
        put_int(&value, ATTRIBUTE_INTS, first[i]);
    for (int i = 0; second && i < count; i++)
        put_int(&value, ATTRIBUTE_INTS, second[i]);
    add_attribute(e, name, TYPE_INTS, &value);
}

/* kernel_shape, strides and pads of the layer's window. */
static const Window *add_window(Export *e)
{
    const Window *w = NULL;
    for (int i = 0; i < e->net->nodes && !w; i++) {
        const Node *n = e->net->node[i];
        w = n->layer == e->layer && n->op->window ? n->op->window(n) : NULL;
    }
    if (!w)
        fail(e->c, STATUS_FAULT, "%s: no window found", e->layer->name);
    add_ints(e, "kernel_shape", w->spatial, w->kernel, NULL);
    add_ints(e, "strides", w->spatial, w->stride, NULL);
    add_ints(e, "pads", w->spatial, w->begin, w->end);
    return w;
}

/* An operand; nothing if the layer has no such parameter. */
static void read_param(Export *e, const char *suffix)
{
    const Param *p = find_param(e, suffix);
    if (p)
        put_text(&e->node, NODE_INPUT, p->name);
}

static void conv(Export *e)
{
    read_param(e, "weight");
    read_param(e, "bias");
    const Window *w = add_window(e);
    add_ints(e, "dilations", w->spatial, w->dilation, NULL);
    add_int(e, "group", e->layer->from[0]->shape.dim[1] / find_param(e, "weight")->shape.dim[1]);
}

static void linear(Export *e)
{
    read_param(e, "weight");
    read_param(e, "bias");
    add_int(e, "transB", 1);
}

static void maxpool(Export *e)
{
    add_int(e, "ceil_mode", add_window(e)->ceil);
}

/* ONNX keeps the pooled dims, with size 1: a second operation drops them. */
static void global_avgpool(Export *e)
{
    const char *kept = format(e->c, "%s.kept", e->layer->name);
    end(e, kept);
    begin(e, "Flatten");
    put_text(&e->node, NODE_INPUT, kept);
}

static void relu6(Export *e)
{
    static const float bound[] = {0, 6};
    for (int i = 0; i < 2; i++) {
        const char *name = format(e->c, "%s.bound%d", e->layer->name, i);
        write_initializer(e, name, (Shape){0}, &bound[i]);
        put_text(&e->node, NODE_INPUT, name);
    }
}

static void batchnorm(Export *e)
{
    static const char *const params[] = {"weight", "bias", "running_mean", "running_var"};
    const Node *n = e->layer->output;
    Text attrs = {.c = e->c};
    double eps;
    n->op->print_attrs(n, &attrs);
    if (sscanf(attrs.data, " eps %lf", &eps) != 1)
        fail(e->c, STATUS_FAULT, "%s: no eps found in \"%s\"", e->layer->name, attrs.data);
    for (int i = 0; i < 4; i++)
        read_param(e, params[i]);
    add_float(e, "epsilon", (float)eps);
}

static void concatenation(Export *e)
{
    add_int(e, "axis", 1);
}

/* What ONNX calls it, and what to add behind the tensors that it reads. */
typedef struct Translation { const char *method, *op; void (*add)(Export *e); } Translation;

static const Translation translations[] = {
    {"conv2d", "Conv", conv}, {"linear", "Gemm", linear}, {"batchnorm", "BatchNormalization", batchnorm},
    {"maxpool", "MaxPool", maxpool}, {"global_avgpool", "GlobalAveragePool", global_avgpool},
    {"relu", "Relu", NULL}, {"relu6", "Clip", relu6}, {"add", "Add", NULL},
    {"concat", "Concat", concatenation}, {"flatten", "Flatten", NULL}, {"dropout", "Dropout", NULL},
};
enum { TRANSLATIONS = sizeof translations / sizeof *translations };

static const Translation *find_translation(const Export *e)
{
    for (int i = 0; i < TRANSLATIONS; i++)
        if (!strcmp(translations[i].method, e->layer->method))
            return &translations[i];
    fail(e->c, STATUS_INPUT, "%s: %s is none of the calls that this program knows", e->layer->where,
         e->layer->method);
}

static void write_layer(Export *e)
{
    const Translation *t = find_translation(e);
    begin(e, t->op);
    for (int i = 0; i < e->layer->froms; i++)
        put_text(&e->node, NODE_INPUT, tensor_name(e, e->layer->from[i]));
    if (t->add)
        t->add(e);
    end(e, tensor_name(e, e->layer->output));
}

/* -- the model -- */

/* Weights that keep activations alive: the usual initial ones lose half of their variance
 * and more in every layer, and in the end two runtimes would compare noise.  Batch norms
 * get statistics of their own. */
static float random_weight(const Param *p, int i)
{
    if (p->init == INIT_CONSTANT)
        return p->value + random_unit(0, (uint32_t)p->index, (uint32_t)i) - 0.5f;
    return param_initial(p, 0, i) * (p->shape.rank > 1 ? sqrtf(6) : 1);        /* variance 2 / fan_in */
}

static void write_weights(Export *e, const char *path)
{
    const Graph *net = e->net;
    float *flat = NEW_ARRAY(e->c, float, params_count(net));
    for (int p = 0; p < net->params; p++) {
        float *value = flat + net->param[p]->offset;
        for (int i = 0; i < net->param[p]->count; i++)
            value[i] = random_weight(net->param[p], i);
        write_initializer(e, net->param[p]->name, net->param[p]->shape, value);
    }
    safetensors_save(net, path, flat);
}

static void write_head(Export *e)
{
    Message model = message(e), opset = message(e), graph = message(e);
    put_int(&opset, OPSET_VERSION, OPSET);
    put_text(&graph, GRAPH_NAME, e->net->name);
    put_int(&model, MODEL_IR_VERSION, IR_VERSION);
    put_text(&model, MODEL_PRODUCER, "cnnc");
    put_message(&model, MODEL_OPSET, &opset);
    put_message(&model, MODEL_GRAPH, &graph);
    write_bytes(e, &model);
}

static void write_model(Export *e, const char *weights)
{
    Graph *net = e->net;
    const bool *live = live_for_outputs(net);
    write_head(e);
    for (int i = 0; i < net->inputs; i++)
        if (!net->input[i]->loss_only)
            write_value(e, GRAPH_INPUT, net->input[i]->name, &net->input[i]->shape);
    for (int l = 0; l < net->layers; l++) {
        e->layer = net->layer[l];
        if (live[e->layer->output->id])
            write_layer(e);
    }
    for (int r = 0; r < net->roots; r++)
        if (net->root[r].kind == ROOT_OUTPUT)
            write_value(e, GRAPH_OUTPUT, net->root[r].name, &net->root[r].node->shape);
    write_weights(e, weights);
}

typedef struct Arguments { Context *c; const char *network, *model, *weights; } Arguments;

static void run(void *argument)
{
    const Arguments *a = argument;
    Export e = {.c = a->c, .net = network_load(a->c, a->network, 1)};
    e.file = fopen(a->model, "wb");
    if (!e.file)
        fail(a->c, STATUS_INPUT, "%s: %s", a->model, strerror(errno));
    write_model(&e, a->weights);
    if (fclose(e.file) != 0)
        fail(a->c, STATUS_INPUT, "%s: %s", a->model, strerror(errno));
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: to_onnx NETWORK.lua MODEL.onnx WEIGHTS.safetensors\n");
        return STATUS_USAGE;
    }
    Context c;
    context_init(&c);
    Arguments arguments = {&c, argv[1], argv[2], argv[3]};
    int status = attempt(&c, run, &arguments) ? STATUS_OK : c.status;
    if (status != STATUS_OK)
        fprintf(stderr, "to_onnx: %s\n", c.message);
    context_free(&c);
    return status;
}
