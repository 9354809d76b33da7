/* Votes: by hand, and against walks over all pixels and all pairs of items. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "mask/mask.h"

enum { H_MAX = 14, W_MAX = 70, PIXELS_MAX = H_MAX * W_MAX, MASKS_MAX = 9, FRAMES = 7 };

/* after, something else, before: planes are found by their numbers. */
enum { AFTER, OTHER, BEFORE, CLASSES };

struct frame {
    int64_t height, width;
    uint16_t prob[CLASSES * PIXELS_MAX];
    uint8_t fg[PIXELS_MAX];
    uint8_t mask[MASKS_MAX * PIXELS_MAX];
    int64_t masks;
    uint16_t flow[2][2 * PIXELS_MAX];
};

static struct ws2_vote_maps maps_of(const struct frame *frame, bool fg)
{
    return (struct ws2_vote_maps){.prob = frame->prob,
                                  .classes = CLASSES,
                                  .height = frame->height,
                                  .width = frame->width,
                                  .before = BEFORE,
                                  .after = AFTER,
                                  .fg = fg ? frame->fg : NULL};
}

static struct ws2_instances stack_of(const struct frame *frame)
{
    return (struct ws2_instances){
        .count = frame->masks, .height = frame->height, .width = frame->width, .stack = frame->mask};
}

static void set_p(struct frame *frame, int64_t pixel, float p, bool item)
{
    const int64_t pixels = frame->height * frame->width;
    frame->prob[BEFORE * pixels + pixel] = item ? ws2_half_from_float(p) : 0;
    frame->prob[AFTER * pixels + pixel] = item ? ws2_half_from_float(1 - p) : 0;
    frame->prob[OTHER * pixels + pixel] = 0;
    frame->fg[pixel] = item;
}

static float p_of(const struct frame *frame, const uint16_t *prob, int64_t pixel)
{
    return ws2_half_to_float(prob[BEFORE * frame->height * frame->width + pixel]);
}

/* A frame of one row: p of each pixel, negative for belt. */
static void row(struct frame *frame, int width, const float *p)
{
    *frame = (struct frame){.height = 1, .width = width};
    for (int i = 0; i < width; i++)
        set_p(frame, i, p[i], p[i] >= 0);
}

static struct ws2_vote plain(void)
{
    struct ws2_vote vote = ws2_vote_defaults();
    vote.least = 1;
    return vote;
}

static void vote_row(const struct ws2_vote *vote, const struct frame *frame, const float *want)
{
    struct ws2_vote_scratch scratch = {0};
    const struct ws2_vote_maps maps = maps_of(frame, true);
    const struct ws2_instances stack = stack_of(frame);
    static uint16_t out[CLASSES * PIXELS_MAX];
    assert_int_equal(ws2_vote_check(&maps, NULL), 0);
    assert_int_equal(ws2_vote_regions(vote, &scratch, &maps, &stack, out, NULL), 0);
    for (int64_t i = 0; i < frame->width; i++) {
        const bool item = frame->fg[i];
        assert_float_equal(p_of(frame, out, i), item ? want[i] : 0, 1e-3);
        assert_float_equal(ws2_half_to_float(out[AFTER * frame->width + i]), item ? 1 - want[i] : 0, 1e-3);
        assert_int_equal(out[OTHER * frame->width + i], 0);
    }
    ws2_vote_scratch_free(&scratch);
}

static void add_mask(struct frame *frame, int first, int count)
{
    memset(frame->mask + frame->masks++ * frame->width + first, 1, (size_t)count);
}

/* ---- regions by hand ------------------------------------------------------------------------------------------- */

static void what_a_region_says(void **state)
{
    (void)state;
    struct frame frame;
    struct ws2_vote vote = plain();
    row(&frame, 7, (const float[]){.25f, .5f, .5f, 1, -1, .125f, .75f});
    add_mask(&frame, 0, 5); /* a pixel of belt in it */
    vote_row(&vote, &frame, (const float[]){.5625f, .5625f, .5625f, .5625f, 0, .125f, .75f});
    vote.rule = WS2_VOTE_MEDIAN;
    vote_row(&vote, &frame, (const float[]){.5f, .5f, .5f, .5f, 0, .125f, .75f});
    vote.rule = WS2_VOTE_SHARE; /* the level itself reaches it */
    vote_row(&vote, &frame, (const float[]){.75f, .75f, .75f, .75f, 0, .125f, .75f});
    vote.level = .75;
    vote.weight = .5;
    vote_row(&vote, &frame, (const float[]){.25f, .375f, .375f, .625f, 0, .125f, .75f});
    vote.weight = 0;
    vote_row(&vote, &frame, (const float[]){.25f, .5f, .5f, 1, 0, .125f, .75f});
    vote.rule = WS2_VOTE_MEDIAN; /* of two: the mean */
    vote.weight = 1;
    row(&frame, 2, (const float[]){.25f, .75f});
    add_mask(&frame, 0, 2);
    vote_row(&vote, &frame, (const float[]){.5f, .5f});
}

static void which_regions_say_nothing(void **state)
{
    (void)state;
    struct frame frame;
    struct ws2_vote vote = plain();
    row(&frame, 8, (const float[]){-1, -1, -1, .25f, .75f, -1, 0, 1});
    vote_row(&vote, &frame, (const float[]){0, 0, 0, .25f, .75f, 0, 0, 1}); /* no masks */
    add_mask(&frame, 0, 0);
    add_mask(&frame, 0, 2);
    vote_row(&vote, &frame, (const float[]){0, 0, 0, .25f, .75f, 0, 0, 1}); /* empty, and belt */
    add_mask(&frame, 0, 5);                                                 /* 2 of 5 are no belt */
    vote_row(&vote, &frame, (const float[]){0, 0, 0, .25f, .75f, 0, 0, 1});
    vote.cover = .4;
    vote_row(&vote, &frame, (const float[]){0, 0, 0, .5f, .5f, 0, 0, 1});
    vote.cover = .5;
    add_mask(&frame, 1, 4); /* 2 of 4 */
    vote_row(&vote, &frame, (const float[]){0, 0, 0, .5f, .5f, 0, 0, 1});
    vote.least = 3;
    vote_row(&vote, &frame, (const float[]){0, 0, 0, .25f, .75f, 0, 0, 1});
    vote.least = 2;
    vote_row(&vote, &frame, (const float[]){0, 0, 0, .5f, .5f, 0, 0, 1});
}

static void which_region_a_pixel_takes(void **state)
{
    (void)state;
    struct frame frame;
    struct ws2_vote vote = plain();
    row(&frame, 64, (const float[64]){0});
    for (int i = 0; i < 64; i++)
        set_p(&frame, i, i < 48 ? .25f : .75f, true);
    add_mask(&frame, 0, 64);  /* v = 3/64, and 4/64 */
    add_mask(&frame, 0, 48);  /* 4/48 */
    add_mask(&frame, 48, 16); /* 4/16 */
    add_mask(&frame, 48, 16); /* the same again */
    add_mask(&frame, 63, 1);
    float want[64];
    for (int i = 0; i < 64; i++)
        want[i] = i < 48 ? .25f : .375f;
    vote_row(&vote, &frame, want);
    vote.prefer = WS2_VOTE_COARSE;
    for (int i = 0; i < 48; i++)
        want[i] = .375f;
    vote_row(&vote, &frame, want);
    vote.prefer = WS2_VOTE_FINE;
    for (int i = 0; i < 64; i++)
        want[i] = i < 48 ? .25f : .75f;
    vote_row(&vote, &frame, want);
    /* Of equals the first: two that overlap, both of two pixels. */
    row(&frame, 3, (const float[]){0, .5f, 1});
    add_mask(&frame, 1, 2);
    add_mask(&frame, 0, 2);
    for (int prefer = WS2_VOTE_EVEN; prefer <= WS2_VOTE_COARSE; prefer++) {
        vote.prefer = (enum ws2_vote_prefer)prefer;
        vote_row(&vote, &frame, (const float[]){.25f, .75f, .75f});
    }
}

static void frames_of_little(void **state)
{
    (void)state;
    struct frame frame;
    struct ws2_vote vote = plain();
    struct ws2_vote_scratch scratch = {0};
    static uint16_t out[CLASSES * PIXELS_MAX];
    row(&frame, 1, (const float[]){.625f});
    add_mask(&frame, 0, 1);
    for (int rule = WS2_VOTE_MEAN; rule <= WS2_VOTE_SHARE; rule++) {
        vote.rule = (enum ws2_vote_rule)rule;
        vote_row(&vote, &frame, (const float[]){rule == WS2_VOTE_SHARE ? 1 : .625f});
    }
    frame = (struct frame){.width = 5, .masks = 3};
    const struct ws2_vote_maps maps = maps_of(&frame, false);
    struct ws2_instances many = stack_of(&frame);
    many.count = (int64_t)1 << 60; /* of no pixels */
    assert_int_equal(ws2_vote_check(&maps, NULL), 0);
    assert_int_equal(ws2_vote_regions(&vote, &scratch, &maps, &many, out, NULL), 0);
    ws2_vote_mask(&maps, .5f, frame.mask);
    ws2_vote_scratch_free(&scratch);
}

static void what_is_refused(void **state)
{
    (void)state;
    struct frame frame;
    struct ws2_vote vote = plain();
    struct ws2_vote_scratch scratch = {0};
    struct ws2_error error = {0};
    static uint16_t out[CLASSES * PIXELS_MAX];
    static const uint16_t bad[] = {0x3C01, 0x7C00, 0x7E00, 0x8001, 0xBC00, 0xFE00};
    row(&frame, 3, (const float[]){0, .5f, 1});
    const struct ws2_vote_maps maps = maps_of(&frame, true);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int at = 0; at < CLASSES * 3; at++) {
            const uint16_t good = frame.prob[at];
            frame.prob[at] = bad[i];
            assert_int_equal(ws2_vote_check(&maps, NULL), WS2_ERR_INPUT);
            frame.prob[at] = good;
        }
    frame.prob[0] = 0x8000; /* -0 is 0 */
    assert_int_equal(ws2_vote_check(&maps, NULL), 0);
    struct ws2_vote_maps large = maps;
    large.height = (int64_t)1 << 40;
    large.width = (int64_t)1 << 40;
    assert_int_equal(ws2_vote_check(&large, NULL), WS2_ERR_INPUT);
    struct ws2_instances other = stack_of(&frame);
    other.width = 2;
    assert_int_equal(ws2_vote_regions(&vote, &scratch, &maps, &other, out, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "masks are of 2 x 1 pixels, the maps of 3 x 1");
    const uint16_t twice[6] = {1, 0, 0, 0, 1, 0};
    const struct ws2_instances layers = {.layers = 2, .height = 1, .width = 3, .layer = twice};
    assert_int_equal(ws2_vote_regions(&vote, &scratch, &maps, &layers, out, NULL), WS2_ERR_INPUT);
    ws2_vote_scratch_free(&scratch);
}

static void masks_and_what_counts(void **state)
{
    (void)state;
    struct frame frame;
    uint8_t mask[5];
    row(&frame, 5, (const float[]){0, .5f, 1, -1, .25f});
    frame.prob[BEFORE * 5 + 3] = ws2_half_from_float(.875f); /* marked, though belt */
    frame.prob[AFTER * 5 + 0] = 0x8000;                      /* all of it is zero */
    struct ws2_vote_maps maps = maps_of(&frame, true);
    ws2_vote_mask(&maps, .5f, mask);
    assert_memory_equal(mask, ((const uint8_t[]){0, 1, 1, 0, 0}), 5);
    ws2_vote_mask(&maps, 0, mask);
    assert_memory_equal(mask, ((const uint8_t[]){1, 1, 1, 0, 1}), 5);
    maps.fg = NULL;
    ws2_vote_mask(&maps, 0, mask);
    assert_memory_equal(mask, ((const uint8_t[]){0, 1, 1, 1, 1}), 5);
    maps.after = -1; /* a stream without that class: its plane is one like others */
    ws2_vote_mask(&maps, .75f, mask);
    assert_memory_equal(mask, ((const uint8_t[]){0, 0, 1, 1, 0}), 5);
}

/* ---- regions against all pixels ------------------------------------------------------------------------------ */

static int rising(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The ballot over values, which are sorted, and their variance before that. */
static double slow_ballot(const struct ws2_vote *vote, float *value, int count, double *variance)
{
    double sum = 0, squares = 0;
    int high = 0;
    for (int i = 0; i < count; i++) {
        sum += value[i];
        squares += (double)value[i] * value[i];
        high += value[i] >= (float)vote->level;
    }
    *variance = fmax(squares / count - sum / count * (sum / count), 0);
    qsort(value, (size_t)count, sizeof *value, rising);
    if (vote->rule == WS2_VOTE_MEDIAN)
        return (value[(count - 1) / 2] + (double)value[count / 2]) / 2;
    return vote->rule == WS2_VOTE_SHARE ? (double)high / count : sum / count;
}

static bool counts(const struct ws2_vote_maps *maps, int64_t pixel)
{
    bool any = false;
    for (int64_t c = 0; c < maps->classes; c++)
        any |= ws2_half_to_float(maps->prob[c * maps->height * maps->width + pixel]) != 0;
    return maps->fg ? maps->fg[pixel] != 0 : any;
}

struct slow_region {
    bool votes;
    double cost, ballot;
};

static struct slow_region slow_region(const struct ws2_vote *vote, const struct frame *frame,
                                      const struct ws2_vote_maps *maps, const uint8_t *mask)
{
    const int64_t pixels = frame->height * frame->width;
    float value[PIXELS_MAX];
    int count = 0, area = 0;
    double variance;
    for (int64_t i = 0; i < pixels; i++) {
        area += mask[i] != 0;
        if (mask[i] && counts(maps, i))
            value[count++] = p_of(frame, frame->prob, i);
    }
    if (count == 0 || count < vote->least || count < vote->cover * area)
        return (struct slow_region){0};
    const double ballot = slow_ballot(vote, value, count, &variance);
    const double costs[] = {variance + WS2_VOTE_NOISE / count, count, -count};
    return (struct slow_region){true, costs[vote->prefer], ballot};
}

static void set_voted(const struct ws2_vote *vote, const struct frame *frame, int64_t pixel, double ballot,
                      uint16_t *out)
{
    const int64_t pixels = frame->height * frame->width;
    const float p = (float)((1 - vote->weight) * p_of(frame, frame->prob, pixel) + vote->weight * ballot);
    out[BEFORE * pixels + pixel] = ws2_half_from_float(p);
    out[AFTER * pixels + pixel] = ws2_half_from_float(1 - p);
}

/* Each pixel looks at every region. item[pixels]: the one it takes, from 1, or 0. */
static void slow_regions(const struct ws2_vote *vote, const struct frame *frame,
                         const struct ws2_vote_maps *maps, uint16_t *out, int *item)
{
    const int64_t pixels = frame->height * frame->width;
    struct slow_region region[MASKS_MAX];
    memcpy(out, frame->prob, (size_t)(CLASSES * pixels) * sizeof *out);
    for (int64_t k = 0; k < frame->masks; k++)
        region[k] = slow_region(vote, frame, maps, frame->mask + k * pixels);
    for (int64_t i = 0; i < pixels; i++) {
        item[i] = 0;
        for (int64_t k = 0; k < frame->masks; k++)
            if (counts(maps, i) && frame->mask[k * pixels + i] && region[k].votes &&
                (item[i] == 0 || region[k].cost < region[item[i] - 1].cost))
                item[i] = (int)k + 1;
        if (item[i] > 0)
            set_voted(vote, frame, i, region[item[i] - 1].ballot, out);
    }
}

/* Rectangles with holes; some the same as one before, some inside it. */
static void random_masks(struct ws2_random *random, struct frame *frame)
{
    const int64_t h = frame->height, w = frame->width, pixels = h * w;
    frame->masks = ws2_random_below(random, MASKS_MAX + 1);
    for (int64_t k = 0; k < frame->masks; k++) {
        uint8_t *mask = frame->mask + k * pixels;
        const int64_t top = ws2_random_below(random, h), left = ws2_random_below(random, w);
        const int64_t bottom = top + ws2_random_below(random, h), right = left + ws2_random_below(random, w);
        const bool within = k > 0 && ws2_random_below(random, 3) == 0;
        for (int64_t i = 0; i < pixels; i++) {
            mask[i] = i / w >= top && i / w <= bottom && i % w >= left && i % w <= right &&
                      ws2_random_below(random, 9) > 0;
            if (within)
                mask[i] &= mask[i - pixels];
        }
        if (k > 0 && ws2_random_below(random, 6) == 0)
            memcpy(mask, mask - pixels, (size_t)pixels);
    }
}

/* Values of a few levels, so that ties are there. */
static void random_frame(struct ws2_random *random, struct frame *frame, int64_t height, int64_t width)
{
    const int64_t levels = ws2_random_below(random, 2) ? 5 : 1000;
    *frame = (struct frame){.height = height, .width = width};
    for (int64_t i = 0; i < height * width; i++)
        set_p(frame, i, (float)ws2_random_below(random, levels) / (float)(levels - 1),
              ws2_random_below(random, 4) > 0);
    random_masks(random, frame);
}

static struct ws2_vote random_vote(struct ws2_random *random)
{
    static const double covers[] = {0, .5, .75, 1}, weights[] = {1, 1, .5, 0};
    return (struct ws2_vote){.rule = (enum ws2_vote_rule)ws2_random_below(random, 3),
                             .prefer = (enum ws2_vote_prefer)ws2_random_below(random, 3),
                             .level = .25 * (double)ws2_random_below(random, 5),
                             .least = 1 + ws2_random_below(random, 4) * 5,
                             .cover = covers[ws2_random_below(random, 4)],
                             .weight = weights[ws2_random_below(random, 4)],
                             .agree = .5 + .125 * (double)ws2_random_below(random, 4),
                             .reach = (int)ws2_random_below(random, 4)};
}

/* The same masks in layers. */
static void in_layers(const struct frame *frame, struct ws2_layers *layers)
{
    struct ws2_bits mask = {0};
    assert_int_equal(ws2_layers_reset(layers, frame->height, frame->width, NULL), 0);
    assert_int_equal(ws2_bits_reset(&mask, frame->height, frame->width, NULL), 0);
    for (int64_t k = 0; k < frame->masks; k++) {
        ws2_bits_from_bytes(&mask, frame->mask + k * frame->height * frame->width);
        assert_int_equal(ws2_layers_add(layers, &mask, NULL), 0);
    }
    ws2_bits_free(&mask);
}

static void regions_as_all_pixels_have_it(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(23, 5);
    struct ws2_vote_scratch scratch = {0};
    struct ws2_layers layers = {0};
    static struct frame frame;
    static uint16_t want[CLASSES * PIXELS_MAX], out[CLASSES * PIXELS_MAX];
    int item[PIXELS_MAX];
    int64_t changed = 0;
    for (int round = 0; round < 1500; round++) {
        random_frame(&random, &frame, 1 + ws2_random_below(&random, H_MAX),
                     1 + ws2_random_below(&random, W_MAX));
        const struct ws2_vote vote = random_vote(&random);
        const struct ws2_vote_maps maps = maps_of(&frame, round % 3 > 0);
        const struct ws2_instances stack = stack_of(&frame);
        const size_t bytes = (size_t)(CLASSES * frame.height * frame.width) * sizeof *out;
        slow_regions(&vote, &frame, &maps, want, item);
        assert_int_equal(ws2_vote_regions(&vote, &scratch, &maps, &stack, out, NULL), 0);
        assert_memory_equal(out, want, bytes);
        in_layers(&frame, &layers);
        const struct ws2_instances layered = {
            .layers = layers.layers, .height = frame.height, .width = frame.width, .layer = layers.layer};
        assert_int_equal(ws2_vote_regions(&vote, &scratch, &maps, &layered, out, NULL), 0);
        assert_memory_equal(out, want, bytes);
        changed += memcmp(want, frame.prob, bytes) != 0;
    }
    assert_true(changed > 500);
    ws2_layers_free(&layers);
    ws2_vote_scratch_free(&scratch);
}

/* ---- tracks ------------------------------------------------------------------------------------------------------ */

/* A clip and what its frames lend to each other. */
struct clip {
    struct frame frame[FRAMES];
    struct ws2_vote_frame *note[FRAMES];
    int frames;
    bool masks; /* items are regions */
};

/* Flow of whole pixels everywhere. */
static void set_flow(struct frame *frame, int way, float u, float v)
{
    const int64_t pixels = frame->height * frame->width;
    for (int64_t i = 0; i < pixels; i++) {
        frame->flow[way][i] = ws2_half_from_float(u);
        frame->flow[way][pixels + i] = ws2_half_from_float(v);
    }
}

/* A belt that moves to the right, in frames of 6 x 40. */
static void empty_clip(struct clip *clip, int frames, float speed)
{
    *clip = (struct clip){.frames = frames};
    for (int t = 0; t < frames; t++) {
        clip->frame[t].height = 6;
        clip->frame[t].width = 40;
        set_flow(&clip->frame[t], WS2_TO_NEXT, speed, 0);
        set_flow(&clip->frame[t], WS2_TO_PREVIOUS, -speed, 0);
    }
}

/* A rectangle of rows 1..4, as far as it is in the picture. */
static void draw(struct frame *frame, int left, int width, float p)
{
    for (int y = 1; y <= 4; y++)
        for (int x = left; x < left + width; x++)
            if (x >= 0 && x < frame->width)
                set_p(frame, y * frame->width + x, p, true);
}

static void link_clip(struct clip *clip, const struct ws2_vote *vote)
{
    struct ws2_vote_scratch scratch = {0};
    for (int t = 0; t < clip->frames; t++) {
        const struct frame *frame = &clip->frame[t];
        const struct ws2_vote_maps maps = maps_of(frame, true);
        const struct ws2_instances stack = stack_of(frame);
        const struct ws2_shape shape = ws2_shape_3(2, frame->height, frame->width);
        clip->note[t] = ws2_vote_frame_new();
        assert_non_null(clip->note[t]);
        /* Filled twice: what was there before does not show. */
        for (int i = 0; i < 2; i++)
            assert_int_equal(ws2_vote_frame_items(clip->note[t], vote, &scratch, &maps,
                                                  clip->masks ? &stack : NULL, t, NULL),
                             0);
        for (int way = 0; way < 2; way++)
            assert_int_equal(
                ws2_vote_frame_flow(clip->note[t], (enum ws2_fuse_way)way, frame->flow[way], &shape, NULL),
                0);
        assert_int_equal(ws2_vote_frame_link(clip->note[t], vote, t > 0 ? clip->note[t - 1] : NULL, NULL), 0);
    }
    ws2_vote_scratch_free(&scratch);
}

static void free_clip(struct clip *clip)
{
    for (int t = 0; t < clip->frames; t++)
        ws2_vote_frame_free(clip->note[t]);
}

static void vote_clip(const struct clip *clip, const struct ws2_vote *vote, int t, uint16_t *out)
{
    struct ws2_vote_scratch scratch = {0};
    const struct ws2_vote_frame *window[2 * FRAMES + 1] = {0};
    const struct ws2_vote_maps maps = maps_of(&clip->frame[t], true);
    for (int k = -vote->reach; k <= vote->reach; k++)
        if (t + k >= 0 && t + k < clip->frames)
            window[FRAMES + k] = clip->note[t + k];
    assert_int_equal(ws2_vote_tracks(vote, &scratch, &maps, window + FRAMES, out, NULL), 0);
    ws2_vote_scratch_free(&scratch);
}

/* p of a pixel of row 2 after the vote. */
static float voted(struct clip *clip, const struct ws2_vote *vote, int t, int x)
{
    static uint16_t out[CLASSES * PIXELS_MAX];
    vote_clip(clip, vote, t, out);
    return p_of(&clip->frame[t], out, 2 * 40 + x);
}

static void an_item_is_one_over_frames(void **state)
{
    (void)state;
    static struct clip clip;
    struct ws2_vote vote = plain();
    static const float p[] = {0, .25f, .5f, .75f, 1};
    empty_clip(&clip, 5, 3);
    for (int t = 0; t < 5; t++) {
        draw(&clip.frame[t], 5 + 3 * t, 6, p[t]);
        draw(&clip.frame[t], 20 + 3 * t, 4, .125f);
    }
    link_clip(&clip, &vote);
    static const float near[] = {.25f, .375f, .5f, .625f,
                                 .75f}; /* two frames on each side, and fewer at the ends */
    for (int t = 0; t < 5; t++) {
        assert_float_equal(voted(&clip, &vote, t, 5 + 3 * t), near[t], 1e-3);
        assert_float_equal(voted(&clip, &vote, t, 20 + 3 * t), .125f, 1e-3);
        assert_float_equal(voted(&clip, &vote, t, 0), 0, 0);
    }
    vote.reach = 0;
    assert_float_equal(voted(&clip, &vote, 1, 8), .25f, 1e-3);
    vote.reach = 1;
    assert_float_equal(voted(&clip, &vote, 4, 17), .875f, 1e-3);
    vote.reach = 6;
    vote.rule = WS2_VOTE_SHARE;
    assert_float_equal(voted(&clip, &vote, 0, 5), .6f, 1e-3);
    vote.rule = WS2_VOTE_MEDIAN;
    vote.least = 120;
    assert_float_equal(voted(&clip, &vote, 0, 5), .5f, 1e-3);
    vote.least = 121; /* in all frames together */
    assert_float_equal(voted(&clip, &vote, 0, 5), 0, 1e-3);
    free_clip(&clip);
}

/* Pixels weigh, not frames: of 24 pixels 12 are left in the last frame. */
static void an_item_leaves_the_picture(void **state)
{
    (void)state;
    static struct clip clip;
    struct ws2_vote vote = plain();
    empty_clip(&clip, 4, 3);
    for (int t = 0; t < 4; t++)
        draw(&clip.frame[t], 31 + 3 * t, 6, t == 2 ? 1 : 0);
    link_clip(&clip, &vote);
    assert_float_equal(voted(&clip, &vote, 1, 34), 12.0 / 60, 1e-3); /* 24 + 24 + 12, and frame 3 has none */
    assert_float_equal(voted(&clip, &vote, 2, 39), 12.0 / 60, 1e-3);
    free_clip(&clip);
    empty_clip(&clip, 3, -8); /* it comes in at the left when the belt runs backwards in time */
    draw(&clip.frame[0], 8, 6, 0);
    draw(&clip.frame[1], 0, 6, 1);
    link_clip(&clip, &vote);
    assert_float_equal(voted(&clip, &vote, 0, 8), .5f, 1e-3);
    assert_float_equal(voted(&clip, &vote, 1, 0), .5f, 1e-3);
    free_clip(&clip);
}

/* Two that touch are a new item: the track ends there, unless one is small beside the other. */
static void items_that_touch(void **state)
{
    (void)state;
    static struct clip clip;
    struct ws2_vote vote = plain();
    empty_clip(&clip, 3, 2);
    draw(&clip.frame[0], 4, 5, 0);
    draw(&clip.frame[0], 10, 5, 1);
    draw(&clip.frame[1], 6, 11, .5f); /* the gap has closed */
    draw(&clip.frame[2], 8, 5, 0);
    draw(&clip.frame[2], 14, 5, 1);
    link_clip(&clip, &vote);
    for (int t = 0; t < 3; t += 2) {
        assert_float_equal(voted(&clip, &vote, t, 4 + 2 * t), 0, 0);
        assert_float_equal(voted(&clip, &vote, t, 10 + 2 * t), 1, 0);
    }
    assert_float_equal(voted(&clip, &vote, 1, 8), .5f, 0);
    free_clip(&clip);
    empty_clip(&clip, 2, 2);
    draw(&clip.frame[0], 4, 9, 0);
    draw(&clip.frame[0], 14, 1, 1);
    draw(&clip.frame[1], 6, 11, .5f);
    link_clip(&clip, &vote);
    assert_float_equal(voted(&clip, &vote, 0, 4), .5 * 44 / 80,
                       1e-3); /* nine columns of eleven are this one */
    assert_float_equal(voted(&clip, &vote, 0, 14), 1, 0);
    free_clip(&clip);
    vote.agree = .85; /* 9 / 11 is less */
    link_clip(&clip, &vote);
    assert_float_equal(voted(&clip, &vote, 0, 4), 0, 0);
    free_clip(&clip);
}

/* One way only is not enough, nor are vectors that are no numbers or lead outside. */
static void both_ways_must_agree(void **state)
{
    (void)state;
    static struct clip clip;
    const float wild[] = {NAN, INFINITY, -INFINITY, 60000, -60000, 20};
    struct ws2_vote vote = plain();
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++)
        for (int way = 0; way < 2; way++) {
            empty_clip(&clip, 2, 0);
            draw(&clip.frame[0], 4, 5, 0);
            draw(&clip.frame[1], 4, 5, 1);
            set_flow(&clip.frame[way], way, wild[i], i % 2 ? 0 : wild[i]);
            link_clip(&clip, &vote);
            assert_float_equal(voted(&clip, &vote, 0, 4), 0, 0);
            assert_float_equal(voted(&clip, &vote, 1, 4), 1, 0);
            free_clip(&clip);
        }
}

static void what_a_frame_refuses(void **state)
{
    (void)state;
    static struct frame frame, other;
    struct ws2_vote_scratch scratch = {0};
    struct ws2_error error = {0};
    const struct ws2_vote vote = plain();
    struct ws2_vote_frame *note[2] = {ws2_vote_frame_new(), ws2_vote_frame_new()};
    frame = (struct frame){.height = 2, .width = 3};
    other = (struct frame){.height = 2, .width = 4};
    const struct ws2_vote_maps maps[2] = {maps_of(&frame, true), maps_of(&other, true)};
    const struct ws2_shape shape = ws2_shape_3(2, 2, 3), wide = ws2_shape_3(2, 2, 4),
                           flat = ws2_shape_2(2, 3);
    for (int i = 0; i < 2; i++)
        assert_int_equal(ws2_vote_frame_items(note[i], &vote, &scratch, &maps[i], NULL, 6 + i, NULL), 0);
    assert_int_equal(ws2_vote_frame_link(note[1], &vote, note[0], &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "maps are [2,4] here and [2,3] in frame 6");
    error.status = 0;
    assert_int_equal(ws2_vote_frame_flow(note[0], WS2_TO_NEXT, frame.flow[0], &wide, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "the flow is [2,2,4], wanted [2,2,3]");
    assert_int_equal(ws2_vote_frame_flow(note[0], WS2_TO_NEXT, frame.flow[0], &flat, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_vote_frame_items(note[1], &vote, &scratch, &maps[0], NULL, 7, NULL), 0);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_vote_frame_link(note[1], &vote, note[0], &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "there is no flow from frame 6 to frame 7");
    assert_int_equal(ws2_vote_frame_flow(note[0], WS2_TO_NEXT, frame.flow[0], &shape, NULL), 0);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_vote_frame_link(note[1], &vote, note[0], &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "there is no flow from frame 7 to frame 6");
    assert_int_equal(ws2_vote_frame_flow(note[1], WS2_TO_PREVIOUS, frame.flow[1], &shape, NULL), 0);
    assert_int_equal(ws2_vote_frame_link(note[1], &vote, note[0], NULL), 0);
    assert_int_equal(ws2_vote_frame_items(note[1], &vote, &scratch, &maps[0], NULL, 7, NULL), 0);
    assert_int_equal(ws2_vote_frame_link(note[1], &vote, note[0], NULL), WS2_ERR_INPUT); /* forgotten */
    ws2_vote_frame_free(note[0]);
    ws2_vote_frame_free(note[1]);
    ws2_vote_frame_free(NULL);
    ws2_vote_scratch_free(&scratch);
}

/* ---- tracks against all pairs ------------------------------------------------------------------------------------ */

/* item[t][pixel], from 1: connected parts by spreading the least number, or the regions that pixels take. */
static void slow_items(const struct ws2_vote *vote, const struct clip *clip, int t, int *item)
{
    const struct frame *frame = &clip->frame[t];
    const struct ws2_vote_maps maps = maps_of(frame, true);
    const int h = (int)frame->height, w = (int)frame->width;
    static uint16_t out[CLASSES * PIXELS_MAX];
    if (clip->masks) {
        slow_regions(vote, frame, &maps, out, item);
        return;
    }
    for (int i = 0; i < h * w; i++)
        item[i] = frame->fg[i] ? i + 1 : 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < h * w; i++)
            for (int j = 0; j < h * w && item[i]; j++)
                if (item[j] && item[j] < item[i] && abs(i / w - j / w) <= 1 && abs(i % w - j % w) <= 1) {
                    item[i] = item[j];
                    moved = true;
                }
    }
}

/* Whether more than the share of what of item a leads into the picture leads to item b. */
static bool slow_leads(const struct frame *frame, int way, const int *from, int a, const int *to, int b,
                       double agree)
{
    const int h = (int)frame->height, w = (int)frame->width;
    int inside = 0, reached = 0;
    for (int i = 0; i < h * w; i++) {
        const float x = floorf((float)(i % w) + ws2_half_to_float(frame->flow[way][i]) + .5f),
                    y = floorf((float)(i / w) + ws2_half_to_float(frame->flow[way][h * w + i]) + .5f);
        if (from[i] != a || x < 0 || x >= (float)w || y < 0 || y >= (float)h)
            continue;
        inside++;
        reached += to[(int)y * w + (int)x] == b;
    }
    return reached > agree * inside;
}

/* The item of frame t + step that item a of frame t is, or 0. */
static int slow_step(const struct ws2_vote *vote, const struct clip *clip, int (*item)[PIXELS_MAX], int t,
                     int step, int a)
{
    const int way = step > 0 ? WS2_TO_NEXT : WS2_TO_PREVIOUS, other = t + step;
    if (other < 0 || other >= clip->frames)
        return 0;
    for (int b = 1; b <= PIXELS_MAX; b++)
        if (slow_leads(&clip->frame[t], way, item[t], a, item[other], b, vote->agree) &&
            slow_leads(&clip->frame[other], 1 - way, item[other], b, item[t], a, vote->agree))
            return b;
    return 0;
}

static int slow_append(const struct clip *clip, int (*item)[PIXELS_MAX], int t, int a, float *value,
                       int count)
{
    const struct frame *frame = &clip->frame[t];
    for (int64_t i = 0; i < frame->height * frame->width; i++)
        if (item[t][i] == a)
            value[count++] = p_of(frame, frame->prob, i);
    return count;
}

/* How far a track goes from frame t. */
static int slow_tracks(const struct ws2_vote *vote, const struct clip *clip, int (*item)[PIXELS_MAX], int t,
                       uint16_t *out)
{
    const struct frame *frame = &clip->frame[t];
    const int64_t pixels = frame->height * frame->width;
    static float value[FRAMES * PIXELS_MAX];
    int steps = 0;
    memcpy(out, frame->prob, (size_t)(CLASSES * pixels) * sizeof *out);
    for (int a = 1; a <= PIXELS_MAX; a++) {
        int count = slow_append(clip, item, t, a, value, 0);
        for (int step = 1; count > 0 && step >= -1; step -= 2)
            for (int k = 1, at = a; k <= vote->reach; k++, steps++) {
                at = slow_step(vote, clip, item, t + (k - 1) * step, step, at);
                if (at == 0)
                    break;
                count = slow_append(clip, item, t + k * step, at, value, count);
            }
        double variance;
        if (count == 0 || count < vote->least)
            continue;
        const double ballot = slow_ballot(vote, value, count, &variance);
        for (int64_t i = 0; i < pixels; i++)
            if (item[t][i] == a)
                set_voted(vote, frame, i, ballot, out);
    }
    return steps;
}

/* Rectangles that move about, touch and leave, with a flow that is mostly theirs. */
static void random_clip(struct ws2_random *random, struct clip *clip, int64_t height, int64_t width)
{
    const int things = (int)ws2_random_below(random, 5);
    const float u = (float)ws2_random_below(random, 9) / 2 - 2, v = (float)ws2_random_below(random, 3) - 1;
    int64_t at[5][4];
    clip->frames = 1 + (int)ws2_random_below(random, FRAMES);
    for (int i = 0; i < things; i++) {
        at[i][0] = ws2_random_below(random, height + 4) - 2;
        at[i][1] = ws2_random_below(random, width + 4) - 2;
        at[i][2] = 1 + ws2_random_below(random, 7);
        at[i][3] = 1 + ws2_random_below(random, 7);
    }
    for (int t = 0; t < clip->frames; t++) {
        struct frame *frame = &clip->frame[t];
        *frame = (struct frame){.height = height, .width = width};
        set_flow(frame, WS2_TO_NEXT, u, v);
        set_flow(frame, WS2_TO_PREVIOUS, -u, -v);
        for (int64_t i = 0; i < 2 * height * width; i++)
            if (ws2_random_below(random, 20) == 0)
                frame->flow[i % 2][i] = ws2_half_from_float((float)ws2_random_normal(random) * 4);
        for (int i = 0; i < things; i++) {
            const int64_t top = at[i][0] + lround(t * (double)v), left = at[i][1] + lround(t * (double)u);
            for (int64_t y = top; y < top + at[i][2]; y++)
                for (int64_t x = left; x < left + at[i][3]; x++)
                    if (y >= 0 && y < height && x >= 0 && x < width && ws2_random_below(random, 12) > 0)
                        set_p(frame, y * width + x, (float)ws2_random_uniform(random), true);
            if (ws2_random_below(random, 5) == 0)
                at[i][ws2_random_below(random, 2)] += ws2_random_below(random, 3) - 1;
        }
        random_masks(random, frame);
    }
}

/* The order of the values does not count in the slow way, so that means differ by rounding. */
static void assert_near(const struct frame *frame, const uint16_t *out, const uint16_t *want)
{
    for (int64_t i = 0; i < CLASSES * frame->height * frame->width; i++)
        assert_float_equal(ws2_half_to_float(out[i]), ws2_half_to_float(want[i]), 6e-4);
}

static void tracks_as_all_pairs_have_it(void **state)
{
    (void)state;
    struct ws2_random random = ws2_random_make(23, 6);
    static struct clip clip;
    static uint16_t want[CLASSES * PIXELS_MAX], out[CLASSES * PIXELS_MAX];
    static int item[FRAMES][PIXELS_MAX];
    int steps = 0;
    for (int round = 0; round < 700; round++) {
        const struct ws2_vote vote = random_vote(&random);
        random_clip(&random, &clip, 2 + ws2_random_below(&random, 10), 2 + ws2_random_below(&random, 20));
        clip.masks = round % 3 == 0;
        for (int t = 0; t < clip.frames; t++)
            slow_items(&vote, &clip, t, item[t]);
        link_clip(&clip, &vote);
        for (int t = 0; t < clip.frames; t++) {
            steps += slow_tracks(&vote, &clip, item, t, want);
            vote_clip(&clip, &vote, t, out);
            assert_near(&clip.frame[t], out, want);
        }
        free_clip(&clip);
    }
    assert_true(steps > 1000); /* tracks go on often enough to mean something */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_region_says),
        cmocka_unit_test(which_regions_say_nothing),
        cmocka_unit_test(which_region_a_pixel_takes),
        cmocka_unit_test(frames_of_little),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(masks_and_what_counts),
        cmocka_unit_test(regions_as_all_pixels_have_it),
        cmocka_unit_test(an_item_is_one_over_frames),
        cmocka_unit_test(an_item_leaves_the_picture),
        cmocka_unit_test(items_that_touch),
        cmocka_unit_test(both_ways_must_agree),
        cmocka_unit_test(what_a_frame_refuses),
        cmocka_unit_test(tracks_as_all_pairs_have_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
