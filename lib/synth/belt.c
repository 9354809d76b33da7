/* The belt: grey rubber with grain, wear along the travel, scratches, stains, crumbs and seams, all of which
 * move with it. */
#include "synth/internal.h"
#include <stdlib.h>

enum { RANDOM_RUBBER = 11, RANDOM_MARKS };
enum { LAYERS = 6, KNOTS = 264 };

void ws2_synth_make_rubber(struct ws2_synth *synth)
{
    struct ws2_random random = ws2_synth_random(synth->config.plant, RANDOM_RUBBER, 0, 0);
    struct rubber *rubber = &synth->rubber;
    const double grey = ws2_random_range(&random, 0.095, 0.15);
    for (int c = 0; c < 3; c++)
        rubber->base[c] = (float)(grey * ws2_random_range(&random, 0.96, 1.04));
    rubber->grain = (float)ws2_random_range(&random, 0.10, 0.17);
    rubber->streak = (float)ws2_random_range(&random, 0.08, 0.16);
    rubber->blotch = (float)ws2_random_range(&random, 0.06, 0.12);
    rubber->seam_gap = (float)ws2_random_range(&random, 1.7, 2.9);
    rubber->seam_slant = (float)ws2_random_range(&random, -0.12, 0.12);
}

/* ---- value noise in layers ------------------------------------------------------------------------------ */

/* One layer of value noise, fx by fy knots per unit. Two rows of knots are kept while the picture's row
 * runs between them. */
struct layer {
    double fx, fy;
    float amount;
    uint32_t salt;
    int64_t row;
    float above[KNOTS], below[KNOTS];
};

static void fill_knots(const struct layer *layer, int64_t first, int64_t row, float *knot)
{
    const int count = (int)layer->fx + 3;
    for (int k = 0; k < count; k++)
        knot[k] = lattice(layer->salt, first + k, row);
}

static void add_layer(struct layer *layer, double x0, double y, float px, int64_t width, float *sum)
{
    const double x = x0 * layer->fx, first = floor(x), row = floor(y * layer->fy);
    if (layer->row != (int64_t)row) {
        layer->row = (int64_t)row;
        fill_knots(layer, (int64_t)first, layer->row, layer->above);
        fill_knots(layer, (int64_t)first, layer->row + 1, layer->below);
    }
    const float down = smoothf((float)(y * layer->fy - row));
    const int count = (int)layer->fx + 3;
    float knot[KNOTS];
    for (int k = 0; k < count; k++)
        knot[k] = layer->amount * mixf(layer->above[k], layer->below[k], down);
    const float start = (float)(x - first) + 0.5f * px * (float)layer->fx, step = px * (float)layer->fx;
    for (int64_t i = 0; i < width; i++) {
        const float at = start + step * (float)i;
        const int k = (int)at;
        sum[i] += mixf(knot[k], knot[k + 1], smoothf(at - (float)k));
    }
}

/* Frequencies across and along the travel, knots per unit, and strength. */
static void make_layers(const struct ws2_synth *synth, struct layer *layer)
{
    const struct rubber *r = &synth->rubber;
    const double row[LAYERS][3] = {{2.3, 2.3, r->blotch}, {9, 9, 0.6 * r->blotch}, {34, 34, 0.5 * r->grain},
                                   {110, 110, r->grain},  {55, 0.9, r->streak},    {190, 4, 0.6 * r->streak}};
    const bool upright = synth->config.direction <= WS2_SYNTH_UP;
    for (int k = 0; k < LAYERS; k++) {
        layer[k].fx = row[k][upright ? 0 : 1];
        layer[k].fy = row[k][upright ? 1 : 0];
        /* Detail that the pixels cannot hold fades away instead of flickering. */
        const double finest = layer[k].fx > layer[k].fy ? layer[k].fx : layer[k].fy;
        const double pixels = synth->unit / finest;
        layer[k].amount = (float)(row[k][2] * (pixels <= 1 ? 0 : pixels >= 2 ? 1 : pixels - 1));
        layer[k].salt = (uint32_t)(synth->config.seed * 0x9e3779b97f4a7c15u >> 32) + 77u * (uint32_t)k;
        layer[k].row = INT64_MIN;
    }
}

static void paint_rubber(const struct ws2_synth *synth, double travel, const struct canvas *canvas)
{
    struct layer layer[LAYERS];
    make_layers(synth, layer);
    double wx, wy;
    ws2_synth_way(synth, &wx, &wy);
    for (int64_t y = canvas->y0; y < canvas->y1; y++) {
        float *rgb = canvas->rgb + (y - canvas->y0) * canvas->width * 3;
        float *sum = rgb + 2 * canvas->width; /* the last third of the row, read before it is written over */
        memset(sum, 0, (size_t)canvas->width * sizeof *sum);
        const double at = ((double)y + 0.5) / synth->unit - wy * travel;
        for (int k = 0; k < LAYERS; k++) {
            if (layer[k].amount > 0)
                add_layer(&layer[k], -wx * travel, at, canvas->px, canvas->width, sum);
        }
        for (int64_t i = 0; i < canvas->width; i++) {
            const float grey = 1 + clampf(sum[i], -0.7f, 1.5f);
            for (int c = 0; c < 3; c++)
                rgb[3 * i + c] = synth->rubber.base[c] * grey;
        }
    }
}

/* ---- marks --------------------------------------------------------------------------------------------------- */

/* A straight or round mark; light is multiplied by tone where it covers fully. */
struct mark {
    float x, y, c, s;    /* centre and direction, scene axes */
    float length, width; /* half length, half width */
    float tone[3];
    bool soft; /* a stain fades out; a scratch has edges */
};

static void paint_mark(const struct mark *mark, const struct canvas *canvas)
{
    const float px = canvas->px, reach = mark->length + mark->width + px;
    const float rx =
        fabsf(mark->c) * mark->length + fabsf(mark->s) * mark->width + 2 * px + (mark->soft ? reach : 0);
    const float ry =
        fabsf(mark->s) * mark->length + fabsf(mark->c) * mark->width + 2 * px + (mark->soft ? reach : 0);
    const int64_t x0 = (int64_t)clampf(floorf((mark->x - rx) / px), 0, (float)canvas->width);
    const int64_t x1 = (int64_t)clampf(ceilf((mark->x + rx) / px), 0, (float)canvas->width);
    const int64_t y0 = (int64_t)clampf(floorf((mark->y - ry) / px), (float)canvas->y0, (float)canvas->y1);
    const int64_t y1 = (int64_t)clampf(ceilf((mark->y + ry) / px), (float)canvas->y0, (float)canvas->y1);
    for (int64_t y = y0; y < y1; y++) {
        float *rgb = canvas->rgb + ((y - canvas->y0) * canvas->width + x0) * 3;
        for (int64_t x = x0; x < x1; x++, rgb += 3) {
            const float dx = ((float)x + 0.5f) * px - mark->x, dy = ((float)y + 0.5f) * px - mark->y;
            const float u = fabsf(dx * mark->c + dy * mark->s), v = fabsf(dy * mark->c - dx * mark->s);
            float cover;
            if (mark->soft) {
                const float p = u / mark->length, q = v / mark->width, d = 1 - 0.5f * (p * p + q * q);
                cover = d > 0 ? d * d : 0;
            } else {
                /* The share of the pixel's width that the line covers, exact for thin lines too. */
                const float low = v - 0.5f * px, high = v + 0.5f * px;
                const float from = low > -mark->width ? low : -mark->width;
                const float to = high < mark->width ? high : mark->width;
                cover = to > from ? (to - from) / px : 0;
                cover *= clampf((mark->length - u) / px + 0.5f, 0, 1);
            }
            for (int c = 0; c < 3; c++)
                rgb[c] *= mixf(1, mark->tone[c], cover);
        }
    }
}

static void tone(struct mark *mark, double value, double red, double blue)
{
    mark->tone[0] = (float)(value * (1 + red));
    mark->tone[1] = (float)value;
    mark->tone[2] = (float)(value * (1 + blue));
}

/* The k-th mark of a cell: mostly scratches along the travel, then stains, then crumbs. */
static void make_mark(const struct ws2_synth *synth, int64_t cell, int k, double travel, struct mark *mark)
{
    struct ws2_random random = ws2_synth_random(synth->config.seed, RANDOM_MARKS, cell, k + 1);
    const double s = ((double)cell + ws2_random_uniform(&random)) * CELL, q = ws2_random_uniform(&random);
    const double sort = ws2_random_uniform(&random), lean = ws2_random_normal(&random);
    const double size = ws2_random_uniform(&random), shape = ws2_random_uniform(&random);
    const double strength = ws2_random_uniform(&random), hue = ws2_random_range(&random, -1, 1);
    double x, y, wx, wy;
    ws2_synth_axes(synth, s + travel, q, &x, &y);
    ws2_synth_way(synth, &wx, &wy);
    double angle = atan2(wy, wx) + lean * (sort < 0.5 ? 0.12 : 1.5);
    *mark = (struct mark){.x = (float)x, .y = (float)y, .c = (float)cos(angle), .s = (float)sin(angle)};
    if (sort < 0.5) {
        mark->length = (float)(0.02 + 0.16 * size * size);
        mark->width = (float)(0.0006 + 0.0012 * shape);
        tone(mark, shape < 0.65 ? 1.25 + 0.6 * strength : 0.75 - 0.3 * strength, 0, 0);
    } else if (sort < 0.75) {
        mark->length = (float)(0.02 + 0.10 * size * size);
        mark->width = mark->length * (float)(0.35 + 0.6 * shape);
        mark->soft = true;
        tone(mark, hue > 0.4 ? 1.2 + 0.3 * strength : 0.55 + 0.3 * strength, 0.10 * hue, -0.12 * hue);
    } else {
        mark->length = (float)(0.0015 + 0.004 * size * size);
        mark->width = mark->length * (float)(0.5 + 0.5 * shape);
        mark->soft = true;
        tone(mark, shape < 0.6 ? 1.7 + 2.2 * strength : 0.35, 0.2 * hue, -0.2 * hue);
    }
}

/* Seams run across, a dark gap between two worn edges. */
static void paint_seams(const struct ws2_synth *synth, double travel, const struct canvas *canvas)
{
    const double gap = synth->rubber.seam_gap, lean = synth->rubber.seam_slant;
    double wx, wy;
    ws2_synth_way(synth, &wx, &wy);
    const double angle = atan2(wy, wx) + 1.57079632679 + lean;
    for (int64_t n = (int64_t)floor((-0.3 - travel) / gap); (double)n * gap + travel < 1.3; n++) {
        double x, y;
        ws2_synth_axes(synth, (double)n * gap + travel, 0.5, &x, &y);
        for (int side = -1; side <= 1; side++) {
            const double off = 0.0065 * side;
            struct mark mark = {.x = (float)(x + off * wx),
                                .y = (float)(y + off * wy),
                                .c = (float)cos(angle),
                                .s = (float)sin(angle),
                                .length = 2,
                                .width = side ? 0.0035f : 0.003f};
            tone(&mark, side ? 1.22 : 0.42, 0, 0);
            paint_mark(&mark, canvas);
        }
    }
}

void ws2_synth_paint_belt(const struct ws2_synth *synth, int64_t t, const struct canvas *canvas)
{
    const double travel = ws2_synth_travel(synth, t);
    paint_rubber(synth, travel, canvas);
    for (int64_t cell = (int64_t)floor((-0.25 - travel) / CELL); (double)cell * CELL + travel < 1.25;
         cell++) {
        struct ws2_random random = ws2_synth_random(synth->config.seed, RANDOM_MARKS, cell, 0);
        const int count = 6 + (int)ws2_random_below(&random, 9);
        for (int k = 0; k < count; k++) {
            struct mark mark;
            make_mark(synth, cell, k, travel, &mark);
            paint_mark(&mark, canvas);
        }
    }
    paint_seams(synth, travel, canvas);
}
