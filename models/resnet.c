#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/resnet.h"

#define LAYERS 4
#define BLOCKS_MAX 33 /* ResNet-101: 3 + 4 + 23 + 3 */

/* conv3 and bn3 are used by bottlenecks only; down is NULL where the identity needs no change. */
struct block {
    struct nn_tensor *conv1, *conv2, *conv3, *down;
    struct nn_bn bn1, bn2, bn3, down_bn;
    int layer, index; /* 1 .. 4; number within the layer */
    int stride, dilation;
};

struct resnet {
    struct nn *nn;
    struct resnet_options options;
    bool bottleneck;
    int expansion;
    struct nn_tensor *conv1;
    struct nn_bn bn1;
    struct block block[BLOCKS_MAX];
    int blocks;
    struct nn_tensor *head_weight, *head_bias;
};

static const struct {
    int depth;
    bool bottleneck;
    int blocks[LAYERS];
} shapes[] = {
    {18, false, {2, 2, 2, 2}},
    {34, false, {3, 4, 6, 3}},
    {50, true, {3, 4, 6, 3}},
    {101, true, {3, 4, 23, 3}},
};

/* ---- declaring ------------------------------------------------------------------------------------------------ */

static struct nn_tensor *declare_conv(struct nn_params *params, const char *name, int64_t out, int64_t in,
                                      int kernel)
{
    return nn_declare(params, NN_WEIGHT, name, ws2_shape_4(out, in, kernel, kernel),
                      nn_init_make(NN_INIT_KAIMING_OUT, 0));
}

static void declare_basic(struct block *block, struct nn_params *params, int64_t in, int64_t width)
{
    block->conv1 = declare_conv(params, "conv1.weight", width, in, 3);
    block->bn1 = nn_bn_declare(params, "bn1", width);
    block->conv2 = declare_conv(params, "conv2.weight", width, width, 3);
    block->bn2 = nn_bn_declare(params, "bn2", width);
}

static void declare_bottleneck(struct block *block, struct nn_params *params, int64_t in, int64_t width)
{
    block->conv1 = declare_conv(params, "conv1.weight", width, in, 1);
    block->bn1 = nn_bn_declare(params, "bn1", width);
    block->conv2 = declare_conv(params, "conv2.weight", width, width, 3);
    block->bn2 = nn_bn_declare(params, "bn2", width);
    block->conv3 = declare_conv(params, "conv3.weight", 4 * width, width, 1);
    block->bn3 = nn_bn_declare(params, "bn3", 4 * width);
}

static void declare_block(struct resnet *net, struct nn_params *params, struct block *block, int64_t in,
                          int64_t width)
{
    int64_t out = width * net->expansion;
    nn_params_enter(params, "layer%d.%d", block->layer, block->index);
    if (net->bottleneck)
        declare_bottleneck(block, params, in, width);
    else
        declare_basic(block, params, in, width);
    if (block->stride != 1 || in != out) {
        block->down = declare_conv(params, "downsample.0.weight", out, in, 1);
        block->down_bn = nn_bn_declare(params, "downsample.1", out);
    }
    nn_params_leave(params);
}

/* Stride of the layer's first block and dilation of its first and of its other blocks. torchvision's dilated form
 * gives the first block the dilation of the layer before. */
static void layer_geometry(enum resnet_stride variant, int layer, int *stride, int *first, int *rest)
{
    *stride = layer == 1 ? 1 : 2;
    *first = *rest = 1;
    if (variant == RESNET_STRIDE_16 && layer == 4) {
        *stride = 1;
    } else if (variant == RESNET_DILATED_16 && layer == 4) {
        *stride = 1;
        *rest = 2;
    } else if (variant == RESNET_DILATED_8 && layer >= 3) {
        *stride = 1;
        *first = layer == 3 ? 1 : 2;
        *rest = layer == 3 ? 2 : 4;
    }
}

static int64_t declare_layer(struct resnet *net, struct nn_params *params, int layer, int blocks, int64_t in)
{
    int64_t width = 64 << (layer - 1);
    int stride, first, rest;
    layer_geometry(net->options.stride, layer, &stride, &first, &rest);
    for (int i = 0; i < blocks; i++) {
        struct block *block = &net->block[net->blocks++];
        block->layer = layer;
        block->index = i;
        block->stride = i == 0 ? stride : 1;
        block->dilation = i == 0 ? first : rest;
        declare_block(net, params, block, in, width);
        in = width * net->expansion;
    }
    return in;
}

static void declare_head(struct resnet *net, struct nn_params *params)
{
    int64_t classes = net->options.classes, channels = resnet_channels(net);
    if (net->options.head == RESNET_HEAD_FC) {
        net->head_weight = nn_declare(params, NN_WEIGHT, "fc.weight", ws2_shape_2(classes, channels),
                                      nn_init_make(NN_INIT_DEFAULT, 0));
        net->head_bias = nn_declare(params, NN_BIAS, "fc.bias", ws2_shape_1(classes),
                                    nn_init_make(NN_INIT_DEFAULT, (double)channels));
    } else if (net->options.head == RESNET_HEAD_MAPS) {
        /* sqrt(2 / channels) is He's deviation by fan-in. */
        double deviation = __builtin_sqrt(2.0 / (double)channels);
        net->head_weight =
            nn_declare(params, NN_WEIGHT, "classifier.weight", ws2_shape_4(classes, channels, 1, 1),
                       nn_init_make(NN_INIT_NORMAL, deviation));
    }
}

static int find_shape(const struct resnet_options *options)
{
    int count = (int)(sizeof(shapes) / sizeof(shapes[0]));
    bool dilated = options->stride == RESNET_DILATED_16 || options->stride == RESNET_DILATED_8;
    for (int i = 0; i < count; i++)
        if (shapes[i].depth == options->depth)
            return dilated && !shapes[i].bottleneck ? -1 : i;
    return -1;
}

struct resnet *resnet_new(struct nn_params *params, const struct resnet_options *options)
{
    struct nn *nn = nn_params_context(params);
    int shape = find_shape(options);
    if (shape < 0 || (options->head != RESNET_HEAD_NONE && (options->classes < 1 || options->layers > 0)) ||
        options->layers < 0 || options->layers > LAYERS) {
        nn_fail(nn, WS2_ERR_USAGE, "no such network: ResNet-%d%s, %d classes", options->depth,
                options->stride >= RESNET_DILATED_16 ? " dilated" : "", options->classes);
        return NULL;
    }
    struct resnet *net = calloc(1, sizeof(*net));
    if (!net) {
        nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
        return NULL;
    }
    net->nn = nn;
    net->options = *options;
    net->bottleneck = shapes[shape].bottleneck;
    net->expansion = net->bottleneck ? 4 : 1;
    net->conv1 = declare_conv(params, "conv1.weight", 64, 3, 7);
    net->bn1 = nn_bn_declare(params, "bn1", 64);
    int64_t in = 64;
    const int layers = options->layers ? options->layers : LAYERS;
    for (int layer = 1; layer <= layers; layer++)
        in = declare_layer(net, params, layer, shapes[shape].blocks[layer - 1], in);
    declare_head(net, params);
    if (!nn_error(nn))
        return net;
    resnet_free(net);
    return NULL;
}

void resnet_free(struct resnet *net)
{
    free(net);
}

/* ---- taps --------------------------------------------------------------------------------------------------------- */

int resnet_taps(const struct resnet *net)
{
    return 1 + net->blocks;
}

const char *resnet_tap_name(const struct resnet *net, int tap, char text[24])
{
    if (tap < 0 || tap > net->blocks)
        return NULL;
    if (tap == 0)
        return strcpy(text, "stem");
    snprintf(text, 24, "layer%d.%d", net->block[tap - 1].layer, net->block[tap - 1].index);
    return text;
}

int resnet_tap_find(const struct resnet *net, const char *name)
{
    char text[24];
    int found = -1;
    for (int tap = 0; tap <= net->blocks; tap++) {
        resnet_tap_name(net, tap, text);
        if (strcmp(text, name) == 0)
            return tap;
        char *dot = strchr(text, '.');
        if (dot)
            *dot = 0;
        if (strcmp(text, name) == 0)
            found = tap; /* the last block of that layer wins */
    }
    return found;
}

int64_t resnet_channels(const struct resnet *net)
{
    return 512 * net->expansion;
}

/* ---- running --------------------------------------------------------------------------------------------------------- */

static struct nn_tensor *run_block(struct nn *nn, const struct block *b, struct nn_tensor *x, bool training)
{
    struct nn_conv plain = nn_conv_square(1, 0, 1);
    struct nn_conv spatial = nn_conv_square(b->stride, b->dilation, b->dilation);
    struct nn_tensor *same = x;
    if (b->down) {
        same = nn_conv2d(nn, x, b->down, NULL, nn_conv_square(b->stride, 0, 1));
        same = nn_bn_apply(nn, &b->down_bn, same, training, false);
    }
    struct nn_tensor *y;
    if (b->conv3) {
        y = nn_bn_apply(nn, &b->bn1, nn_conv2d(nn, x, b->conv1, NULL, plain), training, true);
        y = nn_bn_apply(nn, &b->bn2, nn_conv2d(nn, y, b->conv2, NULL, spatial), training, true);
        y = nn_bn_apply(nn, &b->bn3, nn_conv2d(nn, y, b->conv3, NULL, plain), training, false);
    } else {
        y = nn_bn_apply(nn, &b->bn1, nn_conv2d(nn, x, b->conv1, NULL, spatial), training, true);
        y = nn_bn_apply(nn, &b->bn2, nn_conv2d(nn, y, b->conv2, NULL, nn_conv_square(1, 1, 1)), training,
                        false);
    }
    return nn_relu_(nn, nn_add_(nn, y, same));
}

static struct nn_tensor *run_stem(struct nn *nn, const struct resnet *net, struct nn_tensor *x, bool training)
{
    struct nn_tensor *y = nn_conv2d(nn, x, net->conv1, NULL, nn_conv_square(2, 3, 1));
    y = nn_bn_apply(nn, &net->bn1, y, training, true);
    return nn_max_pool2d(nn, y, 3, 2, 1);
}

/* Runs one tap in a scope of its own, so that without a graph its intermediates go at once. */
static struct nn_tensor *run_tap(struct nn *nn, const struct resnet *net, int tap, struct nn_tensor *x,
                                 bool training)
{
    nn_scope_begin(nn);
    struct nn_tensor *y =
        tap == 0 ? run_stem(nn, net, x, training) : run_block(nn, &net->block[tap - 1], x, training);
    nn_keep(nn, y);
    nn_scope_end(nn);
    return y;
}

static struct nn_tensor *run_taps(const struct resnet *net, struct nn_tensor *x, const struct resnet_run *run,
                                  struct nn_tensor **tapped)
{
    struct nn *nn = net->nn;
    bool recording = run->leaf < 0;
    struct nn_tensor *y = x;
    if (!recording)
        nn_no_grad_begin(nn);
    for (int tap = 0; tap <= net->blocks; tap++) {
        struct nn_tensor *before = y;
        y = run_tap(nn, net, tap, before, run->training);
        if (before != x && before != *tapped)
            nn_drop(nn, before);
        if (tap == run->leaf) {
            nn_no_grad_end(nn);
            recording = true;
            nn_requires_grad(nn, y, true);
        }
        if (tap == run->tap || tap == run->leaf)
            *tapped = y;
    }
    if (!recording)
        nn_no_grad_end(nn);
    return y;
}

struct resnet_out resnet_forward(const struct resnet *net, struct nn_tensor *x, const struct resnet_run *run)
{
    struct nn *nn = net->nn;
    struct resnet_out out = {0};
    if (run->leaf > net->blocks || run->tap > net->blocks ||
        (run->leaf >= 0 && run->tap >= 0 && run->tap != run->leaf)) {
        nn_fail(nn, WS2_ERR_USAGE, "resnet_forward: no such tap");
        return out;
    }
    out.feature = run_taps(net, x, run, &out.tap);
    if (net->options.head == RESNET_HEAD_FC) {
        out.logits = nn_linear(nn, nn_global_avg_pool(nn, out.feature), net->head_weight, net->head_bias);
    } else if (net->options.head == RESNET_HEAD_MAPS) {
        out.maps = resnet_maps(net, out.feature);
        out.logits = nn_global_avg_pool(nn, out.maps);
    }
    return nn_error(nn) ? (struct resnet_out){0} : out;
}

void resnet_pyramid(const struct resnet *net, struct nn_tensor *x, bool training,
                    struct nn_tensor *level[RESNET_LEVELS])
{
    struct nn *nn = net->nn;
    struct nn_tensor *y = x;
    memset(level, 0, RESNET_LEVELS * sizeof(struct nn_tensor *));
    for (int tap = 0; tap <= net->blocks; tap++) {
        struct nn_tensor **mine = &level[tap == 0 ? 0 : net->block[tap - 1].layer], *before = y;
        y = run_tap(nn, net, tap, before, training);
        if (*mine == before)
            nn_drop(nn, before); /* within a layer nobody else looks at it */
        *mine = y;
    }
}

int64_t resnet_level_channels(const struct resnet *net, int level)
{
    return level == 0 ? 64 : ((int64_t)64 << (level - 1)) * net->expansion;
}

void resnet_classify(void *net, struct nn_tensor *x, bool training, struct nn_tensor **logits,
                     struct nn_tensor **maps)
{
    const struct resnet_out out = resnet_forward(net, x, &(struct resnet_run){training, -1, -1});
    *logits = out.logits;
    *maps = out.maps;
}

struct nn_tensor *resnet_head_weight(const struct resnet *net)
{
    return nn_reshape(net->nn, net->head_weight, ws2_shape_2(net->options.classes, resnet_channels(net)));
}

struct nn_tensor *resnet_maps(const struct resnet *net, struct nn_tensor *feature)
{
    struct nn *nn = net->nn;
    struct nn_tensor *weight = net->head_weight;
    if (net->options.head == RESNET_HEAD_FC)
        weight = nn_reshape(nn, weight, ws2_shape_4(net->options.classes, resnet_channels(net), 1, 1));
    return nn_conv2d(nn, feature, weight, NULL, nn_conv_square(1, 0, 1));
}
