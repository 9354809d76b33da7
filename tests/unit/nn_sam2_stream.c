/* Embeddings of SAM 2 in records: kept, taken up again, and refused where they are not what they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "generator.h"
#include "models/sam2_stream.h"

enum { HEIGHT = 240, WIDTH = 320, SIDE = 64, TENSORS = 4 };

static const char *const names[TENSORS] = {"embed", "embed.high0", "embed.high1", "embed.rgb"};
static const float points[4] = {30, 20, 5, 33}, box[4] = {3, 4, 50, 30};

struct fixture {
    struct nn *nn;
    struct sam2 *sam2;
    struct sam2_frame_options options;
    struct sam2_frame frame;
};

static struct fixture set_up(uint64_t seed)
{
    const struct nn_options options = {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .threads = 1};
    struct fixture f = {.options.generate = sam2_generate_defaults()};
    struct ws2_error error = {0};
    if (nn_open(&f.nn, &options, &error) < 0 || sam2_open(&f.sam2, f.nn, SAM2_TINY, seed, &error) < 0)
        fail_msg("%s", error.text);
    f.options.generate.side = SIDE;
    f.options.generate.points_per_side = 3;
    f.options.generate.iou = f.options.generate.stability = 0; /* all candidates */
    f.options.generate.box_nms = f.options.generate.crop_nms = 1;
    return f;
}

static void tear_down(struct fixture *f)
{
    if (nn_error(f->nn))
        fail_msg("%s", nn_error(f->nn));
    sam2_frame_free(&f->frame);
    sam2_close(f->sam2);
    nn_close(f->nn);
}

/* A record with a picture. */
static struct ws2_record *picture(const char *key, int64_t height, int64_t width)
{
    const struct ws2_shape shape = ws2_shape_3(height, width, 3);
    struct ws2_record *record = ws2_record_new();
    uint8_t *rgb = ws2_record_add(record, "rgb", WS2_U8, &shape, NULL);
    assert_non_null(rgb);
    generator_image(key, rgb, (size_t)(height * width * 3));
    return record;
}

static int run(struct fixture *f, struct ws2_record *record, struct ws2_masks *masks, struct ws2_error *error)
{
    struct ws2_tensor rgb;
    assert_int_equal(ws2_record_get(record, "rgb", &rgb, NULL), 1);
    return sam2_stream_masks(f->sam2, &f->options, record, &rgb, &f->frame, masks, error);
}

static int kept(const struct ws2_record *record)
{
    int count = 0;
    for (int i = 0; i < TENSORS; i++)
        count += ws2_record_has(record, names[i]);
    return count;
}

/* A record with its picture and the embedding of it. */
static struct ws2_record *with_embedding(struct fixture *f)
{
    struct ws2_record *record = picture("one", HEIGHT, WIDTH);
    struct ws2_error error = {0};
    struct ws2_masks masks;
    f->options.keep = true;
    if (run(f, record, &masks, &error) < 0)
        fail_msg("%s", error.text);
    f->options.keep = false;
    assert_int_equal(kept(record), TENSORS);
    return record;
}

/* Another tensor of this name, all of one value. */
static void replace(struct ws2_record *record, const char *name, struct ws2_shape shape, float value)
{
    size_t count;
    assert_true(ws2_shape_count(&shape, &count));
    ws2_record_drop(record, name);
    uint16_t *half = ws2_record_add(record, name, WS2_F16, &shape, NULL);
    assert_non_null(half);
    for (size_t i = 0; i < count; i++)
        half[i] = ws2_half_from_float(value);
}

/* ---- masks ------------------------------------------------------------------------------------------------ */

/* Copies of the masks of a frame. */
struct copy {
    int64_t count, cells;
    uint16_t *layer;
    float *score;
};

static struct copy masks_of(struct fixture *f, struct ws2_record *record)
{
    struct ws2_error error = {0};
    struct ws2_masks masks;
    if (run(f, record, &masks, &error) < 0)
        fail_msg("%s", error.text);
    struct copy copy = {.count = masks.count, .cells = masks.layers * masks.height * masks.width};
    copy.layer = ws2_calloc((size_t)copy.cells, sizeof *copy.layer);
    copy.score = ws2_calloc((size_t)copy.count, sizeof *copy.score);
    assert_true(copy.layer && copy.score && copy.count > 0);
    memcpy(copy.layer, masks.layer, (size_t)copy.cells * sizeof *copy.layer);
    memcpy(copy.score, masks.score, (size_t)copy.count * sizeof *copy.score);
    return copy;
}

/* Scores differ by no more than this, and of a thousand pixels one. */
static bool alike(const struct copy *a, const struct copy *b, float most)
{
    int64_t different = 0;
    if (a->count != b->count || a->cells != b->cells)
        return false;
    for (int64_t i = 0; i < a->count; i++)
        if (!(fabsf(a->score[i] - b->score[i]) <= most))
            return false;
    for (int64_t i = 0; i < a->cells; i++)
        different += a->layer[i] != b->layer[i];
    return 1000 * different <= (most > 0 ? a->cells : 0);
}

static void free_copy(struct copy *copy)
{
    free(copy->layer);
    free(copy->score);
}

/* Keeping changes nothing; an embedding kept gives nearly the same masks as computing, twice the same, and it is what the
 * masks are made of. */
static void test_reuse(void **state)
{
    (void)state;
    struct fixture f = set_up(3);
    assert_int_equal(generator_fill(sam2_params(f.sam2), NULL), 0); /* masks that hang on the picture */
    struct ws2_record *record = with_embedding(&f), *plain = picture("one", HEIGHT, WIDTH);
    const int64_t alive = nn_tensors_alive(f.nn);
    int64_t grid = 0;                   /* masks of the grid */
    for (int how = 0; how < 3; how++) { /* the grid; with crops; prompts */
        f.options.generate.crop_layers = how == 1;
        f.options.points = how == 2 ? 2 : 0;
        f.options.boxes = how == 2;
        f.options.point = points;
        f.options.box = box;
        struct copy direct = masks_of(&f, plain), first = masks_of(&f, record), again = masks_of(&f, record);
        assert_int_equal(kept(plain), 0);
        if (how == 1) /* crops have found more */
            assert_true(direct.count > grid);
        grid = direct.count;
        assert_true(alike(&direct, &first, 1e-3f));
        assert_true(alike(&first, &again, 0));
        free_copy(&again);
        f.options.keep = true;
        struct ws2_record *other = picture("one", HEIGHT, WIDTH);
        again = masks_of(&f, other);
        assert_true(alike(&direct, &again, 0));
        free_copy(&again);
        again = masks_of(&f, other); /* the embedding is there: it is not added twice */
        assert_true(alike(&first, &again, 0));
        f.options.keep = false;
        ws2_record_free(other);
        free_copy(&again);
        free_copy(&first);
        free_copy(&direct);
    }
    struct copy right = masks_of(&f, record);
    replace(record, "embed", ws2_shape_3(256, 4, 4), 1);
    struct copy wrong = masks_of(&f, record);
    assert_false(alike(&right, &wrong, 1e-3f));
    free_copy(&wrong);
    free_copy(&right);
    assert_int_equal(nn_tensors_alive(f.nn), alive);
    ws2_record_free(plain);
    ws2_record_free(record);
    tear_down(&f);
}

static void test_no_pixels(void **state)
{
    (void)state;
    struct fixture f = set_up(3);
    struct ws2_record *record = picture("one", 0, WIDTH);
    struct ws2_masks masks;
    f.options.keep = true;
    assert_int_equal(run(&f, record, &masks, NULL), 0);
    assert_int_equal(masks.count, 0);
    assert_int_equal(kept(record), 0);
    ws2_record_free(record);
    tear_down(&f);
}

/* ---- what does not fit ------------------------------------------------------------------------------------- */

static void expect_refusal(struct fixture *f, struct ws2_record *record, int status, const char *text)
{
    struct ws2_error error = {0};
    struct ws2_masks masks;
    assert_int_equal(run(f, record, &masks, &error), status);
    if (!strstr(error.text, text))
        fail_msg("'%s' lacks '%s'", error.text, text);
    assert_int_equal(run(f, record, &masks, NULL), status);
    ws2_record_free(record);
}

static void test_records(void **state)
{
    (void)state;
    struct fixture f = set_up(3);
    const struct ws2_shape three = ws2_shape_1(3), two = ws2_shape_1(2);
    static const int64_t other[3] = {HEIGHT, WIDTH, 1};
    for (int i = 0; i < TENSORS; i++) {
        struct ws2_record *record = with_embedding(&f);
        ws2_record_drop(record, names[i]);
        expect_refusal(&f, record, WS2_ERR_INPUT, names[i]);
    }
    struct ws2_record *record = with_embedding(&f);
    replace(record, "embed.high0", ws2_shape_3(32, 16, 15), 0);
    expect_refusal(&f, record, WS2_ERR_INPUT, "tensor 'embed.high0' is [32,16,15], not [32,16,16]");
    record = with_embedding(&f);
    replace(record, "embed.high1", ws2_shape_3(64, 0, 8), 0);
    expect_refusal(&f, record, WS2_ERR_INPUT, "tensor 'embed.high1' is [64,0,8], not [64,8,8]");
    record = with_embedding(&f);
    replace(record, "embed", ws2_shape_2(256, 16), 0);
    expect_refusal(&f, record, WS2_ERR_INPUT, "'embed'");
    for (int i = 0; i < 3; i++) {
        static const float odd[3] = {NAN, INFINITY, -INFINITY};
        record = with_embedding(&f);
        replace(record, "embed.high1", ws2_shape_3(64, 8, 8), odd[i]);
        expect_refusal(&f, record, WS2_ERR_INPUT, "tensor 'embed.high1' has a value that is not finite");
    }
    record = with_embedding(&f);
    ws2_record_drop(record, "embed.rgb");
    assert_int_equal(ws2_record_put(record, "embed.rgb", WS2_I64, &three, other, NULL), 0);
    expect_refusal(&f, record, WS2_ERR_INPUT, "another picture");
    record = with_embedding(&f);
    ws2_record_drop(record, "embed.rgb");
    assert_int_equal(ws2_record_put(record, "embed.rgb", WS2_I64, &two, other, NULL), 0);
    expect_refusal(&f, record, WS2_ERR_INPUT, "another picture");
    f.options.generate.side = 100;
    expect_refusal(&f, picture("one", HEIGHT, WIDTH), WS2_ERR_USAGE, "multiple of 32");
    f.options.generate.side = SIDE;
    /* The largest numbers of f16 are numbers. */
    record = with_embedding(&f);
    replace(record, "embed", ws2_shape_3(256, 4, 4), 65504);
    struct ws2_masks masks;
    assert_int_equal(run(&f, record, &masks, NULL), 0);
    ws2_record_free(record);
    tear_down(&f);
}

/* A head with the rows of an embedding. */
static struct ws2_head *head_of(struct fixture *f)
{
    struct ws2_head *none = ws2_head_new(), *head = ws2_head_new();
    f->options.keep = true;
    assert_int_equal(sam2_stream_begin(f->sam2, &f->options, none, head, NULL), 0);
    f->options.keep = false;
    ws2_head_free(none);
    return head;
}

static void expect_row(const struct ws2_head *head, int index, const char *axes, const char *unit)
{
    const struct ws2_tensor_info *row = ws2_head_find(head, names[index]);
    assert_non_null(row);
    assert_int_equal(row->dtype, index < 3 ? WS2_F16 : WS2_I64);
    assert_string_equal(row->axes, axes);
    assert_string_equal(row->unit, unit);
}

static void refuse_head(struct fixture *f, const struct ws2_head *head, const char *text)
{
    for (int keep = 0; keep < 2; keep++) {
        struct ws2_error error = {0};
        struct ws2_head *out = ws2_head_copy(head);
        f->options.keep = keep;
        assert_int_equal(sam2_stream_begin(f->sam2, &f->options, head, out, &error), WS2_ERR_INPUT);
        if (!strstr(error.text, text))
            fail_msg("'%s' lacks '%s'", error.text, text);
        assert_int_equal(sam2_stream_begin(f->sam2, &f->options, head, out, NULL), WS2_ERR_INPUT);
        ws2_head_free(out);
    }
}

static void test_heads(void **state)
{
    (void)state;
    struct fixture f = set_up(3), g = set_up(4);
    struct ws2_head *head = head_of(&f), *other = head_of(&g), *out = ws2_head_copy(head);
    struct ws2_head *none = ws2_head_new();
    char unit[64] = "sam2:";
    strcat(unit, sam2_digest(f.sam2));
    expect_row(head, 0, "256,4,4", unit);
    expect_row(head, 1, "32,16,16", unit);
    expect_row(head, 2, "64,8,8", unit);
    expect_row(head, 3, "3", "");
    for (int keep = 0; keep < 2; keep++) { /* there already */
        f.options.keep = keep;
        assert_int_equal(sam2_stream_begin(f.sam2, &f.options, head, out, NULL), 0);
        assert_int_equal(ws2_head_tensors(out), TENSORS);
    }
    assert_int_equal(sam2_stream_begin(g.sam2, &g.options, none, none, NULL), 0);
    assert_int_equal(ws2_head_tensors(none), 0);
    refuse_head(&f, other, sam2_digest(f.sam2));
    refuse_head(&f, other, sam2_digest(g.sam2));
    g.options.generate.side = 128;
    refuse_head(&g, other, "tensor 'embed' is [256,4,4]; a network's input of side 128 gives [256,8,8]");
    for (int i = 0; i < TENSORS; i++) {
        ws2_head_drop_tensor(out, names[i]);
        refuse_head(&f, out, names[i]);
        ws2_head_free(out);
        out = ws2_head_copy(head);
    }
    ws2_head_drop_tensor(out, "embed");
    assert_int_equal(ws2_head_add_tensor(out, "embed", WS2_F32, "n", "", NULL), 0);
    refuse_head(&f, out, "tensor 'embed' is f32, not f16");
    ws2_head_free(out);
    ws2_head_free(none);
    ws2_head_free(other);
    ws2_head_free(head);
    tear_down(&g);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_no_pixels),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
