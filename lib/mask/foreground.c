#include "mask/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#include "motion/motion.h"

/* Luma is a whole number, so "further than t from B" is the same as "outside [ceil(B-t), floor(B+t)]": two
 * bytes a pixel instead of two floats and a division. With drift the two bytes depend on the frame and are made
 * from centre and distance each time. Rows are padded to whole words of 64 pixels. */

enum { PLANES_MAX = 3 };

struct ws2_foreground {
    struct ws2_foreground_params params;
    int64_t height, width, stride, words; /* stride = 64 * words bytes of a row */
    int planes;                           /* compared: 1 luma, or 3 channels */
    uint8_t *low, *high;                  /* [planes,h,stride] */
    float *centre, *distance;             /* the same, with drift only */
    uint64_t *glare;                      /* [h,words] bits: belt brighter than reflex_belt */
    int saturated;                        /* S from this on is foreground; 256: never */
    int colourful;                        /* S from this on is no reflex */
    int dark, bright; /* smallest maximum with a saturation; Y from this on may be a reflex */
    bool drift;
    int strip;
    double strip_luma; /* median of the belt over the strip */
    int open, close, dilate;
    double hole, component; /* pixels */
};

struct ws2_foreground_scratch {
    struct ws2_bits now, other;
    struct ws2_bits_scratch bits;
    uint8_t *row; /* ROWS rows of stride bytes */
};

enum {
    ROW_RED,
    ROW_GREEN,
    ROW_BLUE,
    ROW_LUMA,
    ROW_HIT,
    ROW_REFLEX,
    ROW_LOW,
    ROW_HIGH = ROW_LOW + PLANES_MAX,
    ROWS = ROW_HIGH + PLANES_MAX
};

static const double ROBUST = 1.4826; /* deviation of a normal distribution per median of |x - median| */

struct ws2_foreground_params ws2_foreground_defaults(void)
{
    return (struct ws2_foreground_params){.z = 3.5,
                                          .difference = 12.0,
                                          .channels = WS2_CHANNELS_LUMA,
                                          .saturation = -1.0,
                                          .saturation_low = 40.0,
                                          .saturation_high = 90.0,
                                          .saturation_z = 6.0,
                                          .dark = 30,
                                          .reflex_luma = 240.0,
                                          .reflex_saturation = 20.0,
                                          .reflex_belt = 200.0,
                                          .open = 1.0,
                                          .close = 3.0,
                                          .hole = 0.02,
                                          .component = 0.0005,
                                          .dilate = 1.0,
                                          .reference = 512.0,
                                          .drift = false,
                                          .strip = 16.0};
}

int ws2_foreground_radius(const struct ws2_foreground_params *params, double radius, int64_t height,
                          int64_t width)
{
    double scale = 1.0;
    if (params->reference > 0.0)
        scale = sqrt((double)height * (double)width) / params->reference;
    return (int)fmin(floor(radius * scale + 0.5), 1e6);
}

double ws2_foreground_saturation(const struct ws2_foreground_params *params, const float saturation[2])
{
    if (params->saturation >= 0.0)
        return params->saturation;
    const double threshold = saturation[0] + params->saturation_z * ROBUST * saturation[1];
    return fmin(fmax(threshold, params->saturation_low), params->saturation_high);
}

/* ---- making ----------------------------------------------------------------------------------------------- */

static int check_params(const struct ws2_foreground_params *p, struct ws2_error *error)
{
    const double real[] = {p->z,
                           p->difference,
                           p->saturation_low,
                           p->saturation_high,
                           p->saturation_z,
                           p->reflex_luma,
                           p->reflex_saturation,
                           p->reflex_belt,
                           p->open,
                           p->close,
                           p->hole,
                           p->component,
                           p->dilate,
                           p->reference,
                           p->strip};
    for (size_t i = 0; i < sizeof real / sizeof *real; i++) {
        if (!(real[i] >= 0.0 && real[i] <= 1e6))
            return ws2_fail(error, WS2_ERR_USAGE, "a foreground parameter is %g: not within 0..1e6", real[i]);
    }
    if (isnan(p->saturation) || p->saturation_low > p->saturation_high)
        return ws2_fail(error, WS2_ERR_USAGE,
                        "the limits of the saturation threshold, %g and %g, are reversed", p->saturation_low,
                        p->saturation_high);
    if (p->dark < 0 || p->dark > 255)
        return ws2_fail(error, WS2_ERR_USAGE, "the darkest level with a saturation is %d: not within 0..255",
                        p->dark);
    return WS2_OK;
}

int mask_check_values(const char *name, const float *value, int64_t count, float least, float most,
                      struct ws2_error *error)
{
    int64_t good = 0;
    for (int64_t i = 0; i < count; i++)
        good += value[i] >= least && value[i] <= most;
    for (int64_t i = 0; good != count && i < count; i++) {
        if (!(value[i] >= least && value[i] <= most))
            return ws2_fail(error, WS2_ERR_INPUT, "belt: %s holds %g: not within %g..%g", name,
                            (double)value[i], (double)least, (double)most);
    }
    return WS2_OK;
}

static int check_belt(const struct ws2_belt *belt, enum ws2_channels channels, struct ws2_error *error)
{
    const int64_t pixels = belt->height * belt->width;
    int status = mask_check_values("luma", belt->luma, pixels, 0.0f, 255.0f, error);
    if (status == WS2_OK)
        status = mask_check_values("scale", belt->scale, pixels, 1e-6f, 1e6f, error);
    if (status == WS2_OK)
        status = mask_check_values("rgb", belt->rgb, 3 * pixels, 0.0f, 255.0f, error);
    if (status == WS2_OK)
        status = mask_check_values("saturation", belt->saturation, 2, 0.0f, 255.0f, error);
    if (status != WS2_OK || channels == WS2_CHANNELS_LUMA)
        return status;
    if (belt->rgb_scale == NULL)
        return ws2_fail(error, WS2_ERR_INPUT, "the belt has no spread by channel");
    return mask_check_values("scale by channel", belt->rgb_scale, 3 * pixels, 1e-6f, 1e6f, error);
}

/* The band of levels that are belt, for one row. gain multiplies it. */
WS2_CLONES
static void make_band(const float *centre, const float *distance, float gain, int64_t count, uint8_t *low,
                      uint8_t *high)
{
    for (int64_t i = 0; i < count; i++) {
        /* Held within 0..255 first, so that cutting the fraction off rounds down. */
        const float bottom = gain * (centre[i] - distance[i]), top = gain * (centre[i] + distance[i]);
        const float from = bottom > 0.0f ? bottom : 0.0f, to = top > 0.0f ? top : 0.0f;
        const int whole = (int)(from < 255.0f ? from : 255.0f);
        low[i] = (uint8_t)(whole + (whole < 255 && from > (float)whole));
        high[i] = (uint8_t)(int)(to < 255.0f ? to : 255.0f);
    }
}

static void make_plane_row(struct ws2_foreground *fg, const struct ws2_belt *belt, int plane, int64_t y,
                           const struct ws2_foreground_params *params, float *centre, float *distance)
{
    const float z = (float)params->z, difference = (float)params->difference;
    if (fg->planes == 1) {
        memcpy(centre, belt->luma + y * fg->width, (size_t)fg->width * sizeof *centre);
        memcpy(distance, belt->scale + y * fg->width, (size_t)fg->width * sizeof *distance);
    }
    for (int64_t x = 0; fg->planes != 1 && x < fg->width; x++) {
        const int64_t c = 3 * (y * fg->width + x) + plane;
        centre[x] = belt->rgb[c];
        distance[x] = belt->rgb_scale[c];
    }
    for (int64_t x = 0; x < fg->width; x++) {
        const float spread = z * distance[x];
        distance[x] = spread > difference ? spread : difference;
    }
}

static void make_planes(struct ws2_foreground *fg, const struct ws2_belt *belt,
                        const struct ws2_foreground_params *params, float *row)
{
    for (int plane = 0; plane < fg->planes; plane++) {
        for (int64_t y = 0; y < fg->height; y++) {
            const int64_t at = (plane * fg->height + y) * fg->stride;
            float *centre = fg->drift ? fg->centre + at : row;
            float *distance = fg->drift ? fg->distance + at : row + fg->stride;
            make_plane_row(fg, belt, plane, y, params, centre, distance);
            make_band(centre, distance, 1.0f, fg->stride, fg->low + at, fg->high + at);
        }
    }
    const float bright = (float)params->reflex_belt;
    for (int64_t y = 0; y < fg->height; y++) {
        const float *luma = belt->luma + y * fg->width;
        for (int64_t x = 0; x < fg->width; x++)
            fg->glare[y * fg->words + x / 64] |= (uint64_t)(luma[x] > bright) << (x % 64);
    }
}

/* The outer pixels of row y are [0, *left) and [*right, width). */
static void strip_row(const struct ws2_foreground *fg, int64_t y, int64_t *left, int64_t *right)
{
    const bool middle = y >= fg->strip && y < fg->height - fg->strip && fg->width > 2 * fg->strip;
    *left = middle ? fg->strip : fg->width;
    *right = middle ? fg->width - fg->strip : fg->width;
}

double mask_counted_median(const int64_t *bin, int bins)
{
    int64_t total = 0, seen = 0;
    for (int i = 0; i < bins; i++)
        total += bin[i];
    int low = -1;
    for (int i = 0; i < bins && total > 0; i++) {
        seen += bin[i];
        if (low < 0 && seen > (total - 1) / 2)
            low = i;
        if (seen > total / 2)
            return 0.5 * (low + i);
    }
    return 0.0;
}

static double belt_strip(const struct ws2_foreground *fg, const struct ws2_belt *belt)
{
    int64_t bin[511] = {0}, left, right;
    for (int64_t y = 0; y < fg->height; y++) {
        strip_row(fg, y, &left, &right);
        for (int64_t x = 0; x < fg->width; x = x + 1 == left ? right : x + 1)
            bin[(int)(2.0f * belt->luma[y * fg->width + x] + 0.5f)]++;
    }
    return 0.5 * mask_counted_median(bin, 511);
}

static int allocate(struct ws2_foreground *fg, struct ws2_error *error)
{
    const size_t rows = (size_t)fg->height * (size_t)fg->planes, stride = (size_t)fg->stride;
    size_t bytes;
    if (!ws2_mul_size(rows, stride, &bytes))
        return ws2_fail(error, WS2_ERR_USAGE, "the belt is too large");
    fg->low = ws2_calloc(bytes, 1);
    fg->high = ws2_calloc(bytes, 1);
    fg->glare = ws2_calloc((size_t)fg->height * (size_t)fg->words, sizeof *fg->glare);
    if (fg->drift) {
        fg->centre = ws2_calloc(bytes, sizeof *fg->centre);
        fg->distance = ws2_calloc(bytes, sizeof *fg->distance);
    }
    if (fg->low == NULL || fg->high == NULL || fg->glare == NULL ||
        (fg->drift && (fg->centre == NULL || fg->distance == NULL)))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the thresholds of a belt");
    return WS2_OK;
}

/* The least whole number above x, or not below x. */
static int above(double x)
{
    return (int)fmin(floor(x) + 1.0, 256.0);
}

static int not_below(double x)
{
    return (int)fmin(ceil(x), 256.0);
}

static void set_numbers(struct ws2_foreground *fg, const struct ws2_belt *belt,
                        const struct ws2_foreground_params *params)
{
    const double pixels = (double)fg->height * (double)fg->width;
    fg->saturated = above(ws2_foreground_saturation(params, belt->saturation));
    fg->colourful = not_below(params->reflex_saturation);
    fg->bright = above(params->reflex_luma);
    fg->dark = params->dark;
    fg->open = ws2_foreground_radius(params, params->open, fg->height, fg->width);
    fg->close = ws2_foreground_radius(params, params->close, fg->height, fg->width);
    fg->dilate = ws2_foreground_radius(params, params->dilate, fg->height, fg->width);
    fg->strip = ws2_foreground_radius(params, params->strip, fg->height, fg->width);
    fg->strip = fg->strip < 1 ? 1 : fg->strip;
    fg->hole = params->hole * pixels;
    fg->component = params->component * pixels;
}

static int fill(struct ws2_foreground *fg, const struct ws2_belt *belt,
                const struct ws2_foreground_params *params, struct ws2_error *error)
{
    const int status = allocate(fg, error);
    if (status != WS2_OK)
        return status;
    float *row = ws2_calloc(2 * (size_t)fg->stride, sizeof *row);
    if (row == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the thresholds of a belt");
    make_planes(fg, belt, params, row);
    free(row);
    set_numbers(fg, belt, params);
    fg->strip_luma = belt_strip(fg, belt);
    return WS2_OK;
}

int ws2_foreground_new(struct ws2_foreground **foreground, const struct ws2_belt *belt,
                       const struct ws2_foreground_params *params, struct ws2_error *error)
{
    *foreground = NULL;
    int status = check_params(params, error);
    if (status == WS2_OK && (belt->height < 1 || belt->width < 1 || belt->width > INT32_MAX - 64))
        status = ws2_fail(error, WS2_ERR_INPUT, "the belt has %lld x %lld pixels", (long long)belt->width,
                          (long long)belt->height);
    if (status == WS2_OK)
        status = check_belt(belt, params->channels, error);
    if (status != WS2_OK)
        return status;
    struct ws2_foreground *fg = ws2_calloc(1, sizeof *fg);
    if (fg == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the thresholds of a belt");
    fg->params = *params;
    fg->height = belt->height;
    fg->width = belt->width;
    fg->words = (belt->width + 63) / 64;
    fg->stride = 64 * fg->words;
    fg->planes = params->channels == WS2_CHANNELS_MAX ? PLANES_MAX : 1;
    fg->drift = params->drift;
    status = fill(fg, belt, params, error);
    if (status != WS2_OK) {
        ws2_foreground_free(fg);
        return status;
    }
    *foreground = fg;
    return WS2_OK;
}

void ws2_foreground_free(struct ws2_foreground *foreground)
{
    if (foreground == NULL)
        return;
    free(foreground->low);
    free(foreground->high);
    free(foreground->centre);
    free(foreground->distance);
    free(foreground->glare);
    free(foreground);
}

struct ws2_foreground_scratch *ws2_foreground_scratch_new(const struct ws2_foreground *foreground)
{
    struct ws2_foreground_scratch *scratch = ws2_calloc(1, sizeof *scratch);
    if (scratch == NULL)
        return NULL;
    scratch->row = ws2_calloc((size_t)foreground->stride, ROWS);
    if (scratch->row != NULL)
        return scratch;
    free(scratch);
    return NULL;
}

void ws2_foreground_scratch_free(struct ws2_foreground_scratch *scratch)
{
    if (scratch == NULL)
        return;
    ws2_bits_free(&scratch->now);
    ws2_bits_free(&scratch->other);
    ws2_bits_scratch_free(&scratch->bits);
    free(scratch->row);
    free(scratch);
}

/* ---- one frame -------------------------------------------------------------------------------------------- */

/* hit = 255 outside the band; `more` adds to what is there. */
static inline __attribute__((always_inline)) void test_band(const uint8_t *value, const uint8_t *low,
                                                            const uint8_t *high, int64_t count, bool more,
                                                            uint8_t *hit)
{
    for (int64_t i = 0; i < count; i++) {
        const uint8_t outside = value[i] < low[i] || value[i] > high[i] ? 255 : 0;
        hit[i] = more ? hit[i] | outside : outside;
    }
}

/* S >= limit is 255 (max - min) + max/2 >= limit * max in whole numbers, which fit 16 bits. */
static inline __attribute__((always_inline)) bool saturation_from(uint8_t red, uint8_t green, uint8_t blue,
                                                                  uint16_t limit, uint8_t dark)
{
    const uint8_t more = red > green ? red : green, less = red > green ? green : red;
    const uint8_t most = more > blue ? more : blue, least = less < blue ? less : blue;
    const uint16_t left = (uint16_t)(255 * (uint16_t)(most - least) + (most >> 1));
    return (left >= (uint16_t)(limit * most)) & (most >= dark);
}

WS2_CLONES
static void test_row(const struct ws2_foreground *fg, const struct mask_row *row, const uint8_t *const *low,
                     const uint8_t *const *high, uint8_t *hit)
{
    const uint8_t *red = row->red, *green = row->green, *blue = row->blue;
    const int64_t count = fg->stride;
    if (fg->planes == 1) {
        test_band(row->luma, low[0], high[0], count, false, hit);
    } else {
        test_band(red, low[0], high[0], count, false, hit);
        test_band(green, low[1], high[1], count, true, hit);
        test_band(blue, low[2], high[2], count, true, hit);
    }
    if (fg->saturated > 255)
        return;
    const uint16_t limit = (uint16_t)fg->saturated;
    const uint8_t dark = (uint8_t)fg->dark;
    for (int64_t i = 0; i < count; i++)
        hit[i] |= saturation_from(red[i], green[i], blue[i], limit, dark) ? 255 : 0;
}

WS2_CLONES
static void test_reflex(const struct ws2_foreground *fg, const struct mask_row *row, uint8_t *reflex)
{
    const uint8_t *red = row->red, *green = row->green, *blue = row->blue, *luma = row->luma;
    const uint16_t limit = (uint16_t)fg->colourful;
    const uint8_t bright = (uint8_t)fg->bright, dark = (uint8_t)fg->dark;
    const int64_t count = fg->stride;
    for (int64_t i = 0; i < count; i++)
        reflex[i] = saturation_from(red[i], green[i], blue[i], limit, dark) ? 0 : 255;
    for (int64_t i = 0; i < count; i++)
        reflex[i] &= luma[i] >= bright ? 255 : 0;
}

static inline uint64_t pack64(const uint8_t *byte)
{
    uint64_t word = 0;
#if defined(__SSE2__)
    for (int i = 0; i < 4; i++)
        word |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(byte + 16 * i)))
                << (16 * i);
#else
    for (int i = 0; i < 64; i++)
        word |= (uint64_t)(byte[i] >> 7) << i;
#endif
    return word;
}

/* Where the rows of a frame come from: packed colours, or planes. */
struct source {
    const uint8_t *rgb;
    const struct mask_row *first;
    int64_t pitch;
};

static struct mask_row load_row(const struct ws2_foreground *fg, struct ws2_foreground_scratch *scratch,
                                const struct source *source, int64_t y)
{
    if (source->rgb == NULL) {
        const int64_t at = y * source->pitch;
        return (struct mask_row){source->first->luma + at, source->first->red + at, source->first->green + at,
                                 source->first->blue + at};
    }
    uint8_t *red = scratch->row + ROW_RED * fg->stride, *green = scratch->row + ROW_GREEN * fg->stride;
    uint8_t *blue = scratch->row + ROW_BLUE * fg->stride, *luma = scratch->row + ROW_LUMA * fg->stride;
    ws2_rgb_planes(source->rgb + 3 * y * fg->width, fg->width, red, green, blue, luma);
    return (struct mask_row){luma, red, green, blue};
}

/* Exposure of the frame over that of the belt; 1 where either is black. */
static float frame_gain(const struct ws2_foreground *fg, struct ws2_foreground_scratch *scratch,
                        const struct source *source)
{
    int64_t bin[256] = {0}, left, right;
    for (int64_t y = 0; y < fg->height; y++) {
        const struct mask_row row = load_row(fg, scratch, source, y);
        strip_row(fg, y, &left, &right);
        for (int64_t x = 0; x < fg->width; x = x + 1 == left ? right : x + 1)
            bin[row.luma[x]]++;
    }
    const double luma = mask_counted_median(bin, 256);
    return luma > 0.0 && fg->strip_luma > 0.0 ? (float)(luma / fg->strip_luma) : 1.0f;
}

/* One row of the mask before morphology. */
static void detect_row(const struct ws2_foreground *fg, struct ws2_foreground_scratch *scratch, int64_t y,
                       const struct mask_row *row, float gain)
{
    const uint8_t *low[PLANES_MAX], *high[PLANES_MAX];
    uint8_t *hit = scratch->row + ROW_HIT * fg->stride, *reflex = scratch->row + ROW_REFLEX * fg->stride;
    for (int c = 0; c < fg->planes; c++) {
        const int64_t at = (c * fg->height + y) * fg->stride;
        low[c] = fg->low + at;
        high[c] = fg->high + at;
        if (fg->drift) {
            uint8_t *bottom = scratch->row + (ROW_LOW + c) * fg->stride;
            uint8_t *top = scratch->row + (ROW_HIGH + c) * fg->stride;
            make_band(fg->centre + at, fg->distance + at, gain, fg->stride, bottom, top);
            low[c] = bottom;
            high[c] = top;
        }
    }
    test_row(fg, row, low, high, hit);
    uint64_t *word = scratch->now.word + y * fg->words;
    const uint64_t *glare = fg->glare + y * fg->words;
    for (int64_t i = 0; i < fg->words; i++)
        word[i] = pack64(hit + 64 * i);
    if (fg->bright < 256 && fg->colourful > 0 && mask_any(glare, fg->words)) {
        test_reflex(fg, row, reflex);
        for (int64_t i = 0; i < fg->words; i++)
            word[i] &= ~(glare[i] & pack64(reflex + 64 * i));
    }
    word[fg->words - 1] &= mask_tail(fg->width);
}

static int clean(const struct ws2_foreground *fg, struct ws2_foreground_scratch *scratch,
                 struct ws2_error *error)
{
    int status = ws2_bits_open(&scratch->now, fg->open, &scratch->bits, error);
    if (status == WS2_OK)
        status = ws2_bits_close(&scratch->now, fg->close, &scratch->bits, error);
    if (status == WS2_OK && fg->hole >= 1.0)
        status = ws2_bits_fill_holes(&scratch->now, fg->hole, &scratch->bits, error);
    if (status == WS2_OK && fg->component > 1.0)
        status = ws2_bits_drop_small(&scratch->now, fg->component, &scratch->bits, error);
    if (status != WS2_OK || fg->dilate == 0)
        return status;
    status = ws2_bits_dilate(&scratch->other, &scratch->now, fg->dilate, &scratch->bits, error);
    const struct ws2_bits swap = scratch->now;
    scratch->now = scratch->other;
    scratch->other = swap;
    return status;
}

static int detect(const struct ws2_foreground *fg, struct ws2_foreground_scratch *scratch,
                  const struct source *source, struct ws2_error *error)
{
    const int status = ws2_bits_reset(&scratch->now, fg->height, fg->width, error);
    if (status != WS2_OK)
        return status;
    const float gain = fg->drift ? frame_gain(fg, scratch, source) : 1.0f;
    for (int64_t y = 0; y < fg->height; y++) {
        const struct mask_row row = load_row(fg, scratch, source, y);
        detect_row(fg, scratch, y, &row, gain);
    }
    return clean(fg, scratch, error);
}

int mask_foreground_planes(const struct ws2_foreground *foreground, struct ws2_foreground_scratch *scratch,
                           const struct mask_row *first, int64_t pitch, struct ws2_error *error)
{
    const struct source source = {NULL, first, pitch};
    return detect(foreground, scratch, &source, error);
}

int ws2_foreground_mask(const struct ws2_foreground *foreground, struct ws2_foreground_scratch *scratch,
                        const uint8_t *rgb, uint8_t *fg, struct ws2_error *error)
{
    const struct source source = {rgb, NULL, 0};
    const int status = detect(foreground, scratch, &source, error);
    if (status == WS2_OK && fg != NULL)
        ws2_bits_to_bytes(&scratch->now, fg);
    return status;
}

struct ws2_bits *ws2_foreground_bits(struct ws2_foreground_scratch *scratch)
{
    return &scratch->now;
}

int ws2_foreground_apply(const struct ws2_foreground *foreground, struct ws2_foreground_scratch *scratch,
                         const struct ws2_apply *apply, const uint8_t *rgb, uint8_t *out,
                         struct ws2_error *error)
{
    const struct ws2_bits *mask = &scratch->now;
    if (apply->what == WS2_APPLY_BELT) {
        const int margin =
            ws2_foreground_radius(&foreground->params, apply->margin, foreground->height, foreground->width);
        const int status = ws2_bits_dilate(&scratch->other, mask, margin, &scratch->bits, error);
        if (status != WS2_OK)
            return status;
        mask = &scratch->other;
    }
    ws2_mask_apply(mask, apply->what == WS2_APPLY_ITEMS, apply->fill, rgb, out);
    return WS2_OK;
}

void ws2_mask_apply(const struct ws2_bits *mask, bool keep, const uint8_t fill[3], const uint8_t *rgb,
                    uint8_t *out)
{
    const uint64_t flip = keep ? 0 : ~(uint64_t)0;
    for (int64_t y = 0; y < mask->height; y++) {
        const uint64_t *word = mask->word + y * mask->stride;
        for (int64_t x = 0; x < mask->width; x++, rgb += 3, out += 3) {
            const bool kept = (word[x / 64] ^ flip) >> (x % 64) & 1;
            for (int c = 0; c < 3; c++)
                out[c] = kept ? rgb[c] : fill[c];
        }
    }
}
