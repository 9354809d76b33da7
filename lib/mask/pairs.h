/* Private to lib/mask: pairs of pixels that are near each other. */
#ifndef WS2_MASK_PAIRS_H
#define WS2_MASK_PAIRS_H

#include "mask/mask.h"

/* The half plane of offsets: every pair of pixels has one of its two directions here. */
struct offset {
    int y, x;
};
enum {
    OFFSETS_MAX = 2 * WS2_WALK_RADIUS_MAX * WS2_WALK_RADIUS_MAX,
    PATH_MAX_CELLS = 2 * WS2_WALK_RADIUS_MAX * WS2_WALK_RADIUS_MAX
};

/* All that are nearer than radius, which is at most WS2_WALK_RADIUS_MAX; returns how many. */
int mask_pairs_find(int radius, struct offset offset[OFFSETS_MAX]);

/* Cells of the way from 0 to the offset: all within a distance below 1 of the straight line, in its rectangle, both ends
 * among them. Returns how many. */
int mask_pairs_path(struct offset to, struct offset path[PATH_MAX_CELLS]);

#endif
