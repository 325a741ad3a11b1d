/* PNG by libpng.  libpng takes its memory from the arena and its errors go to
 * fail(), so that nothing has to be closed on any way out. */
#include "runtime.h"

#include <png.h>
#include <string.h>

enum { DEFLATE_RATIO = 1032 };         /* deflate expands no byte to more */

typedef struct Png {
    Context *c;
    const PictureFile *f;
    size_t at;
} Png;

static void on_error(png_structp png, png_const_charp text)
{
    Png *p = png_get_error_ptr(png);
    fail(p->c, STATUS_INPUT, "%s: PNG: broken before byte %zu: %s", p->f->path, p->at, text);
}

/* libpng's warnings are about chunks that do not reach the pixels. */
static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static png_voidp on_alloc(png_structp png, png_alloc_size_t size)
{
    return arena_alloc(png_get_mem_ptr(png), size, 1);
}

static void on_free(png_structp png, png_voidp memory)
{
    (void)png;
    (void)memory;
}

static void on_read(png_structp png, png_bytep out, size_t length)
{
    Png *p = png_get_io_ptr(png);
    if (length > p->f->length - p->at)
        fail(p->c, STATUS_INPUT, "%s: PNG: found the end of the file after %zu bytes, expected more",
             p->f->path, p->f->length);
    memcpy(out, p->f->data + p->at, length);
    p->at += length;
}

/* Any kind of PNG becomes 8 bits of grey or RGB, perhaps with alpha. */
static void ask_for_bytes(png_structp png, png_infop info)
{
    png_set_expand(png);               /* palettes, 1 to 4 bits, transparent colours */
    png_set_scale_16(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

/* rows: pixels of channels + 1 bytes, the last one alpha. */
static void drop_alpha(Context *c, const PictureFile *f, const unsigned char *rows, Picture *picture)
{
    size_t pixels = (size_t)picture->height * (size_t)picture->width, channels = (size_t)picture->channels;
    for (size_t i = 0; i < pixels; i++) {
        const unsigned char *pixel = rows + i * (channels + 1);
        if (pixel[channels] != 255)
            fail(c, STATUS_INPUT, "%s: PNG: row %zu, column %zu: found alpha %d, expected 255 (opaque)",
                 f->path, i / (size_t)picture->width, i % (size_t)picture->width, pixel[channels]);
        memcpy(picture->pixel + i * channels, pixel, channels);
    }
}

Picture png_decode(Context *c, const PictureFile *f)
{
    Png p = {.c = c, .f = f};
    png_structp png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &p, on_error, on_warning,
                                               c, on_alloc, on_free);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info)
        fail(c, STATUS_FAULT, "libpng: cannot start");
    png_set_read_fn(png, &p, on_read);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);      /* only what makes pixels */
    png_read_info(png, info);

    size_t height = png_get_image_height(png, info), packed = height * png_get_rowbytes(png, info);
    int type = png_get_color_type(png, info), channels = type & PNG_COLOR_MASK_COLOR ? 3 : 1;
    bool has_alpha = type & PNG_COLOR_MASK_ALPHA || png_get_valid(png, info, PNG_INFO_tRNS);
    Picture picture = picture_new(c, f, (int64_t)height, png_get_image_width(png, info), channels);
    if (packed / DEFLATE_RATIO > f->length)
        fail(c, STATUS_INPUT, "%s: PNG: found %zu bytes, too few for a picture of %d x %d",
             f->path, f->length, picture.height, picture.width);

    ask_for_bytes(png, info);
    size_t row_bytes = png_get_rowbytes(png, info), bytes_a_pixel = (size_t)channels + has_alpha;
    if (row_bytes != bytes_a_pixel * (size_t)picture.width)
        fail(c, STATUS_FAULT, "%s: libpng: found rows of %zu bytes, expected %zu",
             f->path, row_bytes, bytes_a_pixel * (size_t)picture.width);
    unsigned char *rows = has_alpha ? arena_alloc(c, height, row_bytes) : picture.pixel;
    png_bytep *row = NEW_ARRAY(c, png_bytep, height);
    for (size_t y = 0; y < height; y++)
        row[y] = rows + y * row_bytes;
    png_read_image(png, row);
    png_read_end(png, NULL);
    if (has_alpha)
        drop_alpha(c, f, rows, &picture);
    return picture;
}
