#include "stream/stream.h"

#include <zstd.h>

const char *ws2_stream_version(void)
{
    /* Text of a compile-time constant: the same for every call and thread. */
    return "format 1, libzstd " ZSTD_VERSION_STRING;
}
