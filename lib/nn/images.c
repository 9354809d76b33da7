/*
 * Pixels to normalised floats, out of torch_data.cpp so that the loops are plain C that vectorises.
 *
 * (v/255 - mean)/std is computed as v * scale + shift; the difference is in the last bit. Interleaved pixels are
 * taken sixteen at a time: 48 values of a period of three channels, so that no gather is needed.
 */
#include "nn/internal.h"

#define GROUP 48

struct affine {
    float scale[3], shift[3];
};

static struct affine affine_make(double unit, const float mean[3], const float std[3])
{
    struct affine t;
    for (int c = 0; c < 3; c++) {
        t.scale[c] = (float)(unit / std[c]);
        t.shift[c] = (float)(-(double)mean[c] / std[c]);
    }
    return t;
}

static void repeat_affine(const struct affine *t, float scale[GROUP], float shift[GROUP])
{
    for (int i = 0; i < GROUP; i++) {
        scale[i] = t->scale[i % 3];
        shift[i] = t->shift[i % 3];
    }
}

WS2_CLONES static void interleaved_u8(float *restrict out, const uint8_t *restrict in, int64_t count,
                                      const float *restrict scale, const float *restrict shift)
{
    int64_t i = 0;
    for (; i + GROUP <= count; i += GROUP)
        for (int k = 0; k < GROUP; k++)
            out[i + k] = (float)in[i + k] * scale[k] + shift[k];
    for (int k = 0; i + k < count; k++)
        out[i + k] = (float)in[i + k] * scale[k] + shift[k];
}

WS2_CLONES static void interleaved_f32(float *restrict out, const float *restrict in, int64_t count,
                                       const float *restrict scale, const float *restrict shift)
{
    int64_t i = 0;
    for (; i + GROUP <= count; i += GROUP)
        for (int k = 0; k < GROUP; k++)
            out[i + k] = in[i + k] * scale[k] + shift[k];
    for (int k = 0; i + k < count; k++)
        out[i + k] = in[i + k] * scale[k] + shift[k];
}

WS2_CLONES static void planar_u8(float *restrict red, float *restrict green, float *restrict blue,
                                 const uint8_t *restrict in, int64_t pixels, const struct affine *t)
{
    for (int64_t i = 0; i < pixels; i++) {
        red[i] = (float)in[3 * i] * t->scale[0] + t->shift[0];
        green[i] = (float)in[3 * i + 1] * t->scale[1] + t->shift[1];
        blue[i] = (float)in[3 * i + 2] * t->scale[2] + t->shift[2];
    }
}

WS2_CLONES static void planar_f32(float *restrict red, float *restrict green, float *restrict blue,
                                  const float *restrict in, int64_t pixels, const struct affine *t)
{
    for (int64_t i = 0; i < pixels; i++) {
        red[i] = in[3 * i] * t->scale[0] + t->shift[0];
        green[i] = in[3 * i + 1] * t->scale[1] + t->shift[1];
        blue[i] = in[3 * i + 2] * t->scale[2] + t->shift[2];
    }
}

void nn_normalise_u8(float *out, const uint8_t *rgb, int64_t pixels, bool planar, const float mean[3],
                     const float std[3])
{
    struct affine t = affine_make(1.0 / 255.0, mean, std);
    if (planar) {
        planar_u8(out, out + pixels, out + 2 * pixels, rgb, pixels, &t);
    } else {
        float scale[GROUP], shift[GROUP];
        repeat_affine(&t, scale, shift);
        interleaved_u8(out, rgb, 3 * pixels, scale, shift);
    }
}

void nn_normalise_f32(float *out, const float *rgb, int64_t pixels, bool planar, const float mean[3],
                      const float std[3])
{
    struct affine t = affine_make(1.0, mean, std);
    if (planar) {
        planar_f32(out, out + pixels, out + 2 * pixels, rgb, pixels, &t);
    } else {
        float scale[GROUP], shift[GROUP];
        repeat_affine(&t, scale, shift);
        interleaved_f32(out, rgb, 3 * pixels, scale, shift);
    }
}
