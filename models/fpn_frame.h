/*
 * fpn_frame: how unwanted each pixel of a frame is, by a dense network.
 *
 * Knows fpn, lib/mask (flat fields alone) and lib/image.
 */
#ifndef WS2_FPN_FRAME_H
#define WS2_FPN_FRAME_H

#include "models/fpn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Memory of one thread. Zero-initialise it. */
struct fpn_frame {
    const struct ws2_flat *flat; /* set by the caller: frames go through it first; NULL: they do not */
    struct ws2_flat_scratch even;
    struct ws2_resizer *rgb, *fg, *back;
    uint8_t *picture; /* [4,size,size,3]: as the network sees it, and mirrored */
    uint8_t *mask;    /* [size,size] */
    float *small;     /* [size,size] what the network says */
    float *value;     /* f32[h,w], the probability of being unwanted, valid until the next call */
    size_t picture_capacity, mask_capacity, small_capacity, value_capacity;
};

/* rgb u8[h,w,3], fg u8[h,w] 0/1 or NULL -> frame->value; what is not fg has no colour for the network, as in training, and is 0
 * in the result. Other sizes than info.size are resized before (Pillow's bilinear, masks by nearest neighbour) and after
 * (bilinear). tta: the mean over the picture and its three mirror images. The thread enters the network's context; an error of
 * the network is reported and forgotten. */
int fpn_frame_run(const struct fpn *fpn, int64_t height, int64_t width, const uint8_t *rgb, const uint8_t *fg,
                  bool tta, struct fpn_frame *frame, struct ws2_error *error);
void fpn_frame_free(struct fpn_frame *frame);

#ifdef __cplusplus
}
#endif

#endif
