/* Private to lib/synth: the scene's parts and what its files share. Lengths are scene units (the longer side
 * of the frame is 1), light is linear with 1 = white. */
#ifndef WS2_SYNTH_INTERNAL_H
#define WS2_SYNTH_INTERNAL_H

#include <math.h>
#include <string.h>
#include "synth/synth.h"

#define CELL 0.5   /* belt length of one cell of the item pattern; the random numbers of a cell are its own */
#define PROFILE 96 /* segments of a turned body's outline */
#define MOVE_MAX 0.35 /* own motion of rolling and sliding items, share of the belt travel */
#define SHADOW 0.016f /* width of an item's shadow at scale 1 */
#define LAMPS 2
#define WAVES 4 /* Fourier terms of a film's outline */
#define CORNERS 7

/* ---- arithmetic that gives the same bits everywhere (libm's float functions differ between processors) ---- */

static inline float clampf(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

static inline float mixf(float a, float b, float t)
{
    return a + (b - a) * t;
}

static inline float smoothf(float t)
{
    return t * t * (3.0f - 2.0f * t);
}

/* e^x to 2e-7 relative for -80 <= x <= 0, 0 below. */
static inline float expf_same(float x)
{
    if (x < -80.0f)
        return 0.0f;
    const float y = x * 1.44269504f;
    const int n = (int)(y - 0.5f);
    const float f = (y - (float)n) * 0.693147181f; /* |f| <= ln 2 / 2 */
    const float p =
        1.0f + f * (1.0f + f * (0.5f + f * (0.166666667f + f * (0.0416666667f +
                                                                f * (0.00833333333f + f * 0.00138888889f)))));
    const union {
        uint32_t bits;
        float value;
    } scale = {(uint32_t)(n + 127) << 23};
    return p * scale.value;
}

/* Angle of (x, y) in half turns, (-1, 1], to 2e-5. */
static inline float angle_same(float y, float x)
{
    const float ax = fabsf(x), ay = fabsf(y), big = ax > ay ? ax : ay, small = ax > ay ? ay : ax;
    if (big <= 0.0f)
        return 0.0f;
    const float q = small / big, q2 = q * q;
    /* Minimax fit of atan(q) / pi on [0, 1]. */
    float a = q * (0.318287f + q2 * (-0.105685f + q2 * (0.0607260f + q2 * (-0.0310205f + q2 * 0.00769270f))));
    a = ay > ax ? 0.5f - a : a;
    a = x < 0.0f ? 1.0f - a : a;
    return y < 0.0f ? -a : a;
}

/* A lattice value in [-1, 1]. */
static inline float lattice(uint32_t salt, int64_t x, int64_t y)
{
    uint32_t h = salt + (uint32_t)x * 0x9e3779b1u + (uint32_t)y * 0x85ebca77u;
    h = (h ^ (uint32_t)((uint64_t)x >> 32)) + (uint32_t)((uint64_t)y >> 32) * 0xc2b2ae3du;
    h = (h ^ h >> 16) * 0x7feb352du;
    h = (h ^ h >> 15) * 0x846ca68bu;
    h ^= h >> 16;
    return (float)(int32_t)h * 0x1p-31f;
}

/* Value noise and its slope at (x, y). */
static inline float noise_slope(uint32_t salt, float x, float y, float *sx, float *sy)
{
    const float fx = floorf(x), fy = floorf(y), tx = x - fx, ty = y - fy;
    const int64_t ix = (int64_t)fx, iy = (int64_t)fy;
    const float a = lattice(salt, ix, iy), b = lattice(salt, ix + 1, iy);
    const float c = lattice(salt, ix, iy + 1), d = lattice(salt, ix + 1, iy + 1);
    const float wx = smoothf(tx), wy = smoothf(ty);
    *sx = 6.0f * tx * (1.0f - tx) * mixf(b - a, d - c, wy);
    *sy = 6.0f * ty * (1.0f - ty) * mixf(c - a, d - b, wx);
    return mixf(mixf(a, b, wx), mixf(c, d, wx), wy);
}

/* ---- parts of the scene --------------------------------------------------------------------------------- */

enum shape { SHAPE_TURNED, SHAPE_DISC, SHAPE_BOX, SHAPE_TRAY, SHAPE_FILM, SHAPE_SHARD, SHAPE_CUTOUT };
enum stuff { STUFF_OPAQUE, STUFF_TINTED, STUFF_CLEAR };

/* One level of a cut-out's pyramid: light, alpha multiplied in. */
struct level {
    int width, height;
    float *rgba; /* [height,width,4] */
};

struct cutout {
    struct level level[12];
    int levels;
    float cover; /* alpha from which a pixel is the item's: half of the highest */
};

struct ws2_cutouts {
    struct cutout *item[2]; /* [0] wanted, [1] unwanted */
    int count[2];
    uint32_t digest;
};

/* Printed paper, film or lid. */
struct print {
    float base[3], ink[3], second[3];
    float stripes, logo_u, logo_v, logo_size;
};

/* A turned body along its axis, 0 = bottom, 1 = mouth; radii relative to the largest. */
struct body {
    float bottom;          /* length of the rounding at the bottom */
    float shoulder, neck;  /* where the shoulder begins and the neck is reached */
    float neck_radius;     /* also the cup's bottom radius, see taper */
    float waist, waist_at; /* depth of the grip and its place */
    float grooves;         /* depth of the rings around the belly */
    float mouth;           /* radius of cap or rim over that of the neck */
    float taper;           /* cups: how much narrower the bottom is */
};

struct item {
    /* place on the belt: s along (in the direction of travel), q across, at the moment when s passes the middle */
    double s, q;
    float angle, spin;      /* radians; radians per unit of travel */
    float drift_x, drift_y; /* own motion per unit of travel, scene axes */
    float roll;             /* own motion along the local v axis per unit of travel, by rolling */
    float height;           /* order in the heap */
    float priority;         /* when items are kept apart, the lower one stays */
    uint16_t id;
    bool unwanted, moving;

    enum shape shape;
    float a, b, radius, spread; /* half length, half width, outer radius, radius for keeping apart */
    enum stuff stuff;
    float albedo[3], absorb[3], haze[3];
    float shine, gloss; /* strength of highlights; 0..1 sharp */
    float crush;        /* dents and creases, 0..1 */
    float crease;       /* their frequency, per unit */
    uint32_t salt;

    /* turned body: outline and its slope; u of label and cap, relative 0..1 along the axis */
    struct body body;
    float outline[PROFILE + 2], slope[PROFILE + 2];
    float belly;                            /* largest outline radius: what it rolls on */
    float label_from, label_to, label_half; /* label_half: half of its angle in half turns */
    float cap_from;
    float cap[3];
    struct print print;

    float corner, rim, wall; /* box, tray, disc: corner radius, rim and wall widths */
    float ribs;
    float wave_cos[WAVES], wave_sin[WAVES];                  /* film outline, relative */
    float edge_x[CORNERS], edge_y[CORNERS], edge_d[CORNERS]; /* shard: half planes */
    int edges;

    const struct cutout *cutout;
    float mirror; /* +1 or -1 */
};

/* Where an item is at one frame. */
struct pose {
    float x, y, c, s;     /* centre; cosine and sine of the angle */
    float roll_c, roll_s; /* cosine and sine of the turn around its own axis */
};

struct lamp {
    float x, y, c, s, length, width, strength;
    bool spot;
};

struct camera {
    float gain[3];
    float fall; /* light lost in the corners */
    float fall_x, fall_y;
    struct lamp lamp[LAMPS + 1];
    int lamps;
};

struct lights {
    float sun[3];         /* towards the light */
    float half[LAMPS][3]; /* Blinn's half vectors of the strip lamps */
};

struct rubber {
    float base[3];
    float grain, streak, blotch;
    float seam_gap, seam_slant;
};

struct ws2_synth {
    struct ws2_synth_config config;
    const struct ws2_cutouts *cutouts;
    double unit; /* pixels per scene unit */
    float px;    /* one pixel in scene units */
    int cell_items;
    int64_t cell_period;
    struct camera camera;
    struct lights lights;
    struct rubber rubber;
    uint8_t curve[4097]; /* sRGB of light n / 4096 */
};

/* Items near frame t in the order in which they are painted, with their poses one frame before, at and after t. */
struct heap {
    struct item *item;
    struct pose *pose[3]; /* [0] t - 1, [1] t, [2] t + 1 */
    int count;
};

/* Light of rows y0 .. y1-1. */
struct canvas {
    float *rgb;  /* [y1-y0, width, 3] */
    float *lamp; /* [y1-y0, width] reflexes of the lamps on the bare belt */
    int64_t width, y0, y1;
    float px;
};

/* scene.c */
void ws2_synth_axes(const struct ws2_synth *synth, double g, double q, double *x, double *y);
double ws2_synth_travel(const struct ws2_synth *synth, int64_t t);
void ws2_synth_way(const struct ws2_synth *synth, double *x, double *y); /* unit vector of belt motion */
int ws2_synth_heap(const struct ws2_synth *synth, int64_t t, struct heap *heap, struct ws2_error *error);
void ws2_synth_heap_free(struct heap *heap);
struct ws2_random ws2_synth_random(uint64_t seed, uint32_t kind, int64_t a, int64_t b);
/* item.c: everything about an item but its place on the belt. The outline comes last, for those in view only. */
void ws2_synth_make_item(const struct ws2_synth *synth, struct ws2_random *random, struct item *item);
void ws2_synth_outline(struct item *item);
/* belt.c, camera.c: seeded once, then paint. */
void ws2_synth_make_rubber(struct ws2_synth *synth);
void ws2_synth_paint_belt(const struct ws2_synth *synth, int64_t t, const struct canvas *canvas);
void ws2_synth_make_camera(struct ws2_synth *synth);
void ws2_synth_lamp_light(const struct ws2_synth *synth, const struct canvas *canvas); /* fills lamp */
void ws2_synth_expose(const struct ws2_synth *synth, int64_t t, const struct canvas *canvas, uint8_t *rgb);
/* shape.c */
struct surface {
    float distance;   /* below 0 inside; scene units, good near the edge */
    float nu, nv, nw; /* unit normal, local axes; nw towards the camera */
    float path;       /* through the walls, 1 = straight through */
    float label, cap; /* 0..1: how much of the pixel is label or cap */
    float tu, tv;     /* place on the print: along 0..1, across -1..1 */
    float relief;     /* dents, about -1..1 */
};
float ws2_synth_distance(const struct item *item, float u, float v, float px);
void ws2_synth_surface(const struct item *item, const struct pose *pose, float u, float v, float px,
                       struct surface *surface);
/* Local place of the surface point (u, v) after the turn from one pose to another; false: out of sight. */
bool ws2_synth_turn(const struct item *item, const struct pose *from, const struct pose *to, float u,
                    float *v);
/* paint.c */
void ws2_synth_paint_item(const struct ws2_synth *synth, const struct item *item, const struct pose *pose,
                          const struct canvas *canvas);
/* Sets owner[p] = index for the pixels whose centre the item covers, rows y0 .. y1-1 of a width-wide map. */
void ws2_synth_own(const struct item *item, const struct pose *pose, int64_t width, int64_t y0, int64_t y1,
                   float px, uint16_t index, uint16_t *owner);
/* cutout.c */
void ws2_synth_sample(const struct item *item, float u, float v, float px, float rgba[4]);

#endif
