/* Nests -> loop trees: what the files of this folder share. */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include "../cnnc.h"

enum {
    CODE_BUDGET = 32,         /* terms written out in the innermost body */
    UNROLL_WHOLE = 25,        /* longest product of axes that is written out whole: 5x5 taps */
    UNROLL_PART = 8,          /* taps per iteration of a longer axis */
    TILE = 8,                 /* accumulators */
    MAX_CLIPS = 8
};

/* 0 <= index < extent must hold at every read; axis is the loop that sees to it. */
typedef struct Clip { Affine index; int extent, axis; } Clip;

typedef struct Schedule {
    Context *c;
    const Target *target;
    const LeafShape *wanted;              /* or NULL */
    int candidate;
    bool small;                           /* nothing is written out */
    Nest *nest;
    Clip clip[MAX_CLIPS];
    int clips;
    int order[MAX_AXES], axes;            /* axes with a loop, parallel ones first */
    int parallel;                         /* how many of order[] are */
    int tile_axis, tile;                  /* -1: none */
    int cross_axis, cross;                /* scalar code: a second axis of the tile; -1: none */
    int cross_now;                        /* building a tile of so many along it */
    int taps;                             /* at most so many are written out */
    bool by_tap;                          /* a statement a product: accumulators stay in registers */
    int vector_axis, vectors;             /* blocks along the lanes computed together; -1: none */
    int ragged_axis, ragged;              /* places of the last block of that axis that exist; -1: none */
    bool in_last;                         /* building that block */
    int row_axis, rows;                   /* likewise of windows written out whole; -1: none */
    int rolled;                           /* order[parallel .. rolled) are loops, the rest is written out */
    int part_axis, part;                  /* an axis written out in parts, or -1 */
    int peel_begin, peel_end;             /* of the tile axis: needs no clipping between */
    bool inside;                          /* building the part between them */
    int loop_axis[LEAF_LOOPS];            /* the reduction axes of the leaf's loops, -1: none */
    Leaf leaf;                            /* what its innermost part is, for nests with lanes */
    /* While statements are built: how axis values turn into constants. */
    bool fixed[MAX_AXES];
    int offset[MAX_AXES];
} Schedule;

/* epilogue.c: the nest keeps its reduction, whose bare value it stores; what follows becomes a nest
 * of its own, behind it.  False where the value cannot be stored in between. */
bool split_epilogue(Function *f, Kernel *k, int at);

/* block.c: the reduction of an accumulating nest cut into parts whose operands stay in the cache. */
bool block_reduction(Nest *nest);             /* whether it has been cut */

/* bind.c: addresses, borders as clips, collapsed axes. */
void bind(Schedule *s);
bool clipped(const Schedule *s, int axis);
bool in_force(const Schedule *s, const Clip *clip);      /* between the peeled ends less is clipped */

/* schedule.c */
void append_store(Schedule *s, Loop ***tail, int acc);
void choose_peel(Schedule *s);
Affine placed(const Schedule *s, Affine a);              /* with the constants of unrolled axes */
Expr *placed_expr(const Schedule *s, const Expr *e, int acc);
Loop *append(Schedule *s, Loop ***tail, LoopKind kind);
/* A loop over an axis, clipped where it must be. */
Loop *append_for(Schedule *s, Loop ***tail, int axis, int begin, int end, int step);
/* The same; until it is closed, the axis of a loop that runs once is a constant.  The
 * place for its body. */
Loop **open_loop(Schedule *s, Loop ***tail, int axis, int begin, int end, int step);
void close_loop(Schedule *s, int axis);
/* One element where all parallel axes have values. */
void build_element(Schedule *s, Loop ***tail);

/* sums.c: a row of sums at a time, for a compiler's vectors; false: it would not pay. */
bool sums_fit(const Schedule *s);
void sums_build(Schedule *s, Loop ***tail);

/* registers.c: the tile of scalar code on a processor whose registers are known. */
bool registers_fit(Schedule *s);
void registers_choose(Schedule *s);

/* across.c: axes and shape of a leaf whose lanes are terms of one sum; false: nothing fits. */
bool choose_across(Schedule *s);

/* tile.c: nests with lanes.  False: no leaf does what the nest wants. */
bool tile_fits(Schedule *s);
void tile_build(Schedule *s, Loop ***tail);
const char *tile_describe(const Schedule *s);

/* strip.c: the nest's loops for the host; NULL: those of the text are as good. */
Loop *strips_build(Schedule *s);
/* An element as an operand whose lanes lie at most `spread` apart; what a leaf makes of its sums. */
bool tile_operand(const Schedule *s, const Expr *load, int spread, Operand *o);
bool tile_value(Schedule *s, const Expr *value);

/* transform.c: nests with a matrix, by a leaf if one does what the nest wants. */
bool transform_fits(Schedule *s);
void transform_build(Schedule *s, Loop ***tail);
const char *transform_describe(const Schedule *s);

/* share.c: the axis whose loops a team of threads divides, for a nest of at least so many
 * operations (0: as many as are worth it); -1: none. */
int share_axis(const Schedule *s, int least);

#endif
