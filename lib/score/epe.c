/* End-point error of optical flow: see score.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "score/score.h"

enum { BLOCK = 2048, BINS = 65536 };

/* What one frame is measured with. */
struct work {
    const struct ws2_epe_frame *frame;
    size_t pixels;
    uint8_t *known;   /* [pixels]: truth is there, and there is a number */
    uint32_t *bin;    /* [BINS] */
    double median[2]; /* of the true u and v */
    struct ws2_epe *epe;
};

/* The vectors of up to BLOCK pixels. */
struct block {
    float estimate[2][BLOCK], truth[2][BLOCK];
};

const char *ws2_epe_class_name(enum ws2_epe_class class)
{
    static const char *const name[WS2_EPE_CLASSES] = {
        "all", "visible", "hidden", "0-10", "10-40", "40+", "common", "own", "belt", "wanted", "unwanted"};
    return name[class];
}

/* Middlebury's rule for flow that is known; false for NaN. */
static bool is_flow(float u, float v)
{
    return fabsf(u) <= 1e9f && fabsf(v) <= 1e9f;
}

/* Elements first .. first+count-1 as floats. */
static void load(enum ws2_dtype dtype, const void *data, size_t first, size_t count, float *out)
{
    if (dtype == WS2_F16)
        ws2_half_to_floats(out, (const uint16_t *)data + first, count);
    else
        memcpy(out, (const float *)data + first, count * sizeof *out);
}

static size_t block_size(const struct work *work, size_t begin)
{
    return work->pixels - begin < BLOCK ? work->pixels - begin : BLOCK;
}

static void load_truth(const struct work *work, size_t begin, size_t count, struct block *block)
{
    for (size_t k = 0; k < 2; k++)
        load(work->frame->truth_dtype, work->frame->truth, k * work->pixels + begin, count, block->truth[k]);
}

static void load_estimate(const struct work *work, size_t begin, size_t count, struct block *block)
{
    for (size_t k = 0; k < 2; k++)
        load(work->frame->estimate_dtype, work->frame->estimate, k * work->pixels + begin, count,
             block->estimate[k]);
}

/* ---- the median of the truth ------------------------------------------------------------------------------- */

static void find_known(struct work *work, struct block *block)
{
    const uint8_t *mask = work->frame->known;
    for (size_t begin = 0; begin < work->pixels; begin += BLOCK) {
        const size_t count = block_size(work, begin);
        load_truth(work, begin, count, block);
        for (size_t i = 0; i < count; i++)
            work->known[begin + i] =
                (!mask || mask[begin + i]) && is_flow(block->truth[0][i], block->truth[1][i]);
    }
}

/* Unsigned numbers in the order of the floats. */
static uint32_t key_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float value_of(uint32_t key)
{
    const uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Counts the known values of one plane by the upper half of their keys, or, of those whose upper half is `upper`, by the
 * lower half. */
static void fill_bins(const struct work *work, int plane, int64_t upper)
{
    const struct ws2_epe_frame *frame = work->frame;
    float value[BLOCK];
    memset(work->bin, 0, BINS * sizeof *work->bin);
    for (size_t begin = 0; begin < work->pixels; begin += BLOCK) {
        const size_t count = block_size(work, begin);
        load(frame->truth_dtype, frame->truth, (size_t)plane * work->pixels + begin, count, value);
        for (size_t i = 0; i < count; i++) {
            const uint32_t key = key_of(value[i]);
            if (work->known[begin + i] && upper < 0)
                work->bin[key >> 16]++;
            else if (work->known[begin + i] && key >> 16 == upper)
                work->bin[key & 0xffff]++;
        }
    }
}

/* The bin that holds the value of this rank; *rank becomes the rank within it. */
static uint32_t bin_of(const uint32_t *bin, size_t *rank)
{
    uint32_t at = 0;
    while (*rank >= bin[at])
        *rank -= bin[at++];
    return at;
}

static float plane_median(const struct work *work, int plane, size_t known)
{
    size_t rank = (known - 1) / 2;
    fill_bins(work, plane, -1);
    const uint32_t upper = bin_of(work->bin, &rank);
    fill_bins(work, plane, upper);
    return value_of(upper << 16 | bin_of(work->bin, &rank));
}

static void find_median(struct work *work)
{
    size_t known = 0;
    for (size_t i = 0; i < work->pixels; i++)
        known += work->known[i];
    for (int plane = 0; plane < 2 && known; plane++)
        work->median[plane] = plane_median(work, plane, known);
}

/* ---- errors ------------------------------------------------------------------------------------------------- */

static int check_mask(const char *what, const uint8_t *mask, size_t pixels, uint8_t most,
                      struct ws2_error *error)
{
    for (size_t i = 0; mask && i < pixels; i++)
        if (mask[i] > most)
            return ws2_fail(error, WS2_ERR_INPUT, "%s holds the value %d; it must be within 0..%d", what,
                            mask[i], most);
    return 0;
}

static int check_masks(const struct work *work, struct ws2_error *error)
{
    const struct ws2_epe_frame *frame = work->frame;
    int status = check_mask("the mask of known pixels", frame->known, work->pixels, 1, error);
    if (status == 0)
        status = check_mask("the mask of valid pixels", frame->valid, work->pixels, 1, error);
    if (status == 0)
        status = check_mask("the mask of visible pixels", frame->visible, work->pixels, 1, error);
    return status < 0 ? status : check_mask("the map of classes", frame->kind, work->pixels, 2, error);
}

static int check_estimate(const struct work *work, const struct block *block, size_t begin, size_t count,
                          struct ws2_error *error)
{
    const uint8_t *valid = work->frame->valid;
    for (size_t i = 0; i < count; i++) {
        const float u = block->estimate[0][i], v = block->estimate[1][i];
        const int64_t at = (int64_t)(begin + i);
        if (!is_flow(u, v) && (!valid || valid[at]))
            return ws2_fail(error, WS2_ERR_INPUT,
                            "the estimate at x %lld, y %lld is (%g, %g), which is no flow",
                            (long long)(at % work->frame->width), (long long)(at / work->frame->width),
                            (double)u, (double)v);
    }
    return 0;
}

/* The classes of a pixel with true flow (u,v); returns how many. */
static int classes_of(const struct work *work, size_t at, double u, double v, int class[5])
{
    const struct ws2_epe_frame *frame = work->frame;
    const double length = sqrt(u * u + v * v), du = u - work->median[0], dv = v - work->median[1];
    int count = 0;
    class[count++] = WS2_EPE_ALL;
    class[count++] = length < 10 ? WS2_EPE_SLOW : length < 40 ? WS2_EPE_MEDIUM : WS2_EPE_FAST;
    class[count++] = sqrt(du * du + dv * dv) > 1 ? WS2_EPE_OWN : WS2_EPE_COMMON;
    if (frame->visible)
        class[count++] = frame->visible[at] ? WS2_EPE_VISIBLE : WS2_EPE_HIDDEN;
    if (frame->kind)
        class[count++] = WS2_EPE_BELT + frame->kind[at];
    return count;
}

static void count_pixel(struct ws2_epe_sum *sum, double error, double length)
{
    sum->pixels++;
    sum->error += error;
    sum->outliers += error > 3 && error > 0.05 * length;
    sum->above1 += error > 1;
    sum->above5 += error > 5;
}

static void measure_block(const struct work *work, const struct block *block, size_t begin, size_t count)
{
    const uint8_t *valid = work->frame->valid;
    for (size_t i = 0; i < count; i++) {
        const double u = block->truth[0][i], v = block->truth[1][i];
        const double du = block->estimate[0][i] - u, dv = block->estimate[1][i] - v;
        int class[5];
        if (!work->known[begin + i])
            continue;
        const int classes = classes_of(work, begin + i, u, v, class);
        for (int k = 0; k < classes; k++) {
            work->epe->sum[class[k]].known++;
            if (!valid || valid[begin + i])
                count_pixel(&work->epe->sum[class[k]], sqrt(du * du + dv * dv), sqrt(u * u + v * v));
        }
    }
}

static int measure(struct work *work, struct block *block, struct ws2_error *error)
{
    int status = check_masks(work, error);
    if (status < 0)
        return status;
    find_known(work, block);
    find_median(work);
    for (size_t begin = 0; begin < work->pixels && status == 0; begin += BLOCK) {
        const size_t count = block_size(work, begin);
        load_truth(work, begin, count, block);
        load_estimate(work, begin, count, block);
        status = check_estimate(work, block, begin, count, error);
        if (status == 0)
            measure_block(work, block, begin, count);
    }
    return status;
}

int ws2_epe_measure(const struct ws2_epe_frame *frame, struct ws2_epe *epe, struct ws2_error *error)
{
    struct work work = {.frame = frame, .pixels = (size_t)(frame->height * frame->width), .epe = epe};
    struct block *block = ws2_calloc(1, sizeof *block);
    int status = WS2_ERR_SYSTEM;
    *epe = (struct ws2_epe){0};
    for (int i = 0; i < WS2_EPE_CLASSES; i++)
        epe->sum[i].frames = i == WS2_EPE_VISIBLE || i == WS2_EPE_HIDDEN ? frame->visible != NULL
                             : i >= WS2_EPE_BELT                         ? frame->kind != NULL
                                                                         : 1;
    work.known = ws2_calloc(work.pixels, 1);
    work.bin = ws2_calloc(BINS, sizeof *work.bin);
    if (block && work.known && work.bin)
        status = measure(&work, block, error);
    else
        ws2_fail(error, status, "no memory to measure a flow");
    free(block);
    free(work.known);
    free(work.bin);
    return status;
}

/* ---- sums --------------------------------------------------------------------------------------------------- */

void ws2_epe_add(struct ws2_epe *total, const struct ws2_epe *frame)
{
    for (int i = 0; i < WS2_EPE_CLASSES; i++) {
        struct ws2_epe_sum *to = &total->sum[i];
        const struct ws2_epe_sum *from = &frame->sum[i];
        to->frames += from->frames;
        to->known += from->known;
        to->pixels += from->pixels;
        to->outliers += from->outliers;
        to->above1 += from->above1;
        to->above5 += from->above5;
        to->error += from->error;
    }
}

double ws2_epe_mean(const struct ws2_epe_sum *sum)
{
    return sum->pixels > 0 ? sum->error / (double)sum->pixels : NAN;
}

double ws2_epe_share(const struct ws2_epe_sum *sum, int64_t count)
{
    return sum->pixels > 0 ? (double)count / (double)sum->pixels : NAN;
}

double ws2_epe_density(const struct ws2_epe_sum *sum)
{
    return sum->known > 0 ? (double)sum->pixels / (double)sum->known : NAN;
}
