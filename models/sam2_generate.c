#include "models/sam2_generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sam2_generate_options sam2_generate_defaults(void)
{
    return (struct sam2_generate_options){.points_per_side = 32,
                                          .points_per_batch = 64,
                                          .multimask = true,
                                          .iou = 0.8,
                                          .stability = 0.95,
                                          .stability_offset = 1.0,
                                          .box_nms = 0.7,
                                          .crop_nms = 0.7,
                                          .crop_overlap = 512.0 / 1500.0,
                                          .crop_downscale = 1,
                                          .side = SAM2_SIDE};
}

struct sam2_generate_options sam2_generate_ws2(void)
{
    struct sam2_generate_options options = sam2_generate_defaults();
    options.iou = 0.88;
    options.stability_offset = 0.95;
    return options;
}

/* Points along a side of the grid of a layer. */
static int layer_points(const struct sam2_generate_options *o, int layer)
{
    return (int)(o->points_per_side / pow(o->crop_downscale, layer));
}

int sam2_generate_check(const struct sam2_generate_options *o, struct ws2_error *error)
{
    if (o->points_per_side < 1 || o->points_per_side > 1024 || o->points_per_batch < 1)
        return ws2_fail(error, WS2_ERR_USAGE, "a grid of %d x %d points in batches of %d", o->points_per_side,
                        o->points_per_side, o->points_per_batch);
    if (o->crop_layers < 0 || o->crop_layers > SAM2_CROP_LAYERS_MAX || o->crop_downscale < 1 ||
        layer_points(o, o->crop_layers) < 1)
        return ws2_fail(error, WS2_ERR_USAGE,
                        "%d layers of crops with a grid of %d x %d points, divided by %d with each (0 to %d "
                        "layers, and a point for the last)",
                        o->crop_layers, o->points_per_side, o->points_per_side, o->crop_downscale,
                        SAM2_CROP_LAYERS_MAX);
    if (!(o->crop_overlap >= 0 && o->crop_overlap < 1))
        return ws2_fail(error, WS2_ERR_USAGE, "crops cannot overlap by %g of a side", o->crop_overlap);
    if (!(o->stability_offset >= 0) || isnan(o->threshold) || isnan(o->iou) || isnan(o->stability) ||
        isnan(o->box_nms) || isnan(o->crop_nms) || o->region_area < 0)
        return ws2_fail(error, WS2_ERR_USAGE, "a threshold of the masks makes no sense");
    if (o->side < 1 || o->side % SAM2_SIDE_STEP != 0)
        return ws2_fail(error, WS2_ERR_USAGE, "the side must be a multiple of %d, not %lld", SAM2_SIDE_STEP,
                        (long long)o->side);
    return WS2_OK;
}

/* ---- one crop ----------------------------------------------------------------------------------------------- */

struct job {
    const struct sam2 *sam2;
    const struct sam2_generate_options *options;
    int64_t height, width; /* of the picture */
    const uint8_t *rgb;
    const struct sam2_embedding *whole; /* of the picture, or NULL: to be made */
    struct ws2_error *error;
};

static int no_memory(struct ws2_error *error)
{
    return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

/* An empty mask at the end of the list, or NULL. */
static struct sam2_mask *append(struct sam2_found *found)
{
    size_t capacity = (size_t)found->capacity * sizeof *found->mask;
    if (found->count == found->capacity) {
        const int64_t more = found->capacity ? 2 * found->capacity : 64;
        if (ws2_reserve((void **)&found->mask, &capacity, (size_t)more * sizeof *found->mask) < 0)
            return NULL;
        found->capacity = more;
    }
    found->mask[found->count] = (struct sam2_mask){0};
    return &found->mask[found->count++];
}

static void remove_last(struct sam2_found *found)
{
    ws2_bits_free(&found->mask[--found->count].bits);
}

/* Moves all masks of `from` to the end of `to`. */
static int append_all(struct sam2_found *to, struct sam2_found *from, struct ws2_error *error)
{
    for (int64_t i = 0; i < from->count; i++) {
        struct sam2_mask *mask = append(to);
        if (mask == NULL)
            return no_memory(error);
        *mask = from->mask[i];
        from->mask[i].bits = (struct ws2_bits){0};
    }
    return WS2_OK;
}

/* One candidate, which the network believes in; stays in the list when it is stable and the crop did not cut it. */
static int consider(const struct job *job, const struct sam2_crop *crop, const float *logit, int64_t side,
                    float score, const float point[2], struct sam2_found *found)
{
    const struct sam2_generate_options *o = job->options;
    struct sam2_mask *mask = append(found);
    if (mask == NULL)
        return no_memory(job->error);
    mask->score = score;
    memcpy(mask->point, point, sizeof mask->point);
    memcpy(mask->crop, crop->box, sizeof mask->crop);
    const int status = sam2_mask_make(mask, logit, side, side, crop->box, job->height, job->width,
                                      o->threshold, o->stability_offset, job->error);
    if (status < 0)
        return status;
    const bool stable = o->stability <= 0 || (float)mask->stability >= (float)o->stability;
    if (!stable || sam2_near_crop_edge(mask->box, crop->box, job->height, job->width))
        remove_last(found);
    return WS2_OK;
}

/* Candidates of a batch of n points, k each. Only logits of those whose score passes leave the device. */
static int sift(const struct job *job, const struct sam2_crop *crop, const struct sam2_masks *m,
                const float *point, struct sam2_found *found)
{
    struct nn *nn = sam2_context(job->sam2);
    const int64_t n = nn_dim(m->iou, 0), k = nn_dim(m->iou, 1), side = nn_dim(m->logits, 3);
    const size_t pixels = (size_t)(side * side);
    float *iou = ws2_calloc((size_t)(n * k), sizeof *iou), *logit = NULL;
    int64_t *good = ws2_calloc((size_t)(n * k), sizeof *good), count = 0;
    int status = iou && good ? nn_to_f32(nn, m->iou, iou, (size_t)(n * k)) : no_memory(job->error);
    for (int64_t i = 0; status >= 0 && i < n * k; i++)
        if (job->options->iou <= 0 || iou[i] > (float)job->options->iou)
            good[count++] = i;
    if (status >= 0 && count > 0) {
        struct nn_tensor *all = nn_reshape(nn, m->logits, ws2_shape_3(n * k, side, side));
        if (count < n * k)
            all = nn_index_select(nn, all, 0, nn_from_i64(nn, ws2_shape_1(count), good));
        logit = ws2_calloc((size_t)count, pixels * sizeof *logit);
        status = logit ? nn_to_f32(nn, all, logit, (size_t)count * pixels) : no_memory(job->error);
    }
    for (int64_t i = 0; status >= 0 && i < count; i++)
        status = consider(job, crop, logit + (size_t)i * pixels, side, iou[good[i]],
                          point + 2 * (good[i] / k), found);
    free(iou);
    free(good);
    free(logit);
    return status;
}

/* Puts the points to the network, batch by batch. */
static int ask(const struct job *job, const struct sam2_crop *crop, const struct sam2_embedding *e,
               const float *point, int64_t count, struct sam2_found *found)
{
    struct nn *nn = sam2_context(job->sam2);
    const int64_t step = job->options->points_per_batch;
    int status = WS2_OK;
    int8_t *label = ws2_calloc((size_t)count, 1);
    if (label == NULL)
        return no_memory(job->error);
    memset(label, SAM2_INSIDE, (size_t)count);
    for (int64_t begin = 0; status >= 0 && begin < count; begin += step) {
        const struct sam2_prompts prompts = {.count = count - begin < step ? count - begin : step,
                                             .points = 1,
                                             .point = point + 2 * begin,
                                             .label = label};
        nn_scope_begin(nn);
        const struct sam2_masks m = sam2_decode(job->sam2, e, 0, &prompts, job->options->multimask);
        status = nn_check(nn, job->error);
        if (status >= 0)
            status = sift(job, crop, &m, prompts.point, found);
        if (nn_error(nn)) /* in sift(): its message is the context's */
            status = nn_check(nn, job->error);
        nn_scope_end(nn);
    }
    free(label);
    return status;
}

/* The pixels of the crop. */
static uint8_t *cut(const struct job *job, const struct sam2_crop *crop)
{
    const int64_t width = crop->box[2] - crop->box[0], height = crop->box[3] - crop->box[1];
    uint8_t *rgb = ws2_calloc((size_t)(height * width), 3);
    for (int64_t y = 0; rgb && y < height; y++)
        memcpy(rgb + 3 * y * width, job->rgb + 3 * ((crop->box[1] + y) * job->width + crop->box[0]),
               (size_t)(3 * width));
    return rgb;
}

/* The points of the crop's grid in its pixels: [n*n,2]. */
static float *place(const struct sam2_crop *crop, int n)
{
    const size_t count = 2 * (size_t)n * (size_t)n;
    double *grid = ws2_calloc(count, sizeof *grid);
    float *point = ws2_calloc(count, sizeof *point);
    if (grid && point) {
        sam2_grid(n, grid);
        for (size_t i = 0; i < count; i++)
            point[i] = (float)(grid[i] * (double)(crop->box[2 + i % 2] - crop->box[i % 2]));
    }
    free(grid);
    return point;
}

/* Its embedding; layer 0 is the picture itself. */
static int embed(const struct job *job, const struct sam2_crop *crop, struct sam2_embedding *embedding)
{
    if (crop->layer == 0 && job->whole) {
        *embedding = *job->whole;
        return WS2_OK;
    }
    uint8_t *rgb = cut(job, crop);
    if (rgb == NULL)
        return no_memory(job->error);
    *embedding = sam2_embed_u8(job->sam2, 1, crop->box[3] - crop->box[1], crop->box[2] - crop->box[0], rgb,
                               job->options->side);
    free(rgb);
    return nn_check(sam2_context(job->sam2), job->error);
}

static int look(const struct job *job, const struct sam2_crop *crop, struct sam2_found *found)
{
    struct nn *nn = sam2_context(job->sam2);
    const int n = layer_points(job->options, crop->layer);
    float *point = place(crop, n);
    struct sam2_embedding embedding;
    if (point == NULL)
        return no_memory(job->error);
    nn_scope_begin(nn);
    int status = embed(job, crop, &embedding);
    if (status >= 0)
        status = ask(job, crop, &embedding, point, (int64_t)n * n, found);
    nn_scope_end(nn);
    free(point);
    return status;
}

/* ---- comparing ---------------------------------------------------------------------------------------------- */

static double crop_area(const struct sam2_mask *mask)
{
    return (double)((mask->crop[2] - mask->crop[0]) * (mask->crop[3] - mask->crop[1]));
}

/* Of masks with boxes alike the best remains: by score, or `between` crops the one of the smallest crop. */
static int compare(struct sam2_found *found, double iou, bool between, struct ws2_error *error)
{
    const size_t count = (size_t)found->count;
    int64_t *box = ws2_calloc(count, 4 * sizeof *box), *keep = ws2_calloc(count, sizeof *keep),
            status = WS2_OK;
    float *score = ws2_calloc(count, sizeof *score);
    if (box == NULL || keep == NULL || score == NULL)
        status = no_memory(error);
    for (size_t i = 0; status >= 0 && i < count; i++) {
        memcpy(box + 4 * i, found->mask[i].box, sizeof found->mask[i].box);
        score[i] = between ? (float)(1 / crop_area(&found->mask[i])) : (float)found->mask[i].score;
    }
    if (status >= 0)
        status = sam2_nms(box, score, found->count, iou, keep, error);
    if (status >= 0)
        status = sam2_found_select(found, keep, status, error);
    free(box);
    free(keep);
    free(score);
    return (int)status;
}

/* From pixels of the crop to those of the picture. */
static void shift(struct sam2_found *found, const struct sam2_crop *crop)
{
    for (int64_t m = 0; m < found->count; m++) {
        for (int i = 0; i < 4; i++)
            found->mask[m].box[i] += crop->box[i % 2];
        for (int i = 0; i < 2; i++)
            found->mask[m].point[i] += (float)crop->box[i];
    }
}

static int generate(const struct job *job, struct sam2_found *found)
{
    const struct sam2_generate_options *o = job->options;
    struct sam2_crop *crop;
    const int64_t crops =
        sam2_crops(job->height, job->width, o->crop_layers, o->crop_overlap, &crop, job->error);
    int status = crops < 0 ? (int)crops : WS2_OK;
    for (int64_t i = 0; status >= 0 && i < crops; i++) {
        struct sam2_found here = {0};
        status = look(job, &crop[i], &here);
        if (status >= 0)
            status = compare(&here, o->box_nms, false, job->error);
        shift(&here, &crop[i]);
        if (status >= 0)
            status = append_all(found, &here, job->error);
        sam2_found_free(&here);
    }
    free(crop);
    if (status >= 0 && crops > 1)
        status = compare(found, o->crop_nms, true, job->error);
    if (status >= 0 && o->region_area > 0)
        status = sam2_found_clean(found, o->region_area, fmax(o->box_nms, o->crop_nms), job->error);
    return status;
}

/* generate(), after a look at what it was given. */
static int start(const struct job *job, struct sam2_found *found)
{
    sam2_found_free(found);
    int status = sam2_generate_check(job->options, job->error);
    if (status >= 0)
        status = nn_check(sam2_context(job->sam2), job->error);
    if (status >= 0 && (job->height < 1 || job->width < 1))
        status = ws2_fail(job->error, WS2_ERR_USAGE, "a picture of %lldx%lld pixels", (long long)job->width,
                          (long long)job->height);
    if (status >= 0)
        status = generate(job, found);
    if (status < 0)
        sam2_found_free(found);
    return status;
}

int sam2_generate(const struct sam2 *sam2, const struct sam2_generate_options *options, int64_t height,
                  int64_t width, const uint8_t *rgb, struct sam2_found *found, struct ws2_error *error)
{
    const struct job job = {sam2, options, height, width, rgb, NULL, error};
    return start(&job, found);
}

int sam2_generate_embedded(const struct sam2 *sam2, const struct sam2_generate_options *options,
                           const struct sam2_embedding *embedding, const uint8_t *rgb,
                           struct sam2_found *found, struct ws2_error *error)
{
    const struct job job = {sam2, options, embedding->height, embedding->width, rgb, embedding, error};
    return start(&job, found);
}
