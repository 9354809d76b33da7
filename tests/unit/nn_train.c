/* Training: losses and optimiser against PyTorch, the loader's rules, and runs that resume to the same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/resnet.h"
#include "train_help.h"

/* ---- losses ----------------------------------------------------------------------------------------------- */

static struct nn_tensor *loss_named(struct nn *nn, int which, struct nn_tensor *x, struct nn_tensor *y,
                                    struct nn_tensor *label)
{
    if (which == 0)
        return nn_multilabel_soft_margin(nn, x, y);
    return which == 1 ? nn_cross_entropy(nn, x, label, NULL, -1, 0) : nn_bce(nn, nn_softmax(nn, x, 1), y);
}

/* T03 against PyTorch, with gradients. */
static void losses(void **state)
{
    (void)state;
    static const char *const name[] = {"mlsm", "ce", "bce"};
    const int64_t labels[2] = {0, 2};
    double x[6], y[6], want, gradient[6], got[6];
    golden_f64("loss.x", x, 6);
    golden_f64("loss.y", y, 6);
    struct nn *nn = open_nn(NN_F64_MODE);
    nn_scope_begin(nn);
    struct nn_tensor *targets = nn_from_f64(nn, ws2_shape_2(2, 3), y);
    struct nn_tensor *label = nn_from_i64(nn, ws2_shape_1(2), labels);
    for (int i = 0; i < 3; i++) {
        char key[32];
        struct nn_tensor *leaf = nn_requires_grad(nn, nn_from_f64(nn, ws2_shape_2(2, 3), x), true), *d;
        struct nn_tensor *loss = loss_named(nn, i, leaf, targets, label);
        snprintf(key, sizeof key, "loss.%s", name[i]);
        golden_f64(key, &want, 1);
        assert_near(nn_item(nn, loss), want, 1e-6);
        nn_grad(nn, loss, &leaf, 1, false, false, &d);
        snprintf(key, sizeof key, "loss.d_%s", name[i]);
        golden_f64(key, gradient, 6);
        nn_to_f64(nn, d, got, 6);
        for (int k = 0; k < 6; k++)
            assert_near(got[k], gradient[k], 1e-6);
    }
    struct nn_tensor *zero = nn_zeros(nn, ws2_shape_2(2, 3), NN_F64);
    assert_near(nn_item(nn, nn_multilabel_soft_margin(nn, zero, targets)), log(2), 1e-6);
    double a[24], b[24];
    golden_f64("l1.a", a, 24);
    golden_f64("l1.b", b, 24);
    golden_f64("l1.value", &want, 1);
    const struct ws2_shape shape = ws2_shape_4(2, 3, 2, 2);
    assert_near(nn_item(nn, nn_masked_l1(nn, nn_from_f64(nn, shape, a), nn_from_f64(nn, shape, b), targets)),
                want, 1e-6);
    assert_good(nn);
    nn_scope_end(nn);
    nn_close(nn);
}

/* T03 by the formulas: B = 2, C = 3, maps of 2 x 2. */
static void losses_by_hand(void **state)
{
    (void)state;
    const double x[6] = {0.5, -2, 3, 0, 40, -1.5}, p[6] = {0.2, 0.7, 0.1, 1, 0, 0.5},
                 y[6] = {1, 0, 0, 0, 0, 1};
    double a[24], b[24], mlsm = 0, bce = 0, l1 = 0;
    for (int i = 0; i < 6; i++) {
        mlsm += (log1p(exp(x[i])) - y[i] * x[i]) / 6;
        const double low = fmax(log(y[i] == 1 ? p[i] : 1 - p[i]), -100); /* p[3] is wrong for sure */
        bce -= low / 6;
        for (int k = 4 * i; k < 4 * i + 4; k++) {
            a[k] = 0.25 * k - 3;
            b[k] = 2 - 0.5 * (k % 5);
            l1 += fabs(a[k] - b[k]) * y[i] / 24; /* zeros of the other classes count in the mean */
        }
    }
    for (int mode = 0; mode < 2; mode++) {
        struct nn *nn = open_nn(mode ? NN_F32_MODE : NN_F64_MODE);
        const enum nn_dtype dtype = mode ? NN_F32 : NN_F64;
        nn_scope_begin(nn);
        const struct ws2_shape flat = ws2_shape_2(2, 3), map = ws2_shape_4(2, 3, 2, 2);
        struct nn_tensor *target = nn_to_dtype(nn, nn_from_f64(nn, flat, y), dtype),
                         *logit = nn_to_dtype(nn, nn_from_f64(nn, flat, x), dtype),
                         *prob = nn_to_dtype(nn, nn_from_f64(nn, flat, p), dtype),
                         *left = nn_to_dtype(nn, nn_from_f64(nn, map, a), dtype),
                         *right = nn_to_dtype(nn, nn_from_f64(nn, map, b), dtype);
        assert_near(nn_item(nn, nn_multilabel_soft_margin(nn, logit, target)), mlsm, 1e-6);
        assert_near(nn_item(nn, nn_bce(nn, prob, target)), bce, 1e-6);
        assert_near(nn_item(nn, nn_bce_with_logits(nn, logit, target)), mlsm, 1e-6);
        assert_near(nn_item(nn, nn_masked_l1(nn, left, right, target)), l1, 1e-6);
        assert_good(nn);
        nn_scope_end(nn);
        nn_close(nn);
    }
}

static void ramp(void **state)
{
    (void)state;
    const int64_t epoch = 20, steps = 100;
    assert_near(ws2_ramp_at(WS2_RAMP_NONE, 0, epoch, steps), 1, 0);
    assert_near(ws2_ramp_at(WS2_RAMP_FIRST, 0, epoch, steps), 0, 0);
    assert_near(ws2_ramp_at(WS2_RAMP_FIRST, 25, epoch, steps), 0.5, 1e-12);
    assert_near(ws2_ramp_at(WS2_RAMP_FIRST, 50, epoch, steps), 1, 0);
    assert_near(ws2_ramp_at(WS2_RAMP_FIRST, 99, epoch, steps), 1, 0);
    /* nothing in the first epoch, then a line to the midpoint */
    for (int64_t t = 0; t <= 20; t++)
        assert_true(ws2_ramp_at(WS2_RAMP_SECOND, t, epoch, steps) == 0);
    assert_near(ws2_ramp_at(WS2_RAMP_SECOND, 21, epoch, steps), 1 / 30.0, 1e-12);
    assert_near(ws2_ramp_at(WS2_RAMP_SECOND, 35, epoch, steps), 0.5, 1e-12);
    assert_near(ws2_ramp_at(WS2_RAMP_SECOND, 50, epoch, steps), 1, 0);
    assert_near(ws2_ramp_at(WS2_RAMP_SECOND, 99, epoch, steps), 1, 0);
    /* two epochs leave no room for a line, one none for the weights; validation has them in full */
    assert_near(ws2_ramp_at(WS2_RAMP_SECOND, 19, epoch, 40), 0, 0);
    assert_near(ws2_ramp_at(WS2_RAMP_SECOND, 20, epoch, 40), 1, 0);
    assert_near(ws2_ramp_at(WS2_RAMP_SECOND, 19, epoch, 20), 0, 0);
    assert_near(ws2_ramp_at(WS2_RAMP_SECOND, 20, epoch, 20), 1, 0);
}

static void loss_recipes(void **state)
{
    (void)state;
    struct ws2_loss_options o = {.alpha = NAN, .beta = NAN};
    ws2_loss_settle(&o, WS2_RECIPE_WS2);
    assert_true(o.alpha == 2 && o.beta == 6 && o.ramp == WS2_RAMP_NONE);
    o = (struct ws2_loss_options){.alpha = NAN, .beta = NAN};
    ws2_loss_settle(&o, WS2_RECIPE_POF);
    assert_true(o.alpha == 4 && o.beta == 4 && o.ramp == WS2_RAMP_SECOND);
    o = (struct ws2_loss_options){.alpha = 1, .beta = 0, .ramp = WS2_RAMP_FIRST};
    ws2_loss_settle(&o, WS2_RECIPE_POF);
    assert_true(o.alpha == 1 && o.beta == 0 && o.ramp == WS2_RAMP_FIRST);
}

/* T07: with a 1 x 1 network the tiles' maps are the picture's; with 3 x 3 only the two middle rows and columns
 * differ. */
static void tiles(void **state)
{
    (void)state;
    static uint8_t rgb[2 * 16 * 12 * 3];
    const int64_t labels[2] = {1, 0};
    const struct ws2_loss_options options = {.method = WS2_METHOD_PUZZLE, .alpha = 2};
    generator_image("tiles", rgb, sizeof rgb);
    for (int kernel = 1; kernel <= 3; kernel += 2) {
        struct nn *nn = open_nn(NN_F64_MODE);
        struct toy toy;
        const struct ws2_classifier net = toy_open(&toy, nn, kernel, 2, false);
        static double difference[2 * 2 * 16 * 12];
        nn_scope_begin(nn);
        struct nn_tensor *x = nn_images_u8(nn, 2, 16, 12, rgb, nn_imagenet_mean, nn_imagenet_std);
        const struct ws2_pictures pictures = {.centre = x, .label = labels};
        const struct ws2_terms terms = ws2_loss_terms(&net, &options, &pictures, true, 1);
        if (kernel == 1)
            assert_true(nn_item(nn, terms.reconstruct) == 0);
        else
            assert_true(nn_item(nn, terms.reconstruct) > 0);
        assert_near(nn_item(nn, terms.total),
                    nn_item(nn, terms.class) + nn_item(nn, terms.tile) + 2 * nn_item(nn, terms.reconstruct),
                    1e-9);
        struct nn_tensor *whole = toy_maps(&toy, toy_features(&toy, x, false));
        struct nn_tensor *merged = nn_untile(nn, toy_maps(&toy, toy_features(&toy, nn_tile(nn, x), false)));
        nn_to_f64(nn, nn_abs(nn, nn_sub(nn, whole, merged)), difference, 2 * 2 * 16 * 12);
        for (int i = 0; i < 2 * 2 * 16 * 12; i++) {
            const int r = i / 12 % 16, c = i % 12;
            const bool seam = kernel == 3 && (r == 7 || r == 8 || c == 5 || c == 6);
            assert_true(seam ? difference[i] > 1e-9 : difference[i] == 0);
        }
        assert_good(nn);
        nn_scope_end(nn);
        nn_params_free(toy.params);
        nn_close(nn);
    }
}

/* T07: quarter by quarter, in each all images; and back. */
static void tiles_in_order(void **state)
{
    (void)state;
    enum { B = 2, C = 3, H = 4, W = 6, N = B * C * H * W };
    double x[N], got[N], back[N];
    for (int i = 0; i < N; i++)
        x[i] = i;
    struct nn *nn = open_nn(NN_F64_MODE);
    nn_scope_begin(nn);
    struct nn_tensor *tiled = nn_tile(nn, nn_from_f64(nn, ws2_shape_4(B, C, H, W), x));
    nn_to_f64(nn, tiled, got, N);
    nn_to_f64(nn, nn_untile(nn, tiled), back, N);
    assert_int_equal(nn_dim(tiled, 0), 4 * B);
    for (int i = 0; i < N; i++) {
        const int c = i / (H / 2 * W / 2) % C, r = i / (W / 2) % (H / 2), k = i % (W / 2);
        const int tile = i / (C * H / 2 * W / 2), image = tile % B, down = tile / B / 2, right = tile / B % 2;
        assert_true(got[i] == ((image * C + c) * H + r + down * H / 2) * W + k + right * W / 2);
        assert_true(back[i] == i);
    }
    assert_good(nn);
    nn_scope_end(nn);
    nn_close(nn);
}

/* Terms of the loss, in order of the fixture. */
static void four_terms(struct nn *nn, const struct ws2_terms *terms, double value[4])
{
    value[0] = nn_item(nn, terms->class);
    value[1] = nn_item(nn, terms->tile);
    value[2] = nn_item(nn, terms->reconstruct);
    value[3] = nn_item(nn, terms->total);
}

/* One step of Puzzle-CAM on ResNet-18 and three more with the paper's optimiser, in double, against PyTorch. The
 * weights pass through single precision, which bounds the agreement. */
static void puzzle_steps(void **state)
{
    (void)state;
    enum { N = 2 * 3 * 64 * 64 };
    static double x[N];
    const int64_t labels[2] = {0, 2};
    double want[4], got[4], mean[8], running[64], totals[4];
    struct ws2_error error = {0};
    struct ws2_plan plan;
    struct nn *nn = open_nn(NN_F64_MODE);
    struct nn_params *params = nn_params_new(nn);
    struct resnet *net =
        resnet_new(params, &(struct resnet_options){18, RESNET_STRIDE_16, RESNET_HEAD_MAPS, 3});
    const struct ws2_classifier classifier = {net, params, 3, resnet_classify};
    struct ws2_loss_options o = {.method = WS2_METHOD_PUZZLE, .level = WS2_PUZZLE_CAM, .alpha = 2};
    const struct ws2_optimiser_options recipe = {WS2_OPTIMISER_PAPER, 1e-3, NAN, NAN};
    assert_int_equal(ws2_plan_make(&plan, &recipe, o.method, true, params, "classifier.*", &error), 0);
    struct nn_optim *optim = nn_optim_new(params, &plan.optim);
    generator_values("puzzle.x", x, N, 2);
    golden_f64("puzzle.totals", totals, 4);
    golden_f64("cam.value", want, 1);
    assert_int_equal(generator_fill(params, NULL), 0);
    nn_scope_begin(nn);
    const struct ws2_pictures pictures = {.centre = nn_from_f64(nn, ws2_shape_4(2, 3, 64, 64), x),
                                          .label = labels};
    struct ws2_terms terms = ws2_loss_terms(&classifier, &o, &pictures, true, 1);
    assert_good(nn);
    assert_near(nn_item(nn, terms.reconstruct), want[0], 1e-5);
    o.level = WS2_PUZZLE_FEATURE;
    assert_int_equal(generator_fill(params, NULL), 0);
    for (int step = 0; step < 4; step++) {
        terms = ws2_loss_terms(&classifier, &o, &pictures, true, 1);
        four_terms(nn, &terms, got);
        assert_near(got[3], totals[step], 1e-4);
        nn_params_zero_grad(params);
        nn_backward(nn, terms.total);
        if (step == 0) {
            golden_f64("puzzle.terms", want, 4);
            for (int i = 0; i < 4; i++)
                assert_near(got[i], want[i], 1e-5);
            check_gradient(params, "puzzle", "conv1.weight");
            check_gradient(params, "puzzle", "bn1.bias");
            check_gradient(params, "puzzle", "layer2.0.downsample.0.weight");
            check_gradient(params, "puzzle", "layer4.1.conv2.weight");
            check_gradient(params, "puzzle", "classifier.weight");
            golden_f64("puzzle.mean", mean, 8);
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
    resnet_free(net);
    nn_params_free(params);
    nn_close(nn);
}

/* ---- recipes ---------------------------------------------------------------------------------------------- */

/* T04: five steps against the authors' optimiser and by hand. */
static void poly_steps(void **state)
{
    (void)state;
    double want[5], value;
    golden_f64("poly", want, 5);
    struct nn *nn = open_nn(NN_F64_MODE);
    struct nn_params *params = nn_params_new(nn);
    struct ws2_error error = {0};
    struct ws2_plan plan;
    const float one = 1;
    struct nn_tensor *w =
        nn_declare(params, NN_WEIGHT, "w", ws2_shape_1(1), nn_init_make(NN_INIT_CONSTANT, 1));
    nn_params_fill(params, 0, &one, 1);
    const struct ws2_optimiser_options options = {WS2_OPTIMISER_PAPER, NAN, NAN, NAN};
    assert_int_equal(ws2_plan_make(&plan, &options, WS2_METHOD_PUZZLE, true, params, "none.*", &error), 0);
    assert_near(plan.optim.momentum, 1e-4, 0); /* the weight decay in the momentum's place */
    struct nn_optim *optim = nn_optim_new(params, &plan.optim);
    double by_hand = 1, buffer = 0;
    for (int t = 0; t < 5; t++) {
        const double rate = 0.1 * pow(1 - t / 5.0, 0.9);
        assert_near(ws2_plan_rate(&plan, t, 5), rate, 1e-12);
        nn_scope_begin(nn);
        nn_params_zero_grad(params);
        nn_backward(nn, nn_sum(nn, w));
        nn_optim_step(optim, ws2_plan_rate(&plan, t, 5));
        nn_to_f64(nn, w, &value, 1);
        nn_scope_end(nn);
        const double g = 1 + 1e-4 * by_hand;
        buffer = t == 0 ? g : 1e-4 * buffer + g;
        by_hand -= rate * (g + 1e-4 * buffer);
        assert_near(value, want[t], 1e-9);
        assert_near(value, by_hand, 1e-9);
    }
    assert_good(nn);
    nn_optim_free(optim);
    nn_params_free(params);
    nn_close(nn);
}

static void recipes(void **state)
{
    (void)state;
    struct nn *nn = open_nn(NN_F32_MODE);
    struct toy toy;
    struct ws2_plan plan;
    struct ws2_error error = {0};
    toy_open(&toy, nn, 1, 3, true);
    struct ws2_optimiser_options o = {WS2_OPTIMISER_AUTO, NAN, NAN, NAN};
    assert_int_equal(ws2_plan_make(&plan, &o, WS2_METHOD_PUZZLE, true, toy.params, "classifier.*", &error),
                     0);
    /* body weight and bn weight x1, bn bias x2 without decay, head x10 */
    const struct {
        const char *name;
        double scale, decay;
    } want[] = {
        {"body.weight", 1, 1e-4}, {"bn.weight", 1, 1e-4}, {"bn.bias", 2, 0}, {"classifier.weight", 10, 1e-4}};
    for (int i = 0; i < 4; i++) {
        const struct nn_param *param = nn_params_at(toy.params, nn_params_find(toy.params, want[i].name));
        assert_near(plan.optim.group[param->group].lr_scale, want[i].scale, 0);
        assert_near(plan.optim.group[param->group].weight_decay, want[i].decay, 0);
    }
    assert_true(plan.optim.nesterov && plan.poly && plan.warmup == 0);
    assert_int_equal(ws2_plan_make(&plan, &o, WS2_METHOD_STANDARD, true, toy.params, "classifier.*", &error),
                     0);
    assert_int_equal(plan.optim.kind, NN_ADAM);
    assert_near(ws2_plan_rate(&plan, 99, 100), 5e-4, 0);
    assert_int_equal(ws2_plan_make(&plan, &o, WS2_METHOD_STANDARD, false, toy.params, "classifier.*", &error),
                     0);
    assert_int_equal(plan.optim.kind, NN_SGD);
    assert_near(plan.optim.momentum, 0.9, 0);
    assert_near(ws2_plan_rate(&plan, 0, 1000), 0.01 / 50, 1e-12); /* first of 50 steps of warm-up */
    assert_near(ws2_plan_rate(&plan, 500, 1000), 0.01 * pow(0.5, 0.9), 1e-12);
    o = (struct ws2_optimiser_options){WS2_OPTIMISER_PAPER, 0.5, 0.8, 0};
    assert_int_equal(ws2_plan_make(&plan, &o, WS2_METHOD_PUZZLE, false, toy.params, "classifier.*", &error),
                     0);
    assert_near(plan.lr, 0.5, 0);
    assert_near(plan.optim.momentum, 0.8, 0);
    o.lr = -1;
    assert_int_equal(ws2_plan_make(&plan, &o, WS2_METHOD_PUZZLE, false, toy.params, "classifier.*", &error),
                     WS2_ERR_USAGE);
    nn_params_free(toy.params);
    nn_close(nn);
}

/* ---- streams to learn from -------------------------------------------------------------------------------- */

static struct ws2_clips *belt(void)
{
    static const char *const name[] = {"b.ws2", "a0.ws2", "a1.ws2", "a2.ws2"};
    return open_clips(name, 4);
}

static int make_folder(void **state)
{
    (void)state;
    if (make_scratch() < 0)
        return -1;
    const struct clip_options before[] = {
        moving("b.ws2", "b0", WS2_ROLE_BEFORE, 5), moving("b.ws2", "b1", WS2_ROLE_BEFORE, 6),
        moving("b.ws2", "b2", WS2_ROLE_BEFORE, 4), moving("b.ws2", "b0", WS2_ROLE_BEFORE, 3)};
    write_clips(before, 4);
    const struct clip_options after[] = {moving("a0.ws2", "x0", WS2_ROLE_AFTER, 7),
                                         moving("a1.ws2", "x1", WS2_ROLE_AFTER, 5),
                                         moving("a2.ws2", "x2", WS2_ROLE_AFTER, 1)};
    for (int i = 0; i < 3; i++)
        write_clips(&after[i], 1);
    return 0;
}

/* ---- clips and loader ------------------------------------------------------------------------------------- */

static void clips_and_split(void **state)
{
    (void)state;
    struct ws2_clips *clips = belt();
    struct ws2_error error = {0};
    assert_int_equal(ws2_clips_count(clips), 7);
    assert_int_equal(ws2_clips_frames(clips, WS2_ROLE_BEFORE), 18);
    assert_int_equal(ws2_clips_frames(clips, WS2_ROLE_AFTER), 13);
    assert_int_equal(ws2_clips_at(clips, 3)->sequence, 0); /* b0 again */
    assert_int_equal(ws2_clips_at(clips, 2)->sequence, 2);
    int takes[3] = {0};
    for (int seed = 0; seed < 40; seed++) {
        bool held[7] = {false}, again[7] = {false};
        assert_int_equal(ws2_clips_split(clips, 0.2, seed, held, &error), 0);
        assert_int_equal(ws2_clips_split(clips, 0.2, seed, again, &error), 0);
        assert_memory_equal(held, again, sizeof held);
        assert_int_equal(held[0], held[3]);
        assert_int_equal(held[0] + held[1] + held[2], 1);
        assert_int_equal(held[4] + held[5] + held[6], 1);
        for (int i = 0; i < 3; i++)
            takes[i] += held[i];
    }
    assert_true(takes[0] > 0 && takes[1] > 0 && takes[2] > 0);
    ws2_clips_close(clips);
    static const char *const one[] = {"b.ws2", "a0.ws2"};
    clips = open_clips(one, 2);
    bool held[5];
    assert_int_equal(ws2_clips_split(clips, 0.2, 0, held, &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "after"));
    ws2_clips_close(clips);
}

static void clips_refused(void **state)
{
    (void)state;
    struct clip_options bad[] = {clip("r.ws2", "r", WS2_ROLE_NONE, 1),
                                 clip("s.ws2", "s", WS2_ROLE_BEFORE, 1)};
    bad[1].no_rgb = true;
    for (int i = 0; i < 2; i++) {
        char path[128];
        const char *list[] = {path};
        struct ws2_clips *clips;
        struct ws2_error error = {0};
        write_clips(&bad[i], 1);
        path_of(path, sizeof path, bad[i].file);
        assert_int_equal(ws2_clips_open(&clips, list, 1, &error), WS2_ERR_INPUT);
        assert_null(clips);
        assert_non_null(strstr(error.text, path));
        assert_non_null(strstr(error.text, i == 0 ? "role" : "rgb"));
    }
    const char *missing[] = {"/nonexistent.ws2"};
    struct ws2_clips *clips;
    struct ws2_error error = {0};
    assert_true(ws2_clips_open(&clips, missing, 1, &error) < 0);
    assert_non_null(strstr(error.text, "nonexistent"));
}

struct epoch_copy {
    uint8_t rgb[64][SIDE * SIDE * 3];
    int64_t label[64];
    int count, batches;
};

static void run_epoch(struct ws2_loader *loader, int64_t epoch, struct epoch_copy *copy)
{
    struct ws2_batch batch;
    struct ws2_error error = {0};
    int status;
    memset(copy, 0, sizeof *copy);
    assert_int_equal(ws2_loader_start(loader, epoch, &error), 0);
    while ((status = ws2_loader_next(loader, &batch, &error)) == 1) {
        memcpy(copy->rgb[copy->count], batch.rgb, (size_t)batch.count * sizeof copy->rgb[0]);
        memcpy(&copy->label[copy->count], batch.label, (size_t)batch.count * sizeof copy->label[0]);
        copy->count += batch.count;
        copy->batches++;
    }
    if (status < 0)
        fail_msg("%s", error.text);
}

static void loader_plain(void **state)
{
    (void)state;
    static struct epoch_copy copy;
    struct ws2_clips *clips = belt();
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    struct ws2_loader_options o = loader_options(3, false);
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    /* before 18, after 13; bg from sequences b0 (5 + 3), b2 (4), x0 (7), x2 (1) */
    assert_int_equal(ws2_loader_class_samples(loader, WS2_CLASS_AFTER), 13);
    assert_int_equal(ws2_loader_class_samples(loader, WS2_CLASS_BEFORE), 18);
    assert_int_equal(ws2_loader_class_samples(loader, WS2_CLASS_BG), 20);
    assert_int_equal(ws2_loader_steps(loader), 13);
    run_epoch(loader, 0, &copy);
    assert_int_equal(copy.count, 51);
    assert_int_equal(copy.batches, 13);
    for (int i = 0; i < copy.count; i++) {
        int black = 0, red = 0, blue = 0, grey = 0;
        for (int p = 0; p < SIDE * SIDE; p++) {
            const uint8_t *c = copy.rgb[i] + 3 * p;
            black += c[0] == 0 && c[1] == 0 && c[2] == 0;
            red += c[0] >= 200;
            blue += c[2] >= 200;
            grey += c[0] >= 90 && c[0] < 110 && c[2] >= 90 && c[2] < 110;
        }
        const int64_t label = copy.label[i];
        assert_int_equal(red, label == WS2_CLASS_BEFORE ? 25 : 0);
        assert_int_equal(blue, label == WS2_CLASS_AFTER ? 25 : 0);
        assert_int_equal(black, label == WS2_CLASS_BG ? 49 : SIDE * SIDE - 25); /* 5 x 5 grown by 1 */
        assert_int_equal(grey, label == WS2_CLASS_BG ? SIDE * SIDE - 49 : 0);
    }
    ws2_loader_close(loader);
    o.bg_source = WS2_BG_FRAMES; /* every second frame: 3+3+2+2, 4+3+1 */
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    assert_int_equal(ws2_loader_class_samples(loader, WS2_CLASS_BG), 18);
    ws2_loader_close(loader);
    o = loader_options(2, false);
    o.background = WS2_BACKGROUND_KEEP;
    o.fill = WS2_FILL_MEAN;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &copy);
    assert_int_equal(copy.count, 31);
    assert_true(copy.rgb[0][0] >= 90);
    ws2_loader_close(loader);
    o.background = WS2_BACKGROUND_REMOVE;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &copy);
    assert_int_equal(copy.rgb[0][0], 124);
    assert_int_equal(copy.rgb[0][1], 116);
    assert_int_equal(copy.rgb[0][2], 104);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

/* Items of each class stand on belts of both cameras; validation draws the same belts each time, training others. */
static void loader_other_belts(void **state)
{
    (void)state;
    static struct epoch_copy first, second;
    static const char *const names[] = {"dark.ws2", "light.ws2"};
    struct clip_options dark = clip("dark.ws2", "d", WS2_ROLE_BEFORE, 12),
                        light = clip("light.ws2", "l", WS2_ROLE_AFTER, 12);
    light.lighter = 60;
    write_clips(&dark, 1);
    write_clips(&light, 1);
    struct ws2_clips *clips = open_clips(names, 2);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    struct ws2_loader_options o = loader_options(3, false);
    o.fill = WS2_FILL_BELT;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &first);
    run_epoch(loader, 1, &second);
    assert_int_equal(first.count, 12 + 12 + 24);
    assert_memory_equal(&first, &second, sizeof first); /* validation is the same each time */
    int seen[3][2] = {{0}}; /* by class: on the belt of the dark, the light camera */
    for (int i = 0; i < first.count; i++) {
        int on[2] = {0}, item = 0;
        for (int p = 0; p < SIDE * SIDE; p++) {
            const uint8_t *c = first.rgb[i] + 3 * p;
            on[0] += c[0] >= 90 && c[0] < 106 && c[2] >= 90 && c[2] < 106;
            on[1] += c[0] >= 150 && c[0] < 166 && c[2] >= 150 && c[2] < 166;
            item += c[0] >= 200 || c[2] >= 200;
        }
        const bool bg = first.label[i] == WS2_CLASS_BG;
        assert_int_equal(item, bg ? 0 : 25);
        assert_int_equal(on[0] + on[1] + item, SIDE * SIDE);
        if (!bg)
            assert_true(on[0] == 0 || on[1] == 0);
        seen[first.label[i]][on[1] > on[0]]++;
    }
    for (int c = 0; c < 3; c++)
        assert_true(seen[c][0] > 0 && seen[c][1] > 0);
    ws2_loader_close(loader);
    o.training = true;
    o.jitter = o.hue = 0;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &first);
    run_epoch(loader, 0, &second);
    assert_memory_equal(&first, &second, sizeof first);
    run_epoch(loader, 1, &second);
    assert_memory_not_equal(&first, &second, sizeof first);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

static void loader_training(void **state)
{
    (void)state;
    static struct epoch_copy first, again, other;
    struct ws2_clips *clips = belt();
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    struct ws2_loader_options o = loader_options(3, true);
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    assert_int_equal(ws2_loader_steps(loader), 12); /* of 51, the last 3 dropped */
    run_epoch(loader, 5, &first);
    assert_int_equal(first.count, 48);
    struct ws2_batch batch;
    assert_int_equal(ws2_loader_start(loader, 1, &error), 0); /* left after one batch */
    assert_int_equal(ws2_loader_next(loader, &batch, &error), 1);
    run_epoch(loader, 5, &again);
    assert_memory_equal(&first, &again, sizeof first);
    run_epoch(loader, 6, &other);
    assert_memory_not_equal(first.label, other.label, sizeof first.label);
    ws2_loader_close(loader);
    o.threads = 3;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 5, &again);
    assert_memory_equal(&first, &again, sizeof first);
    ws2_loader_close(loader);
    o.seed = 4;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 5, &again);
    assert_memory_not_equal(&first, &again, sizeof first);
    ws2_loader_close(loader);
    o.balance = true;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &again);
    int64_t seen[3] = {0};
    for (int i = 0; i < again.count; i++)
        seen[again.label[i]]++;
    for (int c = 0; c < 3; c++)
        assert_in_range(seen[c], 14, 17); /* 17 of each, of which 3 in all are dropped */
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

static void expect_refusal(const char *const *names, int count, const struct ws2_loader_options *o,
                           int status, const char *reason)
{
    struct ws2_clips *clips = open_clips(names, count);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    int got = ws2_loader_open(&loader, clips, NULL, o, &error);
    if (got == 0) {
        struct ws2_batch batch;
        got = ws2_loader_start(loader, 0, &error);
        while (got >= 0 && (got = ws2_loader_next(loader, &batch, &error)) == 1)
            ;
        ws2_loader_close(loader);
    }
    assert_int_equal(got, status);
    if (strstr(error.text, reason) == NULL)
        fail_msg("'%s' does not say '%s'", error.text, reason);
    ws2_clips_close(clips);
}

static void loader_refusals(void **state)
{
    (void)state;
    static const char *const only_before[] = {"b.ws2"}, *const only_after[] = {"a0.ws2", "a1.ws2"};
    static const char *const bare[] = {"n.ws2", "a0.ws2"}, *const odd[] = {"w.ws2", "a0.ws2"};
    struct clip_options n = clip("n.ws2", "n", WS2_ROLE_BEFORE, 4),
                        w = clip("w.ws2", "w", WS2_ROLE_BEFORE, 4);
    n.no_fg = true;
    w.wrong_fg = true;
    write_clips(&n, 1);
    write_clips(&w, 1);
    struct ws2_loader_options o = loader_options(3, true);
    expect_refusal(only_before, 1, &o, WS2_ERR_INPUT, "no after frames among the training files");
    expect_refusal(only_after, 2, &o, WS2_ERR_INPUT, "no before frames");
    expect_refusal(bare, 2, &o, WS2_ERR_INPUT, "n.ws2: n: no tensor fg");
    expect_refusal(odd, 2, &o, WS2_ERR_INPUT, "w.ws2: w: frame");
    o.batch = 1000;
    expect_refusal(only_before, 1, &o, WS2_ERR_INPUT, "no after");
    const char *const both[] = {"b.ws2", "a0.ws2"};
    expect_refusal(both, 2, &o, WS2_ERR_INPUT, "do not fill one batch");
    o = loader_options(3, true);
    o.background = WS2_BACKGROUND_KEEP;
    expect_refusal(both, 2, &o, WS2_ERR_USAGE, "background");
    o = loader_options(4, true);
    expect_refusal(both, 2, &o, WS2_ERR_USAGE, "classes");
}

/* Frames of different sizes in one training set become the network's size. */
static void loader_sizes(void **state)
{
    (void)state;
    static const char *const mixed[] = {"m.ws2", "a0.ws2"};
    static struct epoch_copy copy;
    struct clip_options m = clip("m.ws2", "m", WS2_ROLE_BEFORE, 3);
    m.width = 24;
    m.height = 32;
    write_clips(&m, 1);
    struct ws2_clips *clips = open_clips(mixed, 2);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    struct ws2_loader_options o = loader_options(2, false);
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &copy);
    assert_int_equal(copy.count, 10);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

static void grow(void **state)
{
    (void)state;
    enum { W = 23, H = 17 };
    uint32_t noise = 9;
    for (int margin = 0; margin < 6; margin++) {
        uint8_t mask[W * H], want[W * H] = {0}, scratch[W * H];
        for (int i = 0; i < W * H; i++)
            mask[i] = generator_next(&noise) >> 24 < 6;
        for (int y = 0; y < H; y++) {
            for (int x = 0; x < W; x++) {
                for (int v = y - margin; v <= y + margin; v++) {
                    for (int u = x - margin; u <= x + margin; u++)
                        want[y * W + x] |= v >= 0 && v < H && u >= 0 && u < W && mask[v * W + u];
                }
            }
        }
        ws2_mask_grow(mask, scratch, W, H, margin);
        assert_memory_equal(mask, want, sizeof want);
    }
}

/* ---- runs ------------------------------------------------------------------------------------------------- */

struct watch {
    int64_t fail_at;             /* step at which the report gives up; 0 = never */
    int64_t alive[2], memory[2]; /* handles at steps 3 and 30, bytes at steps 10 and 1000 */
    struct nn *nn;
    struct ws2_epoch last;
};

static int watch(void *context, int64_t step, int64_t steps, double loss, double rate,
                 const struct ws2_epoch *epoch)
{
    struct watch *w = context;
    (void)steps;
    (void)rate;
    assert_true(isfinite(loss));
    if (epoch) {
        w->last = *epoch;
        return 0;
    }
    if (step == 3 || step == 30)
        w->alive[step == 30] = nn_tensors_alive(w->nn);
    if (step == 10 || step == 1000)
        w->memory[step == 1000] = (int64_t)nn_memory_used(w->nn);
    return w->fail_at && step == w->fail_at ? WS2_ERR_SYSTEM : 0;
}

/* One run of the toy network on the belt; returns the status of ws2_train_run. */
static int run_toy(enum ws2_method method, const char *name, int64_t stop, int64_t fail_at, bool resume,
                   int64_t epochs, struct watch *w, struct ws2_error *error)
{
    char output[128], log[160];
    struct nn *nn = open_nn(NN_F32_MODE);
    struct toy toy;
    struct ws2_classifier net = toy_open(&toy, nn, 3, 3, true);
    struct ws2_clips *clips = belt();
    struct ws2_loader *train, *val;
    struct ws2_loader_options to = loader_options(3, true), vo = loader_options(3, false);
    struct ws2_meta meta = {0};
    bool held[7] = {false}, use[7];
    to.hue = 0;
    to.triplets = vo.triplets = ws2_method_has_triplets(method);
    to.cells = vo.cells = SIDE / 2;
    /* sequence x2 has no triplet: it must not be all that is held back */
    assert_int_equal(ws2_clips_split(clips, 0.3, to.triplets ? 4 : 1, held, error), 0);
    for (int i = 0; i < 7; i++)
        use[i] = !held[i];
    assert_int_equal(ws2_loader_open(&train, clips, use, &to, error), 0);
    assert_int_equal(ws2_loader_open(&val, clips, held, &vo, error), 0);
    ws2_meta_set(&meta, "method", "%s", ws2_method_name(method));
    ws2_meta_set(&meta, "epochs", "%d", (int)epochs);
    path_of(output, sizeof output, name);
    snprintf(log, sizeof log, "%s.tsv", output);
    *w = (struct watch){.fail_at = fail_at, .nn = nn};
    /* beta is small: the flow of these clips is that of the item, also where the belt stands still */
    struct ws2_train_options o = {.loss = {.method = method, .alpha = 2, .beta = 1},
                                  .epochs = epochs,
                                  .stop_epoch = stop,
                                  .output = output,
                                  .log = log,
                                  .resume = resume,
                                  .meta = &meta,
                                  .report = watch,
                                  .context = w};
    const struct ws2_optimiser_options recipe = {WS2_OPTIMISER_SCRATCH, 0.05, NAN, NAN};
    assert_int_equal(ws2_plan_make(&o.plan, &recipe, method, false, toy.params, "classifier.*", error), 0);
    const int status = ws2_train_run(nn, &net, train, val, &o, error);
    ws2_loader_close(train);
    ws2_loader_close(val);
    ws2_clips_close(clips);
    nn_params_free(toy.params);
    nn_close(nn);
    return status;
}

static char *whole_file(const char *name, size_t *size)
{
    char path[160];
    path_of(path, sizeof path, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("%s is not there", path);
    char *bytes = calloc(1, 1 << 20);
    *size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

static bool there(const char *name)
{
    char path[160];
    path_of(path, sizeof path, name);
    return access(path, F_OK) == 0;
}

static void remove_file(const char *name)
{
    char path[160];
    path_of(path, sizeof path, name);
    unlink(path);
}

static void assert_same_files(const char *a, const char *b)
{
    size_t m, n;
    char *x = whole_file(a, &m), *y = whole_file(b, &n);
    assert_int_equal(m, n);
    assert_memory_equal(x, y, m);
    free(x);
    free(y);
}

/* Logs without the column of speeds. */
static void assert_same_logs(const char *a, const char *b)
{
    size_t m, n;
    char *x = whole_file(a, &m), *y = whole_file(b, &n), *p, *q;
    char *line_x = strtok_r(x, "\n", &p), *line_y = strtok_r(y, "\n", &q);
    for (; line_x && line_y; line_x = strtok_r(NULL, "\n", &p), line_y = strtok_r(NULL, "\n", &q)) {
        int column = 0;
        char *i = line_x, *j = line_y;
        for (; i && j; column++) {
            char *cell_x = strsep(&i, "\t"), *cell_y = strsep(&j, "\t");
            if (column != 11)
                assert_string_equal(cell_x, cell_y);
        }
        assert_int_equal(column, 13);
    }
    assert_null(line_x);
    assert_null(line_y);
    free(x);
    free(y);
}

static void resumes_to_the_same(void **state)
{
    (void)state;
    for (int method = WS2_METHOD_STANDARD; method <= WS2_METHOD_PLAIN; method++) {
        const enum ws2_method m = (enum ws2_method)method;
        struct ws2_error error = {0};
        struct watch w;
        assert_int_equal(run_toy(m, "whole", 0, 0, false, 4, &w, &error), WS2_TRAIN_DONE);
        assert_false(there("whole.last") || there("whole.best"));
        remove_file("half");
        /* left after two epochs */
        assert_int_equal(run_toy(m, "half", 2, 0, false, 4, &w, &error), WS2_TRAIN_STOPPED);
        assert_true(there("half.last") && !there("half"));
        assert_int_equal(run_toy(m, "half", 0, 0, true, 4, &w, &error), WS2_TRAIN_DONE);
        assert_same_files("whole", "half");
        assert_same_logs("whole.tsv", "half.tsv");
        /* killed in the middle of the third epoch */
        const int64_t epoch = w.last.steps / 4;
        assert_true(epoch > 2);
        assert_int_equal(run_toy(m, "killed", 0, 2 * epoch + epoch / 2, false, 4, &w, &error),
                         WS2_ERR_SYSTEM);
        assert_int_equal(run_toy(m, "killed", 0, 0, true, 4, &w, &error), WS2_TRAIN_DONE);
        assert_same_files("whole", "killed");
        assert_same_logs("whole.tsv", "killed.tsv");
        /* other settings are not the same run */
        assert_int_equal(run_toy(m, "other", 1, 0, false, 4, &w, &error), WS2_TRAIN_STOPPED);
        error = (struct ws2_error){0};
        assert_int_equal(run_toy(m, "other", 0, 0, true, 5, &w, &error), WS2_ERR_USAGE);
        assert_non_null(strstr(error.text, "epochs was 4 and is now 5"));
    }
}

static void learns(void **state)
{
    (void)state;
    for (int method = WS2_METHOD_STANDARD; method <= WS2_METHOD_PLAIN; method++) {
        struct ws2_error error = {0};
        struct watch w;
        const enum ws2_method m = (enum ws2_method)method;
        const int64_t epochs = ws2_method_has_triplets(m) ? 40 : 12; /* of fewer steps */
        assert_int_equal(run_toy(m, "learns", 0, 0, false, epochs, &w, &error), WS2_TRAIN_DONE);
        assert_true(w.last.val_accuracy > 0.9);
        assert_true(w.last.val_loss < 0.5);
        assert_int_equal(w.alive[0], w.alive[1]); /* no tensor is left behind by a step */
    }
}

/* Were the pictures of each step left behind, 12 KiB, it would be 12 MiB at the end. */
static void memory_stays_flat(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    print_message("the sanitizer keeps freed memory\n");
    skip();
#endif
    struct ws2_error error = {0};
    struct watch w;
    assert_int_equal(run_toy(WS2_METHOD_PUZZLE, "flat", 0, 0, false, 126, &w, &error), WS2_TRAIN_DONE);
    assert_true(w.last.steps >= 1000);
    assert_true(w.memory[0] > 0);
    assert_true(w.memory[1] - w.memory[0] < 8 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses),
        cmocka_unit_test(losses_by_hand),
        cmocka_unit_test(ramp),
        cmocka_unit_test(loss_recipes),
        cmocka_unit_test(tiles),
        cmocka_unit_test(tiles_in_order),
        cmocka_unit_test(puzzle_steps),
        cmocka_unit_test(poly_steps),
        cmocka_unit_test(recipes),
        cmocka_unit_test(clips_and_split),
        cmocka_unit_test(clips_refused),
        cmocka_unit_test(loader_plain),
        cmocka_unit_test(loader_other_belts),
        cmocka_unit_test(loader_training),
        cmocka_unit_test(loader_refusals),
        cmocka_unit_test(loader_sizes),
        cmocka_unit_test(grow),
        cmocka_unit_test(resumes_to_the_same),
        cmocka_unit_test(learns),
        cmocka_unit_test(memory_stays_flat),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
