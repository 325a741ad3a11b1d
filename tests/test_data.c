/* Arrays and labelled samples: .npy, IDX, CIFAR-10. */
#include "files.h"
#include "tests.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#define FASHION "/usr/share/datasets/fashion-mnist/"

/* ---- .npy */

static void read_npy(Context *c, const char *path)
{
    npy_read(c, path);
}

/* A version-1 file with this header and so many bytes of data. */
static void put_npy(const char *path, const char *header, size_t bytes)
{
    unsigned char file[512] = "\x93NUMPY\1\0";
    size_t length = strlen(header);
    ck_assert(10 + length + bytes <= sizeof file);
    file[8] = (unsigned char)length;
    memcpy(file + 10, header, length);
    put(path, file, 10 + length + bytes);
}

START_TEST(npy_writes_as_numpy)
{
    /* numpy.save of numpy 1.24 */
    static const struct { Array array; const char *header; } cases[] = {
        {{.rank = 2, .dim = {2, 3}, .count = 6, .type = ARRAY_F32},
         "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"},
        {{.rank = 1, .dim = {5}, .count = 5, .type = ARRAY_I32},
         "{'descr': '<i4', 'fortran_order': False, 'shape': (5,), }"},
        {{.rank = 0, .count = 1, .type = ARRAY_I64},
         "{'descr': '<i8', 'fortran_order': False, 'shape': (), }"},
    };
    static unsigned char zeros[64];
    const char *path = in_folder("x.npy");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Array a = cases[i].array;
        a.data = zeros;
        npy_write(files_context(), path, &a);
        unsigned char file[192] = "\x93NUMPY\1\0\x76";     /* 0x76 + 10 = 128 = 2 * 64 */
        memset(file + 10, ' ', 117);
        memcpy(file + 10, cases[i].header, strlen(cases[i].header));
        file[127] = '\n';
        assert_holds(path, file, 128 + (size_t)a.count * (a.type == ARRAY_I64 ? 8 : 4));
    }
}
END_TEST

START_TEST(npy_round_trip)
{
    uint32_t f32[6] = {0x3f800000, 0x7fc00001, 0xffa12345, 0x80000000, 0x00000001, 0x7f800000};
    int32_t i32[6] = {0, -1, INT32_MAX, INT32_MIN, 7, 8};
    int64_t i64[6] = {0, -1, INT64_MAX, INT64_MIN, 7, 8};
    void *data[] = {[ARRAY_F32] = f32, [ARRAY_I32] = i32, [ARRAY_I64] = i64};
    const char *path = in_folder("x.npy");
    for (int type = ARRAY_F32; type <= ARRAY_I64; type++) {
        Array a = {.rank = 3, .dim = {1, 3, 2}, .count = 6, .type = type, .data = data[type]};
        npy_write(files_context(), path, &a);
        Array b = npy_read(files_context(), path);
        ck_assert_int_eq(b.rank, 3);
        ck_assert_mem_eq(b.dim, a.dim, 3 * sizeof(int));
        ck_assert_int_eq(b.count, 6);
        ck_assert_int_eq(b.type, a.type);
        ck_assert_mem_eq(b.data, a.data, 6 * (type == ARRAY_I64 ? sizeof *i64 : sizeof *i32));
    }
}
END_TEST

START_TEST(npy_other_headers)
{
    static const char *const good[] = {
        "{'shape': (2, 3), 'fortran_order': False, 'descr': '<f4'}",
        "{\"descr\":\"<f4\",\"fortran_order\":False,\"shape\":(2,3,)}\n",
        "{ 'descr' : '<i4' , 'fortran_order' : False , 'shape' : ( 6 , ) , }   \n",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 3), }",
    };
    const char *path = in_folder("x.npy");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        put_npy(path, good[i], 24);
        assert_reads(read_npy, path);
    }
    put_npy(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }", 0);
    ck_assert_int_eq(npy_read(files_context(), path).count, 0);
    for (char version = 2; version <= 3; version++) {
        char file[] = "\x93NUMPY?\0?\0\0\0{'descr': '<f4', 'fortran_order': False, 'shape': () }\nabcd";
        file[6] = version;
        file[8] = (char)(sizeof file - 1 - 12 - 4);
        put(path, file, sizeof file - 1);
        Array a = npy_read(files_context(), path);
        ck_assert_int_eq(a.rank, 0);
        ck_assert_mem_eq(a.data, "abcd", 4);
    }
}
END_TEST

START_TEST(npy_lies)
{
    static const struct { const char *header; size_t bytes; const char *part; } lies[] = {
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8, "found '>f4', expected '<f4'"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", 16, "found '<f8', expected '<f4'"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", 2, "found '|u1', expected '<f4'"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8,
         "found '[', expected a quoted"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), }", 8, "found Fortran order"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }", 8, "expected 'False'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 9, "found 9 bytes, expected 8"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 8, "found 8 bytes, expected 12"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }", 4, "found 4 bytes, expected 0"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", 8, "found '-', expected a number"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2147483648,), }", 8, "above 2147483647"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2147483647, 2147483647), }", 8,
         "more elements than"},
        {"{'descr': '<i8', 'fortran_order': False, 'shape': (2147483647, 2147483647, 2147483647, 2), }", 0,
         "more elements than"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 4,
         "more than 8 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 2), }", 16, "expected ',' or ')'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 2, }", 8, "found '2', expected '('"},
        {"{'descr': '<f4', 'fortran_order': False, }", 0, "found no key 'shape'"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4,
         "a second key 'descr'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}", 4, "an unknown key 'x'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': ()} 1", 4, "expected its end"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (", 4, "found its end"},
        {"{'descr': '<f4", 4, "expected ''"},
        {"", 4, "expected '{'"},
    };
    const char *path = in_folder("x.npy");
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        put_npy(path, lies[i].header, lies[i].bytes);
        assert_refuses(read_npy, path, lies[i].part);
    }
    put(path, "\x93NUMPY\4\0\0\0\0\0", 12);
    assert_refuses(read_npy, path, "found 4.0, expected");
    put(path, "\x93NUMPY\2\0\xff\xff\xff\xff{}", 14);
    assert_refuses(read_npy, path, "found 14 bytes in the file, expected 4294967307");
    put(path, "PK\3\4 an .npz file", 18);
    assert_refuses(read_npy, path, "not a .npy file");
}
END_TEST

START_TEST(npy_survives)
{
    char file[] = "\x93NUMPY\1\0?\0{'descr': '<i4', 'fortran_order': False, 'shape': (2, 1), }\n"
                  "\1\0\0\0\2\0\0\0";
    file[8] = (char)(sizeof file - 1 - 10 - 8);
    assert_survives(read_npy, file, sizeof file - 1);
}
END_TEST

/* ---- samples in .npy */

static void save_npy(const char *name, int type, int rank, const int *dim, void *data)
{
    Array a = {.rank = rank, .count = 1, .type = type, .data = data};
    for (int d = 0; d < rank; d++)
        a.count *= a.dim[d] = dim[d];
    npy_write(files_context(), in_folder(name), &a);
}

static void read_npy_values(Context *c, const char *path)
{
    data_npy(c, path, NULL);
}

static void read_npy_labels(Context *c, const char *path)
{
    data_npy(c, in_folder("x.npy"), path);
}

START_TEST(npy_samples)
{
    float values[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, NAN};
    int64_t labels[3] = {4, 0, 2};
    int32_t short_labels[3] = {1, 1, 0};
    save_npy("x.npy", ARRAY_F32, 3, (int[]){3, 2, 2}, values);
    save_npy("y.npy", ARRAY_I64, 1, (int[]){3}, labels);
    save_npy("z.npy", ARRAY_I32, 1, (int[]){3}, short_labels);

    Dataset *d = data_npy(files_context(), in_folder("x.npy"), in_folder("y.npy"));
    ck_assert_int_eq(d->count, 3);
    ck_assert(shape_equal(&d->sample, &(Shape){.rank = 2, .dim = {2, 2}}));
    ck_assert_mem_eq(d->value, values, sizeof values);
    ck_assert_mem_eq(d->label, ((int32_t[]){4, 0, 2}), 3 * sizeof(int32_t));
    ck_assert_int_eq(d->classes, 5);
    d = data_npy(files_context(), in_folder("x.npy"), in_folder("z.npy"));
    ck_assert_mem_eq(d->label, short_labels, sizeof short_labels);
    ck_assert_int_eq(d->classes, 2);
    ck_assert_ptr_null(data_npy(files_context(), in_folder("x.npy"), NULL)->label);
}
END_TEST

START_TEST(npy_samples_lie)
{
    float values[4] = {0};
    int64_t labels[3] = {1, -1, 0};
    int64_t large[2] = {0, INT64_C(1) << 32};
    save_npy("x.npy", ARRAY_F32, 2, (int[]){2, 2}, values);
    save_npy("three.npy", ARRAY_I64, 1, (int[]){3}, labels);
    assert_refuses(read_npy_labels, in_folder("three.npy"), "found 3 labels, expected 2");
    save_npy("negative.npy", ARRAY_I64, 1, (int[]){2}, labels);
    assert_refuses(read_npy_labels, in_folder("negative.npy"), "label 1: found -1, expected 0 to");
    save_npy("large.npy", ARRAY_I64, 1, (int[]){2}, large);
    assert_refuses(read_npy_labels, in_folder("large.npy"), "label 1: found 4294967296");
    save_npy("float.npy", ARRAY_F32, 1, (int[]){2}, values);
    assert_refuses(read_npy_labels, in_folder("float.npy"),
                   "found 1 dimensions of float32, expected one of int32");
    save_npy("square.npy", ARRAY_I64, 2, (int[]){1, 2}, labels);
    assert_refuses(read_npy_labels, in_folder("square.npy"), "found 2 dimensions of integers");

    assert_refuses(read_npy_values, in_folder("float.npy"), "found 1 dimensions of float32, expected 2 to 6");
    assert_refuses(read_npy_values, in_folder("square.npy"), "found 2 dimensions of integers");
    save_npy("none.npy", ARRAY_F32, 2, (int[]){0, 2}, values);
    assert_refuses(read_npy_values, in_folder("none.npy"), "found 0 samples");
    save_npy("empty.npy", ARRAY_F32, 2, (int[]){2, 0}, values);
    assert_refuses(read_npy_values, in_folder("empty.npy"), "found a sample of 0");
}
END_TEST

/* ---- IDX */

/* Two images of 2 x 3 and their labels. */
static const unsigned char images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3,
                                       0, 255, 51, 102, 153, 204, 1, 2, 3, 4, 5, 6};
static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 7, 3};

static void read_idx_images(Context *c, const char *path)
{
    data_idx(c, path, NULL);
}

static void read_idx_labels(Context *c, const char *path)
{
    data_idx(c, in_folder("images"), path);
}

static void assert_two_images(const char *image_file, const char *label_file)
{
    Dataset *d = data_idx(files_context(), image_file, label_file);
    ck_assert_int_eq(d->count, 2);
    ck_assert(shape_equal(&d->sample, &(Shape){.rank = 3, .dim = {1, 2, 3}}));
    for (int i = 0; i < 12; i++)
        ck_assert_float_eq(d->value[i], (float)images[16 + i] / 255.0f);
    ck_assert_int_eq(d->label[0], 7);
    ck_assert_int_eq(d->label[1], 3);
    ck_assert_int_eq(d->classes, 8);
}

START_TEST(idx_reads)
{
    put(in_folder("images"), images, sizeof images);
    put(in_folder("labels"), labels, sizeof labels);
    put_gz(in_folder("images.gz"), images, sizeof images, "wb9");
    put_gz(in_folder("labels.gz"), labels, sizeof labels, "wb1");
    assert_two_images(in_folder("images"), in_folder("labels"));
    assert_two_images(in_folder("images.gz"), in_folder("labels.gz"));
    put_gz(in_folder("members.gz"), images, 7, "wb");
    put_gz(in_folder("members.gz"), images + 7, sizeof images - 7, "ab");
    assert_two_images(in_folder("members.gz"), in_folder("labels"));

    static const unsigned char vectors[] = {0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 5, 6};
    put(in_folder("vectors"), vectors, sizeof vectors);
    Dataset *d = data_idx(files_context(), in_folder("vectors"), NULL);
    ck_assert(shape_equal(&d->sample, &(Shape){.rank = 1, .dim = {2}}));
    ck_assert_ptr_null(d->label);
}
END_TEST

START_TEST(idx_lies)
{
    static const struct { unsigned char byte[24]; size_t length; const char *part; } lies[] = {
        {{0}, 0, "IDX magic: found less than 4 bytes"},
        {{0, 0, 9, 3}, 4, "IDX magic: found 0x00000903"},
        {{0, 1, 8, 3}, 4, "IDX magic: found 0x00010803"},
        {{0, 0, 8, 1, 0, 0, 0, 1, 1}, 9, "IDX dimensions: found 1, expected 2 to 4"},
        {{0, 0, 8, 5}, 24, "IDX dimensions: found 5"},
        {{0, 0, 8, 3, 0, 0, 0, 1}, 8, "IDX header: found 8 bytes, expected 16"},
        {{0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, 16, "IDX dimension 1: found 0"},
        {{0, 0, 8, 3, 0, 0, 0, 1, 255, 255, 255, 255, 0, 0, 0, 1}, 17, "IDX dimension 2: found 4294967295"},
        {{0, 0, 8, 3, 127, 255, 255, 255, 127, 255, 255, 255, 127, 255, 255, 255}, 17, "more elements than"},
        {{0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3}, 21, "found 21 bytes, expected 22"},
        {{0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3}, 23, "found at least 23 bytes, expected 22"},
    };
    const char *path = in_folder("lie");
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        put(path, lies[i].byte, lies[i].length);
        assert_refuses(read_idx_images, path, lies[i].part);
        if (lies[i].length > 0) {
            put_gz(path, lies[i].byte, lies[i].length, "wb");
            assert_refuses(read_idx_images, path, lies[i].part);
        }
    }
    put(in_folder("images"), images, sizeof images);
    static const unsigned char three[] = {0, 0, 8, 1, 0, 0, 0, 3, 7, 3, 1};
    put(path, three, sizeof three);
    assert_refuses(read_idx_labels, path, "found 3 labels, expected 2");
    put(path, images, sizeof images);
    assert_refuses(read_idx_labels, path, "IDX dimensions: found 3, expected 1");
}
END_TEST

/* What is inflated ends where the header's promise ends. */
START_TEST(idx_gzip_bomb)
{
    enum { BOMB = 64 << 20 };
    unsigned char *bomb = arena_alloc(files_context(), BOMB, 1);
    memcpy(bomb, images, 16);
    const char *path = in_folder("bomb.gz");
    put_gz(path, bomb, BOMB, "wb1");
    assert_refuses(read_idx_images, path, "found at least 29 bytes, expected 28");
}
END_TEST

/* The file name.gz with `length` bytes more, or fewer. */
static const char *resized_gz(const char *name, int change, const char *tail)
{
    size_t length;
    unsigned char *file = file_read(files_context(), in_folder("images.gz"), &length);
    const char *path = in_folder(name);
    unsigned char copy[256] = {0};
    memcpy(copy, file, length);
    memcpy(copy + length, tail, change > 0 ? (size_t)change : 0);
    put(path, copy, length + (size_t)change);
    return path;
}

START_TEST(idx_gzip_lies)
{
    put_gz(in_folder("images.gz"), images, sizeof images, "wb");
    assert_refuses(read_idx_images, resized_gz("tail", 3, "abc"), "gzip: found 3 bytes behind the data");
    assert_refuses(read_idx_images, resized_gz("cut", -1, ""), "gzip: found the end of the file");
    size_t length;
    unsigned char *file = file_read(files_context(), in_folder("images.gz"), &length);
    memset(file + length - 4, 0xff, 4);                /* the trailer claims 4 GiB */
    put(in_folder("size"), file, length);
    assert_refuses(read_idx_images, in_folder("size"), "incorrect length check");
    file[length - 8] ^= 1;
    put(in_folder("crc"), file, length);
    assert_refuses(read_idx_images, in_folder("crc"), "incorrect data check");
}
END_TEST

START_TEST(idx_survives)
{
    put(in_folder("images"), images, sizeof images);
    assert_survives(read_idx_images, images, sizeof images);
    assert_survives(read_idx_labels, labels, sizeof labels);
    put_gz(in_folder("images.gz"), images, sizeof images, "wb");
    size_t length;
    unsigned char *file = file_read(files_context(), in_folder("images.gz"), &length);
    assert_survives(read_idx_images, file, length);
}
END_TEST

START_TEST(idx_fashion_mnist)
{
    if (access(FASHION, R_OK) != 0) {
        printf("skipped: idx_fashion_mnist: %s is not there\n", FASHION);
        return;
    }
    Dataset *d = data_idx(files_context(), FASHION "train-images-idx3-ubyte.gz",
                          FASHION "train-labels-idx1-ubyte.gz");
    ck_assert_int_eq(d->count, 60000);
    ck_assert(shape_equal(&d->sample, &(Shape){.rank = 3, .dim = {1, 28, 28}}));
    ck_assert_int_eq(d->classes, 10);
    int of_class[10] = {0};
    double sum = 0;
    for (int i = 0; i < d->count; i++)
        of_class[d->label[i]]++;
    for (int k = 0; k < 10; k++)
        ck_assert_int_eq(of_class[k], 6000);
    for (int i = 0; i < 60000 * 784; i++)
        sum += d->value[i];
    ck_assert_double_eq_tol(sum / (60000 * 784), 0.2860, 5e-5);      /* which everyone normalises by */
    ck_assert_int_eq(d->label[0], 9);
}
END_TEST

/* ---- CIFAR-10 */

static void read_cifar(Context *c, const char *path)
{
    data_cifar(c, 1, &path);
}

START_TEST(cifar)
{
    enum { RECORD = 3073 };
    unsigned char two[2 * RECORD + 1] = {4};
    two[1] = 255;
    two[RECORD] = 51;
    two[RECORD + 1 + 3071] = 102;
    two[RECORD] = 9;
    const char *file[] = {in_folder("a.bin"), in_folder("b.bin.gz")};
    put(file[0], two, 2 * RECORD);
    put_gz(file[1], two, RECORD, "wb");
    Dataset *d = data_cifar(files_context(), 2, file);
    ck_assert_int_eq(d->count, 3);
    ck_assert(shape_equal(&d->sample, &(Shape){.rank = 3, .dim = {3, 32, 32}}));
    ck_assert_mem_eq(d->label, ((int32_t[]){4, 9, 4}), 3 * sizeof(int32_t));
    ck_assert_int_eq(d->classes, 10);
    ck_assert_float_eq(d->value[0], 1.0f);
    ck_assert_float_eq(d->value[2 * 3072 - 1], 0.4f);
    ck_assert_float_eq(d->value[2 * 3072], 1.0f);

    put(in_folder("long"), two, sizeof two);
    assert_refuses(read_cifar, in_folder("long"), "found 6147 bytes, expected a multiple of 3073");
    put(in_folder("none"), two, 0);
    assert_refuses(read_cifar, in_folder("none"), "found 0 bytes");
    two[RECORD] = 10;
    put(in_folder("label"), two, 2 * RECORD);
    assert_refuses(read_cifar, in_folder("label"), "label 1: found 10, expected 0 to 9");
}
END_TEST

/* ---- all */

START_TEST(missing_files_and_folders)
{
    static Reader *const readers[] = {read_npy, read_npy_values, read_npy_labels, read_idx_images,
                                      read_idx_labels, read_cifar};
    float values[4] = {0};
    put(in_folder("images"), images, sizeof images);
    save_npy("x.npy", ARRAY_F32, 2, (int[]){2, 2}, values);
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        assert_refuses(readers[i], in_folder("missing"), "No such file");
        assert_refuses(readers[i], in_folder("images/below"), "Not a directory");
        assert_refuses(readers[i], in_folder("."), "found a directory");
    }
}
END_TEST

Suite *data_suite(void)
{
    Suite *s = suite_create("data");
    TCase *t = tcase_create("readers");
    tcase_add_checked_fixture(t, files_setup, files_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, npy_writes_as_numpy);
    tcase_add_test(t, npy_round_trip);
    tcase_add_test(t, npy_other_headers);
    tcase_add_test(t, npy_lies);
    tcase_add_test(t, npy_survives);
    tcase_add_test(t, npy_samples);
    tcase_add_test(t, npy_samples_lie);
    tcase_add_test(t, idx_reads);
    tcase_add_test(t, idx_lies);
    tcase_add_test(t, idx_gzip_bomb);
    tcase_add_test(t, idx_gzip_lies);
    tcase_add_test(t, idx_survives);
    tcase_add_test(t, idx_fashion_mnist);
    tcase_add_test(t, cifar);
    tcase_add_test(t, missing_files_and_folders);
    suite_add_tcase(s, t);
    return s;
}
