#include "base/base.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- status and errors ------------------------------------------------------------------------------ */

static int keep_first(struct ws2_error *err, int status, const char *format, va_list args)
{
    if (err == NULL)
        return status;
    if (err->status != 0)
        return err->status;
    err->status = status;
    vsnprintf(err->text, sizeof err->text, format, args);
    return status;
}

int ws2_fail(struct ws2_error *err, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    status = keep_first(err, status, format, args);
    va_end(args);
    return status;
}

int ws2_fail_errno(struct ws2_error *err, const char *format, ...)
{
    const int reason = errno;
    if (err == NULL)
        return WS2_ERR_SYSTEM;
    if (err->status != 0)
        return err->status;
    va_list args;
    va_start(args, format);
    keep_first(err, WS2_ERR_SYSTEM, format, args);
    va_end(args);
    const size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(reason));
    return WS2_ERR_SYSTEM;
}

void ws2_error_prefix(struct ws2_error *err, const char *format, ...)
{
    if (err == NULL || err->status == 0)
        return;
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, ": %.*s", (int)(sizeof text - used - 3), err->text);
    memcpy(err->text, text, sizeof text);
}

/* ---- element types and shapes ------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t size;
} dtypes[WS2_DTYPES] = {[WS2_U8] = {"u8", 1},   [WS2_I8] = {"i8", 1},   [WS2_U16] = {"u16", 2},
                        [WS2_I16] = {"i16", 2}, [WS2_I32] = {"i32", 4}, [WS2_I64] = {"i64", 8},
                        [WS2_F16] = {"f16", 2}, [WS2_F32] = {"f32", 4}, [WS2_F64] = {"f64", 8}};

size_t ws2_dtype_size(enum ws2_dtype dtype)
{
    return (unsigned)dtype < WS2_DTYPES ? dtypes[dtype].size : 0;
}

const char *ws2_dtype_name(enum ws2_dtype dtype)
{
    return (unsigned)dtype < WS2_DTYPES ? dtypes[dtype].name : "?";
}

int ws2_dtype_parse(const char *name, enum ws2_dtype *dtype)
{
    for (int i = 0; i < WS2_DTYPES; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            *dtype = (enum ws2_dtype)i;
            return WS2_OK;
        }
    }
    return WS2_ERR_INPUT;
}

struct ws2_shape ws2_shape_1(int64_t a)
{
    return (struct ws2_shape){1, {a}};
}

struct ws2_shape ws2_shape_2(int64_t a, int64_t b)
{
    return (struct ws2_shape){2, {a, b}};
}

struct ws2_shape ws2_shape_3(int64_t a, int64_t b, int64_t c)
{
    return (struct ws2_shape){3, {a, b, c}};
}

struct ws2_shape ws2_shape_4(int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (struct ws2_shape){4, {a, b, c, d}};
}

bool ws2_shape_equal(const struct ws2_shape *a, const struct ws2_shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i])
            return false;
    }
    return true;
}

const char *ws2_shape_text(const struct ws2_shape *shape, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < shape->rank && i < WS2_AXES_MAX && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? "," : "", (long long)shape->dim[i]);
    if (used < size)
        snprintf(text + used, size - used, "]");
    return text;
}

bool ws2_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool ws2_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

bool ws2_shape_count(const struct ws2_shape *shape, size_t *count)
{
    if (shape->rank < 0 || shape->rank > WS2_AXES_MAX)
        return false;
    *count = 1;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] < 0 || !ws2_mul_size(*count, (size_t)shape->dim[i], count))
            return false;
    }
    return true;
}

bool ws2_shape_bytes(const struct ws2_shape *shape, enum ws2_dtype dtype, size_t *bytes)
{
    const size_t size = ws2_dtype_size(dtype);
    return size != 0 && ws2_shape_count(shape, bytes) && ws2_mul_size(*bytes, size, bytes);
}

void *ws2_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!ws2_mul_size(count, size, &bytes))
        return NULL;
    return calloc(1, bytes ? bytes : 1);
}

int ws2_reserve(void **buffer, size_t *capacity, size_t bytes)
{
    if (bytes <= *capacity && *buffer != NULL)
        return WS2_OK;
    void *grown = realloc(*buffer, bytes ? bytes : 1);
    if (grown == NULL)
        return WS2_ERR_SYSTEM;
    *buffer = grown;
    *capacity = bytes;
    return WS2_OK;
}

/* ---- half floats ----------------------------------------------------------------------------------------
 */

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Without branches on the value, so that the array forms vectorise. Subnormal halves are rounded by the
 * float adder: adding 0.5 puts the last kept bit at the float's last bit. */
static inline uint16_t half_from(float value)
{
    const uint32_t bits = bits_of(value);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t mag = bits & 0x7fffffffu;
    const uint32_t normal = (mag + 0xfffu + (mag >> 13 & 1u) - (112u << 23)) >> 13;
    const uint32_t tiny = bits_of(float_of(mag) + 0.5f) - (126u << 23);
    const uint32_t special = mag > 0x7f800000u ? 0x7e00u : 0x7c00u;
    uint32_t half = mag < (113u << 23) ? tiny : normal;
    half = mag >= 0x477ff000u ? special : half;
    return (uint16_t)(sign | half);
}

static inline float half_to(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t mag = half & 0x7fffu;
    const uint32_t normal = (mag << 13) + (112u << 23);
    const uint32_t special = (mag << 13) + (224u << 23);
    const uint32_t tiny = bits_of(float_of((mag << 13) + (113u << 23)) - float_of(113u << 23));
    uint32_t bits = mag < 0x400u ? tiny : normal;
    bits = mag >= 0x7c00u ? special : bits;
    return float_of(sign | bits);
}

uint16_t ws2_half_from_float(float value)
{
    return half_from(value);
}

float ws2_half_to_float(uint16_t half)
{
    return half_to(half);
}

WS2_CLONES void ws2_half_from_floats(uint16_t *half, const float *value, size_t count)
{
    for (size_t i = 0; i < count; i++)
        half[i] = half_from(value[i]);
}

WS2_CLONES void ws2_half_to_floats(float *value, const uint16_t *half, size_t count)
{
    for (size_t i = 0; i < count; i++)
        value[i] = half_to(half[i]);
}

/* ---- hashing and random numbers ---------------------------------------------------------------------------
 */

uint32_t ws2_fnv1a(const void *bytes, size_t count)
{
    const unsigned char *byte = bytes;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ byte[i]) * 16777619u;
    return hash;
}

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that scatters a counter. */
static uint64_t scatter(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

struct ws2_random ws2_random_make(uint64_t seed, uint64_t stream)
{
    const uint64_t golden = 0x9e3779b97f4a7c15u;
    return (struct ws2_random){scatter(scatter(seed + golden) + scatter(stream * golden + 1)), 0};
}

uint64_t ws2_random_u64(struct ws2_random *random)
{
    random->counter++;
    return scatter(random->key + random->counter * 0x9e3779b97f4a7c15u);
}

double ws2_random_uniform(struct ws2_random *random)
{
    return (double)(ws2_random_u64(random) >> 11) * 0x1p-53;
}

double ws2_random_range(struct ws2_random *random, double low, double high)
{
    return low + (high - low) * ws2_random_uniform(random);
}

int64_t ws2_random_below(struct ws2_random *random, int64_t n)
{
    /* 128-bit product: the bias is below n / 2^64. */
    return (int64_t)(((unsigned __int128)ws2_random_u64(random) * (uint64_t)n) >> 64);
}

double ws2_random_normal(struct ws2_random *random)
{
    const double u = 1.0 - ws2_random_uniform(random);
    const double v = ws2_random_uniform(random);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}

void ws2_random_permutation(struct ws2_random *random, int64_t *order, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t j = ws2_random_below(random, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}
