/* The leaves linked into this program, by target (runtime/leaves/family.c prints them). */
#include "runtime.h"

#include <string.h>

#ifdef __x86_64__
extern const HostLeaf cnnc_x86_64_v2_leaves[], cnnc_x86_64_v3_leaves[], cnnc_x86_64_v4_leaves[];

static const struct { const char *target; const HostLeaf *leaves; } families[] = {
    {"x86-64-v2", cnnc_x86_64_v2_leaves},
    {"x86-64-v3", cnnc_x86_64_v3_leaves},
    {"x86-64-v4", cnnc_x86_64_v4_leaves},
};
#endif

const HostLeaf *host_leaves(const Target *target)
{
#ifdef __x86_64__
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].target, target->name))
            return families[i].leaves;
#endif
    (void)target;
    return NULL;
}
