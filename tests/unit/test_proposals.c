/* Regions of like colour against the definition, step by step; pieces of masks by hand; layers of overlapping masks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "mask/regions.h"

enum { SIDE = 24, PIXELS = SIDE * SIDE };

/* Proposals of a call, in plain memory. */
struct found {
    int64_t count, layers;
    uint16_t layer[20 * 64 * 64];
    int32_t box[4 * 4096];
    float stability[4096];
};

static void find(struct found *found, const struct ws2_proposals_params *params, float *colour,
                 int64_t channels, const uint8_t *fg, int64_t height, int64_t width)
{
    struct ws2_proposals *proposals = NULL;
    struct ws2_error error = {0};
    found->count = ws2_proposals_make(&proposals, params, colour, channels, fg, height, width, &error);
    assert_true(found->count >= 0);
    const struct ws2_masks masks = ws2_proposals_masks(proposals);
    assert_int_equal(masks.count, found->count);
    found->layers = masks.layers;
    memcpy(found->layer, masks.layer, (size_t)(masks.layers * height * width) * sizeof *masks.layer);
    memcpy(found->box, masks.box, 4 * (size_t)masks.count * sizeof *masks.box);
    memcpy(found->stability, masks.stability, (size_t)masks.count * sizeof *masks.stability);
    ws2_proposals_free(proposals);
}

/* ---- regions, step by step ------------------------------------------------------------------------------- */

struct edge {
    int weight, from, to;
};

static int by_weight(const void *a, const void *b)
{
    return ((const struct edge *)a)->weight - ((const struct edge *)b)->weight;
}

static void rename_all(int *name, int count, int from, int to)
{
    for (int i = 0; i < count; i++)
        name[i] = name[i] == from ? to : name[i];
}

static int size_of(const int *name, int count, int which)
{
    int size = 0;
    for (int i = 0; i < count; i++)
        size += name[i] == which;
    return size;
}

static int list_edges(struct edge *edge, const float *colour, int channels, int height, int width)
{
    static const int dy[] = {0, 1, 1, 1}, dx[] = {1, -1, 0, 1};
    int edges = 0;
    for (int p = 0; p < height * width; p++)
        for (int d = 0; d < 4; d++) {
            const int y = p / width + dy[d], x = p % width + dx[d], q = y * width + x;
            float sum = 0;
            if (y >= height || x < 0 || x >= width)
                continue;
            for (int c = 0; c < channels; c++) {
                const float difference = colour[c * height * width + p] - colour[c * height * width + q];
                sum += difference * difference;
            }
            edge[edges++] = (struct edge){(int)(sqrtf(sum) * 131072 + 0.5f), p, q};
        }
    return edges;
}

/* name[h,w] of the regions, as the paper has it: sets are joined by renaming, sizes are counted anew. */
static void segment(int *name, const float *colour, int channels, int height, int width, double k, int least)
{
    static struct edge edge[4 * PIXELS];
    static float inner[PIXELS];
    const int pixels = height * width, edges = list_edges(edge, colour, channels, height, width);
    qsort(edge, (size_t)edges, sizeof *edge, by_weight); /* glibc's is stable for arrays of this size */
    for (int i = 0; i < pixels; i++) {
        name[i] = i;
        inner[i] = 0;
    }
    for (int i = 0; i < edges; i++) {
        const int a = name[edge[i].from], b = name[edge[i].to];
        const float w = (float)edge[i].weight, steps = (float)(k * 131072);
        if (a == b || w > inner[a] + steps / (float)size_of(name, pixels, a) ||
            w > inner[b] + steps / (float)size_of(name, pixels, b))
            continue;
        rename_all(name, pixels, b, a);
        inner[a] = w;
    }
    for (int i = 0; i < edges; i++) {
        const int a = name[edge[i].from], b = name[edge[i].to];
        if (a != b && (size_of(name, pixels, a) < least || size_of(name, pixels, b) < least))
            rename_all(name, pixels, b, a);
    }
}

/* Soft blobs and noise. */
static void paint(struct ws2_random *random, float *colour, int channels, int height, int width)
{
    for (int c = 0; c < channels; c++) {
        const double cx = ws2_random_range(random, 0, width), cy = ws2_random_range(random, 0, height),
                     r = ws2_random_range(random, 1, 9), high = ws2_random_range(random, -40, 40);
        for (int i = 0; i < height * width; i++) {
            const double d = hypot(i % width - cx, i / width - cy) / r;
            colour[c * height * width + i] = (float)(high / (1 + d * d) + ws2_random_normal(random));
        }
    }
}

/* Two partitions are the same: equal labels where names are equal. */
static void same_partition(const int32_t *label, const int *name, int pixels)
{
    int of_name[PIXELS], of_label[PIXELS + 1];
    memset(of_name, -1, sizeof of_name);
    memset(of_label, -1, sizeof of_label);
    for (int i = 0; i < pixels; i++) {
        if (of_name[name[i]] < 0)
            of_name[name[i]] = label[i];
        if (of_label[label[i]] < 0)
            of_label[label[i]] = name[i];
        assert_int_equal(of_name[name[i]], label[i]);
        assert_int_equal(of_label[label[i]], name[i]);
    }
}

/* Three scales of one graph, memory kept from one size to the next. */
static void test_regions(void **state)
{
    (void)state;
    static float colour[3 * PIXELS];
    static int name[PIXELS];
    static int32_t label[PIXELS];
    struct graph graph = {0};
    struct ws2_random random = ws2_random_make(5, 0);
    int64_t regions = 0;
    for (int i = 0; i < 60; i++) {
        const int channels = 1 + i % 3, height = 1 + (int)ws2_random_below(&random, SIDE),
                  width = 1 + (int)ws2_random_below(&random, SIDE),
                  least = 1 + (int)ws2_random_below(&random, 12);
        double k = ws2_random_range(&random, 0.5, 8);
        paint(&random, colour, channels, height, width);
        assert_int_equal(graph_build(&graph, colour, channels, height, width, 0, NULL), 0);
        for (int scale = 0; scale < 3; scale++, k *= ws2_random_range(&random, 1, 4)) {
            segment(name, colour, channels, height, width, k, least);
            regions += graph_cut(&graph, k, least, label);
            same_partition(label, name, height * width);
        }
    }
    assert_true(regions > 1000); /* there is something to compare */
    graph_free(&graph);
}

/* ---- pooling ---------------------------------------------------------------------------------------------- */

/* Two halves of one colour each, at three scales: the same two regions each time, so two masks of stability 1. */
static void test_once(void **state)
{
    (void)state;
    static struct found found;
    float colour[64];
    uint8_t fg[64];
    for (int i = 0; i < 64; i++) {
        colour[i] = i % 8 < 3 ? 0 : 50;
        fg[i] = i % 8 >= 3;
    }
    const struct ws2_proposals_params params = {.k = {1, 2, 3}, .levels = 3, .least = 4};
    find(&found, &params, colour, 1, NULL, 8, 8);
    assert_int_equal(found.count, 2);
    assert_int_equal(found.layers, 1);
    for (int i = 0; i < 64; i++)
        assert_int_equal(found.layer[i], i % 8 < 3 ? 2 : 1); /* the larger first */
    const int32_t box[] = {3, 0, 8, 8, 0, 0, 3, 8};
    assert_memory_equal(found.box, box, sizeof box);
    assert_float_equal(found.stability[0], 1, 1e-6);
    assert_float_equal(found.stability[1], 1, 1e-6);
    find(&found, &params, colour, 1, fg, 8, 8); /* a foreground that is one of them adds none */
    assert_int_equal(found.count, 2);
    for (int i = 0; i < 64; i++)
        colour[i] = 7;
    find(&found, &params, colour, 1, NULL, 8, 8); /* one colour: one mask, the whole picture */
    assert_int_equal(found.count, 1);
}

/* Two squares of 9 x 9 pixels, joined by a bridge of `bridge` rows. */
static void dumb_bell(uint8_t *fg, int bridge)
{
    memset(fg, 0, 32 * 32);
    for (int y = 5; y < 14; y++)
        for (int x = 3; x < 27; x++)
            fg[32 * y + x] = x < 12 || x >= 18 || (y >= 9 - bridge / 2 && y < 9 - bridge / 2 + bridge);
}

static void test_pieces(void **state)
{
    (void)state;
    static struct found found;
    static float colour[32 * 32];
    uint8_t fg[32 * 32];
    const struct ws2_proposals_params params = {.least = 1, .neck = 0.75};
    dumb_bell(fg, 3);
    find(&found, &params, colour, 1, fg, 32, 32);
    assert_int_equal(found.count, 3); /* the whole, and two pieces */
    assert_int_equal(found.layers, 2);
    assert_float_equal(found.stability[0], 1, 1e-6);
    assert_float_equal(found.stability[1], 1 - 2.0 / 5, 1e-6); /* half widths 2 and 5 */
    assert_float_equal(found.stability[2], 1 - 2.0 / 5, 1e-6);
    const int pieces = found.layer[32 * 9 + 7] == 1; /* which layer has the whole */
    const uint16_t *piece = found.layer + 32 * 32 * pieces;
    assert_int_not_equal(piece[32 * 9 + 7], piece[32 * 9 + 22]);
    for (int i = 0; i < 32 * 32; i++)
        assert_int_equal(piece[i] != 0, fg[i] != 0);
    dumb_bell(fg, 0); /* two parts, which are their own pieces */
    find(&found, &params, colour, 1, fg, 32, 32);
    assert_int_equal(found.count, 2);
    dumb_bell(fg, 7); /* a bridge nearly as wide */
    find(&found, &params, colour, 1, fg, 32, 32);
    assert_int_equal(found.count, 1);
    memset(fg, 1, sizeof fg); /* nothing but foreground */
    find(&found, &params, colour, 1, fg, 32, 32);
    assert_int_equal(found.count, 1);
    memset(fg, 0, sizeof fg);
    find(&found, &params, colour, 1, fg, 32, 32);
    assert_int_equal(found.count, 0);
    assert_int_equal(found.layers, 0);
}

static void test_distance(void **state)
{
    (void)state;
    enum { H = 20, W = 31 };
    uint8_t fg[H * W];
    int32_t label[H * W];
    struct pieces pieces = {0};
    struct ws2_random random = ws2_random_make(9, 0);
    for (int i = 0; i < 60; i++) {
        for (int p = 0; p < H * W; p++)
            fg[p] = ws2_random_below(&random, 1 + 4 * i) != 0;
        assert_true(pieces_cut(&pieces, fg, H, W, 1, label, NULL) >= 0);
        for (int p = 0; p < H * W; p++) {
            int best = (H + W) * (H + W); /* where nothing is outside */
            for (int q = 0; q < H * W; q++) {
                const int dy = p / W - q / W, dx = p % W - q % W;
                if (fg[q] == 0 && dy * dy + dx * dx < best)
                    best = dy * dy + dx * dx;
            }
            assert_float_equal(pieces.distance[p], sqrtf((float)best), 0);
            assert_int_equal(label[p] != 0, fg[p] != 0);
        }
    }
    pieces_free(&pieces);
}

/* Without necks pieces are the connected parts. */
static void test_no_necks(void **state)
{
    (void)state;
    enum { H = 33, W = 70 };
    static uint8_t fg[H * W];
    static int32_t label[H * W], part[H * W];
    struct pieces pieces = {0};
    struct ws2_bits bits = {0};
    struct ws2_bits_scratch scratch = {0};
    struct ws2_random random = ws2_random_make(10, 0);
    for (int i = 0; i < 30; i++) {
        for (int p = 0; p < H * W; p++)
            fg[p] = ws2_random_below(&random, 3) == 0;
        assert_int_equal(ws2_bits_reset(&bits, H, W, NULL), 0);
        ws2_bits_from_bytes(&bits, fg);
        assert_int_equal(pieces_cut(&pieces, fg, H, W, 0, label, NULL),
                         ws2_bits_label(&bits, part, &scratch, NULL));
        assert_memory_equal(label, part, sizeof part);
    }
    pieces_free(&pieces);
    ws2_bits_free(&bits);
    ws2_bits_scratch_free(&scratch);
}

/* ---- sizes and bad input ------------------------------------------------------------------------------------ */

static void test_odd(void **state)
{
    (void)state;
    static struct found found;
    float colour[12] = {0};
    uint8_t fg[12] = {1, 1};
    struct ws2_proposals_params params = ws2_proposals_defaults();
    params.least = 1;
    find(&found, &params, colour, 3, fg, 1, 1);
    assert_int_equal(found.count, 1);
    find(&found, &params, colour, 3, fg, 1, 4);
    find(&found, &params, colour, 3, fg, 4, 1);
    find(&found, &params, colour, 3, fg, 0, 4);
    assert_int_equal(found.count, 0);
    for (int i = 0; i < 12; i++) /* differences beyond all steps */
        colour[i] = i % 3 ? 1e38f : -1e38f;
    find(&found, &params, colour, 3, NULL, 2, 2);
    assert_int_equal(found.count, 4);
    memset(colour, 0, sizeof colour);
    struct ws2_proposals *proposals = NULL;
    struct ws2_error error = {0};
    colour[5] = NAN;
    assert_int_equal(ws2_proposals_make(&proposals, &params, colour, 3, NULL, 2, 2, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "a colour that is not finite");
    colour[5] = 0;
    assert_int_equal(ws2_proposals_make(&proposals, &params, colour, 3, NULL, 1 << 20, 1 << 20, NULL),
                     WS2_ERR_INPUT);
    params.levels = 17;
    assert_int_equal(ws2_proposals_make(&proposals, &params, colour, 3, NULL, 2, 2, NULL), WS2_ERR_USAGE);
    ws2_proposals_free(proposals);
}

/* More masks than a layer can number. */
static void test_too_many(void **state)
{
    (void)state;
    const struct ws2_proposals_params params = {.k = {1e-3}, .levels = 1, .least = 1};
    float *colour = ws2_calloc(300 * 300, sizeof *colour);
    struct ws2_proposals *proposals = NULL;
    struct ws2_error error = {0};
    for (int i = 0; i < 300 * 300; i++)
        colour[i] = (float)(i % 300 % 2 + 2 * (i / 300 % 2));
    assert_int_equal(ws2_proposals_make(&proposals, &params, colour, 1, NULL, 300, 300, &error),
                     WS2_ERR_INPUT);
    assert_string_equal(error.text, "90000 regions, at most 65535 are possible");
    ws2_proposals_free(proposals);
    free(colour);
}

/* ---- layers ------------------------------------------------------------------------------------------------- */

static void test_layers(void **state)
{
    (void)state;
    static const uint8_t mask[4][6] = {
        {1, 1, 0, 0, 0, 0}, {0, 1, 1, 0, 0, 0}, {0, 0, 0, 1, 1, 0}, {1, 1, 1, 1, 1, 1}};
    static const uint16_t want[3][6] = {{1, 1, 0, 3, 3, 0}, {0, 2, 2, 0, 0, 0}, {4, 4, 4, 4, 4, 4}};
    struct ws2_layers layers = {0};
    struct ws2_bits bits = {0};
    for (int again = 0; again < 2; again++) { /* memory is kept */
        assert_int_equal(ws2_layers_reset(&layers, 2, 3, NULL), 0);
        assert_int_equal(ws2_bits_reset(&bits, 2, 3, NULL), 0);
        for (int k = 0; k < 4; k++) {
            ws2_bits_from_bytes(&bits, mask[k]);
            assert_int_equal(ws2_layers_add(&layers, &bits, NULL), 0);
        }
        assert_int_equal(layers.layers, 3);
        assert_memory_equal(layers.layer, want, sizeof want);
    }
    struct ws2_instances instances = {.layers = 3, .height = 2, .width = 3, .layer = layers.layer};
    struct ws2_instances_index index = {0};
    uint8_t stack[4][6], byte[6];
    assert_int_equal(ws2_instances_find(&index, &instances, NULL), 0);
    assert_int_equal(index.count, 4);
    assert_int_equal(index.at[1].area, 2);
    assert_int_equal(index.at[1].left, 1);
    assert_int_equal(index.at[1].right, 3);
    assert_int_equal(index.at[2].top, 1);
    assert_int_equal(index.at[3].bottom, 2);
    ws2_instances_unpack(&instances, &index, stack[0]);
    assert_memory_equal(stack, mask, sizeof mask);
    for (int k = 0; k < 4; k++) {
        ws2_instances_bits(&instances, &index, k, &bits);
        ws2_bits_to_bytes(&bits, byte);
        assert_memory_equal(byte, mask[k], 6);
    }
    layers.layer[17] = 2; /* mask 2 in a second layer */
    struct ws2_error error = {0};
    assert_int_equal(ws2_instances_find(&index, &instances, &error), WS2_ERR_INPUT);
    assert_string_equal(error.text, "mask 2 has pixels in two layers");
    ws2_instances_index_free(&index);
    ws2_layers_free(&layers);
    ws2_bits_free(&bits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regions),  cmocka_unit_test(test_once),     cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_distance), cmocka_unit_test(test_no_necks), cmocka_unit_test(test_odd),
        cmocka_unit_test(test_too_many), cmocka_unit_test(test_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
