/* Votes by tracks: see mask.h. A frame keeps the values of its items one item after the other, so that a ballot is over a
 * few runs of them. Who is one with whom takes two walks over the pixels and no table of pairs: more than half of the
 * pixels of an item lead to at most one other, which the first walk finds and the second counts (Boyer and Moore's vote). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "mask/vote.h"

enum { WAYS = 2, BLOCK = 256 };

/* An item on its way to the other frame. */
struct lead {
    int32_t heir;            /* the item it leads to, 0 for belt */
    int64_t balance;         /* of the first walk */
    int64_t inside, reached; /* of its pixels: lead into the picture, and to the heir */
};

/* Items are numbered from 1. from and onto are of the step from the frame before to this one. */
struct ws2_vote_frame {
    int64_t number, height, width, items;
    int32_t *label;       /* [h,w] */
    uint16_t *value;      /* [h,w]: p of item 1, then of item 2, .. */
    int64_t *start;       /* [items + 2]: where the values of an item begin */
    int32_t *place[WAYS]; /* [h,w]: the pixel that each leads to, -1 for none */
    bool known[WAYS];
    int32_t *from; /* [items + 1]: the item of the frame before that is this one, or 0 */
    int32_t *onto; /* [items of the frame before + 1]: the same the other way round */
    struct lead *lead;
    size_t label_capacity, value_capacity, start_capacity, place_capacity[WAYS], from_capacity, onto_capacity,
        lead_capacity;
};

struct ws2_vote_frame *ws2_vote_frame_new(void)
{
    return ws2_calloc(1, sizeof(struct ws2_vote_frame));
}

void ws2_vote_frame_free(struct ws2_vote_frame *frame)
{
    if (frame == NULL)
        return;
    free(frame->label);
    free(frame->value);
    free(frame->start);
    free(frame->place[WS2_TO_NEXT]);
    free(frame->place[WS2_TO_PREVIOUS]);
    free(frame->from);
    free(frame->onto);
    free(frame->lead);
    free(frame);
}

static int reserve(void **buffer, size_t *capacity, int64_t count, size_t size, struct ws2_error *error)
{
    size_t bytes;
    return ws2_mul_size((size_t)count, size, &bytes) && ws2_reserve(buffer, capacity, bytes) == WS2_OK
               ? 0
               : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

/* ---- the items of a frame ------------------------------------------------------------------------------------ */

/* Sorts the values of the plane by item. */
static void sort_values(struct ws2_vote_frame *frame, const uint16_t *plane)
{
    const int64_t pixels = frame->height * frame->width;
    int64_t *start = frame->start;
    memset(start, 0, (size_t)(frame->items + 2) * sizeof *start);
    for (int64_t i = 0; i < pixels; i++)
        start[frame->label[i]]++;
    start[0] = 0; /* belt has no values */
    for (int64_t item = 1; item <= frame->items + 1; item++)
        start[item] += start[item - 1];
    for (int64_t i = pixels - 1; i >= 0; i--) /* from the ends, so that the starts are left */
        if (frame->label[i] > 0)
            frame->value[--start[frame->label[i]]] = vote_value(plane[i]);
}

static int frame_reserve(struct ws2_vote_frame *frame, int64_t pixels, struct ws2_error *error)
{
    int status = reserve((void **)&frame->label, &frame->label_capacity, pixels, sizeof *frame->label, error);
    if (status >= 0)
        status = reserve((void **)&frame->value, &frame->value_capacity, pixels, sizeof *frame->value, error);
    if (status >= 0)
        status = reserve((void **)&frame->start, &frame->start_capacity, frame->items + 2,
                         sizeof *frame->start, error);
    return status;
}

int ws2_vote_frame_items(struct ws2_vote_frame *frame, const struct ws2_vote *vote,
                         struct ws2_vote_scratch *scratch, const struct ws2_vote_maps *maps,
                         const struct ws2_instances *instances, int64_t number, struct ws2_error *error)
{
    const int64_t pixels = maps->height * maps->width;
    frame->number = number;
    frame->known[WS2_TO_NEXT] = frame->known[WS2_TO_PREVIOUS] = false;
    const int status = vote_begin(scratch, maps, error);
    if (status < 0)
        return status;
    frame->items = instances != NULL ? vote_pick(vote, scratch, maps, instances, error)
                                     : ws2_bits_label(&scratch->on, scratch->label, &scratch->bits, error);
    if (frame->items < 0)
        return (int)frame->items;
    if (frame_reserve(frame, pixels, error) < 0)
        return WS2_ERR_SYSTEM;
    frame->height = maps->height;
    frame->width = maps->width;
    memcpy(frame->label, scratch->label, (size_t)pixels * sizeof *frame->label);
    sort_values(frame, maps->prob + maps->before * pixels);
    return 0;
}

/* The pixels that part of a row leads to. Comparisons are false of what is no number. */
WS2_CLONES
static void find_places(const float *restrict u, const float *restrict v, int64_t row, int64_t column,
                        int64_t count, int64_t height, int64_t width, int32_t *restrict place)
{
    for (int64_t i = 0; i < count; i++) {
        const float x = floorf((float)(column + i) + u[i] + 0.5f), y = floorf((float)row + v[i] + 0.5f);
        const bool inside = x >= 0 && x < (float)width && y >= 0 && y < (float)height;
        place[i] = inside ? (int32_t)y * (int32_t)width + (int32_t)x : -1;
    }
}

int ws2_vote_frame_flow(struct ws2_vote_frame *frame, enum ws2_fuse_way way, const uint16_t *flow,
                        const struct ws2_shape *shape, struct ws2_error *error)
{
    const int64_t w = frame->width, pixels = frame->height * w;
    const struct ws2_shape wanted = ws2_shape_3(2, frame->height, w);
    float u[BLOCK], v[BLOCK];
    char a[96], b[96];
    if (!ws2_shape_equal(shape, &wanted))
        return ws2_fail(error, WS2_ERR_INPUT, "the flow is %s, wanted %s", ws2_shape_text(shape, a, sizeof a),
                        ws2_shape_text(&wanted, b, sizeof b));
    const int status = reserve((void **)&frame->place[way], &frame->place_capacity[way], pixels,
                               sizeof *frame->place[way], error);
    if (status < 0)
        return status;
    for (int64_t y = 0; y < frame->height; y++)
        for (int64_t x = 0; x < w; x += BLOCK) {
            const int64_t n = w - x < BLOCK ? w - x : BLOCK, at = y * w + x;
            ws2_half_to_floats(u, flow + at, (size_t)n);
            ws2_half_to_floats(v, flow + pixels + at, (size_t)n);
            find_places(u, v, y, x, n, frame->height, w, frame->place[way] + at);
        }
    frame->known[way] = true;
    return 0;
}

/* ---- which items are one -------------------------------------------------------------------------------------- */

/* lead[items + 1]: where the items of a frame lead. */
static void follow(const struct ws2_vote_frame *frame, int way, const struct ws2_vote_frame *other,
                   struct lead *lead)
{
    const int64_t pixels = frame->height * frame->width;
    const int32_t *place = frame->place[way];
    memset(lead, 0, (size_t)(frame->items + 1) * sizeof *lead);
    for (int64_t i = 0; i < pixels; i++) {
        if (frame->label[i] == 0 || place[i] < 0)
            continue;
        struct lead *own = &lead[frame->label[i]];
        const int32_t to = other->label[place[i]];
        if (own->balance == 0)
            own->heir = to;
        own->balance += to == own->heir ? 1 : -1;
    }
    for (int64_t i = 0; i < pixels; i++) {
        if (frame->label[i] == 0 || place[i] < 0)
            continue;
        struct lead *own = &lead[frame->label[i]];
        own->inside++;
        own->reached += other->label[place[i]] == own->heir;
    }
}

/* heir[items + 1] of each item, 0 for none: more than the share `agree` leads there. */
static int find_heirs(const struct ws2_vote_frame *frame, int way, const struct ws2_vote_frame *other,
                      double agree, struct ws2_vote_frame *keep, int32_t *heir, struct ws2_error *error)
{
    const int status =
        reserve((void **)&keep->lead, &keep->lead_capacity, frame->items + 1, sizeof *keep->lead, error);
    if (status < 0)
        return status;
    follow(frame, way, other, keep->lead);
    heir[0] = 0;
    for (int64_t item = 1; item <= frame->items; item++) {
        const struct lead *lead = &keep->lead[item];
        heir[item] = (double)lead->reached > agree * (double)lead->inside ? lead->heir : 0;
    }
    return 0;
}

/* Leaves of heir what heirs say too. */
static void keep_mutual(int32_t *heir, int64_t items, const int32_t *back)
{
    for (int64_t item = 1; item <= items; item++)
        if (heir[item] > 0 && back[heir[item]] != item)
            heir[item] = 0;
}

static int check_pair(const struct ws2_vote_frame *frame, const struct ws2_vote_frame *previous,
                      struct ws2_error *error)
{
    const long long here = (long long)frame->number, there = (long long)previous->number;
    if (frame->height != previous->height || frame->width != previous->width)
        return ws2_fail(error, WS2_ERR_INPUT, "maps are [%lld,%lld] here and [%lld,%lld] in frame %lld",
                        (long long)frame->height, (long long)frame->width, (long long)previous->height,
                        (long long)previous->width, there);
    if (!previous->known[WS2_TO_NEXT])
        return ws2_fail(error, WS2_ERR_INPUT, "there is no flow from frame %lld to frame %lld", there, here);
    if (!frame->known[WS2_TO_PREVIOUS])
        return ws2_fail(error, WS2_ERR_INPUT, "there is no flow from frame %lld to frame %lld", here, there);
    return 0;
}

int ws2_vote_frame_link(struct ws2_vote_frame *frame, const struct ws2_vote *vote,
                        const struct ws2_vote_frame *previous, struct ws2_error *error)
{
    if (previous == NULL)
        return 0; /* nobody asks for what was before the first frame */
    int status = check_pair(frame, previous, error);
    if (status >= 0)
        status = reserve((void **)&frame->from, &frame->from_capacity, frame->items + 1, sizeof *frame->from,
                         error);
    if (status >= 0)
        status = reserve((void **)&frame->onto, &frame->onto_capacity, previous->items + 1,
                         sizeof *frame->onto, error);
    if (status >= 0)
        status = find_heirs(frame, WS2_TO_PREVIOUS, previous, vote->agree, frame, frame->from, error);
    if (status >= 0)
        status = find_heirs(previous, WS2_TO_NEXT, frame, vote->agree, frame, frame->onto, error);
    if (status < 0)
        return status;
    keep_mutual(frame->onto, previous->items, frame->from);
    keep_mutual(frame->from, frame->items, frame->onto);
    return 0;
}

/* ---- ballots over tracks --------------------------------------------------------------------------------------- */

/* Appends the values of an item. */
static int append(struct ws2_vote_scratch *scratch, int64_t *count, const struct ws2_vote_frame *frame,
                  int32_t item, struct ws2_error *error)
{
    const int64_t n = frame->start[item + 1] - frame->start[item];
    const int status = reserve((void **)&scratch->value, &scratch->value_capacity, *count + n,
                               sizeof *scratch->value, error);
    if (status < 0)
        return status;
    memcpy(scratch->value + *count, frame->value + frame->start[item], (size_t)n * sizeof *scratch->value);
    *count += n;
    return 0;
}

/* The values of an item of window[0] along its track, as far as it goes each way. */
static int collect(const struct ws2_vote *vote, struct ws2_vote_scratch *scratch,
                   const struct ws2_vote_frame *const *window, int32_t item, int64_t *count,
                   struct ws2_error *error)
{
    int status = append(scratch, count, window[0], item, error);
    int32_t at = item;
    for (int k = 1; status >= 0 && k <= vote->reach && window[k] && (at = window[k]->onto[at]) != 0; k++)
        status = append(scratch, count, window[k], at, error);
    at = item;
    for (int k = 1; status >= 0 && k <= vote->reach && window[-k] && (at = window[1 - k]->from[at]) != 0; k++)
        status = append(scratch, count, window[-k], at, error);
    return status;
}

int ws2_vote_tracks(const struct ws2_vote *vote, struct ws2_vote_scratch *scratch,
                    const struct ws2_vote_maps *maps, const struct ws2_vote_frame *const *window,
                    uint16_t *out, struct ws2_error *error)
{
    const int64_t items = window[0]->items;
    int status = vote_reserve_ballots(scratch, items, error);
    for (int64_t item = 1; status >= 0 && item <= items; item++) {
        int64_t count = 0;
        status = collect(vote, scratch, window, (int32_t)item, &count, error);
        if (status >= 0)
            scratch->ballot[item - 1] = vote_ballot(vote, scratch->value, count);
    }
    if (status >= 0)
        vote_apply(vote, maps, window[0]->label, scratch->ballot, out);
    return status;
}
