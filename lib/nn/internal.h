/*
 * What the files of this room share and nobody else needs.
 */
#ifndef WS2_NN_INTERNAL_H
#define WS2_NN_INTERNAL_H

#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The type of parameters and images: NN_F32, or NN_F64 in NN_F64_MODE. */
enum nn_dtype nn_working_dtype(const struct nn *nn);
/* A tensor of zeros in the outermost scope, in the context's layout when it is a convolution weight. */
struct nn_tensor *nn_new_parameter(struct nn *nn, struct ws2_shape shape, enum nn_dtype dtype, bool grad);
/* Overwrites without recording, whatever the grad mode; converts and broadcasts. */
int nn_assign(struct nn *nn, struct nn_tensor *to, struct nn_tensor *from);
/* to becomes another handle on the memory of from, which may be of another context on the same device. */
int nn_share(struct nn *nn, struct nn_tensor *to, const struct nn_tensor *from);
bool nn_has_leaf_grad(const struct nn_tensor *x);
void nn_clear_grad(struct nn *nn, struct nn_tensor *x);

/* One optimiser update of `count` leaves that all have gradients (torch_train.cpp: multi-tensor operations). */
struct nn_update {
    int count;
    struct nn_tensor **param;
    struct nn_tensor **first;  /* SGD: momentum buffers (NULL: no momentum); Adam: means of gradients */
    struct nn_tensor **second; /* Adam: means of squared gradients */
    double lr, weight_decay;
    double momentum;
    bool nesterov;
    bool fresh; /* SGD: the buffers hold nothing yet and take the gradient itself */
    double beta1, beta2, eps;
    bool decoupled; /* AdamW */
    int64_t step;   /* Adam: 1, 2, ... */
};
int nn_update_sgd(struct nn *nn, const struct nn_update *update);
int nn_update_adam(struct nn *nn, const struct nn_update *update);
/* Common norm of the gradients; scales them by max / norm when the norm is larger. */
double nn_clip_grads(struct nn *nn, struct nn_tensor *const *param, int count, double max);

/* images.c: (value * scale - mean) / std for `pixels` RGB pixels; interleaved keeps [n,3], planar gives [3,n]. */
void nn_normalise_u8(float *out, const uint8_t *rgb, int64_t pixels, bool planar, const float mean[3],
                     const float std[3]);
void nn_normalise_f32(float *out, const float *rgb, int64_t pixels, bool planar, const float mean[3],
                      const float std[3]);

/* digest.c: tensors must be added in order of name. */
struct nn_digest;
struct nn_digest *nn_digest_new(void); /* NULL when out of memory */
void nn_digest_add(struct nn_digest *digest, const char *name, enum nn_dtype dtype,
                   const struct ws2_shape *shape, const uint8_t *data, size_t bytes);
void nn_digest_finish(struct nn_digest *digest, char text[NN_DIGEST_SIZE]); /* also frees it; NULL is fine */

/* ---- weight files ------------------------------------------------------------------------------------------ */

/* A tensor of a file: a strided view of `storage`, which lies in the mapped file. */
struct nn_entry {
    struct nn_weight info;
    const uint8_t *storage;
    size_t storage_bytes;
    uint64_t first; /* element of the storage at index 0, 0, ... */
    int64_t stride[WS2_AXES_MAX];
};

struct nn_weights {
    const uint8_t *bytes;
    size_t size;
    bool mapped;
    const char *format;
    struct nn_entry *entry; /* names are owned */
    int count, capacity;
    int *sorted; /* by name, made when all are there */
    char **meta; /* key, value, key, value ... */
    int metas;   /* pairs */
};

#define NN_NAME_MAX 512

/* Adds a tensor after checking that every element of the view lies in the storage. stride NULL: packed. */
int nn_weights_add(struct nn_weights *weights, const char *name, size_t length, enum nn_dtype dtype,
                   const struct ws2_shape *shape, const int64_t *stride, uint64_t first,
                   const uint8_t *storage, size_t storage_bytes, struct ws2_error *error);
int nn_weights_add_meta(struct nn_weights *weights, const char *key, const char *value,
                        struct ws2_error *error);

/* The formats; each fills an object whose bytes and size are set. */
int nn_read_safetensors(struct nn_weights *weights, struct ws2_error *error);
int nn_read_pytorch_zip(struct nn_weights *weights, const char *key, struct ws2_error *error);
int nn_read_pytorch_stream(struct nn_weights *weights, const char *key, struct ws2_error *error);

/* zip.c: the directory of an archive of stored entries, checked against the file. */
struct nn_zip_entry {
    const char *name; /* not terminated */
    size_t name_length;
    const uint8_t *data;
    size_t size;
    uint32_t crc; /* 0 = not known */
};
struct nn_zip {
    struct nn_zip_entry *entry; /* in order of name */
    size_t count;
};
int nn_zip_open(struct nn_zip *zip, const uint8_t *bytes, size_t size, struct ws2_error *error);
void nn_zip_free(struct nn_zip *zip);
/* NULL when there is none. */
const struct nn_zip_entry *nn_zip_find(const struct nn_zip *zip, const char *name, size_t length);
uint32_t nn_crc32(const uint8_t *bytes, size_t size);

/* pickle.c: a pickle's value. Nothing is executed: REDUCE builds a dictionary, a tensor description or an opaque
 * value, depending on the global's name. */
enum nn_pickle_type {
    NN_PICKLE_NONE,
    NN_PICKLE_BOOL,
    NN_PICKLE_INT,
    NN_PICKLE_FLOAT,
    NN_PICKLE_TEXT,
    NN_PICKLE_TUPLE,
    NN_PICKLE_LIST,
    NN_PICKLE_DICT, /* item: key, value, key, value ... */
    NN_PICKLE_GLOBAL,
    NN_PICKLE_STORAGE,
    NN_PICKLE_TENSOR,
    NN_PICKLE_OPAQUE
};

struct nn_pickle_storage {
    const char *key; /* not terminated */
    size_t key_length;
    enum nn_dtype dtype;
    uint64_t elements;     /* of the whole storage */
    uint64_t view, length; /* the part that tensors see, in elements */
};

struct nn_pickle_tensor {
    struct nn_pickle_storage *storage;
    struct ws2_shape shape;
    int64_t stride[WS2_AXES_MAX];
    uint64_t first;
};

struct nn_pickle_value {
    enum nn_pickle_type type;
    int64_t integer;  /* INT, BOOL; GLOBAL: which one */
    const char *text; /* TEXT: not terminated, in the file */
    size_t length;
    struct nn_pickle_value **item; /* TUPLE, LIST, DICT */
    size_t count, capacity;
    struct nn_pickle_storage *storage; /* STORAGE */
    struct nn_pickle_tensor *tensor;   /* TENSOR */
};

struct nn_pickle;
struct nn_pickle *nn_pickle_new(void);
void nn_pickle_free(struct nn_pickle *pickle); /* with all its values */
/* Interprets one pickle at the beginning of bytes; *used is its length. The value lives as long as the object. */
const struct nn_pickle_value *nn_pickle_read(struct nn_pickle *pickle, const uint8_t *bytes, size_t size,
                                             size_t *used, struct ws2_error *error);
/* The dictionary that holds the weights (rule at nn_weights_open). */
const struct nn_pickle_value *nn_pickle_weights(const struct nn_pickle_value *top, const char *key,
                                                struct ws2_error *error);
bool nn_pickle_is(const struct nn_pickle_value *value, const char *text); /* TEXT equal to text? */
/* All storages that were described, in order of key; equal keys stand together. Free the list. */
int nn_pickle_storages(const struct nn_pickle *pickle, const struct nn_pickle_storage ***list, size_t *count,
                       struct ws2_error *error);
/* Order of two keys: by length, then by bytes. */
int nn_pickle_compare(const char *a, size_t a_length, const char *b, size_t b_length);

#ifdef __cplusplus
}
#endif

#endif
