/* Offsets of all workspace buffers: buffers that are never alive together share
 * memory, and a kernel that reads a dying buffer only where it writes works in
 * place.
 *
 * Placement is greedy by size: largest first, each at the lowest offset where no
 * buffer alive at the same time lies (Pisarchyk and Lee, Efficient Memory Management
 * for Deep Neural Net Inference, MLSys 2020, section 5.2). */
#include "../cnnc.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };                         /* bytes; a cache line, and any target's vector */

int64_t storage_bytes(const Storage *s)
{
    int64_t bytes = (int64_t)s->layout.elements * 4;
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static Storage *owner(Storage *s)
{
    while (s->shares)
        s = s->shares;
    return s;
}

static void find_lifetimes(Function *f)
{
    for (int i = 0; i < f->storages; i++)
        f->storage[i]->birth = -1;
    for (int k = 0; k < f->kernels; k++)
        for (int i = 0; i < f->kernel[k]->storages; i++) {
            Storage *s = f->kernel[k]->storage[i];
            if (s->birth < 0)
                s->birth = k;
            s->death = k;
        }
    for (int r = 0; r < f->graph->roots; r++)
        if (f->graph->root[r].kind == ROOT_LOSS)
            f->graph->root[r].node->storage->death = f->kernels;      /* returned to the caller */
}

/* -- in place -- */

typedef struct InPlace { const Nest *nest; const Storage *from, *to; bool legal; } InPlace;

static void check_load(Expr *load, void *user)
{
    InPlace *p = user;
    if (load->load.node->storage == p->from)
        p->legal &= p->nest->store.node->storage == p->to &&
                    memcmp(&load->affine, &p->nest->store.address, sizeof load->affine) == 0;
}

/* Each element of `from` is read only for the element that takes its place. */
static bool in_place(Kernel *kernel, const Storage *from)
{
    const Storage *to = kernel->node->storage;
    InPlace p = {.from = from, .to = to, .legal = from->layout.elements == to->layout.elements &&
                                        from->layout.gap == to->layout.gap && !to->clear};
    for (int i = 0; i < kernel->nests && p.legal; i++) {
        p.nest = kernel->nest[i];
        p.legal &= !kernel->nest[i]->again;
        nest_loads(kernel->nest[i], check_load, &p);
    }
    return p.legal;
}

static void share_in_place(Function *f)
{
    for (int k = 0; k < f->kernels; k++) {
        Storage *to = f->kernel[k]->node->storage;
        for (int i = 1; i < f->kernel[k]->storages; i++) {
            Storage *from = f->kernel[k]->storage[i], *home = owner(from);
            if (to->place != PLACE_WORKSPACE || from->place != PLACE_WORKSPACE || to->birth != k ||
                from == to || from->death != k || home->death != k || !in_place(f->kernel[k], from))
                continue;
            to->shares = home;
            to->takes = from->dtype == to->dtype ? from : NULL;
            home->death = to->death;
            break;
        }
    }
}

/* -- offsets -- */

static int by_size(const void *a, const void *b)
{
    const Storage *x = *(Storage *const *)a, *y = *(Storage *const *)b;
    if (storage_bytes(x) != storage_bytes(y))
        return storage_bytes(x) > storage_bytes(y) ? -1 : 1;
    return x->birth != y->birth ? x->birth - y->birth : strcmp(x->name, y->name);
}

static bool alive_together(const Function *f, const Storage *a, const Storage *b)
{
    int early = FAULT(f->c, FAULT_REUSED_TOO_EARLY);
    return a->birth <= b->death - early && b->birth <= a->death - early;
}

/* The lowest offset at which s meets none of the placed buffers. */
static int64_t lowest_offset(const Function *f, Storage *const *placed, int count, const Storage *s)
{
    int64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < count; i++) {
            const Storage *p = placed[i];
            bool meet = offset < p->offset + storage_bytes(p) && p->offset < offset + storage_bytes(s);
            if (meet && alive_together(f, p, s)) {
                offset = p->offset + storage_bytes(p);
                moved = true;
            }
        }
    }
    return offset;
}

void plan(Function *f)
{
    find_lifetimes(f);
    share_in_place(f);
    Storage **placed = NEW_ARRAY(f->c, Storage *, f->storages);
    int count = 0;
    for (int i = 0; i < f->storages; i++) {
        Storage *s = f->storage[i];
        if (s->place == PLACE_WORKSPACE && s->birth >= 0 && !s->shares)
            placed[count++] = s;
    }
    qsort(placed, (size_t)count, sizeof *placed, by_size);
    for (int i = 0; i < count; i++) {
        placed[i]->offset = lowest_offset(f, placed, i, placed[i]);
        int64_t end = placed[i]->offset + storage_bytes(placed[i]);
        f->workspace = end > f->workspace ? end : f->workspace;
    }
    for (int i = 0; i < f->storages; i++)
        f->storage[i]->offset = owner(f->storage[i])->offset;
}
