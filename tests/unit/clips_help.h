/* What the tests of clips and loaders share: streams to learn from, and loaders that refuse them. */
#ifndef WS2_TEST_CLIPS_HELP_H
#define WS2_TEST_CLIPS_HELP_H

#include <math.h>
#include <string.h>

#include "fixture_help.h"
#include "folder_help.h"
#include "train/train.h"

#define SIDE 16

enum flow_kind {
    FLOW_NONE,
    FLOW_TRUE,   /* of the item, everywhere */
    FLOW_FLOAT,  /* the head says f32 */
    FLOW_ABSENT, /* promised by the head only */
    FLOW_SHAPE,  /* of another size than the frame */
    FLOW_NAN
};

enum seeds_kind {
    SEEDS_NONE,
    SEEDS_ITEM,   /* of each pixel: 1 on the item, else 0 */
    SEEDS_COARSE, /* of 3 x 5 cells: their numbers */
    SEEDS_FLOAT,  /* the head says f32 */
    SEEDS_ABSENT, /* promised by the head only */
    SEEDS_EMPTY   /* of no cells */
};

struct clip_options {
    const char *file, *seq;
    enum ws2_role role;
    int frames, width, height;
    bool no_fg, no_rgb, wrong_fg;
    int lighter; /* grey levels added to the belt */
    enum flow_kind flow;
    enum seeds_kind seeds;
    const char
        *labels;  /* name of a tensor: on the item 1 before, 0 after, but 255 in its first row; NULL: none */
    int speed;    /* the item moves so many pixels to the right in each frame; 0: it jumps */
    bool clean;   /* no noise */
    bool swapped; /* blue before, red after */
};

/* Corner of the item. */
static inline void item_place(const struct clip_options *o, int frame, int *left, int *top)
{
    *left = o->speed ? 1 + o->speed * frame : 2 + frame % 5;
    *top = o->speed ? 3 : 3 + frame % 3;
}

/* Frames of a grey belt with noise and one square item: red before, blue after, unless that is swapped. */
static inline void paint(uint8_t *rgb, uint8_t *fg, const struct clip_options *o, int frame, uint32_t *noise)
{
    const int side = o->width / 3;
    int left, top;
    item_place(o, frame, &left, &top);
    for (int y = 0; y < o->height; y++) {
        for (int x = 0; x < o->width; x++) {
            uint8_t *p = rgb + 3 * (y * o->width + x);
            const bool item = x >= left && x < left + side && y >= top && y < top + side;
            fg[y * o->width + x] = item;
            for (int c = 0; c < 3; c++) {
                const int level = !item ? 90 + o->lighter
                                  : c == ((o->role == WS2_ROLE_BEFORE) != o->swapped ? 0 : 2) ? 200
                                                                                              : 40;
                p[c] = (uint8_t)(level + (o->clean ? 0 : (int)(generator_next(noise) >> 28)));
            }
        }
    }
}

/* Motion to frame `other`, where that exists. */
static inline void put_flow(struct ws2_record *record, const struct clip_options *o, const char *name,
                            int frame, int other)
{
    struct ws2_error error = {0};
    const int h = o->flow == FLOW_SHAPE ? o->height / 2 : o->height, w = o->width;
    const struct ws2_shape shape = ws2_shape_3(2, h, w);
    int place[2], there[2];
    if (o->flow == FLOW_NONE || o->flow == FLOW_FLOAT || o->flow == FLOW_ABSENT || other < 0 ||
        other >= o->frames)
        return;
    uint16_t *flow = calloc((size_t)(2 * h * w), sizeof *flow);
    item_place(o, frame, &place[0], &place[1]);
    item_place(o, other, &there[0], &there[1]);
    for (int i = 0; i < 2 * h * w; i++)
        flow[i] =
            ws2_half_from_float(o->flow == FLOW_NAN ? NAN : (float)(there[i / (h * w)] - place[i / (h * w)]));
    assert_int_equal(ws2_record_put(record, name, WS2_F16, &shape, flow, &error), 0);
    free(flow);
}

static inline void put_seeds(struct ws2_record *record, const struct clip_options *o, const uint8_t *fg)
{
    static const uint8_t number[15] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 255};
    struct ws2_error error = {0};
    const struct ws2_shape shape = o->seeds == SEEDS_ITEM     ? ws2_shape_2(o->height, o->width)
                                   : o->seeds == SEEDS_COARSE ? ws2_shape_2(3, 5)
                                                              : ws2_shape_2(0, 0);
    if (o->seeds == SEEDS_ITEM || o->seeds == SEEDS_COARSE || o->seeds == SEEDS_EMPTY)
        assert_int_equal(
            ws2_record_put(record, "seeds", WS2_U8, &shape, o->seeds == SEEDS_ITEM ? fg : number, &error), 0);
}

static inline void put_labels(struct ws2_record *record, const struct clip_options *o, const uint8_t *fg,
                              int frame)
{
    struct ws2_error error = {0};
    const struct ws2_shape shape = ws2_shape_2(o->height, o->width);
    int left, top;
    if (o->labels == NULL)
        return;
    uint8_t *label = calloc((size_t)(o->height * o->width), 1);
    item_place(o, frame, &left, &top);
    for (int i = 0; i < o->height * o->width; i++)
        label[i] = !fg[i] ? 0 : i / o->width == top ? 255 : o->role == WS2_ROLE_BEFORE;
    assert_int_equal(ws2_record_put(record, o->labels, WS2_U8, &shape, label, &error), 0);
    free(label);
}

static inline void put_frame(struct ws2_writer *writer, struct ws2_record *record,
                             const struct clip_options *o, int frame, uint32_t *noise)
{
    struct ws2_error error = {0};
    const struct ws2_shape image = ws2_shape_3(o->height, o->width, 3);
    const struct ws2_shape mask = ws2_shape_2(o->wrong_fg ? o->height / 2 : o->height, o->width);
    uint8_t *rgb = calloc((size_t)(o->height * o->width), 3), *fg = calloc((size_t)(o->height * o->width), 1);
    paint(rgb, fg, o, frame, noise);
    ws2_record_clear(record);
    ws2_record_set_frame(record, frame, -1);
    if (!o->no_rgb)
        assert_int_equal(ws2_record_put(record, "rgb", WS2_U8, &image, rgb, &error), 0);
    if (!o->no_fg)
        assert_int_equal(ws2_record_put(record, "fg", WS2_U8, &mask, fg, &error), 0);
    put_seeds(record, o, fg);
    put_labels(record, o, fg, frame);
    put_flow(record, o, "flow.prev", frame, frame - 1);
    put_flow(record, o, "flow.next", frame, frame + 1);
    assert_int_equal(ws2_writer_put(writer, record), 0);
    free(rgb);
    free(fg);
}

/* Writes one file of `count` segments. */
static inline void write_clips(const struct clip_options *o, int count)
{
    struct ws2_writer *writer;
    struct ws2_error error = {0};
    uint32_t noise = 1 + (uint32_t)o->file[0];
    struct ws2_record *record = ws2_record_new();
    assert_int_equal(ws2_writer_open(&writer, in_folder(o->file), 1, &error), 0);
    for (int s = 0; s < count; s++) {
        struct ws2_head *head = ws2_head_new();
        ws2_head_set_seq(head, o[s].seq);
        ws2_head_set_role(head, o[s].role);
        if (!o[s].no_rgb)
            ws2_head_add_tensor(head, "rgb", WS2_U8, "h,w,3", "", &error);
        if (!o[s].no_fg)
            ws2_head_add_tensor(head, "fg", WS2_U8, "h,w", "", &error);
        const enum ws2_dtype type = o[s].flow == FLOW_FLOAT ? WS2_F32 : WS2_F16;
        if (o[s].flow != FLOW_NONE) {
            ws2_head_add_tensor(head, "flow.prev", type, "2,h,w", "pixel", &error);
            ws2_head_add_tensor(head, "flow.next", type, "2,h,w", "pixel", &error);
        }
        if (o[s].seeds != SEEDS_NONE)
            ws2_head_add_tensor(head, "seeds", o[s].seeds == SEEDS_FLOAT ? WS2_F32 : WS2_U8, "h,w", "label",
                                &error);
        if (o[s].labels)
            ws2_head_add_tensor(head, o[s].labels, WS2_U8, "h,w", "label", &error);
        assert_int_equal(ws2_writer_begin(writer, head), 0);
        for (int f = 0; f < o[s].frames; f++)
            put_frame(writer, record, &o[s], f, &noise);
        assert_int_equal(ws2_writer_end(writer), 0);
        ws2_head_free(head);
    }
    assert_int_equal(ws2_writer_close(writer, &error), 0);
    ws2_record_free(record);
}

static inline struct clip_options clip(const char *file, const char *seq, enum ws2_role role, int frames)
{
    return (struct clip_options){
        .file = file, .seq = seq, .role = role, .frames = frames, .width = SIDE, .height = SIDE};
}

/* The same with flow. */
static inline struct clip_options moving(const char *file, const char *seq, enum ws2_role role, int frames)
{
    struct clip_options o = clip(file, seq, role, frames);
    o.flow = FLOW_TRUE;
    return o;
}

/* Up to 8 files, as many paths as in_folder keeps. */
static inline struct ws2_clips *open_clips(const char *const *name, int count)
{
    const char *list[8];
    struct ws2_clips *clips;
    struct ws2_error error = {0};
    for (int i = 0; i < count; i++)
        list[i] = in_folder(name[i]);
    if (ws2_clips_open(&clips, list, count, &error) < 0)
        fail_msg("%s", error.text);
    return clips;
}

static inline struct ws2_loader_options loader_options(int classes, bool training)
{
    return (struct ws2_loader_options){.classes = classes,
                                       .margin = 1,
                                       .size = SIDE,
                                       .training = training,
                                       .jitter = 0.3,
                                       .hue = 0.1,
                                       .flip_x = true,
                                       .flip_y = true,
                                       .seed = 3,
                                       .batch = 4,
                                       .threads = 1};
}

static inline struct ws2_loader_options triplet_options(int classes, bool training, int cells)
{
    struct ws2_loader_options o = loader_options(classes, training);
    o.triplets = true;
    o.cells = cells;
    return o;
}

/* Whole frames with seeds. */
static inline struct ws2_loader_options seeds_options(bool training, int cells)
{
    struct ws2_loader_options o = loader_options(2, training);
    o.background = WS2_BACKGROUND_KEEP;
    o.seeds = true;
    o.cells = cells;
    o.jitter = o.hue = 0;
    return o;
}

/* ---- the belt that most learn from -------------------------------------------------------------------------- */

static inline struct ws2_clips *belt(void)
{
    static const char *const name[] = {"b.ws2", "a0.ws2", "a1.ws2", "a2.ws2"};
    return open_clips(name, 4);
}

static inline int make_belt(void **state)
{
    if (make_folder(state) < 0)
        return -1;
    const struct clip_options before[] = {
        moving("b.ws2", "b0", WS2_ROLE_BEFORE, 5), moving("b.ws2", "b1", WS2_ROLE_BEFORE, 6),
        moving("b.ws2", "b2", WS2_ROLE_BEFORE, 4), moving("b.ws2", "b0", WS2_ROLE_BEFORE, 3)};
    write_clips(before, 4);
    const struct clip_options after[] = {moving("a0.ws2", "x0", WS2_ROLE_AFTER, 7),
                                         moving("a1.ws2", "x1", WS2_ROLE_AFTER, 5),
                                         moving("a2.ws2", "x2", WS2_ROLE_AFTER, 1)};
    for (int i = 0; i < 3; i++)
        write_clips(&after[i], 1);
    return 0;
}

/* A loader of these files, or its first epoch, must fail with this status and this reason. */
static inline void expect_refusal(const char *const *names, int count, const struct ws2_loader_options *o,
                                  int status, const char *reason)
{
    struct ws2_clips *clips = open_clips(names, count);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    int got = ws2_loader_open(&loader, clips, NULL, o, &error);
    if (got == 0) {
        struct ws2_batch batch;
        got = ws2_loader_start(loader, 0, &error);
        while (got >= 0 && (got = ws2_loader_next(loader, &batch, &error)) == 1)
            ;
        ws2_loader_close(loader);
    }
    assert_int_equal(got, status);
    if (strstr(error.text, reason) == NULL)
        fail_msg("'%s' does not say '%s'", error.text, reason);
    ws2_clips_close(clips);
}

#endif
