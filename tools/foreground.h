/* The options of ws2-median and ws2-bgmask that say what foreground is: the same names and defaults in both. */
#ifndef TOOLS_FOREGROUND_H
#define TOOLS_FOREGROUND_H

#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "mask/mask.h"

/* Where the command line puts values that are not fields of the parameters as they are. */
struct foreground_values {
    struct ws2_foreground_params params;
    const char *saturation;
    int channels;
    int64_t dark;
    double hole, component; /* per cent */
};

enum { FOREGROUND_OPTIONS = 19 };

static inline void foreground_options(struct ws2_option *row, struct foreground_values *v)
{
    struct ws2_foreground_params *p = &v->params;
    *p = ws2_foreground_defaults();
    v->saturation = "auto";
    v->dark = p->dark;
    v->hole = 100.0 * p->hole;
    v->component = 100.0 * p->component;
    const struct ws2_option table[FOREGROUND_OPTIONS] = {
        {"z", 0, WS2_OPT_REAL, &p->z, "Z", "foreground deviates by more than Z spreads", true, 0, 1000},
        {"min-diff", 0, WS2_OPT_REAL, &p->difference, "D", "and by more than D grey levels", true, 0, 255},
        {"channels", 0, WS2_OPT_CHOICE, &v->channels, "luma|max", "what deviates: luma, or any of R, G, B",
         true, 0, 0},
        {"saturation", 0, WS2_OPT_TEXT, &v->saturation, "T",
         "or its saturation is above T; auto: by the belt", true, 0, 0},
        {"saturation-z", 0, WS2_OPT_REAL, &p->saturation_z, "Z", "auto: Z spreads above the belt's", true, 0,
         1000},
        {"saturation-low", 0, WS2_OPT_REAL, &p->saturation_low, "T", "auto: at least T", true, 0, 255},
        {"saturation-high", 0, WS2_OPT_REAL, &p->saturation_high, "T", "auto: at most T", true, 0, 255},
        {"dark", 0, WS2_OPT_INT, &v->dark, "N", "pixels whose largest channel is below N have no saturation",
         true, 0, 255},
        {"reflex-luma", 0, WS2_OPT_REAL, &p->reflex_luma, "Y", "reflex of the belt: luma above Y", true, 0,
         255},
        {"reflex-saturation", 0, WS2_OPT_REAL, &p->reflex_saturation, "S", "reflex: saturation below S", true,
         0, 255},
        {"reflex-belt", 0, WS2_OPT_REAL, &p->reflex_belt, "B", "reflex: where the belt's luma is above B",
         true, 0, 255},
        {"open", 0, WS2_OPT_REAL, &p->open, "R", "radius of the opening", true, 0, 500},
        {"close", 0, WS2_OPT_REAL, &p->close, "R", "radius of the closing", true, 0, 500},
        {"hole", 0, WS2_OPT_REAL, &v->hole, "P", "fill holes up to P % of the image", true, 0, 100},
        {"component", 0, WS2_OPT_REAL, &v->component, "P", "drop components below P % of the image", true, 0,
         100},
        {"dilate", 0, WS2_OPT_REAL, &p->dilate, "R", "radius of the last dilation", true, 0, 500},
        {"reference", 0, WS2_OPT_REAL, &p->reference, "N",
         "side of the image that radii are meant for; 0: do not scale", true, 0, 65535},
        {"drift", 0, WS2_OPT_FLAG, &p->drift, NULL, "divide by the exposure relative to the belt", true, 0,
         0},
        {"strip", 0, WS2_OPT_REAL, &p->strip, "N", "drift: width of the border that exposure is taken from",
         true, 0, 500},
    };
    memcpy(row, table, sizeof table);
}

/* After the command line was read; dies on a saturation that is no number. */
static inline void foreground_finish(struct foreground_values *v)
{
    v->params.channels = (enum ws2_channels)v->channels;
    v->params.dark = (int)v->dark;
    v->params.hole = v->hole / 100.0;
    v->params.component = v->component / 100.0;
    if (strcmp(v->saturation, "auto") == 0)
        return;
    char *end;
    v->params.saturation = strtod(v->saturation, &end);
    if (*v->saturation == '\0' || *end != '\0' || !(v->params.saturation >= 0 && v->params.saturation <= 255))
        ws2_die_text(WS2_ERR_USAGE, "--saturation: '%s' is neither auto nor a number within 0..255",
                     v->saturation);
}

#endif
