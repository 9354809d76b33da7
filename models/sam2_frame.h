/*
 * sam2_frame: the instance masks of one frame by SAM 2, of everything in it or of what points and boxes mean, in layers
 * (lib/mask) beside a table of boxes and scores.
 *
 * Knows sam2, its generator and mask.
 */
#ifndef WS2_SAM2_FRAME_H
#define WS2_SAM2_FRAME_H

#include "models/sam2_generate.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sam2_frame_options {
    struct sam2_generate_options generate; /* with prompts: its threshold, offset, batch and side */
    const float *point;                    /* [points,2] x, y in pixels: a mask for each */
    int64_t points;
    const float *box; /* [boxes,4] left, top, right, bottom: a mask for each, after those of the points */
    int64_t boxes;
    bool keep; /* leave what the encoder made of the picture in frame->embedding */
};

/* Memory of one thread. Zero-initialise it. */
struct sam2_frame {
    struct ws2_layers layers;
    int32_t *box;
    float *score, *stability;
    struct sam2_found found;
    float *embedding; /* of the whole picture, see sam2_embedding_to_f32 */
    bool given;       /* it is there already, for the side of the options, and is not made once more */
    size_t embedding_capacity, box_capacity, score_capacity, stability_capacity;
};

/* rgb u8[h,w,3] -> masks, best score first or in the order of the prompts, valid until the next call; the box of an empty
 * mask is all 0, and so is the stability of one without a pixel above either level. A picture without pixels has none.
 * Without prompts they are the generator's. A point gets the one of three candidates that the network believes in most, a
 * box the one for all prompts. With frame->given the encoder runs for the generator's crops only. The thread enters the network's context; an error of the network is reported and
 * forgotten. 0 or a status. */
int sam2_frame_masks(const struct sam2 *sam2, const struct sam2_frame_options *options, int64_t height,
                     int64_t width, const uint8_t *rgb, struct sam2_frame *frame, struct ws2_masks *masks,
                     struct ws2_error *error);
/* Room for an embedding of this side. 0 or WS2_ERR_SYSTEM. */
int sam2_frame_reserve(struct sam2_frame *frame, int64_t side);
void sam2_frame_free(struct sam2_frame *frame);

#ifdef __cplusplus
}
#endif

#endif
