/* The encoder: Hiera (Ryali et al. 2023) with windows, and the feature pyramid. Maps are [B,H,W,C] throughout. */
#include "models/sam2_internal.h"

#define EPS 1e-6

/* Elements of scores that attention to all of the picture keeps at a time. */
#define SCORES_MAX ((int64_t)1 << 24)

/* ---- declaring -------------------------------------------------------------------------------------------- */

static void declare_block(struct sam2_block *block, struct nn_params *params, int in, int out)
{
    block->out = out;
    block->norm1 = sam2_declare_norm(params, "norm1", in);
    block->qkv = sam2_declare_linear(params, "attn.qkv", 3 * out, in);
    block->proj = sam2_declare_linear(params, "attn.proj", out, out);
    block->norm2 = sam2_declare_norm(params, "norm2", out);
    block->mlp[0] = sam2_declare_linear(params, "mlp.layers.0", 4 * out, out);
    block->mlp[1] = sam2_declare_linear(params, "mlp.layers.1", out, 4 * out);
    if (in != out)
        block->change = sam2_declare_linear(params, "proj", out, in);
}

static bool attends_everywhere(const struct sam2_shape *s, int block)
{
    for (int i = 0; i < 3; i++)
        if (s->everywhere[i] == block)
            return true;
    return false;
}

/* The first block of a stage still has the windows of the stage before: it sees that stage's cells. */
static void declare_blocks(struct sam2 *sam2)
{
    const struct sam2_shape *s = sam2->shape;
    int width = s->width;
    for (int stage = 0; stage < SAM2_STAGES; stage++) {
        for (int i = 0; i < s->blocks[stage]; i++) {
            struct sam2_block *block = &sam2->block[sam2->blocks];
            const bool first = stage > 0 && i == 0;
            block->heads = s->heads << stage;
            block->window = attends_everywhere(s, sam2->blocks) ? 0 : s->window[first ? stage - 1 : stage];
            nn_params_enter(sam2->params, "blocks.%d", sam2->blocks);
            declare_block(block, sam2->params, width, s->width << stage);
            nn_params_leave(sam2->params);
            width = block->out;
            sam2->blocks++;
        }
        sam2->last[stage] = sam2->blocks - 1;
    }
}

void sam2_declare_encoder(struct sam2 *sam2)
{
    const struct sam2_shape *s = sam2->shape;
    struct nn_params *params = sam2->params;
    const struct nn_init small = nn_init_make(NN_INIT_TRUNC_NORMAL, 0.02);
    nn_params_enter(params, "image_encoder.trunk");
    sam2->position = nn_declare(params, NN_WEIGHT, "pos_embed",
                                ws2_shape_4(1, s->width, s->background, s->background), small);
    sam2->position_window = nn_declare(params, NN_WEIGHT, "pos_embed_window",
                                       ws2_shape_4(1, s->width, s->window[0], s->window[0]), small);
    sam2->patch = sam2_declare_conv(params, "patch_embed.proj", s->width, 3, 7);
    declare_blocks(sam2);
    nn_params_leave(params);
    nn_params_enter(params, "image_encoder.neck.convs");
    for (int i = 0; i < SAM2_STAGES; i++) {
        nn_params_enter(params, "%d", i);
        sam2->neck[i] = sam2_declare_conv(params, "conv", SAM2_WIDTH, s->width << (SAM2_STAGES - 1 - i), 1);
        nn_params_leave(params);
    }
    nn_params_leave(params);
    sam2->no_memory = nn_declare(params, NN_WEIGHT, "no_mem_embed", ws2_shape_3(1, 1, SAM2_WIDTH), small);
}

/* ---- attention -------------------------------------------------------------------------------------------- */

/* Maximum of each 2x2 cells. */
static struct nn_tensor *pool(struct nn *nn, struct nn_tensor *x)
{
    return sam2_channels_last(nn, nn_max_pool2d(nn, sam2_channels_first(nn, x), 2, 2, 0));
}

/* [B,H,W,C] -> [B*n,w,w,C]; what a window has beyond the map is 0. */
static struct nn_tensor *cut(struct nn *nn, struct nn_tensor *x, int64_t w)
{
    const int64_t b = nn_dim(x, 0), h = nn_dim(x, 1), v = nn_dim(x, 2), c = nn_dim(x, 3);
    const int below = (int)((w - h % w) % w), right = (int)((w - v % w) % w);
    if (below || right)
        x = sam2_channels_last(nn, nn_pad_constant(nn, sam2_channels_first(nn, x), 0, right, 0, below, 0));
    const int64_t rows = (h + below) / w, columns = (v + right) / w;
    x = nn_reshape(nn, x, (struct ws2_shape){6, {b, rows, w, columns, w, c}});
    x = nn_permute(nn, x, (struct nn_axes){6, {0, 1, 3, 2, 4, 5}});
    return nn_reshape(nn, x, ws2_shape_4(b * rows * columns, w, w, c));
}

/* The reverse, to a map of h x v cells. */
static struct nn_tensor *join(struct nn *nn, struct nn_tensor *x, int64_t b, int64_t h, int64_t v)
{
    const int64_t w = nn_dim(x, 1), c = nn_dim(x, 3), rows = (h + w - 1) / w, columns = (v + w - 1) / w;
    x = nn_reshape(nn, x, (struct ws2_shape){6, {b, rows, columns, w, w, c}});
    x = nn_permute(nn, x, (struct nn_axes){6, {0, 1, 3, 2, 4, 5}});
    x = nn_reshape(nn, x, ws2_shape_4(b, rows * w, columns * w, c));
    return nn_narrow(nn, nn_narrow(nn, x, 1, 0, h), 2, 0, v);
}

/* Attention with a part of the queries at a time: with all of them the scores of a picture take gigabytes. */
static struct nn_tensor *attend_in_parts(struct nn *nn, struct nn_tensor *q, struct nn_tensor *k,
                                         struct nn_tensor *v)
{
    struct nn_tensor *part[64];
    const int64_t all = nn_dim(q, 2), row = nn_dim(q, 0) * nn_dim(q, 1) * nn_dim(k, 2);
    int64_t step = row > 0 ? SCORES_MAX / row : all;
    if (step < (all + 63) / 64)
        step = (all + 63) / 64;
    if (step >= all)
        return nn_attention(nn, q, k, v);
    int parts = 0;
    for (int64_t begin = 0; begin < all; begin += step)
        part[parts++] =
            nn_attention(nn, nn_narrow(nn, q, 2, begin, begin + step < all ? step : all - begin), k, v);
    return nn_cat(nn, part, parts, 2);
}

/* Within windows [N,w,w,in] -> [N,w,w,out], or with pooling of the queries [N,w/2,w/2,out]. */
static struct nn_tensor *attend(struct nn *nn, const struct sam2_block *block, struct nn_tensor *x,
                                bool pooled)
{
    const int64_t n = nn_dim(x, 0), h = nn_dim(x, 1), w = nn_dim(x, 2), c = block->out, d = c / block->heads;
    struct nn_tensor *qkv = sam2_linear(nn, &block->qkv, x), *part[3];
    for (int i = 0; i < 3; i++)
        part[i] = nn_narrow(nn, qkv, 3, i * c, c);
    if (pooled)
        part[0] = pool(nn, part[0]);
    const int64_t rows = pooled ? h / 2 : h, columns = pooled ? w / 2 : w;
    for (int i = 0; i < 3; i++) {
        const int64_t length = i == 0 ? rows * columns : h * w;
        part[i] = nn_transpose(nn, nn_reshape(nn, part[i], ws2_shape_4(n, length, block->heads, d)), 1, 2);
    }
    struct nn_tensor *y = attend_in_parts(nn, part[0], part[1], part[2]);
    y = nn_reshape(nn, nn_transpose(nn, y, 1, 2), ws2_shape_4(n, rows, columns, c));
    return sam2_linear(nn, &block->proj, y);
}

/* ---- blocks ----------------------------------------------------------------------------------------------- */

/* [B,H,W,in] -> [B,H,W,out], halved where the width changes. The identity is then taken from the normed map. */
static struct nn_tensor *run_attention(struct nn *nn, const struct sam2_block *block, struct nn_tensor *x)
{
    const bool pooled = block->change.weight != NULL;
    const int64_t b = nn_dim(x, 0);
    int64_t h = nn_dim(x, 1), w = nn_dim(x, 2);
    struct nn_tensor *y = sam2_norm(nn, &block->norm1, x, EPS);
    if (pooled)
        x = nn_to_dtype(nn, pool(nn, sam2_linear(nn, &block->change, y)), nn_dtype(x));
    if (block->window)
        y = cut(nn, y, block->window);
    y = attend(nn, block, y, pooled);
    if (pooled) {
        h /= 2;
        w /= 2;
    }
    return nn_add(nn, x, block->window ? join(nn, y, b, h, w) : y);
}

static struct nn_tensor *run_mlp(struct nn *nn, const struct sam2_block *block, struct nn_tensor *x)
{
    struct nn_tensor *y = sam2_norm(nn, &block->norm2, x, EPS);
    y = nn_gelu(nn, sam2_linear(nn, &block->mlp[0], y));
    return nn_add_(nn, x, sam2_linear(nn, &block->mlp[1], y));
}

/* Scopes of their own, so that intermediates go at once. */
static struct nn_tensor *run_block(struct nn *nn, const struct sam2_block *block, struct nn_tensor *x)
{
    nn_scope_begin(nn);
    nn_scope_begin(nn);
    struct nn_tensor *y = nn_keep(nn, run_attention(nn, block, x));
    nn_scope_end(nn);
    y = nn_keep(nn, run_mlp(nn, block, y));
    nn_scope_end(nn);
    return y;
}

/* ---- positions -------------------------------------------------------------------------------------------- */

/* [1,s,s,D]: a coarse table stretched over the map, and one of a window, repeated. */
static struct nn_tensor *positions(const struct sam2 *sam2, int64_t s)
{
    struct nn *nn = sam2->nn;
    const int64_t d = sam2->shape->width, w = sam2->shape->window[0];
    struct nn_tensor *wide = sam2_channels_last(nn, nn_resize_bicubic(nn, sam2->position, s, s, 0, 0));
    struct nn_tensor *near = sam2_channels_last(nn, sam2->position_window);
    wide = nn_reshape(nn, wide, (struct ws2_shape){6, {1, s / w, w, s / w, w, d}});
    near = nn_reshape(nn, near, (struct ws2_shape){6, {1, 1, w, 1, w, d}});
    return nn_reshape(nn, nn_add(nn, wide, near), ws2_shape_4(1, s, s, d));
}

/* ---- feature pyramid -------------------------------------------------------------------------------------- */

/* Two convolutions 1x1, one after the other, as one: nothing else sees what is between them. */
static struct sam2_layer composed(struct nn *nn, const struct sam2_layer *first,
                                  const struct sam2_layer *second)
{
    const int64_t in = nn_dim(first->weight, 1), middle = nn_dim(first->weight, 0);
    const int64_t out = nn_dim(second->weight, 0);
    struct nn_tensor *a = nn_reshape(nn, first->weight, ws2_shape_2(middle, in));
    struct nn_tensor *b = nn_reshape(nn, second->weight, ws2_shape_2(out, middle));
    struct nn_tensor *bias = nn_matmul(nn, b, nn_reshape(nn, first->bias, ws2_shape_2(middle, 1)));
    return (struct sam2_layer){nn_matmul(nn, b, a),
                               nn_add(nn, nn_reshape(nn, bias, ws2_shape_1(out)), second->bias)};
}

/* The map of half the resolution, each cell repeated 2x2, added to x. */
static struct nn_tensor *add_coarse(struct nn *nn, struct nn_tensor *x, struct nn_tensor *coarse)
{
    const int64_t b = nn_dim(coarse, 0), h = nn_dim(coarse, 1), w = nn_dim(coarse, 2), c = nn_dim(coarse, 3);
    struct nn_tensor *y = nn_reshape(nn, x, (struct ws2_shape){6, {b, h, 2, w, 2, c}});
    y = nn_add(nn, y, nn_reshape(nn, coarse, (struct ws2_shape){6, {b, h, 1, w, 1, c}}));
    return nn_reshape(nn, y, ws2_shape_4(b, 2 * h, 2 * w, c));
}

/* Of a stage's map, as [B,C,H,W]. */
static struct nn_tensor *finer(const struct sam2 *sam2, struct nn_tensor *map, const struct sam2_layer *neck,
                               const struct sam2_layer *last)
{
    struct nn *nn = sam2->nn;
    const struct sam2_layer both = composed(nn, neck, last);
    struct nn_tensor *y = nn_to_dtype(nn, sam2_linear(nn, &both, map), nn_dtype(map));
    return sam2_channels_first(nn, y);
}

/* Maps of the four stages to the embedding. */
static void run_neck(const struct sam2 *sam2, struct nn_tensor *const map[SAM2_STAGES],
                     struct sam2_embedding *e)
{
    struct nn *nn = sam2->nn;
    e->fine = finer(sam2, map[0], &sam2->neck[3], &sam2->fine);
    e->half = finer(sam2, map[1], &sam2->neck[2], &sam2->half);
    struct nn_tensor *top = sam2_pointwise(nn, &sam2->neck[0], map[3]);
    struct nn_tensor *y = add_coarse(nn, sam2_pointwise(nn, &sam2->neck[1], map[2]), top);
    y = nn_add(nn, y, sam2->no_memory); /* [1,1,256]: the same at every cell */
    e->image = sam2_channels_first(nn, nn_to_dtype(nn, y, nn_dtype(map[2])));
}

/* ---- encoding --------------------------------------------------------------------------------------------- */

static void run(const struct sam2 *sam2, struct nn_tensor *images, struct sam2_embedding *e)
{
    struct nn *nn = sam2->nn;
    struct nn_tensor *map[SAM2_STAGES] = {NULL};
    nn_scope_begin(nn);
    struct nn_tensor *x = nn_conv2d(nn, images, sam2->patch.weight, sam2->patch.bias,
                                    (struct nn_conv){{4, 4}, {3, 3}, {1, 1}, 1});
    x = nn_to_dtype(nn, nn_contiguous(nn, sam2_channels_last(nn, x)), nn_dtype(images));
    x = nn_keep(nn, nn_add(nn, x, positions(sam2, nn_dim(x, 1))));
    nn_scope_end(nn);
    for (int i = 0, stage = 0; i < sam2->blocks; i++) {
        struct nn_tensor *before = x;
        x = run_block(nn, &sam2->block[i], before);
        if (stage == 0 || before != map[stage - 1])
            nn_drop(nn, before);
        if (i == sam2->last[stage])
            map[stage++] = x;
    }
    run_neck(sam2, map, e);
}

struct sam2_embedding sam2_encode(const struct sam2 *sam2, struct nn_tensor *images)
{
    struct nn *nn = sam2->nn;
    const int64_t side = nn_dim(images, 2);
    struct sam2_embedding e = {.height = side, .width = side};
    if (images && (nn_rank(images) != 4 || nn_dim(images, 1) != 3 || nn_dim(images, 3) != side || side < 1 ||
                   side % SAM2_SIDE_STEP != 0))
        nn_fail(nn, WS2_ERR_USAGE, "sam2_encode: images must be [B,3,s,s] with s a multiple of %d",
                SAM2_SIDE_STEP);
    if (images == NULL || nn_error(nn))
        return e;
    nn_no_grad_begin(nn);
    nn_scope_begin(nn);
    run(sam2, images, &e);
    nn_keep(nn, e.image);
    nn_keep(nn, e.fine);
    nn_keep(nn, e.half);
    nn_scope_end(nn);
    nn_no_grad_end(nn);
    if (nn_error(nn))
        e.image = e.fine = e.half = NULL;
    return e;
}
