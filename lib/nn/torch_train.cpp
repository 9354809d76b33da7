/*
 * Gradients, and what training does with parameters: making them, overwriting them, the optimisers' arithmetic.
 */
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "nn/torch.h"

/* ---- autograd ------------------------------------------------------------------------------------------ */

void nn_no_grad_begin(struct nn *nn)
{
    if (nn->no_grad++ == 0)
        at::GradMode::set_enabled(false);
}

void nn_no_grad_end(struct nn *nn)
{
    if (nn->no_grad > 0 && --nn->no_grad == 0)
        at::GradMode::set_enabled(true);
}

bool nn_grad_enabled(const struct nn *nn)
{
    return nn->no_grad == 0;
}

struct nn_tensor *nn_detach(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_detach", x, [](const Tensor &a) { return a.detach(); });
}

struct nn_tensor *nn_requires_grad(struct nn *nn, struct nn_tensor *x, bool on)
{
    return in_place(nn, "nn_requires_grad", x, [&](const Tensor &a) { a.requires_grad_(on); });
}

bool nn_has_grad_path(const struct nn_tensor *x)
{
    return x && x->value.requires_grad();
}

int nn_backward(struct nn *nn, struct nn_tensor *loss)
{
    return guard(nn, "nn_backward", [&] {
        if (get(loss).numel() != 1)
            throw bad_argument{"the loss is not one element"};
        loss->value.backward();
    });
}

bool nn_has_leaf_grad(const struct nn_tensor *x)
{
    return x && x->value.is_leaf() && x->value.grad().defined();
}

struct nn_tensor *nn_leaf_grad(struct nn *nn, struct nn_tensor *x)
{
    return unary(nn, "nn_leaf_grad", x, [](const Tensor &a) {
        if (!a.is_leaf())
            throw bad_argument{"not a leaf"};
        return a.grad().defined() ? a.grad() : at::zeros_like(a);
    });
}

void nn_clear_grad(struct nn *nn, struct nn_tensor *x)
{
    guard(nn, "nn_clear_grad", [&] {
        get(x);
        x->value.mutable_grad().reset();
    });
}

int nn_grad(struct nn *nn, struct nn_tensor *y, struct nn_tensor *const *x, int count, bool keep_graph,
            bool higher, struct nn_tensor **out)
{
    for (int i = 0; i < count; i++)
        out[i] = nullptr;
    return guard(nn, "nn_grad", [&] {
        std::vector<Tensor> inputs = list(x, count);
        std::vector<Tensor> result = torch::autograd::grad({get(y)}, inputs, {at::ones_like(y->value)},
                                                           keep_graph || higher, higher, true);
        for (int i = 0; i < count; i++) {
            size_t k = (size_t)i;
            out[i] = wrap(nn, result[k].defined() ? result[k] : at::zeros_like(inputs[k]));
        }
    });
}

/* ---- parameters and optimisers ------------------------------------------------------------------------- */

struct nn_tensor *nn_new_parameter(struct nn *nn, struct ws2_shape shape, enum nn_dtype dtype, bool grad)
{
    struct nn_tensor *result = nullptr;
    guard(nn, "nn_declare", [&] {
        Tensor x = at::zeros(dims(shape), options(nn, scalar_type(dtype)));
        if (shape.rank == 4)
            x = in_layout(nn, x);
        x.requires_grad_(grad);
        result = wrap(nn, x, 0);
    });
    return result;
}

int nn_assign(struct nn *nn, struct nn_tensor *to, struct nn_tensor *from)
{
    return guard(nn, "nn_assign", [&] {
        at::NoGradGuard off;
        get(to).copy_(get(from));
    });
}

int nn_share(struct nn *nn, struct nn_tensor *to, const struct nn_tensor *from)
{
    return guard(nn, "nn_params_share", [&] {
        to->value = from->value;
        to->lowered = Tensor();
    });
}

static std::vector<Tensor> gradients(const std::vector<Tensor> &params)
{
    std::vector<Tensor> grads;
    grads.reserve(params.size());
    for (const Tensor &p : params)
        grads.push_back(p.grad());
    return grads;
}

int nn_update_sgd(struct nn *nn, const struct nn_update *u)
{
    return guard(nn, "nn_optim_step", [&] {
        if (u->count == 0)
            return;
        at::NoGradGuard off;
        std::vector<Tensor> params = list(u->param, u->count), step = gradients(params);
        if (u->weight_decay != 0)
            step = at::_foreach_add(step, params, u->weight_decay);
        if (u->first) {
            std::vector<Tensor> buffers = list(u->first, u->count);
            if (!u->fresh)
                at::_foreach_mul_(buffers, u->momentum);
            at::_foreach_add_(buffers, step, 1);
            step = u->nesterov ? at::_foreach_add(step, buffers, u->momentum) : buffers;
        }
        at::_foreach_add_(params, step, -u->lr);
    });
}

/* Kingma & Ba 2015, algorithm 1, with the bias corrections taken into the step size as PyTorch does:
 * p -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps). */
int nn_update_adam(struct nn *nn, const struct nn_update *u)
{
    return guard(nn, "nn_optim_step", [&] {
        if (u->count == 0)
            return;
        at::NoGradGuard off;
        std::vector<Tensor> params = list(u->param, u->count), grads = gradients(params);
        std::vector<Tensor> first = list(u->first, u->count), second = list(u->second, u->count);
        if (u->weight_decay != 0 && u->decoupled)
            at::_foreach_mul_(params, 1 - u->lr * u->weight_decay);
        else if (u->weight_decay != 0)
            grads = at::_foreach_add(grads, params, u->weight_decay);
        at::_foreach_mul_(first, u->beta1);
        at::_foreach_add_(first, grads, 1 - u->beta1);
        at::_foreach_mul_(second, u->beta2);
        at::_foreach_addcmul_(second, grads, grads, 1 - u->beta2);
        double correct1 = 1 - std::pow(u->beta1, (double)u->step);
        double correct2 = 1 - std::pow(u->beta2, (double)u->step);
        std::vector<Tensor> width = at::_foreach_sqrt(second);
        at::_foreach_div_(width, std::sqrt(correct2));
        at::_foreach_add_(width, u->eps);
        at::_foreach_addcdiv_(params, first, width, -u->lr / correct1);
    });
}

double nn_clip_grads(struct nn *nn, struct nn_tensor *const *param, int count, double max)
{
    double norm = NAN;
    guard(nn, "nn_params_clip_grad", [&] {
        at::NoGradGuard off;
        std::vector<Tensor> grads = gradients(list(param, count));
        if (grads.empty()) {
            norm = 0;
            return;
        }
        std::vector<Tensor> norms = at::_foreach_norm(grads, 2);
        norm = at::linalg_vector_norm(at::stack(norms)).to(at::kDouble).item().toDouble();
        if (norm > max)
            at::_foreach_mul_(grads, max / (norm + 1e-6));
    });
    return norm;
}
