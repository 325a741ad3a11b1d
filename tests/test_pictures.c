/* PNG, JPEG, PGM and PPM pictures, and folders of them. */
#include "files.h"
#include "tests.h"

#include <jpeglib.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

/* ---- making pictures with libpng and libjpeg */

enum { H = 4, W = 5 };

typedef struct Made {
    int height, width, bits, type;
    bool interlaced;
    const void *rows;                  /* packed */
    size_t row_bytes;
    int alpha_of_first;                /* of palette entry 0; -1: none */
} Made;

static void put_png(const char *path, Made m)
{
    FILE *file = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_init_io(png, file);
    png_set_IHDR(png, info, (png_uint_32)m.width, (png_uint_32)m.height, m.bits, m.type,
                 m.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (m.type == PNG_COLOR_TYPE_PALETTE) {
        png_color colour[2] = {{10, 20, 30}, {200, 100, 0}};
        png_set_PLTE(png, info, colour, 2);
        png_byte alpha = (png_byte)m.alpha_of_first;
        if (m.alpha_of_first >= 0)
            png_set_tRNS(png, info, &alpha, 1, NULL);
    }
    png_write_info(png, info);
    png_bytep row[64];
    for (int y = 0; y < m.height; y++)
        row[y] = (png_bytep)(uintptr_t)((const unsigned char *)m.rows + (size_t)y * m.row_bytes);
    png_write_image(png, row);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    fclose(file);
}

static void put_jpeg(const char *path, int channels, J_COLOR_SPACE space, bool progressive,
                     const unsigned char *pixel, int height, int width)
{
    FILE *file = fopen(path, "wb");
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr errors;
    j.err = jpeg_std_error(&errors);
    jpeg_create_compress(&j);
    jpeg_stdio_dest(&j, file);
    j.image_height = (JDIMENSION)height;
    j.image_width = (JDIMENSION)width;
    j.input_components = channels;
    j.in_color_space = space;
    jpeg_set_defaults(&j);
    jpeg_set_quality(&j, 100, TRUE);
    if (progressive)
        jpeg_simple_progression(&j);
    jpeg_start_compress(&j, TRUE);
    while (j.next_scanline < j.image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixel + j.next_scanline * (size_t)(width * channels));
        jpeg_write_scanlines(&j, &row, 1);
    }
    jpeg_finish_compress(&j);
    jpeg_destroy_compress(&j);
    fclose(file);
}

/* Every picture here shows these, whatever its format. */
static unsigned char grey[H * W], rgb[H * W * 3];

static void fill_pictures(void)
{
    for (int i = 0; i < H * W; i++)
        grey[i] = (unsigned char)(12 * i + 3);
    for (int i = 0; i < H * W * 3; i++)
        rgb[i] = (unsigned char)(17 * i + 5);
    files_setup();
}

static void assert_grey(const char *path)
{
    const float *one = picture_read(files_context(), path, 1, H, W);
    const float *three = picture_read(files_context(), path, 3, H, W);
    for (int i = 0; i < H * W; i++) {
        ck_assert_float_eq(one[i], (float)grey[i] / 255.0f);
        for (int ch = 0; ch < 3; ch++)
            ck_assert_float_eq(three[ch * H * W + i], one[i]);
    }
}

static void assert_rgb(const char *path)
{
    const float *one = picture_read(files_context(), path, 1, H, W);
    const float *three = picture_read(files_context(), path, 3, H, W);
    for (int i = 0; i < H * W; i++) {
        const unsigned char *p = rgb + 3 * i;
        ck_assert_float_eq_tol(one[i], (0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]) / 255, 0.51 / 255);
        for (int ch = 0; ch < 3; ch++)
            ck_assert_float_eq(three[ch * H * W + i], (float)p[ch] / 255.0f);
    }
}

static void read_any(Context *c, const char *path)
{
    int height, width;
    picture_read_any(c, path, 3, &height, &width);
}

static void read_4x5(Context *c, const char *path)
{
    picture_read(c, path, 1, H, W);
}

/* ---- PNG */

START_TEST(png_kinds)
{
    unsigned char wide[H * W * 2], opaque[H * W * 4], grey_alpha[H * W * 2];
    for (int i = 0; i < H * W; i++) {
        wide[2 * i] = wide[2 * i + 1] = grey[i];
        memcpy(opaque + 4 * i, rgb + 3 * i, 3);
        grey_alpha[2 * i] = grey[i];
        opaque[4 * i + 3] = grey_alpha[2 * i + 1] = 255;
    }
    const char *path = in_folder("x.png");
    for (int interlaced = 0; interlaced < 2; interlaced++) {
        put_png(path, (Made){H, W, 8, PNG_COLOR_TYPE_GRAY, interlaced, grey, W, -1});
        assert_grey(path);
        put_png(path, (Made){H, W, 16, PNG_COLOR_TYPE_GRAY, interlaced, wide, 2 * W, -1});
        assert_grey(path);
        put_png(path, (Made){H, W, 8, PNG_COLOR_TYPE_GRAY_ALPHA, interlaced, grey_alpha, 2 * W, -1});
        assert_grey(path);
        put_png(path, (Made){H, W, 8, PNG_COLOR_TYPE_RGB, interlaced, rgb, 3 * W, -1});
        assert_rgb(path);
        put_png(path, (Made){H, W, 8, PNG_COLOR_TYPE_RGB_ALPHA, interlaced, opaque, 4 * W, -1});
        assert_rgb(path);
    }
}
END_TEST

START_TEST(png_sixteen_bits)
{
    static const unsigned char wide[] = {0, 127, 0, 129, 255, 255, 127, 128};
    put_png(in_folder("x.png"), (Made){1, 4, 16, PNG_COLOR_TYPE_GRAY, false, wide, 8, -1});
    float *unit = picture_read(files_context(), in_folder("x.png"), 1, 1, 4);
    ck_assert_float_eq(unit[0], 0.0f);
    ck_assert_float_eq(unit[1], 1.0f / 255.0f);
    ck_assert_float_eq(unit[2], 1.0f);
    ck_assert_float_eq(unit[3], 127.0f / 255.0f);
}
END_TEST

START_TEST(png_few_bits_and_palettes)
{
    static const unsigned char bits = 0xa0;                                        /* 1 0 1 */
    const char *path = in_folder("x.png");
    int height, width;
    put_png(path, (Made){1, 3, 1, PNG_COLOR_TYPE_GRAY, false, &bits, 1, -1});
    float *unit = picture_read_any(files_context(), path, 1, &height, &width);
    ck_assert(height == 1 && width == 3);
    ck_assert(unit[0] == 1.0f && unit[1] == 0.0f && unit[2] == 1.0f);
    for (int alpha = -1; alpha <= 255; alpha += 256) {
        put_png(path, (Made){1, 3, 1, PNG_COLOR_TYPE_PALETTE, false, &bits, 1, alpha});
        unit = picture_read_any(files_context(), path, 3, &height, &width);
        ck_assert_float_eq(unit[0], 200.0f / 255.0f);
        ck_assert_float_eq(unit[1], 10.0f / 255.0f);
        ck_assert_float_eq(unit[4], 20.0f / 255.0f);
        ck_assert_float_eq(unit[7], 30.0f / 255.0f);
    }
    put_png(path, (Made){1, 3, 1, PNG_COLOR_TYPE_PALETTE, false, &bits, 1, 128});
    assert_refuses(read_any, path, "row 0, column 1: found alpha 128, expected 255");
}
END_TEST

START_TEST(png_size_and_alpha)
{
    unsigned char clear[H * W * 4];
    memset(clear, 255, sizeof clear);
    clear[4 * (W + 2) + 3] = 254;
    const char *path = in_folder("x.png");
    put_png(path, (Made){H, W, 8, PNG_COLOR_TYPE_RGB_ALPHA, false, clear, 4 * W, -1});
    assert_refuses(read_4x5, path, "row 1, column 2: found alpha 254, expected 255");
    put_png(path, (Made){W, H, 8, PNG_COLOR_TYPE_GRAY, false, grey, H, -1});
    assert_refuses(read_4x5, path, "found 5 x 4 (height x width), expected 4 x 5");
}
END_TEST

/* A header that promises what the file cannot hold, with a valid check sum. */
static void put_png_header(const char *path, uint32_t width, uint32_t height, unsigned char bits)
{
    unsigned char head[] = "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR________\x10\2\0\0\0____\0\0\0\4IDAT1234____";
    for (int i = 0; i < 4; i++) {
        head[16 + i] = (unsigned char)(width >> (24 - 8 * i));
        head[20 + i] = (unsigned char)(height >> (24 - 8 * i));
    }
    head[24] = bits;
    uint32_t check = (uint32_t)crc32(0, head + 12, 17);
    for (int i = 0; i < 4; i++)
        head[29 + i] = (unsigned char)(check >> (24 - 8 * i));
    put(path, head, sizeof head - 1);
}

START_TEST(png_lies)
{
    const char *path = in_folder("x.png");
    put_png_header(path, 60000, 60000, 16);
    assert_refuses(read_any, path, "found 60000 x 60000 (height x width), expected 1 to 67108864 pixels");
    put_png_header(path, 8000, 8000, 16);
    assert_refuses(read_any, path, "too few for a picture of 8000 x 8000");
    put_png_header(path, 0xffffffff, 1, 8);
    assert_refuses(read_any, path, "PNG: broken before byte 33");
    put_png_header(path, 1, 1, 7);
    assert_refuses(read_any, path, "PNG: broken before byte 33");
    put_png_header(path, 4, 4, 8);
    assert_refuses(read_any, path, "PNG: broken before byte");
    put(path, "\x89PNG\r\n\x1a\n", 8);
    assert_refuses(read_any, path, "PNG: found the end of the file after 8 bytes");
}
END_TEST

START_TEST(png_survives)
{
    size_t length;
    put_png(in_folder("x.png"), (Made){H, W, 8, PNG_COLOR_TYPE_RGB, true, rgb, 3 * W, -1});
    unsigned char *file = file_read(files_context(), in_folder("x.png"), &length);
    assert_survives(read_any, file, length);
}
END_TEST

/* ---- JPEG */

START_TEST(jpeg_kinds)
{
    enum { SIDE = 16 };
    unsigned char flat[SIDE * SIDE * 3], level[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) {
        memcpy(flat + 3 * i, (unsigned char[]){200, 100, 50}, 3);
        level[i] = (unsigned char)(i / SIDE * 10);
    }
    const char *path = in_folder("x.jpg");
    for (int progressive = 0; progressive < 2; progressive++) {
        put_jpeg(path, 3, JCS_RGB, progressive, flat, SIDE, SIDE);
        float *unit = picture_read(files_context(), path, 3, SIDE, SIDE);
        float *one = picture_read(files_context(), path, 1, SIDE, SIDE);
        for (int i = 0; i < SIDE * SIDE; i++) {
            for (int ch = 0; ch < 3; ch++)
                ck_assert_float_eq_tol(unit[ch * SIDE * SIDE + i], flat[ch] / 255.0, 2.1 / 255);
            ck_assert_float_eq_tol(one[i], 124.2 / 255, 2.1 / 255);
        }
        put_jpeg(path, 1, JCS_GRAYSCALE, progressive, level, SIDE, SIDE);
        unit = picture_read(files_context(), path, 1, SIDE, SIDE);
        for (int i = 0; i < SIDE * SIDE; i++)
            ck_assert_float_eq_tol(unit[i], level[i] / 255.0, 2.1 / 255);
    }
    put_jpeg(path, 4, JCS_CMYK, false, flat, 8, 8);
    assert_refuses(read_any, path, "JPEG: found 4 colour components");
    put_jpeg(path, 3, JCS_RGB, false, flat, 9, 7);
    assert_refuses(read_4x5, path, "found 9 x 7 (height x width), expected 4 x 5");
}
END_TEST

START_TEST(jpeg_survives)
{
    for (int progressive = 0; progressive < 2; progressive++) {
        size_t length;
        put_jpeg(in_folder("x.jpg"), 3, JCS_RGB, progressive, rgb, H, W);
        unsigned char *file = file_read(files_context(), in_folder("x.jpg"), &length);
        assert_survives(read_any, file, length);
    }
}
END_TEST

/* ---- PGM and PPM */

START_TEST(pnm_kinds)
{
    char file[512];
    size_t head = (size_t)sprintf(file, "P5\n# a comment\n%d %d\n255\n", W, H);
    memcpy(file + head, grey, sizeof grey);
    put(in_folder("x"), file, head + sizeof grey);
    assert_grey(in_folder("x"));
    head = (size_t)sprintf(file, "P6 %d %d 255\n", W, H);
    memcpy(file + head, rgb, sizeof rgb);
    put(in_folder("x"), file, head + sizeof rgb);
    assert_rgb(in_folder("x"));

    head = (size_t)sprintf(file, "P2 #c\n%d %d 255 ", W, H);
    for (int i = 0; i < H * W; i++)
        head += (size_t)sprintf(file + head, "%d%s", grey[i], i == 3 ? " # mid\n" : "\n");
    put(in_folder("x"), file, head);
    assert_grey(in_folder("x"));
    head = (size_t)sprintf(file, "P3 %d %d 255 ", W, H);
    for (int i = 0; i < 3 * H * W; i++)
        head += (size_t)sprintf(file + head, " %d", rgb[i]);
    put(in_folder("x"), file, head);
    assert_rgb(in_folder("x"));

    put(in_folder("x"), "P5 2 1 1000\n\1\364\3\350", 16);                        /* 500, 1000 */
    float *unit = picture_read(files_context(), in_folder("x"), 1, 1, 2);
    ck_assert_float_eq(unit[0], 128.0f / 255.0f);
    ck_assert_float_eq(unit[1], 1.0f);
}
END_TEST

START_TEST(pnm_lies)
{
    static const struct { const char *file, *part; } lies[] = {
        {"P5 2 2 255\nabc", "found 3 bytes, expected 4"},
        {"P5 2 2 255\nabcde", "found 5 bytes, expected 4"},
        {"P5 2 2 15\n\1\2\3\20", "found 16, expected at most 15"},
        {"P5 2 2 0\nabcd", "PNM maximum: found 0"},
        {"P5 2 2 65536\nabcd", "PNM maximum: found at least 65536"},
        {"P5 2 2 256\nabcd", "found 4 bytes, expected 8"},
        {"P5 0 2 255\n", "PNM width: found 0"},
        {"P5 -1 2 255\n", "PNM width: found no number"},
        {"P5 2 99999999999 255\n", "PNM height: found at least"},
        {"P5 16777216 16777216 255\n", "expected 281474976710656"},
        {"P5 2 2 255", "found no white space"},
        {"P5 2", "PNM height: found no number"},
        {"P2 2 1 9\n1", "found 1 bytes, expected at least 3"},
        {"P2 2 1 9\n1 2 3", "found more than 2 samples"},
        {"P2 2 1 9\n1 10", "PNM sample: found at least 10, expected 0 to 9"},
        {"P2 2 1 9\n1 -2", "PNM sample: found no number"},
        {"P2 1 1 9\nx", "PNM sample: found no number"},
        {"P4 8 1\nx", "that are no picture"},
        {"P5", "found 2 bytes that are no picture"},
        {"PX 1 1 9\nx", "that are no picture"},
        {"GIF89a", "that are no picture, expected PNG, JPEG, PGM or PPM"},
        {"", "found 0 bytes"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        put(in_folder("x"), lies[i].file, strlen(lies[i].file));
        assert_refuses(read_any, in_folder("x"), lies[i].part);
    }
    assert_survives(read_any, "P6 2 1 255\nabcdef", 17);
}
END_TEST

START_TEST(missing_and_channels)
{
    put(in_folder("x"), "P5 5 4 255\n01234567890123456789", 31);
    assert_refuses(read_any, in_folder("missing"), "No such file");
    assert_refuses(read_any, in_folder("."), "found a directory");
    assert_reads(read_4x5, in_folder("x"));
}
END_TEST

static void read_two_channels(Context *c, const char *path)
{
    picture_read(c, path, 2, H, W);
}

START_TEST(two_channels)
{
    put(in_folder("x"), "P5 5 4 255\n01234567890123456789", 31);
    assert_refuses(read_two_channels, in_folder("x"), "a picture has 1 or 3 channels, expected 2");
}
END_TEST

/* ---- folders */

static void read_folder(Context *c, const char *path)
{
    data_images(c, path);
}

START_TEST(folder)
{
    mkdir(in_folder("b"), 0777);
    mkdir(in_folder("a"), 0777);
    put(in_folder("README"), "of no class", 11);
    put(in_folder("a/.hidden"), "no picture", 10);
    put(in_folder("a/2.pgm"), "P5 2 1 255\n\0\377", 13);
    put(in_folder("a/10.pgm"), "P5 2 1 255\n\63\0", 13);
    put(in_folder("b/x.pgm"), "P5 2 1 255\n\0\63", 13);
    Dataset *d = data_images(files_context(), in_folder(""));
    ck_assert_int_eq(d->count, 3);
    ck_assert_int_eq(d->classes, 2);
    ck_assert(shape_equal(&d->sample, &(Shape){.rank = 3, .dim = {1, 1, 2}}));
    ck_assert_mem_eq(d->label, ((int32_t[]){0, 0, 1}), 3 * sizeof(int32_t));
    ck_assert_mem_eq(d->value, ((float[]){0.2f, 0, 0, 1, 0, 0.2f}), 6 * sizeof(float));
}
END_TEST

START_TEST(folder_colours)
{
    mkdir(in_folder("a"), 0777);
    put(in_folder("a/1.ppm"), "P6 1 1 255\n\0\63\377", 14);
    put(in_folder("a/2.pgm"), "P5 1 1 255\n\63", 12);
    Dataset *d = data_images(files_context(), in_folder(""));
    ck_assert_mem_eq(d->value, ((float[]){0, 0.2f, 1, 0.2f, 0.2f, 0.2f}), 6 * sizeof(float));
    put(in_folder("a/0.pgm"), "P5 1 1 255\n\63", 12);
    assert_refuses(read_folder, in_folder(""), "a/1.ppm: found a coloured picture, expected a grey one like");
}
END_TEST

START_TEST(folder_lies)
{
    assert_refuses(read_folder, in_folder(""), "found no folders, expected one for each class");
    assert_refuses(read_folder, in_folder("missing"), "cannot open: No such file");
    mkdir(in_folder("a"), 0777);
    assert_refuses(read_folder, in_folder(""), "a: found no pictures");
    put(in_folder("a/1"), "P5 1 1 255\n\63", 12);
    assert_refuses(read_folder, in_folder("a/1"), "cannot open: Not a directory");
    put(in_folder("a/2"), "P5 1 2 255\n\63\63", 13);
    assert_refuses(read_folder, in_folder(""), "a/2: picture: found 2 x 1 (height x width), expected 1 x 1");
    put(in_folder("a/2"), "text", 4);
    assert_refuses(read_folder, in_folder(""), "a/2: found 4 bytes that are no picture");
    remove(in_folder("a/2"));
    mkdir(in_folder("a/2"), 0777);
    assert_refuses(read_folder, in_folder(""), "a/2: cannot read: found a directory");
}
END_TEST

Suite *pictures_suite(void)
{
    Suite *s = suite_create("pictures");
    TCase *t = tcase_create("formats");
    tcase_add_checked_fixture(t, fill_pictures, files_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, png_kinds);
    tcase_add_test(t, png_sixteen_bits);
    tcase_add_test(t, png_few_bits_and_palettes);
    tcase_add_test(t, png_size_and_alpha);
    tcase_add_test(t, png_lies);
    tcase_add_test(t, png_survives);
    tcase_add_test(t, jpeg_kinds);
    tcase_add_test(t, jpeg_survives);
    tcase_add_test(t, pnm_kinds);
    tcase_add_test(t, pnm_lies);
    tcase_add_test(t, missing_and_channels);
    tcase_add_test(t, two_channels);
    tcase_add_test(t, folder);
    tcase_add_test(t, folder_colours);
    tcase_add_test(t, folder_lies);
    suite_add_tcase(s, t);
    return s;
}
