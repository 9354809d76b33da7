/* Regions of like colour: see regions.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "mask/regions.h"

enum { DIRECTIONS = 4 };
static const int step_y[DIRECTIONS] = {0, 1, 1, 1}, step_x[DIRECTIONS] = {1, -1, 0, 1};

static void free_forest(struct graph_forest *forest)
{
    free(forest->parent);
    free(forest->root);
}

void graph_free(struct graph *graph)
{
    free(graph->plane);
    free(graph->edge);
    free(graph->spare);
    free(graph->left);
    free_forest(&graph->trunk);
    free_forest(&graph->branch);
    *graph = (struct graph){0};
}

static int reserve_forest(struct graph_forest *forest, size_t pixels)
{
    const size_t parents = pixels * sizeof *forest->parent, roots = pixels * sizeof *forest->root;
    const int status = ws2_reserve((void **)&forest->parent, &forest->parent_capacity, parents);
    return status < 0 ? status : ws2_reserve((void **)&forest->root, &forest->root_capacity, roots);
}

static int prepare(struct graph *graph, int64_t height, int64_t width, struct ws2_error *error)
{
    const size_t pixels = (size_t)(height * width), count = DIRECTIONS * pixels,
                 floats = pixels > DIRECTIONS * (size_t)width ? pixels : DIRECTIONS * (size_t)width;
    if (ws2_reserve((void **)&graph->plane, &graph->plane_capacity, floats * sizeof *graph->plane) ||
        ws2_reserve((void **)&graph->edge, &graph->edge_capacity, count * sizeof *graph->edge) ||
        ws2_reserve((void **)&graph->spare, &graph->spare_capacity, count * sizeof *graph->spare) ||
        ws2_reserve((void **)&graph->left, &graph->left_capacity, count * sizeof *graph->left) ||
        reserve_forest(&graph->trunk, pixels) || reserve_forest(&graph->branch, pixels))
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

enum { HEAVIEST = (1 << 2 * GRAPH_DIGIT) - 4 }; /* the largest that two digits and a float can both hold */

WS2_CLONES
static void to_steps(float *weight, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const float steps = sqrtf(weight[i]) * GRAPH_STEPS + 0.5f;
        weight[i] = steps < HEAVIEST ? steps : HEAVIEST;
    }
}

/* weight[w] of the edges of row y in one direction; negative where it leads out of the picture. */
static void weigh_row(const struct graph *graph, const float *colour, int64_t channels, int64_t y,
                      int direction, float *weight)
{
    const int64_t h = graph->height, w = graph->width, dx = step_x[direction], dy = step_y[direction];
    const int64_t begin = dx < 0 ? 1 : 0, end = dx > 0 ? w - 1 : w;
    for (int64_t x = 0; x < w; x++)
        weight[x] = -1;
    if (y + dy >= h || begin >= end)
        return;
    memset(weight + begin, 0, (size_t)(end - begin) * sizeof *weight);
    for (int64_t c = 0; c < channels; c++) {
        const float *row = colour + (c * h + y) * w;
        add_squares(weight + begin, row + begin, row + begin + dy * w + dx, end - begin);
    }
    to_steps(weight + begin, end - begin);
}

/* Edges in the order of their pixels, and how often each digit stands in the weights: count[2,GRAPH_DIGITS]. */
static void list_edges(struct graph *graph, const float *colour, int64_t channels, uint32_t *count)
{
    const int64_t w = graph->width;
    struct graph_edge *edge = graph->edge;
    memset(count, 0, 2 * GRAPH_DIGITS * sizeof *count);
    for (int64_t y = 0; y < graph->height; y++) {
        for (int d = 0; d < DIRECTIONS; d++)
            weigh_row(graph, colour, channels, y, d, graph->plane + d * w);
        for (int64_t x = 0; x < w; x++)
            for (int64_t d = 0; d < DIRECTIONS; d++) {
                const float weight = graph->plane[d * w + x];
                if (weight < 0)
                    continue;
                *edge = (struct graph_edge){(uint32_t)weight, (uint32_t)(DIRECTIONS * (y * w + x) + d)};
                count[edge->weight % GRAPH_DIGITS]++;
                count[GRAPH_DIGITS + edge->weight / GRAPH_DIGITS]++;
                edge++;
            }
    }
    graph->edges = edge - graph->edge;
}

/* Edges in the order of one digit of their weights, those of one digit as they were; count becomes where each begins. */
static void sort_by_digit(const struct graph_edge *from, struct graph_edge *to, int64_t edges,
                          uint32_t *count, int shift)
{
    uint32_t sum = 0;
    for (int i = 0; i < GRAPH_DIGITS; i++) {
        const uint32_t here = count[i];
        count[i] = sum;
        sum += here;
    }
    for (int64_t i = 0; i < edges; i++)
        to[count[from[i].weight >> shift & (GRAPH_DIGITS - 1)]++] = from[i];
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
    uint32_t *count = ws2_calloc(2 * GRAPH_DIGITS, sizeof *count);
    if (count == NULL)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    list_edges(graph, colour, channels, count);
    sort_by_digit(graph->edge, graph->spare, graph->edges, count, 0);
    sort_by_digit(graph->spare, graph->edge, graph->edges, count + GRAPH_DIGITS, GRAPH_DIGIT);
    free(count);
    graph->grown = 0;
    for (int64_t i = 0; i < pixels; i++) {
        graph->trunk.parent[i] = (int32_t)i;
        graph->trunk.root[i] = (struct graph_root){.size = 1};
    }
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
static inline struct graph_root *join(struct graph_forest *forest, int32_t a, int32_t b)
{
    struct graph_root *root = forest->root;
    const int32_t kept = root[a].size >= root[b].size ? a : b, other = kept == a ? b : a;
    forest->parent[other] = kept;
    root[kept].size += root[other].size;
    return &root[kept];
}

static inline bool within_limit(float weight, const struct graph_root *root, float k)
{
    return weight <= root->inner + k / (float)root->size;
}

enum { AHEAD = 24 }; /* edges: memory is asked for before it is needed */

/* Joins along the edges from `begin` on. With `left` edges that join nothing are listed there, *kept in number; without,
 * the first of them is the end. Returns the edges seen before the end. */
static inline int64_t join_alike(const struct graph *graph, struct graph_forest *forest,
                                 const int32_t step[DIRECTIONS], float k, int64_t begin, uint32_t *left,
                                 int64_t *kept)
{
    int32_t *parent = forest->parent;
    const struct graph_root *root = forest->root;
    for (int64_t i = begin; i < graph->edges; i++) {
        const struct graph_edge edge = graph->edge[i];
        const int32_t from = (int32_t)(edge.place / DIRECTIONS), to = from + step[edge.place % DIRECTIONS];
        if (i + AHEAD < graph->edges)
            __builtin_prefetch(&parent[graph->edge[i + AHEAD].place / DIRECTIONS]);
        if (parent[from] == parent[to])
            continue;
        const int32_t a = root_of(parent, from), b = root_of(parent, to);
        if (a == b)
            continue;
        const float weight = (float)edge.weight;
        if (within_limit(weight, &root[a], k) && within_limit(weight, &root[b], k))
            join(forest, a, b)->inner = weight;
        else if (left == NULL)
            return i;
        else
            left[(*kept)++] = edge.place;
    }
    return graph->edges;
}

static void join_small(struct graph *graph, const int32_t step[DIRECTIONS], int64_t least)
{
    int32_t *parent = graph->branch.parent;
    const struct graph_root *root = graph->branch.root;
    for (int64_t i = 0; i < graph->left_edges; i++) {
        const int32_t from = (int32_t)(graph->left[i] / DIRECTIONS);
        const int32_t a = root_of(parent, from),
                      b = root_of(parent, from + step[graph->left[i] % DIRECTIONS]);
        if (a != b && (root[a].size < least || root[b].size < least))
            join(&graph->branch, a, b);
    }
}

int64_t graph_cut(struct graph *graph, double k, int64_t least, int32_t *label)
{
    const int64_t pixels = graph->height * graph->width;
    const float steps = (float)(k * GRAPH_STEPS);
    struct graph_forest *trunk = &graph->trunk, *branch = &graph->branch;
    int32_t step[DIRECTIONS], count = 0;
    for (int d = 0; d < DIRECTIONS; d++)
        step[d] = (int32_t)(step_y[d] * graph->width + step_x[d]);
    graph->grown = join_alike(graph, trunk, step, steps, graph->grown, NULL, NULL);
    memcpy(branch->parent, trunk->parent, (size_t)pixels * sizeof *branch->parent);
    memcpy(branch->root, trunk->root, (size_t)pixels * sizeof *branch->root);
    graph->left_edges = 0;
    join_alike(graph, branch, step, steps, graph->grown, graph->left, &graph->left_edges);
    join_small(graph, step, least);
    memset(label, 0, (size_t)pixels * sizeof *label);
    for (int64_t i = 0; i < pixels; i++) {
        const int32_t root = root_of(branch->parent, (int32_t)i);
        if (label[root] == 0)
            label[root] = ++count;
        label[i] = label[root];
    }
    return count;
}
