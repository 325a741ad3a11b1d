/* net.h: sizes, the parameter struct, prototypes; and the signatures that both files
 * agree on. */
#include "print.h"

#include <string.h>

/* -- signatures -- */

static void add_argument(const Program *p, Text *t, const char *type, const char *name)
{
    printer_argument_list(t, 4, format(p->c, "%s%s", type, name));
}

/* The list behind a function's name: on the same line if it is short. */
static const char *broken(const Program *p, const Text *t)
{
    return t->length > 60 ? format(p->c, "\n    %s", t->data) : t->data;
}

bool print_has_loss(Signature kind)
{
    return print_has_gradients(kind) || kind == LOSS;
}

bool print_has_gradients(Signature kind)
{
    return kind == BACKWARD || kind == PROFILE_BACKWARD;
}

bool print_ticks(Signature kind)
{
    return kind == PROFILE || kind == PROFILE_BACKWARD;
}

const char *print_signature(const Program *p, Signature kind)
{
    Text t = {.c = p->c};
    const char *constant = print_has_gradients(kind) ? "" : "const ";
    add_argument(p, &t, format(p->c, "%s%s_params *", constant, p->prefix), "params");
    for (int i = 0; i < p->net->inputs; i++) {
        const Input *in = p->net->input[i];
        if (print_has_loss(kind) || !in->loss_only)
            add_argument(p, &t, in->dtype == I32 ? "const int32_t *" : "const float *", in->c_name);
    }
    for (int i = 0; !print_has_loss(kind) && i < p->outputs; i++)
        add_argument(p, &t, "float *", p->output[i].node->storage->name);
    if (print_has_gradients(kind))
        add_argument(p, &t, format(p->c, "%s_params *", p->prefix), "grad");
    for (int i = 0; print_has_gradients(kind) && p->options.input_grad && i < p->net->inputs; i++)
        if (!p->net->input[i]->loss_only && p->net->input[i]->dtype == F32)
            add_argument(p, &t, "float *", format(p->c, "%s_grad", p->net->input[i]->c_name));
    add_argument(p, &t, "void *", "workspace");
    if (print_has_gradients(kind) && p->seeded)
        add_argument(p, &t, "uint64_t ", "seed");
    if (print_ticks(kind)) {
        add_argument(p, &t, "void ", "(*tick)(void *user, int kernel)");
        add_argument(p, &t, "void *", "user");
    }
    return broken(p, &t);
}

void print_argument_names(Text *t, const Program *p, Signature kind)
{
    printer_argument_list(t, 8, "params");
    for (int i = 0; i < p->net->inputs; i++)
        if (kind != FORWARD || !p->net->input[i]->loss_only)
            printer_argument_list(t, 8, p->net->input[i]->c_name);
    for (int i = 0; kind == FORWARD && i < p->outputs; i++)
        printer_argument_list(t, 8, p->output[i].node->storage->name);
    if (kind == BACKWARD)
        printer_argument_list(t, 8, "grad");
    for (int i = 0; kind == BACKWARD && p->options.input_grad && i < p->net->inputs; i++)
        if (!p->net->input[i]->loss_only && p->net->input[i]->dtype == F32)
            printer_argument_list(t, 8, format(p->c, "%s_grad", p->net->input[i]->c_name));
    printer_argument_list(t, 8, "workspace");
    if (kind == BACKWARD && p->seeded)
        printer_argument_list(t, 8, "seed");
}

const char *print_free_name(const Program *p, const char *name)
{
    bool taken = false;
    for (int i = 0; i < p->net->inputs; i++)
        taken |= !strcmp(p->net->input[i]->c_name, name) ||
                 !strcmp(format(p->c, "%s_grad", p->net->input[i]->c_name), name);
    for (int i = 0; i < p->outputs; i++)
        taken |= !strcmp(p->output[i].node->storage->name, name);
    return taken ? print_free_name(p, format(p->c, "%s_", name)) : name;
}

/* -- sizes -- */

/* `unit` per sample, and how they lie where that is more than a row. */
static void size_macro(Text *t, const Program *p, const char *name, int count, const char *unit,
                       const Shape *shape)
{
    bool plain = shape->rank <= 1;
    print_named(t, p, "#define $_%s_SIZE %d  /* %s per sample%s%s */\n", print_upper(p->c, name), count, unit,
                plain ? "" : ": ", plain ? "" : shape_text(p->c, shape, true));
}

static void size_macros(Text *t, const Program *p)
{
    int batch = p->net->batch;
    print_named(t, p, "#define $_BATCH %d\n", batch);
    for (int i = 0; i < p->net->inputs; i++) {
        const Input *in = p->net->input[i];
        if (!in->loss_only || p->options.train)
            size_macro(t, p, in->c_name, shape_count(&in->shape) / batch,
                       in->dtype == I32 ? "labels" : "floats", &in->shape);
    }
    for (int i = 0; i < p->outputs; i++) {
        const Node *n = p->output[i].node;
        size_macro(t, p, n->storage->name, shape_count(&n->shape) / (n->batched ? batch : 1), "floats",
                   &n->shape);
    }
    print_named(t, p,
                "#define $_PARAM_COUNT %lld  /* floats in the flat form, in the order of state_dict */\n"
                "#define $_WORKSPACE_BYTES %lld  /* scratch of one call of @_forward */\n",
                (long long)params_count(p->net), (long long)p->forward->workspace);
    print_named(t, p, "#define $_STACK_BYTES %lld  /* stack of that call, at most */\n",
                (long long)print_stack(p->forward));
    if (p->pack && p->pack->workspace)
        print_named(t, p, "#define $_PACK_STACK_BYTES %lld  /* of @_pack and _init */\n",
                    (long long)print_stack(p->pack));
    if (p->options.train) {
        int64_t loss = p->loss->workspace, backward = p->backward->workspace;
        print_named(t, p,
                    "#define $_TRAIN_WORKSPACE_BYTES %lld  /* of @_backward, _accumulate and _loss */\n",
                    (long long)(loss > backward ? loss : backward));
        loss = print_stack(p->loss), backward = print_stack(p->backward);
        print_named(t, p, "#define $_TRAIN_STACK_BYTES %lld  /* stack of those, at most */\n",
                    (long long)(loss > backward ? loss : backward));
    }
    print_named(t, p, "#define $_ALIGNMENT %d  /* bytes, of params and workspace */\n\n",
                p->options.target->alignment);
}

void print_params_struct(Text *t, const Program *p)
{
    print_named(t, p, "typedef struct @_params {\n");
    for (int i = 0; i < p->fields; i++) {
        const Param *param = p->field[i].param;
        text_add(t, "    float %s[%d];  /* %s%s */\n", p->field[i].name, p->field[i].count,
                 param->derived ? "folded, " : "", shape_text(p->c, &param->shape, false));
    }
    if (!p->fields)
        text_add(t, "    float none;  /* the model has no parameters */\n");
    print_named(t, p, "} @_params;\n\n");
}

/* -- prototypes -- */

static void train_prototypes(Text *t, const Program *p)
{
    print_named(t, p,
                "/* Writes all parameters in the order of state_dict. */\n"
                "void @_unpack(float *flat, const @_params *params);\n\n"
                "/* Mean loss over the batch in training mode; overwrites grad.  params change only in\n"
                " * running statistics. */\n"
                "float @_backward(%s);\n\n"
                "/* The same, adding to grad: for batches larger than memory. */\n"
                "float @_accumulate(%s);\n\n"
                "/* Mean loss over the batch in inference mode. */\n"
                "float @_loss(%s);\n\n",
                print_signature(p, BACKWARD), print_signature(p, BACKWARD), print_signature(p, LOSS));
    print_named(t, p,
                "/* torch.optim.SGD: velocity starts as zeros. */\n"
                "void @_sgd(@_params *params, const @_params *grad, @_params *velocity,\n"
                "    float lr, float momentum, float weight_decay);\n\n"
                "/* torch.optim.Adam: m and v start as zeros, step counts from 1. */\n"
                "void @_adam(@_params *params, const @_params *grad, @_params *m, @_params *v, int step,\n"
                "    float lr, float beta1, float beta2, float eps, float weight_decay);\n\n");
}

static void prototypes(Text *t, const Program *p)
{
    size_t bytes;
    bool constant = p->weights && p->options.store == STORE_F32;     /* else init widens them */
    if (constant && !print_weights_file(p, &bytes))
        print_named(t, p, "extern const @_params @_weights;\n\n");
    else if (constant && p->options.target->incbin)
        print_named(t, p,
                    "extern const @_params @_weights;  /* contents: the .weights file beside it */\n\n");
    print_named(t, p,
                "/* From the order of state_dict ($_PARAM_COUNT floats)%s. */\n"
                "void @_pack(@_params *params, const float *flat);\n\n"
                "/* Initial values: the network file's, else PyTorch's defaults from the seed. */\n"
                "void @_init(@_params *params, uint64_t seed);\n\n"
                "void @_forward(%s);\n\n",
                p->pack ? "; folds what can be folded" : "", print_signature(p, FORWARD));
    print_blob_prototypes(t, p);
    if (p->options.train)
        train_prototypes(t, p);
}

const char *print_header(Program *p)
{
    Text t = {.c = p->c};
    print_named(&t, p,
                "/* @: generated by cnnc %s from %s."
                "  This file belongs to its user, without conditions. */\n"
                "#ifndef $_H\n#define $_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n",
                CNNC_VERSION, print_base_name(p->net->file));
    size_macros(&t, p);
    text_add(&t, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    print_params_struct(&t, p);
    print_blob_statuses(&t, p);
    prototypes(&t, p);
    print_self_test_header(&t, p);
    text_add(&t, "#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    return t.data;
}
