/* Draws an item: its form, what it is made of, its colours and its own motion. */
#include "synth/internal.h"

enum model {
    MODEL_BOTTLE,
    MODEL_JAR,
    MODEL_CUP,
    MODEL_DISC,
    MODEL_BOX,
    MODEL_TRAY,
    MODEL_FILM,
    MODEL_SHARD,
    MODELS
};

/* How often each model comes, wanted and unwanted. */
static const double share[2][MODELS] = {{0.46, 0.14, 0.12, 0.06, 0.04, 0.07, 0.07, 0.04},
                                        {0.36, 0.12, 0.12, 0.08, 0.08, 0.10, 0.09, 0.05}};

/* Tints of the wanted ones: light let through once, straight. The dyes of opaque items come from here too. */
static const float tint[][3] = {
    {0.16f, 0.36f, 0.78f}, /* blue */
    {0.32f, 0.62f, 0.86f}, /* light blue */
    {0.10f, 0.56f, 0.20f}, /* bottle green */
    {0.42f, 0.74f, 0.16f}, /* lime */
    {0.86f, 0.46f, 0.08f}, /* amber */
    {0.50f, 0.24f, 0.08f}, /* brown */
    {0.10f, 0.56f, 0.58f}, /* teal */
};

/* Paints that no wanted item looks like, then some that one may. */
enum { PLAIN_PAINTS = 8, PAINTS = 12 };
static const float paint[PAINTS][3] = {
    {0.78f, 0.78f, 0.76f},  /* white */
    {0.62f, 0.60f, 0.54f},  /* milk */
    {0.30f, 0.30f, 0.31f},  /* grey */
    {0.04f, 0.04f, 0.045f}, /* black */
    {0.62f, 0.05f, 0.05f},  /* red */
    {0.80f, 0.62f, 0.10f},  /* yellow */
    {0.66f, 0.26f, 0.40f},  /* pink */
    {0.22f, 0.08f, 0.36f},  /* violet */
    {0.78f, 0.25f, 0.04f},  /* orange */
    {0.45f, 0.34f, 0.22f},  /* cardboard */
    {0.05f, 0.12f, 0.40f},  /* navy */
    {0.05f, 0.30f, 0.10f},  /* green */
};

static float draw(struct ws2_random *random, double low, double high)
{
    return (float)ws2_random_range(random, low, high);
}

static void vary(struct ws2_random *random, float *colour, double spread, float least, float most)
{
    for (int c = 0; c < 3; c++)
        colour[c] = clampf(colour[c] * draw(random, 1 - spread, 1 + spread), least, most);
}

/* One of paint[from] .. paint[to - 1]. */
static void any_paint(struct ws2_random *random, int from, int to, float *colour)
{
    memcpy(colour, paint[from + ws2_random_below(random, to - from)], sizeof paint[0]);
    const float dim = draw(random, 0.7, 1.1);
    for (int c = 0; c < 3; c++)
        colour[c] *= dim;
    vary(random, colour, 0.12, 0.02f, 0.9f);
}

static void any_tint(struct ws2_random *random, float *colour)
{
    memcpy(colour, tint[ws2_random_below(random, sizeof tint / sizeof *tint)], sizeof tint[0]);
    vary(random, colour, 0.18, 0.05f, 0.92f);
}

/* Walls that absorb: thin ones are pale, thick ones deep. haze is the light that the dye and the scuffed
 * surface send back by themselves. */
static void make_tinted(struct ws2_random *random, struct item *item)
{
    float through[3];
    any_tint(random, through);
    const float thick = draw(random, 0.55, 1.25), haze = draw(random, 0.10, 0.30);
    for (int c = 0; c < 3; c++) {
        item->absorb[c] = (float)-log(through[c]) * thick;
        item->haze[c] = haze * through[c];
    }
    item->stuff = STUFF_TINTED;
}

static void make_clear(struct ws2_random *random, struct item *item)
{
    const float grey = draw(random, 0.05, 0.14), haze = draw(random, 0.015, 0.10),
                blue = draw(random, 0, 0.05);
    for (int c = 0; c < 3; c++) {
        item->absorb[c] = grey + (c == 0 ? 2 * blue : c == 1 ? blue : 0);
        item->haze[c] = haze;
    }
    item->stuff = STUFF_CLEAR;
}

static void make_opaque(const struct ws2_synth_config *config, struct ws2_random *random, struct item *item)
{
    const bool alike = ws2_random_uniform(random) < config->hue;
    if (alike && ws2_random_uniform(random) < 0.7) {
        any_tint(random, item->albedo);
        const float dim = draw(random, 0.35, 1.0);
        for (int c = 0; c < 3; c++)
            item->albedo[c] = clampf(item->albedo[c] * dim, 0.02f, 0.9f);
    } else {
        any_paint(random, alike ? PLAIN_PAINTS : 0, alike ? PAINTS : PLAIN_PAINTS, item->albedo);
    }
    item->stuff = STUFF_OPAQUE;
}

static void make_stuff(const struct ws2_synth_config *config, struct ws2_random *random, struct item *item)
{
    const bool clear = ws2_random_uniform(random) < config->clear;
    if (!item->unwanted)
        make_tinted(random, item);
    else if (clear)
        make_clear(random, item);
    else
        make_opaque(config, random, item);
    item->shine = item->stuff == STUFF_OPAQUE ? draw(random, 0.05, 0.5) : draw(random, 0.4, 0.9);
    item->gloss = item->stuff == STUFF_OPAQUE ? draw(random, 0.1, 0.9) : draw(random, 0.6, 1.0);
}

static void make_print(struct ws2_random *random, struct print *print)
{
    any_paint(random, 0, PAINTS, print->base);
    any_paint(random, 0, PAINTS, print->ink);
    any_paint(random, 0, PAINTS, print->second);
    print->stripes = (float)ws2_random_below(random, 4);
    print->logo_u = draw(random, 0.35, 0.65);
    print->logo_v = draw(random, -0.3, 0.3);
    print->logo_size = draw(random, 0.12, 0.3);
}

static void make_bottle(struct ws2_random *random, struct item *item)
{
    struct body *body = &item->body;
    item->a = draw(random, 0.095, 0.148);
    item->b = item->a * draw(random, 0.26, 0.36);
    body->bottom = draw(random, 0.04, 0.09);
    body->shoulder = draw(random, 0.54, 0.70);
    body->neck = body->shoulder + draw(random, 0.16, 0.24);
    body->neck_radius = draw(random, 0.30, 0.42);
    body->waist = ws2_random_uniform(random) < 0.5 ? draw(random, 0.06, 0.16) : 0;
    body->waist_at = draw(random, 0.28, 0.45);
    body->grooves = ws2_random_uniform(random) < 0.6 ? draw(random, 0.01, 0.04) : 0;
    body->mouth = draw(random, 1.08, 1.25);
    item->cap_from = ws2_random_uniform(random) < 0.7 ? 0.925f : 2;
    if (ws2_random_uniform(random) < 0.45) {
        item->label_from = draw(random, 0.15, 0.28);
        item->label_to = item->label_from + draw(random, 0.18, 0.30);
        item->label_half = ws2_random_uniform(random) < 0.7 ? 2 : draw(random, 0.25, 0.45);
    }
    item->crush = ws2_random_uniform(random) < 0.45 ? draw(random, 0.2, 1.0) : 0;
}

static void make_jar(struct ws2_random *random, struct item *item)
{
    struct body *body = &item->body;
    item->a = draw(random, 0.060, 0.092);
    item->b = item->a * draw(random, 0.48, 0.68);
    body->bottom = draw(random, 0.06, 0.14);
    body->shoulder = draw(random, 0.66, 0.76);
    body->neck = body->shoulder + draw(random, 0.08, 0.14);
    body->neck_radius = draw(random, 0.60, 0.82);
    body->mouth = draw(random, 1.05, 1.15);
    item->cap_from = ws2_random_uniform(random) < 0.6 ? 0.86f : 2;
    if (ws2_random_uniform(random) < 0.5) {
        item->label_from = draw(random, 0.12, 0.2);
        item->label_to = item->label_from + draw(random, 0.25, 0.42);
        item->label_half = 2;
    }
    item->crush = ws2_random_uniform(random) < 0.25 ? draw(random, 0.2, 0.8) : 0;
}

static void make_cup(struct ws2_random *random, struct item *item)
{
    struct body *body = &item->body;
    item->a = draw(random, 0.050, 0.074);
    item->b = item->a * draw(random, 0.58, 0.76);
    body->bottom = 0.03f;
    body->shoulder = body->neck = 2;
    body->neck_radius = 1;
    body->taper = draw(random, 0.18, 0.34);
    body->mouth = draw(random, 1.04, 1.09);
    body->grooves = ws2_random_uniform(random) < 0.7 ? draw(random, 0.01, 0.035) : 0;
    item->cap_from = 2;
    item->crush = ws2_random_uniform(random) < 0.4 ? draw(random, 0.2, 0.9) : 0;
}

static void make_flat(struct ws2_random *random, struct item *item, enum model model)
{
    if (model == MODEL_DISC) {
        item->shape = SHAPE_DISC;
        item->a = item->b = draw(random, 0.036, 0.062);
        item->rim = item->a * draw(random, 0.06, 0.14);
        item->wall = item->a * draw(random, 0.15, 0.35);
    } else if (model == MODEL_BOX) {
        item->shape = SHAPE_BOX;
        item->a = draw(random, 0.050, 0.095);
        item->b = item->a * draw(random, 0.45, 0.85);
        item->corner = item->b * draw(random, 0.06, 0.3);
        item->rim = item->b * draw(random, 0.08, 0.18);
        item->label_half = ws2_random_uniform(random) < 0.5 ? 1 : 0;
    } else {
        item->shape = SHAPE_TRAY;
        item->a = draw(random, 0.075, 0.115);
        item->b = item->a * draw(random, 0.52, 0.78);
        item->corner = item->b * draw(random, 0.2, 0.4);
        item->rim = item->b * draw(random, 0.08, 0.14);
        item->wall = item->b * draw(random, 0.14, 0.26);
    }
    item->ribs = ws2_random_uniform(random) < 0.6 ? draw(random, 0.006, 0.014) : 0;
    item->crush = ws2_random_uniform(random) < 0.35 ? draw(random, 0.2, 0.8) : 0;
}

static void make_film(struct ws2_random *random, struct item *item)
{
    item->shape = SHAPE_FILM;
    item->a = draw(random, 0.045, 0.10);
    item->b = item->a * draw(random, 0.5, 0.95);
    for (int k = 0; k < WAVES; k++) {
        const double most = 0.16 / (1 + 0.5 * k);
        item->wave_cos[k] = draw(random, -most, most);
        item->wave_sin[k] = draw(random, -most, most);
    }
    item->crush = draw(random, 0.5, 1.0);
    item->label_half = ws2_random_uniform(random) < 0.4 ? 1 : 0;
}

/* A convex polygon: half planes around the centre. */
static void make_shard(struct ws2_random *random, struct item *item)
{
    item->shape = SHAPE_SHARD;
    item->a = draw(random, 0.028, 0.055);
    item->b = item->a * draw(random, 0.6, 1.0);
    item->edges = 5 + (int)ws2_random_below(random, CORNERS - 4);
    for (int k = 0; k < item->edges; k++) {
        const double angle = 6.283185307 * (k + ws2_random_range(random, -0.15, 0.15)) / item->edges;
        item->edge_x[k] = (float)cos(angle);
        item->edge_y[k] = (float)sin(angle);
        item->edge_d[k] = item->b * draw(random, 0.55, 0.95);
    }
    item->crush = draw(random, 0.2, 0.7);
}

static void make_motion(const struct ws2_synth_config *config, struct ws2_random *random, struct item *item,
                        enum model model)
{
    const double luck = ws2_random_uniform(random), way = ws2_random_uniform(random) < 0.5 ? -1 : 1;
    const double pace = way * ws2_random_range(random, 0.1, MOVE_MAX),
                 heading = ws2_random_range(random, 0, 6.2831853);
    const double spin = ws2_random_range(random, -1.2, 1.2);
    if (model == MODEL_BOTTLE || model == MODEL_JAR) {
        if (luck < config->rolling) {
            item->roll = (float)(0.6 * pace);
            item->crush = 0;
            item->moving = true;
        }
    } else if (luck < config->sliding) {
        item->drift_x = (float)(pace * cos(heading));
        item->drift_y = (float)(pace * sin(heading));
        item->spin = (float)spin;
        item->moving = true;
    }
}

/* An item of one colour: neither label nor cap stand out. Decided by its salt, since the draws of all others must
 * not move. */
static void bleach(struct item *item, double print)
{
    if ((double)(item->salt >> 8) < print * (double)(1u << 24))
        return;
    item->label_from = item->label_to = item->label_half = 0;
    memcpy(item->cap, item->stuff == STUFF_OPAQUE ? item->albedo : item->haze, sizeof item->cap);
}

static void make_drawn(const struct ws2_synth_config *config, struct ws2_random *random, struct item *item)
{
    double pick = ws2_random_uniform(random);
    int model = 0;
    while (model < MODELS - 1 && pick >= share[item->unwanted][model])
        pick -= share[item->unwanted][model++];
    item->shape = SHAPE_TURNED;
    item->cap_from = 2;
    if (model == MODEL_BOTTLE)
        make_bottle(random, item);
    else if (model == MODEL_JAR)
        make_jar(random, item);
    else if (model == MODEL_CUP)
        make_cup(random, item);
    else if (model == MODEL_FILM)
        make_film(random, item);
    else if (model == MODEL_SHARD)
        make_shard(random, item);
    else
        make_flat(random, item, (enum model)model);
    make_stuff(config, random, item);
    if (ws2_random_uniform(random) < 0.2)
        memcpy(item->cap, item->stuff == STUFF_OPAQUE ? item->albedo : item->haze, sizeof item->cap);
    else
        any_paint(random, 0, PAINTS, item->cap);
    make_print(random, &item->print);
    bleach(item, config->print);
    make_motion(config, random, item, (enum model)model);
    item->crease = draw(random, 20, 45);
}

static void make_pasted(const struct ws2_synth *synth, struct ws2_random *random, struct item *item)
{
    const struct ws2_cutouts *cutouts = synth->cutouts;
    const int64_t pick = ws2_random_below(random, cutouts->count[item->unwanted]);
    item->shape = SHAPE_CUTOUT;
    item->cutout = &cutouts->item[item->unwanted][pick];
    const struct level *full = &item->cutout->level[0];
    const float longest = draw(random, 0.07, 0.13);
    const float side = (float)(full->width > full->height ? full->width : full->height);
    item->a = longest * (float)full->width / side;
    item->b = longest * (float)full->height / side;
    item->mirror = ws2_random_uniform(random) < 0.5 ? -1 : 1;
    make_motion(&synth->config, random, item, MODELS);
}

static void scale_lengths(struct item *item, float scale)
{
    float *length[] = {&item->a, &item->b, &item->corner, &item->rim, &item->wall, &item->ribs};
    for (size_t i = 0; i < sizeof length / sizeof *length; i++)
        *length[i] *= scale;
    for (int k = 0; k < item->edges; k++)
        item->edge_d[k] *= scale;
    item->crease /= scale;
}

void ws2_synth_make_item(const struct ws2_synth *synth, struct ws2_random *random, struct item *item)
{
    item->salt = (uint32_t)ws2_random_u64(random);
    if (synth->cutouts)
        make_pasted(synth, random, item);
    else
        make_drawn(&synth->config, random, item);
    scale_lengths(item, (float)synth->config.scale);
    item->belly = item->b;
    item->spread = 0.5f * (item->a + item->b);
    /* Outlines of films reach beyond their axes by the sum of their waves, shards to the corners. */
    item->radius = sqrtf(item->a * item->a + item->b * item->b);
    if (item->shape == SHAPE_FILM || item->shape == SHAPE_SHARD || item->shape == SHAPE_DISC)
        item->radius = item->a * (item->shape == SHAPE_FILM ? 1.6f : item->shape == SHAPE_SHARD ? 1.4f : 1);
}

/* ---- outline of a turned body --------------------------------------------------------------------------- */

static float body_radius(const struct item *item, float t)
{
    const struct body *body = &item->body;
    float r = 1 - body->taper * (1 - t);
    if (t > body->neck)
        r = body->neck_radius;
    else if (t > body->shoulder)
        r = mixf(1, body->neck_radius, smoothf((t - body->shoulder) / (body->neck - body->shoulder)));
    const float w = (t - body->waist_at) / 0.16f;
    if (body->waist > 0 && fabsf(w) < 1)
        r -= body->waist * (1 - w * w) * (1 - w * w);
    if (body->grooves > 0 && t > 0.08f && t < 0.62f)
        r -= body->grooves * (0.5f + 0.5f * (float)sin(t * 75.0));
    if (t < body->bottom) {
        const float k = 1 - t / body->bottom;
        r *= 0.72f + 0.28f * sqrtf(1 - k * k);
    }
    if (t > item->cap_from || (body->taper > 0 && t > 0.95f))
        r *= body->mouth;
    /* A crushed body is dented from both sides. */
    r -= item->crush * 0.13f * (0.5f + 0.5f * (float)sin(t * 9.0 + (item->salt & 7)));
    return r > 0.05f ? r : 0.05f;
}

void ws2_synth_outline(struct item *item)
{
    if (item->shape != SHAPE_TURNED)
        return;
    float most = 0;
    for (int k = 0; k <= PROFILE; k++) {
        item->outline[k] = body_radius(item, (float)k / PROFILE);
        most = item->outline[k] > most ? item->outline[k] : most;
    }
    for (int k = 0; k <= PROFILE; k++)
        item->outline[k] *= item->b / most;
    item->outline[PROFILE + 1] = item->outline[PROFILE];
    const float step = 2 * item->a / PROFILE;
    for (int k = 0; k <= PROFILE; k++) {
        const int from = k > 0 ? k - 1 : 0, to = k < PROFILE ? k + 1 : PROFILE;
        item->slope[k] =
            clampf((item->outline[to] - item->outline[from]) / ((float)(to - from) * step), -3, 3);
    }
    item->slope[PROFILE + 1] = item->slope[PROFILE];
}
