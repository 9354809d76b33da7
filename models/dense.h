/*
 * dense: learning which pixels are unwanted from two cameras alone (METHODS 23), round by round. The first round is
 * positive-unlabelled learning; each later one fresh networks that learn from what the last round was sure of, on both
 * cameras, so that which camera it is no longer tells the label:
 *     wanted     pixels after the sorter (weight 1/2), and before it those the last round scores below a quantile
 *     unwanted   before it those scored above another quantile
 * in balanced cross-entropy (ws2_balanced_loss). To either the frames' own loss is added (ws2_frame_loss).
 * The last round scores the very pictures that the new one sees. A network knows by heart which camera its own pictures
 * came from; so all rounds but the last learn two networks, each from one half of the sequences, and each picture is
 * scored by the one that has never seen its sequence.
 * Or from labels: masks of any kind, one network, one round.
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
    uint64_t seed;    /* network n of round r begins with seed + 2 r + n */
    bool
        labels; /* learn from the loaders' labels, which they must give; nothing below but rates counts then */
    struct ws2_optimiser_options rates;
    struct ws2_pu_options pu;
    double frames, top; /* weight of the frames' own loss, and the share of pixels that it looks at */
    double low, high;   /* quantiles of scores before the sorter, low <= high; see dense_quantiles */
};

/* 0.775 prior and prior + 0.485 (1 - prior): 0.40 and 0.75 at the prior of 0.515 that they were found with. */
void dense_quantiles(double prior, double *low, double *high);

/* One round. To be closed whatever dense_learn returned. */
struct dense_round {
    int networks; /* 1; 2: of the first and of the second half of the sequences */
    struct fpn fpn[2];
    int64_t images;                /* learnt from, by all networks, each as often as it was shown */
    struct ws2_scores scores;      /* of the validation pictures, by all networks */
    struct ws2_pu_figures figures; /* at the first one's threshold */
};
void dense_round_close(struct dense_round *round); /* zeroed is fine */

/* The share of pixels that hold items, mean over the pictures of each camera, in one epoch of a dense loader. */
int dense_shares(struct ws2_loader *loader, double share[2], struct ws2_error *error);

/* What the shares say the prior is, where it is NaN: the same belt carries the same wanted items past both cameras.
 * WS2_ERR_INPUT where a camera sees no items, or the one after the sorter no fewer. */
int dense_prior(double *prior, const double share[2], struct ws2_error *error);

/*
 * Learns round `number`, 0 the first, of options that have a prior, from `last`, the round before (NULL: without teachers),
 * and leaves it in *round. output: the file of its network, and NULL; or those of two networks, for which data needs
 * halves. run: output, plan, loss and meta are set here. Returns WS2_TRAIN_DONE or a status. With run->resume a network whose
 * file is there already is read, not learnt; all that decides the result must be as the file says.
 */
int dense_learn(struct dense_round *round, struct nn *nn, int number, const struct dense_round *last,
                const struct dense_options *options, const struct ws2_data *data,
                const struct ws2_train_options *run, const char *const output[2], struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
