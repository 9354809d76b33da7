/* What a pixel looks like: see fpn.h. */
#include "models/fpn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Levels of the trunk that are looked at: layer1 and up. */
static int levels_of(const struct fpn_info *info)
{
    return info->reach == 16 ? 3 : info->reach == 8 ? 2 : 1;
}

static bool has_reach(const struct fpn_info *info)
{
    return info->reach == 4 || info->reach == 8 || info->reach == 16;
}

/* ---- declaring ------------------------------------------------------------------------------------------------ */

static void declare(struct fpn *fpn)
{
    const struct nn_init usual = nn_init_make(NN_INIT_DEFAULT, 0);
    char name[32];
    for (int i = 0; i < levels_of(&fpn->info); i++) {
        const int64_t in = resnet_level_channels(fpn->trunk, i + 1);
        snprintf(name, sizeof name, "lateral%d.weight", i + 1);
        fpn->lateral[i] =
            nn_declare(fpn->params, NN_WEIGHT, name, ws2_shape_4(FPN_CHANNELS, in, 1, 1), usual);
        snprintf(name, sizeof name, "lateral%d.bias", i + 1);
        fpn->lateral_bias[i] = nn_declare(fpn->params, NN_BIAS, name, ws2_shape_1(FPN_CHANNELS),
                                          nn_init_make(NN_INIT_DEFAULT, (double)in));
    }
    fpn->smooth =
        nn_declare(fpn->params, NN_WEIGHT, "smooth.weight", ws2_shape_4(FPN_CHANNELS, FPN_CHANNELS, 3, 3),
                   nn_init_make(NN_INIT_KAIMING_OUT, 0));
    fpn->smooth_bn = nn_bn_declare(fpn->params, "smooth_bn", FPN_CHANNELS);
    fpn->logit =
        nn_declare(fpn->params, NN_WEIGHT, "logit.weight", ws2_shape_4(1, FPN_CHANNELS, 1, 1), usual);
    fpn->logit_bias = nn_declare(fpn->params, NN_BIAS, "logit.bias", ws2_shape_1(1),
                                 nn_init_make(NN_INIT_DEFAULT, FPN_CHANNELS));
}

int fpn_open(struct fpn *fpn, struct nn *nn, const struct fpn_info *info, struct ws2_error *error)
{
    *fpn = (struct fpn){.info = *info};
    if (!has_reach(info))
        return ws2_fail(error, WS2_ERR_USAGE, "a pyramid up to stride %d: 4, 8 and 16 are possible",
                        info->reach);
    fpn->params = nn_params_new(nn);
    if (fpn->params)
        fpn->trunk = resnet_new(fpn->params,
                                &(struct resnet_options){.depth = info->depth, .layers = levels_of(info)});
    if (fpn->trunk)
        declare(fpn);
    const int status = nn_check(nn, error);
    if (status >= 0 && fpn->trunk)
        return WS2_OK;
    fpn_close(fpn);
    return status < 0 ? status : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

void fpn_close(struct fpn *fpn)
{
    resnet_free(fpn->trunk);
    nn_params_free(fpn->params);
    *fpn = (struct fpn){0};
}

/* ---- weights -------------------------------------------------------------------------------------------------- */

int fpn_begin(struct fpn *fpn, uint64_t seed, const char *path, struct nn_load_report *report,
              struct ws2_error *error)
{
    /* A whole classifier's file has layers that are not looked at. */
    static const char *const own[] = {"lateral*", "smooth*", "logit*", "layer4*", "layer3*", "layer2*"};
    struct nn_weights *weights = NULL;
    int status = path ? nn_weights_open(&weights, path, NULL, error) : WS2_OK;
    if (status < 0)
        return status;
    nn_params_init(fpn->params, seed);
    status = nn_check(nn_params_context(fpn->params), error);
    if (status >= 0 && weights) {
        status = classifier_load_trunk(fpn->params, weights, own, 7 - levels_of(&fpn->info), report, error);
        if (status >= 0)
            status = nn_weights_digest(weights, fpn->digest, error);
        if (status < 0)
            ws2_error_prefix(error, "%s", path);
    }
    nn_weights_close(weights);
    return status;
}

static int read_info(struct fpn_info *info, const struct nn_weights *weights, struct ws2_error *error)
{
    const char *backbone = nn_weights_meta(weights, "backbone"), *reach = nn_weights_meta(weights, "reach"),
               *size = nn_weights_meta(weights, "size"), *threshold = nn_weights_meta(weights, "threshold");
    *info = (struct fpn_info){0};
    if (nn_weights_meta(weights, "dense") == NULL)
        return ws2_fail(error, WS2_ERR_MODEL, "these weights mark no pixels; ws2-seg-train makes such");
    info->depth = backbone ? classifier_depth(backbone) : 0;
    if (info->depth == 0)
        return classifier_bad_fact("backbone", backbone, error);
    info->reach = reach ? atoi(reach) : 0;
    if (!has_reach(info))
        return classifier_bad_fact("reach", reach, error);
    info->size = size ? atoi(size) : 0;
    if (info->size < 1 || info->size > 65535)
        return classifier_bad_fact("size", size, error);
    char *end = NULL;
    info->threshold = threshold ? strtod(threshold, &end) : NAN;
    return info->threshold >= 0 && info->threshold <= 1 && end > threshold && *end == '\0'
               ? WS2_OK
               : classifier_bad_fact("threshold", threshold, error);
}

static int read_flat(struct fpn *fpn, const struct nn_weights *weights, struct ws2_error *error)
{
    const char *flat = nn_weights_meta(weights, "flat");
    return ws2_flat_parse(flat ? flat : "none", &fpn->flat) < 0 ? classifier_bad_fact("flat", flat, error)
                                                                : WS2_OK;
}

int fpn_read(struct fpn *fpn, struct nn *nn, const char *path, struct ws2_error *error)
{
    struct nn_weights *weights;
    struct fpn_info info;
    *fpn = (struct fpn){0};
    int status = nn_weights_open(&weights, path, NULL, error);
    if (status < 0)
        return status; /* the text begins with the path */
    status = read_info(&info, weights, error);
    if (status >= 0)
        status = fpn_open(fpn, nn, &info, error);
    if (status >= 0)
        status = read_flat(fpn, weights, error);
    if (status >= 0)
        status = nn_params_load(fpn->params, weights, &(struct nn_load_options){0}, NULL, error);
    if (status >= 0)
        status = nn_params_digest(fpn->params, fpn->digest, error);
    nn_weights_close(weights);
    if (status < 0) {
        fpn_close(fpn);
        ws2_error_prefix(error, "%s", path);
    }
    return status;
}

int fpn_twin(struct fpn *fpn, struct nn *nn, const struct fpn *from, struct ws2_error *error)
{
    int status = fpn_open(fpn, nn, &from->info, error);
    if (status < 0)
        return status;
    memcpy(fpn->digest, from->digest, sizeof fpn->digest);
    nn_params_share(fpn->params, from->params);
    status = nn_check(nn, error);
    if (status < 0)
        fpn_close(fpn);
    return status;
}

int fpn_facts(const struct fpn *fpn, struct classifier_fact fact[CLASSIFIER_FACTS_MAX])
{
    int n = 0;
    fact[n++] = classifier_fact_text("ws2", WS2_VERSION);
    fact[n++] = classifier_fact_text("backbone", classifier_backbone(fpn->info.depth));
    fact[n++] = classifier_fact_number("reach", fpn->info.reach);
    fact[n++] = classifier_fact_number("size", fpn->info.size);
    fact[n++] = classifier_fact_number("threshold", fpn->info.threshold);
    fact[n++] = classifier_fact_text("init", *fpn->digest ? fpn->digest : "none");
    fact[n++] =
        classifier_fact_text("precision", nn_precision_name(nn_precision(nn_params_context(fpn->params))));
    return n;
}

/* ---- running -------------------------------------------------------------------------------------------------- */

struct nn_tensor *fpn_forward(const struct fpn *fpn, struct nn_tensor *x, bool training)
{
    struct nn *nn = nn_params_context(fpn->params);
    const struct nn_conv plain = nn_conv_square(1, 0, 1);
    struct nn_tensor *level[RESNET_LEVELS], *sum = NULL;
    resnet_pyramid(fpn->trunk, x, training, level);
    for (int i = levels_of(&fpn->info); i >= 1; i--) {
        struct nn_tensor *side =
            nn_conv2d(nn, level[i], fpn->lateral[i - 1], fpn->lateral_bias[i - 1], plain);
        sum = sum ? nn_add(nn, side, nn_resize_nearest(nn, sum, nn_dim(side, 2), nn_dim(side, 3))) : side;
    }
    sum = nn_conv2d(nn, sum, fpn->smooth, NULL, nn_conv_square(1, 1, 1));
    sum = nn_bn_apply(nn, &fpn->smooth_bn, sum, training, true);
    struct nn_tensor *logit = nn_conv2d(nn, sum, fpn->logit, fpn->logit_bias, plain);
    return nn_resize_bilinear(nn, logit, nn_dim(x, 2), nn_dim(x, 3), false);
}
