/* The host's strips: loops over elements for code that libtcc compiles.
 *
 * Printed code hands over a short program, where its operands begin and how often its
 * loops run (compiler/print/print_strip.c).  The program is executed step by step, each on
 * a strip of elements before the next step, so that what one step leaves to the next stays
 * in the nearest cache.  Compiled once for each level of x86-64; STRIPS is the name of the level's
 * table. */
#include "../../compiler/print/print.h"

#include <math.h>
#include <string.h>

#include "functions.h"

/* A step on strips of one size.  pitch: of what it writes and reads, from row to row; run: from
 * element to element. */
typedef struct Ready { int rows, run, pitch[4], along[4]; } Ready;

/* Where a step works now: p[0] is what it writes. */
typedef struct Spot { void *first; int pitch, run; } Spot;

enum { LOOPS = MAX_AXES + 1 };

typedef struct Machine {
    const cnnc_strip *g;
    const int *count;         /* of loops: outer, reducing, rows, run */
    /* Where operands are now (an integer's value is in units of a float), and the slots; how
     * far the operands move along a loop, and from its last pass back. */
    intptr_t at[STRIP_SLOT + STRIP_SLOTS], by[LOOPS][STRIP_OPERANDS], back[LOOPS][STRIP_OPERANDS];
    int moving;               /* operands, in whole vectors of 8 */
    int index[LOOPS];
    int rows, run;            /* of a whole strip */
    int ready_rows, ready_run;
    Ready ready[STRIP_STEPS];
} Machine;

/* -- steps -- */

#define TOGETHER _Pragma("GCC ivdep")

/* A row of so many elements is a block of channels, one vector. */
#if defined __AVX512F__
enum { BLOCK = 16 };
#elif defined __AVX2__
enum { BLOCK = 8 };
#else
enum { BLOCK = 4 };
#endif

/* Statements for every row of n elements, which begins at *to, *a, *b and *c. */
#define EACH_ROW(...) \
    for (int r = 0; r < rows; r++) { \
        (void)a, (void)b, (void)c; \
        __VA_ARGS__ \
        to += p[0].pitch, a += p[1].pitch, b += p[2].pitch, c += p[3].pitch; \
    }
#define ROWS(T, S, ...) \
    { \
        T *to = p[0].first; \
        const S *a = p[1].first, *b = p[2].first, *c = p[3].first; \
        EACH_ROW(__VA_ARGS__) \
        return; \
    }
/* The same where elements lie side by side.  A block is a whole vector before it is stored: the
 * row may be one of the operands. */
#define DENSE_ROWS(T, S, ...) \
    { \
        T *to = p[0].first; \
        const S *a = p[1].first, *b = p[2].first, *c = p[3].first; \
        if (length == BLOCK) { \
            enum { n = BLOCK }; \
            EACH_ROW(T block[BLOCK]; T *const row = to; \
                     { T *const to = block; __VA_ARGS__ } memcpy(row, block, sizeof block);) \
        } else { \
            const int n = length; \
            EACH_ROW(__VA_ARGS__) \
        } \
        return; \
    }
#define EACH(x_, y_, z_, S, value) \
    TOGETHER for (int i = 0; i < n; i++) { \
        const S x = x_, y = y_, z = z_; \
        (void)y, (void)z; \
        to[i] = value; \
    }
/* T from S; an operand is a vector or one number a row. */
#define UNARY(T, S, value) DENSE_ROWS(T, S, EACH(a[i], 0, 0, S, value))
#define BINARY(T, S, value) \
    switch (form & 3) { \
    case 1: DENSE_ROWS(T, S, const S one = *b; EACH(a[i], one, 0, S, value)) \
    case 2: DENSE_ROWS(T, S, const S one = *a; EACH(one, b[i], 0, S, value)) \
    default: DENSE_ROWS(T, S, EACH(a[i], b[i], 0, S, value)) \
    }
/* The first operand is a vector. */
#define TERNARY(T, S, value) \
    switch (form & 6) { \
    case 0: DENSE_ROWS(T, S, const S one = *b; const S two = *c; EACH(a[i], one, two, S, value)) \
    case 2: DENSE_ROWS(T, S, const S two = *c; EACH(a[i], b[i], two, S, value)) \
    case 4: DENSE_ROWS(T, S, const S one = *b; EACH(a[i], one, c[i], S, value)) \
    default: DENSE_ROWS(T, S, EACH(a[i], b[i], c[i], S, value)) \
    }

static void move(const Spot *p, int rows, int n)
{
    const int to_run = p[0].run, from_run = p[1].run;
    if (to_run == 1 && from_run == 1)
        ROWS(float, float, EACH(a[i], 0, 0, float, x))
    if (to_run == 1 && from_run == 0)
        ROWS(float, float, const float one = *a; EACH(one, 0, 0, float, x))
    if (to_run == 1 && from_run == 2)
        ROWS(float, float, EACH(a[2 * i], 0, 0, float, x))
    ROWS(float, float, TOGETHER for (int i = 0; i < n; i++) to[i * to_run] = a[i * from_run];)
}

/* An integer that advances by fixed steps. */
static void count_up(const Spot *p, int rows, int n)
{
    int32_t *to = p[0].first;
    const int value = (int)((intptr_t)p[1].first / (intptr_t)sizeof(float));
    for (int r = 0; r < rows; r++, to += p[0].pitch) {
        const int first = value + r * p[1].pitch, by = p[1].run;
        for (int i = 0; i < n; i++)
            to[i] = first + i * by;
    }
}

/* Where a vector wins over what has won so far, its tag is the winner's. */
static void tag(const Spot *p, int form, int rows, int n)
{
    int32_t *to = p[0].first;
    const float *x = p[1].first, *best = p[2].first;
    const int32_t *now = p[3].first;
    for (int r = 0; r < rows; r++, to += p[0].pitch, x += p[1].pitch, best += p[2].pitch, now += p[3].pitch) {
        const int32_t one = *now;
        if (form & 4)
            TOGETHER for (int i = 0; i < n; i++) {
                const int32_t before = to[i], tag = now[i];
                to[i] = x[i] > best[i] ? tag : before;
            }
        else
            TOGETHER for (int i = 0; i < n; i++) {
                const int32_t before = to[i];
                to[i] = x[i] > best[i] ? one : before;
            }
    }
}

static void draw(const Spot *p, int rows, int n)
{
    uint64_t seed;
    memcpy(&seed, p[3].first, sizeof seed);
    const uint32_t stream = *(const uint32_t *)p[1].first;
    ROWS(float, int32_t, TOGETHER for (int i = 0; i < n; i++) to[i] = unit(seed, stream, (uint32_t)b[i]);)
}

static void execute(int fn, int form, const Spot *p, int rows, int length)
{
    switch (fn) {
    case STRIP_MOVE: move(p, rows, length); return;
    case STRIP_COUNT: count_up(p, rows, length); return;
    case STRIP_TAG: tag(p, form, rows, length); return;
    case STRIP_RANDOM: draw(p, rows, length); return;
    case STRIP_ADD: BINARY(float, float, x + y)
    case STRIP_SUB: BINARY(float, float, x - y)
    case STRIP_MUL: BINARY(float, float, x * y)
    case STRIP_DIV: BINARY(float, float, x / y)
    case STRIP_MIN: BINARY(float, float, x < y ? x : y)
    case STRIP_MAX: BINARY(float, float, x > y ? x : y)
    case STRIP_LT: BINARY(int32_t, float, x < y)
    case STRIP_LE: BINARY(int32_t, float, x <= y)
    case STRIP_EQ: BINARY(int32_t, float, x == y)
    case STRIP_NEG: UNARY(float, float, -x)
    case STRIP_EXP: UNARY(float, float, exponential(x))
    case STRIP_LOG: UNARY(float, float, logarithm(x))
    case STRIP_TANH: UNARY(float, float, hyperbolic_tangent(x))
    case STRIP_SQRT: UNARY(float, float, __builtin_sqrtf(x))
    case STRIP_MULADD: TERNARY(float, float, x * y + z)
    case STRIP_SELECT: TERNARY(int32_t, int32_t, x ? y : z)
    case STRIP_AND: BINARY(int32_t, int32_t, x & y)
    case STRIP_TO_FLOAT: UNARY(float, int32_t, (float)x)
    case STRIP_INT_ADD: BINARY(int32_t, int32_t, x + y)
    case STRIP_INT_SUB: BINARY(int32_t, int32_t, x - y)
    case STRIP_INT_MUL: BINARY(int32_t, int32_t, x * y)
    case STRIP_INT_MIN: BINARY(int32_t, int32_t, x < y ? x : y)
    case STRIP_INT_MAX: BINARY(int32_t, int32_t, x > y ? x : y)
    case STRIP_INT_LT: BINARY(int32_t, int32_t, x < y)
    case STRIP_INT_LE: BINARY(int32_t, int32_t, x <= y)
    case STRIP_INT_EQ: BINARY(int32_t, int32_t, x == y)
    case STRIP_INT_NEG: UNARY(int32_t, int32_t, -x)
    default: return;
    }
}

/* Folds a vector into its first element, halves onto halves. */
static void fold_strip(int fn, float *x, int n)
{
    while (n > 1) {
        const int half = (n + 1) / 2;
        if (fn == STRIP_SUM)
            TOGETHER for (int i = 0; i < n - half; i++)
                x[i] += x[half + i];
        else
            TOGETHER for (int i = 0; i < n - half; i++)
                x[i] = x[half + i] > x[i] ? x[half + i] : x[i];
        n = half;
    }
}

/* Strips of so many rows and elements come next. */
static void prepare(Machine *m, int rows, int run)
{
    const cnnc_strip *g = m->g;
    const int loops = g->outer + g->reduce + 2;
    m->ready_rows = rows, m->ready_run = run;
    for (int i = 0; i < g->end; i++) {
        const cnnc_step *s = &g->step[i];
        const int form = s->form, ref[4] = {s->to, s->a, s->b, s->c};
        const bool vectors = form & STRIP_VECTOR;
        Ready r = {vectors ? rows : 1, vectors ? run : 1, {0}, {0}};
        bool one_row = vectors;                  /* rows that follow each other are one */
        for (int k = 0; k < 4; k++) {
            const bool vector = k ? form >> (k - 1) & 1 : vectors;
            const int *pitch = g->pitch + ref[k] * loops + loops - 2;
            r.pitch[k] = ref[k] < STRIP_SLOT ? pitch[0] : vector ? run : 0;
            r.along[k] = ref[k] < STRIP_SLOT ? pitch[1] : vector;
            one_row &= r.pitch[k] == run * r.along[k];
        }
        if (one_row)
            r.run *= rows, r.rows = 1;
        m->ready[i] = r;
    }
}

static void steps(Machine *m, int from, int to, int rows, int run)
{
    if (rows != m->ready_rows || run != m->ready_run)
        prepare(m, rows, run);
    for (int i = from; i < to; i++) {
        const cnnc_step *s = &m->g->step[i];
        const Ready *r = &m->ready[i];
        const Spot p[4] = {{(void *)m->at[s->to], r->pitch[0], r->along[0]},
                           {(void *)m->at[s->a], r->pitch[1], r->along[1]},
                           {(void *)m->at[s->b], r->pitch[2], r->along[2]},
                           {(void *)m->at[s->c], r->pitch[3], r->along[3]}};
        if (s->fn == STRIP_SUM || s->fn == STRIP_LARGEST)
            fold_strip(s->fn, p[0].first, rows * run);
        else
            execute(s->fn, s->form, p, r->rows, r->run);
    }
}

/* -- loops -- */

static void shift(Machine *m, const intptr_t *by)
{
    for (int i = 0; i < m->moving; i += 8)
        for (int k = 0; k < 8; k++)
            m->at[i + k] += by[i + k];
}

static void shift_times(Machine *m, int loop, int times)
{
    for (int i = 0; i < m->moving; i++)
        m->at[i] += times * m->by[loop][i];
}

/* The next pass of loops from .. to, the last of them innermost; false: there is none, and
 * operands are where they began. */
static bool advance(Machine *m, int from, int to)
{
    for (int loop = to - 1; loop >= from; loop--) {
        if (++m->index[loop] < m->count[loop]) {
            shift(m, m->by[loop]);
            return true;
        }
        shift(m, m->back[loop]);
        m->index[loop] = 0;
    }
    return false;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* The body for every strip of the rows. */
static void each_strip(Machine *m, void (*body)(Machine *m, int rows, int run))
{
    const int row = m->g->outer + m->g->reduce, rows = m->count[row], run = m->count[row + 1];
    for (int r = 0; r < rows; r += m->rows) {
        for (int i = 0; i < run; i += m->run) {
            body(m, least(m->rows, rows - r), least(m->run, run - i));
            shift_times(m, row + 1, least(m->run, run - i));
        }
        shift_times(m, row + 1, -run);
        shift_times(m, row, least(m->rows, rows - r));
    }
    shift_times(m, row, -rows);
}

static void taps(Machine *m, int rows, int run)
{
    steps(m, m->g->begin, m->g->taps, rows, run);
}

static bool any_taps(const Machine *m)
{
    for (int i = 0; i < m->g->reduce; i++)
        if (m->count[m->g->outer + i] <= 0)
            return false;
    return true;
}

static void reduced_strip(Machine *m, int rows, int run)
{
    const cnnc_strip *g = m->g;
    steps(m, 0, g->begin, rows, run);
    if (g->taps > g->begin && any_taps(m))
        do
            taps(m, rows, run);
        while (advance(m, g->outer, g->outer + g->reduce));
    steps(m, g->taps, g->end, rows, run);
}

/* The strips lie along what is reduced. */
static void reduced_across(Machine *m)
{
    const cnnc_strip *g = m->g;
    const int row = g->outer + g->reduce;
    steps(m, 0, g->begin, m->rows, m->run);
    if (any_taps(m) && m->count[row] > 0 && m->count[row + 1] > 0)
        do
            each_strip(m, taps);
        while (advance(m, g->outer, row));
    steps(m, g->taps, g->end, m->rows, m->run);
}

static void strips(const cnnc_strip *g, const size_t *at, const int *count)
{
    float slot[STRIP_FLOATS] __attribute__((aligned(64)));
    const int loops = g->outer + g->reduce + 2, row = loops - 2;
    Machine m;
    m.g = g, m.count = count;
    m.moving = (g->operands + 7) / 8 * 8;
    m.ready_rows = m.ready_run = -1;
    for (int i = 0; i < g->outer; i++)
        if (count[i] <= 0)
            return;
    m.run = count[row + 1] > 1 ? least(count[row + 1], g->length) : 1;
    m.rows = count[row] > 1 ? least(count[row], g->length / m.run) : 1;
    for (int i = 0; i < m.moving; i++)
        m.at[i] = i < g->operands ? (intptr_t)at[i] : 0;
    for (int i = 0; i < STRIP_SLOTS; i++)
        m.at[STRIP_SLOT + i] = (intptr_t)(slot + i * g->length);
    for (int k = 0; k < loops; k++) {
        m.index[k] = 0;
        for (int i = 0; i < m.moving; i++) {
            m.by[k][i] = i < g->operands ? (intptr_t)g->pitch[i * loops + k] * (intptr_t)sizeof(float) : 0;
            m.back[k][i] = m.by[k][i] * (1 - count[k]);
        }
    }
    do
        if (g->across)
            reduced_across(&m);
        else
            each_strip(&m, reduced_strip);
    while (advance(&m, 0, g->outer));
}

/* -- whole arrays -- */

static void sgd(float *param, const float *g, float *v, int n, float lr, float momentum, float decay)
{
    TOGETHER for (int i = 0; i < n; i++) {
        const float d = g[i] + decay * param[i], speed = momentum * v[i] + d;
        v[i] = speed;
        param[i] -= lr * speed;
    }
}

/* In order of Adam's definition: printed code has the same (compiler/print/print_train.c). */
static void adam(float *param, const float *g, float *mean, float *square, int n, const float *rate)
{
    const float step_size = rate[0], root = rate[1], beta1 = rate[2], beta2 = rate[3], eps = rate[4];
    const float decay = rate[5];
    TOGETHER for (int i = 0; i < n; i++) {
        const float d = g[i] + decay * param[i];
        const float m = beta1 * mean[i] + (1.0f - beta1) * d;
        const float s = beta2 * square[i] + (1.0f - beta2) * d * d;
        mean[i] = m;
        square[i] = s;
        param[i] -= step_size * m / (__builtin_sqrtf(s) / root + eps);
    }
}

/* Rows of `n` zeros. */
static void zeros(void *array, int rows, int pitch, int n)
{
    float *to = array;
    for (int r = 0; r < rows; r++, to += pitch)
        for (int i = 0; i < n; i++)
            to[i] = 0.0f;
}

const struct { const char *name; const void *address; } STRIPS[] = {
    {"cnnc_strips", (const void *)strips}, {"cnnc_host_sgd", (const void *)sgd},
    {"cnnc_host_adam", (const void *)adam}, {"cnnc_zeros", (const void *)zeros}, {0, 0}
};
