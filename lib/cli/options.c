#include "cli/internal.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRESS_CHOICES "auto|always|never"
#define PRECISION_CHOICES "auto|f32|bf16"

/* ---- the option table
 * --------------------------------------------------------------------------------------- */

static int common_options(const struct ws2_program *program, struct ws2_option *row)
{
    struct ws2_common *c = &ws2_cli.common;
    static int64_t level, threads;
    static int precision;
    static bool help, version, io;
    int n = 0;
    level = c->level;
    threads = c->threads;
    if (program->takes & WS2_TAKES_OUTPUT) {
        row[n++] = (struct ws2_option){.name = "output",
                                       .letter = 'o',
                                       .type = WS2_OPT_TEXT,
                                       .value = &c->output,
                                       .argument = "FILE",
                                       .help = "write to FILE, - is standard output"};
        row[n++] = (struct ws2_option){.name = "level",
                                       .letter = 'z',
                                       .type = WS2_OPT_INT,
                                       .value = &level,
                                       .argument = "N",
                                       .help = "zstd level; 3 at rest",
                                       .min = -100,
                                       .max = 22};
    }
    if (program->takes & WS2_TAKES_THREADS)
        row[n++] = (struct ws2_option){.name = "threads",
                                       .letter = 'j',
                                       .type = WS2_OPT_INT,
                                       .value = &threads,
                                       .argument = "N",
                                       .help = "worker threads",
                                       .min = 1,
                                       .max = 256};
    if (program->takes & WS2_TAKES_SEED)
        row[n++] = (struct ws2_option){.name = "seed",
                                       .type = WS2_OPT_INT,
                                       .value = &c->seed,
                                       .argument = "N",
                                       .help = "seed of all random numbers"};
    if (program->takes & WS2_TAKES_DEVICE) {
        row[n++] = (struct ws2_option){.name = "device",
                                       .type = WS2_OPT_TEXT,
                                       .value = &c->device,
                                       .argument = "NAME",
                                       .help = "cpu, cuda, cuda:N or auto"};
        row[n++] = (struct ws2_option){.name = "precision",
                                       .type = WS2_OPT_CHOICE,
                                       .value = &precision,
                                       .argument = PRECISION_CHOICES,
                                       .help = "arithmetic of the network"};
    }
    if (program->takes & WS2_TAKES_PROGRESS)
        row[n++] = (struct ws2_option){.name = "progress",
                                       .type = WS2_OPT_CHOICE,
                                       .value = &c->progress,
                                       .argument = PROGRESS_CHOICES,
                                       .help = "rate and time left on stderr"};
    if (program->takes & WS2_TAKES_INPUT)
        row[n++] = (struct ws2_option){.name = "check",
                                       .type = WS2_OPT_FLAG,
                                       .value = &c->check,
                                       .help = "verify inputs and settings, then stop"};
    if (program->takes & (WS2_TAKES_INPUT | WS2_TAKES_OUTPUT))
        row[n++] = (struct ws2_option){.name = "force",
                                       .type = WS2_OPT_FLAG,
                                       .value = &c->force,
                                       .help = "let a terminal have binary data"};
    row[n++] = (struct ws2_option){
        .name = "quiet", .letter = 'q', .type = WS2_OPT_FLAG, .value = &c->quiet, .help = "no warnings"};
    row[n++] = (struct ws2_option){.name = "verbose",
                                   .letter = 'v',
                                   .type = WS2_OPT_FLAG,
                                   .value = &c->verbose,
                                   .help = "one summary line on stderr"};
    row[n++] = (struct ws2_option){
        .name = "io", .type = WS2_OPT_FLAG, .value = &io, .help = "print the tensors read and added"};
    row[n++] = (struct ws2_option){
        .name = "help", .letter = 'h', .type = WS2_OPT_FLAG, .value = &help, .help = "print this help"};
    row[n++] = (struct ws2_option){.name = "version",
                                   .letter = 'V',
                                   .type = WS2_OPT_FLAG,
                                   .value = &version,
                                   .help = "print the version"};
    return n;
}

/* Index of word in "a|b|c", or -1. */
static int choice_index(const char *choices, const char *word)
{
    const size_t length = strlen(word);
    int index = 0;
    for (const char *p = choices; *p; index++) {
        const size_t n = strcspn(p, "|");
        if (n == length && strncmp(p, word, n) == 0)
            return index;
        p += n + (p[n] == '|');
    }
    return -1;
}

static const char *choice_text(const char *choices, int index, char *text, size_t size)
{
    while (index-- > 0 && strchr(choices, '|'))
        choices = strchr(choices, '|') + 1;
    snprintf(text, size, "%.*s", (int)strcspn(choices, "|"), choices);
    return text;
}

/* The value as it is now, as text; NULL when there is nothing to show. */
const char *ws2_option_text(const struct ws2_option *option, char *text, size_t size)
{
    const bool bounded = option->min != 0 || option->max != 0;
    switch (option->type) {
    case WS2_OPT_FLAG:
        snprintf(text, size, "%s", *(const bool *)option->value ? "true" : "false");
        return text;
    case WS2_OPT_INT:
        if (bounded &&
            (*(const int64_t *)option->value < option->min || *(const int64_t *)option->value > option->max))
            return NULL;
        snprintf(text, size, "%lld", (long long)*(const int64_t *)option->value);
        return text;
    case WS2_OPT_REAL:
        if (isnan(*(const double *)option->value))
            return NULL;
        snprintf(text, size, "%.10g", *(const double *)option->value);
        return text;
    case WS2_OPT_CHOICE:
        return choice_text(option->argument, *(const int *)option->value, text, size);
    case WS2_OPT_TEXT:
        if (*(const char *const *)option->value == NULL)
            return NULL;
        snprintf(text, size, "%s", *(const char *const *)option->value);
        return text;
    case WS2_OPT_LIST:
        break;
    }
    return NULL;
}

static void append(struct ws2_text_list *list, const char *item)
{
    const char **grown = realloc(list->item, ((size_t)list->count + 1) * sizeof *grown);
    if (grown == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    grown[list->count++] = item;
    list->item = grown;
}

static void set_value(const struct ws2_option *option, const char *text, const char *where)
{
    const bool bounded = option->min != 0 || option->max != 0;
    char *end;
    switch (option->type) {
    case WS2_OPT_FLAG:
        *(bool *)option->value = true;
        return;
    case WS2_OPT_INT: {
        errno = 0;
        const long long n = strtoll(text, &end, 10);
        if (end == text || *end || errno)
            ws2_misuse("%s%s: '%s' is not a whole number", where, option->name, text);
        if (bounded && (n < option->min || n > option->max))
            ws2_misuse("%s%s: %s is not in %.10g..%.10g", where, option->name, text, option->min,
                       option->max);
        *(int64_t *)option->value = n;
        return;
    }
    case WS2_OPT_REAL: {
        errno = 0;
        const double x = strtod(text, &end);
        if (end == text || *end || errno || !isfinite(x))
            ws2_misuse("%s%s: '%s' is not a number", where, option->name, text);
        if (bounded && (x < option->min || x > option->max))
            ws2_misuse("%s%s: %s is not in %.10g..%.10g", where, option->name, text, option->min,
                       option->max);
        *(double *)option->value = x;
        return;
    }
    case WS2_OPT_TEXT:
        *(const char **)option->value = text;
        return;
    case WS2_OPT_CHOICE: {
        const int index = choice_index(option->argument, text);
        if (index < 0)
            ws2_misuse("%s%s: '%s' is none of %s", where, option->name, text, option->argument);
        *(int *)option->value = index;
        return;
    }
    case WS2_OPT_LIST:
        append(option->value, text);
        return;
    }
}

/* ---- help and version
 * ------------------------------------------------------------------------------------------ */

static void print_option(const struct ws2_option *option)
{
    char left[96], value[128];
    const char *argument = option->argument;
    const bool optional = strcmp(option->name, "progress") == 0;
    int used = option->letter ? snprintf(left, sizeof left, "-%c, --%s", option->letter, option->name)
                              : snprintf(left, sizeof left, "    --%s", option->name);
    if (argument)
        snprintf(left + used, sizeof left - (size_t)used, optional ? "[=%s]" : " %s", argument);
    const char *now = option->type == WS2_OPT_FLAG ? NULL : ws2_option_text(option, value, sizeof value);
    printf("  %-30s %s", left, option->help);
    if (now && *now)
        printf(" [%s]", now);
    putchar('\n');
}

static _Noreturn void print_help(const struct ws2_option *row, int rows)
{
    const struct ws2_program *p = ws2_cli.program;
    printf("usage: %s [options]%s%s\n%s\n\n", p->name, p->operands ? " " : "", p->operands ? p->operands : "",
           p->summary);
    for (int i = 0; i < rows; i++)
        print_option(&row[i]);
    if (p->examples)
        printf("\nexamples:\n%s\n", p->examples);
    exit(fflush(stdout) || ferror(stdout) ? -WS2_ERR_SYSTEM : 0);
}

static _Noreturn void print_version(void)
{
    printf("%s %s\n", ws2_cli.program->name, WS2_VERSION);
    printf("%s\n", ws2_stream_version());
    for (int i = 0; i < ws2_cli.version_lines; i++)
        printf("%s\n", ws2_cli.version_line[i]);
    printf("compiled by gcc %s\n", __VERSION__);
    exit(fflush(stdout) || ferror(stdout) ? -WS2_ERR_SYSTEM : 0);
}

static _Noreturn void print_io(void)
{
    printf("reads %s  adds %s\n", ws2_cli.program->reads ? ws2_cli.program->reads : "-",
           ws2_cli.program->adds ? ws2_cli.program->adds : "-");
    exit(fflush(stdout) || ferror(stdout) ? -WS2_ERR_SYSTEM : 0);
}

void ws2_cli_version_line(const char *text)
{
    if (ws2_cli.version_lines < (int)(sizeof ws2_cli.version_line / sizeof *ws2_cli.version_line))
        snprintf(ws2_cli.version_line[ws2_cli.version_lines++], sizeof *ws2_cli.version_line, "%s", text);
}

/* ---- parsing
 * --------------------------------------------------------------------------------------------------- */

/* The environment sets defaults; options win; a bad value is an error, never ignored. */
static void read_environment(const struct ws2_option *row, int rows)
{
    static const struct {
        const char *variable, *option;
    } known[] = {{"WS2_LEVEL", "level"},
                 {"WS2_THREADS", "threads"},
                 {"WS2_DEVICE", "device"},
                 {"WS2_PROGRESS", "progress"}};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        const char *text = getenv(known[k].variable);
        for (int i = 0; text && i < rows; i++) {
            if (strcmp(row[i].name, known[k].option) == 0)
                set_value(&row[i], text, "environment, ");
        }
    }
}

static void fill_getopt(const struct ws2_option *row, int rows, struct option *longs, char *shorts)
{
    *shorts++ = ':'; /* missing arguments are told apart from unknown options */
    for (int i = 0; i < rows; i++) {
        const bool optional = strcmp(row[i].name, "progress") == 0;
        const int argument = row[i].type == WS2_OPT_FLAG ? no_argument
                             : optional                  ? optional_argument
                                                         : required_argument;
        longs[i] = (struct option){row[i].name, argument, NULL, 256 + i};
        if (row[i].letter) {
            *shorts++ = row[i].letter;
            if (argument == required_argument)
                *shorts++ = ':';
        }
    }
    longs[rows] = (struct option){0};
    *shorts = '\0';
}

static int row_of_letter(const struct ws2_option *row, int rows, int letter)
{
    for (int i = 0; i < rows; i++) {
        if (row[i].letter == letter)
            return i;
    }
    return -1;
}

static int value_named(const struct ws2_option *row, int rows, const char *name)
{
    for (int i = 0; i < rows; i++) {
        if (strcmp(row[i].name, name) == 0)
            return i;
    }
    return -1;
}

static int64_t common_int(const struct ws2_option *row, int rows, const char *name, int64_t otherwise)
{
    const int i = value_named(row, rows, name);
    return i < 0 ? otherwise : *(const int64_t *)row[i].value;
}

static bool flag_named(const struct ws2_option *row, int rows, const char *name)
{
    const int i = value_named(row, rows, name);
    return i >= 0 && *(const bool *)row[i].value;
}

struct ws2_common ws2_cli_begin(const struct ws2_program *program, int argc, char **argv)
{
    static struct ws2_option row[WS2_OPTIONS_MAX];
    static struct option longs[WS2_OPTIONS_MAX + 1];
    static char shorts[2 * WS2_OPTIONS_MAX + 2];
    static char precision[8];
    ws2_cli.program = program;
    ws2_cli.common =
        (struct ws2_common){.output = "-", .level = WS2_LEVEL_PIPE, .threads = 1, .device = "cpu"};
    clock_gettime(CLOCK_MONOTONIC, &ws2_cli.began);
    /* A parent may have left it ignored; a filter dies quietly when its reader does. */
    signal(SIGPIPE, SIG_DFL);

    int rows = 0;
    for (const struct ws2_option *o = program->options; o && o->name; o++)
        row[rows++] = *o;
    rows += common_options(program, row + rows);
    fill_getopt(row, rows, longs, shorts);
    read_environment(row, rows);

    opterr = 0;
    for (;;) {
        const int code = getopt_long(argc, argv, shorts, longs, NULL);
        if (code == -1)
            break;
        if (code == ':')
            ws2_misuse("option '%s' needs an argument", argv[optind - 1]);
        if (code == '?' && optopt > 0 && optopt < 256)
            ws2_misuse("unknown option '-%c'", optopt);
        if (code == '?')
            ws2_misuse("unknown or misused option '%s'", argv[optind - 1]);
        const int i = code >= 256 ? code - 256 : row_of_letter(row, rows, code);
        if (strcmp(row[i].name, "progress") == 0 && optarg == NULL)
            ws2_cli.common.progress = 1;
        else
            set_value(&row[i], optarg ? optarg : "", "--");
        if (strcmp(row[i].name, "help") == 0)
            print_help(row, rows);
        if (strcmp(row[i].name, "version") == 0)
            print_version();
        if (strcmp(row[i].name, "io") == 0)
            print_io();
    }
    ws2_cli.common.level = (int)common_int(row, rows, "level", WS2_LEVEL_PIPE);
    ws2_cli.common.threads = (int)common_int(row, rows, "threads", 1);
    const int p = value_named(row, rows, "precision");
    ws2_cli.common.precision =
        choice_text(PRECISION_CHOICES, p < 0 ? 0 : *(const int *)row[p].value, precision, sizeof precision);
    ws2_cli.common.quiet = flag_named(row, rows, "quiet");
    ws2_cli.common.operand = (const char **)argv + optind;
    ws2_cli.common.operands = argc - optind;
    if (ws2_cli.common.operands && !(program->takes & (WS2_TAKES_INPUT | WS2_TAKES_OPERANDS)))
        ws2_misuse("unexpected operand '%s'", argv[optind]);
    return ws2_cli.common;
}
