/* Luma, HSV and colour jitter. The 8-bit forms follow Pillow to the bit, because the papers' data went through it. */
#include <math.h>
#include "image/internal.h"

const uint8_t ws2_fill_colour[2][3] = {{0, 0, 0}, {124, 116, 104}};

WS2_CLONES void ws2_luma_f32(float *luma, const uint8_t *rgb, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++)
        luma[i] = 0.299f * rgb[3 * i] + 0.587f * rgb[3 * i + 1] + 0.114f * rgb[3 * i + 2];
}

/* The weights times 2^16; their sum is 65536, so white stays white. */
static inline uint8_t luma_of(const uint8_t *rgb)
{
    return (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
}

/* luma may be the same memory as rgb: the result never runs ahead of what is read. */
WS2_CLONES void ws2_luma_u8(uint8_t *luma, const uint8_t *rgb, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++)
        luma[i] = luma_of(rgb + 3 * i);
}

/* ---- HSV in floats ------------------------------------------------------------------------------- */

static inline float hue_of(float r, float g, float b, float high, float spread)
{
    float h;

    if (spread == 0.0f)
        return 0.0f;
    if (high == r)
        h = (g - b) / spread;
    else if (high == g)
        h = 2.0f + (b - r) / spread;
    else
        h = 4.0f + (r - g) / spread;
    h *= 1.0f / 6.0f;
    return h < 0.0f ? h + 1.0f : h;
}

WS2_CLONES static void hues(float *restrict hue, const uint8_t *restrict rgb, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++) {
        const float r = rgb[3 * i], g = rgb[3 * i + 1], b = rgb[3 * i + 2];
        const float high = fmaxf(r, fmaxf(g, b)), low = fminf(r, fminf(g, b));

        hue[i] = hue_of(r, g, b, high, high - low);
    }
}

WS2_CLONES static void saturations(float *restrict saturation, const uint8_t *restrict rgb, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++) {
        const int r = rgb[3 * i], g = rgb[3 * i + 1], b = rgb[3 * i + 2];
        const int high = r > g ? (r > b ? r : b) : (g > b ? g : b),
                  low = r < g ? (r < b ? r : b) : (g < b ? g : b);

        saturation[i] = (float)(high - low) / (float)(high > 0 ? high : 1);
    }
}

WS2_CLONES static void values(float *restrict value, const uint8_t *restrict rgb, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++) {
        const int r = rgb[3 * i], g = rgb[3 * i + 1], b = rgb[3 * i + 2];
        const int high = r > g ? (r > b ? r : b) : (g > b ? g : b);

        value[i] = (float)high / 255.0f;
    }
}

void ws2_hsv_f32(float *hue, float *saturation, float *value, const uint8_t *rgb, size_t pixels)
{
    if (hue)
        hues(hue, rgb, pixels);
    if (saturation)
        saturations(saturation, rgb, pixels);
    if (value)
        values(value, rgb, pixels);
}

static uint8_t unit_to_u8(float value)
{
    return (uint8_t)lrintf(255.0f * (value < 0.0f ? 0.0f : value > 1.0f ? 1.0f : value));
}

void ws2_hsv_rgb(float h, float s, float v, uint8_t rgb[3])
{
    const float turn = (h - floorf(h)) * 6.0f;
    const float offset[3] = {0.0f, 4.0f, 2.0f};

    /* Each channel is full within 1/6 of a turn around its own hue and falls linearly over the next sixth. */
    for (int k = 0; k < 3; k++) {
        const float at = fmodf(turn + offset[k], 6.0f);
        const float colour = fminf(fmaxf(fabsf(at - 3.0f) - 1.0f, 0.0f), 1.0f);

        rgb[k] = unit_to_u8(v * (1.0f - s + s * colour));
    }
}

/* ---- jitter -------------------------------------------------------------------------------------- */

/* base + f (x - base), cut towards zero and clipped: Pillow's blend. */
static inline uint8_t blend_u8(int base, int x, float factor)
{
    const float value = (float)base + factor * (float)(x - base);

    return (uint8_t)(value <= 0.0f ? 0 : value >= 255.0f ? 255 : (int)value);
}

WS2_CLONES static void blend_constant(uint8_t *samples, size_t count, int base, float factor)
{
    for (size_t i = 0; i < count; i++)
        samples[i] = blend_u8(base, samples[i], factor);
}

WS2_CLONES static uint64_t luma_sum(const uint8_t *rgb, size_t pixels)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < pixels; i++)
        sum += luma_of(rgb + 3 * i);
    return sum;
}

static void jitter_contrast(uint8_t *rgb, size_t pixels, float factor)
{
    const double mean = (double)luma_sum(rgb, pixels) / (double)pixels;

    blend_constant(rgb, 3 * pixels, (int)(mean + 0.5), factor);
}

WS2_CLONES static void jitter_saturation(uint8_t *rgb, size_t pixels, float factor)
{
    for (size_t i = 0; i < pixels; i++) {
        const int luma = luma_of(rgb + 3 * i);

        for (size_t k = 0; k < 3; k++)
            rgb[3 * i + k] = blend_u8(luma, rgb[3 * i + k], factor);
    }
}

/* 8-bit hue, saturation, value of a pixel that is not grey. The widths of the intermediates are Pillow's. */
static void hsv_from_rgb_u8(const uint8_t rgb[3], int high, int low, uint8_t hsv[3])
{
    const float spread = (float)(high - low);
    const float r = (float)(high - rgb[0]) / spread, g = (float)(high - rgb[1]) / spread;
    const float b = (float)(high - rgb[2]) / spread;
    float h;
    double turn;

    if (rgb[0] == high)
        h = b - g;
    else if (rgb[1] == high)
        h = (float)(2.0 + r - b);
    else
        h = (float)(4.0 + g - r);
    turn = h / 6.0 + 1.0;
    h = (float)(turn >= 1.0 ? turn - 1.0 : turn);
    hsv[0] = (uint8_t)(int)(h * 255.0);
    hsv[1] = (uint8_t)(int)(spread / (float)high * 255.0);
    hsv[2] = (uint8_t)high;
}

static void rgb_from_hsv_u8(const uint8_t hsv[3], uint8_t rgb[3])
{
    /* Which of value, p, q, t (0..3) goes to red, green and blue in each sixth of the turn. */
    static const uint8_t place[6][3] = {{0, 3, 1}, {2, 0, 1}, {1, 0, 3}, {1, 2, 0}, {3, 1, 0}, {0, 1, 2}};
    const int sixth = (int)floor((double)hsv[0] * 6.0 / 255.0);
    const float f = (float)((float)hsv[0] * 6.0 / 255.0 - (float)sixth);
    const float s = (float)((float)hsv[1] / 255.0);
    const double v = hsv[2];
    const uint8_t level[4] = {hsv[2], (uint8_t)(int)(v * (1.0 - s) + 0.5),
                              (uint8_t)(int)(v * (1.0 - s * f) + 0.5),
                              (uint8_t)(int)(v * (1.0 - s * (1.0 - f)) + 0.5)};

    for (int k = 0; k < 3; k++)
        rgb[k] = level[place[sixth % 6][k]];
}

static void jitter_hue(uint8_t *rgb, size_t pixels, float hue)
{
    const int shift = (int)(hue * 255.0f);

    for (size_t i = 0; i < pixels; i++) {
        uint8_t *p = rgb + 3 * i;
        const int high = p[0] > p[1] ? (p[0] > p[2] ? p[0] : p[2]) : (p[1] > p[2] ? p[1] : p[2]);
        const int low = p[0] < p[1] ? (p[0] < p[2] ? p[0] : p[2]) : (p[1] < p[2] ? p[1] : p[2]);
        uint8_t hsv[3];

        if (high == low)
            continue;
        hsv_from_rgb_u8(p, high, low, hsv);
        hsv[0] = (uint8_t)(hsv[0] + shift);
        rgb_from_hsv_u8(hsv, p);
    }
}

void ws2_jitter_apply(uint8_t *rgb, size_t pixels, const struct ws2_jitter *jitter)
{
    for (int i = 0; i < 4 && pixels > 0; i++) {
        switch (jitter->order[i]) {
        case WS2_JITTER_BRIGHTNESS:
            if (jitter->brightness != 1.0f)
                blend_constant(rgb, 3 * pixels, 0, jitter->brightness);
            break;
        case WS2_JITTER_CONTRAST:
            if (jitter->contrast != 1.0f)
                jitter_contrast(rgb, pixels, jitter->contrast);
            break;
        case WS2_JITTER_SATURATION:
            if (jitter->saturation != 1.0f)
                jitter_saturation(rgb, pixels, jitter->saturation);
            break;
        case WS2_JITTER_HUE:
            if (jitter->hue != 0.0f)
                jitter_hue(rgb, pixels, jitter->hue);
            break;
        }
    }
}
