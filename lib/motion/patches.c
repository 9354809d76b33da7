#include "motion/flow.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Patches of the first picture are looked up in the second: best of a few guesses, then Gauss-Newton steps with the
 * first picture's derivatives, which need one factorisation for each patch (inverse search: Baker and Matthews 2004,
 * Kroeger et al. 2016). Differences have their mean taken out: a change of brightness is no motion. */

typedef float row8 __attribute__((vector_size(32)));
typedef int32_t bits8 __attribute__((vector_size(32)));
/* The functions that pass such rows are all inlined: none has a calling convention. */
#pragma GCC diagnostic ignored "-Wpsabi"

INLINE row8 load8(const float *from)
{
    row8 v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

INLINE float sum8(const row8 *p)
{
    const row8 v = *p;
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* Where a patch of the second picture begins, and the four weights of its fraction. */
struct place {
    const float *corner;
    float w00, w01, w10, w11;
};

/* x, y: of its first pixel. What lies beyond the border is moved to it. */
INLINE struct place place_of(const struct level *level, float x, float y)
{
    const float low = -(BORDER - 1), right = (float)(level->width + BORDER - PATCH - 2);
    const float bottom = (float)(level->height + BORDER - PATCH - 2);
    x = x < low ? low : x > right ? right : x;
    y = y < low ? low : y > bottom ? bottom : y;
    const int ix = (int)(x + BORDER) - BORDER, iy = (int)(y + BORDER) - BORDER;
    const float fx = x - (float)ix, fy = y - (float)iy;
    return (struct place){level->image + iy * level->stride + ix, (1 - fx) * (1 - fy), fx * (1 - fy),
                          (1 - fx) * fy, fx * fy};
}

INLINE row8 sample8(const struct place *place, ptrdiff_t stride, int row)
{
    const float *at = place->corner + row * stride;
    return place->w00 * load8(at) + place->w01 * load8(at + 1) + place->w10 * load8(at + stride) +
           place->w11 * load8(at + stride + 1);
}

/* A patch of the first picture: its pixels, derivatives, and the sums that every step needs. */
struct patch {
    row8 image[PATCH], gx[PATCH], gy[PATCH];
    float mean_gx, mean_gy;
    float xx, xy, yy; /* of the derivatives with their means taken out */
};

INLINE void patch_take(struct patch *patch, const struct level *level, int x, int y)
{
    row8 sx = {0}, sy = {0}, xx = {0}, xy = {0}, yy = {0};
    for (int j = 0; j < PATCH; j++) {
        const ptrdiff_t at = (y + j) * level->stride + x;
        const row8 gx = patch->gx[j] = load8(level->gx + at), gy = patch->gy[j] = load8(level->gy + at);
        patch->image[j] = load8(level->image + at);
        sx += gx;
        sy += gy;
        xx += gx * gx;
        xy += gx * gy;
        yy += gy * gy;
    }
    const float n = PATCH * PATCH;
    patch->mean_gx = sum8(&sx) / n;
    patch->mean_gy = sum8(&sy) / n;
    patch->xx = sum8(&xx) - n * patch->mean_gx * patch->mean_gx;
    patch->xy = sum8(&xy) - n * patch->mean_gx * patch->mean_gy;
    patch->yy = sum8(&yy) - n * patch->mean_gy * patch->mean_gy;
}

/* Mean squared difference with the patch at `place`, the mean difference taken out. */
INLINE float patch_cost(const struct patch *patch, const struct place *place, ptrdiff_t stride)
{
    row8 s = {0}, ss = {0};
    for (int j = 0; j < PATCH; j++) {
        const row8 d = sample8(place, stride, j) - patch->image[j];
        s += d;
        ss += d * d;
    }
    const float n = PATCH * PATCH, mean = sum8(&s) / n;
    return sum8(&ss) / n - mean * mean;
}

/* The same, and the sums of derivative times difference. */
INLINE float patch_slope(const struct patch *patch, const struct place *place, ptrdiff_t stride, float *bx,
                         float *by)
{
    row8 s = {0}, ss = {0}, sx = {0}, sy = {0};
    for (int j = 0; j < PATCH; j++) {
        const row8 d = sample8(place, stride, j) - patch->image[j];
        s += d;
        ss += d * d;
        sx += patch->gx[j] * d;
        sy += patch->gy[j] * d;
    }
    const float n = PATCH * PATCH, sum = sum8(&s), mean = sum / n;
    *bx = sum8(&sx) - patch->mean_gx * sum;
    *by = sum8(&sy) - patch->mean_gy * sum;
    return sum8(&ss) / n - mean * mean;
}

/* ---- one patch -------------------------------------------------------------------------------------------------- */

struct candidate {
    float u, v, cost;
};

/* Squared grey levels. What has less texture follows its surroundings. */
static const float damp = 16;
/* Part of the dominant motion's cost that another motion must stay below. */
static const float leave = 0.5f;

INLINE void consider(struct candidate *best, const struct patch *patch, const struct level *b, int x, int y,
                     float u, float v)
{
    const struct place place = place_of(b, (float)x + u, (float)y + v);
    const float cost = patch_cost(patch, &place, b->stride);
    if (cost < best->cost)
        *best = (struct candidate){u, v, cost};
}

/* Gauss-Newton steps from the candidate, to which the patch is tied as weakly as its texture is weak; one that runs
 * away or gets no better stays where it was. */
INLINE struct candidate descend(const struct patch *patch, const struct level *b, int x, int y,
                                struct candidate from, int rounds, float tie)
{
    const float xx = patch->xx + tie, yy = patch->yy + tie, xy = patch->xy;
    const float scale = 1 / (xx * yy - xy * xy);
    struct candidate best = from;
    float u = from.u, v = from.v;
    for (int k = 0; k <= rounds; k++) {
        float bx, by;
        const struct place place = place_of(b, (float)x + u, (float)y + v);
        const float cost = patch_slope(patch, &place, b->stride, &bx, &by);
        if (k == 0)
            best.cost = cost;
        if (cost > best.cost)
            break;
        best = (struct candidate){u, v, cost};
        bx += tie * (u - from.u);
        by += tie * (v - from.v);
        const float du = scale * (yy * bx - xy * by), dv = scale * (xx * by - xy * bx);
        if (du * du + dv * dv < 1e-4f)
            break;
        u -= du;
        v -= dv;
        if (fabsf(u - from.u) > PATCH || fabsf(v - from.v) > PATCH)
            break;
    }
    return best;
}

/* A place of the grid: the patch's first pixel, and its number. */
struct cell {
    int x, y;
    int64_t at;
};

INLINE struct cell cell_of(const struct patches *patches, int column, int row)
{
    return (struct cell){column * patches->step - PATCH / 4, row * patches->step - PATCH / 4,
                         (int64_t)row * patches->columns + column};
}

/* ---- which shifts are there ----------------------------------------------------------------------------------- */

/* Smaller eigenvalue of the derivatives' matrix, from which on a patch is taken to show motion in both directions:
 * squared grey levels, over all 64 pixels. */
static const float textured = 400;
/* A patch follows a shift when its own best place is so near to it in both directions. */
static const float follows = 0.5f;
enum { VOTERS_MAX = 1024 };

INLINE bool patch_is_textured(const struct patch *patch)
{
    const float half = 0.5f * (patch->xx + patch->yy), gap = 0.5f * (patch->xx - patch->yy);
    return half - sqrtf(gap * gap + patch->xy * patch->xy) > textured;
}

static int by_size(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static float median(float *value, int count)
{
    qsort(value, (size_t)count, sizeof *value, by_size);
    return value[count / 2];
}

/* The shift that explains the patch best, among those that leave it inside the picture; -1: none. */
INLINE int favourite(const struct patch *patch, const struct level *b, int x, int y, const float (*shift)[2],
                     int shifts, struct candidate *best)
{
    int winner = -1;
    *best = (struct candidate){0, 0, 1e30f};
    for (int k = 0; k < shifts; k++) {
        const float before = best->cost, u = (float)x + shift[k][0], v = (float)y + shift[k][1];
        if (u < 0 || v < 0 || u > (float)(b->width - PATCH) || v > (float)(b->height - PATCH))
            continue;
        consider(best, patch, b, x, y, shift[k][0], shift[k][1]);
        winner = best->cost < before ? k : winner;
    }
    return winner;
}

WS2_CLONES
struct votes ws2_patches_vote(const struct level *a, const struct level *b, float (*shift)[2], int shifts)
{
    struct votes votes = {0};
    float cost[VOTERS_MAX], u[SHIFTS_MAX][VOTERS_MAX], v[SHIFTS_MAX][VOTERS_MAX];
    int costs = 0;
    for (int y = 0; y + PATCH <= a->height && votes.textured < VOTERS_MAX; y += PATCH) {
        for (int x = 0; x + PATCH <= a->width && votes.textured < VOTERS_MAX; x += PATCH) {
            struct patch patch;
            struct candidate best;
            patch_take(&patch, a, x, y);
            if (!patch_is_textured(&patch))
                continue;
            const int k = favourite(&patch, b, x, y, (const float(*)[2])shift, shifts, &best);
            if (k < 0)
                continue;
            votes.textured++;
            best = descend(&patch, b, x, y, best, 4, damp);
            if (fabsf(best.u - shift[k][0]) > follows || fabsf(best.v - shift[k][1]) > follows)
                continue;
            u[k][votes.count[k]] = best.u;
            v[k][votes.count[k]++] = best.v;
            cost[costs++] = best.cost;
        }
    }
    votes.noise = costs > 0 ? median(cost, costs) : 0;
    for (int k = 0; k < shifts; k++) {
        if (votes.count[k] > 4) {
            shift[k][0] = median(u[k], votes.count[k]);
            shift[k][1] = median(v[k], votes.count[k]);
        }
    }
    return votes;
}

/* ---- where nothing is known yet ------------------------------------------------------------------------------- */

/* Costs of all whole shifts up to `reach` from (u0, v0), of one patch. */
INLINE void cost_all(const struct level *a, const struct level *b, struct cell cell, float u0, float v0,
                     int reach, float *cost)
{
    struct patch patch;
    patch_take(&patch, a, cell.x, cell.y);
    for (int v = -reach; v <= reach; v++) {
        for (int u = -reach; u <= reach; u++) {
            const struct place place = place_of(b, (float)(cell.x + u) + u0, (float)(cell.y + v) + v0);
            *cost++ = patch_cost(&patch, &place, b->stride);
        }
    }
}

/* Adds the costs of cell (column, row) to sum [shifts], where there is such a cell. */
INLINE void add_cell(const struct patches *patches, const float *volume, int column, int row, int shifts,
                     float *sum)
{
    if (column < 0 || row < 0 || column >= patches->columns || row >= patches->rows)
        return;
    const float *cost = volume + ((int64_t)row * patches->columns + column) * shifts;
    for (int k = 0; k < shifts; k++)
        sum[k] += cost[k];
}

/* Exhaustive search: each patch takes the shift that is best for it and its eight neighbours together; alone, small
 * pictures fit everywhere. A far shift must be a little better. */
WS2_CLONES
static void search_all(const struct level *a, const struct level *b, const struct guesses *g,
                       struct patches *patches, float *volume)
{
    const int reach = g->dominant ? REACH / 2 : REACH, side = 2 * reach + 1;
    const float u0 = g->dominant ? g->shift[0][0] : 0, v0 = g->dominant ? g->shift[0][1] : 0;
    for (int row = 0; row < patches->rows; row++) {
        for (int column = 0; column < patches->columns; column++) {
            const struct cell cell = cell_of(patches, column, row);
            cost_all(a, b, cell, u0, v0, reach, volume + cell.at * side * side);
        }
    }
    for (int row = 0; row < patches->rows; row++) {
        for (int column = 0; column < patches->columns; column++) {
            float sum[REACH_SIDE * REACH_SIDE] = {0}, lowest = 1e30f;
            const int64_t at = (int64_t)row * patches->columns + column;
            for (int j = -1; j <= 1; j++)
                for (int i = -1; i <= 1; i++)
                    add_cell(patches, volume, column + i, row + j, side * side, sum);
            for (int k = 0; k < side * side; k++) {
                const int u = k % side - reach, v = k / side - reach;
                const float far = sum[k] + (1 + g->noise) * 0.9f * (float)(abs(u) + abs(v));
                if (far < lowest) {
                    lowest = far;
                    patches->u[at] = u0 + (float)u;
                    patches->v[at] = v0 + (float)v;
                }
            }
        }
    }
}

/* A motion of its own must explain the patch clearly better than that of the belt. One of nearly nothing is glare or
 * shadow, beneath which the belt moves on, unless the patch stands still to its finest texture. */
INLINE bool is_own(const struct guesses *g, float plain, const struct candidate *best)
{
    if (best->cost + g->noise > leave * (plain + g->noise))
        return false;
    const float size = fabsf(g->shift[0][0]) + fabsf(g->shift[0][1]);
    const bool still = fabsf(best->u) + fabsf(best->v) < 0.25f * size && size > 1;
    return !still || (g->finest && best->cost < 2 * g->noise);
}

/* The coarser flow at a pixel of this level, in pixels of this level. */
INLINE float guess_at(const struct guesses *g, const float *plane, int x, int y)
{
    const int i = x / 2 < g->width ? x / 2 : g->width - 1, j = y / 2 < g->height ? y / 2 : g->height - 1;
    return 2 * plane[(int64_t)j * g->width + i];
}

/* The best of what may be known: the coarser flow or the exhaustive search, the shifts, the neighbours to the left and
 * above. */
INLINE struct candidate first_look(const struct level *a, const struct level *b, const struct guesses *g,
                                   const struct patches *patches, int column, int row, int rounds)
{
    const struct cell cell = cell_of(patches, column, row);
    const int x = cell.x, y = cell.y;
    const int64_t at = cell.at;
    struct patch patch;
    struct candidate best = {0, 0, 1e30f};
    patch_take(&patch, a, x, y);
    if (g->u)
        consider(&best, &patch, b, x, y, guess_at(g, g->u, x + PATCH / 2, y + PATCH / 2),
                 guess_at(g, g->v, x + PATCH / 2, y + PATCH / 2));
    else
        consider(&best, &patch, b, x, y, patches->u[at], patches->v[at]);
    for (int k = g->dominant; k < g->shifts; k++)
        consider(&best, &patch, b, x, y, g->shift[k][0], g->shift[k][1]);
    if (column > 0)
        consider(&best, &patch, b, x, y, patches->u[at - 1], patches->v[at - 1]);
    if (row > 0)
        consider(&best, &patch, b, x, y, patches->u[at - patches->columns],
                 patches->v[at - patches->columns]);
    if (g->dominant && g->finest)
        consider(&best, &patch, b, x, y, 0, 0);
    if (g->dominant && !is_own(g, patches->cost[at], &best))
        best = (struct candidate){g->shift[0][0], g->shift[0][1], patches->cost[at]};
    return descend(&patch, b, x, y, best, rounds, damp);
}

/* ---- all patches ------------------------------------------------------------------------------------------------- */

/* The cost of the dominant motion for every patch, and what equal patches differ by: its lower quartile. */
INLINE float look_along(const struct level *a, const struct level *b, const struct guesses *g,
                        const struct patches *patches)
{
    float cost[VOTERS_MAX];
    int costs = 0;
    const int64_t cells = (int64_t)patches->rows * patches->columns, every = cells / VOTERS_MAX + 1;
    for (int row = 0; row < patches->rows; row++) {
        for (int column = 0; column < patches->columns; column++) {
            const struct cell cell = cell_of(patches, column, row);
            struct patch patch;
            struct candidate plain = {0, 0, 1e30f};
            patch_take(&patch, a, cell.x, cell.y);
            consider(&plain, &patch, b, cell.x, cell.y, g->shift[0][0], g->shift[0][1]);
            patches->cost[cell.at] = plain.cost;
            if (cell.at % every == 0)
                cost[costs++] = plain.cost;
        }
    }
    qsort(cost, (size_t)costs, sizeof *cost, by_size);
    return cost[costs / 4];
}

/* What the neighbours to the right and below have found. */
INLINE struct candidate second_look(const struct level *a, const struct level *b,
                                    const struct patches *patches, int column, int row, int rounds)
{
    const struct cell cell = cell_of(patches, column, row);
    const int x = cell.x, y = cell.y;
    const int64_t at = cell.at, below = at + patches->columns;
    const struct candidate own = {patches->u[at], patches->v[at], patches->cost[at]};
    struct candidate best = own;
    struct patch patch;
    patch_take(&patch, a, x, y);
    if (column + 1 < patches->columns)
        consider(&best, &patch, b, x, y, patches->u[at + 1], patches->v[at + 1]);
    if (row + 1 < patches->rows)
        consider(&best, &patch, b, x, y, patches->u[below], patches->v[below]);
    return best.cost < own.cost ? descend(&patch, b, x, y, best, rounds, damp) : own;
}

static void keep(struct patches *patches, int64_t at, struct candidate found)
{
    patches->u[at] = found.u;
    patches->v[at] = found.v;
    patches->cost[at] = found.cost;
}

WS2_CLONES
void ws2_patches_search(const struct level *a, const struct level *b, const struct guesses *g, int rounds,
                        struct patches *patches, float *volume)
{
    struct guesses guesses = *g;
    if (g->dominant)
        guesses.noise = look_along(a, b, g, patches);
    if (g->u == NULL)
        search_all(a, b, &guesses, patches, volume);
    for (int row = 0; row < patches->rows; row++)
        for (int column = 0; column < patches->columns; column++)
            keep(patches, (int64_t)row * patches->columns + column,
                 first_look(a, b, &guesses, patches, column, row, rounds));
    for (int row = patches->rows - 1; row >= 0 && !g->dominant; row--)
        for (int column = patches->columns - 1; column >= 0; column--)
            keep(patches, (int64_t)row * patches->columns + column,
                 second_look(a, b, patches, column, row, rounds));
}

/* ---- from patches to pixels ------------------------------------------------------------------------------------ */

/* 1 / max(|d - mean|, 1): patches count for a pixel by how well they explain it. */
INLINE row8 confidence8(const row8 *d, float mean)
{
    const row8 one = {1, 1, 1, 1, 1, 1, 1, 1};
    const bits8 size = (bits8)(*d - mean) & 0x7fffffff, larger = (row8)size > one;
    return one / (row8)((size & larger) | ((bits8)one & ~larger));
}

/* to += factor * v */
INLINE void add8(float *to, const row8 *v, float factor)
{
    const row8 sum = load8(to) + factor * *v;
    __builtin_memcpy(to, &sum, sizeof sum);
}

/* Adds weight times flow, and the weights, of one patch to the planes, where it lies inside. */
INLINE void patch_spread(const struct level *a, const struct level *b, struct cell cell, float pu, float pv,
                         float *u, float *v, float *weight)
{
    const struct place place = place_of(b, (float)cell.x + pu, (float)cell.y + pv);
    const int left = cell.x < 0 ? -cell.x : 0;
    const int right = cell.x + PATCH > a->width ? a->width - cell.x : PATCH;
    row8 s = {0}, d[PATCH];
    for (int j = 0; j < PATCH; j++) {
        d[j] = sample8(&place, b->stride, j) - load8(a->image + (cell.y + j) * a->stride + cell.x);
        s += d[j];
    }
    const float mean = sum8(&s) / (PATCH * PATCH);
    for (int j = cell.y < 0 ? -cell.y : 0; j < PATCH && cell.y + j < a->height; j++) {
        const int64_t p = (int64_t)(cell.y + j) * a->width + cell.x;
        const row8 w = confidence8(&d[j], mean);
        if (right - left == PATCH) {
            add8(u + p, &w, pu);
            add8(v + p, &w, pv);
            add8(weight + p, &w, 1);
            continue;
        }
        for (int i = left; i < right; i++) {
            u[p + i] += w[i] * pu;
            v[p + i] += w[i] * pv;
            weight[p + i] += w[i];
        }
    }
}

WS2_CLONES
void ws2_patches_spread(const struct level *a, const struct level *b, const struct patches *patches, float *u,
                        float *v, float *weight)
{
    const int64_t pixels = (int64_t)a->width * a->height;
    memset(u, 0, (size_t)pixels * sizeof *u);
    memset(v, 0, (size_t)pixels * sizeof *v);
    memset(weight, 0, (size_t)pixels * sizeof *weight);
    for (int row = 0; row < patches->rows; row++) {
        for (int column = 0; column < patches->columns; column++) {
            const struct cell cell = cell_of(patches, column, row);
            patch_spread(a, b, cell, patches->u[cell.at], patches->v[cell.at], u, v, weight);
        }
    }
    for (int64_t p = 0; p < pixels; p++) {
        u[p] /= weight[p];
        v[p] /= weight[p];
    }
}
