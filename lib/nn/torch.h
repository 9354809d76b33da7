/*
 * What the only files that know libtorch share: torch_*.cpp, which alone include this header (it is C++).
 * They compile with 1.13 and 2.x. Every exception stops at the functions guard() and make().
 */
#ifndef WS2_NN_TORCH_H
#define WS2_NN_TORCH_H

#include <vector>

#include <ATen/core/Tensor.h>
#include <torch/version.h>
#define WS2_TORCH (TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR)

#include "nn/internal.h"

using at::Tensor;

/* position: where the handle stands in its scope's list. lowered: a bfloat16 copy of a permanent tensor, good as
 * long as the tensor's version (libtorch counts writes) is the one it was made from. */
struct nn_tensor {
    Tensor value;
    int scope;
    size_t position;
    Tensor lowered;
    uint32_t lowered_version;
};

struct nn {
    at::Device device;
    enum nn_device kind;
    enum nn_precision precision;
    enum nn_layout layout;
    at::ScalarType working;
    int threads;
    bool deterministic;
    std::vector<std::vector<struct nn_tensor *>> scopes;
    int no_grad;
    bool grad_before;
    int64_t alive;
    struct ws2_error error;
};

/* Short names stay out of the way of libtorch's. */
namespace ws2
{

/* Thrown for arguments that libtorch would not refuse in words of ours. */
struct bad_argument {
    const char *text;
};

/* torch_scopes.cpp */

/* For a catch block: makes the exception caught the sticky error and returns its status. */
int keep_exception(struct nn *nn, const char *op);
/* A handle in the given scope (0: the context's own), or in the innermost one. */
struct nn_tensor *wrap(struct nn *nn, Tensor value, size_t scope);
struct nn_tensor *wrap(struct nn *nn, Tensor value);
/* Frees the innermost scope and its handles. */
void free_scope(struct nn *nn);

/* torch_data.cpp */

at::ScalarType scalar_type(enum nn_dtype dtype);
at::TensorOptions options(const struct nn *nn, at::ScalarType type);
at::IntArrayRef dims(const struct ws2_shape &shape);
std::vector<int64_t> list(const struct nn_axes &axes);
std::vector<Tensor> list(struct nn_tensor *const *x, int count);
/* Contiguous in the context's layout; for tensors of four axes. */
Tensor in_layout(const struct nn *nn, const Tensor &x);

/* Runs body, turning what it throws into the sticky error. */
template <class F> int guard(struct nn *nn, const char *op, F &&body)
{
    if (!nn)
        return WS2_ERR_USAGE;
    if (nn->error.status < 0)
        return nn->error.status;
    try {
        body();
        return 0;
    } catch (...) {
        return keep_exception(nn, op);
    }
}

/* Runs body and makes a handle of the tensor that it returns. */
template <class F> struct nn_tensor *make(struct nn *nn, const char *op, F &&body)
{
    struct nn_tensor *result = nullptr;
    guard(nn, op, [&] { result = wrap(nn, body()); });
    return result;
}

inline const Tensor &get(const struct nn_tensor *x)
{
    if (!x)
        throw bad_argument{"a tensor is NULL"};
    return x->value;
}

inline bool is_half(const Tensor &x)
{
    return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
}

/* For operations that keep float32: sums, exponentials, losses. */
inline Tensor raised(const Tensor &x)
{
    return is_half(x) ? x.to(at::kFloat) : x;
}

template <class F> struct nn_tensor *unary(struct nn *nn, const char *op, struct nn_tensor *x, F &&body)
{
    return make(nn, op, [&] { return body(get(x)); });
}

template <class F>
struct nn_tensor *unary_raised(struct nn *nn, const char *op, struct nn_tensor *x, F &&body)
{
    return make(nn, op, [&] { return body(raised(get(x))); });
}

/* body changes x's tensor in place; the result is x itself. */
template <class F> struct nn_tensor *in_place(struct nn *nn, const char *op, struct nn_tensor *x, F &&body)
{
    return guard(nn, op, [&] { body(get(x)); }) < 0 ? nullptr : x;
}

} // namespace ws2

using namespace ws2;

#endif
