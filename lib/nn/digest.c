/*
 * A digest of weights that does not depend on the container: 128-bit xxh3 over name, type, shape and values of
 * every tensor in order of name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "nn/internal.h"

struct nn_digest {
    XXH3_state_t *state;
};

struct nn_digest *nn_digest_new(void)
{
    struct nn_digest *digest = calloc(1, sizeof(*digest));
    if (digest)
        digest->state = XXH3_createState();
    if (!digest || !digest->state) {
        free(digest);
        return NULL;
    }
    XXH3_128bits_reset(digest->state);
    return digest;
}

void nn_digest_add(struct nn_digest *digest, const char *name, enum nn_dtype dtype,
                   const struct ws2_shape *shape, const uint8_t *data, size_t bytes)
{
    const char *type = nn_dtype_name(dtype);
    int64_t axes[1 + WS2_AXES_MAX] = {shape->rank};
    memcpy(axes + 1, shape->dim, (size_t)shape->rank * sizeof(*axes));
    XXH3_128bits_update(digest->state, name, strlen(name) + 1);
    XXH3_128bits_update(digest->state, type, strlen(type) + 1);
    XXH3_128bits_update(digest->state, axes, (size_t)(1 + shape->rank) * sizeof(*axes));
    if (bytes > 0)
        XXH3_128bits_update(digest->state, data, bytes);
}

void nn_digest_finish(struct nn_digest *digest, char text[NN_DIGEST_SIZE])
{
    text[0] = 0;
    if (!digest)
        return;
    XXH128_hash_t hash = XXH3_128bits_digest(digest->state);
    snprintf(text, NN_DIGEST_SIZE, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    XXH3_freeState(digest->state);
    free(digest);
}
