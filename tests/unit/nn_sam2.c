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
        .device = NN_DEVICE_CPU, .precision = precision, .layout = layout, .threads = 1};
    if (nn_open(&nn, &options, &error) < 0)
        fail_msg("%s", error.text);
    return nn;
}

static struct nn *context(void)
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

static void expect_near(struct nn *nn, struct nn_tensor *a, struct nn_tensor *b)
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
    if (size == SAM2_LARGE)
        assert_int_equal(nn_params_count(sam2_params(g.sam2)), 743);
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

/* ---- sharing ---------------------------------------------------------------------------------------------- */

static const float centre[2] = {30, 20};
static const int8_t inside[1] = {SAM2_INSIDE};

static struct sam2_prompts click(void)
{
    return (struct sam2_prompts){.count = 1, .points = 1, .point = centre, .label = inside};
}

/* Pictures of a batch do not know of each other. */
static void test_batch(void **state)
{
    (void)state;
    struct nn *nn = context();
    struct sam2 *sam2 = drawn(nn, SAM2_TINY, 3);
    uint8_t rgb[2][40 * 60 * 3];
    generator_image("one", rgb[0], sizeof rgb[0]);
    generator_image("two", rgb[1], sizeof rgb[1]);
    const struct sam2_embedding both = sam2_embed_u8(sam2, 2, 40, 60, rgb[0], 64);
    const struct sam2_prompts prompts = click();
    for (int i = 0; i < 2; i++) {
        const struct sam2_embedding e = sam2_embed_u8(sam2, 1, 40, 60, rgb[i], 64);
        const struct sam2_masks a = sam2_decode(sam2, &both, i, &prompts, true);
        const struct sam2_masks b = sam2_decode(sam2, &e, 0, &prompts, true);
        expect_near(nn, nn_narrow(nn, both.image, 0, i, 1), e.image);
        expect_near(nn, a.logits, b.logits);
        expect_near(nn, a.iou, b.iou);
    }
    assert_true(distance(nn, nn_narrow(nn, both.image, 0, 0, 1), nn_narrow(nn, both.image, 0, 1, 1)) > 1e-3);
    drop(nn, sam2);
}

/* Nor do prompts, be they in one slice or in several; with masks neither. */
static void test_prompts(void **state)
{
    (void)state;
    enum { MANY = 2 * SAM2_SLICE_CPU + 1 };
    struct nn *nn = context();
    struct sam2 *sam2 = drawn(nn, SAM2_TINY, 3);
    const struct sam2_embedding e = embed(sam2, 40, 60, 64, "one");
    float point[MANY][2], mask[MANY * 16 * 16];
    int8_t label[MANY];
    for (int i = 0; i < MANY; i++) {
        point[i][0] = (float)(6 * i);
        point[i][1] = (float)(40 - 3 * i);
        label[i] = i % 2 ? SAM2_INSIDE : SAM2_OUTSIDE;
    }
    generator_floats("mask", mask, MANY * 16 * 16, 5);
    struct nn_tensor *masks = nn_from_f32(nn, ws2_shape_4(MANY, 1, 16, 16), mask);
    for (int m = 0; m < 2; m++) {
        struct sam2_prompts prompts = {MANY, 1, point[0], label, NULL, m ? masks : NULL};
        const struct sam2_masks all = sam2_decode(sam2, &e, 0, &prompts, true);
        for (int i = 0; i < MANY; i++) {
            prompts = (struct sam2_prompts){1,         1,    point[i],
                                            label + i, NULL, m ? nn_narrow(nn, masks, 0, i, 1) : NULL};
            const struct sam2_masks one = sam2_decode(sam2, &e, 0, &prompts, true);
            expect_near(nn, nn_narrow(nn, all.logits, 0, i, 1), one.logits);
            expect_near(nn, nn_narrow(nn, all.object, 0, i, 1), one.object);
        }
    }
    /* A box is two points in front of the others. */
    static const float box[4] = {3, 4, 50, 30}, three[6] = {3, 4, 50, 30, 30, 20};
    static const int8_t labels[3] = {SAM2_TOP_LEFT, SAM2_BOTTOM_RIGHT, SAM2_INSIDE};
    struct sam2_prompts prompts = click();
    prompts.box = box;
    const struct sam2_masks a = sam2_decode(sam2, &e, 0, &prompts, false);
    prompts = (struct sam2_prompts){1, 3, three, labels, NULL, NULL};
    const struct sam2_masks b = sam2_decode(sam2, &e, 0, &prompts, false);
    expect_near(nn, a.logits, b.logits);
    drop(nn, sam2);
}

/* An embedding carried through plain memory to a twin in another context gives the same masks. */
static void test_carried(void **state)
{
    (void)state;
    struct nn *nn = context(), *other = context();
    struct sam2 *sam2 = drawn(nn, SAM2_TINY, 3), *twin;
    assert_int_equal(sam2_twin(&twin, other, sam2, NULL), 0);
    assert_string_equal(sam2_digest(twin), sam2_digest(sam2));
    const struct sam2_embedding e = embed(sam2, 40, 60, 64, "one");
    const size_t floats = sam2_embedding_floats(64);
    const struct sam2_prompts prompts = click();
    float *plain = ws2_calloc(floats, sizeof *plain), a[3 * 16 * 16], b[3 * 16 * 16];
    assert_int_equal(floats, nn_count(e.image) + nn_count(e.fine) + nn_count(e.half));
    assert_int_equal(sam2_embedding_to_f32(sam2, &e, plain), 0);
    const struct sam2_embedding f = sam2_embedding_from_f32(twin, 40, 60, 64, plain);
    assert_int_equal(nn_to_f32(nn, sam2_decode(sam2, &e, 0, &prompts, true).logits, a, 768), 0);
    assert_int_equal(nn_to_f32(other, sam2_decode(twin, &f, 0, &prompts, true).logits, b, 768), 0);
    for (int i = 0; i < 768; i++)
        assert_true(fabsf(a[i] - b[i]) <= 1e-4f * fmaxf(1, fabsf(a[i])));
    free(plain);
    drop(other, twin);
    drop(nn, sam2);
}

/* bfloat16 gives the same masks but for its three digits, and leaves the coordinates of prompts alone. */
static void test_bf16(void **state)
{
    (void)state;
    if (!nn_cpu_has_bf16()) {
        print_message("this processor has no instructions for bfloat16, which would only be emulated\n");
        skip();
    }
    struct nn *nn = context(), *other = context_of(NN_BF16_MODE, NN_LAYOUT_AUTO);
    struct sam2 *sam2 = drawn(nn, SAM2_TINY, 3), *twin = drawn(other, SAM2_TINY, 3);
    const struct sam2_embedding e = embed(sam2, HEIGHT, WIDTH, 256, "image");
    const struct sam2_embedding f = embed(twin, HEIGHT, WIDTH, 256, "image");
    const struct sam2_prompts prompts = click();
    enum { CELLS = 256 * 16 * 16, PIXELS = 3 * 64 * 64 };
    float *value = ws2_calloc(CELLS, sizeof *value);
    assert_int_equal(nn_to_f32(other, f.image, value, CELLS), 0);
    struct nn_tensor *image = nn_from_f32(nn, nn_shape(e.image), value);
    assert_int_equal(nn_to_f32(other, sam2_decode(twin, &f, 0, &prompts, true).logits, value, PIXELS), 0);
    struct nn_tensor *logits = nn_from_f32(nn, ws2_shape_4(1, 3, 64, 64), value);
    const struct sam2_masks m = sam2_decode(sam2, &e, 0, &prompts, true);
    assert_true(distance(nn, logits, m.logits) < 0.05);
    assert_true(distance(nn, image, e.image) < 0.05);
    free(value);
    drop(other, twin);
    drop(nn, sam2);
}

static bool all_finite(struct nn *nn, struct nn_tensor *x)
{
    return x && isfinite(nn_item(nn, nn_sum(nn, nn_abs(nn, x))));
}

/* One pixel, one row, a picture far wider than high; points beside it; padding only; no prompt at all. */
static void test_odd(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 500}, {500, 1}, {3, 2000}};
    static const float far[6] = {-100, 1e6f, 0, 0, 3, 3};
    static const int8_t labels[3] = {SAM2_OUTSIDE, SAM2_PADDING, SAM2_BOTTOM_RIGHT};
    struct nn *nn = context();
    struct sam2 *sam2 = drawn(nn, SAM2_TINY, 3);
    const struct sam2_prompts prompts = {1, 3, far, labels, NULL, NULL}, nobody = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        nn_scope_begin(nn);
        const struct sam2_embedding e = embed(sam2, sizes[i][0], sizes[i][1], 64, "one");
        const struct sam2_masks m = sam2_decode(sam2, &e, 0, &prompts, false);
        assert_true(all_finite(nn, e.image) && all_finite(nn, e.fine) && all_finite(nn, e.half));
        assert_true(all_finite(nn, m.logits) && all_finite(nn, m.iou) && all_finite(nn, m.object));
        struct nn_tensor *big = sam2_upscale(sam2, m.logits, sizes[i][0], sizes[i][1]);
        assert_int_equal(nn_dim(big, 2), sizes[i][0]);
        assert_int_equal(nn_dim(big, 3), sizes[i][1]);
        const struct sam2_masks none = sam2_decode(sam2, &e, 0, &nobody, true);
        assert_int_equal(nn_count(none.logits), 0);
        assert_int_equal(nn_dim(none.logits, 1), 3);
        assert_int_equal(nn_dim(none.logits, 2), 16);
        assert_int_equal(nn_dim(none.iou, 1), 3);
        assert_int_equal(nn_dim(none.object, 0), 0);
        nn_scope_end(nn);
    }
    drop(nn, sam2);
}

/* Everything made inside a call goes but for what it returns. */
static void test_memory(void **state)
{
    (void)state;
    struct nn *nn = context();
    struct sam2 *sam2 = drawn(nn, SAM2_TINY, 3);
    const int64_t alive = nn_tensors_alive(nn);
    struct sam2_embedding e = embed(sam2, 40, 60, 64, "one");
    const struct sam2_prompts prompts = click();
    assert_int_equal(nn_tensors_alive(nn), alive + 3);
    const struct sam2_masks m = sam2_decode(sam2, &e, 0, &prompts, true);
    assert_int_equal(nn_tensors_alive(nn), alive + 6);
    nn_drop(nn, m.logits);
    nn_drop(nn, m.iou);
    nn_drop(nn, m.object);
    sam2_embedding_drop(sam2, &e);
    assert_null(e.image);
    assert_int_equal(nn_tensors_alive(nn), alive);
    drop(nn, sam2);
}

/* What the context says after a call that makes no sense; it works again afterwards. */
static void refused(struct nn *nn, const char *message)
{
    if (!nn_error(nn) || !strstr(nn_error(nn), message))
        fail_msg("'%s' lacks '%s'", nn_error(nn) ? nn_error(nn) : "no error", message);
    assert_int_equal(nn_check(nn, NULL), WS2_ERR_USAGE);
    nn_error_clear(nn);
}

static void test_refusals(void **state)
{
    (void)state;
    struct nn *nn = context();
    struct sam2 *sam2 = drawn(nn, SAM2_TINY, 3), *no;
    static const uint8_t rgb[3];
    static const int8_t wrong[1] = {4};
    const struct sam2_embedding e = embed(sam2, 40, 60, 64, "one"), empty = {40, 60, NULL, NULL, NULL};
    struct sam2_prompts prompts = click();
    assert_int_equal(sam2_open(&no, nn, SAM2_ANY, 0, NULL), WS2_ERR_USAGE);
    assert_null(no);
    assert_null(sam2_images_u8(sam2, 1, 1, 1, rgb, 100));
    refused(nn, "multiple of 32");
    assert_null(sam2_images_u8(sam2, 1, 0, 1, rgb, 64));
    refused(nn, "1x0");
    assert_null(sam2_encode(sam2, nn_zeros(nn, ws2_shape_4(1, 3, 64, 96), NN_F32)).image);
    refused(nn, "[B,3,s,s]");
    assert_null(sam2_encode(sam2, nn_zeros(nn, ws2_shape_4(1, 4, 64, 64), NN_F32)).image);
    refused(nn, "[B,3,s,s]");
    assert_null(sam2_decode(sam2, &empty, 0, &prompts, true).logits);
    refused(nn, "not encoded");
    assert_null(sam2_decode(sam2, &e, 1, &prompts, true).logits);
    refused(nn, "no picture 1 of 1");
    prompts.label = wrong;
    assert_null(sam2_decode(sam2, &e, 0, &prompts, true).logits);
    refused(nn, "no label 4");
    prompts.label = NULL;
    assert_null(sam2_decode(sam2, &e, 0, &prompts, true).logits);
    refused(nn, "prompts of 1 points");
    prompts = click();
    prompts.mask = nn_zeros(nn, ws2_shape_4(1, 1, 64, 64), NN_F32);
    assert_null(sam2_decode(sam2, &e, 0, &prompts, true).logits);
    refused(nn, "[1,1,16,16]");
    drop(nn, sam2);
}

/* ---- files ------------------------------------------------------------------------------------------------ */

/* As many keys as the official files have for pictures. */
static void test_sizes(void **state)
{
    (void)state;
    static const struct {
        enum sam2_size size;
        int keys;
    } want[] = {{SAM2_TINY, 311}, {SAM2_SMALL, 359}, {SAM2_BASE_PLUS, 455}}; /* large: in golden() */
    for (int s = 0; s < 3; s++) {
        struct nn *nn = context();
        struct sam2 *sam2 = drawn(nn, want[s].size, 7);
        assert_int_equal(sam2_size(sam2), want[s].size);
        assert_int_equal(nn_params_count(sam2_params(sam2)), want[s].keys);
        drop(nn, sam2);
    }
}

/* How a file differs from what the network has. */
struct flaw {
    const char *left_out, *reshaped, *added[4];
};

static void save(struct sam2 *sam2, const char *path, const struct flaw *flaw)
{
    struct nn_saver *saver = nn_saver_new(path);
    const struct nn_params *params = sam2_params(sam2);
    for (int i = 0; i < nn_params_count(params); i++) {
        const struct nn_param *row = nn_params_at(params, i);
        struct ws2_shape shape = row->shape;
        const size_t count = (size_t)nn_count(row->tensor);
        if (flaw->left_out && strcmp(row->name, flaw->left_out) == 0)
            continue;
        if (flaw->reshaped && strcmp(row->name, flaw->reshaped) == 0)
            shape = ws2_shape_2(1, (int64_t)count);
        float *value = ws2_calloc(count, sizeof *value);
        assert_int_equal(nn_to_f32(sam2_context(sam2), row->tensor, value, count), 0);
        nn_saver_add(saver, row->name, NN_F32, shape, (const uint8_t *)value, 4 * count);
        free(value);
    }
    for (int i = 0; i < 4 && flaw->added[i]; i++)
        nn_saver_add(saver, flaw->added[i], NN_F32, ws2_shape_1(1), (const uint8_t *)"\0\0\0\0", 4);
    assert_int_equal(nn_saver_finish(saver, NULL), 0);
    nn_saver_free(saver);
}

/* One file after the other, with the message that reading it must give, or NULL. */
static void test_files(void **state)
{
    (void)state;
    static const struct {
        struct flaw flaw;
        enum sam2_size wanted;
        const char *message;
    } cases[] = {
        {{NULL}, SAM2_TINY, NULL},
        {{NULL}, SAM2_LARGE, "holds SAM 2 tiny, not large"},
        {{.added = {"memory_attention.layers.0.norm1.weight", "obj_ptr_tpos_proj.bias",
                    "no_obj_embed_spatial", "maskmem_tpos_enc"}},
         SAM2_ANY,
         NULL},
        {{.added = {"memory_encoder.out_proj.weight", "mask_downsample.bias", "no_mem_pos_enc",
                    "obj_ptr_proj.layers.0.weight"}},
         SAM2_ANY,
         NULL},
        {{.added = {"sam_mask_decoder.more.weight"}}, SAM2_ANY, "sam_mask_decoder.more.weight"},
        {{.left_out = "no_mem_embed"}, SAM2_ANY, "no 'no_mem_embed' (wanted [1,1,256])"},
        {{.left_out = "sam_mask_decoder.conv_s0.bias"}, SAM2_ANY, "sam_mask_decoder.conv_s0.bias"},
        {{.reshaped = "image_encoder.neck.convs.2.conv.weight"},
         SAM2_ANY,
         "wanted [256,192,1,1], found [1,49152]"},
        {{.reshaped = "image_encoder.trunk.patch_embed.proj.weight"}, SAM2_ANY, "not 96 (tiny, small)"},
        {{.left_out = "image_encoder.trunk.patch_embed.proj.weight"}, SAM2_ANY, "holds no SAM 2"},
        {{.left_out = "image_encoder.trunk.patch_embed.proj.weight", .added = {"image_encoder.pos_embed"}},
         SAM2_ANY,
         "holds the first SAM"},
        {{.left_out = "image_encoder.trunk.patch_embed.proj.weight",
          .added = {"vision_encoder.backbone.pos_embed"}},
         SAM2_ANY,
         "transformers"},
        {{.added = {"image_encoder.trunk.blocks.12.norm1.weight"}}, SAM2_TINY, "holds SAM 2 small, not tiny"},
    };
    char folder[] = "/tmp/nn_sam2.XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/w.safetensors", folder);
    struct nn *nn = context();
    struct sam2 *sam2 = drawn(nn, SAM2_TINY, 7), *read;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ws2_error error = {0};
        save(sam2, path, &cases[i].flaw);
        const int64_t alive = nn_tensors_alive(nn);
        const int status = sam2_read(&read, nn, path, cases[i].wanted, &error);
        if (cases[i].message == NULL) {
            if (status < 0)
                fail_msg("%s", error.text);
            assert_int_equal(sam2_size(read), SAM2_TINY);
            assert_string_equal(sam2_digest(read), sam2_digest(sam2));
            sam2_close(read);
            continue;
        }
        assert_int_equal(status, WS2_ERR_MODEL);
        assert_null(read);
        if (!strstr(error.text, cases[i].message) || strncmp(error.text, path, strlen(path)) != 0)
            fail_msg("'%s' lacks '%s'", error.text, cases[i].message);
        assert_int_equal(nn_tensors_alive(nn), alive);
        assert_int_equal(sam2_read(&read, nn, path, cases[i].wanted, NULL), WS2_ERR_MODEL);
    }
    unlink(path);
    rmdir(folder);
    drop(nn, sam2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_tiny), cmocka_unit_test(test_golden_others),
        cmocka_unit_test(test_batch),       cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_carried),     cmocka_unit_test(test_odd),
        cmocka_unit_test(test_bf16),        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
