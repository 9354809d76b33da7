#include "motion/flow.h"

#include <math.h>
#include <string.h>

/* Phase correlation (Kuglin and Hines 1975): the spectra of a picture and of the same picture shifted by d differ by
 * the factor exp(-2 pi i f d), so that the inverse transform of the normalised cross spectrum has its peak at d. */

/* Cycles per pixel: what is slower is shading and glare, what is faster is noise. */
static const double slow = 0.015, fast = 0.25;

static void window(double *weight, int count)
{
    for (int i = 0; i < count; i++)
        weight[i] = 0.5 - 0.5 * cos(2 * acos(-1.0) * (i + 0.5) / count);
}

void ws2_phase_spectrum(struct ws2_flow_frame *frame)
{
    const struct level *level = &frame->level[frame->seen];
    const int columns = frame->columns, rows = frame->rows;
    const int width = level->width < columns ? level->width : columns;
    const int height = level->height < rows ? level->height : rows;
    const size_t count = (size_t)columns * (size_t)rows;
    double across[SPECTRUM_MAX], down[SPECTRUM_MAX], mean = 0;
    float *re = frame->scratch, *im = re + count;
    window(across, width);
    window(down, height);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            mean += level->image[y * level->stride + x];
    mean /= (double)width * height;
    memset(re, 0, 2 * count * sizeof *re);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            re[(int64_t)y * columns + x] =
                (float)((level->image[y * level->stride + x] - mean) * across[x] * down[y]);
    ws2_fft_rows(re, im, rows, columns, false);
    ws2_transpose(re, rows, columns, frame->spectrum[0]);
    ws2_transpose(im, rows, columns, frame->spectrum[1]);
    ws2_fft_rows(frame->spectrum[0], frame->spectrum[1], columns, rows, false);
}

static double frequency(int i, int count)
{
    return (double)(i <= count / 2 ? i : i - count) / count;
}

/* exp(-(f/limit)^2) of each frequency. */
static void falloff(float *weight, int count, double limit)
{
    for (int i = 0; i < count; i++)
        weight[i] = (float)exp(-pow(frequency(i, count) / limit, 2));
}

/* The cross spectrum, each coefficient of length 0..1 by its band. */
WS2_CLONES
static void cross(const struct ws2_flow_frame *a, const struct ws2_flow_frame *b, float *restrict re,
                  float *restrict im)
{
    float slow_x[SPECTRUM_MAX], slow_y[SPECTRUM_MAX], fast_x[SPECTRUM_MAX], fast_y[SPECTRUM_MAX];
    falloff(slow_x, a->columns, slow);
    falloff(slow_y, a->rows, slow);
    falloff(fast_x, a->columns, fast);
    falloff(fast_y, a->rows, fast);
    for (int x = 0; x < a->columns; x++) {
        const int64_t row = (int64_t)x * a->rows;
        const float *ar = a->spectrum[0] + row, *ai = a->spectrum[1] + row;
        const float *br = b->spectrum[0] + row, *bi = b->spectrum[1] + row;
        for (int y = 0; y < a->rows; y++) {
            const float r = br[y] * ar[y] + bi[y] * ai[y], s = bi[y] * ar[y] - br[y] * ai[y];
            const float band = (1 - slow_x[x] * slow_y[y]) * fast_x[x] * fast_y[y];
            const float scale = band / (sqrtf(r * r + s * s) + 1e-12f);
            re[row + y] = r * scale;
            im[row + y] = s * scale;
        }
    }
}

/* Vertex of the parabola through three values around a maximum, -0.5..0.5. */
static float vertex(float before, float at, float after)
{
    const float bend = before - 2 * at + after;
    return bend < 0 ? 0.5f * (before - after) / bend : 0;
}

static float around(const float *surface, int columns, int rows, int x, int y)
{
    return surface[(int64_t)((y + rows) % rows) * columns + (x + columns) % columns];
}

int ws2_phase_peaks(const struct ws2_flow_frame *a, const struct ws2_flow_frame *b, int most,
                    float (*shift)[2], float *scratch)
{
    const int columns = a->columns, rows = a->rows;
    const size_t count = (size_t)columns * (size_t)rows;
    float *re = scratch, *im = re + count, *surface = im + count, *other = surface + count;
    cross(a, b, re, im);
    ws2_fft_rows(re, im, columns, rows, true);
    ws2_transpose(re, columns, rows, surface);
    ws2_transpose(im, columns, rows, other);
    ws2_fft_rows(surface, other, rows, columns, true);
    int found = 0;
    float highest = 0;
    for (; found < most; found++) {
        size_t best = 0;
        for (size_t i = 1; i < count; i++)
            best = surface[i] > surface[best] ? i : best;
        const int x = (int)(best % (size_t)columns), y = (int)(best / (size_t)columns);
        if (!(surface[best] > 0) || surface[best] < 0.1f * highest)
            break;
        highest = found == 0 ? surface[best] : highest;
        shift[found][0] = (float)(x <= columns / 2 ? x : x - columns) +
                          vertex(around(surface, columns, rows, x - 1, y), surface[best],
                                 around(surface, columns, rows, x + 1, y));
        shift[found][1] = (float)(y <= rows / 2 ? y : y - rows) +
                          vertex(around(surface, columns, rows, x, y - 1), surface[best],
                                 around(surface, columns, rows, x, y + 1));
        for (int j = y - 3; j <= y + 3; j++) /* its slopes are no peaks of their own */
            for (int i = x - 3; i <= x + 3; i++)
                surface[(int64_t)((j + rows) % rows) * columns + (i + columns) % columns] = 0;
    }
    return found;
}
