/* What a program is given to read: which operands are sequences, and which make one together. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "image/internal.h"

/* The pictures collected so far are a sequence. */
static int give_list(struct ws2_sources *sources, struct ws2_source *source, struct ws2_error *error)
{
    source->files = sources->list;
    sources->list = (struct ws2_files){0};
    source->name =
        source->files.count == 1 ? strdup(source->files.stem[0]) : ws2_files_folder_name(&source->files);
    return source->name ? 1 : ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
}

static int give_folder(const char *path, struct ws2_source *source, struct ws2_error *error)
{
    if (ws2_files_folder(&source->files, path, error) < 0)
        return error->status;
    source->name = ws2_files_folder_name(&source->files);
    return source->name ? 1 : ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
}

static int give_video(const char *path, struct ws2_source *source, struct ws2_error *error)
{
    struct ws2_files one = {0}; /* finds the stem of any file */
    const int status = ws2_files_add(&one, path, error);

    source->video = path;
    source->name = status == 0 ? strdup(one.stem[0]) : NULL;
    ws2_files_free(&one);
    if (status < 0)
        return status;
    return source->name ? 1 : ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
}

enum operand { FOLDER, VIDEO, PICTURE, PATTERN };

/* One of these, or a status. */
static int operand_of(const char *path, struct ws2_error *error)
{
    struct stat info;
    const bool there = stat(path, &info) == 0;
    int media;

    if (there && S_ISDIR(info.st_mode))
        return FOLDER;
    if (!there && strpbrk(path, "*?["))
        return PATTERN;
    media = ws2_media_sniff(path, error);
    if (media < 0)
        return media;
    return media == WS2_MEDIA_VIDEO || media == WS2_MEDIA_OTHER ? VIDEO : PICTURE;
}

int ws2_sources_next(struct ws2_sources *sources, struct ws2_source *source, struct ws2_error *error)
{
    *source = (struct ws2_source){0};
    for (; sources->next < sources->count; sources->next++) {
        const char *path = sources->path[sources->next];
        const int operand = operand_of(path, error);
        int status;

        if (operand < 0)
            return operand;
        if (operand == PICTURE || operand == PATTERN) {
            status = operand == PICTURE ? ws2_files_add(&sources->list, path, error)
                                        : ws2_files_glob(&sources->list, path, error);
            if (status < 0)
                return status;
            continue;
        }
        /* Pictures before it go first; this operand waits. */
        if (sources->list.count)
            return give_list(sources, source, error);
        sources->next++;
        return operand == FOLDER ? give_folder(path, source, error) : give_video(path, source, error);
    }
    return sources->list.count ? give_list(sources, source, error) : 0;
}

void ws2_source_free(struct ws2_source *source)
{
    ws2_files_free(&source->files);
    free(source->name);
    *source = (struct ws2_source){0};
}

char *ws2_truth_path(const char *truth, const char *name)
{
    struct stat info;
    char *path = malloc(strlen(truth) + strlen(name) + 2);

    if (!path)
        return NULL;
    strcat(strcat(strcpy(path, truth), "/"), name);
    if (stat(path, &info) != 0)
        strcpy(path, truth);
    return path;
}
