/* JPEG by libjpeg-turbo.  Its warnings mean that pixels were lost or guessed, so
 * they are failures here; it owns memory, so a guard() destroys the decoder. */
#include "runtime.h"

#include <jpeglib.h>

enum { MAX_SCANS = 100 };              /* of a progressive picture: each costs a pass over all pixels */

typedef struct Jpeg {
    Context *c;
    const PictureFile *f;
    Picture picture;
    struct jpeg_decompress_struct decoder;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
} Jpeg;

static void on_error(j_common_ptr decoder)
{
    Jpeg *j = decoder->client_data;
    char text[JMSG_LENGTH_MAX];
    j->errors.format_message(decoder, text);
    fail(j->c, STATUS_INPUT, "%s: JPEG: broken: %s", j->f->path, text);
}

static void on_message(j_common_ptr decoder, int level)
{
    if (level < 0)
        on_error(decoder);
}

static void on_progress(j_common_ptr decoder)
{
    Jpeg *j = decoder->client_data;
    if (j->decoder.input_scan_number > MAX_SCANS)
        fail(j->c, STATUS_INPUT, "%s: JPEG: found more than %d scans", j->f->path, MAX_SCANS);
}

static void decode(void *argument)
{
    Jpeg *j = argument;
    j_decompress_ptr d = &j->decoder;
    d->err = jpeg_std_error(&j->errors);
    d->client_data = j;
    j->errors.error_exit = on_error;
    j->errors.emit_message = on_message;
    jpeg_create_decompress(d);
    j->progress.progress_monitor = on_progress;
    d->progress = &j->progress;
    jpeg_mem_src(d, j->f->data, j->f->length);
    jpeg_read_header(d, TRUE);

    if (d->num_components != 1 && d->num_components != 3)
        fail(j->c, STATUS_INPUT, "%s: JPEG: found %d colour components (CMYK?), expected 1 or 3",
             j->f->path, d->num_components);
    d->out_color_space = d->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    j->picture = picture_new(j->c, j->f, d->image_height, d->image_width, d->num_components);
    jpeg_start_decompress(d);
    size_t row_bytes = (size_t)j->picture.width * (size_t)j->picture.channels;
    while (d->output_scanline < d->output_height) {
        JSAMPROW row = j->picture.pixel + d->output_scanline * row_bytes;
        jpeg_read_scanlines(d, &row, 1);
    }
    jpeg_finish_decompress(d);
}

static void destroy(void *argument)
{
    Jpeg *j = argument;
    jpeg_destroy_decompress(&j->decoder);
}

Picture jpeg_decode(Context *c, const PictureFile *f)
{
    Jpeg j = {.c = c, .f = f};
    guard(c, decode, destroy, &j);
    return j.picture;
}
