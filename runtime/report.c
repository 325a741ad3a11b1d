/* A training run as a page: curves in SVG, the confusion matrix, the worst mistakes.  No
 * script, nothing from the network; while the run lasts the page reloads itself. */
#include "runtime.h"

#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

enum { WIDE = 420, HIGH = 150, LEFT = 46, MOST_POINTS = 400 };

static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n";
static const char style[] =
    "<style>\n"
    ":root { --ink: #1b1f24; --paper: #fff; --line: #d5dae0; --mark: 38 105 190 }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  :root { --ink: #d7dde4; --paper: #15181c; --line: #3a424b; --mark: 96 160 240 } }\n"
    "body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);\n"
    "  max-width: 58rem; margin: 2rem auto; padding: 0 1rem }\n"
    ".charts { display: flex; flex-wrap: wrap; gap: 1rem }\n"
    "figure { margin: 0; max-width: 420px } figcaption { font-size: .85rem }\n"
    "svg text { font-size: 11px; fill: var(--ink) } svg .grid { stroke: var(--line) }\n"
    "svg polyline { fill: none; stroke-width: 1.5; stroke: rgb(var(--mark)) }\n"
    "td, th { padding: .15rem .5rem; text-align: right; font-weight: normal }\n"
    ".mistakes { display: flex; flex-wrap: wrap; gap: 1rem }\n"
    ".mistakes img { width: 96px; image-rendering: pixelated; border: 1px solid var(--line) }\n"
    "</style>\n";

static void add_escaped(Text *t, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '&': text_add(t, "&amp;"); break;
        case '<': text_add(t, "&lt;"); break;
        case '"': text_add(t, "&quot;"); break;
        default:  text_add(t, "%c", *text);
        }
}

/* ------------------------------------------------------------------------- curves */

typedef struct Series { const char *name; double *x, *y; int count; } Series;

/* Three digits; thousands as k. */
static const char *number_text(Context *c, double v)
{
    return fabs(v) >= 1e4 && fabs(v) < 1e7 ? format(c, "%.3g k", v / 1e3) : format(c, "%.3g", v);
}

typedef struct Range { double low, high; } Range;

static Range range_of(const Series *s, int series, bool x)
{
    Range r = {INFINITY, -INFINITY};
    for (int i = 0; i < series; i++)
        for (int k = 0; k < s[i].count; k++) {
            double v = x ? s[i].x[k] : s[i].y[k];
            r.low = isfinite(v) && v < r.low ? v : r.low;
            r.high = isfinite(v) && v > r.high ? v : r.high;
        }
    if (r.low > r.high)
        r = (Range){0, 1};
    if (!x && r.low > 0 && r.low < 0.7 * r.high)
        r.low = 0;
    if (r.high - r.low < 1e-12 * fabs(r.high) + 1e-30)
        r.high = r.low + (r.low != 0 ? fabs(r.low) : 1);
    return r;
}

/* At most MOST_POINTS corners: neighbours are averaged. */
static void add_line(Text *t, const Series *s, Range x, Range y, int hue)
{
    int group = (s->count + MOST_POINTS - 1) / MOST_POINTS;
    const char *colour = hue < 0 ? "" : format(t->c, " style=\"stroke:hsl(%d 65%% 50%%)\"", hue);
    text_add(t, "<polyline%s points=\"", colour);
    for (int k = 0; k < s->count; k += group) {
        int n = s->count - k < group ? s->count - k : group, finite = 0;
        double sx = 0, sy = 0;
        for (int i = k; i < k + n; i++)
            if (isfinite(s->y[i])) {
                sx += s->x[i];
                sy += s->y[i];
                finite++;
            }
        if (finite)
            text_add(t, "%.1f,%.1f ", LEFT + (WIDE - LEFT - 6) * (sx / finite - x.low) / (x.high - x.low),
                     6 + (HIGH - 26) * (1 - (sy / finite - y.low) / (y.high - y.low)));
    }
    text_add(t, "\"/>\n");
}

static void add_chart(Text *t, const char *title, const Series *s, int series)
{
    if (!series || !s[0].count)
        return;
    Range x = range_of(s, series, true), y = range_of(s, series, false);
    const Series *last = &s[0];
    text_add(t, "<figure><figcaption>%s", title);
    if (series == 1)
        text_add(t, ": %s", number_text(t->c, last->y[last->count - 1]));
    text_add(t, "</figcaption>\n<svg role=\"img\" aria-label=\"%s\" viewBox=\"0 0 %d %d\" width=\"%d\">\n",
             title, WIDE, HIGH, WIDE);
    for (int i = 0; i <= 2; i++) {
        double at = 6 + (HIGH - 26) * i / 2.0;
        text_add(t, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                 "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT, WIDE - 6, at, at,
                 LEFT - 4, at + 4, number_text(t->c, y.high - (y.high - y.low) * i / 2));
    }
    text_add(t, "<text x=\"%d\" y=\"%d\">epoch %.3g</text>"
             "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.3g</text>\n", LEFT, HIGH - 4, x.low,
             WIDE - 6, HIGH - 4, x.high);
    for (int i = 0; i < series; i++)
        add_line(t, &s[i], x, y, series == 1 ? -1 : 360 * i / series);
    text_add(t, "</svg>\n");
    for (int i = 0; series > 1 && i < series; i++) {
        text_add(t, "<small style=\"color:hsl(%d 65%% 50%%)\">", 360 * i / series);
        add_escaped(t, s[i].name);
        text_add(t, "</small> ");
    }
    text_add(t, "</figure>\n");
}

typedef enum Which { LOSS, LR, RATE } Which;

static Series series_of(const Record *r, Which which)
{
    double *x = NEW_ARRAY(r->c, double, r->points + 1), *y = NEW_ARRAY(r->c, double, r->points + 1);
    Series s = {"", x, y, r->points};
    for (int k = 0; k < r->points; k++) {
        s.x[k] = r->point[k].epoch;
        s.y[k] = which == LOSS ? r->point[k].loss : which == LR ? r->point[k].lr : r->point[k].rate;
    }
    return s;
}

static Series *norms_of(const Record *r, int from)
{
    Series *s = NEW_ARRAY(r->c, Series, r->layers + 1);
    for (int i = 0; i < r->layers; i++) {
        s[i] = series_of(r, LOSS);
        s[i].name = r->layer[i];
        for (int k = 0; k < r->points; k++)
            s[i].y[k] = r->point[k].norm[from + i];
    }
    return s;
}

static void add_charts(Text *t, const Record *r)
{
    Series loss = series_of(r, LOSS), lr = series_of(r, LR), rate = series_of(r, RATE);
    Series accuracy = {.count = 0};
    accuracy.x = NEW_ARRAY(r->c, double, r->scores + 1);
    accuracy.y = NEW_ARRAY(r->c, double, r->scores + 1);
    for (int k = 0; k < r->scores; k++, accuracy.count++) {
        accuracy.x[k] = r->score[k].epoch;
        accuracy.y[k] = r->score[k].accuracy;
    }
    text_add(t, "<div class=\"charts\">\n");
    add_chart(t, "loss", &loss, 1);
    add_chart(t, "accuracy", &accuracy, 1);
    add_chart(t, "learning rate", &lr, 1);
    add_chart(t, "samples a second", &rate, 1);
    add_chart(t, "length of the gradient, layer by layer", norms_of(r, 0), r->layers);
    add_chart(t, "length of the weights, layer by layer", norms_of(r, r->layers), r->layers);
    text_add(t, "</div>\n");
}

/* ----------------------------------------------------------------------- mistakes */

static void add_confusion(Text *t, const Record *r)
{
    if (!r->classes || r->classes > MOST_CLASSES)
        return;
    text_add(t, "<h2>Confusion</h2>\n<p>Rows: the class; columns: the answer; ");
    add_escaped(t, r->data);
    text_add(t, ".</p>\n<table>\n<tr><th></th>");
    for (int k = 0; k < r->classes; k++)
        text_add(t, "<th>%d</th>", k);
    text_add(t, "</tr>\n");
    for (int i = 0; i < r->classes; i++) {
        const int *row = r->confusion + i * r->classes;
        int sum = 0;
        text_add(t, "<tr><th>%d</th>", i);
        for (int k = 0; k < r->classes; k++)
            sum += row[k];
        for (int k = 0; k < r->classes; k++)
            text_add(t, "<td style=\"background:rgb(var(--mark) / %.2f)\">%d</td>",
                     sum ? 0.7 * row[k] / sum : 0, row[k]);
        text_add(t, "</tr>\n");
    }
    text_add(t, "</table>\n");
}

static void add_base64(Text *t, const unsigned char *data, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        uint32_t three = (uint32_t)data[i] << 16 | (i + 1 < length ? (uint32_t)data[i + 1] << 8 : 0)
                       | (i + 2 < length ? data[i + 2] : 0);
        char four[5] = {digits[three >> 18], digits[three >> 12 & 63], digits[three >> 6 & 63],
                        digits[three & 63]};
        four[2] = i + 1 < length ? four[2] : '=';
        four[3] = i + 2 < length ? four[3] : '=';
        text_add(t, "%s", four);
    }
}

/* Planes of 0..1 as a PNG in the page; other shapes are no pictures. */
static void add_picture(Text *t, const float *sample, const Shape *shape)
{
    int channels = shape->dim[0], high = shape->dim[1], wide = shape->dim[2], plane = high * wide;
    unsigned char *pixel = NEW_ARRAY(t->c, unsigned char, channels * plane);
    for (int i = 0; i < plane; i++)
        for (int k = 0; k < channels; k++) {
            float value = sample[k * plane + i];
            pixel[i * channels + k] = (unsigned char)(value <= 0 ? 0 : value >= 1 ? 255 : 255 * value + 0.5f);
        }
    png_image image = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)wide, .height = (png_uint_32)high};
    image.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
    unsigned char *data = NEW_ARRAY(t->c, unsigned char, size);
    if (!png_image_write_to_memory(&image, data, &size, 0, pixel, 0, NULL))
        return;
    text_add(t, "<img alt=\"\" src=\"data:image/png;base64,");
    add_base64(t, data, size);
    text_add(t, "\">");
}

static void add_mistakes(Text *t, const Record *r)
{
    bool picture = r->sample.rank == 3 && (r->sample.dim[0] == 1 || r->sample.dim[0] == 3);
    if (!r->mistakes)
        return;
    text_add(t, "<h2>The worst mistakes</h2>\n<div class=\"mistakes\">\n");
    for (int i = 0; i < r->mistakes; i++) {
        const Mistake *m = &r->mistake[i];
        text_add(t, "<figure>");
        if (picture)
            add_picture(t, m->sample, &r->sample);
        text_add(t, "<figcaption>is %d, answer %d<br>%.2g %% for %d</figcaption></figure>\n", m->label,
                 m->answer, 100 * m->right, m->label);
    }
    text_add(t, "</div>\n");
}

const char *report_text(const Record *r, bool running)
{
    Text t = {.c = r->c};
    text_add(&t, "%s%s<title>", head, running ? "<meta http-equiv=\"refresh\" content=\"2\">\n" : "");
    add_escaped(&t, r->network);
    text_add(&t, "</title>\n%s<h1>", style);
    add_escaped(&t, r->network);
    text_add(&t, "</h1>\n<p>");
    if (r->points) {
        const Point *p = &r->point[r->points - 1];
        text_add(&t, "%s after %lld steps, %.3g epochs and %.1f seconds: loss %.4g",
                 running ? "Running" : "Ended", (long long)p->step, p->epoch,
                 (milliseconds() - r->began) / 1e3, p->loss);
    }
    if (r->scores)
        text_add(&t, ", %.2f %% right", 100 * r->score[r->scores - 1].accuracy);
    text_add(&t, ".</p>\n");
    add_charts(&t, r);
    add_confusion(&t, r);
    add_mistakes(&t, r);
    text_add(&t, "</html>\n");
    return t.data;
}
