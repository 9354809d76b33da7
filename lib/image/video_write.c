/* Writing H.264 in mp4 through libav. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "image/libav.h"

struct ws2_video_writer {
    const struct libav *av;
    char *path, *temporary;
    int width, height; /* of the pictures; the codec's are rounded up to even */
    struct libav_file file;
    AVFormatContext *format;
    AVStream *stream;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame;
    struct SwsContext *scale;
    void *padded;
    size_t padded_capacity;
    struct libav_log log;
    int64_t frames;
};

static int writer_fail(struct ws2_video_writer *writer, const char *what, int code, struct ws2_error *error)
{
    char reason[400];

    libav_log_to(NULL);
    if (writer->file.saved_errno)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: %s", writer->path, strerror(writer->file.saved_errno));
    return ws2_fail(error, WS2_ERR_SYSTEM, "%s: %s: %s", writer->path, what,
                    libav_reason(writer->av, code, &writer->log, reason, sizeof reason));
}

static int writer_open_codec(struct ws2_video_writer *writer, AVRational rate, int crf,
                             struct ws2_error *error)
{
    const struct libav *av = writer->av;
    const AVCodec *encoder = av->avcodec_find_encoder_by_name("libx264");
    AVCodecContext *codec;
    char text[16];
    int code;

    if (!encoder)
        return ws2_fail(error, WS2_ERR_MODEL, "%s: this libav has no H.264 encoder (libx264)", writer->path);
    codec = writer->codec = av->avcodec_alloc_context3(encoder);
    if (!codec)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", writer->path);
    codec->width = (writer->width + 1) / 2 * 2;
    codec->height = (writer->height + 1) / 2 * 2;
    codec->pix_fmt = AV_PIX_FMT_YUV420P;
    codec->time_base = (AVRational){rate.den, rate.num};
    codec->framerate = rate;
    codec->gop_size = 48;
    codec->max_b_frames = 0;
    codec->color_range = AVCOL_RANGE_MPEG;
    codec->colorspace = AVCOL_SPC_BT709;
    codec->color_primaries = AVCOL_PRI_BT709;
    codec->color_trc = AVCOL_TRC_BT709;
    /* x264's output depends on the number of its threads, so it is fixed. */
    codec->thread_count = 2;
    codec->flags |= AV_CODEC_FLAG_BITEXACT | AV_CODEC_FLAG_GLOBAL_HEADER;
    snprintf(text, sizeof text, "%d", crf);
    av->av_opt_set(codec->priv_data, "crf", text, 0);
    libav_log_to(&writer->log);
    code = av->avcodec_open2(codec, encoder, NULL);
    return code < 0 ? writer_fail(writer, "cannot encode", code, error) : 0;
}

static int writer_open_container(struct ws2_video_writer *writer, struct ws2_error *error)
{
    const struct libav *av = writer->av;
    int code = av->avformat_alloc_output_context2(&writer->format, NULL, "mp4", NULL);

    if (code < 0)
        return writer_fail(writer, "cannot write mp4", code, error);
    writer->format->pb = writer->file.io;
    writer->format->flags |= AVFMT_FLAG_BITEXACT;
    writer->stream = av->avformat_new_stream(writer->format, NULL);
    if (!writer->stream)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", writer->path);
    writer->stream->time_base = writer->codec->time_base;
    writer->stream->avg_frame_rate = writer->codec->framerate;
    code = av->avcodec_parameters_from_context(writer->stream->codecpar, writer->codec);
    if (code >= 0)
        code = av->avformat_write_header(writer->format, NULL);
    if (code < 0)
        return writer_fail(writer, "cannot write mp4", code, error);
    return 0;
}

static int writer_open_frame(struct ws2_video_writer *writer, struct ws2_error *error)
{
    const struct libav *av = writer->av;
    const AVCodecContext *codec = writer->codec;

    writer->packet = av->av_packet_alloc();
    writer->frame = av->av_frame_alloc();
    writer->scale = av->sws_getContext(
        codec->width, codec->height, AV_PIX_FMT_RGB24, codec->width, codec->height, AV_PIX_FMT_YUV420P,
        SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP | SWS_BITEXACT, NULL, NULL, NULL);
    if (!writer->packet || !writer->frame || !writer->scale)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", writer->path);
    av->sws_setColorspaceDetails(writer->scale, av->sws_getCoefficients(SWS_CS_DEFAULT), 1,
                                 av->sws_getCoefficients(SWS_CS_ITU709), 0, 0, 1 << 16, 1 << 16);
    writer->frame->format = AV_PIX_FMT_YUV420P;
    writer->frame->width = codec->width;
    writer->frame->height = codec->height;
    return av->av_frame_get_buffer(writer->frame, 0) < 0
               ? ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", writer->path)
               : 0;
}

/* Frees all but the file on disk; returns 0 or an errno of the close. */
static int writer_release(struct ws2_video_writer *writer)
{
    const struct libav *av = writer->av;
    int failed;

    libav_log_to(NULL);
    av->sws_freeContext(writer->scale);
    av->av_frame_free(&writer->frame);
    av->av_packet_free(&writer->packet);
    av->avcodec_free_context(&writer->codec);
    av->avformat_free_context(writer->format);
    failed = libav_file_close(av, &writer->file);
    free(writer->padded);
    return failed;
}

static void writer_free(struct ws2_video_writer *writer)
{
    free(writer->path);
    free(writer->temporary);
    free(writer);
}

static int writer_open(struct ws2_video_writer *writer, AVRational rate, int crf, struct ws2_error *error)
{
    int status = libav_file_open(writer->av, &writer->file, writer->temporary, true, error);

    if (status == 0)
        status = writer_open_codec(writer, rate, crf, error);
    if (status == 0)
        status = writer_open_container(writer, error);
    if (status == 0)
        status = writer_open_frame(writer, error);
    libav_log_to(NULL);
    return status;
}

int ws2_video_create(struct ws2_video_writer **out, const char *path, int width, int height, int64_t rate_num,
                     int64_t rate_den, int crf, struct ws2_error *error)
{
    const struct libav *av = libav_get(error);
    struct ws2_video_writer *writer;
    int status;

    *out = NULL;
    if (!av)
        return WS2_ERR_MODEL;
    if (width < 1 || height < 1 || width > 16384 || height > 16384 || rate_num < 1 || rate_den < 1 ||
        rate_num > INT32_MAX || rate_den > INT32_MAX)
        return ws2_fail(error, WS2_ERR_USAGE, "%s: no video of %d x %d pixels at %lld/%lld frames a second",
                        path, width, height, (long long)rate_num, (long long)rate_den);
    writer = ws2_calloc(1, sizeof *writer);
    if (writer) {
        writer->path = strdup(path);
        writer->temporary = malloc(strlen(path) + sizeof ".tmp");
    }
    if (!writer || !writer->path || !writer->temporary) {
        if (writer)
            writer_free(writer);
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", path);
    }
    sprintf(writer->temporary, "%s.tmp", path);
    writer->av = av;
    writer->width = width;
    writer->height = height;
    status = writer_open(writer, (AVRational){(int)rate_num, (int)rate_den}, crf, error);
    if (status < 0) {
        ws2_video_abandon(writer);
        return status;
    }
    *out = writer;
    return 0;
}

/* Hands a frame (NULL: the end) to the encoder and writes what comes out. */
static int writer_encode(struct ws2_video_writer *writer, AVFrame *frame, struct ws2_error *error)
{
    const struct libav *av = writer->av;
    int code;

    libav_log_to(&writer->log);
    code = av->avcodec_send_frame(writer->codec, frame);
    if (code < 0)
        return writer_fail(writer, "cannot encode", code, error);
    while ((code = av->avcodec_receive_packet(writer->codec, writer->packet)) >= 0) {
        writer->packet->duration = 1;
        av->av_packet_rescale_ts(writer->packet, writer->codec->time_base, writer->stream->time_base);
        writer->packet->stream_index = writer->stream->index;
        code = av->av_interleaved_write_frame(writer->format, writer->packet);
        if (code < 0)
            return writer_fail(writer, "cannot write", code, error);
    }
    libav_log_to(NULL);
    return code == AVERROR(EAGAIN) || code == AVERROR_EOF ? 0
                                                          : writer_fail(writer, "cannot encode", code, error);
}

/* swscale's vector code reads a little beyond a row. */
static size_t padded_stride(const struct ws2_video_writer *writer)
{
    return ((size_t)writer->codec->width * 3 + 63) / 64 * 64 + 64;
}

/* The picture as RGB rows of even width and number, the last column and row repeated where one is missing. */
static int writer_pad(struct ws2_video_writer *writer, const struct ws2_image *image, struct ws2_error *error)
{
    const int w = writer->codec->width, h = writer->codec->height, c = image->channels;
    const size_t stride = padded_stride(writer);

    if (ws2_reserve(&writer->padded, &writer->padded_capacity, stride * (size_t)h))
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", writer->path);
    for (int y = 0; y < h; y++) {
        const uint8_t *in =
            image->data + (size_t)(y < image->height ? y : y - 1) * (size_t)image->width * (size_t)c;
        uint8_t *out = (uint8_t *)writer->padded + (size_t)y * stride;

        for (int x = 0; x < w; x++) {
            const uint8_t *p = in + (x < image->width ? x : x - 1) * c;

            for (int k = 0; k < 3; k++)
                out[3 * x + k] = p[c == 1 ? 0 : k];
        }
        memset(out + 3 * w, 0, stride - 3 * (size_t)w);
    }
    return 0;
}

int ws2_video_put(struct ws2_video_writer *writer, const struct ws2_image *image, struct ws2_error *error)
{
    const struct libav *av = writer->av;
    const uint8_t *planes[4] = {NULL};
    const int strides[4] = {(int)padded_stride(writer)};
    int status;

    if (image->width != writer->width || image->height != writer->height)
        return ws2_fail(error, WS2_ERR_INPUT, "%s: a frame of %d x %d pixels in a video of %d x %d",
                        writer->path, image->width, image->height, writer->width, writer->height);
    status = writer_pad(writer, image, error);
    if (status < 0)
        return status;
    if (av->av_frame_make_writable(writer->frame) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "%s: no memory", writer->path);
    planes[0] = writer->padded;
    av->sws_scale(writer->scale, planes, strides, 0, writer->codec->height, writer->frame->data,
                  writer->frame->linesize);
    writer->frame->pts = writer->frames++;
    return writer_encode(writer, writer->frame, error);
}

int ws2_video_finish(struct ws2_video_writer *writer, struct ws2_error *error)
{
    int status = writer->frames ? writer_encode(writer, NULL, error)
                                : ws2_fail(error, WS2_ERR_INPUT, "%s: a video without frames", writer->path);
    int code, failed;

    if (status == 0) {
        libav_log_to(&writer->log);
        code = writer->av->av_write_trailer(writer->format);
        writer->av->avio_flush(writer->format->pb);
        libav_log_to(NULL);
        if (code < 0 || writer->file.saved_errno)
            status = writer_fail(writer, "cannot write", code, error);
    }
    failed = writer_release(writer);
    if (status == 0 && failed)
        status = ws2_fail(error, WS2_ERR_SYSTEM, "%s: %s", writer->path, strerror(failed));
    if (status == 0 && rename(writer->temporary, writer->path) != 0)
        status = ws2_fail_errno(error, "%s", writer->path);
    if (status < 0)
        unlink(writer->temporary);
    writer_free(writer);
    return status;
}

void ws2_video_abandon(struct ws2_video_writer *writer)
{
    if (!writer)
        return;
    writer_release(writer);
    unlink(writer->temporary);
    writer_free(writer);
}
