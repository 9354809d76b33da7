/* The picture in memory, reading by content, and files that appear atomically. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "image/internal.h"

int ws2_image_reset(struct ws2_image *image, int width, int height, int channels, struct ws2_error *error)
{
    size_t bytes;

    if (width < 1 || height < 1 || width > WS2_IMAGE_SIDE_MAX || height > WS2_IMAGE_SIDE_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "a picture of %d x %d pixels is not supported", width, height);
    if (channels != 1 && channels != 3 && channels != 4)
        return ws2_fail(error, WS2_ERR_USAGE, "a picture of %d channels is not supported", channels);
    bytes = (size_t)width * (size_t)height * (size_t)channels;
    if (bytes > WS2_IMAGE_BYTES_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "a picture of %d x %d pixels is too large", width, height);
    if (ws2_reserve((void **)&image->data, &image->capacity, bytes))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a picture of %d x %d pixels", width, height);
    image->width = width;
    image->height = height;
    image->channels = channels;
    return 0;
}

void ws2_image_free(struct ws2_image *image)
{
    free(image->data);
    *image = (struct ws2_image){0};
}

static size_t image_bytes(const struct ws2_image *image)
{
    return (size_t)image->width * (size_t)image->height * (size_t)image->channels;
}

int ws2_image_copy(struct ws2_image *to, const struct ws2_image *from, struct ws2_error *error)
{
    int status = ws2_image_reset(to, from->width, from->height, from->channels, error);

    if (status < 0)
        return status;
    memcpy(to->data, from->data, image_bytes(from));
    return 0;
}

int ws2_image_crop(struct ws2_image *image, int x, int y, int width, int height, struct ws2_error *error)
{
    const size_t c = (size_t)image->channels;

    if (x < 0 || y < 0 || width < 1 || height < 1 || width > image->width - x || height > image->height - y)
        return ws2_fail(error, WS2_ERR_USAGE, "the crop %d,%d,%d,%d reaches outside the picture of %d x %d",
                        x, y, width, height, image->width, image->height);
    for (int row = 0; row < height; row++)
        memmove(image->data + (size_t)row * (size_t)width * c,
                image->data + ((size_t)(y + row) * (size_t)image->width + (size_t)x) * c, (size_t)width * c);
    image->width = width;
    image->height = height;
    return 0;
}

/* ---- number of channels -------------------------------------------------------------------------- */

/* From the last pixel to the first, so that growing in place never overwrites what is still to be read. */
static void widen_channels(uint8_t *data, size_t pixels, int from, int to)
{
    for (size_t i = pixels; i-- > 0;) {
        const uint8_t *in = data + i * (size_t)from;
        const uint8_t r = in[0], g = in[from == 1 ? 0 : 1], b = in[from == 1 ? 0 : 2];
        uint8_t *out = data + i * (size_t)to;

        out[0] = r;
        out[1] = g;
        out[2] = b;
        if (to == 4)
            out[3] = 255;
    }
}

static void drop_alpha(uint8_t *data, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++)
        memmove(data + i * 3, data + i * 4, 3);
}

int ws2_image_convert(struct ws2_image *image, int channels, struct ws2_error *error)
{
    const size_t pixels = (size_t)image->width * (size_t)image->height;
    const int from = image->channels;
    int status;

    if (channels == from)
        return 0;
    if (channels > from) {
        status = ws2_image_reset(image, image->width, image->height, channels, error);
        if (status < 0)
            return status;
        widen_channels(image->data, pixels, from, channels);
        return 0;
    }
    if (channels != 1 && channels != 3)
        return ws2_fail(error, WS2_ERR_USAGE, "a picture of %d channels is not supported", channels);
    if (from == 4)
        drop_alpha(image->data, pixels);
    if (channels == 1)
        ws2_luma_u8(image->data, image->data, pixels);
    image->channels = channels;
    return 0;
}

/* ---- orientation --------------------------------------------------------------------------------- */

int image_orient(struct ws2_image *image, struct ws2_image *scratch, int orientation, struct ws2_error *error)
{
    const int w = image->width, h = image->height, c = image->channels;
    const bool transposed = orientation >= 5;
    int status;
    struct ws2_image swap;

    if (orientation < 2 || orientation > 8)
        return 0;
    status = ws2_image_reset(scratch, transposed ? h : w, transposed ? w : h, c, error);
    if (status < 0)
        return status;
    for (int y = 0; y < scratch->height; y++) {
        uint8_t *out = scratch->data + (size_t)y * (size_t)scratch->width * (size_t)c;

        for (int x = 0; x < scratch->width; x++) {
            const int u = transposed ? y : x, v = transposed ? x : y;
            const bool mirror_x =
                orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
            const bool mirror_y =
                orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
            const int from_x = mirror_x ? w - 1 - u : u, from_y = mirror_y ? h - 1 - v : v;
            const uint8_t *in = image->data + ((size_t)from_y * (size_t)w + (size_t)from_x) * (size_t)c;

            for (int k = 0; k < c; k++)
                out[x * c + k] = in[k];
        }
    }
    swap = *image;
    *image = *scratch;
    *scratch = swap;
    return 0;
}

/* ---- reading by content -------------------------------------------------------------------------- */

int image_load(const char *path, uint8_t **bytes, size_t *count, struct ws2_error *error)
{
    struct stat info;
    size_t have = 0, capacity = 0;
    int status = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    *bytes = NULL;
    *count = 0;
    if (fd < 0)
        return errno == ENOENT || errno == EACCES || errno == ENOTDIR
                   ? ws2_fail(error, WS2_ERR_INPUT, "%s: %s", path, strerror(errno))
                   : ws2_fail_errno(error, "%s", path);
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && (uint64_t)info.st_size > WS2_IMAGE_BYTES_MAX)
        status = ws2_fail(error, WS2_ERR_INPUT, "%s: too large for a picture", path);
    if (status == 0)
        capacity = S_ISREG(info.st_mode) ? (size_t)info.st_size + 1 : 1 << 16;
    for (ssize_t got = 1; status == 0 && got > 0;) {
        uint8_t *grown =
            have == capacity || !*bytes ? realloc(*bytes, capacity = have ? have * 2 : capacity) : *bytes;

        if (!grown) {
            status = ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", path);
            break;
        }
        *bytes = grown;
        do
            got = read(fd, *bytes + have, capacity - have);
        while (got < 0 && errno == EINTR);
        if (got < 0)
            status = ws2_fail(error, WS2_ERR_INPUT, "%s: %s", path, strerror(errno));
        else
            have += (size_t)got;
        if (have > WS2_IMAGE_BYTES_MAX)
            status = ws2_fail(error, WS2_ERR_INPUT, "%s: too large for a picture", path);
    }
    close(fd);
    if (status < 0) {
        free(*bytes);
        *bytes = NULL;
        return status;
    }
    *count = have;
    return 0;
}

static bool starts(const uint8_t *bytes, size_t count, size_t at, const char *magic, size_t length)
{
    return count >= at + length && memcmp(bytes + at, magic, length) == 0;
}

static bool sniff_video(const uint8_t *b, size_t n)
{
    return starts(b, n, 4, "ftyp", 4) || starts(b, n, 4, "moov", 4) || starts(b, n, 4, "mdat", 4) ||
           starts(b, n, 4, "wide", 4) || starts(b, n, 4, "free", 4) || starts(b, n, 4, "skip", 4) ||
           starts(b, n, 0, "\x1A\x45\xDF\xA3", 4) ||
           (starts(b, n, 0, "RIFF", 4) && starts(b, n, 8, "AVI ", 4)) || starts(b, n, 0, "GIF8", 4) ||
           starts(b, n, 0, "FLV\x01", 4) || starts(b, n, 0, "OggS", 4) ||
           starts(b, n, 0, "\x30\x26\xB2\x75", 4) || starts(b, n, 0, "YUV4MPEG2", 9) ||
           starts(b, n, 0, "DKIF", 4) || (n > 188 && b[0] == 0x47 && b[188] == 0x47) ||
           starts(b, n, 0, "\x00\x00\x01\xBA", 4) || starts(b, n, 0, "\x00\x00\x01\xB3", 4);
}

static bool is_pnm(const uint8_t *b, size_t n)
{
    return n >= 3 && b[0] == 'P' && b[1] >= '1' && b[1] <= '6' && strchr("\n\r\t #", b[2]) && b[2] != '\0';
}

static bool sniff_still(const uint8_t *b, size_t n)
{
    return starts(b, n, 0, "BM", 2) || (starts(b, n, 0, "RIFF", 4) && starts(b, n, 8, "WEBP", 4)) ||
           starts(b, n, 0, "II*\0", 4) || starts(b, n, 0, "MM\0*", 4) || is_pnm(b, n) ||
           starts(b, n, 0, "P7\n", 3);
}

static enum ws2_media sniff_bytes(const uint8_t *bytes, size_t count)
{
    /* The first four bytes of a PNG decide, so that a damaged signature is reported by the PNG reader. */
    if (starts(bytes, count, 0, "\x89PNG", 4))
        return WS2_MEDIA_PNG;
    if (starts(bytes, count, 0, "\xFF\xD8\xFF", 3))
        return WS2_MEDIA_JPEG;
    if (sniff_still(bytes, count))
        return WS2_MEDIA_STILL;
    return sniff_video(bytes, count) ? WS2_MEDIA_VIDEO : WS2_MEDIA_OTHER;
}

int ws2_media_sniff(const char *path, struct ws2_error *error)
{
    uint8_t head[512];
    size_t count;
    struct stat info;
    FILE *file = fopen(path, "rbe");

    if (!file)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: %s", path, strerror(errno));
    if (fstat(fileno(file), &info) == 0 && S_ISDIR(info.st_mode)) {
        fclose(file);
        return ws2_fail(error, WS2_ERR_INPUT, "%s: is a folder", path);
    }
    count = fread(head, 1, sizeof head, file);
    if (ferror(file)) {
        fclose(file);
        return ws2_fail(error, WS2_ERR_INPUT, "%s: cannot be read", path);
    }
    fclose(file);
    if (count == 0)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: the file is empty", path);
    return sniff_bytes(head, count);
}

int ws2_image_decode(struct ws2_image *image, const void *bytes, size_t count, const char *name, int channels,
                     struct ws2_error *error)
{
    struct ws2_error own = {0};
    int status;

    switch (sniff_bytes(bytes, count)) {
    case WS2_MEDIA_PNG:
        status = image_png_decode(image, bytes, count, &own);
        break;
    case WS2_MEDIA_JPEG:
        status = image_jpeg_decode(image, bytes, count, &own);
        break;
    default:
        if (is_pnm(bytes, count))
            status = image_pnm_decode(image, bytes, count, &own);
        else
            status =
                ws2_fail(&own, WS2_ERR_INPUT, count ? "not a PNG, JPEG or PNM picture" : "the file is empty");
    }
    if (status == 0 && channels != 0)
        status = ws2_image_convert(image, channels, &own);
    return status < 0 ? ws2_fail(error, own.status, "%s: %s", name, own.text) : 0;
}

int ws2_image_read(struct ws2_image *image, const char *path, int channels, struct ws2_error *error)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    struct ws2_error own = {0};
    int status = image_load(path, &bytes, &count, error);
    enum ws2_media media;

    if (status < 0)
        return status;
    media = sniff_bytes(bytes, count);
    if (count == 0 || media == WS2_MEDIA_PNG || media == WS2_MEDIA_JPEG || is_pnm(bytes, count)) {
        status = ws2_image_decode(image, bytes, count, path, channels, error);
        free(bytes);
        return status;
    }
    free(bytes);
    if (media == WS2_MEDIA_OTHER)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: not a picture", path);
    status = image_still_read(image, path, &own);
    if (status == 0 && channels != 0)
        status = ws2_image_convert(image, channels, &own);
    return status < 0 ? ws2_fail(error, own.status, "%s: %s", path, own.text) : 0;
}

/* ---- writing ------------------------------------------------------------------------------------- */

int image_output_open(struct image_output *output, const char *path, struct ws2_error *error)
{
    const size_t length = strlen(path);

    *output = (struct image_output){NULL, strdup(path), malloc(length + sizeof ".tmp")};
    if (!output->path || !output->temporary) {
        free(output->path);
        free(output->temporary);
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", path);
    }
    memcpy(output->temporary, path, length);
    memcpy(output->temporary + length, ".tmp", sizeof ".tmp");
    output->file = fopen(output->temporary, "wbe");
    if (!output->file) {
        ws2_fail_errno(error, "%s", output->temporary);
        free(output->path);
        free(output->temporary);
        return WS2_ERR_SYSTEM;
    }
    return 0;
}

int image_output_close(struct image_output *output, int status, struct ws2_error *error)
{
    const bool failed = ferror(output->file) != 0;

    /* fclose reports what fwrite could only buffer: a full disk often shows here first. */
    if (fclose(output->file) != 0 && status == 0)
        status = ws2_fail_errno(error, "%s", output->path);
    if (failed && status == 0)
        status = ws2_fail(error, WS2_ERR_SYSTEM, "%s: cannot be written", output->path);
    if (status == 0 && rename(output->temporary, output->path) != 0)
        status = ws2_fail_errno(error, "%s", output->path);
    if (status < 0)
        unlink(output->temporary);
    free(output->path);
    free(output->temporary);
    *output = (struct image_output){0};
    return status;
}

int image_output_write(const char *path, int (*write)(FILE *file, const void *what, struct ws2_error *error),
                       const void *what, struct ws2_error *error)
{
    struct image_output output;
    struct ws2_error own = {0};
    int status = image_output_open(&output, path, error);

    if (status < 0)
        return status;
    status = write(output.file, what, &own);
    if (status < 0)
        ws2_fail(error, own.status, "%s: %s", path, own.text);
    return image_output_close(&output, status, error);
}
