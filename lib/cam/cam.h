/*
 * cam: class activation maps. Which pixels speak for a class, according to a classifier that only ever saw
 * labels of whole pictures.
 *
 * Methods, with A [K,h,w] the output of a layer and G = d y_c / d A:
 *     CAM         sum_k W_ck A_k at the last layer (Zhou et al. 2016)
 *     GRADCAM     sum_k mean(G_k) A_k (Selvaraju et al. 2017)
 *     GRADCAMPP   sum_k w_k A_k, w_k = sum_ij max(G,0) G^2 / (2 G^2 + S_k G^3 + eps), S_k = sum_ij A_k, a term
 *                 being 0 where G is 0 (Chattopadhay et al. 2018, as pytorch-grad-cam computes it)
 *     LAYERCAM    sum_k max(G_k,0) A_k, element by element (Jiang et al. 2021)
 *     PUZZLE      relu(F), F the output of the class convolution (Puzzle-CAM, Jo and Yu 2021)
 * At the last layer of a network that ends in global average and linear layer G does not depend on the place, so
 * that all but PUZZLE have a closed form: no backward pass, and one forward pass serves all classes. At other
 * layers one forward pass per layer and one backward pass per layer and class is made.
 *
 * After the first four: ReLU, subtract the minimum, divide by 1e-7 + maximum at the layer's own size, bilinear to
 * the input's size, mean over layers, ReLU, and the same once more. Several scales: every scale's map is
 * resized bilinearly, all are added, and each class is divided by its maximum + 1e-5. PUZZLE adds relu(F) of
 * picture and mirrored picture at low resolution, and has no minimum taken.
 *
 * Maps are f32 in 0..1 and every class reaches about 1, present or not: see the probabilities. Raw maps are left
 * undivided at the very end, so that those of neighbouring frames can be merged before it is done: of the first four up to
 * the number of scales (twice that with the mirrored picture), of PUZZLE as large as the network makes them.
 * Errors and ownership as in nn. One object belongs to the thread of its context.
 * Knows nn, stream, image, pool and base.
 */
#ifndef WS2_CAM_H
#define WS2_CAM_H

#include "base/base.h"
#include "nn/nn.h"
#include "stream/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ws2_cam_method { WS2_CAM_CAM, WS2_CAM_GRADCAM, WS2_CAM_GRADCAMPP, WS2_CAM_LAYERCAM, WS2_CAM_PUZZLE };
enum ws2_cam_target { WS2_CAM_LOGIT, WS2_CAM_PROB };
enum ws2_cam_form { WS2_CAM_AUTO, WS2_CAM_CLOSED, WS2_CAM_AUTOGRAD };
enum ws2_cam_kernel { WS2_CAM_LINEAR, WS2_CAM_CUBIC }; /* of scaled pictures: OpenCV's linear or cubic */

/* ---- the network as this room sees it --------------------------------------------------------------------- */

/* Filled by the caller from models/. Tensors live in the caller's scope. */
struct ws2_cam_network {
    void *model; /* handed back to the functions */
    struct nn_params *params;
    int classes;
    bool exclusive;   /* probabilities: softmax (trained with cross-entropy), else a sigmoid for each class */
    bool biased;      /* the head has a bias: no class maps, no PUZZLE */
    const char *last; /* the layer that the global average reads */
    bool (*has_layer)(void *model, const char *layer);
    /* images [B,3,H,W] -> logits [B,C], in evaluation mode, and the output [B,K,h,w] of `layer` in *activation.
     * graph: the activation is a leaf that requires a gradient, and what follows it is recorded. */
    struct nn_tensor *(*forward)(void *model, struct nn_tensor *images, const char *layer, bool graph,
                                 struct nn_tensor **activation);
    struct nn_tensor *(*weight)(void *model); /* of the head, [C,K] */
};

/* ---- maps of pictures ------------------------------------------------------------------------------------- */

#define WS2_CAM_LAYERS_MAX 8
#define WS2_CAM_CLASSES_MAX 64
#define WS2_CAM_SCALES_MAX 16

struct ws2_cam_options {
    enum ws2_cam_method method;
    const char *layer[WS2_CAM_LAYERS_MAX]; /* none: the last one */
    int layers;
    enum ws2_cam_target target;
    enum ws2_cam_form form;
    enum ws2_cam_kernel kernel;
    double eps; /* of GRADCAMPP; the reference has 1e-6, at which it is nearly a cubed CAM */
    double scale[WS2_CAM_SCALES_MAX]; /* none: 1 */
    int scales;
    bool flip; /* add the map of the mirrored picture, mirrored back */
    bool raw;  /* sums as they are, not divided by maximum + 1e-5 */
};

struct ws2_cam;

/* Parameters of the network stop requiring gradients. WS2_ERR_USAGE for an unknown layer, a closed form where
 * there is none, or PUZZLE on a network without class maps. */
int ws2_cam_open(struct ws2_cam **cam, struct nn *nn, const struct ws2_cam_network *network,
                 const struct ws2_cam_options *options, struct ws2_error *error);
void ws2_cam_close(struct ws2_cam *cam); /* NULL is fine */

/* rgb u8 [batch,height,width,3] -> maps f32 [batch,C,out_height,out_width] and prob f32 [batch,C] (of the scale
 * nearest to 1). A scale s works on int(height / (1/s)) x int(width / (1/s)) pixels, computed in double as the
 * authors do, and on fewer pictures at a time when s > 1, so that memory grows little with the scale. */
int ws2_cam_pictures(struct ws2_cam *cam, int batch, int height, int width, const uint8_t *rgb,
                     int out_height, int out_width, float *maps, float *prob, struct ws2_error *error);

/* ---- maps of streams ---------------------------------------------------------------------------------------- */

struct ws2_cam_stream_options {
    int size; /* side of the network's square input; frames of another size are resized (Pillow's bilinear);
                     0: each frame as it is */
    bool masked;    /* the network sees rgb where fg is set, elsewhere black */
    bool fill_mean; /* or the ImageNet mean instead of black */
    int batch;      /* frames at a time */
    int threads;    /* that decode frames ahead of the networks */
    /* As in ws2_filter: prepares the head of each segment; called in order, on a thread of its own. */
    int (*begin)(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error);
    void (*done)(void *context); /* after each record written; may be NULL */
    void *context;
};

/* Adds `cam` f16 [C,h,w], of the frame's own size, and `prob` f32 [C] to every record of every segment of reader and
 * writes them to writer, in order. Each of `cams` equal networks, in contexts of their own, works on a thread of its own;
 * on the CPU contexts of one computing thread make best use of the cores. The bytes do not depend on `cams` and
 * `threads` (on the computing threads of a context, and on `batch`, the last digits of maps do). Frames of different sizes
 * may follow each other. An error stops the output without a TAIL; its text begins with "SEQ: frame N: ". A map that half
 * floats cannot hold (above 65504, or not finite) is WS2_ERR_MODEL. */
int ws2_cam_stream(struct ws2_cam *const *cam, int cams, const struct ws2_cam_stream_options *options,
                   struct ws2_reader *reader, struct ws2_writer *writer, struct ws2_error *error);

/* ---- the formulas, one by one ----------------------------------------------------------------------------- */

/* A, G [B,K,h,w] -> [B,h,w], before any post-processing. method: GRADCAM, GRADCAMPP or LAYERCAM. */
struct nn_tensor *ws2_cam_weigh(struct nn *nn, enum ws2_cam_method method, struct nn_tensor *activation,
                                struct nn_tensor *gradient, double eps);
/* The same for all classes without a backward pass: A [B,K,h,w] of the last layer, W [C,K], logits [B,C] ->
 * [B,C,h,w]. exclusive: whether a probability is a softmax or a sigmoid. method: all but PUZZLE. */
struct nn_tensor *ws2_cam_closed(struct nn *nn, enum ws2_cam_method method, struct nn_tensor *activation,
                                 struct nn_tensor *weight, struct nn_tensor *logits,
                                 enum ws2_cam_target target, bool exclusive, double eps);
/* (x - min) / (1e-7 + max of that) over the last two axes of [B,C,h,w], after ReLU. */
struct nn_tensor *ws2_cam_unit(struct nn *nn, struct nn_tensor *maps);
/* The post-processing: maps[i] [B,C,h_i,w_i] of each layer -> [B,C,height,width]. */
struct nn_tensor *ws2_cam_post(struct nn *nn, struct nn_tensor *const *maps, int layers, int64_t height,
                               int64_t width);
/* int(side / (1 / scale)), at least 1. */
int ws2_cam_side(int side, double scale);

#ifdef __cplusplus
}
#endif

#endif
