/* Random walks of maps over pixels that are alike: see mask.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "mask/pairs.h"

enum {
    LANES = 16,        /* pixels of one vector */
    BLOCK = 2 * LANES, /* pixels that are added up at a time; padded rows are whole blocks */
    GROUP = 3,         /* maps that walk together, so that affinities are read once for all */
    MARGIN = 16        /* zeros before each row, at least the reach */
};

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* All arrays have rows of `stride` values that begin with MARGIN zeros and end with zeros, too. A pixel outside of the
 * picture holds 0 and has affinity 0 to all others, so that no step asks where the picture ends. */
struct ws2_walker {
    int64_t height, width, stride;
    int offsets, reach; /* reach: radius - 1, what an offset is at most */
    struct offset offset[OFFSETS_MAX];
    float *pair;     /* [reach+h,offsets,stride] W^beta of p and p + offset, 0 where there is no such pair */
    float *inverse;  /* [h,stride] 1 / the sum of all W^beta of a pixel, its own 1 among them */
    float *state[2]; /* [GROUP,reach+h+reach,stride] maps after the last step and the one before */
    float *result;   /* [GROUP,h,stride] */
    int32_t *colour; /* [3,h,w] */
    float *table;    /* W^beta by the square of the distance of two colours */
    size_t pair_capacity, inverse_capacity, state_capacity[2], result_capacity, colour_capacity,
        table_capacity;
};

void ws2_walk_free(struct ws2_walker *walk)
{
    if (walk == NULL)
        return;
    free(walk->pair);
    free(walk->inverse);
    free(walk->state[0]);
    free(walk->state[1]);
    free(walk->result);
    free(walk->colour);
    free(walk->table);
    free(walk);
}

/* Room for [a,b,c] floats and for what a vector reads beyond them; zeros. */
static int reserve(float **array, size_t *capacity, int64_t a, int64_t b, int64_t c)
{
    size_t bytes;
    const struct ws2_shape shape = ws2_shape_3(a, b, c);
    if (!ws2_shape_bytes(&shape, WS2_F32, &bytes) || bytes > SIZE_MAX / 2 ||
        ws2_reserve((void **)array, capacity, bytes + BLOCK * sizeof **array) != 0)
        return WS2_ERR_SYSTEM;
    memset(*array, 0, bytes + BLOCK * sizeof **array);
    return 0;
}

static int prepare(struct ws2_walker **kept, int radius, double beta, int64_t height, int64_t width,
                   struct ws2_error *error)
{
    const int64_t most = INT32_MAX;
    if (radius < 1 || radius > WS2_WALK_RADIUS_MAX || !(beta > 0) || !isfinite(beta) || height < 0 ||
        width < 0 || height > most || width > most)
        return ws2_fail(error, WS2_ERR_USAGE, "radius %d, exponent %g, %lldx%lld pixels: not possible",
                        radius, beta, (long long)width, (long long)height);
    if (*kept == NULL && (*kept = ws2_calloc(1, sizeof **kept)) == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    struct ws2_walker *walk = *kept;
    walk->offsets = mask_pairs_find(radius, walk->offset);
    walk->reach = radius - 1;
    walk->height = height;
    walk->width = width;
    walk->stride = MARGIN + (width + BLOCK - 1) / BLOCK * BLOCK;
    const int64_t stride = walk->stride, rows = height + 2 * walk->reach;
    if (reserve(&walk->pair, &walk->pair_capacity, walk->reach + height, walk->offsets, stride) != 0 ||
        reserve(&walk->inverse, &walk->inverse_capacity, 1, height, stride) != 0 ||
        reserve(&walk->result, &walk->result_capacity, GROUP, height, stride) != 0 ||
        reserve(&walk->state[0], &walk->state_capacity[0], GROUP, rows, stride) != 0 ||
        reserve(&walk->state[1], &walk->state_capacity[1], GROUP, rows, stride) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a walk over %lldx%lld pixels", (long long)width,
                        (long long)height);
    return 0;
}

/* Pixels of a row that have a partner at dx: begin .. end - 1. */
static void partners(int64_t width, int dx, int64_t *begin, int64_t *end)
{
    *begin = dx < 0 ? -dx : 0;
    *end = dx > 0 ? width - dx : width;
}

static float *pair_row(const struct ws2_walker *walk, int64_t y, int o)
{
    return walk->pair + ((walk->reach + y) * walk->offsets + o) * walk->stride + MARGIN;
}

static float *state_row(const struct ws2_walker *walk, int which, int64_t plane, int64_t y)
{
    const int64_t rows = walk->height + 2 * walk->reach;
    return walk->state[which] + (plane * rows + walk->reach + y) * walk->stride + MARGIN;
}

static float *result_row(const struct ws2_walker *walk, int64_t plane, int64_t y)
{
    return walk->result + (plane * walk->height + y) * walk->stride + MARGIN;
}

/* ---- steps -------------------------------------------------------------------------------------------------- */

/* next = ahead * (now T) - back * before, where next takes the place of before; result += share * next. */
struct step {
    float ahead, back, share;
};

/* Row y of one step for a constant number of maps. A pixel collects from its neighbours in the half plane below, by its
 * own affinities, and in the other one by theirs; the order is the same on every processor. */
static inline __attribute__((always_inline)) void
advance_maps(const struct ws2_walker *walk, int64_t y, int now, const struct step *step, const int maps)
{
    const float *inverse = walk->inverse + y * walk->stride + MARGIN, *from[GROUP];
    float *to[GROUP], *result[GROUP];
    for (int m = 0; m < maps; m++) {
        from[m] = state_row(walk, now, m, y);
        to[m] = state_row(walk, 1 - now, m, y);
        result[m] = result_row(walk, m, y);
    }
    for (int64_t x = 0; x < walk->width; x += BLOCK) {
        lanes sum[GROUP][2];
        for (int m = 0; m < maps; m++)
            for (int k = 0; k < 2; k++)
                sum[m][k] = *(const lanes *)(from[m] + x + LANES * k);
        for (int o = 0; o < walk->offsets; o++) {
            const struct offset offset = walk->offset[o];
            const int64_t move = offset.y * walk->stride + offset.x;
            const float *down = pair_row(walk, y, o) + x;
            const float *up = pair_row(walk, y - offset.y, o) + x - offset.x;
            for (int k = 0; k < 2; k++) {
                const lanes below = *(const lanes *)(down + LANES * k);
                const lanes above = *(const lanes *)(up + LANES * k);
                for (int m = 0; m < maps; m++) {
                    const float *at = from[m] + x + LANES * k;
                    sum[m][k] += below * *(const lanes *)(at + move);
                    sum[m][k] += above * *(const lanes *)(at - move);
                }
            }
        }
        for (int m = 0; m < maps; m++)
            for (int k = 0; k < 2; k++) {
                const int64_t at = x + LANES * k;
                const lanes next = step->ahead * (sum[m][k] * *(const lanes *)(inverse + at)) -
                                   step->back * *(lanes *)(to[m] + at);
                *(lanes *)(to[m] + at) = next;
                *(lanes *)(result[m] + at) += step->share * next;
            }
    }
}

/* The compiler keeps the sums in registers for each number of maps. */
WS2_CLONES
static void advance_row(const struct ws2_walker *walk, int64_t y, int now, const struct step *step, int maps)
{
    switch (maps) {
    case 1:
        advance_maps(walk, y, now, step, 1);
        break;
    case 2:
        advance_maps(walk, y, now, step, 2);
        break;
    default:
        advance_maps(walk, y, now, step, GROUP);
    }
}

/* One step of maps[0 .. maps-1], from state[now] to the other. */
static void advance(const struct ws2_walker *walk, int now, const struct step *step, int maps)
{
    for (int64_t y = 0; y < walk->height; y++)
        advance_row(walk, y, now, step, maps);
}

/* W^beta is in place: the sums over all neighbours, by one step of a map of ones. */
static void normalise(struct ws2_walker *walk)
{
    const struct step plain = {1, 0, 0};
    for (int64_t y = 0; y < walk->height; y++)
        for (int64_t x = 0; x < walk->width; x++)
            walk->inverse[y * walk->stride + MARGIN + x] = state_row(walk, 0, 0, y)[x] = 1;
    advance(walk, 0, &plain, 1);
    for (int64_t y = 0; y < walk->height; y++)
        for (int64_t x = 0; x < walk->width; x++)
            walk->inverse[y * walk->stride + MARGIN + x] /= state_row(walk, 1, 0, y)[x];
}

/* ---- affinities --------------------------------------------------------------------------------------------- */

/* Table of exp(-scale * square); returns its last index. Values below 1e-12 count as 0, which no walk of some thousand steps
 * can tell; the last value is for all squares from there on. */
static int make_table(struct ws2_walker *walk, double scale)
{
    const double most = 3 * 255 * 255, end = fmin(most, floor(-log(1e-12) / scale) + 1);
    const int last = (int)end;
    if (ws2_reserve((void **)&walk->table, &walk->table_capacity, (size_t)(last + 1) * sizeof *walk->table) !=
        0)
        return WS2_ERR_SYSTEM;
    for (int i = 0; i <= last; i++) {
        const double affinity = exp(-scale * i);
        walk->table[i] = affinity < 1e-12 ? 0 : (float)affinity;
    }
    return last;
}

/* pair[x] for the colours of a row, from[3][x], and of their partners. */
WS2_CLONES
static void compare_colours(const int32_t *const from[3], const int32_t *const with[3], const float *table,
                            int32_t last, float near, int64_t count, float *restrict pair)
{
    for (int64_t x = 0; x < count; x++) {
        const int32_t r = from[0][x] - with[0][x], g = from[1][x] - with[1][x], b = from[2][x] - with[2][x];
        const int32_t square = r * r + g * g + b * b;
        pair[x] = table[square < last ? square : last] * near;
    }
}

int ws2_walk_colours(struct ws2_walker **kept, const uint8_t *rgb, int64_t height, int64_t width, int radius,
                     double beta, double colour, double space, struct ws2_error *error)
{
    if (!(colour > 0) || !isfinite(colour) || !(space >= 0) || !isfinite(space))
        return ws2_fail(error, WS2_ERR_USAGE, "deviations of %g levels and %g pixels: not possible", colour,
                        space);
    const int status = prepare(kept, radius, beta, height, width, error);
    if (status < 0)
        return status;
    struct ws2_walker *walk = *kept;
    const int64_t pixels = height * width;
    const int32_t last = make_table(walk, beta / (2 * colour * colour));
    if (last < 0 || ws2_reserve((void **)&walk->colour, &walk->colour_capacity,
                                3 * (size_t)pixels * sizeof *walk->colour) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    for (int c = 0; c < 3; c++)
        for (int64_t i = 0; i < pixels; i++)
            walk->colour[c * pixels + i] = rgb[3 * i + c];
    for (int o = 0; o < walk->offsets; o++) {
        const struct offset to = walk->offset[o];
        const double square = to.y * to.y + to.x * to.x;
        const float near = space > 0 ? (float)exp(-beta * square / (2 * space * space)) : 1;
        int64_t begin, end;
        partners(width, to.x, &begin, &end);
        for (int64_t y = 0; y < height - to.y && begin < end; y++) {
            const int32_t *from[3], *with[3];
            for (int c = 0; c < 3; c++) {
                from[c] = walk->colour + c * pixels + y * width + begin;
                with[c] = from[c] + to.y * width + to.x;
            }
            compare_colours(from, with, walk->table, last, near, end - begin, pair_row(walk, y, o) + begin);
        }
    }
    normalise(walk);
    return 0;
}

/* sum[x] += |a[x] - b[x]|. */
WS2_CLONES
static void add_distance(const float *restrict a, const float *restrict b, int64_t count, float *restrict sum)
{
    for (int64_t x = 0; x < count; x++)
        sum[x] += fabsf(a[x] - b[x]);
}

int ws2_walk_features(struct ws2_walker **kept, const float *feature, int64_t channels, int64_t height,
                      int64_t width, int radius, double beta, struct ws2_error *error)
{
    const int status = prepare(kept, radius, beta, height, width, error);
    if (status < 0)
        return status;
    struct ws2_walker *walk = *kept;
    const int64_t pixels = height * width, first = radius - 1, count = width - 2 * first;
    const float scale = (float)(-beta / (double)(channels > 0 ? channels : 1));
    for (int64_t i = 0; i < channels * pixels; i++)
        if (!isfinite(feature[i]))
            return ws2_fail(error, WS2_ERR_INPUT, "a feature that is not finite");
    for (int o = 0; o < walk->offsets; o++) {
        const int64_t step = walk->offset[o].y * width + walk->offset[o].x;
        for (int64_t y = 0; y <= height - radius; y++) {
            float *pair = pair_row(walk, y, o) + first;
            for (int64_t c = 0; c < channels; c++) {
                const float *from = feature + c * pixels + y * width + first;
                add_distance(from, from + step, count, pair);
            }
            for (int64_t x = 0; x < count; x++)
                pair[x] = expf(scale * pair[x]);
        }
    }
    normalise(walk);
    return 0;
}

/* wall[x] = the larger of wall[x] and edge[x]. */
WS2_CLONES
static void raise_wall(const float *restrict edge, int64_t count, float *restrict wall)
{
    for (int64_t x = 0; x < count; x++)
        wall[x] = edge[x] > wall[x] ? edge[x] : wall[x];
}

int ws2_walk_edges(struct ws2_walker **kept, const float *edge, int64_t height, int64_t width, int radius,
                   double beta, struct ws2_error *error)
{
    const int status = prepare(kept, radius, beta, height, width, error);
    if (status < 0)
        return status;
    struct ws2_walker *walk = *kept;
    struct offset path[PATH_MAX_CELLS];
    for (int64_t i = 0; i < height * width; i++)
        if (!(edge[i] >= 0 && edge[i] <= 1.00001f)) /* what a mean of ones may be */
            return ws2_fail(error, WS2_ERR_INPUT, "an edge that is not within 0..1");
    for (int o = 0; o < walk->offsets; o++) {
        const struct offset to = walk->offset[o];
        const int cells = mask_pairs_path(to, path);
        int64_t begin, end;
        partners(width, to.x, &begin, &end);
        for (int64_t y = 0; y < height - to.y && begin < end; y++) {
            float *pair = pair_row(walk, y, o);
            for (int i = 0; i < cells; i++)
                raise_wall(edge + (y + path[i].y) * width + begin + path[i].x, end - begin, pair + begin);
            for (int64_t x = begin; x < end; x++)
                pair[x] = pair[x] < 1 ? powf(1 - pair[x], (float)beta) : 0;
        }
    }
    normalise(walk);
    return 0;
}

/* ---- walks -------------------------------------------------------------------------------------------------- */

/*
 * n steps by far fewer. All of T's eigenvalues lie within -1..1, and there x^n = sum over j of a_j C_j(x) with the
 * polynomials of Chebyshev, C_0 = 1, C_1 = x, C_j+1 = 2 x C_j - C_j-1. a_j is the probability that n throws of a coin
 * end j apart, counted both ways: 2^(1-n) (n over (n-j)/2), and half of that for j = 0. Beyond 6.5 sqrt(n) all of them
 * together are below 2e-9 (Hoeffding), and are left out. For n up to 42 this saves nothing, and steps are taken as they are.
 */
static int64_t count_steps(int64_t n)
{
    const double enough = ceil(6.5 * sqrt((double)n));
    return enough < (double)n ? (int64_t)enough : n;
}

static float share(int64_t n, int64_t j)
{
    if ((n - j) % 2 != 0)
        return 0;
    const double half = 0.5 * (double)(n - j);
    int sign;
    const double log_share = lgamma_r((double)n + 1, &sign) - lgamma_r(half + 1, &sign) -
                             lgamma_r(half + (double)j + 1, &sign) - (double)n * M_LN2;
    return (float)((j > 0 ? 2 : 1) * exp(log_share));
}

/* Step j, from 1, of `count` that stand for n. */
static struct step find_step(int64_t n, int64_t count, int64_t j)
{
    if (count == n)
        return (struct step){1, 0, j == n};
    return j == 1 ? (struct step){1, 0, share(n, 1)} : (struct step){2, 1, share(n, j)};
}

/* map f32[h,w] into both arrays; `first` is its share of the result. Its range is left in low and high. */
static void load(const struct ws2_walker *walk, const float *map, int m, float first, float *low, float *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (int64_t y = 0; y < walk->height; y++) {
        float *state = state_row(walk, 0, m, y), *result = result_row(walk, m, y);
        for (int64_t x = 0; x < walk->width; x++) {
            const float value = map[y * walk->width + x];
            state[x] = value;
            result[x] = first * value;
            *low = value < *low ? value : *low;
            *high = value > *high ? value : *high;
        }
    }
}

/* A walk is a weighted mean: what rounding leaves outside of the map's range comes back. */
static void store(const struct ws2_walker *walk, float *map, int m, float low, float high)
{
    for (int64_t y = 0; y < walk->height; y++) {
        const float *result = result_row(walk, m, y);
        for (int64_t x = 0; x < walk->width; x++) {
            const float value = result[x] < low ? low : result[x];
            map[y * walk->width + x] = value > high ? high : value;
        }
    }
}

void ws2_walk_run(struct ws2_walker *walk, int64_t steps, int64_t planes, float *map)
{
    const int64_t pixels = walk->height * walk->width, count = count_steps(steps);
    if (steps < 1 || pixels == 0)
        return;
    for (int64_t k = 0; k < planes; k += GROUP, map += GROUP * pixels) {
        float low[GROUP], high[GROUP];
        const int maps = planes - k < GROUP ? (int)(planes - k) : GROUP;
        for (int m = 0; m < maps; m++)
            load(walk, map + m * pixels, m, count == steps ? 0 : share(steps, 0), &low[m], &high[m]);
        for (int64_t j = 1; j <= count; j++) {
            const struct step step = find_step(steps, count, j);
            advance(walk, (int)((j - 1) % 2), &step, maps);
        }
        for (int m = 0; m < maps; m++)
            store(walk, map + m * pixels, m, low[m], high[m]);
    }
}

/* ---- class maps --------------------------------------------------------------------------------------------- */

WS2_CLONES
int ws2_walk_maps(const uint16_t *cam, size_t count, float *map, struct ws2_error *error)
{
    bool finite = true;
    for (size_t i = 0; i < count; i++)
        finite &= (cam[i] & 0x7c00) != 0x7c00;
    if (!finite)
        return ws2_fail(error, WS2_ERR_INPUT, "a class map holds a value that is not finite");
    ws2_half_to_floats(map, cam, count);
    for (size_t i = 0; i < count; i++)
        map[i] = map[i] > 0 ? map[i] : 0;
    return 0;
}

/* The largest of value[count], at least 0. */
WS2_CLONES
static float find_high(const float *value, size_t count)
{
    float high[LANES] = {0}, highest = 0;
    for (size_t i = 0; i + LANES <= count; i += LANES)
        for (int k = 0; k < LANES; k++)
            high[k] = value[i + k] > high[k] ? value[i + k] : high[k];
    for (size_t i = count - count % LANES; i < count; i++)
        high[0] = value[i] > high[0] ? value[i] : high[0];
    for (int k = 0; k < LANES; k++)
        highest = high[k] > highest ? high[k] : highest;
    return highest;
}

WS2_CLONES
static void divide(float *value, size_t count, float divisor)
{
    for (size_t i = 0; i < count; i++)
        value[i] /= divisor;
}

void ws2_walk_scale(float *map, int64_t planes, size_t pixels)
{
    for (int64_t k = 0; k < planes; k++, map += pixels) {
        const float high = find_high(map, pixels);
        if (high > 0)
            divide(map, pixels, high);
    }
}
