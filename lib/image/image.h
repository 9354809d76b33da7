/*
 * image: pictures, video, flow files, colour, resizing and drawing.
 *
 * Pixels are packed 8-bit samples, row-major, [h,w,c] with c = 1 (grey), 3 (RGB) or 4 (RGBA, straight alpha);
 * there is no row padding. Float maps are planes [c,h,w]. Samples are as coded in the file (sRGB-like, no
 * linear light anywhere).
 *
 * Errors: 0 or a count on success, else a ws2_status with the message in `error`. A picture that is damaged
 * or ends too early is WS2_ERR_INPUT and never comes back half filled; a video that ends before its own index
 * or header says is WS2_ERR_TRUNCATED. Messages of path-taking functions begin with the path. Memory: a
 * ws2_image belongs to the caller, starts zeroed ({0}), is reused from call to call without allocating when
 * the size stays, and is released by ws2_image_free. Threads: different objects are independent; nothing here
 * has mutable state of its own. Files: everything that writes a named file writes "path.tmp" and renames it
 * when all is well.
 *
 * Only this room knows libpng, libjpeg and libav. libav is loaded on first use (opening a video, a bmp, webp
 * or tiff, writing mp4), so that programs which never touch it start in milliseconds.
 * Knows base only.
 */
#ifndef WS2_IMAGE_H
#define WS2_IMAGE_H

#include <stdio.h>
#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sides of a picture above this are refused (hostile headers). */
#define WS2_IMAGE_SIDE_MAX 65535
/* Bytes of one picture in memory above this are refused. */
#define WS2_IMAGE_BYTES_MAX ((size_t)1 << 31)

/* ---- the picture in memory ----------------------------------------------------------------------- */

struct ws2_image {
    int width, height, channels;
    uint8_t *data;   /* height * width * channels bytes */
    size_t capacity; /* bytes allocated */
};

/* Gives the picture this size; the contents are unspecified. */
int ws2_image_reset(struct ws2_image *image, int width, int height, int channels, struct ws2_error *error);
void ws2_image_free(struct ws2_image *image); /* releases the pixels and zeroes the struct */
int ws2_image_copy(struct ws2_image *to, const struct ws2_image *from, struct ws2_error *error);
/* Cuts the rectangle out in place; WS2_ERR_USAGE when it is empty or reaches outside. */
int ws2_image_crop(struct ws2_image *image, int x, int y, int width, int height, struct ws2_error *error);
/* Changes the number of channels: RGB to grey by (19595 R + 38470 G + 7471 B + 32768) >> 16 (as Pillow),
 * grey to RGB by copying, alpha dropped or set to 255. Never composites over a background. */
int ws2_image_convert(struct ws2_image *image, int channels, struct ws2_error *error);

/* ---- reading pictures ---------------------------------------------------------------------------- */

/* What a file is, told by its first bytes and never by its name. */
enum ws2_media { WS2_MEDIA_OTHER, WS2_MEDIA_PNG, WS2_MEDIA_JPEG, WS2_MEDIA_STILL, WS2_MEDIA_VIDEO };

/* WS2_MEDIA_STILL: bmp, webp, tiff, pnm and the like, through libav. WS2_MEDIA_VIDEO: a known container.
 * WS2_MEDIA_OTHER: nothing known; ws2_video_open may still succeed. Or a ws2_status when it cannot be read.
 */
int ws2_media_sniff(const char *path, struct ws2_error *error);

/* Reads a picture of any kind. channels: 1, 3 or 4 converts as ws2_image_convert does, 0 keeps what the file
 * has. PNG: every colour type; 16 bits become 8 by round(v/257). JPEG: CMYK and YCCK become RGB, the EXIF
 * orientation is applied, 12-bit samples are refused. For an animation the first picture. */
int ws2_image_read(struct ws2_image *image, const char *path, int channels, struct ws2_error *error);
/* The same from memory (PNG, JPEG and PNM only); name is used in messages. */
int ws2_image_decode(struct ws2_image *image, const void *bytes, size_t count, const char *name, int channels,
                     struct ws2_error *error);
/* A 16-bit PNG as it is, native byte order, [h,w,channels]; *data is released with free(). An 8-bit file is
 * WS2_ERR_INPUT. */
int ws2_png_read16(const char *path, uint16_t **data, int *width, int *height, int *channels,
                   struct ws2_error *error);

/* ---- writing pictures ---------------------------------------------------------------------------- */

/* 8-bit grey, RGB or RGBA. level: zlib 0..9. Equal pixels give equal bytes. */
int ws2_png_write(const char *path, const struct ws2_image *image, int level, struct ws2_error *error);
int ws2_png_write_file(FILE *file, const struct ws2_image *image, int level, struct ws2_error *error);
/* Grey indices with `colours` RGB triples (1..256). An index outside is WS2_ERR_USAGE. */
int ws2_png_write_palette(const char *path, const struct ws2_image *index, const uint8_t *rgb, int colours,
                          int level, struct ws2_error *error);
/* 16-bit, channels 1 or 3, native byte order. */
int ws2_png_write16(const char *path, const uint16_t *data, int width, int height, int channels, int level,
                    struct ws2_error *error);
/* Baseline, 4:4:4, slow integer DCT. quality 1..100; grey or RGB. */
int ws2_jpeg_write(const char *path, const struct ws2_image *image, int quality, struct ws2_error *error);
/* Binary PGM or PPM, by channels 1 or 3. */
int ws2_pnm_write(const char *path, const struct ws2_image *image, struct ws2_error *error);
int ws2_pnm_write_file(FILE *file, const struct ws2_image *image, struct ws2_error *error);

/* NumPy .npy version 1.0, C order, little-endian. */
int ws2_npy_write(const char *path, enum ws2_dtype dtype, const struct ws2_shape *shape, const void *data,
                  struct ws2_error *error);
/* Reads version 1.0 to 3.0; Fortran order, big-endian and object arrays are refused. *data is released with
 * free(). Bool arrays come back as u8. */
int ws2_npy_read(const char *path, enum ws2_dtype *dtype, struct ws2_shape *shape, void **data,
                 struct ws2_error *error);

/* ---- flow files ---------------------------------------------------------------------------------- */

/* What is written for a pixel whose flow is unknown. */
#define WS2_FLOW_UNKNOWN 1e10f

/* Middlebury's rule: neither part is longer than 1e9, infinite or NaN. */
bool ws2_flow_known(float u, float v);

/* A flow as files hold it: for each pixel of one frame, where it is in another. Zero it; reuse it; release it. */
struct ws2_flow_file {
    int width, height;
    float *flow;    /* [2,h,w]: pixels to the right, pixels down */
    uint8_t *valid; /* [h,w]: 1 where the flow is known, else 0 */
    size_t flow_capacity, valid_capacity;
};

void ws2_flow_file_free(struct ws2_flow_file *file);
/* Reads either of the two kinds below, told by its first bytes; anything else is WS2_ERR_INPUT. */
int ws2_flow_file_read(struct ws2_flow_file *file, const char *path, struct ws2_error *error);
/* Takes a tensor f16 or f32 [2,h,w]; another shape or type is WS2_ERR_INPUT. valid: u8 [h,w] of the same size, 0
 * where the flow is to count as unknown though there is a number, or NULL. */
int ws2_flow_file_fill(struct ws2_flow_file *file, enum ws2_dtype dtype, const struct ws2_shape *shape,
                       const void *data, const uint8_t *valid, struct ws2_error *error);
/* The flow as a tensor f16 [2,h,w]: NaN, both parts, where it is unknown or longer than half floats hold, so that nobody
 * samples it. known u8 [h,w]: 1 where there are numbers. */
void ws2_flow_file_tensor(const struct ws2_flow_file *file, uint16_t *half, uint8_t *known);

/* Middlebury's .flo: little-endian, "PIEH" (202021.25 as a float), width, height, then u and v of each pixel, row by
 * row. What was read and is written again is equal byte by byte, NaN included. A file shorter than its header says is
 * WS2_ERR_TRUNCATED, a longer one WS2_ERR_INPUT; either is told before memory for the flow is taken. Writing does
 * not look at valid: unknown flow is a value beyond 1e9. */
int ws2_flo_read(struct ws2_flow_file *file, const char *path, struct ws2_error *error);
int ws2_flo_write(const char *path, const struct ws2_flow_file *file, struct ws2_error *error);

/* KITTI's 16-bit PNG: red and green are 64 u + 32768 and 64 v + 32768, blue is 0 where the flow is unknown; such
 * pixels get WS2_FLOW_UNKNOWN when read, and 32768 32768 0 when written. Written flow is rounded to 1/64 pixel,
 * halves up, and held within -512 .. 511.98. All this as the devkit's Matlab functions do it, which made KITTI's own
 * files, so that these come back sample by sample; its C++ class cuts instead of rounding and writes 0 0 0. level:
 * zlib 0..9. */
int ws2_kitti_read(struct ws2_flow_file *file, const char *path, struct ws2_error *error);
int ws2_kitti_write(const char *path, const struct ws2_flow_file *file, int level, struct ws2_error *error);

/* The flow files of a sequence by frame number: of a folder those named "frame_0012.flo", or with other words before
 * the digits; or such PNG files, in a folder without .flo (beside .flo, pictures are taken for frames). One file by
 * itself serves whatever frame is asked for. */
struct ws2_flow_files;

/* No such file in the folder, and two of one number, are WS2_ERR_INPUT. What is in the files is not looked at. */
int ws2_flow_files_open(struct ws2_flow_files **files, const char *path, struct ws2_error *error);
int64_t ws2_flow_files_count(const struct ws2_flow_files *files);
/* Path of the flow of this frame, owned by files; NULL where there is none. */
const char *ws2_flow_files_path(const struct ws2_flow_files *files, int64_t frame);
/* The number in the name of the index-th file, in rising order; -1 for a single file without one. */
int64_t ws2_flow_files_number(const struct ws2_flow_files *files, int64_t index);
void ws2_flow_files_close(struct ws2_flow_files *files); /* NULL is fine */

/* ---- lists of picture files ---------------------------------------------------------------------- */

/* The pictures of one sequence, in order. */
struct ws2_files {
    char **path;     /* as to be opened */
    char **stem;     /* name relative to the folder, without its suffix: key for truth masks */
    int64_t *number; /* frame number, see below */
    int64_t count;
    size_t path_capacity, stem_capacity, number_capacity;
};

/* The regular files of a folder whose suffix is that of a picture (png jpg jpeg jpe bmp webp tif tiff pgm ppm
 * pbm pnm), hidden ones left out, in natural order: runs of digits compare as numbers, so frame_2 comes
 * before frame_10. Sub-folders are not entered. An empty folder is WS2_ERR_INPUT. */
int ws2_files_folder(struct ws2_files *files, const char *folder, struct ws2_error *error);
/* Files that match a glob(7) pattern, natural order; none is WS2_ERR_INPUT. */
int ws2_files_glob(struct ws2_files *files, const char *pattern, struct ws2_error *error);
int ws2_files_add(struct ws2_files *files, const char *path, struct ws2_error *error);
/* Fills number[]: the digits at the end of the stem when every file has them and they strictly increase from
 * file to file (returns true), else the position 0, 1, 2 ... (returns false). */
bool ws2_files_number(struct ws2_files *files);
/* The picture in folder whose stem is `stem`, any picture suffix: 1 and its path (free()), 0 when there is
 * none, WS2_ERR_INPUT when two fit. */
int ws2_files_find(const char *folder, const char *stem, char **path, struct ws2_error *error);
/* Name of the folder that the first file lies in (free()), never "." or empty; NULL when out of memory. */
char *ws2_files_folder_name(const struct ws2_files *files);
/* Makes a folder and those above it; all may be there already. */
int ws2_folders_make(const char *path, struct ws2_error *error);
/* A name from a stream as the name of a file or folder that cannot lead elsewhere (free()); NULL when out of
 * memory. */
char *ws2_file_name(const char *text);
void ws2_files_free(struct ws2_files *files);

/* ---- video --------------------------------------------------------------------------------------- */

struct ws2_video;

struct ws2_video_info {
    int width, height; /* of the frames that come out (after rotation); pixels as stored, not squared */
    int64_t rate_num, rate_den; /* average frames per second; 0/1 unknown */
    int64_t frames;             /* as the container says, or estimated; 0 unknown */
    int64_t duration;           /* microseconds; 0 unknown */
    int rotation;               /* 0, 90, 180 or 270 degrees clockwise, already applied */
    const char *codec;          /* "h264"; static text */
};

/* threads: of the decoder; results do not depend on it. A file without a video stream is WS2_ERR_INPUT. */
int ws2_video_open(struct ws2_video **video, const char *path, int threads, struct ws2_error *error);
const struct ws2_video_info *ws2_video_info(const struct ws2_video *video);
/* 1: the next frame as RGB and its time in microseconds after the first frame (-1 unknown); 0: the end, all frames
 * were there; or a status. A video without a single frame is WS2_ERR_INPUT. Colours: matrix (BT.601, 709, 2020 ...) and range by the tags of the frame,
 * BT.601 and limited range where they are silent, as ffmpeg. More than 8 bits are rounded. Interlaced frames
 * come woven. image may be NULL to skip a frame without converting it. A size that changes midway is an
 * error. */
int ws2_video_next(struct ws2_video *video, struct ws2_image *image, int64_t *pts, struct ws2_error *error);
void ws2_video_close(struct ws2_video *video);

struct ws2_video_writer;

/* H.264 (libx264) in mp4, yuv420p, BT.709 limited range and tagged so, one B-frame-free stream of constant
 * rate. Odd sides are padded by repeating the last column or row. crf 0..51 (18 is visually clean).
 * WS2_ERR_MODEL when this libav has no such encoder. */
int ws2_video_create(struct ws2_video_writer **writer, const char *path, int width, int height,
                     int64_t rate_num, int64_t rate_den, int crf, struct ws2_error *error);
/* RGB or grey, of the size given at the start. */
int ws2_video_put(struct ws2_video_writer *writer, const struct ws2_image *image, struct ws2_error *error);
/* Flushes, checks, renames; frees the writer in every case. */
int ws2_video_finish(struct ws2_video_writer *writer, struct ws2_error *error);
void ws2_video_abandon(struct ws2_video_writer *writer); /* removes the temporary file; NULL is fine */

/* "libavformat 59.27.100" or NULL when it cannot be loaded: for --version -v. Loads it. */
const char *ws2_video_library(void);

/* ---- resizing ------------------------------------------------------------------------------------ */

/* Kernels (in = source, out = result, s = in/out along an axis). Half-pixel centres throughout.
 * NEAREST       floor((i + 0.5) s)
 * AREA          exact mean over the box [i s, (i+1) s)
 * BILINEAR      taps at (i + 0.5) s - 0.5, edge clamped, no antialias: torch align_corners=False, cv2 linear
 * BICUBIC       same centres, a = -0.75, edge clamped, no antialias: torch and cv2 cubic
 * PIL_BILINEAR  triangle whose support grows with s; on u8 bit-exact Pillow (two passes, 22-bit fixed point,
 * rounding to u8 between them), on f32 torch antialias=True PIL_BICUBIC   cubic a = -0.5 likewise On u8 all
 * but the PIL kernels compute in f32 and round half to even at the end. */
enum ws2_kernel {
    WS2_NEAREST,
    WS2_AREA,
    WS2_BILINEAR,
    WS2_BICUBIC,
    WS2_PIL_BILINEAR,
    WS2_PIL_BICUBIC,
    WS2_KERNELS
};

const char *ws2_kernel_name(enum ws2_kernel kernel);             /* "nearest", "area", ..., "pil-bicubic" */
int ws2_kernel_parse(const char *name, enum ws2_kernel *kernel); /* 0 or WS2_ERR_USAGE */

/* Taps for one pair of sizes and scratch memory; one thread at a time. */
struct ws2_resizer;

/* NULL: out of memory or a side < 1 (see error). */
struct ws2_resizer *ws2_resizer_new(int in_width, int in_height, int out_width, int out_height,
                                    enum ws2_kernel kernel, struct ws2_error *error);
void ws2_resizer_free(struct ws2_resizer *resizer);
/* Makes *resizer fit these sizes: keeps it when it does already, else replaces it. *resizer may be NULL. */
int ws2_resizer_fit(struct ws2_resizer **resizer, int in_width, int in_height, int out_width, int out_height,
                    enum ws2_kernel kernel, struct ws2_error *error);
/* dst [out_h,out_w,c], src [in_h,in_w,c], packed, not overlapping. WS2_ERR_SYSTEM when scratch memory is
 * lacking. */
int ws2_resizer_u8(struct ws2_resizer *resizer, uint8_t *dst, const uint8_t *src, int channels,
                   struct ws2_error *error);
/* dst [planes,out_h,out_w], src [planes,in_h,in_w]. */
int ws2_resizer_f32(struct ws2_resizer *resizer, float *dst, const float *src, int64_t planes,
                    struct ws2_error *error);
/* One-shot forms. to must not be from. */
int ws2_image_resize(struct ws2_image *to, const struct ws2_image *from, int width, int height,
                     enum ws2_kernel kernel, struct ws2_error *error);
int ws2_resize_f32(float *dst, int out_width, int out_height, const float *src, int in_width, int in_height,
                   int64_t planes, enum ws2_kernel kernel, struct ws2_error *error);

/* ---- from a frame as filmed to a frame as used --------------------------------------------------- */

/* Crop, then size, as ws2-read does it to frames and to their truth masks. */
struct ws2_fit {
    int x, y, crop_width, crop_height; /* crop_width 0: no crop */
    int width, height;                 /* of the result; 0: as it is after the crop */
    enum ws2_kernel kernel;
};

/* "X,Y,W,H" and "N" or "WxH"; NULL leaves that part as it is. */
int ws2_fit_parse(struct ws2_fit *fit, const char *crop, const char *size, struct ws2_error *error);
/* Size of the result for a frame of this size; WS2_ERR_INPUT when the crop reaches outside. */
int ws2_fit_size(const struct ws2_fit *fit, int in_width, int in_height, int *width, int *height,
                 struct ws2_error *error);
/* Fills dst, [height,width,c] of the result. The picture is cropped in place. *resizer is kept for the next
 * call. */
int ws2_fit_apply(const struct ws2_fit *fit, struct ws2_image *image, uint8_t *dst,
                  struct ws2_resizer **resizer, struct ws2_error *error);
/* Fills dst, u8 [height,width] of the result for a frame of frame_width x frame_height, with 1 where the grey
 * mask is above one half after a PIL-bilinear resize, else 0. A mask of another size than the frame is
 * WS2_ERR_INPUT, unless nothing is cropped and the shape is the same to the pixel. The mask is cropped in
 * place. */
int ws2_fit_truth(const struct ws2_fit *fit, struct ws2_image *mask, int frame_width, int frame_height,
                  uint8_t *dst, struct ws2_resizer **resizer, struct ws2_error *error);
/* A rate such as "25", "29.97" or "30000/1001"; WS2_ERR_USAGE unless positive. */
int ws2_rate_parse(const char *text, int64_t *num, int64_t *den, struct ws2_error *error);
/* Number of the tick of a clock of this rate that is nearest to a time in microseconds. */
int64_t ws2_rate_tick(int64_t time, int64_t num, int64_t den);

/* ---- sequences of frames ------------------------------------------------------------------------- */

/* Which frames of a video or a list of pictures are wanted, and where their truth masks are. */
struct ws2_sequence_options {
    int64_t begin, end, step; /* positions begin <= i < end, every step-th; counted after --rate resampling */
    int64_t first;            /* number of the frame at position 0 where file names give none */
    int64_t rate_num,
        rate_den;        /* 0/1: as the video has it. Else video is resampled to it, pictures have it */
    int threads;         /* of the video decoder */
    const char *truth;   /* folder of masks, or a video of them, or NULL */
    bool truth_optional; /* a frame without a mask is a frame with an empty one, not an error */
};

/* A frame on its way from ws2_sequence_next to its user. Zero it; reuse it; release it. */
struct ws2_frame {
    int64_t number, pts;     /* pts in microseconds, -1 unknown */
    const char *path, *stem; /* of a picture that is still to be read; NULL for video */
    struct ws2_image image;  /* RGB as filmed */
    struct ws2_image mask;   /* grey, as drawn */
    bool has_mask;
};

struct ws2_sequence;

/* Frame numbers and masks of pictures go by file name (ws2_files_number, ws2_files_find); those of a video by
 * position: the mask in a folder is the one whose number is that of the frame, a video of masks goes along frame by
 * frame. A truth path that does not exist but does without its suffix is taken so. Takes over the contents of
 * `files`, also on failure. */
int ws2_sequence_of_files(struct ws2_sequence **sequence, struct ws2_files *files,
                          const struct ws2_sequence_options *options, struct ws2_error *error);
/* Resampling to a rate repeats or drops frames: tick k shows the last frame whose time rounds to a tick <= k. */
int ws2_sequence_of_video(struct ws2_sequence **sequence, const char *path,
                          const struct ws2_sequence_options *options, struct ws2_error *error);
void ws2_sequence_close(struct ws2_sequence *sequence);
void ws2_sequence_rate(const struct ws2_sequence *sequence, int64_t *num, int64_t *den); /* 0/1 unknown */
int64_t ws2_sequence_frames(const struct ws2_sequence *sequence); /* before begin, end, step; 0 unknown */
/* 1: the next frame; a video's pictures are in it, those of files not yet. 0: the end. On an error frame->number is
 * the frame to blame. */
int ws2_sequence_next(struct ws2_sequence *sequence, struct ws2_frame *frame, struct ws2_error *error);
/* Reads what ws2_sequence_next left out: the picture and the mask. May run on several threads at once. */
int ws2_sequence_load(const struct ws2_sequence *sequence, struct ws2_frame *frame, struct ws2_error *error);
void ws2_frame_free(struct ws2_frame *frame);

/* ---- what a program is given to read ------------------------------------------------------------- */

/* Operands of a program: folders of pictures and videos are a sequence each; pictures named one by one or by a
 * glob(7) pattern that is no file are one sequence, up to the next folder or video. */
struct ws2_sources {
    const char *const *path;
    int count, next;       /* next starts at 0 */
    struct ws2_files list; /* pictures collected so far; starts zeroed, empty again at the end */
};

struct ws2_source {
    struct ws2_files files; /* of pictures; none: a video */
    const char *video;      /* its path, or NULL */
    char *name;             /* of the folder, the single picture or the video */
};

/* 1 and the next sequence, 0 at the end, or a status. What is not known to be a picture is taken for a video. */
int ws2_sources_next(struct ws2_sources *sources, struct ws2_source *source, struct ws2_error *error);
void ws2_source_free(struct ws2_source *source);
/* Where the masks of the sequence of this name are: in truth/name when there is such a folder or file, else in
 * truth itself (free()). NULL when out of memory. */
char *ws2_truth_path(const char *truth, const char *name);

/* ---- colour -------------------------------------------------------------------------------------- */

/* luma[i] = 0.299 R + 0.587 G + 0.114 B in 0..255, of packed RGB. */
void ws2_luma_f32(float *luma, const uint8_t *rgb, size_t pixels);
/* The same rounded: (19595 R + 38470 G + 7471 B + 32768) >> 16. */
void ws2_luma_u8(uint8_t *luma, const uint8_t *rgb, size_t pixels);
/* Hue in [0,1) turns (0 for grey), saturation (max-min)/max in [0,1], value max/255. Any of the three may be
 * NULL. */
void ws2_hsv_f32(float *hue, float *saturation, float *value, const uint8_t *rgb, size_t pixels);
/* One colour back: h any real (wraps), s and v in [0,1]. */
void ws2_hsv_rgb(float h, float s, float v, uint8_t rgb[3]);

/* CIE L*a*b* (1976, white D65) of sRGB samples: planes lab[3,pixels], L 0..100, a and b about -108 .. 99. Cube roots come
 * from a table; L and b are right to 2e-3, a to 4e-3. */
void ws2_lab_f32(float *lab, const uint8_t *rgb, size_t pixels);

enum ws2_jitter_step { WS2_JITTER_BRIGHTNESS, WS2_JITTER_CONTRAST, WS2_JITTER_SATURATION, WS2_JITTER_HUE };

/* Colour jitter as torchvision does it on 8-bit RGB pictures: each step rounds to u8.
 * brightness f: clip(f x). contrast f: m + f (x - m), m = rounded mean of the luma picture. saturation f:
 * blend with the luma picture. hue h: H + h turns in 8-bit HSV, wrapping. A factor of 1 (hue 0) is the
 * identity and is skipped. */
struct ws2_jitter {
    float brightness, contrast, saturation; /* >= 0 */
    float hue;                              /* -0.5 .. 0.5 turns */
    enum ws2_jitter_step order[4];          /* a permutation */
};

void ws2_jitter_apply(uint8_t *rgb, size_t pixels, const struct ws2_jitter *jitter); /* in place */

/* Colours for pixels that are taken out: black; 255 times the ImageNet mean, rounded, which a network sees as 0. */
extern const uint8_t ws2_fill_colour[2][3];

/* ---- drawing ------------------------------------------------------------------------------------- */

enum ws2_palette { WS2_PALETTE_TURBO, WS2_PALETTE_VIRIDIS, WS2_PALETTE_GREY };

/* value in [0,1] (clamped; NaN is mid grey) to a colour. */
void ws2_palette_rgb(enum ws2_palette palette, float value, uint8_t rgb[3]);
/* Colours of class and instance ids: 0 is black, the rest differ as much as possible. */
void ws2_id_rgb(int64_t id, uint8_t rgb[3]);
/* Middlebury flow wheel (Baker et al., A Database and Evaluation Methodology for Optical Flow, 2007):
 * direction is the colour, length / radius its strength. flow [2,h,w] in pixels; radius <= 0 takes the
 * longest vector. Values above 1e9 or not finite are unknown and black. image becomes RGB w x h. */
int ws2_flow_rgb(struct ws2_image *image, const float *flow, int width, int height, float radius,
                 struct ws2_error *error);
/* A map [h,w] as colours: low..high covers the palette. image becomes RGB. */
int ws2_heat_rgb(struct ws2_image *image, const float *map, int width, int height, float low, float high,
                 enum ws2_palette palette, struct ws2_error *error);
/* image (RGB) = (1-alpha) image + alpha heat; heat has the same size. */
void ws2_image_blend(struct ws2_image *image, const struct ws2_image *heat, float alpha);
/* Marks the inner border of mask != 0 (u8 [h,w] of the image's size): all mask pixels whose distance to a
 * zero pixel inside the picture is at most `thickness` pixels, square distance measure. */
int ws2_draw_outline(struct ws2_image *image, const uint8_t *mask, const uint8_t rgb[3], int thickness,
                     struct ws2_error *error);
/* ASCII text in a built-in 5 x 7 font, cells of 6 x 8 pixels times scale, top left at x, y; clipped; other
 * bytes show as a box. The picture may be grey (colour rgb[0]) or RGB. */
void ws2_draw_text(struct ws2_image *image, int x, int y, const char *text, const uint8_t rgb[3], int scale);
int ws2_text_width(const char *text, int scale); /* pixels */

/* Pictures side by side on one row with a caption bar above each; grey panels become RGB; smaller ones are
 * placed at the top. captions or single captions may be NULL. */
int ws2_draw_row(struct ws2_image *row, const struct ws2_image *panels, const char *const *captions,
                 int count, struct ws2_error *error);
/* Puts `row` below `sheet`, which grows; a narrower one is filled with the background colour. */
int ws2_draw_below(struct ws2_image *sheet, const struct ws2_image *row, struct ws2_error *error);

/* ---- looking at tensors -------------------------------------------------------------------------- */

/* How a tensor becomes a picture. Zeroed is a good default. */
struct ws2_view {
    enum ws2_palette palette;
    int channel;  /* of [c,h,w] maps */
    float radius; /* of the flow wheel, pixels; 0: the longest vector */
    bool raw;     /* [h,w] of u8 as it is */
};

/* Makes a picture of a tensor by its name, type and shape:
 *   u8 [h,w,3], u8 [h,w,4]          as it is;  f32 [h,w,3] "...rgb..." as 0..255
 *   f16 or f32 [2,h,w] "flow..."    the flow wheel
 *   u8 [h,w]                        "class", "ids": colours; else 0/1 as black and white; other values as grey
 *   u16, i32 [h,w]                  colours by id
 *   u8 [n,h,w] "instances..."       colours, the last one on top; so are others that are no u8 [h,w,3]
 *   u16 [l,h,w]                     layers of ids: colours, the last layer on top
 *   f16, f32 [h,w] or [c,h,w]       a heat map of one channel, 0..1 when the values are, else lowest..highest
 * Other shapes are WS2_ERR_INPUT. The picture is grey or RGB. */
int ws2_view_tensor(struct ws2_image *image, const char *name, enum ws2_dtype dtype,
                    const struct ws2_shape *shape, const void *data, const struct ws2_view *view,
                    struct ws2_error *error);
/* Blends one channel of a map f16 or f32 [h,w] or [c,h,w] over an RGB picture of any size, as a heat map. */
int ws2_view_heat(struct ws2_image *image, enum ws2_dtype dtype, const struct ws2_shape *shape,
                  const void *data, const struct ws2_view *view, float alpha, struct ws2_error *error);

/* ---- looking at frames --------------------------------------------------------------------------- */

/* Where the tensors of the frame that is drawn come from: a record of a stream, for programs. */
struct ws2_look_source {
    void *context;
    /* Whether frames of this sequence may have it. */
    bool (*has)(void *context, const char *name);
    /* 1: there it is, its data valid until the next frame; 0: this frame lacks it; or a status. */
    int (*get)(void *context, const char *name, enum ws2_dtype *dtype, struct ws2_shape *shape,
               const void **data, struct ws2_error *error);
    /* Index of the class of this name, negative when there is none. */
    int (*class_of)(void *context, const char *name);
};

/* How frames are drawn. A TEXT below is "NAME" or "NAME:CHANNEL", the channel by class name or number; without one it
 * is that of the class "before", or 0. */
struct ws2_look {
    struct ws2_view view;    /* its channel is not used */
    const char *heat;        /* TEXT of the map in overlays, or NULL */
    const char *const *mask; /* names of the masks outlined in overlays: red, green, yellow, blue, red ... */
    int masks;
    float alpha; /* weight of a map over the frame, 0 .. 1 */
    int thickness;
};

/* WS2_ERR_USAGE when it names no tensor. */
int ws2_look_check(const char *text, struct ws2_error *error);
/* Each returns 1, 0 when the frame lacks what is asked for (the picture is then unspecified), or a status; a tensor
 * that the sequence does not have is WS2_ERR_INPUT.
 * tensor: by itself, as ws2_view_tensor; with `over` a map lies over "rgb", when there is such a tensor.
 * overlay: "rgb" with the map over it, then the outlines; what the frame lacks of these is left out.
 * panels: each TEXT or "overlay" side by side under captions, the first one followed by `title`; what the frame lacks
 * is black. picture [panels] is scratch memory that lives from frame to frame. */
int ws2_look_tensor(struct ws2_image *image, const struct ws2_look *look,
                    const struct ws2_look_source *source, const char *text, bool over,
                    struct ws2_error *error);
int ws2_look_overlay(struct ws2_image *image, const struct ws2_look *look,
                     const struct ws2_look_source *source, struct ws2_error *error);
int ws2_look_panels(struct ws2_image *row, struct ws2_image *picture, const struct ws2_look *look,
                    const struct ws2_look_source *source, const char *const *panel, int panels,
                    const char *title, struct ws2_error *error);

/* ---- tensors as files of numbers ----------------------------------------------------------------- */

enum ws2_numbers {
    WS2_NUMBERS_NPY,   /* any tensor */
    WS2_NUMBERS_PNG16, /* u16 [h,w] as a 16-bit grey PNG */
    WS2_NUMBERS_FLO,   /* flow f16 or f32 [2,h,w] */
    WS2_NUMBERS_KITTI  /* the same; where the frame has a mask "NAME.valid" u8 [h,w], its zeros are unknown */
};

/* Writes tensor `name` of a frame. 1: done; 0: the frame lacks it, or it is not what PNG16 can hold; or a status: a
 * tensor that the sequence does not have or that is no flow is WS2_ERR_INPUT. level: zlib 0..9. */
int ws2_numbers_write(const char *path, enum ws2_numbers kind, const struct ws2_look_source *source,
                      const char *name, int level, struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
