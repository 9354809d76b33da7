/*
 * Private to lib/image: the codecs behind ws2_image_read, whole-file input, atomic output.
 */
#ifndef WS2_IMAGE_INTERNAL_H
#define WS2_IMAGE_INTERNAL_H

#include "image/image.h"

/* The whole file in memory (free()), at most WS2_IMAGE_BYTES_MAX. Messages begin with the path. */
int image_load(const char *path, uint8_t **bytes, size_t *count, struct ws2_error *error);

/* A file being written under "path.tmp". */
struct image_output {
    FILE *file;
    char *path, *temporary;
};

int image_output_open(struct image_output *output, const char *path, struct ws2_error *error);
/* status 0: flush, close, rename; otherwise remove. Returns the first status. */
int image_output_close(struct image_output *output, int status, struct ws2_error *error);

/* All of it: opens path, has `write` fill the file, closes. What `write` says gets the path in front. */
int image_output_write(const char *path, int (*write)(FILE *file, const void *what, struct ws2_error *error),
                       const void *what, struct ws2_error *error);

/* Whether the name ends with ".suffix", in any case. */
bool image_has_suffix(const char *name, const char *suffix);
/* The digits at the end of the text; -1 when there are none or too many. */
int64_t image_trailing_number(const char *text);
/* As ws2_files_folder, of the names that are wanted; none is no error. */
int image_files_folder(struct ws2_files *files, const char *folder, bool (*wanted)(const char *name),
                       struct ws2_error *error);

/* A 16-bit PNG as ws2_png_read16 gives it, from memory. No path in messages. */
int image_png_decode16(const uint8_t *bytes, size_t count, uint16_t **data, int *width, int *height,
                       int *channels, struct ws2_error *error);

/* Each gives 1, 3 or 4 channels as the file has. No path in messages. */
int image_png_decode(struct ws2_image *image, const uint8_t *bytes, size_t count, struct ws2_error *error);
int image_jpeg_decode(struct ws2_image *image, const uint8_t *bytes, size_t count, struct ws2_error *error);
int image_pnm_decode(struct ws2_image *image, const uint8_t *bytes, size_t count, struct ws2_error *error);
/* Through libav. Messages carry no path either. */
int image_still_read(struct ws2_image *image, const char *path, struct ws2_error *error);

/* A planar YCbCr picture. Samples of more than 8 bits are 16-bit words of native byte order. */
struct image_yuv {
    const uint8_t *plane[3];
    int stride[3]; /* bytes from row to row */
    int width, height;
    int shift_x, shift_y; /* 1 where chroma has half as many columns or rows, else 0 */
    int depth;            /* bits of a sample, 8 to 12 */
    bool full;            /* 0 .. 2^depth - 1, else 16 .. 235 and 16 .. 240 times 2^(depth - 8) */
    bool left, top;       /* chroma lies on luma columns, rows; else between them */
    double kr, kb;        /* weights of red and blue in luma */
};

/* Fills rgb [height,width,3]. scratch: image_yuv_scratch(width) bytes, aligned for int32_t. */
void image_yuv_rgb(uint8_t *rgb, const struct image_yuv *yuv, void *scratch);
size_t image_yuv_scratch(int width);

/* Brings a picture upright: orientation 1..8 as EXIF counts them (1 is upright; 6 turns clockwise by 90 degrees).
 * Other values do nothing. scratch is a second picture that may be swapped with image. */
int image_orient(struct ws2_image *image, struct ws2_image *scratch, int orientation,
                 struct ws2_error *error);

#endif
