/*
 * stream: records of named tensors in a valid zstd file (byte table: format.h and ws2(5)).
 *
 * A file is one or more segments; a segment is HEAD, records, TAIL. One record is one video frame: a frame
 * number, a time stamp and named tensors. Tensors that nobody asks for travel as the compressed bytes they
 * arrived in, checksum included.
 *
 * Objects: ws2_head (what a segment says of itself), ws2_record (one frame), ws2_reader, ws2_writer, and
 * ws2_filter, the loop that most programs are: reader thread, ordered workers, writer thread.
 *
 * Errors: functions return 0 or more on success and a ws2_status on failure; the message is in the reader's
 * or writer's own ws2_error (ws2_reader_error, ws2_writer_error) or in the `error` argument. Sizes from a
 * file are checked against the limits in format.h before anything is allocated.
 * Threads: an object belongs to one thread at a time; different objects are independent.
 * Knows base and pool; only this room knows zstd, xxhash and jansson's view of a head.
 */
#ifndef WS2_STREAM_H
#define WS2_STREAM_H

#include <stdio.h>
#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "format 1, libzstd 1.5.4": what this build writes and with what. */
const char *ws2_stream_version(void);

/* ---- HEAD --------------------------------------------------------------------------------------------- */

struct ws2_head;

enum ws2_role { WS2_ROLE_NONE, WS2_ROLE_BEFORE, WS2_ROLE_AFTER };
const char *ws2_role_name(enum ws2_role role);             /* "none", "before", "after" */
int ws2_role_parse(const char *text, enum ws2_role *role); /* 0 or WS2_ERR_USAGE */

#define WS2_NAME_MAX 63 /* bytes in a tensor name: letters, digits, '.', '_', '-' */
#define WS2_TEXT_MAX 63 /* bytes in axes and unit */
#define WS2_TENSORS_MAX 64

/* One row of the tensor table: what a record of this segment may hold. Records may lack a tensor of the table
 * (the last frame has no flow.next) but hold none outside it. */
struct ws2_tensor_info {
    char name[WS2_NAME_MAX + 1];
    enum ws2_dtype dtype;
    char axes[WS2_TEXT_MAX + 1]; /* comma-separated: "h,w,3", "c,h,w" */
    char unit[WS2_TEXT_MAX + 1]; /* "pixel", "0..1", "class", "" */
};

/* One program that touched the stream: only what decides the result, never a host, a time or a path. */
struct ws2_history {
    const char *program;        /* "ws2-bgmask" */
    const char *version;        /* WS2_VERSION */
    const char *const *options; /* "key=value" strings, sorted by the writer; count entries */
    int count;
    bool seeded;
    int64_t seed;      /* meaningful when seeded */
    const char *model; /* digest of the weights, or NULL */
};

struct ws2_head *ws2_head_new(void);                         /* NULL when out of memory */
struct ws2_head *ws2_head_copy(const struct ws2_head *head); /* deep; NULL when out of memory */
void ws2_head_free(struct ws2_head *head);

/* Texts returned are owned by the head and valid until it is changed or freed. Setters return 0, WS2_ERR_USAGE
 * for a value that a HEAD cannot hold (text that is not UTF-8, a name with control characters, a size that is
 * not positive, more than 16 MiB in all) or WS2_ERR_SYSTEM, and change nothing on failure. Unset: "", none,
 * 0 x 0, 0/1, no names. */
const char *ws2_head_seq(const struct ws2_head *head); /* sequence name, "" when unset */
int ws2_head_set_seq(struct ws2_head *head, const char *seq);
enum ws2_role ws2_head_role(const struct ws2_head *head);
int ws2_head_set_role(struct ws2_head *head, enum ws2_role role);
void ws2_head_size(const struct ws2_head *head, int64_t *width, int64_t *height); /* 0 when unknown */
int ws2_head_set_size(struct ws2_head *head, int64_t width, int64_t height);
void ws2_head_rate(const struct ws2_head *head, int64_t *num,
                   int64_t *den); /* frames per second; 0/1 unknown */
int ws2_head_set_rate(struct ws2_head *head, int64_t num, int64_t den);
int ws2_head_classes(const struct ws2_head *head); /* number of class names */
const char *ws2_head_class(const struct ws2_head *head, int index);
int ws2_head_class_find(const struct ws2_head *head, const char *name); /* its index, -1 when there is none */
int ws2_head_set_classes(struct ws2_head *head, const char *const *names, int count);
/* Free text under a key of its own ("truth.split", ...), kept and passed on by programs that do not know it.
 */
const char *ws2_head_note(const struct ws2_head *head, const char *key); /* NULL when absent */
int ws2_head_set_note(struct ws2_head *head, const char *key, const char *text);

int ws2_head_tensors(const struct ws2_head *head);
const struct ws2_tensor_info *ws2_head_tensor(const struct ws2_head *head, int index);
const struct ws2_tensor_info *ws2_head_find(const struct ws2_head *head, const char *name); /* or NULL */
/* As ws2_head_find, but a missing tensor or one of another dtype is WS2_ERR_INPUT and NULL. */
const struct ws2_tensor_info *ws2_head_want(const struct ws2_head *head, const char *name,
                                            enum ws2_dtype dtype, struct ws2_error *error);
/* Adds a row. A name that is already there is WS2_ERR_USAGE (never overwritten silently). */
int ws2_head_add_tensor(struct ws2_head *head, const char *name, enum ws2_dtype dtype, const char *axes,
                        const char *unit, struct ws2_error *error);
int ws2_head_drop_tensor(struct ws2_head *head, const char *name); /* absent is fine */

int ws2_head_histories(const struct ws2_head *head);
/* The entry as compact JSON text, oldest first. */
const char *ws2_head_history(const struct ws2_head *head, int index);
int ws2_head_add_history(struct ws2_head *head, const struct ws2_history *entry);
/* The whole head as compact JSON with sorted keys. */
const char *ws2_head_json(const struct ws2_head *head);
/* Same role, classes, size and tensor table: records of both may stand in one segment. On a difference
 * returns WS2_ERR_INPUT and names it in error. The sequence name, rate and history may differ. */
int ws2_head_agree(const struct ws2_head *a, const struct ws2_head *b, struct ws2_error *error);
/* The head of records that take tensors from both (`tensors`), or of records of both in turn (not `tensors`):
 * a's, with what only b knows (notes, history entries, rate). Sequence name, role, classes and size must be
 * equal or known to one only; a tensor name in both is an error with `tensors`. NULL on failure, see error. */
struct ws2_head *ws2_head_join(const struct ws2_head *a, const struct ws2_head *b, bool tensors,
                               struct ws2_error *error);
/* Copies the value of option `key` in the newest entry of `program` to text; false when there is none. */
bool ws2_head_history_option(const struct ws2_head *head, const char *program, const char *key, char *text,
                             size_t size);
/* The entry for people and awk: program, version, seed, model, options, separated by tabs, "-" where absent;
 * options by blanks; control characters as '?'. Release with free(); NULL when out of memory. */
char *ws2_head_history_line(const struct ws2_head *head, int index);

/* ---- RECORD ---------------------------------------------------------------------------------------------
 */

struct ws2_record;

/* A tensor in memory: C order, packed, little-endian. */
struct ws2_tensor {
    const char *name;
    enum ws2_dtype dtype;
    struct ws2_shape shape;
    size_t bytes;
    const void *data; /* aligned to 64 bytes; owned by the record */
};

struct ws2_record *ws2_record_new(void);
void ws2_record_free(struct ws2_record *record);
void ws2_record_clear(struct ws2_record *record); /* drops all tensors, keeps the memory for reuse */
int64_t ws2_record_frame(const struct ws2_record *record);
int64_t ws2_record_pts(const struct ws2_record *record); /* microseconds; -1 when unknown */
void ws2_record_set_frame(struct ws2_record *record, int64_t frame, int64_t pts);

int ws2_record_tensors(const struct ws2_record *record);
const char *ws2_record_name(const struct ws2_record *record, int index);
bool ws2_record_has(const struct ws2_record *record, const char *name);
/* Name, dtype, shape and raw bytes without decompressing (data stays NULL); 1 when present, 0 when not. */
int ws2_record_peek(const struct ws2_record *record, const char *name, struct ws2_tensor *tensor);
/* Decompresses on first use and verifies the checksum. 1 when present, 0 when not, or a status. The data is
 * valid until the record is cleared or that tensor is dropped. */
int ws2_record_get(struct ws2_record *record, const char *name, struct ws2_tensor *tensor,
                   struct ws2_error *error);
/* As ws2_record_get, but a missing tensor, another dtype or another rank is WS2_ERR_INPUT. */
int ws2_record_want(struct ws2_record *record, const char *name, enum ws2_dtype dtype, int rank,
                    struct ws2_tensor *tensor, struct ws2_error *error);
/* Two tensors of the record have shapes that do not go together: WS2_ERR_INPUT, which tells both. */
int ws2_record_misfit(const struct ws2_record *record, const char *a, const char *b, struct ws2_error *error);
/* Makes room for a new tensor and returns its uninitialised, writable data (NULL on failure, see error).
 * A name already in the record is an error; drop it first to replace it. */
void *ws2_record_add(struct ws2_record *record, const char *name, enum ws2_dtype dtype,
                     const struct ws2_shape *shape, struct ws2_error *error);
/* Copies data in. */
int ws2_record_put(struct ws2_record *record, const char *name, enum ws2_dtype dtype,
                   const struct ws2_shape *shape, const void *data, struct ws2_error *error);
void ws2_record_drop(struct ws2_record *record, const char *name); /* absent is fine */
int ws2_record_rename(struct ws2_record *record, const char *from, const char *to, struct ws2_error *error);
/* Moves the tensor `name` of `from` (compressed bytes as they are) into `to`. */
int ws2_record_move(struct ws2_record *to, struct ws2_record *from, const char *name,
                    struct ws2_error *error);
/* Compresses every tensor that is not yet compressed, so that writing is only a copy. Done by workers. */
int ws2_record_pack(struct ws2_record *record, int level, struct ws2_error *error);
/* Compresses every tensor anew, at this level. */
int ws2_record_repack(struct ws2_record *record, int level, struct ws2_error *error);

/* ---- hash of the content ------------------------------------------------------------------------------ */

/* XXH3-128 over what a stream says: equal for streams that differ in compression, history, notes, rate, or the
 * order of tensors in a record. */
struct ws2_sum;

#define WS2_SUM_TEXT 33

struct ws2_sum *ws2_sum_new(void); /* NULL when out of memory */
void ws2_sum_free(struct ws2_sum *sum);
void ws2_sum_head(struct ws2_sum *sum, const struct ws2_head *head); /* sequence name, role, class names */
/* Frame number, time stamp, and of every tensor name, type, shape and bytes. 0 or a status. */
int ws2_sum_record(struct ws2_sum *sum, struct ws2_record *record, struct ws2_error *error);
/* One tensor and its frame number; nothing when the record lacks it. 0 or a status. */
int ws2_sum_tensor(struct ws2_sum *sum, struct ws2_record *record, const char *name, struct ws2_error *error);
/* 32 hexadecimal digits of what was added so far; returns text. */
const char *ws2_sum_text(const struct ws2_sum *sum, char text[WS2_SUM_TEXT]);

/* ---- reading ---------------------------------------------------------------------------------------------
 */

struct ws2_reader;

/* path "-" is standard input. On failure *reader is NULL and error says why. Reads the first HEAD. */
int ws2_reader_open(struct ws2_reader **reader, const char *path, struct ws2_error *error);
/* Reads from a stream that the caller keeps and closes; name is used in messages. Slower than a path: it asks
 * for no byte more than is needed now. */
int ws2_reader_open_file(struct ws2_reader **reader, FILE *file, const char *name, struct ws2_error *error);
void ws2_reader_close(struct ws2_reader *reader);
const struct ws2_error *ws2_reader_error(const struct ws2_reader *reader);
const struct ws2_head *ws2_reader_head(const struct ws2_reader *reader); /* of the current segment */
/* 1: record filled; 0: TAIL seen and verified; or a status. A missing TAIL is WS2_ERR_TRUNCATED. The compressed
 * bytes of every tensor are verified by the hash in the RECORD, whether or not they are ever unpacked. A status
 * stays: every later call returns it again. */
int ws2_reader_next(struct ws2_reader *reader, struct ws2_record *record);
/* After ws2_reader_next gave 0. 1: a new HEAD was read; 0: end of input; or a status. */
int ws2_reader_next_segment(struct ws2_reader *reader);
/* Bytes consumed so far, and the size of the input (-1 for a pipe): for progress. */
int64_t ws2_reader_bytes(const struct ws2_reader *reader);
int64_t ws2_reader_size(const struct ws2_reader *reader);

/* Random access in a seekable file through the TAILs. `segments` counts HEADs; records are numbered over the
 * whole file, from 0. Reads metadata only, and once; ws2_reader_next goes on where it was. WS2_ERR_INPUT when
 * the input cannot seek (ws2_reader_size is then -1). */
int ws2_reader_index(struct ws2_reader *reader, int64_t *segments, int64_t *records);
/* After ws2_reader_index: the record number at which segment `segment` begins, and how many it has; the
 * reader's head becomes that segment's. 0 or a status. */
int ws2_reader_segment(struct ws2_reader *reader, int64_t segment, int64_t *first, int64_t *count);
/* Reads record number `index`; the reader's head becomes that of its segment. 1 or a status. Neither this nor
 * ws2_reader_segment can be followed by ws2_reader_next, which is then WS2_ERR_USAGE. */
int ws2_reader_at(struct ws2_reader *reader, int64_t index, struct ws2_record *record);

/* ---- writing ---------------------------------------------------------------------------------------------
 */

struct ws2_writer;

#define WS2_LEVEL_PIPE (-10) /* zstd level between programs: nearly a copy */
#define WS2_LEVEL_REST 3     /* at rest */

/* path "-" is standard output. A named file is written as it goes under "path.tmp" and renamed by
 * ws2_writer_close when all was well; ws2_writer_abandon (or death) leaves the final name untouched. A symbolic
 * link is followed; devices, named pipes and /dev/fd/N are written directly. */
int ws2_writer_open(struct ws2_writer **writer, const char *path, int level, struct ws2_error *error);
int ws2_writer_open_file(struct ws2_writer **writer, FILE *file, const char *name, int level,
                         struct ws2_error *error);
const struct ws2_error *ws2_writer_error(const struct ws2_writer *writer);
int ws2_writer_begin(struct ws2_writer *writer, const struct ws2_head *head); /* writes a HEAD */
/* Writes one record and flushes it. Packs it first when needed. A tensor outside the head's table, or of
 * another dtype, is WS2_ERR_USAGE. The record stays the caller's. */
int ws2_writer_put(struct ws2_writer *writer, struct ws2_record *record);
int ws2_writer_end(struct ws2_writer *writer); /* writes the TAIL */
int ws2_writer_level(const struct ws2_writer *writer);
int64_t ws2_writer_records(const struct ws2_writer *writer); /* over all segments */
int64_t ws2_writer_bytes(const struct ws2_writer *writer);
/* Flushes, checks the last close, renames. WS2_ERR_USAGE when a segment lacks its TAIL or nothing was written at
 * all: such a file would be truncated. Frees the writer in every case; on failure the file is not renamed. */
int ws2_writer_close(struct ws2_writer *writer, struct ws2_error *error);
/* Frees the writer; removes the temporary file. NULL is fine. */
void ws2_writer_abandon(struct ws2_writer *writer);

/* ---- the filter loop ---------------------------------------------------------------------------------- */

/* What a filter does. `work` runs on worker threads: it reads tensors of the record and adds its own; it may
 * depend on the record, the head and constant state only. Returning 1 drops the record from the output. */
struct ws2_filter {
    /* Called once per segment on the reader's thread, before its records and when all records of the segment
     * before are done with, so it may set what `work` reads: check the tensors needed in `in`, add rows and
     * history to `out` (a copy of `in`). Both stay valid until the next begin or the end of the run. */
    int (*begin)(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error);
    int (*work)(void *context, struct ws2_record *record, int worker, struct ws2_error *error);
    /* Called in order on the writer's thread after a record is written; may be NULL. */
    void (*done)(void *context, const struct ws2_reader *reader, const struct ws2_record *record);
    void *context;

    /* For a filter whose work depends on the neighbours of a record in its segment: with reach > 0 work_near
     * stands in place of `work`, and records are prepared for it in steps.
     *
     * Every record has a note, an object of the filter's own: what it leaves for its neighbours. A step of
     * `prepare` reads the record and fills the note. Step 0 may put an object into *note, which holds that of
     * some older record to be used again (of this segment or another, so of any size), or NULL. A step s > 0 sees
     * the object in note[0] and those of the records before in note[-1] .. note[-reach], NULL where the segment
     * begins; of these it reads only what steps below s have left, since step s of them may be running.
     * work_near sees note[-reach] .. note[reach], NULL beyond the ends of the segment, all of their steps done;
     * it reads notes and changes its own record only. A record is never with two workers at once.
     * Steps and work of different records run at the same time and in any order that these rules leave. */
    int reach; /* records seen on both sides, 0 .. WS2_REACH_MAX; 0: none */
    int steps; /* of preparation, 1 .. WS2_STEPS_MAX; 0 with reach 0 */
    int (*prepare)(void *context, int step, struct ws2_record *record, void **note, int worker,
                   struct ws2_error *error);
    int (*work_near)(void *context, struct ws2_record *record, void *const *note, int worker,
                     struct ws2_error *error);
    void (*forget)(void *note); /* frees an object that prepare has left; may be NULL when it left none */
};

#define WS2_REACH_MAX 64
#define WS2_STEPS_MAX 64

/* Runs the filter over all segments of reader into writer with `threads` workers, a reader thread, and the
 * calling thread as the writer; 2 * threads + 2 + 2 * reach records are in memory. A record leaves when the
 * `reach` records after it have been read, or the TAIL. The bytes written do not depend on `threads`, nor does
 * which error is reported. An error stops the output without a TAIL; its text begins with "SEQ: frame N: "
 * where a record is to blame. Written before it is every record whose window (itself and `reach` records on
 * both sides, or fewer at an end of the segment that was seen) was read and prepared without error: an error
 * in the work of record t leaves those before t, one in its preparation or in reading it those before t - reach.
 * A reader that waits for a pipe is woken by an error, one that reads a FILE is not. Closes neither reader nor
 * writer. */
int ws2_filter_run(const struct ws2_filter *filter, struct ws2_reader *reader, struct ws2_writer *writer,
                   int threads, struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
