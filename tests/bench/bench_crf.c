/* Dense CRF of one 512x512 picture, two labels, five iterations, one thread: what ws2-crf does to each frame of a stream,
 * where the kernel of space is kept. Peer: pydensecrf. */
#include "share.h"

#include "mask/mask.h"

enum { SIDE = 512, PIXELS = SIDE * SIDE, DISCS = 40, ROUNDS = 5 };

int main(void)
{
    const struct ws2_crf_params params = {3, 3, 80, 13, 10, 5, false};
    uint8_t *rgb = malloc(3 * PIXELS), *item = malloc(PIXELS);
    float *unary = malloc(2 * PIXELS * sizeof *unary), *q = malloc(2 * PIXELS * sizeof *q);
    struct ws2_crf *crf = NULL;
    if (rgb == NULL || item == NULL || unary == NULL || q == NULL)
        return 5;
    paint_discs(rgb, item, SIDE, DISCS);
    /* Every third disc is wanted; what is known of it is shifted, and unsure by noise. */
    for (int i = 0; i < PIXELS; i++) {
        const uint32_t h = hash((uint32_t)i + 12345);
        const int other = (i + 9 * SIDE + 7) % PIXELS, marked = item[other] > 0 && item[other] % 3 == 0;
        unary[PIXELS + i] = (marked ? 0.35f : 0.15f) + 0.5f * (float)(h >> 8) / (float)(1 << 24);
        unary[i] = 1 - unary[PIXELS + i];
    }
    ws2_crf_unary_probability(unary, 2 * PIXELS, unary);
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        const double start = now();
        if (ws2_crf_run(&crf, &params, rgb, SIDE, SIDE, unary, 2, q, NULL) != 0)
            return 5;
        const double spent = now() - start;
        best = spent < best ? spent : best;
    }
    printf("dense CRF 512x512, 2 labels, 5 iterations\t%.3f\tms\n", 1e3 * best);
    leave("crf.rgb", rgb, 3 * PIXELS);
    leave("crf.unary", unary, 2 * PIXELS * sizeof *unary);
    leave("crf.q", q, 2 * PIXELS * sizeof *q);
    /* With these weights nearly every pixel ends at 0 or 1; with smaller ones a difference would show. */
    const struct ws2_crf_params weak = {3, 1, 80, 13, 1, 5, false};
    if (ws2_crf_run(&crf, &weak, rgb, SIDE, SIDE, unary, 2, q, NULL) != 0)
        return 5;
    leave("crf.weak", q, 2 * PIXELS * sizeof *q);
    ws2_crf_free(crf);
    free(rgb);
    free(item);
    free(unary);
    free(q);
    return 0;
}
