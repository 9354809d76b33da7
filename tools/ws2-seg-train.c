/* ws2-seg-train: from stream files of two cameras to the weights of a network that marks unwanted pixels. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "flat.h"
#include "models/dense.h"
#include "network.h"
#include "rounds.h"

static struct {
    int method, backbone, reach, form, flip, halves;
    int64_t size, batch, rounds, patience;
    double epochs, val_share, prior, low, high, frames, top, paste;
    bool resume, check;
    struct ws2_pu_options pu;
    struct ws2_light light;
    struct ws2_optimiser_options rates;
    const char *labels, *prior_text, *init, *log, *figures, *output;
    struct ws2_text_list validation;
    struct flat_fields flat;
} o = {.reach = 1, /* 8 */
       .size = 512,
       .batch = 16,
       .epochs = 4,
       .low = NAN,
       .high = NAN,
       .top = 0.2,
       .paste = 0.5,
       .labels = "truth",
       .form = WS2_PU_PLAIN,
       .pu = {.gamma = 1},
       .light = {0.05, 0.1, 0.03},
       .rates = {.lr = NAN, .momentum = NAN, .weight_decay = NAN},
       .val_share = 0.2,
       .prior_text = "auto",
       .init = "none"};

static const int depths[] = {18, 34, 50}, reaches[] = {4, 8, 16};
enum { METHOD_PU, METHOD_LABELS };

static const struct ws2_option options[] = {
    {"output", 'o', WS2_OPT_TEXT, &o.output, "FILE", "the weights, .safetensors", 0, 0, 0},
    {"method", 0, WS2_OPT_CHOICE, &o.method, "pu|labels", "learn from the two cameras, or from masks", 0, 0,
     0},
    {"labels", 0, WS2_OPT_TEXT, &o.labels, "NAME", "masks to learn from", 0, 0, 0},
    {"prior", 0, WS2_OPT_TEXT, &o.prior_text, "auto|P", "share of wanted items before the sorter", 0, 0, 0},
    {"rounds", 0, WS2_OPT_INT, &o.rounds, "N", "of learning from what the last round is sure of", 0, 0, 16},
    {"halves", 0, WS2_OPT_CHOICE, &o.halves, "yes|no",
     "frames are judged by networks that have not seen them", 0, 0, 0},
    {"low", 0, WS2_OPT_REAL, &o.low, "Q", "quantile of scores below which all is wanted [0.775 prior]", 0, 0,
     1},
    {"high", 0, WS2_OPT_REAL, &o.high, "Q", "and from which all is unwanted [prior + 0.485 (1 - prior)]", 0,
     0, 1},
    {"frames", 0, WS2_OPT_REAL, &o.frames, "X", "weight of the frames' own loss", 0, 0, 100},
    {"top", 0, WS2_OPT_REAL, &o.top, "X", "share of a frame's item pixels that it looks at", 0, 0, 1},
    {"paste", 0, WS2_OPT_REAL, &o.paste, "X", "share of frames with items of another one beside", 0, 0, 1},
    {"form", 0, WS2_OPT_CHOICE, &o.form, "absolute|kiryo|plain", "of the first loss", 0, 0, 0},
    {"beta", 0, WS2_OPT_REAL, &o.pu.beta, "X", "kiryo: how negative it may get", 0, 0, 100},
    {"gamma", 0, WS2_OPT_REAL, &o.pu.gamma, "X", "kiryo: length of the step back", 0, 0, 100},
    {"backbone", 0, WS2_OPT_CHOICE, &o.backbone, "resnet18|resnet34|resnet50", "network", 0, 0, 0},
    {"reach", 0, WS2_OPT_CHOICE, &o.reach, "4|8|16", "its coarsest stride in pixels", 0, 0, 0},
    {"size", 0, WS2_OPT_INT, &o.size, "N", "side of the network's input", 0, 32, 8192},
    {"epochs", 0, WS2_OPT_REAL, &o.epochs, "N", "passes over the data in each round", 0, 1, 1e5},
    {"batch", 0, WS2_OPT_INT, &o.batch, "N", "pictures per step", 0, 2, 4096},
    {"init", 0, WS2_OPT_TEXT, &o.init, "FILE", "pretrained weights, or none: seeded random ones", 0, 0, 0},
    {"lr", 0, WS2_OPT_REAL, &o.rates.lr, "X", "learning rate [0.001]", 0, 0, 100},
    {"weight-decay", 0, WS2_OPT_REAL, &o.rates.weight_decay, "X", "[0.001]", 0, 0, 100},
    {"flat-field", 0, WS2_OPT_LIST, &o.flat.file, "FILE", "even light by this belt, repeatable", 0, 0, 0},
    {"light", 0, WS2_OPT_REAL, &o.light.channel, "X", "deviation of each channel's gain", 0, 0, 1},
    {"common-light", 0, WS2_OPT_REAL, &o.light.common, "X", "of the gain of all", 0, 0, 1},
    {"offset-light", 0, WS2_OPT_REAL, &o.light.offset, "X", "of what is added to all", 0, 0, 1},
    {"flip", 0, WS2_OPT_CHOICE, &o.flip, "all|hv|h|v|none", "mirror by chance; all: swap sides too", 0, 0, 0},
    {"validation", 0, WS2_OPT_LIST, &o.validation, "FILE", "file to validate on, repeatable", 0, 0, 0},
    {"val-share", 0, WS2_OPT_REAL, &o.val_share, "X", "else this share of the sequences", 0, 0.001, 0.9},
    {"patience", 0, WS2_OPT_INT, &o.patience, "N", "end a round after N epochs without gain", 0, 0, 100000},
    {"resume", 0, WS2_OPT_FLAG, &o.resume, NULL, "go on where a run was interrupted", 0, 0, 0},
    {"log", 0, WS2_OPT_TEXT, &o.log, "FILE", "table of all epochs of the last round, TSV", 0, 0, 0},
    {"figures", 0, WS2_OPT_TEXT, &o.figures, "FILE", "table of what is known of each round, TSV", 0, 0, 0},
    {"check", 0, WS2_OPT_FLAG, &o.check, NULL, "verify inputs and settings, then stop", 0, 0, 0},
    {0}};

static const struct ws2_program program = {
    .name = "ws2-seg-train",
    .operands = "FILE...",
    .summary = "learn which pixels are unwanted from frames before and after the sorter",
    .reads = "rgb:u8[h,w,3] fg:u8[h,w]",
    .examples = "  ws2-seg-train -o pu.safetensors *.fg.ws2\n"
                "  ws2-seg-train --prior 0.6 --figures pu.tsv -o pu.safetensors *.fg.ws2",
    .takes = WS2_TAKES_OPERANDS | WS2_TAKES_THREADS | WS2_TAKES_SEED | WS2_TAKES_DEVICE | WS2_TAKES_PROGRESS,
    .options = options};

/* ---- settings ------------------------------------------------------------------------------------------------- */

static struct ws2_data_options data_options(const struct ws2_common *common)
{
    const bool labels = o.method == METHOD_LABELS;
    return (struct ws2_data_options){.path = common->operand,
                                     .paths = common->operands,
                                     .validation = o.validation.item,
                                     .validations = o.validation.count,
                                     .share = o.val_share,
                                     .halves = !labels && o.rounds > 0 && o.halves == 0,
                                     .loader = {.classes = 2,
                                                .background = WS2_BACKGROUND_REMOVE,
                                                .fill = WS2_FILL_MEAN,
                                                .flat = {[WS2_CLASS_AFTER] = o.flat.of[WS2_ROLE_AFTER],
                                                         [WS2_CLASS_BEFORE] = o.flat.of[WS2_ROLE_BEFORE]},
                                                .size = (int)o.size,
                                                .flip_x = o.flip <= 2,
                                                .flip_y = o.flip <= 1 || o.flip == 3,
                                                .dense = true,
                                                .seeds = labels,
                                                .labels = labels ? o.labels : NULL,
                                                .cells = labels ? (int)o.size : 0,
                                                .paste = labels ? 0 : o.paste,
                                                .transpose = o.flip == 0,
                                                .light = o.light,
                                                .seed = common->seed,
                                                .batch = (int)o.batch,
                                                .threads = common->threads > 2 ? common->threads / 2 : 1}};
}

/* The prior that was asked for, or what the shares of both cameras say. */
static void find_prior(struct ws2_data *data)
{
    struct ws2_error error = {0};
    const bool asked = strcmp(o.prior_text, "auto") != 0;
    double share[2];
    o.pu.prior = asked ? o.prior : NAN;
    must(dense_shares(data->train, share, &error), &error);
    must(dense_prior(&o.pu.prior, share, &error), &error);
    ws2_note("items cover %.2f %% before the sorter, %.2f %% after it: prior %.3f%s",
             100 * share[WS2_CLASS_BEFORE], 100 * share[WS2_CLASS_AFTER], o.pu.prior,
             asked ? ", as asked for" : "");
}

/* Quantiles that were not asked for follow from the prior. */
static void find_quantiles(void)
{
    double low, high;
    dense_quantiles(o.pu.prior, &low, &high);
    o.low = isnan(o.low) ? low : o.low;
    o.high = isnan(o.high) ? high : o.high;
    if (o.low > o.high)
        ws2_die_text(WS2_ERR_USAGE, "--low %g is above --high %g", o.low, o.high);
}

static void settle(const struct ws2_common *common)
{
    char *end;
    o.prior = strtod(o.prior_text, &end);
    if (o.output == NULL)
        ws2_die_text(WS2_ERR_USAGE, "-o FILE is needed");
    if (common->operands == 0)
        ws2_die_text(WS2_ERR_USAGE, "no input files");
    if (strcmp(o.prior_text, "auto") != 0 && (end == o.prior_text || *end || !(o.prior > 0 && o.prior < 1)))
        ws2_die_text(WS2_ERR_USAGE, "--prior: '%s' is neither auto nor between 0 and 1", o.prior_text);
    if (o.low > o.high)
        ws2_die_text(WS2_ERR_USAGE, "--low %g is above --high %g", o.low, o.high);
    if (o.epochs != floor(o.epochs))
        ws2_die_text(WS2_ERR_USAGE, "--epochs: %g is not a whole number", o.epochs);
    o.pu.form = (enum ws2_pu_form)o.form;
    if (o.method == METHOD_LABELS)
        o.rounds = 0;
}

/* ---- rounds --------------------------------------------------------------------------------------------------- */

static struct dense_options dense_options(const struct ws2_common *common)
{
    return (struct dense_options){.net = {.depth = depths[o.backbone],
                                          .reach = reaches[o.reach],
                                          .size = (int)o.size,
                                          .threshold = 0.5},
                                  .init = strcmp(o.init, "none") == 0 ? NULL : o.init,
                                  .seed = (uint64_t)common->seed,
                                  .labels = o.method == METHOD_LABELS,
                                  .pu = o.pu,
                                  .rates = o.rates,
                                  .frames = o.frames,
                                  .top = o.top,
                                  .low = o.low,
                                  .high = o.high};
}

/* The weights that all rounds begin with, and the files at the end, are tried before anything is read. */
static void try_files(struct nn *nn, const struct ws2_common *common)
{
    struct ws2_error error = {0};
    const struct dense_options dense = dense_options(common);
    struct nn_load_report report = {0};
    struct fpn fpn;
    if (file_is_special(o.output))
        ws2_die_text(WS2_ERR_SYSTEM, "%s: not a regular file", o.output);
    const char *const path[] = {o.output, o.log, o.figures};
    for (int i = 0; i < 3; i++)
        if (path[i] && !file_is_special(path[i]))
            file_try(path[i]);
    must(fpn_open(&fpn, nn, &dense.net, &error), &error);
    must(fpn_begin(&fpn, dense.seed, dense.init, &report, &error), &error);
    if (dense.init)
        ws2_note("%s: %s", dense.init, report.text);
    fpn_close(&fpn);
}

/* One round, of which `last` is the one before, unless it is the first. */
static void learn_round(struct dense_round *round, int number, const struct dense_round *last, struct nn *nn,
                        const struct ws2_data *data, const struct dense_options *dense,
                        struct rounds_progress *progress)
{
    struct ws2_error error = {0};
    char *name[2];
    rounds_name(name, o.output, number, (int)o.rounds, data->half[0] != NULL);
    const struct ws2_train_options run = {.epochs = (int64_t)o.epochs,
                                          .patience = o.patience,
                                          .log = number == o.rounds ? o.log : NULL,
                                          .resume = o.resume,
                                          .report = rounds_report,
                                          .context = progress};
    dense_round_close(round);
    must(dense_learn(round, nn, number, number ? last : NULL, dense, data, &run, (const char *const *)name,
                     &error),
         &error);
    free(name[0]);
    free(name[1]);
}

static void train(struct nn *nn, struct ws2_data *data, const struct ws2_common *common)
{
    struct dense_round round[2] = {0}; /* this one and the one before */
    char *text = NULL;
    size_t size;
    FILE *table = ws2_must(open_memstream(&text, &size));
    const struct dense_options dense = dense_options(common);
    const int64_t steps = (int64_t)o.epochs * ws2_loader_steps(data->train);
    rounds_head(table);
    ws2_cli_progress_begin(common, "steps", (o.rounds + 1) * steps);
    for (int number = 0; number <= o.rounds; number++) {
        struct rounds_progress progress = {.before = number * steps};
        struct dense_round *now = &round[number % 2];
        learn_round(now, number, &round[1 - number % 2], nn, data, &dense, &progress);
        rounds_tell(table, number, now, &dense);
    }
    ws2_cli_progress_end();
    rounds_warn(&round[o.rounds % 2].figures, &dense);
    if (fclose(table) != 0)
        ws2_must(NULL);
    if (o.figures)
        file_write(o.figures, text);
    free(text);
    dense_round_close(&round[0]);
    dense_round_close(&round[1]);
}

int main(int argc, char **argv)
{
    struct ws2_error error = {0};
    struct ws2_data data;
    ws2_cli_version_line(nn_version());
    struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    settle(&common);
    flat_open_both(&o.flat, &common);
    struct nn *nn = network_context(&common, common.threads);
    const struct ws2_data_options asked = data_options(&common);
    try_files(nn, &common);
    must(ws2_data_open(&data, &asked, &error), &error);
    if (o.method == METHOD_PU)
        find_prior(&data);
    if (o.method == METHOD_PU)
        find_quantiles();
    if (asked.halves && data.half[0] == NULL)
        ws2_warn("too few sequences for two halves: a network will judge the frames it has learnt by heart");
    if (!o.check)
        train(nn, &data, &common);
    ws2_data_close(&data);
    flat_close(&o.flat);
    nn_close(nn);
    return ws2_cli_end(NULL, 0);
}
