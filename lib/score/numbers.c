/* Statistics and differences of typed arrays: see score.h. */
#include <math.h>
#include <string.h>
#include "score/score.h"

enum { BLOCK = 2048 };

/* value[i] = data[begin + i] as double; count <= BLOCK. */
static void load_block(enum ws2_dtype dtype, const void *data, size_t begin, size_t count, double *value)
{
    float real[BLOCK];
    switch (dtype) {
    case WS2_U8:
        for (size_t i = 0; i < count; i++)
            value[i] = ((const uint8_t *)data)[begin + i];
        break;
    case WS2_I8:
        for (size_t i = 0; i < count; i++)
            value[i] = ((const int8_t *)data)[begin + i];
        break;
    case WS2_U16:
        for (size_t i = 0; i < count; i++)
            value[i] = ((const uint16_t *)data)[begin + i];
        break;
    case WS2_I16:
        for (size_t i = 0; i < count; i++)
            value[i] = ((const int16_t *)data)[begin + i];
        break;
    case WS2_I32:
        for (size_t i = 0; i < count; i++)
            value[i] = ((const int32_t *)data)[begin + i];
        break;
    case WS2_I64:
        for (size_t i = 0; i < count; i++)
            value[i] = (double)((const int64_t *)data)[begin + i];
        break;
    case WS2_F16:
        ws2_half_to_floats(real, (const uint16_t *)data + begin, count);
        for (size_t i = 0; i < count; i++)
            value[i] = real[i];
        break;
    case WS2_F32:
        for (size_t i = 0; i < count; i++)
            value[i] = ((const float *)data)[begin + i];
        break;
    case WS2_F64:
        memcpy(value, (const double *)data + begin, count * sizeof *value);
        break;
    default:
        memset(value, 0, count * sizeof *value);
    }
}

/* Moves the finite values to the front and returns their number. */
static size_t keep_finite(double *value, size_t count)
{
    double probe = 0;
    for (size_t i = 0; i < count; i++)
        probe += value[i] * 0; /* NaN as soon as one value is not finite */
    if (probe == 0)
        return count;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (isfinite(value[i]))
            value[kept++] = value[i];
    return kept;
}

/* Sums run in columns so that they vectorise; the order of additions is fixed all the same. */
enum { COLUMNS = 16 };

struct column {
    double sum[COLUMNS], low[COLUMNS], high[COLUMNS];
    int64_t nonzero[COLUMNS];
};

static inline void column_add(struct column *column, const double *value, int width)
{
    for (int k = 0; k < width; k++) {
        column->sum[k] += value[k];
        column->low[k] = value[k] < column->low[k] ? value[k] : column->low[k];
        column->high[k] = value[k] > column->high[k] ? value[k] : column->high[k];
        column->nonzero[k] += value[k] != 0;
    }
}

static inline double square_sum(const double *value, size_t count, double mean)
{
    double square[COLUMNS] = {0}, sum = 0;
    size_t i = 0;
    for (; i + COLUMNS <= count; i += COLUMNS)
        for (int k = 0; k < COLUMNS; k++)
            square[k] += (value[i + k] - mean) * (value[i + k] - mean);
    for (; i < count; i++)
        sum += (value[i] - mean) * (value[i] - mean);
    for (int k = 0; k < COLUMNS; k++)
        sum += square[k];
    return sum;
}

/* Two passes over a block that sits in cache: sum, extremes, nonzero; then deviations from its mean. */
WS2_CLONES
static struct ws2_stats block_stats(const double *value, size_t count)
{
    struct column column;
    for (int k = 0; k < COLUMNS; k++) {
        column.sum[k] = 0;
        column.low[k] = column.high[k] = value[0];
        column.nonzero[k] = 0;
    }
    size_t i = 0;
    for (; i + COLUMNS <= count; i += COLUMNS)
        column_add(&column, value + i, COLUMNS);
    column_add(&column, value + i, (int)(count - i));

    struct ws2_stats stats = {.count = (int64_t)count, .min = value[0], .max = value[0]};
    double sum = 0;
    for (int k = 0; k < COLUMNS; k++) {
        sum += column.sum[k];
        stats.min = column.low[k] < stats.min ? column.low[k] : stats.min;
        stats.max = column.high[k] > stats.max ? column.high[k] : stats.max;
        stats.nonzero += column.nonzero[k];
    }
    stats.mean = sum / (double)count;
    stats.square = square_sum(value, count, stats.mean);
    return stats;
}

/* The pairwise update of mean and squared deviations (Chan, Golub and LeVeque 1979), which does not cancel as
 * a running sum of squares does. */
static void stats_join(struct ws2_stats *stats, const struct ws2_stats *more)
{
    int64_t total = stats->count + more->count;
    double delta = more->mean - stats->mean, share = (double)more->count / (double)total;
    stats->square += more->square + delta * delta * (double)stats->count * share;
    stats->mean += delta * share;
    stats->min = stats->count == 0 || more->min < stats->min ? more->min : stats->min;
    stats->max = stats->count == 0 || more->max > stats->max ? more->max : stats->max;
    stats->nonzero += more->nonzero;
    stats->count = total;
}

void ws2_stats_add(struct ws2_stats *stats, enum ws2_dtype dtype, const void *data, size_t count)
{
    bool real = dtype == WS2_F16 || dtype == WS2_F32 || dtype == WS2_F64;
    double value[BLOCK];
    for (size_t begin = 0; begin < count; begin += BLOCK) {
        size_t n = count - begin < BLOCK ? count - begin : BLOCK;
        load_block(dtype, data, begin, n, value);
        size_t kept = real ? keep_finite(value, n) : n;
        stats->strange += (int64_t)(n - kept);
        if (kept > 0) {
            struct ws2_stats block = block_stats(value, kept);
            stats_join(stats, &block);
        }
    }
}

double ws2_stats_deviation(const struct ws2_stats *stats)
{
    return stats->count > 0 ? sqrt(stats->square / (double)stats->count) : 0;
}

static double distance(double a, double b)
{
    if (a == b)
        return 0; /* also equal infinities */
    double d = fabs(a - b);
    return isnan(d) ? INFINITY : d;
}

/* 64-bit integers beyond 2^53 that differ may be equal as doubles: subtract before converting. */
static double distance_i64(int64_t a, int64_t b)
{
    return a > b ? (double)((uint64_t)a - (uint64_t)b) : (double)((uint64_t)b - (uint64_t)a);
}

struct ws2_difference ws2_difference_find(enum ws2_dtype dtype, const void *a, const void *b, size_t count)
{
    struct ws2_difference found = {0};
    double va[BLOCK], vb[BLOCK];
    size_t size = ws2_dtype_size(dtype);
    const uint8_t *pa = a, *pb = b;
    for (size_t begin = 0; begin < count; begin += BLOCK) {
        size_t n = count - begin < BLOCK ? count - begin : BLOCK;
        if (memcmp(pa + begin * size, pb + begin * size, n * size) == 0)
            continue;
        load_block(dtype, a, begin, n, va);
        load_block(dtype, b, begin, n, vb);
        for (size_t i = 0; i < n; i++) {
            size_t at = begin + i;
            if (memcmp(pa + at * size, pb + at * size, size) == 0)
                continue;
            double d = dtype == WS2_I64 ? distance_i64(((const int64_t *)a)[at], ((const int64_t *)b)[at])
                                        : distance(va[i], vb[i]);
            found.differing += d > 0;
            if (d > found.max) {
                found.max = d;
                found.at = at;
            }
        }
    }
    return found;
}
