/*
 * learner: what ws2-train trains, a classifier or affinities, behind one door.
 *
 * Knows classifier, affinity and lib/train. One object belongs to its context's thread.
 */
#ifndef WS2_LEARNER_H
#define WS2_LEARNER_H

#include "models/affinity.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The method decides which of the two counts. */
struct learner_info {
    enum ws2_method method;
    struct classifier_info classifier;
    struct affinity_info affinity;
};

struct learner {
    struct learner_info info;
    struct classifier classifier;
    struct affinity affinity;
};

bool learner_has_seeds(const struct learner_info *info); /* does it learn from seeds instead of classes? */
int learner_cells(const struct learner_info *info);      /* side of the maps of a picture of its size */

/* The network, and its first values: seeded random ones, in the place of which come those of `path` unless that is NULL.
 * WS2_ERR_USAGE for a size that does not cut into quarters where the method needs that. */
int learner_open(struct learner *learner, struct nn *nn, const struct learner_info *info, uint64_t seed,
                 const char *path, struct nn_load_report *report, struct ws2_error *error);
void learner_close(struct learner *learner); /* zeroed is fine */

struct nn_params *learner_params(const struct learner *learner);
/* The optimiser and schedule of the method (ws2_plan_make) for this network and its first values. */
int learner_plan(const struct learner *learner, struct ws2_plan *plan,
                 const struct ws2_optimiser_options *options, struct ws2_error *error);
/* What a later program must know of the network. */
void learner_describe(const struct learner *learner, struct ws2_meta *meta);
/* ws2_train_run or ws2_task_run. */
int learner_train(struct learner *learner, struct nn *nn, const struct ws2_data *data,
                  const struct ws2_train_options *options, struct ws2_error *error);
struct ws2_classifier learner_classifier(const struct classifier *classifier);

#ifdef __cplusplus
}
#endif

#endif
