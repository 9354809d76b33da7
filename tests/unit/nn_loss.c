/* Losses of training: single terms and Puzzle-CAM against PyTorch and by hand, ramps, and pictures in tiles. */
#include "models/resnet.h"
#include "train_help.h"

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
    double want[4], got[4], totals[4];
    struct ws2_error error = {0};
    struct ws2_plan plan;
    struct nn *nn = open_nn(NN_F64_MODE);
    struct nn_params *params = nn_params_new(nn);
    struct resnet *net = resnet_new(
        params, &(struct resnet_options){
                    .depth = 18, .stride = RESNET_STRIDE_16, .head = RESNET_HEAD_MAPS, .classes = 3});
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
            check_first_step(params, "puzzle");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses),       cmocka_unit_test(losses_by_hand), cmocka_unit_test(ramp),
        cmocka_unit_test(loss_recipes), cmocka_unit_test(tiles),          cmocka_unit_test(tiles_in_order),
        cmocka_unit_test(puzzle_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
