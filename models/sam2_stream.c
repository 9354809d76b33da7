/* The embedding of a frame in its record: see sam2_stream.h. */
#include "models/sam2_stream.h"

#include <stdio.h>
#include <string.h>

#include "models/sam2_internal.h"

#define PICTURE "embed.rgb"

enum { MAPS = 3, TENSORS };

/* In the order of an embedding in plain memory. */
static const struct {
    const char *name;
    int channels, times; /* cells along a side, of those of the coarsest map */
} maps[MAPS] = {{"embed", SAM2_WIDTH, 1}, {"embed.high0", SAM2_FINE, 4}, {"embed.high1", SAM2_HALF, 2}};

static const char *tensor_name(int index)
{
    return index < MAPS ? maps[index].name : PICTURE;
}

static struct ws2_shape map_shape(int map, int64_t side)
{
    const int64_t cells = side / 16 * maps[map].times;
    return ws2_shape_3(maps[map].channels, cells, cells);
}

/* ---- the head --------------------------------------------------------------------------------------------- */

/* What the table says of a map. */
static void describe(const struct sam2 *sam2, int map, int64_t side, char axes[WS2_TEXT_MAX + 1],
                     char unit[WS2_TEXT_MAX + 1])
{
    const struct ws2_shape shape = map_shape(map, side);
    snprintf(axes, WS2_TEXT_MAX + 1, "%lld,%lld,%lld", (long long)shape.dim[0], (long long)shape.dim[1],
             (long long)shape.dim[2]);
    snprintf(unit, WS2_TEXT_MAX + 1, "sam2:%s", sam2_digest(sam2));
}

static int check_row(const struct sam2 *sam2, int map, int64_t side, const struct ws2_head *head,
                     struct ws2_error *error)
{
    char axes[WS2_TEXT_MAX + 1], unit[WS2_TEXT_MAX + 1];
    const struct ws2_tensor_info *row = ws2_head_want(head, maps[map].name, WS2_F16, error);
    if (row == NULL)
        return WS2_ERR_INPUT;
    describe(sam2, map, side, axes, unit);
    if (strcmp(row->unit, unit) != 0)
        return ws2_fail(error, WS2_ERR_INPUT,
                        "tensor '%s' is of other weights, '%s', than those given, '%s' (ws2-pick --drop "
                        "embed,embed.high0,embed.high1,embed.rgb makes room for new ones)",
                        row->name, row->unit, unit);
    if (strcmp(row->axes, axes) != 0)
        return ws2_fail(error, WS2_ERR_INPUT,
                        "tensor '%s' is [%s]; a network's input of side %lld gives [%s]", row->name,
                        row->axes, (long long)side, axes);
    return WS2_OK;
}

static int add_row(const struct sam2 *sam2, int map, int64_t side, struct ws2_head *head,
                   struct ws2_error *error)
{
    char axes[WS2_TEXT_MAX + 1], unit[WS2_TEXT_MAX + 1];
    describe(sam2, map, side, axes, unit);
    return ws2_head_add_tensor(head, maps[map].name, WS2_F16, axes, unit, error);
}

int sam2_stream_begin(const struct sam2 *sam2, const struct sam2_frame_options *options,
                      const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    const int64_t side = options->generate.side;
    bool there = false;
    int status = WS2_OK;
    for (int i = 0; i < TENSORS; i++)
        there = there || ws2_head_find(in, tensor_name(i)) != NULL;
    if (!there && !options->keep)
        return WS2_OK;
    for (int i = 0; i < MAPS && status >= 0; i++)
        status = there ? check_row(sam2, i, side, in, error) : add_row(sam2, i, side, out, error);
    if (status < 0)
        return status;
    if (!there)
        return ws2_head_add_tensor(out, PICTURE, WS2_I64, "3", "", error);
    return ws2_head_want(in, PICTURE, WS2_I64, error) ? WS2_OK : WS2_ERR_INPUT;
}

/* ---- records ---------------------------------------------------------------------------------------------- */

static void describe_picture(const struct ws2_tensor *rgb, int64_t picture[3])
{
    picture[0] = rgb->shape.dim[0];
    picture[1] = rgb->shape.dim[1];
    picture[2] = ws2_fnv1a(rgb->data, rgb->bytes);
}

/* An exponent of ones is infinite or no number. */
static bool all_finite(const uint16_t *half, size_t count)
{
    unsigned bad = 0;
    for (size_t i = 0; i < count; i++)
        bad |= (half[i] & 0x7c00) == 0x7c00;
    return !bad;
}

/* A map of the record -> f32 with as many numbers, which is returned. */
static int64_t take_map(struct ws2_record *record, int map, int64_t side, float *out, struct ws2_error *error)
{
    const struct ws2_shape shape = map_shape(map, side);
    struct ws2_tensor tensor;
    char is[96], should[96];
    const int status = ws2_record_want(record, maps[map].name, WS2_F16, 3, &tensor, error);
    if (status < 0)
        return status;
    if (!ws2_shape_equal(&tensor.shape, &shape))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, not %s", maps[map].name,
                        ws2_shape_text(&tensor.shape, is, sizeof is),
                        ws2_shape_text(&shape, should, sizeof should));
    const size_t count = tensor.bytes / sizeof(uint16_t);
    if (!all_finite(tensor.data, count))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' has a value that is not finite", maps[map].name);
    ws2_half_to_floats(out, tensor.data, count);
    return (int64_t)count;
}

static int check_picture(struct ws2_record *record, const struct ws2_tensor *rgb, struct ws2_error *error)
{
    struct ws2_tensor kept;
    int64_t picture[3];
    const int status = ws2_record_want(record, PICTURE, WS2_I64, 1, &kept, error);
    if (status < 0)
        return status;
    describe_picture(rgb, picture);
    if (kept.bytes != sizeof picture || memcmp(kept.data, picture, sizeof picture) != 0)
        return ws2_fail(error, WS2_ERR_INPUT,
                        "tensor 'embed' is of another picture than 'rgb' (tensor '" PICTURE "')");
    return WS2_OK;
}

/* The record's embedding -> frame->embedding. 1, 0 when it has none, or a status. */
static int take(struct ws2_record *record, const struct ws2_tensor *rgb, int64_t side,
                struct sam2_frame *frame, struct ws2_error *error)
{
    int64_t at = 0;
    int there = 0;
    for (int i = 0; i < TENSORS; i++)
        there += ws2_record_has(record, tensor_name(i));
    if (there == 0)
        return 0;
    if (sam2_frame_reserve(frame, side) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    for (int i = 0; i < MAPS; i++) {
        const int64_t count = take_map(record, i, side, frame->embedding + at, error);
        if (count < 0)
            return (int)count;
        at += count;
    }
    const int status = check_picture(record, rgb, error);
    return status < 0 ? status : 1;
}

static int put(struct ws2_record *record, const struct ws2_tensor *rgb, int64_t side, const float *embedding,
               struct ws2_error *error)
{
    const struct ws2_shape three = ws2_shape_1(3);
    int64_t picture[3];
    for (int i = 0; i < MAPS; i++) {
        const struct ws2_shape shape = map_shape(i, side);
        const size_t count = (size_t)(shape.dim[0] * shape.dim[1] * shape.dim[2]);
        uint16_t *half = ws2_record_add(record, maps[i].name, WS2_F16, &shape, error);
        if (half == NULL)
            return WS2_ERR_SYSTEM;
        ws2_half_from_floats(half, embedding, count);
        if (!all_finite(half, count))
            return ws2_fail(error, WS2_ERR_MODEL, "the embedding has values beyond those of f16");
        embedding += count;
    }
    describe_picture(rgb, picture);
    return ws2_record_put(record, PICTURE, WS2_I64, &three, picture, error);
}

int sam2_stream_masks(const struct sam2 *sam2, const struct sam2_frame_options *options,
                      struct ws2_record *record, const struct ws2_tensor *rgb, struct sam2_frame *frame,
                      struct ws2_masks *masks, struct ws2_error *error)
{
    const int64_t height = rgb->shape.dim[0], width = rgb->shape.dim[1], side = options->generate.side;
    const bool pixels = height > 0 && width > 0; /* without, there is nothing to encode */
    int status = sam2_generate_check(&options->generate, error);
    if (status >= 0 && pixels)
        status = take(record, rgb, side, frame, error);
    if (status < 0)
        return status;
    frame->given = status > 0;
    status = sam2_frame_masks(sam2, options, height, width, rgb->data, frame, masks, error);
    const bool made = pixels && !frame->given;
    frame->given = false;
    return status >= 0 && made && options->keep ? put(record, rgb, side, frame->embedding, error) : status;
}
