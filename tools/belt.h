/* What programs share that read the belt of a camera from a file of ws2-median. */
#ifndef TOOLS_BELT_H
#define TOOLS_BELT_H

#include <string.h>

#include "cli/cli.h"
#include "mask/mask.h"

/* A belt, its arrays in the record. */
struct belt_file {
    const char *path;
    struct ws2_belt belt;
    enum ws2_role role; /* NONE where the head names no camera */
    char digest[17];
    struct ws2_record *record;
};

/* A view of one tensor of the belt, which has its size. */
static inline float *belt_tensor(struct belt_file *file, const char *name, int rank, struct ws2_error *error)
{
    struct ws2_tensor tensor;
    if (ws2_record_want(file->record, name, WS2_F32, rank, &tensor, error) < 0)
        return NULL;
    const int64_t *dim = tensor.shape.dim;
    if (dim[0] != file->belt.height || dim[1] != file->belt.width || (rank == 3 && dim[2] != 3)) {
        char text[96];
        ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, which does not fit the belt", name,
                 ws2_shape_text(&tensor.shape, text, sizeof text));
        return NULL;
    }
    return (float *)tensor.data;
}

static inline int belt_view(struct belt_file *file, bool channels, struct ws2_error *error)
{
    struct ws2_belt *belt = &file->belt;
    struct ws2_tensor size, saturation;
    if (ws2_record_want(file->record, "belt.luma", WS2_F32, 2, &size, error) < 0)
        return error->status;
    belt->height = size.shape.dim[0];
    belt->width = size.shape.dim[1];
    if (belt->height < 1 || belt->width < 1)
        return ws2_fail(error, WS2_ERR_INPUT, "the belt is empty");
    belt->luma = belt_tensor(file, "belt.luma", 2, error);
    belt->scale = belt_tensor(file, "belt.scale", 2, error);
    belt->rgb = belt_tensor(file, "belt.rgb", 3, error);
    if (error->status == 0 && channels) {
        if (!ws2_record_has(file->record, "belt.scale.rgb"))
            return ws2_fail(error, WS2_ERR_INPUT, "no tensor 'belt.scale.rgb': made without --channels max");
        belt->rgb_scale = belt_tensor(file, "belt.scale.rgb", 3, error);
    }
    if (error->status == 0 &&
        ws2_record_want(file->record, "belt.saturation", WS2_F32, 1, &saturation, error) == 1) {
        if (saturation.shape.dim[0] != 2)
            return ws2_fail(error, WS2_ERR_INPUT, "tensor 'belt.saturation' has not two values");
        memcpy(belt->saturation, saturation.data, sizeof belt->saturation);
    }
    return error->status;
}

/* After the first record there is nothing but a good TAIL. */
static inline void belt_check_alone(const char *path, struct ws2_reader *reader, int got)
{
    struct ws2_record *more = ws2_must(ws2_record_new());
    const bool empty = got == 0;
    if (got == 1)
        got = ws2_reader_next(reader, more);
    if (got == 0)
        got = ws2_reader_next_segment(reader);
    if (got < 0)
        ws2_die(ws2_reader_error(reader));
    if (empty || got == 1)
        ws2_die_text(WS2_ERR_INPUT, "%s: %s", path, empty ? "the stream is empty" : "more than one belt");
    ws2_record_free(more);
}

/* Dies of an error that is about this file. */
static inline void belt_must(const struct belt_file *file, int status, struct ws2_error *error)
{
    if (status == 0)
        return;
    ws2_error_prefix(error, "%s", file->path);
    ws2_die(error);
}

/* The belt that is the only record of the file; dies where it is none. channels: its spread by channel is needed. */
static inline void belt_open(struct belt_file *file, const struct ws2_common *common, const char *path,
                             bool channels)
{
    struct ws2_error error = {0};
    struct ws2_reader *reader = ws2_cli_reader(common, path);
    *file = (struct belt_file){.path = path, .record = ws2_must(ws2_record_new())};
    if (ws2_head_find(ws2_reader_head(reader), "belt.luma") == NULL)
        ws2_die_text(WS2_ERR_INPUT, "%s: no tensor 'belt.luma': not made by ws2-median", path);
    const int got = ws2_reader_next(reader, file->record);
    file->role = ws2_head_role(ws2_reader_head(reader));
    belt_check_alone(path, reader, got);
    belt_must(file, belt_view(file, channels, &error), &error);
    ws2_belt_digest(&file->belt, file->digest);
    ws2_reader_close(reader);
}

static inline void belt_close(struct belt_file *file)
{
    ws2_record_free(file->record);
}

#endif
