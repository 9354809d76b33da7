/* Clips and the loader: what is held back, which samples an epoch has in which order, and what is refused. */
#include <stdlib.h>

#include "epoch_help.h"

static void clips_and_split(void **state)
{
    (void)state;
    struct ws2_clips *clips = belt();
    struct ws2_error error = {0};
    assert_int_equal(ws2_clips_count(clips), 7);
    assert_int_equal(ws2_clips_frames(clips, WS2_ROLE_BEFORE), 18);
    assert_int_equal(ws2_clips_frames(clips, WS2_ROLE_AFTER), 13);
    assert_int_equal(ws2_clips_at(clips, 3)->sequence, 0); /* b0 again */
    assert_int_equal(ws2_clips_at(clips, 2)->sequence, 2);
    int takes[3] = {0};
    for (int seed = 0; seed < 40; seed++) {
        bool held[7] = {false}, again[7] = {false};
        assert_int_equal(ws2_clips_split(clips, 0.2, seed, held, &error), 0);
        assert_int_equal(ws2_clips_split(clips, 0.2, seed, again, &error), 0);
        assert_memory_equal(held, again, sizeof held);
        assert_int_equal(held[0], held[3]);
        assert_int_equal(held[0] + held[1] + held[2], 1);
        assert_int_equal(held[4] + held[5] + held[6], 1);
        for (int i = 0; i < 3; i++)
            takes[i] += held[i];
    }
    assert_true(takes[0] > 0 && takes[1] > 0 && takes[2] > 0);
    ws2_clips_close(clips);
    static const char *const one[] = {"b.ws2", "a0.ws2"};
    clips = open_clips(one, 2);
    bool held[5];
    assert_int_equal(ws2_clips_split(clips, 0.2, 0, held, &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "after"));
    ws2_clips_close(clips);
}

static void clips_refused(void **state)
{
    (void)state;
    struct clip_options bad[] = {clip("r.ws2", "r", WS2_ROLE_NONE, 1),
                                 clip("s.ws2", "s", WS2_ROLE_BEFORE, 1)};
    bad[1].no_rgb = true;
    for (int i = 0; i < 2; i++) {
        const char *path = in_folder(bad[i].file), *list[] = {path};
        struct ws2_clips *clips;
        struct ws2_error error = {0};
        write_clips(&bad[i], 1);
        assert_int_equal(ws2_clips_open(&clips, list, 1, &error), WS2_ERR_INPUT);
        assert_null(clips);
        assert_non_null(strstr(error.text, path));
        assert_non_null(strstr(error.text, i == 0 ? "role" : "rgb"));
    }
    const char *missing[] = {"/nonexistent.ws2"};
    struct ws2_clips *clips;
    struct ws2_error error = {0};
    assert_true(ws2_clips_open(&clips, missing, 1, &error) < 0);
    assert_non_null(strstr(error.text, "nonexistent"));
}

static void loader_plain(void **state)
{
    (void)state;
    static struct epoch_copy copy;
    struct ws2_clips *clips = belt();
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    struct ws2_loader_options o = loader_options(3, false);
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    /* before 18, after 13; bg from sequences b0 (5 + 3), b2 (4), x0 (7), x2 (1) */
    assert_int_equal(ws2_loader_class_samples(loader, WS2_CLASS_AFTER), 13);
    assert_int_equal(ws2_loader_class_samples(loader, WS2_CLASS_BEFORE), 18);
    assert_int_equal(ws2_loader_class_samples(loader, WS2_CLASS_BG), 20);
    assert_int_equal(ws2_loader_steps(loader), 13);
    run_epoch(loader, 0, &copy);
    assert_int_equal(copy.count, 51);
    assert_int_equal(copy.batches, 13);
    for (int i = 0; i < copy.count; i++) {
        int black = 0, red = 0, blue = 0, grey = 0;
        for (int p = 0; p < SIDE * SIDE; p++) {
            const uint8_t *c = copy.rgb[i] + 3 * p;
            black += c[0] == 0 && c[1] == 0 && c[2] == 0;
            red += c[0] >= 200;
            blue += c[2] >= 200;
            grey += c[0] >= 90 && c[0] < 110 && c[2] >= 90 && c[2] < 110;
        }
        const int64_t label = copy.label[i];
        assert_int_equal(red, label == WS2_CLASS_BEFORE ? 25 : 0);
        assert_int_equal(blue, label == WS2_CLASS_AFTER ? 25 : 0);
        assert_int_equal(black, label == WS2_CLASS_BG ? 49 : SIDE * SIDE - 25); /* 5 x 5 grown by 1 */
        assert_int_equal(grey, label == WS2_CLASS_BG ? SIDE * SIDE - 49 : 0);
    }
    ws2_loader_close(loader);
    o.bg_source = WS2_BG_FRAMES; /* every second frame: 3+3+2+2, 4+3+1 */
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    assert_int_equal(ws2_loader_class_samples(loader, WS2_CLASS_BG), 18);
    ws2_loader_close(loader);
    o = loader_options(2, false);
    o.background = WS2_BACKGROUND_KEEP;
    o.fill = WS2_FILL_MEAN;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &copy);
    assert_int_equal(copy.count, 31);
    assert_true(copy.rgb[0][0] >= 90);
    ws2_loader_close(loader);
    o.background = WS2_BACKGROUND_REMOVE;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &copy);
    assert_int_equal(copy.rgb[0][0], 124);
    assert_int_equal(copy.rgb[0][1], 116);
    assert_int_equal(copy.rgb[0][2], 104);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

/* Items of each class stand on belts of both cameras; validation draws the same belts each time, training others. */
static void loader_other_belts(void **state)
{
    (void)state;
    static struct epoch_copy first, second;
    static const char *const names[] = {"dark.ws2", "light.ws2"};
    struct clip_options dark = clip("dark.ws2", "d", WS2_ROLE_BEFORE, 12),
                        light = clip("light.ws2", "l", WS2_ROLE_AFTER, 12);
    light.lighter = 60;
    write_clips(&dark, 1);
    write_clips(&light, 1);
    struct ws2_clips *clips = open_clips(names, 2);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    struct ws2_loader_options o = loader_options(3, false);
    o.fill = WS2_FILL_BELT;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &first);
    run_epoch(loader, 1, &second);
    assert_int_equal(first.count, 12 + 12 + 24);
    assert_memory_equal(&first, &second, sizeof first); /* validation is the same each time */
    int seen[3][2] = {{0}}; /* by class: on the belt of the dark, the light camera */
    for (int i = 0; i < first.count; i++) {
        int on[2] = {0}, item = 0;
        for (int p = 0; p < SIDE * SIDE; p++) {
            const uint8_t *c = first.rgb[i] + 3 * p;
            on[0] += c[0] >= 90 && c[0] < 106 && c[2] >= 90 && c[2] < 106;
            on[1] += c[0] >= 150 && c[0] < 166 && c[2] >= 150 && c[2] < 166;
            item += c[0] >= 200 || c[2] >= 200;
        }
        const bool bg = first.label[i] == WS2_CLASS_BG;
        assert_int_equal(item, bg ? 0 : 25);
        assert_int_equal(on[0] + on[1] + item, SIDE * SIDE);
        if (!bg)
            assert_true(on[0] == 0 || on[1] == 0);
        seen[first.label[i]][on[1] > on[0]]++;
    }
    for (int c = 0; c < 3; c++)
        assert_true(seen[c][0] > 0 && seen[c][1] > 0);
    ws2_loader_close(loader);
    o.training = true;
    o.jitter = o.hue = 0;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &first);
    run_epoch(loader, 0, &second);
    assert_memory_equal(&first, &second, sizeof first);
    run_epoch(loader, 1, &second);
    assert_memory_not_equal(&first, &second, sizeof first);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

static void loader_training(void **state)
{
    (void)state;
    static struct epoch_copy first, again, other;
    struct ws2_clips *clips = belt();
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    struct ws2_loader_options o = loader_options(3, true);
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    assert_int_equal(ws2_loader_steps(loader), 12); /* of 51, the last 3 dropped */
    run_epoch(loader, 5, &first);
    assert_int_equal(first.count, 48);
    struct ws2_batch batch;
    assert_int_equal(ws2_loader_start(loader, 1, &error), 0); /* left after one batch */
    assert_int_equal(ws2_loader_next(loader, &batch, &error), 1);
    run_epoch(loader, 5, &again);
    assert_memory_equal(&first, &again, sizeof first);
    run_epoch(loader, 6, &other);
    assert_memory_not_equal(first.label, other.label, sizeof first.label);
    ws2_loader_close(loader);
    o.threads = 3;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 5, &again);
    assert_memory_equal(&first, &again, sizeof first);
    ws2_loader_close(loader);
    o.seed = 4;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 5, &again);
    assert_memory_not_equal(&first, &again, sizeof first);
    ws2_loader_close(loader);
    o.balance = true;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &again);
    int64_t seen[3] = {0};
    for (int i = 0; i < again.count; i++)
        seen[again.label[i]]++;
    for (int c = 0; c < 3; c++)
        assert_in_range(seen[c], 14, 17); /* 17 of each, of which 3 in all are dropped */
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

static void loader_refusals(void **state)
{
    (void)state;
    static const char *const only_before[] = {"b.ws2"}, *const only_after[] = {"a0.ws2", "a1.ws2"};
    static const char *const bare[] = {"n.ws2", "a0.ws2"}, *const odd[] = {"w.ws2", "a0.ws2"};
    struct clip_options n = clip("n.ws2", "n", WS2_ROLE_BEFORE, 4),
                        w = clip("w.ws2", "w", WS2_ROLE_BEFORE, 4);
    n.no_fg = true;
    w.wrong_fg = true;
    write_clips(&n, 1);
    write_clips(&w, 1);
    struct ws2_loader_options o = loader_options(3, true);
    expect_refusal(only_before, 1, &o, WS2_ERR_INPUT, "no after frames among the training files");
    expect_refusal(only_after, 2, &o, WS2_ERR_INPUT, "no before frames");
    expect_refusal(bare, 2, &o, WS2_ERR_INPUT, "n.ws2: n: no tensor fg");
    expect_refusal(odd, 2, &o, WS2_ERR_INPUT, "w.ws2: w: frame");
    o.batch = 1000;
    expect_refusal(only_before, 1, &o, WS2_ERR_INPUT, "no after");
    const char *const both[] = {"b.ws2", "a0.ws2"};
    expect_refusal(both, 2, &o, WS2_ERR_INPUT, "do not fill one batch");
    o = loader_options(3, true);
    o.background = WS2_BACKGROUND_KEEP;
    expect_refusal(both, 2, &o, WS2_ERR_USAGE, "background");
    o = loader_options(4, true);
    expect_refusal(both, 2, &o, WS2_ERR_USAGE, "classes");
}

/* Frames of different sizes in one training set become the network's size. */
static void loader_sizes(void **state)
{
    (void)state;
    static const char *const mixed[] = {"m.ws2", "a0.ws2"};
    static struct epoch_copy copy;
    struct clip_options m = clip("m.ws2", "m", WS2_ROLE_BEFORE, 3);
    m.width = 24;
    m.height = 32;
    write_clips(&m, 1);
    struct ws2_clips *clips = open_clips(mixed, 2);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    struct ws2_loader_options o = loader_options(2, false);
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    run_epoch(loader, 0, &copy);
    assert_int_equal(copy.count, 10);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

/* ---- seeds ------------------------------------------------------------------------------------------------ */

/* Another grid than the maps', by nearest neighbour: finer, as fine, coarser. */
static void loader_seeds_grid(void **state)
{
    (void)state;
    static struct epoch_copy copy;
    static const char *const names[] = {"s.ws2"};
    struct clip_options s = clip("s.ws2", "s", WS2_ROLE_BEFORE, 3);
    s.seeds = SEEDS_COARSE;
    s.no_fg = true;
    write_clips(&s, 1);
    for (int cells = 1; cells <= SIDE; cells++) {
        const struct ws2_loader_options o = seeds_options(false, cells);
        one_epoch(names, 1, &o, &copy);
        assert_int_equal(copy.count, 3);
        for (int i = 0; i < 3 * cells * cells; i++) {
            const int at = i % (cells * cells), y = at / cells, x = at % cells;
            const int number = (2 * y + 1) * 3 / (2 * cells) * 5 + (2 * x + 1) * 5 / (2 * cells);
            assert_int_equal(copy.seeds[i / (cells * cells)][at], number == 14 ? 255 : number);
        }
    }
}

/* One camera alone will do. What is 1 shows the item, in the mirrored pictures too. */
static void loader_seeds_mirror(void **state)
{
    (void)state;
    static struct epoch_copy copy;
    static const char *const names[] = {"m.ws2"};
    struct clip_options m = clip("m.ws2", "m", WS2_ROLE_AFTER, 40);
    m.seeds = SEEDS_ITEM;
    write_clips(&m, 1);
    const struct ws2_loader_options o = seeds_options(true, SIDE);
    one_epoch(names, 1, &o, &copy);
    assert_int_equal(copy.count, 40);
    int places = 0;
    for (int i = 0; i < copy.count; i++) {
        int first = -1;
        for (int p = 0; p < SIDE * SIDE; p++) {
            assert_int_equal(copy.seeds[i][p], copy.rgb[i][3 * p + 2] >= 200);
            first = first < 0 && copy.seeds[i][p] ? p : first;
        }
        places |=
            1 << (2 * (first / SIDE > 5) + (first % SIDE > 6)); /* further down, to the right than filmed */
    }
    assert_int_equal(places, 15);
}

static void loader_seeds_refusals(void **state)
{
    (void)state;
    static const struct {
        enum seeds_kind seeds;
        const char *reason;
    } odd[] = {{SEEDS_NONE, "n.ws2: n: no tensor seeds of type u8: run ws2-seeds first"},
               {SEEDS_FLOAT, "n.ws2: n: no tensor seeds of type u8"},
               {SEEDS_ABSENT, "n.ws2: n: frame 0: no tensor 'seeds'"},
               {SEEDS_EMPTY, "n.ws2: n: frame 0: seeds have 0x0 cells"}};
    static const char *const names[] = {"n.ws2"};
    struct clip_options n = clip("n.ws2", "n", WS2_ROLE_BEFORE, 1);
    struct ws2_loader_options o = seeds_options(false, 4);
    for (int i = 0; i < 4; i++) {
        n.seeds = odd[i].seeds;
        write_clips(&n, 1);
        expect_refusal(names, 1, &o, WS2_ERR_INPUT, odd[i].reason);
    }
    n.seeds = SEEDS_ITEM;
    write_clips(&n, 1);
    o.balance = true; /* of what is not there there cannot be as much */
    expect_refusal(names, 1, &o, WS2_ERR_INPUT, "no after frames");
    o.balance = false;
    o.background = WS2_BACKGROUND_REMOVE;
    o.fill = WS2_FILL_BELT; /* of either camera */
    expect_refusal(names, 1, &o, WS2_ERR_INPUT, "no after frames");
    o = seeds_options(false, SIDE + 1);
    expect_refusal(names, 1, &o, WS2_ERR_USAGE, "cells");
    o = seeds_options(false, 4);
    o.triplets = true;
    expect_refusal(names, 1, &o, WS2_ERR_USAGE, "triplets");
}

/* ---- margins ---------------------------------------------------------------------------------------------- */

static void grow(void **state)
{
    (void)state;
    enum { W = 23, H = 17 };
    uint32_t noise = 9;
    for (int margin = 0; margin < 6; margin++) {
        uint8_t mask[W * H], want[W * H] = {0}, scratch[W * H];
        for (int i = 0; i < W * H; i++)
            mask[i] = generator_next(&noise) >> 24 < 6;
        for (int y = 0; y < H; y++) {
            for (int x = 0; x < W; x++) {
                for (int v = y - margin; v <= y + margin; v++) {
                    for (int u = x - margin; u <= x + margin; u++)
                        want[y * W + x] |= v >= 0 && v < H && u >= 0 && u < W && mask[v * W + u];
                }
            }
        }
        ws2_mask_grow(mask, scratch, W, H, margin);
        assert_memory_equal(mask, want, sizeof want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clips_and_split),
        cmocka_unit_test(clips_refused),
        cmocka_unit_test(loader_plain),
        cmocka_unit_test(loader_other_belts),
        cmocka_unit_test(loader_training),
        cmocka_unit_test(loader_refusals),
        cmocka_unit_test(loader_sizes),
        cmocka_unit_test(loader_seeds_grid),
        cmocka_unit_test(loader_seeds_mirror),
        cmocka_unit_test(loader_seeds_refusals),
        cmocka_unit_test(grow),
    };
    return cmocka_run_group_tests(tests, make_belt, remove_folder);
}
