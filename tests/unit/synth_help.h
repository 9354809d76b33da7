/* What the tests of the belt simulator share: frames with all that can be asked for, and plain scenes. */
#ifndef WS2_TEST_SYNTH_HELP_H
#define WS2_TEST_SYNTH_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "synth/synth.h"

/* One frame with all that can be asked for. */
struct shot {
    int64_t width, height;
    struct ws2_synth_frame at;
};

static inline struct shot shot_new(int64_t width, int64_t height)
{
    const size_t n = (size_t)(width * height);
    struct shot shot = {width, height, {0}};
    shot.at = (struct ws2_synth_frame){.rgb = ws2_calloc(n, 3),
                                       .truth = ws2_calloc(n, 1),
                                       .ids = ws2_calloc(n, 2),
                                       .kind = ws2_calloc(n, 1),
                                       .next = ws2_calloc(n, 8),
                                       .next_valid = ws2_calloc(n, 1),
                                       .prev = ws2_calloc(n, 8),
                                       .prev_valid = ws2_calloc(n, 1)};
    return shot;
}

static inline void shot_free(struct shot *shot)
{
    free(shot->at.rgb);
    free(shot->at.truth);
    free(shot->at.ids);
    free(shot->at.kind);
    free(shot->at.next);
    free(shot->at.next_valid);
    free(shot->at.prev);
    free(shot->at.prev_valid);
}

static inline struct ws2_synth_config plain(int64_t width, int64_t height, uint64_t seed)
{
    struct ws2_synth_config config;
    ws2_synth_defaults(&config, WS2_SYNTH_PLAIN);
    config.width = width;
    config.height = height;
    config.seed = seed;
    return config;
}

/* A camera that adds nothing: what the scene looks like. */
static inline void make_ideal(struct ws2_synth_config *config)
{
    config->noise = 0;
    config->optics = 0;
    config->drift = 0;
    config->difference = WS2_SYNTH_SAME;
}

static inline struct ws2_synth *open_synth(const struct ws2_synth_config *config)
{
    struct ws2_synth *synth;
    struct ws2_error error = {0};
    if (ws2_synth_open(&synth, config, NULL, &error) < 0)
        fail_msg("%s", error.text);
    return synth;
}

static inline void render(const struct ws2_synth *synth, int64_t t, const struct shot *shot)
{
    struct ws2_error error = {0};
    if (ws2_synth_render(synth, t, &shot->at, &error) < 0)
        fail_msg("%s", error.text);
}

static inline struct shot render_new(const struct ws2_synth_config *config, int64_t t)
{
    struct shot shot = shot_new(config->width, config->height);
    struct ws2_synth *synth = open_synth(config);
    render(synth, t, &shot);
    ws2_synth_close(synth);
    return shot;
}

static inline void assert_same_shot(const struct shot *a, const struct shot *b)
{
    const size_t n = (size_t)(a->width * a->height);
    assert_memory_equal(a->at.rgb, b->at.rgb, 3 * n);
    assert_memory_equal(a->at.truth, b->at.truth, n);
    assert_memory_equal(a->at.ids, b->at.ids, 2 * n);
    assert_memory_equal(a->at.kind, b->at.kind, n);
    assert_memory_equal(a->at.next, b->at.next, 8 * n);
    assert_memory_equal(a->at.next_valid, b->at.next_valid, n);
    assert_memory_equal(a->at.prev, b->at.prev, 8 * n);
    assert_memory_equal(a->at.prev_valid, b->at.prev_valid, n);
}

static inline double mean_of(const uint8_t *byte, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += byte[i];
    return sum / (double)count;
}

#endif
