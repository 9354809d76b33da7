/*
 * affinity: networks that learn which neighbouring pixels belong together, from labels of single pixels (lib/mask, seeds), so
 * that class maps may walk over them (ws2-walk).
 *
 * AFFINITY_FEATURES, AffinityNet (Ahn and Kwak 2018) on a ResNet: layer2, layer3, layer4 -> 1x1 to 64, 128, 320 channels, ELU,
 * one size, together 512 -> 1x1 to 512, ELU. Pairs are alike by W = exp(-mean |f_i - f_j|), radius 5. Given a pretrained trunk,
 * layer2 and up learn on, stem, layer1 and all batch normalisations stay as they are. (320 instead of 256, and the coarser
 * grid of 16, are those of arXiv 2507.21959; the original's trunk is a ResNet38 that nobody else has.)
 * AFFINITY_EDGES, IRN's edge network (Ahn, Cho and Kwak 2019): stem and layers -> 1x1 to 32 channels, group normalisation
 * in 4 groups, brought to 1/4 of the picture bilinearly, ReLU, together 160 -> 1x1 to the logit of an edge. W = 1 - the
 * highest edge on the way, radius 10 in training. A pretrained trunk stays as it is.
 * Without a pretrained trunk the whole network learns, with batch statistics. layer4 does not shrink (stride 16).
 *
 * Written as metadata of the .safetensors file:
 *     affinity  features or edges      backbone  resnet18, resnet34, resnet50, resnet101
 *     cell      pixels per cell: 8 or 16 of features, 4 of edges
 *     size      side of the pictures learnt from       init, precision, ws2  as in classifier.h
 * Parameters of the trunk have the classifier's names, those of the heads the authors' (f8_3, f9, fc_edge1.0 ...).
 *
 * Knows lib/nn, lib/train, lib/mask, lib/image, resnet and classifier. One object belongs to its context's thread.
 */
#ifndef WS2_AFFINITY_H
#define WS2_AFFINITY_H

#include "models/classifier.h"
#include "train/train.h"

#ifdef __cplusplus
extern "C" {
#endif

enum affinity_kind { AFFINITY_FEATURES, AFFINITY_EDGES };
#define AFFINITY_FEATURES_RADIUS 5
#define AFFINITY_EDGES_RADIUS 10
#define AFFINITY_CHANNELS 512

struct affinity_info {
    enum affinity_kind kind;
    int depth; /* of the ResNet */
    int cell;  /* pixels per cell; 0: as published */
    int size;  /* side of the network's input */
};

/* Sizes of the maps for a picture of info->size. */
int affinity_cells(const struct affinity_info *info);
/* Channels of what comes out: AFFINITY_CHANNELS, of edges 1. */
int affinity_channels(const struct affinity_info *info);
const char *affinity_name(enum affinity_kind kind); /* "features" or "edges" */
#define AFFINITY_HEAD_PATTERN "f*"                  /* names of the parameters of both heads */

#define AFFINITY_BRANCHES 5

struct affinity {
    struct nn_params *params;
    struct resnet *trunk;
    struct affinity_info info;
    bool given;                  /* the trunk came from a file */
    char digest[NN_DIGEST_SIZE]; /* of the weights loaded, "" before */
    struct nn_tensor
        *branch[AFFINITY_BRANCHES]; /* 1x1 convolution of each level; features begin at level 2 */
    struct nn_tensor *gain[AFFINITY_BRANCHES],
        *shift[AFFINITY_BRANCHES]; /* edges: of the group normalisation */
    struct nn_tensor *mix, *bias;  /* the last convolution */
    float *value, *gradient;       /* of a batch, for the loss */
    size_t value_capacity, gradient_capacity;
};

/* Declares the network; its values are zeros until affinity_begin. WS2_ERR_USAGE for a cell that does not exist. */
int affinity_open(struct affinity *affinity, struct nn *nn, const struct affinity_info *info,
                  struct ws2_error *error);
/* Seeded random weights; the trunk from the classifier in `path` unless that is NULL. report may be NULL. */
int affinity_begin(struct affinity *affinity, uint64_t seed, const char *path, struct nn_load_report *report,
                   struct ws2_error *error);
/* The network of a file written by ws2-train, all weights loaded strictly. */
int affinity_read(struct affinity *affinity, struct nn *nn, const char *path, struct ws2_error *error);
/* An equal network in another context, which shares its values. */
int affinity_twin(struct affinity *affinity, struct nn *nn, const struct affinity *from,
                  struct ws2_error *error);
void affinity_close(struct affinity *affinity); /* zeroed or half opened is fine */

/* The metadata of the file; returns how many. */
int affinity_facts(const struct affinity *affinity, struct classifier_fact fact[CLASSIFIER_FACTS_MAX]);

/* x [B,3,H,W] -> features [B,512,H/cell,W/cell], or logits of edges [B,1,H/4,W/4]; sizes round up. */
struct nn_tensor *affinity_forward(const struct affinity *affinity, struct nn_tensor *x, bool training);

/* Learning from batches with seeds, info.size and affinity_cells(); terms `belt`, `thing` and `other` of
 * ws2_affinity_loss. The affinity must outlive the task. A training batch without a pair of known pixels is
 * WS2_ERR_INPUT. */
struct ws2_task affinity_task(struct affinity *affinity);

/* Memory of one thread. Zero-initialise it. */
struct affinity_frame {
    struct ws2_resizer *resizer;
    uint8_t *picture; /* [2,size,size,3]: as the network sees it, and mirrored */
    float *value;     /* what came out, f32[channels,h',w'], valid until the next call */
    size_t picture_capacity, value_capacity;
};

/* rgb u8[h,w,3] -> frame->value on the grid of ceil(h / cell) x ceil(w / cell): features, or edges within 0..1, the mean
 * of the logits of the picture and of the mirrored one. Other sizes than info.size are resized before (Pillow's bilinear)
 * and after (bilinear). The thread enters the network's context; an error of the network is reported and forgotten. */
int affinity_frame_run(const struct affinity *affinity, int64_t height, int64_t width, const uint8_t *rgb,
                       struct affinity_frame *frame, struct ws2_error *error);
void affinity_frame_free(struct affinity_frame *frame);

#ifdef __cplusplus
}
#endif

#endif
