#include "train/internal.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Files are opened when needed and the one unused for longest is closed, so that thousands of clips do not
 * run into the limit of open files. */
#define OPEN_MAX 64

struct file {
    const char *path;
    struct ws2_reader *reader; /* NULL while closed */
    int64_t used;              /* clock of the last use */
};

struct entry {
    struct ws2_clip clip;
    int file;
    int64_t first; /* record number in the file */
};

struct ws2_clips {
    pthread_mutex_t lock; /* over the readers and their clock; the rest is constant after opening */
    struct file *file;
    int files, open;
    int64_t clock;
    struct entry *entry;
    size_t capacity; /* bytes */
    int count;
};

struct ws2_random ws2_train_random(int64_t seed, enum ws2_stream_kind kind, int64_t epoch, int64_t index)
{
    const uint64_t stream = ((uint64_t)kind << 60) ^ ((uint64_t)epoch << 36) ^ (uint64_t)index;
    return ws2_random_make((uint64_t)seed, stream);
}

/* ---- files ------------------------------------------------------------------------------------------------ */

static void close_oldest(struct ws2_clips *clips)
{
    struct file *oldest = NULL;
    for (int i = 0; i < clips->files; i++) {
        struct file *file = &clips->file[i];
        if (file->reader && (oldest == NULL || file->used < oldest->used))
            oldest = file;
    }
    if (oldest) {
        ws2_reader_close(oldest->reader);
        oldest->reader = NULL;
        clips->open--;
    }
}

/* The file's reader, indexed. The lock is held (or nobody else knows the clips yet). */
static int open_file(struct ws2_clips *clips, struct file *file, int64_t *segments, struct ws2_error *error)
{
    file->used = ++clips->clock;
    if (file->reader)
        return WS2_OK;
    if (clips->open >= OPEN_MAX)
        close_oldest(clips);
    int status = ws2_reader_open(&file->reader, file->path, error);
    if (status < 0)
        return status;
    int64_t unused, records;
    status = ws2_reader_index(file->reader, segments ? segments : &unused, &records);
    if (status < 0) {
        const struct ws2_error *why = ws2_reader_error(file->reader);
        ws2_fail(error, why->status ? why->status : status, "%s", why->text);
        ws2_reader_close(file->reader);
        file->reader = NULL;
        return status;
    }
    clips->open++;
    return WS2_OK;
}

int ws2_clips_read(struct ws2_clips *clips, int clip, int64_t frame, struct ws2_record *record,
                   struct ws2_error *error)
{
    const struct entry *entry = &clips->entry[clip];
    struct file *file = &clips->file[entry->file];
    pthread_mutex_lock(&clips->lock);
    int status = open_file(clips, file, NULL, error);
    if (status == WS2_OK) {
        status = ws2_reader_at(file->reader, entry->first + frame, record);
        if (status < 0)
            ws2_fail(error, status, "%s", ws2_reader_error(file->reader)->text);
    }
    pthread_mutex_unlock(&clips->lock);
    return status < 0 ? status : WS2_OK;
}

/* ---- segments --------------------------------------------------------------------------------------------- */

/* The sequence this clip belongs to: that of an earlier clip of the same role and name, or a new one. */
static int sequence_of(const struct ws2_clips *clips, const struct ws2_clip *clip)
{
    int next = 0;
    for (int i = 0; i < clips->count; i++) {
        const struct ws2_clip *other = &clips->entry[i].clip;
        if (other->role != clip->role)
            continue;
        if (*clip->name && strcmp(other->name, clip->name) == 0)
            return other->sequence;
        if (other->sequence >= next)
            next = other->sequence + 1;
    }
    return next;
}

static int check_head(const struct ws2_head *head, const char *path, struct ws2_error *error)
{
    const char *seq = ws2_head_seq(head);
    const struct ws2_tensor_info *rgb = ws2_head_find(head, "rgb");
    const struct ws2_tensor_info *fg = ws2_head_find(head, "fg");
    if (ws2_head_role(head) == WS2_ROLE_NONE)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: %s: no role: read it with --role before or --role after",
                        path, seq);
    if (rgb == NULL || rgb->dtype != WS2_U8)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: %s: no tensor rgb of type u8", path, seq);
    if (fg && fg->dtype != WS2_U8)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: %s: fg is %s, not u8", path, seq,
                        ws2_dtype_name(fg->dtype));
    return WS2_OK;
}

/* Is there flow to both neighbours? */
static bool has_flow(const struct ws2_head *head)
{
    const struct ws2_tensor_info *prev = ws2_head_find(head, "flow.prev"),
                                 *next = ws2_head_find(head, "flow.next");
    return prev && next && prev->dtype == WS2_F16 && next->dtype == WS2_F16;
}

static int add_segment(struct ws2_clips *clips, int file, int64_t segment, struct ws2_error *error)
{
    struct ws2_reader *reader = clips->file[file].reader;
    const char *path = clips->file[file].path;
    int64_t first, frames;
    int status = ws2_reader_segment(reader, segment, &first, &frames);
    if (status < 0)
        return ws2_fail(error, status, "%s", ws2_reader_error(reader)->text);
    const struct ws2_head *head = ws2_reader_head(reader);
    const struct ws2_tensor_info *seeds = ws2_head_find(head, "seeds");
    status = check_head(head, path, error);
    if (status < 0 || frames == 0)
        return status;
    void *grown = clips->entry;
    if (ws2_reserve(&grown, &clips->capacity, ((size_t)clips->count + 1) * sizeof *clips->entry) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    clips->entry = grown;
    char *name = strdup(ws2_head_seq(head));
    if (name == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    struct ws2_clip clip = {.path = path,
                            .name = name,
                            .role = ws2_head_role(head),
                            .frames = frames,
                            .has_fg = ws2_head_find(head, "fg") != NULL,
                            .has_flow = has_flow(head),
                            .has_seeds = seeds && seeds->dtype == WS2_U8};
    clip.sequence = sequence_of(clips, &clip);
    clips->entry[clips->count++] = (struct entry){clip, file, first};
    return WS2_OK;
}

static int add_file(struct ws2_clips *clips, int file, struct ws2_error *error)
{
    int64_t segments = 0;
    int status = open_file(clips, &clips->file[file], &segments, error);
    for (int64_t i = 0; status == WS2_OK && i < segments; i++)
        status = add_segment(clips, file, i, error);
    return status;
}

int ws2_clips_open(struct ws2_clips **out, const char *const *path, int count, struct ws2_error *error)
{
    *out = NULL;
    struct ws2_clips *clips = ws2_calloc(1, sizeof *clips);
    if (clips)
        clips->file = ws2_calloc((size_t)count, sizeof *clips->file);
    if (clips == NULL || clips->file == NULL) {
        free(clips);
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    }
    pthread_mutex_init(&clips->lock, NULL);
    int status = WS2_OK;
    for (int i = 0; status == WS2_OK && i < count; i++) {
        clips->file[i].path = strdup(path[i]);
        clips->files++;
        status = clips->file[i].path ? add_file(clips, i, error)
                                     : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    }
    if (status < 0) {
        ws2_clips_close(clips);
        return status;
    }
    *out = clips;
    return WS2_OK;
}

void ws2_clips_close(struct ws2_clips *clips)
{
    if (clips == NULL)
        return;
    for (int i = 0; i < clips->files; i++) {
        ws2_reader_close(clips->file[i].reader);
        free((char *)clips->file[i].path);
    }
    for (int i = 0; i < clips->count; i++)
        free((char *)clips->entry[i].clip.name);
    pthread_mutex_destroy(&clips->lock);
    free(clips->entry);
    free(clips->file);
    free(clips);
}

int ws2_clips_count(const struct ws2_clips *clips)
{
    return clips->count;
}

const struct ws2_clip *ws2_clips_at(const struct ws2_clips *clips, int index)
{
    return &clips->entry[index].clip;
}

int64_t ws2_clips_frames(const struct ws2_clips *clips, enum ws2_role role)
{
    int64_t frames = 0;
    for (int i = 0; i < clips->count; i++)
        frames += clips->entry[i].clip.role == role ? clips->entry[i].clip.frames : 0;
    return frames;
}

/* ---- split ------------------------------------------------------------------------------------------------ */

static int split_role(const struct ws2_clips *clips, enum ws2_role role, double share, int64_t seed,
                      bool *held, struct ws2_error *error)
{
    int64_t sequences = 0;
    for (int i = 0; i < clips->count; i++) {
        const struct ws2_clip *clip = &clips->entry[i].clip;
        if (clip->role == role && clip->sequence >= sequences)
            sequences = clip->sequence + 1;
    }
    if (sequences == 0)
        return WS2_OK;
    if (sequences == 1)
        return ws2_fail(error, WS2_ERR_INPUT,
                        "one %s sequence alone cannot be split: name validation files instead",
                        ws2_role_name(role));
    int64_t take = llround(share * (double)sequences);
    take = take < 1 ? 1 : take > sequences - 1 ? sequences - 1 : take;
    int64_t *order = ws2_calloc((size_t)sequences, 2 * sizeof *order);
    if (order == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    int64_t *place = order + sequences;
    struct ws2_random random = ws2_train_random(seed, WS2_STREAM_SPLIT, (int64_t)role, 0);
    ws2_random_permutation(&random, order, sequences);
    for (int64_t i = 0; i < sequences; i++)
        place[order[i]] = i;
    for (int i = 0; i < clips->count; i++) {
        const struct ws2_clip *clip = &clips->entry[i].clip;
        if (clip->role == role)
            held[i] = place[clip->sequence] < take;
    }
    free(order);
    return WS2_OK;
}

int ws2_clips_split(const struct ws2_clips *clips, double share, int64_t seed, bool *held,
                    struct ws2_error *error)
{
    const int status = split_role(clips, WS2_ROLE_AFTER, share, seed, held, error);
    return status < 0 ? status : split_role(clips, WS2_ROLE_BEFORE, share, seed, held, error);
}
