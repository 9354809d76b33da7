/*
 * HEAD: a JSON object kept as it was read, unknown keys included, beside a parsed view of the known ones. Every
 * change builds a new object, checks and views it exactly as one read from a file, and only then takes its
 * place; so a head that exists is valid, its texts stay put, and reading it is safe from many threads.
 */
#include "stream/internal.h"

#include <jansson.h>
#include <stdlib.h>

struct ws2_head {
    json_t *root;
    char *text; /* root as compact JSON, sorted keys */
    const char *seq;
    enum ws2_role role;
    int64_t width, height, num, den;
    struct ws2_tensor_info *tensor;
    int tensors;
    char **history; /* entries as compact JSON */
    int histories;
};

static const char *const role_names[] = {"none", "before", "after"};

const char *ws2_role_name(enum ws2_role role)
{
    return (unsigned)role <= WS2_ROLE_AFTER ? role_names[role] : "?";
}

int ws2_role_parse(const char *text, enum ws2_role *role)
{
    for (int i = WS2_ROLE_NONE; i <= WS2_ROLE_AFTER; i++) {
        if (strcmp(text, role_names[i]) == 0) {
            *role = (enum ws2_role)i;
            return WS2_OK;
        }
    }
    return WS2_ERR_USAGE;
}

bool ws2_name_valid(const char *name)
{
    const size_t size = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return size > 0 && size <= WS2_NAME_MAX && name[size] == '\0';
}

/* ---- the view ----------------------------------------------------------------------------------------- */

/* [a,b] of two integers of 1 or more; absent gives the defaults. */
static bool view_pair(const json_t *root, const char *key, int64_t *a, int64_t *b)
{
    const json_t *pair = json_object_get(root, key);
    if (pair == NULL)
        return true;
    const json_t *first = json_array_get(pair, 0), *second = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !json_is_integer(first) || !json_is_integer(second))
        return false;
    *a = json_integer_value(first);
    *b = json_integer_value(second);
    return *a >= 1 && *b >= 1;
}

static bool view_text(const json_t *object, const char *key, char *text, size_t size)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value) || json_string_length(value) >= size)
        return false;
    memcpy(text, json_string_value(value), json_string_length(value) + 1);
    return true;
}

static bool view_tensor(const json_t *row, struct ws2_tensor_info *info)
{
    char dtype[8];
    return json_is_object(row) && view_text(row, "name", info->name, sizeof info->name) &&
           view_text(row, "dtype", dtype, sizeof dtype) &&
           view_text(row, "axes", info->axes, sizeof info->axes) &&
           view_text(row, "unit", info->unit, sizeof info->unit) && ws2_name_valid(info->name) &&
           ws2_dtype_parse(dtype, &info->dtype) == WS2_OK;
}

static const struct ws2_tensor_info *find(const struct ws2_head *head, const char *name)
{
    for (int i = 0; i < head->tensors; i++) {
        if (strcmp(head->tensor[i].name, name) == 0)
            return &head->tensor[i];
    }
    return NULL;
}

static const char *view_tensors(struct ws2_head *head)
{
    const json_t *rows = json_object_get(head->root, "tensors");
    const size_t count = json_array_size(rows);
    if (!json_is_array(rows))
        return "no table of tensors";
    if (count > WS2_TENSORS_MAX)
        return "more than 64 tensors";
    head->tensor = ws2_calloc(count, sizeof *head->tensor);
    if (head->tensor == NULL)
        return "";
    for (size_t i = 0; i < count; i++) {
        struct ws2_tensor_info info;
        if (!view_tensor(json_array_get(rows, i), &info))
            return "bad row in the table of tensors";
        if (find(head, info.name) != NULL)
            return "a tensor stands twice in the table";
        head->tensor[head->tensors++] = info;
    }
    return NULL;
}

static const char *view_history(struct ws2_head *head)
{
    const json_t *rows = json_object_get(head->root, "history");
    const size_t count = json_array_size(rows);
    if (rows != NULL && !json_is_array(rows))
        return "bad history";
    head->history = ws2_calloc(count, sizeof *head->history);
    if (head->history == NULL)
        return "";
    for (size_t i = 0; i < count; i++) {
        const json_t *row = json_array_get(rows, i);
        if (!json_is_object(row))
            return "bad history";
        char *text = json_dumps(row, JSON_COMPACT | JSON_SORT_KEYS);
        if (text == NULL)
            return "";
        head->history[head->histories++] = text;
    }
    return NULL;
}

/* Names are printed in messages of one line: no control characters. */
static bool is_name(const json_t *value)
{
    if (!json_is_string(value))
        return false;
    for (const char *at = json_string_value(value); *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7F)
            return false;
    }
    return true;
}

static bool all_names(const json_t *array)
{
    const json_t *value;
    size_t i;
    json_array_foreach(array, i, value)
    {
        if (!is_name(value))
            return false;
    }
    return json_is_array(array);
}

static bool all_texts(json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value))
            return false;
    }
    return json_is_object(object);
}

/* Fills the view from root. NULL when good, "" when out of memory, else what is wrong. */
static const char *view(struct ws2_head *head)
{
    const json_t *seq = json_object_get(head->root, "seq"), *role = json_object_get(head->root, "role");
    const json_t *classes = json_object_get(head->root, "classes");
    json_t *notes = json_object_get(head->root, "notes");
    head->text = json_dumps(head->root, JSON_COMPACT | JSON_SORT_KEYS);
    if (head->text == NULL)
        return "";
    const struct ws2_slice all = {head->text, strlen(head->text)};
    if (all.size > WS2_BODY_MAX)
        return "larger than 16 MiB";
    const char *wrong = ws2_json_check(all);
    if (wrong != NULL)
        return wrong;
    if (seq != NULL && !is_name(seq))
        return "bad sequence name";
    head->seq = seq != NULL ? json_string_value(seq) : "";
    if (role != NULL &&
        (!json_is_string(role) || ws2_role_parse(json_string_value(role), &head->role) != WS2_OK))
        return "bad role";
    if (classes != NULL && !all_names(classes))
        return "bad class names";
    if (notes != NULL && !all_texts(notes))
        return "bad notes";
    if (!view_pair(head->root, "size", &head->width, &head->height))
        return "bad size";
    head->den = 1;
    if (!view_pair(head->root, "rate", &head->num, &head->den))
        return "bad rate";
    wrong = view_tensors(head);
    return wrong != NULL ? wrong : view_history(head);
}

/* ---- making and changing ------------------------------------------------------------------------------ */

/* Takes over the reference root (may be NULL: out of memory). */
static struct ws2_head *head_make(json_t *root, struct ws2_error *error)
{
    struct ws2_head *head = root != NULL ? ws2_calloc(1, sizeof *head) : NULL;
    if (head == NULL) {
        json_decref(root);
        ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
        return NULL;
    }
    head->root = root;
    const char *wrong = view(head);
    if (wrong == NULL)
        return head;
    if (wrong[0] == '\0')
        ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    else
        ws2_fail(error, WS2_ERR_INPUT, "HEAD: %s", wrong);
    ws2_head_free(head);
    return NULL;
}

struct ws2_head *ws2_head_parse(struct ws2_slice json, struct ws2_error *error)
{
    json_error_t reason;
    /* The check first: it bounds what the parser may have to build. */
    const char *wrong = ws2_json_check(json);
    if (wrong != NULL) {
        ws2_fail(error, WS2_ERR_INPUT, "HEAD: %s", wrong);
        return NULL;
    }
    json_t *root = json_loadb(json.text, json.size, JSON_REJECT_DUPLICATES, &reason);
    if (root == NULL) {
        const bool memory = json_error_code(&reason) == json_error_out_of_memory;
        ws2_fail(error, memory ? WS2_ERR_SYSTEM : WS2_ERR_INPUT, "HEAD: %s", reason.text);
        return NULL;
    }
    return head_make(root, error);
}

struct ws2_head *ws2_head_new(void)
{
    return head_make(json_pack("{s:[]}", "tensors"), NULL);
}

struct ws2_head *ws2_head_copy(const struct ws2_head *head)
{
    return head_make(json_deep_copy(head->root), NULL);
}

static void view_free(struct ws2_head *head)
{
    for (int i = 0; i < head->histories; i++)
        free(head->history[i]);
    free(head->history);
    free(head->tensor);
    free(head->text);
    json_decref(head->root);
}

void ws2_head_free(struct ws2_head *head)
{
    if (head == NULL)
        return;
    view_free(head);
    free(head);
}

/* Puts the changed object in the place of the old one when it is valid; takes over the reference. */
static int adopt(struct ws2_head *head, json_t *root, bool good, struct ws2_error *error)
{
    struct ws2_error local = {0};
    if (!good) {
        json_decref(root);
        root = NULL;
    }
    struct ws2_head *next = head_make(root, &local);
    if (next == NULL)
        return ws2_fail(error, local.status == WS2_ERR_INPUT ? WS2_ERR_USAGE : local.status, "%s",
                        local.text);
    view_free(head);
    *head = *next;
    free(next);
    return WS2_OK;
}

/* Sets key to value (a new reference, taken over), or removes the key. */
static int set(struct ws2_head *head, const char *key, json_t *value, bool remove)
{
    json_t *root = json_deep_copy(head->root);
    if (remove) {
        json_decref(value);
        json_object_del(root, key);
        return adopt(head, root, root != NULL, NULL);
    }
    const bool good = json_object_set_new(root, key, value) == 0;
    return adopt(head, root, good, NULL);
}

/* ---- single values ------------------------------------------------------------------------------------ */

const char *ws2_head_seq(const struct ws2_head *head)
{
    return head->seq;
}

/* jansson refuses text that is not UTF-8 by giving NULL, as it does when memory is short; so ask first. */
static bool is_utf8(const char *text)
{
    return ws2_utf8_check((struct ws2_slice){text, strlen(text)});
}

int ws2_head_set_seq(struct ws2_head *head, const char *seq)
{
    if (!is_utf8(seq))
        return WS2_ERR_USAGE;
    return set(head, "seq", json_string(seq), seq[0] == '\0');
}

enum ws2_role ws2_head_role(const struct ws2_head *head)
{
    return head->role;
}

int ws2_head_set_role(struct ws2_head *head, enum ws2_role role)
{
    if ((unsigned)role > WS2_ROLE_AFTER)
        return WS2_ERR_USAGE;
    return set(head, "role", json_string(ws2_role_name(role)), role == WS2_ROLE_NONE);
}

void ws2_head_size(const struct ws2_head *head, int64_t *width, int64_t *height)
{
    *width = head->width;
    *height = head->height;
}

static int set_pair(struct ws2_head *head, const char *key, int64_t a, int64_t b, bool remove)
{
    if (remove)
        return set(head, key, NULL, true);
    return set(head, key, json_pack("[II]", (json_int_t)a, (json_int_t)b), false);
}

int ws2_head_set_size(struct ws2_head *head, int64_t width, int64_t height)
{
    return set_pair(head, "size", width, height, width == 0 && height == 0);
}

void ws2_head_rate(const struct ws2_head *head, int64_t *num, int64_t *den)
{
    *num = head->num;
    *den = head->den;
}

int ws2_head_set_rate(struct ws2_head *head, int64_t num, int64_t den)
{
    return set_pair(head, "rate", num, den, num == 0);
}

int ws2_head_classes(const struct ws2_head *head)
{
    return (int)json_array_size(json_object_get(head->root, "classes"));
}

const char *ws2_head_class(const struct ws2_head *head, int index)
{
    const json_t *classes = json_object_get(head->root, "classes");
    return index < 0 ? NULL : json_string_value(json_array_get(classes, (size_t)index));
}

int ws2_head_class_find(const struct ws2_head *head, const char *name)
{
    for (int i = 0; i < ws2_head_classes(head); i++)
        if (strcmp(ws2_head_class(head, i), name) == 0)
            return i;
    return -1;
}

int ws2_head_set_classes(struct ws2_head *head, const char *const *names, int count)
{
    json_t *classes = json_array();
    for (int i = 0; i < count; i++) {
        if (!is_utf8(names[i])) {
            json_decref(classes);
            return WS2_ERR_USAGE;
        }
        if (json_array_append_new(classes, json_string(names[i])) != 0) {
            json_decref(classes);
            return WS2_ERR_SYSTEM;
        }
    }
    return set(head, "classes", classes, count <= 0);
}

const char *ws2_head_note(const struct ws2_head *head, const char *key)
{
    return json_string_value(json_object_get(json_object_get(head->root, "notes"), key));
}

int ws2_head_set_note(struct ws2_head *head, const char *key, const char *text)
{
    if (!is_utf8(key) || !is_utf8(text) || strpbrk(key, "\"\\") != NULL)
        return WS2_ERR_USAGE;
    for (const char *at = key; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20)
            return WS2_ERR_USAGE;
    }
    const json_t *old = json_object_get(head->root, "notes");
    json_t *notes = old != NULL ? json_deep_copy(old) : json_object();
    if (json_object_set_new(notes, key, json_string(text)) != 0) {
        json_decref(notes);
        return WS2_ERR_SYSTEM;
    }
    return set(head, "notes", notes, false);
}

/* ---- tensors ------------------------------------------------------------------------------------------ */

int ws2_head_tensors(const struct ws2_head *head)
{
    return head->tensors;
}

const struct ws2_tensor_info *ws2_head_tensor(const struct ws2_head *head, int index)
{
    return index >= 0 && index < head->tensors ? &head->tensor[index] : NULL;
}

const struct ws2_tensor_info *ws2_head_find(const struct ws2_head *head, const char *name)
{
    return find(head, name);
}

const struct ws2_tensor_info *ws2_head_want(const struct ws2_head *head, const char *name,
                                            enum ws2_dtype dtype, struct ws2_error *error)
{
    const struct ws2_tensor_info *info = ws2_head_find(head, name);
    if (info != NULL && info->dtype == dtype)
        return info;
    if (info == NULL)
        ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", name);
    else
        ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is %s, not %s", name, ws2_dtype_name(info->dtype),
                 ws2_dtype_name(dtype));
    return NULL;
}

int ws2_head_add_tensor(struct ws2_head *head, const char *name, enum ws2_dtype dtype, const char *axes,
                        const char *unit, struct ws2_error *error)
{
    if (!ws2_name_valid(name))
        return ws2_fail(error, WS2_ERR_USAGE, "'%.80s' is not a tensor name", name);
    if (find(head, name) != NULL)
        return ws2_fail(error, WS2_ERR_USAGE, "tensor '%s' is already in the stream", name);
    if (head->tensors == WS2_TENSORS_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "no room for tensor '%s': %d are the most", name,
                        WS2_TENSORS_MAX);
    if (ws2_dtype_size(dtype) == 0 || strlen(axes) > WS2_TEXT_MAX || strlen(unit) > WS2_TEXT_MAX ||
        !is_utf8(axes) || !is_utf8(unit))
        return ws2_fail(error, WS2_ERR_USAGE, "tensor '%s': bad type, axes or unit", name);
    json_t *root = json_deep_copy(head->root);
    json_t *row =
        json_pack("{ssssssss}", "name", name, "dtype", ws2_dtype_name(dtype), "axes", axes, "unit", unit);
    const bool good = json_array_append_new(json_object_get(root, "tensors"), row) == 0;
    return adopt(head, root, good, error);
}

int ws2_head_drop_tensor(struct ws2_head *head, const char *name)
{
    const struct ws2_tensor_info *info = find(head, name);
    if (info == NULL)
        return WS2_OK;
    json_t *root = json_deep_copy(head->root);
    const bool good = json_array_remove(json_object_get(root, "tensors"), (size_t)(info - head->tensor)) == 0;
    return adopt(head, root, good, NULL);
}

/* ---- history and the whole ---------------------------------------------------------------------------- */

int ws2_head_histories(const struct ws2_head *head)
{
    return head->histories;
}

const char *ws2_head_history(const struct ws2_head *head, int index)
{
    return index >= 0 && index < head->histories ? head->history[index] : NULL;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The options as a sorted array; NULL when out of memory or not UTF-8. */
static json_t *sorted_options(const struct ws2_history *entry)
{
    json_t *options = json_array();
    const char **sorted = ws2_calloc((size_t)entry->count, sizeof *sorted);
    bool good = options != NULL && sorted != NULL;
    for (int i = 0; good && i < entry->count; i++)
        sorted[i] = entry->options[i];
    if (good)
        qsort(sorted, (size_t)entry->count, sizeof *sorted, by_text);
    for (int i = 0; good && i < entry->count; i++)
        good = json_array_append_new(options, json_string(sorted[i])) == 0;
    free(sorted);
    if (good)
        return options;
    json_decref(options);
    return NULL;
}

int ws2_head_add_history(struct ws2_head *head, const struct ws2_history *entry)
{
    for (int i = 0; i < entry->count; i++) {
        if (!is_utf8(entry->options[i]))
            return WS2_ERR_USAGE;
    }
    json_t *root = json_deep_copy(head->root);
    json_t *row = json_pack("{ssssso}", "program", entry->program, "version", entry->version, "options",
                            sorted_options(entry));
    bool good = root != NULL && row != NULL;
    if (good && entry->seeded)
        good = json_object_set_new(row, "seed", json_integer(entry->seed)) == 0;
    if (good && entry->model != NULL)
        good = json_object_set_new(row, "model", json_string(entry->model)) == 0;
    if (good && json_object_get(root, "history") == NULL)
        good = json_object_set_new(root, "history", json_array()) == 0;
    if (!good)
        json_decref(row);
    good = good && json_array_append_new(json_object_get(root, "history"), row) == 0;
    return adopt(head, root, good, NULL);
}

const char *ws2_head_json(const struct ws2_head *head)
{
    return head->text;
}

/* ---- agreement ---------------------------------------------------------------------------------------- */

static bool same_tensor(const struct ws2_tensor_info *a, const struct ws2_tensor_info *b)
{
    return a->dtype == b->dtype && strcmp(a->axes, b->axes) == 0 && strcmp(a->unit, b->unit) == 0;
}

int ws2_head_agree(const struct ws2_head *a, const struct ws2_head *b, struct ws2_error *error)
{
    if (a->role != b->role)
        return ws2_fail(error, WS2_ERR_INPUT, "roles differ: %s and %s", ws2_role_name(a->role),
                        ws2_role_name(b->role));
    if (a->width != b->width || a->height != b->height)
        return ws2_fail(error, WS2_ERR_INPUT, "sizes differ: %lldx%lld and %lldx%lld", (long long)a->width,
                        (long long)a->height, (long long)b->width, (long long)b->height);
    if (!json_equal(json_object_get(a->root, "classes"), json_object_get(b->root, "classes")) &&
        ws2_head_classes(a) + ws2_head_classes(b) > 0)
        return ws2_fail(error, WS2_ERR_INPUT, "class names differ");
    for (int i = 0; i < a->tensors; i++) {
        const struct ws2_tensor_info *mine = &a->tensor[i], *other = find(b, mine->name);
        if (other == NULL)
            return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is in one only", mine->name);
        if (!same_tensor(mine, other))
            return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' differs: %s[%s] and %s[%s]", mine->name,
                            ws2_dtype_name(mine->dtype), mine->axes, ws2_dtype_name(other->dtype),
                            other->axes);
    }
    for (int i = 0; i < b->tensors; i++) {
        if (find(a, b->tensor[i].name) == NULL)
            return ws2_fail(error, WS2_ERR_INPUT, "tensor '%s' is in one only", b->tensor[i].name);
    }
    return WS2_OK;
}
