/* The belt simulator: truth, flow, determinism, cut-outs, data sets. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "image/image.h"
#include "pool/pool.h"
#include "synth/internal.h"
#include "synth/synth.h"

/* ---- helpers ------------------------------------------------------------------------------------------- */

/* One frame with all that can be asked for. */
struct shot {
    int64_t width, height;
    struct ws2_synth_frame at;
};

static struct shot shot_new(int64_t width, int64_t height)
{
    const size_t n = (size_t)(width * height);
    struct shot shot = {width, height, {0}};
    shot.at = (struct ws2_synth_frame){.rgb = ws2_calloc(n, 3),
                                       .truth = ws2_calloc(n, 1),
                                       .ids = ws2_calloc(n, 2),
                                       .kind = ws2_calloc(n, 1),
                                       .next = ws2_calloc(n, 8),
                                       .next_valid = ws2_calloc(n, 1),
                                       .prev = ws2_calloc(n, 8),
                                       .prev_valid = ws2_calloc(n, 1)};
    return shot;
}

static void shot_free(struct shot *shot)
{
    free(shot->at.rgb);
    free(shot->at.truth);
    free(shot->at.ids);
    free(shot->at.kind);
    free(shot->at.next);
    free(shot->at.next_valid);
    free(shot->at.prev);
    free(shot->at.prev_valid);
}

static struct ws2_synth_config plain(int64_t width, int64_t height, uint64_t seed)
{
    struct ws2_synth_config config;
    ws2_synth_defaults(&config, WS2_SYNTH_PLAIN);
    config.width = width;
    config.height = height;
    config.seed = seed;
    return config;
}

/* A camera that adds nothing: what the scene looks like. */
static void make_ideal(struct ws2_synth_config *config)
{
    config->noise = 0;
    config->optics = 0;
    config->drift = 0;
    config->difference = WS2_SYNTH_SAME;
}

static struct ws2_synth *open_synth(const struct ws2_synth_config *config)
{
    struct ws2_synth *synth;
    struct ws2_error error = {0};
    if (ws2_synth_open(&synth, config, NULL, &error) < 0)
        fail_msg("%s", error.text);
    return synth;
}

static void render(const struct ws2_synth *synth, int64_t t, const struct shot *shot)
{
    struct ws2_error error = {0};
    if (ws2_synth_render(synth, t, &shot->at, &error) < 0)
        fail_msg("%s", error.text);
}

static struct shot render_new(const struct ws2_synth_config *config, int64_t t)
{
    struct shot shot = shot_new(config->width, config->height);
    struct ws2_synth *synth = open_synth(config);
    render(synth, t, &shot);
    ws2_synth_close(synth);
    return shot;
}

static void assert_same_shot(const struct shot *a, const struct shot *b)
{
    const size_t n = (size_t)(a->width * a->height);
    assert_memory_equal(a->at.rgb, b->at.rgb, 3 * n);
    assert_memory_equal(a->at.truth, b->at.truth, n);
    assert_memory_equal(a->at.ids, b->at.ids, 2 * n);
    assert_memory_equal(a->at.kind, b->at.kind, n);
    assert_memory_equal(a->at.next, b->at.next, 8 * n);
    assert_memory_equal(a->at.next_valid, b->at.next_valid, n);
    assert_memory_equal(a->at.prev, b->at.prev, 8 * n);
    assert_memory_equal(a->at.prev_valid, b->at.prev_valid, n);
}

static double mean_of(const uint8_t *byte, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += byte[i];
    return sum / (double)count;
}

/* ---- settings ----------------------------------------------------------------------------------------------- */

static void refuses_values_out_of_range(void **state)
{
    (void)state;
    const struct {
        size_t offset;
        double bad;
    } row[] = {{offsetof(struct ws2_synth_config, speed), 1.01},
               {offsetof(struct ws2_synth_config, speed), -0.1},
               {offsetof(struct ws2_synth_config, density), 101},
               {offsetof(struct ws2_synth_config, density), NAN},
               {offsetof(struct ws2_synth_config, overlap), 1.1},
               {offsetof(struct ws2_synth_config, scale), 0},
               {offsetof(struct ws2_synth_config, unwanted), 2},
               {offsetof(struct ws2_synth_config, miss), -1},
               {offsetof(struct ws2_synth_config, clear), NAN},
               {offsetof(struct ws2_synth_config, hue), INFINITY},
               {offsetof(struct ws2_synth_config, print), -0.5},
               {offsetof(struct ws2_synth_config, rolling), 1.5},
               {offsetof(struct ws2_synth_config, sliding), -0.5},
               {offsetof(struct ws2_synth_config, noise), 11},
               {offsetof(struct ws2_synth_config, drift), 0.6},
               {offsetof(struct ws2_synth_config, optics), -1e-9},
               {offsetof(struct ws2_synth_config, scale), 3.1}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct ws2_synth_config config = plain(16, 16, 0);
        struct ws2_error error = {0};
        struct ws2_synth *synth;
        memcpy((char *)&config + row[i].offset, &row[i].bad, sizeof row[i].bad);
        assert_int_equal(ws2_synth_open(&synth, &config, NULL, &error), WS2_ERR_USAGE);
        assert_null(synth);
        assert_true(error.text[0] != 0);
    }
    const int64_t side[][2] = {{0, 8}, {8, 0}, {-1, 8}, {WS2_SYNTH_SIDE_MAX + 1, 1}, {INT64_MAX, INT64_MAX}};
    for (size_t i = 0; i < sizeof side / sizeof *side; i++) {
        const struct ws2_synth_config config = plain(side[i][0], side[i][1], 0);
        struct ws2_synth *synth;
        assert_int_equal(ws2_synth_open(&synth, &config, NULL, NULL), WS2_ERR_USAGE);
    }
    struct ws2_synth_config config = plain(8, 8, 0);
    config.direction = (enum ws2_synth_direction)9;
    struct ws2_synth *synth;
    assert_int_equal(ws2_synth_open(&synth, &config, NULL, NULL), WS2_ERR_USAGE);
}

static void refuses_frames_out_of_range(void **state)
{
    (void)state;
    const struct ws2_synth_config config = plain(8, 8, 0);
    struct ws2_synth *synth = open_synth(&config);
    const struct ws2_synth_frame nothing = {0};
    assert_int_equal(ws2_synth_render(synth, -1, &nothing, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_synth_render(synth, WS2_SYNTH_FRAME_MAX, &nothing, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_synth_render(synth, WS2_SYNTH_FRAME_MAX - 1, &nothing, NULL), 0);
    ws2_synth_close(synth);
}

static void reads_sizes_and_densities(void **state)
{
    (void)state;
    struct ws2_synth_config config = plain(1, 1, 0);
    assert_int_equal(ws2_synth_parse_size(&config, "640x480", NULL), 0);
    assert_int_equal(config.width, 640);
    assert_int_equal(config.height, 480);
    assert_int_equal(ws2_synth_parse_size(&config, "96", NULL), 0);
    assert_int_equal(config.height, 96);
    const char *bad[] = {"",      "x",    "3x", "x3", "3x4x5", "0", "-3", "3.5", "99999999999999999999",
                         "16385", "4 x4 "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ws2_synth_parse_size(&config, bad[i], NULL), WS2_ERR_USAGE);
    assert_int_equal(config.width, 96);

    assert_int_equal(ws2_synth_parse_density(&config, "crowded", NULL), 0);
    const double crowded = config.density;
    assert_true(config.overlap == 1);
    assert_int_equal(ws2_synth_parse_density(&config, "sparse", NULL), 0);
    assert_true(config.density < crowded);
    assert_int_equal(ws2_synth_parse_density(&config, "3.5", NULL), 0);
    assert_true(config.density == 3.5);
    const char *wrong[] = {"", "many", "-1", "101", "nan", "inf", "1x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(ws2_synth_parse_density(&config, wrong[i], NULL), WS2_ERR_USAGE);
}

/* ---- truth ---------------------------------------------------------------------------------------------------- */

static void truth_is_the_owner(void **state)
{
    (void)state;
    for (int preset = 0; preset < 3; preset++) {
        struct ws2_synth_config config;
        ws2_synth_defaults(&config, (enum ws2_synth_preset)preset);
        config.width = 150;
        config.height = 110;
        config.seed = 5;
        struct ws2_synth *synth = open_synth(&config);
        struct shot shot = shot_new(150, 110);
        render(synth, 7, &shot);
        struct ws2_synth_item item[400];
        const int64_t count = ws2_synth_items(synth, 7, item, 400, NULL);
        assert_in_range(count, 1, 400);
        uint8_t kind[65536] = {0};
        double x[65536], y[65536], radius[65536];
        for (int64_t i = 0; i < count; i++) {
            assert_int_equal(kind[item[i].id], 0);
            kind[item[i].id] = (uint8_t)item[i].kind;
            x[item[i].id] = item[i].x;
            y[item[i].id] = item[i].y;
            radius[item[i].id] = item[i].radius;
        }
        int64_t seen[3] = {0};
        for (int64_t p = 0; p < 150 * 110; p++) {
            const uint16_t id = shot.at.ids[p];
            assert_int_equal(shot.at.kind[p], kind[id]);
            assert_int_equal(shot.at.truth[p], kind[id] == WS2_SYNTH_UNWANTED);
            seen[kind[id]]++;
            if (id)
                assert_true(hypot((double)(p % 150) + 0.5 - x[id], (double)(p / 150) + 0.5 - y[id]) <=
                            radius[id] + 1);
        }
        assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
        shot_free(&shot);
        ws2_synth_close(synth);
    }
}

static void parts_come_out_as_the_whole(void **state)
{
    (void)state;
    const struct ws2_synth_config config = plain(70, 50, 3);
    struct ws2_synth *synth = open_synth(&config);
    struct shot whole = shot_new(70, 50), part = shot_new(70, 50);
    render(synth, 4, &whole);
    assert_int_equal(ws2_synth_render(synth, 4, &(struct ws2_synth_frame){.rgb = part.at.rgb}, NULL), 0);
    assert_int_equal(ws2_synth_render(synth, 4, &(struct ws2_synth_frame){.truth = part.at.truth}, NULL), 0);
    assert_int_equal(ws2_synth_render(synth, 4, &(struct ws2_synth_frame){.ids = part.at.ids}, NULL), 0);
    assert_int_equal(ws2_synth_render(synth, 4, &(struct ws2_synth_frame){.kind = part.at.kind}, NULL), 0);
    assert_int_equal(ws2_synth_render(synth, 4, &(struct ws2_synth_frame){.next = part.at.next}, NULL), 0);
    assert_int_equal(
        ws2_synth_render(synth, 4, &(struct ws2_synth_frame){.next_valid = part.at.next_valid}, NULL), 0);
    const struct ws2_synth_frame back = {.prev = part.at.prev, .prev_valid = part.at.prev_valid};
    assert_int_equal(ws2_synth_render(synth, 4, &back, NULL), 0);
    assert_same_shot(&whole, &part);

    int32_t rows[2 * 100];
    const int64_t count = ws2_synth_visible(whole.at.ids, whole.at.kind, 70 * 50, rows, 100);
    assert_in_range(count, 1, 100);
    bool listed[65536] = {true};
    for (int64_t i = 0; i < count; i++) {
        assert_true(i == 0 || rows[2 * i] > rows[2 * i - 2]);
        listed[rows[2 * i]] = true;
        assert_in_range(rows[2 * i + 1], 1, 2);
    }
    for (int p = 0; p < 70 * 50; p++)
        assert_true(listed[whole.at.ids[p]]);
    assert_int_equal(ws2_synth_visible(whole.at.ids, whole.at.kind, 70 * 50, NULL, 0), count);
    shot_free(&whole);
    shot_free(&part);
    ws2_synth_close(synth);
}

/* Memory for the tensors of one frame. */
struct kept {
    void *data[WS2_SYNTH_TENSORS];
    size_t count[WS2_SYNTH_TENSORS];
};

static void *keep(void *context, const struct ws2_synth_tensor *tensor, const struct ws2_shape *shape,
                  struct ws2_error *error)
{
    struct kept *kept = context;
    for (int i = 0; i < WS2_SYNTH_TENSORS; i++) {
        if (tensor != ws2_synth_tensor_at(i))
            continue;
        assert_null(kept->data[i]);
        assert_true(ws2_shape_count(shape, &kept->count[i]));
        return kept->data[i] = ws2_calloc(kept->count[i] + 1, ws2_dtype_size(tensor->dtype));
    }
    ws2_fail(error, WS2_ERR_USAGE, "'%s' is no tensor of the simulator", tensor->name);
    return NULL;
}

static void *refuse(void *context, const struct ws2_synth_tensor *tensor, const struct ws2_shape *shape,
                    struct ws2_error *error)
{
    (void)context;
    (void)tensor;
    (void)shape;
    ws2_fail(error, WS2_ERR_SYSTEM, "full");
    return NULL;
}

/* The tensors hold what ws2_synth_render gives; the ends of a clip lack a flow. */
static void tensors_are_the_frame(void **state)
{
    (void)state;
    enum { W = 40, H = 28, N = W * H };
    const struct ws2_synth_config config = plain(W, H, 4);
    struct ws2_synth *synth = open_synth(&config);
    bool all[WS2_SYNTH_TENSORS];
    memset(all, 1, sizeof all);
    for (int64_t t = 0; t < 3; t++) {
        struct kept kept = {{0}, {0}};
        struct shot shot = shot_new(W, H);
        struct ws2_error error = {0};
        uint16_t half[2 * N];
        render(synth, t, &shot);
        assert_int_equal(ws2_synth_render_tensors(synth, t, 3, all, keep, &kept, &error), 0);
        assert_memory_equal(kept.data[WS2_SYNTH_RGB], shot.at.rgb, 3 * N);
        assert_memory_equal(kept.data[WS2_SYNTH_TRUTH], shot.at.truth, N);
        assert_memory_equal(kept.data[WS2_SYNTH_IDS], shot.at.ids, 2 * N);
        assert_memory_equal(kept.data[WS2_SYNTH_CLASS], shot.at.kind, N);
        assert_int_equal(kept.count[WS2_SYNTH_ITEMS],
                         2 * ws2_synth_visible(shot.at.ids, shot.at.kind, N, NULL, 0));
        assert_int_equal(kept.data[WS2_SYNTH_NEXT] != NULL, t < 2);
        assert_int_equal(kept.data[WS2_SYNTH_NEXT_VALID] != NULL, t < 2);
        assert_int_equal(kept.data[WS2_SYNTH_PREV] != NULL, t > 0);
        assert_int_equal(kept.data[WS2_SYNTH_PREV_VALID] != NULL, t > 0);
        if (t == 1) {
            ws2_half_from_floats(half, shot.at.next, 2 * N);
            assert_memory_equal(kept.data[WS2_SYNTH_NEXT], half, sizeof half);
            ws2_half_from_floats(half, shot.at.prev, 2 * N);
            assert_memory_equal(kept.data[WS2_SYNTH_PREV], half, sizeof half);
            assert_memory_equal(kept.data[WS2_SYNTH_NEXT_VALID], shot.at.next_valid, N);
            assert_memory_equal(kept.data[WS2_SYNTH_PREV_VALID], shot.at.prev_valid, N);
        }
        for (int i = 0; i < WS2_SYNTH_TENSORS; i++)
            free(kept.data[i]);
        shot_free(&shot);
        assert_int_equal(ws2_synth_render_tensors(synth, t, 3, all, refuse, NULL, &error), WS2_ERR_SYSTEM);
    }
    assert_null(ws2_synth_tensor_at(-1));
    assert_null(ws2_synth_tensor_at(WS2_SYNTH_TENSORS));
    ws2_synth_close(synth);
}

static void an_empty_belt_has_no_truth(void **state)
{
    (void)state;
    struct ws2_synth_config config = plain(40, 30, 1);
    config.density = 0;
    struct shot shot = render_new(&config, 3);
    for (int p = 0; p < 40 * 30; p++)
        assert_true(shot.at.truth[p] == 0 && shot.at.ids[p] == 0 && shot.at.kind[p] == 0);
    assert_true(mean_of(shot.at.rgb, 40 * 30 * 3) > 30);
    shot_free(&shot);
}

static void any_small_size_works(void **state)
{
    (void)state;
    for (int64_t h = 1; h <= 16; h++) {
        for (int64_t w = 1; w <= 16; w++) {
            struct ws2_synth_config config = plain(w, h, 2);
            config.density = 60;
            config.overlap = 1;
            config.rolling = config.sliding = 1;
            config.direction = (enum ws2_synth_direction)((w + h) % 4);
            struct shot shot = render_new(&config, w * h);
            for (int64_t p = 0; p < w * h; p++) {
                assert_int_equal(shot.at.truth[p], shot.at.kind[p] == WS2_SYNTH_UNWANTED);
                assert_true(isfinite(shot.at.next[p]) && isfinite(shot.at.prev[w * h + p]));
                assert_true(shot.at.next_valid[p] <= 1 && shot.at.prev_valid[p] <= 1);
            }
            shot_free(&shot);
        }
    }
    const int64_t odd[][2] = {{1, 700}, {700, 1}, {3, 333}};
    for (int i = 0; i < 3; i++) {
        const struct ws2_synth_config config = plain(odd[i][0], odd[i][1], 2);
        struct shot shot = render_new(&config, 0);
        shot_free(&shot);
    }
}

/* ---- the same for everybody ------------------------------------------------------------------------------------ */

struct batch {
    const struct ws2_synth *synth;
    struct shot *shot;
};

static void render_some(void *context, int64_t begin, int64_t end)
{
    const struct batch *batch = context;
    for (int64_t t = begin; t < end; t++)
        ws2_synth_render(batch->synth, t, &batch->shot[t].at, NULL);
}

static void threads_and_reruns_change_nothing(void **state)
{
    (void)state;
    enum { FRAMES = 9 };
    struct ws2_synth_config config = plain(48, 40, 11);
    config.density = 40;
    config.rolling = config.sliding = 0.5;
    struct ws2_synth *synth = open_synth(&config), *again = open_synth(&config);
    struct shot one[FRAMES], many[FRAMES];
    for (int t = 0; t < FRAMES; t++) {
        one[t] = shot_new(48, 40);
        many[t] = shot_new(48, 40);
    }
    render_some(&(struct batch){synth, one}, 0, FRAMES);
    struct batch batch = {again, many};
    ws2_parallel_for(4, FRAMES, render_some, &batch);
    for (int t = 0; t < FRAMES; t++) {
        assert_same_shot(&one[t], &many[t]);
        assert_true(t == 0 || memcmp(one[t].at.rgb, one[t - 1].at.rgb, 48 * 40 * 3) != 0);
    }
    for (int t = 0; t < FRAMES; t++) {
        shot_free(&one[t]);
        shot_free(&many[t]);
    }
    ws2_synth_close(synth);
    ws2_synth_close(again);
}

static void another_seed_is_another_belt(void **state)
{
    (void)state;
    struct ws2_synth_config config = plain(48, 48, 1);
    struct shot a = render_new(&config, 0);
    config.seed = 2;
    struct shot b = render_new(&config, 0);
    assert_true(memcmp(a.at.kind, b.at.kind, 48 * 48) != 0);
    shot_free(&b);
    config.seed = 1;
    config.plant = 1;
    b = render_new(&config, 0);
    /* Another plant: the same items before other cameras. */
    assert_memory_equal(a.at.ids, b.at.ids, 48 * 48 * 2);
    assert_true(memcmp(a.at.rgb, b.at.rgb, 48 * 48 * 3) != 0);
    shot_free(&a);
    shot_free(&b);
}

/* A pixel's centre at size n is that of the middle one of its nine at size 3 n. */
static void another_size_is_the_same_scene(void **state)
{
    (void)state;
    struct ws2_synth_config config = plain(81, 66, 4);
    make_ideal(&config);
    struct shot small = render_new(&config, 5);
    config.width *= 3;
    config.height *= 3;
    struct shot large = render_new(&config, 5);
    int64_t other = 0;
    double difference = 0;
    for (int64_t y = 0; y < 66; y++) {
        for (int64_t x = 0; x < 81; x++) {
            const int64_t p = y * 81 + x, q = (3 * y + 1) * 243 + 3 * x + 1;
            other += small.at.ids[p] != large.at.ids[q];
            for (int c = 0; c < 3; c++) {
                double sum = 0;
                for (int k = 0; k < 9; k++)
                    sum += large.at.rgb[3 * (q + (k / 3 - 1) * 243 + k % 3 - 1) + c];
                difference += fabs(sum / 9 - small.at.rgb[3 * p + c]);
            }
            if (small.at.ids[p] == large.at.ids[q]) {
                assert_true(fabsf(3 * small.at.next[p] - large.at.next[q]) < 0.01f);
                assert_true(fabsf(3 * small.at.next[81 * 66 + p] - large.at.next[243 * 198 + q]) < 0.01f);
            }
        }
    }
    /* Rounding may move an edge across a centre; nothing else may differ. */
    assert_true(other <= 3);
    assert_true(difference / (81 * 66 * 3) < 5);
    shot_free(&small);
    shot_free(&large);
}

/* ---- motion ---------------------------------------------------------------------------------------------------- */

static void belt_flow_is_the_belt_motion(void **state)
{
    (void)state;
    const double way[4][2] = {{0, 1}, {0, -1}, {1, 0}, {-1, 0}};
    for (int direction = 0; direction < 4; direction++) {
        struct ws2_synth_config config = plain(80, 60, 6);
        config.direction = (enum ws2_synth_direction)direction;
        config.speed = 0.0713;
        struct shot shot = render_new(&config, 1234567);
        const float fx = (float)(way[direction][0] * 0.0713 * 80),
                    fy = (float)(way[direction][1] * 0.0713 * 80);
        int64_t belt = 0;
        for (int64_t p = 0; p < 80 * 60; p++) {
            if (shot.at.ids[p])
                continue;
            belt++;
            assert_true(shot.at.next[p] == fx && shot.at.next[80 * 60 + p] == fy);
            assert_true(shot.at.prev[p] == -fx && shot.at.prev[80 * 60 + p] == -fy);
        }
        assert_true(belt > 100);
        shot_free(&shot);
    }
}

/* Nearest pixel of frame `to` that the point of pixel p comes to, or -1. */
static int64_t target(const struct shot *shot, const float *flow, int64_t p)
{
    const int64_t n = shot->width * shot->height;
    const double x = floor((double)(p % shot->width) + flow[p] + 0.5);
    const double y = floor((double)(p / shot->width) + flow[n + p] + 0.5);
    if (x < 0 || y < 0 || x >= (double)shot->width || y >= (double)shot->height)
        return -1;
    return (int64_t)y * shot->width + (int64_t)x;
}

static void flow_lands_on_the_same_item(void **state)
{
    (void)state;
    struct ws2_synth_config config = plain(120, 120, 8);
    config.density = 45;
    config.overlap = 1;
    config.rolling = 0.5;
    config.sliding = 0.3;
    struct ws2_synth *synth = open_synth(&config);
    struct shot a = shot_new(120, 120), b = shot_new(120, 120);
    int64_t valid = 0, hidden = 0;
    for (int64_t t = 0; t < 6; t++) {
        render(synth, t, &a);
        render(synth, t + 1, &b);
        for (int64_t p = 0; p < 120 * 120; p++) {
            const int64_t there = target(&a, a.at.next, p), back = target(&b, b.at.prev, p);
            const bool same = there >= 0 && b.at.ids[there] == a.at.ids[p];
            if (a.at.next_valid[p])
                assert_true(same);
            else if (same) /* only a wall that turned away may be refused there */
                hidden++;
            else
                assert_true(there < 0 || b.at.ids[there] != a.at.ids[p]);
            valid += a.at.next_valid[p];
            if (b.at.prev_valid[p])
                assert_true(back >= 0 && a.at.ids[back] == b.at.ids[p]);
        }
    }
    assert_true(valid > 6 * 120 * 120 / 2);
    assert_true(hidden > 0 && hidden < valid / 10);
    shot_free(&a);
    shot_free(&b);
    ws2_synth_close(synth);
}

/* Sampled between pixels; the caller knows that the four are inside. */
static double between(const float *plane, int64_t width, double x, double y)
{
    const int64_t ix = (int64_t)floor(x), iy = (int64_t)floor(y);
    const double wx = x - (double)ix, wy = y - (double)iy;
    const float *p = plane + iy * width + ix;
    return (p[0] * (1 - wx) + p[1] * wx) * (1 - wy) + (p[width] * (1 - wx) + p[width + 1] * wx) * wy;
}

static bool four_are(const uint16_t *ids, int64_t width, int64_t height, double x, double y, uint16_t id)
{
    const int64_t ix = (int64_t)floor(x), iy = (int64_t)floor(y);
    if (ix < 0 || iy < 0 || ix + 1 >= width || iy + 1 >= height)
        return false;
    const uint16_t *p = ids + iy * width + ix;
    return p[0] == id && p[1] == id && p[width] == id && p[width + 1] == id;
}

/* There and back again: a second opinion on every kind of motion, rolling and turning ones too. */
static void backward_flow_undoes_forward_flow(void **state)
{
    (void)state;
    enum { N = 200 };
    struct ws2_synth_config config = plain(N, N, 21);
    config.scale = 1.6;
    config.rolling = 1;
    config.sliding = 1;
    struct ws2_synth *synth = open_synth(&config);
    struct shot a = shot_new(N, N), b = shot_new(N, N);
    int64_t belt = 0, items = 0, off = 0;
    for (int64_t t = 0; t < 4; t++) {
        render(synth, t, &a);
        render(synth, t + 1, &b);
        for (int64_t p = 0; p < N * N; p++) {
            const double x = (double)(p % N) + a.at.next[p], y = (double)(p / N) + a.at.next[N * N + p];
            if (!a.at.next_valid[p] || !four_are(b.at.ids, N, N, x, y, a.at.ids[p]))
                continue;
            const double ex = a.at.next[p] + between(b.at.prev, N, x, y);
            const double ey = a.at.next[N * N + p] + between(b.at.prev + N * N, N, x, y);
            const double away = hypot(ex, ey);
            if (a.at.ids[p] == 0) {
                belt++;
                assert_true(away < 1e-4);
            } else {
                items++;
                /* Near the rim of a rolling item the flow bends too fast for a linear look-up. */
                off += away > 0.15;
            }
        }
    }
    assert_true(belt > 10000 && items > 10000);
    assert_true(off < items / 20);
    shot_free(&a);
    shot_free(&b);
    ws2_synth_close(synth);
}

/* Mean difference between frame t and frame t + 1 warped back, [0] belt and [1] items, and without warping. */
static void compare_warped(const struct ws2_synth_config *config, double *warped, double *still)
{
    const int64_t n = config->width, pixels = n * n;
    struct ws2_synth *synth = open_synth(config);
    struct shot a = shot_new(n, n), b = shot_new(n, n);
    float *plane = ws2_calloc((size_t)pixels, sizeof *plane);
    int64_t count[2] = {0};
    for (int64_t t = 0; t < 4; t++) {
        render(synth, t, &a);
        render(synth, t + 1, &b);
        for (int64_t p = 0; p < pixels; p++)
            plane[p] = b.at.rgb[3 * p + 1];
        for (int64_t p = 0; p < pixels; p++) {
            const double x = (double)(p % n) + a.at.next[p], y = (double)(p / n) + a.at.next[pixels + p];
            if (!a.at.next_valid[p] || !four_are(b.at.ids, n, n, x, y, a.at.ids[p]))
                continue;
            const int item = a.at.ids[p] != 0;
            count[item]++;
            warped[item] += fabs(between(plane, n, x, y) - a.at.rgb[3 * p + 1]);
            still[item] += fabs((double)plane[p] - a.at.rgb[3 * p + 1]);
        }
    }
    for (int item = 0; item < 2; item++) {
        assert_true(count[item] > 1000);
        warped[item] /= (double)count[item];
        still[item] /= (double)count[item];
    }
    free(plane);
    shot_free(&a);
    shot_free(&b);
    ws2_synth_close(synth);
}

static void warped_pictures_agree(void **state)
{
    (void)state;
    struct ws2_synth_config config = plain(192, 192, 9);
    make_ideal(&config);
    config.scale = 1.5;
    config.rolling = config.sliding = 0;
    double warped[2] = {0}, still[2] = {0}, turned[2] = {0}, other[2] = {0};
    /* Whole pixels: nothing is lost between pixels, so nothing but rounding may differ. */
    config.speed = 15.0 / 192;
    compare_warped(&config, warped, still);
    print_message("# whole pixels: belt %.3f of %.1f, items %.3f of %.1f grey levels\n", warped[0], still[0],
                  warped[1], still[1]);
    assert_true(warped[0] < 0.1 && warped[1] < 0.1);
    assert_true(still[0] > 5 && still[1] > 10);
    /* Part of a pixel, with items that slide and turn under a light that does not. */
    config.speed = 0.08;
    config.sliding = 1;
    compare_warped(&config, turned, other);
    print_message("# parts of a pixel: belt %.3f of %.1f, items %.3f of %.1f grey levels\n", turned[0],
                  other[0], turned[1], other[1]);
    assert_true(turned[0] < 0.1 * other[0]);
    assert_true(turned[1] < 0.3 * other[1]);
}

static void a_belt_that_stands_shows_the_same(void **state)
{
    (void)state;
    struct ws2_synth_config config = plain(60, 60, 3);
    make_ideal(&config);
    config.speed = 0;
    config.rolling = config.sliding = 1;
    struct ws2_synth *synth = open_synth(&config);
    struct shot a = shot_new(60, 60), b = shot_new(60, 60);
    render(synth, 0, &a);
    render(synth, 500, &b);
    assert_same_shot(&a, &b);
    for (int p = 0; p < 60 * 60; p++)
        assert_true(a.at.next_valid[p] == 1 && fabsf(a.at.next[p]) < 1e-4f &&
                    fabsf(a.at.prev[3600 + p]) < 1e-4f);
    shot_free(&a);
    shot_free(&b);
    ws2_synth_close(synth);
}

/* The crest of a rolling item moves faster, relative to the belt, than the item itself. */
static void rolling_items_leave_the_belt_motion(void **state)
{
    (void)state;
    enum { N = 160 };
    struct ws2_synth_config config = plain(N, N, 2);
    config.scale = 1.5;
    config.rolling = 1;
    config.sliding = 0;
    struct ws2_synth *synth = open_synth(&config);
    struct shot shot = shot_new(N, N);
    struct ws2_synth_item now[200], then[200];
    int64_t compared = 0;
    for (int64_t t = 0; t < 12; t++) {
        render(synth, t, &shot);
        const int64_t count = ws2_synth_items(synth, t, now, 200, NULL);
        const int64_t later = ws2_synth_items(synth, t + 1, then, 200, NULL);
        for (int64_t i = 0; i < count && i < 200; i++) {
            const int64_t x = (int64_t)now[i].x, y = (int64_t)now[i].y, p = y * N + x;
            if (!now[i].moving || x < 0 || y < 0 || x >= N || y >= N || shot.at.ids[p] != now[i].id)
                continue;
            for (int64_t k = 0; k < later && k < 200; k++) {
                if (then[k].id != now[i].id)
                    continue;
                const double own = hypot(then[k].x - now[i].x, then[k].y - now[i].y - 0.08 * N);
                const double crest = hypot(shot.at.next[p], shot.at.next[N * N + p] - 0.08 * N);
                assert_true(own > 0.05);
                assert_true(crest > 1.3 * own && crest < 2.6 * own);
                compared++;
            }
        }
    }
    assert_true(compared > 10);
    shot_free(&shot);
    ws2_synth_close(synth);
}

/* A point of a label keeps its place on the print wherever the flow takes it. */
static void print_rolls_with_the_wall(void **state)
{
    (void)state;
    enum { N = 256 };
    struct ws2_synth_config config = plain(N, N, 1);
    config.scale = 2;
    config.rolling = 1;
    struct ws2_synth *synth = open_synth(&config);
    struct shot shot = shot_new(N, N);
    int64_t followed = 0;
    double moved = 0;
    for (int64_t t = 0; t < 10; t++) {
        struct heap heap;
        assert_int_equal(ws2_synth_heap(synth, t, &heap, NULL), 0);
        render(synth, t, &shot);
        for (int i = 0; i < heap.count; i++) {
            const struct item *item = &heap.item[i];
            const struct pose *now = &heap.pose[1][i], *then = &heap.pose[2][i];
            for (int p = 0; p < N * N && item->roll != 0 && item->label_half > 0; p++) {
                if (shot.at.ids[p] != item->id || !shot.at.next_valid[p])
                    continue;
                const float x = ((float)(p % N) + 0.5f) / N, y = ((float)(p / N) + 0.5f) / N;
                const float dx = x - now->x, dy = y - now->y;
                const float ex = x + shot.at.next[p] / N - then->x,
                            ey = y + shot.at.next[N * N + p] / N - then->y;
                const float u = dx * now->c + dy * now->s, v = dy * now->c - dx * now->s;
                struct surface here, there, stuck;
                ws2_synth_surface(item, now, u, v, 1.0f / N, &here);
                ws2_synth_surface(item, then, ex * then->c + ey * then->s, ey * then->c - ex * then->s,
                                  1.0f / N, &there);
                ws2_synth_surface(item, then, u, v, 1.0f / N, &stuck);
                /* At the rim a rounding error of v is a large angle. */
                if (here.nw < 0.3f || there.nw < 0.3f || fabsf(here.tv) > 0.99f)
                    continue;
                assert_true(fabsf(here.tu - there.tu) < 1e-4f);
                assert_true(fabsf(here.tv - there.tv) < 1e-3f);
                moved += fabsf(here.tv - stuck.tv);
                followed++;
            }
        }
        ws2_synth_heap_free(&heap);
    }
    assert_true(followed > 5000);
    assert_true(moved / (double)followed > 0.02);
    shot_free(&shot);
    ws2_synth_close(synth);
}

/* ---- what the sorter does ------------------------------------------------------------------------------------------ */

static void the_sorter_takes_unwanted_items_off(void **state)
{
    (void)state;
    int64_t before[3] = {0}, after[3] = {0};
    for (uint64_t seed = 0; seed < 120; seed++) {
        struct ws2_synth_config config = plain(64, 64, seed);
        config.miss = 0.1;
        config.unwanted = 0.45;
        struct ws2_synth *synth = open_synth(&config);
        config.after = true;
        struct ws2_synth *sorted = open_synth(&config);
        struct ws2_synth_item all[300], left[300];
        const int64_t count = ws2_synth_items(synth, 100, all, 300, NULL);
        const int64_t rest = ws2_synth_items(sorted, 100, left, 300, NULL);
        assert_in_range(count, 1, 300);
        assert_true(rest <= count);
        int64_t k = 0;
        for (int64_t i = 0; i < count; i++) {
            before[all[i].kind]++;
            if (k < rest && left[k].id == all[i].id) {
                assert_true(left[k].x == all[i].x && left[k].y == all[i].y && left[k].kind == all[i].kind);
                after[left[k++].kind]++;
            } else {
                assert_int_equal(all[i].kind, WS2_SYNTH_UNWANTED);
            }
        }
        assert_int_equal(k, rest); /* in the same order, nothing added */
        ws2_synth_close(synth);
        ws2_synth_close(sorted);
    }
    assert_int_equal(before[1], after[1]);
    const double all = (double)(before[1] + before[2]), unwanted = (double)before[2] / all;
    const double missed = (double)after[2] / (double)before[2];
    /* Four deviations of a binomial count. */
    assert_true(fabs(unwanted - 0.45) < 4 * sqrt(0.45 * 0.55 / all));
    assert_true(fabs(missed - 0.1) < 4 * sqrt(0.1 * 0.9 / (double)before[2]));
}

static void density_is_what_was_asked_for(void **state)
{
    (void)state;
    const double wanted[] = {3, 10, 40};
    for (int i = 0; i < 3; i++) {
        double inside = 0;
        for (uint64_t seed = 0; seed < 150; seed++) {
            struct ws2_synth_config config = plain(100, 100, seed);
            config.density = wanted[i];
            config.overlap = i < 2 ? 0.35 : 1;
            config.rolling = config.sliding = 0;
            struct ws2_synth *synth = open_synth(&config);
            struct ws2_synth_item item[400];
            const int64_t count = ws2_synth_items(synth, 50, item, 400, NULL);
            for (int64_t k = 0; k < count && k < 400; k++)
                inside += item[k].y >= 0 && item[k].y < 100;
            ws2_synth_close(synth);
        }
        assert_true(fabs(inside / 150 / wanted[i] - 1) < 0.2);
    }
}

static void ids_are_unique_within_their_period(void **state)
{
    (void)state;
    struct ws2_synth_config config = plain(32, 32, 1);
    config.density = 100;
    config.overlap = 1;
    config.speed = 1;
    struct ws2_synth *synth = open_synth(&config);
    const int64_t period = ws2_synth_id_period(synth);
    assert_in_range(period, 50, 100000);
    int64_t last[65536];
    for (int i = 0; i < 65536; i++)
        last[i] = -10;
    for (int64_t t = 0; t < period; t++) {
        struct ws2_synth_item item[1000];
        const int64_t count = ws2_synth_items(synth, t, item, 1000, NULL);
        for (int64_t i = 0; i < count && i < 1000; i++) {
            /* At full speed an item is near the frame for a few frames on end and never again. */
            assert_true(last[item[i].id] < 0 || t - last[item[i].id] <= 2);
            last[item[i].id] = t;
        }
    }
    ws2_synth_close(synth);
}

/* ---- cameras ---------------------------------------------------------------------------------------------------- */

static double brightness_ratio(enum ws2_synth_difference difference, uint64_t plant)
{
    struct ws2_synth_config config = plain(40, 40, 1);
    make_ideal(&config);
    config.difference = difference;
    config.plant = plant;
    config.miss = 1; /* both see the same items */
    struct shot before = render_new(&config, 2);
    config.after = true;
    struct shot after = render_new(&config, 2);
    assert_memory_equal(before.at.ids, after.at.ids, 40 * 40 * 2);
    if (difference == WS2_SYNTH_SAME)
        assert_memory_equal(before.at.rgb, after.at.rgb, 40 * 40 * 3);
    const double ratio = mean_of(before.at.rgb, 40 * 40 * 3) / mean_of(after.at.rgb, 40 * 40 * 3);
    shot_free(&before);
    shot_free(&after);
    return fabs(log(ratio));
}

static void cameras_differ_as_told(void **state)
{
    (void)state;
    for (uint64_t plant = 0; plant < 5; plant++) {
        const double mild = brightness_ratio(WS2_SYNTH_MILD, plant),
                     strong = brightness_ratio(WS2_SYNTH_STRONG, plant);
        assert_true(brightness_ratio(WS2_SYNTH_SAME, plant) == 0);
        assert_true(mild > 0.015);
        assert_true(strong > 1.5 * mild);
    }
}

static void exposure_drifts_slowly(void **state)
{
    (void)state;
    struct ws2_synth_config config = plain(24, 24, 1);
    make_ideal(&config);
    config.density = 0;
    config.speed = 0;
    config.drift = 0.1;
    struct ws2_synth *synth = open_synth(&config);
    struct shot shot = shot_new(24, 24);
    double last = 0, low = 255, high = 0;
    for (int64_t t = 0; t < 150; t++) {
        render(synth, t, &shot);
        const double mean = mean_of(shot.at.rgb, 24 * 24 * 3);
        if (t > 0)
            assert_true(fabs(mean / last - 1) < 0.03);
        last = mean;
        low = mean < low ? mean : low;
        high = mean > high ? mean : high;
    }
    assert_true(high / low > 1.05 && high / low < 1.6);
    shot_free(&shot);
    ws2_synth_close(synth);
}

static void noise_has_the_promised_size(void **state)
{
    (void)state;
    struct ws2_synth_config config = plain(96, 96, 1);
    make_ideal(&config);
    config.density = 0;
    struct shot clean = render_new(&config, 0);
    config.noise = 1;
    struct shot noisy = render_new(&config, 0);
    double sum = 0, square = 0;
    for (int i = 0; i < 96 * 96 * 3; i++) {
        const double d = (double)noisy.at.rgb[i] - clean.at.rgb[i];
        sum += d;
        square += d * d;
    }
    const double n = 96 * 96 * 3, deviation = sqrt(square / n);
    assert_true(fabs(sum / n) < 0.2);
    assert_true(deviation > 1.5 && deviation < 5);
    shot_free(&clean);
    shot_free(&noisy);
}

/* Share of pairs in which the unwanted pixel is the brighter one: 0.5 says nothing, 0 or 1 all. */
static void brightness_alone_does_not_tell_the_classes(void **state)
{
    (void)state;
    for (int preset = 0; preset < 3; preset++) {
        double histogram[3][256] = {{0}}, total[3] = {0};
        for (uint64_t seed = 0; seed < 60; seed++) {
            struct ws2_synth_config config;
            ws2_synth_defaults(&config, (enum ws2_synth_preset)preset);
            config.width = config.height = 48;
            config.seed = seed;
            struct shot shot = render_new(&config, 10);
            uint8_t luma[48 * 48];
            ws2_luma_u8(luma, shot.at.rgb, 48 * 48);
            for (int p = 0; p < 48 * 48; p++) {
                histogram[shot.at.kind[p]][luma[p]]++;
                total[shot.at.kind[p]]++;
            }
            shot_free(&shot);
        }
        double below = 0, pairs = 0;
        for (int i = 0; i < 256; i++) {
            pairs += histogram[WS2_SYNTH_UNWANTED][i] * (below + 0.5 * histogram[WS2_SYNTH_WANTED][i]);
            below += histogram[WS2_SYNTH_WANTED][i];
        }
        const double share = pairs / (total[1] * total[2]);
        assert_true(total[1] > 1000 && total[2] > 1000);
        assert_true(share > 0.3 && share < 0.7);
    }
}

/* ---- files: cut-outs and data sets ----------------------------------------------------------------------------------- */

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* A disc of one colour on nothing. */
static void write_disc(const char *path, int side, int channels, uint8_t red, uint8_t alpha)
{
    struct ws2_image image = {0};
    assert_int_equal(ws2_image_reset(&image, side, side, channels, NULL), 0);
    for (int p = 0; p < side * side; p++) {
        const double x = (p % side) + 0.5 - 0.5 * side, y = (p / side) + 0.5 - 0.5 * side;
        uint8_t *pixel = image.data + channels * p;
        pixel[0] = red;
        pixel[1] = pixel[2] = 20;
        if (channels == 4)
            pixel[3] = hypot(x, y) < 0.45 * side ? alpha : 0;
    }
    assert_int_equal(ws2_png_write(path, &image, 1, NULL), 0);
    ws2_image_free(&image);
}

static int enter_scratch(void **state)
{
    char *folder = strdup("/tmp/ws2_synth_XXXXXX");
    char *here = getcwd(NULL, 0);
    if (!folder || !here || !mkdtemp(folder) || chdir(folder) != 0)
        return -1;
    char **pair = calloc(2, sizeof *pair);
    pair[0] = folder;
    pair[1] = here;
    *state = pair;
    return 0;
}

static int leave_scratch(void **state)
{
    char **pair = *state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", pair[0]);
    const int status = chdir(pair[1]) | system(command);
    free(pair[0]);
    free(pair[1]);
    free(pair);
    return status;
}

static void make_cutout_folder(void)
{
    mkdir("items", 0777);
    mkdir("items/wanted", 0777);
    mkdir("items/unwanted", 0777);
    write_disc("items/wanted/a.png", 40, 4, 30, 255);
    write_disc("items/unwanted/b.png", 61, 4, 250, 255);
    write_disc("items/unwanted/c.png", 7, 4, 240, 120);
}

static void cutouts_are_pasted(void **state)
{
    (void)state;
    make_cutout_folder();
    struct ws2_cutouts *cutouts, *list;
    struct ws2_error error = {0};
    assert_int_equal(ws2_cutouts_open(&cutouts, "items", &error), 0);
    assert_int_equal(ws2_cutouts_count(cutouts, false), 1);
    assert_int_equal(ws2_cutouts_count(cutouts, true), 2);
    mkdir("lists", 0777);
    write_text("lists/items.tsv",
               "# items\n\n../items/wanted/a.png\twanted\n../items/unwanted/b.png\tunwanted\r\n"
               "../items/unwanted/c.png\tunwanted\n");
    assert_int_equal(ws2_cutouts_open(&list, "lists/items.tsv", &error), 0);
    assert_int_equal(ws2_cutouts_digest(cutouts), ws2_cutouts_digest(list));

    struct ws2_synth_config config = plain(90, 90, 2);
    make_ideal(&config);
    config.density = 30;
    config.rolling = config.sliding = 1;
    struct ws2_synth *synth;
    assert_int_equal(ws2_synth_open(&synth, &config, cutouts, &error), 0);
    struct shot shot = shot_new(90, 90);
    render(synth, 3, &shot);
    double red[3] = {0}, count[3] = {0};
    for (int p = 0; p < 90 * 90; p++) {
        red[shot.at.kind[p]] += shot.at.rgb[3 * p];
        count[shot.at.kind[p]]++;
    }
    assert_true(count[1] > 100 && count[2] > 100);
    assert_true(red[1] / count[1] < 60 && red[2] / count[2] > 130);
    shot_free(&shot);
    ws2_synth_close(synth);
    ws2_cutouts_close(cutouts);
    ws2_cutouts_close(list);
}

static void refuse_cutouts(const char *path, const char *reason)
{
    struct ws2_cutouts *cutouts;
    struct ws2_error error = {0};
    assert_int_equal(ws2_cutouts_open(&cutouts, path, &error), WS2_ERR_INPUT);
    assert_null(cutouts);
    if (!strstr(error.text, reason))
        fail_msg("'%s' lacks '%s'", error.text, reason);
}

static void bad_cutouts_are_refused(void **state)
{
    (void)state;
    refuse_cutouts("nowhere", "nowhere: No such file");
    make_cutout_folder();
    unlink("items/wanted/a.png");
    refuse_cutouts("items", "items/wanted");
    rmdir("items/wanted");
    refuse_cutouts("items", "items/wanted");
    mkdir("items/wanted", 0777);
    write_disc("items/wanted/a.png", 10, 3, 30, 255);
    refuse_cutouts("items", "items/wanted/a.png: has no alpha");
    write_disc("items/wanted/a.png", 10, 4, 30, 0);
    refuse_cutouts("items", "items/wanted/a.png: is transparent");
    write_text("items/wanted/a.png", "this is no picture");
    refuse_cutouts("items", "items/wanted/a.png");
    write_disc("items/wanted/a.png", 30, 4, 30, 255);
    assert_int_equal(truncate("items/wanted/a.png", 80), 0);
    refuse_cutouts("items", "items/wanted/a.png");
    write_disc("items/wanted/a.png", 10, 4, 30, 255);
    write_text("list", "items/wanted/a.png\twanted\n");
    refuse_cutouts("list", "names no unwanted");
    write_text("list", "items/wanted/a.png wanted\n");
    refuse_cutouts("list", "list: line 1");
    write_text("list", "items/wanted/a.png\tmaybe\n");
    refuse_cutouts("list", "list: line 1");
    write_text("list", "\n\twanted\n");
    refuse_cutouts("list", "list: line 2");
    write_text("list", "gone.png\twanted\n");
    refuse_cutouts("list", "list: line 1: gone.png: No such file");
    write_text("list", "");
    refuse_cutouts("list", "names no wanted");
}

static struct ws2_synth_dataset small_set(void)
{
    struct ws2_synth_dataset set = {.frames = 2, .clips = {2, 1, 1}, .rate = 12, .quality = 90, .threads = 3};
    set.config = plain(32, 24, 7);
    return set;
}

static bool is_there(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

static void data_sets_have_the_published_layout(void **state)
{
    (void)state;
    const struct ws2_synth_dataset set = small_set();
    struct ws2_error error = {0};
    assert_int_equal(ws2_synth_write_dataset(&set, "a/b", &error), 8);
    static const char *const role[2] = {"before", "after"};
    for (int r = 0; r < 2; r++) {
        char path[200];
        const char *const part[] = {"train_val_dataset/training", "train_val_dataset/validation",
                                    "test_set/images", "test_set/masks"};
        for (int k = 0; k < 4; k++) {
            for (int f = 0; f < 3; f++) {
                snprintf(path, sizeof path, "a/b/%s/%s/video_000/frame_%04d.%s", part[k], role[r], f,
                         k == 3 ? "png" : "jpg");
                assert_true(is_there(path) == (f < 2));
            }
            snprintf(path, sizeof path, "a/b/%s/%s/video_001", part[k], role[r]);
            assert_true(is_there(path) == (k == 0));
        }
        /* The masks are the truth of a scene that can be rendered again from the clip's own pictures' size. */
        struct ws2_image mask = {0};
        snprintf(path, sizeof path, "a/b/test_set/masks/%s/video_000/frame_0001.png", role[r]);
        assert_int_equal(ws2_image_read(&mask, path, 0, &error), 0);
        assert_true(mask.width == 32 && mask.height == 24 && mask.channels == 1);
        for (int p = 0; p < 32 * 24; p++)
            assert_true(mask.data[p] == 0 || mask.data[p] == 255);
        ws2_image_free(&mask);
    }
}

static void a_second_run_does_what_is_missing(void **state)
{
    (void)state;
    struct ws2_synth_dataset set = small_set();
    struct ws2_error error = {0};
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), 8);
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), 0);
    /* An interrupted clip: no final name, rubbish under the other. */
    assert_int_equal(
        system("cd d/test_set/images/after && cp -r video_000 ../kept && mv video_000 .video_000.tmp && "
               "echo rubbish >.video_000.tmp/frame_0000.jpg && touch .video_000.tmp/frame_0099.jpg"),
        0);
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), 1);
    assert_int_equal(system("cd d/test_set/images && diff -r kept after/video_000 && rm -r kept"), 0);
    assert_false(is_there("d/test_set/images/after/.video_000.tmp"));
    /* Lost masks come back too. */
    assert_int_equal(system("cp -r d/test_set/masks kept && rm -r d/test_set/masks/before"), 0);
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), 1);
    assert_int_equal(system("diff -r kept d/test_set/masks"), 0);
    /* More clips are added, with any number of threads, as if made at once. */
    set.clips[0] = 3;
    set.threads = 1;
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), 2);
    assert_int_equal(ws2_synth_write_dataset(&set, "e", &error), 10);
    assert_int_equal(system("diff -r d e"), 0);
    /* Another set does not mix with it. */
    set.config.seed = 8;
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), WS2_ERR_USAGE);
    assert_non_null(strstr(error.text, "seed=7"));
    assert_int_equal(system("diff -r d e"), 0);
}

static void hostile_data_sets_are_refused(void **state)
{
    (void)state;
    struct ws2_synth_dataset set = small_set();
    struct ws2_error error = {0};
    write_text("file", "");
    assert_int_equal(ws2_synth_write_dataset(&set, "file/x", &error), WS2_ERR_SYSTEM);
    assert_non_null(strstr(error.text, "file"));
    set.frames = 0;
    assert_int_equal(ws2_synth_write_dataset(&set, "x", NULL), WS2_ERR_USAGE);
    set = small_set();
    set.clips[1] = -1;
    assert_int_equal(ws2_synth_write_dataset(&set, "x", NULL), WS2_ERR_USAGE);
    set = small_set();
    set.quality = 0;
    assert_int_equal(ws2_synth_write_dataset(&set, "x", NULL), WS2_ERR_USAGE);
    set = small_set();
    set.config.width = 0;
    assert_int_equal(ws2_synth_write_dataset(&set, "x", NULL), WS2_ERR_USAGE);
    char longest[5000];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    set = small_set();
    assert_int_equal(ws2_synth_write_dataset(&set, longest, NULL), WS2_ERR_USAGE);
    assert_false(is_there("x"));
    set.clips[0] = set.clips[1] = set.clips[2] = 0;
    assert_int_equal(ws2_synth_write_dataset(&set, "none", NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_values_out_of_range),
        cmocka_unit_test(refuses_frames_out_of_range),
        cmocka_unit_test(reads_sizes_and_densities),
        cmocka_unit_test(truth_is_the_owner),
        cmocka_unit_test(parts_come_out_as_the_whole),
        cmocka_unit_test(tensors_are_the_frame),
        cmocka_unit_test(an_empty_belt_has_no_truth),
        cmocka_unit_test(any_small_size_works),
        cmocka_unit_test(threads_and_reruns_change_nothing),
        cmocka_unit_test(another_seed_is_another_belt),
        cmocka_unit_test(another_size_is_the_same_scene),
        cmocka_unit_test(belt_flow_is_the_belt_motion),
        cmocka_unit_test(flow_lands_on_the_same_item),
        cmocka_unit_test(backward_flow_undoes_forward_flow),
        cmocka_unit_test(warped_pictures_agree),
        cmocka_unit_test(a_belt_that_stands_shows_the_same),
        cmocka_unit_test(rolling_items_leave_the_belt_motion),
        cmocka_unit_test(print_rolls_with_the_wall),
        cmocka_unit_test(the_sorter_takes_unwanted_items_off),
        cmocka_unit_test(density_is_what_was_asked_for),
        cmocka_unit_test(ids_are_unique_within_their_period),
        cmocka_unit_test(cameras_differ_as_told),
        cmocka_unit_test(exposure_drifts_slowly),
        cmocka_unit_test(noise_has_the_promised_size),
        cmocka_unit_test(brightness_alone_does_not_tell_the_classes),
        cmocka_unit_test_setup_teardown(cutouts_are_pasted, enter_scratch, leave_scratch),
        cmocka_unit_test_setup_teardown(bad_cutouts_are_refused, enter_scratch, leave_scratch),
        cmocka_unit_test_setup_teardown(data_sets_have_the_published_layout, enter_scratch, leave_scratch),
        cmocka_unit_test_setup_teardown(a_second_run_does_what_is_missing, enter_scratch, leave_scratch),
        cmocka_unit_test_setup_teardown(hostile_data_sets_are_refused, enter_scratch, leave_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
