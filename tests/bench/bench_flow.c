/* Flow fields a second of the simulated belt, in memory, on two threads that take a pair each. A pair gives two fields,
 * there and back, and their masks; making the pyramid of one frame from RGB counts. Peer: OpenCV's DIS, medium. */
#include <stdio.h>
#include <stdlib.h>
#include "share.h"
#include "motion/motion.h"
#include "pool/pool.h"
#include "synth/synth.h"

enum { THREADS = 2, FRAMES = 9, ROUNDS = 5 }; /* as many pairs for each thread */

struct task {
    uint8_t *rgb[FRAMES];
    int side;
};

/* The pairs of one thread, a stretch of frames. */
static void pairs(void *context, int64_t begin, int64_t end)
{
    const struct task *task = context;
    const size_t pixels = (size_t)task->side * (size_t)task->side;
    struct ws2_flow_frame *frame[2] = {NULL, NULL};
    struct ws2_flow *flow = NULL;
    uint16_t *dense = calloc(pixels, 4 * sizeof *dense);
    uint8_t *valid = calloc(pixels, 2);
    if (dense == NULL || valid == NULL)
        exit(5);
    for (int64_t band = begin; band < end; band++) {
        const int64_t first = band * (FRAMES - 1) / THREADS, last = (band + 1) * (FRAMES - 1) / THREADS;
        ws2_flow_frame_make(&frame[first & 1], task->rgb[first], task->side, task->side, NULL);
        for (int64_t t = first + 1; t <= last; t++) {
            ws2_flow_frame_make(&frame[t & 1], task->rgb[t], task->side, task->side, NULL);
            ws2_flow_pair(&flow, WS2_FLOW_BELT, frame[~t & 1], frame[t & 1], dense, valid, dense + 2 * pixels,
                          valid + pixels, NULL);
        }
    }
    ws2_flow_free(flow);
    ws2_flow_frame_free(frame[0]);
    ws2_flow_frame_free(frame[1]);
    free(dense);
    free(valid);
}

/* The frames that ws2-synth --size SIDE --seed 1 makes. */
static int make(struct task *task)
{
    struct ws2_synth_config config;
    struct ws2_synth *synth;
    ws2_synth_defaults(&config, WS2_SYNTH_PLAIN);
    config.width = config.height = task->side;
    config.seed = 1;
    int status = ws2_synth_open(&synth, &config, NULL, NULL);
    for (int t = 0; status >= 0 && t < FRAMES; t++) {
        task->rgb[t] = calloc((size_t)task->side * (size_t)task->side, 3);
        if (task->rgb[t] == NULL)
            return 5;
        status = ws2_synth_render(synth, t, &(struct ws2_synth_frame){.rgb = task->rgb[t]}, NULL);
    }
    ws2_synth_close(synth);
    return status < 0 ? 5 : 0;
}

int main(void)
{
    static const int side[] = {512, 1000};
    for (int i = 0; i < 2; i++) {
        struct task task = {.side = side[i]};
        if (make(&task) != 0)
            return 5;
        double best = 1e9;
        for (int round = 0; round < ROUNDS; round++) {
            const double start = now();
            ws2_parallel_for(THREADS, THREADS, pairs, &task);
            const double spent = now() - start;
            best = spent < best ? spent : best;
        }
        printf("flow %dx%d, 2 threads\t%.2f\tfields/s\n", side[i], side[i], 2 * (FRAMES - 1) / best);
        for (int t = 0; t < FRAMES; t++)
            free(task.rgb[t]);
    }
    return 0;
}
