/*
 * classifier: a ResNet that tells frames before the sorter from frames after it, and the facts about it that a
 * weight file carries, so that whoever opens the file later needs no options.
 *
 * Written by ws2-train as metadata of the .safetensors file:
 *     backbone  resnet18, resnet34, resnet50, resnet101        stride       32 or 16
 *     head      fc or maps                                     class_names  after,before,bg
 *     size      side of the pictures learnt from               probability  softmax or sigmoid
 *     fill      black, mean or belt: instead of background      init         digest of the weights begun from, or none
 *     precision of the arithmetic                                 ws2          version of the program
 * A foreign file (torchvision's, or a checkpoint of the WS2 authors' code, whose names begin with "0." or
 * "model.") has none of it: depth, head and number of classes follow from its keys and shapes, stride and size
 * are what the caller says.
 *
 * Knows lib/nn and resnet. One object belongs to its context's thread.
 */
#ifndef WS2_CLASSIFIER_H
#define WS2_CLASSIFIER_H

#include "models/resnet.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CLASSIFIER_CLASSES_MAX 16

/* What stood where the background was removed: black, the ImageNet mean, or the belt of any other frame. */
enum classifier_fill { CLASSIFIER_FILL_BLACK, CLASSIFIER_FILL_MEAN, CLASSIFIER_FILL_BELT };

struct classifier_info {
    struct resnet_options net;
    char class_name[CLASSIFIER_CLASSES_MAX][32];
    int size;       /* 0 = unknown */
    bool exclusive; /* softmax; else a sigmoid for each class */
    enum classifier_fill fill;
};

const char *classifier_head_pattern(enum resnet_head head); /* "fc.*" or "classifier.*" */
/* "resnet18" .. "resnet101" -> 18 .. 101; 0 for another name. */
int classifier_depth(const char *backbone);
const char *classifier_backbone(int depth); /* the reverse; "" for another depth */

/* What the file holds. fallback: stride, size and fill for a file that does not say. WS2_ERR_MODEL when it is
 * no classifier. */
int classifier_info_read(struct classifier_info *info, const struct nn_weights *weights,
                         const struct classifier_info *fallback, struct ws2_error *error);

/* Fills the parameters of a ResNet that another network stands on from a classifier's file, of ours, torchvision's or the WS2
 * authors'; its head is left alone. own: patterns of that network's other parameters, which keep their values. Strict
 * otherwise; report may be NULL. */
#define CLASSIFIER_OWN_MAX (NN_SKIP_MAX - 2)
int classifier_load_trunk(struct nn_params *params, const struct nn_weights *weights, const char *const *own,
                          int owns, struct nn_load_report *report, struct ws2_error *error);

struct classifier {
    struct nn_params *params;
    struct resnet *net;
    struct classifier_info info;
    char digest[NN_DIGEST_SIZE]; /* of the weights loaded, "" before */
};

/* Declares the network; its values are zeros until classifier_begin. */
int classifier_open(struct classifier *classifier, struct nn *nn, const struct classifier_info *info,
                    struct ws2_error *error);
/* The network of a weight file as the file describes it, all weights loaded strictly. fallback as above. */
int classifier_read(struct classifier *classifier, struct nn *nn, const char *path,
                    const struct classifier_info *fallback, struct ws2_error *error);
/* The network of `from` once more, in a context of its own, its weights in the same memory: to be read only. */
int classifier_twin(struct classifier *classifier, struct nn *nn, const struct classifier *from,
                    struct ws2_error *error);
/* First values of an open network: drawn with the seed, then, unless path is NULL, those of pretrained weights of the
 * same backbone; a head of another form or number of classes keeps the drawn ones. report (of the file) tells what
 * was done. */
int classifier_begin(struct classifier *classifier, uint64_t seed, const char *path,
                     struct nn_load_report *report, struct ws2_error *error);
void classifier_close(struct classifier *classifier); /* zeroed or half opened is fine */

/* Puzzle-CAM compares the maps of a picture with those of its four quarters, put together: have these the same
 * size? Always so when the picture's side is a multiple of twice the stride. */
bool classifier_fits_quarters(const struct classifier_info *info);
/* WS2_ERR_MODEL unless class c is called name(c), for all. */
int classifier_check_names(const struct classifier_info *info, const char *(*name)(int),
                           struct ws2_error *error);
int classifier_cells(const struct classifier_info *info); /* side of the maps of a picture of info->size */

/* The metadata that classifier_read looks for, with ws2 (the version), init and precision; returns how many there are. */
#define CLASSIFIER_FACTS_MAX 16
struct classifier_fact {
    const char *key;
    char value[96];
};
/* WS2_ERR_MODEL: metadata that no network of this kind has; value may be NULL. */
int classifier_bad_fact(const char *key, const char *value, struct ws2_error *error);
struct classifier_fact classifier_fact_text(const char *key, const char *value);
struct classifier_fact classifier_fact_number(const char *key, double value); /* %g */
int classifier_facts(const struct classifier *classifier, struct classifier_fact fact[CLASSIFIER_FACTS_MAX]);

#ifdef __cplusplus
}
#endif

#endif
