/* Training on triplets: the warp, the temporal term against PyTorch and finite differences, the loader's flow. */
#include "models/resnet.h"
#include "synth/synth.h"
#include "train/internal.h"
#include "clips_help.h"
#include "train_help.h"

/* ---- the warp --------------------------------------------------------------------------------------------- */

/* [1,1,h,w] warped by a flow that is (u, v) everywhere. */
static void warp_by(struct nn *nn, const double *map, int h, int w, double u, double v, bool compat,
                    double *out)
{
    double flow[2 * 64];
    assert_true(h * w <= 64);
    for (int i = 0; i < 2 * h * w; i++)
        flow[i] = i < h * w ? u : v;
    nn_scope_begin(nn);
    struct nn_tensor *warped = ws2_maps_warp(nn, nn_from_f64(nn, ws2_shape_4(1, 1, h, w), map),
                                             nn_from_f64(nn, ws2_shape_4(1, 2, h, w), flow), compat);
    nn_to_f64(nn, warped, out, (size_t)(h * w));
    nn_scope_end(nn);
    assert_good(nn);
}

/* T10: whole cells shift, half cells average, nothing moves without flow; outside is 0. */
static void warp_plain(void **state)
{
    (void)state;
    enum { H = 5, W = 8, N = H * W };
    double map[N], out[N];
    generator_values("map", map, N, 1);
    struct nn *nn = open_nn(NN_F64_MODE);
    warp_by(nn, map, H, W, 0, 0, false, out);
    for (int i = 0; i < N; i++)
        assert_near(out[i], map[i], 1e-12);
    warp_by(nn, map, 1, W, 0, 0, false, out); /* powers of two are exact */
    assert_memory_equal(out, map, W * sizeof *out);
    warp_by(nn, map, H, W, 3, -2, false, out);
    for (int i = 0; i < N; i++) {
        const int x = i % W + 3, y = i / W - 2;
        assert_near(out[i], x < W && y >= 0 ? map[y * W + x] : 0, 1e-12);
    }
    warp_by(nn, map, H, W, 0.5, 0, false, out);
    for (int i = 0; i < N; i++)
        assert_near(out[i], (map[i] + (i % W + 1 < W ? map[i + 1] : 0)) / 2, 1e-12);
    warp_by(nn, map, H, W, 0, 0.25, false, out);
    for (int i = 0; i < N; i++)
        assert_near(out[i], 0.75 * map[i] + (i / W + 1 < H ? 0.25 * map[i + W] : 0), 1e-12);
    warp_by(nn, map, H, W, 65504, -65504, false, out);
    for (int i = 0; i < N; i++)
        assert_true(out[i] == 0);
    nn_close(nn);
}

/* On 16 cells the papers' identity samples at -0.5, 0.57, ..., 14.43, 15.5, and the ring becomes 0. */
static void warp_compat(void **state)
{
    (void)state;
    enum { W = 16, H = 4, N = H * W };
    double map[N], out[N];
    for (int i = 0; i < N; i++)
        map[i] = i % W; /* the value tells the place */
    struct nn *nn = open_nn(NN_F64_MODE);
    warp_by(nn, map, H, W, 0, 0, true, out);
    for (int i = 0; i < N; i++) {
        const int x = i % W, y = i / W;
        const bool ring = x == 0 || x == W - 1 || y == 0 || y == H - 1;
        assert_near(out[i], ring ? 0 : x * 16 / 15.0 - 0.5, 1e-9);
    }
    nn_scope_begin(nn);
    struct nn_tensor *one = nn_ones(nn, ws2_shape_4(1, 1, 1, 1), NN_F64);
    assert_null(ws2_maps_warp(nn, one, nn_zeros(nn, ws2_shape_4(1, 2, 1, 1), NN_F64), true));
    assert_non_null(nn_error(nn));
    nn_error_clear(nn);
    assert_null(ws2_maps_warp(nn, one, nn_zeros(nn, ws2_shape_4(1, 2, 2, 1), NN_F64), false));
    assert_non_null(strstr(nn_error(nn), "does not fit"));
    nn_error_clear(nn);
    nn_scope_end(nn);
    nn_close(nn);
}

static void warp_golden(void **state)
{
    (void)state;
    enum { N = 2 * 3 * 5 * 4 };
    double maps[N], flow[2 * 2 * 5 * 4], want[N], got[N];
    golden_f64("warp.maps", maps, N);
    golden_f64("warp.flow", flow, 2 * 2 * 5 * 4);
    struct nn *nn = open_nn(NN_F64_MODE);
    nn_scope_begin(nn);
    for (int compat = 0; compat < 2; compat++) {
        golden_f64(compat ? "warp.compat" : "warp.plain", want, N);
        nn_to_f64(nn,
                  ws2_maps_warp(nn, nn_from_f64(nn, ws2_shape_4(2, 3, 5, 4), maps),
                                nn_from_f64(nn, ws2_shape_4(2, 2, 5, 4), flow), compat),
                  got, N);
        for (int i = 0; i < N; i++)
            assert_near(got[i], want[i], 1e-9);
    }
    assert_good(nn);
    nn_scope_end(nn);
    nn_close(nn);
}

/* T11: 8 x 6 pixels to 4 x 4 cells. */
static void flow_to_cells(void **state)
{
    (void)state;
    double flow[2 * 6 * 8], want[2 * 4 * 4];
    uint16_t half[2 * 6 * 8];
    float got[2 * 4 * 4];
    golden_f64("resize.flow", flow, 2 * 6 * 8);
    golden_f64("resize.cells", want, 2 * 4 * 4);
    for (int i = 0; i < 2 * 6 * 8; i++)
        half[i] = ws2_half_from_float((float)flow[i]);
    assert_true(ws2_flow_to_cells(got, half, 8, 6, 4));
    for (int i = 0; i < 2 * 4 * 4; i++)
        assert_near(got[i], want[i], 1e-6);
    for (int i = 0; i < 2 * 6 * 8; i++) /* 8 pixels right, 3 down: 4 and 2 cells */
        half[i] = ws2_half_from_float(i < 48 ? 8 : 3);
    assert_true(ws2_flow_to_cells(got, half, 8, 6, 4));
    for (int i = 0; i < 2 * 4 * 4; i++)
        assert_near(got[i], i < 16 ? 4 : 2, 1e-6);
    half[95] = 0x7c00; /* infinite */
    assert_false(ws2_flow_to_cells(got, half, 8, 6, 4));
    half[95] = 0x7e00; /* not a number */
    assert_false(ws2_flow_to_cells(got, half, 8, 6, 4));
    uint16_t one[2] = {ws2_half_from_float(1), ws2_half_from_float(-1)};
    assert_true(ws2_flow_to_cells(got, one, 1, 1, 4)); /* frames smaller than the grid */
    assert_true(got[0] == 4 && got[15] == 4 && got[16] == -4 && got[31] == -4);
}

/* ---- the loss --------------------------------------------------------------------------------------------- */

struct triplet {
    double picture[3][2 * 3 * 64 * 64]; /* left, centre, right */
    double flow[2][2 * 2 * 4 * 4];
};

static void fill_triplet(struct triplet *t)
{
    generator_values("pof.left", t->picture[0], 2 * 3 * 64 * 64, 2);
    generator_values("pof.centre", t->picture[1], 2 * 3 * 64 * 64, 2);
    generator_values("pof.right", t->picture[2], 2 * 3 * 64 * 64, 2);
    generator_values("pof.flow_left", t->flow[0], 2 * 2 * 4 * 4, 1.5);
    generator_values("pof.flow_right", t->flow[1], 2 * 2 * 4 * 4, 1.5);
}

static struct ws2_pictures as_pictures(struct nn *nn, const struct triplet *t, const int64_t *labels)
{
    const struct ws2_shape image = ws2_shape_4(2, 3, 64, 64), grid = ws2_shape_4(2, 2, 4, 4);
    return (struct ws2_pictures){.left = nn_from_f64(nn, image, t->picture[0]),
                                 .centre = nn_from_f64(nn, image, t->picture[1]),
                                 .right = nn_from_f64(nn, image, t->picture[2]),
                                 .flow_left = nn_from_f64(nn, grid, t->flow[0]),
                                 .flow_right = nn_from_f64(nn, grid, t->flow[1]),
                                 .label = labels};
}

/* Temporal term, or total, of one training step from the first weights. */
static double variant(const struct ws2_classifier *net, const struct ws2_pictures *p, enum ws2_method method,
                      bool compat, bool first)
{
    const struct ws2_loss_options o = {
        .method = method, .alpha = 2, .beta = 6, .compat_warp = compat, .normalise_first = first};
    assert_int_equal(generator_fill(net->params, NULL), 0);
    const struct ws2_terms terms = ws2_loss_terms(net, &o, p, true, 1);
    return nn_item(nn_params_context(net->params), method == WS2_METHOD_POF ? terms.temporal : terms.total);
}

/* One step of POF-CAM on ResNet-18 and three more with the paper's optimiser, in double, against PyTorch; and the
 * variants of its temporal term. */
static void pof_steps(void **state)
{
    (void)state;
    static struct triplet t;
    const int64_t labels[2] = {0, 2};
    double want[5], totals[4], variants[4], mean[8], running[64];
    struct ws2_error error = {0};
    struct ws2_plan plan;
    struct nn *nn = open_nn(NN_F64_MODE);
    struct nn_params *params = nn_params_new(nn);
    struct resnet *model =
        resnet_new(params, &(struct resnet_options){18, RESNET_STRIDE_16, RESNET_HEAD_MAPS, 3});
    const struct ws2_classifier net = {model, params, 3, resnet_classify};
    const struct ws2_loss_options o = {.method = WS2_METHOD_POF, .alpha = 2, .beta = 6};
    const struct ws2_optimiser_options paper = {WS2_OPTIMISER_PAPER, 1e-3, NAN, NAN};
    assert_int_equal(ws2_plan_make(&plan, &paper, o.method, true, params, "classifier.*", &error), 0);
    struct nn_optim *optim = nn_optim_new(params, &plan.optim);
    fill_triplet(&t);
    golden_f64("pof.terms", want, 5);
    golden_f64("pof.totals", totals, 4);
    golden_f64("pof.variants", variants, 4);
    golden_f64("pof.mean", mean, 8);
    nn_scope_begin(nn);
    const struct ws2_pictures p = as_pictures(nn, &t, labels);
    assert_near(variant(&net, &p, WS2_METHOD_POF, true, false), variants[0], 1e-5);
    assert_near(variant(&net, &p, WS2_METHOD_POF, false, true), variants[1], 1e-5);
    assert_near(variant(&net, &p, WS2_METHOD_POF, true, true), variants[2], 1e-5);
    assert_near(variant(&net, &p, WS2_METHOD_TEMPORAL, false, false), variants[3], 1e-5);
    assert_near(variant(&net, &p, WS2_METHOD_PLAIN, false, false), want[0], 1e-5);
    assert_int_equal(generator_fill(params, NULL), 0);
    for (int step = 0; step < 4; step++) {
        const struct ws2_terms terms = ws2_loss_terms(&net, &o, &p, true, 1);
        assert_good(nn);
        assert_near(nn_item(nn, terms.total), totals[step], 1e-4);
        nn_params_zero_grad(params);
        nn_backward(nn, terms.total);
        if (step == 0) {
            struct nn_tensor *const term[5] = {terms.class, terms.tile, terms.reconstruct, terms.temporal,
                                               terms.total};
            for (int i = 0; i < 5; i++)
                assert_near(nn_item(nn, term[i]), want[i], 1e-5);
            check_gradient(params, "pof", "conv1.weight");
            check_gradient(params, "pof", "bn1.bias");
            check_gradient(params, "pof", "layer2.0.downsample.0.weight");
            check_gradient(params, "pof", "layer4.1.conv2.weight");
            check_gradient(params, "pof", "classifier.weight");
            nn_to_f64(nn, nn_params_at(params, nn_params_find(params, "bn1.running_mean"))->tensor, running,
                      64);
            for (int i = 0; i < 8; i++)
                assert_near(running[i], mean[i], 1e-6);
        }
        nn_optim_step(optim, ws2_plan_rate(&plan, step, 8));
    }
    assert_good(nn);
    nn_scope_end(nn);
    nn_optim_free(optim);
    resnet_free(model);
    nn_params_free(params);
    nn_close(nn);
}

/* T12: nothing moves and the three frames are one: the temporal term is 0, exactly, in each precision. */
static void still(void **state)
{
    (void)state;
    static struct triplet t;
    const int64_t labels[2] = {1, 2};
    const struct ws2_loss_options o = {.method = WS2_METHOD_POF, .alpha = 2, .beta = 6};
    fill_triplet(&t);
    memcpy(t.picture[0], t.picture[1], sizeof t.picture[0]);
    memcpy(t.picture[2], t.picture[1], sizeof t.picture[2]);
    memset(t.flow, 0, sizeof t.flow);
    static const enum nn_precision modes[] = {NN_F64_MODE, NN_F32_MODE, NN_BF16_MODE};
    for (int i = 0; i < (nn_cpu_has_bf16() ? 3 : 2); i++) {
        struct nn *nn = open_nn(modes[i]);
        struct nn_params *params = nn_params_new(nn);
        struct resnet *model =
            resnet_new(params, &(struct resnet_options){18, RESNET_STRIDE_16, RESNET_HEAD_MAPS, 3});
        const struct ws2_classifier net = {model, params, 3, resnet_classify};
        assert_int_equal(generator_fill(params, NULL), 0);
        nn_scope_begin(nn);
        struct ws2_pictures p = as_pictures(nn, &t, labels);
        struct nn_tensor **const all[] = {&p.centre, &p.left, &p.right, &p.flow_left, &p.flow_right};
        for (int k = 0; i > 0 && k < 5; k++)
            *all[k] = nn_to_dtype(nn, *all[k], NN_F32);
        struct ws2_terms terms = ws2_loss_terms(&net, &o, &p, false, 1);
        assert_good(nn);
        assert_true(nn_item(nn, terms.temporal) == 0);
        /* the test can fail: half a cell of motion, or another frame on both sides, is seen */
        p.flow_left = p.flow_right = nn_full(nn, ws2_shape_4(2, 2, 4, 4), 0.5, i ? NN_F32 : NN_F64);
        terms = ws2_loss_terms(&net, &o, &p, false, 1);
        assert_true(nn_item(nn, terms.temporal) > 1e-3);
        p.flow_left = p.flow_right = nn_zeros_like(nn, p.flow_left);
        p.left = p.right = nn_neg(nn, p.centre);
        terms = ws2_loss_terms(&net, &o, &p, false, 1);
        assert_true(nn_item(nn, terms.temporal) > 1e-3);
        assert_good(nn);
        nn_scope_end(nn);
        resnet_free(model);
        nn_params_free(params);
        nn_close(nn);
    }
}

/* T12: with the papers' warp an evenly lit picture that does not move differs in the outer ring only. */
static void ring(void **state)
{
    (void)state;
    enum { S = 16 };
    static uint8_t rgb[S * S * 3];
    const int64_t labels[1] = {1};
    memset(rgb, 200, sizeof rgb);
    struct bright bright;
    struct nn *nn = open_nn(NN_F64_MODE);
    const struct ws2_classifier net = bright_open(&bright, nn, 1);
    nn_scope_begin(nn);
    struct nn_tensor *x = nn_images_u8(nn, 1, S, S, rgb, nn_imagenet_mean, nn_imagenet_std);
    struct nn_tensor *flow = nn_zeros(nn, ws2_shape_4(1, 2, S, S), NN_F64);
    const struct ws2_pictures p = {x, x, x, flow, flow, labels};
    struct ws2_loss_options o = {.method = WS2_METHOD_TEMPORAL, .beta = 1};
    struct ws2_terms terms = ws2_loss_terms(&net, &o, &p, false, 1);
    assert_near(nn_item(nn, terms.temporal), 0, 1e-9);
    o.compat_warp = true;
    terms = ws2_loss_terms(&net, &o, &p, false, 1);
    /* 60 of 256 cells, one of three classes, almost 1 each */
    assert_near(nn_item(nn, terms.temporal), 60 / 256.0 / 3, 1e-5);
    assert_good(nn);
    nn_scope_end(nn);
    nn_params_free(bright.params);
    nn_close(nn);
}

/* ---- gradients -------------------------------------------------------------------------------------------- */

enum { G = 12 }; /* side of the toy's pictures; its maps have 6 cells */

struct probe {
    double picture[3][2 * 3 * G * G], flow[2][2 * 2 * 6 * 6];
    struct ws2_loss_options o;
    struct toy toy;
    struct ws2_classifier net;
};

static void probe_open(struct probe *p, struct nn *nn)
{
    static const char *const key[] = {"gl", "gc", "gr", "gu", "gv"};
    for (int i = 0; i < 3; i++)
        generator_values(key[i], p->picture[i], 2 * 3 * G * G, 2);
    for (int i = 0; i < 2; i++)
        generator_values(key[3 + i], p->flow[i], 2 * 2 * 6 * 6, 1.5);
    p->net = toy_open(&p->toy, nn, 3, 3, true);
}

/* The loss; with gradients where asked for. */
static double probe_loss(struct probe *p, bool backward)
{
    static const int64_t labels[2] = {1, 2};
    struct nn *nn = p->toy.nn;
    const struct ws2_shape image = ws2_shape_4(2, 3, G, G), grid = ws2_shape_4(2, 2, 6, 6);
    nn_scope_begin(nn);
    const struct ws2_pictures pictures = {.left = nn_from_f64(nn, image, p->picture[0]),
                                          .centre = nn_from_f64(nn, image, p->picture[1]),
                                          .right = nn_from_f64(nn, image, p->picture[2]),
                                          .flow_left = nn_from_f64(nn, grid, p->flow[0]),
                                          .flow_right = nn_from_f64(nn, grid, p->flow[1]),
                                          .label = labels};
    const struct ws2_terms terms = ws2_loss_terms(&p->net, &p->o, &pictures, true, 1);
    const double loss = nn_item(nn, terms.total);
    if (backward) {
        nn_params_zero_grad(p->net.params);
        nn_backward(nn, terms.total);
    }
    nn_scope_end(nn);
    assert_good(nn);
    return loss;
}

static void parameter_values(struct nn *nn, const struct nn_param *param, bool gradient, double *out)
{
    nn_scope_begin(nn);
    nn_to_f64(nn, gradient ? nn_leaf_grad(nn, param->tensor) : param->tensor, out,
              (size_t)nn_count(param->tensor));
    nn_scope_end(nn);
}

/* Puts one value into a parameter, in double. */
static void set_value(struct nn *nn, const struct nn_param *param, double *all, int index, double value)
{
    all[index] = value;
    nn_scope_begin(nn);
    nn_no_grad_begin(nn);
    nn_copy_(nn, param->tensor, nn_from_f64(nn, param->shape, all));
    nn_no_grad_end(nn);
    nn_scope_end(nn);
}

/* T13: central differences on up to 16 values of each parameter; returns how many were compared. */
static int compare_differences(struct probe *p, const struct nn_param *param)
{
    static double value[512], gradient[512];
    struct nn *nn = p->toy.nn;
    const int count = (int)nn_count(param->tensor), every = count / 16 + 1;
    const double h = 1e-6;
    int compared = 0;
    assert_true(count <= 512);
    probe_loss(p, true);
    parameter_values(nn, param, true, gradient);
    parameter_values(nn, param, false, value);
    for (int i = 0; i < count; i += every, compared++) {
        const double middle = value[i];
        set_value(nn, param, value, i, middle + h);
        const double above = probe_loss(p, false);
        set_value(nn, param, value, i, middle - h);
        const double below = probe_loss(p, false);
        set_value(nn, param, value, i, middle);
        assert_near(gradient[i], (above - below) / (2 * h), 1e-5);
    }
    return compared;
}

static void differences(void **state)
{
    (void)state;
    static struct probe p;
    for (int kind = 0; kind < 5; kind++) {
        struct nn *nn = open_nn(NN_F64_MODE);
        int compared = 0;
        p.o = (struct ws2_loss_options){.method = kind == 4 ? WS2_METHOD_TEMPORAL : WS2_METHOD_POF,
                                        .level = kind == 3 ? WS2_PUZZLE_CAM : WS2_PUZZLE_FEATURE,
                                        .alpha = 2,
                                        .beta = 6,
                                        .compat_warp = kind == 1,
                                        .normalise_first = kind == 2};
        probe_open(&p, nn);
        for (int i = 0; i < nn_params_count(p.toy.params); i++) {
            const struct nn_param *param = nn_params_at(p.toy.params, i);
            if (param->trained)
                compared += compare_differences(&p, param);
        }
        assert_true(compared >= 40);
        nn_params_free(p.toy.params);
        nn_close(nn);
    }
}

/* A weight of 0 leaves out graphs, not numbers: gradients are those of the puzzle, bit by bit, and the neighbours still
 * move the running statistics. */
static void weightless(void **state)
{
    (void)state;
    static struct probe p;
    static double want[512], got[512];
    for (int i = 0; i < 4; i++) { /* the four parameters that are trained */
        static const char *const name[] = {"body.weight", "bn.weight", "bn.bias", "classifier.weight"};
        double count[2];
        for (int pof = 0; pof < 2; pof++) {
            struct nn *nn = open_nn(NN_F64_MODE);
            p.o = (struct ws2_loss_options){.method = pof ? WS2_METHOD_POF : WS2_METHOD_PUZZLE, .alpha = 2};
            probe_open(&p, nn);
            const struct nn_params *params = p.toy.params;
            probe_loss(&p, true);
            parameter_values(nn, nn_params_at(params, nn_params_find(params, name[i])), true,
                             pof ? got : want);
            parameter_values(nn, nn_params_at(params, nn_params_find(params, "bn.num_batches_tracked")),
                             false, &count[pof]);
            nn_params_free(p.toy.params);
            nn_close(nn);
        }
        assert_memory_equal(got, want, sizeof want);
        assert_true(count[0] == 2 && count[1] == 4);
    }
}

/* ---- the loader ------------------------------------------------------------------------------------------- */

struct copy {
    uint8_t rgb[3][64][SIDE * SIDE * 3]; /* centre, left, right */
    float flow[2][64][2 * SIDE * SIDE];  /* left, right */
    int64_t label[64];
    int count;
};

static void copy_epoch(struct ws2_loader *loader, int64_t epoch, struct copy *copy)
{
    struct ws2_batch b;
    struct ws2_error error = {0};
    int status;
    memset(copy, 0, sizeof *copy);
    assert_int_equal(ws2_loader_start(loader, epoch, &error), 0);
    while ((status = ws2_loader_next(loader, &b, &error)) == 1) {
        const uint8_t *const rgb[3] = {b.rgb, b.left, b.right};
        const float *const flow[2] = {b.flow_left, b.flow_right};
        const size_t cells = 2 * (size_t)b.cells * (size_t)b.cells;
        assert_true(copy->count + b.count <= 64 && b.size == SIDE);
        for (int i = 0; i < 3 && rgb[i]; i++)
            memcpy(copy->rgb[i][copy->count], rgb[i], (size_t)b.count * sizeof copy->rgb[0][0]);
        for (int i = 0; i < 2 && flow[i]; i++)
            for (int k = 0; k < b.count; k++)
                memcpy(copy->flow[i][copy->count + k], flow[i] + (size_t)k * cells, cells * sizeof(float));
        memcpy(copy->label + copy->count, b.label, (size_t)b.count * sizeof *b.label);
        copy->count += b.count;
    }
    if (status < 0)
        fail_msg("%s", error.text);
}

static void load_epoch(const char *const *names, int count, const struct ws2_loader_options *o, int64_t epoch,
                       struct copy *copy)
{
    struct ws2_clips *clips = open_clips(names, count);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    if (ws2_loader_open(&loader, clips, NULL, o, &error) < 0)
        fail_msg("%s", error.text);
    copy_epoch(loader, epoch, copy);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

static const char *const belt_files[] = {"b.ws2", "a.ws2"};

static int make_belt_files(void **state)
{
    if (make_folder(state) < 0)
        return -1;
    struct clip_options before[] = {moving("b.ws2", "b0", WS2_ROLE_BEFORE, 5),
                                    moving("b.ws2", "b1", WS2_ROLE_BEFORE, 2),
                                    moving("b.ws2", "b2", WS2_ROLE_BEFORE, 4)};
    struct clip_options after[] = {moving("a.ws2", "a0", WS2_ROLE_AFTER, 6),
                                   moving("a.ws2", "a1", WS2_ROLE_AFTER, 3)};
    write_clips(before, 3);
    write_clips(after, 2);
    return 0;
}

/* Which frames make triplets, and that they are the frames that a loader of single ones gives. */
static void triplets(void **state)
{
    (void)state;
    static struct copy single, triple;
    struct ws2_loader_options o = loader_options(3, false);
    load_epoch(belt_files, 2, &o, 0, &single);
    o = triplet_options(3, false, SIDE / 4);
    load_epoch(belt_files, 2, &o, 0, &triple);
    /* b0: 3 centres, also as bg; b1: none; b2: 2, bg; a0: 4, bg; a1: 1 */
    assert_int_equal(triple.count, 3 + 3 + 2 + 2 + 4 + 4 + 1);
    const struct {
        int frames, first_single, bg;
    } clips[] = {{5, 0, true}, {2, 10, false}, {4, 12, true}, {6, 20, true}, {3, 32, false}};
    const struct clip_options any = moving("", "", WS2_ROLE_BEFORE, 9);
    int at = 0;
    for (int c = 0; c < 5; c++) {
        for (int bg = 0; bg <= clips[c].bg; bg++) {
            for (int f = 1; f < clips[c].frames - 1; f++, at++) {
                const int s = clips[c].first_single + bg * clips[c].frames + f;
                int here[2], there[2][2];
                assert_int_equal(triple.label[at], single.label[s]);
                assert_memory_equal(triple.rgb[0][at], single.rgb[0][s], sizeof single.rgb[0][0]);
                assert_memory_equal(triple.rgb[1][at], single.rgb[0][s - 1], sizeof single.rgb[0][0]);
                assert_memory_equal(triple.rgb[2][at], single.rgb[0][s + 1], sizeof single.rgb[0][0]);
                item_place(&any, f, &here[0], &here[1]);
                item_place(&any, f - 1, &there[0][0], &there[0][1]);
                item_place(&any, f + 1, &there[1][0], &there[1][1]);
                for (int i = 0; i < 2 * 16; i++)
                    for (int side = 0; side < 2; side++)
                        assert_near(triple.flow[side][at][i], 0.25 * (there[side][i / 16] - here[i / 16]), 0);
            }
        }
    }
    assert_int_equal(at, triple.count);
    o.bg_source = WS2_BG_FRAMES; /* every second centre: 2 of b0, 1 of b2, 2 of a0, 1 of a1 */
    load_epoch(belt_files, 2, &o, 0, &triple);
    assert_int_equal(triple.count, 3 + 2 + 4 + 1 + 2 + 1 + 2 + 1);
}

/* Frames that could be centres, alone: what triplets show in the middle, in the same order. */
static void centres(void **state)
{
    (void)state;
    static struct copy single, triple;
    for (int training = 0; training < 2; training++) {
        struct ws2_loader_options o = triplet_options(3, training, SIDE / 4);
        o.jitter = 0;
        load_epoch(belt_files, 2, &o, 0, &triple);
        o = loader_options(3, training);
        o.jitter = 0;
        o.centres = true;
        load_epoch(belt_files, 2, &o, 0, &single);
        assert_int_equal(single.count, triple.count);
        for (int i = 0; i < single.count; i++) {
            assert_int_equal(single.label[i], triple.label[i]);
            assert_memory_equal(single.rgb[0][i], triple.rgb[0][i], sizeof single.rgb[0][0]);
        }
    }
}

/* Each frame of a triplet is jittered by itself; the belt drawn for it is one. */
static void jitter_and_belt(void **state)
{
    (void)state;
    static struct copy copy;
    static const char *const names[] = {"sb.ws2", "sa.ws2"};
    struct clip_options b = moving("sb.ws2", "b", WS2_ROLE_BEFORE, 8),
                        a = moving("sa.ws2", "a", WS2_ROLE_AFTER, 8);
    b.speed = 1; /* so that fg is another one in each frame */
    a.clean = true;
    write_clips(&b, 1);
    write_clips(&a, 1);
    struct ws2_loader_options o = triplet_options(2, false, 4);
    o.fill = WS2_FILL_BELT;
    load_epoch(names, 2, &o, 0, &copy);
    for (int i = 0; i < copy.count; i++) {
        const bool before = copy.label[i] == WS2_CLASS_BEFORE;
        int left[3] = {SIDE, SIDE, SIDE}, same = 0;
        for (int p = 0; p < SIDE * SIDE; p++) {
            bool item = false;
            for (int k = 0; k < 3; k++) {
                const bool mine = copy.rgb[k][i][3 * p + (before ? 0 : 2)] >= 200;
                item |= mine;
                left[k] = mine && p % SIDE < left[k] ? p % SIDE : left[k];
            }
            same += !item && memcmp(&copy.rgb[0][i][3 * p], &copy.rgb[1][i][3 * p], 3) == 0 &&
                    memcmp(&copy.rgb[0][i][3 * p], &copy.rgb[2][i][3 * p], 3) == 0;
        }
        if (before) {
            assert_int_equal(left[1], left[0] - 1);
            assert_int_equal(left[2], left[0] + 1);
            assert_int_equal(same, SIDE * SIDE - 5 * 7); /* all but where one of the three has the item */
        }
    }
    o = triplet_options(2, true, 4);
    o.flip_x = o.flip_y = false;
    o.hue = 0;
    for (int pass = 0; pass < 2; pass++) { /* frames of `a` differ by the item's place only */
        o.jitter = pass ? 0.3 : 0;
        load_epoch(names, 2, &o, 0, &copy);
        int different = 0, seen = 0;
        for (int i = 0; i < copy.count; i++) {
            if (copy.label[i] != WS2_CLASS_AFTER)
                continue;
            int peak[3] = {0};
            for (int k = 0; k < 3; k++)
                for (int p = 0; p < 3 * SIDE * SIDE; p++)
                    peak[k] = copy.rgb[k][i][p] > peak[k] ? copy.rgb[k][i][p] : peak[k];
            different += peak[0] != peak[1] && peak[0] != peak[2] && peak[1] != peak[2];
            seen++;
        }
        assert_true(seen > 3);
        assert_true(pass ? different > seen / 2 : different == 0);
    }
}

/* Brightness of a neighbour in cells of 2 pixels, warped to the centre. */
static void warped(struct nn *nn, const uint8_t *rgb, const float *flow, bool compat, double *out)
{
    struct bright bright = {.params = nn_params_new(nn), .cell = 2};
    struct nn_tensor *logits, *maps;
    const int n = SIDE / 2;
    nn_scope_begin(nn);
    bright_forward(&bright, nn_images_u8(nn, 1, SIDE, SIDE, rgb, nn_imagenet_mean, nn_imagenet_std), false,
                   &logits, &maps);
    maps = nn_narrow(nn, maps, 1, 0, 1);
    nn_to_f64(nn, ws2_maps_warp(nn, maps, nn_from_f32(nn, ws2_shape_4(1, 2, n, n), flow), compat), out,
              (size_t)(n * n));
    nn_scope_end(nn);
    assert_good(nn);
    nn_params_free(bright.params);
}

/* Mirrored pictures warped by mirrored flow are the mirrored warp, and both mirrors come up. */
static void flips(void **state)
{
    (void)state;
    enum { N = SIDE / 2 };
    static struct copy plain, flipped;
    struct nn *nn = open_nn(NN_F64_MODE);
    int seen[2][2] = {{0}};
    struct ws2_loader_options o = triplet_options(3, true, N);
    o.jitter = o.hue = 0;
    o.batch = 1;
    load_epoch(belt_files, 2, &o, 3, &flipped);
    o.flip_x = o.flip_y = false;
    load_epoch(belt_files, 2, &o, 3, &plain);
    for (int i = 0; i < plain.count; i++) {
        /* how this sample was mirrored, by its centre */
        bool found = false;
        for (int way = 0; way < 4 && !found; way++) {
            const bool x = way & 1, y = way & 2;
            bool same = true;
            for (int p = 0; p < SIDE * SIDE; p++) {
                const int from =
                    (y ? SIDE - 1 - p / SIDE : p / SIDE) * SIDE + (x ? SIDE - 1 - p % SIDE : p % SIDE);
                same &= memcmp(&flipped.rgb[0][i][3 * p], &plain.rgb[0][i][3 * from], 3) == 0;
            }
            if (!same)
                continue;
            found = true;
            seen[x][y]++;
            for (int side = 0; side < 2; side++) {
                for (int compat = 0; compat < 2; compat++) {
                    double want[N * N], got[N * N];
                    warped(nn, plain.rgb[1 + side][i], plain.flow[side][i], compat, want);
                    warped(nn, flipped.rgb[1 + side][i], flipped.flow[side][i], compat, got);
                    for (int c = 0; c < N * N; c++)
                        assert_near(got[c],
                                    want[(y ? N - 1 - c / N : c / N) * N + (x ? N - 1 - c % N : c % N)],
                                    1e-6);
                }
            }
        }
        assert_true(found);
    }
    assert_true(seen[0][0] && seen[0][1] && seen[1][0] && seen[1][1]);
    nn_close(nn);
}

/* The same for any number of threads, and for a second pass. */
static void any_threads(void **state)
{
    (void)state;
    static struct copy first, again;
    struct ws2_loader_options o = triplet_options(3, true, 8);
    load_epoch(belt_files, 2, &o, 2, &first);
    assert_true(first.count == 16);
    for (o.threads = 1; o.threads <= 4; o.threads++) {
        load_epoch(belt_files, 2, &o, 2, &again);
        assert_memory_equal(&first, &again, sizeof first);
    }
    load_epoch(belt_files, 2, &o, 3, &again);
    assert_memory_not_equal(first.rgb, again.rgb, sizeof first.rgb);
}

static void expect_clip_refusal(const struct clip_options *o, const char *reason)
{
    const struct ws2_loader_options lo = triplet_options(2, false, 4);
    const char *const names[] = {o->file, "a.ws2"};
    write_clips(o, 1);
    expect_refusal(names, 2, &lo, WS2_ERR_INPUT, reason);
}

static void refusals(void **state)
{
    (void)state;
    struct clip_options o = moving("r.ws2", "r", WS2_ROLE_BEFORE, 4);
    o.flow = FLOW_NONE;
    expect_clip_refusal(&o, "r.ws2: r: no tensors flow.prev and flow.next of type f16");
    o.flow = FLOW_FLOAT;
    expect_clip_refusal(&o, "of type f16, needed for triplets of frames");
    o.flow = FLOW_ABSENT;
    expect_clip_refusal(&o, "r.ws2: r: frame 1: no tensor 'flow.prev'");
    o.flow = FLOW_SHAPE;
    expect_clip_refusal(&o, "frame 1: flow.prev has shape [2,8,16], but rgb [16,16,3]");
    o.flow = FLOW_NAN;
    expect_clip_refusal(&o, "frame 1: flow.prev is not finite");
    o.flow = FLOW_TRUE;
    o.frames = 2;
    expect_clip_refusal(&o, "no before frames with one before and one after them among");
}

/* ---- signs ------------------------------------------------------------------------------------------------ */

/* Mean temporal term over all triplets of class `label`, with the flow as it is, negated, or with the neighbours
 * exchanged. */
enum wrong { RIGHT_SIGN, NEGATED, EXCHANGED, WRONGS };

static double temporal_mean(struct ws2_loader *loader, const struct ws2_classifier *net, int64_t label,
                            enum wrong wrong)
{
    struct nn *nn = nn_params_context(net->params);
    const struct ws2_loss_options o = {.method = WS2_METHOD_TEMPORAL, .beta = 1};
    struct ws2_batch b;
    struct ws2_error error = {0};
    double sum = 0;
    int count = 0;
    assert_int_equal(ws2_loader_start(loader, 0, &error), 0);
    while (ws2_loader_next(loader, &b, &error) == 1) {
        if (b.label[0] != label)
            continue;
        const bool other = wrong == EXCHANGED;
        const struct ws2_shape grid = ws2_shape_4(1, 2, b.cells, b.cells);
        nn_scope_begin(nn);
        struct ws2_pictures p = {
            .centre = nn_images_u8(nn, 1, b.size, b.size, b.rgb, nn_imagenet_mean, nn_imagenet_std),
            .left = nn_images_u8(nn, 1, b.size, b.size, other ? b.right : b.left, nn_imagenet_mean,
                                 nn_imagenet_std),
            .right = nn_images_u8(nn, 1, b.size, b.size, other ? b.left : b.right, nn_imagenet_mean,
                                  nn_imagenet_std),
            .flow_left = nn_from_f32(nn, grid, b.flow_left),
            .flow_right = nn_from_f32(nn, grid, b.flow_right),
            .label = b.label};
        if (wrong == NEGATED) {
            p.flow_left = nn_neg(nn, p.flow_left);
            p.flow_right = nn_neg(nn, p.flow_right);
        }
        const struct ws2_terms terms = ws2_loss_terms(net, &o, &p, false, 1);
        sum += nn_item(nn, terms.temporal);
        count++;
        nn_scope_end(nn);
    }
    assert_good(nn);
    assert_true(count > 1);
    return sum / count;
}

/* An item that moves two pixels a frame, on black: right signs bring it back exactly, wrong ones do not. */
static void signs(void **state)
{
    (void)state;
    static const char *const names[] = {"mb.ws2", "ma.ws2"};
    struct clip_options b = moving("mb.ws2", "b", WS2_ROLE_BEFORE, 5),
                        a = moving("ma.ws2", "a", WS2_ROLE_AFTER, 5);
    b.speed = a.speed = 2;
    b.clean = a.clean = true;
    write_clips(&b, 1);
    write_clips(&a, 1);
    struct ws2_clips *clips = open_clips(names, 2);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    struct bright bright;
    struct nn *nn = open_nn(NN_F64_MODE);
    const struct ws2_classifier net = bright_open(&bright, nn, 1);
    struct ws2_loader_options o = triplet_options(2, false, SIDE);
    o.batch = 1;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    assert_near(temporal_mean(loader, &net, WS2_CLASS_BEFORE, RIGHT_SIGN), 0, 1e-6);
    assert_true(temporal_mean(loader, &net, WS2_CLASS_BEFORE, NEGATED) > 0.02);
    assert_true(temporal_mean(loader, &net, WS2_CLASS_BEFORE, EXCHANGED) > 0.02);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
    nn_params_free(bright.params);
    nn_close(nn);
}

enum { SYNTH = 64, FRAMES = 6 };

/* A frame of the simulated belt, its items as fg, with the simulator's own flow. */
static void put_synth(struct ws2_writer *writer, struct ws2_record *record, const struct ws2_synth *synth,
                      int t)
{
    static uint8_t rgb[SYNTH * SYNTH * 3], fg[SYNTH * SYNTH];
    static uint16_t ids[SYNTH * SYNTH], half[2 * SYNTH * SYNTH];
    static float next[2 * SYNTH * SYNTH], prev[2 * SYNTH * SYNTH];
    const struct ws2_shape image = ws2_shape_3(SYNTH, SYNTH, 3), mask = ws2_shape_2(SYNTH, SYNTH),
                           flow = ws2_shape_3(2, SYNTH, SYNTH);
    struct ws2_error error = {0};
    const struct ws2_synth_frame frame = {.rgb = rgb, .ids = ids, .next = next, .prev = prev};
    assert_int_equal(ws2_synth_render(synth, t, &frame, &error), 0);
    for (int i = 0; i < SYNTH * SYNTH; i++)
        fg[i] = ids[i] != 0;
    ws2_record_clear(record);
    ws2_record_set_frame(record, t, -1);
    assert_int_equal(ws2_record_put(record, "rgb", WS2_U8, &image, rgb, &error), 0);
    assert_int_equal(ws2_record_put(record, "fg", WS2_U8, &mask, fg, &error), 0);
    ws2_half_from_floats(half, next, 2 * SYNTH * SYNTH);
    assert_int_equal(ws2_record_put(record, "flow.next", WS2_F16, &flow, half, &error), 0);
    ws2_half_from_floats(half, prev, 2 * SYNTH * SYNTH);
    assert_int_equal(ws2_record_put(record, "flow.prev", WS2_F16, &flow, half, &error), 0);
    assert_int_equal(ws2_writer_put(writer, record), 0);
}

static void write_synth(const char *name, bool after, enum ws2_synth_direction direction)
{
    struct ws2_writer *writer;
    struct ws2_error error = {0};
    struct ws2_synth_config config;
    struct ws2_synth *synth;
    ws2_synth_defaults(&config, WS2_SYNTH_CLEAR);
    config.width = config.height = SYNTH;
    config.after = after;
    config.direction = direction;
    config.speed = 0.125;
    config.density = 5;
    assert_int_equal(ws2_synth_open(&synth, &config, NULL, &error), 0);
    struct ws2_record *record = ws2_record_new();
    struct ws2_head *head = ws2_head_new();
    ws2_head_set_seq(head, name);
    ws2_head_set_role(head, after ? WS2_ROLE_AFTER : WS2_ROLE_BEFORE);
    ws2_head_add_tensor(head, "rgb", WS2_U8, "h,w,3", "", &error);
    ws2_head_add_tensor(head, "fg", WS2_U8, "h,w", "", &error);
    ws2_head_add_tensor(head, "flow.prev", WS2_F16, "2,h,w", "pixel", &error);
    ws2_head_add_tensor(head, "flow.next", WS2_F16, "2,h,w", "pixel", &error);
    assert_int_equal(ws2_writer_open(&writer, in_folder(name), 1, &error), 0);
    assert_int_equal(ws2_writer_begin(writer, head), 0);
    for (int t = 0; t < FRAMES; t++)
        put_synth(writer, record, synth, t);
    assert_int_equal(ws2_writer_end(writer), 0);
    assert_int_equal(ws2_writer_close(writer, &error), 0);
    ws2_head_free(head);
    ws2_record_free(record);
    ws2_synth_close(synth);
}

/* The same on a simulated belt that runs in each direction, with the simulator's flow. */
static void signs_on_a_belt(void **state)
{
    (void)state;
    static const char *const names[] = {"synth.before", "synth.after"};
    for (int direction = WS2_SYNTH_DOWN; direction <= WS2_SYNTH_LEFT; direction++) {
        struct ws2_error error = {0};
        struct ws2_loader *loader;
        struct bright bright;
        struct nn *nn = open_nn(NN_F32_MODE);
        const struct ws2_classifier net = bright_open(&bright, nn, 4);
        for (int after = 0; after < 2; after++)
            write_synth(names[after], after, (enum ws2_synth_direction)direction);
        struct ws2_clips *clips = open_clips(names, 2);
        struct ws2_loader_options o = triplet_options(2, false, SYNTH / 4);
        o.size = SYNTH;
        o.batch = 1;
        assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
        const double right = temporal_mean(loader, &net, WS2_CLASS_BEFORE, RIGHT_SIGN);
        for (int wrong = NEGATED; wrong < WRONGS; wrong++)
            assert_true(temporal_mean(loader, &net, WS2_CLASS_BEFORE, (enum wrong)wrong) > 2 * right);
        ws2_loader_close(loader);
        ws2_clips_close(clips);
        nn_params_free(bright.params);
        nn_close(nn);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warp_plain),    cmocka_unit_test(warp_compat),     cmocka_unit_test(warp_golden),
        cmocka_unit_test(flow_to_cells), cmocka_unit_test(pof_steps),       cmocka_unit_test(still),
        cmocka_unit_test(ring),          cmocka_unit_test(differences),     cmocka_unit_test(weightless),
        cmocka_unit_test(triplets),      cmocka_unit_test(centres),         cmocka_unit_test(jitter_and_belt),
        cmocka_unit_test(flips),         cmocka_unit_test(any_threads),     cmocka_unit_test(refusals),
        cmocka_unit_test(signs),         cmocka_unit_test(signs_on_a_belt),
    };
    return cmocka_run_group_tests(tests, make_belt_files, remove_folder);
}
