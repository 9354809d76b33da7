/*
 * sam2_stream: the embedding of a frame kept in its record, so that other prompts and other levels cost the decoder only.
 *
 *     embed       f16[256,g,g]      what the encoder made of the picture; g = side / 16
 *     embed.high0 f16[32,4g,4g]     its two finer maps
 *     embed.high1 f16[64,2g,2g]
 *     embed.rgb   i64[3]            the picture: height, width and FNV-1a of its bytes
 *
 * Embeddings of other weights look alike and mean nothing, so the table of tensors tells them apart: the unit of the first
 * three is "sam2:" and the digest of the weights, and their axes are these numbers. The table goes where the tensors go,
 * through merges and new names, which the history does not. embed.rgb tells that the picture is still the same.
 *
 * Knows sam2_frame and stream.
 */
#ifndef WS2_SAM2_STREAM_H
#define WS2_SAM2_STREAM_H

#include "models/sam2_frame.h"
#include "stream/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Checks the rows of embeddings that `in` has and, with options->keep, adds them to `out` where it has none. 0, or
 * WS2_ERR_INPUT when they are of other weights, another side, another type, or one of the four is missing. */
int sam2_stream_begin(const struct sam2 *sam2, const struct sam2_frame_options *options,
                      const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error);

/* sam2_frame_masks of rgb u8[h,w,3], which is the record's, by the record's embedding if it has one: sam2_stream_begin
 * has passed the head. Otherwise the embedding is made and, with options->keep, added to the record. WS2_ERR_INPUT when
 * it has some of the tensors only, or one of another shape, of another picture, or with a value that is not finite. */
int sam2_stream_masks(const struct sam2 *sam2, const struct sam2_frame_options *options,
                      struct ws2_record *record, const struct ws2_tensor *rgb, struct sam2_frame *frame,
                      struct ws2_masks *masks, struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
