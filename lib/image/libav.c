/* Loading libav, its log, and its view of a file. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "image/libav.h"

/* ---- loading ------------------------------------------------------------------------------------- */

/* Written once under pthread_once and constant from then on. */
static struct libav table;
static bool table_ready;
static char table_error[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

/* The thread's own sink, set only while one of its calls is inside libav. */
static _Thread_local struct libav_log *log_sink;

static void on_log(void *object, int level, const char *format, va_list arguments)
{
    struct libav_log *log = log_sink;
    size_t length;

    (void)object;
    if (!log || level > AV_LOG_ERROR)
        return;
    vsnprintf(log->text, sizeof log->text, format, arguments);
    length = strlen(log->text);
    while (length > 0 && (log->text[length - 1] == '\n' || log->text[length - 1] == '.'))
        log->text[--length] = '\0';
}

static void *library_open(const char *name, int major)
{
    char soname[64];
    void *library;

    snprintf(soname, sizeof soname, "%s.so.%d", name, major);
    library = dlopen(soname, RTLD_LAZY | RTLD_LOCAL);
    if (!library)
        snprintf(table_error, sizeof table_error, "video needs the library %s: %s", soname, dlerror());
    return library;
}

static bool symbol_find(void *library, const char *name, void *slot)
{
    void *symbol = dlsym(library, name);

    if (!symbol) {
        snprintf(table_error, sizeof table_error, "video needs the function %s, which this libav lacks",
                 name);
        return false;
    }
    /* POSIX asks that a function pointer fits here. */
    memcpy(slot, &symbol, sizeof symbol);
    return true;
}

#define FIND(name) &&symbol_find(library, #name, &table.name)

static void table_load(void)
{
    void *library = library_open("libavutil", LIBAVUTIL_VERSION_MAJOR);

    if (!(library LIBAV_UTIL(FIND)))
        return;
    library = library_open("libswscale", LIBSWSCALE_VERSION_MAJOR);
    if (!(library LIBAV_SCALE(FIND)))
        return;
    library = library_open("libavcodec", LIBAVCODEC_VERSION_MAJOR);
    if (!(library LIBAV_CODEC(FIND)))
        return;
    library = library_open("libavformat", LIBAVFORMAT_VERSION_MAJOR);
    if (!(library LIBAV_FORMAT(FIND)))
        return;
    table.av_log_set_callback(on_log);
    table_ready = true;
}

const struct libav *libav_get(struct ws2_error *error)
{
    pthread_once(&table_once, table_load);
    if (table_ready)
        return &table;
    ws2_fail(error, WS2_ERR_MODEL, "%s", table_error);
    return NULL;
}

const char *ws2_video_library(void)
{
    return libav_get(NULL) ? LIBAVFORMAT_IDENT : NULL;
}

void libav_log_to(struct libav_log *log)
{
    log_sink = log;
}

const char *libav_reason(const struct libav *av, int code, struct libav_log *log, char *text, size_t size)
{
    char reason[128];

    av->av_strerror(code, reason, sizeof reason);
    if (log->text[0])
        snprintf(text, size, "%s (%s)", reason, log->text);
    else
        snprintf(text, size, "%s", reason);
    log->text[0] = '\0';
    return text;
}

/* ---- files --------------------------------------------------------------------------------------- */

#define IO_BUFFER (1 << 16)

static int file_read(void *opaque, uint8_t *bytes, int count)
{
    struct libav_file *file = opaque;
    ssize_t got;

    do
        got = read(file->fd, bytes, (size_t)count);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return AVERROR(file->saved_errno = errno);
    return got == 0 ? AVERROR_EOF : (int)got;
}

static int file_write(void *opaque, uint8_t *bytes, int count)
{
    struct libav_file *file = opaque;
    int done = 0;

    while (done < count) {
        const ssize_t put = write(file->fd, bytes + done, (size_t)(count - done));

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return AVERROR(file->saved_errno = errno);
        done += (int)put;
    }
    return count;
}

int64_t libav_file_size(const struct libav_file *file)
{
    struct stat info;

    return fstat(file->fd, &info) == 0 && S_ISREG(info.st_mode) ? (int64_t)info.st_size : -1;
}

static int64_t file_seek(void *opaque, int64_t offset, int whence)
{
    struct libav_file *file = opaque;
    off_t at;

    if (whence & AVSEEK_SIZE) {
        const int64_t size = libav_file_size(file);

        return size < 0 ? AVERROR(ESPIPE) : size;
    }
    at = lseek(file->fd, (off_t)offset, whence & ~AVSEEK_FORCE);
    return at < 0 ? AVERROR(errno) : (int64_t)at;
}

int libav_file_open(const struct libav *av, struct libav_file *file, const char *path, bool writable,
                    struct ws2_error *error)
{
    uint8_t *buffer;
    struct stat info;

    *file = (struct libav_file){.fd = writable ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)
                                               : open(path, O_RDONLY | O_CLOEXEC)};
    if (file->fd < 0)
        return writable ? ws2_fail_errno(error, "%s", path)
                        : ws2_fail(error, WS2_ERR_INPUT, "%s: %s", path, strerror(errno));
    if (fstat(file->fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(file->fd);
        return ws2_fail(error, WS2_ERR_INPUT, "%s: is a folder", path);
    }
    buffer = av->av_malloc(IO_BUFFER);
    if (buffer)
        file->io = av->avio_alloc_context(buffer, IO_BUFFER, writable, file, writable ? NULL : file_read,
                                          writable ? file_write : NULL, file_seek);
    if (!file->io) {
        av->av_free(buffer);
        close(file->fd);
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", path);
    }
    if (lseek(file->fd, 0, SEEK_CUR) < 0)
        file->io->seekable = 0;
    return 0;
}

int libav_file_close(const struct libav *av, struct libav_file *file)
{
    int failed = 0;

    if (!file->io)
        return 0;
    av->av_free(file->io->buffer);
    av->avio_context_free(&file->io);
    if (close(file->fd) != 0)
        failed = errno;
    return failed;
}
