#include "mask/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* ---- memory --------------------------------------------------------------------------------------------- */

int ws2_bits_reset(struct ws2_bits *bits, int64_t height, int64_t width, struct ws2_error *error)
{
    size_t bytes;
    const struct ws2_shape shape = ws2_shape_2(height, width / 64 + (width % 64 != 0));
    if (height < 0 || width < 0 || !ws2_shape_bytes(&shape, WS2_I64, &bytes))
        return ws2_fail(error, WS2_ERR_USAGE, "a mask cannot have %lld x %lld pixels", (long long)width,
                        (long long)height);
    if (ws2_reserve((void **)&bits->word, &bits->capacity, bytes) != WS2_OK)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a mask of %lld x %lld pixels", (long long)width,
                        (long long)height);
    bits->height = height;
    bits->width = width;
    bits->stride = shape.dim[1];
    memset(bits->word, 0, bytes);
    return WS2_OK;
}

void ws2_bits_free(struct ws2_bits *bits)
{
    free(bits->word);
    *bits = (struct ws2_bits){0};
}

void ws2_bits_scratch_free(struct ws2_bits_scratch *scratch)
{
    free(scratch->row);
    free(scratch->run);
    ws2_bits_free(&scratch->plane);
    *scratch = (struct ws2_bits_scratch){0};
}

/* ---- bytes ---------------------------------------------------------------------------------------------- */

static uint64_t pack(const uint8_t *byte, int count)
{
    uint64_t word = 0;
    for (int i = 0; i < count; i++)
        word |= (uint64_t)(byte[i] != 0) << i;
    return word;
}

#if defined(__SSE2__)
static inline uint64_t pack64(const uint8_t *byte)
{
    uint64_t word = 0;
    for (int i = 0; i < 4; i++) {
        const __m128i part = _mm_loadu_si128((const __m128i *)(byte + 16 * i));
        const int zero = _mm_movemask_epi8(_mm_cmpeq_epi8(part, _mm_setzero_si128()));
        word |= (uint64_t)(~zero & 0xffff) << (16 * i);
    }
    return word;
}
#else
static inline uint64_t pack64(const uint8_t *byte)
{
    return pack(byte, 64);
}
#endif

void ws2_bits_from_bytes(struct ws2_bits *bits, const uint8_t *byte)
{
    for (int64_t y = 0; y < bits->height; y++, byte += bits->width) {
        uint64_t *word = bits->word + y * bits->stride;
        for (int64_t i = 0; i < bits->width / 64; i++)
            word[i] = pack64(byte + 64 * i);
        if (bits->width % 64)
            word[bits->width / 64] = pack(byte + bits->width / 64 * 64, (int)(bits->width % 64));
    }
}

/* Eight bits to eight bytes of 0 or 1, lowest bit first: every bit is copied to all eight bytes, byte i keeps
 * bit i, and the carry of an addition brings it to the top of its byte. */
static inline uint64_t unpack8(uint64_t bits)
{
    const uint64_t own = (bits & 0xff) * 0x0101010101010101u & 0x8040201008040201u;
    return (own + 0x00406070787c7e7fu) >> 7 & 0x0101010101010101u;
}

void ws2_bits_to_bytes(const struct ws2_bits *bits, uint8_t *byte)
{
    for (int64_t y = 0; y < bits->height; y++) {
        const uint64_t *word = bits->word + y * bits->stride;
        int64_t x = 0;
        for (; x + 64 <= bits->width; x += 64, byte += 64) {
            const uint64_t all = word[x / 64];
            uint64_t part[8];
            for (int i = 0; i < 8; i++)
                part[i] = unpack8(all >> (8 * i));
            memcpy(byte, part, sizeof part);
        }
        for (; x < bits->width; x++)
            *byte++ = word[x / 64] >> (x % 64) & 1;
    }
}

int64_t ws2_bits_count(const struct ws2_bits *bits)
{
    int64_t count = 0;
    for (int64_t i = 0; i < bits->height * bits->stride; i++)
        count += __builtin_popcountll(bits->word[i]);
    return count;
}

/* ---- morphology ----------------------------------------------------------------------------------------- */

/* to = from, or'ed with from moved by `shift` pixels to both sides. Both rows have enough zero words around. */
static inline __attribute__((always_inline)) void widen(uint64_t *restrict to, const uint64_t *restrict from,
                                                        int64_t words, int shift)
{
    const int64_t jump = shift / 64;
    const int bit = shift % 64;
    if (bit == 0) {
        for (int64_t i = 0; i < words; i++)
            to[i] = from[i] | from[i - jump] | from[i + jump];
        return;
    }
    for (int64_t i = 0; i < words; i++) {
        const uint64_t up = from[i - jump] << bit | from[i - jump - 1] >> (64 - bit);
        const uint64_t down = from[i + jump] >> bit | from[i + jump + 1] << (64 - bit);
        to[i] = from[i] | up | down;
    }
}

static inline __attribute__((always_inline)) void or_row(uint64_t *restrict to, const uint64_t *restrict from,
                                                         int64_t words)
{
    for (int64_t i = 0; i < words; i++)
        to[i] |= from[i];
}

/* Ors the row in `now`, widened step by step as the disc is, into the rows of `to` around y. `now` and `next`
 * take turns. reach[dy]: how far the disc goes in row dy. */
WS2_CLONES
static void spread_row(struct ws2_bits *to, int64_t y, int radius, const int *reach, uint64_t *now,
                       uint64_t *next)
{
    const int64_t words = to->stride;
    const uint64_t tail = mask_tail(to->width);
    int width = 0;
    for (int dy = radius; dy >= 0; dy--) {
        while (width < reach[dy]) {
            /* A pixel is now a run of 2*width+1, but at the edge of the image only width+1 of it are there: moved
             * by more, it would leave a gap. */
            const int missing = reach[dy] - width;
            const int step = missing < width + 1 ? missing : width + 1;
            widen(next, now, words, step);
            next[words - 1] &= tail;
            uint64_t *swap = now;
            now = next;
            next = swap;
            width += step;
        }
        if (y - dy >= 0)
            or_row(to->word + (y - dy) * words, now, words);
        if (y + dy < to->height && dy != 0)
            or_row(to->word + (y + dy) * words, now, words);
    }
}

static void complement(struct ws2_bits *bits)
{
    const uint64_t tail = mask_tail(bits->width);
    for (int64_t y = 0; y < bits->height; y++) {
        uint64_t *word = bits->word + y * bits->stride;
        for (int64_t i = 0; i < bits->stride; i++)
            word[i] = ~word[i];
        if (bits->stride > 0)
            word[bits->stride - 1] &= tail;
    }
}

enum { RADIUS_MAX = 1023 };

/* Dilates the ones, or with `zeros` the zeros: that is erosion. */
static int spread(struct ws2_bits *to, const struct ws2_bits *from, int radius, bool zeros,
                  struct ws2_bits_scratch *scratch, struct ws2_error *error)
{
    const int64_t words = from->stride;
    if (radius < 0 || radius > RADIUS_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "a radius of %d pixels is not within 0..%d", radius,
                        RADIUS_MAX);
    int reach[RADIUS_MAX + 1];
    for (int dy = 0; dy <= radius; dy++)
        reach[dy] = (int)lround(sqrt((double)radius * radius - (double)dy * dy));
    /* Two rows, each with enough zero words around it for any shift. */
    const int64_t pad = radius / 64 + 1;
    const size_t row = (size_t)(words + 2 * pad);
    if (ws2_reserve(&scratch->row, &scratch->row_capacity, 2 * row * sizeof(uint64_t)) != WS2_OK)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for morphology");
    if (ws2_bits_reset(to, from->height, from->width, error) != WS2_OK)
        return WS2_ERR_SYSTEM;
    uint64_t *now = (uint64_t *)scratch->row + pad, *next = now + row;
    memset(scratch->row, 0, 2 * row * sizeof *now);
    for (int64_t y = 0; words > 0 && y < from->height; y++) {
        const uint64_t *source = from->word + y * words;
        for (int64_t i = 0; i < words; i++)
            now[i] = zeros ? ~source[i] : source[i];
        now[words - 1] &= mask_tail(from->width);
        if (mask_any(now, words))
            spread_row(to, y, radius, reach, now, next);
    }
    if (zeros)
        complement(to);
    return WS2_OK;
}

int ws2_bits_dilate(struct ws2_bits *to, const struct ws2_bits *from, int radius,
                    struct ws2_bits_scratch *scratch, struct ws2_error *error)
{
    return spread(to, from, radius, false, scratch, error);
}

int ws2_bits_erode(struct ws2_bits *to, const struct ws2_bits *from, int radius,
                   struct ws2_bits_scratch *scratch, struct ws2_error *error)
{
    return spread(to, from, radius, true, scratch, error);
}

static int spread_twice(struct ws2_bits *bits, int radius, bool zeros, struct ws2_bits_scratch *scratch,
                        struct ws2_error *error)
{
    if (radius == 0)
        return WS2_OK;
    const int status = spread(&scratch->plane, bits, radius, zeros, scratch, error);
    return status == WS2_OK ? spread(bits, &scratch->plane, radius, !zeros, scratch, error) : status;
}

int ws2_bits_open(struct ws2_bits *bits, int radius, struct ws2_bits_scratch *scratch,
                  struct ws2_error *error)
{
    return spread_twice(bits, radius, true, scratch, error);
}

int ws2_bits_close(struct ws2_bits *bits, int radius, struct ws2_bits_scratch *scratch,
                   struct ws2_error *error)
{
    return spread_twice(bits, radius, false, scratch, error);
}
