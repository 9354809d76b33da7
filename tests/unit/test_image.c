/* image: resizing and jitter against the reference libraries, codecs there and back, damaged files, drawing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "image/image.h"
#include "image/internal.h"

/* ---- the generator of the fixtures (tests/golden/generator.py) ----------------------------------- */

static uint32_t next_state(uint32_t *state)
{
    return *state = *state * 1664525u + 1013904223u;
}

static void fill_values(const char *key, float *out, size_t count)
{
    uint32_t state = ws2_fnv1a(key, strlen(key));
    for (size_t i = 0; i < count; i++)
        out[i] = (float)(((double)(next_state(&state) >> 8) / 16777216.0 - 0.5) * 2);
}

static void fill_image(const char *key, uint8_t *out, size_t count)
{
    uint32_t state = ws2_fnv1a(key, strlen(key));
    for (size_t i = 0; i < count; i++)
        out[i] = (uint8_t)(next_state(&state) >> 24);
}

/* The other generator: hash of (key, index), -1..1. */
static double probe_value(const char *key, uint32_t index)
{
    uint32_t x = ws2_fnv1a(key, strlen(key)) + index * 0x9E3779B9u;
    x ^= x >> 16;
    x *= 0x85EBCA6Bu;
    x ^= x >> 13;
    x *= 0xC2B2AE35u;
    x ^= x >> 16;
    return 2.0 * (x / 4294967296.0) - 1.0;
}

static void make_noise(struct ws2_image *image, int width, int height, int channels)
{
    assert_int_equal(ws2_image_reset(image, width, height, channels, NULL), 0);
    fill_image("image", image->data, (size_t)width * (size_t)height * (size_t)channels);
}

/* Smooth, so that lossy codecs come back close. */
static void make_smooth(struct ws2_image *image, int width, int height, int channels, int phase)
{
    assert_int_equal(ws2_image_reset(image, width, height, channels, NULL), 0);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int k = 0; k < channels; k++)
                image->data[(y * width + x) * channels + k] =
                    (uint8_t)lrint(128 + 90 * sin(0.11 * (x + phase) + k) * cos(0.07 * y - k));
}

static char folder[] = "/tmp/ws2-image-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *in_folder(const char *name)
{
    static char path[8][128];
    static int next;
    char *out = path[next++ % 8];
    snprintf(out, 128, "%s/%s", folder, name);
    return out;
}

static uint8_t *slurp(const char *path, size_t *count)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *count = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*count + 1);
    assert_int_equal(fread(bytes, 1, *count, file), *count);
    fclose(file);
    return bytes;
}

static void spill(const char *path, const void *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

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
        fill_values("map", in, (size_t)(2 * z[0] * z[1]));
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
        fill_image("alpha", alpha, (size_t)(3 * z[0] * z[1]));
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
        fill_values("area", line, (size_t)in);
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

static void hsv_there_and_back(void **state)
{
    (void)state;
    uint8_t rgb[3 * 500], back[3];
    float h[500], s[500], v[500], luma[500];
    fill_image("hsv", rgb, sizeof rgb);
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

/* ---- codecs -------------------------------------------------------------------------------------- */

static void png_keeps_every_sample(void **state)
{
    (void)state;
    struct ws2_image image = {0}, back = {0};
    for (int c = 1; c <= 4; c += c == 1 ? 2 : 1) {
        make_noise(&image, 13, 7, c);
        assert_int_equal(ws2_png_write(in_folder("a.png"), &image, 6, NULL), 0);
        assert_int_equal(ws2_image_read(&back, in_folder("a.png"), 0, NULL), 0);
        assert_int_equal(back.channels, c);
        assert_memory_equal(back.data, image.data, (size_t)(13 * 7 * c));
    }
    for (int i = 0; i < 13 * 7; i++)
        image.data[i] %= 3;
    image.channels = 1;
    static const uint8_t colours[9] = {1, 2, 3, 40, 50, 60, 255, 0, 255};
    assert_int_equal(ws2_png_write_palette(in_folder("p.png"), &image, colours, 3, 9, NULL), 0);
    assert_int_equal(ws2_image_read(&back, in_folder("p.png"), 0, NULL), 0);
    for (int i = 0; i < 13 * 7; i++)
        assert_memory_equal(back.data + 3 * i, colours + 3 * image.data[i], 3);
    assert_int_equal(ws2_png_write_palette(in_folder("q.png"), &image, colours, 2, 9, NULL), WS2_ERR_USAGE);
    assert_int_equal(access(in_folder("q.png"), F_OK), -1);
    ws2_image_free(&image);
    ws2_image_free(&back);
}

static void png_of_16_bits(void **state)
{
    (void)state;
    uint16_t in[5 * 4 * 3], *out;
    int width, height, channels;
    struct ws2_image image = {0};
    for (int i = 0; i < 60; i++)
        in[i] = (uint16_t)(i * 1111);
    assert_int_equal(ws2_png_write16(in_folder("d.png"), in, 5, 4, 3, 6, NULL), 0);
    assert_int_equal(ws2_png_read16(in_folder("d.png"), &out, &width, &height, &channels, NULL), 0);
    assert_true(width == 5 && height == 4 && channels == 3);
    assert_memory_equal(in, out, sizeof in);
    free(out);
    assert_int_equal(ws2_image_read(&image, in_folder("d.png"), 3, NULL), 0);
    for (int i = 0; i < 60; i++)
        assert_int_equal(image.data[i], lrint(in[i] / 257.0));
    assert_int_equal(ws2_png_write(in_folder("e.png"), &image, 6, NULL), 0);
    assert_int_equal(ws2_png_read16(in_folder("e.png"), &out, &width, &height, &channels, NULL),
                     WS2_ERR_INPUT);
    assert_null(out);
    ws2_image_free(&image);
}

static double mean_difference(const struct ws2_image *a, const struct ws2_image *b)
{
    double sum = 0;
    const int count = a->width * a->height * a->channels;
    assert_true(a->width == b->width && a->height == b->height && a->channels == b->channels);
    for (int i = 0; i < count; i++)
        sum += abs(a->data[i] - b->data[i]);
    return sum / count;
}

static void jpeg_comes_back_close(void **state)
{
    (void)state;
    struct ws2_image image = {0}, back = {0};
    for (int c = 1; c <= 3; c += 2) {
        make_smooth(&image, 61, 35, c, 0);
        assert_int_equal(ws2_jpeg_write(in_folder("a.jpg"), &image, 95, NULL), 0);
        assert_int_equal(ws2_image_read(&back, in_folder("a.jpg"), 0, NULL), 0);
        assert_true(mean_difference(&image, &back) < 1.5);
    }
    image.channels = 4;
    assert_int_equal(ws2_jpeg_write(in_folder("b.jpg"), &image, 95, NULL), WS2_ERR_USAGE);
    ws2_image_free(&image);
    ws2_image_free(&back);
}

/* An EXIF segment with only the orientation, put behind the SOI marker. */
static void write_oriented(const char *path, int orientation, bool little)
{
    static const uint8_t big_end[] = {0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0, 0,    'M', 'M',
                                      0,    42,   0, 0,  0,   8,   0,   1,   1, 0x12, 0,   3,
                                      0,    0,    0, 1,  0,   0,   0,   0,   0, 0,    0,   0};
    static const uint8_t little_end[] = {0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0,    0, 'I', 'I',
                                         42,   0,    8, 0,  0,   0,   1,   0,   0x12, 1, 3,   0,
                                         1,    0,    0, 0,  0,   0,   0,   0,   0,    0, 0,   0};
    struct ws2_image image = {0};
    uint8_t exif[36], out[4096];
    size_t count;
    make_smooth(&image, 24, 16, 3, 0);
    assert_int_equal(ws2_jpeg_write(path, &image, 100, NULL), 0);
    uint8_t *bytes = slurp(path, &count);
    memcpy(exif, little ? little_end : big_end, 36);
    exif[little ? 28 : 29] = (uint8_t)orientation;
    memcpy(out, bytes, 2);
    memcpy(out + 2, exif, 36);
    memcpy(out + 38, bytes + 2, count - 2);
    spill(path, out, count + 36);
    free(bytes);
    ws2_image_free(&image);
}

static void exif_orientation_is_applied(void **state)
{
    (void)state;
    /* Where the picture's first pixel, and the one to its right, end up: x, y in an upright picture of w x h. */
    struct ws2_image plain = {0}, turned = {0};
    make_smooth(&plain, 24, 16, 3, 0);
    assert_int_equal(ws2_jpeg_write(in_folder("o.jpg"), &plain, 100, NULL), 0);
    assert_int_equal(ws2_image_read(&plain, in_folder("o.jpg"), 3, NULL), 0);
    for (int o = 1; o <= 8; o++) {
        write_oriented(in_folder("o.jpg"), o, o % 2 == 0);
        assert_int_equal(ws2_image_read(&turned, in_folder("o.jpg"), 3, NULL), 0);
        assert_int_equal(turned.width, o >= 5 ? 16 : 24);
        for (int y = 0; y < 16; y++)
            for (int x = 0; x < 24; x++) {
                const int to[9][2] = {{0, 0}, {x, y},      {23 - x, y},      {23 - x, 15 - y}, {x, 15 - y},
                                      {y, x}, {15 - y, x}, {15 - y, 23 - x}, {y, 23 - x}};
                assert_memory_equal(turned.data + (to[o][1] * turned.width + to[o][0]) * 3,
                                    plain.data + (y * 24 + x) * 3, 3);
            }
    }
    ws2_image_free(&plain);
    ws2_image_free(&turned);
}

/* Every prefix of a picture file is an error; every flipped byte is an error or a picture, never a crash. */
static void check_cuts(const char *path, const char *kind)
{
    struct ws2_image image = {0};
    size_t count;
    uint8_t *bytes = slurp(path, &count);
    for (size_t cut = 0; cut < count; cut++) {
        struct ws2_error error = {0};
        uint8_t *part = malloc(cut + 1);
        memcpy(part, bytes, cut);
        if (ws2_image_decode(&image, part, cut, "x", 3, &error) != WS2_ERR_INPUT)
            fail_msg("%s cut at %zu of %zu was read", kind, cut, count);
        assert_true(strlen(error.text) > 3);
        free(part);
    }
    for (size_t at = 0; at < count; at++)
        for (int flip = 1; flip < 256; flip *= 4) {
            bytes[at] ^= (uint8_t)flip;
            ws2_image_decode(&image, bytes, count, "x", 3, NULL);
            bytes[at] ^= (uint8_t)flip;
        }
    free(bytes);
    ws2_image_free(&image);
}

static void cut_and_flipped_pictures_are_errors(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    make_noise(&image, 19, 11, 3);
    ws2_png_write(in_folder("c.png"), &image, 6, NULL);
    check_cuts(in_folder("c.png"), "png");
    ws2_jpeg_write(in_folder("c.jpg"), &image, 90, NULL);
    check_cuts(in_folder("c.jpg"), "jpeg");
    FILE *file = fopen(in_folder("c.ppm"), "wb");
    assert_int_equal(ws2_pnm_write_file(file, &image, NULL), 0);
    fclose(file);
    check_cuts(in_folder("c.ppm"), "ppm");
    ws2_image_free(&image);
}

static void pnm_of_every_kind(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t count;
        uint8_t sample[6];
        int channels;
    } cases[] = {
        {"P1\n# comment\n3 2\n101\n0 1 0", 0, {0, 255, 0, 255, 0, 255}, 1},
        {"P2 3 2 10 0 1 5 10 11 2", 0, {0, 26, 128, 255, 255, 51}, 1},
        {"P3 2 1 255 1 2 3 4 5 6", 0, {1, 2, 3, 4, 5, 6}, 3},
        {"P4 3 2\n\xA0\x40", 9, {0, 255, 0, 255, 0, 255}, 1},
        {"P5 3 2 255\n\1\2\3\4\5\6", 0, {1, 2, 3, 4, 5, 6}, 1},
        {"P6#c\n2 1 65535\n\1\1\2\2\3\3\4\4\5\5\6\6", 0, {1, 2, 3, 4, 5, 6}, 3},
    };
    struct ws2_image image = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t count = cases[i].count ? cases[i].count : strlen(cases[i].text);
        struct ws2_error error = {0};
        ws2_image_decode(&image, cases[i].text, count, "x", 0, &error);
        assert_string_equal(error.text, "");
        assert_int_equal(image.channels, cases[i].channels);
        assert_memory_equal(image.data, cases[i].sample, 6);
        /* One sample less: a byte, or a digit and its space. */
        assert_int_equal(
            ws2_image_decode(&image, cases[i].text, count - (i == 1 || i == 2 ? 2 : 1), "x", 0, NULL),
            WS2_ERR_INPUT);
    }
    static const char *const bad[] = {"P5 0 2 255\n", "P5 99999999999 2 255\n", "P5 2 2 70000\n",
                                      "P2 1 1 0 1", "P6"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ws2_image_decode(&image, bad[i], strlen(bad[i]), "x", 0, NULL), WS2_ERR_INPUT);
    ws2_image_free(&image);
}

static void foreign_and_missing_files_are_errors(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    struct ws2_error error = {0};
    assert_int_equal(ws2_image_read(&image, in_folder("none.png"), 3, &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "none.png: No such file"));
    spill(in_folder("text.png"), "hello", 5);
    assert_int_equal(ws2_image_read(&image, in_folder("text.png"), 3, NULL), WS2_ERR_INPUT);
    spill(in_folder("empty.png"), "", 0);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_image_read(&image, in_folder("empty.png"), 3, &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "empty.png: the file is empty"));
    assert_int_equal(ws2_image_read(&image, folder, 3, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_media_sniff(folder, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_media_sniff(in_folder("text.png"), NULL), WS2_MEDIA_OTHER);
    assert_int_equal(ws2_png_write("/nonexistent/x.png", &image, 6, NULL), WS2_ERR_SYSTEM);
    ws2_image_free(&image);
}

static void a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    struct ws2_error error = {0};
    FILE *full = fopen("/dev/full", "wb");
    if (!full) {
        print_message("there is no /dev/full\n");
        skip();
    }
    setvbuf(full, NULL, _IONBF, 0);
    make_noise(&image, 100, 100, 3);
    assert_int_equal(ws2_png_write_file(full, &image, 6, &error), WS2_ERR_SYSTEM);
    assert_non_null(strstr(error.text, "No space left"));
    assert_int_equal(ws2_pnm_write_file(full, &image, NULL), WS2_ERR_SYSTEM);
    fclose(full);
    ws2_image_free(&image);
}

static void npy_of_every_dtype(void **state)
{
    (void)state;
    const struct ws2_shape shape = ws2_shape_3(2, 1, 3), scalar = {0, {0}}, empty = ws2_shape_2(0, 4);
    uint8_t data[48];
    fill_image("npy", data, sizeof data);
    for (int d = 0; d < WS2_DTYPES; d++) {
        enum ws2_dtype dtype;
        struct ws2_shape back;
        void *out;
        assert_int_equal(ws2_npy_write(in_folder("a.npy"), d, &shape, data, NULL), 0);
        assert_int_equal(ws2_npy_read(in_folder("a.npy"), &dtype, &back, &out, NULL), 0);
        assert_true(dtype == (enum ws2_dtype)d && ws2_shape_equal(&shape, &back));
        assert_memory_equal(out, data, 6 * ws2_dtype_size(d));
        free(out);
        ws2_npy_write(in_folder("a.npy"), d, &scalar, data, NULL);
        assert_int_equal(ws2_npy_read(in_folder("a.npy"), &dtype, &back, &out, NULL), 0);
        assert_int_equal(back.rank, 0);
        free(out);
        ws2_npy_write(in_folder("a.npy"), d, &empty, data, NULL);
        assert_int_equal(ws2_npy_read(in_folder("a.npy"), &dtype, &back, &out, NULL), 0);
        assert_true(ws2_shape_equal(&empty, &back));
        free(out);
    }
}

static void hostile_npy_headers_are_errors(void **state)
{
    (void)state;
    static const char *const dictionary[] = {
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }",
        "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 2}",
        "{'fortran_order': False, 'shape': (2,)}",
        "",
    };
    enum ws2_dtype dtype;
    struct ws2_shape shape;
    void *out;
    for (size_t i = 0; i < sizeof dictionary / sizeof *dictionary; i++) {
        uint8_t file[256] = "\x93NUMPY\x01\x00";
        const size_t length = strlen(dictionary[i]);
        file[8] = (uint8_t)length;
        memcpy(file + 10, dictionary[i], length);
        spill(in_folder("b.npy"), file, 10 + length + 8);
        assert_int_equal(ws2_npy_read(in_folder("b.npy"), &dtype, &shape, &out, NULL), WS2_ERR_INPUT);
        assert_null(out);
    }
    const struct ws2_shape good = ws2_shape_1(3);
    ws2_npy_write(in_folder("c.npy"), WS2_F32, &good, "abcdefghijkl", NULL);
    size_t count;
    uint8_t *bytes = slurp(in_folder("c.npy"), &count);
    for (size_t cut = 0; cut < count; cut++) {
        spill(in_folder("c.npy"), bytes, cut);
        assert_true(ws2_npy_read(in_folder("c.npy"), &dtype, &shape, &out, NULL) < 0);
    }
    free(bytes);
}

/* ---- lists of files ------------------------------------------------------------------------------ */

static void folders_are_read_in_natural_order(void **state)
{
    (void)state;
    static const char *const names[] = {"f_10.jpg",    "f_2.PNG",   "f_1.jpeg",
                                        ".hidden.png", "notes.txt", "f_02.png"};
    struct ws2_files files = {0};
    mkdir(in_folder("n"), 0777);
    mkdir(in_folder("n/sub.png"), 0777);
    struct ws2_error error = {0};
    assert_int_equal(ws2_files_folder(&files, in_folder("n"), &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "no pictures"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64];
        snprintf(path, sizeof path, "n/%s", names[i]);
        spill(in_folder(path), "", 0);
    }
    assert_int_equal(ws2_files_folder(&files, in_folder("n"), NULL), 0);
    assert_int_equal(files.count, 4);
    assert_string_equal(files.stem[0], "f_1");
    assert_string_equal(files.stem[1], "f_2");
    assert_string_equal(files.stem[2], "f_02");
    assert_string_equal(files.stem[3], "f_10");
    ws2_files_number(&files);
    assert_int_equal(files.number[3], 3); /* 2 and 02 do not increase */
    unlink(files.path[2]);
    ws2_files_free(&files);
    assert_int_equal(ws2_files_glob(&files, in_folder("n/f_*"), NULL), 0);
    ws2_files_number(&files);
    assert_int_equal(files.count, 3);
    assert_int_equal(files.number[0], 1);
    assert_int_equal(files.number[2], 10);
    ws2_files_free(&files);
    assert_int_equal(ws2_files_glob(&files, in_folder("n/g*"), NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_files_folder(&files, in_folder("none"), NULL), WS2_ERR_INPUT);
    ws2_files_free(&files);
    char *path;
    assert_int_equal(ws2_files_find(in_folder("n"), "f_2", &path, NULL), 1);
    assert_string_equal(path, in_folder("n/f_2.PNG"));
    free(path);
    assert_int_equal(ws2_files_find(in_folder("n"), "f_3", &path, NULL), 0);
    spill(in_folder("n/f_2.jpg"), "", 0);
    assert_int_equal(ws2_files_find(in_folder("n"), "f_2", &path, NULL), WS2_ERR_INPUT);
}

/* ---- video --------------------------------------------------------------------------------------- */

/* Chroma at a luma position, by the definition: linear between the two nearest samples, edges repeated. */
static double chroma_at(const struct image_yuv *yuv, int p, int x, int y)
{
    const int cw = (yuv->width + yuv->shift_x) >> yuv->shift_x,
              ch = (yuv->height + yuv->shift_y) >> yuv->shift_y;
    double at[2] = {x, y};
    if (yuv->shift_x)
        at[0] = yuv->left ? x / 2.0 : (x + 0.5) / 2 - 0.5;
    if (yuv->shift_y)
        at[1] = yuv->top ? y / 2.0 : (y + 0.5) / 2 - 0.5;
    at[0] = fmin(fmax(at[0], 0), cw - 1);
    at[1] = fmin(fmax(at[1], 0), ch - 1);
    double sum = 0;
    for (int j = 0; j < ch; j++)
        for (int i = 0; i < cw; i++) {
            const uint8_t *sample = yuv->plane[p] + j * yuv->stride[p] + i * (yuv->depth > 8 ? 2 : 1);
            const int value = yuv->depth > 8 ? sample[0] | sample[1] << 8 : sample[0];
            sum += fmax(0, 1 - fabs(at[0] - i)) * fmax(0, 1 - fabs(at[1] - j)) * value;
        }
    return sum;
}

static void check_yuv(const struct image_yuv *yuv)
{
    uint8_t rgb[11 * 7 * 3];
    void *scratch = malloc(image_yuv_scratch(yuv->width));
    const double unit = 1 << (yuv->depth - 8), top = (1 << yuv->depth) - 1, kg = 1 - yuv->kr - yuv->kb;
    image_yuv_rgb(rgb, yuv, scratch);
    free(scratch);
    for (int y = 0; y < yuv->height; y++)
        for (int x = 0; x < yuv->width; x++) {
            const uint8_t *sample = yuv->plane[0] + y * yuv->stride[0] + x * (yuv->depth > 8 ? 2 : 1);
            const int value = yuv->depth > 8 ? sample[0] | sample[1] << 8 : sample[0];
            const double luma = yuv->full ? value * 255 / top : (value - 16 * unit) * 255 / (219 * unit);
            const double scale = 255 / (yuv->full ? top : 224 * unit);
            const double u = (chroma_at(yuv, 1, x, y) - 128 * unit) * scale;
            const double v = (chroma_at(yuv, 2, x, y) - 128 * unit) * scale;
            const double red = luma + 2 * (1 - yuv->kr) * v, blue = luma + 2 * (1 - yuv->kb) * u;
            const double want[3] = {red, (luma - yuv->kr * red - yuv->kb * blue) / kg, blue};
            for (int k = 0; k < 3; k++) {
                const double clipped = fmin(fmax(want[k], 0), 255);
                if (fabs(rgb[(y * yuv->width + x) * 3 + k] - clipped) > 0.51)
                    fail_msg("%d,%d,%d: %d, wanted %g", x, y, k, rgb[(y * yuv->width + x) * 3 + k], clipped);
            }
        }
}

static void yuv_follows_the_definition(void **state)
{
    (void)state;
    uint8_t planes[3][16 * 8 * 2];
    for (int mode = 0; mode < 4 * 2 * 2 * 2 * 2; mode++) {
        struct image_yuv yuv = {.width = 11, .height = 7, .kr = 0.2126, .kb = 0.0722};
        yuv.shift_x = mode & 1;
        yuv.shift_y = mode >> 1 & 1;
        yuv.depth = mode >> 2 & 1 ? 10 : 8;
        yuv.full = mode >> 3 & 1;
        yuv.left = mode >> 4 & 1;
        yuv.top = mode >> 5 & 1;
        fill_image("yuv", &planes[0][0], sizeof planes);
        for (int p = 0; p < 3; p++) {
            for (size_t i = 1; yuv.depth == 10 && i < sizeof planes[p]; i += 2)
                planes[p][i] &= 3;
            yuv.plane[p] = planes[p];
            yuv.stride[p] = 32;
        }
        check_yuv(&yuv);
    }
}

static void write_video(const char *path, int width, int height, int frames)
{
    struct ws2_video_writer *writer;
    struct ws2_image image = {0};
    assert_int_equal(ws2_video_create(&writer, path, width, height, 25, 1, 10, NULL), 0);
    for (int i = 0; i < frames; i++) {
        make_smooth(&image, width, height, 3, 3 * i);
        assert_int_equal(ws2_video_put(writer, &image, NULL), 0);
    }
    ws2_image_reset(&image, width + 1, height, 3, NULL);
    assert_int_equal(ws2_video_put(writer, &image, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_video_finish(writer, NULL), 0);
    ws2_image_free(&image);
}

static bool video_can_be_written(void)
{
    struct ws2_video_writer *writer;
    struct ws2_error error = {0};
    if (ws2_video_create(&writer, in_folder("try.mp4"), 16, 16, 25, 1, 10, &error) < 0) {
        print_message("no video here: %s\n", error.text);
        return false;
    }
    ws2_video_abandon(writer);
    assert_int_equal(access(in_folder("try.mp4.tmp"), F_OK), -1);
    return true;
}

static void video_there_and_back(void **state)
{
    (void)state;
    struct ws2_video *video;
    struct ws2_image image = {0}, want = {0};
    struct ws2_error error = {0};
    int64_t pts;
    if (!video_can_be_written())
        skip();
    write_video(in_folder("v.mp4"), 75, 49, 12);
    assert_int_equal(ws2_video_open(&video, in_folder("v.mp4"), 2, &error), 0);
    const struct ws2_video_info *info = ws2_video_info(video);
    assert_true(info->width == 76 && info->height == 50 && info->frames == 12);
    assert_true(info->rate_num == 25 * info->rate_den && info->rotation == 0);
    assert_string_equal(info->codec, "h264");
    for (int i = 0; i < 12; i++) {
        assert_int_equal(ws2_video_next(video, i == 5 ? NULL : &image, &pts, &error), 1);
        assert_int_equal(pts, 40000 * i);
        make_smooth(&want, 75, 49, 3, 3 * i);
        assert_int_equal(ws2_image_crop(&image, 0, 0, 75, 49, NULL), 0);
        if (i != 5)
            assert_true(mean_difference(&want, &image) < 2.5);
        else
            ws2_image_reset(&image, 76, 50, 3, NULL);
    }
    assert_int_equal(ws2_video_next(video, &image, &pts, &error), 0);
    assert_int_equal(ws2_video_next(video, &image, &pts, &error), 0);
    ws2_video_close(video);
    ws2_image_free(&image);
    ws2_image_free(&want);
}

static void cut_video_never_loses_frames_silently(void **state)
{
    (void)state;
    size_t count;
    if (!video_can_be_written())
        skip();
    write_video(in_folder("w.mp4"), 32, 32, 6);
    uint8_t *bytes = slurp(in_folder("w.mp4"), &count);
    for (size_t cut = 0; cut < count; cut += 1 + count / 97) {
        struct ws2_video *video;
        struct ws2_error error = {0};
        int status, frames = 0;
        spill(in_folder("cut.mp4"), bytes, cut);
        status = ws2_video_open(&video, in_folder("cut.mp4"), 1, &error);
        while (status >= 0 && (status = ws2_video_next(video, NULL, NULL, &error)) > 0)
            frames++;
        /* A cut in the last descriptive atoms costs no frame. */
        if (status >= 0 && frames < 6)
            fail_msg("cut at %zu of %zu was not noticed", cut, count);
        assert_true(status >= 0 || error.text[0] != '\0');
        ws2_video_close(video);
    }
    free(bytes);
}

static void no_video_is_an_error(void **state)
{
    (void)state;
    struct ws2_video *video;
    struct ws2_video_writer *writer;
    struct ws2_error error = {0};
    if (!video_can_be_written())
        skip();
    assert_int_equal(ws2_video_open(&video, in_folder("missing.mp4"), 1, &error), WS2_ERR_INPUT);
    assert_null(video);
    spill(in_folder("junk.mp4"), "not a video at all, only some text", 34);
    assert_int_equal(ws2_video_open(&video, in_folder("junk.mp4"), 1, NULL), WS2_ERR_INPUT);
    /* A play list must not make libav open other files. */
    char list[300];
    const int length = snprintf(list, sizeof list, "ffconcat version 1.0\nfile %s\n", in_folder("w.mp4"));
    spill(in_folder("list.mp4"), list, (size_t)length);
    assert_int_equal(ws2_video_open(&video, in_folder("list.mp4"), 1, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_video_create(&writer, in_folder("z.mp4"), 16, 16, 25, 1, 20, NULL), 0);
    assert_int_equal(ws2_video_finish(writer, NULL), WS2_ERR_INPUT);
    assert_int_equal(access(in_folder("z.mp4"), F_OK), -1);
    assert_int_equal(ws2_video_create(&writer, in_folder("z.mp4"), 16, 16, 0, 1, 20, NULL), WS2_ERR_USAGE);
    assert_non_null(ws2_video_library());
}

/* ---- drawing ------------------------------------------------------------------------------------- */

static void outline_marks_the_inner_border(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    uint8_t mask[9 * 8] = {0};
    static const uint8_t red[3] = {255, 0, 0};
    ws2_image_reset(&image, 9, 8, 3, NULL);
    memset(image.data, 0, 9 * 8 * 3);
    for (int y = 1; y < 7; y++)
        for (int x = 2; x < 9; x++)
            mask[9 * y + x] = 1;
    assert_int_equal(ws2_draw_outline(&image, mask, red, 2, NULL), 0);
    /* The right side of the mask lies on the edge of the picture, which is no border. */
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 9; x++) {
            const bool inside = y >= 1 && y < 7 && x >= 2;
            const bool border = inside && (y < 3 || y >= 5 || x < 4);
            assert_int_equal(image.data[3 * (9 * y + x)], border ? 255 : 0);
        }
    ws2_image_free(&image);
}

static void flow_wheel_has_its_known_colours(void **state)
{
    (void)state;
    /* Right is red, down yellow, left blue-cyan, up violet in the Middlebury wheel; no motion is white. */
    const float flow[12] = {1, 0, -1, 0, 0, 2e9f, 0, 1, 0, -1, 0, 0};
    struct ws2_image image = {0};
    assert_int_equal(ws2_flow_rgb(&image, flow, 6, 1, 0, NULL), 0);
    assert_memory_equal(image.data, ((const uint8_t[]){255, 0, 0}), 3);
    const uint8_t *down = image.data + 3, *left = image.data + 6, *up = image.data + 9;
    assert_true(down[0] > 200 && down[1] > 200 && down[2] < 60);
    assert_true(left[0] < 60 && left[1] > 100 && left[2] > 200);
    assert_true(up[0] > 60 && up[1] < 60 && up[2] > 200);
    assert_memory_equal(image.data + 12, ((const uint8_t[]){255, 255, 255}), 3);
    assert_memory_equal(image.data + 15, ((const uint8_t[]){0, 0, 0}), 3);
    ws2_image_free(&image);
}

static void palettes_rise_and_ids_differ(void **state)
{
    (void)state;
    uint8_t low[3], high[3], colour[40][3];
    ws2_palette_rgb(WS2_PALETTE_TURBO, -3, low);
    ws2_palette_rgb(WS2_PALETTE_TURBO, 9, high);
    assert_true(low[2] > low[1] && high[0] > high[2]);
    ws2_palette_rgb(WS2_PALETTE_GREY, NAN, low);
    assert_int_equal(low[0], 128);
    double before = -1;
    for (int i = 0; i <= 100; i++) {
        ws2_palette_rgb(WS2_PALETTE_VIRIDIS, (float)i / 100, low);
        const double luma = 0.2126 * pow(low[0] / 255.0, 2.2) + 0.7152 * pow(low[1] / 255.0, 2.2) +
                            0.0722 * pow(low[2] / 255.0, 2.2);
        assert_true(luma > before - 2e-3);
        before = luma;
    }
    for (int i = 0; i < 40; i++) {
        ws2_id_rgb(i, colour[i]);
        for (int j = 0; j < i; j++)
            assert_true(abs(colour[i][0] - colour[j][0]) + abs(colour[i][1] - colour[j][1]) +
                            abs(colour[i][2] - colour[j][2]) >
                        10);
    }
    struct ws2_image image = {0};
    const float map[3] = {0, NAN, 1};
    assert_int_equal(ws2_heat_rgb(&image, map, 3, 1, 0, 1, WS2_PALETTE_GREY, NULL), 0);
    assert_memory_equal(image.data, ((const uint8_t[]){0, 0, 0, 128, 128, 128, 255, 255, 255}), 9);
    ws2_image_free(&image);
}

static void text_stays_inside(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    static const uint8_t white[3] = {255, 255, 255};
    ws2_image_reset(&image, 20, 10, 1, NULL);
    memset(image.data, 0, 200);
    ws2_draw_text(&image, -3, -2, "a\x80~~~~~~", white, 2);
    ws2_draw_text(&image, 18, 9, "WW", white, 3);
    memset(image.data, 0, 200);
    ws2_draw_text(&image, 1, 1, "I", white, 1);
    assert_int_equal(ws2_text_width("abc", 2), 36);
    static const char *const letter[7] = {" ###", "  #", "  #", "  #", "  #", "  #", " ###"};
    for (int y = 0; y < 7; y++)
        for (int x = 0; x < 5; x++)
            assert_int_equal(image.data[20 * (y + 1) + x + 1],
                             x < (int)strlen(letter[y]) && letter[y][x] == '#' ? 255 : 0);
    ws2_image_free(&image);
}

static void panels_stand_side_by_side_and_below(void **state)
{
    (void)state;
    struct ws2_image panel[2] = {{0}, {0}}, row = {0}, sheet = {0};
    make_noise(&panel[0], 20, 10, 3);
    make_noise(&panel[1], 8, 12, 1);
    const char *const captions[2] = {"rgb", NULL};
    assert_int_equal(ws2_draw_row(&row, panel, captions, 2, NULL), 0);
    assert_true(row.width == 4 + 20 + 4 + 8 + 4 && row.height == 11 + 12 + 4);
    assert_memory_equal(row.data + (11 * row.width + 4) * 3, panel[0].data, 60);
    assert_int_equal(row.data[(11 * row.width + 28) * 3 + 2], panel[1].data[0]);
    assert_int_equal(ws2_draw_below(&sheet, &row, NULL), 0);
    assert_int_equal(ws2_draw_below(&sheet, &panel[0], NULL), 0);
    assert_int_equal(ws2_draw_below(&sheet, &row, NULL), 0);
    assert_true(sheet.width == row.width && sheet.height == 2 * row.height + 10);
    assert_memory_equal(sheet.data + (row.height + 10) * row.width * 3, row.data,
                        (size_t)(row.width * row.height * 3));
    assert_memory_equal(sheet.data + row.height * row.width * 3, panel[0].data, 60);
    assert_int_equal(ws2_draw_row(&row, panel, NULL, 0, NULL), WS2_ERR_USAGE);
    ws2_image_free(&panel[0]);
    ws2_image_free(&panel[1]);
    ws2_image_free(&row);
    ws2_image_free(&sheet);
}

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

static void tensors_become_pictures(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    const struct ws2_view plain = {.palette = WS2_PALETTE_GREY};
    struct ws2_view second = plain;
    const struct ws2_shape plane = ws2_shape_2(1, 3), maps = ws2_shape_3(2, 1, 3), line = ws2_shape_1(3),
                           empty = ws2_shape_2(0, 3);
    const uint8_t mask[3] = {0, 1, 1}, grey[3] = {0, 1, 2}, instances[6] = {1, 1, 0, 0, 1, 0};
    const float map[6] = {0, 0.5f, 1, -1, 1, 3};
    uint16_t half[6];
    uint8_t colour[3];
    second.channel = 1;
    ws2_half_from_floats(half, map, 6);
    assert_int_equal(ws2_view_tensor(&image, "fg", WS2_U8, &plane, mask, &plain, NULL), 0);
    assert_memory_equal(image.data, "\0\xff\xff", 3);
    ws2_view_tensor(&image, "fg", WS2_U8, &plane, grey, &plain, NULL);
    assert_memory_equal(image.data, "\0\1\2", 3);
    ws2_view_tensor(&image, "class", WS2_U8, &plane, grey, &plain, NULL);
    ws2_id_rgb(2, colour);
    assert_memory_equal(image.data + 6, colour, 3);
    ws2_view_tensor(&image, "instances", WS2_U8, &maps, instances, &plain, NULL);
    assert_memory_equal(image.data + 3, colour, 3);
    assert_int_equal(ws2_view_tensor(&image, "cam", WS2_F16, &maps, half, &plain, NULL), 0);
    assert_memory_equal(image.data, ((const uint8_t[]){0, 0, 0, 128, 128, 128, 255, 255, 255}), 9);
    ws2_view_tensor(&image, "cam", WS2_F32, &maps, map, &second, NULL);
    assert_memory_equal(image.data, ((const uint8_t[]){0, 0, 0, 128, 128, 128, 255, 255, 255}), 9);
    second.channel = 2;
    assert_int_equal(ws2_view_tensor(&image, "cam", WS2_F32, &maps, map, &second, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_view_tensor(&image, "prob", WS2_F32, &line, map, &plain, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_view_tensor(&image, "x", WS2_U8, &empty, map, &plain, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_view_tensor(&image, "x", WS2_F64, &plane, map, &plain, NULL), WS2_ERR_INPUT);
    ws2_view_tensor(&image, "flow.next", WS2_F32, &maps, map, &plain, NULL);
    assert_int_equal(image.channels, 3);
    /* Every name that begins with "flow", in either type; unknown is black: beyond 1e9, infinite (as a half), NaN. */
    const float moved[6] = {2, 3e9f, 0, 0, 0, NAN};
    ws2_half_from_floats(half, moved, 6);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ws2_view_tensor(&image, "flow.truth.next", i ? WS2_F16 : WS2_F32, &maps,
                                         i ? (const void *)half : moved, &plain, NULL),
                         0);
        assert_memory_equal(image.data, ((const uint8_t[]){255, 0, 0, 0, 0, 0, 0, 0, 0}), 9);
    }
    assert_int_equal(ws2_view_tensor(&image, "flow.truth.next.valid", WS2_U8, &plane, mask, &plain, NULL), 0);
    assert_memory_equal(image.data, "\0\xff\xff", 3);
    ws2_image_free(&image);
}

/* Pictures up to the next folder or video are one sequence; on an error what came before has been given. */
static void operands_become_sequences(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    char path[7][160];
    const char *operand[7];
    mkdir(in_folder("clip"), 0777);
    mkdir(in_folder("truth"), 0777);
    mkdir(in_folder("truth/clip"), 0777);
    make_noise(&image, 4, 4, 3);
    static const char *const pictures[] = {"clip/f_1.png", "clip/f_2.png", "s_10.png", "s_9.png"};
    for (int i = 0; i < 4; i++)
        assert_int_equal(ws2_png_write(in_folder(pictures[i]), &image, 1, NULL), 0);
    ws2_image_free(&image);
    spill(in_folder("film.mp4"),
          "\0\0\0\x18"
          "ftypisom\0\0\0\0",
          16);
    static const char *const names[] = {"clip/f_2.png", "s_*.png",  "clip", "film.mp4",
                                        "clip/f_1.png", "none.png", "clip"};
    for (int i = 0; i < 7; i++) {
        snprintf(path[i], sizeof path[i], "%s", in_folder(names[i]));
        operand[i] = path[i];
    }
    static const struct {
        const char *name;
        int64_t pictures;
    } want[] = {{"clip", 3}, {"clip", 2}, {"film", 0}};
    struct ws2_sources sources = {.path = operand, .count = 7};
    struct ws2_source source;
    struct ws2_error error = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ws2_sources_next(&sources, &source, &error), 1);
        assert_string_equal(source.name, want[i].name);
        assert_int_equal(source.files.count, want[i].pictures);
        assert_int_equal(source.video != NULL, want[i].pictures == 0);
        ws2_source_free(&source);
    }
    assert_int_equal(ws2_sources_next(&sources, &source, &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "none.png"));
    ws2_source_free(&source);
    ws2_files_free(&sources.list);
    sources = (struct ws2_sources){.path = operand, .count = 1};
    assert_int_equal(ws2_sources_next(&sources, &source, &error), 1);
    assert_string_equal(source.name, "f_2"); /* a single picture gives its own name */
    ws2_source_free(&source);
    assert_int_equal(ws2_sources_next(&sources, &source, &error), 0);
    char *truth = ws2_truth_path(in_folder("truth"), "clip");
    assert_string_equal(truth, in_folder("truth/clip"));
    free(truth);
    truth = ws2_truth_path(in_folder("truth"), "film");
    assert_string_equal(truth, in_folder("truth"));
    free(truth);
}

/* A frame of 4 x 2 with a map, a mask and a mask of another size; "late" is announced but not there. */
static bool look_has(void *context, const char *name)
{
    return strstr(context, name) != NULL;
}

static int look_get(void *context, const char *name, enum ws2_dtype *dtype, struct ws2_shape *shape,
                    const void **data, struct ws2_error *error)
{
    static const uint8_t rgb[24] = {0}, mask[8] = {0, 1, 1, 0, 0, 0, 0, 0};
    static const float map[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    (void)context;
    (void)error;
    if (strcmp(name, "late") == 0)
        return 0;
    *dtype = *name == 'c' ? WS2_F32 : WS2_U8;
    *shape = *name == 'r'   ? ws2_shape_3(2, 4, 3)
             : *name == 'c' ? ws2_shape_3(2, 2, 4)
             : *name == 'm' ? ws2_shape_2(2, 4)
                            : ws2_shape_2(4, 2);
    *data = *name == 'r' ? (const void *)rgb : *name == 'c' ? (const void *)map : (const void *)mask;
    return 1;
}

static int look_class(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "before") == 0 ? 1 : -1;
}

static void frames_are_looked_at(void **state)
{
    (void)state;
    char all[] = "rgb cam mask other late";
    const struct ws2_look_source source = {all, look_has, look_get, look_class};
    static const char *const masks[] = {"mask", "late"}, *const wrong[] = {"other"};
    static const char *const panels[] = {"late", "overlay", "cam:0"};
    struct ws2_look look = {.view = {.palette = WS2_PALETTE_GREY},
                            .heat = "cam",
                            .mask = masks,
                            .masks = 2,
                            .alpha = 1,
                            .thickness = 1};
    struct ws2_image image = {0}, picture[3] = {{0}};
    struct ws2_error error = {0};
    assert_int_equal(ws2_look_overlay(&image, &look, &source, &error),
                     1); /* the class before, then the mask */
    assert_memory_equal(image.data, ((const uint8_t[]){255, 255, 255, 255, 48, 48, 255, 48, 48, 255}), 10);
    look.heat = "cam:0";
    look.masks = 0;
    assert_int_equal(ws2_look_overlay(&image, &look, &source, &error), 1);
    assert_memory_equal(image.data, ((const uint8_t[24]){0}), 24);
    look.heat = "late"; /* the frame alone */
    assert_int_equal(ws2_look_overlay(&image, &look, &source, &error), 1);
    assert_int_equal(ws2_look_tensor(&image, &look, &source, "late", false, &error), 0);
    assert_int_equal(ws2_look_panels(&image, picture, &look, &source, panels, 3, "b1 7", &error), 1);
    assert_true(image.width >= 64 + 4 + 4 && picture[0].width == 64 && picture[2].height == 2);
    assert_string_equal(error.text, "");
    static const struct {
        const char *text, *says;
        int status;
    } bad[] = {{"none", "no tensor 'none'", WS2_ERR_INPUT},
               {"cam:9", "tensor 'cam': no channel 9 in a map of 2", WS2_ERR_INPUT},
               {"cam:bird", "no class 'bird' in this stream", WS2_ERR_INPUT},
               {":0", "':0' names no tensor", WS2_ERR_USAGE}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error = (struct ws2_error){0};
        assert_int_equal(ws2_look_tensor(&image, &look, &source, bad[i].text, true, &error), bad[i].status);
        assert_string_equal(error.text, bad[i].says);
    }
    look = (struct ws2_look){.mask = wrong, .masks = 1, .thickness = 1};
    error = (struct ws2_error){0};
    assert_int_equal(ws2_look_overlay(&image, &look, &source, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "tensor 'other' is no mask of the frame's size");
    ws2_image_free(&image);
    for (int i = 0; i < 3; i++)
        ws2_image_free(&picture[i]);
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
        cmocka_unit_test(hsv_there_and_back),
        cmocka_unit_test(png_keeps_every_sample),
        cmocka_unit_test(png_of_16_bits),
        cmocka_unit_test(jpeg_comes_back_close),
        cmocka_unit_test(exif_orientation_is_applied),
        cmocka_unit_test(cut_and_flipped_pictures_are_errors),
        cmocka_unit_test(pnm_of_every_kind),
        cmocka_unit_test(foreign_and_missing_files_are_errors),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(npy_of_every_dtype),
        cmocka_unit_test(hostile_npy_headers_are_errors),
        cmocka_unit_test(folders_are_read_in_natural_order),
        cmocka_unit_test(yuv_follows_the_definition),
        cmocka_unit_test(video_there_and_back),
        cmocka_unit_test(cut_video_never_loses_frames_silently),
        cmocka_unit_test(no_video_is_an_error),
        cmocka_unit_test(fit_and_rate_are_parsed),
        cmocka_unit_test(truth_is_above_one_half),
        cmocka_unit_test(tensors_become_pictures),
        cmocka_unit_test(frames_are_looked_at),
        cmocka_unit_test(operands_become_sequences),
        cmocka_unit_test(outline_marks_the_inner_border),
        cmocka_unit_test(flow_wheel_has_its_known_colours),
        cmocka_unit_test(palettes_rise_and_ids_differ),
        cmocka_unit_test(text_stays_inside),
        cmocka_unit_test(panels_stand_side_by_side_and_below),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
