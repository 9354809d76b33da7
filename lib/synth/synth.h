/*
 * synth: a seeded simulator of a sorting belt seen by two cameras, with exact truth.
 *
 * A belt of grey rubber carries plastic items under a camera. Wanted items are translucent and tinted: the belt
 * and whatever lies below shine through them. Unwanted ones are opaque in any hue, or clear and untinted. The
 * `before` camera sees everything; between the cameras a sorter takes the unwanted items off and misses some;
 * the `after` camera sees the rest (WS2 section 5.2). The two cameras differ in gain, tint, vignette and the
 * reflexes of their lamps on the belt.
 *
 * What a frame shows is a pure function of (configuration, frame number): any frame can be asked for at any
 * time, on any thread, and comes out the same, byte for byte, on every machine that rounds as IEEE 754 says.
 *
 * Scene units. The longer side of the frame is 1; a picture that is not square is the top left part of the
 * square scene. The same configuration at another size shows the same scene (the sensor noise is per pixel).
 * The belt is endless: at frame t it has moved t * speed units.
 *
 * Seeds. `plant` fixes what stays the same over all clips of one plant: both cameras, the lamps, the kind of
 * rubber. `seed` fixes the stretch of belt: its scratches, the items on it, exposure drift and sensor noise.
 * Equal seeds with `after` false and true give the same stretch before and after the sorter, item by item, with
 * equal instance ids.
 *
 * Optics. Light is linear until the sensor: belt and items are lit by one sky and two strip lamps (Lambert and
 * Blinn-Phong, Blinn 1977); translucent walls absorb by the Beer-Lambert law along the path through the wall, longer towards
 * the rim; then vignette, gain, tint, shot noise (variance proportional to the light) and read noise, and the
 * sRGB curve (IEC 61966-2-1).
 *
 * Errors: 0 or a ws2_status, message in `error`. Threads: a ws2_synth and a ws2_cutouts are constant once open
 * and may be used by any number of threads; a ws2_synth_frame belongs to one at a time.
 * Knows base, pool and image.
 */
#ifndef WS2_SYNTH_H
#define WS2_SYNTH_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WS2_SYNTH_SIDE_MAX 16384
#define WS2_SYNTH_FRAME_MAX 1000000000 /* frame numbers are below this */

enum ws2_synth_preset { WS2_SYNTH_PLAIN, WS2_SYNTH_CLEAR, WS2_SYNTH_CROWDED };
enum ws2_synth_direction { WS2_SYNTH_DOWN, WS2_SYNTH_UP, WS2_SYNTH_RIGHT, WS2_SYNTH_LEFT };
/* How far the two cameras lie apart. With `none` both have unit gain and no tint and share vignette and lamps. */
enum ws2_synth_difference { WS2_SYNTH_SAME, WS2_SYNTH_MILD, WS2_SYNTH_STRONG };

struct ws2_synth_config {
    int64_t width, height; /* pixels, 1 .. WS2_SYNTH_SIDE_MAX */
    uint64_t seed, plant;
    bool after; /* what the camera after the sorter sees */
    enum ws2_synth_direction direction;
    enum ws2_synth_difference difference;
    double speed;    /* belt travel per frame, scene units, 0 .. 1 */
    double density;  /* items laid on one square of belt (longer side squared), 0 .. 100 */
    double overlap;  /* 0: items are kept apart, 1: they lie as they fall */
    double scale;    /* item size, 0.2 .. 3; 1: a bottle is about a quarter of the longer side */
    double unwanted; /* share of unwanted items before the sorter, 0 .. 1 */
    double miss;     /* share of the unwanted items that the sorter misses, 0 .. 1 */
    double clear;    /* share of clear ones among the unwanted, 0 .. 1 */
    double hue;      /* share of opaque items whose hue is one of the wanted tints, 0 .. 1 */
    double print;    /* share of items that may have labels, and caps of a colour of their own, 0 .. 1 */
    double rolling;  /* share of bottles and jars that roll, 0 .. 1 */
    double sliding;  /* share of all others that slide and turn, 0 .. 1 */
    double noise;    /* sensor noise, 1: about 3 grey levels on the belt; 0: none */
    double drift;    /* deviation of the exposure gain over time, 0 .. 0.5 */
    double optics;   /* strength of vignette and lamp reflexes, 0 .. 2 */
};

/* Fills in the values of a preset: plain 256 x 256, seed 0, plant 0, before; `clear` has few overlaps, little noise, bright
 * opaque items and cameras alike; `crowded` has heaps, strong camera difference and hues that overlap. */
void ws2_synth_defaults(struct ws2_synth_config *config, enum ws2_synth_preset preset);

/* "N" or "WIDTHxHEIGHT". 0 or WS2_ERR_USAGE. */
int ws2_synth_parse_size(struct ws2_synth_config *config, const char *text, struct ws2_error *error);

/* Items by name ("sparse", "normal", "dense", "crowded", or a number): sets density, and overlap for a name.
 * 0 or WS2_ERR_USAGE. */
int ws2_synth_parse_density(struct ws2_synth_config *config, const char *text, struct ws2_error *error);

/* ---- cut-outs: pictures of real items with alpha, pasted instead of drawn ones ------------------------ */

struct ws2_cutouts;

/* path: a folder with the sub-folders wanted/ and unwanted/ of PNG pictures, or a text file with one
 * "path TAB wanted|unwanted" per line (relative to the list; empty lines and '#' lines are skipped). A
 * picture without alpha, a broken one, a class without pictures: WS2_ERR_INPUT. */
int ws2_cutouts_open(struct ws2_cutouts **cutouts, const char *path, struct ws2_error *error);
void ws2_cutouts_close(struct ws2_cutouts *cutouts);
int ws2_cutouts_count(const struct ws2_cutouts *cutouts, bool unwanted);
/* A digest of all pixels and classes, in order: equal for equal pictures wherever they lie. */
uint32_t ws2_cutouts_digest(const struct ws2_cutouts *cutouts);

/* ---- the simulator -------------------------------------------------------------------------------------- */

struct ws2_synth;

/* cutouts may be NULL; it is borrowed until ws2_synth_close. A value out of range is WS2_ERR_USAGE. */
int ws2_synth_open(struct ws2_synth **synth, const struct ws2_synth_config *config,
                   const struct ws2_cutouts *cutouts, struct ws2_error *error);
void ws2_synth_close(struct ws2_synth *synth);
const struct ws2_synth_config *ws2_synth_config_of(const struct ws2_synth *synth);

enum ws2_synth_class { WS2_SYNTH_BELT, WS2_SYNTH_WANTED, WS2_SYNTH_UNWANTED };

/* Where to put a frame; the memory is the caller's, h * w pixels, and any pointer may be NULL.
 *
 * A pixel belongs to the topmost item that covers its centre, else to the belt; so a translucent wanted item
 * over an unwanted one is wanted. An item's shadow is belt.
 * A flow is that of the owner's visible surface, in pixels: where the point seen here is in frame t + 1
 * (t - 1), whether it is seen there or not. For the belt it is the belt's motion; for an item its own motion and turn; on a
 * rolling item that of the point of its round wall, which moves faster than the item at the crest and slower at
 * the rim. valid: 1 where the pixel that the point comes to lies inside the other frame and belongs to the same owner
 * there, and the wall has not turned it out of sight. The flow at points that turn out of sight is that of
 * the item without its roll. */
struct ws2_synth_frame {
    uint8_t *rgb;        /* [h,w,3] */
    uint8_t *truth;      /* [h,w] 1 = unwanted */
    uint16_t *ids;       /* [h,w] 0 = belt, else the item; the same item keeps its id in all frames */
    uint8_t *kind;       /* [h,w] enum ws2_synth_class of the owner */
    float *next;         /* [2,h,w] x then y, to frame t + 1 */
    uint8_t *next_valid; /* [h,w] 0/1 */
    float *prev;         /* [2,h,w] to frame t - 1 (which exists for any t, also 0) */
    uint8_t *prev_valid; /* [h,w] 0/1 */
};

int ws2_synth_render(const struct ws2_synth *synth, int64_t t, const struct ws2_synth_frame *frame,
                     struct ws2_error *error);

/* Rows (id, class) of the items that own a pixel, by rising id: from `ids` and `kind` of a frame. rows holds
 * 2 numbers for each of at most `room` items; returns how many there are (maybe more than room). */
int64_t ws2_synth_visible(const uint16_t *ids, const uint8_t *kind, size_t pixels, int32_t *rows,
                          int64_t room);

/* The tensors that a stream of the simulator holds, in this order; names, axes and units as in ws2-tensors(7). */
enum ws2_synth_tensor_id {
    WS2_SYNTH_RGB,
    WS2_SYNTH_TRUTH,
    WS2_SYNTH_IDS,
    WS2_SYNTH_CLASS,
    WS2_SYNTH_ITEMS, /* the rows of ws2_synth_visible */
    WS2_SYNTH_NEXT,
    WS2_SYNTH_NEXT_VALID,
    WS2_SYNTH_PREV,
    WS2_SYNTH_PREV_VALID,
    WS2_SYNTH_TENSORS
};
struct ws2_synth_tensor {
    const char *name, *axes, *unit;
    enum ws2_dtype dtype;
};
/* NULL outside 0 .. WS2_SYNTH_TENSORS - 1. Static. */
const struct ws2_synth_tensor *ws2_synth_tensor_at(int which);

/* Memory for a tensor of this shape, which the simulator fills; NULL with the error set. */
typedef void *ws2_synth_put(void *context, const struct ws2_synth_tensor *tensor,
                            const struct ws2_shape *shape, struct ws2_error *error);
/* Renders frame t of a clip of `frames` and puts the wanted tensors [WS2_SYNTH_TENSORS], in order: no flow to the next
 * frame in the last one, none to the previous in the first. */
int ws2_synth_render_tensors(const struct ws2_synth *synth, int64_t t, int64_t frames, const bool *wanted,
                             ws2_synth_put *put, void *context, struct ws2_error *error);

/* An item that may touch frame t. */
struct ws2_synth_item {
    uint16_t id;
    enum ws2_synth_class kind;
    bool moving;   /* rolls or slides on the belt */
    double x, y;   /* centre, pixels */
    double radius; /* of a circle around it, pixels */
};

/* Items near frame t from the bottom up; writes at most `room` and returns how many there are, or a status. */
int64_t ws2_synth_items(const struct ws2_synth *synth, int64_t t, struct ws2_synth_item *items, int64_t room,
                        struct ws2_error *error);
/* Frames after which an instance id may come back for another item; ids are unique in any shorter clip. */
int64_t ws2_synth_id_period(const struct ws2_synth *synth);

/* ---- a data set on disk ------------------------------------------------------------------------------------ */

struct ws2_synth_dataset {
    struct ws2_synth_config config; /* seed: of the whole set; each clip has its own stretch of belt */
    const struct ws2_cutouts *cutouts;
    int64_t frames;      /* per clip */
    int64_t test_frames; /* per test clip; 0: as many as in the others */
    int64_t clips[3];    /* training, validation, test: clips per camera */
    bool video;          /* training and validation clips as video_NNN.mp4 */
    int64_t rate;        /* frames per second of the videos */
    int quality;         /* JPEG 1..100 */
    int threads;
    void (*progress)(int64_t done, const char *extra); /* clips done, NULL; called in turn; may be NULL */
};

#define WS2_SYNTH_CLIPS_MAX 60000 /* of a split and camera */

/* "test/before/3" or "test/before/video_003": the settings of the whole set become those of that clip, of which a stream of
 * frames 0 .. holds what the pictures show and all that is known besides. Returns the split, 0 training, 1 validation, 2
 * test, or WS2_ERR_USAGE. */
int ws2_synth_parse_clip(struct ws2_synth_config *config, const char *text, int64_t *index,
                         struct ws2_error *error);

/* Writes the layout of the published data set:
 *   DIR/train_val_dataset/{training,validation}/{before,after}/video_NNN/frame_NNNN.jpg (or video_NNN.mp4)
 *   DIR/test_set/images/{before,after}/video_NNN/frame_NNNN.jpg
 *   DIR/test_set/masks/{before,after}/video_NNN/frame_NNNN.png   0 and 255 = unwanted
 * Numbers start at 0. A clip is made under a name that begins with '.' and renamed when it is whole, masks
 * before pictures; a clip that is there is kept. DIR/ws2-synth.txt holds the settings: another set in the same folder is refused
 * (WS2_ERR_USAGE); more clips of the same set are added. Returns the number of clips made. */
int64_t ws2_synth_write_dataset(const struct ws2_synth_dataset *dataset, const char *folder,
                                struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
