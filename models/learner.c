/* A classifier or affinities: see learner.h. */
#include "models/learner.h"

bool learner_has_seeds(const struct learner_info *info)
{
    return info->method == WS2_METHOD_FEATURES || info->method == WS2_METHOD_EDGES;
}

int learner_cells(const struct learner_info *info)
{
    return learner_has_seeds(info) ? affinity_cells(&info->affinity) : classifier_cells(&info->classifier);
}

static int open_classifier(struct learner *learner, struct nn *nn, uint64_t seed, const char *path,
                           struct nn_load_report *report, struct ws2_error *error)
{
    const struct classifier_info *info = &learner->info.classifier;
    if (ws2_method_has_tiles(learner->info.method) && !classifier_fits_quarters(info))
        return ws2_fail(error, WS2_ERR_USAGE,
                        "pictures of %d pixels do not cut into quarters; a multiple of %d does", info->size,
                        info->net.stride == RESNET_STRIDE_16 ? 32 : 64);
    const int status = classifier_open(&learner->classifier, nn, info, error);
    return status < 0 ? status : classifier_begin(&learner->classifier, seed, path, report, error);
}

int learner_open(struct learner *learner, struct nn *nn, const struct learner_info *info, uint64_t seed,
                 const char *path, struct nn_load_report *report, struct ws2_error *error)
{
    *learner = (struct learner){.info = *info};
    if (!learner_has_seeds(info))
        return open_classifier(learner, nn, seed, path, report, error);
    const int status = affinity_open(&learner->affinity, nn, &info->affinity, error);
    return status < 0 ? status : affinity_begin(&learner->affinity, seed, path, report, error);
}

void learner_close(struct learner *learner)
{
    classifier_close(&learner->classifier);
    affinity_close(&learner->affinity);
}

struct nn_params *learner_params(const struct learner *learner)
{
    return learner_has_seeds(&learner->info) ? learner->affinity.params : learner->classifier.params;
}

int learner_plan(const struct learner *learner, struct ws2_plan *plan,
                 const struct ws2_optimiser_options *options, struct ws2_error *error)
{
    const bool seeds = learner_has_seeds(&learner->info);
    const char *digest = seeds ? learner->affinity.digest : learner->classifier.digest;
    const char *head =
        seeds ? AFFINITY_HEAD_PATTERN : classifier_head_pattern(learner->info.classifier.net.head);
    return ws2_plan_make(plan, options, learner->info.method, *digest != '\0', learner_params(learner), head,
                         error);
}

void learner_describe(const struct learner *learner, struct ws2_meta *meta)
{
    struct classifier_fact fact[CLASSIFIER_FACTS_MAX];
    const int facts = learner_has_seeds(&learner->info) ? affinity_facts(&learner->affinity, fact)
                                                        : classifier_facts(&learner->classifier, fact);
    for (int i = 0; i < facts; i++)
        ws2_meta_set(meta, fact[i].key, "%s", fact[i].value);
}

struct ws2_classifier learner_classifier(const struct classifier *classifier)
{
    return (struct ws2_classifier){classifier->net, classifier->params, classifier->info.net.classes,
                                   resnet_classify};
}

int learner_train(struct learner *learner, struct nn *nn, const struct ws2_data *data,
                  const struct ws2_train_options *options, struct ws2_error *error)
{
    if (learner_has_seeds(&learner->info)) {
        const struct ws2_task task = affinity_task(&learner->affinity);
        return ws2_task_run(nn, &task, data->train, data->val, options, error);
    }
    const struct ws2_classifier net = learner_classifier(&learner->classifier);
    return ws2_train_run(nn, &net, data->train, data->val, options, error);
}
