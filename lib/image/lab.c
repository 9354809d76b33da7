/* CIE L*a*b* of sRGB. */
#include <math.h>
#include "image/image.h"

/* XYZ over the white D65, of linear sRGB (IEC 61966-2-1): rows sum to 1. */
static const float over_white[3][3] = {{0.412453f / 0.950456f, 0.357580f / 0.950456f, 0.180423f / 0.950456f},
                                       {0.212671f, 0.715160f, 0.072169f},
                                       {0.019334f / 1.088754f, 0.119193f / 1.088754f, 0.950227f / 1.088754f}};

enum { STEPS = 4096 };

struct tables {
    float linear[256];     /* of a sample */
    float root[STEPS + 2]; /* f at i / STEPS */
};

static double root_of(double t)
{
    return t > 216.0 / 24389 ? cbrt(t) : (24389.0 / 27 * t + 16) / 116;
}

static void fill(struct tables *tables)
{
    for (int i = 0; i < 256; i++) {
        const double s = i / 255.0;
        tables->linear[i] = (float)(s <= 0.04045 ? s / 12.92 : pow((s + 0.055) / 1.055, 2.4));
    }
    for (int i = 0; i < STEPS + 2; i++)
        tables->root[i] = (float)root_of((double)i / STEPS);
}

static inline float look_up(const float *root, float t)
{
    const float place = t * STEPS;
    const int cell = (int)place;
    return root[cell] + (place - (float)cell) * (root[cell + 1] - root[cell]);
}

void ws2_lab_f32(float *lab, const uint8_t *rgb, size_t pixels)
{
    struct tables tables;
    float *l = lab, *a = lab + pixels, *b = lab + 2 * pixels;

    fill(&tables);
    for (size_t i = 0; i < pixels; i++) {
        const float red = tables.linear[rgb[3 * i]], green = tables.linear[rgb[3 * i + 1]],
                    blue = tables.linear[rgb[3 * i + 2]];
        float f[3];
        for (int k = 0; k < 3; k++) {
            const float *row = over_white[k];
            f[k] = look_up(tables.root, row[0] * red + row[1] * green + row[2] * blue);
        }
        l[i] = 116 * f[1] - 16;
        a[i] = 500 * (f[0] - f[1]);
        b[i] = 200 * (f[1] - f[2]);
    }
}
