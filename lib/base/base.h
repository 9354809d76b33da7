/*
 * base: what every other room may use. Status codes and error texts, checked sizes, element types and
 * shapes, half floats, and counter-based random numbers.
 *
 * Knows nobody. Nothing here prints, exits or reads the environment. All functions are safe to call from
 * several threads as long as they work on different objects.
 */
#ifndef WS2_BASE_H
#define WS2_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WS2_VERSION "0.1.0"

#if defined(__GNUC__)
#define WS2_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define WS2_PRINTF(fmt, first)
#endif

/* Hot loops are compiled for several x86-64 levels and picked at load time. The sanitizers start after the
 * resolvers run, so they get the portable version only. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) &&     \
    !defined(__SANITIZE_THREAD__)
#define WS2_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define WS2_CLONES
#endif

/* ---- status and errors ---------------------------------------------------------------------------- */

/* Every fallible function returns 0 (or a count >= 0) on success and one of these on failure. The negated
 * value is the exit code of a program that gives up for this reason. */
enum ws2_status {
    WS2_OK = 0,
    WS2_ERR_USAGE = -2,     /* an argument makes no sense */
    WS2_ERR_INPUT = -3,     /* not ws2, corrupt, wrong schema, unreadable picture */
    WS2_ERR_TRUNCATED = -4, /* the input ends too early */
    WS2_ERR_SYSTEM = -5,    /* cannot write, disk full, out of memory */
    WS2_ERR_MODEL = -6      /* weights or device not available or not fitting */
};

/* The message of the first thing that went wrong. Zero-initialise it; it needs no release. */
struct ws2_error {
    int status;
    char text[480];
};

/* Keeps the first message and returns the first status, so `return ws2_fail(err, ...)` is the usual form.
 * err may be NULL. */
int ws2_fail(struct ws2_error *err, int status, const char *format, ...) WS2_PRINTF(3, 4);
/* Like ws2_fail with WS2_ERR_SYSTEM and ": " plus the text of errno appended. */
int ws2_fail_errno(struct ws2_error *err, const char *format, ...) WS2_PRINTF(2, 3);
/* Puts "context: " before the message kept in err; no-op when err holds none. */
void ws2_error_prefix(struct ws2_error *err, const char *format, ...) WS2_PRINTF(2, 3);

/* ---- element types and shapes ----------------------------------------------------------------------- */

enum ws2_dtype { WS2_U8, WS2_I8, WS2_U16, WS2_I16, WS2_I32, WS2_I64, WS2_F16, WS2_F32, WS2_F64, WS2_DTYPES };

size_t ws2_dtype_size(enum ws2_dtype dtype);      /* bytes of one element, 0 for an invalid value */
const char *ws2_dtype_name(enum ws2_dtype dtype); /* "u8", "f16", ... */
int ws2_dtype_parse(const char *name, enum ws2_dtype *dtype); /* 0, or WS2_ERR_INPUT for an unknown name */

#define WS2_AXES_MAX 8

/* Row-major extents; rank 0 is a scalar of one element; an extent may be 0. */
struct ws2_shape {
    int rank;
    int64_t dim[WS2_AXES_MAX];
};

struct ws2_shape ws2_shape_1(int64_t a);
struct ws2_shape ws2_shape_2(int64_t a, int64_t b);
struct ws2_shape ws2_shape_3(int64_t a, int64_t b, int64_t c);
struct ws2_shape ws2_shape_4(int64_t a, int64_t b, int64_t c, int64_t d);
bool ws2_shape_equal(const struct ws2_shape *a, const struct ws2_shape *b);
/* Writes "[480,640,3]" and returns text. */
const char *ws2_shape_text(const struct ws2_shape *shape, char *text, size_t size);

/* False on overflow; *out is then unspecified. */
bool ws2_mul_size(size_t a, size_t b, size_t *out);
bool ws2_add_size(size_t a, size_t b, size_t *out);
/* Number of elements / bytes; false for a bad rank, a negative extent or an overflow. */
bool ws2_shape_count(const struct ws2_shape *shape, size_t *count);
bool ws2_shape_bytes(const struct ws2_shape *shape, enum ws2_dtype dtype, size_t *bytes);

/* count * size bytes, zeroed, NULL on overflow or lack of memory; release with free(). A request for zero
 * bytes gives a valid pointer. */
void *ws2_calloc(size_t count, size_t size);
/* Grows (or keeps) a buffer so that it holds at least `bytes`; contents are kept. Returns 0 or
 * WS2_ERR_SYSTEM, leaving the old buffer valid. */
int ws2_reserve(void **buffer, size_t *capacity, size_t bytes);

/* ---- half floats (IEEE binary16, round to nearest even) ---------------------------------------------- */

uint16_t ws2_half_from_float(float value);
float ws2_half_to_float(uint16_t half);
void ws2_half_from_floats(uint16_t *half, const float *value, size_t count);
void ws2_half_to_floats(float *value, const uint16_t *half, size_t count);

/* ---- hashing and random numbers ------------------------------------------------------------------------ */

uint32_t ws2_fnv1a(const void *bytes, size_t count); /* 32-bit FNV-1a */

/* A counter-based generator: the n-th number of a stream depends only on (seed, stream, n), so the order of
 * work and the number of threads never change a result. */
struct ws2_random {
    uint64_t key;
    uint64_t counter;
};

struct ws2_random ws2_random_make(uint64_t seed, uint64_t stream);
uint64_t ws2_random_u64(struct ws2_random *random);
double ws2_random_uniform(struct ws2_random *random);                        /* [0, 1), 53 bits */
double ws2_random_range(struct ws2_random *random, double low, double high); /* [low, high) */
int64_t ws2_random_below(struct ws2_random *random, int64_t n);              /* 0 .. n-1, n >= 1 */
double ws2_random_normal(struct ws2_random *random);                         /* mean 0, deviation 1 */
/* Fisher-Yates shuffle of 0 .. n-1 into order. */
void ws2_random_permutation(struct ws2_random *random, int64_t *order, int64_t n);

#ifdef __cplusplus
}
#endif

#endif
