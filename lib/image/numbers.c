/* Tensors as files that hold their numbers and not a picture of them. */
#include <string.h>
#include "image/internal.h"

struct numbers {
    enum ws2_dtype dtype;
    struct ws2_shape shape;
    const void *data;
};

static int get(const struct ws2_look_source *source, const char *name, struct numbers *found,
               struct ws2_error *error)
{
    if (!source->has(source->context, name))
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", name);
    return source->get(source->context, name, &found->dtype, &found->shape, &found->data, error);
}

/* The mask NAME.valid of a flow; *mask stays NULL where there is none. */
static int get_valid(const struct ws2_look_source *source, const char *name, const struct numbers *flow,
                     const uint8_t **mask, struct ws2_error *error)
{
    struct numbers valid = {0};
    char text[128];
    int found = 0;

    snprintf(text, sizeof text, "%s.valid", name);
    if (source->has(source->context, text))
        found = get(source, text, &valid, error);
    if (found == 1 && (valid.dtype != WS2_U8 || valid.shape.rank != 2 || flow->shape.rank != 3 ||
                       valid.shape.dim[0] != flow->shape.dim[1] || valid.shape.dim[1] != flow->shape.dim[2]))
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is no mask of the size of '%s'", text, name);
    *mask = valid.data;
    return found;
}

static int write_flow(const char *path, enum ws2_numbers kind, const struct ws2_look_source *source,
                      const char *name, const struct numbers *flow, int level, struct ws2_error *error)
{
    struct ws2_flow_file file = {0};
    struct ws2_error own = {0};
    const uint8_t *valid = NULL;
    int status = kind == WS2_NUMBERS_KITTI ? get_valid(source, name, flow, &valid, error) : 0;

    if (status < 0)
        return status;
    status = ws2_flow_file_fill(&file, flow->dtype, &flow->shape, flow->data, valid, &own);
    if (status < 0)
        ws2_fail(error, own.status, "tensor '%s': %s", name, own.text);
    else if (kind == WS2_NUMBERS_KITTI)
        status = ws2_kitti_write(path, &file, level, error);
    else
        status = ws2_flo_write(path, &file, error);
    ws2_flow_file_free(&file);
    return status;
}

int ws2_numbers_write(const char *path, enum ws2_numbers kind, const struct ws2_look_source *source,
                      const char *name, int level, struct ws2_error *error)
{
    struct numbers found;
    int status = get(source, name, &found, error);

    if (status <= 0)
        return status;
    if (kind == WS2_NUMBERS_NPY) {
        status = ws2_npy_write(path, found.dtype, &found.shape, found.data, error);
    } else if (kind == WS2_NUMBERS_PNG16) {
        if (found.dtype != WS2_U16 || found.shape.rank != 2)
            return 0;
        status = ws2_png_write16(path, found.data, (int)found.shape.dim[1], (int)found.shape.dim[0], 1, level,
                                 error);
    } else {
        status = write_flow(path, kind, source, name, &found, level, error);
    }
    return status < 0 ? status : 1;
}
