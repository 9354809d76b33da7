/* Reading history entries, and the head of several streams put side by side: see stream.h. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include "stream/internal.h"

static json_t *entry_load(const struct ws2_head *head, int index)
{
    const char *json = ws2_head_history(head, index);
    return json != NULL ? json_loads(json, 0, NULL) : NULL;
}

/* The value of "key=value" among the options of an entry; NULL when it has none. */
static const char *option_value(const json_t *entry, const char *key)
{
    const json_t *options = json_object_get(entry, "options");
    const size_t size = strlen(key);
    for (size_t i = 0; i < json_array_size(options); i++) {
        const char *text = json_string_value(json_array_get(options, i));
        if (text != NULL && strncmp(text, key, size) == 0 && text[size] == '=')
            return text + size + 1;
    }
    return NULL;
}

bool ws2_head_history_option(const struct ws2_head *head, const char *program, const char *key, char *text,
                             size_t size)
{
    for (int i = ws2_head_histories(head) - 1; i >= 0; i--) {
        json_t *entry = entry_load(head, i);
        const char *name = json_string_value(json_object_get(entry, "program"));
        const bool mine = name != NULL && strcmp(name, program) == 0;
        const char *value = mine ? option_value(entry, key) : NULL;
        if (value != NULL)
            snprintf(text, size, "%s", value);
        json_decref(entry);
        if (mine)
            return value != NULL;
    }
    return false;
}

/* One field of a line: control characters would break the line or the terminal. */
static void add_field(struct ws2_text *line, const char *text)
{
    for (; *text != '\0'; text++) {
        const unsigned char c = (unsigned char)*text;
        ws2_text_add(line, c < 0x20 || c == 0x7f ? "?" : text, 1);
    }
}

char *ws2_head_history_line(const struct ws2_head *head, int index)
{
    json_t *entry = entry_load(head, index);
    const char *program = json_string_value(json_object_get(entry, "program"));
    const char *version = json_string_value(json_object_get(entry, "version"));
    const char *model = json_string_value(json_object_get(entry, "model"));
    const json_t *seed = json_object_get(entry, "seed"), *options = json_object_get(entry, "options");
    struct ws2_text line = {0};
    add_field(&line, program != NULL ? program : "-");
    ws2_text_puts(&line, "\t");
    add_field(&line, version != NULL ? version : "-");
    ws2_text_puts(&line, "\t");
    if (json_is_integer(seed))
        ws2_text_number(&line, json_integer_value(seed));
    else
        ws2_text_puts(&line, "-");
    ws2_text_puts(&line, "\t");
    add_field(&line, model != NULL ? model : "-");
    ws2_text_puts(&line, "\t");
    for (size_t i = 0; i < json_array_size(options); i++) {
        const char *text = json_string_value(json_array_get(options, i));
        ws2_text_puts(&line, i > 0 ? " " : "");
        add_field(&line, text != NULL ? text : "?");
    }
    if (json_array_size(options) == 0)
        ws2_text_puts(&line, "-");
    ws2_text_add(&line, "", 1);
    json_decref(entry);
    if (!line.failed)
        return line.data;
    ws2_text_free(&line);
    return NULL;
}

/* ---- heads side by side ------------------------------------------------------------------------------- */

/* A key that both have must be equal; one that only `from` has is taken over. 0 or a status. */
static int join_key(json_t *to, const json_t *from, const char *key, bool equal, struct ws2_error *error)
{
    json_t *value = json_object_get(from, key), *mine = json_object_get(to, key);
    if (value == NULL || (mine != NULL && (!equal || json_equal(mine, value))))
        return 0;
    if (mine != NULL) {
        char *a = json_dumps(mine, JSON_ENCODE_ANY | JSON_COMPACT);
        char *b = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        ws2_fail(error, WS2_ERR_INPUT, "different %s: %s and %s", key, a ? a : "?", b ? b : "?");
        free(a);
        free(b);
        return WS2_ERR_INPUT;
    }
    return json_object_set(to, key, value) == 0 ? 0 : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

/* Appends the entries of `from` that `to` does not have yet: streams that branched share their first ones. */
static int join_history(json_t *to, const json_t *from, struct ws2_error *error)
{
    const json_t *entries = json_object_get(from, "history");
    json_t *mine = json_object_get(to, "history");
    if (json_array_size(entries) == 0)
        return 0;
    if (mine == NULL && json_object_set_new(to, "history", mine = json_array()) != 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    const size_t had = json_array_size(mine);
    for (size_t i = 0; i < json_array_size(entries); i++) {
        json_t *entry = json_array_get(entries, i);
        bool known = false;
        for (size_t k = 0; k < had && !known; k++)
            known = json_equal(json_array_get(mine, k), entry);
        if (!known && json_array_append(mine, entry) != 0)
            return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    }
    return 0;
}

static int join_notes(json_t *to, const json_t *from, struct ws2_error *error)
{
    json_t *notes = json_object_get(from, "notes"), *mine = json_object_get(to, "notes");
    if (notes == NULL)
        return 0;
    if (mine == NULL)
        return join_key(to, from, "notes", false, error);
    return json_object_update_missing(mine, notes) == 0 ? 0
                                                        : ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
}

static int join_roots(json_t *to, const json_t *from, bool tensors, struct ws2_error *error)
{
    static const char *const same[] = {"seq", "role", "classes", "size"};
    const json_t *rows = json_object_get(from, "tensors");
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (join_key(to, from, same[i], true, error) < 0)
            return error->status;
    if (join_key(to, from, "rate", false, error) < 0 || join_notes(to, from, error) < 0 ||
        join_history(to, from, error) < 0)
        return error->status;
    for (size_t i = 0; tensors && i < json_array_size(rows); i++)
        if (json_array_append(json_object_get(to, "tensors"), json_array_get(rows, i)) != 0)
            return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    return 0;
}

struct ws2_head *ws2_head_join(const struct ws2_head *a, const struct ws2_head *b, bool tensors,
                               struct ws2_error *error)
{
    struct ws2_error own = {0};
    struct ws2_error *e = error != NULL ? error : &own;
    for (int i = 0; tensors && i < ws2_head_tensors(b); i++) {
        const char *name = ws2_head_tensor(b, i)->name;
        if (ws2_head_find(a, name) != NULL) {
            ws2_fail(e, WS2_ERR_INPUT, "tensor '%s' is in both", name);
            return NULL;
        }
    }
    json_t *to = json_loads(ws2_head_json(a), 0, NULL), *from = json_loads(ws2_head_json(b), 0, NULL);
    char *text = NULL;
    struct ws2_head *joined = NULL;
    if (to == NULL || from == NULL)
        ws2_fail(e, WS2_ERR_SYSTEM, "out of memory");
    else if (join_roots(to, from, tensors, e) == 0)
        text = json_dumps(to, JSON_COMPACT | JSON_SORT_KEYS);
    if (text != NULL)
        joined = ws2_head_parse((struct ws2_slice){text, strlen(text)}, e);
    else
        ws2_fail(e, WS2_ERR_SYSTEM, "out of memory");
    free(text);
    json_decref(to);
    json_decref(from);
    return joined;
}
