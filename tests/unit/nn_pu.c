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

static const char *const form_names[] = {"absolute", "kiryo", "plain"}; /* by enum ws2_pu_form */
enum { FORMS = sizeof form_names / sizeof *form_names };

/* Logits whose pixels before the sorter are moved up and those after it down. */
static void make_logits(double shift, float *z)
{
    double value[COUNT];
    generator_values("dense logits", value, COUNT, 3);
    for (int i = 0; i < COUNT; i++)
        z[i] = (float)((double)(float)value[i] + (cameras[i / PIXELS] == WS2_CLASS_BEFORE ? shift : -shift));
}

/* Three in four pixels count, each seen by the camera of its picture. */
static void make_keep(uint8_t *keep)
{
    generator_image("dense keep", keep, COUNT);
    for (int i = 0; i < COUNT; i++)
        keep[i] = keep[i] % 4 > 0 ? (uint8_t)(1 + cameras[i / PIXELS]) : 0;
}

static struct nn_tensor *leaf(struct nn *nn, const float *z)
{
    return nn_requires_grad(nn, nn_from_f32(nn, ws2_shape_4(BATCH, 1, HEIGHT, WIDTH), z), true);
}

/* Terms (total, before, wanted, negative) and the gradient of the total. */
static void pu_of(struct nn *nn, const float *z, const uint8_t *keep, const struct ws2_pu_options *options,
                  double terms[4], double *gradient)
{
    nn_scope_begin(nn);
    struct nn_tensor *x = leaf(nn, z);
    const struct ws2_pu_terms t = ws2_pu_loss(nn, x, keep, options);
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
    pu_of(nn, z, keep, &options, terms, gradient);
    snprintf(name, sizeof name, "%s.%g.%s", logit_kinds[kind].name, prior, form_names[form]);
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
                for (int form = 0; form < FORMS; form++)
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

/* The value of a loss of z and, where asked for, its slope along each; ends the scope that was begun for them. */
static double take_loss(struct nn *nn, struct nn_tensor *z, struct nn_tensor *loss, double *gradient)
{
    assert_int_equal(nn_rank(loss), 0);
    const double value = nn_item(nn, loss);
    if (gradient) {
        nn_backward(nn, loss);
        nn_to_f64(nn, nn_leaf_grad(nn, z), gradient, (size_t)nn_count(z));
    }
    nn_scope_end(nn);
    return value;
}

static double balanced_of(struct nn *nn, const float *z, const float *wanted, const float *unwanted,
                          double *gradient)
{
    nn_scope_begin(nn);
    struct nn_tensor *x = leaf(nn, z);
    return take_loss(nn, x, ws2_balanced_loss(nn, x, wanted, unwanted), gradient);
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

/* Mean over the pixels that a camera saw, of what is called unwanted (sign -1) or wanted (1). */
static double mean_by_hand(const float *z, const uint8_t *keep, int64_t camera, double sign)
{
    double sum = 0, n = 0;
    for (int i = 0; i < COUNT; i++)
        if (keep[i] == 1 + camera) {
            sum += softplus(sign * (double)z[i]);
            n++;
        }
    return n > 0 ? sum / n : 0;
}

/* Both branches of those forms that have two: the slope along each of some pixels. */
static void test_pu_slopes(void **state)
{
    (void)state;
    struct nn *nn = open_nn(&modes[0]);
    uint8_t keep[COUNT];
    make_keep(keep);
    for (int kind = 0; kind < KINDS; kind++)
        for (int form = 0; form < FORMS; form++) {
            const struct ws2_pu_options options = {0.6, (enum ws2_pu_form)form, 0.1, 0.5};
            double terms[4], gradient[COUNT], up[4], down[4];
            float z[COUNT];
            make_logits(logit_kinds[kind].shift, z);
            pu_of(nn, z, keep, &options, terms, gradient);
            assert_int_equal(terms[3]<0, kind> 0);
            assert_int_equal(terms[3] < -0.1, kind == 2);
            for (int i = 0; i < COUNT; i += 13) {
                const float old = z[i];
                z[i] = old + 0x1p-10f;
                pu_of(nn, z, keep, &options, up, NULL);
                const float high = z[i];
                z[i] = old - 0x1p-10f;
                pu_of(nn, z, keep, &options, down, NULL);
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
        pu_of(nn, z, keep, &options, terms, gradient);
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
        for (int form = 0; form < FORMS; form++) {
            const struct ws2_pu_options options = {0.5, (enum ws2_pu_form)form, 0, 1};
            double terms[4], gradient[COUNT];
            uint8_t keep[COUNT];
            for (int i = 0; i < COUNT; i++)
                keep[i] = missing >> cameras[i / PIXELS] & 1 ? 0 : (uint8_t)(1 + cameras[i / PIXELS]);
            pu_of(nn, z, keep, &options, terms, gradient);
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
        keep[i] = i % PIXELS < (int[]){1, PIXELS, 2, 9}[i / PIXELS] ? (uint8_t)(1 + cameras[i / PIXELS]) : 0;
    pu_of(nn, z, keep, &options, terms, NULL);
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

/* Which camera it is, is asked of each pixel: a picture may hold items of both. */
static void test_pu_of_both_cameras(void **state)
{
    (void)state;
    struct nn *nn = open_nn(&modes[0]);
    const struct ws2_pu_options options = {0.4, WS2_PU_ABSOLUTE, 0, 1};
    float z[COUNT];
    uint8_t keep[COUNT];
    double terms[4];
    make_logits(0, z);
    generator_image("dense both", keep, COUNT);
    for (int i = 0; i < COUNT; i++)
        keep[i] %= 3;
    pu_of(nn, z, keep, &options, terms, NULL);
    assert_true(fabs(terms[1] - mean_by_hand(z, keep, WS2_CLASS_BEFORE, -1)) < 1e-6);
    assert_true(fabs(terms[2] - mean_by_hand(z, keep, WS2_CLASS_AFTER, 1)) < 1e-6);
    close_nn(nn);
}

/* ---- the frames' own loss ----------------------------------------------------------------------------------------- */

/* Frames of one camera or the other, with no more pixels in all than MOST. */
enum { MOST = 6000 };

struct scene {
    int frames, height, width;
    double share;
    int64_t label[BATCH];
    float z[MOST];
    uint8_t keep[MOST];
};

/* The loss, and its gradient unless that is NULL. */
static double frames_of(struct nn *nn, const struct scene *s, double *gradient)
{
    const struct ws2_frames frames = {s->keep, s->label, s->frames, s->share};
    nn_scope_begin(nn);
    struct nn_tensor *z = nn_from_f32(nn, ws2_shape_4(s->frames, 1, s->height, s->width), s->z);
    z = nn_requires_grad(nn, z, true);
    return take_loss(nn, z, ws2_frame_loss(nn, z, &frames), gradient);
}

/* The golden logits, with items of the other camera laid beside. */
static struct scene golden_scene(double shift, double share)
{
    struct scene s = {.frames = BATCH, .height = HEIGHT, .width = WIDTH, .share = share};
    uint8_t pasted[COUNT];
    memcpy(s.label, cameras, sizeof cameras);
    make_logits(shift, s.z);
    make_keep(s.keep);
    generator_image("dense pasted", pasted, COUNT);
    for (int i = 0; i < COUNT; i++)
        if (!s.keep[i] && pasted[i] % 2)
            s.keep[i] = 1 + WS2_CLASS_AFTER;
    return s;
}

static void test_frame_losses(void **state)
{
    (void)state;
    static const double share[] = {0.01, 0.2, 1};
    for (int m = 0; m < MODES; m++) {
        struct nn *nn = open_nn(&modes[m]);
        for (int kind = 0; kind < KINDS; kind++)
            for (int k = 0; k < 3; k++) {
                const struct scene s = golden_scene(logit_kinds[kind].shift, share[k]);
                double gradient[COUNT];
                char name[64];
                const double value = frames_of(nn, &s, gradient);
                snprintf(name, sizeof name, "frames.%s.%g", logit_kinds[kind].name, share[k]);
                compare(name, &value, 1, 1e-6);
                snprintf(name, sizeof name, "frames.%s.%g.gradient", logit_kinds[kind].name, share[k]);
                compare(name, gradient, COUNT, 1e-5);
            }
        close_nn(nn);
    }
}

struct place {
    float z;
    int at;
};

/* The larger first, of equal ones the one that comes first. */
static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->z != y->z ? (x->z < y->z) - (x->z > y->z) : x->at - y->at;
}

/* The same by sorting. */
static double frames_by_hand(const struct scene *s, double *gradient)
{
    static struct place place[MOST];
    const int pixels = s->height * s->width;
    double sum = 0;
    int counted = 0;
    memset(gradient, 0, (size_t)(s->frames * pixels) * sizeof *gradient);
    for (int b = 0; b < s->frames; b++) {
        const double sign = s->label[b] == WS2_CLASS_BEFORE ? -1 : 1;
        double top = 0;
        int n = 0;
        for (int i = b * pixels; i < (b + 1) * pixels; i++)
            if (s->keep[i] == 1 + s->label[b])
                place[n++] = (struct place){s->z[i], i};
        if (n == 0 || n < WS2_FRAME_LEAST * pixels)
            continue;
        qsort(place, (size_t)n, sizeof *place, compare_places);
        const int k = (int)fmax(1, s->share * n);
        for (int i = 0; i < k; i++)
            top += (double)place[i].z / k;
        for (int i = 0; i < k; i++)
            gradient[place[i].at] = sign / (1 + exp(-sign * top)) / k;
        sum += softplus(sign * top);
        counted++;
    }
    for (int i = 0; counted && i < s->frames * pixels; i++)
        gradient[i] /= counted;
    return counted ? sum / counted : 0;
}

static void check_frames(struct nn *nn, const struct scene *s)
{
    static double gradient[MOST], want[MOST];
    const double value = frames_of(nn, s, gradient), hand = frames_by_hand(s, want);
    if (!(fabs(value - hand) <= 1e-6 * (1 + hand)))
        fail_msg("%d frames of %dx%d, share %g: %g is not %g", s->frames, s->width, s->height, s->share,
                 value, hand);
    for (int i = 0; i < s->frames * s->height * s->width; i++)
        if (!(fabs(gradient[i] - want[i]) <= 1e-6))
            fail_msg("%d frames of %dx%d, share %g: slope %g at %d is not %g", s->frames, s->width, s->height,
                     s->share, gradient[i], i, want[i]);
}

/* A scene of any size, with many or few items and many or no equal logits. */
static void draw_scene(struct ws2_random *random, struct scene *s)
{
    s->frames = 1 + (int)ws2_random_below(random, BATCH);
    s->height = 1 + (int)ws2_random_below(random, 38);
    s->width = 1 + (int)ws2_random_below(random, 38);
    const double levels = (double[]){2, 10, 1e6}[ws2_random_below(random, 3)];
    const double items = (double[]){1, 0.3, 0.002}[ws2_random_below(random, 3)];
    s->share = ws2_random_below(random, 4) ? ws2_random_uniform(random) : 0;
    for (int b = 0; b < s->frames; b++)
        s->label[b] = ws2_random_below(random, 2);
    for (int i = 0; i < s->frames * s->height * s->width; i++) {
        s->z[i] = (float)(floor(levels * ws2_random_uniform(random)) / levels * 8 - 4);
        s->keep[i] = ws2_random_uniform(random) < items ? (uint8_t)(1 + ws2_random_below(random, 2)) : 0;
    }
}

static void test_frames_by_sorting(void **state)
{
    (void)state;
    static struct scene s;
    struct nn *nn = open_nn(&modes[0]);
    struct ws2_random random = ws2_random_make(11, 0);
    for (int i = 0; i < 1000; i++) {
        draw_scene(&random, &s);
        check_frames(nn, &s);
    }
    close_nn(nn);
}

/* A share below one pixel is one pixel, all of them are the plain mean. */
static void test_frames_least_and_all(void **state)
{
    (void)state;
    struct nn *nn = open_nn(&modes[0]);
    struct scene s = {.frames = 2, .height = 3, .width = 2, .label = {WS2_CLASS_BEFORE, WS2_CLASS_AFTER}};
    memcpy(s.z, (float[]){-3, 2, 1, 9, -1, 0, -2, 4, -9, 1, 3, 8}, 12 * sizeof(float));
    memcpy(s.keep, (uint8_t[]){2, 2, 2, 0, 2, 0, 1, 1, 1, 1, 1, 0}, 12);
    const double most = (softplus(-2) + softplus(4)) / 2, mean = (softplus(0.25) + softplus(-0.6)) / 2;
    for (int i = 0; i < 4; i++) {
        s.share = (double[]){0, 1e-9, 0.249, 0.26}[i]; /* of 4 pixels and of 5 */
        assert_true(fabs(frames_of(nn, &s, NULL) - most) < 1e-6);
    }
    s.share = 1;
    assert_true(fabs(frames_of(nn, &s, NULL) - mean) < 1e-6);
    close_nn(nn);
}

/* Of equal logits those that come first are looked at. */
static void test_frames_ties(void **state)
{
    (void)state;
    enum { SIDE = 4, ALL = SIDE * SIDE };
    struct nn *nn = open_nn(&modes[1]);
    struct scene s = {.frames = 1, .height = SIDE, .width = SIDE, .share = 0.3, .label = {WS2_CLASS_BEFORE}};
    double gradient[ALL];
    int looked = 0, own = 0;
    for (int i = 0; i < ALL; i++) {
        s.z[i] = i == 13 ? 1 : 0.5f;
        s.keep[i] = i % 3 == 0 ? 0 : 2;
    }
    frames_of(nn, &s, gradient);
    for (int i = 0; i < ALL; i++) { /* 10 own ones: the largest and the first two of the others */
        assert_int_equal(gradient[i] != 0, i == 13 || i == 1 || i == 2);
        looked += gradient[i] != 0;
        own += s.keep[i] != 0;
    }
    assert_int_equal(looked, 3);
    assert_int_equal(own, 10);
    close_nn(nn);
}

/* Frames with next to nothing of their own do not count; where none is left, nothing is learnt. */
static void test_frames_with_too_little(void **state)
{
    (void)state;
    enum { ALL = 2000 }; /* the least is two pixels */
    static struct scene s = {.frames = 2, .height = 40, .width = 50, .share = 0.5, .label = {1, 0}};
    static double gradient[2 * ALL];
    struct nn *nn = open_nn(&modes[0]);
    for (int own = 0; own <= 2; own++) { /* of the frame before the sorter */
        memset(s.keep, 0, sizeof s.keep);
        for (int i = 0; i < own; i++)
            s.keep[100 + i] = 2;
        for (int i = 0; i < 2 * ALL; i++)
            s.z[i] = 1;
        assert_true(fabs(frames_of(nn, &s, gradient) - (own == 2 ? softplus(-1) : 0)) < 1e-6);
        for (int i = 0; i < 2 * ALL; i++)
            assert_int_equal(gradient[i] != 0, own == 2 && i == 100);
        s.keep[ALL] = s.keep[ALL + 1] = 1; /* now the other one counts, alone or with it */
        const double want = own == 2 ? (softplus(-1) + softplus(1)) / 2 : softplus(1);
        assert_true(fabs(frames_of(nn, &s, gradient) - want) < 1e-6);
        assert_true(gradient[ALL] > 0 && (gradient[100] < 0) == (own == 2));
    }
    close_nn(nn);
}

/* Items of the other camera laid beside say nothing of a frame before the sorter, but of one after it: they are of its
 * camera too. */
static void test_frames_with_items_beside(void **state)
{
    (void)state;
    struct nn *nn = open_nn(&modes[0]);
    double gradient[COUNT];
    for (int camera = 0; camera < 2; camera++) {
        struct scene s = {.frames = 1, .height = HEIGHT, .width = WIDTH, .share = 0.1, .label = {camera}};
        for (int i = 0; i < 50; i++)
            s.keep[i] = (uint8_t)(1 + camera);
        const double alone = frames_of(nn, &s, NULL);
        for (int i = 60; i < 70; i++) {
            s.keep[i] = 1 + WS2_CLASS_AFTER;
            s.z[i] = 5;
        }
        const double beside = frames_of(nn, &s, gradient);
        assert_true(fabs(alone - log(2)) < 1e-6);
        assert_true(fabs(beside - (camera == WS2_CLASS_AFTER ? softplus(5) : log(2))) < 1e-6);
        assert_int_equal(gradient[60] != 0, camera == WS2_CLASS_AFTER);
    }
    close_nn(nn);
}

/* ---- labels ----------------------------------------------------------------------------------------------------------- */

static double labels_of(struct nn *nn, const float *z, const uint8_t *keep, const uint8_t *label,
                        double *gradient)
{
    nn_scope_begin(nn);
    struct nn_tensor *x = leaf(nn, z);
    return take_loss(nn, x, ws2_labels_loss(nn, x, keep, label), gradient);
}

static void test_labels_loss(void **state)
{
    (void)state;
    float z[COUNT];
    uint8_t keep[COUNT], label[COUNT];
    double gradient[COUNT];
    make_logits(0, z);
    make_keep(keep);
    generator_image("dense labels", label, COUNT);
    for (int i = 0; i < COUNT; i++)
        label[i] = (uint8_t[]){0, 1, 255}[label[i] % 3];
    for (int m = 0; m < MODES; m++) {
        struct nn *nn = open_nn(&modes[m]);
        const double value = labels_of(nn, z, keep, label, gradient);
        compare("labels", &value, 1, 1e-6);
        compare("labels.gradient", gradient, COUNT, 1e-5);
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(gradient[i] != 0, keep[i] && label[i] <= 1);
        close_nn(nn);
    }
}

/* Whatever lies off the belt or has another number is unknown. */
static void test_labels_unknown(void **state)
{
    (void)state;
    struct nn *nn = open_nn(&modes[1]);
    float z[COUNT];
    uint8_t keep[COUNT] = {0}, label[COUNT];
    double gradient[COUNT];
    make_logits(0, z);
    for (int i = 0; i < COUNT; i++) {
        keep[i] = i % 2 ? (uint8_t)(1 + i % 3 % 2) : 0;
        label[i] = i % 2 ? (uint8_t)(i % 5 ? 255 : 2) : (uint8_t)(i / 2 % 2);
    }
    assert_true(labels_of(nn, z, keep, label, gradient) == 0);
    for (int i = 0; i < COUNT; i++)
        assert_true(gradient[i] == 0);
    label[7] = 1;
    assert_true(fabs(labels_of(nn, z, keep, label, gradient) - softplus(-(double)z[7])) < 1e-6);
    label[7] = 0;
    assert_true(fabs(labels_of(nn, z, keep, label, gradient) - softplus((double)z[7])) < 1e-6);
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
    static uint8_t keep[2 * DRAWN];
    struct nn *nn = open_nn(&modes[1]);
    struct nn_params *params = nn_params_new(nn);
    const struct nn_init zero = nn_init_make(NN_INIT_CONSTANT, 0);
    struct nn_tensor *scale = nn_declare(params, NN_WEIGHT, "scale", ws2_shape_1(1), zero),
                     *shift = nn_declare(params, NN_BIAS, "shift", ws2_shape_1(1), zero);
    struct nn_tensor *x = nn_from_f32(nn, ws2_shape_4(2, 1, 100, DRAWN / 100), m->x[0]);
    struct nn_optim *optim = nn_optim_new(params, &(struct nn_optim_options){.kind = NN_ADAM});
    memset(keep, 1 + WS2_CLASS_AFTER, DRAWN);
    memset(keep + DRAWN, 1 + WS2_CLASS_BEFORE, DRAWN);
    for (int step = 0; step < 250; step++) {
        nn_scope_begin(nn);
        struct nn_tensor *z = nn_add(nn, nn_mul(nn, x, scale), shift);
        nn_params_zero_grad(params);
        nn_backward(nn, ws2_pu_loss(nn, z, keep, options).total);
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

/* What is true of a boundary: shares of unwanted and wanted things before the sorter above it, and their IoU. */
struct truth {
    double recall, iou;
};

static struct truth look(const struct mixture *m, struct model model, double threshold)
{
    double found = 0, all = 0, both = 0;
    for (int i = 0; i < DRAWN; i++) {
        const bool called =
            1 / (1 + exp(-(model.scale * (double)m->x[WS2_CLASS_BEFORE][i] + model.shift))) >= threshold;
        found += called && m->unwanted[i];
        both += called || m->unwanted[i];
        all += m->unwanted[i];
    }
    return (struct truth){found / all, found / both};
}

/* What is found without truth is near the truth, as both cameras see alike. */
static struct truth compare_truth(const struct mixture *m, struct model model,
                                  const struct ws2_scores *scores, double prior, double threshold)
{
    const struct ws2_pu_figures f = ws2_pu_judge(scores, prior, threshold);
    const struct truth truth = look(m, model, threshold);
    assert_true(fabs(f.recall - truth.recall) <= 0.05);
    assert_true(fabs(f.iou - truth.iou) <= 0.05);
    return truth;
}

/* The corrected forms find Bayes' boundary at 1/2; with any form the threshold that is found without truth is nearly as good as
 * the best of those that mark no more after the sorter than may be. */
static void check_mixture(double prior, enum ws2_pu_form form)
{
    const struct ws2_pu_options options = {prior, form, 0, 1};
    const struct mixture *m = draw_mixture(prior, 5);
    const struct model model = learn_mixture(m, &options);
    const double bayes = 0.5 * log(prior / (1 - prior)), boundary = -model.shift / model.scale;
    const double wrong = error_at(boundary, prior), least = error_at(bayes, prior);
    if (!(model.scale > 0) || !(form == WS2_PU_PLAIN || wrong - least <= 0.01))
        fail_msg("prior %g: boundary %.3f, not %.3f; %.4f are wrong, not %.4f", prior, boundary, bayes, wrong,
                 least);
    const struct ws2_scores scores = score_mixture(m, model);
    const struct truth chosen = compare_truth(m, model, &scores, prior, ws2_pu_threshold(&scores, prior));
    double best = 0;
    for (int bin = 1; bin < WS2_SCORE_BINS; bin += 10) {
        const double threshold = bin / (double)WS2_SCORE_BINS;
        if (ws2_pu_judge(&scores, prior, threshold).false_positives <= WS2_PU_CLEAN)
            best = fmax(best, look(m, model, threshold).iou);
    }
    assert_true(best > 0.1 && chosen.iou >= best - 0.02);
    if (form != WS2_PU_PLAIN)
        compare_truth(m, model, &scores, prior, 0.5);
}

static void test_mixtures(void **state)
{
    (void)state;
    for (int tenths = 1; tenths < 10; tenths += 2)
        for (int form = 0; form < FORMS; form++)
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
    put(&scores, WS2_CLASS_BEFORE, 700, 40);
    put(&scores, WS2_CLASS_BEFORE, 900, 20);
    put(&scores, WS2_CLASS_AFTER, 100, 88);
    put(&scores, WS2_CLASS_AFTER, 700, 7);
    put(&scores, WS2_CLASS_AFTER, 900, 5);
    for (int i = 0; i < 2; i++) { /* at the edge of a bin, which counts, and just above it */
        const struct ws2_pu_figures f = ws2_pu_judge(&scores, 0.5, i ? 0.7 : 0.1001);
        assert_near(f.before, 0.6);
        assert_near(f.after, 0.12);
        assert_near(f.recall, 1.08);
        assert_near(f.most, 0.35); /* not 1.08, where too much is marked after the sorter */
        assert_near(f.false_positives, 0.12);
        assert_near(f.iou, 0.54 / 0.56);
    }
    assert_near(ws2_pu_judge(&scores, 0.5, 0.7001).before, 0.2);
    assert_near(ws2_pu_judge(&scores, 0.5, 1).recall, 0);
    assert_near(ws2_pu_judge(&scores, 0.5, 1).most, 0.35); /* whatever the threshold */
    assert_near(ws2_pu_judge(&scores, 0.5, 0.1).recall, 1);
    assert_near(ws2_pu_judge(&scores, 0.5, 0.1).most, 0.35);
    for (int i = 0; i < 2; i++) { /* all is called unwanted: as much as there is is found */
        const struct ws2_pu_figures f = ws2_pu_judge(&scores, 0.25, 0.1 * i);
        assert_near(f.recall, 1);
        assert_near(f.false_positives, 1);
        assert_near(f.iou, 0.75);
        assert_near(f.most, 0.1875 / 0.75);
    }
    const struct ws2_scores empty = {0};
    const struct ws2_pu_figures f = ws2_pu_judge(&empty, 0.5, 0.5);
    assert_true(f.before == 0 && f.after == 0 && f.recall == 0 && f.iou == 0 && f.most == 0);
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
        if (share[WS2_CLASS_AFTER] < 0.1 + 1e-9 && found / (1 - prior + wanted) > most + 1e-12) {
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
    put(&scores, WS2_CLASS_AFTER, 999, 10); /* 11 of 111: still clean enough from 0.1 on */
    assert_near(ws2_pu_threshold(&scores, 0.5), 0.801);
    put(&scores, WS2_CLASS_AFTER, 820, 2); /* 13 of 113 are too many, 12 as well, 10 are not */
    assert_near(ws2_pu_threshold(&scores, 0.5), 0.821);
    put(&scores, WS2_CLASS_AFTER, 999, 10); /* each marks too many */
    assert_near(ws2_pu_threshold(&scores, 0.5), 0.821);
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

static void test_verdicts(void **state)
{
    (void)state;
    static const char apart[] =
        "recall far above 1 cannot be: the network tells the cameras apart; try --flat-field, a "
        "smaller --reach or more clips",
                      confused[] =
                          "wanted items after the sorter are marked as well: try more epochs or more clips",
                      little[] = "little is found: the sorter misses much, or clips are too few";
    static const struct {
        double recall, most, false_positives;
        const char *text;
    } figures[] = {{0.9, 1.5, 0.1, "plausible"}, {0.5, 1, 0, "plausible"}, {0.4999, 1, 0, little},
                   {0.9, 1.5001, 0, apart},      {0.1, 1.6, 0.5, apart},   {1, 0.5, 0.1001, confused},
                   {0.1, 0.5, 0.3, confused}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        const struct ws2_pu_figures f = {.recall = figures[i].recall,
                                         .most = figures[i].most,
                                         .false_positives = figures[i].false_positives};
        assert_string_equal(ws2_pu_verdict(&f), figures[i].text);
        assert_int_equal(ws2_pu_verdict(&f) == ws2_pu_plausible, i < 2);
    }
}

static void test_judge_of_labels(void **state)
{
    (void)state;
    struct ws2_scores scores = {0};
    assert_near(ws2_labels_threshold(&scores), 0.5); /* nobody knows */
    put(&scores, 0, 100, 290);
    put(&scores, 0, 700, 10);
    assert_near(ws2_labels_threshold(&scores), 0.5); /* there is nothing to find */
    assert_near(ws2_labels_judge(&scores, 0.5).iou, 0);
    put(&scores, 1, 100, 20);
    put(&scores, 1, 700, 70);
    put(&scores, 1, 900, 10);
    assert_near(ws2_labels_threshold(&scores), 0.101); /* the lowest of many */
    for (int i = 0; i < 2; i++) { /* at the edge of a bin, which counts, and further down */
        const struct ws2_pu_figures f = ws2_labels_judge(&scores, i ? 0.7 : 0.1001);
        assert_near(f.before, 0.8);
        assert_near(f.after, 10.0 / 300);
        assert_near(f.recall, 0.8);
        assert_near(f.most, 0.8);
        assert_near(f.false_positives, 10.0 / 300);
        assert_near(f.iou, 80.0 / 110);
    }
    assert_near(ws2_labels_judge(&scores, 0.8).iou, 0.1);
    assert_near(ws2_labels_judge(&scores, 0).iou, 0.25);
    put(&scores, 1, 901, 2000); /* one label may be far more than the other */
    assert_near(ws2_labels_threshold(&scores), 0.101);
    put(&scores, 0, 700, 1000);
    assert_near(ws2_labels_threshold(&scores), 0.701);
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
        cmocka_unit_test(test_pu_of_both_cameras),
        cmocka_unit_test(test_frame_losses),
        cmocka_unit_test(test_frames_by_sorting),
        cmocka_unit_test(test_frames_least_and_all),
        cmocka_unit_test(test_frames_ties),
        cmocka_unit_test(test_frames_with_too_little),
        cmocka_unit_test(test_frames_with_items_beside),
        cmocka_unit_test(test_labels_loss),
        cmocka_unit_test(test_labels_unknown),
        cmocka_unit_test(test_mixtures),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_judge_of_labels),
        cmocka_unit_test(test_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
