/* A line on the terminal that tells how far a long run is; silent on a pipe. */
#define _GNU_SOURCE
#include "runtime.h"

#include <math.h>
#include <unistd.h>

enum { BAR = 24 };

Progress progress_start(int64_t total)
{
    return (Progress){ .shown = isatty(STDERR_FILENO), .total = total, .start = milliseconds() };
}

void progress_show(Progress *p, int64_t done, double loss)
{
    double now = milliseconds(), seconds = (now - p->start) / 1e3;
    if (!p->shown || now - p->drawn < 100 || seconds < 1 || done == 0)
        return;                                  /* what is over at once needs no line */
    p->drawn = now;
    double rate = (double)done / seconds, left = (double)(p->total - done) / rate;
    int filled = (int)(BAR * done / p->total);
    fprintf(stderr, "\r[%.*s%*s] %3d %%", filled, "########################", BAR - filled, "",
            (int)(100 * done / p->total));
    if (!isnan(loss))
        fprintf(stderr, "  loss %.4g", loss);
    fprintf(stderr, "  %.0f/s  %.0f s left\033[K", rate, left);
    fflush(stderr);
}

void progress_clear(Progress *p)
{
    if (p->shown && p->drawn > 0)
        fputs("\r\033[K", stderr);
}
