/* fuse: what neighbouring frames saw appears where it belongs, by each rule of merging, and nothing else. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "motion/motion.h"
#include "plane_help.h"

enum { H = 12, W = 40, PIXELS = H * W, CLASSES = 2, FRAMES = 7, REACH = 3 };

/* A short video: maps, and flow to both sides with its validity. */
struct clip {
    float maps[FRAMES][CLASSES * PIXELS];
    float flow[FRAMES][2][2 * PIXELS]; /* [frame][way] */
    uint8_t valid[FRAMES][2][PIXELS];
    bool weighed;
};

static void to_half(const float *value, uint16_t *half, size_t count)
{
    ws2_half_from_floats(half, value, count);
}

/* All values become what f16 can hold, so that the truth below starts from the same numbers. */
static void round_to_half(float *value, size_t count)
{
    for (size_t i = 0; i < count; i++)
        value[i] = ws2_half_to_float(ws2_half_from_float(value[i]));
}

static struct ws2_fuse_frame *frame_make(const struct clip *clip, int t)
{
    struct ws2_error error = {0};
    uint16_t half[CLASSES * PIXELS];
    const struct ws2_shape maps = ws2_shape_3(CLASSES, H, W), flow = ws2_shape_3(2, H, W);
    struct ws2_fuse_frame *frame = ws2_fuse_frame_new();
    assert_non_null(frame);
    to_half(clip->maps[t], half, CLASSES * PIXELS);
    assert_int_equal(ws2_fuse_frame_maps(frame, 100 + t, half, &maps, &error), 0);
    for (int way = 0; way < 2; way++) {
        if (t == (way == WS2_TO_NEXT ? FRAMES - 1 : 0))
            continue;
        to_half(clip->flow[t][way], half, 2 * PIXELS);
        assert_int_equal(ws2_fuse_frame_flow(frame, (enum ws2_fuse_way)way, half, &flow,
                                             clip->weighed ? clip->valid[t][way] : NULL, &error),
                         0);
    }
    return frame;
}

/* Maps of frame t after fusing. */
static void fuse_at(const struct clip *clip, const struct ws2_fuse *fuse, int t, float *out)
{
    struct ws2_fuse_frame *frame[2 * REACH + 1] = {0};
    const struct ws2_fuse_frame *window[2 * REACH + 1] = {0};
    struct ws2_fuse_scratch scratch = {0};
    struct ws2_error error = {0};
    uint16_t half[CLASSES * PIXELS];
    for (int k = -REACH; k <= REACH; k++)
        if (t + k >= 0 && t + k < FRAMES)
            window[k + REACH] = frame[k + REACH] = frame_make(clip, t + k);
    assert_int_equal(ws2_fuse(fuse, window + REACH, &scratch, half, &error), 0);
    ws2_half_to_floats(out, half, CLASSES * PIXELS);
    for (int k = 0; k < 2 * REACH + 1; k++)
        ws2_fuse_frame_free(frame[k]);
    ws2_fuse_scratch_free(&scratch);
}

/* ---- an object that moves ---------------------------------------------------------------------------------- */

enum { LEFT = 6, TOP = 3, WIDE = 6, HIGH = 5, SPEED = 2 };

/* Whether pixel i of frame t is in part `part` of `parts` of the object, counted from its left. */
static bool in_part(int i, int t, int part, int parts)
{
    const int x = i % W - LEFT - SPEED * t, y = i / W - TOP;
    return x >= part * WIDE / parts && x < (part + 1) * WIDE / parts && y >= 0 && y < HIGH;
}

/* Each frame's map of class 0 fires on one part of the object, in turn; class 1 never. */
static void moving_object(struct clip *clip, int parts)
{
    memset(clip, 0, sizeof *clip);
    for (int t = 0; t < FRAMES; t++) {
        for (int i = 0; i < PIXELS; i++) {
            clip->maps[t][i] = in_part(i, t, t % parts, parts);
            clip->flow[t][WS2_TO_NEXT][i] = SPEED;
            clip->flow[t][WS2_TO_PREVIOUS][i] = -SPEED;
        }
    }
}

static void the_parts_of_an_object_unite(void **state)
{
    (void)state;
    static struct clip clip;
    float out[CLASSES * PIXELS];
    for (int reach = 1; reach <= 2; reach++) {
        const struct ws2_fuse fuse = {.merge = WS2_FUSE_MAX, .reach = reach};
        const int parts = reach + 1;
        moving_object(&clip, parts);
        for (int t = reach; t < FRAMES - reach; t++) {
            fuse_at(&clip, &fuse, t, out);
            for (int i = 0; i < PIXELS; i++) {
                assert_true(out[i] == (in_part(i, t, 0, 1) ? 1 : 0));
                assert_true(out[PIXELS + i] == 0);
            }
        }
    }
}

/* Without neighbours only the frame's own part is there; the ends of a sequence have neighbours on one side. */
static void a_window_ends_with_the_sequence(void **state)
{
    (void)state;
    static struct clip clip;
    float out[CLASSES * PIXELS];
    moving_object(&clip, FRAMES); /* 6 pixels in 7 parts: each frame fires on a column or on none */
    for (int reach = 0; reach <= REACH; reach++) {
        const struct ws2_fuse fuse = {.merge = WS2_FUSE_MAX, .reach = reach};
        for (int t = 0; t < FRAMES; t++) {
            fuse_at(&clip, &fuse, t, out);
            for (int i = 0; i < PIXELS; i++) {
                bool want = false;
                for (int k = t - reach; k <= t + reach; k++)
                    want = want || (k >= 0 && k < FRAMES && in_part(i, t, k, FRAMES));
                assert_true(out[i] == (want ? 1 : 0));
            }
        }
    }
}

/* Equal frames and no motion: the maximum is the map itself, and so are the means. */
static void equal_frames_stay_as_they_are(void **state)
{
    (void)state;
    static struct clip clip;
    float out[CLASSES * PIXELS];
    struct ws2_random random = ws2_random_make(5, 0);
    memset(&clip, 0, sizeof clip);
    for (int i = 0; i < CLASSES * PIXELS; i++)
        clip.maps[0][i] = (float)ws2_random_uniform(&random);
    clip.maps[0][17] = clip.maps[0][PIXELS + 3] = 1; /* already divided by the maximum */
    round_to_half(clip.maps[0], CLASSES * PIXELS);
    for (int t = 1; t < FRAMES; t++)
        memcpy(clip.maps[t], clip.maps[0], sizeof clip.maps[0]);
    memset(clip.valid, 1, sizeof clip.valid);
    clip.weighed = true;
    for (int merge = WS2_FUSE_MAX; merge <= WS2_FUSE_CONFIDENCE; merge++) {
        for (int raw = 0; raw < 2; raw++) {
            const struct ws2_fuse fuse = {.merge = (enum ws2_fuse_merge)merge, .reach = 2, .raw = raw};
            for (int t = 0; t < FRAMES; t++) {
                fuse_at(&clip, &fuse, t, out);
                assert_memory_equal(out, clip.maps[0], sizeof out);
            }
        }
    }
}

/* The published warp leaves the ring to the frame itself and shifts the neighbours towards it by less than half a
 * pixel: on a constant map nothing changes. */
static void the_published_warp_can_be_had(void **state)
{
    (void)state;
    static struct clip clip;
    float out[CLASSES * PIXELS];
    const struct ws2_fuse fuse = {.merge = WS2_FUSE_MAX, .reach = 1, .compat = true, .raw = true};
    memset(&clip, 0, sizeof clip);
    for (int i = 0; i < CLASSES * PIXELS; i++)
        clip.maps[2][i] = 0.5f;
    fuse_at(&clip, &fuse, 3, out);
    for (int i = 0; i < PIXELS; i++) {
        const bool ring = i % W == 0 || i % W == W - 1 || i / W == 0 || i / W == H - 1;
        assert_float_equal(out[i], ring ? 0 : 0.5, 1e-3);
    }
}

/* ---- against the formulas ----------------------------------------------------------------------------------- */

static void random_clip(struct clip *clip)
{
    struct ws2_random random = ws2_random_make(11, 0);
    for (int t = 0; t < FRAMES; t++) {
        for (int i = 0; i < CLASSES * PIXELS; i++)
            clip->maps[t][i] = (float)ws2_random_uniform(&random);
        for (int way = 0; way < 2; way++) {
            for (int i = 0; i < 2 * PIXELS; i++)
                clip->flow[t][way][i] = (float)(ws2_random_normal(&random) * 1.3);
            for (int i = 0; i < PIXELS; i++)
                clip->valid[t][way][i] = ws2_random_below(&random, 4) != 0;
            round_to_half(clip->flow[t][way], 2 * PIXELS);
        }
        round_to_half(clip->maps[t], CLASSES * PIXELS);
    }
    clip->weighed = true;
}

static double sample_u8(const uint8_t *in, double x, double y)
{
    float plane[PIXELS];
    for (int i = 0; i < PIXELS; i++)
        plane[i] = in[i];
    return plane_sample(plane, H, W, x, y);
}

static bool inside(double x, double y)
{
    return x >= 0 && x <= W - 1 && y >= 0 && y <= H - 1;
}

/* Share and value of neighbour k at pixel i, as the formulas say. */
static double neighbour(const struct clip *clip, const struct ws2_fuse *fuse, int t, int k, int c, int i,
                        double *share)
{
    const int way = k > 0 ? WS2_TO_NEXT : WS2_TO_PREVIOUS, step = k > 0 ? 1 : -1;
    const bool weighed = fuse->visible || fuse->merge == WS2_FUSE_CONFIDENCE;
    double x = i % W, y = i / W, known = 1;
    bool in = true;
    for (int j = 0; j < abs(k); j++) {
        const int at = t + j * step;
        const double u = plane_sample(clip->flow[at][way], H, W, x, y),
                     v = plane_sample(clip->flow[at][way] + PIXELS, H, W, x, y);
        known *= weighed ? sample_u8(clip->valid[at][way], x, y) : 1;
        x += u;
        y += v;
        in = in && inside(x, y);
        if (!in)
            break;
    }
    *share = !in ? 0 : fuse->merge == WS2_FUSE_CONFIDENCE ? known : known >= 0.5;
    return in ? plane_sample(clip->maps[t + k] + c * PIXELS, H, W, x, y) : 0;
}

static double truth(const struct clip *clip, const struct ws2_fuse *fuse, int t, int c, int i)
{
    double merged = clip->maps[t][c * PIXELS + i], sum = 1, share;
    for (int k = -fuse->reach; k <= fuse->reach; k++) {
        if (k == 0 || t + k < 0 || t + k >= FRAMES)
            continue;
        const double other = neighbour(clip, fuse, t, k, c, i, &share);
        if (fuse->merge == WS2_FUSE_MAX)
            merged = fmax(merged, share > 0 ? other : 0);
        else
            merged += share * other;
        sum += share;
    }
    return fuse->merge == WS2_FUSE_MAX ? merged : merged / sum;
}

static void merging_follows_the_formulas(void **state)
{
    (void)state;
    static struct clip clip;
    float out[CLASSES * PIXELS];
    random_clip(&clip);
    for (int merge = WS2_FUSE_MAX; merge <= WS2_FUSE_CONFIDENCE; merge++) {
        for (int visible = 0; visible < 2; visible++) {
            for (int t = 0; t < FRAMES; t += 3) {
                const struct ws2_fuse fuse = {
                    .merge = (enum ws2_fuse_merge)merge, .reach = REACH, .visible = visible, .raw = true};
                fuse_at(&clip, &fuse, t, out);
                for (int i = 0; i < CLASSES * PIXELS; i++)
                    assert_float_equal(out[i], truth(&clip, &fuse, t, i / PIXELS, i % PIXELS), 6e-4);
            }
        }
    }
}

/* Each class is divided by its own maximum. */
static void maps_are_divided_by_their_maximum(void **state)
{
    (void)state;
    static struct clip clip;
    float raw[CLASSES * PIXELS], out[CLASSES * PIXELS];
    struct ws2_fuse fuse = {.merge = WS2_FUSE_MEAN, .reach = 1, .raw = true};
    random_clip(&clip);
    for (int i = 0; i < PIXELS; i++)
        clip.maps[0][i] *= 8;
    fuse_at(&clip, &fuse, 0, raw);
    fuse.raw = false;
    fuse_at(&clip, &fuse, 0, out);
    for (int c = 0; c < CLASSES; c++) {
        float most = 0;
        for (int i = 0; i < PIXELS; i++)
            most = fmaxf(most, raw[c * PIXELS + i]);
        for (int i = 0; i < PIXELS; i++)
            assert_float_equal(out[c * PIXELS + i], raw[c * PIXELS + i] / (most + 1e-5), 1e-3);
    }
}

/* ---- sizes and errors ---------------------------------------------------------------------------------------- */

/* Flow of 8 x 16 on maps of 4 x 8: 4 pixels are 2 there. Buffers of a larger frame are used again. */
static void flow_of_another_size_is_resized(void **state)
{
    (void)state;
    enum { SMALL_H = 4, SMALL_W = 8, SMALL = SMALL_H * SMALL_W };
    struct ws2_error error = {0};
    struct ws2_fuse_scratch scratch = {0};
    static struct clip clip;
    static uint16_t maps[SMALL], flow[2 * 4 * SMALL], out[SMALL];
    static uint8_t valid[4 * SMALL];
    const struct ws2_shape shape = ws2_shape_3(1, SMALL_H, SMALL_W);
    const struct ws2_shape full = ws2_shape_3(2, 2 * SMALL_H, 2 * SMALL_W);
    const struct ws2_fuse fuse = {.merge = WS2_FUSE_MAX, .reach = 1, .visible = true, .raw = true};
    random_clip(&clip);
    struct ws2_fuse_frame *frame[2] = {frame_make(&clip, 1), frame_make(&clip, 2)};
    for (int i = 0; i < 4 * SMALL; i++) {
        flow[i] = ws2_half_from_float(4);
        valid[i] = i / (2 * SMALL_W) < SMALL_H; /* the upper half */
    }
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < SMALL; i++)
            maps[i] = ws2_half_from_float(t == 1 ? (float)(i % SMALL_W) / 8 : 0);
        assert_int_equal(ws2_fuse_frame_maps(frame[t], t, maps, &shape, &error), 0);
        assert_int_equal(ws2_fuse_frame_flow(frame[t], WS2_TO_NEXT, flow, &full, valid, &error), 0);
    }
    const struct ws2_fuse_frame *window[3] = {NULL, frame[0], frame[1]};
    assert_int_equal(ws2_fuse(&fuse, window + 1, &scratch, out, &error), 0);
    for (int i = 0; i < SMALL; i++) {
        const int x = i % SMALL_W + 2;
        const double want = i / SMALL_W < SMALL_H / 2 && x < SMALL_W ? x / 8.0 : 0;
        assert_float_equal(ws2_half_to_float(out[i]), want, 1e-6);
    }
    ws2_fuse_frame_free(frame[0]);
    ws2_fuse_frame_free(frame[1]);
    ws2_fuse_scratch_free(&scratch);
}

static void a_missing_flow_is_named(void **state)
{
    (void)state;
    static struct clip clip;
    struct ws2_fuse_scratch scratch = {0};
    uint16_t out[CLASSES * PIXELS];
    const struct ws2_fuse fuse = {.merge = WS2_FUSE_MAX, .reach = 2};
    random_clip(&clip);
    struct ws2_fuse_frame *frame[3] = {frame_make(&clip, FRAMES - 3), frame_make(&clip, FRAMES - 1),
                                       frame_make(&clip, FRAMES - 2)};
    const struct ws2_fuse_frame *window[5] = {NULL, NULL, frame[0], frame[1], frame[2]};
    struct ws2_error error = {0};
    assert_int_equal(ws2_fuse(&fuse, window + 2, &scratch, out, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "there is no flow from frame 106 to frame 105");
    ws2_fuse_frame_free(frame[0]);
    frame[0] = frame_make(&clip, 0);
    const struct ws2_fuse_frame *back[5] = {NULL, frame[1], frame[0], NULL, NULL};
    error = (struct ws2_error){0};
    assert_int_equal(ws2_fuse(&fuse, back + 2, &scratch, out, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "there is no flow from frame 100 to frame 106");
    for (int i = 0; i < 3; i++)
        ws2_fuse_frame_free(frame[i]);
    ws2_fuse_scratch_free(&scratch);
}

/* A frame that is filled again has no flow of before. */
static void filling_a_frame_forgets_its_flow(void **state)
{
    (void)state;
    static struct clip clip;
    static const uint16_t maps[CLASSES * PIXELS];
    struct ws2_fuse_scratch scratch = {0};
    struct ws2_error error = {0};
    uint16_t out[CLASSES * PIXELS];
    const struct ws2_shape shape = ws2_shape_3(CLASSES, H, W);
    const struct ws2_fuse fuse = {.merge = WS2_FUSE_MAX, .reach = 1};
    random_clip(&clip);
    struct ws2_fuse_frame *frame[2] = {frame_make(&clip, 1), frame_make(&clip, 2)};
    const struct ws2_fuse_frame *window[3] = {NULL, frame[0], frame[1]};
    assert_int_equal(ws2_fuse(&fuse, window + 1, &scratch, out, &error), 0);
    assert_int_equal(ws2_fuse_frame_maps(frame[0], 7, maps, &shape, &error), 0);
    assert_int_equal(ws2_fuse(&fuse, window + 1, &scratch, out, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "there is no flow from frame 7 to frame 102");
    ws2_fuse_frame_free(frame[0]);
    ws2_fuse_frame_free(frame[1]);
    ws2_fuse_scratch_free(&scratch);
}

static void maps_must_have_one_shape(void **state)
{
    (void)state;
    static struct clip clip;
    struct ws2_fuse_scratch scratch = {0};
    struct ws2_error error = {0};
    static uint16_t maps[CLASSES * PIXELS], out[CLASSES * PIXELS];
    const struct ws2_shape turned = ws2_shape_3(CLASSES, W, H), flat = ws2_shape_2(H, W);
    const struct ws2_fuse fuse = {.merge = WS2_FUSE_MAX, .reach = 1};
    random_clip(&clip);
    struct ws2_fuse_frame *frame[2] = {frame_make(&clip, 1), frame_make(&clip, 2)};
    assert_int_equal(ws2_fuse_frame_maps(frame[1], 102, maps, &turned, &error), 0);
    const struct ws2_fuse_frame *window[3] = {NULL, frame[0], frame[1]};
    assert_int_equal(ws2_fuse(&fuse, window + 1, &scratch, out, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "maps are [2,12,40] here and [2,40,12] in frame 102");
    assert_int_equal(ws2_fuse_frame_maps(frame[1], 102, maps, &flat, NULL), WS2_ERR_USAGE);
    ws2_fuse_frame_free(frame[0]);
    ws2_fuse_frame_free(frame[1]);
    ws2_fuse_scratch_free(&scratch);
}

static void maps_must_be_finite(void **state)
{
    (void)state;
    static uint16_t maps[CLASSES * PIXELS];
    static const uint16_t bad[] = {0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFFFF};
    const struct ws2_shape shape = ws2_shape_3(CLASSES, H, W);
    struct ws2_fuse_frame *frame = ws2_fuse_frame_new();
    maps[5] = 0x7BFF; /* the largest */
    assert_int_equal(ws2_fuse_frame_maps(frame, 0, maps, &shape, NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (int at = 0; at < CLASSES * PIXELS; at += CLASSES * PIXELS - 1) {
            memset(maps, 0, sizeof maps);
            maps[at] = bad[i];
            assert_int_equal(ws2_fuse_frame_maps(frame, 0, maps, &shape, NULL), WS2_ERR_INPUT);
        }
    }
    ws2_fuse_frame_free(frame);
}

/* A flow that is no number says nothing of its pixel. */
static void wild_flows_are_left_out(void **state)
{
    (void)state;
    static struct clip clip;
    float out[CLASSES * PIXELS];
    const float wild[] = {NAN, INFINITY, -INFINITY, 65504};
    for (int merge = WS2_FUSE_MAX; merge <= WS2_FUSE_CONFIDENCE; merge++) {
        const struct ws2_fuse fuse = {.merge = (enum ws2_fuse_merge)merge, .reach = REACH, .raw = true};
        random_clip(&clip);
        for (int way = 0; way < 2; way++)
            for (int i = 0; i < PIXELS; i++)
                clip.flow[3][way][i] = wild[i % 4];
        fuse_at(&clip, &fuse, 3, out);
        assert_memory_equal(out, clip.maps[3], sizeof out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parts_of_an_object_unite),
        cmocka_unit_test(a_window_ends_with_the_sequence),
        cmocka_unit_test(equal_frames_stay_as_they_are),
        cmocka_unit_test(the_published_warp_can_be_had),
        cmocka_unit_test(merging_follows_the_formulas),
        cmocka_unit_test(maps_are_divided_by_their_maximum),
        cmocka_unit_test(flow_of_another_size_is_resized),
        cmocka_unit_test(a_missing_flow_is_named),
        cmocka_unit_test(filling_a_frame_forgets_its_flow),
        cmocka_unit_test(maps_must_have_one_shape),
        cmocka_unit_test(maps_must_be_finite),
        cmocka_unit_test(wild_flows_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
