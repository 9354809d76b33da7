#include "motion/flow.h"

#include <math.h>
#include <string.h>

/* Variational refinement (Brox et al. 2004): brightness and its derivatives stay the same along the flow, which is
 * smooth but for jumps. The sum of robust penalties is minimised by solving linear systems for fixed weights, each by
 * red-black over-relaxation. Red pixels are those of even x + y; a row of one colour lies in one run, so that the
 * neighbours of a run are runs, too. */

/* Squared: of the robust penalties, and of the derivatives that the data terms are divided by. */
static const float soft = 1e-6f, least = 0.01f, over = 1.6f;

enum { BRIGHT_X, BRIGHT_Y, BRIGHT_T, XX, XY, YX, YY, XT, YT, FIRST_U, FIRST_V, DIFFUSE, PLANES };
enum { U, V, R1, R2, A12, D1, D2, RIGHT, DOWN, HALVES };

struct system {
    int width, height;
    int64_t pitch;          /* of a row of one colour, with a place on either side */
    float *plane[PLANES];   /* [height][width] */
    float *half[2][HALVES]; /* [height][pitch], of the first pixel of each colour */
};

static int64_t pitch_of(int width)
{
    return (width + 1) / 2 + 2;
}

size_t ws2_refine_scratch(int width, int height)
{
    return (size_t)(PLANES + 1) * (size_t)width * (size_t)height + HALVES * (size_t)(width + 1) +
           2 * HALVES * (size_t)(pitch_of(width) * (height + 2)) + 16;
}

static void lay_out(struct system *s, int width, int height, float *scratch)
{
    s->width = width;
    s->height = height;
    s->pitch = pitch_of(width);
    for (int i = 0; i < PLANES; i++, scratch += (int64_t)width * height)
        s->plane[i] = scratch;
    const int64_t half = s->pitch * (height + 2);
    memset(scratch, 0, (size_t)(2 * HALVES * half) * sizeof *scratch);
    for (int c = 0; c < 2; c++)
        for (int i = 0; i < HALVES; i++, scratch += half)
            s->half[c][i] = scratch + s->pitch + 1;
}

/* ---- what the pictures say ---------------------------------------------------------------------------------------- */

/* The second picture along the flow, and where it is inside. */
INLINE void warp_row(const struct level *b, int y, int width, const float *u, const float *v, float *out)
{
    const float right = (float)(b->width - 1), bottom = (float)(b->height - 1);
    for (int x = 0; x < width; x++) {
        float px = (float)x + u[x], py = (float)y + v[x];
        px = px < 0 ? 0 : px > right ? right : px;
        py = py < 0 ? 0 : py > bottom ? bottom : py;
        const int ix = (int)px, iy = (int)py;
        const float fx = px - (float)ix, fy = py - (float)iy;
        const float *at = b->image + iy * b->stride + ix;
        const float top = at[0] + fx * (at[1] - at[0]);
        const float low = at[b->stride] + fx * (at[b->stride + 1] - at[b->stride]);
        out[x] = top + fy * (low - top);
    }
}

INLINE void differences(const float *row, const float *above, const float *below, int width, float *dx,
                        float *dy)
{
    for (int x = 1; x + 1 < width; x++)
        dx[x] = 0.5f * (row[x + 1] - row[x - 1]);
    dx[0] = width > 1 ? 0.5f * (row[1] - row[0]) : 0;
    dx[width - 1] = width > 1 ? 0.5f * (row[width - 1] - row[width - 2]) : 0;
    for (int x = 0; x < width; x++)
        dy[x] = 0.5f * (below[x] - above[x]);
}

/* Derivatives of a plane into two others. */
INLINE void derive_plane(const struct system *s, const float *from, float *dx, float *dy)
{
    const int64_t w = s->width;
    for (int y = 0; y < s->height; y++) {
        const float *row = from + y * w;
        differences(row, y > 0 ? row - w : row, y + 1 < s->height ? row + w : row, s->width, dx + y * w,
                    dy + y * w);
    }
}

/* Each equation divided by the length of its derivatives, so that strong edges do not count for more; those of pixels
 * that are not known become 0 = 0. */
INLINE void normalise_row(const struct system *s, int64_t at, const float *known)
{
    float *restrict ix = s->plane[BRIGHT_X] + at, *restrict iy = s->plane[BRIGHT_Y] + at,
                    *restrict it = s->plane[BRIGHT_T] + at, *restrict xx = s->plane[XX] + at,
                    *restrict xy = s->plane[XY] + at, *restrict yx = s->plane[YX] + at,
                    *restrict yy = s->plane[YY] + at, *restrict xt = s->plane[XT] + at,
                    *restrict yt = s->plane[YT] + at;
    for (int x = 0; x < s->width; x++) {
        const float n = known[x] / sqrtf(ix[x] * ix[x] + iy[x] * iy[x] + least);
        const float nx = known[x] / sqrtf(xx[x] * xx[x] + xy[x] * xy[x] + least);
        const float ny = known[x] / sqrtf(xy[x] * xy[x] + yy[x] * yy[x] + least);
        yx[x] = xy[x] * ny;
        yy[x] *= ny;
        yt[x] *= ny;
        xx[x] *= nx;
        xy[x] *= nx;
        xt[x] *= nx;
        ix[x] *= n;
        iy[x] *= n;
        it[x] *= n;
    }
}

/* First and second derivatives in space, of the mean of both pictures, and in time. */
WS2_CLONES
static void observe(const struct system *s, const struct level *a, const struct level *b, const float *known,
                    const float *u, const float *v)
{
    float *const *p = s->plane;
    const int64_t w = s->width;
    float *mean = p[DIFFUSE];
    for (int y = 0; y < s->height; y++) {
        const float *row = a->image + y * a->stride;
        float *warped = p[FIRST_U] + y * w;
        warp_row(b, y, s->width, u + y * w, v + y * w, warped);
        for (int x = 0; x < s->width; x++) {
            p[BRIGHT_T][y * w + x] = warped[x] - row[x];
            mean[y * w + x] = 0.5f * (warped[x] + row[x]);
        }
    }
    derive_plane(s, mean, p[BRIGHT_X], p[BRIGHT_Y]);
    derive_plane(s, p[BRIGHT_T], p[XT], p[YT]);
    derive_plane(s, p[BRIGHT_X], p[XX], p[XY]);
    derive_plane(s, p[BRIGHT_Y], p[DIFFUSE], p[YY]);
    for (int y = 0; y < s->height; y++)
        normalise_row(s, y * w, known ? known + y * w : NULL);
    memcpy(p[FIRST_U], u, (size_t)w * (size_t)s->height * sizeof *u);
    memcpy(p[FIRST_V], v, (size_t)w * (size_t)s->height * sizeof *v);
}

/* ---- one linear system ---------------------------------------------------------------------------------------------- */

/* Half of what a pixel adds to the weight between it and a neighbour: small where the flow changes. The differences
 * are over two pixels. */
INLINE float diffusivity(float ux, float uy, float vx, float vy, float smooth)
{
    return 0.5f * smooth / sqrtf(0.25f * (ux * ux + uy * uy + vx * vx + vy * vy) + soft);
}

INLINE void diffuse_row(const struct system *s, int y, const float *u, const float *v, float smooth)
{
    const int64_t w = s->width, up = y > 0 ? -w : 0, down = y + 1 < s->height ? w : 0;
    float *restrict out = s->plane[DIFFUSE] + y * w;
    u += y * w;
    v += y * w;
    for (int x = 1; x + 1 < w; x++)
        out[x] = diffusivity(u[x + 1] - u[x - 1], u[x + down] - u[x + up], v[x + 1] - v[x - 1],
                             v[x + down] - v[x + up], smooth);
    for (int64_t x = 0; x<w; x += w> 1 ? w - 1 : 1) {
        const int64_t l = x > 0 ? x - 1 : x, r = x + 1 < w ? x + 1 : x;
        out[x] =
            diffusivity(u[r] - u[l], u[x + down] - u[x + up], v[r] - v[l], v[x + down] - v[x + up], smooth);
    }
}

/* The data terms of a row for the flow as it is: [a11 a12; a12 a22] (u, v) = (r1, r2). */
INLINE void data_row(const struct system *s, int64_t at, const float *restrict u, const float *restrict v,
                     const struct refine_options *o, float *restrict a11, float *restrict a12,
                     float *restrict a22, float *restrict r1, float *restrict r2)
{
    const float *ix = s->plane[BRIGHT_X] + at, *iy = s->plane[BRIGHT_Y] + at, *it = s->plane[BRIGHT_T] + at;
    const float *xx = s->plane[XX] + at, *xy = s->plane[XY] + at, *xt = s->plane[XT] + at;
    const float *yx = s->plane[YX] + at, *yy = s->plane[YY] + at, *yt = s->plane[YT] + at;
    const float *u0 = s->plane[FIRST_U] + at, *v0 = s->plane[FIRST_V] + at;
    const float brightness = o->brightness, gradient = o->gradient;
    for (int x = 0; x < s->width; x++) {
        const float et = it[x] - ix[x] * u0[x] - iy[x] * v0[x];
        const float ext = xt[x] - xx[x] * u0[x] - xy[x] * v0[x];
        const float eyt = yt[x] - yx[x] * u0[x] - yy[x] * v0[x];
        const float e = et + ix[x] * u[x] + iy[x] * v[x];
        const float ex = ext + xx[x] * u[x] + xy[x] * v[x];
        const float ey = eyt + yx[x] * u[x] + yy[x] * v[x];
        const float wb = brightness / sqrtf(e * e + soft), wg = gradient / sqrtf(ex * ex + ey * ey + soft);
        a11[x] = wb * ix[x] * ix[x] + wg * (xx[x] * xx[x] + yx[x] * yx[x]);
        a12[x] = wb * ix[x] * iy[x] + wg * (xx[x] * xy[x] + yx[x] * yy[x]);
        a22[x] = wb * iy[x] * iy[x] + wg * (xy[x] * xy[x] + yy[x] * yy[x]);
        r1[x] = -(wb * ix[x] * et + wg * (xx[x] * ext + yx[x] * eyt));
        r2[x] = -(wb * iy[x] * et + wg * (xy[x] * ext + yy[x] * eyt));
    }
}

/* The neighbours' weights, and the reciprocals of the diagonal, in place of a11 and a22. */
INLINE void smooth_row(const struct system *s, int y, float *restrict a11, float *restrict a22,
                       float *restrict right, float *restrict down)
{
    const int64_t w = s->width;
    const float *d = s->plane[DIFFUSE] + y * w;
    const float *above = y > 0 ? d - w : d, *below = y + 1 < s->height ? d + w : d;
    const float has_above = y > 0, has_below = y + 1 < s->height;
    right[-1] = 0;
    for (int x = 0; x + 1 < w; x++)
        right[x] = d[x] + d[x + 1];
    right[w - 1] = 0;
    for (int x = 0; x < w; x++) {
        down[x] = has_below * (d[x] + below[x]);
        const float sum = right[x] + right[x - 1] + down[x] + has_above * (d[x] + above[x]);
        a11[x] = over / (a11[x] + sum);
        a22[x] = over / (a22[x] + sum);
    }
}

/* Every second value from `first` on. */
INLINE void every_second(const float *restrict from, int first, int width, float *restrict to)
{
    for (int k = 0; k < (width + 1 - first) / 2; k++)
        to[k] = from[2 * k + first];
}

/* Coefficients of a row, both colours, from the flow as it is. */
INLINE void prepare_row(const struct system *s, int y, const float *u, const float *v,
                        const struct refine_options *o, float *row)
{
    const int64_t w = s->width, at = y * w, to = y * s->pitch;
    float *part[HALVES] = {0};
    for (int i = R1; i < HALVES; i++, row += w + 1)
        part[i] = row + 1;
    data_row(s, at, u + at, v + at, o, part[D1], part[A12], part[D2], part[R1], part[R2]);
    smooth_row(s, y, part[D1], part[D2], part[RIGHT], part[DOWN]);
    part[U] = (float *)u + at;
    part[V] = (float *)v + at;
    for (int i = 0; i < HALVES; i++)
        for (int c = 0; c < 2; c++)
            every_second(part[i], (y + c) & 1, s->width, s->half[c][i] + to);
}

/* One colour of a row. */
INLINE void relax_row(const struct system *s, int y, int colour)
{
    const int odd = (y + colour) & 1, count = (s->width + 1 - odd) / 2;
    const int64_t at = y * s->pitch;
    float *const *h = s->half[colour], *const *other = s->half[1 - colour];
    float *restrict u = h[U] + at, *restrict v = h[V] + at;
    const float *a12 = h[A12] + at, *d1 = h[D1] + at, *d2 = h[D2] + at, *r1 = h[R1] + at, *r2 = h[R2] + at;
    const float *right = h[RIGHT] + at, *down = h[DOWN] + at;
    const float *left = other[RIGHT] + at + odd - 1, *up = other[DOWN] + at - s->pitch;
    const float *ul = other[U] + at + odd - 1, *vl = other[V] + at + odd - 1;
    const float *uu = other[U] + at - s->pitch, *vu = other[V] + at - s->pitch;
    const float *ud = other[U] + at + s->pitch, *vd = other[V] + at + s->pitch;
    for (int k = 0; k < count; k++) {
        const float su = left[k] * ul[k] + right[k] * ul[k + 1] + up[k] * uu[k] + down[k] * ud[k];
        const float sv = left[k] * vl[k] + right[k] * vl[k + 1] + up[k] * vu[k] + down[k] * vd[k];
        const float nu = (1 - over) * u[k] + d1[k] * (r1[k] - a12[k] * v[k] + su);
        v[k] = (1 - over) * v[k] + d2[k] * (r2[k] - a12[k] * nu + sv);
        u[k] = nu;
    }
}

INLINE void gather_row(const struct system *s, int y, float *restrict u, float *restrict v)
{
    for (int c = 0; c < 2; c++) {
        const int64_t from = y * s->pitch, to = (int64_t)y * s->width;
        for (int k = 0, x = (y + c) & 1; x < s->width; k++, x += 2) {
            u[to + x] = s->half[c][U][from + k];
            v[to + x] = s->half[c][V][from + k];
        }
    }
}

WS2_CLONES
static void solve(const struct system *s, const struct refine_options *o, float *u, float *v, float *row)
{
    for (int y = 0; y < s->height; y++)
        diffuse_row(s, y, u, v, o->smooth);
    for (int y = 0; y < s->height; y++)
        prepare_row(s, y, u, v, o, row);
    for (int k = 0; k < o->inner; k++)
        for (int colour = 0; colour < 2; colour++)
            for (int y = 0; y < s->height; y++)
                relax_row(s, y, colour);
    for (int y = 0; y < s->height; y++)
        gather_row(s, y, u, v);
}

/* 1 where the flow stays inside the second picture. */
WS2_CLONES
static void inside(const struct level *b, int width, int height, const float *u, const float *v, float *known)
{
    const float right = (float)(b->width - 1), bottom = (float)(b->height - 1);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const int64_t i = (int64_t)y * width + x;
            const float px = (float)x + u[i], py = (float)y + v[i];
            known[i] = (px >= 0) & (py >= 0) & (px <= right) & (py <= bottom) ? 1 : 0;
        }
}

void ws2_refine(const struct level *a, const struct level *b, const struct refine_options *options,
                const uint8_t *hidden, float *u, float *v, float *scratch)
{
    struct system s;
    const int64_t pixels = (int64_t)a->width * a->height;
    float *known = scratch, *row = known + pixels;
    if (pixels == 1) /* neither derivatives nor neighbours: every term is 0 */
        return;
    lay_out(&s, a->width, a->height, row + (HALVES - R1) * (a->width + 1) + 1);
    inside(b, a->width, a->height, u, v, known);
    for (int64_t i = 0; i < pixels; i++)
        known[i] = hidden[i] ? 0 : known[i];
    observe(&s, a, b, known, u, v);
    for (int k = 0; k < options->outer; k++)
        solve(&s, options, u, v, row);
}
