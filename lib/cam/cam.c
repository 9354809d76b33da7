#include "cam/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- formulas --------------------------------------------------------------------------------------------- */

/* Half-precision activations are weighed in single precision. */
static struct nn_tensor *widen(struct nn *nn, struct nn_tensor *x)
{
    const enum nn_dtype dtype = nn_dtype(x);
    return dtype == NN_BF16 || dtype == NN_F16 ? nn_to_dtype(nn, x, NN_F32) : x;
}

/* max(G,0) G^2 / (2 G^2 + S G^3 + eps), written so that neither G^2 nor G^3 can underflow into 0/0. */
static struct nn_tensor *plusplus(struct nn *nn, struct nn_tensor *g, struct nn_tensor *sum, double eps)
{
    struct nn_tensor *below = nn_add_scalar(nn, nn_mul(nn, sum, g), 2);
    if (eps > 0)
        below = nn_add(nn, below, nn_mul_scalar(nn, nn_reciprocal(nn, nn_square(nn, g)), eps));
    return nn_where(nn, nn_gt_scalar(nn, g, 0), nn_div(nn, g, below), nn_zeros_like(nn, g));
}

struct nn_tensor *ws2_cam_weigh(struct nn *nn, enum ws2_cam_method method, struct nn_tensor *activation,
                                struct nn_tensor *gradient, double eps)
{
    const struct nn_axes place = nn_axes_2(2, 3);
    struct nn_tensor *a = widen(nn, activation), *g = widen(nn, gradient), *w;
    if (method == WS2_CAM_LAYERCAM)
        w = nn_relu(nn, g);
    else if (method == WS2_CAM_GRADCAMPP)
        w = nn_sum_axes(nn, plusplus(nn, g, nn_sum_axes(nn, a, place, true), eps), place, true);
    else
        w = nn_mean_axes(nn, g, place, true);
    return nn_sum_axes(nn, nn_mul(nn, w, a), nn_axes_1(1), false);
}

/* d y_c / d A_k of one place, times h w: [1,C,K] for the logit, [B,C,K] for the probability. Probabilities are
 * taken in double, or a confident network would have none. */
static struct nn_tensor *head_gradient(struct nn *nn, struct nn_tensor *weight, struct nn_tensor *logits,
                                       enum ws2_cam_target target, bool exclusive)
{
    struct nn_tensor *w = nn_unsqueeze(nn, weight, 0);
    if (target == WS2_CAM_LOGIT)
        return w;
    struct nn_tensor *z = nn_to_dtype(nn, logits, NN_F64), *wide = nn_to_dtype(nn, w, NN_F64), *g;
    struct nn_tensor *p =
        nn_unsqueeze(nn, exclusive ? nn_softmax(nn, z, 1) : nn_sigmoid(nn, z), 2); /* [B,C,1] */
    if (exclusive) {
        struct nn_tensor *mean = nn_sum_axes(nn, nn_mul(nn, p, wide), nn_axes_1(1), true); /* [B,1,K] */
        g = nn_mul(nn, p, nn_sub(nn, wide, mean));
    } else {
        g = nn_mul(nn, nn_sub(nn, p, nn_square(nn, p)), wide);
    }
    return nn_to_dtype(nn, g, nn_dtype(weight));
}

struct nn_tensor *ws2_cam_closed(struct nn *nn, enum ws2_cam_method method, struct nn_tensor *activation,
                                 struct nn_tensor *weight, struct nn_tensor *logits,
                                 enum ws2_cam_target target, bool exclusive, double eps)
{
    struct nn_tensor *a = widen(nn, activation);
    const int64_t b = nn_dim(a, 0), k = nn_dim(a, 1), h = nn_dim(a, 2), w = nn_dim(a, 3),
                  c = nn_dim(weight, 0);
    struct nn_tensor *flat = nn_reshape(nn, weight, ws2_shape_2(c, k));
    struct nn_tensor *g;
    if (method == WS2_CAM_CAM)
        g = nn_unsqueeze(nn, flat, 0);
    else
        g = nn_mul_scalar(nn, head_gradient(nn, flat, logits, target, exclusive), 1.0 / (double)(h * w));
    if (method == WS2_CAM_LAYERCAM) {
        g = nn_relu(nn, g);
    } else if (method == WS2_CAM_GRADCAMPP) {
        struct nn_tensor *sum = nn_unsqueeze(nn, nn_sum_axes(nn, a, nn_axes_2(2, 3), false), 1); /* [B,1,K] */
        g = nn_mul_scalar(nn, plusplus(nn, g, sum, eps), (double)(h * w));
    }
    struct nn_tensor *map = nn_matmul(nn, g, nn_reshape(nn, a, ws2_shape_3(b, k, h * w))); /* [B,C,hw] */
    return nn_reshape(nn, map, ws2_shape_4(b, c, h, w));
}

struct nn_tensor *ws2_cam_unit(struct nn *nn, struct nn_tensor *maps)
{
    const struct nn_axes place = nn_axes_2(-2, -1);
    struct nn_tensor *x = nn_relu(nn, maps);
    x = nn_sub(nn, x, nn_amin(nn, x, place, true));
    return nn_div(nn, x, nn_add_scalar(nn, nn_amax(nn, x, place, true), 1e-7));
}

struct nn_tensor *ws2_cam_post(struct nn *nn, struct nn_tensor *const *maps, int layers, int64_t height,
                               int64_t width)
{
    struct nn_tensor *sum = NULL;
    for (int i = 0; i < layers; i++) {
        struct nn_tensor *x = nn_resize_bilinear(nn, ws2_cam_unit(nn, maps[i]), height, width, false);
        sum = i == 0 ? x : nn_add(nn, sum, x);
    }
    return ws2_cam_unit(nn, layers == 1 ? sum : nn_mul_scalar(nn, sum, 1.0 / layers));
}

int ws2_cam_side(int side, double scale)
{
    const int scaled = (int)((double)side / (1 / scale));
    return scaled < 1 ? 1 : scaled;
}

/* ---- one picture size -------------------------------------------------------------------------------------- */

static struct nn_tensor *probabilities(const struct ws2_cam *cam, struct nn_tensor *logits)
{
    return cam->net.exclusive ? nn_softmax(cam->nn, logits, 1) : nn_sigmoid(cam->nn, logits);
}

/* Map [B,C,h,w] of one layer, by one backward pass per class: pictures of a batch do not know each other in
 * evaluation mode, so that the gradient of the batch's sum holds those of all. */
static struct nn_tensor *by_autograd(struct ws2_cam *cam, struct nn_tensor *x, const char *layer,
                                     struct nn_tensor **logits)
{
    struct nn *nn = cam->nn;
    const int classes = cam->net.classes;
    struct nn_tensor *a, *y, *map[WS2_CAM_CLASSES_MAX];
    y = *logits = cam->net.forward(cam->net.model, x, layer, true, &a);
    if (cam->options.target == WS2_CAM_PROB)
        y = probabilities(cam, nn_to_dtype(nn, y, NN_F64));
    for (int c = 0; c < classes; c++) {
        struct nn_tensor *gradient = NULL;
        nn_grad(nn, nn_sum(nn, nn_select(nn, y, 1, c)), &a, 1, c + 1 < classes, false, &gradient);
        nn_no_grad_begin(nn);
        map[c] = ws2_cam_weigh(nn, cam->options.method, a, gradient, cam->options.eps);
        nn_no_grad_end(nn);
    }
    return nn_stack(nn, map, classes, 1);
}

static struct nn_tensor *by_formula(struct ws2_cam *cam, struct nn_tensor *x, struct nn_tensor **logits)
{
    struct nn_tensor *a;
    *logits = cam->net.forward(cam->net.model, x, cam->net.last, false, &a);
    return ws2_cam_closed(cam->nn, cam->options.method, a, cam->net.weight(cam->net.model), *logits,
                          cam->options.target, cam->net.exclusive, cam->options.eps);
}

static struct nn_tensor *by_puzzle(struct ws2_cam *cam, struct nn_tensor *x, struct nn_tensor **logits)
{
    struct nn *nn = cam->nn;
    struct nn_tensor *a;
    *logits = cam->net.forward(cam->net.model, x, cam->net.last, false, &a);
    struct nn_tensor *weight = cam->net.weight(cam->net.model);
    weight = nn_reshape(nn, weight, ws2_shape_4(nn_dim(weight, 0), nn_dim(weight, 1), 1, 1));
    return nn_relu(nn, widen(nn, nn_conv2d(nn, a, weight, NULL, nn_conv_square(1, 0, 1))));
}

/* ---- one scale -------------------------------------------------------------------------------------------- */

/* Maps [B,C,h,w] ready to be resized and summed, of one picture or its mirror image (mirrored back). */
static struct nn_tensor *view_maps(struct ws2_cam *cam, struct nn_tensor *x, bool mirrored,
                                   struct nn_tensor **logits)
{
    struct nn *nn = cam->nn;
    const struct nn_axes across = nn_axes_1(-1);
    struct nn_tensor *maps[WS2_CAM_LAYERS_MAX], *map;
    struct nn_tensor *view = mirrored ? nn_flip(nn, x, across) : x;
    if (cam->options.method == WS2_CAM_PUZZLE) {
        map = by_puzzle(cam, view, logits);
    } else {
        for (int i = 0; i < cam->options.layers; i++)
            maps[i] = cam->closed ? by_formula(cam, view, logits)
                                  : by_autograd(cam, view, cam->options.layer[i], logits);
        map = ws2_cam_post(nn, maps, cam->options.layers, nn_dim(x, 2), nn_dim(x, 3));
    }
    return mirrored ? nn_flip(nn, map, across) : map;
}

static struct nn_tensor *resize_pictures(struct ws2_cam *cam, struct nn_tensor *x, int64_t height,
                                         int64_t width)
{
    if (nn_dim(x, 2) == height && nn_dim(x, 3) == width)
        return x;
    if (cam->options.kernel == WS2_CAM_CUBIC)
        return nn_resize_bicubic(cam->nn, x, height, width, 0, 0);
    return nn_resize_bilinear(cam->nn, x, height, width, false);
}

/* Adds the maps of pictures first .. first+count-1 at one scale to total [B,C,H,W]. */
static void add_maps(struct ws2_cam *cam, struct nn_tensor *pictures, int64_t first, int64_t count, int scale,
                     struct nn_tensor *total, float *prob)
{
    struct nn *nn = cam->nn;
    const double s = cam->options.scale[scale];
    struct nn_tensor *logits, *unused;
    nn_scope_begin(nn);
    struct nn_tensor *some = nn_narrow(nn, pictures, 0, first, count);
    struct nn_tensor *x = resize_pictures(cam, some, ws2_cam_side((int)nn_dim(pictures, 2), s),
                                          ws2_cam_side((int)nn_dim(pictures, 3), s));
    struct nn_tensor *map = view_maps(cam, x, false, &logits);
    if (cam->options.flip)
        map = nn_add(nn, map, view_maps(cam, x, true, &unused));
    nn_no_grad_begin(nn);
    if (nn_dim(map, 2) != nn_dim(total, 2) || nn_dim(map, 3) != nn_dim(total, 3))
        map = nn_resize_bilinear(nn, map, nn_dim(total, 2), nn_dim(total, 3), false);
    nn_add_(nn, nn_narrow(nn, total, 0, first, count), map);
    if (scale == cam->prob_scale)
        nn_to_f32(nn, probabilities(cam, widen(nn, logits)), prob + first * cam->net.classes,
                  (size_t)(count * cam->net.classes));
    nn_no_grad_end(nn);
    nn_scope_end(nn);
}

int ws2_cam_pictures(struct ws2_cam *cam, int batch, int height, int width, const uint8_t *rgb,
                     int out_height, int out_width, float *maps, float *prob, struct ws2_error *error)
{
    struct nn *nn = cam->nn;
    const int classes = cam->net.classes;
    const bool graph = !cam->closed && cam->options.method != WS2_CAM_PUZZLE;
    nn_scope_begin(nn);
    if (!graph)
        nn_no_grad_begin(nn);
    struct nn_tensor *x = nn_images_u8(nn, batch, height, width, rgb, nn_imagenet_mean, nn_imagenet_std);
    struct nn_tensor *total = nn_zeros(nn, ws2_shape_4(batch, classes, out_height, out_width),
                                       nn_precision(nn) == NN_F64_MODE ? NN_F64 : NN_F32);
    for (int s = 0; s < cam->options.scales && nn_error(nn) == NULL; s++) {
        const double area = cam->options.scale[s] * cam->options.scale[s];
        const int chunk = area <= 1 ? batch : (int)fmax(1, floor(batch / area));
        for (int first = 0; first < batch; first += chunk)
            add_maps(cam, x, first, first + chunk > batch ? batch - first : chunk, s, total, prob);
    }
    if (!cam->options.raw)
        total = nn_div(nn, total, nn_add_scalar(nn, nn_amax(nn, total, nn_axes_2(2, 3), true), 1e-5));
    nn_to_f32(nn, total, maps, (size_t)batch * (size_t)classes * (size_t)out_height * (size_t)out_width);
    if (!graph)
        nn_no_grad_end(nn);
    nn_scope_end(nn);
    return nn_check(nn, error);
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

static int check_layers(const struct ws2_cam *cam, struct ws2_error *error)
{
    const struct ws2_cam_options *o = &cam->options;
    for (int i = 0; i < o->layers; i++) {
        if (!cam->net.has_layer(cam->net.model, o->layer[i]))
            return ws2_fail(error, WS2_ERR_USAGE, "the network has no layer %s", o->layer[i]);
        for (int j = 0; j < i; j++) {
            if (strcmp(o->layer[i], o->layer[j]) == 0)
                return ws2_fail(error, WS2_ERR_USAGE, "layer %s is named twice", o->layer[i]);
        }
    }
    return WS2_OK;
}

static int check(struct ws2_cam *cam, struct ws2_error *error)
{
    const struct ws2_cam_options *o = &cam->options;
    const bool only_last = o->layers == 1 && strcmp(o->layer[0], cam->net.last) == 0;
    for (int i = 0; i < o->scales; i++) {
        if (!(o->scale[i] > 0 && o->scale[i] <= 16))
            return ws2_fail(error, WS2_ERR_USAGE, "scale %g is not in (0,16]", o->scale[i]);
    }
    if ((o->method == WS2_CAM_CAM || o->method == WS2_CAM_PUZZLE || o->form == WS2_CAM_CLOSED) && !only_last)
        return ws2_fail(error, WS2_ERR_USAGE, "this needs the layer %s alone", cam->net.last);
    if (o->method == WS2_CAM_PUZZLE && cam->net.biased)
        return ws2_fail(error, WS2_ERR_USAGE,
                        "puzzle maps need weights with a class convolution (ws2-train --method puzzle)");
    if (o->form == WS2_CAM_AUTOGRAD && (o->method == WS2_CAM_CAM || o->method == WS2_CAM_PUZZLE))
        return ws2_fail(error, WS2_ERR_USAGE, "this method takes no gradient");
    if (cam->net.classes > WS2_CAM_CLASSES_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "%d classes are too many", cam->net.classes);
    cam->closed = only_last && o->form != WS2_CAM_AUTOGRAD;
    return check_layers(cam, error);
}

int ws2_cam_open(struct ws2_cam **out, struct nn *nn, const struct ws2_cam_network *network,
                 const struct ws2_cam_options *options, struct ws2_error *error)
{
    *out = NULL;
    struct ws2_cam *cam = ws2_calloc(1, sizeof *cam);
    if (cam == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    cam->nn = nn;
    cam->net = *network;
    cam->options = *options;
    if (cam->options.layers == 0)
        cam->options.layer[cam->options.layers++] = network->last;
    if (cam->options.scales == 0)
        cam->options.scale[cam->options.scales++] = 1;
    const int status = check(cam, error);
    if (status < 0) {
        free(cam);
        return status;
    }
    for (int i = 1; i < cam->options.scales; i++) {
        if (fabs(log(cam->options.scale[i])) < fabs(log(cam->options.scale[cam->prob_scale])))
            cam->prob_scale = i;
    }
    nn_params_set_trained(network->params, "*", false);
    *out = cam;
    return WS2_OK;
}

void ws2_cam_close(struct ws2_cam *cam)
{
    free(cam);
}
