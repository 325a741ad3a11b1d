/* What a training run leaves for people: points of its curves, sampled some fifty times an
 * epoch, as a page (report.c), a CSV file and TensorBoard's event files (events.c). */
#include "runtime.h"

#include <math.h>
#include <string.h>

enum { POINTS_PER_EPOCH = 50, WRITE_MS = 1000 };

/* -------------------------------------------------------------------- layers */

int layer_norms(const Graph *net, const float *flat, const char **name, double *norm)
{
    int layers = 0;
    for (int k = 0; k < net->params;) {
        const Layer *layer = net->param[k]->layer;
        double sum = 0;
        bool learns = false;
        for (; k < net->params && net->param[k]->layer == layer; k++) {
            const Param *p = net->param[k];
            for (int i = 0; p->trainable && !p->statistic && i < p->count; i++) {
                sum += (double)flat[p->offset + i] * (double)flat[p->offset + i];
                learns = true;
            }
        }
        if (!learns)
            continue;
        name[layers] = layer->name;
        norm[layers++] = sqrt(sum);
    }
    return layers;
}

/* -------------------------------------------------------------------- writing */

static const char *csv_text(const Record *r)
{
    Text t = {.c = r->c};
    text_add(&t, "step,epoch,loss,lr,samples_per_second,accuracy");
    for (int i = 0; i < 2 * r->layers; i++)
        text_add(&t, ",%s:%s", i < r->layers ? "gradient" : "weights", r->layer[i % r->layers]);
    text_add(&t, "\n");
    for (int k = 0, score = 0; k < r->points; k++) {
        const Point *p = &r->point[k];
        text_add(&t, "%lld,%.6g,%.9g,%.9g,%.6g,", (long long)p->step, p->epoch, p->loss, p->lr, p->rate);
        int64_t next = k + 1 < r->points ? r->point[k + 1].step : INT64_MAX;
        const Score *last = NULL;                /* the one measured before the next point */
        for (; score < r->scores && r->score[score].step < next; score++)
            last = &r->score[score];
        if (last)
            text_add(&t, "%.9g", last->accuracy);
        for (int i = 0; i < 2 * r->layers; i++)
            text_add(&t, ",%.6g", p->norm[i]);
        text_add(&t, "\n");
    }
    return t.data;
}

typedef struct Writing { const Record *r; bool running; } Writing;

static void write_all(Context *work, void *argument)
{
    Writing *w = argument;
    Record r = *w->r;
    r.c = work;                                  /* the texts go at once */
    const char *page = r.report ? report_text(&r, w->running) : NULL, *csv = r.csv ? csv_text(&r) : NULL;
    if (page)
        file_write(work, r.report, page, strlen(page));
    if (csv)
        file_write(work, r.csv, csv, strlen(csv));
}

static void record_write(Record *r, bool running)
{
    scratch(r->c, write_all, &(Writing){r, running});
    r->written = milliseconds();
}

/* ---------------------------------------------------------------------- running */

Record *record_open(Model *m, const Fit *fit, int samples)
{
    Record *r = m->record;
    if (!fit->report && !fit->csv && !fit->tensorboard)
        return NULL;
    if (!r) {
        const Graph *net = model_net(m);
        r = m->record = NEW(m->c, Record);
        *r = (Record){.c = m->c, .network = net->name, .began = milliseconds(), .last = milliseconds()};
        r->layer = NEW_ARRAY(m->c, const char *, net->params + 1);
        r->layers = layer_norms(net, m->flat, r->layer, NEW_ARRAY(m->c, double, net->params + 1));
    }
    r->report = fit->report ? format(m->c, "%s", fit->report) : r->report;
    r->csv = fit->csv ? format(m->c, "%s", fit->csv) : r->csv;
    if (fit->tensorboard && !r->tensorboard)
        r->tensorboard = events_open(m->c, fit->tensorboard);
    int steps = (samples + m->options.batch - 1) / m->options.batch;
    r->every = (steps + POINTS_PER_EPOCH - 1) / POINTS_PER_EPOCH;
    return r;
}

static void add_point(Record *r, Model *m, double epoch, double lr)
{
    Code *code = m->code[0];
    double now = milliseconds(), passed = now - r->last;
    Point p = {.step = m->steps, .epoch = epoch, .loss = r->sum / r->samples, .lr = lr,
               .rate = passed > 0 ? 1e3 * r->samples / passed : 0};
    p.norm = NEW_ARRAY(r->c, double, 2 * r->layers + 1);
    if (!r->flat)
        r->flat = NEW_ARRAY(r->c, float, params_count(model_net(m)));
    code->unpack(code, r->flat, m->grad);
    layer_norms(model_net(m), r->flat, r->layer, p.norm);
    code->unpack(code, r->flat, m->params);
    layer_norms(model_net(m), r->flat, r->layer, p.norm + r->layers);
    PUSH(r->c, r->point, r->points) = p;
    if (r->tensorboard)
        events_point(r, &p);
    r->sum = r->samples = 0;
    r->last = milliseconds();
}

void record_step(Record *r, Model *m, double loss, int samples, double epoch, double lr)
{
    bool whole = epoch == floor(epoch);          /* the last step of an epoch */
    r->sum += loss * samples;
    r->samples += samples;
    if (++r->steps % r->every && r->points && !whole)
        return;
    add_point(r, m, epoch, lr);
    if (milliseconds() - r->written > WRITE_MS)
        record_write(r, true);
}

void record_epoch(Record *r)
{
    record_write(r, true);
}

/* The worst mistakes in front: those in which the right class got the least of the votes. */
static void keep_mistake(Record *r, const Mistake *mistake)
{
    int at = r->mistakes < WORST ? r->mistakes++ : WORST;
    while (at > 0 && r->mistake[at - 1].right > mistake->right) {
        if (at < WORST)
            r->mistake[at] = r->mistake[at - 1];
        at--;
    }
    if (at < WORST)
        r->mistake[at] = *mistake;
}

void record_score_begin(Record *r, const Dataset *d, int classes)
{
    if (r->classes != classes)
        r->confusion = NEW_ARRAY(r->c, int, classes * classes);
    memset(r->confusion, 0, sizeof(int) * (size_t)classes * (size_t)classes);
    r->classes = classes;
    r->mistakes = 0;
    r->data = format(r->c, "%s", d->name);
    r->sample = d->sample;
}

/* Softmax's share of the right class. */
static double share(const float *score, int classes, int right)
{
    double sum = 0;
    for (int k = 0; k < classes; k++)
        sum += exp((double)score[k] - (double)score[right]);
    return 1 / sum;
}

void record_sample(Record *r, const float *sample, const float *score, int label, int answer)
{
    if (r->classes <= MOST_CLASSES)
        r->confusion[label * r->classes + answer]++;
    if (label != answer)
        keep_mistake(r, &(Mistake){sample, label, answer, share(score, r->classes, label)});
}

void record_score_end(Record *r, Model *m, double accuracy)
{
    size_t size = (size_t)shape_count(&r->sample);
    for (int i = 0; i < r->mistakes; i++) {      /* the dataset may go before the page is written */
        float *copy = NEW_ARRAY(r->c, float, size);
        memcpy(copy, r->mistake[i].sample, size * sizeof(float));
        r->mistake[i].sample = copy;
    }
    Score s = {m->steps, r->points ? r->point[r->points - 1].epoch : 0, accuracy};
    PUSH(r->c, r->score, r->scores) = s;
    if (r->tensorboard)
        events_score(r, &s);
    record_write(r, true);
}

static void finish(void *argument)
{
    record_write(argument, false);
}

void record_close(Record *r)
{
    if (!attempt(r->c, finish, r))
        fprintf(stderr, "cnnc: %s\n", r->c->message);
    if (r->tensorboard)
        fclose(r->tensorboard);
    r->tensorboard = NULL;
}
