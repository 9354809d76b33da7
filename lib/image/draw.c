/* Drawing: colour maps, outlines, text, panels. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "image/internal.h"

/* ---- colour maps --------------------------------------------------------------------------------- */

/* Control points, linear in between: least-squares fits to turbo (within 4 levels) and viridis (within 5). */
static const uint8_t turbo[][3] = {
    {48, 17, 57},   {57, 41, 113},  {64, 63, 160},   {68, 85, 198},  {71, 106, 227}, {71, 127, 246},
    {67, 147, 255}, {55, 167, 251}, {41, 187, 237},  {28, 205, 217}, {23, 220, 195}, {29, 232, 177},
    {48, 242, 154}, {76, 249, 127}, {107, 254, 100}, {138, 255, 76}, {163, 253, 60}, {184, 247, 52},
    {204, 237, 52}, {222, 224, 55}, {237, 208, 58},  {248, 192, 58}, {253, 174, 53}, {254, 151, 44},
    {251, 127, 34}, {245, 103, 23}, {236, 81, 14},   {224, 64, 9},   {210, 48, 5},   {192, 34, 2},
    {171, 22, 1},   {148, 12, 1},   {121, 4, 3}};
static const uint8_t viridis[][3] = {
    {68, 0, 84},    {72, 24, 106},  {72, 44, 123},  {66, 64, 134},  {59, 82, 139},  {51, 98, 142},
    {44, 114, 142}, {38, 129, 142}, {32, 144, 141}, {30, 159, 137}, {39, 174, 129}, {61, 188, 116},
    {92, 201, 99},  {130, 212, 76}, {171, 220, 49}, {214, 226, 23}, {255, 231, 33}};

static void interpolate(const uint8_t (*points)[3], int count, float value, uint8_t rgb[3])
{
    const float at = value * (float)(count - 1);
    const int low = at >= (float)(count - 1) ? count - 2 : (int)at;
    const float share = at - (float)low;

    for (int k = 0; k < 3; k++)
        rgb[k] = (uint8_t)lrintf((1.0f - share) * points[low][k] + share * points[low + 1][k]);
}

void ws2_palette_rgb(enum ws2_palette palette, float value, uint8_t rgb[3])
{
    if (isnan(value)) {
        rgb[0] = rgb[1] = rgb[2] = 128;
        return;
    }
    value = value < 0.0f ? 0.0f : value > 1.0f ? 1.0f : value;
    if (palette == WS2_PALETTE_GREY)
        rgb[0] = rgb[1] = rgb[2] = (uint8_t)lrintf(255.0f * value);
    else if (palette == WS2_PALETTE_VIRIDIS)
        interpolate(viridis, sizeof viridis / sizeof *viridis, value, rgb);
    else
        interpolate(turbo, sizeof turbo / sizeof *turbo, value, rgb);
}

void ws2_id_rgb(int64_t id, uint8_t rgb[3])
{
    /* Steps of the golden ratio spread hues evenly however many ids there are; two cycles of other lengths vary
     * saturation and value, so that neighbours in hue still differ. */
    const double golden = 0.6180339887498949;
    const uint64_t n = (uint64_t)id - 1;

    if (id == 0) {
        rgb[0] = rgb[1] = rgb[2] = 0;
        return;
    }
    ws2_hsv_rgb((float)fmod((double)(n % 100000) * golden, 1.0), n % 3 == 1 ? 0.55f : 0.9f,
                n % 5 < 3 ? 1.0f : 0.7f, rgb);
}

int ws2_heat_rgb(struct ws2_image *image, const float *map, int width, int height, float low, float high,
                 enum ws2_palette palette, struct ws2_error *error)
{
    const float scale = high > low ? 1.0f / (high - low) : 0.0f;
    const int status = ws2_image_reset(image, width, height, 3, error);
    uint8_t colours[256][3];

    if (status < 0)
        return status;
    for (int i = 0; i < 256; i++)
        ws2_palette_rgb(palette, (float)i / 255.0f, colours[i]);
    for (size_t i = 0; i < (size_t)width * (size_t)height; i++) {
        const float value = (map[i] - low) * scale;

        if (isnan(value))
            ws2_palette_rgb(palette, value, image->data + 3 * i);
        else
            memcpy(image->data + 3 * i, colours[lrintf(255.0f * fminf(fmaxf(value, 0.0f), 1.0f))], 3);
    }
    return 0;
}

void ws2_image_blend(struct ws2_image *image, const struct ws2_image *heat, float alpha)
{
    const size_t samples = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
    const int weight = (int)lrintf(256.0f * fminf(fmaxf(alpha, 0.0f), 1.0f));

    for (size_t i = 0; i < samples; i++)
        image->data[i] = (uint8_t)((image->data[i] * (256 - weight) + heat->data[i] * weight + 128) >> 8);
}

/* ---- flow ---------------------------------------------------------------------------------------- */

/* Steps between the six hues of the Middlebury wheel: red-yellow, yellow-green, green-cyan, cyan-blue, blue-magenta,
 * magenta-red. The eye tells yellows and reds apart better than greens, hence the uneven numbers. */
static const int wheel_steps[6] = {15, 6, 4, 11, 13, 6};
#define WHEEL 55

static void wheel_make(float wheel[WHEEL][3])
{
    static const uint8_t corner[7][3] = {{1, 0, 0}, {1, 1, 0}, {0, 1, 0}, {0, 1, 1},
                                         {0, 0, 1}, {1, 0, 1}, {1, 0, 0}};
    int at = 0;

    for (int side = 0; side < 6; side++)
        for (int step = 0; step < wheel_steps[side]; step++, at++)
            for (int k = 0; k < 3; k++) {
                const float share = (float)step / (float)wheel_steps[side];

                wheel[at][k] = (1.0f - share) * corner[side][k] + share * corner[side + 1][k];
            }
}

static float flow_longest(const float *u, const float *v, size_t pixels)
{
    float longest = 0.0f;

    for (size_t i = 0; i < pixels; i++)
        if (ws2_flow_known(u[i], v[i]))
            longest = fmaxf(longest, u[i] * u[i] + v[i] * v[i]);
    return sqrtf(longest);
}

static void flow_colour(const float wheel[WHEEL][3], float u, float v, uint8_t rgb[3])
{
    const float length = hypotf(u, v);
    const float at = (atan2f(-v, -u) / (float)M_PI + 1.0f) / 2.0f * (WHEEL - 1);
    const int low = (int)at % WHEEL, high = (low + 1) % WHEEL;
    const float share = at - floorf(at);

    for (int k = 0; k < 3; k++) {
        float colour = (1.0f - share) * wheel[low][k] + share * wheel[high][k];

        /* Short vectors fade to white, those beyond the radius are darkened. */
        colour = length <= 1.0f ? 1.0f - length * (1.0f - colour) : colour * 0.75f;
        rgb[k] = (uint8_t)(255.0f * colour);
    }
}

int ws2_flow_rgb(struct ws2_image *image, const float *flow, int width, int height, float radius,
                 struct ws2_error *error)
{
    const size_t pixels = (size_t)width * (size_t)height;
    const float *u = flow, *v = flow + pixels;
    float wheel[WHEEL][3];
    const int status = ws2_image_reset(image, width, height, 3, error);

    if (status < 0)
        return status;
    wheel_make(wheel);
    if (!(radius > 0.0f))
        radius = flow_longest(u, v, pixels);
    if (radius == 0.0f)
        radius = 1.0f;
    for (size_t i = 0; i < pixels; i++) {
        if (ws2_flow_known(u[i], v[i]))
            flow_colour((const float(*)[3])wheel, u[i] / radius, v[i] / radius, image->data + 3 * i);
        else
            memset(image->data + 3 * i, 0, 3);
    }
    return 0;
}

/* ---- outlines ------------------------------------------------------------------------------------ */

/* inside[i] = 1 where all of mask[i-reach .. i+reach] (those that exist) are set; stride apart. */
static void erode_line(uint8_t *inside, const uint8_t *mask, int count, size_t stride, int reach)
{
    int last_zero = -reach - 1;

    /* Forward: distance to the last zero behind; backward: to the next one ahead. */
    for (int i = 0; i < count; i++) {
        if (!mask[(size_t)i * stride])
            last_zero = i;
        inside[(size_t)i * stride] = i - last_zero > reach;
    }
    last_zero = count + reach;
    for (int i = count - 1; i >= 0; i--) {
        if (!mask[(size_t)i * stride])
            last_zero = i;
        if (last_zero - i <= reach)
            inside[(size_t)i * stride] = 0;
    }
}

int ws2_draw_outline(struct ws2_image *image, const uint8_t *mask, const uint8_t rgb[3], int thickness,
                     struct ws2_error *error)
{
    const int w = image->width, h = image->height;
    uint8_t *rows = ws2_calloc((size_t)w * (size_t)h, 2), *inside = rows + (size_t)w * (size_t)h;

    if (!rows)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for an outline");
    for (int y = 0; y < h; y++)
        erode_line(rows + (size_t)y * (size_t)w, mask + (size_t)y * (size_t)w, w, 1, thickness);
    for (int x = 0; x < w; x++)
        erode_line(inside + x, rows + x, h, (size_t)w, thickness);
    for (size_t i = 0; i < (size_t)w * (size_t)h; i++)
        if (mask[i] && !inside[i])
            memcpy(image->data + i * (size_t)image->channels, rgb, image->channels == 1 ? 1 : 3);
    free(rows);
    return 0;
}

/* ---- text ---------------------------------------------------------------------------------------- */

/* Glyphs of ' ' .. '~', 5 x 7, row by row from the top, left pixel first: bit 34 is the top left one. */
static const uint64_t font[95] = {
    0x000000000, 0x108421004, 0x294000000, 0x295f57d4a, 0x11f4717c4, 0x672222273, 0x32544564d, 0x108000000,
    0x088842082, 0x208210888, 0x009575480, 0x0084f9080, 0x000001088, 0x0000f8000, 0x000000084, 0x042222210,
    0x3a33ae62e, 0x11842108e, 0x3a211111f, 0x7c441062e, 0x08ca97c42, 0x7e1e0862e, 0x1910f462e, 0x7c2211084,
    0x3a317462e, 0x3a317844c, 0x008401080, 0x008401088, 0x044441041, 0x001f07c00, 0x410411110, 0x3a2111004,
    0x3a37ade0f, 0x11518fe31, 0x7a31f463e, 0x3a308422e, 0x7a318c63e, 0x7e10f421f, 0x7e10f4210, 0x3a309c62f,
    0x4631fc631, 0x38842108e, 0x1c4210a4c, 0x4654c5251, 0x42108421f, 0x4775ac631, 0x47359c631, 0x3a318c62e,
    0x7a31f4210, 0x3a318d64d, 0x7a31f5251, 0x3e107043e, 0x7c8421084, 0x46318c62e, 0x46318c544, 0x4631ad771,
    0x462a22a31, 0x462a21084, 0x7c222221f, 0x39084210e, 0x420820821, 0x38421084e, 0x115100000, 0x00000001f,
    0x208000000, 0x000e0be2f, 0x421e8c63e, 0x000f8420f, 0x042f8c62f, 0x000e8fe0f, 0x191e42108, 0x000f8bc2e,
    0x421e8c631, 0x100c2108e, 0x080610a4c, 0x4212a6292, 0x30842108e, 0x001aad6b5, 0x001e8c631, 0x000e8c62e,
    0x001e8fa10, 0x000f8bc21, 0x0016c4210, 0x000f8383e, 0x211e42106, 0x00118c62f, 0x00118c544, 0x0011ad6aa,
    0x001151151, 0x00118bc2e, 0x001f1111f, 0x0c8441083, 0x108421084, 0x608411098, 0x0008a8800,
};
#define GLYPH_BOX UINT64_C(0x7e318c63f)

static void fill_block(struct ws2_image *image, int x, int y, int size, const uint8_t rgb[3])
{
    for (int j = y < 0 ? 0 : y; j < y + size && j < image->height; j++)
        for (int i = x < 0 ? 0 : x; i < x + size && i < image->width; i++)
            memcpy(image->data + ((size_t)j * (size_t)image->width + (size_t)i) * (size_t)image->channels,
                   rgb, image->channels == 1 ? 1 : 3);
}

void ws2_draw_text(struct ws2_image *image, int x, int y, const char *text, const uint8_t rgb[3], int scale)
{
    for (; *text; text++, x += 6 * scale) {
        const uint64_t glyph = *text >= ' ' && *text <= '~' ? font[*text - ' '] : GLYPH_BOX;

        for (int bit = 0; bit < 35; bit++)
            if (glyph >> (34 - bit) & 1)
                fill_block(image, x + bit % 5 * scale, y + bit / 5 * scale, scale, rgb);
    }
}

int ws2_text_width(const char *text, int scale)
{
    return (int)strlen(text) * 6 * scale;
}

/* ---- panels -------------------------------------------------------------------------------------- */

#define PANEL_GAP 4
static const uint8_t panel_ground = 24; /* nearly black, so that black panels keep a border */
static const uint8_t panel_ink[3] = {230, 230, 230};

static int caption_scale(const struct ws2_image *panels, int count)
{
    int widest = 0;

    for (int i = 0; i < count; i++)
        widest = panels[i].width > widest ? panels[i].width : widest;
    return widest >= 400 ? 2 : 1;
}

/* Copies a panel (grey, RGB or RGBA) into an RGB picture at x, y, where it fits. */
static void place_panel(struct ws2_image *row, const struct ws2_image *panel, int x, int y)
{
    const int c = panel->channels;

    for (int j = 0; j < panel->height; j++) {
        const uint8_t *in = panel->data + (size_t)j * (size_t)panel->width * (size_t)c;
        uint8_t *out = row->data + ((size_t)(y + j) * (size_t)row->width + (size_t)x) * 3;

        for (int i = 0; i < panel->width; i++)
            for (int k = 0; k < 3; k++)
                out[3 * i + k] = in[i * c + (c == 1 ? 0 : k)];
    }
}

/* The caption, cut to the width of its panel. */
static void place_caption(struct ws2_image *row, const char *caption, int x, int width, int scale)
{
    char text[128];
    const int room = width / (6 * scale);

    snprintf(text, sizeof text, "%.*s", room < (int)sizeof text ? room : (int)sizeof text - 1, caption);
    ws2_draw_text(row, x, scale * 2, text, panel_ink, scale);
}

int ws2_draw_row(struct ws2_image *row, const struct ws2_image *panels, const char *const *captions,
                 int count, struct ws2_error *error)
{
    const int scale = caption_scale(panels, count), bar = captions ? 11 * scale : 0;
    int64_t width = PANEL_GAP;
    int tallest = 0, status, x = PANEL_GAP;

    for (int i = 0; i < count; i++) {
        width += panels[i].width + PANEL_GAP;
        tallest = panels[i].height > tallest ? panels[i].height : tallest;
    }
    if (count < 1 || width > WS2_IMAGE_SIDE_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "%d panels make no picture", count);
    status = ws2_image_reset(row, (int)width, bar + tallest + PANEL_GAP, 3, error);
    if (status < 0)
        return status;
    memset(row->data, panel_ground, (size_t)row->width * (size_t)row->height * 3);
    for (int i = 0; i < count; i++) {
        if (captions && captions[i])
            place_caption(row, captions[i], x, panels[i].width, scale);
        place_panel(row, &panels[i], x, bar);
        x += panels[i].width + PANEL_GAP;
    }
    return 0;
}

int ws2_draw_below(struct ws2_image *sheet, const struct ws2_image *row, struct ws2_error *error)
{
    const int old_width = sheet->data ? sheet->width : 0, old_height = sheet->data ? sheet->height : 0;
    const int width = row->width > old_width ? row->width : old_width;
    struct ws2_image grown = {0};
    int status;

    if (width == old_width && row->channels == 3 && sheet->channels == 3) {
        /* The usual case grows in place: only new rows are written. */
        status = ws2_image_reset(sheet, width, old_height + row->height, 3, error);
        if (status < 0)
            return status;
        memset(sheet->data + (size_t)old_height * (size_t)width * 3, panel_ground,
               (size_t)row->height * (size_t)width * 3);
        place_panel(sheet, row, 0, old_height);
        return 0;
    }
    status = ws2_image_reset(&grown, width, old_height + row->height, 3, error);
    if (status < 0)
        return status;
    memset(grown.data, panel_ground, (size_t)grown.width * (size_t)grown.height * 3);
    if (old_height > 0)
        place_panel(&grown, sheet, 0, 0);
    place_panel(&grown, row, 0, old_height);
    ws2_image_free(sheet);
    *sheet = grown;
    return 0;
}
