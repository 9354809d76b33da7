/* Dense flow: motions known exactly, what is hidden, the simulator's truth and published pairs. */
#include <stdio.h>

#include "flow_help.h"
#include "image/image.h"
#include "synth/synth.h"

/* ---- motions known exactly ------------------------------------------------------------------------------------ */

static void constant_shifts(void **state)
{
    (void)state;
    static const float shift[][2] = {{1.5f, -0.75f}, {0.25f, 0.5f}, {16, 0}, {-12, 9.5f}, {0, 32}, {-40, 0}};
    for (size_t i = 0; i < sizeof shift / sizeof *shift; i++) {
        const struct scene s = {.width = 160, .height = 128, .seed = 9, .shift = {shift[i][0], shift[i][1]}};
        struct result r = flow_of_scene(&s);
        for (int way = AB; way <= BA; way++) {
            const struct errors e = errors_of(&s, &r, way, 4);
            if (!(e.mean < 0.08 && e.most < 0.3 && e.outside == 0 && e.kept == 1))
                fail_msg("shift (%g, %g), way %d: mean error %g, largest %g, %g valid outside, %g inside",
                         shift[i][0], shift[i][1], way, e.mean, e.most, e.outside, e.kept);
        }
        result_free(&r);
    }
}

static void rotation_and_zoom(void **state)
{
    (void)state;
    const struct scene scene[] = {
        {.width = 160, .height = 128, .seed = 2, .turn = 2},
        {.width = 160, .height = 128, .seed = 2, .zoom = 1.03f},
        {.width = 160, .height = 128, .seed = 2, .turn = -2, .zoom = 0.97f, .shift = {5, 7}}};
    for (size_t i = 0; i < sizeof scene / sizeof *scene; i++) {
        struct result r = flow_of_scene(&scene[i]);
        for (int way = AB; way <= BA; way++) {
            const struct errors e = errors_of(&scene[i], &r, way, 4);
            if (!(e.mean < 0.12 && e.kept > 0.98 && e.outside < 0.05))
                fail_msg("scene %zu, way %d: mean error %g, %g valid inside, %g outside", i, way, e.mean,
                         e.kept, e.outside);
        }
        result_free(&r);
    }
}

/* Mean rise of u from columns x to x + 1, or of v from rows y to y + 1, of this parity. */
static double mean_rise(const struct result *r, bool rows, int parity)
{
    const size_t w = (size_t)r->width, h = (size_t)r->height, next = rows ? w : 1;
    const float *part = r->flow[AB] + (rows ? w * h : 0);
    double sum = 0, count = 0;
    for (size_t y = 4; y + 5 < h; y++) {
        for (size_t x = 4; x + 5 < w; x++) {
            if ((int)((rows ? y : x) % 2) == parity) {
                sum += part[y * w + x + next] - part[y * w + x];
                count++;
            }
        }
    }
    return sum / count;
}

/* Between the pixels of the halved frame the flow of a zoom rises as it does across them. */
static void doubled_flow_rises_evenly(void **state)
{
    (void)state;
    const struct scene s = {.width = 161, .height = 129, .seed = 2, .zoom = 1.06f};
    struct result r = flow_of_scene(&s);
    for (int i = 0; i < 4; i++)
        if (fabs(mean_rise(&r, i / 2, i % 2) - 0.06) > 0.01)
            fail_msg("%s, parity %d: rise of %g", i / 2 ? "rows" : "columns", i % 2,
                     mean_rise(&r, i / 2, i % 2));
    result_free(&r);
}

/* A square before a background that stands still, and one that overtakes a belt. The square leaves 0.09 of the frame
 * hidden at most; a flow that calls everything valid, or half of the frame, has an IoU below 0.1. */
static void what_is_covered_is_found(void **state)
{
    (void)state;
    const struct scene scene[] = {
        {.width = 160, .height = 128, .seed = 5, .square = 48, .at = {40, 40}, .own = {11, 6}},
        {.width = 160,
         .height = 128,
         .seed = 6,
         .shift = {0, 20},
         .square = 48,
         .at = {60, 20},
         .own = {8, 30}}};
    static const double most[] = {0.7, 0.4}, least[] = {0.25, 0.5};
    for (size_t i = 0; i < sizeof scene / sizeof *scene; i++) {
        struct result r = flow_of_scene(&scene[i]);
        for (int way = AB; way <= BA; way++) {
            const struct errors e = errors_of(&scene[i], &r, way, 4);
            if (!(e.mean < most[i] && e.kept > 0.95 && e.covered > least[i]))
                fail_msg("scene %zu, way %d: mean error %g, %g of the seen valid, IoU of the hidden %g", i,
                         way, e.mean, e.kept, e.covered);
        }
        result_free(&r);
    }
}

/* Mean deviation from (u, v) in the middle of a frame, up to 14 pixels from the centre in both directions. */
static double middle_error(const struct result *r, int way, float u, float v)
{
    double sum = 0;
    for (int y = r->height / 2 - 14; y < r->height / 2 + 14; y++)
        for (int x = r->width / 2 - 14; x < r->width / 2 + 14; x++)
            sum += deviation(r, way, (size_t)y * (size_t)r->width + (size_t)x, u, v);
    return sum / (28 * 28);
}

/* The lamp's reflex stands still while the belt passes below it: the flow there is the belt's. Without a dominant motion
 * it is wrong by 5 and by 30 pixels. */
static void glare_does_not_hold_the_belt(void **state)
{
    (void)state;
    for (int v = 18; v <= 30; v += 12) {
        const struct scene s = {
            .width = 192, .height = 160, .seed = 8, .shift = {0, (float)v}, .blob = 130, .noise = 2};
        struct result r = flow_of_scene(&s);
        const double there = middle_error(&r, AB, 0, (float)v), back = middle_error(&r, BA, 0, (float)-v);
        if (!(there < 0.8 && back < 0.8))
            fail_msg("a belt of %d pixels a frame: mean error below the glare %g, back %g", v, there, back);
        result_free(&r);
    }
}

/* ---- the simulator -------------------------------------------------------------------------------------------------- */

enum { SIDE = 256 };

/* Frames 3 and 4 of a belt, and the truth between them. */
struct belt {
    uint8_t *rgb[2], *seen;
    float *truth;
};

static struct belt belt_new(double speed)
{
    const size_t n = (size_t)SIDE * SIDE;
    struct belt belt = {{malloc(3 * n), malloc(3 * n)}, malloc(n), malloc(2 * n * sizeof *belt.truth)};
    const struct ws2_synth_frame first = {.rgb = belt.rgb[0], .next = belt.truth, .next_valid = belt.seen};
    const struct ws2_synth_frame second = {.rgb = belt.rgb[1]};
    struct ws2_synth_config config;
    struct ws2_synth *synth;
    ws2_synth_defaults(&config, WS2_SYNTH_PLAIN);
    config.width = config.height = SIDE;
    config.seed = 5;
    config.speed = speed;
    assert_int_equal(ws2_synth_open(&synth, &config, NULL, NULL), 0);
    assert_int_equal(ws2_synth_render(synth, 3, &first, NULL), 0);
    assert_int_equal(ws2_synth_render(synth, 4, &second, NULL), 0);
    ws2_synth_close(synth);
    return belt;
}

static void belt_free(struct belt *belt)
{
    free(belt->rgb[0]);
    free(belt->rgb[1]);
    free(belt->seen);
    free(belt->truth);
}

/* Over the pixels that the next frame shows: mean error, and the share that the flow calls valid. */
static struct errors belt_errors(enum ws2_flow_method method, const struct belt *belt)
{
    const size_t n = (size_t)SIDE * SIDE;
    struct result r = flow_by(method, belt->rgb[0], belt->rgb[1], SIDE, SIDE);
    struct errors e = {0};
    double count = 0;
    for (size_t i = 0; i < n; i++) {
        if (belt->seen[i]) {
            e.mean += deviation(&r, AB, i, belt->truth[i], belt->truth[n + i]);
            e.kept += r.valid[AB][i];
            count++;
        }
    }
    e.mean /= count;
    e.kept /= count;
    result_free(&r);
    return e;
}

/* Noise, drift of the exposure, translucent items, some of them rolling. A belt that is lost is wrong by its speed:
 * without a dominant motion the errors are 0.09, 2.16 and 8.58 pixels today, with one 0.06, 0.29 and 0.26. */
static void belts_of_the_simulator(void **state)
{
    (void)state;
    static const struct {
        double speed, most, least;
    } row[] = {{0, 0.15, 0.95}, {0.08, 0.6, 0.9}, {0.16, 0.8, 0.9}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct belt belt = belt_new(row[i].speed);
        const struct errors e = belt_errors(WS2_FLOW_BELT, &belt);
        if (!(e.mean < row[i].most && e.kept > row[i].least))
            fail_msg("speed %g: mean error %g, %g valid", row[i].speed, e.mean, e.kept);
        belt_free(&belt);
    }
}

/* ---- published pairs -------------------------------------------------------------------------------------------------- */

static void read_frame(const char *root, const char *name, struct ws2_image *image)
{
    char path[512];
    struct ws2_error error = {0};
    snprintf(path, sizeof path, "%s/flow/%s", root, name);
    if (ws2_image_read(image, path, 3, &error) < 0)
        fail_msg("%s", error.text);
}

/* Mean error of all pixels whose truth is known. */
static double published_error(const char *root, enum ws2_flow_method method, const char *first,
                              const char *second, const char *flow)
{
    char path[512];
    struct ws2_image a = {0}, b = {0};
    struct ws2_flow_file truth = {0};
    struct ws2_error error = {0};
    read_frame(root, first, &a);
    read_frame(root, second, &b);
    snprintf(path, sizeof path, "%s/flow/%s", root, flow);
    if (ws2_flow_file_read(&truth, path, &error) < 0)
        fail_msg("%s", error.text);
    assert_true(truth.width == a.width && truth.height == a.height);
    struct result r = flow_by(method, a.data, b.data, a.width, a.height);
    const size_t n = (size_t)a.width * (size_t)a.height;
    double sum = 0, count = 0;
    for (size_t i = 0; i < n; i++) {
        if (truth.valid[i]) {
            sum += deviation(&r, AB, i, truth.flow[i], truth.flow[n + i]);
            count++;
        }
    }
    result_free(&r);
    ws2_flow_file_free(&truth);
    ws2_image_free(&a);
    ws2_image_free(&b);
    return sum / count;
}

/* The last pair is taken from a car, up to 190 pixels from frame to frame and nothing like a belt: no motion at all is
 * wrong by 51 pixels there. */
static void published_pairs(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second, *flow;
        double belt, dis;
    } pair[] = {
        {"mb_RubberWhale/frame10.png", "mb_RubberWhale/frame11.png", "mb_RubberWhale/flow10.flo", 0.25, 0.25},
        {"mb_Venus/frame10.png", "mb_Venus/frame11.png", "mb_Venus/flow10.flo", 0.40, 0.40},
        {"sintel_easy/frame_0002.png", "sintel_easy/frame_0003.png", "sintel_easy/flow_0002.flo", 0.37, 0.37},
        {"kitti/frame1.png", "kitti/frame2.png", "kitti/flow_gt.png", 35, 18}};
    const char *root = getenv("WS2_TESTDATA");
    if (!root) {
        print_message(
            "published pairs have licences of their own and are not in the repository; WS2_TESTDATA names "
            "no folder with them (README, Build)\n");
        skip();
    }
    for (size_t i = 0; i < 2 * sizeof pair / sizeof *pair; i++) {
        const bool dis = i % 2;
        const double most = dis ? pair[i / 2].dis : pair[i / 2].belt;
        const double error = published_error(root, dis ? WS2_FLOW_DIS : WS2_FLOW_BELT, pair[i / 2].first,
                                             pair[i / 2].second, pair[i / 2].flow);
        if (!(error < most))
            fail_msg("%s, %s: mean error %g, wanted less than %g", pair[i / 2].flow, dis ? "dis" : "belt",
                     error, most);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constant_shifts),
        cmocka_unit_test(rotation_and_zoom),
        cmocka_unit_test(doubled_flow_rises_evenly),
        cmocka_unit_test(what_is_covered_is_found),
        cmocka_unit_test(glare_does_not_hold_the_belt),
        cmocka_unit_test(belts_of_the_simulator),
        cmocka_unit_test(published_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
