#include "motion/flow.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Steps of descent of a patch; and how far apart patches begin, with a dominant motion and without. */
enum { ROUNDS = 8, STEP_DOMINANT = 4, STEP = 3 };
/* Pixels of a level by which the two directions may disagree. */
static const float disagree = 0.5f * WS2_FLOW_LIMIT;
/* Weights as in the reference implementation of the variational step after inverse search. */
static const struct refine_options refine = {
    .brightness = 5, .gradient = 10, .smooth = 20, .outer = 8, .inner = 4};

/* Flow of one direction. */
struct way {
    float *dense[2]; /* [2][height][width] of an even and an odd level in turn */
    uint8_t *hidden; /* [height][width], 1: not seen in the other picture */
};

struct ws2_flow {
    int width, height; /* of the frames that the memory is for */
    float *memory;
    uint8_t *bytes;
    struct way way[2];
    struct patches patches;
    float *volume;  /* of the exhaustive search */
    float *scratch; /* of the correlation, of the spreading, of the refinement */
};

/* ---- memory ------------------------------------------------------------------------------------------------- */

/* Patches in a row, so that every pixel is covered. */
static int patches_along(int side, int step)
{
    return (side - PATCH / 2 + step - 1) / step + 1 > 1 ? (side - PATCH / 2 + step - 1) / step + 1 : 1;
}

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void flow_empty(struct ws2_flow *flow)
{
    free(flow->memory);
    free(flow->bytes);
    *flow = (struct ws2_flow){0};
}

static int flow_fit(struct ws2_flow *flow, const struct ws2_flow_frame *frame)
{
    const struct level *fine = &frame->level[0], *coarse = &frame->level[frame->levels - 1];
    const size_t pixels = (size_t)fine->width * (size_t)fine->height;
    const size_t cells = (size_t)patches_along(fine->width, STEP) * (size_t)patches_along(fine->height, STEP);
    const size_t volume = (size_t)patches_along(coarse->width, STEP) *
                          (size_t)patches_along(coarse->height, STEP) * REACH_SIDE * REACH_SIDE;
    const size_t scratch =
        largest(largest(pixels + 4 * (size_t)fine->width, 4 * (size_t)frame->columns * (size_t)frame->rows),
                ws2_refine_scratch(fine->width, fine->height));
    flow_empty(flow);
    flow->memory = ws2_calloc(8 * pixels + 3 * cells + volume + scratch, sizeof *flow->memory);
    flow->bytes = ws2_calloc(pixels, 2);
    if (flow->memory == NULL || flow->bytes == NULL)
        return WS2_ERR_SYSTEM;
    float *at = flow->memory;
    for (int i = 0; i < 2; i++, at += 4 * pixels)
        flow->way[i] = (struct way){{at, at + 2 * pixels}, flow->bytes + (size_t)i * pixels};
    flow->patches = (struct patches){.u = at, .v = at + cells, .cost = at + 2 * cells};
    flow->volume = at + 3 * cells;
    flow->scratch = flow->volume + volume;
    flow->width = frame->width;
    flow->height = frame->height;
    return WS2_OK;
}

static int flow_take(struct ws2_flow **flow, const struct ws2_flow_frame *a, const struct ws2_flow_frame *b,
                     struct ws2_error *error)
{
    if (a->width != b->width || a->height != b->height)
        return ws2_fail(error, WS2_ERR_USAGE, "frames of %d x %d and %d x %d pixels have no flow", a->width,
                        a->height, b->width, b->height);
    if (*flow == NULL)
        *flow = ws2_calloc(1, sizeof **flow);
    if (*flow == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    if (((*flow)->width != a->width || (*flow)->height != a->height) && flow_fit(*flow, a) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the flow of %d x %d pixels", a->width,
                        a->height);
    return WS2_OK;
}

void ws2_flow_free(struct ws2_flow *flow)
{
    if (flow == NULL)
        return;
    flow_empty(flow);
    free(flow);
}

/* ---- what moves ----------------------------------------------------------------------------------------------- */

/* Translations that more than single patches follow, in pixels of level `seen`. */
struct motions {
    int shifts;
    float shift[SHIFTS_MAX][2];
    bool dominant; /* the first one is */
    float noise;
};

/* Shifts of less than a pixel of the frame are those of glare and shadows as well as of a picture that stands still. */
static bool is_still(const float shift[2], const struct ws2_flow_frame *frame)
{
    return fmaxf(fabsf(shift[0]), fabsf(shift[1])) < ldexpf(1, -frame->seen - frame->finest);
}

/* The shift that dominates, or -1: a third of the patches with texture follow it, and twice as many as any other. Those
 * that stand still are no rivals unless they are twice as many themselves. */
static int dominant_of(const struct votes *votes, const float (*shift)[2], int shifts,
                       const struct ws2_flow_frame *frame)
{
    for (int k = 0; k < shifts; k++) {
        bool leads = votes->count[k] > 0 && votes->count[k] * 3 >= votes->textured;
        for (int i = 0; i < shifts && leads; i++) {
            const int rival = is_still(shift[i], frame) ? votes->count[i] / 2 : votes->count[i] * 2;
            leads = i == k || votes->count[k] >= rival;
        }
        if (leads)
            return k;
    }
    return -1;
}

static struct motions motions_of(struct ws2_flow *flow, const struct ws2_flow_frame *a,
                                 const struct ws2_flow_frame *b)
{
    struct motions m = {0};
    float shift[SHIFTS_MAX][2];
    const int peaks = ws2_phase_peaks(a, b, SHIFTS_MAX, shift, flow->scratch);
    const struct votes votes = ws2_patches_vote(&a->level[a->seen], &b->level[b->seen], shift, peaks);
    const int first = dominant_of(&votes, (const float(*)[2])shift, peaks, a);
    m.noise = votes.noise;
    m.dominant = first >= 0;
    if (m.dominant)
        memcpy(m.shift[m.shifts++], shift[first], sizeof shift[first]);
    for (int k = 0; k < peaks && m.dominant; k++)
        if (k != first && votes.count[k] > 0 && votes.count[k] * 5 >= votes.textured)
            memcpy(m.shift[m.shifts++], shift[k], sizeof shift[k]);
    return m;
}

static struct motions turned(struct motions m)
{
    for (int k = 0; k < m.shifts; k++) {
        m.shift[k][0] = -m.shift[k][0];
        m.shift[k][1] = -m.shift[k][1];
    }
    return m;
}

int ws2_flow_shift(struct ws2_flow **flow, const struct ws2_flow_frame *a, const struct ws2_flow_frame *b,
                   float shift[2], struct ws2_error *error)
{
    const int status = flow_take(flow, a, b, error);
    if (status < 0)
        return status;
    float peak[SHIFTS_MAX][2] = {{0}};
    const int peaks = ws2_phase_peaks(a, b, SHIFTS_MAX, peak, (*flow)->scratch);
    ws2_patches_vote(&a->level[a->seen], &b->level[b->seen], peak, peaks > 1 ? 1 : peaks);
    for (int i = 0; i < 2; i++)
        shift[i] = ldexpf(peak[0][i], a->seen + a->finest);
    return WS2_OK;
}

/* ---- from coarse to fine -------------------------------------------------------------------------------------------- */

static void search(struct ws2_flow *flow, const struct motions *motions, const struct ws2_flow_frame *a,
                   const struct ws2_flow_frame *b, int l, struct way *way)
{
    const struct level *level = &a->level[l];
    struct guesses guesses = {
        .finest = l == 0, .shifts = motions->shifts, .dominant = motions->dominant, .noise = motions->noise};
    for (int k = 0; k < motions->shifts; k++)
        for (int i = 0; i < 2; i++)
            guesses.shift[k][i] = ldexpf(motions->shift[k][i], a->seen - l);
    if (l + 1 < a->levels) {
        guesses.width = a->level[l + 1].width;
        guesses.height = a->level[l + 1].height;
        guesses.u = way->dense[(l + 1) & 1];
        guesses.v = guesses.u + (int64_t)guesses.width * guesses.height;
    }
    flow->patches.step = motions->dominant ? STEP_DOMINANT : STEP;
    flow->patches.columns = patches_along(level->width, flow->patches.step);
    flow->patches.rows = patches_along(level->height, flow->patches.step);
    float *u = way->dense[l & 1], *v = u + (int64_t)level->width * level->height;
    ws2_patches_search(level, &b->level[l], &guesses, ROUNDS, &flow->patches, flow->volume);
    ws2_patches_spread(level, &b->level[l], &flow->patches, u, v, flow->scratch);
}

static void hide(const struct level *level, const float *there, const float *back, uint8_t *hidden)
{
    ws2_flow_consistent(there, back, level->width, level->height, disagree, hidden);
    for (int64_t i = 0; i < (int64_t)level->width * level->height; i++)
        hidden[i] = !hidden[i];
}

static void polish(struct ws2_flow *flow, const struct level *a, const struct level *b, float *dense,
                   const uint8_t *hidden)
{
    ws2_refine(a, b, &refine, hidden, dense, dense + (int64_t)a->width * a->height, flow->scratch);
}

static void both_ways(struct ws2_flow *flow, const struct motions *motions, const struct ws2_flow_frame *a,
                      const struct ws2_flow_frame *b)
{
    const struct motions back = turned(*motions);
    struct way *ab = &flow->way[0], *ba = &flow->way[1];
    for (int l = a->levels - 1; l >= 0; l--) {
        const struct level *la = &a->level[l], *lb = &b->level[l];
        float *there = ab->dense[l & 1], *home = ba->dense[l & 1];
        search(flow, motions, a, b, l, ab);
        search(flow, &back, b, a, l, ba);
        hide(la, there, home, ab->hidden);
        hide(la, home, there, ba->hidden);
        polish(flow, la, lb, there, ab->hidden);
        polish(flow, lb, la, home, ba->hidden);
    }
}

/* ---- to the frame's size -------------------------------------------------------------------------------------------- */

/* A row of twice the width and value: pixel centres at a quarter and three quarters. */
WS2_CLONES
static void double_row(const float *restrict in, int n, float *restrict out, int width)
{
    out[0] = 2 * in[0];
    for (int x = 0; x + 1 < n; x++) {
        out[2 * x + 1] = 1.5f * in[x] + 0.5f * in[x + 1];
        out[2 * x + 2] = 0.5f * in[x] + 1.5f * in[x + 1];
    }
    for (int x = 2 * n - 1; x < width; x++)
        out[x] = 2 * in[n - 1];
}

/* row = 0.75 near + 0.25 far */
WS2_CLONES
static void mix_rows(const float *restrict near, const float *restrict far, int n, float *restrict row)
{
    for (int x = 0; x < n; x++)
        row[x] = 0.75f * near[x] + 0.25f * far[x];
}

/* Plane [h][w] doubled in size and value, in half floats; an odd row or column at the end continues the one before.
 * row: w + width floats. */
static void double_plane(const float *in, int w, int h, uint16_t *out, int width, int height, float *row)
{
    for (int y = 0; y < height; y++) {
        const int near = y / 2 < h ? y / 2 : h - 1, next = y & 1 ? near + 1 : near - 1;
        const int far = next < 0 ? 0 : next < h ? next : h - 1;
        mix_rows(in + (int64_t)near * w, in + (int64_t)far * w, w, row);
        double_row(row, w, row + w, width);
        ws2_half_from_floats(out + (int64_t)y * width, row + w, (size_t)width);
    }
}

static void double_mask(const uint8_t *in, int w, int h, uint8_t *out, int width, int height)
{
    for (int y = 0; y < height; y++) {
        const uint8_t *from = in + (int64_t)(y / 2 < h ? y / 2 : h - 1) * w;
        uint8_t *to = out + (int64_t)y * width;
        for (int x = 0; x < w; x++)
            to[2 * x] = to[2 * x + 1] = from[x];
        if (2 * w < width)
            to[2 * w] = from[w - 1];
    }
}

static void deliver(struct ws2_flow *flow, const struct ws2_flow_frame *frame, const struct way *way,
                    uint16_t *out, uint8_t *valid)
{
    const int w = frame->level[0].width, h = frame->level[0].height;
    const int64_t small = (int64_t)w * h, pixels = (int64_t)frame->width * frame->height;
    if (frame->finest == 0) {
        ws2_half_from_floats(out, way->dense[0], 2 * (size_t)pixels);
        memcpy(valid, way->hidden, (size_t)pixels);
        return;
    }
    for (int i = 0; i < 2; i++)
        double_plane(way->dense[0] + i * small, w, h, out + i * pixels, frame->width, frame->height,
                     flow->scratch);
    double_mask(way->hidden, w, h, valid, frame->width, frame->height);
}

int ws2_flow_pair(struct ws2_flow **out, enum ws2_flow_method method, const struct ws2_flow_frame *a,
                  const struct ws2_flow_frame *b, uint16_t *ab, uint8_t *ab_valid, uint16_t *ba,
                  uint8_t *ba_valid, struct ws2_error *error)
{
    const int status = flow_take(out, a, b, error);
    if (status < 0)
        return status;
    struct ws2_flow *flow = *out;
    const struct motions motions = method == WS2_FLOW_BELT ? motions_of(flow, a, b) : (struct motions){0};
    both_ways(flow, &motions, a, b);
    struct way *there = &flow->way[0], *back = &flow->way[1];
    const struct level *level = &a->level[0];
    const float limit = ldexpf(WS2_FLOW_LIMIT, -a->finest);
    ws2_flow_consistent(there->dense[0], back->dense[0], level->width, level->height, limit, there->hidden);
    ws2_flow_consistent(back->dense[0], there->dense[0], level->width, level->height, limit, back->hidden);
    deliver(flow, a, there, ab, ab_valid);
    deliver(flow, a, back, ba, ba_valid);
    return WS2_OK;
}
