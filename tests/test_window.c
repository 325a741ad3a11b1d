/* The geometry of windows, against windows, taps and cells that are laid out one by one. */
#include "../compiler/ops/ops.h"
#include "tests.h"

/* -- the output-size law -- */

/* Windows are put down a stride apart, from the start of the padding, as long as no
 * tap lies behind the padded input or, with ceil, a stride and more behind it. */
static int count_windows(int input, int kernel, int stride, int dilation, int begin, int end, bool ceil)
{
    int limit = input + end + (ceil ? stride - 1 : 0), count = 0, start = -begin;
    for (;; count++, start += stride) {
        bool inside = true;
        for (int tap = 0; tap < kernel; tap++)
            inside &= start + tap * dilation < limit;
        if (!inside)
            break;
    }
    if (ceil && count > 0 && start - stride >= input)
        count--;                                 /* the last one would start in the padding */
    return count;
}

static void check_law(int input, int kernel, int stride, int dilation, int begin, int end, bool ceil)
{
    int64_t law = window_output(input, kernel, stride, dilation, begin, end, ceil);
    int counted = count_windows(input, kernel, stride, dilation, begin, end, ceil);
    ck_assert_msg(counted ? law == counted : law <= 0,
                  "input %d, kernel %d, stride %d, dilation %d, pad %d and %d, %s: the law says %d, not %d",
                  input, kernel, stride, dilation, begin, end, ceil ? "ceil" : "floor", (int)law, counted);
}

START_TEST(output_counts_the_windows)
{
    int cases = 0;
    for (int input = 1; input <= 12; input++)
        for (int kernel = 1; kernel <= 5; kernel++)
            for (int stride = 1; stride <= 4; stride++)
                for (int dilation = 1; dilation <= 3; dilation++)
                    for (int begin = 0; begin <= 3; begin++)
                        for (int end = 0; end <= 3; end++, cases++) {
                            check_law(input, kernel, stride, dilation, begin, end, false);
                            check_law(input, kernel, stride, dilation, begin, end, true);
                        }
    ck_assert_int_eq(cases, 12 * 5 * 4 * 3 * 4 * 4);
}
END_TEST

START_TEST(output_of_huge_windows_does_not_overflow)
{
    ck_assert_int_eq(window_output(INT32_MAX, 1, 1, 1, 0, 0, false), INT32_MAX);
    ck_assert_int_eq(window_output(INT32_MAX, 1, 1, 1, INT32_MAX, INT32_MAX, false), 3 * (int64_t)INT32_MAX);
    ck_assert_int_le(window_output(5, INT32_MAX, 1, INT32_MAX, 0, 0, false), 0);
}
END_TEST

START_TEST(formula_shows_the_numbers)
{
    static const struct { Window w; int input; const char *text; } cases[] = {
        {{.kernel = {5}, .stride = {1}, .dilation = {1}, .begin = {2}, .end = {2}}, 28,
         "(28 - 5 + 2*2)/1 + 1 = 28"},
        {{.kernel = {5}, .stride = {1}, .dilation = {1}}, 3, "(3 - 5 + 2*0)/1 + 1 = -1"},
        {{.kernel = {2}, .stride = {2}, .dilation = {1}}, 8, "(8 - 2 + 2*0)/2 + 1 = 4"},
        {{.kernel = {2}, .stride = {2}, .dilation = {1}}, 7, "floor((7 - 2 + 2*0)/2) + 1 = 3"},
        {{.kernel = {2}, .stride = {2}, .dilation = {1}, .ceil = 1}, 7, "ceil((7 - 2 + 2*0)/2) + 1 = 4"},
        {{.kernel = {3}, .stride = {1}, .dilation = {2}, .begin = {1}}, 9,
         "(9 - (2*(3 - 1) + 1) + 1 + 0)/1 + 1 = 6"},
        {{.kernel = {1}, .stride = {4}, .dilation = {1}, .begin = {1}, .end = {1}, .ceil = 1}, 3,
         "ceil((3 - 1 + 2*1)/4) + 1 - 1 (the last window would start in the padding) = 1"},
    };
    Context c;
    context_init(&c);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_str_eq(window_formula(&c, &cases[i].w, 0, cases[i].input), cases[i].text);
    context_free(&c);
}
END_TEST

/* -- meetings and gathers -- */

enum { CELLS = 10, WINDOWS = 32, TAPS = 4 };

/* seen[cell][tap] counts how often the gathers reach the cell by the tap, and checks
 * the window that they name. */
static void walk_gathers(const Window *w, const Gather *gather, int seen[CELLS][TAPS], int visits[CELLS])
{
    const Reach *a = &gather->axis[0];
    for (int r = 0; r < a->run; r++)
        for (int i = 0; i < a->cells; i++) {
            int cell = a->first + r + a->stride * i;
            ck_assert(cell >= 0 && cell < CELLS);
            visits[cell]++;
            for (int t = 0; t < a->taps; t++) {
                int tap = a->tap + r + a->step * t, window = i + a->shift - a->back * t;
                ck_assert(tap >= 0 && tap < w->kernel[0]);
                ck_assert_int_eq(w->stride[0] * window + w->dilation[0] * tap - w->begin[0], cell);
                seen[cell][tap]++;
            }
        }
}

static void check_gathers(const Window *w, int input)
{
    Context c;
    context_init(&c);
    int count, seen[CELLS][TAPS] = {{0}}, visits[CELLS] = {0};
    const Gather *gather = window_gathers(&c, w, &input, &count);
    for (int i = 0; i < count; i++)
        walk_gathers(w, &gather[i], seen, visits);
    for (int cell = 0; cell < CELLS; cell++) {
        ck_assert_int_eq(visits[cell], cell < input);
        for (int tap = 0; tap < w->kernel[0]; tap++) {
            bool meets = (cell + w->begin[0] - tap * w->dilation[0]) % w->stride[0] == 0;
            ck_assert_int_eq(seen[cell][tap], cell < input && meets);
        }
    }
    context_free(&c);
}

START_TEST(gathers_reach_every_cell_by_every_tap_once)
{
    for (int input = 1; input <= CELLS; input++)
        for (int kernel = 1; kernel <= TAPS; kernel++)
            for (int stride = 1; stride <= 6; stride++)
                for (int dilation = 1; dilation <= 4; dilation++)
                    for (int begin = 0; begin <= 3; begin++) {
                        Window w = {.spatial = 1, .kernel = {kernel}, .stride = {stride},
                                    .dilation = {dilation}, .begin = {begin}};
                        check_gathers(&w, input);
                    }
}
END_TEST

/* A kernel as wide as its stride needs one nest, however large it is. */
START_TEST(like_classes_share_a_nest)
{
    Context c;
    context_init(&c);
    int count, size[] = {64, 64};
    Window w = {.spatial = 2, .kernel = {16, 16}, .stride = {16, 16}, .dilation = {1, 1}};
    window_gathers(&c, &w, size, &count);
    ck_assert_int_eq(count, 1);
    w.kernel[1] = 3;                             /* 13 columns of 16 that no window sees */
    window_gathers(&c, &w, size, &count);
    ck_assert_int_eq(count, 2);
    context_free(&c);
}
END_TEST

START_TEST(meetings_are_those_inside_the_input)
{
    Context c;
    context_init(&c);
    Window w = {.spatial = 2, .kernel = {2, 3}, .stride = {2, 1}, .dilation = {1, 2}, .begin = {1, 2}};
    int input[] = {3, 4}, output[] = {2, 2}, count, found = 0;
    const Meeting *list = window_meetings(&c, &w, input, output, &count);
    for (int i = 0; i < count; i++) {
        int window = list[i].window, tap = list[i].tap;
        int y = window / 2 * 2 + tap / 3 - 1, x = window % 2 + tap % 3 * 2 - 2;
        ck_assert_int_eq(list[i].cell, y * 4 + x);
        ck_assert(y >= 0 && y < 3 && x >= 0 && x < 4);
        for (int before = 0; before < i; before++)
            ck_assert(list[before].window != window || list[before].tap < tap);
    }
    for (int window = 0; window < 4; window++)
        for (int tap = 0; tap < 6; tap++) {
            int y = window / 2 * 2 + tap / 3 - 1, x = window % 2 + tap % 3 * 2 - 2;
            found += y >= 0 && y < 3 && x >= 0 && x < 4;
        }
    ck_assert_int_eq(found, count);
    context_free(&c);
}
END_TEST

Suite *window_suite(void)
{
    Suite *suite = suite_create("window");
    TCase *law = tcase_create("law");
    tcase_add_test(law, output_counts_the_windows);
    tcase_add_test(law, output_of_huge_windows_does_not_overflow);
    tcase_add_test(law, formula_shows_the_numbers);
    suite_add_tcase(suite, law);
    TCase *relation = tcase_create("relation");
    tcase_add_test(relation, gathers_reach_every_cell_by_every_tap_once);
    tcase_add_test(relation, like_classes_share_a_nest);
    tcase_add_test(relation, meetings_are_those_inside_the_input);
    suite_add_tcase(suite, relation);
    return suite;
}
