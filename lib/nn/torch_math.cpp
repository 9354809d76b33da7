/*
 * Choosing elements, arithmetic element by element, and reductions.
 */
#include <cmath>

#include <ATen/ATen.h>

#include "nn/torch.h"

namespace
{

template <class F>
struct nn_tensor *binary(struct nn *nn, const char *op, struct nn_tensor *a, struct nn_tensor *b, F &&body)
{
    return make(nn, op, [&] { return body(get(a), get(b)); });
}

} // namespace

/* ---- choosing ------------------------------------------------------------------------------------------ */

struct nn_tensor *nn_index_select(struct nn *nn, struct nn_tensor *x, int axis, struct nn_tensor *index)
{
    return binary(nn, "nn_index_select", x, index,
                  [&](const Tensor &a, const Tensor &i) { return a.index_select(axis, i); });
}

struct nn_tensor *nn_mask_select(struct nn *nn, struct nn_tensor *x, struct nn_tensor *mask)
{
    return binary(nn, "nn_mask_select", x, mask, [](const Tensor &a, const Tensor &m) {
        return m.dim() == a.dim() ? a.masked_select(m) : a.index_select(0, m.nonzero().squeeze(1));
    });
}

struct nn_tensor *nn_gather(struct nn *nn, struct nn_tensor *x, int axis, struct nn_tensor *index)
{
    return binary(nn, "nn_gather", x, index,
                  [&](const Tensor &a, const Tensor &i) { return a.gather(axis, i); });
}

struct nn_tensor *nn_nonzero(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_nonzero", x, [](const Tensor &a) { return a.nonzero(); });
}

struct nn_tensor *nn_where(struct nn *nn, struct nn_tensor *mask, struct nn_tensor *yes, struct nn_tensor *no)
{
    return make(nn, "nn_where", [&] { return at::where(get(mask), get(yes), get(no)); });
}

struct nn_tensor *nn_masked_fill(struct nn *nn, struct nn_tensor *x, struct nn_tensor *mask, double value)
{
    return binary(nn, "nn_masked_fill", x, mask,
                  [&](const Tensor &a, const Tensor &m) { return a.masked_fill(m, value); });
}

struct nn_tensor *nn_one_hot(struct nn *nn, struct nn_tensor *labels, int64_t classes)
{
    return unary(nn, "nn_one_hot", labels,
                 [&](const Tensor &a) { return at::one_hot(a, classes).to(nn->working); });
}

/* ---- arithmetic ---------------------------------------------------------------------------------------- */

struct nn_tensor *nn_add(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_add", a, b, [](const Tensor &x, const Tensor &y) { return at::add(x, y); });
}

struct nn_tensor *nn_sub(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_sub", a, b, [](const Tensor &x, const Tensor &y) { return at::sub(x, y); });
}

struct nn_tensor *nn_mul(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_mul", a, b, [](const Tensor &x, const Tensor &y) { return at::mul(x, y); });
}

struct nn_tensor *nn_div(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_div", a, b, [](const Tensor &x, const Tensor &y) { return at::div(x, y); });
}

struct nn_tensor *nn_add_(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return in_place(nn, "nn_add_", a, [&](const Tensor &x) { x.add_(get(b)); });
}

struct nn_tensor *nn_sub_(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return in_place(nn, "nn_sub_", a, [&](const Tensor &x) { x.sub_(get(b)); });
}

struct nn_tensor *nn_mul_(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return in_place(nn, "nn_mul_", a, [&](const Tensor &x) { x.mul_(get(b)); });
}

struct nn_tensor *nn_div_(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return in_place(nn, "nn_div_", a, [&](const Tensor &x) { x.div_(get(b)); });
}

struct nn_tensor *nn_add_scalar(struct nn *nn, struct nn_tensor *x, double value)
{
    return unary(nn, "nn_add_scalar", x, [&](const Tensor &a) { return at::add(a, value); });
}

struct nn_tensor *nn_mul_scalar(struct nn *nn, struct nn_tensor *x, double value)
{
    return unary(nn, "nn_mul_scalar", x, [&](const Tensor &a) { return at::mul(a, value); });
}

struct nn_tensor *nn_add_scalar_(struct nn *nn, struct nn_tensor *x, double value)
{
    /* An integer tensor (a counter) takes no fraction. */
    return in_place(nn, "nn_add_scalar_", x, [&](const Tensor &a) {
        if (at::isIntegralType(a.scalar_type(), true))
            a.add_(static_cast<int64_t>(value));
        else
            a.add_(value);
    });
}

struct nn_tensor *nn_mul_scalar_(struct nn *nn, struct nn_tensor *x, double value)
{
    return in_place(nn, "nn_mul_scalar_", x, [&](const Tensor &a) { a.mul_(value); });
}

struct nn_tensor *nn_add_scaled(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b, double scale)
{
    return binary(nn, "nn_add_scaled", a, b,
                  [&](const Tensor &x, const Tensor &y) { return at::add(x, y, scale); });
}

struct nn_tensor *nn_add_scaled_(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b, double scale)
{
    return in_place(nn, "nn_add_scaled_", a, [&](const Tensor &x) { x.add_(get(b), scale); });
}

struct nn_tensor *nn_neg(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_neg", x, [](const Tensor &a) { return at::neg(a); });
}

struct nn_tensor *nn_abs(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_abs", x, [](const Tensor &a) { return at::abs(a); });
}

struct nn_tensor *nn_sign(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_sign", x, [](const Tensor &a) { return at::sign(a); });
}

struct nn_tensor *nn_square(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_square", x, [](const Tensor &a) { return at::mul(a, a); });
}

struct nn_tensor *nn_pow(struct nn *nn, struct nn_tensor *x, double exponent)
{
    return unary_raised(nn, "nn_pow", x, [&](const Tensor &a) { return at::pow(a, exponent); });
}

struct nn_tensor *nn_sqrt(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_sqrt", x, [](const Tensor &a) { return at::sqrt(a); });
}

struct nn_tensor *nn_rsqrt(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_rsqrt", x, [](const Tensor &a) { return at::rsqrt(a); });
}

struct nn_tensor *nn_reciprocal(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_reciprocal", x, [](const Tensor &a) { return at::reciprocal(a); });
}

struct nn_tensor *nn_exp(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_exp", x, [](const Tensor &a) { return at::exp(a); });
}

struct nn_tensor *nn_log(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_log", x, [](const Tensor &a) { return at::log(a); });
}

struct nn_tensor *nn_sin(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_sin", x, [](const Tensor &a) { return at::sin(a); });
}

struct nn_tensor *nn_cos(struct nn *nn, struct nn_tensor *x)
{
    return unary_raised(nn, "nn_cos", x, [](const Tensor &a) { return at::cos(a); });
}

struct nn_tensor *nn_floor(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_floor", x, [](const Tensor &a) { return at::floor(a); });
}

struct nn_tensor *nn_clamp(struct nn *nn, struct nn_tensor *x, double low, double high)
{
    return unary(nn, "nn_clamp", x, [&](const Tensor &a) {
        if (std::isinf(low) && std::isinf(high))
            return a.clone();
        if (std::isinf(low))
            return at::clamp_max(a, high);
        return std::isinf(high) ? at::clamp_min(a, low) : at::clamp(a, low, high);
    });
}

struct nn_tensor *nn_minimum(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_minimum", a, b, [](const Tensor &x, const Tensor &y) { return at::minimum(x, y); });
}

struct nn_tensor *nn_maximum(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_maximum", a, b, [](const Tensor &x, const Tensor &y) { return at::maximum(x, y); });
}

struct nn_tensor *nn_gt(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_gt", a, b, [](const Tensor &x, const Tensor &y) { return at::gt(x, y); });
}

struct nn_tensor *nn_ge(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_ge", a, b, [](const Tensor &x, const Tensor &y) { return at::ge(x, y); });
}

struct nn_tensor *nn_lt(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_lt", a, b, [](const Tensor &x, const Tensor &y) { return at::lt(x, y); });
}

struct nn_tensor *nn_eq(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_eq", a, b, [](const Tensor &x, const Tensor &y) { return at::eq(x, y); });
}

struct nn_tensor *nn_gt_scalar(struct nn *nn, struct nn_tensor *x, double value)
{
    return unary(nn, "nn_gt_scalar", x, [&](const Tensor &a) { return at::gt(a, value); });
}

struct nn_tensor *nn_ge_scalar(struct nn *nn, struct nn_tensor *x, double value)
{
    return unary(nn, "nn_ge_scalar", x, [&](const Tensor &a) { return at::ge(a, value); });
}

struct nn_tensor *nn_lt_scalar(struct nn *nn, struct nn_tensor *x, double value)
{
    return unary(nn, "nn_lt_scalar", x, [&](const Tensor &a) { return at::lt(a, value); });
}

struct nn_tensor *nn_eq_scalar(struct nn *nn, struct nn_tensor *x, double value)
{
    return unary(nn, "nn_eq_scalar", x, [&](const Tensor &a) { return at::eq(a, value); });
}

struct nn_tensor *nn_logical_and(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_logical_and", a, b,
                  [](const Tensor &x, const Tensor &y) { return at::logical_and(x, y); });
}

struct nn_tensor *nn_logical_or(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    return binary(nn, "nn_logical_or", a, b,
                  [](const Tensor &x, const Tensor &y) { return at::logical_or(x, y); });
}

struct nn_tensor *nn_logical_not(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_logical_not", x, [](const Tensor &a) { return at::logical_not(a); });
}

struct nn_tensor *nn_isnan(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_isnan", x, [](const Tensor &a) { return at::isnan(a); });
}

/* ---- reductions ---------------------------------------------------------------------------------------- */

/* The type sums are given in: float32 for half floats, the tensor's own for other floats, libtorch's choice for
 * integers (i64). */
static c10::optional<at::ScalarType> sum_type(const Tensor &x)
{
    return is_half(x) ? c10::optional<at::ScalarType>(at::kFloat) : c10::optional<at::ScalarType>();
}

struct nn_tensor *nn_sum(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_sum", x, [](const Tensor &a) { return at::sum(a, sum_type(a)); });
}

struct nn_tensor *nn_mean(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_mean", x, [](const Tensor &a) { return at::mean(a, sum_type(a)); });
}

struct nn_tensor *nn_sum_axes(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool keep)
{
    return unary(nn, "nn_sum_axes", x,
                 [&](const Tensor &a) { return at::sum(a, list(axes), keep, sum_type(a)); });
}

struct nn_tensor *nn_mean_axes(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool keep)
{
    return unary(nn, "nn_mean_axes", x,
                 [&](const Tensor &a) { return at::mean(a, list(axes), keep, sum_type(a)); });
}

struct nn_tensor *nn_var_axes(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool unbiased,
                              bool keep)
{
    return unary_raised(nn, "nn_var_axes", x, [&](const Tensor &a) {
        std::vector<int64_t> d = list(axes);
        return at::var(a, at::OptionalIntArrayRef(d), unbiased, keep);
    });
}

struct nn_tensor *nn_amax(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool keep)
{
    return unary(nn, "nn_amax", x, [&](const Tensor &a) { return at::amax(a, list(axes), keep); });
}

struct nn_tensor *nn_amin(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool keep)
{
    return unary(nn, "nn_amin", x, [&](const Tensor &a) { return at::amin(a, list(axes), keep); });
}

struct nn_tensor *nn_max_axis(struct nn *nn, struct nn_tensor *x, int axis, bool keep,
                              struct nn_tensor **index)
{
    if (index)
        *index = nullptr;
    return unary(nn, "nn_max_axis", x, [&](const Tensor &a) {
        auto [value, position] = at::max(a, axis, keep);
        if (index)
            *index = wrap(nn, position);
        return value;
    });
}

struct nn_tensor *nn_argmax(struct nn *nn, struct nn_tensor *x, int axis)
{
    return unary(nn, "nn_argmax", x, [&](const Tensor &a) { return at::argmax(a, axis); });
}

struct nn_tensor *nn_norm_axes(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool keep)
{
    return unary_raised(nn, "nn_norm_axes", x, [&](const Tensor &a) {
        std::vector<int64_t> d = list(axes);
        return at::linalg_vector_norm(a, 2, at::OptionalIntArrayRef(d), keep);
    });
}

struct nn_tensor *nn_any(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_any", x, [](const Tensor &a) { return at::any(a); });
}

struct nn_tensor *nn_all(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_all", x, [](const Tensor &a) { return at::all(a); });
}

struct nn_tensor *nn_cumsum(struct nn *nn, struct nn_tensor *x, int axis)
{
    return unary_raised(nn, "nn_cumsum", x, [&](const Tensor &a) { return at::cumsum(a, axis); });
}

struct nn_tensor *nn_argsort(struct nn *nn, struct nn_tensor *x, int axis, bool descending)
{
    return unary(nn, "nn_argsort", x,
                 [&](const Tensor &a) { return at::argsort(a, true, axis, descending); });
}
