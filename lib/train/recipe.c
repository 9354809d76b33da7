#include "train/internal.h"

#include <math.h>

/* ---- weights of the loss ---------------------------------------------------------------------------------- */

void ws2_loss_settle(struct ws2_loss_options *options, enum ws2_recipe recipe)
{
    const bool pof = recipe == WS2_RECIPE_POF;
    if (isnan(options->alpha))
        options->alpha = pof ? 4 : 2;
    if (isnan(options->beta))
        options->beta = pof ? 4 : 6;
    if (options->ramp == WS2_RAMP_AUTO)
        options->ramp = pof ? WS2_RAMP_SECOND : WS2_RAMP_NONE;
}

double ws2_ramp_at(enum ws2_ramp ramp, int64_t step, int64_t epoch_steps, int64_t steps)
{
    const double half = 0.5 * (double)steps, from = ramp == WS2_RAMP_SECOND ? (double)epoch_steps : 0;
    const double t = (double)step;
    if ((ramp != WS2_RAMP_FIRST && ramp != WS2_RAMP_SECOND) || step >= steps)
        return 1;
    if (t < from)
        return 0;
    return t >= half ? 1 : (t - from) / (half - from);
}

/* ---- optimiser and schedule ------------------------------------------------------------------------------- */

/* Groups of the optimiser, as the papers' code has them. */
enum { BODY_WEIGHT, BODY_BIAS, HEAD_WEIGHT, HEAD_BIAS, GROUPS };

static double or_default(double value, double fallback)
{
    return isnan(value) ? fallback : value;
}

static void group_params(struct nn_params *params, const char *head)
{
    for (int i = 0; i < nn_params_count(params); i++)
        nn_param_set_group(params, i, BODY_WEIGHT);
    nn_params_set_group(params, head, HEAD_WEIGHT);
    for (int i = 0; i < nn_params_count(params); i++) {
        const struct nn_param *param = nn_params_at(params, i);
        if (param->kind == NN_BIAS)
            nn_param_set_group(params, i, param->group == HEAD_WEIGHT ? HEAD_BIAS : BODY_BIAS);
    }
}

static void set_groups(struct nn_optim_options *optim, double decay, double bias_scale, double head_scale)
{
    optim->groups = GROUPS;
    optim->group[BODY_WEIGHT] = (struct nn_group){1, decay};
    optim->group[BODY_BIAS] = (struct nn_group){bias_scale, 0};
    optim->group[HEAD_WEIGHT] = (struct nn_group){head_scale, decay};
    optim->group[HEAD_BIAS] = (struct nn_group){head_scale * bias_scale, 0};
}

/* Cross-entropy with Adam (WS2 section 5); coupled weight decay only when asked for. */
static void plan_adam(struct ws2_plan *plan, const struct ws2_optimiser_options *o)
{
    const double decay = or_default(o->weight_decay, 0);
    plan->optim = (struct nn_optim_options){.kind = NN_ADAM, .beta1 = or_default(o->momentum, 0.9)};
    set_groups(&plan->optim, decay, 1, 1);
    plan->optim.group[BODY_BIAS].weight_decay = plan->optim.group[HEAD_BIAS].weight_decay = decay;
    plan->lr = or_default(o->lr, 5e-4);
}

/* The optimiser class that Puzzle-CAM, WS2, PSA, IRN and SEAM share hands its weight decay to SGD in the place
 * of the momentum, and uses what it calls momentum, 0.9, as the power of the decay only. Its learning rates are
 * tuned to that: with a true momentum of 0.9 the step would be ten times as long. */
static void plan_poly(struct ws2_plan *plan, const struct ws2_optimiser_options *o, enum ws2_method method)
{
    const double decay = or_default(o->weight_decay, method == WS2_METHOD_FEATURES ? 5e-4 : 1e-4);
    plan->optim = (struct nn_optim_options){
        .kind = NN_SGD, .momentum = or_default(o->momentum, decay), .nesterov = true};
    set_groups(&plan->optim, decay, 2, 10);
    if (method == WS2_METHOD_EDGES) { /* IRN learns all of its layers alike */
        set_groups(&plan->optim, decay, 1, 1);
        plan->optim.group[BODY_BIAS].weight_decay = plan->optim.group[HEAD_BIAS].weight_decay = decay;
    }
    plan->optim.nesterov = plan->optim.momentum > 0;
    plan->lr = or_default(o->lr, 0.1);
    plan->poly = true;
}

/* From seeded random weights: nothing is pretrained, so body and head learn at one rate. */
static void plan_scratch(struct ws2_plan *plan, const struct ws2_optimiser_options *o)
{
    plan->optim = (struct nn_optim_options){.kind = NN_SGD, .momentum = or_default(o->momentum, 0.9)};
    plan->optim.nesterov = plan->optim.momentum > 0;
    set_groups(&plan->optim, or_default(o->weight_decay, 1e-4), 1, 1);
    plan->lr = or_default(o->lr, 0.01);
    plan->poly = true;
    plan->warmup = 0.05;
    plan->epochs = 3 * plan->epochs;
}

/* Pixels: a small network, from random or pretrained weights alike. */
static void plan_dense(struct ws2_plan *plan, const struct ws2_optimiser_options *o)
{
    plan->optim = (struct nn_optim_options){.kind = NN_ADAMW, .beta1 = or_default(o->momentum, 0.9)};
    set_groups(&plan->optim, or_default(o->weight_decay, 1e-3), 1, 1);
    plan->lr = or_default(o->lr, 1e-3);
    plan->cosine = true;
    plan->epochs = 4;
}

int ws2_plan_make(struct ws2_plan *plan, const struct ws2_optimiser_options *options, enum ws2_method method,
                  bool pretrained, struct nn_params *params, const char *head, struct ws2_error *error)
{
    *plan = (struct ws2_plan){.epochs = method == WS2_METHOD_FEATURES ? 8
                                        : method == WS2_METHOD_EDGES  ? 3
                                                                      : 25};
    const bool scratch = options->optimiser == WS2_OPTIMISER_SCRATCH ||
                         (options->optimiser == WS2_OPTIMISER_AUTO && !pretrained);
    if (method >= WS2_METHOD_PU)
        plan_dense(plan, options);
    else if (scratch)
        plan_scratch(plan, options);
    else if (method == WS2_METHOD_STANDARD)
        plan_adam(plan, options);
    else
        plan_poly(plan, options, method);
    if (!(plan->lr > 0) || plan->optim.momentum < 0 || plan->optim.momentum >= 1 || plan->optim.beta1 < 0 ||
        plan->optim.beta1 >= 1 || plan->optim.group[BODY_WEIGHT].weight_decay < 0)
        return ws2_fail(error, WS2_ERR_USAGE,
                        "the learning rate must be positive, the momentum in [0,1), the decay not negative");
    group_params(params, head);
    return WS2_OK;
}

double ws2_plan_rate(const struct ws2_plan *plan, int64_t step, int64_t steps)
{
    double rate = plan->lr;
    if (plan->poly && step < steps)
        rate *= pow(1 - (double)step / (double)steps, 0.9);
    if (plan->cosine && step < steps)
        rate *= 0.5 * (1 + cos(M_PI * (double)step / (double)steps));
    const double warm = plan->warmup * (double)steps;
    if ((double)(step + 1) < warm)
        rate *= (double)(step + 1) / warm;
    return rate;
}
