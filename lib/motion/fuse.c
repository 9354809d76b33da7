/* Maps of neighbouring frames, warped to one and merged: see motion.h. Everything happens piece by piece of a row: the
 * places in one neighbour after the other, its maps there, and the flow on to the next, so that no warped map and no
 * composed flow is ever stored. */
#include <stdlib.h>
#include <string.h>
#include "motion/internal.h"

#define SMALL 1e-5f  /* added to the maximum of a map */
#define VISIBLE 0.5f /* the least product of validities at which a point counts as visible */
#define WAYS 2       /* of enum ws2_fuse_way */

struct buffer {
    float *value;
    size_t capacity; /* in bytes */
};

struct ws2_fuse_frame {
    int64_t number;
    struct ws2_shape shape;                             /* of the maps */
    struct buffer maps, flow[WAYS], weight[WAYS], full; /* full: a flow at its own size */
    bool known[WAYS], weighed[WAYS];                    /* flow and weight are there */
};

/* ---- frames ---------------------------------------------------------------------------------------------- */

static int buffer_reserve(struct buffer *buffer, int64_t values, struct ws2_error *error)
{
    void *room = buffer->value;
    size_t bytes;
    if (!ws2_mul_size((size_t)values, sizeof(float), &bytes) ||
        ws2_reserve(&room, &buffer->capacity, bytes) != WS2_OK)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    buffer->value = room;
    return WS2_OK;
}

struct ws2_fuse_frame *ws2_fuse_frame_new(void)
{
    return ws2_calloc(1, sizeof(struct ws2_fuse_frame));
}

void ws2_fuse_frame_free(struct ws2_fuse_frame *frame)
{
    if (frame == NULL)
        return;
    for (int way = 0; way < WAYS; way++) {
        free(frame->flow[way].value);
        free(frame->weight[way].value);
    }
    free(frame->maps.value);
    free(frame->full.value);
    free(frame);
}

/* An exponent of all ones is infinite or not a number. */
WS2_CLONES
static bool all_finite(const uint16_t *half, int64_t count)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; i++)
        bad |= (half[i] & 0x7C00) == 0x7C00;
    return bad == 0;
}

static int64_t pixels_of(const struct ws2_fuse_frame *frame)
{
    return frame->shape.dim[1] * frame->shape.dim[2];
}

int ws2_fuse_frame_maps(struct ws2_fuse_frame *frame, int64_t number, const uint16_t *maps,
                        const struct ws2_shape *shape, struct ws2_error *error)
{
    size_t count;
    if (shape->rank != 3 || !ws2_shape_count(shape, &count) || count > INT32_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "not maps of three axes, or too large");
    frame->number = number;
    frame->shape = *shape;
    frame->known[WS2_TO_NEXT] = frame->known[WS2_TO_PREVIOUS] = false;
    if (!all_finite(maps, (int64_t)count))
        return ws2_fail(error, WS2_ERR_INPUT, "a value is not finite");
    if (buffer_reserve(&frame->maps, (int64_t)count, error) != WS2_OK)
        return WS2_ERR_SYSTEM;
    ws2_half_to_floats(frame->maps.value, maps, count);
    return WS2_OK;
}

/* The flow as f32 in the size of the maps. */
static int flow_load(struct ws2_fuse_frame *frame, struct buffer *flow, const uint16_t *half, int64_t height,
                     int64_t width, struct ws2_error *error)
{
    const int64_t h = frame->shape.dim[1], w = frame->shape.dim[2];
    const bool same = height == h && width == w;
    struct buffer *full = same ? flow : &frame->full;
    if (buffer_reserve(full, 2 * height * width, error) != WS2_OK ||
        buffer_reserve(flow, 2 * h * w, error) != WS2_OK)
        return WS2_ERR_SYSTEM;
    ws2_half_to_floats(full->value, half, (size_t)(2 * height * width));
    if (!same)
        ws2_flow_resize(full->value, height, width, flow->value, h, w);
    return WS2_OK;
}

/* The same for its validity, as 0 or 1 and what lies between when it is resized. */
static int weight_load(struct ws2_fuse_frame *frame, struct buffer *weight, const uint8_t *valid,
                       int64_t height, int64_t width, struct ws2_error *error)
{
    const int64_t h = frame->shape.dim[1], w = frame->shape.dim[2];
    const bool same = height == h && width == w;
    struct buffer *full = same ? weight : &frame->full;
    if (buffer_reserve(full, height * width, error) != WS2_OK ||
        buffer_reserve(weight, h * w, error) != WS2_OK)
        return WS2_ERR_SYSTEM;
    for (int64_t i = 0; i < height * width; i++)
        full->value[i] = valid[i] != 0;
    if (!same)
        ws2_plane_resize(full->value, height, width, 1, weight->value, h, w);
    return WS2_OK;
}

int ws2_fuse_frame_flow(struct ws2_fuse_frame *frame, enum ws2_fuse_way way, const uint16_t *flow,
                        const struct ws2_shape *shape, const uint8_t *valid, struct ws2_error *error)
{
    size_t count;
    if (shape->rank != 3 || shape->dim[0] != 2 || !ws2_shape_count(shape, &count) || count > INT32_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "a flow has two planes");
    if (count == 0 && pixels_of(frame) > 0)
        return ws2_fail(error, WS2_ERR_INPUT, "the flow has no pixels");
    const int64_t height = shape->dim[1], width = shape->dim[2];
    int status = flow_load(frame, &frame->flow[way], flow, height, width, error);
    if (status == WS2_OK && valid != NULL)
        status = weight_load(frame, &frame->weight[way], valid, height, width, error);
    frame->known[way] = status == WS2_OK;
    frame->weighed[way] = valid != NULL;
    return status;
}

void ws2_fuse_scratch_free(struct ws2_fuse_scratch *scratch)
{
    free(scratch->merged);
    *scratch = (struct ws2_fuse_scratch){0};
}

/* ---- merging --------------------------------------------------------------------------------------------- */

/* A piece of a row: its pixels, and the way from them to the neighbour under way. */
struct piece {
    int64_t row, column, at; /* at: of the first pixel in a plane */
    int count;
    float u[WS2_TAPS_MAX], v[WS2_TAPS_MAX], weight[WS2_TAPS_MAX];
    float share[WS2_TAPS_MAX]; /* of this neighbour: V_k or C_k */
    float sum[WS2_TAPS_MAX];   /* of all shares, 1 for the frame itself */
};

WS2_CLONES
static void shares(struct piece *restrict piece, const uint8_t *restrict valid, bool confidence)
{
    if (confidence) {
        for (int i = 0; i < piece->count; i++)
            piece->share[i] = (float)(valid[i] != 0) * piece->weight[i];
        return;
    }
    for (int i = 0; i < piece->count; i++)
        piece->share[i] = (float)((valid[i] != 0) & (piece->weight[i] >= VISIBLE));
}

WS2_CLONES
static void merge_max(float *restrict merged, const float *restrict warped, const float *restrict share,
                      int count)
{
    for (int i = 0; i < count; i++) {
        const float other = share[i] != 0 ? warped[i] : merged[i];
        merged[i] = other > merged[i] ? other : merged[i];
    }
}

WS2_CLONES
static void merge_sum(float *restrict merged, const float *restrict warped, const float *restrict share,
                      int count)
{
    for (int i = 0; i < count; i++)
        merged[i] += share[i] * warped[i];
}

static void piece_begin(const struct ws2_fuse *fuse, struct piece *piece, const struct ws2_fuse_frame *frame,
                        int way)
{
    const bool weighed = frame->weighed[way] && (fuse->visible || fuse->merge == WS2_FUSE_CONFIDENCE);
    const float *flow = frame->flow[way].value, *weight = frame->weight[way].value;
    memcpy(piece->u, flow + piece->at, (size_t)piece->count * sizeof *flow);
    memcpy(piece->v, flow + pixels_of(frame) + piece->at, (size_t)piece->count * sizeof *flow);
    for (int i = 0; i < piece->count; i++)
        piece->weight[i] = weighed ? weight[piece->at + i] : 1;
}

/* Merges the maps of one neighbour, at the places that the taps give. */
static void piece_merge(const struct ws2_fuse *fuse, struct piece *piece, const struct ws2_fuse_frame *other,
                        const struct ws2_taps *taps, float *merged)
{
    float warped[WS2_TAPS_MAX];
    const int64_t pixels = pixels_of(other);
    shares(piece, taps->valid, fuse->merge == WS2_FUSE_CONFIDENCE);
    for (int64_t c = 0; c < other->shape.dim[0]; c++) {
        float *out = merged + c * pixels + piece->at;
        const float *map = other->maps.value + c * pixels;
        if (fuse->compat)
            ws2_taps_padded(taps, map, piece->count, warped);
        else
            ws2_taps_inside(taps, map, piece->count, warped);
        (fuse->merge == WS2_FUSE_MAX ? merge_max : merge_sum)(out, warped, piece->share, piece->count);
    }
    for (int i = 0; i < piece->count; i++)
        piece->sum[i] += piece->share[i];
}

/* All neighbours on one side, as far as there are any. */
static void piece_walk(const struct ws2_fuse *fuse, struct piece *piece,
                       const struct ws2_fuse_frame *const *window, int way, float *merged)
{
    const int step = way == WS2_TO_NEXT ? 1 : -1;
    const struct ws2_shape *shape = &window[0]->shape;
    const bool weighed = fuse->visible || fuse->merge == WS2_FUSE_CONFIDENCE;
    struct ws2_taps inside, compat;
    if (fuse->reach == 0 || window[step] == NULL)
        return;
    piece_begin(fuse, piece, window[0], way);
    for (int k = 1; k <= fuse->reach && window[k * step] != NULL; k++) {
        const struct ws2_fuse_frame *other = window[k * step];
        const bool last = k == fuse->reach || window[(k + 1) * step] == NULL;
        if (fuse->compat)
            ws2_taps_make(&compat, WS2_WARP_COMPAT, shape->dim[1], shape->dim[2], piece->row, piece->column,
                          piece->count, piece->u, piece->v);
        if (!fuse->compat || !last)
            ws2_taps_make(&inside, WS2_WARP_INSIDE, shape->dim[1], shape->dim[2], piece->row, piece->column,
                          piece->count, piece->u, piece->v);
        piece_merge(fuse, piece, other, fuse->compat ? &compat : &inside, merged);
        if (!last)
            ws2_taps_step(&inside, other->flow[way].value,
                          weighed && other->weighed[way] ? other->weight[way].value : NULL, pixels_of(other),
                          piece->count, piece->u, piece->v, piece->weight);
    }
}

WS2_CLONES
static void divide_by(float *restrict value, const float *restrict divisor, int count)
{
    for (int i = 0; i < count; i++)
        value[i] = value[i] / divisor[i];
}

static void merge_all(const struct ws2_fuse *fuse, const struct ws2_fuse_frame *const *window, float *merged)
{
    const struct ws2_shape *shape = &window[0]->shape;
    const int64_t width = shape->dim[2], pixels = pixels_of(window[0]);
    struct piece piece;
    for (piece.row = 0; piece.row < shape->dim[1]; piece.row++) {
        for (piece.column = 0; piece.column < width; piece.column += WS2_TAPS_MAX) {
            const int64_t left = width - piece.column;
            piece.count = left < WS2_TAPS_MAX ? (int)left : WS2_TAPS_MAX;
            piece.at = piece.row * width + piece.column;
            for (int i = 0; i < piece.count; i++)
                piece.sum[i] = 1;
            for (int way = 0; way < WAYS; way++)
                piece_walk(fuse, &piece, window, way, merged);
            for (int64_t c = 0; fuse->merge != WS2_FUSE_MAX && c < shape->dim[0]; c++)
                divide_by(merged + c * pixels + piece.at, piece.sum, piece.count);
        }
    }
}

/* ---- the result ------------------------------------------------------------------------------------------- */

/* Divides one map by its maximum, 0 where all is negative, + SMALL. */
WS2_CLONES
static void normalise(float *map, int64_t pixels)
{
    float most[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= pixels; i += 16)
        for (int k = 0; k < 16; k++)
            most[k] = map[i + k] > most[k] ? map[i + k] : most[k];
    for (; i < pixels; i++)
        most[0] = map[i] > most[0] ? map[i] : most[0];
    for (int k = 1; k < 16; k++)
        most[0] = most[k] > most[0] ? most[k] : most[0];
    const float divisor = most[0] + SMALL;
    for (i = 0; i < pixels; i++)
        map[i] = map[i] / divisor;
}

/* The flows that the window needs are there, and maps have one shape. */
static int window_check(const struct ws2_fuse *fuse, const struct ws2_fuse_frame *const *window, int way,
                        struct ws2_error *error)
{
    const int step = way == WS2_TO_NEXT ? 1 : -1;
    char found[96], wanted[96];
    for (int k = 0; k < fuse->reach && window[(k + 1) * step] != NULL; k++) {
        const struct ws2_fuse_frame *one = window[k * step], *other = window[(k + 1) * step];
        if (!ws2_shape_equal(&other->shape, &window[0]->shape))
            return ws2_fail(error, WS2_ERR_INPUT, "maps are %s here and %s in frame %lld",
                            ws2_shape_text(&window[0]->shape, wanted, sizeof wanted),
                            ws2_shape_text(&other->shape, found, sizeof found), (long long)other->number);
        if (!one->known[way])
            return ws2_fail(error, WS2_ERR_INPUT, "there is no flow from frame %lld to frame %lld",
                            (long long)one->number, (long long)other->number);
    }
    return WS2_OK;
}

int ws2_fuse(const struct ws2_fuse *fuse, const struct ws2_fuse_frame *const *window,
             struct ws2_fuse_scratch *scratch, uint16_t *out, struct ws2_error *error)
{
    struct buffer merged = {scratch->merged, scratch->capacity};
    const int64_t pixels = pixels_of(window[0]), count = window[0]->shape.dim[0] * pixels;
    for (int way = 0; way < WAYS; way++) {
        const int status = window_check(fuse, window, way, error);
        if (status != WS2_OK)
            return status;
    }
    const int status = buffer_reserve(&merged, count, error);
    *scratch = (struct ws2_fuse_scratch){merged.value, merged.capacity};
    if (status != WS2_OK || count == 0)
        return status;
    memcpy(merged.value, window[0]->maps.value, (size_t)count * sizeof *merged.value);
    merge_all(fuse, window, merged.value);
    for (int64_t c = 0; !fuse->raw && c < window[0]->shape.dim[0]; c++)
        normalise(merged.value + c * pixels, pixels);
    ws2_half_from_floats(out, merged.value, (size_t)count);
    return WS2_OK;
}
