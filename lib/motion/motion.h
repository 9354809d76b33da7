/*
 * motion: what many frames of one camera tell per pixel. Exact order statistics of a stack of frames (background by
 * the median, WS2 section 4; POF-CAM section 4.1), colour planes with luma, and flow: dense flow between frames, warp,
 * composition, maps of neighbouring frames on one.
 *
 * Frames are u8 planes of h*w bytes. Everything here is exact and gives the same values for any number of
 * threads. Functions return 0 or a ws2_status with the message in `error` (only lack of memory and arguments
 * that make no sense can fail). They own nothing after they return; different calls are independent.
 * Knows base and pool.
 */
#ifndef WS2_MOTION_H
#define WS2_MOTION_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- colour planes ---------------------------------------------------------------------------------- */

/* Splits packed RGB u8[pixels,3] into planes of `pixels` bytes each. luma = 0.299 R + 0.587 G + 0.114 B
 * rounded, in 16-bit fixed point: (19595 R + 38470 G + 7471 B + 32768) >> 16, as Pillow's mode L does.
 * The planes must not overlap the input or each other. */
void ws2_rgb_planes(const uint8_t *rgb, int64_t pixels, uint8_t *red, uint8_t *green, uint8_t *blue,
                    uint8_t *luma);

/* ---- order statistics of a stack ----------------------------------------------------------------------- */

#define WS2_STACK_MAX 65535 /* samples */

/* `count` samples of each of `pixels` pixels. A sample can be left out: bit p%64 of skip[k][p/64] set means
 * that frame k says nothing about pixel p. Bits at and above `pixels` are ignored. The stack borrows all of
 * it. */
struct ws2_stack {
    const uint8_t *const *frame; /* [count] of u8[pixels] */
    const uint64_t *const *skip; /* [count] of u64[(pixels+63)/64], or NULL: every sample counts */
    int count;                   /* 1 .. WS2_STACK_MAX */
    int64_t pixels;
};

/* median[p] = median over the samples of pixel p as numpy.median has it: the mean of the two middle values
 * when their number is even, so always a multiple of 0.5. mad[p] = median of |sample - median[p]|, exact, also
 * a multiple of 0.5; mad may be NULL.
 * Where fewer than max(least, 1) samples are left, median[p] and mad[p] keep what the caller put there.
 * Cost: 8 or 9 passes over a tile in the cache, for any content. */
int ws2_stack_median(const struct ws2_stack *stack, int least, int threads, float *median, float *mad,
                     struct ws2_error *error);

/* mad[p] = median of |sample - centre[p]|. centre is taken as rounded to a multiple of 0.5 within 0..255. Few
 * samples: as above. */
int ws2_stack_mad(const struct ws2_stack *stack, int least, int threads, const float *centre, float *mad,
                  struct ws2_error *error);

/* The most frequent value, for belts that items hide more often than not: histogram of 64 bins of width 4, its
 * highest bin (the lowest of equals), moved by the vertex of the parabola through that bin and its two
 * neighbours (missing ones count 0), rounded to a multiple of 0.5, within 0..255. Few samples: as above. */
int ws2_stack_mode(const struct ws2_stack *stack, int least, int threads, float *mode,
                   struct ws2_error *error);

/* share[p] = share of the samples of pixel p that skip leaves out, 0..1. */
int ws2_stack_skipped(const struct ws2_stack *stack, int threads, float *share, struct ws2_error *error);

/* ---- flow: warp, composition, size -------------------------------------------------------------------------- */

/* A flow F is f32 [2,h,w] in pixels, plane 0 to the right, plane 1 down: the point p = (x, y) of this frame is at
 * p + F(p) of the other. Planes are f32 [h,w] with h * w < 2^31 and finite values; a flow that is not finite leads
 * outside. A weight is f32 [h,w], 1 where a flow is known and 0 where it is not. Nothing here starts threads. */

enum ws2_warp_rule {
    WS2_WARP_ZEROS,  /* bilinear, zeros outside: a sample on the border is shaded by what lies outside */
    WS2_WARP_INSIDE, /* bilinear, 0 unless the four neighbours, those of weight 0 apart, are inside */
    WS2_WARP_COMPAT  /* as the code published with WS2 does: the source place is x * W / (W - 1) - 0.5, and
                        samples with less than 0.9999 of their weight inside are 0, so that the outer ring of a
                        map is lost even without motion */
};

/* out(p) = in(p + F(p)) for each of `channels` planes, so the flow from this frame to the other brings the other's
 * planes to this one. valid (or NULL): u8 [h,w], 1 where the sample counts as inside (ZEROS: as INSIDE has it). A
 * flow of whole pixels shifts exactly. out must not overlap in. */
void ws2_warp(enum ws2_warp_rule rule, const float *in, int64_t channels, int64_t height, int64_t width,
              const float *flow, float *out, uint8_t *valid);

/* F_{t,t+2}(p) = first(p) + second(p + first(p)), with first = F_{t,t+1} and second = F_{t+1,t+2}. out_weight(p) =
 * first_weight(p) * second_weight(p + first(p)), and 0 where p + first(p) is outside, where the second flow is
 * continued by its border. A weight of NULL is 1 everywhere. out may be first and out_weight first_weight;
 * nothing else may overlap. */
void ws2_flow_compose(const float *first, const float *first_weight, const float *second,
                      const float *second_weight, int64_t height, int64_t width, float *out,
                      float *out_weight);

/* Bilinear as PyTorch's interpolate with align_corners=False, times factor. Sides are 1 or more. */
void ws2_plane_resize(const float *in, int64_t in_height, int64_t in_width, float factor, float *out,
                      int64_t height, int64_t width);
/* The same for both planes of a flow, in pixels of the new size: u * w / W, v * h / H. */
void ws2_flow_resize(const float *in, int64_t in_height, int64_t in_width, float *out, int64_t height,
                     int64_t width);

/* ---- dense flow between frames ------------------------------------------------------------------------------- */

/*
 * Both flows of a pair of frames and what each of them sees of the other.
 *
 * BELT: the dominant translation by phase correlation (Kuglin and Hines 1975), taken when a third of the patches with
 * texture follow it and twice as many as any other but that of glare and rails, which stand still; what else a fifth
 * of them follows is a guess for every patch. From coarse to fine each
 * patch of 8 x 8 pixels takes the best of the guesses, of the coarser flow and of its neighbours' places, and
 * descends from there by inverse search (Kroeger et al., Fast Optical Flow using Dense Inverse Search, 2016). Where a
 * motion dominates, another one has to explain a patch clearly better; and standing still, which glare does on a
 * moving belt, down to the noise. Patches that overlap are merged, pixels on which the two directions disagree are
 * hidden, and a variational step (Brox et al. 2004), in which hidden pixels follow their neighbours, makes the flow
 * smooth but for jumps.
 * DIS: the same without a dominant motion, for video that has none and for comparison.
 *
 * The finest level is the frame halved, or whole when a side is below 64 pixels. Frames of any size down to 1 x 1 have
 * a flow; without texture it is the dominant motion, or 0.
 */
enum ws2_flow_method { WS2_FLOW_BELT, WS2_FLOW_DIS };

#define WS2_FLOW_SIDE_MAX 16384
#define WS2_FLOW_LIMIT 2 /* pixels of the frame by which the way there and back may disagree */

/* What is needed of a frame, made once for the two pairs that it is in: its pyramid and its spectrum. */
struct ws2_flow_frame;

/* rgb u8 [h,w,3]. *frame is NULL or a frame made before, whose memory is used again; the caller frees it, after an
 * error too. About 5 bytes per pixel. WS2_ERR_INPUT for a side outside 1 .. WS2_FLOW_SIDE_MAX. */
int ws2_flow_frame_make(struct ws2_flow_frame **frame, const uint8_t *rgb, int width, int height,
                        struct ws2_error *error);
void ws2_flow_frame_free(struct ws2_flow_frame *frame); /* NULL is fine */
void ws2_flow_frame_size(const struct ws2_flow_frame *frame, int *width, int *height);

/* Working memory of one thread, about 45 bytes per pixel. */
struct ws2_flow;
void ws2_flow_free(struct ws2_flow *flow); /* NULL is fine */

/* Of frames a and b, equal in size: ab, ba f16 [2,h,w], the flow from a to b and that back, each found for itself;
 * ab_valid, ba_valid u8 [h,w], 1 where the point is seen in the other frame: it lies inside, and the flow back leads to
 * within two pixels of where it came from. *flow is NULL or kept from an earlier call, of frames of any size; the caller
 * frees it. */
int ws2_flow_pair(struct ws2_flow **flow, enum ws2_flow_method method, const struct ws2_flow_frame *a,
                  const struct ws2_flow_frame *b, uint16_t *ab, uint8_t *ab_valid, uint16_t *ba,
                  uint8_t *ba_valid, struct ws2_error *error);

/* The dominant translation (x, y) alone, in pixels: the highest peak of the phase correlation, 0 where there is
 * none. *flow as above. */
int ws2_flow_shift(struct ws2_flow **flow, const struct ws2_flow_frame *a, const struct ws2_flow_frame *b,
                   float shift[2], struct ws2_error *error);

/* Which pixels of frame a are seen in frame b: valid u8 [h,w] is 1 where p + ab(p) lies inside b and
 * |ab(p) + ba(p + ab(p))| <= limit pixels, bilinear; else 0, as for flows that are not finite. ab and ba f32 [2,h,w]. */
void ws2_flow_consistent(const float *ab, const float *ba, int width, int height, float limit,
                         uint8_t *valid);

/* ---- maps of neighbouring frames on one ---------------------------------------------------------------------- */

/* Frame-to-Frame (Lee et al. 2019; POF-CAM's inference on three frames). Maps M_t of frame t are f32 [c,h,w], one for
 * each class. With F_k the flow from t to t + k, composed along the flows to the next (k > 0) or the previous frame
 * (k < 0), p a pixel, and k over -K .. K without 0, as far as there are frames:
 *
 *     W_k(p) = M_{t+k}(p + F_k(p))
 *     V_k(p) = 1 where p + F_1(p), .., p + F_k(p) are all inside the picture, else 0
 *     C_k(p) = V_k(p) * product over j = 0 .. k - 1 of valid_{t+j}(p + F_j(p)), bilinear, F_0 = 0
 *     max          max(M_t, max over V_k = 1 of W_k): for maps >= 0 the max of V_k * W_k
 *     mean         (M_t + sum V_k W_k) / (1 + sum V_k)
 *     confidence   (M_t + sum C_k W_k) / (1 + sum C_k)
 *
 * With `visible`, V_k is 0 where C_k < 0.5 too. The result is divided by its maximum (0 where negative) + 1e-5, each
 * class by its own, unless `raw`. Flows of another size than the maps are resized, and so are their validities. */
enum ws2_fuse_merge { WS2_FUSE_MAX, WS2_FUSE_MEAN, WS2_FUSE_CONFIDENCE };
enum ws2_fuse_way { WS2_TO_NEXT, WS2_TO_PREVIOUS };

#define WS2_FUSE_REACH_MAX 64

struct ws2_fuse {
    enum ws2_fuse_merge merge;
    int reach;    /* K, 0 .. WS2_FUSE_REACH_MAX */
    bool visible; /* max and mean leave out what the validity of the flows says is hidden */
    bool compat;  /* maps are warped by WS2_WARP_COMPAT, whose validity is then part of V_k */
    bool raw;
};

/* What a frame lends to its neighbours. Its buffers are kept when it is filled again. */
struct ws2_fuse_frame;
struct ws2_fuse_frame *ws2_fuse_frame_new(void); /* NULL when out of memory */
void ws2_fuse_frame_free(struct ws2_fuse_frame *frame);
/* Fills it with the maps f16 [c,h,w] of frame `number`, and forgets the flows. A value that is not finite is
 * WS2_ERR_INPUT. */
int ws2_fuse_frame_maps(struct ws2_fuse_frame *frame, int64_t number, const uint16_t *maps,
                        const struct ws2_shape *shape, struct ws2_error *error);
/* After the maps: a flow f16 [2,fh,fw]. valid: u8 [fh,fw], not 0 where the flow is known, or NULL: everywhere. */
int ws2_fuse_frame_flow(struct ws2_fuse_frame *frame, enum ws2_fuse_way way, const uint16_t *flow,
                        const struct ws2_shape *shape, const uint8_t *valid, struct ws2_error *error);

/* Of one thread. Zero-initialise it. */
struct ws2_fuse_scratch {
    float *merged;
    size_t capacity;
};
void ws2_fuse_scratch_free(struct ws2_fuse_scratch *scratch);

/* The maps of window[0] merged with those of window[-K] .. window[K], NULL where there is no frame, to out f16
 * [c,h,w]. WS2_ERR_INPUT, naming the frame, when maps differ in shape or a flow between two frames is missing. */
int ws2_fuse(const struct ws2_fuse *fuse, const struct ws2_fuse_frame *const *window,
             struct ws2_fuse_scratch *scratch, uint16_t *out, struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
