/* A frame as the named tensors of a stream. */
#include <stdlib.h>
#include "synth/internal.h"

/* Items that one frame can show: ids are 16 bits. */
#define ITEMS_MAX 65535

static const struct ws2_synth_tensor tensors[WS2_SYNTH_TENSORS] = {
    {"rgb", "h,w,3", "", WS2_U8},
    {"truth", "h,w", "", WS2_U8},
    {"ids", "h,w", "", WS2_U16},
    {"class", "h,w", "class", WS2_U8},
    {"items", "n,2", "", WS2_I32},
    {"flow.next", "2,h,w", "pixel", WS2_F16},
    {"flow.next.valid", "h,w", "", WS2_U8},
    {"flow.prev", "2,h,w", "pixel", WS2_F16},
    {"flow.prev.valid", "h,w", "", WS2_U8},
};

const struct ws2_synth_tensor *ws2_synth_tensor_at(int which)
{
    return which >= 0 && which < WS2_SYNTH_TENSORS ? &tensors[which] : NULL;
}

/* What a frame is rendered into, in two blocks. */
struct parts {
    float *flow; /* [4,h,w] */
    int32_t *rows;
    uint16_t *ids;
    uint8_t *byte; /* [7,h,w] */
};

static bool parts_make(struct parts *parts, size_t pixels)
{
    parts->flow = ws2_calloc(pixels, 4 * sizeof(float) + sizeof(uint16_t) + 7);
    parts->rows = ws2_calloc(ITEMS_MAX, 2 * sizeof(int32_t));
    if (!parts->flow || !parts->rows) {
        free(parts->flow);
        free(parts->rows);
        return false;
    }
    parts->ids = (uint16_t *)(parts->flow + 4 * pixels);
    parts->byte = (uint8_t *)(parts->ids + pixels);
    return true;
}

/* Shape, and the samples as the stream holds them. */
static int give(enum ws2_synth_tensor_id which, const struct ws2_synth_config *config, int64_t items,
                const void *data, ws2_synth_put *put, void *context, struct ws2_error *error)
{
    const int64_t h = config->height, w = config->width;
    const bool flow = tensors[which].dtype == WS2_F16;
    const struct ws2_shape shape = which == WS2_SYNTH_RGB     ? ws2_shape_3(h, w, 3)
                                   : which == WS2_SYNTH_ITEMS ? ws2_shape_2(items, 2)
                                   : flow                     ? ws2_shape_3(2, h, w)
                                                              : ws2_shape_2(h, w);
    size_t count;
    if (!ws2_shape_count(&shape, &count))
        return ws2_fail(error, WS2_ERR_USAGE, "a frame of %lld x %lld is too large", (long long)w,
                        (long long)h);
    void *to = put(context, &tensors[which], &shape, error);
    if (!to)
        return error->status;
    if (flow)
        ws2_half_from_floats(to, data, count);
    else if (count)
        memcpy(to, data, count * ws2_dtype_size(tensors[which].dtype));
    return 0;
}

static int render_parts(const struct ws2_synth *synth, int64_t t, const bool *has, const struct parts *parts,
                        ws2_synth_put *put, void *context, struct ws2_error *error)
{
    const struct ws2_synth_config *config = ws2_synth_config_of(synth);
    const size_t pixels = (size_t)(config->height * config->width);
    uint8_t *byte = parts->byte;
    const bool items = has[WS2_SYNTH_ITEMS];
    const struct ws2_synth_frame frame = {.rgb = has[WS2_SYNTH_RGB] ? byte : NULL,
                                          .truth = has[WS2_SYNTH_TRUTH] ? byte + 3 * pixels : NULL,
                                          .ids = has[WS2_SYNTH_IDS] || items ? parts->ids : NULL,
                                          .kind = has[WS2_SYNTH_CLASS] || items ? byte + 4 * pixels : NULL,
                                          .next = has[WS2_SYNTH_NEXT] ? parts->flow : NULL,
                                          .next_valid = has[WS2_SYNTH_NEXT_VALID] ? byte + 5 * pixels : NULL,
                                          .prev = has[WS2_SYNTH_PREV] ? parts->flow + 2 * pixels : NULL,
                                          .prev_valid = has[WS2_SYNTH_PREV_VALID] ? byte + 6 * pixels : NULL};
    const void *data[WS2_SYNTH_TENSORS] = {frame.rgb,        frame.truth, frame.ids,
                                           frame.kind,       parts->rows, frame.next,
                                           frame.next_valid, frame.prev,  frame.prev_valid};
    int status = ws2_synth_render(synth, t, &frame, error);
    const int64_t rows =
        status == 0 && items ? ws2_synth_visible(frame.ids, frame.kind, pixels, parts->rows, ITEMS_MAX) : 0;
    for (int i = 0; i < WS2_SYNTH_TENSORS && status == 0; i++)
        if (has[i])
            status = give((enum ws2_synth_tensor_id)i, config, rows, data[i], put, context, error);
    return status;
}

int ws2_synth_render_tensors(const struct ws2_synth *synth, int64_t t, int64_t frames, const bool *wanted,
                             ws2_synth_put *put, void *context, struct ws2_error *error)
{
    const struct ws2_synth_config *config = ws2_synth_config_of(synth);
    struct parts parts;
    bool has[WS2_SYNTH_TENSORS];
    memcpy(has, wanted, sizeof has);
    for (int i = WS2_SYNTH_NEXT; i <= WS2_SYNTH_PREV_VALID; i++)
        has[i] = has[i] && (i <= WS2_SYNTH_NEXT_VALID ? t + 1 < frames : t > 0);
    if (!parts_make(&parts, (size_t)(config->height * config->width)))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a frame");
    const int status = render_parts(synth, t, has, &parts, put, context, error);
    free(parts.flow);
    free(parts.rows);
    return status;
}
