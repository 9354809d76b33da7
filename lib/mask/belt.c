#include "mask/internal.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif
#include "motion/motion.h"
#include "pool/pool.h"

static const float ROBUST = 1.4826f;

/* ---- the belt -------------------------------------------------------------------------------------------- */

int ws2_belt_make(struct ws2_belt *belt, int64_t height, int64_t width, bool rgb_scale,
                  struct ws2_error *error)
{
    *belt = (struct ws2_belt){.height = height, .width = width};
    const struct ws2_shape shape = ws2_shape_3(height, width, 3);
    size_t bytes;
    if (height < 1 || width < 1 || !ws2_shape_bytes(&shape, WS2_F64, &bytes))
        return ws2_fail(error, WS2_ERR_USAGE, "a belt cannot have %lld x %lld pixels", (long long)width,
                        (long long)height);
    const size_t pixels = (size_t)height * (size_t)width;
    belt->luma = ws2_calloc(pixels, sizeof(float));
    belt->scale = ws2_calloc(pixels, sizeof(float));
    belt->share = ws2_calloc(pixels, sizeof(float));
    belt->rgb = ws2_calloc(3 * pixels, sizeof(float));
    if (rgb_scale)
        belt->rgb_scale = ws2_calloc(3 * pixels, sizeof(float));
    if (belt->luma != NULL && belt->scale != NULL && belt->share != NULL && belt->rgb != NULL &&
        (!rgb_scale || belt->rgb_scale != NULL))
        return WS2_OK;
    ws2_belt_free(belt);
    return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a belt of %lld x %lld pixels", (long long)width,
                    (long long)height);
}

void ws2_belt_free(struct ws2_belt *belt)
{
    free(belt->luma);
    free(belt->scale);
    free(belt->share);
    free(belt->rgb);
    free(belt->rgb_scale);
    *belt = (struct ws2_belt){0};
}

/* FNV-1a over 64-bit words instead of bytes. */
static uint64_t mix(uint64_t hash, const void *data, size_t bytes)
{
    const uint8_t *byte = data;
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word = 0;
        memcpy(&word, byte + i, bytes - i < 8 ? bytes - i : 8);
        hash = (hash ^ word) * 0x100000001b3u;
    }
    return hash ^ hash >> 32;
}

void ws2_belt_digest(const struct ws2_belt *belt, char digest[17])
{
    const size_t plane = (size_t)belt->height * (size_t)belt->width * sizeof(float);
    uint64_t hash = mix(0xcbf29ce484222325u, &belt->height, sizeof belt->height);
    hash = mix(hash, &belt->width, sizeof belt->width);
    hash = mix(hash, belt->luma, plane);
    hash = mix(hash, belt->scale, plane);
    hash = mix(hash, belt->rgb, 3 * plane);
    if (belt->rgb_scale != NULL)
        hash = mix(hash, belt->rgb_scale, 3 * plane);
    hash = mix(hash, belt->saturation, sizeof belt->saturation);
    for (int i = 0; i < 16; i++)
        digest[i] = "0123456789abcdef"[hash >> (60 - 4 * i) & 15];
    digest[16] = 0;
}

struct ws2_belt_params ws2_belt_defaults(void)
{
    return (struct ws2_belt_params){.statistic = WS2_STATISTIC_MEDIAN,
                                    .passes = 2,
                                    .least = 20,
                                    .floor = 2.0,
                                    .window = 5,
                                    .foreground = ws2_foreground_defaults()};
}

/* ---- samples --------------------------------------------------------------------------------------------- */

enum { PLANE_LUMA, PLANE_RED, PLANE_GREEN, PLANE_BLUE, PLANES };

struct ws2_samples {
    int64_t height, width, stride; /* stride: bytes of a row, a multiple of 64 */
    int capacity, dark;
    uint8_t *pixel; /* [capacity,PLANES,h,stride] */
    size_t bytes;
    atomic_llong saturation[256];
};

static uint8_t *plane_of(const struct ws2_samples *samples, int index, int plane)
{
    return samples->pixel +
           ((size_t)index * PLANES + (size_t)plane) * (size_t)(samples->height * samples->stride);
}

int ws2_samples_new(struct ws2_samples **samples, int64_t height, int64_t width, int capacity, int dark,
                    struct ws2_error *error)
{
    *samples = NULL;
    const struct ws2_shape shape = ws2_shape_4(capacity, PLANES, height, (width + 63) / 64 * 64);
    size_t bytes;
    if (capacity < 1 || capacity > WS2_STACK_MAX || dark < 0 || dark > 255 || height < 1 || width < 1 ||
        width > INT32_MAX - 64 || height > INT32_MAX || !ws2_shape_bytes(&shape, WS2_U8, &bytes) ||
        bytes > PTRDIFF_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "%d samples of %lld x %lld pixels cannot be kept", capacity,
                        (long long)width, (long long)height);
    struct ws2_samples *made = ws2_calloc(1, sizeof *made);
    if (made != NULL) {
        /* Huge pages: the statistics read a little of every sample in turn. */
        const size_t huge = (size_t)2 << 20;
        made->bytes = (bytes + huge - 1) / huge * huge;
        made->pixel = made->bytes >= bytes ? aligned_alloc(huge, made->bytes) : NULL;
    }
    if (made == NULL || made->pixel == NULL) {
        free(made);
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for %d samples of %lld x %lld pixels", capacity,
                        (long long)width, (long long)height);
    }
#if defined(__linux__)
    madvise(made->pixel, made->bytes, MADV_HUGEPAGE);
#endif
    made->height = height;
    made->width = width;
    made->stride = shape.dim[3];
    made->capacity = capacity;
    made->dark = dark;
    *samples = made;
    return WS2_OK;
}

void ws2_samples_free(struct ws2_samples *samples)
{
    if (samples != NULL)
        free(samples->pixel);
    free(samples);
}

enum { CHUNK = 1024 };

/* S of every pixel of at most CHUNK: 255 (max - min) / max, halves up. The quotient of two numbers below 2^16 is
 * never so near to a whole number that rounding to float could carry it over. In two loops, since a division under
 * a condition would not be vectorised. */
WS2_CLONES
static void saturation_row(const uint8_t *red, const uint8_t *green, const uint8_t *blue, int dark,
                           int64_t count, uint8_t *out)
{
    uint16_t above[CHUNK], below[CHUNK];
    const uint8_t floor = (uint8_t)dark;
    for (int64_t i = 0; i < count; i++) {
        const uint8_t more = red[i] > green[i] ? red[i] : green[i],
                      less = red[i] > green[i] ? green[i] : red[i];
        const uint8_t most = more > blue[i] ? more : blue[i], least = less < blue[i] ? less : blue[i];
        const uint16_t value = (uint16_t)(255 * (uint16_t)(most - least) + (most >> 1));
        above[i] = most >= floor ? value : 0;
        below[i] = most > 1 ? most : 1;
    }
    for (int64_t i = 0; i < count; i++)
        out[i] = (uint8_t)(int)((float)above[i] / (float)below[i]);
}

static void count_saturation(const uint8_t *red, const uint8_t *green, const uint8_t *blue, int dark,
                             int64_t count, uint32_t bin[4][256])
{
    uint8_t value[CHUNK];
    for (int64_t begin = 0; begin < count; begin += CHUNK) {
        const int64_t length = count - begin < CHUNK ? count - begin : CHUNK;
        saturation_row(red + begin, green + begin, blue + begin, dark, length, value);
        int64_t i = 0;
        for (; i + 4 <= length; i += 4) {
            bin[0][value[i]]++;
            bin[1][value[i + 1]]++;
            bin[2][value[i + 2]]++;
            bin[3][value[i + 3]]++;
        }
        for (; i < length; i++)
            bin[0][value[i]]++;
    }
}

void ws2_samples_set(struct ws2_samples *samples, int index, const uint8_t *rgb)
{
    uint32_t bin[4][256] = {{0}};
    uint8_t *plane[PLANES];
    for (int c = 0; c < PLANES; c++)
        plane[c] = plane_of(samples, index, c);
    const int64_t padding = samples->stride - samples->width;
    for (int64_t y = 0; y < samples->height; y++) {
        ws2_rgb_planes(rgb + 3 * y * samples->width, samples->width, plane[PLANE_RED], plane[PLANE_GREEN],
                       plane[PLANE_BLUE], plane[PLANE_LUMA]);
        count_saturation(plane[PLANE_RED], plane[PLANE_GREEN], plane[PLANE_BLUE], samples->dark,
                         samples->width, bin);
        for (int c = 0; c < PLANES; c++) {
            memset(plane[c] + samples->width, 0, (size_t)padding);
            plane[c] += samples->stride;
        }
    }
    for (int i = 0; i < 256; i++)
        atomic_fetch_add(&samples->saturation[i], (long long)bin[0][i] + bin[1][i] + bin[2][i] + bin[3][i]);
}

/* ---- estimating ------------------------------------------------------------------------------------------- */

/* The padded rows make a column of 64 pixels of the stack one word of the masks. All planes of results are padded
 * the same way until they are copied out. */
struct work {
    struct ws2_samples *samples;
    int count, threads;
    const struct ws2_belt_params *params;
    int64_t padded;                /* h * stride */
    const uint8_t **frame[PLANES]; /* [count] */
    uint64_t **mask;               /* [count] of u64[padded / 64], or NULL before the first masks */
    float *centre[PLANES], *mad[PLANES];
    float *spread; /* room of two planes */
    float *share;  /* of the masks as they are */
    struct ws2_belt *belt;
    const struct ws2_foreground *foreground; /* for the masks being made */
    atomic_int failed;
};

static void work_free(struct work *work)
{
    for (int c = 0; c < PLANES; c++) {
        free(work->frame[c]);
        free(work->centre[c]);
        free(work->mad[c]);
    }
    for (int k = 0; work->mask != NULL && k < work->count; k++)
        free(work->mask[k]);
    free(work->mask);
    free(work->spread);
    free(work->share);
}

static int work_make(struct work *work, struct ws2_error *error)
{
    const bool channels = work->params->foreground.channels == WS2_CHANNELS_MAX;
    const size_t padded = (size_t)work->padded, count = (size_t)work->count;
    bool good = true;
    for (int c = 0; c < PLANES; c++) {
        work->frame[c] = ws2_calloc(count, sizeof *work->frame[c]);
        work->centre[c] = ws2_calloc(padded, sizeof(float));
        if (c == PLANE_LUMA || channels)
            work->mad[c] = ws2_calloc(padded, sizeof(float));
        good &= work->frame[c] != NULL && work->centre[c] != NULL &&
                (work->mad[c] != NULL || (c != PLANE_LUMA && !channels));
        for (int k = 0; good && k < work->count; k++)
            work->frame[c][k] = plane_of(work->samples, k, c);
    }
    work->spread = ws2_calloc(padded, 2 * sizeof(float));
    work->share = ws2_calloc(padded, sizeof(float));
    work->mask = ws2_calloc(count, sizeof *work->mask);
    good &= work->spread != NULL && work->share != NULL && work->mask != NULL;
    for (int k = 0; good && k < work->count; k++) {
        work->mask[k] = ws2_calloc(padded / 64, sizeof(uint64_t));
        good = work->mask[k] != NULL;
    }
    return good ? WS2_OK : ws2_fail(error, WS2_ERR_SYSTEM, "no memory to estimate a belt");
}

static struct ws2_stack stack_of(const struct work *work, int plane, bool masked)
{
    return (struct ws2_stack){work->frame[plane], masked ? (const uint64_t *const *)work->mask : NULL,
                              work->count, work->padded};
}

/* Background and spread of a plane from all samples. */
static int measure_all(struct work *work, int plane, struct ws2_error *error)
{
    const struct ws2_stack stack = stack_of(work, plane, false);
    float *centre = work->centre[plane], *mad = work->mad[plane];
    if (work->params->statistic == WS2_STATISTIC_MEDIAN)
        return ws2_stack_median(&stack, 1, work->threads, centre, mad, error);
    const int status = ws2_stack_mode(&stack, 1, work->threads, centre, error);
    return status != WS2_OK || mad == NULL ? status
                                           : ws2_stack_mad(&stack, 1, work->threads, centre, mad, error);
}

/* The same from the samples that the masks call belt; pixels with too few keep what they have. */
static int measure_bare(struct work *work, int plane, struct ws2_error *error)
{
    const struct ws2_stack stack = stack_of(work, plane, true);
    return ws2_stack_median(&stack, work->params->least, work->threads, work->centre[plane], work->mad[plane],
                            error);
}

/* sum[i] = sum of value[i-radius .. i+radius], cut off at the ends. */
static void add_window(const float *value, int64_t count, int64_t radius, float *sum)
{
    memset(sum, 0, (size_t)count * sizeof *sum);
    for (int64_t d = -radius; d <= radius; d++) {
        const int64_t begin = d < 0 ? -d : 0, end = d > 0 ? count - d : count;
        for (int64_t i = begin; i < end; i++)
            sum[i] += value[i + d];
    }
}

static int64_t window_length(int64_t at, int64_t count, int64_t radius)
{
    const int64_t begin = at < radius ? 0 : at - radius;
    const int64_t end = at + radius >= count ? count : at + radius + 1;
    return end - begin;
}

/* scale[step * p] = mean over the window of max(1.4826 mad, floor). */
static void smooth(const struct work *work, const float *mad, float *scale, int step)
{
    const int64_t width = work->belt->width, height = work->belt->height, stride = work->samples->stride;
    const int64_t radius = work->params->window / 2;
    const float floor = (float)work->params->floor;
    float *row = work->spread, *sum = work->spread + work->padded;
    for (int64_t y = 0; y < height; y++) {
        for (int64_t x = 0; x < width; x++)
            row[x] = ROBUST * mad[y * stride + x] > floor ? ROBUST * mad[y * stride + x] : floor;
        add_window(row, width, radius, sum + y * stride);
    }
    for (int64_t y = 0; y < height; y++) {
        memset(row, 0, (size_t)width * sizeof *row);
        const int64_t first = y < radius ? 0 : y - radius, rows = window_length(y, height, radius);
        for (int64_t i = first; i < first + rows; i++) {
            for (int64_t x = 0; x < width; x++)
                row[x] += sum[i * stride + x];
        }
        for (int64_t x = 0; x < width; x++)
            scale[(y * width + x) * step] = row[x] / (float)(rows * window_length(x, width, radius));
    }
}

/* Copies a padded plane out. */
static void crop(const struct work *work, const float *plane, float *out, int step)
{
    for (int64_t y = 0; y < work->belt->height; y++) {
        for (int64_t x = 0; x < work->belt->width; x++)
            out[(y * work->belt->width + x) * step] = plane[y * work->samples->stride + x];
    }
}

/* Brings the belt up to date with what was measured. */
static void fill_belt(struct work *work, bool channels)
{
    crop(work, work->centre[PLANE_LUMA], work->belt->luma, 1);
    smooth(work, work->mad[PLANE_LUMA], work->belt->scale, 1);
    for (int c = PLANE_RED; channels && c <= PLANE_BLUE; c++) {
        crop(work, work->centre[c], work->belt->rgb + c - PLANE_RED, 3);
        if (work->mad[c] != NULL)
            smooth(work, work->mad[c], work->belt->rgb_scale + c - PLANE_RED, 3);
    }
}

static void make_masks(void *context, int64_t begin, int64_t end)
{
    struct work *work = context;
    struct ws2_foreground_scratch *scratch = ws2_foreground_scratch_new(work->foreground);
    int status = scratch == NULL ? WS2_ERR_SYSTEM : WS2_OK;
    for (int64_t k = begin; status == WS2_OK && k < end; k++) {
        const struct mask_row first = {work->frame[PLANE_LUMA][k], work->frame[PLANE_RED][k],
                                       work->frame[PLANE_GREEN][k], work->frame[PLANE_BLUE][k]};
        status = mask_foreground_planes(work->foreground, scratch, &first, work->samples->stride, NULL);
        if (status == WS2_OK)
            memcpy(work->mask[k], ws2_foreground_bits(scratch)->word, (size_t)work->padded / 8);
    }
    ws2_foreground_scratch_free(scratch);
    if (status != WS2_OK)
        atomic_store(&work->failed, status);
}

/* The masks of all samples against the belt as it is now, and what share of them hides each pixel. */
static int update_masks(struct work *work, struct ws2_error *error)
{
    struct ws2_foreground *foreground;
    int status = ws2_foreground_new(&foreground, work->belt, &work->params->foreground, error);
    if (status != WS2_OK)
        return status;
    work->foreground = foreground;
    ws2_parallel_for(work->threads, work->count, make_masks, work);
    ws2_foreground_free(foreground);
    status = atomic_load(&work->failed);
    if (status != WS2_OK)
        return ws2_fail(error, status, "the masks of the samples cannot be made");
    const struct ws2_stack stack = stack_of(work, PLANE_LUMA, true);
    return ws2_stack_skipped(&stack, work->threads, work->share, error);
}

static int64_t count_scarce(const struct work *work)
{
    int64_t scarce = 0;
    for (int64_t y = 0; y < work->belt->height; y++) {
        for (int64_t x = 0; x < work->belt->width; x++) {
            const float hidden = work->share[y * work->samples->stride + x] * (float)work->count;
            scarce += work->count - (int)(hidden + 0.5f) < work->params->least;
        }
    }
    return scarce;
}

/* Passes 2 and on. The channels wait for the last pass unless the masks need them. */
static int refine(struct work *work, struct ws2_belt_report *report, struct ws2_error *error)
{
    int status = WS2_OK;
    for (int pass = 2; status == WS2_OK && pass <= work->params->passes; pass++) {
        const bool last = pass == work->params->passes, channels = work->mad[PLANE_RED] != NULL;
        status = update_masks(work, error);
        if (status == WS2_OK)
            status = measure_bare(work, PLANE_LUMA, error);
        report->scarce = count_scarce(work);
        for (int c = PLANE_RED; status == WS2_OK && c <= PLANE_BLUE && (last || channels); c++) {
            if (!channels && report->scarce > 0)
                status = measure_all(work, c, error);
            if (status == WS2_OK)
                status = measure_bare(work, c, error);
        }
        fill_belt(work, last || channels);
    }
    return status;
}

static int estimate(struct work *work, struct ws2_belt_report *report, struct ws2_error *error)
{
    const bool channels = work->params->passes == 1 || work->mad[PLANE_RED] != NULL;
    int status = measure_all(work, PLANE_LUMA, error);
    for (int c = PLANE_RED; status == WS2_OK && channels && c <= PLANE_BLUE; c++)
        status = measure_all(work, c, error);
    fill_belt(work, channels);
    if (status == WS2_OK && work->params->passes == 1)
        status = update_masks(work, error);
    else if (status == WS2_OK)
        status = refine(work, report, error);
    if (status != WS2_OK)
        return status;
    crop(work, work->share, work->belt->share, 1);
    int64_t covered = 0;
    for (int64_t p = 0; p < work->belt->height * work->belt->width; p++)
        covered += work->belt->share[p] > 0.5f;
    report->covered = (double)covered / (double)(work->belt->height * work->belt->width);
    return WS2_OK;
}

/* S_B is a multiple of 0.5, so distances to it are counted in halves. */
static void measure_saturation(const struct ws2_samples *samples, float saturation[2])
{
    int64_t value[256], distance[511] = {0};
    for (int i = 0; i < 256; i++)
        value[i] = atomic_load(&samples->saturation[i]);
    const double middle = mask_counted_median(value, 256);
    for (int i = 0; i < 256; i++)
        distance[abs(2 * i - (int)(2.0 * middle))] += value[i];
    saturation[0] = (float)middle;
    saturation[1] = (float)(0.5 * mask_counted_median(distance, 511));
}

static int check(const struct ws2_samples *samples, int count, const struct ws2_belt_params *params,
                 struct ws2_error *error)
{
    if (count < 1 || count > samples->capacity)
        return ws2_fail(error, WS2_ERR_USAGE, "a belt cannot be estimated from %d of %d samples", count,
                        samples->capacity);
    if (params->passes < 1 || params->passes > 9 || params->least < 1 || params->window < 1 ||
        params->window % 2 == 0 || params->window > 999 || !(params->floor > 0.0 && params->floor <= 255.0))
        return ws2_fail(error, WS2_ERR_USAGE,
                        "%d passes, %d samples at least, window %d, floor %g: a belt cannot be estimated so",
                        params->passes, params->least, params->window, params->floor);
    return WS2_OK;
}

int ws2_belt_estimate(struct ws2_belt *belt, struct ws2_samples *samples, int count,
                      const struct ws2_belt_params *params, int threads, struct ws2_belt_report *report,
                      struct ws2_error *error)
{
    *belt = (struct ws2_belt){0};
    *report = (struct ws2_belt_report){.samples = count};
    int status = check(samples, count, params, error);
    if (status == WS2_OK)
        status = ws2_belt_make(belt, samples->height, samples->width,
                               params->foreground.channels == WS2_CHANNELS_MAX, error);
    if (status != WS2_OK)
        return status;
    struct work work = {.samples = samples,
                        .count = count,
                        .threads = threads,
                        .params = params,
                        .padded = samples->height * samples->stride,
                        .belt = belt};
    measure_saturation(samples, belt->saturation);
    status = work_make(&work, error);
    if (status == WS2_OK)
        status = estimate(&work, report, error);
    work_free(&work);
    if (status != WS2_OK)
        ws2_belt_free(belt);
    return status;
}
