/* Weights in safetensors files. */
#include "files.h"
#include "tests.h"

#include <string.h>

/* Six floats in two parameters, as a graph would hold them. */
static Param conv_weight = {.name = "conv1.weight", .shape = {4, {1, 1, 2, 2}}, .count = 4, .offset = 0};
static Param conv_bias = {.name = "conv1.bias", .shape = {1, {2}}, .count = 2, .offset = 4};
static Param *params[] = {&conv_weight, &conv_bias};

static Graph network(Context *c)
{
    return (Graph){.c = c, .name = "net", .param = params, .params = 2};
}

#define WEIGHT "\"conv1.weight\":{\"dtype\":\"F32\",\"shape\":[1,1,2,2],\"data_offsets\":[0,16]}"
#define BIAS "\"conv1.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]}"

/* 1, two NaNs with payloads, -0, a subnormal number, infinity */
static const uint32_t bits[6] = {0x3f800000, 0x7fc00001, 0xffa12345, 0x80000000, 0x00000001, 0x7f800000};

static void read_weights(Context *c, const char *path)
{
    float flat[6];
    Graph g = network(c);
    safetensors_load(&g, path, flat);
}

/* A file with this header and so many bytes of data. */
static size_t make(unsigned char file[1024], const char *header, size_t bytes)
{
    uint64_t length = strlen(header);
    ck_assert(8 + length + bytes <= 1024);
    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    memset(file + 8 + length, 0, bytes);
    return 8 + (size_t)length + bytes;
}

static void put_weights(const char *path, const char *header, size_t bytes)
{
    unsigned char file[1024];
    put(path, file, make(file, header, bytes));
}

START_TEST(saves_as_pytorch_reads)
{
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"}," WEIGHT "," BIAS "}";
    unsigned char file[1024];
    char padded[256];
    size_t length = (sizeof header - 1 + 7) / 8 * 8;
    snprintf(padded, sizeof padded, "%-*s", (int)length, header);
    size_t total = make(file, padded, sizeof bits);
    memcpy(file + total - sizeof bits, bits, sizeof bits);

    float flat[6];
    memcpy(flat, bits, sizeof bits);
    Graph g = network(files_context());
    safetensors_save(&g, in_folder("x"), flat);
    assert_holds(in_folder("x"), file, total);
}
END_TEST

START_TEST(round_trip)
{
    float flat[6], again[6];
    memcpy(flat, bits, sizeof bits);
    Graph g = network(files_context());
    safetensors_save(&g, in_folder("x"), flat);
    safetensors_load(&g, in_folder("x"), again);
    ck_assert_mem_eq(again, bits, sizeof bits);
}
END_TEST

/* Any order of entries and data, white space, batch counters, other keys. */
START_TEST(other_headers)
{
    static const struct { const char *header; size_t bytes; } good[] = {
        {"{" WEIGHT "," BIAS "}", 24},
        {"{" BIAS "," WEIGHT "}", 24},
        {" { " WEIGHT ",\n" BIAS " }   ", 24},
        {"{" WEIGHT "," BIAS ",\"bn.num_batches_tracked\":"
         "{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[24,32]}}", 32},
        {"{\"__metadata__\":{\"a\":\"b\"}," WEIGHT "," BIAS "}", 24},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        put_weights(in_folder("x"), good[i].header, good[i].bytes);
        assert_reads(read_weights, in_folder("x"));
    }

    unsigned char file[1024];
    size_t length = make(file,
        "{\"conv1.weight\":{\"dtype\":\"F32\",\"shape\":[1,1,2,2],\"data_offsets\":[8,24]},"
        "\"conv1.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 24);
    memcpy(file + length - 24, bits, 24);
    put(in_folder("x"), file, length);
    float flat[6];
    Graph g = network(files_context());
    safetensors_load(&g, in_folder("x"), flat);
    ck_assert_mem_eq(flat, bits + 2, 16);
    ck_assert_mem_eq(flat + 4, bits, 8);
}
END_TEST

START_TEST(lies)
{
#define BIAS_AS(dtype, shape, offsets) \
    "{" WEIGHT ",\"conv1.bias\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    static const struct { const char *header; size_t bytes; const char *part; } lie[] = {
        {"", 24, "safetensors header: byte 0"},
        {"{" WEIGHT "," BIAS, 24, "safetensors header: byte"},
        {"{" WEIGHT "," BIAS "} x", 24, "safetensors header: byte"},
        {"[1]", 24, "found no JSON object"},
        {"{" WEIGHT "," WEIGHT "}", 16, "duplicate object key"},
        {"{" WEIGHT "," BIAS "}", 23, "conv1.bias: data_offsets: found 16 to 24, expected 0 to 23"},
        {"{" WEIGHT "," BIAS "}", 25, "found 25 bytes, expected 24 by the header"},
        {"{" WEIGHT "}", 16, "missed 1 of its 2 (conv1.bias)"},
        {"{}", 0, "missed 2 of its 2 (conv1.weight, conv1.bias)"},
        {"{" WEIGHT "," BIAS ",\"fc.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[24,28]}}", 28,
         "found 1 parameters unknown to the network (fc.bias), missed 0"},
        {"{" WEIGHT "," BIAS ",\"my_num_batches_tracked\":"
         "{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[24,32]}}", 32, "unknown to the network (my_num"},
        {BIAS_AS("\"F16\"", "[4]", "[16,24]"), 24, "conv1.bias: dtype: found F16, expected F32"},
        {BIAS_AS("\"F64\"", "[1]", "[16,24]"), 24, "conv1.bias: dtype: found F64, expected F32"},
        {BIAS_AS("\"F32\"", "[3]", "[16,24]"), 24, "found 8 bytes, expected 4 x 3"},
        {BIAS_AS("\"F32\"", "[3]", "[16,28]"), 28, "conv1.bias: shape: found 3, expected 2"},
        {"{\"conv1.weight\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[0,4]},"
         "\"conv1.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12,
         "conv1.weight: shape: found 1x1, expected 1x1x2x2"},
        {BIAS_AS("\"F32\"", "[2,1]", "[16,24]"), 24, "conv1.bias: shape: found 2x1, expected 2"},
        {BIAS_AS("\"F32\"", "[]", "[16,20]"), 20, "conv1.bias: shape: found a scalar, expected 2"},
        {BIAS_AS("\"F32\"", "[-2]", "[16,24]"), 24, "conv1.bias: shape"},
        {BIAS_AS("\"F32\"", "[2.0]", "[16,24]"), 24, "conv1.bias: shape"},
        {BIAS_AS("\"F32\"", "[4294967296,4294967296]", "[16,24]"), 24, "conv1.bias: shape"},
        {BIAS_AS("\"F32\"", "[4611686018427387906]", "[16,24]"), 24, "expected 4 x 4611686018427387906"},
        {BIAS_AS("\"F32\"", "2", "[16,24]"), 24, "conv1.bias: expected dtype, shape and two data_offsets"},
        {BIAS_AS("1", "[2]", "[16,24]"), 24, "conv1.bias: expected dtype"},
        {BIAS_AS("\"F32\"", "[2]", "[16]"), 24, "conv1.bias: expected dtype"},
        {BIAS_AS("\"F32\"", "[2]", "[16,\"24\"]"), 24, "conv1.bias: expected dtype"},
        {"{" WEIGHT ",\"conv1.bias\":7}", 24, "conv1.bias: expected dtype"},
        {BIAS_AS("\"F32\"", "[2]", "[24,16]"), 24, "conv1.bias: data_offsets: found 24 to 16"},
        {BIAS_AS("\"F32\"", "[2]", "[-8,0]"), 24, "conv1.bias: data_offsets: found -8 to 0"},
        {BIAS_AS("\"F32\"", "[2]", "[16,9223372036854775807]"), 24, "conv1.bias: data_offsets"},
        {BIAS_AS("\"F32\"", "[2]", "[12,20]"), 20, "found a begin of 12, expected 16"},
        {BIAS_AS("\"F32\"", "[2]", "[20,28]"), 28, "found a begin of 20, expected 16"},
    };
    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
        put_weights(in_folder("x"), lie[i].header, lie[i].bytes);
        assert_refuses(read_weights, in_folder("x"), lie[i].part);
    }
    put(in_folder("x"), "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    assert_refuses(read_weights, in_folder("x"),
                   "found a length of 18446744073709551615, expected at most 2");
    put(in_folder("x"), "\3\0\0\0\0\0\0\0{}", 10);
    assert_refuses(read_weights, in_folder("x"), "found a length of 3, expected at most 2");
    put(in_folder("x"), "\2", 1);
    assert_refuses(read_weights, in_folder("x"), "not a safetensors file: found 1 bytes");
}
END_TEST

START_TEST(deep_nesting)
{
    char *header = arena_alloc(files_context(), 100001, 1);
    memset(header, '[', 100000);
    unsigned char *file = arena_alloc(files_context(), 100008, 1);
    memcpy(file, &(uint64_t){100000}, 8);
    memcpy(file + 8, header, 100000);
    put(in_folder("x"), file, 100008);
    assert_refuses(read_weights, in_folder("x"), "maximum parsing depth");
}
END_TEST

static void load_into(void *argument)
{
    Graph g = network(files_context());
    safetensors_load(&g, in_folder("x"), argument);
}

/* The weight fits, the bias does not: neither may be loaded. */
START_TEST(failure_changes_nothing)
{
    put_weights(in_folder("x"), BIAS_AS("\"F32\"", "[2,1]", "[16,24]"), 24);
    float flat[6] = {1, 2, 3, 4, 5, 6};
    ck_assert(!attempt(files_context(), load_into, flat));
    for (int i = 0; i < 6; i++)
        ck_assert_float_eq(flat[i], (float)(i + 1));
}
END_TEST

START_TEST(survives)
{
    unsigned char file[1024];
    size_t length = make(file, "{\"__metadata__\":{\"format\":\"pt\"}," WEIGHT "," BIAS "}", 24);
    assert_survives(read_weights, file, length);
}
END_TEST

START_TEST(missing)
{
    assert_refuses(read_weights, in_folder("missing"), "No such file");
    assert_refuses(read_weights, in_folder("."), "found a directory");
}
END_TEST

Suite *safetensors_suite(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("weights");
    tcase_add_checked_fixture(t, files_setup, files_teardown);
    tcase_add_test(t, saves_as_pytorch_reads);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, other_headers);
    tcase_add_test(t, lies);
    tcase_add_test(t, deep_nesting);
    tcase_add_test(t, failure_changes_nothing);
    tcase_add_test(t, survives);
    tcase_add_test(t, missing);
    suite_add_tcase(s, t);
    return s;
}
