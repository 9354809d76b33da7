/* Instance masks without weights of simulated frames of 512x512, one thread: colours, regions at three scales, parts and
 * pieces of the foreground, layers. Peer: rgb2lab and felzenszwalb of scikit-image at the same three scales. */
#include "share.h"

#include "image/image.h"
#include "mask/mask.h"
#include "synth/synth.h"

enum { SIDE = 512, PIXELS = SIDE * SIDE, FRAMES = 6 };

struct scene {
    uint8_t rgb[FRAMES * 3 * PIXELS], fg[FRAMES * PIXELS];
};

static int render(struct scene *scene)
{
    static uint16_t ids[PIXELS];
    struct ws2_synth_config config;
    struct ws2_synth *synth;
    ws2_synth_defaults(&config, WS2_SYNTH_PLAIN);
    config.width = config.height = SIDE;
    if (ws2_synth_open(&synth, &config, NULL, NULL) < 0)
        return 5;
    int status = 0;
    for (int t = 0; t < FRAMES && status == 0; t++) {
        const struct ws2_synth_frame frame = {.rgb = scene->rgb + t * 3 * PIXELS, .ids = ids};
        status = ws2_synth_render(synth, 5 * t, &frame, NULL);
        for (int i = 0; i < PIXELS; i++)
            scene->fg[t * PIXELS + i] = ids[i] != 0;
    }
    ws2_synth_close(synth);
    return status;
}

int main(void)
{
    struct scene *scene = malloc(sizeof *scene);
    float *lab = malloc(3 * PIXELS * sizeof *lab);
    struct ws2_proposals *proposals = NULL;
    const struct ws2_proposals_params params = ws2_proposals_defaults();
    if (!scene || !lab || render(scene) < 0)
        return 5;
    double spent[2] = {0};
    int64_t masks = 0;
    for (int t = -1; t < 2 * FRAMES; t++) { /* the first warms up; then with and without the foreground */
        const int n = t < 0 ? 0 : t % FRAMES;
        const double start = now();
        ws2_lab_f32(lab, scene->rgb + n * 3 * PIXELS, PIXELS);
        const int64_t count = ws2_proposals_make(
            &proposals, &params, lab, 3, t < FRAMES ? scene->fg + n * PIXELS : NULL, SIDE, SIDE, NULL);
        if (count < 0)
            return 5;
        if (t >= 0)
            spent[t / FRAMES] += now() - start;
        masks += t >= 0 && t < FRAMES ? count : 0;
    }
    printf("proposals 512x512, regions and foreground\t%.2f\tms\n", 1e3 * spent[0] / FRAMES);
    printf("proposals 512x512, regions at three scales\t%.2f\tms\n", 1e3 * spent[1] / FRAMES);
    printf("proposals: masks per frame\t%.1f\tmasks\n", (double)masks / FRAMES);
    leave("proposals.rgb", scene->rgb, sizeof scene->rgb);
    ws2_proposals_free(proposals);
    free(scene);
    free(lab);
    return 0;
}
