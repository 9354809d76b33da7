#include "motion/motion.h"

/* 16 pixels at a time: three loads of 16 bytes, and for each colour two byte shuffles. Byte j of colour c is
 * byte 3j+c of the 48, so the first two loads give bytes 0..31 and the third the rest. */
typedef uint8_t bytes16 __attribute__((vector_size(16)));

static inline uint8_t luma_of(uint32_t red, uint32_t green, uint32_t blue)
{
    return (uint8_t)((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16);
}

WS2_CLONES
void ws2_rgb_planes(const uint8_t *rgb, int64_t pixels, uint8_t *restrict red, uint8_t *restrict green,
                    uint8_t *restrict blue, uint8_t *restrict luma)
{
    int64_t p = 0;
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
    for (; p + 16 <= pixels; p += 16) {
        bytes16 a, b, c;
        __builtin_memcpy(&a, rgb + 3 * p, 16);
        __builtin_memcpy(&b, rgb + 3 * p + 16, 16);
        __builtin_memcpy(&c, rgb + 3 * p + 32, 16);
        const bytes16 r0 =
            __builtin_shufflevector(a, b, 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0);
        const bytes16 g0 =
            __builtin_shufflevector(a, b, 1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0);
        const bytes16 b0 =
            __builtin_shufflevector(a, b, 2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0);
        const bytes16 r1 =
            __builtin_shufflevector(r0, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29);
        const bytes16 g1 =
            __builtin_shufflevector(g0, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30);
        const bytes16 b1 =
            __builtin_shufflevector(b0, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31);
        __builtin_memcpy(red + p, &r1, 16);
        __builtin_memcpy(green + p, &g1, 16);
        __builtin_memcpy(blue + p, &b1, 16);
    }
#endif
#endif
    for (; p < pixels; p++) {
        red[p] = rgb[3 * p];
        green[p] = rgb[3 * p + 1];
        blue[p] = rgb[3 * p + 2];
    }
    for (p = 0; p < pixels; p++)
        luma[p] = luma_of(red[p], green[p], blue[p]);
}
