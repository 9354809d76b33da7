#include "models/classifier.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int depth;
} backbones[] = {{"resnet18", 18}, {"resnet34", 34}, {"resnet50", 50}, {"resnet101", 101}};

const char *classifier_backbone(int depth)
{
    for (size_t i = 0; i < sizeof backbones / sizeof *backbones; i++) {
        if (depth == backbones[i].depth)
            return backbones[i].name;
    }
    return "";
}

int classifier_depth(const char *backbone)
{
    for (size_t i = 0; i < sizeof backbones / sizeof *backbones; i++) {
        if (strcmp(backbone, backbones[i].name) == 0)
            return backbones[i].depth;
    }
    return 0;
}

const char *classifier_head_pattern(enum resnet_head head)
{
    return head == RESNET_HEAD_MAPS ? "classifier.*" : "fc.*";
}

static const char *head_weight_name(enum resnet_head head)
{
    return head == RESNET_HEAD_MAPS ? "classifier.weight" : "fc.weight";
}

/* ---- what a file holds ------------------------------------------------------------------------------------ */

/* Names of the WS2 authors' checkpoints begin with "0." (network and softmax in a row) or "model.". */
static const char *find_prefix(const struct nn_weights *weights)
{
    static const char *const prefix[] = {"", "0.", "model."};
    for (size_t i = 0; i < sizeof prefix / sizeof *prefix; i++) {
        char name[64];
        snprintf(name, sizeof name, "%sconv1.weight", prefix[i]);
        if (nn_weights_find(weights, name) >= 0)
            return prefix[i];
    }
    return NULL;
}

static bool has(const struct nn_weights *weights, const char *prefix, const char *name)
{
    char full[96];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return nn_weights_find(weights, full) >= 0;
}

static int guess_depth(const struct nn_weights *weights, const char *prefix)
{
    if (has(weights, prefix, "layer1.0.conv3.weight"))
        return has(weights, prefix, "layer3.22.conv1.weight") ? 101 : 50;
    return has(weights, prefix, "layer1.2.conv1.weight") ? 34 : 18;
}

/* The head of a file, wherever it stands: index of its weight, or -1. */
static int find_head(const struct nn_weights *weights, const char *prefix, enum resnet_head head)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", prefix, head_weight_name(head));
    const int index = nn_weights_find(weights, name);
    return index >= 0 ? index : nn_weights_find(weights, head_weight_name(head));
}

static int guess(struct classifier_info *info, const struct nn_weights *weights, struct ws2_error *error)
{
    static const char *const usual[] = {"after", "before", "bg"};
    const char *prefix = find_prefix(weights);
    if (prefix == NULL)
        return ws2_fail(error, WS2_ERR_MODEL, "the file holds no ResNet: it lacks conv1.weight");
    info->net.depth = guess_depth(weights, prefix);
    int head = find_head(weights, prefix, RESNET_HEAD_MAPS);
    info->net.head = head >= 0 ? RESNET_HEAD_MAPS : RESNET_HEAD_FC;
    if (head < 0)
        head = find_head(weights, prefix, RESNET_HEAD_FC);
    if (head < 0)
        return ws2_fail(error, WS2_ERR_MODEL, "the file has neither classifier.weight nor fc.weight");
    const struct ws2_shape shape = nn_weights_at(weights, head)->shape;
    if (shape.rank < 2 || shape.dim[0] < 2 || shape.dim[0] > 3)
        return ws2_fail(error, WS2_ERR_MODEL, "%s has %lld classes, not 2 (after, before) or 3 (and bg)",
                        nn_weights_at(weights, head)->name, (long long)(shape.rank ? shape.dim[0] : 0));
    info->net.classes = (int)shape.dim[0];
    info->exclusive = info->net.head == RESNET_HEAD_FC;
    for (int c = 0; c < info->net.classes; c++)
        strcpy(info->class_name[c], usual[c]);
    return WS2_OK;
}

int classifier_bad_fact(const char *key, const char *value, struct ws2_error *error)
{
    return ws2_fail(error, WS2_ERR_MODEL, "the file says '%s' is '%.60s', which is not known", key,
                    value ? value : "");
}

static int parse_classes(struct classifier_info *info, const char *names, struct ws2_error *error)
{
    const char *p = names ? names : "";
    info->net.classes = 0;
    while (*p) {
        const size_t n = strcspn(p, ",");
        if (n == 0 || n >= sizeof info->class_name[0] || info->net.classes == CLASSIFIER_CLASSES_MAX)
            return classifier_bad_fact("class_names", names, error);
        snprintf(info->class_name[info->net.classes++], sizeof info->class_name[0], "%.*s", (int)n, p);
        p += n + (p[n] == ',');
    }
    return info->net.classes >= 2 ? WS2_OK : classifier_bad_fact("class_names", names, error);
}

static const char *const fill_name[] = {"black", "mean", "belt"};

static int from_meta(struct classifier_info *info, const struct nn_weights *weights, struct ws2_error *error)
{
    const char *backbone = nn_weights_meta(weights, "backbone"), *stride = nn_weights_meta(weights, "stride");
    const char *head = nn_weights_meta(weights, "head"), *size = nn_weights_meta(weights, "size");
    const char *probability = nn_weights_meta(weights, "probability"),
               *fill = nn_weights_meta(weights, "fill");
    info->net.depth = classifier_depth(backbone);
    if (info->net.depth == 0)
        return classifier_bad_fact("backbone", backbone, error);
    if (stride == NULL || (strcmp(stride, "32") != 0 && strcmp(stride, "16") != 0))
        return classifier_bad_fact("stride", stride, error);
    info->net.stride = strcmp(stride, "16") == 0 ? RESNET_STRIDE_16 : RESNET_STRIDE_32;
    if (head == NULL || (strcmp(head, "fc") != 0 && strcmp(head, "maps") != 0))
        return classifier_bad_fact("head", head, error);
    info->net.head = strcmp(head, "maps") == 0 ? RESNET_HEAD_MAPS : RESNET_HEAD_FC;
    if (probability == NULL || (strcmp(probability, "softmax") != 0 && strcmp(probability, "sigmoid") != 0))
        return classifier_bad_fact("probability", probability, error);
    info->exclusive = strcmp(probability, "softmax") == 0;
    info->size = size ? atoi(size) : 0;
    if (info->size < 1 || info->size > 65535)
        return classifier_bad_fact("size", size, error);
    info->fill = CLASSIFIER_FILL_BLACK;
    while (fill && strcmp(fill, fill_name[info->fill]) != 0)
        if (++info->fill > CLASSIFIER_FILL_BELT)
            return classifier_bad_fact("fill", fill, error);
    return parse_classes(info, nn_weights_meta(weights, "class_names"), error);
}

int classifier_info_read(struct classifier_info *info, const struct nn_weights *weights,
                         const struct classifier_info *fallback, struct ws2_error *error)
{
    *info = *fallback;
    return nn_weights_meta(weights, "backbone") ? from_meta(info, weights, error)
                                                : guess(info, weights, error);
}

/* ---- the network ------------------------------------------------------------------------------------------ */

int classifier_open(struct classifier *classifier, struct nn *nn, const struct classifier_info *info,
                    struct ws2_error *error)
{
    *classifier = (struct classifier){.info = *info};
    classifier->params = nn_params_new(nn);
    if (classifier->params)
        classifier->net = resnet_new(classifier->params, &info->net);
    if (classifier->net)
        return WS2_OK;
    const int status = nn_check(nn, error);
    classifier_close(classifier);
    return status < 0 ? status : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

void classifier_close(struct classifier *classifier)
{
    resnet_free(classifier->net);
    nn_params_free(classifier->params);
    *classifier = (struct classifier){0};
}

int classifier_load_trunk(struct nn_params *params, const struct nn_weights *weights, const char *const *own,
                          int owns, struct nn_load_report *report, struct ws2_error *error)
{
    const char *prefix = find_prefix(weights);
    struct nn_load_options options = {.prefix = prefix && *prefix ? prefix : NULL,
                                      .skip = {"fc.*", "classifier.*"}};
    for (int i = 0; i < owns && i < CLASSIFIER_OWN_MAX; i++)
        options.skip[2 + i] = own[i];
    return nn_params_load(params, weights, &options, report, error);
}

static int load(struct classifier *classifier, const struct nn_weights *weights, bool with_head,
                struct nn_load_report *report, struct ws2_error *error)
{
    const char *prefix = find_prefix(weights);
    const bool beside = prefix && strcmp(prefix, "model.") == 0;
    struct nn_load_options options = {.prefix = prefix && *prefix ? prefix : NULL};
    if (beside)
        options.skip[0] = classifier_head_pattern(classifier->info.net.head);
    int status = with_head ? nn_params_load(classifier->params, weights, &options, report, error)
                           : classifier_load_trunk(classifier->params, weights, NULL, 0, report, error);
    /* The backbone stands under "model." (and once more under stage names), the head beside it. */
    const struct nn_load_options rest = {.skip = {"conv1.*", "bn1.*", "layer*", "model.*", "stage*"}};
    if (status >= 0 && with_head && beside)
        status = nn_params_load(classifier->params, weights, &rest, report, error);
    return status < 0 ? status : nn_params_digest(classifier->params, classifier->digest, error);
}

int classifier_read(struct classifier *classifier, struct nn *nn, const char *path,
                    const struct classifier_info *fallback, struct ws2_error *error)
{
    struct nn_weights *weights;
    struct nn_load_report report;
    struct classifier_info info;
    *classifier = (struct classifier){0};
    int status = nn_weights_open(&weights, path, NULL, error);
    if (status < 0)
        return status; /* the text begins with the path */
    status = classifier_info_read(&info, weights, fallback, error);
    if (status >= 0)
        status = classifier_open(classifier, nn, &info, error);
    if (status >= 0)
        status = load(classifier, weights, true, &report, error);
    nn_weights_close(weights);
    if (status < 0) {
        classifier_close(classifier);
        ws2_error_prefix(error, "%s", path);
    }
    return status;
}

int classifier_twin(struct classifier *classifier, struct nn *nn, const struct classifier *from,
                    struct ws2_error *error)
{
    int status = classifier_open(classifier, nn, &from->info, error);
    if (status < 0)
        return status;
    memcpy(classifier->digest, from->digest, sizeof classifier->digest);
    nn_params_share(classifier->params, from->params);
    status = nn_check(nn, error);
    if (status < 0)
        classifier_close(classifier);
    return status;
}

/* Has the file a head of this network's form and number of classes? */
static bool fits_head(const struct classifier *classifier, const struct nn_weights *weights)
{
    const char *prefix = find_prefix(weights);
    const int head = find_head(weights, prefix ? prefix : "", classifier->info.net.head);
    const struct nn_weight *found = nn_weights_at(weights, head);
    return found && found->shape.rank >= 2 && found->shape.dim[0] == classifier->info.net.classes;
}

int classifier_begin(struct classifier *classifier, uint64_t seed, const char *path,
                     struct nn_load_report *report, struct ws2_error *error)
{
    struct nn_weights *weights = NULL;
    int status = path ? nn_weights_open(&weights, path, NULL, error) : WS2_OK;
    if (status < 0)
        return status;
    nn_params_init(classifier->params, seed);
    status = nn_check(nn_params_context(classifier->params), error);
    if (status >= 0 && weights) {
        status = load(classifier, weights, fits_head(classifier, weights), report, error);
        if (status < 0)
            ws2_error_prefix(error, "%s", path);
    }
    nn_weights_close(weights);
    return status;
}

/* ---- facts ------------------------------------------------------------------------------------------------ */

static int pixels_per_cell(const struct classifier_info *info)
{
    return info->net.stride == RESNET_STRIDE_16 ? 16 : 32;
}

int classifier_check_names(const struct classifier_info *info, const char *(*name)(int),
                           struct ws2_error *error)
{
    for (int c = 0; c < info->net.classes; c++)
        if (strcmp(info->class_name[c], name(c)) != 0)
            return ws2_fail(error, WS2_ERR_MODEL,
                            "class %d is '%s'; known are after, before, bg, in this order", c,
                            info->class_name[c]);
    return WS2_OK;
}

int classifier_cells(const struct classifier_info *info)
{
    const int cell = pixels_per_cell(info);
    return (info->size + cell - 1) / cell;
}

bool classifier_fits_quarters(const struct classifier_info *info)
{
    const int cell = pixels_per_cell(info), half = info->size / 2;
    return info->size % 2 == 0 && 2 * ((half + cell - 1) / cell) == classifier_cells(info);
}

struct classifier_fact classifier_fact_text(const char *key, const char *value)
{
    struct classifier_fact fact = {.key = key};
    snprintf(fact.value, sizeof fact.value, "%s", value);
    return fact;
}

struct classifier_fact classifier_fact_number(const char *key, double value)
{
    struct classifier_fact fact = {.key = key};
    snprintf(fact.value, sizeof fact.value, "%g", value);
    return fact;
}

static struct classifier_fact fact_of_names(const struct classifier_info *info)
{
    struct classifier_fact fact = {.key = "class_names"};
    size_t used = 0;
    for (int c = 0; c < info->net.classes && used < sizeof fact.value; c++)
        used += (size_t)snprintf(fact.value + used, sizeof fact.value - used, "%s%s", c ? "," : "",
                                 info->class_name[c]);
    return fact;
}

int classifier_facts(const struct classifier *classifier, struct classifier_fact fact[CLASSIFIER_FACTS_MAX])
{
    const struct classifier_info *info = &classifier->info;
    const struct nn *nn = nn_params_context(classifier->params);
    int n = 0;
    fact[n++] = classifier_fact_text("ws2", WS2_VERSION);
    fact[n++] = fact_of_names(info);
    fact[n++] = classifier_fact_number("size", info->size);
    fact[n++] = classifier_fact_text("backbone", classifier_backbone(info->net.depth));
    fact[n++] = classifier_fact_number("stride", pixels_per_cell(info));
    fact[n++] = classifier_fact_text("head", info->net.head == RESNET_HEAD_MAPS ? "maps" : "fc");
    fact[n++] = classifier_fact_text("probability", info->exclusive ? "softmax" : "sigmoid");
    fact[n++] = classifier_fact_text("fill", fill_name[info->fill]);
    fact[n++] = classifier_fact_text("init", *classifier->digest ? classifier->digest : "none");
    fact[n++] = classifier_fact_text("precision", nn_precision_name(nn_precision(nn)));
    return n;
}
