#include "train/internal.h"

#include <stdlib.h>

/* Classes are told apart by the camera; seeds tell things apart in any. */
static int check_roles(const struct ws2_data *data, const struct ws2_data_options *o, struct ws2_error *error)
{
    static const enum ws2_role role[] = {WS2_ROLE_AFTER, WS2_ROLE_BEFORE};
    for (int i = 0; i < 2; i++)
        if (o->validations == 0 && !o->loader.seeds && ws2_clips_frames(data->clips, role[i]) == 0)
            return ws2_fail(error, WS2_ERR_INPUT, "no %s frames among the files", ws2_role_name(role[i]));
    return WS2_OK;
}

static int open_halves(struct ws2_data *data, const bool *use, const struct ws2_loader_options *train,
                       struct ws2_error *error)
{
    int status = WS2_OK;
    for (int i = 0; i < 2 && status >= 0; i++) {
        struct ws2_loader_options half = *train;
        half.half = i ? WS2_HALF_SECOND : WS2_HALF_FIRST;
        status = ws2_loader_open(&data->half[i], data->clips, use, &half, error);
    }
    return status;
}

/* Validates on files of their own, or on the sequences that are held back. held has a place for each clip. */
static int open_loaders(struct ws2_data *data, const struct ws2_data_options *o, bool *held,
                        struct ws2_error *error)
{
    struct ws2_loader_options train = o->loader, val = o->loader;
    train.training = true;
    val.training = false;
    int status = o->validations > 0 ? ws2_clips_open(&data->val_clips, o->validation, o->validations, error)
                                    : ws2_clips_split(data->clips, o->share, o->loader.seed, held, error);
    if (status >= 0 && data->val_clips)
        status = ws2_loader_open(&data->val, data->val_clips, NULL, &val, error);
    else if (status >= 0)
        status = ws2_loader_open(&data->val, data->clips, held, &val, error);
    for (int i = 0; i < ws2_clips_count(data->clips); i++)
        held[i] = !held[i];
    if (status >= 0)
        status = ws2_loader_open(&data->train, data->clips, held, &train, error);
    if (status >= 0 && o->halves && ws2_loader_has_halves(data->train))
        status = open_halves(data, held, &train, error);
    return status;
}

int ws2_data_open(struct ws2_data *data, const struct ws2_data_options *options, struct ws2_error *error)
{
    *data = (struct ws2_data){0};
    int status = ws2_clips_open(&data->clips, options->path, options->paths, error);
    if (status >= 0)
        status = check_roles(data, options, error);
    if (status < 0) {
        ws2_data_close(data);
        return status;
    }
    bool *held = ws2_calloc((size_t)ws2_clips_count(data->clips), sizeof *held);
    status =
        held ? open_loaders(data, options, held, error) : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    free(held);
    if (status < 0)
        ws2_data_close(data);
    return status;
}

void ws2_data_close(struct ws2_data *data)
{
    ws2_loader_close(data->train);
    ws2_loader_close(data->val);
    ws2_loader_close(data->half[0]);
    ws2_loader_close(data->half[1]);
    ws2_clips_close(data->clips);
    ws2_clips_close(data->val_clips);
    *data = (struct ws2_data){0};
}
