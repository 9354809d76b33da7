#include "cli/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- programs that only look ------------------------------------------------------------------------------ */

static _Noreturn void fail_at(const struct ws2_head *head, const struct ws2_record *record,
                              struct ws2_error *error)
{
    if (record)
        ws2_error_prefix(error, "frame %lld", (long long)ws2_record_frame(record));
    if (ws2_head_seq(head)[0] != '\0')
        ws2_error_prefix(error, "%s", ws2_head_seq(head));
    ws2_die(error);
}

static void walk_segment(const struct ws2_walk *walk, struct ws2_reader *reader, const char *path,
                         struct ws2_record *record, bool head_only, int64_t *seen)
{
    struct ws2_error error = {0};
    const struct ws2_head *head = ws2_reader_head(reader);
    if (walk->begin && walk->begin(walk->context, path, head, &error) < 0)
        fail_at(head, NULL, &error);
    int got = 0;
    while (!head_only && (got = ws2_reader_next(reader, record)) > 0) {
        if (walk->record && walk->record(walk->context, record, &error) < 0)
            fail_at(head, record, &error);
        const int64_t size = ws2_reader_size(reader);
        ws2_cli_progress_fraction(size > 0 ? (double)ws2_reader_bytes(reader) / (double)size : 0);
        ws2_cli_progress_set(++*seen, NULL);
    }
    if (got < 0)
        ws2_die(ws2_reader_error(reader));
    if (!head_only && walk->end && walk->end(walk->context, &error) < 0)
        fail_at(head, NULL, &error);
}

void ws2_cli_walk(const struct ws2_common *common, const struct ws2_walk *walk)
{
    static const char *const standard_input = "-";
    const char *const *path = common->operands ? common->operand : &standard_input;
    const int paths = common->operands ? common->operands : 1;
    struct ws2_record *record = ws2_record_new();
    int64_t seen = 0;
    if (record == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    ws2_cli_progress_begin(common, "frames", 0);
    for (int i = 0; i < paths; i++) {
        struct ws2_reader *reader = ws2_cli_reader(common, path[i]);
        int more;
        do {
            walk_segment(walk, reader, path[i], record, common->check, &seen);
            more = common->check ? 0 : ws2_reader_next_segment(reader);
        } while (more > 0);
        if (more < 0)
            ws2_die(ws2_reader_error(reader));
        ws2_reader_close(reader);
    }
    ws2_cli_progress_end();
    ws2_note("%lld records, %.2f s", (long long)seen, ws2_seconds_since(&ws2_cli.began));
    ws2_record_free(record);
}

void ws2_cli_field(const char *text)
{
    if (*text == '\0')
        putchar('-');
    for (; *text != '\0'; text++)
        putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

void ws2_cli_json_text(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            printf("\\u%04x", (unsigned)*text);
        else
            printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    }
    putchar('"');
}

/* ---- lists and ranges in options ----------------------------------------------------------------------------- */

int ws2_cli_numbers(const char *option, const char *text, int least, int most, double low, double high,
                    double *number)
{
    int count = 0;
    const char *at = text;
    for (bool more = true; more; count++) {
        char *end;
        const double value = strtod(at, &end);
        if (count == most || end == at || !(value > low && value <= high) || (*end != ',' && *end != '\0'))
            break;
        number[count] = value;
        more = *end == ',';
        at = end + 1;
        if (!more && count + 1 >= least)
            return count + 1;
    }
    ws2_die_text(WS2_ERR_USAGE, "--%s: '%s' is not %s%d numbers in %g..%g", option, text,
                 least == most ? "" : "up to ", most, low, high);
}

struct ws2_text_list ws2_cli_names(const char *option, const char *text)
{
    struct ws2_text_list list = {0};
    if (text == NULL)
        return list;
    size_t commas = 1;
    for (const char *at = text; *at != '\0'; at++)
        commas += *at == ',';
    list.item = ws2_calloc(commas, sizeof *list.item);
    char *copy = strdup(text);
    if (list.item == NULL || copy == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    for (char *at = copy, *end; at != NULL; at = end) {
        end = strchr(at, ',');
        if (end != NULL)
            *end++ = '\0';
        if (*at == '\0')
            ws2_misuse("--%s: empty name in '%s'", option, text);
        list.item[list.count++] = at;
    }
    return list;
}

bool ws2_cli_listed(const struct ws2_text_list *list, const char *name)
{
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->item[i], name) == 0)
            return true;
    return false;
}

bool ws2_cli_chosen(const struct ws2_text_list *keep, const struct ws2_text_list *drop, const char *name)
{
    return (keep->count == 0 || ws2_cli_listed(keep, name)) && !ws2_cli_listed(drop, name);
}

/* Reads digits, if any, from *at. False when the number is too large. */
static bool range_number(const char **at, int64_t *number)
{
    const char *begin = *at;
    int64_t value = 0;
    for (; **at >= '0' && **at <= '9'; ++*at) {
        if (value > (INT64_MAX - 9) / 10)
            return false;
        value = value * 10 + (**at - '0');
    }
    if (*at > begin)
        *number = value;
    return true;
}

struct ws2_range ws2_cli_range(const char *option, const char *text)
{
    struct ws2_range range = {0, INT64_MAX, 1};
    if (text == NULL)
        return range;
    const char *at = text;
    bool good = range_number(&at, &range.begin) && *at == ':';
    if (good) {
        at++;
        good = range_number(&at, &range.end);
        if (good && *at == ':') {
            at++;
            good = *at != '\0' && range_number(&at, &range.step);
        }
    }
    if (!good || *at != '\0' || range.step < 1)
        ws2_misuse("--%s: '%s' is not a range BEGIN:END[:STEP]", option, text);
    return range;
}

bool ws2_range_has(const struct ws2_range *range, int64_t number)
{
    return number >= range->begin && number < range->end && (number - range->begin) % range->step == 0;
}
