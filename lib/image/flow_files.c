/* Which flow file belongs to which frame. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "image/internal.h"

struct numbered {
    int64_t number;
    const char *path; /* owned by the list */
};

struct ws2_flow_files {
    struct ws2_files list;
    struct numbered *file; /* by rising number */
    int64_t count;
    bool single;
};

static bool is_flo(const char *name)
{
    return image_has_suffix(name, "flo");
}

static bool is_png(const char *name)
{
    return image_has_suffix(name, "png");
}

static int compare_numbers(const void *a, const void *b)
{
    const struct numbered *first = a, *second = b;

    return (first->number > second->number) - (first->number < second->number);
}

/* Takes those of the list that have a number; without `all` the others are left out. */
static int take_numbers(struct ws2_flow_files *files, bool all, struct ws2_error *error)
{
    files->file = ws2_calloc((size_t)files->list.count, sizeof *files->file);
    if (!files->file)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a list of files");
    for (int64_t i = 0; i < files->list.count; i++) {
        const int64_t number = image_trailing_number(files->list.stem[i]);

        if (number >= 0 || all)
            files->file[files->count++] = (struct numbered){number, files->list.path[i]};
    }
    qsort(files->file, (size_t)files->count, sizeof *files->file, compare_numbers);
    for (int64_t i = 1; i < files->count; i++)
        if (files->file[i].number == files->file[i - 1].number)
            return ws2_fail(error, WS2_ERR_INPUT, "%s and %s: two flows of frame %lld",
                            files->file[i - 1].path, files->file[i].path, (long long)files->file[i].number);
    return 0;
}

static int open_folder(struct ws2_flow_files *files, const char *path, struct ws2_error *error)
{
    int status = image_files_folder(&files->list, path, is_flo, error);

    if (status == 0 && files->list.count == 0)
        status = image_files_folder(&files->list, path, is_png, error);
    if (status == 0)
        status = take_numbers(files, false, error);
    if (status == 0 && files->count == 0)
        status = ws2_fail(error, WS2_ERR_INPUT, "%s: no numbered .flo or PNG files in this folder", path);
    return status;
}

static int open_single(struct ws2_flow_files *files, const char *path, struct ws2_error *error)
{
    const int status = ws2_files_add(&files->list, path, error);

    files->single = true;
    return status < 0 ? status : take_numbers(files, true, error);
}

int ws2_flow_files_open(struct ws2_flow_files **out, const char *path, struct ws2_error *error)
{
    struct ws2_flow_files *files = ws2_calloc(1, sizeof *files);
    struct stat info;
    int status;

    *out = NULL;
    if (!files)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a list of files");
    if (stat(path, &info) != 0)
        status = ws2_fail(error, WS2_ERR_INPUT, "%s: %s", path, strerror(errno));
    else
        status = S_ISDIR(info.st_mode) ? open_folder(files, path, error) : open_single(files, path, error);
    if (status < 0) {
        ws2_flow_files_close(files);
        return status;
    }
    *out = files;
    return 0;
}

int64_t ws2_flow_files_count(const struct ws2_flow_files *files)
{
    return files->count;
}

const char *ws2_flow_files_path(const struct ws2_flow_files *files, int64_t frame)
{
    const struct numbered wanted = {frame, NULL};
    const struct numbered *found =
        files->single ? files->file
                      : bsearch(&wanted, files->file, (size_t)files->count, sizeof wanted, compare_numbers);

    return found ? found->path : NULL;
}

int64_t ws2_flow_files_number(const struct ws2_flow_files *files, int64_t index)
{
    return files->file[index].number;
}

void ws2_flow_files_close(struct ws2_flow_files *files)
{
    if (!files)
        return;
    ws2_files_free(&files->list);
    free(files->file);
    free(files);
}
