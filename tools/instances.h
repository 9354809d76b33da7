/* Instance masks of a record, for the programs that read them. */
#ifndef TOOLS_INSTANCES_H
#define TOOLS_INSTANCES_H

#include "cli/cli.h"
#include "mask/mask.h"

/* Whether the stream has masks under this name, a stack u8 or *layers u16. */
static inline int find_instances(const struct ws2_head *in, const char *name, bool *layers,
                                 struct ws2_error *error)
{
    const struct ws2_tensor_info *info = ws2_head_find(in, name);
    *layers = info != NULL && info->dtype == WS2_U16;
    return ws2_head_want(in, name, *layers ? WS2_U16 : WS2_U8, error) == NULL ? error->status : 0;
}

/* The masks of a frame: a stack, layers, or a single layer without an axis for it, such as the ids of a simulated belt. */
static inline int get_instances(struct ws2_record *record, const char *name, bool layers,
                                struct ws2_instances *instances, struct ws2_error *error)
{
    struct ws2_tensor masks;
    const bool single = layers && ws2_record_peek(record, name, &masks) && masks.shape.rank == 2;
    const int status =
        ws2_record_want(record, name, layers ? WS2_U16 : WS2_U8, single ? 2 : 3, &masks, error);
    if (status < 0)
        return status;
    const struct ws2_shape *shape = &masks.shape;
    const int64_t planes = single ? 1 : shape->dim[0];
    *instances = (struct ws2_instances){.count = layers ? 0 : planes,
                                        .layers = layers ? planes : 0,
                                        .height = shape->dim[single ? 0 : 1],
                                        .width = shape->dim[single ? 1 : 2],
                                        .stack = layers ? NULL : masks.data,
                                        .layer = layers ? masks.data : NULL};
    return 0;
}

#endif
