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
    for (int i = 0; i < 2; i++)
        fpn_close(&round->fpn[i]);
    *round = (struct dense_round){0};
}

int dense_shares(struct ws2_loader *loader, double share[2], struct ws2_error *error)
{
    struct ws2_batch batch;
    double covered[2] = {0};
    int64_t pictures[2] = {0};
    int status = ws2_loader_start(loader, 0, error);
    while (status >= 0 && (status = ws2_loader_next(loader, &batch, error)) == 1)
        for (int i = 0; i < batch.count; i++) {
            covered[batch.label[i]] += batch.share[i];
            pictures[batch.label[i]]++;
        }
    for (int camera = 0; camera < 2; camera++)
        share[camera] = pictures[camera] > 0 ? covered[camera] / (double)pictures[camera] : 0;
    return status;
}

int dense_prior(double *prior, const double share[2], struct ws2_error *error)
{
    const double before = share[WS2_CLASS_BEFORE], after = share[WS2_CLASS_AFTER];
    if (before <= 0 || after <= 0)
        return ws2_fail(error, WS2_ERR_INPUT, "nothing lies on the belt %s the sorter: is fg empty?",
                        before <= 0 ? "before" : "after");
    if (!isnan(*prior))
        return WS2_OK;
    if (after >= before)
        return ws2_fail(
            error, WS2_ERR_INPUT,
            "items cover %.2f %% of the belt before the sorter and %.2f %% after it: have the cameras been "
            "swapped? else give --prior",
            100 * before, 100 * after);
    *prior = after / before;
    return WS2_OK;
}

/* ---- what networks say ---------------------------------------------------------------------------------------- */

struct buffer {
    float *value;
    size_t capacity; /* bytes */
};

static bool has_room(struct buffer *buffer, size_t count)
{
    return ws2_reserve((void **)&buffer->value, &buffer->capacity, count * sizeof(float)) >= 0;
}

/* The networks of a round as judges of pictures. */
struct judges {
    const struct dense_round *round;
    int only; /* -1: each picture is judged by the network that has not learnt from it, where there are two; else which */
    bool mixture; /* pictures before the sorter alone are judged */
    struct buffer part;
    int64_t *row; /* as many as the largest batch has pictures */
};

static int judges_open(struct judges *judges, const struct dense_round *round, int only,
                       const struct ws2_loader *loader, struct ws2_error *error)
{
    *judges = (struct judges){.round = round, .only = only};
    judges->row = ws2_calloc((size_t)ws2_loader_batch(loader), sizeof *judges->row);
    return judges->row ? WS2_OK : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

static void judges_close(struct judges *judges)
{
    free(judges->part.value);
    free(judges->row);
}

/* Which network judges this picture? -1: none. */
static int judge_of(const struct judges *judges, const struct ws2_batch *batch, int picture)
{
    if (judges->mixture && batch->label[picture] != WS2_CLASS_BEFORE)
        return -1;
    if (judges->only >= 0)
        return judges->only;
    return judges->round->networks == 2 ? 1 - batch->half[picture] : 0;
}

/* p of the pictures that network `which` judges; images [B,3,H,W]. */
static int judge_part(struct judges *judges, int which, const struct ws2_batch *batch,
                      struct nn_tensor *images, float *p)
{
    const struct fpn *fpn = &judges->round->fpn[which]; /* not open where it judges nothing yet */
    struct nn *nn = nn_params_context(judges->round->fpn[0].params);
    const size_t pixels = (size_t)batch->size * (size_t)batch->size;
    int64_t *row = judges->row, rows = 0;
    for (int i = 0; i < batch->count; i++)
        if (judge_of(judges, batch, i) == which)
            row[rows++] = i;
    if (rows == 0)
        return WS2_OK;
    if (!has_room(&judges->part, (size_t)rows * pixels)) {
        nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
        return WS2_ERR_SYSTEM;
    }
    struct nn_tensor *chosen = rows == batch->count
                                   ? images
                                   : nn_index_select(nn, images, 0, nn_from_i64(nn, ws2_shape_1(rows), row));
    const int status = nn_to_f32(nn, nn_sigmoid(nn, fpn_forward(fpn, chosen, false)), judges->part.value,
                                 (size_t)rows * pixels);
    for (int64_t i = 0; status >= 0 && i < rows; i++)
        memcpy(p + (size_t)row[i] * pixels, judges->part.value + (size_t)i * pixels, pixels * sizeof *p);
    return status;
}

/* p[count,size,size]: how probably unwanted each pixel is; of pictures that nobody judges it stays as it is. Without a graph;
 * errors stick to the context. */
static int judge_images(struct judges *judges, const struct ws2_batch *batch, struct nn_tensor *images,
                        float *p)
{
    struct nn *nn = nn_params_context(judges->round->fpn[0].params);
    int status = WS2_OK;
    nn_no_grad_begin(nn);
    for (int which = 0; which < judges->round->networks && status >= 0; which++)
        status = judge_part(judges, which, batch, images, p);
    nn_no_grad_end(nn);
    return status;
}

static int score(void *context, const struct ws2_batch *batch, float *p, struct ws2_error *error)
{
    struct judges *judges = context;
    struct nn *nn = nn_params_context(judges->round->fpn[0].params);
    nn_scope_begin(nn);
    judge_images(judges, batch, ws2_batch_images(nn, batch, batch->rgb), p);
    nn_scope_end(nn);
    return nn_check(nn, error);
}

static int add_scores(struct ws2_scores *scores, const struct dense_round *round, int only,
                      struct ws2_loader *loader, struct ws2_error *error)
{
    struct judges judges;
    const struct ws2_scorer scorer = {&judges, score};
    int status = judges_open(&judges, round, only, loader, error);
    if (status >= 0)
        status = ws2_scores_add(scores, &scorer, loader, error);
    judges_close(&judges);
    return status;
}

/* ---- what is learnt ------------------------------------------------------------------------------------------- */

/* A network at work, and what it learns from. */
struct learner {
    const struct fpn *fpn;
    const struct dense_options *options;
    struct judges teachers; /* round NULL: none */
    double low, high;       /* probabilities of theirs that are taken for wanted, unwanted */
    struct buffer probability, wanted, unwanted; /* of a batch */
};

/* Adds the frames' own loss, where it has a weight. */
static struct nn_tensor *with_frames(const struct learner *l, struct nn_tensor *loss, struct nn_tensor *z,
                                     const struct ws2_batch *batch, struct nn_tensor **part)
{
    struct nn *nn = nn_params_context(l->fpn->params);
    const struct ws2_frames frames = {batch->keep, batch->label, batch->count, l->options->top};
    if (l->options->frames <= 0)
        return loss;
    *part = ws2_frame_loss(nn, z, &frames);
    return nn_add_scaled(nn, loss, *part, l->options->frames);
}

static struct nn_tensor *learn_mixture(void *context, const struct ws2_batch *batch,
                                       const struct ws2_moment *moment, struct nn_tensor *part[WS2_PARTS_MAX],
                                       struct ws2_tally *tally)
{
    const struct learner *l = context;
    struct nn *nn = nn_params_context(l->fpn->params);
    (void)tally; /* nobody knows what is right */
    struct nn_tensor *z = fpn_forward(l->fpn, ws2_batch_images(nn, batch, batch->rgb), moment->training);
    const struct ws2_pu_terms terms = ws2_pu_loss(nn, z, batch->keep, &l->options->pu);
    part[0] = terms.before;
    part[1] = terms.wanted;
    part[2] = terms.negative;
    return with_frames(l, terms.total, z, batch, &part[3]);
}

/* What the teachers are sure of, as weights. */
static void weigh(struct learner *l, const struct ws2_batch *batch, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const bool before = batch->keep[i] == 1 + WS2_CLASS_BEFORE,
                   after = batch->keep[i] == 1 + WS2_CLASS_AFTER;
        const float p = before ? l->probability.value[i] : 0;
        l->wanted.value[i] = after ? 0.5f : before && p < l->low;
        l->unwanted.value[i] = before && p >= l->high;
    }
}

static struct nn_tensor *learn_round(void *context, const struct ws2_batch *batch,
                                     const struct ws2_moment *moment, struct nn_tensor *part[WS2_PARTS_MAX],
                                     struct ws2_tally *tally)
{
    struct learner *l = context;
    struct nn *nn = nn_params_context(l->fpn->params);
    const size_t count = (size_t)batch->count * (size_t)batch->size * (size_t)batch->size;
    (void)tally;
    if (!has_room(&l->probability, count) || !has_room(&l->wanted, count) || !has_room(&l->unwanted, count))
        return nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    struct nn_tensor *images = ws2_batch_images(nn, batch, batch->rgb);
    if (judge_images(&l->teachers, batch, images, l->probability.value) < 0)
        return NULL;
    weigh(l, batch, count);
    struct nn_tensor *z = fpn_forward(l->fpn, images, moment->training);
    part[0] = ws2_balanced_loss(nn, z, l->wanted.value, l->unwanted.value);
    return with_frames(l, part[0], z, batch, &part[1]);
}

static struct nn_tensor *learn_labels(void *context, const struct ws2_batch *batch,
                                      const struct ws2_moment *moment, struct nn_tensor *part[WS2_PARTS_MAX],
                                      struct ws2_tally *tally)
{
    const struct learner *l = context;
    struct nn *nn = nn_params_context(l->fpn->params);
    (void)part;
    (void)tally;
    struct nn_tensor *z = fpn_forward(l->fpn, ws2_batch_images(nn, batch, batch->rgb), moment->training);
    return ws2_labels_loss(nn, z, batch->keep, batch->seeds);
}

/* ---- a round -------------------------------------------------------------------------------------------------- */

/* Everything of one call of dense_learn. */
struct work {
    struct nn *nn;
    int number;
    const struct dense_options *options;
    const struct ws2_data *data;
    const struct ws2_train_options *run;
    const struct dense_round *last; /* NULL: no teachers */
    struct dense_round *round;
    struct ws2_error *error;
};

/* The pictures of network `which` of the round. */
static struct ws2_loader *pictures_of(const struct work *w, int which)
{
    return w->round->networks == 2 ? w->data->half[which] : w->data->train;
}

/* Where the teachers' scores are cut, from the pictures that are learnt from. */
static int find_cuts(const struct work *w, struct ws2_loader *loader, struct learner *l)
{
    struct ws2_scores scores = {0};
    const int status = add_scores(&scores, w->last, -1, loader, w->error);
    /* Where many score next to nothing the quantile is 0, and nothing lies below: they are wanted. */
    l->low = fmax(ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, w->options->low), 1.0 / WS2_SCORE_BINS);
    l->high = fmax(ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, w->options->high), l->low); /* never both */
    return status;
}

static void describe_loss(const struct work *w, const struct learner *l, struct ws2_meta *meta)
{
    const struct dense_options *o = w->options;
    if (o->labels)
        ws2_meta_set(meta, "loss", "cross-entropy");
    else if (w->last)
        ws2_meta_set(meta, "loss", "balanced cross-entropy, wanted below %g, unwanted from %g", l->low,
                     l->high);
    else if (o->pu.form == WS2_PU_KIRYO)
        ws2_meta_set(meta, "loss", "positive-unlabelled, kiryo, beta %g, gamma %g", o->pu.beta, o->pu.gamma);
    else
        ws2_meta_set(meta, "loss", "positive-unlabelled, %s",
                     o->pu.form == WS2_PU_PLAIN ? "plain" : "absolute");
}

/* What was asked for comes before what follows from it, so that a run that cannot be resumed is told of that. */
static void describe(const struct work *w, const struct learner *l, struct ws2_meta *meta)
{
    const struct dense_options *o = w->options;
    ws2_meta_set(meta, "dense", o->labels ? "labels" : "pu");
    if (!o->labels) {
        ws2_meta_set(meta, "round", "%d", w->number);
        ws2_meta_set(meta, "prior", "%.4f", o->pu.prior);
        ws2_meta_set(meta, "frames", "weight %g, top %g", o->frames, o->top);
    }
    if (w->last && !o->labels)
        ws2_meta_set(meta, "quantiles", "%.4g and %.4g, by %s", o->low, o->high,
                     w->last->networks == 2 ? "the other half" : "one network");
    describe_loss(w, l, meta);
}

static void describe_network(const struct fpn *fpn, struct ws2_meta *meta)
{
    struct classifier_fact fact[CLASSIFIER_FACTS_MAX];
    const int facts = fpn_facts(fpn, fact);
    for (int i = 0; i < facts; i++)
        ws2_meta_set(meta, fact[i].key, "%s", fact[i].value);
}

/* The weights of a file. known: what the file must say of itself, but for what only learning tells; or NULL. */
static int take(const struct work *w, struct fpn *fpn, const char *path, struct ws2_meta *known)
{
    static const char *const told[] = {"loss", "threshold"};
    struct nn_weights *weights;
    int status = nn_weights_open(&weights, path, NULL, w->error);
    if (status < 0)
        return status;
    for (int i = 0; known && i < 2; i++) {
        const char *value = nn_weights_meta(weights, told[i]);
        if (i == 1 || w->last)
            ws2_meta_set(known, told[i], "%s", value ? value : "");
    }
    if (known)
        status = ws2_meta_compare(known, weights, path, w->error);
    if (status >= 0)
        status = nn_params_load(fpn->params, weights, &(struct nn_load_options){0}, NULL, w->error);
    nn_weights_close(weights);
    return status;
}

/* What a network says of validation pictures, the threshold that suggests, and what can be said at it. */
static int judge(const struct work *w, int which)
{
    const double prior = w->options->pu.prior;
    struct fpn *fpn = &w->round->fpn[which];
    struct ws2_scores own = {0};
    const int status = add_scores(&own, w->round, which, w->data->val, w->error);
    fpn->info.threshold = w->options->labels ? ws2_labels_threshold(&own) : ws2_pu_threshold(&own, prior);
    for (int camera = 0; camera < 2; camera++) {
        for (int bin = 0; bin < WS2_SCORE_BINS; bin++)
            w->round->scores.count[camera][bin] += own.count[camera][bin];
        w->round->scores.pixels[camera] += own.pixels[camera];
    }
    return status;
}

/* The weights lie in `path`: into the network, judged, and with the threshold written to the output. */
static int conclude(const struct work *w, int which, struct ws2_meta *meta, const char *path,
                    const char *output)
{
    struct fpn *fpn = &w->round->fpn[which];
    int status = take(w, fpn, path, NULL);
    if (status >= 0)
        status = judge(w, which);
    if (status < 0)
        return status;
    describe_network(fpn, meta);
    status = ws2_checkpoint_save(fpn->params, meta, output, w->error);
    if (status >= 0)
        unlink(path);
    return status;
}

static struct ws2_task task_of(const struct work *w, struct learner *l)
{
    struct ws2_task task = {.context = l, .params = l->fpn->params, .newest = true, .loss = learn_mixture};
    if (w->options->labels) {
        task.newest = false;
        task.loss = learn_labels;
    } else if (w->last) {
        task.loss = learn_round;
        task.part[0] = "sure";
        task.part[1] = w->options->frames > 0 ? "frames" : NULL;
    } else {
        task.part[0] = "before";
        task.part[1] = "wanted";
        task.part[2] = "negative";
        task.part[3] = w->options->frames > 0 ? "frames" : NULL;
    }
    return task;
}

/* Learns with settled options, into `path` first. */
static int learn(const struct work *w, int which, struct learner *l, const char *path, const char *output)
{
    struct ws2_loader *loader = pictures_of(w, which);
    struct ws2_meta meta = {0};
    struct ws2_train_options run = *w->run;
    const struct ws2_task task = task_of(w, l);
    const bool there = run.resume && access(output, R_OK) == 0;
    int status = w->last && !there ? find_cuts(w, loader, l) : WS2_OK;
    run.loss.method = w->options->labels ? WS2_METHOD_LABELS : w->last ? WS2_METHOD_ROUND : WS2_METHOD_PU;
    if (status >= 0)
        status = ws2_plan_make(&run.plan, &w->options->rates, run.loss.method, false, l->fpn->params,
                               "logit*", w->error);
    w->round->images += run.epochs * ws2_loader_steps(loader) * ws2_loader_batch(loader);
    describe_network(l->fpn, &meta);
    describe(w, l, &meta);
    if (status >= 0)
        status = ws2_train_describe(&meta, loader, w->data->val, &run);
    run.meta = &meta;
    run.output = path;
    if (status >= 0 && there) {
        status = take(w, &w->round->fpn[which], output, &meta);
        return status < 0 || (status = judge(w, which)) < 0 ? status : WS2_TRAIN_DONE;
    }
    if (status >= 0)
        status = ws2_task_run(w->nn, &task, loader, w->data->val, &run, w->error);
    if (status == WS2_TRAIN_DONE && conclude(w, which, &meta, path, output) < 0)
        status = w->error->status;
    return status;
}

/* One network of the round, from its first weights on. */
static int make(const struct work *w, int which, const char *output)
{
    struct fpn *fpn = &w->round->fpn[which];
    struct learner l = {.fpn = fpn, .options = w->options};
    char *path;
    int status = fpn_open(fpn, w->nn, &w->options->net, w->error);
    if (status >= 0)
        status = fpn_begin(fpn, w->options->seed + 2 * (uint64_t)w->number + (uint64_t)which,
                           w->options->init, NULL, w->error);
    if (status < 0)
        return status;
    if (asprintf(&path, "%s.learnt", output) < 0)
        return ws2_fail(w->error, WS2_ERR_SYSTEM, "out of memory");
    /* Validation has batches of the same size. */
    status = judges_open(&l.teachers, w->last, -1, pictures_of(w, which), w->error);
    l.teachers.mixture = true; /* what is after the sorter is wanted, whatever they say */
    if (status >= 0)
        status = learn(w, which, &l, path, output);
    free(path);
    judges_close(&l.teachers);
    free(l.probability.value);
    free(l.wanted.value);
    free(l.unwanted.value);
    return status;
}

int dense_learn(struct dense_round *round, struct nn *nn, int number, const struct dense_round *last,
                const struct dense_options *options, const struct ws2_data *data,
                const struct ws2_train_options *run, const char *const output[2], struct ws2_error *error)
{
    struct ws2_error own = {0};
    const struct work w = {nn, number, options, data, run, last, round, error ? error : &own};
    *round = (struct dense_round){.networks = output[1] ? 2 : 1};
    int status = WS2_TRAIN_DONE;
    if (data->half[1] == NULL && output[1])
        return ws2_fail(w.error, WS2_ERR_USAGE, "the sequences have not been halved");
    if (options->labels && ws2_loader_settings(data->train)->labels == NULL)
        return ws2_fail(w.error, WS2_ERR_USAGE, "the pictures have no labels");
    for (int which = 0; which < round->networks && status == WS2_TRAIN_DONE; which++)
        status = make(&w, which, output[which]);
    const double threshold = round->fpn[0].info.threshold;
    if (status == WS2_TRAIN_DONE)
        round->figures = options->labels ? ws2_labels_judge(&round->scores, threshold)
                                         : ws2_pu_judge(&round->scores, options->pu.prior, threshold);
    return status;
}
