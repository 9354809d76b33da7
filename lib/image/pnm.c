/* Portable any-map: P1 to P6, read and written without a library. */
#include <ctype.h>
#include "image/internal.h"

struct pnm {
    const uint8_t *bytes;
    size_t count, at;
    int kind; /* 1..6 */
    unsigned max;
};

/* The next number of the header or of a text picture, past white space and comments; -1 when there is none. */
static long pnm_number(struct pnm *pnm)
{
    long value = 0;
    size_t begin;

    while (pnm->at < pnm->count && (isspace(pnm->bytes[pnm->at]) || pnm->bytes[pnm->at] == '#')) {
        if (pnm->bytes[pnm->at] == '#')
            while (pnm->at < pnm->count && pnm->bytes[pnm->at] != '\n')
                pnm->at++;
        else
            pnm->at++;
    }
    begin = pnm->at;
    for (; pnm->at < pnm->count && isdigit(pnm->bytes[pnm->at]) && value <= 1000000; pnm->at++)
        value = value * 10 + (pnm->bytes[pnm->at] - '0');
    return pnm->at == begin ? -1 : value;
}

/* In P1 the digits may stand without space between them. */
static long pnm_bit(struct pnm *pnm)
{
    while (pnm->at < pnm->count && isspace(pnm->bytes[pnm->at]))
        pnm->at++;
    if (pnm->at == pnm->count || pnm->bytes[pnm->at] < '0' || pnm->bytes[pnm->at] > '1')
        return -1;
    return pnm->bytes[pnm->at++] == '1' ? 0 : 255; /* 1 is black */
}

static uint8_t pnm_scale(unsigned value, unsigned max)
{
    return (uint8_t)(((value > max ? max : value) * 255u + max / 2) / max);
}

static int pnm_cut(struct ws2_error *error)
{
    return ws2_fail(error, WS2_ERR_INPUT, "damaged PNM: the file ends too early");
}

static int pnm_read_text(struct pnm *pnm, struct ws2_image *image, struct ws2_error *error)
{
    const size_t samples = (size_t)image->width * (size_t)image->height * (size_t)image->channels;

    for (size_t i = 0; i < samples; i++) {
        const long value = pnm->kind == 1 ? pnm_bit(pnm) : pnm_number(pnm);

        if (value < 0)
            return pnm_cut(error);
        image->data[i] = pnm->kind == 1 ? (uint8_t)value : pnm_scale((unsigned)value, pnm->max);
    }
    return 0;
}

static void pnm_unpack_bits(struct ws2_image *image, const uint8_t *in)
{
    const size_t stride = ((size_t)image->width + 7) / 8;

    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++)
            image->data[(size_t)y * (size_t)image->width + (size_t)x] =
                in[(size_t)y * stride + (size_t)x / 8] >> (7 - x % 8) & 1 ? 0 : 255;
}

static int pnm_read_binary(struct pnm *pnm, struct ws2_image *image, struct ws2_error *error)
{
    const size_t samples = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
    const size_t need = pnm->kind == 4 ? ((size_t)image->width + 7) / 8 * (size_t)image->height
                                       : samples * (pnm->max > 255 ? 2 : 1);
    const uint8_t *in = pnm->bytes + pnm->at + 1; /* one white space ends the header */

    if (pnm->at >= pnm->count || pnm->count - pnm->at - 1 < need)
        return pnm_cut(error);
    if (pnm->kind == 4)
        pnm_unpack_bits(image, in);
    else
        for (size_t i = 0; i < samples; i++)
            image->data[i] =
                pnm_scale(pnm->max > 255 ? (unsigned)in[2 * i] << 8 | in[2 * i + 1] : in[i], pnm->max);
    return 0;
}

int image_pnm_decode(struct ws2_image *image, const uint8_t *bytes, size_t count, struct ws2_error *error)
{
    struct pnm pnm = {bytes, count, 2, bytes[1] - '0', 1};
    const long width = pnm_number(&pnm), height = pnm_number(&pnm);
    const long max = pnm.kind == 1 || pnm.kind == 4 ? 1 : pnm_number(&pnm);
    int status;

    if (width < 1 || height < 1 || width > WS2_IMAGE_SIDE_MAX || height > WS2_IMAGE_SIDE_MAX || max < 1 ||
        max > 65535)
        return ws2_fail(error, WS2_ERR_INPUT, "damaged PNM: the header makes no sense");
    pnm.max = (unsigned)max;
    status = ws2_image_reset(image, (int)width, (int)height, pnm.kind == 3 || pnm.kind == 6 ? 3 : 1, error);
    if (status < 0)
        return status;
    return pnm.kind <= 3 ? pnm_read_text(&pnm, image, error) : pnm_read_binary(&pnm, image, error);
}

int ws2_pnm_write_file(FILE *file, const struct ws2_image *image, struct ws2_error *error)
{
    const size_t bytes = (size_t)image->width * (size_t)image->height * (size_t)image->channels;

    if (image->channels != 1 && image->channels != 3)
        return ws2_fail(error, WS2_ERR_USAGE, "PNM has no alpha");
    if (fprintf(file, "P%d\n%d %d\n255\n", image->channels == 1 ? 5 : 6, image->width, image->height) < 0 ||
        fwrite(image->data, 1, bytes, file) != bytes)
        return ws2_fail_errno(error, "cannot write the picture");
    return 0;
}

static int pnm_write(FILE *file, const void *image, struct ws2_error *error)
{
    return ws2_pnm_write_file(file, image, error);
}

int ws2_pnm_write(const char *path, const struct ws2_image *image, struct ws2_error *error)
{
    return image_output_write(path, pnm_write, image, error);
}
