/*
 * fpn: a small feature pyramid (Lin et al. 2017) on the first layers of a ResNet, which says of each pixel how much it looks like
 * something unwanted. One item, not the whole frame, is what it sees at once: a larger view smears across neighbours.
 *
 * layer1 (stride 4), with stride 8 layer2 and with stride 16 layer3 -> 1x1 to 64 channels each; from the coarsest on each is
 * enlarged by nearest neighbour and added to the next finer one; 3x3, batch normalisation, ReLU, 1x1 to a logit at
 * stride 4, brought to the size of the input bilinearly. Later layers of the ResNet are neither made nor loaded.
 *
 * Written as metadata of the .safetensors file:
 *     dense      pu or labels: how it learnt    backbone  resnet18, resnet34, resnet50
 *     reach      4, 8 or 16, the coarsest stride size      side of the pictures learnt from
 *     threshold  of the probability, for a mask
 *     flat       what frames went through first, as ws2_flat_text has it; none where it lacks
 *     init, precision, ws2  as in classifier.h
 * Parameters of the trunk have the classifier's names, the others lateral1 .. lateral3, smooth, smooth_bn, logit.
 *
 * Knows lib/nn, lib/mask (flat fields alone), resnet and classifier. One object belongs to its context's thread.
 */
#ifndef WS2_FPN_H
#define WS2_FPN_H

#include "mask/mask.h"
#include "models/classifier.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FPN_CHANNELS 64
#define FPN_LATERALS 3

struct fpn_info {
    int depth;        /* of the ResNet: 18, 34, 50 */
    int reach;        /* 4, 8 or 16 */
    int size;         /* side of the network's input; 0 = unknown */
    double threshold; /* of the probability, 0..1 */
};

struct fpn {
    struct nn_params *params;
    struct resnet *trunk;
    struct fpn_info info;
    struct ws2_flat_params flat; /* what the file read says; level 0: none */
    char digest[NN_DIGEST_SIZE]; /* of the weights loaded, "" before */
    struct nn_tensor *lateral[FPN_LATERALS], *lateral_bias[FPN_LATERALS], *smooth, *logit, *logit_bias;
    struct nn_bn smooth_bn;
};

/* Declares the network; its values are zeros until fpn_begin. WS2_ERR_USAGE for a depth or reach that does not exist. */
int fpn_open(struct fpn *fpn, struct nn *nn, const struct fpn_info *info, struct ws2_error *error);
/* Seeded random weights; the trunk from the classifier in `path` unless that is NULL. report may be NULL. */
int fpn_begin(struct fpn *fpn, uint64_t seed, const char *path, struct nn_load_report *report,
              struct ws2_error *error);
/* The network of a file written by ws2-seg-train, all weights loaded strictly. */
int fpn_read(struct fpn *fpn, struct nn *nn, const char *path, struct ws2_error *error);
/* An equal network in another context, which shares its values. */
int fpn_twin(struct fpn *fpn, struct nn *nn, const struct fpn *from, struct ws2_error *error);
void fpn_close(struct fpn *fpn); /* zeroed or half opened is fine */

/* The metadata of the file but for `dense` and `flat`; returns how many. */
int fpn_facts(const struct fpn *fpn, struct classifier_fact fact[CLASSIFIER_FACTS_MAX]);

/* x [B,3,H,W] -> logits [B,1,H,W], above 0 where a pixel looks unwanted. training: batch statistics. */
struct nn_tensor *fpn_forward(const struct fpn *fpn, struct nn_tensor *x, bool training);

#ifdef __cplusplus
}
#endif

#endif
