/*
 * raft_stream: flow between neighbouring frames of a stream by RAFT. Each frame is encoded once; each pair of
 * neighbours is compared once, for both directions.
 *
 * A frame's flow needs the frame after it, so with one network there is one frame of look-ahead; with more, so many
 * pairs are computed at a time. What comes out does not depend on their number. Memory does not grow with the stream.
 *
 * Knows raft, stream, pool and motion.
 */
#ifndef WS2_RAFT_STREAM_H
#define WS2_RAFT_STREAM_H

#include "models/raft.h"
#include "stream/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

struct raft_stream_options {
    const char *prefix; /* of the names: PREFIX.next, PREFIX.prev, PREFIX.next.valid, PREFIX.prev.valid */
    int updates;
    bool mirror; /* the flow back is minus the flow there at the same pixel, instead of the network's */
    /* Called for every segment before its records: to complete the head of the output. */
    int (*begin)(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error);
    void (*done)(void *context); /* after a record is written; may be NULL */
    void *context;
};

/* Checks that `in` has rgb and adds the rows of the four tensors to `out`. 0 or a status. */
int raft_stream_head(const struct raft_stream_options *options, const struct ws2_head *in,
                     struct ws2_head *out, struct ws2_error *error);

/* Adds to every record of every segment of reader
 *     PREFIX.next f16[2,h,w]  PREFIX.next.valid u8[h,w]     but for the last of a segment
 *     PREFIX.prev f16[2,h,w]  PREFIX.prev.valid u8[h,w]     but for the first
 * and writes it. rgb u8[h,w,3] must have one size in a segment. valid is ws2_flow_consistent of the two flows, before
 * they are rounded to f16. The networks are equal, each in a context of one computing thread; they are entered by threads
 * of their own. An error stops the output without a TAIL, after the frames before it; its text begins with
 * "SEQ: frame N: " where a record is to blame. Closes neither reader nor writer. */
int raft_stream(struct raft *const *raft, int rafts, const struct raft_stream_options *options,
                struct ws2_reader *reader, struct ws2_writer *writer, struct ws2_error *error);

#ifdef __cplusplus
}
#endif

#endif
