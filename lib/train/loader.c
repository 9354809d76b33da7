/* Which samples there are, and in which order they come: see train.h. */
#include "train/sample.h"

#include <stdlib.h>
#include <string.h>

#include "image/image.h"

const char *ws2_class_name(int index)
{
    static const char *const name[WS2_CLASSES_MAX] = {"after", "before", "bg"};
    return index >= 0 && index < WS2_CLASSES_MAX ? name[index] : "";
}

/* ---- which samples ---------------------------------------------------------------------------------------- */

/* Every step-th frame of the clip; of triplets, and where asked for, only frames between two others. */
static int add_samples(struct ws2_loader *loader, int clip, int label, bool second, int64_t step)
{
    const int64_t frames = ws2_clips_at(loader->clips, clip)->frames;
    const int64_t first = loader->options.triplets || loader->options.centres, end = frames - first;
    const int64_t more = (frames + step - 1) / step;
    void *grown = loader->sample;
    size_t bytes;
    if (!ws2_mul_size((size_t)(loader->samples + more + 1), sizeof *loader->sample, &bytes) ||
        ws2_reserve(&grown, &loader->capacity, bytes) < 0)
        return WS2_ERR_SYSTEM;
    loader->sample = grown;
    for (int64_t f = first; f < end; f += step)
        loader->sample[loader->samples++] = (struct sample){clip, (int16_t)label, second, f};
    return WS2_OK;
}

/* second[i] = has the sequence of clip i an odd rank, counted from 0, among those used of its role? */
static int mark_second(const struct ws2_clips *clips, const bool *use, bool *second)
{
    const int count = ws2_clips_count(clips);
    int *rank = ws2_calloc((size_t)count, 2 * sizeof *rank); /* by sequence + 1, of each role; 0 = not seen */
    if (rank == NULL)
        return WS2_ERR_SYSTEM;
    int next[2] = {1, 1};
    for (int i = 0; i < count; i++) {
        const struct ws2_clip *clip = ws2_clips_at(clips, i);
        const int role = clip->role == WS2_ROLE_BEFORE;
        int *mine = &rank[role * count + clip->sequence];
        if (use && !use[i])
            continue;
        if (*mine == 0)
            *mine = next[role]++;
        second[i] = *mine % 2 == 0;
    }
    free(rank);
    return WS2_OK;
}

/* The samples of clip i: its frames as before or after, and, of every other sequence, those that show the belt. */
static int list_clip(struct ws2_loader *loader, int i, bool second, struct ws2_error *error)
{
    const struct ws2_loader_options *o = &loader->options;
    const struct ws2_clip *clip = ws2_clips_at(loader->clips, i);
    const bool by_frame = o->bg_source == WS2_BG_FRAMES;
    if (o->background == WS2_BACKGROUND_REMOVE && !clip->has_fg)
        return ws2_fail(error, WS2_ERR_INPUT,
                        "%s: %s: no tensor fg, needed to remove the background: run ws2-bgmask first",
                        clip->path, clip->name);
    if (o->triplets && !clip->has_flow)
        return ws2_fail(error, WS2_ERR_INPUT,
                        "%s: %s: no tensors flow.prev and flow.next of type f16, needed for triplets of "
                        "frames: run ws2-flow first",
                        clip->path, clip->name);
    if (o->seeds && o->labels == NULL && !clip->has_seeds)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: %s: no tensor seeds of type u8: run ws2-seeds first",
                        clip->path, clip->name);
    int status =
        add_samples(loader, i, clip->role == WS2_ROLE_BEFORE ? WS2_CLASS_BEFORE : WS2_CLASS_AFTER, second, 1);
    if (status == WS2_OK && o->classes == 3 && (by_frame || !second))
        status = add_samples(loader, i, WS2_CLASS_BG, second, by_frame ? 2 : 1);
    return status < 0 ? ws2_fail(error, status, "out of memory") : WS2_OK;
}

/* Must there be samples of every class? What learns from seeds asks for none, unless they are to be balanced, or a belt is
 * drawn from either camera, or items after the sorter. */
static bool needs_classes(const struct ws2_loader_options *o)
{
    const bool belts = o->background == WS2_BACKGROUND_REMOVE && o->fill == WS2_FILL_BELT;
    return !o->seeds || o->balance || belts || o->paste > 0;
}

static int list_samples(struct ws2_loader *loader, const bool *use, struct ws2_error *error)
{
    const struct ws2_loader_options *o = &loader->options;
    bool *second = ws2_calloc((size_t)ws2_clips_count(loader->clips), sizeof *second);
    if (second == NULL || mark_second(loader->clips, use, second) < 0) {
        free(second);
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    }
    int status = WS2_OK;
    for (int i = 0; status == WS2_OK && i < ws2_clips_count(loader->clips); i++) {
        const bool asked = o->half == WS2_HALF_BOTH || second[i] == (o->half == WS2_HALF_SECOND);
        if (asked && (use == NULL || use[i]))
            status = list_clip(loader, i, second[i], error);
    }
    free(second);
    if (status == WS2_OK && !needs_classes(o))
        return loader->samples > 0 ? WS2_OK
                                   : ws2_fail(error, WS2_ERR_INPUT, "no frames among the %s files",
                                              o->training ? "training" : "validation");
    for (int c = 0; status == WS2_OK && c < o->classes; c++) {
        if (ws2_loader_class_samples(loader, c) == 0)
            status = ws2_fail(error, WS2_ERR_INPUT, "no %s frames%s among the %s files", ws2_class_name(c),
                              o->triplets || o->centres ? " with one before and one after them" : "",
                              o->training ? "training" : "validation or test");
    }
    return status;
}

int64_t ws2_loader_class_samples(const struct ws2_loader *loader, int class)
{
    int64_t n = 0;
    for (int64_t i = 0; i < loader->samples; i++)
        n += loader->sample[i].label == class;
    return n;
}

int64_t ws2_loader_samples(const struct ws2_loader *loader)
{
    return loader->samples;
}

bool ws2_loader_has_halves(const struct ws2_loader *loader)
{
    int64_t n[2][WS2_CLASSES_MAX] = {0};
    for (int64_t i = 0; i < loader->samples; i++)
        n[loader->sample[i].second][loader->sample[i].label]++;
    bool enough = true;
    for (int half = 0; half < 2; half++) {
        const int64_t after = n[half][WS2_CLASS_AFTER], before = n[half][WS2_CLASS_BEFORE];
        enough &= after > 0 && before > 0 && after + before >= loader->options.batch;
    }
    return enough;
}

int64_t ws2_loader_steps(const struct ws2_loader *loader)
{
    const int64_t batch = loader->options.batch;
    return loader->options.training ? loader->samples / batch : (loader->samples + batch - 1) / batch;
}

const struct ws2_loader_options *ws2_loader_settings(const struct ws2_loader *loader)
{
    return &loader->options;
}

int ws2_loader_batch(const struct ws2_loader *loader)
{
    return loader->options.batch;
}

static void work(void *context, void *item, int worker)
{
    struct ws2_loader *loader = context;
    struct job *job = item;
    const int status = ws2_sample_load(loader, &loader->scratch[worker], job);
    if (status < 0 && job->error.status == 0)
        ws2_fail(&job->error, status, "cannot read a frame");
}

/* ---- opening and closing ---------------------------------------------------------------------------------- */

/* Both cameras are evened out, and to one level, or neither. */
static int check_flat(const struct ws2_flat *const flat[2], struct ws2_error *error)
{
    if ((flat[0] == NULL) != (flat[1] == NULL))
        return ws2_fail(error, WS2_ERR_USAGE, "a flat field of one camera alone");
    if (flat[0] == NULL)
        return WS2_OK;
    const struct ws2_flat_params *a = ws2_flat_settings(flat[0]), *b = ws2_flat_settings(flat[1]);
    return a->sigma == b->sigma && a->level == b->level
               ? WS2_OK
               : ws2_fail(error, WS2_ERR_USAGE, "the flat fields of the cameras differ in sigma or level");
}

static int check_options(const struct ws2_loader_options *o, struct ws2_error *error)
{
    if (o->classes != 2 && o->classes != 3)
        return ws2_fail(error, WS2_ERR_USAGE, "%d classes: 2 or 3 are possible", o->classes);
    if (o->classes == 3 && o->background == WS2_BACKGROUND_KEEP)
        return ws2_fail(error, WS2_ERR_USAGE, "three classes need the background removed");
    if (o->size < 1 || o->size > WS2_IMAGE_SIDE_MAX || o->batch < 1 || o->threads < 1 || o->margin < 0)
        return ws2_fail(error, WS2_ERR_USAGE, "size, batch and threads must be positive");
    if ((o->triplets || o->seeds) && (o->cells < 1 || o->cells > o->size))
        return ws2_fail(error, WS2_ERR_USAGE, "flow or seeds for maps of %d cells a side", o->cells);
    if (o->dense && (o->triplets || o->classes != 2 || o->background != WS2_BACKGROUND_REMOVE ||
                     o->fill != WS2_FILL_MEAN || o->balance || o->jitter != 0 || o->hue != 0))
        return ws2_fail(error, WS2_ERR_USAGE,
                        "dense samples are single frames of two classes on the mean colour, without jitter");
    if ((o->transpose || o->paste > 0) && !o->dense)
        return ws2_fail(error, WS2_ERR_USAGE,
                        "only dense samples are transposed and have items laid beside them");
    if (o->labels && (!o->dense || !o->seeds || o->cells != o->size || o->paste > 0))
        return ws2_fail(error, WS2_ERR_USAGE, "labels are for dense samples with nothing laid beside");
    if (o->triplets && o->seeds)
        return ws2_fail(error, WS2_ERR_USAGE, "triplets have no seeds");
    if (!(o->jitter >= 0 && o->jitter < 1) || !(o->hue >= 0 && o->hue <= 0.5))
        return ws2_fail(error, WS2_ERR_USAGE, "jitter must be in [0,1) and hue in [0,0.5]");
    return check_flat(o->flat, error);
}

/* The places of all samples in the ring. */
static int allocate_ring(struct ws2_loader *loader, size_t slots)
{
    const struct ws2_loader_options *o = &loader->options;
    const size_t pixels = (size_t)o->size * (size_t)o->size,
                 flows = o->triplets ? 2 * (size_t)o->cells * (size_t)o->cells : 0;
    size_t bytes;
    if (o->dense && (loader->keep = ws2_calloc(slots, pixels)) == NULL)
        return WS2_ERR_SYSTEM;
    for (size_t k = 0; o->dense && k < slots; k++)
        loader->ring[k].keep = loader->keep + k * pixels;
    for (size_t k = 0; k < slots; k++)
        loader->ring[k].share = loader->share + k;
    const size_t cells = o->seeds ? (size_t)o->cells * (size_t)o->cells : 0;
    if (!ws2_mul_size(slots, 3 * pixels, &bytes))
        return WS2_ERR_SYSTEM;
    if (o->seeds && (loader->seeds = ws2_calloc(slots, cells)) == NULL)
        return WS2_ERR_SYSTEM;
    for (size_t k = 0; o->seeds && k < slots; k++)
        loader->ring[k].seeds = loader->seeds + k * cells;
    for (int i = 0; i < loader->pictures; i++) {
        loader->pixels[i] = ws2_calloc(bytes, 1);
        if (i > 0)
            loader->flow[i] = ws2_calloc(slots, flows * sizeof *loader->flow[i]);
        if (!loader->pixels[i] || (i > 0 && !loader->flow[i]))
            return WS2_ERR_SYSTEM;
        for (size_t k = 0; k < slots; k++) {
            loader->ring[k].rgb[i] = loader->pixels[i] + k * 3 * pixels;
            loader->ring[k].flow[i] = i > 0 ? loader->flow[i] + k * flows : NULL;
        }
    }
    return WS2_OK;
}

static int allocate(struct ws2_loader *loader)
{
    const struct ws2_loader_options *o = &loader->options;
    const size_t pixels = (size_t)o->size * (size_t)o->size, slots = (size_t)RING * (size_t)o->batch;
    loader->ring = ws2_calloc(slots, sizeof *loader->ring);
    loader->label = ws2_calloc(slots, sizeof *loader->label);
    loader->half = ws2_calloc(slots, 1);
    loader->share = ws2_calloc(slots, sizeof *loader->share);
    loader->order = ws2_calloc((size_t)loader->samples + 1, sizeof *loader->order);
    loader->scratch = ws2_calloc((size_t)o->threads, sizeof *loader->scratch);
    if (!loader->ring || !loader->label || !loader->half || !loader->share || !loader->order ||
        !loader->scratch || allocate_ring(loader, slots) < 0)
        return WS2_ERR_SYSTEM;
    for (int i = 0; i < o->threads; i++) {
        struct scratch *scratch = &loader->scratch[i];
        scratch->record = ws2_record_new();
        scratch->keep = ws2_calloc(pixels, 6); /* keep, grow, hole, other */
        scratch->grow = scratch->keep + pixels;
        scratch->hole = scratch->grow + pixels;
        scratch->other = scratch->hole + pixels;
        if (!scratch->record || !scratch->keep)
            return WS2_ERR_SYSTEM;
    }
    int depth = 2 * o->batch;
    if (depth < o->threads)
        depth = o->threads;
    loader->pool = ws2_pool_open(o->threads, depth, work, loader);
    return loader->pool ? WS2_OK : WS2_ERR_SYSTEM;
}

int ws2_loader_open(struct ws2_loader **out, struct ws2_clips *clips, const bool *use,
                    const struct ws2_loader_options *options, struct ws2_error *error)
{
    *out = NULL;
    int status = check_options(options, error);
    if (status < 0)
        return status;
    struct ws2_loader *loader = ws2_calloc(1, sizeof *loader);
    if (loader == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    loader->clips = clips;
    loader->options = *options;
    loader->pictures = options->triplets ? PICTURES_MAX : 1;
    if (loader->options.threads > options->batch)
        loader->options.threads = options->batch;
    status = list_samples(loader, use, error);
    if (status == WS2_OK && options->training && loader->samples < options->batch)
        status = ws2_fail(error, WS2_ERR_INPUT, "%lld training samples do not fill one batch of %d",
                          (long long)loader->samples, options->batch);
    if (status == WS2_OK && allocate(loader) < 0)
        status = ws2_fail(error, WS2_ERR_SYSTEM, "out of memory for batches of %d pictures of %d pixels",
                          options->batch, options->size);
    if (status < 0) {
        ws2_loader_close(loader);
        return status;
    }
    *out = loader;
    return WS2_OK;
}

void ws2_loader_close(struct ws2_loader *loader)
{
    if (loader == NULL)
        return;
    ws2_pool_close(loader->pool);
    for (int i = 0; loader->scratch && i < loader->options.threads; i++) {
        struct scratch *scratch = &loader->scratch[i];
        ws2_record_free(scratch->record);
        ws2_resizer_free(scratch->rgb);
        ws2_resizer_free(scratch->mask);
        ws2_resizer_free(scratch->seeds);
        free(scratch->keep);
        ws2_flat_scratch_free(&scratch->flat);
    }
    free(loader->scratch);
    free(loader->order);
    for (int i = 0; i < PICTURES_MAX; i++) {
        free(loader->pixels[i]);
        free(loader->flow[i]);
    }
    free(loader->seeds);
    free(loader->keep);
    free(loader->half);
    free(loader->share);
    free(loader->label);
    free(loader->ring);
    free(loader->sample);
    free(loader);
}

/* ---- an epoch --------------------------------------------------------------------------------------------- */

/* Samples of each of `classes` classes in turn, each class shuffled and repeated as often as needed. */
static int alternate(struct ws2_loader *loader, int classes, struct ws2_random *random)
{
    const int64_t n = loader->samples;
    int64_t *class_order = ws2_calloc((size_t)n, 2 * sizeof *class_order), *list = class_order + n;
    if (class_order == NULL)
        return WS2_ERR_SYSTEM;
    for (int c = 0; c < classes; c++) {
        const int64_t members = ws2_loader_class_samples(loader, c);
        int64_t found = 0;
        for (int64_t i = 0; i < n; i++) {
            if (loader->sample[i].label == c)
                list[found++] = i;
        }
        for (int64_t at = c, drawn = 0; at < n; at += classes, drawn++) {
            if (drawn % members == 0)
                ws2_random_permutation(random, class_order, members);
            loader->order[at] = list[class_order[drawn % members]];
        }
    }
    free(class_order);
    return WS2_OK;
}

/* The same, then all shuffled. */
static int balanced_order(struct ws2_loader *loader, struct ws2_random *random)
{
    const int64_t n = loader->samples;
    int64_t *order = ws2_calloc((size_t)n, 2 * sizeof *order), *all = order + n;
    if (order == NULL || alternate(loader, loader->options.classes, random) < 0) {
        free(order);
        return WS2_ERR_SYSTEM;
    }
    ws2_random_permutation(random, order, n);
    memcpy(all, loader->order, (size_t)n * sizeof *all);
    for (int64_t i = 0; i < n; i++)
        loader->order[i] = all[order[i]];
    free(order);
    return WS2_OK;
}

/* Samples as they come, but both cameras evenly mixed: a batch of one camera says nothing of a mixture. */
static void mixed_order(struct ws2_loader *loader)
{
    const int64_t all = loader->samples, second = ws2_loader_class_samples(loader, WS2_CLASS_BEFORE);
    int64_t next[2] = {0, 0};
    for (int64_t at = 0; at < all; at++) {
        const int camera = (at + 1) * second / all > at * second / all;
        while (loader->sample[next[camera]].label != camera)
            next[camera]++;
        loader->order[at] = next[camera]++;
    }
}

static bool one_camera(const struct ws2_loader *loader)
{
    return ws2_loader_class_samples(loader, WS2_CLASS_BEFORE) == 0 ||
           ws2_loader_class_samples(loader, WS2_CLASS_AFTER) == 0;
}

int ws2_loader_start(struct ws2_loader *loader, int64_t epoch, struct ws2_error *error)
{
    const struct ws2_loader_options *o = &loader->options;
    while (ws2_pool_inside(loader->pool) > 0) /* an epoch left early */
        ws2_pool_take(loader->pool);
    struct ws2_random random = ws2_train_random(o->seed, WS2_STREAM_ORDER, epoch, 0);
    if (!o->training && o->dense) {
        mixed_order(loader);
    } else if (!o->training) {
        for (int64_t i = 0; i < loader->samples; i++)
            loader->order[i] = i;
    } else if (!o->balance && (!o->dense || one_camera(loader))) {
        ws2_random_permutation(&random, loader->order, loader->samples);
    } else if ((o->dense ? alternate(loader, 2, &random) : balanced_order(loader, &random)) < 0) {
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    }
    loader->batch = loader->position = 0;
    loader->batches = ws2_loader_steps(loader);
    loader->end = o->training ? loader->batches * o->batch : loader->samples;
    for (int i = 0; i < RING * o->batch; i++)
        loader->ring[i].epoch = epoch;
    return WS2_OK;
}

/* Hands pictures to the workers while there is room; never blocks. */
static void feed(struct ws2_loader *loader)
{
    const int64_t batch = loader->options.batch, slots = RING * batch;
    const int64_t limit =
        (loader->batch + 2) * batch; /* this batch and the next; the third is the caller's */
    int inside = ws2_pool_inside(loader->pool);
    while (loader->position < loader->end && loader->position < limit && inside < 2 * batch) {
        struct job *job = &loader->ring[loader->position % slots];
        job->sample = loader->order[loader->position];
        job->error = (struct ws2_error){0};
        loader->label[loader->position % slots] = loader->sample[job->sample].label;
        loader->half[loader->position % slots] = loader->sample[job->sample].second;
        ws2_pool_give(loader->pool, job);
        loader->position++;
        inside++;
    }
}

int ws2_loader_next(struct ws2_loader *loader, struct ws2_batch *batch, struct ws2_error *error)
{
    if (loader->failed)
        return ws2_fail(error, WS2_ERR_INPUT, "an earlier frame could not be read");
    if (loader->batch >= loader->batches)
        return 0;
    feed(loader);
    const int64_t size = loader->options.batch;
    const int64_t first = loader->batch * size;
    const int64_t count = loader->end - first < size ? loader->end - first : size;
    for (int64_t i = 0; i < count; i++) {
        const struct job *job = ws2_pool_take(loader->pool);
        if (job->error.status < 0) {
            loader->failed = true;
            return ws2_fail(error, job->error.status, "%s", job->error.text);
        }
    }
    loader->batch++;
    feed(loader); /* the workers go on while the caller computes */
    const int64_t slot = first % (RING * size);
    const struct job *at = &loader->ring[slot]; /* the others of the batch lie behind it */
    *batch = (struct ws2_batch){.rgb = at->rgb[CENTRE],
                                .left = at->rgb[LEFT],
                                .right = at->rgb[RIGHT],
                                .flow_left = at->flow[LEFT],
                                .flow_right = at->flow[RIGHT],
                                .keep = at->keep,
                                .seeds = at->seeds,
                                .label = loader->label + slot,
                                .half = loader->half + slot,
                                .share = loader->share + slot,
                                .count = (int)count,
                                .size = loader->options.size,
                                .cells = loader->options.cells};
    return 1;
}
