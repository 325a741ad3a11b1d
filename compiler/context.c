/* Arena, failures, text.
 *
 * A failure is a longjmp to the handler of the innermost attempt().  That is safe
 * because the compiler owns nothing but arena memory; whoever holds a file or a
 * Lua state across a call that may fail sets a handler of his own, cleans up and
 * fails again. */
#include "cnnc.h"

#include <stdlib.h>
#include <string.h>

typedef struct Block {
    struct Block *next;
    size_t used, size;
    _Alignas(max_align_t) unsigned char data[];
} Block;

enum { BLOCK_SIZE = 1 << 16 };

void context_init(Context *c)
{
    *c = (Context){.debug = debug_level(getenv("CNNC_DEBUG"))};
}

void context_free(Context *c)
{
    for (Block *b = c->blocks; b;) {
        Block *next = b->next;
        free(b);
        b = next;
    }
    c->blocks = NULL;
}

void *arena_alloc(Context *c, size_t count, size_t size)
{
    size_t bytes, align = _Alignof(max_align_t);
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2)
        fail(c, STATUS_INPUT, "out of memory: %zu elements of %zu bytes", count, size);
    bytes = (bytes + align - 1) / align * align;
    Block *b = c->blocks;
    if (!b || b->size - b->used < bytes) {
        size_t room = bytes > BLOCK_SIZE / 4 ? bytes : BLOCK_SIZE;
        b = calloc(1, sizeof(Block) + room);     /* calloc: large blocks come zeroed from the system */
        if (!b)
            fail(c, STATUS_INPUT, "out of memory: %zu bytes", room);
        b->size = room;
        if (c->blocks && room == bytes) {        /* full at birth: keep the open block in front */
            b->next = c->blocks->next;
            c->blocks->next = b;
        } else {
            b->next = c->blocks;
            c->blocks = b;
        }
    }
    void *p = b->data + b->used;
    b->used += bytes;
    return p;
}

void *arena_grow(Context *c, void *array, size_t count, size_t size)
{
    if (count & (count - 1))
        return array;                            /* capacity is the next power of two */
    void *grown = arena_alloc(c, count ? 2 * count : 1, size);
    if (count)
        memcpy(grown, array, count * size);
    return grown;
}

char *vformat(Context *c, const char *text, va_list args)
{
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, text, args);
    char *out = arena_alloc(c, (size_t)length + 1, 1);
    vsnprintf(out, (size_t)length + 1, text, again);
    va_end(again);
    return out;
}

char *format(Context *c, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    char *out = vformat(c, text, args);
    va_end(args);
    return out;
}

void text_add(Text *t, const char *text, ...)
{
    va_list args, again;
    va_start(args, text);
    va_copy(again, args);
    size_t length = (size_t)vsnprintf(NULL, 0, text, args);
    va_end(args);
    if (t->length + length + 1 > t->capacity) {
        size_t capacity = 2 * (t->length + length) + 256;
        char *data = arena_alloc(t->c, capacity, 1);
        if (t->length)
            memcpy(data, t->data, t->length);
        t->data = data;
        t->capacity = capacity;
    }
    vsnprintf(t->data + t->length, length + 1, text, again);
    va_end(again);
    t->length += length;
}

void text_cut(Text *t, size_t at, size_t length)
{
    memmove(t->data + at, t->data + at + length, t->length + 1 - at - length);
    t->length -= length;
}

void fail(Context *c, int status, const char *text, ...)
{
    char message[sizeof c->message];             /* an argument may be c->message itself */
    va_list args;
    va_start(args, text);
    vsnprintf(message, sizeof message, text, args);
    va_end(args);
    memcpy(c->message, message, sizeof message);
    c->status = status;
    if (!c->handler) {                           /* a caller forgot attempt(): our own fault */
        fprintf(stderr, "cnnc: %s\n", message);
        abort();
    }
    longjmp(*c->handler, 1);
}

bool attempt(Context *c, void (*body)(void *), void *argument)
{
    jmp_buf here, *outer = c->handler;
    c->handler = &here;
    bool done = setjmp(here) == 0;
    if (done)
        body(argument);
    c->handler = outer;
    return done;
}
