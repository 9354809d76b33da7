/* Training runs: the optimiser's recipes against the authors', and runs that resume to the same bytes and learn. */
#include "clips_help.h"
#include "train_help.h"

/* ---- recipes ---------------------------------------------------------------------------------------------- */

/* T04: five steps against the authors' optimiser and by hand. */
static void poly_steps(void **state)
{
    (void)state;
    double want[5], value;
    golden_f64("poly", want, 5);
    struct nn *nn = open_nn(NN_F64_MODE);
    struct nn_params *params = nn_params_new(nn);
    struct ws2_error error = {0};
    struct ws2_plan plan;
    const float one = 1;
    struct nn_tensor *w =
        nn_declare(params, NN_WEIGHT, "w", ws2_shape_1(1), nn_init_make(NN_INIT_CONSTANT, 1));
    nn_params_fill(params, 0, &one, 1);
    const struct ws2_optimiser_options options = {WS2_OPTIMISER_PAPER, NAN, NAN, NAN};
    assert_int_equal(ws2_plan_make(&plan, &options, WS2_METHOD_PUZZLE, true, params, "none.*", &error), 0);
    assert_near(plan.optim.momentum, 1e-4, 0); /* the weight decay in the momentum's place */
    struct nn_optim *optim = nn_optim_new(params, &plan.optim);
    double by_hand = 1, buffer = 0;
    for (int t = 0; t < 5; t++) {
        const double rate = 0.1 * pow(1 - t / 5.0, 0.9);
        assert_near(ws2_plan_rate(&plan, t, 5), rate, 1e-12);
        nn_scope_begin(nn);
        nn_params_zero_grad(params);
        nn_backward(nn, nn_sum(nn, w));
        nn_optim_step(optim, ws2_plan_rate(&plan, t, 5));
        nn_to_f64(nn, w, &value, 1);
        nn_scope_end(nn);
        const double g = 1 + 1e-4 * by_hand;
        buffer = t == 0 ? g : 1e-4 * buffer + g;
        by_hand -= rate * (g + 1e-4 * buffer);
        assert_near(value, want[t], 1e-9);
        assert_near(value, by_hand, 1e-9);
    }
    assert_good(nn);
    nn_optim_free(optim);
    nn_params_free(params);
    nn_close(nn);
}

static void recipes(void **state)
{
    (void)state;
    struct nn *nn = open_nn(NN_F32_MODE);
    struct toy toy;
    struct ws2_plan plan;
    struct ws2_error error = {0};
    toy_open(&toy, nn, 1, 3, true);
    struct ws2_optimiser_options o = {WS2_OPTIMISER_AUTO, NAN, NAN, NAN};
    assert_int_equal(ws2_plan_make(&plan, &o, WS2_METHOD_PUZZLE, true, toy.params, "classifier.*", &error),
                     0);
    /* body weight and bn weight x1, bn bias x2 without decay, head x10 */
    const struct {
        const char *name;
        double scale, decay;
    } want[] = {
        {"body.weight", 1, 1e-4}, {"bn.weight", 1, 1e-4}, {"bn.bias", 2, 0}, {"classifier.weight", 10, 1e-4}};
    for (int i = 0; i < 4; i++) {
        const struct nn_param *param = nn_params_at(toy.params, nn_params_find(toy.params, want[i].name));
        assert_near(plan.optim.group[param->group].lr_scale, want[i].scale, 0);
        assert_near(plan.optim.group[param->group].weight_decay, want[i].decay, 0);
    }
    assert_true(plan.optim.nesterov && plan.poly && plan.warmup == 0);
    assert_int_equal(ws2_plan_make(&plan, &o, WS2_METHOD_STANDARD, true, toy.params, "classifier.*", &error),
                     0);
    assert_int_equal(plan.optim.kind, NN_ADAM);
    assert_near(ws2_plan_rate(&plan, 99, 100), 5e-4, 0);
    assert_int_equal(ws2_plan_make(&plan, &o, WS2_METHOD_STANDARD, false, toy.params, "classifier.*", &error),
                     0);
    assert_int_equal(plan.optim.kind, NN_SGD);
    assert_near(plan.optim.momentum, 0.9, 0);
    assert_near(ws2_plan_rate(&plan, 0, 1000), 0.01 / 50, 1e-12); /* first of 50 steps of warm-up */
    assert_near(ws2_plan_rate(&plan, 500, 1000), 0.01 * pow(0.5, 0.9), 1e-12);
    o = (struct ws2_optimiser_options){WS2_OPTIMISER_PAPER, 0.5, 0.8, 0};
    assert_int_equal(ws2_plan_make(&plan, &o, WS2_METHOD_PUZZLE, false, toy.params, "classifier.*", &error),
                     0);
    assert_near(plan.lr, 0.5, 0);
    assert_near(plan.optim.momentum, 0.8, 0);
    o.lr = -1;
    assert_int_equal(ws2_plan_make(&plan, &o, WS2_METHOD_PUZZLE, false, toy.params, "classifier.*", &error),
                     WS2_ERR_USAGE);
    nn_params_free(toy.params);
    nn_close(nn);
}

/* Pixels are learnt with AdamW, one rate for all layers, that falls to 0 by a cosine, whatever else is asked for. */
static void dense_recipe(void **state)
{
    (void)state;
    static const char *const name[] = {"body.weight", "bn.weight", "bn.bias", "classifier.weight"};
    struct nn *nn = open_nn(NN_F32_MODE);
    struct toy toy;
    struct ws2_plan plan;
    struct ws2_error error = {0};
    toy_open(&toy, nn, 1, 3, true);
    for (int i = 0; i < 4; i++) {
        struct ws2_optimiser_options o = {WS2_OPTIMISER_AUTO, NAN, NAN, NAN};
        const enum ws2_method method = i % 2 ? WS2_METHOD_ROUND : WS2_METHOD_PU;
        o.optimiser = i < 2 ? WS2_OPTIMISER_AUTO : WS2_OPTIMISER_PAPER;
        assert_int_equal(ws2_plan_make(&plan, &o, method, i == 1, toy.params, "classifier.*", &error), 0);
        assert_true(plan.optim.kind == NN_ADAMW && plan.cosine && !plan.poly && plan.warmup == 0);
        assert_int_equal(plan.epochs, 4);
        for (int k = 0; k < 4; k++) {
            const struct nn_param *param = nn_params_at(toy.params, nn_params_find(toy.params, name[k]));
            assert_near(plan.optim.group[param->group].lr_scale, 1, 0);
            assert_near(plan.optim.group[param->group].weight_decay, k == 2 ? 0 : 1e-3, 0);
        }
    }
    assert_near(ws2_plan_rate(&plan, 0, 200), 1e-3, 0);
    assert_near(ws2_plan_rate(&plan, 50, 200), 1e-3 * (2 + sqrt(2)) / 4, 1e-15);
    assert_near(ws2_plan_rate(&plan, 100, 200), 5e-4, 1e-15);
    assert_near(ws2_plan_rate(&plan, 199, 200), 1e-3 * (1 - cos(M_PI / 200)) / 2, 1e-15);
    const struct ws2_optimiser_options asked = {WS2_OPTIMISER_AUTO, 0.02, 0.8, 0.5};
    assert_int_equal(ws2_plan_make(&plan, &asked, WS2_METHOD_PU, false, toy.params, "classifier.*", &error),
                     0);
    assert_near(plan.lr, 0.02, 0);
    assert_near(plan.optim.beta1, 0.8, 0);
    assert_near(plan.optim.group[0].weight_decay, 0.5, 0);
    nn_params_free(toy.params);
    nn_close(nn);
}

/* ---- runs ------------------------------------------------------------------------------------------------- */

struct watch {
    int64_t fail_at;             /* step at which the report gives up; 0 = never */
    int64_t alive[2], memory[2]; /* handles at steps 3 and 30, bytes at steps 10 and 1000 */
    struct nn *nn;
    struct ws2_epoch last;
};

static int watch(void *context, int64_t step, int64_t steps, double loss, double rate,
                 const struct ws2_epoch *epoch)
{
    struct watch *w = context;
    (void)steps;
    (void)rate;
    assert_true(isfinite(loss));
    if (epoch) {
        w->last = *epoch;
        return 0;
    }
    if (step == 3 || step == 30)
        w->alive[step == 30] = nn_tensors_alive(w->nn);
    if (step == 10 || step == 1000)
        w->memory[step == 1000] = (int64_t)nn_memory_used(w->nn);
    return w->fail_at && step == w->fail_at ? WS2_ERR_SYSTEM : 0;
}

/* One run of the toy network on the belt; returns the status of ws2_train_run. */
static int run_toy(enum ws2_method method, const char *name, int64_t stop, int64_t fail_at, bool resume,
                   int64_t epochs, struct watch *w, struct ws2_error *error)
{
    char log[160];
    struct nn *nn = open_nn(NN_F32_MODE);
    struct toy toy;
    struct ws2_classifier net = toy_open(&toy, nn, 3, 3, true);
    struct ws2_clips *clips = belt();
    struct ws2_loader *train, *val;
    struct ws2_loader_options to = loader_options(3, true), vo = loader_options(3, false);
    struct ws2_meta meta = {0};
    bool held[7] = {false}, use[7];
    to.hue = 0;
    to.triplets = vo.triplets = ws2_method_has_triplets(method);
    to.cells = vo.cells = SIDE / 2;
    /* sequence x2 has no triplet: it must not be all that is held back */
    assert_int_equal(ws2_clips_split(clips, 0.3, to.triplets ? 4 : 1, held, error), 0);
    for (int i = 0; i < 7; i++)
        use[i] = !held[i];
    assert_int_equal(ws2_loader_open(&train, clips, use, &to, error), 0);
    assert_int_equal(ws2_loader_open(&val, clips, held, &vo, error), 0);
    ws2_meta_set(&meta, "method", "%s", ws2_method_name(method));
    ws2_meta_set(&meta, "epochs", "%d", (int)epochs);
    const char *output = in_folder(name);
    snprintf(log, sizeof log, "%s.tsv", output);
    *w = (struct watch){.fail_at = fail_at, .nn = nn};
    /* beta is small: the flow of these clips is that of the item, also where the belt stands still */
    struct ws2_train_options o = {.loss = {.method = method, .alpha = 2, .beta = 1},
                                  .epochs = epochs,
                                  .stop_epoch = stop,
                                  .output = output,
                                  .log = log,
                                  .resume = resume,
                                  .meta = &meta,
                                  .report = watch,
                                  .context = w};
    const struct ws2_optimiser_options recipe = {WS2_OPTIMISER_SCRATCH, 0.05, NAN, NAN};
    assert_int_equal(ws2_plan_make(&o.plan, &recipe, method, false, toy.params, "classifier.*", error), 0);
    const int status = ws2_train_run(nn, &net, train, val, &o, error);
    ws2_loader_close(train);
    ws2_loader_close(val);
    ws2_clips_close(clips);
    nn_params_free(toy.params);
    nn_close(nn);
    return status;
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

/* Logs without the column of speeds. */
static void assert_same_logs(const char *a, const char *b)
{
    size_t m, n;
    char *x = (char *)slurp(in_folder(a), &m), *y = (char *)slurp(in_folder(b), &n), *p, *q;
    char *line_x = strtok_r(x, "\n", &p), *line_y = strtok_r(y, "\n", &q);
    for (; line_x && line_y; line_x = strtok_r(NULL, "\n", &p), line_y = strtok_r(NULL, "\n", &q)) {
        int column = 0;
        char *i = line_x, *j = line_y;
        for (; i && j; column++) {
            char *cell_x = strsep(&i, "\t"), *cell_y = strsep(&j, "\t");
            if (column != 11)
                assert_string_equal(cell_x, cell_y);
        }
        assert_int_equal(column, 13);
    }
    assert_null(line_x);
    assert_null(line_y);
    free(x);
    free(y);
}

static void resumes_to_the_same(void **state)
{
    (void)state;
    for (int method = WS2_METHOD_STANDARD; method <= WS2_METHOD_PLAIN; method++) {
        const enum ws2_method m = (enum ws2_method)method;
        struct ws2_error error = {0};
        struct watch w;
        assert_int_equal(run_toy(m, "whole", 0, 0, false, 4, &w, &error), WS2_TRAIN_DONE);
        assert_false(there("whole.last") || there("whole.best"));
        unlink(in_folder("half"));
        /* left after two epochs */
        assert_int_equal(run_toy(m, "half", 2, 0, false, 4, &w, &error), WS2_TRAIN_STOPPED);
        assert_true(there("half.last") && !there("half"));
        assert_int_equal(run_toy(m, "half", 0, 0, true, 4, &w, &error), WS2_TRAIN_DONE);
        assert_same_files("whole", "half");
        assert_same_logs("whole.tsv", "half.tsv");
        /* killed in the middle of the third epoch */
        const int64_t epoch = w.last.steps / 4;
        assert_true(epoch > 2);
        assert_int_equal(run_toy(m, "killed", 0, 2 * epoch + epoch / 2, false, 4, &w, &error),
                         WS2_ERR_SYSTEM);
        assert_int_equal(run_toy(m, "killed", 0, 0, true, 4, &w, &error), WS2_TRAIN_DONE);
        assert_same_files("whole", "killed");
        assert_same_logs("whole.tsv", "killed.tsv");
        /* other settings are not the same run */
        assert_int_equal(run_toy(m, "other", 1, 0, false, 4, &w, &error), WS2_TRAIN_STOPPED);
        error = (struct ws2_error){0};
        assert_int_equal(run_toy(m, "other", 0, 0, true, 5, &w, &error), WS2_ERR_USAGE);
        assert_non_null(strstr(error.text, "epochs was 4 and is now 5"));
    }
}

static void learns(void **state)
{
    (void)state;
    for (int method = WS2_METHOD_STANDARD; method <= WS2_METHOD_PLAIN; method++) {
        struct ws2_error error = {0};
        struct watch w;
        const enum ws2_method m = (enum ws2_method)method;
        const int64_t epochs = ws2_method_has_triplets(m) ? 40 : 12; /* of fewer steps */
        assert_int_equal(run_toy(m, "learns", 0, 0, false, epochs, &w, &error), WS2_TRAIN_DONE);
        assert_true(w.last.val_accuracy > 0.9);
        assert_true(w.last.val_loss < 0.5);
        assert_int_equal(w.alive[0], w.alive[1]); /* no tensor is left behind by a step */
    }
}

/* Were the pictures of each step left behind, 12 KiB, it would be 12 MiB at the end. */
static void memory_stays_flat(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    print_message("the sanitizer keeps freed memory, so that what a process holds says nothing\n");
    skip();
#endif
    struct ws2_error error = {0};
    struct watch w;
    assert_int_equal(run_toy(WS2_METHOD_PUZZLE, "flat", 0, 0, false, 126, &w, &error), WS2_TRAIN_DONE);
    assert_true(w.last.steps >= 1000);
    assert_true(w.memory[0] > 0);
    assert_true(w.memory[1] - w.memory[0] < 8 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(poly_steps),          cmocka_unit_test(recipes), cmocka_unit_test(dense_recipe),
        cmocka_unit_test(resumes_to_the_same), cmocka_unit_test(learns),  cmocka_unit_test(memory_stays_flat),
    };
    return cmocka_run_group_tests(tests, make_belt, remove_folder);
}
