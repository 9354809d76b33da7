/* From a coarse mask and instance masks to a refined mask: see mask.h. Masks are packed to bits as they come, so
 * that each byte of the instances is read once. */
#include <math.h>
#include <stdlib.h>
#include "mask/internal.h"

#define WHOLE 0.95 /* share of the image above which a mask is all of it, and says nothing */

/* ---- sets of pixels ------------------------------------------------------------------------------------- */

WS2_CLONES
static void sizes(const struct ws2_bits *a, const struct ws2_bits *b, int64_t *in_a, int64_t *in_both)
{
    const int64_t words = a->height * a->stride;
    int64_t first = 0, both = 0;
    for (int64_t i = 0; i < words; i++) {
        first += __builtin_popcountll(a->word[i]);
        both += __builtin_popcountll(a->word[i] & b->word[i]);
    }
    *in_a = first;
    *in_both = both;
}

WS2_CLONES
static void unite(struct ws2_bits *to, const struct ws2_bits *from)
{
    for (int64_t i = 0; i < to->height * to->stride; i++)
        to->word[i] |= from->word[i];
}

WS2_CLONES
static void intersect(struct ws2_bits *to, const struct ws2_bits *from)
{
    for (int64_t i = 0; i < to->height * to->stride; i++)
        to->word[i] &= from->word[i];
}

WS2_CLONES
static void unite_rest(struct ws2_bits *to, const struct ws2_bits *from, const struct ws2_bits *without)
{
    for (int64_t i = 0; i < to->height * to->stride; i++)
        to->word[i] |= from->word[i] & ~without->word[i];
}

/* ---- which masks are taken ------------------------------------------------------------------------------ */

void ws2_refine_scratch_free(struct ws2_refine_scratch *scratch)
{
    ws2_bits_free(&scratch->coarse);
    ws2_bits_free(&scratch->mask);
    ws2_bits_free(&scratch->all);
    ws2_bits_free(&scratch->taken);
    ws2_bits_scratch_free(&scratch->bits);
    ws2_instances_index_free(&scratch->index);
    free(scratch->label);
    free(scratch->part);
    *scratch = (struct ws2_refine_scratch){0};
}

/* The connected parts of the coarse mask and their sizes: part[0 .. parts-1], and as many counters behind them. */
static int find_parts(struct ws2_refine_scratch *scratch, struct ws2_error *error)
{
    size_t bytes;
    const struct ws2_shape shape = ws2_shape_2(scratch->coarse.height, scratch->coarse.width);
    if (!ws2_shape_bytes(&shape, WS2_I32, &bytes) ||
        ws2_reserve((void **)&scratch->label, &scratch->label_capacity, bytes) != WS2_OK)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the parts of a mask");
    scratch->parts = ws2_bits_label(&scratch->coarse, scratch->label, &scratch->bits, error);
    if (scratch->parts < 0)
        return (int)scratch->parts;
    if (ws2_reserve((void **)&scratch->part, &scratch->part_capacity,
                    2 * (size_t)scratch->parts * sizeof *scratch->part) != WS2_OK)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the parts of a mask");
    for (int64_t i = 0; i < 2 * scratch->parts; i++)
        scratch->part[i] = 0;
    for (int64_t i = 0; i < shape.dim[0] * shape.dim[1]; i++)
        if (scratch->label[i] > 0)
            scratch->part[scratch->label[i] - 1]++;
    return 0;
}

static bool overlaps(int64_t both, int64_t mask, int64_t coarse, double iou)
{
    return (double)both > iou * (double)(mask + coarse - both);
}

/* Whether the mask overlaps one connected part of the coarse mask enough. */
static bool overlaps_part(struct ws2_refine_scratch *scratch, int64_t area, double iou)
{
    const struct ws2_bits *mask = &scratch->mask, *coarse = &scratch->coarse;
    int64_t *both = scratch->part + scratch->parts;
    for (int64_t i = 0; i < scratch->parts; i++)
        both[i] = 0;
    for (int64_t y = 0; y < mask->height; y++) {
        const int32_t *label = scratch->label + y * mask->width;
        for (int64_t i = 0; i < mask->stride; i++) {
            uint64_t left = mask->word[y * mask->stride + i] & coarse->word[y * mask->stride + i];
            for (; left != 0; left &= left - 1)
                both[label[64 * i + __builtin_ctzll(left)] - 1]++;
        }
    }
    for (int64_t i = 0; i < scratch->parts; i++)
        if (overlaps(both[i], area, scratch->part[i], iou))
            return true;
    return false;
}

/* Whether the mask in the scratch is taken; coarse: pixels of the coarse mask. */
static bool takes(const struct ws2_refine *refine, struct ws2_refine_scratch *scratch, int64_t coarse,
                  int64_t area, int64_t both)
{
    switch (refine->rule) {
    case WS2_REFINE_SEPL: /* in whole numbers: 0.85 is no binary fraction */
        return 2 * both > area || 20 * both >= 17 * coarse;
    case WS2_REFINE_MAX_IOU:
    case WS2_REFINE_MAX_IOU_IMP:
        return 2 * both > area;
    default:
        return refine->parts ? overlaps_part(scratch, area, refine->iou)
                             : overlaps(both, area, coarse, refine->iou);
    }
}

/* ---- the refined mask ----------------------------------------------------------------------------------- */

static int prepare(struct ws2_refine_scratch *scratch, int64_t height, int64_t width, struct ws2_error *error)
{
    struct ws2_bits *const plane[] = {&scratch->coarse, &scratch->mask, &scratch->all, &scratch->taken};
    int status = 0;
    for (int i = 0; i < 4 && status == 0; i++)
        status = ws2_bits_reset(plane[i], height, width, error);
    return status;
}

/* The masks taken, and what the rule makes of them and the coarse mask, in scratch->taken. */
static void finish(const struct ws2_refine *refine, struct ws2_refine_scratch *scratch, int64_t taken)
{
    switch (refine->rule) {
    case WS2_REFINE_SEPL:
    case WS2_REFINE_MAX_IOU_IMP:
        unite_rest(&scratch->taken, &scratch->coarse, &scratch->all);
        break;
    case WS2_REFINE_MAX_IOU:
        break;
    default:
        if (taken == 0 || refine->rule == WS2_REFINE_OR)
            unite(&scratch->taken, &scratch->coarse);
        else if (refine->rule == WS2_REFINE_AND)
            intersect(&scratch->taken, &scratch->coarse);
    }
}

int64_t ws2_refine_mask(const struct ws2_refine *refine, struct ws2_refine_scratch *scratch,
                        const uint8_t *coarse, const struct ws2_instances *instances, uint8_t *refined,
                        struct ws2_error *error)
{
    const int64_t height = instances->height, width = instances->width;
    const double pixels = (double)height * (double)width;
    int64_t count = instances->count, taken = 0;
    int status = prepare(scratch, height, width, error);
    if (status >= 0 && instances->stack == NULL) {
        status = ws2_instances_find(&scratch->index, instances, error);
        count = scratch->index.count;
    }
    if (status < 0)
        return status;
    ws2_bits_from_bytes(&scratch->coarse, coarse);
    const int64_t seed = ws2_bits_count(&scratch->coarse);
    const bool by_iou = refine->rule >= WS2_REFINE_COPY;
    if (by_iou && refine->parts)
        status = find_parts(scratch, error);
    if (status < 0)
        return status;
    for (int64_t k = 0; k < count && seed > 0; k++) {
        int64_t area, both;
        ws2_instances_bits(instances, &scratch->index, k, &scratch->mask);
        sizes(&scratch->mask, &scratch->coarse, &area, &both);
        if (area == 0 || (double)area > fmax(refine->max_area, WHOLE) * pixels)
            continue;
        unite(&scratch->all, &scratch->mask);
        if ((double)area > refine->max_area * pixels || !takes(refine, scratch, seed, area, both))
            continue;
        unite(&scratch->taken, &scratch->mask);
        taken++;
    }
    finish(refine, scratch, taken);
    ws2_bits_to_bytes(&scratch->taken, refined);
    return taken;
}
