/*
 * make-stream: a stream from text on standard input, for the cases of tests/cli. Not installed.
 *
 *     head seq=b1 role=before size=2x2 rate=25/1 classes=after,before,bg note.split=test
 *     tensor cam f16 c,h,w 0..1             a row of the tensor table: axes and unit may be left out
 *     history ws2-cam method=puzzle         an entry
 *     frame 0 40000                         a record: frame number and, if known, time stamp
 *     cam 3,2,2 1 0 .5 0                    a tensor: shape and values, repeated until it is full
 *
 * Everything after a second head is another segment. Usage: make-stream [-z LEVEL] [FILE]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "stream/stream.h"

struct state {
    long line; /* of the input, counted from 1 */
    struct ws2_writer *writer;
    struct ws2_head *head;
    struct ws2_record *record;
    bool begun, framed;
};

static _Noreturn void die(const char *text)
{
    fprintf(stderr, "make-stream: %s\n", text);
    exit(2);
}

static void check(int status, const char *text)
{
    if (status < 0)
        die(text);
}

/* What cannot be taken whole is refused: a stream of less than the case says would pass for what was meant. */
static _Noreturn void die_of_much(const struct state *state, int most, const char *what)
{
    fprintf(stderr, "make-stream: line %ld: more than %d %s\n", state->line, most, what);
    exit(2);
}

static void end_frame(struct state *state)
{
    if (state->head && !state->begun)
        check(ws2_writer_begin(state->writer, state->head), "head");
    state->begun = state->head != NULL;
    if (state->framed)
        check(ws2_writer_put(state->writer, state->record), ws2_writer_error(state->writer)->text);
    state->framed = false;
    ws2_record_clear(state->record);
}

static void end_segment(struct state *state)
{
    end_frame(state);
    if (state->begun)
        check(ws2_writer_end(state->writer), "tail");
    ws2_head_free(state->head);
    state->head = NULL;
    state->begun = false;
}

static int split(const struct state *state, char *text, const char *separators, const char **part, int most)
{
    int count = 0;
    for (char *at = strtok(text, separators); at; at = strtok(NULL, separators)) {
        if (count == most)
            die_of_much(state, most, "words");
        part[count++] = at;
    }
    return count;
}

static void set_head(const struct state *state, char *text)
{
    struct ws2_head *head = state->head;
    char *value = strchr(text, '=');
    enum ws2_role role;
    long long a, b;
    if (value == NULL)
        die(text);
    *value++ = '\0';
    if (strcmp(text, "seq") == 0) {
        check(ws2_head_set_seq(head, value), "seq");
    } else if (strcmp(text, "role") == 0) {
        check(ws2_role_parse(value, &role), "role");
        check(ws2_head_set_role(head, role), "role");
    } else if (strcmp(text, "size") == 0 && sscanf(value, "%lldx%lld", &a, &b) == 2) {
        check(ws2_head_set_size(head, a, b), "size");
    } else if (strcmp(text, "rate") == 0 && sscanf(value, "%lld/%lld", &a, &b) == 2) {
        check(ws2_head_set_rate(head, a, b), "rate");
    } else if (strcmp(text, "classes") == 0) {
        const char *name[16];
        int count = split(state, value, ",", name, 16);
        check(ws2_head_set_classes(head, name, count), "classes");
    } else if (strncmp(text, "note.", 5) == 0) {
        check(ws2_head_set_note(head, text + 5, value), "note");
    } else {
        die(text);
    }
}

static void begin_segment(struct state *state, char *rest)
{
    const char *word[32];
    int words = rest ? split(state, rest, " ", word, 32) : 0;
    end_segment(state);
    state->head = ws2_head_new();
    for (int i = 0; i < words; i++)
        set_head(state, (char *)word[i]);
}

static void add_row(struct state *state, char *rest)
{
    const char *word[4] = {"", "", "", ""};
    enum ws2_dtype dtype;
    int words = split(state, rest, " ", word, 4);
    if (words < 2 || ws2_dtype_parse(word[1], &dtype) < 0)
        die("tensor NAME DTYPE AXES UNIT");
    check(ws2_head_add_tensor(state->head, word[0], dtype, word[2], word[3], NULL), word[0]);
}

static void add_history(struct state *state, char *rest)
{
    const char *word[16];
    int words = split(state, rest, " ", word, 16);
    const struct ws2_history entry = {
        .program = word[0], .version = WS2_VERSION, .options = word + 1, .count = words - 1};
    check(ws2_head_add_history(state->head, &entry), "history");
}

static void store(enum ws2_dtype dtype, void *data, size_t i, double value)
{
    switch (dtype) {
    case WS2_U8:
        ((uint8_t *)data)[i] = (uint8_t)value;
        break;
    case WS2_U16:
        ((uint16_t *)data)[i] = (uint16_t)value;
        break;
    case WS2_I32:
        ((int32_t *)data)[i] = (int32_t)value;
        break;
    case WS2_I64:
        ((int64_t *)data)[i] = (int64_t)value;
        break;
    case WS2_F16:
        ((uint16_t *)data)[i] = ws2_half_from_float((float)value);
        break;
    case WS2_F32:
        ((float *)data)[i] = (float)value;
        break;
    case WS2_F64:
        ((double *)data)[i] = value;
        break;
    default:
        die("this type is not made here");
    }
}

static void add_tensor(struct state *state, const char *name, char *rest)
{
    static const char *word[4096];
    const struct ws2_tensor_info *info = state->head ? ws2_head_find(state->head, name) : NULL;
    struct ws2_shape shape = {0};
    struct ws2_error error = {0};
    size_t count;
    int words = rest ? split(state, rest, " ", word, 4096) : 0;
    if (info == NULL || words < 1)
        die(name);
    for (const char *at = word[0]; at && strcmp(word[0], "scalar") != 0;
         at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        shape.dim[shape.rank++] = atoll(at);
    void *data = ws2_record_add(state->record, name, info->dtype, &shape, &error);
    if (data == NULL || !ws2_shape_count(&shape, &count))
        die(error.text);
    for (size_t i = 0; i < count; i++)
        store(info->dtype, data, i, words > 1 ? atof(word[1 + i % (size_t)(words - 1)]) : 0);
}

static void take_line(struct state *state, char *line)
{
    char *rest = strchr(line, ' ');
    if (rest)
        *rest++ = '\0';
    if (strcmp(line, "head") == 0) {
        begin_segment(state, rest);
    } else if (state->head == NULL) {
        die("the first line is 'head'");
    } else if (strcmp(line, "tensor") == 0 && rest) {
        add_row(state, rest);
    } else if (strcmp(line, "history") == 0 && rest) {
        add_history(state, rest);
    } else if (strcmp(line, "frame") == 0 && rest) {
        long long frame = 0, pts = -1;
        sscanf(rest, "%lld %lld", &frame, &pts);
        end_frame(state);
        ws2_record_set_frame(state->record, frame, pts);
        state->framed = true;
    } else {
        add_tensor(state, line, rest);
    }
}

/* The next line of standard input without its end; false after the last. */
static bool read_line(struct state *state, char *line, int size)
{
    state->line++;
    if (!fgets(line, size, stdin))
        return false;
    const size_t length = strcspn(line, "\n");
    if (line[length] == '\0' && !feof(stdin))
        die_of_much(state, size - 2, "characters");
    line[length] = '\0';
    return true;
}

int main(int argc, char **argv)
{
    static char line[65536];
    struct state state = {.record = ws2_record_new()};
    struct ws2_error error = {0};
    int level = 3, at = 1;
    if (argc > 2 && strcmp(argv[1], "-z") == 0) {
        level = atoi(argv[2]);
        at = 3;
    }
    check(ws2_writer_open(&state.writer, at < argc ? argv[at] : "-", level, &error), error.text);
    while (read_line(&state, line, sizeof line))
        if (line[0] != '\0' && line[0] != '#')
            take_line(&state, line);
    end_segment(&state);
    ws2_record_free(state.record);
    check(ws2_writer_close(state.writer, &error), error.text);
    return 0;
}
