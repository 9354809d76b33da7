/* Frames as they are looked at: tensors by name, the frame under maps and outlines, panels side by side. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "image/internal.h"

/* "cam:before" taken apart. */
struct shown {
    char name[64];
    const char *channel; /* points into the text; NULL without one */
};

struct found {
    enum ws2_dtype dtype;
    struct ws2_shape shape;
    const void *data;
};

static int take_apart(struct shown *shown, const char *text, struct ws2_error *error)
{
    const char *colon = strchr(text, ':');
    const size_t length = colon ? (size_t)(colon - text) : strlen(text);

    if (length == 0 || length >= sizeof shown->name)
        return ws2_fail(error, WS2_ERR_USAGE, "'%s' names no tensor", text);
    memcpy(shown->name, text, length);
    shown->name[length] = '\0';
    shown->channel = colon ? colon + 1 : NULL;
    return 0;
}

int ws2_look_check(const char *text, struct ws2_error *error)
{
    struct shown shown;

    return take_apart(&shown, text, error);
}

static int channel_of(const struct shown *shown, const struct ws2_look_source *source,
                      struct ws2_error *error)
{
    const int index = source->class_of(source->context, shown->channel ? shown->channel : "before");
    char *end;
    long number;

    if (index >= 0 || !shown->channel)
        return index >= 0 ? index : 0;
    number = strtol(shown->channel, &end, 10);
    if (*end || end == shown->channel || number < 0 || number > 1 << 20)
        return ws2_fail(error, WS2_ERR_INPUT, "no class '%s' in this stream", shown->channel);
    return (int)number;
}

static int get(const struct ws2_look_source *source, const char *name, struct found *found,
               struct ws2_error *error)
{
    if (!source->has(source->context, name))
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", name);
    return source->get(source->context, name, &found->dtype, &found->shape, &found->data, error);
}

/* A map over the frame when there is one, else 0. */
static int over_frame(struct ws2_image *image, const struct ws2_look *look, const struct ws2_view *view,
                      const struct ws2_look_source *source, const struct shown *shown,
                      const struct found *map, struct ws2_error *error)
{
    struct found rgb;
    int status;

    if ((map->dtype != WS2_F16 && map->dtype != WS2_F32) || strncmp(shown->name, "flow", 4) == 0 ||
        !source->has(source->context, "rgb"))
        return 0;
    status = get(source, "rgb", &rgb, error);
    if (status <= 0)
        return status;
    status = ws2_view_tensor(image, "rgb", rgb.dtype, &rgb.shape, rgb.data, view, error);
    if (status == 0)
        status = ws2_view_heat(image, map->dtype, &map->shape, map->data, view, look->alpha, error);
    return status < 0 ? status : 1;
}

int ws2_look_tensor(struct ws2_image *image, const struct ws2_look *look,
                    const struct ws2_look_source *source, const char *text, bool over,
                    struct ws2_error *error)
{
    struct ws2_view view = look->view;
    struct shown shown;
    struct found found;
    int status = take_apart(&shown, text, error);

    if (status < 0)
        return status;
    view.channel = channel_of(&shown, source, error);
    status = view.channel < 0 ? view.channel : get(source, shown.name, &found, error);
    if (status <= 0)
        return status;
    status = over ? over_frame(image, look, &view, source, &shown, &found, error) : 0;
    if (status == 0 &&
        ws2_view_tensor(image, shown.name, found.dtype, &found.shape, found.data, &view, error) < 0)
        status = error->status;
    if (status < 0 && strncmp(error->text, "tensor '", 8) != 0)
        ws2_error_prefix(error, "tensor '%s'", shown.name);
    return status < 0 ? status : 1;
}

static int outline(struct ws2_image *image, const struct ws2_look *look, const struct ws2_look_source *source,
                   int which, struct ws2_error *error)
{
    static const uint8_t colours[4][3] = {{255, 48, 48}, {64, 255, 64}, {255, 220, 0}, {0, 200, 255}};
    const char *name = look->mask[which];
    struct found mask;
    const int status = get(source, name, &mask, error);

    if (status <= 0)
        return status;
    if (mask.dtype != WS2_U8 || mask.shape.rank != 2 || mask.shape.dim[0] != image->height ||
        mask.shape.dim[1] != image->width)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is no mask of the frame's size", name);
    return ws2_draw_outline(image, mask.data, colours[which % 4], look->thickness, error);
}

int ws2_look_overlay(struct ws2_image *image, const struct ws2_look *look,
                     const struct ws2_look_source *source, struct ws2_error *error)
{
    int status = ws2_look_tensor(image, look, source, look->heat ? look->heat : "rgb", true, error);

    /* A frame without the map is shown all the same. */
    if (status == 0 && look->heat)
        status = ws2_look_tensor(image, look, source, "rgb", false, error);
    for (int i = 0; status == 1 && i < look->masks; i++)
        if (outline(image, look, source, i, error) < 0)
            status = error->status;
    return status;
}

/* An empty picture of the size it had before, or of the first. */
static int draw_nothing(struct ws2_image *picture, const struct ws2_image *first, struct ws2_error *error)
{
    const struct ws2_image *like = picture->data ? picture : first;
    const int width = like->data ? like->width : 64, height = like->data ? like->height : 64;
    const int status = ws2_image_reset(picture, width, height, 1, error);

    if (status == 0)
        memset(picture->data, 0, (size_t)width * (size_t)height);
    return status;
}

int ws2_look_panels(struct ws2_image *row, struct ws2_image *picture, const struct ws2_look *look,
                    const struct ws2_look_source *source, const char *const *panel, int panels,
                    const char *title, struct ws2_error *error)
{
    const char **caption = ws2_calloc((size_t)panels, sizeof *caption);
    char first[200];
    int status = caption && panels > 0 ? 1 : ws2_fail(error, WS2_ERR_SYSTEM, "no memory for panels");

    for (int i = 0; i < panels && status >= 0; i++) {
        status = strcmp(panel[i], "overlay") == 0
                     ? ws2_look_overlay(&picture[i], look, source, error)
                     : ws2_look_tensor(&picture[i], look, source, panel[i], true, error);
        if (status == 0)
            status = draw_nothing(&picture[i], picture, error);
        caption[i] = panel[i];
    }
    if (status >= 0) {
        snprintf(first, sizeof first, "%s %s", panel[0], title);
        caption[0] = first;
        status = ws2_draw_row(row, picture, caption, panels, error);
    }
    free(caption);
    return status < 0 ? status : 1;
}
