/* The belt simulator's flow: it lands on the same item, comes back, and carries pictures and print along. */
#include <math.h>
#include <stdio.h>

#include "synth/internal.h"
#include "synth_help.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(belt_flow_is_the_belt_motion),
        cmocka_unit_test(flow_lands_on_the_same_item),
        cmocka_unit_test(backward_flow_undoes_forward_flow),
        cmocka_unit_test(warped_pictures_agree),
        cmocka_unit_test(a_belt_that_stands_shows_the_same),
        cmocka_unit_test(rolling_items_leave_the_belt_motion),
        cmocka_unit_test(print_rolls_with_the_wall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
