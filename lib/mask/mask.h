/*
 * mask: binary masks. Bit planes with morphology, components and hole filling; the belt of one camera, the
 * mask of what lies on it (background removal: WS2 section 4, POF-CAM section 4.1; the numbers those papers
 * leave open are fields of ws2_foreground_params and ws2_belt_params) and the flat field it gives.
 *
 * Pixels are row-major, [h,w]; frames are packed RGB u8[h,w,3]. Results do not depend on the number of threads.
 * Functions return 0 or a ws2_status with the message in `error`. Objects belong to one thread at a time unless
 * said otherwise; different objects are independent. Knows base, pool and motion.
 */
#ifndef WS2_MASK_H
#define WS2_MASK_H

#include "base/base.h"
#include "motion/motion.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- bit planes ------------------------------------------------------------------------------------------ */

/* One bit per pixel: bit x%64 of word[y * stride + x/64]. Bits at and above `width` of a row are always 0.
 * Zero-initialise it; ws2_bits_free releases the memory. */
struct ws2_bits {
    int64_t height, width;
    int64_t stride; /* words of a row: (width + 63) / 64 */
    uint64_t *word;
    size_t capacity; /* bytes */
};

/* Gives it a size, all bits 0. Keeps the memory when it suffices. */
int ws2_bits_reset(struct ws2_bits *bits, int64_t height, int64_t width, struct ws2_error *error);
void ws2_bits_free(struct ws2_bits *bits);
/* From and to u8[h,w]: every byte that is not 0 sets a bit; a bit gives 0 or 1. Size by the bits. */
void ws2_bits_from_bytes(struct ws2_bits *bits, const uint8_t *byte);
void ws2_bits_to_bytes(const struct ws2_bits *bits, uint8_t *byte);
int64_t ws2_bits_count(const struct ws2_bits *bits); /* bits that are 1 */

/* Memory that the functions below need, kept for reuse. Zero-initialise it. */
struct ws2_bits_scratch {
    void *row, *run;
    size_t row_capacity, run_capacity;
    struct ws2_bits plane;
};
void ws2_bits_scratch_free(struct ws2_bits_scratch *scratch);

/* Morphology with a disc of `radius` pixels: row dy reaches round(sqrt(radius^2 - dy^2)) to both sides, as
 * OpenCV's elliptic element of side 2*radius+1. Radius 1 is the 3x3 cross, 3 is the 7x7 disc, 0 copies; above
 * 1023 is WS2_ERR_USAGE.
 * Beyond the edge of the image nothing is added and nothing taken away: erosion sees 1 there, dilation 0.
 * `to` is given the size of `from` and must be another object; open and close work in place. */
int ws2_bits_dilate(struct ws2_bits *to, const struct ws2_bits *from, int radius,
                    struct ws2_bits_scratch *scratch, struct ws2_error *error);
int ws2_bits_erode(struct ws2_bits *to, const struct ws2_bits *from, int radius,
                   struct ws2_bits_scratch *scratch, struct ws2_error *error);
int ws2_bits_open(struct ws2_bits *bits, int radius, struct ws2_bits_scratch *scratch,
                  struct ws2_error *error); /* erode, then dilate */
int ws2_bits_close(struct ws2_bits *bits, int radius, struct ws2_bits_scratch *scratch,
                   struct ws2_error *error); /* dilate, then erode */

/* Components of ones are joined along edges and corners (8 neighbours), those of zeros along edges (4). */

/* Sets every component of zeros that does not touch the edge of the image and has at most `area` pixels. */
int ws2_bits_fill_holes(struct ws2_bits *bits, double area, struct ws2_bits_scratch *scratch,
                        struct ws2_error *error);
/* Clears every component of ones that has fewer than `area` pixels. */
int ws2_bits_drop_small(struct ws2_bits *bits, double area, struct ws2_bits_scratch *scratch,
                        struct ws2_error *error);
/* label[h,w] = 0 where a bit is 0, else the number of its component, from 1 in the order of their first pixels.
 * Returns how many there are. */
int64_t ws2_bits_label(const struct ws2_bits *bits, int32_t *label, struct ws2_bits_scratch *scratch,
                       struct ws2_error *error);

/* ---- the belt of one camera ---------------------------------------------------------------------------------- */

/* What one camera sees where nothing lies on the belt. */
struct ws2_belt {
    int64_t height, width;
    float *luma;         /* [h,w] background B, grey levels 0..255 */
    float *scale;        /* [h,w] spread s of the luma, grey levels, > 0 */
    float *rgb;          /* [h,w,3] background by channel */
    float *rgb_scale;    /* [h,w,3] spread by channel, or NULL: only WS2_CHANNELS_MAX needs it */
    float *share;        /* [h,w] share of the samples that call this pixel foreground, 0..1; may be NULL */
    float saturation[2]; /* S_B and MAD_S: median of the saturation 0..255 and of its distance to S_B */
};

/* Allocates all arrays (rgb_scale on request), zeroed. The belt is empty afterwards when that fails. */
int ws2_belt_make(struct ws2_belt *belt, int64_t height, int64_t width, bool rgb_scale,
                  struct ws2_error *error);
void ws2_belt_free(struct ws2_belt *belt); /* releases and zeroes */

/* Text of 16 hexadecimal digits that tells belts with different values apart; for the stream's history. */
void ws2_belt_digest(const struct ws2_belt *belt, char digest[17]);

/* ---- foreground -------------------------------------------------------------------------------------------------- */

enum ws2_channels {
    WS2_CHANNELS_LUMA, /* deviation of the luma */
    WS2_CHANNELS_MAX   /* the largest deviation among R, G, B: sees items of the belt's luma */
};

/* A pixel is foreground when it deviates from the belt,
 *     |Y - B| / s > z  and  |Y - B| > difference          (for one of R, G, B with WS2_CHANNELS_MAX),
 * or when its saturation S is above T, unless it is a static reflex:
 *     Y > reflex_luma  and  S < reflex_saturation  and  B > reflex_belt.
 * Y is the luma of ws2_rgb_planes; S = 255 (max - min) / max of R, G, B, rounded (halves up), and 0 where
 * max < dark. T = saturation, or when that is negative S_B + saturation_z * 1.4826 * MAD_S held within
 * [saturation_low, saturation_high].
 * Then: open, close, fill holes, drop small components, dilate. Radii are in pixels of an image of
 * reference x reference pixels and are multiplied by sqrt(h*w) / reference and rounded (a radius below half a
 * pixel does nothing); reference 0 takes them as they are. Areas are shares of the image. */
struct ws2_foreground_params {
    double z, difference;
    enum ws2_channels channels;
    double saturation, saturation_low, saturation_high, saturation_z;
    int dark;
    double reflex_luma, reflex_saturation, reflex_belt;
    double open, close, hole, component, dilate;
    double reference;
    /* Exposure drift: Y, R, G, B are first divided by the ratio of the medians of frame and belt luma over the
     * outer `strip` pixels of the image (a radius like those above, at least 1). The reflex rule and S see the
     * frame as it is. */
    bool drift;
    double strip;
};

/* 3.5, 12, luma, auto within 40..90 at 6, dark 30, reflex 240 20 200, open 1, close 3, hole 0.02, component 0.0005,
 * dilate 1, reference 512, no drift, strip 16. */
struct ws2_foreground_params ws2_foreground_defaults(void);

/* A radius of the parameters in pixels of an h x w image. */
int ws2_foreground_radius(const struct ws2_foreground_params *params, double radius, int64_t height,
                          int64_t width);
/* The threshold T for this belt. */
double ws2_foreground_saturation(const struct ws2_foreground_params *params, const float saturation[2]);

/* A belt and parameters turned into thresholds. Constant after it is made: shared by all threads. Keeps nothing
 * of the belt. A belt with values that are not finite, a luma outside 0..255, a scale that is not above 0 or
 * without rgb_scale where it is needed is WS2_ERR_INPUT; parameters that make no sense are WS2_ERR_USAGE. */
struct ws2_foreground;
int ws2_foreground_new(struct ws2_foreground **foreground, const struct ws2_belt *belt,
                       const struct ws2_foreground_params *params, struct ws2_error *error);
void ws2_foreground_free(struct ws2_foreground *foreground);

/* Memory of one thread. NULL when there is none. */
struct ws2_foreground_scratch;
struct ws2_foreground_scratch *ws2_foreground_scratch_new(const struct ws2_foreground *foreground);
void ws2_foreground_scratch_free(struct ws2_foreground_scratch *scratch);

/* fg[h,w] = 1 where the frame rgb[h,w,3] shows something that is not the belt, else 0. Sizes are those of the
 * belt. fg may be NULL; the mask is also left in ws2_foreground_bits until the next call. */
int ws2_foreground_mask(const struct ws2_foreground *foreground, struct ws2_foreground_scratch *scratch,
                        const uint8_t *rgb, uint8_t *fg, struct ws2_error *error);
struct ws2_bits *ws2_foreground_bits(struct ws2_foreground_scratch *scratch);

/* out[h,w,3] = rgb where the bit is `keep`, else the colour fill[3]. out may be rgb itself. */
void ws2_mask_apply(const struct ws2_bits *mask, bool keep, const uint8_t fill[3], const uint8_t *rgb,
                    uint8_t *out);

/* The images that a classifier sees (WS2 section 4): items alone, I * M, or belt alone, I * (1 - dilate(M, margin)),
 * where the margin keeps the fringes of items out. margin is a radius of the parameters. */
enum ws2_apply_what { WS2_APPLY_ITEMS, WS2_APPLY_BELT };
struct ws2_apply {
    enum ws2_apply_what what;
    double margin;
    uint8_t fill[3]; /* black as in the papers; the mean colour of ImageNet is the variant to compare with */
};
/* Cuts the frame of the last ws2_foreground_mask by its mask. */
int ws2_foreground_apply(const struct ws2_foreground *foreground, struct ws2_foreground_scratch *scratch,
                         const struct ws2_apply *apply, const uint8_t *rgb, uint8_t *out,
                         struct ws2_error *error);

/* ---- flat field ---------------------------------------------------------------------------------------------- */

/*
 * Frames of one camera as an evenly lit, grey belt would show them (METHODS 23.2): with B_c the background of channel c
 * under a Gaussian,
 *     I'_c(p) = I_c(p) * level / max(B_c(p), 4),   rounded (halves up), at most 255.
 * Takes out gain, tint and vignette of the camera; what is added to all pixels and glare remain. A belt darker than 4
 * grey levels counts as 4, so that black ones are not blown up to noise.
 * The Gaussian is four boxes one after the other, in time that does not depend on sigma (Gwosdek et al., Theoretical
 * foundations of Gaussian convolution by extended box filtering, 2011). Beyond the edge of the image nothing is looked at:
 * what is left of the kernel is divided by its own weight.
 */
struct ws2_flat_params {
    double sigma; /* of the Gaussian, share of the height, 0..1e6, and four times a side at most; 0: none */
    double level; /* of the belt afterwards, grey levels, above 0 and at most 255 */
};
struct ws2_flat_params ws2_flat_defaults(void); /* 1/18, 100 */

/* "sigma S, level L" with digits enough to be read back exactly; "none" for a level of 0, which stands for frames left as
 * they are. Returns text. */
#define WS2_FLAT_TEXT 80
const char *ws2_flat_text(const struct ws2_flat_params *params, char text[WS2_FLAT_TEXT]);
/* The reverse. WS2_ERR_USAGE for any other text; params then stands for none. */
int ws2_flat_parse(const char *text, struct ws2_flat_params *params);

/* A belt turned into gains, 12 bytes a pixel. Constant after it is made: shared by all threads. Keeps nothing of the belt,
 * of which only rgb is looked at: values outside of 0..255 are WS2_ERR_INPUT, parameters that make no sense
 * WS2_ERR_USAGE. */
struct ws2_flat;
int ws2_flat_new(struct ws2_flat **flat, const struct ws2_belt *belt, const struct ws2_flat_params *params,
                 struct ws2_error *error);
void ws2_flat_free(struct ws2_flat *flat); /* NULL is fine */
const struct ws2_flat_params *ws2_flat_settings(const struct ws2_flat *flat);
/* out u8[h,w,3] from the frame rgb u8[h,w,3]; out may be rgb itself. Another size than that of the belt is WS2_ERR_INPUT. */
int ws2_flat_apply(const struct ws2_flat *flat, int64_t height, int64_t width, const uint8_t *rgb,
                   uint8_t *out, struct ws2_error *error);

/* Memory of one thread. Zero-initialise it. */
struct ws2_flat_scratch {
    uint8_t *rgb;
    size_t capacity;
};
void ws2_flat_scratch_free(struct ws2_flat_scratch *scratch);
/* *rgb is a frame, and afterwards the same evened out, in the scratch memory until the next call; without a flat field (NULL)
 * it stays. */
int ws2_flat_frame(const struct ws2_flat *flat, struct ws2_flat_scratch *scratch, int64_t height,
                   int64_t width, const uint8_t **rgb, struct ws2_error *error);

/* ---- estimating the belt ----------------------------------------------------------------------------------------- */

enum ws2_statistic {
    WS2_STATISTIC_MEDIAN,
    WS2_STATISTIC_MODE /* first pass by the histogram mode (ws2_stack_mode): for belts hidden more often than not */
};

struct ws2_belt_params {
    enum ws2_statistic statistic;
    int passes;   /* 1 .. 9; 2: the second leaves out what the belt of the first calls foreground */
    int least;    /* a pixel with fewer samples left keeps what it had: 20 */
    double floor; /* least spread, grey levels: 2.0 */
    int window;   /* side of the square over which the spread is averaged, odd: 5; the square is cut off at
                         * the edge of the image */
    struct ws2_foreground_params foreground; /* of the masks between the passes */
};
struct ws2_belt_params ws2_belt_defaults(void);

/* Sample frames of one camera, kept as colour planes: 4 bytes a pixel and sample, and after the first pass one
 * bit more. */
struct ws2_samples;
int ws2_samples_new(struct ws2_samples **samples, int64_t height, int64_t width, int capacity, int dark,
                    struct ws2_error *error);
void ws2_samples_free(struct ws2_samples *samples);
/* Copies a frame into place `index`, 0 .. capacity-1. Different places may be written by several threads at the
 * same time. A place is written once. */
void ws2_samples_set(struct ws2_samples *samples, int index, const uint8_t *rgb);

struct ws2_belt_report {
    int samples;
    double
        covered; /* share of pixels that the belt's own masks call foreground in more than half of the samples;
                     * above 0.05 the premise that the belt is mostly bare does not hold */
    int64_t scarce; /* pixels with fewer than `least` samples left in the last pass */
};

/* Background, spread and saturation from the first `count` samples:
 *     B = median of Y, MAD = median |Y - B|, s = mean over the window of max(1.4826 MAD, floor);
 *     pass 2 .. : the same from the samples that the masks of the belt so far call background.
 * Channels likewise, in the last pass (where too few samples remain: from all samples). S_B and MAD_S are over all
 * pixels of all samples. share and report are from the last masks that were made: those before the last pass, or with
 * one pass those of the belt itself. */
int ws2_belt_estimate(struct ws2_belt *belt, struct ws2_samples *samples, int count,
                      const struct ws2_belt_params *params, int threads, struct ws2_belt_report *report,
                      struct ws2_error *error);

/* ---- coarse masks -------------------------------------------------------------------------------------------- */

/* From class maps to the mask of one class (WS2 section 4, and its published evaluation code). Both rules first
 * divide each class map by its own maximum over the image (a map without a positive value counts as all zero),
 * which removes the confidence: see `absolute`. */
enum ws2_coarse_rule {
    WS2_COARSE_ARGMAX,   /* 1 where the class wins; ties and all-zero pixels go to the lowest index */
    WS2_COARSE_THRESHOLD /* 1 where its own map is above the threshold; the other maps are not looked at */
};

struct ws2_coarse {
    enum ws2_coarse_rule rule;
    int target;      /* index of the class wanted */
    float threshold; /* 0..1, WS2_COARSE_THRESHOLD only; the mask is map > threshold */
    bool absolute; /* take the values as they are: maps that are probabilities already (not in the papers) */
};

#define WS2_COARSE_LEVEL 0.30 /* usual threshold of the literature for maps of maximum 1 */

/* cam f16[classes,pixels] (half floats) -> mask u8[pixels], 0/1. WS2_ERR_INPUT for a value that is not finite
 * and for a target outside 0 .. classes-1. Needs no memory. */
int ws2_coarse_mask(const struct ws2_coarse *coarse, const uint16_t *cam, int64_t classes, size_t pixels,
                    uint8_t *mask, struct ws2_error *error);

/* A level of its own for the target's map of a frame, in place of coarse->threshold. Without truth Otsu's: over a histogram of
 * 256 bins of 0..1, the one with the largest variance between what is below and what is not (Otsu 1979); 1 for a map of one
 * value. With truth u8[pixels] the one of 0, 0.01, .., 1 whose mask has the largest IoU, the lowest of equals: what no one can
 * know who has no truth, a bound and never a result. */
int ws2_coarse_level(const struct ws2_coarse *coarse, const uint16_t *cam, int64_t classes, size_t pixels,
                     const uint8_t *truth, float *level, struct ws2_error *error);

/* mask[i] = 0 where within[i] is 0. */
void ws2_coarse_cut(uint8_t *mask, const uint8_t *within, size_t pixels);

/* ---- instance masks ------------------------------------------------------------------------------------------ */

/*
 * Masks of single things, which may overlap and nest, numbered from 0, in one of two forms:
 *     stack u8[count,h,w]: a pixel of mask k is not 0 in plane k;
 *     layers u16[layers,h,w]: a pixel of mask k is k + 1 in the one layer that has all of mask k. Things that do not overlap
 *     share a layer, so a few layers hold any number of them.
 */
struct ws2_instances {
    int64_t count; /* of the stack; that of layers follows from the numbers there */
    int64_t layers, height, width;
    const uint8_t *stack; /* NULL: layers */
    const uint16_t *layer;
};

#define WS2_INSTANCES_MAX 65535 /* in layers */

/* Where each mask of some layers is; zero-initialise it, and free it at the end. A mask without a pixel has area 0. */
struct ws2_instances_index {
    int64_t count;
    struct ws2_instance {
        int64_t layer, area;
        int64_t left, top, right, bottom; /* right and bottom: one beyond */
    } * at;
    size_t capacity;
};
/* WS2_ERR_INPUT when a number stands in two layers. */
int ws2_instances_find(struct ws2_instances_index *index, const struct ws2_instances *instances,
                       struct ws2_error *error);
void ws2_instances_index_free(struct ws2_instances_index *index);
/* bits = mask k; bits has the size of the masks. `index` is that of the layers, and is not looked at for a stack. */
void ws2_instances_bits(const struct ws2_instances *instances, const struct ws2_instances_index *index,
                        int64_t k, struct ws2_bits *bits);
/* stack u8[count,h,w], 0/1, of layers. */
void ws2_instances_unpack(const struct ws2_instances *instances, const struct ws2_instances_index *index,
                          uint8_t *stack);

/* Masks in layers and what is known of each, masks 1 .. count in order, the best first; memory of whoever found them. */
struct ws2_masks {
    int64_t count, layers, height, width;
    const uint16_t *layer;          /* [layers,h,w] */
    const int32_t *box;             /* [count,4]: left, top, and one beyond right and bottom */
    const float *score, *stability; /* [count], 0..1 */
};

/* Puts overlapping masks into layers, each into the first that has room. Zero-initialise it. */
struct ws2_layers {
    int64_t count, layers, height, width;
    uint16_t *layer;       /* [layers,h,w] */
    struct ws2_bits *used; /* [layers] */
    size_t layer_capacity, used_capacity;
    int64_t planes; /* of `used` that hold memory */
};
int ws2_layers_reset(struct ws2_layers *layers, int64_t height, int64_t width, struct ws2_error *error);
/* The next mask, of the size of the layers. WS2_ERR_INPUT for more than WS2_INSTANCES_MAX. */
int ws2_layers_add(struct ws2_layers *layers, const struct ws2_bits *mask, struct ws2_error *error);
void ws2_layers_free(struct ws2_layers *layers);

/* ---- proposals ----------------------------------------------------------------------------------------------- */

/*
 * Masks of things without a network and of no class, from fine to coarse, so that they nest: regions of like colour at
 * several scales k (Felzenszwalb and Huttenlocher, Efficient graph-based image segmentation, 2004), and of a foreground
 * mask its connected parts and their pieces, cut at necks (watershed of the distance to the outside). What is the same set
 * of pixels is there once.
 */
#define WS2_PROPOSALS_LEVELS_MAX 16

struct ws2_proposals_params {
    double k[WS2_PROPOSALS_LEVELS_MAX]; /* above 0, in units of colour: large k, large regions */
    int levels;                         /* 0: the foreground alone */
    int64_t least;                      /* pixels of a region */
    double sigma;                       /* of the Gaussian that smooths colours first; 0: none */
    double neck; /* 0..1: pieces whose neck is narrower than this share of the narrower piece are two */
};
struct ws2_proposals_params ws2_proposals_defaults(void); /* 100, 300, 1000; 100 pixels; 0.8; 0.75 */

struct ws2_proposals;
void ws2_proposals_free(struct ws2_proposals *proposals); /* NULL is fine */

/* colour f32[channels,h,w], L*a*b* as a rule, is changed; fg u8[h,w] or NULL. *kept is NULL or from an earlier call, of any
 * size; the caller frees it. Returns how many masks there are. About 130 bytes per pixel and 4 per level. WS2_ERR_INPUT for
 * colours that are not finite, pictures above 2^29 pixels and more than WS2_INSTANCES_MAX masks. */
int64_t ws2_proposals_make(struct ws2_proposals **kept, const struct ws2_proposals_params *params,
                           float *colour, int64_t channels, const uint8_t *fg, int64_t height, int64_t width,
                           struct ws2_error *error);
/* What the last call found, valid until the next. stability: of a region the share of the scales at which it stands, of a
 * part or piece 1 - b / a, b the half width of its widest neck, a its own; the score is the same, as nothing better is known.
 * Masks of one stability are ordered by size, the largest first. */
struct ws2_masks ws2_proposals_masks(const struct ws2_proposals *proposals);

/* ---- refined masks ------------------------------------------------------------------------------------------- */

/*
 * A coarse mask P and instance masks m, which may overlap and nest, make the refined mask R. Masks without a pixel count as
 * not there. A mask with more than max_area of the image is never taken, but it is a mask all the same, so what is coarse in
 * it alone goes; more than 95 % of the image and max_area, and it is not there.
 *
 * SEPL (WS2 section 4; the merge of Chen et al., Segment Anything Model Enhanced Pseudo Labels, 2023, as WS2's code
 * has it, max_iou_imp2): m is taken when 2 |P and m| > |m|, or when 20 |P and m| >= 17 |P|, that is, when it holds
 * 85 % of all that is coarse. R is the union of the masks taken and of those pixels of P that no mask holds, taken or
 * not. So R = P without masks, and R is empty when P is.
 * MAX_IOU_IMP: the same without the second condition. MAX_IOU: and without the pixels that no mask holds.
 *
 * COPY, AND, OR (the SAM-enhanced masks of the cross-architecture paper on smoke, arXiv 2507.21959): m is taken when
 * |P and m| > iou |P or m|, with parts when this holds for any one of the connected parts of P in its place. M, their
 * union, is R, or R = M and P, or R = M or P; without a mask taken, R = P.
 */
enum ws2_refine_rule {
    WS2_REFINE_SEPL,
    WS2_REFINE_MAX_IOU_IMP,
    WS2_REFINE_MAX_IOU,
    WS2_REFINE_COPY,
    WS2_REFINE_AND,
    WS2_REFINE_OR
};

struct ws2_refine {
    enum ws2_refine_rule rule;
    /* Share of the image, 0..1. The second condition of SEPL takes the belt itself, if it is among the masks, as soon
     * as P is one small blob: 0.5 forbids that, 1 is as published. */
    double max_area;
    double iou; /* of COPY, AND, OR: 0..1 */
    bool parts; /* of COPY, AND, OR: a small instance never has much of a mask of many items */
};

/* Memory of one thread, kept for reuse. Zero-initialise it. */
struct ws2_refine_scratch {
    struct ws2_bits coarse, mask, all, taken;
    struct ws2_bits_scratch bits;
    struct ws2_instances_index index;
    int32_t *label;
    int64_t *part, parts;
    size_t label_capacity, part_capacity;
};
void ws2_refine_scratch_free(struct ws2_refine_scratch *scratch);

/* coarse u8[h,w], of the size of the instances: every byte that is not 0 belongs to the mask -> refined u8[h,w], 0/1.
 * Returns how many masks were taken, or a status: WS2_ERR_INPUT for a number that stands in two layers. */
int64_t ws2_refine_mask(const struct ws2_refine *refine, struct ws2_refine_scratch *scratch,
                        const uint8_t *coarse, const struct ws2_instances *instances, uint8_t *refined,
                        struct ws2_error *error);

/* ---- votes ------------------------------------------------------------------------------------------------------ */

/*
 * Items, not pixels: how unwanted a pixel is, p, becomes what all pixels of its item say together (ours; METHODS 23.5).
 * Probabilities are prob f16[classes,h,w], plane `before` is p and plane `after` 1 - p. Pixels count where something lies on
 * the belt, so where fg is not 0, or without fg where any plane of prob is not 0; all others keep what they have and say
 * nothing.
 *
 * A ballot over the n values of an item is their mean, their median (of two middle ones the mean), or the share of them
 * that reach `level`. p becomes (1 - weight) p + weight * ballot. Items of fewer than `least` pixels hold none.
 *
 * Regions are instance masks, which overlap and nest. Of a region only what counts is looked at, n pixels, and a region of
 * which less than the share `cover` counts is belt and holds no ballot. Of those that do a pixel takes the one of the
 * lowest cost, of equals the first; in none it keeps its p:
 *     EVEN    v + WS2_VOTE_NOISE / n, v the variance of p in it: as if the p of a pixel were what its item is, plus noise.
 *             Large regions are preferred, unless things that differ are in them.
 *     FINE    n
 *     COARSE  -n
 *
 * Tracks: items are the connected parts of what counts, or the regions that pixels take, and the ballot of an item is over
 * its pixels in the frames t - K .. t + K, as far as its track goes. A pixel q leads to the pixel nearest to q + F(q), F
 * the flow. Item a of frame t and b of t + 1 are one when more than the share `agree` of the pixels of a that lead into the
 * picture lead to b, and likewise back. With agree >= 0.5 that is at most one item each way. So a track ends where an item
 * leaves the picture, where it is hidden or comes apart, and where it touches another, unless that one is small beside it;
 * what both became is a new item.
 */
enum ws2_vote_rule { WS2_VOTE_MEAN, WS2_VOTE_MEDIAN, WS2_VOTE_SHARE };
enum ws2_vote_prefer { WS2_VOTE_EVEN, WS2_VOTE_FINE, WS2_VOTE_COARSE };

#define WS2_VOTE_NOISE 4.0 /* variance of p, about 0.06, times the pixels that err together, some 8 x 8 */
#define WS2_VOTE_REACH_MAX 64

struct ws2_vote {
    enum ws2_vote_rule rule;
    enum ws2_vote_prefer prefer;
    double level;  /* of WS2_VOTE_SHARE, 0..1 */
    int64_t least; /* pixels of an item that count */
    double cover;  /* 0..1 */
    double weight; /* 0..1 */
    double agree;  /* 0.5..1 */
    int reach;     /* K, 0 .. WS2_VOTE_REACH_MAX */
};
struct ws2_vote ws2_vote_defaults(void); /* mean, even, 0.5, 16, 0.5, 1, 0.7, 2 */

/* What is voted on. */
struct ws2_vote_maps {
    const uint16_t *prob; /* f16[classes,h,w], 0..1 */
    int64_t classes, height, width;
    int64_t before, after; /* planes; after: -1 for none */
    const uint8_t *fg;     /* [h,w], or NULL */
};

/* WS2_ERR_INPUT for a value outside 0..1 and maps of 2^31 values. The functions below are for maps that passed. */
int ws2_vote_check(const struct ws2_vote_maps *maps, struct ws2_error *error);

/* Memory of one thread, kept for reuse. Zero-initialise it. */
struct ws2_vote_scratch {
    struct ws2_bits on, mask;
    struct ws2_bits_scratch bits;
    struct ws2_instances_index index;
    int32_t *label, *place; /* [h,w]: the item of a pixel, from 1; of regions, where their pixels are */
    int64_t *start;         /* of each region in place, and the end of each */
    double *cost, *ballot;  /* [h,w]: the lowest cost so far; of each item, NAN for none */
    uint16_t *value;        /* of one item */
    size_t label_capacity, place_capacity, start_capacity, cost_capacity, ballot_capacity, value_capacity;
};
void ws2_vote_scratch_free(struct ws2_vote_scratch *scratch);

/* out f16[classes,h,w] = prob after the vote by regions: plane `before`, and where there is one `after`, which becomes
 * 1 - p. WS2_ERR_INPUT for regions of another size than the maps and a number that stands in two layers. */
int ws2_vote_regions(const struct ws2_vote *vote, struct ws2_vote_scratch *scratch,
                     const struct ws2_vote_maps *maps, const struct ws2_instances *instances, uint16_t *out,
                     struct ws2_error *error);

/* What a frame lends to its neighbours: its items and where its pixels lead. Its buffers are kept when it is filled again.
 * About 14 bytes per pixel. */
struct ws2_vote_frame;
struct ws2_vote_frame *ws2_vote_frame_new(void);        /* NULL when out of memory */
void ws2_vote_frame_free(struct ws2_vote_frame *frame); /* NULL is fine */
/* Fills it with the items of frame `number`, those of the regions unless instances is NULL, and forgets its flows. Errors as
 * of ws2_vote_regions. */
int ws2_vote_frame_items(struct ws2_vote_frame *frame, const struct ws2_vote *vote,
                         struct ws2_vote_scratch *scratch, const struct ws2_vote_maps *maps,
                         const struct ws2_instances *instances, int64_t number, struct ws2_error *error);
/* After the items: a flow f16[2,h,w], WS2_ERR_INPUT for one of another shape. Vectors that are not finite lead nowhere. */
int ws2_vote_frame_flow(struct ws2_vote_frame *frame, enum ws2_fuse_way way, const uint16_t *flow,
                        const struct ws2_shape *shape, struct ws2_error *error);
/* After the flows of both: which items are one, kept in `frame` alone. previous: the frame before, or NULL. WS2_ERR_INPUT,
 * naming the frame, when sizes differ or a flow between them is missing. */
int ws2_vote_frame_link(struct ws2_vote_frame *frame, const struct ws2_vote *vote,
                        const struct ws2_vote_frame *previous, struct ws2_error *error);
/* out = prob of frame window[0] after the vote by tracks; window[-K] .. window[K], NULL where there is no frame, are
 * linked. */
int ws2_vote_tracks(const struct ws2_vote *vote, struct ws2_vote_scratch *scratch,
                    const struct ws2_vote_maps *maps, const struct ws2_vote_frame *const *window,
                    uint16_t *out, struct ws2_error *error);

/* mask u8[h,w] = 1 where a pixel counts and its p is at least the threshold, else 0. */
void ws2_vote_mask(const struct ws2_vote_maps *maps, float threshold, uint8_t *mask);

/* ---- dense conditional random field --------------------------------------------------------------------------- */

/*
 * Probabilities Q[labels,h,w] that follow the edges of a picture (Kraehenbuehl and Koltun, Efficient inference in fully
 * connected CRFs with Gaussian edge potentials, 2011). With unaries U, energies of the labels, every pair of pixels is
 * joined by two kernels,
 *     space:     exp(-|p_i - p_j|^2 / (2 space^2))
 *     bilateral: exp(-|p_i - p_j|^2 / (2 bilateral^2) - |I_i - I_j|^2 / (2 colour^2)),   I = 0..255,
 * each divided symmetrically: K'_ij = n_i K_ij n_j, n_i = 1 / sqrt(sum_j K_ij + 1e-20). Mean field starts with
 * Q = softmax(-U) and repeats Q = softmax(-U + sum over kernels of weight * K' Q), all pixels at once; a pixel agrees
 * with itself too.
 * Sums over all pixels are those of a permutohedral lattice (Adams, Baek and Davis 2010), or with `exact` as they stand,
 * which takes h^2 w^2 steps.
 */
struct ws2_crf_params {
    double space, space_weight;                 /* pixels; a weight of 0 leaves the kernel out */
    double bilateral, colour, bilateral_weight; /* pixels, grey levels */
    int iterations;                             /* 0: softmax(-U) alone */
    bool exact;
};

#define WS2_CRF_LABELS_MAX 64
#define WS2_CRF_EXACT_MAX 65536 /* pixels */

/* What was prepared for a size and a picture. One thread at a time. */
struct ws2_crf;
void ws2_crf_free(struct ws2_crf *crf); /* NULL is fine */

/* rgb u8[h,w,3], unary f32[labels,h,w], finite -> q f32[labels,h,w], of sum 1 for each pixel; q may be unary. *crf is NULL
 * or kept from an earlier call, of any size; the caller frees it. About 150 bytes per pixel. WS2_ERR_INPUT for a unary that
 * is not finite and deviations too small for the picture, WS2_ERR_USAGE for parameters that make no sense. */
int ws2_crf_run(struct ws2_crf **crf, const struct ws2_crf_params *params, const uint8_t *rgb, int64_t height,
                int64_t width, const float *unary, int labels, float *q, struct ws2_error *error);

/* Class maps f16[classes,pixels], each divided by its maximum, negative values 0, to probabilities f32[labels,pixels].
 * Target -1: every class is a label, p_l = m_l / (sum of m + 1e-8). Else two labels, anything else and the class `target`:
 * (1 - m)^gamma and m, over their sum + 1e-8 (arXiv 2507.21959); gamma above 1 makes room for weak maps, which
 * would vanish. WS2_ERR_INPUT for a value that is not finite and a target that is no class. */
int ws2_crf_probability(const uint16_t *cam, int64_t classes, size_t pixels, int target, double gamma,
                        float *probability, struct ws2_error *error);
/* U = -ln(p held within 1e-5 .. 1). probability f32[count]; unary may be the same. */
void ws2_crf_unary_probability(const float *probability, size_t count, float *unary);
/* U = -ln(sure) for the label that a pixel has and -ln((1 - sure) / (labels - 1)) for the others, 0 < sure < 1. label
 * u8[pixels] below `labels` -> unary f32[labels,pixels]. */
int ws2_crf_unary_label(const uint8_t *label, size_t pixels, int labels, double sure, float *unary,
                        struct ws2_error *error);

/* ---- random walk -------------------------------------------------------------------------------------------- */

/*
 * Maps that spread over pixels which are alike. A pair of pixels i, j less than `radius` apart has an affinity W_ij =
 * W_ji within 0..1, W_ii = 1. With T_ij = W_ij^beta / sum_i W_ij^beta, n steps make v T^n of a map v: a mean of v around
 * each pixel. The publications square T log2(n) times; here steps are sparse and cost 4 radius^2 operations per pixel, and
 * from 43 on the n steps are a polynomial of 6.5 sqrt(n) of them, which is the same to rounding.
 */
#define WS2_WALK_RADIUS_MAX 16

struct ws2_walker;
void ws2_walk_free(struct ws2_walker *walk); /* NULL is fine */

/* Affinities of colours u8[h,w,3]: W_ij = exp(-|I_i - I_j|^2 / (2 colour^2) - |p_i - p_j|^2 / (2 space^2)), in grey levels
 * and pixels; space 0 leaves the distance out. Ours: the publications learn what is alike, this one needs no training.
 * All pairs within the radius, at the border too. W_ij^beta below 1e-12 counts as 0. *walk is NULL or kept from an earlier
 * call; the caller frees it. About 10 radius^2 bytes per pixel. */
int ws2_walk_colours(struct ws2_walker **walk, const uint8_t *rgb, int64_t height, int64_t width, int radius,
                     double beta, double colour, double space, struct ws2_error *error);

/* Affinities of features f32[channels,h,w]: W_ij = exp(-mean over channels |f_i - f_j|) (AffinityNet, Ahn and Kwak 2018).
 * As published, pairs start from the rows 0 .. h - radius and the columns radius - 1 .. w - radius only, in the half plane
 * downwards and to the right, so pixels near the border have fewer neighbours. *walk is NULL or kept from an earlier
 * call; the caller frees it. About 8 radius^2 bytes per pixel. */
int ws2_walk_features(struct ws2_walker **walk, const float *feature, int64_t channels, int64_t height,
                      int64_t width, int radius, double beta, struct ws2_error *error);

/* Affinities of edges f32[h,w] within 0..1: W_ij = 1 - the maximum of the edges along the way, that is, over all pixels
 * less than 1 from the straight line, both ends among them (IRN, Ahn, Cho and Kwak 2019). */
int ws2_walk_edges(struct ws2_walker **walk, const float *edge, int64_t height, int64_t width, int radius,
                   double beta, struct ws2_error *error);

/* map f32[planes,h,w], finite, in place. */
void ws2_walk_run(struct ws2_walker *walk, int64_t steps, int64_t planes, float *map);

/* Class maps f16[count] -> f32[count], negative values 0. WS2_ERR_INPUT for a value that is not finite. */
int ws2_walk_maps(const uint16_t *cam, size_t count, float *map, struct ws2_error *error);
/* map f32[planes,pixels], not negative: each plane divided by its maximum; one of zeros stays. */
void ws2_walk_scale(float *map, int64_t planes, size_t pixels);

/* ---- learning what is alike --------------------------------------------------------------------------------- */

#define WS2_SEED_UNKNOWN 255

/*
 * Seeds: what class maps are sure of, as labels to learn from. maps f32[classes,h,w] within 0..1 -> u8[h',w'], 0 the belt,
 * 1 + c class c, WS2_SEED_UNKNOWN the rest; h' = ceil(h / grid), w' likewise.
 *     WS2_SEEDS_PSA    two dense CRFs over the maps and a plane for the belt, (1 - max m)^low and (1 - max m)^high; each is
 *                      summed over the cells of the grid. 0 where the belt has most in the second, else the label that
 *                      has most in the first, unknown where that is the belt (AffinityNet, Ahn and Kwak 2018, section 3.2)
 *     WS2_SEEDS_IRN    two dense CRFs over the labels that have most, the belt counting as `high` and as `low`; a class
 *                      where the first says one, 0 where both say belt, else unknown (IRN, Ahn, Cho and Kwak 2019)
 *     WS2_SEEDS_SMOKE  no CRF: the class of the largest m from `high` on, 0 below `low`, else unknown (arXiv 2507.21959)
 * IRN and SMOKE take the pixel at the middle of each cell, as Pillow's nearest neighbour does. Ties go to the lowest label.
 */
enum ws2_seed_rule { WS2_SEEDS_PSA, WS2_SEEDS_IRN, WS2_SEEDS_SMOKE };
struct ws2_seed_options {
    enum ws2_seed_rule rule;
    double low, high;
    struct ws2_crf_params crf;
    int grid; /* pixels per cell, >= 1 */
};

/* Memory of one thread. Zero-initialise it. */
struct ws2_seeder {
    struct ws2_crf *crf;
    float *plane;      /* [classes + 1,h,w] */
    float *sum;        /* [classes + 1,h',w'] */
    uint8_t *label[2]; /* [h,w] of each CRF */
    size_t plane_capacity, sum_capacity, label_capacity[2];
};
void ws2_seeder_free(struct ws2_seeder *seeder);

/* rgb u8[h,w,3] (SMOKE: NULL). Errors of the CRF, WS2_ERR_USAGE for numbers that make no sense. */
int ws2_seeds_make(struct ws2_seeder *seeder, const struct ws2_seed_options *options, const uint8_t *rgb,
                   const float *map, int classes, int64_t height, int64_t width, uint8_t *seed,
                   struct ws2_error *error);

/*
 * Affinities of a network that are to agree with labels: label u8[n,h,w], 0 the belt, 1 and up things, WS2_SEED_UNKNOWN what
 * says nothing. Of the pairs nearer than `radius` whose pixels are both known there are three kinds, and each has a mean of
 * its own over the whole batch (Ahn and Kwak 2018, eq. 4 to 6; Ahn, Cho and Kwak 2019):
 *     belt    both 0                    mean of -ln(W + 1e-5)
 *     thing   equal and not 0           mean of -ln(W + 1e-5)
 *     other   different                 mean of -ln(1 + 1e-5 - W)
 * As published, pairs start from the rows 0 .. h - radius and the columns radius - 1 .. w - radius only, in the half plane
 * downwards and to the right, and 1e-5 is added to each number of pairs.
 */
enum ws2_pair_kind { WS2_PAIR_BELT, WS2_PAIR_THING, WS2_PAIR_OTHER, WS2_PAIR_KINDS };
struct ws2_affinity_loss {
    double total;                /* belt / 4 + thing / 4 + other / 2 */
    double mean[WS2_PAIR_KINDS]; /* 0 for a kind without pairs */
    int64_t pairs[WS2_PAIR_KINDS];
};

/* W_ij = exp(-mean over channels |f_i - f_j|), feature f32[n,channels,h,w]. gradient of the total, as feature; NULL: not wanted.
 * WS2_ERR_INPUT for a feature that is not finite, WS2_ERR_USAGE for a radius out of 2 .. WS2_WALK_RADIUS_MAX. */
int ws2_affinity_features(const float *feature, const uint8_t *label, int64_t n, int64_t channels,
                          int64_t height, int64_t width, int radius, struct ws2_affinity_loss *loss,
                          float *gradient, struct ws2_error *error);
/* W_ij = 1 - the maximum of the edges along the way (ws2_walk_edges), edge f32[n,h,w] within 0..1. Where several cells
 * hold the maximum, the gradient goes to the one farthest from the pair's first pixel. */
int ws2_affinity_edges(const float *edge, const uint8_t *label, int64_t n, int64_t height, int64_t width,
                       int radius, struct ws2_affinity_loss *loss, float *gradient, struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
