/* Refined masks: the cases of the merge by hand (T16) and all rules against sets of pixels, one by one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "mask/mask.h"

static const struct ws2_refine published = {.rule = WS2_REFINE_SEPL, .max_area = 1};

/* The masks in layers: what the rules make of them is the same. */
static void in_layers(const struct ws2_refine *rule, struct ws2_refine_scratch *scratch,
                      const uint8_t *coarse, const struct ws2_instances *stack, int64_t taken,
                      const uint8_t *refined)
{
    const size_t pixels = (size_t)(stack->height * stack->width);
    struct ws2_layers layers = {0};
    struct ws2_bits mask = {0};
    uint8_t *again = ws2_calloc(pixels, 1);
    assert_int_equal(ws2_layers_reset(&layers, stack->height, stack->width, NULL), 0);
    assert_int_equal(ws2_bits_reset(&mask, stack->height, stack->width, NULL), 0);
    for (int64_t k = 0; k < stack->count; k++) {
        ws2_bits_from_bytes(&mask, stack->stack + (size_t)k * pixels);
        assert_int_equal(ws2_layers_add(&layers, &mask, NULL), 0);
    }
    const struct ws2_instances instances = {
        .layers = layers.layers, .height = stack->height, .width = stack->width, .layer = layers.layer};
    assert_int_equal(ws2_refine_mask(rule, scratch, coarse, &instances, again, NULL), taken);
    assert_memory_equal(again, refined, pixels);
    ws2_layers_free(&layers);
    ws2_bits_free(&mask);
    free(again);
}

static int64_t refine(const struct ws2_refine *rule, const uint8_t *coarse, const uint8_t *instance,
                      int64_t count, int64_t height, int64_t width, uint8_t *refined)
{
    const struct ws2_instances stack = {.count = count, .height = height, .width = width, .stack = instance};
    struct ws2_refine_scratch scratch = {0};
    const int64_t taken = ws2_refine_mask(rule, &scratch, coarse, &stack, refined, NULL);
    if (taken >= 0)
        in_layers(rule, &scratch, coarse, &stack, taken, refined);
    ws2_refine_scratch_free(&scratch);
    return taken;
}

/* ---- by hand -------------------------------------------------------------------------------------------- */

/* 8 x 8 pixels, the coarse mask is the square of rows and columns 2..5. */
static void square(uint8_t *coarse)
{
    memset(coarse, 0, 64);
    for (int y = 2; y < 6; y++)
        memset(coarse + 8 * y + 2, 1, 4);
}

/* The left half of the square and `outside` pixels from the top, left to right. */
static void left_half(uint8_t *mask, int outside)
{
    memset(mask, 0, 64);
    memset(mask, 1, (size_t)outside);
    for (int y = 2; y < 6; y++)
        memset(mask + 8 * y + 2, 1, 2);
}

static void test_more_than_half(void **state)
{
    (void)state;
    uint8_t coarse[64], mask[64], refined[64], want[64];
    square(coarse);
    left_half(mask, 7); /* 8 of 15 pixels are coarse */
    assert_int_equal(refine(&published, coarse, mask, 1, 8, 8, refined), 1);
    for (int i = 0; i < 64; i++)
        want[i] = coarse[i] | mask[i];
    assert_memory_equal(refined, want, 64);
    left_half(mask, 8); /* 8 of 16: its coarse pixels vanish, the others stay */
    assert_int_equal(refine(&published, coarse, mask, 1, 8, 8, refined), 0);
    for (int i = 0; i < 64; i++)
        want[i] = coarse[i] & ~mask[i];
    assert_memory_equal(refined, want, 64);
}

static void test_most_of_the_coarse(void **state)
{
    (void)state;
    uint8_t coarse[64], mask[64], refined[64], want[64];
    square(coarse);
    memset(mask, 1, 64); /* the whole frame holds the whole square */
    assert_int_equal(refine(&published, coarse, mask, 1, 8, 8, refined), 1);
    assert_memory_equal(refined, mask, 64);
    const struct ws2_refine guarded = {.rule = WS2_REFINE_SEPL, .max_area = 0.5};
    assert_int_equal(refine(&guarded, coarse, mask, 1, 8, 8, refined), 0);
    assert_memory_equal(refined, coarse, 64);
    memset(mask + 40, 0, 24); /* most of the frame, without the last row of the square: belt */
    assert_int_equal(refine(&guarded, coarse, mask, 1, 8, 8, refined), 0);
    for (int i = 0; i < 64; i++)
        assert_int_equal(refined[i], coarse[i] && !mask[i]);
    memset(mask + 32, 0, 32); /* half of the frame is not above a half, but holds half of the square only */
    assert_int_equal(refine(&guarded, coarse, mask, 1, 8, 8, refined), 0);
    memset(want, 0, 64);
    memcpy(want + 32, coarse + 32, 32);
    assert_memory_equal(refined, want, 64);
}

/* 17 of 20 coarse pixels are 85 %, which is enough; 16 are not. */
static void test_exactly_85_percent(void **state)
{
    (void)state;
    uint8_t coarse[100] = {0}, mask[100], refined[100];
    memset(coarse, 1, 20);
    memset(mask, 1, 100);
    memset(mask, 0, 3);
    assert_int_equal(refine(&published, coarse, mask, 1, 10, 10, refined), 1);
    memset(mask, 0, 4);
    assert_int_equal(refine(&published, coarse, mask, 1, 10, 10, refined), 0);
}

static void test_nothing(void **state)
{
    (void)state;
    uint8_t coarse[64], mask[2 * 64], refined[64];
    const uint8_t none[64] = {0};
    square(coarse);
    assert_int_equal(refine(&published, coarse, NULL, 0, 8, 8, refined), 0);
    assert_memory_equal(refined, coarse, 64); /* no masks */
    memset(mask, 0, 64);
    memset(mask + 64, 1, 64);
    assert_int_equal(refine(&published, none, mask, 2, 8, 8, refined), 0);
    assert_memory_equal(refined, none, 64); /* no coarse mask, although everything holds 85 % of nothing */
    assert_int_equal(refine(&published, coarse, mask, 1, 8, 8, refined), 0);
    assert_memory_equal(refined, coarse, 64); /* a mask without a pixel */
    assert_int_equal(refine(&published, coarse, mask, 2, 0, 8, refined), 0);
}

/* Two small instances inside a coarse mask of two blobs: neither has much of the whole. */
static void test_parts(void **state)
{
    (void)state;
    struct ws2_refine copy = {.rule = WS2_REFINE_COPY, .max_area = 1, .iou = 0.5};
    uint8_t coarse[20] = {1, 1, 1, 1, 0, 0, 1, 1, 1, 1}, refined[20];
    const uint8_t mask[40] = {1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 3 of 4, of 8 */
                              0, 0, 0, 0, 0, 0, 1, 1, 0, 0};                              /* 2 of 4 */
    assert_int_equal(refine(&copy, coarse, mask, 2, 1, 20, refined), 0);
    assert_memory_equal(refined, coarse, 20);
    copy.parts = true;
    assert_int_equal(refine(&copy, coarse, mask, 2, 1, 20, refined), 1); /* 2/4 is not above a half */
    assert_memory_equal(refined, mask, 20);
}

/* ---- against sets of pixels ----------------------------------------------------------------------------- */

struct set {
    int64_t height, width;
    const uint8_t *coarse, *instance;
    int64_t count;
    int32_t label[16 * 80]; /* connected parts of the coarse mask, by filling */
    int32_t parts;
};

static void fill(struct set *set, int64_t y, int64_t x)
{
    if (y < 0 || x < 0 || y >= set->height || x >= set->width || !set->coarse[y * set->width + x] ||
        set->label[y * set->width + x])
        return;
    set->label[y * set->width + x] = set->parts;
    for (int64_t dy = -1; dy <= 1; dy++)
        for (int64_t dx = -1; dx <= 1; dx++)
            fill(set, y + dy, x + dx);
}

/* Intersection over union of a mask and one part of the coarse mask, or with part 0 all of it, above iou. */
static bool set_overlaps(const struct set *set, const uint8_t *mask, int32_t part, double iou)
{
    int64_t both = 0, either = 0;
    for (int64_t i = 0; i < set->height * set->width; i++) {
        const bool in = part ? set->label[i] == part : set->coarse[i] != 0;
        both += in && mask[i];
        either += in || mask[i];
    }
    return (double)both > iou * (double)either;
}

static bool set_takes(const struct set *set, const struct ws2_refine *rule, const uint8_t *mask)
{
    int64_t both = 0, own = 0, coarse = 0;
    for (int64_t i = 0; i < set->height * set->width; i++) {
        both += set->coarse[i] && mask[i];
        own += mask[i] != 0;
        coarse += set->coarse[i] != 0;
    }
    if (rule->rule <= WS2_REFINE_MAX_IOU)
        return 2 * both > own || (rule->rule == WS2_REFINE_SEPL && 100 * both >= 85 * coarse);
    if (!rule->parts)
        return set_overlaps(set, mask, 0, rule->iou);
    for (int32_t part = 1; part <= set->parts; part++)
        if (set_overlaps(set, mask, part, rule->iou))
            return true;
    return false;
}

static int64_t set_refine(const struct set *set, const struct ws2_refine *rule, uint8_t *refined)
{
    const int64_t pixels = set->height * set->width;
    uint8_t *held = calloc((size_t)pixels, 1);
    int64_t taken = 0, coarse = 0;
    memset(refined, 0, (size_t)pixels);
    for (int64_t i = 0; i < pixels; i++)
        coarse += set->coarse[i] != 0;
    for (int64_t k = 0; k < set->count && coarse > 0; k++) {
        const uint8_t *mask = set->instance + k * pixels;
        int64_t own = 0;
        for (int64_t i = 0; i < pixels; i++)
            own += mask[i] != 0;
        if (own == 0 || (double)own > fmax(rule->max_area, 0.95) * (double)pixels)
            continue;
        const bool takes = (double)own <= rule->max_area * (double)pixels && set_takes(set, rule, mask);
        taken += takes;
        for (int64_t i = 0; i < pixels; i++) {
            held[i] |= mask[i] != 0;
            refined[i] |= takes && mask[i];
        }
    }
    for (int64_t i = 0; i < pixels; i++) {
        const bool in = set->coarse[i] != 0;
        if (rule->rule == WS2_REFINE_SEPL || rule->rule == WS2_REFINE_MAX_IOU_IMP)
            refined[i] |= in && !held[i];
        else if (rule->rule >= WS2_REFINE_COPY && taken == 0)
            refined[i] = in;
        else if (rule->rule == WS2_REFINE_AND)
            refined[i] &= in;
        else if (rule->rule == WS2_REFINE_OR)
            refined[i] |= in;
    }
    free(held);
    return taken;
}

/* A rectangle or nothing, any non-zero value, with a little noise. */
static void draw(struct ws2_random *random, const struct set *set, uint8_t *mask)
{
    const int64_t h = set->height, w = set->width;
    const int64_t top = ws2_random_below(random, h), left = ws2_random_below(random, w);
    const int64_t rows = ws2_random_below(random, h + 1), columns = ws2_random_below(random, w + 1);
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            const bool in = y >= top && y < top + rows && x >= left && x < left + columns;
            mask[y * w + x] =
                in != (ws2_random_below(random, 40) == 0) ? 1 + (uint8_t)ws2_random_below(random, 255) : 0;
        }
}

/* T16: 1000 sets of up to 12 masks, every rule; the scratch is kept from one size to the next. */
static void test_brute_force(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(16, 0);
    struct ws2_refine_scratch scratch = {0};
    static struct set set;
    static uint8_t coarse[16 * 80], instance[12 * 16 * 80], refined[16 * 80], want[16 * 80];
    int64_t all = 0;
    for (int i = 0; i < 1000; i++) {
        set = (struct set){.height = 1 + ws2_random_below(&random, 16),
                           .width = 1 + ws2_random_below(&random, 80),
                           .coarse = coarse,
                           .instance = instance,
                           .count = ws2_random_below(&random, 13)};
        draw(&random, &set, coarse);
        for (int64_t k = 0; k < set.count; k++)
            draw(&random, &set, instance + k * set.height * set.width);
        for (int64_t p = 0; p < set.height * set.width; p++)
            if (coarse[p] && !set.label[p]) {
                set.parts++;
                fill(&set, p / set.width, p % set.width);
            }
        for (int rule = WS2_REFINE_SEPL; rule <= WS2_REFINE_OR; rule++) {
            const struct ws2_refine refine = {.rule = (enum ws2_refine_rule)rule,
                                              .max_area = i % 2 ? 1 : 0.5,
                                              .iou = 0.25 * (double)ws2_random_below(&random, 4),
                                              .parts = i % 3 == 0};
            const struct ws2_instances stack = {
                .count = set.count, .height = set.height, .width = set.width, .stack = instance};
            const int64_t taken = ws2_refine_mask(&refine, &scratch, coarse, &stack, refined, NULL);
            in_layers(&refine, &scratch, coarse, &stack, taken, refined);
            assert_int_equal(taken, set_refine(&set, &refine, want));
            assert_memory_equal(refined, want, (size_t)(set.height * set.width));
            all += taken;
        }
    }
    assert_true(all > 5000); /* masks are taken often enough to mean something */
    ws2_refine_scratch_free(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_more_than_half),
        cmocka_unit_test(test_most_of_the_coarse),
        cmocka_unit_test(test_exactly_85_percent),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_brute_force),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
