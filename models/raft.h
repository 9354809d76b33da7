/*
 * raft: optical flow by Recurrent All-Pairs Field Transforms (Teed and Deng 2020), as torchvision has it (raft_small
 * and raft_large), written over lib/nn with torchvision's parameter names, so that its checkpoints load with strict
 * keys. For inference: a flow records nothing, and what an update no longer needs is freed before the next.
 *
 *     raft_read(&raft, nn, "raft_large.pth", RAFT_ANY, error);
 *     a = raft_encode(raft, raft_images_u8(raft, 1, 480, 640, rgb_a), true);
 *     b = raft_encode(raft, raft_images_u8(raft, 1, 480, 640, rgb_b), true);
 *     raft_pair(raft, &a, &b, 12, flow);           // flow[0] a -> b, flow[1] b -> a, f32 [1,2,480,640]
 *
 * Flow is in pixels, plane 0 to the right, plane 1 down: what is at (x, y) of the first image is at (x + u, y + v) of
 * the second. Images may have any size: they are padded by repeating their edges, half on each side (the odd one right
 * and below), to multiples of 8 and at least RAFT_SIDE_MIN, and the flow is cut back; torchvision leaves that to the
 * caller. Memory is that of the correlations, 4 (HW/64)^2 bytes and a third more: 85 MB for 512x512, twice
 * that for a pair.
 *
 * Numbers are torchvision's but for rounding in f32 and f64. In bf16 convolutions and correlations are rounded as in
 * any network, coordinates and flows stay f32.
 *
 * Ownership: tensors belong to the scope that was current when the function was called. Errors stick to the context.
 * A network belongs to its context's thread.
 */
#ifndef WS2_RAFT_H
#define WS2_RAFT_H

#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RAFT_SIDE_MIN 128 /* the coarsest of four correlation levels is then 2x2 */
#define RAFT_UPDATES 12   /* torchvision's default */

enum raft_size { RAFT_ANY, RAFT_SMALL, RAFT_LARGE };
const char *raft_size_name(enum raft_size size); /* "any", "small", "large" */

struct raft;

/* ---- the network ------------------------------------------------------------------------------------------ */

/* A network (small or large) of weights drawn with the seed. On failure *raft is NULL. */
int raft_open(struct raft **raft, struct nn *nn, enum raft_size size, uint64_t seed, struct ws2_error *error);
/* The network of a .pth or .safetensors file: the size follows from its keys and must be `wanted` unless that is
 * RAFT_ANY. All weights are loaded, strictly both ways; messages begin with the path. WS2_ERR_MODEL when it does not
 * fit. */
int raft_read(struct raft **raft, struct nn *nn, const char *path, enum raft_size wanted,
              struct ws2_error *error);
/* The same from an open file; messages do not name it. */
int raft_load(struct raft **raft, struct nn *nn, const struct nn_weights *weights, enum raft_size wanted,
              struct ws2_error *error);
/* The network of `from` once more, in a context of its own, its weights in the same memory. */
int raft_twin(struct raft **raft, struct nn *nn, const struct raft *from, struct ws2_error *error);
void raft_close(struct raft *raft); /* NULL is fine */

struct nn *raft_context(const struct raft *raft);
enum raft_size raft_size(const struct raft *raft);
struct nn_params *raft_params(const struct raft *raft);
const char *raft_digest(const struct raft *raft); /* of the weights as opened or read */

/* ---- flow ------------------------------------------------------------------------------------------------- */

/* u8 [B,H,W,3] -> [B,3,H,W] in -1..1, what the network takes. */
struct nn_tensor *raft_images_u8(const struct raft *raft, int64_t batch, int64_t height, int64_t width,
                                 const uint8_t *rgb);

/* What flows need of B frames, computed once for all flows from and to them. h and w: eighths of the padded sides. */
struct raft_frame {
    int64_t height, width; /* of the images, before padding */
    struct nn_tensor
        *features;             /* [B,C,h,w], C = 128 (small) or 256: compared with those of the other frame */
    struct nn_tensor *context; /* [B,K,h,w], K = 160 or 256: where flows from this frame begin; or NULL */
};

/* images [B,3,H,W]. Without context no flow can begin here. Both tensors are NULL on failure. */
struct raft_frame raft_encode(const struct raft *raft, struct nn_tensor *images, bool context);
/* Frees both tensors early. */
void raft_frame_drop(const struct raft *raft, struct raft_frame *frame);

/* f32 [B,2,H,W] after that many updates (1 or more). Frames must have one size and batch, `from` its context. */
struct nn_tensor *raft_flow(const struct raft *raft, const struct raft_frame *from,
                            const struct raft_frame *to, int updates);
/* Both directions, flow[0] from a to b: the correlations of b with a are those of a with b, transposed. 0 or a status;
 * flow[] is NULL on failure. */
int raft_pair(const struct raft *raft, const struct raft_frame *a, const struct raft_frame *b, int updates,
              struct nn_tensor *flow[2]);

/* A frame (B = 1) in plain memory, to be carried to another context: raft_frame_floats(height, width) numbers. */
size_t raft_frame_floats(const struct raft *raft, int64_t height, int64_t width);
int raft_frame_to_f32(const struct raft *raft, const struct raft_frame *frame, float *out);
struct raft_frame raft_frame_from_f32(const struct raft *raft, int64_t height, int64_t width,
                                      const float *data);

#ifdef __cplusplus
}
#endif

#endif
