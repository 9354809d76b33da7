/* The belt simulator's scene: settings, truth, tensors, and the same picture for everybody. */
#include <math.h>

#include "pool/pool.h"
#include "synth_help.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_values_out_of_range),       cmocka_unit_test(refuses_frames_out_of_range),
        cmocka_unit_test(reads_sizes_and_densities),         cmocka_unit_test(truth_is_the_owner),
        cmocka_unit_test(parts_come_out_as_the_whole),       cmocka_unit_test(tensors_are_the_frame),
        cmocka_unit_test(an_empty_belt_has_no_truth),        cmocka_unit_test(any_small_size_works),
        cmocka_unit_test(threads_and_reruns_change_nothing), cmocka_unit_test(another_seed_is_another_belt),
        cmocka_unit_test(another_size_is_the_same_scene),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
