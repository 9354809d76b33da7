/* Random walks of maps over pixels that are alike: see mask.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "mask/mask.h"

/* The half plane of offsets: every pair of pixels has one of its two directions here. */
struct offset {
    int y, x;
};
enum { OFFSETS_MAX = 2 * WS2_WALK_RADIUS_MAX * WS2_WALK_RADIUS_MAX };

struct ws2_walk {
    int64_t height, width;
    int offsets;
    struct offset offset[OFFSETS_MAX];
    float *pair;    /* [offsets,h,w] affinity of p and p + offset, 0 where there is no such pair */
    float *inverse; /* [h,w] 1 / the sum of all affinities of a pixel, its own 1 among them */
    float *plane;   /* [h,w] */
    size_t pair_capacity, inverse_capacity, plane_capacity;
};

void ws2_walk_free(struct ws2_walk *walk)
{
    if (walk == NULL)
        return;
    free(walk->pair);
    free(walk->inverse);
    free(walk->plane);
    free(walk);
}

static void find_offsets(struct ws2_walk *walk, int radius)
{
    walk->offsets = 0;
    for (int y = 0; y < radius; y++)
        for (int x = y == 0 ? 1 : 1 - radius; x < radius; x++)
            if (x * x + y * y < radius * radius)
                walk->offset[walk->offsets++] = (struct offset){y, x};
}

static int prepare(struct ws2_walk **kept, int radius, double beta, int64_t height, int64_t width,
                   struct ws2_error *error)
{
    size_t plane, pair;
    if (radius < 1 || radius > WS2_WALK_RADIUS_MAX || !(beta > 0) || !isfinite(beta) || height < 0 ||
        width < 0)
        return ws2_fail(error, WS2_ERR_USAGE, "radius %d, exponent %g, %lldx%lld pixels: not possible",
                        radius, beta, (long long)width, (long long)height);
    if (*kept == NULL && (*kept = ws2_calloc(1, sizeof **kept)) == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    struct ws2_walk *walk = *kept;
    find_offsets(walk, radius);
    const struct ws2_shape one = ws2_shape_2(height, width), all = ws2_shape_3(walk->offsets, height, width);
    if (!ws2_shape_bytes(&one, WS2_F32, &plane) || !ws2_shape_bytes(&all, WS2_F32, &pair) ||
        ws2_reserve((void **)&walk->pair, &walk->pair_capacity, pair) != 0 ||
        ws2_reserve((void **)&walk->inverse, &walk->inverse_capacity, plane) != 0 ||
        ws2_reserve((void **)&walk->plane, &walk->plane_capacity, plane) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a walk over %lldx%lld pixels", (long long)width,
                        (long long)height);
    walk->height = height;
    walk->width = width;
    memset(walk->pair, 0, pair);
    return 0;
}

/* Pixels of a row that have a partner at dx: begin .. end - 1. */
static void partners(int64_t width, int dx, int64_t *begin, int64_t *end)
{
    *begin = dx < 0 ? -dx : 0;
    *end = dx > 0 ? width - dx : width;
}

/* Affinities are in place: raised to beta, and summed for every pixel. */
static void normalise(struct ws2_walk *walk, double beta)
{
    const int64_t w = walk->width, pixels = walk->height * w;
    for (int64_t i = 0; i < walk->offsets * pixels; i++)
        walk->pair[i] = walk->pair[i] > 0 ? powf(walk->pair[i], (float)beta) : 0;
    for (int64_t i = 0; i < pixels; i++)
        walk->inverse[i] = 1;
    for (int o = 0; o < walk->offsets; o++) {
        const int64_t step = walk->offset[o].y * w + walk->offset[o].x;
        const float *pair = walk->pair + o * pixels;
        for (int64_t i = 0; i < pixels; i++) {
            if (pair[i] > 0) {
                walk->inverse[i] += pair[i];
                walk->inverse[i + step] += pair[i];
            }
        }
    }
    for (int64_t i = 0; i < pixels; i++)
        walk->inverse[i] = 1 / walk->inverse[i];
}

/* ---- affinities --------------------------------------------------------------------------------------------- */

int ws2_walk_features(struct ws2_walk **kept, const float *feature, int64_t channels, int64_t height,
                      int64_t width, int radius, double beta, struct ws2_error *error)
{
    const int status = prepare(kept, radius, beta, height, width, error);
    if (status < 0)
        return status;
    struct ws2_walk *walk = *kept;
    const int64_t pixels = height * width;
    for (int64_t i = 0; i < channels * pixels; i++)
        if (!isfinite(feature[i]))
            return ws2_fail(error, WS2_ERR_INPUT, "a feature that is not finite");
    for (int o = 0; o < walk->offsets; o++) {
        const int64_t step = walk->offset[o].y * width + walk->offset[o].x;
        for (int64_t y = 0; y <= height - radius; y++) {
            float *pair = walk->pair + o * pixels + y * width;
            for (int64_t c = 0; c < channels; c++) {
                const float *from = feature + c * pixels + y * width;
                for (int64_t x = radius - 1; x <= width - radius; x++)
                    pair[x] += fabsf(from[x] - from[x + step]);
            }
            for (int64_t x = radius - 1; x <= width - radius; x++)
                pair[x] = expf(-pair[x] / (float)(channels > 0 ? channels : 1));
        }
    }
    normalise(walk, beta);
    return 0;
}

/* Cells of the path from 0 to the offset: all within a distance below 1 of the straight line, in its rectangle. */
static int find_path(struct offset to, struct offset *path)
{
    int count = 0;
    const int low = to.x < 0 ? to.x : 0, high = to.x > 0 ? to.x : 0, square = to.y * to.y + to.x * to.x;
    for (int y = 0; y <= to.y; y++)
        for (int x = low; x <= high; x++) {
            const int cross = to.y * x - to.x * y;
            if (cross * cross < square)
                path[count++] = (struct offset){y, x};
        }
    return count;
}

int ws2_walk_edges(struct ws2_walk **kept, const float *edge, int64_t height, int64_t width, int radius,
                   double beta, struct ws2_error *error)
{
    const int status = prepare(kept, radius, beta, height, width, error);
    if (status < 0)
        return status;
    struct ws2_walk *walk = *kept;
    struct offset path[WS2_WALK_RADIUS_MAX * 2 * WS2_WALK_RADIUS_MAX];
    for (int64_t i = 0; i < height * width; i++)
        if (!(edge[i] >= 0 && edge[i] <= 1))
            return ws2_fail(error, WS2_ERR_INPUT, "an edge that is not within 0..1");
    for (int o = 0; o < walk->offsets; o++) {
        const struct offset to = walk->offset[o];
        const int cells = find_path(to, path);
        int64_t begin, end;
        partners(width, to.x, &begin, &end);
        for (int64_t y = 0; y < height - to.y; y++) {
            float *pair = walk->pair + (o * height + y) * width;
            for (int64_t x = begin; x < end; x++) {
                float wall = 0;
                for (int i = 0; i < cells; i++)
                    wall = fmaxf(wall, edge[(y + path[i].y) * width + x + path[i].x]);
                pair[x] = 1 - wall;
            }
        }
    }
    normalise(walk, beta);
    return 0;
}

/* ---- steps -------------------------------------------------------------------------------------------------- */

/* to[p] += pair[p] from[p + step] and to[p + step] += pair[p] from[p] along a row. */
WS2_CLONES
static void exchange(const float *restrict pair, const float *restrict from, float *restrict to,
                     int64_t begin, int64_t end, int64_t step)
{
    for (int64_t x = begin; x < end; x++)
        to[x] += pair[x] * from[x + step];
    for (int64_t x = begin; x < end; x++)
        to[x + step] += pair[x] * from[x];
}

static void take_step(const struct ws2_walk *walk, const float *from, float *to)
{
    const int64_t h = walk->height, w = walk->width;
    memcpy(to, from, (size_t)(h * w) * sizeof *to);
    for (int64_t y = 0; y < h; y++) {
        for (int o = 0; o < walk->offsets; o++) {
            const struct offset offset = walk->offset[o];
            int64_t begin, end;
            if (y + offset.y >= h)
                continue;
            partners(w, offset.x, &begin, &end);
            exchange(walk->pair + (o * h + y) * w, from + y * w, to + y * w, begin, end,
                     offset.y * w + offset.x);
        }
    }
    for (int64_t i = 0; i < h * w; i++)
        to[i] *= walk->inverse[i];
}

void ws2_walk_run(struct ws2_walk *walk, int64_t steps, int64_t planes, float *map)
{
    const size_t pixels = (size_t)(walk->height * walk->width);
    for (int64_t k = 0; k < planes; k++) {
        float *from = map + (size_t)k * pixels, *to = walk->plane;
        for (int64_t n = 0; n < steps; n++) {
            take_step(walk, from, to);
            float *swap = from;
            from = to;
            to = swap;
        }
        if (from == walk->plane)
            memcpy(map + (size_t)k * pixels, from, pixels * sizeof *map);
    }
}
