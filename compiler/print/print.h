/* What the printer's files share.  print.c is net.c, print_header.c is net.h; a kernel is
 * print_kernel.c (loops), print_names.c (pointers, bounds), print_expr.c (expressions) and
 * print_call.c with print_leaf.c (leaves); print_share.c finds kernels that are one function. */
#ifndef PRINT_H
#define PRINT_H

#include "../cnnc.h"

/* A pointer declared in the generated text: base + the part of an address that does
 * not change in the loops inside. */
typedef struct Pointer {
    const Storage *storage;
    Affine address;           /* its constant is where the pointer points */
    const char *name;
    int depth;                /* of the block that declares it */
} Pointer;

typedef struct BoundName { const Loop *loop; const char *from, *to; int depth; } BoundName;

/* The leaf functions of a file: one a geometry, in order of first use. */
typedef struct LeafText { const Leaf *leaf; const char *text, *name; } LeafText;
typedef struct Leaves {
    bool hosted, strips;      /* the host has their bodies; it runs loops over elements */
    LeafText *leaf; int leaves;
} Leaves;

typedef struct Printer {
    Context *c;
    Leaves *file;
    const char *prefix;       /* of the model's C names */
    const char *restricted;   /* what a pointer is that shares its memory with no other */
    const Function *f;
    const Kernel *kernel;
    bool by_part;             /* arguments are called by their part: out, in, weight, not relu1, ... */
    Nest *nest;
    const char *axis[MAX_AXES];
    Text text;
    int depth;                /* of indentation */
    int statements;           /* printed in the innermost block */
    int values;               /* named values so far in this nest */
    const char *sums;         /* an element of the array of accumulators: "sums[lane]" */
    Pointer *pointer;  int pointers;
    BoundName *bound;  int bounds;
} Printer;

enum { LINE = 110 };                             /* columns that a statement should fit in */

/* print_text.c.  One more argument, on a line of its own where it does not fit. */
void printer_argument_list(Text *t, int indent, const char *argument);
/* `text` with the prefix for every @ and the prefix in upper case for every $: names of
 * one file must not meet another's. */
void print_prefixed(Text *t, const char *prefix, const char *text);
/* The same with the model's prefix, then formatted; what is formatted in stays as it is. */
void print_named(Text *t, const Program *p, const char *text, ...) __attribute__((format(printf, 3, 4)));
const char *print_upper(Context *c, const char *name);
const char *print_base_name(const char *path);   /* without its folder */

/* print_header.c.  Argument lists of the functions that the header declares, and of the
 * forward and the backward that call tick(user, k) after kernel k. */
typedef enum Signature { FORWARD, PROFILE, BACKWARD, PROFILE_BACKWARD, LOSS } Signature;
const char *print_signature(const Program *p, Signature kind);
void print_argument_names(Text *t, const Program *p, Signature kind);    /* of one that calls another */
/* A local name that no argument has. */
const char *print_free_name(const Program *p, const char *name);
bool print_has_loss(Signature kind);             /* takes labels, returns the loss */
bool print_has_gradients(Signature kind);
bool print_ticks(Signature kind);
void print_params_struct(Text *t, const Program *p);

/* print_self_test.c */
void print_self_test_header(Text *t, const Program *p);
void print_self_test(Text *t, const Program *p);

/* print_stack.c.  Bytes of stack that a call of the function takes, at most. */
int64_t print_stack(const Function *f);

/* print_place.c.  Macros by which a build places code and constants. */
void print_places(Text *t, const Program *p);

/* print_names.c.  One indented line, broken before an operator where it is too long. */
void printer_line(Printer *p, const char *text, ...) __attribute__((format(printf, 2, 3)));
/* A loop or a condition and what is printed until it closes: in braces unless it is one statement. */
typedef struct Braces { size_t at; int outside; } Braces;
Braces printer_open(Printer *p, const char *text, ...) __attribute__((format(printf, 2, 3)));
void printer_close(Printer *p, Braces b);
/* Memory as a kernel names it: of what dies in the place of its result there is one pointer. */
const Storage *printer_memory(const Kernel *k, const Storage *s);
const char *printer_argument(const Printer *p, const Storage *s);
/* Whether an argument is the number of a parameter, whose elements @_value gives. */
bool printer_by_number(const Function *f, const Storage *s);
const char *printer_type(DType dtype);
bool printer_writes(const Kernel *k, const Storage *s);
const char *printer_fresh(Printer *p, const char *base, const char *suffix);      /* a free name */
void printer_name_axes(Printer *p);              /* of p->nest */
bool printer_runs_once(const Loop *l);
const char *printer_part(const Printer *p, const Loop *l, int end);      /* of a shared loop: its bounds */
/* Declares what a block's own axis (-1: none) settles: pointers, bounds of clipped loops. */
void printer_declare_pointers(Printer *p, const bool *known, int axis, const Loop *body);
void printer_declare_bounds(Printer *p, const bool *known, const Loop *l);
const BoundName *printer_bound(const Printer *p, const Loop *l);
/* The pointer that serves an address, or NULL; *base: the constant it points at. */
const char *printer_pointer(Printer *p, const Storage *s, const Affine *address, int *base);

/* How tightly a text binds, weakest first. */
enum { BIND_SELECT = 1, BIND_AND, BIND_COMPARE, BIND_SUM, BIND_PRODUCT, BIND_UNARY, BIND_ATOM };

/* The text of an expression; *bind: how tightly it binds.  May print lines before. */
const char *print_expr(Printer *p, const Expr *e, int *bind);
const char *print_access(Printer *p, const Node *n, const Affine *address);
const char *print_affine(Printer *p, const Affine *a, int constant);
const char *print_float(Context *c, double value);

/* A kernel's argument list and body, without the name before it.  by_part: see Printer. */
const char *print_kernel(Leaves *leaves, Context *c, const char *prefix, const Function *f, const Kernel *k,
                         bool by_part);

/* print_share.c: how a kernel is printed that may share its text with others. */
typedef struct Share {
    bool by_part;             /* see Printer */
    int others;               /* of the first of those that share: how many follow */
    const char *text;         /* of a kernel of pack that shares; elsewhere NULL: print_kernel's */
    const char **number;  int numbers;           /* the last arguments of a call of it */
} Share;
/* Of all kernels; like: the file's leaves. */
Share *print_shares(Context *c, const Leaves *like, const char *prefix, const Function *f);

bool kernel_shared(const Kernel *k);             /* a team of threads divides it */

/* print_call.c: one leaf; a loop of leaves as one call of the host, if it can be. */
void print_leaf_call(Printer *p, const Loop *l);
bool print_leaf_row(Printer *p, const Loop *l);
/* Cuts a loop around a leaf in three where only the ends are clipped: the middle is a row. */
bool print_leaf_parts(Printer *p, const Loop *l, Loop part[3]);

/* print_strip.c: loops that the host runs.  The host's program: steps on operands and, from
 * STRIP_SLOT on, on slots of `length` floats; pitches of each operand along the loops (outer,
 * reducing, rows, run).  Steps up to `begin` come before a reduction, up to `taps` in every
 * pass of it, up to `end` behind it.  The text that the host gets has the same types. */
#define STRIP_TYPES \
    typedef struct cnnc_step { int fn, form, to, a, b, c; } cnnc_step; \
    typedef struct cnnc_strip { \
        int operands, outer, reduce, across, length, begin, taps, end; \
        const int *pitch; \
        const cnnc_step *step; \
    } cnnc_strip;
STRIP_TYPES
#define STRIP_FUNCTIONS(F) \
    F(MOVE) F(COUNT) F(TAG) F(SUM) F(LARGEST) F(ADD) F(SUB) F(MUL) F(DIV) F(MIN) F(MAX) F(NEG) \
    F(EXP) F(LOG) F(TANH) F(SQRT) F(LT) F(LE) F(EQ) F(AND) F(SELECT) F(TO_FLOAT) F(RANDOM) F(MULADD) \
    F(INT_ADD) F(INT_SUB) F(INT_MUL) F(INT_MIN) F(INT_MAX) F(INT_LT) F(INT_LE) F(INT_EQ) F(INT_NEG)
#define STRIP_NUMBER(name) STRIP_##name,
enum { STRIP_FUNCTIONS(STRIP_NUMBER) STRIP_NONE };
enum {
    STRIP_OPERANDS = 48, STRIP_SLOTS = 16, STRIP_STEPS = 96,       /* at most */
    STRIP_SLOT = 64,
    STRIP_FLOATS = STRIP_SLOTS / 2 * STRIP,      /* of all slots: strips are shorter where there are many */
    STRIP_VECTOR = 8          /* form: the step is done for all elements; 1, 2, 4: a, b, c are vectors */
};
void print_strip_types(Text *t);
bool print_strips_fit(Printer *p, const Loop *l);        /* into the host's limits */
void print_strip(Printer *p, const Strip *strip);

/* print_leaf.c: leaves.  hosted: their bodies are in the host. */
/* With what the bodies of `used` call; NULL: no bodies. */
void print_leaf_types(Text *t, const char *prefix, const Target *target, const Leaves *used);
/* place: see print_places. */
void print_leaf_macro(Text *t, const char *prefix, const char *place, bool hosted);
const char *print_leaf_member(Context *c, const Leaf *leaf);     /* "fma_14x2" */
const char *print_leaf_geometry(Context *c, const Leaf *leaf);
void print_leaf_body(Text *t, const char *prefix, const Leaf *leaf, bool is_static);
void print_leaf_declaration(Text *t, const char *prefix, const Leaf *leaf);

/* print_family.c: sets stride and taps to those of the host's member that suits a leaf best. */
void print_leaf_suit(Leaf *l);
/* print_transform.c: grids transformed by a matrix, as a leaf and element by element. */
void print_transform_body(Text *t, const Leaf *leaf, bool is_static);     /* prefix still to be set */
void print_matrices(Printer *p);                 /* the tables that the kernel's transforms name */
void print_transform(Printer *p, const Loop *l);

/* print_probes.c: functions of the family that find a target's limits, with their rows of
 * the family's table. */
void print_probes(Text *t, Text *table, const char *prefix, const Target *target);

/* print_params.c: where parameters come from. */
void print_values(Text *t, const Program *p);    /* @_value: a parameter's element, from flat or seed */
/* pack, init, literal weights.  calls: fill the derived fields; weights_file: name of
 * the file for large literal weights, NULL to keep them in the text. */
void print_pack(Text *t, const Program *p, const char *calls, const char *weights_file);

/* print_blob.c: parameters from outside the program; the header's part of it. */
void print_blob(Text *t, const Program *p);
void print_blob_statuses(Text *t, const Program *p);
void print_blob_prototypes(Text *t, const Program *p);

/* print_train.c: what training does to them. */
void print_fields(Text *t, const Program *p);    /* table of fields, and access by number */
/* strips: the host runs the loops. */
void print_clear(Text *t, const Program *p, bool strips);        /* statements: grad = 0 */
void print_training(Text *t, const Program *p, bool strips);     /* unpack, optimisers */

/* print_team.c: threads that share the work of a call. */
bool program_shared(const Program *p);
void print_team_types(Text *t, const Program *p, PrintKind kind);
/* The body of a function that lets OpenMP's threads share its driver, @_name_share. */
void print_team(Text *t, const Program *p, const char *name, Signature kind);

/* print_jit.c: entry points with one signature for every model. */
void print_jit_entries(Text *t, const Program *p, bool hosted);

#endif
