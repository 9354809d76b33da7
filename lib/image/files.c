/* Lists of picture files: folders and globs, in natural order, with the frame numbers in their names. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "image/internal.h"

static const char *const suffixes[] = {"png", "jpg",  "jpeg", "jpe", "bmp", "webp",
                                       "tif", "tiff", "pgm",  "ppm", "pbm", "pnm"};
#define SUFFIXES (sizeof suffixes / sizeof *suffixes)

bool image_has_suffix(const char *name, const char *suffix)
{
    const char *dot = strrchr(name, '.');

    return dot && strcasecmp(dot + 1, suffix) == 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static bool has_picture_suffix(const char *name)
{
    for (size_t i = 0; i < SUFFIXES; i++)
        if (image_has_suffix(name, suffixes[i]))
            return true;
    return false;
}

/* Runs of digits compare by value, then by length (so 01 and 1 differ), all else by byte. */
static int natural_compare(const char *a, const char *b)
{
    while (*a && *b) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            const size_t zeros_a = strspn(a, "0"), zeros_b = strspn(b, "0");
            const size_t digits_a = strspn(a + zeros_a, "0123456789"),
                         digits_b = strspn(b + zeros_b, "0123456789");
            int order;

            if (digits_a != digits_b)
                return digits_a < digits_b ? -1 : 1;
            order = memcmp(a + zeros_a, b + zeros_b, digits_a);
            if (order != 0)
                return order;
            if (zeros_a != zeros_b)
                return zeros_a < zeros_b ? -1 : 1;
            a += zeros_a + digits_a;
            b += zeros_b + digits_b;
        } else if (*a != *b) {
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        } else {
            a++;
            b++;
        }
    }
    return *a ? 1 : *b ? -1 : 0;
}

static int compare_paths(const void *a, const void *b)
{
    return natural_compare(*(char *const *)a, *(char *const *)b);
}

static char *stem_of(const char *path)
{
    const char *name = base_name(path);
    const char *dot = strrchr(name, '.');

    return strndup(name, dot && dot != name ? (size_t)(dot - name) : strlen(name));
}

static int files_out_of_memory(struct ws2_error *error)
{
    return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a list of files");
}

int ws2_files_add(struct ws2_files *files, const char *path, struct ws2_error *error)
{
    const size_t count = (size_t)files->count + 1;
    char *copy, *stem;

    if (ws2_reserve((void **)&files->path, &files->path_capacity, count * sizeof *files->path) ||
        ws2_reserve((void **)&files->stem, &files->stem_capacity, count * sizeof *files->stem) ||
        ws2_reserve((void **)&files->number, &files->number_capacity, count * sizeof *files->number))
        return files_out_of_memory(error);
    copy = strdup(path);
    stem = stem_of(path);
    if (!copy || !stem) {
        free(copy);
        free(stem);
        return files_out_of_memory(error);
    }
    files->path[count - 1] = copy;
    files->stem[count - 1] = stem;
    files->number[count - 1] = (int64_t)count - 1;
    files->count = (int64_t)count;
    return 0;
}

/* Sorts the files from `first` on and makes their stems again. */
static int files_sort(struct ws2_files *files, int64_t first, struct ws2_error *error)
{
    qsort(files->path + first, (size_t)(files->count - first), sizeof *files->path, compare_paths);
    for (int64_t i = first; i < files->count; i++) {
        free(files->stem[i]);
        files->stem[i] = stem_of(files->path[i]);
        if (!files->stem[i])
            return files_out_of_memory(error);
    }
    return 0;
}

static char *join_path(const char *folder, const char *name)
{
    const size_t length = strlen(folder), more = strlen(name);
    const bool slash = length == 0 || folder[length - 1] != '/';
    char *path = malloc(length + more + 2);

    if (path) {
        memcpy(path, folder, length);
        path[length] = '/';
        memcpy(path + length + (slash ? 1 : 0), name, more + 1);
    }
    return path;
}

static bool is_regular(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

static int folder_list(struct ws2_files *files, DIR *dir, const char *folder,
                       bool (*wanted)(const char *name), struct ws2_error *error)
{
    const struct dirent *entry;
    int status = 0;

    while (status == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        char *path;

        if (entry->d_name[0] == '.' || !wanted(entry->d_name))
            continue;
        path = join_path(folder, entry->d_name);
        if (!path)
            return files_out_of_memory(error);
        /* A dangling link or unreadable entry stays in the list, so that reading it is an error, not a gap. */
        if (is_regular(path) || errno != 0)
            status = ws2_files_add(files, path, error);
        free(path);
    }
    return status == 0 && errno != 0 && entry == NULL ? ws2_fail_errno(error, "%s", folder) : status;
}

int image_files_folder(struct ws2_files *files, const char *folder, bool (*wanted)(const char *name),
                       struct ws2_error *error)
{
    const int64_t first = files->count;
    DIR *dir = opendir(folder);
    int status;

    if (!dir)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: %s", folder, strerror(errno));
    status = folder_list(files, dir, folder, wanted, error);
    closedir(dir);
    return status < 0 || files->count == first ? status : files_sort(files, first, error);
}

int ws2_files_folder(struct ws2_files *files, const char *folder, struct ws2_error *error)
{
    const int64_t first = files->count;
    const int status = image_files_folder(files, folder, has_picture_suffix, error);

    if (status == 0 && files->count == first)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: no pictures in this folder", folder);
    return status;
}

int ws2_files_glob(struct ws2_files *files, const char *pattern, struct ws2_error *error)
{
    const int64_t first = files->count;
    glob_t found;
    int status = 0;
    const int result = glob(pattern, GLOB_ERR, NULL, &found);

    if (result == GLOB_NOSPACE)
        return files_out_of_memory(error);
    if (result == GLOB_NOMATCH)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: no file matches", pattern);
    if (result != 0)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: a folder cannot be read", pattern);
    for (size_t i = 0; status == 0 && i < found.gl_pathc; i++)
        if (is_regular(found.gl_pathv[i]))
            status = ws2_files_add(files, found.gl_pathv[i], error);
    globfree(&found);
    if (status == 0 && files->count == first)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: no file matches", pattern);
    return status < 0 ? status : files_sort(files, first, error);
}

int64_t image_trailing_number(const char *text)
{
    size_t at = strlen(text);
    int64_t value = 0;
    const size_t end = at;

    while (at > 0 && isdigit((unsigned char)text[at - 1]))
        at--;
    if (at == end || end - at > 18)
        return -1;
    for (; at < end; at++)
        value = value * 10 + (text[at] - '0');
    return value;
}

bool ws2_files_number(struct ws2_files *files)
{
    bool named = true;
    int64_t previous = -1;

    for (int64_t i = 0; named && i < files->count; i++) {
        files->number[i] = image_trailing_number(files->stem[i]);
        named = files->number[i] > previous;
        previous = files->number[i];
    }
    for (int64_t i = 0; !named && i < files->count; i++)
        files->number[i] = i;
    return named;
}

static char *with_suffix(const char *folder, const char *stem, const char *suffix, bool upper)
{
    char *path = join_path(folder, stem);
    const size_t length = path ? strlen(path) : 0;
    char *grown = path ? realloc(path, length + strlen(suffix) + 2) : NULL;

    if (!grown) {
        free(path);
        return NULL;
    }
    grown[length] = '.';
    for (size_t i = 0; i <= strlen(suffix); i++)
        grown[length + 1 + i] = (char)(upper ? toupper((unsigned char)suffix[i]) : suffix[i]);
    return grown;
}

int ws2_files_find(const char *folder, const char *stem, char **path, struct ws2_error *error)
{
    int found = 0;

    *path = NULL;
    for (size_t i = 0; i < 2 * SUFFIXES; i++) {
        char *candidate = with_suffix(folder, stem, suffixes[i / 2], i % 2 != 0);

        if (!candidate) {
            free(*path);
            *path = NULL;
            return files_out_of_memory(error);
        }
        if (!is_regular(candidate)) {
            free(candidate);
        } else if (found) {
            ws2_fail(error, WS2_ERR_INPUT, "%s and %s: only one of them may be there", *path, candidate);
            free(candidate);
            free(*path);
            *path = NULL;
            return WS2_ERR_INPUT;
        } else {
            *path = candidate;
            found = 1;
        }
    }
    return found;
}

char *ws2_files_folder_name(const struct ws2_files *files)
{
    const char *slash = strrchr(files->path[0], '/');
    char *folder = slash ? strndup(files->path[0], (size_t)(slash - files->path[0]) + 1) : strdup(".");
    char *real = folder ? realpath(folder, NULL) : NULL;
    char *name = strdup(real && real[1] ? base_name(real) : "sequence");

    free(folder);
    free(real);
    return name;
}

int ws2_folders_make(const char *path, struct ws2_error *error)
{
    char *copy = strdup(path);
    int status = 0;

    if (!copy)
        return files_out_of_memory(error);
    for (char *at = copy; status == 0 && *at; at++) {
        const char kept = at[1];

        if (at[0] != '/' && kept != '/' && kept != '\0')
            continue;
        at[1] = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            status = ws2_fail_errno(error, "%s", copy);
        at[1] = kept;
    }
    free(copy);
    return status;
}

char *ws2_file_name(const char *text)
{
    char *name = strdup(*text ? text : "sequence");

    for (char *at = name; at && *at; at++)
        if (*at == '/' || (unsigned char)*at < ' ' || (*at == '.' && at == name))
            *at = '_';
    return name;
}

void ws2_files_free(struct ws2_files *files)
{
    for (int64_t i = 0; i < files->count; i++) {
        free(files->path[i]);
        free(files->stem[i]);
    }
    free(files->path);
    free(files->stem);
    free(files->number);
    *files = (struct ws2_files){0};
}
