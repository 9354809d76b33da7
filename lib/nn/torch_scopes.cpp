/*
 * What a context keeps: the sticky error, with what exceptions become in it, and the scopes with their handles.
 * Questions to a tensor.
 */
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include <c10/util/Exception.h>

#include "nn/torch.h"

namespace
{

void keep_message(struct nn *nn, const char *op, int status, const char *text)
{
    const char *end = strchr(text, '\n');
    int length = (int)(end ? (size_t)(end - text) : strlen(text));
    ws2_fail(&nn->error, status, "%s: %.*s", op, length, text);
}

} // namespace

namespace ws2
{

int keep_exception(struct nn *nn, const char *op)
{
    try {
        throw;
    } catch (const bad_argument &e) {
        keep_message(nn, op, WS2_ERR_USAGE, e.text);
    } catch (const std::bad_alloc &) {
        keep_message(nn, op, WS2_ERR_SYSTEM, "out of memory");
    } catch (const c10::OutOfMemoryError &e) {
        keep_message(nn, op, WS2_ERR_SYSTEM, e.what_without_backtrace());
    } catch (const c10::Error &e) {
        const char *text = e.what_without_backtrace();
        bool memory = strstr(text, "can't allocate memory") || strstr(text, "not enough memory");
        keep_message(nn, op, memory ? WS2_ERR_SYSTEM : WS2_ERR_MODEL, text);
    } catch (const std::exception &e) {
        keep_message(nn, op, WS2_ERR_MODEL, e.what());
    } catch (...) {
        keep_message(nn, op, WS2_ERR_MODEL, "unknown exception");
    }
    return nn->error.status;
}

struct nn_tensor *wrap(struct nn *nn, Tensor value, size_t scope)
{
    if (value.dim() > WS2_AXES_MAX)
        throw bad_argument{"more axes than WS2_AXES_MAX"};
    struct nn_tensor *x = new struct nn_tensor();
    x->value = std::move(value);
    x->scope = (int)scope;
    x->position = nn->scopes[scope].size();
    try {
        nn->scopes[scope].push_back(x);
    } catch (...) {
        delete x;
        throw;
    }
    nn->alive++;
    return x;
}

struct nn_tensor *wrap(struct nn *nn, Tensor value)
{
    return wrap(nn, std::move(value), nn->scopes.size() - 1);
}

void free_scope(struct nn *nn)
{
    std::vector<struct nn_tensor *> &scope = nn->scopes.back();
    for (size_t i = scope.size(); i-- > 0;)
        delete scope[i];
    nn->alive -= (int64_t)scope.size();
    nn->scopes.pop_back();
}

} // namespace ws2

/* ---- errors and scopes --------------------------------------------------------------------------------- */

const char *nn_error(const struct nn *nn)
{
    return nn->error.status < 0 ? nn->error.text : nullptr;
}

int nn_check(const struct nn *nn, struct ws2_error *error)
{
    return nn->error.status < 0 ? ws2_fail(error, nn->error.status, "%s", nn->error.text) : 0;
}

void nn_error_clear(struct nn *nn)
{
    nn->error = {};
}

struct nn_tensor *nn_fail(struct nn *nn, int status, const char *format, ...)
{
    char text[sizeof(nn->error.text)];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    ws2_fail(&nn->error, status, "%s", text);
    return nullptr;
}

void nn_scope_begin(struct nn *nn)
{
    try {
        nn->scopes.emplace_back();
    } catch (...) {
        nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    }
}

void nn_scope_end(struct nn *nn)
{
    if (nn->scopes.size() > 1)
        free_scope(nn);
}

/* Takes the handle out of its scope's list; the last one fills the gap. */
static void unlink_handle(struct nn *nn, struct nn_tensor *x)
{
    std::vector<struct nn_tensor *> &scope = nn->scopes[(size_t)x->scope];
    scope.back()->position = x->position;
    scope[x->position] = scope.back();
    scope.pop_back();
}

static struct nn_tensor *move_handle(struct nn *nn, struct nn_tensor *x, size_t scope)
{
    if (!x || (size_t)x->scope <= scope)
        return x;
    try {
        nn->scopes[scope].reserve(nn->scopes[scope].size() + 1);
    } catch (...) {
        return nn_fail(nn, WS2_ERR_SYSTEM, "out of memory");
    }
    unlink_handle(nn, x);
    x->scope = (int)scope;
    x->position = nn->scopes[scope].size();
    nn->scopes[scope].push_back(x);
    return x;
}

struct nn_tensor *nn_keep(struct nn *nn, struct nn_tensor *x)
{
    size_t depth = nn->scopes.size();
    return move_handle(nn, x, depth >= 2 ? depth - 2 : 0);
}

struct nn_tensor *nn_keep_always(struct nn *nn, struct nn_tensor *x)
{
    return move_handle(nn, x, 0);
}

void nn_drop(struct nn *nn, struct nn_tensor *x)
{
    if (!x)
        return;
    unlink_handle(nn, x);
    nn->alive--;
    delete x;
}

/* ---- questions ----------------------------------------------------------------------------------------- */

struct ws2_shape nn_shape(const struct nn_tensor *x)
{
    struct ws2_shape shape = {};
    shape.rank = x ? (int)x->value.dim() : -1;
    for (int i = 0; i < shape.rank; i++)
        shape.dim[i] = x->value.size(i);
    return shape;
}

int64_t nn_dim(const struct nn_tensor *x, int axis)
{
    int rank = nn_rank(x);
    if (axis < 0)
        axis += rank;
    return axis < 0 || axis >= rank ? -1 : x->value.size(axis);
}

int nn_rank(const struct nn_tensor *x)
{
    return x ? (int)x->value.dim() : -1;
}

int64_t nn_count(const struct nn_tensor *x)
{
    return x ? x->value.numel() : -1;
}

enum nn_dtype nn_dtype(const struct nn_tensor *x)
{
    if (!x)
        return NN_DTYPES;
    for (int i = 0; i < NN_DTYPES; i++)
        if (scalar_type((enum nn_dtype)i) == x->value.scalar_type())
            return (enum nn_dtype)i;
    return NN_DTYPES;
}
