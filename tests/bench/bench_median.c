/* Exact median (and median of distances) of 101 frames of 1000x1000 bytes in memory, one thread. Peer: NumPy. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "share.h"
#include "motion/motion.h"

enum { FRAMES = 101, PIXELS = 1000 * 1000, ROUNDS = 3 };

static double best_of(const struct ws2_stack *stack, float *median, float *mad)
{
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        const double start = now();
        ws2_stack_median(stack, 1, 1, median, mad, NULL);
        const double spent = now() - start;
        best = spent < best ? spent : best;
    }
    return 1e3 * best;
}

int main(void)
{
    uint8_t *frame[FRAMES];
    struct ws2_random random = ws2_random_make(1, 0);
    for (int k = 0; k < FRAMES; k++) {
        frame[k] = malloc(PIXELS);
        if (frame[k] == NULL)
            return 5;
        for (int p = 0; p < PIXELS; p += 8) {
            const uint64_t eight = ws2_random_u64(&random);
            memcpy(frame[k] + p, &eight, 8);
        }
    }
    float *median = calloc(PIXELS, sizeof *median), *mad = calloc(PIXELS, sizeof *mad);
    if (median == NULL || mad == NULL)
        return 5;
    const struct ws2_stack stack = {(const uint8_t *const *)frame, NULL, FRAMES, PIXELS};
    printf("median of 101 frames 1000x1000 u8\t%.3f\tms\n", best_of(&stack, median, NULL));
    printf("median and MAD of 101 frames 1000x1000 u8\t%.3f\tms\n", best_of(&stack, median, mad));
    free(median);
    free(mad);
    for (int k = 0; k < FRAMES; k++)
        free(frame[k]);
    return 0;
}
