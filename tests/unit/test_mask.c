/* Bit planes, morphology, components and the foreground of a belt, against brute force and by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "mask/mask.h"
#include "motion/motion.h"

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

/* ---- a synthetic camera ---------------------------------------------------------------------------------------- */

struct disc {
    double y, x, radius;
    uint8_t colour[3];
};

struct scene {
    int height, width, count;
    uint8_t *rgb;   /* [count,h,w,3] */
    uint8_t *truth; /* [count,h,w] */
};

static uint8_t clip(double value)
{
    return (uint8_t)fmin(fmax(floor(value + 0.5), 0.0), 255.0);
}

/* Grey belt of level 110 with noise of deviation 3; one glare patch that stays where it is. */
static void paint_belt(struct ws2_random *random, uint8_t *rgb, int height, int width, double gain)
{
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const bool glare = y > height / 8 && y < height / 4 && x > width / 8 && x < width / 3;
            for (int c = 0; c < 3; c++)
                *rgb++ = clip(gain * ((glare ? 249.0 : 110.0) + 3.0 * ws2_random_normal(random)));
        }
    }
}

static void paint_disc(uint8_t *rgb, uint8_t *truth, int height, int width, const struct disc *disc,
                       double gain)
{
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            if (hypot(y - disc->y, x - disc->x) > disc->radius)
                continue;
            truth[y * width + x] = 1;
            for (int c = 0; c < 3; c++)
                rgb[3 * (y * width + x) + c] = clip(gain * disc->colour[c]);
        }
    }
}

static struct scene make_scene(int height, int width, int count)
{
    return (struct scene){height, width, count, calloc((size_t)(count * height * width), 3),
                          calloc((size_t)(count * height * width), 1)};
}

static uint8_t *frame_of(const struct scene *scene, int k)
{
    return scene->rgb + (size_t)k * (size_t)(scene->height * scene->width * 3);
}

static uint8_t *truth_of(const struct scene *scene, int k)
{
    return scene->truth + (size_t)k * (size_t)(scene->height * scene->width);
}

static void scene_free(struct scene *scene)
{
    free(scene->rgb);
    free(scene->truth);
}

/* Grey, dark and coloured discs at random places, none on the glare, before a camera of this gain. */
static struct scene sparse_scene(uint64_t seed, int height, int width, int count, double gain)
{
    struct scene scene = make_scene(height, width, count);
    const uint8_t colours[][3] = {
        {190, 190, 190}, {40, 45, 42}, {110, 160, 60}, {200, 60, 50}, {235, 235, 240}};
    for (int k = 0; k < count; k++) {
        struct ws2_random random = ws2_random_make(seed, (uint64_t)k);
        paint_belt(&random, frame_of(&scene, k), height, width, gain);
        for (int i = 0; i < 5; i++) {
            struct disc disc = {.y = ws2_random_range(&random, 0.42 * height, height),
                                .x = ws2_random_range(&random, 0.0, width),
                                .radius = ws2_random_range(&random, 0.08 * width, 0.14 * width)};
            memcpy(disc.colour, colours[i], 3);
            paint_disc(frame_of(&scene, k), truth_of(&scene, k), height, width, &disc, gain);
        }
    }
    return scene;
}

static struct ws2_belt belt_of(const struct scene *scene, const struct ws2_belt_params *params, int threads,
                               struct ws2_belt_report *report)
{
    struct ws2_samples *samples;
    struct ws2_belt belt;
    assert_int_equal(ws2_samples_new(&samples, scene->height, scene->width, scene->count + 3,
                                     params->foreground.dark, NULL),
                     0);
    for (int k = 0; k < scene->count; k++)
        ws2_samples_set(samples, k, frame_of(scene, k));
    struct ws2_error error = {0};
    if (ws2_belt_estimate(&belt, samples, scene->count, params, threads, report, &error) != 0)
        fail_msg("%s", error.text);
    ws2_samples_free(samples);
    return belt;
}

/* Share of the pixels that items hide in more than half of the frames. */
static double covered_by_truth(const struct scene *scene)
{
    const int pixels = scene->height * scene->width;
    int covered = 0;
    for (int p = 0; p < pixels; p++) {
        int hidden = 0;
        for (int k = 0; k < scene->count; k++)
            hidden += truth_of(scene, k)[p];
        covered += 2 * hidden > scene->count;
    }
    return (double)covered / pixels;
}

struct score {
    double iou;
    int64_t on_glare;
};

static struct score score_of(const struct scene *scene, const struct ws2_belt *belt,
                             const struct ws2_foreground_params *params)
{
    struct ws2_foreground *foreground;
    assert_int_equal(ws2_foreground_new(&foreground, belt, params, NULL), 0);
    struct ws2_foreground_scratch *scratch = ws2_foreground_scratch_new(foreground);
    const int height = scene->height, width = scene->width;
    uint8_t *fg = malloc((size_t)(height * width));
    int64_t both = 0, either = 0, glare = 0;
    for (int k = 0; k < scene->count; k++) {
        assert_int_equal(ws2_foreground_mask(foreground, scratch, frame_of(scene, k), fg, NULL), 0);
        const uint8_t *truth = truth_of(scene, k);
        for (int p = 0; p < height * width; p++) {
            const int y = p / width, x = p % width;
            both += fg[p] & truth[p];
            either += fg[p] | truth[p];
            glare += fg[p] && y > height / 8 && y < height / 4 && x > width / 8 && x < width / 3;
        }
    }
    free(fg);
    ws2_foreground_scratch_free(scratch);
    ws2_foreground_free(foreground);
    return (struct score){either ? (double)both / (double)either : 1.0, glare};
}

/* T14: WS2's background removal on a belt with known truth: IoU above 0.95, nothing on the static glare; several
 * belts, two cameras, luma and all channels. */
static void check_belt(uint64_t seed, double gain, enum ws2_channels channels)
{
    struct scene scene = sparse_scene(seed, 512, 512, 17, gain);
    struct ws2_belt_params params = ws2_belt_defaults();
    params.passes = channels == WS2_CHANNELS_MAX ? 1 : 2;
    params.foreground.channels = channels;
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    const struct score score = score_of(&scene, &belt, &params.foreground);
    print_message("# belt %d, gain %.2f, %s: IoU %.4f\n", (int)seed, gain,
                  channels == WS2_CHANNELS_MAX ? "channels" : "luma", score.iou);
    if (!(score.iou > 0.95) || score.on_glare != 0)
        fail_msg("belt %d, gain %.2f: IoU %.4f, %lld pixels on the glare", (int)seed, gain, score.iou,
                 (long long)score.on_glare);
    assert_int_equal(report.samples, 17);
    assert_true(fabs(report.covered - covered_by_truth(&scene)) < 0.01);
    assert_true(fabs(belt.luma[511 * 512] - 110.0 * gain) < 2.5);
    ws2_belt_free(&belt);
    scene_free(&scene);
}

static void discs_on_a_belt_are_found(void **state)
{
    (void)state;
    for (uint64_t seed = 11; seed < 14; seed++) {
        check_belt(seed, 1.0, seed % 2 ? WS2_CHANNELS_LUMA : WS2_CHANNELS_MAX);
        check_belt(seed, 0.85, seed % 2 ? WS2_CHANNELS_MAX : WS2_CHANNELS_LUMA);
    }
}

/* Without the reflex rule a frame whose glare flickers is foreground there; with it, not. */
static void reflexes_are_vetoed(void **state)
{
    (void)state;
    struct scene scene = sparse_scene(12, 128, 160, 21, 1.0);
    struct ws2_belt_params params = ws2_belt_defaults();
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    /* The lamp is dimmed for the belt: B is 210 there and every frame 35 brighter. */
    for (int p = 0; p < 128 * 160; p++)
        belt.luma[p] = belt.luma[p] > 200.0f ? 210.0f : belt.luma[p];
    assert_int_equal(score_of(&scene, &belt, &params.foreground).on_glare, 0);
    params.foreground.reflex_luma = 255.0;
    assert_true(score_of(&scene, &belt, &params.foreground).on_glare > 10000);
    params.foreground.reflex_luma = 240.0;
    params.foreground.reflex_belt = 230.0;
    assert_true(score_of(&scene, &belt, &params.foreground).on_glare > 10000);
    params.foreground.reflex_belt = 200.0;
    params.foreground.reflex_saturation = 0.0;
    assert_true(score_of(&scene, &belt, &params.foreground).on_glare > 10000);
    ws2_belt_free(&belt);
    scene_free(&scene);
}

/* Green items, some darker and some lighter than the belt, cover one place in 60 % of the samples. The plain median
 * there is theirs and the spread so wide that nothing deviates; the second pass knows the items by their saturation
 * and finds the belt. */
static void second_pass_clears_a_crowded_belt(void **state)
{
    (void)state;
    enum { SIDE = 128, COUNT = 101 };
    struct scene scene = make_scene(SIDE, SIDE, COUNT);
    for (int k = 0; k < COUNT; k++) {
        struct ws2_random random = ws2_random_make(13, (uint64_t)k);
        paint_belt(&random, frame_of(&scene, k), SIDE, SIDE, 1.0);
        const uint8_t green = clip(ws2_random_range(&random, 170.0, 250.0));
        const struct disc crowd = {100.0, 64.0, 20.0, {green / 8, green, green / 4}};
        if (k % 5 < 3)
            paint_disc(frame_of(&scene, k), truth_of(&scene, k), SIDE, SIDE, &crowd, 1.0);
    }
    /* Grey items that come by when the place is free. */
    struct scene probe = make_scene(SIDE, SIDE, 5);
    for (int k = 0; k < 5; k++) {
        struct ws2_random random = ws2_random_make(22, (uint64_t)k);
        const struct disc grey = {95.0 + 2 * k, 64.0, 12.0, {155, 155, 155}};
        paint_belt(&random, frame_of(&probe, k), SIDE, SIDE, 1.0);
        paint_disc(frame_of(&probe, k), truth_of(&probe, k), SIDE, SIDE, &grey, 1.0);
    }
    struct ws2_belt_params params = ws2_belt_defaults();
    struct ws2_belt_report report;
    params.passes = 1;
    struct ws2_belt once = belt_of(&scene, &params, 1, &report);
    const struct score first = score_of(&probe, &once, &params.foreground);
    assert_true(once.luma[100 * SIDE + 64] > 113.0f);
    params.passes = 2;
    struct ws2_belt twice = belt_of(&scene, &params, 1, &report);
    const struct score second = score_of(&probe, &twice, &params.foreground);
    assert_true(fabsf(twice.luma[100 * SIDE + 64] - 110.0f) < 1.5f);
    assert_true(fabsf(twice.rgb[3 * (100 * SIDE + 64) + 1] - 110.0f) < 3.0f);
    if (!(second.iou > 0.9) || !(first.iou < 0.5))
        fail_msg("IoU %.4f after one pass, %.4f after two", first.iou, second.iou);
    /* The crowd is 1256 of 16384 pixels: the report says so. */
    assert_true(report.covered > 0.06 && report.covered < 0.12);
    assert_true(twice.share[100 * SIDE + 64] > 0.55f && twice.share[100 * SIDE + 64] < 0.75f);
    assert_true(twice.share[60 * SIDE + 64] == 0.0f);
    /* The mode finds it in one pass. */
    params.passes = 1;
    params.statistic = WS2_STATISTIC_MODE;
    for (int k = 0; k < COUNT; k++) {
        struct ws2_random random = ws2_random_make(14, (uint64_t)k);
        const struct disc crowd = {100.0, 64.0, 20.0, {20, clip(ws2_random_range(&random, 140, 250)), 20}};
        if (k % 5 < 3)
            paint_disc(frame_of(&scene, k), truth_of(&scene, k), SIDE, SIDE, &crowd, 1.0);
    }
    struct ws2_belt mode = belt_of(&scene, &params, 1, &report);
    assert_true(fabsf(mode.luma[100 * SIDE + 64] - 110.0f) < 4.0f);
    ws2_belt_free(&mode);
    scene_free(&probe);
    ws2_belt_free(&twice);
    ws2_belt_free(&once);
    scene_free(&scene);
}

/* A pixel hidden in all but 10 of the samples keeps the background of the first pass. */
static void too_few_samples_keep_the_first_pass(void **state)
{
    (void)state;
    enum { SIDE = 64, COUNT = 60 };
    struct scene scene = make_scene(SIDE, SIDE, COUNT);
    for (int k = 0; k < COUNT; k++) {
        struct ws2_random random = ws2_random_make(15, (uint64_t)k);
        paint_belt(&random, frame_of(&scene, k), SIDE, SIDE, 1.0);
        const uint8_t red = clip(ws2_random_range(&random, 120.0, 250.0));
        const struct disc item = {40.0, 40.0, 8.0, {red, 30, 30}};
        if (k >= 10)
            paint_disc(frame_of(&scene, k), truth_of(&scene, k), SIDE, SIDE, &item, 1.0);
    }
    struct ws2_belt_params params = ws2_belt_defaults();
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    assert_true(report.scarce > 150 && report.scarce < 400);
    params.passes = 1;
    struct ws2_belt first = belt_of(&scene, &params, 1, &report);
    params.passes = 2;
    const int at = 40 * SIDE + 40;
    assert_true(first.luma[at] < 95.0f && belt.luma[at] == first.luma[at]);
    assert_memory_equal(&belt.rgb[3 * at], &first.rgb[3 * at], 3 * sizeof(float));
    ws2_belt_free(&first);
    ws2_belt_free(&belt);
    params.least = 5;
    belt = belt_of(&scene, &params, 1, &report);
    assert_true(fabsf(belt.luma[40 * SIDE + 40] - 110.0f) < 4.0f);
    assert_int_equal(report.scarce, 0);
    ws2_belt_free(&belt);
    scene_free(&scene);
}

/* All numbers of a belt against their definitions, in one pass over plain doubles. */
static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *value, size_t count)
{
    qsort(value, count, sizeof *value, by_value);
    return count % 2 ? value[count / 2] : 0.5 * (value[count / 2 - 1] + value[count / 2]);
}

static double saturation_of(const uint8_t *rgb)
{
    const int most =
        rgb[0] > rgb[1] ? (rgb[0] > rgb[2] ? rgb[0] : rgb[2]) : (rgb[1] > rgb[2] ? rgb[1] : rgb[2]);
    const int least =
        rgb[0] < rgb[1] ? (rgb[0] < rgb[2] ? rgb[0] : rgb[2]) : (rgb[1] < rgb[2] ? rgb[1] : rgb[2]);
    return most < 30 ? 0.0 : floor(255.0 * (most - least) / most + 0.5);
}

static void belt_equals_its_definition(void **state)
{
    (void)state;
    enum { H = 9, W = 67, COUNT = 12 };
    struct scene scene = make_scene(H, W, COUNT);
    struct ws2_random random = ws2_random_make(16, 0);
    for (int i = 0; i < H * W * COUNT * 3; i++)
        scene.rgb[i] = (uint8_t)(90 + ws2_random_below(&random, i % 7 == 0 ? 120 : 20));
    struct ws2_belt_params params = ws2_belt_defaults();
    params.passes = 1;
    params.foreground.channels = WS2_CHANNELS_MAX;
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    static double saturation[H * W * COUNT], spread[H * W][4];
    for (int p = 0; p < H * W; p++) {
        double value[4][COUNT];
        for (int k = 0; k < COUNT; k++) {
            const uint8_t *rgb = frame_of(&scene, k) + 3 * p;
            uint8_t plane[4];
            ws2_rgb_planes(rgb, 1, plane + 1, plane + 2, plane + 3, plane);
            for (int c = 0; c < 4; c++)
                value[c][k] = plane[c];
            saturation[p * COUNT + k] = saturation_of(rgb);
        }
        for (int c = 0; c < 4; c++) {
            const double centre = median_of(value[c], COUNT);
            assert_true((c == 0 ? belt.luma[p] : belt.rgb[3 * p + c - 1]) == centre);
            for (int k = 0; k < COUNT; k++)
                value[c][k] = fabs(value[c][k] - centre);
            spread[p][c] = fmax(1.4826 * median_of(value[c], COUNT), 2.0);
        }
    }
    for (int p = 0; p < H * W; p++) {
        for (int c = 0; c < 4; c++) {
            double sum = 0.0;
            int pixels = 0;
            for (int y = p / W - 2; y <= p / W + 2; y++) {
                for (int x = p % W - 2; x <= p % W + 2; x++) {
                    if (y >= 0 && y < H && x >= 0 && x < W) {
                        sum += spread[y * W + x][c];
                        pixels++;
                    }
                }
            }
            const double got = c == 0 ? belt.scale[p] : belt.rgb_scale[3 * p + c - 1];
            assert_true(fabs(got - sum / pixels) < 1e-5 * got);
        }
    }
    const double middle = median_of(saturation, H * W * COUNT);
    for (int i = 0; i < H * W * COUNT; i++)
        saturation[i] = fabs(saturation[i] - middle);
    assert_true(belt.saturation[0] == middle);
    assert_true(belt.saturation[1] == median_of(saturation, H * W * COUNT));
    ws2_belt_free(&belt);
    scene_free(&scene);
}

/* The rules before morphology, pixel by pixel in doubles, for random frames and belts. */
static void rules_equal_their_definition(void **state)
{
    (void)state;
    enum { H = 7, W = 70 };
    struct ws2_random random = ws2_random_make(17, 0);
    for (int trial = 0; trial < 60; trial++) {
        struct ws2_belt belt;
        uint8_t rgb[3 * H * W], fg[H * W];
        assert_int_equal(ws2_belt_make(&belt, H, W, trial % 2, NULL), 0);
        for (int i = 0; i < 3 * H * W; i++) {
            belt.rgb[i] = 0.5f * (float)ws2_random_below(&random, 511);
            if (trial % 2)
                belt.rgb_scale[i] = (float)ws2_random_range(&random, 2.0, 12.0);
            rgb[i] = clip(ws2_random_below(&random, 3) ? belt.rgb[i] + 12 * ws2_random_normal(&random)
                                                       : ws2_random_range(&random, 0, 256));
        }
        for (int p = 0; p < H * W; p++) {
            belt.luma[p] =
                floorf(2.0f * (belt.rgb[3 * p] + belt.rgb[3 * p + 1] + belt.rgb[3 * p + 2]) / 3.0f) / 2.0f;
            belt.scale[p] = (float)ws2_random_range(&random, 2.0, 12.0);
        }
        belt.saturation[0] = 0.5f * (float)ws2_random_below(&random, 120);
        belt.saturation[1] = 0.5f * (float)ws2_random_below(&random, 20);
        struct ws2_foreground_params params = ws2_foreground_defaults();
        params.open = params.close = params.hole = params.component = params.dilate = 0.0;
        params.channels = trial % 2 ? WS2_CHANNELS_MAX : WS2_CHANNELS_LUMA;
        params.saturation = trial % 3 ? -1.0 : (double)ws2_random_below(&random, 256);
        params.dark = trial % 5 ? 30 : (int)ws2_random_below(&random, 256);
        params.reflex_luma = trial % 4 ? 240.0 : 128.0;
        params.reflex_saturation = trial % 4 ? 20.0 : 150.0;
        params.reflex_belt = trial % 4 ? 200.0 : 90.0;
        double threshold = params.saturation;
        if (threshold < 0)
            threshold = fmin(fmax(belt.saturation[0] + 6 * 1.4826 * belt.saturation[1], 40.0), 90.0);
        struct ws2_foreground *foreground;
        assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), 0);
        struct ws2_foreground_scratch *scratch = ws2_foreground_scratch_new(foreground);
        assert_int_equal(ws2_foreground_mask(foreground, scratch, rgb, fg, NULL), 0);
        for (int p = 0; p < H * W; p++) {
            uint8_t plane[4];
            ws2_rgb_planes(rgb + 3 * p, 1, plane + 1, plane + 2, plane + 3, plane);
            bool want = false;
            for (int c = 0; c < (trial % 2 ? 3 : 1); c++) {
                const double value = trial % 2 ? rgb[3 * p + c] : plane[0];
                const double centre = trial % 2 ? belt.rgb[3 * p + c] : belt.luma[p];
                const double scale = trial % 2 ? belt.rgb_scale[3 * p + c] : belt.scale[p];
                want |= fabs(value - centre) / scale > 3.5 && fabs(value - centre) > 12.0;
            }
            const uint8_t *q = rgb + 3 * p;
            const int most = q[0] > q[1] ? (q[0] > q[2] ? q[0] : q[2]) : (q[1] > q[2] ? q[1] : q[2]);
            const int least = q[0] < q[1] ? (q[0] < q[2] ? q[0] : q[2]) : (q[1] < q[2] ? q[1] : q[2]);
            const double s =
                most < params.dark || most == 0 ? 0.0 : floor(255.0 * (most - least) / most + 0.5);
            want |= s > threshold;
            if (plane[0] > params.reflex_luma && s < params.reflex_saturation &&
                belt.luma[p] > params.reflex_belt)
                want = false;
            if (fg[p] != want)
                fail_msg("trial %d pixel %d: %d, want %d (S %g, T %g)", trial, p, fg[p], want, s, threshold);
        }
        ws2_foreground_scratch_free(scratch);
        ws2_foreground_free(foreground);
        ws2_belt_free(&belt);
    }
}

/* Frames of other exposure: everything is foreground without the correction, nothing but the items with it. */
static void drift_is_taken_out(void **state)
{
    (void)state;
    struct scene scene = sparse_scene(18, 192, 256, 21, 1.0), drifted = make_scene(192, 256, 6);
    struct ws2_belt_params params = ws2_belt_defaults();
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    const double gains[] = {0.6, 0.8, 0.95, 1.0, 1.2, 1.25};
    for (int k = 0; k < 6; k++) {
        struct ws2_random random = ws2_random_make(19, (uint64_t)k);
        const struct disc grey = {110.0, 128.0, 30.0, {180, 180, 180}},
                          red = {150.0, 60.0, 20.0, {170, 60, 60}};
        paint_belt(&random, frame_of(&drifted, k), 192, 256, gains[k]);
        paint_disc(frame_of(&drifted, k), truth_of(&drifted, k), 192, 256, &grey, gains[k]);
        paint_disc(frame_of(&drifted, k), truth_of(&drifted, k), 192, 256, &red, gains[k]);
    }
    struct ws2_foreground_params foreground = params.foreground;
    const double plain = score_of(&drifted, &belt, &foreground).iou;
    foreground.drift = true;
    const double corrected = score_of(&drifted, &belt, &foreground).iou;
    if (!(plain < 0.3) || !(corrected > 0.9))
        fail_msg("IoU %.4f without and %.4f with the correction", plain, corrected);
    ws2_belt_free(&belt);
    scene_free(&drifted);
    scene_free(&scene);
}

static void radii_go_with_the_size(void **state)
{
    (void)state;
    struct ws2_foreground_params params = ws2_foreground_defaults();
    assert_int_equal(ws2_foreground_radius(&params, 3.0, 512, 512), 3);
    assert_int_equal(ws2_foreground_radius(&params, 3.0, 1024, 1024), 6);
    assert_int_equal(ws2_foreground_radius(&params, 3.0, 1000, 1000), 6);
    assert_int_equal(ws2_foreground_radius(&params, 1.0, 128, 128), 0);
    assert_int_equal(ws2_foreground_radius(&params, 3.0, 128, 128), 1);
    params.reference = 0.0;
    assert_int_equal(ws2_foreground_radius(&params, 3.0, 128, 2000), 3);
    assert_int_equal(ws2_foreground_radius(&params, 0.0, 128, 2000), 0);
    const float tight[2] = {10.0f, 1.0f}, broad[2] = {30.0f, 20.0f}, middle[2] = {25.0f, 4.0f};
    assert_true(ws2_foreground_saturation(&params, tight) == 40.0);
    assert_true(ws2_foreground_saturation(&params, broad) == 90.0);
    assert_true(fabs(ws2_foreground_saturation(&params, middle) - (25.0 + 24.0 * 1.4826)) < 1e-9);
    params.saturation = 7.0;
    assert_true(ws2_foreground_saturation(&params, tight) == 7.0);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    struct scene scene = sparse_scene(20, 97, 131, 25, 1.0);
    struct ws2_belt_params params = ws2_belt_defaults();
    params.passes = 3;
    params.foreground.channels = WS2_CHANNELS_MAX;
    char digest[3][17];
    for (int i = 0; i < 3; i++) {
        struct ws2_belt_report report;
        struct ws2_belt belt = belt_of(&scene, &params, i == 0 ? 1 : 4 * i - 1, &report);
        ws2_belt_digest(&belt, digest[i]);
        if (i == 2) {
            belt.scale[5] += 1.0f;
            char other[17];
            ws2_belt_digest(&belt, other);
            assert_string_not_equal(other, digest[i]);
        }
        ws2_belt_free(&belt);
    }
    assert_string_equal(digest[0], digest[1]);
    assert_string_equal(digest[0], digest[2]);
    scene_free(&scene);
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

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct ws2_belt belt, empty = {0};
    struct ws2_foreground *foreground;
    struct ws2_error error = {0};
    struct ws2_foreground_params params = ws2_foreground_defaults();
    assert_int_equal(ws2_belt_make(&belt, 0, 5, false, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_belt_make(&belt, INT64_MAX / 2, INT64_MAX / 2, false, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_foreground_new(&foreground, &empty, &params, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_belt_make(&belt, 4, 5, false, NULL), 0);
    assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, &error), WS2_ERR_INPUT); /* scale 0 */
    assert_non_null(strstr(error.text, "scale"));
    for (int p = 0; p < 20; p++)
        belt.scale[p] = 2.0f;
    assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), 0);
    ws2_foreground_free(foreground);
    const float bad[] = {NAN, INFINITY, -1.0f, 256.0f};
    for (int i = 0; i < 4; i++) {
        belt.luma[7] = bad[i];
        assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), WS2_ERR_INPUT);
        assert_null(foreground);
    }
    belt.luma[7] = 0.0f;
    params.channels = WS2_CHANNELS_MAX;
    assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), WS2_ERR_INPUT);
    params.channels = WS2_CHANNELS_LUMA;
    params.z = NAN;
    assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), WS2_ERR_USAGE);
    params = ws2_foreground_defaults();
    params.saturation_low = 91.0;
    assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), WS2_ERR_USAGE);
    ws2_belt_free(&belt);

    struct ws2_samples *samples;
    struct ws2_belt_report report;
    struct ws2_belt_params estimate = ws2_belt_defaults();
    assert_int_equal(ws2_samples_new(&samples, 4, 5, 0, 30, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_samples_new(&samples, 1 << 30, 1 << 30, 60000, 30, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_samples_new(&samples, 4, 5, 3, 30, NULL), 0);
    assert_int_equal(ws2_belt_estimate(&belt, samples, 0, &estimate, 1, &report, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_belt_estimate(&belt, samples, 4, &estimate, 1, &report, NULL), WS2_ERR_USAGE);
    estimate.window = 4;
    assert_int_equal(ws2_belt_estimate(&belt, samples, 3, &estimate, 1, &report, NULL), WS2_ERR_USAGE);
    ws2_samples_free(samples);
}

/* One frame is a belt of its own: it is its own median, and nothing on it is foreground by deviation. */
static void one_frame_is_enough(void **state)
{
    (void)state;
    struct scene scene = make_scene(20, 30, 1);
    struct ws2_random random = ws2_random_make(21, 0);
    paint_belt(&random, frame_of(&scene, 0), 20, 30, 1.0);
    struct ws2_belt_params params = ws2_belt_defaults();
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    assert_true(score_of(&scene, &belt, &params.foreground).iou == 1.0);
    assert_true(belt.scale[0] == 2.0f);
    assert_true(report.covered == 0.0 && report.samples == 1);
    ws2_belt_free(&belt);
    scene_free(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_back),
        cmocka_unit_test(morphology_equals_brute_force),
        cmocka_unit_test(discs_by_hand),
        cmocka_unit_test(components_equal_flood_fill),
        cmocka_unit_test(a_spiral_is_one_component),
        cmocka_unit_test(discs_on_a_belt_are_found),
        cmocka_unit_test(reflexes_are_vetoed),
        cmocka_unit_test(second_pass_clears_a_crowded_belt),
        cmocka_unit_test(too_few_samples_keep_the_first_pass),
        cmocka_unit_test(belt_equals_its_definition),
        cmocka_unit_test(rules_equal_their_definition),
        cmocka_unit_test(drift_is_taken_out),
        cmocka_unit_test(radii_go_with_the_size),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(masks_are_applied),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(one_frame_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
