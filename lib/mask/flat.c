/* The flat field of a camera: see mask.h. */
#include "mask/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows are smoothed one by one, columns a strip of lanes at a time. */
enum { PASSES = 4, LANES = 24, CHANNELS = 3 };

static const float LEAST = 4.0f; /* grey levels of a belt that are divided by */
static const double SIDES =
    4.0; /* sigma at most, in sides of the image: all weights are next to equal then */

struct ws2_flat {
    struct ws2_flat_params params;
    int64_t height, width;
    float *gain; /* [h,w,3] */
};

/* ---- parameters ------------------------------------------------------------------------------------------- */

struct ws2_flat_params ws2_flat_defaults(void)
{
    return (struct ws2_flat_params){.sigma = 1.0 / 18.0, .level = 100.0};
}

static bool make_sense(const struct ws2_flat_params *params)
{
    return params->sigma >= 0.0 && params->sigma <= 1e6 && params->level > 0.0 && params->level <= 255.0;
}

/* With as few digits as tell the number from all others. */
static void number_text(double number, char text[32])
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            return;
    }
}

const char *ws2_flat_text(const struct ws2_flat_params *params, char text[WS2_FLAT_TEXT])
{
    char sigma[32], level[32];
    if (params->level == 0.0)
        return strcpy(text, "none");
    number_text(params->sigma, sigma);
    number_text(params->level, level);
    snprintf(text, WS2_FLAT_TEXT, "sigma %s, level %s", sigma, level);
    return text;
}

int ws2_flat_parse(const char *text, struct ws2_flat_params *params)
{
    struct ws2_flat_params found;
    int end = 0;
    *params = (struct ws2_flat_params){0};
    if (strcmp(text, "none") == 0)
        return WS2_OK;
    if (sscanf(text, "sigma %lf, level %lf%n", &found.sigma, &found.level, &end) != 2 || text[end] != '\0' ||
        !make_sense(&found))
        return WS2_ERR_USAGE;
    *params = found;
    return WS2_OK;
}

/* ---- smoothing -------------------------------------------------------------------------------------------- */

/* Lines of n places, each of up to LANES values side by side, under PASSES boxes that make a Gaussian: `radius` whole
 * values to both sides, and the next one with weight `end`, so that the variance is right for any sigma. */
struct smoother {
    int64_t n, radius, reach; /* reach: places that the kernel reaches beyond either end */
    double end, scale;        /* scale: 1 over the weight of a box */
    double *line[2];          /* [n + 2 reach, LANES]: before and after a pass */
    double *weight;           /* [n] of the kernel's part inside the line */
};

/* radius + 1 places at both ends of `from` are 0 and stay so in `to`. */
WS2_CLONES
static void pass(const struct smoother *s, const double *restrict from, double *restrict to, int64_t lanes)
{
    const int64_t last = s->n + 2 * s->reach - s->radius - 1;
    double sum[LANES] = {0};
    for (int64_t i = 0; i <= 2 * s->radius; i++)
        for (int64_t k = 0; k < lanes; k++)
            sum[k] += from[i * lanes + k];
    for (int64_t i = s->radius + 1; i < last; i++) {
        const double *first = from + (i - s->radius - 1) * lanes, *next = from + (i + s->radius) * lanes;
        double *out = to + i * lanes;
        for (int64_t k = 0; k < lanes; k++) {
            sum[k] += next[k] - first[k];
            out[k] = s->scale * (sum[k] + s->end * (first[k] + next[k + lanes]));
        }
    }
}

/* value[n], `step` apart, of `lanes` numbers each, without regard to what lies beyond the ends; NULL: the weights. */
static void smooth_line(struct smoother *s, float *value, int64_t step, int64_t lanes)
{
    const size_t bytes = (size_t)((s->n + 2 * s->reach) * lanes) * sizeof(double);
    double *inside = s->line[0] + s->reach * lanes;
    memset(s->line[0], 0, bytes);
    memset(s->line[1], 0, bytes);
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < lanes; k++)
            inside[i * lanes + k] = value ? (double)value[i * step + k] : 1.0;
    for (int i = 0; i < PASSES; i++)
        pass(s, s->line[i % 2], s->line[1 - i % 2], lanes);
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < lanes; k++) {
            if (value)
                value[i * step + k] = (float)(inside[i * lanes + k] / s->weight[i]);
            else
                s->weight[i] = inside[i];
        }
}

static int smoother_open(struct smoother *s, int64_t n, double sigma, struct ws2_error *error)
{
    const double variance = pow(fmin(sigma, SIDES * (double)n), 2.0) / PASSES; /* of each box */
    const double radius = floor((sqrt(12.0 * variance + 1.0) - 1.0) / 2.0);
    const double rest = variance - radius * (radius + 1.0) / 3.0;
    *s = (struct smoother){.n = n, .radius = (int64_t)radius, .reach = PASSES * ((int64_t)radius + 1)};
    s->end = (2.0 * radius + 1.0) * rest / (2.0 * ((radius + 1.0) * (radius + 1.0) - variance));
    s->scale = 1.0 / (2.0 * radius + 1.0 + 2.0 * s->end);
    for (int i = 0; i < 2; i++)
        s->line[i] = ws2_calloc((size_t)(n + 2 * s->reach), LANES * sizeof(double));
    s->weight = ws2_calloc((size_t)n, sizeof(double));
    if (s->line[0] == NULL || s->line[1] == NULL || s->weight == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory to smooth a belt");
    smooth_line(s, NULL, 0, 1);
    return WS2_OK;
}

static void smoother_close(struct smoother *s)
{
    free(s->line[0]);
    free(s->line[1]);
    free(s->weight);
}

/* field[h,w,3] */
static int smooth(float *field, int64_t height, int64_t width, double sigma, struct ws2_error *error)
{
    const int64_t row = CHANNELS * width;
    struct smoother s;
    int status = smoother_open(&s, width, sigma, error);
    for (int64_t y = 0; status == WS2_OK && y < height; y++)
        smooth_line(&s, field + y * row, CHANNELS, CHANNELS);
    smoother_close(&s);
    if (status != WS2_OK)
        return status;
    status = smoother_open(&s, height, sigma, error);
    for (int64_t x = 0; status == WS2_OK && x < row; x += LANES)
        smooth_line(&s, field + x, row, row - x < LANES ? row - x : LANES);
    smoother_close(&s);
    return status;
}

/* ---- making ----------------------------------------------------------------------------------------------- */

static int check(const struct ws2_belt *belt, const struct ws2_flat_params *params, struct ws2_error *error)
{
    const struct ws2_shape shape = ws2_shape_3(belt->height, belt->width, CHANNELS);
    size_t bytes;
    if (!make_sense(params))
        return ws2_fail(error, WS2_ERR_USAGE,
                        "a flat field of sigma %g and level %g: not within 0..1e6 and above 0 up to 255",
                        params->sigma, params->level);
    if (belt->height < 1 || belt->width < 1 || !ws2_shape_bytes(&shape, WS2_F32, &bytes))
        return ws2_fail(error, WS2_ERR_INPUT, "the belt has %lld x %lld pixels", (long long)belt->width,
                        (long long)belt->height);
    return mask_check_values("rgb", belt->rgb, CHANNELS * belt->height * belt->width, 0.0f, 255.0f, error);
}

static int fill(struct ws2_flat *flat, const float *rgb, struct ws2_error *error)
{
    const size_t count = (size_t)(CHANNELS * flat->height * flat->width);
    flat->gain = ws2_calloc(count, sizeof *flat->gain);
    if (flat->gain == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a flat field");
    memcpy(flat->gain, rgb, count * sizeof *flat->gain);
    const double sigma = flat->params.sigma * (double)flat->height;
    const int status = sigma > 0.0 ? smooth(flat->gain, flat->height, flat->width, sigma, error) : WS2_OK;
    for (size_t i = 0; i < count; i++)
        flat->gain[i] = (float)flat->params.level / fmaxf(flat->gain[i], LEAST);
    return status;
}

int ws2_flat_new(struct ws2_flat **flat, const struct ws2_belt *belt, const struct ws2_flat_params *params,
                 struct ws2_error *error)
{
    *flat = NULL;
    int status = check(belt, params, error);
    if (status != WS2_OK)
        return status;
    struct ws2_flat *made = ws2_calloc(1, sizeof *made);
    if (made == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a flat field");
    *made = (struct ws2_flat){.params = *params, .height = belt->height, .width = belt->width};
    status = fill(made, belt->rgb, error);
    if (status != WS2_OK) {
        ws2_flat_free(made);
        return status;
    }
    *flat = made;
    return WS2_OK;
}

void ws2_flat_free(struct ws2_flat *flat)
{
    if (flat == NULL)
        return;
    free(flat->gain);
    free(flat);
}

const struct ws2_flat_params *ws2_flat_settings(const struct ws2_flat *flat)
{
    return &flat->params;
}

/* ---- one frame -------------------------------------------------------------------------------------------- */

WS2_CLONES
static void multiply(uint8_t *restrict value, const float *restrict gain, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float product = (float)value[i] * gain[i] + 0.5f;
        value[i] = (uint8_t)(int)(product < 255.0f ? product : 255.0f);
    }
}

int ws2_flat_apply(const struct ws2_flat *flat, int64_t height, int64_t width, const uint8_t *rgb,
                   uint8_t *out, struct ws2_error *error)
{
    const size_t count = (size_t)(CHANNELS * flat->height * flat->width);
    if (height != flat->height || width != flat->width)
        return ws2_fail(error, WS2_ERR_INPUT, "a frame of %lldx%lld pixels, but a flat field of %lldx%lld",
                        (long long)width, (long long)height, (long long)flat->width, (long long)flat->height);
    if (out != rgb)
        memcpy(out, rgb, count);
    multiply(out, flat->gain, count);
    return WS2_OK;
}

void ws2_flat_scratch_free(struct ws2_flat_scratch *scratch)
{
    free(scratch->rgb);
    *scratch = (struct ws2_flat_scratch){0};
}

int ws2_flat_frame(const struct ws2_flat *flat, struct ws2_flat_scratch *scratch, int64_t height,
                   int64_t width, const uint8_t **rgb, struct ws2_error *error)
{
    if (flat == NULL)
        return WS2_OK;
    const size_t bytes = (size_t)(CHANNELS * flat->height * flat->width);
    if (ws2_reserve((void **)&scratch->rgb, &scratch->capacity, bytes) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a frame");
    const int status = ws2_flat_apply(flat, height, width, *rgb, scratch->rgb, error);
    *rgb = scratch->rgb;
    return status;
}
