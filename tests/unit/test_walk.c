/* Random walk: sparse steps and polynomials of them against powers of the dense matrix (T25), walls (T26), small and odd
 * sizes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "mask/mask.h"

/* v T^(2^squares) with T written out from the affinities W[n,n]; in double. */
static void dense(const double *affinity, int n, double beta, int squares, const float *v, double *out)
{
    double *t = malloc((size_t)n * (size_t)n * sizeof *t), *next = malloc((size_t)n * (size_t)n * sizeof *t);
    for (int j = 0; j < n; j++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += pow(affinity[i * n + j], beta);
        for (int i = 0; i < n; i++)
            t[i * n + j] = pow(affinity[i * n + j], beta) / sum;
    }
    for (; squares > 0; squares--) {
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                next[i * n + j] = 0;
                for (int k = 0; k < n; k++)
                    next[i * n + j] += t[i * n + k] * t[k * n + j];
            }
        memcpy(t, next, (size_t)n * (size_t)n * sizeof *t);
    }
    for (int j = 0; j < n; j++) {
        out[j] = 0;
        for (int i = 0; i < n; i++)
            out[j] += (double)v[i] * t[i * n + j];
    }
    free(t);
    free(next);
}

/* Affinities by the words of the publication: sources above the bottom four rows and between the four side columns. */
static void write_out(const float *feature, int channels, int h, int w, double *affinity)
{
    const int n = h * w;
    memset(affinity, 0, (size_t)n * (size_t)n * sizeof *affinity);
    for (int i = 0; i < n; i++)
        affinity[i * n + i] = 1;
    for (int y = 0; y + 4 < h; y++)
        for (int x = 4; x + 4 < w; x++)
            for (int dy = 0; dy < 5; dy++)
                for (int dx = -4; dx < 5; dx++) {
                    if (dx * dx + dy * dy >= 25 || (dy == 0 && dx <= 0))
                        continue;
                    const int i = y * w + x, j = (y + dy) * w + x + dx;
                    double sum = 0;
                    for (int c = 0; c < channels; c++)
                        sum += fabs((double)feature[c * n + i] - (double)feature[c * n + j]);
                    affinity[i * n + j] = affinity[j * n + i] = exp(-sum / channels);
                }
}

/* T25. 2 and 256 steps. 8 x 8 and 4 x 20 have no source at all, 5 x 9 has one. */
static void test_dense_powers(void **state)
{
    (void)state;
    static const int size[][2] = {{8, 8}, {9, 12}, {5, 9}, {4, 20}};
    struct ws2_random random = ws2_random_make(25, 0);
    struct ws2_walker *walk = NULL;
    for (int s = 0; s < 4; s++) {
        const int h = size[s][0], w = size[s][1], n = h * w;
        float feature[3 * 108], map[2 * 108], have[2 * 108];
        double *affinity = malloc((size_t)n * (size_t)n * sizeof *affinity), want[108];
        for (int i = 0; i < 3 * n; i++)
            feature[i] = (float)ws2_random_uniform(&random);
        for (int i = 0; i < 2 * n; i++)
            map[i] = (float)ws2_random_uniform(&random);
        write_out(feature, 3, h, w, affinity);
        for (int squares = 1; squares <= 8; squares += 7) {
            assert_int_equal(ws2_walk_features(&walk, feature, 3, h, w, 5, 8, NULL), 0);
            memcpy(have, map, sizeof have);
            ws2_walk_run(walk, 1 << squares, 2, have);
            for (int k = 0; k < 2; k++) {
                dense(affinity, n, 8, squares, map + k * n, want);
                for (int j = 0; j < n; j++)
                    assert_true(fabs((double)have[k * n + j] - want[j]) < 1e-5);
            }
        }
        free(affinity);
    }
    ws2_walk_free(walk);
}

/* Of 8 x 10 pixels those of rows 0..3 and columns 4, 5 start pairs. One of the last row meets the two that reach it, and
 * no neighbour of its own. */
static void test_borders_only_receive(void **state)
{
    (void)state;
    struct ws2_walker *walk = NULL;
    float feature[80] = {0}, map[80] = {0};
    map[7 * 10 + 5] = 1;
    assert_int_equal(ws2_walk_features(&walk, feature, 1, 8, 10, 5, 1, NULL), 0);
    ws2_walk_run(walk, 1, 1, map);
    for (int i = 0; i < 80; i++)
        assert_int_equal(map[i] != 0, i == 75 || i == 34 || i == 35);
    ws2_walk_free(walk);
}

/* Affinities of colours between all pixels less than `radius` apart, in double. */
static void colour_affinity(const uint8_t *rgb, int h, int w, int radius, double colour, double space,
                            double *affinity)
{
    for (int i = 0; i < h * w; i++)
        for (int j = 0; j < h * w; j++) {
            const int dx = i % w - j % w, dy = i / w - j / w;
            double square = 0;
            for (int c = 0; c < 3; c++)
                square += (rgb[3 * i + c] - rgb[3 * j + c]) * (rgb[3 * i + c] - rgb[3 * j + c]);
            const double near = space > 0 ? (dx * dx + dy * dy) / (2 * space * space) : 0;
            affinity[i * h * w + j] =
                dx * dx + dy * dy < radius * radius ? exp(-square / (2 * colour * colour) - near) : 0;
        }
}

/* Against dense powers: without a step of distance and with one, rows of more than one vector, more maps than walk at a
 * time, steps as they are (2, 32) and by polynomials (64, 256); and what is constant stays so. */
static void test_colours(void **state)
{
    (void)state;
    enum { MAPS = 5, MOST = 120 };
    static const struct {
        int h, w, radius;
        double colour, space;
        int squares;
    } as[] = {{9, 12, 5, 13, 0, 8},  {3, 40, 5, 30, 2, 8}, {10, 11, 3, 13, 1.5, 6}, {3, 33, 16, 20, 0, 5},
              {12, 9, 2, 200, 0, 8}, {6, 17, 1, 13, 0, 8}, {1, 1, 5, 13, 0, 8}};
    struct ws2_random random = ws2_random_make(7, 0);
    struct ws2_walker *walk = NULL;
    for (size_t k = 0; k < sizeof as / sizeof *as; k++) {
        const int h = as[k].h, w = as[k].w, n = h * w;
        uint8_t rgb[3 * MOST];
        float map[MAPS * MOST], have[MAPS * MOST];
        double *affinity = malloc((size_t)n * (size_t)n * sizeof *affinity), want[MOST];
        for (int i = 0; i < 3 * n; i++)
            rgb[i] = (uint8_t)(100 + (i / 3 % w > w / 2 ? 35 : 0) + (int)ws2_random_below(&random, 15));
        for (int i = 0; i < MAPS * n; i++)
            map[i] = i < n ? 0.3f : (float)ws2_random_uniform(&random);
        colour_affinity(rgb, h, w, as[k].radius, as[k].colour, as[k].space, affinity);
        for (int squares = 1; squares <= as[k].squares; squares += as[k].squares - 1) {
            assert_int_equal(
                ws2_walk_colours(&walk, rgb, h, w, as[k].radius, 8, as[k].colour, as[k].space, NULL), 0);
            memcpy(have, map, sizeof have);
            ws2_walk_run(walk, 1 << squares, MAPS, have);
            for (int m = 0; m < MAPS; m++) {
                dense(affinity, n, 8, squares, map + m * n, want);
                for (int j = 0; j < n; j++)
                    assert_true(fabs((double)have[m * n + j] - want[j]) < 1e-5);
            }
            assert_memory_equal(have, map, (size_t)n * sizeof *map);
        }
        free(affinity);
    }
    ws2_walk_free(walk);
}

/* n steps and m more are n + m steps, where polynomials stand for many and where they do not; 0 steps change nothing. */
static void test_steps_add_up(void **state)
{
    (void)state;
    enum { N = 20 * 50 };
    static const int steps[][2] = {{30, 12}, {42, 1}, {43, 100}, {1000, 2001}, {0, 77}};
    static uint8_t rgb[3 * N];
    static float once[N], twice[N];
    struct ws2_random random = ws2_random_make(8, 0);
    struct ws2_walker *walk = NULL;
    for (int i = 0; i < 3 * N; i++)
        rgb[i] = (uint8_t)(i / 3 % 50 > 20 ? 130 : 90) + (uint8_t)ws2_random_below(&random, 9);
    assert_int_equal(ws2_walk_colours(&walk, rgb, 20, 50, 5, 8, 13, 0, NULL), 0);
    for (int k = 0; k < 5; k++) {
        for (int i = 0; i < N; i++)
            once[i] = twice[i] = i % 50 < 9 ? (float)ws2_random_uniform(&random) : 0;
        ws2_walk_run(walk, steps[k][0] + steps[k][1], 1, once);
        ws2_walk_run(walk, steps[k][0], 1, twice);
        ws2_walk_run(walk, steps[k][1], 1, twice);
        for (int i = 0; i < N; i++) {
            assert_true(once[i] >= 0);
            assert_float_equal(once[i], twice[i], 1e-5);
        }
    }
    ws2_walk_free(walk);
}

/* T26: a wall of edges, one pixel wide, with pixels on both sides: nothing crosses, and mass on one side stays. */
static void test_wall(void **state)
{
    (void)state;
    struct ws2_walker *walk = NULL;
    float edge[64] = {0}, map[64];
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++) {
            edge[8 * y + x] = x == 4;
            map[8 * y + x] = x < 4 ? 1 : 0;
        }
    assert_int_equal(ws2_walk_edges(&walk, edge, 8, 8, 5, 10, NULL), 0);
    ws2_walk_run(walk, 256, 1, map);
    for (int i = 0; i < 64; i++)
        assert_float_equal(map[i], (i % 8 < 4 ? 1 : 0), 1e-5);
    edge[8 * 3 + 4] = 0.5f; /* a gap */
    assert_int_equal(ws2_walk_edges(&walk, edge, 8, 8, 5, 1, NULL), 0);
    ws2_walk_run(walk, 256, 1, map);
    assert_true(map[8 * 3 + 5] > 0.01f && map[8 * 3 + 3] < 0.99f);
    ws2_walk_free(walk);
}

/* By hand, radius 2: the neighbours along edges and corners. */
static void test_edges_by_hand(void **state)
{
    (void)state;
    struct ws2_walker *walk = NULL;
    const float edge[4] = {0, 0.5f, 0.25f, 0};
    float map[4] = {1, 0, 0, 0};
    /* Of pixel 0: to 1: 1 - .5; to 2: 1 - .25; to 3: the whole square lies within 1 of the diagonal, 1 - .5. */
    assert_int_equal(ws2_walk_edges(&walk, edge, 2, 2, 2, 1, NULL), 0);
    ws2_walk_run(walk, 1, 1, map);
    assert_float_equal(map[0], 1 / (1 + 0.5 + 0.75 + 0.5), 1e-6);
    assert_float_equal(map[1], 0.5 / (1 + 0.5 + 0.5 + 0.5), 1e-6);
    assert_float_equal(map[2], 0.75 / (1 + 0.75 + 0.5 + 0.75), 1e-6);
    assert_float_equal(map[3], 0.5 / (1 + 0.5 + 0.5 + 0.75), 1e-6);
    ws2_walk_free(walk);
}

static void test_small_and_refused(void **state)
{
    (void)state;
    struct ws2_walker *walk = NULL;
    float value[6] = {0, 0.5f, 1, 0.25f, 0, 1}, map[6] = {1, 2, 3, 4, 5, 6};
    const float same[6] = {1, 2, 3, 4, 5, 6};
    assert_int_equal(ws2_walk_features(&walk, value, 1, 2, 3, 5, 8, NULL), 0); /* too small for any pair */
    ws2_walk_run(walk, 9, 1, map);
    assert_memory_equal(map, same, sizeof map);
    assert_int_equal(ws2_walk_features(&walk, value, 0, 0, 3, 5, 8, NULL), 0);
    ws2_walk_run(walk, 9, 1, map);
    assert_int_equal(ws2_walk_features(&walk, value, 1, 2, 3, 17, 8, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_walk_features(&walk, value, 1, 2, 3, 0, 8, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_walk_edges(&walk, value, 2, 3, 5, 0, NULL), WS2_ERR_USAGE);
    const uint8_t rgb[6] = {0};
    assert_int_equal(ws2_walk_colours(&walk, rgb, 1, 2, 5, 8, 0, 0, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_walk_colours(&walk, rgb, 1, 2, 5, 8, 13, -1, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_walk_colours(&walk, rgb, 1, 2, 5, 8, 13, NAN, NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_walk_colours(&walk, rgb, 1, 2, 0, 8, 13, 0, NULL), WS2_ERR_USAGE);
    value[3] = NAN;
    assert_int_equal(ws2_walk_features(&walk, value, 1, 2, 3, 5, 8, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_walk_edges(&walk, value, 2, 3, 5, 8, NULL), WS2_ERR_INPUT);
    value[3] = 1.5f;
    assert_int_equal(ws2_walk_edges(&walk, value, 2, 3, 5, 8, NULL), WS2_ERR_INPUT);
    ws2_walk_free(walk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense_powers),
        cmocka_unit_test(test_borders_only_receive),
        cmocka_unit_test(test_colours),
        cmocka_unit_test(test_steps_add_up),
        cmocka_unit_test(test_wall),
        cmocka_unit_test(test_edges_by_hand),
        cmocka_unit_test(test_small_and_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
