/* What programs share that write files which are no streams: whole or not at all, and refused before the work. */
#ifndef TOOLS_FILES_H
#define TOOLS_FILES_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

/* Names of what a program has open, behind which a file may lie: to be written to, never to be replaced. */
static inline bool file_is_open_already(const char *path)
{
    return strcmp(path, "/dev/stdout") == 0 || strcmp(path, "/dev/stderr") == 0 ||
           strncmp(path, "/dev/fd/", 8) == 0 || strncmp(path, "/proc/", 6) == 0;
}

/* What is there and no file: a terminal, a pipe, a device, a folder. */
static inline bool file_is_special(const char *path)
{
    struct stat info;
    return file_is_open_already(path) || (stat(path, &info) == 0 && !S_ISREG(info.st_mode));
}

static inline char *file_temporary(const char *path)
{
    char *name;
    return ws2_must(asprintf(&name, "%s.tmp", path) < 0 ? NULL : name);
}

/* FILE with a mark before its ending, FILE.MARK where it has none; the caller frees it. */
static inline char *file_marked(const char *path, const char *mark)
{
    const char *dot = strrchr(path, '.'), *slash = strrchr(path, '/');
    const int stem = (int)(dot && dot > (slash ? slash : path) ? dot - path : (long)strlen(path));
    char *name;
    return ws2_must(asprintf(&name, "%.*s.%s%s", stem, path, mark, path + stem) < 0 ? NULL : name);
}

/* Dies where no file can be made. */
static inline void file_try(const char *path)
{
    struct ws2_error error = {0};
    char *name = file_temporary(path);
    const int file = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) {
        ws2_fail_errno(&error, "%s: cannot create", path);
        ws2_die(&error);
    }
    close(file);
    unlink(name);
    free(name);
}

/* Dies where the text cannot be written. */
static inline void file_write(const char *path, const char *text)
{
    struct ws2_error error = {0};
    const bool special = file_is_special(path);
    char *name = file_temporary(path);
    FILE *file = fopen(special ? path : name, "we");
    bool good = file && fputs(text, file) >= 0;
    good = file && fclose(file) == 0 && good && (special || rename(name, path) == 0);
    if (!good) {
        ws2_fail_errno(&error, "%s", path);
        if (!special)
            unlink(name);
        ws2_die(&error);
    }
    free(name);
}

#endif
