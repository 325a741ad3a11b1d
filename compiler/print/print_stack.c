/* How much stack the generated functions take, at most.  C says nothing of stacks: this is a
 * bound on what gcc and clang make of these texts, which tests hold against theirs. */
#include "print.h"

#include <string.h>

enum {
    FORTH = 1024,             /* return addresses, saved registers, names for sums, a function of libm */
    BACK = 1536,              /* the same where compilers draw more kernels into one function */
    SLOT = 16,                /* a pointer of the driver, and the argument that it becomes */
    SPILLED = 4,              /* every register of vectors so many times, where leaves are inlined */
    ALIGNED = 64
};

/* The arrays of a loop tree. */
static int64_t arrays(const Nest *nest, const Loop *l)
{
    int64_t bytes = 0;
    for (; l; l = l->next) {
        if (l->kind == LOOP_SUMS)
            bytes += 4 * (int64_t)l->end;
        if (l->kind == LOOP_TRANSFORM)
            bytes += 4 * 2 * (int64_t)nest->matrix->columns * (nest->matrix->columns + nest->matrix->rows);
        if (l->kind == LOOP_LEAF && l->leaf->matrix)
            bytes += 4 * (int64_t)l->leaf->lanes * l->leaf->matrix->columns * l->leaf->matrix->rows;
        bytes += arrays(nest, l->body);
    }
    return bytes;
}

static int64_t kernel_arrays(const Kernel *k)
{
    int64_t bytes = 0;
    for (int i = 0; i < k->nests; i++)
        bytes += arrays(k->nest[i], k->nest[i]->loops);
    return bytes;
}

int64_t print_stack(const Function *f)
{
    const Target *target = f->target;
    int64_t bytes = strcmp(f->name, "backward") ? FORTH : BACK, most = 0;
    bytes += (int64_t)SLOT * f->storages;
    if (target->lanes > 1)
        bytes += (int64_t)SPILLED * 4 * target->lanes * target->registers;
    for (int k = 0; k < f->kernels; k++) {
        int64_t own = kernel_arrays(f->kernel[k]);
        most = own > most ? own : most;
    }
    bytes += most + (f->packs ? f->workspace : 0);
    return (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
}
