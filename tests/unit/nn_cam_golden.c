/* Class activation maps of ResNet-18 equal pytorch-grad-cam's, and those of Puzzle-CAM's inference. */
#include <stdio.h>

#include "cam_help.h"
#include "golden.h"
#include "models/resnet.h"

#define GOLDEN "tests/golden/cam_maps.safetensors"

static void golden_f32(const struct nn_weights *weights, const char *name, float *out, size_t room)
{
    struct ws2_error error = {0};
    const int index = nn_weights_find(weights, name);
    size_t count = 0;
    assert_true(index >= 0);
    assert_true(ws2_shape_count(&nn_weights_at(weights, index)->shape, &count) && count <= room);
    assert_int_equal(nn_weights_read_f32(weights, index, out, count, &error), 0);
}

/* T09: 3 x 3 to 7 x 7. */
static void post_processing(void **state)
{
    (void)state;
    float in[9], want[49], got[49];
    struct nn_weights *weights = golden_open(GOLDEN);
    golden_f32(weights, "post.in", in, 9);
    golden_f32(weights, "post.out", want, 49);
    nn_weights_close(weights);
    struct tiny tiny;
    tiny_open(&tiny, NN_F32_MODE);
    nn_scope_begin(tiny.nn);
    struct nn_tensor *map = nn_from_f32(tiny.nn, ws2_shape_4(1, 1, 3, 3), in);
    nn_to_f32(tiny.nn, ws2_cam_post(tiny.nn, &map, 1, 7, 7), got, 49);
    nn_scope_end(tiny.nn);
    assert_true(largest_difference(got, want, 49) < 1e-5);
    tiny_close(&tiny);
}

/* ResNet-18 with the fixture's weights, three classes; the head as fc or as class convolution. */
struct golden_net {
    struct nn *nn;
    struct nn_params *params;
    struct resnet *net;
};

static const char *as_fc(const char *name)
{
    return strcmp(name, "classifier.weight") == 0 ? "fc.weight" : name;
}

static void golden_net_open(struct golden_net *g, enum resnet_head head)
{
    struct ws2_error error = {0};
    const struct nn_options options = {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .threads = 1};
    const struct resnet_options shape = {.depth = 18, .stride = RESNET_STRIDE_32, .head = head, .classes = 3};
    assert_int_equal(nn_open(&g->nn, &options, &error), 0);
    g->params = nn_params_new(g->nn);
    g->net = resnet_new(g->params, &shape);
    assert_non_null(g->net);
    assert_int_equal(generator_fill(g->params, as_fc), 0);
}

static void golden_net_close(struct golden_net *g)
{
    resnet_free(g->net);
    nn_params_free(g->params);
    nn_close(g->nn);
}

static struct nn_tensor *golden_net_forward(void *model, struct nn_tensor *images, const char *layer,
                                            bool graph, struct nn_tensor **activation)
{
    struct golden_net *g = model;
    const int tap = resnet_tap_find(g->net, layer);
    const struct resnet_out out =
        resnet_forward(g->net, images, &(struct resnet_run){false, graph ? tap : -1, tap});
    *activation = out.tap;
    return out.logits;
}

static bool golden_net_has(void *model, const char *layer)
{
    return resnet_tap_find(((struct golden_net *)model)->net, layer) >= 0;
}

static struct nn_tensor *golden_net_weight(void *model)
{
    return resnet_head_weight(((struct golden_net *)model)->net);
}

/* Compares every 4th row and column of the maps with the fixture. */
static void check_golden(struct golden_net *g, const char *name, const struct ws2_cam_options *options,
                         bool biased)
{
    enum { H = 64, W = 48 };
    static uint8_t rgb[H * W * 3];
    static float maps[3 * H * W], want[3 * 16 * 12], got[3 * 16 * 12];
    float prob[3];
    struct ws2_cam *cam;
    struct ws2_error error = {0};
    struct nn_weights *weights = golden_open(GOLDEN);
    const struct ws2_cam_network network = {.model = g,
                                            .params = g->params,
                                            .classes = 3,
                                            .exclusive = true,
                                            .biased = biased,
                                            .last = "layer4",
                                            .has_layer = golden_net_has,
                                            .forward = golden_net_forward,
                                            .weight = golden_net_weight};
    generator_image("image", rgb, sizeof rgb);
    golden_f32(weights, name, want, 3 * 16 * 12);
    nn_weights_close(weights);
    if (ws2_cam_open(&cam, g->nn, &network, options, &error) < 0 ||
        ws2_cam_pictures(cam, 1, H, W, rgb, H, W, maps, prob, &error) < 0)
        fail_msg("%s: %s", name, error.text);
    ws2_cam_close(cam);
    for (int i = 0; i < 3 * 16 * 12; i++)
        got[i] = maps[(i / 192) * H * W + i / 12 % 16 * 4 * W + i % 12 * 4];
    const double worst = largest_difference(got, want, 3 * 16 * 12);
    if (!(worst < 2e-4))
        fail_msg("%s: differs by %g", name, worst);
}

static void equals_pytorch_grad_cam(void **state)
{
    (void)state;
    static const char *const method[] = {"gradcam", "gradcampp", "layercam"};
    static const char *const layer[] = {"layer4", "layer3", "layer2.1"};
    struct golden_net g;
    char name[64];
    golden_net_open(&g, RESNET_HEAD_FC);
    for (int m = 0; m < 3; m++) {
        struct ws2_cam_options o = {
            .method = (enum ws2_cam_method)(WS2_CAM_GRADCAM + m), .eps = 1e-6, .layers = 1};
        for (int l = 0; l < 3; l++) {
            o.layer[0] = layer[l];
            snprintf(name, sizeof name, "%s.%s", method[m], layer[l]);
            check_golden(&g, name, &o, true);
        }
        snprintf(name, sizeof name, "prob.%s.layer4", method[m]);
        o.layer[0] = "layer4";
        o.target = WS2_CAM_PROB;
        check_golden(&g, name, &o, true);
        o.form = WS2_CAM_AUTOGRAD;
        check_golden(&g, name, &o, true);
    }
    const struct ws2_cam_options two = {
        .method = WS2_CAM_GRADCAM, .layer = {"layer3", "layer4"}, .layers = 2};
    check_golden(&g, "mean.gradcam", &two, true);
    const struct ws2_cam_options multi = {.method = WS2_CAM_GRADCAM, .scale = {0.5, 1, 2}, .scales = 3};
    check_golden(&g, "multi.gradcam", &multi, true);
    golden_net_close(&g);
}

static void equals_puzzle_inference(void **state)
{
    (void)state;
    struct golden_net g;
    golden_net_open(&g, RESNET_HEAD_MAPS);
    const struct ws2_cam_options o = {
        .method = WS2_CAM_PUZZLE, .kernel = WS2_CAM_CUBIC, .scale = {0.5, 1, 2}, .scales = 3, .flip = true};
    check_golden(&g, "puzzle", &o, false);
    golden_net_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(post_processing),
        cmocka_unit_test(equals_pytorch_grad_cam),
        cmocka_unit_test(equals_puzzle_inference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
