/* Learning from wanted things and a mixture: see train.h. */
#include "train/internal.h"

#include <math.h>
#include <stdlib.h>

/* ---- pixels --------------------------------------------------------------------------------------------------- */

/* weight[B,H,W] = 1 / n at the n pixels that one camera saw, else 0, on the device as z. */
static struct nn_tensor *weights_of(struct nn *nn, struct nn_tensor *z, const uint8_t *keep,
                                    enum ws2_class camera)
{
    const size_t count = (size_t)nn_count(z);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += keep[i] == 1 + camera;
    float *weight = ws2_calloc(count, sizeof *weight);
    if (weight == NULL)
        return nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        weight[i] = keep[i] == 1 + camera ? (float)(1 / (double)n) : 0;
    struct nn_tensor *tensor = nn_from_f32(nn, nn_shape(z), weight);
    free(weight);
    return tensor;
}

static struct nn_tensor *weighted(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight)
{
    return nn_sum(nn, nn_mul(nn, x, weight));
}

struct ws2_pu_terms ws2_pu_loss(struct nn *nn, struct nn_tensor *z, const uint8_t *keep,
                                const struct ws2_pu_options *options)
{
    struct ws2_pu_terms t = {0};
    if (z == NULL)
        return t;
    struct nn_tensor *before = weights_of(nn, z, keep, WS2_CLASS_BEFORE);
    struct nn_tensor *after = weights_of(nn, z, keep, WS2_CLASS_AFTER);
    struct nn_tensor *as_unwanted = nn_softplus(nn, nn_neg(nn, z)); /* softplus(z) is z more */
    struct nn_tensor *unwanted = weighted(nn, as_unwanted, after);
    t.before = weighted(nn, as_unwanted, before);
    t.wanted = nn_add(nn, unwanted, weighted(nn, z, after));
    t.negative = nn_add_scaled(nn, t.before, unwanted, -options->prior);
    if (options->form == WS2_PU_PLAIN)
        t.total = nn_add(nn, t.wanted, t.before);
    else if (options->form == WS2_PU_KIRYO && nn_item(nn, t.negative) < -options->beta)
        t.total = nn_mul_scalar(nn, t.negative, -options->gamma);
    else
        t.total = nn_add_scaled(nn, options->form == WS2_PU_KIRYO ? t.negative : nn_abs(nn, t.negative),
                                t.wanted, options->prior);
    return t;
}

/* ---- frames --------------------------------------------------------------------------------------------------- */

/* The k-th largest of n values (Hoare's selection), which change places; 1 <= k <= n. */
static float kth_largest(float *value, size_t n, size_t k)
{
    size_t first = 0, last = n - 1;
    const size_t place = k - 1;
    while (first < last) {
        const float pivot = value[first + (last - first) / 2];
        size_t i = first, j = last;
        for (;;) {
            while (value[i] > pivot)
                i++;
            while (value[j] < pivot)
                j--;
            if (i >= j)
                break;
            const float other = value[i];
            value[i++] = value[j];
            value[j--] = other;
        }
        if (place <= j)
            last = j;
        else
            first = j + 1;
    }
    return value[place];
}

/* weight[pixels] = 1/k at the k pixels with the largest z of those that have `mark`, k a share of them, of equal ones
 * the first; false where too few have it to tell anything. sorted: room for pixels values. */
static bool mark_top(const float *z, const uint8_t *keep, uint8_t mark, size_t pixels, double share,
                     float *sorted, float *weight)
{
    size_t n = 0;
    for (size_t i = 0; i < pixels; i++)
        if (keep[i] == mark)
            sorted[n++] = z[i];
    if (n == 0 || (double)n < WS2_FRAME_LEAST * (double)pixels)
        return false;
    const size_t k = share * (double)n < 1 ? 1 : (size_t)(share * (double)n);
    const float least = kth_largest(sorted, n, k), one = (float)(1 / (double)k);
    size_t equal = k; /* places left for those that are as large as the least */
    for (size_t i = 0; i < pixels; i++)
        equal -= keep[i] == mark && z[i] > least;
    for (size_t i = 0; i < pixels; i++) {
        const bool in = keep[i] == mark && (z[i] > least || (z[i] == least && equal > 0));
        equal -= in && z[i] == least;
        weight[i] = in ? one : 0;
    }
    return true;
}

/* Of z on the host, each picture's weights for the mean over its top, and in factor 1 or -1 over the number of pictures
 * that count, 0 for the others. */
static void find_tops(const float *z, const struct ws2_frames *frames, size_t pixels, float *sorted,
                      float *weight, float *sign, float *factor)
{
    int64_t pictures = 0;
    for (int64_t b = 0; b < frames->count; b++) {
        const size_t at = (size_t)b * pixels;
        const bool counts = mark_top(z + at, frames->keep + at, (uint8_t)(1 + frames->label[b]), pixels,
                                     frames->share, sorted, weight + at);
        sign[b] = frames->label[b] == WS2_CLASS_BEFORE ? -1 : 1;
        factor[b] = counts;
        pictures += counts;
    }
    for (int64_t b = 0; b < frames->count && pictures > 0; b++)
        factor[b] /= (float)pictures;
}

struct nn_tensor *ws2_frame_loss(struct nn *nn, struct nn_tensor *z, const struct ws2_frames *frames)
{
    if (z == NULL)
        return NULL;
    const size_t count = (size_t)nn_count(z), pixels = count / (size_t)frames->count;
    const struct ws2_shape each = ws2_shape_1(frames->count);
    float *value = ws2_calloc(2 * count + pixels + 2 * (size_t)frames->count, sizeof *value);
    if (value == NULL)
        return nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    float *weight = value + count, *sorted = weight + count, *sign = sorted + pixels,
          *factor = sign + frames->count;
    struct nn_tensor *loss = NULL;
    if (nn_to_f32(nn, z, value, count) >= 0) {
        find_tops(value, frames, pixels, sorted, weight, sign, factor);
        struct nn_tensor *top =
            nn_sum_axes(nn, nn_mul(nn, z, nn_from_f32(nn, nn_shape(z), weight)), nn_axes_3(1, 2, 3), false);
        loss = weighted(nn, nn_softplus(nn, nn_mul(nn, top, nn_from_f32(nn, each, sign))),
                        nn_from_f32(nn, each, factor));
    }
    free(value);
    return loss;
}

/* sum w x / sum w. */
static struct nn_tensor *mean_of(struct nn *nn, struct nn_tensor *x, const float *weight, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += weight[i];
    return nn_mul_scalar(nn, weighted(nn, x, nn_from_f32(nn, nn_shape(x), weight)), sum > 0 ? 1 / sum : 0);
}

struct nn_tensor *ws2_labels_loss(struct nn *nn, struct nn_tensor *z, const uint8_t *keep,
                                  const uint8_t *label)
{
    if (z == NULL)
        return NULL;
    const size_t count = (size_t)nn_count(z);
    float *known = ws2_calloc(2 * count, sizeof *known), *wanted = known + count;
    if (known == NULL)
        return nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += keep[i] && label[i] <= 1;
    for (size_t i = 0; i < count; i++) {
        known[i] = keep[i] && label[i] <= 1 ? (float)(1 / (double)n) : 0;
        wanted[i] = label[i] == 0 ? known[i] : 0;
    }
    struct nn_tensor *as_unwanted = nn_softplus(nn, nn_neg(nn, z)); /* softplus(z) is z more */
    struct nn_tensor *loss = nn_add(nn, weighted(nn, as_unwanted, nn_from_f32(nn, nn_shape(z), known)),
                                    weighted(nn, z, nn_from_f32(nn, nn_shape(z), wanted)));
    free(known);
    return loss;
}

struct nn_tensor *ws2_balanced_loss(struct nn *nn, struct nn_tensor *z, const float *wanted,
                                    const float *unwanted)
{
    if (z == NULL)
        return NULL;
    const size_t count = (size_t)nn_count(z);
    struct nn_tensor *a = mean_of(nn, nn_softplus(nn, z), wanted, count);
    struct nn_tensor *b = mean_of(nn, nn_softplus(nn, nn_neg(nn, z)), unwanted, count);
    return nn_mul_scalar(nn, nn_add(nn, a, b), 0.5);
}

/* ---- scores --------------------------------------------------------------------------------------------------- */

/* Counts the pixels of a batch: by their label where the loader gives labels, else by their camera. */
static int count_batch(struct ws2_scores *scores, const struct ws2_batch *batch, const float *p,
                       struct ws2_error *error)
{
    const size_t count = (size_t)batch->count * (size_t)batch->size * (size_t)batch->size;
    for (size_t i = 0; i < count; i++) {
        const int kind = batch->seeds ? batch->seeds[i] : batch->keep[i] - 1;
        if (!batch->keep[i] || kind > 1)
            continue;
        if (!isfinite(p[i]))
            return ws2_fail(error, WS2_ERR_MODEL, "the network's scores are not finite");
        const int bin = (int)(p[i] * WS2_SCORE_BINS);
        scores->count[kind][bin < WS2_SCORE_BINS ? bin : WS2_SCORE_BINS - 1]++;
        scores->pixels[kind]++;
    }
    return WS2_OK;
}

int ws2_scores_add(struct ws2_scores *scores, const struct ws2_scorer *scorer, struct ws2_loader *loader,
                   struct ws2_error *error)
{
    struct ws2_batch batch;
    const struct ws2_loader_options *o = ws2_loader_settings(loader);
    float *p = ws2_calloc((size_t)o->batch * (size_t)o->size, (size_t)o->size * sizeof *p);
    if (p == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    int status = ws2_loader_start(loader, 0, error);
    while (status >= 0 && (status = ws2_loader_next(loader, &batch, error)) == 1) {
        status = scorer->score(scorer->context, &batch, p, error);
        if (status >= 0)
            status = count_batch(scores, &batch, p, error);
    }
    free(p);
    return status;
}

double ws2_scores_quantile(const struct ws2_scores *scores, enum ws2_class camera, double share)
{
    const double wanted = share * (double)scores->pixels[camera];
    int64_t below = 0;
    int bin = 0;
    while (bin < WS2_SCORE_BINS && (double)(below + scores->count[camera][bin]) <= wanted)
        below += scores->count[camera][bin++];
    return (double)bin / WS2_SCORE_BINS;
}

/* ---- figures -------------------------------------------------------------------------------------------------- */

/* The share of a camera's pixels in bins from `bin` on. */
static double share_from(const struct ws2_scores *scores, enum ws2_class camera, int bin)
{
    int64_t n = 0;
    for (int i = bin; i < WS2_SCORE_BINS; i++)
        n += scores->count[camera][i];
    return scores->pixels[camera] > 0 ? (double)n / (double)scores->pixels[camera] : 0;
}

static void find_shares(const struct ws2_scores *scores, int bin, double *before, double *after)
{
    *before = share_from(scores, WS2_CLASS_BEFORE, bin);
    *after = share_from(scores, WS2_CLASS_AFTER, bin);
}

static struct ws2_pu_figures judge(const struct ws2_scores *scores, double prior, int bin)
{
    struct ws2_pu_figures f = {0};
    find_shares(scores, bin, &f.before, &f.after);
    const double found = f.before - prior * f.after;
    f.recall = found / (1 - prior);
    f.false_positives = f.after;
    f.iou = found / (1 - prior + prior * f.after);
    return f;
}

/* The bin that a threshold stands for. */
static int bin_of(double threshold)
{
    return (int)ceil(threshold * WS2_SCORE_BINS - 1e-9);
}

struct ws2_pu_figures ws2_pu_judge(const struct ws2_scores *scores, double prior, double threshold)
{
    struct ws2_pu_figures f = judge(scores, prior, bin_of(threshold));
    for (int bin = 0; bin < WS2_SCORE_BINS; bin++) {
        const struct ws2_pu_figures there = judge(scores, prior, bin);
        if (there.false_positives <= WS2_PU_CLEAN)
            f.most = fmax(f.most, there.recall);
    }
    return f;
}

/* The threshold whose bin has the largest value; the lowest of equal ones; 1/2 where none is above 0. */
static double best_threshold(const struct ws2_scores *scores, double prior,
                             double (*value)(const struct ws2_scores *scores, double prior, int bin))
{
    int best = WS2_SCORE_BINS / 2;
    double most = 0;
    for (int bin = 1; bin < WS2_SCORE_BINS; bin++) {
        const double now = value(scores, prior, bin);
        if (now > most) {
            most = now;
            best = bin;
        }
    }
    return (double)best / WS2_SCORE_BINS;
}

/* A recall above 1 counts as 1. */
static double estimated_iou(const struct ws2_scores *scores, double prior, int bin)
{
    const struct ws2_pu_figures f = judge(scores, prior, bin);
    const double wrong = prior * f.after;
    return fmin(f.before - wrong, 1 - prior) / (1 - prior + wrong);
}

/* The same, but nothing where more is marked after the sorter than can be right. */
static double clean_iou(const struct ws2_scores *scores, double prior, int bin)
{
    return share_from(scores, WS2_CLASS_AFTER, bin) <= WS2_PU_CLEAN ? estimated_iou(scores, prior, bin) : 0;
}

double ws2_pu_threshold(const struct ws2_scores *scores, double prior)
{
    const bool possible = share_from(scores, WS2_CLASS_AFTER, WS2_SCORE_BINS - 1) <= WS2_PU_CLEAN;
    return best_threshold(scores, prior, possible ? clean_iou : estimated_iou);
}

const char ws2_pu_plausible[] = "plausible";

const char *ws2_pu_verdict(const struct ws2_pu_figures *figures)
{
    if (figures->most > WS2_PU_MOST)
        return "recall far above 1 cannot be: the network tells the cameras apart; "
               "try --flat-field, a smaller --reach or more clips";
    if (figures->false_positives > WS2_PU_CLEAN)
        return "wanted items after the sorter are marked as well: try more epochs or more clips";
    if (figures->recall < WS2_PU_LITTLE)
        return "little is found: the sorter misses much, or clips are too few";
    return ws2_pu_plausible;
}

/* Of labels nothing needs to be estimated. */
static double iou_of_labels(const struct ws2_scores *scores, double prior, int bin)
{
    double unwanted, wanted;
    (void)prior;
    find_shares(scores, bin, &unwanted, &wanted);
    const double u = (double)scores->pixels[1], w = (double)scores->pixels[0];
    return u > 0 ? unwanted * u / (u + wanted * w) : 0;
}

double ws2_labels_threshold(const struct ws2_scores *scores)
{
    return best_threshold(scores, 0, iou_of_labels);
}

struct ws2_pu_figures ws2_labels_judge(const struct ws2_scores *scores, double threshold)
{
    struct ws2_pu_figures f = {0};
    find_shares(scores, bin_of(threshold), &f.before, &f.after);
    f.recall = f.most = f.before;
    f.false_positives = f.after;
    f.iou = iou_of_labels(scores, 0, bin_of(threshold));
    return f;
}
