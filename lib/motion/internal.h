/* What the files of this room share: where a piece of one row samples another frame. */
#ifndef WS2_MOTION_INTERNAL_H
#define WS2_MOTION_INTERNAL_H

#include "motion/motion.h"

enum { WS2_TAPS_MAX = 256 }; /* pixels of a piece */

/* The four neighbours of each place, as offsets into a plane: top left, top right, bottom left, bottom right. Those
 * outside are moved to the border; `weight` is 0 for them, so that it gives zeros outside. x and y are the place
 * within the four for those that want a plain interpolation, exact where all four are equal. */
struct ws2_taps {
    int32_t at[4][WS2_TAPS_MAX];
    float weight[4][WS2_TAPS_MAX];
    float x[WS2_TAPS_MAX], y[WS2_TAPS_MAX];
    uint8_t valid[WS2_TAPS_MAX]; /* as the rule of ws2_warp has it */
};

/* Places of the pixels (column + i, row), i < count <= WS2_TAPS_MAX, moved by (u[i], v[i]). */
void ws2_taps_make(struct ws2_taps *taps, enum ws2_warp_rule rule, int64_t height, int64_t width, int64_t row,
                   int64_t column, int count, const float *u, const float *v);
/* Sampled values of one plane: zeros outside. */
void ws2_taps_padded(const struct ws2_taps *taps, const float *plane, int count, float *out);
/* The same where valid[i] of WS2_WARP_INSIDE; elsewhere, the plane is continued by its border. */
void ws2_taps_inside(const struct ws2_taps *taps, const float *plane, int count, float *out);
/* One step on along a way: (u, v) becomes F + second(p + F), with the taps of p + F made by WS2_WARP_INSIDE; weight, that
 * of the way so far, becomes that of both, 0 outside. second is f32 [2, pixels], second_weight may be NULL. */
void ws2_taps_step(const struct ws2_taps *taps, const float *second, const float *second_weight,
                   int64_t pixels, int count, float *u, float *v, float *weight);

#endif
