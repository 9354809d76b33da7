#include "train/internal.h"

#include <stdio.h>

static int describe_data(struct ws2_meta *meta, const struct ws2_loader *train, const struct ws2_loader *val)
{
    static const char *const fill[] = {"black", "mean", "belt"};
    static const char *const flip[] = {"none", "h", "v", "hv"};
    static const struct ws2_flat_params none = {0};
    const struct ws2_loader_options *l = ws2_loader_settings(train);
    char flat[WS2_FLAT_TEXT];
    int bad = ws2_meta_set(meta, "mean", "0.485,0.456,0.406");
    bad |= ws2_meta_set(meta, "std", "0.229,0.224,0.225");
    bad |= ws2_meta_set(meta, "background", "%s, fill %s, bg from %s, margin %d",
                        l->background == WS2_BACKGROUND_KEEP ? "keep" : "remove", fill[l->fill],
                        l->bg_source == WS2_BG_FRAMES ? "frames" : "sequences", l->margin);
    if (l->dense)
        bad |= ws2_meta_set(meta, "flat", "%s",
                            ws2_flat_text(l->flat[0] ? ws2_flat_settings(l->flat[0]) : &none, flat));
    bad |= ws2_meta_set(meta, "augment", "jitter %g, hue %g, flip %s", l->jitter, l->hue,
                        flip[l->flip_x + 2 * l->flip_y]);
    if (l->dense)
        bad |= ws2_meta_set(meta, "light", "channel %g, common %g, offset %g%s", l->light.channel,
                            l->light.common, l->light.offset, l->transpose ? ", transposed" : "");
    if (l->dense && l->labels == NULL) /* 0 too: a run with items beside is no run without */
        bad |= ws2_meta_set(meta, "paste", "%g", l->paste);
    if (l->half != WS2_HALF_BOTH)
        bad |= ws2_meta_set(meta, "half", "%s", l->half == WS2_HALF_FIRST ? "first" : "second");
    if (l->labels)
        bad |= ws2_meta_set(meta, "labels", "%.60s", l->labels);
    bad |= ws2_meta_set(meta, "batch", "%d%s", l->batch, l->balance ? " balanced" : "");
    bad |= ws2_meta_set(meta, "samples", "%s%lld after, %lld before, %lld bg; validation %lld",
                        l->triplets  ? "triplets: "
                        : l->centres ? "centres: "
                                     : "",
                        (long long)ws2_loader_class_samples(train, WS2_CLASS_AFTER),
                        (long long)ws2_loader_class_samples(train, WS2_CLASS_BEFORE),
                        (long long)ws2_loader_class_samples(train, WS2_CLASS_BG),
                        (long long)ws2_loader_samples(val));
    bad |= ws2_meta_set(meta, "seed", "%lld", (long long)l->seed);
    return bad;
}

/* Terms and weights, as far as the method has them. */
static int describe_loss(struct ws2_meta *meta, const struct ws2_loss_options *o)
{
    static const char *const ramp[] = {"none", "none", "first", "second"};
    const bool tiles = ws2_method_has_tiles(o->method), triplets = ws2_method_has_triplets(o->method);
    char alpha[32] = "", beta[32] = "", rise[16] = "";
    if (o->method == WS2_METHOD_FEATURES || o->method == WS2_METHOD_EDGES)
        return ws2_meta_set(meta, "loss", "affinities of pairs");
    if (o->method >= WS2_METHOD_PU)
        return WS2_OK; /* told by models/dense.h */
    if (o->method == WS2_METHOD_STANDARD)
        return ws2_meta_set(meta, "loss", "%s", o->loss == WS2_LOSS_CE ? "ce" : "bce-softmax");
    if (tiles)
        snprintf(alpha, sizeof alpha, ", alpha %g", o->alpha);
    if (triplets)
        snprintf(beta, sizeof beta, ", beta %g", o->beta);
    if (tiles || triplets)
        snprintf(rise, sizeof rise, ", ramp %s", ramp[o->ramp]);
    int bad = ws2_meta_set(meta, "loss", "multi-label soft margin%s%s%s%s", alpha, beta, rise,
                           !tiles                       ? ""
                           : o->level == WS2_PUZZLE_CAM ? ", level cam"
                                                        : ", level feature");
    if (triplets)
        bad |= ws2_meta_set(meta, "warp", "%s, maps normalised %s", o->compat_warp ? "compat" : "plain",
                            o->normalise_first ? "before" : "when fused");
    return bad;
}

int ws2_train_describe(struct ws2_meta *meta, const struct ws2_loader *train, const struct ws2_loader *val,
                       const struct ws2_train_options *options)
{
    static const char *const kind[] = {[NN_SGD] = "sgd", [NN_ADAM] = "adam", [NN_ADAMW] = "adamw"};
    const struct ws2_plan *plan = &options->plan;
    int bad = ws2_meta_set(meta, "method", "%s", ws2_method_name(options->loss.method));
    bad |= describe_data(meta, train, val);
    bad |= describe_loss(meta, &options->loss);
    bad |= ws2_meta_set(meta, "optimiser", "%s, momentum %g, decay %g, head x%g", kind[plan->optim.kind],
                        plan->optim.kind == NN_SGD ? plan->optim.momentum : plan->optim.beta1,
                        plan->optim.group[0].weight_decay, plan->optim.group[2].lr_scale);
    bad |= ws2_meta_set(meta, "schedule", "%lld epochs, lr %g, %s, warm-up %g", (long long)options->epochs,
                        plan->lr,
                        plan->poly     ? "poly 0.9"
                        : plan->cosine ? "cosine"
                                       : "constant",
                        plan->warmup);
    return bad ? WS2_ERR_USAGE : WS2_OK;
}
