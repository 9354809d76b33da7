/* Optical flow in files: Middlebury's .flo and KITTI's 16-bit PNG. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "image/internal.h"

#define HALF_NAN 0x7e00
#define FLO_HEADER 12 /* magic, width, height */
static const char flo_magic[4] = {'P', 'I', 'E', 'H'};

bool ws2_flow_known(float u, float v)
{
    return fabsf(u) <= 1e9f && fabsf(v) <= 1e9f; /* false for NaN */
}

void ws2_flow_file_free(struct ws2_flow_file *file)
{
    free(file->flow);
    free(file->valid);
    *file = (struct ws2_flow_file){0};
}

static bool sides_fit(int64_t width, int64_t height)
{
    return width >= 1 && height >= 1 && width <= WS2_IMAGE_SIDE_MAX && height <= WS2_IMAGE_SIDE_MAX;
}

/* Gives the flow this size, sides that fit; the contents are unspecified. */
static int flow_reset(struct ws2_flow_file *file, int width, int height, struct ws2_error *error)
{
    const size_t pixels = (size_t)width * (size_t)height;

    if (pixels * 2 * sizeof(float) > WS2_IMAGE_BYTES_MAX)
        return ws2_fail(error, WS2_ERR_INPUT, "a flow of %d x %d pixels is too large", width, height);
    if (ws2_reserve((void **)&file->flow, &file->flow_capacity, pixels * 2 * sizeof(float)) ||
        ws2_reserve((void **)&file->valid, &file->valid_capacity, pixels))
        return ws2_fail(error, WS2_ERR_SYSTEM, "no memory for a flow of %d x %d pixels", width, height);
    file->width = width;
    file->height = height;
    return 0;
}

/* valid = 1 where the flow is known. */
static void find_known(struct ws2_flow_file *file)
{
    const size_t pixels = (size_t)file->width * (size_t)file->height;

    for (size_t i = 0; i < pixels; i++)
        file->valid[i] = ws2_flow_known(file->flow[i], file->flow[pixels + i]);
}

int ws2_flow_file_fill(struct ws2_flow_file *file, enum ws2_dtype dtype, const struct ws2_shape *shape,
                       const void *data, const uint8_t *valid, struct ws2_error *error)
{
    char text[96];
    size_t pixels;
    int status;

    if ((dtype != WS2_F16 && dtype != WS2_F32) || shape->rank != 3 || shape->dim[0] != 2 ||
        !sides_fit(shape->dim[2], shape->dim[1]))
        return ws2_fail(error, WS2_ERR_INPUT, "%s %s is no flow", ws2_dtype_name(dtype),
                        ws2_shape_text(shape, text, sizeof text));
    status = flow_reset(file, (int)shape->dim[2], (int)shape->dim[1], error);
    if (status < 0)
        return status;
    pixels = (size_t)file->width * (size_t)file->height;
    if (dtype == WS2_F16)
        ws2_half_to_floats(file->flow, data, 2 * pixels);
    else
        memcpy(file->flow, data, 2 * pixels * sizeof(float));
    find_known(file);
    for (size_t i = 0; valid && i < pixels; i++)
        file->valid[i] &= valid[i] != 0;
    return 0;
}

static bool half_is_finite(uint16_t half)
{
    return (half & 0x7c00) != 0x7c00;
}

void ws2_flow_file_tensor(const struct ws2_flow_file *file, uint16_t *half, uint8_t *known)
{
    const size_t pixels = (size_t)file->width * (size_t)file->height;

    ws2_half_from_floats(half, file->flow, 2 * pixels);
    for (size_t i = 0; i < pixels; i++) {
        known[i] = file->valid[i] && half_is_finite(half[i]) && half_is_finite(half[pixels + i]);
        if (!known[i])
            half[i] = half[pixels + i] = HALF_NAN;
    }
}

/* ---- .flo ------------------------------------------------------------------------------------------ */

static uint32_t load32(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void store32(uint8_t *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
}

/* Whether the bytes are a whole .flo file, and its size. */
static int flo_check(const uint8_t *bytes, size_t count, int *width, int *height, struct ws2_error *error)
{
    size_t wanted;

    if (count >= sizeof flo_magic && memcmp(bytes, flo_magic, sizeof flo_magic) != 0)
        return ws2_fail(error, WS2_ERR_INPUT, "not a .flo file");
    if (count < FLO_HEADER)
        return ws2_fail(error, WS2_ERR_TRUNCATED, "the file ends too early");
    *width = (int32_t)load32(bytes + 4);
    *height = (int32_t)load32(bytes + 8);
    if (!sides_fit(*width, *height))
        return ws2_fail(error, WS2_ERR_INPUT, "a flow of %d x %d pixels is not supported", *width, *height);
    wanted = FLO_HEADER + (size_t)*width * (size_t)*height * 8;
    if (count < wanted)
        return ws2_fail(error, WS2_ERR_TRUNCATED, "the file ends too early: %zu bytes of %zu", count, wanted);
    if (count > wanted)
        return ws2_fail(error, WS2_ERR_INPUT, "%zu bytes, but a flow of %d x %d pixels has %zu", count,
                        *width, *height, wanted);
    return 0;
}

static int flo_decode(struct ws2_flow_file *file, const uint8_t *bytes, size_t count, struct ws2_error *error)
{
    int width = 0, height = 0;
    int status = flo_check(bytes, count, &width, &height, error);
    const size_t pixels = (size_t)width * (size_t)height;

    if (status == 0)
        status = flow_reset(file, width, height, error);
    if (status < 0)
        return status;
    bytes += FLO_HEADER;
    for (size_t i = 0; i < pixels; i++) {
        /* Bits and not numbers are moved, so that a NaN stays the one it was. */
        const uint32_t u = load32(bytes + 8 * i), v = load32(bytes + 8 * i + 4);

        memcpy(&file->flow[i], &u, sizeof u);
        memcpy(&file->flow[pixels + i], &v, sizeof v);
    }
    find_known(file);
    return 0;
}

static int flo_write_row(FILE *out, const struct ws2_flow_file *file, int y, uint8_t *row,
                         struct ws2_error *error)
{
    const size_t width = (size_t)file->width, pixels = width * (size_t)file->height;
    const float *u = file->flow + (size_t)y * width, *v = u + pixels;

    for (size_t x = 0; x < width; x++) {
        uint32_t bits[2];

        memcpy(&bits[0], &u[x], sizeof bits[0]);
        memcpy(&bits[1], &v[x], sizeof bits[1]);
        store32(row + 8 * x, bits[0]);
        store32(row + 8 * x + 4, bits[1]);
    }
    return fwrite(row, 8, width, out) == width ? 0 : ws2_fail_errno(error, "cannot write the flow");
}

static int flo_write(FILE *out, const void *what, struct ws2_error *error)
{
    const struct ws2_flow_file *file = what;
    uint8_t header[FLO_HEADER];
    uint8_t *row = ws2_calloc((size_t)file->width, 8);
    int status = row ? 0 : ws2_fail(error, WS2_ERR_SYSTEM, "no memory");

    memcpy(header, flo_magic, sizeof flo_magic);
    store32(header + 4, (uint32_t)file->width);
    store32(header + 8, (uint32_t)file->height);
    if (status == 0 && fwrite(header, 1, sizeof header, out) != sizeof header)
        status = ws2_fail_errno(error, "cannot write the flow");
    for (int y = 0; status == 0 && y < file->height; y++)
        status = flo_write_row(out, file, y, row, error);
    free(row);
    return status;
}

int ws2_flo_write(const char *path, const struct ws2_flow_file *file, struct ws2_error *error)
{
    return image_output_write(path, flo_write, file, error);
}

/* ---- KITTI ----------------------------------------------------------------------------------------- */

static int kitti_decode(struct ws2_flow_file *file, const uint8_t *bytes, size_t count,
                        struct ws2_error *error)
{
    uint16_t *sample = NULL;
    int width = 0, height = 0, channels = 0;
    int status = image_png_decode16(bytes, count, &sample, &width, &height, &channels, error);
    const size_t pixels = (size_t)width * (size_t)height;

    if (status == 0 && channels != 3)
        status = ws2_fail(error, WS2_ERR_INPUT, "a flow needs 3 channels, this PNG has %d", channels);
    if (status == 0)
        status = flow_reset(file, width, height, error);
    for (size_t i = 0; status == 0 && i < pixels; i++) {
        const uint16_t *in = sample + 3 * i;

        file->valid[i] = in[2] != 0;
        file->flow[i] = in[2] ? ((float)in[0] - 32768.0f) / 64.0f : WS2_FLOW_UNKNOWN;
        file->flow[pixels + i] = in[2] ? ((float)in[1] - 32768.0f) / 64.0f : WS2_FLOW_UNKNOWN;
    }
    free(sample);
    return status;
}

static uint16_t kitti_sample(float flow)
{
    const double value = floor((double)flow * 64.0 + 32768.0 + 0.5);

    return (uint16_t)(value < 0 ? 0 : value > 65535 ? 65535 : value);
}

int ws2_kitti_write(const char *path, const struct ws2_flow_file *file, int level, struct ws2_error *error)
{
    const size_t pixels = (size_t)file->width * (size_t)file->height;
    uint16_t *sample = ws2_calloc(pixels, 3 * sizeof *sample);
    int status;

    if (!sample)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", path);
    for (size_t i = 0; i < pixels; i++) {
        const float u = file->flow[i], v = file->flow[pixels + i];
        const bool known = file->valid[i] && ws2_flow_known(u, v);

        sample[3 * i] = kitti_sample(known ? u : 0);
        sample[3 * i + 1] = kitti_sample(known ? v : 0);
        sample[3 * i + 2] = known;
    }
    status = ws2_png_write16(path, sample, file->width, file->height, 3, level, error);
    free(sample);
    return status;
}

/* ---- by content ------------------------------------------------------------------------------------ */

static int either_decode(struct ws2_flow_file *file, const uint8_t *bytes, size_t count,
                         struct ws2_error *error)
{
    if (count == 0)
        return ws2_fail(error, WS2_ERR_TRUNCATED, "the file is empty");
    if (count >= 4 && memcmp(bytes, "\x89PNG", 4) == 0)
        return kitti_decode(file, bytes, count, error);
    if (count >= 4 && memcmp(bytes, flo_magic, 4) == 0)
        return flo_decode(file, bytes, count, error);
    return ws2_fail(error, WS2_ERR_INPUT, "neither a .flo file nor a PNG");
}

/* Reads the file and has it decoded; what `decode` says gets the path in front. */
static int read_with(struct ws2_flow_file *file, const char *path,
                     int (*decode)(struct ws2_flow_file *file, const uint8_t *bytes, size_t count,
                                   struct ws2_error *error),
                     struct ws2_error *error)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    struct ws2_error own = {0};
    int status = image_load(path, &bytes, &count, error);

    if (status < 0)
        return status;
    status = decode(file, bytes, count, &own);
    free(bytes);
    return status < 0 ? ws2_fail(error, own.status, "%s: %s", path, own.text) : 0;
}

int ws2_flo_read(struct ws2_flow_file *file, const char *path, struct ws2_error *error)
{
    return read_with(file, path, flo_decode, error);
}

int ws2_kitti_read(struct ws2_flow_file *file, const char *path, struct ws2_error *error)
{
    return read_with(file, path, kitti_decode, error);
}

int ws2_flow_file_read(struct ws2_flow_file *file, const char *path, struct ws2_error *error)
{
    return read_with(file, path, either_decode, error);
}
