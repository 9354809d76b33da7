/* Learning of pixels: losses and networks against PyTorch, what a mixture teaches, scores, files, frames and rounds. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clips_help.h"
#include "generator.h"
#include "golden.h"
#include "image/image.h"
#include "models/dense.h"
#include "models/fpn_frame.h"

#define FIXTURE "tests/golden/dense.safetensors"

static const struct nn_options modes[] = {
    {.device = NN_DEVICE_CPU, .precision = NN_F64_MODE, .threads = 1},
    {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .layout = NN_LAYOUT_CHANNELS_FIRST, .threads = 1},
    {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .layout = NN_LAYOUT_CHANNELS_LAST, .threads = 1},
};
enum { MODES = sizeof modes / sizeof *modes };

static void must_be_good(int status, const struct ws2_error *error)
{
    if (status < 0)
        fail_msg("%s", error->text);
}

static struct nn *open_nn(const struct nn_options *options)
{
    struct nn *nn;
    struct ws2_error error = {0};
    must_be_good(nn_open(&nn, options, &error), &error);
    return nn;
}

static void close_nn(struct nn *nn)
{
    if (nn_error(nn))
        fail_msg("%s", nn_error(nn));
    nn_close(nn);
}

/* The fixture's numbers of a name; the caller frees them. */
static double *read_golden(const char *name, size_t count)
{
    struct nn_weights *weights = golden_open(FIXTURE);
    struct ws2_error error = {0};
    double *out = ws2_calloc(count, sizeof *out);
    must_be_good(nn_weights_read_f64(weights, nn_weights_find(weights, name), out, count, &error), &error);
    nn_weights_close(weights);
    return out;
}

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
    double *want = read_golden(name, count), largest = 0;
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

static void assert_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12))
        fail_msg("%.15g is not %.15g", got, want);
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

/* ---- networks against PyTorch -------------------------------------------------------------------------------------- */

static struct fpn_info info_of(int reach, int size)
{
    return (struct fpn_info){18, reach, size, 0.25};
}

/* A network of its own context, empty. */
static struct nn *open_fpn(struct fpn *fpn, const struct nn_options *options, struct fpn_info info)
{
    struct ws2_error error = {0};
    struct nn *nn = open_nn(options);
    must_be_good(fpn_open(fpn, nn, &info, &error), &error);
    return nn;
}

static void close_fpn(struct fpn *fpn)
{
    struct nn *nn = nn_params_context(fpn->params);
    fpn_close(fpn);
    close_nn(nn);
}

static struct nn_tensor *picture(struct nn *nn, const char *key, int height, int width)
{
    uint8_t rgb[70 * 70 * 3];
    generator_image(key, rgb, (size_t)(3 * height * width));
    return nn_images_u8(nn, 1, height, width, rgb, nn_imagenet_mean, nn_imagenet_std);
}

/* The picture and, mirrored, once more. */
static struct nn_tensor *pictures(struct nn *nn)
{
    struct nn_tensor *one = picture(nn, "image", 64, 64);
    return nn_cat(nn, (struct nn_tensor *[]){one, nn_flip(nn, one, nn_axes_1(3))}, 2, 0);
}

static void compare_gradient(const struct fpn *fpn, const struct nn_weights *weights, const char *name)
{
    struct nn *nn = nn_params_context(fpn->params);
    char key[64];
    snprintf(key, sizeof key, "fpn.%d.grad.%s", fpn->info.reach, name);
    const int index = nn_params_find(fpn->params, name);
    assert_true(index >= 0);
    golden_compare(nn, weights, key, nn_leaf_grad(nn, nn_params_at(fpn->params, index)->tensor), 1);
}

static void compare_network(const struct nn_options *mode, const struct nn_weights *weights, int reach)
{
    char name[32];
    struct fpn fpn;
    struct nn *nn = open_fpn(&fpn, mode, info_of(reach, 64));
    assert_int_equal(generator_fill(fpn.params, NULL), 0);
    nn_no_grad_begin(nn);
    snprintf(name, sizeof name, "fpn.%d", reach);
    struct nn_tensor *z = fpn_forward(&fpn, pictures(nn), false);
    assert_true(nn_dim(z, 0) == 2 && nn_dim(z, 1) == 1 && nn_dim(z, 2) == 64 && nn_dim(z, 3) == 64);
    golden_compare(nn, weights, name, z, 7);
    snprintf(name, sizeof name, "fpn.%d.odd", reach);
    golden_compare(nn, weights, name, fpn_forward(&fpn, picture(nn, "odd image", 50, 70), false), 7);
    nn_no_grad_end(nn);
    snprintf(name, sizeof name, "fpn.%d.train", reach);
    z = fpn_forward(&fpn, pictures(nn), true);
    golden_compare(nn, weights, name, z, 7);
    snprintf(name, sizeof name, "fpn.%d.mean", reach);
    golden_compare(nn, weights, name, fpn.smooth_bn.mean, 1);
    nn_backward(nn, nn_mean(nn, nn_square(nn, z)));
    compare_gradient(&fpn, weights, "conv1.weight");
    compare_gradient(&fpn, weights, reach == 16 ? "lateral3.weight" : "lateral2.weight");
    compare_gradient(&fpn, weights, "lateral1.bias");
    compare_gradient(&fpn, weights, "logit.weight");
    close_fpn(&fpn);
}

static void test_networks(void **state)
{
    (void)state;
    struct nn_weights *weights = golden_open(FIXTURE);
    for (int m = 0; m < MODES; m++)
        for (int reach = 8; reach <= 16; reach += 8)
            compare_network(&modes[m], weights, reach);
    nn_weights_close(weights);
}

static void test_no_such_network(void **state)
{
    (void)state;
    static const struct fpn_info bad[] = {
        {18, 4, 64, 0.5}, {18, 0, 64, 0.5}, {18, 32, 64, 0.5}, {19, 8, 64, 0.5}};
    for (int i = 0; i < 4; i++) {
        struct nn *nn = open_nn(&modes[1]);
        struct ws2_error error = {0};
        struct fpn fpn;
        assert_int_equal(fpn_open(&fpn, nn, &bad[i], &error), WS2_ERR_USAGE);
        assert_non_null(strstr(error.text, i < 3 ? "8 and 16 are possible" : "no such network: ResNet-19"));
        assert_null(fpn.params);
        fpn_close(&fpn);
        nn_close(nn);
    }
}

/* ---- files --------------------------------------------------------------------------------------------------------- */

static bool starts(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static void save(const struct fpn *fpn, const char *path)
{
    struct classifier_fact fact[CLASSIFIER_FACTS_MAX];
    struct ws2_meta meta = {0};
    struct ws2_error error = {0};
    const int facts = fpn_facts(fpn, fact);
    for (int i = 0; i < facts; i++)
        ws2_meta_set(&meta, fact[i].key, "%s", fact[i].value);
    ws2_meta_set(&meta, "dense", "pu");
    must_be_good(ws2_checkpoint_save(fpn->params, &meta, path, &error), &error);
}

static void run_frame(const struct fpn *fpn, int64_t height, int64_t width, const uint8_t *rgb,
                      const uint8_t *fg, bool tta, struct fpn_frame *frame)
{
    struct ws2_error error = {0};
    must_be_good(fpn_frame_run(fpn, height, width, rgb, fg, tta, frame, &error), &error);
}

/* What is saved, read and shared gives the same bytes, again and again. */
static void test_saved_and_shared(void **state)
{
    (void)state;
    uint8_t rgb[50 * 70 * 3], fg[50 * 70];
    generator_image("frame", rgb, sizeof rgb);
    generator_image("frame fg", fg, sizeof fg);
    for (size_t i = 0; i < sizeof fg; i++)
        fg[i] = fg[i] > 90;
    for (int reach = 8; reach <= 16; reach += 8) {
        const struct fpn_info info = info_of(reach, 64);
        const char *path = in_folder("fpn.safetensors");
        struct fpn made, read, twin;
        struct fpn_frame frame[3] = {{NULL}};
        struct ws2_error error = {0};
        open_fpn(&made, &modes[1], info);
        assert_int_equal(generator_fill(made.params, NULL), 0);
        save(&made, path);
        must_be_good(fpn_read(&read, open_nn(&modes[1]), path, &error), &error);
        must_be_good(fpn_twin(&twin, open_nn(&modes[1]), &read, &error), &error);
        assert_memory_equal(&read.info, &made.info, sizeof info);
        assert_memory_equal(&twin.info, &made.info, sizeof info);
        assert_string_equal(twin.digest, read.digest);
        assert_int_equal(strlen(read.digest), NN_DIGEST_SIZE - 1);
        for (int tta = 0; tta < 2; tta++) {
            run_frame(&made, 50, 70, rgb, fg, tta, &frame[0]);
            for (int again = 0; again < 2; again++) {
                run_frame(&read, 50, 70, rgb, fg, tta, &frame[1]);
                run_frame(&twin, 50, 70, rgb, fg, tta, &frame[2]);
                assert_memory_equal(frame[1].value, frame[0].value, sizeof fg * sizeof(float));
                assert_memory_equal(frame[2].value, frame[0].value, sizeof fg * sizeof(float));
            }
        }
        for (int k = 0; k < 3; k++)
            fpn_frame_free(&frame[k]);
        close_fpn(&twin);
        close_fpn(&read);
        close_fpn(&made);
    }
}

/* A classifier's weights, as ws2-train writes them. */
static const char *write_classifier(uint64_t seed)
{
    const char *path = in_folder("classifier.safetensors");
    struct classifier_info info = {.net = {18, RESNET_STRIDE_16, RESNET_HEAD_MAPS, 3},
                                   .class_name = {"after", "before", "bg"},
                                   .size = 64};
    struct classifier classifier;
    struct classifier_fact fact[CLASSIFIER_FACTS_MAX];
    struct ws2_meta meta = {0};
    struct ws2_error error = {0};
    struct nn *nn = open_nn(&modes[1]);
    must_be_good(classifier_open(&classifier, nn, &info, &error), &error);
    must_be_good(classifier_begin(&classifier, seed, NULL, NULL, &error), &error);
    const int facts = classifier_facts(&classifier, fact);
    for (int i = 0; i < facts; i++)
        ws2_meta_set(&meta, fact[i].key, "%s", fact[i].value);
    must_be_good(ws2_checkpoint_save(classifier.params, &meta, path, &error), &error);
    classifier_close(&classifier);
    nn_close(nn);
    return path;
}

static void expect_unread(const char *path, const char *reason)
{
    struct fpn fpn;
    struct ws2_error error = {0};
    struct nn *nn = open_nn(&modes[1]);
    assert_int_equal(fpn_read(&fpn, nn, path, &error), WS2_ERR_MODEL);
    if (!starts(error.text, path) || strstr(error.text, reason) == NULL)
        fail_msg("'%s' does not say '%s'", error.text, reason);
    assert_null(fpn.params);
    nn_close(nn);
}

enum { FACTS = 5 };

/* A file of these facts and of one number. */
static const char *write_facts(const char *const value[FACTS])
{
    static const char *const key[FACTS] = {"dense", "backbone", "reach", "size", "threshold"};
    const char *path = in_folder("odd.safetensors");
    struct nn_saver *saver = nn_saver_new(path);
    const float number = 1;
    for (int i = 0; i < FACTS; i++)
        if (value[i])
            nn_saver_meta(saver, key[i], value[i]);
    nn_saver_add(saver, "smooth.weight", NN_F32, ws2_shape_1(1), (const uint8_t *)&number, sizeof number);
    assert_int_equal(nn_saver_finish(saver, NULL), 0);
    nn_saver_free(saver);
    return path;
}

static void test_wrong_files(void **state)
{
    (void)state;
    static const struct {
        const char *value[FACTS], *reason;
    } odd[] = {
        {{NULL, "resnet18", "8", "64", "0.5"}, "mark no pixels"},
        {{"pu", "resnet19", "8", "64", "0.5"}, "'backbone' is 'resnet19'"},
        {{"pu", NULL, "8", "64", "0.5"}, "'backbone' is ''"},
        {{"pu", "resnet18", NULL, "64", "0.5"}, "'reach' is ''"},
        {{"pu", "resnet18", "4", "64", "0.5"}, "'reach' is '4'"},
        {{"pu", "resnet18", "32", "64", "0.5"}, "'reach' is '32'"},
        {{"pu", "resnet18", "8", NULL, "0.5"}, "'size' is ''"},
        {{"pu", "resnet18", "8", "0", "0.5"}, "'size' is '0'"},
        {{"pu", "resnet18", "8", "-64", "0.5"}, "'size' is '-64'"},
        {{"pu", "resnet18", "8", "65536", "0.5"}, "'size' is '65536'"},
        {{"pu", "resnet18", "8", "64", NULL}, "'threshold' is ''"},
        {{"pu", "resnet18", "8", "64", ""}, "'threshold' is ''"},
        {{"pu", "resnet18", "8", "64", "-0.1"}, "'threshold' is '-0.1'"},
        {{"pu", "resnet18", "8", "64", "1.1"}, "'threshold' is '1.1'"},
        {{"pu", "resnet18", "8", "64", "nan"}, "'threshold' is 'nan'"},
        {{"pu", "resnet18", "8", "64", "high"}, "'threshold' is 'high'"},
        {{"pu", "resnet18", "8", "64", "0.5x"}, "'threshold' is '0.5x'"},
        {{"pu", "resnet18", "8", "64", "0.5"}, "conv1.weight"},
        {{"pu", "resnet18", "16", "64", "1"}, "conv1.weight"},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        expect_unread(write_facts(odd[i].value), odd[i].reason);
    expect_unread(write_classifier(1), "mark no pixels");
}

/* Of a classifier's file the layers that are looked at are taken, all else is what the seed drew. */
static void test_begin(void **state)
{
    (void)state;
    const char *path = write_classifier(4);
    struct nn_weights *weights = golden_open(path);
    struct ws2_error error = {0};
    char digest[NN_DIGEST_SIZE];
    assert_int_equal(nn_weights_digest(weights, digest, &error), 0);
    for (int reach = 8; reach <= 16; reach += 8) {
        struct fpn given, drawn;
        struct nn_load_report report;
        open_fpn(&given, &modes[1], info_of(reach, 64));
        open_fpn(&drawn, &modes[1], info_of(reach, 64));
        must_be_good(fpn_begin(&given, 7, path, &report, &error), &error);
        must_be_good(fpn_begin(&drawn, 7, NULL, NULL, &error), &error);
        assert_string_equal(given.digest, digest);
        assert_string_equal(drawn.digest, "");
        assert_int_equal(report.skipped, reach == 16 ? 14 : 12);
        assert_int_equal(report.loaded + report.skipped, nn_params_count(given.params));
        assert_int_equal(report.loaded + report.ignored, nn_weights_count(weights));
        for (int i = 0; i < nn_params_count(given.params); i++) {
            const struct nn_param *param = nn_params_at(given.params, i);
            const size_t count = (size_t)nn_count(param->tensor);
            const int index = nn_weights_find(weights, param->name);
            const bool own = starts(param->name, "lateral") || starts(param->name, "smooth") ||
                             starts(param->name, "logit");
            assert_int_equal(index < 0, own);
            float *a = ws2_calloc(count, sizeof *a), *b = ws2_calloc(count, sizeof *b);
            nn_to_f32(nn_params_context(given.params), param->tensor, a, count);
            if (own)
                nn_to_f32(nn_params_context(drawn.params), nn_params_at(drawn.params, i)->tensor, b, count);
            else
                assert_int_equal(nn_weights_read_f32(weights, index, b, count, NULL), 0);
            assert_memory_equal(a, b, count * sizeof *a);
            free(a);
            free(b);
        }
        close_fpn(&given);
        close_fpn(&drawn);
    }
    nn_weights_close(weights);
}

/* A trunk from a file that has none, and of another depth. */
static void test_wrong_trunks(void **state)
{
    (void)state;
    static const char *const facts[FACTS] = {NULL};
    for (int i = 0; i < 2; i++) {
        const char *path = i ? write_classifier(1) : write_facts(facts);
        struct fpn fpn;
        struct ws2_error error = {0};
        struct fpn_info info = info_of(8, 64);
        info.depth = i ? 34 : 18;
        open_fpn(&fpn, &modes[1], info);
        assert_int_equal(fpn_begin(&fpn, 1, path, NULL, &error), WS2_ERR_MODEL);
        if (!starts(error.text, path) || strstr(error.text, i ? "layer1.2" : "conv1.weight") == NULL)
            fail_msg("'%s'", error.text);
        close_fpn(&fpn);
    }
}

/* ---- frames --------------------------------------------------------------------------------------------------------- */

enum { SQUARE = 64 };

/* What the network says of a picture of its own size, mirrored left to right (bit 0), upside down (bit 1), turned back. */
static void see(const struct fpn *fpn, const uint8_t *rgb, int which, float *out)
{
    static uint8_t turned[SQUARE * SQUARE * 3];
    static float p[SQUARE * SQUARE];
    struct nn *nn = nn_params_context(fpn->params);
    const int right = which & 1 ? SQUARE - 1 : 0, down = which & 2 ? SQUARE - 1 : 0;
    for (int i = 0; i < SQUARE * SQUARE; i++)
        memcpy(turned + 3 * ((i / SQUARE ^ down) * SQUARE + (i % SQUARE ^ right)), rgb + 3 * i, 3);
    nn_scope_begin(nn);
    nn_no_grad_begin(nn);
    struct nn_tensor *x = nn_images_u8(nn, 1, SQUARE, SQUARE, turned, nn_imagenet_mean, nn_imagenet_std);
    nn_to_f32(nn, nn_sigmoid(nn, fpn_forward(fpn, x, false)), p, SQUARE * SQUARE);
    nn_no_grad_end(nn);
    nn_scope_end(nn);
    for (int i = 0; i < SQUARE * SQUARE; i++)
        out[i] = p[(i / SQUARE ^ down) * SQUARE + (i % SQUARE ^ right)];
}

/* The frame by hand: resized, without colour where fg is 0, seen, enlarged. */
static void frame_by_hand(const struct fpn *fpn, int height, int width, const uint8_t *rgb, const uint8_t *fg,
                          bool tta, float *value)
{
    static const uint8_t mean[3] = {124, 116, 104};
    struct nn *nn = nn_params_context(fpn->params);
    const struct ws2_image from = {width, height, 3, (uint8_t *)rgb, 0};
    struct ws2_image to = {0};
    float one[SQUARE * SQUARE], sum[SQUARE * SQUARE] = {0};
    assert_int_equal(ws2_image_resize(&to, &from, SQUARE, SQUARE, WS2_PIL_BILINEAR, NULL), 0);
    for (int i = 0; i < SQUARE * SQUARE; i++) {
        const int y = (2 * (i / SQUARE) + 1) * height / (2 * SQUARE),
                  x = (2 * (i % SQUARE) + 1) * width / (2 * SQUARE);
        if (fg && !fg[y * width + x])
            memcpy(to.data + 3 * i, mean, 3);
    }
    for (int which = 0; which < (tta ? 4 : 1); which++) {
        see(fpn, to.data, which, one);
        for (int i = 0; i < SQUARE * SQUARE; i++)
            sum[i] += one[i] / (tta ? 4 : 1);
    }
    ws2_image_free(&to);
    nn_scope_begin(nn);
    struct nn_tensor *y = nn_from_f32(nn, ws2_shape_4(1, 1, SQUARE, SQUARE), sum);
    nn_to_f32(nn, nn_resize_bilinear(nn, y, height, width, false), value, (size_t)(height * width));
    nn_scope_end(nn);
    for (int i = 0; fg && i < height * width; i++)
        value[i] = fg[i] ? value[i] : 0;
}

static void test_frames(void **state)
{
    (void)state;
    static const int size[][2] = {{50, 70}, {64, 64}, {131, 66}, {1, 1}, {9, 200}, {64, 63}};
    static uint8_t rgb[131 * 200 * 3], fg[131 * 200];
    static float want[131 * 200];
    struct fpn fpn;
    struct fpn_frame frame = {NULL};
    generator_image("frames", rgb, sizeof rgb);
    for (size_t i = 0; i < sizeof fg; i++)
        fg[i] = i / 37 % 3 > 0;
    open_fpn(&fpn, &modes[1], info_of(8, SQUARE));
    assert_int_equal(generator_fill(fpn.params, NULL), 0);
    for (int i = 0; i < 6; i++)
        for (int kind = 0; kind < 4; kind++) {
            const int h = size[i][0], w = size[i][1];
            const uint8_t *mask = kind & 1 ? fg : NULL;
            frame_by_hand(&fpn, h, w, rgb, mask, kind & 2, want);
            run_frame(&fpn, h, w, rgb, mask, kind & 2, &frame);
            for (int k = 0; k < h * w; k++) {
                if (!(fabsf(frame.value[k] - want[k]) <= 1e-5f))
                    fail_msg("%dx%d, kind %d: %g is not %g", h, w, kind, (double)frame.value[k],
                             (double)want[k]);
                assert_true(frame.value[k] >= 0 && frame.value[k] <= 1);
            }
        }
    fpn_frame_free(&frame);
    close_fpn(&fpn);
}

/* Nothing is nothing, too much is refused, and an error of the network is reported and forgotten. */
static void test_odd_frames(void **state)
{
    (void)state;
    static uint8_t rgb[SQUARE * SQUARE * 3], fg[SQUARE * SQUARE];
    struct fpn fpn;
    struct fpn_frame frame = {NULL};
    struct ws2_error error = {0};
    struct nn *nn = open_fpn(&fpn, &modes[1], info_of(16, SQUARE));
    assert_int_equal(generator_fill(fpn.params, NULL), 0);
    assert_int_equal(fpn_frame_run(&fpn, 0, 70, rgb, fg, true, &frame, &error), 0);
    assert_int_equal(fpn_frame_run(&fpn, 50, 0, rgb, NULL, false, &frame, &error), 0);
    assert_null(frame.value);
    assert_int_equal(fpn_frame_run(&fpn, 1, WS2_IMAGE_SIDE_MAX + 1, rgb, NULL, false, &frame, &error),
                     WS2_ERR_INPUT);
    error = (struct ws2_error){0};
    nn_fail(nn, WS2_ERR_SYSTEM, "no reason");
    assert_int_equal(fpn_frame_run(&fpn, SQUARE, SQUARE, rgb, NULL, false, &frame, &error), WS2_ERR_SYSTEM);
    assert_null(nn_error(nn));
    run_frame(&fpn, SQUARE, SQUARE, rgb, fg, true, &frame);
    for (int i = 0; i < SQUARE * SQUARE; i++) /* nothing lies on the belt */
        assert_true(frame.value[i] == 0);
    fpn_frame_free(&frame);
    close_fpn(&fpn);
}

/* ---- rounds --------------------------------------------------------------------------------------------------------- */

/* Items of clips_help.h: red before the sorter, blue after it. */
static struct ws2_data open_data(void)
{
    const char *const path[] = {in_folder("b.ws2"), in_folder("a0.ws2"), in_folder("a1.ws2"),
                                in_folder("a2.ws2")};
    const struct ws2_data_options options = {.path = path,
                                             .paths = 4,
                                             .share = 0.3,
                                             .loader = {.classes = 2,
                                                        .background = WS2_BACKGROUND_REMOVE,
                                                        .fill = WS2_FILL_MEAN,
                                                        .size = 32,
                                                        .flip_x = true,
                                                        .flip_y = true,
                                                        .dense = true,
                                                        .transpose = true,
                                                        .light = {0.05, 0.1, 0.03},
                                                        .seed = 1,
                                                        .batch = 4,
                                                        .threads = 1}};
    struct ws2_data data;
    struct ws2_error error = {0};
    must_be_good(ws2_data_open(&data, &options, &error), &error);
    return data;
}

/* What a round reported. */
struct seen {
    int epochs;
    double first; /* loss of the first step */
};

static int watch(void *context, int64_t step, int64_t steps, double loss, double rate,
                 const struct ws2_epoch *epoch)
{
    struct seen *seen = context;
    (void)steps;
    (void)rate;
    assert_true(isfinite(loss));
    seen->epochs += epoch != NULL;
    if (step == 1 && epoch == NULL)
        seen->first = loss;
    return 0;
}

static struct dense_options rounds_options(void)
{
    return (struct dense_options){.net = info_of(8, 32),
                                  .seed = 5,
                                  .pu = {0.5, WS2_PU_ABSOLUTE, 0, 1},
                                  .rates = {WS2_OPTIMISER_AUTO, NAN, NAN, NAN},
                                  .low = NAN,
                                  .high = NAN};
}

/* A round of two epochs, `stop` of them now, in a context of its own or the last round's. */
static struct seen learn_round(int number, const struct dense_round *last, const char *name, int64_t stop,
                               bool resume, int status, struct dense_round *round)
{
    char path[160];
    struct seen seen = {0};
    struct ws2_error error = {0};
    struct ws2_data data = open_data();
    snprintf(path, sizeof path, "%s", in_folder(name));
    const struct dense_options options = rounds_options();
    const struct ws2_train_options run = {
        .epochs = 2, .stop_epoch = stop, .output = path, .resume = resume, .report = watch, .context = &seen};
    struct nn *nn = last ? nn_params_context(last->fpn.params) : open_nn(&modes[1]);
    const int got = dense_learn(round, nn, number, last, &options, &data, &run, &error);
    if (got != status)
        fail_msg("%s: %d is not %d: %s", name, got, status, error.text);
    ws2_data_close(&data);
    return seen;
}

static bool there(const char *name)
{
    return access(in_folder(name), F_OK) == 0;
}

static void assert_same_files(const char *a, const char *b)
{
    size_t m, n;
    uint8_t *x = slurp(in_folder(a), &m), *y = slurp(in_folder(b), &n);
    assert_int_equal(m, n);
    assert_memory_equal(x, y, m);
    free(x);
    free(y);
}

/* What the file of a round says is what is known of it. */
static void check_file(const char *name, const struct dense_round *round, const char *number)
{
    struct nn_weights *weights = golden_open(in_folder(name));
    assert_string_equal(nn_weights_meta(weights, "dense"), "pu");
    assert_string_equal(nn_weights_meta(weights, "round"), number);
    assert_string_equal(nn_weights_meta(weights, "prior"), "0.5000");
    assert_string_equal(nn_weights_meta(weights, "method"), *number == '0' ? "pu" : "round");
    assert_true(fabs(atof(nn_weights_meta(weights, "threshold")) - round->fpn.info.threshold) < 1e-9);
    nn_weights_close(weights);
    const struct ws2_pu_figures f = ws2_pu_judge(&round->scores, 0.5, round->fpn.info.threshold);
    assert_memory_equal(&f, &round->figures, sizeof f);
    assert_true(round->scores.pixels[0] > 0 && round->scores.pixels[1] > 0);
    assert_true(isfinite(f.iou) && f.iou <= f.recall);
}

static void close_rounds(struct dense_round *first, struct dense_round *second)
{
    struct nn *nn = nn_params_context(first->fpn.params);
    dense_round_close(second);
    dense_round_close(first);
    close_nn(nn);
}

/* Two rounds; the second from the first one's file; each left after an epoch and taken up again: the same bytes. */
static void test_rounds(void **state)
{
    (void)state;
    struct dense_round first, second, again, more;
    assert_int_equal(learn_round(0, NULL, "r0", 0, false, WS2_TRAIN_DONE, &first).epochs, 2);
    assert_int_equal(learn_round(1, &first, "r1", 0, false, WS2_TRAIN_DONE, &second).epochs, 2);
    check_file("r0", &first, "0");
    check_file("r1", &second, "1");
    assert_false(there("r0.learnt") || there("r0.learnt.last") || there("r0.learnt.best"));
    assert_false(there("r1.learnt") || there("r1.learnt.last") || there("r1.learnt.best"));
    assert_int_equal(learn_round(0, NULL, "r0", 0, true, WS2_TRAIN_DONE, &again).epochs, 0);
    assert_memory_equal(&again.scores, &first.scores, sizeof first.scores);
    assert_memory_equal(&again.figures, &first.figures, sizeof first.figures);
    assert_int_equal(learn_round(1, &again, "s1", 0, true, WS2_TRAIN_DONE, &more).epochs, 2);
    assert_same_files("r1", "s1");
    close_rounds(&again, &more);
    struct dense_round half;
    assert_int_equal(learn_round(0, NULL, "t0", 1, false, WS2_TRAIN_STOPPED, &half).epochs, 1);
    assert_true(there("t0.learnt.last") && !there("t0"));
    struct nn *nn = nn_params_context(half.fpn.params);
    dense_round_close(&half);
    close_nn(nn);
    assert_int_equal(learn_round(0, NULL, "t0", 0, true, WS2_TRAIN_DONE, &again).epochs, 1);
    assert_same_files("r0", "t0");
    assert_int_equal(learn_round(1, &again, "t1", 1, true, WS2_TRAIN_STOPPED, &more).epochs, 1);
    dense_round_close(&more);
    assert_int_equal(learn_round(1, &again, "t1", 0, true, WS2_TRAIN_DONE, &more).epochs, 1);
    assert_same_files("r1", "t1");
    close_rounds(&again, &more);
    close_rounds(&first, &second);
}

static struct nn_tensor *teacher_forward(void *model, struct nn_tensor *images, bool training)
{
    return fpn_forward(model, images, training);
}

/* The loss of the first step by hand: of the seed's network and the first batch, in the second round with the labels that
 * the last network gives. */
static double first_loss(int number, const struct dense_round *last, struct nn *nn)
{
    enum { SMALL = 32 * 32, ALL = 4 * SMALL };
    const struct dense_options options = rounds_options();
    const struct ws2_segmenter teacher = {last ? (void *)&last->fpn : NULL, NULL, teacher_forward};
    float p[ALL], wanted[ALL], unwanted[ALL];
    double low, high;
    struct ws2_data data = open_data();
    struct ws2_batch batch;
    struct ws2_scores scores;
    struct ws2_error error = {0};
    struct fpn fpn;
    must_be_good(fpn_open(&fpn, nn, &options.net, &error), &error);
    must_be_good(fpn_begin(&fpn, options.seed + (uint64_t)number, NULL, NULL, &error), &error);
    dense_quantiles(0.5, &low, &high);
    if (last)
        must_be_good(ws2_scores_measure(&scores, nn, &teacher, data.train, &error), &error);
    assert_int_equal(ws2_loader_start(data.train, 0, &error), 0);
    assert_int_equal(ws2_loader_next(data.train, &batch, &error), 1);
    nn_scope_begin(nn);
    struct nn_tensor *x = ws2_batch_images(nn, &batch, batch.rgb), *loss;
    if (last) {
        low = ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, low);
        high = ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, high);
        assert_true(0.001 < low && low < high);
        nn_to_f32(nn, nn_sigmoid(nn, fpn_forward(&last->fpn, x, false)), p, ALL);
        for (int i = 0; i < ALL; i++) {
            const bool on = batch.keep[i], before = batch.label[i / SMALL] == WS2_CLASS_BEFORE;
            wanted[i] = !on ? 0 : !before ? 0.5f : (double)p[i] < low ? 1 : 0;
            unwanted[i] = on && before && (double)p[i] >= high ? 1 : 0;
        }
        loss = ws2_balanced_loss(nn, fpn_forward(&fpn, x, true), wanted, unwanted);
    } else {
        loss = ws2_pu_loss(nn, fpn_forward(&fpn, x, true), batch.keep, batch.label, &options.pu).total;
    }
    const double value = nn_item(nn, loss);
    nn_scope_end(nn);
    fpn_close(&fpn);
    ws2_data_close(&data);
    return value;
}

static void test_first_steps(void **state)
{
    (void)state;
    struct dense_round first, second;
    const struct seen one = learn_round(0, NULL, "u0", 0, false, WS2_TRAIN_DONE, &first);
    struct nn *nn = nn_params_context(first.fpn.params);
    assert_true(fabs(one.first - first_loss(0, NULL, nn)) <= 1e-6);
    const struct seen two = learn_round(1, &first, "u1", 0, false, WS2_TRAIN_DONE, &second);
    assert_true(fabs(two.first - first_loss(1, &first, nn)) <= 1e-6);
    close_rounds(&first, &second);
}

/* Logits of one value. */
struct constant {
    struct nn *nn;
    double value;
};

static struct nn_tensor *constant_forward(void *model, struct nn_tensor *images, bool training)
{
    const struct constant *c = model;
    assert_false(training);
    return nn_full(c->nn, ws2_shape_4(nn_dim(images, 0), 1, nn_dim(images, 2), nn_dim(images, 3)), c->value,
                   NN_F32);
}

/* Every pixel on the belt once, in its bin; shares of the belt that is covered. */
static void test_scores_of_clips(void **state)
{
    (void)state;
    static const struct {
        double logit;
        int bin;
    } value[] = {{0, 500}, {-90, 0}, {90, 999}, {-2.2, 99}};
    struct ws2_data data = open_data();
    struct ws2_error error = {0};
    struct ws2_scores scores;
    struct ws2_batch batch;
    struct constant constant = {.nn = open_nn(&modes[1])};
    const struct ws2_segmenter net = {&constant, NULL, constant_forward};
    int64_t pixels[2] = {0}, frames[2] = {0};
    double share[2];
    assert_int_equal(ws2_loader_start(data.val, 0, &error), 0);
    while (ws2_loader_next(data.val, &batch, &error) == 1)
        for (int i = 0; i < batch.count * 32 * 32; i++) {
            pixels[batch.label[i / 1024]] += batch.keep[i];
            frames[batch.label[i / 1024]] += i % 1024 == 0;
        }
    must_be_good(dense_shares(data.val, share, &error), &error);
    for (int k = 0; k < 4; k++) {
        constant.value = value[k].logit;
        must_be_good(ws2_scores_measure(&scores, constant.nn, &net, data.val, &error), &error);
        for (int c = 0; c < 2; c++) {
            assert_int_equal(scores.pixels[c], pixels[c]);
            assert_int_equal(scores.count[c][value[k].bin], pixels[c]);
            assert_near(share[c], (double)pixels[c] / (1024 * (double)frames[c]));
        }
    }
    constant.value = NAN;
    assert_int_equal(ws2_scores_measure(&scores, constant.nn, &net, data.val, &error), WS2_ERR_MODEL);
    assert_non_null(strstr(error.text, "not finite"));
    ws2_data_close(&data);
    close_nn(constant.nn);
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
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_no_such_network),
        cmocka_unit_test(test_saved_and_shared),
        cmocka_unit_test(test_wrong_files),
        cmocka_unit_test(test_begin),
        cmocka_unit_test(test_wrong_trunks),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_odd_frames),
        cmocka_unit_test(test_scores_of_clips),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_first_steps),
    };
    return cmocka_run_group_tests(tests, make_belt, remove_folder);
}
