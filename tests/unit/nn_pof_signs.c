/* Signs of the flow: the temporal term of an item and of a simulated belt is small for the right ones only. */
#include "clips_help.h"
#include "synth/synth.h"
#include "train_help.h"

/* Mean temporal term over all triplets of class `label`, with the flow as it is, negated, or with the neighbours
 * exchanged. */
enum wrong { RIGHT_SIGN, NEGATED, EXCHANGED, WRONGS };

static double temporal_mean(struct ws2_loader *loader, const struct ws2_classifier *net, int64_t label,
                            enum wrong wrong)
{
    struct nn *nn = nn_params_context(net->params);
    const struct ws2_loss_options o = {.method = WS2_METHOD_TEMPORAL, .beta = 1};
    struct ws2_batch b;
    struct ws2_error error = {0};
    double sum = 0;
    int count = 0;
    assert_int_equal(ws2_loader_start(loader, 0, &error), 0);
    while (ws2_loader_next(loader, &b, &error) == 1) {
        if (b.label[0] != label)
            continue;
        const bool other = wrong == EXCHANGED;
        const struct ws2_shape grid = ws2_shape_4(1, 2, b.cells, b.cells);
        nn_scope_begin(nn);
        struct ws2_pictures p = {
            .centre = nn_images_u8(nn, 1, b.size, b.size, b.rgb, nn_imagenet_mean, nn_imagenet_std),
            .left = nn_images_u8(nn, 1, b.size, b.size, other ? b.right : b.left, nn_imagenet_mean,
                                 nn_imagenet_std),
            .right = nn_images_u8(nn, 1, b.size, b.size, other ? b.left : b.right, nn_imagenet_mean,
                                  nn_imagenet_std),
            .flow_left = nn_from_f32(nn, grid, b.flow_left),
            .flow_right = nn_from_f32(nn, grid, b.flow_right),
            .label = b.label};
        if (wrong == NEGATED) {
            p.flow_left = nn_neg(nn, p.flow_left);
            p.flow_right = nn_neg(nn, p.flow_right);
        }
        const struct ws2_terms terms = ws2_loss_terms(net, &o, &p, false, 1);
        sum += nn_item(nn, terms.temporal);
        count++;
        nn_scope_end(nn);
    }
    assert_good(nn);
    assert_true(count > 1);
    return sum / count;
}

/* An item that moves two pixels a frame, on black: right signs bring it back exactly, wrong ones do not. */
static void signs(void **state)
{
    (void)state;
    static const char *const names[] = {"mb.ws2", "ma.ws2"};
    struct clip_options b = moving("mb.ws2", "b", WS2_ROLE_BEFORE, 5),
                        a = moving("ma.ws2", "a", WS2_ROLE_AFTER, 5);
    b.speed = a.speed = 2;
    b.clean = a.clean = true;
    write_clips(&b, 1);
    write_clips(&a, 1);
    struct ws2_clips *clips = open_clips(names, 2);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    struct bright bright;
    struct nn *nn = open_nn(NN_F64_MODE);
    const struct ws2_classifier net = bright_open(&bright, nn, 1);
    struct ws2_loader_options o = triplet_options(2, false, SIDE);
    o.batch = 1;
    assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
    assert_near(temporal_mean(loader, &net, WS2_CLASS_BEFORE, RIGHT_SIGN), 0, 1e-6);
    assert_true(temporal_mean(loader, &net, WS2_CLASS_BEFORE, NEGATED) > 0.02);
    assert_true(temporal_mean(loader, &net, WS2_CLASS_BEFORE, EXCHANGED) > 0.02);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
    nn_params_free(bright.params);
    nn_close(nn);
}

enum { SYNTH = 64, FRAMES = 6 };

/* A frame of the simulated belt, its items as fg, with the simulator's own flow. */
static void put_synth(struct ws2_writer *writer, struct ws2_record *record, const struct ws2_synth *synth,
                      int t)
{
    static uint8_t rgb[SYNTH * SYNTH * 3], fg[SYNTH * SYNTH];
    static uint16_t ids[SYNTH * SYNTH], half[2 * SYNTH * SYNTH];
    static float next[2 * SYNTH * SYNTH], prev[2 * SYNTH * SYNTH];
    const struct ws2_shape image = ws2_shape_3(SYNTH, SYNTH, 3), mask = ws2_shape_2(SYNTH, SYNTH),
                           flow = ws2_shape_3(2, SYNTH, SYNTH);
    struct ws2_error error = {0};
    const struct ws2_synth_frame frame = {.rgb = rgb, .ids = ids, .next = next, .prev = prev};
    assert_int_equal(ws2_synth_render(synth, t, &frame, &error), 0);
    for (int i = 0; i < SYNTH * SYNTH; i++)
        fg[i] = ids[i] != 0;
    ws2_record_clear(record);
    ws2_record_set_frame(record, t, -1);
    assert_int_equal(ws2_record_put(record, "rgb", WS2_U8, &image, rgb, &error), 0);
    assert_int_equal(ws2_record_put(record, "fg", WS2_U8, &mask, fg, &error), 0);
    ws2_half_from_floats(half, next, 2 * SYNTH * SYNTH);
    assert_int_equal(ws2_record_put(record, "flow.next", WS2_F16, &flow, half, &error), 0);
    ws2_half_from_floats(half, prev, 2 * SYNTH * SYNTH);
    assert_int_equal(ws2_record_put(record, "flow.prev", WS2_F16, &flow, half, &error), 0);
    assert_int_equal(ws2_writer_put(writer, record), 0);
}

static void write_synth(const char *name, bool after, enum ws2_synth_direction direction)
{
    struct ws2_writer *writer;
    struct ws2_error error = {0};
    struct ws2_synth_config config;
    struct ws2_synth *synth;
    ws2_synth_defaults(&config, WS2_SYNTH_CLEAR);
    config.width = config.height = SYNTH;
    config.after = after;
    config.direction = direction;
    config.speed = 0.125;
    config.density = 5;
    assert_int_equal(ws2_synth_open(&synth, &config, NULL, &error), 0);
    struct ws2_record *record = ws2_record_new();
    struct ws2_head *head = ws2_head_new();
    ws2_head_set_seq(head, name);
    ws2_head_set_role(head, after ? WS2_ROLE_AFTER : WS2_ROLE_BEFORE);
    ws2_head_add_tensor(head, "rgb", WS2_U8, "h,w,3", "", &error);
    ws2_head_add_tensor(head, "fg", WS2_U8, "h,w", "", &error);
    ws2_head_add_tensor(head, "flow.prev", WS2_F16, "2,h,w", "pixel", &error);
    ws2_head_add_tensor(head, "flow.next", WS2_F16, "2,h,w", "pixel", &error);
    assert_int_equal(ws2_writer_open(&writer, in_folder(name), 1, &error), 0);
    assert_int_equal(ws2_writer_begin(writer, head), 0);
    for (int t = 0; t < FRAMES; t++)
        put_synth(writer, record, synth, t);
    assert_int_equal(ws2_writer_end(writer), 0);
    assert_int_equal(ws2_writer_close(writer, &error), 0);
    ws2_head_free(head);
    ws2_record_free(record);
    ws2_synth_close(synth);
}

/* The same on a simulated belt that runs in each direction, with the simulator's flow. */
static void signs_on_a_belt(void **state)
{
    (void)state;
    static const char *const names[] = {"synth.before", "synth.after"};
    for (int direction = WS2_SYNTH_DOWN; direction <= WS2_SYNTH_LEFT; direction++) {
        struct ws2_error error = {0};
        struct ws2_loader *loader;
        struct bright bright;
        struct nn *nn = open_nn(NN_F32_MODE);
        const struct ws2_classifier net = bright_open(&bright, nn, 4);
        for (int after = 0; after < 2; after++)
            write_synth(names[after], after, (enum ws2_synth_direction)direction);
        struct ws2_clips *clips = open_clips(names, 2);
        struct ws2_loader_options o = triplet_options(2, false, SYNTH / 4);
        o.size = SYNTH;
        o.batch = 1;
        assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, &error), 0);
        const double right = temporal_mean(loader, &net, WS2_CLASS_BEFORE, RIGHT_SIGN);
        for (int wrong = NEGATED; wrong < WRONGS; wrong++)
            assert_true(temporal_mean(loader, &net, WS2_CLASS_BEFORE, (enum wrong)wrong) > 2 * right);
        ws2_loader_close(loader);
        ws2_clips_close(clips);
        nn_params_free(bright.params);
        nn_close(nn);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs),
        cmocka_unit_test(signs_on_a_belt),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
