#include "train/internal.h"

#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "pool/pool.h"

/* Batches in memory: the one the caller looks at and two that are filled meanwhile. */
#define RING 3

/* Pictures of a sample. */
enum { CENTRE, LEFT, RIGHT, PICTURES_MAX };

struct sample {
    int clip;
    int16_t label;
    bool second;   /* of the sequences of its camera, every other one */
    int64_t frame; /* the centre of a triplet */
};

/* One sample on its way into its place in a batch. */
struct job {
    int64_t sample; /* index into the table */
    int64_t epoch;
    uint8_t *rgb[PICTURES_MAX]; /* [size,size,3]; of triplets all, else the centre */
    float *flow[PICTURES_MAX];  /* [2,cells,cells]; of triplets LEFT and RIGHT */
    uint8_t *seeds;             /* [cells,cells]; NULL where not asked for */
    uint8_t *keep;              /* [size,size]; NULL where not asked for */
    float *share;               /* of the frame's pixels those that hold items */
    struct ws2_error error;
};

/* What one worker needs; reused from sample to sample. */
struct scratch {
    struct ws2_record *record;
    struct ws2_resizer *rgb, *mask, *seeds;
    uint8_t *keep, *grow; /* [size,size]: 1 where the sample's own pixels stay; work space */
    uint8_t *other,
        *hole; /* another frame [size,size,3], whose belt or items are needed, and where its items lie */
    struct ws2_flat_scratch flat;
};

struct ws2_loader {
    struct ws2_clips *clips;
    struct ws2_loader_options options;
    struct sample *sample;
    size_t capacity; /* bytes of sample */
    int64_t samples;
    int64_t *order;         /* of this epoch: samples entries */
    int64_t batch, batches; /* next batch to hand out, of the epoch */
    int64_t position, end;  /* next place in order to hand to the pool */
    struct job *ring;
    int pictures; /* of a sample: 1 or 3 */
    uint8_t *pixels[PICTURES_MAX];
    float *flow[PICTURES_MAX];
    uint8_t *seeds, *keep, *half;
    float *share;
    int64_t *label;
    struct scratch *scratch;
    struct ws2_pool *pool;
    bool failed;
};

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

/* ---- one picture ------------------------------------------------------------------------------------------ */

/* Sets every place within `margin` of a set one, along one line of n places `stride` apart. */
static void grow_line(uint8_t *to, const uint8_t *from, int n, int stride, int margin)
{
    int64_t last = -(int64_t)margin - 1; /* last set place seen */
    for (int i = 0; i < n; i++) {
        if (from[(int64_t)i * stride])
            last = i;
        to[(int64_t)i * stride] = i - last <= margin;
    }
    last = (int64_t)n + margin;
    for (int i = n - 1; i >= 0; i--) {
        if (from[(int64_t)i * stride])
            last = i;
        to[(int64_t)i * stride] |= last - i <= margin;
    }
}

void ws2_mask_grow(uint8_t *mask, uint8_t *scratch, int width, int height, int margin)
{
    for (int y = 0; y < height; y++)
        grow_line(scratch + (int64_t)y * width, mask + (int64_t)y * width, width, 1, margin);
    for (int x = 0; x < width; x++)
        grow_line(mask + x, scratch + x, height, width, margin);
}

/* The pixels of rgb where keep is not set become those of `from`: one colour (step 0), or a picture (step 3). */
static void replace(uint8_t *rgb, const uint8_t *keep, size_t pixels, const uint8_t *from, size_t step)
{
    for (size_t i = 0; i < pixels; i++) {
        if (!keep[i])
            memcpy(rgb + 3 * i, from + step * i, 3);
    }
}

static void invert(uint8_t *mask, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++)
        mask[i] = !mask[i];
}

/* A picture [side,side] of `bytes` bytes a pixel, 3 at most, mirrored left to right (x), upside down (y). */
static void mirror(uint8_t *picture, int side, int bytes, bool x, bool y)
{
    const size_t line = (size_t)side * (size_t)bytes, n = (size_t)bytes;
    for (int row = 0; x && row < side; row++) {
        uint8_t *a = picture + (size_t)row * line, *b = a + line - n;
        for (; a < b; a += n, b -= n) {
            uint8_t pixel[3];
            memcpy(pixel, a, n);
            memcpy(a, b, n);
            memcpy(b, pixel, n);
        }
    }
    for (int a = 0, b = side - 1; y && a < b; a++, b--) {
        uint8_t *top = picture + (size_t)a * line, *bottom = picture + (size_t)b * line;
        for (size_t i = 0; i < line; i++) {
            const uint8_t value = top[i];
            top[i] = bottom[i];
            bottom[i] = value;
        }
    }
}

static struct ws2_jitter draw_jitter(struct ws2_random *random, const struct ws2_loader_options *o)
{
    struct ws2_jitter jitter;
    int64_t order[4];
    jitter.brightness = (float)ws2_random_range(random, 1 - o->jitter, 1 + o->jitter);
    jitter.contrast = (float)ws2_random_range(random, 1 - o->jitter, 1 + o->jitter);
    jitter.saturation = (float)ws2_random_range(random, 1 - o->jitter, 1 + o->jitter);
    jitter.hue = (float)ws2_random_range(random, -o->hue, o->hue);
    ws2_random_permutation(random, order, 4);
    for (int i = 0; i < 4; i++)
        jitter.order[i] = (enum ws2_jitter_step)order[i];
    return jitter;
}

/* A picture [side,side] of `bytes` bytes a pixel, 3 at most, with rows and columns swapped. */
static void transpose(uint8_t *picture, int side, int bytes)
{
    const size_t n = (size_t)bytes, line = (size_t)side * n;
    for (size_t y = 0; y < (size_t)side; y++)
        for (size_t x = 0; x < y; x++) {
            uint8_t pixel[3], *a = picture + y * line + x * n, *b = picture + x * line + y * n;
            memcpy(pixel, a, n);
            memcpy(a, b, n);
            memcpy(b, pixel, n);
        }
}

/* Another light on what lies on the belt; all else keeps having no colour. */
static void relight(const struct ws2_light *light, struct ws2_random *random, size_t pixels,
                    const uint8_t *keep, uint8_t *rgb)
{
    uint8_t table[3][256];
    double gain[3];
    for (int c = 0; c < 3; c++)
        gain[c] = 1 + light->channel * ws2_random_normal(random);
    const double common = 1 + light->common * ws2_random_normal(random);
    const double offset = 255 * light->offset * ws2_random_normal(random) + 0.5;
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) {
            const double value = v * gain[c] * common + offset;
            table[c][v] = value < 0 ? 0 : value > 255 ? 255 : (uint8_t)value;
        }
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; keep[i] && c < 3; c++)
            rgb[3 * i + c] = table[c][rgb[3 * i + c]];
}

/* The rest of a dense sample, whose picture and seeds are mirrored already. */
static void augment_pixels(const struct ws2_loader_options *o, struct ws2_random *random, struct job *job,
                           bool x, bool y)
{
    mirror(job->keep, o->size, 1, x, y);
    relight(&o->light, random, (size_t)o->size * (size_t)o->size, job->keep, job->rgb[CENTRE]);
    if (ws2_random_uniform(random) >= 0.5 || !o->transpose)
        return;
    transpose(job->rgb[CENTRE], o->size, 3);
    transpose(job->keep, o->size, 1);
    if (job->seeds)
        transpose(job->seeds, o->cells, 1);
}

/* All numbers are drawn whatever is switched on, so that a switch changes nothing but its own part; those of the
 * neighbours come last, so that a centre is treated like a single frame. Order as in the authors' data: pictures with the
 * background already out are jittered, each frame of a triplet by itself. */
static void augment(const struct ws2_loader *loader, struct job *job)
{
    const struct ws2_loader_options *o = &loader->options;
    struct ws2_random random = ws2_train_random(o->seed, WS2_STREAM_AUGMENT, job->epoch, job->sample);
    struct ws2_jitter jitter = draw_jitter(&random, o);
    const bool x = ws2_random_uniform(&random) < 0.5 && o->flip_x;
    const bool y = ws2_random_uniform(&random) < 0.5 && o->flip_y;
    for (int i = 0; i < loader->pictures; i++) {
        if (i > 0)
            jitter = draw_jitter(&random, o);
        if (o->jitter > 0 || o->hue != 0)
            ws2_jitter_apply(job->rgb[i], (size_t)o->size * (size_t)o->size, &jitter);
        mirror(job->rgb[i], o->size, 3, x, y);
        if (i > 0)
            ws2_flow_mirror(job->flow[i], o->cells, x, y);
    }
    if (job->seeds)
        mirror(job->seeds, o->cells, 1, x, y);
    if (o->dense)
        augment_pixels(o, &random, job, x, y);
}

static const struct ws2_flat *flat_of(const struct ws2_loader *loader, int clip)
{
    const bool before = ws2_clips_at(loader->clips, clip)->role == WS2_ROLE_BEFORE;
    return loader->options.flat[before ? WS2_CLASS_BEFORE : WS2_CLASS_AFTER];
}

static int place_rgb(const struct ws2_loader *loader, struct scratch *scratch, int clip,
                     const struct ws2_tensor *rgb, uint8_t *out, struct ws2_error *error)
{
    const int size = loader->options.size;
    const int64_t h = rgb->shape.dim[0], w = rgb->shape.dim[1];
    const uint8_t *from = rgb->data;
    if (rgb->shape.dim[2] != 3 || h < 1 || w < 1 || h > WS2_IMAGE_SIDE_MAX || w > WS2_IMAGE_SIDE_MAX) {
        char text[64];
        return ws2_fail(error, WS2_ERR_INPUT, "rgb has shape %s, not [h,w,3]",
                        ws2_shape_text(&rgb->shape, text, sizeof text));
    }
    int status = ws2_flat_frame(flat_of(loader, clip), &scratch->flat, h, w, &from, error);
    if (status >= 0 && h == size && w == size) {
        memcpy(out, from, (size_t)size * (size_t)size * 3);
        return WS2_OK;
    }
    if (status >= 0)
        status = ws2_resizer_fit(&scratch->rgb, (int)w, (int)h, size, size, WS2_PIL_BILINEAR, error);
    return status < 0 ? status : ws2_resizer_u8(scratch->rgb, out, from, 3, error);
}

static int place_mask(const struct ws2_loader *loader, struct scratch *scratch, const struct ws2_tensor *rgb,
                      const struct ws2_tensor *fg, uint8_t *out, struct ws2_error *error)
{
    const int size = loader->options.size;
    const int64_t h = fg->shape.dim[0], w = fg->shape.dim[1];
    if (h != rgb->shape.dim[0] || w != rgb->shape.dim[1]) {
        char a[64], b[64];
        return ws2_fail(error, WS2_ERR_INPUT, "fg has shape %s, but rgb %s",
                        ws2_shape_text(&fg->shape, a, sizeof a), ws2_shape_text(&rgb->shape, b, sizeof b));
    }
    if (h == size && w == size) {
        memcpy(out, fg->data, (size_t)size * (size_t)size);
        return WS2_OK;
    }
    const int status = ws2_resizer_fit(&scratch->mask, (int)w, (int)h, size, size, WS2_NEAREST, error);
    return status < 0 ? status : ws2_resizer_u8(scratch->mask, out, fg->data, 1, error);
}

/* Says which frame the error is about: the one in the scratch record. */
static int blame(const struct ws2_loader *loader, const struct scratch *scratch, int clip,
                 struct ws2_error *error)
{
    const struct ws2_clip *c = ws2_clips_at(loader->clips, clip);
    ws2_error_prefix(error, "%s: %s: frame %lld", c->path, c->name,
                     (long long)ws2_record_frame(scratch->record));
    return error->status;
}

/* A frame at network size, and its foreground where the background goes. The record stays for more. */
static int place(struct ws2_loader *loader, struct scratch *scratch, int clip, int64_t frame, uint8_t *out,
                 uint8_t *mask, struct ws2_error *error)
{
    struct ws2_tensor rgb, fg;
    int status = ws2_clips_read(loader->clips, clip, frame, scratch->record, error);
    if (status < 0)
        return status;
    status = ws2_record_want(scratch->record, "rgb", WS2_U8, 3, &rgb, error);
    if (status >= 0)
        status = place_rgb(loader, scratch, clip, &rgb, out, error);
    if (status >= 0 && loader->options.background == WS2_BACKGROUND_REMOVE) {
        status = ws2_record_want(scratch->record, "fg", WS2_U8, 2, &fg, error);
        if (status >= 0)
            status = place_mask(loader, scratch, &rgb, &fg, mask, error);
    }
    return status < 0 ? blame(loader, scratch, clip, error) : WS2_OK;
}

static int place_seeds(const struct ws2_loader *loader, struct scratch *scratch, struct job *job)
{
    struct ws2_tensor seeds;
    const int cells = loader->options.cells;
    const char *name = loader->options.labels ? loader->options.labels : "seeds";
    int status = ws2_record_want(scratch->record, name, WS2_U8, 2, &seeds, &job->error);
    const int64_t h = status < 0 ? 0 : seeds.shape.dim[0], w = status < 0 ? 0 : seeds.shape.dim[1];
    if (status >= 0 && (h < 1 || w < 1 || h > WS2_IMAGE_SIDE_MAX || w > WS2_IMAGE_SIDE_MAX))
        status =
            ws2_fail(&job->error, WS2_ERR_INPUT, "%s have %lldx%lld cells", name, (long long)w, (long long)h);
    if (status >= 0)
        status = ws2_resizer_fit(&scratch->seeds, (int)w, (int)h, cells, cells, WS2_NEAREST, &job->error);
    if (status >= 0)
        status = ws2_resizer_u8(scratch->seeds, job->seeds, seeds.data, 1, &job->error);
    return status < 0 ? blame(loader, scratch, loader->sample[job->sample].clip, &job->error) : WS2_OK;
}

static int place_flow(const struct ws2_loader *loader, struct scratch *scratch, const char *name, float *out,
                      struct ws2_error *error)
{
    struct ws2_tensor rgb, flow;
    const int status = ws2_record_want(scratch->record, name, WS2_F16, 3, &flow, error);
    if (status < 0 || ws2_record_peek(scratch->record, "rgb", &rgb) != 1)
        return status;
    const int64_t h = rgb.shape.dim[0], w = rgb.shape.dim[1];
    char a[64], b[64];
    if (flow.shape.dim[0] != 2 || flow.shape.dim[1] != h || flow.shape.dim[2] != w)
        return ws2_fail(error, WS2_ERR_INPUT, "%s has shape %s, but rgb %s", name,
                        ws2_shape_text(&flow.shape, a, sizeof a), ws2_shape_text(&rgb.shape, b, sizeof b));
    if (!ws2_flow_to_cells(out, flow.data, (int)w, (int)h, loader->options.cells))
        return ws2_fail(error, WS2_ERR_INPUT, "%s is not finite", name);
    return WS2_OK;
}

/* From the centre, which the scratch record holds, to its neighbours. */
static int place_flows(const struct ws2_loader *loader, struct scratch *scratch, struct job *job)
{
    int status = place_flow(loader, scratch, "flow.prev", job->flow[LEFT], &job->error);
    if (status >= 0)
        status = place_flow(loader, scratch, "flow.next", job->flow[RIGHT], &job->error);
    return status < 0 ? blame(loader, scratch, loader->sample[job->sample].clip, &job->error) : WS2_OK;
}

/* ---- another belt ----------------------------------------------------------------------------------------- */

/* The mean colour of the picture where hole is not set; of the ImageNet mean where nothing is left. */
static void mean_colour(uint8_t mean[3], const uint8_t *rgb, const uint8_t *hole, size_t pixels)
{
    uint64_t sum[3] = {0}, n = 0;
    for (size_t i = 0; i < pixels; i++) {
        for (int c = 0; !hole[i] && c < 3; c++)
            sum[c] += rgb[3 * i + (size_t)c];
        n += !hole[i];
    }
    for (int c = 0; c < 3; c++)
        mean[c] = n ? (uint8_t)((sum[c] + n / 2) / n) : ws2_fill_colour[WS2_FILL_MEAN][c];
}

/* A sample of the camera, each with equal chance. A class has samples, or the loader would not have opened. */
static const struct sample *draw_sample(const struct ws2_loader *loader, struct ws2_random *random, int label)
{
    const struct sample *sample;
    do
        sample = &loader->sample[ws2_random_below(random, loader->samples)];
    while (sample->label != label);
    return sample;
}

/* scratch->other: the belt of a frame drawn from either camera with equal chance, whatever the sample's class, so that
 * the belt tells nothing of it. The items on it give way to the belt's mean colour. In validation the same frame
 * each time. */
static int draw_belt(struct ws2_loader *loader, struct scratch *scratch, const struct job *job,
                     struct ws2_error *error)
{
    const struct ws2_loader_options *o = &loader->options;
    const size_t pixels = (size_t)o->size * (size_t)o->size;
    struct ws2_random random =
        ws2_train_random(o->seed, WS2_STREAM_BELT, o->training ? job->epoch : 0, job->sample);
    const int camera = ws2_random_uniform(&random) < 0.5 ? WS2_CLASS_AFTER : WS2_CLASS_BEFORE;
    const struct sample *sample = draw_sample(loader, &random, camera);
    const int status =
        place(loader, scratch, sample->clip, sample->frame, scratch->other, scratch->hole, error);
    if (status < 0)
        return status;
    uint8_t mean[3];
    ws2_mask_grow(scratch->hole, scratch->grow, o->size, o->size, o->margin);
    mean_colour(mean, scratch->other, scratch->hole, pixels);
    invert(scratch->hole, pixels);
    replace(scratch->other, scratch->hole, pixels, mean, 0);
    return WS2_OK;
}

/* Puts belt or colour where the background was; in pictures of class bg, where the items were. */
static void remove_background(const struct ws2_loader_options *o, struct scratch *scratch, int label,
                              uint8_t *rgb)
{
    const size_t pixels = (size_t)o->size * (size_t)o->size;
    const bool belt = o->fill == WS2_FILL_BELT;
    if (label == WS2_CLASS_BG) {
        ws2_mask_grow(scratch->keep, scratch->grow, o->size, o->size, o->margin);
        invert(scratch->keep, pixels);
    }
    replace(rgb, scratch->keep, pixels, belt ? scratch->other : ws2_fill_colour[o->fill], belt ? 3 : 0);
}

/* keep: of items, 1 + the class of the camera that saw them; returns their share. */
static float tell_camera(uint8_t *keep, const uint8_t *fg, size_t pixels, int label)
{
    size_t items = 0;
    for (size_t i = 0; i < pixels; i++) {
        keep[i] = fg[i] ? (uint8_t)(1 + label) : 0;
        items += fg[i] != 0;
    }
    return (float)((double)items / (double)pixels);
}

/* Items of a frame after the sorter, drawn by chance and mirrored by two coins, come to lie where the picture has none. */
static int paste_items(struct ws2_loader *loader, struct scratch *scratch, struct job *job)
{
    const struct ws2_loader_options *o = &loader->options;
    const size_t pixels = (size_t)o->size * (size_t)o->size;
    struct ws2_random random = ws2_train_random(o->seed, WS2_STREAM_PASTE, job->epoch, job->sample);
    if (ws2_random_uniform(&random) >= o->paste)
        return WS2_OK;
    const bool x = ws2_random_uniform(&random) < 0.5, y = ws2_random_uniform(&random) < 0.5;
    const struct sample *sample = draw_sample(loader, &random, WS2_CLASS_AFTER);
    const int status =
        place(loader, scratch, sample->clip, sample->frame, scratch->other, scratch->hole, &job->error);
    if (status < 0)
        return status;
    mirror(scratch->other, o->size, 3, x, y);
    mirror(scratch->hole, o->size, 1, x, y);
    for (size_t i = 0; i < pixels; i++)
        if (scratch->hole[i] && !job->keep[i]) {
            memcpy(job->rgb[CENTRE] + 3 * i, scratch->other + 3 * i, 3);
            job->keep[i] = 1 + WS2_CLASS_AFTER;
        }
    return WS2_OK;
}

/* One picture of the sample, its background out. The flow is in the centre's record; the belt is drawn once. */
static int load_picture(struct ws2_loader *loader, struct scratch *scratch, struct job *job, int which)
{
    static const int offset[PICTURES_MAX] = {[CENTRE] = 0, [LEFT] = -1, [RIGHT] = 1};
    const struct ws2_loader_options *o = &loader->options;
    const struct sample *sample = &loader->sample[job->sample];
    int status = place(loader, scratch, sample->clip, sample->frame + offset[which], job->rgb[which],
                       scratch->keep, &job->error);
    if (status >= 0 && which == CENTRE && o->triplets)
        status = place_flows(loader, scratch, job);
    if (status >= 0 && o->seeds)
        status = place_seeds(loader, scratch, job);
    if (o->background != WS2_BACKGROUND_REMOVE)
        return status;
    if (status >= 0 && which == CENTRE && o->fill == WS2_FILL_BELT)
        status = draw_belt(loader, scratch, job, &job->error);
    if (status >= 0 && job->keep)
        *job->share = tell_camera(job->keep, scratch->keep, (size_t)o->size * (size_t)o->size, sample->label);
    if (status >= 0)
        remove_background(o, scratch, sample->label, job->rgb[which]);
    return status;
}

static int load(struct ws2_loader *loader, struct scratch *scratch, struct job *job)
{
    int status = WS2_OK;
    for (int i = 0; status >= 0 && i < loader->pictures; i++)
        status = load_picture(loader, scratch, job, i);
    if (status >= 0 && loader->options.training && loader->options.paste > 0)
        status = paste_items(loader, scratch, job);
    if (status >= 0 && loader->options.training)
        augment(loader, job);
    return status < 0 ? status : WS2_OK;
}

static void work(void *context, void *item, int worker)
{
    struct ws2_loader *loader = context;
    struct job *job = item;
    const int status = load(loader, &loader->scratch[worker], job);
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
