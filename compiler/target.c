/* The target table. */
#include "cnnc.h"

#include <string.h>

static const Target targets[] = {
    {"native", "the machine that compiles", "-march=native", 0, 0},
    {"x86-64-v4", "AVX-512", "-march=x86-64-v4 -mprefer-vector-width=512", 16, 32},
    {"x86-64-v3", "AVX2 and FMA", "-march=x86-64-v3", 8, 16},
    {"x86-64-v2", "SSE4.2", "-march=x86-64-v2", 4, 16},
    {"generic", "scalar C99 for any compiler", "", 1, 16},
};

/* The row whose instructions this machine has. */
static const char *native_level(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return "x86-64-v4";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return "x86-64-v3";
    if (__builtin_cpu_supports("sse4.2"))
        return "x86-64-v2";
#endif
    return "generic";
}

const Target *target_level(const Target *t)
{
    return t->lanes ? t : target_find(native_level());
}

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

/* Levels of one architecture differ in their vectors. */
bool target_runs(const Target *t)
{
    return target_level(t)->lanes <= target_find(native_level())->lanes;
}
