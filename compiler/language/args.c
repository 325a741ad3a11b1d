/* Option tables: `conv2d { 6, kernel = 5, pad = 2 }`, read by the op's ArgSpec.
 *
 * Nothing is guessed: a value of another kind, a number out of range, an option that
 * the operation does not know, a list with holes is refused.  Tables are read raw
 * and values never converted, so no Lua code runs in between. */
#include "language.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

typedef struct Reader {
    lua_State *L;
    Context *c;
    const Op *op;
    const char *method;
    int table;                /* stack index, 0: called without options */
    int spatial;
} Reader;

static _Noreturn void refuse(Reader *r, const char *name, const char *expected, int at)
{
    const char *found = value_text(r->L, at, r->c);
    fail(r->c, STATUS_INPUT, "%s: expects %s, found %s", name, expected, found);
}

static const char *range_text(Context *c, const char *kind, double low, double high)
{
    if (high != 0)
        return format(c, "%s between %.14g and %.14g", kind, low, high);
    return isinf(low) ? kind : format(c, "%s of at least %.14g", kind, low);
}

/* -- numbers -- */

static double read_number(Reader *r, const ArgSpec *spec, int at)
{
    double value = lua_type(r->L, at) == LUA_TNUMBER ? lua_tonumber(r->L, at) : NAN;
    if (!isfinite((float)value) || value < spec->low || (spec->high != 0 && value > spec->high))
        refuse(r, spec->name, range_text(r->c, "a finite number", spec->low, spec->high), at);
    return value;
}

static int read_int(Reader *r, const ArgSpec *spec, int at)
{
    int whole = 0;
    lua_Integer value = lua_type(r->L, at) == LUA_TNUMBER ? lua_tointegerx(r->L, at, &whole) : 0;
    double high = spec->high != 0 ? spec->high : INT_MAX;
    if (!whole || (double)value < spec->low || (double)value > high) {
        bool huge = (double)value > INT_MAX;
        refuse(r, spec->name, range_text(r->c, "a whole number", spec->low, huge ? high : spec->high), at);
    }
    return (int)value;
}

/* -- lists -- */

/* The list at `at`: its length, which must be wanted or, if that is not 0, other. */
static int read_dims(Reader *r, const ArgSpec *spec, int at, int wanted, int other, int *dim)
{
    int n = value_list(r->L, at, r->c, spec->name);
    if (n != wanted && (other == 0 || n != other))
        fail(r->c, STATUS_INPUT, "%s: expects a number or a list of %d%s, found %d entries",
             spec->name, wanted, other ? format(r->c, " or %d", other) : "", n);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(r->L, at, i + 1);
        dim[i] = read_int(r, spec, lua_gettop(r->L));
        lua_pop(r->L, 1);
    }
    return n;
}

/* A number for all, or one per spatial dim. */
static void read_window(Reader *r, const ArgSpec *spec, int at, Arg *arg)
{
    arg->count = r->spatial;
    if (lua_type(r->L, at) == LUA_TTABLE) {
        read_dims(r, spec, at, r->spatial, 0, arg->dim);
        return;
    }
    int value = read_int(r, spec, at);
    for (int d = 0; d < r->spatial; d++)
        arg->dim[d] = value;
}

/* As above, or all begins and then all ends, or "same". */
static void read_pads(Reader *r, const ArgSpec *spec, int at, Arg *arg)
{
    int n = r->spatial;
    arg->count = 2 * n;
    if (lua_type(r->L, at) == LUA_TSTRING) {
        arg->same = strcmp(lua_tostring(r->L, at), "same") == 0;
        if (!arg->same)
            refuse(r, spec->name, "numbers or \"same\"", at);
    } else if (lua_type(r->L, at) == LUA_TTABLE) {
        if (read_dims(r, spec, at, n, 2 * n, arg->dim) == n)
            memcpy(arg->dim + n, arg->dim, (size_t)n * sizeof(int));
    } else {
        int value = read_int(r, spec, at);
        for (int d = 0; d < 2 * n; d++)
            arg->dim[d] = value;
    }
}

/* -- tables of numbers -- */

/* The sizes of the nested table, as its first entries show them. */
static Shape literal_shape(Reader *r, const ArgSpec *spec, int at)
{
    const char *what = spec->name;
    Shape s = {0};
    lua_pushvalue(r->L, at);
    while (lua_type(r->L, -1) == LUA_TTABLE) {
        if (s.rank == MAX_RANK)
            fail(r->c, STATUS_INPUT, "%s: the table is nested more than %d deep", what, MAX_RANK);
        s.dim[s.rank] = value_list(r->L, -1, r->c, what);
        if (s.dim[s.rank++] == 0)
            fail(r->c, STATUS_INPUT, "%s: the table is empty", what);
        lua_rawgeti(r->L, -1, 1);
        lua_remove(r->L, -2);
    }
    lua_pop(r->L, 1);
    return s;
}

/* Copies the table on top of the stack, of dimension d, in C order. */
static float *copy_literal(Reader *r, const ArgSpec *spec, const Shape *s, int d, float *to)
{
    lua_State *L = r->L;
    if (d == s->rank) {
        double value = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : NAN;
        if (!isfinite((float)value))
            refuse(r, spec->name, "numbers that a 32-bit float can hold", -1);
        *to = (float)value;
        return to + 1;
    }
    if (lua_type(L, -1) != LUA_TTABLE)
        refuse(r, spec->name, "tables of equal depth", -1);
    int n = value_list(L, -1, r->c, spec->name);
    if (n != s->dim[d])
        fail(r->c, STATUS_INPUT, "%s: the table is ragged: one row has %d entries, another %d",
             spec->name, s->dim[d], n);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        to = copy_literal(r, spec, s, d + 1, to);
        lua_pop(L, 1);
    }
    return to;
}

static void read_literal(Reader *r, const ArgSpec *spec, int at, Arg *arg)
{
    if (lua_type(r->L, at) != LUA_TTABLE)
        refuse(r, spec->name, spec->kind == ARG_BIAS ? "true, false or a table of numbers"
                                                     : "a nested table of numbers", at);
    arg->shape = literal_shape(r, spec, at);
    int64_t count = 1;
    for (int d = 0; d < arg->shape.rank; d++)
        if (__builtin_mul_overflow(count, arg->shape.dim[d], &count) || count > INT_MAX)
            fail(r->c, STATUS_INPUT, "%s: has more than 2^31 - 1 numbers", spec->name);
    float *literal = NEW_ARRAY(r->c, float, count);
    lua_pushvalue(r->L, at);
    copy_literal(r, spec, &arg->shape, 0, literal);
    lua_pop(r->L, 1);
    arg->literal = literal;
}

/* -- one option -- */

static void read_value(Reader *r, const ArgSpec *spec, int at, Arg *arg)
{
    bool boolean = lua_type(r->L, at) == LUA_TBOOLEAN;
    arg->given = true;
    switch (spec->kind) {
    case ARG_INT:
        arg->number = read_int(r, spec, at);
        break;
    case ARG_NUMBER:
        arg->number = read_number(r, spec, at);
        break;
    case ARG_BOOL:
        if (!boolean)
            refuse(r, spec->name, "true or false", at);
        arg->flag = lua_toboolean(r->L, at);
        break;
    case ARG_BIAS:
        arg->flag = !boolean || lua_toboolean(r->L, at);
        if (!boolean)
            read_literal(r, spec, at, arg);
        break;
    case ARG_LITERAL:
        read_literal(r, spec, at, arg);
        break;
    case ARG_NAME: case ARG_INPUT_NAME:
        arg->text = value_name(r->L, at, r->c, spec->name);
        break;
    case ARG_DIMS:
        read_window(r, spec, at, arg);
        break;
    case ARG_PADS:
        read_pads(r, spec, at, arg);
        break;
    case ARG_SHAPE: case ARG_END:
        fail(r->c, STATUS_FAULT, "%s is no option", spec->name);
    }
}

static void fill_standard(Reader *r, const ArgSpec *spec, Arg *arg)
{
    arg->number = spec->standard;
    arg->flag = spec->standard != 0;
    arg->count = spec->kind == ARG_DIMS ? r->spatial : spec->kind == ARG_PADS ? 2 * r->spatial : 0;
    for (int d = 0; d < arg->count; d++)
        arg->dim[d] = (int)spec->standard;
}

/* -- the table as a whole -- */

static const char *known_options(Reader *r)
{
    Text t = {.c = r->c};
    text_add(&t, "%s", "");
    for (const ArgSpec *spec = r->op->args; spec && spec->kind != ARG_END; spec++)
        if (spec->kind != ARG_SHAPE)
            text_add(&t, "%s%s", t.length ? ", " : "", spec->name);
    return t.length ? format(r->c, "it knows %s", t.data) : "it has none";
}

static const ArgSpec *find_option(const Op *op, const char *name)
{
    for (const ArgSpec *spec = op->args; spec && spec->kind != ARG_END; spec++)
        if (spec->kind != ARG_SHAPE && strcmp(spec->name, name) == 0)
            return spec;
    return NULL;
}

/* Refuses keys that mean nothing; returns the number of positional entries.  Of several
 * unknown options the first by name is reported: the order of lua_next is not fixed. */
static int check_keys(Reader *r)
{
    lua_State *L = r->L;
    lua_Integer entries = 0, last = 0;
    const char *unknown = NULL;
    for (lua_pushnil(L); lua_next(L, r->table); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            const char *name = lua_tostring(L, -2);
            if (!find_option(r->op, name) && (!unknown || strcmp(name, unknown) < 0))
                unknown = name;
        } else if (lua_isinteger(L, -2) && lua_tointeger(L, -2) > 0) {
            last = lua_tointeger(L, -2) > last ? lua_tointeger(L, -2) : last;
            entries++;
        } else {
            fail(r->c, STATUS_INPUT, "options are named by words, found the key %s",
                 value_text(L, -2, r->c));
        }
    }
    if (unknown)
        fail(r->c, STATUS_INPUT, "unknown option \"%.40s\": %s", unknown, known_options(r));
    if (entries != last)
        fail(r->c, STATUS_INPUT, "entry %d is nil", value_hole(L, r->table));
    return entries > INT_MAX ? INT_MAX : (int)entries;
}

static void read_shape(Reader *r, const ArgSpec *spec, int entries, Arg *arg)
{
    if (entries > MAX_RANK - 1)
        fail(r->c, STATUS_INPUT, "at most %d dimensions, found %d", MAX_RANK - 1, entries);
    arg->given = entries > 0;
    arg->count = entries;
    for (int d = 0; d < entries; d++) {
        lua_rawgeti(r->L, r->table, d + 1);
        arg->dim[d] = read_int(r, spec, lua_gettop(r->L));
        lua_pop(r->L, 1);
    }
}

/* The value by name or by place stays on the stack.  *place counts positional options. */
static void push_option(Reader *r, const ArgSpec *spec, int entries, int *place)
{
    lua_State *L = r->L;
    lua_pushstring(L, spec->name);
    lua_rawget(L, r->table);
    if (!spec->positional || ++*place > entries)
        return;
    if (!lua_isnil(L, -1))
        fail(r->c, STATUS_INPUT, "%s is given twice: by name and as entry %d", spec->name,
             *place);
    lua_pop(L, 1);
    lua_rawgeti(L, r->table, *place);
}

static void read_option(Reader *r, const ArgSpec *spec, int entries, int *place, Arg *arg)
{
    push_option(r, spec, entries, place);
    if (lua_isnil(r->L, -1))
        fill_standard(r, spec, arg);
    else
        read_value(r, spec, lua_gettop(r->L), arg);
    lua_pop(r->L, 1);
}

/* Refuses more entries without a name than there are places for. */
static void check_places(Reader *r, int entries)
{
    int places = 0;
    bool any = r->op->operands < 0;              /* the entries are tensors, or sizes */
    for (const ArgSpec *spec = r->op->args; spec && spec->kind != ARG_END; spec++) {
        places += spec->positional;
        any |= spec->kind == ARG_SHAPE;
    }
    if (!any && entries > places)
        fail(r->c, STATUS_INPUT, "takes %d entr%s without a name, found %d", places,
             places == 1 ? "y" : "ies", entries);
}

static bool has_dims(const Op *op)
{
    for (const ArgSpec *spec = op->args; spec && spec->kind != ARG_END; spec++)
        if (spec->kind == ARG_DIMS)
            return true;
    return false;
}

/* The option table, an empty one where the call has none; leaves it at r->table. */
static void find_table(Reader *r, int at)
{
    bool none = at == 0 || lua_isnoneornil(r->L, at);
    if (!none && lua_type(r->L, at) != LUA_TTABLE)
        fail(r->c, STATUS_INPUT, "expects its options in braces, %s { ... }, found %s", r->method,
             value_text(r->L, at, r->c));
    if (none)
        lua_newtable(r->L);
    else
        lua_pushvalue(r->L, at);
    r->table = lua_gettop(r->L);
}

const Arg *args_read(lua_State *L, int at, Graph *g, const Op *op, const char *method, int spatial)
{
    Reader r = {.L = L, .c = g->c, .op = op, .method = method, .spatial = spatial};
    if (has_dims(op) && (spatial < 1 || spatial > MAX_SPATIAL))
        fail(r.c, STATUS_INPUT, "needs a tensor with 1 to %d spatial dimensions behind the channels",
             MAX_SPATIAL);
    find_table(&r, at);
    int entries = check_keys(&r), place = 0, count = 0;
    while (op->args && op->args[count].kind != ARG_END)
        count++;
    Arg *args = NEW_ARRAY(r.c, Arg, count + 1);
    check_places(&r, entries);
    for (int i = 0; i < count; i++) {
        const ArgSpec *spec = &op->args[i];
        if (spec->kind == ARG_SHAPE)
            read_shape(&r, spec, entries, &args[i]);
        else
            read_option(&r, spec, entries, &place, &args[i]);
        if (spec->required && !args[i].given)
            fail(r.c, STATUS_INPUT, "%s is missing (%s)", spec->name, spec->doc);
    }
    lua_settop(L, r.table - 1);
    return args;
}
