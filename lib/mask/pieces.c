/* Pieces of a mask: see regions.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "mask/regions.h"

void pieces_free(struct pieces *pieces)
{
    free(pieces->distance);
    free(pieces->order);
    free(pieces->bin);
    free(pieces->row);
    free(pieces->piece);
    *pieces = (struct pieces){0};
}

enum {
    SIDES_MAX = 1 << 15,
    LEVELS = 16
}; /* height + width; steps of a distance by which pixels are sorted */

static int prepare(struct pieces *pieces, int64_t height, int64_t width, struct ws2_error *error)
{
    if (height < 0 || width < 0 || height + width > SIDES_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "%lld x %lld pixels are too many for pieces", (long long)width,
                        (long long)height);
    const size_t pixels = (size_t)(height * width), bins = (size_t)(height + width) * LEVELS + 2;
    if (ws2_reserve((void **)&pieces->distance, &pieces->distance_capacity,
                    pixels * sizeof *pieces->distance) ||
        ws2_reserve((void **)&pieces->order, &pieces->order_capacity, pixels * sizeof *pieces->order) ||
        ws2_reserve((void **)&pieces->bin, &pieces->bin_capacity, bins * sizeof *pieces->bin) ||
        ws2_reserve((void **)&pieces->row, &pieces->row_capacity, 3 * (size_t)width * sizeof *pieces->row))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the pieces of %lld x %lld pixels",
                        (long long)width, (long long)height);
    return 0;
}

/* ---- distance to the outside -------------------------------------------------------------------------------- */

static inline float lower(float a, float b)
{
    return a < b ? a : b;
}

/* Steps up or down to the nearest pixel that is 0, `far` where the column has none; whole numbers in floats. */
static void measure_columns(float *distance, const uint8_t *mask, int64_t height, int64_t width, float far)
{
    for (int64_t i = 0; i < height * width; i++)
        distance[i] = mask[i] == 0 ? 0 : i < width ? far : lower(distance[i - width] + 1, far);
    for (int64_t i = (height - 1) * width - 1; i >= 0; i--)
        distance[i] = lower(distance[i], distance[i + width] + 1);
}

static inline int64_t square(int64_t x)
{
    return x * x;
}

/* The least (x - i)^2 + g(i)^2 over a row, by the lower envelope of these parabolas (Meijster, Roerdink and Hesselink
 * 2000). row: i32[3,w]: g, the parabolas of the envelope and where each begins. */
static void measure_row(float *distance, int64_t width, int32_t *row)
{
    int32_t *g = row, *site = row + width, *begin = row + 2 * width;
    int64_t last = 0;
    for (int64_t x = 0; x < width; x++)
        g[x] = (int32_t)distance[x];
    site[0] = begin[0] = 0;
    for (int64_t u = 1; u < width; u++) {
        while (last >= 0 && square(begin[last] - site[last]) + square(g[site[last]]) >
                                square(begin[last] - u) + square(g[u]))
            last--;
        if (last < 0) {
            last = 0;
            site[0] = (int32_t)u;
            continue;
        }
        const int64_t i = site[last], rise = u * u - i * i + square(g[u]) - square(g[i]), run = 2 * (u - i);
        const int64_t from = 1 + (rise - (rise % run + run) % run) / run; /* rounded down */
        if (from < width) {
            last++;
            site[last] = (int32_t)u;
            begin[last] = (int32_t)from;
        }
    }
    for (int64_t x = width - 1; x >= 0; x--) {
        distance[x] = sqrtf((float)(square(x - site[last]) + square(g[site[last]])));
        if (x == begin[last])
            last--;
    }
}

/* ---- flooding ----------------------------------------------------------------------------------------------- */

static inline int level_of(float distance)
{
    return (int)(distance * LEVELS);
}

/* Pixels of the mask, the farthest inside first; returns their number. */
static int64_t sort(struct pieces *pieces, const uint8_t *mask, int64_t pixels, int levels)
{
    int32_t *bin = pieces->bin;
    int64_t count = 0;
    memset(bin, 0, ((size_t)levels + 1) * sizeof *bin);
    for (int64_t i = 0; i < pixels; i++)
        if (mask[i] != 0) {
            bin[levels - level_of(pieces->distance[i])]++;
            count++;
        }
    for (int32_t i = 0, sum = 0; i <= levels; i++) {
        const int32_t here = bin[i];
        bin[i] = sum;
        sum += here;
    }
    for (int64_t i = 0; i < pixels; i++)
        if (mask[i] != 0)
            pieces->order[bin[levels - level_of(pieces->distance[i])]++] = (int32_t)i;
    return count;
}

static int32_t root_of(struct piece *piece, int32_t i)
{
    while (piece[i].parent != i) {
        piece[i].parent = piece[piece[i].parent].parent;
        i = piece[i].parent;
    }
    return i;
}

/* A new piece; its label, or a status. */
static int32_t begin_piece(struct pieces *pieces, float peak, struct ws2_error *error)
{
    const size_t used = (size_t)pieces->count * sizeof *pieces->piece;
    if (used + sizeof *pieces->piece > pieces->piece_capacity &&
        ws2_reserve((void **)&pieces->piece, &pieces->piece_capacity, 2 * used + 64 * sizeof *pieces->piece))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the pieces of a mask");
    pieces->piece[pieces->count] = (struct piece){.parent = (int32_t)pieces->count, .peak = peak};
    return (int32_t)++pieces->count;
}

/* Two pieces meet at the half width s. */
static void meet(struct piece *piece, int32_t a, int32_t b, float s, float neck)
{
    a = root_of(piece, a);
    b = root_of(piece, b);
    if (a == b)
        return;
    if (piece[a].peak < piece[b].peak) {
        const int32_t swap = a;
        a = b;
        b = swap;
    }
    const bool apart = s < neck * piece[b].peak && piece[b].peak - s >= 1;
    if (!apart)
        piece[b].parent = a;
    piece[a].neck = fmaxf(piece[a].neck, apart ? s : piece[b].neck);
    piece[b].neck = fmaxf(piece[b].neck, apart ? s : 0);
}

/* Gives pixel i to the piece uphill, or begins one; pieces around it meet here. */
static int flood_pixel(struct pieces *pieces, int32_t *label, int64_t height, int64_t width, int64_t i,
                       float neck, struct ws2_error *error)
{
    const int64_t y = i / width, x = i % width;
    int32_t around[8];
    int count = 0, best = 0;
    float highest = -1;
    for (int64_t v = y > 0 ? y - 1 : 0; v <= y + 1 && v < height; v++)
        for (int64_t u = x > 0 ? x - 1 : 0; u <= x + 1 && u < width; u++) {
            const int64_t j = v * width + u;
            if (label[j] == 0)
                continue;
            if (pieces->distance[j] > highest) {
                highest = pieces->distance[j];
                best = count;
            }
            around[count++] = label[j];
        }
    label[i] = count > 0 ? around[best] : begin_piece(pieces, pieces->distance[i], error);
    for (int k = 0; k < count; k++)
        if (around[k] != label[i])
            meet(pieces->piece, label[i] - 1, around[k] - 1, pieces->distance[i], neck);
    return label[i] < 0 ? label[i] : 0;
}

int64_t pieces_cut(struct pieces *pieces, const uint8_t *mask, int64_t height, int64_t width, double neck,
                   int32_t *label, struct ws2_error *error)
{
    const int64_t pixels = height * width;
    int status = prepare(pieces, height, width, error);
    if (status < 0)
        return status;
    measure_columns(pieces->distance, mask, height, width, (float)(height + width));
    for (int64_t y = 0; y < height && width > 0; y++)
        measure_row(pieces->distance + y * width, width, pieces->row);
    const int64_t inside = sort(pieces, mask, pixels, (int)(height + width) * LEVELS);
    memset(label, 0, (size_t)pixels * sizeof *label);
    pieces->count = 0;
    for (int64_t i = 0; i < inside; i++)
        if ((status = flood_pixel(pieces, label, height, width, pieces->order[i], (float)neck, error)) < 0)
            return status;
    int32_t numbers = 0;
    for (int64_t i = 0; i < pixels; i++) {
        if (label[i] == 0)
            continue;
        struct piece *piece = &pieces->piece[root_of(pieces->piece, label[i] - 1)];
        if (piece->number == 0)
            piece->number = ++numbers;
        label[i] = piece->number;
    }
    return numbers;
}

void pieces_stand(const struct pieces *pieces, float *stand)
{
    for (int64_t i = 0; i < pieces->count; i++)
        if (pieces->piece[i].number > 0)
            stand[pieces->piece[i].number - 1] = 1 - pieces->piece[i].neck / pieces->piece[i].peak;
}
