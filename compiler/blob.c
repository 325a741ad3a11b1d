/* Parameters as a file of their own: what `cnnc pack` writes and @_load reads.  All numbers
 * are little-endian:
 *
 *      0  magic "cnncblob"
 *      8  version (4 bytes)
 *     12  how floats are stored (2 bytes), how many structs follow (2 bytes)
 *     16  identity of the network and its struct (8 bytes)
 *     24  target, padded with zeros (24 bytes)
 *     48  bytes behind this head (8 bytes)
 *     56  steps of the optimiser (4 bytes)
 *     60  CRC-32 of all other bytes (4 bytes)
 *     64  the structs: parameters, then what an optimiser remembers
 *
 * Floats of 16 bits are rounded to the nearest, ties to even. */
#include "cnnc.h"

#include <math.h>
#include <string.h>
#include <zlib.h>

/* -- floats of 16 bits -- */

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* IEEE 754 binary16: 5 bits of exponent, 10 of fraction; below 2^-14 steps of 2^-24. */
static uint16_t to_f16(float value)
{
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000;
    float size = fabsf(value);
    if (isnan(value))
        return (uint16_t)(sign | 0x7E00);
    if (size >= 65520)                           /* nearer to 2^16 than to 65504 */
        return (uint16_t)(sign | 0x7C00);
    if (size < 0x1p-14f)
        return (uint16_t)(sign | (uint32_t)rint((double)size * 0x1p24));
    uint32_t rounded = (bits & 0x7FFFFFFF) + 0xFFF + (bits >> 13 & 1);
    return (uint16_t)(sign | ((rounded >> 13) - (112 << 10)));
}

static uint16_t to_bf16(float value)
{
    uint32_t bits = bits_of(value);
    if (isnan(value))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

uint16_t store_narrow(Store16 store, float value)
{
    return store == STORE_F16 ? to_f16(value) : to_bf16(value);
}

float store_widen(Store16 store, uint16_t stored)
{
    float value;
    uint32_t bits = (uint32_t)stored << 16;
    if (store == STORE_F16) {
        int exponent = stored >> 10 & 31, fraction = stored & 1023;
        float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                   : ldexpf((float)(exponent ? 1024 + fraction : fraction), (exponent ? exponent : 1) - 25);
        return copysignf(size, stored & 0x8000 ? -1.0f : 1.0f);
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

const char *store_name(Store16 store)
{
    static const char *const name[] = {"f32", "f16", "bf16"};
    return name[store];
}

StoreError store_error(const Program *p)
{
    StoreError e = {0};
    const float *value = p->weights;
    for (int f = 0; f < p->fields; f++)
        for (int i = 0; i < p->field[f].count; i++, value++) {
            Store16 store = p->options.store;
            double exact = (double)*value, kept = (double)store_widen(store, store_narrow(store, *value));
            if (isfinite(exact) && !isfinite(kept))
                fail(p->c, STATUS_INPUT, "%s: %s holds %g, beyond the range of %s", p->net->file,
                     p->field[f].name, exact, store_name(store));
            if (fabs(kept - exact) > e.absolute)
                e.absolute = fabs(kept - exact);
            if (fabs(exact) >= 0x1p-14 && fabs(kept - exact) / fabs(exact) > e.relative)
                e.relative = fabs(kept - exact) / fabs(exact);
        }
    return e;
}

/* -- the file -- */

static void put(unsigned char *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> 8 * i);
}

unsigned char *blob_make(const Program *p, size_t *size)
{
    Store16 store = p->options.store;
    int width = store == STORE_F32 ? 4 : 2;
    size_t count = (size_t)p->params_bytes / 4;
    *size = BLOB_HEAD + count * (size_t)width;
    unsigned char *blob = NEW_ARRAY(p->c, unsigned char, *size), *to = blob + BLOB_HEAD;
    memcpy(blob, BLOB_MAGIC, 8);
    put(blob + 8, BLOB_VERSION, 4);
    put(blob + 12, store, 2);
    put(blob + 14, 1, 2);
    put(blob + 16, p->identity, 8);
    strncpy((char *)blob + 24, blob_target(p), BLOB_TARGET - 1);
    put(blob + 48, *size - BLOB_HEAD, 8);
    for (size_t i = 0; i < count; i++, to += width)
        put(to, store == STORE_F32 ? bits_of(p->weights[i]) : store_narrow(store, p->weights[i]), width);
    uLong crc = crc32_z(crc32(0, NULL, 0), blob, BLOB_HEAD - 4);
    put(blob + 60, crc32_z(crc, blob + BLOB_HEAD, *size - BLOB_HEAD), 4);
    return blob;
}

const char *blob_target(const Program *p)
{
    return p->options.train ? "any" : target_level(p->options.target)->name;
}
