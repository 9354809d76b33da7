#include "models/raft.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 6, LEVELS = 4, CELL = 8 }; /* two blocks in each of three layers; pixels per cell */

enum norm { NORM_NONE, NORM_INSTANCE, NORM_BATCH };

/* A convolution with bias, and the normalisation that follows it. */
struct unit {
    struct nn_tensor *weight, *bias;
    struct nn_bn bn; /* NORM_BATCH */
    enum norm norm;
    struct nn_conv conv;
};

struct block {
    struct unit unit[3], down; /* down: where the identity needs a change */
    int units;
    bool has_down;
};

struct encoder {
    struct unit first, last;
    struct block block[BLOCKS];
};

struct gru {
    struct unit z, r, q;
};

/* What makes one size of the network. */
struct shape {
    enum raft_size size;
    int feature[5], context[5]; /* channels of the encoders: first convolution, three layers, output */
    bool bottleneck;
    enum norm context_norm;
    int hidden, radius;
    int corr[2], flow[2], motion; /* motion encoder; corr[1] = 0: one convolution only */
    int grus, head;
    bool mask;
};

static const struct shape shapes[] = {
    {.size = RAFT_SMALL,
     .feature = {32, 32, 64, 96, 128},
     .context = {32, 32, 64, 96, 160},
     .bottleneck = true,
     .context_norm = NORM_NONE,
     .hidden = 96,
     .radius = 3,
     .corr = {96, 0},
     .flow = {64, 32},
     .motion = 82,
     .grus = 1,
     .head = 128},
    {.size = RAFT_LARGE,
     .feature = {64, 64, 96, 128, 256},
     .context = {64, 64, 96, 128, 256},
     .context_norm = NORM_BATCH,
     .hidden = 128,
     .radius = 4,
     .corr = {256, 192},
     .flow = {128, 64},
     .motion = 128,
     .grus = 2,
     .head = 256,
     .mask = true},
};

struct raft {
    struct nn *nn;
    struct nn_params *params;
    const struct shape *shape;
    char digest[NN_DIGEST_SIZE];
    struct encoder feature, context;
    struct unit corr[2], flow[2], motion;
    struct gru gru[2];
    struct unit head[2], mask[2];
};

const char *raft_size_name(enum raft_size size)
{
    static const char *const name[] = {"any", "small", "large"};
    return name[size];
}

/* ---- declaring -------------------------------------------------------------------------------------------- */

/* Declares NAME.weight and NAME.bias. The encoders begin as He et al. have it, all else as PyTorch's convolutions. */
static struct unit declare_conv(struct nn_params *params, const char *name, int out, int in, int height,
                                int width, enum nn_init_rule rule)
{
    struct unit unit = {.conv = {{1, 1}, {height / 2, width / 2}, {1, 1}, 1}};
    nn_params_enter(params, "%s", name);
    unit.weight =
        nn_declare(params, NN_WEIGHT, "weight", ws2_shape_4(out, in, height, width), nn_init_make(rule, 0));
    unit.bias = nn_declare(params, NN_BIAS, "bias", ws2_shape_1(out),
                           nn_init_make(NN_INIT_DEFAULT, (double)in * height * width));
    nn_params_leave(params);
    return unit;
}

/* NAME.0 and, with batch normalisation, NAME.1. */
static struct unit declare_normed(struct nn_params *params, const char *name, int out, int in, int kernel,
                                  int stride, enum norm norm)
{
    nn_params_enter(params, "%s", name);
    struct unit unit = declare_conv(params, "0", out, in, kernel, kernel, NN_INIT_KAIMING_OUT);
    unit.conv.stride[0] = unit.conv.stride[1] = stride;
    unit.norm = norm;
    if (norm == NORM_BATCH)
        unit.bn = nn_bn_declare(params, "1", out);
    nn_params_leave(params);
    return unit;
}

static void declare_block(struct block *block, struct nn_params *params, int out, int in, int stride,
                          bool bottleneck, enum norm norm)
{
    const int middle = bottleneck ? out / 4 : out;
    block->units = bottleneck ? 3 : 2;
    if (bottleneck) {
        block->unit[0] = declare_normed(params, "convnormrelu1", middle, in, 1, 1, norm);
        block->unit[1] = declare_normed(params, "convnormrelu2", middle, middle, 3, stride, norm);
        block->unit[2] = declare_normed(params, "convnormrelu3", out, middle, 1, 1, norm);
    } else {
        block->unit[0] = declare_normed(params, "convnormrelu1", out, in, 3, stride, norm);
        block->unit[1] = declare_normed(params, "convnormrelu2", out, out, 3, 1, norm);
    }
    block->has_down = stride != 1;
    if (block->has_down)
        block->down = declare_normed(params, "downsample", out, in, 1, stride, norm);
}

static void declare_encoder(struct encoder *encoder, struct nn_params *params, const char *name,
                            const int widths[5], bool bottleneck, enum norm norm)
{
    nn_params_enter(params, "%s", name);
    encoder->first = declare_normed(params, "convnormrelu", widths[0], 3, 7, 2, norm);
    for (int i = 0; i < BLOCKS; i++) {
        const int layer = 1 + i / 2, out = widths[layer], in = i % 2 ? out : widths[layer - 1];
        nn_params_enter(params, "layer%d.%d", layer, i % 2);
        declare_block(&encoder->block[i], params, out, in, i % 2 == 0 && layer > 1 ? 2 : 1, bottleneck, norm);
        nn_params_leave(params);
    }
    encoder->last = declare_conv(params, "conv", widths[4], widths[3], 1, 1, NN_INIT_KAIMING_OUT);
    nn_params_leave(params);
}

static struct unit declare_plain(struct nn_params *params, const char *name, int out, int in, int kernel)
{
    return declare_conv(params, name, out, in, kernel, kernel, NN_INIT_DEFAULT);
}

static void declare_motion(struct raft *raft)
{
    const struct shape *s = raft->shape;
    struct nn_params *params = raft->params;
    const int window = 2 * s->radius + 1, corr = s->corr[1] ? s->corr[1] : s->corr[0];
    nn_params_enter(params, "motion_encoder");
    raft->corr[0] = declare_plain(params, "convcorr1.0", s->corr[0], LEVELS * window * window, 1);
    if (s->corr[1])
        raft->corr[1] = declare_plain(params, "convcorr2.0", s->corr[1], s->corr[0], 3);
    raft->flow[0] = declare_plain(params, "convflow1.0", s->flow[0], 2, 7);
    raft->flow[1] = declare_plain(params, "convflow2.0", s->flow[1], s->flow[0], 3);
    raft->motion = declare_plain(params, "conv.0", s->motion - 2, corr + s->flow[1], 3);
    nn_params_leave(params);
}

/* The large network has a row-wise and a column-wise unit, the small one a square one. */
static void declare_gru(struct gru *gru, struct nn_params *params, const struct shape *s, int index)
{
    const int in = s->context[4] + s->motion; /* hidden state, context and motion */
    const int height = s->grus == 1 ? 3 : index == 0 ? 1 : 5, width = s->grus == 1 ? 3 : index == 0 ? 5 : 1;
    nn_params_enter(params, "recurrent_block.convgru%d", index + 1);
    gru->z = declare_conv(params, "convz", s->hidden, in, height, width, NN_INIT_DEFAULT);
    gru->r = declare_conv(params, "convr", s->hidden, in, height, width, NN_INIT_DEFAULT);
    gru->q = declare_conv(params, "convq", s->hidden, in, height, width, NN_INIT_DEFAULT);
    nn_params_leave(params);
}

static void declare_updates(struct raft *raft)
{
    const struct shape *s = raft->shape;
    struct nn_params *params = raft->params;
    nn_params_enter(params, "update_block");
    declare_motion(raft);
    for (int i = 0; i < s->grus; i++)
        declare_gru(&raft->gru[i], params, s, i);
    raft->head[0] = declare_plain(params, "flow_head.conv1", s->head, s->hidden, 3);
    raft->head[1] = declare_plain(params, "flow_head.conv2", 2, s->head, 3);
    nn_params_leave(params);
    if (!s->mask)
        return;
    raft->mask[0] = declare_plain(params, "mask_predictor.convrelu.0", 256, s->hidden, 3);
    raft->mask[1] = declare_plain(params, "mask_predictor.conv", 9 * CELL * CELL, 256, 1);
}

/* Declares everything; the values are zeros. */
static int build(struct raft **out, struct nn *nn, enum raft_size size, struct ws2_error *error)
{
    *out = NULL;
    if (size != RAFT_SMALL && size != RAFT_LARGE)
        return ws2_fail(error, WS2_ERR_USAGE, "RAFT is small or large");
    struct raft *raft = ws2_calloc(1, sizeof *raft);
    if (raft == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    raft->nn = nn;
    raft->shape = &shapes[size - RAFT_SMALL];
    raft->params = nn_params_new(nn);
    const struct shape *s = raft->shape;
    if (raft->params) {
        declare_encoder(&raft->feature, raft->params, "feature_encoder", s->feature, s->bottleneck,
                        NORM_INSTANCE);
        declare_encoder(&raft->context, raft->params, "context_encoder", s->context, s->bottleneck,
                        s->context_norm);
        declare_updates(raft);
    }
    const int status = nn_check(nn, error);
    if (status >= 0 && raft->params) {
        *out = raft;
        return WS2_OK;
    }
    raft_close(raft);
    return status < 0 ? status : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

int raft_open(struct raft **out, struct nn *nn, enum raft_size size, uint64_t seed, struct ws2_error *error)
{
    int status = build(out, nn, size, error);
    if (status < 0)
        return status;
    nn_params_init((*out)->params, seed);
    status = nn_check(nn, error);
    if (status >= 0)
        status = nn_params_digest((*out)->params, (*out)->digest, error);
    if (status < 0) {
        raft_close(*out);
        *out = NULL;
    }
    return status;
}

/* The first convolution of either size has 32 or 64 channels. */
static int find_size(const struct nn_weights *weights, enum raft_size *size, struct ws2_error *error)
{
    static const char *const key = "feature_encoder.convnormrelu.0.weight";
    const struct nn_weight *first = nn_weights_at(weights, nn_weights_find(weights, key));
    char text[64];
    if (first == NULL)
        return ws2_fail(error, WS2_ERR_MODEL, "the file holds no RAFT of torchvision: it lacks %s", key);
    const int64_t channels = first->shape.rank == 4 ? first->shape.dim[0] : 0;
    *size = channels == 32 ? RAFT_SMALL : channels == 64 ? RAFT_LARGE : RAFT_ANY;
    if (*size == RAFT_ANY)
        return ws2_fail(error, WS2_ERR_MODEL, "%s has shape %s, not [32,3,7,7] (small) or [64,3,7,7] (large)",
                        key, ws2_shape_text(&first->shape, text, sizeof text));
    return WS2_OK;
}

int raft_load(struct raft **out, struct nn *nn, const struct nn_weights *weights, enum raft_size wanted,
              struct ws2_error *error)
{
    enum raft_size size = RAFT_ANY;
    *out = NULL;
    int status = find_size(weights, &size, error);
    if (status < 0)
        return status;
    if (wanted != RAFT_ANY && wanted != size)
        return ws2_fail(error, WS2_ERR_MODEL, "the file holds RAFT %s, not %s", raft_size_name(size),
                        raft_size_name(wanted));
    status = build(out, nn, size, error);
    if (status < 0)
        return status;
    const struct nn_load_options strict = {0};
    status = nn_params_load((*out)->params, weights, &strict, NULL, error);
    if (status >= 0)
        status = nn_params_digest((*out)->params, (*out)->digest, error);
    if (status < 0) {
        raft_close(*out);
        *out = NULL;
    }
    return status;
}

int raft_read(struct raft **out, struct nn *nn, const char *path, enum raft_size wanted,
              struct ws2_error *error)
{
    struct nn_weights *weights;
    *out = NULL;
    int status = nn_weights_open(&weights, path, NULL, error);
    if (status < 0)
        return status; /* the text begins with the path */
    status = raft_load(out, nn, weights, wanted, error);
    nn_weights_close(weights);
    if (status < 0)
        ws2_error_prefix(error, "%s", path);
    return status;
}

int raft_twin(struct raft **out, struct nn *nn, const struct raft *from, struct ws2_error *error)
{
    int status = build(out, nn, from->shape->size, error);
    if (status < 0)
        return status;
    memcpy((*out)->digest, from->digest, sizeof from->digest);
    nn_params_share((*out)->params, from->params);
    status = nn_check(nn, error);
    if (status < 0) {
        raft_close(*out);
        *out = NULL;
    }
    return status;
}

void raft_close(struct raft *raft)
{
    if (raft)
        nn_params_free(raft->params);
    free(raft);
}

struct nn *raft_context(const struct raft *raft)
{
    return raft->nn;
}

enum raft_size raft_size(const struct raft *raft)
{
    return raft->shape->size;
}

struct nn_params *raft_params(const struct raft *raft)
{
    return raft->params;
}

const char *raft_digest(const struct raft *raft)
{
    return raft->digest;
}

/* ---- encoders --------------------------------------------------------------------------------------------- */

static struct nn_tensor *convolve(struct nn *nn, const struct unit *unit, struct nn_tensor *x)
{
    return nn_conv2d(nn, x, unit->weight, unit->bias, unit->conv);
}

static struct nn_tensor *run_relu(struct nn *nn, const struct unit *unit, struct nn_tensor *x)
{
    return nn_relu_(nn, convolve(nn, unit, x));
}

static struct nn_tensor *run_normed(struct nn *nn, const struct unit *unit, struct nn_tensor *x)
{
    struct nn_tensor *y = convolve(nn, unit, x);
    if (unit->norm == NORM_INSTANCE)
        return nn_instance_norm(nn, y, 1e-5);
    return unit->norm == NORM_BATCH ? nn_bn_apply(nn, &unit->bn, y, false, false) : y;
}

static struct nn_tensor *run_block(struct nn *nn, const struct block *block, struct nn_tensor *x)
{
    struct nn_tensor *y = x;
    for (int i = 0; i < block->units; i++) {
        struct nn_tensor *before = y;
        y = nn_relu_(nn, run_normed(nn, &block->unit[i], y));
        if (i > 0)
            nn_drop(nn, before);
    }
    return nn_relu_(nn, nn_add_(nn, y, block->has_down ? run_normed(nn, &block->down, x) : x));
}

/* images [B,3,8h,8w] -> [B,C,h,w]. Each block has a scope of its own, so that its intermediates go at once. */
static struct nn_tensor *run_encoder(struct nn *nn, const struct encoder *encoder, struct nn_tensor *images)
{
    nn_scope_begin(nn);
    struct nn_tensor *y = nn_relu_(nn, run_normed(nn, &encoder->first, images));
    for (int i = 0; i < BLOCKS; i++) {
        struct nn_tensor *before = y;
        nn_scope_begin(nn);
        y = nn_keep(nn, run_block(nn, &encoder->block[i], before));
        nn_scope_end(nn);
        nn_drop(nn, before);
    }
    y = nn_keep(nn, convolve(nn, &encoder->last, y));
    nn_scope_end(nn);
    return y;
}

static int64_t padded(int64_t side)
{
    return side < RAFT_SIDE_MIN ? RAFT_SIDE_MIN : (side + CELL - 1) / CELL * CELL;
}

static struct nn_tensor *pad(struct nn *nn, struct nn_tensor *images)
{
    const int64_t height = nn_dim(images, 2), width = nn_dim(images, 3);
    const int rows = (int)(padded(height) - height), columns = (int)(padded(width) - width);
    if (images == NULL || (rows == 0 && columns == 0))
        return images;
    return nn_pad_replicate(nn, images, columns / 2, columns - columns / 2, rows / 2, rows - rows / 2);
}

struct nn_tensor *raft_images_u8(const struct raft *raft, int64_t batch, int64_t height, int64_t width,
                                 const uint8_t *rgb)
{
    static const float half[3] = {0.5f, 0.5f, 0.5f};
    return nn_images_u8(raft->nn, batch, height, width, rgb, half, half);
}

struct raft_frame raft_encode(const struct raft *raft, struct nn_tensor *images, bool context)
{
    struct nn *nn = raft->nn;
    struct raft_frame frame = {.height = nn_dim(images, 2), .width = nn_dim(images, 3)};
    if (images && (nn_rank(images) != 4 || nn_dim(images, 1) != 3 || frame.height < 1 || frame.width < 1)) {
        nn_fail(nn, WS2_ERR_USAGE, "raft_encode: images must be [B,3,H,W]");
        return frame;
    }
    nn_no_grad_begin(nn);
    nn_scope_begin(nn);
    struct nn_tensor *x = pad(nn, images);
    frame.features = nn_keep(nn, run_encoder(nn, &raft->feature, x));
    if (context)
        frame.context = nn_keep(nn, run_encoder(nn, &raft->context, x));
    nn_scope_end(nn);
    nn_no_grad_end(nn);
    if (nn_error(nn))
        frame.features = frame.context = NULL;
    return frame;
}

void raft_frame_drop(const struct raft *raft, struct raft_frame *frame)
{
    nn_drop(raft->nn, frame->features);
    nn_drop(raft->nn, frame->context);
    *frame = (struct raft_frame){0};
}

/* ---- correlations ----------------------------------------------------------------------------------------- */

/* [B,h,w,h,w] as [Bhw,1,h,w]: every cell of a with every cell of b, divided by the root of the channels. The network
 * may run in bf16, but what is sampled many times is stored in f32. */
static struct nn_tensor *correlate(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    const int64_t batch = nn_dim(a, 0), channels = nn_dim(a, 1), h = nn_dim(a, 2), w = nn_dim(a, 3);
    nn_scope_begin(nn);
    struct nn_tensor *rows = nn_transpose(nn, nn_flatten(nn, a, 2, 3), 1, 2);
    rows = nn_mul_scalar(nn, rows, 1 / sqrt((double)channels));
    struct nn_tensor *all = nn_matmul(nn, rows, nn_flatten(nn, b, 2, 3));
    if (nn_dtype(all) == NN_BF16)
        all = nn_to_dtype(nn, all, NN_F32);
    nn_keep(nn, all = nn_reshape(nn, all, ws2_shape_4(batch * h * w, 1, h, w)));
    nn_scope_end(nn);
    return all;
}

/* The same of b with a. */
static struct nn_tensor *turn(struct nn *nn, struct nn_tensor *all, int64_t batch)
{
    const int64_t h = nn_dim(all, 2), w = nn_dim(all, 3);
    nn_scope_begin(nn);
    struct nn_tensor *square = nn_reshape(nn, all, ws2_shape_3(batch, h * w, h * w));
    square = nn_contiguous(nn, nn_transpose(nn, square, 1, 2));
    struct nn_tensor *turned = nn_keep(nn, nn_reshape(nn, square, ws2_shape_4(batch * h * w, 1, h, w)));
    nn_scope_end(nn);
    return turned;
}

/* One pyramid level, and what turns cells into the coordinates of nn_grid_sample: cell * scale + window. Coordinates
 * are kept in planes, x and y, so that what is added to each cell's own is one run of memory. */
struct level {
    struct nn_tensor *corr;   /* [Bhw,1,h/2^l,w/2^l] */
    struct nn_tensor *scale;  /* [2,1,1] */
    struct nn_tensor *window; /* [2,1,n*n]: offsets in those coordinates, minus 1 */
};

/* Offsets -r..r, the slow axis moving x, the fast one y. */
static struct nn_tensor *make_window(struct nn *nn, int radius, double scale_x, double scale_y)
{
    const int64_t side = 2 * radius + 1;
    struct nn_tensor *line = nn_add_scalar(nn, nn_arange(nn, 0, side, NN_F64), -radius);
    struct nn_tensor *x = nn_add_scalar(nn, nn_mul_scalar(nn, line, scale_x), -1);
    struct nn_tensor *y = nn_add_scalar(nn, nn_mul_scalar(nn, line, scale_y), -1);
    const struct ws2_shape square = ws2_shape_3(1, side, side);
    struct nn_tensor *both[2] = {nn_expand(nn, nn_reshape(nn, x, ws2_shape_3(1, side, 1)), square),
                                 nn_expand(nn, nn_reshape(nn, y, ws2_shape_3(1, 1, side)), square)};
    return nn_reshape(nn, nn_cat(nn, both, 2, 0), ws2_shape_3(2, 1, side * side));
}

static void make_levels(const struct raft *raft, struct nn_tensor *all, struct level level[LEVELS])
{
    struct nn *nn = raft->nn;
    const enum nn_dtype dtype = nn_dtype(all);
    for (int l = 0; l < LEVELS; l++) {
        level[l].corr = l == 0 ? all : nn_avg_pool2d(nn, level[l - 1].corr, 2, 2, 0);
        const double scale[2] = {2.0 / (double)(nn_dim(level[l].corr, 3) - 1),
                                 2.0 / (double)(nn_dim(level[l].corr, 2) - 1)};
        struct nn_tensor *fine = nn_from_f64(nn, ws2_shape_3(2, 1, 1), scale);
        level[l].scale = nn_to_dtype(nn, nn_mul_scalar(nn, fine, 1.0 / (1 << l)), dtype);
        level[l].window = nn_to_dtype(nn, make_window(nn, raft->shape->radius, scale[0], scale[1]), dtype);
    }
}

/* The correlations around the cells that `centre` [2,Bhw,1] points at: [B,LEVELS*n*n,h,w], level by level. */
static struct nn_tensor *look_up(struct nn *nn, const struct level level[LEVELS], struct nn_tensor *centre,
                                 int64_t batch, int radius)
{
    const int64_t h = nn_dim(level[0].corr, 2), w = nn_dim(level[0].corr, 3), side = 2 * radius + 1;
    const struct ws2_shape planes = ws2_shape_4(2, batch * h * w, side, side);
    struct nn_tensor *part[LEVELS];
    nn_scope_begin(nn);
    for (int l = 0; l < LEVELS; l++) {
        struct nn_tensor *grid = nn_add(nn, nn_mul(nn, centre, level[l].scale), level[l].window);
        grid = nn_permute(nn, nn_reshape(nn, grid, planes), nn_axes_4(1, 2, 3, 0));
        part[l] = nn_reshape(nn, nn_grid_sample(nn, level[l].corr, grid, true), ws2_shape_4(batch, h, w, -1));
    }
    struct nn_tensor *all = nn_cat(nn, part, LEVELS, 3);
    nn_keep(nn, all = nn_permute(nn, all, nn_axes_4(0, 3, 1, 2)));
    nn_scope_end(nn);
    return all;
}

/* ---- updates ---------------------------------------------------------------------------------------------- */

/* A gated recurrent unit, prepared for one flow: its convolutions over hidden state, context and motion are split, so
 * that the part of the context, which stays the same, is computed once. */
struct prepared {
    struct nn_tensor *zr_weight, *zr_fixed; /* update and reset gate together: [2H,H+M,kh,kw], [B,2H,h,w] */
    struct nn_tensor *q_weight, *q_fixed;   /* the candidate: [H,H+M,kh,kw], [B,H,h,w] */
    struct nn_conv conv;
};

/* What all updates of one flow share. */
struct flow {
    const struct raft *raft;
    int64_t batch, h, w;
    struct level level[LEVELS];
    struct nn_tensor *cells; /* [B,2,h,w]: column and row of each cell */
    struct prepared gru[2];
};

/* What an update changes: hidden state [B,H,h,w] and flow in cells [B,2,h,w]. */
struct state {
    struct nn_tensor *hidden, *flow;
};

/* Takes the context's channels out of a weight over (hidden, context, motion). */
static struct nn_tensor *without_context(struct nn *nn, struct nn_tensor *weight, int64_t begin, int64_t end)
{
    struct nn_tensor *rest[2] = {nn_narrow(nn, weight, 1, 0, begin),
                                 nn_narrow(nn, weight, 1, end, nn_dim(weight, 1) - end)};
    return nn_cat(nn, rest, 2, 1);
}

static struct prepared prepare(const struct raft *raft, const struct gru *gru, struct nn_tensor *context)
{
    struct nn *nn = raft->nn;
    const int64_t begin = raft->shape->hidden, length = nn_dim(context, 1), end = begin + length;
    struct nn_tensor *weights[2] = {gru->z.weight, gru->r.weight}, *biases[2] = {gru->z.bias, gru->r.bias};
    struct nn_tensor *zr = nn_cat(nn, weights, 2, 0);
    struct prepared p = {.conv = gru->z.conv};
    p.zr_weight = without_context(nn, zr, begin, end);
    p.zr_fixed =
        nn_conv2d(nn, context, nn_narrow(nn, zr, 1, begin, length), nn_cat(nn, biases, 2, 0), p.conv);
    p.q_weight = without_context(nn, gru->q.weight, begin, end);
    p.q_fixed = nn_conv2d(nn, context, nn_narrow(nn, gru->q.weight, 1, begin, length), gru->q.bias, p.conv);
    return p;
}

/* The new hidden state (1 - z) h + z q. */
static struct nn_tensor *run_gru(struct nn *nn, const struct prepared *gru, struct nn_tensor *hidden,
                                 struct nn_tensor *motion)
{
    struct nn_tensor *gate[2], *input[2] = {hidden, motion};
    nn_scope_begin(nn);
    struct nn_tensor *zr = nn_conv2d(nn, nn_cat(nn, input, 2, 1), gru->zr_weight, NULL, gru->conv);
    nn_chunk(nn, nn_sigmoid(nn, nn_add_(nn, zr, gru->zr_fixed)), 2, 1, gate);
    input[0] = nn_mul(nn, gate[1], hidden);
    struct nn_tensor *q = nn_conv2d(nn, nn_cat(nn, input, 2, 1), gru->q_weight, NULL, gru->conv);
    q = nn_tanh(nn, nn_add_(nn, q, gru->q_fixed));
    struct nn_tensor *step = nn_mul_(nn, nn_sub_(nn, q, hidden), gate[0]);
    struct nn_tensor *next = nn_keep(nn, nn_add_(nn, step, hidden));
    nn_scope_end(nn);
    return next;
}

/* [B,M,h,w] from flow and correlations; its last two channels are the flow itself. */
static struct nn_tensor *encode_motion(const struct raft *raft, struct nn_tensor *corr,
                                       struct nn_tensor *flow)
{
    struct nn *nn = raft->nn;
    struct nn_tensor *both[2] = {run_relu(nn, &raft->corr[0], corr), run_relu(nn, &raft->flow[0], flow)};
    if (raft->shape->corr[1])
        both[0] = run_relu(nn, &raft->corr[1], both[0]);
    both[1] = run_relu(nn, &raft->flow[1], both[1]);
    struct nn_tensor *out[2] = {run_relu(nn, &raft->motion, nn_cat(nn, both, 2, 1)), flow};
    return nn_cat(nn, out, 2, 1);
}

static struct state update(const struct flow *f, struct state state)
{
    const struct raft *raft = f->raft;
    struct nn *nn = raft->nn;
    struct state next = {.hidden = state.hidden};
    nn_scope_begin(nn);
    struct nn_tensor *at = nn_permute(nn, nn_add(nn, f->cells, state.flow), nn_axes_4(1, 0, 2, 3));
    at = nn_reshape(nn, at, ws2_shape_3(2, f->batch * f->h * f->w, 1));
    struct nn_tensor *corr = look_up(nn, f->level, at, f->batch, raft->shape->radius);
    struct nn_tensor *motion = encode_motion(raft, corr, state.flow);
    for (int i = 0; i < raft->shape->grus; i++)
        next.hidden = run_gru(nn, &f->gru[i], next.hidden, motion);
    struct nn_tensor *delta = convolve(nn, &raft->head[1], run_relu(nn, &raft->head[0], next.hidden));
    nn_keep(nn, next.hidden);
    next.flow = nn_keep(nn, nn_add(nn, state.flow, delta));
    nn_scope_end(nn);
    nn_drop(nn, state.hidden);
    nn_drop(nn, state.flow);
    return next;
}

static struct nn_tensor *make_cells(struct nn *nn, const struct flow *f, enum nn_dtype dtype)
{
    const struct ws2_shape plane = ws2_shape_4(f->batch, 1, f->h, f->w);
    struct nn_tensor *x = nn_reshape(nn, nn_arange(nn, 0, f->w, dtype), ws2_shape_4(1, 1, 1, f->w));
    struct nn_tensor *y = nn_reshape(nn, nn_arange(nn, 0, f->h, dtype), ws2_shape_4(1, 1, f->h, 1));
    struct nn_tensor *both[2] = {nn_expand(nn, x, plane), nn_expand(nn, y, plane)};
    return nn_cat(nn, both, 2, 1);
}

/* ---- from cells to pixels --------------------------------------------------------------------------------- */

/* Each of the 8x8 pixels of a cell is a mean of the flow at nine cells, with weights that the network predicts. */
static struct nn_tensor *upsample_by_mask(const struct flow *f, struct state state)
{
    const struct raft *raft = f->raft;
    struct nn *nn = raft->nn;
    const int64_t b = f->batch, h = f->h, w = f->w;
    struct nn_tensor *mask = convolve(nn, &raft->mask[1], run_relu(nn, &raft->mask[0], state.hidden));
    mask = nn_mul_scalar_(nn, mask, 0.25);
    mask = nn_reshape(nn, mask, (struct ws2_shape){7, {b, 1, 9, CELL, CELL, h, w}});
    mask = nn_softmax(nn, mask, 2);
    struct nn_tensor *around = nn_unfold(nn, nn_mul_scalar(nn, state.flow, CELL), 3, 1, 1);
    around = nn_reshape(nn, around, (struct ws2_shape){7, {b, 2, 9, 1, 1, h, w}});
    struct nn_tensor *pixels = nn_sum_axes(nn, nn_mul(nn, mask, around), nn_axes_1(2), false);
    pixels = nn_permute(nn, pixels, (struct nn_axes){6, {0, 1, 4, 2, 5, 3}});
    return nn_reshape(nn, pixels, ws2_shape_4(b, 2, CELL * h, CELL * w));
}

static struct nn_tensor *upsample(const struct flow *f, struct state state)
{
    struct nn *nn = f->raft->nn;
    if (f->raft->shape->mask)
        return upsample_by_mask(f, state);
    return nn_mul_scalar_(nn, nn_resize_bilinear(nn, state.flow, CELL * f->h, CELL * f->w, true), CELL);
}

static struct nn_tensor *crop(struct nn *nn, struct nn_tensor *flow, int64_t height, int64_t width)
{
    const int64_t top = (nn_dim(flow, 2) - height) / 2, left = (nn_dim(flow, 3) - width) / 2;
    return nn_contiguous(nn, nn_narrow(nn, nn_narrow(nn, flow, 2, top, height), 3, left, width));
}

/* ---- flows ------------------------------------------------------------------------------------------------ */

/* The flow of `from` [B,2,H,W] by the correlations of its cells with those of the other frame. */
static struct nn_tensor *run(const struct raft *raft, const struct raft_frame *from, struct nn_tensor *all,
                             int updates)
{
    struct nn *nn = raft->nn;
    const enum nn_dtype dtype = nn_dtype(all);
    const int64_t hidden = raft->shape->hidden;
    struct flow f = {.raft = raft,
                     .batch = nn_dim(from->context, 0),
                     .h = nn_dim(from->context, 2),
                     .w = nn_dim(from->context, 3)};
    nn_scope_begin(nn);
    make_levels(raft, all, f.level);
    f.cells = make_cells(nn, &f, dtype);
    struct nn_tensor *context =
        nn_relu(nn, nn_narrow(nn, from->context, 1, hidden, nn_dim(from->context, 1) - hidden));
    for (int i = 0; i < raft->shape->grus; i++)
        f.gru[i] = prepare(raft, &raft->gru[i], context);
    struct state state = {.hidden = nn_tanh(nn, nn_narrow(nn, from->context, 1, 0, hidden)),
                          .flow = nn_zeros_like(nn, f.cells)};
    for (int i = 0; i < updates; i++)
        state = update(&f, state);
    struct nn_tensor *flow = nn_keep(nn, crop(nn, upsample(&f, state), from->height, from->width));
    nn_scope_end(nn);
    return flow;
}

/* True when flows can be computed between the two. */
static bool fit(struct nn *nn, const struct raft_frame *from, const struct raft_frame *to, bool both,
                int updates)
{
    if (from->features == NULL || to->features == NULL)
        nn_fail(nn, WS2_ERR_USAGE, "raft: a frame was not encoded");
    else if (from->context == NULL || (both && to->context == NULL))
        nn_fail(nn, WS2_ERR_USAGE, "raft: a frame from which a flow begins was encoded without context");
    else if (from->height != to->height || from->width != to->width ||
             nn_dim(from->features, 0) != nn_dim(to->features, 0))
        nn_fail(nn, WS2_ERR_USAGE, "raft: frames of %lldx%lld and %lldx%lld", (long long)from->width,
                (long long)from->height, (long long)to->width, (long long)to->height);
    else if (updates < 1)
        nn_fail(nn, WS2_ERR_USAGE, "raft: %d updates", updates);
    return nn_error(nn) == NULL;
}

struct nn_tensor *raft_flow(const struct raft *raft, const struct raft_frame *from,
                            const struct raft_frame *to, int updates)
{
    struct nn *nn = raft->nn;
    if (!fit(nn, from, to, false, updates))
        return NULL;
    nn_no_grad_begin(nn);
    nn_scope_begin(nn);
    struct nn_tensor *flow =
        nn_keep(nn, run(raft, from, correlate(nn, from->features, to->features), updates));
    nn_scope_end(nn);
    nn_no_grad_end(nn);
    return flow;
}

int raft_pair(const struct raft *raft, const struct raft_frame *a, const struct raft_frame *b, int updates,
              struct nn_tensor *flow[2])
{
    struct nn *nn = raft->nn;
    flow[0] = flow[1] = NULL;
    if (!fit(nn, a, b, true, updates))
        return nn_check(nn, NULL);
    nn_no_grad_begin(nn);
    nn_scope_begin(nn);
    struct nn_tensor *all = correlate(nn, a->features, b->features);
    flow[0] = nn_keep(nn, run(raft, a, all, updates));
    struct nn_tensor *turned = turn(nn, all, nn_dim(a->features, 0));
    nn_drop(nn, all);
    flow[1] = nn_keep(nn, run(raft, b, turned, updates));
    nn_scope_end(nn);
    nn_no_grad_end(nn);
    if (nn_error(nn))
        flow[0] = flow[1] = NULL;
    return nn_check(nn, NULL);
}

/* ---- frames in plain memory ------------------------------------------------------------------------------- */

static struct ws2_shape frame_shape(int channels, int64_t height, int64_t width)
{
    return ws2_shape_4(1, channels, padded(height) / CELL, padded(width) / CELL);
}

static size_t elements(int channels, int64_t height, int64_t width)
{
    return (size_t)channels * (size_t)(padded(height) / CELL) * (size_t)(padded(width) / CELL);
}

size_t raft_frame_floats(const struct raft *raft, int64_t height, int64_t width)
{
    return elements(raft->shape->feature[4] + raft->shape->context[4], height, width);
}

int raft_frame_to_f32(const struct raft *raft, const struct raft_frame *frame, float *out)
{
    const size_t features = elements(raft->shape->feature[4], frame->height, frame->width);
    const size_t context = elements(raft->shape->context[4], frame->height, frame->width);
    nn_to_f32(raft->nn, frame->features, out, features);
    return nn_to_f32(raft->nn, frame->context, out + features, context);
}

struct raft_frame raft_frame_from_f32(const struct raft *raft, int64_t height, int64_t width,
                                      const float *data)
{
    const struct shape *s = raft->shape;
    struct raft_frame frame = {.height = height, .width = width};
    frame.features = nn_from_f32(raft->nn, frame_shape(s->feature[4], height, width), data);
    frame.context = nn_from_f32(raft->nn, frame_shape(s->context[4], height, width),
                                data + elements(s->feature[4], height, width));
    return frame;
}
