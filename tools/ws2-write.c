/* ws2-write: a stream -> pictures, arrays, flow files, a video, a sheet of panels. */
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "image/image.h"
#include "pool/pool.h"

static struct {
    const char *png, *jpg, *npy, *flo, *kitti, *mp4, *sheet, *tensor, *heat, *panel, *rate;
    struct ws2_text_list masks;
    bool overlay, by_seq, raw;
    double alpha, radius;
    int64_t quality, crf, zlib, thickness;
    int palette;
} want = {.alpha = 0.5, .quality = 95, .crf = 18, .zlib = 6, .thickness = 2};

static const struct ws2_option options[] = {
    {"png", 0, WS2_OPT_TEXT, &want.png, "DIR", "write PNG pictures there", false, 0, 0},
    {"jpg", 0, WS2_OPT_TEXT, &want.jpg, "DIR", "write JPEG pictures there", false, 0, 0},
    {"npy", 0, WS2_OPT_TEXT, &want.npy, "DIR", "write the tensor as NumPy arrays there", false, 0, 0},
    {"flo", 0, WS2_OPT_TEXT, &want.flo, "DIR", "write the flow as Middlebury's .flo there", false, 0, 0},
    {"kitti", 0, WS2_OPT_TEXT, &want.kitti, "DIR", "write the flow as KITTI's 16-bit PNG there", false, 0, 0},
    {"mp4", 0, WS2_OPT_TEXT, &want.mp4, "FILE", "write a video", false, 0, 0},
    {"sheet", 0, WS2_OPT_TEXT, &want.sheet, "FILE", "all pictures below each other in one PNG", false, 0, 0},
    {"tensor", 't', WS2_OPT_TEXT, &want.tensor, "NAME", "what to write, else rgb; flow.next as flow", false,
     0, 0},
    {"raw", 0, WS2_OPT_FLAG, &want.raw, NULL, "masks and ids as they are, not as colours", false, 0, 0},
    {"overlay", 0, WS2_OPT_FLAG, &want.overlay, NULL, "the frame under --heat and --mask", false, 0, 0},
    {"mask", 0, WS2_OPT_LIST, &want.masks, "NAME", "outline of this mask; may be repeated", false, 0, 0},
    {"heat", 0, WS2_OPT_TEXT, &want.heat, "NAME[:CHANNEL]", "heat map; channel by number or class", false, 0,
     0},
    {"panel", 0, WS2_OPT_TEXT, &want.panel, "A,B,...", "side by side: NAME[:CHANNEL] or overlay", false, 0,
     0},
    {"alpha", 0, WS2_OPT_REAL, &want.alpha, "X", "weight of the heat map over the frame", false, 0, 1},
    {"thickness", 0, WS2_OPT_INT, &want.thickness, "N", "pixels of an outline", false, 1, 100},
    {"palette", 0, WS2_OPT_CHOICE, &want.palette, "turbo|viridis|grey", "colours of heat maps", false, 0, 0},
    {"radius", 0, WS2_OPT_REAL, &want.radius, "X", "pixels of flow in full colour; 0: the longest", false, 0,
     1e6},
    {"by-seq", 0, WS2_OPT_FLAG, &want.by_seq, NULL, "a folder for each role and sequence", false, 0, 0},
    {"quality", 0, WS2_OPT_INT, &want.quality, "N", "JPEG quality", false, 1, 100},
    {"zlib", 0, WS2_OPT_INT, &want.zlib, "N", "PNG effort", false, 0, 9},
    {"crf", 0, WS2_OPT_INT, &want.crf, "N", "H.264 quality, 0 is best", false, 0, 51},
    {"rate", 0, WS2_OPT_TEXT, &want.rate, "R", "frames a second of the video, else the stream's", false, 0,
     0},
    {0}};

static const struct ws2_program program = {
    "ws2-write",
    "[FILE...]",
    "write frames and masks as files",
    "rgb:u8[h,w,3]",
    "-",
    "  ws2-write --overlay --mask coarse --heat cam:before --png look b1.ws2\n"
    "  ws2-write --panel rgb,cam:before,coarse,truth --sheet demo.png b1.ws2",
    WS2_TAKES_INPUT | WS2_TAKES_THREADS | WS2_TAKES_PROGRESS,
    options};

/* A picture on its way through an encoder. */
struct job {
    struct ws2_image image;
    char *png, *jpg; /* paths, or NULL */
    struct ws2_error error;
};

static struct {
    const struct ws2_common *common;
    const struct ws2_head *head;
    struct ws2_look look;
    struct ws2_text_list panels;
    struct ws2_image *picture; /* of the panels */
    struct ws2_image sheet;
    const char *shown, *moving; /* the tensors written as pictures or arrays, and as flow */
    char *folder;               /* ROLE/SEQ/ or empty */
    char *seq;                  /* of the first segment */
    struct ws2_video_writer *video;
    struct ws2_pool *pool;
    struct job *job;
    int depth;
    int64_t given, written;
} run;

/* ---- files ------------------------------------------------------------------------------------------- */

/* DIR/ROLE/SEQ/NAME.SUFFIX, without the middle unless --by-seq. */
static char *path_of(const char *folder, const char *name, const char *suffix)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s%s%s", folder, run.folder, name, suffix) < 0)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    return path;
}

static void take(void)
{
    struct job *job = ws2_pool_take(run.pool);
    if (job->error.status < 0)
        ws2_die(&job->error);
    free(job->png);
    free(job->jpg);
    run.written++;
}

static void encode(void *context, void *argument, int worker)
{
    struct job *job = argument;
    (void)context;
    (void)worker;
    if (job->png)
        ws2_png_write(job->png, &job->image, (int)want.zlib, &job->error);
    if (job->jpg && job->error.status == 0)
        ws2_jpeg_write(job->jpg, &job->image, (int)want.quality, &job->error);
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

/* 1, or 0 when the frame lacks what is to be shown. */
static int draw(struct ws2_image *image, struct ws2_record *record, struct ws2_error *error)
{
    struct ws2_drawn drawn = {run.head, record};
    const struct ws2_look_source source = ws2_cli_look(&drawn);
    char title[160];
    if (run.panels.count) {
        snprintf(title, sizeof title, "%s %lld", ws2_head_seq(run.head), (long long)ws2_record_frame(record));
        return ws2_look_panels(image, run.picture, &run.look, &source, run.panels.item, run.panels.count,
                               title, error);
    }
    return want.overlay ? ws2_look_overlay(image, &run.look, &source, error)
                        : ws2_look_tensor(image, &run.look, &source, run.shown, false, error);
}

/* ---- the walk --------------------------------------------------------------------------------------------- */

static int begin(void *context, const char *path, const struct ws2_head *head, struct ws2_error *error)
{
    const char *const root[] = {want.png, want.jpg, want.npy, want.flo, want.kitti};
    const int roots = sizeof root / sizeof *root;
    bool folders = false;
    char *name = ws2_must(ws2_file_name(ws2_head_seq(head)));
    (void)context;
    (void)path;
    run.head = head;
    free(run.folder);
    if (!run.seq)
        run.seq = ws2_must(strdup(name));
    for (int i = 0; i < roots; i++)
        folders = folders || root[i];
    if (strcmp(run.seq, name) != 0 && !want.by_seq && folders)
        return ws2_fail(error, WS2_ERR_USAGE, "several sequences would mix in one folder; use --by-seq");
    if (asprintf(&run.folder, want.by_seq ? "%s/%s/" : "", ws2_role_name(ws2_head_role(head)), name) < 0)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    free(name);
    for (int i = 0; i < roots && !run.common->check; i++) {
        char *folder = root[i] ? path_of(root[i], "", "") : NULL;
        if (folder && ws2_folders_make(folder, error) < 0)
            return error->status;
        free(folder);
    }
    return 0;
}

/* What is written sample by sample. 1 when the PNG was among that (16-bit ids with --raw). */
static int write_numbers(struct ws2_record *record, const char *name, struct ws2_error *error)
{
    const bool raw = want.raw && !want.overlay && !run.panels.count;
    const struct {
        const char *folder, *tensor, *suffix;
        enum ws2_numbers kind;
    } file[] = {{want.flo, run.moving, ".flo", WS2_NUMBERS_FLO},
                {want.kitti, run.moving, ".png", WS2_NUMBERS_KITTI},
                {want.npy, run.shown, ".npy", WS2_NUMBERS_NPY},
                {raw ? want.png : NULL, run.shown, ".png", WS2_NUMBERS_PNG16}};
    struct ws2_drawn drawn = {run.head, record};
    const struct ws2_look_source source = ws2_cli_look(&drawn);
    int status = 0;
    for (size_t i = 0; i < sizeof file / sizeof *file && status >= 0; i++) {
        char *path = file[i].folder ? path_of(file[i].folder, name, file[i].suffix) : NULL;
        status =
            path ? ws2_numbers_write(path, file[i].kind, &source, file[i].tensor, (int)want.zlib, error) : 0;
        run.written += status > 0;
        free(path);
    }
    return status;
}

static int write_video(const struct ws2_image *image, struct ws2_error *error)
{
    int64_t num = 25, den = 1;
    if (!run.video) {
        ws2_head_rate(run.head, &num, &den);
        num = num ? num : 25;
        den = den ? den : 1;
        if (want.rate && ws2_rate_parse(want.rate, &num, &den, error) < 0)
            return error->status;
        if (ws2_video_create(&run.video, want.mp4, image->width, image->height, num, den, (int)want.crf,
                             error) < 0)
            return error->status;
    }
    return ws2_video_put(run.video, image, error);
}

static int write_record(void *context, struct ws2_record *record, struct ws2_error *error)
{
    char name[40];
    (void)context;
    snprintf(name, sizeof name, "frame_%04lld", (long long)ws2_record_frame(record));
    const int done = write_numbers(record, name, error);
    if (done != 0 || (!want.png && !want.jpg && !want.mp4 && !want.sheet))
        return done < 0 ? done : 0;
    if (ws2_pool_inside(run.pool) == run.depth)
        take();
    struct job *job = &run.job[run.given % run.depth];
    const int drawn = draw(&job->image, record, error);
    if (drawn <= 0)
        return drawn;
    if ((want.mp4 && write_video(&job->image, error) < 0) ||
        (want.sheet && ws2_draw_below(&run.sheet, &job->image, error) < 0))
        return error->status;
    job->png = want.png ? path_of(want.png, name, ".png") : NULL;
    job->jpg = want.jpg ? path_of(want.jpg, name, ".jpg") : NULL;
    run.given++;
    ws2_pool_give(run.pool, job);
    return 0;
}

static void check(const char *text)
{
    struct ws2_error error = {0};
    if (ws2_look_check(text, &error) < 0)
        ws2_die(&error);
}

static void parse(void)
{
    struct ws2_error error = {0};
    int64_t num, den;
    run.panels = ws2_cli_names("panel", want.panel);
    if (!want.png && !want.jpg && !want.npy && !want.flo && !want.kitti && !want.mp4 && !want.sheet)
        ws2_die_text(WS2_ERR_USAGE,
                     "nothing to write: give --png, --jpg, --npy, --flo, --kitti, --mp4 or --sheet");
    if (want.png && want.kitti && strcmp(want.png, want.kitti) == 0)
        ws2_die_text(WS2_ERR_USAGE, "--png and --kitti need folders of their own");
    run.shown = want.tensor ? want.tensor : "rgb";
    run.moving = want.tensor ? want.tensor : "flow.next";
    if (want.heat)
        check(want.heat);
    check(run.shown);
    for (int i = 0; i < run.panels.count; i++)
        check(run.panels.item[i]);
    want.overlay = want.overlay || want.heat || want.masks.count;
    if (want.rate && ws2_rate_parse(want.rate, &num, &den, &error) < 0)
        ws2_die(&error);
    run.look = (struct ws2_look){
        .view = {.palette = (enum ws2_palette)want.palette, .radius = (float)want.radius, .raw = want.raw},
        .heat = want.heat,
        .mask = want.masks.item,
        .masks = want.masks.count,
        .alpha = (float)want.alpha,
        .thickness = (int)want.thickness};
    run.picture = ws2_must(ws2_calloc((size_t)run.panels.count, sizeof *run.picture));
}

/* A program that gives up leaves no temporary file. */
static void abandon(void)
{
    ws2_video_abandon(run.video);
}

int main(int argc, char **argv)
{
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_walk walk = {begin, write_record, NULL, NULL};
    struct ws2_error error = {0};
    run.common = &common;
    run.depth = 2 * common.threads + 1;
    parse();
    atexit(abandon);
    run.job = ws2_must(ws2_calloc((size_t)run.depth, sizeof *run.job));
    run.pool = ws2_must(ws2_pool_open(common.threads, run.depth, encode, NULL));
    ws2_cli_walk(&common, &walk);
    while (ws2_pool_inside(run.pool) > 0)
        take();
    ws2_pool_finish(run.pool);
    ws2_pool_close(run.pool);
    struct ws2_video_writer *video = run.video;
    run.video = NULL;
    if (video && ws2_video_finish(video, &error) < 0)
        ws2_die(&error);
    if (want.sheet && run.sheet.data && ws2_png_write(want.sheet, &run.sheet, (int)want.zlib, &error) < 0)
        ws2_die(&error);
    if (run.written == 0 && !common.check)
        ws2_die_text(WS2_ERR_INPUT, "no frame holds what was asked for");
    return ws2_cli_end(NULL, 0);
}
