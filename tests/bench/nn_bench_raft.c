/*
 * Pairs of frames per second through RAFT, small and large, from bytes to flow in memory, with OMP_NUM_THREADS threads.
 * One way: the flow of a pair, nothing known of it before. Both ways: a frame of a stream, whose predecessor was
 * encoded already, and both flows between them. SIZE=256 UPDATES=12 SECONDS_EACH=4
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "share.h"
#include "models/raft.h"

/* What a run needs: two frames of noise, moved against each other by three pixels, and room for two flows. */
struct bench {
    struct nn *nn;
    struct raft *raft;
    int side, updates;
    uint8_t *rgb[2];
    struct raft_frame before; /* the first one, encoded */
    float *out;
};

static void paint(struct bench *bench)
{
    const size_t row = (size_t)bench->side * 3, bytes = row * (size_t)bench->side;
    struct ws2_random random = ws2_random_make(0, 0);
    uint8_t *noise = ws2_calloc(bytes + 9, 1);
    for (size_t i = 0; i < bytes + 9; i++)
        noise[i] = (uint8_t)ws2_random_u64(&random);
    bench->rgb[0] = noise;
    bench->rgb[1] = noise + 9;
}

static struct raft_frame encode(const struct bench *bench, int which, bool context)
{
    struct nn_tensor *x = raft_images_u8(bench->raft, 1, bench->side, bench->side, bench->rgb[which]);
    return raft_encode(bench->raft, x, context);
}

static void one_way(const struct bench *bench)
{
    const struct raft_frame a = encode(bench, 0, true), b = encode(bench, 1, false);
    const size_t count = 2 * (size_t)bench->side * (size_t)bench->side;
    nn_to_f32(bench->nn, raft_flow(bench->raft, &a, &b, bench->updates), bench->out, count);
}

static void both_ways(const struct bench *bench)
{
    const size_t count = 2 * (size_t)bench->side * (size_t)bench->side;
    const struct raft_frame b = encode(bench, 1, true);
    struct nn_tensor *flow[2];
    raft_pair(bench->raft, &bench->before, &b, bench->updates, flow);
    nn_to_f32(bench->nn, flow[0], bench->out, count);
    nn_to_f32(bench->nn, flow[1], bench->out + count, count);
}

/* Prints how often a second the function can be called: a warm-up, then for SECONDS, at least twice. */
static void measure(const struct bench *bench, const char *what, void (*run)(const struct bench *))
{
    const double seconds = setting("SECONDS_EACH", 4);
    double began = 0, spent = 0;
    int rounds = -1;
    for (; rounds < 2 || spent < seconds; rounds++) {
        if (rounds == 0)
            began = now();
        nn_scope_begin(bench->nn);
        run(bench);
        nn_scope_end(bench->nn);
        spent = rounds < 0 ? 0 : now() - began;
    }
    printf("raft %s %s\t%.4f\tpairs/s\n", raft_size_name(raft_size(bench->raft)), what, rounds / spent);
}

static int run(struct bench *bench, enum raft_size size, struct ws2_error *error)
{
    int status = raft_open(&bench->raft, bench->nn, size, 0, error);
    if (status < 0)
        return status;
    nn_scope_begin(bench->nn);
    bench->before = encode(bench, 0, true);
    measure(bench, "one way", one_way);
    measure(bench, "both ways", both_ways);
    nn_scope_end(bench->nn);
    raft_close(bench->raft);
    return nn_check(bench->nn, error);
}

int main(void)
{
    struct ws2_error error = {0};
    struct bench bench = {.side = setting("SIZE", 256), .updates = setting("UPDATES", RAFT_UPDATES)};
    const int threads = setting("OMP_NUM_THREADS", (int)sysconf(_SC_NPROCESSORS_ONLN));
    const struct nn_options options = {.device = NN_DEVICE_CPU, .precision = NN_F32_MODE, .threads = threads};
    paint(&bench);
    bench.out = ws2_calloc(4 * (size_t)bench.side * (size_t)bench.side, sizeof *bench.out);
    int status = nn_open(&bench.nn, &options, &error);
    for (int size = RAFT_SMALL; status >= 0 && size <= RAFT_LARGE; size++)
        status = run(&bench, (enum raft_size)size, &error);
    if (status < 0)
        fprintf(stderr, "nn_bench_raft: %s\n", error.text);
    nn_close(bench.nn);
    free(bench.out);
    free(bench.rgb[0]);
    return status < 0;
}
