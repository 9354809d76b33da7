/* Samples to learn pixels from: what counts in them, items laid beside, halves, labels, light, and what is refused. */
#include <stdlib.h>

#include "epoch_help.h"

/* ---- both cameras ----------------------------------------------------------------------------------------- */

static struct ws2_loader_options dense_options(bool training)
{
    struct ws2_loader_options o = loader_options(2, training);
    o.dense = true;
    o.fill = WS2_FILL_MEAN;
    o.jitter = o.hue = 0;
    o.flip_x = o.flip_y = false;
    return o;
}

/* One epoch; what is not on the belt has no colour, what is says which camera saw it. */
static void dense_epoch(const char *const *names, int count, const struct ws2_loader_options *o,
                        struct epoch_copy *copy)
{
    one_epoch(names, count, o, copy);
    for (int i = 0; i < copy->count; i++)
        for (int p = 0; p < SIDE * SIDE; p++) {
            const uint8_t *c = copy->rgb[i] + 3 * p;
            assert_true(copy->keep[i][p] == 0 || copy->keep[i][p] == 1 + copy->label[i] ||
                        (o->paste > 0 && copy->keep[i][p] == 1 + WS2_CLASS_AFTER));
            assert_true(copy->keep[i][p] || (c[0] == 124 && c[1] == 116 && c[2] == 104));
        }
}

static const char *const few_after[] = {"b.ws2", "a1.ws2"}; /* 18 before, 5 after */

/* Which sample of a whole pass this picture is; -1: none. */
static int find_sample(const struct epoch_copy *all, const uint8_t *rgb)
{
    for (int i = 0; i < all->count; i++)
        if (memcmp(all->rgb[i], rgb, sizeof all->rgb[i]) == 0)
            return i;
    return -1;
}

/* Validation shows every sample once, both cameras evenly mixed, and on the belt what fg says. */
static void loader_dense_validation(void **state)
{
    (void)state;
    static struct epoch_copy copy, again, whole;
    const struct ws2_loader_options o = dense_options(false);
    dense_epoch(few_after, 2, &o, &copy);
    dense_epoch(few_after, 2, &o, &again);
    assert_memory_equal(&copy, &again, sizeof copy);
    assert_int_equal(copy.count, 23);
    int before = 0;
    for (int i = 0; i < copy.count; i++) {
        int items = 0;
        before += copy.label[i] == WS2_CLASS_BEFORE;
        assert_true(abs(23 * before - 18 * (i + 1)) < 23);
        assert_int_equal(find_sample(&copy, copy.rgb[i]), i);
        for (int p = 0; p < SIDE * SIDE; p++) {
            const int colour = copy.rgb[i][3 * p + (copy.label[i] == WS2_CLASS_BEFORE ? 0 : 2)];
            assert_int_equal(copy.keep[i][p], colour >= 200 ? 1 + copy.label[i] : 0);
            items += copy.keep[i][p] > 0;
        }
        assert_int_equal(items, 25);
        assert_true(copy.share[i] == 25.0f / (SIDE * SIDE));
    }
    assert_int_equal(before, 18);
    struct ws2_loader_options plain = loader_options(2, false);
    plain.fill = WS2_FILL_MEAN;
    one_epoch(few_after, 2, &plain, &whole);
    assert_int_equal(whole.count, 23);
    for (int i = 0; i < whole.count; i++)
        assert_true(find_sample(&copy, whole.rgb[i]) >= 0);
}

/* Cameras take turns; the scarcer one's samples come again, each as often as the others. */
static void loader_dense_turns(void **state)
{
    (void)state;
    static struct epoch_copy all, copy;
    const struct ws2_loader_options val = dense_options(false);
    struct ws2_loader_options o = dense_options(true);
    int last[20] = {0};
    dense_epoch(few_after, 2, &val, &all);
    for (o.seed = 0; o.seed < 3; o.seed++) {
        int seen[23] = {0}, same = 0;
        dense_epoch(few_after, 2, &o, &copy);
        assert_int_equal(copy.count, 20);
        for (int i = 0; i < copy.count; i++) {
            const int sample = find_sample(&all, copy.rgb[i]);
            assert_int_equal(copy.label[i], i % 2 ? WS2_CLASS_BEFORE : WS2_CLASS_AFTER);
            assert_true(sample >= 0);
            assert_int_equal(all.label[sample], copy.label[i]);
            seen[sample]++;
            same += sample == last[i];
            last[i] = sample;
        }
        assert_true(same < 15); /* in another order each time */
        for (int i = 0; i < 23; i++)
            if (all.label[i] == WS2_CLASS_AFTER)
                assert_int_equal(seen[i], 2);
            else
                assert_in_range(seen[i], 0, 1);
    }
}

/* A picture of `bytes` bytes a pixel, mirrored left to right (bit 0), upside down (bit 1), then sides swapped (bit 2). */
static void turn(const uint8_t *from, int bytes, int how, uint8_t *to)
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            const int v = how & 4 ? x : y, u = how & 4 ? y : x;
            const int row = how & 2 ? SIDE - 1 - v : v, column = how & 1 ? SIDE - 1 - u : u;
            memcpy(to + (y * SIDE + x) * bytes, from + (row * SIDE + column) * bytes, (size_t)bytes);
        }
}

/* A picture is one of `all`, turned somehow, and its mask and seeds are turned with it: how, -1 where it is not. */
static int find_turn(const struct epoch_copy *all, const struct epoch_copy *copy, int picture)
{
    static uint8_t turned[SIDE * SIDE * 3];
    for (int i = 0; i < all->count; i++)
        for (int how = 0; how < 8; how++) {
            turn(all->rgb[i], 3, how, turned);
            if (memcmp(turned, copy->rgb[picture], sizeof turned) != 0)
                continue;
            turn(all->keep[i], 1, how, turned);
            if (memcmp(turned, copy->keep[picture], SIDE * SIDE) != 0)
                return -1;
            turn(all->seeds[i], 1, how, turned);
            return memcmp(turned, copy->seeds[picture], SIDE * SIDE) == 0 ? how : -1;
        }
    return -1;
}

static const char *const most[] = {"b.ws2", "a0.ws2", "a1.ws2"}; /* 18 before, 12 after */

static void loader_dense_turned(void **state)
{
    (void)state;
    static struct epoch_copy all, copy;
    const struct ws2_loader_options val = dense_options(false);
    dense_epoch(most, 3, &val, &all);
    for (int allowed = 0; allowed < 8; allowed++) { /* bits as in turn */
        struct ws2_loader_options o = dense_options(true);
        int seen[8] = {0};
        o.flip_x = allowed & 1;
        o.flip_y = allowed & 2;
        o.transpose = allowed & 4;
        for (o.seed = 0; o.seed < 4; o.seed++) {
            dense_epoch(most, 3, &o, &copy);
            for (int i = 0; i < copy.count; i++) {
                const int how = find_turn(&all, &copy, i);
                assert_true(how >= 0);
                seen[how]++;
            }
        }
        for (int how = 0; how < 8; how++)
            assert_int_equal(seen[how] > 0, (how & ~allowed) == 0);
    }
}

/* Seeds are turned with the picture. */
static void loader_dense_seeds(void **state)
{
    (void)state;
    static struct epoch_copy copy;
    static const char *const names[] = {"sb.ws2", "sa.ws2"};
    struct clip_options b = clip("sb.ws2", "b", WS2_ROLE_BEFORE, 20),
                        a = clip("sa.ws2", "a", WS2_ROLE_AFTER, 20);
    b.seeds = a.seeds = SEEDS_ITEM;
    write_clips(&b, 1);
    write_clips(&a, 1);
    struct ws2_loader_options o = dense_options(true);
    o.seeds = o.flip_x = o.flip_y = o.transpose = true;
    o.cells = SIDE;
    dense_epoch(names, 2, &o, &copy);
    assert_int_equal(copy.count, 40);
    for (int i = 0; i < copy.count * SIDE * SIDE; i++)
        assert_int_equal(copy.seeds[i / (SIDE * SIDE)][i % (SIDE * SIDE)],
                         copy.keep[i / (SIDE * SIDE)][i % (SIDE * SIDE)] > 0);
    dense_epoch(names, 1, &o, &copy); /* one camera alone will do, */
    assert_int_equal(copy.count, 20);
    o.paste = 0.5; /* but for items of the other one */
    expect_refusal(names, 1, &o, WS2_ERR_INPUT, "no after frames");
}

/* ---- items laid beside ------------------------------------------------------------------------------------ */

/* Besides what the picture has without, it shows where it had nothing the items of this frame, turned so, and no more. */
static bool shows(const struct epoch_copy *with, const struct epoch_copy *without, int picture,
                  const struct epoch_copy *all, int frame, int how)
{
    static uint8_t rgb[SIDE * SIDE * 3], keep[SIDE * SIDE];
    turn(all->rgb[frame], 3, how, rgb);
    turn(all->keep[frame], 1, how, keep);
    for (int p = 0; p < SIDE * SIDE; p++) {
        const bool own = without->keep[picture][p];
        if (with->keep[picture][p] != (own ? without->keep[picture][p] : keep[p]) ||
            memcmp(with->rgb[picture] + 3 * p, own ? without->rgb[picture] + 3 * p : rgb + 3 * p, 3) != 0)
            return false;
    }
    return true;
}

/* Which of so many turns of some frame after the sorter the picture shows besides; -1: of none. */
static int find_beside(const struct epoch_copy *with, const struct epoch_copy *without, int picture,
                       const struct epoch_copy *all, int turns, int *frame)
{
    for (*frame = 0; *frame < all->count; ++*frame)
        for (int how = 0; all->label[*frame] == WS2_CLASS_AFTER && how < turns; how++)
            if (shows(with, without, picture, all, *frame, how))
                return how;
    return -1;
}

static int bits_of(uint64_t set)
{
    int n = 0;
    for (; set; set >>= 1)
        n += set & 1;
    return n;
}

/* Every picture gets items of frames of its own half: in all mirrorings and, where pictures are turned, all turns; as they are
 * where pictures are not mirrored. */
static void check_beside(struct ws2_loader_options o)
{
    static struct epoch_copy all, with, without;
    struct ws2_loader_options val = dense_options(false);
    uint64_t frames = 0, turns = 0;
    val.half = o.half;
    dense_epoch(most, 3, &val, &all);
    for (o.seed = 0; o.seed < 4; o.seed++) {
        o.paste = 0;
        dense_epoch(most, 3, &o, &without);
        o.paste = 1;
        dense_epoch(most, 3, &o, &with);
        assert_int_equal(with.count, without.count);
        assert_memory_equal(with.label, without.label, sizeof with.label);
        for (int i = 0; i < with.count; i++) {
            int frame;
            const int how = find_beside(&with, &without, i, &all, o.transpose ? 8 : 4, &frame);
            assert_true(how >= 0);
            assert_true(with.share[i] == 25.0f / (SIDE * SIDE)); /* that before */
            turns |= 1u << how;
            frames |= (uint64_t)1 << frame;
        }
    }
    assert_true(o.flip_x ? bits_of(turns) >= 4 : turns == 1);
    assert_true(bits_of(frames) >= 4);
}

static void loader_items_beside(void **state)
{
    (void)state;
    struct ws2_loader_options o = dense_options(true);
    check_beside(o);
    o.half = WS2_HALF_FIRST;
    o.flip_x = o.flip_y = true;
    check_beside(o);
    o.half = WS2_HALF_SECOND;
    o.transpose = true;
    check_beside(o);
}

/* As many pictures as asked for get items, the same for any number of threads, other ones in each epoch; none in
 * validation. */
static void loader_share_with_items_beside(void **state)
{
    (void)state;
    static struct epoch_copy without, with, again;
    struct ws2_loader_options o = dense_options(true), val = dense_options(false);
    int changed = 0, pictures = 0;
    for (o.seed = 0; o.seed < 8; o.seed++) {
        o.paste = 0;
        o.threads = 1;
        dense_epoch(most, 3, &o, &without);
        o.paste = 0.5;
        dense_epoch(most, 3, &o, &with);
        for (int i = 0; i < with.count; i++)
            changed += memcmp(with.rgb[i], without.rgb[i], sizeof with.rgb[i]) != 0;
        pictures += with.count;
        o.threads = 3;
        dense_epoch(most, 3, &o, &again);
        assert_memory_equal(&again, &with, sizeof with);
    }
    assert_in_range(changed, pictures * 2 / 5, pictures * 3 / 5);
    dense_epoch(most, 3, &val, &without);
    val.paste = 1;
    dense_epoch(most, 3, &val, &with);
    assert_memory_equal(&with, &without, sizeof with);
}

/* Light changes items that lie beside as it does the picture's own. */
static void loader_light_on_items_beside(void **state)
{
    (void)state;
    static struct epoch_copy dark, lit;
    struct ws2_loader_options o = dense_options(true);
    o.paste = 1;
    dense_epoch(most, 3, &o, &dark);
    o.light.offset = 0.1;
    dense_epoch(most, 3, &o, &lit);
    assert_memory_equal(lit.keep, dark.keep, sizeof lit.keep);
    for (int i = 0; i < lit.count; i++) {
        int added[3][2] = {{255, -255}, {255, -255}, {255, -255}}; /* by keep: least and most */
        for (int p = 0; p < SIDE * SIDE; p++) {
            const int now = lit.rgb[i][3 * p + 1], more = now - dark.rgb[i][3 * p + 1], of = lit.keep[i][p];
            if (now == 0 || now == 255)
                continue;
            added[of][0] = added[of][0] < more ? added[of][0] : more;
            added[of][1] = added[of][1] > more ? added[of][1] : more;
        }
        assert_true(added[0][0] == 0 && added[0][1] == 0);
        for (int c = 1; c < 3; c++)
            if (added[c][0] <= added[c][1] && added[1][0] <= added[1][1])
                assert_true(added[c][0] == added[1][0] && added[c][1] == added[1][0]);
    }
}

/* ---- halves ----------------------------------------------------------------------------------------------- */

static struct ws2_loader *open_half(struct ws2_clips *clips, const bool *use, enum ws2_half half, int batch)
{
    struct ws2_loader_options o = dense_options(false);
    struct ws2_loader *loader;
    struct ws2_error error = {0};
    o.half = half;
    o.batch = batch;
    if (ws2_loader_open(&loader, clips, use, &o, &error) < 0)
        fail_msg("%s", error.text);
    return loader;
}

/* Of clips b0 (5 frames), b1 (6), b2 (4), b0 again (3), x0 (7), x1 (5), x2 (1), no two frames of which are the same. */
static void check_halves(const bool *use, int first_before, int first_after)
{
    static struct epoch_copy all, part[2];
    static const char *const names[] = {"b.ws2", "x.ws2"};
    struct ws2_clips *clips = open_clips(names, 2);
    struct ws2_loader *whole = open_half(clips, use, WS2_HALF_BOTH, 4);
    run_epoch(whole, 0, &all);
    for (int i = 0; i < 2; i++) {
        struct ws2_loader *half = open_half(clips, use, i ? WS2_HALF_SECOND : WS2_HALF_FIRST, 4);
        run_epoch(half, 0, &part[i]);
        if (i == 0) {
            assert_int_equal(ws2_loader_class_samples(half, WS2_CLASS_BEFORE), first_before);
            assert_int_equal(ws2_loader_class_samples(half, WS2_CLASS_AFTER), first_after);
        }
        for (int k = 0; k < part[i].count; k++)
            assert_int_equal(part[i].half[k], i);
        ws2_loader_close(half);
    }
    assert_int_equal(part[0].count + part[1].count, all.count);
    for (int k = 0; k < all.count; k++) {
        assert_true(find_sample(&part[all.half[k]], all.rgb[k]) >= 0);
        assert_true(find_sample(&part[1 - all.half[k]], all.rgb[k]) < 0);
    }
    ws2_loader_close(whole);
    ws2_clips_close(clips);
}

/* Every other sequence of each camera, of those that are used; no sequence is torn apart. */
static void loader_halves(void **state)
{
    (void)state;
    static const bool some[] = {false, true, true, false, false, true, true};
    const struct clip_options after[] = {clip("x.ws2", "x0", WS2_ROLE_AFTER, 7),
                                         clip("x.ws2", "x1", WS2_ROLE_AFTER, 5),
                                         clip("x.ws2", "x2", WS2_ROLE_AFTER, 1)};
    write_clips(after, 3);
    check_halves(NULL, 5 + 4 + 3, 7 + 1);
    check_halves(some, 6, 5);
}

/* Are there enough of both cameras in either half, and of all for a batch? */
static void loader_enough_for_halves(void **state)
{
    (void)state;
    static const struct {
        bool use[7];
        int batch;
        bool enough;
    } kind[] = {{{1, 1, 1, 1, 1, 1, 1}, 4, true},   {{1, 1, 1, 1, 1, 1, 1}, 11, true},
                {{1, 1, 1, 1, 1, 1, 1}, 12, false}, {{1, 1, 0, 0, 1, 1, 0}, 4, true},
                {{1, 0, 0, 1, 1, 1, 1}, 4, false},  {{1, 1, 1, 1, 1, 0, 0}, 4, false}};
    for (int i = 0; i < 6; i++) {
        struct ws2_clips *clips = belt();
        struct ws2_loader *loader = open_half(clips, kind[i].use, WS2_HALF_BOTH, kind[i].batch);
        assert_int_equal(ws2_loader_has_halves(loader), kind[i].enough);
        ws2_loader_close(loader);
        ws2_clips_close(clips);
    }
}

/* Of the sequences that are not held back; none where they are not asked for or too few. */
static void data_halves(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        const char *const path[] = {in_folder("b.ws2"), in_folder("a0.ws2"), in_folder("a1.ws2"),
                                    in_folder("a2.ws2")};
        const struct ws2_data_options options = {.path = path,
                                                 .paths = kind == 1 ? 3 : 4,
                                                 .share = 0.3,
                                                 .halves = kind < 2,
                                                 .loader = dense_options(false)};
        struct ws2_data data;
        struct ws2_error error = {0};
        if (ws2_data_open(&data, &options, &error) < 0)
            fail_msg("%s", error.text);
        assert_true(ws2_loader_settings(data.train)->training && !ws2_loader_settings(data.val)->training);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(data.half[i] != NULL, kind == 0);
            if (data.half[i]) {
                assert_int_equal(ws2_loader_settings(data.half[i])->half,
                                 i ? WS2_HALF_SECOND : WS2_HALF_FIRST);
                assert_true(ws2_loader_settings(data.half[i])->training);
            }
        }
        if (kind == 0)
            assert_int_equal(ws2_loader_samples(data.half[0]) + ws2_loader_samples(data.half[1]),
                             ws2_loader_samples(data.train));
        ws2_data_close(&data);
    }
}

/* ---- labels ------------------------------------------------------------------------------------------------ */

static struct ws2_loader_options labels_options(bool training)
{
    struct ws2_loader_options o = dense_options(training);
    o.seeds = true;
    o.labels = "truth";
    o.cells = SIDE;
    return o;
}

/* Of one camera alone, turned with the picture; 255 comes through; the tensor seeds is not what is asked for. */
static void loader_labels(void **state)
{
    (void)state;
    static struct epoch_copy all, copy;
    static const char *const names[] = {"lb.ws2"};
    struct clip_options b = clip("lb.ws2", "b", WS2_ROLE_BEFORE, 40);
    struct ws2_loader_options o = labels_options(false);
    int seen[8] = {0};
    b.labels = "truth";
    b.seeds = SEEDS_COARSE;
    write_clips(&b, 1);
    dense_epoch(names, 1, &o, &all);
    assert_int_equal(all.count, 40);
    for (int i = 0; i < all.count; i++) {
        int n[256] = {0};
        for (int p = 0; p < SIDE * SIDE; p++) {
            n[all.seeds[i][p]]++;
            assert_int_equal(all.seeds[i][p] > 0, all.keep[i][p] > 0);
        }
        assert_true(n[1] == 20 && n[255] == 5);
    }
    o.training = o.flip_x = o.flip_y = o.transpose = true;
    for (o.seed = 0; o.seed < 3; o.seed++) {
        dense_epoch(names, 1, &o, &copy);
        assert_int_equal(copy.count, 40);
        for (int i = 0; i < copy.count; i++) {
            const int how = find_turn(&all, &copy, i);
            assert_true(how >= 0);
            seen[how]++;
        }
    }
    for (int how = 0; how < 8; how++)
        assert_true(seen[how] > 0);
}

static void loader_labels_refusals(void **state)
{
    (void)state;
    static const char *const names[] = {"lm.ws2"};
    struct clip_options m = clip("lm.ws2", "m", WS2_ROLE_BEFORE, 5);
    struct ws2_loader_options o = labels_options(true), bad[4] = {o, o, o, o};
    m.labels = "mask";
    write_clips(&m, 1);
    expect_refusal(names, 1, &o, WS2_ERR_INPUT, ": no tensor 'truth'");
    expect_refusal(names, 1, &o, WS2_ERR_INPUT, "lm.ws2: m: frame ");
    bad[0].dense = false;
    bad[1].seeds = false;
    bad[2].cells = SIDE - 1;
    bad[3].paste = 0.5;
    for (int i = 0; i < 4; i++)
        expect_refusal(names, 1, &bad[i], WS2_ERR_USAGE, "labels are for dense samples");
}

/* ---- light ------------------------------------------------------------------------------------------------- */

/* What light did to an item: the mean gain of each channel (NaN where it is clipped), the least and most that was added. */
struct change {
    double gain[3];
    int added[2];
};

static struct change compare_light(const struct epoch_copy *dark, const struct epoch_copy *lit, int picture)
{
    struct change out = {{0}, {255, -255}};
    int n[3] = {0};
    for (int i = 0; i < SIDE * SIDE * 3; i++) {
        const int from = dark->rgb[picture][i], to = lit->rgb[picture][i];
        if (!lit->keep[picture][i / 3] || to == 0 || to == 255)
            continue;
        out.gain[i % 3] += (double)to / from;
        n[i % 3]++;
        out.added[0] = out.added[0] < to - from ? out.added[0] : to - from;
        out.added[1] = out.added[1] > to - from ? out.added[1] : to - from;
    }
    for (int c = 0; c < 3; c++)
        out.gain[c] = n[c] == 25 ? out.gain[c] / n[c] : NAN;
    return out;
}

/* One kind of light alone: the rest of the epoch is the same, and it varies as much as was asked for. */
static void check_light(const struct epoch_copy *dark, const struct epoch_copy *lit,
                        const struct ws2_light *light)
{
    double square = 0, differ = 0;
    int n = 0;
    assert_memory_equal(lit->keep, dark->keep, sizeof dark->keep);
    assert_memory_equal(lit->label, dark->label, sizeof dark->label);
    for (int i = 0; i < lit->count; i++) {
        const struct change change = compare_light(dark, lit, i);
        const double *gain = change.gain, added = change.added[0] / 255.0;
        if (isnan(gain[0] + gain[1] + gain[2]))
            continue;
        differ = fmax(differ, fmax(fabs(gain[0] - gain[1]), fabs(gain[2] - gain[1])));
        square += light->offset > 0 ? added * added : (gain[1] - 1) * (gain[1] - 1);
        assert_true(light->offset == 0 || change.added[0] == change.added[1]);
        n++;
    }
    assert_true(n > 15);
    const double deviation = sqrt(square / n) / (light->channel + light->common + light->offset);
    assert_true(deviation > 0.6 && deviation < 1.5);
    assert_true(light->channel > 0 ? differ > 0.05 : light->common == 0 || differ < 0.02);
}

static void loader_dense_light(void **state)
{
    (void)state;
    static const struct ws2_light kind[] = {{.channel = 0.05}, {.common = 0.05}, {.offset = 0.02}};
    static struct epoch_copy dark, lit;
    struct ws2_loader_options o = dense_options(true);
    o.flip_x = o.flip_y = o.transpose = true;
    dense_epoch(most, 3, &o, &dark);
    for (int k = 0; k < 3; k++) {
        o.light = kind[k];
        dense_epoch(most, 3, &o, &lit);
        check_light(&dark, &lit, &kind[k]);
    }
    o = dense_options(false); /* in validation nothing changes */
    dense_epoch(most, 3, &o, &dark);
    o.light = (struct ws2_light){0.5, 0.5, 0.5};
    o.flip_x = o.flip_y = o.transpose = true;
    dense_epoch(most, 3, &o, &lit);
    assert_memory_equal(&lit, &dark, sizeof dark);
}

static void loader_dense_refusals(void **state)
{
    (void)state;
    static const char *const names[] = {"b.ws2", "a0.ws2"}, *const one[] = {"a0.ws2"};
    const struct ws2_loader_options good = dense_options(true);
    struct ws2_loader_options bad[8], o = loader_options(2, true);
    for (int i = 0; i < 8; i++)
        bad[i] = good;
    bad[0].classes = 3;
    bad[1].triplets = true;
    bad[1].cells = 4;
    bad[2].background = WS2_BACKGROUND_KEEP;
    bad[3].fill = WS2_FILL_BLACK;
    bad[4].fill = WS2_FILL_BELT;
    bad[5].balance = true;
    bad[6].jitter = 0.1;
    bad[7].hue = 0.1;
    for (int i = 0; i < 8; i++)
        expect_refusal(names, 2, &bad[i], WS2_ERR_USAGE, "dense samples are single frames of two classes");
    o.transpose = true;
    expect_refusal(names, 2, &o, WS2_ERR_USAGE, "only dense samples are transposed");
    o.transpose = false;
    o.paste = 0.1;
    expect_refusal(names, 2, &o, WS2_ERR_USAGE, "have items laid beside");
    expect_refusal(one, 1, &good, WS2_ERR_INPUT, "no before frames");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loader_dense_validation),
        cmocka_unit_test(loader_dense_turns),
        cmocka_unit_test(loader_dense_turned),
        cmocka_unit_test(loader_dense_seeds),
        cmocka_unit_test(loader_items_beside),
        cmocka_unit_test(loader_share_with_items_beside),
        cmocka_unit_test(loader_light_on_items_beside),
        cmocka_unit_test(loader_halves),
        cmocka_unit_test(loader_enough_for_halves),
        cmocka_unit_test(data_halves),
        cmocka_unit_test(loader_labels),
        cmocka_unit_test(loader_labels_refusals),
        cmocka_unit_test(loader_dense_light),
        cmocka_unit_test(loader_dense_refusals),
    };
    return cmocka_run_group_tests(tests, make_belt, remove_folder);
}
