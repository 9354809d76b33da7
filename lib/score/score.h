/*
 * score: how good a mask is (intersection over union and its relatives), and plain statistics and differences
 * of tensors.
 *
 * The headline number is that of the WS2 and POF-CAM evaluations: per image IoU = |P & G| / |P | G|, 1 where
 * the union is empty, averaged over images. It is not pooled and knows no background class. On frames without
 * a true item it is 1 for an exactly empty mask and 0 for anything else, so the other numbers here tell apart
 * segmentation quality and the share of item-free frames.
 *
 * Knows base only. Nothing here allocates. Functions are safe to call from several threads on different
 * objects.
 */
#ifndef WS2_SCORE_H
#define WS2_SCORE_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- one image ------------------------------------------------------------------------------------------ */

#define WS2_IGNORE 255 /* truth value of pixels that nobody labelled */

/* Pixel counts of one image; a false positive is mask - both, a miss is truth - both. */
struct ws2_overlap {
    int64_t pixels; /* looked at: all, or all that are not to be ignored */
    int64_t mask;   /* |P| */
    int64_t truth;  /* |G| */
    int64_t both;   /* |P & G| */
};

/* mask u8[count] and truth u8[count], both 0/1. With `ignore`, pixels whose truth is WS2_IGNORE are left out.
 * Any other value is WS2_ERR_INPUT (a mask of 0/255, an index map): it could mean anything. */
int ws2_overlap_count(const uint8_t *mask, const uint8_t *truth, size_t count, bool ignore,
                      struct ws2_overlap *overlap, struct ws2_error *error);

/* The same for a mask of the whole image: what a guess that knows nothing scores. */
int ws2_overlap_whole(const uint8_t *truth, size_t count, bool ignore, struct ws2_overlap *overlap,
                      struct ws2_error *error);

/* Intersection over union, 0..1; 1 when the union is empty. */
double ws2_overlap_iou(const struct ws2_overlap *overlap);

/* ---- many images ------------------------------------------------------------------------------------------ */

/* Sums over images; start from zero. */
struct ws2_score {
    int64_t images;
    int64_t empty;     /* images whose truth is empty */
    int64_t empty_hit; /* of those, images whose mask is empty too */
    double iou;        /* sum over images */
    double area;       /* sum over images of the false-positive share of the image */
    double area_empty; /* the same over images with empty truth */
    struct ws2_overlap pooled;
};

void ws2_score_add(struct ws2_score *score, const struct ws2_overlap *overlap);

/* Means; NAN where there is nothing to divide by. */
double ws2_score_iou(const struct ws2_score *score);    /* headline: mean over images, 0..1 */
double ws2_score_pooled(const struct ws2_score *score); /* IoU of all pixels together; 1 for an empty union */
double ws2_score_precision(const struct ws2_score *score);  /* pooled |P & G| / |P| */
double ws2_score_recall(const struct ws2_score *score);     /* pooled |P & G| / |G| */
double ws2_score_empty_hit(const struct ws2_score *score);  /* share of empty truths with an empty mask */
double ws2_score_area(const struct ws2_score *score);       /* mean false-positive share of the image */
double ws2_score_area_empty(const struct ws2_score *score); /* the same where the truth is empty */

/* ---- numbers of any element type ----------------------------------------------------------------------------- */

/* Running statistics in double precision; start from zero. Values that are not finite are counted and left out
 * of the rest. */
struct ws2_stats {
    int64_t count;   /* finite values */
    int64_t strange; /* NaN and infinities */
    int64_t nonzero; /* finite values other than 0 */
    double min, max; /* meaningful when count > 0 */
    double mean;
    double square; /* sum of squared deviations from the mean */
};

/* Adds data[count] of type dtype (C order; shape does not matter). */
void ws2_stats_add(struct ws2_stats *stats, enum ws2_dtype dtype, const void *data, size_t count);
/* Standard deviation of the values seen (divided by count); 0 when there are none. */
double ws2_stats_deviation(const struct ws2_stats *stats);

/* The largest |a[i] - b[i]| and the first index where it stands. Equal bit patterns differ by 0 (so NaN equals
 * itself); NaN against anything else differs by infinity. differing counts the elements that are not equal. */
struct ws2_difference {
    double max;
    size_t at;
    int64_t differing;
};

struct ws2_difference ws2_difference_find(enum ws2_dtype dtype, const void *a, const void *b, size_t count);

#ifdef __cplusplus
}
#endif

#endif
