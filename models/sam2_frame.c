/* Instance masks of a frame: see sam2_frame.h. */
#include "models/sam2_frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void sam2_frame_free(struct sam2_frame *frame)
{
    ws2_layers_free(&frame->layers);
    sam2_found_free(&frame->found);
    free(frame->embedding);
    free(frame->box);
    free(frame->score);
    free(frame->stability);
    *frame = (struct sam2_frame){0};
}

/* ---- prompts ---------------------------------------------------------------------------------------------- */

/* Candidate k of prompt i, the best of `candidates`. */
static int64_t best_candidate(const float *iou, int64_t candidates)
{
    int64_t best = 0;
    for (int64_t k = 1; k < candidates; k++)
        best = iou[k] > iou[best] ? k : best;
    return best;
}

/* Appends the mask of each prompt of a batch to found. */
static int add_masks(const struct sam2 *sam2, const struct sam2_frame_options *options,
                     const struct sam2_masks *masks, int64_t height, int64_t width, struct sam2_found *found,
                     struct ws2_error *error)
{
    struct nn *nn = sam2_context(sam2);
    const int status = nn_check(nn, error);
    if (status < 0)
        return status;
    const int64_t prompts = nn_dim(masks->logits, 0), candidates = nn_dim(masks->logits, 1),
                  side = nn_dim(masks->logits, 2), crop[4] = {0, 0, width, height};
    const size_t map = (size_t)(side * side);
    float *logit = ws2_calloc((size_t)(prompts * candidates), map * sizeof *logit),
          *iou = ws2_calloc((size_t)(prompts * candidates), sizeof *iou);
    int made = logit && iou ? 0 : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    if (made == 0 && nn_to_f32(nn, masks->logits, logit, (size_t)(prompts * candidates) * map) >= 0)
        nn_to_f32(nn, masks->iou, iou, (size_t)(prompts * candidates));
    if (made == 0)
        made = nn_check(nn, error);
    for (int64_t i = 0; i < prompts && made == 0; i++) {
        const int64_t k = i * candidates + best_candidate(iou + i * candidates, candidates);
        struct sam2_mask *mask = &found->mask[found->count++];
        mask->score = iou[k];
        made = sam2_mask_make(mask, logit + (size_t)k * map, side, side, crop, height, width,
                              options->generate.threshold, options->generate.stability_offset, error);
    }
    free(logit);
    free(iou);
    return made;
}

static int prompt_batch(const struct sam2 *sam2, const struct sam2_frame_options *options,
                        const struct sam2_embedding *embedding, const struct sam2_prompts *prompts,
                        struct sam2_found *found, struct ws2_error *error)
{
    struct nn *nn = sam2_context(sam2);
    nn_scope_begin(nn);
    const struct sam2_masks masks = sam2_decode(sam2, embedding, 0, prompts, prompts->box == NULL);
    const int status = add_masks(sam2, options, &masks, embedding->height, embedding->width, found, error);
    nn_scope_end(nn);
    return status;
}

static int prompt(const struct sam2 *sam2, const struct sam2_frame_options *options,
                  const struct sam2_embedding *embedding, struct sam2_found *found, struct ws2_error *error)
{
    const int64_t all = options->points + options->boxes, batch = options->generate.points_per_batch;
    sam2_found_free(found);
    found->mask = ws2_calloc((size_t)all, sizeof *found->mask);
    int8_t *label = ws2_calloc((size_t)options->points, sizeof *label);
    int status = found->mask && label ? WS2_OK : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    found->capacity = found->mask ? all : 0;
    if (status >= 0) {
        memset(label, SAM2_INSIDE, (size_t)options->points);
        for (int64_t i = 0; i < options->points && status >= 0; i += batch) {
            const int64_t n = options->points - i < batch ? options->points - i : batch;
            const struct sam2_prompts some = {
                .count = n, .points = 1, .point = options->point + 2 * i, .label = label};
            status = prompt_batch(sam2, options, embedding, &some, found, error);
        }
        for (int64_t i = 0; i < options->boxes && status >= 0; i += batch) {
            const int64_t n = options->boxes - i < batch ? options->boxes - i : batch;
            const struct sam2_prompts some = {.count = n, .box = options->box + 4 * i};
            status = prompt_batch(sam2, options, embedding, &some, found, error);
        }
    }
    free(label);
    return status;
}

/* ---- layers ----------------------------------------------------------------------------------------------- */

static int reserve_table(struct sam2_frame *frame, size_t count, struct ws2_error *error)
{
    if (ws2_reserve((void **)&frame->box, &frame->box_capacity, 4 * count * sizeof *frame->box) ||
        ws2_reserve((void **)&frame->score, &frame->score_capacity, count * sizeof *frame->score) ||
        ws2_reserve((void **)&frame->stability, &frame->stability_capacity, count * sizeof *frame->stability))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for %zu masks", count);
    return 0;
}

static int pack(struct sam2_frame *frame, int64_t height, int64_t width, struct ws2_error *error)
{
    const struct sam2_found *found = &frame->found;
    int status = ws2_layers_reset(&frame->layers, height, width, error);
    if (status >= 0)
        status = reserve_table(frame, (size_t)found->count, error);
    for (int64_t i = 0; i < found->count && status >= 0; i++) {
        const struct sam2_mask *mask = &found->mask[i];
        const int beyond = ws2_bits_count(&mask->bits) > 0;
        status = ws2_layers_add(&frame->layers, &mask->bits, error);
        for (int k = 0; k < 4; k++)
            frame->box[4 * i + k] = (int32_t)mask->box[k] + (k >= 2 ? beyond : 0);
        frame->score[i] = (float)mask->score;
        frame->stability[i] = isnan(mask->stability) ? 0 : (float)mask->stability;
    }
    return status;
}

/* ---- the frame -------------------------------------------------------------------------------------------- */

int sam2_frame_reserve(struct sam2_frame *frame, int64_t side)
{
    return ws2_reserve((void **)&frame->embedding, &frame->embedding_capacity,
                       sam2_embedding_floats(side) * sizeof *frame->embedding);
}

/* The embedding of the picture: given, or made and, if so wanted, left in the frame. */
static int embed(const struct sam2 *sam2, const struct sam2_frame_options *options, int64_t height,
                 int64_t width, const uint8_t *rgb, struct sam2_frame *frame,
                 struct sam2_embedding *embedding, struct ws2_error *error)
{
    const int64_t side = options->generate.side;
    *embedding = frame->given ? sam2_embedding_from_f32(sam2, height, width, side, frame->embedding)
                              : sam2_embed_u8(sam2, 1, height, width, rgb, side);
    const int status = nn_check(sam2_context(sam2), error);
    if (status < 0 || frame->given || !options->keep)
        return status;
    if (sam2_frame_reserve(frame, side) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    sam2_embedding_to_f32(sam2, embedding, frame->embedding);
    return nn_check(sam2_context(sam2), error);
}

static int find_masks(const struct sam2 *sam2, const struct sam2_frame_options *options, int64_t height,
                      int64_t width, const uint8_t *rgb, struct sam2_frame *frame, struct ws2_error *error)
{
    struct sam2_embedding embedding;
    int status = sam2_generate_check(&options->generate, error);
    if (status >= 0)
        status = embed(sam2, options, height, width, rgb, frame, &embedding, error);
    if (status < 0)
        return status;
    return options->points + options->boxes > 0
               ? prompt(sam2, options, &embedding, &frame->found, error)
               : sam2_generate_embedded(sam2, &options->generate, &embedding, rgb, &frame->found, error);
}

int sam2_frame_masks(const struct sam2 *sam2, const struct sam2_frame_options *options, int64_t height,
                     int64_t width, const uint8_t *rgb, struct sam2_frame *frame, struct ws2_masks *masks,
                     struct ws2_error *error)
{
    struct nn *nn = sam2_context(sam2);
    int status = 0;
    sam2_found_free(&frame->found);
    if (height > 0 && width > 0) {
        nn_enter(nn);
        nn_scope_begin(nn);
        status = find_masks(sam2, options, height, width, rgb, frame, error);
        nn_scope_end(nn);
        nn_error_clear(nn);
    }
    if (status >= 0)
        status = pack(frame, height, width, error);
    sam2_found_free(&frame->found);
    if (status < 0)
        return status;
    *masks = (struct ws2_masks){.count = frame->layers.count,
                                .layers = frame->layers.layers,
                                .height = height,
                                .width = width,
                                .layer = frame->layers.layer,
                                .box = frame->box,
                                .score = frame->score,
                                .stability = frame->stability};
    return 0;
}
