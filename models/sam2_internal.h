/* What the files of SAM 2 share: sam2.c (network, pictures), sam2_hiera.c (encoder), sam2_decoder.c (prompts, masks). */
#ifndef WS2_SAM2_INTERNAL_H
#define WS2_SAM2_INTERNAL_H

#include "models/sam2.h"

enum {
    SAM2_STAGES = 4,
    SAM2_BLOCKS_MAX = 48,
    SAM2_WIDTH = 256, /* of the feature pyramid and the decoder */
    SAM2_HALF = 64,   /* channels of the two finer maps */
    SAM2_FINE = 32,
    SAM2_LAYERS = 2, /* of the decoder */
    SAM2_MASKS = 4   /* one for all prompts and three for ambiguous ones */
};

/* What makes one size of the network. */
struct sam2_shape {
    enum sam2_size size;
    int width, heads;        /* of the first stage; doubled by each of the others */
    int blocks[SAM2_STAGES]; /* in each stage */
    int everywhere[3];       /* blocks that attend to all of the picture */
    int window[SAM2_STAGES]; /* side of the windows of all others, in cells of their stage */
    int background;          /* side of the table of positions */
};

struct sam2_layer {
    struct nn_tensor *weight, *bias;
};

struct sam2_block {
    struct sam2_layer norm1, qkv, proj, norm2, mlp[2];
    struct sam2_layer change; /* of the identity, where the width changes; else NULL */
    int heads, out;
    int window; /* 0: all of the picture */
};

struct sam2_attention {
    struct sam2_layer q, k, v, out;
};

struct sam2_two_way {
    struct sam2_attention self, to_image, to_tokens;
    struct sam2_layer norm[4], mlp[2];
};

struct sam2 {
    struct nn *nn;
    struct nn_params *params;
    const struct sam2_shape *shape;
    char digest[NN_DIGEST_SIZE];
    /* encoder */
    struct nn_tensor *position, *position_window; /* [1,D,b,b], [1,D,8,8] */
    struct sam2_layer patch;
    struct sam2_block block[SAM2_BLOCKS_MAX];
    int blocks, last[SAM2_STAGES];       /* the last block of each stage */
    struct sam2_layer neck[SAM2_STAGES]; /* [0] for the coarsest map */
    struct nn_tensor *no_memory;         /* [1,1,256] */
    struct sam2_layer fine, half;        /* conv_s0, conv_s1 */
    /* prompts */
    struct nn_tensor *gauss;                        /* [2,128] */
    struct nn_tensor *label[4], *padding, *no_mask; /* [1,256] */
    struct sam2_layer shrink[3], shrink_norm[2];
    /* decoder */
    struct sam2_two_way layer[SAM2_LAYERS];
    struct sam2_attention final;
    struct sam2_layer final_norm;
    struct nn_tensor *object_token, *iou_token, *mask_tokens; /* [1,256] [1,256] [4,256] */
    struct sam2_layer grow[2], grow_norm;
    struct sam2_layer hyper[SAM2_MASKS][3], iou[3], object[3];
};

/* Declare NAME.weight [out,in] and NAME.bias, or for sam2_declare_conv [out,in,kernel,kernel], for sam2_declare_norm
 * [width] both. */
struct sam2_layer sam2_declare_linear(struct nn_params *params, const char *name, int out, int in);
struct sam2_layer sam2_declare_conv(struct nn_params *params, const char *name, int out, int in, int kernel);
struct sam2_layer sam2_declare_norm(struct nn_params *params, const char *name, int width);
struct nn_tensor *sam2_linear(struct nn *nn, const struct sam2_layer *layer, struct nn_tensor *x);
struct nn_tensor *sam2_norm(struct nn *nn, const struct sam2_layer *layer, struct nn_tensor *x, double eps);
/* A convolution 1x1 over the last axis of x. */
struct nn_tensor *sam2_pointwise(struct nn *nn, const struct sam2_layer *layer, struct nn_tensor *x);
/* [B,C,H,W] -> [B,H,W,C] and back: views. */
struct nn_tensor *sam2_channels_last(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *sam2_channels_first(struct nn *nn, struct nn_tensor *x);

void sam2_declare_encoder(struct sam2 *sam2);
void sam2_declare_decoder(struct sam2 *sam2);

#endif
