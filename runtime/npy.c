/* NumPy's .npy files, by the format's description in numpy/lib/format.py: a magic,
 * a version, the length of a header, the header (a Python dict literal padded with
 * spaces), the elements. */
#include "runtime.h"

#include <limits.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "elements are copied as they lie in the file");

static const struct { const char *descr; size_t size; } kind[] = {
    [ARRAY_F32] = {"<f4", 4}, [ARRAY_I32] = {"<i4", 4}, [ARRAY_I64] = {"<i8", 8},
};

enum { KINDS = sizeof kind / sizeof kind[0] };

/* ---- the header's text */

typedef struct Header {
    Context *c;
    const char *path;
    const char *start, *at, *end;
} Header;

static _Noreturn void unexpected(const Header *h, const char *expected)
{
    const char *found = "its end";
    if (h->at < h->end && *h->at >= ' ' && *h->at <= '~')
        found = format(h->c, "'%c'", *h->at);
    else if (h->at < h->end)
        found = format(h->c, "byte 0x%02x", (unsigned char)*h->at);
    fail(h->c, STATUS_INPUT, "%s: npy header: character %td: found %s, expected %s",
         h->path, h->at - h->start + 1, found, expected);
}

/* Steps over the word if it comes next. */
static bool take(Header *h, const char *word)
{
    size_t length = strlen(word);
    while (h->at < h->end && (*h->at == ' ' || *h->at == '\n'))
        h->at++;
    if ((size_t)(h->end - h->at) < length || memcmp(h->at, word, length) != 0)
        return false;
    h->at += length;
    return true;
}

static void expect(Header *h, const char *word)
{
    if (!take(h, word))
        unexpected(h, format(h->c, "'%s'", word));
}

static const char *quoted(Header *h)
{
    const char *quote = take(h, "'") ? "'" : take(h, "\"") ? "\"" : NULL;
    if (!quote)
        unexpected(h, "a quoted word");
    const char *word = h->at;
    while (h->at < h->end && *h->at != *quote && *h->at >= ' ' && *h->at <= '~')
        h->at++;
    int length = (int)(h->at - word);
    expect(h, quote);
    return format(h->c, "%.*s", length, word);
}

static int number(Header *h)
{
    int value = 0;
    if (h->at == h->end || *h->at < '0' || *h->at > '9')
        unexpected(h, "a number");
    for (; h->at < h->end && *h->at >= '0' && *h->at <= '9'; h->at++) {
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *h->at - '0', &value))
            fail(h->c, STATUS_INPUT, "%s: npy header: shape: found a dimension above %d", h->path, INT_MAX);
    }
    return value;
}

static void read_shape(Header *h, Array *a)
{
    enum { MOST = sizeof a->dim / sizeof a->dim[0] };
    expect(h, "(");
    for (bool more = true; !take(h, ")"); more = take(h, ",")) {
        if (!more)
            unexpected(h, "',' or ')'");
        if (a->rank == MOST)
            fail(h->c, STATUS_INPUT, "%s: npy header: shape: found more than %d dimensions", h->path, MOST);
        a->dim[a->rank++] = number(h);
    }
}

static void read_type(Header *h, Array *a)
{
    const char *descr = quoted(h);
    for (int t = 0; t < KINDS; t++) {
        if (strcmp(descr, kind[t].descr) == 0) {
            a->type = t;
            return;
        }
    }
    fail(h->c, STATUS_INPUT, "%s: npy header: type: found '%s', expected '<f4' (float32), '<i4' or '<i8'",
         h->path, descr);
}

static void read_order(Header *h)
{
    if (take(h, "True"))
        fail(h->c, STATUS_INPUT, "%s: npy header: found Fortran order, expected C order"
             " (numpy.ascontiguousarray gives it)", h->path);
    expect(h, "False");
}

enum { KEY_DESCR, KEY_ORDER, KEY_SHAPE, KEYS };

static const char *const key_name[KEYS] = {"descr", "fortran_order", "shape"};

/* Which key comes next, its colon too. */
static int read_key(Header *h)
{
    const char *word = quoted(h);
    expect(h, ":");
    for (int k = 0; k < KEYS; k++)
        if (strcmp(word, key_name[k]) == 0)
            return k;
    fail(h->c, STATUS_INPUT, "%s: npy header: found an unknown key '%s',"
         " expected descr, fortran_order and shape", h->path, word);
}

/* {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } in any order of the keys */
static void read_header(Header *h, Array *a)
{
    bool seen[KEYS] = {false};
    expect(h, "{");
    for (bool more = true; !take(h, "}"); more = take(h, ",")) {
        if (!more)
            unexpected(h, "',' or '}'");
        int key = read_key(h);
        if (seen[key])
            fail(h->c, STATUS_INPUT, "%s: npy header: found a second key '%s'", h->path, key_name[key]);
        seen[key] = true;
        if (key == KEY_DESCR)
            read_type(h, a);
        else if (key == KEY_ORDER)
            read_order(h);
        else
            read_shape(h, a);
    }
    for (int k = 0; k < KEYS; k++)
        if (!seen[k])
            fail(h->c, STATUS_INPUT, "%s: npy header: found no key '%s'", h->path, key_name[k]);
    take(h, "");                           /* the padding */
    if (h->at < h->end)
        unexpected(h, "its end");
}

/* ---- reading */

typedef struct Reading { Context *c; const char *path; Array array; } Reading;

/* Checks everything before the header; where its text begins and ends. */
static Header locate_header(Context *c, const char *path, const unsigned char *data, size_t length)
{
    if (length < 10 || memcmp(data, "\x93NUMPY", 6) != 0)
        fail(c, STATUS_INPUT, "%s: not a .npy file: found %zu bytes that do not begin with \\x93NUMPY",
             path, length);
    int version = data[6];
    if (version < 1 || version > 3 || data[7] != 0)
        fail(c, STATUS_INPUT, "%s: npy version: found %d.%d, expected 1.0, 2.0 or 3.0",
             path, data[6], data[7]);
    size_t start = version == 1 ? 10 : 12, text = data[8] | (size_t)data[9] << 8;
    if (version > 1 && length >= start)
        text |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
    if (length < start || text > length - start)
        fail(c, STATUS_INPUT, "%s: npy header: found %zu bytes in the file, expected %zu",
             path, length, start + text);
    const char *begin = (const char *)data + start;
    return (Header){.c = c, .path = path, .start = begin, .at = begin, .end = begin + text};
}

/* Elements by the shape; their bytes must be what follows the header. */
static int64_t count_elements(Context *c, const char *path, const Array *a, size_t bytes)
{
    int64_t count = 1, total = 0;
    size_t size = kind[a->type].size;
    for (int d = 0; d < a->rank; d++)
        if (a->dim[d] == 0)
            count = 0;
    bool overflow = false;
    for (int d = 0; d < a->rank; d++)
        overflow |= __builtin_mul_overflow(count, a->dim[d], &count);
    if (overflow || __builtin_mul_overflow(count, (int64_t)size, &total))
        fail(c, STATUS_INPUT, "%s: npy header: shape: found more elements than memory can hold", path);
    if ((size_t)total != bytes)
        fail(c, STATUS_INPUT, "%s: npy data: found %zu bytes, expected %lld (%lld elements of %zu bytes)",
             path, bytes, (long long)total, (long long)count, size);
    return count;
}

static void read_array(Context *work, void *argument)
{
    Reading *r = argument;
    Array *a = &r->array;
    size_t length;
    const unsigned char *data = file_read(work, r->path, &length);
    Header h = locate_header(work, r->path, data, length);
    read_header(&h, a);
    size_t bytes = length - (size_t)((const unsigned char *)h.end - data);
    a->count = count_elements(work, r->path, a, bytes);
    a->data = arena_alloc(r->c, bytes, 1);
    memcpy(a->data, h.end, bytes);
}

Array npy_read(Context *c, const char *path)
{
    Reading r = {.c = c, .path = path};
    scratch(c, read_array, &r);
    return r.array;
}

/* ---- writing */

typedef struct Writing { const char *path; const Array *array; } Writing;

/* As NumPy pads it: room for the first dimension to grow to 21 digits, then at
 * least one space up to a multiple of 64 bytes from the start of the file. */
static Text header_text(Context *c, const Array *a)
{
    enum { PREFIX = 10, DIGITS = 21, ALIGN = 64 };
    Text t = {.c = c};
    text_add(&t, "{'descr': '%s', 'fortran_order': False, 'shape': (", kind[a->type].descr);
    for (int d = 0; d < a->rank; d++)
        text_add(&t, d ? ", %d" : "%d", a->dim[d]);
    text_add(&t, a->rank == 1 ? ",), }" : "), }");
    if (a->rank > 0)
        text_add(&t, "%*s", DIGITS - snprintf(NULL, 0, "%d", a->dim[0]), "");
    int used = PREFIX + (int)t.length + 1;
    text_add(&t, "%*s\n", ALIGN - used % ALIGN, "");
    return t;
}

static void write_array(Context *work, void *argument)
{
    const Writing *w = argument;
    const Array *a = w->array;
    Text header = header_text(work, a);
    unsigned char prefix[10] = "\x93NUMPY\1\0";
    prefix[8] = (unsigned char)header.length;
    prefix[9] = (unsigned char)(header.length >> 8);

    size_t bytes = (size_t)a->count * kind[a->type].size;
    size_t start = sizeof prefix + header.length;
    unsigned char *file = arena_alloc(work, start + bytes, 1);
    memcpy(file, prefix, sizeof prefix);
    memcpy(file + sizeof prefix, header.data, header.length);
    if (bytes)
        memcpy(file + start, a->data, bytes);
    file_write(work, w->path, file, start + bytes);
}

void npy_write(Context *c, const char *path, const Array *a)
{
    scratch(c, write_array, &(Writing){path, a});
}
