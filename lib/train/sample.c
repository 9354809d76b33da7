/* One sample on its way from the clips into a batch: see train.h. */
#include "train/sample.h"

#include <stdlib.h>
#include <string.h>

#include "image/image.h"

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

/* Items of a frame after the sorter, drawn by chance and mirrored as pictures may be, come to lie where the picture has none. */
static int paste_items(struct ws2_loader *loader, struct scratch *scratch, struct job *job)
{
    const struct ws2_loader_options *o = &loader->options;
    const size_t pixels = (size_t)o->size * (size_t)o->size;
    struct ws2_random random = ws2_train_random(o->seed, WS2_STREAM_PASTE, job->epoch, job->sample);
    if (ws2_random_uniform(&random) >= o->paste)
        return WS2_OK;
    const bool x = ws2_random_uniform(&random) < 0.5 && o->flip_x;
    const bool y = ws2_random_uniform(&random) < 0.5 && o->flip_y;
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

int ws2_sample_load(struct ws2_loader *loader, struct scratch *scratch, struct job *job)
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
