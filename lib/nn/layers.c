/*
 * Layers and losses written over the operations, the same for every libtorch.
 */
#include <math.h>

#include "nn/internal.h"

/* ---- quarters (Puzzle-CAM, section 3.2) -------------------------------------------------------------------- */

struct nn_tensor *nn_tile(struct nn *nn, struct nn_tensor *x)
{
    int64_t h = nn_dim(x, 2), w = nn_dim(x, 3);
    if (x && (nn_rank(x) != 4 || h % 2 || w % 2))
        return nn_fail(nn, WS2_ERR_USAGE, "nn_tile: height and width must be even");
    struct nn_tensor *part[4];
    for (int i = 0; i < 4; i++) {
        struct nn_tensor *row = nn_narrow(nn, x, 2, i / 2 * (h / 2), h / 2);
        part[i] = nn_narrow(nn, row, 3, i % 2 * (w / 2), w / 2);
    }
    return nn_cat(nn, part, 4, 0);
}

struct nn_tensor *nn_untile(struct nn *nn, struct nn_tensor *x)
{
    struct nn_tensor *part[4], *row[2];
    nn_chunk(nn, x, 4, 0, part);
    row[0] = nn_cat(nn, part, 2, 3);
    row[1] = nn_cat(nn, part + 2, 2, 3);
    return nn_cat(nn, row, 2, 2);
}

/* ---- layers -------------------------------------------------------------------------------------------------- */

struct nn_tensor *nn_layer_norm2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                                  struct nn_tensor *bias, double eps)
{
    struct nn_tensor *last = nn_permute(nn, x, nn_axes_4(0, 2, 3, 1));
    return nn_permute(nn, nn_layer_norm(nn, last, weight, bias, eps), nn_axes_4(0, 3, 1, 2));
}

struct nn_tensor *nn_global_avg_pool(struct nn *nn, struct nn_tensor *x)
{
    return nn_mean_axes(nn, x, nn_axes_2(2, 3), false);
}

struct nn_tensor *nn_global_max_pool(struct nn *nn, struct nn_tensor *x)
{
    return nn_amax(nn, x, nn_axes_2(2, 3), false);
}

/* x * mask / (1 - p), mask 1 with probability 1 - p, of the given shape (broadcast). */
static struct nn_tensor *drop(struct nn *nn, struct nn_tensor *x, struct ws2_shape shape, double p,
                              struct ws2_random *random)
{
    if (!(p >= 0 && p < 1))
        return nn_fail(nn, WS2_ERR_USAGE, "nn_dropout: p must be in [0, 1)");
    if (!x || p == 0)
        return x;
    struct nn_tensor *kept = nn_ge_scalar(nn, nn_rand(nn, shape, random), p);
    struct nn_tensor *scale = nn_mul_scalar(nn, nn_to_dtype(nn, kept, nn_dtype(x)), 1 / (1 - p));
    return nn_mul(nn, x, scale);
}

struct nn_tensor *nn_dropout(struct nn *nn, struct nn_tensor *x, double p, struct ws2_random *random)
{
    return drop(nn, x, nn_shape(x), p, random);
}

struct nn_tensor *nn_drop_path(struct nn *nn, struct nn_tensor *x, double p, struct ws2_random *random)
{
    struct ws2_shape shape = nn_shape(x);
    for (int i = 1; i < shape.rank; i++)
        shape.dim[i] = 1;
    return drop(nn, x, shape, p, random);
}

struct nn_bn nn_bn_declare(struct nn_params *params, const char *name, int64_t channels)
{
    struct ws2_shape shape = ws2_shape_1(channels), scalar = {0};
    struct nn_init zero = nn_init_make(NN_INIT_CONSTANT, 0), one = nn_init_make(NN_INIT_CONSTANT, 1);
    struct nn_bn bn;
    nn_params_enter(params, "%s", name);
    bn.weight = nn_declare(params, NN_WEIGHT, "weight", shape, one);
    bn.bias = nn_declare(params, NN_BIAS, "bias", shape, zero);
    bn.mean = nn_declare(params, NN_BUFFER, "running_mean", shape, zero);
    bn.var = nn_declare(params, NN_BUFFER, "running_var", shape, one);
    bn.count = nn_declare(params, NN_COUNTER, "num_batches_tracked", scalar, zero);
    nn_params_leave(params);
    return bn;
}

struct nn_tensor *nn_bn_apply(struct nn *nn, const struct nn_bn *bn, struct nn_tensor *x, bool training,
                              bool relu)
{
    const double momentum = 0.1, eps = 1e-5;
    if (training)
        nn_add_scalar_(nn, bn->count, 1);
    struct nn_tensor *y =
        nn_batch_norm(nn, x, bn->weight, bn->bias, bn->mean, bn->var, training, momentum, eps);
    return relu ? nn_relu_(nn, y) : y;
}

/* ---- losses ---------------------------------------------------------------------------------------------------- */

struct nn_tensor *nn_multilabel_soft_margin(struct nn *nn, struct nn_tensor *logits,
                                            struct nn_tensor *targets)
{
    struct nn_tensor *x = nn_softplus(nn, logits);
    return nn_mean(nn, nn_sub(nn, x, nn_mul(nn, targets, logits)));
}

struct nn_tensor *nn_masked_l1(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b,
                               struct nn_tensor *targets)
{
    struct nn_tensor *gap = nn_abs(nn, nn_sub(nn, a, b));
    struct nn_tensor *mask = nn_unsqueeze(nn, nn_unsqueeze(nn, targets, 2), 3);
    return nn_mean(nn, nn_mul(nn, gap, mask));
}

/* sum(a b) / max(|a| |b|, eps) along axis. */
struct nn_tensor *nn_cosine(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b, int axis, double eps)
{
    struct nn_axes axes = nn_axes_1(axis);
    struct nn_tensor *dot = nn_sum_axes(nn, nn_mul(nn, a, b), axes, false);
    struct nn_tensor *size = nn_mul(nn, nn_norm_axes(nn, a, axes, false), nn_norm_axes(nn, b, axes, false));
    return nn_div(nn, dot, nn_clamp(nn, size, eps, INFINITY));
}
