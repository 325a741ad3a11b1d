/* `cnnc predict`: samples from files through a network compiled in memory. */
#include "runtime.h"

#include <limits.h>
#include <string.h>
#include <strings.h>

typedef struct Predict {
    Context *c;
    const CommandOptions *options;
    Model *model;
    int samples;
    bool single;              /* one sample without a batch dimension, so are the results */
    const float **in;         /* of the inputs that forward needs, in order of declaration */
    float **out;              /* of the program's outputs */
    const char **out_file;    /* where each goes, or NULL */
} Predict;

/* ---------------------------------------------------------------- file names */

/* Tells which of the names each "[NAME=]FILE" means; a bare file is for the only
 * name there is.  file[i] stays NULL for names that got none. */
static void assign_files(Context *c, const char *option, int specs, const char *const *spec,
                         int names, const char *const *name, const char **file)
{
    Text known = {.c = c};
    for (int i = 0; i < names; i++)
        text_add(&known, "%s%s", i ? ", " : "", name[i]);
    for (int s = 0; s < specs; s++) {
        int which = names == 1 ? 0 : -1;
        const char *path = spec[s];
        for (int i = 0; i < names; i++) {
            size_t length = strlen(name[i]);
            if (!strncmp(spec[s], name[i], length) && spec[s][length] == '=') {
                which = i;
                path = spec[s] + length + 1;
            }
        }
        if (which < 0)
            fail(c, STATUS_USAGE, "--%s %s: expected NAME=FILE with a name of %s", option, spec[s],
                 known.data);
        if (file[which])
            fail(c, STATUS_USAGE, "--%s: two files for %s: %s and %s", option, name[which], file[which],
                 path);
        file[which] = path;
    }
}

/* ------------------------------------------------------------------- samples */

static bool is_picture(const char *path)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg", ".pgm", ".ppm", ".pnm"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot, endings[i]))
            return true;
    return false;
}

static const float *read_picture(Predict *p, const Input *in, const char *path, int *samples, bool *single)
{
    const int *dim = in->shape.dim;
    if (in->shape.rank != 4 || (dim[1] != 1 && dim[1] != 3))
        fail(p->c, STATUS_INPUT, "%s: a picture has 1 or 3 channels, height and width; input %s is %s", path,
             in->name, shape_text(p->c, &in->shape, true));
    *samples = 1;
    *single = true;
    return picture_read(p->c, path, dim[1], dim[2], dim[3]);
}

/* (N, sample shape), or the sample shape alone. */
static const float *read_array(Predict *p, const Input *in, const char *path, int *samples, bool *single)
{
    Array a = npy_read(p->c, path);
    int rank = in->shape.rank - 1;
    *single = a.rank == rank;
    bool fits = a.rank == rank || a.rank == rank + 1;
    for (int d = 0; fits && d < rank; d++)
        fits = a.dim[a.rank - rank + d] == in->shape.dim[1 + d];
    if (!fits) {
        Text found = {.c = p->c};
        text_add(&found, "%s", a.rank ? "" : "a single number");
        for (int d = 0; d < a.rank; d++)
            text_add(&found, "%s%d", d ? "x" : "", a.dim[d]);
        const char *sample = shape_text(p->c, &in->shape, true);
        fail(p->c, STATUS_INPUT, "%s: found shape %s, expected Nx%s or %s for input %s", path, found.data,
             sample, sample, in->name);
    }
    if (a.type != ARRAY_F32)
        fail(p->c, STATUS_INPUT, "%s: found whole numbers, expected float32 values", path);
    *samples = *single ? 1 : a.dim[0];
    return a.data;
}

static void read_inputs(Predict *p)
{
    Context *c = p->c;
    const Graph *net = model_net(p->model);
    const Input **input = NEW_ARRAY(c, const Input *, net->inputs);
    const char **name = NEW_ARRAY(c, const char *, net->inputs);
    const char **file = NEW_ARRAY(c, const char *, net->inputs);
    int inputs = 0;
    for (int i = 0; i < net->inputs; i++)
        if (!net->input[i]->loss_only) {
            input[inputs] = net->input[i];
            name[inputs++] = net->input[i]->name;
        }
    assign_files(c, "input", p->options->inputs, p->options->input, inputs, name, file);
    p->in = NEW_ARRAY(c, const float *, inputs);
    for (int i = 0; i < inputs; i++) {
        if (!file[i])
            fail(c, STATUS_USAGE, "no file for input %s: expected --input %s%sFILE", name[i],
                 inputs > 1 ? name[i] : "", inputs > 1 ? "=" : "");
        int samples = 0;
        bool single = false;
        p->in[i] = (is_picture(file[i]) ? read_picture : read_array)(p, input[i], file[i], &samples, &single);
        if (i == 0)
            p->samples = samples, p->single = single;
        else if (samples != p->samples || single != p->single)
            fail(c, STATUS_INPUT, "%s: found %d samples, but %s has %d", file[i], samples, file[0],
                 p->samples);
    }
}

/* ------------------------------------------------------------------- results */

/* Shape of one sample. */
static Shape output_sample(const Root *output)
{
    const Shape *s = &output->node->shape;
    return shape_of(s->rank - 1, s->dim + 1);
}

static void prepare_outputs(Predict *p)
{
    Context *c = p->c;
    const Program *program = model_program(p->model);
    const char **name = NEW_ARRAY(c, const char *, program->outputs);
    p->out = NEW_ARRAY(c, float *, program->outputs);
    p->out_file = NEW_ARRAY(c, const char *, program->outputs);
    for (int i = 0; i < program->outputs; i++) {
        Shape sample = output_sample(&program->output[i]);
        name[i] = program->output[i].name;
        p->out[i] = arena_alloc(c, (size_t)p->samples, (size_t)shape_count(&sample) * sizeof(float));
    }
    assign_files(c, "output", p->options->n_outputs, p->options->outputs, program->outputs, name,
                 p->out_file);
    for (int i = 0; i < program->outputs; i++)
        for (int k = 0; k < i && p->out_file[i]; k++)
            if (p->out_file[k] && !strcmp(p->out_file[i], p->out_file[k]) && strcmp(p->out_file[i], "-"))
                fail(c, STATUS_USAGE, "--output %s: given for %s and for %s", p->out_file[i], name[k],
                     name[i]);
}

static void write_outputs(void *argument)
{
    Predict *p = argument;
    const Program *program = model_program(p->model);
    for (int i = 0; i < program->outputs; i++) {
        if (!p->out_file[i])
            continue;
        Shape sample = output_sample(&program->output[i]);
        Array a = {.type = ARRAY_F32, .data = p->out[i], .count = (int64_t)p->samples * shape_count(&sample)};
        if (!p->single)
            a.dim[a.rank++] = p->samples;
        for (int d = 0; d < sample.rank; d++)
            a.dim[a.rank++] = sample.dim[d];
        npy_write(p->c, p->out_file[i], &a);
    }
}

/* "7" of a vector, "2,4,5" of a map; counted from 0. */
static const char *position_text(Context *c, const Shape *s, int flat)
{
    int index[MAX_RANK] = {0};
    for (int d = s->rank - 1; d >= 0; d--) {
        index[d] = flat % s->dim[d];
        flat /= s->dim[d];
    }
    Text t = {.c = c};
    for (int d = 0; d < s->rank; d++)
        text_add(&t, "%s%d", d ? "," : "", index[d]);
    return s->rank ? t.data : "value";
}

enum { STRONGEST = 5 };

/* Fills place[] with the largest values' places, the first of equals first; what is
 * not a number goes before all, since a reader must see it. */
static int find_strongest(const float *value, int count, int *place)
{
    int found = 0;
    for (int i = 0; i < count; i++) {
        int at = found;
        while (at > 0 && !(value[i] <= value[place[at - 1]]))
            at--;
        if (at == STRONGEST)
            continue;
        if (found < STRONGEST)
            found++;
        for (int k = found - 1; k > at; k--)
            place[k] = place[k - 1];
        place[at] = i;
    }
    return found;
}

static void print_strongest(Predict *p)
{
    const Program *program = model_program(p->model);
    for (int s = 0; s < p->samples; s++)
        for (int i = 0; i < program->outputs; i++) {
            Shape sample = output_sample(&program->output[i]);
            int count = shape_count(&sample), place[STRONGEST];
            const float *value = p->out[i] + (size_t)s * (size_t)count;
            int found = find_strongest(value, count, place);
            printf("%d %s", s, program->output[i].name);
            for (int k = 0; k < found; k++)
                printf("  %s: %.6g", position_text(p->c, &sample, place[k]), (double)value[place[k]]);
            putchar('\n');
        }
}

/* ------------------------------------------------------------------- command */

static void predict(void *argument)
{
    Predict *p = argument;
    const CommandOptions *o = p->options;
    if (o->weights)
        model_load(p->model, o->weights);
    read_inputs(p);
    prepare_outputs(p);
    model_forward(p->model, p->samples, p->in, p->out);
    if (o->n_outputs)
        write_together(p->c, model_program(p->model)->outputs, p->out_file, write_outputs, p);
    else
        print_strongest(p);
}

static void close_model(void *argument)
{
    model_close(((Predict *)argument)->model);
}

int command_predict(Context *c, const CommandOptions *o)
{
    if (!o->inputs)
        fail(c, STATUS_USAGE, "predict: expected --input FILE");
    Predict p = {.c = c, .options = o};
    ModelOptions options = {.batch = o->compile.batch, .jit = o->jit, .train = o->train,
                            .target = o->compile.target, .seed = o->seed,
                            .threads = o->compile.threads, .shapes = o->compile.shapes,
                            .winograd = o->compile.winograd, .optimize = o->compile.optimize};
    p.model = model_open(c, o->network, options);
    guard(c, predict, close_model, &p);
    return STATUS_OK;
}
