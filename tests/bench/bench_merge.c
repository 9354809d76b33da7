/* SEPL merge of a coarse mask with 100 instance masks of 512x512, one thread. Peer: the same rule with NumPy. */
#include "share.h"

#include <string.h>
#include "mask/mask.h"

enum { SIDE = 512, PIXELS = SIDE * SIDE, MASKS = 100, ROUNDS = 20 };

static double fastest(const struct ws2_refine *refine, struct ws2_refine_scratch *scratch,
                      const uint8_t *coarse, const struct ws2_instances *instances, uint8_t *refined,
                      int64_t *taken)
{
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        const double start = now();
        *taken = ws2_refine_mask(refine, scratch, coarse, instances, refined, NULL);
        const double spent = now() - start;
        best = spent < best ? spent : best;
    }
    return best;
}

int main(void)
{
    const struct ws2_refine refine = {.rule = WS2_REFINE_SEPL, .max_area = 0.5};
    uint8_t *rgb = malloc(3 * PIXELS), *item = malloc(PIXELS), *coarse = malloc(PIXELS),
            *refined = malloc(PIXELS);
    uint8_t *instance = malloc((size_t)MASKS * PIXELS);
    struct ws2_refine_scratch scratch = {0};
    if (rgb == NULL || item == NULL || coarse == NULL || refined == NULL || instance == NULL)
        return 5;
    /* Visible parts of discs; every third is marked, with a shift, and the last mask is the belt. */
    paint_discs(rgb, item, SIDE, MASKS - 1);
    for (int k = 0; k < MASKS; k++)
        for (int i = 0; i < PIXELS; i++)
            instance[(size_t)k * PIXELS + (size_t)i] = item[i] == (k + 1) % MASKS;
    for (int i = 0; i < PIXELS; i++) {
        const int other = (i + 5 * SIDE + 4) % PIXELS;
        coarse[i] = item[other] > 0 && item[other] % 3 == 0;
    }
    uint16_t *layer = malloc(PIXELS * sizeof *layer);
    if (layer == NULL)
        return 5;
    for (int i = 0; i < PIXELS; i++) /* the same masks, which do not overlap, in one layer */
        layer[i] = (uint16_t)(item[i] == 0 ? MASKS : item[i]);
    const struct ws2_instances layers = {.layers = 1, .height = SIDE, .width = SIDE, .layer = layer},
                               stack = {.count = MASKS, .height = SIDE, .width = SIDE, .stack = instance};
    int64_t taken, ones = 0;
    printf("merge with 100 masks 512x512, one layer\t%.3f\tms\n",
           1e3 * fastest(&refine, &scratch, coarse, &layers, refined, &taken));
    printf("merge with 100 masks 512x512\t%.3f\tms\n",
           1e3 * fastest(&refine, &scratch, coarse, &stack, refined, &taken));
    if (taken < 0)
        return 5;
    for (int i = 0; i < PIXELS; i++)
        ones += refined[i];
    printf("merge: masks taken\t%lld\tmasks\n", (long long)taken);
    printf("merge: pixels of the refined mask\t%lld\tpixels\n", (long long)ones);
    leave("merge.coarse", coarse, PIXELS);
    leave("merge.instances", instance, (size_t)MASKS * PIXELS);
    leave("merge.refined", refined, PIXELS);
    ws2_refine_scratch_free(&scratch);
    free(rgb);
    free(item);
    free(coarse);
    free(refined);
    free(instance);
    free(layer);
    return 0;
}
