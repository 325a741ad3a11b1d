/* The training loop: mini-batches in shuffled order, one optimiser step each. */
#define _GNU_SOURCE
#include "runtime.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* --------------------------------------------------------------------- checks */

/* The one input of samples; the one input that only the loss reads, or NULL. */
static const Input *sample_input(Context *c, const Model *m, const Input **label)
{
    const Graph *net = model_net(m);
    const Input *sample = NULL;
    *label = NULL;
    for (int i = 0; i < net->inputs; i++) {
        const Input **to = net->input[i]->loss_only ? label : &sample;
        if (*to)
            fail(c, STATUS_INPUT, "%s: found the inputs \"%s\" and \"%s\", expected one that a dataset fills",
                 m->network, (*to)->name, net->input[i]->name);
        *to = net->input[i];
    }
    if (!sample)
        fail(c, STATUS_INPUT, "%s: found no input, expected one", m->network);
    return sample;
}

static void check_labels(Context *c, const Dataset *d, int classes)
{
    if (!d->label)
        fail(c, STATUS_INPUT, "%s: found no labels, expected one for each sample", d->name);
    for (int i = 0; i < d->count; i++)
        if (d->label[i] < 0 || d->label[i] >= classes)
            fail(c, STATUS_INPUT, "%s: label of sample %d: found %d, expected 0 to %d", d->name, i,
                 d->label[i], classes - 1);
}

static void check_samples(Context *c, const Dataset *d, const Input *input)
{
    Shape expected = shape_of(input->shape.rank - 1, input->shape.dim + 1);
    if (!shape_equal(&expected, &d->sample))
        fail(c, STATUS_INPUT, "%s: samples: found %s, expected %s as input \"%s\"", d->name,
             shape_text(c, &d->sample, false), shape_text(c, &expected, false), input->name);
    if (d->count < 1)
        fail(c, STATUS_INPUT, "%s: found no samples, expected at least one", d->name);
}

void labels_check(Context *c, const Model *m, const Dataset *d)
{
    const Input *label, *sample = sample_input(c, m, &label);
    check_samples(c, d, sample);
    if (!label)
        fail(c, STATUS_INPUT, "%s: found no loss with labels, expected one made by cross_entropy",
             m->network);
    else if (label->dtype != I32 || shape_count(&label->shape) != label->shape.dim[0])
        fail(c, STATUS_INPUT, "%s: the loss reads \"%s\" of shape %s, a dataset has one class a sample",
             m->network, label->name, shape_text(c, &label->shape, true));
    else
        check_labels(c, d, label->classes);
}

/* -------------------------------------------------------------------- one epoch */

typedef struct Epoch {
    Model *m;
    const Dataset *d;
    const Fit *fit;
    const Input *sample, *label;
    Code *whole, *rest;        /* of a full batch and of the last, short one */
    int *order;
    float *value;              /* one gathered batch */
    int32_t *target;
    FILE *log;
    Record *record;            /* NULL: none; likewise */
    Checkpoint *checkpoint;
    int first;                 /* sample with which the epoch goes on */
    Progress progress;
    double sum;                /* of the losses of all samples so far */
} Epoch;

/* Fisher-Yates: every order is equally likely (up to 2^-32 of bias). */
static void shuffle(int *order, int count, uint64_t seed)
{
    enum { STREAM = 0x73687566 };                /* apart from those of parameters and dropout */
    for (int i = count - 1; i > 0; i--) {
        int j = (int)((uint64_t)random_bits(seed, STREAM, (uint32_t)i) * ((uint64_t)i + 1) >> 32);
        int swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

/* Dropout draws anew in every step: the seed of the model and the number of the
 * step, mixed by an odd constant so that neighbouring models share no step. */
static uint64_t step_seed(const Model *m)
{
    return m->options.seed + (uint64_t)m->steps * 0x9E3779B97F4A7C15u;
}

static void gather(Epoch *e, int first, int count)
{
    size_t size = (size_t)shape_count(&e->d->sample);
    for (int i = 0; i < count; i++) {
        int from = e->order[first + i];
        memcpy(e->value + (size_t)i * size, e->d->value + (size_t)from * size, size * sizeof(float));
        e->target[i] = e->d->label[from];
    }
}

static void optimize(Model *m, const Optimizer *o)
{
    Code *code = m->code[0];
    if (m->adam != o->adam) {
        for (int i = 0; i < 2; i++)
            memset(m->moment[i], 0, (size_t)code->params_bytes);
        m->adam = o->adam;
        m->optimizer_steps = 0;
    }
    m->optimizer_steps++;
    if (o->adam)
        code->adam(code, m->params, m->grad, m->moment[0], m->moment[1], m->optimizer_steps, o->lr, o->beta1,
                   o->beta2, o->eps, o->weight_decay);
    else
        code->sgd(code, m->params, m->grad, m->moment[0], o->lr, o->momentum, o->weight_decay);
}

/* Mean loss of the batch before the step. */
static float step(Epoch *e, int first, int count)
{
    Model *m = e->m;
    gather(e, first, count);
    void *in[2];
    in[e->sample->index] = e->value;
    in[e->label->index] = e->target;
    Code *code = count == m->options.batch ? e->whole : e->rest;
    float loss = code->backward(code, m->params, in, m->grad, NULL, m->workspace, step_seed(m), false);
    optimize(m, &e->fit->optimizer);
    m->steps++;
    return loss;
}

/* A line that does not fit on the disk leaves no half of itself. */
static void log_step(Epoch *e, float loss)
{
    const Model *m = e->m;
    if (!e->log)
        return;
    off_t end = ftello(e->log);
    if (fprintf(e->log, "%lld,%lld,%.9g,%.9g\n", (long long)m->steps, (long long)m->epochs + 1, (double)loss,
                (double)e->fit->optimizer.lr) >= 0)
        return;
    int error = errno;
    if (end >= 0 && ftruncate(fileno(e->log), end) != 0)
        error = errno;
    fail(m->c, STATUS_INPUT, "%s: cannot be written: %s", e->fit->log, strerror(error));
}

static int64_t log_bytes(const Epoch *e)
{
    return e->log ? (int64_t)ftello(e->log) : 0;
}

/* For those who watch, and for the run that goes on if this one is interrupted. */
static void note_step(Epoch *e, int done, int count, float loss)
{
    Model *m = e->m;
    int n = e->d->count;
    if (e->record)
        record_step(e->record, m, (double)loss, count, (double)m->epochs + (double)done / n,
                    (double)e->fit->optimizer.lr);
    Position place = {done, n, e->sum, e->fit->shuffle_seed, log_bytes(e)};
    if (e->checkpoint && done < n)
        checkpoint_step(e->checkpoint, m, &place);
}

static void run_epoch(void *argument)
{
    Epoch *e = argument;
    Model *m = e->m;
    int n = e->d->count;
    bool finite = true;
    e->progress = progress_start(n);
    for (int first = e->first, count; first < n; first += count) {
        count = n - first < m->options.batch ? n - first : m->options.batch;
        float loss = step(e, first, count);
        log_step(e, loss);
        e->sum += (double)loss * count;
        note_step(e, first + count, count, loss);
        progress_show(&e->progress, first + count, e->sum / (first + count));
        if (finite && !isfinite(loss)) {
            progress_clear(&e->progress);
            fprintf(stderr, "%s: the loss is %s in step %lld\n", m->network,
                    isnan(loss) ? "not a number" : "infinite", (long long)m->steps);
            finite = false;
        }
    }
    m->epochs++;
    if (e->record)
        record_epoch(e->record);
    if (e->checkpoint)
        checkpoint_epoch(e->checkpoint, m, e->sum / n, n, log_bytes(e));
}

/* ------------------------------------------------------------------------- fit */

static void open_log(Epoch *e)
{
    const char *path = e->fit->log;
    if (!path)
        return;
    e->log = fopen(path, "a");
    if (!e->log)
        fail(e->m->c, STATUS_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    setvbuf(e->log, NULL, _IONBF, 0);
    fseeko(e->log, 0, SEEK_END);
    if (ftell(e->log) == 0)
        fputs("step,epoch,loss,lr\n", e->log);
}

static void end_epoch(void *argument)
{
    Epoch *e = argument;
    progress_clear(&e->progress);
    if (e->log)
        fclose(e->log);
}

static void open_rest(void *argument)
{
    Epoch *e = argument;
    e->rest = model_code(e->m, e->d->count % e->m->options.batch);
}

static void fit_in(Context *work, void *argument)
{
    Epoch *e = argument;
    Model *m = e->m;
    int n = e->d->count, batch = m->options.batch;
    e->order = NEW_ARRAY(work, int, n);
    for (int i = 0; i < n; i++)
        e->order[i] = i;
    if (e->fit->shuffle)
        shuffle(e->order, n, e->fit->shuffle_seed);
    e->value = arena_alloc(work, (size_t)batch * (size_t)shape_count(&e->d->sample), sizeof(float));
    e->target = NEW_ARRAY(work, int32_t, batch);
    e->whole = model_code(m, batch);
    if (n % batch && !attempt(m->c, open_rest, e))
        fail(m->c, m->c->status, "%s: the last batch has %d of %d samples: %s", e->d->name, n % batch, batch,
             m->c->message);
    open_log(e);
    guard(m->c, run_epoch, end_epoch, e);
}

/* The epoch in which the checkpoint was written goes on there, with the log as it was then. */
static void go_on(Epoch *e)
{
    Checkpoint *k = e->checkpoint;
    const Position place = k->place;
    k->place = (Position){0};
    if (place.position && (place.order != e->fit->shuffle_seed))
        fail(e->m->c, STATUS_INPUT, "%s: is of another run: its epoch has another order of samples", k->path);
    e->first = place.position;
    e->sum = place.sum;
    if (e->fit->log && place.log && truncate(e->fit->log, (off_t)place.log) != 0 && errno != ENOENT)
        fail(e->m->c, STATUS_INPUT, "%s: cannot be cut: %s", e->fit->log, strerror(errno));
}

/* Steps through all samples once.  Same seeds, same machine: same bits. */
double model_fit(Model *m, const Dataset *d, const Fit *fit)
{
    if (!m->options.train)
        fail(m->c, STATUS_INPUT, "%s: fit: the model was compiled without training", m->network);
    labels_check(m->c, m, d);
    Epoch e = { .m = m, .d = d, .fit = fit };
    e.sample = sample_input(m->c, m, &e.label);
    e.checkpoint = checkpoint_open(m, fit, d->count);
    if (e.checkpoint && m->epochs < e.checkpoint->epochs)
        return e.checkpoint->loss[m->epochs++];  /* done before the interruption */
    if (e.checkpoint)
        go_on(&e);
    e.record = record_open(m, fit, d->count);
    scratch(m->c, fit_in, &e);
    return e.sum / d->count;
}

/* -------------------------------------------------------------------- accuracy */

typedef struct Count { Model *m; const Dataset *d; int classes, right; } Count;

/* The first of the largest, as PyTorch's argmax. */
static int strongest(const float *score, int classes)
{
    int best = 0;
    for (int i = 1; i < classes; i++)
        if (score[i] > score[best])
            best = i;
    return best;
}

static void count_right(Context *work, void *argument)
{
    Count *count = argument;
    const Dataset *d = count->d;
    int batch = count->m->options.batch, classes = count->classes;
    size_t size = (size_t)shape_count(&d->sample);
    float *score = arena_alloc(work, (size_t)batch * (size_t)classes, sizeof(float));
    Progress progress = progress_start(d->count);
    for (int first = 0, n; first < d->count; first += n) {
        n = d->count - first < batch ? d->count - first : batch;
        const float *in = d->value + (size_t)first * size;
        model_forward(count->m, n, &in, &score);
        for (int i = 0; i < n; i++) {
            const float *scores = score + (size_t)i * (size_t)classes;
            int answer = strongest(scores, classes), label = d->label[first + i];
            count->right += answer == label;
            if (count->m->record)
                record_sample(count->m->record, in + (size_t)i * size, scores, label, answer);
        }
        progress_show(&progress, first + n, NAN);
    }
    progress_clear(&progress);
}

double model_accuracy(Model *m, const Dataset *d)
{
    const Program *p = model_program(m);
    const Input *label;
    check_samples(m->c, d, sample_input(m->c, m, &label));
    const Shape *out = &p->output[0].node->shape;
    if (p->outputs != 1 || out->rank != 2)
        fail(m->c, STATUS_INPUT, "%s: accuracy: found %d outputs, the first %s, expected one score a class",
             m->network, p->outputs, shape_text(m->c, out, true));
    Count count = { .m = m, .d = d, .classes = out->dim[1] };
    check_labels(m->c, d, count.classes);
    if (m->record)
        record_score_begin(m->record, d, count.classes);
    scratch(m->c, count_right, &count);
    double fraction = (double)count.right / d->count;
    if (m->record)
        record_score_end(m->record, m, fraction);
    return fraction;
}
