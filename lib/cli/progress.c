#include "cli/internal.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

double ws2_seconds_since(const struct timespec *then)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - then->tv_sec) + 1e-9 * (double)(now.tv_nsec - then->tv_nsec);
}

static struct {
    bool shown, line;
    bool terminal;
    const char *unit;
    int64_t total;
    double fraction; /* 0 when unknown */
    struct timespec began;
    double last;
} progress;

void ws2_cli_progress_begin(const struct ws2_common *common, const char *unit, int64_t total)
{
    progress.terminal = isatty(STDERR_FILENO);
    progress.shown = common->progress == 1 || (common->progress == 0 && progress.terminal);
    progress.unit = unit;
    progress.total = total;
    progress.fraction = 0;
    progress.line = false;
    progress.last = 0;
    clock_gettime(CLOCK_MONOTONIC, &progress.began);
}

static void clock_text(double seconds, char *text, size_t size)
{
    const long s = seconds < 1e7 ? lround(seconds) : 9999999;
    if (s >= 3600)
        snprintf(text, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, size, "%ld:%02ld", s / 60, s % 60);
}

void ws2_cli_progress_set(int64_t done, const char *extra)
{
    if (!progress.shown)
        return;
    const double now = ws2_seconds_since(&progress.began);
    if (now - progress.last < (progress.terminal ? 1.0 / 6 : 10.0))
        return;
    progress.last = now;
    const double fraction = progress.total > 0 ? (double)done / (double)progress.total : progress.fraction;
    char left[48] = "", of[32] = "";
    if (fraction > 0 && fraction <= 1) {
        char time[32];
        clock_text(now * (1 - fraction) / fraction, time, sizeof time);
        snprintf(left, sizeof left, "  %3.0f %%  %s left", 100 * fraction, time);
    }
    if (progress.total > 0)
        snprintf(of, sizeof of, "/%lld", (long long)progress.total);
    fprintf(stderr, "%s%s: %lld%s %s  %.1f/s%s%s%s%s", progress.terminal ? "\r" : "", ws2_cli.program->name,
            (long long)done, of, progress.unit, (double)done / (now > 1e-9 ? now : 1e-9), left,
            extra ? "  " : "", extra ? extra : "", progress.terminal ? "\033[K" : "\n");
    fflush(stderr);
    progress.line = progress.terminal;
}

void ws2_cli_progress_end(void)
{
    if (progress.line)
        fputs("\r\033[K", stderr);
    progress.line = progress.shown = false;
}

void ws2_cli_progress_fraction(double fraction)
{
    progress.fraction = fraction;
}
