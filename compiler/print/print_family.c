/* The host's leaves: which members the family has, and which serves a leaf best. */
#include "print.h"

enum { FAMILY_TILE = 14, FAMILY_VECTORS = 4, FAMILY_TAPS = 5 };

/* Steps along the tile that members know: of one or two vectors, or of as many numbers.  Then
 * the results of products and what is added to them lie in vectors, too. */
static bool stride_in_family(const Leaf *l, int stride)
{
    return stride == l->lanes || stride == 2 * l->lanes || (leaf_shares(l) && (stride == 1 || stride == 2));
}

/* Windows whose width members know: 2 and 3 for vectors, 5 for numbers. */
static bool taps_in_family(const Leaf *l, int taps)
{
    if (leaf_shares(l))
        return taps == FAMILY_TAPS && !l->rolled && l->stride < 2;
    return (taps == 2 || taps == 3) && l->stride && l->kind != LEAF_SUM && l->vectors == 1;
}

void print_leaf_suit(Leaf *l)
{
    if (l->window || l->across || l->matrix)
        return;
    int along = leaf_shares(l) ? l->b.t : l->a.t;
    bool b_steps = l->kind != LEAF_FMA || l->b.step[3] == (leaf_shares(l) ? 1 : l->lanes);
    bool blocks = l->kind != LEAF_FMA || (l->y.t == l->lanes && (!l->bias.node || !l->bias.t) &&
                                          (!l->add.node || l->add.t == l->lanes));
    bool steps = blocks && b_steps && l->a.spread <= 1 && l->a.step[3] == l->lanes;
    l->stride = steps && stride_in_family(l, along) ? along : 0;
    int count = l->last == l->count[3] ? l->count[3] : 0;
    l->taps = taps_in_family(l, count) ? count : 0;
}

static bool in_family(const Target *target, const Leaf *l)
{
    bool shares = leaf_shares(l);
    if (l->across)                               /* sums, both factors' vectors, one in passing */
        return l->a.spread == 1 && !l->stride && !l->taps && (l->kind == LEAF_FMA || l->vectors == 1) &&
               (l->tile + 1) * l->vectors + 1 <= target->registers;
    if (l->a.spread > 1 && (l->kind == LEAF_FMA || l->vectors > 1 || l->stride))
        return false;
    if (l->stride && !stride_in_family(l, l->stride))
        return false;
    if (l->taps && !taps_in_family(l, l->taps))
        return false;
    if (!shares)
        return l->vectors == 1 ? l->tile + 3 <= target->registers : l->tile == 1;
    return leaf_shape_fits(target, l->tile, l->vectors);
}

static void print_member(Text *t, Text *table, const char *prefix, const Leaf *l)
{
    const char *member = print_leaf_member(t->c, l);
    print_leaf_body(t, prefix, l, false);
    text_add(table, "    {\"cnnc_%s\", (const void *)%s_%s},\n", member, prefix, member);
}

/* The members of one kind, tile and number of vectors, and their rows of the table. */
static void print_members(Text *t, Text *table, const char *prefix, const Target *target, Leaf l)
{
    l.lanes = target->lanes;
    l.rolled = leaf_rolled(target, l.tile, l.vectors);
    for (l.a.spread = 1; l.a.spread <= LEAF_SPREAD; l.a.spread++)
        for (l.stride = 0; l.stride <= 2 * l.lanes; l.stride++)
            for (l.taps = 0; l.taps <= FAMILY_TAPS; l.taps++) {
                if (!in_family(target, &l))
                    continue;
                print_member(t, table, prefix, &l);
            }
}

/* Windows of so many rows. */
static void print_windows(Text *t, Text *table, const char *prefix, const Target *target, int rows)
{
    Leaf l = {.kind = LEAF_FMA, .b.vector = true, .lanes = target->lanes, .vectors = rows,
              .window = LEAF_WINDOW};
    for (l.tile = 1; l.tile <= LEAF_WINDOW_TILE; l.tile++)
        for (l.stride = l.lanes; l.stride <= 2 * l.lanes; l.stride += l.lanes)
            print_member(t, table, prefix, &l);
}

static void print_transforms(Text *t, Text *table, const char *prefix, const Target *target)
{
    for (int tile = 2; tile <= 6; tile += 2)
        for (int side = 0; side < WINOGRAD_SIDES; side++) {
            Leaf l = {.kind = LEAF_TRANSFORM, .lanes = target->lanes,
                      .matrix = winograd_matrix(t->c, tile, side)};
            print_member(t, table, prefix, &l);
        }
}

void print_leaf_family(Text *t, const Target *target)
{
    static const Leaf kinds[] = {{.kind = LEAF_FMA}, {.kind = LEAF_FMA, .b.vector = true}, {.kind = LEAF_SUM},
                                 {.kind = LEAF_MAX}, {.kind = LEAF_FMA, .b.vector = true, .across = true},
                                 {.kind = LEAF_SUM, .across = true}};
    LeafText every[] = {{.leaf = &(Leaf){.a.spread = 2}}, {.leaf = &(Leaf){.across = true}}};
    const Leaves all = {.hosted = true, .leaf = every, .leaves = 2};
    Context *c = t->c;
    const char *prefix = c_identifier(c, format(c, "cnnc_%s", target->name));
    Text table = {.c = c};
    text_add(t, "/* The leaves of %s for code that libtcc compiles; printed by cnnc. */\n"
                "#include <math.h>\n", target->name);
    print_leaf_types(t, prefix, target, &all);
    for (int kind = 0; kind < (int)(sizeof kinds / sizeof *kinds); kind++)
        for (int tile = 1; tile <= FAMILY_TILE; tile++)
            for (int vectors = 1; vectors <= FAMILY_VECTORS; vectors++) {
                Leaf l = kinds[kind];
                l.tile = tile;
                l.vectors = vectors;
                print_members(t, &table, prefix, target, l);
            }
    for (int rows = 1; rows <= LEAF_WINDOW_ROWS && target->registers >= LEAF_WINDOW_REGISTERS; rows++)
        print_windows(t, &table, prefix, target, rows);
    print_transforms(t, &table, prefix, target);
    print_probes(t, &table, prefix, target);
    text_add(t, "\nconst struct { const char *name; const void *address; } %s_leaves[] = {\n%s    {0, 0}\n"
                "};\n", prefix,
             table.data);
}
