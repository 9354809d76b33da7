/* Sequences of frames: a list of pictures or a video, thinned, resampled in time, with their truth masks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "image/internal.h"

/* A decoded frame that waits until the time of its successor is known. */
struct held {
    struct ws2_image image, mask;
    int64_t pts;
};

struct ws2_sequence {
    struct ws2_sequence_options options;
    struct ws2_files files;  /* pictures */
    bool numbered;           /* their names carry the numbers */
    struct ws2_video *video; /* or a video */
    char *masks;             /* folder of masks, or NULL */
    struct ws2_files mask_files;
    struct ws2_video *mask_video;
    int64_t rate_num, rate_den;
    int64_t index; /* of the next picture or frame to be read */
    struct held held[2];
    int now;                /* which of them is shown */
    int64_t tick, tick_end; /* it is shown for these */
    bool started, ended;
};

/* ---- opening ------------------------------------------------------------------------------------- */

static bool is_folder(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* A video's masks may be a folder of the same name. */
static char *without_suffix(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot && dot != path && !strchr(dot, '/') ? strndup(path, (size_t)(dot - path)) : NULL;
}

static int open_mask_folder(struct ws2_sequence *sequence, const char *path, struct ws2_error *error)
{
    int status;

    sequence->masks = strdup(path);
    if (!sequence->masks)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
    if (!sequence->video)
        return 0;
    status = ws2_files_folder(&sequence->mask_files, path, error);
    ws2_files_number(&sequence->mask_files);
    return status;
}

static int open_masks(struct ws2_sequence *sequence, struct ws2_error *error)
{
    const char *path = sequence->options.truth;
    char *bare;
    struct stat info;
    int status;

    if (!path)
        return 0;
    if (is_folder(path))
        return open_mask_folder(sequence, path, error);
    if (stat(path, &info) == 0)
        return sequence->video
                   ? ws2_video_open(&sequence->mask_video, path, sequence->options.threads, error)
                   : ws2_fail(error, WS2_ERR_INPUT, "%s: the masks of pictures must be a folder", path);
    status = errno;
    bare = without_suffix(path);
    if (bare && is_folder(bare))
        status = open_mask_folder(sequence, bare, error);
    else
        status = ws2_fail(error, WS2_ERR_INPUT, "%s: %s", path, strerror(status));
    free(bare);
    return status;
}

static struct ws2_sequence *sequence_new(const struct ws2_sequence_options *options)
{
    struct ws2_sequence *sequence = ws2_calloc(1, sizeof *sequence);

    if (sequence) {
        sequence->options = *options;
        sequence->rate_num = options->rate_num;
        sequence->rate_den = options->rate_num ? options->rate_den : 1;
    }
    return sequence;
}

static int sequence_opened(struct ws2_sequence **out, struct ws2_sequence *sequence, int status,
                           struct ws2_error *error)
{
    if (status == 0)
        status = open_masks(sequence, error);
    if (status < 0) {
        ws2_sequence_close(sequence);
        sequence = NULL;
    }
    *out = sequence;
    return status;
}

int ws2_sequence_of_files(struct ws2_sequence **out, struct ws2_files *files,
                          const struct ws2_sequence_options *options, struct ws2_error *error)
{
    struct ws2_sequence *sequence = sequence_new(options);

    *out = NULL;
    if (!sequence) {
        ws2_files_free(files);
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
    }
    sequence->files = *files;
    *files = (struct ws2_files){0};
    sequence->numbered = ws2_files_number(&sequence->files);
    return sequence_opened(out, sequence, 0, error);
}

int ws2_sequence_of_video(struct ws2_sequence **out, const char *path,
                          const struct ws2_sequence_options *options, struct ws2_error *error)
{
    struct ws2_sequence *sequence = sequence_new(options);
    int status;

    *out = NULL;
    if (!sequence)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
    status = ws2_video_open(&sequence->video, path, options->threads, error);
    if (status == 0 && options->rate_num == 0) {
        sequence->rate_num = ws2_video_info(sequence->video)->rate_num;
        sequence->rate_den = ws2_video_info(sequence->video)->rate_den;
    }
    return sequence_opened(out, sequence, status, error);
}

void ws2_sequence_close(struct ws2_sequence *sequence)
{
    if (!sequence)
        return;
    ws2_files_free(&sequence->files);
    ws2_files_free(&sequence->mask_files);
    ws2_video_close(sequence->video);
    ws2_video_close(sequence->mask_video);
    for (int i = 0; i < 2; i++) {
        ws2_image_free(&sequence->held[i].image);
        ws2_image_free(&sequence->held[i].mask);
    }
    free(sequence->masks);
    free(sequence);
}

void ws2_sequence_rate(const struct ws2_sequence *sequence, int64_t *num, int64_t *den)
{
    *num = sequence->rate_num;
    *den = sequence->rate_den;
}

int64_t ws2_sequence_frames(const struct ws2_sequence *sequence)
{
    const struct ws2_video_info *info = sequence->video ? ws2_video_info(sequence->video) : NULL;

    if (!info)
        return sequence->files.count;
    return sequence->options.rate_num ? ws2_rate_tick(info->duration, sequence->rate_num, sequence->rate_den)
                                      : info->frames;
}

/* ---- which frames -------------------------------------------------------------------------------- */

static bool wanted(const struct ws2_sequence *sequence, int64_t position)
{
    const struct ws2_sequence_options *o = &sequence->options;

    return position >= o->begin && position < o->end && (position - o->begin) % o->step == 0;
}

/* Microseconds from the start to a position at the rate of the sequence; -1 when it has none. */
static int64_t time_of(const struct ws2_sequence *sequence, int64_t position)
{
    const int64_t num = sequence->rate_num, den = sequence->rate_den;

    return num ? (int64_t)(((__int128)position * 2000000 * den + num) / (2 * num)) : -1;
}

static int next_picture(struct ws2_sequence *sequence, struct ws2_frame *frame)
{
    const struct ws2_files *files = &sequence->files;

    while (sequence->index < files->count && !wanted(sequence, sequence->index))
        sequence->index++;
    if (sequence->index == files->count)
        return 0;
    frame->path = files->path[sequence->index];
    frame->stem = files->stem[sequence->index];
    frame->number = files->number[sequence->index] + (sequence->numbered ? 0 : sequence->options.first);
    frame->pts = time_of(sequence, sequence->index++);
    return 1;
}

/* ---- video --------------------------------------------------------------------------------------- */

/* Decodes the next frame and its mask. image NULL: skip both. */
static int decode(struct ws2_sequence *sequence, struct ws2_image *image, struct ws2_image *mask,
                  int64_t *pts, struct ws2_error *error)
{
    int more = ws2_video_next(sequence->video, image, pts, error);

    if (more == 1 && sequence->mask_video) {
        more = ws2_video_next(sequence->mask_video, image ? mask : NULL, NULL, error);
        if (more == 0)
            return ws2_fail(error, WS2_ERR_INPUT, "%s: only %lld masks", sequence->options.truth,
                            (long long)sequence->index);
        if (more == 1 && image && ws2_image_convert(mask, 1, error) < 0)
            return error->status;
    }
    sequence->index += more == 1;
    return more;
}

static int next_frame(struct ws2_sequence *sequence, struct ws2_frame *frame, struct ws2_error *error)
{
    for (;;) {
        const int64_t position = sequence->index;
        const bool take = wanted(sequence, position);
        int more;

        frame->number = position + sequence->options.first;
        if (position >= sequence->options.end)
            return 0;
        more = decode(sequence, take ? &frame->image : NULL, &frame->mask, &frame->pts, error);
        if (more != 1 || take)
            return more;
    }
}

/* The last tick of the frame shown, now that its successor (more) or the end is known. */
static int64_t end_of_ticks(const struct ws2_sequence *sequence, bool more)
{
    const struct ws2_video_info *info = ws2_video_info(sequence->video);
    int64_t time = sequence->held[sequence->now].pts;

    if (more)
        time = sequence->held[!sequence->now].pts;
    else if (info->rate_num)
        time += 1000000 * info->rate_den / info->rate_num;
    time = ws2_rate_tick(time < 0 ? 0 : time, sequence->rate_num, sequence->rate_den);
    /* However short, a video has one tick. */
    return more || time > 0 ? time : 1;
}

/* Shows the next frame of the video and finds out for how long. */
static int advance(struct ws2_sequence *sequence, struct ws2_error *error)
{
    struct held *next;
    int more;

    if (!sequence->started) {
        struct held *first = &sequence->held[0];

        more = decode(sequence, &first->image, &first->mask, &first->pts, error);
        if (more != 1)
            return more;
        sequence->started = true;
    } else {
        sequence->now = !sequence->now;
    }
    next = &sequence->held[!sequence->now];
    more = decode(sequence, &next->image, &next->mask, &next->pts, error);
    if (more < 0)
        return more;
    if (more == 1 && next->pts < 0)
        return ws2_fail(error, WS2_ERR_INPUT, "the frames have no times to resample by");
    sequence->ended = more == 0;
    sequence->tick_end = end_of_ticks(sequence, more == 1);
    return 1;
}

static int next_tick(struct ws2_sequence *sequence, struct ws2_frame *frame, struct ws2_error *error)
{
    const struct held *held;
    int status = 1;

    for (;; sequence->tick++) {
        frame->number = sequence->tick + sequence->options.first;
        while (status == 1 && sequence->tick >= sequence->tick_end)
            status = sequence->ended ? 0 : advance(sequence, error);
        if (status < 1 || sequence->tick >= sequence->options.end)
            return status < 1 ? status : 0;
        if (wanted(sequence, sequence->tick))
            break;
    }
    held = &sequence->held[sequence->now];
    frame->pts = time_of(sequence, sequence->tick++);
    status = ws2_image_copy(&frame->image, &held->image, error);
    if (status == 0 && sequence->mask_video)
        status = ws2_image_copy(&frame->mask, &held->mask, error);
    return status < 0 ? status : 1;
}

int ws2_sequence_next(struct ws2_sequence *sequence, struct ws2_frame *frame, struct ws2_error *error)
{
    frame->path = frame->stem = NULL;
    frame->has_mask = sequence->mask_video != NULL;
    if (!sequence->video)
        return next_picture(sequence, frame);
    return sequence->options.rate_num ? next_tick(sequence, frame, error)
                                      : next_frame(sequence, frame, error);
}

/* ---- pictures and masks from files --------------------------------------------------------------- */

/* Path of the mask of a frame: 1 and its path, 0 when there is none. */
static int find_mask(const struct ws2_sequence *sequence, const struct ws2_frame *frame, char **path,
                     struct ws2_error *error)
{
    const struct ws2_files *files = &sequence->mask_files;

    if (frame->stem)
        return ws2_files_find(sequence->masks, frame->stem, path, error);
    for (int64_t i = 0; i < files->count; i++)
        if (files->number[i] == frame->number) {
            *path = strdup(files->path[i]);
            return *path ? 1 : ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
        }
    return 0;
}

static int load_mask(const struct ws2_sequence *sequence, struct ws2_frame *frame, struct ws2_error *error)
{
    char *path = NULL;
    int status = find_mask(sequence, frame, &path, error);

    if (status == 1) {
        status = ws2_image_read(&frame->mask, path, 1, error);
        frame->has_mask = status == 0;
    } else if (status == 0 && !sequence->options.truth_optional) {
        status = frame->stem
                     ? ws2_fail(error, WS2_ERR_INPUT, "no mask '%s' in %s", frame->stem, sequence->masks)
                     : ws2_fail(error, WS2_ERR_INPUT, "no mask of this number in %s", sequence->masks);
    }
    free(path);
    return status;
}

int ws2_sequence_load(const struct ws2_sequence *sequence, struct ws2_frame *frame, struct ws2_error *error)
{
    int status = 0;

    if (frame->path)
        status = ws2_image_read(&frame->image, frame->path, 3, error);
    if (status == 0 && sequence->masks)
        status = load_mask(sequence, frame, error);
    return status;
}

void ws2_frame_free(struct ws2_frame *frame)
{
    ws2_image_free(&frame->image);
    ws2_image_free(&frame->mask);
}
