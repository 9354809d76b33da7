/* Geometry of items in their own axes: distance to the outline, normals, places on labels, the turn of rolling ones.
 */
#include "synth/internal.h"

/* ---- outlines: signed distance, below 0 inside ------------------------------------------------------------ */

/* Radius and slope of a turned body at u, a point of the axis. */
static void outline_at(const struct item *item, float u, float *radius, float *slope)
{
    const float k = clampf((u / item->a + 1) * (0.5f * PROFILE), 0, PROFILE);
    const int i = (int)k;
    *radius = mixf(item->outline[i], item->outline[i + 1], k - (float)i);
    *slope = mixf(item->slope[i], item->slope[i + 1], k - (float)i);
}

static float join(float side, float end)
{
    if (end <= 0)
        return side > end ? side : end;
    return side > 0 ? sqrtf(side * side + end * end) : end;
}

static float turned_distance(const struct item *item, float u, float v)
{
    float radius, slope;
    outline_at(item, u, &radius, &slope);
    return join((fabsf(v) - radius) / sqrtf(1 + slope * slope), fabsf(u) - item->a);
}

/* A rectangle with round corners; *gu, *gv: the outward direction. */
static float plate_distance(const struct item *item, float u, float v, float *gu, float *gv)
{
    const float qu = fabsf(u) - item->a + item->corner, qv = fabsf(v) - item->b + item->corner;
    const float su = u < 0 ? -1 : 1, sv = v < 0 ? -1 : 1;
    if (qu > 0 && qv > 0) {
        const float length = sqrtf(qu * qu + qv * qv);
        *gu = su * qu / length;
        *gv = sv * qv / length;
        return length - item->corner;
    }
    *gu = qu > qv ? su : 0;
    *gv = qu > qv ? 0 : sv;
    return (qu > qv ? qu : qv) - item->corner;
}

static float disc_distance(const struct item *item, float u, float v, float *gu, float *gv)
{
    const float length = sqrtf(u * u + v * v);
    *gu = length > 0 ? u / length : 1;
    *gv = length > 0 ? v / length : 0;
    return length - item->a;
}

/* An ellipse whose radius varies with the angle as a short Fourier series. */
static float film_distance(const struct item *item, float u, float v)
{
    const float pu = u / item->a, pv = v / item->b, rho = sqrtf(pu * pu + pv * pv);
    if (rho < 0.2f)
        return -0.2f * item->b;
    const float c = pu / rho, s = pv / rho;
    float ck = c, sk = s, edge = 1;
    for (int k = 0; k < WAVES; k++) {
        const float next = ck * c - sk * s;
        sk = ck * s + sk * c;
        ck = next;
        edge += item->wave_cos[k] * ck + item->wave_sin[k] * sk;
    }
    const float du = pu / item->a, dv = pv / item->b;
    return (rho - edge) * rho / sqrtf(du * du + dv * dv);
}

static float shard_distance(const struct item *item, float u, float v, int *edge)
{
    float most = -1e9f;
    for (int k = 0; k < item->edges; k++) {
        const float d = u * item->edge_x[k] + v * item->edge_y[k] - item->edge_d[k];
        if (d > most) {
            most = d;
            *edge = k;
        }
    }
    return most;
}

static float cutout_distance(const struct item *item, float u, float v, float px)
{
    float rgba[4];
    ws2_synth_sample(item, u, v, px, rgba);
    return item->cutout->cover > rgba[3] ? px : -px;
}

float ws2_synth_distance(const struct item *item, float u, float v, float px)
{
    float gu, gv;
    int edge;
    switch (item->shape) {
    case SHAPE_TURNED:
        return turned_distance(item, u, v);
    case SHAPE_DISC:
        return disc_distance(item, u, v, &gu, &gv);
    case SHAPE_BOX:
    case SHAPE_TRAY:
        return plate_distance(item, u, v, &gu, &gv);
    case SHAPE_FILM:
        return film_distance(item, u, v);
    case SHAPE_SHARD:
        return shard_distance(item, u, v, &edge);
    default:
        return cutout_distance(item, u, v, px);
    }
}

/* ---- surfaces ------------------------------------------------------------------------------------------------- */

/* Share of the pixel at x inside [from, to], all in the same unit as px. */
static float within(float x, float from, float to, float px)
{
    return clampf((x - from) / px + 0.5f, 0, 1) * clampf((to - x) / px + 0.5f, 0, 1);
}

static void unit_normal(struct surface *surface)
{
    const float length =
        sqrtf(surface->nu * surface->nu + surface->nv * surface->nv + surface->nw * surface->nw);
    surface->nu /= length;
    surface->nv /= length;
    surface->nw /= length;
}

static void turned_surface(const struct item *item, const struct pose *pose, float u, float v, float px,
                           struct surface *surface)
{
    float radius, slope;
    outline_at(item, u, &radius, &slope);
    surface->distance = join((fabsf(v) - radius) / sqrtf(1 + slope * slope), fabsf(u) - item->a);
    const float sine = clampf(v / radius, -1, 1), cosine = sqrtf(1 - sine * sine);
    surface->nu = -slope;
    surface->nv = sine;
    surface->nw = cosine + 0.05f;
    surface->path = 1 / (0.28f + 0.72f * cosine);
    const float along = (u / item->a + 1) * 0.5f, step = px / (2 * item->a);
    surface->cap = clampf((along - item->cap_from) / step + 0.5f, 0, 1);
    /* The wall has turned by the roll angle: its own mark seen here stands at the angle minus the turn. */
    const float mark_s = sine * pose->roll_c - cosine * pose->roll_s;
    const float mark_c = cosine * pose->roll_c + sine * pose->roll_s;
    surface->tv = angle_same(mark_s, mark_c);
    /* Scuffs and uneven walls; they turn with the body. */
    float su, sv;
    const float knots = 1.5f * item->crease, seen = clampf(0.5f / (knots * px) - 0.5f, 0, 1);
    surface->relief = seen * noise_slope(item->salt + 2, u * knots, surface->tv * 7, &su, &sv);
    surface->path *= 1 + 0.15f * surface->relief;
    if (item->label_half > 0) {
        surface->tu = (along - item->label_from) / (item->label_to - item->label_from);
        surface->label = within(along, item->label_from, item->label_to, step) *
                         within(surface->tv, -item->label_half, item->label_half, px / item->b);
    }
}

/* Plates, trays and discs: a bead around the edge, a wall down to the floor, ribs on it. */
static void plate_surface(const struct item *item, float u, float v, float px, struct surface *surface)
{
    float gu, gv, tilt = 0;
    surface->distance = item->shape == SHAPE_DISC ? disc_distance(item, u, v, &gu, &gv)
                                                  : plate_distance(item, u, v, &gu, &gv);
    const float depth = -surface->distance;
    if (depth < item->rim) {
        const float t = depth > 0 ? depth / item->rim : 0;
        tilt = item->shape == SHAPE_BOX ? 0.8f * (1 - t) : 0.8f * (1 - 2 * t);
    } else if (depth < item->rim + item->wall) {
        const float t = (depth - item->rim) / item->wall;
        tilt = -0.75f * 4 * t * (1 - t);
    } else if (item->ribs > 0) {
        const float phase = (item->shape == SHAPE_DISC ? depth : u) / item->ribs;
        const float t = 2 * (phase - floorf(phase)) - 1; /* a triangle wave */
        const float swing = 0.3f * clampf(item->ribs / px - 3, 0, 1) * (2 - 4 * fabsf(t));
        tilt = item->shape == SHAPE_DISC ? swing : 0;
        surface->nu += item->shape == SHAPE_DISC ? 0 : swing;
    }
    surface->nu += tilt * gu;
    surface->nv += tilt * gv;
    surface->nw = sqrtf(1 - 0.9f * tilt * tilt);
    surface->path = 0.75f + 1.1f * fabsf(tilt);
    if (item->label_half > 0) {
        surface->tu = (u / item->a + 1) * 0.5f;
        surface->tv = v / item->b;
        surface->label = within(u, -0.72f * item->a, 0.72f * item->a, px) *
                         within(v, -0.66f * item->b, 0.66f * item->b, px);
    }
}

static void sheet_surface(const struct item *item, float u, float v, float px, struct surface *surface)
{
    int edge = 0;
    if (item->shape == SHAPE_FILM) {
        surface->distance = film_distance(item, u, v);
    } else {
        surface->distance = shard_distance(item, u, v, &edge);
        /* Bent: each side of the shard tilts a little its own way. */
        surface->nu = 0.18f * item->edge_x[edge];
        surface->nv = 0.18f * item->edge_y[edge];
    }
    surface->nw = 1;
    surface->path = 0.8f;
    if (item->label_half > 0) {
        surface->tu = (u / item->a + 1) * 0.5f;
        surface->tv = v / item->b;
        surface->label = within(surface->tu, 0.28f, 0.62f, px / (2 * item->a));
    }
}

/* Dents and creases: two octaves, the finer one with sharp valleys. */
static void dent(const struct item *item, float u, float v, float px, struct surface *surface)
{
    float su, sv, fu, fv;
    const float coarse = noise_slope(item->salt, u * item->crease, v * item->crease, &su, &sv);
    const float fine = item->crease * 2.3f, seen = clampf(1 / (fine * px) - 2, 0, 1);
    const float value = noise_slope(item->salt + 1, u * fine, v * fine, &fu, &fv);
    const float fold = seen * (value < 0 ? 1.0f : -1.0f), bend = 0.42f * item->crush;
    surface->nu -= bend * (su + fold * fu);
    surface->nv -= bend * (sv + fold * fv);
    surface->path *= 1 + 0.25f * item->crush * coarse;
    surface->relief += coarse;
}

void ws2_synth_surface(const struct item *item, const struct pose *pose, float u, float v, float px,
                       struct surface *surface)
{
    *surface = (struct surface){.path = 1};
    switch (item->shape) {
    case SHAPE_TURNED:
        turned_surface(item, pose, u, v, px, surface);
        break;
    case SHAPE_FILM:
    case SHAPE_SHARD:
        sheet_surface(item, u, v, px, surface);
        break;
    default:
        plate_surface(item, u, v, px, surface);
        break;
    }
    if (item->crush > 0)
        dent(item, u, v, px, surface);
    unit_normal(surface);
}

bool ws2_synth_turn(const struct item *item, const struct pose *from, const struct pose *to, float u,
                    float *v)
{
    if (item->roll == 0)
        return true;
    float radius, slope;
    outline_at(item, u, &radius, &slope);
    const float turn_c = to->roll_c * from->roll_c + to->roll_s * from->roll_s;
    const float turn_s = to->roll_s * from->roll_c - to->roll_c * from->roll_s;
    const float sine = clampf(*v / radius, -1, 1), cosine = sqrtf(1 - sine * sine);
    if (cosine * turn_c - sine * turn_s <= 0)
        return false;
    *v = radius * (sine * turn_c + cosine * turn_s);
    return true;
}
