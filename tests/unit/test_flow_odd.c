/* Dense flow of odd pairs: frames without a motion, cuts, any size and content, and objects that are used again. */
#include "flow_help.h"

/* ---- frames without a motion ------------------------------------------------------------------------------------ */

static void assert_still(const struct result *r, float most)
{
    const size_t n = (size_t)r->width * (size_t)r->height;
    for (int way = AB; way <= BA; way++) {
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(r->valid[way][i], 1);
            assert_true(deviation(r, way, i, 0, 0) <= most);
        }
    }
}

static void equal_frames_stand_still(void **state)
{
    (void)state;
    const struct scene s = {.width = 97, .height = 80, .seed = 3};
    uint8_t *rgb = draw(&s, 0);
    for (int method = WS2_FLOW_BELT; method <= WS2_FLOW_DIS; method++) {
        struct result r = flow_by((enum ws2_flow_method)method, rgb, rgb, s.width, s.height);
        assert_still(&r, 0.001f);
        result_free(&r);
    }
    free(rgb);
}

static void frames_without_texture_stand_still(void **state)
{
    (void)state;
    enum { WIDTH = 90, HEIGHT = 70 };
    static const uint8_t level[][2] = {{0, 0}, {255, 255}, {120, 120}, {120, 130}, {0, 255}};
    for (size_t i = 0; i < sizeof level / sizeof *level; i++) {
        uint8_t *first = malloc(3 * WIDTH * HEIGHT), *second = malloc(3 * WIDTH * HEIGHT);
        memset(first, level[i][0], 3 * WIDTH * HEIGHT);
        memset(second, level[i][1], 3 * WIDTH * HEIGHT);
        struct result r = flow_of(first, second, WIDTH, HEIGHT);
        assert_still(&r, 0.001f);
        result_free(&r);
        free(first);
        free(second);
    }
}

/* Another scene: nothing of the first frame is in the second. Smooth flows agree by chance here and there: 0.4 of the
 * pixels today. */
static void a_cut_is_not_valid(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 3; seed++) {
        const struct scene one = {.width = 160, .height = 128, .seed = 100 * seed};
        const struct scene other = {.width = 160, .height = 128, .seed = 100 * seed + 50};
        uint8_t *first = draw(&one, 0), *second = draw(&other, 0);
        struct result r = flow_of(first, second, 160, 128);
        for (int way = AB; way <= BA; way++) {
            int valid = 0;
            for (int i = 0; i < 160 * 128; i++)
                valid += r.valid[way][i];
            if (valid >= 160 * 128 / 2)
                fail_msg("seed %u, way %d: %d of %d pixels are valid", seed, way, valid, 160 * 128);
        }
        result_free(&r);
        free(first);
        free(second);
    }
}

/* ---- sizes -------------------------------------------------------------------------------------------------------- */

static const int sizes[][2] = {{1, 1},   {1, 7},    {7, 1},    {5, 3},    {8, 8},
                               {15, 15}, {17, 40},  {63, 63},  {64, 64},  {2, 600},
                               {600, 3}, {65, 131}, {131, 65}, {129, 64}, {24, 500}};

/* Any content: noise of black and white, the worst for derivatives. */
static void any_size_has_a_flow(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(1, 0);
    struct ws2_flow *flow = NULL;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int width = sizes[s][0], height = sizes[s][1];
        const size_t n = 3 * (size_t)width * (size_t)height;
        uint8_t *rgb = malloc(2 * n);
        for (size_t i = 0; i < 2 * n; i++)
            rgb[i] = ws2_random_below(&random, 2) ? 255 : 0;
        struct ws2_flow_frame *a = frame_of(rgb, width, height), *b = frame_of(rgb + n, width, height);
        for (int method = WS2_FLOW_BELT; method <= WS2_FLOW_DIS; method++) {
            struct result r = flow_with(&flow, (enum ws2_flow_method)method, a, b);
            result_free(&r);
        }
        float shift[2] = {99, 99};
        assert_int_equal(ws2_flow_shift(&flow, a, b, shift, NULL), WS2_OK);
        assert_true(isfinite(shift[0]) && isfinite(shift[1]));
        int found[2];
        ws2_flow_frame_size(a, &found[0], &found[1]);
        assert_true(found[0] == width && found[1] == height);
        ws2_flow_frame_free(a);
        ws2_flow_frame_free(b);
        free(rgb);
    }
    ws2_flow_free(flow);
}

static void small_frames_move(void **state)
{
    (void)state;
    const struct scene scene[] = {{.width = 17, .height = 40, .seed = 1, .shift = {0, 3}},
                                  {.width = 31, .height = 29, .seed = 1, .shift = {-3, 2}},
                                  {.width = 65, .height = 131, .seed = 1, .shift = {0, 13}},
                                  {.width = 131, .height = 65, .seed = 1, .shift = {-13.5f, 1}}};
    for (size_t i = 0; i < sizeof scene / sizeof *scene; i++) {
        struct result r = flow_of_scene(&scene[i]);
        for (int way = AB; way <= BA; way++) {
            const struct errors e = errors_of(&scene[i], &r, way, 4);
            if (!(e.mean < 0.1 && e.outside == 0))
                fail_msg("%d x %d, way %d: mean error %g, %g valid outside", scene[i].width, scene[i].height,
                         way, e.mean, e.outside);
        }
        result_free(&r);
    }
}

static void sizes_are_checked(void **state)
{
    (void)state;
    static const int bad[][2] = {{0, 5},
                                 {5, 0},
                                 {-1, 5},
                                 {WS2_FLOW_SIDE_MAX + 1, 1},
                                 {1, WS2_FLOW_SIDE_MAX + 1},
                                 {INT32_MIN, INT32_MAX}};
    const uint8_t rgb[3 * 6] = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ws2_flow_frame *frame = NULL;
        struct ws2_error error = {0};
        assert_int_equal(ws2_flow_frame_make(&frame, rgb, bad[i][0], bad[i][1], &error), WS2_ERR_INPUT);
        assert_non_null(strstr(error.text, "no flow of a frame of"));
        ws2_flow_frame_free(frame);
    }
    struct ws2_flow *flow = NULL;
    struct ws2_flow_frame *a = frame_of(rgb, 3, 2), *b = frame_of(rgb, 2, 3);
    struct result r = result_new(3, 2);
    struct ws2_error error = {0};
    float shift[2];
    assert_int_equal(
        ws2_flow_pair(&flow, WS2_FLOW_BELT, a, b, r.half[AB], r.valid[AB], r.half[BA], r.valid[BA], &error),
        WS2_ERR_USAGE);
    assert_string_equal(error.text, "frames of 3 x 2 and 2 x 3 pixels have no flow");
    assert_int_equal(ws2_flow_shift(&flow, a, b, shift, NULL), WS2_ERR_USAGE);
    assert_int_equal(r.valid[AB][0], 9);
    result_free(&r);
    ws2_flow_frame_free(a);
    ws2_flow_frame_free(b);
    ws2_flow_free(flow);
    ws2_flow_free(NULL);
    ws2_flow_frame_free(NULL);
}

static void assert_same(const struct result *a, const struct result *b)
{
    const size_t n = (size_t)a->width * (size_t)a->height;
    assert_true(a->width == b->width && a->height == b->height);
    for (int way = AB; way <= BA; way++) {
        assert_memory_equal(a->half[way], b->half[way], 2 * n * sizeof *a->half[way]);
        assert_memory_equal(a->valid[way], b->valid[way], n);
    }
}

/* Nothing of an earlier call, of whatever size, is in the result. */
static void objects_are_used_again(void **state)
{
    (void)state;
    static const int side[][2] = {{96, 72}, {40, 33}, {120, 100}, {96, 72}, {96, 72}};
    struct ws2_flow *flow = NULL;
    struct ws2_flow_frame *a = NULL, *b = NULL;
    for (size_t i = 0; i < sizeof side / sizeof *side; i++) {
        const struct scene s = {.width = side[i][0], .height = side[i][1], .seed = 7, .shift = {4, -2}};
        uint8_t *first = draw(&s, 0), *second = draw(&s, 1);
        assert_int_equal(ws2_flow_frame_make(&a, first, s.width, s.height, NULL), WS2_OK);
        assert_int_equal(ws2_flow_frame_make(&b, second, s.width, s.height, NULL), WS2_OK);
        for (int method = WS2_FLOW_BELT; method <= WS2_FLOW_DIS; method++) {
            struct result fresh = flow_by((enum ws2_flow_method)method, first, second, s.width, s.height);
            struct result used = flow_with(&flow, (enum ws2_flow_method)method, a, b);
            struct result again = flow_with(&flow, (enum ws2_flow_method)method, a, b);
            assert_same(&fresh, &used);
            assert_same(&fresh, &again);
            result_free(&fresh);
            result_free(&used);
            result_free(&again);
        }
        free(first);
        free(second);
    }
    ws2_flow_frame_free(a);
    ws2_flow_frame_free(b);
    ws2_flow_free(flow);
}

/* The flow back of (a, b) is the flow there of (b, a), but for which picture the dominant motion is voted in. */
static void directions_are_alike(void **state)
{
    (void)state;
    const struct scene s = {.width = 120, .height = 90, .seed = 7, .shift = {6, 3}, .noise = 3};
    uint8_t *first = draw(&s, 0), *second = draw(&s, 1);
    struct result r = flow_by(WS2_FLOW_DIS, first, second, s.width, s.height);
    struct result turned = flow_by(WS2_FLOW_DIS, second, first, s.width, s.height);
    const size_t n = (size_t)s.width * (size_t)s.height;
    assert_memory_equal(r.half[AB], turned.half[BA], 2 * n * sizeof *r.half[AB]);
    assert_memory_equal(r.half[BA], turned.half[AB], 2 * n * sizeof *r.half[AB]);
    assert_memory_equal(r.valid[AB], turned.valid[BA], n);
    result_free(&r);
    result_free(&turned);
    free(first);
    free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_frames_stand_still), cmocka_unit_test(frames_without_texture_stand_still),
        cmocka_unit_test(a_cut_is_not_valid),       cmocka_unit_test(any_size_has_a_flow),
        cmocka_unit_test(small_frames_move),        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(objects_are_used_again),   cmocka_unit_test(directions_are_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
