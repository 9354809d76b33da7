/* From logits to a set of masks: the arithmetic of the official generator, without a network. */
#include "models/sam2_generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- grids and crops ---------------------------------------------------------------------------------------- */

void sam2_grid(int n, double *point)
{
    const double first = 1 / (2.0 * n), step = n > 1 ? (1 - 2 * first) / (n - 1) : 0;
    for (int y = 0; y < n; y++) {
        for (int x = 0; x < n; x++) {
            *point++ = first + x * step;
            *point++ = first + y * step;
        }
    }
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The crops of one layer, n x n; returns how many have a pixel. */
static int64_t cut_layer(struct sam2_crop *crop, int64_t height, int64_t width, int layer, double overlap)
{
    const int64_t n = (int64_t)1 << layer, shorter = at_most(height, width);
    const int64_t shared = (int64_t)(overlap * (double)shorter * (2.0 / (double)n));
    const int64_t w = (shared * (n - 1) + width + n - 1) / n, h = (shared * (n - 1) + height + n - 1) / n;
    int64_t count = 0;
    for (int64_t i = 0; i < n * n; i++) {
        const int64_t x = (w - shared) * (i / n), y = (h - shared) * (i % n);
        if (x < width && y < height)
            crop[count++] = (struct sam2_crop){{x, y, at_most(x + w, width), at_most(y + h, height)}, layer};
    }
    return count;
}

int64_t sam2_crops(int64_t height, int64_t width, int layers, double overlap, struct sam2_crop **crops,
                   struct ws2_error *error)
{
    int64_t most = 1, count = 1;
    *crops = NULL;
    if (height < 1 || width < 1 || layers < 0 || layers > SAM2_CROP_LAYERS_MAX || !(overlap >= 0))
        return ws2_fail(error, WS2_ERR_USAGE, "%d layers of crops of %lldx%lld pixels", layers,
                        (long long)width, (long long)height);
    for (int i = 1; i <= layers; i++)
        most += (int64_t)1 << (2 * i);
    *crops = ws2_calloc((size_t)most, sizeof **crops);
    if (*crops == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    (*crops)[0] = (struct sam2_crop){{0, 0, width, height}, 0};
    for (int i = 1; i <= layers; i++)
        count += cut_layer(*crops + count, height, width, i, overlap);
    return count;
}

/* ---- logits to a mask --------------------------------------------------------------------------------------- */

/* Where the pixels of a side lie between the numbers of a row of logits. */
struct taps {
    int32_t *low, *high;
    float *share; /* of `high` */
};

static void fill_taps(struct taps *t, int64_t in, int64_t out)
{
    const float scale = (float)in / (float)out;
    for (int64_t i = 0; i < out; i++) {
        const float at = fmaxf(0, scale * ((float)i + 0.5f) - 0.5f);
        const int64_t low = at_most((int64_t)at, in - 1);
        t->low[i] = (int32_t)low;
        t->high[i] = (int32_t)at_most(low + 1, in - 1);
        t->share[i] = fminf(1, at - (float)low);
    }
}

/* One row of logits stretched to the width of the crop. */
WS2_CLONES static void stretch(float *restrict out, const float *restrict in, const struct taps *t,
                               int64_t count)
{
    const int32_t *low = t->low, *high = t->high;
    const float *share = t->share;
    for (int64_t i = 0; i < count; i++)
        out[i] = in[low[i]] * (1 - share[i]) + in[high[i]] * share[i];
}

struct levels {
    float low, middle, high;
};

struct counts {
    int64_t low, high;
};

/* A row between two stretched ones; set[i] = 1 above the middle level. */
WS2_CLONES static struct counts compare_row(uint8_t *restrict set, const float *restrict above,
                                            const float *restrict below, float share, int64_t count,
                                            struct levels levels)
{
    int32_t low = 0, high = 0;
    const float rest = 1 - share;
    for (int64_t i = 0; i < count; i++) {
        const float v = above[i] * rest + below[i] * share;
        low += v > levels.low;
        high += v > levels.high;
        set[i] = v > levels.middle;
    }
    return (struct counts){low, high};
}

/* Sets the bits of one row of the picture from column `x` on. */
static void put_row(struct ws2_bits *bits, int64_t y, int64_t x, const uint8_t *set, int64_t count)
{
    uint64_t *word = bits->word + y * bits->stride;
    for (int64_t i = 0; i < count; i++, x++)
        word[x / 64] |= (uint64_t)set[i] << (x % 64);
}

/* Memory of sam2_mask_make: taps of both sides, the two stretched rows and a row of bytes. */
struct workspace {
    struct taps across, down;
    float *row[2];
    uint8_t *set;
};

static void workspace_free(struct workspace *w)
{
    free(w->across.low);
    free(w->across.high);
    free(w->across.share);
    free(w->down.low);
    free(w->down.high);
    free(w->down.share);
    free(w->row[0]);
    free(w->row[1]);
    free(w->set);
}

static bool taps_make(struct taps *t, int64_t in, int64_t out)
{
    t->low = ws2_calloc((size_t)out, sizeof *t->low);
    t->high = ws2_calloc((size_t)out, sizeof *t->high);
    t->share = ws2_calloc((size_t)out, sizeof *t->share);
    if (t->low == NULL || t->high == NULL || t->share == NULL)
        return false;
    fill_taps(t, in, out);
    return true;
}

static bool workspace_make(struct workspace *w, int64_t rows, int64_t columns, int64_t height, int64_t width)
{
    w->row[0] = ws2_calloc((size_t)width, sizeof(float));
    w->row[1] = ws2_calloc((size_t)width, sizeof(float));
    w->set = ws2_calloc((size_t)width, 1);
    return w->row[0] && w->row[1] && w->set && taps_make(&w->across, columns, width) &&
           taps_make(&w->down, rows, height);
}

static struct counts fill_mask(struct sam2_mask *mask, const float *logit, int64_t columns,
                               const int64_t crop[4], struct workspace *w, struct levels levels)
{
    const int64_t width = crop[2] - crop[0], height = crop[3] - crop[1];
    struct counts all = {0, 0};
    int64_t held[2] = {-1, -1}; /* which rows of logits lie stretched in w->row, even ones in the first */
    for (int64_t y = 0; y < height; y++) {
        const int64_t row[2] = {w->down.low[y], w->down.high[y]};
        for (int i = 0; i < 2; i++) {
            if (held[row[i] % 2] != row[i])
                stretch(w->row[row[i] % 2], logit + row[i] * columns, &w->across, width);
            held[row[i] % 2] = row[i];
        }
        const struct counts c =
            compare_row(w->set, w->row[row[0] % 2], w->row[row[1] % 2], w->down.share[y], width, levels);
        all.low += c.low;
        all.high += c.high;
        put_row(&mask->bits, crop[1] + y, crop[0], w->set, width);
    }
    return all;
}

int sam2_mask_make(struct sam2_mask *mask, const float *logit, int64_t rows, int64_t columns,
                   const int64_t crop[4], int64_t height, int64_t width, double threshold, double offset,
                   struct ws2_error *error)
{
    struct workspace w = {0};
    const struct levels levels = {(float)(threshold - offset), (float)threshold, (float)(threshold + offset)};
    if (rows < 1 || columns < 1 || crop[0] < 0 || crop[1] < 0 || crop[2] <= crop[0] || crop[3] <= crop[1] ||
        crop[2] > width || crop[3] > height)
        return ws2_fail(error, WS2_ERR_USAGE, "a mask of %lldx%lld logits has no place in the picture",
                        (long long)columns, (long long)rows);
    const int status = ws2_bits_reset(&mask->bits, height, width, error);
    if (status < 0)
        return status;
    if (!workspace_make(&w, rows, columns, crop[3] - crop[1], crop[2] - crop[0])) {
        workspace_free(&w);
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    }
    const struct counts c = fill_mask(mask, logit, columns, crop, &w, levels);
    workspace_free(&w);
    mask->stability = (float)c.high / (float)c.low;
    sam2_box(&mask->bits, mask->box);
    if (ws2_bits_count(&mask->bits) > 0)
        for (int i = 0; i < 4; i++)
            mask->box[i] -= crop[i % 2];
    return WS2_OK;
}

/* ---- boxes -------------------------------------------------------------------------------------------------- */

void sam2_box(const struct ws2_bits *bits, int64_t box[4])
{
    bool any = false;
    box[0] = box[1] = box[2] = box[3] = 0;
    for (int64_t y = 0; y < bits->height; y++) {
        const uint64_t *word = bits->word + y * bits->stride;
        int64_t first = 0, last = bits->stride - 1;
        while (first <= last && word[first] == 0)
            first++;
        if (first > last)
            continue;
        while (word[last] == 0)
            last--;
        const int64_t left = 64 * first + __builtin_ctzll(word[first]);
        const int64_t right = 64 * last + 63 - __builtin_clzll(word[last]);
        box[0] = any && box[0] < left ? box[0] : left;
        box[2] = any && box[2] > right ? box[2] : right;
        box[1] = any ? box[1] : y;
        box[3] = y;
        any = true;
    }
}

bool sam2_near_crop_edge(const int64_t box[4], const int64_t crop[4], int64_t height, int64_t width)
{
    const int64_t picture[4] = {0, 0, width, height};
    for (int i = 0; i < 4; i++) {
        const int64_t side = box[i] + crop[i % 2];
        if (llabs(side - crop[i]) <= 20 && llabs(side - picture[i]) > 20)
            return true;
    }
    return false;
}

struct ranked {
    float score;
    int64_t index;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *p = a, *q = b;
    if (p->score != q->score)
        return p->score > q->score ? -1 : 1;
    return (p->index > q->index) - (p->index < q->index);
}

/* In float32, as the boxes are compared there. */
static float area(const int64_t *box)
{
    return ((float)box[2] - (float)box[0]) * ((float)box[3] - (float)box[1]);
}

static float box_iou(const int64_t *a, const int64_t *b)
{
    const float left = (float)(a[0] > b[0] ? a[0] : b[0]), right = (float)at_most(a[2], b[2]);
    const float top = (float)(a[1] > b[1] ? a[1] : b[1]), bottom = (float)at_most(a[3], b[3]);
    const float shared = fmaxf(0, right - left) * fmaxf(0, bottom - top);
    return shared / (area(a) + area(b) - shared);
}

int64_t sam2_nms(const int64_t *box, const float *score, int64_t count, double iou, int64_t *keep,
                 struct ws2_error *error)
{
    int64_t kept = 0;
    struct ranked *rank = ws2_calloc((size_t)count, sizeof *rank);
    if (rank == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    for (int64_t i = 0; i < count; i++)
        rank[i] = (struct ranked){score[i], i};
    qsort(rank, (size_t)count, sizeof *rank, compare_ranked);
    for (int64_t i = 0; i < count; i++) {
        bool good = true; /* 0/0, of boxes without area, is not above */
        for (int64_t j = 0; good && j < kept; j++)
            good = !((double)box_iou(box + 4 * keep[j], box + 4 * rank[i].index) > iou);
        if (good)
            keep[kept++] = rank[i].index;
    }
    free(rank);
    return kept;
}

/* ---- small regions ------------------------------------------------------------------------------------------ */

static void invert(struct ws2_bits *bits)
{
    const int tail = (int)(bits->width % 64);
    for (int64_t y = 0; y < bits->height; y++) {
        uint64_t *word = bits->word + y * bits->stride;
        for (int64_t i = 0; i < bits->stride; i++)
            word[i] = ~word[i];
        if (tail)
            word[bits->stride - 1] &= ((uint64_t)1 << tail) - 1;
    }
}

/* What is to become of a component: all with fewer than `limit` pixels go, unless that is all there are and the largest
 * is to stay. size[] becomes 1 for those that go. Returns whether any does. */
static bool condemn(int64_t *size, int64_t components, int64_t limit, bool spare)
{
    int64_t largest = 0, gone = 0;
    for (int64_t i = 1; i <= components; i++)
        if (largest == 0 || size[i] > size[largest])
            largest = i;
    for (int64_t i = 1; i <= components; i++) {
        size[i] = size[i] < limit;
        gone += size[i];
    }
    if (spare && gone == components && largest)
        size[largest] = 0;
    return gone > 0;
}

/* Clears components of fewer than `limit` pixels. 1 when there was one, also when it was spared; 0 or a status. */
static int clear_small(struct ws2_bits *bits, int64_t limit, bool spare, struct ws2_bits_scratch *scratch,
                       struct ws2_error *error)
{
    const size_t pixels = (size_t)(bits->height * bits->width);
    int32_t *label = ws2_calloc(pixels, sizeof *label);
    int64_t *size = NULL;
    int64_t status = label ? ws2_bits_label(bits, label, scratch, error) : WS2_ERR_SYSTEM;
    if (status >= 0)
        size = ws2_calloc((size_t)status + 1, sizeof *size);
    if (label == NULL || (status >= 0 && size == NULL))
        status = ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    if (status >= 0) {
        for (size_t i = 0; i < pixels; i++)
            size[label[i]]++;
        size[0] = 0;
        status = condemn(size, status, limit, spare);
        for (int64_t y = 0; status && y < bits->height; y++)
            for (int64_t x = 0; x < bits->width; x++)
                bits->word[y * bits->stride + x / 64] &=
                    ~((uint64_t)size[label[y * bits->width + x]] << (x % 64));
    }
    free(label);
    free(size);
    return (int)status;
}

int sam2_clean(struct ws2_bits *bits, int64_t area_min, struct ws2_bits_scratch *scratch,
               struct ws2_error *error)
{
    invert(bits);
    const int holes = clear_small(bits, area_min, false, scratch, error);
    invert(bits);
    if (holes < 0)
        return holes;
    const int islands = clear_small(bits, area_min, true, scratch, error);
    return islands < 0 ? islands : holes || islands;
}

/* ---- lists -------------------------------------------------------------------------------------------------- */

void sam2_found_free(struct sam2_found *found)
{
    for (int64_t i = 0; i < found->count; i++)
        ws2_bits_free(&found->mask[i].bits);
    free(found->mask);
    *found = (struct sam2_found){0};
}

int sam2_found_select(struct sam2_found *found, const int64_t *order, int64_t kept, struct ws2_error *error)
{
    struct sam2_mask *mask = ws2_calloc((size_t)kept, sizeof *mask);
    if (mask == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    for (int64_t i = 0; i < kept; i++) {
        mask[i] = found->mask[order[i]];
        found->mask[order[i]].bits = (struct ws2_bits){0}; /* moved */
    }
    sam2_found_free(found);
    *found = (struct sam2_found){mask, kept, kept};
    return WS2_OK;
}

/* Cleans all, with score 1 for those that had nothing to clean. */
static int clean_all(struct sam2_found *found, int64_t area_min, float *score, int64_t *box,
                     struct ws2_error *error)
{
    struct ws2_bits_scratch scratch = {0};
    int status = WS2_OK;
    for (int64_t i = 0; status >= 0 && i < found->count; i++) {
        status = sam2_clean(&found->mask[i].bits, area_min, &scratch, error);
        score[i] = status == 0;
        sam2_box(&found->mask[i].bits, box + 4 * i);
        if (status > 0)
            memcpy(found->mask[i].box, box + 4 * i, sizeof found->mask[i].box);
    }
    ws2_bits_scratch_free(&scratch);
    return status < 0 ? status : WS2_OK;
}

int sam2_found_clean(struct sam2_found *found, int64_t area_min, double iou, struct ws2_error *error)
{
    const size_t count = (size_t)found->count;
    float *score = ws2_calloc(count, sizeof *score);
    int64_t *box = ws2_calloc(count, 4 * sizeof *box), *keep = ws2_calloc(count, sizeof *keep);
    int64_t status = WS2_OK;
    if (score == NULL || box == NULL || keep == NULL)
        status = ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    if (status >= 0)
        status = clean_all(found, area_min, score, box, error);
    if (status >= 0)
        status = sam2_nms(box, score, found->count, iou, keep, error);
    if (status >= 0)
        status = sam2_found_select(found, keep, status, error);
    free(score);
    free(box);
    free(keep);
    return (int)status;
}
