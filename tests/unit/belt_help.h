/* What the tests of belts and their foreground share: scenes of discs on a belt with their truth, and how well masks
 * find them. */
#ifndef WS2_TEST_BELT_HELP_H
#define WS2_TEST_BELT_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mask/mask.h"
#include "motion/motion.h"

/* ---- scenes ----------------------------------------------------------------------------------------------- */

struct disc {
    double y, x, radius;
    uint8_t colour[3];
};

struct scene {
    int height, width, count;
    uint8_t *rgb;   /* [count,h,w,3] */
    uint8_t *truth; /* [count,h,w] */
};

static inline uint8_t clip(double value)
{
    return (uint8_t)fmin(fmax(floor(value + 0.5), 0.0), 255.0);
}

/* Where the lamp is reflected. */
static inline bool on_glare(int y, int x, int height, int width)
{
    return y > height / 8 && y < height / 4 && x > width / 8 && x < width / 3;
}

/* Grey belt of level 110 with noise of deviation 3; one glare patch that stays where it is. */
static inline void paint_belt(struct ws2_random *random, uint8_t *rgb, int height, int width, double gain)
{
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const bool glare = on_glare(y, x, height, width);
            for (int c = 0; c < 3; c++)
                *rgb++ = clip(gain * ((glare ? 249.0 : 110.0) + 3.0 * ws2_random_normal(random)));
        }
    }
}

static inline void paint_disc(uint8_t *rgb, uint8_t *truth, int height, int width, const struct disc *disc,
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

static inline struct scene make_scene(int height, int width, int count)
{
    return (struct scene){height, width, count, calloc((size_t)(count * height * width), 3),
                          calloc((size_t)(count * height * width), 1)};
}

static inline uint8_t *frame_of(const struct scene *scene, int k)
{
    return scene->rgb + (size_t)k * (size_t)(scene->height * scene->width * 3);
}

static inline uint8_t *truth_of(const struct scene *scene, int k)
{
    return scene->truth + (size_t)k * (size_t)(scene->height * scene->width);
}

static inline void scene_free(struct scene *scene)
{
    free(scene->rgb);
    free(scene->truth);
}

/* Grey, dark and coloured discs at random places, none on the glare, before a camera of this gain. */
static inline struct scene sparse_scene(uint64_t seed, int height, int width, int count, double gain)
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

/* ---- belts and masks -------------------------------------------------------------------------------------- */

static inline struct ws2_belt belt_of(const struct scene *scene, const struct ws2_belt_params *params,
                                      int threads, struct ws2_belt_report *report)
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

struct score {
    double iou;
    int64_t on_glare;
};

static inline struct score score_of(const struct scene *scene, const struct ws2_belt *belt,
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
            both += fg[p] & truth[p];
            either += fg[p] | truth[p];
            glare += fg[p] && on_glare(p / width, p % width, height, width);
        }
    }
    free(fg);
    ws2_foreground_scratch_free(scratch);
    ws2_foreground_free(foreground);
    return (struct score){either ? (double)both / (double)either : 1.0, glare};
}

/* 0..255; 0 for a pixel that is darker than `dark`. */
static inline double saturation_of(const uint8_t *rgb, int dark)
{
    const int most =
        rgb[0] > rgb[1] ? (rgb[0] > rgb[2] ? rgb[0] : rgb[2]) : (rgb[1] > rgb[2] ? rgb[1] : rgb[2]);
    const int least =
        rgb[0] < rgb[1] ? (rgb[0] < rgb[2] ? rgb[0] : rgb[2]) : (rgb[1] < rgb[2] ? rgb[1] : rgb[2]);
    return most < dark || most == 0 ? 0.0 : floor(255.0 * (most - least) / most + 0.5);
}

#endif
