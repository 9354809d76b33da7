/* Random walk of one 64x64 map, radius 5, 256 steps, with its affinities, one thread; and what ws2-walk does by default to
 * two maps of a 512x512 frame. Peer: the publications' way, a dense matrix squared eight times, with NumPy. */
#include "share.h"

#include <string.h>
#include "mask/mask.h"

enum { MOST = 128, MAPS = 2, ROUNDS = 7 };

/* Milliseconds for the walk of `maps` maps over side x side pixels; the result is in map. */
static double walk(int side, int maps, const uint8_t *rgb, const float *first, float *map)
{
    struct ws2_walker *walk = NULL;
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        memcpy(map, first, (size_t)(maps * side * side) * sizeof *map);
        const double start = now();
        if (ws2_walk_colours(&walk, rgb, side, side, 5, 8, 13, 0, NULL) != 0)
            exit(5);
        ws2_walk_run(walk, 256, maps, map);
        const double spent = now() - start;
        best = spent < best ? spent : best;
    }
    ws2_walk_free(walk);
    return 1e3 * best;
}

int main(void)
{
    static uint8_t rgb[3 * MOST * MOST], item[MOST * MOST];
    static float first[MAPS * MOST * MOST], map[MAPS * MOST * MOST];
    for (int side = 64; side <= MOST; side *= 2) {
        const int pixels = side * side, maps = side == 64 ? 1 : MAPS;
        paint_discs(rgb, item, side, 20);
        for (int i = 0; i < maps * pixels; i++) {
            const int marked = item[i % pixels] > 0 && item[i % pixels] % 3 == i / pixels;
            first[i] = (marked ? 0.4f : 0) + 0.5f * (float)(hash((uint32_t)i) >> 8) / (float)(1 << 24);
        }
        const double ms = walk(side, maps, rgb, first, map);
        printf("random walk %dx%d, radius 5, 256 steps, %d map%s\t%.3f\tms\n", side, side, maps,
               maps > 1 ? "s" : "", ms);
        if (side != 64)
            continue;
        leave("walk.rgb", rgb, 3 * (size_t)pixels);
        leave("walk.map", first, (size_t)pixels * sizeof *first);
        leave("walk.walked", map, (size_t)pixels * sizeof *map);
    }
    return 0;
}
