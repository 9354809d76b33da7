/* Records as what lib/image draws. */
#include "cli/cli.h"
#include "image/image.h"

static bool has(void *context, const char *name)
{
    const struct ws2_drawn *drawn = context;
    return ws2_head_find(drawn->head, name) != NULL;
}

static int get(void *context, const char *name, enum ws2_dtype *dtype, struct ws2_shape *shape,
               const void **data, struct ws2_error *error)
{
    const struct ws2_drawn *drawn = context;
    struct ws2_tensor tensor;
    const int found = ws2_record_get(drawn->record, name, &tensor, error);
    if (found == 1) {
        *dtype = tensor.dtype;
        *shape = tensor.shape;
        *data = tensor.data;
    }
    return found;
}

static int class_of(void *context, const char *name)
{
    const struct ws2_drawn *drawn = context;
    return ws2_head_class_find(drawn->head, name);
}

struct ws2_look_source ws2_cli_look(struct ws2_drawn *drawn)
{
    return (struct ws2_look_source){drawn, has, get, class_of};
}
