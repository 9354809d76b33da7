/* Learning of pixels in rounds, on a belt of red and blue items. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clips_help.h"
#include "models/dense.h"
#include "modes_help.h"

/* Items of clips_help.h: red before the sorter, blue after it. */
static struct ws2_data_options data_options(const char *const *path, int paths)
{
    return (struct ws2_data_options){.path = path,
                                     .paths = paths,
                                     .share = 0.3,
                                     .halves = true,
                                     .loader = {.classes = 2,
                                                .background = WS2_BACKGROUND_REMOVE,
                                                .fill = WS2_FILL_MEAN,
                                                .size = 32,
                                                .flip_x = true,
                                                .flip_y = true,
                                                .dense = true,
                                                .transpose = true,
                                                .light = {0.05, 0.1, 0.03},
                                                .paste = 0.5,
                                                .seed = 1,
                                                .batch = 4,
                                                .threads = 1}};
}

static struct ws2_data open_data(bool halves)
{
    const char *const path[] = {in_folder("b.ws2"), in_folder("a0.ws2"), in_folder("a1.ws2"),
                                in_folder("a2.ws2")};
    struct ws2_data_options options = data_options(path, 4);
    struct ws2_data data;
    struct ws2_error error = {0};
    options.halves = halves;
    must_be_good(ws2_data_open(&data, &options, &error), &error);
    assert_int_equal(data.half[0] != NULL && data.half[1] != NULL, halves);
    return data;
}

/* Two sequences of one camera, with masks: what is before the sorter is unwanted, and the first row of each is unknown. */
static const char *write_labels(const char *name, enum ws2_role role, bool swapped)
{
    struct clip_options clips[2];
    for (int i = 0; i < 2; i++) {
        clips[i] = clip(name, i ? "l1" : "l0", role, 8);
        clips[i].labels = "truth";
        clips[i].swapped = swapped;
    }
    write_clips(clips, 2);
    return in_folder(name);
}

/* Red is unwanted and before the sorter. adverse: to validate, blue is. labels: look at the masks. */
static struct ws2_data open_labels(bool labels, bool adverse)
{
    const char *const path[] = {write_labels("lb.ws2", WS2_ROLE_BEFORE, false),
                                write_labels("la.ws2", WS2_ROLE_AFTER, false)},
                      *const other[] = {write_labels("kb.ws2", WS2_ROLE_BEFORE, true),
                                        write_labels("ka.ws2", WS2_ROLE_AFTER, true)};
    struct ws2_data_options options = data_options(path, 2);
    struct ws2_data data;
    struct ws2_error error = {0};
    options.validation = other;
    options.validations = adverse ? 2 : 0;
    options.halves = false;
    options.loader.paste = 0;
    options.loader.seeds = labels;
    options.loader.labels = labels ? "truth" : NULL;
    options.loader.cells = options.loader.size;
    must_be_good(ws2_data_open(&data, &options, &error), &error);
    return data;
}

/* What a round reported. */
struct seen {
    int epochs, best, networks;
    int rises;       /* epochs with more than the least loss so far of validation */
    double first[2]; /* loss of each network's first step */
    double least;    /* of this network's validation */
};

static int watch(void *context, int64_t step, int64_t steps, double loss, double rate,
                 const struct ws2_epoch *epoch)
{
    struct seen *seen = context;
    (void)steps;
    (void)rate;
    assert_true(isfinite(loss));
    if (step == 1 && epoch == NULL) {
        seen->least = HUGE_VAL;
        seen->first[seen->networks++] = loss;
    }
    if (epoch == NULL)
        return 0;
    seen->epochs++;
    seen->best += epoch->best;
    seen->rises += !(epoch->val_loss < seen->least);
    seen->least = fmin(seen->least, epoch->val_loss);
    return 0;
}

static struct dense_options rounds_options(void)
{
    struct dense_options options = {.net = {18, 8, 32, 0.25},
                                    .seed = 5,
                                    .pu = {0.5, WS2_PU_ABSOLUTE, 0, 1},
                                    .rates = {WS2_OPTIMISER_AUTO, NAN, NAN, NAN},
                                    .frames = 0.7,
                                    .top = 0.3};
    dense_quantiles(options.pu.prior, &options.low, &options.high);
    return options;
}

/* How a round is learnt: its number, after which one, into which file, or two files with a and b behind the name. */
struct way {
    int number;
    const struct dense_round *last;
    const char *name;
    bool two;
    int64_t stop; /* after so many epochs, of two; 0: not */
    bool resume;
};

/* The names of a way's files. */
static void name_files(const struct way *way, char path[2][160])
{
    for (int i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s%s", way->name, !way->two ? "" : i ? "b" : "a");
        snprintf(path[i], sizeof path[i], "%s", in_folder(name));
    }
}

/* A round of two epochs, in a context of its own or the last round's. */
static struct seen learn(const struct way *way, const struct nn_options *mode, int status,
                         struct dense_round *round)
{
    char path[2][160];
    struct seen seen = {0};
    struct ws2_error error = {0};
    struct ws2_data data = open_data(way->two || (way->last && way->last->networks == 2));
    const struct dense_options options = rounds_options();
    const struct ws2_train_options run = {
        .epochs = 2, .stop_epoch = way->stop, .resume = way->resume, .report = watch, .context = &seen};
    struct nn *nn = way->last ? nn_params_context(way->last->fpn[0].params) : open_nn(mode);
    name_files(way, path);
    const int got = dense_learn(round, nn, way->number, way->last, &options, &data, &run,
                                (const char *const[]){path[0], way->two ? path[1] : NULL}, &error);
    if (got != status)
        fail_msg("%s: %d is not %d: %s", way->name, got, status, error.text);
    assert_int_equal(seen.best, seen.epochs); /* the last one is kept */
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

static void copy_file(const char *from, const char *to)
{
    size_t size;
    uint8_t *data = slurp(in_folder(from), &size);
    FILE *f = fopen(in_folder(to), "wb");
    assert_true(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
    free(data);
}

static void assert_fact(const struct nn_weights *weights, const char *key, const char *value)
{
    const char *have = nn_weights_meta(weights, key);
    if ((have == NULL) != (value == NULL) || (value && strcmp(have, value) != 0))
        fail_msg("%s is %s, not %s", key, have ? have : "none", value ? value : "none");
}

/* What the file of a network says is what is known of it. */
static void check_file(const char *name, const struct fpn *fpn, const char *number, const char *half,
                       const char *quantiles)
{
    struct nn_weights *weights = golden_open(in_folder(name));
    assert_fact(weights, "dense", "pu");
    assert_fact(weights, "round", number);
    assert_fact(weights, "prior", "0.5000");
    assert_fact(weights, "frames", "weight 0.7, top 0.3");
    assert_fact(weights, "paste", "0.5");
    assert_fact(weights, "method", *number == '0' ? "pu" : "round");
    assert_fact(weights, "half", half);
    assert_fact(weights, "quantiles", quantiles);
    assert_true(fabs(atof(nn_weights_meta(weights, "threshold")) - fpn->info.threshold) < 1e-9);
    nn_weights_close(weights);
    char learnt[32];
    snprintf(learnt, sizeof learnt, "%s.learnt", name);
    assert_false(there(learnt));
    snprintf(learnt, sizeof learnt, "%s.learnt.last", name);
    assert_false(there(learnt));
    snprintf(learnt, sizeof learnt, "%s.learnt.best", name);
    assert_false(there(learnt));
}

/* The figures are those of all scores at the first network's threshold. */
static void check_figures(const struct dense_round *round)
{
    const struct ws2_pu_figures f = ws2_pu_judge(&round->scores, 0.5, round->fpn[0].info.threshold);
    assert_memory_equal(&f, &round->figures, sizeof f);
    assert_true(round->scores.pixels[0] > 0 && round->scores.pixels[1] > 0);
    assert_true(isfinite(f.iou) && f.iou <= f.recall && f.recall <= f.most);
}

static void assert_same_rounds(const struct dense_round *a, const struct dense_round *b)
{
    assert_int_equal(a->networks, b->networks);
    assert_memory_equal(&a->scores, &b->scores, sizeof a->scores);
    assert_memory_equal(&a->figures, &b->figures, sizeof a->figures);
}

static void close_rounds(struct dense_round *first, struct dense_round *second)
{
    struct nn *nn = nn_params_context(first->fpn[0].params);
    dense_round_close(second);
    dense_round_close(first);
    close_nn(nn);
}

/* Two networks, then one that learns from both. */
static void test_rounds_of_halves(void **state)
{
    (void)state;
    struct dense_round first, second, again, more;
    const struct seen one = learn(&(struct way){0, NULL, "r0", true, 0, false}, &modes[1], WS2_TRAIN_DONE,
                                  &first),
                      two = learn(&(struct way){1, &first, "r1", false, 0, false}, NULL, WS2_TRAIN_DONE,
                                  &second);
    assert_true(one.epochs == 4 && one.networks == 2 && two.epochs == 2 && two.networks == 1);
    check_file("r0a", &first.fpn[0], "0", "first", NULL);
    check_file("r0b", &first.fpn[1], "0", "second", NULL);
    check_file("r1", &second.fpn[0], "1", NULL, "0.3875 and 0.7425, by the other half");
    check_figures(&first);
    check_figures(&second);
    for (int camera = 0; camera < 2; camera++) /* both networks see all of validation */
        assert_int_equal(first.scores.pixels[camera], 2 * second.scores.pixels[camera]);
    assert_null(second.fpn[1].params);
    /* what is there is read */
    assert_int_equal(
        learn(&(struct way){0, NULL, "r0", true, 0, true}, &modes[1], WS2_TRAIN_DONE, &again).epochs, 0);
    assert_same_rounds(&again, &first);
    assert_int_equal(
        learn(&(struct way){1, &again, "r1", false, 0, true}, NULL, WS2_TRAIN_DONE, &more).epochs, 0);
    assert_same_rounds(&more, &second);
    dense_round_close(&more);
    /* and as good to learn from */
    assert_int_equal(
        learn(&(struct way){1, &again, "s1", false, 0, true}, NULL, WS2_TRAIN_DONE, &more).epochs, 2);
    assert_same_files("r1", "s1");
    close_rounds(&again, &more);
    close_rounds(&first, &second);
}

/* Left in the first network, in the second, in the next round, and taken up again: the same bytes. */
static void test_resumed_rounds(void **state)
{
    (void)state;
    struct dense_round round, next;
    struct nn *nn;
    const struct way stop = {0, NULL, "t0", true, 1, true}, go = {0, NULL, "t0", true, 0, true};
    assert_int_equal(learn(&stop, &modes[1], WS2_TRAIN_STOPPED, &round).epochs, 1);
    assert_true(there("t0a.learnt.last") && !there("t0a") && !there("t0b.learnt.last"));
    nn = nn_params_context(round.fpn[0].params);
    dense_round_close(&round);
    close_nn(nn);
    copy_file("r0a", "t0a");
    assert_int_equal(learn(&stop, &modes[1], WS2_TRAIN_STOPPED, &round).epochs, 1);
    assert_true(there("t0b.learnt.last") && !there("t0b"));
    nn = nn_params_context(round.fpn[0].params);
    dense_round_close(&round);
    close_nn(nn);
    assert_int_equal(unlink(in_folder("t0a")), 0); /* so that both go on */
    assert_int_equal(learn(&go, &modes[1], WS2_TRAIN_DONE, &round).epochs, 2);
    assert_same_files("r0a", "t0a");
    assert_same_files("r0b", "t0b");
    assert_int_equal(
        learn(&(struct way){1, &round, "t1", false, 1, true}, NULL, WS2_TRAIN_STOPPED, &next).epochs, 1);
    dense_round_close(&next);
    assert_int_equal(
        learn(&(struct way){1, &round, "t1", false, 0, true}, NULL, WS2_TRAIN_DONE, &next).epochs, 1);
    assert_same_files("r1", "t1");
    close_rounds(&round, &next);
}

/* Too few sequences for halves: one network, which judges its own frames. */
static void test_rounds_of_one(void **state)
{
    (void)state;
    struct dense_round first, second;
    learn(&(struct way){0, NULL, "v0", false, 0, false}, &modes[1], WS2_TRAIN_DONE, &first);
    learn(&(struct way){1, &first, "v1", false, 0, false}, NULL, WS2_TRAIN_DONE, &second);
    check_file("v0", &first.fpn[0], "0", NULL, NULL);
    check_file("v1", &second.fpn[0], "1", NULL, "0.3875 and 0.7425, by one network");
    check_figures(&first);
    assert_int_equal(first.scores.pixels[1], second.scores.pixels[1]);
    close_rounds(&first, &second);
}

/* Two networks without halves, and labels that the pictures do not have. */
static void test_misfits(void **state)
{
    (void)state;
    struct ws2_data data = open_data(false);
    const struct ws2_train_options run = {.epochs = 1};
    struct nn *nn = open_nn(&modes[1]);
    for (int labels = 0; labels < 2; labels++) {
        struct dense_options options = rounds_options();
        struct ws2_error error = {0};
        struct dense_round round;
        options.labels = labels;
        const char *const name[] = {in_folder("na"), labels ? NULL : in_folder("nb")};
        const int got = dense_learn(&round, nn, 0, NULL, &options, &data, &run, name, &error);
        assert_int_equal(got, WS2_ERR_USAGE);
        assert_non_null(strstr(error.text, labels ? "have no labels" : "have not been halved"));
        assert_false(there("na") || there("na.learnt.last"));
        dense_round_close(&round);
    }
    ws2_data_close(&data);
    close_nn(nn);
}

/* ---- the first step by hand ------------------------------------------------------------------------------------- */

enum { SMALL = 32 * 32, ALL = 4 * SMALL };

/* Each picture by the network that has not learnt from its half, one picture at a time. */
static int judge_by_hand(void *context, const struct ws2_batch *batch, float *p, struct ws2_error *error)
{
    const struct dense_round *round = context;
    struct nn *nn = nn_params_context(round->fpn[0].params);
    for (int i = 0; i < batch->count; i++) {
        const int which = round->networks == 2 && batch->half[i] == 0;
        nn_scope_begin(nn);
        struct nn_tensor *x = nn_images_u8(nn, 1, 32, 32, batch->rgb + (size_t)(3 * i * SMALL),
                                           nn_imagenet_mean, nn_imagenet_std);
        nn_to_f32(nn, nn_sigmoid(nn, fpn_forward(&round->fpn[which], x, false)), p + (size_t)(i * SMALL),
                  SMALL);
        nn_scope_end(nn);
    }
    return nn_check(nn, error);
}

/* Learnt from the labels that the last round gives. */
static struct nn_tensor *round_loss(struct nn *nn, struct nn_tensor *z, const struct dense_round *last,
                                    struct ws2_loader *loader)
{
    static float p[ALL], wanted[ALL], unwanted[ALL];
    const struct ws2_scorer scorer = {(void *)last, judge_by_hand};
    struct ws2_scores scores = {0};
    struct ws2_batch batch;
    struct ws2_error error = {0};
    double low, high;
    int64_t sure = 0;
    dense_quantiles(0.5, &low, &high);
    must_be_good(ws2_scores_add(&scores, &scorer, loader, &error), &error);
    low = ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, low);
    high = ws2_scores_quantile(&scores, WS2_CLASS_BEFORE, high);
    assert_true(0.001 < low && low < high);
    assert_int_equal(ws2_loader_start(loader, 0, &error), 0);
    assert_int_equal(ws2_loader_next(loader, &batch, &error), 1);
    must_be_good(judge_by_hand((void *)last, &batch, p, &error), &error);
    for (int i = 0; i < ALL; i++) {
        const bool before = batch.keep[i] == 2;
        wanted[i] = batch.keep[i] == 1 ? 0.5f : before && (double)p[i] < low ? 1 : 0;
        unwanted[i] = before && (double)p[i] >= high ? 1 : 0;
        sure += before && (wanted[i] > 0 || unwanted[i] > 0);
    }
    assert_true(sure > 0);
    return ws2_balanced_loss(nn, z, wanted, unwanted);
}

/* The loss of network `which` of a round in its first step: of the seed's network and the first batch. */
static double first_loss(const struct way *way, int which)
{
    const struct dense_options options = rounds_options();
    struct nn *nn = way->last ? nn_params_context(way->last->fpn[0].params) : open_nn(&modes[0]);
    struct ws2_data data = open_data(true);
    struct ws2_loader *loader = way->two ? data.half[which] : data.train;
    struct ws2_batch batch;
    struct ws2_error error = {0};
    struct fpn fpn;
    must_be_good(fpn_open(&fpn, nn, &options.net, &error), &error);
    must_be_good(fpn_begin(&fpn, 5 + 2 * (uint64_t)way->number + (uint64_t)which, NULL, NULL, &error),
                 &error);
    assert_int_equal(ws2_loader_start(loader, 0, &error), 0);
    assert_int_equal(ws2_loader_next(loader, &batch, &error), 1);
    nn_scope_begin(nn);
    struct nn_tensor *z = fpn_forward(&fpn, ws2_batch_images(nn, &batch, batch.rgb), true), *loss;
    const struct ws2_frames frames = {batch.keep, batch.label, 4, 0.3};
    struct nn_tensor *own = ws2_frame_loss(nn, z, &frames);
    if (way->last)
        loss = round_loss(nn, z, way->last, loader);
    else
        loss = ws2_pu_loss(nn, z, batch.keep, &options.pu).total;
    const double value = nn_item(nn, loss) + 0.7 * nn_item(nn, own);
    nn_scope_end(nn);
    fpn_close(&fpn);
    ws2_data_close(&data);
    if (way->last == NULL)
        close_nn(nn);
    return value;
}

static void check_first_steps(const struct way *way, struct dense_round *round)
{
    const struct seen seen = learn(way, &modes[0], WS2_TRAIN_DONE, round);
    assert_int_equal(seen.networks, way->two ? 2 : 1);
    for (int which = 0; which < seen.networks; which++) {
        const double want = first_loss(way, which);
        if (!(fabs(seen.first[which] - want) <= 1e-6))
            fail_msg("round %d, network %d: %.9g is not %.9g", way->number, which, seen.first[which], want);
    }
}

/* Two networks, two that learn from them and one that does: every picture is judged by the network of the other half. */
static void test_first_steps(void **state)
{
    (void)state;
    struct dense_round first, second, third;
    check_first_steps(&(struct way){0, NULL, "u0", true, 0, false}, &first);
    check_first_steps(&(struct way){1, &first, "u1", true, 0, false}, &second);
    dense_round_close(&second);
    check_first_steps(&(struct way){1, &first, "u2", false, 0, false}, &third);
    close_rounds(&first, &third);
}

/* ---- which epoch is kept, labels ------------------------------------------------------------------------------------ */

/* What is learnt makes validation worse and worse. */
static struct seen learn_adversely(bool labels, int64_t patience, const char *name)
{
    struct dense_options options = rounds_options();
    struct ws2_data data = open_labels(labels, true);
    struct seen seen = {0};
    struct ws2_error error = {0};
    struct dense_round round;
    const struct ws2_train_options run = {
        .epochs = 5, .patience = patience, .report = watch, .context = &seen};
    struct nn *nn = open_nn(&modes[1]);
    options.labels = labels;
    const int got = dense_learn(&round, nn, 0, NULL, &options, &data, &run,
                                (const char *const[]){in_folder(name), NULL}, &error);
    if (got != WS2_TRAIN_DONE)
        fail_msg("%s", error.text);
    ws2_data_close(&data);
    dense_round_close(&round);
    close_nn(nn);
    return seen;
}

/* Nobody knows what is right: validation picks no epoch and ends nothing. Of labels it does. */
static void test_kept_epochs(void **state)
{
    (void)state;
    const struct seen pu = learn_adversely(false, 1, "w0"), labels = learn_adversely(true, 0, "w1"),
                      less = learn_adversely(true, 1, "w2");
    assert_true(pu.epochs == 5 && pu.rises > 1 && pu.best == 5);
    assert_true(labels.epochs == 5 && labels.rises > 1 && labels.best == 5 - labels.rises);
    assert_true(less.epochs < 5 && less.rises == 1 && less.best == less.epochs - 1);
}

/* Red and blue are soon told apart by masks. */
static void test_labels(void **state)
{
    (void)state;
    struct dense_options options = rounds_options();
    struct ws2_data data = open_labels(true, false);
    struct seen seen = {0};
    struct ws2_error error = {0};
    struct dense_round round;
    const struct ws2_train_options run = {.epochs = 6, .report = watch, .context = &seen};
    struct nn *nn = open_nn(&modes[1]);
    options.labels = true;
    options.net.reach = 4;
    const int got = dense_learn(&round, nn, 0, NULL, &options, &data, &run,
                                (const char *const[]){in_folder("labels"), NULL}, &error);
    if (got != WS2_TRAIN_DONE)
        fail_msg("%s", error.text);
    const struct ws2_pu_figures f = ws2_labels_judge(&round.scores, round.fpn[0].info.threshold);
    assert_memory_equal(&f, &round.figures, sizeof f);
    if (!(f.iou > 0.9 && f.recall > 0.9 && f.false_positives < 0.1))
        fail_msg("recall %g, false positives %g, IoU %g", f.recall, f.false_positives, f.iou);
    struct nn_weights *weights = golden_open(in_folder("labels"));
    static const char *const fact[][2] = {
        {"dense", "labels"}, {"method", "labels"}, {"loss", "cross-entropy"},
        {"labels", "truth"}, {"reach", "4"},       {"prior", NULL},
        {"round", NULL},     {"frames", NULL},     {"paste", NULL}};
    for (int i = 0; i < 9; i++)
        assert_fact(weights, fact[i][0], fact[i][1]);
    assert_true(fabs(atof(nn_weights_meta(weights, "threshold")) - round.fpn[0].info.threshold) < 1e-9);
    nn_weights_close(weights);
    ws2_data_close(&data);
    dense_round_close(&round);
    close_nn(nn);
}

/* ---- scores ------------------------------------------------------------------------------------------------------ */

/* The same probability everywhere. */
static int constant(void *context, const struct ws2_batch *batch, float *p, struct ws2_error *error)
{
    (void)error;
    for (int i = 0; i < batch->count * batch->size * batch->size; i++)
        p[i] = *(const float *)context;
    return WS2_OK;
}

static int refuse(void *context, const struct ws2_batch *batch, float *p, struct ws2_error *error)
{
    (void)context;
    (void)batch;
    (void)p;
    return ws2_fail(error, WS2_ERR_MODEL, "no reason");
}

/* Every pixel on the belt once, in its bin, by its camera or, where there are labels, by its label if that is known. */
static void check_scores(struct ws2_loader *loader, bool labels)
{
    static const struct {
        float p;
        int bin;
    } value[] = {{0.5f, 500}, {0, 0}, {1, 999}, {0.0999f, 99}};
    struct ws2_error error = {0};
    struct ws2_batch batch;
    int64_t pixels[2] = {0};
    float p;
    struct ws2_scorer scorer = {&p, constant};
    assert_int_equal(ws2_loader_start(loader, 0, &error), 0);
    while (ws2_loader_next(loader, &batch, &error) == 1)
        for (int i = 0; i < batch.count * SMALL; i++)
            if (batch.keep[i] && !(labels && batch.seeds[i] > 1))
                pixels[labels ? batch.seeds[i] : batch.keep[i] - 1]++;
    assert_true(pixels[0] > 0 && pixels[1] > 0);
    struct ws2_scores scores = {0};
    for (int k = 0; k < 4; k++) { /* each is added to those before */
        p = value[k].p;
        must_be_good(ws2_scores_add(&scores, &scorer, loader, &error), &error);
        for (int c = 0; c < 2; c++) {
            assert_int_equal(scores.pixels[c], (k + 1) * pixels[c]);
            assert_int_equal(scores.count[c][value[k].bin], pixels[c]);
        }
    }
    p = NAN;
    assert_int_equal(ws2_scores_add(&scores, &scorer, loader, &error), WS2_ERR_MODEL);
    assert_non_null(strstr(error.text, "not finite"));
    scorer.score = refuse;
    error = (struct ws2_error){0};
    assert_int_equal(ws2_scores_add(&scores, &scorer, loader, &error), WS2_ERR_MODEL);
    assert_string_equal(error.text, "no reason");
}

static void test_scores_of_clips(void **state)
{
    (void)state;
    struct ws2_data data = open_data(true), labels = open_labels(true, false);
    check_scores(data.val, false);
    check_scores(data.train, false);
    check_scores(labels.val, true);
    ws2_data_close(&data);
    ws2_data_close(&labels);
}

/* The share of pictures that items cover, whatever lies beside them. */
static void test_shares(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_batch batch;
    double share[2], sum[2] = {0};
    int64_t frames[2] = {0};
    struct ws2_data data = open_data(false);
    assert_int_equal(ws2_loader_start(data.val, 0, &error), 0);
    while (ws2_loader_next(data.val, &batch, &error) == 1)
        for (int i = 0; i < batch.count * SMALL; i++) {
            sum[batch.label[i / SMALL]] += batch.keep[i] > 0;
            frames[batch.label[i / SMALL]] += i % SMALL == 0;
        }
    must_be_good(dense_shares(data.val, share, &error), &error);
    for (int c = 0; c < 2; c++)
        assert_near(share[c], sum[c] / (double)(SMALL * frames[c]));
    must_be_good(dense_shares(data.train, share, &error),
                 &error); /* in half of these pictures more lies beside */
    for (int c = 0; c < 2; c++)
        assert_near(share[c], sum[c] / (double)(SMALL * frames[c]));
    ws2_data_close(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_of_clips),  cmocka_unit_test(test_shares),
        cmocka_unit_test(test_rounds_of_halves), cmocka_unit_test(test_resumed_rounds),
        cmocka_unit_test(test_rounds_of_one),    cmocka_unit_test(test_misfits),
        cmocka_unit_test(test_first_steps),      cmocka_unit_test(test_kept_epochs),
        cmocka_unit_test(test_labels),
    };
    return cmocka_run_group_tests(tests, make_belt, remove_folder);
}
