/* What the files of this room share. */
#ifndef WS2_CAM_INTERNAL_H
#define WS2_CAM_INTERNAL_H

#include "cam/cam.h"

struct ws2_cam {
    struct nn *nn;
    struct ws2_cam_network net;
    struct ws2_cam_options options;
    bool closed;    /* no backward pass */
    int prob_scale; /* index of the scale nearest to 1 */
};

#endif
