/* What a loader gives in an epoch, kept to look at. */
#ifndef EPOCH_HELP_H
#define EPOCH_HELP_H

#include "clips_help.h"

struct epoch_copy {
    uint8_t rgb[64][SIDE * SIDE * 3];
    uint8_t seeds[64][SIDE * SIDE]; /* of the batch's cells, one after the other */
    uint8_t keep[64][SIDE * SIDE];
    int64_t label[64];
    uint8_t half[64];
    float share[64];
    int count, batches;
};

static inline void run_epoch(struct ws2_loader *loader, int64_t epoch, struct epoch_copy *copy)
{
    struct ws2_batch batch;
    struct ws2_error error = {0};
    int status;
    memset(copy, 0, sizeof *copy);
    assert_int_equal(ws2_loader_start(loader, epoch, &error), 0);
    while ((status = ws2_loader_next(loader, &batch, &error)) == 1) {
        memcpy(copy->rgb[copy->count], batch.rgb, (size_t)batch.count * sizeof copy->rgb[0]);
        const size_t cells = (size_t)(batch.cells * batch.cells);
        for (int i = 0; batch.seeds && i < batch.count; i++)
            memcpy(copy->seeds[copy->count + i], batch.seeds + (size_t)i * cells, cells);
        if (batch.keep)
            memcpy(copy->keep[copy->count], batch.keep, (size_t)batch.count * sizeof copy->keep[0]);
        memcpy(&copy->label[copy->count], batch.label, (size_t)batch.count * sizeof copy->label[0]);
        memcpy(&copy->half[copy->count], batch.half, (size_t)batch.count);
        memcpy(&copy->share[copy->count], batch.share, (size_t)batch.count * sizeof copy->share[0]);
        copy->count += batch.count;
        copy->batches++;
    }
    if (status < 0)
        fail_msg("%s", error.text);
}

/* The first epoch of a loader over these files. */
static inline void one_epoch(const char *const *names, int count, const struct ws2_loader_options *o,
                             struct epoch_copy *copy)
{
    struct ws2_clips *clips = open_clips(names, count);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    if (ws2_loader_open(&loader, clips, NULL, o, &error) < 0)
        fail_msg("%s", error.text);
    run_epoch(loader, 0, copy);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

#endif
