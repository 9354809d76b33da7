/*
 * SAM 2 with random weights, OMP_NUM_THREADS threads: pictures per second through the encoder, prompts of one click per
 * second through the decoder in batches of 16, and pictures per second through the whole generator, a grid of GRID x GRID
 * points with the filters of the scores open (few masks of random weights pass them).
 * SIZE=512 (of the picture) SIDE=1024 (of the network) GRID=4 SECONDS_EACH=4 MODELS=tiny,small,base_plus,large (tiny unless set)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "share.h"
#include "models/sam2_generate.h"

enum { PROMPTS = 16 };

struct bench {
    struct nn *nn;
    struct sam2 *sam2;
    int size, side, grid;
    uint8_t *rgb;
    struct sam2_embedding embedding;
    float *out;
};

static void encode(const struct bench *bench)
{
    struct nn_tensor *x =
        sam2_embed_u8(bench->sam2, 1, bench->size, bench->size, bench->rgb, bench->side).image;
    nn_to_f32(bench->nn, x, bench->out, (size_t)nn_count(x));
}

static void decode(const struct bench *bench)
{
    float point[PROMPTS][2];
    int8_t label[PROMPTS];
    memset(label, SAM2_INSIDE, sizeof label);
    for (int i = 0; i < PROMPTS; i++) {
        point[i][0] = (float)(bench->size * (i % 4)) / 4;
        point[i][1] = (float)(bench->size * (i / 4)) / 4;
    }
    const struct sam2_prompts prompts = {PROMPTS, 1, point[0], label, NULL, NULL};
    const struct sam2_masks m = sam2_decode(bench->sam2, &bench->embedding, 0, &prompts, true);
    nn_to_f32(bench->nn, m.logits, bench->out, (size_t)nn_count(m.logits));
}

static void generate(const struct bench *bench)
{
    struct sam2_generate_options options = sam2_generate_defaults();
    struct sam2_found found = {0};
    options.points_per_side = bench->grid;
    options.side = bench->side;
    options.iou = options.stability = 0;
    sam2_generate(bench->sam2, &options, bench->size, bench->size, bench->rgb, &found, NULL);
    sam2_found_free(&found);
}

/* Prints `each` times how often a second the function can be called: a warm-up, then for SECONDS_EACH. */
static void measure(const struct bench *bench, const char *what, const char *unit, int each,
                    void (*run)(const struct bench *))
{
    const double seconds = setting("SECONDS_EACH", 4);
    double began = 0, spent = 0;
    int rounds = -1;
    for (; rounds < 1 || spent < seconds; rounds++) {
        if (rounds == 0)
            began = now();
        nn_scope_begin(bench->nn);
        run(bench);
        nn_scope_end(bench->nn);
        spent = rounds < 0 ? 0 : now() - began;
    }
    printf("sam2 %s %s\t%.4f\t%s\n", sam2_size_name(sam2_size(bench->sam2)), what, each * rounds / spent,
           unit);
    fflush(stdout);
}

static int run(struct bench *bench, enum sam2_size size, struct ws2_error *error)
{
    int status = sam2_open(&bench->sam2, bench->nn, size, 0, error);
    if (status < 0)
        return status;
    nn_scope_begin(bench->nn);
    measure(bench, "encode", "pictures/s", 1, encode);
    bench->embedding = sam2_embed_u8(bench->sam2, 1, bench->size, bench->size, bench->rgb, bench->side);
    measure(bench, "decode", "prompts/s", PROMPTS, decode);
    if (bench->grid > 0)
        measure(bench, "generate", "pictures/s", 1, generate);
    nn_scope_end(bench->nn);
    sam2_close(bench->sam2);
    return nn_check(bench->nn, error);
}

static void paint(struct bench *bench)
{
    const size_t bytes = 3 * (size_t)bench->size * (size_t)bench->size;
    struct ws2_random random = ws2_random_make(0, 0);
    bench->rgb = ws2_calloc(bytes, 1);
    for (size_t i = 0; i < bytes; i++)
        bench->rgb[i] = (uint8_t)ws2_random_u64(&random);
}

int main(void)
{
    struct ws2_error error = {0};
    struct bench bench = {
        .size = setting("SIZE", 512), .side = setting("SIDE", SAM2_SIDE), .grid = setting("GRID", 4)};
    const char *models = getenv("MODELS") ? getenv("MODELS") : "tiny";
    const int threads = setting("OMP_NUM_THREADS", (int)sysconf(_SC_NPROCESSORS_ONLN));
    const struct nn_options options = {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .threads = threads};
    const size_t cells = (size_t)bench.side / 4 * (size_t)bench.side / 4;
    paint(&bench);
    bench.out = ws2_calloc(3 * PROMPTS * cells, sizeof *bench.out);
    int status = nn_open(&bench.nn, &options, &error);
    for (int size = SAM2_TINY; status >= 0 && size <= SAM2_LARGE; size++)
        if (strstr(models, sam2_size_name((enum sam2_size)size)))
            status = run(&bench, (enum sam2_size)size, &error);
    if (status < 0)
        fprintf(stderr, "nn_bench_sam2: %s\n", error.text);
    nn_close(bench.nn);
    free(bench.out);
    free(bench.rgb);
    return status < 0;
}
