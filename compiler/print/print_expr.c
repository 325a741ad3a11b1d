/* Expressions and addresses as C text. */
#include "print.h"

#include <math.h>
#include <string.h>

/* %1 %2 %3: the operands.  A right operand of equal strength gets parentheses, so
 * that sums keep their order. */
static const struct FnText {
    const char *text;
    int bind, left, right;    /* of the whole; what the first and the other operands need */
    bool repeats;             /* the text names an operand twice: it must be a name */
} fn_text[] = {
    [FN_ADD]      = {"%1 + %2", BIND_SUM, BIND_SUM, BIND_PRODUCT, false},
    [FN_SUB]      = {"%1 - %2", BIND_SUM, BIND_SUM, BIND_PRODUCT, false},
    [FN_MUL]      = {"%1 * %2", BIND_PRODUCT, BIND_PRODUCT, BIND_UNARY, false},
    [FN_DIV]      = {"%1 / %2", BIND_PRODUCT, BIND_PRODUCT, BIND_UNARY, false},
    [FN_MIN]      = {"%1 < %2 ? %1 : %2", BIND_SELECT, BIND_SUM, BIND_SUM, true},
    [FN_MAX]      = {"%1 > %2 ? %1 : %2", BIND_SELECT, BIND_SUM, BIND_SUM, true},
    [FN_NEG]      = {"-%1", BIND_UNARY, BIND_ATOM, 0, false},
    [FN_EXP]      = {"expf(%1)", BIND_ATOM, 0, 0, false},
    [FN_LOG]      = {"logf(%1)", BIND_ATOM, 0, 0, false},
    [FN_TANH]     = {"tanhf(%1)", BIND_ATOM, 0, 0, false},
    [FN_SQRT]     = {"sqrtf(%1)", BIND_ATOM, 0, 0, false},
    [FN_LT]       = {"%1 < %2", BIND_COMPARE, BIND_SUM, BIND_SUM, false},
    [FN_LE]       = {"%1 <= %2", BIND_COMPARE, BIND_SUM, BIND_SUM, false},
    [FN_EQ]       = {"%1 == %2", BIND_COMPARE, BIND_SUM, BIND_SUM, false},
    [FN_AND]      = {"(%1) & (%2)", BIND_AND, 0, 0, false},
    [FN_SELECT]   = {"%1 ? %2 : %3", BIND_SELECT, BIND_COMPARE, BIND_AND, false},
    [FN_TO_FLOAT] = {"(float)%1", BIND_UNARY, BIND_ATOM, 0, false},
    [FN_RANDOM]   = {"random_unit(seed, %1, %2)", BIND_ATOM, 0, 0, false},
};

const char *print_float(Context *c, double value)
{
    float f = (float)value;
    char *text = NULL;
    for (int digits = 1; digits <= 9; digits++) {      /* the shortest that reads back as f */
        text = format(c, "%.*g", digits, (double)f);
        float back;
        if (sscanf(text, "%f", &back) == 1 && memcmp(&back, &f, sizeof f) == 0)
            break;
    }
    return format(c, "%s%sf", text, strpbrk(text, ".e") ? "" : ".0");
}

const char *print_affine(Printer *p, const Affine *a, int constant)
{
    Text t = {.c = p->c};
    int first = 0;
    while (first < MAX_AXES - 1 && !a->coef[first])
        first++;
    if (a->coef[first] < 0 && constant > 0) {    /* 7 - oh * 2 rather than -oh * 2 + 7 */
        text_add(&t, "%d", constant);
        constant = 0;
    }
    for (int i = 0; i < MAX_AXES; i++) {
        int coef = a->coef[i];
        if (!coef)
            continue;
        text_add(&t, "%s%s", t.length ? (coef < 0 ? " - " : " + ") : coef < 0 ? "-" : "", p->axis[i]);
        if (coef != 1 && coef != -1)
            text_add(&t, " * %d", coef < 0 ? -coef : coef);
    }
    if (!t.length)
        text_add(&t, "%d", constant);
    else if (constant)
        text_add(&t, " %c %d", constant < 0 ? '-' : '+', constant < 0 ? -constant : constant);
    return t.data;
}

static int affine_bind(const Affine *a)
{
    int terms = a->constant != 0, product = 0;
    for (int i = 0; i < MAX_AXES; i++) {
        terms += a->coef[i] != 0;
        product |= a->coef[i] < -1 || a->coef[i] > 1;
    }
    return terms > 1 || a->constant < 0 ? BIND_SUM : product ? BIND_PRODUCT : BIND_ATOM;
}

const char *print_access(Printer *p, const Node *n, const Affine *address)
{
    int base;
    const char *pointer = printer_pointer(p, n->storage, address, &base);
    if (pointer)
        return format(p->c, "%s[%d]", pointer, address->constant - base);
    const char *index = print_affine(p, address, address->constant);
    const char *name = printer_argument(p, n->storage);
    if (printer_by_number(p->f, n->storage))
        return format(p->c, "%s_value(from, %s, %s)", p->prefix, name, index);
    return format(p->c, "%s[%s]", name, index);
}

static const char *bound(Printer *p, const Expr *e, int need)
{
    int bind;
    const char *text = print_expr(p, e, &bind);
    return bind < need ? format(p->c, "(%s)", text) : text;
}

static const char *declared(Printer *p, const Expr *e, const char *text)
{
    const char *name = format(p->c, "v%d", p->values++);
    printer_line(p, "const %s %s = %s;", e->dtype == I32 ? "int" : "float", name, text);
    return name;
}

/* An operand whose text is used twice gets a name. */
static const char *named(Printer *p, const Expr *e)
{
    int bind;
    const char *text = print_expr(p, e, &bind);
    if (e->kind != X_CALL)
        return bind < BIND_PRODUCT ? format(p->c, "(%s)", text) : text;
    return declared(p, e, text);
}

static bool reads(const Expr *e)
{
    bool found = e && e->kind == X_LOAD;
    for (int i = 0; e && i < 3 && e->kind == X_CALL; i++)
        found |= reads(e->arg[i]);
    return found;
}

/* What a condition chooses is read beforehand: gcc 12 makes wrong vectors of rows, a few elements
 * long, that are read only where a condition holds. */
static const char *chosen(Printer *p, const Expr *e)
{
    if (!reads(e))
        return bound(p, e, BIND_AND);
    int bind;
    const char *text = print_expr(p, e, &bind);
    return declared(p, e, text);
}

/* RANDOM takes unsigned counters. */
static const char *counter(Printer *p, const Expr *e)
{
    int bind;
    const char *text = print_expr(p, e, &bind);
    return e->kind == X_INT ? format(p->c, "%su", text) : format(p->c, "(uint32_t)(%s)", text);
}

static const char *print_call(Printer *p, const Expr *e)
{
    const struct FnText *fn = &fn_text[e->fn];
    const char *arg[3] = {NULL, NULL, NULL};
    for (int i = 0; i < 3 && e->arg[i]; i++)
        arg[i] = fn->repeats ? named(p, e->arg[i])
               : e->fn == FN_RANDOM ? counter(p, e->arg[i])
               : e->fn == FN_SELECT && i > 0 ? chosen(p, e->arg[i])
               : bound(p, e->arg[i], i == 0 ? fn->left : fn->right);
    Text t = {.c = p->c};
    if (e->fn == FN_RANDOM)
        text_add(&t, "%s_", p->prefix);
    for (const char *s = fn->text; *s; s++) {
        if (*s == '%')
            text_add(&t, "%s", arg[*++s - '1']);
        else
            text_add(&t, "%c", *s);
    }
    return t.data;
}

const char *print_expr(Printer *p, const Expr *e, int *bind)
{
    *bind = BIND_ATOM;
    switch (e->kind) {
    case X_FLOAT:
        *bind = signbit(e->number) ? BIND_UNARY : BIND_ATOM;
        return print_float(p->c, e->number);
    case X_INT:
        *bind = e->number < 0 ? BIND_UNARY : BIND_ATOM;
        return format(p->c, "%d", (int)e->number);
    case X_AFFINE:
        *bind = affine_bind(&e->affine);
        return print_affine(p, &e->affine, e->affine.constant);
    case X_LOAD:
        return print_access(p, e->load.node, &e->affine);
    case X_ACC:
        if (e->acc == ACC_OF_ROW)
            return p->sums;
        return format(p->c, "%c%d", e->dtype == I32 ? 'k' : 's', e->acc);
    default:
        *bind = fn_text[e->fn].bind;
        return print_call(p, e);
    }
}
