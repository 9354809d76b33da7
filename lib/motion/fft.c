#include "motion/flow.h"

#include <math.h>

/* Iterative radix-2 transform, decimation in time. The inner loops run over m neighbouring columns, so that every
 * vector unit is full whatever n is. */

static void swap_rows(float *re, float *im, int64_t m, int64_t a, int64_t b)
{
    for (int64_t i = 0; i < m; i++) {
        const float r = re[a * m + i], s = im[a * m + i];
        re[a * m + i] = re[b * m + i];
        im[a * m + i] = im[b * m + i];
        re[b * m + i] = r;
        im[b * m + i] = s;
    }
}

static void reverse_bits(float *re, float *im, int n, int m)
{
    for (int i = 1, j = 0; i < n; i++) {
        int bit = n >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j |= bit;
        if (i < j)
            swap_rows(re, im, m, i, j);
    }
}

/* (a, b) -> (a + w b, a - w b) over m columns. */
INLINE void butterfly(float *restrict ar, float *restrict ai, float *restrict br, float *restrict bi, int m,
                      float wr, float wi)
{
    for (int i = 0; i < m; i++) {
        const float r = wr * br[i] - wi * bi[i];
        const float s = wr * bi[i] + wi * br[i];
        br[i] = ar[i] - r;
        bi[i] = ai[i] - s;
        ar[i] += r;
        ai[i] += s;
    }
}

WS2_CLONES
void ws2_fft_rows(float *re, float *im, int n, int m, bool inverse)
{
    reverse_bits(re, im, n, m);
    const double turn = (inverse ? 2 : -2) * acos(-1.0);
    for (int half = 1; half < n; half *= 2) {
        for (int k = 0; k < half; k++) {
            const float wr = (float)cos(turn * k / (2 * half)), wi = (float)sin(turn * k / (2 * half));
            for (int i = k; i < n; i += 2 * half) {
                const int64_t a = (int64_t)i * m, b = (int64_t)(i + half) * m;
                butterfly(re + a, im + a, re + b, im + b, m, wr, wi);
            }
        }
    }
}

WS2_CLONES
void ws2_transpose(const float *in, int n, int m, float *out)
{
    enum { TILE = 16 };
    for (int y = 0; y < n; y += TILE)
        for (int x = 0; x < m; x += TILE)
            for (int j = y; j < n && j < y + TILE; j++)
                for (int i = x; i < m && i < x + TILE; i++)
                    out[(int64_t)i * n + j] = in[(int64_t)j * m + i];
}
