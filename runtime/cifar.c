/* CIFAR-10's binary version: records of a label and a 32 x 32 picture as planes of
 * red, green and blue, and nothing else, so the file's length is the only check of
 * its kind.  (Krizhevsky: The CIFAR-10 dataset, "binary version".) */
#include "runtime.h"

enum { SIDE = 32, PIXELS = 3 * SIDE * SIDE, RECORD = 1 + PIXELS, CLASSES = 10 };

typedef struct Reading {
    Context *c;
    int files;
    const char *const *file;
    Dataset *set;
} Reading;

/* Record `number` of a file becomes sample i. */
static void read_record(Context *c, const char *path, int number, const unsigned char *record,
                        Dataset *d, int i)
{
    if (record[0] >= CLASSES)
        fail(c, STATUS_INPUT, "%s: label %d: found %d, expected 0 to %d",
             path, number, record[0], CLASSES - 1);
    d->label[i] = record[0];
    unit_from_bytes(d->value + (size_t)i * PIXELS, record + 1, PIXELS);
}

static void read_dataset(Context *work, void *argument)
{
    Reading *r = argument;
    if (r->files < 1)
        fail(work, STATUS_INPUT, "cifar: found no file, expected at least one");
    const unsigned char **data = NEW_ARRAY(work, const unsigned char *, r->files);
    size_t *length = NEW_ARRAY(work, size_t, r->files);
    int64_t count = 0;
    for (int f = 0; f < r->files; f++) {
        data[f] = file_read_gz(work, r->file[f], &length[f]);
        if (length[f] == 0 || length[f] % RECORD != 0)
            fail(work, STATUS_INPUT, "%s: found %zu bytes, expected a multiple of %d (CIFAR-10 binary)",
                 r->file[f], length[f], RECORD);
        count += (int64_t)(length[f] / RECORD);
    }

    Dataset *d = dataset_new(r->c, r->file[0], count, shape_of(3, (int[]){3, SIDE, SIDE}), true);
    r->set = d;
    for (int f = 0, i = 0; f < r->files; f++)
        for (int n = 0; n < (int)(length[f] / RECORD); n++, i++)
            read_record(work, r->file[f], n, data[f] + (size_t)n * RECORD, d, i);
    dataset_count_classes(d);
}

Dataset *data_cifar(Context *c, int files, const char *const *file)
{
    Reading r = {.c = c, .files = files, .file = file};
    scratch(c, read_dataset, &r);
    return r.set;
}
