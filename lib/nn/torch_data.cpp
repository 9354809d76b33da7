/*
 * Data in and out, images among it; tensors made from nothing; and operations that change the form of a tensor
 * only.
 */
#include <cmath>
#include <cstring>

#include <ATen/ATen.h>

#include "nn/torch.h"

namespace ws2
{

at::ScalarType scalar_type(enum nn_dtype dtype)
{
    switch (dtype) {
    case NN_F32:
        return at::kFloat;
    case NN_F64:
        return at::kDouble;
    case NN_F16:
        return at::kHalf;
    case NN_BF16:
        return at::kBFloat16;
    case NN_U8:
        return at::kByte;
    case NN_I8:
        return at::kChar;
    case NN_I16:
        return at::kShort;
    case NN_I32:
        return at::kInt;
    case NN_I64:
        return at::kLong;
    case NN_BOOL:
        return at::kBool;
    case NN_DTYPES:
        break;
    }
    throw bad_argument{"no such element type"};
}

at::TensorOptions options(const struct nn *nn, at::ScalarType type)
{
    return at::TensorOptions().device(nn->device).dtype(type);
}

at::IntArrayRef dims(const struct ws2_shape &shape)
{
    if (shape.rank < 0 || shape.rank > WS2_AXES_MAX)
        throw bad_argument{"bad rank"};
    return at::IntArrayRef(shape.dim, (size_t)shape.rank);
}

std::vector<int64_t> list(const struct nn_axes &axes)
{
    if (axes.count < 0 || axes.count > WS2_AXES_MAX)
        throw bad_argument{"bad list of axes"};
    return std::vector<int64_t>(axes.axis, axes.axis + axes.count);
}

std::vector<Tensor> list(struct nn_tensor *const *x, int count)
{
    if (count < 0 || (count > 0 && !x))
        throw bad_argument{"bad list of tensors"};
    std::vector<Tensor> values;
    values.reserve((size_t)count);
    for (int i = 0; i < count; i++)
        values.push_back(get(x[i]));
    return values;
}

Tensor in_layout(const struct nn *nn, const Tensor &x)
{
    return x.contiguous(nn->layout == NN_LAYOUT_CHANNELS_LAST ? at::MemoryFormat::ChannelsLast
                                                              : at::MemoryFormat::Contiguous);
}

} // namespace ws2

/* ---- data in and out ----------------------------------------------------------------------------------- */

/* The general way, for GPUs and float64: [B,H,W,3] of any type -> normalised [B,3,H,W]. */
static Tensor normalised(const struct nn *nn, const Tensor &pixels, double scale, const float mean[3],
                         const float std[3])
{
    Tensor middle = at::empty({3}, at::kDouble), width = at::empty({3}, at::kDouble);
    for (int c = 0; c < 3; c++) {
        middle.data_ptr<double>()[c] = mean[c];
        width.data_ptr<double>()[c] = std[c];
    }
    Tensor x = pixels.to(nn->device).to(nn->working).mul_(scale);
    x.sub_(middle.to(x.options())).div_(width.to(x.options()));
    return x.permute({0, 3, 1, 2});
}

/* The fast way, for float32 on the CPU. normalise fills one image. */
template <class T, class F>
static Tensor fill_images(const struct nn *nn, at::IntArrayRef shape, const T *rgb, F &&normalise)
{
    bool last = nn->layout == NN_LAYOUT_CHANNELS_LAST;
    Tensor x = at::empty(shape, options(nn, at::kFloat),
                         last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
    int64_t pixels = shape[2] * shape[3];
    for (int64_t b = 0; b < shape[0]; b++)
        normalise(x.data_ptr<float>() + b * 3 * pixels, rgb + b * 3 * pixels, pixels, !last);
    return x;
}

static bool fast_images(const struct nn *nn)
{
    return nn->kind == NN_DEVICE_CPU && nn->working == at::kFloat;
}

static void check_images(int64_t batch, int64_t height, int64_t width)
{
    struct ws2_shape shape = ws2_shape_4(batch, height, width, 3);
    size_t bytes;
    if (batch < 1 || height < 1 || width < 1 || !ws2_shape_bytes(&shape, WS2_F64, &bytes))
        throw bad_argument{"bad image size"};
}

struct nn_tensor *nn_images_u8(struct nn *nn, int64_t batch, int64_t height, int64_t width,
                               const uint8_t *rgb, const float mean[3], const float std[3])
{
    return make(nn, "nn_images_u8", [&] {
        check_images(batch, height, width);
        if (fast_images(nn))
            return fill_images(nn, {batch, 3, height, width}, rgb,
                               [&](float *out, const uint8_t *in, int64_t pixels, bool planar) {
                                   nn_normalise_u8(out, in, pixels, planar, mean, std);
                               });
        Tensor pixels = at::empty({batch, height, width, 3}, at::kByte);
        memcpy(pixels.data_ptr<uint8_t>(), rgb, (size_t)pixels.numel());
        return in_layout(nn, normalised(nn, pixels, 1.0 / 255.0, mean, std));
    });
}

struct nn_tensor *nn_images_f32(struct nn *nn, int64_t batch, int64_t height, int64_t width, const float *rgb,
                                const float mean[3], const float std[3])
{
    return make(nn, "nn_images_f32", [&] {
        check_images(batch, height, width);
        if (fast_images(nn))
            return fill_images(nn, {batch, 3, height, width}, rgb,
                               [&](float *out, const float *in, int64_t pixels, bool planar) {
                                   nn_normalise_f32(out, in, pixels, planar, mean, std);
                               });
        Tensor pixels = at::empty({batch, height, width, 3}, at::kFloat);
        memcpy(pixels.data_ptr<float>(), rgb, (size_t)pixels.numel() * sizeof(float));
        return in_layout(nn, normalised(nn, pixels, 1.0, mean, std));
    });
}

template <class T>
static Tensor copied_in(const struct nn *nn, const struct ws2_shape &shape, const T *data,
                        at::ScalarType stored, at::ScalarType wanted)
{
    Tensor x = at::empty(dims(shape), at::TensorOptions().dtype(stored));
    if (x.numel() > 0)
        memcpy(x.data_ptr<T>(), data, (size_t)x.numel() * sizeof(T));
    return x.to(nn->device, wanted);
}

template <class T>
static int copied_out(struct nn *nn, const char *op, const struct nn_tensor *x, T *out, size_t count,
                      at::ScalarType type)
{
    return guard(nn, op, [&] {
        if ((size_t)get(x).numel() != count)
            throw bad_argument{"the buffer has another number of elements than the tensor"};
        Tensor packed = x->value.detach().to(at::kCPU, type).contiguous();
        if (count > 0)
            memcpy(out, packed.data_ptr<T>(), count * sizeof(T));
    });
}

struct nn_tensor *nn_from_f32(struct nn *nn, struct ws2_shape shape, const float *data)
{
    return make(nn, "nn_from_f32", [&] { return copied_in(nn, shape, data, at::kFloat, nn->working); });
}

struct nn_tensor *nn_from_f64(struct nn *nn, struct ws2_shape shape, const double *data)
{
    return make(nn, "nn_from_f64", [&] { return copied_in(nn, shape, data, at::kDouble, at::kDouble); });
}

struct nn_tensor *nn_from_u8(struct nn *nn, struct ws2_shape shape, const uint8_t *data)
{
    return make(nn, "nn_from_u8", [&] { return copied_in(nn, shape, data, at::kByte, at::kByte); });
}

struct nn_tensor *nn_from_i64(struct nn *nn, struct ws2_shape shape, const int64_t *data)
{
    return make(nn, "nn_from_i64", [&] { return copied_in(nn, shape, data, at::kLong, at::kLong); });
}

int nn_to_f32(struct nn *nn, struct nn_tensor *x, float *out, size_t count)
{
    return copied_out(nn, "nn_to_f32", x, out, count, at::kFloat);
}

int nn_to_f64(struct nn *nn, struct nn_tensor *x, double *out, size_t count)
{
    return copied_out(nn, "nn_to_f64", x, out, count, at::kDouble);
}

int nn_to_u8(struct nn *nn, struct nn_tensor *x, uint8_t *out, size_t count)
{
    return copied_out(nn, "nn_to_u8", x, out, count, at::kByte);
}

int nn_to_i64(struct nn *nn, struct nn_tensor *x, int64_t *out, size_t count)
{
    return copied_out(nn, "nn_to_i64", x, out, count, at::kLong);
}

double nn_item(struct nn *nn, struct nn_tensor *x)
{
    double value = NAN;
    guard(nn, "nn_item", [&] {
        if (get(x).numel() != 1)
            throw bad_argument{"not one element"};
        value = x->value.detach().to(at::kCPU, at::kDouble).item().toDouble();
    });
    return value;
}

/* ---- creation ------------------------------------------------------------------------------------------ */

struct nn_tensor *nn_zeros(struct nn *nn, struct ws2_shape shape, enum nn_dtype dtype)
{
    return make(nn, "nn_zeros", [&] { return at::zeros(dims(shape), options(nn, scalar_type(dtype))); });
}

struct nn_tensor *nn_ones(struct nn *nn, struct ws2_shape shape, enum nn_dtype dtype)
{
    return make(nn, "nn_ones", [&] { return at::ones(dims(shape), options(nn, scalar_type(dtype))); });
}

struct nn_tensor *nn_full(struct nn *nn, struct ws2_shape shape, double value, enum nn_dtype dtype)
{
    return make(nn, "nn_full", [&] { return at::full(dims(shape), value, options(nn, scalar_type(dtype))); });
}

struct nn_tensor *nn_zeros_like(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_zeros_like", x, [](const Tensor &a) { return at::zeros_like(a); });
}

struct nn_tensor *nn_ones_like(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_ones_like", x, [](const Tensor &a) { return at::ones_like(a); });
}

struct nn_tensor *nn_eye(struct nn *nn, int64_t n)
{
    return make(nn, "nn_eye", [&] { return at::eye(n, options(nn, nn->working)); });
}

struct nn_tensor *nn_arange(struct nn *nn, int64_t begin, int64_t end, enum nn_dtype dtype)
{
    return make(nn, "nn_arange", [&] { return at::arange(begin, end, options(nn, scalar_type(dtype))); });
}

struct nn_tensor *nn_linspace(struct nn *nn, double first, double last, int64_t count)
{
    return make(nn, "nn_linspace",
                [&] { return at::linspace(first, last, count, options(nn, nn->working)); });
}

static struct nn_tensor *random_numbers(struct nn *nn, const char *op, const struct ws2_shape &shape,
                                        struct ws2_random *random, double (*draw)(struct ws2_random *))
{
    return make(nn, op, [&] {
        Tensor x = at::empty(dims(shape), at::kDouble);
        for (int64_t i = 0; i < x.numel(); i++)
            x.data_ptr<double>()[i] = draw(random);
        return x.to(nn->device, nn->working);
    });
}

struct nn_tensor *nn_rand(struct nn *nn, struct ws2_shape shape, struct ws2_random *random)
{
    return random_numbers(nn, "nn_rand", shape, random, ws2_random_uniform);
}

struct nn_tensor *nn_randn(struct nn *nn, struct ws2_shape shape, struct ws2_random *random)
{
    return random_numbers(nn, "nn_randn", shape, random, ws2_random_normal);
}

/* ---- form ---------------------------------------------------------------------------------------------- */

struct nn_tensor *nn_clone(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_clone", x, [](const Tensor &a) { return a.clone(); });
}

struct nn_tensor *nn_copy_(struct nn *nn, struct nn_tensor *to, struct nn_tensor *from)
{
    return in_place(nn, "nn_copy_", to, [&](const Tensor &a) { a.copy_(get(from)); });
}

struct nn_tensor *nn_contiguous(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_contiguous", x, [](const Tensor &a) { return a.contiguous(); });
}

struct nn_tensor *nn_to_dtype(struct nn *nn, struct nn_tensor *x, enum nn_dtype dtype)
{
    return unary(nn, "nn_to_dtype", x, [&](const Tensor &a) { return a.to(scalar_type(dtype)); });
}

struct nn_tensor *nn_reshape(struct nn *nn, struct nn_tensor *x, struct ws2_shape shape)
{
    return unary(nn, "nn_reshape", x, [&](const Tensor &a) { return a.reshape(dims(shape)); });
}

struct nn_tensor *nn_flatten(struct nn *nn, struct nn_tensor *x, int from, int to)
{
    return unary(nn, "nn_flatten", x, [&](const Tensor &a) { return a.flatten(from, to); });
}

struct nn_tensor *nn_squeeze(struct nn *nn, struct nn_tensor *x, int axis)
{
    return unary(nn, "nn_squeeze", x, [&](const Tensor &a) { return a.squeeze(axis); });
}

struct nn_tensor *nn_unsqueeze(struct nn *nn, struct nn_tensor *x, int axis)
{
    return unary(nn, "nn_unsqueeze", x, [&](const Tensor &a) { return a.unsqueeze(axis); });
}

struct nn_tensor *nn_permute(struct nn *nn, struct nn_tensor *x, struct nn_axes order)
{
    return unary(nn, "nn_permute", x, [&](const Tensor &a) { return a.permute(list(order)); });
}

struct nn_tensor *nn_transpose(struct nn *nn, struct nn_tensor *x, int a, int b)
{
    return unary(nn, "nn_transpose", x, [&](const Tensor &t) { return t.transpose(a, b); });
}

struct nn_tensor *nn_expand(struct nn *nn, struct nn_tensor *x, struct ws2_shape shape)
{
    return unary(nn, "nn_expand", x, [&](const Tensor &a) { return a.expand(dims(shape)); });
}

struct nn_tensor *nn_repeat(struct nn *nn, struct nn_tensor *x, struct ws2_shape times)
{
    return unary(nn, "nn_repeat", x, [&](const Tensor &a) { return a.repeat(dims(times)); });
}

struct nn_tensor *nn_repeat_interleave(struct nn *nn, struct nn_tensor *x, int64_t times, int axis)
{
    return unary(nn, "nn_repeat_interleave", x,
                 [&](const Tensor &a) { return at::repeat_interleave(a, times, axis); });
}

struct nn_tensor *nn_cat(struct nn *nn, struct nn_tensor *const *x, int count, int axis)
{
    return make(nn, "nn_cat", [&] { return at::cat(list(x, count), axis); });
}

struct nn_tensor *nn_stack(struct nn *nn, struct nn_tensor *const *x, int count, int axis)
{
    return make(nn, "nn_stack", [&] { return at::stack(list(x, count), axis); });
}

struct nn_tensor *nn_narrow(struct nn *nn, struct nn_tensor *x, int axis, int64_t begin, int64_t length)
{
    return unary(nn, "nn_narrow", x, [&](const Tensor &a) { return a.narrow(axis, begin, length); });
}

struct nn_tensor *nn_slice(struct nn *nn, struct nn_tensor *x, int axis, int64_t begin, int64_t end,
                           int64_t step)
{
    return unary(nn, "nn_slice", x, [&](const Tensor &a) { return a.slice(axis, begin, end, step); });
}

struct nn_tensor *nn_select(struct nn *nn, struct nn_tensor *x, int axis, int64_t index)
{
    return unary(nn, "nn_select", x, [&](const Tensor &a) { return a.select(axis, index); });
}

int nn_chunk(struct nn *nn, struct nn_tensor *x, int count, int axis, struct nn_tensor **out)
{
    for (int i = 0; i < count; i++)
        out[i] = nullptr;
    return guard(nn, "nn_chunk", [&] {
        int64_t extent = get(x).size(axis);
        if (count < 1 || extent % count != 0)
            throw bad_argument{"the extent is not a multiple of the count"};
        for (int i = 0; i < count; i++)
            out[i] = wrap(nn, x->value.narrow(axis, i * (extent / count), extent / count));
    });
}

struct nn_tensor *nn_flip(struct nn *nn, struct nn_tensor *x, struct nn_axes axes)
{
    return unary(nn, "nn_flip", x, [&](const Tensor &a) { return a.flip(list(axes)); });
}

struct nn_tensor *nn_roll(struct nn *nn, struct nn_tensor *x, int64_t shift, int axis)
{
    return unary(nn, "nn_roll", x, [&](const Tensor &a) { return a.roll(shift, axis); });
}

struct nn_tensor *nn_pad_constant(struct nn *nn, struct nn_tensor *x, int left, int right, int top,
                                  int bottom, double value)
{
    return unary(nn, "nn_pad_constant", x, [&](const Tensor &a) {
        return at::constant_pad_nd(a, {left, right, top, bottom}, value);
    });
}

struct nn_tensor *nn_pad_replicate(struct nn *nn, struct nn_tensor *x, int left, int right, int top,
                                   int bottom)
{
    return unary(nn, "nn_pad_replicate", x, [&](const Tensor &a) {
        return at::replication_pad2d(a, {left, right, top, bottom});
    });
}
