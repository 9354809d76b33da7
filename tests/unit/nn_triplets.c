/* The loader's triplets of frames: which frames and flow they have, jitter, mirrors, and what is refused. */
#include "clips_help.h"
#include "train_help.h"

struct copy {
    uint8_t rgb[3][64][SIDE * SIDE * 3]; /* centre, left, right */
    float flow[2][64][2 * SIDE * SIDE];  /* left, right */
    int64_t label[64];
    int count;
};

static void copy_epoch(struct ws2_loader *loader, int64_t epoch, struct copy *copy)
{
    struct ws2_batch b;
    struct ws2_error error = {0};
    int status;
    memset(copy, 0, sizeof *copy);
    assert_int_equal(ws2_loader_start(loader, epoch, &error), 0);
    while ((status = ws2_loader_next(loader, &b, &error)) == 1) {
        const uint8_t *const rgb[3] = {b.rgb, b.left, b.right};
        const float *const flow[2] = {b.flow_left, b.flow_right};
        const size_t cells = 2 * (size_t)b.cells * (size_t)b.cells;
        assert_true(copy->count + b.count <= 64 && b.size == SIDE);
        for (int i = 0; i < 3 && rgb[i]; i++)
            memcpy(copy->rgb[i][copy->count], rgb[i], (size_t)b.count * sizeof copy->rgb[0][0]);
        for (int i = 0; i < 2 && flow[i]; i++)
            for (int k = 0; k < b.count; k++)
                memcpy(copy->flow[i][copy->count + k], flow[i] + (size_t)k * cells, cells * sizeof(float));
        memcpy(copy->label + copy->count, b.label, (size_t)b.count * sizeof *b.label);
        copy->count += b.count;
    }
    if (status < 0)
        fail_msg("%s", error.text);
}

static void load_epoch(const char *const *names, int count, const struct ws2_loader_options *o, int64_t epoch,
                       struct copy *copy)
{
    struct ws2_clips *clips = open_clips(names, count);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    if (ws2_loader_open(&loader, clips, NULL, o, &error) < 0)
        fail_msg("%s", error.text);
    copy_epoch(loader, epoch, copy);
    ws2_loader_close(loader);
    ws2_clips_close(clips);
}

static const char *const belt_files[] = {"b.ws2", "a.ws2"};

static int make_belt_files(void **state)
{
    if (make_folder(state) < 0)
        return -1;
    struct clip_options before[] = {moving("b.ws2", "b0", WS2_ROLE_BEFORE, 5),
                                    moving("b.ws2", "b1", WS2_ROLE_BEFORE, 2),
                                    moving("b.ws2", "b2", WS2_ROLE_BEFORE, 4)};
    struct clip_options after[] = {moving("a.ws2", "a0", WS2_ROLE_AFTER, 6),
                                   moving("a.ws2", "a1", WS2_ROLE_AFTER, 3)};
    write_clips(before, 3);
    write_clips(after, 2);
    return 0;
}

/* Which frames make triplets, and that they are the frames that a loader of single ones gives. */
static void triplets(void **state)
{
    (void)state;
    static struct copy single, triple;
    struct ws2_loader_options o = loader_options(3, false);
    load_epoch(belt_files, 2, &o, 0, &single);
    o = triplet_options(3, false, SIDE / 4);
    load_epoch(belt_files, 2, &o, 0, &triple);
    /* b0: 3 centres, also as bg; b1: none; b2: 2, bg; a0: 4, bg; a1: 1 */
    assert_int_equal(triple.count, 3 + 3 + 2 + 2 + 4 + 4 + 1);
    const struct {
        int frames, first_single, bg;
    } clips[] = {{5, 0, true}, {2, 10, false}, {4, 12, true}, {6, 20, true}, {3, 32, false}};
    const struct clip_options any = moving("", "", WS2_ROLE_BEFORE, 9);
    int at = 0;
    for (int c = 0; c < 5; c++) {
        for (int bg = 0; bg <= clips[c].bg; bg++) {
            for (int f = 1; f < clips[c].frames - 1; f++, at++) {
                const int s = clips[c].first_single + bg * clips[c].frames + f;
                int here[2], there[2][2];
                assert_int_equal(triple.label[at], single.label[s]);
                assert_memory_equal(triple.rgb[0][at], single.rgb[0][s], sizeof single.rgb[0][0]);
                assert_memory_equal(triple.rgb[1][at], single.rgb[0][s - 1], sizeof single.rgb[0][0]);
                assert_memory_equal(triple.rgb[2][at], single.rgb[0][s + 1], sizeof single.rgb[0][0]);
                item_place(&any, f, &here[0], &here[1]);
                item_place(&any, f - 1, &there[0][0], &there[0][1]);
                item_place(&any, f + 1, &there[1][0], &there[1][1]);
                for (int i = 0; i < 2 * 16; i++)
                    for (int side = 0; side < 2; side++)
                        assert_near(triple.flow[side][at][i], 0.25 * (there[side][i / 16] - here[i / 16]), 0);
            }
        }
    }
    assert_int_equal(at, triple.count);
    o.bg_source = WS2_BG_FRAMES; /* every second centre: 2 of b0, 1 of b2, 2 of a0, 1 of a1 */
    load_epoch(belt_files, 2, &o, 0, &triple);
    assert_int_equal(triple.count, 3 + 2 + 4 + 1 + 2 + 1 + 2 + 1);
}

/* Frames that could be centres, alone: what triplets show in the middle, in the same order. */
static void centres(void **state)
{
    (void)state;
    static struct copy single, triple;
    for (int training = 0; training < 2; training++) {
        struct ws2_loader_options o = triplet_options(3, training, SIDE / 4);
        o.jitter = 0;
        load_epoch(belt_files, 2, &o, 0, &triple);
        o = loader_options(3, training);
        o.jitter = 0;
        o.centres = true;
        load_epoch(belt_files, 2, &o, 0, &single);
        assert_int_equal(single.count, triple.count);
        for (int i = 0; i < single.count; i++) {
            assert_int_equal(single.label[i], triple.label[i]);
            assert_memory_equal(single.rgb[0][i], triple.rgb[0][i], sizeof single.rgb[0][0]);
        }
    }
}

/* Each frame of a triplet is jittered by itself; the belt drawn for it is one. */
static void jitter_and_belt(void **state)
{
    (void)state;
    static struct copy copy;
    static const char *const names[] = {"sb.ws2", "sa.ws2"};
    struct clip_options b = moving("sb.ws2", "b", WS2_ROLE_BEFORE, 8),
                        a = moving("sa.ws2", "a", WS2_ROLE_AFTER, 8);
    b.speed = 1; /* so that fg is another one in each frame */
    a.clean = true;
    write_clips(&b, 1);
    write_clips(&a, 1);
    struct ws2_loader_options o = triplet_options(2, false, 4);
    o.fill = WS2_FILL_BELT;
    load_epoch(names, 2, &o, 0, &copy);
    for (int i = 0; i < copy.count; i++) {
        const bool before = copy.label[i] == WS2_CLASS_BEFORE;
        int left[3] = {SIDE, SIDE, SIDE}, same = 0;
        for (int p = 0; p < SIDE * SIDE; p++) {
            bool item = false;
            for (int k = 0; k < 3; k++) {
                const bool mine = copy.rgb[k][i][3 * p + (before ? 0 : 2)] >= 200;
                item |= mine;
                left[k] = mine && p % SIDE < left[k] ? p % SIDE : left[k];
            }
            same += !item && memcmp(&copy.rgb[0][i][3 * p], &copy.rgb[1][i][3 * p], 3) == 0 &&
                    memcmp(&copy.rgb[0][i][3 * p], &copy.rgb[2][i][3 * p], 3) == 0;
        }
        if (before) {
            assert_int_equal(left[1], left[0] - 1);
            assert_int_equal(left[2], left[0] + 1);
            assert_int_equal(same, SIDE * SIDE - 5 * 7); /* all but where one of the three has the item */
        }
    }
    o = triplet_options(2, true, 4);
    o.flip_x = o.flip_y = false;
    o.hue = 0;
    for (int pass = 0; pass < 2; pass++) { /* frames of `a` differ by the item's place only */
        o.jitter = pass ? 0.3 : 0;
        load_epoch(names, 2, &o, 0, &copy);
        int different = 0, seen = 0;
        for (int i = 0; i < copy.count; i++) {
            if (copy.label[i] != WS2_CLASS_AFTER)
                continue;
            int peak[3] = {0};
            for (int k = 0; k < 3; k++)
                for (int p = 0; p < 3 * SIDE * SIDE; p++)
                    peak[k] = copy.rgb[k][i][p] > peak[k] ? copy.rgb[k][i][p] : peak[k];
            different += peak[0] != peak[1] && peak[0] != peak[2] && peak[1] != peak[2];
            seen++;
        }
        assert_true(seen > 3);
        assert_true(pass ? different > seen / 2 : different == 0);
    }
}

/* Brightness of a neighbour in cells of 2 pixels, warped to the centre. */
static void warped(struct nn *nn, const uint8_t *rgb, const float *flow, bool compat, double *out)
{
    struct bright bright = {.params = nn_params_new(nn), .cell = 2};
    struct nn_tensor *logits, *maps;
    const int n = SIDE / 2;
    nn_scope_begin(nn);
    bright_forward(&bright, nn_images_u8(nn, 1, SIDE, SIDE, rgb, nn_imagenet_mean, nn_imagenet_std), false,
                   &logits, &maps);
    maps = nn_narrow(nn, maps, 1, 0, 1);
    nn_to_f64(nn, ws2_maps_warp(nn, maps, nn_from_f32(nn, ws2_shape_4(1, 2, n, n), flow), compat), out,
              (size_t)(n * n));
    nn_scope_end(nn);
    assert_good(nn);
    nn_params_free(bright.params);
}

/* Mirrored pictures warped by mirrored flow are the mirrored warp, and both mirrors come up. */
static void flips(void **state)
{
    (void)state;
    enum { N = SIDE / 2 };
    static struct copy plain, flipped;
    struct nn *nn = open_nn(NN_F64_MODE);
    int seen[2][2] = {{0}};
    struct ws2_loader_options o = triplet_options(3, true, N);
    o.jitter = o.hue = 0;
    o.batch = 1;
    load_epoch(belt_files, 2, &o, 3, &flipped);
    o.flip_x = o.flip_y = false;
    load_epoch(belt_files, 2, &o, 3, &plain);
    for (int i = 0; i < plain.count; i++) {
        /* how this sample was mirrored, by its centre */
        bool found = false;
        for (int way = 0; way < 4 && !found; way++) {
            const bool x = way & 1, y = way & 2;
            bool same = true;
            for (int p = 0; p < SIDE * SIDE; p++) {
                const int from =
                    (y ? SIDE - 1 - p / SIDE : p / SIDE) * SIDE + (x ? SIDE - 1 - p % SIDE : p % SIDE);
                same &= memcmp(&flipped.rgb[0][i][3 * p], &plain.rgb[0][i][3 * from], 3) == 0;
            }
            if (!same)
                continue;
            found = true;
            seen[x][y]++;
            for (int side = 0; side < 2; side++) {
                for (int compat = 0; compat < 2; compat++) {
                    double want[N * N], got[N * N];
                    warped(nn, plain.rgb[1 + side][i], plain.flow[side][i], compat, want);
                    warped(nn, flipped.rgb[1 + side][i], flipped.flow[side][i], compat, got);
                    for (int c = 0; c < N * N; c++)
                        assert_near(got[c],
                                    want[(y ? N - 1 - c / N : c / N) * N + (x ? N - 1 - c % N : c % N)],
                                    1e-6);
                }
            }
        }
        assert_true(found);
    }
    assert_true(seen[0][0] && seen[0][1] && seen[1][0] && seen[1][1]);
    nn_close(nn);
}

/* The same for any number of threads, and for a second pass. */
static void any_threads(void **state)
{
    (void)state;
    static struct copy first, again;
    struct ws2_loader_options o = triplet_options(3, true, 8);
    load_epoch(belt_files, 2, &o, 2, &first);
    assert_true(first.count == 16);
    for (o.threads = 1; o.threads <= 4; o.threads++) {
        load_epoch(belt_files, 2, &o, 2, &again);
        assert_memory_equal(&first, &again, sizeof first);
    }
    load_epoch(belt_files, 2, &o, 3, &again);
    assert_memory_not_equal(first.rgb, again.rgb, sizeof first.rgb);
}

static void expect_clip_refusal(const struct clip_options *o, const char *reason)
{
    const struct ws2_loader_options lo = triplet_options(2, false, 4);
    const char *const names[] = {o->file, "a.ws2"};
    write_clips(o, 1);
    expect_refusal(names, 2, &lo, WS2_ERR_INPUT, reason);
}

static void refusals(void **state)
{
    (void)state;
    struct clip_options o = moving("r.ws2", "r", WS2_ROLE_BEFORE, 4);
    o.flow = FLOW_NONE;
    expect_clip_refusal(&o, "r.ws2: r: no tensors flow.prev and flow.next of type f16");
    o.flow = FLOW_FLOAT;
    expect_clip_refusal(&o, "of type f16, needed for triplets of frames");
    o.flow = FLOW_ABSENT;
    expect_clip_refusal(&o, "r.ws2: r: frame 1: no tensor 'flow.prev'");
    o.flow = FLOW_SHAPE;
    expect_clip_refusal(&o, "frame 1: flow.prev has shape [2,8,16], but rgb [16,16,3]");
    o.flow = FLOW_NAN;
    expect_clip_refusal(&o, "frame 1: flow.prev is not finite");
    o.flow = FLOW_TRUE;
    o.frames = 2;
    expect_clip_refusal(&o, "no before frames with one before and one after them among");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(triplets), cmocka_unit_test(centres),     cmocka_unit_test(jitter_and_belt),
        cmocka_unit_test(flips),    cmocka_unit_test(any_threads), cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_belt_files, remove_folder);
}
