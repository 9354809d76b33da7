/* ws2-synth: a seeded belt simulator with ground truth. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "pool/pool.h"
#include "stream/stream.h"
#include "synth/synth.h"

/* What the command line says; NULL leaves it to the preset. */
static struct {
    const char *size, *seq, *density, *items, *tensors, *dataset, *clip;
    int64_t frames, rate, plant, clips, val_clips, test_clips, test_frames, quality;
    int role, preset, direction, difference;
    bool video;
} want = {
    .size = "256", .frames = 16, .rate = 12, .clips = 16, .val_clips = 4, .test_clips = 4, .quality = 95};

/* Numbers of the preset that options replace; NAN where none does. */
enum { SPEED, SCALE, UNWANTED, MISS, CLEAR, HUE, PRINT, ROLLING, SLIDING, NOISE, DRIFT, OPTICS, REALS };
static double real[REALS];

static const struct ws2_option options[] = {
    {"size", 0, WS2_OPT_TEXT, &want.size, "N", "side of the frame, or WIDTHxHEIGHT", true, 0, 0},
    {"frames", 0, WS2_OPT_INT, &want.frames, "N", "frames, of each clip in a data set", true, 0, 1000000},
    {"role", 0, WS2_OPT_CHOICE, &want.role, "before|after", "camera before or after the sorter", true, 0, 0},
    {"seq", 0, WS2_OPT_TEXT, &want.seq, "NAME", "sequence name, else by role and seed", false, 0, 0},
    {"rate", 0, WS2_OPT_INT, &want.rate, "N", "frames per second", true, 1, 1000},
    {"tensors", 0, WS2_OPT_TEXT, &want.tensors, "A,B", "write these only, else all", false, 0, 0},
    {"preset", 0, WS2_OPT_CHOICE, &want.preset, "plain|clear|crowded", "start from these settings", true, 0,
     0},
    {"density", 0, WS2_OPT_TEXT, &want.density, "D", "sparse, normal, dense, crowded, or items", true, 0, 0},
    {"scale", 0, WS2_OPT_REAL, &real[SCALE], "X", "size of items, 0.2..3", true, 0.2, 3},
    {"unwanted", 0, WS2_OPT_REAL, &real[UNWANTED], "X", "share of unwanted before the sorter", true, 0, 1},
    {"miss", 0, WS2_OPT_REAL, &real[MISS], "X", "share of unwanted that the sorter misses", true, 0, 1},
    {"clear", 0, WS2_OPT_REAL, &real[CLEAR], "X", "share of clear ones among unwanted", true, 0, 1},
    {"hue", 0, WS2_OPT_REAL, &real[HUE], "X", "share of opaque ones in wanted hues", true, 0, 1},
    {"print", 0, WS2_OPT_REAL, &real[PRINT], "X", "share of items with labels and coloured caps", true, 0, 1},
    {"rolling", 0, WS2_OPT_REAL, &real[ROLLING], "X", "share of bottles and jars that roll", true, 0, 1},
    {"sliding", 0, WS2_OPT_REAL, &real[SLIDING], "X", "share of other items that slide", true, 0, 1},
    {"speed", 0, WS2_OPT_REAL, &real[SPEED], "X", "belt travel per frame, of the longer side", true, 0, 1},
    {"direction", 0, WS2_OPT_CHOICE, &want.direction, "down|up|right|left", "where the belt goes", true, 0,
     0},
    {"plant", 0, WS2_OPT_INT, &want.plant, "N", "seed of both cameras and the rubber", true, 0, 0},
    {"camera-difference", 0, WS2_OPT_CHOICE, &want.difference, "preset|none|mild|strong",
     "of the two cameras", true, 0, 0},
    {"noise", 0, WS2_OPT_REAL, &real[NOISE], "X", "sensor noise, 0 is none", true, 0, 10},
    {"drift", 0, WS2_OPT_REAL, &real[DRIFT], "X", "deviation of the exposure gain", true, 0, 0.5},
    {"optics", 0, WS2_OPT_REAL, &real[OPTICS], "X", "strength of vignette and reflexes", true, 0, 2},
    {"items", 0, WS2_OPT_TEXT, &want.items, "PATH", "paste cut-outs of this folder or list", false, 0, 0},
    {"dataset", 0, WS2_OPT_TEXT, &want.dataset, "DIR", "write the layout of the data set there", false, 0, 0},
    {"clip", 0, WS2_OPT_TEXT, &want.clip, "SPLIT/ROLE/N", "the stream behind this clip of the data set", true,
     0, 0},
    {"clips", 0, WS2_OPT_INT, &want.clips, "N", "data set: training clips per camera", false, 0, 60000},
    {"val-clips", 0, WS2_OPT_INT, &want.val_clips, "N", "data set: validation clips per camera", false, 0,
     60000},
    {"test-clips", 0, WS2_OPT_INT, &want.test_clips, "N", "data set: test clips per camera", false, 0, 60000},
    {"test-frames", 0, WS2_OPT_INT, &want.test_frames, "N", "data set: frames of test clips, else as of all",
     false, 1, 1000000},
    {"video", 0, WS2_OPT_FLAG, &want.video, NULL, "data set: mp4 instead of jpg, but for the test", false, 0,
     0},
    {"quality", 0, WS2_OPT_INT, &want.quality, "N", "data set: JPEG quality", false, 1, 100},
    {0}};

static const struct ws2_program program = {
    "ws2-synth",
    NULL,
    "simulate a sorting belt before two cameras, with exact truth",
    "-",
    "rgb:u8[h,w,3],truth:u8[h,w],ids:u16[h,w],class:u8[h,w],items:i32[n,2],flow.next:f16[2,h,w],"
    "flow.next.valid:u8[h,w],flow.prev:f16[2,h,w],flow.prev.valid:u8[h,w]",
    "  ws2-synth --role before --frames 32 --seed 1 | ws2-show\n"
    "  ws2-synth --preset clear --size 128 --dataset belt -j 2",
    WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_SEED | WS2_TAKES_PROGRESS,
    options};

/* ---- settings --------------------------------------------------------------------------------------- */

/* The belt, the frames and the name of a clip of the data set. */
static void choose_clip(struct ws2_synth_config *config)
{
    static char seq[32];
    struct ws2_error error = {0};
    int64_t index;
    const int split = ws2_synth_parse_clip(config, want.clip, &index, &error);
    if (split < 0)
        ws2_die(&error);
    snprintf(seq, sizeof seq, "video_%03lld", (long long)index);
    want.seq = want.seq ? want.seq : seq;
    want.frames = split == 2 && want.test_frames > 0 ? want.test_frames : want.frames;
}

static struct ws2_synth_config make_config(const struct ws2_common *common)
{
    struct ws2_synth_config config;
    struct ws2_error error = {0};
    ws2_synth_defaults(&config, (enum ws2_synth_preset)want.preset);
    if (ws2_synth_parse_size(&config, want.size, &error) < 0 ||
        (want.density && ws2_synth_parse_density(&config, want.density, &error) < 0))
        ws2_die(&error);
    config.seed = (uint64_t)common->seed;
    config.plant = (uint64_t)want.plant;
    config.after = want.role == 1;
    config.direction = (enum ws2_synth_direction)want.direction;
    if (want.difference > 0)
        config.difference = (enum ws2_synth_difference)(want.difference - 1);
    double *const value[REALS] = {&config.speed,   &config.scale, &config.unwanted, &config.miss,
                                  &config.clear,   &config.hue,   &config.print,    &config.rolling,
                                  &config.sliding, &config.noise, &config.drift,    &config.optics};
    for (int i = 0; i < REALS; i++)
        *value[i] = isnan(real[i]) ? *value[i] : real[i];
    if (want.clip)
        choose_clip(&config);
    return config;
}

/* ---- a stream ----------------------------------------------------------------------------------------- */

struct job {
    int64_t t;
    struct ws2_record *record;
    struct ws2_error error;
};

struct maker {
    const struct ws2_synth *synth;
    bool wanted[WS2_SYNTH_TENSORS];
    int64_t frames;
    int level;
};

static void *put(void *context, const struct ws2_synth_tensor *tensor, const struct ws2_shape *shape,
                 struct ws2_error *error)
{
    return ws2_record_add(context, tensor->name, tensor->dtype, shape, error);
}

static void make_frame(void *context, void *argument, int worker)
{
    (void)worker;
    const struct maker *maker = context;
    struct job *job = argument;
    ws2_record_set_frame(job->record, job->t, (job->t * 2000000 + want.rate) / (2 * want.rate));
    ws2_synth_render_tensors(maker->synth, job->t, maker->frames, maker->wanted, put, job->record,
                             &job->error);
    if (job->error.status == 0)
        ws2_record_pack(job->record, maker->level, &job->error);
}

static void choose_tensors(bool *wanted)
{
    static struct ws2_text_list list; /* as long as the program, like the options */
    list = ws2_cli_names("tensors", want.tensors);
    int found = 0;
    for (int i = 0; i < WS2_SYNTH_TENSORS; i++) {
        wanted[i] = list.count == 0 || ws2_cli_listed(&list, ws2_synth_tensor_at(i)->name);
        found += wanted[i] && list.count;
    }
    if (found < list.count)
        ws2_die_text(WS2_ERR_USAGE, "--tensors: '%s' holds a name that is unknown or stands twice",
                     want.tensors);
}

static struct ws2_head *make_head(const struct ws2_common *common, const struct maker *maker,
                                  const char *items)
{
    const struct ws2_synth_config *config = ws2_synth_config_of(maker->synth);
    struct ws2_error error = {0};
    struct ws2_head *head = ws2_head_new();
    char seq[64];
    snprintf(seq, sizeof seq, "%s_%lld", config->after ? "after" : "before", (long long)common->seed);
    if (!head || ws2_head_set_seq(head, want.seq ? want.seq : seq) < 0 ||
        ws2_head_set_role(head, config->after ? WS2_ROLE_AFTER : WS2_ROLE_BEFORE) < 0 ||
        ws2_head_set_size(head, config->width, config->height) < 0 ||
        ws2_head_set_rate(head, want.rate, 1) < 0)
        ws2_die_text(WS2_ERR_USAGE, "--seq: '%.80s' cannot be a sequence name", want.seq ? want.seq : seq);
    for (int i = 0; i < WS2_SYNTH_TENSORS; i++) {
        const struct ws2_synth_tensor *tensor = ws2_synth_tensor_at(i);
        if (maker->wanted[i] &&
            ws2_head_add_tensor(head, tensor->name, tensor->dtype, tensor->axes, tensor->unit, &error) < 0)
            ws2_die(&error);
    }
    if (ws2_cli_history(&program, common, head, items) < 0)
        ws2_die_text(WS2_ERR_SYSTEM, "no memory for the history");
    return head;
}

/* Writes the frames in order; workers make them ahead. */
static void run_stream(const struct ws2_common *common, struct maker *maker, struct ws2_writer *writer)
{
    const int depth = 2 * common->threads;
    struct ws2_pool *pool = ws2_pool_open(common->threads, depth, make_frame, maker);
    struct job *ring = ws2_calloc((size_t)depth, sizeof *ring);
    if (!pool || !ring)
        ws2_die_text(WS2_ERR_SYSTEM, "no memory or threads for %d workers", common->threads);
    ws2_cli_progress_begin(common, "frames", maker->frames);
    for (int64_t given = 0, taken = 0; taken < maker->frames;) {
        if (given < maker->frames && given - taken < depth) {
            struct job *job = &ring[given % depth];
            if (!job->record && !(job->record = ws2_record_new()))
                ws2_die_text(WS2_ERR_SYSTEM, "no memory for a record");
            ws2_record_clear(job->record);
            job->t = given++;
            ws2_pool_give(pool, job);
            continue;
        }
        struct job *job = ws2_pool_take(pool);
        if (job->error.status < 0)
            ws2_die(&job->error);
        if (ws2_writer_put(writer, job->record) < 0)
            ws2_die(ws2_writer_error(writer));
        ws2_cli_progress_set(++taken, NULL);
    }
    ws2_cli_progress_end();
    ws2_pool_finish(pool);
    ws2_pool_close(pool);
    for (int i = 0; i < depth; i++)
        ws2_record_free(ring[i].record);
    free(ring);
}

static int make_stream(const struct ws2_common *common, const struct ws2_synth_config *config,
                       const struct ws2_cutouts *cutouts)
{
    struct maker maker = {.frames = want.frames};
    struct ws2_synth *synth;
    struct ws2_error error = {0};
    choose_tensors(maker.wanted);
    if (ws2_synth_open(&synth, config, cutouts, &error) < 0)
        ws2_die(&error);
    maker.synth = synth;
    char items[32];
    if (cutouts)
        snprintf(items, sizeof items, "fnv1a:%08x", ws2_cutouts_digest(cutouts));
    struct ws2_head *head = make_head(common, &maker, cutouts ? items : NULL);
    struct ws2_writer *writer = ws2_cli_writer(common);
    maker.level = ws2_writer_level(writer);
    if (ws2_writer_begin(writer, head) < 0)
        ws2_die(ws2_writer_error(writer));
    run_stream(common, &maker, writer);
    if (ws2_writer_end(writer) < 0)
        ws2_die(ws2_writer_error(writer));
    ws2_note("%lld frames of %lld x %lld", (long long)want.frames, (long long)config->width,
             (long long)config->height);
    ws2_head_free(head);
    ws2_synth_close(synth);
    return ws2_cli_end(writer, 0);
}

/* ---- a data set ------------------------------------------------------------------------------------------ */

static int make_dataset(const struct ws2_common *common, const struct ws2_synth_config *config,
                        const struct ws2_cutouts *cutouts)
{
    const struct ws2_synth_dataset dataset = {.config = *config,
                                              .cutouts = cutouts,
                                              .frames = want.frames,
                                              .test_frames = want.test_frames,
                                              .clips = {want.clips, want.val_clips, want.test_clips},
                                              .video = want.video,
                                              .rate = want.rate,
                                              .quality = (int)want.quality,
                                              .threads = common->threads,
                                              .progress = ws2_cli_progress_set};
    struct ws2_error error = {0};
    if (strcmp(common->output, "-") != 0 || want.tensors || want.clip)
        ws2_die_text(WS2_ERR_USAGE, "--dataset goes without --output, --tensors and --clip");
    ws2_cli_progress_begin(common, "clips", 2 * (want.clips + want.val_clips + want.test_clips));
    const int64_t made = ws2_synth_write_dataset(&dataset, want.dataset, &error);
    ws2_cli_progress_end();
    if (made < 0)
        ws2_die(&error);
    ws2_note("%lld clips made in %s", (long long)made, want.dataset);
    return ws2_cli_end(NULL, 0);
}

int main(int argc, char **argv)
{
    for (int i = 0; i < REALS; i++)
        real[i] = NAN;
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_synth_config config = make_config(&common);
    struct ws2_cutouts *cutouts = NULL;
    struct ws2_error error = {0};
    if (want.items && ws2_cutouts_open(&cutouts, want.items, &error) < 0)
        ws2_die(&error);
    const int code =
        want.dataset ? make_dataset(&common, &config, cutouts) : make_stream(&common, &config, cutouts);
    ws2_cutouts_close(cutouts);
    return code;
}
