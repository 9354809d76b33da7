/* Tensors as pictures. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "image/internal.h"

static int cannot_show(const char *name, enum ws2_dtype dtype, const struct ws2_shape *shape,
                       struct ws2_error *error)
{
    char text[96];

    return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s', %s %s, is not a picture", name, ws2_dtype_name(dtype),
                    ws2_shape_text(shape, text, sizeof text));
}

static bool is_float(enum ws2_dtype dtype)
{
    return dtype == WS2_F16 || dtype == WS2_F32;
}

/* Extents that fit a picture. */
static bool sides_fit(int64_t height, int64_t width)
{
    return height >= 1 && width >= 1 && height <= WS2_IMAGE_SIDE_MAX && width <= WS2_IMAGE_SIDE_MAX;
}

/* count floats from element `first` on; free(). NULL when out of memory. */
static float *floats_of(enum ws2_dtype dtype, const void *data, size_t first, size_t count)
{
    float *out = ws2_calloc(count, sizeof *out);

    if (out && dtype == WS2_F16)
        ws2_half_to_floats(out, (const uint16_t *)data + first, count);
    else if (out)
        memcpy(out, (const float *)data + first, count * sizeof *out);
    return out;
}

/* 0..1 when all values lie there, so that pictures of a series compare; else what there is. */
static void range_of(const float *map, size_t count, float *low, float *high)
{
    *low = 0.0f;
    *high = 1.0f;
    for (size_t i = 0; i < count; i++)
        if (isfinite(map[i])) {
            *low = fminf(*low, map[i]);
            *high = fmaxf(*high, map[i]);
        }
}

/* One channel of [h,w] or [c,h,w] as floats. */
static int channel_of(float **map, int *width, int *height, enum ws2_dtype dtype,
                      const struct ws2_shape *shape, const void *data, int channel, struct ws2_error *error)
{
    const int64_t h = shape->dim[shape->rank - 2], w = shape->dim[shape->rank - 1];
    const int64_t channels = shape->rank == 3 ? shape->dim[0] : 1;

    if (channel < 0 || channel >= channels)
        return ws2_fail(error, WS2_ERR_INPUT, "no channel %d in a map of %lld", channel, (long long)channels);
    *map = floats_of(dtype, data, (size_t)channel * (size_t)(h * w), (size_t)(h * w));
    if (!*map)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a map");
    *width = (int)w;
    *height = (int)h;
    return 0;
}

static int view_map(struct ws2_image *image, enum ws2_dtype dtype, const struct ws2_shape *shape,
                    const void *data, const struct ws2_view *view, struct ws2_error *error)
{
    float *map, low, high;
    int width, height;
    int status = channel_of(&map, &width, &height, dtype, shape, data, view->channel, error);

    if (status < 0)
        return status;
    range_of(map, (size_t)width * (size_t)height, &low, &high);
    status = ws2_heat_rgb(image, map, width, height, low, high, view->palette, error);
    free(map);
    return status;
}

static int view_flow(struct ws2_image *image, enum ws2_dtype dtype, const struct ws2_shape *shape,
                     const void *data, const struct ws2_view *view, struct ws2_error *error)
{
    const int64_t h = shape->dim[1], w = shape->dim[2];
    float *flow = floats_of(dtype, data, 0, (size_t)(2 * h * w));
    int status;

    if (!flow)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a flow");
    status = ws2_flow_rgb(image, flow, (int)w, (int)h, view->radius, error);
    free(flow);
    return status;
}

static int view_samples(struct ws2_image *image, enum ws2_dtype dtype, const struct ws2_shape *shape,
                        const void *data, struct ws2_error *error)
{
    const int status =
        ws2_image_reset(image, (int)shape->dim[1], (int)shape->dim[0], (int)shape->dim[2], error);
    const size_t count = (size_t)(shape->dim[0] * shape->dim[1] * shape->dim[2]);

    if (status < 0)
        return status;
    if (dtype == WS2_U8)
        memcpy(image->data, data, count);
    for (size_t i = 0; dtype == WS2_F32 && i < count; i++)
        image->data[i] = (uint8_t)lrintf(fminf(fmaxf(((const float *)data)[i], 0.0f), 255.0f));
    return 0;
}

static int64_t id_at(enum ws2_dtype dtype, const void *data, size_t i)
{
    switch (dtype) {
    case WS2_U8:
        return ((const uint8_t *)data)[i];
    case WS2_U16:
        return ((const uint16_t *)data)[i];
    default:
        return ((const int32_t *)data)[i];
    }
}

static int view_ids(struct ws2_image *image, enum ws2_dtype dtype, int64_t height, int64_t width,
                    const void *data, struct ws2_error *error)
{
    const int status = ws2_image_reset(image, (int)width, (int)height, 3, error);
    int64_t last = 0;
    uint8_t colour[3] = {0, 0, 0};

    if (status < 0)
        return status;
    for (size_t i = 0; i < (size_t)(height * width); i++) {
        const int64_t id = id_at(dtype, data, i);

        if (id != last)
            ws2_id_rgb(id, colour);
        last = id;
        memcpy(image->data + 3 * i, colour, 3);
    }
    return 0;
}

/* A stack of masks, u8, or layers of them, u16: what comes later lies on top. */
static int view_instances(struct ws2_image *image, enum ws2_dtype dtype, const struct ws2_shape *shape,
                          const void *data, struct ws2_error *error)
{
    const size_t pixels = (size_t)(shape->dim[1] * shape->dim[2]);
    int32_t *ids = ws2_calloc(pixels, sizeof *ids);
    int status;

    if (!ids)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for instances");
    for (int64_t n = 0; n < shape->dim[0]; n++)
        for (size_t i = 0; i < pixels; i++) {
            const int32_t id = (int32_t)id_at(dtype, data, (size_t)n * pixels + i);

            if (id != 0)
                ids[i] = dtype == WS2_U8 ? (int32_t)n + 1 : id;
        }
    status = view_ids(image, WS2_I32, shape->dim[1], shape->dim[2], ids, error);
    free(ids);
    return status;
}

static int view_bytes(struct ws2_image *image, const char *name, const struct ws2_shape *shape,
                      const uint8_t *data, const struct ws2_view *view, struct ws2_error *error)
{
    const size_t pixels = (size_t)(shape->dim[0] * shape->dim[1]);
    bool binary = !view->raw;
    int status;

    if (!view->raw && (strcmp(name, "class") == 0 || strcmp(name, "ids") == 0))
        return view_ids(image, WS2_U8, shape->dim[0], shape->dim[1], data, error);
    status = ws2_image_reset(image, (int)shape->dim[1], (int)shape->dim[0], 1, error);
    if (status < 0)
        return status;
    for (size_t i = 0; binary && i < pixels; i++)
        binary = data[i] <= 1;
    for (size_t i = 0; i < pixels; i++)
        image->data[i] = binary ? (uint8_t)(data[i] * 255) : data[i];
    return 0;
}

int ws2_view_tensor(struct ws2_image *image, const char *name, enum ws2_dtype dtype,
                    const struct ws2_shape *shape, const void *data, const struct ws2_view *view,
                    struct ws2_error *error)
{
    const int64_t *d = shape->dim;
    const bool planar = shape->rank == 2 ? sides_fit(d[0], d[1]) : shape->rank == 3 && sides_fit(d[1], d[2]);
    const bool packed = shape->rank == 3 && sides_fit(d[0], d[1]) && strncmp(name, "instances", 9) != 0;

    if (packed && ((dtype == WS2_U8 && (d[2] == 3 || d[2] == 4)) ||
                   (dtype == WS2_F32 && d[2] == 3 && strstr(name, "rgb"))))
        return view_samples(image, dtype, shape, data, error);
    if (planar && is_float(dtype) && shape->rank == 3 && d[0] == 2 && strncmp(name, "flow", 4) == 0)
        return view_flow(image, dtype, shape, data, view, error);
    if (planar && is_float(dtype))
        return view_map(image, dtype, shape, data, view, error);
    if (planar && shape->rank == 2 && dtype == WS2_U8)
        return view_bytes(image, name, shape, data, view, error);
    if (planar && shape->rank == 2 && (dtype == WS2_U16 || dtype == WS2_I32))
        return view_ids(image, dtype, d[0], d[1], data, error);
    if (planar && shape->rank == 3 && (dtype == WS2_U8 || dtype == WS2_U16))
        return view_instances(image, dtype, shape, data, error);
    return cannot_show(name, dtype, shape, error);
}

int ws2_view_heat(struct ws2_image *image, enum ws2_dtype dtype, const struct ws2_shape *shape,
                  const void *data, const struct ws2_view *view, float alpha, struct ws2_error *error)
{
    struct ws2_image heat = {0};
    float *map, *scaled, low, high;
    int width, height, status;

    if (!is_float(dtype) || shape->rank < 2 || shape->rank > 3 ||
        !sides_fit(shape->dim[shape->rank - 2], shape->dim[shape->rank - 1]))
        return cannot_show("heat", dtype, shape, error);
    status = channel_of(&map, &width, &height, dtype, shape, data, view->channel, error);
    if (status < 0)
        return status;
    range_of(map, (size_t)width * (size_t)height, &low, &high);
    scaled = ws2_calloc((size_t)image->width * (size_t)image->height, sizeof *scaled);
    status = scaled ? ws2_resize_f32(scaled, image->width, image->height, map, width, height, 1, WS2_BILINEAR,
                                     error)
                    : ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a heat map");
    if (status == 0)
        status = ws2_heat_rgb(&heat, scaled, image->width, image->height, low, high, view->palette, error);
    if (status == 0)
        ws2_image_blend(image, &heat, alpha);
    ws2_image_free(&heat);
    free(scaled);
    free(map);
    return status;
}
