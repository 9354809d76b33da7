/*
 * Contexts: the device, precision and threads that libtorch is told to use, and what a context can be asked.
 */
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <string>
#include <unistd.h>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/util/Exception.h>

#include "nn/torch.h"
#if WS2_TORCH >= 209
#include <c10/core/CachingDeviceAllocator.h>
#endif

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
