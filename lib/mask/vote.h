/* Private to lib/mask: what votes by regions and by tracks share. */
#ifndef WS2_MASK_VOTE_H
#define WS2_MASK_VOTE_H

#include "mask/mask.h"

/* scratch->on = the pixels that count; room for label. */
int vote_begin(struct ws2_vote_scratch *scratch, const struct ws2_vote_maps *maps, struct ws2_error *error);
/* label[h,w] = the region that a pixel takes, from 1, 0 for none, and ballot[regions]. Returns how many regions there are. */
int64_t vote_pick(const struct ws2_vote *vote, struct ws2_vote_scratch *scratch,
                  const struct ws2_vote_maps *maps, const struct ws2_instances *instances,
                  struct ws2_error *error);
/* Room for the ballots of `items` items. */
int vote_reserve_ballots(struct ws2_vote_scratch *scratch, int64_t items, struct ws2_error *error);
/* The ballot over half floats within 0..1; NAN when there are too few. */
double vote_ballot(const struct ws2_vote *vote, const uint16_t *value, int64_t count);
/* out = prob, and the ballots where pixels have an item that holds one. */
void vote_apply(const struct ws2_vote *vote, const struct ws2_vote_maps *maps, const int32_t *label,
                const double *ballot, uint16_t *out);

/* p of the plane `before`: half floats within 0..1 may be -0. */
static inline uint16_t vote_value(uint16_t half)
{
    return half & 0x7FFF;
}

#endif
