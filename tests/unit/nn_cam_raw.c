/* Class activation maps that are not divided by their maximum: maps, coarse masks of them, and the stream. */
#include <stdio.h>

#include "cam_help.h"
#include "mask/mask.h"

/* Options 0..3: puzzle and gradcam, at one scale and at three with the mirrored picture. */
static struct ws2_cam_options raw_or_not(int variant, bool raw)
{
    struct ws2_cam_options options = {.method = variant & 1 ? WS2_CAM_GRADCAM : WS2_CAM_PUZZLE, .raw = raw};
    if (variant & 2) {
        options.flip = true;
        options.scales = 3;
        memcpy(options.scale, (const double[]){0.5, 1, 2}, 3 * sizeof(double));
    }
    return options;
}

/* Raw maps divided by maximum + 1e-5 are the normal ones. */
static void raw_maps_lack_the_division_only(void **state)
{
    (void)state;
    enum { P = 12 * 16, N = 2 * 3 * P };
    static float raw[N], normal[N];
    float p[6], q[6];
    for (int variant = 0; variant < 4; variant++) {
        struct ws2_cam_options options = raw_or_not(variant, true);
        float top = 0;
        tiny_maps(NN_F32_MODE, true, &options, raw, p);
        options.raw = false;
        tiny_maps(NN_F32_MODE, true, &options, normal, q);
        assert_memory_equal(p, q, sizeof p);
        for (int map = 0; map < 6; map++) {
            float *at = raw + map * P, peak = 0;
            for (int i = 0; i < P; i++)
                peak = fmaxf(peak, at[i]);
            for (int i = 0; i < P; i++)
                at[i] /= peak + 1e-5f;
            top = fmaxf(top, peak);
        }
        assert_true(largest_difference(raw, normal, N) < 1e-6);
        if (variant == 3) /* three scales, each map and its mirror image up to 1 */
            assert_true(top > 2 && top <= 6);
    }
}

/* Value i of a map of halves divided by its maximum, as ws2_coarse_mask has it. */
static double quotient(const uint16_t *map, int pixels, int i)
{
    float high = 0;
    for (int k = 0; k < pixels; k++)
        high = fmaxf(high, ws2_half_to_float(map[k]));
    return high > 0 ? ws2_half_to_float(map[i]) / high : 0;
}

/* Distance from the decision: of the wanted class to the best other one, or to the threshold. */
static double margin(const struct ws2_coarse *coarse, const uint16_t *maps, int pixels, int i)
{
    const double own = quotient(maps + coarse->target * pixels, pixels, i);
    double best = 0;
    if (coarse->rule == WS2_COARSE_THRESHOLD)
        return fabs(own - coarse->threshold);
    for (int c = 0; c < 3; c++)
        if (c != coarse->target)
            best = fmax(best, quotient(maps + c * pixels, pixels, i));
    return fabs(own - best);
}

/* Masks from raw and normal maps in half floats differ only where the decision is within rounding: two quotients of two
 * halves each, which are off by 2^-11 of their value, so that a difference of two is off by 4 of these. */
static void coarse_masks_of_raw_maps_are_the_same(void **state)
{
    (void)state;
    enum { P = 12 * 16, N = 2 * 3 * P };
    static float maps[N];
    static uint16_t raw[N], normal[N];
    uint8_t a[P], b[P];
    float p[6];
    int set = 0, clear = 0, differing = 0;
    for (int variant = 0; variant < 4; variant++) {
        struct ws2_cam_options options = raw_or_not(variant, true);
        tiny_maps(NN_F32_MODE, true, &options, maps, p);
        ws2_half_from_floats(raw, maps, N);
        options.raw = false;
        tiny_maps(NN_F32_MODE, true, &options, maps, p);
        ws2_half_from_floats(normal, maps, N);
        for (int picture = 0; picture < 2; picture++)
            for (int rule = 0; rule < 6; rule++) {
                const struct ws2_coarse coarse = {.rule = rule < 3 ? WS2_COARSE_ARGMAX : WS2_COARSE_THRESHOLD,
                                                  .target = rule % 3,
                                                  .threshold = 0.3f};
                const uint16_t *from = normal + picture * 3 * P;
                assert_int_equal(ws2_coarse_mask(&coarse, raw + picture * 3 * P, 3, P, a, NULL), 0);
                assert_int_equal(ws2_coarse_mask(&coarse, from, 3, P, b, NULL), 0);
                for (int i = 0; i < P; i++) {
                    assert_true(a[i] == b[i] || margin(&coarse, from, P, i) <= 4 * 0x1p-11);
                    set += a[i];
                    clear += !a[i];
                    differing += a[i] != b[i];
                }
            }
    }
    assert_true(set > 1000 && clear > 1000 && differing < 20);
}

/* Frame 4 of the mean colour, which gives small maps, and frame 5 of noise. */
static void write_two_frames(FILE *file)
{
    enum { H = 12, W = 16 };
    static const uint8_t mean[3] = {124, 116, 104};
    const struct ws2_shape shape = ws2_shape_3(H, W, 3);
    uint8_t rgb[2][H * W * 3];
    struct ws2_writer *writer;
    struct ws2_error error = {0};
    struct ws2_record *record = ws2_record_new();
    struct ws2_head *head = ws2_head_new();
    generator_image("image", rgb[1], sizeof rgb[1]);
    for (size_t i = 0; i < sizeof rgb[0]; i++)
        rgb[0][i] = mean[i % 3];
    assert_int_equal(ws2_writer_open_file(&writer, file, "two frames", 3, &error), 0);
    ws2_head_set_seq(head, "b7");
    assert_int_equal(ws2_head_add_tensor(head, "rgb", WS2_U8, "h,w,3", "", &error), 0);
    assert_int_equal(ws2_writer_begin(writer, head), 0);
    for (int i = 0; i < 2; i++) {
        ws2_record_clear(record);
        ws2_record_set_frame(record, 4 + i, -1);
        assert_int_equal(ws2_record_put(record, "rgb", WS2_U8, &shape, rgb[i], &error), 0);
        assert_int_equal(ws2_writer_put(writer, record), 0);
    }
    assert_int_equal(ws2_writer_end(writer), 0);
    assert_int_equal(ws2_writer_close(writer, &error), 0);
    ws2_record_free(record);
    ws2_head_free(head);
}

static int stream_begin(void *context, const struct ws2_head *in, struct ws2_head *out,
                        struct ws2_error *error)
{
    (void)context;
    (void)in;
    if (ws2_head_add_tensor(out, "cam", WS2_F16, "c,h,w", "raw", error) < 0 ||
        ws2_head_add_tensor(out, "prob", WS2_F32, "c", "0..1", error) < 0)
        return error->status;
    return 0;
}

/* Sends two frames through ws2_cam_stream; returns its status. */
static int stream_maps(struct tiny *tiny, bool raw, FILE *in, FILE *out, struct ws2_error *error)
{
    struct ws2_cam *cam;
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    const struct ws2_cam_network network = tiny_network(tiny, true);
    const struct ws2_cam_options options = raw_or_not(0, raw);
    const struct ws2_cam_stream_options stream = {.batch = 2, .threads = 1, .begin = stream_begin};
    rewind(in);
    assert_int_equal(ws2_cam_open(&cam, tiny->nn, &network, &options, error), 0);
    assert_int_equal(ws2_reader_open_file(&reader, in, "in", error), 0);
    assert_int_equal(ws2_writer_open_file(&writer, out, "out", 3, error), 0);
    const int status = ws2_cam_stream(&cam, 1, &stream, reader, writer, error);
    const int64_t records = ws2_writer_records(writer);
    ws2_writer_abandon(writer);
    ws2_reader_close(reader);
    ws2_cam_close(cam);
    assert_int_equal(records, status < 0 ? 1 : 2);
    return status;
}

/* Half floats end at 65504: a larger raw value is an error that names the frame, and never infinity. */
static void raw_maps_beyond_half_floats(void **state)
{
    (void)state;
    struct tiny tiny;
    struct ws2_error error = {0};
    FILE *in = tmpfile(), *out = tmpfile();
    assert_true(in && out);
    write_two_frames(in);
    tiny_open(&tiny, NN_F32_MODE);
    assert_int_equal(stream_maps(&tiny, true, in, out, &error), 0);
    nn_scope_begin(tiny.nn);
    tiny.head = nn_mul_scalar(tiny.nn, tiny.head, 1e6);
    assert_int_equal(stream_maps(&tiny, true, in, out, &error), WS2_ERR_MODEL);
    if (strncmp(error.text, "b7: frame 5: the map of class ", 30) != 0 ||
        !strstr(error.text, "half floats end at 65504"))
        fail_msg("%s", error.text);
    error = (struct ws2_error){0};
    assert_int_equal(stream_maps(&tiny, false, in, out, &error), 0);
    nn_scope_end(tiny.nn);
    tiny_close(&tiny);
    fclose(in);
    fclose(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raw_maps_lack_the_division_only),
        cmocka_unit_test(coarse_masks_of_raw_maps_are_the_same),
        cmocka_unit_test(raw_maps_beyond_half_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
