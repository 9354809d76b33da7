/* What the sources of the cli room share. A process has one command line, one standard error and one output:
 * this is the only room with state of its own, and only tools/ can reach it. */
#ifndef WS2_CLI_INTERNAL_H
#define WS2_CLI_INTERNAL_H

#include <time.h>

#include "cli/cli.h"

#define WS2_OPTIONS_MAX 64

struct ws2_cli {
    const struct ws2_program *program;
    struct ws2_common common;
    struct ws2_writer *writer; /* abandoned when the program dies, so that no half result stays behind */
    char version_line[4][160];
    int version_lines;
    struct timespec began;
};

extern struct ws2_cli ws2_cli;

/* The value of an option as it is now, as text; NULL when there is nothing to show. */
const char *ws2_option_text(const struct ws2_option *option, char *text, size_t size);

/* Wrong use: the reason and where help is; exits 2. */
_Noreturn void ws2_misuse(const char *format, ...) WS2_PRINTF(1, 2);

double ws2_seconds_since(const struct timespec *then);

/* Progress of work whose end is known as a fraction of the input (0: unknown). */
void ws2_cli_progress_fraction(double fraction);

#endif
