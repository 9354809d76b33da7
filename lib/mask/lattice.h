/* Private to lib/mask: Gaussian filtering of values that belong to points of up to five dimensions. */
#ifndef WS2_MASK_LATTICE_H
#define WS2_MASK_LATTICE_H

#include "base/base.h"

/*
 * out_i = sum over j of exp(-|f_i - f_j|^2 / 2) in_j, approximately, by the permutohedral lattice (Adams, Baek and
 * Davis 2010): every point is spread over the d + 1 corners of its simplex, the corners are blurred along the d + 1
 * axes of the lattice by (1/2, 1, 1/2), and every point collects from its corners again.
 */
enum { LATTICE_AXES_MAX = 5 };

struct lattice {
    int axes;         /* d */
    int64_t points;   /* N */
    int64_t vertices; /* M, at most N (d + 1) */
    int32_t *corner;  /* [N,d+1] vertex of each corner, 1 .. M */
    float *weight;    /* [N,d+1] barycentric, their sum is 1 */
    int32_t *near;    /* [d+1,M,2] neighbours along each axis; 0: none */
    float *value;     /* [2,M+1] of the vertices; number 0 stays 0 */
    struct key *key;  /* [M] coordinates */
    int32_t *slot;    /* open hash table of vertices, 0 is free */
    int64_t slots;
    size_t corner_capacity, weight_capacity, near_capacity, value_capacity, key_capacity, slot_capacity;
};

/* Builds it for points of `axes` features f32 [axes,points]. Zero-initialise the lattice before the first use; its
 * memory is kept for the next. WS2_ERR_INPUT for features that lie too far apart to be told by 16 bits. */
int lattice_build(struct lattice *lattice, const float *feature, int axes, int64_t points,
                  struct ws2_error *error);
void lattice_filter(struct lattice *lattice, const float *in, float *out);
void lattice_free(struct lattice *lattice);

#endif
