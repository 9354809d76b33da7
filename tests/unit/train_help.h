/* What the tests of training share: numbers of the golden file, a small network, and streams to learn from. */
#ifndef WS2_TEST_TRAIN_HELP_H
#define WS2_TEST_TRAIN_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "generator.h"
#include "train/train.h"

#define GOLDEN "tests/golden/train_steps.safetensors"

static inline void golden_f64(const char *name, double *out, size_t count)
{
    struct nn_weights *weights;
    struct ws2_error error = {0};
    if (nn_weights_open(&weights, GOLDEN, NULL, &error) < 0)
        fail_msg("%s", error.text);
    const int index = nn_weights_find(weights, name);
    if (index < 0)
        fail_msg("%s lacks %s", GOLDEN, name);
    if (nn_weights_read_f64(weights, index, out, count, &error) < 0)
        fail_msg("%s", error.text);
    nn_weights_close(weights);
}

static inline void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fmax(1, fabs(want))))
        fail_msg("%.9g is not %.9g within %g", got, want, tolerance);
}

static inline struct nn *open_nn(enum nn_precision precision)
{
    struct nn *nn;
    struct ws2_error error = {0};
    const struct nn_options options = {.device = NN_DEVICE_CPU, .precision = precision, .threads = 1};
    if (nn_open(&nn, &options, &error) < 0)
        fail_msg("%s", error.text);
    return nn;
}

static inline void assert_good(struct nn *nn)
{
    if (nn_error(nn))
        fail_msg("%s", nn_error(nn));
}

/* One convolution `kernel` x `kernel` without bias, and the class convolution: a network for puzzles. */
struct toy {
    struct nn *nn;
    struct nn_params *params;
    struct nn_tensor *body, *head;
    struct nn_bn bn;
    bool normalise, pool;
    int kernel;
};

static inline struct nn_tensor *toy_features(const struct toy *toy, struct nn_tensor *images, bool training)
{
    struct nn_tensor *x = nn_conv2d(toy->nn, images, toy->body, NULL, nn_conv_square(1, toy->kernel / 2, 1));
    if (toy->normalise)
        x = nn_bn_apply(toy->nn, &toy->bn, x, training, true);
    return toy->pool ? nn_avg_pool2d(toy->nn, x, 2, 2, 0) : x;
}

static inline struct nn_tensor *toy_maps(const struct toy *toy, struct nn_tensor *features)
{
    return nn_conv2d(toy->nn, features, toy->head, NULL, nn_conv_square(1, 0, 1));
}

static inline void toy_forward(void *model, struct nn_tensor *images, bool training,
                               struct nn_tensor **logits, struct nn_tensor **maps)
{
    const struct toy *toy = model;
    *maps = toy_maps(toy, toy_features(toy, images, training));
    *logits = nn_global_avg_pool(toy->nn, *maps);
}

static inline struct ws2_classifier toy_open(struct toy *toy, struct nn *nn, int kernel, int classes,
                                             bool trainable)
{
    *toy = (struct toy){.nn = nn, .kernel = kernel, .normalise = trainable, .pool = trainable};
    toy->params = nn_params_new(nn);
    toy->body = nn_declare(toy->params, NN_WEIGHT, "body.weight", ws2_shape_4(8, 3, kernel, kernel),
                           nn_init_make(NN_INIT_KAIMING_OUT, 0));
    if (trainable)
        toy->bn = nn_bn_declare(toy->params, "bn", 8);
    toy->head = nn_declare(toy->params, NN_WEIGHT, "classifier.weight", ws2_shape_4(classes, 8, 1, 1),
                           nn_init_make(NN_INIT_NORMAL, 0.3));
    assert_int_equal(nn_params_init(toy->params, 7), 0);
    return (struct ws2_classifier){toy, toy->params, classes, toy_forward};
}

/* Against METHOD.grad.NAME and METHOD.norm.NAME of the golden file. */
static inline void check_gradient(const struct nn_params *params, const char *method, const char *name)
{
    char key[96];
    double want[8], norm, sum = 0;
    const struct nn_param *param = nn_params_at(params, nn_params_find(params, name));
    const size_t count = (size_t)nn_count(param->tensor);
    struct nn *nn = nn_params_context(params);
    double *got = calloc(count, sizeof *got);
    nn_to_f64(nn, nn_leaf_grad(nn, param->tensor), got, count);
    snprintf(key, sizeof key, "%s.grad.%s", method, name);
    golden_f64(key, want, 8);
    snprintf(key, sizeof key, "%s.norm.%s", method, name);
    golden_f64(key, &norm, 1);
    for (size_t i = 0; i < count; i++)
        sum += got[i] * got[i];
    assert_near(sqrt(sum), norm, 1e-5);
    for (int i = 0; i < 8; i++)
        assert_near(got[i], want[i], 1e-5);
    free(got);
}

/* ---- streams to learn from ---- */

#define SIDE 16

static char folder[64];

static inline int make_scratch(void)
{
    snprintf(folder, sizeof folder, "/tmp/ws2-train-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline void path_of(char *path, size_t size, const char *name)
{
    snprintf(path, size, "%s/%s", folder, name);
}

enum flow_kind {
    FLOW_NONE,
    FLOW_TRUE,   /* of the item, everywhere */
    FLOW_FLOAT,  /* the head says f32 */
    FLOW_ABSENT, /* promised by the head only */
    FLOW_SHAPE,  /* of another size than the frame */
    FLOW_NAN
};

struct clip_options {
    const char *file, *seq;
    enum ws2_role role;
    int frames, width, height;
    bool no_fg, no_rgb, wrong_fg;
    int lighter; /* grey levels added to the belt */
    enum flow_kind flow;
    int speed;  /* the item moves so many pixels to the right in each frame; 0: it jumps */
    bool clean; /* no noise */
};

/* Corner of the item. */
static inline void item_place(const struct clip_options *o, int frame, int *left, int *top)
{
    *left = o->speed ? 1 + o->speed * frame : 2 + frame % 5;
    *top = o->speed ? 3 : 3 + frame % 3;
}

/* Frames of a grey belt with noise and one square item: red before, blue after. */
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
                const int level = !item                                       ? 90 + o->lighter
                                  : c == (o->role == WS2_ROLE_BEFORE ? 0 : 2) ? 200
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
    put_flow(record, o, "flow.prev", frame, frame - 1);
    put_flow(record, o, "flow.next", frame, frame + 1);
    assert_int_equal(ws2_writer_put(writer, record), 0);
    free(rgb);
    free(fg);
}

/* Writes one file of `count` segments. */
static inline void write_clips(const struct clip_options *o, int count)
{
    char path[128];
    struct ws2_writer *writer;
    struct ws2_error error = {0};
    uint32_t noise = 1 + (uint32_t)o->file[0];
    struct ws2_record *record = ws2_record_new();
    path_of(path, sizeof path, o->file);
    assert_int_equal(ws2_writer_open(&writer, path, 1, &error), 0);
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

static inline struct ws2_clips *open_clips(const char *const *name, int count)
{
    char path[16][128];
    const char *list[16];
    struct ws2_clips *clips;
    struct ws2_error error = {0};
    for (int i = 0; i < count; i++) {
        path_of(path[i], sizeof path[i], name[i]);
        list[i] = path[i];
    }
    if (ws2_clips_open(&clips, list, count, &error) < 0)
        fail_msg("%s", error.text);
    return clips;
}

/* The same with flow. */
static inline struct clip_options moving(const char *file, const char *seq, enum ws2_role role, int frames)
{
    struct clip_options o = clip(file, seq, role, frames);
    o.flow = FLOW_TRUE;
    return o;
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

static inline int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

#endif
