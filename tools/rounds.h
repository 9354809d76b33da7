/* Rounds of learning which pixels are unwanted: their files, their progress, and what is known of each. */
#ifndef TOOLS_ROUNDS_H
#define TOOLS_ROUNDS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "files.h"
#include "models/dense.h"

/* The files of a round, NULL where it has none; the caller frees them. The last round's is FILE; those before it are FILE
 * with their number before the ending, and a letter where there are two, one for each half of the sequences. */
static inline void rounds_name(char *name[2], const char *path, int number, int last, bool halves)
{
    for (int i = 0; i < 2; i++) {
        char mark[16];
        snprintf(mark, sizeof mark, halves ? "%d%c" : "%d", number, "ab"[i]);
        name[i] = i > 0 && (!halves || number == last) ? NULL
                  : number == last                     ? ws2_must(strdup(path))
                                                       : file_marked(path, mark);
    }
}

/* Steps of the networks before this one, and of this one so far. */
struct rounds_progress {
    int64_t before, step;
};

static inline int rounds_report(void *context, int64_t step, int64_t steps, double loss, double rate,
                                const struct ws2_epoch *epoch)
{
    struct rounds_progress *progress = context;
    char text[64];
    (void)steps;
    if (step < progress->step) /* the second network of the round */
        progress->before += progress->step;
    progress->step = step;
    snprintf(text, sizeof text, "loss %.4f  %.1f images/s", loss, rate);
    ws2_cli_progress_set(progress->before + step, text);
    if (epoch)
        ws2_note("epoch %lld: loss %.4f, validation loss %.4f, %.1f images/s%s", (long long)epoch->epoch,
                 epoch->loss, epoch->val_loss, rate, epoch->best ? ", best so far" : "");
    return 0;
}

static inline void rounds_head(FILE *table)
{
    fputs("round\tprior\tthreshold\tbefore\tafter\trecall\tmost_recall\tfalse_"
          "positives\tiou\timages\tverdict\n",
          table);
}

static inline void rounds_tell(FILE *table, int number, const struct dense_round *round,
                               const struct dense_options *o)
{
    const struct ws2_pu_figures *f = &round->figures;
    const double threshold = round->fpn[0].info.threshold;
    const char *verdict = o->labels ? "of labels" : ws2_pu_verdict(f);
    ws2_note("round %d: threshold %.3f, %srecall %.3f, false positives %.3f, IoU %.3f: %s", number, threshold,
             o->labels ? "" : "estimated ", f->recall, f->false_positives, f->iou, verdict);
    fprintf(table, "%d\t%.4f\t%.3f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%lld\t%s\n", number, o->pu.prior,
            threshold, f->before, f->after, f->recall, f->most, f->false_positives, f->iou,
            (long long)round->images, verdict);
}

/* Of the last round, where something speaks against it. */
static inline void rounds_warn(const struct ws2_pu_figures *f, const struct dense_options *o)
{
    const char *verdict = ws2_pu_verdict(f);
    if (!o->labels && verdict != ws2_pu_plausible)
        ws2_warn("estimated recall %.2f, false positives %.2f, IoU %.2f: %s", f->recall, f->false_positives,
                 f->iou, verdict);
}

#endif
