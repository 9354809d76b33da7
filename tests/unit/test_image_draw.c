/* Drawing: outlines, colours, text, panels, tensors as pictures and frames looked at. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image_help.h"

/* ---- drawing ------------------------------------------------------------------------------------- */

static void outline_marks_the_inner_border(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    uint8_t mask[9 * 8] = {0};
    static const uint8_t red[3] = {255, 0, 0};
    ws2_image_reset(&image, 9, 8, 3, NULL);
    memset(image.data, 0, 9 * 8 * 3);
    for (int y = 1; y < 7; y++)
        for (int x = 2; x < 9; x++)
            mask[9 * y + x] = 1;
    assert_int_equal(ws2_draw_outline(&image, mask, red, 2, NULL), 0);
    /* The right side of the mask lies on the edge of the picture, which is no border. */
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 9; x++) {
            const bool inside = y >= 1 && y < 7 && x >= 2;
            const bool border = inside && (y < 3 || y >= 5 || x < 4);
            assert_int_equal(image.data[3 * (9 * y + x)], border ? 255 : 0);
        }
    ws2_image_free(&image);
}

static void flow_wheel_has_its_known_colours(void **state)
{
    (void)state;
    /* Right is red, down yellow, left blue-cyan, up violet in the Middlebury wheel; no motion is white. */
    const float flow[12] = {1, 0, -1, 0, 0, 2e9f, 0, 1, 0, -1, 0, 0};
    struct ws2_image image = {0};
    assert_int_equal(ws2_flow_rgb(&image, flow, 6, 1, 0, NULL), 0);
    assert_memory_equal(image.data, ((const uint8_t[]){255, 0, 0}), 3);
    const uint8_t *down = image.data + 3, *left = image.data + 6, *up = image.data + 9;
    assert_true(down[0] > 200 && down[1] > 200 && down[2] < 60);
    assert_true(left[0] < 60 && left[1] > 100 && left[2] > 200);
    assert_true(up[0] > 60 && up[1] < 60 && up[2] > 200);
    assert_memory_equal(image.data + 12, ((const uint8_t[]){255, 255, 255}), 3);
    assert_memory_equal(image.data + 15, ((const uint8_t[]){0, 0, 0}), 3);
    ws2_image_free(&image);
}

static void palettes_rise_and_ids_differ(void **state)
{
    (void)state;
    uint8_t low[3], high[3], colour[40][3];
    ws2_palette_rgb(WS2_PALETTE_TURBO, -3, low);
    ws2_palette_rgb(WS2_PALETTE_TURBO, 9, high);
    assert_true(low[2] > low[1] && high[0] > high[2]);
    ws2_palette_rgb(WS2_PALETTE_GREY, NAN, low);
    assert_int_equal(low[0], 128);
    double before = -1;
    for (int i = 0; i <= 100; i++) {
        ws2_palette_rgb(WS2_PALETTE_VIRIDIS, (float)i / 100, low);
        const double luma = 0.2126 * pow(low[0] / 255.0, 2.2) + 0.7152 * pow(low[1] / 255.0, 2.2) +
                            0.0722 * pow(low[2] / 255.0, 2.2);
        assert_true(luma > before - 2e-3);
        before = luma;
    }
    for (int i = 0; i < 40; i++) {
        ws2_id_rgb(i, colour[i]);
        for (int j = 0; j < i; j++)
            assert_true(abs(colour[i][0] - colour[j][0]) + abs(colour[i][1] - colour[j][1]) +
                            abs(colour[i][2] - colour[j][2]) >
                        10);
    }
    struct ws2_image image = {0};
    const float map[3] = {0, NAN, 1};
    assert_int_equal(ws2_heat_rgb(&image, map, 3, 1, 0, 1, WS2_PALETTE_GREY, NULL), 0);
    assert_memory_equal(image.data, ((const uint8_t[]){0, 0, 0, 128, 128, 128, 255, 255, 255}), 9);
    ws2_image_free(&image);
}

static void text_stays_inside(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    static const uint8_t white[3] = {255, 255, 255};
    ws2_image_reset(&image, 20, 10, 1, NULL);
    memset(image.data, 0, 200);
    ws2_draw_text(&image, -3, -2, "a\x80~~~~~~", white, 2);
    ws2_draw_text(&image, 18, 9, "WW", white, 3);
    memset(image.data, 0, 200);
    ws2_draw_text(&image, 1, 1, "I", white, 1);
    assert_int_equal(ws2_text_width("abc", 2), 36);
    static const char *const letter[7] = {" ###", "  #", "  #", "  #", "  #", "  #", " ###"};
    for (int y = 0; y < 7; y++)
        for (int x = 0; x < 5; x++)
            assert_int_equal(image.data[20 * (y + 1) + x + 1],
                             x < (int)strlen(letter[y]) && letter[y][x] == '#' ? 255 : 0);
    ws2_image_free(&image);
}

static void panels_stand_side_by_side_and_below(void **state)
{
    (void)state;
    struct ws2_image panel[2] = {{0}, {0}}, row = {0}, sheet = {0};
    make_noise(&panel[0], 20, 10, 3);
    make_noise(&panel[1], 8, 12, 1);
    const char *const captions[2] = {"rgb", NULL};
    assert_int_equal(ws2_draw_row(&row, panel, captions, 2, NULL), 0);
    assert_true(row.width == 4 + 20 + 4 + 8 + 4 && row.height == 11 + 12 + 4);
    assert_memory_equal(row.data + (11 * row.width + 4) * 3, panel[0].data, 60);
    assert_int_equal(row.data[(11 * row.width + 28) * 3 + 2], panel[1].data[0]);
    assert_int_equal(ws2_draw_below(&sheet, &row, NULL), 0);
    assert_int_equal(ws2_draw_below(&sheet, &panel[0], NULL), 0);
    assert_int_equal(ws2_draw_below(&sheet, &row, NULL), 0);
    assert_true(sheet.width == row.width && sheet.height == 2 * row.height + 10);
    assert_memory_equal(sheet.data + (row.height + 10) * row.width * 3, row.data,
                        (size_t)(row.width * row.height * 3));
    assert_memory_equal(sheet.data + row.height * row.width * 3, panel[0].data, 60);
    assert_int_equal(ws2_draw_row(&row, panel, NULL, 0, NULL), WS2_ERR_USAGE);
    ws2_image_free(&panel[0]);
    ws2_image_free(&panel[1]);
    ws2_image_free(&row);
    ws2_image_free(&sheet);
}

/* ---- views -------------------------------------------------------------------------------------------- */

static void tensors_become_pictures(void **state)
{
    (void)state;
    struct ws2_image image = {0};
    const struct ws2_view plain = {.palette = WS2_PALETTE_GREY};
    struct ws2_view second = plain;
    const struct ws2_shape plane = ws2_shape_2(1, 3), maps = ws2_shape_3(2, 1, 3), line = ws2_shape_1(3),
                           empty = ws2_shape_2(0, 3);
    const uint8_t mask[3] = {0, 1, 1}, grey[3] = {0, 1, 2}, instances[6] = {1, 1, 0, 0, 1, 0};
    const float map[6] = {0, 0.5f, 1, -1, 1, 3};
    uint16_t half[6];
    uint8_t colour[3];
    second.channel = 1;
    ws2_half_from_floats(half, map, 6);
    assert_int_equal(ws2_view_tensor(&image, "fg", WS2_U8, &plane, mask, &plain, NULL), 0);
    assert_memory_equal(image.data, "\0\xff\xff", 3);
    ws2_view_tensor(&image, "fg", WS2_U8, &plane, grey, &plain, NULL);
    assert_memory_equal(image.data, "\0\1\2", 3);
    ws2_view_tensor(&image, "class", WS2_U8, &plane, grey, &plain, NULL);
    ws2_id_rgb(2, colour);
    assert_memory_equal(image.data + 6, colour, 3);
    ws2_view_tensor(&image, "instances", WS2_U8, &maps, instances, &plain, NULL);
    assert_memory_equal(image.data + 3, colour, 3);
    const uint16_t layers[6] = {1, 1, 0, 0, 2, 0};
    assert_int_equal(ws2_view_tensor(&image, "instances", WS2_U16, &maps, layers, &plain, NULL), 0);
    assert_memory_equal(image.data + 3, colour, 3);
    assert_int_equal(ws2_view_tensor(&image, "cam", WS2_F16, &maps, half, &plain, NULL), 0);
    assert_memory_equal(image.data, ((const uint8_t[]){0, 0, 0, 128, 128, 128, 255, 255, 255}), 9);
    ws2_view_tensor(&image, "cam", WS2_F32, &maps, map, &second, NULL);
    assert_memory_equal(image.data, ((const uint8_t[]){0, 0, 0, 128, 128, 128, 255, 255, 255}), 9);
    second.channel = 2;
    assert_int_equal(ws2_view_tensor(&image, "cam", WS2_F32, &maps, map, &second, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_view_tensor(&image, "prob", WS2_F32, &line, map, &plain, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_view_tensor(&image, "x", WS2_U8, &empty, map, &plain, NULL), WS2_ERR_INPUT);
    assert_int_equal(ws2_view_tensor(&image, "x", WS2_F64, &plane, map, &plain, NULL), WS2_ERR_INPUT);
    ws2_view_tensor(&image, "flow.next", WS2_F32, &maps, map, &plain, NULL);
    assert_int_equal(image.channels, 3);
    /* Every name that begins with "flow", in either type; unknown is black: beyond 1e9, infinite (as a half), NaN. */
    const float moved[6] = {2, 3e9f, 0, 0, 0, NAN};
    ws2_half_from_floats(half, moved, 6);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ws2_view_tensor(&image, "flow.truth.next", i ? WS2_F16 : WS2_F32, &maps,
                                         i ? (const void *)half : moved, &plain, NULL),
                         0);
        assert_memory_equal(image.data, ((const uint8_t[]){255, 0, 0, 0, 0, 0, 0, 0, 0}), 9);
    }
    assert_int_equal(ws2_view_tensor(&image, "flow.truth.next.valid", WS2_U8, &plane, mask, &plain, NULL), 0);
    assert_memory_equal(image.data, "\0\xff\xff", 3);
    ws2_image_free(&image);
}

/* A frame of 4 x 2 with a map, a mask and a mask of another size; "late" is announced but not there. */
static bool look_has(void *context, const char *name)
{
    return strstr(context, name) != NULL;
}

static int look_get(void *context, const char *name, enum ws2_dtype *dtype, struct ws2_shape *shape,
                    const void **data, struct ws2_error *error)
{
    static const uint8_t rgb[24] = {0}, mask[8] = {0, 1, 1, 0, 0, 0, 0, 0};
    static const float map[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    (void)context;
    (void)error;
    if (strcmp(name, "late") == 0)
        return 0;
    *dtype = *name == 'c' ? WS2_F32 : WS2_U8;
    *shape = *name == 'r'   ? ws2_shape_3(2, 4, 3)
             : *name == 'c' ? ws2_shape_3(2, 2, 4)
             : *name == 'm' ? ws2_shape_2(2, 4)
                            : ws2_shape_2(4, 2);
    *data = *name == 'r' ? (const void *)rgb : *name == 'c' ? (const void *)map : (const void *)mask;
    return 1;
}

static int look_class(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "before") == 0 ? 1 : -1;
}

static void frames_are_looked_at(void **state)
{
    (void)state;
    char all[] = "rgb cam mask other late";
    const struct ws2_look_source source = {all, look_has, look_get, look_class};
    static const char *const masks[] = {"mask", "late"}, *const wrong[] = {"other"};
    static const char *const panels[] = {"late", "overlay", "cam:0"};
    struct ws2_look look = {.view = {.palette = WS2_PALETTE_GREY},
                            .heat = "cam",
                            .mask = masks,
                            .masks = 2,
                            .alpha = 1,
                            .thickness = 1};
    struct ws2_image image = {0}, picture[3] = {{0}};
    struct ws2_error error = {0};
    assert_int_equal(ws2_look_overlay(&image, &look, &source, &error),
                     1); /* the class before, then the mask */
    assert_memory_equal(image.data, ((const uint8_t[]){255, 255, 255, 255, 48, 48, 255, 48, 48, 255}), 10);
    look.heat = "cam:0";
    look.masks = 0;
    assert_int_equal(ws2_look_overlay(&image, &look, &source, &error), 1);
    assert_memory_equal(image.data, ((const uint8_t[24]){0}), 24);
    look.heat = "late"; /* the frame alone */
    assert_int_equal(ws2_look_overlay(&image, &look, &source, &error), 1);
    assert_int_equal(ws2_look_tensor(&image, &look, &source, "late", false, &error), 0);
    assert_int_equal(ws2_look_panels(&image, picture, &look, &source, panels, 3, "b1 7", &error), 1);
    assert_true(image.width >= 64 + 4 + 4 && picture[0].width == 64 && picture[2].height == 2);
    assert_string_equal(error.text, "");
    static const struct {
        const char *text, *says;
        int status;
    } bad[] = {{"none", "no tensor 'none'", WS2_ERR_INPUT},
               {"cam:9", "tensor 'cam': no channel 9 in a map of 2", WS2_ERR_INPUT},
               {"cam:bird", "no class 'bird' in this stream", WS2_ERR_INPUT},
               {":0", "':0' names no tensor", WS2_ERR_USAGE}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error = (struct ws2_error){0};
        assert_int_equal(ws2_look_tensor(&image, &look, &source, bad[i].text, true, &error), bad[i].status);
        assert_string_equal(error.text, bad[i].says);
    }
    look = (struct ws2_look){.mask = wrong, .masks = 1, .thickness = 1};
    error = (struct ws2_error){0};
    assert_int_equal(ws2_look_overlay(&image, &look, &source, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "tensor 'other' is no mask of the frame's size");
    ws2_image_free(&image);
    for (int i = 0; i < 3; i++)
        ws2_image_free(&picture[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_become_pictures),
        cmocka_unit_test(frames_are_looked_at),
        cmocka_unit_test(outline_marks_the_inner_border),
        cmocka_unit_test(flow_wheel_has_its_known_colours),
        cmocka_unit_test(palettes_rise_and_ids_differ),
        cmocka_unit_test(text_stays_inside),
        cmocka_unit_test(panels_stand_side_by_side_and_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
