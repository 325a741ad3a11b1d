/* Loops that the host runs, as one call: expressions become steps on strips of elements.
 *
 * A reference is an operand (from 0 on: memory, a constant, an integer made of axis values),
 * or the result of a step.  It is the same for a whole strip, or for a row, or a vector. */
#include "print.h"

#include <math.h>
#include <string.h>

enum { RESULT = STRIP_SLOT, SUMS = 1 << 20, TAGS };      /* references to results, from RESULT on */

typedef enum Extent { UNIFORM, ROWED, VECTOR } Extent;

/* Where an operand lies, or what an integer is made of. */
typedef enum SourceKind { MEMORY, NUMBER, WHOLE, AXES, SEED } SourceKind;
typedef struct Source { SourceKind kind; const Storage *memory; double value; Affine address; } Source;

typedef struct Step {
    int fn, arg[3];
    Extent extent;            /* UNIFORM or VECTOR */
    int to;                   /* operand or slot, or -1: not placed yet */
    int last;                 /* step that uses it */
} Step;

typedef struct Builder {
    Printer *p;
    const Strip *strip;
    Source *source;  int sources;
    Step *step;  int steps;
    int stage;                /* where the steps begin whose results may be used again */
    bool folded;              /* the sums are one number */
    int begin, taps, slots;   /* as of cnnc_strip */
} Builder;

/* -- operands -- */

static Extent affine_extent(const Builder *b, const Affine *a)
{
    if (a->coef[b->strip->run])
        return VECTOR;
    return b->strip->row >= 0 && a->coef[b->strip->row] ? ROWED : UNIFORM;
}

static Extent extent(const Builder *b, int ref)
{
    if (ref == SUMS || ref == TAGS)
        return b->folded ? UNIFORM : VECTOR;
    if (ref >= RESULT)
        return b->step[ref - RESULT].extent;
    return affine_extent(b, &b->source[ref].address);
}

static int operand(Builder *b, SourceKind kind, const Storage *memory, double value, const Affine *address)
{
    for (int i = 0; i < b->sources; i++) {
        const Source *s = &b->source[i];
        if (s->kind == kind && s->memory == memory && !memcmp(&s->value, &value, sizeof value) &&
            !memcmp(&s->address, address, sizeof *address))
            return i;
    }
    PUSH(b->p->c, b->source, b->sources) = (Source){kind, memory, value, *address};
    return b->sources - 1;
}

static int number(Builder *b, double value)
{
    return operand(b, NUMBER, NULL, value, &(Affine){0});
}

static int whole(Builder *b, int value)
{
    return operand(b, WHOLE, NULL, value, &(Affine){0});
}

/* -- steps -- */

static int emit(Builder *b, int fn, Extent result, int x, int y, int z)
{
    for (int i = b->stage; i < b->steps; i++) {
        const Step *s = &b->step[i];
        if (s->fn == fn && s->extent == result && s->arg[0] == x && s->arg[1] == y && s->arg[2] == z)
            return RESULT + i;
    }
    PUSH(b->p->c, b->step, b->steps) = (Step){.fn = fn, .arg = {x, y, z}, .extent = result, .to = -1};
    return RESULT + b->steps - 1;
}

/* The reference as elements side by side. */
static int vector(Builder *b, int ref)
{
    return extent(b, ref) == VECTOR ? ref : emit(b, STRIP_MOVE, VECTOR, ref, ref, ref);
}

/* What the steps need: all operands the same for the strip, or the first (of two, one) a vector. */
static int apply(Builder *b, int fn, int args, int x, int y, int z)
{
    bool uniform = extent(b, x) == UNIFORM && extent(b, y) == UNIFORM && extent(b, z) == UNIFORM;
    bool either = args == 2 && extent(b, y) == VECTOR;
    if (!uniform && !either)
        x = vector(b, x);
    return emit(b, fn, uniform ? UNIFORM : VECTOR, x, y, z);
}

static int build(Builder *b, const Expr *e);

/* Products are added without a step of their own. */
static int build_sum(Builder *b, const Expr *product, int sum)
{
    int x = build(b, product->arg[0]), y = build(b, product->arg[1]);
    if (extent(b, x) != VECTOR && extent(b, y) == VECTOR) {
        int first = x;
        x = y, y = first;
    }
    return apply(b, STRIP_MULADD, 3, x, y, sum);
}

static bool is_product(const Expr *e)
{
    return e->kind == X_CALL && e->fn == FN_MUL && e->dtype == F32;
}

static int function(const Expr *e)
{
    static const struct { int real, whole; } functions[] = {
        [FN_ADD] = {STRIP_ADD, STRIP_INT_ADD}, [FN_SUB] = {STRIP_SUB, STRIP_INT_SUB},
        [FN_MUL] = {STRIP_MUL, STRIP_INT_MUL}, [FN_DIV] = {STRIP_DIV, STRIP_NONE},
        [FN_MIN] = {STRIP_MIN, STRIP_INT_MIN}, [FN_MAX] = {STRIP_MAX, STRIP_INT_MAX},
        [FN_NEG] = {STRIP_NEG, STRIP_INT_NEG}, [FN_EXP] = {STRIP_EXP, STRIP_NONE},
        [FN_LOG] = {STRIP_LOG, STRIP_NONE}, [FN_TANH] = {STRIP_TANH, STRIP_NONE},
        [FN_SQRT] = {STRIP_SQRT, STRIP_NONE}, [FN_LT] = {STRIP_LT, STRIP_INT_LT},
        [FN_LE] = {STRIP_LE, STRIP_INT_LE}, [FN_EQ] = {STRIP_EQ, STRIP_INT_EQ},
        [FN_AND] = {STRIP_NONE, STRIP_AND}, [FN_SELECT] = {STRIP_NONE, STRIP_SELECT},
        [FN_TO_FLOAT] = {STRIP_NONE, STRIP_TO_FLOAT}, [FN_RANDOM] = {STRIP_NONE, STRIP_RANDOM},
    };
    return e->arg[0]->dtype == I32 ? functions[e->fn].whole : functions[e->fn].real;
}

static int build_call(Builder *b, const Expr *e)
{
    const Expr *x = e->arg[0], *y = e->arg[1], *z = e->arg[2];
    if (e->fn == FN_ADD && e->dtype == F32 && is_product(x))
        return build_sum(b, x, build(b, y));
    if (e->fn == FN_ADD && e->dtype == F32 && is_product(y))
        return build_sum(b, y, build(b, x));
    int first = build(b, x);
    if (e->fn == FN_RANDOM) {
        int counter = build(b, y), seed = operand(b, SEED, NULL, 0, &(Affine){0});
        return emit(b, STRIP_RANDOM, extent(b, counter), first, counter, seed);
    }
    int second = y ? build(b, y) : first, third = z ? build(b, z) : second;
    return apply(b, function(e), z ? 3 : y ? 2 : 1, first, second, third);
}

static int build(Builder *b, const Expr *e)
{
    switch (e->kind) {
    case X_FLOAT:
        return number(b, e->number);
    case X_INT:
        return whole(b, (int)e->number);
    case X_AFFINE: {
        int ref = operand(b, AXES, NULL, 0, &e->affine);
        return emit(b, STRIP_COUNT, extent(b, ref) == UNIFORM ? UNIFORM : VECTOR, ref, ref, ref);
    }
    case X_LOAD: {
        int ref = operand(b, MEMORY, e->load.node->storage, 0, &e->affine);
        int step = e->affine.coef[b->strip->run];
        return step == 0 || step == 1 ? ref : emit(b, STRIP_MOVE, VECTOR, ref, ref, ref);
    }
    case X_ACC:
        return e->dtype == I32 ? TAGS : SUMS;
    default:
        return build_call(b, e);
    }
}

static void emit_to(Builder *b, int fn, Extent result, int to, int x, int y, int z)
{
    PUSH(b->p->c, b->step, b->steps) = (Step){.fn = fn, .arg = {x, y, z}, .extent = result, .to = to};
}

/* -- the parts of a nest -- */

static void build_begin(Builder *b)
{
    ReduceKind reduce = b->p->nest->reduce;
    int first = number(b, reduce == REDUCE_SUM ? 0 : -INFINITY);
    emit_to(b, STRIP_MOVE, VECTOR, STRIP_SLOT, first, first, first);
    if (reduce == REDUCE_ARGMAX) {
        int tag = whole(b, 0);
        emit_to(b, STRIP_MOVE, VECTOR, STRIP_SLOT + 1, tag, tag, tag);
    }
}

static void build_taps(Builder *b)
{
    const Expr *term = b->strip->term;
    if (b->p->nest->reduce == REDUCE_SUM && is_product(term)) {
        int sum = build_sum(b, term, SUMS);
        b->step[sum - RESULT].to = STRIP_SLOT;
        return;
    }
    int x = build(b, term);
    if (b->p->nest->reduce == REDUCE_SUM) {
        emit_to(b, STRIP_ADD, VECTOR, STRIP_SLOT, SUMS, x, x);
        return;
    }
    if (b->strip->tag) {
        int tag = build(b, b->strip->tag);
        x = vector(b, x);
        emit_to(b, STRIP_TAG, VECTOR, STRIP_SLOT + 1, x, SUMS, tag);
    }
    emit_to(b, STRIP_MAX, VECTOR, STRIP_SLOT, x, SUMS, SUMS);
}

static void build_store(Builder *b)
{
    const Store *store = &b->strip->store;
    int value = build(b, store->value);
    int y = operand(b, MEMORY, store->node->storage, 0, &store->address);
    int step = store->address.coef[b->strip->run];
    Extent result = b->strip->across ? UNIFORM : VECTOR;
    bool direct = result == UNIFORM || step == 1;
    if (store->accumulate && direct) {
        emit_to(b, STRIP_ADD, result, y, y, value, value);
        return;
    }
    if (store->accumulate) {
        int before = emit(b, STRIP_MOVE, VECTOR, y, y, y);
        value = emit(b, STRIP_ADD, VECTOR, before, value, value);
    }
    bool last = value >= RESULT && value - RESULT == b->steps - 1 && b->steps - 1 >= b->stage;
    if (direct && last && b->step[b->steps - 1].extent == result)
        b->step[b->steps - 1].to = y;
    else
        emit_to(b, STRIP_MOVE, result, y, value, value, value);
}

/* -- slots -- */

/* Every result gets a slot until its last use.  The first ones hold sums and tags. */
static int place_results(Builder *b)
{
    int slots = b->strip->term ? b->strip->tag ? 2 : 1 : 0, most = slots, owner[STRIP_SLOTS];
    for (int i = 0; i < STRIP_SLOTS; i++)
        owner[i] = -1;
    for (int i = 0; i < b->steps; i++)
        for (int k = 0; k < 3; k++)
            if (b->step[i].arg[k] >= RESULT && b->step[i].arg[k] < SUMS)
                b->step[b->step[i].arg[k] - RESULT].last = i;
    for (int i = 0; i < b->steps; i++) {
        if (b->step[i].to >= 0)
            continue;
        int slot = slots;
        while (slot < STRIP_SLOTS && owner[slot] >= 0 && b->step[owner[slot]].last >= i)
            slot++;
        if (slot == STRIP_SLOTS)
            return 0;
        owner[slot] = i;
        b->step[i].to = STRIP_SLOT + slot;
        most = slot + 1 > most ? slot + 1 : most;
    }
    return most ? most : 1;
}

static int placed(const Builder *b, int ref)
{
    if (ref == SUMS || ref == TAGS)
        return STRIP_SLOT + ref - SUMS;
    return ref >= RESULT ? b->step[ref - RESULT].to : ref;
}

/* -- text -- */

static void print_steps(const Builder *b, const char *name)
{
    static const char *const names[] = {
#define NAME(name) "CNNC_" #name,
        STRIP_FUNCTIONS(NAME)
#undef NAME
    };
    Printer *p = b->p;
    Text t = {.c = p->c};
    Builder look = *b;
    for (int i = 0; i < b->steps; i++) {
        const Step *s = &b->step[i];
        look.folded = b->strip->across && i > b->taps;
        int form = s->extent == VECTOR ? STRIP_VECTOR : 0;
        for (int k = 0; k < 3 && form; k++)
            form |= extent(&look, s->arg[k]) == VECTOR ? 1 << k : 0;
        printer_argument_list(&t, 4 * p->depth + 4,
                              format(p->c, "{%s, %d, %d, %d, %d, %d}", names[s->fn], form, s->to,
                                     placed(b, s->arg[0]), placed(b, s->arg[1]), placed(b, s->arg[2])));
    }
    printer_line(p, "static const cnnc_step %s[] = {%s};", name, t.data);
}

static void print_pitches(const Builder *b, const char *name)
{
    Printer *p = b->p;
    Text t = {.c = p->c};
    for (int i = 0; i < b->sources; i++)
        for (int k = 0; k < b->strip->loops + (b->strip->row < 0); k++) {
            bool no_row = b->strip->row < 0 && k == b->strip->loops - 1;
            int loop = b->strip->row < 0 && k >= b->strip->loops ? k - 1 : k;
            int by = no_row ? 0 : b->source[i].address.coef[b->strip->loop[loop]->axis];
            printer_argument_list(&t, 4 * p->depth + 4, format(p->c, "%d", by));
        }
    printer_line(p, "static const int %s[] = {%s};", name, t.data);
}

/* Where the host begins: its loops' axes at their first values. */
static const char *first_value(const Builder *b, const Affine *affine)
{
    Printer *p = b->p;
    Affine a = *affine;
    const char *saved[MAX_AXES];
    memcpy(saved, p->axis, sizeof saved);
    for (int i = 0; i < b->strip->loops; i++) {
        const Loop *l = b->strip->loop[i];
        if (l->lows) {
            p->axis[l->axis] = printer_bound(p, l)->from;
        } else if (l->axis != p->nest->shared) {
            a.constant += a.coef[l->axis] * l->begin;
            a.coef[l->axis] = 0;
        }
    }
    const char *text = print_affine(p, &a, a.constant);
    memcpy(p->axis, saved, sizeof saved);
    return text;
}

static const char *print_start(const Builder *b, const Source *s)
{
    Context *c = b->p->c;
    const char *offset = first_value(b, &s->address);
    if (s->kind == AXES)
        return format(c, "(size_t)(4L * (%s))", offset);
    if (s->kind == SEED)
        return "(size_t)&seed";
    const char *name = printer_argument(b->p, s->memory);
    if (!strcmp(offset, "0"))
        return format(c, "(size_t)%s", name);
    return format(c, strpbrk(offset, "+-") ? "(size_t)(%s + (%s))" : "(size_t)(%s + %s)", name, offset);
}

/* Constants in arrays of their types, then where all operands begin. */
static void print_starts(const Builder *b, const char *name)
{
    Printer *p = b->p;
    Context *c = p->c;
    const char *const array[] = {
        [NUMBER] = printer_fresh(p, "number", ""), [WHOLE] = printer_fresh(p, "whole", "")};
    int count[] = {[NUMBER] = 0, [WHOLE] = 0}, indent = 4 * p->depth + 4;
    Text constants[] = {[NUMBER] = {.c = c}, [WHOLE] = {.c = c}}, starts = {.c = c};
    for (int i = 0; i < b->sources; i++) {
        const Source *s = &b->source[i];
        if (s->kind != NUMBER && s->kind != WHOLE) {
            printer_argument_list(&starts, indent, print_start(b, s));
            continue;
        }
        const char *value = s->kind == WHOLE ? format(c, "%d", (int)s->value)
                          : !isinf(s->value) ? print_float(c, s->value)
                          : s->value < 0 ? "-INFINITY" : "INFINITY";
        int k = count[s->kind]++;
        printer_argument_list(&constants[s->kind], indent, value);
        printer_argument_list(&starts, indent, format(c, "(size_t)&%s[%d]", array[s->kind], k));
    }
    if (count[NUMBER])
        printer_line(p, "const float %s[] = {%s};", array[NUMBER], constants[NUMBER].data);
    if (count[WHOLE])
        printer_line(p, "const int %s[] = {%s};", array[WHOLE], constants[WHOLE].data);
    printer_line(p, "const size_t %s[] = {%s};", name, starts.data);
}

/* How often a loop runs; of the one that threads share, the calling thread's part. */
static const char *print_times(const Printer *p, const Loop *l)
{
    if (l->axis == p->nest->shared)
        return format(p->c, "%s - %s", printer_part(p, l, 1), p->axis[l->axis]);
    if (!l->lows && !l->highs)
        return format(p->c, "%d", l->end - l->begin);
    const BoundName *bound = printer_bound(p, l);
    return strcmp(bound->from, "0") ? format(p->c, "%s - %s", bound->to, bound->from) : bound->to;
}

static void print_counts(const Builder *b, const char *name)
{
    Printer *p = b->p;
    Text t = {.c = p->c};
    for (int i = 0; i < b->strip->loops; i++) {
        if (b->strip->row < 0 && i == b->strip->loops - 1)
            printer_argument_list(&t, 4 * p->depth + 4, "1");
        printer_argument_list(&t, 4 * p->depth + 4, print_times(p, b->strip->loop[i]));
    }
    printer_line(p, "const int %s[] = {%s};", name, t.data);
}

/* The steps of a nest's innermost part. */
static Builder compose(Printer *p, const Strip *strip)
{
    Builder b = {.p = p, .strip = strip};
    if (strip->term)
        build_begin(&b);
    b.begin = b.stage = b.steps;
    if (strip->term)
        build_taps(&b);
    b.taps = b.stage = b.steps;
    if (strip->across) {
        int fn = p->nest->reduce == REDUCE_SUM ? STRIP_SUM : STRIP_LARGEST;
        emit_to(&b, fn, VECTOR, STRIP_SLOT, SUMS, SUMS, SUMS);
        b.folded = true;
        b.stage = b.steps;
    }
    build_store(&b);
    b.slots = place_results(&b);
    return b;
}

bool print_strips_fit(Printer *p, const Loop *l)
{
    for (; l; l = l->next) {
        if (l->kind == LOOP_FOR && !print_strips_fit(p, l->body))
            return false;
        if (l->kind != LOOP_STRIP)
            continue;
        Builder b = compose(p, l->strip);
        if (!b.slots || b.sources > STRIP_OPERANDS || b.steps > STRIP_STEPS)
            return false;
    }
    return true;
}

void print_strip(Printer *p, const Strip *strip)
{
    const Builder b = compose(p, strip);
    const char *pitch = printer_fresh(p, "pitch", ""), *step = printer_fresh(p, "step", "");
    const char *at = printer_fresh(p, "at", ""), *count = printer_fresh(p, "count", "");
    const char *name = printer_fresh(p, "strip", "");
    printer_line(p, "{");
    p->depth++;
    for (int i = 0; i < strip->loops; i++)
        if (strip->loop[i]->axis == p->nest->shared)
            printer_line(p, "const int %s = %s;", p->axis[p->nest->shared],
                         printer_part(p, strip->loop[i], 0));
    print_pitches(&b, pitch);
    print_steps(&b, step);
    int reduce = strip->loops - strip->outer - 1 - (strip->row >= 0);
    printer_line(p, "static const cnnc_strip %s = {%d, %d, %d, %d, %d, %d, %d, %d, %s, %s};", name, b.sources,
                 strip->outer, reduce, strip->across, b.slots <= STRIP_SLOTS / 2 ? STRIP : STRIP / 2, b.begin,
                 b.taps, b.steps, pitch, step);
    print_starts(&b, at);
    print_counts(&b, count);
    printer_line(p, "cnnc_strips(&%s, %s, %s);", name, at, count);
    p->depth--;
    printer_line(p, "}");
}

void print_strip_types(Text *t)
{
#define TEXT(...) #__VA_ARGS__
#define TEXT_OF(...) TEXT(__VA_ARGS__)
#define NAME(name) "CNNC_" #name ", "
    text_add(t, "%s\nenum { %sCNNC_NONE };\n"
             "void cnnc_strips(const cnnc_strip *, const size_t *, const int *);\n"
             "void cnnc_zeros(void *to, int rows, int pitch, int n);\n"
             "void cnnc_host_sgd(float *, const float *, float *, int, float, float, float);\n"
             "void cnnc_host_adam(float *, const float *, float *, float *, int, const float *);\n",
             TEXT_OF(STRIP_TYPES), STRIP_FUNCTIONS(NAME));
#undef NAME
}
