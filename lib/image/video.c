/* Reading video and rare picture formats through libav. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "image/libav.h"

/* Containers that hold their own pictures. Play lists and the like, which make libav open other files, stay out. */
static const char containers[] = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,h264,"
                                 "hevc,m4v,mjpeg,flv,asf,ogg,mxf,ivf,nut,"
                                 "yuv4mpegpipe,dv,apng,bmp_pipe,webp_pipe,tiff_pipe,pgm_pipe,ppm_pipe,pbm_"
                                 "pipe,pam_pipe,pgmyuv_pipe,pfm_pipe";

/* Same arithmetic on every processor, chroma at full resolution, correct rounding. */
#define SCALE_FLAGS (SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND | SWS_BITEXACT)

struct ws2_video {
    const struct libav *av;
    char *path;
    struct libav_file file;
    AVFormatContext *format;
    AVStream *stream;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame;
    struct SwsContext *scale;
    enum AVPixelFormat scale_format; /* what `scale` was made for */
    int scale_matrix, scale_range, scale_channels;
    int coded_width, coded_height; /* of the first frame, before rotation */
    int orientation;               /* as image_orient counts */
    struct ws2_image scratch;
    struct libav_log log;        /* what the demuxer says */
    struct libav_log decode_log; /* what the decoder says, as far as it runs on this thread */
    struct ws2_video_info info;
    int64_t delivered;
    int64_t first_time;   /* microseconds */
    bool draining;        /* the demuxer has no more packets */
    struct ws2_error cut; /* why it has none, told after the frames that were complete */
};

static int video_fail(struct ws2_video *video, int status, const char *what, int code,
                      struct ws2_error *error)
{
    char reason[400];

    libav_log_to(NULL);
    if (video->file.saved_errno)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: %s", video->path, strerror(video->file.saved_errno));
    return ws2_fail(error, code == AVERROR(ENOMEM) ? WS2_ERR_SYSTEM : status, "%s: %s: %s", video->path, what,
                    libav_reason(video->av, code, &video->log, reason, sizeof reason));
}

/* ---- opening ------------------------------------------------------------------------------------- */

static int video_open_container(struct ws2_video *video, struct ws2_error *error)
{
    const struct libav *av = video->av;
    AVDictionary *options = NULL;
    int code;

    video->format = av->avformat_alloc_context();
    if (!video->format)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", video->path);
    video->format->pb = video->file.io;
    av->av_dict_set(&options, "format_whitelist", containers, 0);
    av->av_dict_set(&options, "protocol_whitelist", "file", 0);
    libav_log_to(&video->log);
    code = av->avformat_open_input(&video->format, NULL, NULL, &options);
    av->av_dict_free(&options);
    if (code < 0 && strstr(video->log.text, "moov atom not found"))
        return video_fail(video, WS2_ERR_TRUNCATED, "the video ends before its index", code, error);
    if (code < 0)
        return video_fail(video, WS2_ERR_INPUT, "not a picture or video that libav knows", code, error);
    code = av->avformat_find_stream_info(video->format, NULL);
    if (code < 0)
        return video_fail(video, WS2_ERR_INPUT, "damaged video", code, error);
    libav_log_to(NULL);
    return 0;
}

static int video_open_codec(struct ws2_video *video, int threads, struct ws2_error *error)
{
    const struct libav *av = video->av;
    const AVCodec *decoder = NULL;
    const int index = av->av_find_best_stream(video->format, AVMEDIA_TYPE_VIDEO, -1, -1, &decoder, 0);
    int code;

    if (index == AVERROR_STREAM_NOT_FOUND)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: no video in this file", video->path);
    if (index < 0)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: no decoder for this video", video->path);
    video->stream = video->format->streams[index];
    for (unsigned i = 0; i < video->format->nb_streams; i++)
        if ((int)i != index)
            video->format->streams[i]->discard = AVDISCARD_ALL;
    video->codec = av->avcodec_alloc_context3(decoder);
    video->packet = av->av_packet_alloc();
    video->frame = av->av_frame_alloc();
    if (!video->codec || !video->packet || !video->frame)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", video->path);
    libav_log_to(&video->log);
    code = av->avcodec_parameters_to_context(video->codec, video->stream->codecpar);
    video->codec->thread_count = threads < 1 ? 1 : threads;
    video->codec->pkt_timebase = video->stream->time_base;
    if (code >= 0)
        code = av->avcodec_open2(video->codec, decoder, NULL);
    if (code < 0)
        return video_fail(video, WS2_ERR_INPUT, "cannot decode this video", code, error);
    libav_log_to(NULL);
    return 0;
}

/* Bytes that the frames of a QuickTime or mp4 index reach to. */
static int64_t mov_reach(const struct ws2_video *video)
{
    const int entries = video->av->avformat_index_get_entries_count(video->stream);
    int64_t reach = 0;

    for (int i = 0; i < entries; i++) {
        const AVIndexEntry *entry = video->av->avformat_index_get_entry(video->stream, i);

        if (entry && entry->pos + entry->size > reach)
            reach = entry->pos + entry->size;
    }
    return reach;
}

/* Bytes that the first RIFF chunk of an AVI reaches to. */
static int64_t riff_reach(const struct ws2_video *video)
{
    uint8_t head[8];

    if (pread(video->file.fd, head, sizeof head, 0) != (ssize_t)sizeof head || memcmp(head, "RIFF", 4) != 0)
        return 0;
    return 8 + ((int64_t)head[4] | (int64_t)head[5] << 8 | (int64_t)head[6] << 16 | (int64_t)head[7] << 24);
}

/* A GIF's end is marked by one byte, which the demuxer does not miss. Some writers add zeros. */
static bool gif_ends_well(const struct ws2_video *video, int64_t size)
{
    uint8_t tail[64];
    const size_t count = size < (int64_t)sizeof tail ? (size_t)size : sizeof tail;
    size_t at = count;

    if (pread(video->file.fd, tail, count, (off_t)(size - (int64_t)count)) != (ssize_t)count)
        return true;
    while (at > 0 && tail[at - 1] == 0)
        at--;
    return at > 0 && tail[at - 1] == 0x3B;
}

/* A cut that the container itself betrays is told before any work is done. */
static int video_check_length(struct ws2_video *video, struct ws2_error *error)
{
    const char *name = video->format->iformat->name;
    const int64_t size = libav_file_size(&video->file);
    int64_t reach = 0;

    if (size < 0)
        return 0;
    if (strncmp(name, "mov,", 4) == 0)
        reach = mov_reach(video);
    else if (strcmp(name, "avi") == 0)
        reach = riff_reach(video);
    if (reach > size)
        return ws2_fail(error, WS2_ERR_TRUNCATED,
                        "%s: the file ends at byte %lld but its frames reach to byte %lld", video->path,
                        (long long)size, (long long)reach);
    if (strcmp(name, "gif") == 0 && !gif_ends_well(video, size))
        return ws2_fail(error, WS2_ERR_TRUNCATED, "%s: the file ends before the trailer of a GIF",
                        video->path);
    if (strcmp(name, "mpegts") == 0 && size % 188 != 0 && size % 192 != 0 && size % 204 != 0)
        return ws2_fail(error, WS2_ERR_TRUNCATED, "%s: the file ends within a packet", video->path);
    return 0;
}

/* The display matrix maps a source point (x, y) to (a x + c y, b x + d y) in 16.16, y downwards; EXIF numbers name the
 * eight right-angled cases. */
static int orientation_of_matrix(const int32_t *matrix)
{
    const int a = (matrix[0] > 0) - (matrix[0] < 0), b = (matrix[1] > 0) - (matrix[1] < 0);
    const int c = (matrix[3] > 0) - (matrix[3] < 0), d = (matrix[4] > 0) - (matrix[4] < 0);

    if (b == 0 && c == 0)
        return d < 0 ? (a < 0 ? 3 : 4) : a < 0 ? 2 : 1;
    if (a == 0 && d == 0)
        return b > 0 ? (c < 0 ? 6 : 5) : c < 0 ? 7 : 8;
    return 1;
}

static void video_fill_info(struct ws2_video *video)
{
    static const int degrees[9] = {0, 0, 0, 180, 0, 90, 90, 270, 270};
    const AVRational rate = video->av->av_guess_frame_rate(video->format, video->stream, NULL);
    const AVRational mean = video->stream->avg_frame_rate.num > 0 ? video->stream->avg_frame_rate : rate;
    const uint8_t *matrix =
        video->av->av_stream_get_side_data(video->stream, AV_PKT_DATA_DISPLAYMATRIX, NULL);
    struct ws2_video_info *info = &video->info;
    bool transposed;

    video->orientation = matrix ? orientation_of_matrix((const int32_t *)(const void *)matrix) : 1;
    transposed = video->orientation >= 5;
    info->width = transposed ? video->codec->height : video->codec->width;
    info->height = transposed ? video->codec->width : video->codec->height;
    info->rate_num = mean.num > 0 && mean.den > 0 ? mean.num : 0;
    info->rate_den = mean.num > 0 && mean.den > 0 ? mean.den : 1;
    info->rotation = degrees[video->orientation];
    info->codec = video->av->avcodec_get_name(video->codec->codec_id);
    if (video->stream->duration > 0)
        info->duration =
            video->av->av_rescale_q(video->stream->duration, video->stream->time_base, AV_TIME_BASE_Q);
    else if (video->format->duration > 0)
        info->duration = video->format->duration;
    info->frames = video->stream->nb_frames;
    if (info->frames <= 0 && info->duration > 0 && info->rate_num > 0)
        info->frames = video->av->av_rescale_q(info->duration, AV_TIME_BASE_Q,
                                               (AVRational){(int)info->rate_den, (int)info->rate_num});
}

int ws2_video_open(struct ws2_video **out, const char *path, int threads, struct ws2_error *error)
{
    const struct libav *av = libav_get(error);
    struct ws2_video *video;
    int status;

    *out = NULL;
    if (!av)
        return WS2_ERR_MODEL;
    video = ws2_calloc(1, sizeof *video);
    if (!video || !(video->path = strdup(path))) {
        free(video);
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", path);
    }
    video->av = av;
    status = libav_file_open(av, &video->file, path, false, error);
    if (status == 0 && libav_file_size(&video->file) == 0)
        status = ws2_fail(error, WS2_ERR_INPUT, "%s: the file is empty", path);
    if (status == 0)
        status = video_open_container(video, error);
    if (status == 0)
        status = video_open_codec(video, threads, error);
    if (status == 0)
        status = video_check_length(video, error);
    if (status < 0) {
        ws2_video_close(video);
        return status;
    }
    video_fill_info(video);
    *out = video;
    return 0;
}

const struct ws2_video_info *ws2_video_info(const struct ws2_video *video)
{
    return &video->info;
}

void ws2_video_close(struct ws2_video *video)
{
    const struct libav *av;

    if (!video)
        return;
    av = video->av;
    libav_log_to(NULL);
    av->sws_freeContext(video->scale);
    av->av_frame_free(&video->frame);
    av->av_packet_free(&video->packet);
    av->avcodec_free_context(&video->codec);
    av->avformat_close_input(&video->format);
    libav_file_close(av, &video->file);
    ws2_image_free(&video->scratch);
    free(video->path);
    free(video);
}

/* ---- decoding ------------------------------------------------------------------------------------ */

/* The demuxer has ended: the decoder gives what it still holds. */
static int video_drain(struct ws2_video *video, struct ws2_error *error)
{
    const int code = video->av->avcodec_send_packet(video->codec, NULL);

    video->draining = true;
    return code < 0 && code != AVERROR_EOF ? video_fail(video, WS2_ERR_INPUT, "damaged video", code, error)
                                           : 0;
}

/* Feeds one packet, or the end, to the decoder. */
static int video_feed(struct ws2_video *video, struct ws2_error *error)
{
    const struct libav *av = video->av;
    int code;

    libav_log_to(&video->log);
    do {
        av->av_packet_unref(video->packet);
        code = av->av_read_frame(video->format, video->packet);
    } while (code >= 0 && video->packet->stream_index != video->stream->index);
    libav_log_to(&video->decode_log);
    if (code >= 0 && (video->packet->flags & AV_PKT_FLAG_CORRUPT))
        code = AVERROR_INVALIDDATA;
    /* Demuxers end quietly at a cut, but what they log tells. */
    if (code < 0 && (code != AVERROR_EOF || video->log.text[0]))
        video_fail(video, video->format->pb->eof_reached ? WS2_ERR_TRUNCATED : WS2_ERR_INPUT,
                   video->format->pb->eof_reached ? "the video ends too early" : "damaged video", code,
                   &video->cut);
    if (code < 0)
        return video_drain(video, error);
    code = av->avcodec_send_packet(video->codec, video->packet);
    return code < 0 ? video_fail(video, WS2_ERR_INPUT, "damaged frame", code, error) : 0;
}

/* 1: video->frame holds the next frame; 0: none left. */
static int video_decode(struct ws2_video *video, struct ws2_error *error)
{
    for (;;) {
        const int code = video->av->avcodec_receive_frame(video->codec, video->frame);
        int status;

        if (code >= 0)
            return 1;
        if (code == AVERROR_EOF)
            return 0;
        if (code != AVERROR(EAGAIN) || video->draining)
            return video_fail(video, WS2_ERR_INPUT, "damaged frame", code, error);
        status = video_feed(video, error);
        if (status < 0)
            return status;
    }
}

/* ---- colours ------------------------------------------------------------------------------------- */

static bool full_range(const AVFrame *frame)
{
    switch (frame->format) {
    case AV_PIX_FMT_YUVJ420P:
    case AV_PIX_FMT_YUVJ422P:
    case AV_PIX_FMT_YUVJ444P:
    case AV_PIX_FMT_YUVJ440P:
    case AV_PIX_FMT_YUVJ411P:
        return true;
    default:
        return frame->color_range == AVCOL_RANGE_JPEG;
    }
}

/* Makes video->scale fit the frame; it is kept as long as the format and the tags stay. */
static int video_fit_scale(struct ws2_video *video, const AVFrame *frame, int channels)
{
    static const enum AVPixelFormat target[5] = {
        [1] = AV_PIX_FMT_GRAY8, [3] = AV_PIX_FMT_RGB24, [4] = AV_PIX_FMT_RGBA};
    const struct libav *av = video->av;
    const int range = full_range(frame), matrix = (int)frame->colorspace;

    if (video->scale && video->scale_format == frame->format && video->scale_matrix == matrix &&
        video->scale_range == range && video->scale_channels == channels)
        return 0;
    av->sws_freeContext(video->scale);
    video->scale = av->sws_getContext(frame->width, frame->height, frame->format, frame->width, frame->height,
                                      target[channels], SCALE_FLAGS, NULL, NULL, NULL);
    if (!video->scale)
        return -1;
    video->scale_format = frame->format;
    video->scale_matrix = matrix;
    video->scale_range = range;
    video->scale_channels = channels;
    /* Grey and RGB sources answer -1 here: they have no matrix to set. */
    av->sws_setColorspaceDetails(video->scale, av->sws_getCoefficients(matrix), range,
                                 av->sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    return 0;
}

/* Weights of red and blue in luma, by tag; BT.601 where there is none. False for what is no such matrix. */
static bool luma_weights(enum AVColorSpace matrix, double *kr, double *kb)
{
    switch (matrix) {
    case AVCOL_SPC_BT709:
        *kr = 0.2126;
        *kb = 0.0722;
        return true;
    case AVCOL_SPC_UNSPECIFIED:
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M:
        *kr = 0.299;
        *kb = 0.114;
        return true;
    case AVCOL_SPC_FCC:
        *kr = 0.30;
        *kb = 0.11;
        return true;
    case AVCOL_SPC_SMPTE240M:
        *kr = 0.212;
        *kb = 0.087;
        return true;
    case AVCOL_SPC_BT2020_NCL:
        *kr = 0.2627;
        *kb = 0.0593;
        return true;
    default:
        return false;
    }
}

/* Describes the usual planar formats; false for all others, which swscale converts. */
static bool frame_as_yuv(const struct libav *av, const AVFrame *frame, struct image_yuv *yuv)
{
    const AVPixFmtDescriptor *pixel = av->av_pix_fmt_desc_get(frame->format);
    const uint64_t refused = AV_PIX_FMT_FLAG_BE | AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM |
                             AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_ALPHA;
    const enum AVChromaLocation site = frame->chroma_location;

    if (!pixel || pixel->nb_components != 3 || (pixel->flags & refused) ||
        !(pixel->flags & AV_PIX_FMT_FLAG_PLANAR) || pixel->log2_chroma_w > 1 || pixel->log2_chroma_h > 1 ||
        !luma_weights(frame->colorspace, &yuv->kr, &yuv->kb))
        return false;
    yuv->depth = pixel->comp[0].depth;
    for (int i = 0; i < 3; i++) {
        if (pixel->comp[i].plane != i || pixel->comp[i].step != (yuv->depth > 8 ? 2 : 1) ||
            pixel->comp[i].shift != 0 || pixel->comp[i].offset != 0 || pixel->comp[i].depth != yuv->depth)
            return false;
        yuv->plane[i] = frame->data[i];
        yuv->stride[i] = frame->linesize[i];
    }
    yuv->width = frame->width;
    yuv->height = frame->height;
    yuv->shift_x = pixel->log2_chroma_w;
    yuv->shift_y = pixel->log2_chroma_h;
    yuv->full = full_range(frame);
    /* Where nothing is said: between the columns in JPEG-like video, on them in all other. */
    yuv->left =
        site == AVCHROMA_LOC_UNSPECIFIED
            ? !yuv->full
            : site == AVCHROMA_LOC_LEFT || site == AVCHROMA_LOC_TOPLEFT || site == AVCHROMA_LOC_BOTTOMLEFT;
    yuv->top = site == AVCHROMA_LOC_TOPLEFT || site == AVCHROMA_LOC_TOP;
    return yuv->depth >= 8 && yuv->depth <= 12;
}

/* Any pixel format through swscale. */
static int video_scale(struct ws2_video *video, const AVFrame *frame, struct ws2_image *image, int channels,
                       struct ws2_error *error)
{
    /* swscale's vector code may write a few bytes beyond a row, hence rows of its own with room at the end. */
    const size_t row = (size_t)frame->width * (size_t)channels, stride = (row + 63) / 64 * 64 + 64;
    int status = ws2_image_reset(image, frame->width, frame->height, channels, error);
    uint8_t *planes[4] = {NULL}, *aligned;
    int strides[4] = {(int)stride};

    if (status == 0)
        status = ws2_reserve((void **)&video->scratch.data, &video->scratch.capacity,
                             stride * (size_t)frame->height + 64);
    if (status < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory for a frame", video->path);
    if (video_fit_scale(video, frame, channels))
        return ws2_fail(error, WS2_ERR_INPUT, "%s: this pixel format is not supported", video->path);
    aligned = video->scratch.data + (64 - (uintptr_t)video->scratch.data % 64) % 64;
    planes[0] = aligned;
    if (video->av->sws_scale(video->scale, (const uint8_t *const *)frame->data, frame->linesize, 0,
                             frame->height, planes, strides) != frame->height)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: a frame cannot be converted", video->path);
    for (int y = 0; y < frame->height; y++)
        memcpy(image->data + (size_t)y * row, aligned + (size_t)y * stride, row);
    return 0;
}

/* The frame as packed samples in image, not yet rotated. */
static int video_convert(struct ws2_video *video, const AVFrame *frame, struct ws2_image *image, int channels,
                         struct ws2_error *error)
{
    struct image_yuv yuv;
    int status;

    if (channels != 3 || !frame_as_yuv(video->av, frame, &yuv))
        return video_scale(video, frame, image, channels, error);
    status = ws2_image_reset(image, frame->width, frame->height, 3, error);
    if (status == 0 &&
        ws2_reserve((void **)&video->scratch.data, &video->scratch.capacity, image_yuv_scratch(yuv.width)))
        status = ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory for a frame", video->path);
    if (status == 0)
        image_yuv_rgb(image->data, &yuv, video->scratch.data);
    return status;
}

/* ---- next frame ---------------------------------------------------------------------------------- */

static int64_t video_time(struct ws2_video *video)
{
    const int64_t stamp = video->frame->best_effort_timestamp;
    int64_t time;

    if (stamp == AV_NOPTS_VALUE)
        return -1;
    time = video->av->av_rescale_q(stamp, video->stream->time_base, AV_TIME_BASE_Q);
    if (video->delivered == 0)
        video->first_time = time;
    return time < video->first_time ? -1 : time - video->first_time;
}

static int video_check_frame(struct ws2_video *video, struct ws2_error *error)
{
    const AVFrame *frame = video->frame;

    if (frame->decode_error_flags || (frame->flags & AV_FRAME_FLAG_CORRUPT))
        return ws2_fail(error, WS2_ERR_INPUT, "%s: damaged frame", video->path);
    if (video->delivered == 0) {
        video->coded_width = frame->width;
        video->coded_height = frame->height;
    }
    if (frame->width != video->coded_width || frame->height != video->coded_height)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: the size changes from %d x %d to %d x %d", video->path,
                        video->coded_width, video->coded_height, frame->width, frame->height);
    return 0;
}

/* At the end: did all frames come that the container promised? */
static int video_check_end(const struct ws2_video *video, struct ws2_error *error)
{
    if (video->cut.status < 0)
        return ws2_fail(error, video->cut.status, "%s", video->cut.text);
    if (video->delivered == 0)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: a video without frames", video->path);
    return 0;
}

int ws2_video_next(struct ws2_video *video, struct ws2_image *image, int64_t *pts, struct ws2_error *error)
{
    int status;

    libav_log_to(&video->decode_log);
    status = video_decode(video, error);
    libav_log_to(NULL);
    if (status == 0)
        return video_check_end(video, error);
    if (status == 1) {
        status = video_check_frame(video, error);
        if (status == 0 && pts)
            *pts = video_time(video);
        if (status == 0 && image)
            status = video_convert(video, video->frame, image, 3, error);
        if (status == 0 && image)
            status = image_orient(image, &video->scratch, video->orientation, error);
        video->delivered++;
        video->av->av_frame_unref(video->frame);
    }
    return status < 0 ? status : 1;
}

/* ---- rare pictures ------------------------------------------------------------------------------- */

static int still_channels(const struct libav *av, enum AVPixelFormat format)
{
    const AVPixFmtDescriptor *pixel = av->av_pix_fmt_desc_get(format);

    if (!pixel || format == AV_PIX_FMT_PAL8)
        return 3;
    if (pixel->nb_components == 1)
        return 1;
    return pixel->flags & AV_PIX_FMT_FLAG_ALPHA ? 4 : 3;
}

int image_still_read(struct ws2_image *image, const char *path, struct ws2_error *error)
{
    struct ws2_video *video;
    struct ws2_error own = {0};
    const size_t prefix = strlen(path) + 2;
    int status = ws2_video_open(&video, path, 1, &own);

    if (status == 0) {
        libav_log_to(&video->decode_log);
        status = video_decode(video, &own);
        libav_log_to(NULL);
        if (status == 0)
            status = ws2_fail(&own, WS2_ERR_INPUT, "%s: no picture in this file", path);
        if (status == 1)
            status = video_check_frame(video, &own);
        if (status == 0)
            status = video_convert(video, video->frame, image,
                                   still_channels(video->av, video->frame->format), &own);
        ws2_video_close(video);
    }
    if (status < 0)
        /* The caller puts the path in front again. */
        return ws2_fail(error, status == WS2_ERR_TRUNCATED ? WS2_ERR_INPUT : status, "%s",
                        strlen(own.text) > prefix && strncmp(own.text, path, prefix - 2) == 0
                            ? own.text + prefix
                            : own.text);
    return 0;
}
