/* Foreground mask of one 1000x1000 frame in memory, one thread. Peer: the same procedure with NumPy and OpenCV
 * on the same pictures; the share of foreground is printed by both, and should agree. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "share.h"
#include "mask/mask.h"

enum { SIDE = 1000, PIXELS = SIDE * SIDE, FRAMES = 4, ROUNDS = 10, DISCS = 24 };

/* Grey belt, noise of deviation 3 (sum of four bytes), a glare patch, discs of six colours. */
static void paint(uint8_t *rgb, uint32_t frame)
{
    static const uint8_t colour[6][3] = {{190, 190, 190}, {40, 45, 42},   {110, 160, 60},
                                         {200, 60, 50},   {120, 118, 60}, {235, 235, 240}};
    for (uint32_t i = 0; i < 3 * PIXELS; i++) {
        const uint32_t h = hash(i + frame * 3 * PIXELS), y = i / 3 / SIDE, x = i / 3 % SIDE;
        const int sum = (int)((h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24));
        const int noise = (3 * sum + 13270) / 148 - 100;
        rgb[i] = (uint8_t)((y >= 100 && y < 160 && x >= 300 && x < 420 ? 244 : 110) + noise);
    }
    for (uint32_t d = 0; d < DISCS; d++) {
        const uint32_t h = hash(frame * DISCS + d + 77);
        const int cy = (int)(h % SIDE), cx = (int)(h / SIDE % SIDE), radius = 15 + (int)(h >> 20) % 60;
        for (int y = cy - radius; y <= cy + radius; y++) {
            for (int x = cx - radius; x <= cx + radius; x++) {
                const int square = (y - cy) * (y - cy) + (x - cx) * (x - cx);
                if (y < 0 || x < 0 || y >= SIDE || x >= SIDE || square > radius * radius)
                    continue;
                /* Every second disc is a ring: belt shows through its middle. */
                if (d % 2 && square < radius * radius / 4)
                    continue;
                memcpy(rgb + 3 * (y * SIDE + x), colour[d % 6], 3);
            }
        }
    }
}

int main(void)
{
    struct ws2_belt belt;
    struct ws2_foreground *foreground;
    const struct ws2_foreground_params params = ws2_foreground_defaults();
    uint8_t *rgb = malloc((size_t)FRAMES * PIXELS * 3), *fg = malloc(PIXELS);
    if (rgb == NULL || fg == NULL || ws2_belt_make(&belt, SIDE, SIDE, false, NULL) != 0)
        return 5;
    for (int p = 0; p < PIXELS; p++) {
        const int y = p / SIDE, x = p % SIDE;
        belt.luma[p] = y >= 100 && y < 160 && x >= 300 && x < 420 ? 244.0f : 110.0f;
        belt.scale[p] = 2.5f;
    }
    belt.saturation[0] = 8.0f;
    belt.saturation[1] = 3.0f;
    for (uint32_t k = 0; k < FRAMES; k++)
        paint(rgb + (size_t)k * 3 * PIXELS, k);
    if (ws2_foreground_new(&foreground, &belt, &params, NULL) != 0)
        return 5;
    struct ws2_foreground_scratch *scratch = ws2_foreground_scratch_new(foreground);
    double best = 1e9;
    int64_t ones = 0;
    for (int i = 0; i < ROUNDS; i++) {
        const double start = now();
        ones = 0;
        for (int k = 0; k < FRAMES; k++) {
            if (ws2_foreground_mask(foreground, scratch, rgb + (size_t)k * 3 * PIXELS, fg, NULL) != 0)
                return 5;
            ones += ws2_bits_count(ws2_foreground_bits(scratch));
        }
        const double spent = now() - start;
        best = spent < best ? spent : best;
    }
    printf("background mask 1000x1000\t%.3f\tms\n", 1e3 * best / FRAMES);
    printf("background mask: foreground found\t%.4f\t%%\n", 100.0 * (double)ones / FRAMES / PIXELS);
    ws2_foreground_scratch_free(scratch);
    ws2_foreground_free(foreground);
    ws2_belt_free(&belt);
    free(rgb);
    free(fg);
    return 0;
}
