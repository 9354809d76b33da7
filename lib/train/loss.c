#include "train/internal.h"

double ws2_loss_alpha(const struct ws2_loss_options *options, int64_t step, int64_t steps)
{
    if (!options->alpha_ramp || 2 * step >= steps)
        return options->alpha;
    return options->alpha * (double)step / (0.5 * (double)steps);
}

struct nn_tensor *ws2_maps_normalise(struct nn *nn, struct nn_tensor *maps)
{
    struct nn_tensor *positive = nn_relu(nn, maps);
    struct nn_tensor *peak = nn_amax(nn, positive, nn_axes_2(2, 3), true); /* [B,C,1,1] */
    return nn_div(nn, nn_relu(nn, nn_add_scalar(nn, positive, -1e-5)), nn_add_scalar(nn, peak, 1e-5));
}

static struct ws2_terms standard(struct nn *nn, const struct ws2_classifier *net,
                                 const struct ws2_loss_options *options, struct nn_tensor *images,
                                 struct nn_tensor *labels, bool training)
{
    struct ws2_terms terms = {0};
    struct nn_tensor *maps;
    net->forward(net->model, images, training, &terms.logits, &maps);
    if (options->loss == WS2_LOSS_CE)
        terms.class = nn_cross_entropy(nn, terms.logits, labels, NULL, -1, 0);
    else
        terms.class = nn_bce(nn, nn_softmax(nn, terms.logits, 1), nn_one_hot(nn, labels, net->classes));
    terms.total = terms.class;
    return terms;
}

/* Puzzle-CAM eq. 1-7: the maps of a picture and those of its four quarters, put together again, must agree. */
static struct ws2_terms puzzle(struct nn *nn, const struct ws2_classifier *net,
                               const struct ws2_loss_options *options, struct nn_tensor *images,
                               struct nn_tensor *labels, bool training, double alpha)
{
    struct ws2_terms terms = {0};
    struct nn_tensor *y = nn_one_hot(nn, labels, net->classes), *whole, *parts, *unused;
    net->forward(net->model, images, training, &terms.logits, &whole);
    net->forward(net->model, nn_tile(nn, images), training, &unused, &parts); /* [4B,3,H/2,W/2] */
    struct nn_tensor *merged = nn_untile(nn, parts);
    if (whole == NULL && nn_error(nn) == NULL)
        nn_fail(nn, WS2_ERR_MODEL, "puzzle needs a network with a class convolution");
    if (nn_dim(whole, 2) != nn_dim(merged, 2) ||
        nn_dim(whole, 3) != nn_dim(merged, 3)) /* may not broadcast */
        nn_fail(nn, WS2_ERR_USAGE,
                "the maps of quarters, %lldx%lld together, do not fit the whole's, %lldx%lld",
                (long long)nn_dim(merged, 3), (long long)nn_dim(merged, 2), (long long)nn_dim(whole, 3),
                (long long)nn_dim(whole, 2));
    terms.class = nn_multilabel_soft_margin(nn, terms.logits, y);
    terms.tile = nn_multilabel_soft_margin(nn, nn_global_avg_pool(nn, merged), y);
    if (options->level == WS2_PUZZLE_CAM) {
        whole = ws2_maps_normalise(nn, whole);
        merged = ws2_maps_normalise(nn, merged);
    }
    terms.reconstruct = nn_masked_l1(nn, whole, merged, y);
    terms.total = nn_add_scaled(nn, nn_add(nn, terms.class, terms.tile), terms.reconstruct, alpha);
    return terms;
}

struct ws2_terms ws2_loss_terms(const struct ws2_classifier *net, const struct ws2_loss_options *options,
                                struct nn_tensor *images, const int64_t *labels, bool training, int64_t step,
                                int64_t steps)
{
    struct nn *nn = nn_params_context(net->params);
    if (images == NULL)
        return (struct ws2_terms){0};
    struct nn_tensor *label = nn_from_i64(nn, ws2_shape_1(nn_dim(images, 0)), labels);
    if (options->method == WS2_METHOD_STANDARD)
        return standard(nn, net, options, images, label, training);
    return puzzle(nn, net, options, images, label, training, ws2_loss_alpha(options, step, steps));
}
