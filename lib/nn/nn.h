/*
 * nn: tensors, autograd, optimisers and weight files for networks written in C. Only the C++ files behind
 * it (torch_*.cpp) know libtorch; the weight files are read and written by C code that executes nothing.
 *
 *     struct nn *nn;
 *     if (nn_open(&nn, &(struct nn_options){.threads = 2}, error) < 0) ...
 *     nn_scope_begin(nn);
 *     struct nn_tensor *x = nn_images_u8(nn, 8, 512, 512, rgb, nn_imagenet_mean, nn_imagenet_std);
 *     struct nn_tensor *y = nn_relu(nn, nn_conv2d(nn, x, weight, NULL, nn_conv_square(2, 3, 1)));
 *     nn_to_f32(nn, nn_mean(nn, y), &mean, 1);
 *     nn_scope_end(nn);                            // frees x, y and everything in between
 *     if (nn_check(nn, error) < 0) ...             // once per step is enough
 *
 * Tensors.  Shapes are row-major, images are [B,C,H,W], weights of a convolution [out, in/groups, kh, kw], of
 *     nn_linear [out, in] -- PyTorch's layouts. A negative axis counts from the end. Two tensors of an
 *     element-wise operation broadcast as in NumPy. Views share memory as in PyTorch; an operation whose name
 *     ends in '_' changes its first tensor and returns it.
 * Ownership.  A tensor handle belongs to the scope in which it was made and dies with it; there is no free.
 *     nn_keep moves a handle to the enclosing scope, nn_keep_always to the context. Parameters and optimiser
 *     state live as long as their registry. Memory handed in is copied; memory to be filled is the caller's.
 * Errors.  The first error of a context sticks: its message is kept, every later operation does nothing and
 *     returns NULL (or a status), and NULL tensors are accepted everywhere, so a whole step may be written
 *     without a test and checked once with nn_error or nn_check. nn_error_clear makes the context usable
 *     again (the scopes are still to be ended). Nothing is thrown, printed or aborted.
 * Threads.  One context belongs to one thread at a time: the one that opened it, until another calls nn_enter. Grad
 *     mode is that thread's. With one computing thread per context, several contexts may work at once on the CPU.
 *     More than one is a property of the process (libtorch has one pool): the last nn_open decides.
 *     So is that malloc keeps freed memory for the next step (glibc): a process stays at its peak.
 *     Weight files (section "weight files") need no context and may be used from any thread.
 * Equal results.  On the CPU the same inputs, seed and threads give the same bytes. Random numbers come from
 *     ws2's own generator (base.h), so both libtorch generations start from the same weights.
 * Precision.  NN_BF16_MODE runs convolutions and matrix products in bfloat16 and keeps parameters,
 * statistics, reductions, softmax, exponentials and losses in float32 ("autocast", done by the shim itself,
 * the same for every libtorch). NN_AUTO_MODE takes it on a GPU that has it and on a CPU with AMX or
 * AVX512-BF16 (CPUID is asked: elsewhere bfloat16 is emulated and many times slower), and float32 in all
 * other cases. NN_F64_MODE is for numeric checks.
 *
 * Knows base. Only lib/train, lib/cam, models and the tests use it.
 */
#ifndef WS2_NN_H
#define WS2_NN_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct nn;        /* a context: device, precision, scopes, the sticky error */
struct nn_tensor; /* a handle on a tensor */

/* ---- context ------------------------------------------------------------------------------------------- */

enum nn_device { NN_DEVICE_AUTO, NN_DEVICE_CPU, NN_DEVICE_CUDA }; /* AUTO: a GPU if libtorch sees one */
enum nn_precision { NN_AUTO_MODE, NN_F32_MODE, NN_BF16_MODE, NN_F64_MODE };
enum nn_layout { NN_LAYOUT_AUTO, NN_LAYOUT_CHANNELS_FIRST, NN_LAYOUT_CHANNELS_LAST };

/* Zero-initialised = one thread, GPU if there is one, automatic precision and layout. */
struct nn_options {
    enum nn_device device;
    int device_index; /* which GPU, 0 = first */
    enum nn_precision precision;
    enum nn_layout layout; /* memory order of images and conv weights; shapes are [B,C,H,W] in any case. AUTO:
                              channels last for bfloat16, and for float32 on the CPU */
    int threads;           /* 0 = 1 */
    bool deterministic;    /* GPU: ask for deterministic kernels (the CPU always is) */
};

/* Returns 0, WS2_ERR_MODEL when the device is not there or bf16 was demanded where it would be emulated, or
 * WS2_ERR_SYSTEM. On failure *nn is NULL. */
int nn_open(struct nn **nn, const struct nn_options *options, struct ws2_error *error);
void nn_close(struct nn *nn); /* frees every handle; registries and optimisers must be freed before */

/* "cpu", "cuda", "cuda:1", "auto" / "auto", "f32", "bf16" (and "f64"). 0 or WS2_ERR_USAGE. */
int nn_device_parse(const char *text, enum nn_device *device, int *index);
int nn_precision_parse(const char *text, enum nn_precision *precision);
const char *nn_precision_name(enum nn_precision precision);

/* What was chosen. */
enum nn_device nn_device(const struct nn *nn);
enum nn_precision nn_precision(const struct nn *nn);
enum nn_layout nn_layout(const struct nn *nn);
int nn_threads(const struct nn *nn);

/* The calling thread works with the context from now on, with as many computing threads as the context has. No scope
 * may be open but the outermost, and no nn_no_grad_begin. */
void nn_enter(const struct nn *nn);

const char *nn_version(void); /* "libtorch 1.13.1, CPU" or "libtorch 2.15.0, CUDA 13.2"; static text */
int nn_cuda_count(void);      /* GPUs usable by this libtorch, 0 without CUDA */
bool nn_cpu_has_bf16(void);   /* AMX-BF16 or AVX512-BF16, operating system support included */
size_t nn_memory_used(const struct nn *nn);    /* bytes: GPU allocator, or resident set of the process */
int64_t nn_tensors_alive(const struct nn *nn); /* handles in all scopes, parameters included */

/* ---- errors and scopes ------------------------------------------------------------------------------------
 */

const char *nn_error(const struct nn *nn); /* the kept message, NULL when all is well */
/* 0, or the status of the kept error, copied into error (which may be NULL). */
int nn_check(const struct nn *nn, struct ws2_error *error);
void nn_error_clear(struct nn *nn);
/* Enters an error from C code built on top (a model that finds a wrong size); returns NULL. */
struct nn_tensor *nn_fail(struct nn *nn, int status, const char *format, ...) WS2_PRINTF(3, 4);

void nn_scope_begin(struct nn *nn);
void nn_scope_end(struct nn *nn);                                     /* also when the context has failed */
struct nn_tensor *nn_keep(struct nn *nn, struct nn_tensor *x);        /* to the enclosing scope; returns x */
struct nn_tensor *nn_keep_always(struct nn *nn, struct nn_tensor *x); /* until nn_close or nn_drop */
void nn_drop(struct nn *nn, struct nn_tensor *x); /* frees one handle early; NULL is fine */

/* ---- element types and questions
 * --------------------------------------------------------------------------- */

enum nn_dtype { NN_F32, NN_F64, NN_F16, NN_BF16, NN_U8, NN_I8, NN_I16, NN_I32, NN_I64, NN_BOOL, NN_DTYPES };

size_t nn_dtype_size(enum nn_dtype dtype);      /* bytes of one element, 0 for an invalid value */
const char *nn_dtype_name(enum nn_dtype dtype); /* "f32", "bf16", "bool", ... */

struct ws2_shape nn_shape(const struct nn_tensor *x); /* rank -1 for NULL */
int64_t nn_dim(const struct nn_tensor *x, int axis);  /* one extent; -1 for NULL or a bad axis */
int nn_rank(const struct nn_tensor *x);               /* -1 for NULL */
int64_t nn_count(const struct nn_tensor *x);          /* elements; -1 for NULL */
enum nn_dtype nn_dtype(const struct nn_tensor *x);    /* NN_DTYPES for NULL */

/* A list of axes. */
struct nn_axes {
    int count;
    int axis[WS2_AXES_MAX];
};
struct nn_axes nn_axes_1(int a);
struct nn_axes nn_axes_2(int a, int b);
struct nn_axes nn_axes_3(int a, int b, int c);
struct nn_axes nn_axes_4(int a, int b, int c, int d);

/* ---- data in and out
 * ------------------------------------------------------------------------------------------ */

extern const float nn_imagenet_mean[3]; /* .485 .456 .406 on RGB in 0..1 */
extern const float nn_imagenet_std[3];  /* .229 .224 .225 */

/* u8 [B,H,W,3] -> float [B,3,H,W] on the device, (value/255 - mean)/std, in the context's layout and working
 * type (f32, or f64 in NN_F64_MODE). The fast way in. */
struct nn_tensor *nn_images_u8(struct nn *nn, int64_t batch, int64_t height, int64_t width,
                               const uint8_t *rgb, const float mean[3], const float std[3]);
/* The same for floats in 0..1, [B,H,W,3]. */
struct nn_tensor *nn_images_f32(struct nn *nn, int64_t batch, int64_t height, int64_t width, const float *rgb,
                                const float mean[3], const float std[3]);

/* Copies of C arrays of shape's element count, type as named (f32 becomes f64 in NN_F64_MODE). */
struct nn_tensor *nn_from_f32(struct nn *nn, struct ws2_shape shape, const float *data);
struct nn_tensor *nn_from_f64(struct nn *nn, struct ws2_shape shape, const double *data);
struct nn_tensor *nn_from_u8(struct nn *nn, struct ws2_shape shape, const uint8_t *data);
struct nn_tensor *nn_from_i64(struct nn *nn, struct ws2_shape shape, const int64_t *data);

/* Copies out in C order with conversion; count must be the tensor's element count. 0 or a status. */
int nn_to_f32(struct nn *nn, struct nn_tensor *x, float *out, size_t count);
int nn_to_f64(struct nn *nn, struct nn_tensor *x, double *out, size_t count);
int nn_to_u8(struct nn *nn, struct nn_tensor *x, uint8_t *out, size_t count); /* truncates, no clamping */
int nn_to_i64(struct nn *nn, struct nn_tensor *x, int64_t *out, size_t count);
double nn_item(struct nn *nn, struct nn_tensor *x); /* one element; NaN on failure. Waits for the GPU. */

/* ---- creation
 * ---------------------------------------------------------------------------------------------------- */

struct nn_tensor *nn_zeros(struct nn *nn, struct ws2_shape shape, enum nn_dtype dtype);
struct nn_tensor *nn_ones(struct nn *nn, struct ws2_shape shape, enum nn_dtype dtype);
struct nn_tensor *nn_full(struct nn *nn, struct ws2_shape shape, double value, enum nn_dtype dtype);
struct nn_tensor *nn_zeros_like(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_ones_like(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_eye(struct nn *nn, int64_t n); /* working type */
struct nn_tensor *nn_arange(struct nn *nn, int64_t begin, int64_t end, enum nn_dtype dtype);
struct nn_tensor *nn_linspace(struct nn *nn, double first, double last, int64_t count); /* working type */
/* Uniform [0,1) / normal (0,1) numbers of ws2's generator, drawn in row-major order from *random. */
struct nn_tensor *nn_rand(struct nn *nn, struct ws2_shape shape, struct ws2_random *random);
struct nn_tensor *nn_randn(struct nn *nn, struct ws2_shape shape, struct ws2_random *random);

/* ---- form
 * -------------------------------------------------------------------------------------------------------- */

struct nn_tensor *nn_clone(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_copy_(struct nn *nn, struct nn_tensor *to,
                           struct nn_tensor *from);                  /* broadcasts, converts */
struct nn_tensor *nn_contiguous(struct nn *nn, struct nn_tensor *x); /* row-major, whatever the layout was */
struct nn_tensor *nn_to_dtype(struct nn *nn, struct nn_tensor *x, enum nn_dtype dtype);
struct nn_tensor *nn_reshape(struct nn *nn, struct nn_tensor *x, struct ws2_shape shape); /* one -1 allowed */
struct nn_tensor *nn_flatten(struct nn *nn, struct nn_tensor *x, int from, int to);
struct nn_tensor *nn_squeeze(struct nn *nn, struct nn_tensor *x, int axis);
struct nn_tensor *nn_unsqueeze(struct nn *nn, struct nn_tensor *x, int axis);
struct nn_tensor *nn_permute(struct nn *nn, struct nn_tensor *x, struct nn_axes order);
struct nn_tensor *nn_transpose(struct nn *nn, struct nn_tensor *x, int a, int b);
struct nn_tensor *nn_expand(struct nn *nn, struct nn_tensor *x,
                            struct ws2_shape shape); /* -1 keeps an extent */
struct nn_tensor *nn_repeat(struct nn *nn, struct nn_tensor *x, struct ws2_shape times);
struct nn_tensor *nn_repeat_interleave(struct nn *nn, struct nn_tensor *x, int64_t times, int axis);
struct nn_tensor *nn_cat(struct nn *nn, struct nn_tensor *const *x, int count, int axis);
struct nn_tensor *nn_stack(struct nn *nn, struct nn_tensor *const *x, int count, int axis);
struct nn_tensor *nn_narrow(struct nn *nn, struct nn_tensor *x, int axis, int64_t begin, int64_t length);
struct nn_tensor *nn_slice(struct nn *nn, struct nn_tensor *x, int axis, int64_t begin, int64_t end,
                           int64_t step);
struct nn_tensor *nn_select(struct nn *nn, struct nn_tensor *x, int axis, int64_t index); /* drops the axis */
/* Cuts into `count` equal parts along axis (the extent must divide); out receives count handles. */
int nn_chunk(struct nn *nn, struct nn_tensor *x, int count, int axis, struct nn_tensor **out);
struct nn_tensor *nn_flip(struct nn *nn, struct nn_tensor *x, struct nn_axes axes);
struct nn_tensor *nn_roll(struct nn *nn, struct nn_tensor *x, int64_t shift, int axis);
/* Pads the last two axes: left, right, top, bottom. */
struct nn_tensor *nn_pad_constant(struct nn *nn, struct nn_tensor *x, int left, int right, int top,
                                  int bottom, double value);
struct nn_tensor *nn_pad_replicate(struct nn *nn, struct nn_tensor *x, int left, int right, int top,
                                   int bottom);

/* Quarters of images, for puzzle training: [B,C,H,W] -> [4B,C,H/2,W/2], order: all top-left, all top-right,
 * all bottom-left, all bottom-right (Puzzle-CAM); nn_untile puts [4B,C,h,w] together again. H and W must be
 * even. */
struct nn_tensor *nn_tile(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_untile(struct nn *nn, struct nn_tensor *x);

/* ---- choosing
 * ------------------------------------------------------------------------------------------------------ */

struct nn_tensor *nn_index_select(struct nn *nn, struct nn_tensor *x, int axis,
                                  struct nn_tensor *index); /* i64 */
struct nn_tensor *nn_mask_select(struct nn *nn, struct nn_tensor *x,
                                 struct nn_tensor *mask); /* bool; rows or all */
struct nn_tensor *nn_gather(struct nn *nn, struct nn_tensor *x, int axis, struct nn_tensor *index);
struct nn_tensor *nn_nonzero(struct nn *nn, struct nn_tensor *x); /* i64 [n, rank] */
struct nn_tensor *nn_where(struct nn *nn, struct nn_tensor *mask, struct nn_tensor *yes,
                           struct nn_tensor *no);
struct nn_tensor *nn_masked_fill(struct nn *nn, struct nn_tensor *x, struct nn_tensor *mask, double value);
struct nn_tensor *nn_one_hot(struct nn *nn, struct nn_tensor *labels,
                             int64_t classes); /* i64 [B] -> [B,C] working type */

/* ---- arithmetic
 * ------------------------------------------------------------------------------------------------------ */

struct nn_tensor *nn_add(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_sub(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_mul(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_div(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_add_(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_sub_(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_mul_(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_div_(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_add_scalar(struct nn *nn, struct nn_tensor *x, double value);
struct nn_tensor *nn_mul_scalar(struct nn *nn, struct nn_tensor *x, double value);
struct nn_tensor *nn_add_scalar_(struct nn *nn, struct nn_tensor *x, double value);
struct nn_tensor *nn_mul_scalar_(struct nn *nn, struct nn_tensor *x, double value);
/* a + scale * b, one pass. */
struct nn_tensor *nn_add_scaled(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b, double scale);
struct nn_tensor *nn_add_scaled_(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b, double scale);
struct nn_tensor *nn_neg(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_abs(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_sign(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_square(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_pow(struct nn *nn, struct nn_tensor *x, double exponent);
struct nn_tensor *nn_sqrt(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_rsqrt(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_reciprocal(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_exp(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_log(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_sin(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_cos(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_floor(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_clamp(struct nn *nn, struct nn_tensor *x, double low,
                           double high); /* +-INFINITY = open */
struct nn_tensor *nn_minimum(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_maximum(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);

struct nn_tensor *nn_gt(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b); /* comparisons give bool */
struct nn_tensor *nn_ge(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_lt(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_eq(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_gt_scalar(struct nn *nn, struct nn_tensor *x, double value);
struct nn_tensor *nn_ge_scalar(struct nn *nn, struct nn_tensor *x, double value);
struct nn_tensor *nn_lt_scalar(struct nn *nn, struct nn_tensor *x, double value);
struct nn_tensor *nn_eq_scalar(struct nn *nn, struct nn_tensor *x, double value);
struct nn_tensor *nn_logical_and(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_logical_or(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_logical_not(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_isnan(struct nn *nn, struct nn_tensor *x);

/* ---- reductions
 * ------------------------------------------------------------------------------------------------------- */

struct nn_tensor *nn_sum(struct nn *nn, struct nn_tensor *x);  /* over everything, rank 0 */
struct nn_tensor *nn_mean(struct nn *nn, struct nn_tensor *x); /* over everything, rank 0 */
struct nn_tensor *nn_sum_axes(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool keep);
struct nn_tensor *nn_mean_axes(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool keep);
struct nn_tensor *nn_var_axes(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool unbiased,
                              bool keep);
struct nn_tensor *nn_amax(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool keep);
struct nn_tensor *nn_amin(struct nn *nn, struct nn_tensor *x, struct nn_axes axes, bool keep);
/* Largest value and (unless NULL) its first index, i64, along one axis. */
struct nn_tensor *nn_max_axis(struct nn *nn, struct nn_tensor *x, int axis, bool keep,
                              struct nn_tensor **index);
struct nn_tensor *nn_argmax(struct nn *nn, struct nn_tensor *x, int axis); /* i64; ties: the lowest index */
struct nn_tensor *nn_norm_axes(struct nn *nn, struct nn_tensor *x, struct nn_axes axes,
                               bool keep);                    /* Euclidean */
struct nn_tensor *nn_any(struct nn *nn, struct nn_tensor *x); /* bool, rank 0 */
struct nn_tensor *nn_all(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_cumsum(struct nn *nn, struct nn_tensor *x, int axis);
struct nn_tensor *nn_argsort(struct nn *nn, struct nn_tensor *x, int axis, bool descending); /* stable, i64 */

/* ---- layers
 * ----------------------------------------------------------------------------------------------------------
 */

struct nn_conv {
    int stride[2], pad[2], dilation[2]; /* height, width */
    int groups;
};
struct nn_conv nn_conv_square(int stride, int pad, int dilation); /* groups 1 */

/* x [B,in,H,W], weight [out,in/groups,kh,kw], bias [out] or NULL. */
struct nn_tensor *nn_conv2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                            struct nn_tensor *bias, struct nn_conv conv);
/* weight [in,out/groups,kh,kw] -- in comes first. */
struct nn_tensor *nn_conv_transpose2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                                      struct nn_tensor *bias, struct nn_conv conv);
struct nn_tensor *nn_linear(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                            struct nn_tensor *bias);
struct nn_tensor *nn_matmul(struct nn *nn, struct nn_tensor *a,
                            struct nn_tensor *b); /* batched, broadcasts */
/* softmax(q k^T / sqrt(d)) v over [...,L,d]; no mask, no dropout. */
struct nn_tensor *nn_attention(struct nn *nn, struct nn_tensor *q, struct nn_tensor *k, struct nn_tensor *v);

/* weight, bias, mean, var [C]. training: normalise by the batch (biased variance) and move mean and var in
 * place by `momentum` towards the batch's (var: unbiased); else normalise by mean and var. */
struct nn_tensor *nn_batch_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                                struct nn_tensor *bias, struct nn_tensor *mean, struct nn_tensor *var,
                                bool training, double momentum, double eps);
struct nn_tensor *nn_instance_norm(struct nn *nn, struct nn_tensor *x, double eps); /* no affine part */
/* Over the last axis, weight and bias [D] (both may be NULL). */
struct nn_tensor *nn_layer_norm(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                                struct nn_tensor *bias, double eps);
/* Over the channels of each pixel of [B,C,H,W]. */
struct nn_tensor *nn_layer_norm2d(struct nn *nn, struct nn_tensor *x, struct nn_tensor *weight,
                                  struct nn_tensor *bias, double eps);

/* Over groups of channels of [B,C,H,W], weight and bias [C] (both may be NULL). C must be a multiple of groups. */
struct nn_tensor *nn_group_norm(struct nn *nn, struct nn_tensor *x, int64_t groups, struct nn_tensor *weight,
                                struct nn_tensor *bias, double eps);

struct nn_tensor *nn_elu(struct nn *nn, struct nn_tensor *x); /* x, or exp(x) - 1 where x is negative */
struct nn_tensor *nn_relu(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_relu_(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_gelu(struct nn *nn, struct nn_tensor *x); /* exact erf form */
struct nn_tensor *nn_sigmoid(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_log_sigmoid(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_softplus(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_tanh(struct nn *nn, struct nn_tensor *x);
struct nn_tensor *nn_softmax(struct nn *nn, struct nn_tensor *x, int axis);
struct nn_tensor *nn_log_softmax(struct nn *nn, struct nn_tensor *x, int axis);
/* Zeroes each element (nn_dropout) or each sample's whole row (nn_drop_path) with probability p and scales
 * the rest by 1/(1-p). The caller decides when (training only) and gives the generator. */
struct nn_tensor *nn_dropout(struct nn *nn, struct nn_tensor *x, double p, struct ws2_random *random);
struct nn_tensor *nn_drop_path(struct nn *nn, struct nn_tensor *x, double p, struct ws2_random *random);

struct nn_tensor *nn_max_pool2d(struct nn *nn, struct nn_tensor *x, int kernel, int stride, int pad);
struct nn_tensor *nn_avg_pool2d(struct nn *nn, struct nn_tensor *x, int kernel, int stride,
                                int pad);                                 /* pads not counted */
struct nn_tensor *nn_global_avg_pool(struct nn *nn, struct nn_tensor *x); /* [B,C,H,W] -> [B,C], f32 sums */
struct nn_tensor *nn_global_max_pool(struct nn *nn, struct nn_tensor *x); /* [B,C,H,W] -> [B,C] */

/* Resampling to height x width, half-pixel centres unless align_corners. */
struct nn_tensor *nn_resize_nearest(struct nn *nn, struct nn_tensor *x, int64_t height, int64_t width);
struct nn_tensor *nn_resize_bilinear(struct nn *nn, struct nn_tensor *x, int64_t height, int64_t width,
                                     bool align_corners);
/* a = -0.75. scale_h, scale_w > 0 replace out/in in the coordinates (0 = from the sizes). */
struct nn_tensor *nn_resize_bicubic(struct nn *nn, struct nn_tensor *x, int64_t height, int64_t width,
                                    double scale_h, double scale_w);
struct nn_tensor *nn_resize_bilinear_aa(struct nn *nn, struct nn_tensor *x, int64_t height, int64_t width);
struct nn_tensor *nn_resize_bicubic_aa(struct nn *nn, struct nn_tensor *x, int64_t height,
                                       int64_t width); /* a = -0.5 */
/* Samples x [B,C,H,W] at grid [B,h,w,2] (x,y in -1..1), bilinear, zeros outside. */
struct nn_tensor *nn_grid_sample(struct nn *nn, struct nn_tensor *x, struct nn_tensor *grid,
                                 bool align_corners);
struct nn_tensor *nn_unfold(struct nn *nn, struct nn_tensor *x, int kernel, int pad,
                            int stride); /* im2col [B,C*k*k,L] */

/* ---- losses (float32 whatever the mode; rank 0 = mean)
 * -------------------------------------------------------------- */

/* logits [B,C,...], labels i64 [B,...]. Labels equal to `ignore` do not count (-1 = none). weight [C] or
 * NULL. */
struct nn_tensor *nn_cross_entropy(struct nn *nn, struct nn_tensor *logits, struct nn_tensor *labels,
                                   struct nn_tensor *weight, int64_t ignore, double smoothing);
/* Multi-label soft margin: mean over batch and classes of softplus(x) - y x; logits, targets [B,C]. */
struct nn_tensor *nn_multilabel_soft_margin(struct nn *nn, struct nn_tensor *logits,
                                            struct nn_tensor *targets);
struct nn_tensor *nn_bce_with_logits(struct nn *nn, struct nn_tensor *logits, struct nn_tensor *targets);
struct nn_tensor *nn_bce(struct nn *nn, struct nn_tensor *probs,
                         struct nn_tensor *targets); /* logs clamped at -100 */
struct nn_tensor *nn_mse(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
struct nn_tensor *nn_l1(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b);
/* Mean over all B*C*H*W entries of |a-b| * targets[b,c]: maps [B,C,H,W], targets [B,C] (Puzzle-CAM). */
struct nn_tensor *nn_masked_l1(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b,
                               struct nn_tensor *targets);
struct nn_tensor *nn_cosine(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b, int axis, double eps);

/* ---- autograd
 * ------------------------------------------------------------------------------------------------------- */

/* Operations between begin and end record nothing. Nests. */
void nn_no_grad_begin(struct nn *nn);
void nn_no_grad_end(struct nn *nn);
bool nn_grad_enabled(const struct nn *nn);
struct nn_tensor *nn_detach(struct nn *nn, struct nn_tensor *x); /* same memory, cut from the graph */
/* Turns a leaf (from C data, detached, or a parameter) into one that collects gradients; returns x. */
struct nn_tensor *nn_requires_grad(struct nn *nn, struct nn_tensor *x, bool on);
bool nn_has_grad_path(const struct nn_tensor *x); /* does x depend on something that requires a gradient? */
/* Adds d loss / d leaf to every leaf's gradient. loss: one element. Frees the graph. */
int nn_backward(struct nn *nn, struct nn_tensor *loss);
/* The collected gradient of a leaf, zeros when there is none. */
struct nn_tensor *nn_leaf_grad(struct nn *nn, struct nn_tensor *x);
/* out[i] = d sum(y) / d x[i], without touching collected gradients; zeros where y does not depend on x[i].
 * keep_graph: y may be differentiated again; higher: the result can be differentiated itself. */
int nn_grad(struct nn *nn, struct nn_tensor *y, struct nn_tensor *const *x, int count, bool keep_graph,
            bool higher, struct nn_tensor **out);

/* ---- parameters
 * -------------------------------------------------------------------------------------------------------- */

/* The registry of one network: named tensors in order of declaration. */
struct nn_params;

enum nn_kind {
    NN_WEIGHT, /* trained */
    NN_BIAS,   /* trained */
    NN_BUFFER, /* carried along, not trained: running statistics */
    NN_COUNTER /* i64 scalar, not trained: num_batches_tracked */
};

enum nn_init_rule {
    NN_INIT_CONSTANT,       /* value */
    NN_INIT_NORMAL,         /* mean 0, deviation `value` */
    NN_INIT_TRUNC_NORMAL,   /* the same, redrawn outside two deviations */
    NN_INIT_UNIFORM,        /* -value .. value */
    NN_INIT_KAIMING_OUT,    /* normal, deviation sqrt(2 / (out * kh * kw)): He, ReLU gain, fan-out */
    NN_INIT_XAVIER_UNIFORM, /* +-sqrt(6 / (fan in + fan out)) */
    NN_INIT_DEFAULT         /* PyTorch's default of conv and linear: uniform +-1/sqrt(fan in) */
};
struct nn_init {
    enum nn_init_rule rule;
    double value; /* NN_INIT_DEFAULT of a bias: its layer's fan in */
};
struct nn_init nn_init_make(enum nn_init_rule rule, double value);

/* One row of the registry. */
struct nn_param {
    const char *name; /* "layer1.0.conv1.weight" */
    enum nn_kind kind;
    struct ws2_shape shape;
    struct nn_init init;
    struct nn_tensor *tensor;
    bool trained; /* requires a gradient and is seen by the optimiser; see nn_params_set_trained */
    int group;    /* of the optimiser, 0 = first */
    bool loaded;  /* came from a file in the last nn_params_load */
};

struct nn_params *nn_params_new(struct nn *nn);
void nn_params_free(struct nn_params *params);
struct nn *nn_params_context(const struct nn_params *params);

/* Names are built from the levels entered: enter "layer1.0", declare "conv1.weight". */
void nn_params_enter(struct nn_params *params, const char *format, ...) WS2_PRINTF(2, 3);
void nn_params_leave(struct nn_params *params);
/* Declares a parameter of that shape in the context's working type, on its device; the values are zeros until
 * nn_params_init or nn_params_load. A name declared twice is an error. Weights and biases require gradients.
 */
struct nn_tensor *nn_declare(struct nn_params *params, enum nn_kind kind, const char *name,
                             struct ws2_shape shape, struct nn_init init);

int nn_params_count(const struct nn_params *params);
const struct nn_param *nn_params_at(const struct nn_params *params, int index);
int nn_params_find(const struct nn_params *params, const char *name); /* index or -1 */
int64_t nn_params_elements(const struct nn_params *params);           /* in weights and biases */
/* Patterns are names, or prefixes that end in '*' ("fc.*"). Both return how many parameters matched. */
int nn_params_set_trained(struct nn_params *params, const char *pattern, bool trained);
int nn_params_set_group(struct nn_params *params, const char *pattern, int group);
void nn_param_set_group(struct nn_params *params, int index, int group);

/* Fills everything by its init rule. A parameter's numbers depend only on the seed and its name. */
int nn_params_init(struct nn_params *params, uint64_t seed);
/* Fills one parameter from packed row-major floats; count must fit. */
int nn_params_fill(struct nn_params *params, int index, const float *data, size_t count);
/* `to` has the values of `from`, by name, strict, in the same memory: what one writes the other reads. For equal networks
 * in several contexts that only read them. */
int nn_params_share(struct nn_params *to, const struct nn_params *from);
void nn_params_zero_grad(struct nn_params *params);
/* Scales all collected gradients so that their common norm is at most max; returns the norm before. */
double nn_params_clip_grad(struct nn_params *params, double max);

/* ---- a batch normalisation layer, as all our convolution networks use it
 * ---------------------------------------------- */

struct nn_bn {
    struct nn_tensor *weight, *bias, *mean, *var, *count; /* [C] x4, i64 scalar */
};
/* Declares NAME.weight, .bias, .running_mean, .running_var, .num_batches_tracked. */
struct nn_bn nn_bn_declare(struct nn_params *params, const char *name, int64_t channels);
/* momentum 0.1, eps 1e-5; training also counts the batch. relu: max(0, result), fused where possible. */
struct nn_tensor *nn_bn_apply(struct nn *nn, const struct nn_bn *bn, struct nn_tensor *x, bool training,
                              bool relu);

/* ---- optimisers
 * ----------------------------------------------------------------------------------------------------------
 */

enum nn_optim_kind {
    NN_SGD,  /* g += wd*p; buf = momentum*buf + g (first step: buf = g); step g + momentum*buf (Nesterov) or
                buf */
    NN_ADAM, /* Kingma & Ba with bias correction; weight decay added to the gradient */
    NN_ADAMW /* Loshchilov & Hutter: p *= 1 - lr*wd first */
};

#define NN_GROUPS_MAX 8

struct nn_group {
    double lr_scale; /* this group's rate = lr of the step * lr_scale */
    double weight_decay;
};

struct nn_optim_options {
    enum nn_optim_kind kind;
    double momentum; /* SGD */
    bool nesterov;
    double beta1, beta2, eps; /* Adam, AdamW: 0 = 0.9, 0.999, 1e-8 */
    int groups;               /* 0 = one group of scale 1 without decay */
    struct nn_group group[NN_GROUPS_MAX];
};

struct nn_optim;
/* Keeps a pointer to params. NULL (and the context's sticky error) on failure, e.g. a group out of range. */
struct nn_optim *nn_optim_new(struct nn_params *params, const struct nn_optim_options *options);
void nn_optim_free(struct nn_optim *optim);
/* One step with the collected gradients (parameters without one are left alone). Does not zero them. */
int nn_optim_step(struct nn_optim *optim, double lr);
int64_t nn_optim_steps(const struct nn_optim *optim); /* steps made, restored ones included */

/* ---- weight files (no context, no libtorch)
 * --------------------------------------------------------------------------- */

/*
 * An open weight file: .safetensors, PyTorch's zip .pth/.pt, or the older PyTorch stream (0.1.x - 1.5), told
 * apart by content. Pickles are interpreted by a restricted reader: only opcodes and globals that build
 * dictionaries of tensors are known, nothing is ever called, and everything else is an error. TorchScript
 * archives and the tar files of PyTorch 0.1 are refused with a message. The file is mapped; names and shapes
 * are checked against its size before use.
 */
struct nn_weights;

struct nn_weight {
    const char *name;
    enum nn_dtype dtype;
    struct ws2_shape shape;
};

/* key: the dictionary inside a .pth that holds the tensors ("model", "state_dict", "a.b"); NULL = the top one
 * if it has tensors, else model, state_dict, model_state_dict, in this order. 0, WS2_ERR_INPUT (foreign,
 * corrupt, hostile), WS2_ERR_TRUNCATED or WS2_ERR_SYSTEM. */
int nn_weights_open(struct nn_weights **weights, const char *path, const char *key, struct ws2_error *error);
/* The same from memory, which must outlive the object. */
int nn_weights_open_memory(struct nn_weights **weights, const uint8_t *bytes, size_t size, const char *name,
                           const char *key, struct ws2_error *error);
void nn_weights_close(struct nn_weights *weights);

int nn_weights_count(const struct nn_weights *weights);
const struct nn_weight *nn_weights_at(const struct nn_weights *weights, int index); /* in file order */
int nn_weights_find(const struct nn_weights *weights, const char *name);            /* index or -1 */
const char *nn_weights_meta(const struct nn_weights *weights,
                            const char *key); /* safetensors only; or NULL */
const char *
nn_weights_format(const struct nn_weights *weights); /* "safetensors", "pytorch zip", "pytorch stream" */
/* Elements in row-major order, in their own type, to out, which holds exactly `bytes` bytes. */
int nn_weights_read(const struct nn_weights *weights, int index, uint8_t *out, size_t bytes,
                    struct ws2_error *error);
/* The same converted; any numeric type to f32 and f64, integers and bool only to i64. count must fit. */
int nn_weights_read_f32(const struct nn_weights *weights, int index, float *out, size_t count,
                        struct ws2_error *error);
int nn_weights_read_f64(const struct nn_weights *weights, int index, double *out, size_t count,
                        struct ws2_error *error);
int nn_weights_read_i64(const struct nn_weights *weights, int index, int64_t *out, size_t count,
                        struct ws2_error *error);
/* 128-bit xxh3 over names, types, shapes and values in order of name, 32 hex digits: the same for equal
 * weights in any container. Counters (num_batches_tracked) and metadata do not count. */
#define NN_DIGEST_SIZE 33
int nn_weights_digest(const struct nn_weights *weights, char text[NN_DIGEST_SIZE], struct ws2_error *error);

/* Writes .safetensors: everything is collected in memory, then PATH.tmp is written, synced and renamed. */
struct nn_saver;
struct nn_saver *nn_saver_new(const char *path); /* NULL when out of memory */
int nn_saver_meta(struct nn_saver *saver, const char *key, const char *value);
/* Copies bytes of packed row-major data. */
int nn_saver_add(struct nn_saver *saver, const char *name, enum nn_dtype dtype, struct ws2_shape shape,
                 const uint8_t *data, size_t bytes);
/* Writes the file. Errors of the calls before are reported here too, so they need no checks of their own. */
int nn_saver_finish(struct nn_saver *saver, struct ws2_error *error);
void nn_saver_free(struct nn_saver *saver);

/* ---- parameters from and to files
 * ----------------------------------------------------------------------------------------- */

#define NN_SKIP_MAX 8

struct nn_load_options {
    const char *prefix; /* file names are prefix + our names: "module.", "model."; other names in the file are
                           left alone. NULL = "" and then every name of the file must be ours. */
    const char *skip[NN_SKIP_MAX]; /* our names or prefixes with '*' that keep their values, e.g. "fc.*"; the
                                      same names in the file are left alone */
};

struct nn_load_report {
    int loaded;        /* parameters filled */
    int skipped;       /* ours, kept by `skip` */
    int ignored;       /* in the file, left alone by `skip` or outside `prefix` */
    int counters_zero; /* num_batches_tracked not in the file, set to 0 as PyTorch does */
    char text[200];    /* one line for a log: "102 tensors from resnet18.pth; kept fc.weight fc.bias; ..." */
};

/* Strict both ways: a name of ours that the file lacks, a name of the file that we lack and a different shape
 * are WS2_ERR_MODEL, the message giving the key, the wanted and the found shape; nothing is changed then. The
 * only exceptions are those of the options and missing counters; all are counted in the report (may be NULL).
 */
int nn_params_load(struct nn_params *params, const struct nn_weights *weights,
                   const struct nn_load_options *options, struct nn_load_report *report,
                   struct ws2_error *error);
/* Adds all parameters as prefix + name. prefix may be NULL. */
int nn_params_save(const struct nn_params *params, struct nn_saver *saver, const char *prefix);
/* Digest as nn_weights_digest would give it for a file saved with these parameters and no prefix. */
int nn_params_digest(const struct nn_params *params, char text[NN_DIGEST_SIZE], struct ws2_error *error);
/* Optimiser state (step count, momenta) under prefix + "steps", prefix + name + ".m" ...; loading is strict.
 */
int nn_optim_save(const struct nn_optim *optim, struct nn_saver *saver, const char *prefix);
int nn_optim_load(struct nn_optim *optim, const struct nn_weights *weights, const char *prefix,
                  struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
