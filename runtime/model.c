/* A network with parameters that can be run for any number of samples.
 *
 * The batch is a constant of compiled code.  Whatever does not fill a batch goes
 * through a second program, compiled on first use, for exactly the samples that
 * are left.  The layout of the parameters does not depend on the batch, so all
 * programs of a model work on the same memory. */
#include "runtime.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------- programs */

static Code *open_code(Model *m, int batch, bool input_grad)
{
    Graph *net = frontend_load_text(m->c, m->text, m->length, m->network, batch);
    Options options = { .batch = batch, .train = m->options.train, .input_grad = input_grad,
                        .target = m->options.target, .threads = m->options.threads,
                        .profile = m->options.profile, .shapes = m->options.shapes,
                        .candidate = m->options.candidate, .winograd = m->options.winograd,
                        .optimize = m->options.optimize };
    Code *code = code_open(compile(net, &options, NULL), m->options.jit);
    if (m->codes && code->params_bytes != m->code[0]->params_bytes) {
        code->close(code);
        fail(m->c, STATUS_INPUT, "%s: the network must be the same each time the file is run: "
             "found %lld bytes of parameters, expected %lld", m->network, (long long)code->params_bytes,
             (long long)m->code[0]->params_bytes);
    }
    return code;
}

static void reserve_workspace(Model *m, const Code *code)
{
    int64_t bytes = code->workspace_bytes;
    if (bytes < code->train_workspace_bytes)
        bytes = code->train_workspace_bytes;
    if (m->workspace && bytes <= m->workspace_bytes)
        return;
    m->workspace = aligned_memory(m->c, bytes);
    m->workspace_bytes = bytes;
}

static Code *find_code(Model *m, int batch, bool input_grad)
{
    for (int i = 0; i < m->codes; i++) {
        const Options *o = &m->code[i]->program->options;
        if (o->batch == batch && o->input_grad == input_grad)
            return m->code[i];
    }
    Code *code = open_code(m, batch, input_grad);
    PUSH(m->c, m->code, m->codes) = code;
    reserve_workspace(m, code);
    return code;
}

Code *model_code(Model *m, int batch)
{
    return find_code(m, batch, false);
}

Code *model_code_input_grad(Model *m, int batch)
{
    return find_code(m, batch, true);
}

Graph *model_net(const Model *m)
{
    return m->code[0]->program->net;
}

Program *model_program(const Model *m)
{
    return m->code[0]->program;
}

/* ----------------------------------------------------------- opening and closing */

Model *model_open(Context *c, const char *network, ModelOptions options)
{
    Model *m = NEW(c, Model);
    m->c = c;
    m->network = format(c, "%s", network);
    m->options = options;
    m->text = (const char *)file_read(c, network, &m->length);
    Code *code = model_code(m, options.batch);
    m->flat = NEW_ARRAY(c, float, params_count(model_net(m)));
    m->io = NEW_ARRAY(c, void *, model_net(m)->inputs + model_program(m)->outputs);
    m->params = aligned_memory(c, code->params_bytes);
    if (options.train) {
        m->grad = aligned_memory(c, code->params_bytes);
        for (int i = 0; i < 2; i++)
            m->moment[i] = aligned_memory(c, code->params_bytes);
    }
    model_init(m, options.seed);
    return m;
}

void model_close(Model *m)
{
    if (m->record)
        record_close(m->record);
    m->record = NULL;
    for (int i = 0; i < m->codes; i++)
        m->code[i]->close(m->code[i]);
    m->codes = 0;
}

/* ------------------------------------------------------------------ parameters */

/* Takes over m->flat; what training has accumulated belonged to other values. */
static void set_parameters(Model *m)
{
    Code *code = m->code[0];
    code->pack(code, m->params, m->flat);
    m->steps = m->epochs = 0;
    m->optimizer_steps = 0;
    m->checkpoint = NULL;
    if (m->options.train) {
        memset(m->grad, 0, (size_t)code->params_bytes);
        for (int i = 0; i < 2; i++)
            memset(m->moment[i], 0, (size_t)code->params_bytes);
    }
}

void model_init(Model *m, uint64_t seed)
{
    const Graph *net = model_net(m);
    m->options.seed = seed;
    for (int p = 0; p < net->params; p++)
        for (int i = 0; i < net->param[p]->count; i++)
            m->flat[net->param[p]->offset + i] = param_initial(net->param[p], seed, i);
    set_parameters(m);
}

void model_load(Model *m, const char *safetensors)
{
    float *flat = NEW_ARRAY(m->c, float, params_count(model_net(m)));
    safetensors_load(model_net(m), safetensors, flat);        /* may fail: m->flat stays as it is */
    m->flat = flat;
    set_parameters(m);
}

const float *model_flat(Model *m)
{
    Code *code = m->code[0];
    if (m->options.train)
        code->unpack(code, m->flat, m->params);
    return m->flat;
}

void model_save(Model *m, const char *safetensors)
{
    safetensors_save(model_net(m), safetensors, model_flat(m));
}

/* --------------------------------------------------------------------- running */

/* Floats of one sample. */
static int64_t sample_size(const Shape *with_batch)
{
    return shape_count(with_batch) / with_batch->dim[0];
}

/* The samples first .. first + code's batch. */
static void forward_chunk(Model *m, Code *code, int64_t first, const float *const *in, float *const *out)
{
    const Program *p = code->program;
    int next = 0;
    for (int i = 0, given = 0; i < p->net->inputs; i++)
        if (!p->net->input[i]->loss_only)
            m->io[next++] = (void *)(in[given++] + first * sample_size(&p->net->input[i]->shape));
    for (int i = 0; i < p->outputs; i++)
        m->io[next++] = out[i] + first * sample_size(&p->output[i].node->shape);
    code->forward(code, m->params, m->io, m->workspace);
}

void model_forward(Model *m, int n, const float *const *in, float *const *out)
{
    Progress progress = progress_start(n);
    for (int first = 0; first < n;) {
        int batch = n - first < m->options.batch ? n - first : m->options.batch;
        forward_chunk(m, model_code(m, batch), first, in, out);
        first += batch;
        progress_show(&progress, first, NAN);
    }
    progress_clear(&progress);
}
