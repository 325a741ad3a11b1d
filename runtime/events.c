/* TensorBoard's event files: TFRecord frames around protobuf messages, of which a scalar
 * needs a few fields only.
 *
 *   frame:   length (8 bytes), masked CRC-32C of it, message, masked CRC-32C of that
 *   Event:   1 double wall_time, 2 int64 step, 3 string file_version, 5 Summary
 *   Summary: 1 Value, repeated;  Value: 1 string tag, 2 float simple_value
 *
 * All numbers little endian, which protobuf prescribes. */
#include "runtime.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* Castagnoli's polynomial, reflected (RFC 3720, B.4). */
uint32_t crc32c(uint32_t crc, const void *data, size_t length)
{
    const unsigned char *byte = data;
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= byte[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

static uint32_t masked(const void *data, size_t length)
{
    uint32_t crc = crc32c(0, data, length);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* ---------------------------------------------------------------------- messages */

typedef struct Message { unsigned char byte[1024]; size_t length; } Message;

static void add_number(Message *m, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        m->byte[m->length++] = (unsigned char)(value >> 8 * i);
}

static void add_varint(Message *m, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        m->byte[m->length++] = (unsigned char)(value | 0x80);
    m->byte[m->length++] = (unsigned char)value;
}

/* Field numbers below 16; wire types: 0 varint, 1 eight bytes, 2 with a length, 5 four bytes. */
static void add_key(Message *m, int field, int wire)
{
    m->byte[m->length++] = (unsigned char)(field << 3 | wire);
}

static void add_bytes(Message *m, int field, const void *data, size_t length)
{
    add_key(m, field, 2);
    add_varint(m, length);
    memcpy(m->byte + m->length, data, length);
    m->length += length;
}

static void write_frame(Context *c, FILE *file, const Message *event)
{
    Message head = {.length = 0}, tail = {.length = 0};
    add_number(&head, event->length, 8);
    add_number(&head, masked(head.byte, 8), 4);
    add_number(&tail, masked(event->byte, event->length), 4);
    bool done = fwrite(head.byte, head.length, 1, file) == 1 &&
                fwrite(event->byte, event->length, 1, file) == 1 &&
                fwrite(tail.byte, tail.length, 1, file) == 1 && fflush(file) == 0;
    if (!done)
        fail(c, STATUS_INPUT, "tensorboard: cannot write events: %s", strerror(errno));
}

static Message event_begin(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    uint64_t bits;
    memcpy(&bits, &seconds, sizeof bits);
    Message m = {.length = 0};
    add_key(&m, 1, 1);
    add_number(&m, bits, 8);
    return m;
}

/* One scalar; a name that is too long is cut. */
static void write_scalar(const Record *r, int64_t step, const char *group, const char *name, double value)
{
    Message scalar = {.length = 0}, summary = {.length = 0}, event = event_begin();
    char tag[300];
    snprintf(tag, sizeof tag, "%s%s%s", group, *name ? "/" : "", name);
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    add_bytes(&scalar, 1, tag, strlen(tag));
    add_key(&scalar, 2, 5);
    add_number(&scalar, bits, 4);
    add_bytes(&summary, 1, scalar.byte, scalar.length);
    add_key(&event, 2, 0);
    add_varint(&event, (uint64_t)step);
    add_bytes(&event, 5, summary.byte, summary.length);
    write_frame(r->c, r->tensorboard, &event);
}

/* ------------------------------------------------------------------------- files */

FILE *events_open(Context *c, const char *folder)
{
    static const char version[] = "brain.Event:2";
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        fail(c, STATUS_INPUT, "%s: cannot be made: %s", folder, strerror(errno));
    const char *path = format(c, "%s/events.out.tfevents.%lld.cnnc", folder, (long long)time(NULL));
    FILE *file = fopen(path, "ab");
    if (!file)
        fail(c, STATUS_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    Message event = event_begin();
    add_bytes(&event, 3, version, strlen(version));
    write_frame(c, file, &event);
    return file;
}

void events_point(const Record *r, const Point *p)
{
    write_scalar(r, p->step, "loss", "", p->loss);
    write_scalar(r, p->step, "learning rate", "", p->lr);
    write_scalar(r, p->step, "samples per second", "", p->rate);
    for (int i = 0; i < r->layers; i++) {
        write_scalar(r, p->step, "gradient", r->layer[i], p->norm[i]);
        write_scalar(r, p->step, "weights", r->layer[i], p->norm[r->layers + i]);
    }
}

void events_score(const Record *r, const Score *s)
{
    write_scalar(r, s->step, "accuracy", "", s->accuracy);
}
