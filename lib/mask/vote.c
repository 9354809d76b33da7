/* Votes by regions, and what they share with those by tracks: see mask.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "mask/vote.h"

#define ONE 0x3C00 /* 1 as a half float; those of 0..1 are in order as whole numbers */
enum { BLOCK = 256, LANES = 8 };

struct ws2_vote ws2_vote_defaults(void)
{
    return (struct ws2_vote){.level = 0.5, .least = 16, .cover = 0.5, .weight = 1, .agree = 0.7, .reach = 2};
}

void ws2_vote_scratch_free(struct ws2_vote_scratch *scratch)
{
    ws2_bits_free(&scratch->on);
    ws2_bits_free(&scratch->mask);
    ws2_bits_scratch_free(&scratch->bits);
    ws2_instances_index_free(&scratch->index);
    free(scratch->label);
    free(scratch->place);
    free(scratch->start);
    free(scratch->cost);
    free(scratch->ballot);
    free(scratch->value);
    *scratch = (struct ws2_vote_scratch){0};
}

/* ---- what counts --------------------------------------------------------------------------------------------- */

WS2_CLONES
static bool all_within(const uint16_t *half, size_t count)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < count; i++)
        bad |= (half[i] > ONE) & (half[i] != 0x8000);
    return bad == 0;
}

/* on[count] = 1 where a pixel counts; first: of these pixels. */
WS2_CLONES
static void find_on(const struct ws2_vote_maps *maps, int64_t first, int64_t count, uint8_t *restrict on)
{
    if (maps->fg != NULL) {
        for (int64_t i = 0; i < count; i++)
            on[i] = maps->fg[first + i] != 0;
        return;
    }
    memset(on, 0, (size_t)count);
    for (int64_t c = 0; c < maps->classes; c++) {
        const uint16_t *plane = maps->prob + c * maps->height * maps->width + first;
        for (int64_t i = 0; i < count; i++)
            on[i] |= (plane[i] & 0x7FFF) != 0;
    }
}

static void pack_on(const struct ws2_vote_maps *maps, struct ws2_bits *bits)
{
    uint8_t on[64];
    for (int64_t y = 0; y < maps->height; y++)
        for (int64_t i = 0; i < bits->stride; i++) {
            const int64_t left = maps->width - 64 * i, count = left < 64 ? left : 64;
            uint64_t word = 0;
            find_on(maps, y * maps->width + 64 * i, count, on);
            for (int64_t k = 0; k < count; k++)
                word |= (uint64_t)on[k] << k;
            bits->word[y * bits->stride + i] = word;
        }
}

int ws2_vote_check(const struct ws2_vote_maps *maps, struct ws2_error *error)
{
    const struct ws2_shape shape = ws2_shape_3(maps->classes, maps->height, maps->width);
    size_t count;
    if (!ws2_shape_count(&shape, &count) || count > INT32_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "maps of 2^31 values and more are too large");
    return all_within(maps->prob, count) ? 0 : ws2_fail(error, WS2_ERR_INPUT, "a value is not within 0..1");
}

int vote_begin(struct ws2_vote_scratch *scratch, const struct ws2_vote_maps *maps, struct ws2_error *error)
{
    const size_t pixels = (size_t)(maps->height * maps->width);
    const int status = ws2_bits_reset(&scratch->on, maps->height, maps->width, error);
    if (status < 0)
        return status;
    if (ws2_reserve((void **)&scratch->label, &scratch->label_capacity, pixels * sizeof *scratch->label) !=
        WS2_OK)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    pack_on(maps, &scratch->on);
    return 0;
}

/* ---- ballots --------------------------------------------------------------------------------------------------- */

struct tally {
    double sum, squares;
    int64_t high; /* values that reach the level */
};

/* Adds a block, in LANES sums each: one order for all processors, and no sum waits for the one before. */
WS2_CLONES
static void tally_block(const float *restrict value, int64_t count, float level, double sum[restrict LANES],
                        double squares[restrict LANES], int64_t high[restrict LANES])
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const double v = value[i + k];
            sum[k] += v;
            squares[k] += v * v;
            high[k] += value[i + k] >= level;
        }
    for (int k = 0; i + k < count; k++) {
        const double v = value[i + k];
        sum[k] += v;
        squares[k] += v * v;
        high[k] += value[i + k] >= level;
    }
}

static struct tally tally_of(const uint16_t *value, int64_t count, float level)
{
    struct tally tally = {0};
    double sum[LANES] = {0}, squares[LANES] = {0};
    int64_t high[LANES] = {0};
    float real[BLOCK];
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        const int64_t n = count - begin < BLOCK ? count - begin : BLOCK;
        ws2_half_to_floats(real, value + begin, (size_t)n);
        tally_block(real, n, level, sum, squares, high);
    }
    for (int k = 0; k < LANES; k++) {
        tally.sum += sum[k];
        tally.squares += squares[k];
        tally.high += high[k];
    }
    return tally;
}

/* The bin that holds the value of this rank; *rank becomes that within the bin. */
static int find_bin(const int64_t bin[256], int64_t *rank)
{
    int at = 0;
    for (; *rank >= bin[at]; at++)
        *rank -= bin[at];
    return at;
}

/* The value that `rank` others come before: by the upper byte, then by the lower. */
static float at_rank(const uint16_t *value, int64_t count, int64_t rank)
{
    int64_t upper[256] = {0}, lower[256] = {0};
    for (int64_t i = 0; i < count; i++)
        upper[value[i] >> 8]++;
    const int high = find_bin(upper, &rank);
    for (int64_t i = 0; i < count; i++)
        if (value[i] >> 8 == high)
            lower[value[i] & 255]++;
    return ws2_half_to_float((uint16_t)(high << 8 | find_bin(lower, &rank)));
}

static double decide(const struct ws2_vote *vote, const uint16_t *value, int64_t count,
                     const struct tally *tally)
{
    switch (vote->rule) {
    case WS2_VOTE_MEDIAN:
        return ((double)at_rank(value, count, (count - 1) / 2) + at_rank(value, count, count / 2)) / 2;
    case WS2_VOTE_SHARE:
        return (double)tally->high / (double)count;
    default:
        return tally->sum / (double)count;
    }
}

double vote_ballot(const struct ws2_vote *vote, const uint16_t *value, int64_t count)
{
    if (count == 0 || count < vote->least)
        return NAN;
    const struct tally tally = tally_of(value, count, (float)vote->level);
    return decide(vote, value, count, &tally);
}

int vote_reserve_ballots(struct ws2_vote_scratch *scratch, int64_t items, struct ws2_error *error)
{
    size_t bytes;
    if (!ws2_mul_size((size_t)items, sizeof *scratch->ballot, &bytes) ||
        ws2_reserve((void **)&scratch->ballot, &scratch->ballot_capacity, bytes) != WS2_OK)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    return 0;
}

/* ---- which region a pixel takes -------------------------------------------------------------------------------- */

static double cost_of(const struct ws2_vote *vote, int64_t count, const struct tally *tally)
{
    const double n = (double)count, mean = tally->sum / n;
    if (vote->prefer != WS2_VOTE_EVEN)
        return vote->prefer == WS2_VOTE_FINE ? n : -n;
    return fmax(tally->squares / n - mean * mean, 0) + WS2_VOTE_NOISE / n;
}

/* What counts of a region: places of its pixels, row by row, and how many pixels it has in all. */
struct region {
    const int32_t *place;
    int64_t count, area;
};

/* Mask k of a stack; its places are in scratch->place until the next. */
static struct region plane_region(struct ws2_vote_scratch *scratch, const struct ws2_instances *instances,
                                  int64_t k)
{
    struct ws2_bits *mask = &scratch->mask;
    int64_t n = 0;
    ws2_instances_bits(instances, &scratch->index, k, mask);
    for (int64_t y = 0; y < mask->height; y++)
        for (int64_t i = 0; i < mask->stride; i++) {
            uint64_t left = mask->word[y * mask->stride + i] & scratch->on.word[y * mask->stride + i];
            for (; left != 0; left &= left - 1)
                scratch->place[n++] = (int32_t)(y * mask->width + 64 * i + __builtin_ctzll(left));
        }
    return (struct region){scratch->place, n, ws2_bits_count(mask)};
}

/* Appends the pixels first .. end - 1 of row y that count: each is written, and the next goes over it unless it does. */
static int64_t append_run(int32_t *place, int64_t n, const struct ws2_bits *on, int64_t y, uint64_t first,
                          uint64_t end)
{
    const uint64_t *word = on->word + y * on->stride;
    for (uint64_t x = first; x < end; x++) {
        place[n] = (int32_t)(y * on->width + (int64_t)x);
        n += word[x / 64] >> x % 64 & 1;
    }
    return n;
}

/* All masks of layers in one walk: places of mask k are from start[k], which the area of those before it leave, to end[k]. */
static void sort_layers(struct ws2_vote_scratch *scratch, const struct ws2_instances *instances)
{
    const int64_t h = instances->height, w = instances->width, masks = scratch->index.count;
    int64_t *start = scratch->start, *end = start + masks, sum = 0;
    for (int64_t k = 0; k < masks; sum += scratch->index.at[k++].area)
        start[k] = end[k] = sum;
    for (int64_t l = 0; l < instances->layers; l++)
        for (int64_t y = 0; y < h; y++) {
            const uint16_t *row = instances->layer + (l * h + y) * w;
            for (int64_t x = 0, next; x < w; x = next) {
                const int64_t k = row[x] - 1;
                for (next = x + 1; next < w && row[next] == row[x]; next++)
                    ;
                if (k >= 0)
                    end[k] = append_run(scratch->place, end[k], &scratch->on, y, (uint64_t)x, (uint64_t)next);
            }
        }
}

static struct region layer_region(const struct ws2_vote_scratch *scratch, int64_t k)
{
    const int64_t first = scratch->start[k], end = scratch->start[scratch->index.count + k];
    return (struct region){scratch->place + first, end - first, scratch->index.at[k].area};
}

/* A region holds its ballot, and pixels for which it costs least take it. */
static void weigh(const struct ws2_vote *vote, struct ws2_vote_scratch *scratch, const struct region *region,
                  const uint16_t *plane, int64_t k)
{
    const int64_t count = region->count;
    scratch->ballot[k] = NAN;
    if (count == 0 || count < vote->least || (double)count < vote->cover * (double)region->area)
        return;
    for (int64_t i = 0; i < count; i++)
        scratch->value[i] = vote_value(plane[region->place[i]]);
    const struct tally tally = tally_of(scratch->value, count, (float)vote->level);
    const double cost = cost_of(vote, count, &tally);
    scratch->ballot[k] = decide(vote, scratch->value, count, &tally);
    for (int64_t i = 0; i < count; i++) {
        const int32_t at = region->place[i];
        if (cost < scratch->cost[at]) {
            scratch->cost[at] = cost;
            scratch->label[at] = (int32_t)(k + 1);
        }
    }
}

/* Memory for so many regions of frames of so many pixels; places: of one region, or of all. */
static int reserve_picks(struct ws2_vote_scratch *scratch, int64_t regions, int64_t pixels, int64_t places,
                         struct ws2_error *error)
{
    const size_t n = (size_t)pixels;
    if (ws2_reserve((void **)&scratch->place, &scratch->place_capacity,
                    (size_t)places * sizeof *scratch->place) ||
        ws2_reserve((void **)&scratch->start, &scratch->start_capacity,
                    2 * (size_t)regions * sizeof *scratch->start) ||
        ws2_reserve((void **)&scratch->cost, &scratch->cost_capacity, n * sizeof *scratch->cost) ||
        ws2_reserve((void **)&scratch->value, &scratch->value_capacity, n * sizeof *scratch->value))
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    return vote_reserve_ballots(scratch, regions, error);
}

/* How many regions there are, with memory for them and, for layers, the places of their pixels; none in a frame of no pixels,
 * where a stack may claim any number. */
static int64_t find_regions(struct ws2_vote_scratch *scratch, const struct ws2_instances *instances,
                            struct ws2_error *error)
{
    const int64_t pixels = instances->height * instances->width;
    int64_t count = pixels > 0 ? instances->count : 0, places = pixels;
    int status = ws2_bits_reset(&scratch->mask, instances->height, instances->width, error);
    if (status >= 0 && instances->stack == NULL) {
        status = ws2_instances_find(&scratch->index, instances, error);
        count = scratch->index.count;
        places = 0;
        for (int64_t k = 0; k < count; k++)
            places += scratch->index.at[k].area;
    }
    if (status >= 0 && count > INT32_MAX - 1)
        status = ws2_fail(error, WS2_ERR_INPUT, "too many masks");
    if (status >= 0)
        status = reserve_picks(scratch, count, pixels, places, error);
    if (status < 0)
        return status;
    if (instances->stack == NULL)
        sort_layers(scratch, instances);
    return count;
}

int64_t vote_pick(const struct ws2_vote *vote, struct ws2_vote_scratch *scratch,
                  const struct ws2_vote_maps *maps, const struct ws2_instances *instances,
                  struct ws2_error *error)
{
    const int64_t pixels = maps->height * maps->width;
    const uint16_t *plane = maps->prob + maps->before * pixels;
    if (instances->height != maps->height || instances->width != maps->width)
        return ws2_fail(error, WS2_ERR_INPUT, "masks are of %lld x %lld pixels, the maps of %lld x %lld",
                        (long long)instances->width, (long long)instances->height, (long long)maps->width,
                        (long long)maps->height);
    const int64_t count = find_regions(scratch, instances, error);
    if (count < 0)
        return count;
    for (int64_t i = 0; i < pixels; i++) {
        scratch->cost[i] = INFINITY;
        scratch->label[i] = 0;
    }
    for (int64_t k = 0; k < count; k++) {
        const struct region region =
            instances->stack != NULL ? plane_region(scratch, instances, k) : layer_region(scratch, k);
        weigh(vote, scratch, &region, plane, k);
    }
    return count;
}

/* ---- the result ------------------------------------------------------------------------------------------------ */

/* One block of pixels from `first`. */
static void apply_block(const struct ws2_vote *vote, const struct ws2_vote_maps *maps, const int32_t *label,
                        const double *ballot, int64_t first, int64_t count, uint16_t *out)
{
    const int64_t pixels = maps->height * maps->width;
    uint16_t *before = out + maps->before * pixels + first;
    float p[BLOCK], rest[BLOCK];
    uint16_t half[BLOCK], half_rest[BLOCK];
    ws2_half_to_floats(p, before, (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        if (label[first + i] > 0)
            p[i] = (float)((1 - vote->weight) * p[i] + vote->weight * ballot[label[first + i] - 1]);
        rest[i] = 1 - p[i];
    }
    ws2_half_from_floats(half, p, (size_t)count);
    ws2_half_from_floats(half_rest, rest, (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        if (label[first + i] == 0 || isnan(ballot[label[first + i] - 1]))
            continue;
        before[i] = half[i];
        if (maps->after >= 0)
            out[maps->after * pixels + first + i] = half_rest[i];
    }
}

void vote_apply(const struct ws2_vote *vote, const struct ws2_vote_maps *maps, const int32_t *label,
                const double *ballot, uint16_t *out)
{
    const int64_t pixels = maps->height * maps->width;
    memcpy(out, maps->prob, (size_t)(maps->classes * pixels) * sizeof *out);
    for (int64_t begin = 0; begin < pixels; begin += BLOCK)
        apply_block(vote, maps, label, ballot, begin, pixels - begin < BLOCK ? pixels - begin : BLOCK, out);
}

int ws2_vote_regions(const struct ws2_vote *vote, struct ws2_vote_scratch *scratch,
                     const struct ws2_vote_maps *maps, const struct ws2_instances *instances, uint16_t *out,
                     struct ws2_error *error)
{
    const int status = vote_begin(scratch, maps, error);
    const int64_t count = status < 0 ? status : vote_pick(vote, scratch, maps, instances, error);
    if (count < 0)
        return (int)count;
    vote_apply(vote, maps, scratch->label, scratch->ballot, out);
    return 0;
}

void ws2_vote_mask(const struct ws2_vote_maps *maps, float threshold, uint8_t *mask)
{
    const int64_t pixels = maps->height * maps->width;
    const uint16_t *plane = maps->prob + maps->before * pixels;
    float p[BLOCK];
    for (int64_t begin = 0; begin < pixels; begin += BLOCK) {
        const int64_t n = pixels - begin < BLOCK ? pixels - begin : BLOCK;
        find_on(maps, begin, n, mask + begin);
        ws2_half_to_floats(p, plane + begin, (size_t)n);
        for (int64_t i = 0; i < n; i++)
            mask[begin + i] &= p[i] >= threshold;
    }
}
