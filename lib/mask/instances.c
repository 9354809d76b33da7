/* Stacks and layers of instance masks: see mask.h. */
#include <stdlib.h>
#include <string.h>
#include "mask/internal.h"

/* ---- reading layers ----------------------------------------------------------------------------------------- */

void ws2_instances_index_free(struct ws2_instances_index *index)
{
    free(index->at);
    *index = (struct ws2_instances_index){0};
}

/* Room for masks up to `count`, the new ones without a pixel. */
static int grow(struct ws2_instances_index *index, int64_t count, struct ws2_error *error)
{
    if (count <= index->count)
        return 0;
    const size_t bytes = (size_t)count * sizeof *index->at;
    if (bytes > index->capacity && ws2_reserve((void **)&index->at, &index->capacity, 2 * bytes))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for %lld masks", (long long)count);
    memset(index->at + index->count, 0, (size_t)(count - index->count) * sizeof *index->at);
    index->count = count;
    return 0;
}

/* Pixels left .. right - 1 of row y belong to mask k. */
static int add_run(struct ws2_instances_index *index, int64_t k, int64_t layer, int64_t y, int64_t left,
                   int64_t right, struct ws2_error *error)
{
    const int status = grow(index, k + 1, error);
    if (status < 0)
        return status;
    struct ws2_instance *at = &index->at[k];
    if (at->area == 0)
        *at = (struct ws2_instance){layer, 0, left, y, right, y + 1};
    else if (at->layer != layer)
        return ws2_fail(error, WS2_ERR_INPUT, "mask %lld has pixels in two layers", (long long)k + 1);
    at->area += right - left;
    at->left = left < at->left ? left : at->left;
    at->right = right > at->right ? right : at->right;
    at->bottom = y + 1;
    return 0;
}

int ws2_instances_find(struct ws2_instances_index *index, const struct ws2_instances *instances,
                       struct ws2_error *error)
{
    const int64_t h = instances->height, w = instances->width;
    int status = 0;
    index->count = 0;
    for (int64_t l = 0; l < instances->layers; l++)
        for (int64_t y = 0; y < h; y++) {
            const uint16_t *row = instances->layer + (l * h + y) * w;
            for (int64_t x = 0, end; x < w; x = end) {
                for (end = x + 1; end < w && row[end] == row[x]; end++)
                    ;
                if (row[x] != 0 && (status = add_run(index, row[x] - 1, l, y, x, end, error)) < 0)
                    return status;
            }
        }
    return 0;
}

/* Bits of the row's pixels first .. first + count - 1 (at most 64) that are `number`. */
static inline uint64_t equal_bits(const uint16_t *row, int64_t count, uint16_t number)
{
    uint64_t word = 0;
    for (int64_t i = 0; i < count; i++)
        word |= (uint64_t)(row[i] == number) << i;
    return word;
}

void ws2_instances_bits(const struct ws2_instances *instances, const struct ws2_instances_index *index,
                        int64_t k, struct ws2_bits *bits)
{
    const int64_t h = instances->height, w = instances->width;
    if (instances->stack != NULL) {
        ws2_bits_from_bytes(bits, instances->stack + k * h * w);
        return;
    }
    memset(bits->word, 0, (size_t)(bits->height * bits->stride) * sizeof *bits->word);
    if (k >= index->count || index->at[k].area == 0)
        return;
    const struct ws2_instance *at = &index->at[k];
    for (int64_t y = at->top; y < at->bottom; y++) {
        const uint16_t *row = instances->layer + (at->layer * h + y) * w;
        for (int64_t i = at->left / 64; i <= (at->right - 1) / 64; i++)
            bits->word[y * bits->stride + i] =
                equal_bits(row + 64 * i, w - 64 * i < 64 ? w - 64 * i : 64, (uint16_t)(k + 1));
    }
}

void ws2_instances_unpack(const struct ws2_instances *instances, const struct ws2_instances_index *index,
                          uint8_t *stack)
{
    const int64_t pixels = instances->height * instances->width;
    memset(stack, 0, (size_t)(index->count * pixels));
    for (int64_t l = 0; l < instances->layers; l++)
        for (int64_t i = 0; i < pixels; i++) {
            const int64_t number = instances->layer[l * pixels + i];
            if (number > 0)
                stack[(number - 1) * pixels + i] = 1;
        }
}

/* ---- making layers ------------------------------------------------------------------------------------------ */

int ws2_layers_reset(struct ws2_layers *layers, int64_t height, int64_t width, struct ws2_error *error)
{
    const struct ws2_shape shape = ws2_shape_2(height, width);
    size_t bytes;
    if (height < 0 || width < 0 || !ws2_shape_bytes(&shape, WS2_U16, &bytes))
        return ws2_fail(error, WS2_ERR_USAGE, "masks cannot have %lld x %lld pixels", (long long)width,
                        (long long)height);
    layers->count = layers->layers = 0;
    layers->height = height;
    layers->width = width;
    return 0;
}

void ws2_layers_free(struct ws2_layers *layers)
{
    for (int64_t i = 0; i < layers->planes; i++)
        ws2_bits_free(&layers->used[i]);
    free(layers->used);
    free(layers->layer);
    *layers = (struct ws2_layers){0};
}

static int add_layer(struct ws2_layers *layers, struct ws2_error *error)
{
    const struct ws2_shape shape = ws2_shape_3(layers->layers + 1, layers->height, layers->width);
    const size_t old = (size_t)(layers->layers * layers->height * layers->width) * sizeof *layers->layer,
                 planes = (size_t)layers->layers + 1;
    size_t bytes;
    if (!ws2_shape_bytes(&shape, WS2_U16, &bytes) ||
        ws2_reserve((void **)&layers->layer, &layers->layer_capacity, bytes) ||
        ws2_reserve((void **)&layers->used, &layers->used_capacity, planes * sizeof *layers->used))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a layer of masks");
    if (layers->layers == layers->planes)
        layers->used[layers->planes++] = (struct ws2_bits){0};
    const int status = ws2_bits_reset(&layers->used[layers->layers], layers->height, layers->width, error);
    if (status < 0)
        return status;
    memset((char *)layers->layer + old, 0, bytes - old);
    layers->layers++;
    return 0;
}

static bool touch(const struct ws2_bits *a, const struct ws2_bits *b)
{
    for (int64_t i = 0; i < a->height * a->stride; i++)
        if ((a->word[i] & b->word[i]) != 0)
            return true;
    return false;
}

int ws2_layers_add(struct ws2_layers *layers, const struct ws2_bits *mask, struct ws2_error *error)
{
    int64_t l = 0;
    if (layers->count == WS2_INSTANCES_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "more than %d masks", WS2_INSTANCES_MAX);
    while (l < layers->layers && touch(mask, &layers->used[l]))
        l++;
    const int status = l < layers->layers ? 0 : add_layer(layers, error);
    if (status < 0)
        return status;
    const uint16_t number = (uint16_t)++layers->count;
    for (int64_t y = 0; y < mask->height; y++) {
        uint16_t *row = layers->layer + (l * layers->height + y) * layers->width;
        for (int64_t i = 0; i < mask->stride; i++) {
            uint64_t left = mask->word[y * mask->stride + i];
            layers->used[l].word[y * mask->stride + i] |= left;
            for (; left != 0; left &= left - 1)
                row[64 * i + __builtin_ctzll(left)] = number;
        }
    }
    return 0;
}
