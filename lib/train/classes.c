/* What the classifiers learn: see train.h. */
#include "train/internal.h"

#include <stdlib.h>

/* A network and the loss that it learns by. */
struct learner {
    const struct ws2_classifier *net;
    const struct ws2_loss_options *loss;
};

struct nn_tensor *ws2_batch_images(struct nn *nn, const struct ws2_batch *batch, const uint8_t *rgb)
{
    return nn_images_u8(nn, batch->count, batch->size, batch->size, rgb, nn_imagenet_mean, nn_imagenet_std);
}

/* The batch on the device: of triplets three pictures and two flows. */
static struct ws2_pictures pictures(struct nn *nn, const struct ws2_batch *batch)
{
    const struct ws2_shape grid = ws2_shape_4(batch->count, 2, batch->cells, batch->cells);
    struct ws2_pictures p = {.centre = ws2_batch_images(nn, batch, batch->rgb), .label = batch->label};
    if (batch->left) {
        p.left = ws2_batch_images(nn, batch, batch->left);
        p.right = ws2_batch_images(nn, batch, batch->right);
        p.flow_left = nn_from_f32(nn, grid, batch->flow_left);
        p.flow_right = nn_from_f32(nn, grid, batch->flow_right);
    }
    return p;
}

/* Error rate as the authors count it: |1[p > 0.5] - y| over samples and classes. */
static void count_errors(const struct learner *learner, struct nn_tensor *logits,
                         const struct ws2_batch *batch, struct ws2_tally *tally)
{
    struct nn *nn = nn_params_context(learner->net->params);
    const bool single = learner->loss->method == WS2_METHOD_STANDARD;
    const int classes = learner->net->classes;
    const size_t count = (size_t)batch->count * (size_t)classes;
    float *p = ws2_calloc(count, sizeof *p);
    if (p == NULL) {
        nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
        return;
    }
    tally->samples += batch->count;
    tally->questions += (double)count;
    if (nn_to_f32(nn, single ? nn_softmax(nn, logits, 1) : nn_sigmoid(nn, logits), p, count) == 0) {
        for (int i = 0; i < batch->count; i++) {
            const float *row = p + (size_t)i * (size_t)classes;
            int best = 0;
            for (int c = 0; c < classes; c++) {
                tally->wrong += (row[c] > 0.5f) != (batch->label[i] == c);
                best = row[c] > row[best] ? c : best;
            }
            tally->correct += best == batch->label[i];
        }
    }
    free(p);
}

static struct nn_tensor *learn(void *context, const struct ws2_batch *batch, const struct ws2_moment *moment,
                               struct nn_tensor *part[WS2_PARTS_MAX], struct ws2_tally *tally)
{
    const struct learner *learner = context;
    const struct ws2_pictures p = pictures(nn_params_context(learner->net->params), batch);
    const double ramp = ws2_ramp_at(learner->loss->ramp, moment->step, moment->epoch_steps, moment->steps);
    const struct ws2_terms terms = ws2_loss_terms(learner->net, learner->loss, &p, moment->training, ramp);
    part[0] = terms.class;
    part[1] = terms.tile;
    part[2] = terms.reconstruct;
    part[3] = terms.temporal;
    if (tally)
        count_errors(learner, terms.logits, batch, tally);
    return terms.total;
}

int ws2_train_run(struct nn *nn, const struct ws2_classifier *net, struct ws2_loader *train,
                  struct ws2_loader *val, const struct ws2_train_options *options, struct ws2_error *error)
{
    struct learner learner = {net, &options->loss};
    const struct ws2_task task = {.context = &learner,
                                  .params = net->params,
                                  .part = {"class", "tile", "reconstruct", "temporal"},
                                  .by_error = options->loss.method == WS2_METHOD_STANDARD,
                                  .loss = learn};
    return ws2_task_run(nn, &task, train, val, options, error);
}

/* ---- evaluation ------------------------------------------------------------------------------------------- */

static int evaluate_batch(struct nn *nn, const struct ws2_classifier *net, const struct ws2_batch *batch,
                          struct ws2_accuracy *accuracy, int64_t *best, struct ws2_error *error)
{
    nn_scope_begin(nn);
    nn_no_grad_begin(nn);
    struct nn_tensor *logits, *maps;
    net->forward(net->model, ws2_batch_images(nn, batch, batch->rgb), false, &logits, &maps);
    nn_to_i64(nn, nn_argmax(nn, logits, 1), best, (size_t)batch->count);
    nn_no_grad_end(nn);
    nn_scope_end(nn);
    const int status = nn_check(nn, error);
    for (int i = 0; status >= 0 && i < batch->count; i++) {
        accuracy->samples[batch->label[i]]++;
        accuracy->correct[batch->label[i]] += best[i] == batch->label[i];
    }
    return status;
}

int ws2_train_evaluate(struct nn *nn, const struct ws2_classifier *net, struct ws2_loader *loader,
                       struct ws2_accuracy *accuracy, struct ws2_error *error)
{
    struct ws2_batch batch;
    *accuracy = (struct ws2_accuracy){0};
    int status = ws2_loader_start(loader, 0, error);
    int64_t *best = ws2_calloc((size_t)ws2_loader_batch(loader), sizeof *best);
    if (best == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    while (status >= 0 && (status = ws2_loader_next(loader, &batch, error)) == 1)
        status = evaluate_batch(nn, net, &batch, accuracy, best, error);
    free(best);
    return status;
}
