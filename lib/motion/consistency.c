#include "motion/motion.h"

/* Bilinear value of a plane inside its frame. */
static inline float value_at(const float *plane, int width, int height, float x, float y)
{
    const int ix = (int)x, iy = (int)y;
    const int64_t right = ix + 1 < width, below = iy + 1 < height ? width : 0;
    const float fx = x - (float)ix, fy = y - (float)iy;
    const float *at = plane + (int64_t)iy * width + ix;
    const float top = at[0] + fx * (at[right] - at[0]);
    const float low = at[below] + fx * (at[below + right] - at[below]);
    return top + fy * (low - top);
}

WS2_CLONES
void ws2_flow_consistent(const float *ab, const float *ba, int width, int height, float limit, uint8_t *valid)
{
    const int64_t pixels = (int64_t)width * height;
    const float right = (float)(width - 1), bottom = (float)(height - 1);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const int64_t i = (int64_t)y * width + x;
            const float u = ab[i], v = ab[pixels + i];
            const float px = (float)x + u, py = (float)y + v;
            const bool inside = px >= 0 && py >= 0 && px <= right && py <= bottom;
            const float sx = inside ? px : 0, sy = inside ? py : 0;
            const float du = u + value_at(ba, width, height, sx, sy);
            const float dv = v + value_at(ba + pixels, width, height, sx, sy);
            valid[i] = inside && du * du + dv * dv <= limit * limit;
        }
    }
}
