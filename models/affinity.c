/* Which pixels belong together: see affinity.h. */
#include "models/affinity.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "mask/mask.h"

enum { GROUPS = 4, EDGE_CHANNELS = 32 };

/* Channels that AffinityNet makes of layer2, layer3 and layer4. */
static const int64_t feature_channels[AFFINITY_BRANCHES] = {0, 0, 64, 128, 320};

const char *affinity_name(enum affinity_kind kind)
{
    return kind == AFFINITY_EDGES ? "edges" : "features";
}

int affinity_cells(const struct affinity_info *info)
{
    return (info->size + info->cell - 1) / info->cell;
}

int affinity_channels(const struct affinity_info *info)
{
    return info->kind == AFFINITY_EDGES ? 1 : AFFINITY_CHANNELS;
}

/* Is there a network of this kind with such cells? */
static bool has_cell(const struct affinity_info *info)
{
    return info->kind == AFFINITY_EDGES ? info->cell == 4 : info->cell == 8 || info->cell == 16;
}

/* ---- declaring ------------------------------------------------------------------------------------------------ */

static struct nn_tensor *declare_1x1(struct nn_params *params, const char *name, int64_t out, int64_t in,
                                     struct nn_init init)
{
    return nn_declare(params, NN_WEIGHT, name, ws2_shape_4(out, in, 1, 1), init);
}

/* He's deviation by fan-in for the branches, and for what mixes them Xavier's bound times 4: as published. */
static void declare_features(struct affinity *a)
{
    char name[32];
    const double bound = 4 * sqrt(6.0 / (2.0 * AFFINITY_CHANNELS));
    for (int level = 2; level < AFFINITY_BRANCHES; level++) {
        const int64_t in = resnet_level_channels(a->trunk, level);
        snprintf(name, sizeof name, "f8_%d.weight", level + 1);
        a->branch[level] = declare_1x1(a->params, name, feature_channels[level], in,
                                       nn_init_make(NN_INIT_NORMAL, sqrt(2 / (double)in)));
    }
    a->mix = declare_1x1(a->params, "f9.weight", AFFINITY_CHANNELS, AFFINITY_CHANNELS,
                         nn_init_make(NN_INIT_UNIFORM, bound));
}

static void declare_edges(struct affinity *a)
{
    const struct nn_init usual = nn_init_make(NN_INIT_DEFAULT, 0);
    const int64_t all = AFFINITY_BRANCHES * EDGE_CHANNELS;
    for (int level = 0; level < AFFINITY_BRANCHES; level++) {
        nn_params_enter(a->params, "fc_edge%d", level + 1);
        a->branch[level] =
            declare_1x1(a->params, "0.weight", EDGE_CHANNELS, resnet_level_channels(a->trunk, level), usual);
        a->gain[level] = nn_declare(a->params, NN_WEIGHT, "1.weight", ws2_shape_1(EDGE_CHANNELS),
                                    nn_init_make(NN_INIT_CONSTANT, 1));
        a->shift[level] = nn_declare(a->params, NN_BIAS, "1.bias", ws2_shape_1(EDGE_CHANNELS),
                                     nn_init_make(NN_INIT_CONSTANT, 0));
        nn_params_leave(a->params);
    }
    a->mix = declare_1x1(a->params, "fc_edge6.weight", 1, all, usual);
    a->bias = nn_declare(a->params, NN_BIAS, "fc_edge6.bias", ws2_shape_1(1),
                         nn_init_make(NN_INIT_DEFAULT, (double)all));
}

int affinity_open(struct affinity *a, struct nn *nn, const struct affinity_info *info,
                  struct ws2_error *error)
{
    const bool edges = info->kind == AFFINITY_EDGES;
    *a = (struct affinity){.info = *info};
    if (a->info.cell == 0)
        a->info.cell = edges ? 4 : 8;
    if (!has_cell(&a->info))
        return ws2_fail(error, WS2_ERR_USAGE, "%s on a grid of %d pixels: %s possible",
                        affinity_name(info->kind), a->info.cell, edges ? "4 is" : "8 and 16 are");
    a->params = nn_params_new(nn);
    if (a->params)
        a->trunk =
            resnet_new(a->params, &(struct resnet_options){.depth = info->depth, .stride = RESNET_STRIDE_16});
    if (a->trunk && edges)
        declare_edges(a);
    else if (a->trunk)
        declare_features(a);
    const int status = nn_check(nn, error);
    if (status >= 0 && a->trunk)
        return WS2_OK;
    affinity_close(a);
    return status < 0 ? status : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

void affinity_close(struct affinity *a)
{
    resnet_free(a->trunk);
    nn_params_free(a->params);
    free(a->value);
    free(a->gradient);
    *a = (struct affinity){0};
}

/* ---- weights -------------------------------------------------------------------------------------------------- */

static const char *const own[] = {AFFINITY_HEAD_PATTERN};

/* What a pretrained trunk does not learn any more: of edges everything, of features stem, layer1 and normalisations. */
static void freeze(struct affinity *a)
{
    for (int i = 0; i < nn_params_count(a->params); i++) {
        const char *name = nn_params_at(a->params, i)->name;
        const bool low =
            strncmp(name, "conv1", 5) == 0 || strncmp(name, "bn", 2) == 0 || strncmp(name, "layer1", 6) == 0;
        const bool normalises = strstr(name, ".bn") || strstr(name, "downsample.1");
        const bool deep = strncmp(name, "layer", 5) == 0;
        if (low || (deep && (normalises || a->info.kind == AFFINITY_EDGES)))
            nn_params_set_trained(a->params, name, false);
    }
}

int affinity_begin(struct affinity *a, uint64_t seed, const char *path, struct nn_load_report *report,
                   struct ws2_error *error)
{
    struct nn_weights *weights = NULL;
    int status = path ? nn_weights_open(&weights, path, NULL, error) : WS2_OK;
    if (status < 0)
        return status;
    nn_params_init(a->params, seed);
    status = nn_check(nn_params_context(a->params), error);
    if (status >= 0 && weights) {
        status = classifier_load_trunk(a->params, weights, own, 1, report, error);
        if (status >= 0)
            status = nn_weights_digest(weights, a->digest, error);
        a->given = status >= 0;
        if (status < 0)
            ws2_error_prefix(error, "%s", path);
        else
            freeze(a);
    }
    nn_weights_close(weights);
    return status;
}

static int read_info(struct affinity_info *info, const struct nn_weights *weights, struct ws2_error *error)
{
    const char *kind = nn_weights_meta(weights, "affinity"), *backbone = nn_weights_meta(weights, "backbone"),
               *cell = nn_weights_meta(weights, "cell"), *size = nn_weights_meta(weights, "size");
    *info = (struct affinity_info){0};
    if (kind == NULL)
        return ws2_fail(error, WS2_ERR_MODEL,
                        "these weights know no affinities; ws2-train --method affinity makes such");
    if (strcmp(kind, "features") != 0 && strcmp(kind, "edges") != 0)
        return classifier_bad_fact("affinity", kind, error);
    info->kind = strcmp(kind, "edges") == 0 ? AFFINITY_EDGES : AFFINITY_FEATURES;
    info->depth = backbone ? classifier_depth(backbone) : 0;
    if (info->depth == 0)
        return classifier_bad_fact("backbone", backbone, error);
    info->cell = cell ? atoi(cell) : 0;
    if (!has_cell(info))
        return classifier_bad_fact("cell", cell, error);
    info->size = size ? atoi(size) : 0;
    return info->size < 1 || info->size > WS2_IMAGE_SIDE_MAX ? classifier_bad_fact("size", size, error)
                                                             : WS2_OK;
}

int affinity_read(struct affinity *a, struct nn *nn, const char *path, struct ws2_error *error)
{
    struct nn_weights *weights;
    struct affinity_info info;
    *a = (struct affinity){0};
    int status = nn_weights_open(&weights, path, NULL, error);
    if (status < 0)
        return status; /* the text begins with the path */
    status = read_info(&info, weights, error);
    if (status >= 0)
        status = affinity_open(a, nn, &info, error);
    if (status >= 0)
        status = nn_params_load(a->params, weights, &(struct nn_load_options){0}, NULL, error);
    if (status >= 0)
        status = nn_params_digest(a->params, a->digest, error);
    nn_weights_close(weights);
    if (status < 0) {
        affinity_close(a);
        ws2_error_prefix(error, "%s", path);
    }
    return status;
}

int affinity_twin(struct affinity *a, struct nn *nn, const struct affinity *from, struct ws2_error *error)
{
    int status = affinity_open(a, nn, &from->info, error);
    if (status < 0)
        return status;
    memcpy(a->digest, from->digest, sizeof a->digest);
    nn_params_share(a->params, from->params);
    status = nn_check(nn, error);
    if (status < 0)
        affinity_close(a);
    return status;
}

int affinity_facts(const struct affinity *a, struct classifier_fact fact[CLASSIFIER_FACTS_MAX])
{
    const struct nn *nn = nn_params_context(a->params);
    int n = 0;
    fact[n++] = classifier_fact_text("ws2", WS2_VERSION);
    fact[n++] = classifier_fact_text("affinity", affinity_name(a->info.kind));
    fact[n++] = classifier_fact_text("backbone", classifier_backbone(a->info.depth));
    fact[n++] = classifier_fact_number("cell", a->info.cell);
    fact[n++] = classifier_fact_number("size", a->info.size);
    fact[n++] = classifier_fact_text("init", *a->digest ? a->digest : "none");
    fact[n++] = classifier_fact_text("precision", nn_precision_name(nn_precision(nn)));
    return n;
}

/* ---- running -------------------------------------------------------------------------------------------------- */

/* To height x width; what is that size already stays. */
static struct nn_tensor *bring_to(struct nn *nn, struct nn_tensor *x, int64_t height, int64_t width)
{
    const bool fits = nn_dim(x, 2) == height && nn_dim(x, 3) == width;
    return fits ? x : nn_resize_bilinear(nn, x, height, width, false);
}

static struct nn_tensor *run_features(const struct affinity *a, struct nn_tensor *const level[RESNET_LEVELS])
{
    struct nn *nn = nn_params_context(a->params);
    const struct nn_conv plain = nn_conv_square(1, 0, 1);
    struct nn_tensor *grid = level[a->info.cell == 16 ? 3 : 2], *part[3];
    for (int i = 0; i < 3; i++) {
        struct nn_tensor *x = nn_conv2d(nn, level[i + 2], a->branch[i + 2], NULL, plain);
        part[i] = bring_to(nn, nn_elu(nn, x), nn_dim(grid, 2), nn_dim(grid, 3));
    }
    return nn_elu(nn, nn_conv2d(nn, nn_cat(nn, part, 3, 1), a->mix, NULL, plain));
}

static struct nn_tensor *run_edges(const struct affinity *a, struct nn_tensor *const level[RESNET_LEVELS])
{
    struct nn *nn = nn_params_context(a->params);
    const struct nn_conv plain = nn_conv_square(1, 0, 1);
    struct nn_tensor *grid = level[1], *part[AFFINITY_BRANCHES];
    for (int i = 0; i < AFFINITY_BRANCHES; i++) {
        struct nn_tensor *x = nn_conv2d(nn, level[i], a->branch[i], NULL, plain);
        x = nn_group_norm(nn, x, GROUPS, a->gain[i], a->shift[i], 1e-5);
        part[i] = nn_relu(nn, bring_to(nn, x, nn_dim(grid, 2), nn_dim(grid, 3)));
    }
    return nn_conv2d(nn, nn_cat(nn, part, AFFINITY_BRANCHES, 1), a->mix, a->bias, plain);
}

struct nn_tensor *affinity_forward(const struct affinity *a, struct nn_tensor *x, bool training)
{
    struct nn *nn = nn_params_context(a->params);
    struct nn_tensor *level[RESNET_LEVELS];
    const bool frozen = a->given && a->info.kind == AFFINITY_EDGES;
    if (frozen)
        nn_no_grad_begin(nn);
    resnet_pyramid(a->trunk, x, training && !a->given, level);
    if (frozen)
        nn_no_grad_end(nn);
    return a->info.kind == AFFINITY_EDGES ? run_edges(a, level) : run_features(a, level);
}

/* ---- learning ------------------------------------------------------------------------------------------------- */

/* The loss of features or edges f32 [B,C,h,w] and, where a gradient is wanted, what of it lies in a->gradient. */
static int judge(struct affinity *a, const struct ws2_shape *shape, struct nn_tensor *y, const uint8_t *seeds,
                 bool training, struct ws2_affinity_loss *loss, struct ws2_error *error)
{
    size_t count;
    const int64_t *dim = shape->dim;
    struct nn *nn = nn_params_context(a->params);
    if (!ws2_shape_count(shape, &count) ||
        ws2_reserve((void **)&a->value, &a->value_capacity, count * sizeof *a->value) < 0 ||
        ws2_reserve((void **)&a->gradient, &a->gradient_capacity, count * sizeof *a->gradient) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    if (nn_to_f32(nn, y, a->value, count) < 0)
        return nn_check(nn, error);
    float *gradient = training ? a->gradient : NULL;
    return a->info.kind == AFFINITY_EDGES
               ? ws2_affinity_edges(a->value, seeds, dim[0], dim[2], dim[3], AFFINITY_EDGES_RADIUS, loss,
                                    gradient, error)
               : ws2_affinity_features(a->value, seeds, dim[0], dim[1], dim[2], dim[3],
                                       AFFINITY_FEATURES_RADIUS, loss, gradient, error);
}

/* The loss is computed outside of the graph, with its gradient g: sum(y g) has that gradient, and its value is put right. */
static struct nn_tensor *learn(void *context, const struct ws2_batch *batch, const struct ws2_moment *moment,
                               struct nn_tensor *part[WS2_PARTS_MAX], struct ws2_tally *tally)
{
    struct affinity *a = context;
    struct nn *nn = nn_params_context(a->params);
    struct ws2_affinity_loss loss;
    struct ws2_error error = {0};
    (void)tally; /* nothing is right or wrong here */
    struct nn_tensor *y = affinity_forward(a, ws2_batch_images(nn, batch, batch->rgb), moment->training);
    if (a->info.kind == AFFINITY_EDGES)
        y = nn_sigmoid(nn, y);
    if (nn_error(nn))
        return NULL;
    const struct ws2_shape shape = nn_shape(y);
    if (shape.dim[2] != batch->cells || shape.dim[3] != batch->cells)
        return nn_fail(nn, WS2_ERR_USAGE, "seeds on a grid of %d cells do not fit %lld", batch->cells,
                       (long long)shape.dim[3]);
    if (judge(a, &shape, y, batch->seeds, moment->training, &loss, &error) < 0)
        return error.status == WS2_ERR_INPUT
                   ? nn_fail(nn, WS2_ERR_MODEL, "%s: try a lower learning rate", error.text)
                   : nn_fail(nn, error.status, "%s", error.text);
    if (moment->training &&
        loss.pairs[WS2_PAIR_BELT] + loss.pairs[WS2_PAIR_THING] + loss.pairs[WS2_PAIR_OTHER] == 0)
        return nn_fail(nn, WS2_ERR_INPUT, "in a whole batch no two seeds near each other are known");
    for (int i = 0; i < WS2_PAIR_KINDS; i++)
        part[i] = nn_full(nn, (struct ws2_shape){0}, loss.mean[i], NN_F64);
    if (!moment->training)
        return nn_full(nn, (struct ws2_shape){0}, loss.total, NN_F64);
    struct nn_tensor *sum = nn_sum(nn, nn_mul(nn, y, nn_from_f32(nn, shape, a->gradient)));
    return nn_add_scalar(nn, nn_sub(nn, sum, nn_detach(nn, sum)), loss.total);
}

struct ws2_task affinity_task(struct affinity *a)
{
    return (struct ws2_task){
        .context = a, .params = a->params, .part = {"belt", "thing", "other"}, .loss = learn};
}

/* ---- frames --------------------------------------------------------------------------------------------------- */

void affinity_frame_free(struct affinity_frame *frame)
{
    ws2_resizer_free(frame->resizer);
    free(frame->picture);
    free(frame->value);
    *frame = (struct affinity_frame){0};
}

/* The picture at the network's size, and behind it the mirrored one. */
static int place(const struct affinity *a, int64_t height, int64_t width, const uint8_t *rgb,
                 struct affinity_frame *frame, struct ws2_error *error)
{
    const int size = a->info.size;
    const size_t bytes = 3 * (size_t)size * (size_t)size;
    if (ws2_reserve((void **)&frame->picture, &frame->picture_capacity, 2 * bytes) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    int status =
        ws2_resizer_fit(&frame->resizer, (int)width, (int)height, size, size, WS2_PIL_BILINEAR, error);
    if (status >= 0 && height == size && width == size)
        memcpy(frame->picture, rgb, bytes);
    else if (status >= 0)
        status = ws2_resizer_u8(frame->resizer, frame->picture, rgb, 3, error);
    const uint8_t *from = frame->picture;
    for (int y = 0; status >= 0 && y < size; y++)
        for (int x = 0; x < size; x++, from += 3)
            memcpy(frame->picture + bytes + 3 * ((size_t)y * (size_t)size + (size_t)(size - 1 - x)), from, 3);
    return status;
}

/* [1,C,h',w'] of the picture in place. */
static struct nn_tensor *run(const struct affinity *a, const uint8_t *picture, int64_t rows, int64_t columns)
{
    struct nn *nn = nn_params_context(a->params);
    const bool edges = a->info.kind == AFFINITY_EDGES;
    struct nn_tensor *x = nn_images_u8(nn, edges ? 2 : 1, a->info.size, a->info.size, picture,
                                       nn_imagenet_mean, nn_imagenet_std);
    struct nn_tensor *y = affinity_forward(a, x, false);
    if (edges) {
        struct nn_tensor *mirrored = nn_flip(nn, nn_narrow(nn, y, 0, 1, 1), nn_axes_1(3));
        y = nn_mul_scalar(nn, nn_add(nn, nn_narrow(nn, y, 0, 0, 1), mirrored), 0.5);
        y = nn_sigmoid(nn, y);
    }
    return bring_to(nn, y, rows, columns);
}

int affinity_frame_run(const struct affinity *a, int64_t height, int64_t width, const uint8_t *rgb,
                       struct affinity_frame *frame, struct ws2_error *error)
{
    struct nn *nn = nn_params_context(a->params);
    const int64_t cell = a->info.cell, rows = (height + cell - 1) / cell, columns = (width + cell - 1) / cell;
    const size_t count = (size_t)affinity_channels(&a->info) * (size_t)(rows * columns);
    if (height < 1 || width < 1)
        return WS2_OK;
    if (height > WS2_IMAGE_SIDE_MAX || width > WS2_IMAGE_SIDE_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "a frame of %lldx%lld pixels", (long long)width,
                        (long long)height);
    int status = place(a, height, width, rgb, frame, error);
    if (status < 0)
        return status;
    if (ws2_reserve((void **)&frame->value, &frame->value_capacity, count * sizeof *frame->value) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    nn_enter(nn);
    nn_scope_begin(nn);
    nn_no_grad_begin(nn);
    nn_to_f32(nn, run(a, frame->picture, rows, columns), frame->value, count);
    nn_no_grad_end(nn);
    nn_scope_end(nn);
    status = nn_check(nn, error);
    nn_error_clear(nn);
    return status;
}
