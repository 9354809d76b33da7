/*
 * The input of a reader: bytes from a descriptor, or from a FILE of the caller. All short reads, interrupted
 * and non-blocking reads are handled here. A descriptor is read straight into the tensor's memory, and what
 * comes after it in the same call into the buffer; a FILE is never asked for more than is needed now, since it
 * may be a live pipe.
 */
#include "stream/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BUFFER_SIZE = 1 << 16, GROW_STEP = 1 << 20, PIPE_SIZE = 1 << 20 };

static int out_of_memory(struct ws2_error *error)
{
    return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

static int source_prepare(struct ws2_source *source, const char *name, struct ws2_error *error)
{
    source->wake = -1;
    source->base = source->size = -1;
    source->name = strdup(name);
    source->buffer = ws2_calloc(1, BUFFER_SIZE);
    source->capacity = BUFFER_SIZE;
    return source->name != NULL && source->buffer != NULL ? WS2_OK : out_of_memory(error);
}

/* Finds out what kind of file the descriptor is. */
static int source_inspect(struct ws2_source *source, struct ws2_error *error)
{
    struct stat info;
    if (fstat(source->fd, &info) != 0)
        return ws2_fail_errno(error, "%s", source->name);
    if (S_ISDIR(info.st_mode))
        return ws2_fail(error, WS2_ERR_INPUT, "%s: is a directory", source->name);
    if (S_ISREG(info.st_mode)) {
        source->base = lseek(source->fd, 0, SEEK_CUR);
        source->size = source->base >= 0 && info.st_size > source->base ? info.st_size - source->base : 0;
    } else {
        source->waits = true;
    }
    if (S_ISFIFO(info.st_mode))
        (void)fcntl(source->fd, F_SETPIPE_SZ, PIPE_SIZE); /* a refusal only costs speed */
    return WS2_OK;
}

int ws2_source_open(struct ws2_source *source, const char *path, struct ws2_error *error)
{
    const bool standard = strcmp(path, "-") == 0;
    source->fd = -1;
    const int status = source_prepare(source, standard ? "standard input" : path, error);
    if (status != WS2_OK)
        return status;
    source->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    source->owned = !standard;
    if (source->fd >= 0)
        return source_inspect(source, error);
    const bool ours = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EIO;
    return ours ? ws2_fail_errno(error, "%s", path)
                : ws2_fail(error, WS2_ERR_INPUT, "%s: %s", path, strerror(errno));
}

int ws2_source_open_file(struct ws2_source *source, FILE *file, const char *name, struct ws2_error *error)
{
    source->fd = -1;
    const int status = source_prepare(source, name, error);
    if (status != WS2_OK)
        return status;
    source->file = file;
    source->base = ftello(file);
    if (source->base >= 0 && fseeko(file, 0, SEEK_END) == 0) {
        const int64_t end = ftello(file);
        source->size = end > source->base ? end - source->base : 0;
        if (fseeko(file, source->base, SEEK_SET) != 0)
            return ws2_fail_errno(error, "%s", name);
    } else {
        source->base = -1;
    }
    return WS2_OK;
}

void ws2_source_close(struct ws2_source *source)
{
    if (source->owned && source->fd >= 0)
        close(source->fd);
    free(source->name);
    free(source->buffer);
}

/* Waits until the descriptor can be read, or until someone wants us to stop. */
static int source_wait(struct ws2_source *source, struct ws2_error *error)
{
    struct pollfd ready[2] = {{source->fd, POLLIN, 0}, {source->wake, POLLIN, 0}};
    while (poll(ready, 2, -1) < 0) {
        if (errno != EINTR)
            return ws2_fail_errno(error, "%s: cannot read", source->name);
    }
    return ready[1].revents != 0 ? ws2_fail(error, WS2_ERR_SYSTEM, "%s: reading was stopped", source->name)
                                 : WS2_OK;
}

/* One read into the parts; *got is 0 only at the end of the input. A FILE fills the first part only. */
static int source_pull(struct ws2_source *source, const struct iovec *part, int parts, size_t *got,
                       struct ws2_error *error)
{
    *got = 0;
    if (source->file != NULL) {
        *got = fread(part[0].iov_base, 1, part[0].iov_len, source->file);
        if (*got < part[0].iov_len && ferror(source->file))
            return ws2_fail_errno(error, "%s: cannot read", source->name);
        return WS2_OK;
    }
    for (bool wait = source->waits && source->wake >= 0;; wait = true) {
        const int status = wait ? source_wait(source, error) : WS2_OK;
        if (status != WS2_OK)
            return status;
        const ssize_t count = readv(source->fd, part, parts);
        if (count >= 0) {
            *got = (size_t)count;
            return WS2_OK;
        }
        if (errno != EINTR && errno != EAGAIN)
            return ws2_fail_errno(error, "%s: cannot read", source->name);
    }
}

static void source_count(struct ws2_source *source, size_t count)
{
    const int64_t now = atomic_load_explicit(&source->consumed, memory_order_relaxed);
    atomic_store_explicit(&source->consumed, now + (int64_t)count, memory_order_relaxed);
}

void ws2_source_consume(struct ws2_source *source, size_t count)
{
    source->begin += count;
    source_count(source, count);
}

/* Room for `need` bytes from begin on, moved to the front. A large need is met in steps, as data arrives. */
static int source_room(struct ws2_source *source, size_t need, struct ws2_error *error)
{
    const size_t have = ws2_source_have(source);
    size_t want = have + GROW_STEP < need ? have + GROW_STEP : need;
    memmove(source->buffer, source->buffer + source->begin, have);
    source->begin = 0;
    source->end = have;
    if (source->capacity >= want)
        return WS2_OK;
    if (want < 2 * source->capacity)
        want = 2 * source->capacity;
    void *buffer = source->buffer;
    if (ws2_reserve(&buffer, &source->capacity, want) != WS2_OK)
        return out_of_memory(error);
    source->buffer = buffer;
    return WS2_OK;
}

int ws2_source_fill(struct ws2_source *source, size_t need, struct ws2_error *error)
{
    while (ws2_source_have(source) < need && !source->ended) {
        int status = WS2_OK;
        if (need > source->capacity - source->begin)
            status = source_room(source, need, error);
        struct iovec part = {source->buffer + source->end, source->capacity - source->end};
        if (source->file != NULL && part.iov_len > need - ws2_source_have(source))
            part.iov_len = need - ws2_source_have(source);
        size_t got = 0;
        if (status == WS2_OK)
            status = source_pull(source, &part, 1, &got, error);
        if (status != WS2_OK)
            return status;
        source->end += got;
        source->ended = got == 0;
    }
    return WS2_OK;
}

int ws2_source_read(struct ws2_source *source, void *data, size_t count, size_t *got, struct ws2_error *error)
{
    const size_t have = ws2_source_have(source);
    *got = have < count ? have : count;
    memcpy(data, ws2_source_at(source), *got);
    source->begin += *got;
    int status = WS2_OK;
    while (*got < count && !source->ended && status == WS2_OK) {
        /* The buffer is empty here, so the same call may fetch what follows. */
        const size_t rest = count - *got;
        const struct iovec part[2] = {{(char *)data + *got, rest}, {source->buffer, source->capacity}};
        size_t more;
        status = source_pull(source, part, 2, &more, error);
        source->ended = status == WS2_OK && more == 0;
        source->begin = 0;
        source->end = more > rest ? more - rest : 0;
        *got += more - source->end;
    }
    source_count(source, *got);
    return status;
}

int ws2_source_skip(struct ws2_source *source, uint64_t count, uint64_t *got, struct ws2_error *error)
{
    *got = 0;
    while (*got < count) {
        size_t have = ws2_source_have(source);
        const int64_t at = atomic_load_explicit(&source->consumed, memory_order_relaxed);
        if (have == 0 && source->base >= 0 && count - *got > BUFFER_SIZE) {
            const uint64_t rest = source->size > at ? (uint64_t)(source->size - at) : 0;
            const uint64_t jump = rest < count - *got ? rest : count - *got;
            *got += jump;
            return ws2_source_seek(source, at + (int64_t)jump, error);
        }
        if (have == 0) {
            const int status = ws2_source_fill(source, 1, error);
            have = ws2_source_have(source);
            if (status != WS2_OK || have == 0)
                return status;
        }
        const size_t step = have < count - *got ? have : (size_t)(count - *got);
        ws2_source_consume(source, step);
        *got += step;
    }
    return WS2_OK;
}

int ws2_source_seek(struct ws2_source *source, int64_t offset, struct ws2_error *error)
{
    const int64_t at = atomic_load_explicit(&source->consumed, memory_order_relaxed);
    atomic_store_explicit(&source->consumed, offset, memory_order_relaxed);
    /* Often the next thing wanted is in the buffer already. */
    if (offset >= at - (int64_t)source->begin && offset <= at + (int64_t)ws2_source_have(source)) {
        source->begin = (size_t)((int64_t)source->begin + offset - at);
        return WS2_OK;
    }
    source->begin = source->end = 0;
    source->ended = false;
    const bool good = source->file != NULL ? fseeko(source->file, source->base + offset, SEEK_SET) == 0
                                           : lseek(source->fd, source->base + offset, SEEK_SET) >= 0;
    return good ? WS2_OK : ws2_fail_errno(error, "%s: cannot seek", source->name);
}
