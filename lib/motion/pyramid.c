#include "motion/flow.h"

#include <stdlib.h>
#include <string.h>

/* Sides from which on the first level is the halved frame: what is smaller is matched as it is. */
enum { HALVED_FROM = 64, COARSEST = 12, SEARCHED_TO = 96 };

/* ---- memory ------------------------------------------------------------------------------------------------- */

static ptrdiff_t stride_of(int width)
{
    return ((ptrdiff_t)width + 2 * BORDER + 15) & ~(ptrdiff_t)15;
}

static size_t plane_of(const struct level *level)
{
    return (size_t)level->stride * (size_t)(level->height + 2 * BORDER);
}

static int power_of_two(int n)
{
    int p = 1;
    while (p < n)
        p *= 2;
    return p;
}

/* Sizes of all levels, and which of them is transformed. */
static void plan(struct ws2_flow_frame *frame)
{
    const int least = frame->width < frame->height ? frame->width : frame->height;
    frame->finest = least >= HALVED_FROM;
    frame->levels = 0;
    int width = frame->width >> frame->finest, height = frame->height >> frame->finest;
    do {
        frame->level[frame->levels++] =
            (struct level){.width = width, .height = height, .stride = stride_of(width)};
        width /= 2;
        height /= 2;
    } while (width >= COARSEST && height >= COARSEST && frame->levels < LEVELS_MAX &&
             (2 * width > SEARCHED_TO || 2 * height > SEARCHED_TO));
    frame->seen = 0;
    while (frame->seen + 1 < frame->levels && (frame->level[frame->seen].width > SPECTRUM_MAX ||
                                               frame->level[frame->seen].height > SPECTRUM_MAX))
        frame->seen++;
    const struct level *seen = &frame->level[frame->seen];
    frame->columns = power_of_two(seen->width < SPECTRUM_MAX ? seen->width : SPECTRUM_MAX);
    frame->rows = power_of_two(seen->height < SPECTRUM_MAX ? seen->height : SPECTRUM_MAX);
}

static int allocate(struct ws2_flow_frame *frame)
{
    const size_t spectrum = (size_t)frame->columns * (size_t)frame->rows;
    size_t floats = 4 * spectrum;
    for (int i = 0; i < frame->levels; i++)
        floats += 3 * plane_of(&frame->level[i]);
    frame->memory = ws2_calloc(floats, sizeof *frame->memory);
    frame->luma = ws2_calloc((size_t)frame->width, 8);
    if (frame->memory == NULL || frame->luma == NULL)
        return WS2_ERR_SYSTEM;
    float *at = frame->memory;
    for (int i = 0; i < frame->levels; i++) {
        struct level *level = &frame->level[i];
        const size_t plane = plane_of(level), origin = (size_t)(BORDER * level->stride + BORDER);
        level->image = at + origin;
        level->gx = at + plane + origin;
        level->gy = at + 2 * plane + origin;
        at += 3 * plane;
    }
    frame->spectrum[0] = at;
    frame->spectrum[1] = at + spectrum;
    frame->scratch = at + 2 * spectrum;
    return WS2_OK;
}

/* ---- pixels --------------------------------------------------------------------------------------------------- */

/* Continues a plane over its rim. */
static void continue_border(float *plane, int width, int height, ptrdiff_t stride)
{
    for (int y = 0; y < height; y++) {
        float *row = plane + y * stride;
        for (int x = 1; x <= BORDER; x++) {
            row[-x] = row[0];
            row[width - 1 + x] = row[width - 1];
        }
    }
    for (int y = 1; y <= BORDER; y++) {
        memcpy(plane - y * stride - BORDER, plane - BORDER, (size_t)(width + 2 * BORDER) * sizeof *plane);
        memcpy(plane + (height - 1 + y) * stride - BORDER, plane + (height - 1) * stride - BORDER,
               (size_t)(width + 2 * BORDER) * sizeof *plane);
    }
}

WS2_CLONES
static void halve_bytes(const uint8_t *a, const uint8_t *b, int width, float *out)
{
    for (int x = 0; x < width; x++)
        out[x] = 0.25f * (float)(a[2 * x] + a[2 * x + 1] + b[2 * x] + b[2 * x + 1]);
}

WS2_CLONES
static void halve_floats(const float *a, const float *b, int width, float *out)
{
    for (int x = 0; x < width; x++)
        out[x] = 0.25f * (a[2 * x] + a[2 * x + 1] + b[2 * x] + b[2 * x + 1]);
}

/* The first level: luma, of each pixel or of four. */
static void first_level(struct ws2_flow_frame *frame, const uint8_t *rgb)
{
    struct level *level = &frame->level[0];
    const int width = frame->width, rows = 1 << frame->finest;
    uint8_t *luma = frame->luma, *rest = luma + 2 * width;
    for (int y = 0; y < level->height; y++) {
        ws2_rgb_planes(rgb + (int64_t)3 * width * rows * y, (int64_t)rows * width, rest, rest + 2 * width,
                       rest + 4 * width, luma);
        float *out = level->image + y * level->stride;
        if (frame->finest)
            halve_bytes(luma, luma + width, level->width, out);
        else
            for (int x = 0; x < width; x++)
                out[x] = luma[x];
    }
    continue_border(level->image, level->width, level->height, level->stride);
}

static void next_level(const struct level *from, struct level *to)
{
    for (int y = 0; y < to->height; y++) {
        const float *row = from->image + 2 * y * from->stride;
        halve_floats(row, row + from->stride, to->width, to->image + y * to->stride);
    }
    continue_border(to->image, to->width, to->height, to->stride);
}

/* Central differences; over the rim they are 0 across it. */
WS2_CLONES
static void derive(struct level *level)
{
    for (int y = 0; y < level->height; y++) {
        const float *row = level->image + y * level->stride;
        float *gx = level->gx + y * level->stride, *gy = level->gy + y * level->stride;
        for (int x = 0; x < level->width; x++) {
            gx[x] = 0.5f * (row[x + 1] - row[x - 1]);
            gy[x] = 0.5f * (row[x + level->stride] - row[x - level->stride]);
        }
    }
    continue_border(level->gx, level->width, level->height, level->stride);
    continue_border(level->gy, level->width, level->height, level->stride);
}

/* ---- frames ----------------------------------------------------------------------------------------------------- */

int ws2_flow_frame_make(struct ws2_flow_frame **out, const uint8_t *rgb, int width, int height,
                        struct ws2_error *error)
{
    struct ws2_flow_frame *frame = *out;
    if (width < 1 || height < 1 || width > WS2_FLOW_SIDE_MAX || height > WS2_FLOW_SIDE_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "no flow of a frame of %d x %d pixels", width, height);
    if (frame == NULL || frame->width != width || frame->height != height) {
        ws2_flow_frame_free(frame);
        *out = frame = ws2_calloc(1, sizeof *frame);
        if (frame == NULL)
            return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
        frame->width = width;
        frame->height = height;
        plan(frame);
        if (allocate(frame) < 0)
            return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a frame of %d x %d pixels", width, height);
    }
    first_level(frame, rgb);
    for (int i = 1; i < frame->levels; i++)
        next_level(&frame->level[i - 1], &frame->level[i]);
    for (int i = 0; i < frame->levels; i++)
        derive(&frame->level[i]);
    ws2_phase_spectrum(frame);
    return WS2_OK;
}

void ws2_flow_frame_free(struct ws2_flow_frame *frame)
{
    if (frame == NULL)
        return;
    free(frame->memory);
    free(frame->luma);
    free(frame);
}

void ws2_flow_frame_size(const struct ws2_flow_frame *frame, int *width, int *height)
{
    *width = frame->width;
    *height = frame->height;
}
