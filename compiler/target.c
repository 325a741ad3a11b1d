/* The target table: a row is all that the compiler knows of a processor. */
#include "cnnc.h"

#include <string.h>

/* What a level of x86-64 must have, once to be asked here and once as text for generated code. */
#define V4 \
    __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && \
    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma")
#define V3 __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
#define V2 __builtin_cpu_supports("sse4.2")
#define TEXT_OF(condition) #condition
#define TEXT(condition) TEXT_OF(condition)

static bool always(void)
{
    return true;
}

static bool never(void)
{
    return false;
}

#ifdef __x86_64__
static bool runs_v4(void)
{
    __builtin_cpu_init();
    return V4;
}

static bool runs_v3(void)
{
    __builtin_cpu_init();
    return V3;
}

static bool runs_v2(void)
{
    __builtin_cpu_init();
    return V2;
}
#define HERE_X86(level) .here = true, .runs = runs_##level
#else
#define HERE_X86(level) .runs = never
#endif

#ifdef __aarch64__
#define HERE_AARCH64 .here = true, .runs = always
#else
#define HERE_AARCH64 .runs = never
#endif

/* What rows of one kind share. */
#define TOOLS(prefix) .compiler = prefix "gcc", .archiver = prefix "ar"
#define HOSTED .hosted = true, .incbin = true
#define X86_64 \
    .line = 16, .alignment = 64, .guard = "defined __x86_64__", TOOLS("x86_64-linux-gnu-"), HOSTED
#define CORTEX_M \
    .alignment = 8, TOOLS("arm-none-eabi-"), .runs = never, .small = true, .incbin = true

/* The first row that runs here and has vectors is what `native` stands for. */
static const Target targets[] = {
    {"native", "the machine that compiles", "-march=native", .alignment = 64, .here = true, .runs = always,
     HOSTED},
    {"x86-64-v4", "AVX-512", "-march=x86-64-v4 -mprefer-vector-width=512", 16, 32, .fused = true, X86_64,
     HERE_X86(v4), .condition = TEXT(V4),
     .features = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prefer-vector-width=512",
     .choice_guard = "__AVX512F__", .choice = "__builtin_ia32_%sps512_mask(a, b, a, -1, 4)"},
    {"x86-64-v3", "AVX2 and FMA", "-march=x86-64-v3", 8, 16, .fused = true, X86_64,
     HERE_X86(v3), .condition = TEXT(V3), .features = "avx2,fma",
     .choice_guard = "__AVX__", .choice = "__builtin_ia32_%sps256(a, b)"},
    {"x86-64-v2", "SSE4.2", "-march=x86-64-v2", 4, 16, X86_64,
     HERE_X86(v2), .condition = TEXT(V2), .features = "sse4.2",
     .choice_guard = "__SSE__", .choice = "__builtin_ia32_%sps(a, b)"},
    {"aarch64", "64-bit ARM, NEON", "-march=armv8-a", 4, 32, .fused = true, .line = 16, .alignment = 64,
     .guard = "defined __aarch64__", TOOLS("aarch64-linux-gnu-"), HERE_AARCH64, HOSTED},
    /* NEON takes numbers below 1e-38 for zero: gcc uses its vectors only where that is allowed. */
    {"armv7", "32-bit ARM, NEON with VFPv4",
     "-march=armv7-a -mfpu=neon-vfpv4 -mfloat-abi=hard -funsafe-math-optimizations", 4, 16, .fused = true,
     .line = 16, .alignment = 64, .guard = "defined __ARM_NEON && !defined __aarch64__",
     TOOLS("arm-linux-gnueabihf-"), .runs = never, HOSTED},
    {"cortex-m7", "single-precision FPU, scalar",
     "-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-sp-d16", 1, 32, .fused = true, CORTEX_M,
     .guard = "defined __ARM_ARCH_7EM__ && defined __ARM_FP"},
    {"cortex-m4", "single-precision FPU, scalar",
     "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16", 1, 32, .fused = true, CORTEX_M,
     .guard = "defined __ARM_ARCH_7EM__ && defined __ARM_FP"},
    {"cortex-m0", "no FPU", "-mcpu=cortex-m0 -mthumb", 1, CORTEX_M, .guard = "defined __ARM_ARCH_6M__"},
    {"riscv64", "RV64GC, scalar", "-march=rv64gc -mabi=lp64d", 1, 32, .fused = true, .alignment = 64,
     .guard = "defined __riscv_flen && __riscv_xlen == 64", TOOLS("riscv64-linux-gnu-"), .runs = never,
     HOSTED},
    {"wasm32", "WebAssembly, SIMD128", "-msimd128", 4, 16, .alignment = 16,
     .guard = "defined __wasm_simd128__", .compiler = "clang --target=wasm32-wasi", .archiver = "llvm-ar",
     .runs = never},
    {"generic", "scalar C99 for any compiler", "", 1, .alignment = 64, .here = true, .runs = always,
     .hosted = true},
};
enum { TARGETS = sizeof targets / sizeof *targets };

const Target *target_level(const Target *t)
{
    for (int i = 0; i < TARGETS && !t->lanes; i++)
        if (targets[i].lanes && targets[i].runs())
            t = &targets[i];
    return t;
}

const Target *target_list(int *count)
{
    *count = TARGETS;
    return targets;
}

const Target *target_find(const char *name)
{
    for (int i = 0; i < TARGETS; i++)
        if (!strcmp(targets[i].name, name))
            return &targets[i];
    return NULL;
}

bool target_runs(const Target *t)
{
    return t->runs();
}

const char *target_compiler(const Target *t)
{
    return t->here ? "gcc" : t->compiler;
}

const char *target_optimise(const Target *t)
{
    return t->small ? "-O2" : "-O3";
}
