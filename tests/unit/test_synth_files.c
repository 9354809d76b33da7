/* The belt simulator's files: cut-outs that are pasted, and data sets in the published layout. */
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image.h"
#include "synth_help.h"

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* A disc of one colour on nothing. */
static void write_disc(const char *path, int side, int channels, uint8_t red, uint8_t alpha)
{
    struct ws2_image image = {0};
    assert_int_equal(ws2_image_reset(&image, side, side, channels, NULL), 0);
    for (int p = 0; p < side * side; p++) {
        const double x = (p % side) + 0.5 - 0.5 * side, y = (p / side) + 0.5 - 0.5 * side;
        uint8_t *pixel = image.data + channels * p;
        pixel[0] = red;
        pixel[1] = pixel[2] = 20;
        if (channels == 4)
            pixel[3] = hypot(x, y) < 0.45 * side ? alpha : 0;
    }
    assert_int_equal(ws2_png_write(path, &image, 1, NULL), 0);
    ws2_image_free(&image);
}

static int enter_scratch(void **state)
{
    char *folder = strdup("/tmp/ws2_synth_XXXXXX");
    char *here = getcwd(NULL, 0);
    if (!folder || !here || !mkdtemp(folder) || chdir(folder) != 0)
        return -1;
    char **pair = calloc(2, sizeof *pair);
    pair[0] = folder;
    pair[1] = here;
    *state = pair;
    return 0;
}

static int leave_scratch(void **state)
{
    char **pair = *state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", pair[0]);
    const int status = chdir(pair[1]) | system(command);
    free(pair[0]);
    free(pair[1]);
    free(pair);
    return status;
}

static void make_cutout_folder(void)
{
    mkdir("items", 0777);
    mkdir("items/wanted", 0777);
    mkdir("items/unwanted", 0777);
    write_disc("items/wanted/a.png", 40, 4, 30, 255);
    write_disc("items/unwanted/b.png", 61, 4, 250, 255);
    write_disc("items/unwanted/c.png", 7, 4, 240, 120);
}

static void cutouts_are_pasted(void **state)
{
    (void)state;
    make_cutout_folder();
    struct ws2_cutouts *cutouts, *list;
    struct ws2_error error = {0};
    assert_int_equal(ws2_cutouts_open(&cutouts, "items", &error), 0);
    assert_int_equal(ws2_cutouts_count(cutouts, false), 1);
    assert_int_equal(ws2_cutouts_count(cutouts, true), 2);
    mkdir("lists", 0777);
    write_text("lists/items.tsv",
               "# items\n\n../items/wanted/a.png\twanted\n../items/unwanted/b.png\tunwanted\r\n"
               "../items/unwanted/c.png\tunwanted\n");
    assert_int_equal(ws2_cutouts_open(&list, "lists/items.tsv", &error), 0);
    assert_int_equal(ws2_cutouts_digest(cutouts), ws2_cutouts_digest(list));

    struct ws2_synth_config config = plain(90, 90, 2);
    make_ideal(&config);
    config.density = 30;
    config.rolling = config.sliding = 1;
    struct ws2_synth *synth;
    assert_int_equal(ws2_synth_open(&synth, &config, cutouts, &error), 0);
    struct shot shot = shot_new(90, 90);
    render(synth, 3, &shot);
    double red[3] = {0}, count[3] = {0};
    for (int p = 0; p < 90 * 90; p++) {
        red[shot.at.kind[p]] += shot.at.rgb[3 * p];
        count[shot.at.kind[p]]++;
    }
    assert_true(count[1] > 100 && count[2] > 100);
    assert_true(red[1] / count[1] < 60 && red[2] / count[2] > 130);
    shot_free(&shot);
    ws2_synth_close(synth);
    ws2_cutouts_close(cutouts);
    ws2_cutouts_close(list);
}

static void refuse_cutouts(const char *path, const char *reason)
{
    struct ws2_cutouts *cutouts;
    struct ws2_error error = {0};
    assert_int_equal(ws2_cutouts_open(&cutouts, path, &error), WS2_ERR_INPUT);
    assert_null(cutouts);
    if (!strstr(error.text, reason))
        fail_msg("'%s' lacks '%s'", error.text, reason);
}

static void bad_cutouts_are_refused(void **state)
{
    (void)state;
    refuse_cutouts("nowhere", "nowhere: No such file");
    make_cutout_folder();
    unlink("items/wanted/a.png");
    refuse_cutouts("items", "items/wanted");
    rmdir("items/wanted");
    refuse_cutouts("items", "items/wanted");
    mkdir("items/wanted", 0777);
    write_disc("items/wanted/a.png", 10, 3, 30, 255);
    refuse_cutouts("items", "items/wanted/a.png: has no alpha");
    write_disc("items/wanted/a.png", 10, 4, 30, 0);
    refuse_cutouts("items", "items/wanted/a.png: is transparent");
    write_text("items/wanted/a.png", "this is no picture");
    refuse_cutouts("items", "items/wanted/a.png");
    write_disc("items/wanted/a.png", 30, 4, 30, 255);
    assert_int_equal(truncate("items/wanted/a.png", 80), 0);
    refuse_cutouts("items", "items/wanted/a.png");
    write_disc("items/wanted/a.png", 10, 4, 30, 255);
    write_text("list", "items/wanted/a.png\twanted\n");
    refuse_cutouts("list", "names no unwanted");
    write_text("list", "items/wanted/a.png wanted\n");
    refuse_cutouts("list", "list: line 1");
    write_text("list", "items/wanted/a.png\tmaybe\n");
    refuse_cutouts("list", "list: line 1");
    write_text("list", "\n\twanted\n");
    refuse_cutouts("list", "list: line 2");
    write_text("list", "gone.png\twanted\n");
    refuse_cutouts("list", "list: line 1: gone.png: No such file");
    write_text("list", "");
    refuse_cutouts("list", "names no wanted");
}

/* ---- data sets ---------------------------------------------------------------------------------------- */

static struct ws2_synth_dataset small_set(void)
{
    struct ws2_synth_dataset set = {.frames = 2, .clips = {2, 1, 1}, .rate = 12, .quality = 90, .threads = 3};
    set.config = plain(32, 24, 7);
    return set;
}

static bool is_there(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

static void data_sets_have_the_published_layout(void **state)
{
    (void)state;
    struct ws2_synth_dataset set = small_set();
    struct ws2_error error = {0};
    set.test_frames = 1;
    assert_int_equal(ws2_synth_write_dataset(&set, "a/b", &error), 8);
    static const char *const role[2] = {"before", "after"};
    for (int r = 0; r < 2; r++) {
        char path[200];
        const char *const part[] = {"train_val_dataset/training", "train_val_dataset/validation",
                                    "test_set/images", "test_set/masks"};
        for (int k = 0; k < 4; k++) {
            for (int f = 0; f < 3; f++) {
                snprintf(path, sizeof path, "a/b/%s/%s/video_000/frame_%04d.%s", part[k], role[r], f,
                         k == 3 ? "png" : "jpg");
                assert_true(is_there(path) == (f < (k < 2 ? 2 : 1)));
            }
            snprintf(path, sizeof path, "a/b/%s/%s/video_001", part[k], role[r]);
            assert_true(is_there(path) == (k == 0));
        }
        /* The masks are the truth of a scene that can be rendered again from the clip's own pictures' size. */
        struct ws2_image mask = {0};
        snprintf(path, sizeof path, "a/b/test_set/masks/%s/video_000/frame_0000.png", role[r]);
        assert_int_equal(ws2_image_read(&mask, path, 0, &error), 0);
        assert_true(mask.width == 32 && mask.height == 24 && mask.channels == 1);
        for (int p = 0; p < 32 * 24; p++)
            assert_true(mask.data[p] == 0 || mask.data[p] == 255);
        ws2_image_free(&mask);
    }
}

static void a_second_run_does_what_is_missing(void **state)
{
    (void)state;
    struct ws2_synth_dataset set = small_set();
    struct ws2_error error = {0};
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), 8);
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), 0);
    /* An interrupted clip: no final name, rubbish under the other. */
    assert_int_equal(
        system("cd d/test_set/images/after && cp -r video_000 ../kept && mv video_000 .video_000.tmp && "
               "echo rubbish >.video_000.tmp/frame_0000.jpg && touch .video_000.tmp/frame_0099.jpg"),
        0);
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), 1);
    assert_int_equal(system("cd d/test_set/images && diff -r kept after/video_000 && rm -r kept"), 0);
    assert_false(is_there("d/test_set/images/after/.video_000.tmp"));
    /* Lost masks come back too. */
    assert_int_equal(system("cp -r d/test_set/masks kept && rm -r d/test_set/masks/before"), 0);
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), 1);
    assert_int_equal(system("diff -r kept d/test_set/masks"), 0);
    /* More clips are added, with any number of threads, as if made at once. */
    set.clips[0] = 3;
    set.threads = 1;
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), 2);
    assert_int_equal(ws2_synth_write_dataset(&set, "e", &error), 10);
    assert_int_equal(system("diff -r d e"), 0);
    /* Another set does not mix with it. */
    set.config.seed = 8;
    assert_int_equal(ws2_synth_write_dataset(&set, "d", &error), WS2_ERR_USAGE);
    assert_non_null(strstr(error.text, "seed=7"));
    assert_int_equal(system("diff -r d e"), 0);
}

static void hostile_data_sets_are_refused(void **state)
{
    (void)state;
    struct ws2_synth_dataset set = small_set();
    struct ws2_error error = {0};
    write_text("file", "");
    assert_int_equal(ws2_synth_write_dataset(&set, "file/x", &error), WS2_ERR_SYSTEM);
    assert_non_null(strstr(error.text, "file"));
    set.frames = 0;
    assert_int_equal(ws2_synth_write_dataset(&set, "x", NULL), WS2_ERR_USAGE);
    set = small_set();
    set.clips[1] = -1;
    assert_int_equal(ws2_synth_write_dataset(&set, "x", NULL), WS2_ERR_USAGE);
    set = small_set();
    set.quality = 0;
    assert_int_equal(ws2_synth_write_dataset(&set, "x", NULL), WS2_ERR_USAGE);
    set = small_set();
    set.config.width = 0;
    assert_int_equal(ws2_synth_write_dataset(&set, "x", NULL), WS2_ERR_USAGE);
    char longest[5000];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    set = small_set();
    assert_int_equal(ws2_synth_write_dataset(&set, longest, NULL), WS2_ERR_USAGE);
    assert_false(is_there("x"));
    set.clips[0] = set.clips[1] = set.clips[2] = 0;
    assert_int_equal(ws2_synth_write_dataset(&set, "none", NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cutouts_are_pasted, enter_scratch, leave_scratch),
        cmocka_unit_test_setup_teardown(bad_cutouts_are_refused, enter_scratch, leave_scratch),
        cmocka_unit_test_setup_teardown(data_sets_have_the_published_layout, enter_scratch, leave_scratch),
        cmocka_unit_test_setup_teardown(a_second_run_does_what_is_missing, enter_scratch, leave_scratch),
        cmocka_unit_test_setup_teardown(hostile_data_sets_are_refused, enter_scratch, leave_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
