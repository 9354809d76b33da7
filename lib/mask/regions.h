/* Private to lib/mask: pictures and masks cut into regions. */
#ifndef WS2_MASK_REGIONS_H
#define WS2_MASK_REGIONS_H

#include "mask/mask.h"

/* ---- by colour -------------------------------------------------------------------------------------------- */

/*
 * Efficient graph-based image segmentation (Felzenszwalb and Huttenlocher 2004): pixels and their eight neighbours are
 * a graph whose edges weigh as much as the colours differ. From the lightest edge to the heaviest, two regions A and B
 * become one when the edge weighs no more than min(I(A) + k / |A|, I(B) + k / |B|), I the heaviest edge that made a
 * region. Regions of too few pixels then join a neighbour, over the lightest edge first.
 * Weights are held as whole steps of 2^-17, so that they sort by their digits, and no coarser: a region of n pixels stops
 * growing where the weights of its edges leave a gap of k / n. Pictures have at most 2^29 pixels.
 */
enum { GRAPH_STEPS = 1 << 17, GRAPH_DIGIT = 13, GRAPH_DIGITS = 1 << GRAPH_DIGIT };

struct graph_edge {
    uint32_t weight; /* steps, two digits */
    uint32_t place;  /* 4 pixel + direction */
};

struct graph_root {
    int32_t size;
    float inner; /* I, in steps */
};

/* A tree of pixels for each region. */
struct graph_forest {
    int32_t *parent;         /* [h,w] */
    struct graph_root *root; /* [h,w]: of pixels that are roots */
    size_t parent_capacity, root_capacity;
};

/* Until an edge first joins nothing, a scale and all larger ones do the same. The trunk goes that far for each scale in turn;
 * what follows is a branch of its own. */
struct graph {
    int64_t height, width, edges, left_edges;
    int64_t grown;                   /* edges that the trunk has seen */
    float *plane;                    /* [h,w]: smoothing; weights of a row */
    struct graph_edge *edge, *spare; /* sorted; for sorting */
    uint32_t *left;                  /* places of edges that joined nothing when their turn came */
    struct graph_forest trunk, branch;
    size_t plane_capacity, edge_capacity, spare_capacity, left_capacity;
};

/* Sorts the edges of colour f32[channels,h,w], smoothed by a Gaussian of deviation sigma (0: not), which is changed.
 * Zero-initialise the graph before the first use; its memory is kept for the next. */
int graph_build(struct graph *graph, float *colour, int64_t channels, int64_t height, int64_t width,
                double sigma, struct ws2_error *error);
/* label[h,w] = the region of a pixel at the scale k, from 1 in the order of their first pixels. Returns how many there
 * are. Scales come in rising order. */
int64_t graph_cut(struct graph *graph, double k, int64_t least, int32_t *label);
void graph_free(struct graph *graph);

/* ---- by form ------------------------------------------------------------------------------------------------ */

/*
 * Pieces of a mask that touch at a neck only. The distance of each pixel to the nearest pixel outside is a landscape whose
 * peaks are the middles of pieces; it is flooded from the top (watershed), and where two pieces of the half widths a >= b
 * meet at the half width s, they stay two when s < neck b and b - s >= 1, else they are one.
 */
struct piece {
    int32_t parent; /* the piece that it became part of, or itself */
    int32_t number; /* 0, or the label of all that has become one with it */
    float peak;     /* half width: the largest distance in it */
    float neck;     /* half width of the widest neck to another piece, 0 without any */
};

struct pieces {
    float *distance; /* [h,w] to the nearest pixel that is 0 height + width where there is none */
    int32_t *order;  /* pixels of the mask, the farthest inside first */
    int32_t *bin, *row;
    struct piece *piece;
    int64_t count; /* pieces made, of which some became one */
    size_t distance_capacity, order_capacity, bin_capacity, row_capacity, piece_capacity;
};

/* label[h,w] = the piece of a pixel of mask u8[h,w], from 1 in the order of their first pixels, else 0. Returns how many
 * there are, or a status. What lies beyond the edge of the picture counts as mask. Zero-initialise the object before the
 * first use; its memory is kept for the next. */
int64_t pieces_cut(struct pieces *pieces, const uint8_t *mask, int64_t height, int64_t width, double neck,
                   int32_t *label, struct ws2_error *error);
/* 1 - neck / peak of each label, f32[labels]: how well it is set off. */
void pieces_stand(const struct pieces *pieces, float *stand);
void pieces_free(struct pieces *pieces);

#endif
