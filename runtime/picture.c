/* Pictures of any format to floats in 0..1; PGM and PPM are read here, PNG and JPEG
 * in png.c and jpeg.c. */
#include "runtime.h"

#include <string.h>

enum { MAX_PIXELS = 1 << 26 };         /* no picture for a network is larger; a decompression bomb is */

Picture picture_new(Context *c, const PictureFile *f, int64_t height, int64_t width, int channels)
{
    if (f->height && (height != f->height || width != f->width))
        fail(c, STATUS_INPUT, "%s: picture: found %lld x %lld (height x width), expected %d x %d",
             f->path, (long long)height, (long long)width, f->height, f->width);
    int64_t pixels;
    if (height < 1 || width < 1 || __builtin_mul_overflow(height, width, &pixels) || pixels > MAX_PIXELS)
        fail(c, STATUS_INPUT, "%s: picture: found %lld x %lld (height x width), expected 1 to %d pixels",
             f->path, (long long)height, (long long)width, MAX_PIXELS);
    Picture p = {.channels = channels, .height = (int)height, .width = (int)width};
    p.pixel = arena_alloc(c, (size_t)pixels, (size_t)channels);
    return p;
}

/* ---- PGM and PPM (netpbm's pgm(5), ppm(5)); one picture a file */

typedef struct Pnm {
    Context *c;
    const PictureFile *f;
    size_t at;
    bool text;                         /* P2, P3: decimal samples */
    int top;                           /* the sample that means 1 */
} Pnm;

static bool is_space(unsigned char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* White space, and comments from # to the end of the line. */
static void pnm_space(Pnm *p)
{
    const unsigned char *data = p->f->data;
    bool comment = false;
    for (; p->at < p->f->length; p->at++) {
        if (comment)
            comment = data[p->at] != '\n';
        else if (data[p->at] == '#')
            comment = true;
        else if (!is_space(data[p->at]))
            return;
    }
}

static int pnm_number(Pnm *p, const char *what, int low, int high)
{
    pnm_space(p);
    const unsigned char *data = p->f->data;
    int value = 0;
    size_t start = p->at;
    for (; p->at < p->f->length && data[p->at] >= '0' && data[p->at] <= '9'; p->at++)
        if (value <= high)
            value = 10 * value + data[p->at] - '0';
    if (p->at == start)
        fail(p->c, STATUS_INPUT, "%s: PNM %s: found no number at byte %zu", p->f->path, what, start);
    if (value < low || value > high)
        fail(p->c, STATUS_INPUT, "%s: PNM %s: found %s%d, expected %d to %d",
             p->f->path, what, value > high ? "at least " : "", value, low, high);
    return value;
}

/* One sample, scaled to 0..255. */
static unsigned char pnm_sample(Pnm *p)
{
    const unsigned char *data = p->f->data;
    int value;
    if (p->text)
        value = pnm_number(p, "sample", 0, p->top);
    else if (p->top > 255)
        value = data[p->at] << 8 | data[p->at + 1];        /* room was checked by pnm_decode */
    else
        value = data[p->at];
    if (!p->text)
        p->at += p->top > 255 ? 2 : 1;
    if (value > p->top)
        fail(p->c, STATUS_INPUT, "%s: PNM sample before byte %zu: found %d, expected at most %d",
             p->f->path, p->at, value, p->top);
    return (unsigned char)((value * 255 + p->top / 2) / p->top);
}

Picture pnm_decode(Context *c, const PictureFile *f)
{
    enum { LARGEST = 1 << 24 };
    Pnm p = {.c = c, .f = f, .at = 2, .text = f->data[1] < '5'};
    int channels = f->data[1] == '2' || f->data[1] == '5' ? 1 : 3;
    int width = pnm_number(&p, "width", 1, LARGEST);
    int height = pnm_number(&p, "height", 1, LARGEST);
    p.top = pnm_number(&p, "maximum", 1, 65535);

    if (p.at == f->length || !is_space(f->data[p.at++]))
        fail(c, STATUS_INPUT, "%s: PNM header: found no white space at its end", f->path);
    int64_t samples = (int64_t)width * height * channels, left = (int64_t)(f->length - p.at);
    int64_t bytes = p.text ? 2 * samples - 1 : p.top > 255 ? 2 * samples : samples;
    if (p.text ? left < bytes : left != bytes)
        fail(c, STATUS_INPUT, "%s: PNM data: found %lld bytes, expected %s%lld", f->path,
             (long long)left, p.text ? "at least " : "", (long long)bytes);

    Picture picture = picture_new(c, f, height, width, channels);
    for (int64_t i = 0; i < samples; i++)
        picture.pixel[i] = pnm_sample(&p);
    pnm_space(&p);
    if (p.text && p.at < f->length)
        fail(c, STATUS_INPUT, "%s: PNM data: found more than %lld samples", f->path, (long long)samples);
    return picture;
}

/* ---- any format */

Picture picture_decode(Context *c, const char *path, int height, int width)
{
    PictureFile f = {.path = path, .height = height, .width = width};
    f.data = file_read(c, path, &f.length);
    if (f.length >= 8 && memcmp(f.data, "\x89PNG\r\n\x1a\n", 8) == 0)
        return png_decode(c, &f);
    if (f.length >= 3 && memcmp(f.data, "\xff\xd8\xff", 3) == 0)
        return jpeg_decode(c, &f);
    if (f.length >= 3 && f.data[0] == 'P' && memchr("2356", f.data[1], 4) && is_space(f.data[2]))
        return pnm_decode(c, &f);
    fail(c, STATUS_INPUT, "%s: found %zu bytes that are no picture, expected PNG, JPEG, PGM or PPM",
         path, f.length);
}

/* Luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, rounded to a byte with the
 * weights in 16-bit fixed point, as Pillow converts to "L". */
static unsigned char luma(const unsigned char *rgb)
{
    return (unsigned char)((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + (1 << 15)) >> 16);
}

void picture_planes(const Picture *p, int channels, float *unit)
{
    size_t pixels = (size_t)p->height * (size_t)p->width;
    for (size_t i = 0; i < pixels; i++) {
        const unsigned char *pixel = p->pixel + i * (size_t)p->channels;
        for (int ch = 0; ch < channels; ch++) {
            unsigned char byte = pixel[p->channels == 3 ? ch : 0];
            if (channels < p->channels)
                byte = luma(pixel);
            unit_from_bytes(unit + (size_t)ch * pixels + i, &byte, 1);
        }
    }
}

typedef struct Reading {
    Context *c;
    const char *path;
    int channels, height, width;
    float *unit;
} Reading;

static void read_picture(Context *work, void *argument)
{
    Reading *r = argument;
    Picture p = picture_decode(work, r->path, r->height, r->width);
    r->height = p.height;
    r->width = p.width;
    r->unit = arena_alloc(r->c, (size_t)p.height * (size_t)p.width, (size_t)r->channels * sizeof(float));
    picture_planes(&p, r->channels, r->unit);
}

static Reading read_with_size(Context *c, const char *path, int channels, int height, int width)
{
    if (channels != 1 && channels != 3)
        fail(c, STATUS_INPUT, "%s: a picture has 1 or 3 channels, expected %d", path, channels);
    Reading r = {.c = c, .path = path, .channels = channels, .height = height, .width = width};
    scratch(c, read_picture, &r);
    return r;
}

float *picture_read(Context *c, const char *path, int channels, int height, int width)
{
    return read_with_size(c, path, channels, height, width).unit;
}

float *picture_read_any(Context *c, const char *path, int channels, int *height, int *width)
{
    Reading r = read_with_size(c, path, channels, 0, 0);
    *height = r.height;
    *width = r.width;
    return r.unit;
}
