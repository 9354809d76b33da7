/*
 * Flow on its way from a frame to the grid of the class maps, and mirrored with the pictures. The values are those of
 * ws2_flow_resize (lib/motion); here only the few half floats that a small grid needs are read, not the whole frame.
 */
#include "train/internal.h"

#include <math.h>

/* One output place between two input ones, pixel centres on half integers, edges repeated. */
struct tap {
    int at[2];
    float weight; /* of the second */
};

static struct tap tap_make(int place, int cells, int size)
{
    const double source = fmax(0, (place + 0.5) * size / cells - 0.5);
    const int first = (int)source < size - 1 ? (int)source : size - 1;
    return (struct tap){{first, first + 1 < size ? first + 1 : first}, (float)(source - first)};
}

static float between(const uint16_t *row, const struct tap *x)
{
    return ws2_half_to_float(row[x->at[0]]) * (1 - x->weight) + ws2_half_to_float(row[x->at[1]]) * x->weight;
}

bool ws2_flow_to_cells(float *out, const uint16_t *flow, int width, int height, int cells)
{
    bool finite = true;
    for (int plane = 0; plane < 2; plane++) {
        const uint16_t *from = flow + (size_t)plane * (size_t)width * (size_t)height;
        const float unit = (float)cells / (float)(plane == 0 ? width : height);
        for (int r = 0; r < cells; r++) {
            const struct tap y = tap_make(r, cells, height);
            for (int c = 0; c < cells; c++) {
                const struct tap x = tap_make(c, cells, width);
                const float upper = between(from + (size_t)y.at[0] * (size_t)width, &x);
                const float lower = between(from + (size_t)y.at[1] * (size_t)width, &x);
                const float value = unit * (upper * (1 - y.weight) + lower * y.weight);
                finite &= isfinite(value);
                *out++ = value;
            }
        }
    }
    return finite;
}

static void swap(float *a, float *b)
{
    const float value = *a;
    *a = *b;
    *b = value;
}

/* What points right points left in the mirror, so plane u changes its sign; v likewise upside down. */
void ws2_flow_mirror(float *flow, int cells, bool x, bool y)
{
    const size_t n = (size_t)cells;
    for (size_t row = 0; x && row < 2 * n; row++) {
        for (size_t a = 0, b = n - 1; a < b; a++, b--)
            swap(flow + row * n + a, flow + row * n + b);
    }
    for (size_t a = 0, b = n - 1; y && a < b; a++, b--) {
        for (size_t c = 0; c < n; c++) {
            swap(flow + a * n + c, flow + b * n + c);
            swap(flow + (n + a) * n + c, flow + (n + b) * n + c);
        }
    }
    for (size_t i = 0; i < n * n; i++) {
        flow[i] = x ? -flow[i] : flow[i];
        flow[n * n + i] = y ? -flow[n * n + i] : flow[n * n + i];
    }
}
