#include "mask/internal.h"

#include <string.h>

/* Components by runs: every stretch of equal bits in a row is a run; runs of neighbouring rows that touch are
 * joined in a forest whose roots are their first runs. The cost goes with the number of runs, not pixels. */

struct run {
    int32_t y, begin, end; /* pixels begin .. end-1 of row y */
    int32_t parent;        /* index of a run of the same component, never a later one */
    int64_t area;          /* of a root: pixels of the component */
    bool edge;             /* of a root: the component touches the edge of the image */
};

struct runs {
    struct run *run;
    int64_t count;
};

static int32_t root_of(struct run *run, int32_t index)
{
    while (run[index].parent != index) {
        run[index].parent = run[run[index].parent].parent;
        index = run[index].parent;
    }
    return index;
}

static void join(struct run *run, int32_t a, int32_t b)
{
    a = root_of(run, a);
    b = root_of(run, b);
    if (a < b)
        run[b].parent = a;
    else
        run[a].parent = b;
}

/* Appends the runs of one row. A bit of `change` is set where a pixel differs from the one before it. */
static void cut_row(struct runs *runs, const uint64_t *word, int64_t y, int64_t width, bool zeros)
{
    const int64_t words = (width + 63) / 64;
    struct run *run = runs->run + runs->count;
    uint64_t before = 0;
    bool open = false;
    for (int64_t i = 0; i < words; i++) {
        uint64_t bits = zeros ? ~word[i] : word[i];
        if (i == words - 1)
            bits &= mask_tail(width);
        uint64_t change = bits ^ (bits << 1 | before);
        before = bits >> 63;
        for (; change != 0; change &= change - 1) {
            const int32_t x = (int32_t)(64 * i + __builtin_ctzll(change));
            if (open) {
                run++->end = x;
            } else {
                const int32_t index = (int32_t)(run - runs->run);
                *run = (struct run){.y = (int32_t)y, .begin = x, .parent = index};
            }
            open = !open;
        }
    }
    if (open)
        run++->end = (int32_t)width;
    runs->count = run - runs->run;
}

/* Joins the runs [above, middle) of one row with the runs [middle, count) of the next. `corner` is 1 when
 * pixels that touch at a corner belong together. */
static void join_rows(struct runs *runs, int64_t above, int64_t middle, int corner)
{
    struct run *run = runs->run;
    int64_t a = above, b = middle;
    while (a < middle && b < runs->count) {
        if (run[a].begin < run[b].end + corner && run[b].begin < run[a].end + corner)
            join(run, (int32_t)a, (int32_t)b);
        if (run[a].end < run[b].end)
            a++;
        else
            b++;
    }
}

/* After it every run's parent is its root, and roots know area and edge. */
static void measure(struct runs *runs, const struct ws2_bits *bits)
{
    struct run *run = runs->run;
    for (int64_t i = 0; i < runs->count; i++) {
        const int32_t root = root_of(run, (int32_t)i);
        run[i].parent = root;
        run[root].area += run[i].end - run[i].begin;
        run[root].edge |=
            run[i].begin == 0 || run[i].end == bits->width || run[i].y == 0 || run[i].y == bits->height - 1;
    }
}

static int find_runs(struct runs *runs, const struct ws2_bits *bits, bool zeros,
                     struct ws2_bits_scratch *scratch, struct ws2_error *error)
{
    *runs = (struct runs){scratch->run, 0};
    if (bits->width > INT32_MAX - 1 || bits->height > INT32_MAX - 1)
        return ws2_fail(error, WS2_ERR_USAGE, "a mask of %lld x %lld pixels is too large for components",
                        (long long)bits->width, (long long)bits->height);
    const int64_t most = bits->width / 2 + 1; /* runs of a row */
    int64_t above = 0;
    for (int64_t y = 0; y < bits->height; y++) {
        const size_t need = (size_t)(runs->count + most) * sizeof(struct run);
        if (need > scratch->run_capacity) {
            if (runs->count + most > INT32_MAX ||
                ws2_reserve(&scratch->run, &scratch->run_capacity, need + need / 2) != WS2_OK)
                return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for components");
            runs->run = scratch->run;
        }
        const int64_t middle = runs->count;
        cut_row(runs, bits->word + y * bits->stride, y, bits->width, zeros);
        join_rows(runs, above, middle, zeros ? 0 : 1);
        above = middle;
    }
    measure(runs, bits);
    return WS2_OK;
}

/* Inverts the pixels of a run. */
static void toggle(struct ws2_bits *bits, const struct run *run)
{
    uint64_t *word = bits->word + run->y * bits->stride;
    for (int64_t i = run->begin / 64; i <= (run->end - 1) / 64; i++) {
        const int64_t low = run->begin - 64 * i, high = run->end - 64 * i;
        uint64_t mask = low > 0 ? ~(uint64_t)0 << low : ~(uint64_t)0;
        if (high < 64)
            mask &= mask_tail(high);
        word[i] ^= mask;
    }
}

int ws2_bits_fill_holes(struct ws2_bits *bits, double area, struct ws2_bits_scratch *scratch,
                        struct ws2_error *error)
{
    struct runs runs;
    const int status = find_runs(&runs, bits, true, scratch, error);
    for (int64_t i = 0; status == WS2_OK && i < runs.count; i++) {
        const struct run *root = &runs.run[runs.run[i].parent];
        if (!root->edge && (double)root->area <= area)
            toggle(bits, &runs.run[i]);
    }
    return status;
}

int ws2_bits_drop_small(struct ws2_bits *bits, double area, struct ws2_bits_scratch *scratch,
                        struct ws2_error *error)
{
    struct runs runs;
    const int status = find_runs(&runs, bits, false, scratch, error);
    for (int64_t i = 0; status == WS2_OK && i < runs.count; i++) {
        if ((double)runs.run[runs.run[i].parent].area < area)
            toggle(bits, &runs.run[i]);
    }
    return status;
}

int64_t ws2_bits_label(const struct ws2_bits *bits, int32_t *label, struct ws2_bits_scratch *scratch,
                       struct ws2_error *error)
{
    struct runs runs;
    const int status = find_runs(&runs, bits, false, scratch, error);
    if (status != WS2_OK)
        return status;
    memset(label, 0, (size_t)(bits->height * bits->width) * sizeof *label);
    int32_t components = 0;
    for (int64_t i = 0; i < runs.count; i++) {
        /* A root comes before all its runs; its area is not needed any more and takes the number. */
        struct run *run = &runs.run[i], *root = &runs.run[run->parent];
        if (root == run)
            root->area = ++components;
        int32_t *row = label + run->y * bits->width;
        for (int32_t x = run->begin; x < run->end; x++)
            row[x] = (int32_t)root->area;
    }
    return components;
}
