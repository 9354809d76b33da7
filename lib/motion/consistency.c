#include "motion/motion.h"

/* Where in a row or column of `count` samples the position falls: the lower of its two neighbours, and how far it is
 * from there to the upper one. The position must be within 0 .. count-1. */
static inline int32_t lower(float position, int32_t count)
{
    const int32_t whole = (int32_t)position, most = count > 1 ? count - 2 : 0;
    return whole < most ? whole : most;
}

static inline float within(float position, float last)
{
    return position > 0 ? (position < last ? position : last) : 0;
}

/* One row. Positions outside are moved to the edge for the look-up and ruled out at the end, so that the loop has no
 * branch; a flow that is no number compares as outside. */
WS2_CLONES
static void check_row(const float *restrict u, const float *restrict v, const float *restrict back_u,
                      const float *restrict back_v, int32_t width, int32_t height, int32_t row, float limit,
                      uint8_t *restrict valid)
{
    const float last_x = (float)(width - 1), last_y = (float)(height - 1);
    const int32_t right = width > 1, down = height > 1 ? width : 0;
    for (int32_t i = 0; i < width; i++) {
        const float to_x = (float)i + u[i], to_y = (float)row + v[i];
        const float x = within(to_x, last_x), y = within(to_y, last_y);
        const int32_t x0 = lower(x, width), y0 = lower(y, height), at = y0 * width + x0;
        const float fx = x - (float)x0, fy = y - (float)y0;
        const float a = (1 - fx) * (1 - fy), b = fx * (1 - fy), c = (1 - fx) * fy, d = fx * fy;
        const float bu =
            a * back_u[at] + b * back_u[at + right] + c * back_u[at + down] + d * back_u[at + down + right];
        const float bv =
            a * back_v[at] + b * back_v[at + right] + c * back_v[at + down] + d * back_v[at + down + right];
        const float gap = (u[i] + bu) * (u[i] + bu) + (v[i] + bv) * (v[i] + bv);
        const int inside = (to_x >= 0) & (to_x <= last_x) & (to_y >= 0) & (to_y <= last_y);
        valid[i] = (uint8_t)(inside & (gap <= limit * limit));
    }
}

void ws2_flow_consistent(const float *ab, const float *ba, int width, int height, float limit, uint8_t *valid)
{
    const int64_t plane = (int64_t)width * height;
    for (int row = 0; row < height; row++) {
        const int64_t at = (int64_t)row * width;
        check_row(ab + at, ab + plane + at, ba, ba + plane, width, height, row, limit, valid + at);
    }
}
