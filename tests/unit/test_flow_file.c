/* Flow files: .flo byte by byte, KITTI's PNG sample by sample, damaged and hostile ones, folders of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder_help.h"
#include "image/image.h"

static bool same_file(const char *a, const char *b)
{
    size_t n, m;
    uint8_t *first = slurp(a, &n), *second = slurp(b, &m);
    const bool same = n == m && memcmp(first, second, n) == 0;
    free(first);
    free(second);
    return same;
}

static int read_flow(const char *path, char *text)
{
    struct ws2_flow_file file = {0};
    struct ws2_error error = {0};
    const int status = ws2_flow_file_read(&file, path, &error);
    snprintf(text, 480, "%s", error.text);
    assert_int_equal(status, error.status);
    ws2_flow_file_free(&file);
    return status;
}

/* ---- .flo ------------------------------------------------------------------------------------------ */

/* 3 x 2, by hand: 1,-2; unknown as Middlebury writes it; NaN with a payload / infinity; -0,0.5; 1e9 twice. */
static const uint8_t hand[12 + 48] = {'P',  'I',  'E',  'H',  3,    0,    0,    0,    2,    0,    0,    0,
                                      0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0, 0xaa, 0xae, 0xc6, 0x4e,
                                      0xaa, 0xae, 0xc6, 0x4e, 0x01, 0x02, 0xa3, 0x7f, 0x00, 0x00, 0x00, 0x00,
                                      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0xff, 0x00, 0x00, 0x00, 0x80,
                                      0x00, 0x00, 0x00, 0x3f, 0x28, 0x6b, 0x6e, 0x4e, 0x28, 0x6b, 0x6e, 0xce};

static void flo_is_read_and_written_byte_by_byte(void **state)
{
    (void)state;
    struct ws2_flow_file file = {0};
    struct ws2_error error = {0};
    spill(in_folder("hand.flo"), hand, sizeof hand);
    assert_int_equal(ws2_flo_read(&file, in_folder("hand.flo"), &error), 0);
    assert_true(file.width == 3 && file.height == 2);
    assert_memory_equal(file.valid, ((const uint8_t[]){1, 0, 0, 0, 1, 1}), 6);
    assert_true(file.flow[0] == 1 && file.flow[6] == -2);
    assert_true(file.flow[1] > 1.6e9f && isnan(file.flow[2]) && file.flow[8] == 0 && isinf(file.flow[9]));
    assert_true(file.flow[4] == 0 && signbit(file.flow[4]) && file.flow[10] == 0.5f);
    assert_true(file.flow[5] == 1e9f && file.flow[11] == -1e9f);
    assert_int_equal(ws2_flo_write(in_folder("again.flo"), &file, &error), 0);
    assert_true(same_file(in_folder("hand.flo"), in_folder("again.flo")));
    assert_int_equal(access(in_folder("again.flo.tmp"), F_OK), -1);
    assert_int_equal(ws2_flow_file_read(&file, in_folder("hand.flo"), &error), 0);
    assert_string_equal(error.text, "");
    ws2_flow_file_free(&file);
}

/* The hand-made file with the four bytes at `at` replaced, `count` bytes of it. */
static int read_altered(size_t at, uint32_t value, size_t count, char *text)
{
    uint8_t bytes[sizeof hand + 8] = {0};
    memcpy(bytes, hand, sizeof hand);
    for (int i = 0; i < 4; i++)
        bytes[at + (size_t)i] = (uint8_t)(value >> 8 * i);
    spill(in_folder("altered.flo"), bytes, count);
    return read_flow(in_folder("altered.flo"), text);
}

static void damaged_flo_is_an_error(void **state)
{
    (void)state;
    char text[480];
    for (size_t count = 4; count < sizeof hand; count++) {
        assert_int_equal(read_altered(4, 3, count, text), WS2_ERR_TRUNCATED);
        assert_non_null(strstr(text, "altered.flo: the file ends too early"));
    }
    assert_int_equal(read_altered(4, 3, 0, text), WS2_ERR_TRUNCATED);
    for (size_t count = 1; count < 4; count++)
        assert_int_equal(read_altered(4, 3, count, text), WS2_ERR_INPUT);
    assert_int_equal(read_altered(4, 3, sizeof hand, text), 0);
    for (size_t more = 1; more <= 8; more++)
        assert_int_equal(read_altered(4, 3, sizeof hand + more, text), WS2_ERR_INPUT);
    assert_non_null(strstr(text, "68 bytes, but a flow of 3 x 2 pixels has 60"));
    assert_int_equal(read_altered(0, 0x48454950 ^ 1, sizeof hand, text), WS2_ERR_INPUT);
    assert_non_null(strstr(text, "neither a .flo file nor a PNG"));
    /* Sizes: none, negative, larger than any picture, and such that only the file's length tells the lie. */
    static const uint32_t side[] = {0, 0xffffffff, 0x80000000, 65536, 0x7fffffff};
    for (size_t i = 0; i < sizeof side / sizeof *side; i++)
        for (size_t at = 4; at <= 8; at += 4) {
            assert_int_equal(read_altered(at, side[i], sizeof hand, text), WS2_ERR_INPUT);
            assert_non_null(strstr(text, "is not supported"));
        }
    assert_int_equal(read_altered(4, 65535, sizeof hand, text), WS2_ERR_TRUNCATED);
    assert_int_equal(read_altered(8, 65535, sizeof hand, text), WS2_ERR_TRUNCATED);
    assert_int_equal(read_altered(4, 2, sizeof hand, text), WS2_ERR_INPUT);
    struct ws2_flow_file file = {0};
    assert_int_equal(ws2_flo_read(&file, in_folder("nowhere.flo"), NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_flo_read(&file, folder, NULL), WS2_ERR_INPUT);
    assert_null(file.flow);
}

static void a_flow_that_cannot_be_written_leaves_nothing(void **state)
{
    (void)state;
    struct ws2_flow_file file = {0};
    struct ws2_error error = {0};
    const struct ws2_shape shape = ws2_shape_3(2, 1, 1);
    const float flow[2] = {1, 2};
    assert_int_equal(ws2_flow_file_fill(&file, WS2_F32, &shape, flow, NULL, &error), 0);
    assert_int_equal(ws2_flo_write(in_folder("nowhere/a.flo"), &file, &error), WS2_ERR_SYSTEM);
    assert_int_equal(mkdir(in_folder("taken.flo"), 0777), 0); /* a folder under the final name */
    error = (struct ws2_error){0};
    assert_int_equal(ws2_flo_write(in_folder("taken.flo"), &file, &error), WS2_ERR_SYSTEM);
    assert_int_equal(access(in_folder("taken.flo.tmp"), F_OK), -1);
    assert_int_equal(symlink("/dev/full", in_folder("full.flo.tmp")), 0); /* a full disk */
    error = (struct ws2_error){0};
    assert_int_equal(ws2_flo_write(in_folder("full.flo"), &file, &error), WS2_ERR_SYSTEM);
    assert_int_equal(access(in_folder("full.flo"), F_OK), -1);
    ws2_flow_file_free(&file);
}

/* ---- KITTI ----------------------------------------------------------------------------------------- */

static void kitti_rounds_and_clamps(void **state)
{
    (void)state;
    /* u of each pixel, and what stands in the file for it. */
    static const float u[8] = {0, 1, -1.5f, 0.0077f, 0.0079f, 600, -600, 511.99f};
    static const uint16_t want[8] = {32768, 32832, 32672, 32768, 32769, 65535, 0, 65535};
    const struct ws2_shape shape = ws2_shape_3(2, 2, 4);
    const uint8_t valid[8] = {1, 1, 1, 1, 1, 1, 1, 7};
    float flow[16];
    struct ws2_flow_file file = {0};
    struct ws2_error error = {0};
    for (int i = 0; i < 8; i++) {
        flow[i] = u[i];
        flow[8 + i] = u[7 - i];
    }
    assert_int_equal(ws2_flow_file_fill(&file, WS2_F32, &shape, flow, valid, &error), 0);
    assert_int_equal(ws2_kitti_write(in_folder("k.png"), &file, 6, &error), 0);
    uint16_t *sample;
    int width, height, channels;
    assert_int_equal(ws2_png_read16(in_folder("k.png"), &sample, &width, &height, &channels, &error), 0);
    assert_true(width == 4 && height == 2 && channels == 3);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(sample[3 * i], want[i]);
        assert_int_equal(sample[3 * i + 1], want[7 - i]);
        assert_int_equal(sample[3 * i + 2], 1);
    }
    free(sample);
    assert_int_equal(ws2_flow_file_read(&file, in_folder("k.png"), &error), 0);
    for (int i = 0; i < 8; i++)
        assert_true(file.valid[i] == 1 && file.flow[i] == ((float)want[i] - 32768) / 64);
    assert_string_equal(error.text, "");
    ws2_flow_file_free(&file);
}

static void kitti_keeps_unknown_pixels(void **state)
{
    (void)state;
    /* Not valid by the mask; too long; NaN; infinite in half floats; the last is fine. */
    const float flow[10] = {1, 2e9f, 0, 1, 5, 1, 1, NAN, 1, 6};
    const uint8_t valid[5] = {0, 1, 1, 1, 1};
    uint16_t half[10];
    const struct ws2_shape shape = ws2_shape_3(2, 1, 5);
    struct ws2_flow_file file = {0}, back = {0};
    struct ws2_error error = {0};
    ws2_half_from_floats(half, flow, 10);
    half[3] = 0xfc00;
    assert_int_equal(ws2_flow_file_fill(&file, WS2_F16, &shape, half, valid, &error), 0);
    assert_memory_equal(file.valid, ((const uint8_t[]){0, 0, 0, 0, 1}), 5);
    assert_int_equal(ws2_kitti_write(in_folder("u.png"), &file, 6, &error), 0);
    assert_int_equal(ws2_kitti_read(&back, in_folder("u.png"), &error), 0);
    assert_memory_equal(back.valid, file.valid, 5);
    for (int i = 0; i < 4; i++)
        assert_true(back.flow[i] == WS2_FLOW_UNKNOWN && back.flow[5 + i] == WS2_FLOW_UNKNOWN);
    assert_true(back.flow[4] == 5 && back.flow[9] == 6);
    uint16_t *sample;
    int width, height, channels;
    assert_int_equal(ws2_png_read16(in_folder("u.png"), &sample, &width, &height, &channels, &error), 0);
    for (int i = 0; i < 4; i++)
        assert_memory_equal(sample + 3 * i, ((const uint16_t[3]){32768, 32768, 0}), 6);
    free(sample);
    /* As .flo it is unknown still; any blue but 0 is valid. */
    assert_int_equal(ws2_flo_write(in_folder("u.flo"), &back, &error), 0);
    assert_int_equal(ws2_flow_file_read(&back, in_folder("u.flo"), &error), 0);
    assert_memory_equal(back.valid, file.valid, 5);
    const uint16_t deep[6] = {32769, 32704, 65535, 1, 2, 0};
    assert_int_equal(ws2_png_write16(in_folder("b.png"), deep, 2, 1, 3, 6, &error), 0);
    assert_int_equal(ws2_kitti_read(&back, in_folder("b.png"), &error), 0);
    assert_true(back.valid[0] == 1 && back.flow[0] == 0.015625f && back.flow[2] == -1);
    assert_true(back.valid[1] == 0 && back.flow[1] == WS2_FLOW_UNKNOWN);
    ws2_flow_file_free(&file);
    ws2_flow_file_free(&back);
}

static void damaged_kitti_is_an_error(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    char text[480];
    const uint16_t deep[12] = {1};
    assert_int_equal(ws2_image_reset(&image, 2, 2, 3, NULL), 0);
    memset(image.data, 0, 12);
    assert_int_equal(ws2_png_write(in_folder("shallow.png"), &image, 6, NULL), 0);
    assert_int_equal(read_flow(in_folder("shallow.png"), text), WS2_ERR_INPUT);
    assert_non_null(strstr(text, "shallow.png: not a 16-bit PNG"));
    assert_int_equal(ws2_png_write16(in_folder("grey.png"), deep, 2, 2, 1, 6, NULL), 0);
    assert_int_equal(read_flow(in_folder("grey.png"), text), WS2_ERR_INPUT);
    assert_non_null(strstr(text, "grey.png: a flow needs 3 channels, this PNG has 1"));
    size_t count;
    assert_int_equal(ws2_png_write16(in_folder("whole.png"), deep, 2, 2, 3, 6, NULL), 0);
    uint8_t *bytes = slurp(in_folder("whole.png"), &count);
    for (size_t cut = 4; cut + 12 < count; cut++) { /* the last chunk is empty */
        spill(in_folder("cut.png"), bytes, cut);
        assert_int_equal(read_flow(in_folder("cut.png"), text), WS2_ERR_INPUT);
    }
    /* A header that speaks of 65535 x 65535 pixels: its checksum is wrong, and then right. */
    static const uint8_t side[4] = {0, 0, 0xff, 0xff};
    memcpy(bytes + 16, side, 4);
    memcpy(bytes + 20, side, 4);
    spill(in_folder("huge.png"), bytes, count);
    assert_int_equal(read_flow(in_folder("huge.png"), text), WS2_ERR_INPUT);
    free(bytes);
    ws2_image_free(&image);
    spill(in_folder("empty.png"), "", 0);
    assert_int_equal(read_flow(in_folder("empty.png"), text), WS2_ERR_TRUNCATED);
    assert_int_equal(read_flow(in_folder("missing.png"), text), WS2_ERR_INPUT);
}

static uint32_t crc32_of(const uint8_t *bytes, size_t count)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void huge_kitti_takes_no_memory(void **state)
{
    (void)state;
    const uint16_t deep[12] = {1};
    size_t count;
    char text[480];
    assert_int_equal(ws2_png_write16(in_folder("h.png"), deep, 2, 2, 3, 6, NULL), 0);
    uint8_t *bytes = slurp(in_folder("h.png"), &count);
    /* 65535 x 65535 is refused by size; 65535 x 4096 fits, but its data end too early. */
    static const uint8_t sides[2][8] = {{0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff},
                                        {0, 0, 0xff, 0xff, 0, 0, 0x10, 0}};
    static const char *const says[2] = {"is too large", "damaged PNG"};
    for (int i = 0; i < 2; i++) {
        memcpy(bytes + 16, sides[i], 8);
        const uint32_t crc = crc32_of(bytes + 12, 17);
        for (int k = 0; k < 4; k++)
            bytes[29 + k] = (uint8_t)(crc >> (24 - 8 * k));
        spill(in_folder("h.png"), bytes, count);
        assert_int_equal(read_flow(in_folder("h.png"), text), WS2_ERR_INPUT);
        assert_non_null(strstr(text, says[i]));
    }
    free(bytes);
}

/* ---- tensors --------------------------------------------------------------------------------------- */

static void only_flow_is_taken(void **state)
{
    (void)state;
    const float flow[12] = {0};
    const struct {
        enum ws2_dtype dtype;
        struct ws2_shape shape;
    } bad[] = {{WS2_F64, ws2_shape_3(2, 1, 2)},   {WS2_F32, ws2_shape_3(3, 1, 2)},
               {WS2_F32, ws2_shape_2(2, 2)},      {WS2_F16, ws2_shape_3(2, 0, 2)},
               {WS2_U8, ws2_shape_3(2, 1, 2)},    {WS2_F16, ws2_shape_3(2, 1, 65536)},
               {WS2_F32, ws2_shape_4(2, 1, 1, 2)}};
    struct ws2_flow_file file = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ws2_flow_file_fill(&file, bad[i].dtype, &bad[i].shape, flow, NULL, NULL),
                         WS2_ERR_INPUT);
    struct ws2_error error = {0};
    ws2_flow_file_fill(&file, WS2_F32, &bad[1].shape, flow, NULL, &error);
    assert_string_equal(error.text, "f32 [3,1,2] is no flow");
    assert_null(file.flow);
}

/* Unknown in either part, or beyond 65504 + 16, is NaN in both. */
static void unknown_is_nan_in_a_tensor(void **state)
{
    (void)state;
    float flow[16] = {1, 1e10f, 2, NAN, 65504, 65520, -3, 7, /* v */ -1, 0, -INFINITY, 3, -65519, 1, 1e9f, 8};
    uint8_t valid[8] = {1, 1, 1, 1, 1, 1, 1, 0}, known[8];
    uint16_t half[16];
    const struct ws2_shape shape = ws2_shape_3(2, 2, 4);
    struct ws2_flow_file file = {0};
    assert_int_equal(ws2_flow_file_fill(&file, WS2_F32, &shape, flow, valid, NULL), 0);
    ws2_flow_file_tensor(&file, half, known);
    ws2_flow_file_free(&file);
    assert_memory_equal(known, ((uint8_t[]){1, 0, 0, 0, 1, 0, 0, 0}), 8);
    for (int i = 0; i < 8; i++)
        assert_true(isnan(ws2_half_to_float(half[i])) == !known[i] &&
                    isnan(ws2_half_to_float(half[8 + i])) == !known[i]);
    assert_true(ws2_half_to_float(half[0]) == 1 && ws2_half_to_float(half[8]) == -1);
    assert_true(ws2_half_to_float(half[4]) == 65504 && ws2_half_to_float(half[12]) == -65504);
}

/* ---- folders --------------------------------------------------------------------------------------- */

static const char *name_of(const struct ws2_flow_files *files, int64_t frame)
{
    const char *path = ws2_flow_files_path(files, frame);
    return path ? strrchr(path, '/') + 1 : "none";
}

static void touch(const char *name)
{
    spill(in_folder(name), "x", 1);
}

static void flows_are_found_by_frame(void **state)
{
    (void)state;
    struct ws2_flow_files *files;
    struct ws2_error error = {0};
    assert_int_equal(mkdir(in_folder("flows"), 0777), 0);
    assert_int_equal(ws2_flow_files_open(&files, in_folder("flows"), &error), WS2_ERR_INPUT);
    assert_null(files);
    assert_non_null(strstr(error.text, "no numbered .flo or PNG files in this folder"));
    touch("flows/frame_0010.png");
    touch("flows/frame_0002.PNG");
    touch("flows/readme.txt");
    touch("flows/cover.png");
    touch("flows/.frame_0003.png");
    assert_int_equal(ws2_flow_files_open(&files, in_folder("flows"), NULL), 0);
    assert_int_equal(ws2_flow_files_count(files), 2);
    assert_true(ws2_flow_files_number(files, 0) == 2 && ws2_flow_files_number(files, 1) == 10);
    assert_string_equal(name_of(files, 2), "frame_0002.PNG");
    assert_string_equal(name_of(files, 10), "frame_0010.png");
    assert_string_equal(name_of(files, 3), "none");
    assert_string_equal(name_of(files, -1), "none");
    ws2_flow_files_close(files);
    /* Beside .flo files pictures are frames, not flows. */
    touch("flows/frame_0010.flo");
    touch("flows/frame_0123456.flo");
    assert_int_equal(ws2_flow_files_open(&files, in_folder("flows"), NULL), 0);
    assert_int_equal(ws2_flow_files_count(files), 2);
    assert_string_equal(name_of(files, 10), "frame_0010.flo");
    assert_string_equal(name_of(files, 123456), "frame_0123456.flo");
    assert_string_equal(name_of(files, 2), "none");
    ws2_flow_files_close(files);
    touch("flows/other_10.flo");
    assert_int_equal(ws2_flow_files_open(&files, in_folder("flows"), &(struct ws2_error){0}), WS2_ERR_INPUT);
    assert_null(files);
}

static void one_file_serves_every_frame(void **state)
{
    (void)state;
    struct ws2_flow_files *files;
    touch("belt.flo");
    touch("flow10.flo");
    assert_int_equal(ws2_flow_files_open(&files, in_folder("belt.flo"), NULL), 0);
    assert_true(ws2_flow_files_count(files) == 1 && ws2_flow_files_number(files, 0) == -1);
    assert_string_equal(name_of(files, 0), "belt.flo");
    assert_string_equal(name_of(files, 77), "belt.flo");
    ws2_flow_files_close(files);
    assert_int_equal(ws2_flow_files_open(&files, in_folder("flow10.flo"), NULL), 0);
    assert_int_equal(ws2_flow_files_number(files, 0), 10);
    assert_string_equal(name_of(files, 3), "flow10.flo");
    ws2_flow_files_close(files);
    assert_int_equal(ws2_flow_files_open(&files, in_folder("absent.flo"), NULL), WS2_ERR_INPUT);
    ws2_flow_files_close(NULL);
}

/* ---- files of others ------------------------------------------------------------------------------- */

static const char *testdata(const char *name)
{
    static char path[512];
    const char *root = getenv("WS2_TESTDATA");
    if (!root) {
        print_message(
            "published flow has licences of its own and is not in the repository; WS2_TESTDATA names no "
            "folder with it (README, Build)\n");
        skip();
    }
    snprintf(path, sizeof path, "%s/flow/%s", root, name);
    return path;
}

static void published_flo_comes_back(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int width, height;
        bool unknown;
    } known[] = {{"mb_RubberWhale/flow10.flo", 584, 388, true},
                 {"mb_Venus/flow10.flo", 420, 380, false},
                 {"sintel_easy/flow_0002.flo", 1024, 436, false}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *path = testdata(known[i].name);
        struct ws2_flow_file file = {0};
        struct ws2_error error = {0};
        ws2_flow_file_read(&file, path, &error);
        assert_string_equal(error.text, "");
        assert_true(file.width == known[i].width && file.height == known[i].height);
        size_t pixels = (size_t)file.width * (size_t)file.height, valid = 0;
        for (size_t p = 0; p < pixels; p++) {
            valid += file.valid[p];
            assert_true(!file.valid[p] || hypotf(file.flow[p], file.flow[pixels + p]) < 100);
        }
        assert_int_equal(valid < pixels, known[i].unknown);
        assert_true(valid > pixels / 2);
        assert_int_equal(ws2_flo_write(in_folder("real.flo"), &file, &error), 0);
        assert_true(same_file(path, in_folder("real.flo")));
        ws2_flow_file_free(&file);
    }
}

static void published_kitti_comes_back(void **state)
{
    (void)state;
    const char *path = testdata("kitti/flow_gt.png");
    struct ws2_flow_file file = {0};
    struct ws2_error error = {0};
    uint16_t *was, *is;
    int width, height, channels;
    ws2_flow_file_read(&file, path, &error);
    assert_string_equal(error.text, "");
    const size_t pixels = (size_t)file.width * (size_t)file.height;
    size_t valid = 0;
    for (size_t p = 0; p < pixels; p++)
        valid += file.valid[p];
    assert_true(valid > pixels / 20 && valid < pixels / 2);
    assert_int_equal(ws2_kitti_write(in_folder("real.png"), &file, 6, &error), 0);
    assert_int_equal(ws2_png_read16(path, &was, &width, &height, &channels, &error), 0);
    assert_int_equal(ws2_png_read16(in_folder("real.png"), &is, &width, &height, &channels, &error), 0);
    assert_memory_equal(was, is, pixels * 6);
    free(was);
    free(is);
    ws2_flow_file_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flo_is_read_and_written_byte_by_byte),
        cmocka_unit_test(damaged_flo_is_an_error),
        cmocka_unit_test(a_flow_that_cannot_be_written_leaves_nothing),
        cmocka_unit_test(kitti_rounds_and_clamps),
        cmocka_unit_test(kitti_keeps_unknown_pixels),
        cmocka_unit_test(damaged_kitti_is_an_error),
        cmocka_unit_test(huge_kitti_takes_no_memory),
        cmocka_unit_test(only_flow_is_taken),
        cmocka_unit_test(unknown_is_nan_in_a_tensor),
        cmocka_unit_test(flows_are_found_by_frame),
        cmocka_unit_test(one_file_serves_every_frame),
        cmocka_unit_test(published_flo_comes_back),
        cmocka_unit_test(published_kitti_comes_back),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
