/* Writes the layout of the published data set, clip by clip. */
#include "synth/internal.h"
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "image/image.h"
#include "pool/pool.h"

enum { TRAINING, VALIDATION, TEST, SPLITS };
enum { RANDOM_CLIP = 31 };
enum { PATH_ROOM = 4096, CRF = 18 };

static const char *const role_name[2] = {"before", "after"};
static const char *const split_folder[SPLITS] = {"train_val_dataset/training", "train_val_dataset/validation",
                                                 "test_set/images"};

/* One clip: made by one worker from beginning to end. */
struct clip {
    int split, role;
    int64_t index;
    bool made;
    struct ws2_error error;
};

struct maker {
    const struct ws2_synth_dataset *dataset;
    const char *folder;
};

/* ---- files ----------------------------------------------------------------------------------------------------- */

static int join(char *path, struct ws2_error *error, const char *format, ...) WS2_PRINTF(3, 4);
static int join(char *path, struct ws2_error *error, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    const int length = vsnprintf(path, PATH_ROOM, format, list);
    va_end(list);
    if (length < 0 || length >= PATH_ROOM)
        return ws2_fail(error, WS2_ERR_USAGE, "path too long: %.200s...", path);
    return 0;
}

/* Makes the folder and those above it. */
static int make_folders(const char *path, struct ws2_error *error)
{
    char part[PATH_ROOM];
    const int status = join(part, error, "%s", path);
    if (status < 0)
        return status;
    for (char *p = part + 1;; p++) {
        const char keep = *p;
        if (keep != '/' && keep != 0)
            continue;
        *p = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return ws2_fail_errno(error, "%s", part);
        *p = keep;
        if (keep == 0)
            return 0;
    }
}

static bool exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

/* Removes what an interrupted run left of a clip: files only, one level. */
static int clear_folder(const char *path, struct ws2_error *error)
{
    DIR *folder = opendir(path);
    if (!folder)
        return errno == ENOENT ? 0 : ws2_fail_errno(error, "%s", path);
    int status = 0;
    for (const struct dirent *entry = readdir(folder); entry && status == 0; entry = readdir(folder)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(folder), entry->d_name, 0) != 0)
            status = ws2_fail_errno(error, "%s/%s", path, entry->d_name);
    }
    closedir(folder);
    return status;
}

/* ---- one clip --------------------------------------------------------------------------------------------------- */

static void become_clip(struct ws2_synth_config *config, int split, bool after, int64_t index)
{
    struct ws2_random random = ws2_synth_random(config->seed, RANDOM_CLIP, 2 * split + after, index);
    config->seed = ws2_random_u64(&random);
    config->after = after;
}

int ws2_synth_parse_clip(struct ws2_synth_config *config, const char *text, int64_t *index,
                         struct ws2_error *error)
{
    static const char *const split[SPLITS] = {"training", "validation", "test"};
    for (int s = 0; s < SPLITS; s++)
        for (int after = 0; after < 2; after++) {
            char head[32], *end;
            const int length = snprintf(head, sizeof head, "%s/%s/", split[s], role_name[after]);
            if (strncmp(text, head, (size_t)length) != 0)
                continue;
            const char *number = text + length + (strncmp(text + length, "video_", 6) == 0 ? 6 : 0);
            *index = strtoll(number, &end, 10);
            if (*number < '0' || *number > '9' || *end != 0 || *index >= WS2_SYNTH_CLIPS_MAX)
                break;
            become_clip(config, s, after == 1, *index);
            return s;
        }
    return ws2_fail(error, WS2_ERR_USAGE,
                    "clip '%s' is not training, validation or test, / before or after, / a number", text);
}

/* Frames of a clip as pictures in a new folder; masks instead of frames where `mask` says so. */
static int write_pictures(const struct ws2_synth *synth, const struct ws2_synth_dataset *dataset,
                          const char *folder, bool mask, struct ws2_image *image, struct ws2_error *error)
{
    int status = clear_folder(folder, error);
    if (status == 0)
        status = make_folders(folder, error);
    const size_t bytes = (size_t)image->width * (size_t)image->height;
    for (int64_t t = 0; t < dataset->frames && status == 0; t++) {
        char path[PATH_ROOM];
        status = join(path, error, "%s/frame_%04lld.%s", folder, (long long)t, mask ? "png" : "jpg");
        const struct ws2_synth_frame frame = {.rgb = mask ? NULL : image->data,
                                              .truth = mask ? image->data : NULL};
        if (status == 0)
            status = ws2_synth_render(synth, t, &frame, error);
        for (size_t p = 0; mask && p < bytes; p++)
            image->data[p] = image->data[p] ? 255 : 0;
        if (status == 0)
            status = mask ? ws2_png_write(path, image, 6, error)
                          : ws2_jpeg_write(path, image, dataset->quality, error);
    }
    return status;
}

static int write_video(const struct ws2_synth *synth, const struct ws2_synth_dataset *dataset,
                       const char *path, struct ws2_image *image, struct ws2_error *error)
{
    struct ws2_video_writer *writer;
    int status = ws2_video_create(&writer, path, image->width, image->height, dataset->rate, 1, CRF, error);
    if (status < 0)
        return status;
    for (int64_t t = 0; t < dataset->frames && status == 0; t++) {
        status = ws2_synth_render(synth, t, &(struct ws2_synth_frame){.rgb = image->data}, error);
        if (status == 0)
            status = ws2_video_put(writer, image, error);
    }
    if (status == 0)
        return ws2_video_finish(writer, error);
    ws2_video_abandon(writer);
    return status;
}

/* A folder of pictures under its final name, all of it or nothing. */
static int write_folder(const struct ws2_synth *synth, const struct ws2_synth_dataset *dataset,
                        const char *parent, const char *name, bool mask, struct ws2_error *error)
{
    const struct ws2_synth_config *config = ws2_synth_config_of(synth);
    char making[PATH_ROOM], final[PATH_ROOM];
    struct ws2_image image = {0};
    int status = join(making, error, "%s/.%s.tmp", parent, name);
    if (status == 0)
        status = join(final, error, "%s/%s", parent, name);
    if (status == 0 && exists(final))
        return 0;
    if (status == 0)
        status = ws2_image_reset(&image, (int)config->width, (int)config->height, mask ? 1 : 3, error);
    if (status == 0)
        status = write_pictures(synth, dataset, making, mask, &image, error);
    if (status == 0 && rename(making, final) != 0)
        status = ws2_fail_errno(error, "%s", final);
    ws2_image_free(&image);
    return status;
}

static int write_clip(const struct maker *maker, struct clip *clip, const struct ws2_synth *synth,
                      const char *name)
{
    struct ws2_synth_dataset dataset = *maker->dataset;
    struct ws2_error *error = &clip->error;
    char parent[PATH_ROOM], path[PATH_ROOM];
    int status = 0;
    if (clip->split == TEST && dataset.test_frames > 0)
        dataset.frames = dataset.test_frames;
    if (clip->split == TEST) {
        status = join(parent, error, "%s/test_set/masks/%s", maker->folder, role_name[clip->role]);
        if (status == 0)
            status = write_folder(synth, &dataset, parent, name, true, error);
    }
    if (status == 0)
        status =
            join(parent, error, "%s/%s/%s", maker->folder, split_folder[clip->split], role_name[clip->role]);
    if (status < 0 || clip->split == TEST || !dataset.video)
        return status < 0 ? status : write_folder(synth, &dataset, parent, name, false, error);

    const struct ws2_synth_config *config = ws2_synth_config_of(synth);
    struct ws2_image image = {0};
    status = make_folders(parent, error);
    if (status == 0)
        status = join(path, error, "%s/%s.mp4", parent, name);
    if (status == 0)
        status = ws2_image_reset(&image, (int)config->width, (int)config->height, 3, error);
    if (status == 0)
        status = write_video(synth, &dataset, path, &image, error);
    ws2_image_free(&image);
    return status;
}

/* 1 when the clip is there already, 0 when not, or a status. */
static int clip_is_there(const struct maker *maker, const struct clip *clip, const char *name,
                         struct ws2_error *error)
{
    const bool video = maker->dataset->video && clip->split != TEST;
    const char *role = role_name[clip->role];
    char path[PATH_ROOM], mask[PATH_ROOM];
    int status = join(path, error, "%s/%s/%s/%s%s", maker->folder, split_folder[clip->split], role, name,
                      video ? ".mp4" : "");
    if (status == 0)
        status = join(mask, error, "%s/test_set/masks/%s/%s", maker->folder, role, name);
    return status < 0 ? status : exists(path) && (clip->split != TEST || exists(mask));
}

static void make_clip(void *context, void *job, int worker)
{
    (void)worker;
    const struct maker *maker = context;
    struct clip *clip = job;
    char name[32];
    snprintf(name, sizeof name, "video_%03lld", (long long)clip->index);
    if (clip_is_there(maker, clip, name, &clip->error) != 0)
        return;
    struct ws2_synth_config config = maker->dataset->config;
    become_clip(&config, clip->split, clip->role == 1, clip->index);
    struct ws2_synth *synth;
    if (ws2_synth_open(&synth, &config, maker->dataset->cutouts, &clip->error) < 0)
        return;
    clip->made = write_clip(maker, clip, synth, name) == 0;
    ws2_synth_close(synth);
}

/* ---- settings --------------------------------------------------------------------------------------------------- */

/* All that decides the pictures, but not how many clips there are: a set may grow. */
static char *settings_text(const struct ws2_synth_dataset *dataset)
{
    const struct ws2_synth_config *c = &dataset->config;
    char *text;
    const int length = asprintf(
        &text,
        "version=%s\nsize=%lldx%lld\nframes=%lld\ntest-frames=%lld\nseed=%llu\nplant=%llu\n"
        "direction=%d\ncamera-difference=%d\nspeed=%.10g\ndensity=%.10g\noverlap=%.10g\nscale=%.10g\n"
        "unwanted=%.10g\nmiss=%.10g\nclear=%.10g\nhue=%.10g\nprint=%.10g\nrolling=%.10g\n"
        "sliding=%.10g\nnoise=%.10g\ndrift=%.10g\noptics=%.10g\nitems=%08x\nquality=%d\nvideo=%d\n"
        "rate=%lld\n",
        WS2_VERSION, (long long)c->width, (long long)c->height, (long long)dataset->frames,
        (long long)(dataset->test_frames > 0 ? dataset->test_frames : dataset->frames),
        (unsigned long long)c->seed, (unsigned long long)c->plant, (int)c->direction, (int)c->difference,
        c->speed, c->density, c->overlap, c->scale, c->unwanted, c->miss, c->clear, c->hue, c->print,
        c->rolling, c->sliding, c->noise, c->drift, c->optics,
        dataset->cutouts ? ws2_cutouts_digest(dataset->cutouts) : 0, dataset->quality, dataset->video,
        (long long)(dataset->video ? dataset->rate : 0));
    return length < 0 ? NULL : text;
}

static int write_settings(const char *path, const char *text, struct ws2_error *error)
{
    char making[PATH_ROOM];
    int status = join(making, error, "%s.tmp", path);
    if (status < 0)
        return status;
    FILE *file = fopen(making, "w");
    if (!file)
        return ws2_fail_errno(error, "%s", making);
    const bool bad = fputs(text, file) < 0;
    if (fclose(file) != 0 || bad || rename(making, path) != 0) {
        status = ws2_fail_errno(error, "%s", path);
        unlink(making);
    }
    return status;
}

/* The first line in which two settings differ decides the message. */
static int compare_settings(const char *path, const char *wanted, struct ws2_error *error)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return ws2_fail_errno(error, "%s", path);
    char line[256];
    int status = 0;
    while (status == 0 && *wanted) {
        const size_t length = strcspn(wanted, "\n");
        const char *found = fgets(line, sizeof line, file) ? line : "";
        const size_t other = strcspn(found, "\n");
        if (length != other || strncmp(found, wanted, length) != 0)
            status = ws2_fail(error, WS2_ERR_USAGE, "%s: the folder holds a set with %.*s, not %.*s", path,
                              other ? (int)other : 7, other ? found : "nothing", (int)length, wanted);
        wanted += length + 1;
    }
    fclose(file);
    return status;
}

static int settle(const struct maker *maker, struct ws2_error *error)
{
    char path[PATH_ROOM];
    int status = make_folders(maker->folder, error);
    if (status == 0)
        status = join(path, error, "%s/ws2-synth.txt", maker->folder);
    if (status < 0)
        return status;
    char *text = settings_text(maker->dataset);
    if (!text)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the settings");
    status = exists(path) ? compare_settings(path, text, error) : write_settings(path, text, error);
    free(text);
    return status;
}

/* ---- all clips --------------------------------------------------------------------------------------------------- */

static int check_dataset(const struct ws2_synth_dataset *dataset, struct ws2_error *error)
{
    if (dataset->frames < 1 || dataset->frames > 1000000)
        return ws2_fail(error, WS2_ERR_USAGE, "%lld frames in a clip: not 1 to 1000000",
                        (long long)dataset->frames);
    if (dataset->test_frames < 0 || dataset->test_frames > 1000000)
        return ws2_fail(error, WS2_ERR_USAGE, "%lld frames in a test clip: not 0 to 1000000",
                        (long long)dataset->test_frames);
    for (int split = 0; split < SPLITS; split++) {
        if (dataset->clips[split] < 0 || dataset->clips[split] > WS2_SYNTH_CLIPS_MAX)
            return ws2_fail(error, WS2_ERR_USAGE, "%lld clips: not 0 to %d", (long long)dataset->clips[split],
                            WS2_SYNTH_CLIPS_MAX);
    }
    if (dataset->quality < 1 || dataset->quality > 100 || dataset->rate < 1 || dataset->threads < 1)
        return ws2_fail(error, WS2_ERR_USAGE, "quality, rate or threads out of range");
    struct ws2_synth *synth;
    const int status = ws2_synth_open(&synth, &dataset->config, dataset->cutouts, error);
    ws2_synth_close(synth);
    return status;
}

static struct clip *list_clips(const struct ws2_synth_dataset *dataset, int64_t *count)
{
    *count = 2 * (dataset->clips[0] + dataset->clips[1] + dataset->clips[2]);
    struct clip *clip = ws2_calloc((size_t)*count, sizeof *clip), *next = clip;
    for (int split = 0; clip && split < SPLITS; split++) {
        for (int64_t index = 0; index < dataset->clips[split]; index++) {
            for (int role = 0; role < 2; role++)
                *next++ = (struct clip){.split = split, .role = role, .index = index};
        }
    }
    return clip;
}

/* Hands out clips until one fails; the clips under way are finished. Returns the number made. */
static int64_t run_clips(struct maker *maker, struct clip *clip, int64_t count, struct ws2_error *error)
{
    const struct ws2_synth_dataset *dataset = maker->dataset;
    const int depth = 2 * dataset->threads;
    struct ws2_pool *pool = ws2_pool_open(dataset->threads, depth, make_clip, maker);
    if (!pool)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory or threads for %d workers", dataset->threads);
    int64_t given = 0, taken = 0, made = 0;
    int status = 0;
    while (status == 0 ? taken < count : taken < given) {
        if (status == 0 && given < count && given - taken < depth) {
            ws2_pool_give(pool, &clip[given++]);
            continue;
        }
        const struct clip *done = ws2_pool_take(pool);
        taken++;
        made += done->made;
        if (done->error.status < 0 && status == 0)
            status = ws2_fail(error, done->error.status, "%s", done->error.text);
        if (status == 0 && dataset->progress)
            dataset->progress(taken, NULL);
    }
    ws2_pool_finish(pool);
    ws2_pool_close(pool);
    return status < 0 ? status : made;
}

int64_t ws2_synth_write_dataset(const struct ws2_synth_dataset *dataset, const char *folder,
                                struct ws2_error *error)
{
    struct maker maker = {dataset, folder};
    int status = check_dataset(dataset, error);
    if (status == 0)
        status = settle(&maker, error);
    if (status < 0)
        return status;
    int64_t count;
    struct clip *clip = list_clips(dataset, &count);
    if (!clip)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the list of clips");
    const int64_t made = run_clips(&maker, clip, count, error);
    free(clip);
    return made;
}
