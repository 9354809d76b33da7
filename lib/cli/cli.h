/*
 * cli: what makes all programs alike. One option table drives parsing, --help, the history entry of the
 * stream and the test of the man page; messages, exit codes, progress and the terminal rules are here too.
 *
 * Only tools/ may use this room; it is the only one that prints, exits and reads the environment.
 * Single-threaded but for ws2_cli_progress_add.
 *
 *     exit 0  done    1  the answer is no    2  wrong use    3  bad input    4  truncated input
 *          5  cannot write, disk full, no memory             6  model or device not available
 */
#ifndef WS2_CLI_H
#define WS2_CLI_H

#include "base/base.h"
#include "stream/stream.h"

enum ws2_option_type {
    WS2_OPT_FLAG,   /* bool *: set to true */
    WS2_OPT_INT,    /* int64_t *: within [min, max] unless both are 0 */
    WS2_OPT_REAL,   /* double *: within [min, max] unless both are 0 */
    WS2_OPT_TEXT,   /* const char **: points into argv */
    WS2_OPT_CHOICE, /* int *: index into the '|'-separated list in `argument` */
    WS2_OPT_LIST    /* struct ws2_text_list *: the option may be repeated; each value is appended */
};

struct ws2_text_list {
    const char **item;
    int count;
};

/* One row of a program's table; the table ends with a row whose name is NULL. The value's content before
 * parsing is the default that --help shows in brackets; none for NULL, NAN, or an integer outside [min, max]. */
struct ws2_option {
    const char *name; /* long name without dashes */
    char letter;      /* 0 for none */
    enum ws2_option_type type;
    void *value;
    const char *argument; /* "N", "FILE", or for a choice "argmax|threshold"; NULL for a flag */
    const char *help;     /* one line, lower case, no full stop */
    bool result;          /* changes results: goes into the stream's history */
    double min, max;
};

/* Which of the common options a program takes. -h -V -q -v are always there. */
enum {
    WS2_TAKES_INPUT = 1,     /* [FILE...] operands, '-' or none is standard input; --check, --force */
    WS2_TAKES_OUTPUT = 2,    /* -o FILE, -z LEVEL, --force */
    WS2_TAKES_THREADS = 4,   /* -j N */
    WS2_TAKES_SEED = 8,      /* --seed N */
    WS2_TAKES_DEVICE = 16,   /* --device cpu|cuda[:N]|auto, --precision auto|f32|bf16 */
    WS2_TAKES_PROGRESS = 32, /* --progress[=auto|always|never] */
    WS2_TAKES_OPERANDS = 64  /* operands of another kind, described by `operands` */
};

struct ws2_program {
    const char *name;     /* "ws2-median" */
    const char *operands; /* "[FILE...]" as shown in the usage line */
    const char *summary;  /* one line */
    const char *reads;    /* for --io: "rgb:u8[h,w,3]" */
    const char *adds;     /* for --io: "fg:u8[h,w]" */
    const char *examples; /* two lines, each a command */
    unsigned takes;
    const struct ws2_option *options;
};

/* The values of the common options after parsing. */
struct ws2_common {
    const char *output;    /* "-" unless -o */
    int level;             /* WS2_LEVEL_PIPE, or -z, or WS2_LEVEL from the environment */
    int threads;           /* 1 */
    int64_t seed;          /* 0 */
    const char *device;    /* "cpu" */
    const char *precision; /* "auto" */
    bool quiet, verbose, force, check;
    int progress; /* 0 auto, 1 always, 2 never */
    const char **operand;
    int operands;
};

/* Parses argv against the program's table and the common options; handles --help, --version and --io by
 * printing and exiting 0; wrong use prints two lines and exits 2. Sets SIGPIPE to its default. */
struct ws2_common ws2_cli_begin(const struct ws2_program *program, int argc, char **argv);

/* Lines for --version of the program, beyond those that all have ("libtorch 1.13.1"). Call before begin. */
void ws2_cli_version_line(const char *text);

/* Ends the program with the exit code of a status after one line "program: text". Never returns. */
_Noreturn void ws2_die(const struct ws2_error *error);
_Noreturn void ws2_die_text(int status, const char *format, ...) WS2_PRINTF(2, 3);
/* The pointer, or the end where it is NULL: out of memory. */
void *ws2_must(void *pointer);
/* The same line for programs that go on with the next file. */
void ws2_complain(const struct ws2_error *error);
void ws2_warn(const char *format, ...) WS2_PRINTF(1, 2); /* "program: warning: ..." unless -q */
void ws2_note(const char *format, ...) WS2_PRINTF(1, 2); /* "program: note: ..." with -v only */

/* Opens the n-th input (standard input when there are no operands) or dies. Refuses a terminal. */
struct ws2_reader *ws2_cli_reader(const struct ws2_common *common, const char *path);
/* Opens the output or dies. Refuses a terminal without --force. */
struct ws2_writer *ws2_cli_writer(const struct ws2_common *common);
/* Closes the output (may be NULL), checks standard output, and returns `code` as the exit code of main. */
int ws2_cli_end(struct ws2_writer *writer, int code);

/* Appends this program's history entry: name, version, the options marked `result`, device and precision as in common
 * and the seed when the program takes them, and the digest of the model (or NULL). */
int ws2_cli_history(const struct ws2_program *program, const struct ws2_common *common, struct ws2_head *head,
                    const char *model);

/* Runs a filter over every input in turn into one output, with -j threads, progress and --check; returns the
 * exit code for main. Most programs end with `return ws2_cli_filter(...)`. */
int ws2_cli_filter(const struct ws2_program *program, const struct ws2_common *common,
                   const struct ws2_filter *filter);

/* ---- programs that only look --------------------------------------------------------------------------- */

/* What happens on a walk through all segments and records; any function may be NULL. */
struct ws2_walk {
    int (*begin)(void *context, const char *path, const struct ws2_head *head, struct ws2_error *error);
    int (*record)(void *context, struct ws2_record *record, struct ws2_error *error);
    int (*end)(void *context, struct ws2_error *error); /* of a segment whose TAIL was good */
    void *context;
};
/* Walks through every input in turn; with --check only the first begin of each. Dies on the first error, its
 * text beginning with "SEQ: frame N: ". The head is valid until the segment ends. */
void ws2_cli_walk(const struct ws2_common *common, const struct ws2_walk *walk);
/* ---- programs that look at some frames of many ---------------------------------------------------------- */

/* An even sample of the frames of all inputs together. When every input is a file, it is the middle frame of each of
 * `wanted` equal parts (every frame when there are fewer), and only those are read and decompressed. Otherwise
 * everything is read to its end and every stride-th frame is kept as it came, compressed; the stride doubles
 * whenever there are more than `wanted`, so that between half of that and all of it remain. */
struct ws2_sampling {
    int64_t wanted;     /* 1 .. INT_MAX */
    const char *tensor; /* records of samples have at least this one */
    /* Every segment, before its samples; name: of the sequence, or the path. */
    int (*begin)(void *context, const char *name, const struct ws2_head *head, struct ws2_error *error);
    /* Every sample in order on the calling thread, not decompressed yet; index of `total`. */
    int (*take)(void *context, struct ws2_record *record, int index, int total, struct ws2_error *error);
    /* The same sample on a worker thread. */
    int (*work)(void *context, struct ws2_record *record, int index, struct ws2_error *error);
    void *context;
};
/* Returns how many samples there were; 0 with --check, which only looks at the first head of each input. Dies on the
 * first error, its text beginning with "SEQ: frame N: ". */
int ws2_cli_sample(const struct ws2_common *common, const struct ws2_sampling *sampling);

/* ---- programs that draw ------------------------------------------------------------------------------------ */

struct ws2_look_source;
/* A record and the head it stands under, for lib/image to draw from. */
struct ws2_drawn {
    const struct ws2_head *head;
    struct ws2_record *record;
};
struct ws2_look_source ws2_cli_look(struct ws2_drawn *drawn);

/* ---- texts ------------------------------------------------------------------------------------------------ */

/* Prints a text from a file as one field of a line ("-" when empty, control characters as '?'), or as JSON. */
void ws2_cli_field(const char *text);
void ws2_cli_json_text(const char *text);

/* The names in "A,B,C"; none for NULL. An empty name is wrong use of `option`. */
struct ws2_text_list ws2_cli_names(const char *option, const char *text);
/* The numbers in "1,2.5,3": `least` to `most` of them, above `low` and at most `high`; returns how many. Anything else is
 * wrong use of `option`. */
int ws2_cli_numbers(const char *option, const char *text, int least, int most, double low, double high,
                    double *number);
bool ws2_cli_listed(const struct ws2_text_list *list, const char *name);
/* What --keep and --drop say of a name: an empty keep keeps all. */
bool ws2_cli_chosen(const struct ws2_text_list *keep, const struct ws2_text_list *drop, const char *name);

/* Numbers begin <= n < end, every step-th from begin. */
struct ws2_range {
    int64_t begin, end, step;
};
/* "BEGIN:END[:STEP]", begin and end may be left out; everything for NULL. */
struct ws2_range ws2_cli_range(const char *option, const char *text);
bool ws2_range_has(const struct ws2_range *range, int64_t number);

/* Progress on stderr: rate and time left. total may be 0 (unknown). Silent unless a terminal or asked for. */
void ws2_cli_progress_begin(const struct ws2_common *common, const char *unit, int64_t total);
void ws2_cli_progress_set(int64_t done, const char *extra); /* extra: "loss 0.31", or NULL */
void ws2_cli_progress_end(void);

#endif
