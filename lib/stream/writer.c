/*
 * Writer: a record leaves in one call, its RECORD and all its compressed tensors gathered, so nothing is copied
 * on the way and nothing waits in a buffer. Every write is checked and so is the last close; a named file gets
 * its name only then.
 */
#include "stream/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zstd.h>

enum { PIPE_SIZE = 1 << 20, PARTS_MAX = WS2_TENSORS_MAX + 1 };

struct ws2_writer {
    int fd;                 /* -1 when a FILE is written */
    FILE *file;             /* the caller's */
    char *name;             /* for messages */
    char *path, *temporary; /* final and present name of a named file, or NULL */
    int level;
    struct ws2_error error;
    struct ws2_head *head; /* of the open segment, or NULL */
    int64_t bytes, total_records, segments;
    struct ws2_text meta; /* the metadata frame being made */
    /* of the open segment */
    int64_t start, records;
    struct ws2_running checksums;
    struct ws2_block offsets; /* u64 for each record, as the TAIL wants them */
};

/* ---- output ------------------------------------------------------------------------------------------- */

static int write_failed(struct ws2_writer *writer)
{
    return ws2_fail_errno(&writer->error, "%s: cannot write", writer->name);
}

/* Drops the first `count` bytes from the parts. */
static void parts_advance(struct iovec **part, int *parts, size_t count)
{
    while (*parts > 0 && count >= (*part)->iov_len) {
        count -= (*part)->iov_len;
        ++*part;
        --*parts;
    }
    if (*parts > 0) {
        (*part)->iov_base = (char *)(*part)->iov_base + count;
        (*part)->iov_len -= count;
    }
}

static int write_file(struct ws2_writer *writer, const struct iovec *part, int parts)
{
    for (int i = 0; i < parts; i++) {
        if (fwrite(part[i].iov_base, 1, part[i].iov_len, writer->file) < part[i].iov_len)
            return write_failed(writer);
    }
    return fflush(writer->file) == 0 ? WS2_OK : write_failed(writer);
}

static int write_parts(struct ws2_writer *writer, struct iovec *part, int parts)
{
    int64_t total = 0;
    for (int i = 0; i < parts; i++)
        total += (int64_t)part[i].iov_len;
    if (writer->file != NULL) {
        const int status = write_file(writer, part, parts);
        writer->bytes += status == WS2_OK ? total : 0;
        return status;
    }
    while (parts > 0) {
        const ssize_t done = writev(writer->fd, part, parts);
        if (done >= 0) {
            parts_advance(&part, &parts, (size_t)done);
        } else if (errno == EAGAIN) {
            struct pollfd ready = {writer->fd, POLLOUT, 0};
            if (poll(&ready, 1, -1) < 0 && errno != EINTR)
                return write_failed(writer);
        } else if (errno != EINTR) {
            return write_failed(writer);
        }
    }
    writer->bytes += total;
    return WS2_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------ */

static struct ws2_writer *writer_new(const char *name, int level, struct ws2_error *error)
{
    if (level < ZSTD_minCLevel() || level > ZSTD_maxCLevel()) {
        ws2_fail(error, WS2_ERR_USAGE, "no such compression level: %d", level);
        return NULL;
    }
    struct ws2_writer *writer = ws2_calloc(1, sizeof *writer);
    if (writer != NULL) {
        writer->fd = -1;
        writer->level = level;
        writer->name = strdup(name);
    }
    if (writer == NULL || writer->name == NULL || ws2_running_open(&writer->checksums) != WS2_OK) {
        ws2_writer_abandon(writer);
        ws2_fail(error, WS2_ERR_SYSTEM, "%s: out of memory", name);
        return NULL;
    }
    return writer;
}

/* The number in /dev/stdout, /dev/fd/N or /proc/self/fd/N: a descriptor that we have, not a file to make. */
static int descriptor_of(const char *path)
{
    static const char *const folder[] = {"/dev/fd/", "/proc/self/fd/"};
    if (strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0)
        return STDOUT_FILENO;
    for (int i = 0; i < 2; i++) {
        const char *number = path + strlen(folder[i]);
        if (strncmp(path, folder[i], strlen(folder[i])) == 0 &&
            strspn(number, "0123456789") == strlen(number) && strlen(number) > 0 && strlen(number) < 9)
            return atoi(number);
    }
    return -1;
}

/* Opens "path.tmp" beside the file that path names, through symbolic links. A left-over of the same name from
 * a program that died is replaced. */
static int open_temporary(struct ws2_writer *writer, const char *path)
{
    writer->path = realpath(path, NULL);
    if (writer->path == NULL)
        writer->path = strdup(path);
    if (writer->path != NULL && asprintf(&writer->temporary, "%s.tmp", writer->path) < 0)
        writer->temporary = NULL;
    if (writer->temporary == NULL)
        return ws2_fail(&writer->error, WS2_ERR_SYSTEM, "%s: out of memory", path);
    (void)unlink(writer->temporary);
    writer->fd = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (writer->fd >= 0)
        return WS2_OK;
    const int status = ws2_fail_errno(&writer->error, "%s: cannot create", path);
    free(writer->temporary);
    writer->temporary = NULL; /* not ours to remove */
    return status;
}

static int open_path(struct ws2_writer *writer, const char *path)
{
    struct stat info;
    const int descriptor = descriptor_of(path);
    const bool exists = stat(path, &info) == 0;
    if (descriptor >= 0)
        /* A descriptor of its own can be closed, and that close checked, while the original stays open. */
        writer->fd = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    else if (exists && S_ISDIR(info.st_mode))
        return ws2_fail(&writer->error, WS2_ERR_SYSTEM, "%s: is a directory", path);
    else if (!exists || S_ISREG(info.st_mode))
        return open_temporary(writer, path);
    else
        writer->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (writer->fd < 0)
        return ws2_fail_errno(&writer->error, "%s: cannot write", writer->name);
    if (fstat(writer->fd, &info) == 0 && S_ISFIFO(info.st_mode))
        (void)fcntl(writer->fd, F_SETPIPE_SZ, PIPE_SIZE); /* a refusal only costs speed */
    return WS2_OK;
}

int ws2_writer_open(struct ws2_writer **out, const char *path, int level, struct ws2_error *error)
{
    *out = NULL;
    struct ws2_writer *writer = writer_new(strcmp(path, "-") == 0 ? "standard output" : path, level, error);
    if (writer == NULL)
        return error != NULL ? error->status : WS2_ERR_SYSTEM;
    const int status = open_path(writer, path);
    if (status == WS2_OK) {
        *out = writer;
        return WS2_OK;
    }
    ws2_fail(error, status, "%s", writer->error.text);
    ws2_writer_abandon(writer);
    return status;
}

int ws2_writer_open_file(struct ws2_writer **out, FILE *file, const char *name, int level,
                         struct ws2_error *error)
{
    *out = writer_new(name, level, error);
    if (*out == NULL)
        return error != NULL ? error->status : WS2_ERR_SYSTEM;
    (*out)->file = file;
    return WS2_OK;
}

/* ---- metadata ----------------------------------------------------------------------------------------- */

/* Begins a metadata frame; its body is then added to writer->meta. */
static void meta_begin(struct ws2_writer *writer)
{
    static const char blank[WS2_BODY_AT];
    writer->meta.size = 0;
    writer->meta.failed = false;
    ws2_text_add(&writer->meta, blank, sizeof blank);
}

/* Fills in the header; the checksum joins those of the segment (but that of a TAIL, which nobody hashes). */
static int meta_end(struct ws2_writer *writer, const char *tag)
{
    if (writer->meta.failed)
        return ws2_fail(&writer->error, WS2_ERR_SYSTEM, "%s: out of memory", writer->name);
    const size_t body = writer->meta.size - WS2_BODY_AT;
    if (body > WS2_BODY_MAX)
        return ws2_fail(&writer->error, WS2_ERR_USAGE, "%s: metadata larger than 16 MiB", writer->name);
    unsigned char *frame = (unsigned char *)writer->meta.data;
    ws2_store32(frame, WS2_SKIPPABLE_MAGIC);
    ws2_store32(frame + 4, (uint32_t)(WS2_HEADER_SIZE + body));
    memcpy(frame + 8, tag, 4);
    ws2_store16(frame + 12, WS2_FORMAT_VERSION);
    ws2_store16(frame + 14, 0);
    ws2_store32(frame + 16, ws2_checksum(frame + WS2_BODY_AT, body));
    ws2_running_add(&writer->checksums, frame + 16, 4);
    return WS2_OK;
}

static int usage(struct ws2_writer *writer, const char *what)
{
    return ws2_fail(&writer->error, WS2_ERR_USAGE, "%s: %s", writer->name, what);
}

int ws2_writer_begin(struct ws2_writer *writer, const struct ws2_head *head)
{
    if (writer->error.status != 0)
        return writer->error.status;
    if (writer->head != NULL)
        return usage(writer, "a segment is open already");
    writer->start = writer->bytes;
    writer->records = 0;
    ws2_running_reset(&writer->checksums);
    meta_begin(writer);
    ws2_text_puts(&writer->meta, ws2_head_json(head));
    int status = meta_end(writer, WS2_TAG_HEAD);
    if (status == WS2_OK) {
        struct iovec part = {writer->meta.data, writer->meta.size};
        status = write_parts(writer, &part, 1);
    }
    if (status != WS2_OK)
        return status;
    writer->head = ws2_head_copy(head);
    if (writer->head == NULL)
        return ws2_fail(&writer->error, WS2_ERR_SYSTEM, "%s: out of memory", writer->name);
    writer->segments++;
    return WS2_OK;
}

/* Every tensor must stand in the HEAD with this dtype. */
static int check_record(struct ws2_writer *writer, const struct ws2_record *record)
{
    if (ws2_record_frame(record) < 0)
        return usage(writer, "a negative frame number");
    if (writer->records == WS2_RECORDS_MAX)
        return usage(writer, "more than 2000000 records in a segment");
    for (int i = 0; i < ws2_record_tensors(record); i++) {
        struct ws2_tensor tensor;
        ws2_record_peek(record, ws2_record_name(record, i), &tensor);
        const struct ws2_tensor_info *info = ws2_head_find(writer->head, tensor.name);
        if (info == NULL)
            return ws2_fail(&writer->error, WS2_ERR_USAGE, "%s: frame %lld: tensor '%s' is not in the HEAD",
                            writer->name, (long long)ws2_record_frame(record), tensor.name);
        if (info->dtype != tensor.dtype)
            return ws2_fail(&writer->error, WS2_ERR_USAGE,
                            "%s: frame %lld: tensor '%s' is %s, the HEAD says %s", writer->name,
                            (long long)ws2_record_frame(record), tensor.name, ws2_dtype_name(tensor.dtype),
                            ws2_dtype_name(info->dtype));
    }
    return WS2_OK;
}

static int note_offset(struct ws2_writer *writer)
{
    const size_t have = (size_t)writer->records * 8;
    if (have + 8 > writer->offsets.capacity &&
        ws2_block_reserve(&writer->offsets, 2 * have + 8 * 64, have) != WS2_OK)
        return ws2_fail(&writer->error, WS2_ERR_SYSTEM, "%s: out of memory", writer->name);
    ws2_store64(writer->offsets.data + have, (uint64_t)(writer->bytes - writer->start));
    return WS2_OK;
}

int ws2_writer_put(struct ws2_writer *writer, struct ws2_record *record)
{
    if (writer->error.status != 0)
        return writer->error.status;
    if (writer->head == NULL)
        return usage(writer, "a record before the HEAD");
    int status = check_record(writer, record);
    if (status != WS2_OK)
        return status;
    status = ws2_record_pack(record, writer->level, &writer->error);
    if (status != WS2_OK) {
        ws2_error_prefix(&writer->error, "%s: frame %lld", writer->name, (long long)ws2_record_frame(record));
        return status;
    }
    meta_begin(writer);
    ws2_record_json(record, &writer->meta);
    status = meta_end(writer, WS2_TAG_RECORD);
    if (status == WS2_OK)
        status = note_offset(writer);
    if (status != WS2_OK)
        return status;
    struct iovec part[PARTS_MAX] = {{writer->meta.data, writer->meta.size}};
    const int tensors = ws2_record_tensors(record);
    for (int i = 0; i < tensors; i++)
        part[i + 1] = (struct iovec){(void *)ws2_record_packed(record, i), ws2_record_packed_size(record, i)};
    status = write_parts(writer, part, tensors + 1);
    if (status == WS2_OK) {
        writer->records++;
        writer->total_records++;
    }
    return status;
}

int ws2_writer_end(struct ws2_writer *writer)
{
    if (writer->error.status != 0)
        return writer->error.status;
    if (writer->head == NULL)
        return usage(writer, "a TAIL before the HEAD");
    unsigned char number[8];
    const size_t table = (size_t)writer->records * 8, size = WS2_BODY_AT + WS2_TAIL_BODY_MIN + table;
    meta_begin(writer);
    ws2_store64(number, (uint64_t)writer->records);
    ws2_text_add(&writer->meta, (const char *)number, 8);
    ws2_store64(number, ws2_running_value(&writer->checksums));
    ws2_text_add(&writer->meta, (const char *)number, 8);
    ws2_text_add(&writer->meta, (const char *)writer->offsets.data, table);
    ws2_store64(number, size);
    ws2_text_add(&writer->meta, (const char *)number, 8);
    ws2_store64(number, (uint64_t)(writer->bytes - writer->start) + size);
    ws2_text_add(&writer->meta, (const char *)number, 8);
    ws2_text_add(&writer->meta, WS2_END_MAGIC, 8);
    int status = meta_end(writer, WS2_TAG_TAIL);
    if (status == WS2_OK) {
        struct iovec part = {writer->meta.data, writer->meta.size};
        status = write_parts(writer, &part, 1);
    }
    ws2_head_free(writer->head);
    writer->head = NULL;
    return status;
}

/* ---- the rest ----------------------------------------------------------------------------------------- */

const struct ws2_error *ws2_writer_error(const struct ws2_writer *writer)
{
    return &writer->error;
}

int ws2_writer_level(const struct ws2_writer *writer)
{
    return writer->level;
}

int64_t ws2_writer_records(const struct ws2_writer *writer)
{
    return writer->total_records;
}

int64_t ws2_writer_bytes(const struct ws2_writer *writer)
{
    return writer->bytes;
}

int ws2_writer_close(struct ws2_writer *writer, struct ws2_error *error)
{
    if (writer->error.status == 0 && (writer->head != NULL || writer->segments == 0))
        usage(writer, writer->head != NULL ? "closed before the TAIL" : "closed without a HEAD");
    if (writer->error.status == 0 && writer->file != NULL && fflush(writer->file) != 0)
        write_failed(writer);
    if (writer->error.status == 0 && writer->fd >= 0) {
        const int fd = writer->fd;
        writer->fd = -1;
        if (close(fd) != 0)
            write_failed(writer);
    }
    if (writer->error.status == 0 && writer->temporary != NULL) {
        if (rename(writer->temporary, writer->path) != 0) {
            write_failed(writer);
        } else {
            free(writer->temporary);
            writer->temporary = NULL;
        }
    }
    const int status = writer->error.status;
    if (status != WS2_OK)
        ws2_fail(error, status, "%s", writer->error.text);
    ws2_writer_abandon(writer);
    return status;
}

void ws2_writer_abandon(struct ws2_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->temporary != NULL)
        (void)unlink(writer->temporary);
    ws2_running_close(&writer->checksums);
    ws2_block_free(&writer->offsets);
    ws2_text_free(&writer->meta);
    ws2_head_free(writer->head);
    free(writer->temporary);
    free(writer->path);
    free(writer->name);
    free(writer);
}
