/* Video: YUV by its definition, there and back, cut files and what is no video. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "folder_help.h"
#include "image_help.h"
#include "image/internal.h"

/* ---- video --------------------------------------------------------------------------------------- */

/* Chroma at a luma position, by the definition: linear between the two nearest samples, edges repeated. */
static double chroma_at(const struct image_yuv *yuv, int p, int x, int y)
{
    const int cw = (yuv->width + yuv->shift_x) >> yuv->shift_x,
              ch = (yuv->height + yuv->shift_y) >> yuv->shift_y;
    double at[2] = {x, y};
    if (yuv->shift_x)
        at[0] = yuv->left ? x / 2.0 : (x + 0.5) / 2 - 0.5;
    if (yuv->shift_y)
        at[1] = yuv->top ? y / 2.0 : (y + 0.5) / 2 - 0.5;
    at[0] = fmin(fmax(at[0], 0), cw - 1);
    at[1] = fmin(fmax(at[1], 0), ch - 1);
    double sum = 0;
    for (int j = 0; j < ch; j++)
        for (int i = 0; i < cw; i++) {
            const uint8_t *sample = yuv->plane[p] + j * yuv->stride[p] + i * (yuv->depth > 8 ? 2 : 1);
            const int value = yuv->depth > 8 ? sample[0] | sample[1] << 8 : sample[0];
            sum += fmax(0, 1 - fabs(at[0] - i)) * fmax(0, 1 - fabs(at[1] - j)) * value;
        }
    return sum;
}

static void check_yuv(const struct image_yuv *yuv)
{
    uint8_t rgb[11 * 7 * 3];
    void *scratch = malloc(image_yuv_scratch(yuv->width));
    const double unit = 1 << (yuv->depth - 8), top = (1 << yuv->depth) - 1, kg = 1 - yuv->kr - yuv->kb;
    image_yuv_rgb(rgb, yuv, scratch);
    free(scratch);
    for (int y = 0; y < yuv->height; y++)
        for (int x = 0; x < yuv->width; x++) {
            const uint8_t *sample = yuv->plane[0] + y * yuv->stride[0] + x * (yuv->depth > 8 ? 2 : 1);
            const int value = yuv->depth > 8 ? sample[0] | sample[1] << 8 : sample[0];
            const double luma = yuv->full ? value * 255 / top : (value - 16 * unit) * 255 / (219 * unit);
            const double scale = 255 / (yuv->full ? top : 224 * unit);
            const double u = (chroma_at(yuv, 1, x, y) - 128 * unit) * scale;
            const double v = (chroma_at(yuv, 2, x, y) - 128 * unit) * scale;
            const double red = luma + 2 * (1 - yuv->kr) * v, blue = luma + 2 * (1 - yuv->kb) * u;
            const double want[3] = {red, (luma - yuv->kr * red - yuv->kb * blue) / kg, blue};
            for (int k = 0; k < 3; k++) {
                const double clipped = fmin(fmax(want[k], 0), 255);
                if (fabs(rgb[(y * yuv->width + x) * 3 + k] - clipped) > 0.51)
                    fail_msg("%d,%d,%d: %d, wanted %g", x, y, k, rgb[(y * yuv->width + x) * 3 + k], clipped);
            }
        }
}

static void yuv_follows_the_definition(void **state)
{
    (void)state;
    uint8_t planes[3][16 * 8 * 2];
    for (int mode = 0; mode < 4 * 2 * 2 * 2 * 2; mode++) {
        struct image_yuv yuv = {.width = 11, .height = 7, .kr = 0.2126, .kb = 0.0722};
        yuv.shift_x = mode & 1;
        yuv.shift_y = mode >> 1 & 1;
        yuv.depth = mode >> 2 & 1 ? 10 : 8;
        yuv.full = mode >> 3 & 1;
        yuv.left = mode >> 4 & 1;
        yuv.top = mode >> 5 & 1;
        generator_image("yuv", &planes[0][0], sizeof planes);
        for (int p = 0; p < 3; p++) {
            for (size_t i = 1; yuv.depth == 10 && i < sizeof planes[p]; i += 2)
                planes[p][i] &= 3;
            yuv.plane[p] = planes[p];
            yuv.stride[p] = 32;
        }
        check_yuv(&yuv);
    }
}

static void write_video(const char *path, int width, int height, int frames)
{
    struct ws2_video_writer *writer;
    struct ws2_image image = {0};
    assert_int_equal(ws2_video_create(&writer, path, width, height, 25, 1, 10, NULL), 0);
    for (int i = 0; i < frames; i++) {
        make_smooth(&image, width, height, 3, 3 * i);
        assert_int_equal(ws2_video_put(writer, &image, NULL), 0);
    }
    ws2_image_reset(&image, width + 1, height, 3, NULL);
    assert_int_equal(ws2_video_put(writer, &image, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_video_finish(writer, NULL), 0);
    ws2_image_free(&image);
}

static bool video_can_be_written(void)
{
    struct ws2_video_writer *writer;
    struct ws2_error error = {0};
    if (ws2_video_create(&writer, in_folder("try.mp4"), 16, 16, 25, 1, 10, &error) < 0) {
        print_message("no video here: %s\n", error.text);
        return false;
    }
    ws2_video_abandon(writer);
    assert_int_equal(access(in_folder("try.mp4.tmp"), F_OK), -1);
    return true;
}

static void video_there_and_back(void **state)
{
    (void)state;
    struct ws2_video *video;
    struct ws2_image image = {0}, want = {0};
    struct ws2_error error = {0};
    int64_t pts;
    if (!video_can_be_written())
        skip();
    write_video(in_folder("v.mp4"), 75, 49, 12);
    assert_int_equal(ws2_video_open(&video, in_folder("v.mp4"), 2, &error), 0);
    const struct ws2_video_info *info = ws2_video_info(video);
    assert_true(info->width == 76 && info->height == 50 && info->frames == 12);
    assert_true(info->rate_num == 25 * info->rate_den && info->rotation == 0);
    assert_string_equal(info->codec, "h264");
    for (int i = 0; i < 12; i++) {
        assert_int_equal(ws2_video_next(video, i == 5 ? NULL : &image, &pts, &error), 1);
        assert_int_equal(pts, 40000 * i);
        make_smooth(&want, 75, 49, 3, 3 * i);
        assert_int_equal(ws2_image_crop(&image, 0, 0, 75, 49, NULL), 0);
        if (i != 5)
            assert_true(mean_difference(&want, &image) < 2.5);
        else
            ws2_image_reset(&image, 76, 50, 3, NULL);
    }
    assert_int_equal(ws2_video_next(video, &image, &pts, &error), 0);
    assert_int_equal(ws2_video_next(video, &image, &pts, &error), 0);
    ws2_video_close(video);
    ws2_image_free(&image);
    ws2_image_free(&want);
}

static void cut_video_never_loses_frames_silently(void **state)
{
    (void)state;
    size_t count;
    if (!video_can_be_written())
        skip();
    write_video(in_folder("w.mp4"), 32, 32, 6);
    uint8_t *bytes = slurp(in_folder("w.mp4"), &count);
    for (size_t cut = 0; cut < count; cut += 1 + count / 97) {
        struct ws2_video *video;
        struct ws2_error error = {0};
        int status, frames = 0;
        spill(in_folder("cut.mp4"), bytes, cut);
        status = ws2_video_open(&video, in_folder("cut.mp4"), 1, &error);
        while (status >= 0 && (status = ws2_video_next(video, NULL, NULL, &error)) > 0)
            frames++;
        /* A cut in the last descriptive atoms costs no frame. */
        if (status >= 0 && frames < 6)
            fail_msg("cut at %zu of %zu was not noticed", cut, count);
        assert_true(status >= 0 || error.text[0] != '\0');
        ws2_video_close(video);
    }
    free(bytes);
}

static void no_video_is_an_error(void **state)
{
    (void)state;
    struct ws2_video *video;
    struct ws2_video_writer *writer;
    struct ws2_error error = {0};
    if (!video_can_be_written())
        skip();
    assert_int_equal(ws2_video_open(&video, in_folder("missing.mp4"), 1, &error), WS2_ERR_INPUT);
    assert_null(video);
    spill(in_folder("junk.mp4"), "not a video at all, only some text", 34);
    assert_int_equal(ws2_video_open(&video, in_folder("junk.mp4"), 1, NULL), WS2_ERR_INPUT);
    /* A play list must not make libav open other files. */
    char list[300];
    const int length = snprintf(list, sizeof list, "ffconcat version 1.0\nfile %s\n", in_folder("w.mp4"));
    spill(in_folder("list.mp4"), list, (size_t)length);
    assert_int_equal(ws2_video_open(&video, in_folder("list.mp4"), 1, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_video_create(&writer, in_folder("z.mp4"), 16, 16, 25, 1, 20, NULL), 0);
    assert_int_equal(ws2_video_finish(writer, NULL), WS2_ERR_INPUT);
    assert_int_equal(access(in_folder("z.mp4"), F_OK), -1);
    assert_int_equal(ws2_video_create(&writer, in_folder("z.mp4"), 16, 16, 0, 1, 20, NULL), WS2_ERR_USAGE);
    assert_non_null(ws2_video_library());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yuv_follows_the_definition),
        cmocka_unit_test(video_there_and_back),
        cmocka_unit_test(cut_video_never_loses_frames_silently),
        cmocka_unit_test(no_video_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
