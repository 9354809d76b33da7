/*
 * JSON of metadata, checked and walked in place: nothing is allocated, so a hostile body of 16 MiB costs no
 * more than its own size, and a record costs no allocation at all. After ws2_json_check has approved a text
 * the walkers may trust its syntax.
 */
#include "stream/internal.h"

struct checker {
    const unsigned char *at, *end;
    int values;
    const char *wrong; /* the first thing that was */
};

static bool wrong(struct checker *c, const char *what)
{
    if (c->wrong == NULL)
        c->wrong = what;
    return false;
}

static void check_space(struct checker *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

static bool check_char(struct checker *c, unsigned char want)
{
    if (c->at == c->end || *c->at != want)
        return false;
    c->at++;
    return true;
}

static bool check_word(struct checker *c, const char *word)
{
    const size_t size = strlen(word);
    if ((size_t)(c->end - c->at) < size || memcmp(c->at, word, size) != 0)
        return wrong(c, "bad JSON");
    c->at += size;
    return true;
}

/* One character of two to four bytes: shortest form, no surrogate, up to U+10FFFF. */
static bool check_utf8(struct checker *c)
{
    const unsigned lead = *c->at++;
    const int more = lead >= 0xC2 && lead <= 0xDF   ? 1
                     : (lead & 0xF0) == 0xE0        ? 2
                     : lead >= 0xF0 && lead <= 0xF4 ? 3
                                                    : 0;
    if (more == 0 || c->end - c->at < more)
        return wrong(c, "text is not UTF-8");
    uint32_t code = lead & (0x3Fu >> more);
    for (int i = 0; i < more; i++) {
        const unsigned next = *c->at++;
        if ((next & 0xC0) != 0x80)
            return wrong(c, "text is not UTF-8");
        code = code << 6 | (next & 0x3F);
    }
    if ((more == 2 && (code < 0x800 || (code >= 0xD800 && code <= 0xDFFF))) ||
        (more == 3 && (code < 0x10000 || code > 0x10FFFF)))
        return wrong(c, "text is not UTF-8");
    return true;
}

static bool check_escape(struct checker *c)
{
    if (c->at == c->end)
        return wrong(c, "bad JSON");
    const unsigned char kind = *c->at++;
    if (kind != 'u')
        return strchr("\"\\/bfnrt", kind) != NULL && kind != '\0' ? true : wrong(c, "bad JSON");
    for (int i = 0; i < 4; i++, c->at++) {
        const bool hex =
            c->at < c->end && ((*c->at >= '0' && *c->at <= '9') || (*c->at >= 'a' && *c->at <= 'f') ||
                               (*c->at >= 'A' && *c->at <= 'F'));
        if (!hex)
            return wrong(c, "bad JSON");
    }
    return true;
}

static bool check_string(struct checker *c, bool plain)
{
    if (!check_char(c, '"'))
        return wrong(c, "bad JSON");
    while (c->at < c->end && *c->at != '"') {
        if (*c->at < 0x20)
            return wrong(c, "bad JSON");
        if (*c->at == '\\') {
            c->at++;
            if (plain)
                return wrong(c, "a key holds a backslash");
            if (!check_escape(c))
                return false;
        } else if (*c->at < 0x80) {
            c->at++;
        } else if (!check_utf8(c)) {
            return false;
        }
    }
    return check_char(c, '"') ? true : wrong(c, "bad JSON");
}

static bool check_number(struct checker *c)
{
    const bool negative = check_char(c, '-');
    const unsigned char *first = c->at;
    uint64_t value = 0;
    bool fits = true;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        fits = fits && value <= (UINT64_MAX - 9) / 10;
        value = value * 10 + (*c->at - '0');
    }
    if (c->at == first || (*first == '0' && c->at - first > 1))
        return wrong(c, "bad JSON");
    if (c->at < c->end && (*c->at == '.' || *c->at == 'e' || *c->at == 'E'))
        return wrong(c, "a number is not an integer");
    if (!fits || value > (uint64_t)INT64_MAX + negative)
        return wrong(c, "a number does not fit into 64 bits");
    return true;
}

static bool check_value(struct checker *c, int depth);

static bool check_array(struct checker *c, int depth)
{
    check_space(c);
    if (check_char(c, ']'))
        return true;
    do {
        if (!check_value(c, depth))
            return false;
        check_space(c);
    } while (check_char(c, ','));
    return check_char(c, ']') ? true : wrong(c, "bad JSON");
}

/* The keys seen so far stay on the stack: 4 KiB for each level, at most 16 levels. */
static bool check_object(struct checker *c, int depth)
{
    struct ws2_slice key[WS2_JSON_MEMBERS_MAX];
    int keys = 0;
    check_space(c);
    if (check_char(c, '}'))
        return true;
    do {
        check_space(c);
        const char *begin = (const char *)c->at + 1;
        if (!check_string(c, true))
            return false;
        if (keys == WS2_JSON_MEMBERS_MAX)
            return wrong(c, "an object has too many members");
        const struct ws2_slice found = {begin, (size_t)((const char *)c->at - 1 - begin)};
        for (int i = 0; i < keys; i++) {
            if (key[i].size == found.size && memcmp(key[i].text, found.text, found.size) == 0)
                return wrong(c, "a key stands twice");
        }
        key[keys++] = found;
        check_space(c);
        if (!check_char(c, ':'))
            return wrong(c, "bad JSON");
        if (!check_value(c, depth))
            return false;
        check_space(c);
    } while (check_char(c, ','));
    return check_char(c, '}') ? true : wrong(c, "bad JSON");
}

static bool check_value(struct checker *c, int depth)
{
    check_space(c);
    if (depth == 0)
        return wrong(c, "nested too deep");
    if (c->values-- == 0)
        return wrong(c, "too many values");
    if (c->at == c->end)
        return wrong(c, "bad JSON");
    switch (*c->at) {
    case '{':
        c->at++;
        return check_object(c, depth - 1);
    case '[':
        c->at++;
        return check_array(c, depth - 1);
    case '"':
        return check_string(c, false);
    case 't':
        return check_word(c, "true");
    case 'f':
        return check_word(c, "false");
    case 'n':
        return check_word(c, "null");
    default:
        return check_number(c);
    }
}

const char *ws2_json_check(struct ws2_slice json)
{
    const unsigned char *text = (const unsigned char *)json.text;
    struct checker c = {text, text + json.size, WS2_JSON_VALUES_MAX, NULL};
    check_space(&c);
    if (c.at == c.end || *c.at != '{')
        return "not a JSON object";
    if (check_value(&c, WS2_JSON_DEPTH_MAX)) {
        check_space(&c);
        if (c.at != c.end)
            wrong(&c, "something follows the JSON object");
    }
    return c.wrong;
}

bool ws2_utf8_check(struct ws2_slice text)
{
    const unsigned char *at = (const unsigned char *)text.text;
    struct checker c = {at, at + text.size, 0, NULL};
    while (c.at < c.end) {
        if (*c.at < 0x80)
            c.at++;
        else if (!check_utf8(&c))
            return false;
    }
    return true;
}

/* ---- walking over checked text ------------------------------------------------------------------------ */

static const char *skip_space(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')
        at++;
    return at;
}

static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++)
        at += *at == '\\';
    return at + 1;
}

/* Returns the end of the value that begins at `at`. */
static const char *skip_value(const char *at)
{
    int open = 0;
    do {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        if (*at == '{' || *at == '[')
            open++;
        else if (*at == '}' || *at == ']')
            open--;
        else if (open == 0)
            break;
        at++;
    } while (open > 0);
    while ((*at >= '0' && *at <= '9') || *at == '-' || (*at >= 'a' && *at <= 'z'))
        at++;
    return at;
}

struct ws2_json_walk ws2_json_walk(struct ws2_slice container)
{
    const char *at = skip_space(container.text);
    return (struct ws2_json_walk){at + 1, container.text + container.size, *at == '{'};
}

bool ws2_json_next(struct ws2_json_walk *walk, struct ws2_slice *key, struct ws2_slice *value)
{
    const char *at = skip_space(walk->at);
    if (*at == ',')
        at = skip_space(at + 1);
    if (*at == '}' || *at == ']')
        return false;
    *key = (struct ws2_slice){at, 0};
    if (walk->object) {
        const char *end = skip_string(at);
        *key = (struct ws2_slice){at + 1, (size_t)(end - at - 2)};
        at = skip_space(skip_space(end) + 1);
    }
    const char *end = skip_value(at);
    *value = (struct ws2_slice){at, (size_t)(end - at)};
    walk->at = end;
    return true;
}

bool ws2_json_integer(struct ws2_slice value, int64_t *number)
{
    const bool negative = value.size > 0 && value.text[0] == '-';
    if (value.size == negative)
        return false;
    uint64_t sum = 0;
    for (size_t i = negative; i < value.size; i++) {
        if (value.text[i] < '0' || value.text[i] > '9')
            return false;
        sum = sum * 10 + (uint64_t)(value.text[i] - '0');
    }
    *number = (int64_t)(negative ? 0 - sum : sum);
    return true;
}

bool ws2_json_string(struct ws2_slice value, char *text, size_t size)
{
    if (value.size < 2 || value.text[0] != '"' || value.size - 2 >= size)
        return false;
    if (memchr(value.text, '\\', value.size) != NULL)
        return false;
    memcpy(text, value.text + 1, value.size - 2);
    text[value.size - 2] = '\0';
    return true;
}

bool ws2_slice_is(struct ws2_slice slice, const char *text)
{
    return slice.size == strlen(text) && memcmp(slice.text, text, slice.size) == 0;
}
