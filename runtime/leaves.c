/* The leaves and strips linked into this program, by target (runtime/leaves/). */
#include "runtime.h"

#include <string.h>

typedef struct Family { const char *target; const HostLeaf *leaves, *strips; } Family;

#ifdef __x86_64__
extern const HostLeaf cnnc_x86_64_v2_leaves[], cnnc_x86_64_v3_leaves[], cnnc_x86_64_v4_leaves[];
extern const HostLeaf cnnc_x86_64_v2_strips[], cnnc_x86_64_v3_strips[], cnnc_x86_64_v4_strips[];

static const Family families[] = {
    {"x86-64-v2", cnnc_x86_64_v2_leaves, cnnc_x86_64_v2_strips},
    {"x86-64-v3", cnnc_x86_64_v3_leaves, cnnc_x86_64_v3_strips},
    {"x86-64-v4", cnnc_x86_64_v4_leaves, cnnc_x86_64_v4_strips},
};
#endif

static const Family *find(const Target *target)
{
#ifdef __x86_64__
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].target, target->name))
            return &families[i];
#endif
    (void)target;
    return NULL;
}

const HostLeaf *host_leaves(const Target *target)
{
    const Family *f = find(target);
    return f ? f->leaves : NULL;
}

const HostLeaf *host_strips(const Target *target)
{
    const Family *f = find(target);
    return f ? f->strips : NULL;
}
