/* RAFT against numbers of torchvision: probes with computed weights, and the fixtures of tests/golden/raft.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "generator.h"
#include "golden.h"
#include "models/raft.h"
#include "probe.h"

static const struct nn_options modes[] = {
    {.device = NN_DEVICE_CPU, .precision = NN_F64_MODE, .threads = 1},
    {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .layout = NN_LAYOUT_CHANNELS_FIRST, .threads = 1},
    {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .layout = NN_LAYOUT_CHANNELS_LAST, .threads = 1},
};
enum { F64, F32, MODES = 3 };

static const enum raft_size sizes[] = {RAFT_SMALL, RAFT_LARGE};

static struct nn *context(int mode)
{
    struct nn *nn;
    struct ws2_error error = {0};
    if (nn_open(&nn, &modes[mode], &error) < 0)
        fail_msg("%s", error.text);
    return nn;
}

static struct raft *drawn(struct nn *nn, enum raft_size size, uint64_t seed)
{
    struct raft *raft;
    struct ws2_error error = {0};
    if (raft_open(&raft, nn, size, seed, &error) < 0)
        fail_msg("%s", error.text);
    return raft;
}

static void drop(struct nn *nn, struct raft *raft)
{
    if (nn_error(nn))
        fail_msg("%s", nn_error(nn));
    raft_close(raft);
    nn_close(nn);
}

/* max |a - b| / max(1, max |b|) */
static double distance(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    const struct nn_axes all = nn_axes_4(0, 1, 2, 3);
    const double gap = nn_item(nn, nn_amax(nn, nn_abs(nn, nn_sub(nn, a, b)), all, false));
    return gap / fmax(1, nn_item(nn, nn_amax(nn, nn_abs(nn, b), all, false)));
}

static void expect_near(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    const double limit = nn_precision(nn) == NN_F64_MODE ? 1e-9 : 1e-4, gap = distance(nn, a, b);
    if (!(gap <= limit))
        fail_msg("differs by %g: %s", gap, nn_error(nn) ? nn_error(nn) : "");
}

/* ---- probes ----------------------------------------------------------------------------------------------- */

/* Numbers of a float32 run: their error is a share of the largest. */
static void probe_near(struct nn *nn, const char *what, struct nn_tensor *x, const double want[7])
{
    const struct probe_numbers got = probe_measure(nn, x);
    for (int i = 0; i < 7; i++)
        if (!(fabs(got.value[i] - want[i]) <= 1e-5 * want[2]))
            fail_msg("%s, number %d: %.10g is not %.10g", what, i, got.value[i], want[i]);
}

static const struct {
    double fmap[7], flow[2][7]; /* after one update and after two */
} probes[] = {
    {{-0.1294645, 1.554608, 8.518253, 0.6130965, 0.4351035, 0.5289115, -1.472152},
     {{1.656744, 2.322104, 7.657907, -0.7729436, 1.457414, 2.087205, -1.685272},
      {3.402049, 4.853994, 15.22374, -2.705221, 3.024019, 5.244969, -4.284241}}},
    {{-0.08828409, 1.486986, 7.517308, 0.5353191, 3.716082, 0.9866777, 1.306655},
     {{-0.322942, 1.586287, 4.471741, 0.6454229, 0.9163477, -0.2021077, -0.03751446},
      {-0.3609369, 2.822605, 7.731278, 1.184479, 1.116057, -0.334563, 0.259524}}},
};

static void test_probes(void **state)
{
    (void)state;
    for (int m = 0; m < MODES; m++) {
        for (int s = 0; s < 2; s++) {
            struct nn *nn = context(m);
            struct raft *raft = drawn(nn, sizes[s], 0);
            probe_fill(raft_params(raft));
            struct raft_frame a = raft_encode(raft, probe_input(nn, "input1", 128), true);
            struct raft_frame b = raft_encode(raft, probe_input(nn, "input2", 128), false);
            assert_int_equal(nn_dim(a.features, 2), 16);
            probe_near(nn, "fmap", a.features, probes[s].fmap);
            probe_near(nn, "flow after 1", raft_flow(raft, &a, &b, 1), probes[s].flow[0]);
            probe_near(nn, "flow after 2", raft_flow(raft, &a, &b, 2), probes[s].flow[1]);
            drop(nn, raft);
        }
    }
}

/* ---- fixtures --------------------------------------------------------------------------------------------- */

static struct nn_tensor *image(struct raft *raft, const char *key, int height, int width)
{
    const size_t count = (size_t)height * (size_t)width * 3;
    uint8_t *rgb = ws2_calloc(count, 1);
    assert_non_null(rgb);
    generator_image(key, rgb, count);
    struct nn_tensor *x = raft_images_u8(raft, 1, height, width, rgb);
    free(rgb);
    return x;
}

struct pair {
    struct raft_frame a, b;
};

static struct pair encoded(struct raft *raft, int height, int width)
{
    return (struct pair){raft_encode(raft, image(raft, "image1", height, width), true),
                         raft_encode(raft, image(raft, "image2", height, width), true)};
}

/* The weights of the fixtures; those of the flow head's last convolution are divided by 8, as raft.py has it. */
static void golden_fill(struct raft *raft)
{
    static const char *const small[] = {"update_block.flow_head.conv2.weight",
                                        "update_block.flow_head.conv2.bias"};
    struct nn *nn = raft_context(raft);
    assert_int_equal(generator_fill(raft_params(raft), NULL), 0);
    nn_no_grad_begin(nn);
    for (int i = 0; i < 2; i++)
        nn_mul_scalar_(
            nn, nn_params_at(raft_params(raft), nn_params_find(raft_params(raft), small[i]))->tensor, 0.125);
    nn_no_grad_end(nn);
}

static void compare(struct raft *raft, const struct nn_weights *weights, const char *what,
                    struct nn_tensor *x, size_t step)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", raft_size_name(raft_size(raft)), what);
    golden_compare(raft_context(raft), weights, name, x, step);
}

static void test_golden(void **state)
{
    (void)state;
    struct nn_weights *weights = golden_open("tests/golden/raft.safetensors");
    for (int m = 0; m < MODES; m++) {
        for (int s = 0; s < 2; s++) {
            struct nn *nn = context(m);
            struct raft *raft = drawn(nn, sizes[s], 0);
            golden_fill(raft);
            struct pair p = encoded(raft, 128, 136), odd = encoded(raft, 100, 141);
            compare(raft, weights, "fmap", p.a.features, 17);
            compare(raft, weights, "flow1", raft_flow(raft, &p.a, &p.b, 1), 37);
            compare(raft, weights, "flow2", raft_flow(raft, &p.a, &p.b, 2), 37);
            compare(raft, weights, "flow12", raft_flow(raft, &p.a, &p.b, RAFT_UPDATES), 37);
            compare(raft, weights, "back2", raft_flow(raft, &p.b, &p.a, 2), 37);
            struct nn_tensor *flow = raft_flow(raft, &odd.a, &odd.b, 3);
            assert_int_equal(nn_dim(flow, 2), 100);
            assert_int_equal(nn_dim(flow, 3), 141);
            compare(raft, weights, "odd3", flow, 37);
            drop(nn, raft);
        }
    }
    nn_weights_close(weights);
}

/* ---- sharing ---------------------------------------------------------------------------------------------- */

static void test_pair(void **state)
{
    (void)state;
    for (int m = 0; m < MODES; m++) {
        for (int s = 0; s < 2; s++) {
            struct nn *nn = context(m);
            struct raft *raft = drawn(nn, sizes[s], 3);
            struct pair p = encoded(raft, 140, 131);
            struct nn_tensor *flow[2];
            assert_int_equal(raft_pair(raft, &p.a, &p.b, 3, flow), 0);
            expect_near(nn, flow[0], raft_flow(raft, &p.a, &p.b, 3));
            expect_near(nn, flow[1], raft_flow(raft, &p.b, &p.a, 3));
            assert_true(distance(nn, flow[0], flow[1]) > 1e-3);
            drop(nn, raft);
        }
    }
}

/* Frames of a batch do not know of each other. */
static void test_batch(void **state)
{
    (void)state;
    for (int s = 0; s < 2; s++) {
        struct nn *nn = context(F64);
        struct raft *raft = drawn(nn, sizes[s], 3);
        struct nn_tensor *x[2] = {image(raft, "image1", 128, 128), image(raft, "image2", 128, 128)};
        struct nn_tensor *y[2] = {x[1], image(raft, "image3", 128, 128)};
        struct raft_frame a = raft_encode(raft, nn_cat(nn, x, 2, 0), true);
        struct raft_frame b = raft_encode(raft, nn_cat(nn, y, 2, 0), true);
        struct nn_tensor *flow[2];
        assert_int_equal(raft_pair(raft, &a, &b, 2, flow), 0);
        for (int i = 0; i < 2; i++) {
            struct raft_frame c = raft_encode(raft, x[i], true), d = raft_encode(raft, y[i], true);
            expect_near(nn, nn_narrow(nn, flow[0], 0, i, 1), raft_flow(raft, &c, &d, 2));
            expect_near(nn, nn_narrow(nn, flow[1], 0, i, 1), raft_flow(raft, &d, &c, 2));
        }
        drop(nn, raft);
    }
}

/* A frame carried through plain memory to a twin in another context gives the same flow. */
static void test_carried(void **state)
{
    (void)state;
    for (int s = 0; s < 2; s++) {
        struct nn *nn = context(F32), *other = context(F32);
        struct raft *raft = drawn(nn, sizes[s], 3), *twin;
        struct ws2_error error = {0};
        assert_int_equal(raft_twin(&twin, other, raft, &error), 0);
        assert_string_equal(raft_digest(twin), raft_digest(raft));
        struct pair p = encoded(raft, 37, 150), q;
        const size_t floats = raft_frame_floats(raft, 37, 150), count = 2 * 37 * 150;
        float *plain = ws2_calloc(floats, sizeof *plain);
        float *flow = ws2_calloc(2 * count, sizeof *flow);
        assert_int_equal(raft_frame_to_f32(raft, &p.a, plain), 0);
        q.a = raft_frame_from_f32(twin, 37, 150, plain);
        assert_int_equal(raft_frame_to_f32(raft, &p.b, plain), 0);
        q.b = raft_frame_from_f32(twin, 37, 150, plain);
        assert_int_equal(nn_to_f32(nn, raft_flow(raft, &p.a, &p.b, 2), flow, count), 0);
        assert_int_equal(nn_to_f32(other, raft_flow(twin, &q.a, &q.b, 2), flow + count, count), 0);
        for (size_t i = 0; i < count; i++)
            assert_true(fabsf(flow[i] - flow[count + i]) <= 1e-4f * fmaxf(1, fabsf(flow[i])));
        free(plain);
        free(flow);
        drop(other, twin);
        drop(nn, raft);
    }
}

/* Frames below the least size are padded, and their flow has their size. */
static void test_tiny(void **state)
{
    (void)state;
    static const int side[][2] = {{1, 1}, {1, 300}, {127, 129}, {8, 8}};
    struct nn *nn = context(F32);
    struct raft *raft = drawn(nn, RAFT_SMALL, 3);
    for (size_t i = 0; i < sizeof side / sizeof *side; i++) {
        struct pair p = encoded(raft, side[i][0], side[i][1]);
        struct nn_tensor *flow[2];
        assert_int_equal(raft_pair(raft, &p.a, &p.b, 1, flow), 0);
        assert_int_equal(nn_dim(flow[1], 2), side[i][0]);
        assert_int_equal(nn_dim(flow[1], 3), side[i][1]);
        assert_true(nn_item(nn, nn_any(nn, nn_isnan(nn, flow[1]))) == 0);
    }
    drop(nn, raft);
}

/* Nothing stays behind but what was asked for. */
static void test_memory(void **state)
{
    (void)state;
    struct nn *nn = context(F32);
    struct raft *raft = drawn(nn, RAFT_LARGE, 3);
    struct pair p = encoded(raft, 128, 128);
    struct nn_tensor *flow[2];
    const int64_t before = nn_tensors_alive(nn);
    assert_int_equal(raft_pair(raft, &p.a, &p.b, 2, flow), 0);
    assert_int_equal(nn_tensors_alive(nn), before + 2);
    raft_frame_drop(raft, &p.a);
    assert_int_equal(nn_tensors_alive(nn), before);
    assert_false(nn_has_grad_path(flow[0]));
    assert_true(nn_grad_enabled(nn));
    drop(nn, raft);
}

/* ---- wrong calls ------------------------------------------------------------------------------------------ */

static void expect_refusal(struct nn *nn, const char *text)
{
    const char *said = nn_error(nn);
    if (!said || !strstr(said, text))
        fail_msg("'%s' lacks '%s'", said ? said : "", text);
    nn_error_clear(nn);
}

static void test_refusals(void **state)
{
    (void)state;
    struct nn *nn = context(F32);
    struct raft *raft = drawn(nn, RAFT_SMALL, 0);
    struct raft_frame a = raft_encode(raft, image(raft, "a", 128, 128), true);
    struct raft_frame b = raft_encode(raft, image(raft, "b", 128, 128), false);
    struct raft_frame c = raft_encode(raft, image(raft, "c", 128, 127), true), none = {0};
    struct nn_tensor *flow[2];
    assert_null(raft_flow(raft, &b, &a, 1));
    expect_refusal(nn, "without context");
    assert_true(raft_pair(raft, &a, &b, 1, flow) < 0);
    assert_null(flow[0]);
    expect_refusal(nn, "without context");
    assert_null(raft_flow(raft, &a, &c, 1));
    expect_refusal(nn, "128x128 and 127x128");
    assert_null(raft_flow(raft, &a, &b, 0));
    expect_refusal(nn, "0 updates");
    assert_null(raft_flow(raft, &a, &none, 1));
    expect_refusal(nn, "not encoded");
    assert_null(raft_encode(raft, a.features, true).features);
    expect_refusal(nn, "[B,3,H,W]");
    struct raft *other;
    struct ws2_error error = {0};
    assert_int_equal(raft_open(&other, nn, RAFT_ANY, 0, &error), WS2_ERR_USAGE);
    assert_null(other);
    drop(nn, raft);
}

/* ---- names, first weights, files -------------------------------------------------------------------------- */

static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        int keys;
        int64_t elements;
        const char *digest; /* the same on every libtorch; a new one means that seeds give other networks */
    } want[] = {{106, 990162, "8e6f9d046293339fdb192660e0a80dd9"},
                {169, 5257536, "dfef40587a52e060613965a2db81e349"}};
    for (int s = 0; s < 2; s++) {
        struct nn *nn = context(F32);
        struct raft *raft = drawn(nn, sizes[s], 7), *other = drawn(nn, sizes[s], 8);
        assert_int_equal(nn_params_count(raft_params(raft)), want[s].keys);
        assert_int_equal(nn_params_elements(raft_params(raft)), want[s].elements);
        assert_string_equal(raft_digest(raft), want[s].digest);
        assert_string_not_equal(raft_digest(raft), raft_digest(other));
        raft_close(other);
        drop(nn, raft);
    }
}

/* How the file of the next test differs from a good one. */
struct flaw {
    const char *left_out, *reshaped, *added;
};

/* Saves the network's parameters as PATH, with a flaw; counters are left out, as in files of an older PyTorch. */
static void save(struct raft *raft, const char *path, const struct flaw *flaw)
{
    struct nn_saver *saver = nn_saver_new(path);
    const struct nn_params *params = raft_params(raft);
    for (int i = 0; i < nn_params_count(params); i++) {
        const struct nn_param *row = nn_params_at(params, i);
        struct ws2_shape shape = row->shape;
        const size_t count = (size_t)nn_count(row->tensor);
        if (row->kind == NN_COUNTER || (flaw->left_out && strcmp(row->name, flaw->left_out) == 0))
            continue;
        if (flaw->reshaped && strcmp(row->name, flaw->reshaped) == 0)
            shape = ws2_shape_2(1, (int64_t)count);
        float *value = ws2_calloc(count, sizeof *value);
        assert_int_equal(nn_to_f32(raft_context(raft), row->tensor, value, count), 0);
        nn_saver_add(saver, row->name, NN_F32, shape, (const uint8_t *)value, 4 * count);
        free(value);
    }
    if (flaw->added)
        nn_saver_add(saver, flaw->added, NN_F32, ws2_shape_1(1), (const uint8_t *)"\0\0\0\0", 4);
    assert_int_equal(nn_saver_finish(saver, NULL), 0);
    nn_saver_free(saver);
}

static void test_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/nn_raft.XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/w.safetensors", folder);
    for (int s = 0; s < 2; s++) {
        struct nn *nn = context(F32);
        struct raft *raft = drawn(nn, sizes[s], 7), *read;
        struct ws2_error error = {0};
        save(raft, path, &(struct flaw){0});
        if (raft_read(&read, nn, path, RAFT_ANY, &error) < 0)
            fail_msg("%s", error.text);
        assert_int_equal(raft_size(read), sizes[s]);
        assert_string_equal(raft_digest(read), raft_digest(raft));
        raft_close(read);
        assert_int_equal(raft_read(&read, nn, path, sizes[1 - s], &error), WS2_ERR_MODEL);
        assert_null(read);
        assert_non_null(
            strstr(error.text, s ? "holds RAFT large, not small" : "holds RAFT small, not large"));
        assert_int_equal(strncmp(error.text, path, strlen(path)), 0);
        drop(nn, raft);
    }
    unlink(path);
    rmdir(folder);
}

static void test_strict(void **state)
{
    (void)state;
    static const struct {
        enum raft_size size;
        struct flaw flaw;
        const char *message;
    } cases[] = {
        {RAFT_SMALL, {.left_out = "update_block.flow_head.conv2.bias"}, "update_block.flow_head.conv2.bias"},
        {RAFT_LARGE, {.left_out = "context_encoder.layer2.0.downsample.1.running_var"}, "running_var"},
        {RAFT_SMALL, {.reshaped = "context_encoder.conv.weight"}, "context_encoder.conv.weight"},
        {RAFT_SMALL, {.added = "mask_predictor.conv.bias"}, "mask_predictor.conv.bias"},
        {RAFT_LARGE, {.reshaped = "feature_encoder.convnormrelu.0.weight"}, "not [32,3,7,7] (small)"},
        {RAFT_SMALL, {.left_out = "feature_encoder.convnormrelu.0.weight"}, "holds no RAFT"},
    };
    char folder[] = "/tmp/nn_raft.XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/w.safetensors", folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct nn *nn = context(F32);
        struct raft *raft = drawn(nn, cases[i].size, 7), *read;
        struct ws2_error error = {0};
        save(raft, path, &cases[i].flaw);
        const int64_t alive = nn_tensors_alive(nn);
        assert_int_equal(raft_read(&read, nn, path, RAFT_ANY, &error), WS2_ERR_MODEL);
        assert_null(read);
        if (!strstr(error.text, cases[i].message))
            fail_msg("'%s' lacks '%s'", error.text, cases[i].message);
        assert_int_equal(nn_tensors_alive(nn), alive);
        drop(nn, raft);
    }
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probes), cmocka_unit_test(test_golden),   cmocka_unit_test(test_pair),
        cmocka_unit_test(test_batch),  cmocka_unit_test(test_carried),  cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_refusals), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_files),  cmocka_unit_test(test_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
