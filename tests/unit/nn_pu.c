/* Learning from wanted things and a mixture: losses against PyTorch and by hand, what a mixture teaches, scores. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "generator.h"
#include "models/dense.h"
#include "modes_help.h"

#define FIXTURE "tests/golden/dense.safetensors"

/* ---- losses against PyTorch ------------------------------------------------------------------------------------- */

enum { BATCH = 4, HEIGHT = 9, WIDTH = 11, PIXELS = HEIGHT * WIDTH, COUNT = BATCH * PIXELS };

static const int64_t cameras[BATCH] = {WS2_CLASS_BEFORE, WS2_CLASS_AFTER, WS2_CLASS_AFTER, WS2_CLASS_BEFORE};

static const struct {
    const char *name;
    double shift;
} logit_kinds[] = {{"plain", 0}, {"near", 0.4}, {"over", 2}};
enum { KINDS = sizeof logit_kinds / sizeof *logit_kinds };

/* Logits whose pixels before the sorter are moved up and those after it down. */
static void make_logits(double shift, float *z)
{
    double value[COUNT];
    generator_values("dense logits", value, COUNT, 3);
    for (int i = 0; i < COUNT; i++)
        z[i] = (float)((double)(float)value[i] + (cameras[i / PIXELS] == WS2_CLASS_BEFORE ? shift : -shift));
}

/* Three in four pixels count. */
static void make_keep(uint8_t *keep)
{
    generator_image("dense keep", keep, COUNT);
    for (int i = 0; i < COUNT; i++)
        keep[i] = keep[i] % 4 > 0;
}

static struct nn_tensor *leaf(struct nn *nn, const float *z)
{
    return nn_requires_grad(nn, nn_from_f32(nn, ws2_shape_4(BATCH, 1, HEIGHT, WIDTH), z), true);
}

/* Terms (total, before, wanted, negative) and the gradient of the total. */
static void pu_of(struct nn *nn, const float *z, const uint8_t *keep, const int64_t *label,
                  const struct ws2_pu_options *options, double terms[4], double *gradient)
{
    nn_scope_begin(nn);
    struct nn_tensor *x = leaf(nn, z);
    const struct ws2_pu_terms t = ws2_pu_loss(nn, x, keep, label, options);
    assert_true(nn_rank(t.total) == 0 && nn_rank(t.before) == 0 && nn_rank(t.wanted) == 0 &&
                nn_rank(t.negative) == 0);
    terms[0] = nn_item(nn, t.total);
    terms[1] = nn_item(nn, t.before);
    terms[2] = nn_item(nn, t.wanted);
    terms[3] = nn_item(nn, t.negative);
    if (gradient) {
        nn_backward(nn, t.total);
        nn_to_f64(nn, nn_leaf_grad(nn, x), gradient, COUNT);
    }
    nn_scope_end(nn);
}

static void compare(const char *name, const double *have, size_t count, double limit)
{
    double *want = read_golden(FIXTURE, name, count), largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(want[i]));
    assert_true(largest > 1e-4);
    for (size_t i = 0; i < count; i++)
        if (!(fabs(have[i] - want[i]) <= limit * largest))
            fail_msg("%s: %.9g is not %.9g", name, have[i], want[i]);
    free(want);
}

static void compare_pu(struct nn *nn, int kind, double prior, enum ws2_pu_form form)
{
    const struct ws2_pu_options options = {prior, form, 0.1, 0.5};
    double terms[4], gradient[COUNT];
    float z[COUNT];
    uint8_t keep[COUNT];
    char name[64], full[96];
    make_logits(logit_kinds[kind].shift, z);
    make_keep(keep);
    pu_of(nn, z, keep, cameras, &options, terms, gradient);
    snprintf(name, sizeof name, "%s.%g.%s", logit_kinds[kind].name, prior,
             form == WS2_PU_KIRYO ? "kiryo" : "absolute");
    snprintf(full, sizeof full, "pu.%s", name);
    compare(full, terms, 4, 1e-6);
    snprintf(full, sizeof full, "gradient.%s", name);
    compare(full, gradient, COUNT, 1e-5);
}

static void test_pu_losses(void **state)
{
    (void)state;
    for (int m = 0; m < MODES; m++) {
        struct nn *nn = open_nn(&modes[m]);
        for (int kind = 0; kind < KINDS; kind++)
            for (int prior = 0; prior < 2; prior++)
                for (int form = 0; form < 2; form++)
                    compare_pu(nn, kind, 0.6 * prior, (enum ws2_pu_form)form);
        close_nn(nn);
    }
}

static void make_weights(float *wanted, float *unwanted)
{
    uint8_t number[2][COUNT];
    generator_image("dense wanted", number[0], COUNT);
    generator_image("dense unwanted", number[1], COUNT);
    for (int i = 0; i < COUNT; i++) {
        wanted[i] = (float)(number[0][i] % 3) / 2;
        unwanted[i] = (float)(number[1][i] % 4) / 3;
    }
}

static double balanced_of(struct nn *nn, const float *z, const float *wanted, const float *unwanted,
                          double *gradient)
{
    nn_scope_begin(nn);
    struct nn_tensor *x = leaf(nn, z), *loss = ws2_balanced_loss(nn, x, wanted, unwanted);
    assert_int_equal(nn_rank(loss), 0);
    const double value = nn_item(nn, loss);
    nn_backward(nn, loss);
    nn_to_f64(nn, nn_leaf_grad(nn, x), gradient, COUNT);
    nn_scope_end(nn);
    return value;
}

static void test_balanced_loss(void **state)
{
    (void)state;
    float z[COUNT], wanted[COUNT], unwanted[COUNT], none[COUNT] = {0};
    make_logits(0, z);
    make_weights(wanted, unwanted);
    for (int m = 0; m < MODES; m++) {
        struct nn *nn = open_nn(&modes[m]);
        double gradient[COUNT], alone[COUNT];
        const double both = balanced_of(nn, z, wanted, unwanted, gradient);
        compare("balanced", &both, 1, 1e-6);
        compare("balanced.gradient", gradient, COUNT, 1e-5);
        /* a kind without weight has a mean of 0 */
        const double first = balanced_of(nn, z, wanted, none, alone),
                     second = balanced_of(nn, z, none, unwanted, alone);
        assert_true(fabs(first + second - both) <= 1e-6);
        assert_true(balanced_of(nn, z, none, none, alone) == 0);
        for (int i = 0; i < COUNT; i++)
            assert_true(alone[i] == 0);
        close_nn(nn);
    }
}

/* ---- losses by hand --------------------------------------------------------------------------------------------- */

static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* Mean over the pixels of a camera that count, of what is called unwanted (sign -1) or wanted (1). */
static double mean_by_hand(const float *z, const uint8_t *keep, int64_t camera, double sign)
{
    double sum = 0, n = 0;
    for (int i = 0; i < COUNT; i++)
        if (keep[i] && cameras[i / PIXELS] == camera) {
            sum += softplus(sign * (double)z[i]);
            n++;
        }
    return n > 0 ? sum / n : 0;
}

/* Both branches of both forms: the slope along each of some pixels. */
static void test_pu_slopes(void **state)
{
    (void)state;
    struct nn *nn = open_nn(&modes[0]);
    uint8_t keep[COUNT];
    make_keep(keep);
    for (int kind = 0; kind < KINDS; kind++)
        for (int form = 0; form < 2; form++) {
            const struct ws2_pu_options options = {0.6, (enum ws2_pu_form)form, 0.1, 0.5};
            double terms[4], gradient[COUNT], up[4], down[4];
            float z[COUNT];
            make_logits(logit_kinds[kind].shift, z);
            pu_of(nn, z, keep, cameras, &options, terms, gradient);
            assert_int_equal(terms[3]<0, kind> 0);
            assert_int_equal(terms[3] < -0.1, kind == 2);
            for (int i = 0; i < COUNT; i += 13) {
                const float old = z[i];
                z[i] = old + 0x1p-10f;
                pu_of(nn, z, keep, cameras, &options, up, NULL);
                const float high = z[i];
                z[i] = old - 0x1p-10f;
                pu_of(nn, z, keep, cameras, &options, down, NULL);
                const double steep = (up[0] - down[0]) / ((double)high - (double)z[i]);
                z[i] = old;
                assert_true(fabs(steep - gradient[i]) <= 1e-8);
                assert_true(keep[i] || gradient[i] == 0);
            }
        }
    close_nn(nn);
}

/* With a prior of 0 all before the sorter is unwanted: the plain mean over it, whatever comes after it. */
static void test_pu_without_prior(void **state)
{
    (void)state;
    struct nn *nn = open_nn(&modes[0]);
    float z[COUNT];
    uint8_t keep[COUNT];
    make_logits(2, z);
    make_keep(keep);
    const double mean = mean_by_hand(z, keep, WS2_CLASS_BEFORE, -1);
    for (int form = 0; form < 2; form++) {
        const struct ws2_pu_options options = {0, (enum ws2_pu_form)form, 0, 1};
        double terms[4], gradient[COUNT];
        pu_of(nn, z, keep, cameras, &options, terms, gradient);
        assert_true(fabs(terms[0] - mean) < 1e-7 && fabs(terms[1] - mean) < 1e-7);
        for (int i = 0; i < COUNT; i++)
            assert_true(cameras[i / PIXELS] == WS2_CLASS_BEFORE || gradient[i] == 0);
    }
    close_nn(nn);
}

/* A camera without pixels, or no pixels at all: means of 0, and no gradient that is not a number. */
static void test_pu_without_pixels(void **state)
{
    (void)state;
    struct nn *nn = open_nn(&modes[1]);
    float z[COUNT];
    make_logits(0, z);
    z[0] = 90;
    z[1] = -90;
    for (int missing = 0; missing < 4; missing++) /* bit c: no pixels of camera c */
        for (int form = 0; form < 2; form++) {
            const struct ws2_pu_options options = {0.5, (enum ws2_pu_form)form, 0, 1};
            double terms[4], gradient[COUNT];
            uint8_t keep[COUNT];
            for (int i = 0; i < COUNT; i++)
                keep[i] = !(missing >> cameras[i / PIXELS] & 1);
            pu_of(nn, z, keep, cameras, &options, terms, gradient);
            const double before = mean_by_hand(z, keep, WS2_CLASS_BEFORE, -1),
                         wanted = mean_by_hand(z, keep, WS2_CLASS_AFTER, 1),
                         negative = before - 0.5 * mean_by_hand(z, keep, WS2_CLASS_AFTER, -1);
            assert_true(fabs(terms[1] - before) < 1e-5 && fabs(terms[2] - wanted) < 1e-5 &&
                        fabs(terms[3] - negative) < 1e-5 && isfinite(terms[0]));
            for (int i = 0; i < COUNT; i++) {
                assert_true(isfinite(gradient[i]));
                assert_true(keep[i] || gradient[i] == 0);
            }
        }
    close_nn(nn);
}

/* Means are over the pixels of the batch: pictures count by their pixels. */
static void test_pu_counts_pixels(void **state)
{
    (void)state;
    struct nn *nn = open_nn(&modes[0]);
    const struct ws2_pu_options options = {0.4, WS2_PU_ABSOLUTE, 0, 1};
    float z[COUNT];
    uint8_t keep[COUNT] = {0};
    double terms[4];
    make_logits(0, z);
    for (int i = 0; i < COUNT; i++) /* 1, 99, 2 and 9 pixels of the pictures */
        keep[i] = i / PIXELS == 1 || i % PIXELS < (int[]){1, 0, 2, 9}[i / PIXELS];
    pu_of(nn, z, keep, cameras, &options, terms, NULL);
    double sum = 0;
    for (int i = 0; i < 10; i++)
        sum += softplus(-(double)(i < 1 ? z[0] : z[3 * PIXELS + i - 1]));
    assert_true(fabs(terms[1] - sum / 10) < 1e-6);
    sum = 0;
    for (int i = 0; i < 101; i++)
        sum += softplus((double)z[PIXELS + i]);
    assert_true(fabs(terms[2] - sum / 101) < 1e-6);
    close_nn(nn);
}

/* ---- a mixture of two normal distributions ------------------------------------------------------------------------ */

/* Wanted things lie around -1, unwanted ones around 1, with a deviation of 1. */
enum { DRAWN = 20000 };

struct mixture {
    float x[2][DRAWN]; /* by camera */
    bool unwanted[DRAWN];
};

static struct mixture *draw_mixture(double prior, uint64_t seed)
{
    static struct mixture m;
    struct ws2_random random = ws2_random_make(seed, 0);
    for (int i = 0; i < DRAWN; i++) {
        m.unwanted[i] = i >= prior * DRAWN;
        m.x[WS2_CLASS_BEFORE][i] = (float)((m.unwanted[i] ? 1 : -1) + ws2_random_normal(&random));
        m.x[WS2_CLASS_AFTER][i] = (float)(-1 + ws2_random_normal(&random));
    }
    return &m;
}

/* A logistic model z = scale x + shift, learnt from both cameras. */
struct model {
    double scale, shift;
};

static struct model learn_mixture(const struct mixture *m, const struct ws2_pu_options *options)
{
    static const int64_t label[] = {WS2_CLASS_AFTER, WS2_CLASS_BEFORE};
    static uint8_t keep[2 * DRAWN];
    struct nn *nn = open_nn(&modes[1]);
    struct nn_params *params = nn_params_new(nn);
    const struct nn_init zero = nn_init_make(NN_INIT_CONSTANT, 0);
    struct nn_tensor *scale = nn_declare(params, NN_WEIGHT, "scale", ws2_shape_1(1), zero),
                     *shift = nn_declare(params, NN_BIAS, "shift", ws2_shape_1(1), zero);
    struct nn_tensor *x = nn_from_f32(nn, ws2_shape_4(2, 1, 100, DRAWN / 100), m->x[0]);
    struct nn_optim *optim = nn_optim_new(params, &(struct nn_optim_options){.kind = NN_ADAM});
    memset(keep, 1, sizeof keep);
    for (int step = 0; step < 250; step++) {
        nn_scope_begin(nn);
        struct nn_tensor *z = nn_add(nn, nn_mul(nn, x, scale), shift);
        nn_params_zero_grad(params);
        nn_backward(nn, ws2_pu_loss(nn, z, keep, label, options).total);
        nn_optim_step(optim, step < 150 ? 0.1 : 0.02);
        nn_scope_end(nn);
    }
    const struct model out = {nn_item(nn, scale), nn_item(nn, shift)};
    nn_optim_free(optim);
    nn_params_free(params);
    close_nn(nn);
    return out;
}

/* The share of wrong answers where the boundary is. */
static double error_at(double boundary, double prior)
{
    const double above = 0.5 * erfc((boundary + 1) / sqrt(2)), below = 0.5 * erfc((1 - boundary) / sqrt(2));
    return prior * above + (1 - prior) * below;
}

static struct ws2_scores score_mixture(const struct mixture *m, struct model model)
{
    struct ws2_scores scores = {0};
    for (int c = 0; c < 2; c++)
        for (int i = 0; i < DRAWN; i++) {
            const double p = 1 / (1 + exp(-(model.scale * (double)m->x[c][i] + model.shift)));
            scores.count[c][(int)fmin(WS2_SCORE_BINS * p, WS2_SCORE_BINS - 1)]++;
            scores.pixels[c]++;
        }
    return scores;
}

/* Both forms find Bayes' boundary, and what they find is known without truth, as both cameras see alike. */
static void check_mixture(double prior, enum ws2_pu_form form)
{
    const struct ws2_pu_options options = {prior, form, 0, 1};
    const struct mixture *m = draw_mixture(prior, 5);
    const struct model model = learn_mixture(m, &options);
    const double bayes = 0.5 * log(prior / (1 - prior)), boundary = -model.shift / model.scale;
    const double wrong = error_at(boundary, prior), least = error_at(bayes, prior);
    if (!(model.scale > 0) || !(wrong - least <= 0.01))
        fail_msg("prior %g: boundary %.3f, not %.3f; %.4f are wrong, not %.4f", prior, boundary, bayes, wrong,
                 least);
    const struct ws2_scores scores = score_mixture(m, model);
    const struct ws2_pu_figures f = ws2_pu_judge(&scores, prior, 0.5);
    double found = 0, all = 0, both = 0;
    for (int i = 0; i < DRAWN; i++) {
        const bool called = model.scale * (double)m->x[WS2_CLASS_BEFORE][i] + model.shift >= 0;
        found += called && m->unwanted[i];
        both += called || m->unwanted[i];
        all += m->unwanted[i];
    }
    assert_true(fabs(f.recall - found / all) <= 0.05);
    assert_true(fabs(f.iou - found / both) <= 0.05);
}

static void test_mixtures(void **state)
{
    (void)state;
    for (int tenths = 1; tenths < 10; tenths += 2)
        for (int form = 0; form < 2; form++)
            check_mixture(tenths / 10.0, (enum ws2_pu_form)form);
}

/* ---- scores ------------------------------------------------------------------------------------------------------ */

static void put(struct ws2_scores *scores, enum ws2_class camera, int bin, int64_t count)
{
    scores->count[camera][bin] += count;
    scores->pixels[camera] += count;
}

static void test_quantiles(void **state)
{
    (void)state;
    static const double want[][2] = {{0, 0.1},   {0.1, 0.1}, {0.29, 0.1}, {0.3, 0.2}, {0.39, 0.2},
                                     {0.4, 0.9}, {0.5, 0.9}, {0.99, 0.9}, {1, 1}};
    struct ws2_scores scores = {0};
    put(&scores, WS2_CLASS_BEFORE, 100, 3);
    put(&scores, WS2_CLASS_BEFORE, 200, 1);
    put(&scores, WS2_CLASS_BEFORE, 900, 6);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_near(ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, want[i][0]), want[i][1]);
    assert_near(ws2_scores_quantile(&scores, WS2_CLASS_AFTER, 0.5), 1); /* no pixels: all are below */
    put(&scores, WS2_CLASS_AFTER, 0, 5);
    assert_near(ws2_scores_quantile(&scores, WS2_CLASS_AFTER, 0.99), 0);
    assert_near(ws2_scores_quantile(&scores, WS2_CLASS_AFTER, 1), 1);
    put(&scores, WS2_CLASS_AFTER, 999, 5);
    assert_near(ws2_scores_quantile(&scores, WS2_CLASS_AFTER, 0.49), 0);
    assert_near(ws2_scores_quantile(&scores, WS2_CLASS_AFTER, 0.5), 0.999);
}

static void test_judge(void **state)
{
    (void)state;
    struct ws2_scores scores = {0};
    put(&scores, WS2_CLASS_BEFORE, 100, 40);
    put(&scores, WS2_CLASS_BEFORE, 700, 60);
    put(&scores, WS2_CLASS_AFTER, 100, 9);
    put(&scores, WS2_CLASS_AFTER, 700, 1);
    for (int i = 0; i < 2; i++) { /* at the edge of a bin, which counts, and just above it */
        const struct ws2_pu_figures f = ws2_pu_judge(&scores, 0.5, i ? 0.7 : 0.1001);
        assert_near(f.before, 0.6);
        assert_near(f.after, 0.1);
        assert_near(f.recall, 1.1);
        assert_near(f.false_positives, 0.1);
        assert_near(f.iou, 0.55 / 0.55);
    }
    assert_near(ws2_pu_judge(&scores, 0.5, 0.7001).before, 0);
    assert_near(ws2_pu_judge(&scores, 0.5, 1).recall, 0);
    for (int i = 0; i < 2; i++) { /* all is called unwanted: as much as there is is found */
        const struct ws2_pu_figures f = ws2_pu_judge(&scores, 0.25, 0.1 * i);
        assert_near(f.recall, 1);
        assert_near(f.false_positives, 1);
        assert_near(f.iou, 0.75);
    }
    const struct ws2_scores empty = {0};
    const struct ws2_pu_figures f = ws2_pu_judge(&empty, 0.5, 0.5);
    assert_true(f.before == 0 && f.after == 0 && f.recall == 0 && f.iou == 0);
}

/* Every threshold by hand. */
static double best_threshold(const struct ws2_scores *scores, double prior)
{
    double best = 0.5, most = 0;
    for (int bin = 1; bin < WS2_SCORE_BINS; bin++) {
        double share[2] = {0};
        for (int c = 0; c < 2; c++)
            for (int i = bin; i < WS2_SCORE_BINS; i++)
                share[c] += (double)scores->count[c][i] / (double)scores->pixels[c];
        const double wanted = prior * share[WS2_CLASS_AFTER],
                     found = fmin(share[WS2_CLASS_BEFORE] - wanted, 1 - prior);
        if (found / (1 - prior + wanted) > most + 1e-12) {
            most = found / (1 - prior + wanted);
            best = bin / (double)WS2_SCORE_BINS;
        }
    }
    return best;
}

static void test_threshold(void **state)
{
    (void)state;
    struct ws2_scores scores = {0};
    assert_near(ws2_pu_threshold(&scores, 0.5), 0.5); /* nobody knows */
    put(&scores, WS2_CLASS_AFTER, 100, 100);
    assert_near(ws2_pu_threshold(&scores, 0.5), 0.5); /* nothing is found */
    put(&scores, WS2_CLASS_BEFORE, 100, 50);
    put(&scores, WS2_CLASS_BEFORE, 800, 50);
    assert_near(ws2_pu_threshold(&scores, 0.5), 0.101); /* the lowest of many */
    put(&scores, WS2_CLASS_BEFORE, 850, 900);           /* more than there can be, down from 0.85 */
    put(&scores, WS2_CLASS_AFTER, 800, 1);
    assert_near(ws2_pu_threshold(&scores, 0.5), 0.801);
    for (int seed = 0; seed < 5; seed++) {
        struct ws2_random random = ws2_random_make((uint64_t)seed, 1);
        struct ws2_scores drawn = {0};
        for (int i = 0; i < 3000; i++) {
            const double u = ws2_random_uniform(&random), v = ws2_random_uniform(&random);
            put(&drawn, WS2_CLASS_AFTER, (int)(1000 * u * v), 1);
            put(&drawn, WS2_CLASS_BEFORE, (int)(1000 * (i % 2 ? u * v : sqrt(u))), 1);
        }
        assert_near(ws2_pu_threshold(&drawn, 0.2 * seed), best_threshold(&drawn, 0.2 * seed));
    }
}

static void test_cuts(void **state)
{
    (void)state;
    double low, high;
    dense_quantiles(0.515, &low, &high);
    assert_true(fabs(low - 0.4) < 1e-3 && fabs(high - 0.75) < 1e-3);
    for (int i = 0; i < 10; i++) {
        dense_quantiles(0.1 * i, &low, &high);
        assert_true(0 <= low && low <= 0.1 * i && 0.1 * i < high && high < 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pu_losses),
        cmocka_unit_test(test_balanced_loss),
        cmocka_unit_test(test_pu_slopes),
        cmocka_unit_test(test_pu_without_prior),
        cmocka_unit_test(test_pu_without_pixels),
        cmocka_unit_test(test_pu_counts_pixels),
        cmocka_unit_test(test_mixtures),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
