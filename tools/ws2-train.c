/* ws2-train: from stream files of two cameras to the weights of a classifier; and how accurate weights are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "models/learner.h"
#include "network.h"
#include "train/train.h"

enum { AFFINITY = 5 }; /* the last method */

static struct {
    int method, affinity, backbone, stride, background, fill, bg_source, optimiser, recipe, ramp, loss,
        compare, flip;
    int64_t grid, classes, size, batch, patience;
    double epochs, jitter, hue, val_share;
    bool balance, centres, resume, check;
    struct ws2_loss_options weights;
    struct ws2_optimiser_options rates;
    const char *init, *log, *output, *evaluate;
    struct ws2_text_list validation;
} o = {.backbone = 2,
       .classes = 3,
       .size = 512,
       .batch = -1,
       .grid = 8,
       .epochs = NAN,
       .weights = {.alpha = NAN, .beta = NAN},
       .rates = {.lr = NAN, .momentum = NAN, .weight_decay = NAN},
       .jitter = 0.3,
       .val_share = 0.2,
       .init = "none"};

#define METHODS "standard|puzzle|pof|temporal|plain|affinity"
#define BACKBONES "resnet18|resnet34|resnet50|resnet101"
static const int depths[] = {18, 34, 50, 101};
static const struct ws2_option options[] = {
    {"output", 'o', WS2_OPT_TEXT, &o.output, "FILE", "the weights, .safetensors", 0, 0, 0},
    {"method", 0, WS2_OPT_CHOICE, &o.method, METHODS, "what is learnt", 0, 0, 0},
    {"affinity", 0, WS2_OPT_CHOICE, &o.affinity, "feature|edge", "of --method affinity: AffinityNet, or IRN",
     0, 0, 0},
    {"grid", 0, WS2_OPT_INT, &o.grid, "N", "features: one for N x N pixels, 8 or 16", 0, 8, 16},
    {"backbone", 0, WS2_OPT_CHOICE, &o.backbone, BACKBONES, "network", 0, 0, 0},
    {"stride", 0, WS2_OPT_CHOICE, &o.stride, "32|16", "pixels per cell of the maps", 0, 0, 0},
    {"classes", 0, WS2_OPT_INT, &o.classes, "N", "2: after, before; 3: and the belt alone", 0, 2, 3},
    {"background", 0, WS2_OPT_CHOICE, &o.background, "remove|keep", "keep: two classes only", 0, 0, 0},
    {"fill", 0, WS2_OPT_CHOICE, &o.fill, "black|mean|belt", "what replaces removed pixels", 0, 0, 0},
    {"bg-from", 0, WS2_OPT_CHOICE, &o.bg_source, "sequences|frames", "belt from every second", 0, 0, 0},
    {"size", 0, WS2_OPT_INT, &o.size, "N", "side of the network's input", 0, 32, 8192},
    {"epochs", 0, WS2_OPT_REAL, &o.epochs, "N",
     "passes over the data [25; features 8, edges 3; from scratch x3]", 0, 0, 1e5},
    {"batch", 0, WS2_OPT_INT, &o.batch, "N", "pictures per step [32; features 8]", 0, 1, 4096},
    {"init", 0, WS2_OPT_TEXT, &o.init, "FILE", "pretrained weights, or none: seeded random ones", 0, 0, 0},
    {"optimiser", 0, WS2_OPT_CHOICE, &o.optimiser, "auto|paper|scratch", "and its schedule", 0, 0, 0},
    {"lr", 0, WS2_OPT_REAL, &o.rates.lr, "X", "learning rate instead of the optimiser's", 0, 0, 0},
    {"momentum", 0, WS2_OPT_REAL, &o.rates.momentum, "X", "momentum instead of the optimiser's", 0, 0, 0},
    {"weight-decay", 0, WS2_OPT_REAL, &o.rates.weight_decay, "X", "instead of the optimiser's", 0, 0, 0},
    {"loss", 0, WS2_OPT_CHOICE, &o.loss, "ce|bce-softmax", "of the standard method", 0, 0, 0},
    {"recipe", 0, WS2_OPT_CHOICE, &o.recipe, "ws2|pof", "alpha, beta and their ramp", 0, 0, 0},
    {"alpha", 0, WS2_OPT_REAL, &o.weights.alpha, "X", "weight of the tiles [ws2 2, pof 4]", 0, 0, 1000},
    {"beta", 0, WS2_OPT_REAL, &o.weights.beta, "X", "weight of the neighbours [ws2 6, pof 4]", 0, 0, 1000},
    {"ramp", 0, WS2_OPT_CHOICE, &o.ramp, "auto|none|first|second", "epoch from which both rise", 0, 0, 0},
    {"compare", 0, WS2_OPT_CHOICE, &o.compare, "feature|cam", "maps that the puzzle compares", 0, 0, 0},
    {"compat-warp", 0, WS2_OPT_FLAG, &o.weights.compat_warp, NULL, "warp as the papers' code does", 0, 0, 0},
    {"normalise-first", 0, WS2_OPT_FLAG, &o.weights.normalise_first, NULL, "and then warp maps", 0, 0, 0},
    {"jitter", 0, WS2_OPT_REAL, &o.jitter, "X", "brightness, contrast, saturation 1-X..1+X", 0, 0, 0.99},
    {"hue", 0, WS2_OPT_REAL, &o.hue, "X", "hue shift -X..X turns", 0, 0, 0.5},
    {"flip", 0, WS2_OPT_CHOICE, &o.flip, "auto|none|h|v|hv", "mirror by chance; auto: affinity h", 0, 0, 0},
    {"centres", 0, WS2_OPT_FLAG, &o.centres, NULL, "only frames between two others", 0, 0, 0},
    {"balance", 0, WS2_OPT_FLAG, &o.balance, NULL, "as many pictures of each class", 0, 0, 0},
    {"validation", 0, WS2_OPT_LIST, &o.validation, "FILE", "file to validate on, repeatable", 0, 0, 0},
    {"val-share", 0, WS2_OPT_REAL, &o.val_share, "X", "else this share of the sequences", 0, 0.001, 0.9},
    {"patience", 0, WS2_OPT_INT, &o.patience, "N", "end after N epochs without gain", 0, 0, 100000},
    {"resume", 0, WS2_OPT_FLAG, &o.resume, NULL, "go on where a run was interrupted", 0, 0, 0},
    {"log", 0, WS2_OPT_TEXT, &o.log, "FILE", "table of all epochs, TSV", 0, 0, 0},
    {"evaluate", 0, WS2_OPT_TEXT, &o.evaluate, "FILE", "print the accuracy of these weights", 0, 0, 0},
    {"check", 0, WS2_OPT_FLAG, &o.check, NULL, "verify inputs and settings, then stop", 0, 0, 0},
    {0}};

static const struct ws2_program program = {
    .name = "ws2-train",
    .operands = "FILE...",
    .summary = "learn to tell frames before the sorter from frames after it",
    .reads = "rgb:u8[h,w,3],fg:u8[h,w],flow.prev:f16[2,h,w],flow.next:f16[2,h,w],seeds:u8[h,w]",
    .examples =
        "  ws2-train --method puzzle --init resnet50.pth -o puzzle.safetensors --log puzzle.tsv *.fg.ws2\n"
        "  ws2-train --evaluate puzzle.safetensors --background keep test/*.ws2",
    .takes = WS2_TAKES_OPERANDS | WS2_TAKES_THREADS | WS2_TAKES_SEED | WS2_TAKES_DEVICE | WS2_TAKES_PROGRESS,
    .options = options};

/* Everything of a run; what is not used stays NULL. */
struct session {
    struct nn *nn;
    struct learner learner;
    struct ws2_data data;
};

/* The network that the options ask for. */
static struct learner_info asked_network(void)
{
    const bool maps = o.method != WS2_METHOD_STANDARD, edges = o.affinity == AFFINITY_EDGES;
    struct learner_info info = {
        .method = o.method != AFFINITY ? (enum ws2_method)o.method
                  : edges              ? WS2_METHOD_EDGES
                                       : WS2_METHOD_FEATURES,
        .classifier = {.net = {depths[o.backbone], o.stride ? RESNET_STRIDE_16 : RESNET_STRIDE_32,
                               maps ? RESNET_HEAD_MAPS : RESNET_HEAD_FC, (int)o.classes},
                       .size = (int)o.size,
                       .exclusive = !maps,
                       .fill = (enum classifier_fill)o.fill},
        .affinity = {(enum affinity_kind)o.affinity, depths[o.backbone], edges ? 4 : (int)o.grid,
                     (int)o.size}};
    for (int c = 0; c < o.classes; c++)
        snprintf(info.classifier.class_name[c], sizeof info.classifier.class_name[c], "%s",
                 ws2_class_name(c));
    return info;
}

static struct ws2_loader_options loader_options(const struct ws2_common *common)
{
    const struct learner_info info = asked_network();
    return (struct ws2_loader_options){.classes = (int)o.classes,
                                       .background = (enum ws2_background)o.background,
                                       .fill = (enum ws2_fill)o.fill,
                                       .bg_source = (enum ws2_bg_source)o.bg_source,
                                       .margin = 5,
                                       .size = (int)o.size,
                                       .balance = o.balance,
                                       .centres = o.centres,
                                       .jitter = o.jitter,
                                       .hue = o.hue,
                                       .flip_x = o.flip == 2 || o.flip == 4,
                                       .flip_y = o.flip == 3 || o.flip == 4,
                                       .seed = common->seed,
                                       .batch = (int)o.batch,
                                       .threads = common->threads > 2 ? common->threads / 2 : 1,
                                       .triplets = ws2_method_has_triplets(info.method),
                                       .seeds = learner_has_seeds(&info),
                                       .cells = learner_cells(&info)};
}

/* ---- training --------------------------------------------------------------------------------------------- */

static void open_network(struct session *session, const struct ws2_common *common)
{
    struct ws2_error error = {0};
    const char *path = strcmp(o.init, "none") == 0 ? NULL : o.init;
    const struct learner_info info = asked_network();
    struct nn_load_report report;
    must(learner_open(&session->learner, session->nn, &info, (uint64_t)common->seed, path, &report, &error),
         &error);
    if (path)
        ws2_note("%s: %s", path, report.text);
}

static int report(void *context, int64_t step, int64_t steps, double loss, double rate,
                  const struct ws2_epoch *epoch)
{
    (void)context;
    (void)steps;
    char text[64], accuracy[32] = "";
    snprintf(text, sizeof text, "loss %.4f  %.1f images/s", loss, rate);
    if (epoch && !isnan(epoch->val_accuracy))
        snprintf(accuracy, sizeof accuracy, "accuracy %.2f %%, ", 100 * epoch->val_accuracy);
    ws2_cli_progress_set(step, text);
    if (epoch)
        ws2_note("epoch %lld: loss %.4f, validation loss %.4f, %s%.1f images/s%s", (long long)epoch->epoch,
                 epoch->loss, epoch->val_loss, accuracy, rate, epoch->best ? ", best so far" : "");
    return 0;
}

static struct ws2_train_options plan_run(const struct session *session)
{
    struct ws2_error error = {0};
    struct ws2_train_options run = {.loss = o.weights,
                                    .patience = o.patience,
                                    .output = o.output,
                                    .log = o.log,
                                    .resume = o.resume,
                                    .report = report};
    run.loss.method = session->learner.info.method;
    run.loss.loss = (enum ws2_loss)o.loss;
    run.loss.level = (enum ws2_puzzle_level)o.compare;
    run.loss.ramp = (enum ws2_ramp)o.ramp;
    o.rates.optimiser = (enum ws2_optimiser)o.optimiser;
    ws2_loss_settle(&run.loss, (enum ws2_recipe)o.recipe);
    must(learner_plan(&session->learner, &run.plan, &o.rates, &error), &error);
    run.epochs = isnan(o.epochs) ? run.plan.epochs : (int64_t)o.epochs;
    return run;
}

static int train(struct session *session, const struct ws2_common *common)
{
    struct ws2_error error = {0};
    struct ws2_meta meta = {0};
    const struct ws2_data_options data = {.path = common->operand,
                                          .paths = common->operands,
                                          .validation = o.validation.item,
                                          .validations = o.validation.count,
                                          .share = o.val_share,
                                          .loader = loader_options(common)};
    if (o.epochs != 0)
        must(ws2_data_open(&session->data, &data, &error), &error);
    open_network(session, common);
    learner_describe(&session->learner, &meta);
    if (o.epochs == 0) { /* the network as it begins */
        if (!o.check)
            must(ws2_checkpoint_save(learner_params(&session->learner), &meta, o.output, &error), &error);
        return 0;
    }
    struct ws2_train_options run = plan_run(session);
    ws2_train_describe(&meta, session->data.train, session->data.val, &run);
    run.meta = &meta;
    if (o.check)
        return 0;
    ws2_cli_progress_begin(common, "steps", run.epochs * ws2_loader_steps(session->data.train));
    must(learner_train(&session->learner, session->nn, &session->data, &run, &error), &error);
    ws2_cli_progress_end();
    return 0;
}

/* ---- accuracy --------------------------------------------------------------------------------------------- */

/* The weights, and the options that they decide. */
static void open_evaluated(struct session *session)
{
    struct ws2_error error = {0};
    const struct learner_info fallback = asked_network();
    const struct classifier_info *info = &session->learner.classifier.info;
    must(classifier_read(&session->learner.classifier, session->nn, o.evaluate, &fallback.classifier, &error),
         &error);
    if (classifier_check_names(info, ws2_class_name, &error) < 0)
        ws2_die_text(WS2_ERR_MODEL, "%s: %s", o.evaluate, error.text);
    o.method = WS2_METHOD_STANDARD; /* frames one by one */
    o.size = info->size;
    o.fill = (int)info->fill;
    o.classes = o.background == WS2_BACKGROUND_KEEP ? 2 : info->net.classes;
}

static int evaluate(struct session *session, const struct ws2_common *common)
{
    struct ws2_error error = {0};
    struct ws2_data *data = &session->data;
    open_evaluated(session);
    const struct ws2_loader_options options = loader_options(common);
    must(ws2_clips_open(&data->clips, common->operand, common->operands, &error), &error);
    must(ws2_loader_open(&data->val, data->clips, NULL, &options, &error), &error);
    if (o.check)
        return 0;
    const struct ws2_classifier net = learner_classifier(&session->learner.classifier);
    struct ws2_accuracy a;
    must(ws2_train_evaluate(session->nn, &net, data->val, &a, &error), &error);
    int64_t samples = 0, correct = 0;
    printf("class\tframes\tcorrect\taccuracy\n");
    for (int c = 0; c <= o.classes; c++) {
        const bool all = c == o.classes;
        const int64_t n = all ? samples : a.samples[c], right = all ? correct : a.correct[c];
        printf("%s\t%lld\t%lld\t%.2f\n", all ? "all" : ws2_class_name(c), (long long)n, (long long)right,
               100 * (double)right / (double)n);
        samples += n;
        correct += right;
    }
    return 0;
}

/* What is left open. Affinities are learnt from whole frames of any camera. */
static void settle(void)
{
    const bool affinity = o.method == AFFINITY;
    if (o.batch < 0)
        o.batch = affinity && o.affinity == AFFINITY_FEATURES ? 8 : 32;
    if (o.flip == 0)
        o.flip = affinity ? 2 : 1;
    if (affinity) {
        o.background = WS2_BACKGROUND_KEEP;
        o.classes = 2;
    }
}

int main(int argc, char **argv)
{
    ws2_cli_version_line(nn_version());
    struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    struct session session = {0};
    settle();
    if ((o.output != NULL) == (o.evaluate != NULL))
        ws2_die_text(WS2_ERR_USAGE, "one of -o FILE and --evaluate FILE is needed");
    if (common.operands == 0 && (o.epochs != 0 || o.evaluate))
        ws2_die_text(WS2_ERR_USAGE, "no input files");
    if (o.epochs != floor(o.epochs) && !isnan(o.epochs))
        ws2_die_text(WS2_ERR_USAGE, "--epochs: %g is not a whole number", o.epochs);
    session.nn = network_context(&common, common.threads);
    const int code = o.evaluate ? evaluate(&session, &common) : train(&session, &common);
    ws2_data_close(&session.data);
    learner_close(&session.learner);
    nn_close(session.nn);
    return ws2_cli_end(NULL, code);
}
