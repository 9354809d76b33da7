/* base: errors, checked sizes, half floats against a table and a scalar twin, random numbers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"

static void error_keeps_the_first_message(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    assert_int_equal(ws2_fail(&error, WS2_ERR_INPUT, "frame %d", 7), WS2_ERR_INPUT);
    assert_int_equal(ws2_fail(&error, WS2_ERR_SYSTEM, "later"), WS2_ERR_INPUT);
    assert_string_equal(error.text, "frame 7");
    ws2_error_prefix(&error, "clip");
    assert_string_equal(error.text, "clip: frame 7");
    assert_int_equal(ws2_fail(NULL, WS2_ERR_MODEL, "nobody listens"), WS2_ERR_MODEL);
}

static void long_messages_are_cut_not_overrun(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    ws2_fail(&error, WS2_ERR_INPUT, "%s", text);
    ws2_error_prefix(&error, "%s", text);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
}

static void dtypes_have_names_and_sizes(void **state)
{
    (void)state;
    const size_t size[WS2_DTYPES] = {1, 1, 2, 2, 4, 8, 2, 4, 8};
    for (int i = 0; i < WS2_DTYPES; i++) {
        enum ws2_dtype found;
        assert_int_equal(ws2_dtype_size((enum ws2_dtype)i), size[i]);
        assert_int_equal(ws2_dtype_parse(ws2_dtype_name((enum ws2_dtype)i), &found), 0);
        assert_int_equal(found, i);
    }
    enum ws2_dtype found;
    assert_int_equal(ws2_dtype_parse("u9", &found), WS2_ERR_INPUT);
    assert_int_equal(ws2_dtype_size((enum ws2_dtype)99), 0);
}

static void shapes_refuse_overflow(void **state)
{
    (void)state;
    size_t n;
    const struct ws2_shape good = ws2_shape_3(2, 3, 4), empty = ws2_shape_2(0, 5), scalar = {0, {0}};
    assert_true(ws2_shape_bytes(&good, WS2_F32, &n) && n == 96);
    assert_true(ws2_shape_count(&empty, &n) && n == 0);
    assert_true(ws2_shape_count(&scalar, &n) && n == 1);
    const struct ws2_shape negative = ws2_shape_2(-1, 5), huge = ws2_shape_3(INT64_MAX, INT64_MAX, 2);
    const struct ws2_shape just = ws2_shape_2(INT64_MAX / 2, 4), deep = {9, {0}};
    assert_false(ws2_shape_count(&negative, &n));
    assert_false(ws2_shape_count(&huge, &n));
    assert_false(ws2_shape_count(&deep, &n));
    assert_false(ws2_shape_bytes(&just, WS2_F64, &n));
    char text[64];
    assert_string_equal(ws2_shape_text(&good, text, sizeof text), "[2,3,4]");
    assert_string_equal(ws2_shape_text(&good, text, 5), "[2,3");
    assert_null(ws2_calloc(SIZE_MAX, 2));
}

static void halves_survive_the_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float value = ws2_half_to_float((uint16_t)h);
        if (isnan(value))
            assert_true((h & 0x7c00) == 0x7c00 && (h & 0x3ff));
        else
            assert_int_equal(ws2_half_from_float(value), h);
    }
}

static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    const struct {
        float value;
        uint16_t half;
    } table[] = {{1.0f, 0x3c00},     {-2.0f, 0xc000},        {65504.0f, 0x7bff}, {65519.0f, 0x7bff},
                 {65520.0f, 0x7c00}, {INFINITY, 0x7c00},     {0x1p-24f, 1},      {0x1p-25f, 0},
                 {0x1.8p-24f, 2},    {0x1p-14f, 0x0400},     {0.1f, 0x2e66},     {1.00048828125f, 0x3c00},
                 {-0.0f, 0x8000},    {1.0014648438f, 0x3c02}};
    float value[sizeof table / sizeof *table];
    uint16_t half[sizeof table / sizeof *table];
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_int_equal(ws2_half_from_float(table[i].value), table[i].half);
        value[i] = table[i].value;
    }
    ws2_half_from_floats(half, value, sizeof table / sizeof *table);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_int_equal(half[i], table[i].half);
    assert_true(isnan(ws2_half_to_float(ws2_half_from_float(NAN))));
}

static void random_numbers_depend_on_counters_only(void **state)
{
    (void)state;
    struct ws2_random a = ws2_random_make(42, 7), b = ws2_random_make(42, 7), c = ws2_random_make(42, 8);
    double sum = 0, squares = 0;
    int same = 0;
    for (int i = 0; i < 100000; i++) {
        const uint64_t x = ws2_random_u64(&a);
        assert_int_equal(x, ws2_random_u64(&b));
        same += x == ws2_random_u64(&c);
        const double z = ws2_random_normal(&a);
        ws2_random_normal(&b);
        sum += z;
        squares += z * z;
    }
    assert_int_equal(same, 0);
    assert_true(fabs(sum / 100000) < 0.02 && fabs(squares / 100000 - 1) < 0.02);
    for (int i = 0; i < 1000; i++) {
        const int64_t n = ws2_random_below(&a, 6);
        const double u = ws2_random_range(&a, -1, 2);
        assert_true(n >= 0 && n < 6 && u >= -1 && u < 2);
    }
}

static void permutations_hold_everything_once(void **state)
{
    (void)state;
    int64_t order[500];
    int seen[500] = {0}, moved = 0;
    struct ws2_random random = ws2_random_make(1, 1);
    ws2_random_permutation(&random, order, 500);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(seen[order[i]]++, 0);
        moved += order[i] != i;
    }
    assert_true(moved > 450);
}

static void fnv_of_known_keys(void **state)
{
    (void)state;
    assert_int_equal(ws2_fnv1a("", 0), 2166136261u);
    assert_int_equal(ws2_fnv1a("conv1.weight", 12), 3184444564u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_keeps_the_first_message),
        cmocka_unit_test(long_messages_are_cut_not_overrun),
        cmocka_unit_test(dtypes_have_names_and_sizes),
        cmocka_unit_test(shapes_refuse_overflow),
        cmocka_unit_test(halves_survive_the_round_trip),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(random_numbers_depend_on_counters_only),
        cmocka_unit_test(permutations_hold_everything_once),
        cmocka_unit_test(fnv_of_known_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
