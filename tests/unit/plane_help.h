/* A plane between its samples, as the formula has it: the truth that warping is held against. */
#ifndef WS2_TEST_PLANE_HELP_H
#define WS2_TEST_PLANE_HELP_H

#include <math.h>

/* in [height,width] at (x, y), linear between the four neighbours, 0 outside. */
static inline double plane_sample(const float *in, int height, int width, double x, double y)
{
    double sum = 0;
    for (int j = (int)floor(y); j <= (int)floor(y) + 1; j++)
        for (int i = (int)floor(x); i <= (int)floor(x) + 1; i++)
            if (i >= 0 && i < width && j >= 0 && j < height)
                sum += (1 - fabs(x - i)) * (1 - fabs(y - j)) * in[j * width + i];
    return sum;
}

#endif
