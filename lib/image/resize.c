/*
 * Resizing in two one-dimensional passes over precomputed taps. Every output has the same number of taps (windows at the
 * edge are moved inwards and filled with zero weights), so that inner loops have no branches.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "image/internal.h"

#define FIXED_BITS 22 /* Pillow: 32 - 8 bits of the sample - 2 bits of head room */

struct axis {
    int in, out, taps;
    int *start;     /* [out]; start + taps <= in */
    float *weight;  /* [out,taps]; sums to 1 */
    int32_t *fixed; /* [out,taps], PIL kernels only */
};

struct ws2_resizer {
    enum ws2_kernel kernel;
    struct axis x, y;
    void *scratch;
    size_t capacity;
};

static const char *const kernel_names[WS2_KERNELS] = {"nearest", "area",         "bilinear",
                                                      "bicubic", "pil-bilinear", "pil-bicubic"};

const char *ws2_kernel_name(enum ws2_kernel kernel)
{
    return kernel_names[kernel];
}

int ws2_kernel_parse(const char *name, enum ws2_kernel *kernel)
{
    for (int i = 0; i < WS2_KERNELS; i++)
        if (strcmp(name, kernel_names[i]) == 0) {
            *kernel = (enum ws2_kernel)i;
            return 0;
        }
    return WS2_ERR_USAGE;
}

/* ---- taps ---------------------------------------------------------------------------------------- */

static double triangle(double t)
{
    t = fabs(t);
    return t < 1.0 ? 1.0 - t : 0.0;
}

/* Keys' cubic convolution kernel. */
static double cubic(double t, double a)
{
    t = fabs(t);
    if (t < 1.0)
        return ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0;
    return t < 2.0 ? (((t - 5.0) * t + 8.0) * t - 4.0) * a : 0.0;
}

static bool is_pil(enum ws2_kernel kernel)
{
    return kernel == WS2_PIL_BILINEAR || kernel == WS2_PIL_BICUBIC;
}

static double pil_support(enum ws2_kernel kernel, double scale)
{
    return (kernel == WS2_PIL_BILINEAR ? 1.0 : 2.0) * fmax(scale, 1.0);
}

/* Upper bound of the taps of one output. */
static int window_max(enum ws2_kernel kernel, int in, double scale)
{
    double taps = 4.0;

    if (is_pil(kernel))
        taps = 2.0 * ceil(pil_support(kernel, scale)) + 2.0;
    else if (kernel == WS2_AREA)
        taps = ceil(scale) + 2.0;
    return taps < in ? (int)taps : in;
}

static int clamp_int(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

/* Window of output i of an antialiased kernel as Pillow makes it; returns the number of taps. */
static int window_pil(enum ws2_kernel kernel, int i, int in, double scale, int *start, double *weight)
{
    const double support = pil_support(kernel, scale), centre = (i + 0.5) * scale,
                 inverse = 1.0 / fmax(scale, 1.0);
    const int low = centre - support + 0.5 < 0 ? 0 : (int)(centre - support + 0.5);
    const int high = centre + support + 0.5 > in ? in : (int)(centre + support + 0.5);
    double sum = 0.0;

    for (int j = low; j < high; j++) {
        const double t = (j - centre + 0.5) * inverse;

        weight[j - low] = kernel == WS2_PIL_BILINEAR ? triangle(t) : cubic(t, -0.5);
        sum += weight[j - low];
    }
    for (int j = low; j < high && sum != 0.0; j++)
        weight[j - low] /= sum;
    *start = low;
    return high - low;
}

/* Share of each source pixel in the box [i s, (i+1) s). */
static int window_area(int i, int in, double scale, int *start, double *weight)
{
    const double from = i * scale, to = (i + 1) * scale;
    const int low = clamp_int((int)floor(from), 0, in - 1);
    const int high = clamp_int((int)ceil(to - 1e-9), low + 1, in);

    for (int j = low; j < high; j++)
        weight[j - low] = fmax(0.0, fmin(to, j + 1.0) - fmax(from, j)) / scale;
    *start = low;
    return high - low;
}

/* Taps without antialias, those outside folded onto the edge pixel. */
static int window_point(enum ws2_kernel kernel, int i, int in, double scale, int *start, double *weight)
{
    const double centre = (i + 0.5) * scale - 0.5;
    const double at = kernel == WS2_BILINEAR ? fmax(centre, 0.0) : centre;
    const int base = (int)floor(at), reach = kernel == WS2_BILINEAR ? 0 : 1;
    const int low = clamp_int(base - reach, 0, in - 1), high = clamp_int(base + 1 + reach, 0, in - 1);

    memset(weight, 0, (size_t)(high - low + 1) * sizeof *weight);
    for (int j = base - reach; j <= base + 1 + reach; j++)
        weight[clamp_int(j, 0, in - 1) - low] +=
            kernel == WS2_BILINEAR ? triangle(at - j) : cubic(at - j, -0.75);
    *start = low;
    return high - low + 1;
}

static int window_make(enum ws2_kernel kernel, int i, int in, double scale, int *start, double *weight)
{
    switch (kernel) {
    case WS2_NEAREST:
        *start = clamp_int((int)floor((i + 0.5) * scale), 0, in - 1);
        weight[0] = 1.0;
        return 1;
    case WS2_AREA:
        return window_area(i, in, scale, start, weight);
    case WS2_PIL_BILINEAR:
    case WS2_PIL_BICUBIC:
        return window_pil(kernel, i, in, scale, start, weight);
    default:
        return window_point(kernel, i, in, scale, start, weight);
    }
}

static void axis_free(struct axis *axis)
{
    free(axis->start);
    free(axis->weight);
    free(axis->fixed);
}

/* Stores the window of output i at its place, moved inwards when it would reach beyond the source. */
static void axis_store(struct axis *axis, int i, int start, int count, const double *weight)
{
    const int moved = start + axis->taps > axis->in ? axis->in - axis->taps : start;

    axis->start[i] = moved;
    for (int t = 0; t < count; t++) {
        const size_t at = (size_t)i * (size_t)axis->taps + (size_t)(start - moved + t);

        axis->weight[at] = (float)weight[t];
        axis->fixed[at] = (int32_t)(weight[t] * (1 << FIXED_BITS) + (weight[t] < 0 ? -0.5 : 0.5));
    }
}

static int axis_make(struct axis *axis, enum ws2_kernel kernel, int in, int out)
{
    const double scale = (double)in / out;
    double *weight = ws2_calloc((size_t)window_max(kernel, in, scale) + 2, sizeof *weight);
    int start, taps = 1;
    size_t slots;

    for (int i = 0; weight && i < out; i++) {
        const int count = window_make(kernel, i, in, scale, &start, weight);

        taps = count > taps ? count : taps;
    }
    axis->in = in;
    axis->out = out;
    axis->taps = taps;
    axis->start = ws2_calloc((size_t)out, sizeof *axis->start);
    if (!ws2_mul_size((size_t)out, (size_t)taps, &slots))
        slots = SIZE_MAX;
    axis->weight = ws2_calloc(slots, sizeof *axis->weight);
    axis->fixed = ws2_calloc(slots, sizeof *axis->fixed);
    if (!weight || !axis->start || !axis->weight || !axis->fixed) {
        free(weight);
        return WS2_ERR_SYSTEM;
    }
    for (int i = 0; i < out; i++) {
        const int count = window_make(kernel, i, in, scale, &start, weight);

        axis_store(axis, i, start, count, weight);
    }
    free(weight);
    return 0;
}

struct ws2_resizer *ws2_resizer_new(int in_width, int in_height, int out_width, int out_height,
                                    enum ws2_kernel kernel, struct ws2_error *error)
{
    struct ws2_resizer *resizer;

    if (in_width < 1 || in_height < 1 || out_width < 1 || out_height < 1 || in_width > WS2_IMAGE_SIDE_MAX ||
        in_height > WS2_IMAGE_SIDE_MAX || out_width > WS2_IMAGE_SIDE_MAX || out_height > WS2_IMAGE_SIDE_MAX) {
        ws2_fail(error, WS2_ERR_USAGE, "cannot resize %d x %d to %d x %d", in_width, in_height, out_width,
                 out_height);
        return NULL;
    }
    resizer = ws2_calloc(1, sizeof *resizer);
    if (resizer) {
        resizer->kernel = kernel;
        if (axis_make(&resizer->x, kernel, in_width, out_width) == 0 &&
            axis_make(&resizer->y, kernel, in_height, out_height) == 0)
            return resizer;
    }
    ws2_resizer_free(resizer);
    ws2_fail(error, WS2_ERR_SYSTEM, "no memory for resizing");
    return NULL;
}

void ws2_resizer_free(struct ws2_resizer *resizer)
{
    if (!resizer)
        return;
    axis_free(&resizer->x);
    axis_free(&resizer->y);
    free(resizer->scratch);
    free(resizer);
}

int ws2_resizer_fit(struct ws2_resizer **resizer, int in_width, int in_height, int out_width, int out_height,
                    enum ws2_kernel kernel, struct ws2_error *error)
{
    const struct ws2_resizer *have = *resizer;

    if (have && have->kernel == kernel && have->x.in == in_width && have->y.in == in_height &&
        have->x.out == out_width && have->y.out == out_height)
        return 0;
    ws2_resizer_free(*resizer);
    *resizer = ws2_resizer_new(in_width, in_height, out_width, out_height, kernel, error);
    return *resizer ? 0 : error ? error->status : WS2_ERR_SYSTEM;
}

static float *resizer_scratch(struct ws2_resizer *resizer, size_t bytes, struct ws2_error *error)
{
    if (ws2_reserve(&resizer->scratch, &resizer->capacity, bytes)) {
        ws2_fail(error, WS2_ERR_SYSTEM, "no memory for resizing");
        return NULL;
    }
    return resizer->scratch;
}

/* ---- Pillow's fixed point ------------------------------------------------------------------------ */

static inline uint8_t clip_fixed(int32_t sum)
{
    const int32_t value = sum >> FIXED_BITS;

    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* One row; c is a constant in each of the callers, so that the channel loops unroll. */
static inline __attribute__((always_inline)) void fixed_row(uint8_t *restrict out, const uint8_t *restrict in,
                                                            const struct axis *axis, const int c)
{
    const int taps = axis->taps;

    for (int x = 0; x < axis->out; x++) {
        const uint8_t *p = in + (size_t)axis->start[x] * (size_t)c;
        const int32_t *k = axis->fixed + (size_t)x * (size_t)taps;
        int32_t sum[4] = {1 << (FIXED_BITS - 1), 1 << (FIXED_BITS - 1), 1 << (FIXED_BITS - 1),
                          1 << (FIXED_BITS - 1)};

        for (int t = 0; t < taps; t++)
            for (int j = 0; j < c; j++)
                sum[j] += k[t] * p[t * c + j];
        for (int j = 0; j < c; j++)
            out[x * c + j] = clip_fixed(sum[j]);
    }
}

WS2_CLONES static void fixed_horizontal(uint8_t *dst, const uint8_t *src, const struct axis *axis, int rows,
                                        int c)
{
    const size_t in_stride = (size_t)axis->in * (size_t)c, out_stride = (size_t)axis->out * (size_t)c;

    for (int y = 0; y < rows; y++) {
        uint8_t *out = dst + (size_t)y * out_stride;
        const uint8_t *in = src + (size_t)y * in_stride;

        if (c == 1)
            fixed_row(out, in, axis, 1);
        else if (c == 3)
            fixed_row(out, in, axis, 3);
        else
            fixed_row(out, in, axis, 4);
    }
}

#define BLOCK 64 /* columns summed at once: their accumulators stay in registers or the first cache level */

WS2_CLONES static void fixed_vertical(uint8_t *dst, const uint8_t *src, const struct axis *axis,
                                      size_t stride)
{
    for (int y = 0; y < axis->out; y++) {
        const int32_t *k = axis->fixed + (size_t)y * (size_t)axis->taps;
        const uint8_t *first = src + (size_t)axis->start[y] * stride;
        uint8_t *out = dst + (size_t)y * stride;

        for (size_t at = 0; at < stride; at += BLOCK) {
            const size_t width = stride - at < BLOCK ? stride - at : BLOCK;
            int32_t sum[BLOCK];

            for (size_t i = 0; i < BLOCK; i++)
                sum[i] = 1 << (FIXED_BITS - 1);
            for (int t = 0; t < axis->taps; t++) {
                const uint8_t *row = first + (size_t)t * stride + at;

                if (width == BLOCK)
                    for (size_t i = 0; i < BLOCK; i++)
                        sum[i] += k[t] * row[i];
                else
                    for (size_t i = 0; i < width; i++)
                        sum[i] += k[t] * row[i];
            }
            for (size_t i = 0; i < width; i++)
                out[at + i] = clip_fixed(sum[i]);
        }
    }
}

/* A pass whose size does not change is skipped, as in Pillow. */
static int resize_fixed(struct ws2_resizer *resizer, uint8_t *dst, const uint8_t *src, int c,
                        struct ws2_error *error)
{
    const struct axis *x = &resizer->x, *y = &resizer->y;
    const bool across = x->in != x->out, down = y->in != y->out;
    const size_t out_stride = (size_t)x->out * (size_t)c;
    const uint8_t *middle = src;

    if (!across && !down) {
        memcpy(dst, src, (size_t)y->in * out_stride);
        return 0;
    }
    if (across) {
        uint8_t *to = dst;

        if (down) {
            to = (uint8_t *)resizer_scratch(resizer, (size_t)y->in * out_stride, error);
            if (!to)
                return WS2_ERR_SYSTEM;
        }
        fixed_horizontal(to, src, x, y->in, c);
        middle = to;
    }
    if (down)
        fixed_vertical(dst, middle, y, out_stride);
    return 0;
}

/* ---- float passes -------------------------------------------------------------------------------- */

/* out[i] = sum over taps of weight[t] rows[t][i] */
WS2_CLONES static void blend_rows_f32(float *restrict out, const float *restrict rows, size_t stride,
                                      size_t count, const float *weight, int taps)
{
    if (taps == 2) {
        for (size_t i = 0; i < count; i++)
            out[i] = weight[0] * rows[i] + weight[1] * rows[stride + i];
        return;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = weight[0] * rows[i];
    for (int t = 1; t < taps; t++) {
        const float *row = rows + (size_t)t * stride;

        for (size_t i = 0; i < count; i++)
            out[i] += weight[t] * row[i];
    }
}

WS2_CLONES static void blend_rows_u8(float *restrict out, const uint8_t *restrict rows, size_t stride,
                                     size_t count, const float *weight, int taps)
{
    if (taps == 2) {
        for (size_t i = 0; i < count; i++)
            out[i] = weight[0] * rows[i] + weight[1] * rows[stride + i];
        return;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = weight[0] * rows[i];
    for (int t = 1; t < taps; t++) {
        const uint8_t *row = rows + (size_t)t * stride;

        for (size_t i = 0; i < count; i++)
            out[i] += weight[t] * row[i];
    }
}

static inline __attribute__((always_inline)) void across_row(float *restrict out, const float *restrict in,
                                                             const struct axis *axis, const int c)
{
    const int taps = axis->taps;

    for (int x = 0; x < axis->out; x++) {
        const float *p = in + (size_t)axis->start[x] * (size_t)c;
        const float *w = axis->weight + (size_t)x * (size_t)taps;
        float sum[4] = {0};

        for (int t = 0; t < taps; t++)
            for (int j = 0; j < c; j++)
                sum[j] += w[t] * p[t * c + j];
        for (int j = 0; j < c; j++)
            out[x * c + j] = sum[j];
    }
}

/* Two taps, one channel: the common case of maps, where the compiler can gather. */
static inline __attribute__((always_inline)) void across_row_2(float *restrict out, const float *restrict in,
                                                               const struct axis *axis)
{
    const int *restrict start = axis->start;
    const float *restrict weight = axis->weight;

    for (int x = 0; x < axis->out; x++)
        out[x] = weight[2 * x] * in[start[x]] + weight[2 * x + 1] * in[start[x] + 1];
}

WS2_CLONES static void across_rows(float *out, const float *in, const struct axis *axis, int rows, int c)
{
    for (int y = 0; y < rows; y++) {
        if (c == 1 && axis->taps == 2)
            across_row_2(out, in, axis);
        else if (c == 1)
            across_row(out, in, axis, 1);
        else if (c == 3)
            across_row(out, in, axis, 3);
        else
            across_row(out, in, axis, 4);
        out += (size_t)axis->out * (size_t)c;
        in += (size_t)axis->in * (size_t)c;
    }
}

/* The pass along rows is the dear one: do it where there are fewer rows. */
static bool down_first(const struct ws2_resizer *resizer)
{
    const struct axis *x = &resizer->x, *y = &resizer->y;
    const double dear = 4.0;
    const double down = (double)y->out * x->in * y->taps + dear * y->out * (double)x->out * x->taps;
    const double across = dear * y->in * (double)x->out * x->taps + (double)y->out * x->out * y->taps;

    return down < across;
}

WS2_CLONES static void round_row(uint8_t *restrict out, const float *restrict in, size_t count)
{
    /* Adding and taking away 1.5 * 2^23 rounds to the nearest integer, halves to even. */
    const float magic = 12582912.0f;

    for (size_t i = 0; i < count; i++) {
        const float value = in[i] < 0.0f ? 0.0f : in[i] > 255.0f ? 255.0f : in[i];

        out[i] = (uint8_t)(int)(value + magic - magic);
    }
}

WS2_CLONES static void widen_row(float *restrict out, const uint8_t *restrict in, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = in[i];
}

/* Down first: one row of sums at a time. */
static int resize_u8_down(struct ws2_resizer *resizer, uint8_t *dst, const uint8_t *src, int c,
                          struct ws2_error *error)
{
    const struct axis *x = &resizer->x, *y = &resizer->y;
    const size_t in_stride = (size_t)x->in * (size_t)c, out_stride = (size_t)x->out * (size_t)c;
    float *sums = resizer_scratch(resizer, (in_stride + out_stride) * sizeof *sums, error);
    float *line = sums + in_stride;

    if (!sums)
        return WS2_ERR_SYSTEM;
    for (int i = 0; i < y->out; i++) {
        blend_rows_u8(sums, src + (size_t)y->start[i] * in_stride, in_stride, in_stride,
                      y->weight + (size_t)i * (size_t)y->taps, y->taps);
        across_rows(line, sums, x, 1, c);
        round_row(dst + (size_t)i * out_stride, line, out_stride);
    }
    return 0;
}

/* Across first: all source rows at the new width, then sums of them. */
static int resize_u8_across(struct ws2_resizer *resizer, uint8_t *dst, const uint8_t *src, int c,
                            struct ws2_error *error)
{
    const struct axis *x = &resizer->x, *y = &resizer->y;
    const size_t in_stride = (size_t)x->in * (size_t)c, out_stride = (size_t)x->out * (size_t)c;
    float *rows =
        resizer_scratch(resizer, ((size_t)y->in * out_stride + out_stride + in_stride) * sizeof *rows, error);
    float *line, *wide;

    if (!rows)
        return WS2_ERR_SYSTEM;
    line = rows + (size_t)y->in * out_stride;
    wide = line + out_stride;
    for (int i = 0; i < y->in; i++) {
        widen_row(wide, src + (size_t)i * in_stride, in_stride);
        across_rows(rows + (size_t)i * out_stride, wide, x, 1, c);
    }
    for (int i = 0; i < y->out; i++) {
        blend_rows_f32(line, rows + (size_t)y->start[i] * out_stride, out_stride, out_stride,
                       y->weight + (size_t)i * (size_t)y->taps, y->taps);
        round_row(dst + (size_t)i * out_stride, line, out_stride);
    }
    return 0;
}

static void resize_nearest(const struct ws2_resizer *resizer, uint8_t *dst, const uint8_t *src, size_t size)
{
    const struct axis *x = &resizer->x, *y = &resizer->y;

    for (int i = 0; i < y->out; i++) {
        const uint8_t *row = src + (size_t)y->start[i] * (size_t)x->in * size;

        for (int j = 0; j < x->out; j++, dst += size)
            memcpy(dst, row + (size_t)x->start[j] * size, size);
    }
}

int ws2_resizer_u8(struct ws2_resizer *resizer, uint8_t *dst, const uint8_t *src, int channels,
                   struct ws2_error *error)
{
    if (channels != 1 && channels != 3 && channels != 4)
        return ws2_fail(error, WS2_ERR_USAGE, "a picture of %d channels is not supported", channels);
    if (resizer->kernel == WS2_NEAREST) {
        resize_nearest(resizer, dst, src, (size_t)channels);
        return 0;
    }
    if (is_pil(resizer->kernel))
        return resize_fixed(resizer, dst, src, channels, error);
    return down_first(resizer) ? resize_u8_down(resizer, dst, src, channels, error)
                               : resize_u8_across(resizer, dst, src, channels, error);
}

/* ---- float maps ---------------------------------------------------------------------------------- */

static void resize_plane_down(const struct ws2_resizer *resizer, float *dst, const float *src, float *sums)
{
    const struct axis *x = &resizer->x, *y = &resizer->y;

    for (int i = 0; i < y->out; i++) {
        blend_rows_f32(sums, src + (size_t)y->start[i] * (size_t)x->in, (size_t)x->in, (size_t)x->in,
                       y->weight + (size_t)i * (size_t)y->taps, y->taps);
        across_rows(dst + (size_t)i * (size_t)x->out, sums, x, 1, 1);
    }
}

static void resize_plane_across(const struct ws2_resizer *resizer, float *dst, const float *src, float *rows)
{
    const struct axis *x = &resizer->x, *y = &resizer->y;

    across_rows(rows, src, x, y->in, 1);
    for (int i = 0; i < y->out; i++)
        blend_rows_f32(dst + (size_t)i * (size_t)x->out, rows + (size_t)y->start[i] * (size_t)x->out,
                       (size_t)x->out, (size_t)x->out, y->weight + (size_t)i * (size_t)y->taps, y->taps);
}

int ws2_resizer_f32(struct ws2_resizer *resizer, float *dst, const float *src, int64_t planes,
                    struct ws2_error *error)
{
    const struct axis *x = &resizer->x, *y = &resizer->y;
    const size_t in_plane = (size_t)x->in * (size_t)y->in, out_plane = (size_t)x->out * (size_t)y->out;
    const bool down = down_first(resizer);
    const size_t floats = down ? (size_t)x->in : (size_t)y->in * (size_t)x->out;
    float *scratch;

    if (resizer->kernel == WS2_NEAREST) {
        for (int64_t i = 0; i < planes; i++)
            resize_nearest(resizer, (uint8_t *)(dst + (size_t)i * out_plane),
                           (const uint8_t *)(src + (size_t)i * in_plane), sizeof *dst);
        return 0;
    }
    scratch = resizer_scratch(resizer, floats * sizeof *scratch, error);
    if (!scratch)
        return WS2_ERR_SYSTEM;
    for (int64_t i = 0; i < planes; i++)
        (down ? resize_plane_down : resize_plane_across)(resizer, dst + (size_t)i * out_plane,
                                                         src + (size_t)i * in_plane, scratch);
    return 0;
}

/* ---- one-shot forms ------------------------------------------------------------------------------ */

int ws2_image_resize(struct ws2_image *to, const struct ws2_image *from, int width, int height,
                     enum ws2_kernel kernel, struct ws2_error *error)
{
    struct ws2_resizer *resizer = ws2_resizer_new(from->width, from->height, width, height, kernel, error);
    int status = resizer ? ws2_image_reset(to, width, height, from->channels, error) : WS2_ERR_SYSTEM;

    if (status == 0)
        status = ws2_resizer_u8(resizer, to->data, from->data, from->channels, error);
    ws2_resizer_free(resizer);
    return status;
}

int ws2_resize_f32(float *dst, int out_width, int out_height, const float *src, int in_width, int in_height,
                   int64_t planes, enum ws2_kernel kernel, struct ws2_error *error)
{
    struct ws2_resizer *resizer = ws2_resizer_new(in_width, in_height, out_width, out_height, kernel, error);
    const int status = resizer ? ws2_resizer_f32(resizer, dst, src, planes, error) : WS2_ERR_SYSTEM;

    ws2_resizer_free(resizer);
    return status;
}
