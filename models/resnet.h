/*
 * resnet: the residual networks of He et al. 2016 (ResNet-18, 34, 50, 101; stride on the 3x3 convolution, "v1.5"),
 * written over lib/nn with torchvision's parameter names, so that its checkpoints load with strict keys.
 *
 * Input [B,3,H,W], normalised as ImageNet. Features, with e = 1 (18, 34) or 4 (50, 101):
 *     stem    [B, 64,   H/4,  W/4 ]   after the max pool
 *     layer1  [B, 64e,  H/4,  W/4 ]
 *     layer2  [B, 128e, H/8,  W/8 ]
 *     layer3  [B, 256e, H/16, W/16]
 *     layer4  [B, 512e, H/32, W/32]   (H/16 or H/8 in the variants below); sizes round up
 *
 * Ownership: tensors belong to the scope that was current when resnet_forward was called. Errors stick to the
 * context. A network belongs to its context's thread.
 */
#ifndef WS2_RESNET_H
#define WS2_RESNET_H

#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

enum resnet_stride {
    RESNET_STRIDE_32,  /* as published */
    RESNET_STRIDE_16,  /* layer4 does not shrink, nothing is dilated (IRN, Puzzle-CAM) */
    RESNET_DILATED_16, /* torchvision's replace_stride_with_dilation F,F,T; 50 and 101 only */
    RESNET_DILATED_8   /* torchvision's F,T,T; 50 and 101 only */
};

enum resnet_head {
    RESNET_HEAD_NONE,
    RESNET_HEAD_FC, /* fc.weight, fc.bias: global mean, then a linear layer -> logits (torchvision) */
    RESNET_HEAD_MAPS /* classifier.weight: 1x1 convolution without bias -> maps, whose global mean is the logits
                        (Puzzle-CAM); starts normal with deviation sqrt(2 / channels) */
};

struct resnet_options {
    int depth; /* 18, 34, 50, 101 */
    enum resnet_stride stride;
    enum resnet_head head;
    int classes; /* of the head */
    int layers;  /* 1 .. 4, only so many of them are made, and then there is no head; 0 = 4 */
};

struct resnet;

/* Declares the parameters below the registry's current level (nn_params_enter gives a prefix). NULL and a sticky
 * error for a depth or variant that does not exist. */
struct resnet *resnet_new(struct nn_params *params, const struct resnet_options *options);
void resnet_free(struct resnet *net);

/* Layers that can be looked at: "stem", "layer1" .. "layer4" and single blocks "layer3.0", "layer3.1" ... ; a
 * layer's name means its last block. The result is a tap number, -1 for an unknown name. */
int resnet_tap_find(const struct resnet *net, const char *name);
int resnet_taps(const struct resnet *net); /* stem and all blocks */
/* Name of a tap as a block ("stem", "layer1.0"). */
const char *resnet_tap_name(const struct resnet *net, int tap, char text[24]);
int64_t resnet_channels(const struct resnet *net); /* of layer4: 512 or 2048 */

struct resnet_run {
    bool training; /* batch normalisation by the batch, running statistics move; else by running statistics */
    /* The graph starts behind tap `leaf`: what lies before runs without recording, and the tap's tensor is a leaf
     * that collects gradients (Grad-CAM and its family). -1 = the context's grad mode decides for all. */
    int leaf;
    int tap; /* also hand out this tap's tensor; -1 = none. With leaf >= 0 the two must be equal or tap -1. */
};

struct resnet_out {
    struct nn_tensor *tap;     /* the tensor asked for, else NULL */
    struct nn_tensor *feature; /* layer4 */
    struct nn_tensor *maps;    /* RESNET_HEAD_MAPS: [B,C,h,w], no ReLU; else NULL */
    struct nn_tensor *logits;  /* [B,C]; NULL without a head */
};

/* x [B,3,H,W]; all fields NULL on failure. */
struct resnet_out resnet_forward(const struct resnet *net, struct nn_tensor *x, const struct resnet_run *run);

/* The same for whoever wants logits and maps (NULL without RESNET_HEAD_MAPS) only, and knows no resnet: a struct
 * ws2_classifier of lib/train. */
void resnet_classify(void *net, struct nn_tensor *x, bool training, struct nn_tensor **logits,
                     struct nn_tensor **maps);

/* What stem and layers 1 to 4 make of x [B,3,H,W], each from the one before; a head plays no part. NULL on failure. */
#define RESNET_LEVELS 5
void resnet_pyramid(const struct resnet *net, struct nn_tensor *x, bool training,
                    struct nn_tensor *level[RESNET_LEVELS]);
int64_t resnet_level_channels(const struct resnet *net, int level);

/* The head's weights as a 1x1 convolution over any feature with the right channels: [B,C,h,w], without bias --
 * class activation maps of Zhou et al. 2016. */
struct nn_tensor *resnet_maps(const struct resnet *net, struct nn_tensor *feature);
/* The head's weight [C,K] (K = resnet_channels). */
struct nn_tensor *resnet_head_weight(const struct resnet *net);

#ifdef __cplusplus
}
#endif

#endif
