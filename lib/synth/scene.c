/* The scene: configuration, which items lie where on the endless belt, and how they move. */
#include "synth/internal.h"
#include <stdlib.h>

/* Farthest point of an item from its centre at scale 1, its shadow included, with a little to spare. */
#define REACH 0.22
/* Mean distance at which items of scale 1 are kept apart, for turning a density into a rate. */
#define APART 0.15

enum { RANDOM_CELL = 1, RANDOM_ITEM };

void ws2_synth_defaults(struct ws2_synth_config *config, enum ws2_synth_preset preset)
{
    *config = (struct ws2_synth_config){.width = 256,
                                        .height = 256,
                                        .direction = WS2_SYNTH_DOWN,
                                        .difference = WS2_SYNTH_MILD,
                                        .speed = 0.08,
                                        .density = 14,
                                        .overlap = 0.35,
                                        .scale = 1,
                                        .unwanted = 0.4,
                                        .miss = 0.05,
                                        .clear = 0.25,
                                        .hue = 0.4,
                                        .print = 1,
                                        .rolling = 0.15,
                                        .sliding = 0.06,
                                        .noise = 1,
                                        .drift = 0.04,
                                        .optics = 1};
    if (preset == WS2_SYNTH_CLEAR) {
        config->density = 7;
        config->overlap = 0.2;
        config->scale = 1.5;
        config->clear = 0.08;
        config->hue = 0.1;
        config->print = 0.15;
        config->rolling = 0.08;
        config->sliding = 0.03;
        config->noise = 0.5;
        config->drift = 0.02;
        config->optics = 0.6;
    } else if (preset == WS2_SYNTH_CROWDED) {
        config->density = 60;
        config->overlap = 1;
        config->difference = WS2_SYNTH_STRONG;
        config->hue = 0.6;
        config->clear = 0.3;
        config->noise = 1.5;
        config->drift = 0.08;
    }
}

int ws2_synth_parse_size(struct ws2_synth_config *config, const char *text, struct ws2_error *error)
{
    char *end;
    const long long width = strtoll(text, &end, 10);
    bool good = end != text;
    long long height = width;
    if (good && *end == 'x') {
        const char *second = end + 1;
        height = strtoll(second, &end, 10);
        good = end != second;
    }
    if (!good || *end || width < 1 || height < 1 || width > WS2_SYNTH_SIDE_MAX || height > WS2_SYNTH_SIDE_MAX)
        return ws2_fail(error, WS2_ERR_USAGE,
                        "size '%.40s' is neither N nor WIDTHxHEIGHT with sides of 1 to %d", text,
                        WS2_SYNTH_SIDE_MAX);
    config->width = width;
    config->height = height;
    return 0;
}

int ws2_synth_parse_density(struct ws2_synth_config *config, const char *text, struct ws2_error *error)
{
    static const struct {
        const char *name;
        double density, overlap;
    } known[] = {{"sparse", 5, 0.1}, {"normal", 14, 0.35}, {"dense", 30, 0.7}, {"crowded", 60, 1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(text, known[i].name) == 0) {
            config->density = known[i].density;
            config->overlap = known[i].overlap;
            return 0;
        }
    }
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value <= 100))
        return ws2_fail(
            error, WS2_ERR_USAGE,
            "density '%.40s' is neither sparse, normal, dense, crowded nor a number from 0 to 100", text);
    config->density = value;
    return 0;
}

static int check_range(const char *name, double value, double low, double high, struct ws2_error *error)
{
    if (value >= low && value <= high)
        return 0;
    return ws2_fail(error, WS2_ERR_USAGE, "%s %g is outside %g to %g", name, value, low, high);
}

static int check_config(const struct ws2_synth_config *c, struct ws2_error *error)
{
    if (c->width < 1 || c->width > WS2_SYNTH_SIDE_MAX || c->height < 1 || c->height > WS2_SYNTH_SIDE_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "size %lldx%lld is outside 1 to %d", (long long)c->width,
                        (long long)c->height, WS2_SYNTH_SIDE_MAX);
    if ((unsigned)c->direction > WS2_SYNTH_LEFT || (unsigned)c->difference > WS2_SYNTH_STRONG)
        return ws2_fail(error, WS2_ERR_USAGE, "unknown direction or camera difference");
    const struct {
        const char *name;
        double value, low, high;
    } row[] = {{"speed", c->speed, 0, 1},     {"density", c->density, 0, 100}, {"overlap", c->overlap, 0, 1},
               {"scale", c->scale, 0.2, 3},   {"unwanted", c->unwanted, 0, 1}, {"miss", c->miss, 0, 1},
               {"clear", c->clear, 0, 1},     {"hue overlap", c->hue, 0, 1},   {"print", c->print, 0, 1},
               {"rolling", c->rolling, 0, 1}, {"sliding", c->sliding, 0, 1},   {"noise", c->noise, 0, 10},
               {"drift", c->drift, 0, 0.5},   {"optics", c->optics, 0, 2}};
    int status = 0;
    for (size_t i = 0; i < sizeof row / sizeof *row && status == 0; i++)
        status = check_range(row[i].name, row[i].value, row[i].low, row[i].high, error);
    return status;
}

/* Items per unit of area that must be thrown so that `density` stay after those too near to another have been
 * taken away (Matern's second hard-core process: of a rate r a share (1 - exp(-r A)) / (r A) stays, A the area
 * around an item). Above 95 % of what can lie there it stays at that. */
static double thrown(const struct ws2_synth_config *config)
{
    const double reach = (1 - config->overlap) * APART * config->scale,
                 area = 3.14159265358979 * reach * reach;
    double filled = config->density * area;
    if (filled < 1e-6)
        return config->density;
    filled = filled > 0.95 ? 0.95 : filled;
    const double rate = -log(1 - filled) / area;
    return rate > 110 ? 110 : rate;
}

int ws2_synth_open(struct ws2_synth **synth, const struct ws2_synth_config *config,
                   const struct ws2_cutouts *cutouts, struct ws2_error *error)
{
    *synth = NULL;
    const int status = check_config(config, error);
    if (status < 0)
        return status;
    struct ws2_synth *made = ws2_calloc(1, sizeof *made);
    if (!made)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the scene");
    made->config = *config;
    made->cutouts = cutouts;
    made->unit = (double)(config->width > config->height ? config->width : config->height);
    made->px = (float)(1 / made->unit);
    const double mean = thrown(config) * CELL;
    made->cell_items = (int)(mean + 6 * sqrt(mean) + 8);
    made->cell_period = 65535 / made->cell_items;
    ws2_synth_make_camera(made);
    ws2_synth_make_rubber(made);
    *synth = made;
    return 0;
}

void ws2_synth_close(struct ws2_synth *synth)
{
    free(synth);
}

const struct ws2_synth_config *ws2_synth_config_of(const struct ws2_synth *synth)
{
    return &synth->config;
}

int64_t ws2_synth_id_period(const struct ws2_synth *synth)
{
    /* Items of up to 10 cells are near a frame at once. */
    const double length = (double)(synth->cell_period - 10) * CELL;
    return synth->config.speed > 1e-7 ? (int64_t)(length / synth->config.speed) : WS2_SYNTH_FRAME_MAX;
}

/* ---- places ----------------------------------------------------------------------------------------------- */

struct ws2_random ws2_synth_random(uint64_t seed, uint32_t kind, int64_t a, int64_t b)
{
    return ws2_random_make(seed, (uint64_t)kind << 56 ^ (uint64_t)a << 16 ^ (uint64_t)b);
}

double ws2_synth_travel(const struct ws2_synth *synth, int64_t t)
{
    return synth->config.speed * (double)t;
}

void ws2_synth_way(const struct ws2_synth *synth, double *x, double *y)
{
    static const double way[4][2] = {{0, 1}, {0, -1}, {1, 0}, {-1, 0}};
    *x = way[synth->config.direction][0];
    *y = way[synth->config.direction][1];
}

/* g: how far along the frame in the direction of travel, q: across. */
void ws2_synth_axes(const struct ws2_synth *synth, double g, double q, double *x, double *y)
{
    switch (synth->config.direction) {
    case WS2_SYNTH_DOWN:
        *x = q, *y = g;
        break;
    case WS2_SYNTH_UP:
        *x = q, *y = 1 - g;
        break;
    case WS2_SYNTH_RIGHT:
        *x = g, *y = q;
        break;
    default:
        *x = 1 - g, *y = q;
        break;
    }
}

/* Own motion starts to count where the item passes the middle of the frame, so that it stays bounded while
 * the item is in view and needs no memory. */
static struct pose pose_at(const struct ws2_synth *synth, const struct item *item, double travel)
{
    const double g = item->s + travel, since = g - 0.5;
    const double angle = item->angle + item->spin * since, c = cos(angle), s = sin(angle);
    double x, y;
    ws2_synth_axes(synth, g, item->q, &x, &y);
    x += item->drift_x * since - s * item->roll * since;
    y += item->drift_y * since + c * item->roll * since;
    const double turn = item->roll != 0 ? item->roll * since / item->belly : 0;
    return (struct pose){(float)x, (float)y, (float)c, (float)s, (float)cos(turn), (float)sin(turn)};
}

/* ---- which items -------------------------------------------------------------------------------------------- */

/* Knuth's product method; mean <= 60. */
static int poisson(struct ws2_random *random, double mean, int most)
{
    const double stop = exp(-mean);
    double product = ws2_random_uniform(random);
    int n = 0;
    while (product > stop && n < most) {
        product *= ws2_random_uniform(random);
        n++;
    }
    return n;
}

static void place_item(const struct ws2_synth *synth, int64_t cell, int k, struct item *item)
{
    const struct ws2_synth_config *config = &synth->config;
    struct ws2_random random = ws2_synth_random(config->seed, RANDOM_ITEM, cell, k);
    memset(item, 0, sizeof *item);
    item->s = ((double)cell + ws2_random_uniform(&random)) * CELL;
    item->q = ws2_random_range(&random, 0.03, 0.97);
    item->angle = (float)ws2_random_range(&random, -3.14159265, 3.14159265);
    item->priority = (float)ws2_random_uniform(&random);
    item->height = (float)ws2_random_uniform(&random);
    item->unwanted = ws2_random_uniform(&random) < config->unwanted;
    const double luck = ws2_random_uniform(&random);
    int64_t turn = cell % synth->cell_period;
    turn += turn < 0 ? synth->cell_period : 0;
    item->id = (uint16_t)(1 + turn * synth->cell_items + k);
    ws2_synth_make_item(synth, &random, item);
    item->height += item->moving ? 1 : 0;
    /* What the sorter took away is thinned out first, so that the rest lies as it lay before. */
    if (config->after && item->unwanted && luck >= config->miss)
        item->height = -1;
}

static bool too_near(const struct ws2_synth *synth, const struct item *a, const struct item *b)
{
    const double apart = (1 - synth->config.overlap) * (a->spread + b->spread);
    const double ds = a->s - b->s, dq = a->q - b->q;
    return ds * ds + dq * dq < apart * apart;
}

static void keep_apart(const struct ws2_synth *synth, const struct item *all, int count, bool *gone)
{
    if (synth->config.overlap >= 1)
        return;
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < i; j++) {
            if (too_near(synth, &all[i], &all[j]))
                gone[all[i].priority > all[j].priority ? i : j] = true;
        }
    }
}

static bool near_frame(const struct item *item, const struct pose *pose)
{
    const float r = item->radius * 1.05f + 2 * SHADOW;
    return pose->x > -r && pose->x < 1 + r && pose->y > -r && pose->y < 1 + r;
}

static int by_height(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->height != y->height)
        return x->height < y->height ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

void ws2_synth_heap_free(struct heap *heap)
{
    free(heap->item);
    for (int i = 0; i < 3; i++)
        free(heap->pose[i]);
    memset(heap, 0, sizeof *heap);
}

/* Keeps the items that are there and may be seen at t - 1, t or t + 1, from the bottom up. */
static int sift(const struct ws2_synth *synth, int64_t t, const bool *gone, struct heap *heap)
{
    int kept = 0;
    for (int i = 0; i < heap->count; i++) {
        struct item *item = &heap->item[i];
        bool seen = false;
        for (int k = 0; k < 3 && !gone[i] && item->height >= 0; k++) {
            const struct pose pose = pose_at(synth, item, ws2_synth_travel(synth, t + k - 1));
            seen = seen || near_frame(item, &pose);
        }
        if (seen)
            heap->item[kept++] = *item;
    }
    for (int i = 0; i < kept; i++)
        ws2_synth_outline(&heap->item[i]);
    return kept;
}

int ws2_synth_heap(const struct ws2_synth *synth, int64_t t, struct heap *heap, struct ws2_error *error)
{
    memset(heap, 0, sizeof *heap);
    const double view = (0.5 + REACH * synth->config.scale) / (1 - MOVE_MAX);
    const int64_t border = (int64_t)ceil(2 * REACH * synth->config.scale / CELL);
    const int64_t first = (int64_t)floor((0.5 - view - ws2_synth_travel(synth, t + 1)) / CELL) - border;
    const int64_t last = (int64_t)floor((0.5 + view - ws2_synth_travel(synth, t - 1)) / CELL) + border;
    const size_t room = (size_t)(last - first + 1) * (size_t)synth->cell_items;
    heap->item = ws2_calloc(room, sizeof *heap->item);
    bool *gone = ws2_calloc(room, sizeof *gone);
    if (!heap->item || !gone) {
        free(gone);
        ws2_synth_heap_free(heap);
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the items of frame %lld", (long long)t);
    }
    const double mean = thrown(&synth->config) * CELL;
    for (int64_t cell = first; cell <= last; cell++) {
        struct ws2_random random = ws2_synth_random(synth->config.seed, RANDOM_CELL, cell, 0);
        const int n = mean > 0 ? poisson(&random, mean, synth->cell_items) : 0;
        for (int k = 0; k < n; k++)
            place_item(synth, cell, k, &heap->item[heap->count++]);
    }
    keep_apart(synth, heap->item, heap->count, gone);
    heap->count = sift(synth, t, gone, heap);
    free(gone);
    qsort(heap->item, (size_t)heap->count, sizeof *heap->item, by_height);
    for (int k = 0; k < 3; k++) {
        heap->pose[k] = ws2_calloc((size_t)heap->count, sizeof *heap->pose[k]);
        if (!heap->pose[k]) {
            ws2_synth_heap_free(heap);
            return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for the items of frame %lld", (long long)t);
        }
        for (int i = 0; i < heap->count; i++)
            heap->pose[k][i] = pose_at(synth, &heap->item[i], ws2_synth_travel(synth, t + k - 1));
    }
    return 0;
}

int64_t ws2_synth_items(const struct ws2_synth *synth, int64_t t, struct ws2_synth_item *items, int64_t room,
                        struct ws2_error *error)
{
    struct heap heap;
    const int status = ws2_synth_heap(synth, t, &heap, error);
    if (status < 0)
        return status;
    for (int i = 0; i < heap.count && i < room; i++) {
        const struct item *item = &heap.item[i];
        const struct pose *pose = &heap.pose[1][i];
        items[i] = (struct ws2_synth_item){item->id,
                                           item->unwanted ? WS2_SYNTH_UNWANTED : WS2_SYNTH_WANTED,
                                           item->moving,
                                           pose->x * synth->unit,
                                           pose->y * synth->unit,
                                           item->radius * synth->unit};
    }
    const int count = heap.count;
    ws2_synth_heap_free(&heap);
    return count;
}
