#include "train/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the state file the network's parameters stand under this prefix, so that it is not taken for weights. */
#define NET_PREFIX "net."
#define OPTIM_PREFIX "optim."

int ws2_meta_set(struct ws2_meta *meta, const char *key, const char *format, ...)
{
    int at = 0;
    while (at < meta->count && strcmp(meta->entry[at].key, key) != 0)
        at++;
    if (at == WS2_META_MAX || strlen(key) >= sizeof meta->entry[at].key)
        return WS2_ERR_USAGE;
    char value[sizeof meta->entry[at].value];
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(value, sizeof value, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= sizeof value)
        return WS2_ERR_USAGE;
    strcpy(meta->entry[at].key, key);
    memcpy(meta->entry[at].value, value, sizeof value);
    meta->count += at == meta->count;
    return WS2_OK;
}

static void save_meta(struct nn_saver *saver, const struct ws2_meta *meta)
{
    for (int i = 0; meta && i < meta->count; i++)
        nn_saver_meta(saver, meta->entry[i].key, meta->entry[i].value);
}

int ws2_checkpoint_save(const struct nn_params *params, const struct ws2_meta *meta, const char *path,
                        struct ws2_error *error)
{
    struct nn_saver *saver = nn_saver_new(path);
    if (saver == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: out of memory", path);
    save_meta(saver, meta);
    nn_params_save(params, saver, NULL); /* a failure is kept and told by finish */
    const int status = nn_saver_finish(saver, error);
    nn_saver_free(saver);
    return status;
}

int ws2_state_save(const struct ws2_state *state, const struct nn_params *params,
                   const struct nn_optim *optim, const struct ws2_meta *meta, const char *path,
                   struct ws2_error *error)
{
    struct nn_saver *saver = nn_saver_new(path);
    if (saver == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: out of memory", path);
    char text[160];
    snprintf(text, sizeof text, "%lld %lld %lld %a %a", (long long)state->epoch, (long long)state->step,
             (long long)state->best_epoch, state->best_key, state->best_tie);
    save_meta(saver, meta);
    nn_saver_meta(saver, "state", text);
    nn_params_save(params, saver, NET_PREFIX);
    nn_optim_save(optim, saver, OPTIM_PREFIX);
    const int status = nn_saver_finish(saver, error);
    nn_saver_free(saver);
    return status;
}

int ws2_meta_compare(const struct ws2_meta *meta, const struct nn_weights *file, const char *path,
                     struct ws2_error *error)
{
    for (int i = 0; meta && i < meta->count; i++) {
        const char *found = nn_weights_meta(file, meta->entry[i].key);
        if (found == NULL || strcmp(found, meta->entry[i].value) != 0)
            return ws2_fail(error, WS2_ERR_USAGE,
                            "%s: cannot resume: %s was %s and is now %s; remove the file to begin anew", path,
                            meta->entry[i].key, found ? found : "absent", meta->entry[i].value);
    }
    return WS2_OK;
}

static int parse_state(struct ws2_state *state, const struct nn_weights *file, const char *path,
                       struct ws2_error *error)
{
    const char *text = nn_weights_meta(file, "state");
    long long epoch, step, best;
    if (text == NULL ||
        sscanf(text, "%lld %lld %lld %la %la", &epoch, &step, &best, &state->best_key, &state->best_tie) !=
            5 ||
        epoch < 0 || step < 0 || best < 0)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: not the state of a training run", path);
    state->epoch = epoch;
    state->step = step;
    state->best_epoch = best;
    return WS2_OK;
}

int ws2_state_load(struct ws2_state *state, struct nn_params *params, struct nn_optim *optim,
                   const struct ws2_meta *meta, const char *path, struct ws2_error *error)
{
    struct nn_weights *file;
    int status = nn_weights_open(&file, path, NULL, error);
    if (status < 0)
        return status;
    const struct nn_load_options options = {.prefix = NET_PREFIX};
    status = parse_state(state, file, path, error);
    if (status == WS2_OK)
        status = ws2_meta_compare(meta, file, path, error);
    if (status == WS2_OK)
        status = nn_params_load(params, file, &options, NULL, error);
    if (status >= 0)
        status = nn_optim_load(optim, file, OPTIM_PREFIX, error);
    nn_weights_close(file);
    return status < 0 ? status : WS2_OK;
}
