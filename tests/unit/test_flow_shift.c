/* The dominant motion of a pair: the transform against its sum, and phase correlation of shifts that are known. */
#include "flow_help.h"

/* ---- the transform ------------------------------------------------------------------------------------------ */

enum { COLUMNS = 3 };

/* Column c of re, im [n][COLUMNS] at frequency k, term by term. */
static void direct(const float *re, const float *im, int n, int c, int k, bool inverse, double out[2])
{
    out[0] = out[1] = 0;
    for (int t = 0; t < n; t++) {
        const double angle = (inverse ? 2 : -2) * acos(-1) * k * t / n;
        const double r = re[t * COLUMNS + c], i = im[t * COLUMNS + c];
        out[0] += r * cos(angle) - i * sin(angle);
        out[1] += r * sin(angle) + i * cos(angle);
    }
}

static void transform_equals_the_sum(void **state)
{
    (void)state;
    static const int length[] = {1, 2, 8, 64};
    struct ws2_random random = ws2_random_make(3, 0);
    for (size_t l = 0; l < 2 * sizeof length / sizeof *length; l++) {
        const int n = length[l / 2];
        const bool inverse = l % 2;
        float re[64 * COLUMNS], im[64 * COLUMNS], was_re[64 * COLUMNS], was_im[64 * COLUMNS];
        for (int i = 0; i < n * COLUMNS; i++) {
            re[i] = was_re[i] = (float)ws2_random_normal(&random);
            im[i] = was_im[i] = (float)ws2_random_normal(&random);
        }
        ws2_fft_rows(re, im, n, COLUMNS, inverse);
        for (int k = 0; k < n; k++) {
            for (int c = 0; c < COLUMNS; c++) {
                double want[2];
                direct(was_re, was_im, n, c, k, inverse, want);
                assert_true(fabs(re[k * COLUMNS + c] - want[0]) < 1e-4);
                assert_true(fabs(im[k * COLUMNS + c] - want[1]) < 1e-4);
            }
        }
    }
}

static void transposition(void **state)
{
    (void)state;
    static const int side[][2] = {{1, 1}, {1, 7}, {16, 16}, {17, 40}, {33, 5}};
    for (size_t s = 0; s < sizeof side / sizeof *side; s++) {
        const int n = side[s][0], m = side[s][1];
        float in[680], out[680];
        for (int i = 0; i < n * m; i++)
            in[i] = (float)i;
        ws2_transpose(in, n, m, out);
        for (int y = 0; y < n; y++)
            for (int x = 0; x < m; x++)
                assert_true(out[x * n + y] == (float)(y * m + x));
    }
}

/* ---- phase correlation (T28) ---------------------------------------------------------------------------------- */

static void assert_shift(const struct scene *s, float most)
{
    struct ws2_flow *flow = NULL;
    struct ws2_error error = {0};
    float there[2] = {99, 99}, back[2] = {99, 99};
    uint8_t *first = draw(s, 0), *second = draw(s, 1);
    struct ws2_flow_frame *a = frame_of(first, s->width, s->height);
    struct ws2_flow_frame *b = frame_of(second, s->width, s->height);
    assert_int_equal(ws2_flow_shift(&flow, a, b, there, &error), WS2_OK);
    assert_int_equal(ws2_flow_shift(&flow, b, a, back, &error), WS2_OK);
    for (int i = 0; i < 2; i++)
        if (!(fabsf(there[i] - s->shift[i]) < most && fabsf(back[i] + s->shift[i]) < most))
            fail_msg("%d x %d, noise %g, shift (%g, %g): found (%g, %g), back (%g, %g)", s->width, s->height,
                     s->noise, s->shift[0], s->shift[1], there[0], there[1], back[0], back[1]);
    free(first);
    free(second);
    ws2_flow_frame_free(a);
    ws2_flow_frame_free(b);
    ws2_flow_free(flow);
}

static void shifts_are_found_to_a_tenth(void **state)
{
    (void)state;
    static const float shift[][2] = {{3, -7}, {-3, 7}, {3, 7}, {0, 0}, {-31.5f, 20}};
    for (size_t i = 0; i < sizeof shift / sizeof *shift; i++) {
        for (int noise = 0; noise <= 8; noise += 8) {
            const struct scene s = {.width = 128,
                                    .height = 112,
                                    .seed = 4,
                                    .noise = (float)noise,
                                    .shift = {shift[i][0], shift[i][1]}};
            assert_shift(&s, 0.1f);
        }
    }
}

/* The halved frame and its straight lines between pixels are pulled to whole pixels a little; in a small one a few
 * patches vote. */
static void shifts_between_pixels_and_of_small_frames(void **state)
{
    (void)state;
    static const float shift[][2] = {{0.5f, 0}, {2.25f, -1.375f}, {-0.75f, 5.5f}};
    static const float small[][2] = {{3, -7}, {-3, 7}, {0, 0}};
    for (int i = 0; i < 3; i++) {
        const struct scene s = {.width = 128, .height = 112, .seed = 4, .shift = {shift[i][0], shift[i][1]}};
        assert_shift(&s, 0.15f);
        const struct scene t = {.width = 48, .height = 60, .seed = 4, .shift = {small[i][0], small[i][1]}};
        assert_shift(&t, 0.1f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transform_equals_the_sum),
        cmocka_unit_test(transposition),
        cmocka_unit_test(shifts_are_found_to_a_tenth),
        cmocka_unit_test(shifts_between_pixels_and_of_small_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
