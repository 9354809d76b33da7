/* Paints one item over what lies below it, or claims its pixels. */
#include "synth/internal.h"

/* The columns of row y that a box of half sides (a, b) in the item's axes can touch: [*from, *to). */
static void row_span(const struct pose *pose, float a, float b, float y, float px, int64_t width,
                     int64_t *from, int64_t *to)
{
    const float dy = y - pose->y;
    /* u = dx c + dy s, v = -dx s + dy c; |u| <= a and |v| <= b bound dx where the factor is not tiny. */
    float low = -4, high = 4;
    const float factor[2] = {pose->c, -pose->s}, offset[2] = {dy * pose->s, dy * pose->c}, half[2] = {a, b};
    for (int k = 0; k < 2; k++) {
        if (fabsf(factor[k]) < 1e-4f) {
            if (fabsf(offset[k]) > half[k] + 1e-3f)
                high = low;
            continue;
        }
        float p = (-half[k] - offset[k]) / factor[k], q = (half[k] - offset[k]) / factor[k];
        if (p > q) {
            const float keep = p;
            p = q;
            q = keep;
        }
        low = p > low ? p : low;
        high = q < high ? q : high;
    }
    const float first = floorf((pose->x + low) / px - 1), last = ceilf((pose->x + high) / px + 1);
    *from = first > 0 ? (int64_t)first : 0;
    *to = last < (float)width ? (int64_t)last : width;
    if (high <= low)
        *to = *from;
}

/* Half sides of a box around the item's outline. */
static void box_of(const struct item *item, float *a, float *b)
{
    const bool loose = item->shape == SHAPE_FILM || item->shape == SHAPE_SHARD;
    *a = loose ? item->radius : item->a;
    *b = loose ? item->radius : item->b;
}

static void row_range(const struct pose *pose, float reach, float px, int64_t *y0, int64_t *y1)
{
    const float top = floorf((pose->y - reach) / px - 1), bottom = ceilf((pose->y + reach) / px + 1);
    if (top > (float)*y0)
        *y0 = top < (float)*y1 ? (int64_t)top : *y1;
    if (bottom < (float)*y1)
        *y1 = bottom > (float)*y0 ? (int64_t)bottom : *y0;
}

/* ---- light --------------------------------------------------------------------------------------------------- */

static float dot(const float *a, float x, float y, float z)
{
    return a[0] * x + a[1] * y + a[2] * z;
}

/* Blinn's highlight: (n h)^16 for dull to (n h)^128 for glossy surfaces. */
static float highlight(const struct lights *lights, float gloss, float x, float y, float z)
{
    float sum = 0;
    for (int k = 0; k < LAMPS; k++) {
        const float nh = dot(lights->half[k], x, y, z);
        if (nh < 0.7f)
            continue;
        float p = nh * nh;
        p *= p;
        p *= p;
        p *= p; /* 16 */
        float sharp = p * p;
        sharp *= sharp;
        sharp *= sharp; /* 128 */
        sum += mixf(0.35f * p, sharp, gloss);
    }
    return sum;
}

/* Stripes, a round logo and lines of text; every edge is softened to the pixel. */
static void printed(const struct print *print, uint32_t salt, float tu, float tv, float step_u, float step_v,
                    float *colour)
{
    memcpy(colour, print->base, sizeof print->base);
    float amount = 0;
    if (print->stripes > 0) {
        const float phase = tv * print->stripes + tu, away = fabsf(phase - floorf(phase) - 0.5f) - 0.14f;
        amount = clampf(0.5f - away / (print->stripes * step_v + step_u), 0, 1);
    }
    const float x = tu - print->logo_u, y = 0.5f * (tv - print->logo_v);
    const float logo = clampf(0.5f - (sqrtf(x * x + y * y) - print->logo_size) / (step_u + step_v), 0, 1);
    const float row = tv * 14, line = row - floorf(row);
    const float word = lattice(salt, (int64_t)floorf(tu * 9), (int64_t)floorf(row));
    const float fine = clampf(0.12f / (14 * step_v) - 0.2f, 0, 1) * clampf(0.12f / (9 * step_u) - 0.2f, 0, 1);
    const float text = tu > 0.1f && tu < 0.9f && line > 0.3f && line < 0.7f && word > -0.1f ? fine : 0;
    for (int c = 0; c < 3; c++) {
        colour[c] = mixf(colour[c], print->ink[c], amount);
        colour[c] = mixf(colour[c], print->second[c], 0.8f * text);
        colour[c] = mixf(colour[c], print->second[c], logo);
    }
}

/* What the camera sees of a point of the item whose light from below is `below`. */
static void shade(const struct ws2_synth *synth, const struct item *item, const struct pose *pose,
                  const struct surface *s, const float *below, float *light)
{
    const float nx = s->nu * pose->c - s->nv * pose->s, ny = s->nu * pose->s + s->nv * pose->c, nz = s->nw;
    const float lambert = dot(synth->lights.sun, nx, ny, nz);
    const float diffuse = 0.38f + 0.62f * (lambert > 0 ? lambert : 0);
    const float edge = 1 - nz, fresnel = edge * edge * edge;
    if (item->stuff == STUFF_OPAQUE) {
        for (int c = 0; c < 3; c++)
            light[c] = item->albedo[c] * diffuse * (1 + 0.08f * s->relief);
    } else {
        /* Down to the belt and back up through the walls. */
        const float milk = item->stuff == STUFF_CLEAR ? 0.5f + 0.8f * edge : 0.7f + 0.5f * s->path;
        for (int c = 0; c < 3; c++)
            light[c] = below[c] * expf_same(-item->absorb[c] * s->path) + item->haze[c] * diffuse * milk;
        for (int c = 0; c < 3; c++)
            light[c] += (item->stuff == STUFF_CLEAR ? 0.20f : 0.08f) * fresnel;
    }
    if (s->label > 0) {
        float ink[3];
        const float step_v = synth->px / (item->b * (item->shape == SHAPE_TURNED ? 3.1f : 1));
        const float length =
            item->shape == SHAPE_TURNED ? 2 * item->a * (item->label_to - item->label_from) : 2 * item->a;
        printed(&item->print, item->salt, s->tu, s->tv, synth->px / length, step_v, ink);
        for (int c = 0; c < 3; c++)
            light[c] = mixf(light[c], ink[c] * diffuse, s->label);
    }
    if (s->cap > 0) {
        for (int c = 0; c < 3; c++)
            light[c] = mixf(light[c], item->cap[c] * diffuse, s->cap);
    }
    const float matt = s->label > s->cap ? s->label : s->cap;
    const float gleam = item->shine * (1 - 0.7f * matt) * highlight(&synth->lights, item->gloss, nx, ny, nz);
    for (int c = 0; c < 3; c++)
        light[c] += gleam;
}

/* Light kept next to an item: darkest at its foot and on the side away from the sun. */
static float shadow(const struct ws2_synth *synth, const struct item *item, float distance, float dx,
                    float dy, float width)
{
    const float length = sqrtf(dx * dx + dy * dy) + 1e-6f, t = 1 - distance / width;
    const float side =
        0.5f - 0.5f * (dx * synth->lights.sun[0] + dy * synth->lights.sun[1]) / (0.6f * length);
    const float depth = item->stuff == STUFF_OPAQUE ? 0.6f : item->stuff == STUFF_TINTED ? 0.4f : 0.25f;
    return 1 - depth * t * t * clampf(0.25f + side, 0, 1);
}

static void paint_drawn(const struct ws2_synth *synth, const struct item *item, const struct pose *pose,
                        float u, float v, float dx, float dy, float width, float *rgb)
{
    const float px = synth->px, distance = ws2_synth_distance(item, u, v, px);
    if (distance >= width)
        return;
    if (distance > 0) {
        const float keep = shadow(synth, item, distance, dx, dy, width);
        for (int c = 0; c < 3; c++)
            rgb[c] *= keep;
    }
    const float cover = clampf(0.5f - distance / px, 0, 1);
    if (cover <= 0)
        return;
    struct surface surface;
    float light[3];
    ws2_synth_surface(item, pose, u, v, px, &surface);
    shade(synth, item, pose, &surface, rgb, light);
    for (int c = 0; c < 3; c++)
        rgb[c] = mixf(rgb[c], light[c], cover);
}

static void paint_pasted(const struct item *item, float u, float v, float px, float *rgb)
{
    float rgba[4];
    ws2_synth_sample(item, u, v, px, rgba);
    for (int c = 0; c < 3; c++)
        rgb[c] = rgb[c] * (1 - rgba[3]) + rgba[c];
}

void ws2_synth_paint_item(const struct ws2_synth *synth, const struct item *item, const struct pose *pose,
                          const struct canvas *canvas)
{
    const float width = SHADOW * (float)synth->config.scale, px = canvas->px;
    int64_t y0 = canvas->y0, y1 = canvas->y1;
    row_range(pose, item->radius + width, px, &y0, &y1);
    float a, b;
    box_of(item, &a, &b);
    for (int64_t y = y0; y < y1; y++) {
        int64_t from, to;
        const float dy = ((float)y + 0.5f) * px - pose->y;
        row_span(pose, a + width, b + width, ((float)y + 0.5f) * px, px, canvas->width, &from, &to);
        float *rgb = canvas->rgb + ((y - canvas->y0) * canvas->width + from) * 3;
        for (int64_t x = from; x < to; x++, rgb += 3) {
            const float dx = ((float)x + 0.5f) * px - pose->x;
            const float u = dx * pose->c + dy * pose->s, v = dy * pose->c - dx * pose->s;
            if (item->shape == SHAPE_CUTOUT)
                paint_pasted(item, u, v, px, rgb);
            else
                paint_drawn(synth, item, pose, u, v, dx, dy, width, rgb);
        }
    }
}

void ws2_synth_own(const struct item *item, const struct pose *pose, int64_t width, int64_t y0, int64_t y1,
                   float px, uint16_t index, uint16_t *owner)
{
    float a, b;
    int64_t top = y0, bottom = y1;
    row_range(pose, item->radius, px, &top, &bottom);
    box_of(item, &a, &b);
    for (int64_t y = top; y < bottom; y++) {
        int64_t from, to;
        const float dy = ((float)y + 0.5f) * px - pose->y;
        row_span(pose, a, b, ((float)y + 0.5f) * px, px, width, &from, &to);
        uint16_t *row = owner + (y - y0) * width;
        for (int64_t x = from; x < to; x++) {
            const float dx = ((float)x + 0.5f) * px - pose->x;
            const float u = dx * pose->c + dy * pose->s, v = dy * pose->c - dx * pose->s;
            if (ws2_synth_distance(item, u, v, px) <= 0)
                row[x] = index;
        }
    }
}
