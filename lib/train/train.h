/*
 * train: from stream files to the weights of a classifier. Clips (which frames there are), the loader (seeded
 * samples, decoded and augmented ahead of the network), losses, optimisers, checkpoints and the training loop.
 *
 * What is learnt, from nothing but two cameras: frames `after` the sorter against frames `before` it, with
 * the belt taken out, and, as third class, the belt alone (WS2 section 4). Class numbers are alphabetical,
 * after = 0, before = 1, bg = 2, and stand with their names in the weight file.
 *
 * Methods: WS2_METHOD_STANDARD, logits and cross-entropy. All others have class maps whose means are the logits, and
 * the multi-label soft margin loss: PLAIN, nothing else; PUZZLE, maps of quarters must agree (Puzzle-CAM, Jo and Yu
 * 2021); TEMPORAL, maps of the neighbouring frames must agree; POF, both (Puzzle Optical Flow CAM, Marelli et al.
 * 2025). FEATURES and EDGES learn no classes but which pixels belong together (AffinityNet, Ahn and Kwak 2018; IRN, Ahn,
 * Cho and Kwak 2019).
 *
 * Errors: 0 or a count on success, else a ws2_status with the message in `error`, beginning with the file and
 * sequence where one is to blame. Files appear atomically. Threads: one object belongs to one thread; the
 * loader keeps its own worker threads, which never touch the network.
 * Equal results: same files, options, seed and number of computing threads give the same weights on the CPU,
 * for any number of loader threads, and whether or not the run was interrupted and resumed.
 * Knows nn, stream, image, mask (flat fields alone), pool and base. It does not know models/: a network comes as a
 * ws2_classifier.
 */
#ifndef WS2_TRAIN_H
#define WS2_TRAIN_H

#include "base/base.h"
#include "mask/mask.h"
#include "nn/nn.h"
#include "stream/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- clips: which frames there are ------------------------------------------------------------------------
 */

/* Seekable stream files, opened, checked and indexed. At most 64 are kept open at a time. */
struct ws2_clips;

/* One segment of a file. Segments of equal role and (non-empty) name are one sequence: they are never torn
 * apart by the split into training and validation. */
struct ws2_clip {
    const char *path, *name; /* owned by the clips */
    enum ws2_role role;      /* WS2_ROLE_BEFORE or WS2_ROLE_AFTER */
    int64_t frames;
    int sequence;   /* number among the sequences of its role, in order of appearance */
    bool has_fg;    /* the head lists `fg` */
    bool has_flow;  /* the head lists `flow.prev` and `flow.next`, both f16 */
    bool has_seeds; /* the head lists `seeds` u8 */
};

/* Every segment needs `rgb` u8 and a role; a file without is WS2_ERR_INPUT, a pipe too. */
int ws2_clips_open(struct ws2_clips **clips, const char *const *path, int count, struct ws2_error *error);
void ws2_clips_close(struct ws2_clips *clips); /* NULL is fine */
int ws2_clips_count(const struct ws2_clips *clips);
const struct ws2_clip *ws2_clips_at(const struct ws2_clips *clips, int index);
int64_t ws2_clips_frames(const struct ws2_clips *clips, enum ws2_role role);
/* held[i] = true for the clips of `share` of the sequences of each role (rounded, at least one), drawn with
 * the seed. By sequence, since neighbouring frames are near-duplicates. WS2_ERR_INPUT, naming the role, when
 * it has one sequence only. */
int ws2_clips_split(const struct ws2_clips *clips, double share, int64_t seed, bool *held,
                    struct ws2_error *error);

/* ---- loader: samples, augmented
 * ------------------------------------------------------------------------------ */

enum ws2_class { WS2_CLASS_AFTER, WS2_CLASS_BEFORE, WS2_CLASS_BG, WS2_CLASSES_MAX };
const char *ws2_class_name(int index); /* "after", "before", "bg" */

enum ws2_background {
    WS2_BACKGROUND_REMOVE, /* after and before: frame * fg; bg: frame * (1 - fg grown by `margin`) */
    WS2_BACKGROUND_KEEP    /* whole frames; two classes only (the contrast of POF-CAM, table 3) */
};
/* What replaces removed pixels. BELT: the belt of a frame drawn from either camera with equal chance, whatever the
 * class; pictures look as at inference, where nothing is removed, and yet the background tells nothing of the class
 * (ours, not in the papers; WS2's is black). */
enum ws2_fill { WS2_FILL_BLACK, WS2_FILL_MEAN, WS2_FILL_BELT };
enum ws2_bg_source { WS2_BG_SEQUENCES, WS2_BG_FRAMES };

/* How the light of pictures varies: each channel is multiplied by 1 + N(0, channel) and all by 1 + N(0, common), then
 * N(0, offset) of full scale is added to all. */
struct ws2_light {
    double channel, common, offset;
};

/* Every other sequence of each camera, in order of appearance among those used, is of the second half. */
enum ws2_half { WS2_HALF_BOTH, WS2_HALF_FIRST, WS2_HALF_SECOND };

struct ws2_loader_options {
    int classes; /* 2 or 3 */
    enum ws2_background background;
    enum ws2_fill fill;
    enum ws2_bg_source bg_source; /* bg from every second sequence of each camera, or every second frame */
    int margin;                   /* pixels of the network input added around fg in bg pictures: 5 */
    int size;                     /* side of the square network input; frames of another size are resized: rgb
                                     by Pillow's bilinear, fg by nearest neighbour */
    bool training;                /* shuffle, augment and drop the last partial batch */
    bool balance;                 /* as many samples of each class: the smaller ones are repeated */
    double jitter;                /* brightness, contrast and saturation factors U[1-j, 1+j]: 0.3 */
    double hue;                   /* hue shift U[-h, h] turns: 0, the papers' code uses 0.1 */
    bool flip_x, flip_y;          /* mirror every second sample, by chance */
    /* For learning of pixels: a batch has `keep`; in training the cameras take turns, the scarcer one repeated, and light
     * varies instead of jitter; in validation both are evenly mixed. Two classes on the mean colour. */
    bool dense;
    bool transpose;         /* swap rows and columns of every second sample, by chance */
    struct ws2_light light; /* of dense samples, in training */
    /* Of dense samples in training this share gets items of a frame after the sorter besides, mirrored as pictures may be by coins
     * of their own, where it has none itself: so that what lies around an item does not tell which camera saw it. */
    double paste;
    enum ws2_half half; /* samples of this half of the sequences alone */
    int64_t seed;
    int batch;
    int threads;   /* that decode ahead, >= 1; at most two batches are ahead */
    bool centres;  /* a sample is a frame that could be the centre of a triplet, alone */
    bool triplets; /* a sample is three frames in a row; else one */
    bool seeds;    /* with `seeds`, labels of cells (lib/mask); one camera alone will do, but for balance
                      and belts. Not with triplets */
    const char *
        labels; /* of seeds in dense samples: the tensor that takes their place, u8 [h,w], with as many cells as
                           pixels; NULL: none does. Not with paste */
    int cells; /* side of the maps, to whose grid flow and seeds are brought */
    /* By WS2_CLASS_AFTER and WS2_CLASS_BEFORE, of one sigma and level: frames of the camera go through it first, at their
     * own size, which must be that of its belt. NULL, for both cameras: they stay as they are. Kept by the caller. */
    const struct ws2_flat *flat[2];
};

struct ws2_loader;

/*
 * A sample is a frame; or, with `triplets`, a frame (the centre) with the one before it (left), the one after it
 * (right), which are the neighbouring records of its segment, and the flow from the centre to each: flow.prev and
 * flow.next of the centre's record. The first and the last frame of a segment are no centres; a segment of fewer than
 * three frames has no samples. Of a triplet
 *     each frame loses its background by its own fg; the belt that WS2_FILL_BELT draws is the same for the three;
 *     each frame has a jitter of its own; mirroring is common to the three, and the flow is mirrored with them;
 *     flow comes in cells of the maps: resized bilinearly from the frame's size, between the centres of pixels and of
 *     cells, u times cells/w, v times cells/h. What the centre shows at cell p is in the neighbour at p + flow(p).
 * Without augmentation the centre looks exactly like the sample of a single frame.
 */
struct ws2_batch {
    const uint8_t *rgb;                  /* [count,size,size,3]; of triplets the centres */
    const uint8_t *left, *right;         /* the same; NULL where samples are single frames */
    const float *flow_left, *flow_right; /* [count,2,cells,cells] */
    const uint8_t
        *keep; /* dense: [count,size,size], of items 1 + the class of the camera that saw them; 0 of all else,
                             which has no colour in pictures */
    const uint8_t *seeds; /* [count,cells,cells], by nearest neighbour; NULL where not asked for */
    const int64_t *label; /* [count] */
    const uint8_t *half;  /* [count] 1 = of the second half */
    const float
        *share; /* dense: [count], of the frame's pixels those that hold items, before any are laid beside */
    int count, size, cells;
};

/* use[i] selects clips (NULL: all). The clips must outlive the loader. WS2_ERR_INPUT when a class would have
 * no sample, when fg or flow is needed and a clip lacks it, or when training has fewer samples than one batch. */
int ws2_loader_open(struct ws2_loader **loader, struct ws2_clips *clips, const bool *use,
                    const struct ws2_loader_options *options, struct ws2_error *error);
void ws2_loader_close(struct ws2_loader *loader);            /* NULL is fine */
int64_t ws2_loader_samples(const struct ws2_loader *loader); /* of one epoch, before the last is dropped */
int64_t ws2_loader_class_samples(const struct ws2_loader *loader, int class);
/* Could loaders of either half alone be opened? */
bool ws2_loader_has_halves(const struct ws2_loader *loader);
int64_t ws2_loader_steps(const struct ws2_loader *loader); /* batches of one epoch */
const struct ws2_loader_options *ws2_loader_settings(const struct ws2_loader *loader);
int ws2_loader_batch(const struct ws2_loader *loader); /* most pictures in a batch */
/* Begins an epoch (0, 1, ...): its order and its augmentation depend on seed, epoch and sample only. */
int ws2_loader_start(struct ws2_loader *loader, int64_t epoch, struct ws2_error *error);
/* 1: a batch, valid until the next call; 0: the epoch is over; or a status. */
int ws2_loader_next(struct ws2_loader *loader, struct ws2_batch *batch, struct ws2_error *error);

/* ---- data: the loaders of a training ----------------------------------------------------------------------- */

struct ws2_data_options {
    const char *const *path; /* files to learn from */
    int paths;
    const char *const *validation; /* files to validate on; none: sequences of `path` are held back for it */
    int validations;
    double share;                     /* of the sequences held back, as in ws2_clips_split */
    bool halves;                      /* open them too, where there are enough sequences */
    struct ws2_loader_options loader; /* of all; `training` and `half` are set here */
};

struct ws2_data {
    struct ws2_clips *clips, *val_clips; /* val_clips: NULL where sequences are held back */
    struct ws2_loader *train, *val;
    struct ws2_loader *half[2]; /* of train; NULL where not asked for or where sequences are too few */
};

/* Errors of the functions behind it; nothing is left open then. */
int ws2_data_open(struct ws2_data *data, const struct ws2_data_options *options, struct ws2_error *error);
void ws2_data_close(struct ws2_data *data); /* zeroed is fine */

/* Rows of mask u8 [h,w] 0/1: every pixel within `margin` pixels of a set one in both directions (a square)
 * becomes 1. scratch: h*w bytes. */
void ws2_mask_grow(uint8_t *mask, uint8_t *scratch, int width, int height, int margin);

/* ---- the network as this room sees it
 * ---------------------------------------------------------------------------- */

/* Filled by the caller from models/. Tensors live in the caller's scope. */
struct ws2_classifier {
    void *model; /* handed back to forward */
    struct nn_params *params;
    int classes;
    /* images [B,3,H,W] -> logits [B,C] and, where the head is a 1x1 convolution whose global average are the
     * logits, its maps [B,C,h,w] without ReLU; NULL where the head is linear. training: batch statistics. */
    void (*forward)(void *model, struct nn_tensor *images, bool training, struct nn_tensor **logits,
                    struct nn_tensor **maps);
};

/* ---- losses
 * ---------------------------------------------------------------------------------------------------------
 */

enum ws2_method {
    WS2_METHOD_STANDARD,
    WS2_METHOD_PUZZLE,
    WS2_METHOD_POF,
    WS2_METHOD_TEMPORAL,
    WS2_METHOD_PLAIN,
    WS2_METHOD_FEATURES, /* affinities, no classifier: a task of its own (models/affinity.h) */
    WS2_METHOD_EDGES,
    WS2_METHOD_PU,    /* pixels, no classifier either (models/dense.h): positive-unlabelled */
    WS2_METHOD_ROUND, /* from what other networks are sure of */
    WS2_METHOD_LABELS /* from masks */
};
const char *ws2_method_name(enum ws2_method method);  /* "standard", "puzzle", ... */
bool ws2_method_has_tiles(enum ws2_method method);    /* PUZZLE and POF */
bool ws2_method_has_triplets(enum ws2_method method); /* POF and TEMPORAL */
enum ws2_loss { WS2_LOSS_CE, WS2_LOSS_BCE_SOFTMAX };  /* of the standard method */
enum ws2_puzzle_level {
    WS2_PUZZLE_FEATURE,
    WS2_PUZZLE_CAM
}; /* what the reconstruction term of Puzzle-CAM compares */

/* How alpha and beta come into force: the factor r(t) of both in step t = 0 .. T-1, with E steps in an epoch.
 *     NONE    r = 1
 *     FIRST   r = min(t / (T/2), 1): rises from the first epoch on (Puzzle-CAM, section 3.3)
 *     SECOND  r = 0 for t < E, else 1 for t >= T/2, else (t - E) / (T/2 - E): nothing in the first epoch, then a
 *             straight line to the midpoint of the training (POF-CAM). With T <= 2 E: 0, then 1.
 * Validation has r = 1, so that epochs compare. */
enum ws2_ramp { WS2_RAMP_AUTO, WS2_RAMP_NONE, WS2_RAMP_FIRST, WS2_RAMP_SECOND };

/* Weights of the loss: WS2: alpha 2, beta 6, no ramp. POF: alpha 4, beta 4, ramp SECOND. */
enum ws2_recipe { WS2_RECIPE_WS2, WS2_RECIPE_POF };

struct ws2_loss_options {
    enum ws2_method method;
    enum ws2_loss loss;
    enum ws2_puzzle_level level;
    double alpha;         /* weight of the reconstruction term (spatial); NaN: as the recipe has it */
    double beta;          /* weight of the temporal term; NaN: as the recipe has it */
    enum ws2_ramp ramp;   /* AUTO: as the recipe has it */
    bool compat_warp;     /* see ws2_maps_warp */
    bool normalise_first; /* each neighbour's map is normalised before it is warped, and their maximum is not
                             (POF-CAM's text); else their maximum alone is (its code) */
};

/* Puts the recipe's values where options leave them open. */
void ws2_loss_settle(struct ws2_loss_options *options, enum ws2_recipe recipe);
/* r(t); 1 for step >= steps. */
double ws2_ramp_at(enum ws2_ramp ramp, int64_t step, int64_t epoch_steps, int64_t steps);

/* What a loss is computed from, on the device. */
struct ws2_pictures {
    struct nn_tensor *centre;                 /* [B,3,H,W] */
    struct nn_tensor *left, *right;           /* the same; NULL but for methods with triplets */
    struct nn_tensor *flow_left, *flow_right; /* [B,2,h,w], in cells, from the centre to each */
    const int64_t *label;                     /* [B], numbers of classes */
};

/* Terms of one batch, rank-0 tensors of the caller's scope; NULL where the method has none. */
struct ws2_terms {
    struct nn_tensor *total;
    struct nn_tensor *class;       /* classification loss of whole pictures */
    struct nn_tensor *tile;        /* the same of the merged tiles */
    struct nn_tensor *reconstruct; /* mean |F - F'| y, not yet times alpha */
    struct nn_tensor *temporal;    /* mean |M - M'| y, not yet times beta */
    struct nn_tensor *logits;      /* [B,C] of whole pictures */
};

/*
 * total = class + tile + ramp * (alpha * reconstruct + beta * temporal). With F the maps of the centre, L and R those of
 * its neighbours, norm() = ws2_maps_normalise and warp() = ws2_maps_warp:
 *     M  = norm(F),  M' = norm(max(warp(relu L, flow_left), warp(relu R, flow_right)))
 * for all classes; the mean is over all entries, those of other classes counting as zeros.
 * Passes run in the order centre, tiles, left, right, each on its own: in training each has its own batch statistics
 * and each moves the running ones. All carry gradients and nothing is detached. Where beta * ramp is 0 the passes of the
 * neighbours record no graph: their gradients would be zeros.
 */
struct ws2_terms ws2_loss_terms(const struct ws2_classifier *net, const struct ws2_loss_options *options,
                                const struct ws2_pictures *pictures, bool training, double ramp);
/* relu(relu(F) - 1e-5) / (max over h,w of relu(F) + 1e-5) per picture and class: maps in [0,1). */
struct nn_tensor *ws2_maps_normalise(struct nn *nn, struct nn_tensor *maps);
/*
 * Backward warp: out(p) = maps(p + flow(p)), bilinear, 0 outside. maps [B,C,h,w], flow [B,2,h,w] in cells, plane 0 to
 * the right, plane 1 down. Cell x lies at 2x/(w-1) - 1 with corners aligned, which is the place (2x+1)/w - 1 without;
 * the latter is computed, since it is exact where w is a power of two and defined for a single cell. Without flow the
 * maps stay what they are.
 * compat, as the papers' code has it: the coordinate of the former convention is read in the latter, so that the
 * source is x w/(w-1) - 1/2, and what is not wholly inside (weight of existing cells < 0.9999) becomes 0: without motion
 * the outer ring. Needs two cells a side.
 */
struct nn_tensor *ws2_maps_warp(struct nn *nn, struct nn_tensor *maps, struct nn_tensor *flow, bool compat);

/* ---- dense learning: which pixels are unwanted ---------------------------------------------------------------- */

/*
 * Positive-unlabelled learning (METHODS 23; Kiryo et al. 2017, du Plessis et al. 2015) with positive = wanted: item pixels seen
 * after the sorter are wanted, those seen before it a mixture with a share `prior` of wanted ones. z is a logit for each
 * pixel, above 0 = unwanted. Only item pixels count, each as of the camera that saw it, which keep says.
 */
enum ws2_pu_form {
    WS2_PU_ABSOLUTE, /* total = prior wanted + |negative| */
    WS2_PU_KIRYO, /* total = prior wanted + negative, or, where negative < -beta, -gamma negative alone (algorithm 1) */
    WS2_PU_PLAIN /* total = wanted + before: before the sorter all is taken for unwanted (the contrast) */
};
struct ws2_pu_options {
    double prior; /* 0 <= prior < 1 */
    enum ws2_pu_form form;
    double beta, gamma; /* of Kiryo's form: 0, 1 */
};

/* Rank-0 tensors of the caller's scope. A camera without pixels in the batch has means of 0. */
struct ws2_pu_terms {
    struct nn_tensor *total;
    struct nn_tensor *before; /* B, mean over before of softplus(-z): what calling them unwanted costs */
    struct nn_tensor *wanted; /* mean over after of softplus(z): what calling them wanted costs */
    /* B - prior * mean over after of softplus(-z): the risk on unwanted ones alone, below 0 where learnt by heart */
    struct nn_tensor *negative;
};
/* z [B,1,H,W], keep u8[B,H,W] as of a batch. */
struct ws2_pu_terms ws2_pu_loss(struct nn *nn, struct nn_tensor *z, const uint8_t *keep,
                                const struct ws2_pu_options *options);

/*
 * The frames' own loss (ours): nobody knows which pixels before the sorter are unwanted, but some are in almost every frame,
 * and none after it. With T the mean of the largest `share` of a frame's logits, over the pixels that its own camera saw
 * (after the sorter with those of items laid beside them, which are of that camera too): the mean over frames of
 * softplus(-T) before the sorter and softplus(T) after it. The gradient reaches the largest logits alone. Frames with fewer
 * such pixels than WS2_FRAME_LEAST of all do not count; 0 where none does.
 */
#define WS2_FRAME_LEAST 0.001
struct ws2_frames {
    const uint8_t *keep;  /* [count,H,W], as of a batch */
    const int64_t *label; /* [count] */
    int64_t count;
    double share; /* 0..1; one pixel at least */
};
struct nn_tensor *ws2_frame_loss(struct nn *nn, struct nn_tensor *z, const struct ws2_frames *frames);

/* Balanced cross-entropy of pixels that are taken for wanted and for unwanted, each with weights f32[B,H,W]:
 * (sum w softplus(z) / sum w + sum u softplus(-z) / sum u) / 2. A kind without weight has a mean of 0. */
struct nn_tensor *ws2_balanced_loss(struct nn *nn, struct nn_tensor *z, const float *wanted,
                                    const float *unwanted);

/* Cross-entropy of pixels with label[B,H,W] 0 wanted, 1 unwanted, all else unknown: the mean over those that lie on the
 * belt and are known; 0 where none is. */
struct nn_tensor *ws2_labels_loss(struct nn *nn, struct nn_tensor *z, const uint8_t *keep,
                                  const uint8_t *label);

/* How often which probability of being unwanted was given to pixels of each camera. */
#define WS2_SCORE_BINS 1000
struct ws2_scores {
    /* by WS2_CLASS_AFTER, WS2_CLASS_BEFORE, or, where the loader gives labels, by label 0, 1;
     * bin i: i/1000 <= p < (i+1)/1000, and 1 is in the last */
    int64_t count[2][WS2_SCORE_BINS];
    int64_t pixels[2];
};
/* Gives the pixels of a batch p[count,size,size]. */
struct ws2_scorer {
    void *context; /* handed back */
    int (*score)(void *context, const struct ws2_batch *batch, float *p, struct ws2_error *error);
};
/* Adds one pass over a loader that gives `keep`. */
int ws2_scores_add(struct ws2_scores *scores, const struct ws2_scorer *scorer, struct ws2_loader *loader,
                   struct ws2_error *error);
/* The probability below which this share of the camera's pixels lies, to a bin. */
double ws2_scores_quantile(const struct ws2_scores *scores, enum ws2_class camera, double share);

/*
 * What is known without truth (METHODS 23.4). With b and a the shares of before and after pixels at or above the
 * threshold: recall = (b - prior a) / (1 - prior), false_positives = a,
 * iou = (b - prior a) / ((1 - prior) + prior a). A recall above 1 is impossible: the network tells the cameras apart,
 * or the prior is too large.
 */
#define WS2_PU_CLEAN 0.1
#define WS2_PU_MOST 1.5
#define WS2_PU_LITTLE 0.5
struct ws2_pu_figures {
    double before, after; /* shares */
    double recall, false_positives, iou;
    /* The largest recall of all thresholds at which false_positives are WS2_PU_CLEAN at most. A prior that is a little too
     * large makes it a little larger than 1; far above 1 it is impossible for a network that knows items. */
    double most;
};
struct ws2_pu_figures ws2_pu_judge(const struct ws2_scores *scores, double prior, double threshold);
/* The threshold with the largest iou, recall counting as 1 at most, of those that mark no more than WS2_PU_CLEAN after the sorter, or
 * of all where each marks more; the lowest of equal ones; 1/2 where none is above 0. */
double ws2_pu_threshold(const struct ws2_scores *scores, double prior);
/* In words what figures say against a network: most above WS2_PU_MOST, false positives above WS2_PU_CLEAN, recall below
 * WS2_PU_LITTLE; ws2_pu_plausible where they say nothing. Static. */
extern const char ws2_pu_plausible[];
const char *ws2_pu_verdict(const struct ws2_pu_figures *figures);
/* The same of labels, where nothing is estimated: before and after are the shares of unwanted and wanted pixels that are
 * marked. */
struct ws2_pu_figures ws2_labels_judge(const struct ws2_scores *scores, double threshold);
double ws2_labels_threshold(const struct ws2_scores *scores);

/* ---- optimiser and schedule ------------------------------------------------------------------------------- */

enum ws2_optimiser {
    WS2_OPTIMISER_AUTO,  /* PAPER when pretrained weights are given, SCRATCH when not */
    WS2_OPTIMISER_PAPER, /* standard: Adam 5e-4, constant. Others: the poly SGD that the papers' code really
                             runs: momentum = the weight decay (1e-4), Nesterov, lr 0.1, 0.2 on backbone
                             biases, 1.0 on the head, lr(t) = lr (1 - t/T)^0.9. FEATURES: the same, decay 5e-4, 8 epochs;
                             EDGES: 0.1 on all, 3 epochs */
    WS2_OPTIMISER_SCRATCH /* SGD lr 0.01, momentum 0.9, Nesterov, weight decay 1e-4 on weights, one rate for all
                             layers, 5 % linear warm-up, then poly; three times the epochs. PU, ROUND, LABELS, pretrained or
                             not: AdamW 1e-3, weight decay 1e-3, cosine, 4 epochs */
};

struct ws2_optimiser_options {
    enum ws2_optimiser optimiser;
    double lr, momentum, weight_decay; /* NaN: as the optimiser has it */
};

/* An optimiser and its schedule with nothing left open. */
struct ws2_plan {
    struct nn_optim_options optim;
    double lr;      /* of group 0 */
    bool poly;      /* falls by (1 - t/T)^0.9; else constant */
    bool cosine;    /* falls by (1 + cos(pi t/T)) / 2 */
    double warmup;  /* share of all steps in which the rate rises linearly */
    int64_t epochs; /* that it asks for: 25 (features 8, edges 3), from scratch three times that */
};

/* Resolves AUTO, puts the parameters of the registry into the optimiser's groups and fills the plan. `head`
 * is the pattern of the head's names ("fc.*", "classifier.*"). */
int ws2_plan_make(struct ws2_plan *plan, const struct ws2_optimiser_options *options, enum ws2_method method,
                  bool pretrained, struct nn_params *params, const char *head, struct ws2_error *error);
/* The learning rate of group 0 at step t of T, counted from 0. */
double ws2_plan_rate(const struct ws2_plan *plan, int64_t step, int64_t steps);

/* ---- what is learnt ----------------------------------------------------------------------------------------- */

#define WS2_PARTS_MAX 4

/* When a batch is looked at: in training step 0 .. steps-1, in validation the end. */
struct ws2_moment {
    bool training;
    int64_t step, epoch_steps, steps;
};

/* How often the network was right, over a whole validation; zeros where that cannot be counted. */
struct ws2_tally {
    double samples, correct; /* pictures, and those whose class was found */
    double questions, wrong; /* yes or no for each class, and wrong answers */
};

/* Turns batches into a loss; all that the loop knows of network and method. */
struct ws2_task {
    void *context; /* handed back */
    struct nn_params *params;
    const char *part[WS2_PARTS_MAX]; /* the loss's terms, columns loss_NAME of the log; NULL: no more */
    bool by_error; /* best: lowest validation error rate, ties by the lower loss; else the lowest loss */
    bool newest;   /* best: always the last one */
    /* The loss of a batch, rank 0, in the caller's scope and grad mode; part[i]: its terms, those that the batch has. tally
     * is NULL in training. Errors stick to the context. */
    struct nn_tensor *(*loss)(void *context, const struct ws2_batch *batch, const struct ws2_moment *moment,
                              struct nn_tensor *part[WS2_PARTS_MAX], struct ws2_tally *tally);
};

/* Pictures u8 of a batch as the network wants them, [B,3,H,W] normalised as ImageNet. */
struct nn_tensor *ws2_batch_images(struct nn *nn, const struct ws2_batch *batch, const uint8_t *rgb);

/* ---- the training loop
 * --------------------------------------------------------------------------------------------------- */

#define WS2_META_MAX 32

/* Facts written into the weight file: what a later program needs to use it. */
struct ws2_meta {
    int count;
    struct {
        char key[32], value[96];
    } entry[WS2_META_MAX];
};
/* Adds or replaces; WS2_ERR_USAGE when it does not fit. */
int ws2_meta_set(struct ws2_meta *meta, const char *key, const char *format, ...) WS2_PRINTF(3, 4);

/* That a file says the same in every entry, or WS2_ERR_USAGE: it is of another run and cannot be resumed. */
int ws2_meta_compare(const struct ws2_meta *meta, const struct nn_weights *file, const char *path,
                     struct ws2_error *error);

/* Writes the parameters as they are, with meta, as .safetensors. */
int ws2_checkpoint_save(const struct nn_params *params, const struct ws2_meta *meta, const char *path,
                        struct ws2_error *error);

/* One row of the log. */
struct ws2_epoch {
    int64_t epoch, steps; /* epochs done, steps done in all */
    /* means over the epoch's steps of the loss and of its terms; NaN where none */
    double loss, part[WS2_PARTS_MAX];
    /* error: mean over samples and classes of |1[p > 0.5] - y|; it and accuracy are NaN where classes are not learnt */
    double val_loss, val_error, val_accuracy;
    double lr;                /* of the last step */
    double images_per_second; /* of the training part */
    bool best;
};

/* Called after every step (epoch row NULL) and every epoch; a nonzero return stops the run with that status.
 */
typedef int ws2_train_report(void *context, int64_t step, int64_t steps, double loss,
                             double images_per_second, const struct ws2_epoch *epoch);

struct ws2_train_options {
    struct ws2_loss_options loss;
    struct ws2_plan plan;
    int64_t epochs;
    int64_t stop_epoch; /* > 0: leave after that many epochs, to be resumed */
    int64_t patience;   /* > 0: end when so many epochs in a row brought no better validation */
    const char *output; /* the best weights, at the end; "output.best" and "output.last" until then */
    const char *log;    /* TSV, or NULL */
    bool resume;        /* go on from "output.last" when it is there */
    const struct ws2_meta *meta;
    ws2_train_report *report; /* may be NULL */
    void *context;
};

/* Adds all that decides the result, but for the network and its first weights: method, mean, std, background, flat (of
 * dense samples, as ws2_flat_text has it; nothing of the cameras, which may be others later), loss,
 * warp (methods with triplets), optimiser, schedule, batch, augment, samples, seed. A resumed run must agree in every
 * entry. */
int ws2_train_describe(struct ws2_meta *meta, const struct ws2_loader *train, const struct ws2_loader *val,
                       const struct ws2_train_options *options);

enum { WS2_TRAIN_STOPPED, WS2_TRAIN_DONE };

/*
 * Trains a task (whose parameters are initialised or loaded) on `train`, validating on `val` after each epoch. Returns
 * WS2_TRAIN_DONE with the best weights under `output`, and the state files gone; WS2_TRAIN_STOPPED after stop_epoch; or a
 * status: a loss that is not finite is WS2_ERR_MODEL. A run killed at any moment continues with `resume` to the same
 * result.
 */
int ws2_task_run(struct nn *nn, const struct ws2_task *task, struct ws2_loader *train, struct ws2_loader *val,
                 const struct ws2_train_options *options, struct ws2_error *error);
/* The same for a classifier and the loss of options. Best: standard, the lowest validation error rate (the authors'
 * code), ties by the lower loss; all other methods, the lowest validation loss (all terms in full weight, WS2). */
int ws2_train_run(struct nn *nn, const struct ws2_classifier *net, struct ws2_loader *train,
                  struct ws2_loader *val, const struct ws2_train_options *options, struct ws2_error *error);

/* Counts over one pass of a loader in evaluation mode. */
struct ws2_accuracy {
    int64_t samples[WS2_CLASSES_MAX],
        correct[WS2_CLASSES_MAX]; /* by true class; correct: argmax of the logits */
};
int ws2_train_evaluate(struct nn *nn, const struct ws2_classifier *net, struct ws2_loader *loader,
                       struct ws2_accuracy *accuracy, struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
