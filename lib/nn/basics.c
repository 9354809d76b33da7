/*
 * Tables, names and questions that need no libtorch.
 */
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "nn/internal.h"

const float nn_imagenet_mean[3] = {0.485f, 0.456f, 0.406f};
const float nn_imagenet_std[3] = {0.229f, 0.224f, 0.225f};

static const struct {
    const char *name;
    size_t size;
} dtypes[NN_DTYPES] = {
    [NN_F32] = {"f32", 4}, [NN_F64] = {"f64", 8},   [NN_F16] = {"f16", 2}, [NN_BF16] = {"bf16", 2},
    [NN_U8] = {"u8", 1},   [NN_I8] = {"i8", 1},     [NN_I16] = {"i16", 2}, [NN_I32] = {"i32", 4},
    [NN_I64] = {"i64", 8}, [NN_BOOL] = {"bool", 1},
};

size_t nn_dtype_size(enum nn_dtype dtype)
{
    return (unsigned)dtype < NN_DTYPES ? dtypes[dtype].size : 0;
}

const char *nn_dtype_name(enum nn_dtype dtype)
{
    return (unsigned)dtype < NN_DTYPES ? dtypes[dtype].name : "?";
}

int nn_device_parse(const char *text, enum nn_device *device, int *index)
{
    *index = 0;
    if (strcmp(text, "auto") == 0) {
        *device = NN_DEVICE_AUTO;
    } else if (strcmp(text, "cpu") == 0) {
        *device = NN_DEVICE_CPU;
    } else if (strcmp(text, "cuda") == 0) {
        *device = NN_DEVICE_CUDA;
    } else if (strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9') {
        char *end;
        long value = strtol(text + 5, &end, 10);
        if (*end || value > 127)
            return WS2_ERR_USAGE;
        *device = NN_DEVICE_CUDA;
        *index = (int)value;
    } else {
        return WS2_ERR_USAGE;
    }
    return 0;
}

const char *nn_precision_name(enum nn_precision precision)
{
    static const char *const names[] = {
        [NN_AUTO_MODE] = "auto", [NN_F32_MODE] = "f32", [NN_BF16_MODE] = "bf16", [NN_F64_MODE] = "f64"};
    return precision <= NN_F64_MODE ? names[precision] : "";
}

int nn_precision_parse(const char *text, enum nn_precision *precision)
{
    for (int i = 0; i <= NN_F64_MODE; i++) {
        if (strcmp(text, nn_precision_name((enum nn_precision)i)) == 0) {
            *precision = (enum nn_precision)i;
            return 0;
        }
    }
    return WS2_ERR_USAGE;
}

struct nn_axes nn_axes_1(int a)
{
    return (struct nn_axes){1, {a}};
}

struct nn_axes nn_axes_2(int a, int b)
{
    return (struct nn_axes){2, {a, b}};
}

struct nn_axes nn_axes_3(int a, int b, int c)
{
    return (struct nn_axes){3, {a, b, c}};
}

struct nn_axes nn_axes_4(int a, int b, int c, int d)
{
    return (struct nn_axes){4, {a, b, c, d}};
}

struct nn_conv nn_conv_square(int stride, int pad, int dilation)
{
    return (struct nn_conv){{stride, stride}, {pad, pad}, {dilation, dilation}, 1};
}

struct nn_init nn_init_make(enum nn_init_rule rule, double value)
{
    return (struct nn_init){rule, value};
}

#if defined(__x86_64__)
/* The register state that the operating system saves on a context switch (XCR0). */
static uint64_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}
#endif

bool nn_cpu_has_bf16(void)
{
#if defined(__x86_64__)
    const uint32_t osxsave = 1u << 27;     /* leaf 1 ecx */
    const uint32_t amx_bf16 = 1u << 22;    /* leaf 7.0 edx */
    const uint32_t avx512_bf16 = 1u << 5;  /* leaf 7.1 eax */
    const uint64_t zmm = 0xe6;             /* SSE, AVX, opmask and both halves of ZMM */
    const uint64_t tiles = zmm | 3u << 17; /* and AMX's tile configuration and data */
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave))
        return false;
    uint64_t state = saved_state();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return false;
    if ((d & amx_bf16) && (state & tiles) == tiles)
        return true;
    uint32_t subleaves = a;
    if (subleaves < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d))
        return false;
    return (a & avx512_bf16) && (state & zmm) == zmm;
#else
    return false;
#endif
}
