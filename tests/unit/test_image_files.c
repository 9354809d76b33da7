/* Image files: codecs there and back, cut, flipped and foreign files, folders and operands in order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder_help.h"
#include "image_help.h"

/* ---- codecs -------------------------------------------------------------------------------------- */

static void png_keeps_every_sample(void **state)
{
    (void)state;
    struct ws2_image image = {0}, back = {0};
    for (int c = 1; c <= 4; c += c == 1 ? 2 : 1) {
        make_noise(&image, 13, 7, c);
        assert_int_equal(ws2_png_write(in_folder("a.png"), &image, 6, NULL), 0);
        assert_int_equal(ws2_image_read(&back, in_folder("a.png"), 0, NULL), 0);
        assert_int_equal(back.channels, c);
        assert_memory_equal(back.data, image.data, (size_t)(13 * 7 * c));
    }
    for (int i = 0; i < 13 * 7; i++)
        image.data[i] %= 3;
    image.channels = 1;
    static const uint8_t colours[9] = {1, 2, 3, 40, 50, 60, 255, 0, 255};
    assert_int_equal(ws2_png_write_palette(in_folder("p.png"), &image, colours, 3, 9, NULL), 0);
    assert_int_equal(ws2_image_read(&back, in_folder("p.png"), 0, NULL), 0);
    for (int i = 0; i < 13 * 7; i++)
        assert_memory_equal(back.data + 3 * i, colours + 3 * image.data[i], 3);
    assert_int_equal(ws2_png_write_palette(in_folder("q.png"), &image, colours, 2, 9, NULL), WS2_ERR_USAGE);
    assert_int_equal(access(in_folder("q.png"), F_OK), -1);
    ws2_image_free(&image);
    ws2_image_free(&back);
}

static void png_of_16_bits(void **state)
{
    (void)state;
    uint16_t in[5 * 4 * 3], *out;
    int width, height, channels;
    struct ws2_image image = {0};
    for (int i = 0; i < 60; i++)
        in[i] = (uint16_t)(i * 1111);
    assert_int_equal(ws2_png_write16(in_folder("d.png"), in, 5, 4, 3, 6, NULL), 0);
    assert_int_equal(ws2_png_read16(in_folder("d.png"), &out, &width, &height, &channels, NULL), 0);
    assert_true(width == 5 && height == 4 && channels == 3);
    assert_memory_equal(in, out, sizeof in);
    free(out);
    assert_int_equal(ws2_image_read(&image, in_folder("d.png"), 3, NULL), 0);
    for (int i = 0; i < 60; i++)
        assert_int_equal(image.data[i], lrint(in[i] / 257.0));
    assert_int_equal(ws2_png_write(in_folder("e.png"), &image, 6, NULL), 0);
    assert_int_equal(ws2_png_read16(in_folder("e.png"), &out, &width, &height, &channels, NULL),
                     WS2_ERR_INPUT);
    assert_null(out);
    ws2_image_free(&image);
}

static void jpeg_comes_back_close(void **state)
{
    (void)state;
    struct ws2_image image = {0}, back = {0};
    for (int c = 1; c <= 3; c += 2) {
        make_smooth(&image, 61, 35, c, 0);
        assert_int_equal(ws2_jpeg_write(in_folder("a.jpg"), &image, 95, NULL), 0);
        assert_int_equal(ws2_image_read(&back, in_folder("a.jpg"), 0, NULL), 0);
        assert_true(mean_difference(&image, &back) < 1.5);
    }
    image.channels = 4;
    assert_int_equal(ws2_jpeg_write(in_folder("b.jpg"), &image, 95, NULL), WS2_ERR_USAGE);
    ws2_image_free(&image);
    ws2_image_free(&back);
}

/* An EXIF segment with only the orientation, put behind the SOI marker. */
static void write_oriented(const char *path, int orientation, bool little)
{
    static const uint8_t big_end[] = {0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0, 0,    'M', 'M',
                                      0,    42,   0, 0,  0,   8,   0,   1,   1, 0x12, 0,   3,
                                      0,    0,    0, 1,  0,   0,   0,   0,   0, 0,    0,   0};
    static const uint8_t little_end[] = {0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0,    0, 'I', 'I',
                                         42,   0,    8, 0,  0,   0,   1,   0,   0x12, 1, 3,   0,
                                         1,    0,    0, 0,  0,   0,   0,   0,   0,    0, 0,   0};
    struct ws2_image image = {0};
    uint8_t exif[36], out[4096];
    size_t count;
    make_smooth(&image, 24, 16, 3, 0);
    assert_int_equal(ws2_jpeg_write(path, &image, 100, NULL), 0);
    uint8_t *bytes = slurp(path, &count);
    memcpy(exif, little ? little_end : big_end, 36);
    exif[little ? 28 : 29] = (uint8_t)orientation;
    memcpy(out, bytes, 2);
    memcpy(out + 2, exif, 36);
    memcpy(out + 38, bytes + 2, count - 2);
    spill(path, out, count + 36);
    free(bytes);
    ws2_image_free(&image);
}

static void exif_orientation_is_applied(void **state)
{
    (void)state;
    /* Where the picture's first pixel, and the one to its right, end up: x, y in an upright picture of w x h. */
    struct ws2_image plain = {0}, turned = {0};
    make_smooth(&plain, 24, 16, 3, 0);
    assert_int_equal(ws2_jpeg_write(in_folder("o.jpg"), &plain, 100, NULL), 0);
    assert_int_equal(ws2_image_read(&plain, in_folder("o.jpg"), 3, NULL), 0);
    for (int o = 1; o <= 8; o++) {
        write_oriented(in_folder("o.jpg"), o, o % 2 == 0);
        assert_int_equal(ws2_image_read(&turned, in_folder("o.jpg"), 3, NULL), 0);
        assert_int_equal(turned.width, o >= 5 ? 16 : 24);
        for (int y = 0; y < 16; y++)
            for (int x = 0; x < 24; x++) {
                const int to[9][2] = {{0, 0}, {x, y},      {23 - x, y},      {23 - x, 15 - y}, {x, 15 - y},
                                      {y, x}, {15 - y, x}, {15 - y, 23 - x}, {y, 23 - x}};
                assert_memory_equal(turned.data + (to[o][1] * turned.width + to[o][0]) * 3,
                                    plain.data + (y * 24 + x) * 3, 3);
            }
    }
    ws2_image_free(&plain);
    ws2_image_free(&turned);
}

/* Every prefix of a picture file is an error; every flipped byte is an error or a picture, never a crash. */
static void check_cuts(const char *path, const char *kind)
{
    struct ws2_image image = {0};
    size_t count;
    uint8_t *bytes = slurp(path, &count);
    for (size_t cut = 0; cut < count; cut++) {
        struct ws2_error error = {0};
        uint8_t *part = malloc(cut + 1);
        memcpy(part, bytes, cut);
        if (ws2_image_decode(&image, part, cut, "x", 3, &error) != WS2_ERR_INPUT)
            fail_msg("%s cut at %zu of %zu was read", kind, cut, count);
        assert_true(strlen(error.text) > 3);
        free(part);
    }
    for (size_t at = 0; at < count; at++)
        for (int flip = 1; flip < 256; flip *= 4) {
            bytes[at] ^= (uint8_t)flip;
            ws2_image_decode(&image, bytes, count, "x", 3, NULL);
            bytes[at] ^= (uint8_t)flip;
        }
    free(bytes);
    ws2_image_free(&image);
}

static void cut_and_flipped_pictures_are_errors(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    make_noise(&image, 19, 11, 3);
    ws2_png_write(in_folder("c.png"), &image, 6, NULL);
    check_cuts(in_folder("c.png"), "png");
    ws2_jpeg_write(in_folder("c.jpg"), &image, 90, NULL);
    check_cuts(in_folder("c.jpg"), "jpeg");
    FILE *file = fopen(in_folder("c.ppm"), "wb");
    assert_int_equal(ws2_pnm_write_file(file, &image, NULL), 0);
    fclose(file);
    check_cuts(in_folder("c.ppm"), "ppm");
    ws2_image_free(&image);
}

static void pnm_of_every_kind(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t count;
        uint8_t sample[6];
        int channels;
    } cases[] = {
        {"P1\n# comment\n3 2\n101\n0 1 0", 0, {0, 255, 0, 255, 0, 255}, 1},
        {"P2 3 2 10 0 1 5 10 11 2", 0, {0, 26, 128, 255, 255, 51}, 1},
        {"P3 2 1 255 1 2 3 4 5 6", 0, {1, 2, 3, 4, 5, 6}, 3},
        {"P4 3 2\n\xA0\x40", 9, {0, 255, 0, 255, 0, 255}, 1},
        {"P5 3 2 255\n\1\2\3\4\5\6", 0, {1, 2, 3, 4, 5, 6}, 1},
        {"P6#c\n2 1 65535\n\1\1\2\2\3\3\4\4\5\5\6\6", 0, {1, 2, 3, 4, 5, 6}, 3},
    };
    struct ws2_image image = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t count = cases[i].count ? cases[i].count : strlen(cases[i].text);
        struct ws2_error error = {0};
        ws2_image_decode(&image, cases[i].text, count, "x", 0, &error);
        assert_string_equal(error.text, "");
        assert_int_equal(image.channels, cases[i].channels);
        assert_memory_equal(image.data, cases[i].sample, 6);
        /* One sample less: a byte, or a digit and its space. */
        assert_int_equal(
            ws2_image_decode(&image, cases[i].text, count - (i == 1 || i == 2 ? 2 : 1), "x", 0, NULL),
            WS2_ERR_INPUT);
    }
    static const char *const bad[] = {"P5 0 2 255\n", "P5 99999999999 2 255\n", "P5 2 2 70000\n",
                                      "P2 1 1 0 1", "P6"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ws2_image_decode(&image, bad[i], strlen(bad[i]), "x", 0, NULL), WS2_ERR_INPUT);
    ws2_image_free(&image);
}

static void foreign_and_missing_files_are_errors(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    struct ws2_error error = {0};
    assert_int_equal(ws2_image_read(&image, in_folder("none.png"), 3, &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "none.png: No such file"));
    spill(in_folder("text.png"), "hello", 5);
    assert_int_equal(ws2_image_read(&image, in_folder("text.png"), 3, NULL), WS2_ERR_INPUT);
    spill(in_folder("empty.png"), "", 0);
    error = (struct ws2_error){0};
    assert_int_equal(ws2_image_read(&image, in_folder("empty.png"), 3, &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "empty.png: the file is empty"));
    assert_int_equal(ws2_image_read(&image, folder, 3, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_media_sniff(folder, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_media_sniff(in_folder("text.png"), NULL), WS2_MEDIA_OTHER);
    assert_int_equal(ws2_png_write("/nonexistent/x.png", &image, 6, NULL), WS2_ERR_SYSTEM);
    ws2_image_free(&image);
}

static void a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    struct ws2_error error = {0};
    FILE *full = fopen("/dev/full", "wb");
    if (!full) {
        print_message("there is no /dev/full\n");
        skip();
    }
    setvbuf(full, NULL, _IONBF, 0);
    make_noise(&image, 100, 100, 3);
    assert_int_equal(ws2_png_write_file(full, &image, 6, &error), WS2_ERR_SYSTEM);
    assert_non_null(strstr(error.text, "No space left"));
    assert_int_equal(ws2_pnm_write_file(full, &image, NULL), WS2_ERR_SYSTEM);
    fclose(full);
    ws2_image_free(&image);
}

static void npy_of_every_dtype(void **state)
{
    (void)state;
    const struct ws2_shape shape = ws2_shape_3(2, 1, 3), scalar = {0, {0}}, empty = ws2_shape_2(0, 4);
    uint8_t data[48];
    generator_image("npy", data, sizeof data);
    for (int d = 0; d < WS2_DTYPES; d++) {
        enum ws2_dtype dtype;
        struct ws2_shape back;
        void *out;
        assert_int_equal(ws2_npy_write(in_folder("a.npy"), d, &shape, data, NULL), 0);
        assert_int_equal(ws2_npy_read(in_folder("a.npy"), &dtype, &back, &out, NULL), 0);
        assert_true(dtype == (enum ws2_dtype)d && ws2_shape_equal(&shape, &back));
        assert_memory_equal(out, data, 6 * ws2_dtype_size(d));
        free(out);
        ws2_npy_write(in_folder("a.npy"), d, &scalar, data, NULL);
        assert_int_equal(ws2_npy_read(in_folder("a.npy"), &dtype, &back, &out, NULL), 0);
        assert_int_equal(back.rank, 0);
        free(out);
        ws2_npy_write(in_folder("a.npy"), d, &empty, data, NULL);
        assert_int_equal(ws2_npy_read(in_folder("a.npy"), &dtype, &back, &out, NULL), 0);
        assert_true(ws2_shape_equal(&empty, &back));
        free(out);
    }
}

static void hostile_npy_headers_are_errors(void **state)
{
    (void)state;
    static const char *const dictionary[] = {
        "{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }",
        "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 2}",
        "{'fortran_order': False, 'shape': (2,)}",
        "",
    };
    enum ws2_dtype dtype;
    struct ws2_shape shape;
    void *out;
    for (size_t i = 0; i < sizeof dictionary / sizeof *dictionary; i++) {
        uint8_t file[256] = "\x93NUMPY\x01\x00";
        const size_t length = strlen(dictionary[i]);
        file[8] = (uint8_t)length;
        memcpy(file + 10, dictionary[i], length);
        spill(in_folder("b.npy"), file, 10 + length + 8);
        assert_int_equal(ws2_npy_read(in_folder("b.npy"), &dtype, &shape, &out, NULL), WS2_ERR_INPUT);
        assert_null(out);
    }
    const struct ws2_shape good = ws2_shape_1(3);
    ws2_npy_write(in_folder("c.npy"), WS2_F32, &good, "abcdefghijkl", NULL);
    size_t count;
    uint8_t *bytes = slurp(in_folder("c.npy"), &count);
    for (size_t cut = 0; cut < count; cut++) {
        spill(in_folder("c.npy"), bytes, cut);
        assert_true(ws2_npy_read(in_folder("c.npy"), &dtype, &shape, &out, NULL) < 0);
    }
    free(bytes);
}

/* ---- lists of files ------------------------------------------------------------------------------ */

static void folders_are_read_in_natural_order(void **state)
{
    (void)state;
    static const char *const names[] = {"f_10.jpg",    "f_2.PNG",   "f_1.jpeg",
                                        ".hidden.png", "notes.txt", "f_02.png"};
    struct ws2_files files = {0};
    mkdir(in_folder("n"), 0777);
    mkdir(in_folder("n/sub.png"), 0777);
    struct ws2_error error = {0};
    assert_int_equal(ws2_files_folder(&files, in_folder("n"), &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "no pictures"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64];
        snprintf(path, sizeof path, "n/%s", names[i]);
        spill(in_folder(path), "", 0);
    }
    assert_int_equal(ws2_files_folder(&files, in_folder("n"), NULL), 0);
    assert_int_equal(files.count, 4);
    assert_string_equal(files.stem[0], "f_1");
    assert_string_equal(files.stem[1], "f_2");
    assert_string_equal(files.stem[2], "f_02");
    assert_string_equal(files.stem[3], "f_10");
    ws2_files_number(&files);
    assert_int_equal(files.number[3], 3); /* 2 and 02 do not increase */
    unlink(files.path[2]);
    ws2_files_free(&files);
    assert_int_equal(ws2_files_glob(&files, in_folder("n/f_*"), NULL), 0);
    ws2_files_number(&files);
    assert_int_equal(files.count, 3);
    assert_int_equal(files.number[0], 1);
    assert_int_equal(files.number[2], 10);
    ws2_files_free(&files);
    assert_int_equal(ws2_files_glob(&files, in_folder("n/g*"), NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_files_folder(&files, in_folder("none"), NULL), WS2_ERR_INPUT);
    ws2_files_free(&files);
    char *path;
    assert_int_equal(ws2_files_find(in_folder("n"), "f_2", &path, NULL), 1);
    assert_string_equal(path, in_folder("n/f_2.PNG"));
    free(path);
    assert_int_equal(ws2_files_find(in_folder("n"), "f_3", &path, NULL), 0);
    spill(in_folder("n/f_2.jpg"), "", 0);
    assert_int_equal(ws2_files_find(in_folder("n"), "f_2", &path, NULL), WS2_ERR_INPUT);
}

/* Pictures up to the next folder or video are one sequence; on an error what came before has been given. */
static void operands_become_sequences(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    char path[7][160];
    const char *operand[7];
    mkdir(in_folder("clip"), 0777);
    mkdir(in_folder("truth"), 0777);
    mkdir(in_folder("truth/clip"), 0777);
    make_noise(&image, 4, 4, 3);
    static const char *const pictures[] = {"clip/f_1.png", "clip/f_2.png", "s_10.png", "s_9.png"};
    for (int i = 0; i < 4; i++)
        assert_int_equal(ws2_png_write(in_folder(pictures[i]), &image, 1, NULL), 0);
    ws2_image_free(&image);
    spill(in_folder("film.mp4"),
          "\0\0\0\x18"
          "ftypisom\0\0\0\0",
          16);
    static const char *const names[] = {"clip/f_2.png", "s_*.png",  "clip", "film.mp4",
                                        "clip/f_1.png", "none.png", "clip"};
    for (int i = 0; i < 7; i++) {
        snprintf(path[i], sizeof path[i], "%s", in_folder(names[i]));
        operand[i] = path[i];
    }
    static const struct {
        const char *name;
        int64_t pictures;
    } want[] = {{"clip", 3}, {"clip", 2}, {"film", 0}};
    struct ws2_sources sources = {.path = operand, .count = 7};
    struct ws2_source source;
    struct ws2_error error = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ws2_sources_next(&sources, &source, &error), 1);
        assert_string_equal(source.name, want[i].name);
        assert_int_equal(source.files.count, want[i].pictures);
        assert_int_equal(source.video != NULL, want[i].pictures == 0);
        ws2_source_free(&source);
    }
    assert_int_equal(ws2_sources_next(&sources, &source, &error), WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "none.png"));
    ws2_source_free(&source);
    ws2_files_free(&sources.list);
    sources = (struct ws2_sources){.path = operand, .count = 1};
    assert_int_equal(ws2_sources_next(&sources, &source, &error), 1);
    assert_string_equal(source.name, "f_2"); /* a single picture gives its own name */
    ws2_source_free(&source);
    assert_int_equal(ws2_sources_next(&sources, &source, &error), 0);
    char *truth = ws2_truth_path(in_folder("truth"), "clip");
    assert_string_equal(truth, in_folder("truth/clip"));
    free(truth);
    truth = ws2_truth_path(in_folder("truth"), "film");
    assert_string_equal(truth, in_folder("truth"));
    free(truth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_keeps_every_sample),
        cmocka_unit_test(png_of_16_bits),
        cmocka_unit_test(jpeg_comes_back_close),
        cmocka_unit_test(exif_orientation_is_applied),
        cmocka_unit_test(cut_and_flipped_pictures_are_errors),
        cmocka_unit_test(pnm_of_every_kind),
        cmocka_unit_test(foreign_and_missing_files_are_errors),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(npy_of_every_dtype),
        cmocka_unit_test(hostile_npy_headers_are_errors),
        cmocka_unit_test(folders_are_read_in_natural_order),
        cmocka_unit_test(operands_become_sequences),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
