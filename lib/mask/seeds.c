/* What class maps are sure of: see mask.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "mask/mask.h"

/* One call: labels are the belt, 0, and the classes behind it. */
struct task {
    struct ws2_seeder *seeder;
    const struct ws2_seed_options *options;
    const uint8_t *rgb;
    const float *map;
    int labels;
    int64_t height, width, pixels, rows, columns;
    struct ws2_error *error;
};

void ws2_seeder_free(struct ws2_seeder *seeder)
{
    ws2_crf_free(seeder->crf);
    free(seeder->plane);
    free(seeder->sum);
    free(seeder->label[0]);
    free(seeder->label[1]);
    *seeder = (struct ws2_seeder){0};
}

/* The label with the largest of value[labels], `stride` apart; the first of equal ones. */
static uint8_t find_most(const float *value, int labels, int64_t stride)
{
    int most = 0;
    for (int l = 1; l < labels; l++)
        if (value[l * stride] > value[most * stride])
            most = l;
    return (uint8_t)most;
}

/* The place in a picture at the middle of cell i. */
static int64_t middle(int64_t i, int grid, int64_t extent)
{
    const int64_t at = i * grid + grid / 2;
    return at < extent ? at : extent - 1;
}

static int run_crf(const struct task *t)
{
    float *plane = t->seeder->plane;
    return ws2_crf_run(&t->seeder->crf, &t->options->crf, t->rgb, t->height, t->width, plane, t->labels,
                       plane, t->error);
}

/* ---- AffinityNet ---------------------------------------------------------------------------------------------- */

/* The largest map of pixel i. */
static float largest(const struct task *t, int64_t i)
{
    float most = 0;
    for (int c = 0; c + 1 < t->labels; c++)
        most = fmaxf(most, t->map[c * t->pixels + i]);
    return most;
}

/* sum[labels,rows,columns] of what the CRF makes of the maps and of a belt that is the complement to the exponent. */
static int sum_cells(const struct task *t, double exponent)
{
    float *plane = t->seeder->plane, *sum = t->seeder->sum;
    const int grid = t->options->grid;
    for (int64_t i = 0; i < t->pixels; i++)
        plane[i] = (float)pow(1 - (double)largest(t, i), exponent);
    memcpy(plane + t->pixels, t->map, (size_t)(t->labels - 1) * (size_t)t->pixels * sizeof *plane);
    ws2_crf_unary_probability(plane, (size_t)t->labels * (size_t)t->pixels, plane);
    const int status = run_crf(t);
    memset(sum, 0, (size_t)t->labels * (size_t)(t->rows * t->columns) * sizeof *sum);
    for (int64_t y = 0; y < t->labels * t->height; y++) {
        float *to = sum + (y / t->height * t->rows + y % t->height / grid) * t->columns;
        for (int64_t x = 0; x < t->width; x++)
            to[x / grid] += plane[y * t->width + x];
    }
    return status;
}

static int seed_psa(const struct task *t, uint8_t *seed)
{
    const int64_t cells = t->rows * t->columns;
    int status = sum_cells(t, t->options->low);
    for (int64_t i = 0; status >= 0 && i < cells; i++) {
        const uint8_t label = find_most(t->seeder->sum + i, t->labels, cells);
        seed[i] = label ? label : WS2_SEED_UNKNOWN;
    }
    if (status >= 0)
        status = sum_cells(t, t->options->high);
    for (int64_t i = 0; status >= 0 && i < cells; i++)
        if (find_most(t->seeder->sum + i, t->labels, cells) == 0)
            seed[i] = 0;
    return status;
}

/* ---- IRN ------------------------------------------------------------------------------------------------------ */

/* label[h,w] after a CRF over the labels that have most where the belt has `level`. */
static int label_pixels(const struct task *t, double level, uint8_t *label)
{
    float *plane = t->seeder->plane;
    for (int64_t i = 0; i < t->pixels; i++) {
        const uint8_t class = find_most(t->map + i, t->labels - 1, t->pixels);
        label[i] = t->map[class * t->pixels + i] > (float)level ? (uint8_t)(class + 1) : 0;
    }
    int status = ws2_crf_unary_label(label, (size_t)t->pixels, t->labels, 0.7, plane, t->error);
    if (status >= 0)
        status = run_crf(t);
    for (int64_t i = 0; status >= 0 && i < t->pixels; i++)
        label[i] = find_most(plane + i, t->labels, t->pixels);
    return status;
}

static int seed_irn(const struct task *t, uint8_t *seed)
{
    uint8_t *const *label = t->seeder->label;
    int status = label_pixels(t, t->options->high, label[0]);
    if (status >= 0)
        status = label_pixels(t, t->options->low, label[1]);
    for (int64_t i = 0; status >= 0 && i < t->rows * t->columns; i++) {
        const int64_t at = middle(i / t->columns, t->options->grid, t->height) * t->width +
                           middle(i % t->columns, t->options->grid, t->width);
        seed[i] = label[0][at] ? label[0][at] : label[1][at] ? WS2_SEED_UNKNOWN : 0;
    }
    return status;
}

/* ---- smoke ---------------------------------------------------------------------------------------------------- */

static int seed_levels(const struct task *t, uint8_t *seed)
{
    for (int64_t i = 0; i < t->rows * t->columns; i++) {
        const int64_t at = middle(i / t->columns, t->options->grid, t->height) * t->width +
                           middle(i % t->columns, t->options->grid, t->width);
        const uint8_t class = find_most(t->map + at, t->labels - 1, t->pixels);
        const float value = t->map[class * t->pixels + at];
        seed[i] = value >= (float)t->options->high  ? (uint8_t)(class + 1)
                  : value >= (float)t->options->low ? WS2_SEED_UNKNOWN
                                                    : 0;
    }
    return 0;
}

/* ---- both ----------------------------------------------------------------------------------------------------- */

static int check(const struct task *t)
{
    const struct ws2_seed_options *o = t->options;
    if (t->labels < 2 || t->labels > WS2_CRF_LABELS_MAX || o->grid < 1 || !(o->low >= 0) ||
        !(o->high >= o->low) || !isfinite(o->high))
        return ws2_fail(t->error, WS2_ERR_USAGE,
                        "seeds of %d classes between %g and %g on a grid of %d: not possible", t->labels - 1,
                        o->low, o->high, o->grid);
    for (int64_t i = 0; i < (t->labels - 1) * t->pixels; i++)
        if (!(t->map[i] >= 0 && t->map[i] <= 1))
            return ws2_fail(t->error, WS2_ERR_INPUT, "a class map holds a value that is not within 0..1");
    return 0;
}

static int reserve(const struct task *t)
{
    struct ws2_seeder *s = t->seeder;
    const size_t pixels = (size_t)t->pixels, labels = (size_t)t->labels,
                 cells = (size_t)(t->rows * t->columns);
    if (ws2_reserve((void **)&s->plane, &s->plane_capacity, labels * pixels * sizeof *s->plane) < 0 ||
        ws2_reserve((void **)&s->sum, &s->sum_capacity, labels * cells * sizeof *s->sum) < 0 ||
        ws2_reserve((void **)&s->label[0], &s->label_capacity[0], pixels) < 0 ||
        ws2_reserve((void **)&s->label[1], &s->label_capacity[1], pixels) < 0)
        return ws2_fail(t->error, WS2_ERR_SYSTEM, "out of memory");
    return 0;
}

int ws2_seeds_make(struct ws2_seeder *seeder, const struct ws2_seed_options *options, const uint8_t *rgb,
                   const float *map, int classes, int64_t height, int64_t width, uint8_t *seed,
                   struct ws2_error *error)
{
    const int grid = options->grid > 0 ? options->grid : 1;
    const struct task task = {.seeder = seeder,
                              .options = options,
                              .rgb = rgb,
                              .map = map,
                              .labels = classes + 1,
                              .height = height,
                              .width = width,
                              .pixels = height * width,
                              .rows = (height + grid - 1) / grid,
                              .columns = (width + grid - 1) / grid,
                              .error = error};
    int status = check(&task);
    if (status >= 0)
        status = reserve(&task);
    if (status < 0 || task.pixels == 0)
        return status;
    switch (options->rule) {
    case WS2_SEEDS_PSA:
        return seed_psa(&task, seed);
    case WS2_SEEDS_IRN:
        return seed_irn(&task, seed);
    default:
        return seed_levels(&task, seed);
    }
}
