/* Counter-based random numbers: a number is a pure function of (seed, stream,
 * counter), so that any element can be drawn on its own, in any order.
 *
 * Philox4x32-10: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel Random Numbers:
 * As Easy as 1, 2, 3", SC 2011, section 3.3.  Ten rounds of two 32x32 -> 64 bit
 * multiplications whose high halves are mixed with the key and swapped; the key
 * advances by a Weyl sequence (golden ratio, square root of 3 less 1). */
#include "cnnc.h"

enum { ROUNDS = 10 };

uint32_t random_bits(uint64_t seed, uint32_t stream, uint32_t counter)
{
    uint32_t x[4] = {counter, stream, 0, 0};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t even = (uint64_t)0xD2511F53u * x[0];
        uint64_t odd = (uint64_t)0xCD9E8D57u * x[2];
        x[0] = (uint32_t)(odd >> 32) ^ x[1] ^ key[0];
        x[2] = (uint32_t)(even >> 32) ^ x[3] ^ key[1];
        x[1] = (uint32_t)odd;
        x[3] = (uint32_t)even;
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    return x[0];
}

/* The upper 24 bits: every value is exact in float and 1 is never reached. */
float random_unit(uint64_t seed, uint32_t stream, uint32_t counter)
{
    return (float)(random_bits(seed, stream, counter) >> 8) * 0x1p-24f;
}

float param_initial(const Param *p, uint64_t seed, int i)
{
    switch (p->init) {
    case INIT_LITERAL: return p->literal[i];
    case INIT_UNIFORM: return (2 * random_unit(seed, (uint32_t)p->index, (uint32_t)i) - 1) * p->value;
    case INIT_CONSTANT: break;
    }
    return p->value;
}
