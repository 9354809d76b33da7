/*
 * Private to lib/image: the libav functions it uses, in a table that is filled on first use.
 *
 * libavformat drags in more than a hundred shared libraries (37 ms of loading); only programs that meet a video or a
 * rare picture format should pay for that. The headers' structs are used directly, so the libraries must have the
 * major versions that the headers had; the sonames asked for make sure of it.
 */
#ifndef WS2_IMAGE_LIBAV_H
#define WS2_IMAGE_LIBAV_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include "image/internal.h"

/* One list makes both the struct and the look-up by name. */
#define LIBAV_UTIL(X)                                                                                        \
    X(av_dict_free)                                                                                          \
    X(av_dict_set)                                                                                           \
    X(av_frame_alloc)                                                                                        \
    X(av_frame_free)                                                                                         \
    X(av_frame_get_buffer)                                                                                   \
    X(av_frame_make_writable)                                                                                \
    X(av_frame_unref)                                                                                        \
    X(av_free)                                                                                               \
    X(av_log_set_callback)                                                                                   \
    X(av_malloc)                                                                                             \
    X(av_opt_set)                                                                                            \
    X(av_pix_fmt_desc_get)                                                                                   \
    X(av_rescale_q)                                                                                          \
    X(av_strerror)
#define LIBAV_SCALE(X)                                                                                       \
    X(sws_freeContext)                                                                                       \
    X(sws_getCoefficients)                                                                                   \
    X(sws_getContext)                                                                                        \
    X(sws_scale)                                                                                             \
    X(sws_setColorspaceDetails)
#define LIBAV_CODEC(X)                                                                                       \
    X(av_packet_alloc)                                                                                       \
    X(av_packet_free)                                                                                        \
    X(av_packet_rescale_ts)                                                                                  \
    X(av_packet_unref)                                                                                       \
    X(avcodec_alloc_context3)                                                                                \
    X(avcodec_find_encoder_by_name)                                                                          \
    X(avcodec_free_context)                                                                                  \
    X(avcodec_get_name)                                                                                      \
    X(avcodec_open2)                                                                                         \
    X(avcodec_parameters_from_context)                                                                       \
    X(avcodec_parameters_to_context)                                                                         \
    X(avcodec_receive_frame)                                                                                 \
    X(avcodec_receive_packet)                                                                                \
    X(avcodec_send_frame)                                                                                    \
    X(avcodec_send_packet)
#define LIBAV_FORMAT(X)                                                                                      \
    X(av_find_best_stream)                                                                                   \
    X(av_guess_frame_rate)                                                                                   \
    X(av_interleaved_write_frame)                                                                            \
    X(av_read_frame)                                                                                         \
    X(av_stream_get_side_data)                                                                               \
    X(av_write_trailer)                                                                                      \
    X(avformat_alloc_context)                                                                                \
    X(avformat_alloc_output_context2)                                                                        \
    X(avformat_close_input)                                                                                  \
    X(avformat_find_stream_info)                                                                             \
    X(avformat_free_context)                                                                                 \
    X(avformat_index_get_entries_count)                                                                      \
    X(avformat_index_get_entry)                                                                              \
    X(avformat_new_stream)                                                                                   \
    X(avformat_open_input)                                                                                   \
    X(avformat_version)                                                                                      \
    X(avformat_write_header)                                                                                 \
    X(avio_alloc_context)                                                                                    \
    X(avio_context_free)                                                                                     \
    X(avio_flush)

#define LIBAV_MEMBER(name) __typeof__(&name) name;

struct libav {
    LIBAV_UTIL(LIBAV_MEMBER)
    LIBAV_SCALE(LIBAV_MEMBER)
    LIBAV_CODEC(LIBAV_MEMBER)
    LIBAV_FORMAT(LIBAV_MEMBER)
};

/* The table, loaded once for the process, or NULL with WS2_ERR_MODEL in error when the libraries are not there. */
const struct libav *libav_get(struct ws2_error *error);

/* While set, error messages that libav logs on this thread go into text (the last one wins) instead of nowhere.
 * NULL ends it. */
struct libav_log {
    char text[200];
};
void libav_log_to(struct libav_log *log);

/* "reason" or "reason (what libav logged)"; clears the log. */
const char *libav_reason(const struct libav *av, int code, struct libav_log *log, char *text, size_t size);

/* A file as libav reads or writes it: only this file, whatever it may refer to. writable truncates or makes it. */
struct libav_file {
    AVIOContext *io;
    int fd;
    int saved_errno; /* of the first failed call */
};
int libav_file_open(const struct libav *av, struct libav_file *file, const char *path, bool writable,
                    struct ws2_error *error);
/* Status of the close of a written file: 0 or an errno. */
int libav_file_close(const struct libav *av, struct libav_file *file);
int64_t libav_file_size(const struct libav_file *file); /* -1 when unknown */

#endif
