/* The simulated plant: what the sorter takes off, how crowded the belt is, and how the cameras differ. */
#include <math.h>

#include "image/image.h"
#include "synth_help.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sorter_takes_unwanted_items_off),
        cmocka_unit_test(density_is_what_was_asked_for),
        cmocka_unit_test(ids_are_unique_within_their_period),
        cmocka_unit_test(cameras_differ_as_told),
        cmocka_unit_test(exposure_drifts_slowly),
        cmocka_unit_test(noise_has_the_promised_size),
        cmocka_unit_test(brightness_alone_does_not_tell_the_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
