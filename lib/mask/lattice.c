#include "mask/lattice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    CORNERS = LATTICE_AXES_MAX + 1,
    BLOCK = 64,        /* points that are placed at a time */
    COORDINATE = 32000 /* largest, so that neighbours fit 16 bits too */
};
static const float FAR = 1e6f;

/* ---- placing points --------------------------------------------------------------------------------------- */

/* The simplex of each point of a block: the nearest point of the lattice whose coordinates sum to 0, the rank of each
 * coordinate's distance from it in falling order, and the barycentric weights of the corners. */
struct placed {
    float raised[CORNERS][BLOCK]; /* coordinates in the hyperplane of sum 0 */
    int32_t nearest[CORNERS][BLOCK];
    int32_t rank[CORNERS][BLOCK];
    float weight[CORNERS][BLOCK];
};

/* Features, scaled so that the blur below has deviation 1, to d + 1 coordinates whose sum is 0. */
static inline __attribute__((always_inline)) void
raise_points(struct placed *placed, const float *feature, int64_t points, int64_t first, int count, int d)
{
    float sum[BLOCK] = {0};
    for (int j = d; j > 0; j--) {
        const float scale = (float)(sqrt(2.0 / 3) * (d + 1) / sqrt((double)j * (j + 1)));
        const float *from = feature + (int64_t)(j - 1) * points + first;
        for (int i = 0; i < count; i++) {
            const float value = from[i] * scale;
            placed->raised[j][i] = sum[i] - (float)j * value;
            sum[i] += value;
        }
    }
    memcpy(placed->raised[0], sum, sizeof sum);
}

/* Every coordinate to the nearest multiple of d + 1; excess[i] = the sum of those over d + 1, which the next step
 * takes away again. */
static inline __attribute__((always_inline)) void round_points(struct placed *placed, int32_t *excess, int d)
{
    const float unit = (float)(d + 1), inverse = 1.0f / (float)(d + 1);
    memset(excess, 0, BLOCK * sizeof *excess);
    for (int k = 0; k <= d; k++) {
        for (int i = 0; i < BLOCK; i++) {
            const float high = placed->raised[k][i] < FAR ? placed->raised[k][i] : FAR;
            const float at = high > -FAR ? high : -FAR; /* beyond: refused later */
            const int32_t cut = (int32_t)(at * inverse), below = cut - ((float)cut > at * inverse);
            const float down = (float)below * unit, up = (float)(below + 1) * unit;
            const int32_t best =
                below + (up - at < at - down); /* floorf would keep this from being vectorised */
            placed->nearest[k][i] = best * (d + 1);
            excess[i] += best;
        }
    }
}

static inline __attribute__((always_inline)) void rank_points(struct placed *placed, const int32_t *excess,
                                                              int d)
{
    memset(placed->rank, 0, sizeof placed->rank);
    for (int a = 0; a < d; a++) {
        for (int b = a + 1; b <= d; b++) {
            for (int i = 0; i < BLOCK; i++) {
                const bool less = placed->raised[a][i] - (float)placed->nearest[a][i] <
                                  placed->raised[b][i] - (float)placed->nearest[b][i];
                placed->rank[a][i] += less;
                placed->rank[b][i] += !less;
            }
        }
    }
    for (int k = 0; k <= d; k++) {
        for (int i = 0; i < BLOCK; i++) {
            const int32_t rank = placed->rank[k][i] + excess[i];
            const int32_t turn = rank < 0 ? d + 1 : rank > d ? -(d + 1) : 0;
            placed->rank[k][i] = rank + turn;
            placed->nearest[k][i] += turn;
        }
    }
}

/* weight[k] is the step between the distances of rank d - k and d - k + 1; the first closes the circle. */
static inline __attribute__((always_inline)) void weigh_points(struct placed *placed, int d)
{
    const float inverse = 1.0f / (float)(d + 1);
    float sorted[CORNERS][BLOCK] = {{0}}; /* by rank */
    for (int k = 0; k <= d; k++) {
        float distance[BLOCK];
        for (int i = 0; i < BLOCK; i++)
            distance[i] = (placed->raised[k][i] - (float)placed->nearest[k][i]) * inverse;
        for (int r = 0; r <= d; r++)
            for (int i = 0; i < BLOCK; i++)
                sorted[r][i] = placed->rank[k][i] == r ? distance[i] : sorted[r][i];
    }
    for (int i = 0; i < BLOCK; i++)
        placed->weight[0][i] = sorted[d][i] + (1 - sorted[0][i]);
    for (int k = 1; k <= d; k++)
        for (int i = 0; i < BLOCK; i++)
            placed->weight[k][i] = sorted[d - k][i] - sorted[d - k + 1][i];
}

static inline __attribute__((always_inline)) void
place_points(struct placed *placed, const float *feature, int64_t points, int64_t first, int count, int d)
{
    int32_t excess[BLOCK];
    raise_points(placed, feature, points, first, count, d);
    round_points(placed, excess, d);
    rank_points(placed, excess, d);
    weigh_points(placed, d);
}

/* The compiler unrolls and vectorises each for its own d. */
WS2_CLONES
static void place(struct placed *placed, const float *feature, int64_t points, int64_t first, int count,
                  int d)
{
    switch (d) {
    case 2:
        place_points(placed, feature, points, first, count, 2);
        break;
    case 5:
        place_points(placed, feature, points, first, count, 5);
        break;
    default:
        place_points(placed, feature, points, first, count, d);
    }
}

/* ---- vertices ----------------------------------------------------------------------------------------------- */

/* Coordinates 0..3 and 4 of a point of the lattice as lanes of 16 bits; the others are 0. The last coordinate is missing,
 * as all of them sum to 0. */
struct key {
    uint64_t half[2];
};

/* Lane by lane: no carry leaves its lane. */
static inline uint64_t add_lanes(uint64_t a, uint64_t b)
{
    const uint64_t tops = 0x8000800080008000u;
    return ((a & ~tops) + (b & ~tops)) ^ ((a ^ b) & tops);
}

static inline struct key key_add(struct key a, struct key b)
{
    return (struct key){{add_lanes(a.half[0], b.half[0]), add_lanes(a.half[1], b.half[1])}};
}

static inline struct key key_pack(const int32_t *coordinate, int d)
{
    struct key key = {{0, 0}};
    for (int a = 0; a < d; a++)
        key.half[a / 4] |= (uint64_t)(uint16_t)coordinate[a] << 16 * (a % 4);
    return key;
}

/* What leads to the neighbour along axis a: 1 more on all coordinates, d + 1 less on coordinate a, the d-th of which no key
 * holds. */
static struct key key_axis(int a, int d)
{
    int32_t step[LATTICE_AXES_MAX];
    for (int k = 0; k < d; k++)
        step[k] = k == a ? -d : 1;
    return key_pack(step, d);
}

static inline uint64_t key_hash(struct key key)
{
    const uint64_t mixed = (key.half[0] ^ key.half[1] * 0x9e3779b97f4a7c15u) * 0xd6e8feb86659fd93u;
    return mixed ^ mixed >> 32;
}

static inline bool key_equal(struct key a, struct key b)
{
    return a.half[0] == b.half[0] && a.half[1] == b.half[1];
}

/* The slot of this key: that which holds its vertex, or the free one where it belongs. */
static inline int32_t *find_slot(const struct lattice *lattice, struct key key)
{
    const uint64_t last = (uint64_t)lattice->slots - 1;
    uint64_t at = key_hash(key) & last;
    while (lattice->slot[at] != 0 && !key_equal(lattice->key[lattice->slot[at] - 1], key))
        at = (at + 1) & last;
    return lattice->slot + at;
}

/* Room for twice as many vertices, at least 4096, in a table that is at most half full. */
static int grow(struct lattice *lattice)
{
    const int64_t slots = lattice->slots > 0 ? 2 * lattice->slots : 8192;
    if (slots > INT32_MAX ||
        ws2_reserve((void **)&lattice->slot, &lattice->slot_capacity,
                    (size_t)slots * sizeof *lattice->slot) != 0 ||
        ws2_reserve((void **)&lattice->key, &lattice->key_capacity,
                    (size_t)slots / 2 * sizeof *lattice->key) != 0)
        return WS2_ERR_SYSTEM;
    lattice->slots = slots;
    memset(lattice->slot, 0, (size_t)slots * sizeof *lattice->slot);
    for (int64_t v = 0; v < lattice->vertices; v++)
        *find_slot(lattice, lattice->key[v]) = (int32_t)v + 1;
    return 0;
}

/* The number of the vertex with this key, made when it is new; 0 when out of memory. */
static inline int32_t vertex(struct lattice *lattice, struct key key)
{
    int32_t *slot = find_slot(lattice, key);
    if (*slot != 0)
        return *slot;
    if (2 * (lattice->vertices + 1) > lattice->slots) {
        if (grow(lattice) != 0)
            return 0;
        slot = find_slot(lattice, key);
    }
    lattice->key[lattice->vertices] = key;
    return *slot = (int32_t)++lattice->vertices;
}

/* ---- building ----------------------------------------------------------------------------------------------- */

/* The corners of point i of the block: the nearest lattice point, and from each corner to the next along the axis whose
 * rank is d, d - 1, .. 1. */
static bool find_corners(struct lattice *lattice, const struct placed *placed, const struct key *axis, int i,
                         int32_t *corner)
{
    const int d = lattice->axes;
    int32_t nearest[CORNERS], order[CORNERS];
    for (int a = 0; a <= d; a++) {
        nearest[a] = placed->nearest[a][i];
        order[d - placed->rank[a][i]] = a;
    }
    struct key key = key_pack(nearest, d);
    for (int k = 0; k <= d; k++) {
        corner[k] = vertex(lattice, key);
        if (corner[k] == 0)
            return false;
        key = key_add(key, axis[order[k]]);
    }
    return true;
}

/* differs[i]: point i of the block does not lie in the simplex of the one before it. */
WS2_CLONES
static void compare_simplices(const struct placed *placed, int d, int32_t *restrict differs)
{
    memset(differs, 0, BLOCK * sizeof *differs);
    for (int a = 0; a <= d; a++)
        for (int i = 1; i < BLOCK; i++)
            differs[i] |= (placed->nearest[a][i] ^ placed->nearest[a][i - 1]) |
                          (placed->rank[a][i] ^ placed->rank[a][i - 1]);
    differs[0] = 1;
}

/* Points first .. first + count - 1. Neighbours in an image often lie in one simplex. */
static int add_block(struct lattice *lattice, const struct placed *placed, const struct key *axis,
                     int64_t first, int count, struct ws2_error *error)
{
    const int d = lattice->axes, corners = d + 1;
    int32_t differs[BLOCK];
    compare_simplices(placed, d, differs);
    for (int i = 0; i < count; i++) {
        int32_t *corner = lattice->corner + (first + i) * corners;
        float *weight = lattice->weight + (first + i) * corners;
        for (int k = 0; k < corners; k++)
            weight[k] = placed->weight[k][i];
        if (!differs[i])
            memcpy(corner, corner - corners, (size_t)corners * sizeof *corner);
        else if (!find_corners(lattice, placed, axis, i, corner))
            return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a lattice of %lld points",
                            (long long)lattice->points);
    }
    return 0;
}

static int check_block(const struct placed *placed, int d, int count, struct ws2_error *error)
{
    for (int k = 0; k <= d; k++)
        for (int i = 0; i < count; i++)
            if (!(fabsf(placed->raised[k][i]) < COORDINATE))
                return ws2_fail(error, WS2_ERR_INPUT,
                                "places or colours lie too many deviations apart for a lattice");
    return 0;
}

/* The vertices next to each one along axis a, on both sides. */
static void find_near(struct lattice *lattice, int a)
{
    const struct key axis = key_axis(a, lattice->axes);
    int32_t *near = lattice->near + 2 * a * lattice->vertices;
    memset(near, 0, 2 * (size_t)lattice->vertices * sizeof *near);
    for (int64_t v = 0; v < lattice->vertices; v++) {
        const int32_t other = *find_slot(lattice, key_add(lattice->key[v], axis));
        near[2 * v] = other;
        if (other != 0)
            near[2 * (other - 1) + 1] = (int32_t)v + 1;
    }
}

static int reserve_points(struct lattice *lattice, struct ws2_error *error)
{
    size_t bytes;
    const struct ws2_shape shape = ws2_shape_2(lattice->points, lattice->axes + 1);
    if (!ws2_shape_bytes(&shape, WS2_F32, &bytes) ||
        ws2_reserve((void **)&lattice->corner, &lattice->corner_capacity, bytes) != 0 ||
        ws2_reserve((void **)&lattice->weight, &lattice->weight_capacity, bytes) != 0 || grow(lattice) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a lattice of %lld points",
                        (long long)lattice->points);
    return 0;
}

static int reserve_vertices(struct lattice *lattice, struct ws2_error *error)
{
    const size_t vertices = (size_t)lattice->vertices;
    if (ws2_reserve((void **)&lattice->near, &lattice->near_capacity,
                    2 * (size_t)(lattice->axes + 1) * vertices * sizeof *lattice->near) != 0 ||
        ws2_reserve((void **)&lattice->value, &lattice->value_capacity,
                    2 * (vertices + 1) * sizeof *lattice->value) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a lattice of %lld vertices",
                        (long long)vertices);
    return 0;
}

int lattice_build(struct lattice *lattice, const float *feature, int axes, int64_t points,
                  struct ws2_error *error)
{
    struct placed placed = {0};
    struct key axis[CORNERS];
    for (int a = 0; a <= axes; a++)
        axis[a] = key_axis(a, axes);
    lattice->axes = axes;
    lattice->points = points;
    lattice->vertices = lattice->slots = 0;
    int status = reserve_points(lattice, error);
    for (int64_t first = 0; first < points && status == 0; first += BLOCK) {
        const int count = points - first < BLOCK ? (int)(points - first) : BLOCK;
        place(&placed, feature, points, first, count, axes);
        status = check_block(&placed, axes, count, error);
        if (status == 0)
            status = add_block(lattice, &placed, axis, first, count, error);
    }
    if (status == 0)
        status = reserve_vertices(lattice, error);
    for (int a = 0; a <= axes && status == 0; a++)
        find_near(lattice, a);
    return status;
}

void lattice_free(struct lattice *lattice)
{
    free(lattice->corner);
    free(lattice->weight);
    free(lattice->near);
    free(lattice->value);
    free(lattice->key);
    free(lattice->slot);
    *lattice = (struct lattice){0};
}

/* ---- filtering ---------------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void splat(const struct lattice *lattice, const float *in,
                                                        float *value, int corners)
{
    const int32_t *corner = lattice->corner;
    const float *weight = lattice->weight;
    for (int64_t i = 0; i < lattice->points; i++, corner += corners, weight += corners)
        for (int k = 0; k < corners; k++)
            value[corner[k]] += weight[k] * in[i];
}

static inline __attribute__((always_inline)) void slice(const struct lattice *lattice, const float *value,
                                                        float *out, int corners)
{
    const float gain = 1.0f / (1.0f + ldexpf(1.0f, 1 - corners));
    const int32_t *corner = lattice->corner;
    const float *weight = lattice->weight;
    for (int64_t i = 0; i < lattice->points; i++, corner += corners, weight += corners) {
        float sum = 0;
        for (int k = 0; k < corners; k++)
            sum += weight[k] * value[corner[k]];
        out[i] = gain * sum;
    }
}

WS2_CLONES
static void blur(const int32_t *restrict near, int64_t vertices, const float *restrict from,
                 float *restrict to)
{
    for (int64_t v = 0; v < vertices; v++)
        to[v + 1] = from[v + 1] + 0.5f * (from[near[2 * v]] + from[near[2 * v + 1]]);
}

void lattice_filter(struct lattice *lattice, const float *in, float *out)
{
    const int64_t vertices = lattice->vertices;
    const int corners = lattice->axes + 1;
    float *from = lattice->value, *to = lattice->value + vertices + 1;
    memset(from, 0, 2 * (size_t)(vertices + 1) * sizeof *from);
    if (corners == 6)
        splat(lattice, in, from, 6);
    else if (corners == 3)
        splat(lattice, in, from, 3);
    else
        splat(lattice, in, from, corners);
    for (int a = 0; a < corners; a++) {
        blur(lattice->near + 2 * a * vertices, vertices, from, to);
        float *swap = from;
        from = to;
        to = swap;
    }
    if (corners == 6)
        slice(lattice, from, out, 6);
    else if (corners == 3)
        slice(lattice, from, out, 3);
    else
        slice(lattice, from, out, corners);
}
