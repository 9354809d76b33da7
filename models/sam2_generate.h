/*
 * sam2_generate: masks of everything in a picture. A grid of points is put to SAM 2, one prompt each; of the candidates
 * those remain that the network believes in, that do not hang on the threshold, and that are not of a box with a better
 * one. The rules, their order and their defaults are those of the official SAM2AutomaticMaskGenerator.
 *
 *     struct sam2_generate_options options = sam2_generate_defaults();
 *     struct sam2_found found = {0};
 *     if (sam2_generate(sam2, &options, 480, 640, rgb, &found, error) < 0) ...
 *     for (int64_t i = 0; i < found.count; i++) use(&found.mask[i].bits, found.mask[i].score);
 *     sam2_found_free(&found);
 *
 * The first part works on plain numbers and knows no network; the second runs one. A crop is encoded once and its points
 * are decoded in batches. Candidates that fail by their score are never brought to the size of the picture, and the others
 * one at a time, so memory is, besides the network's (sam2.h): 16 g^2 floats for each of the three candidates of the
 * points of a batch (50 MB for 64 points with side 1024), and H*W/8 bytes for each mask that passes the filters, before
 * the boxes are compared.
 */
#ifndef WS2_SAM2_GENERATE_H
#define WS2_SAM2_GENERATE_H

#include "mask/mask.h"
#include "models/sam2.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SAM2_CROP_LAYERS_MAX 4 /* 341 crops */

struct sam2_generate_options {
    int points_per_side;     /* 32: the grid, its points half a cell from the edges */
    int points_per_batch;    /* 64 */
    bool multimask;          /* true: three candidates for each point */
    double iou;              /* 0.8: keep predicted IoU above; 0 or less keeps all */
    double stability;        /* 0.95: keep stability of at least; 0 or less keeps all */
    double stability_offset; /* 1.0 */
    double threshold;        /* 0.0: a pixel belongs to the mask when its logit is above */
    double box_nms;          /* 0.7: of two boxes with a larger IoU the one of the better score remains */
    int crop_layers;         /* 0: also look at 2^n x 2^n crops, for n = 1 .. crop_layers */
    double crop_nms;         /* 0.7: the same between crops, smaller crops first */
    double crop_overlap;     /* 512/1500 of the shorter side, for 2x2 crops; halved with each layer */
    int crop_downscale;      /* 1: the grid of layer n has points_per_side / crop_downscale^n points a side */
    int64_t region_area;     /* 0: else fill holes and remove islands of fewer pixels */
    int64_t side;            /* SAM2_SIDE */
};

struct sam2_generate_options sam2_generate_defaults(void);
/* As WS2 made its instance masks: IoU 0.88 and stability offset 0.95, all else as above. */
struct sam2_generate_options sam2_generate_ws2(void);
/* WS2_OK, or WS2_ERR_USAGE with what makes no sense. */
int sam2_generate_check(const struct sam2_generate_options *options, struct ws2_error *error);

/* One mask of a picture. */
struct sam2_mask {
    struct ws2_bits bits;
    double score, stability; /* predicted IoU; sam2_mask_make; NaN for nothing above either level */
    int64_t box[4];          /* first column, first row, last column, last row; all 0 when empty */
    float point[2];          /* x, y: the prompt, in pixels */
    int64_t crop[4]; /* left, top, right, bottom of the crop it was found in, the last two exclusive */
};

/* Zero-initialise it. */
struct sam2_found {
    struct sam2_mask *mask;
    int64_t count, capacity;
};
void sam2_found_free(struct sam2_found *found);

/* ---- numbers ---------------------------------------------------------------------------------------------- */

/* The points of a grid of n x n, x first: [n*n,2], 0..1. */
void sam2_grid(int n, double *point);

struct sam2_crop {
    int64_t box[4]; /* left, top, right, bottom, the last two exclusive */
    int layer;
};
/* The picture itself and the crops of all layers, column by column: sum of 4^n over the layers, less those that a picture
 * of few pixels leaves empty. Returns how many, or a status; *crops is the caller's to free. */
int64_t sam2_crops(int64_t height, int64_t width, int layers, double overlap, struct sam2_crop **crops,
                   struct ws2_error *error);

/* Logits f32[rows,columns] of a crop become a mask of the picture (`height` x `width`): stretched to the crop, bilinear,
 * a pixel set where above the threshold; stability = #(logit > threshold + offset) / #(logit > threshold - offset); box
 * in pixels of the crop. mask->bits is given its size; score, point and crop are left alone. */
int sam2_mask_make(struct sam2_mask *mask, const float *logit, int64_t rows, int64_t columns,
                   const int64_t crop[4], int64_t height, int64_t width, double threshold, double offset,
                   struct ws2_error *error);

/* True when a side of the box (pixels of the crop) is within 20 pixels of the crop's side, and not of the picture's: the
 * crop may have cut what the mask is of. */
bool sam2_near_crop_edge(const int64_t box[4], const int64_t crop[4], int64_t height, int64_t width);

/* Boxes int[count,4] with scores: keep[] receives the indices of those without a better one of a larger IoU, best first,
 * equal ones in their order. Returns how many, or a status. A box of one row or column has no area here. */
int64_t sam2_nms(const int64_t *box, const float *score, int64_t count, double iou, int64_t *keep,
                 struct ws2_error *error);

/* Fills holes of fewer than `area` pixels, also at the edge of the picture, then clears components of fewer, but for the
 * largest when there is no other; both joined along edges and corners. Returns 1 when something changed, 0 when not, or
 * a status. The box is not touched. */
int sam2_clean(struct ws2_bits *bits, int64_t area, struct ws2_bits_scratch *scratch,
               struct ws2_error *error);
/* The box of what is set, as in struct sam2_mask. */
void sam2_box(const struct ws2_bits *bits, int64_t box[4]);

/* Masks kept of a list: those of order[0..kept-1], in this order; the others are freed. */
int sam2_found_select(struct sam2_found *found, const int64_t *order, int64_t kept, struct ws2_error *error);
/* Cleans all masks and then compares the boxes again, masks that needed it after those that did not. The official class
 * has this as a method of its own (postprocess_small_regions), and its generate() does not call it for SAM 2. */
int sam2_found_clean(struct sam2_found *found, int64_t area, double iou, struct ws2_error *error);

/* ---- with a network --------------------------------------------------------------------------------------- */

/* All masks of a picture, u8 [H,W,3], in the order of the official class: best score first; with crops those of the
 * smaller crops first. *found is emptied first. 0 or a status; an error of the network sticks to its context. */
int sam2_generate(const struct sam2 *sam2, const struct sam2_generate_options *options, int64_t height,
                  int64_t width, const uint8_t *rgb, struct sam2_found *found, struct ws2_error *error);
/* The same with the embedding of the picture at hand, its height, width and options->side; crops are encoded. */
int sam2_generate_embedded(const struct sam2 *sam2, const struct sam2_generate_options *options,
                           const struct sam2_embedding *embedding, const uint8_t *rgb,
                           struct sam2_found *found, struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
