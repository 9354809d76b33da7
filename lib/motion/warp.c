/* Backward warp, resizing and composition of flow: see motion.h. All of it works on pieces of rows, first the places of
 * the samples, then one plane after the other, so that the inner loops have no branches. */
#include <math.h>
#include <string.h>
#include "motion/internal.h"

#define COMPAT_LEAST 0.9999f /* share of a sample's weight that must lie inside */

/* ---- places ---------------------------------------------------------------------------------------------- */

/* Places along one axis: where pixels go, as the rule has it. compat: the reference normalises with n - 1 and samples
 * with n; its order of operations is kept, since what it rounds decides which side of the border a place is on. */
WS2_CLONES
static void axis_move(float *restrict place, float first, float step, const float *restrict move, int count,
                      bool compat, float side)
{
    const float span = side > 1 ? side - 1 : 1;
    for (int i = 0; i < count; i++)
        place[i] = first + step * (float)i + move[i];
    for (int i = 0; compat && i < count; i++)
        place[i] = ((2.0f * place[i] / span - 1.0f) + 1.0f) * (side / 2) - 0.5f;
}

/* Splits places into the pixel before, clamped, the one after, clamped, the way between, and the weights of both, 0
 * outside. Far places and those that are not numbers are brought near first: outside all the same. */
WS2_CLONES
static void axis_split(const float *restrict place, int count, int32_t side, int32_t *restrict low,
                       int32_t *restrict high, float *restrict way, float *restrict low_weight,
                       float *restrict high_weight)
{
    const float far = (float)side + 1;
    for (int i = 0; i < count; i++) {
        float p = place[i] > -2 ? place[i] : -2;
        p = p < far ? p : far;
        int32_t at = (int32_t)p;
        at -= p < (float)at;
        const float t = p - (float)at;
        way[i] = t;
        low_weight[i] = (float)((at >= 0) & (at < side)) * (1 - t); /* a product: no branch */
        high_weight[i] = (float)((at >= -1) & (at < side - 1)) * t;
        const int32_t next = at + 1;
        low[i] = at < 0 ? 0 : at < side ? at : side - 1;
        high[i] = next < 0 ? 0 : next < side ? next : side - 1;
    }
}

WS2_CLONES
static void corners(struct ws2_taps *restrict taps, int count, int32_t width, const int32_t *restrict left,
                    const int32_t *restrict right, const int32_t *restrict top,
                    const int32_t *restrict bottom)
{
    for (int i = 0; i < count; i++) {
        taps->at[0][i] = top[i] * width + left[i];
        taps->at[1][i] = top[i] * width + right[i];
        taps->at[2][i] = bottom[i] * width + left[i];
        taps->at[3][i] = bottom[i] * width + right[i];
    }
}

WS2_CLONES
static void corner_weights(struct ws2_taps *restrict taps, int count, const float *restrict left,
                           const float *restrict right, const float *restrict top,
                           const float *restrict bottom)
{
    for (int i = 0; i < count; i++) {
        taps->weight[0][i] = top[i] * left[i];
        taps->weight[1][i] = top[i] * right[i];
        taps->weight[2][i] = bottom[i] * left[i];
        taps->weight[3][i] = bottom[i] * right[i];
    }
}

/* All neighbours with a weight are inside. */
WS2_CLONES
static void valid_inside(uint8_t *restrict valid, const float *restrict x, const float *restrict y, int count,
                         float last_x, float last_y)
{
    for (int i = 0; i < count; i++)
        valid[i] = (uint8_t)((x[i] >= 0) & (x[i] <= last_x) & (y[i] >= 0) & (y[i] <= last_y));
}

/* A plane of ones, sampled, reaches the threshold. */
WS2_CLONES
static void valid_compat(struct ws2_taps *taps, int count)
{
    for (int i = 0; i < count; i++)
        taps->valid[i] =
            taps->weight[0][i] + taps->weight[1][i] + taps->weight[2][i] + taps->weight[3][i] >= COMPAT_LEAST;
}

void ws2_taps_make(struct ws2_taps *taps, enum ws2_warp_rule rule, int64_t height, int64_t width, int64_t row,
                   int64_t column, int count, const float *u, const float *v)
{
    float x[WS2_TAPS_MAX], y[WS2_TAPS_MAX], weight[4][WS2_TAPS_MAX];
    int32_t side[4][WS2_TAPS_MAX];
    axis_move(x, (float)column, 1, u, count, rule == WS2_WARP_COMPAT, (float)width);
    axis_move(y, (float)row, 0, v, count, rule == WS2_WARP_COMPAT, (float)height);
    axis_split(x, count, (int32_t)width, side[0], side[1], taps->x, weight[0], weight[1]);
    axis_split(y, count, (int32_t)height, side[2], side[3], taps->y, weight[2], weight[3]);
    corners(taps, count, (int32_t)width, side[0], side[1], side[2], side[3]);
    corner_weights(taps, count, weight[0], weight[1], weight[2], weight[3]);
    if (rule == WS2_WARP_COMPAT)
        valid_compat(taps, count);
    else
        valid_inside(taps->valid, x, y, count, (float)(width - 1), (float)(height - 1));
}

WS2_CLONES
void ws2_taps_padded(const struct ws2_taps *taps, const float *restrict plane, int count, float *restrict out)
{
    for (int i = 0; i < count; i++)
        out[i] = (taps->weight[0][i] * plane[taps->at[0][i]] + taps->weight[1][i] * plane[taps->at[1][i]]) +
                 (taps->weight[2][i] * plane[taps->at[2][i]] + taps->weight[3][i] * plane[taps->at[3][i]]);
}

WS2_CLONES
void ws2_taps_inside(const struct ws2_taps *taps, const float *restrict plane, int count, float *restrict out)
{
    for (int i = 0; i < count; i++) {
        const float a = plane[taps->at[0][i]], b = plane[taps->at[1][i]];
        const float c = plane[taps->at[2][i]], d = plane[taps->at[3][i]];
        const float top = a + taps->x[i] * (b - a), bottom = c + taps->x[i] * (d - c);
        out[i] = top + taps->y[i] * (bottom - top);
    }
}

/* ---- warp ------------------------------------------------------------------------------------------------ */

WS2_CLONES
static void keep_valid(float *restrict out, const uint8_t *restrict valid, int count)
{
    for (int i = 0; i < count; i++)
        out[i] = valid[i] ? out[i] : 0;
}

void ws2_warp(enum ws2_warp_rule rule, const float *in, int64_t channels, int64_t height, int64_t width,
              const float *flow, float *out, uint8_t *valid)
{
    struct ws2_taps taps;
    const int64_t pixels = height * width;
    for (int64_t row = 0; row < height; row++) {
        for (int64_t column = 0; column < width; column += WS2_TAPS_MAX) {
            const int count = width - column < WS2_TAPS_MAX ? (int)(width - column) : WS2_TAPS_MAX;
            const int64_t at = row * width + column;
            ws2_taps_make(&taps, rule, height, width, row, column, count, flow + at, flow + pixels + at);
            for (int64_t c = 0; c < channels; c++) {
                if (rule == WS2_WARP_INSIDE)
                    ws2_taps_inside(&taps, in + c * pixels, count, out + c * pixels + at);
                else
                    ws2_taps_padded(&taps, in + c * pixels, count, out + c * pixels + at);
                if (rule != WS2_WARP_ZEROS)
                    keep_valid(out + c * pixels + at, taps.valid, count);
            }
            if (valid != NULL)
                memcpy(valid + at, taps.valid, (size_t)count);
        }
    }
}

/* ---- composition ------------------------------------------------------------------------------------------ */

void ws2_taps_step(const struct ws2_taps *taps, const float *second, const float *second_weight,
                   int64_t pixels, int count, float *u, float *v, float *weight)
{
    float more[WS2_TAPS_MAX];
    ws2_taps_inside(taps, second, count, more);
    for (int i = 0; i < count; i++)
        u[i] += more[i];
    ws2_taps_inside(taps, second + pixels, count, more);
    for (int i = 0; i < count; i++)
        v[i] += more[i];
    if (second_weight != NULL) {
        ws2_taps_inside(taps, second_weight, count, more);
        for (int i = 0; i < count; i++)
            weight[i] *= more[i];
    }
    keep_valid(weight, taps->valid, count);
}

void ws2_flow_compose(const float *first, const float *first_weight, const float *second,
                      const float *second_weight, int64_t height, int64_t width, float *out,
                      float *out_weight)
{
    struct ws2_taps taps;
    const int64_t pixels = height * width;
    for (int64_t row = 0; row < height; row++) {
        for (int64_t column = 0; column < width; column += WS2_TAPS_MAX) {
            const int count = width - column < WS2_TAPS_MAX ? (int)(width - column) : WS2_TAPS_MAX;
            const int64_t at = row * width + column;
            const size_t bytes = (size_t)count * sizeof *out;
            float *u = out + at, *v = out + pixels + at, *weight = out_weight + at;
            memmove(u, first + at, bytes);
            memmove(v, first + pixels + at, bytes);
            for (int i = 0; i < count; i++)
                weight[i] = first_weight != NULL ? first_weight[at + i] : 1;
            ws2_taps_make(&taps, WS2_WARP_INSIDE, height, width, row, column, count, u, v);
            ws2_taps_step(&taps, second, second_weight, pixels, count, u, v, weight);
        }
    }
}

/* ---- resizing --------------------------------------------------------------------------------------------- */

/* The source pixels of outputs begin .. begin + count, and the way from the first to the second. */
static void stretch(int64_t in, int64_t out, int64_t begin, int count, int32_t *low, int32_t *high,
                    float *way)
{
    const float scale = (float)in / (float)out;
    for (int i = 0; i < count; i++) {
        const float at = ((float)(begin + i) + 0.5f) * scale - 0.5f;
        const float place = at > 0 ? at : 0;
        low[i] = (int32_t)place < in ? (int32_t)place : (int32_t)in - 1;
        high[i] = low[i] + 1 < in ? low[i] + 1 : low[i];
        way[i] = place - (float)low[i];
    }
}

WS2_CLONES
static void stretch_row(const float *restrict top, const float *restrict bottom, float down,
                        const int32_t *restrict low, const int32_t *restrict high, const float *restrict way,
                        int count, float factor, float *restrict out)
{
    for (int i = 0; i < count; i++) {
        const float a = (1 - way[i]) * top[low[i]] + way[i] * top[high[i]];
        const float b = (1 - way[i]) * bottom[low[i]] + way[i] * bottom[high[i]];
        out[i] = ((1 - down) * a + down * b) * factor;
    }
}

void ws2_plane_resize(const float *in, int64_t in_height, int64_t in_width, float factor, float *out,
                      int64_t height, int64_t width)
{
    int32_t low[WS2_TAPS_MAX], high[WS2_TAPS_MAX], above, below;
    float way[WS2_TAPS_MAX], down;
    for (int64_t column = 0; column < width; column += WS2_TAPS_MAX) {
        const int count = width - column < WS2_TAPS_MAX ? (int)(width - column) : WS2_TAPS_MAX;
        stretch(in_width, width, column, count, low, high, way);
        for (int64_t row = 0; row < height; row++) {
            stretch(in_height, height, row, 1, &above, &below, &down);
            stretch_row(in + above * in_width, in + below * in_width, down, low, high, way, count, factor,
                        out + row * width + column);
        }
    }
}

void ws2_flow_resize(const float *in, int64_t in_height, int64_t in_width, float *out, int64_t height,
                     int64_t width)
{
    ws2_plane_resize(in, in_height, in_width, (float)width / (float)in_width, out, height, width);
    ws2_plane_resize(in + in_height * in_width, in_height, in_width, (float)height / (float)in_height,
                     out + height * width, height, width);
}
