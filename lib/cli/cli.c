#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A process has one command line, one standard error and one output: this is the only room with state of its
 * own, and only tools/ can reach it. */
static struct {
    const struct ws2_program *program;
    struct ws2_common common;
    struct ws2_writer *writer; /* abandoned when the program dies, so that no half result stays behind */
    char version_line[4][160];
    int version_lines;
    struct timespec began;
} cli;

#define OPTIONS_MAX 64
#define PROGRESS_CHOICES "auto|always|never"
#define PRECISION_CHOICES "auto|f32|bf16"

/* ---- messages -------------------------------------------------------------------------------------------
 */

static const char *program_name(void)
{
    return cli.program ? cli.program->name : "ws2";
}

static void say(const char *kind, const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    fprintf(stderr, "%s: %s%s\n", program_name(), kind, text);
}

static _Noreturn void leave(int status)
{
    ws2_cli_progress_end();
    ws2_writer_abandon(cli.writer);
    cli.writer = NULL;
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

void ws2_warn(const char *format, ...)
{
    if (cli.common.quiet)
        return;
    va_list args;
    va_start(args, format);
    say("warning: ", format, args);
    va_end(args);
}

void ws2_note(const char *format, ...)
{
    if (!cli.common.verbose)
        return;
    va_list args;
    va_start(args, format);
    say("note: ", format, args);
    va_end(args);
}

/* Wrong use: the reason and where help is. */
static _Noreturn void WS2_PRINTF(1, 2) misuse(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("", format, args);
    va_end(args);
    fprintf(stderr, "Try '%s --help'.\n", program_name());
    exit(-WS2_ERR_USAGE);
}

/* ---- the option table
 * --------------------------------------------------------------------------------------- */

static int common_options(const struct ws2_program *program, struct ws2_option *row)
{
    struct ws2_common *c = &cli.common;
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
static const char *value_text(const struct ws2_option *option, char *text, size_t size)
{
    switch (option->type) {
    case WS2_OPT_FLAG:
        snprintf(text, size, "%s", *(const bool *)option->value ? "true" : "false");
        return text;
    case WS2_OPT_INT:
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
            misuse("%s%s: '%s' is not a whole number", where, option->name, text);
        if (bounded && (n < option->min || n > option->max))
            misuse("%s%s: %s is not in %.10g..%.10g", where, option->name, text, option->min, option->max);
        *(int64_t *)option->value = n;
        return;
    }
    case WS2_OPT_REAL: {
        errno = 0;
        const double x = strtod(text, &end);
        if (end == text || *end || errno || !isfinite(x))
            misuse("%s%s: '%s' is not a number", where, option->name, text);
        if (bounded && (x < option->min || x > option->max))
            misuse("%s%s: %s is not in %.10g..%.10g", where, option->name, text, option->min, option->max);
        *(double *)option->value = x;
        return;
    }
    case WS2_OPT_TEXT:
        *(const char **)option->value = text;
        return;
    case WS2_OPT_CHOICE: {
        const int index = choice_index(option->argument, text);
        if (index < 0)
            misuse("%s%s: '%s' is none of %s", where, option->name, text, option->argument);
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
    const char *now = option->type == WS2_OPT_FLAG ? NULL : value_text(option, value, sizeof value);
    printf("  %-30s %s", left, option->help);
    if (now && *now)
        printf(" [%s]", now);
    putchar('\n');
}

static _Noreturn void print_help(const struct ws2_option *row, int rows)
{
    const struct ws2_program *p = cli.program;
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
    printf("%s %s\n", cli.program->name, WS2_VERSION);
    printf("%s\n", ws2_stream_version());
    for (int i = 0; i < cli.version_lines; i++)
        printf("%s\n", cli.version_line[i]);
    printf("compiled by gcc %s\n", __VERSION__);
    exit(fflush(stdout) || ferror(stdout) ? -WS2_ERR_SYSTEM : 0);
}

static _Noreturn void print_io(void)
{
    printf("reads %s  adds %s\n", cli.program->reads ? cli.program->reads : "-",
           cli.program->adds ? cli.program->adds : "-");
    exit(fflush(stdout) || ferror(stdout) ? -WS2_ERR_SYSTEM : 0);
}

void ws2_cli_version_line(const char *text)
{
    if (cli.version_lines < (int)(sizeof cli.version_line / sizeof *cli.version_line))
        snprintf(cli.version_line[cli.version_lines++], sizeof *cli.version_line, "%s", text);
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
    static struct ws2_option row[OPTIONS_MAX];
    static struct option longs[OPTIONS_MAX + 1];
    static char shorts[2 * OPTIONS_MAX + 2];
    static char precision[8];
    cli.program = program;
    cli.common = (struct ws2_common){.output = "-", .level = WS2_LEVEL_PIPE, .threads = 1, .device = "cpu"};
    clock_gettime(CLOCK_MONOTONIC, &cli.began);
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
            misuse("option '%s' needs an argument", argv[optind - 1]);
        if (code == '?' && optopt > 0 && optopt < 256)
            misuse("unknown option '-%c'", optopt);
        if (code == '?')
            misuse("unknown or misused option '%s'", argv[optind - 1]);
        const int i = code >= 256 ? code - 256 : row_of_letter(row, rows, code);
        if (strcmp(row[i].name, "progress") == 0 && optarg == NULL)
            cli.common.progress = 1;
        else
            set_value(&row[i], optarg ? optarg : "", "--");
        if (strcmp(row[i].name, "help") == 0)
            print_help(row, rows);
        if (strcmp(row[i].name, "version") == 0)
            print_version();
        if (strcmp(row[i].name, "io") == 0)
            print_io();
    }
    cli.common.level = (int)common_int(row, rows, "level", WS2_LEVEL_PIPE);
    cli.common.threads = (int)common_int(row, rows, "threads", 1);
    const int p = value_named(row, rows, "precision");
    cli.common.precision =
        choice_text(PRECISION_CHOICES, p < 0 ? 0 : *(const int *)row[p].value, precision, sizeof precision);
    cli.common.quiet = flag_named(row, rows, "quiet");
    cli.common.operand = (const char **)argv + optind;
    cli.common.operands = argc - optind;
    if (cli.common.operands && !(program->takes & (WS2_TAKES_INPUT | WS2_TAKES_OPERANDS)))
        misuse("unexpected operand '%s'", argv[optind]);
    return cli.common;
}

/* ---- inputs and outputs
 * -------------------------------------------------------------------------------------------- */

struct ws2_reader *ws2_cli_reader(const struct ws2_common *common, const char *path)
{
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    if (strcmp(path, "-") == 0 && isatty(STDIN_FILENO) && !common->force)
        misuse("standard input is a terminal; name a file or pipe a stream in");
    if (ws2_reader_open(&reader, path, &error) < 0)
        ws2_die(&error);
    return reader;
}

struct ws2_writer *ws2_cli_writer(const struct ws2_common *common)
{
    struct ws2_error error = {0};
    if (strcmp(common->output, "-") == 0 && isatty(STDOUT_FILENO) && !common->force)
        misuse("standard output is a terminal; use -o FILE or a pipe such as | ws2-show | chafa");
    if (ws2_writer_open(&cli.writer, common->output, common->level, &error) < 0)
        ws2_die(&error);
    return cli.writer;
}

static double seconds_since(const struct timespec *then)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - then->tv_sec) + 1e-9 * (double)(now.tv_nsec - then->tv_nsec);
}

int ws2_cli_end(struct ws2_writer *writer, int code)
{
    struct ws2_error error = {0};
    ws2_cli_progress_end();
    if (writer) {
        const long long records = (long long)ws2_writer_records(writer);
        const long long bytes = (long long)ws2_writer_bytes(writer);
        cli.writer = NULL;
        if (ws2_writer_close(writer, &error) < 0)
            ws2_die(&error);
        ws2_note("%lld records, %lld bytes, %.2f s", records, bytes, seconds_since(&cli.began));
    }
    if (fflush(stdout) || ferror(stdout) || (fclose(stdout) && errno != EBADF))
        ws2_die_text(WS2_ERR_SYSTEM, "standard output: %s", strerror(errno));
    return code;
}

int ws2_cli_history(const struct ws2_program *program, const struct ws2_common *common, struct ws2_head *head,
                    const char *model)
{
    static char text[OPTIONS_MAX][256];
    const char *option[OPTIONS_MAX];
    int count = 0;
    for (const struct ws2_option *o = program->options; o && o->name; o++) {
        char value[192];
        const struct ws2_text_list *list = o->type == WS2_OPT_LIST ? o->value : NULL;
        const char *now = o->result ? value_text(o, value, sizeof value) : NULL;
        for (int i = 0; o->result && list && i < list->count && count < OPTIONS_MAX; i++, count++)
            snprintf(text[count], sizeof *text, "%s=%s", o->name, list->item[i]);
        if (now && count < OPTIONS_MAX)
            snprintf(text[count++], sizeof *text, "%s=%s", o->name, now);
    }
    for (int i = 0; i < count; i++)
        option[i] = text[i];
    const struct ws2_history entry = {.program = program->name,
                                      .version = WS2_VERSION,
                                      .options = option,
                                      .count = count,
                                      .seeded = program->takes & WS2_TAKES_SEED,
                                      .seed = common->seed,
                                      .model = model};
    return ws2_head_add_history(head, &entry);
}

/* ---- progress
 * -------------------------------------------------------------------------------------------------- */

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
    const double now = seconds_since(&progress.began);
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
    fprintf(stderr, "%s%s: %lld%s %s  %.1f/s%s%s%s%s", progress.terminal ? "\r" : "", program_name(),
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

/* ---- the filter most programs are
 * ---------------------------------------------------------------------------------- */

struct counted {
    const struct ws2_filter *filter;
    int64_t records;
};

static int counted_begin(void *context, const struct ws2_head *in, struct ws2_head *out,
                         struct ws2_error *error)
{
    const struct ws2_filter *filter = ((struct counted *)context)->filter;
    return filter->begin ? filter->begin(filter->context, in, out, error) : WS2_OK;
}

static int counted_work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct ws2_filter *filter = ((struct counted *)context)->filter;
    return filter->work(filter->context, record, worker, error);
}

static void counted_done(void *context, const struct ws2_reader *reader, const struct ws2_record *record)
{
    struct counted *counted = context;
    counted->records++;
    if (counted->filter->done)
        counted->filter->done(counted->filter->context, reader, record);
    const int64_t size = ws2_reader_size(reader);
    progress.fraction = size > 0 ? (double)ws2_reader_bytes(reader) / (double)size : 0;
    ws2_cli_progress_set(counted->records, NULL);
}

static void check_only(const struct ws2_filter *filter, struct ws2_reader *reader)
{
    struct ws2_error error = {0};
    const struct ws2_head *in = ws2_reader_head(reader);
    struct ws2_head *out = ws2_head_copy(in);
    if (out == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    if (filter->begin && filter->begin(filter->context, in, out, &error) < 0)
        ws2_die(&error);
    ws2_head_free(out);
}

int ws2_cli_filter(const struct ws2_program *program, const struct ws2_common *common,
                   const struct ws2_filter *filter)
{
    static const char *const standard_input = "-";
    const char *const *path = common->operands ? common->operand : &standard_input;
    const int paths = common->operands ? common->operands : 1;
    struct counted counted = {filter, 0};
    const struct ws2_filter run = {counted_begin, counted_work, counted_done, &counted};
    (void)program;
    struct ws2_writer *writer = common->check ? NULL : ws2_cli_writer(common);
    ws2_cli_progress_begin(common, "frames", 0);
    for (int i = 0; i < paths; i++) {
        struct ws2_error error = {0};
        struct ws2_reader *reader = ws2_cli_reader(common, path[i]);
        if (common->check)
            check_only(filter, reader);
        else if (ws2_filter_run(&run, reader, writer, common->threads, &error) < 0)
            ws2_die(&error);
        ws2_reader_close(reader);
    }
    return ws2_cli_end(writer, 0);
}
