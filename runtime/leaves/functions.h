/* exp, log, tanh and random numbers, element by element without a branch, so that a compiler
 * makes vectors of them.  The polynomials are those of Cephes (S. L. Moshier, Methods and
 * Programs for Mathematical Functions, 1989: expf.c, logf.c, tanhf.c); the largest error of
 * each is below 2 units in the last place, over all floats (tests/test_strips.c). */
#include <stdint.h>
#include <string.h>

static inline float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* 2^k for a normal result. */
static inline float power_of_two(int k)
{
    return from_bits((uint32_t)(k + 127) << 23);
}

/* e^x = 2^k e^r with |r| <= ln 2 / 2.  ln 2 has two parts (Cody and Waite), the first so short
 * that k times it is exact.  The power of two comes in two factors: the result may be
 * denormal, or just finite. */
static inline float exponential(float x)
{
    const float round = 12582912.0f;             /* 1.5 * 2^23: what is added to it loses its fraction */
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    const float k = x * 1.44269504088896341f + round - round;
    const float r = x - k * 0.693359375f - k * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const int whole = (int)(k == k ? k : 0.0f), half = whole >> 1;
    return p * power_of_two(half) * power_of_two(whole - half);
}

/* log x = k ln 2 + log m with sqrt(1/2) <= m < sqrt(2). */
static inline float logarithm(float x)
{
    const int small = x < 1.17549435e-38f;       /* denormals are scaled by 2^24 */
    const float scaled = small ? x * 16777216.0f : x;
    const uint32_t bits = to_bits(scaled) - 0x3F3504F3u;        /* sqrt(1/2) */
    const float k = (float)(((int32_t)bits >> 23) - (small ? 24 : 0));
    const float m = from_bits((bits & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f, z = m * m;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    float y = p * m * z + k * -2.12194440e-4f;
    y = m + (y - 0.5f * z) + k * 0.693359375f;
    y = x > 3.40282347e+38f ? x : y;
    y = x == 0.0f ? -INFINITY : y;
    return x >= 0.0f ? y : NAN;
}

/* Near 0 an odd polynomial, elsewhere 1 - 2 / (e^2x + 1). */
static inline float hyperbolic_tangent(float x)
{
    const float z = x * x, size = __builtin_fabsf(x);
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    const float far = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
    return size < 0.625f ? p * z * x + x : __builtin_copysignf(far, x);
}

/* Philox4x32-10, bit for bit that of compiler/random.c. */
static inline float unit(uint64_t seed, uint32_t stream, uint32_t counter)
{
    uint32_t x0 = counter, x1 = stream, x2 = 0, x3 = 0;
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)x0 * 0xD2511F53u, b = (uint64_t)x2 * 0xCD9E8D57u;
        x0 = (uint32_t)(b >> 32) ^ x1 ^ key0;
        x1 = (uint32_t)b;
        x2 = (uint32_t)(a >> 32) ^ x3 ^ key1;
        x3 = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return (float)(int32_t)(x0 >> 8) * (1.0f / 16777216.0f);
}
