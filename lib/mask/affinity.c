/* How well affinities agree with labels, and which way they should go: see mask.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "mask/pairs.h"

static const double share[WS2_PAIR_KINDS] = {0.25, 0.25, 0.5};
static const double small = 1e-5;

/* What both kinds of affinity have in common. Pairs start in a rectangle of rows x columns that begins at column reach. */
struct batch {
    const uint8_t *label;
    int64_t n, height, width, rows, columns;
    int reach, offsets;
    struct offset offset[OFFSETS_MAX];
    double scale[WS2_PAIR_KINDS]; /* of a pair in the total: its kind's share over its number */
};

/* -1 where nothing is known. */
static inline int kind_of(uint8_t a, uint8_t b)
{
    if (a == WS2_SEED_UNKNOWN || b == WS2_SEED_UNKNOWN)
        return -1;
    return a != b ? WS2_PAIR_OTHER : a == 0 ? WS2_PAIR_BELT : WS2_PAIR_THING;
}

/* First pixel of row y of the pairs of picture k. */
static int64_t first_of(const struct batch *batch, int64_t k, int64_t y)
{
    return (k * batch->height + y) * batch->width + batch->reach;
}

static void count_pairs(const struct batch *batch, struct ws2_affinity_loss *loss)
{
    for (int64_t k = 0; k < batch->n; k++)
        for (int o = 0; o < batch->offsets; o++)
            for (int64_t y = 0; y < batch->rows; y++) {
                const uint8_t *from = batch->label + first_of(batch, k, y);
                const uint8_t *to = from + batch->offset[o].y * batch->width + batch->offset[o].x;
                int64_t pairs[WS2_PAIR_KINDS + 1] = {0};
                for (int64_t x = 0; x < batch->columns; x++)
                    pairs[kind_of(from[x], to[x]) + 1]++;
                for (int i = 0; i < WS2_PAIR_KINDS; i++)
                    loss->pairs[i] += pairs[i + 1];
            }
}

static int prepare(struct batch *batch, const uint8_t *label, int64_t n, int64_t height, int64_t width,
                   int radius, struct ws2_affinity_loss *loss, struct ws2_error *error)
{
    if (radius < 2 || radius > WS2_WALK_RADIUS_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "pairs within a radius of %d: 2 to %d are possible", radius,
                        WS2_WALK_RADIUS_MAX);
    *batch = (struct batch){.label = label, .n = n, .height = height, .width = width, .reach = radius - 1};
    batch->rows = height > batch->reach ? height - batch->reach : 0;
    batch->columns = width > 2 * batch->reach ? width - 2 * batch->reach : 0;
    batch->offsets = mask_pairs_find(radius, batch->offset);
    *loss = (struct ws2_affinity_loss){0};
    count_pairs(batch, loss);
    for (int i = 0; i < WS2_PAIR_KINDS; i++)
        batch->scale[i] = share[i] / ((double)loss->pairs[i] + small);
    return 0;
}

/* -ln of how sure the affinity is of the pair's kind, and the derivative of that by the affinity. */
static double judge(int kind, double affinity, double *slope)
{
    const double agreement = kind == WS2_PAIR_OTHER ? 1 + small - affinity : affinity + small;
    *slope = (kind == WS2_PAIR_OTHER ? 1 : -1) / agreement;
    return -log(agreement);
}

/* The sums become means. */
static void finish(struct ws2_affinity_loss *loss)
{
    loss->total = 0;
    for (int i = 0; i < WS2_PAIR_KINDS; i++) {
        loss->mean[i] /= (double)loss->pairs[i] + small;
        loss->total += share[i] * loss->mean[i];
    }
}

/* ---- features ------------------------------------------------------------------------------------------------- */

/* sum[x] += |a[x] - b[x]|. */
WS2_CLONES
static void add_distance(const float *restrict a, const float *restrict b, int64_t count, float *restrict sum)
{
    for (int64_t x = 0; x < count; x++)
        sum[x] += fabsf(a[x] - b[x]);
}

/* The derivative of slope[x] * |a[x] - b[x]|, added to both. The rows may be the same one, moved: first one, then the
 * other. */
WS2_CLONES
static void add_slope(const float *restrict a, const float *restrict b, const float *restrict slope,
                      int64_t count, float *to_a, float *to_b)
{
    for (int64_t x = 0; x < count; x++)
        to_a[x] += a[x] > b[x] ? slope[x] : a[x] < b[x] ? -slope[x] : 0;
    for (int64_t x = 0; x < count; x++)
        to_b[x] -= a[x] > b[x] ? slope[x] : a[x] < b[x] ? -slope[x] : 0;
}

/* pair[offsets,rows,columns] of one picture: sums of distances in, derivatives of the total by them out. */
static void judge_distances(const struct batch *batch, int64_t k, int64_t channels, float *pair,
                            struct ws2_affinity_loss *loss)
{
    for (int o = 0; o < batch->offsets; o++)
        for (int64_t y = 0; y < batch->rows; y++, pair += batch->columns) {
            const uint8_t *from = batch->label + first_of(batch, k, y);
            const uint8_t *to = from + batch->offset[o].y * batch->width + batch->offset[o].x;
            for (int64_t x = 0; x < batch->columns; x++) {
                const int kind = kind_of(from[x], to[x]);
                double slope = 0;
                if (kind >= 0) {
                    const double affinity = exp(-(double)pair[x] / (double)channels);
                    loss->mean[kind] += judge(kind, affinity, &slope);
                    slope *= -affinity / (double)channels * batch->scale[kind];
                }
                pair[x] = (float)slope;
            }
        }
}

/* One picture; feature and gradient [channels,h,w]. */
static void learn_features(const struct batch *batch, int64_t k, const float *feature, int64_t channels,
                           float *pair, struct ws2_affinity_loss *loss, float *gradient)
{
    const int64_t pixels = batch->height * batch->width, count = batch->columns;
    memset(pair, 0, (size_t)(batch->offsets * batch->rows * count) * sizeof *pair);
    for (int64_t c = 0; c < channels; c++) {
        float *sum = pair;
        for (int o = 0; o < batch->offsets; o++)
            for (int64_t y = 0; y < batch->rows; y++, sum += count) {
                const float *from = feature + c * pixels + first_of(batch, 0, y);
                add_distance(from, from + batch->offset[o].y * batch->width + batch->offset[o].x, count, sum);
            }
    }
    judge_distances(batch, k, channels, pair, loss);
    for (int64_t c = 0; gradient && c < channels; c++) {
        const float *slope = pair;
        for (int o = 0; o < batch->offsets; o++)
            for (int64_t y = 0; y < batch->rows; y++, slope += count) {
                const int64_t at = c * pixels + first_of(batch, 0, y);
                const int64_t with = at + batch->offset[o].y * batch->width + batch->offset[o].x;
                add_slope(feature + at, feature + with, slope, count, gradient + at, gradient + with);
            }
    }
}

int ws2_affinity_features(const float *feature, const uint8_t *label, int64_t n, int64_t channels,
                          int64_t height, int64_t width, int radius, struct ws2_affinity_loss *loss,
                          float *gradient, struct ws2_error *error)
{
    struct batch batch;
    const int64_t size = channels * height * width;
    const int status = prepare(&batch, label, n, height, width, radius, loss, error);
    if (status < 0)
        return status;
    for (int64_t i = 0; i < n * size; i++)
        if (!isfinite(feature[i]))
            return ws2_fail(error, WS2_ERR_INPUT, "a feature that is not finite");
    if (gradient)
        memset(gradient, 0, (size_t)(n * size) * sizeof *gradient);
    float *pair = ws2_calloc((size_t)(batch.offsets * batch.rows * batch.columns) + 1, sizeof *pair);
    if (pair == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    for (int64_t k = 0; k < n; k++)
        learn_features(&batch, k, feature + k * size, channels, pair, loss,
                       gradient ? gradient + k * size : NULL);
    free(pair);
    finish(loss);
    return 0;
}

/* ---- edges ---------------------------------------------------------------------------------------------------- */

/* The way of an offset, as steps from its first pixel, the farthest first: of equal edges the first one counts. */
static int list_steps(const struct batch *batch, struct offset to, int64_t step[PATH_MAX_CELLS])
{
    struct offset path[PATH_MAX_CELLS];
    const int cells = mask_pairs_path(to, path);
    int listed = 0;
    for (int far = abs(to.y) + abs(to.x); far >= 0; far--)
        for (int i = 0; i < cells; i++)
            if (abs(path[i].y) + abs(path[i].x) == far)
                step[listed++] = path[i].y * batch->width + path[i].x;
    return listed;
}

/* One pair: edge and gradient at its first pixel. */
static void learn_pair(const int64_t *step, int steps, int kind, double scale, const float *edge,
                       float *gradient, double *sum)
{
    int64_t highest = step[0];
    double slope;
    for (int i = 1; i < steps; i++)
        if (edge[step[i]] > edge[highest])
            highest = step[i];
    *sum += judge(kind, 1 - (double)edge[highest], &slope);
    if (gradient)
        gradient[highest] -= (float)(slope * scale);
}

int ws2_affinity_edges(const float *edge, const uint8_t *label, int64_t n, int64_t height, int64_t width,
                       int radius, struct ws2_affinity_loss *loss, float *gradient, struct ws2_error *error)
{
    struct batch batch;
    int64_t step[PATH_MAX_CELLS];
    const int status = prepare(&batch, label, n, height, width, radius, loss, error);
    if (status < 0)
        return status;
    for (int64_t i = 0; i < n * height * width; i++)
        if (!(edge[i] >= 0 && edge[i] <= 1))
            return ws2_fail(error, WS2_ERR_INPUT, "an edge that is not within 0..1");
    if (gradient)
        memset(gradient, 0, (size_t)(n * height * width) * sizeof *gradient);
    for (int o = 0; o < batch.offsets; o++) {
        const int64_t to = batch.offset[o].y * width + batch.offset[o].x;
        const int steps = list_steps(&batch, batch.offset[o], step);
        for (int64_t row = 0; row < n * batch.rows; row++) {
            const int64_t first = first_of(&batch, row / batch.rows, row % batch.rows);
            for (int64_t i = first; i < first + batch.columns; i++) {
                const int kind = kind_of(label[i], label[i + to]);
                if (kind >= 0)
                    learn_pair(step, steps, kind, batch.scale[kind], edge + i, gradient ? gradient + i : NULL,
                               &loss->mean[kind]);
            }
        }
    }
    finish(loss);
    return 0;
}
