/* JPEG through libjpeg. A picture that libjpeg would repair with a warning is an error here: half a frame in a training
 * set is worse than none. Errors leave by longjmp. */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <jpeglib.h>
#include <jerror.h>
#include "image/internal.h"

struct jpeg_trap {
    struct jpeg_error_mgr base; /* first, so that cinfo->err converts */
    jmp_buf jump;
    char text[JMSG_LENGTH_MAX];
};

static void jpeg_on_error(j_common_ptr cinfo)
{
    struct jpeg_trap *trap = (struct jpeg_trap *)cinfo->err;

    if (trap->base.msg_code == JERR_BAD_PRECISION)
        snprintf(trap->text, sizeof trap->text, "JPEG of %d bits a sample is not supported, convert it to 8",
                 trap->base.msg_parm.i[0]);
    else
        trap->base.format_message(cinfo, trap->text);
    longjmp(trap->jump, 1);
}

/* Warnings that cameras cause in sound files. All others mean lost pixels. */
static bool jpeg_harmless(int code)
{
    return code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM ||
           code == JWRN_TOO_MUCH_DATA || code == JWRN_BOGUS_ICC;
}

static void jpeg_on_message(j_common_ptr cinfo, int level)
{
    struct jpeg_trap *trap = (struct jpeg_trap *)cinfo->err;

    if (level < 0 && !jpeg_harmless(trap->base.msg_code))
        jpeg_on_error(cinfo);
}

static void jpeg_trap_set(struct jpeg_trap *trap)
{
    jpeg_std_error(&trap->base);
    trap->base.error_exit = jpeg_on_error;
    trap->base.emit_message = jpeg_on_message;
    trap->text[0] = '\0';
}

/* ---- EXIF ---------------------------------------------------------------------------------------- */

static unsigned exif_number(const uint8_t *at, int bytes, bool little)
{
    unsigned value = 0;

    for (int i = 0; i < bytes; i++)
        value |= (unsigned)at[i] << 8 * (little ? i : bytes - 1 - i);
    return value;
}

/* Orientation (tag 0x0112) in the first directory of an APP1 segment; 1 when it is not there. */
static int exif_orientation(const uint8_t *data, size_t count)
{
    const uint8_t *tiff = data + 6;
    bool little;
    size_t at, entries;

    if (count < 14 || memcmp(data, "Exif\0\0", 6) != 0)
        return 1;
    count -= 6;
    little = tiff[0] == 'I';
    at = exif_number(tiff + 4, 4, little);
    if (at > count - 2)
        return 1;
    entries = exif_number(tiff + at, 2, little);
    at += 2;
    for (; entries > 0 && at + 12 <= count; entries--, at += 12)
        if (exif_number(tiff + at, 2, little) == 0x0112)
            return (int)exif_number(tiff + at + 8, 2, little);
    return 1;
}

static int jpeg_orientation(const struct jpeg_decompress_struct *cinfo)
{
    for (const struct jpeg_marker_struct *marker = cinfo->marker_list; marker; marker = marker->next) {
        const int orientation =
            marker->marker == JPEG_APP0 + 1 ? exif_orientation(marker->data, marker->data_length) : 1;

        if (orientation != 1)
            return orientation;
    }
    return 1;
}

/* ---- reading ------------------------------------------------------------------------------------- */

/* CMYK rows to RGB in place of a picture of 4 channels: R = (255-C)(255-K)/255 rounded. Adobe stores 255 - ink. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t pixels, bool adobe)
{
    const uint8_t flip = adobe ? 0 : 255;

    for (size_t i = 0; i < pixels; i++) {
        const unsigned white = cmyk[4 * i + 3] ^ flip;

        for (size_t k = 0; k < 3; k++) {
            const unsigned product = (unsigned)(cmyk[4 * i + k] ^ flip) * white + 128;

            rgb[3 * i + k] = (uint8_t)((product + (product >> 8)) >> 8);
        }
    }
}

/* What must survive a longjmp. */
struct jpeg_reading {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_trap trap;
    struct ws2_image scratch;
    int orientation;
};

static int jpeg_read_body(struct jpeg_reading *reading, struct ws2_image *image, struct ws2_error *error)
{
    struct jpeg_decompress_struct *cinfo = &reading->cinfo;
    bool cmyk;
    int status;

    jpeg_save_markers(cinfo, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(cinfo, TRUE);
    reading->orientation = jpeg_orientation(cinfo);
    cmyk = cinfo->jpeg_color_space == JCS_CMYK || cinfo->jpeg_color_space == JCS_YCCK;
    if (cmyk)
        cinfo->out_color_space = JCS_CMYK;
    else if (cinfo->jpeg_color_space != JCS_GRAYSCALE)
        cinfo->out_color_space = JCS_RGB;
    status = ws2_image_reset(image, (int)cinfo->image_width, (int)cinfo->image_height,
                             cmyk                                      ? 4
                             : cinfo->out_color_space == JCS_GRAYSCALE ? 1
                                                                       : 3,
                             error);
    if (status < 0)
        return status;
    jpeg_start_decompress(cinfo);
    while (cinfo->output_scanline < cinfo->output_height) {
        JSAMPROW row =
            image->data + (size_t)cinfo->output_scanline * (size_t)image->width * (size_t)image->channels;

        jpeg_read_scanlines(cinfo, &row, 1);
    }
    jpeg_finish_decompress(cinfo);
    if (cmyk) {
        cmyk_to_rgb(image->data, image->data, (size_t)image->width * (size_t)image->height,
                    cinfo->saw_Adobe_marker != 0);
        image->channels = 3;
    }
    return image_orient(image, &reading->scratch, reading->orientation, error);
}

int image_jpeg_decode(struct ws2_image *image, const uint8_t *bytes, size_t count, struct ws2_error *error)
{
    struct jpeg_reading reading = {0};
    volatile int status;

    reading.cinfo.err = &reading.trap.base;
    jpeg_trap_set(&reading.trap);
    if (setjmp(reading.trap.jump)) {
        status = ws2_fail(error, WS2_ERR_INPUT, "%s", reading.trap.text);
    } else {
        jpeg_create_decompress(&reading.cinfo);
        jpeg_mem_src(&reading.cinfo, bytes, count);
        status = jpeg_read_body(&reading, image, error);
    }
    jpeg_destroy_decompress(&reading.cinfo);
    ws2_image_free(&reading.scratch);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------------- */

struct jpeg_writing {
    struct jpeg_compress_struct cinfo;
    struct jpeg_trap trap;
};

static void jpeg_write_body(struct jpeg_compress_struct *cinfo, FILE *file, const struct ws2_image *image,
                            int quality)
{
    jpeg_stdio_dest(cinfo, file);
    cinfo->image_width = (JDIMENSION)image->width;
    cinfo->image_height = (JDIMENSION)image->height;
    cinfo->input_components = image->channels;
    cinfo->in_color_space = image->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(cinfo);
    jpeg_set_quality(cinfo, quality, TRUE);
    for (int i = 0; i < cinfo->num_components; i++)
        cinfo->comp_info[i].h_samp_factor = cinfo->comp_info[i].v_samp_factor = 1;
    jpeg_start_compress(cinfo, TRUE);
    while (cinfo->next_scanline < cinfo->image_height) {
        JSAMPROW row =
            image->data + (size_t)cinfo->next_scanline * (size_t)image->width * (size_t)image->channels;

        jpeg_write_scanlines(cinfo, &row, 1);
    }
    jpeg_finish_compress(cinfo);
}

int ws2_jpeg_write(const char *path, const struct ws2_image *image, int quality, struct ws2_error *error)
{
    struct jpeg_writing writing = {0};
    struct image_output output;
    volatile int status;

    if (image->channels == 4)
        return ws2_fail(error, WS2_ERR_USAGE, "%s: JPEG has no alpha", path);
    status = image_output_open(&output, path, error);
    if (status < 0)
        return status;
    writing.cinfo.err = &writing.trap.base;
    jpeg_trap_set(&writing.trap);
    if (setjmp(writing.trap.jump)) {
        status = ws2_fail(error, WS2_ERR_SYSTEM, "%s: %s", path, writing.trap.text);
    } else {
        jpeg_create_compress(&writing.cinfo);
        jpeg_write_body(&writing.cinfo, output.file, image, quality);
    }
    jpeg_destroy_compress(&writing.cinfo);
    return image_output_close(&output, status, error);
}
