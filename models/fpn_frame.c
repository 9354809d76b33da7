/* A frame through a dense network: see fpn_frame.h. */
#include "models/fpn_frame.h"

#include <stdlib.h>
#include <string.h>

#include "image/image.h"

enum { MIRRORS = 4 }; /* bit 0: left to right, bit 1: upside down */

void fpn_frame_free(struct fpn_frame *frame)
{
    ws2_resizer_free(frame->rgb);
    ws2_resizer_free(frame->fg);
    ws2_resizer_free(frame->back);
    free(frame->picture);
    free(frame->mask);
    free(frame->small);
    free(frame->value);
    ws2_flat_scratch_free(&frame->even);
    *frame = (struct fpn_frame){0};
}

static int reserve(struct fpn_frame *frame, size_t side, size_t pixels, struct ws2_error *error)
{
    const size_t small = side * side;
    if (ws2_reserve((void **)&frame->picture, &frame->picture_capacity, MIRRORS * 3 * small) < 0 ||
        ws2_reserve((void **)&frame->mask, &frame->mask_capacity, small) < 0 ||
        ws2_reserve((void **)&frame->small, &frame->small_capacity, small * sizeof(float)) < 0 ||
        ws2_reserve((void **)&frame->value, &frame->value_capacity, pixels * sizeof(float)) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    return WS2_OK;
}

/* The first picture and its mask, at the network's size; what the mask leaves out has no colour. */
static int place(const struct fpn *fpn, int64_t height, int64_t width, const uint8_t *rgb, const uint8_t *fg,
                 struct fpn_frame *frame, struct ws2_error *error)
{
    const int side = fpn->info.size, w = (int)width, h = (int)height;
    const size_t small = (size_t)side * (size_t)side;
    int status = ws2_resizer_fit(&frame->rgb, w, h, side, side, WS2_PIL_BILINEAR, error);
    if (status >= 0)
        status = ws2_resizer_u8(frame->rgb, frame->picture, rgb, 3, error);
    if (status >= 0 && fg)
        status = ws2_resizer_fit(&frame->fg, w, h, side, side, WS2_NEAREST, error);
    if (status >= 0 && fg)
        status = ws2_resizer_u8(frame->fg, frame->mask, fg, 1, error);
    for (size_t i = 0; status >= 0 && fg && i < small; i++)
        if (!frame->mask[i])
            memcpy(frame->picture + 3 * i, ws2_fill_colour[1], 3);
    return status;
}

/* Picture `which` is the first one mirrored. */
static void mirror(struct fpn_frame *frame, int side, int which)
{
    const size_t bytes = 3 * (size_t)side * (size_t)side;
    uint8_t *to = frame->picture + (size_t)which * bytes;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++, to += 3) {
            const int from_x = which & 1 ? side - 1 - x : x, from_y = which & 2 ? side - 1 - y : y;
            memcpy(to, frame->picture + 3 * ((size_t)from_y * (size_t)side + (size_t)from_x), 3);
        }
}

/* [1,1,side,side], the mean probability of all pictures, each turned back. */
static struct nn_tensor *run(const struct fpn *fpn, const struct fpn_frame *frame, int pictures)
{
    struct nn *nn = nn_params_context(fpn->params);
    struct nn_tensor *x = nn_images_u8(nn, pictures, fpn->info.size, fpn->info.size, frame->picture,
                                       nn_imagenet_mean, nn_imagenet_std);
    struct nn_tensor *p = nn_sigmoid(nn, fpn_forward(fpn, x, false)), *sum = NULL;
    for (int i = 0; i < pictures; i++) {
        struct nn_tensor *one = nn_narrow(nn, p, 0, i, 1);
        if (i & 1)
            one = nn_flip(nn, one, nn_axes_1(3));
        if (i & 2)
            one = nn_flip(nn, one, nn_axes_1(2));
        sum = sum ? nn_add(nn, sum, one) : one;
    }
    return nn_mul_scalar(nn, sum, 1.0 / pictures);
}

int fpn_frame_run(const struct fpn *fpn, int64_t height, int64_t width, const uint8_t *rgb, const uint8_t *fg,
                  bool tta, struct fpn_frame *frame, struct ws2_error *error)
{
    struct nn *nn = nn_params_context(fpn->params);
    const int side = fpn->info.size, pictures = tta ? MIRRORS : 1;
    const size_t small = (size_t)side * (size_t)side, pixels = (size_t)(height * width);
    if (height < 1 || width < 1)
        return WS2_OK;
    if (height > WS2_IMAGE_SIDE_MAX || width > WS2_IMAGE_SIDE_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "a frame of %lldx%lld pixels", (long long)width,
                        (long long)height);
    int status = reserve(frame, (size_t)side, pixels, error);
    if (status >= 0)
        status = ws2_flat_frame(frame->flat, &frame->even, height, width, &rgb, error);
    if (status >= 0)
        status = place(fpn, height, width, rgb, fg, frame, error);
    if (status < 0)
        return status;
    for (int i = 1; i < pictures; i++)
        mirror(frame, side, i);
    nn_enter(nn);
    nn_scope_begin(nn);
    nn_no_grad_begin(nn);
    nn_to_f32(nn, run(fpn, frame, pictures), frame->small, small);
    nn_no_grad_end(nn);
    nn_scope_end(nn);
    status = nn_check(nn, error);
    nn_error_clear(nn);
    if (status >= 0)
        status = ws2_resizer_fit(&frame->back, side, side, (int)width, (int)height, WS2_BILINEAR, error);
    if (status >= 0)
        status = ws2_resizer_f32(frame->back, frame->value, frame->small, 1, error);
    for (size_t i = 0; status >= 0 && fg && i < pixels; i++)
        frame->value[i] = fg[i] ? frame->value[i] : 0;
    return status;
}
