/* The counter-based generator and the initial values drawn from it. */
#include "../compiler/cnnc.h"
#include "tests.h"

#include <stdlib.h>

/* The first is Random123's published answer for Philox4x32-10 (kat_vectors); the
 * others were computed by a second implementation, of the paper's equations in Python
 * integers. */
START_TEST(philox_gives_the_published_numbers)
{
    ck_assert_uint_eq(random_bits(0, 0, 0), 0x6627e8d5);
    ck_assert_uint_eq(random_bits(UINT64_C(0x0123456789abcdef), 5, 77), 0x57ba45a7);
    ck_assert_uint_eq(random_bits(UINT64_C(1) << 40, 0, 3), 0x942ccdcb);
}
END_TEST

START_TEST(units_are_uniform)
{
    enum { DRAWS = 100000, BINS = 10 };
    int bin[BINS] = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        float unit = random_unit(42, 3, i);
        ck_assert(unit >= 0 && unit < 1);
        bin[(int)(unit * BINS)]++;
    }
    for (int i = 0; i < BINS; i++)               /* 5 standard deviations of a bin: 474 */
        ck_assert_int_le(abs(bin[i] - DRAWS / BINS), 475);
}
END_TEST

START_TEST(initial_values_follow_the_declaration)
{
    static const float literal[] = {0.5f, -2};
    Param uniform = {.index = 4, .init = INIT_UNIFORM, .value = 0.25f};
    Param constant = {.init = INIT_CONSTANT, .value = 1};
    Param fixed = {.init = INIT_LITERAL, .literal = literal};
    float lowest = 1, highest = -1;
    for (int i = 0; i < 1000; i++) {
        float value = param_initial(&uniform, 7, i);
        ck_assert_float_eq(value, (2 * random_unit(7, 4, (uint32_t)i) - 1) * 0.25f);
        lowest = value < lowest ? value : lowest;
        highest = value > highest ? value : highest;
    }
    ck_assert(lowest >= -0.25f && lowest < -0.24f && highest <= 0.25f && highest > 0.24f);
    ck_assert_float_eq(param_initial(&constant, 7, 3), 1);
    ck_assert_float_eq(param_initial(&fixed, 7, 1), -2);
}
END_TEST

Suite *random_suite(void)
{
    Suite *suite = suite_create("random");
    TCase *numbers = tcase_create("numbers");
    tcase_add_test(numbers, philox_gives_the_published_numbers);
    tcase_add_test(numbers, units_are_uniform);
    tcase_add_test(numbers, initial_values_follow_the_declaration);
    suite_add_tcase(suite, numbers);
    return suite;
}
