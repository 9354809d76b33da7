/* Votes at 512x512, one thread: by regions of three scales and pieces of the foreground, and along tracks of five frames. */
#include "share.h"

#include <string.h>
#include "mask/mask.h"

enum { SIDE = 512, PIXELS = SIDE * SIDE, DISCS = 100, ROUNDS = 20, REACH = 2, WINDOW = 2 * REACH + 1 };

static uint8_t rgb[3 * PIXELS], item[PIXELS];
static uint16_t prob[2 * PIXELS], out[2 * PIXELS], flow[2 * PIXELS]; /* nothing moves, which costs the same */
static float colour[3 * PIXELS];

static const struct ws2_vote_maps maps = {
    .prob = prob, .classes = 2, .height = SIDE, .width = SIDE, .before = 1, .after = 0, .fg = item};

static void paint(void)
{
    paint_discs(rgb, item, SIDE, DISCS);
    for (int i = 0; i < PIXELS; i++) {
        const float p = (float)(hash((uint32_t)i) % 500 + (item[i] % 3 == 0 ? 500 : 0)) / 1000;
        prob[i] = item[i] ? ws2_half_from_float(1 - p) : 0;
        prob[PIXELS + i] = item[i] ? ws2_half_from_float(p) : 0;
        for (int c = 0; c < 3; c++)
            colour[c * PIXELS + i] = rgb[3 * i + c];
    }
}

static void regions(struct ws2_vote_scratch *scratch, const struct ws2_instances *layers, const char *name,
                    struct ws2_vote vote)
{
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        const double start = now();
        if (ws2_vote_regions(&vote, scratch, &maps, layers, out, NULL) < 0)
            exit(5);
        const double spent = now() - start;
        best = spent < best ? spent : best;
    }
    printf("vote by regions 512x512, %s\t%.3f\tms\n", name, 1e3 * best);
}

/* All that a frame costs: its items, both flows, the link and the vote. */
static double track(struct ws2_vote_scratch *scratch, const struct ws2_vote *vote,
                    struct ws2_vote_frame *const *note, int t)
{
    const struct ws2_shape shape = ws2_shape_3(2, SIDE, SIDE);
    const struct ws2_vote_frame *window[WINDOW];
    const double start = now();
    if (ws2_vote_frame_items(note[t], vote, scratch, &maps, NULL, t, NULL) < 0 ||
        ws2_vote_frame_flow(note[t], WS2_TO_NEXT, flow, &shape, NULL) < 0 ||
        ws2_vote_frame_flow(note[t], WS2_TO_PREVIOUS, flow, &shape, NULL) < 0 ||
        ws2_vote_frame_link(note[t], vote, t > 0 ? note[t - 1] : NULL, NULL) < 0)
        exit(5);
    for (int k = 0; k < WINDOW; k++)
        window[k] = note[k];
    if (t == WINDOW - 1 && ws2_vote_tracks(vote, scratch, &maps, window + REACH, out, NULL) < 0)
        exit(5);
    return now() - start;
}

static void tracks(struct ws2_vote_scratch *scratch, const struct ws2_vote *vote)
{
    struct ws2_vote_frame *note[WINDOW];
    double best = 1e9, spent;
    for (int t = 0; t < WINDOW; t++)
        if ((note[t] = ws2_vote_frame_new()) == NULL)
            exit(5);
    for (int i = 0; i < ROUNDS; i++)
        for (int t = 0; t < WINDOW; t++) {
            spent = track(scratch, vote, note, t);
            best = t == WINDOW - 1 && spent < best ? spent : best;
        }
    printf("vote along tracks of 5 frames 512x512\t%.3f\tms\n", 1e3 * best);
    for (int t = 0; t < WINDOW; t++)
        ws2_vote_frame_free(note[t]);
}

int main(void)
{
    const struct ws2_proposals_params params = ws2_proposals_defaults();
    struct ws2_proposals *proposals = NULL;
    struct ws2_vote_scratch scratch = {0};
    struct ws2_vote vote = ws2_vote_defaults();
    paint();
    if (ws2_proposals_make(&proposals, &params, colour, 3, item, SIDE, SIDE, NULL) < 0)
        return 5;
    const struct ws2_masks masks = ws2_proposals_masks(proposals);
    const struct ws2_instances layers = {
        .layers = masks.layers, .height = SIDE, .width = SIDE, .layer = masks.layer};
    printf("vote: masks\t%lld\tmasks\n", (long long)masks.count);
    regions(&scratch, &layers, "mean", vote);
    vote.rule = WS2_VOTE_MEDIAN;
    regions(&scratch, &layers, "median", vote);
    vote.rule = WS2_VOTE_MEAN;
    tracks(&scratch, &vote);
    ws2_vote_scratch_free(&scratch);
    ws2_proposals_free(proposals);
    return 0;
}
