/* What the files of this room share. */
#ifndef WS2_TRAIN_INTERNAL_H
#define WS2_TRAIN_INTERNAL_H

#include "train/train.h"

/* Reads frame `frame` of clip number `clip` into record. Safe from several threads. */
int ws2_clips_read(struct ws2_clips *clips, int clip, int64_t frame, struct ws2_record *record,
                   struct ws2_error *error);

/* A flow f16 [2,height,width] in pixels as f32 [2,cells,cells] in cells of a map that covers the same frame: bilinear,
 * u times cells/width, v times cells/height. False when a value it needs is no finite number. */
bool ws2_flow_to_cells(float *out, const uint16_t *flow, int width, int height, int cells);
/* The flow f32 [2,cells,cells] of pictures that are mirrored left to right (x), upside down (y). */
void ws2_flow_mirror(float *flow, int cells, bool x, bool y);

/* Independent streams of random numbers of one seed. */
enum ws2_stream_kind {
    WS2_STREAM_SPLIT = 1,
    WS2_STREAM_ORDER,
    WS2_STREAM_AUGMENT,
    WS2_STREAM_BELT,
    WS2_STREAM_PASTE
};
struct ws2_random ws2_train_random(int64_t seed, enum ws2_stream_kind kind, int64_t epoch, int64_t index);

/* The state of a run between two epochs, as kept in "output.last". */
struct ws2_state {
    int64_t epoch;      /* epochs done */
    int64_t step;       /* steps done */
    int64_t best_epoch; /* 1-based, 0 = none yet */
    double best_key, best_tie;
};

/* Weights, optimiser, state and meta. */
int ws2_state_save(const struct ws2_state *state, const struct nn_params *params,
                   const struct nn_optim *optim, const struct ws2_meta *meta, const char *path,
                   struct ws2_error *error);
/* The reverse; meta of the file must equal `meta` entry by entry, or the message names the first difference. */
int ws2_state_load(struct ws2_state *state, struct nn_params *params, struct nn_optim *optim,
                   const struct ws2_meta *meta, const char *path, struct ws2_error *error);

#endif
