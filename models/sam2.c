#include "models/sam2_internal.h"

#include <stdlib.h>
#include <string.h>

static const struct sam2_shape shapes[] = {
    {SAM2_TINY, 96, 1, {1, 2, 7, 2}, {5, 7, 9}, {8, 4, 14, 7}, 7},
    {SAM2_SMALL, 96, 1, {1, 2, 11, 2}, {7, 10, 13}, {8, 4, 14, 7}, 7},
    {SAM2_BASE_PLUS, 112, 2, {2, 3, 16, 3}, {12, 16, 20}, {8, 4, 14, 7}, 14},
    {SAM2_LARGE, 144, 2, {2, 6, 36, 4}, {23, 33, 43}, {8, 4, 16, 8}, 7},
};

const char *sam2_size_name(enum sam2_size size)
{
    static const char *const name[] = {"any", "tiny", "small", "base_plus", "large"};
    return name[size];
}

/* ---- layers ----------------------------------------------------------------------------------------------- */

static struct sam2_layer declare(struct nn_params *params, const char *name, struct ws2_shape weight, int out,
                                 struct nn_init init, struct nn_init bias)
{
    nn_params_enter(params, "%s", name);
    const struct sam2_layer layer = {
        nn_declare(params, NN_WEIGHT, "weight", weight, init),
        nn_declare(params, NN_BIAS, "bias", ws2_shape_1(out), bias),
    };
    nn_params_leave(params);
    return layer;
}

struct sam2_layer sam2_declare_linear(struct nn_params *params, const char *name, int out, int in)
{
    return declare(params, name, ws2_shape_2(out, in), out, nn_init_make(NN_INIT_DEFAULT, 0),
                   nn_init_make(NN_INIT_DEFAULT, in));
}

struct sam2_layer sam2_declare_conv(struct nn_params *params, const char *name, int out, int in, int kernel)
{
    return declare(params, name, ws2_shape_4(out, in, kernel, kernel), out, nn_init_make(NN_INIT_DEFAULT, 0),
                   nn_init_make(NN_INIT_DEFAULT, (double)in * kernel * kernel));
}

struct sam2_layer sam2_declare_norm(struct nn_params *params, const char *name, int width)
{
    return declare(params, name, ws2_shape_1(width), width, nn_init_make(NN_INIT_CONSTANT, 1),
                   nn_init_make(NN_INIT_CONSTANT, 0));
}

struct nn_tensor *sam2_linear(struct nn *nn, const struct sam2_layer *layer, struct nn_tensor *x)
{
    return nn_linear(nn, x, layer->weight, layer->bias);
}

struct nn_tensor *sam2_norm(struct nn *nn, const struct sam2_layer *layer, struct nn_tensor *x, double eps)
{
    return nn_layer_norm(nn, x, layer->weight, layer->bias, eps);
}

struct nn_tensor *sam2_pointwise(struct nn *nn, const struct sam2_layer *layer, struct nn_tensor *x)
{
    const struct ws2_shape flat = ws2_shape_2(nn_dim(layer->weight, 0), nn_dim(layer->weight, 1));
    return nn_linear(nn, x, nn_reshape(nn, layer->weight, flat), layer->bias);
}

struct nn_tensor *sam2_channels_last(struct nn *nn, struct nn_tensor *x)
{
    return nn_permute(nn, x, nn_axes_4(0, 2, 3, 1));
}

struct nn_tensor *sam2_channels_first(struct nn *nn, struct nn_tensor *x)
{
    return nn_permute(nn, x, nn_axes_4(0, 3, 1, 2));
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

/* Declares everything; the values are zeros. */
static int build(struct sam2 **out, struct nn *nn, enum sam2_size size, struct ws2_error *error)
{
    *out = NULL;
    if (size < SAM2_TINY || size > SAM2_LARGE)
        return ws2_fail(error, WS2_ERR_USAGE, "SAM 2 is tiny, small, base_plus or large");
    struct sam2 *sam2 = ws2_calloc(1, sizeof *sam2);
    if (sam2 == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    sam2->nn = nn;
    sam2->shape = &shapes[size - SAM2_TINY];
    sam2->params = nn_params_new(nn);
    if (sam2->params) {
        sam2_declare_encoder(sam2);
        sam2_declare_decoder(sam2);
    }
    const int status = nn_check(nn, error);
    if (status >= 0 && sam2->params) {
        *out = sam2;
        return WS2_OK;
    }
    sam2_close(sam2);
    return status < 0 ? status : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

int sam2_open(struct sam2 **out, struct nn *nn, enum sam2_size size, uint64_t seed, struct ws2_error *error)
{
    int status = build(out, nn, size, error);
    if (status < 0)
        return status;
    nn_params_init((*out)->params, seed);
    status = nn_check(nn, error);
    if (status >= 0)
        status = nn_params_digest((*out)->params, (*out)->digest, error);
    if (status < 0) {
        sam2_close(*out);
        *out = NULL;
    }
    return status;
}

/* A file without our first layer, and what it may be instead. */
static int foreign(const struct nn_weights *weights, const char *lacks, struct ws2_error *error)
{
    if (nn_weights_find(weights, "image_encoder.pos_embed") >= 0)
        return ws2_fail(error, WS2_ERR_MODEL, "the file holds the first SAM, not SAM 2");
    for (int i = 0; i < nn_weights_count(weights); i++)
        if (strncmp(nn_weights_at(weights, i)->name, "vision_encoder.", 15) == 0)
            return ws2_fail(error, WS2_ERR_MODEL,
                            "the file has the names of the transformers library (vision_encoder...); "
                            "wanted is the official checkpoint of SAM 2");
    return ws2_fail(error, WS2_ERR_MODEL, "the file holds no SAM 2: it lacks %s", lacks);
}

/* The width of the first layer; tiny and small have the same and differ in depth. */
static int find_size(const struct nn_weights *weights, enum sam2_size *size, struct ws2_error *error)
{
    static const char *const key = "image_encoder.trunk.patch_embed.proj.weight";
    const struct nn_weight *first = nn_weights_at(weights, nn_weights_find(weights, key));
    char text[64];
    if (first == NULL)
        return foreign(weights, key, error);
    const int64_t width = first->shape.rank == 4 ? first->shape.dim[0] : 0;
    const bool deep = nn_weights_find(weights, "image_encoder.trunk.blocks.12.norm1.weight") >= 0;
    *size = width == 96    ? deep ? SAM2_SMALL : SAM2_TINY
            : width == 112 ? SAM2_BASE_PLUS
            : width == 144 ? SAM2_LARGE
                           : SAM2_ANY;
    if (*size == SAM2_ANY)
        return ws2_fail(error, WS2_ERR_MODEL,
                        "%s has shape %s, not 96 (tiny, small), 112 (base_plus) or 144 (large) channels", key,
                        ws2_shape_text(&first->shape, text, sizeof text));
    return WS2_OK;
}

int sam2_load(struct sam2 **out, struct nn *nn, const struct nn_weights *weights, enum sam2_size wanted,
              struct ws2_error *error)
{
    /* What SAM 2 (the last two: 2.1 only) has for videos. */
    static const struct nn_load_options options = {
        .skip = {"maskmem_tpos_enc", "no_mem_pos_enc", "no_obj_ptr", "mask_downsample.*",
                 "memory_attention.*", "memory_encoder.*", "obj_ptr_*", "no_obj_embed_spatial"}};
    enum sam2_size size = SAM2_ANY;
    *out = NULL;
    int status = find_size(weights, &size, error);
    if (status < 0)
        return status;
    if (wanted != SAM2_ANY && wanted != size)
        return ws2_fail(error, WS2_ERR_MODEL, "the file holds SAM 2 %s, not %s", sam2_size_name(size),
                        sam2_size_name(wanted));
    status = build(out, nn, size, error);
    if (status < 0)
        return status;
    status = nn_params_load((*out)->params, weights, &options, NULL, error);
    if (status >= 0)
        status = nn_params_digest((*out)->params, (*out)->digest, error);
    if (status < 0) {
        sam2_close(*out);
        *out = NULL;
    }
    return status;
}

int sam2_read(struct sam2 **out, struct nn *nn, const char *path, enum sam2_size wanted,
              struct ws2_error *error)
{
    struct nn_weights *weights;
    *out = NULL;
    int status = nn_weights_open(&weights, path, NULL, error);
    if (status < 0)
        return status; /* the text begins with the path */
    status = sam2_load(out, nn, weights, wanted, error);
    nn_weights_close(weights);
    if (status < 0)
        ws2_error_prefix(error, "%s", path);
    return status;
}

int sam2_twin(struct sam2 **out, struct nn *nn, const struct sam2 *from, struct ws2_error *error)
{
    int status = build(out, nn, from->shape->size, error);
    if (status < 0)
        return status;
    memcpy((*out)->digest, from->digest, sizeof from->digest);
    nn_params_share((*out)->params, from->params);
    status = nn_check(nn, error);
    if (status < 0) {
        sam2_close(*out);
        *out = NULL;
    }
    return status;
}

void sam2_close(struct sam2 *sam2)
{
    if (sam2)
        nn_params_free(sam2->params);
    free(sam2);
}

struct nn *sam2_context(const struct sam2 *sam2)
{
    return sam2->nn;
}

enum sam2_size sam2_size(const struct sam2 *sam2)
{
    return sam2->shape->size;
}

struct nn_params *sam2_params(const struct sam2 *sam2)
{
    return sam2->params;
}

const char *sam2_digest(const struct sam2 *sam2)
{
    return sam2->digest;
}

/* ---- pictures --------------------------------------------------------------------------------------------- */

struct nn_tensor *sam2_images_u8(const struct sam2 *sam2, int64_t batch, int64_t height, int64_t width,
                                 const uint8_t *rgb, int64_t side)
{
    struct nn *nn = sam2->nn;
    if (batch < 1 || height < 1 || width < 1 || side < 1 || side % SAM2_SIDE_STEP != 0)
        return nn_fail(
            nn, WS2_ERR_USAGE, "sam2: %lld images of %lldx%lld as squares of %lld (a multiple of %d)",
            (long long)batch, (long long)width, (long long)height, (long long)side, SAM2_SIDE_STEP);
    nn_no_grad_begin(nn);
    nn_scope_begin(nn);
    struct nn_tensor *x = nn_images_u8(nn, batch, height, width, rgb, nn_imagenet_mean, nn_imagenet_std);
    if (height != side || width != side)
        x = nn_resize_bilinear_aa(nn, x, side, side);
    x = nn_keep(nn, x);
    nn_scope_end(nn);
    nn_no_grad_end(nn);
    return x;
}

struct sam2_embedding sam2_embed_u8(const struct sam2 *sam2, int64_t batch, int64_t height, int64_t width,
                                    const uint8_t *rgb, int64_t side)
{
    struct nn_tensor *images = sam2_images_u8(sam2, batch, height, width, rgb, side);
    struct sam2_embedding e = sam2_encode(sam2, images);
    nn_drop(sam2->nn, images);
    e.height = height;
    e.width = width;
    return e;
}

void sam2_embedding_drop(const struct sam2 *sam2, struct sam2_embedding *e)
{
    nn_drop(sam2->nn, e->image);
    nn_drop(sam2->nn, e->fine);
    nn_drop(sam2->nn, e->half);
    e->image = e->fine = e->half = NULL;
}

/* Numbers of one map: channels and how many cells it has along each of those of the coarsest. */
static size_t numbers(int64_t side, int channels, int times)
{
    const int64_t cells = side / 16 * times;
    return (size_t)channels * (size_t)cells * (size_t)cells;
}

size_t sam2_embedding_floats(int64_t side)
{
    return numbers(side, SAM2_WIDTH, 1) + numbers(side, SAM2_FINE, 4) + numbers(side, SAM2_HALF, 2);
}

int sam2_embedding_to_f32(const struct sam2 *sam2, const struct sam2_embedding *e, float *out)
{
    const int64_t side = 16 * nn_dim(e->image, 2);
    const size_t image = numbers(side, SAM2_WIDTH, 1), fine = numbers(side, SAM2_FINE, 4);
    nn_to_f32(sam2->nn, e->image, out, image);
    nn_to_f32(sam2->nn, e->fine, out + image, fine);
    return nn_to_f32(sam2->nn, e->half, out + image + fine, numbers(side, SAM2_HALF, 2));
}

struct sam2_embedding sam2_embedding_from_f32(const struct sam2 *sam2, int64_t height, int64_t width,
                                              int64_t side, const float *data)
{
    struct nn *nn = sam2->nn;
    const int64_t g = side / 16;
    const size_t image = numbers(side, SAM2_WIDTH, 1), fine = numbers(side, SAM2_FINE, 4);
    struct sam2_embedding e = {.height = height, .width = width};
    e.image = nn_from_f32(nn, ws2_shape_4(1, SAM2_WIDTH, g, g), data);
    e.fine = nn_from_f32(nn, ws2_shape_4(1, SAM2_FINE, 4 * g, 4 * g), data + image);
    e.half = nn_from_f32(nn, ws2_shape_4(1, SAM2_HALF, 2 * g, 2 * g), data + image + fine);
    if (nn_error(nn))
        e.image = e.fine = e.half = NULL;
    return e;
}

struct nn_tensor *sam2_upscale(const struct sam2 *sam2, struct nn_tensor *logits, int64_t height,
                               int64_t width)
{
    struct nn *nn = sam2->nn;
    nn_no_grad_begin(nn);
    struct nn_tensor *x = nn_resize_bilinear(nn, logits, height, width, false);
    nn_no_grad_end(nn);
    return x;
}
