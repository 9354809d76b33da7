/*
 * sam2: segmentation of pictures by points, boxes and masks with SAM 2 and SAM 2.1 (Ravi et al. 2024): the image encoder
 * Hiera with its feature pyramid, the prompt encoder and the mask decoder, in four sizes. Both generations have the same
 * network for pictures. What tracks objects through a video is not here. Written over lib/nn with the parameter names of
 * the official checkpoints, which load with strict keys. For inference: nothing is recorded.
 *
 *     sam2_read(&sam2, nn, "sam2.1_hiera_tiny.pt", SAM2_ANY, error);
 *     struct sam2_embedding e = sam2_embed_u8(sam2, 1, 480, 640, rgb, SAM2_SIDE);
 *     const float point[2] = {320, 200};
 *     const int8_t label[1] = {SAM2_INSIDE};
 *     const struct sam2_prompts prompts = {.count = 1, .points = 1, .point = point, .label = label};
 *     struct sam2_masks m = sam2_decode(sam2, &e, 0, &prompts, true);
 *     struct nn_tensor *logits = sam2_upscale(sam2, m.logits, 480, 640);   // f32 [1,3,480,640], inside where > 0
 *
 * Pictures of any size are stretched to a square of `side` pixels, without regard to their proportions, as the official
 * predictor does it: bilinear with antialiasing, then ImageNet's mean and deviation. SAM2_SIDE is what the checkpoints
 * were trained with; other multiples of 32 run too (512 takes a quarter of the time), as the network has them.
 *
 * Numbers are the official ones but for rounding in f32 and f64. Products of two matrices without anything between them
 * are taken as one where this saves work, so the last digits differ. In bf16 the coordinates of prompts, sums and norms
 * stay f32.
 *
 * Memory, f32 with side 1024: encoding one picture takes 0.7 GB besides the weights with tiny, and more with the larger
 * ones; an embedding 17 MB; decoding about 45 MB for each prompt of a slice of SAM2_SLICE_CPU (on a GPU SAM2_SLICE_GPU)
 * prompts, however many are asked for, and 0.25 MB for each map of logits returned.
 *
 * Ownership: tensors belong to the scope that was current when the function was called. Errors stick to the context.
 * A network belongs to its context's thread.
 */
#ifndef WS2_SAM2_H
#define WS2_SAM2_H

#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SAM2_SIDE 1024
#define SAM2_SIDE_STEP 32
#define SAM2_SLICE_CPU 8
#define SAM2_SLICE_GPU 64

enum sam2_size { SAM2_ANY, SAM2_TINY, SAM2_SMALL, SAM2_BASE_PLUS, SAM2_LARGE };
const char *sam2_size_name(enum sam2_size size); /* "any", "tiny", "small", "base_plus", "large" */

struct sam2;

/* ---- the network ------------------------------------------------------------------------------------------ */

/* A network of weights drawn with the seed. On failure *sam2 is NULL. */
int sam2_open(struct sam2 **sam2, struct nn *nn, enum sam2_size size, uint64_t seed, struct ws2_error *error);
/* The network of an official checkpoint or of a .safetensors file with its names: the size follows from the keys and must
 * be `wanted` unless that is SAM2_ANY. All keys that pictures need must be there; keys of the video parts are left alone;
 * any other key is an error. Messages begin with the path. WS2_ERR_MODEL when it does not fit. */
int sam2_read(struct sam2 **sam2, struct nn *nn, const char *path, enum sam2_size wanted,
              struct ws2_error *error);
/* The same from an open file; messages do not name it. */
int sam2_load(struct sam2 **sam2, struct nn *nn, const struct nn_weights *weights, enum sam2_size wanted,
              struct ws2_error *error);
/* The network of `from` once more, in a context of its own, its weights in the same memory. */
int sam2_twin(struct sam2 **sam2, struct nn *nn, const struct sam2 *from, struct ws2_error *error);
void sam2_close(struct sam2 *sam2); /* NULL is fine */

struct nn *sam2_context(const struct sam2 *sam2);
enum sam2_size sam2_size(const struct sam2 *sam2);
struct nn_params *sam2_params(const struct sam2 *sam2);
const char *sam2_digest(const struct sam2 *sam2); /* of the weights as opened or read */

/* ---- pictures --------------------------------------------------------------------------------------------- */

/* What prompts need of B pictures. g = side / 16. All three are NULL on failure. */
struct sam2_embedding {
    int64_t height, width;   /* prompts are in pixels of pictures of this size */
    struct nn_tensor *image; /* [B,256,g,g], "no memory" of the video part added */
    struct nn_tensor *fine;  /* [B,32,4g,4g] */
    struct nn_tensor *half;  /* [B,64,2g,2g] */
};

/* u8 [B,H,W,3] -> [B,3,side,side], what the network takes. */
struct nn_tensor *sam2_images_u8(const struct sam2 *sam2, int64_t batch, int64_t height, int64_t width,
                                 const uint8_t *rgb, int64_t side);
/* images [B,3,side,side]; height and width of the result are `side`. */
struct sam2_embedding sam2_encode(const struct sam2 *sam2, struct nn_tensor *images);
/* Both in one; height and width are those given. */
struct sam2_embedding sam2_embed_u8(const struct sam2 *sam2, int64_t batch, int64_t height, int64_t width,
                                    const uint8_t *rgb, int64_t side);
/* Frees its tensors early. */
void sam2_embedding_drop(const struct sam2 *sam2, struct sam2_embedding *embedding);

/* An embedding (B = 1) in plain memory, to be kept or carried to another context: sam2_embedding_floats(side) numbers. */
size_t sam2_embedding_floats(int64_t side);
int sam2_embedding_to_f32(const struct sam2 *sam2, const struct sam2_embedding *embedding, float *out);
struct sam2_embedding sam2_embedding_from_f32(const struct sam2 *sam2, int64_t height, int64_t width,
                                              int64_t side, const float *data);

/* ---- prompts ---------------------------------------------------------------------------------------------- */

/* Labels of points. The predictor gives a box as two points, before the others. */
enum { SAM2_PADDING = -1, SAM2_OUTSIDE, SAM2_INSIDE, SAM2_TOP_LEFT, SAM2_BOTTOM_RIGHT };

/* `count` prompts, each for one object, with `points` points and, unless NULL, a box and a mask. A point of padding is
 * appended to points and boxes, as the predictor does. */
struct sam2_prompts {
    int64_t count, points;
    const float *point;     /* [count,points,2]: x, y in pixels of the picture */
    const int8_t *label;    /* [count,points] */
    const float *box;       /* [count,4]: left, top, right, bottom; or NULL */
    struct nn_tensor *mask; /* [count,1,4g,4g] logits, as decoded before and held within +-32; or NULL */
};

struct sam2_masks {
    struct nn_tensor *logits; /* [count,k,4g,4g]; k = 3 with multimask, else 1 */
    struct nn_tensor *iou;    /* [count,k]: how well the network believes each to fit, 0..1 */
    struct nn_tensor
        *object; /* [count,1]: logit of there being an object at all; the predictor does not use it */
};

/* Masks of the picture number `picture` of the embedding. multimask: three candidates from small to large, for prompts
 * that may mean several things; else the one for all prompts or, where that hangs on the threshold (less than 98 % of
 * its pixels remain between -0.05 and 0.05), the best of the three. All three are NULL on failure. */
struct sam2_masks sam2_decode(const struct sam2 *sam2, const struct sam2_embedding *embedding,
                              int64_t picture, const struct sam2_prompts *prompts, bool multimask);

/* Logits at the size of the picture, bilinear: [n,k,height,width]. */
struct nn_tensor *sam2_upscale(const struct sam2 *sam2, struct nn_tensor *logits, int64_t height,
                               int64_t width);

#ifdef __cplusplus
}
#endif

#endif
