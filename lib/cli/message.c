#include "cli/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct ws2_cli ws2_cli;

static const char *program_name(void)
{
    return ws2_cli.program ? ws2_cli.program->name : "ws2";
}

/* One line on stderr. Names out of a file may hold anything: control characters would make a second line of it
 * or drive the terminal. */
static void say(const char *kind, const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    }
    fprintf(stderr, "%s: %s%s\n", program_name(), kind, text);
}

#ifdef __SANITIZE_ADDRESS__
static bool gave_up;

/* A program that gives up leaves its memory to the system, which is no leak; called by the leak checker. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return gave_up;
}
#endif

static _Noreturn void leave(int status)
{
#ifdef __SANITIZE_ADDRESS__
    gave_up = true;
#endif
    ws2_cli_progress_end();
    ws2_writer_abandon(ws2_cli.writer);
    ws2_cli.writer = NULL;
    fflush(stdout);
    exit(status < 0 && status >= WS2_ERR_MODEL ? -status : 1);
}

void ws2_die(const struct ws2_error *error)
{
    ws2_cli_progress_end();
    ws2_die_text(error->status, "%s", error->text);
}

void ws2_die_text(int status, const char *format, ...)
{
    ws2_cli_progress_end();
    va_list args;
    va_start(args, format);
    say("", format, args);
    va_end(args);
    leave(status);
}

void *ws2_must(void *pointer)
{
    if (!pointer)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    return pointer;
}

static void complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("", format, args);
    va_end(args);
}

void ws2_complain(const struct ws2_error *error)
{
    ws2_cli_progress_end();
    complain("%s", error->text);
}

void ws2_warn(const char *format, ...)
{
    if (ws2_cli.common.quiet)
        return;
    va_list args;
    va_start(args, format);
    say("warning: ", format, args);
    va_end(args);
}

void ws2_note(const char *format, ...)
{
    if (!ws2_cli.common.verbose)
        return;
    va_list args;
    va_start(args, format);
    say("note: ", format, args);
    va_end(args);
}

/* Wrong use: the reason and where help is. */
_Noreturn void ws2_misuse(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("", format, args);
    va_end(args);
    fprintf(stderr, "Try '%s --help'.\n", program_name());
    exit(-WS2_ERR_USAGE);
}
