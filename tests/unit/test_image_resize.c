/* Geometry and colour: resizing and jitter against the reference libraries, crop, conversions, fitting, truth. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image_help.h"

/* ---- resizing ------------------------------------------------------------------------------------ */

struct golden {
    void *data;
    size_t at, count;
};

static struct golden golden_open(const char *path, enum ws2_dtype wanted)
{
    struct golden golden = {0};
    enum ws2_dtype dtype;
    struct ws2_shape shape;
    struct ws2_error error = {0};
    ws2_npy_read(path, &dtype, &shape, &golden.data, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(dtype, wanted);
    assert_int_equal(shape.rank, 1);
    golden.count = (size_t)shape.dim[0];
    return golden;
}

static void golden_close(struct golden *golden)
{
    assert_int_equal(golden->at, golden->count);
    free(golden->data);
}

static void compare_f32(struct golden *golden, const float *have, size_t count)
{
    const float *want = (const float *)golden->data + golden->at;
    assert_true(golden->at + count <= golden->count);
    for (size_t i = 0; i < count; i++)
        assert_float_equal(have[i], want[i], 1e-5);
    golden->at += count;
}

static void compare_u8(struct golden *golden, const uint8_t *have, size_t count, int tolerance)
{
    const uint8_t *want = (const uint8_t *)golden->data + golden->at;
    assert_true(golden->at + count <= golden->count);
    for (size_t i = 0; i < count; i++)
        if (abs(have[i] - want[i]) > tolerance)
            fail_msg("sample %zu (%zu of the file) is %d, wanted %d", i, golden->at + i, have[i], want[i]);
    golden->at += count;
}

/* T02: 7 x 5 to 12 x 9 and back, all kernels, to 1e-5. */
static void maps_resize_as_torch_does(void **state)
{
    (void)state;
    static const int size[2][4] = {{7, 5, 12, 9}, {12, 9, 7, 5}};
    static const enum ws2_kernel kernel[] = {WS2_BILINEAR,    WS2_BICUBIC, WS2_PIL_BILINEAR,
                                             WS2_PIL_BICUBIC, WS2_NEAREST, WS2_AREA};
    struct golden golden = golden_open("tests/golden/image_f32.npy", WS2_F32);
    float in[2 * 108], out[2 * 108];
    for (int s = 0; s < 2; s++) {
        const int *z = size[s];
        generator_floats("map", in, (size_t)(2 * z[0] * z[1]), 1);
        for (int k = 0; k < 5 + s; k++) {
            assert_int_equal(ws2_resize_f32(out, z[2], z[3], in, z[0], z[1], 2, kernel[k], NULL), 0);
            compare_f32(&golden, out, (size_t)(2 * z[2] * z[3]));
        }
    }
    golden_close(&golden);
}

/* T02 on bytes: Pillow's kernels to the bit, the others within one level; then colour jitter. */
static void pictures_resize_as_pillow_and_opencv_do(void **state)
{
    (void)state;
    static const int size[4][4] = {{7, 5, 12, 9}, {12, 9, 7, 5}, {40, 21, 11, 23}, {16, 16, 9, 16}};
    struct golden golden = golden_open("tests/golden/image_u8.npy", WS2_U8);
    struct ws2_image rgb = {0}, grey = {0}, four = {0}, out = {0};
    for (int s = 0; s < 4; s++) {
        const int *z = size[s];
        make_noise(&rgb, z[0], z[1], 3);
        ws2_image_reset(&grey, z[0], z[1], 1, NULL);
        ws2_image_reset(&four, z[0], z[1], 4, NULL);
        uint8_t alpha[3 * 40 * 21];
        generator_image("alpha", alpha, (size_t)(3 * z[0] * z[1]));
        for (int i = 0; i < z[0] * z[1]; i++) {
            grey.data[i] = rgb.data[3 * i];
            memcpy(four.data + 4 * i, rgb.data + 3 * i, 3);
            four.data[4 * i + 3] = alpha[3 * i];
        }
        const struct ws2_image *in[3] = {&rgb, &grey, &four};
        for (int k = 0; k < 2; k++)
            for (int c = 0; c < 3; c++) {
                const enum ws2_kernel kernel = k ? WS2_PIL_BICUBIC : WS2_PIL_BILINEAR;
                assert_int_equal(ws2_image_resize(&out, in[c], z[2], z[3], kernel, NULL), 0);
                compare_u8(&golden, out.data, (size_t)(z[2] * z[3] * out.channels), 0);
            }
        for (int k = 0; k < 2; k++) {
            ws2_image_resize(&out, &rgb, z[2], z[3], k ? WS2_BICUBIC : WS2_BILINEAR, NULL);
            compare_u8(&golden, out.data, (size_t)(z[2] * z[3] * 3), 1);
        }
        if (z[2] < z[0] && z[3] < z[1]) {
            ws2_image_resize(&out, &rgb, z[2], z[3], WS2_AREA, NULL);
            compare_u8(&golden, out.data, (size_t)(z[2] * z[3] * 3), 1);
        }
    }
    static const struct ws2_jitter jitters[10] = {
        {0.7f, 1, 1, 0, {0, 1, 2, 3}},           {1.3f, 1, 1, 0, {0, 1, 2, 3}},
        {1, 0.8f, 1, 0, {0, 1, 2, 3}},           {1, 1.25f, 1, 0, {0, 1, 2, 3}},
        {1, 1, 0.75f, 0, {0, 1, 2, 3}},          {1, 1, 1.3f, 0, {0, 1, 2, 3}},
        {1, 1, 1, 0.1f, {0, 1, 2, 3}},           {1, 1, 1, -0.07f, {0, 1, 2, 3}},
        {1.2f, 0.9f, 1.1f, 0.05f, {0, 1, 2, 3}}, {0.85f, 1.3f, 0.7f, -0.1f, {3, 2, 1, 0}},
    };
    for (int j = 0; j < 10; j++) {
        make_noise(&rgb, 16, 16, 3);
        ws2_jitter_apply(rgb.data, 256, &jitters[j]);
        compare_u8(&golden, rgb.data, 768, 0);
    }
    make_noise(&rgb, 16, 16, 3);
    ws2_image_convert(&rgb, 1, NULL);
    compare_u8(&golden, rgb.data, 256, 0);
    golden_close(&golden);
    ws2_image_free(&rgb);
    ws2_image_free(&grey);
    ws2_image_free(&four);
    ws2_image_free(&out);
}

static uint64_t sum_of(const struct ws2_image *image)
{
    uint64_t sum = 0;
    for (int i = 0; i < image->width * image->height * image->channels; i++)
        sum += image->data[i];
    return sum;
}

/* The other generator: of (key, index), -1..1. */
static double probe_value(const char *key, uint32_t index)
{
    return 2 * probe_uniform(ws2_fnv1a(key, strlen(key)), index) - 1;
}

/* Numbers that Pillow 9.4 gave for a picture that both sides can compute. */
static void pillow_probe(void **state)
{
    (void)state;
    struct ws2_image in = {0}, out = {0};
    ws2_image_reset(&in, 53, 37, 3, NULL);
    for (uint32_t c = 0; c < 3; c++)
        for (uint32_t i = 0; i < 37 * 53; i++)
            in.data[3 * i + c] = (uint8_t)(((float)probe_value("input", c * 37 * 53 + i) + 1.0) * 127.5);
    assert_int_equal(in.data[0], 203);
    assert_int_equal(in.data[1], 33);
    assert_int_equal(in.data[2], 218);
    assert_int_equal(sum_of(&in), 741188);
    ws2_image_resize(&out, &in, 24, 20, WS2_PIL_BICUBIC, NULL);
    assert_int_equal(sum_of(&out), 181468);
    assert_memory_equal(out.data, ((const uint8_t[]){164, 117, 109}), 3);
    assert_memory_equal(out.data + (10 * 24 + 12) * 3, ((const uint8_t[]){81, 90, 138}), 3);
    ws2_image_resize(&out, &in, 24, 20, WS2_PIL_BILINEAR, NULL);
    assert_int_equal(sum_of(&out), 181441);
    ws2_image_free(&in);
    ws2_image_free(&out);
}

static void check_probe(const float *in, int side, double mean, double deviation, double largest,
                        const double *sample)
{
    const size_t count = (size_t)(3 * side * side);
    float *out = malloc(count * sizeof *out);
    double sum = 0, square = 0, top = 0;
    assert_int_equal(ws2_resize_f32(out, side, side, in, 53, 37, 3, WS2_PIL_BILINEAR, NULL), 0);
    for (size_t i = 0; i < count; i++) {
        sum += out[i];
        square += (double)out[i] * out[i];
        top = fmax(top, fabs(out[i]));
    }
    sum /= (double)count;
    assert_float_equal(sum, mean, 1e-6);
    assert_float_equal(sqrt(square / (double)count - sum * sum), deviation, 1e-6);
    assert_float_equal(top, largest, 1e-5);
    const size_t at[4] = {0, count / 3, count / 2, count - 1};
    for (int i = 0; i < 4; i++)
        assert_float_equal(out[at[i]], sample[i], 1e-5);
    free(out);
}

static void torch_antialias_probe(void **state)
{
    (void)state;
    float in[3 * 37 * 53];
    for (uint32_t i = 0; i < 3 * 37 * 53; i++)
        in[i] = (float)probe_value("input", i);
    check_probe(in, 16, -0.007962959, 0.1424803, 0.522375,
                (const double[]){0.1206125, -0.09884844, -0.06553811, -0.2457434});
    check_probe(in, 64, -0.00813616, 0.3854901, 0.988275,
                (const double[]){0.5980663, -0.7395533, -0.4711135, -0.3015547});
}

/* First row of a 4 x 4 ramp at 7 x 7. */
static void kernels_on_a_ramp(void **state)
{
    (void)state;
    static const struct {
        enum ws2_kernel kernel;
        double row[7];
    } want[] = {
        {WS2_BICUBIC, {-0.49608, -0.11762, 0.49973, 1.10313, 1.70654, 2.32389, 2.70235}},
        {WS2_PIL_BICUBIC, {-0.39664, -0.05344, 0.60671, 1.18269, 1.75868, 2.41882, 2.76202}},
        {WS2_BILINEAR, {0, 0.35714, 0.92857, 1.5, 2.07143, 2.64286, 3}},
    };
    float in[16], out[49];
    for (int i = 0; i < 16; i++)
        in[i] = (float)i;
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        ws2_resize_f32(out, 7, 7, in, 4, 4, 1, want[k].kernel, NULL);
        for (int i = 0; i < 7; i++)
            assert_float_equal(out[i], want[k].row[i], 1e-5);
    }
}

/* Against the integral over 1000 points a box. */
static void area_is_the_mean_of_the_box(void **state)
{
    (void)state;
    static const int sizes[][2] = {{9, 4}, {4, 9}, {12, 3}, {5, 5}, {100, 7}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int in = sizes[s][0], out = sizes[s][1];
        float line[100], result[100];
        generator_floats("area", line, (size_t)in, 1);
        ws2_resize_f32(result, out, 1, line, in, 1, 1, WS2_AREA, NULL);
        for (int i = 0; i < out; i++) {
            double sum = 0;
            for (int p = 0; p < 1000; p++) {
                const int at = (int)((i + (p + 0.5) / 1000) * in / out);
                sum += line[at < in ? at : in - 1];
            }
            assert_float_equal(result[i], sum / 1000, 5e-3);
        }
    }
}

static void whole_boxes_round_to_even(void **state)
{
    (void)state;
    struct ws2_image in = {0}, out = {0};
    ws2_image_reset(&in, 8, 2, 1, NULL);
    memcpy(in.data, "\0\1\1\1\1\2\xff\xff\0\1\1\2\2\2\xff\xff", 16);
    ws2_image_resize(&out, &in, 4, 1, WS2_AREA, NULL);
    assert_memory_equal(out.data, "\0\1\2\xff", 4); /* 0.5, 1.25, 1.75, 255 */
    ws2_image_free(&in);
    ws2_image_free(&out);
}

static void nearest_takes_the_centre(void **state)
{
    (void)state;
    struct ws2_image in = {0}, out = {0};
    ws2_image_reset(&in, 6, 1, 1, NULL);
    memcpy(in.data, "012345", 6);
    ws2_image_resize(&out, &in, 3, 1, WS2_NEAREST, NULL);
    assert_memory_equal(out.data, "135", 3);
    ws2_image_resize(&out, &in, 4, 2, WS2_NEAREST, NULL);
    assert_memory_equal(out.data, "02350235", 8);
    ws2_image_free(&in);
    ws2_image_free(&out);
}

static void every_kernel_keeps_a_flat_picture_and_its_own_size(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 40}, {3, 2}, {64, 65}, {17, 29}};
    struct ws2_image in = {0}, noise = {0}, out = {0};
    make_noise(&noise, 17, 29, 3);
    ws2_image_reset(&in, 17, 29, 3, NULL);
    memset(in.data, 201, 17 * 29 * 3);
    for (int k = 0; k < WS2_KERNELS; k++) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            assert_int_equal(ws2_image_resize(&out, &in, sizes[s][0], sizes[s][1], k, NULL), 0);
            for (int i = 0; i < sizes[s][0] * sizes[s][1] * 3; i++)
                assert_int_equal(out.data[i], 201);
        }
        ws2_image_resize(&out, &noise, 17, 29, k, NULL);
        assert_memory_equal(out.data, noise.data, 17 * 29 * 3);
    }
    ws2_image_free(&in);
    ws2_image_free(&noise);
    ws2_image_free(&out);
}

static void resizers_are_kept_and_refuse_nonsense(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    assert_null(ws2_resizer_new(0, 5, 5, 5, WS2_AREA, &error));
    assert_int_equal(error.status, WS2_ERR_USAGE);
    assert_null(ws2_resizer_new(5, 5, 1 << 20, 5, WS2_AREA, NULL));
    struct ws2_resizer *resizer = NULL;
    assert_int_equal(ws2_resizer_fit(&resizer, 8, 8, 4, 4, WS2_AREA, NULL), 0);
    const struct ws2_resizer *first = resizer;
    assert_int_equal(ws2_resizer_fit(&resizer, 8, 8, 4, 4, WS2_AREA, NULL), 0);
    assert_ptr_equal(resizer, first);
    assert_int_equal(ws2_resizer_u8(resizer, NULL, NULL, 2, NULL), WS2_ERR_USAGE);
    ws2_resizer_free(resizer);
    enum ws2_kernel kernel;
    for (int k = 0; k < WS2_KERNELS; k++)
        assert_true(ws2_kernel_parse(ws2_kernel_name(k), &kernel) == 0 && kernel == (enum ws2_kernel)k);
    assert_int_equal(ws2_kernel_parse("lanczos", &kernel), WS2_ERR_USAGE);
}

/* ---- pictures in memory -------------------------------------------------------------------------- */

static void crop_and_convert(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    struct ws2_error error = {0};
    ws2_image_reset(&image, 4, 3, 1, NULL);
    for (int i = 0; i < 12; i++)
        image.data[i] = (uint8_t)(10 * i);
    assert_int_equal(ws2_image_crop(&image, 1, 1, 4, 1, &error), WS2_ERR_USAGE);
    assert_int_equal(ws2_image_crop(&image, INT32_MAX, 0, 1, 1, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_image_crop(&image, 1, 1, 2, 2, NULL), 0);
    assert_memory_equal(image.data, ((const uint8_t[]){50, 60, 90, 100}), 4);
    assert_int_equal(ws2_image_convert(&image, 4, NULL), 0);
    assert_memory_equal(image.data + 4, ((const uint8_t[]){60, 60, 60, 255}), 4);
    image.data[4] = 255;
    assert_int_equal(ws2_image_convert(&image, 3, NULL), 0);
    assert_memory_equal(image.data + 3, ((const uint8_t[]){255, 60, 60}), 3);
    assert_int_equal(ws2_image_convert(&image, 1, NULL), 0);
    assert_int_equal(image.data[1], 118); /* 0.299 * 255 + 0.701 * 60 = 118.3 */
    assert_int_equal(ws2_image_reset(&image, 0, 5, 3, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_image_reset(&image, 65535, 65535, 3, NULL), WS2_ERR_INPUT);
    ws2_image_free(&image);
}

/* L*a*b* by the formulas, of all levels of grey and 3000 colours. */
static void lab_by_definition(void **state)
{
    (void)state;
    enum { COLOURS = 3256 };
    static uint8_t rgb[3 * COLOURS];
    static float lab[3 * COLOURS];
    static const double to_xyz[3][3] = {{0.412453, 0.357580, 0.180423},
                                        {0.212671, 0.715160, 0.072169},
                                        {0.019334, 0.119193, 0.950227}},
                        white[3] = {0.950456, 1, 1.088754};
    generator_image("lab", rgb, sizeof rgb);
    for (int i = 0; i < 256; i++)
        rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = (uint8_t)i;
    ws2_lab_f32(lab, rgb, COLOURS);
    for (int i = 0; i < COLOURS; i++) {
        double f[3];
        for (int k = 0; k < 3; k++) {
            double sum = 0;
            for (int c = 0; c < 3; c++) {
                const double s = rgb[3 * i + c] / 255.0;
                sum += to_xyz[k][c] / white[k] * (s <= 0.04045 ? s / 12.92 : pow((s + 0.055) / 1.055, 2.4));
            }
            f[k] = sum > 216.0 / 24389 ? cbrt(sum) : (24389.0 / 27 * sum + 16) / 116;
        }
        assert_float_equal(lab[i], 116 * f[1] - 16, 2e-3);
        assert_float_equal(lab[COLOURS + i], 500 * (f[0] - f[1]), 4e-3);
        assert_float_equal(lab[2 * COLOURS + i], 200 * (f[1] - f[2]), 2e-3);
    }
    assert_float_equal(lab[255], 100, 1e-3);
}

static void hsv_there_and_back(void **state)
{
    (void)state;
    uint8_t rgb[3 * 500], back[3];
    float h[500], s[500], v[500], luma[500];
    generator_image("hsv", rgb, sizeof rgb);
    memset(rgb, 77, 3);
    ws2_hsv_f32(h, s, v, rgb, 500);
    ws2_luma_f32(luma, rgb, 500);
    assert_true(h[0] == 0 && s[0] == 0);
    assert_float_equal(luma[0], 77, 1e-4);
    for (int i = 0; i < 500; i++) {
        assert_true(h[i] >= 0 && h[i] < 1 && s[i] >= 0 && s[i] <= 1);
        ws2_hsv_rgb(h[i], s[i], v[i], back);
        for (int k = 0; k < 3; k++)
            assert_true(abs(back[k] - rgb[3 * i + k]) <= 1);
    }
    ws2_hsv_rgb(-1.0f / 3, 1, 1, back);
    assert_memory_equal(back, ((const uint8_t[]){0, 0, 255}), 3);
}

/* ---- fitting ------------------------------------------------------------------------------------------ */

static void fit_and_rate_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t num, den;
    } rates[] = {{"25", 25, 1}, {"29.97", 2997, 100}, {"30000/1001", 30000, 1001}, {"12.50", 125, 10}};
    int64_t num, den;
    struct ws2_fit fit = {0};
    int width, height;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        assert_int_equal(ws2_rate_parse(rates[i].text, &num, &den, NULL), 0);
        assert_true(num * rates[i].den == den * rates[i].num);
    }
    static const char *const bad[] = {"", "0", "-3", "1.2.3", "1/", "1/2/3", "1.5/2", "99999999999", "x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ws2_rate_parse(bad[i], &num, &den, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_rate_tick(100000, 25, 1), 3); /* 2.5 ticks */
    assert_int_equal(ws2_rate_tick(99999, 25, 1), 2);
    assert_int_equal(ws2_rate_tick((int64_t)86400 * 1000000, 30000, 1001), 2589411);
    assert_int_equal(ws2_fit_parse(&fit, "1,2,30,40", "7x9", NULL), 0);
    assert_true(fit.x == 1 && fit.y == 2 && fit.crop_width == 30 && fit.crop_height == 40);
    assert_int_equal(ws2_fit_size(&fit, 31, 42, &width, &height, NULL), 0);
    assert_true(width == 7 && height == 9);
    assert_int_equal(ws2_fit_size(&fit, 30, 42, &width, &height, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_fit_size(&fit, 1, 1, &width, &height, NULL), WS2_ERR_INPUT);
}

static void truth_is_above_one_half(void **state)
{
    (void)state;
    const struct ws2_fit plain = {0}, half = {.width = 2, .height = 1}, crop = {0, 0, 2, 1, 0, 0, 0};
    struct ws2_image mask = {0};
    struct ws2_resizer *resizer = NULL;
    uint8_t out[9 * 4];
    ws2_image_reset(&mask, 4, 2, 1, NULL);
    memcpy(mask.data, "\x00\x7f\x80\xff\xff\x80\x7f\x00", 8);
    assert_int_equal(ws2_fit_truth(&plain, &mask, 4, 2, out, &resizer, NULL), 0);
    assert_memory_equal(out, "\0\0\1\1\1\1\0\0", 8);
    /* The same shape at half the size; and not the same shape. */
    assert_int_equal(ws2_fit_truth(&half, &mask, 8, 4, out, &resizer, NULL), 0);
    assert_int_equal(ws2_fit_truth(&plain, &mask, 9, 4, out, &resizer, NULL), 0);
    assert_int_equal(ws2_fit_truth(&plain, &mask, 8, 8, out, &resizer, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_fit_truth(&crop, &mask, 8, 4, out, &resizer, NULL), WS2_ERR_INPUT);
    ws2_resizer_free(resizer);
    ws2_image_free(&mask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_resize_as_torch_does),
        cmocka_unit_test(pictures_resize_as_pillow_and_opencv_do),
        cmocka_unit_test(pillow_probe),
        cmocka_unit_test(torch_antialias_probe),
        cmocka_unit_test(kernels_on_a_ramp),
        cmocka_unit_test(area_is_the_mean_of_the_box),
        cmocka_unit_test(whole_boxes_round_to_even),
        cmocka_unit_test(nearest_takes_the_centre),
        cmocka_unit_test(every_kernel_keeps_a_flat_picture_and_its_own_size),
        cmocka_unit_test(resizers_are_kept_and_refuse_nonsense),
        cmocka_unit_test(crop_and_convert),
        cmocka_unit_test(lab_by_definition),
        cmocka_unit_test(hsv_there_and_back),
        cmocka_unit_test(fit_and_rate_are_parsed),
        cmocka_unit_test(truth_is_above_one_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
