/* What benchmarks share: a clock, settings, a scene, and files through which the peer gets the same data. */
#ifndef BENCH_SHARE_H
#define BENCH_SHARE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* A number from the environment. */
static inline int setting(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

static inline uint32_t hash(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

/* rgb u8[side,side,3]: a grey belt with discs of six colours and noise of deviation 3; item u8[side,side]: 0, or 1 plus
 * the number of the topmost disc. */
static inline void paint_discs(uint8_t *rgb, uint8_t *item, int side, int discs)
{
    static const uint8_t colour[7][3] = {{110, 110, 110}, {190, 190, 190}, {40, 45, 42},   {110, 160, 60},
                                         {200, 60, 50},   {120, 118, 60},  {235, 235, 240}};
    for (int i = 0; i < side * side; i++)
        item[i] = 0;
    for (int d = 0; d < discs; d++) {
        const uint32_t h = hash((uint32_t)d + 77);
        const int cy = (int)(h % (uint32_t)side), cx = (int)(h / (uint32_t)side % (uint32_t)side);
        const int radius = side / 40 + (int)(h >> 20) % (side / 12);
        for (int y = cy - radius; y <= cy + radius; y++)
            for (int x = cx - radius; x <= cx + radius; x++)
                if (y >= 0 && x >= 0 && y < side && x < side &&
                    (y - cy) * (y - cy) + (x - cx) * (x - cx) <= radius * radius)
                    item[y * side + x] = (uint8_t)(1 + d);
    }
    for (int i = 0; i < 3 * side * side; i++) {
        const uint32_t h = hash((uint32_t)i);
        const int sum = (int)((h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24));
        const int kind = item[i / 3] == 0 ? 0 : 1 + item[i / 3] % 6;
        rgb[i] = (uint8_t)(colour[kind][i % 3] + (3 * sum + 13270) / 148 - 100);
    }
}

/* Leaves data for the peer in the folder that tests/bench/run names; alone, a benchmark leaves nothing. */
static inline void leave(const char *name, const void *data, size_t bytes)
{
    const char *folder = getenv("BENCH_SCRATCH");
    char path[4096];
    if (folder == NULL || snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return;
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) {
        perror(path);
        exit(5);
    }
}

#endif
