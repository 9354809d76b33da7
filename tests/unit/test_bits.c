/* Bit planes: bytes, morphology, components and masks that are applied, against brute force and by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mask/mask.h"

/* ---- brute force ------------------------------------------------------------------------------------------ */

static uint8_t *random_mask(struct ws2_random *random, int height, int width, double share)
{
    uint8_t *mask = malloc((size_t)height * (size_t)width + 1);
    /* Blobs: pixels of a coarse random grid, with noise on top. */
    const int cell = 1 + (int)ws2_random_below(random, 6);
    uint8_t grid[201][201];
    for (int y = 0; y <= height / cell; y++) {
        for (int x = 0; x <= width / cell; x++)
            grid[y][x] = ws2_random_uniform(random) < share;
    }
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++)
            mask[y * width + x] = grid[y / cell][x / cell] ^ (ws2_random_uniform(random) < 0.02);
    }
    return mask;
}

static bool in_disc(int radius, int dy, int dx)
{
    return abs(dy) <= radius && abs(dx) <= (int)lround(sqrt((double)(radius * radius - dy * dy)));
}

/* value 1: dilation; 0: erosion. */
static void brute_spread(const uint8_t *from, uint8_t *to, int height, int width, int radius, int value)
{
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            uint8_t *out = &to[y * width + x];
            *out = (uint8_t)!value;
            for (int v = y - radius; v <= y + radius; v++) {
                for (int u = x - radius; u <= x + radius; u++) {
                    if (v >= 0 && v < height && u >= 0 && u < width && in_disc(radius, v - y, u - x) &&
                        from[v * width + u] == value)
                        *out = (uint8_t)value;
                }
            }
        }
    }
}

/* Numbers the component of pixel (y, x) by repeated passes over a stack; returns its area. */
static int flood(const uint8_t *mask, int height, int width, int y, int x, bool corners, int number,
                 int32_t *label, bool *edge)
{
    int *stack = malloc(sizeof(int) * (size_t)(height * width));
    int top = 0, area = 0;
    const uint8_t value = mask[y * width + x];
    stack[top++] = y * width + x;
    label[y * width + x] = number;
    *edge = false;
    while (top > 0) {
        const int at = stack[--top], v = at / width, u = at % width;
        area++;
        *edge |= v == 0 || u == 0 || v == height - 1 || u == width - 1;
        for (int dv = -1; dv <= 1; dv++) {
            for (int du = -1; du <= 1; du++) {
                const int b = v + dv, a = u + du, next = b * width + a;
                if ((!corners && dv != 0 && du != 0) || b < 0 || b >= height || a < 0 || a >= width ||
                    mask[next] != value || label[next] != 0)
                    continue;
                label[next] = number;
                stack[top++] = next;
            }
        }
    }
    free(stack);
    return area;
}

/* Labels of the components of `value`; area[] and edge[] by number - 1. Returns how many. */
static int brute_label(const uint8_t *mask, int height, int width, uint8_t value, int32_t *label, int *area,
                       bool *edge)
{
    int count = 0;
    memset(label, 0, sizeof(int32_t) * (size_t)(height * width));
    for (int p = 0; p < height * width; p++) {
        if (mask[p] != value || label[p] != 0)
            continue;
        area[count] =
            flood(mask, height, width, p / width, p % width, value == 1, count + 1, label, &edge[count]);
        count++;
    }
    return count;
}

static const int sides[][2] = {{1, 1}, {1, 7},   {1, 200},  {150, 1},  {3, 63},  {40, 64}, {17, 65},
                               {2, 2}, {90, 31}, {33, 128}, {20, 129}, {64, 64}, {60, 190}};
enum { SIDES = sizeof sides / sizeof *sides };

static void expect_equal(const struct ws2_bits *bits, const uint8_t *want, const char *what)
{
    const size_t pixels = (size_t)(bits->height * bits->width);
    uint8_t *got = malloc(pixels + 1);
    ws2_bits_to_bytes(bits, got);
    for (size_t p = 0; p < pixels; p++) {
        if (got[p] != want[p])
            fail_msg("%s: %lld x %lld: pixel %zu is %d, want %d", what, (long long)bits->width,
                     (long long)bits->height, p, got[p], want[p]);
    }
    /* Bits beyond the width stay 0. */
    int64_t ones = 0;
    for (size_t p = 0; p < pixels; p++)
        ones += want[p];
    assert_int_equal(ws2_bits_count(bits), ones);
    free(got);
}

/* ---- bit planes --------------------------------------------------------------------------------------------- */

static void bytes_come_back(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(1, 0);
    struct ws2_bits bits = {0};
    for (int width = 0; width < 200; width++) {
        const int height = 1 + width % 5;
        uint8_t *mask = random_mask(&random, height, width, 0.5);
        assert_int_equal(ws2_bits_reset(&bits, height, width, NULL), 0);
        assert_int_equal(ws2_bits_count(&bits), 0);
        ws2_bits_from_bytes(&bits, mask);
        expect_equal(&bits, mask, "bytes");
        for (int p = 0; p < height * width; p++)
            mask[p] = mask[p] ? (uint8_t)(1 + p % 255) : 0;
        ws2_bits_from_bytes(&bits, mask);
        for (int p = 0; p < height * width; p++)
            mask[p] = mask[p] != 0;
        expect_equal(&bits, mask, "any byte that is not 0");
        free(mask);
    }
    struct ws2_error error = {0};
    assert_int_equal(ws2_bits_reset(&bits, -1, 5, &error), WS2_ERR_USAGE);
    assert_int_equal(ws2_bits_reset(&bits, INT64_MAX, INT64_MAX, NULL), WS2_ERR_USAGE);
    ws2_bits_free(&bits);
}

static void morphology_equals_brute_force(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(2, 0);
    struct ws2_bits bits = {0}, result = {0};
    struct ws2_bits_scratch scratch = {0};
    const int radii[] = {0, 1, 2, 3, 4, 5, 7, 12, 66};
    for (int i = 0; i < SIDES; i++) {
        const int height = sides[i][0], width = sides[i][1];
        uint8_t *a = malloc((size_t)(height * width)), *b = malloc((size_t)(height * width));
        for (int r = 0; r < 9; r++) {
            const int radius = radii[r];
            if (radius > 60 && height * width > 2000)
                continue;
            uint8_t *mask = random_mask(&random, height, width, 0.05 + 0.1 * r);
            ws2_bits_reset(&bits, height, width, NULL);
            ws2_bits_from_bytes(&bits, mask);
            brute_spread(mask, a, height, width, radius, 1);
            assert_int_equal(ws2_bits_dilate(&result, &bits, radius, &scratch, NULL), 0);
            expect_equal(&result, a, "dilate");
            brute_spread(mask, a, height, width, radius, 0);
            assert_int_equal(ws2_bits_erode(&result, &bits, radius, &scratch, NULL), 0);
            expect_equal(&result, a, "erode");
            brute_spread(a, b, height, width, radius, 1);
            assert_int_equal(ws2_bits_open(&bits, radius, &scratch, NULL), 0);
            expect_equal(&bits, b, "open");
            ws2_bits_from_bytes(&bits, mask);
            brute_spread(mask, a, height, width, radius, 1);
            brute_spread(a, b, height, width, radius, 0);
            assert_int_equal(ws2_bits_close(&bits, radius, &scratch, NULL), 0);
            expect_equal(&bits, b, "close");
            free(mask);
        }
        free(a);
        free(b);
    }
    assert_int_equal(ws2_bits_dilate(&result, &bits, 1024, &scratch, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_bits_erode(&result, &bits, -1, &scratch, NULL), WS2_ERR_USAGE);
    ws2_bits_scratch_free(&scratch);
    ws2_bits_free(&bits);
    ws2_bits_free(&result);
}

/* The two elements named in the method: 3x3 cross and 7x7 disc. */
static void discs_by_hand(void **state)
{
    (void)state;
    uint8_t mask[81] = {0}, got[81];
    const char *disc = "........."
                       "....#...."
                       "..#####.."
                       ".#######."
                       ".#######."
                       ".#######."
                       "..#####.."
                       "....#...."
                       ".........";
    mask[40] = 1;
    struct ws2_bits bits = {0}, result = {0};
    struct ws2_bits_scratch scratch = {0};
    ws2_bits_reset(&bits, 9, 9, NULL);
    ws2_bits_from_bytes(&bits, mask);
    ws2_bits_dilate(&result, &bits, 3, &scratch, NULL);
    ws2_bits_to_bytes(&result, got);
    for (int p = 0; p < 81; p++)
        assert_int_equal(got[p], disc[p] == '#');
    ws2_bits_dilate(&result, &bits, 1, &scratch, NULL);
    ws2_bits_to_bytes(&result, got);
    for (int p = 0; p < 81; p++)
        assert_int_equal(got[p], abs(p / 9 - 4) + abs(p % 9 - 4) <= 1);
    ws2_bits_scratch_free(&scratch);
    ws2_bits_free(&bits);
    ws2_bits_free(&result);
}

static void components_equal_flood_fill(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(3, 0);
    struct ws2_bits bits = {0};
    struct ws2_bits_scratch scratch = {0};
    for (int i = 0; i < SIDES * 6; i++) {
        const int height = sides[i % SIDES][0], width = sides[i % SIDES][1], pixels = height * width;
        uint8_t *mask = random_mask(&random, height, width, 0.15 * (1 + i / SIDES)),
                *want = malloc((size_t)pixels);
        int32_t *label = malloc(sizeof(int32_t) * (size_t)pixels),
                *got = malloc(sizeof(int32_t) * (size_t)pixels);
        int *area = malloc(sizeof(int) * (size_t)pixels);
        bool *edge = malloc((size_t)pixels);
        ws2_bits_reset(&bits, height, width, NULL);
        ws2_bits_from_bytes(&bits, mask);
        int count = brute_label(mask, height, width, 1, label, area, edge);
        assert_int_equal(ws2_bits_label(&bits, got, &scratch, NULL), count);
        assert_memory_equal(label, got, sizeof(int32_t) * (size_t)pixels);
        const double limits[] = {0.0, 1.0, 1.5, 2.0, 7.0, 40.5, 1e9};
        for (int l = 0; l < 7; l++) {
            ws2_bits_from_bytes(&bits, mask);
            count = brute_label(mask, height, width, 1, label, area, edge);
            for (int p = 0; p < pixels; p++)
                want[p] = mask[p] && area[label[p] - 1] >= limits[l];
            assert_int_equal(ws2_bits_drop_small(&bits, limits[l], &scratch, NULL), 0);
            expect_equal(&bits, want, "drop");
            ws2_bits_from_bytes(&bits, mask);
            count = brute_label(mask, height, width, 0, label, area, edge);
            for (int p = 0; p < pixels; p++)
                want[p] = mask[p] || (!edge[label[p] - 1] && area[label[p] - 1] <= limits[l]);
            assert_int_equal(ws2_bits_fill_holes(&bits, limits[l], &scratch, NULL), 0);
            expect_equal(&bits, want, "fill");
        }
        free(edge);
        free(area);
        free(got);
        free(label);
        free(want);
        free(mask);
    }
    ws2_bits_scratch_free(&scratch);
    ws2_bits_free(&bits);
}

/* A spiral joins runs in every order; its wall is one component and its way another. */
static void a_spiral_is_one_component(void **state)
{
    (void)state;
    enum { SIDE = 131 };
    static uint8_t mask[SIDE * SIDE];
    static int32_t label[SIDE * SIDE];
    int y = SIDE / 2, x = SIDE / 2, step = 2, dy = 0, dx = 1;
    memset(mask, 0, sizeof mask);
    for (int turn = 0; step < SIDE - 2; turn++, step += turn % 2 ? 0 : 2) {
        for (int i = 0; i < step; i++, y += dy, x += dx)
            mask[y * SIDE + x] = 1;
        const int swap = dy;
        dy = dx;
        dx = -swap;
    }
    struct ws2_bits bits = {0};
    struct ws2_bits_scratch scratch = {0};
    ws2_bits_reset(&bits, SIDE, SIDE, NULL);
    ws2_bits_from_bytes(&bits, mask);
    assert_int_equal(ws2_bits_label(&bits, label, &scratch, NULL), 1);
    const int64_t before = ws2_bits_count(&bits);
    assert_true(before > 2000);
    ws2_bits_fill_holes(&bits, 1e9, &scratch, NULL); /* the way is open to the edge */
    assert_int_equal(ws2_bits_count(&bits), before);
    ws2_bits_scratch_free(&scratch);
    ws2_bits_free(&bits);
}

static void masks_are_applied(void **state)
{
    (void)state;
    enum { H = 3, W = 67 };
    uint8_t rgb[3 * H * W], items[3 * H * W], mask[H * W];
    const uint8_t fill[3] = {1, 2, 3};
    for (int i = 0; i < 3 * H * W; i++)
        rgb[i] = (uint8_t)(i * 7);
    for (int p = 0; p < H * W; p++)
        mask[p] = p % 3 == 0;
    struct ws2_bits bits = {0};
    ws2_bits_reset(&bits, H, W, NULL);
    ws2_bits_from_bytes(&bits, mask);
    for (int keep = 0; keep < 2; keep++) {
        ws2_mask_apply(&bits, keep, fill, rgb, items);
        for (int i = 0; i < 3 * H * W; i++)
            assert_int_equal(items[i], mask[i / 3] == keep ? rgb[i] : fill[i % 3]);
    }
    ws2_mask_apply(&bits, false, fill, rgb, rgb);
    ws2_mask_apply(&bits, false, fill, items, items);
    assert_int_equal(rgb[0], 1);
    assert_int_equal(rgb[3], 21);
    ws2_bits_free(&bits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_back),
        cmocka_unit_test(morphology_equals_brute_force),
        cmocka_unit_test(discs_by_hand),
        cmocka_unit_test(components_equal_flood_fill),
        cmocka_unit_test(a_spiral_is_one_component),
        cmocka_unit_test(masks_are_applied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
