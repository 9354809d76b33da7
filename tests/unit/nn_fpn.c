/* The pyramid that marks pixels: against PyTorch, its files, frames. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "folder_help.h"
#include "generator.h"
#include "image/image.h"
#include "models/fpn_frame.h"
#include "modes_help.h"
#include "train/train.h"

#define FIXTURE "tests/golden/dense.safetensors"

/* ---- networks against PyTorch -------------------------------------------------------------------------------------- */

static struct fpn_info info_of(int reach, int size)
{
    return (struct fpn_info){18, reach, size, 0.25};
}

/* A network of its own context, empty. */
static struct nn *open_fpn(struct fpn *fpn, const struct nn_options *options, struct fpn_info info)
{
    struct ws2_error error = {0};
    struct nn *nn = open_nn(options);
    must_be_good(fpn_open(fpn, nn, &info, &error), &error);
    return nn;
}

static void close_fpn(struct fpn *fpn)
{
    struct nn *nn = nn_params_context(fpn->params);
    fpn_close(fpn);
    close_nn(nn);
}

static struct nn_tensor *picture(struct nn *nn, const char *key, int height, int width)
{
    uint8_t rgb[70 * 70 * 3];
    generator_image(key, rgb, (size_t)(3 * height * width));
    return nn_images_u8(nn, 1, height, width, rgb, nn_imagenet_mean, nn_imagenet_std);
}

/* The picture and, mirrored, once more. */
static struct nn_tensor *pictures(struct nn *nn)
{
    struct nn_tensor *one = picture(nn, "image", 64, 64);
    return nn_cat(nn, (struct nn_tensor *[]){one, nn_flip(nn, one, nn_axes_1(3))}, 2, 0);
}

static void compare_gradient(const struct fpn *fpn, const struct nn_weights *weights, const char *name)
{
    struct nn *nn = nn_params_context(fpn->params);
    char key[64];
    snprintf(key, sizeof key, "fpn.%d.grad.%s", fpn->info.reach, name);
    const int index = nn_params_find(fpn->params, name);
    assert_true(index >= 0);
    golden_compare(nn, weights, key, nn_leaf_grad(nn, nn_params_at(fpn->params, index)->tensor), 1);
}

static void compare_network(const struct nn_options *mode, const struct nn_weights *weights, int reach)
{
    char name[32];
    struct fpn fpn;
    struct nn *nn = open_fpn(&fpn, mode, info_of(reach, 64));
    assert_int_equal(generator_fill(fpn.params, NULL), 0);
    nn_no_grad_begin(nn);
    snprintf(name, sizeof name, "fpn.%d", reach);
    struct nn_tensor *z = fpn_forward(&fpn, pictures(nn), false);
    assert_true(nn_dim(z, 0) == 2 && nn_dim(z, 1) == 1 && nn_dim(z, 2) == 64 && nn_dim(z, 3) == 64);
    golden_compare(nn, weights, name, z, 7);
    snprintf(name, sizeof name, "fpn.%d.odd", reach);
    golden_compare(nn, weights, name, fpn_forward(&fpn, picture(nn, "odd image", 50, 70), false), 7);
    nn_no_grad_end(nn);
    snprintf(name, sizeof name, "fpn.%d.train", reach);
    z = fpn_forward(&fpn, pictures(nn), true);
    golden_compare(nn, weights, name, z, 7);
    snprintf(name, sizeof name, "fpn.%d.mean", reach);
    golden_compare(nn, weights, name, fpn.smooth_bn.mean, 1);
    nn_backward(nn, nn_mean(nn, nn_square(nn, z)));
    compare_gradient(&fpn, weights, "conv1.weight");
    compare_gradient(&fpn, weights,
                     reach == 16  ? "lateral3.weight"
                     : reach == 8 ? "lateral2.weight"
                                  : "lateral1.weight");
    compare_gradient(&fpn, weights, "lateral1.bias");
    compare_gradient(&fpn, weights, "logit.weight");
    close_fpn(&fpn);
}

static void test_networks(void **state)
{
    (void)state;
    struct nn_weights *weights = golden_open(FIXTURE);
    for (int m = 0; m < MODES; m++)
        for (int reach = 4; reach <= 16; reach *= 2)
            compare_network(&modes[m], weights, reach);
    nn_weights_close(weights);
}

static void test_no_such_network(void **state)
{
    (void)state;
    static const struct fpn_info bad[] = {
        {18, 2, 64, 0.5}, {18, 0, 64, 0.5}, {18, 32, 64, 0.5}, {19, 8, 64, 0.5}};
    for (int i = 0; i < 4; i++) {
        struct nn *nn = open_nn(&modes[1]);
        struct ws2_error error = {0};
        struct fpn fpn;
        assert_int_equal(fpn_open(&fpn, nn, &bad[i], &error), WS2_ERR_USAGE);
        assert_non_null(
            strstr(error.text, i < 3 ? "4, 8 and 16 are possible" : "no such network: ResNet-19"));
        assert_null(fpn.params);
        fpn_close(&fpn);
        nn_close(nn);
    }
}

/* ---- files --------------------------------------------------------------------------------------------------------- */

static bool starts(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static void save(const struct fpn *fpn, const char *path)
{
    struct classifier_fact fact[CLASSIFIER_FACTS_MAX];
    struct ws2_meta meta = {0};
    struct ws2_error error = {0};
    const int facts = fpn_facts(fpn, fact);
    for (int i = 0; i < facts; i++)
        ws2_meta_set(&meta, fact[i].key, "%s", fact[i].value);
    ws2_meta_set(&meta, "dense", "pu");
    must_be_good(ws2_checkpoint_save(fpn->params, &meta, path, &error), &error);
}

static void run_frame(const struct fpn *fpn, int64_t height, int64_t width, const uint8_t *rgb,
                      const uint8_t *fg, bool tta, struct fpn_frame *frame)
{
    struct ws2_error error = {0};
    must_be_good(fpn_frame_run(fpn, height, width, rgb, fg, tta, frame, &error), &error);
}

/* What is saved, read and shared gives the same bytes, again and again. */
static void test_saved_and_shared(void **state)
{
    (void)state;
    uint8_t rgb[50 * 70 * 3], fg[50 * 70];
    generator_image("frame", rgb, sizeof rgb);
    generator_image("frame fg", fg, sizeof fg);
    for (size_t i = 0; i < sizeof fg; i++)
        fg[i] = fg[i] > 90;
    for (int reach = 4; reach <= 16; reach *= 2) {
        const struct fpn_info info = info_of(reach, 64);
        const char *path = in_folder("fpn.safetensors");
        struct fpn made, read, twin;
        struct fpn_frame frame[3] = {{NULL}};
        struct ws2_error error = {0};
        open_fpn(&made, &modes[1], info);
        assert_int_equal(generator_fill(made.params, NULL), 0);
        save(&made, path);
        must_be_good(fpn_read(&read, open_nn(&modes[1]), path, &error), &error);
        must_be_good(fpn_twin(&twin, open_nn(&modes[1]), &read, &error), &error);
        assert_memory_equal(&read.info, &made.info, sizeof info);
        assert_memory_equal(&twin.info, &made.info, sizeof info);
        assert_string_equal(twin.digest, read.digest);
        assert_int_equal(strlen(read.digest), NN_DIGEST_SIZE - 1);
        for (int tta = 0; tta < 2; tta++) {
            run_frame(&made, 50, 70, rgb, fg, tta, &frame[0]);
            for (int again = 0; again < 2; again++) {
                run_frame(&read, 50, 70, rgb, fg, tta, &frame[1]);
                run_frame(&twin, 50, 70, rgb, fg, tta, &frame[2]);
                assert_memory_equal(frame[1].value, frame[0].value, sizeof fg * sizeof(float));
                assert_memory_equal(frame[2].value, frame[0].value, sizeof fg * sizeof(float));
            }
        }
        for (int k = 0; k < 3; k++)
            fpn_frame_free(&frame[k]);
        close_fpn(&twin);
        close_fpn(&read);
        close_fpn(&made);
    }
}

/* A classifier's weights, as ws2-train writes them. */
static const char *write_classifier(uint64_t seed)
{
    const char *path = in_folder("classifier.safetensors");
    struct classifier_info info = {.net = {18, RESNET_STRIDE_16, RESNET_HEAD_MAPS, 3},
                                   .class_name = {"after", "before", "bg"},
                                   .size = 64};
    struct classifier classifier;
    struct classifier_fact fact[CLASSIFIER_FACTS_MAX];
    struct ws2_meta meta = {0};
    struct ws2_error error = {0};
    struct nn *nn = open_nn(&modes[1]);
    must_be_good(classifier_open(&classifier, nn, &info, &error), &error);
    must_be_good(classifier_begin(&classifier, seed, NULL, NULL, &error), &error);
    const int facts = classifier_facts(&classifier, fact);
    for (int i = 0; i < facts; i++)
        ws2_meta_set(&meta, fact[i].key, "%s", fact[i].value);
    must_be_good(ws2_checkpoint_save(classifier.params, &meta, path, &error), &error);
    classifier_close(&classifier);
    nn_close(nn);
    return path;
}

static void expect_unread(const char *path, const char *reason)
{
    struct fpn fpn;
    struct ws2_error error = {0};
    struct nn *nn = open_nn(&modes[1]);
    assert_int_equal(fpn_read(&fpn, nn, path, &error), WS2_ERR_MODEL);
    if (!starts(error.text, path) || strstr(error.text, reason) == NULL)
        fail_msg("'%s' does not say '%s'", error.text, reason);
    assert_null(fpn.params);
    nn_close(nn);
}

enum { FACTS = 5 };

/* A file of these facts and of one number. */
static const char *write_facts(const char *const value[FACTS])
{
    static const char *const key[FACTS] = {"dense", "backbone", "reach", "size", "threshold"};
    const char *path = in_folder("odd.safetensors");
    struct nn_saver *saver = nn_saver_new(path);
    const float number = 1;
    for (int i = 0; i < FACTS; i++)
        if (value[i])
            nn_saver_meta(saver, key[i], value[i]);
    nn_saver_add(saver, "smooth.weight", NN_F32, ws2_shape_1(1), (const uint8_t *)&number, sizeof number);
    assert_int_equal(nn_saver_finish(saver, NULL), 0);
    nn_saver_free(saver);
    return path;
}

static void test_wrong_files(void **state)
{
    (void)state;
    static const struct {
        const char *value[FACTS], *reason;
    } odd[] = {
        {{NULL, "resnet18", "8", "64", "0.5"}, "mark no pixels"},
        {{"pu", "resnet19", "8", "64", "0.5"}, "'backbone' is 'resnet19'"},
        {{"pu", NULL, "8", "64", "0.5"}, "'backbone' is ''"},
        {{"pu", "resnet18", NULL, "64", "0.5"}, "'reach' is ''"},
        {{"pu", "resnet18", "2", "64", "0.5"}, "'reach' is '2'"},
        {{"pu", "resnet18", "32", "64", "0.5"}, "'reach' is '32'"},
        {{"pu", "resnet18", "8", NULL, "0.5"}, "'size' is ''"},
        {{"pu", "resnet18", "8", "0", "0.5"}, "'size' is '0'"},
        {{"pu", "resnet18", "8", "-64", "0.5"}, "'size' is '-64'"},
        {{"pu", "resnet18", "8", "65536", "0.5"}, "'size' is '65536'"},
        {{"pu", "resnet18", "8", "64", NULL}, "'threshold' is ''"},
        {{"pu", "resnet18", "8", "64", ""}, "'threshold' is ''"},
        {{"pu", "resnet18", "8", "64", "-0.1"}, "'threshold' is '-0.1'"},
        {{"pu", "resnet18", "8", "64", "1.1"}, "'threshold' is '1.1'"},
        {{"pu", "resnet18", "8", "64", "nan"}, "'threshold' is 'nan'"},
        {{"pu", "resnet18", "8", "64", "high"}, "'threshold' is 'high'"},
        {{"pu", "resnet18", "8", "64", "0.5x"}, "'threshold' is '0.5x'"},
        {{"pu", "resnet18", "8", "64", "0.5"}, "conv1.weight"},
        {{"pu", "resnet18", "16", "64", "1"}, "conv1.weight"},
        {{"labels", "resnet18", "4", "64", "1"}, "conv1.weight"},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        expect_unread(write_facts(odd[i].value), odd[i].reason);
    expect_unread(write_classifier(1), "mark no pixels");
}

/* Of a classifier's file the layers that are looked at are taken, all else is what the seed drew. */
static void test_begin(void **state)
{
    (void)state;
    const char *path = write_classifier(4);
    struct nn_weights *weights = golden_open(path);
    struct ws2_error error = {0};
    char digest[NN_DIGEST_SIZE];
    assert_int_equal(nn_weights_digest(weights, digest, &error), 0);
    for (int reach = 4; reach <= 16; reach *= 2) {
        struct fpn given, drawn;
        struct nn_load_report report;
        open_fpn(&given, &modes[1], info_of(reach, 64));
        open_fpn(&drawn, &modes[1], info_of(reach, 64));
        must_be_good(fpn_begin(&given, 7, path, &report, &error), &error);
        must_be_good(fpn_begin(&drawn, 7, NULL, NULL, &error), &error);
        assert_string_equal(given.digest, digest);
        assert_string_equal(drawn.digest, "");
        assert_int_equal(report.skipped, reach == 16 ? 14 : reach == 8 ? 12 : 10);
        assert_int_equal(report.loaded + report.skipped, nn_params_count(given.params));
        assert_int_equal(report.loaded + report.ignored, nn_weights_count(weights));
        for (int i = 0; i < nn_params_count(given.params); i++) {
            const struct nn_param *param = nn_params_at(given.params, i);
            const size_t count = (size_t)nn_count(param->tensor);
            const int index = nn_weights_find(weights, param->name);
            const bool own = starts(param->name, "lateral") || starts(param->name, "smooth") ||
                             starts(param->name, "logit");
            assert_int_equal(index < 0, own);
            float *a = ws2_calloc(count, sizeof *a), *b = ws2_calloc(count, sizeof *b);
            nn_to_f32(nn_params_context(given.params), param->tensor, a, count);
            if (own)
                nn_to_f32(nn_params_context(drawn.params), nn_params_at(drawn.params, i)->tensor, b, count);
            else
                assert_int_equal(nn_weights_read_f32(weights, index, b, count, NULL), 0);
            assert_memory_equal(a, b, count * sizeof *a);
            free(a);
            free(b);
        }
        close_fpn(&given);
        close_fpn(&drawn);
    }
    nn_weights_close(weights);
}

/* A trunk from a file that has none, and of another depth. */
static void test_wrong_trunks(void **state)
{
    (void)state;
    static const char *const facts[FACTS] = {NULL};
    for (int i = 0; i < 2; i++) {
        const char *path = i ? write_classifier(1) : write_facts(facts);
        struct fpn fpn;
        struct ws2_error error = {0};
        struct fpn_info info = info_of(8, 64);
        info.depth = i ? 34 : 18;
        open_fpn(&fpn, &modes[1], info);
        assert_int_equal(fpn_begin(&fpn, 1, path, NULL, &error), WS2_ERR_MODEL);
        if (!starts(error.text, path) || strstr(error.text, i ? "layer1.2" : "conv1.weight") == NULL)
            fail_msg("'%s'", error.text);
        close_fpn(&fpn);
    }
}

/* ---- frames --------------------------------------------------------------------------------------------------------- */

enum { SQUARE = 64 };

/* What the network says of a picture of its own size, mirrored left to right (bit 0), upside down (bit 1), turned back. */
static void see(const struct fpn *fpn, const uint8_t *rgb, int which, float *out)
{
    static uint8_t turned[SQUARE * SQUARE * 3];
    static float p[SQUARE * SQUARE];
    struct nn *nn = nn_params_context(fpn->params);
    const int right = which & 1 ? SQUARE - 1 : 0, down = which & 2 ? SQUARE - 1 : 0;
    for (int i = 0; i < SQUARE * SQUARE; i++)
        memcpy(turned + 3 * ((i / SQUARE ^ down) * SQUARE + (i % SQUARE ^ right)), rgb + 3 * i, 3);
    nn_scope_begin(nn);
    nn_no_grad_begin(nn);
    struct nn_tensor *x = nn_images_u8(nn, 1, SQUARE, SQUARE, turned, nn_imagenet_mean, nn_imagenet_std);
    nn_to_f32(nn, nn_sigmoid(nn, fpn_forward(fpn, x, false)), p, SQUARE * SQUARE);
    nn_no_grad_end(nn);
    nn_scope_end(nn);
    for (int i = 0; i < SQUARE * SQUARE; i++)
        out[i] = p[(i / SQUARE ^ down) * SQUARE + (i % SQUARE ^ right)];
}

/* The frame by hand: resized, without colour where fg is 0, seen, enlarged. */
static void frame_by_hand(const struct fpn *fpn, int height, int width, const uint8_t *rgb, const uint8_t *fg,
                          bool tta, float *value)
{
    static const uint8_t mean[3] = {124, 116, 104};
    struct nn *nn = nn_params_context(fpn->params);
    const struct ws2_image from = {width, height, 3, (uint8_t *)rgb, 0};
    struct ws2_image to = {0};
    float one[SQUARE * SQUARE], sum[SQUARE * SQUARE] = {0};
    assert_int_equal(ws2_image_resize(&to, &from, SQUARE, SQUARE, WS2_PIL_BILINEAR, NULL), 0);
    for (int i = 0; i < SQUARE * SQUARE; i++) {
        const int y = (2 * (i / SQUARE) + 1) * height / (2 * SQUARE),
                  x = (2 * (i % SQUARE) + 1) * width / (2 * SQUARE);
        if (fg && !fg[y * width + x])
            memcpy(to.data + 3 * i, mean, 3);
    }
    for (int which = 0; which < (tta ? 4 : 1); which++) {
        see(fpn, to.data, which, one);
        for (int i = 0; i < SQUARE * SQUARE; i++)
            sum[i] += one[i] / (tta ? 4 : 1);
    }
    ws2_image_free(&to);
    nn_scope_begin(nn);
    struct nn_tensor *y = nn_from_f32(nn, ws2_shape_4(1, 1, SQUARE, SQUARE), sum);
    nn_to_f32(nn, nn_resize_bilinear(nn, y, height, width, false), value, (size_t)(height * width));
    nn_scope_end(nn);
    for (int i = 0; fg && i < height * width; i++)
        value[i] = fg[i] ? value[i] : 0;
}

static void test_frames(void **state)
{
    (void)state;
    static const int size[][2] = {{50, 70}, {64, 64}, {131, 66}, {1, 1}, {9, 200}, {64, 63}};
    static uint8_t rgb[131 * 200 * 3], fg[131 * 200];
    static float want[131 * 200];
    struct fpn fpn;
    struct fpn_frame frame = {NULL};
    generator_image("frames", rgb, sizeof rgb);
    for (size_t i = 0; i < sizeof fg; i++)
        fg[i] = i / 37 % 3 > 0;
    open_fpn(&fpn, &modes[1], info_of(8, SQUARE));
    assert_int_equal(generator_fill(fpn.params, NULL), 0);
    for (int i = 0; i < 6; i++)
        for (int kind = 0; kind < 4; kind++) {
            const int h = size[i][0], w = size[i][1];
            const uint8_t *mask = kind & 1 ? fg : NULL;
            frame_by_hand(&fpn, h, w, rgb, mask, kind & 2, want);
            run_frame(&fpn, h, w, rgb, mask, kind & 2, &frame);
            for (int k = 0; k < h * w; k++) {
                if (!(fabsf(frame.value[k] - want[k]) <= 1e-5f))
                    fail_msg("%dx%d, kind %d: %g is not %g", h, w, kind, (double)frame.value[k],
                             (double)want[k]);
                assert_true(frame.value[k] >= 0 && frame.value[k] <= 1);
            }
        }
    fpn_frame_free(&frame);
    close_fpn(&fpn);
}

/* Nothing is nothing, too much is refused, and an error of the network is reported and forgotten. */
static void test_odd_frames(void **state)
{
    (void)state;
    static uint8_t rgb[SQUARE * SQUARE * 3], fg[SQUARE * SQUARE];
    struct fpn fpn;
    struct fpn_frame frame = {NULL};
    struct ws2_error error = {0};
    struct nn *nn = open_fpn(&fpn, &modes[1], info_of(16, SQUARE));
    assert_int_equal(generator_fill(fpn.params, NULL), 0);
    assert_int_equal(fpn_frame_run(&fpn, 0, 70, rgb, fg, true, &frame, &error), 0);
    assert_int_equal(fpn_frame_run(&fpn, 50, 0, rgb, NULL, false, &frame, &error), 0);
    assert_null(frame.value);
    assert_int_equal(fpn_frame_run(&fpn, 1, WS2_IMAGE_SIDE_MAX + 1, rgb, NULL, false, &frame, &error),
                     WS2_ERR_INPUT);
    error = (struct ws2_error){0};
    nn_fail(nn, WS2_ERR_SYSTEM, "no reason");
    assert_int_equal(fpn_frame_run(&fpn, SQUARE, SQUARE, rgb, NULL, false, &frame, &error), WS2_ERR_SYSTEM);
    assert_null(nn_error(nn));
    run_frame(&fpn, SQUARE, SQUARE, rgb, fg, true, &frame);
    for (int i = 0; i < SQUARE * SQUARE; i++) /* nothing lies on the belt */
        assert_true(frame.value[i] == 0);
    fpn_frame_free(&frame);
    close_fpn(&fpn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_no_such_network),
        cmocka_unit_test(test_saved_and_shared),
        cmocka_unit_test(test_wrong_files),
        cmocka_unit_test(test_begin),
        cmocka_unit_test(test_wrong_trunks),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_odd_frames),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
