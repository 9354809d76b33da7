/* What loader.c (which samples, in which order) and sample.c (what a sample looks like) share. */
#ifndef WS2_TRAIN_SAMPLE_H
#define WS2_TRAIN_SAMPLE_H

#include "pool/pool.h"
#include "train/internal.h"

/* Batches in memory: the one the caller looks at and two that are filled meanwhile. */
#define RING 3

/* Pictures of a sample. */
enum { CENTRE, LEFT, RIGHT, PICTURES_MAX };

struct sample {
    int clip;
    int16_t label;
    bool second;   /* of the sequences of its camera, every other one */
    int64_t frame; /* the centre of a triplet */
};

/* One sample on its way into its place in a batch. */
struct job {
    int64_t sample; /* index into the table */
    int64_t epoch;
    uint8_t *rgb[PICTURES_MAX]; /* [size,size,3]; of triplets all, else the centre */
    float *flow[PICTURES_MAX];  /* [2,cells,cells]; of triplets LEFT and RIGHT */
    uint8_t *seeds;             /* [cells,cells]; NULL where not asked for */
    uint8_t *keep;              /* [size,size]; NULL where not asked for */
    float *share;               /* of the frame's pixels those that hold items */
    struct ws2_error error;
};

/* What one worker needs; reused from sample to sample. */
struct scratch {
    struct ws2_record *record;
    struct ws2_resizer *rgb, *mask, *seeds;
    uint8_t *keep, *grow; /* [size,size]: 1 where the sample's own pixels stay; work space */
    uint8_t *other;       /* [size,size,3] another frame, whose belt or items are needed */
    uint8_t *hole;        /* [size,size] where its items lie */
    struct ws2_flat_scratch flat;
};

struct ws2_loader {
    struct ws2_clips *clips;
    struct ws2_loader_options options;
    struct sample *sample;
    size_t capacity; /* bytes of sample */
    int64_t samples;
    int64_t *order;         /* of this epoch: samples entries */
    int64_t batch, batches; /* next batch to hand out, of the epoch */
    int64_t position, end;  /* next place in order to hand to the pool */
    struct job *ring;
    int pictures; /* of a sample: 1 or 3 */
    uint8_t *pixels[PICTURES_MAX];
    float *flow[PICTURES_MAX];
    uint8_t *seeds, *keep, *half;
    float *share;
    int64_t *label;
    struct scratch *scratch;
    struct ws2_pool *pool;
    bool failed;
};

/* Fills the places of the job with its sample, augmented where the loader trains. Any worker's thread. */
int ws2_sample_load(struct ws2_loader *loader, struct scratch *scratch, struct job *job);

#endif
