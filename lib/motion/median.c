#include "motion/motion.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "pool/pool.h"

/* A column is all samples of 64 neighbouring pixels, [count][64], in one run of memory: for a hundred frames it
 * fits the first cache. The value of a given rank is found bit by bit from the top: with the bits found so far
 * and the next one set as `limit`, the bit belongs to the value when at most `rank` samples lie below limit.
 * Samples are stored with the top bit flipped, because every vector unit compares signed bytes.
 * Left-out samples become 255, after which a rank counted among the kept ones finds the right value. */

enum { LANES = 64, FLUSH = 255, COUNTER_BITS = 16, AHEAD = 4 };

/* Bytes of tile that a thread works on: several columns at a time, so that each frame is read in long runs. */
enum { TILE_BYTES = 384 * 1024, TILE_COLUMNS_MAX = 64 };

/* Sixteen lanes are right for every vector unit, 32 for AVX2, where they are half as fast again. 64 (AVX-512)
 * gain nothing: the compare goes to mask registers and back. */
typedef int8_t narrow __attribute__((vector_size(16)));
typedef uint8_t narrow_sum __attribute__((vector_size(16)));
typedef int8_t wide __attribute__((vector_size(32)));
typedef uint8_t wide_sum __attribute__((vector_size(32)));

#define INLINE static inline __attribute__((always_inline))

struct column {
    int8_t *sample; /* [count][64], aligned to 64 bytes */
    int count;
    bool whole;           /* nothing left out */
    uint16_t kept[LANES]; /* samples not left out */
    uint8_t low[LANES];   /* value of rank (kept-1)/2 */
    uint8_t high[LANES];  /* value of rank kept/2 */
};

/* part[i] = how many of rows [begin, end) have a lane i less than limit[i]; at most 255 rows. */
INLINE void count_narrow(const int8_t *sample, int begin, int end, const int8_t *limit, uint8_t *part)
{
    narrow bound[4];
    narrow_sum sum[4] = {{0}};
    memcpy(bound, limit, sizeof bound);
    for (const narrow *row = (const narrow *)sample + 4 * begin; begin < end; begin++, row += 4) {
        sum[0] -= (narrow_sum)(row[0] < bound[0]);
        sum[1] -= (narrow_sum)(row[1] < bound[1]);
        sum[2] -= (narrow_sum)(row[2] < bound[2]);
        sum[3] -= (narrow_sum)(row[3] < bound[3]);
    }
    memcpy(part, sum, sizeof sum);
}

INLINE void count_wide(const int8_t *sample, int begin, int end, const int8_t *limit, uint8_t *part)
{
    wide bound[2];
    wide_sum sum[2] = {{0}};
    memcpy(bound, limit, sizeof bound);
    const wide *row = (const wide *)sample + 2 * begin;
    for (; begin + 1 < end; begin += 2, row += 4) {
        sum[0] -= (wide_sum)(row[0] < bound[0]);
        sum[1] -= (wide_sum)(row[1] < bound[1]);
        sum[0] -= (wide_sum)(row[2] < bound[0]);
        sum[1] -= (wide_sum)(row[3] < bound[1]);
    }
    if (begin < end) {
        sum[0] -= (wide_sum)(row[0] < bound[0]);
        sum[1] -= (wide_sum)(row[1] < bound[1]);
    }
    memcpy(part, sum, sizeof sum);
}

/* below[i] = how many samples of lane i are less than limit[i]. Bytes count up to 255, then move on. */
INLINE void count_below(const struct column *column, const uint8_t *limit, uint16_t *below, bool avx2)
{
    int8_t bound[LANES];
    for (int i = 0; i < LANES; i++) {
        bound[i] = (int8_t)(limit[i] ^ 0x80);
        below[i] = 0;
    }
    for (int k = 0; k < column->count; k += FLUSH) {
        const int end = column->count - k > FLUSH ? k + FLUSH : column->count;
        uint8_t part[LANES];
        if (avx2)
            count_wide(column->sample, k, end, bound, part);
        else
            count_narrow(column->sample, k, end, bound, part);
        for (int i = 0; i < LANES; i++)
            below[i] = (uint16_t)(below[i] + part[i]);
    }
}

/* The least sample above `low` of each lane; 255 where there is none. */
INLINE void next_above(const struct column *column, const uint8_t *low, uint8_t *next)
{
    const narrow top = (narrow){0} + 127;
    for (int part = 0; part < 4; part++) {
        uint8_t flipped[16];
        for (int i = 0; i < 16; i++)
            flipped[i] = low[16 * part + i] ^ 0x80;
        narrow floor, least = top;
        memcpy(&floor, flipped, sizeof floor);
        const narrow *row = (const narrow *)column->sample + part;
        for (int k = 0; k < column->count; k++, row += 4) {
            const narrow above = *row > floor;
            const narrow value = (*row & above) | (top & ~above);
            const narrow less = value < least;
            least = (value & less) | (least & ~less);
        }
        memcpy(flipped, &least, sizeof flipped);
        for (int i = 0; i < 16; i++)
            next[16 * part + i] = flipped[i] ^ 0x80;
    }
}

/* Fills low and high. Lanes without samples get some value. */
INLINE void find_middle(struct column *column, bool avx2)
{
    uint16_t rank[LANES], below[LANES];
    unsigned even = 0;
    for (int i = 0; i < LANES; i++) {
        rank[i] = (uint16_t)((column->kept[i] - (column->kept[i] != 0)) / 2);
        even |= ~column->kept[i] & 1u;
    }
    uint8_t low[LANES] = {0}, limit[LANES], next[LANES];
    for (int bit = 0x80; bit; bit >>= 1) {
        for (int i = 0; i < LANES; i++)
            limit[i] = (uint8_t)(low[i] | bit);
        count_below(column, limit, below, avx2);
        for (int i = 0; i < LANES; i++)
            low[i] = below[i] <= rank[i] ? limit[i] : low[i];
    }
    memcpy(column->low, low, LANES);
    memcpy(column->high, low, LANES);
    if (!even)
        return;
    /* With an even number the upper middle is `low` again when enough samples equal it, that is, are below
     * low + 1; 255 has nothing above it. */
    for (int i = 0; i < LANES; i++)
        limit[i] = (uint8_t)(low[i] + (low[i] != 255));
    count_below(column, limit, below, avx2);
    next_above(column, low, next);
    for (int i = 0; i < LANES; i++)
        column->high[i] = low[i] == 255 || below[i] > column->kept[i] / 2 ? low[i] : next[i];
}

/* A build with the address sanitizer takes the portable way, so that the tests run over both. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__)
__attribute__((target("avx2"))) static void find_middle_avx2(struct column *column)
{
    find_middle(column, true);
}

static void column_middle(struct column *column)
{
    if (__builtin_cpu_supports("avx2"))
        find_middle_avx2(column);
    else
        find_middle(column, false);
}
#else
static void column_middle(struct column *column)
{
    find_middle(column, false);
}
#endif

/* Replaces samples by floor(|sample - centre|), centre = base + half/2. All distances of a lane have the same
 * fraction, so that the order is that of the distances and the fraction is added at the end. */
WS2_CLONES
static void column_distance(struct column *column, const uint8_t base[LANES], const uint8_t half[LANES])
{
    for (int k = 0; k < column->count; k++) {
        int8_t *row = column->sample + (int64_t)k * LANES;
        for (int i = 0; i < LANES; i++) {
            const uint8_t x = (uint8_t)row[i] ^ 0x80;
            const uint8_t distance = (uint8_t)(x > base[i] ? x - base[i] - half[i] : base[i] - x);
            row[i] = (int8_t)(distance ^ 0x80);
        }
    }
}

enum task { TASK_MEDIAN, TASK_MAD, TASK_MODE, TASK_SKIPPED };

struct job {
    const struct ws2_stack *stack;
    enum task task;
    int least;
    const float *centre;
    float *out, *mad;
    uint64_t bytes[256]; /* a bit of a skip plane as a byte, see spread_bits */
    atomic_bool failed;
};

/* bytes[b] has 0xff in the bytes whose bit of b is set. */
static void spread_bits(uint64_t bytes[256])
{
    for (int b = 0; b < 256; b++) {
        bytes[b] = 0;
        for (int i = 0; i < 8; i++)
            bytes[b] |= b >> i & 1 ? (uint64_t)0xff << (8 * i) : 0;
    }
}

/* Left-out samples become 255, which is stored as 127. */
static void column_leave_out(struct column *column, const struct job *job, int64_t index)
{
    for (int k = 0; k < column->count; k++) {
        const uint64_t bits = job->stack->skip[k][index];
        if (bits == 0)
            continue;
        int8_t *row = column->sample + (int64_t)k * LANES;
        for (int i = 0; i < LANES / 8; i++) {
            const uint64_t mask = job->bytes[bits >> (8 * i) & 0xff];
            uint64_t eight;
            memcpy(&eight, row + 8 * i, 8);
            eight = (eight & ~mask) | (mask & 0x7f7f7f7f7f7f7f7fu);
            memcpy(row + 8 * i, &eight, 8);
        }
    }
}

/* kept[i] for `words` columns from `word` on: the set bits are counted by binary counters that hold one bit of
 * each pixel's count per plane. */
WS2_CLONES
static void count_kept(const struct ws2_stack *stack, int64_t word, int words, uint16_t *kept)
{
    uint64_t plane[COUNTER_BITS][TILE_COLUMNS_MAX] = {{0}};
    for (int k = 0; k < stack->count; k++) {
        uint64_t carry[TILE_COLUMNS_MAX];
        memcpy(carry, stack->skip[k] + word, (size_t)words * sizeof *carry);
        uint64_t left = 1;
        for (int j = 0; left != 0 && stack->count >> j != 0; j++) {
            left = 0;
            for (int i = 0; i < words; i++) {
                const uint64_t both = plane[j][i] & carry[i];
                plane[j][i] ^= carry[i];
                carry[i] = both;
                left |= both;
            }
        }
    }
    for (int i = 0; i < words * LANES; i++) {
        unsigned skipped = 0;
        for (int j = 0; stack->count >> j != 0; j++)
            skipped |= (unsigned)(plane[j][i / LANES] >> (i % LANES) & 1) << j;
        kept[i] = (uint16_t)(stack->count - (int)skipped);
    }
}

/* ---- going over the stack ------------------------------------------------------------------------------ */

/* Copies `columns` columns from column `first` on into tile, [columns][count][64], top bits flipped. Lanes
 * beyond the last pixel are 0. */
WS2_CLONES
static void gather(const struct ws2_stack *stack, int64_t first, int columns, int8_t *tile)
{
    for (int k = 0; k < stack->count; k++) {
        const uint8_t *from = stack->frame[k] + first * LANES;
        const uint8_t *ahead = stack->frame[k + AHEAD < stack->count ? k + AHEAD : k] + first * LANES;
        for (int c = 0; c < columns; c++, from += LANES, ahead += LANES) {
            __builtin_prefetch(ahead);
            const int64_t left = stack->pixels - (first + c) * LANES;
            int8_t *to = tile + ((int64_t)c * stack->count + k) * LANES;
            uint8_t value[LANES] = {0};
            if (left >= LANES)
                memcpy(value, from, LANES);
            else
                memcpy(value, from, (size_t)left);
            for (int i = 0; i < LANES; i++)
                to[i] = (int8_t)(value[i] ^ 0x80);
        }
    }
}

/* out[i] = the median of lane i, plus more[i] halves. */
static void column_store(const struct column *column, const struct job *job, const uint8_t *more, int lanes,
                         float *out)
{
    float value[LANES];
    for (int i = 0; i < LANES; i++)
        value[i] = 0.5f * (float)(column->low[i] + column->high[i] + more[i]);
    if (column->whole && column->count >= job->least) {
        memcpy(out, value, (size_t)lanes * sizeof *out);
        return;
    }
    for (int i = 0; i < lanes; i++) {
        if (column->kept[i] >= job->least)
            out[i] = value[i];
    }
}

static void column_mad(struct column *column, const struct job *job, int64_t index, const float *centre,
                       float *mad, int lanes)
{
    uint8_t base[LANES] = {0}, half[LANES] = {0};
    for (int i = 0; i < lanes; i++) {
        /* Written so that a NaN ends as 0. */
        const float inside = centre[i] > 0.0f ? centre[i] : 0.0f;
        const int twice = (int)((inside < 255.0f ? inside : 255.0f) * 2.0f + 0.5f);
        base[i] = (uint8_t)(twice / 2);
        half[i] = (uint8_t)(twice % 2);
    }
    column_distance(column, base, half);
    if (!column->whole)
        column_leave_out(column, job, index);
    column_middle(column);
    column_store(column, job, half, lanes, mad);
}

static float mode_of(const uint16_t bin[64])
{
    int peak = 0;
    for (int i = 1; i < 64; i++) {
        if (bin[i] > bin[peak])
            peak = i;
    }
    const float left = peak > 0 ? (float)bin[peak - 1] : 0.0f,
                right = peak < 63 ? (float)bin[peak + 1] : 0.0f;
    const float bend = left - 2.0f * (float)bin[peak] + right;
    const float shift = bend < 0.0f ? 0.5f * (left - right) / bend : 0.0f;
    const float value = 4.0f * ((float)peak + shift) + 1.5f; /* a bin's centre: the mean of its four values */
    return floorf(2.0f * fminf(fmaxf(value, 0.0f), 255.0f) + 0.5f) * 0.5f;
}

static void column_mode(const struct column *column, const struct job *job, int64_t index, float *mode,
                        int lanes)
{
    uint16_t bin[LANES][64];
    memset(bin, 0, sizeof bin);
    for (int k = 0; k < column->count; k++) {
        const uint64_t skip = column->whole ? 0 : job->stack->skip[k][index];
        for (int i = 0; i < lanes; i++)
            bin[i][((uint8_t)column->sample[(int64_t)k * LANES + i] ^ 0x80) >> 2] += !(skip >> i & 1);
    }
    for (int i = 0; i < lanes; i++) {
        if (column->kept[i] >= job->least)
            mode[i] = mode_of(bin[i]);
    }
}

static void column_work(struct column *column, const struct job *job, int64_t index)
{
    const int64_t p = index * LANES;
    const int lanes = job->stack->pixels - p < LANES ? (int)(job->stack->pixels - p) : LANES;
    if (!column->whole)
        column_leave_out(column, job, index);
    if (job->task == TASK_MODE) {
        column_mode(column, job, index, job->out + p, lanes);
        return;
    }
    if (job->task == TASK_MAD) {
        column_mad(column, job, index, job->centre + p, job->out + p, lanes);
        return;
    }
    column_middle(column);
    static const uint8_t none[LANES];
    column_store(column, job, none, lanes, job->out + p);
    if (job->mad != NULL)
        column_mad(column, job, index, job->out + p, job->mad + p, lanes);
}

static void write_share(const struct job *job, int64_t index, const uint16_t *kept)
{
    const int64_t p = index * LANES;
    const int count = job->stack->count;
    for (int i = 0; i < LANES && p + i < job->stack->pixels; i++)
        job->out[p + i] = (float)(count - kept[i]) / (float)count;
}

static int tile_columns(int count)
{
    const int columns = TILE_BYTES / (count * LANES);
    return columns < 1 ? 1 : columns > TILE_COLUMNS_MAX ? TILE_COLUMNS_MAX : columns;
}

static void tile_work(const struct job *job, int64_t first, int columns, int8_t *tile)
{
    const struct ws2_stack *stack = job->stack;
    uint16_t kept[TILE_COLUMNS_MAX * LANES];
    if (stack->skip != NULL)
        count_kept(stack, first, columns, kept);
    if (job->task != TASK_SKIPPED)
        gather(stack, first, columns, tile);
    for (int c = 0; c < columns; c++) {
        struct column column = {.sample = tile + (int64_t)c * stack->count * LANES, .count = stack->count};
        for (int i = 0; i < LANES; i++)
            column.kept[i] = stack->skip != NULL ? kept[c * LANES + i] : (uint16_t)stack->count;
        unsigned missing = 0;
        for (int i = 0; i < LANES; i++)
            missing |= (unsigned)stack->count ^ column.kept[i];
        column.whole = missing == 0;
        if (job->task == TASK_SKIPPED)
            write_share(job, first + c, column.kept);
        else
            column_work(&column, job, first + c);
    }
}

static void run_columns(void *context, int64_t begin, int64_t end)
{
    struct job *job = context;
    const int step = tile_columns(job->stack->count);
    int8_t *tile = aligned_alloc(LANES, (size_t)step * (size_t)job->stack->count * LANES);
    if (tile == NULL)
        atomic_store(&job->failed, true);
    for (int64_t first = begin; tile != NULL && first < end; first += step)
        tile_work(job, first, end - first < step ? (int)(end - first) : step, tile);
    free(tile);
}

static int run(struct job *job, int threads, struct ws2_error *error)
{
    const struct ws2_stack *stack = job->stack;
    if (stack->count < 1 || stack->count > WS2_STACK_MAX || stack->pixels < 0 ||
        stack->pixels > INT64_MAX - LANES)
        return ws2_fail(error, WS2_ERR_USAGE, "a stack of %d frames of %lld pixels cannot be worked on",
                        stack->count, (long long)stack->pixels);
    if (job->least < 1)
        job->least = 1;
    spread_bits(job->bytes);
    ws2_parallel_for(threads, (stack->pixels + LANES - 1) / LANES, run_columns, job);
    if (atomic_load(&job->failed))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a tile of %d frames", stack->count);
    return WS2_OK;
}

int ws2_stack_median(const struct ws2_stack *stack, int least, int threads, float *median, float *mad,
                     struct ws2_error *error)
{
    struct job job = {.stack = stack, .task = TASK_MEDIAN, .least = least, .out = median, .mad = mad};
    return run(&job, threads, error);
}

int ws2_stack_mad(const struct ws2_stack *stack, int least, int threads, const float *centre, float *mad,
                  struct ws2_error *error)
{
    struct job job = {.stack = stack, .task = TASK_MAD, .least = least, .centre = centre, .out = mad};
    return run(&job, threads, error);
}

int ws2_stack_mode(const struct ws2_stack *stack, int least, int threads, float *mode,
                   struct ws2_error *error)
{
    struct job job = {.stack = stack, .task = TASK_MODE, .least = least, .out = mode};
    return run(&job, threads, error);
}

int ws2_stack_skipped(const struct ws2_stack *stack, int threads, float *share, struct ws2_error *error)
{
    struct job job = {.stack = stack, .task = TASK_SKIPPED, .out = share};
    if (stack->skip == NULL) {
        memset(share, 0, (size_t)stack->pixels * sizeof *share);
        return WS2_OK;
    }
    return run(&job, threads, error);
}
