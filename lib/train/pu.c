/* Learning from wanted things and a mixture: see train.h. */
#include "train/internal.h"

#include <math.h>
#include <stdlib.h>

/* ---- losses --------------------------------------------------------------------------------------------------- */

/* weight[B,H,W] = 1 / n at the n pixels of one camera that count, else 0, on the device as z. */
static struct nn_tensor *weights_of(struct nn *nn, struct nn_tensor *z, const uint8_t *keep,
                                    const int64_t *label, int64_t camera)
{
    const int64_t batch = nn_dim(z, 0), pixels = nn_dim(z, 2) * nn_dim(z, 3);
    int64_t n = 0;
    for (int64_t i = 0; i < batch * pixels; i++)
        n += label[i / pixels] == camera && keep[i];
    float *weight = ws2_calloc((size_t)(batch * pixels), sizeof *weight);
    if (weight == NULL)
        return nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    for (int64_t i = 0; i < batch * pixels; i++)
        weight[i] = label[i / pixels] == camera && keep[i] ? (float)(1 / (double)n) : 0;
    struct nn_tensor *tensor = nn_from_f32(nn, nn_shape(z), weight);
    free(weight);
    return tensor;
}

static struct nn_tensor *weighted(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight)
{
    return nn_sum(nn, nn_mul(nn, x, weight));
}

struct ws2_pu_terms ws2_pu_loss(struct nn *nn, struct nn_tensor *z, const uint8_t *keep, const int64_t *label,
                                const struct ws2_pu_options *options)
{
    struct ws2_pu_terms t = {0};
    if (z == NULL)
        return t;
    struct nn_tensor *before = weights_of(nn, z, keep, label, WS2_CLASS_BEFORE);
    struct nn_tensor *after = weights_of(nn, z, keep, label, WS2_CLASS_AFTER);
    struct nn_tensor *as_unwanted = nn_softplus(nn, nn_neg(nn, z)); /* softplus(z) is z more */
    struct nn_tensor *unwanted = weighted(nn, as_unwanted, after);
    t.before = weighted(nn, as_unwanted, before);
    t.wanted = nn_add(nn, unwanted, weighted(nn, z, after));
    t.negative = nn_add_scaled(nn, t.before, unwanted, -options->prior);
    if (options->form == WS2_PU_KIRYO && nn_item(nn, t.negative) < -options->beta)
        t.total = nn_mul_scalar(nn, t.negative, -options->gamma);
    else
        t.total = nn_add_scaled(nn, options->form == WS2_PU_KIRYO ? t.negative : nn_abs(nn, t.negative),
                                t.wanted, options->prior);
    return t;
}

/* sum w x / sum w. */
static struct nn_tensor *mean_of(struct nn *nn, struct nn_tensor *x, const float *weight, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += weight[i];
    return nn_mul_scalar(nn, weighted(nn, x, nn_from_f32(nn, nn_shape(x), weight)), sum > 0 ? 1 / sum : 0);
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

static int measure_batch(struct ws2_scores *scores, struct nn *nn, const struct ws2_segmenter *net,
                         const struct ws2_batch *batch, float *p, struct ws2_error *error)
{
    const size_t pixels = (size_t)batch->size * (size_t)batch->size, count = (size_t)batch->count * pixels;
    nn_scope_begin(nn);
    nn_no_grad_begin(nn);
    struct nn_tensor *z = net->forward(net->model, ws2_batch_images(nn, batch, batch->rgb), false);
    nn_to_f32(nn, nn_sigmoid(nn, z), p, count);
    nn_no_grad_end(nn);
    nn_scope_end(nn);
    const int status = nn_check(nn, error);
    for (size_t i = 0; status >= 0 && i < count; i++) {
        const int64_t camera = batch->label[i / pixels];
        if (!batch->keep[i] || camera > WS2_CLASS_BEFORE)
            continue;
        if (!isfinite(p[i]))
            return ws2_fail(error, WS2_ERR_MODEL, "the network's scores are not finite");
        const int bin = (int)(p[i] * WS2_SCORE_BINS);
        scores->count[camera][bin < WS2_SCORE_BINS ? bin : WS2_SCORE_BINS - 1]++;
        scores->pixels[camera]++;
    }
    return status;
}

int ws2_scores_measure(struct ws2_scores *scores, struct nn *nn, const struct ws2_segmenter *net,
                       struct ws2_loader *loader, struct ws2_error *error)
{
    struct ws2_batch batch;
    const struct ws2_loader_options *o = ws2_loader_settings(loader);
    *scores = (struct ws2_scores){0};
    float *p = ws2_calloc((size_t)o->batch * (size_t)o->size, (size_t)o->size * sizeof *p);
    if (p == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    int status = ws2_loader_start(loader, 0, error);
    while (status >= 0 && (status = ws2_loader_next(loader, &batch, error)) == 1)
        status = measure_batch(scores, nn, net, &batch, p, error);
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

static struct ws2_pu_figures judge(const struct ws2_scores *scores, double prior, int bin)
{
    struct ws2_pu_figures f = {.before = share_from(scores, WS2_CLASS_BEFORE, bin),
                               .after = share_from(scores, WS2_CLASS_AFTER, bin)};
    const double found = f.before - prior * f.after;
    f.recall = found / (1 - prior);
    f.false_positives = f.after;
    f.iou = found / (1 - prior + prior * f.after);
    return f;
}

struct ws2_pu_figures ws2_pu_judge(const struct ws2_scores *scores, double prior, double threshold)
{
    return judge(scores, prior, (int)ceil(threshold * WS2_SCORE_BINS - 1e-9));
}

double ws2_pu_threshold(const struct ws2_scores *scores, double prior)
{
    int best = WS2_SCORE_BINS / 2;
    double most = 0;
    for (int bin = 1; bin < WS2_SCORE_BINS; bin++) {
        const struct ws2_pu_figures f = judge(scores, prior, bin);
        const double wrong = prior * f.after, iou = fmin(f.before - wrong, 1 - prior) / (1 - prior + wrong);
        if (iou > most) {
            most = iou;
            best = bin;
        }
    }
    return (double)best / WS2_SCORE_BINS;
}
