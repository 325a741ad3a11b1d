/* Labelled samples: what the readers share, and samples kept in two .npy files. */
#include "runtime.h"

#include <limits.h>
#include <string.h>

Dataset *dataset_new(Context *c, const char *name, int64_t count, Shape sample, bool labelled)
{
    if (count < 1 || count > INT_MAX)
        fail(c, STATUS_INPUT, "%s: found %lld samples, expected 1 to %d", name, (long long)count, INT_MAX);
    int elements = 1;
    for (int d = 0; d < sample.rank; d++)
        if (sample.dim[d] < 1 || __builtin_mul_overflow(elements, sample.dim[d], &elements))
            fail(c, STATUS_INPUT, "%s: found a sample of %s, expected 1 to %d elements",
                 name, shape_text(c, &sample, false), INT_MAX);
    Dataset *d = NEW(c, Dataset);
    *d = (Dataset){.name = format(c, "%s", name), .count = (int)count, .sample = sample};
    d->value = arena_alloc(c, (size_t)count * (size_t)elements, sizeof(float));
    if (labelled)
        d->label = NEW_ARRAY(c, int32_t, count);
    return d;
}

void dataset_count_classes(Dataset *d)
{
    for (int i = 0; i < d->count; i++)
        if (d->label[i] >= d->classes)
            d->classes = d->label[i] + 1;
}

void unit_from_bytes(float *unit, const unsigned char *byte, size_t count)
{
    for (size_t i = 0; i < count; i++)
        unit[i] = (float)byte[i] / 255.0f;
}

typedef struct Reading { Context *c; const char *values, *labels; Dataset *set; } Reading;

static int64_t label_at(const Array *a, int i)
{
    return a->type == ARRAY_I32 ? ((const int32_t *)a->data)[i] : ((const int64_t *)a->data)[i];
}

static void read_labels(Context *work, const Reading *r)
{
    Dataset *d = r->set;
    Array a = npy_read(work, r->labels);
    if (a.type == ARRAY_F32 || a.rank != 1)
        fail(work, STATUS_INPUT, "%s: labels: found %d dimensions of %s, expected one of int32 or int64",
             r->labels, a.rank, a.type == ARRAY_F32 ? "float32" : "integers");
    if (a.count != d->count)
        fail(work, STATUS_INPUT, "%s: found %lld labels, expected %d, one for each sample of %s",
             r->labels, (long long)a.count, d->count, r->values);
    for (int i = 0; i < d->count; i++) {
        int64_t label = label_at(&a, i);
        if (label < 0 || label >= INT_MAX)
            fail(work, STATUS_INPUT, "%s: label %d: found %lld, expected 0 to %d",
                 r->labels, i, (long long)label, INT_MAX - 1);
        d->label[i] = (int32_t)label;
    }
    dataset_count_classes(d);
}

static void read_dataset(Context *work, void *argument)
{
    Reading *r = argument;
    Array a = npy_read(work, r->values);
    if (a.type != ARRAY_F32 || a.rank < 2 || a.rank > MAX_RANK)
        fail(work, STATUS_INPUT, "%s: samples: found %d dimensions of %s, expected 2 to %d of float32",
             r->values, a.rank, a.type == ARRAY_F32 ? "float32" : "integers", MAX_RANK);
    r->set = dataset_new(r->c, r->values, a.dim[0], shape_of(a.rank - 1, a.dim + 1), r->labels != NULL);
    memcpy(r->set->value, a.data, (size_t)a.count * sizeof(float));
    if (r->labels)
        read_labels(work, r);
}

Dataset *data_npy(Context *c, const char *values, const char *labels)
{
    Reading r = {.c = c, .values = values, .labels = labels};
    scratch(c, read_dataset, &r);
    return r.set;
}
