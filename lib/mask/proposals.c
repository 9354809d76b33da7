/* Regions and pieces of all scales, pooled: see mask.h. */
#include <stdlib.h>
#include <string.h>
#include "mask/regions.h"

struct ws2_proposals_params ws2_proposals_defaults(void)
{
    return (struct ws2_proposals_params){
        .k = {100, 300, 1000}, .levels = 3, .least = 100, .sigma = 0.8, .neck = 0.75};
}

/* A set of pixels: all that have a label in a plane. */
struct region {
    uint64_t sum; /* of a random number for each of its pixels: equal for equal sets */
    int64_t area;
    int32_t plane, label;
    int32_t box[4];
    float stability;
};

enum { PIXELS_MAX = 1 << 29 }; /* an edge of the graph is four times its pixel and a direction */
enum { PLANES_MAX = WS2_PROPOSALS_LEVELS_MAX + 2 }; /* the scales, then pieces and parts of the foreground */

struct ws2_proposals {
    int64_t height, width, levels, planes, layers;
    int64_t count; /* regions: all that were found, later those that stay */
    struct graph graph;
    struct pieces pieces;
    struct ws2_bits bits;
    struct ws2_bits_scratch scratch;
    int32_t *label; /* [planes,h,w] */
    struct region *region;
    uint16_t *number;                /* of each label of each plane; 0: not there (any more) */
    int64_t first[PLANES_MAX + 1];   /* of the labels of a plane in `number`, which has none for label 0 */
    int64_t layer_plane[PLANES_MAX]; /* of each layer: the plane it is made from */
    uint16_t *layer;                 /* [layers,h,w], and the table of the masks */
    int32_t *box;
    float *stability;
    size_t label_capacity, region_capacity, number_capacity, layer_capacity, box_capacity, stability_capacity;
};

void ws2_proposals_free(struct ws2_proposals *proposals)
{
    if (proposals == NULL)
        return;
    graph_free(&proposals->graph);
    pieces_free(&proposals->pieces);
    ws2_bits_free(&proposals->bits);
    ws2_bits_scratch_free(&proposals->scratch);
    free(proposals->label);
    free(proposals->region);
    free(proposals->number);
    free(proposals->layer);
    free(proposals->box);
    free(proposals->stability);
    free(proposals);
}

static int prepare(struct ws2_proposals **kept, const struct ws2_proposals_params *params, bool fg,
                   int64_t height, int64_t width, struct ws2_error *error)
{
    const int64_t planes = params->levels + (fg ? 2 : 0);
    const struct ws2_shape shape = ws2_shape_3(planes, height, width);
    size_t bytes;
    if (params->levels < 0 || params->levels > WS2_PROPOSALS_LEVELS_MAX || !(params->sigma >= 0) ||
        !(params->neck >= 0 && params->neck <= 1) || height < 0 || width < 0)
        return ws2_fail(error, WS2_ERR_USAGE, "proposals of these settings are not possible");
    if (width > 0 && height > PIXELS_MAX / width)
        return ws2_fail(error, WS2_ERR_INPUT, "%lld x %lld pixels are too many for regions", (long long)width,
                        (long long)height);
    if (*kept == NULL && (*kept = ws2_calloc(1, sizeof **kept)) == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    struct ws2_proposals *proposals = *kept;
    if (!ws2_shape_bytes(&shape, WS2_I32, &bytes) ||
        ws2_reserve((void **)&proposals->label, &proposals->label_capacity, bytes))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the regions of %lld x %lld pixels",
                        (long long)width, (long long)height);
    proposals->height = height;
    proposals->width = width;
    proposals->levels = params->levels;
    proposals->planes = planes;
    proposals->count = proposals->layers = 0;
    proposals->first[0] = 0;
    return 0;
}

/* ---- finding regions ---------------------------------------------------------------------------------------- */

/* A well-mixed number for a pixel (the finaliser of splitmix64). */
static inline uint64_t mix(uint64_t x)
{
    x = (x + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void add_pixel(struct region *region, int64_t x, int64_t y, uint64_t random)
{
    if (region->area++ == 0) {
        region->box[0] = region->box[2] = (int32_t)x;
        region->box[1] = (int32_t)y;
    }
    region->sum += random;
    region->box[0] = x < region->box[0] ? (int32_t)x : region->box[0];
    region->box[2] = x > region->box[2] ? (int32_t)x : region->box[2];
    region->box[3] = (int32_t)y;
}

/* The regions of a plane of labels 1 .. labels join the list. */
static int list_plane(struct ws2_proposals *proposals, int plane, int64_t labels, float stability,
                      struct ws2_error *error)
{
    const int64_t w = proposals->width, pixels = proposals->height * w, count = proposals->count;
    const int32_t *label = proposals->label + plane * pixels;
    proposals->first[plane + 1] = proposals->first[plane] + labels;
    if (ws2_reserve((void **)&proposals->region, &proposals->region_capacity,
                    (size_t)(count + labels) * sizeof *proposals->region))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for %lld regions", (long long)(count + labels));
    struct region *region = proposals->region + count;
    for (int64_t i = 0; i < labels; i++)
        region[i] = (struct region){.plane = plane, .label = (int32_t)i + 1, .stability = stability};
    for (int64_t y = 0, i = 0; y < proposals->height; y++)
        for (int64_t x = 0; x < w; x++, i++)
            if (label[i] > 0)
                add_pixel(&region[label[i] - 1], x, y, mix((uint64_t)i));
    proposals->count += labels;
    return 0;
}

static void sort_scales(const struct ws2_proposals_params *params, double *k)
{
    for (int i = 0; i < params->levels; i++) {
        int at = i;
        for (; at > 0 && k[at - 1] > params->k[i]; at--)
            k[at] = k[at - 1];
        k[at] = params->k[i];
    }
}

static int list_levels(struct ws2_proposals *proposals, const struct ws2_proposals_params *params,
                       float *colour, int64_t channels, struct ws2_error *error)
{
    const int64_t pixels = proposals->height * proposals->width;
    double k[WS2_PROPOSALS_LEVELS_MAX];
    sort_scales(params, k);
    int status = params->levels == 0 ? 0
                                     : graph_build(&proposals->graph, colour, channels, proposals->height,
                                                   proposals->width, params->sigma, error);
    for (int i = 0; i < params->levels && status == 0; i++) {
        const int64_t labels =
            graph_cut(&proposals->graph, k[i], params->least, proposals->label + i * pixels);
        status = list_plane(proposals, i, labels, 1.0f / (float)params->levels, error);
    }
    return status;
}

static int list_foreground(struct ws2_proposals *proposals, const uint8_t *fg, double neck,
                           struct ws2_error *error)
{
    const int64_t h = proposals->height, w = proposals->width;
    const int pieces = (int)proposals->levels, parts = pieces + 1;
    int64_t labels = pieces_cut(&proposals->pieces, fg, h, w, neck, proposals->label + pieces * h * w, error);
    int status = labels < 0 ? (int)labels : list_plane(proposals, pieces, labels, 0, error);
    if (status < 0)
        return status;
    float *stand = ws2_calloc((size_t)labels, sizeof *stand);
    if (stand == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    pieces_stand(&proposals->pieces, stand);
    for (int64_t i = 0; i < labels; i++)
        proposals->region[proposals->count - labels + i].stability = stand[i];
    free(stand);
    status = ws2_bits_reset(&proposals->bits, h, w, error);
    if (status < 0)
        return status;
    ws2_bits_from_bytes(&proposals->bits, fg);
    labels = ws2_bits_label(&proposals->bits, proposals->label + parts * h * w, &proposals->scratch, error);
    return labels < 0 ? (int)labels : list_plane(proposals, parts, labels, 1, error);
}

/* ---- pooling ------------------------------------------------------------------------------------------------ */

static int by_place(const struct region *a, const struct region *b)
{
    const int by = (a->plane > b->plane) - (a->plane < b->plane);
    return by ? by : (a->label > b->label) - (a->label < b->label);
}

static int by_pixels(const void *first, const void *second)
{
    const struct region *a = first, *b = second;
    const int by = (a->area > b->area) - (a->area < b->area), then = (a->sum > b->sum) - (a->sum < b->sum);
    return by ? by : then ? then : by_place(a, b);
}

static int by_stability(const void *first, const void *second)
{
    const struct region *a = first, *b = second;
    const int by = (a->stability < b->stability) - (a->stability > b->stability),
              then = (a->area < b->area) - (a->area > b->area);
    return by ? by : then ? then : by_place(a, b);
}

static bool same_pixels(const struct region *a, const struct region *b)
{
    return a->area == b->area && a->sum == b->sum;
}

/* Regions large enough, each set of pixels once. Scales at which it stands add up; of a set that is a part or a piece too
 * the better figure counts. */
static void pool(struct ws2_proposals *proposals, int64_t least)
{
    struct region *region = proposals->region;
    int64_t kept = 0;
    if (proposals->count > 0)
        qsort(region, (size_t)proposals->count, sizeof *region, by_pixels);
    for (int64_t i = 0; i < proposals->count; i++) {
        if (region[i].area < least)
            continue;
        struct region *twin =
            kept > 0 && same_pixels(&region[kept - 1], &region[i]) ? &region[kept - 1] : NULL;
        if (twin == NULL)
            region[kept++] = region[i];
        else if (region[i].plane < proposals->levels)
            twin->stability += region[i].stability;
        else if (twin->stability < region[i].stability)
            twin->stability = region[i].stability;
    }
    proposals->count = kept;
    if (kept > 0)
        qsort(region, (size_t)kept, sizeof *region, by_stability);
}

/* Numbers of the labels of all planes, and layers for planes that have any. */
static int number(struct ws2_proposals *proposals, struct ws2_error *error)
{
    const int64_t labels = proposals->first[proposals->planes];
    if (proposals->count > WS2_INSTANCES_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "%lld regions, at most %d are possible",
                        (long long)proposals->count, WS2_INSTANCES_MAX);
    if (ws2_reserve((void **)&proposals->number, &proposals->number_capacity,
                    (size_t)labels * sizeof *proposals->number))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for %lld regions", (long long)labels);
    memset(proposals->number, 0, (size_t)labels * sizeof *proposals->number);
    bool any[PLANES_MAX] = {false};
    for (int64_t i = 0; i < proposals->count; i++) {
        const struct region *region = &proposals->region[i];
        proposals->number[proposals->first[region->plane] + region->label - 1] = (uint16_t)(i + 1);
        any[region->plane] = true;
    }
    /* From coarse to fine, then parts and pieces of the foreground: what comes later is drawn on top. */
    for (int64_t i = 0; i < proposals->planes; i++) {
        const int64_t levels = proposals->levels, plane = i < levels ? levels - 1 - i : 2 * levels + 1 - i;
        if (any[plane])
            proposals->layer_plane[proposals->layers++] = plane;
    }
    return 0;
}

/* Layers and table of the regions that stay. */
static int tabulate(struct ws2_proposals *proposals, struct ws2_error *error)
{
    const size_t pixels = (size_t)(proposals->height * proposals->width), count = (size_t)proposals->count;
    if (ws2_reserve((void **)&proposals->layer, &proposals->layer_capacity,
                    (size_t)proposals->layers * pixels * sizeof *proposals->layer) ||
        ws2_reserve((void **)&proposals->box, &proposals->box_capacity, 4 * count * sizeof *proposals->box) ||
        ws2_reserve((void **)&proposals->stability, &proposals->stability_capacity,
                    count * sizeof *proposals->stability))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for %zu masks", count);
    for (int64_t l = 0; l < proposals->layers; l++) {
        const int64_t plane = proposals->layer_plane[l];
        const int32_t *label = proposals->label + (size_t)plane * pixels;
        const uint16_t *number = proposals->number + proposals->first[plane];
        uint16_t *layer = proposals->layer + (size_t)l * pixels;
        for (size_t i = 0; i < pixels; i++)
            layer[i] = label[i] > 0 ? number[label[i] - 1] : 0;
    }
    for (size_t i = 0; i < count; i++) {
        const struct region *region = &proposals->region[i];
        const int32_t row[4] = {region->box[0], region->box[1], region->box[2] + 1, region->box[3] + 1};
        memcpy(proposals->box + 4 * i, row, sizeof row);
        proposals->stability[i] = region->stability;
    }
    return 0;
}

int64_t ws2_proposals_make(struct ws2_proposals **kept, const struct ws2_proposals_params *params,
                           float *colour, int64_t channels, const uint8_t *fg, int64_t height, int64_t width,
                           struct ws2_error *error)
{
    int status = prepare(kept, params, fg != NULL, height, width, error);
    struct ws2_proposals *proposals = *kept;
    if (status >= 0)
        status = list_levels(proposals, params, colour, channels, error);
    if (status >= 0 && fg != NULL)
        status = list_foreground(proposals, fg, params->neck, error);
    if (status < 0)
        return status;
    pool(proposals, params->least);
    status = number(proposals, error);
    if (status >= 0)
        status = tabulate(proposals, error);
    return status < 0 ? status : proposals->count;
}

struct ws2_masks ws2_proposals_masks(const struct ws2_proposals *proposals)
{
    return (struct ws2_masks){.count = proposals->count,
                              .layers = proposals->layers,
                              .height = proposals->height,
                              .width = proposals->width,
                              .layer = proposals->layer,
                              .box = proposals->box,
                              .score = proposals->stability,
                              .stability = proposals->stability};
}
