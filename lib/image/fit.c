/* From a frame as filmed to a frame as used: crop, size, truth, rate. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "image/internal.h"

/* A number at *at, moved past it; -1 when there is none or it is too large for a side. */
static int parse_side(const char **at)
{
    long value = 0;

    if (!isdigit((unsigned char)**at))
        return -1;
    for (; isdigit((unsigned char)**at); (*at)++)
        if (value <= WS2_IMAGE_SIDE_MAX)
            value = value * 10 + (**at - '0');
    return value <= WS2_IMAGE_SIDE_MAX ? (int)value : -1;
}

static bool parse_crop(struct ws2_fit *fit, const char *at)
{
    int *const field[4] = {&fit->x, &fit->y, &fit->crop_width, &fit->crop_height};

    for (int i = 0; i < 4; i++) {
        *field[i] = parse_side(&at);
        if (*field[i] < (i >= 2 ? 1 : 0) || *at != (i < 3 ? ',' : '\0'))
            return false;
        at++;
    }
    return true;
}

static bool parse_size(struct ws2_fit *fit, const char *at)
{
    fit->width = fit->height = parse_side(&at);
    if (*at == 'x') {
        at++;
        fit->height = parse_side(&at);
    }
    return *at == '\0' && fit->width >= 1 && fit->height >= 1;
}

int ws2_fit_parse(struct ws2_fit *fit, const char *crop, const char *size, struct ws2_error *error)
{
    if (crop && !parse_crop(fit, crop))
        return ws2_fail(error, WS2_ERR_USAGE, "'%s' is not a rectangle X,Y,W,H", crop);
    if (size && !parse_size(fit, size))
        return ws2_fail(error, WS2_ERR_USAGE, "'%s' is not a size N or WIDTHxHEIGHT", size);
    return 0;
}

int ws2_fit_size(const struct ws2_fit *fit, int in_width, int in_height, int *width, int *height,
                 struct ws2_error *error)
{
    const bool crop = fit->crop_width > 0;

    if (crop && (fit->crop_width > in_width - fit->x || fit->crop_height > in_height - fit->y))
        return ws2_fail(error, WS2_ERR_INPUT, "the crop %d,%d,%d,%d reaches outside the frame of %d x %d",
                        fit->x, fit->y, fit->crop_width, fit->crop_height, in_width, in_height);
    *width = fit->width ? fit->width : crop ? fit->crop_width : in_width;
    *height = fit->height ? fit->height : crop ? fit->crop_height : in_height;
    return 0;
}

int ws2_fit_apply(const struct ws2_fit *fit, struct ws2_image *image, uint8_t *dst,
                  struct ws2_resizer **resizer, struct ws2_error *error)
{
    int width = 0, height = 0;
    int status = ws2_fit_size(fit, image->width, image->height, &width, &height, error);

    if (status == 0 && fit->crop_width > 0)
        status = ws2_image_crop(image, fit->x, fit->y, fit->crop_width, fit->crop_height, error);
    if (status < 0)
        return status;
    if (width == image->width && height == image->height) {
        memcpy(dst, image->data, (size_t)width * (size_t)height * (size_t)image->channels);
        return 0;
    }
    status = ws2_resizer_fit(resizer, image->width, image->height, width, height, fit->kernel, error);
    return status < 0 ? status : ws2_resizer_u8(*resizer, dst, image->data, image->channels, error);
}

/* Same shape to the pixel: the height that follows from the width is at most one off. */
static bool same_shape(int w, int h, int frame_w, int frame_h)
{
    const int64_t difference = (int64_t)w * frame_h - (int64_t)h * frame_w;

    return llabs(difference) <= (frame_w > frame_h ? frame_w : frame_h);
}

WS2_CLONES static void threshold_half(uint8_t *mask, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++)
        mask[i] = mask[i] >= 128; /* grey / 255 > 0.5 */
}

int ws2_fit_truth(const struct ws2_fit *fit, struct ws2_image *mask, int frame_width, int frame_height,
                  uint8_t *dst, struct ws2_resizer **resizer, struct ws2_error *error)
{
    struct ws2_fit own = *fit;
    int status;

    if ((mask->width != frame_width || mask->height != frame_height) &&
        (fit->crop_width > 0 || !same_shape(mask->width, mask->height, frame_width, frame_height)))
        return ws2_fail(error, WS2_ERR_INPUT, "the truth mask is %d x %d, the frame %d x %d", mask->width,
                        mask->height, frame_width, frame_height);
    own.kernel = WS2_PIL_BILINEAR;
    status = ws2_fit_size(fit, frame_width, frame_height, &own.width, &own.height, error);
    if (status == 0)
        status = ws2_fit_apply(&own, mask, dst, resizer, error);
    if (status == 0)
        threshold_half(dst, (size_t)own.width * (size_t)own.height);
    return status;
}

int ws2_rate_parse(const char *text, int64_t *num, int64_t *den, struct ws2_error *error)
{
    const char *at = text;
    bool point = false;

    *num = 0;
    *den = 1;
    for (; (isdigit((unsigned char)*at) || (*at == '.' && !point)) && *num < 100000000; at++) {
        if (*at == '.') {
            point = true;
        } else {
            *num = *num * 10 + (*at - '0');
            *den *= point ? 10 : 1;
        }
    }
    if (*at == '/' && !point && isdigit((unsigned char)at[1])) {
        *den = 0;
        for (at++; isdigit((unsigned char)*at) && *den < 100000000; at++)
            *den = *den * 10 + (*at - '0');
    }
    while (*num > 0 && *num % 10 == 0 && *den % 10 == 0) {
        *num /= 10;
        *den /= 10;
    }
    if (*at != '\0' || *num < 1 || *den < 1)
        return ws2_fail(error, WS2_ERR_USAGE, "'%s' is not a rate such as 25, 29.97 or 30000/1001", text);
    return 0;
}

int64_t ws2_rate_tick(int64_t time, int64_t num, int64_t den)
{
    /* 128 bits: a day in microseconds times a large numerator does not fit 64. */
    return (int64_t)(((__int128)time * num * 2 + (__int128)1000000 * den) / ((__int128)2000000 * den));
}
