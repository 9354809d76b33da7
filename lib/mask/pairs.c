#include "mask/pairs.h"

int mask_pairs_find(int radius, struct offset offset[OFFSETS_MAX])
{
    int count = 0;
    for (int y = 0; y < radius; y++)
        for (int x = y == 0 ? 1 : 1 - radius; x < radius; x++)
            if (x * x + y * y < radius * radius)
                offset[count++] = (struct offset){y, x};
    return count;
}

int mask_pairs_path(struct offset to, struct offset path[PATH_MAX_CELLS])
{
    int count = 0;
    const int low = to.x < 0 ? to.x : 0, high = to.x > 0 ? to.x : 0, square = to.y * to.y + to.x * to.x;
    for (int y = 0; y <= to.y; y++)
        for (int x = low; x <= high; x++) {
            const int cross = to.y * x - to.x * y;
            if (cross * cross < square)
                path[count++] = (struct offset){y, x};
        }
    return count;
}
