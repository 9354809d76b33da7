#include "models/raft_stream.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "motion/motion.h"
#include "pool/pool.h"

/*
 * The work goes in rounds of as many frames as there are networks. The slots hold the last frame of the round before and
 * the frames of this one; all are encoded, then each is compared with the one before it, then the records that have
 * all their flows are completed; each of these steps by all networks at once.
 */

struct buffer {
    void *data;
    size_t capacity;
};

enum way { NEXT, PREV, WAYS };

struct slot {
    struct ws2_record *record;
    int64_t height, width;
    struct buffer code; /* the encoded frame, as raft_frame_to_f32 gives it */
    struct {
        bool there;
        struct buffer flow;  /* f32 [2,height,width] */
        struct buffer valid; /* u8 [height,width] */
    } way[WAYS];
    struct ws2_error error;
};

enum step { ENCODE, COMPARE, COMPLETE };

struct run {
    struct raft *const *raft; /* one for each worker */
    int rafts;
    const struct raft_stream_options *options;
    struct ws2_reader *reader;
    struct ws2_writer *writer;
    struct ws2_pool *pool;
    enum step step;
    struct slot **slot; /* [rafts + 1]; slot 0 is of the round before */
    bool first;         /* slot 0 is empty */
    const char *seq;
    struct ws2_error *error;
};

static const char *const suffix[WAYS] = {"next", "prev"};

/* ---- names ------------------------------------------------------------------------------------------------ */

/* "flow.next" or "flow.next.valid"; a name too long for a stream is cut, and then refused by the head. */
static const char *tensor_name(const struct raft_stream_options *options, enum way way, bool valid,
                               char text[2 * WS2_NAME_MAX])
{
    snprintf(text, 2 * WS2_NAME_MAX, "%s.%s%s", options->prefix, suffix[way], valid ? ".valid" : "");
    return text;
}

int raft_stream_head(const struct raft_stream_options *options, const struct ws2_head *in,
                     struct ws2_head *out, struct ws2_error *error)
{
    const struct ws2_tensor_info *rgb = ws2_head_find(in, "rgb");
    char name[2 * WS2_NAME_MAX];
    if (rgb == NULL || rgb->dtype != WS2_U8)
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor rgb of type u8");
    int status = WS2_OK;
    for (int i = 0; status >= 0 && i < 2 * WAYS; i++) {
        const bool valid = i >= WAYS;
        tensor_name(options, (enum way)(i % WAYS), valid, name);
        status = valid ? ws2_head_add_tensor(out, name, WS2_U8, "h,w", "", error)
                       : ws2_head_add_tensor(out, name, WS2_F16, "2,h,w", "pixel", error);
    }
    return status;
}

/* ---- the three steps, on worker threads ------------------------------------------------------------------- */

static int reserve(struct buffer *buffer, size_t count, size_t each, struct ws2_error *error)
{
    size_t bytes;
    if (!ws2_mul_size(count, each, &bytes) || ws2_reserve(&buffer->data, &buffer->capacity, bytes) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    return WS2_OK;
}

static int take_rgb(struct slot *slot, struct ws2_tensor *rgb)
{
    char text[64];
    const int status = ws2_record_want(slot->record, "rgb", WS2_U8, 3, rgb, &slot->error);
    if (status < 0)
        return status;
    slot->height = rgb->shape.dim[0];
    slot->width = rgb->shape.dim[1];
    if (rgb->shape.dim[2] != 3 || slot->height < 1 || slot->width < 1 || slot->height > INT_MAX / slot->width)
        return ws2_fail(&slot->error, WS2_ERR_INPUT, "rgb has shape %s, not [h,w,3]",
                        ws2_shape_text(&rgb->shape, text, sizeof text));
    return WS2_OK;
}

/* The status of the network's error, which is then forgotten: the run ends with the slot's. */
static int network_error(struct nn *nn, struct ws2_error *error)
{
    const int status = nn_check(nn, error);
    nn_error_clear(nn);
    return status;
}

static void encode(const struct raft *raft, struct slot *slot)
{
    struct nn *nn = raft_context(raft);
    struct ws2_tensor rgb;
    if (take_rgb(slot, &rgb) < 0 || reserve(&slot->code, raft_frame_floats(raft, slot->height, slot->width),
                                            sizeof(float), &slot->error) < 0)
        return;
    nn_scope_begin(nn);
    struct nn_tensor *image = raft_images_u8(raft, 1, slot->height, slot->width, rgb.data);
    const struct raft_frame frame = raft_encode(raft, image, true);
    raft_frame_to_f32(raft, &frame, slot->code.data);
    nn_scope_end(nn);
    network_error(nn, &slot->error);
}

static int reserve_flows(struct slot *a, struct slot *b)
{
    const size_t pixels = (size_t)b->height * (size_t)b->width;
    int status = reserve(&a->way[NEXT].flow, 2 * pixels, sizeof(float), &b->error);
    if (status >= 0)
        status = reserve(&b->way[PREV].flow, 2 * pixels, sizeof(float), &b->error);
    if (status >= 0)
        status = reserve(&a->way[NEXT].valid, pixels, 1, &b->error);
    return status < 0 ? status : reserve(&b->way[PREV].valid, pixels, 1, &b->error);
}

static void run_network(const struct raft *raft, const struct raft_stream_options *options,
                        const struct slot *a, const struct slot *b, float *there, float *back)
{
    struct nn *nn = raft_context(raft);
    const size_t count = 2 * (size_t)b->height * (size_t)b->width;
    struct nn_tensor *flow[2];
    nn_scope_begin(nn);
    const struct raft_frame from = raft_frame_from_f32(raft, a->height, a->width, a->code.data);
    const struct raft_frame to = raft_frame_from_f32(raft, b->height, b->width, b->code.data);
    if (options->mirror) {
        nn_to_f32(nn, raft_flow(raft, &from, &to, options->updates), there, count);
        for (size_t i = 0; i < count; i++)
            back[i] = -there[i];
    } else if (raft_pair(raft, &from, &to, options->updates, flow) >= 0) {
        nn_to_f32(nn, flow[0], there, count);
        nn_to_f32(nn, flow[1], back, count);
    }
    nn_scope_end(nn);
}

/* Errors of a pair are those of its second frame. */
static void compare(const struct raft *raft, const struct raft_stream_options *options, struct slot *a,
                    struct slot *b)
{
    if (reserve_flows(a, b) < 0)
        return;
    float *there = a->way[NEXT].flow.data, *back = b->way[PREV].flow.data;
    run_network(raft, options, a, b, there, back);
    if (network_error(raft_context(raft), &b->error) < 0)
        return;
    ws2_flow_consistent(there, back, (int)b->width, (int)b->height, WS2_FLOW_LIMIT, a->way[NEXT].valid.data);
    ws2_flow_consistent(back, there, (int)b->width, (int)b->height, WS2_FLOW_LIMIT, b->way[PREV].valid.data);
    a->way[NEXT].there = b->way[PREV].there = true;
}

/* Adds the flows to the record, compressed. */
static void complete(const struct raft_stream_options *options, int level, struct slot *slot)
{
    const struct ws2_shape two = ws2_shape_3(2, slot->height, slot->width),
                           one = ws2_shape_2(slot->height, slot->width);
    char name[2 * WS2_NAME_MAX];
    for (enum way way = NEXT; way < WAYS; way++) {
        if (!slot->way[way].there)
            continue;
        tensor_name(options, way, false, name);
        uint16_t *half = ws2_record_add(slot->record, name, WS2_F16, &two, &slot->error);
        if (half == NULL)
            return;
        ws2_half_from_floats(half, slot->way[way].flow.data, 2 * (size_t)slot->height * (size_t)slot->width);
        tensor_name(options, way, true, name);
        if (ws2_record_put(slot->record, name, WS2_U8, &one, slot->way[way].valid.data, &slot->error) < 0)
            return;
    }
    ws2_record_pack(slot->record, level, &slot->error);
}

/* A job is the place of a slot in run->slot. */
static void work(void *context, void *job, int worker)
{
    const struct run *run = context;
    struct slot **place = job;
    const struct raft *raft = run->raft[worker];
    nn_enter(raft_context(raft));
    if (run->step == ENCODE)
        encode(raft, *place);
    else if (run->step == COMPARE)
        compare(raft, run->options, place[-1], *place);
    else
        complete(run->options, ws2_writer_level(run->writer), *place);
}

/* Does the step for the slots from first to last. */
static void do_step(struct run *run, enum step step, int first, int last)
{
    run->step = step;
    for (int i = first; i <= last; i++)
        ws2_pool_give(run->pool, &run->slot[i]);
    for (int i = first; i <= last; i++)
        ws2_pool_take(run->pool);
}

/* ---- rounds ----------------------------------------------------------------------------------------------- */

static int fail_slot(struct run *run, const struct slot *slot)
{
    ws2_fail(run->error, slot->error.status, "%s", slot->error.text);
    ws2_error_prefix(run->error, "frame %lld", (long long)ws2_record_frame(slot->record));
    if (*run->seq)
        ws2_error_prefix(run->error, "%s", run->seq);
    return slot->error.status;
}

/* Reads up to so many frames as there are networks into slots 1, 2, ...; returns how many, and in *got what the reader
 * said last. */
static int read_round(struct run *run, int *got)
{
    int count = 0;
    *got = 1;
    while (*got == 1 && count < run->rafts) {
        struct slot *slot = run->slot[count + 1];
        slot->error = (struct ws2_error){0};
        slot->way[NEXT].there = slot->way[PREV].there = false;
        *got = ws2_reader_next(run->reader, slot->record);
        count += *got == 1;
    }
    return count;
}

/* The first slot with an error, or count + 1. A frame of another size than that before it has one, too. */
static int find_error(struct run *run, int count)
{
    for (int i = 1; i <= count; i++) {
        const struct slot *before = run->slot[i - 1];
        struct slot *slot = run->slot[i];
        if (slot->error.status == 0 && !(i == 1 && run->first) &&
            (slot->height != before->height || slot->width != before->width))
            ws2_fail(&slot->error, WS2_ERR_INPUT, "rgb has size %lldx%lld, but %lldx%lld in the frame before",
                     (long long)slot->width, (long long)slot->height, (long long)before->width,
                     (long long)before->height);
        if (slot->error.status < 0)
            return i;
    }
    return count + 1;
}

static int write_slots(struct run *run, int first, int last)
{
    for (int i = first; i <= last; i++) {
        if (run->slot[i]->error.status < 0)
            return fail_slot(run, run->slot[i]);
        const int status = ws2_writer_put(run->writer, run->slot[i]->record);
        if (status < 0)
            return ws2_fail(run->error, status, "%s", ws2_writer_error(run->writer)->text);
        if (run->options->done)
            run->options->done(run->options->context);
    }
    return WS2_OK;
}

/* Computes and writes what the slots up to `count` hold. The last one waits for the next round, unless it is the last
 * of the segment. An error ends the run after the frames before it. */
static int do_round(struct run *run, int count, bool last)
{
    const int begin = run->first ? 1 : 0;
    do_step(run, ENCODE, 1, count);
    do_step(run, COMPARE, begin + 1, find_error(run, count) - 1);
    const int bad = find_error(run, count);
    const int end = bad <= count ? bad - 2 : last ? count : count - 1;
    do_step(run, COMPLETE, begin, end);
    const int status = write_slots(run, begin, end);
    if (status < 0 || bad > count)
        return status;
    return fail_slot(run, run->slot[bad]);
}

/* The round's last slot becomes slot 0. */
static void turn_slots(struct run *run, int count)
{
    struct slot *kept = run->slot[count];
    run->slot[count] = run->slot[0];
    run->slot[0] = kept;
    run->first = false;
}

static int begin_segment(struct run *run)
{
    const struct ws2_head *in = ws2_reader_head(run->reader);
    struct ws2_head *out = ws2_head_copy(in);
    run->seq = ws2_head_seq(in);
    run->first = true;
    if (out == NULL)
        return ws2_fail(run->error, WS2_ERR_SYSTEM, "out of memory");
    int status = raft_stream_head(run->options, in, out, run->error);
    if (status >= 0)
        status = run->options->begin(run->options->context, in, out, run->error);
    if (status < 0 && *run->seq)
        ws2_error_prefix(run->error, "%s", run->seq);
    if (status >= 0 && ws2_writer_begin(run->writer, out) < 0)
        status = ws2_fail(run->error, ws2_writer_error(run->writer)->status, "%s",
                          ws2_writer_error(run->writer)->text);
    ws2_head_free(out);
    return status;
}

static int do_segment(struct run *run)
{
    int got = 1, status = begin_segment(run);
    while (status >= 0 && got == 1) {
        const int count = read_round(run, &got);
        if (count > 0 || !run->first)
            status = do_round(run, count, got == 0);
        if (count > 0)
            turn_slots(run, count);
    }
    if (status >= 0 && got < 0)
        status = ws2_fail(run->error, got, "%s", ws2_reader_error(run->reader)->text);
    if (status >= 0 && ws2_writer_end(run->writer) < 0)
        status = ws2_fail(run->error, ws2_writer_error(run->writer)->status, "%s",
                          ws2_writer_error(run->writer)->text);
    return status;
}

/* ---- the run ---------------------------------------------------------------------------------------------- */

static void free_slot(struct slot *slot)
{
    if (slot == NULL)
        return;
    ws2_record_free(slot->record);
    free(slot->code.data);
    for (enum way way = NEXT; way < WAYS; way++) {
        free(slot->way[way].flow.data);
        free(slot->way[way].valid.data);
    }
    free(slot);
}

static int open_run(struct run *run)
{
    run->slot = ws2_calloc((size_t)run->rafts + 1, sizeof *run->slot);
    for (int i = 0; run->slot && i <= run->rafts; i++) {
        run->slot[i] = ws2_calloc(1, sizeof(struct slot));
        if (run->slot[i])
            run->slot[i]->record = ws2_record_new();
        if (run->slot[i] == NULL || run->slot[i]->record == NULL)
            return WS2_ERR_SYSTEM;
    }
    run->pool = ws2_pool_open(run->rafts, run->rafts + 1, work, run);
    return run->slot && run->pool ? WS2_OK : WS2_ERR_SYSTEM;
}

static void close_run(struct run *run)
{
    ws2_pool_close(run->pool);
    for (int i = 0; run->slot && i <= run->rafts; i++)
        free_slot(run->slot[i]);
    free(run->slot);
}

int raft_stream(struct raft *const *raft, int rafts, const struct raft_stream_options *options,
                struct ws2_reader *reader, struct ws2_writer *writer, struct ws2_error *error)
{
    struct ws2_error own = {0};
    struct run run = {.raft = raft,
                      .rafts = rafts,
                      .options = options,
                      .reader = reader,
                      .writer = writer,
                      .error = error ? error : &own};
    if (rafts < 1 || options->updates < 1)
        return ws2_fail(error, WS2_ERR_USAGE, "networks and updates must be positive");
    int status = open_run(&run), more = 1;
    if (status < 0)
        ws2_fail(run.error, status, "out of memory or threads");
    while (status >= 0 && more == 1) {
        status = do_segment(&run);
        if (status >= 0)
            more = ws2_reader_next_segment(reader);
    }
    if (status >= 0 && more < 0)
        status = ws2_fail(run.error, more, "%s", ws2_reader_error(reader)->text);
    close_run(&run);
    return status;
}
