/* What lies on a belt: its IoU with the truth, each rule by its definition, and parameters that make no sense. */
#include "belt_help.h"

/* Share of the pixels that items hide in more than half of the frames. */
static double covered_by_truth(const struct scene *scene)
{
    const int pixels = scene->height * scene->width;
    int covered = 0;
    for (int p = 0; p < pixels; p++) {
        int hidden = 0;
        for (int k = 0; k < scene->count; k++)
            hidden += truth_of(scene, k)[p];
        covered += 2 * hidden > scene->count;
    }
    return (double)covered / pixels;
}

/* T14: WS2's background removal on a belt with known truth: IoU above 0.95, nothing on the static glare; several
 * belts, two cameras, luma and all channels. */
static void check_belt(uint64_t seed, double gain, enum ws2_channels channels)
{
    struct scene scene = sparse_scene(seed, 512, 512, 17, gain);
    struct ws2_belt_params params = ws2_belt_defaults();
    params.passes = channels == WS2_CHANNELS_MAX ? 1 : 2;
    params.foreground.channels = channels;
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    const struct score score = score_of(&scene, &belt, &params.foreground);
    print_message("# belt %d, gain %.2f, %s: IoU %.4f\n", (int)seed, gain,
                  channels == WS2_CHANNELS_MAX ? "channels" : "luma", score.iou);
    if (!(score.iou > 0.95) || score.on_glare != 0)
        fail_msg("belt %d, gain %.2f: IoU %.4f, %lld pixels on the glare", (int)seed, gain, score.iou,
                 (long long)score.on_glare);
    assert_int_equal(report.samples, 17);
    assert_true(fabs(report.covered - covered_by_truth(&scene)) < 0.01);
    assert_true(fabs(belt.luma[511 * 512] - 110.0 * gain) < 2.5);
    ws2_belt_free(&belt);
    scene_free(&scene);
}

static void discs_on_a_belt_are_found(void **state)
{
    (void)state;
    for (uint64_t seed = 11; seed < 14; seed++) {
        check_belt(seed, 1.0, seed % 2 ? WS2_CHANNELS_LUMA : WS2_CHANNELS_MAX);
        check_belt(seed, 0.85, seed % 2 ? WS2_CHANNELS_MAX : WS2_CHANNELS_LUMA);
    }
}

/* Without the reflex rule a frame whose glare flickers is foreground there; with it, not. */
static void reflexes_are_vetoed(void **state)
{
    (void)state;
    struct scene scene = sparse_scene(12, 128, 160, 21, 1.0);
    struct ws2_belt_params params = ws2_belt_defaults();
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    /* The lamp is dimmed for the belt: B is 210 there and every frame 35 brighter. */
    for (int p = 0; p < 128 * 160; p++)
        belt.luma[p] = belt.luma[p] > 200.0f ? 210.0f : belt.luma[p];
    assert_int_equal(score_of(&scene, &belt, &params.foreground).on_glare, 0);
    params.foreground.reflex_luma = 255.0;
    assert_true(score_of(&scene, &belt, &params.foreground).on_glare > 10000);
    params.foreground.reflex_luma = 240.0;
    params.foreground.reflex_belt = 230.0;
    assert_true(score_of(&scene, &belt, &params.foreground).on_glare > 10000);
    params.foreground.reflex_belt = 200.0;
    params.foreground.reflex_saturation = 0.0;
    assert_true(score_of(&scene, &belt, &params.foreground).on_glare > 10000);
    ws2_belt_free(&belt);
    scene_free(&scene);
}

/* The rules before morphology, pixel by pixel in doubles, for random frames and belts. */
static void rules_equal_their_definition(void **state)
{
    (void)state;
    enum { H = 7, W = 70 };
    struct ws2_random random = ws2_random_make(17, 0);
    for (int trial = 0; trial < 60; trial++) {
        struct ws2_belt belt;
        uint8_t rgb[3 * H * W], fg[H * W];
        assert_int_equal(ws2_belt_make(&belt, H, W, trial % 2, NULL), 0);
        for (int i = 0; i < 3 * H * W; i++) {
            belt.rgb[i] = 0.5f * (float)ws2_random_below(&random, 511);
            if (trial % 2)
                belt.rgb_scale[i] = (float)ws2_random_range(&random, 2.0, 12.0);
            rgb[i] = clip(ws2_random_below(&random, 3) ? belt.rgb[i] + 12 * ws2_random_normal(&random)
                                                       : ws2_random_range(&random, 0, 256));
        }
        for (int p = 0; p < H * W; p++) {
            belt.luma[p] =
                floorf(2.0f * (belt.rgb[3 * p] + belt.rgb[3 * p + 1] + belt.rgb[3 * p + 2]) / 3.0f) / 2.0f;
            belt.scale[p] = (float)ws2_random_range(&random, 2.0, 12.0);
        }
        belt.saturation[0] = 0.5f * (float)ws2_random_below(&random, 120);
        belt.saturation[1] = 0.5f * (float)ws2_random_below(&random, 20);
        struct ws2_foreground_params params = ws2_foreground_defaults();
        params.open = params.close = params.hole = params.component = params.dilate = 0.0;
        params.channels = trial % 2 ? WS2_CHANNELS_MAX : WS2_CHANNELS_LUMA;
        params.saturation = trial % 3 ? -1.0 : (double)ws2_random_below(&random, 256);
        params.dark = trial % 5 ? 30 : (int)ws2_random_below(&random, 256);
        params.reflex_luma = trial % 4 ? 240.0 : 128.0;
        params.reflex_saturation = trial % 4 ? 20.0 : 150.0;
        params.reflex_belt = trial % 4 ? 200.0 : 90.0;
        double threshold = params.saturation;
        if (threshold < 0)
            threshold = fmin(fmax(belt.saturation[0] + 6 * 1.4826 * belt.saturation[1], 40.0), 90.0);
        struct ws2_foreground *foreground;
        assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), 0);
        struct ws2_foreground_scratch *scratch = ws2_foreground_scratch_new(foreground);
        assert_int_equal(ws2_foreground_mask(foreground, scratch, rgb, fg, NULL), 0);
        for (int p = 0; p < H * W; p++) {
            uint8_t plane[4];
            ws2_rgb_planes(rgb + 3 * p, 1, plane + 1, plane + 2, plane + 3, plane);
            bool want = false;
            for (int c = 0; c < (trial % 2 ? 3 : 1); c++) {
                const double value = trial % 2 ? rgb[3 * p + c] : plane[0];
                const double centre = trial % 2 ? belt.rgb[3 * p + c] : belt.luma[p];
                const double scale = trial % 2 ? belt.rgb_scale[3 * p + c] : belt.scale[p];
                want |= fabs(value - centre) / scale > 3.5 && fabs(value - centre) > 12.0;
            }
            const double s = saturation_of(rgb + 3 * p, params.dark);
            want |= s > threshold;
            if (plane[0] > params.reflex_luma && s < params.reflex_saturation &&
                belt.luma[p] > params.reflex_belt)
                want = false;
            if (fg[p] != want)
                fail_msg("trial %d pixel %d: %d, want %d (S %g, T %g)", trial, p, fg[p], want, s, threshold);
        }
        ws2_foreground_scratch_free(scratch);
        ws2_foreground_free(foreground);
        ws2_belt_free(&belt);
    }
}

/* Frames of other exposure: everything is foreground without the correction, nothing but the items with it. */
static void drift_is_taken_out(void **state)
{
    (void)state;
    struct scene scene = sparse_scene(18, 192, 256, 21, 1.0), drifted = make_scene(192, 256, 6);
    struct ws2_belt_params params = ws2_belt_defaults();
    struct ws2_belt_report report;
    struct ws2_belt belt = belt_of(&scene, &params, 1, &report);
    const double gains[] = {0.6, 0.8, 0.95, 1.0, 1.2, 1.25};
    for (int k = 0; k < 6; k++) {
        struct ws2_random random = ws2_random_make(19, (uint64_t)k);
        const struct disc grey = {110.0, 128.0, 30.0, {180, 180, 180}},
                          red = {150.0, 60.0, 20.0, {170, 60, 60}};
        paint_belt(&random, frame_of(&drifted, k), 192, 256, gains[k]);
        paint_disc(frame_of(&drifted, k), truth_of(&drifted, k), 192, 256, &grey, gains[k]);
        paint_disc(frame_of(&drifted, k), truth_of(&drifted, k), 192, 256, &red, gains[k]);
    }
    struct ws2_foreground_params foreground = params.foreground;
    const double plain = score_of(&drifted, &belt, &foreground).iou;
    foreground.drift = true;
    const double corrected = score_of(&drifted, &belt, &foreground).iou;
    if (!(plain < 0.3) || !(corrected > 0.9))
        fail_msg("IoU %.4f without and %.4f with the correction", plain, corrected);
    ws2_belt_free(&belt);
    scene_free(&drifted);
    scene_free(&scene);
}

static void radii_go_with_the_size(void **state)
{
    (void)state;
    struct ws2_foreground_params params = ws2_foreground_defaults();
    assert_int_equal(ws2_foreground_radius(&params, 3.0, 512, 512), 3);
    assert_int_equal(ws2_foreground_radius(&params, 3.0, 1024, 1024), 6);
    assert_int_equal(ws2_foreground_radius(&params, 3.0, 1000, 1000), 6);
    assert_int_equal(ws2_foreground_radius(&params, 1.0, 128, 128), 0);
    assert_int_equal(ws2_foreground_radius(&params, 3.0, 128, 128), 1);
    params.reference = 0.0;
    assert_int_equal(ws2_foreground_radius(&params, 3.0, 128, 2000), 3);
    assert_int_equal(ws2_foreground_radius(&params, 0.0, 128, 2000), 0);
    const float tight[2] = {10.0f, 1.0f}, broad[2] = {30.0f, 20.0f}, middle[2] = {25.0f, 4.0f};
    assert_true(ws2_foreground_saturation(&params, tight) == 40.0);
    assert_true(ws2_foreground_saturation(&params, broad) == 90.0);
    assert_true(fabs(ws2_foreground_saturation(&params, middle) - (25.0 + 24.0 * 1.4826)) < 1e-9);
    params.saturation = 7.0;
    assert_true(ws2_foreground_saturation(&params, tight) == 7.0);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct ws2_belt belt, empty = {0};
    struct ws2_foreground *foreground;
    struct ws2_error error = {0};
    struct ws2_foreground_params params = ws2_foreground_defaults();
    assert_int_equal(ws2_belt_make(&belt, 0, 5, false, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_belt_make(&belt, INT64_MAX / 2, INT64_MAX / 2, false, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_foreground_new(&foreground, &empty, &params, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_belt_make(&belt, 4, 5, false, NULL), 0);
    assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, &error), WS2_ERR_INPUT); /* scale 0 */
    assert_non_null(strstr(error.text, "scale"));
    for (int p = 0; p < 20; p++)
        belt.scale[p] = 2.0f;
    assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), 0);
    ws2_foreground_free(foreground);
    const float bad[] = {NAN, INFINITY, -1.0f, 256.0f};
    for (int i = 0; i < 4; i++) {
        belt.luma[7] = bad[i];
        assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), WS2_ERR_INPUT);
        assert_null(foreground);
    }
    belt.luma[7] = 0.0f;
    params.channels = WS2_CHANNELS_MAX;
    assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), WS2_ERR_INPUT);
    params.channels = WS2_CHANNELS_LUMA;
    params.z = NAN;
    assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), WS2_ERR_USAGE);
    params = ws2_foreground_defaults();
    params.saturation_low = 91.0;
    assert_int_equal(ws2_foreground_new(&foreground, &belt, &params, NULL), WS2_ERR_USAGE);
    ws2_belt_free(&belt);

    struct ws2_samples *samples;
    struct ws2_belt_report report;
    struct ws2_belt_params estimate = ws2_belt_defaults();
    assert_int_equal(ws2_samples_new(&samples, 4, 5, 0, 30, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_samples_new(&samples, 1 << 30, 1 << 30, 60000, 30, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_samples_new(&samples, 4, 5, 3, 30, NULL), 0);
    assert_int_equal(ws2_belt_estimate(&belt, samples, 0, &estimate, 1, &report, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_belt_estimate(&belt, samples, 4, &estimate, 1, &report, NULL), WS2_ERR_USAGE);
    estimate.window = 4;
    assert_int_equal(ws2_belt_estimate(&belt, samples, 3, &estimate, 1, &report, NULL), WS2_ERR_USAGE);
    ws2_samples_free(samples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discs_on_a_belt_are_found),    cmocka_unit_test(reflexes_are_vetoed),
        cmocka_unit_test(rules_equal_their_definition), cmocka_unit_test(drift_is_taken_out),
        cmocka_unit_test(radii_go_with_the_size),       cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
