/* From class maps to coarse masks: see mask.h. Maps are read in blocks that stay in cache, twice: once for the
 * maxima, once for the decision. */
#include <math.h>
#include <string.h>
#include "mask/mask.h"

enum { BLOCK = 4096, CLASSES = 64 };

/* The largest value of value[count], at least low. *finite turns false when one is NaN or infinite. */
WS2_CLONES
static float block_max(const float *value, size_t count, float low, bool *finite)
{
    float high[16], sum[16] = {0};
    for (int k = 0; k < 16; k++)
        high[k] = low;
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        for (int k = 0; k < 16; k++) {
            high[k] = value[i + k] > high[k] ? value[i + k] : high[k];
            sum[k] += value[i + k] * 0.0f; /* 0, or NaN for ever */
        }
    }
    for (int k = 0; i + k < count; k++) {
        high[k] = value[i + k] > high[k] ? value[i + k] : high[k];
        sum[k] += value[i + k] * 0.0f;
    }
    for (int k = 0; k < 16; k++) {
        low = high[k] > low ? high[k] : low;
        *finite &= sum[k] == 0;
    }
    return low;
}

/* The divisor of one map: its maximum, 1 for absolute maps, 0 for a map without a positive value. */
static int map_scale(const struct ws2_coarse *coarse, const uint16_t *map, size_t pixels, float *scale)
{
    float value[BLOCK], high = 0;
    bool finite = true;
    for (size_t begin = 0; begin < pixels; begin += BLOCK) {
        size_t n = pixels - begin < BLOCK ? pixels - begin : BLOCK;
        ws2_half_to_floats(value, map + begin, n);
        high = block_max(value, n, high, &finite);
    }
    *scale = coarse->absolute ? 1.0f : high;
    return finite ? 0 : WS2_ERR_INPUT;
}

/* One block of a map, each value divided by the scale as the reference does (a product with the reciprocal
 * would break ties differently). */
WS2_CLONES
static void block_divide(float *value, size_t count, float scale)
{
    if (scale == 0) {
        memset(value, 0, count * sizeof *value);
        return;
    }
    for (size_t i = 0; i < count; i++)
        value[i] = value[i] / scale;
}

/* best and mask after one more class: a later class wins only when strictly larger. */
WS2_CLONES
static void block_compete(float *best, uint8_t *mask, const float *value, size_t count, uint8_t own)
{
    for (size_t i = 0; i < count; i++) {
        bool wins = value[i] > best[i];
        best[i] = wins ? value[i] : best[i];
        mask[i] = wins ? own : mask[i];
    }
}

static void argmax_block(const struct ws2_coarse *coarse, const uint16_t *cam, int64_t classes, size_t pixels,
                         size_t begin, size_t count, const float *scale, uint8_t *mask)
{
    float best[BLOCK], value[BLOCK];
    ws2_half_to_floats(best, cam + begin, count);
    block_divide(best, count, scale[0]);
    memset(mask, coarse->target == 0, count);
    for (int64_t c = 1; c < classes; c++) {
        ws2_half_to_floats(value, cam + (size_t)c * pixels + begin, count);
        block_divide(value, count, scale[c]);
        block_compete(best, mask, value, count, c == coarse->target);
    }
}

static void threshold_block(const struct ws2_coarse *coarse, const uint16_t *map, size_t count, float scale,
                            uint8_t *mask)
{
    float value[BLOCK];
    ws2_half_to_floats(value, map, count);
    block_divide(value, count, scale);
    for (size_t i = 0; i < count; i++)
        mask[i] = value[i] > coarse->threshold;
}

/* The divisors of all maps, or what is wrong with them. */
static int find_scales(const struct ws2_coarse *coarse, const uint16_t *cam, int64_t classes, size_t pixels,
                       float scale[CLASSES], struct ws2_error *error)
{
    if (classes < 1 || classes > CLASSES)
        return ws2_fail(error, WS2_ERR_INPUT, "%lld class maps; between 1 and %d are possible",
                        (long long)classes, CLASSES);
    if (coarse->target < 0 || coarse->target >= classes)
        return ws2_fail(error, WS2_ERR_INPUT, "class %d is wanted, but there are %lld class maps",
                        coarse->target, (long long)classes);
    for (int64_t c = 0; c < classes; c++)
        if (map_scale(coarse, cam + (size_t)c * pixels, pixels, &scale[c]) != 0)
            return ws2_fail(error, WS2_ERR_INPUT, "class map %lld holds a value that is not finite",
                            (long long)c);
    return 0;
}

int ws2_coarse_mask(const struct ws2_coarse *coarse, const uint16_t *cam, int64_t classes, size_t pixels,
                    uint8_t *mask, struct ws2_error *error)
{
    float scale[CLASSES];
    const int status = find_scales(coarse, cam, classes, pixels, scale, error);
    if (status < 0)
        return status;
    const uint16_t *own = cam + (size_t)coarse->target * pixels;
    for (size_t begin = 0; begin < pixels; begin += BLOCK) {
        size_t n = pixels - begin < BLOCK ? pixels - begin : BLOCK;
        if (coarse->rule == WS2_COARSE_THRESHOLD)
            threshold_block(coarse, own + begin, n, scale[coarse->target], mask + begin);
        else
            argmax_block(coarse, cam, classes, pixels, begin, n, scale, mask + begin);
    }
    return 0;
}

/* ---- levels ------------------------------------------------------------------------------------------------- */

enum { BINS = 256, LEVELS = 101 };

static float otsu_level(const int64_t bin[BINS])
{
    double all = 0, sum = 0, below = 0, sum_below = 0, best = 0;
    int level = BINS - 1;
    for (int i = 0; i < BINS; i++) {
        all += (double)bin[i];
        sum += (double)bin[i] * i;
    }
    for (int i = 0; i < BINS - 1; i++) {
        below += (double)bin[i];
        sum_below += (double)bin[i] * i;
        const double above = all - below;
        const double apart = below * above > 0 ? sum_below / below - (sum - sum_below) / above : 0;
        if (below * above * apart * apart > best) {
            best = below * above * apart * apart;
            level = i;
        }
    }
    return nextafterf((float)(level + 1) / BINS, 0); /* the first value above is in the mask */
}

/* How many of the levels 0, 0.01, .., 1 are below the value. */
static int levels_below(float value)
{
    int count = (int)fminf(fmaxf(value, 0) * (LEVELS - 1), LEVELS - 1);
    while (count < LEVELS && value > (float)count / (LEVELS - 1))
        count++;
    while (count > 0 && !(value > (float)(count - 1) / (LEVELS - 1)))
        count--;
    return count;
}

/* hit and miss: pixels inside and outside of the truth, by the number of levels they are above. */
static float oracle_level(const int64_t hit[LEVELS + 1], const int64_t miss[LEVELS + 1])
{
    int64_t truth = 0, both = 0, extra = 0;
    double best = -1;
    int level = 0;
    for (int i = 0; i <= LEVELS; i++)
        truth += hit[i];
    for (int i = LEVELS; i > 0; i--) { /* the mask of level i - 1 has what is above i levels and more */
        both += hit[i];
        extra += miss[i];
        const double iou = truth + extra > 0 ? (double)both / (double)(truth + extra) : 1;
        if (iou >= best) {
            best = iou;
            level = i - 1;
        }
    }
    return (float)level / (LEVELS - 1);
}

int ws2_coarse_level(const struct ws2_coarse *coarse, const uint16_t *cam, int64_t classes, size_t pixels,
                     const uint8_t *truth, float *level, struct ws2_error *error)
{
    float scale[CLASSES], value[BLOCK];
    int64_t bin[BINS] = {0}, hit[LEVELS + 1] = {0}, miss[LEVELS + 1] = {0};
    const int status = find_scales(coarse, cam, classes, pixels, scale, error);
    if (status < 0)
        return status;
    for (size_t begin = 0; begin < pixels; begin += BLOCK) {
        const size_t n = pixels - begin < BLOCK ? pixels - begin : BLOCK;
        ws2_half_to_floats(value, cam + (size_t)coarse->target * pixels + begin, n);
        block_divide(value, n, scale[coarse->target]);
        for (size_t i = 0; i < n; i++) {
            if (truth == NULL)
                bin[(int)fminf(fmaxf(value[i], 0) * BINS, BINS - 1)]++;
            else
                (truth[begin + i] != 0 ? hit : miss)[levels_below(value[i])]++;
        }
    }
    *level = truth == NULL ? otsu_level(bin) : oracle_level(hit, miss);
    return 0;
}

WS2_CLONES
void ws2_coarse_cut(uint8_t *mask, const uint8_t *within, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++)
        mask[i] = within[i] != 0 ? mask[i] : 0;
}
