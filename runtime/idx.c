/* IDX files, the format of MNIST and Fashion-MNIST: two zero bytes, the type (8:
 * unsigned bytes), the rank, the dims as big-endian 32-bit numbers, the elements.
 * (LeCun, Cortes, Burges: The MNIST database, "file formats".) */
#include "runtime.h"

#include <string.h>

enum { UNSIGNED_BYTE = 8, MAX_DIMS = 4, MAX_HEAD = 4 + 4 * MAX_DIMS };

typedef struct Idx {
    int rank;
    uint32_t dim[MAX_DIMS];
    const unsigned char *byte;
} Idx;

static uint32_t big_endian(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static Idx read_head(Context *c, const char *path, const unsigned char *head, size_t length,
                     int low, int high)
{
    if (length < 4 || head[0] != 0 || head[1] != 0 || head[2] != UNSIGNED_BYTE)
        fail(c, STATUS_INPUT, "%s: IDX magic: found %s, expected 0x000008nn (unsigned bytes, nn dimensions)",
             path, length < 4 ? "less than 4 bytes" : format(c, "0x%08x", (unsigned)big_endian(head)));
    Idx idx = {.rank = head[3]};
    if (idx.rank < low || idx.rank > high)
        fail(c, STATUS_INPUT, "%s: IDX dimensions: found %d, expected %s", path, idx.rank,
             low == high ? format(c, "%d", low) : format(c, "%d to %d", low, high));
    if (length < 4 + 4 * (size_t)idx.rank)
        fail(c, STATUS_INPUT, "%s: IDX header: found %zu bytes, expected %d", path, length, 4 + 4 * idx.rank);
    for (int d = 0; d < idx.rank; d++)
        idx.dim[d] = big_endian(head + 4 + 4 * d);
    return idx;
}

/* The size that the head promises bounds what is inflated; the file must keep it. */
static Idx read_idx(Context *c, const char *path, int low, int high)
{
    size_t stored, length;
    unsigned char *file = file_read(c, path, &stored);
    length = stored;
    unsigned char *head = gunzip(c, path, file, &length, MAX_HEAD);
    Idx idx = read_head(c, path, head, length, low, high);

    size_t start = 4 + 4 * (size_t)idx.rank, total = 1;
    bool overflow = false;
    for (int d = 0; d < idx.rank; d++) {
        overflow |= __builtin_mul_overflow(total, (size_t)idx.dim[d], &total);
        if (idx.dim[d] == 0 || idx.dim[d] > INT32_MAX)
            fail(c, STATUS_INPUT, "%s: IDX dimension %d: found %u, expected 1 to %d",
                 path, d + 1, (unsigned)idx.dim[d], INT32_MAX);
    }
    if (overflow || __builtin_add_overflow(total, start + 1, &total))
        fail(c, STATUS_INPUT, "%s: IDX dimensions: found more elements than memory can hold", path);
    total -= 1;
    length = stored;
    idx.byte = gunzip(c, path, file, &length, total + 1) + start;
    if (length != total)
        fail(c, STATUS_INPUT, "%s: found %s%zu bytes, expected %zu by the IDX header",
             path, length > total ? "at least " : "", length, total);
    return idx;
}

/* {N, H, W} are grey pictures, 1 x H x W each. */
static Shape sample_shape(const Idx *idx)
{
    Shape s = {0};
    if (idx->rank == 3)
        s.dim[s.rank++] = 1;
    for (int d = 1; d < idx->rank; d++)
        s.dim[s.rank++] = (int)idx->dim[d];
    return s;
}

typedef struct Reading { Context *c; const char *images, *labels; Dataset *set; } Reading;

static void read_dataset(Context *work, void *argument)
{
    Reading *r = argument;
    Idx image = read_idx(work, r->images, 2, MAX_DIMS);
    Idx label = {0};
    if (r->labels)
        label = read_idx(work, r->labels, 1, 1);
    if (r->labels && label.dim[0] != image.dim[0])
        fail(work, STATUS_INPUT, "%s: found %u labels, expected %u, one for each image of %s",
             r->labels, (unsigned)label.dim[0], (unsigned)image.dim[0], r->images);

    Dataset *d = dataset_new(r->c, r->images, image.dim[0], sample_shape(&image), r->labels != NULL);
    r->set = d;
    unit_from_bytes(d->value, image.byte, (size_t)d->count * (size_t)shape_count(&d->sample));
    if (!r->labels)
        return;
    for (int i = 0; i < d->count; i++)
        d->label[i] = label.byte[i];
    dataset_count_classes(d);
}

Dataset *data_idx(Context *c, const char *images, const char *labels)
{
    Reading r = {.c = c, .images = images, .labels = labels};
    scratch(c, read_dataset, &r);
    return r.set;
}
