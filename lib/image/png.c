/* PNG through libpng. Its errors leave by longjmp, so everything a function needs after one lives in a struct. */
#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <png.h>
#include "image/internal.h"

/* ---- reading ------------------------------------------------------------------------------------- */

struct pngio_source {
    const uint8_t *bytes;
    size_t count, at;
    char text[200]; /* of the error that libpng raised */
};

static void pngio_on_error(png_structp png, png_const_charp text)
{
    struct pngio_source *source = png_get_error_ptr(png);

    snprintf(source->text, sizeof source->text, "%s", text);
    longjmp(png_jmpbuf(png), 1);
}

/* Ancillary chunks with a wrong checksum and the like: the pixels are fine. */
static void pngio_on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void pngio_take(png_structp png, png_bytep out, size_t count)
{
    struct pngio_source *source = png_get_io_ptr(png);

    if (count > source->count - source->at)
        png_error(png, "the file ends too early");
    memcpy(out, source->bytes + source->at, count);
    source->at += count;
}

/* Channels that the rows will have once palettes, transparency and low bit depths are expanded. */
static int pngio_expanded_channels(png_structp png, png_infop info)
{
    const int type = png_get_color_type(png, info);
    const bool alpha = (type & PNG_COLOR_MASK_ALPHA) != 0 || png_get_valid(png, info, PNG_INFO_tRNS) != 0;

    if (alpha)
        return 4;
    return type == PNG_COLOR_TYPE_GRAY ? 1 : 3;
}

static void pngio_expand(png_structp png, int channels)
{
    png_set_expand(png);
    if (channels == 4)
        png_set_gray_to_rgb(png);
}

static void pngio_read_rows(png_structp png, uint8_t *data, size_t stride, int height)
{
    const int passes = png_set_interlace_handling(png);

    png_start_read_image(png);
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < height; y++)
            png_read_row(png, data + (size_t)y * stride, NULL);
    png_read_end(png, NULL);
}

/* Reads from source; NULL when out of memory. */
static png_structp pngio_reader(struct pngio_source *source, png_infop *info)
{
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, source, pngio_on_error, pngio_on_warning);

    *info = png ? png_create_info_struct(png) : NULL;
    if (!*info) {
        png_destroy_read_struct(&png, NULL, NULL);
        return NULL;
    }
    png_set_user_limits(png, WS2_IMAGE_SIDE_MAX, WS2_IMAGE_SIDE_MAX);
    png_set_read_fn(png, source, pngio_take);
    return png;
}

int image_png_decode(struct ws2_image *image, const uint8_t *bytes, size_t count, struct ws2_error *error)
{
    struct pngio_source source = {bytes, count, 0, ""};
    png_infop info = NULL;
    png_structp png = pngio_reader(&source, &info);
    volatile int status = 0;

    if (!png)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
    if (setjmp(png_jmpbuf(png))) {
        status = ws2_fail(error, WS2_ERR_INPUT, "damaged PNG: %s", source.text);
    } else {
        int channels;

        png_read_info(png, info);
        channels = pngio_expanded_channels(png, info);
        pngio_expand(png, channels);
        png_set_scale_16(png);
        status = ws2_image_reset(image, (int)png_get_image_width(png, info),
                                 (int)png_get_image_height(png, info), channels, error);
        if (status == 0)
            pngio_read_rows(png, image->data, (size_t)image->width * (size_t)channels, image->height);
    }
    png_destroy_read_struct(&png, &info, NULL);
    return status;
}

/* What png_read16 has found; outside its stack frame because of longjmp. */
struct pngio_deep {
    uint16_t *data;
    int width, height, channels;
};

static int pngio_read16_body(png_structp png, png_infop info, struct pngio_deep *out, struct ws2_error *error)
{
    size_t bytes;

    png_read_info(png, info);
    if (png_get_bit_depth(png, info) != 16)
        return ws2_fail(error, WS2_ERR_INPUT, "not a 16-bit PNG");
    out->width = (int)png_get_image_width(png, info);
    out->height = (int)png_get_image_height(png, info);
    out->channels = png_get_channels(png, info);
    bytes = (size_t)out->width * (size_t)out->height * (size_t)out->channels * 2;
    if (bytes > WS2_IMAGE_BYTES_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "a picture of %d x %d pixels is too large", out->width,
                        out->height);
    out->data = malloc(bytes);
    if (!out->data)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
    if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
        png_set_swap(png);
    pngio_read_rows(png, (uint8_t *)out->data, (size_t)out->width * (size_t)out->channels * 2, out->height);
    return 0;
}

static int pngio_read16(const uint8_t *bytes, size_t count, struct pngio_deep *out, struct ws2_error *error)
{
    struct pngio_source source = {bytes, count, 0, ""};
    png_infop info = NULL;
    png_structp png = pngio_reader(&source, &info);
    volatile int status;

    if (!png)
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
    if (setjmp(png_jmpbuf(png))) {
        status = ws2_fail(error, WS2_ERR_INPUT, "damaged PNG: %s", source.text);
    } else {
        status = pngio_read16_body(png, info, out, error);
    }
    png_destroy_read_struct(&png, &info, NULL);
    return status;
}

int image_png_decode16(const uint8_t *bytes, size_t count, uint16_t **data, int *width, int *height,
                       int *channels, struct ws2_error *error)
{
    struct pngio_deep out = {0};
    const int status = pngio_read16(bytes, count, &out, error);

    *data = NULL;
    if (status < 0) {
        free(out.data);
        return status;
    }
    *data = out.data;
    *width = out.width;
    *height = out.height;
    *channels = out.channels;
    return 0;
}

int ws2_png_read16(const char *path, uint16_t **data, int *width, int *height, int *channels,
                   struct ws2_error *error)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    struct ws2_error own = {0};
    int status = image_load(path, &bytes, &count, error);

    *data = NULL;
    if (status < 0)
        return status;
    status = image_png_decode16(bytes, count, data, width, height, channels, &own);
    free(bytes);
    return status < 0 ? ws2_fail(error, own.status, "%s: %s", path, own.text) : 0;
}

/* ---- writing ------------------------------------------------------------------------------------- */

struct pngio_job {
    int width, height, depth, type;
    const uint8_t *data;
    size_t stride;
    int level;
    const uint8_t *palette;
    int colours;
};

struct pngio_sink {
    FILE *file;
    char text[200];
    int saved_errno;
};

static void pngio_sink_error(png_structp png, png_const_charp text)
{
    struct pngio_sink *sink = png_get_error_ptr(png);

    snprintf(sink->text, sizeof sink->text, "%s", text);
    longjmp(png_jmpbuf(png), 1);
}

static void pngio_give(png_structp png, png_bytep bytes, size_t count)
{
    struct pngio_sink *sink = png_get_io_ptr(png);

    if (fwrite(bytes, 1, count, sink->file) != count) {
        sink->saved_errno = errno;
        png_error(png, "cannot write");
    }
}

static void pngio_flush_nothing(png_structp png)
{
    (void)png;
}

static void pngio_write_body(png_structp png, png_infop info, const struct pngio_job *job)
{
    png_set_compression_level(png, job->level);
    png_set_IHDR(png, info, (png_uint_32)job->width, (png_uint_32)job->height, job->depth, job->type,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (job->palette) {
        png_color colours[256];

        for (int i = 0; i < job->colours; i++)
            colours[i] = (png_color){job->palette[3 * i], job->palette[3 * i + 1], job->palette[3 * i + 2]};
        png_set_PLTE(png, info, colours, job->colours);
    }
    png_write_info(png, info);
    if (job->depth == 16 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
        png_set_swap(png);
    for (int y = 0; y < job->height; y++)
        png_write_row(png, job->data + (size_t)y * job->stride);
    png_write_end(png, NULL);
}

static int pngio_write_job(FILE *file, const void *what, struct ws2_error *error)
{
    const struct pngio_job *job = what;
    struct pngio_sink sink = {file, "", 0};
    png_structp png =
        png_create_write_struct(PNG_LIBPNG_VER_STRING, &sink, pngio_sink_error, pngio_on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    volatile int status = 0;

    if (!info) {
        png_destroy_write_struct(&png, NULL);
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory");
    }
    if (setjmp(png_jmpbuf(png))) {
        errno = sink.saved_errno;
        status = sink.saved_errno
                     ? ws2_fail_errno(error, "cannot write the picture")
                     : ws2_fail(error, WS2_ERR_SYSTEM, "cannot write the picture: %s", sink.text);
    } else {
        png_set_write_fn(png, &sink, pngio_give, pngio_flush_nothing);
        pngio_write_body(png, info, job);
    }
    png_destroy_write_struct(&png, &info);
    return status;
}

static int pngio_write_path(const char *path, const struct pngio_job *job, struct ws2_error *error)
{
    return image_output_write(path, pngio_write_job, job, error);
}

static struct pngio_job pngio_job_of(const struct ws2_image *image, int level)
{
    static const int type[5] = {0, PNG_COLOR_TYPE_GRAY, 0, PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGBA};

    return (struct pngio_job){.width = image->width,
                              .height = image->height,
                              .depth = 8,
                              .type = type[image->channels],
                              .data = image->data,
                              .stride = (size_t)image->width * (size_t)image->channels,
                              .level = level};
}

int ws2_png_write(const char *path, const struct ws2_image *image, int level, struct ws2_error *error)
{
    const struct pngio_job job = pngio_job_of(image, level);

    return pngio_write_path(path, &job, error);
}

int ws2_png_write_file(FILE *file, const struct ws2_image *image, int level, struct ws2_error *error)
{
    const struct pngio_job job = pngio_job_of(image, level);

    return pngio_write_job(file, &job, error);
}

int ws2_png_write_palette(const char *path, const struct ws2_image *index, const uint8_t *rgb, int colours,
                          int level, struct ws2_error *error)
{
    struct pngio_job job = pngio_job_of(index, level);
    const size_t pixels = (size_t)index->width * (size_t)index->height;

    if (index->channels != 1 || colours < 1 || colours > 256)
        return ws2_fail(error, WS2_ERR_USAGE, "%s: a palette picture needs one channel and 1 to 256 colours",
                        path);
    for (size_t i = 0; i < pixels; i++)
        if (index->data[i] >= colours)
            return ws2_fail(error, WS2_ERR_USAGE, "%s: index %d is outside the palette of %d colours", path,
                            index->data[i], colours);
    job.type = PNG_COLOR_TYPE_PALETTE;
    job.palette = rgb;
    job.colours = colours;
    return pngio_write_path(path, &job, error);
}

int ws2_png_write16(const char *path, const uint16_t *data, int width, int height, int channels, int level,
                    struct ws2_error *error)
{
    const struct pngio_job job = {.width = width,
                                  .height = height,
                                  .depth = 16,
                                  .type = channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
                                  .data = (const uint8_t *)data,
                                  .stride = (size_t)width * (size_t)channels * 2,
                                  .level = level};

    if (width < 1 || height < 1 || (channels != 1 && channels != 3))
        return ws2_fail(error, WS2_ERR_USAGE, "%s: a 16-bit picture needs 1 or 3 channels", path);
    return pngio_write_path(path, &job, error);
}
