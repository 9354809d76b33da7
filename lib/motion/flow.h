/* What the files of dense flow share: the pyramid of a frame and the steps of dense flow. Lengths and flows are in
 * pixels of the level at hand; planes are rows of floats. */
#ifndef WS2_MOTION_FLOW_H
#define WS2_MOTION_FLOW_H

#include "motion/motion.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    LEVELS_MAX = 12,
    BORDER = 16,        /* pixels around a level, continued from its rim: patches may reach over it */
    PATCH = 8,          /* side of a patch */
    SPECTRUM_MAX = 256, /* rows and columns of a transform */
    REACH = 8,          /* whole pixels that the exhaustive search goes in each direction */
    REACH_SIDE = 2 * REACH + 1,
    SHIFTS_MAX = 4 /* candidates for the dominant motion */
};

/* One level of a frame: luma 0..255 and its derivatives, each [height][stride] inside a border. */
struct level {
    int width, height;
    ptrdiff_t stride;
    float *image, *gx, *gy; /* of pixel (0, 0) */
};

struct ws2_flow_frame {
    int width, height; /* of the frame */
    int finest;        /* level[0] is the frame halved so many times */
    int levels;        /* each half of the one before */
    struct level level[LEVELS_MAX];
    int seen;           /* level that the spectrum is of */
    int columns, rows;  /* of the spectrum, powers of two */
    float *spectrum[2]; /* real and imaginary part, [columns][rows] */
    float *scratch;     /* [2][columns][rows] */
    float *memory;      /* behind all of it */
    uint8_t *luma;      /* scratch: two rows, luma and colours */
};

/* ---- fft.c: transforms of power-of-two length ------------------------------------------------------------- */

/* In place along the first axis of re, im [n][m], for all m columns at once; not scaled. */
void ws2_fft_rows(float *re, float *im, int n, int m, bool inverse);
/* out [m][n] = in [n][m] */
void ws2_transpose(const float *in, int n, int m, float *out);

/* ---- phase.c: the dominant translation --------------------------------------------------------------------- */

/* Spectrum of a level, of which the rows and columns are cut or filled with zeros. */
void ws2_phase_spectrum(struct ws2_flow_frame *frame);
/* Peaks of the phase correlation, best first: at most `most` shifts (x, y) in pixels of level `seen`, of a tenth of the
 * highest at least. scratch: 4 * columns * rows floats. Returns how many. */
int ws2_phase_peaks(const struct ws2_flow_frame *a, const struct ws2_flow_frame *b, int most,
                    float (*shift)[2], float *scratch);

/* ---- patches.c: search by patches ---------------------------------------------------------------------------- */

/* A grid of patches over a level and the flow of each. */
struct patches {
    int columns, rows, step;
    float *u, *v; /* [rows][columns] */
    float *cost;  /* mean squared difference, means taken out */
};

/* What a search may begin with. */
struct guesses {
    const float *u, *v; /* flow of the level above [height][width], or NULL */
    int width, height;
    int shifts;
    float shift[SHIFTS_MAX][2]; /* in pixels of this level; the first is the dominant one, if there is one */
    bool finest;                /* the last level */
    bool dominant;              /* most of the picture follows the first shift */
    float noise;                /* squared grey levels that equal patches differ by */
};

/* How many patches with texture follow each of the shifts better than the others. */
struct votes {
    int textured; /* patches that were asked */
    int count[SHIFTS_MAX];
    float noise; /* median cost of those that follow, squared grey levels */
};

/* Moves each shift to the median of those that follow it. */
struct votes ws2_patches_vote(const struct level *a, const struct level *b, float (*shift)[2], int shifts);
/* Best places of all patches of a in b. volume: REACH_SIDE * REACH_SIDE floats for each patch, where guesses has no
 * coarser flow. */
void ws2_patches_search(const struct level *a, const struct level *b, const struct guesses *guesses,
                        int rounds, struct patches *patches, float *volume);
/* Dense flow u, v [height][width]: patches that overlap a pixel, weighted by how well they explain it. */
void ws2_patches_spread(const struct level *a, const struct level *b, const struct patches *patches, float *u,
                        float *v, float *weight);

/* ---- refine.c: the variational step ----------------------------------------------------------------------------- */

struct refine_options {
    float brightness, gradient, smooth; /* weights of the terms */
    int outer, inner;                   /* rounds of weights, and of the solver in each */
};

/* Floats of scratch memory for a level of that size. */
size_t ws2_refine_scratch(int width, int height);
/* Changes u, v [height][width]: of the flow near to it, the one that fits both pictures and is smooth. hidden
 * [height][width]: not 0 where the pictures have no say; nor have they where the flow leads outside. */
void ws2_refine(const struct level *a, const struct level *b, const struct refine_options *options,
                const uint8_t *hidden, float *u, float *v, float *scratch);

#endif
