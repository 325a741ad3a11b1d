/* Gzip files (RFC 1952), by zlib. */
#include "runtime.h"

#include <string.h>
#include <zlib.h>

#define WHOLE_LIMIT ((size_t)1 << 32)      /* of a file inflated as a whole */

enum {
    DEFLATE_RATIO = 1032,                  /* deflate expands no byte to more (zlib's technical notes) */
    SMALLEST = 18,                         /* header and trailer of a member */
    CALL_LIMIT = 1 << 30                   /* zlib counts in unsigned int */
};

static bool is_gzip(const unsigned char *data, size_t length)
{
    return length >= 2 && data[0] == 0x1f && data[1] == 0x8b;
}

/* zlib works in the arena, so a failure leaves nothing of it behind. */
static void *zlib_alloc(void *context, unsigned count, unsigned size)
{
    return arena_alloc(context, count, size);
}

static void zlib_free(void *context, void *memory)
{
    (void)context;
    (void)memory;
}

/* What the last member's trailer claims, as far as it can be true. */
static size_t claimed_size(const unsigned char *data, size_t length)
{
    if (length < SMALLEST)
        return 0;
    const unsigned char *end = data + length;
    size_t claimed = end[-4] | (size_t)end[-3] << 8 | (size_t)end[-2] << 16 | (size_t)end[-1] << 24;
    return claimed / DEFLATE_RATIO > length ? DEFLATE_RATIO * length : claimed;
}

typedef struct Gunzip {
    Context *c;
    z_stream z;
    unsigned char *data, *out;
    size_t length, read;                   /* of data; how much of it is done */
    size_t capacity, written;              /* of out */
} Gunzip;

/* One call of zlib on what is left of both buffers; its status. */
static int gunzip_step(Gunzip *g)
{
    size_t source = g->length - g->read, room = g->capacity - g->written;
    unsigned in = source < CALL_LIMIT ? (unsigned)source : CALL_LIMIT;
    unsigned out = room < CALL_LIMIT ? (unsigned)room : CALL_LIMIT;
    g->z.next_in = g->data + g->read;
    g->z.avail_in = in;
    g->z.next_out = g->out + g->written;
    g->z.avail_out = out;
    int status = inflate(&g->z, Z_NO_FLUSH);
    g->read += in - g->z.avail_in;
    g->written += out - g->z.avail_out;
    return status;
}

static void gunzip_grow(Gunzip *g, size_t limit)
{
    g->capacity = g->capacity < limit / 2 ? 2 * g->capacity : limit;
    unsigned char *larger = arena_alloc(g->c, g->capacity + 1, 1);
    memcpy(larger, g->out, g->written);
    g->out = larger;
}

unsigned char *gunzip(Context *c, const char *path, unsigned char *data, size_t *length, size_t limit)
{
    if (!is_gzip(data, *length))
        return data;
    Gunzip g = {.c = c, .z = {.zalloc = zlib_alloc, .zfree = zlib_free, .opaque = c},
                .data = data, .length = *length};
    if (inflateInit2(&g.z, 16 + MAX_WBITS) != Z_OK)    /* 16: a gzip header is expected */
        fail(c, STATUS_FAULT, "zlib: cannot start");
    g.capacity = claimed_size(data, *length) + 1;      /* 1 more: to see the end */
    if (g.capacity > limit)
        g.capacity = limit;
    g.out = arena_alloc(c, g.capacity + 1, 1);

    for (bool ended = false; !ended && g.written < limit;) {
        if (g.written == g.capacity)
            gunzip_grow(&g, limit);
        int status = gunzip_step(&g);
        size_t left = g.length - g.read;
        if (status == Z_BUF_ERROR)
            fail(c, STATUS_INPUT, "%s: gzip: found the end of the file after %zu bytes, expected more",
                 path, g.length);
        if (status != Z_OK && status != Z_STREAM_END)
            fail(c, STATUS_INPUT, "%s: gzip: found broken data before byte %zu: %s", path, g.read,
                 g.z.msg ? g.z.msg : zError(status));
        if (status == Z_STREAM_END && left > 0) {      /* members may follow each other */
            if (!is_gzip(g.data + g.read, left))
                fail(c, STATUS_INPUT, "%s: gzip: found %zu bytes behind the data, expected none", path, left);
            inflateReset(&g.z);
        }
        ended = status == Z_STREAM_END && left == 0;
    }
    *length = g.written;
    return g.out;
}

unsigned char *file_read_gz(Context *c, const char *path, size_t *length)
{
    unsigned char *data = file_read(c, path, length);
    data = gunzip(c, path, data, length, WHOLE_LIMIT);
    if (*length == WHOLE_LIMIT)
        fail(c, STATUS_INPUT, "%s: gzip: inflates to %zu bytes or more", path, WHOLE_LIMIT);
    return data;
}
