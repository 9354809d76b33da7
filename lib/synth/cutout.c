/* Cut-outs: pictures of real items with alpha, kept in light with alpha multiplied in, as a pyramid of halves.
 */
#include "synth/internal.h"
#include <stdlib.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include "image/image.h"

/* Sides above this are halved at once: no item is ever painted larger than a frame. */
#define SIDE_KEPT 1024

static const char *const class_name[2] = {"wanted", "unwanted"};

/* ---- pyramid ------------------------------------------------------------------------------------------------- */

static double light_of(int byte)
{
    const double s = byte / 255.0;
    return s <= 0.04045 ? s / 12.92 : pow((s + 0.055) / 1.055, 2.4);
}

static int first_level(const struct ws2_image *image, struct level *level, struct ws2_error *error)
{
    level->width = image->width;
    level->height = image->height;
    const size_t pixels = (size_t)image->width * (size_t)image->height;
    level->rgba = ws2_calloc(pixels, 4 * sizeof *level->rgba);
    if (!level->rgba)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a cut-out");
    float light[256];
    for (int i = 0; i < 256; i++)
        light[i] = (float)(light_of(i) * 0.85);
    for (size_t p = 0; p < pixels; p++) {
        const float alpha = (float)image->data[4 * p + 3] / 255;
        for (int c = 0; c < 3; c++)
            level->rgba[4 * p + (size_t)c] = light[image->data[4 * p + (size_t)c]] * alpha;
        level->rgba[4 * p + 3] = alpha;
    }
    return 0;
}

/* The mean of 2 x 2; an odd side's last row or column counts twice. */
static int half_level(const struct level *from, struct level *to, struct ws2_error *error)
{
    to->width = (from->width + 1) / 2;
    to->height = (from->height + 1) / 2;
    to->rgba = ws2_calloc((size_t)to->width * (size_t)to->height, 4 * sizeof *to->rgba);
    if (!to->rgba)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a cut-out");
    for (int y = 0; y < to->height; y++) {
        const int ya = 2 * y, yb = 2 * y + 1 < from->height ? 2 * y + 1 : ya;
        for (int x = 0; x < to->width; x++) {
            const int xa = 2 * x, xb = 2 * x + 1 < from->width ? 2 * x + 1 : xa;
            const int64_t corner[4] = {(int64_t)ya * from->width + xa, (int64_t)ya * from->width + xb,
                                       (int64_t)yb * from->width + xa, (int64_t)yb * from->width + xb};
            float *out = to->rgba + 4 * ((int64_t)y * to->width + x);
            for (int c = 0; c < 4; c++) {
                for (int k = 0; k < 4; k++)
                    out[c] += 0.25f * from->rgba[4 * corner[k] + c];
            }
        }
    }
    return 0;
}

static void free_cutout(struct cutout *cutout)
{
    for (int i = 0; i < cutout->levels; i++)
        free(cutout->level[i].rgba);
    cutout->levels = 0;
}

static int build_pyramid(const struct ws2_image *image, struct cutout *cutout, struct ws2_error *error)
{
    int status = first_level(image, &cutout->level[0], error);
    cutout->levels = status == 0;
    while (status == 0) {
        struct level *last = &cutout->level[cutout->levels - 1];
        const bool big = last->width > SIDE_KEPT || last->height > SIDE_KEPT;
        const int most = (int)(sizeof cutout->level / sizeof *cutout->level);
        if (!big && (cutout->levels == most || (last->width <= 2 && last->height <= 2)))
            break;
        struct level next = {0};
        status = half_level(last, &next, error);
        if (status < 0)
            break;
        if (big) {
            free(last->rgba);
            *last = next;
        } else {
            cutout->level[cutout->levels++] = next;
        }
    }
    return status;
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static int read_cutout(const char *path, struct cutout *cutout, uint32_t *digest, struct ws2_error *error)
{
    struct ws2_image image = {0};
    int status = ws2_image_read(&image, path, 0, error);
    if (status == 0 && image.channels != 4) {
        status = ws2_fail(error, WS2_ERR_INPUT, "%s: has no alpha channel", path);
    } else if (status == 0) {
        const size_t pixels = (size_t)image.width * (size_t)image.height;
        uint8_t most = 0;
        for (size_t p = 0; p < pixels; p++)
            most = image.data[4 * p + 3] > most ? image.data[4 * p + 3] : most;
        if (most == 0)
            status = ws2_fail(error, WS2_ERR_INPUT, "%s: is transparent everywhere", path);
        cutout->cover = 0.5f * (float)most / 255;
        *digest = ws2_fnv1a(image.data, 4 * pixels) + (uint32_t)image.width;
    }
    if (status == 0)
        status = build_pyramid(&image, cutout, error);
    ws2_image_free(&image);
    if (status < 0)
        free_cutout(cutout);
    return status;
}

static int add_cutout(struct ws2_cutouts *cutouts, const char *path, bool unwanted, struct ws2_error *error)
{
    const int count = cutouts->count[unwanted];
    struct cutout *grown = realloc(cutouts->item[unwanted], ((size_t)count + 1) * sizeof *grown);
    if (!grown)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the cut-outs");
    cutouts->item[unwanted] = grown;
    memset(&grown[count], 0, sizeof grown[count]);
    uint32_t digest = 0;
    const int status = read_cutout(path, &grown[count], &digest, error);
    cutouts->count[unwanted] += status == 0;
    const uint32_t chain[3] = {cutouts->digest, digest, unwanted};
    cutouts->digest = ws2_fnv1a(chain, sizeof chain);
    return status;
}

static int read_folder(struct ws2_cutouts *cutouts, const char *path, struct ws2_error *error)
{
    int status = 0;
    for (int k = 0; k < 2 && status == 0; k++) {
        char *folder;
        if (asprintf(&folder, "%s/%s", path, class_name[k]) < 0)
            return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a path");
        struct ws2_files files = {0};
        status = ws2_files_folder(&files, folder, error);
        for (int64_t i = 0; i < files.count && status == 0; i++)
            status = add_cutout(cutouts, files.path[i], k, error);
        ws2_files_free(&files);
        free(folder);
    }
    return status;
}

/* One line of a list; `folder` is that of the list, with its slash. */
static int read_line(struct ws2_cutouts *cutouts, const char *list, int number, const char *folder,
                     char *line, struct ws2_error *error)
{
    line[strcspn(line, "\r\n")] = 0;
    if (line[0] == 0 || line[0] == '#')
        return 0;
    char *tab = strchr(line, '\t');
    const char *name = tab ? tab + 1 : "";
    const bool unwanted = strcmp(name, class_name[1]) == 0;
    if (tab == line || (!unwanted && strcmp(name, class_name[0]) != 0))
        return ws2_fail(error, WS2_ERR_INPUT, "%s: line %d: not 'path TAB wanted|unwanted'", list, number);
    *tab = 0;
    char *path;
    if (asprintf(&path, "%s%s", line[0] == '/' ? "" : folder, line) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a path");
    const int status = add_cutout(cutouts, path, unwanted, error);
    if (status < 0)
        ws2_error_prefix(error, "%s: line %d", list, number);
    free(path);
    return status;
}

static int read_list(struct ws2_cutouts *cutouts, const char *path, struct ws2_error *error)
{
    FILE *file = fopen(path, "r");
    char *folder = strdup(path), *line = NULL;
    if (!file || !folder) {
        free(folder);
        if (file)
            fclose(file);
        return ws2_fail(error, WS2_ERR_INPUT, "%s: %s", path, strerror(errno));
    }
    char *slash = strrchr(folder, '/');
    folder[slash ? slash + 1 - folder : 0] = 0;
    size_t room = 0;
    int status = 0;
    for (int number = 1; status == 0 && getline(&line, &room, file) >= 0; number++)
        status = read_line(cutouts, path, number, folder, line, error);
    if (status == 0 && ferror(file))
        status = ws2_fail(error, WS2_ERR_INPUT, "%s: %s", path, strerror(errno));
    free(line);
    free(folder);
    fclose(file);
    return status;
}

int ws2_cutouts_open(struct ws2_cutouts **cutouts, const char *path, struct ws2_error *error)
{
    *cutouts = NULL;
    struct stat info;
    if (stat(path, &info) != 0)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: %s", path, strerror(errno));
    struct ws2_cutouts *made = ws2_calloc(1, sizeof *made);
    if (!made)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the cut-outs");
    int status = S_ISDIR(info.st_mode) ? read_folder(made, path, error) : read_list(made, path, error);
    for (int k = 0; k < 2 && status == 0; k++) {
        if (made->count[k] == 0)
            status = ws2_fail(error, WS2_ERR_INPUT, "%s: names no %s item", path, class_name[k]);
    }
    if (status < 0) {
        ws2_cutouts_close(made);
        return status;
    }
    *cutouts = made;
    return 0;
}

void ws2_cutouts_close(struct ws2_cutouts *cutouts)
{
    if (!cutouts)
        return;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < cutouts->count[k]; i++)
            free_cutout(&cutouts->item[k][i]);
        free(cutouts->item[k]);
    }
    free(cutouts);
}

int ws2_cutouts_count(const struct ws2_cutouts *cutouts, bool unwanted)
{
    return cutouts->count[unwanted];
}

uint32_t ws2_cutouts_digest(const struct ws2_cutouts *cutouts)
{
    return cutouts->digest;
}

/* ---- sampling ------------------------------------------------------------------------------------------------- */

static const float *texel(const struct level *level, int x, int y)
{
    static const float nothing[4];
    if (x < 0 || y < 0 || x >= level->width || y >= level->height)
        return nothing;
    return level->rgba + 4 * ((int64_t)y * level->width + x);
}

/* Bilinear in the level whose pixels are the first not finer than half of the frame's. */
void ws2_synth_sample(const struct item *item, float u, float v, float px, float rgba[4])
{
    const struct cutout *cutout = item->cutout;
    int pick = 0;
    while (pick + 1 < cutout->levels && 2 * item->a / (float)cutout->level[pick].width < 0.7f * px)
        pick++;
    const struct level *level = &cutout->level[pick];
    const float x = (item->mirror * u / item->a + 1) * 0.5f * (float)level->width - 0.5f;
    const float y = (v / item->b + 1) * 0.5f * (float)level->height - 0.5f;
    memset(rgba, 0, 4 * sizeof *rgba);
    if (!(x > -1 && y > -1 && x < (float)level->width && y < (float)level->height))
        return;
    const float fx = floorf(x), fy = floorf(y), wx = x - fx, wy = y - fy;
    const int ix = (int)fx, iy = (int)fy;
    const float *a = texel(level, ix, iy), *b = texel(level, ix + 1, iy);
    const float *c = texel(level, ix, iy + 1), *d = texel(level, ix + 1, iy + 1);
    for (int k = 0; k < 4; k++)
        rgba[k] = mixf(mixf(a[k], b[k], wx), mixf(c[k], d[k], wx), wy);
}
