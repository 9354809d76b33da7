/* What the tests of dense flow share: scenes whose motion is known, the flow of a pair, and how far it is from the
 * truth. */
#ifndef WS2_TEST_FLOW_HELP_H
#define WS2_TEST_FLOW_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "motion/flow.h"

/* ---- scenes ------------------------------------------------------------------------------------------------- */

/* A value 0..1 for each point of a lattice. */
static inline float lattice(int x, int y, uint32_t seed)
{
    uint32_t h = (uint32_t)x * 0x9E3779B1u ^ (uint32_t)y * 0x85EBCA77u ^ seed * 0xC2B2AE3Du;
    h = (h ^ h >> 15) * 0x2C1B3C6Du;
    h = (h ^ h >> 12) * 0x297A2D39u;
    return (float)((h ^ h >> 15) >> 8) / 16777216.0f;
}

static inline float ease(float t)
{
    return t * t * (3 - 2 * t);
}

/* The lattice made smooth, with cells of `cell` pixels. */
static inline float clouds(float x, float y, float cell, uint32_t seed)
{
    const int i = (int)floorf(x / cell), j = (int)floorf(y / cell);
    const float fx = ease(x / cell - (float)i), fy = ease(y / cell - (float)j);
    const float top = lattice(i, j, seed) * (1 - fx) + lattice(i + 1, j, seed) * fx;
    const float low = lattice(i, j + 1, seed) * (1 - fx) + lattice(i + 1, j + 1, seed) * fx;
    return top * (1 - fy) + low * fy;
}

/* A texture without end, grey levels 30..225. */
static inline float texture(float x, float y, uint32_t seed)
{
    return 30 + 195 * (0.5f * clouds(x, y, 5, seed) + 0.3f * clouds(x, y, 12, seed + 1) +
                       0.2f * clouds(x, y, 40, seed + 2));
}

/* A texture that moves; a square of another texture over it with a motion of its own; a bright blob that stands
 * still; noise. */
struct scene {
    int width, height;
    uint32_t seed;
    float shift[2], zoom,
        turn; /* of the texture, in the second frame; zoom and turn (degrees) about the centre */
    float square, at[2], own[2]; /* side, top left corner in the first frame, motion; 0: none */
    float blob, noise;           /* grey levels */
};

/* Where the point (x, y) of the texture's first frame is in the second, or the way back. */
static inline void carry(const struct scene *s, bool back, float x, float y, float *px, float *py)
{
    const float cx = 0.5f * (float)(s->width - 1), cy = 0.5f * (float)(s->height - 1);
    const float zoom = s->zoom > 0 ? s->zoom : 1, angle = s->turn * acosf(-1) / 180;
    const float c = cosf(angle), n = sinf(angle);
    float dx = x - cx - (back ? s->shift[0] : 0), dy = y - cy - (back ? s->shift[1] : 0);
    if (back) {
        *px = cx + (c * dx + n * dy) / zoom;
        *py = cy + (c * dy - n * dx) / zoom;
    } else {
        *px = cx + zoom * (c * dx - n * dy) + s->shift[0];
        *py = cy + zoom * (c * dy + n * dx) + s->shift[1];
    }
}

static inline bool on_square(const struct scene *s, int time, float x, float y)
{
    const float left = s->at[0] + (float)time * s->own[0], top = s->at[1] + (float)time * s->own[1];
    return s->square > 0 && x >= left && y >= top && x < left + s->square && y < top + s->square;
}

static inline float shade(const struct scene *s, int time, int x, int y)
{
    float px = (float)x, py = (float)y, value;
    if (on_square(s, time, px, py))
        return texture(px - (float)time * s->own[0], py - (float)time * s->own[1], s->seed + 77);
    if (time)
        carry(s, true, px, py, &px, &py);
    value = texture(px, py, s->seed);
    const float bx = ((float)x - 0.5f * (float)s->width) / 14, by = ((float)y - 0.5f * (float)s->height) / 14;
    return value + s->blob * expf(-bx * bx - by * by);
}

/* The scene at time 0 or 1; the caller frees it. */
static inline uint8_t *draw(const struct scene *s, int time)
{
    uint8_t *rgb = malloc(3 * (size_t)s->width * (size_t)s->height), *at = rgb;
    struct ws2_random random = ws2_random_make(s->seed, (uint64_t)time);
    assert_non_null(rgb);
    for (int y = 0; y < s->height; y++) {
        for (int x = 0; x < s->width; x++, at += 3) {
            const float noise = s->noise > 0 ? s->noise * (float)ws2_random_normal(&random) : 0;
            const float value = shade(s, time, x, y) + noise;
            at[0] = at[1] = at[2] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : lroundf(value));
        }
    }
    return rgb;
}

/* ---- flows -------------------------------------------------------------------------------------------------- */

enum { AB, BA };

/* Both flows of a pair, [2][height][width], and their masks. */
struct result {
    int width, height;
    uint16_t *half[2];
    float *flow[2];
    uint8_t *valid[2];
};

static inline struct result result_new(int width, int height)
{
    const size_t n = (size_t)width * (size_t)height;
    struct result r = {.width = width, .height = height};
    for (int i = 0; i < 2; i++) {
        r.half[i] = malloc(2 * n * sizeof *r.half[i]);
        r.flow[i] = malloc(2 * n * sizeof *r.flow[i]);
        r.valid[i] = malloc(n);
        memset(r.half[i], 0xff, 2 * n * sizeof *r.half[i]); /* NaN */
        memset(r.valid[i], 9, n);
    }
    return r;
}

static inline void result_free(struct result *r)
{
    for (int i = 0; i < 2; i++) {
        free(r->half[i]);
        free(r->flow[i]);
        free(r->valid[i]);
    }
}

static inline struct ws2_flow_frame *frame_of(const uint8_t *rgb, int width, int height)
{
    struct ws2_flow_frame *frame = NULL;
    struct ws2_error error = {0};
    if (ws2_flow_frame_make(&frame, rgb, width, height, &error) < 0)
        fail_msg("%s", error.text);
    return frame;
}

/* Flow with what the caller keeps; all that comes out is finite, masks are 0 or 1. */
static inline struct result flow_with(struct ws2_flow **flow, enum ws2_flow_method method,
                                      const struct ws2_flow_frame *a, const struct ws2_flow_frame *b)
{
    struct ws2_error error = {0};
    struct result r = result_new(a->width, a->height);
    if (ws2_flow_pair(flow, method, a, b, r.half[AB], r.valid[AB], r.half[BA], r.valid[BA], &error) < 0)
        fail_msg("%s", error.text);
    const size_t n = (size_t)r.width * (size_t)r.height;
    for (int way = AB; way <= BA; way++) {
        ws2_half_to_floats(r.flow[way], r.half[way], 2 * n);
        for (size_t i = 0; i < 2 * n; i++)
            if (!isfinite(r.flow[way][i]) || r.valid[way][i % n] > 1)
                fail_msg("%d x %d: at %zu flow %g, valid %d", r.width, r.height, i, r.flow[way][i],
                         r.valid[way][i % n]);
    }
    return r;
}

static inline struct result flow_by(enum ws2_flow_method method, const uint8_t *first, const uint8_t *second,
                                    int width, int height)
{
    struct ws2_flow *flow = NULL;
    struct ws2_flow_frame *a = frame_of(first, width, height), *b = frame_of(second, width, height);
    const struct result r = flow_with(&flow, method, a, b);
    ws2_flow_frame_free(a);
    ws2_flow_frame_free(b);
    ws2_flow_free(flow);
    return r;
}

static inline struct result flow_of(const uint8_t *first, const uint8_t *second, int width, int height)
{
    return flow_by(WS2_FLOW_BELT, first, second, width, height);
}

static inline struct result flow_of_scene(const struct scene *s)
{
    uint8_t *first = draw(s, 0), *second = draw(s, 1);
    const struct result r = flow_of(first, second, s->width, s->height);
    free(first);
    free(second);
    return r;
}

/* The true flow of a pixel, and whether its point is seen in the other frame. */
struct truth {
    float u, v;
    bool inside, seen;
};

static inline struct truth truth_of(const struct scene *s, int way, int x, int y)
{
    struct truth t = {0};
    float px, py;
    const bool own = on_square(s, way, (float)x, (float)y);
    carry(s, way == BA, (float)x, (float)y, &px, &py);
    t.u = own ? (way == BA ? -s->own[0] : s->own[0]) : px - (float)x;
    t.v = own ? (way == BA ? -s->own[1] : s->own[1]) : py - (float)y;
    px = (float)x + t.u;
    py = (float)y + t.v;
    t.inside = px >= 0 && py >= 0 && px <= (float)(s->width - 1) && py <= (float)(s->height - 1);
    t.seen = t.inside && (own || !on_square(s, 1 - way, px, py));
    return t;
}

/* How a flow compares with the truth of its scene. */
struct errors {
    double mean, most; /* end-point error over points that are seen and `margin` away from the rim */
    double
        outside; /* share of the points that leave the frame by half a pixel or more and are called valid */
    double covered; /* IoU of covered pixels inside the frame: not valid against not seen */
    double kept;    /* share of the points counted in `mean` that are called valid */
};

static inline double deviation(const struct result *r, int way, size_t i, float u, float v)
{
    const size_t n = (size_t)r->width * (size_t)r->height;
    return hypot(r->flow[way][i] - u, r->flow[way][n + i] - v);
}

static inline struct errors errors_of(const struct scene *s, const struct result *r, int way, int margin)
{
    struct errors e = {0};
    double count = 0, left = 0, both = 0, either = 0;
    for (int y = 0; y < s->height; y++) {
        for (int x = 0; x < s->width; x++) {
            const size_t i = (size_t)y * (size_t)s->width + (size_t)x;
            const struct truth t = truth_of(s, way, x, y);
            const float px = (float)x + t.u, py = (float)y + t.v, m = (float)margin;
            const bool valid = r->valid[way][i], deep = px >= m && py >= m && px <= (float)s->width - 1 - m &&
                                                        py <= (float)s->height - 1 - m;
            if (px < -0.5f || py < -0.5f || px > (float)s->width - 0.5f || py > (float)s->height - 0.5f) {
                left++;
                e.outside += valid;
            }
            if (t.inside && deep) {
                both += !valid && !t.seen;
                either += !valid || !t.seen;
            }
            if (t.seen && deep) {
                const double d = deviation(r, way, i, t.u, t.v);
                count++;
                e.mean += d;
                e.kept += valid;
                e.most = d > e.most ? d : e.most;
            }
        }
    }
    e.mean /= count;
    e.kept /= count;
    e.outside = left > 0 ? e.outside / left : 0;
    e.covered = either > 0 ? both / either : 1;
    return e;
}

#endif
