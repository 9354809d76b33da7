/* stream, private: what the files of this room share. */
#ifndef WS2_STREAM_INTERNAL_H
#define WS2_STREAM_INTERNAL_H

#include <stdatomic.h>
#include <string.h>
#include "stream/format.h"
#include "stream/stream.h"

/* Tensors go from memory to the stream and back as they are. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ws2 needs a little-endian machine");

/* ---- little-endian numbers and hashes ----------------------------------------------------------------- */

static inline void ws2_store16(unsigned char *at, uint16_t value)
{
    for (int i = 0; i < 2; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static inline void ws2_store32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static inline void ws2_store64(unsigned char *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static inline uint16_t ws2_load16(const unsigned char *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t ws2_load32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t ws2_load64(const unsigned char *at)
{
    return (uint64_t)ws2_load32(at) | (uint64_t)ws2_load32(at + 4) << 32;
}

/* The checksum of metadata and of compressed frames: low half of XXH3-64 with seed 0. */
uint32_t ws2_checksum(const void *bytes, size_t count);

/* XXH3-64 over a sequence of small numbers, little-endian, as they come: the TAIL's hash and, in a reader, its
 * table of offsets, which then need not be kept. */
struct ws2_running {
    void *state;
};
int ws2_running_open(struct ws2_running *running); /* 0 or WS2_ERR_SYSTEM */
void ws2_running_close(struct ws2_running *running);
void ws2_running_reset(struct ws2_running *running);
void ws2_running_add(struct ws2_running *running, const void *bytes, size_t count);
uint64_t ws2_running_value(const struct ws2_running *running);

/* ---- memory ------------------------------------------------------------------------------------------- */

/* A growing buffer aligned to 64 bytes. */
struct ws2_block {
    unsigned char *data;
    size_t capacity;
};
/* Room for `bytes`, keeping the first `keep` bytes; data is never NULL after success. 0 or WS2_ERR_SYSTEM. */
int ws2_block_reserve(struct ws2_block *block, size_t bytes, size_t keep);
void ws2_block_free(struct ws2_block *block);

/* Text or bytes that grow at the end. A lack of memory sticks in `failed`. */
struct ws2_text {
    char *data;
    size_t size, capacity;
    bool failed;
};
void ws2_text_add(struct ws2_text *text, const char *bytes, size_t count);
void ws2_text_puts(struct ws2_text *text, const char *string);
void ws2_text_number(struct ws2_text *text, int64_t number);
void ws2_text_free(struct ws2_text *text);

/* ---- JSON without allocation -------------------------------------------------------------------------- */

struct ws2_slice {
    const char *text;
    size_t size;
};

/* Checks one JSON object against the rules of format.h (syntax, UTF-8, integers only, depth, number of values
 * and members, plain keys, no key twice). NULL when good, else what is wrong. */
const char *ws2_json_check(struct ws2_slice json);

bool ws2_utf8_check(struct ws2_slice text);

/* Walks over the members of a checked object or the items of a checked array (key is then empty). */
struct ws2_json_walk {
    const char *at, *end;
    bool object;
};
struct ws2_json_walk ws2_json_walk(struct ws2_slice container);
bool ws2_json_next(struct ws2_json_walk *walk, struct ws2_slice *key, struct ws2_slice *value);
/* Values of a checked text; false when the value is of another kind (or, for text, holds an escape or does not
 * fit into `size` bytes). */
bool ws2_json_integer(struct ws2_slice value, int64_t *number);
bool ws2_json_string(struct ws2_slice value, char *text, size_t size);
bool ws2_slice_is(struct ws2_slice slice, const char *text);

/* ---- HEAD --------------------------------------------------------------------------------------------- */

/* Reads a HEAD's body. NULL on failure, see error. */
struct ws2_head *ws2_head_parse(struct ws2_slice json, struct ws2_error *error);
bool ws2_name_valid(const char *name); /* a tensor name of format.h */

/* ---- RECORD ------------------------------------------------------------------------------------------- */

/* Contexts of libzstd, shared by all records that one thread works on. */
struct ws2_codec {
    struct ZSTD_CCtx_s *pack;
    struct ZSTD_DCtx_s *unpack;
    int level; /* the one set in `pack` */
};
void ws2_codec_free(struct ws2_codec *codec);
/* Makes the record use the codec (NULL: its own again). */
void ws2_record_lend(struct ws2_record *record, struct ws2_codec *codec);

/* Fills the record's table from a RECORD's body and checks it against the head and all limits; the tensors
 * have no data yet. Clears the record first. */
int ws2_record_parse(struct ws2_record *record, struct ws2_slice json, const struct ws2_head *head,
                     struct ws2_error *error);
/* Compressed size of tensor `index`, and room for its first `bytes` bytes (NULL: out of memory), which grows
 * as the data arrives so that a lie about the size costs nothing. */
size_t ws2_record_packed_size(const struct ws2_record *record, int index);
unsigned char *ws2_record_packed_room(struct ws2_record *record, int index, size_t have, size_t bytes);
/* Checks the compressed frame once it is there: header, structure, hash. NULL when good, else what is wrong. */
const char *ws2_record_packed_check(struct ws2_record *record, int index);
/* The compressed bytes of a packed tensor. */
const unsigned char *ws2_record_packed(const struct ws2_record *record, int index);
/* Appends the RECORD's body to text; all tensors must be packed. 0 or a status. */
int ws2_record_json(const struct ws2_record *record, struct ws2_text *text);

/* ---- the input of a reader ---------------------------------------------------------------------------- */

struct ws2_source {
    int fd;     /* -1 when a FILE is read */
    FILE *file; /* the caller's */
    bool owned; /* fd is closed by us */
    bool waits; /* a pipe, socket or terminal: read may block for ever */
    int wake;   /* readable when reading shall stop, or -1 */
    char *name; /* for messages */
    unsigned char *buffer;
    size_t capacity, begin, end; /* bytes [begin, end) are read but not consumed */
    bool ended;
    int64_t base; /* offset in the file where the stream begins, -1 when the input cannot seek */
    int64_t size; /* -1 when unknown */
    _Atomic int64_t consumed;
};

int ws2_source_open(struct ws2_source *source, const char *path, struct ws2_error *error);
int ws2_source_open_file(struct ws2_source *source, FILE *file, const char *name, struct ws2_error *error);
void ws2_source_close(struct ws2_source *source);
/* Buffers at least `need` bytes if the input has them. 0 or a status; see ws2_source_have. */
int ws2_source_fill(struct ws2_source *source, size_t need, struct ws2_error *error);
static inline size_t ws2_source_have(const struct ws2_source *source)
{
    return source->end - source->begin;
}
static inline const unsigned char *ws2_source_at(const struct ws2_source *source)
{
    return source->buffer + source->begin;
}
void ws2_source_consume(struct ws2_source *source, size_t count); /* of the buffered bytes */
/* Reads and consumes `count` bytes into data; *got is less only at the end of the input. */
int ws2_source_read(struct ws2_source *source, void *data, size_t count, size_t *got,
                    struct ws2_error *error);
/* Consumes `count` bytes unseen; *got is less only at the end of the input. */
int ws2_source_skip(struct ws2_source *source, uint64_t count, uint64_t *got, struct ws2_error *error);
/* Continues at this offset of the stream. */
int ws2_source_seek(struct ws2_source *source, int64_t offset, struct ws2_error *error);

/* ---- reader ------------------------------------------------------------------------------------------- */

enum ws2_reader_state { WS2_AT_HEAD, WS2_AT_RECORD, WS2_AT_TAIL, WS2_AT_END, WS2_AT_RANDOM };

/* Where a pass over the stream stands. */
struct ws2_progress {
    struct ws2_head *head; /* of the current segment */
    enum ws2_reader_state state;
    int64_t segment_start, records; /* of the current segment */
    int64_t frame;                  /* last frame number read, -1 at first */
    struct ws2_running checksums, offsets;
};

/* One segment as the index knows it. */
struct ws2_segment {
    int64_t start, tail;  /* offsets in the stream of its HEAD and TAIL */
    int64_t first, count; /* records before this segment, and in it */
    int64_t at;           /* where its records begin in the table of offsets */
};

struct ws2_reader {
    struct ws2_source source;
    struct ws2_error error;
    struct ws2_progress now;
    /* index */
    struct ws2_segment *segment;
    size_t segment_capacity;
    int64_t segments, records; /* segments < 0: no index yet */
    int64_t *offset;           /* of each record from the start of its segment */
    size_t offset_capacity;
    int64_t current; /* segment that the head belongs to under random access, or -1 */
};

/* A metadata frame in the buffer of the source; body is valid until the source is touched. */
struct ws2_meta {
    char tag; /* 'H', 'R' or 'T' */
    uint32_t checksum;
    struct ws2_slice body;
    int64_t start; /* offset of the frame in the stream */
    size_t size;   /* of the whole frame */
};

/* Next metadata frame, foreign skippable frames skipped. 1 (not yet consumed: call ws2_meta_done), 0 at the
 * end of the input, or a status. */
int ws2_meta_next(struct ws2_reader *reader, struct ws2_meta *meta);
void ws2_meta_done(struct ws2_reader *reader, const struct ws2_meta *meta);
int ws2_reader_take_head(struct ws2_reader *reader, const struct ws2_meta *meta);
/* As ws2_reader_next. With `unseen` tensors are stepped over. *start tells where the RECORD or TAIL was. */
int ws2_reader_step(struct ws2_reader *reader, struct ws2_record *record, bool unseen, int64_t *start);
/* Parses the RECORD and reads its tensors. */
int ws2_reader_take_record(struct ws2_reader *reader, const struct ws2_meta *meta, struct ws2_record *record,
                           bool unseen);
int ws2_progress_open(struct ws2_progress *progress); /* 0 or WS2_ERR_SYSTEM */
void ws2_progress_close(struct ws2_progress *progress);
/* "clip.ws2", or for standard input the sequence name when there is one. */
const char *ws2_reader_label(const struct ws2_reader *reader);
void ws2_index_free(struct ws2_reader *reader);

/* ---- filter ------------------------------------------------------------------------------------------- */

/* Makes reads that would wait return WS2_ERR_SYSTEM as soon as `wake` is readable (-1: never again). */
void ws2_reader_wake(struct ws2_reader *reader, int wake);

#endif
