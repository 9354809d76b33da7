/* Pixels, round by round: see dense.h. */
#include "models/dense.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void dense_quantiles(double prior, double *low, double *high)
{
    *low = 0.775 * prior;
    *high = prior + 0.485 * (1 - prior);
}

void dense_round_close(struct dense_round *round)
{
    fpn_close(&round->fpn);
    *round = (struct dense_round){0};
}

static struct nn_tensor *forward(void *model, struct nn_tensor *images, bool training)
{
    return fpn_forward(model, images, training);
}

static struct ws2_segmenter segmenter_of(const struct fpn *fpn)
{
    return (struct ws2_segmenter){(void *)fpn, fpn->params, forward};
}

int dense_shares(struct ws2_loader *loader, double share[2], struct ws2_error *error)
{
    struct ws2_batch batch;
    double kept[2] = {0}, pixels[2] = {0};
    int status = ws2_loader_start(loader, 0, error);
    while (status >= 0 && (status = ws2_loader_next(loader, &batch, error)) == 1)
        for (int i = 0; i < batch.count; i++) {
            const size_t size = (size_t)batch.size * (size_t)batch.size;
            const uint8_t *keep = batch.keep + (size_t)i * size;
            size_t n = 0;
            for (size_t k = 0; k < size; k++)
                n += keep[k];
            kept[batch.label[i]] += (double)n;
            pixels[batch.label[i]] += (double)size;
        }
    for (int camera = 0; camera < 2; camera++)
        share[camera] = pixels[camera] > 0 ? kept[camera] / pixels[camera] : 0;
    return status;
}

/* ---- what is learnt ------------------------------------------------------------------------------------------- */

/* A network at work, and what it learns from. */
struct learner {
    const struct fpn *fpn, *teacher; /* teacher: NULL in the first round */
    const struct ws2_pu_options *pu;
    double low, high; /* probabilities of the teacher that are taken for wanted, unwanted */
    float *probability, *wanted, *unwanted; /* of a batch */
    size_t probability_capacity, wanted_capacity, unwanted_capacity;
};

static struct nn_tensor *learn_mixture(void *context, const struct ws2_batch *batch,
                                       const struct ws2_moment *moment, struct nn_tensor *part[WS2_PARTS_MAX],
                                       struct ws2_tally *tally)
{
    struct learner *l = context;
    struct nn *nn = nn_params_context(l->fpn->params);
    (void)tally; /* nobody knows what is right */
    struct nn_tensor *z = fpn_forward(l->fpn, ws2_batch_images(nn, batch, batch->rgb), moment->training);
    const struct ws2_pu_terms terms = ws2_pu_loss(nn, z, batch->keep, batch->label, l->pu);
    part[0] = terms.before;
    part[1] = terms.wanted;
    part[2] = terms.negative;
    return terms.total;
}

/* What the teacher is sure of, as weights. */
static void weigh(struct learner *l, const struct ws2_batch *batch, size_t count)
{
    const size_t pixels = (size_t)batch->size * (size_t)batch->size;
    for (size_t i = 0; i < count; i++) {
        const bool before = batch->label[i / pixels] == WS2_CLASS_BEFORE;
        const float p = l->probability[i];
        l->wanted[i] = !batch->keep[i] ? 0 : before ? p < l->low : 0.5f;
        l->unwanted[i] = batch->keep[i] && before && p >= l->high;
    }
}

static struct nn_tensor *learn_round(void *context, const struct ws2_batch *batch,
                                     const struct ws2_moment *moment, struct nn_tensor *part[WS2_PARTS_MAX],
                                     struct ws2_tally *tally)
{
    struct learner *l = context;
    struct nn *nn = nn_params_context(l->fpn->params);
    const size_t count = (size_t)batch->count * (size_t)batch->size * (size_t)batch->size;
    (void)part;
    (void)tally;
    if (ws2_reserve((void **)&l->probability, &l->probability_capacity, count * sizeof(float)) < 0 ||
        ws2_reserve((void **)&l->wanted, &l->wanted_capacity, count * sizeof(float)) < 0 ||
        ws2_reserve((void **)&l->unwanted, &l->unwanted_capacity, count * sizeof(float)) < 0)
        return nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    struct nn_tensor *images = ws2_batch_images(nn, batch, batch->rgb);
    nn_no_grad_begin(nn);
    const int status =
        nn_to_f32(nn, nn_sigmoid(nn, fpn_forward(l->teacher, images, false)), l->probability, count);
    nn_no_grad_end(nn);
    if (status < 0)
        return NULL;
    weigh(l, batch, count);
    return ws2_balanced_loss(nn, fpn_forward(l->fpn, images, moment->training), l->wanted, l->unwanted);
}

/* ---- a round -------------------------------------------------------------------------------------------------- */

/* Everything of one call of dense_learn. */
struct work {
    struct nn *nn;
    int number;
    const struct dense_options *options;
    const struct ws2_data *data;
    const struct ws2_train_options *run;
    struct ws2_error *error;
};

/* Scores on validation pictures, the threshold they suggest, and what can be said at it. */
static int judge(const struct work *w, struct dense_round *round)
{
    const struct ws2_segmenter net = segmenter_of(&round->fpn);
    const int status = ws2_scores_measure(&round->scores, w->nn, &net, w->data->val, w->error);
    if (status < 0)
        return status;
    round->fpn.info.threshold = ws2_pu_threshold(&round->scores, w->options->pu.prior);
    round->figures = ws2_pu_judge(&round->scores, w->options->pu.prior, round->fpn.info.threshold);
    return WS2_OK;
}

/* Where the last network's scores are cut, from the pictures that are learnt from. */
static int find_cuts(const struct work *w, const struct dense_round *last, struct learner *l)
{
    struct ws2_scores scores;
    const struct ws2_segmenter net = segmenter_of(&last->fpn);
    const int status = ws2_scores_measure(&scores, w->nn, &net, w->data->train, w->error);
    /* Where many score next to nothing the quantile is 0, and nothing lies below: they are wanted. */
    l->low = fmax(ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, w->options->low), 1.0 / WS2_SCORE_BINS);
    l->high = fmax(ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, w->options->high), l->low); /* never both */
    l->teacher = &last->fpn;
    return status;
}

static void describe(const struct work *w, const struct learner *l, struct ws2_meta *meta)
{
    const struct ws2_pu_options *pu = &w->options->pu;
    ws2_meta_set(meta, "dense", "pu");
    ws2_meta_set(meta, "round", "%d", w->number);
    ws2_meta_set(meta, "prior", "%.4f", pu->prior);
    if (w->number > 0)
        ws2_meta_set(meta, "quantiles", "%.4g and %.4g", w->options->low, w->options->high);
    if (l->teacher)
        ws2_meta_set(meta, "loss", "balanced cross-entropy, wanted below %g, unwanted from %g", l->low,
                     l->high);
    else if (pu->form == WS2_PU_KIRYO)
        ws2_meta_set(meta, "loss", "positive-unlabelled, kiryo, beta %g, gamma %g", pu->beta, pu->gamma);
    else
        ws2_meta_set(meta, "loss", "positive-unlabelled, absolute");
}

static void describe_network(const struct fpn *fpn, struct ws2_meta *meta)
{
    struct classifier_fact fact[CLASSIFIER_FACTS_MAX];
    const int facts = fpn_facts(fpn, fact);
    for (int i = 0; i < facts; i++)
        ws2_meta_set(meta, fact[i].key, "%s", fact[i].value);
}

/* The weights of a file and what they are good for. known: what the file must say of itself, but for what only learning
 * tells; or NULL. */
static int take(const struct work *w, struct dense_round *round, const char *path, struct ws2_meta *known)
{
    static const char *const told[] = {"loss", "threshold"};
    struct nn_weights *weights;
    int status = nn_weights_open(&weights, path, NULL, w->error);
    if (status < 0)
        return status;
    for (int i = 0; known && i < 2; i++) {
        const char *value = nn_weights_meta(weights, told[i]);
        if (i == 1 || w->number > 0)
            ws2_meta_set(known, told[i], "%s", value ? value : "");
    }
    if (known)
        status = ws2_meta_compare(known, weights, path, w->error);
    if (status >= 0)
        status = nn_params_load(round->fpn.params, weights, &(struct nn_load_options){0}, NULL, w->error);
    nn_weights_close(weights);
    return status < 0 ? status : judge(w, round);
}

/* The weights of the best epoch lie in `path`: into the network, judged, and with the threshold written to the output. */
static int conclude(const struct work *w, struct dense_round *round, struct ws2_meta *meta, const char *path)
{
    int status = take(w, round, path, NULL);
    if (status < 0)
        return status;
    describe_network(&round->fpn, meta);
    status = ws2_checkpoint_save(round->fpn.params, meta, w->run->output, w->error);
    if (status >= 0)
        unlink(path);
    return status;
}

static int learn(const struct work *w, const struct dense_round *last, struct dense_round *round,
                 const char *path)
{
    struct learner l = {.fpn = &round->fpn, .pu = &w->options->pu};
    struct ws2_meta meta = {0};
    struct ws2_train_options run = *w->run;
    const struct ws2_task task = {
        .context = &l,
        .params = round->fpn.params,
        .part = {last ? NULL : "before", last ? NULL : "wanted", last ? NULL : "negative"},
        .loss = last ? learn_round : learn_mixture};
    const bool there = run.resume && access(run.output, R_OK) == 0;
    int status = last && !there ? find_cuts(w, last, &l) : WS2_OK;
    run.loss.method = last ? WS2_METHOD_ROUND : WS2_METHOD_PU;
    if (status >= 0)
        status = ws2_plan_make(&run.plan, &w->options->rates, run.loss.method, false, round->fpn.params,
                               "logit*", w->error);
    describe_network(&round->fpn, &meta);
    describe(w, &l, &meta);
    if (status >= 0)
        status = ws2_train_describe(&meta, w->data->train, w->data->val, &run);
    if (status >= 0 && there)
        return take(w, round, run.output, &meta) < 0 ? w->error->status : WS2_TRAIN_DONE;
    run.meta = &meta;
    run.output = path;
    if (status >= 0)
        status = ws2_task_run(w->nn, &task, w->data->train, w->data->val, &run, w->error);
    if (status == WS2_TRAIN_DONE)
        status = conclude(w, round, &meta, path) < 0 ? w->error->status : WS2_TRAIN_DONE;
    free(l.probability);
    free(l.wanted);
    free(l.unwanted);
    return status;
}

int dense_learn(struct dense_round *round, struct nn *nn, int number, const struct dense_round *last,
                const struct dense_options *options, const struct ws2_data *data,
                const struct ws2_train_options *run, struct ws2_error *error)
{
    struct ws2_error own = {0};
    const struct work w = {nn, number, options, data, run, error ? error : &own};
    char *path;
    *round = (struct dense_round){0};
    int status = fpn_open(&round->fpn, nn, &options->net, w.error);
    if (status >= 0)
        status = fpn_begin(&round->fpn, options->seed + (uint64_t)number, options->init, NULL, w.error);
    if (status < 0)
        return status;
    if (asprintf(&path, "%s.learnt", run->output) < 0)
        return ws2_fail(w.error, WS2_ERR_SYSTEM, "out of memory");
    status = learn(&w, last, round, path);
    free(path);
    return status;
}
