/* Private to lib/mask. */
#ifndef WS2_MASK_INTERNAL_H
#define WS2_MASK_INTERNAL_H

#include "mask/mask.h"

/* One row of a frame as planes of at least 64 * words bytes; bytes beyond the width have any value. */
struct mask_row {
    const uint8_t *luma, *red, *green, *blue;
};

/* As ws2_foreground_mask, from planes whose rows are `pitch` bytes apart, a multiple of 64. Leaves the mask in
 * ws2_foreground_bits. */
int mask_foreground_planes(const struct ws2_foreground *foreground, struct ws2_foreground_scratch *scratch,
                           const struct mask_row *first, int64_t pitch, struct ws2_error *error);

/* Median of whole numbers of which there are bin[0 .. bins-1], as numpy.median has it; 0 for none. */
double mask_counted_median(const int64_t *bin, int bins);

/* WS2_ERR_INPUT, naming the value, where the belt's `name` holds one outside of least..most or that is no number. */
int mask_check_values(const char *name, const float *value, int64_t count, float least, float most,
                      struct ws2_error *error);

/* The bits of a row at and above `width` in its last word are 0. */
static inline uint64_t mask_tail(int64_t width)
{
    return width % 64 ? ((uint64_t)1 << (width % 64)) - 1 : ~(uint64_t)0;
}

/* Whether a row has a bit. */
static inline bool mask_any(const uint64_t *word, int64_t words)
{
    uint64_t all = 0;
    for (int64_t i = 0; i < words; i++)
        all |= word[i];
    return all != 0;
}

#endif
