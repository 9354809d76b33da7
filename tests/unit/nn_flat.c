/* Flat fields where frames are learnt from: before all else, at the size that frames have. */
#include <stdlib.h>

#include "clips_help.h"
#include "image/image.h"
#include "mask/mask.h"

enum { FRAMES = 3 };

/* Cameras whose frames have sizes of their own. */
static struct clip_options camera(enum ws2_role role)
{
    const bool before = role == WS2_ROLE_BEFORE;
    struct clip_options o = clip(before ? "before.ws2" : "after.ws2", "x", role, FRAMES);
    o.width = before ? 24 : 20;
    o.height = before ? 32 : 28;
    o.clean = true;
    return o;
}

static struct ws2_flat *flat_of(const struct clip_options *o, double sigma)
{
    const struct ws2_flat_params params = {sigma, 100};
    struct ws2_belt belt;
    struct ws2_flat *flat;
    assert_int_equal(ws2_belt_make(&belt, o->height, o->width, false, NULL), 0);
    for (int i = 0; i < 3 * o->width * o->height; i++)
        belt.rgb[i] = (float)(60 + 40 * (o->role == WS2_ROLE_AFTER) + i % (3 * o->width) + 10 * (i % 3));
    assert_int_equal(ws2_flat_new(&flat, &belt, &params, NULL), 0);
    ws2_belt_free(&belt);
    return flat;
}

static struct ws2_loader_options flat_options(bool dense)
{
    struct ws2_loader_options o = loader_options(2, false);
    o.jitter = o.hue = 0;
    o.dense = dense;
    o.fill = WS2_FILL_MEAN;
    o.background = dense ? WS2_BACKGROUND_REMOVE : WS2_BACKGROUND_KEEP;
    for (int i = 0; i < 2; i++) {
        const struct clip_options c = camera(i == WS2_CLASS_BEFORE ? WS2_ROLE_BEFORE : WS2_ROLE_AFTER);
        o.flat[i] = flat_of(&c, 0.1);
    }
    return o;
}

static void free_fields(const struct ws2_loader_options *o)
{
    for (int i = 0; i < 2; i++)
        ws2_flat_free((struct ws2_flat *)o->flat[i]);
}

/* A frame as the network should see it: painted, evened out, then resized. */
static void by_hand(const struct ws2_flat *flat, enum ws2_role role, int frame, uint8_t *want)
{
    const struct clip_options c = camera(role);
    struct ws2_resizer *resizer = NULL;
    uint8_t rgb[32 * 24 * 3], fg[32 * 24];
    uint32_t noise = 1;
    paint(rgb, fg, &c, frame, &noise);
    assert_int_equal(ws2_flat_apply(flat, c.height, c.width, rgb, rgb, NULL), 0);
    assert_int_equal(ws2_resizer_fit(&resizer, c.width, c.height, SIDE, SIDE, WS2_PIL_BILINEAR, NULL), 0);
    assert_int_equal(ws2_resizer_u8(resizer, want, rgb, 3, NULL), 0);
    ws2_resizer_free(resizer);
}

/* Looks at each sample of an epoch; returns how many there were. */
static int check_epoch(struct ws2_loader *loader, const struct ws2_loader_options *o)
{
    struct ws2_batch batch;
    struct ws2_error error = {0};
    int next[2] = {0}, status = ws2_loader_start(loader, 0, &error);
    while (status >= 0 && (status = ws2_loader_next(loader, &batch, &error)) == 1)
        for (int i = 0; i < batch.count; i++) {
            const int64_t label = batch.label[i];
            const size_t pixels = SIDE * SIDE;
            uint8_t want[SIDE * SIDE * 3];
            by_hand(o->flat[label], label == WS2_CLASS_BEFORE ? WS2_ROLE_BEFORE : WS2_ROLE_AFTER,
                    next[label]++, want);
            for (size_t p = 0; batch.keep && p < pixels; p++)
                if (!batch.keep[(size_t)i * pixels + p])
                    memcpy(want + 3 * p, ws2_fill_colour[WS2_FILL_MEAN], 3);
            assert_memory_equal(batch.rgb + 3 * (size_t)i * pixels, want, sizeof want);
        }
    if (status < 0)
        fail_msg("%s", error.text);
    return next[0] + next[1];
}

static void samples_by_hand(void **state)
{
    (void)state;
    static const char *const names[] = {"before.ws2", "after.ws2"};
    for (int dense = 0; dense < 2; dense++)
        for (int threads = 1; threads < 4; threads += 2) {
            struct ws2_loader_options o = flat_options(dense);
            struct ws2_clips *clips = open_clips(names, 2);
            struct ws2_loader *loader;
            o.threads = threads;
            assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, NULL), 0);
            assert_int_equal(check_epoch(loader, &o), 2 * FRAMES);
            ws2_loader_close(loader);
            ws2_clips_close(clips);
            free_fields(&o);
        }
}

static void refusals(void **state)
{
    (void)state;
    static const char *const names[] = {"before.ws2", "after.ws2"}, *const swapped[] = {"before.ws2",
                                                                                        "odd.ws2"};
    struct clip_options odd = camera(WS2_ROLE_AFTER);
    odd.file = "odd.ws2";
    odd.width = 24;
    write_clips(&odd, 1);
    struct ws2_loader_options o = flat_options(true), one = o;
    expect_refusal(swapped, 2, &o, WS2_ERR_INPUT,
                   "frame 0: a frame of 24x28 pixels, but a flat field of 20x28");
    one.flat[0] = NULL;
    expect_refusal(names, 2, &one, WS2_ERR_USAGE, "of one camera alone");
    one.flat[0] = flat_of(&odd, 0.2);
    expect_refusal(names, 2, &one, WS2_ERR_USAGE, "differ in sigma or level");
    ws2_flat_free((struct ws2_flat *)one.flat[0]);
    free_fields(&o);
}

static void told_in_meta(void **state)
{
    (void)state;
    static const char *const names[] = {"before.ws2", "after.ws2"};
    struct ws2_loader_options o = flat_options(true);
    const struct ws2_train_options options = {.loss.method = WS2_METHOD_PU, .epochs = 1};
    for (int flat = 1; flat >= 0; flat--) {
        struct ws2_clips *clips = open_clips(names, 2);
        struct ws2_loader *loader;
        struct ws2_meta meta = {0};
        const char *told = "";
        if (!flat) {
            free_fields(&o);
            o.flat[0] = o.flat[1] = NULL;
        }
        assert_int_equal(ws2_loader_open(&loader, clips, NULL, &o, NULL), 0);
        assert_int_equal(ws2_train_describe(&meta, loader, loader, &options), 0);
        for (int i = 0; i < meta.count; i++)
            if (strcmp(meta.entry[i].key, "flat") == 0)
                told = meta.entry[i].value;
        assert_string_equal(told, flat ? "sigma 0.1, level 100" : "none");
        ws2_loader_close(loader);
        ws2_clips_close(clips);
    }
}

static int make_cameras(void **state)
{
    if (make_folder(state) < 0)
        return -1;
    const struct clip_options before = camera(WS2_ROLE_BEFORE), after = camera(WS2_ROLE_AFTER);
    write_clips(&before, 1);
    write_clips(&after, 1);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_by_hand),
        cmocka_unit_test(refusals),
        cmocka_unit_test(told_in_meta),
    };
    return cmocka_run_group_tests(tests, make_cameras, remove_folder);
}
