/* What reads parameters from outside the program: a blob, or constants of 16 bits; and what
 * writes a checkpoint.  compiler/blob.c has the format. */
#include "print.h"

#include <inttypes.h>

/* -- floats of 16 bits -- */

static void f16_function(Text *t, const Program *p)
{
    print_named(t, p,
                "\n/* IEEE 754 binary16. */\n"
                "static float @_from_f16(uint32_t half)\n{\n"
                "    const uint32_t exponent = half >> 10 & 31, fraction = half & 1023;\n"
                "    union { uint32_t bits; float value; } wide;\n"
                "    if (exponent == 0)\n"
                "        wide.value = (float)(int32_t)fraction * (1.0f / 16777216.0f);\n"
                "    else\n"
                "        wide.bits = (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;\n"
                "    wide.bits |= (half & 0x8000u) << 16;\n"
                "    return wide.value;\n}\n");
}

static void bf16_function(Text *t, const Program *p)
{
    print_named(t, p,
                "\n/* bfloat16: the upper half of a float. */\n"
                "static float @_from_bf16(uint32_t half)\n{\n"
                "    union { uint32_t bits; float value; } wide;\n"
                "    wide.bits = half << 16;\n"
                "    return wide.value;\n}\n");
}

/* -- reading -- */

static void read_functions(Text *t, const Program *p)
{
    print_named(t, p,
                "\n/* A little-endian number of so many bytes, up to four. */\n"
                "static uint32_t @_number(const unsigned char *from, int bytes)\n{\n"
                "    uint32_t number = 0;\n"
                "    for (int i = 0; i < bytes; i++)\n"
                "        number |= (uint32_t)from[i] << 8 * i;\n"
                "    return number;\n}\n"
                "\n/* CRC-32 as in zlib and PNG, four bits at a time; begins and ends inverted. */\n"
                "static uint32_t @_crc(uint32_t crc, const unsigned char *from, size_t bytes)\n{\n"
                "    static const uint32_t step[16] = {\n"
                "        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,\n"
                "        0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,\n"
                "        0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};\n"
                "    for (size_t i = 0; i < bytes; i++) {\n"
                "        crc ^= from[i];\n"
                "        crc = crc >> 4 ^ step[crc & 15];\n"
                "        crc = crc >> 4 ^ step[crc & 15];\n"
                "    }\n"
                "    return crc;\n}\n");
}

/* The head is looked at in the order of the statuses: who gets one knows that those before hold. */
static void check_function(Text *t, const Program *p)
{
    Text target = {.c = p->c};
    const char *name = blob_target(p);
    for (int i = 0; name[i]; i++)
        text_add(&target, "%s'%c'", i ? ", " : "", name[i]);
    print_named(t, p,
                "\n/* What is wrong with a blob of so many structs: a status. */\n"
                "static int @_check_blob(const unsigned char *blob, size_t size, uint32_t structs)\n{\n"
                "    static const char magic[8] = {'c', 'n', 'n', 'c', 'b', 'l', 'o', 'b'};\n"
                "    static const char target[%d] = {%s};\n"
                "    if (size < %d)\n        return $_WRONG_SIZE;\n"
                "    for (int i = 0; i < 8; i++)\n"
                "        if (blob[i] != (unsigned char)magic[i])\n            return $_WRONG_MAGIC;\n"
                "    if (@_number(blob + 8, 4) != %d)\n        return $_WRONG_VERSION;\n"
                "    for (int i = 0; i < %d; i++)\n"
                "        if (blob[24 + i] != (unsigned char)target[i])\n            return $_WRONG_TARGET;\n"
                "    if (@_number(blob + 16, 4) != 0x%08" PRIX32 "u || @_number(blob + 20, 4) != 0x%08" PRIX32
                "u)\n        return $_WRONG_GRAPH;\n"
                "    const uint32_t store = @_number(blob + 12, 2), found = @_number(blob + 14, 2);\n"
                "    if (store > 2 || found < 1 || found > 3 || (structs && structs != found))\n"
                "        return $_WRONG_KIND;\n"
                "    const size_t bytes = sizeof(@_params) / (store ? 2 : 1) * found;\n"
                "    if (@_number(blob + 48, 4) != bytes || @_number(blob + 52, 4) || size != %d + bytes)\n"
                "        return $_WRONG_SIZE;\n"
                "    const uint32_t crc = @_crc(@_crc(0xFFFFFFFFu, blob, %d), blob + %d, bytes);\n"
                "    return (crc ^ 0xFFFFFFFFu) == @_number(blob + %d, 4) ? 0 : $_WRONG_CHECKSUM;\n}\n",
                BLOB_TARGET, target.data, BLOB_HEAD, BLOB_VERSION, BLOB_TARGET, (uint32_t)p->identity,
                (uint32_t)(p->identity >> 32), BLOB_HEAD, BLOB_HEAD - 4, BLOB_HEAD, BLOB_HEAD - 4);
}

static void load_function(Text *t, const Program *p)
{
    print_named(t, p,
                "\n/* Struct number k of a blob that has been checked. */\n"
                "static void @_take_struct(@_params *to, const unsigned char *blob, int k)\n{\n"
                "    const uint32_t store = @_number(blob + 12, 2);\n"
                "    const size_t count = sizeof(@_params) / sizeof(float);\n"
                "    const unsigned char *from = blob + %d + (store ? 2 : 4) * count * (size_t)k;\n"
                "    float *const value = (float *)(void *)to;\n"
                "    for (size_t i = 0; i < count; i++) {\n"
                "        union { uint32_t bits; float value; } full;\n"
                "        if (store == 0) {\n"
                "            full.bits = @_number(from + 4 * i, 4);\n"
                "            value[i] = full.value;\n"
                "        } else {\n"
                "            const uint32_t half = @_number(from + 2 * i, 2);\n"
                "            value[i] = store == 1 ? @_from_f16(half) : @_from_bf16(half);\n"
                "        }\n"
                "    }\n}\n"
                "\nint @_load(@_params *params, const void *blob, size_t size)\n{\n"
                "    const int status = @_check_blob((const unsigned char *)blob, size, 0);\n"
                "    if (status == 0 && params)\n"
                "        @_take_struct(params, (const unsigned char *)blob, 0);\n"
                "    return status;\n}\n", BLOB_HEAD);
}

/* -- checkpoints -- */

static void put_function(Text *t, const Program *p)
{
    print_named(t, p,
                "\nstatic void @_put(unsigned char *to, uint32_t number, int bytes)\n{\n"
                "    for (int i = 0; i < bytes; i++)\n"
                "        to[i] = (unsigned char)(number >> 8 * i);\n}\n");
}

static void save_function(Text *t, const Program *p)
{
    print_named(t, p,
                "\nsize_t @_save(void *blob, size_t size, const @_params *params, const @_params *m,\n"
                "    const @_params *v, int step)\n{\n"
                "    static const char magic[8] = {'c', 'n', 'n', 'c', 'b', 'l', 'o', 'b'};\n"
                "    static const char target[%d] = {'a', 'n', 'y'};\n"
                "    const @_params *const part[3] = {params, m, v};\n"
                "    const uint32_t structs = m && v ? 3 : m ? 2 : 1;\n"
                "    const size_t bytes = sizeof(@_params) * structs;\n"
                "    unsigned char *const head = (unsigned char *)blob, *to = head + %d;\n"
                "    if (size < %d + bytes)\n        return 0;\n"
                "    for (int i = 0; i < 8; i++)\n        head[i] = (unsigned char)magic[i];\n"
                "    @_put(head + 8, %d, 4);\n"
                "    @_put(head + 12, structs << 16, 4);\n"
                "    @_put(head + 16, 0x%08" PRIX32 "u, 4);\n"
                "    @_put(head + 20, 0x%08" PRIX32 "u, 4);\n"
                "    for (int i = 0; i < %d; i++)\n        head[24 + i] = (unsigned char)target[i];\n"
                "    @_put(head + 48, (uint32_t)bytes, 4);\n"
                "    @_put(head + 52, 0, 4);\n"
                "    @_put(head + 56, (uint32_t)step, 4);\n",
                BLOB_TARGET, BLOB_HEAD, BLOB_HEAD, BLOB_VERSION, (uint32_t)p->identity,
                (uint32_t)(p->identity >> 32), BLOB_TARGET);
    print_named(t, p,
                "    for (uint32_t k = 0; k < structs; k++) {\n"
                "        const float *const value = (const float *)(const void *)part[k];\n"
                "        for (size_t i = 0; i < sizeof(@_params) / sizeof(float); i++, to += 4) {\n"
                "            union { float value; uint32_t bits; } full;\n"
                "            full.value = value[i];\n"
                "            @_put(to, full.bits, 4);\n"
                "        }\n    }\n"
                "    @_put(head + %d, ~@_crc(@_crc(0xFFFFFFFFu, head, %d), head + %d, bytes), 4);\n"
                "    return %d + bytes;\n}\n", BLOB_HEAD - 4, BLOB_HEAD - 4, BLOB_HEAD, BLOB_HEAD);
}

static void restore_function(Text *t, const Program *p)
{
    print_named(t, p,
                "\nint @_restore(@_params *params, @_params *m, @_params *v, int *step,\n"
                "    const void *blob, size_t size)\n{\n"
                "    @_params *const part[3] = {params, m, v};\n"
                "    const uint32_t structs = m && v ? 3 : m ? 2 : 1;\n"
                "    const unsigned char *const head = (const unsigned char *)blob;\n"
                "    const int status = @_check_blob(head, size, structs);\n"
                "    if (status)\n        return status;\n"
                "    for (int k = 0; k < (int)structs; k++)\n"
                "        @_take_struct(part[k], head, k);\n"
                "    if (step)\n        *step = (int)@_number(head + 56, 4);\n"
                "    return 0;\n}\n");
}

void print_blob(Text *t, const Program *p)
{
    if (!p->fields)
        return;
    f16_function(t, p);
    bf16_function(t, p);
    read_functions(t, p);
    check_function(t, p);
    load_function(t, p);
    if (!p->options.train)
        return;
    put_function(t, p);
    save_function(t, p);
    restore_function(t, p);
}

/* -- the header's part -- */

void print_blob_statuses(Text *t, const Program *p)
{
    if (!p->fields)
        return;
    print_named(t, p,
                "/* What @_load may find wrong; 0: nothing.  They are checked in this order. */\n"
                "enum {\n"
                "    $_WRONG_MAGIC = 1,  /* no blob of parameters */\n"
                "    $_WRONG_VERSION,    /* of the format */\n"
                "    $_WRONG_TARGET,     /* packed for another processor */\n"
                "    $_WRONG_GRAPH,      /* another network, or other options */\n"
                "    $_WRONG_KIND,       /* not stored in a known way */\n"
                "    $_WRONG_SIZE,       /* cut off, or too long */\n"
                "    $_WRONG_CHECKSUM    /* altered on its way */\n"
                "};\n\n");
    if (p->options.train)
        print_named(t, p,
                    "#define $_CHECKPOINT_BYTES (%d + 3 * sizeof(@_params))  /* of @_save, at most */\n\n",
                    BLOB_HEAD);
}

void print_blob_prototypes(Text *t, const Program *p)
{
    if (!p->fields)
        return;
    print_named(t, p,
                "/* From the file that `cnnc pack` writes, of any alignment; a status, 0: loaded.\n"
                " * params NULL: checks only. */\n"
                "int @_load(@_params *params, const void *blob, size_t size);\n\n");
    if (p->options.train)
        print_named(t, p,
                    "/* A checkpoint: params and what the optimiser remembers, NULL for what it does not\n"
                    " * have.  How many bytes were written, 0: they do not fit. */\n"
                    "size_t @_save(void *blob, size_t size, const @_params *params, const @_params *m,\n"
                    "    const @_params *v, int step);\n\n"
                    "/* Back again: a status as @_load's; step may be NULL. */\n"
                    "int @_restore(@_params *params, @_params *m, @_params *v, int *step,\n"
                    "    const void *blob, size_t size);\n\n");
}
