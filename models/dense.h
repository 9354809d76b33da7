/*
 * dense: learning which pixels are unwanted from two cameras alone (METHODS 23), round by round. The first round is
 * positive-unlabelled learning; each later one a fresh network that learns from what the last one was sure of, on both
 * cameras, so that which camera it is no longer tells the label:
 *     wanted     pixels after the sorter (weight 1/2), and before it those the last network scores below a quantile
 *     unwanted   before it those scored above another quantile
 * in balanced cross-entropy (ws2_balanced_loss). The last network scores the very pictures that the new one sees.
 *
 * Knows fpn and lib/train. One object belongs to its context's thread.
 */
#ifndef WS2_DENSE_H
#define WS2_DENSE_H

#include "models/fpn.h"
#include "train/train.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dense_options {
    struct fpn_info net;
    const char *init; /* a classifier's weights for the trunk, or NULL */
    uint64_t seed;    /* round r begins with seed + r */
    struct ws2_pu_options pu;
    struct ws2_optimiser_options rates;
    double low, high; /* quantiles of scores before the sorter, low <= high; see dense_quantiles */
};

/* 0.775 prior and prior + 0.485 (1 - prior): 0.40 and 0.75 at the prior of 0.515 that they were found with. */
void dense_quantiles(double prior, double *low, double *high);

/* One round. To be closed whatever dense_learn returned. */
struct dense_round {
    struct fpn fpn;
    struct ws2_scores scores;      /* of the validation pictures */
    struct ws2_pu_figures figures; /* at the threshold */
};
void dense_round_close(struct dense_round *round); /* zeroed is fine */

/* The share of pixels that lie on the belt, mean over the pictures of each camera, in one epoch of a dense loader. */
int dense_shares(struct ws2_loader *loader, double share[2], struct ws2_error *error);

/*
 * Learns round `number`, 0 the first, of options that have a prior, from `last`, the round before (NULL for the first),
 * and leaves it in *round. run: output is the file of this round; plan, loss and meta
 * are set here. Returns WS2_TRAIN_DONE or a status. With run->resume a round whose file is there already is read, not
 * learnt; all that decides the result must be as the file says.
 */
int dense_learn(struct dense_round *round, struct nn *nn, int number, const struct dense_round *last,
                const struct dense_options *options, const struct ws2_data *data,
                const struct ws2_train_options *run, struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
