/* What the tests of images share: pictures to work on, and how far two are apart. */
#ifndef WS2_TEST_IMAGE_HELP_H
#define WS2_TEST_IMAGE_HELP_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fixture_help.h"
#include "image/image.h"

static inline void make_noise(struct ws2_image *image, int width, int height, int channels)
{
    assert_int_equal(ws2_image_reset(image, width, height, channels, NULL), 0);
    generator_image("image", image->data, (size_t)width * (size_t)height * (size_t)channels);
}

/* Smooth, so that lossy codecs come back close. */
static inline void make_smooth(struct ws2_image *image, int width, int height, int channels, int phase)
{
    assert_int_equal(ws2_image_reset(image, width, height, channels, NULL), 0);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int k = 0; k < channels; k++)
                image->data[(y * width + x) * channels + k] =
                    (uint8_t)lrint(128 + 90 * sin(0.11 * (x + phase) + k) * cos(0.07 * y - k));
}

static inline double mean_difference(const struct ws2_image *a, const struct ws2_image *b)
{
    double sum = 0;
    const int count = a->width * a->height * a->channels;
    assert_true(a->width == b->width && a->height == b->height && a->channels == b->channels);
    for (int i = 0; i < count; i++)
        sum += abs(a->data[i] - b->data[i]);
    return sum / count;
}

#endif
