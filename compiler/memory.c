/* Memory as a contract: what is alive in a workspace while each kernel runs, for people;
 * and limits that a program must keep. */
#include "cnnc.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { NAMED = 5 };           /* of the largest, in a line */

/* Counted once, by whoever's memory it is. */
static bool alive(const Storage *s, int kernel)
{
    bool home = s->place == PLACE_WORKSPACE && !s->shares && s->birth >= 0;
    return home && s->birth <= kernel && kernel <= s->death;
}

static int64_t live_bytes(const Function *f, int kernel)
{
    int64_t bytes = 0;
    for (int i = 0; i < f->storages; i++)
        bytes += alive(f->storage[i], kernel) ? storage_bytes(f->storage[i]) : 0;
    return bytes;
}

/* The kernel during which most is alive. */
static int peak_of(const Function *f)
{
    int peak = 0;
    for (int k = 1; k < f->kernels; k++)
        if (live_bytes(f, k) > live_bytes(f, peak))
            peak = k;
    return peak;
}

/* What memory is called while a kernel runs: by its last tenant that was made by then. */
static const char *tenant(const Function *f, const Storage *home, int kernel)
{
    const Storage *last = home;
    for (int i = 0; i < f->storages; i++) {
        const Storage *s = f->storage[i], *owner = s;
        while (owner->shares)
            owner = owner->shares;
        if (owner == home && s->birth >= 0 && s->birth <= kernel && s->birth > last->birth)
            last = s;
    }
    return last->name;
}

static int by_size(const void *a, const void *b)
{
    const Storage *x = *(Storage *const *)a, *y = *(Storage *const *)b;
    int64_t p = storage_bytes(x), q = storage_bytes(y);
    return p != q ? (p > q ? -1 : 1) : strcmp(x->name, y->name);
}

/* The tensors alive, largest first: "conv1 65536, relu2 32768". */
static const char *tenants(const Function *f, int kernel, bool sizes)
{
    Text t = {.c = f->c};
    Storage **list = NEW_ARRAY(f->c, Storage *, f->storages + 1);
    int count = 0;
    for (int i = 0; i < f->storages; i++)
        if (alive(f->storage[i], kernel))
            list[count++] = f->storage[i];
    qsort(list, (size_t)count, sizeof *list, by_size);
    for (int i = 0; i < count && i < NAMED; i++) {
        text_add(&t, "%s%s", i ? ", " : "", tenant(f, list[i], kernel));
        if (sizes)
            text_add(&t, " %" PRId64, storage_bytes(list[i]));
    }
    if (count > NAMED)
        text_add(&t, " and %d more", count - NAMED);
    return count ? t.data : "-";
}

/* -- for people -- */

enum { BAR = 40 };

static const char *step_name(const Function *f, int k)
{
    const char *layers = kernel_layers(f->c, f->kernel[k]);
    return *layers ? layers : f->kernel[k]->name;
}

static void print_function(const Function *f, FILE *out)
{
    int width = 6;
    for (int k = 0; k < f->kernels; k++)
        if ((int)strlen(step_name(f, k)) > width)
            width = (int)strlen(step_name(f, k));
    int64_t most = f->kernels ? live_bytes(f, peak_of(f)) : 0;
    fprintf(out, "%s: %" PRId64 " bytes of workspace\n\n", f->name, f->workspace);
    fprintf(out, "step  %-*s  %10s  %-*s  tensors alive\n", width, "layers", "live bytes", BAR, "");
    for (int k = 0; k < f->kernels; k++) {
        char bar[BAR + 1] = "";
        int64_t bytes = live_bytes(f, k);
        memset(bar, '#', most ? (size_t)((bytes * BAR + most / 2) / most) : 0);
        fprintf(out, "%4d  %-*s  %10" PRId64 "  %-*s  %s\n", k + 1, width, step_name(f, k), bytes, BAR, bar,
                tenants(f, k, false));
    }
}

void memory_print(const Program *inference, const Program *training, FILE *out)
{
    print_function(inference->forward, out);
    if (training) {
        fputc('\n', out);
        print_function(training->backward, out);
    }
}

/* -- limits -- */

static void check_workspace(const Program *p, const Function *f)
{
    int64_t most = p->options.max_workspace;
    if (!f || !most || f->workspace <= most)
        return;
    int k = peak_of(f);
    fail(p->c, STATUS_INPUT, "%s: %s takes %" PRId64 " bytes of workspace, --max-workspace allows %" PRId64
         "; the peak is at %s: %s", p->net->file, f->name, f->workspace, most, step_name(f, k),
         tenants(f, k, true));
}

static int by_count(const void *a, const void *b)
{
    const Field *x = a, *y = b;
    return x->count != y->count ? (x->count > y->count ? -1 : 1) : strcmp(x->name, y->name);
}

static void check_params(const Program *p)
{
    int64_t most = p->options.max_params;
    if (!most || p->params_bytes <= most)
        return;
    Text t = {.c = p->c};
    Field *field = NEW_ARRAY(p->c, Field, p->fields);
    memcpy(field, p->field, (size_t)p->fields * sizeof *field);
    qsort(field, (size_t)p->fields, sizeof *field, by_count);
    for (int i = 0; i < p->fields && i < NAMED; i++)
        text_add(&t, "%s%s %" PRId64, i ? ", " : "", field[i].name, (int64_t)sizeof(float) * field[i].count);
    fail(p->c, STATUS_INPUT, "%s: the parameters take %" PRId64 " bytes, --max-params allows %" PRId64
         "; the largest are %s", p->net->file, p->params_bytes, most, t.data);
}

void memory_check(const Program *p)
{
    check_workspace(p, p->forward);
    check_workspace(p, p->loss);
    check_workspace(p, p->backward);
    check_params(p);
}
