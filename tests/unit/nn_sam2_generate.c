/*
 * Masks of everything in a picture, against the official generator (tests/golden/sam2_generate.py): its arithmetic on
 * logits made by rule, and the whole of it with the tiny network at side 256.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generator.h"
#include "golden.h"
#include "models/sam2_generate.h"

enum { HEIGHT = 80, WIDTH = 120, SIDE = 16, PIXELS = SIDE * SIDE, COUNT = 20 };

/* ---- the fixture ------------------------------------------------------------------------------------------ */

/* Numbers of the fixture's entry PREFIX.KEY; the caller frees them. */
static double *wanted(const struct nn_weights *weights, const char *prefix, const char *key, size_t *count)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", prefix, key);
    const int index = nn_weights_find(weights, name);
    if (index < 0)
        fail_msg("%s is not in the fixture", name);
    const struct ws2_shape shape = nn_weights_at(weights, index)->shape;
    assert_true(ws2_shape_count(&shape, count));
    double *value = ws2_calloc(*count, sizeof *value);
    assert_non_null(value);
    assert_int_equal(nn_weights_read_f64(weights, index, value, *count, NULL), 0);
    return value;
}

static void expect_integers(const struct nn_weights *weights, const char *prefix, const char *key,
                            const int64_t *got, int64_t count)
{
    size_t want_count;
    double *want = wanted(weights, prefix, key, &want_count);
    assert_int_equal(count, want_count);
    for (int64_t i = 0; i < count; i++)
        if ((int64_t)want[i] != got[i])
            fail_msg("%s.%s[%d] is %d, not %d", prefix, key, (int)i, (int)got[i], (int)want[i]);
    free(want);
}

static void expect_floats(const struct nn_weights *weights, const char *prefix, const char *key,
                          const double *got, int64_t count, double limit)
{
    size_t want_count;
    double *want = wanted(weights, prefix, key, &want_count);
    assert_int_equal(count, want_count);
    for (int64_t i = 0; i < count; i++)
        if (isnan(want[i]) ? !isnan(got[i]) : !(fabs(got[i] - want[i]) <= limit))
            fail_msg("%s.%s[%d] is %g, not %g", prefix, key, (int)i, got[i], want[i]);
    free(want);
}

/* Masks packed by rows without a gap, the first pixel in the highest bit of a byte. */
static void expect_masks(const struct nn_weights *weights, const char *prefix, const char *key,
                         const struct sam2_found *found)
{
    size_t count;
    double *want = wanted(weights, prefix, key, &count);
    uint8_t *set = ws2_calloc(HEIGHT, WIDTH);
    assert_int_equal(count, found->count * HEIGHT * WIDTH / 8);
    for (int64_t m = 0; m < found->count; m++) {
        ws2_bits_to_bytes(&found->mask[m].bits, set);
        for (int i = 0; i < HEIGHT * WIDTH; i++)
            if (((int)want[(m * HEIGHT * WIDTH + i) / 8] >> (7 - i % 8) & 1) != set[i])
                fail_msg("%s.%s: mask %d differs at row %d, column %d", prefix, key, (int)m, i / WIDTH,
                         i % WIDTH);
    }
    free(set);
    free(want);
}

/* The logits of the fixture: discs in clusters of four with noise, the last mask empty. */
static void make_logits(const char *name, float *out)
{
    char text[64];
    double u[COUNT][4], *noise = ws2_calloc(COUNT * PIXELS, sizeof *noise);
    assert_non_null(noise);
    generator_values(name, &u[0][0], COUNT * 4, 0.5);
    snprintf(text, sizeof text, "%s.noise", name);
    generator_values(text, noise, COUNT * PIXELS, 2);
    for (int i = 0; i < COUNT; i++) {
        const double *first = u[i / 4 * 4], *own = u[i];
        const double cx = 16 * (first[0] + 0.5) + 1.5 * (own[0] + 0.5);
        const double cy = 16 * (first[1] + 0.5) + 1.5 * (own[1] + 0.5);
        const double radius = 2 + 4 * (first[2] + 0.5) + (own[2] + 0.5);
        for (int p = 0; p < PIXELS; p++) {
            const double x = p % SIDE - cx, y = p / SIDE - cy;
            const double inside = 4 - 4 * (x * x + y * y) / (radius * radius);
            out[i * PIXELS + p] = i == COUNT - 1 ? -9 : (float)(inside + noise[i * PIXELS + p]);
        }
    }
    free(noise);
}

static void make_scores(const char *name, float *out)
{
    char text[64];
    double u[COUNT];
    snprintf(text, sizeof text, "%s.score", name);
    generator_values(text, u, COUNT, 0.5);
    for (int i = 0; i < COUNT; i++)
        out[i] = (float)(floor(8 * (u[i] + 0.5)) / 8);
}

/* ---- numbers ---------------------------------------------------------------------------------------------- */

static void make_found(const char *name, const int64_t crop[4], struct sam2_found *found)
{
    float *logit = ws2_calloc(COUNT * PIXELS, sizeof *logit);
    make_logits(name, logit);
    found->mask = ws2_calloc(COUNT, sizeof *found->mask);
    found->count = found->capacity = COUNT;
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(
            sam2_mask_make(&found->mask[i], logit + i * PIXELS, SIDE, SIDE, crop, HEIGHT, WIDTH, 0, 1, NULL),
            0);
    free(logit);
}

/* Cleaning, with the index of each mask in its first coordinate. */
static void compare_cleaned(const struct nn_weights *weights, const char *prefix, struct sam2_found *found)
{
    int64_t index[COUNT], box[COUNT][4];
    for (int i = 0; i < COUNT; i++)
        found->mask[i].point[0] = (float)i;
    assert_int_equal(sam2_found_clean(found, 30, 0.7, NULL), 0);
    for (int64_t i = 0; i < found->count; i++) {
        index[i] = (int64_t)found->mask[i].point[0];
        sam2_box(&found->mask[i].bits, box[i]);
    }
    expect_integers(weights, prefix, "clean.index", index, found->count);
    expect_integers(weights, prefix, "clean.box", box[0], 4 * found->count);
    expect_masks(weights, prefix, "clean.mask", found);
}

static void test_numbers(void **state)
{
    (void)state;
    static const int64_t crops[2][4] = {{0, 0, WIDTH, HEIGHT}, {10, 8, 112, 74}};
    static const char *const names[2] = {"whole", "part"};
    struct nn_weights *weights = golden_open("tests/golden/sam2_generate.safetensors");
    for (int c = 0; c < 2; c++) {
        struct sam2_found found = {0};
        char prefix[64];
        double stability[COUNT];
        float score[COUNT];
        int64_t box[COUNT][4], edge[COUNT], keep[COUNT];
        snprintf(prefix, sizeof prefix, "numbers.%s", names[c]);
        make_found(names[c], crops[c], &found);
        make_scores(names[c], score);
        for (int i = 0; i < COUNT; i++) {
            stability[i] = found.mask[i].stability;
            memcpy(box[i], found.mask[i].box, sizeof box[i]);
            edge[i] = sam2_near_crop_edge(box[i], crops[c], HEIGHT, WIDTH);
        }
        expect_masks(weights, prefix, "mask", &found);
        expect_integers(weights, prefix, "box", box[0], 4 * COUNT);
        expect_integers(weights, prefix, "edge", edge, COUNT);
        expect_floats(weights, prefix, "stability", stability, COUNT, 0);
        const int64_t kept = sam2_nms(box[0], score, COUNT, 0.7, keep, NULL);
        expect_integers(weights, prefix, "keep", keep, kept);
        compare_cleaned(weights, prefix, &found);
        sam2_found_free(&found);
    }
    nn_weights_close(weights);
}

static void test_crops(void **state)
{
    (void)state;
    static const int sizes[2][3] = {{480, 640, 2}, {61, 33, 1}};
    struct nn_weights *weights = golden_open("tests/golden/sam2_generate.safetensors");
    for (int i = 0; i < 2; i++) {
        char prefix[64];
        struct sam2_crop *crop;
        int64_t box[21][4], layer[21];
        snprintf(prefix, sizeof prefix, "crops.%dx%d", sizes[i][0], sizes[i][1]);
        const int64_t count = sam2_crops(sizes[i][0], sizes[i][1], sizes[i][2], 512.0 / 1500, &crop, NULL);
        assert_int_equal(count, i ? 5 : 21);
        for (int64_t k = 0; k < count; k++) {
            memcpy(box[k], crop[k].box, sizeof box[k]);
            layer[k] = crop[k].layer;
        }
        expect_integers(weights, prefix, "box", box[0], 4 * count);
        expect_integers(weights, prefix, "layer", layer, count);
        free(crop);
    }
    nn_weights_close(weights);
    struct sam2_crop *crop;
    assert_int_equal(sam2_crops(1, 1, 2, 0.3, &crop, NULL), 3); /* one pixel in each layer */
    free(crop);
    assert_int_equal(sam2_crops(0, 1, 0, 0.3, &crop, NULL), WS2_ERR_USAGE);
    assert_int_equal(sam2_crops(9, 9, 5, 0.3, &crop, NULL), WS2_ERR_USAGE);
    assert_null(crop);
    double point[8], one[2];
    sam2_grid(2, point);
    static const double want[8] = {.25, .25, .75, .25, .25, .75, .75, .75};
    assert_memory_equal(point, want, sizeof want);
    sam2_grid(1, one);
    assert_true(one[0] == 0.5 && one[1] == 0.5);
}

/* A mask over several words, at the edges of a crop that does not begin on one. */
static void test_bits(void **state)
{
    (void)state;
    static const int64_t crop[4] = {61, 3, 133, 7}, whole[4] = {0, 0, 1, 1};
    static const float inside[1] = {5}, nothing[1] = {-5}, nan_[1] = {NAN}, edge[2] = {-1, 1};
    struct sam2_mask mask = {0};
    assert_int_equal(sam2_mask_make(&mask, inside, 1, 1, crop, 9, 200, 0, 1, NULL), 0);
    assert_int_equal(ws2_bits_count(&mask.bits), 72 * 4);
    static const int64_t want[4] = {0, 0, 71, 3};
    assert_memory_equal(mask.box, want, sizeof want);
    assert_true(mask.stability == 1);
    assert_int_equal(sam2_mask_make(&mask, nothing, 1, 1, crop, 9, 200, 0, 1, NULL), 0);
    assert_int_equal(ws2_bits_count(&mask.bits), 0);
    assert_true(isnan(mask.stability));
    assert_int_equal(sam2_mask_make(&mask, nan_, 1, 1, whole, 1, 1, 0, 1, NULL), 0);
    assert_int_equal(ws2_bits_count(&mask.bits), 0);
    /* Stretched to -1 -0.5 0.5 1: a threshold is not above itself. */
    static const int64_t row[4] = {0, 0, 4, 1};
    assert_int_equal(sam2_mask_make(&mask, edge, 1, 2, row, 1, 4, 0.5, 0, NULL), 0);
    assert_int_equal(ws2_bits_count(&mask.bits), 1);
    assert_int_equal(sam2_mask_make(&mask, edge, 1, 2, crop, 6, 200, 0, 1, NULL), WS2_ERR_USAGE);
    ws2_bits_free(&mask.bits);
}

/* Twenty pixels count as near, and the picture's own sides do not matter. */
static void test_edges(void **state)
{
    (void)state;
    static const int64_t crop[4] = {100, 0, 300, 200};
    static const struct {
        int64_t box[4];
        bool near;
    } cases[] = {
        {{21, 50, 100, 100}, false}, {{20, 50, 100, 100}, true},  {{21, 0, 100, 100}, false},
        {{21, 50, 180, 100}, true},  {{21, 50, 179, 100}, false}, {{21, 50, 100, 199}, true},
        {{21, 50, 100, 179}, false}, {{21, 50, 100, 180}, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(sam2_near_crop_edge(cases[i].box, crop, 400, 500), cases[i].near);
    static const int64_t whole[4] = {0, 0, 500, 400}, all[4] = {0, 0, 499, 399};
    assert_false(sam2_near_crop_edge(all, whole, 400, 500));
}

static void test_boxes(void **state)
{
    (void)state;
    /* IoU of exactly 0.5 is not above 0.5; equal scores keep their order; no area, no overlap. */
    static const int64_t box[5][4] = {
        {0, 0, 10, 10}, {0, 0, 10, 5}, {0, 0, 10, 10}, {3, 3, 3, 8}, {3, 3, 3, 8}};
    static const float score[5] = {1, 1, 1, 2, 2};
    int64_t keep[5];
    assert_int_equal(sam2_nms(box[0], score, 5, 0.5, keep, NULL), 4);
    assert_int_equal(keep[0], 3);
    assert_int_equal(keep[1], 4);
    assert_int_equal(keep[2], 0);
    assert_int_equal(keep[3], 1);
    assert_int_equal(sam2_nms(box[0], score, 5, 0.49, keep, NULL), 3);
    assert_int_equal(sam2_nms(box[0], score, 0, 0.5, keep, NULL), 0);
}

/* Components below the area go; the largest stays when it would be the last; holes at the edge are holes too. */
static void test_clean(void **state)
{
    (void)state;
    struct ws2_bits bits = {0};
    struct ws2_bits_scratch scratch = {0};
    uint8_t set[5 * 70] = {0};
    assert_int_equal(ws2_bits_reset(&bits, 5, 70, NULL), 0);
    set[0] = set[71] = set[3] = 1; /* two joined by a corner, and one */
    ws2_bits_from_bytes(&bits, set);
    assert_int_equal(sam2_clean(&bits, 2, &scratch, NULL), 1);
    assert_int_equal(ws2_bits_count(&bits), 2);
    assert_int_equal(sam2_clean(&bits, 2, &scratch, NULL), 0);
    assert_int_equal(sam2_clean(&bits, 3, &scratch, NULL), 1);
    assert_int_equal(ws2_bits_count(&bits), 2); /* spared */
    memset(set, 1, sizeof set);
    set[0] = set[69] = set[150] = 0;
    ws2_bits_from_bytes(&bits, set);
    assert_int_equal(sam2_clean(&bits, 2, &scratch, NULL), 1);
    assert_int_equal(ws2_bits_count(&bits), 350);
    assert_int_equal(sam2_clean(&bits, 2, &scratch, NULL), 0);
    ws2_bits_reset(&bits, 5, 70, NULL);
    assert_int_equal(sam2_clean(&bits, 2, &scratch, NULL), 0);
    assert_int_equal(ws2_bits_count(&bits), 0);
    assert_int_equal(sam2_clean(&bits, 1000, &scratch, NULL), 1); /* the picture itself is a small hole */
    assert_int_equal(ws2_bits_count(&bits), 350);
    ws2_bits_free(&bits);
    ws2_bits_scratch_free(&scratch);
}

/* ---- with the network --------------------------------------------------------------------------------------- */

static struct sam2 *network(struct nn **nn)
{
    struct sam2 *sam2;
    struct ws2_error error = {0};
    const struct nn_options options = {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .threads = 1};
    if (nn_open(nn, &options, &error) < 0 || sam2_open(&sam2, *nn, SAM2_TINY, 0, &error) < 0)
        fail_msg("%s", error.text);
    assert_int_equal(generator_fill(sam2_params(sam2), NULL), 0);
    return sam2;
}

/* 6x8 squares of 16x16 pixels. */
static uint8_t *make_picture(void)
{
    uint8_t small[6 * 8 * 3], *rgb = ws2_calloc(96 * 128, 3);
    assert_non_null(rgb);
    generator_image("image", small, sizeof small);
    for (int y = 0; y < 96; y++)
        for (int x = 0; x < 128; x++)
            memcpy(rgb + 3 * (y * 128 + x), small + 3 * (y / 16 * 8 + x / 16), 3);
    return rgb;
}

/* Pixels whose logit is nearly 0 may differ; the boxes and the order do not here. */
static void compare_found(const char *prefix, const struct sam2_found *found)
{
    enum { MOST = 64 };
    int64_t box[MOST][4], crop[MOST][4];
    double score[MOST], stability[MOST], point[MOST][2], area[MOST];
    struct nn_weights *weights = golden_open("tests/golden/sam2_generate.safetensors");
    assert_true(found->count <= MOST);
    for (int64_t i = 0; i < found->count; i++) {
        const struct sam2_mask *m = &found->mask[i];
        memcpy(box[i], m->box, sizeof box[i]);
        memcpy(crop[i], m->crop, sizeof crop[i]);
        score[i] = m->score;
        stability[i] = m->stability;
        point[i][0] = m->point[0];
        point[i][1] = m->point[1];
        area[i] = (double)ws2_bits_count(&m->bits);
    }
    expect_floats(weights, prefix, "score", score, found->count, 1e-5);
    expect_integers(weights, prefix, "box", box[0], 4 * found->count);
    expect_integers(weights, prefix, "crop", crop[0], 4 * found->count);
    expect_floats(weights, prefix, "point", point[0], 2 * found->count, 1e-4);
    expect_floats(weights, prefix, "area", area, found->count, 2);
    expect_floats(weights, prefix, "stability", stability, found->count, 5e-3);
    nn_weights_close(weights);
}

static void test_generate(void **state)
{
    (void)state;
    struct nn *nn;
    struct sam2 *sam2 = network(&nn);
    struct sam2_found found = {0};
    struct ws2_error error = {0};
    struct sam2_generate_options options = sam2_generate_defaults();
    uint8_t *rgb = make_picture();
    const int64_t alive = nn_tensors_alive(nn);
    options.points_per_side = 6;
    options.points_per_batch = 5;
    options.side = 256;
    options.iou = 0.3;
    options.stability = 0.8;
    options.stability_offset = 0.5;
    options.box_nms = 0.9;
    if (sam2_generate(sam2, &options, 96, 128, rgb, &found, &error) < 0)
        fail_msg("%s", error.text);
    compare_found("generate.plain", &found);
    options.iou = 0.25;
    options.stability = 0;
    options.stability_offset = 1;
    options.crop_layers = 1;
    options.crop_downscale = 2;
    options.box_nms = 0.95;
    options.crop_nms = 0.97;
    if (sam2_generate(sam2, &options, 96, 128, rgb, &found, &error) < 0)
        fail_msg("%s", error.text);
    compare_found("generate.crops", &found);
    /* Cleaning what was found is cleaning while finding. */
    struct sam2_found cleaned = {0};
    options.region_area = 40;
    if (sam2_generate(sam2, &options, 96, 128, rgb, &cleaned, &error) < 0)
        fail_msg("%s", error.text);
    assert_int_equal(sam2_found_clean(&found, 40, 0.97, NULL), 0);
    assert_int_equal(found.count, cleaned.count);
    for (int64_t i = 0; i < found.count; i++)
        assert_memory_equal(found.mask[i].box, cleaned.mask[i].box, sizeof found.mask[i].box);
    sam2_found_free(&cleaned);
    sam2_found_free(&found);
    assert_int_equal(nn_tensors_alive(nn), alive);
    free(rgb);
    sam2_close(sam2);
    nn_close(nn);
}

/* Pictures of one pixel and of one row; nothing found; one candidate a point. */
static void test_odd(void **state)
{
    (void)state;
    struct nn *nn;
    struct sam2 *sam2 = network(&nn);
    struct sam2_found found = {0};
    struct sam2_generate_options options = sam2_generate_defaults();
    static const uint8_t pixel[3] = {9, 99, 200};
    uint8_t *row = ws2_calloc(700, 3);
    generator_image("row", row, 2100);
    options.side = 64;
    options.points_per_side = 2;
    options.iou = options.stability = 0;
    options.crop_layers = 1;
    assert_int_equal(sam2_generate(sam2, &options, 1, 1, pixel, &found, NULL), 0);
    for (int64_t i = 0; i < found.count; i++)
        assert_true(found.mask[i].bits.width == 1 && isfinite(found.mask[i].score));
    assert_int_equal(sam2_generate(sam2, &options, 1, 700, row, &found, NULL), 0);
    assert_true(found.count > 0);
    for (int64_t i = 0; i < found.count; i++)
        assert_true(found.mask[i].box[2] < 700 && isfinite(found.mask[i].score));
    options.multimask = false;
    assert_int_equal(sam2_generate(sam2, &options, 1, 700, row, &found, NULL), 0);
    options.iou = 1;
    assert_int_equal(sam2_generate(sam2, &options, 1, 700, row, &found, NULL), 0);
    assert_int_equal(found.count, 0);
    free(row);
    sam2_found_free(&found);
    sam2_close(sam2);
    nn_close(nn);
}

static void test_options(void **state)
{
    (void)state;
    const struct sam2_generate_options ws2 = sam2_generate_ws2();
    assert_true(ws2.iou == 0.88 && ws2.stability == 0.95 && ws2.stability_offset == 0.95);
    assert_true(ws2.points_per_side == 32 && ws2.box_nms == 0.7 && ws2.threshold == 0 &&
                ws2.crop_layers == 0);
    assert_int_equal(sam2_generate_check(&ws2, NULL), 0);
    static const struct {
        const char *message;
        struct sam2_generate_options options;
    } cases[] = {
        {"grid", {.points_per_side = 0, .points_per_batch = 1, .crop_downscale = 1, .side = 64}},
        {"batches", {.points_per_side = 1, .points_per_batch = 0, .crop_downscale = 1, .side = 64}},
        {"layers",
         {.points_per_side = 3, .points_per_batch = 1, .crop_layers = 2, .crop_downscale = 2, .side = 64}},
        {"overlap",
         {.points_per_side = 3, .points_per_batch = 1, .crop_overlap = 1, .crop_downscale = 1, .side = 64}},
        {"threshold",
         {.points_per_side = 3, .points_per_batch = 1, .iou = NAN, .crop_downscale = 1, .side = 64}},
        {"side", {.points_per_side = 3, .points_per_batch = 1, .crop_downscale = 1, .side = 100}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ws2_error error = {0};
        assert_int_equal(sam2_generate_check(&cases[i].options, &error), WS2_ERR_USAGE);
        if (!strstr(error.text, cases[i].message))
            fail_msg("'%s' lacks '%s'", error.text, cases[i].message);
        assert_int_equal(sam2_generate_check(&cases[i].options, NULL), WS2_ERR_USAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_crops),    cmocka_unit_test(test_bits),
        cmocka_unit_test(test_edges),   cmocka_unit_test(test_boxes),    cmocka_unit_test(test_clean),
        cmocka_unit_test(test_options), cmocka_unit_test(test_generate), cmocka_unit_test(test_odd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
