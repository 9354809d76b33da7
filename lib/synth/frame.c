/* One frame: light from the belt upwards, owners of the pixels, and their flow. */
#include "synth/internal.h"
#include <stdlib.h>

/* Rows are painted in bands that stay in the cache. */
static int64_t band_rows(int64_t width)
{
    const int64_t rows = 262144 / (width * 12);
    return rows < 8 ? 8 : rows;
}

static void add_lamps(const struct canvas *canvas, float strength)
{
    const int64_t pixels = (canvas->y1 - canvas->y0) * canvas->width;
    for (int64_t p = 0; p < pixels; p++) {
        for (int c = 0; c < 3; c++)
            canvas->rgb[3 * p + c] += strength * canvas->lamp[p];
    }
}

static int paint(const struct ws2_synth *synth, int64_t t, const struct heap *heap, uint8_t *rgb,
                 struct ws2_error *error)
{
    const int64_t width = synth->config.width, height = synth->config.height, rows = band_rows(width);
    struct canvas canvas = {.width = width, .px = synth->px};
    canvas.rgb = ws2_calloc((size_t)(width * rows * 4), sizeof *canvas.rgb);
    if (!canvas.rgb)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a picture");
    canvas.lamp = canvas.rgb + width * rows * 3;
    for (canvas.y0 = 0; canvas.y0 < height; canvas.y0 = canvas.y1) {
        canvas.y1 = canvas.y0 + rows < height ? canvas.y0 + rows : height;
        ws2_synth_paint_belt(synth, t, &canvas);
        /* On the belt, where items will cover them, and a little over everything as a veil in the lens. */
        ws2_synth_lamp_light(synth, &canvas);
        add_lamps(&canvas, 1);
        for (int i = 0; i < heap->count; i++)
            ws2_synth_paint_item(synth, &heap->item[i], &heap->pose[1][i], &canvas);
        add_lamps(&canvas, 0.06f);
        ws2_synth_expose(synth, t, &canvas, rgb + canvas.y0 * width * 3);
    }
    free(canvas.rgb);
    return 0;
}

/* Owner of each pixel at pose `when`: 0 for the belt, else the item's place in the heap + 1. */
static uint16_t *owners(const struct ws2_synth *synth, const struct heap *heap, int when)
{
    const int64_t width = synth->config.width, height = synth->config.height;
    uint16_t *owner = ws2_calloc((size_t)(width * height), sizeof *owner);
    for (int i = 0; owner && i < heap->count; i++)
        ws2_synth_own(&heap->item[i], &heap->pose[when][i], width, 0, height, synth->px, (uint16_t)(i + 1),
                      owner);
    return owner;
}

static void label(const struct ws2_synth *synth, const struct heap *heap, const uint16_t *owner,
                  const struct ws2_synth_frame *frame)
{
    const size_t pixels = (size_t)(synth->config.width * synth->config.height);
    for (size_t p = 0; p < pixels; p++) {
        const struct item *item = owner[p] ? &heap->item[owner[p] - 1] : NULL;
        const uint8_t kind = !item ? WS2_SYNTH_BELT : item->unwanted ? WS2_SYNTH_UNWANTED : WS2_SYNTH_WANTED;
        if (frame->truth)
            frame->truth[p] = kind == WS2_SYNTH_UNWANTED;
        if (frame->ids)
            frame->ids[p] = item ? item->id : 0;
        if (frame->kind)
            frame->kind[p] = kind;
    }
}

/* ---- flow ------------------------------------------------------------------------------------------------------ */

/* Where the pixel's point goes, in pixels; false when it turns out of sight. */
static bool item_flow(const struct ws2_synth *synth, const struct item *item, const struct pose *from,
                      const struct pose *to, int64_t x, int64_t y, float *fx, float *fy)
{
    const float px = synth->px;
    const float dx = ((float)x + 0.5f) * px - from->x, dy = ((float)y + 0.5f) * px - from->y;
    const float u = dx * from->c + dy * from->s;
    float v = dy * from->c - dx * from->s;
    const bool seen = ws2_synth_turn(item, from, to, u, &v);
    /* Differences first: the centre's motion is exact however far the belt has come. */
    const float unit = (float)synth->unit;
    *fx = unit * ((to->x - from->x) + (u * to->c - v * to->s - dx));
    *fy = unit * ((to->y - from->y) + (u * to->s + v * to->c - dy));
    return seen;
}

static bool lands(const struct ws2_synth *synth, const uint16_t *there, int64_t x, int64_t y, float fx,
                  float fy, uint16_t owner)
{
    const float tx = floorf((float)x + fx + 0.5f), ty = floorf((float)y + fy + 0.5f);
    if (!(tx >= 0 && tx < (float)synth->config.width && ty >= 0 && ty < (float)synth->config.height))
        return false;
    return there[(int64_t)ty * synth->config.width + (int64_t)tx] == owner;
}

static void fill_flow(const struct ws2_synth *synth, const struct heap *heap, const uint16_t *here,
                      const uint16_t *there, int when, float *flow, uint8_t *valid)
{
    const int64_t width = synth->config.width, height = synth->config.height;
    const size_t pixels = (size_t)(width * height);
    double wx, wy;
    ws2_synth_way(synth, &wx, &wy);
    const double step = synth->config.speed * synth->unit * (when - 1);
    const float belt_x = (float)(wx * step), belt_y = (float)(wy * step);
    for (int64_t y = 0; y < height; y++) {
        for (int64_t x = 0; x < width; x++) {
            const size_t p = (size_t)(y * width + x);
            float fx = belt_x, fy = belt_y;
            bool seen = true;
            if (here[p]) {
                const int i = here[p] - 1;
                seen =
                    item_flow(synth, &heap->item[i], &heap->pose[1][i], &heap->pose[when][i], x, y, &fx, &fy);
            }
            if (flow) {
                flow[p] = fx;
                flow[pixels + p] = fy;
            }
            if (valid)
                valid[p] = seen && lands(synth, there, x, y, fx, fy, here[p]);
        }
    }
}

static int flow_to(const struct ws2_synth *synth, const struct heap *heap, const uint16_t *here, int when,
                   float *flow, uint8_t *valid, struct ws2_error *error)
{
    if (!flow && !valid)
        return 0;
    uint16_t *there = owners(synth, heap, when);
    if (!there)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a flow");
    fill_flow(synth, heap, here, there, when, flow, valid);
    free(there);
    return 0;
}

static int annotate(const struct ws2_synth *synth, const struct heap *heap,
                    const struct ws2_synth_frame *frame, struct ws2_error *error)
{
    uint16_t *here = owners(synth, heap, 1);
    if (!here)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the truth");
    label(synth, heap, here, frame);
    int status = flow_to(synth, heap, here, 2, frame->next, frame->next_valid, error);
    if (status == 0)
        status = flow_to(synth, heap, here, 0, frame->prev, frame->prev_valid, error);
    free(here);
    return status;
}

int ws2_synth_render(const struct ws2_synth *synth, int64_t t, const struct ws2_synth_frame *frame,
                     struct ws2_error *error)
{
    if (t < 0 || t >= WS2_SYNTH_FRAME_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "frame %lld is outside 0 to %d", (long long)t,
                        WS2_SYNTH_FRAME_MAX - 1);
    struct heap heap;
    int status = ws2_synth_heap(synth, t, &heap, error);
    if (status < 0)
        return status;
    if (frame->rgb)
        status = paint(synth, t, &heap, frame->rgb, error);
    const bool more = frame->truth || frame->ids || frame->kind || frame->next || frame->next_valid ||
                      frame->prev || frame->prev_valid;
    if (status == 0 && more)
        status = annotate(synth, &heap, frame, error);
    ws2_synth_heap_free(&heap);
    return status;
}

int64_t ws2_synth_visible(const uint16_t *ids, const uint8_t *kind, size_t pixels, int32_t *rows,
                          int64_t room)
{
    uint8_t seen[65536] = {0};
    int64_t count = 0;
    for (size_t p = 0; p < pixels; p++)
        seen[ids[p]] = kind[p];
    for (int id = 1; id < 65536; id++) {
        if (seen[id] && count++ < room) {
            rows[2 * (count - 1)] = id;
            rows[2 * (count - 1) + 1] = seen[id];
        }
    }
    return count;
}
