/* The target table. */
#include "cnnc.h"

#include <string.h>

static const Target targets[] = {
    {"native", "the machine that compiles", "-march=native"},
    {"x86-64-v4", "AVX-512", "-march=x86-64-v4"},
    {"x86-64-v3", "AVX2 and FMA", "-march=x86-64-v3"},
    {"x86-64-v2", "SSE4.2", "-march=x86-64-v2"},
    {"generic", "scalar C99 for any compiler", ""},
};

const Target *target_list(int *count)
{
    *count = sizeof targets / sizeof *targets;
    return targets;
}

const Target *target_find(const char *name)
{
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (!strcmp(targets[i].name, name))
            return &targets[i];
    return NULL;
}
