/* The dense conditional random field: see mask.h. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "mask/internal.h"
#include "mask/lattice.h"

/* One pairwise kernel of a picture. */
struct kernel {
    struct lattice lattice;
    float weight;
    float *norm; /* [pixels] n_i */
    float *ones; /* [pixels] sum_j K'_ij */
    size_t norm_capacity, ones_capacity;
};

enum { SPACE, BILATERAL, KERNELS };

struct ws2_crf {
    struct kernel kernel[KERNELS];
    bool exact;
    int64_t height, width; /* of the space kernel, which depends on nothing else */
    double space;          /* its deviation; 0: not built */
    float *feature; /* [7,pixels]: when exact, two of the first kernel and five of the second; else shared */
    float *scaled, *message; /* [pixels] n Q of one label; K' Q */
    float *energy, *next;    /* [labels,pixels] of the unaries; and with all messages */
    size_t feature_capacity, scaled_capacity, message_capacity, energy_capacity, next_capacity;
};

void ws2_crf_free(struct ws2_crf *crf)
{
    if (crf == NULL)
        return;
    for (int k = 0; k < KERNELS; k++) {
        lattice_free(&crf->kernel[k].lattice);
        free(crf->kernel[k].norm);
        free(crf->kernel[k].ones);
    }
    free(crf->feature);
    free(crf->scaled);
    free(crf->message);
    free(crf->next);
    free(crf->energy);
    free(crf);
}

/* ---- kernels ------------------------------------------------------------------------------------------------ */

/* Pixels divided by the deviations: x, y and, with a picture, r, g, b. */
static void find_features(float *feature, const uint8_t *rgb, int64_t height, int64_t width, double place,
                          double colour)
{
    const int64_t pixels = height * width;
    const float step = (float)place, level = (float)colour;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            feature[y * width + x] = (float)x / step;
            feature[pixels + y * width + x] = (float)y / step;
        }
    for (int c = 0; c < 3 && rgb != NULL; c++)
        for (int64_t i = 0; i < pixels; i++)
            feature[(2 + c) * pixels + i] = (float)rgb[3 * i + c] / level;
}

/* sum over j of exp(-|f_i - f_j|^2 / 2) in_j, term by term. */
WS2_CLONES
static void sum_exactly(const float *feature, int axes, int64_t points, const float *in, float *out)
{
    for (int64_t i = 0; i < points; i++) {
        double sum = 0;
        for (int64_t j = 0; j < points; j++) {
            float square = 0;
            for (int a = 0; a < axes; a++) {
                const float step = feature[a * points + i] - feature[a * points + j];
                square += step * step;
            }
            sum += (double)(expf(-0.5f * square) * in[j]);
        }
        out[i] = (float)sum;
    }
}

static void filter(struct ws2_crf *crf, int which, int64_t pixels, const float *in, float *out)
{
    if (crf->exact)
        sum_exactly(crf->feature + (which == SPACE ? 0 : 2 * pixels), which == SPACE ? 2 : 5, pixels, in,
                    out);
    else
        lattice_filter(&crf->kernel[which].lattice, in, out);
}

/* out = K' in. */
static void apply(struct ws2_crf *crf, int which, int64_t pixels, const float *in, float *out)
{
    const float *norm = crf->kernel[which].norm;
    for (int64_t i = 0; i < pixels; i++)
        crf->scaled[i] = norm[i] * in[i];
    filter(crf, which, pixels, crf->scaled, out);
    for (int64_t i = 0; i < pixels; i++)
        out[i] *= norm[i];
}

/* n, from the sum of K, and the sum of K'. */
static int find_norm(struct ws2_crf *crf, int which, int64_t pixels, struct ws2_error *error)
{
    struct kernel *kernel = &crf->kernel[which];
    const size_t bytes = (size_t)pixels * sizeof(float);
    if (ws2_reserve((void **)&kernel->norm, &kernel->norm_capacity, bytes) != 0 ||
        ws2_reserve((void **)&kernel->ones, &kernel->ones_capacity, bytes) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a picture of %lld pixels", (long long)pixels);
    for (int64_t i = 0; i < pixels; i++)
        crf->message[i] = 1;
    filter(crf, which, pixels, crf->message, kernel->norm);
    for (int64_t i = 0; i < pixels; i++)
        kernel->norm[i] = 1.0f / sqrtf(kernel->norm[i] + 1e-20f);
    apply(crf, which, pixels, crf->message, kernel->ones);
    return 0;
}

/* Exact sums need the features of both kernels to the end, a lattice none once it is built. */
static int build(struct ws2_crf *crf, int which, const uint8_t *rgb, int64_t height, int64_t width,
                 double place, double colour, struct ws2_error *error)
{
    const int64_t pixels = height * width;
    float *feature = crf->feature + (crf->exact && which == BILATERAL ? 2 * pixels : 0);
    find_features(feature, rgb, height, width, place, colour);
    int status = 0;
    if (!crf->exact)
        status = lattice_build(&crf->kernel[which].lattice, feature, rgb ? 5 : 2, pixels, error);
    return status < 0 ? status : find_norm(crf, which, pixels, error);
}

static int build_kernels(struct ws2_crf *crf, const struct ws2_crf_params *params, const uint8_t *rgb,
                         int64_t height, int64_t width, struct ws2_error *error)
{
    crf->kernel[SPACE].weight = (float)params->space_weight;
    crf->kernel[BILATERAL].weight = (float)params->bilateral_weight;
    const bool kept = !crf->exact && !params->exact && crf->space == params->space && crf->height == height &&
                      crf->width == width;
    crf->exact = params->exact;
    int status = 0;
    if (params->space_weight != 0 && !kept) {
        status = build(crf, SPACE, NULL, height, width, params->space, 1, error);
        crf->space = status == 0 ? params->space : 0;
        crf->height = height;
        crf->width = width;
    }
    if (status == 0 && params->bilateral_weight != 0)
        status = build(crf, BILATERAL, rgb, height, width, params->bilateral, params->colour, error);
    return status;
}

/* ---- mean field --------------------------------------------------------------------------------------------- */

/* exp(x) for x within -87 .. 0, to two units in the last place (the polynomial of Cephes): the same on every processor, and
 * many at a time. */
static inline float exp_below(float x)
{
    const int32_t power = (int32_t)(x * 1.44269504f - 0.5f); /* the nearest: what is cut off lies towards 0 */
    const float n = (float)power, r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * r + 1.3981999507e-3f;
    sum = sum * r + 8.3334519073e-3f;
    sum = sum * r + 4.1665795894e-2f;
    sum = sum * r + 1.6666665459e-1f;
    sum = sum * r + 5.0000001201e-1f;
    const int32_t bits = (power + 127) << 23; /* 2^power */
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return (sum * (r * r) + r + 1) * scale;
}

enum { BLOCK = 256 }; /* pixels whose sums stay in cache */

/* q = softmax over the labels of -energy; both [labels,pixels], for the `count` pixels from here. */
WS2_CLONES
static void soften_block(const float *restrict energy, int labels, int64_t pixels, int count,
                         float *restrict q)
{
    float low[BLOCK], sum[BLOCK] = {0};
    memcpy(low, energy, (size_t)count * sizeof *low);
    for (int l = 1; l < labels; l++)
        for (int i = 0; i < count; i++)
            low[i] = energy[l * pixels + i] < low[i] ? energy[l * pixels + i] : low[i];
    for (int l = 0; l < labels; l++) {
        float *own = q + l * pixels;
        for (int i = 0; i < count;
             i++) { /* a loop of its own: the choice would keep the next from being vectorised */
            const float below = low[i] - energy[l * pixels + i];
            own[i] = below > -87 ? below : -87;
        }
        for (int i = 0; i < count; i++) {
            own[i] = exp_below(own[i]);
            sum[i] += own[i];
        }
    }
    for (int l = 0; l < labels; l++)
        for (int i = 0; i < count; i++)
            q[l * pixels + i] /= sum[i];
}

static void soften(const float *energy, int labels, int64_t pixels, float *q)
{
    for (int64_t i = 0; i < pixels; i += BLOCK)
        soften_block(energy + i, labels, pixels, pixels - i < BLOCK ? (int)(pixels - i) : BLOCK, q + i);
}

/* energy -= weight * K' q for every label. The messages of all labels sum to that of ones, so the first label needs
 * no filter of its own. */
static void add_messages(struct ws2_crf *crf, int which, const float *q, int labels, int64_t pixels,
                         float *energy)
{
    const struct kernel *kernel = &crf->kernel[which];
    for (int64_t i = 0; i < pixels; i++)
        energy[i] -= kernel->weight * kernel->ones[i];
    for (int l = 1; l < labels; l++) {
        float *own = energy + l * pixels;
        apply(crf, which, pixels, q + l * pixels, crf->message);
        for (int64_t i = 0; i < pixels; i++) {
            own[i] -= kernel->weight * crf->message[i];
            energy[i] += kernel->weight * crf->message[i];
        }
    }
}

WS2_CLONES
static bool all_finite(const float *value, int64_t count)
{
    int32_t strange = 0;
    for (int64_t i = 0; i < count; i++)
        strange |= !(fabsf(value[i]) <= FLT_MAX);
    return !strange;
}

static int check(const struct ws2_crf_params *params, int64_t height, int64_t width, const float *unary,
                 int labels, struct ws2_error *error)
{
    const double most = INT32_MAX / 8;
    if (labels < 1 || labels > WS2_CRF_LABELS_MAX || params->iterations < 0 || height < 0 || width < 0 ||
        (double)height * (double)width > most)
        return ws2_fail(error, WS2_ERR_USAGE,
                        "%d labels, %d iterations, a picture of %lldx%lld: not possible", labels,
                        params->iterations, (long long)width, (long long)height);
    if (!isfinite(params->space_weight) || !isfinite(params->bilateral_weight) ||
        (params->space_weight != 0 && !(params->space > 0)) ||
        (params->bilateral_weight != 0 && !(params->bilateral > 0 && params->colour > 0)))
        return ws2_fail(error, WS2_ERR_USAGE, "deviations must be above 0, weights finite");
    if (params->exact && height * width > WS2_CRF_EXACT_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "exact sums are for pictures of up to %d pixels",
                        WS2_CRF_EXACT_MAX);
    return all_finite(unary, labels * height * width)
               ? 0
               : ws2_fail(error, WS2_ERR_INPUT, "a unary that is not finite");
}

static int reserve(struct ws2_crf *crf, int64_t pixels, int labels, struct ws2_error *error)
{
    const size_t plane = (size_t)pixels * sizeof(float);
    if (ws2_reserve((void **)&crf->feature, &crf->feature_capacity, 7 * plane) != 0 ||
        ws2_reserve((void **)&crf->scaled, &crf->scaled_capacity, plane) != 0 ||
        ws2_reserve((void **)&crf->message, &crf->message_capacity, plane) != 0 ||
        ws2_reserve((void **)&crf->energy, &crf->energy_capacity, (size_t)labels * plane) != 0 ||
        ws2_reserve((void **)&crf->next, &crf->next_capacity, (size_t)labels * plane) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a picture of %lld pixels", (long long)pixels);
    return 0;
}

int ws2_crf_run(struct ws2_crf **kept, const struct ws2_crf_params *params, const uint8_t *rgb,
                int64_t height, int64_t width, const float *unary, int labels, float *q,
                struct ws2_error *error)
{
    const int64_t pixels = height * width;
    int status = check(params, height, width, unary, labels, error);
    if (status < 0)
        return status;
    if (*kept == NULL && (*kept = ws2_calloc(1, sizeof **kept)) == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    struct ws2_crf *crf = *kept;
    status = reserve(crf, pixels, labels, error);
    if (status == 0)
        status = build_kernels(crf, params, rgb, height, width, error);
    if (status < 0)
        return status;
    const size_t bytes = (size_t)labels * (size_t)pixels * sizeof *unary;
    memcpy(crf->energy, unary, bytes); /* q may be unary */
    soften(crf->energy, labels, pixels, q);
    for (int n = 0; n < params->iterations; n++) {
        memcpy(crf->next, crf->energy, bytes);
        if (params->space_weight != 0)
            add_messages(crf, SPACE, q, labels, pixels, crf->next);
        if (params->bilateral_weight != 0)
            add_messages(crf, BILATERAL, q, labels, pixels, crf->next);
        soften(crf->next, labels, pixels, q);
    }
    return 0;
}

/* ---- unaries ------------------------------------------------------------------------------------------------ */

/* map = cam divided by its maximum; negative values and maps without a positive one are 0. */
static bool read_map(const uint16_t *cam, size_t pixels, float *map)
{
    float high = 0;
    bool finite = true;
    ws2_half_to_floats(map, cam, pixels);
    for (size_t i = 0; i < pixels; i++) {
        finite &= isfinite(map[i]) != 0;
        high = fmaxf(high, map[i]);
    }
    for (size_t i = 0; i < pixels; i++)
        map[i] = map[i] > 0 ? map[i] / high : 0;
    return finite;
}

int ws2_crf_probability(const uint16_t *cam, int64_t classes, size_t pixels, int target, double gamma,
                        float *probability, struct ws2_error *error)
{
    const int64_t labels = target < 0 ? classes : 2;
    bool finite = true;
    if (target >= classes || !(gamma > 0))
        return ws2_fail(error, WS2_ERR_INPUT, "class %d of %lld, exponent %g: not possible", target,
                        (long long)classes, gamma);
    for (int64_t l = 0; l < classes && target < 0; l++)
        finite &= read_map(cam + (size_t)l * pixels, pixels, probability + (size_t)l * pixels);
    if (target >= 0)
        finite = read_map(cam + (size_t)target * pixels, pixels, probability + pixels);
    if (!finite)
        return ws2_fail(error, WS2_ERR_INPUT, "a class map holds a value that is not finite");
    for (size_t i = 0; i < pixels && target >= 0; i++)
        probability[i] = powf(1 - probability[pixels + i], (float)gamma);
    for (size_t i = 0; i < pixels; i++) {
        float sum = 1e-8f;
        for (int64_t l = 0; l < labels; l++)
            sum += probability[(size_t)l * pixels + i];
        for (int64_t l = 0; l < labels; l++)
            probability[(size_t)l * pixels + i] /= sum;
    }
    return 0;
}

void ws2_crf_unary_probability(const float *probability, size_t count, float *unary)
{
    for (size_t i = 0; i < count; i++)
        unary[i] = -logf(fminf(fmaxf(probability[i], 1e-5f), 1));
}

int ws2_crf_unary_label(const uint8_t *label, size_t pixels, int labels, double sure, float *unary,
                        struct ws2_error *error)
{
    if (labels < 2 || !(sure > 0 && sure < 1))
        return ws2_fail(error, WS2_ERR_USAGE, "%d labels, sure to %g: not possible", labels, sure);
    const float own = (float)-log(sure), other = (float)-log((1 - sure) / (labels - 1));
    for (size_t i = 0; i < pixels; i++)
        if (label[i] >= labels)
            return ws2_fail(error, WS2_ERR_INPUT, "label %d of %d", label[i], labels);
    for (int l = 0; l < labels; l++)
        for (size_t i = 0; i < pixels; i++)
            unary[(size_t)l * pixels + i] = label[i] == l ? own : other;
    return 0;
}
