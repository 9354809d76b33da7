#include "train/internal.h"

const char *ws2_method_name(enum ws2_method method)
{
    static const char *const name[] = {"standard", "puzzle", "pof", "temporal", "plain",
                                       "features", "edges",  "pu",  "round",    "labels"};
    return name[method];
}

bool ws2_method_has_tiles(enum ws2_method method)
{
    return method == WS2_METHOD_PUZZLE || method == WS2_METHOD_POF;
}

bool ws2_method_has_triplets(enum ws2_method method)
{
    return method == WS2_METHOD_POF || method == WS2_METHOD_TEMPORAL;
}

/* ---- maps ------------------------------------------------------------------------------------------------- */

struct nn_tensor *ws2_maps_normalise(struct nn *nn, struct nn_tensor *maps)
{
    struct nn_tensor *positive = nn_relu(nn, maps);
    struct nn_tensor *peak = nn_amax(nn, positive, nn_axes_2(2, 3), true); /* [B,C,1,1] */
    return nn_div(nn, nn_relu(nn, nn_add_scalar(nn, positive, -1e-5)), nn_add_scalar(nn, peak, 1e-5));
}

/* Where nn_grid_sample is to look along one axis (0: x, 1: y), which has n cells: [B,h,w] in -1..1. */
static struct nn_tensor *source_places(struct nn *nn, struct nn_tensor *flow, int axis, int64_t n,
                                       bool compat)
{
    struct nn_tensor *cell = nn_arange(nn, 0, n, nn_dtype(flow));
    if (axis == 1)
        cell = nn_unsqueeze(nn, cell, 1);
    struct nn_tensor *place = nn_mul_scalar(nn, nn_add(nn, nn_select(nn, flow, 1, axis), cell), 2);
    if (compat)
        return nn_add_scalar(nn, nn_mul_scalar(nn, place, 1 / (double)(n - 1)), -1);
    return nn_add_scalar(nn, nn_mul_scalar(nn, nn_add_scalar(nn, place, 1), 1 / (double)n), -1);
}

/* 1 where the warp took all its weight from cells that exist, else 0: [B,1,h,w]. */
static struct nn_tensor *wholly_inside(struct nn *nn, struct nn_tensor *maps, struct nn_tensor *grid)
{
    const struct ws2_shape one = ws2_shape_4(nn_dim(maps, 0), 1, nn_dim(maps, 2), nn_dim(maps, 3));
    struct nn_tensor *weight = nn_grid_sample(nn, nn_ones(nn, one, nn_dtype(grid)), grid, false);
    return nn_to_dtype(nn, nn_ge_scalar(nn, weight, 0.9999), nn_dtype(grid));
}

struct nn_tensor *ws2_maps_warp(struct nn *nn, struct nn_tensor *maps, struct nn_tensor *flow, bool compat)
{
    const int64_t h = nn_dim(maps, 2), w = nn_dim(maps, 3);
    if (maps == NULL || flow == NULL)
        return nn_fail(nn, WS2_ERR_USAGE, "warping needs maps and a flow");
    if (nn_dim(flow, 1) != 2 || nn_dim(flow, 2) != h || nn_dim(flow, 3) != w)
        return nn_fail(nn, WS2_ERR_USAGE, "a flow of %lldx%lld cells does not fit maps of %lldx%lld",
                       (long long)nn_dim(flow, 3), (long long)nn_dim(flow, 2), (long long)w, (long long)h);
    if (compat && (h < 2 || w < 2))
        return nn_fail(nn, WS2_ERR_USAGE, "the papers' warp needs maps of at least 2x2 cells");
    struct nn_tensor *place[2] = {source_places(nn, flow, 0, w, compat),
                                  source_places(nn, flow, 1, h, compat)};
    struct nn_tensor *grid = nn_stack(nn, place, 2, 3); /* [B,h,w,2] */
    struct nn_tensor *warped = nn_grid_sample(nn, maps, grid, false);
    return compat ? nn_mul(nn, warped, wholly_inside(nn, maps, grid)) : warped;
}

/* Half-precision maps are compared in single precision. */
static struct nn_tensor *widen(struct nn *nn, struct nn_tensor *x)
{
    const enum nn_dtype dtype = nn_dtype(x);
    return dtype == NN_BF16 || dtype == NN_F16 ? nn_to_dtype(nn, x, NN_F32) : x;
}

/* ---- terms ------------------------------------------------------------------------------------------------ */

/* What all terms of one batch are made from. */
struct step {
    struct nn *nn;
    const struct ws2_classifier *net;
    const struct ws2_loss_options *options;
    const struct ws2_pictures *pictures;
    struct nn_tensor *y; /* [B,C], one-hot */
    bool training;
};

static struct nn_tensor *maps_of(const struct step *s, struct nn_tensor *images, struct nn_tensor **logits)
{
    struct nn_tensor *maps;
    s->net->forward(s->net->model, images, s->training, logits, &maps);
    if (maps == NULL && nn_error(s->nn) == NULL)
        nn_fail(s->nn, WS2_ERR_MODEL, "%s needs a network with a class convolution",
                ws2_method_name(s->options->method));
    return maps;
}

/* Puzzle-CAM eq. 1-7: the maps of a picture and those of its four quarters, put together again, must agree. */
static void compare_tiles(const struct step *s, struct nn_tensor *whole, struct ws2_terms *terms)
{
    struct nn *nn = s->nn;
    struct nn_tensor *unused;
    struct nn_tensor *parts = maps_of(s, nn_tile(nn, s->pictures->centre), &unused); /* [4B,C,h/2,w/2] */
    struct nn_tensor *merged = nn_untile(nn, parts);
    if (nn_dim(whole, 2) != nn_dim(merged, 2) ||
        nn_dim(whole, 3) != nn_dim(merged, 3)) /* may not broadcast */
        nn_fail(nn, WS2_ERR_USAGE,
                "the maps of quarters, %lldx%lld together, do not fit the whole's, %lldx%lld",
                (long long)nn_dim(merged, 3), (long long)nn_dim(merged, 2), (long long)nn_dim(whole, 3),
                (long long)nn_dim(whole, 2));
    terms->tile = nn_multilabel_soft_margin(nn, nn_global_avg_pool(nn, merged), s->y);
    if (s->options->level == WS2_PUZZLE_CAM) {
        whole = ws2_maps_normalise(nn, whole);
        merged = ws2_maps_normalise(nn, merged);
    }
    terms->reconstruct = nn_masked_l1(nn, whole, merged, s->y);
}

/* The positive part of a neighbour's maps, brought to where the centre shows the same. */
static struct nn_tensor *neighbour_maps(const struct step *s, struct nn_tensor *images,
                                        struct nn_tensor *flow)
{
    struct nn_tensor *unused, *maps = widen(s->nn, maps_of(s, images, &unused));
    maps = s->options->normalise_first ? ws2_maps_normalise(s->nn, maps) : nn_relu(s->nn, maps);
    return ws2_maps_warp(s->nn, maps, flow, s->options->compat_warp);
}

/* POF-CAM eq. 8-11: the maps of a frame and those of its neighbours, warped and fused, must agree. */
static void compare_neighbours(const struct step *s, struct nn_tensor *whole, double weight,
                               struct ws2_terms *terms)
{
    struct nn *nn = s->nn;
    const struct ws2_pictures *p = s->pictures;
    if (weight == 0)
        nn_no_grad_begin(nn);
    struct nn_tensor *left = neighbour_maps(s, p->left, p->flow_left);
    struct nn_tensor *fused = nn_maximum(nn, left, neighbour_maps(s, p->right, p->flow_right));
    if (!s->options->normalise_first)
        fused = ws2_maps_normalise(nn, fused);
    if (weight == 0)
        nn_no_grad_end(nn);
    terms->temporal = nn_masked_l1(nn, ws2_maps_normalise(nn, widen(nn, whole)), fused, s->y);
}

static struct ws2_terms maps_terms(const struct step *s, double ramp)
{
    struct nn *nn = s->nn;
    const double alpha = ramp * s->options->alpha, beta = ramp * s->options->beta;
    struct ws2_terms terms = {0};
    struct nn_tensor *whole = maps_of(s, s->pictures->centre, &terms.logits);
    terms.total = terms.class = nn_multilabel_soft_margin(nn, terms.logits, s->y);
    if (ws2_method_has_tiles(s->options->method)) {
        compare_tiles(s, whole, &terms);
        terms.total = nn_add_scaled(nn, nn_add(nn, terms.class, terms.tile), terms.reconstruct, alpha);
    }
    if (ws2_method_has_triplets(s->options->method)) {
        compare_neighbours(s, whole, beta, &terms);
        terms.total = nn_add_scaled(nn, terms.total, terms.temporal, beta);
    }
    return terms;
}

static struct ws2_terms standard_terms(const struct step *s, struct nn_tensor *labels)
{
    struct ws2_terms terms = {0};
    struct nn_tensor *maps;
    s->net->forward(s->net->model, s->pictures->centre, s->training, &terms.logits, &maps);
    if (s->options->loss == WS2_LOSS_CE)
        terms.class = nn_cross_entropy(s->nn, terms.logits, labels, NULL, -1, 0);
    else
        terms.class = nn_bce(s->nn, nn_softmax(s->nn, terms.logits, 1), s->y);
    terms.total = terms.class;
    return terms;
}

struct ws2_terms ws2_loss_terms(const struct ws2_classifier *net, const struct ws2_loss_options *options,
                                const struct ws2_pictures *pictures, bool training, double ramp)
{
    struct nn *nn = nn_params_context(net->params);
    if (pictures->centre == NULL)
        return (struct ws2_terms){0};
    struct nn_tensor *labels = nn_from_i64(nn, ws2_shape_1(nn_dim(pictures->centre, 0)), pictures->label);
    const struct step step = {.nn = nn,
                              .net = net,
                              .options = options,
                              .pictures = pictures,
                              .y = nn_one_hot(nn, labels, net->classes),
                              .training = training};
    return options->method == WS2_METHOD_STANDARD ? standard_terms(&step, labels) : maps_terms(&step, ramp);
}
