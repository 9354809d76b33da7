/*
 * The only file that knows libtorch: contexts, scopes, the operations, autograd and the optimisers' arithmetic.
 * Compiles with 1.13 and 2.x. Every exception stops at the functions guard() and make().
 */
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <string>
#include <unistd.h>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/version.h>
#define WS2_TORCH (TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR)
#if WS2_TORCH >= 209
#include <c10/core/CachingDeviceAllocator.h>
#endif

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

namespace
{

/* libtorch warns on stderr about things its user can do nothing about. */
class silent : public c10::WarningHandler
{
  public:
#if WS2_TORCH >= 200
    void process(const c10::Warning &) override
    {
    }
#else
    void process(const c10::SourceLocation &, const std::string &, const bool) override
    {
    }
#endif
};

silent silent_handler;

void silence(void)
{
#if WS2_TORCH >= 200
    c10::WarningUtils::set_warning_handler(&silent_handler);
#else
    c10::Warning::set_warning_handler(&silent_handler);
#endif
}

/* A CPU context without scopes. */
struct nn *new_context(void)
{
    return new nn{at::Device(at::kCPU),
                  NN_DEVICE_CPU,
                  NN_F32_MODE,
                  NN_LAYOUT_CHANNELS_FIRST,
                  at::kFloat,
                  1,
                  false,
                  {},
                  0,
                  true,
                  0,
                  {}};
}

/* Thrown for arguments that libtorch would not refuse in words of ours. */
struct bad_argument {
    const char *text;
};

void keep_message(struct nn *nn, const char *op, int status, const char *text)
{
    const char *end = strchr(text, '\n');
    int length = (int)(end ? (size_t)(end - text) : strlen(text));
    ws2_fail(&nn->error, status, "%s: %.*s", op, length, text);
}

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
    } catch (const bad_argument &e) {
        keep_message(nn, op, WS2_ERR_USAGE, e.text);
    } catch (const std::bad_alloc &) {
        keep_message(nn, op, WS2_ERR_SYSTEM, "out of memory");
    } catch (const c10::OutOfMemoryError &e) {
        keep_message(nn, op, WS2_ERR_SYSTEM, e.what_without_backtrace());
    } catch (const c10::Error &e) {
        const char *text = e.what_without_backtrace();
        bool memory = strstr(text, "can't allocate memory") || strstr(text, "not enough memory");
        keep_message(nn, op, memory ? WS2_ERR_SYSTEM : WS2_ERR_MODEL, text);
    } catch (const std::exception &e) {
        keep_message(nn, op, WS2_ERR_MODEL, e.what());
    } catch (...) {
        keep_message(nn, op, WS2_ERR_MODEL, "unknown exception");
    }
    return nn->error.status;
}

struct nn_tensor *wrap(struct nn *nn, Tensor value, size_t scope)
{
    if (value.dim() > WS2_AXES_MAX)
        throw bad_argument{"more axes than WS2_AXES_MAX"};
    struct nn_tensor *x = new struct nn_tensor();
    x->value = std::move(value);
    x->scope = (int)scope;
    x->position = nn->scopes[scope].size();
    try {
        nn->scopes[scope].push_back(x);
    } catch (...) {
        delete x;
        throw;
    }
    nn->alive++;
    return x;
}

struct nn_tensor *wrap(struct nn *nn, Tensor value)
{
    return wrap(nn, std::move(value), nn->scopes.size() - 1);
}

/* Runs body and makes a handle of the tensor that it returns. */
template <class F> struct nn_tensor *make(struct nn *nn, const char *op, F &&body)
{
    struct nn_tensor *result = nullptr;
    guard(nn, op, [&] { result = wrap(nn, body()); });
    return result;
}

const Tensor &get(const struct nn_tensor *x)
{
    if (!x)
        throw bad_argument{"a tensor is NULL"};
    return x->value;
}

c10::optional<Tensor> get_optional(const struct nn_tensor *x)
{
    return x ? c10::optional<Tensor>(x->value) : c10::optional<Tensor>();
}

bool is_half(const Tensor &x)
{
    return x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
}

/* For operations that keep float32: sums, exponentials, losses. */
Tensor raised(const Tensor &x)
{
    return is_half(x) ? x.to(at::kFloat) : x;
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

template <class F> struct nn_tensor *unary(struct nn *nn, const char *op, struct nn_tensor *x, F &&body)
{
    return make(nn, op, [&] { return body(get(x)); });
}

template <class F>
struct nn_tensor *unary_raised(struct nn *nn, const char *op, struct nn_tensor *x, F &&body)
{
    return make(nn, op, [&] { return body(raised(get(x))); });
}

template <class F>
struct nn_tensor *binary(struct nn *nn, const char *op, struct nn_tensor *a, struct nn_tensor *b, F &&body)
{
    return make(nn, op, [&] { return body(get(a), get(b)); });
}

template <class F>
struct nn_tensor *binary_raised(struct nn *nn, const char *op, struct nn_tensor *a, struct nn_tensor *b,
                                F &&body)
{
    return make(nn, op, [&] { return body(raised(get(a)), raised(get(b))); });
}

/* body changes x's tensor in place; the result is x itself. */
template <class F> struct nn_tensor *in_place(struct nn *nn, const char *op, struct nn_tensor *x, F &&body)
{
    return guard(nn, op, [&] { body(get(x)); }) < 0 ? nullptr : x;
}

} // namespace

/* ---- context ------------------------------------------------------------------------------------------- */

int nn_cuda_count(void)
{
    try {
        return at::hasCUDA() ? (int)at::detail::getCUDAHooks().getNumGPUs() : 0;
    } catch (...) {
        return 0;
    }
}

/* bfloat16 in hardware since compute capability 8. libtorch's C++ headers for this want the CUDA toolkit, so the
 * runtime that is loaded anyway is asked. */
static bool gpu_has_bf16(int index)
{
    typedef int attribute_function(int *, int, int);
    attribute_function *ask;
    void *symbol = dlsym(RTLD_DEFAULT, "cudaDeviceGetAttribute");
    static_assert(sizeof(ask) == sizeof(symbol), "a function pointer fits");
    memcpy(&ask, &symbol, sizeof(ask));
    const int compute_capability_major = 75;
    int major = 0;
    return symbol && ask(&major, compute_capability_major, index) == 0 && major >= 8;
}

/* A network's buffers are larger than what malloc keeps: by default it gives them back to the kernel after each
 * operation, only to have them zeroed page by page for the next one. */
static void keep_memory(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, -1);
#endif
}

static void choose_threads(int threads)
{
    at::set_num_threads(threads);
    try {
        at::set_num_interop_threads(1);
    } catch (...) {
        /* May be set once in a process; another context did it. */
    }
    typedef void set_function(int);
    set_function *set;
    void *symbol = dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
    memcpy(&set, &symbol, sizeof(set));
    if (symbol)
        set(threads);
}

static int choose_device(struct nn *nn, const struct nn_options *options, struct ws2_error *error)
{
    int gpus = options->device == NN_DEVICE_CPU ? 0 : nn_cuda_count();
    if (options->device == NN_DEVICE_CUDA && gpus == 0)
        return ws2_fail(error, WS2_ERR_MODEL, "no GPU that %s can use", nn_version());
    if (gpus > 0 && (options->device_index < 0 || options->device_index >= gpus))
        return ws2_fail(error, WS2_ERR_MODEL, "no GPU %d (there are %d)", options->device_index, gpus);
    nn->kind = gpus > 0 ? NN_DEVICE_CUDA : NN_DEVICE_CPU;
    nn->device =
        gpus > 0 ? at::Device(at::kCUDA, (c10::DeviceIndex)options->device_index) : at::Device(at::kCPU);
    return 0;
}

static int choose_precision(struct nn *nn, const struct nn_options *options, struct ws2_error *error)
{
    bool native = nn->kind == NN_DEVICE_CUDA ? gpu_has_bf16(options->device_index) : nn_cpu_has_bf16();
    nn->precision = options->precision;
    if (nn->precision == NN_AUTO_MODE)
        nn->precision = native ? NN_BF16_MODE : NN_F32_MODE;
    if (nn->precision == NN_BF16_MODE && !native)
        return ws2_fail(error, WS2_ERR_MODEL, "this %s has no bfloat16 arithmetic (it would be emulated)",
                        nn->kind == NN_DEVICE_CUDA ? "GPU" : "CPU");
    nn->working = nn->precision == NN_F64_MODE ? at::kDouble : at::kFloat;
    nn->layout = options->layout;
    /* Measured with ResNets: on a CPU it is the faster one or as fast for both types, with 1.13 and 2.15. */
    bool last = nn->precision == NN_BF16_MODE || (nn->precision == NN_F32_MODE && nn->kind == NN_DEVICE_CPU);
    if (nn->layout == NN_LAYOUT_AUTO)
        nn->layout = last ? NN_LAYOUT_CHANNELS_LAST : NN_LAYOUT_CHANNELS_FIRST;
    return 0;
}

static void choose_gpu_behaviour(const struct nn *nn)
{
    /* float32 means IEEE float32, not the 10-bit mantissa that cuDNN takes by default. */
    at::globalContext().setAllowTF32CuDNN(false);
    at::globalContext().setAllowTF32CuBLAS(false);
    if (nn->deterministic) {
        at::globalContext().setDeterministicCuDNN(true);
        at::globalContext().setDeterministicAlgorithms(true, true);
    }
}

int nn_open(struct nn **out, const struct nn_options *options, struct ws2_error *error)
{
    *out = nullptr;
    struct nn *nn = nullptr;
    try {
        silence();
        nn = new_context();
        nn->threads = options->threads > 0 ? options->threads : 1;
        nn->deterministic = options->deterministic;
        nn->scopes.resize(1);
        nn->grad_before = at::GradMode::is_enabled();
        int status = choose_device(nn, options, error);
        if (status == 0)
            status = choose_precision(nn, options, error);
        if (status < 0) {
            delete nn;
            return status;
        }
        keep_memory();
        choose_threads(nn->threads);
        if (nn->kind == NN_DEVICE_CUDA)
            choose_gpu_behaviour(nn);
        at::GradMode::set_enabled(true);
        *out = nn;
        return 0;
    } catch (const std::exception &e) {
        delete nn;
        return ws2_fail(error, WS2_ERR_SYSTEM, "libtorch does not start: %.200s", e.what());
    } catch (...) {
        delete nn;
        return ws2_fail(error, WS2_ERR_SYSTEM, "libtorch does not start");
    }
}

static void free_scope(struct nn *nn)
{
    std::vector<struct nn_tensor *> &scope = nn->scopes.back();
    for (size_t i = scope.size(); i-- > 0;)
        delete scope[i];
    nn->alive -= (int64_t)scope.size();
    nn->scopes.pop_back();
}

void nn_close(struct nn *nn)
{
    if (!nn)
        return;
    while (!nn->scopes.empty())
        free_scope(nn);
    at::GradMode::set_enabled(nn->grad_before);
    delete nn;
}

enum nn_device nn_device(const struct nn *nn)
{
    return nn->kind;
}

enum nn_precision nn_precision(const struct nn *nn)
{
    return nn->precision;
}

enum nn_layout nn_layout(const struct nn *nn)
{
    return nn->layout;
}

void nn_enter(const struct nn *nn)
{
    at::set_num_threads(nn->threads);
    at::GradMode::set_enabled(true);
}

int nn_threads(const struct nn *nn)
{
    return nn->threads;
}

static std::string version_text(void)
{
    std::string text = "libtorch " TORCH_VERSION;
    try {
        long cuda = at::hasCUDA() ? at::detail::getCUDAHooks().versionCUDART() : 0;
        if (cuda > 0)
            return text + ", CUDA " + std::to_string(cuda / 1000) + "." + std::to_string(cuda % 1000 / 10);
    } catch (...) {
        /* No driver: fine, then it is the CPU. */
    }
    return text + ", CPU";
}

const char *nn_version(void)
{
    static const std::string text = version_text();
    return text.c_str();
}

size_t nn_memory_used(const struct nn *nn)
{
#if WS2_TORCH >= 209
    if (nn->kind == NN_DEVICE_CUDA) {
        try {
            auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(nn->device.index());
            return (size_t)stats.allocated_bytes[0].current;
        } catch (...) {
            return 0;
        }
    }
#else
    if (nn->kind == NN_DEVICE_CUDA)
        return 0;
#endif
    try {
        std::ifstream statm("/proc/self/statm");
        size_t pages = 0, resident = 0;
        statm >> pages >> resident;
        return resident * (size_t)sysconf(_SC_PAGESIZE);
    } catch (...) {
        return 0;
    }
}

int64_t nn_tensors_alive(const struct nn *nn)
{
    return nn->alive;
}

enum nn_dtype nn_working_dtype(const struct nn *nn)
{
    return nn->working == at::kDouble ? NN_F64 : NN_F32;
}

/* ---- errors and scopes ---------------------------------------------------------------------------------- */

const char *nn_error(const struct nn *nn)
{
    return nn->error.status < 0 ? nn->error.text : nullptr;
}

int nn_check(const struct nn *nn, struct ws2_error *error)
{
    return nn->error.status < 0 ? ws2_fail(error, nn->error.status, "%s", nn->error.text) : 0;
}

void nn_error_clear(struct nn *nn)
{
    nn->error = {};
}

struct nn_tensor *nn_fail(struct nn *nn, int status, const char *format, ...)
{
    char text[sizeof(nn->error.text)];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    ws2_fail(&nn->error, status, "%s", text);
    return nullptr;
}

void nn_scope_begin(struct nn *nn)
{
    try {
        nn->scopes.emplace_back();
    } catch (...) {
        nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    }
}

void nn_scope_end(struct nn *nn)
{
    if (nn->scopes.size() > 1)
        free_scope(nn);
}

/* Takes the handle out of its scope's list; the last one fills the gap. */
static void unlink_handle(struct nn *nn, struct nn_tensor *x)
{
    std::vector<struct nn_tensor *> &scope = nn->scopes[(size_t)x->scope];
    scope.back()->position = x->position;
    scope[x->position] = scope.back();
    scope.pop_back();
}

static struct nn_tensor *move_handle(struct nn *nn, struct nn_tensor *x, size_t scope)
{
    if (!x || (size_t)x->scope <= scope)
        return x;
    try {
        nn->scopes[scope].reserve(nn->scopes[scope].size() + 1);
    } catch (...) {
        return nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    }
    unlink_handle(nn, x);
    x->scope = (int)scope;
    x->position = nn->scopes[scope].size();
    nn->scopes[scope].push_back(x);
    return x;
}

struct nn_tensor *nn_keep(struct nn *nn, struct nn_tensor *x)
{
    size_t depth = nn->scopes.size();
    return move_handle(nn, x, depth >= 2 ? depth - 2 : 0);
}

struct nn_tensor *nn_keep_always(struct nn *nn, struct nn_tensor *x)
{
    return move_handle(nn, x, 0);
}

void nn_drop(struct nn *nn, struct nn_tensor *x)
{
    if (!x)
        return;
    unlink_handle(nn, x);
    nn->alive--;
    delete x;
}

/* ---- questions -------------------------------------------------------------------------------------------- */

struct ws2_shape nn_shape(const struct nn_tensor *x)
{
    struct ws2_shape shape = {};
    shape.rank = x ? (int)x->value.dim() : -1;
    for (int i = 0; i < shape.rank; i++)
        shape.dim[i] = x->value.size(i);
    return shape;
}

int64_t nn_dim(const struct nn_tensor *x, int axis)
{
    int rank = nn_rank(x);
    if (axis < 0)
        axis += rank;
    return axis < 0 || axis >= rank ? -1 : x->value.size(axis);
}

int nn_rank(const struct nn_tensor *x)
{
    return x ? (int)x->value.dim() : -1;
}

int64_t nn_count(const struct nn_tensor *x)
{
    return x ? x->value.numel() : -1;
}

enum nn_dtype nn_dtype(const struct nn_tensor *x)
{
    if (!x)
        return NN_DTYPES;
    for (int i = 0; i < NN_DTYPES; i++)
        if (scalar_type((enum nn_dtype)i) == x->value.scalar_type())
            return (enum nn_dtype)i;
    return NN_DTYPES;
}

/* ---- data in and out --------------------------------------------------------------------------------------- */

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

static Tensor in_layout(const struct nn *nn, const Tensor &x)
{
    return x.contiguous(nn->layout == NN_LAYOUT_CHANNELS_LAST ? at::MemoryFormat::ChannelsLast
                                                              : at::MemoryFormat::Contiguous);
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

/* ---- creation ------------------------------------------------------------------------------------------------ */

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

/* ---- form ------------------------------------------------------------------------------------------------------ */

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

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

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

/* ---- arithmetic ---------------------------------------------------------------------------------------------------- */

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

/* ---- reductions -------------------------------------------------------------------------------------------------------- */

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

/* ---- layers -------------------------------------------------------------------------------------------------------------- */

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

/* ---- losses -------------------------------------------------------------------------------------------------------------- */

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

/* ---- autograd ------------------------------------------------------------------------------------------------------------- */

void nn_no_grad_begin(struct nn *nn)
{
    if (nn->no_grad++ == 0)
        at::GradMode::set_enabled(false);
}

void nn_no_grad_end(struct nn *nn)
{
    if (nn->no_grad > 0 && --nn->no_grad == 0)
        at::GradMode::set_enabled(true);
}

bool nn_grad_enabled(const struct nn *nn)
{
    return nn->no_grad == 0;
}

struct nn_tensor *nn_detach(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_detach", x, [](const Tensor &a) { return a.detach(); });
}

struct nn_tensor *nn_requires_grad(struct nn *nn, struct nn_tensor *x, bool on)
{
    return in_place(nn, "nn_requires_grad", x, [&](const Tensor &a) { a.requires_grad_(on); });
}

bool nn_has_grad_path(const struct nn_tensor *x)
{
    return x && x->value.requires_grad();
}

int nn_backward(struct nn *nn, struct nn_tensor *loss)
{
    return guard(nn, "nn_backward", [&] {
        if (get(loss).numel() != 1)
            throw bad_argument{"the loss is not one element"};
        loss->value.backward();
    });
}

bool nn_has_leaf_grad(const struct nn_tensor *x)
{
    return x && x->value.is_leaf() && x->value.grad().defined();
}

struct nn_tensor *nn_leaf_grad(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_leaf_grad", x, [](const Tensor &a) {
        if (!a.is_leaf())
            throw bad_argument{"not a leaf"};
        return a.grad().defined() ? a.grad() : at::zeros_like(a);
    });
}

void nn_clear_grad(struct nn *nn, struct nn_tensor *x)
{
    guard(nn, "nn_clear_grad", [&] {
        get(x);
        x->value.mutable_grad().reset();
    });
}

int nn_grad(struct nn *nn, struct nn_tensor *y, struct nn_tensor *const *x, int count, bool keep_graph,
            bool higher, struct nn_tensor **out)
{
    for (int i = 0; i < count; i++)
        out[i] = nullptr;
    return guard(nn, "nn_grad", [&] {
        std::vector<Tensor> inputs = list(x, count);
        std::vector<Tensor> result = torch::autograd::grad({get(y)}, inputs, {at::ones_like(y->value)},
                                                           keep_graph || higher, higher, true);
        for (int i = 0; i < count; i++) {
            size_t k = (size_t)i;
            out[i] = wrap(nn, result[k].defined() ? result[k] : at::zeros_like(inputs[k]));
        }
    });
}

/* ---- parameters and optimisers ----------------------------------------------------------------------------------------------- */

struct nn_tensor *nn_new_parameter(struct nn *nn, struct ws2_shape shape, enum nn_dtype dtype, bool grad)
{
    struct nn_tensor *result = nullptr;
    guard(nn, "nn_declare", [&] {
        Tensor x = at::zeros(dims(shape), options(nn, scalar_type(dtype)));
        if (shape.rank == 4)
            x = in_layout(nn, x);
        x.requires_grad_(grad);
        result = wrap(nn, x, 0);
    });
    return result;
}

int nn_assign(struct nn *nn, struct nn_tensor *to, struct nn_tensor *from)
{
    return guard(nn, "nn_assign", [&] {
        at::NoGradGuard off;
        get(to).copy_(get(from));
    });
}

int nn_share(struct nn *nn, struct nn_tensor *to, const struct nn_tensor *from)
{
    return guard(nn, "nn_params_share", [&] {
        to->value = from->value;
        to->lowered = Tensor();
    });
}

static std::vector<Tensor> gradients(const std::vector<Tensor> &params)
{
    std::vector<Tensor> grads;
    grads.reserve(params.size());
    for (const Tensor &p : params)
        grads.push_back(p.grad());
    return grads;
}

int nn_update_sgd(struct nn *nn, const struct nn_update *u)
{
    return guard(nn, "nn_optim_step", [&] {
        if (u->count == 0)
            return;
        at::NoGradGuard off;
        std::vector<Tensor> params = list(u->param, u->count), step = gradients(params);
        if (u->weight_decay != 0)
            step = at::_foreach_add(step, params, u->weight_decay);
        if (u->first) {
            std::vector<Tensor> buffers = list(u->first, u->count);
            if (!u->fresh)
                at::_foreach_mul_(buffers, u->momentum);
            at::_foreach_add_(buffers, step, 1);
            step = u->nesterov ? at::_foreach_add(step, buffers, u->momentum) : buffers;
        }
        at::_foreach_add_(params, step, -u->lr);
    });
}

/* Kingma & Ba 2015, algorithm 1, with the bias corrections taken into the step size as PyTorch does:
 * p -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps). */
int nn_update_adam(struct nn *nn, const struct nn_update *u)
{
    return guard(nn, "nn_optim_step", [&] {
        if (u->count == 0)
            return;
        at::NoGradGuard off;
        std::vector<Tensor> params = list(u->param, u->count), grads = gradients(params);
        std::vector<Tensor> first = list(u->first, u->count), second = list(u->second, u->count);
        if (u->weight_decay != 0 && u->decoupled)
            at::_foreach_mul_(params, 1 - u->lr * u->weight_decay);
        else if (u->weight_decay != 0)
            grads = at::_foreach_add(grads, params, u->weight_decay);
        at::_foreach_mul_(first, u->beta1);
        at::_foreach_add_(first, grads, 1 - u->beta1);
        at::_foreach_mul_(second, u->beta2);
        at::_foreach_addcmul_(second, grads, grads, 1 - u->beta2);
        double correct1 = 1 - std::pow(u->beta1, (double)u->step);
        double correct2 = 1 - std::pow(u->beta2, (double)u->step);
        std::vector<Tensor> width = at::_foreach_sqrt(second);
        at::_foreach_div_(width, std::sqrt(correct2));
        at::_foreach_add_(width, u->eps);
        at::_foreach_addcdiv_(params, first, width, -u->lr / correct1);
    });
}

double nn_clip_grads(struct nn *nn, struct nn_tensor *const *param, int count, double max)
{
    double norm = NAN;
    guard(nn, "nn_params_clip_grad", [&] {
        at::NoGradGuard off;
        std::vector<Tensor> grads = gradients(list(param, count));
        if (grads.empty()) {
            norm = 0;
            return;
        }
        std::vector<Tensor> norms = at::_foreach_norm(grads, 2);
        norm = at::linalg_vector_norm(at::stack(norms)).to(at::kDouble).item().toDouble();
        if (norm > max)
            at::_foreach_mul_(grads, max / (norm + 1e-6));
    });
    return norm;
}
