/* The loss of POF-CAM: its terms against PyTorch, frames that stand still, and gradients against differences. */
#include "models/resnet.h"
#include "train_help.h"

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
    double want[5], totals[4], variants[4];
    struct ws2_error error = {0};
    struct ws2_plan plan;
    struct nn *nn = open_nn(NN_F64_MODE);
    struct nn_params *params = nn_params_new(nn);
    struct resnet *model = resnet_new(
        params, &(struct resnet_options){
                    .depth = 18, .stride = RESNET_STRIDE_16, .head = RESNET_HEAD_MAPS, .classes = 3});
    const struct ws2_classifier net = {model, params, 3, resnet_classify};
    const struct ws2_loss_options o = {.method = WS2_METHOD_POF, .alpha = 2, .beta = 6};
    const struct ws2_optimiser_options paper = {WS2_OPTIMISER_PAPER, 1e-3, NAN, NAN};
    assert_int_equal(ws2_plan_make(&plan, &paper, o.method, true, params, "classifier.*", &error), 0);
    struct nn_optim *optim = nn_optim_new(params, &plan.optim);
    fill_triplet(&t);
    golden_f64("pof.terms", want, 5);
    golden_f64("pof.totals", totals, 4);
    golden_f64("pof.variants", variants, 4);
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
            check_first_step(params, "pof");
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
        struct resnet *model = resnet_new(
            params, &(struct resnet_options){
                        .depth = 18, .stride = RESNET_STRIDE_16, .head = RESNET_HEAD_MAPS, .classes = 3});
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pof_steps),   cmocka_unit_test(still),      cmocka_unit_test(ring),
        cmocka_unit_test(differences), cmocka_unit_test(weightless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
