/* Writes a network as programs for a board without an operating system:
 *
 *     embedded GRAPH.lua TARGET DIRECTORY
 *
 * net.c and net.h with constant weights, main.c that calls forward once and tells what it took,
 * profile.c that tells it kernel by kernel, and kernels.json: their names and multiplications. */
#include "../../runtime/runtime.h"

#include <string.h>

typedef struct Bench { Context *c; const char *network, *target, *folder; } Bench;

static void write_text(const Bench *b, const char *name, const char *text)
{
    file_write(b->c, format(b->c, "%s/%s", b->folder, name), text, strlen(text));
}

/* The initial values of seed 1 become constants. */
static Program *constant_program(const Bench *b, bool profile)
{
    Graph *net = network_load(b->c, b->network, 1);
    for (int i = 0; i < net->params; i++) {
        Param *p = net->param[i];
        float *value = NEW_ARRAY(b->c, float, p->count);
        for (int k = 0; k < p->count; k++)
            value[k] = param_initial(p, 1, k);
        p->init = INIT_LITERAL;
        p->literal = value;
    }
    const Options options = {.batch = 1, .prefix = "net", .target = target_find(b->target), .profile = profile};
    return compile(net, &options, NULL);
}

static int64_t largest(const Program *p, bool outputs)
{
    int64_t most = 1;
    for (int i = 0; i < p->net->inputs && !outputs; i++)
        most = shape_count(&p->net->input[i]->shape) > most ? shape_count(&p->net->input[i]->shape) : most;
    for (int i = 0; i < p->outputs && outputs; i++)
        most = shape_count(&p->output[i].node->shape) > most ? shape_count(&p->output[i].node->shape) : most;
    return most;
}

/* One input and one output, as all networks of the bench have. */
static const char *program(const Program *p, bool profile)
{
    return format(p->c,
        "#include \"tests/cross/port.h\"\n%s"
        "static _Alignas(NET_ALIGNMENT) char workspace[NET_WORKSPACE_BYTES];\n"
        "static float in[%lld], out[%lld];\n"
        "static unsigned from;\n\n"
        "static void tell(unsigned number)\n{\n    char digits[12], *at = digits + 11;\n    *at = 0;\n"
        "    *--at = '\\n';\n    do\n        *--at = (char)('0' + number %% 10);\n"
        "    while (number /= 10);\n    port_write(at);\n}\n\n%s", profile ? "" : "#include \"net.h\"\n",
        (long long)largest(p, false), (long long)largest(p, true), profile ?
        "static void kernel(void *user, int k)\n{\n    (void)user, (void)k;\n    tell(port_ticks() - from);\n"
        "    from = port_ticks();\n}\n\n"
        "int program(void)\n{\n    void *io[] = {in, out};\n    from = port_ticks();\n"
        "    cnnc_profile((void *)&net_weights, io, 0, 0, workspace, 0, kernel, 0);\n    return 0;\n}\n" :
        "static void work(void)\n{\n    net_forward(&net_weights, in, out, workspace);\n}\n\n"
        "int program(void)\n{\n    tell(port_stack(work));\n    from = port_ticks();\n    work();\n"
        "    tell(port_ticks() - from);\n    return 0;\n}\n");
}

static const char *kernels(const Program *p)
{
    Text t = {.c = p->c};
    for (int k = 0; k < p->forward->kernels; k++) {
        const Kernel *kernel = p->forward->kernel[k];
        const Node *start = kernel_start(kernel);
        text_add(&t, "%s{\"name\": \"%s\", \"output\": \"%s\", \"macs\": %lld}", k ? ",\n " : "[",
                 kernel_layers(p->c, kernel), shape_text(p->c, &kernel->node->shape, false),
                 start->op->macs ? (long long)start->op->macs(start) : 0);
    }
    return format(p->c, "%s]\n", t.data);
}

static void write_all(void *argument)
{
    const Bench *b = argument;
    Program *p = constant_program(b, false), *profiled = constant_program(b, true);
    size_t bytes;
    const float *weights = print_weights_file(p, &bytes);
    if (weights)
        fail(b->c, STATUS_INPUT, "%s: %zu bytes of weights, more than a board has", b->network, bytes);
    write_text(b, "net.c", print_source(p, "net.h", PRINT_FILE));
    write_text(b, "net.h", print_header(p));
    write_text(b, "main.c", program(p, false));
    write_text(b, "profile.c", format(b->c, "%s\n#define NET_WORKSPACE_BYTES %lld\n#define NET_ALIGNMENT 8\n%s",
                                      print_source(profiled, NULL, PRINT_LIBRARY),
                                      (long long)profiled->forward->workspace + 8, program(profiled, true)));
    write_text(b, "kernels.json", kernels(p));
}

int main(int argc, char **argv)
{
    Context c;
    context_init(&c);
    Bench b = {&c, argv[1], argv[2], argv[3]};
    if (argc != 4 || !target_find(argv[2])) {
        fprintf(stderr, "usage: embedded GRAPH.lua TARGET DIRECTORY\n");
        return STATUS_USAGE;
    }
    if (!attempt(&c, write_all, &b))
        fprintf(stderr, "embedded: %s\n", c.message);
    int status = c.status;
    context_free(&c);
    return status;
}
