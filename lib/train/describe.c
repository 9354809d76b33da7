#include "train/internal.h"

static int describe_data(struct ws2_meta *meta, const struct ws2_loader *train, const struct ws2_loader *val)
{
    static const char *const fill[] = {"black", "mean", "belt"};
    static const char *const flip[] = {"none", "h", "v", "hv"};
    const struct ws2_loader_options *l = ws2_loader_settings(train);
    int bad = ws2_meta_set(meta, "mean", "0.485,0.456,0.406");
    bad |= ws2_meta_set(meta, "std", "0.229,0.224,0.225");
    bad |= ws2_meta_set(meta, "background", "%s, fill %s, bg from %s, margin %d",
                        l->background == WS2_BACKGROUND_KEEP ? "keep" : "remove", fill[l->fill],
                        l->bg_source == WS2_BG_FRAMES ? "frames" : "sequences", l->margin);
    bad |= ws2_meta_set(meta, "augment", "jitter %g, hue %g, flip %s", l->jitter, l->hue,
                        flip[l->flip_x + 2 * l->flip_y]);
    bad |= ws2_meta_set(meta, "batch", "%d%s", l->batch, l->balance ? " balanced" : "");
    bad |= ws2_meta_set(meta, "samples", "%lld after, %lld before, %lld bg; validation %lld",
                        (long long)ws2_loader_class_samples(train, WS2_CLASS_AFTER),
                        (long long)ws2_loader_class_samples(train, WS2_CLASS_BEFORE),
                        (long long)ws2_loader_class_samples(train, WS2_CLASS_BG),
                        (long long)ws2_loader_samples(val));
    bad |= ws2_meta_set(meta, "seed", "%lld", (long long)l->seed);
    return bad;
}

int ws2_train_describe(struct ws2_meta *meta, const struct ws2_loader *train, const struct ws2_loader *val,
                       const struct ws2_train_options *options)
{
    const struct ws2_loss_options *loss = &options->loss;
    const struct ws2_plan *plan = &options->plan;
    const bool puzzle = loss->method == WS2_METHOD_PUZZLE;
    int bad = describe_data(meta, train, val);
    bad |= ws2_meta_set(meta, "method", "%s", puzzle ? "puzzle" : "standard");
    if (puzzle)
        bad |=
            ws2_meta_set(meta, "loss", "multi-label soft margin, alpha %g%s, level %s", loss->alpha,
                         loss->alpha_ramp ? " ramp" : "", loss->level == WS2_PUZZLE_CAM ? "cam" : "feature");
    else
        bad |= ws2_meta_set(meta, "loss", "%s", loss->loss == WS2_LOSS_CE ? "ce" : "bce-softmax");
    bad |= ws2_meta_set(meta, "optimiser", "%s, momentum %g, decay %g, head x%g",
                        plan->optim.kind == NN_ADAM ? "adam" : "sgd",
                        plan->optim.kind == NN_ADAM ? plan->optim.beta1 : plan->optim.momentum,
                        plan->optim.group[0].weight_decay, plan->optim.group[2].lr_scale);
    bad |= ws2_meta_set(meta, "schedule", "%lld epochs, lr %g, %s, warm-up %g", (long long)options->epochs,
                        plan->lr, plan->poly ? "poly 0.9" : "constant", plan->warmup);
    return bad ? WS2_ERR_USAGE : WS2_OK;
}
