/* Intersection over union and its relatives: see score.h. */
#include <math.h>
#include "score/score.h"

/* Bytes are added up in LANES columns of u8. A column may take 255 ones before it overflows. */
enum { LANES = 64, STEPS = 255 };

struct lanes {
    uint8_t mask[LANES], truth[LANES], both[LANES], seen[LANES], strange[LANES];
};

static int64_t lanes_sum(const uint8_t *lane)
{
    int64_t sum = 0;
    for (int k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

/* One row of LANES pixels. `low` is 0 to look at every pixel, WS2_IGNORE to skip those of that truth. */
static inline void lanes_add(struct lanes *lanes, const uint8_t *mask, const uint8_t *truth, int width,
                             uint8_t ignore)
{
    for (int k = 0; k < width; k++) {
        /* all ones where the pixel counts; ignore == 0 is "never", since then nothing is compared with it */
        uint8_t use = ignore && truth[k] == ignore ? 0 : 0xff;
        uint8_t p = mask[k] & use, g = truth[k] & use;
        lanes->mask[k] += p;
        lanes->truth[k] += g;
        lanes->both[k] += p & g;
        lanes->seen[k] += use & 1;
        lanes->strange[k] |= mask[k] | g; /* a bit above the lowest: not a 0/1 mask */
    }
}

/* Counts at most LANES * STEPS pixels; returns the union of all values seen. */
static inline uint8_t block_count(const uint8_t *mask, const uint8_t *truth, size_t count, uint8_t ignore,
                                  struct ws2_overlap *overlap)
{
    struct lanes lanes = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        lanes_add(&lanes, mask + i, truth + i, LANES, ignore);
    if (i < count)
        lanes_add(&lanes, mask + i, truth + i, (int)(count - i), ignore);
    overlap->mask += lanes_sum(lanes.mask);
    overlap->truth += lanes_sum(lanes.truth);
    overlap->both += lanes_sum(lanes.both);
    overlap->pixels += lanes_sum(lanes.seen);
    uint8_t values = 0;
    for (int k = 0; k < LANES; k++)
        values |= lanes.strange[k];
    return values;
}

WS2_CLONES
static uint8_t count_all(const uint8_t *mask, const uint8_t *truth, size_t count, struct ws2_overlap *overlap)
{
    uint8_t values = 0;
    size_t step = (size_t)LANES * (STEPS - 1);
    for (size_t i = 0; i < count; i += step)
        values |= block_count(mask + i, truth + i, count - i < step ? count - i : step, 0, overlap);
    return values;
}

WS2_CLONES
static uint8_t count_known(const uint8_t *mask, const uint8_t *truth, size_t count,
                           struct ws2_overlap *overlap)
{
    uint8_t values = 0;
    size_t step = (size_t)LANES * (STEPS - 1);
    for (size_t i = 0; i < count; i += step)
        values |= block_count(mask + i, truth + i, count - i < step ? count - i : step, WS2_IGNORE, overlap);
    return values;
}

/* Names the first value that is neither 0 nor 1. */
static int strange_value(const uint8_t *mask, const uint8_t *truth, size_t count, bool ignore,
                         struct ws2_error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (mask[i] > 1)
            return ws2_fail(error, WS2_ERR_INPUT, "the mask holds the value %d; it must be 0 or 1", mask[i]);
        if (truth[i] > 1 && !(ignore && truth[i] == WS2_IGNORE))
            return ws2_fail(error, WS2_ERR_INPUT, "the truth holds the value %d; it must be 0 or 1%s",
                            truth[i], ignore ? " (or 255)" : "");
    }
    return 0;
}

int ws2_overlap_count(const uint8_t *mask, const uint8_t *truth, size_t count, bool ignore,
                      struct ws2_overlap *overlap, struct ws2_error *error)
{
    *overlap = (struct ws2_overlap){0};
    uint8_t values =
        ignore ? count_known(mask, truth, count, overlap) : count_all(mask, truth, count, overlap);
    return values > 1 ? strange_value(mask, truth, count, ignore, error) : 0;
}

static int64_t overlap_union(const struct ws2_overlap *overlap)
{
    return overlap->mask + overlap->truth - overlap->both;
}

int ws2_overlap_whole(const uint8_t *truth, size_t count, bool ignore, struct ws2_overlap *overlap,
                      struct ws2_error *error)
{
    int64_t ignored = 0;
    *overlap = (struct ws2_overlap){0};
    for (size_t i = 0; i < count; i++) {
        if (truth[i] > 1 && !(ignore && truth[i] == WS2_IGNORE))
            return ws2_fail(error, WS2_ERR_INPUT, "the truth holds %d: neither 0 nor 1", truth[i]);
        ignored += truth[i] > 1;
        overlap->truth += truth[i] == 1;
    }
    overlap->both = overlap->truth;
    overlap->pixels = overlap->mask = (int64_t)count - ignored;
    return WS2_OK;
}

double ws2_overlap_iou(const struct ws2_overlap *overlap)
{
    int64_t either = overlap_union(overlap);
    return either == 0 ? 1.0 : (double)overlap->both / (double)either;
}

void ws2_score_add(struct ws2_score *score, const struct ws2_overlap *overlap)
{
    int64_t false_positive = overlap->mask - overlap->both;
    double area = overlap->pixels > 0 ? (double)false_positive / (double)overlap->pixels : 0;
    score->images++;
    score->iou += ws2_overlap_iou(overlap);
    score->area += area;
    if (overlap->truth == 0) {
        score->empty++;
        score->empty_hit += overlap->mask == 0;
        score->area_empty += area;
    }
    score->pooled.pixels += overlap->pixels;
    score->pooled.mask += overlap->mask;
    score->pooled.truth += overlap->truth;
    score->pooled.both += overlap->both;
}

static double mean(double sum, int64_t count)
{
    return count > 0 ? sum / (double)count : NAN;
}

double ws2_score_iou(const struct ws2_score *score)
{
    return mean(score->iou, score->images);
}

double ws2_score_pooled(const struct ws2_score *score)
{
    return score->images > 0 ? ws2_overlap_iou(&score->pooled) : NAN;
}

double ws2_score_precision(const struct ws2_score *score)
{
    return mean((double)score->pooled.both, score->pooled.mask);
}

double ws2_score_recall(const struct ws2_score *score)
{
    return mean((double)score->pooled.both, score->pooled.truth);
}

double ws2_score_empty_hit(const struct ws2_score *score)
{
    return mean((double)score->empty_hit, score->empty);
}

double ws2_score_area(const struct ws2_score *score)
{
    return mean(score->area, score->images);
}

double ws2_score_area_empty(const struct ws2_score *score)
{
    return mean(score->area_empty, score->empty);
}
