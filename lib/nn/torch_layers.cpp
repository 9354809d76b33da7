/*
 * The layers of a network, with the conversions to bfloat16 that its products take, and the losses.
 */
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "nn/torch.h"

namespace
{

c10::optional<Tensor> get_optional(const struct nn_tensor *x)
{
    return x ? c10::optional<Tensor>(x->value) : c10::optional<Tensor>();
}

/* For convolutions and matrix products in bfloat16 mode. The copy of a permanent tensor (a parameter) is kept until
 * the tensor is written to; a copy made without a graph is not used where one is recorded. */
Tensor lowered(struct nn *nn, struct nn_tensor *x)
{
    const Tensor &value = get(x);
    if (nn->precision != NN_BF16_MODE || value.scalar_type() != at::kFloat)
        return value;
    if (x->scope != 0)
        return value.to(at::kBFloat16);
    uint32_t version = (uint32_t)value._version();
    bool record = value.requires_grad() && at::GradMode::is_enabled();
    if (!x->lowered.defined() || x->lowered_version != version || (record && !x->lowered.requires_grad())) {
        x->lowered = value.to(at::kBFloat16);
        x->lowered_version = version;
    }
    return x->lowered;
}

c10::optional<Tensor> lowered_optional(struct nn *nn, struct nn_tensor *x)
{
    return x ? c10::optional<Tensor>(lowered(nn, x)) : c10::optional<Tensor>();
}

template <class F>
struct nn_tensor *binary_raised(struct nn *nn, const char *op, struct nn_tensor *a, struct nn_tensor *b,
                                F &&body)
{
    return make(nn, op, [&] { return body(raised(get(a)), raised(get(b))); });
}

} // namespace

/* ---- layers -------------------------------------------------------------------------------------------- */

static at::IntArrayRef pair(const int value[2], int64_t out[2])
{
    out[0] = value[0];
    out[1] = value[1];
    return at::IntArrayRef(out, 2);
}

struct nn_tensor *nn_conv2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                            struct nn_tensor *bias, struct nn_conv conv)
{
    return make(nn, "nn_conv2d", [&] {
        int64_t stride[2], pad[2], dilation[2];
        return at::conv2d(lowered(nn, x), lowered(nn, weight), lowered_optional(nn, bias),
                          pair(conv.stride, stride), pair(conv.pad, pad), pair(conv.dilation, dilation),
                          conv.groups);
    });
}

struct nn_tensor *nn_conv_transpose2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                                      struct nn_tensor *bias, struct nn_conv conv)
{
    return make(nn, "nn_conv_transpose2d", [&] {
        int64_t stride[2], pad[2], dilation[2], none[2] = {0, 0};
        return at::conv_transpose2d(lowered(nn, x), lowered(nn, weight), lowered_optional(nn, bias),
                                    pair(conv.stride, stride), pair(conv.pad, pad), at::IntArrayRef(none, 2),
                                    conv.groups, pair(conv.dilation, dilation));
    });
}

struct nn_tensor *nn_linear(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                            struct nn_tensor *bias)
{
    return make(nn, "nn_linear",
                [&] { return at::linear(lowered(nn, x), lowered(nn, weight), lowered_optional(nn, bias)); });
}

struct nn_tensor *nn_matmul(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return make(nn, "nn_matmul", [&] { return at::matmul(lowered(nn, a), lowered(nn, b)); });
}

struct nn_tensor *nn_attention(struct nn *nn, struct nn_tensor *q, struct nn_tensor *k, struct nn_tensor *v)
{
    return make(nn, "nn_attention", [&] {
        Tensor query = lowered(nn, q), key = lowered(nn, k), value = lowered(nn, v);
#if WS2_TORCH >= 200
        return at::scaled_dot_product_attention(query, key, value);
#else
        Tensor scores = at::matmul(query, key.transpose(-2, -1)).mul_(1 / std::sqrt((double)query.size(-1)));
        return at::matmul(at::softmax(raised(scores), -1).to(value.scalar_type()), value);
#endif
    });
}

struct nn_tensor *nn_batch_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                                struct nn_tensor *bias, struct nn_tensor *mean, struct nn_tensor *var,
                                bool training, double momentum, double eps)
{
    return make(nn, "nn_batch_norm", [&] {
        return at::batch_norm(get(x), get(weight), get(bias), get(mean), get(var), training, momentum, eps,
                              nn->kind == NN_DEVICE_CUDA);
    });
}

struct nn_tensor *nn_instance_norm(struct nn *nn, struct nn_tensor *x, double eps)
{
    return make(nn, "nn_instance_norm", [&] {
        c10::optional<Tensor> none;
        return at::instance_norm(get(x), none, none, none, none, true, 0, eps, nn->kind == NN_DEVICE_CUDA);
    });
}

struct nn_tensor *nn_layer_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                                struct nn_tensor *bias, double eps)
{
    return make(nn, "nn_layer_norm", [&] {
        const Tensor value = raised(get(x));
        if (value.dim() < 1)
            throw bad_argument{"a scalar has no last axis"};
        return at::layer_norm(value, {value.size(-1)}, get_optional(weight), get_optional(bias), eps);
    });
}

struct nn_tensor *nn_group_norm(struct nn *nn, struct nn_tensor *x, int64_t groups, struct nn_tensor *weight,
                                struct nn_tensor *bias, double eps)
{
    return make(nn, "nn_group_norm", [&] {
        const Tensor value = raised(get(x));
        if (value.dim() != 4 || groups < 1 || value.size(1) % groups != 0)
            throw bad_argument{"channels that do not fall into these groups"};
        return at::group_norm(value, groups, get_optional(weight), get_optional(bias), eps);
    });
}

struct nn_tensor *nn_elu(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_elu", x, [](const Tensor &a) { return at::elu(a); });
}

struct nn_tensor *nn_relu(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_relu", x, [](const Tensor &a) { return at::relu(a); });
}

struct nn_tensor *nn_relu_(struct nn *nn, struct nn_tensor *x)
{
    return in_place(nn, "nn_relu_", x, [](const Tensor &a) { a.relu_(); });
}

struct nn_tensor *nn_gelu(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_gelu", x, [](const Tensor &a) { return at::gelu(a); });
}

struct nn_tensor *nn_sigmoid(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_sigmoid", x, [](const Tensor &a) { return at::sigmoid(a); });
}

struct nn_tensor *nn_log_sigmoid(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_log_sigmoid", x, [](const Tensor &a) { return at::log_sigmoid(a); });
}

struct nn_tensor *nn_softplus(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_softplus", x, [](const Tensor &a) { return at::log_sigmoid(a.neg()).neg(); });
}

struct nn_tensor *nn_tanh(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_tanh", x, [](const Tensor &a) { return at::tanh(a); });
}

struct nn_tensor *nn_softmax(struct nn *nn, struct nn_tensor *x, int axis)
{
    return unary_raised(nn, "nn_softmax", x, [&](const Tensor &a) { return at::softmax(a, axis); });
}

struct nn_tensor *nn_log_softmax(struct nn *nn, struct nn_tensor *x, int axis)
{
    return unary_raised(nn, "nn_log_softmax", x, [&](const Tensor &a) { return at::log_softmax(a, axis); });
}

struct nn_tensor *nn_max_pool2d(struct nn *nn, struct nn_tensor *x, int kernel, int stride, int pad)
{
    return unary(nn, "nn_max_pool2d", x, [&](const Tensor &a) {
        return at::max_pool2d(a, {kernel, kernel}, {stride, stride}, {pad, pad});
    });
}

struct nn_tensor *nn_avg_pool2d(struct nn *nn, struct nn_tensor *x, int kernel, int stride, int pad)
{
    return unary(nn, "nn_avg_pool2d", x, [&](const Tensor &a) {
        return at::avg_pool2d(a, {kernel, kernel}, {stride, stride}, {pad, pad}, false, false);
    });
}

struct nn_tensor *nn_resize_nearest(struct nn *nn, struct nn_tensor *x, int64_t height, int64_t width)
{
    return unary(nn, "nn_resize_nearest", x, [&](const Tensor &a) {
        return at::upsample_nearest2d(a, {height, width});
    });
}

struct nn_tensor *nn_resize_bilinear(struct nn *nn, struct nn_tensor *x, int64_t height, int64_t width,
                                     bool align_corners)
{
    return unary_raised(nn, "nn_resize_bilinear", x, [&](const Tensor &a) {
        return at::upsample_bilinear2d(a, {height, width}, align_corners);
    });
}

struct nn_tensor *nn_resize_bicubic(struct nn *nn, struct nn_tensor *x, int64_t height, int64_t width,
                                    double scale_h, double scale_w)
{
    return unary_raised(nn, "nn_resize_bicubic", x, [&](const Tensor &a) {
        c10::optional<double> none, by_h(scale_h), by_w(scale_w);
        return at::upsample_bicubic2d(a, {height, width}, false, scale_h > 0 ? by_h : none,
                                      scale_w > 0 ? by_w : none);
    });
}

struct nn_tensor *nn_resize_bilinear_aa(struct nn *nn, struct nn_tensor *x, int64_t height, int64_t width)
{
    return unary_raised(nn, "nn_resize_bilinear_aa", x, [&](const Tensor &a) {
        return at::_upsample_bilinear2d_aa(a, {height, width}, false);
    });
}

struct nn_tensor *nn_resize_bicubic_aa(struct nn *nn, struct nn_tensor *x, int64_t height, int64_t width)
{
    return unary_raised(nn, "nn_resize_bicubic_aa", x, [&](const Tensor &a) {
        return at::_upsample_bicubic2d_aa(a, {height, width}, false);
    });
}

struct nn_tensor *nn_grid_sample(struct nn *nn, struct nn_tensor *x, struct nn_tensor *grid,
                                 bool align_corners)
{
    return binary_raised(nn, "nn_grid_sample", x, grid, [&](const Tensor &a, const Tensor &g) {
        const int64_t bilinear = 0, zeros = 0;
        return at::grid_sampler(a, g, bilinear, zeros, align_corners);
    });
}

struct nn_tensor *nn_unfold(struct nn *nn, struct nn_tensor *x, int kernel, int pad, int stride)
{
    return unary(nn, "nn_unfold", x, [&](const Tensor &a) {
        return at::im2col(a, {kernel, kernel}, {1, 1}, {pad, pad}, {stride, stride});
    });
}

/* ---- losses -------------------------------------------------------------------------------------------- */

struct nn_tensor *nn_cross_entropy(struct nn *nn, struct nn_tensor *logits, struct nn_tensor *labels,
                                   struct nn_tensor *weight, int64_t ignore, double smoothing)
{
    return make(nn, "nn_cross_entropy", [&] {
        return at::cross_entropy_loss(raised(get(logits)), get(labels), get_optional(weight),
                                      at::Reduction::Mean, ignore < 0 ? -100 : ignore, smoothing);
    });
}

struct nn_tensor *nn_bce_with_logits(struct nn *nn, struct nn_tensor *logits, struct nn_tensor *targets)
{
    return binary_raised(nn, "nn_bce_with_logits", logits, targets, [](const Tensor &x, const Tensor &y) {
        return at::binary_cross_entropy_with_logits(x, y);
    });
}

struct nn_tensor *nn_bce(struct nn *nn, struct nn_tensor *probs, struct nn_tensor *targets)
{
    return binary_raised(nn, "nn_bce", probs, targets,
                         [](const Tensor &p, const Tensor &y) { return at::binary_cross_entropy(p, y); });
}

struct nn_tensor *nn_mse(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary_raised(nn, "nn_mse", a, b,
                         [](const Tensor &x, const Tensor &y) { return at::mse_loss(x, y); });
}

struct nn_tensor *nn_l1(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary_raised(nn, "nn_l1", a, b,
                         [](const Tensor &x, const Tensor &y) { return at::l1_loss(x, y); });
}
