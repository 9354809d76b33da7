/*
 * Planar YCbCr to RGB in integers, the same on every processor. Chroma is interpolated linearly between its samples at
 * their true positions; the sums carry 20 fractional bits and are rounded once. swscale can do the same only on a path
 * that is many times slower.
 */
#include <math.h>
#include <string.h>
#include "image/internal.h"

/* One line of samples as integers; bits that a broken stream has above the depth are dropped. */
static void widen_line(int32_t *restrict out, const uint8_t *restrict in, int count, int depth)
{
    if (depth > 8) {
        for (int i = 0; i < count; i++) {
            uint16_t sample;

            memcpy(&sample, in + 2 * i, sizeof sample);
            out[i] = sample & ((1 << depth) - 1);
        }
    } else {
        for (int i = 0; i < count; i++)
            out[i] = in[i];
    }
}

/* line[0..count-1] = 4 times the chroma at this luma row; line[-1] and line[count] repeat the edge. */
WS2_CLONES static void chroma_down(int32_t *restrict line, int32_t *restrict other,
                                   const struct image_yuv *yuv, int p, int y, int count)
{
    const int rows = (yuv->height + (1 << yuv->shift_y) - 1) >> yuv->shift_y;
    const int near = y >> yuv->shift_y, odd = y & 1;
    int far = near, weight = 0; /* quarters of the farther row */

    if (yuv->shift_y == 1 && yuv->top) {
        far = near + odd;
        weight = odd ? 2 : 0;
    } else if (yuv->shift_y == 1) {
        far = odd ? near + 1 : near - 1;
        weight = 1;
    }
    far = far < 0 ? 0 : far >= rows ? rows - 1 : far;
    widen_line(line, yuv->plane[p] + (ptrdiff_t)near * yuv->stride[p], count, yuv->depth);
    widen_line(other, yuv->plane[p] + (ptrdiff_t)far * yuv->stride[p], count, yuv->depth);
    for (int i = 0; i < count; i++)
        line[i] = line[i] * (4 - weight) + other[i] * weight;
    line[-1] = line[0];
    line[count] = line[count - 1];
}

/* out[0..width-1] = 16 times the chroma; out has room for one more. */
WS2_CLONES static void chroma_across(int32_t *restrict out, const int32_t *restrict line,
                                     const struct image_yuv *yuv, int count)
{
    if (yuv->shift_x == 0) {
        for (int i = 0; i < count; i++)
            out[i] = 4 * line[i];
    } else if (yuv->left) {
        for (int i = 0; i < count; i++) {
            out[2 * i] = 4 * line[i];
            out[2 * i + 1] = 2 * (line[i] + line[i + 1]);
        }
    } else {
        for (int i = 0; i < count; i++) {
            out[2 * i] = line[i - 1] + 3 * line[i];
            out[2 * i + 1] = 3 * line[i] + line[i + 1];
        }
    }
}

#define FRACTION 20 /* bits; the largest sum is below 2^30 */

/* Factors with FRACTION bits; those of chroma expect 16 times the sample. */
struct matrix {
    int32_t luma, luma_zero, chroma_zero, red_v, green_u, green_v, blue_u;
};

static struct matrix make_matrix(const struct image_yuv *yuv)
{
    const double kr = yuv->kr, kb = yuv->kb, kg = 1.0 - kr - kb;
    const double unit = 1 << (yuv->depth - 8), top = (1 << yuv->depth) - 1;
    const double luma = (1 << FRACTION) * 255.0 / (yuv->full ? top : 219.0 * unit);
    const double chroma = (1 << FRACTION) / 16.0 * 255.0 / (yuv->full ? top : 224.0 * unit);

    return (struct matrix){.luma = (int32_t)lrint(luma),
                           .luma_zero = yuv->full ? 0 : 16 << (yuv->depth - 8),
                           .chroma_zero = 16 * (128 << (yuv->depth - 8)),
                           .red_v = (int32_t)lrint(chroma * 2.0 * (1.0 - kr)),
                           .green_u = (int32_t)lrint(-chroma * 2.0 * (1.0 - kb) * kb / kg),
                           .green_v = (int32_t)lrint(-chroma * 2.0 * (1.0 - kr) * kr / kg),
                           .blue_u = (int32_t)lrint(chroma * 2.0 * (1.0 - kb))};
}

static inline uint8_t clip_sum(int32_t sum)
{
    const int32_t value = (sum + (1 << (FRACTION - 1))) >> FRACTION;

    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

WS2_CLONES static void mix_line(uint8_t *restrict rgb, const int32_t *restrict luma,
                                const int32_t *restrict u, const int32_t *restrict v, int width,
                                const struct matrix *matrix)
{
    const struct matrix m = *matrix;

    for (int x = 0; x < width; x++) {
        const int32_t y = (luma[x] - m.luma_zero) * m.luma;
        const int32_t cb = u[x] - m.chroma_zero, cr = v[x] - m.chroma_zero;

        rgb[3 * x] = clip_sum(y + cr * m.red_v);
        rgb[3 * x + 1] = clip_sum(y + cb * m.green_u + cr * m.green_v);
        rgb[3 * x + 2] = clip_sum(y + cb * m.blue_u);
    }
}

size_t image_yuv_scratch(int width)
{
    return ((size_t)width + 8) * 5 * sizeof(int32_t);
}

void image_yuv_rgb(uint8_t *rgb, const struct image_yuv *yuv, void *scratch)
{
    const int count = (yuv->width + (1 << yuv->shift_x) - 1) >> yuv->shift_x;
    const size_t room = (size_t)yuv->width + 8;
    const struct matrix matrix = make_matrix(yuv);
    int32_t *luma = scratch, *u = luma + room, *v = u + room, *line = v + room + 1, *other = line + room - 1;

    for (int y = 0; y < yuv->height; y++) {
        widen_line(luma, yuv->plane[0] + (ptrdiff_t)y * yuv->stride[0], yuv->width, yuv->depth);
        chroma_down(line, other, yuv, 1, y, count);
        chroma_across(u, line, yuv, count);
        chroma_down(line, other, yuv, 2, y, count);
        chroma_across(v, line, yuv, count);
        mix_line(rgb + (size_t)y * (size_t)yuv->width * 3, luma, u, v, yuv->width, &matrix);
    }
}
