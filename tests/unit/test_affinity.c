/* Affinities that are to agree with labels: losses and gradients against sums over all pairs of pixels in double, ties, and
 * what must be refused. Seeds by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "mask/mask.h"

/* ---- by the words ----------------------------------------------------------------------------------------------- */

/* A batch, in double: features [n,channels,h,w], or edges [n,h,w] where there are no channels. */
struct scene {
    int n, channels, h, w, radius;
    double *value;
    uint8_t *label;
};

static double *picture(const struct scene *s, int k)
{
    return s->value + (size_t)k * (size_t)((s->channels ? s->channels : 1) * s->h * s->w);
}

static int count_values(const struct scene *s)
{
    return s->n * (s->channels ? s->channels : 1) * s->h * s->w;
}

/* The highest edge of all pixels of the rectangle from i to j that are less than 1 from the straight line. */
static double highest(const struct scene *s, const double *edge, int i, int j)
{
    const int y = j / s->w - i / s->w, x = j % s->w - i % s->w;
    double most = 0;
    for (int v = 0; v <= y; v++)
        for (int u = x < 0 ? x : 0; u <= (x > 0 ? x : 0); u++)
            if (abs(y * u - x * v) / sqrt(y * y + x * x) < 1)
                most = fmax(most, edge[i + v * s->w + u]);
    return most;
}

static double affinity(const struct scene *s, int k, int i, int j)
{
    const double *value = picture(s, k);
    double sum = 0;
    if (s->channels == 0)
        return 1 - highest(s, value, i, j);
    for (int c = 0; c < s->channels; c++)
        sum += fabs(value[c * s->h * s->w + i] - value[c * s->h * s->w + j]);
    return exp(-sum / s->channels);
}

/* Is (i, j) a pair, seen from i? */
static bool is_pair(const struct scene *s, int i, int j)
{
    const int y = j / s->w - i / s->w, x = j % s->w - i % s->w, from = i % s->w;
    return i / s->w <= s->h - s->radius && from >= s->radius - 1 && from <= s->w - s->radius &&
           (y > 0 || (y == 0 && x > 0)) && y * y + x * x < s->radius * s->radius;
}

static void add_pair(const struct scene *s, int k, int i, int j, struct ws2_affinity_loss *loss)
{
    const uint8_t a = s->label[k * s->h * s->w + i], b = s->label[k * s->h * s->w + j];
    if (a == 255 || b == 255)
        return;
    const int kind = a != b ? WS2_PAIR_OTHER : a ? WS2_PAIR_THING : WS2_PAIR_BELT;
    const double w = affinity(s, k, i, j);
    loss->mean[kind] -= log(kind == WS2_PAIR_OTHER ? 1 + 1e-5 - w : w + 1e-5);
    loss->pairs[kind]++;
}

static struct ws2_affinity_loss write_out(const struct scene *s)
{
    struct ws2_affinity_loss loss = {0};
    for (int k = 0; k < s->n; k++)
        for (int i = 0; i < s->h * s->w; i++)
            for (int j = i; j < s->h * s->w; j++)
                if (is_pair(s, i, j))
                    add_pair(s, k, i, j, &loss);
    for (int p = 0; p < WS2_PAIR_KINDS; p++)
        loss.mean[p] /= (double)loss.pairs[p] + 1e-5;
    loss.total =
        0.25 * loss.mean[WS2_PAIR_BELT] + 0.25 * loss.mean[WS2_PAIR_THING] + 0.5 * loss.mean[WS2_PAIR_OTHER];
    return loss;
}

/* ---- random cases ------------------------------------------------------------------------------------------------ */

enum labels { MIXED, UNKNOWN, ONE_THING, BELT, LABELS };

static struct scene make_scene(struct ws2_random *random, int n, int channels, int h, int w, int radius,
                               enum labels labels)
{
    static const uint8_t known[] = {0, 0, 1, 2, 254, 255};
    struct scene s = {n, channels, h, w, radius, NULL, NULL};
    const int count = count_values(&s);
    s.value = malloc((size_t)count * sizeof *s.value);
    s.label = malloc((size_t)(n * h * w));
    for (int i = 0; i < count; i++)
        s.value[i] = (double)(float)(channels ? 2 * ws2_random_normal(random) : ws2_random_uniform(random));
    for (int i = 0; i < n * h * w; i++)
        s.label[i] = labels == MIXED       ? known[ws2_random_below(random, 6)]
                     : labels == UNKNOWN   ? 255
                     : labels == ONE_THING ? 3
                                           : 0;
    return s;
}

static void free_scene(struct scene *s)
{
    free(s->value);
    free(s->label);
}

static int run(const struct scene *s, struct ws2_affinity_loss *loss, float *gradient)
{
    const int count = count_values(s);
    float *value = malloc((size_t)count * sizeof *value);
    for (int i = 0; i < count; i++)
        value[i] = (float)s->value[i];
    const int status =
        s->channels ? ws2_affinity_features(value, s->label, s->n, s->channels, s->h, s->w, s->radius, loss,
                                            gradient, NULL)
                    : ws2_affinity_edges(value, s->label, s->n, s->h, s->w, s->radius, loss, gradient, NULL);
    free(value);
    return status;
}

static void assert_close(double have, double want, double tolerance)
{
    if (!(fabs(have - want) <= tolerance))
        fail_msg("%.9g is not %.9g within %g", have, want, tolerance);
}

/* Central differences at 12 places, the largest gradient among them. It is a sum in float, for edges of up to a thousand
 * equal numbers. */
static void check_gradient(struct ws2_random *random, struct scene *s, const float *gradient)
{
    const double step = 1e-8;
    int most = 0;
    for (int i = 1; i < count_values(s); i++)
        if (fabsf(gradient[i]) > fabsf(gradient[most]))
            most = i;
    const double largest = fabs((double)gradient[most]);
    for (int t = 0; t < 12; t++) {
        const int i = t == 0 ? most : (int)ws2_random_below(random, count_values(s));
        const double kept = s->value[i];
        s->value[i] = kept + step;
        const double up = write_out(s).total;
        s->value[i] = kept - step;
        const double down = write_out(s).total;
        s->value[i] = kept;
        assert_close((double)gradient[i], (up - down) / (2 * step), 3e-5 * largest + 1e-6);
    }
}

static void check_scene(struct ws2_random *random, struct scene *s)
{
    struct ws2_affinity_loss have, again, want = write_out(s);
    float *gradient = malloc((size_t)count_values(s) * sizeof *gradient);
    memset(gradient, 0x7f, (size_t)count_values(s) * sizeof *gradient);
    assert_int_equal(run(s, &have, gradient), 0);
    for (int p = 0; p < WS2_PAIR_KINDS; p++) {
        assert_int_equal(have.pairs[p], want.pairs[p]);
        assert_close(have.mean[p], want.mean[p], 1e-6 * want.mean[p]);
    }
    assert_close(have.total, want.total, 1e-6 * want.total);
    check_gradient(random, s, gradient);
    assert_int_equal(run(s, &again, NULL), 0); /* without a gradient the same */
    assert_memory_equal(&again, &have, sizeof have);
    free(gradient);
}

/* Maps with no place for a pair, with one, and with many; h, w, radius. */
static const int sizes[][3] = {{1, 1, 2},   {2, 3, 2},    {1, 9, 2},  {9, 2, 2},   {5, 8, 5},
                               {4, 20, 5},  {5, 9, 5},    {9, 12, 5}, {12, 10, 3}, {10, 19, 10},
                               {9, 30, 10}, {13, 24, 10}, {7, 40, 4}, {20, 9, 5},  {17, 33, 16}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void test_sums_over_all_pairs(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(31, 0);
    for (int i = 0; i < 2 * SIZES; i++)
        for (int labels = 0; labels < LABELS; labels++) {
            const int *size = sizes[i / 2], channels = i % 2 ? 1 + i % 5 : 0;
            struct scene s =
                make_scene(&random, 1 + i % 3, channels, size[0], size[1], size[2], (enum labels)labels);
            check_scene(&random, &s);
            free_scene(&s);
        }
}

/* Without a pair of known pixels, losses and gradients are zeros. */
static void test_nothing_known(void **state)
{
    (void)state;
    static const struct {
        int h, w, radius;
        enum labels labels;
    } as[] = {{4, 20, 5, MIXED}, {20, 8, 5, BELT}, {0, 20, 5, MIXED}, {20, 0, 5, MIXED}, {9, 30, 5, UNKNOWN}};
    const struct ws2_affinity_loss none = {0};
    struct ws2_random random = ws2_random_make(32, 0);
    for (size_t i = 0; i < 2 * sizeof as / sizeof *as; i++) {
        struct scene s = make_scene(&random, 2, i % 2 ? 3 : 0, as[i / 2].h, as[i / 2].w, as[i / 2].radius,
                                    as[i / 2].labels);
        float *gradient = malloc((size_t)count_values(&s) * sizeof *gradient + 1);
        struct ws2_affinity_loss loss;
        memset(&loss, 0x55, sizeof loss);
        memset(gradient, 0x55, (size_t)count_values(&s) * sizeof *gradient);
        assert_int_equal(run(&s, &loss, gradient), 0);
        assert_true(loss.total == 0);
        for (int p = 0; p < WS2_PAIR_KINDS; p++)
            assert_true(loss.mean[p] == none.mean[p] && loss.pairs[p] == 0);
        for (int k = 0; k < count_values(&s); k++)
            assert_true(gradient[k] == 0);
        free(gradient);
        free_scene(&s);
    }
}

/* One class: one kind of pair only, with its share of the total. */
static void test_one_kind(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(33, 0);
    for (int i = 0; i < 4; i++) {
        const int kind = i / 2 ? WS2_PAIR_THING : WS2_PAIR_BELT;
        struct scene s = make_scene(&random, 1, i % 2 ? 2 : 0, 9, 11, 5, kind ? ONE_THING : BELT);
        struct ws2_affinity_loss loss;
        assert_int_equal(run(&s, &loss, NULL), 0);
        for (int p = 0; p < WS2_PAIR_KINDS; p++)
            assert_int_equal(loss.pairs[p], p == kind ? 34 * 5 * 3 : 0);
        assert_true(loss.total == 0.25 * loss.mean[kind] && loss.total > 0.01);
        free_scene(&s);
    }
}

/* ---- edges by hand ------------------------------------------------------------------------------------------------ */

/* Every edge alike: each neighbour of the only pixel that starts pairs takes its own pair's gradient. */
static void test_ties_go_far(void **state)
{
    (void)state;
    const uint8_t label[6] = {0};
    const float edge[6] = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
    float gradient[6];
    struct ws2_affinity_loss loss;
    assert_int_equal(ws2_affinity_edges(edge, label, 1, 2, 3, 2, &loss, gradient, NULL), 0);
    assert_int_equal(loss.pairs[WS2_PAIR_BELT], 4);
    for (int i = 0; i < 6; i++)
        assert_close((double)gradient[i], i < 2 ? 0 : 0.25 / 4.00001 / 0.50001, 1e-7);
}

/* A row of which only the ends, pixels 4 and 8, are known. */
static void check_row(const float edge[5], int highest)
{
    uint8_t label[5 * 9];
    float all[5 * 9] = {0}, gradient[5 * 9];
    struct ws2_affinity_loss loss;
    memset(label, 255, sizeof label);
    label[4] = 1;
    label[8] = 2;
    memcpy(all + 4, edge, 5 * sizeof *edge);
    all[9 + 6] = 1; /* beside the way */
    assert_int_equal(ws2_affinity_edges(all, label, 1, 5, 9, 5, &loss, gradient, NULL), 0);
    const double e = (double)edge[highest];
    assert_int_equal(loss.pairs[WS2_PAIR_OTHER], 1);
    assert_close(loss.total, -0.5 * log(1e-5 + e) / 1.00001, 1e-6);
    for (int i = 0; i < 5 * 9; i++)
        assert_close((double)gradient[i], i == 4 + highest ? -0.5 / (1e-5 + e) / 1.00001 : 0,
                     1e-5 * (1 + 1 / e));
}

static void test_the_way(void **state)
{
    (void)state;
    check_row((float[]){0.1f, 0.7f, 0.3f, 0.7f, 0.2f}, 3);
    check_row((float[]){0.7f, 0.7f, 0.3f, 0.6f, 0.2f}, 1);
    check_row((float[]){0.7f, 0.6f, 0.3f, 0.6f, 0.2f}, 0);
    check_row((float[]){0.7f, 0.7f, 0.7f, 0.6f, 0.7f}, 4);
}

/* ---- what is refused ----------------------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1.001f, -0.001f};
    static const int radius[] = {-1, 0, 1, WS2_WALK_RADIUS_MAX + 1};
    uint8_t label[6] = {255, 255, 255, 255, 255, 255}; /* refused where nothing is known, too */
    float value[6] = {0, 1, 0.5f, 0, 1, 0.5f}, gradient[6];
    struct ws2_affinity_loss loss;
    for (int i = 0; i < 5; i++) {
        value[i] = bad[i];
        assert_int_equal(ws2_affinity_edges(value, label, 1, 2, 3, 2, &loss, gradient, NULL), WS2_ERR_INPUT);
        assert_int_equal(ws2_affinity_features(value, label, 1, 1, 2, 3, 2, &loss, gradient, NULL),
                         i < 3 ? WS2_ERR_INPUT : 0);
        value[i] = 0;
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ws2_affinity_edges(value, label, 1, 2, 3, radius[i], &loss, gradient, NULL),
                         WS2_ERR_USAGE);
        assert_int_equal(ws2_affinity_features(value, label, 1, 1, 2, 3, radius[i], &loss, gradient, NULL),
                         WS2_ERR_USAGE);
    }
    assert_int_equal(ws2_affinity_edges(value, label, 1, 2, 3, WS2_WALK_RADIUS_MAX, &loss, gradient, NULL),
                     0);
}

/* Affinities of 0 and of 1 where they should be the other: large, but finite. */
static void test_extremes(void **state)
{
    (void)state;
    const uint8_t label[6] = {0, 0, 1, 0, 0, 1};
    const float far[6] = {1e30f, -1e30f, -1e30f, 1e30f, 1e30f, 3e38f}, near[6] = {0},
                high[6] = {1, 1, 1, 1, 1, 1};
    float gradient[6];
    for (int i = 0; i < 4; i++) {
        struct ws2_affinity_loss loss;
        const int status =
            i < 2 ? ws2_affinity_features(i ? near : far, label, 1, 1, 2, 3, 2, &loss, gradient, NULL)
                  : ws2_affinity_edges(i == 2 ? near : high, label, 1, 2, 3, 2, &loss, gradient, NULL);
        assert_int_equal(status, 0);
        assert_true(loss.total > 2 && loss.total < 12);
        for (int k = 0; k < 6; k++)
            assert_true(isfinite(gradient[k]));
    }
}

/* ---- seeds ----------------------------------------------------------------------------------------------------------- */

enum { U = WS2_SEED_UNKNOWN };

/* Of one or more classes; without a picture all its pixels are alike. */
static void check_seeds(const struct ws2_seed_options *options, const uint8_t *rgb, const float *map,
                        int classes, int h, int w, const uint8_t *want)
{
    struct ws2_seeder seeder = {0};
    uint8_t flat[3 * 64] = {0}, seed[64];
    const int cells = (h + options->grid - 1) / options->grid * ((w + options->grid - 1) / options->grid);
    assert_int_equal(ws2_seeds_make(&seeder, options, rgb ? rgb : flat, map, classes, h, w, seed, NULL), 0);
    for (int i = 0; i < cells; i++)
        if (seed[i] != want[i])
            fail_msg("rule %d, cell %d: %d is not %d", (int)options->rule, i, seed[i], want[i]);
    ws2_seeder_free(&seeder);
}

/* The pixels at the middle of cells of 3, cut off at rows 4 and columns 6. */
static void test_smoke_by_hand(void **state)
{
    (void)state;
    const struct ws2_seed_options options = {.rule = WS2_SEEDS_SMOKE, .low = 0.1, .high = 0.7, .grid = 3};
    float map[2][5 * 7];
    for (int i = 0; i < 5 * 7; i++)
        map[0][i] = map[1][i] = i % 2 ? 0 : 1; /* what does not count */
    static const struct {
        int at;
        float value[2];
        uint8_t want;
    } middle[] = {{8, {0.2f, 0.7f}, 2},         {11, {0.69f, 0.1f}, U},    {13, {0.0999f, 0}, 0},
                  {4 * 7 + 1, {0.9f, 0.9f}, 1}, {4 * 7 + 4, {0, 0.1f}, U}, {4 * 7 + 6, {1, 0.5f}, 1}};
    uint8_t want[6];
    for (int i = 0; i < 6; i++) {
        map[0][middle[i].at] = middle[i].value[0];
        map[1][middle[i].at] = middle[i].value[1];
        want[i] = middle[i].want;
    }
    check_seeds(&options, NULL, map[0], 2, 5, 7, want);
    struct ws2_seeder seeder = {0};
    uint8_t seed[6];
    assert_int_equal(ws2_seeds_make(&seeder, &options, NULL, map[0], 2, 5, 7, seed, NULL), 0);
    assert_memory_equal(seed, want, sizeof want); /* no picture is needed */
    ws2_seeder_free(&seeder);
}

/* Without iterations the CRF changes no label. A level itself does not count; ties go to the first class. */
static void test_irn_levels(void **state)
{
    (void)state;
    const struct ws2_seed_options options = {WS2_SEEDS_IRN, 0.125, 0.5, {3, 3, 50, 5, 10, 0, false}, 1};
    const float map[2][8] = {{0.5f, 0.51f, 0.6f, 0.125f, 0.13f, 0.7f, 0, 0.2f},
                             {0.5f, 0.5f, 0.9f, 0.1f, 0, 0.7f, 0, 0.3f}};
    check_seeds(&options, NULL, map[0], 2, 2, 4, (uint8_t[]){U, 1, 2, 0, U, 1, 0, U});
    const struct ws2_seed_options coarse = {WS2_SEEDS_IRN, 0.125, 0.5, {3, 3, 50, 5, 10, 0, false}, 3};
    check_seeds(&coarse, NULL, map[0], 2, 2, 4, (uint8_t[]){1, U}); /* of columns 1 and 3 */
}

/* Two flat halves with a stray pixel in each: the CRF takes them back, in the first of its labels and in the second. */
static void test_irn_follows_colours(void **state)
{
    (void)state;
    const struct ws2_seed_options options = {WS2_SEEDS_IRN, 0.1, 0.4, {3, 3, 50, 5, 10, 10, false}, 2};
    uint8_t rgb[3 * 8 * 8], want[16];
    float map[64];
    for (int i = 0; i < 64; i++) {
        memset(rgb + 3 * i, i % 8 < 4 ? 60 : 200, 3);
        map[i] = i % 8 < 4 ? 0.02f : 0.9f;
    }
    map[8 * 3 + 1] = 0.9f;
    map[8 * 5 + 7] = 0.02f;
    for (int i = 0; i < 16; i++)
        want[i] = i % 4 < 2 ? 0 : 1;
    check_seeds(&options, rgb, map, 1, 8, 8, want);
    for (int i = 0; i < 64; i++) /* between the levels: only the second label has it */
        map[i] = i % 8 < 4 ? map[i] : 0.3f;
    for (int i = 0; i < 16; i++)
        want[i] = i % 4 < 2 ? 0 : U;
    check_seeds(&options, rgb, map, 1, 8, 8, want);
}

/* Without iterations the planes are shares of 1. Cells of 2 x 2, 2 x 1, 1 x 2 and one pixel. */
static void test_psa_sums(void **state)
{
    (void)state;
    struct ws2_seed_options options = {WS2_SEEDS_PSA, 1, 1, {3, 3, 80, 13, 10, 0, false}, 2};
    /* 1 + 3 * .45 of 4 is more than half; 2 * .5 of 2 is not; .3 + .6 of 2 is not; .6 is */
    const float map[9] = {0.45f, 0.45f, 0.5f, 0.45f, 1, 0.5f, 0.3f, 0.6f, 0.6f};
    check_seeds(&options, NULL, map, 1, 3, 3, (uint8_t[]){1, 0, 0, 1});
    /* The belt's (1 - m)^2 loses to m from 0.382 on. */
    options.high = 2;
    const float level[4] = {0.37f, 0.39f, 0.49f, 0.51f};
    options.grid = 1;
    check_seeds(&options, NULL, level, 1, 1, 4, (uint8_t[]){0, U, U, 1});
    /* Classes share what they have: .6 and .35 against .4, and ties go to the first. */
    const float two[2][3] = {{0.6f, 0.55f, 0.35f}, {0.35f, 0.55f, 0.6f}};
    check_seeds(&options, NULL, two[0], 2, 1, 3, (uint8_t[]){1, 1, 2});
}

/* In flat halves the CRF spreads what most say. */
static void test_psa_follows_colours(void **state)
{
    (void)state;
    const struct ws2_seed_options options = {WS2_SEEDS_PSA, 4, 32, {3, 3, 80, 13, 10, 10, false}, 4};
    uint8_t rgb[3 * 64];
    float map[64];
    for (int i = 0; i < 64; i++) {
        memset(rgb + 3 * i, i % 8 < 4 ? 60 : 200, 3);
        map[i] = i % 8 < 4 ? 0.001f : 0.8f;
    }
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 3; x++)
            map[8 * y + x] = 0.5f; /* most of the first cell, but not of its half */
    for (int y = 4; y < 8; y++)
        for (int x = 5; x < 8; x++)
            map[8 * y + x] = 0.05f;
    check_seeds(&options, rgb, map, 1, 8, 8, (uint8_t[]){U, 1, 0, 1});
}

static void test_seeds_of_one_pixel(void **state)
{
    (void)state;
    for (int rule = 0; rule < 3; rule++)
        for (int grid = 1; grid < 300; grid += 254) {
            struct ws2_seed_options options = {
                (enum ws2_seed_rule)rule, 0.25, 0.5, {3, 3, 50, 5, 10, 5, false}, grid};
            const float map[3] = {0, 1, 0.75f};
            if (rule == WS2_SEEDS_PSA)
                options.low = 4, options.high = 32;
            check_seeds(&options, NULL, map, 3, 1, 1, (uint8_t[]){2});
            check_seeds(&options, NULL, (float[]){0, 0}, 2, 1, 1, (uint8_t[]){0});
        }
}

static int seeds_status(const struct ws2_seed_options *options, const float *map, int classes, int h, int w)
{
    struct ws2_seeder seeder = {0};
    const uint8_t rgb[12] = {0};
    uint8_t seed[4] = {77, 77, 77, 77};
    struct ws2_error error = {0};
    const int status = ws2_seeds_make(&seeder, options, rgb, map, classes, h, w, seed, &error);
    if (status < 0 || h * w == 0)
        assert_int_equal(seed[0], 77);
    assert_int_equal(error.text[0] == 0, status == 0);
    ws2_seeder_free(&seeder);
    return status;
}

static void test_seeds_refused(void **state)
{
    (void)state;
    static const float bad[] = {-0.01f, 1.01f, NAN, INFINITY};
    static float many[4 * WS2_CRF_LABELS_MAX];
    for (int rule = 0; rule < 3; rule++) {
        const struct ws2_seed_options good = {
            (enum ws2_seed_rule)rule, 0.2, 0.5, {3, 3, 50, 5, 10, 5, false}, 2};
        struct ws2_seed_options odd[] = {good, good, good, good, good, good};
        float map[4] = {0, 1, 0.5f, 0};
        assert_int_equal(seeds_status(&good, map, 1, 2, 2), 0);
        assert_int_equal(seeds_status(&good, map, 1, 0, 2), 0);
        assert_int_equal(seeds_status(&good, map, 1, 2, 0), 0);
        for (int i = 0; i < 4; i++) {
            map[3] = bad[i];
            assert_int_equal(seeds_status(&good, map, 1, 2, 2), WS2_ERR_INPUT);
        }
        map[3] = 0;
        odd[0].low = 0.6; /* above high */
        odd[1].low = NAN;
        odd[2].high = NAN;
        odd[3].high = INFINITY;
        odd[4].low = -0.1;
        odd[5].grid = 0;
        for (int i = 0; i < 6; i++)
            assert_int_equal(seeds_status(&odd[i], map, 1, 2, 2), WS2_ERR_USAGE);
        assert_int_equal(seeds_status(&good, map, 0, 2, 2), WS2_ERR_USAGE);
        assert_int_equal(seeds_status(&good, many, WS2_CRF_LABELS_MAX, 2, 2), WS2_ERR_USAGE);
        assert_int_equal(seeds_status(&good, many, WS2_CRF_LABELS_MAX - 1, 2, 2), 0);
        odd[0] = good;
        odd[0].crf.colour = 0; /* of the CRF */
        assert_int_equal(seeds_status(&odd[0], map, 1, 2, 2), rule == WS2_SEEDS_SMOKE ? 0 : WS2_ERR_USAGE);
    }
}

/* Memory is kept from picture to picture, of any size, rule and number of classes; results are not. */
static void test_seeder_is_kept(void **state)
{
    (void)state;
    static const int shape[][4] = {{9, 7, 2, 2}, {3, 4, 1, 1}, {12, 12, 3, 4}, {1, 1, 1, 8}, {12, 5, 2, 3}};
    struct ws2_seeder seeder = {0};
    struct ws2_random random = ws2_random_make(34, 0);
    for (int t = 0; t < 30; t++) {
        const int *s = shape[t % 5], h = s[0], w = s[1], classes = s[2];
        const struct ws2_seed_options options = {
            (enum ws2_seed_rule)(t % 3), 0.2, 0.6, {3, 3, 50, 5, 10, 2, false}, s[3]};
        struct ws2_seeder fresh = {0};
        uint8_t rgb[3 * 144], have[144] = {0}, want[144] = {0};
        float map[3 * 144];
        for (int i = 0; i < 3 * h * w; i++)
            rgb[i] = (uint8_t)ws2_random_below(&random, 256);
        for (int i = 0; i < classes * h * w; i++)
            map[i] = (float)ws2_random_uniform(&random);
        assert_int_equal(ws2_seeds_make(&fresh, &options, rgb, map, classes, h, w, want, NULL), 0);
        assert_int_equal(ws2_seeds_make(&seeder, &options, rgb, map, classes, h, w, have, NULL), 0);
        assert_memory_equal(have, want, sizeof want);
        ws2_seeder_free(&fresh);
    }
    ws2_seeder_free(&seeder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums_over_all_pairs),
        cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_one_kind),
        cmocka_unit_test(test_ties_go_far),
        cmocka_unit_test(test_the_way),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_smoke_by_hand),
        cmocka_unit_test(test_irn_levels),
        cmocka_unit_test(test_irn_follows_colours),
        cmocka_unit_test(test_psa_sums),
        cmocka_unit_test(test_psa_follows_colours),
        cmocka_unit_test(test_seeds_of_one_pixel),
        cmocka_unit_test(test_seeds_refused),
        cmocka_unit_test(test_seeder_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
