/* Learning of pixels in rounds, on a belt of red and blue items. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clips_help.h"
#include "models/dense.h"
#include "modes_help.h"

/* Items of clips_help.h: red before the sorter, blue after it. */
static struct ws2_data open_data(void)
{
    const char *const path[] = {in_folder("b.ws2"), in_folder("a0.ws2"), in_folder("a1.ws2"),
                                in_folder("a2.ws2")};
    const struct ws2_data_options options = {.path = path,
                                             .paths = 4,
                                             .share = 0.3,
                                             .loader = {.classes = 2,
                                                        .background = WS2_BACKGROUND_REMOVE,
                                                        .fill = WS2_FILL_MEAN,
                                                        .size = 32,
                                                        .flip_x = true,
                                                        .flip_y = true,
                                                        .dense = true,
                                                        .transpose = true,
                                                        .light = {0.05, 0.1, 0.03},
                                                        .seed = 1,
                                                        .batch = 4,
                                                        .threads = 1}};
    struct ws2_data data;
    struct ws2_error error = {0};
    must_be_good(ws2_data_open(&data, &options, &error), &error);
    return data;
}

/* What a round reported. */
struct seen {
    int epochs;
    double first; /* loss of the first step */
};

static int watch(void *context, int64_t step, int64_t steps, double loss, double rate,
                 const struct ws2_epoch *epoch)
{
    struct seen *seen = context;
    (void)steps;
    (void)rate;
    assert_true(isfinite(loss));
    seen->epochs += epoch != NULL;
    if (step == 1 && epoch == NULL)
        seen->first = loss;
    return 0;
}

static struct dense_options rounds_options(void)
{
    struct dense_options options = {.net = {18, 8, 32, 0.25},
                                    .seed = 5,
                                    .pu = {0.5, WS2_PU_ABSOLUTE, 0, 1},
                                    .rates = {WS2_OPTIMISER_AUTO, NAN, NAN, NAN}};
    dense_quantiles(options.pu.prior, &options.low, &options.high);
    return options;
}

/* A round of two epochs, `stop` of them now, in a context of its own or the last round's. */
static struct seen learn_round(int number, const struct dense_round *last, const char *name, int64_t stop,
                               bool resume, int status, struct dense_round *round)
{
    char path[160];
    struct seen seen = {0};
    struct ws2_error error = {0};
    struct ws2_data data = open_data();
    snprintf(path, sizeof path, "%s", in_folder(name));
    const struct dense_options options = rounds_options();
    const struct ws2_train_options run = {
        .epochs = 2, .stop_epoch = stop, .output = path, .resume = resume, .report = watch, .context = &seen};
    struct nn *nn = last ? nn_params_context(last->fpn.params) : open_nn(&modes[1]);
    const int got = dense_learn(round, nn, number, last, &options, &data, &run, &error);
    if (got != status)
        fail_msg("%s: %d is not %d: %s", name, got, status, error.text);
    ws2_data_close(&data);
    return seen;
}

static bool there(const char *name)
{
    return access(in_folder(name), F_OK) == 0;
}

static void assert_same_files(const char *a, const char *b)
{
    size_t m, n;
    uint8_t *x = slurp(in_folder(a), &m), *y = slurp(in_folder(b), &n);
    assert_int_equal(m, n);
    assert_memory_equal(x, y, m);
    free(x);
    free(y);
}

/* What the file of a round says is what is known of it. */
static void check_file(const char *name, const struct dense_round *round, const char *number)
{
    struct nn_weights *weights = golden_open(in_folder(name));
    assert_string_equal(nn_weights_meta(weights, "dense"), "pu");
    assert_string_equal(nn_weights_meta(weights, "round"), number);
    assert_string_equal(nn_weights_meta(weights, "prior"), "0.5000");
    assert_string_equal(nn_weights_meta(weights, "method"), *number == '0' ? "pu" : "round");
    assert_true(fabs(atof(nn_weights_meta(weights, "threshold")) - round->fpn.info.threshold) < 1e-9);
    nn_weights_close(weights);
    const struct ws2_pu_figures f = ws2_pu_judge(&round->scores, 0.5, round->fpn.info.threshold);
    assert_memory_equal(&f, &round->figures, sizeof f);
    assert_true(round->scores.pixels[0] > 0 && round->scores.pixels[1] > 0);
    assert_true(isfinite(f.iou) && f.iou <= f.recall);
}

static void close_rounds(struct dense_round *first, struct dense_round *second)
{
    struct nn *nn = nn_params_context(first->fpn.params);
    dense_round_close(second);
    dense_round_close(first);
    close_nn(nn);
}

/* Two rounds; the second from the first one's file; each left after an epoch and taken up again: the same bytes. */
static void test_rounds(void **state)
{
    (void)state;
    struct dense_round first, second, again, more;
    assert_int_equal(learn_round(0, NULL, "r0", 0, false, WS2_TRAIN_DONE, &first).epochs, 2);
    assert_int_equal(learn_round(1, &first, "r1", 0, false, WS2_TRAIN_DONE, &second).epochs, 2);
    check_file("r0", &first, "0");
    check_file("r1", &second, "1");
    assert_false(there("r0.learnt") || there("r0.learnt.last") || there("r0.learnt.best"));
    assert_false(there("r1.learnt") || there("r1.learnt.last") || there("r1.learnt.best"));
    assert_int_equal(learn_round(0, NULL, "r0", 0, true, WS2_TRAIN_DONE, &again).epochs, 0);
    assert_memory_equal(&again.scores, &first.scores, sizeof first.scores);
    assert_memory_equal(&again.figures, &first.figures, sizeof first.figures);
    assert_int_equal(learn_round(1, &again, "s1", 0, true, WS2_TRAIN_DONE, &more).epochs, 2);
    assert_same_files("r1", "s1");
    close_rounds(&again, &more);
    struct dense_round half;
    assert_int_equal(learn_round(0, NULL, "t0", 1, false, WS2_TRAIN_STOPPED, &half).epochs, 1);
    assert_true(there("t0.learnt.last") && !there("t0"));
    struct nn *nn = nn_params_context(half.fpn.params);
    dense_round_close(&half);
    close_nn(nn);
    assert_int_equal(learn_round(0, NULL, "t0", 0, true, WS2_TRAIN_DONE, &again).epochs, 1);
    assert_same_files("r0", "t0");
    assert_int_equal(learn_round(1, &again, "t1", 1, true, WS2_TRAIN_STOPPED, &more).epochs, 1);
    dense_round_close(&more);
    assert_int_equal(learn_round(1, &again, "t1", 0, true, WS2_TRAIN_DONE, &more).epochs, 1);
    assert_same_files("r1", "t1");
    close_rounds(&again, &more);
    close_rounds(&first, &second);
}

static struct nn_tensor *teacher_forward(void *model, struct nn_tensor *images, bool training)
{
    return fpn_forward(model, images, training);
}

/* The loss of the first step by hand: of the seed's network and the first batch, in the second round with the labels that
 * the last network gives. */
static double first_loss(int number, const struct dense_round *last, struct nn *nn)
{
    enum { SMALL = 32 * 32, ALL = 4 * SMALL };
    const struct dense_options options = rounds_options();
    const struct ws2_segmenter teacher = {last ? (void *)&last->fpn : NULL, NULL, teacher_forward};
    float p[ALL], wanted[ALL], unwanted[ALL];
    double low, high;
    struct ws2_data data = open_data();
    struct ws2_batch batch;
    struct ws2_scores scores;
    struct ws2_error error = {0};
    struct fpn fpn;
    must_be_good(fpn_open(&fpn, nn, &options.net, &error), &error);
    must_be_good(fpn_begin(&fpn, options.seed + (uint64_t)number, NULL, NULL, &error), &error);
    dense_quantiles(0.5, &low, &high);
    if (last)
        must_be_good(ws2_scores_measure(&scores, nn, &teacher, data.train, &error), &error);
    assert_int_equal(ws2_loader_start(data.train, 0, &error), 0);
    assert_int_equal(ws2_loader_next(data.train, &batch, &error), 1);
    nn_scope_begin(nn);
    struct nn_tensor *x = ws2_batch_images(nn, &batch, batch.rgb), *loss;
    if (last) {
        low = ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, low);
        high = ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, high);
        assert_true(0.001 < low && low < high);
        nn_to_f32(nn, nn_sigmoid(nn, fpn_forward(&last->fpn, x, false)), p, ALL);
        for (int i = 0; i < ALL; i++) {
            const bool on = batch.keep[i], before = batch.label[i / SMALL] == WS2_CLASS_BEFORE;
            wanted[i] = !on ? 0 : !before ? 0.5f : (double)p[i] < low ? 1 : 0;
            unwanted[i] = on && before && (double)p[i] >= high ? 1 : 0;
        }
        loss = ws2_balanced_loss(nn, fpn_forward(&fpn, x, true), wanted, unwanted);
    } else {
        loss = ws2_pu_loss(nn, fpn_forward(&fpn, x, true), batch.keep, batch.label, &options.pu).total;
    }
    const double value = nn_item(nn, loss);
    nn_scope_end(nn);
    fpn_close(&fpn);
    ws2_data_close(&data);
    return value;
}

static void test_first_steps(void **state)
{
    (void)state;
    struct dense_round first, second;
    const struct seen one = learn_round(0, NULL, "u0", 0, false, WS2_TRAIN_DONE, &first);
    struct nn *nn = nn_params_context(first.fpn.params);
    assert_true(fabs(one.first - first_loss(0, NULL, nn)) <= 1e-6);
    const struct seen two = learn_round(1, &first, "u1", 0, false, WS2_TRAIN_DONE, &second);
    assert_true(fabs(two.first - first_loss(1, &first, nn)) <= 1e-6);
    close_rounds(&first, &second);
}

/* Logits of one value. */
struct constant {
    struct nn *nn;
    double value;
};

static struct nn_tensor *constant_forward(void *model, struct nn_tensor *images, bool training)
{
    const struct constant *c = model;
    assert_false(training);
    return nn_full(c->nn, ws2_shape_4(nn_dim(images, 0), 1, nn_dim(images, 2), nn_dim(images, 3)), c->value,
                   NN_F32);
}

/* Every pixel on the belt once, in its bin; shares of the belt that is covered. */
static void test_scores_of_clips(void **state)
{
    (void)state;
    static const struct {
        double logit;
        int bin;
    } value[] = {{0, 500}, {-90, 0}, {90, 999}, {-2.2, 99}};
    struct ws2_data data = open_data();
    struct ws2_error error = {0};
    struct ws2_scores scores;
    struct ws2_batch batch;
    struct constant constant = {.nn = open_nn(&modes[1])};
    const struct ws2_segmenter net = {&constant, NULL, constant_forward};
    int64_t pixels[2] = {0}, frames[2] = {0};
    double share[2];
    assert_int_equal(ws2_loader_start(data.val, 0, &error), 0);
    while (ws2_loader_next(data.val, &batch, &error) == 1)
        for (int i = 0; i < batch.count * 32 * 32; i++) {
            pixels[batch.label[i / 1024]] += batch.keep[i];
            frames[batch.label[i / 1024]] += i % 1024 == 0;
        }
    must_be_good(dense_shares(data.val, share, &error), &error);
    for (int k = 0; k < 4; k++) {
        constant.value = value[k].logit;
        must_be_good(ws2_scores_measure(&scores, constant.nn, &net, data.val, &error), &error);
        for (int c = 0; c < 2; c++) {
            assert_int_equal(scores.pixels[c], pixels[c]);
            assert_int_equal(scores.count[c][value[k].bin], pixels[c]);
            assert_near(share[c], (double)pixels[c] / (1024 * (double)frames[c]));
        }
    }
    constant.value = NAN;
    assert_int_equal(ws2_scores_measure(&scores, constant.nn, &net, data.val, &error), WS2_ERR_MODEL);
    assert_non_null(strstr(error.text, "not finite"));
    ws2_data_close(&data);
    close_nn(constant.nn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_of_clips),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_first_steps),
    };
    return cmocka_run_group_tests(tests, make_belt, remove_folder);
}
