/* ---- coarse masks ----------------------------------------------------------------------------------------- */
/*
 * From class maps to the mask of one class (WS2 section 4, "coarse masks", and its published evaluation code).
 * Both rules first divide each class map by its own maximum over the image (a map without a positive value
 * counts as all zero), which removes the confidence: see `absolute`.
 */
#ifndef WS2_COARSE_H
#define WS2_COARSE_H

#include "base/base.h"

enum ws2_coarse_rule {
    WS2_COARSE_ARGMAX,   /* 1 where the class wins; ties and all-zero pixels go to the lowest index */
    WS2_COARSE_THRESHOLD /* 1 where its own map is above the threshold; the other maps are not looked at */
};

struct ws2_coarse {
    enum ws2_coarse_rule rule;
    int target;      /* index of the class wanted */
    float threshold; /* 0..1, WS2_COARSE_THRESHOLD only; the mask is map > threshold */
    bool absolute; /* take the values as they are: maps that are probabilities already (not in the papers) */
};

#define WS2_COARSE_LEVEL 0.30 /* usual threshold of the literature for maps of maximum 1 */

/* cam f16[classes,pixels] (half floats) -> mask u8[pixels], 0/1. WS2_ERR_INPUT for a value that is not finite
 * and for a target outside 0 .. classes-1. Needs no memory. */
int ws2_coarse_mask(const struct ws2_coarse *coarse, const uint16_t *cam, int64_t classes, size_t pixels,
                    uint8_t *mask, struct ws2_error *error);

/* mask[i] = 0 where within[i] is 0. */
void ws2_coarse_cut(uint8_t *mask, const uint8_t *within, size_t pixels);

#endif
