/* What follows a reduction in its kernel, where no leaf ends with it. */
#include "schedule.h"

#include <string.h>

/* The expression with what is stored in place of the accumulator. */
static Expr *reread(Context *c, const Expr *e, const Store *store)
{
    if (!e)
        return NULL;
    Expr *copy = NEW(c, Expr);
    *copy = *e;
    if (e->kind == X_ACC) {
        copy->kind = X_LOAD;
        copy->load = (Access){.node = store->node};
        memcpy(copy->load.index, store->index, sizeof store->index);
    }
    for (int i = 0; i < 3 && e->kind == X_CALL; i++)
        copy->arg[i] = reread(c, e->arg[i], store);
    return copy;
}

bool split_epilogue(Function *f, Kernel *k, int at)
{
    Nest *nest = k->nest[at], *rest = NEW(f->c, Nest);
    const Store *store = &nest->store;
    if (store->value->kind == X_ACC || store->accumulate || store->node->storage->place != PLACE_WORKSPACE ||
        store->node->dtype != F32)
        return false;
    *rest = *nest;
    rest->store.value = reread(f->c, store->value, store);
    rest->reduces = false;
    rest->again = true;
    rest->lane = -1;
    for (int a = 0; a < rest->axes; a++)
        if (rest->axis[a].reduce)
            rest->axis[a] = (Axis){.name = rest->axis[a].name, .extent = 1};
    Expr *bare = NEW(f->c, Expr);
    *bare = (Expr){.kind = X_ACC, .dtype = F32};
    nest->store.value = bare;
    PUSH(f->c, k->nest, k->nests) = NULL;
    for (int i = k->nests - 1; i > at + 1; i--)
        k->nest[i] = k->nest[i - 1];
    k->nest[at + 1] = rest;
    return true;
}
