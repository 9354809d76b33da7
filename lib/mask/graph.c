/* Regions of like colour: see regions.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "mask/regions.h"

enum { NO_EDGE = GRAPH_WEIGHTS - 1, DIRECTIONS = 4 };
static const int step_y[DIRECTIONS] = {0, 1, 1, 1}, step_x[DIRECTIONS] = {1, -1, 0, 1};

void graph_free(struct graph *graph)
{
    free(graph->plane);
    free(graph->weight);
    free(graph->edge);
    free(graph->begin);
    free(graph->left);
    free(graph->parent);
    free(graph->root);
    *graph = (struct graph){0};
}

static int prepare(struct graph *graph, int64_t height, int64_t width, struct ws2_error *error)
{
    const size_t pixels = (size_t)(height * width), count = DIRECTIONS * pixels;
    if (ws2_reserve((void **)&graph->plane, &graph->plane_capacity, pixels * sizeof *graph->plane) ||
        ws2_reserve((void **)&graph->weight, &graph->weight_capacity, count * sizeof *graph->weight) ||
        ws2_reserve((void **)&graph->edge, &graph->edge_capacity, count * sizeof *graph->edge) ||
        ws2_reserve((void **)&graph->begin, &graph->begin_capacity,
                    (GRAPH_WEIGHTS + 1) * sizeof *graph->begin) ||
        ws2_reserve((void **)&graph->left, &graph->left_capacity, count * sizeof *graph->left) ||
        ws2_reserve((void **)&graph->parent, &graph->parent_capacity, pixels * sizeof *graph->parent) ||
        ws2_reserve((void **)&graph->root, &graph->root_capacity, pixels * sizeof *graph->root))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the regions of %lld x %lld pixels",
                        (long long)width, (long long)height);
    graph->height = height;
    graph->width = width;
    return 0;
}

/* ---- smoothing ---------------------------------------------------------------------------------------------- */

enum { TAPS_MAX = 129 };

/* A Gaussian cut at four deviations, of sum 1; returns its radius. */
static int make_taps(double sigma, float tap[TAPS_MAX])
{
    const int radius = (int)fmin(ceil(4 * sigma), TAPS_MAX / 2);
    double sum = 0;
    for (int i = -radius; i <= radius; i++)
        sum += exp(-i * i / (2 * sigma * sigma));
    for (int i = -radius; i <= radius; i++)
        tap[i + radius] = (float)(exp(-i * i / (2 * sigma * sigma)) / sum);
    return radius;
}

static int64_t held(int64_t i, int64_t count)
{
    return i < 0 ? 0 : i >= count ? count - 1 : i;
}

WS2_CLONES
static void add_scaled(float *restrict to, const float *restrict from, float scale, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] += scale * from[i];
}

/* One plane [h,w], edges repeated; `turn` and `row` hold a plane and at least a row with its borders. */
static void smooth(float *plane, float *turn, int64_t height, int64_t width, const float *tap, int radius,
                   float *row)
{
    memset(turn, 0, (size_t)(height * width) * sizeof *turn);
    for (int64_t y = 0; y < height; y++)
        for (int i = -radius; i <= radius; i++)
            add_scaled(turn + y * width, plane + held(y + i, height) * width, tap[i + radius], width);
    memset(plane, 0, (size_t)(height * width) * sizeof *plane);
    for (int64_t y = 0; y < height; y++) {
        for (int64_t x = -radius; x < width + radius; x++)
            row[x + radius] = turn[y * width + held(x, width)];
        for (int i = 0; i <= 2 * radius; i++)
            add_scaled(plane + y * width, row + i, tap[i], width);
    }
}

/* ---- edges -------------------------------------------------------------------------------------------------- */

WS2_CLONES
static void add_squares(float *restrict sum, const float *restrict a, const float *restrict b, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        sum[i] += (a[i] - b[i]) * (a[i] - b[i]);
}

static inline uint16_t whole_steps(float weight)
{
    return (uint16_t)(int)(weight < NO_EDGE - 1 ? weight : NO_EDGE - 1);
}

WS2_CLONES
static void to_steps(uint16_t *restrict weight, const float *restrict sum, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        weight[i] = whole_steps(sqrtf(sum[i]) * GRAPH_STEPS + 0.5f);
}

/* Weights of one direction; NO_EDGE where it leads out of the picture. */
static void weigh(struct graph *graph, const float *colour, int64_t channels, int direction)
{
    const int64_t h = graph->height, w = graph->width, dx = step_x[direction], dy = step_y[direction];
    const int64_t begin = dx < 0 ? 1 : 0, end = dx > 0 ? w - 1 : w;
    float *sum = graph->plane;
    for (int64_t y = 0; y < h; y++) {
        uint16_t *weight = graph->weight + (direction * h + y) * w;
        for (int64_t x = 0; x < w; x++)
            weight[x] = NO_EDGE;
        if (y + dy >= h || begin >= end)
            continue;
        memset(sum, 0, (size_t)w * sizeof *sum);
        for (int64_t c = 0; c < channels; c++) {
            const float *row = colour + (c * h + y) * w;
            add_squares(sum, row + begin, row + begin + dy * w + dx, end - begin);
        }
        to_steps(weight + begin, sum, end - begin);
    }
}

/* By counting, so edges of one weight stay in the order of their pixels. */
static void sort(struct graph *graph)
{
    const int64_t pixels = graph->height * graph->width;
    uint32_t *begin = graph->begin;
    memset(begin, 0, (GRAPH_WEIGHTS + 1) * sizeof *begin);
    for (int64_t i = 0; i < DIRECTIONS * pixels; i++)
        begin[graph->weight[i] + 1]++;
    graph->edges = DIRECTIONS * pixels - begin[NO_EDGE + 1];
    for (int i = 0; i < GRAPH_WEIGHTS; i++)
        begin[i + 1] += begin[i];
    for (int64_t i = 0; i < pixels; i++)
        for (int64_t d = 0; d < DIRECTIONS; d++)
            graph->edge[begin[graph->weight[d * pixels + i]]++] = (uint32_t)(DIRECTIONS * i + d);
}

int graph_build(struct graph *graph, float *colour, int64_t channels, int64_t height, int64_t width,
                double sigma, struct ws2_error *error)
{
    const int64_t pixels = height * width;
    const int status = prepare(graph, height, width, error);
    if (status < 0)
        return status;
    for (int64_t i = 0; i < channels * pixels; i++)
        if (!isfinite(colour[i]))
            return ws2_fail(error, WS2_ERR_INPUT, "a colour that is not finite");
    if (sigma > 0) {
        float tap[TAPS_MAX], *row = ws2_calloc((size_t)width + TAPS_MAX, sizeof *row);
        const int radius = make_taps(sigma, tap);
        if (row == NULL)
            return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
        for (int64_t c = 0; c < channels; c++)
            smooth(colour + c * pixels, graph->plane, height, width, tap, radius, row);
        free(row);
    }
    for (int d = 0; d < DIRECTIONS; d++)
        weigh(graph, colour, channels, d);
    sort(graph);
    return 0;
}

/* ---- regions ------------------------------------------------------------------------------------------------ */

static inline int32_t root_of(int32_t *parent, int32_t i)
{
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

/* The larger region's root stays, and is returned. */
static inline struct graph_root *join(struct graph *graph, int32_t a, int32_t b)
{
    struct graph_root *root = graph->root;
    const int32_t kept = root[a].size >= root[b].size ? a : b, other = kept == a ? b : a;
    graph->parent[other] = kept;
    root[kept].size += root[other].size;
    return &root[kept];
}

static inline uint32_t weight_of(const struct graph *graph, uint32_t edge)
{
    return graph->weight[edge % DIRECTIONS * (graph->height * graph->width) + edge / DIRECTIONS];
}

enum { AHEAD = 24 }; /* edges: memory is asked for before it is needed */

static void join_alike(struct graph *graph, const int32_t step[DIRECTIONS], float k)
{
    int32_t *parent = graph->parent;
    const struct graph_root *root = graph->root;
    graph->open = 0;
    for (int64_t i = 0; i < graph->edges; i++) {
        const uint32_t edge = graph->edge[i];
        const int32_t from = (int32_t)(edge / DIRECTIONS), to = from + step[edge % DIRECTIONS];
        if (i + AHEAD < graph->edges)
            __builtin_prefetch(&parent[graph->edge[i + AHEAD] / DIRECTIONS]);
        if (parent[from] == parent[to])
            continue;
        const int32_t a = root_of(parent, from), b = root_of(parent, to);
        if (a == b)
            continue;
        const float weight = (float)weight_of(graph, edge);
        if (weight <= root[a].limit && weight <= root[b].limit) {
            struct graph_root *both = join(graph, a, b);
            both->limit = weight + k / (float)both->size;
        } else {
            graph->left[graph->open++] = edge;
        }
    }
}

static void join_small(struct graph *graph, const int32_t step[DIRECTIONS], int64_t least)
{
    for (int64_t i = 0; i < graph->open; i++) {
        const uint32_t edge = graph->left[i];
        const int32_t from = (int32_t)(edge / DIRECTIONS);
        const int32_t a = root_of(graph->parent, from),
                      b = root_of(graph->parent, from + step[edge % DIRECTIONS]);
        if (a != b && (graph->root[a].size < least || graph->root[b].size < least))
            join(graph, a, b);
    }
}

int64_t graph_cut(struct graph *graph, double k, int64_t least, int32_t *label)
{
    const int64_t pixels = graph->height * graph->width;
    const float steps = (float)(k * GRAPH_STEPS);
    int32_t step[DIRECTIONS], count = 0;
    for (int d = 0; d < DIRECTIONS; d++)
        step[d] = (int32_t)(step_y[d] * graph->width + step_x[d]);
    for (int64_t i = 0; i < pixels; i++) {
        graph->parent[i] = (int32_t)i;
        graph->root[i] = (struct graph_root){.size = 1, .limit = steps};
        label[i] = 0;
    }
    join_alike(graph, step, steps);
    join_small(graph, step, least);
    for (int64_t i = 0; i < pixels; i++) {
        const int32_t root = root_of(graph->parent, (int32_t)i);
        if (label[root] == 0)
            label[root] = ++count;
        label[i] = label[root];
    }
    return count;
}
