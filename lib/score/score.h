/*
 * score: how good a mask is (intersection over union and its relatives), how good a flow is (end-point error), and
 * plain statistics and differences of tensors.
 *
 * The headline number is that of the WS2 and POF-CAM evaluations: per image IoU = |P & G| / |P | G|, 1 where
 * the union is empty, averaged over images. It is not pooled and knows no background class. On frames without
 * a true item it is 1 for an exactly empty mask and 0 for anything else, so the other numbers here tell apart
 * segmentation quality and the share of item-free frames.
 *
 * Knows base only. Nothing here allocates but ws2_epe_measure, for as long as it runs. Functions are safe to call from several threads on different
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

/* ---- flow ------------------------------------------------------------------------------------------------- */

/* Pixels are told apart in five ways, so that each counts in up to five classes. */
enum ws2_epe_class {
    WS2_EPE_ALL,
    WS2_EPE_VISIBLE, /* in the other frame, by a mask of the truth */
    WS2_EPE_HIDDEN,
    WS2_EPE_SLOW,   /* true length below 10 pixels */
    WS2_EPE_MEDIUM, /* 10 and more, below 40 */
    WS2_EPE_FAST,   /* 40 and more */
    WS2_EPE_COMMON, /* the truth is within 1 pixel of the frame's median vector */
    WS2_EPE_OWN,    /* farther from it */
    WS2_EPE_BELT,   /* by a map of classes 0, 1, 2 */
    WS2_EPE_WANTED,
    WS2_EPE_UNWANTED,
    WS2_EPE_CLASSES
};

/* "all", "visible", "hidden", "0-10", "10-40", "40+", "common", "own", "belt", "wanted", "unwanted" */
const char *ws2_epe_class_name(enum ws2_epe_class class);

/* The two flows of one frame, [2,h,w] of f16 or f32, in pixels, and masks u8 [h,w] of 0 and 1, NULL where there is none.
 * Truth counts where neither part is beyond 1e9, infinite or NaN. */
struct ws2_epe_frame {
    int64_t height, width;
    enum ws2_dtype estimate_dtype, truth_dtype;
    const void *estimate, *truth;
    const uint8_t *known;   /* 0: there is no truth here */
    const uint8_t *valid;   /* 0: the estimate does not stand up for this pixel, which is left out */
    const uint8_t *visible; /* 0: hidden in the other frame */
    const uint8_t *kind;    /* 0 belt, 1 wanted, 2 unwanted */
};

struct ws2_epe_sum {
    int64_t frames;   /* in which the class can be told: its mask was there */
    int64_t known;    /* pixels whose truth is known */
    int64_t pixels;   /* of those, the ones that count: estimate called valid */
    int64_t outliers; /* of those: error above 3 pixels and above 5 % of the true length (KITTI's rule) */
    int64_t above1, above5; /* error above 1 and 5 pixels */
    double error;           /* sum of the lengths of estimate - truth */
};

/* Sums over frames; start from zero. Added frame by frame in one order, they are the same to the last bit. */
struct ws2_epe {
    struct ws2_epe_sum sum[WS2_EPE_CLASSES];
};

/* Fills epe with the sums of one frame. The median vector, median u and median v of all known truth, is the lower one of
 * the two in the middle. An estimate that is no flow where it is called valid (beyond 1e9, infinite or NaN) and a mask of
 * other values are WS2_ERR_INPUT. */
int ws2_epe_measure(const struct ws2_epe_frame *frame, struct ws2_epe *epe, struct ws2_error *error);
void ws2_epe_add(struct ws2_epe *total, const struct ws2_epe *frame);

/* NAN where there is nothing to divide by. */
double ws2_epe_mean(const struct ws2_epe_sum *sum);                 /* end-point error, pixels */
double ws2_epe_share(const struct ws2_epe_sum *sum, int64_t count); /* of the pixels that count, 0..1 */
double ws2_epe_density(const struct ws2_epe_sum *sum);              /* pixels / known, 0..1 */

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
