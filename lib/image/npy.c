/* NumPy's .npy: magic, version, a Python dictionary as text, raw elements. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "image/internal.h"

struct npy_type {
    enum ws2_dtype dtype;
    const char *descr;
};

static const struct npy_type npy_types[] = {
    {WS2_U8, "|u1"},  {WS2_I8, "|i1"},  {WS2_U16, "<u2"}, {WS2_I16, "<i2"}, {WS2_I32, "<i4"},
    {WS2_I64, "<i8"}, {WS2_F16, "<f2"}, {WS2_F32, "<f4"}, {WS2_F64, "<f8"}, {WS2_U8, "|b1"},
};

#define NPY_PREFIX 10 /* magic, version and a 16-bit header length */
#define NPY_HEADER_MAX 4096

static const char *npy_descr(enum ws2_dtype dtype)
{
    for (size_t i = 0; i < sizeof npy_types / sizeof *npy_types; i++)
        if (npy_types[i].dtype == dtype)
            return npy_types[i].descr;
    return NULL;
}

/* Fills prefix and dictionary, padded so that the data begins at a multiple of 64; returns the length. */
static size_t npy_header(char *out, size_t size, const char *descr, const struct ws2_shape *shape)
{
    int at = NPY_PREFIX;
    size_t total;

    at += snprintf(out + at, size - (size_t)at, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int i = 0; i < shape->rank; i++)
        at += snprintf(out + at, size - (size_t)at, "%lld%s", (long long)shape->dim[i],
                       i + 1 < shape->rank ? ", "
                       : shape->rank == 1  ? ","
                                           : "");
    at += snprintf(out + at, size - (size_t)at, "), }");
    total = ((size_t)at + 1 + 63) / 64 * 64;
    memset(out + at, ' ', total - (size_t)at);
    out[total - 1] = '\n';
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)((total - NPY_PREFIX) & 255);
    out[9] = (char)((total - NPY_PREFIX) >> 8);
    return total;
}

int ws2_npy_write(const char *path, enum ws2_dtype dtype, const struct ws2_shape *shape, const void *data,
                  struct ws2_error *error)
{
    char header[512];
    size_t bytes, length;
    struct image_output output;
    const char *descr = npy_descr(dtype);
    int status;

    if (!descr || !ws2_shape_bytes(shape, dtype, &bytes))
        return ws2_fail(error, WS2_ERR_USAGE, "%s: an array of this shape cannot be written", path);
    length = npy_header(header, sizeof header, descr, shape);
    status = image_output_open(&output, path, error);
    if (status < 0)
        return status;
    if (fwrite(header, 1, length, output.file) != length || fwrite(data, 1, bytes, output.file) != bytes)
        status = ws2_fail_errno(error, "%s", path);
    return image_output_close(&output, status, error);
}

/* The text after 'key': in the dictionary, or NULL. */
static const char *npy_value(const char *header, const char *key)
{
    const char *at = strstr(header, key);

    if (!at)
        return NULL;
    at += strlen(key);
    while (*at == ' ')
        at++;
    if (*at++ != ':')
        return NULL;
    while (*at == ' ')
        at++;
    return at;
}

static int npy_parse_dtype(const char *header, enum ws2_dtype *dtype)
{
    const char *at = npy_value(header, "'descr'");

    for (size_t i = 0; at && i < sizeof npy_types / sizeof *npy_types; i++) {
        const char *descr = npy_types[i].descr;

        /* One-byte types carry any byte-order mark; the others must be little-endian. */
        if (at[0] == '\'' && (at[1] == descr[0] || (descr[0] == '|' && strchr("<>=", at[1]))) &&
            at[2] == descr[1] && at[3] == descr[2] && at[4] == '\'') {
            *dtype = npy_types[i].dtype;
            return 0;
        }
    }
    return WS2_ERR_INPUT;
}

static int npy_parse_shape(const char *header, struct ws2_shape *shape)
{
    const char *at = npy_value(header, "'shape'");

    shape->rank = 0;
    if (!at || *at++ != '(')
        return WS2_ERR_INPUT;
    for (;;) {
        char *end;
        long long extent;

        while (*at == ' ' || *at == ',')
            at++;
        if (*at == ')')
            return 0;
        if (!isdigit((unsigned char)*at) || shape->rank == WS2_AXES_MAX)
            return WS2_ERR_INPUT;
        extent = strtoll(at, &end, 10);
        shape->dim[shape->rank++] = extent;
        at = end;
    }
}

/* Length of the prefix and of the dictionary, or WS2_ERR_INPUT. */
static int npy_lengths(const uint8_t *bytes, size_t count, size_t *prefix, size_t *header)
{
    if (count < NPY_PREFIX || memcmp(bytes, "\x93NUMPY", 6) != 0 || bytes[6] < 1 || bytes[6] > 3)
        return WS2_ERR_INPUT;
    *prefix = bytes[6] == 1 ? NPY_PREFIX : NPY_PREFIX + 2;
    if (count < *prefix)
        return WS2_ERR_INPUT;
    *header = bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] > 1)
        *header |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    return *header > NPY_HEADER_MAX || *header > count - *prefix ? WS2_ERR_INPUT : 0;
}

static int npy_parse(const uint8_t *bytes, size_t count, enum ws2_dtype *dtype, struct ws2_shape *shape,
                     size_t *at, struct ws2_error *error)
{
    char text[NPY_HEADER_MAX + 1];
    size_t prefix, header, wanted;
    const char *order;

    if (npy_lengths(bytes, count, &prefix, &header))
        return ws2_fail(error, WS2_ERR_INPUT, "not a .npy file");
    memcpy(text, bytes + prefix, header);
    text[header] = '\0';
    order = npy_value(text, "'fortran_order'");
    if (!order || strncmp(order, "False", 5) != 0)
        return ws2_fail(error, WS2_ERR_INPUT, "only arrays in C order are supported");
    if (npy_parse_dtype(text, dtype))
        return ws2_fail(error, WS2_ERR_INPUT, "this element type is not supported");
    if (npy_parse_shape(text, shape) || !ws2_shape_bytes(shape, *dtype, &wanted))
        return ws2_fail(error, WS2_ERR_INPUT, "the shape makes no sense");
    *at = prefix + header;
    if (count - *at < wanted)
        return ws2_fail(error, WS2_ERR_TRUNCATED, "the file ends too early");
    return 0;
}

int ws2_npy_read(const char *path, enum ws2_dtype *dtype, struct ws2_shape *shape, void **data,
                 struct ws2_error *error)
{
    uint8_t *bytes = NULL;
    size_t count = 0, at = 0, wanted = 0;
    struct ws2_error own = {0};
    int status = image_load(path, &bytes, &count, error);

    *data = NULL;
    if (status < 0)
        return status;
    status = npy_parse(bytes, count, dtype, shape, &at, &own);
    if (status < 0) {
        free(bytes);
        return ws2_fail(error, own.status, "%s: %s", path, own.text);
    }
    ws2_shape_bytes(shape, *dtype, &wanted);
    /* Moving to the front keeps the allocator's alignment for the caller. */
    memmove(bytes, bytes + at, wanted);
    *data = bytes;
    return 0;
}
