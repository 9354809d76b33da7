/*
 * Prompts and the mask decoder. N is the number of cells of the picture, T that of tokens (6 of the network, then points),
 * n that of prompts, 8 heads h of 16 (self attention: 32) numbers.
 *
 * A prompt has a dozen tokens and the picture thousands of cells, so what is linear is moved from the cells to the
 * tokens: a score (W_q c) . (W_k t) is c . (W_q^T W_k t), and a sum of projected cells is the projection of their sum.
 * What all prompts share (the cells before the first layer) is projected once.
 */
#include "models/sam2_internal.h"

#include <math.h>
#include <stdlib.h>

#define EPS 1e-5    /* of the transformer's norms */
#define EPS_2D 1e-6 /* of those of maps */

enum { HEADS = 8, INNER = 128, HEAD = INNER / HEADS, MLP = 2048, OWN = 2 + SAM2_MASKS };

/* ---- declaring -------------------------------------------------------------------------------------------- */

static struct nn_tensor *declare_token(struct nn_params *params, const char *name, int count)
{
    return nn_declare(params, NN_WEIGHT, name, ws2_shape_2(count, SAM2_WIDTH),
                      nn_init_make(NN_INIT_NORMAL, 1));
}

static void declare_prompts(struct sam2 *sam2)
{
    static const char *const shrink[] = {"mask_downscaling.0", "mask_downscaling.3", "mask_downscaling.6"};
    static const int width[] = {1, 4, 16, SAM2_WIDTH};
    struct nn_params *params = sam2->params;
    nn_params_enter(params, "sam_prompt_encoder");
    sam2->gauss = nn_declare(params, NN_BUFFER, "pe_layer.positional_encoding_gaussian_matrix",
                             ws2_shape_2(2, SAM2_WIDTH / 2), nn_init_make(NN_INIT_NORMAL, 1));
    for (int i = 0; i < 4; i++) {
        nn_params_enter(params, "point_embeddings.%d", i);
        sam2->label[i] = declare_token(params, "weight", 1);
        nn_params_leave(params);
    }
    sam2->padding = declare_token(params, "not_a_point_embed.weight", 1);
    sam2->no_mask = declare_token(params, "no_mask_embed.weight", 1);
    for (int i = 0; i < 3; i++)
        sam2->shrink[i] = sam2_declare_conv(params, shrink[i], width[i + 1], width[i], i < 2 ? 2 : 1);
    sam2->shrink_norm[0] = sam2_declare_norm(params, "mask_downscaling.1", width[1]);
    sam2->shrink_norm[1] = sam2_declare_norm(params, "mask_downscaling.4", width[2]);
    nn_params_leave(params);
}

static struct sam2_attention declare_attention(struct nn_params *params, const char *name, int inner)
{
    struct sam2_attention a;
    nn_params_enter(params, "%s", name);
    a.q = sam2_declare_linear(params, "q_proj", inner, SAM2_WIDTH);
    a.k = sam2_declare_linear(params, "k_proj", inner, SAM2_WIDTH);
    a.v = sam2_declare_linear(params, "v_proj", inner, SAM2_WIDTH);
    a.out = sam2_declare_linear(params, "out_proj", SAM2_WIDTH, inner);
    nn_params_leave(params);
    return a;
}

static void declare_transformer(struct sam2 *sam2)
{
    static const char *const norm[] = {"norm1", "norm2", "norm3", "norm4"};
    struct nn_params *params = sam2->params;
    nn_params_enter(params, "transformer");
    for (int i = 0; i < SAM2_LAYERS; i++) {
        struct sam2_two_way *layer = &sam2->layer[i];
        nn_params_enter(params, "layers.%d", i);
        layer->self = declare_attention(params, "self_attn", SAM2_WIDTH);
        layer->to_image = declare_attention(params, "cross_attn_token_to_image", INNER);
        layer->to_tokens = declare_attention(params, "cross_attn_image_to_token", INNER);
        for (int j = 0; j < 4; j++)
            layer->norm[j] = sam2_declare_norm(params, norm[j], SAM2_WIDTH);
        layer->mlp[0] = sam2_declare_linear(params, "mlp.layers.0", MLP, SAM2_WIDTH);
        layer->mlp[1] = sam2_declare_linear(params, "mlp.layers.1", SAM2_WIDTH, MLP);
        nn_params_leave(params);
    }
    sam2->final = declare_attention(params, "final_attn_token_to_image", INNER);
    sam2->final_norm = sam2_declare_norm(params, "norm_final_attn", SAM2_WIDTH);
    nn_params_leave(params);
}

/* Three layers, width 256 between them. */
static void declare_head(struct sam2_layer layer[3], struct nn_params *params, int out)
{
    layer[0] = sam2_declare_linear(params, "layers.0", SAM2_WIDTH, SAM2_WIDTH);
    layer[1] = sam2_declare_linear(params, "layers.1", SAM2_WIDTH, SAM2_WIDTH);
    layer[2] = sam2_declare_linear(params, "layers.2", out, SAM2_WIDTH);
}

/* A transposed convolution 2x2 of stride 2: its weight has `in` first. */
static struct sam2_layer declare_grow(struct nn_params *params, const char *name, int out, int in)
{
    nn_params_enter(params, "%s", name);
    const struct sam2_layer layer = {
        nn_declare(params, NN_WEIGHT, "weight", ws2_shape_4(in, out, 2, 2), nn_init_make(NN_INIT_DEFAULT, 0)),
        nn_declare(params, NN_BIAS, "bias", ws2_shape_1(out), nn_init_make(NN_INIT_DEFAULT, 4 * out)),
    };
    nn_params_leave(params);
    return layer;
}

void sam2_declare_decoder(struct sam2 *sam2)
{
    struct nn_params *params = sam2->params;
    declare_prompts(sam2);
    nn_params_enter(params, "sam_mask_decoder");
    declare_transformer(sam2);
    sam2->iou_token = declare_token(params, "iou_token.weight", 1);
    sam2->mask_tokens = declare_token(params, "mask_tokens.weight", SAM2_MASKS);
    sam2->object_token = declare_token(params, "obj_score_token.weight", 1);
    sam2->grow[0] = declare_grow(params, "output_upscaling.0", SAM2_HALF, SAM2_WIDTH);
    sam2->grow_norm = sam2_declare_norm(params, "output_upscaling.1", SAM2_HALF);
    sam2->grow[1] = declare_grow(params, "output_upscaling.3", SAM2_FINE, SAM2_HALF);
    sam2->fine = sam2_declare_conv(params, "conv_s0", SAM2_FINE, SAM2_WIDTH, 1);
    sam2->half = sam2_declare_conv(params, "conv_s1", SAM2_HALF, SAM2_WIDTH, 1);
    for (int i = 0; i < SAM2_MASKS; i++) {
        nn_params_enter(params, "output_hypernetworks_mlps.%d", i);
        declare_head(sam2->hyper[i], params, SAM2_FINE);
        nn_params_leave(params);
    }
    nn_params_enter(params, "iou_prediction_head");
    declare_head(sam2->iou, params, SAM2_MASKS);
    nn_params_leave(params);
    nn_params_enter(params, "pred_obj_score_head");
    declare_head(sam2->object, params, 1);
    nn_params_leave(params);
    nn_params_leave(params);
}

/* ---- positions and prompts ---------------------------------------------------------------------------------- */

/* at[count,2], x and y as shares of the picture -> [count,256]: sines and cosines of random frequencies. By element-wise
 * operations, which bf16 leaves alone: coordinates need their digits. */
static struct nn_tensor *encode_places(const struct sam2 *sam2, int64_t count, const double *at)
{
    struct nn *nn = sam2->nn;
    struct nn_tensor *x = nn_from_f64(nn, ws2_shape_2(count, 2), at), *wave[2];
    x = nn_to_dtype(nn, nn_add_scalar(nn, nn_mul_scalar(nn, x, 2), -1), nn_dtype(sam2->gauss));
    x = nn_add(nn, nn_mul(nn, nn_narrow(nn, x, 1, 0, 1), nn_narrow(nn, sam2->gauss, 0, 0, 1)),
               nn_mul(nn, nn_narrow(nn, x, 1, 1, 1), nn_narrow(nn, sam2->gauss, 0, 1, 1)));
    x = nn_mul_scalar(nn, x, 2 * M_PI);
    wave[0] = nn_sin(nn, x);
    wave[1] = nn_cos(nn, x);
    return nn_cat(nn, wave, 2, 1);
}

/* [1,N,256]: where the cells of a picture of g x g are. */
static struct nn_tensor *encode_cells(const struct sam2 *sam2, int64_t g)
{
    double *at = ws2_calloc((size_t)(g * g), 2 * sizeof *at);
    if (at == NULL)
        return nn_fail(sam2->nn, WS2_ERR_SYSTEM, "out of memory");
    for (int64_t i = 0; i < g * g; i++) {
        at[2 * i] = ((double)(i % g) + 0.5) / (double)g;
        at[2 * i + 1] = ((double)(i / g) + 0.5) / (double)g;
    }
    struct nn_tensor *x = nn_unsqueeze(sam2->nn, encode_places(sam2, g * g, at), 0);
    free(at);
    return x;
}

/* Places and labels of all tokens of some prompts, in C memory. */
struct tokens {
    int64_t each; /* tokens of a prompt */
    double *at;   /* [count,each,2] */
    int64_t *row; /* [count,each]: 0 padding, else 1 + label */
    float *known; /* [count,each]: 0 for padding, else 1 */
};

static void tokens_free(struct tokens *t)
{
    free(t->at);
    free(t->row);
    free(t->known);
}

/* One point at x, y of the picture. The network's pixels are those of the square, their centres at halves. */
static void put(struct tokens *t, int64_t i, const struct sam2_embedding *e, const float at[2], int label)
{
    const double half = 0.5 / (16 * (double)nn_dim(e->image, 2));
    t->at[2 * i] = at[0] / (double)e->width + half;
    t->at[2 * i + 1] = at[1] / (double)e->height + half;
    t->row[i] = 1 + label;
    t->known[i] = label != SAM2_PADDING;
}

static int fill_tokens(struct tokens *t, const struct sam2_embedding *e, const struct sam2_prompts *p,
                       int64_t begin, int64_t count)
{
    static const float nowhere[2] = {0, 0};
    const int64_t boxes = p->box ? 2 : 0;
    t->each = boxes + p->points ? boxes + p->points + 1 : 0;
    const size_t all = (size_t)(count * t->each);
    t->at = ws2_calloc(all, 2 * sizeof *t->at);
    t->row = ws2_calloc(all, sizeof *t->row);
    t->known = ws2_calloc(all, sizeof *t->known);
    if (t->at == NULL || t->row == NULL || t->known == NULL)
        return WS2_ERR_SYSTEM;
    for (int64_t i = 0; t->each && i < count; i++) {
        const int64_t from = begin + i;
        int64_t to = i * t->each;
        for (int64_t j = 0; j < boxes; j++)
            put(t, to++, e, p->box + 4 * from + 2 * j, j ? SAM2_BOTTOM_RIGHT : SAM2_TOP_LEFT);
        for (int64_t j = from * p->points; j < (from + 1) * p->points; j++)
            put(t, to++, e, p->point + 2 * j, p->label[j]);
        put(t, to, e, nowhere, SAM2_PADDING);
    }
    return WS2_OK;
}

/* The tokens of `count` prompts from `begin` on: [count,T,256]. */
static struct nn_tensor *encode_tokens(const struct sam2 *sam2, const struct sam2_embedding *e,
                                       const struct sam2_prompts *p, int64_t begin, int64_t count)
{
    struct nn *nn = sam2->nn;
    struct tokens t;
    struct nn_tensor *own[3] = {sam2->object_token, sam2->iou_token, sam2->mask_tokens}, *all[2];
    struct nn_tensor *label[5] = {sam2->padding, sam2->label[0], sam2->label[1], sam2->label[2],
                                  sam2->label[3]};
    if (fill_tokens(&t, e, p, begin, count) < 0)
        nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    all[0] = nn_expand(nn, nn_unsqueeze(nn, nn_cat(nn, own, 3, 0), 0), ws2_shape_3(count, OWN, SAM2_WIDTH));
    if (t.each && !nn_error(nn)) {
        const int64_t n = count * t.each;
        struct nn_tensor *x = encode_places(sam2, n, t.at);
        x = nn_mul(nn, x, nn_from_f32(nn, ws2_shape_2(n, 1), t.known));
        x = nn_add(nn, x,
                   nn_index_select(nn, nn_cat(nn, label, 5, 0), 0, nn_from_i64(nn, ws2_shape_1(n), t.row)));
        all[1] = nn_reshape(nn, x, ws2_shape_3(count, t.each, SAM2_WIDTH));
        all[0] = nn_cat(nn, all, 2, 1);
    }
    tokens_free(&t);
    return all[0];
}

/* Masks [n,1,4g,4g] to what they add to the cells, [n,N,256]. */
static struct nn_tensor *encode_masks(const struct sam2 *sam2, struct nn_tensor *mask)
{
    struct nn *nn = sam2->nn;
    struct nn_tensor *x = mask;
    for (int i = 0; i < 2; i++) {
        x = nn_conv2d(nn, x, sam2->shrink[i].weight, sam2->shrink[i].bias, nn_conv_square(2, 0, 1));
        x = nn_layer_norm2d(nn, x, sam2->shrink_norm[i].weight, sam2->shrink_norm[i].bias, EPS_2D);
        x = nn_gelu(nn, x);
    }
    x = sam2_pointwise(nn, &sam2->shrink[2], sam2_channels_last(nn, x));
    return nn_flatten(nn, x, 1, 2);
}

/* ---- attention -------------------------------------------------------------------------------------------- */

/* [n,T,C] -> [n,8,T,C/8] */
static struct nn_tensor *split(struct nn *nn, struct nn_tensor *x)
{
    const struct ws2_shape shape = ws2_shape_4(nn_dim(x, 0), nn_dim(x, 1), HEADS, nn_dim(x, 2) / HEADS);
    return nn_transpose(nn, nn_reshape(nn, x, shape), 1, 2);
}

static struct nn_tensor *merge(struct nn *nn, struct nn_tensor *x)
{
    return nn_flatten(nn, nn_transpose(nn, x, 1, 2), 2, 3);
}

static struct nn_tensor *attend(struct nn *nn, const struct sam2_attention *a, struct nn_tensor *q,
                                struct nn_tensor *k, struct nn_tensor *v)
{
    q = split(nn, sam2_linear(nn, &a->q, q));
    k = split(nn, sam2_linear(nn, &a->k, k));
    v = split(nn, sam2_linear(nn, &a->v, v));
    return sam2_linear(nn, &a->out, merge(nn, nn_attention(nn, q, k, v)));
}

/* [n,T,128] -> [8,n*T,16], for a product with what each head has. */
static struct nn_tensor *by_head(struct nn *nn, struct nn_tensor *x)
{
    const int64_t rows = nn_dim(x, 0) * nn_dim(x, 1);
    return nn_transpose(nn, nn_reshape(nn, x, ws2_shape_3(rows, HEADS, HEAD)), 0, 1);
}

/* [8,n*T,C] -> [n,8*T,C] */
static struct nn_tensor *by_prompt(struct nn *nn, struct nn_tensor *x, int64_t n)
{
    const int64_t t = nn_dim(x, 1) / n, c = nn_dim(x, 2);
    x = nn_transpose(nn, nn_reshape(nn, x, ws2_shape_4(HEADS, n, t, c)), 0, 1);
    return nn_reshape(nn, x, ws2_shape_3(n, HEADS * t, c));
}

/* A weight [128,256] as [8,16,256]. */
static struct nn_tensor *of_heads(struct nn *nn, struct nn_tensor *weight)
{
    return nn_reshape(nn, weight, ws2_shape_3(HEADS, HEAD, SAM2_WIDTH));
}

/* The cells of the picture: `cell` as they are and `placed` with their positions; [1,N,256] when equal for all
 * prompts, else [n,N,256]. */
struct cells {
    struct nn_tensor *cell, *placed;
};

/* Tokens [n,T,256] attend to cells that all prompts share. */
static struct nn_tensor *look_shared(struct nn *nn, const struct sam2_attention *a, struct nn_tensor *tokens,
                                     const struct cells *cells)
{
    const int64_t n = nn_dim(tokens, 0), t = nn_dim(tokens, 1);
    struct nn_tensor *q = nn_reshape(nn, tokens, ws2_shape_3(1, n * t, SAM2_WIDTH));
    return nn_reshape(nn, attend(nn, a, q, cells->placed, cells->cell), ws2_shape_3(n, t, SAM2_WIDTH));
}

/* Tokens [n,T,256] attend to the cells of their prompt. The bias of the keys adds the same to all scores of a token,
 * which softmax does not see. */
static struct nn_tensor *look(struct nn *nn, const struct sam2_attention *a, struct nn_tensor *tokens,
                              const struct cells *cells)
{
    const int64_t n = nn_dim(tokens, 0), t = nn_dim(tokens, 1);
    struct nn_tensor *q = by_head(nn, nn_mul_scalar(nn, sam2_linear(nn, &a->q, tokens), 1 / sqrt(HEAD)));
    q = by_prompt(nn, nn_matmul(nn, q, of_heads(nn, a->k.weight)), n);
    struct nn_tensor *scores = nn_matmul(nn, q, nn_transpose(nn, cells->placed, 1, 2)); /* [n,8T,N] */
    struct nn_tensor *sum = nn_matmul(nn, nn_softmax(nn, scores, 2), cells->cell);      /* [n,8T,256] */
    sum = nn_transpose(nn, nn_reshape(nn, sum, ws2_shape_4(n, HEADS, t, SAM2_WIDTH)), 0, 1);
    sum = nn_reshape(nn, sum, ws2_shape_3(HEADS, n * t, SAM2_WIDTH));
    struct nn_tensor *v = nn_matmul(nn, sum, nn_transpose(nn, of_heads(nn, a->v.weight), 1, 2));
    v = nn_reshape(nn, nn_transpose(nn, v, 0, 1), ws2_shape_3(n, t, INNER));
    return sam2_linear(nn, &a->out, nn_add(nn, v, a->v.bias));
}

/* Scores of all cells for the tokens' keys [n,T,128]: [n,N,8,T]. */
static struct nn_tensor *score_cells(struct nn *nn, const struct sam2_attention *a, struct nn_tensor *keys,
                                     struct nn_tensor *placed)
{
    const int64_t n = nn_dim(keys, 0), t = nn_dim(keys, 1), cells = nn_dim(placed, 1);
    struct nn_tensor *k = by_head(nn, nn_mul_scalar(nn, keys, 1 / sqrt(HEAD))); /* [8,nT,16] */
    if (nn_dim(placed, 0) == 1) {
        struct nn_tensor *q = nn_squeeze(nn, split(nn, sam2_linear(nn, &a->q, placed)), 0); /* [8,N,16] */
        struct nn_tensor *s = nn_matmul(nn, q, nn_transpose(nn, k, 1, 2));                  /* [8,N,nT] */
        s = nn_reshape(nn, s, ws2_shape_4(HEADS, cells, n, t));
        return nn_permute(nn, s, nn_axes_4(2, 1, 0, 3));
    }
    struct nn_tensor *m = by_prompt(nn, nn_matmul(nn, k, of_heads(nn, a->q.weight)), n); /* [n,8T,256] */
    struct nn_tensor *b = nn_reshape(nn, a->q.bias, ws2_shape_3(HEADS, HEAD, 1));
    b = nn_transpose(nn, by_prompt(nn, nn_matmul(nn, k, b), n), 1, 2); /* [n,1,8T] */
    struct nn_tensor *s = nn_add_(nn, nn_matmul(nn, placed, nn_transpose(nn, m, 1, 2)), b);
    return nn_reshape(nn, s, ws2_shape_4(n, cells, HEADS, t));
}

/* The cells attend to tokens [n,T,256], given with (`placed`) and without what they were made from: what is added to
 * the cells, [n,N,256]. */
static struct nn_tensor *look_back(struct nn *nn, const struct sam2_attention *a, struct nn_tensor *placed,
                                   struct nn_tensor *tokens, const struct cells *cells)
{
    const int64_t n = nn_dim(tokens, 0), t = nn_dim(tokens, 1);
    struct nn_tensor *scores = score_cells(nn, a, sam2_linear(nn, &a->k, placed), cells->placed);
    struct nn_tensor *share =
        nn_reshape(nn, nn_softmax(nn, scores, 3), ws2_shape_3(n, nn_dim(cells->placed, 1), HEADS * t));
    struct nn_tensor *out = nn_reshape(nn, a->out.weight, ws2_shape_3(SAM2_WIDTH, HEADS, HEAD));
    struct nn_tensor *v =
        nn_matmul(nn, by_head(nn, sam2_linear(nn, &a->v, tokens)), nn_permute(nn, out, nn_axes_3(1, 2, 0)));
    return nn_add_(nn, nn_matmul(nn, share, by_prompt(nn, v, n)), a->out.bias);
}

/* ---- two-way transformer ---------------------------------------------------------------------------------- */

static struct nn_tensor *add_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *y,
                                  const struct sam2_layer *norm)
{
    return sam2_norm(nn, norm, nn_add(nn, x, y), EPS);
}

/* What a call prepares for all its slices. */
struct prepared {
    const struct sam2 *sam2;
    struct nn_tensor *places;  /* [1,N,256] */
    struct cells cells;        /* before the first layer: of all prompts, or of none when they have masks */
    struct nn_tensor *picture; /* [1,N,256] without what a mask adds */
    struct nn_tensor *grow[2]; /* weights [2*2*out,in] */
    struct nn_tensor *half;    /* [N,2*2*64] in the order of the growing cells, the bias added */
    struct nn_tensor *fine;    /* [N*4,2*2*32] */
};

/* The tokens and the cells after one layer; `first` are the tokens as they came. */
static struct nn_tensor *run_layer(const struct prepared *p, const struct sam2_two_way *layer,
                                   struct nn_tensor *first, struct nn_tensor *tokens, struct cells *cells)
{
    struct nn *nn = p->sam2->nn;
    if (tokens == first) {
        tokens = sam2_norm(nn, &layer->norm[0], attend(nn, &layer->self, tokens, tokens, tokens), EPS);
    } else {
        struct nn_tensor *q = nn_add(nn, tokens, first);
        tokens = add_norm(nn, tokens, attend(nn, &layer->self, q, q, tokens), &layer->norm[0]);
    }
    struct nn_tensor *q = nn_add(nn, tokens, first);
    const bool shared = nn_dim(cells->cell, 0) == 1;
    q = shared ? look_shared(nn, &layer->to_image, q, cells) : look(nn, &layer->to_image, q, cells);
    tokens = add_norm(nn, tokens, q, &layer->norm[1]);
    struct nn_tensor *mlp = nn_relu(nn, sam2_linear(nn, &layer->mlp[0], tokens));
    tokens = add_norm(nn, tokens, sam2_linear(nn, &layer->mlp[1], mlp), &layer->norm[2]);
    struct nn_tensor *back = look_back(nn, &layer->to_tokens, nn_add(nn, tokens, first), tokens, cells);
    cells->cell = add_norm(nn, cells->cell, back, &layer->norm[3]);
    cells->placed = nn_add(nn, cells->cell, p->places);
    return tokens;
}

/* first [n,T,256] -> tokens [n,T,256]; *cells [n,N,256]. */
static struct nn_tensor *run_transformer(const struct prepared *p, struct nn_tensor *first,
                                         struct cells *cells)
{
    const struct sam2 *sam2 = p->sam2;
    struct nn *nn = sam2->nn;
    struct nn_tensor *tokens = first;
    for (int i = 0; i < SAM2_LAYERS; i++) {
        const struct cells before = *cells;
        nn_scope_begin(nn);
        tokens = nn_keep(nn, run_layer(p, &sam2->layer[i], first, tokens, cells));
        nn_keep(nn, cells->cell);
        nn_keep(nn, cells->placed);
        nn_scope_end(nn);
        if (i > 0) {
            nn_drop(nn, before.cell);
            nn_drop(nn, before.placed);
        }
    }
    struct nn_tensor *seen = look(nn, &sam2->final, nn_add(nn, tokens, first), cells);
    nn_drop(nn, cells->placed);
    return add_norm(nn, tokens, seen, &sam2->final_norm);
}

/* ---- from cells to masks ---------------------------------------------------------------------------------- */

/* Three layers. */
static struct nn_tensor *run_head(struct nn *nn, const struct sam2_layer layer[3], struct nn_tensor *x)
{
    x = nn_relu(nn, sam2_linear(nn, &layer[0], x));
    x = nn_relu(nn, sam2_linear(nn, &layer[1], x));
    return sam2_linear(nn, &layer[2], x);
}

/* A transposed convolution 2x2 of stride 2 makes 2x2 cells of each: a linear layer. */
static struct nn_tensor *grow_weight(struct nn *nn, const struct sam2_layer *layer)
{
    const int64_t in = nn_dim(layer->weight, 0), out = nn_dim(layer->weight, 1);
    struct nn_tensor *w = nn_permute(nn, layer->weight, nn_axes_4(2, 3, 1, 0));
    return nn_reshape(nn, w, ws2_shape_2(4 * out, in));
}

/* A map [1,C,2g,2g] or [1,C,4g,4g] in the order in which cells grow: cell, then quarter, then quarter of the quarter. */
static struct nn_tensor *in_growing_order(struct nn *nn, struct nn_tensor *map, struct nn_tensor *bias,
                                          int64_t g)
{
    const int64_t c = nn_dim(map, 1), times = g > 0 ? nn_dim(map, 2) / g : 1;
    struct nn_tensor *x = nn_add(nn, sam2_channels_last(nn, map), bias);
    if (times == 2) {
        x = nn_reshape(nn, x, (struct ws2_shape){5, {g, 2, g, 2, c}});
        x = nn_permute(nn, x, (struct nn_axes){5, {0, 2, 1, 3, 4}});
        return nn_reshape(nn, x, ws2_shape_2(g * g, 4 * c));
    }
    x = nn_reshape(nn, x, (struct ws2_shape){7, {g, 2, 2, g, 2, 2, c}});
    x = nn_permute(nn, x, (struct nn_axes){7, {0, 3, 1, 4, 2, 5, 6}});
    return nn_reshape(nn, x, ws2_shape_2(4 * g * g, 4 * c));
}

/* cells [n,N,256] -> [n,16N,32], in growing order; norms and activations see one cell at a time, so order is free. */
static struct nn_tensor *grow(const struct prepared *p, struct nn_tensor *cells)
{
    const struct sam2 *sam2 = p->sam2;
    struct nn *nn = sam2->nn;
    const int64_t n = nn_dim(cells, 0), count = nn_dim(cells, 1);
    struct nn_tensor *x = nn_add_(nn, nn_linear(nn, cells, p->grow[0], NULL), p->half);
    x = nn_reshape(nn, x, ws2_shape_3(n, 4 * count, SAM2_HALF));
    x = nn_gelu(nn, sam2_norm(nn, &sam2->grow_norm, x, EPS_2D));
    x = nn_gelu(nn, nn_add_(nn, nn_linear(nn, x, p->grow[1], NULL), p->fine));
    return nn_reshape(nn, x, ws2_shape_3(n, 16 * count, SAM2_FINE));
}

/* Tokens [n,T,256] and cells to masks first .. 3: [n,4-first,4g,4g]. */
static struct nn_tensor *make_masks(const struct prepared *p, struct nn_tensor *tokens,
                                    struct nn_tensor *cells, int first)
{
    const struct sam2 *sam2 = p->sam2;
    struct nn *nn = sam2->nn;
    const int64_t n = nn_dim(tokens, 0), g = (int64_t)sqrt((double)nn_dim(cells, 1)), k = SAM2_MASKS - first;
    struct nn_tensor *hyper[SAM2_MASKS];
    for (int i = 0; i < k; i++)
        hyper[i] = run_head(nn, sam2->hyper[first + i], nn_select(nn, tokens, 1, 2 + first + i));
    struct nn_tensor *x = nn_transpose(nn, grow(p, cells), 1, 2);
    x = nn_matmul(nn, nn_stack(nn, hyper, (int)k, 1), x); /* [n,k,16N] */
    x = nn_reshape(nn, x, (struct ws2_shape){8, {n, k, g, g, 2, 2, 2, 2}});
    x = nn_permute(nn, x, (struct nn_axes){8, {0, 1, 2, 4, 6, 3, 5, 7}});
    return nn_reshape(nn, x, ws2_shape_4(n, k, 4 * g, 4 * g));
}

/* Of four masks the one for all prompts, or where that hangs on the threshold the best of the others. */
static void choose(struct nn *nn, struct sam2_masks *m)
{
    const int64_t n = nn_dim(m->logits, 0), h = nn_dim(m->logits, 2), w = nn_dim(m->logits, 3);
    struct nn_tensor *one = nn_narrow(nn, m->logits, 1, 0, 1), *best;
    struct nn_tensor *inner = nn_to_dtype(nn, nn_gt_scalar(nn, one, 0.05), NN_F32);
    struct nn_tensor *outer = nn_to_dtype(nn, nn_gt_scalar(nn, one, -0.05), NN_F32);
    inner = nn_sum_axes(nn, inner, nn_axes_2(2, 3), false); /* [n,1]; below 2^24, so exact */
    outer = nn_sum_axes(nn, outer, nn_axes_2(2, 3), false);
    struct nn_tensor *stable =
        nn_logical_or(nn, nn_ge_scalar(nn, nn_div(nn, inner, outer), 0.98), nn_eq_scalar(nn, outer, 0));
    struct nn_tensor *iou = nn_max_axis(nn, nn_narrow(nn, m->iou, 1, 1, 3), 1, true, &best);
    best = nn_expand(nn, nn_reshape(nn, best, ws2_shape_4(n, 1, 1, 1)), ws2_shape_4(n, 1, h, w));
    struct nn_tensor *other = nn_gather(nn, nn_narrow(nn, m->logits, 1, 1, 3), 1, best);
    m->iou = nn_where(nn, stable, nn_narrow(nn, m->iou, 1, 0, 1), iou);
    m->logits = nn_where(nn, nn_reshape(nn, stable, ws2_shape_4(n, 1, 1, 1)), one, other);
}

/* ---- decoding --------------------------------------------------------------------------------------------- */

static struct prepared prepare(const struct sam2 *sam2, const struct sam2_embedding *e, int64_t picture,
                               bool masks)
{
    struct nn *nn = sam2->nn;
    const int64_t g = nn_dim(e->image, 2);
    struct prepared p = {.sam2 = sam2};
    struct nn_tensor *image = sam2_channels_last(nn, nn_narrow(nn, e->image, 0, picture, 1));
    p.picture = nn_reshape(nn, image, ws2_shape_3(1, g * g, SAM2_WIDTH));
    p.places = encode_cells(sam2, g);
    if (!masks) {
        p.cells.cell = nn_add(nn, p.picture, sam2->no_mask);
        p.cells.placed = nn_add(nn, p.cells.cell, p.places);
    }
    for (int i = 0; i < 2; i++)
        p.grow[i] = grow_weight(nn, &sam2->grow[i]);
    p.half = in_growing_order(nn, nn_narrow(nn, e->half, 0, picture, 1), sam2->grow[0].bias, g);
    p.fine = in_growing_order(nn, nn_narrow(nn, e->fine, 0, picture, 1), sam2->grow[1].bias, g);
    return p;
}

static struct sam2_masks decode_slice(const struct prepared *p, const struct sam2_embedding *e,
                                      const struct sam2_prompts *prompts, int64_t begin, int64_t count,
                                      bool multimask)
{
    const struct sam2 *sam2 = p->sam2;
    struct nn *nn = sam2->nn;
    struct cells cells = p->cells;
    struct sam2_masks m;
    if (prompts->mask) {
        struct nn_tensor *mask = nn_narrow(nn, prompts->mask, 0, begin, count);
        cells.cell = nn_add(nn, encode_masks(sam2, mask), p->picture);
        cells.placed = nn_add(nn, cells.cell, p->places);
    }
    struct nn_tensor *tokens = encode_tokens(sam2, e, prompts, begin, count);
    tokens = run_transformer(p, tokens, &cells);
    m.object = run_head(nn, sam2->object, nn_select(nn, tokens, 1, 0));
    m.iou = nn_sigmoid(nn, run_head(nn, sam2->iou, nn_select(nn, tokens, 1, 1)));
    m.logits = make_masks(p, tokens, cells.cell, multimask ? 1 : 0);
    if (multimask)
        m.iou = nn_narrow(nn, m.iou, 1, 1, SAM2_MASKS - 1);
    else
        choose(nn, &m);
    return m;
}

static struct nn_tensor *none(struct nn *nn, const struct sam2_embedding *e, int64_t k, int rank)
{
    const int64_t side = 4 * nn_dim(e->image, 2);
    return nn_zeros(nn, rank == 4 ? ws2_shape_4(0, k, side, side) : ws2_shape_2(0, k), nn_dtype(e->image));
}

/* Slices one after the other, each freed before the next but for what it found. */
static struct sam2_masks decode(const struct sam2 *sam2, const struct sam2_embedding *e, int64_t picture,
                                const struct sam2_prompts *prompts, bool multimask)
{
    struct nn *nn = sam2->nn;
    const int64_t step = nn_device(nn) == NN_DEVICE_CUDA ? SAM2_SLICE_GPU : SAM2_SLICE_CPU;
    const int64_t slices = (prompts->count + step - 1) / step;
    struct sam2_masks all = {NULL, NULL, NULL};
    struct nn_tensor **list = ws2_calloc((size_t)slices, 3 * sizeof(struct nn_tensor *));
    if (list == NULL) {
        nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
        return all;
    }
    const struct prepared p = prepare(sam2, e, picture, prompts->mask != NULL);
    for (int64_t i = 0; i < slices; i++) {
        const int64_t begin = i * step, left = prompts->count - begin;
        nn_scope_begin(nn);
        const struct sam2_masks m = decode_slice(&p, e, prompts, begin, left < step ? left : step, multimask);
        list[i] = nn_keep(nn, nn_to_dtype(nn, m.logits, nn_dtype(e->image)));
        list[slices + i] = nn_keep(nn, nn_to_dtype(nn, m.iou, nn_dtype(e->image)));
        list[2 * slices + i] = nn_keep(nn, nn_to_dtype(nn, m.object, nn_dtype(e->image)));
        nn_scope_end(nn);
    }
    all.logits = slices == 1 ? list[0] : nn_cat(nn, list, (int)slices, 0);
    all.iou = nn_cat(nn, list + slices, (int)slices, 0);
    all.object = nn_cat(nn, list + 2 * slices, (int)slices, 0);
    free(list);
    return all;
}

static void check(struct nn *nn, const struct sam2_embedding *e, int64_t picture,
                  const struct sam2_prompts *p)
{
    const int64_t side = 4 * nn_dim(e->image, 2);
    if (e->image == NULL || e->fine == NULL || e->half == NULL)
        nn_fail(nn, WS2_ERR_USAGE, "sam2: the picture was not encoded");
    else if (picture < 0 || picture >= nn_dim(e->image, 0))
        nn_fail(nn, WS2_ERR_USAGE, "sam2: no picture %lld of %lld", (long long)picture,
                (long long)nn_dim(e->image, 0));
    else if (p->count < 0 || p->points < 0 || (p->points && p->count && (!p->point || !p->label)))
        nn_fail(nn, WS2_ERR_USAGE, "sam2: %lld prompts of %lld points", (long long)p->count,
                (long long)p->points);
    else if (p->mask && (nn_rank(p->mask) != 4 || nn_dim(p->mask, 0) != p->count || nn_dim(p->mask, 1) != 1 ||
                         nn_dim(p->mask, 2) != side || nn_dim(p->mask, 3) != side))
        nn_fail(nn, WS2_ERR_USAGE, "sam2: masks of prompts must be [%lld,1,%lld,%lld]", (long long)p->count,
                (long long)side, (long long)side);
    for (int64_t i = 0; !nn_error(nn) && i < p->count * p->points; i++)
        if (p->label[i] < SAM2_PADDING || p->label[i] > SAM2_BOTTOM_RIGHT)
            nn_fail(nn, WS2_ERR_USAGE, "sam2: no label %d of a point", p->label[i]);
}

struct sam2_masks sam2_decode(const struct sam2 *sam2, const struct sam2_embedding *e, int64_t picture,
                              const struct sam2_prompts *prompts, bool multimask)
{
    struct nn *nn = sam2->nn;
    struct sam2_masks m = {NULL, NULL, NULL};
    const int64_t k = multimask ? SAM2_MASKS - 1 : 1;
    if (nn_error(nn))
        return m;
    check(nn, e, picture, prompts);
    if (nn_error(nn))
        return m;
    if (prompts->count == 0)
        return (struct sam2_masks){none(nn, e, k, 4), none(nn, e, k, 2), none(nn, e, 1, 2)};
    nn_no_grad_begin(nn);
    nn_scope_begin(nn);
    m = decode(sam2, e, picture, prompts, multimask);
    nn_keep(nn, m.logits);
    nn_keep(nn, m.iou);
    nn_keep(nn, m.object);
    nn_scope_end(nn);
    nn_no_grad_end(nn);
    if (nn_error(nn))
        m.logits = m.iou = m.object = NULL;
    return m;
}
