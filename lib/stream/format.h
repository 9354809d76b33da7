/*
 * format: the bytes of a ws2 stream, version 1. The tables below are the contract; ws2(5) shows the same rows
 * and tests/unit/test_stream_format.c keeps both and the constants equal.
 *
 * A stream is one or more segments. A segment is one HEAD, any number of RECORDs each followed by its
 * tensors, and one TAIL. HEAD, RECORD and TAIL are zstd skippable frames; each tensor is one ordinary zstd
 * frame with content size and checksum. All numbers are little-endian; n is the size of a body and c the
 * number of records.
 *
 *   frame  | offset | size | meaning
 *   any    | 0      | 4    | skippable magic 0x184D2A57
 *   any    | 4      | 4    | payload size: 12 + n
 *   any    | 8      | 4    | tag: WS2H, WS2R or WS2T
 *   any    | 12     | 2    | format version: 1
 *   any    | 14     | 2    | flags: 0
 *   any    | 16     | 4    | checksum: low 32 bits of XXH3-64 (seed 0) of the body
 *   any    | 20     | n    | body
 *   WS2H   | 20     | n    | HEAD: a JSON object
 *   WS2R   | 20     | n    | RECORD: a JSON object; its tensors follow at once, in the order of its table
 *   WS2T   | 20     | 8    | TAIL: number of records c
 *   WS2T   | 28     | 8    | XXH3-64 (seed 0) of the checksums of HEAD and all RECORDs in order, 4 bytes each
 *   WS2T   | 36     | 8 c  | offset of each RECORD from the start of its HEAD
 *   WS2T   | 36+8c  | 8    | size of this frame: 60 + 8 c
 *   WS2T   | 44+8c  | 8    | size of the whole segment, from HEAD to the last byte of TAIL
 *   WS2T   | 52+8c  | 8    | end magic: "WS2END\r\n"
 *
 * The JSON of HEAD and RECORD is UTF-8 and compact, keys sorted, numbers integers of 64 bits, no key twice in
 * an object, no backslash in a key. A reader keeps keys that it does not know and passes them on.
 *
 *   object  | key      | value
 *   HEAD    | classes  | array of strings: names of the classes, absent when unknown
 *   HEAD    | history  | array of objects: what each program did, oldest first
 *   HEAD    | notes    | object of strings: free text by key
 *   HEAD    | rate     | [num,den]: frames per second, absent when unknown
 *   HEAD    | role     | "before" or "after": the camera, absent when none
 *   HEAD    | seq      | string: name of the sequence
 *   HEAD    | size     | [width,height] in pixels, absent when unknown
 *   HEAD    | tensors  | array of objects: what a RECORD may hold
 *   tensors | axes     | string: comma-separated, "h,w,3"
 *   tensors | dtype    | string: u8 i8 u16 i16 i32 i64 f16 f32 f64
 *   tensors | name     | string: letters, digits, '.', '_', '-'
 *   tensors | unit     | string: "pixel", "0..1", ""
 *   history | model    | string: digest of the weights, absent when none
 *   history | options  | array of strings "key=value", sorted: only those that change results
 *   history | program  | string: name of the program
 *   history | seed     | integer, absent when the program takes none
 *   history | version  | string: version of the program
 *   RECORD  | frame    | integer: number of the frame, 0 or more
 *   RECORD  | pts      | integer: time stamp in microseconds, -1 when unknown
 *   RECORD  | tensors  | array of objects: one for each tensor frame that follows
 *   tensor  | bytes    | integer: raw size, product of shape and dtype, and the frame's content size
 *   tensor  | dtype    | string: as in the HEAD
 *   tensor  | hash     | integer: low 32 bits of XXH3-64 (seed 0) of the compressed frame
 *   tensor  | name     | string: one of the HEAD's tensors
 *   tensor  | packed   | integer: size of the compressed frame
 *   tensor  | shape    | array of integers, slowest axis first; [] is a scalar
 *
 *   limit            | value
 *   body             | 16777216
 *   tensors          | 64
 *   axes             | 8
 *   tensor bytes     | 2147483648
 *   packed bytes     | bytes + bytes/64 + 1024
 *   records          | 2000000
 *   name             | 63
 *   axes and unit    | 63
 *   JSON depth       | 16
 *   JSON values      | 65536
 *   JSON members     | 256
 *
 *   version | written by | oldest reader
 *   1       | 0.1.0      | 0.1.0
 *
 * Why a hash beside zstd's own checksum: zstd's covers the content, which leaves bits of the frame that do not
 * change the content (the unused header bit, the window size, the padding of a block) without guard, and it is
 * seen only by who decodes. The hash lets every program in a pipe notice damage in what it merely passes on.
 */
#ifndef WS2_FORMAT_H
#define WS2_FORMAT_H

#include "base/base.h"

#define WS2_SKIPPABLE_MAGIC 0x184D2A57u
#define WS2_SKIPPABLE_FIRST 0x184D2A50u /* the 16 magics that any zstd decoder skips */
#define WS2_SKIPPABLE_MASK 0xFFFFFFF0u
#define WS2_ZSTD_MAGIC 0xFD2FB528u
#define WS2_TAG_HEAD "WS2H"
#define WS2_TAG_RECORD "WS2R"
#define WS2_TAG_TAIL "WS2T"
#define WS2_END_MAGIC "WS2END\r\n" /* 8 bytes; a text-mode copy would show */
#define WS2_FORMAT_VERSION 1

enum {
    WS2_FRAME_SIZE = 8,    /* magic and payload size */
    WS2_HEADER_SIZE = 12,  /* tag, version, flags, checksum */
    WS2_BODY_AT = 20,      /* where a body begins */
    WS2_FOOTER_SIZE = 24,  /* frame size, segment size, end magic */
    WS2_TAIL_BODY_MIN = 40 /* count, hash and footer */
};

#define WS2_BODY_MAX 16777216
#define WS2_TENSOR_BYTES_MAX ((size_t)2147483648u)
#define WS2_RECORDS_MAX 2000000
#define WS2_JSON_DEPTH_MAX 16
#define WS2_JSON_VALUES_MAX 65536
#define WS2_JSON_MEMBERS_MAX 256

/* The largest compressed size that a tensor of this many bytes may claim; libzstd stays below it. */
static inline size_t ws2_packed_max(size_t bytes)
{
    return bytes + bytes / 64 + 1024;
}

/* The smallest one: a frame has 4 bytes of magic, 2 or more of header, 4 of checksum, and for each 128 KiB of
 * content (or for nothing at all) a block of 3 bytes and, when not empty, 1 more. */
static inline size_t ws2_packed_min(size_t bytes)
{
    return 10 + (bytes == 0 ? 3 : (bytes + 131071) / 131072 * 4);
}

#endif
