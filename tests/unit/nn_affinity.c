/* Networks of affinities: outputs, losses and gradients against PyTorch, what learns and what stays, files, frames. */
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
#include "mask/mask.h"
#include "models/learner.h"
#include "modes_help.h"

#define FIXTURE "tests/golden/affinity.safetensors"

static struct affinity_info info_of(enum affinity_kind kind, int cell, int size)
{
    return (struct affinity_info){kind, 18, cell, size};
}

/* A network of its own context, empty. */
static struct nn *open_affinity(struct affinity *affinity, const struct nn_options *options,
                                struct affinity_info info)
{
    struct ws2_error error = {0};
    struct nn *nn = open_nn(options);
    must_be_good(affinity_open(affinity, nn, &info, &error), &error);
    return nn;
}

static void close_affinity(struct affinity *affinity)
{
    struct nn *nn = nn_params_context(affinity->params);
    if (nn_error(nn))
        fail_msg("%s", nn_error(nn));
    affinity_close(affinity);
    nn_close(nn);
}

/* ---- the same numbers as PyTorch ------------------------------------------------------------------------------- */

static void compare_network(const struct nn_options *mode, const struct nn_weights *weights,
                            enum affinity_kind kind, int cell)
{
    uint8_t rgb[2][64 * 64 * 3];
    char name[32] = "edges";
    struct affinity affinity;
    struct nn *nn = open_affinity(&affinity, mode, info_of(kind, cell, 64));
    assert_int_equal(generator_fill(affinity.params, NULL), 0);
    generator_image("image", rgb[0], sizeof rgb[0]);
    for (int i = 0; i < 64 * 64; i++)
        memcpy(rgb[1] + 3 * i, rgb[0] + 3 * (i / 64 * 64 + 63 - i % 64), 3);
    nn_no_grad_begin(nn);
    struct nn_tensor *x =
        nn_images_u8(nn, kind == AFFINITY_EDGES ? 2 : 1, 64, 64, rgb[0], nn_imagenet_mean, nn_imagenet_std);
    struct nn_tensor *y = affinity_forward(&affinity, x, false);
    if (kind == AFFINITY_FEATURES)
        snprintf(name, sizeof name, "features.%d", cell);
    assert_int_equal(nn_dim(y, 1), affinity_channels(&affinity.info));
    assert_int_equal(nn_dim(y, 2), affinity_cells(&affinity.info));
    golden_compare(nn, weights, name, y, kind == AFFINITY_EDGES ? 1 : 101);
    nn_no_grad_end(nn);
    close_affinity(&affinity);
}

static void test_networks(void **state)
{
    (void)state;
    struct nn_weights *weights = golden_open(FIXTURE);
    for (int m = 0; m < MODES; m++) {
        compare_network(&modes[m], weights, AFFINITY_FEATURES, 8);
        compare_network(&modes[m], weights, AFFINITY_FEATURES, 16);
        compare_network(&modes[m], weights, AFFINITY_EDGES, 4);
    }
    nn_weights_close(weights);
}

static void compare_loss(int radius, const char *kind, const struct ws2_affinity_loss *loss,
                         const float *gradient, size_t count)
{
    char name[64];
    snprintf(name, sizeof name, "loss.%d.%s", radius, kind);
    double *want = read_golden(FIXTURE, name, 4), largest = 0;
    const double have[] = {loss->mean[0], loss->mean[1], loss->mean[2], loss->total};
    for (int i = 0; i < 4; i++)
        if (!(fabs(have[i] - want[i]) <= 1e-6 * fabs(want[i])))
            fail_msg("%s: %.9g is not %.9g", name, have[i], want[i]);
    free(want);
    snprintf(name, sizeof name, "gradient.%d.%s", radius, kind);
    want = read_golden(FIXTURE, name, count);
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(want[i]));
    assert_true(largest > 1e-4);
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)gradient[i] - want[i]) <= 1e-5 * largest))
            fail_msg("%s: %.9g is not %.9g", name, (double)gradient[i], want[i]);
    free(want);
}

/* Labels 0, 1, 2 and unknown in equal shares. */
static void make_labels(const char *key, uint8_t *label, size_t count)
{
    static const uint8_t known[] = {0, 1, 2, WS2_SEED_UNKNOWN};
    generator_image(key, label, count);
    for (size_t i = 0; i < count; i++)
        label[i] = known[label[i] % 4];
}

static void test_losses(void **state)
{
    (void)state;
    enum { FEATURES = 2 * 7 * 13 * 15, EDGES = 2 * 23 * 25 };
    float feature[FEATURES], edge[EDGES], gradient[FEATURES];
    uint8_t label[EDGES];
    struct ws2_affinity_loss loss;
    generator_floats("affinity features", feature, FEATURES, 1);
    make_labels("affinity labels features", label, 2 * 13 * 15);
    assert_int_equal(ws2_affinity_features(feature, label, 2, 7, 13, 15, 5, &loss, gradient, NULL), 0);
    compare_loss(5, "features", &loss, gradient, FEATURES);
    generator_floats("affinity edges", edge, EDGES, 1);
    make_labels("affinity labels edges", label, EDGES);
    for (int i = 0; i < EDGES; i++)
        edge[i] = fabsf(edge[i]);
    for (int radius = 5; radius <= 10; radius += 5) {
        assert_int_equal(ws2_affinity_edges(edge, label, 2, 23, 25, radius, &loss, gradient, NULL), 0);
        compare_loss(radius, "edges", &loss, gradient, EDGES);
    }
}

/* ---- the task ---------------------------------------------------------------------------------------------------- */

enum { SIDE = 96, COUNT = 2 };

/* Two pictures of four flat quarters with noise, and their seeds, of which one in four is not known. */
struct pictures {
    uint8_t rgb[COUNT * SIDE * SIDE * 3], seeds[COUNT * SIDE * SIDE];
    struct ws2_batch batch;
};

static struct pictures *make_pictures(int cells)
{
    static struct pictures p;
    generator_image("pictures", p.rgb, sizeof p.rgb);
    generator_image("seeds", p.seeds, sizeof p.seeds);
    for (int i = 0; i < COUNT * SIDE * SIDE; i++)
        for (int c = 0; c < 3; c++) {
            const int quarter = 2 * (i / SIDE % SIDE >= SIDE / 2) + (i % SIDE >= SIDE / 3);
            uint8_t *value = &p.rgb[3 * i + c];
            *value = (uint8_t)(*value / 8 + 60 * ((quarter + c) % 4));
        }
    for (int i = 0; i < COUNT * cells * cells; i++) {
        const int quarter = 2 * (i / cells % cells >= cells / 2) + (i % cells >= cells / 3);
        p.seeds[i] = p.seeds[i] % 4 ? (uint8_t)(quarter % 3) : WS2_SEED_UNKNOWN;
    }
    p.batch =
        (struct ws2_batch){.rgb = p.rgb, .seeds = p.seeds, .count = COUNT, .size = SIDE, .cells = cells};
    return &p;
}

static const struct ws2_moment learning = {true, 0, 1, 1}, validating = {false, 1, 1, 1};

static double loss_of(struct affinity *affinity, const struct ws2_batch *batch,
                      const struct ws2_moment *moment, double mean[WS2_PAIR_KINDS], bool backward)
{
    struct nn *nn = nn_params_context(affinity->params);
    const struct ws2_task task = affinity_task(affinity);
    struct nn_tensor *part[WS2_PARTS_MAX] = {NULL};
    struct ws2_tally tally = {0};
    nn_scope_begin(nn);
    struct nn_tensor *loss = task.loss(task.context, batch, moment, part, moment->training ? NULL : &tally);
    const double value = nn_item(nn, loss);
    assert_true(nn_error(nn) || nn_rank(loss) == 0);
    for (int i = 0; mean && i < WS2_PAIR_KINDS; i++)
        mean[i] = nn_item(nn, part[i]);
    assert_null(part[WS2_PAIR_KINDS]);
    if (backward)
        nn_backward(nn, loss);
    nn_scope_end(nn);
    return value;
}

/* The loss of what the network makes of the batch, computed here. */
static struct ws2_affinity_loss judge(const struct affinity *affinity, const struct ws2_batch *batch,
                                      bool training)
{
    struct nn *nn = nn_params_context(affinity->params);
    const bool edges = affinity->info.kind == AFFINITY_EDGES;
    const int cells = batch->cells, channels = affinity_channels(&affinity->info);
    const size_t count = (size_t)(COUNT * channels * cells * cells);
    float *value = ws2_calloc(count, sizeof *value);
    struct ws2_affinity_loss loss;
    nn_scope_begin(nn);
    struct nn_tensor *y = affinity_forward(affinity, ws2_batch_images(nn, batch, batch->rgb), training);
    nn_to_f32(nn, edges ? nn_sigmoid(nn, y) : y, value, count);
    nn_scope_end(nn);
    assert_int_equal(
        edges
            ? ws2_affinity_edges(value, batch->seeds, COUNT, cells, cells, 10, &loss, NULL, NULL)
            : ws2_affinity_features(value, batch->seeds, COUNT, channels, cells, cells, 5, &loss, NULL, NULL),
        0);
    free(value);
    return loss;
}

/* One parameter moved by `step` times a direction. */
static void move(struct affinity *affinity, int index, const float *value, const float *direction,
                 double step, size_t count)
{
    float *moved = ws2_calloc(count, sizeof *moved);
    for (size_t i = 0; i < count; i++)
        moved[i] = (float)((double)value[i] + step * (double)direction[i]);
    assert_int_equal(nn_params_fill(affinity->params, index, moved, count), 0);
    free(moved);
}

/* Along its own direction the gradient is as long as the loss is steep. */
static void check_slope(struct affinity *affinity, const struct ws2_batch *batch, const char *name)
{
    struct nn *nn = nn_params_context(affinity->params);
    const int index = nn_params_find(affinity->params, name);
    assert_true(index >= 0);
    struct nn_tensor *tensor = nn_params_at(affinity->params, index)->tensor;
    const size_t count = (size_t)nn_count(tensor);
    float *value = ws2_calloc(count, sizeof *value), *direction = ws2_calloc(count, sizeof *direction);
    double square = 0;
    nn_params_zero_grad(affinity->params);
    loss_of(affinity, batch, &learning, NULL, true);
    nn_scope_begin(nn);
    assert_int_equal(nn_to_f32(nn, tensor, value, count), 0);
    assert_int_equal(nn_to_f32(nn, nn_leaf_grad(nn, tensor), direction, count), 0);
    nn_scope_end(nn);
    for (size_t i = 0; i < count; i++)
        square += (double)direction[i] * (double)direction[i];
    const double length = sqrt(square), step = 1e-3 / length;
    assert_true(length > 1e-3);
    move(affinity, index, value, direction, step, count);
    const double up = loss_of(affinity, batch, &learning, NULL, false);
    move(affinity, index, value, direction, -step, count);
    const double down = loss_of(affinity, batch, &learning, NULL, false);
    move(affinity, index, value, direction, 0, count);
    const double steep = (up - down) / 2e-3;
    if (!(fabs(steep - length) <= 2e-3 * length))
        fail_msg("%s: the loss is %.6g steep, the gradient %.6g long", name, steep, length);
    free(value);
    free(direction);
}

static void test_task(void **state)
{
    (void)state;
    static const char *const name[2][3] = {{"f8_4.weight", "f9.weight", "f8_5.weight"},
                                           {"fc_edge3.0.weight", "fc_edge5.1.bias", "fc_edge6.weight"}};
    static const char *const part[] = {"belt", "thing", "other"};
    for (int kind = 0; kind < 2; kind++)
        for (int m = 0; m < MODES; m++) {
            struct affinity affinity;
            double mean[WS2_PAIR_KINDS];
            struct nn *nn = open_affinity(&affinity, &modes[m], info_of((enum affinity_kind)kind, 0, SIDE));
            const double limit = nn_precision(nn) == NN_F64_MODE ? 1e-12 : 1e-6;
            assert_int_equal(generator_fill(affinity.params, NULL), 0);
            const struct ws2_batch *batch = &make_pictures(affinity_cells(&affinity.info))->batch;
            for (int i = 0; i < WS2_PAIR_KINDS; i++)
                assert_string_equal(affinity_task(&affinity).part[i], part[i]);
            for (int training = 1; training >= 0; training--) {
                const struct ws2_affinity_loss want = judge(&affinity, batch, training);
                const double have =
                    loss_of(&affinity, batch, training ? &learning : &validating, mean, false);
                assert_true(want.total > 0.1 && fabs(have - want.total) <= limit * want.total);
                for (int i = 0; i < WS2_PAIR_KINDS; i++)
                    assert_true(want.mean[i] > 0 && fabs(mean[i] - want.mean[i]) <= limit * want.mean[i]);
            }
            for (int i = 0; m == 0 && i < 3; i++)
                check_slope(&affinity, batch, name[kind][i]);
            close_affinity(&affinity);
        }
}

static void expect_no_loss(struct affinity *affinity, const struct ws2_batch *batch, int status,
                           const char *reason)
{
    struct nn *nn = nn_params_context(affinity->params);
    struct ws2_error error = {0};
    loss_of(affinity, batch, &learning, NULL, false);
    assert_int_equal(nn_check(nn, &error), status);
    if (strstr(error.text, reason) == NULL)
        fail_msg("'%s' does not say '%s'", error.text, reason);
    nn_error_clear(nn);
}

static void test_task_refuses(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct affinity affinity;
        open_affinity(&affinity, &modes[1], info_of((enum affinity_kind)kind, 0, SIDE));
        assert_int_equal(generator_fill(affinity.params, NULL), 0);
        const int cells = affinity_cells(&affinity.info);
        expect_no_loss(&affinity, &make_pictures(cells + 1)->batch, WS2_ERR_USAGE, "cells");
        struct pictures *p = make_pictures(cells);
        memset(p->seeds, WS2_SEED_UNKNOWN, sizeof p->seeds);
        expect_no_loss(&affinity, &p->batch, WS2_ERR_INPUT, "no two seeds");
        assert_true(loss_of(&affinity, &p->batch, &validating, NULL, false) == 0);
        p = make_pictures(cells);
        const float not_a_number = NAN;
        float *bad = ws2_calloc(512 * 512, sizeof *bad);
        const int mix = nn_params_find(affinity.params, kind ? "fc_edge6.weight" : "f9.weight");
        for (int i = 0; i < 512 * 512; i++)
            bad[i] = not_a_number;
        assert_int_equal(nn_params_fill(affinity.params, mix, bad, kind ? 160 : 512 * 512), 0);
        expect_no_loss(&affinity, &p->batch, WS2_ERR_MODEL, "lower learning rate");
        free(bad);
        close_affinity(&affinity);
    }
}

/* ---- what learns and what stays ------------------------------------------------------------------------------------- */

/* A classifier's weights, as ws2-train writes them. */
static const char *write_classifier(uint64_t seed)
{
    const char *path = in_folder("classifier.safetensors");
    struct classifier_info info = {.net = {18, RESNET_STRIDE_16, RESNET_HEAD_MAPS, 3},
                                   .class_name = {"after", "before", "bg"},
                                   .size = SIDE};
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

enum { PARAMS_MAX = 256 };

/* Values of all parameters. */
struct values {
    float *value[PARAMS_MAX];
};

static struct values copy_values(const struct nn_params *params)
{
    struct values out = {{NULL}};
    assert_true(nn_params_count(params) <= PARAMS_MAX);
    for (int i = 0; i < nn_params_count(params); i++) {
        const struct nn_param *param = nn_params_at(params, i);
        const size_t count = (size_t)nn_count(param->tensor);
        out.value[i] = ws2_calloc(count, sizeof(float));
        assert_int_equal(nn_to_f32(nn_params_context(params), param->tensor, out.value[i], count), 0);
    }
    return out;
}

static void free_values(struct values *values)
{
    for (int i = 0; i < PARAMS_MAX; i++)
        free(values->value[i]);
}

static bool starts(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Has a step to move this parameter? */
static bool learns(enum affinity_kind kind, bool given, const char *name)
{
    const bool deep = starts(name, "layer2") || starts(name, "layer3") || starts(name, "layer4");
    const bool convolution = strstr(name, ".conv") || strstr(name, "downsample.0");
    return !given || starts(name, "f") || (kind == AFFINITY_FEATURES && deep && convolution);
}

static void check_step(enum affinity_kind kind, const char *path)
{
    const struct learner_info info = {.method =
                                          kind == AFFINITY_EDGES ? WS2_METHOD_EDGES : WS2_METHOD_FEATURES,
                                      .affinity = info_of(kind, kind == AFFINITY_EDGES ? 4 : 8, SIDE)};
    const struct ws2_optimiser_options options = {WS2_OPTIMISER_AUTO, NAN, NAN, NAN};
    struct learner learner;
    struct ws2_plan plan;
    struct ws2_error error = {0};
    struct nn *nn = open_nn(&modes[1]);
    must_be_good(learner_open(&learner, nn, &info, 7, path, NULL, &error), &error);
    must_be_good(learner_plan(&learner, &plan, &options, &error), &error);
    const struct nn_params *params = learner_params(&learner);
    struct nn_optim *optim = nn_optim_new(learner_params(&learner), &plan.optim);
    struct values before = copy_values(params), after;
    loss_of(&learner.affinity, &make_pictures(learner_cells(&info))->batch, &learning, NULL, true);
    nn_optim_step(optim, plan.lr);
    must_be_good(nn_check(nn, &error), &error);
    after = copy_values(params);
    for (int i = 0; i < nn_params_count(params); i++) {
        const struct nn_param *param = nn_params_at(params, i);
        const size_t bytes = (size_t)nn_count(param->tensor) * sizeof(float);
        const bool moved = memcmp(before.value[i], after.value[i], bytes) != 0;
        if (moved != learns(kind, path, param->name))
            fail_msg("%s of %s has %smoved", param->name, affinity_name(kind), moved ? "" : "not ");
    }
    free_values(&before);
    free_values(&after);
    nn_optim_free(optim);
    learner_close(&learner);
    nn_close(nn);
}

static void test_given_trunks_stay(void **state)
{
    (void)state;
    const char *path = write_classifier(3);
    check_step(AFFINITY_EDGES, path);
    check_step(AFFINITY_FEATURES, path);
}

static void test_without_a_file_all_learns(void **state)
{
    (void)state;
    check_step(AFFINITY_EDGES, NULL);
    check_step(AFFINITY_FEATURES, NULL);
}

/* The trunk is the file's, the head what the seed drew; the digest is the file's. */
static void test_begin(void **state)
{
    (void)state;
    const char *path = write_classifier(4);
    struct affinity given, drawn;
    struct nn_load_report report;
    struct ws2_error error = {0};
    char digest[NN_DIGEST_SIZE];
    struct nn_weights *weights = golden_open(path);
    open_affinity(&given, &modes[1], info_of(AFFINITY_FEATURES, 8, SIDE));
    open_affinity(&drawn, &modes[1], info_of(AFFINITY_FEATURES, 8, SIDE));
    must_be_good(affinity_begin(&given, 7, path, &report, &error), &error);
    must_be_good(affinity_begin(&drawn, 7, NULL, NULL, &error), &error);
    assert_int_equal(nn_weights_digest(weights, digest, &error), 0);
    assert_string_equal(given.digest, digest);
    assert_string_equal(drawn.digest, "");
    assert_true(given.given && !drawn.given);
    assert_int_equal(report.skipped, 4);
    assert_int_equal(report.ignored, 1); /* the classifier's head */
    struct values a = copy_values(given.params), b = copy_values(drawn.params);
    for (int i = 0; i < nn_params_count(given.params); i++) {
        const struct nn_param *param = nn_params_at(given.params, i);
        const size_t count = (size_t)nn_count(param->tensor);
        const int index = nn_weights_find(weights, param->name);
        assert_int_equal(index >= 0, param->name[0] != 'f');
        if (index >= 0)
            assert_int_equal(nn_weights_read_f32(weights, index, b.value[i], count, NULL), 0);
        assert_memory_equal(a.value[i], b.value[i], count * sizeof(float));
    }
    free_values(&a);
    free_values(&b);
    nn_weights_close(weights);
    close_affinity(&given);
    close_affinity(&drawn);
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static void save(const struct affinity *affinity, const char *path)
{
    const struct learner learner = {
        .info.method = affinity->info.kind ? WS2_METHOD_EDGES : WS2_METHOD_FEATURES, .affinity = *affinity};
    struct ws2_meta meta = {0};
    struct ws2_error error = {0};
    learner_describe(&learner, &meta);
    must_be_good(ws2_checkpoint_save(affinity->params, &meta, path, &error), &error);
}

static size_t run_frame(const struct affinity *affinity, int64_t height, int64_t width, const uint8_t *rgb,
                        struct affinity_frame *frame)
{
    struct ws2_error error = {0};
    const int64_t cell = affinity->info.cell;
    must_be_good(affinity_frame_run(affinity, height, width, rgb, frame, &error), &error);
    return (size_t)(affinity_channels(&affinity->info) * ((height + cell - 1) / cell) *
                    ((width + cell - 1) / cell));
}

/* What is saved, read and shared gives the same bytes, again and again. */
static void test_saved_and_shared(void **state)
{
    (void)state;
    uint8_t rgb[50 * 70 * 3];
    generator_image("frame", rgb, sizeof rgb);
    for (int i = 0; i < 3; i++) {
        const struct affinity_info info = info_of(i ? AFFINITY_FEATURES : AFFINITY_EDGES, i ? 8 * i : 0, 64);
        const char *path = in_folder("affinity.safetensors");
        struct affinity made, read, twin;
        struct affinity_frame frame[3] = {{NULL}};
        struct ws2_error error = {0};
        open_affinity(&made, &modes[1], info);
        assert_int_equal(generator_fill(made.params, NULL), 0);
        save(&made, path);
        must_be_good(affinity_read(&read, open_nn(&modes[1]), path, &error), &error);
        must_be_good(affinity_twin(&twin, open_nn(&modes[1]), &read, &error), &error);
        assert_memory_equal(&read.info, &made.info, sizeof info);
        assert_memory_equal(&twin.info, &made.info, sizeof info);
        assert_string_equal(twin.digest, read.digest);
        assert_int_equal(strlen(read.digest), NN_DIGEST_SIZE - 1);
        const size_t count = run_frame(&made, 50, 70, rgb, &frame[0]);
        for (int again = 0; again < 2; again++) {
            run_frame(&read, 50, 70, rgb, &frame[1]);
            run_frame(&twin, 50, 70, rgb, &frame[2]);
            assert_memory_equal(frame[1].value, frame[0].value, count * sizeof(float));
            assert_memory_equal(frame[2].value, frame[0].value, count * sizeof(float));
        }
        for (int k = 0; k < 3; k++)
            affinity_frame_free(&frame[k]);
        close_affinity(&twin);
        close_affinity(&read);
        close_affinity(&made);
    }
}

static void expect_unread(const char *path, const char *reason)
{
    struct affinity affinity;
    struct ws2_error error = {0};
    struct nn *nn = open_nn(&modes[1]);
    assert_int_equal(affinity_read(&affinity, nn, path, &error), WS2_ERR_MODEL);
    if (!starts(error.text, path) || strstr(error.text, reason) == NULL)
        fail_msg("'%s' does not say '%s'", error.text, reason);
    assert_null(affinity.params);
    nn_close(nn);
}

/* A file of these facts and of one number. */
static const char *write_facts(const char *const value[4])
{
    static const char *const key[] = {"affinity", "backbone", "cell", "size"};
    const char *path = in_folder("odd.safetensors");
    struct nn_saver *saver = nn_saver_new(path);
    const float number = 1;
    for (int i = 0; i < 4; i++)
        if (value[i])
            nn_saver_meta(saver, key[i], value[i]);
    nn_saver_add(saver, "f9.weight", NN_F32, ws2_shape_1(1), (const uint8_t *)&number, sizeof number);
    assert_int_equal(nn_saver_finish(saver, NULL), 0);
    nn_saver_free(saver);
    return path;
}

static void test_wrong_files(void **state)
{
    (void)state;
    static const struct {
        const char *value[4], *reason;
    } odd[] = {
        {{NULL, "resnet18", "8", "64"}, "know no affinities"},
        {{"both", "resnet18", "8", "64"}, "'affinity' is 'both'"},
        {{"features", "resnet19", "8", "64"}, "'backbone' is 'resnet19'"},
        {{"features", NULL, "8", "64"}, "'backbone' is ''"},
        {{"features", "resnet18", NULL, "64"}, "'cell' is ''"},
        {{"features", "resnet18", "0", "64"}, "'cell' is '0'"},
        {{"features", "resnet18", "4", "64"}, "'cell' is '4'"},
        {{"features", "resnet18", "99", "64"}, "'cell' is '99'"},
        {{"edges", "resnet18", "8", "64"}, "'cell' is '8'"},
        {{"edges", "resnet18", "4", NULL}, "'size' is ''"},
        {{"edges", "resnet18", "4", "-64"}, "'size' is '-64'"},
        {{"edges", "resnet18", "4", "65536"}, "'size' is '65536'"},
        {{"edges", "resnet18", "4", "big"}, "'size' is 'big'"},
        {{"features", "resnet18", "8", "64"}, "conv1.weight"},
        {{"edges", "resnet18", "4", "64"}, "conv1.weight"},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        expect_unread(write_facts(odd[i].value), odd[i].reason);
    expect_unread(write_classifier(1), "know no affinities");
}

/* A trunk from a file that has none, and of another depth. */
static void test_wrong_trunks(void **state)
{
    (void)state;
    static const char *const facts[4] = {NULL};
    for (int i = 0; i < 2; i++) {
        const char *path = i ? write_classifier(1) : write_facts(facts);
        struct affinity affinity;
        struct ws2_error error = {0};
        struct affinity_info info = info_of(AFFINITY_EDGES, 4, SIDE);
        info.depth = i ? 34 : 18;
        open_affinity(&affinity, &modes[1], info);
        assert_int_equal(affinity_begin(&affinity, 1, path, NULL, &error), WS2_ERR_MODEL);
        if (!starts(error.text, path) || strstr(error.text, i ? "layer1.2" : "conv1.weight") == NULL)
            fail_msg("'%s'", error.text);
        close_affinity(&affinity);
    }
}

static void test_no_such_network(void **state)
{
    (void)state;
    static const struct affinity_info bad[] = {
        {AFFINITY_FEATURES, 18, 4, 64}, {AFFINITY_EDGES, 18, 8, 64}, {AFFINITY_FEATURES, 18, -8, 64}};
    struct nn *nn = open_nn(&modes[1]);
    struct affinity affinity;
    for (int i = 0; i < 3; i++) {
        struct ws2_error error = {0};
        assert_int_equal(affinity_open(&affinity, nn, &bad[i], &error), WS2_ERR_USAGE);
        assert_non_null(strstr(error.text, "possible"));
        assert_null(affinity.params);
    }
    nn_close(nn);
}

/* ---- frames --------------------------------------------------------------------------------------------------------- */

/* At the network's size: the mean of the fixture's logits of the picture and, mirrored back, of the mirrored one. */
static void test_edges_of_a_frame(void **state)
{
    (void)state;
    uint8_t rgb[64 * 64 * 3];
    double *logit = read_golden(FIXTURE, "edges", 2 * 16 * 16);
    struct affinity affinity;
    struct affinity_frame frame = {NULL};
    generator_image("image", rgb, sizeof rgb);
    open_affinity(&affinity, &modes[1], info_of(AFFINITY_EDGES, 4, 64));
    assert_int_equal(generator_fill(affinity.params, NULL), 0);
    assert_int_equal(run_frame(&affinity, 64, 64, rgb, &frame), 16 * 16);
    for (int i = 0; i < 16 * 16; i++) {
        const double mean = 0.5 * (logit[i] + logit[256 + i / 16 * 16 + 15 - i % 16]);
        assert_true(fabs((double)frame.value[i] - 1 / (1 + exp(-mean))) < 1e-4);
    }
    free(logit);
    affinity_frame_free(&frame);
    close_affinity(&affinity);
}

/* Of another size: Pillow's resizing before and bilinear after. */
static void check_other_size(const struct affinity *affinity, int height, int width, const uint8_t *rgb,
                             struct affinity_frame *frame)
{
    struct nn *nn = nn_params_context(affinity->params);
    const int size = affinity->info.size, cells = affinity_cells(&affinity->info), cell = affinity->info.cell,
              rows = (height + cell - 1) / cell, columns = (width + cell - 1) / cell;
    const struct ws2_image from = {width, height, 3, (uint8_t *)rgb, 0};
    struct ws2_image to = {0};
    struct affinity_frame square = {NULL};
    assert_int_equal(ws2_image_resize(&to, &from, size, size, WS2_PIL_BILINEAR, NULL), 0);
    run_frame(affinity, size, size, to.data, &square);
    const size_t count = run_frame(affinity, height, width, rgb, frame);
    float *want = ws2_calloc(count, sizeof *want);
    const int64_t channels = affinity_channels(&affinity->info);
    nn_scope_begin(nn);
    struct nn_tensor *y = nn_from_f32(nn, ws2_shape_4(1, channels, cells, cells), square.value);
    nn_to_f32(nn, nn_resize_bilinear(nn, y, rows, columns, false), want, count);
    nn_scope_end(nn);
    for (size_t i = 0; i < count; i++) {
        assert_true(fabsf(frame->value[i] - want[i]) <= 1e-5f * fmaxf(1, fabsf(want[i])));
        assert_true(affinity->info.kind == AFFINITY_FEATURES ||
                    (frame->value[i] >= 0 && frame->value[i] <= 1));
    }
    free(want);
    ws2_image_free(&to);
    affinity_frame_free(&square);
}

static void test_frames_of_any_size(void **state)
{
    (void)state;
    static const int size[][2] = {{50, 70}, {64, 64}, {131, 66}, {1, 1}, {9, 200}, {64, 63}};
    static uint8_t rgb[131 * 200 * 3];
    generator_image("frames", rgb, sizeof rgb);
    for (int kind = 0; kind < 2; kind++) {
        struct affinity affinity;
        struct affinity_frame frame = {NULL};
        struct ws2_error error = {0};
        open_affinity(&affinity, &modes[1], info_of((enum affinity_kind)kind, 0, 64));
        assert_int_equal(generator_fill(affinity.params, NULL), 0);
        assert_int_equal(affinity_frame_run(&affinity, 0, 70, rgb, &frame, &error), 0);
        assert_int_equal(affinity_frame_run(&affinity, 50, 0, rgb, &frame, &error), 0);
        assert_null(frame.value); /* nothing is nothing */
        for (int i = 0; i < 6; i++)
            check_other_size(&affinity, size[i][0], size[i][1], rgb, &frame);
        assert_int_equal(affinity_frame_run(&affinity, 1, WS2_IMAGE_SIDE_MAX + 1, rgb, &frame, &error),
                         WS2_ERR_INPUT);
        affinity_frame_free(&frame);
        close_affinity(&affinity);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_task),
        cmocka_unit_test(test_task_refuses),
        cmocka_unit_test(test_given_trunks_stay),
        cmocka_unit_test(test_without_a_file_all_learns),
        cmocka_unit_test(test_begin),
        cmocka_unit_test(test_saved_and_shared),
        cmocka_unit_test(test_wrong_files),
        cmocka_unit_test(test_wrong_trunks),
        cmocka_unit_test(test_no_such_network),
        cmocka_unit_test(test_edges_of_a_frame),
        cmocka_unit_test(test_frames_of_any_size),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
