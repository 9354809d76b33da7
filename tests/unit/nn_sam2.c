/*
 * SAM 2 against numbers of the official package (tests/golden/sam2_network.py): the square of 1024 with tiny, one of 256
 * with every size, which keeps the time of the test short and has the windows overlap the edges in another way.
 */
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
#include "models/sam2.h"

enum { HEIGHT = 300, WIDTH = 420 };

static struct nn *context_of(enum nn_precision precision, enum nn_layout layout)
{
    struct nn *nn;
    struct ws2_error error = {0};
    const struct nn_options options = {
        .device = NN_DEVICE_CPU, .precision = precision, .layout = layout, .threads = 2};
    if (nn_open(&nn, &options, &error) < 0)
        fail_msg("%s", error.text);
    return nn;
}

__attribute__((unused)) static struct nn *context(void)
{
    return context_of(NN_F32_MODE, NN_LAYOUT_AUTO);
}

static struct sam2 *drawn(struct nn *nn, enum sam2_size size, uint64_t seed)
{
    struct sam2 *sam2;
    struct ws2_error error = {0};
    if (sam2_open(&sam2, nn, size, seed, &error) < 0)
        fail_msg("%s", error.text);
    return sam2;
}

static void drop(struct nn *nn, struct sam2 *sam2)
{
    if (nn_error(nn))
        fail_msg("%s", nn_error(nn));
    sam2_close(sam2);
    nn_close(nn);
}

static struct sam2_embedding embed(struct sam2 *sam2, int64_t height, int64_t width, int64_t side,
                                   const char *key)
{
    const size_t count = (size_t)(height * width * 3);
    uint8_t *rgb = ws2_calloc(count, 1);
    assert_non_null(rgb);
    generator_image(key, rgb, count);
    const struct sam2_embedding e = sam2_embed_u8(sam2, 1, height, width, rgb, side);
    free(rgb);
    return e;
}

/* The same, its input prepared in double precision: pixels are normalised in float32 otherwise. */
static struct sam2_embedding embed_double(struct sam2 *sam2, int64_t height, int64_t width, int64_t side)
{
    struct nn *nn = sam2_context(sam2);
    const size_t pixels = (size_t)(height * width);
    uint8_t *rgb = ws2_calloc(3 * pixels, 1);
    double *value = ws2_calloc(3 * pixels, sizeof *value);
    assert_non_null(rgb);
    assert_non_null(value);
    generator_image("image", rgb, 3 * pixels);
    static const double mean[] = {0.485, 0.456, 0.406}, std[] = {0.229, 0.224, 0.225};
    for (size_t i = 0; i < 3 * pixels; i++)
        value[i % 3 * pixels + i / 3] = (rgb[i] / 255.0 - mean[i % 3]) / std[i % 3];
    struct nn_tensor *x = nn_from_f64(nn, ws2_shape_4(1, 3, height, width), value);
    struct sam2_embedding e = sam2_encode(sam2, nn_resize_bilinear_aa(nn, x, side, side));
    e.height = height;
    e.width = width;
    free(value);
    free(rgb);
    return e;
}

/* max |a - b| / max(1, max |b|) */
static double distance(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    const double gap =
        nn_item(nn, nn_amax(nn, nn_flatten(nn, nn_abs(nn, nn_sub(nn, a, b)), 0, -1), nn_axes_1(0), false));
    return gap / fmax(1, nn_item(nn, nn_amax(nn, nn_flatten(nn, nn_abs(nn, b), 0, -1), nn_axes_1(0), false)));
}

__attribute__((unused)) static void expect_near(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
{
    const double gap = distance(nn, a, b);
    if (!(gap <= 1e-4))
        fail_msg("differs by %g: %s", gap, nn_error(nn) ? nn_error(nn) : "");
}

/* ---- fixtures --------------------------------------------------------------------------------------------- */

struct golden {
    struct sam2 *sam2;
    struct nn_weights *weights;
    int64_t side;
};

/* As sample() of the fixture's script. */
static void compare(const struct golden *g, const char *what, const char *part, struct nn_tensor *x)
{
    char name[64];
    const size_t count = x ? (size_t)nn_count(x) : 0;
    snprintf(name, sizeof name, "%s%d.%s%s", sam2_size_name(sam2_size(g->sam2)), (int)g->side, what, part);
    golden_compare(sam2_context(g->sam2), g->weights, name, x, count > 512 ? (count / 256) | 1 : 1);
}

static void compare_masks(const struct golden *g, const char *what, const struct sam2_embedding *e,
                          const struct sam2_prompts *prompts, bool multimask)
{
    const struct sam2_masks m = sam2_decode(g->sam2, e, 0, prompts, multimask);
    assert_int_equal(nn_dim(m.logits, 0), prompts->count);
    assert_int_equal(nn_dim(m.logits, 1), multimask ? 3 : 1);
    assert_int_equal(nn_dim(m.logits, 3), g->side / 4);
    compare(g, what, ".logits", m.logits);
    compare(g, what, ".iou", m.iou);
    compare(g, what, ".object", m.object);
}

/* The mask for all prompts becomes one that hangs on the threshold. */
static void shrink_first(struct sam2 *sam2)
{
    static const char *const name[] = {"sam_mask_decoder.output_hypernetworks_mlps.0.layers.2.weight",
                                       "sam_mask_decoder.output_hypernetworks_mlps.0.layers.2.bias"};
    struct nn *nn = sam2_context(sam2);
    const struct nn_params *params = sam2_params(sam2);
    nn_no_grad_begin(nn);
    for (int i = 0; i < 2; i++)
        nn_mul_scalar_(nn, nn_params_at(params, nn_params_find(params, name[i]))->tensor, 1.0 / 1024);
    nn_no_grad_end(nn);
}

static void compare_prompts(const struct golden *g, const struct sam2_embedding *e)
{
    static const float clicks[] = {210.5f, 140.25f, 10, 290, 400, 3};
    static const int8_t click_labels[] = {1, 1, 0};
    static const float corners[] = {50, 40, 200, 220, 300, 10, 419, 299};
    static const float both[] = {120, 100, 60, 200, 350, 150, 0, 0};
    static const int8_t both_labels[] = {1, 0, 0, 1};
    static const float seeds[] = {33, 44, 250, 160};
    static const int8_t seed_labels[] = {1, 0};
    const int64_t side = g->side / 4;
    struct nn *nn = sam2_context(g->sam2);
    double *mask = ws2_calloc((size_t)(2 * side * side), sizeof *mask);
    assert_non_null(mask);
    generator_values("mask", mask, (size_t)(2 * side * side), 8);
    struct sam2_prompts prompts = {.count = 3, .points = 1, .point = clicks, .label = click_labels};
    compare_masks(g, "points", e, &prompts, true);
    prompts = (struct sam2_prompts){2, 2, both, both_labels, corners, NULL};
    compare_masks(g, "boxes", e, &prompts, false);
    prompts = (struct sam2_prompts){
        2,     1,
        seeds, seed_labels,
        NULL,  nn_to_dtype(nn, nn_from_f64(nn, ws2_shape_4(2, 1, side, side), mask), nn_dtype(e->image))};
    compare_masks(g, "masks", e, &prompts, true);
    prompts = (struct sam2_prompts){.count = 1};
    compare_masks(g, "none", e, &prompts, false);
    free(mask);
    shrink_first(g->sam2);
    prompts = (struct sam2_prompts){2, 2, both, both_labels, corners, NULL};
    compare_masks(g, "unstable", e, &prompts, false);
}

static void golden(enum sam2_size size, int64_t side, enum nn_precision precision, enum nn_layout layout)
{
    struct nn *nn = context_of(precision, layout);
    struct golden g = {drawn(nn, size, 0), golden_open("tests/golden/sam2_network.safetensors"), side};
    assert_int_equal(generator_fill(sam2_params(g.sam2), NULL), 0);
    const struct sam2_embedding e = precision == NN_F64_MODE ? embed_double(g.sam2, HEIGHT, WIDTH, side)
                                                             : embed(g.sam2, HEIGHT, WIDTH, side, "image");
    compare(&g, "image", "", e.image);
    compare(&g, "fine", "", e.fine);
    compare(&g, "half", "", e.half);
    compare_prompts(&g, &e);
    nn_weights_close(g.weights);
    drop(nn, g.sam2);
}

static void test_golden_tiny(void **state)
{
    (void)state;
    golden(SAM2_TINY, 1024, NN_F32_MODE, NN_LAYOUT_AUTO);
    golden(SAM2_TINY, 256, NN_F64_MODE, NN_LAYOUT_AUTO);
    golden(SAM2_TINY, 256, NN_F32_MODE, NN_LAYOUT_CHANNELS_FIRST);
}

static void test_golden_others(void **state)
{
    (void)state;
    golden(SAM2_SMALL, 256, NN_F32_MODE, NN_LAYOUT_AUTO);
    golden(SAM2_BASE_PLUS, 256, NN_F32_MODE, NN_LAYOUT_AUTO);
    golden(SAM2_LARGE, 256, NN_F32_MODE, NN_LAYOUT_AUTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_tiny),
        cmocka_unit_test(test_golden_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
