/* ws2-raft: adds optical flow between neighbouring frames by a learned network. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "models/raft_stream.h"
#include "network.h"

enum { INIT_FILE, INIT_NONE };

static struct {
    const char *weights, *name;
    int init, size;
    int64_t updates;
    bool compat_neg;
} o = {.name = "flow", .updates = RAFT_UPDATES};

static const struct ws2_option options[] = {
    {"weights", 'w', WS2_OPT_TEXT, &o.weights, "FILE", "of RAFT as torchvision has it", 0, 0, 0},
    {"init", 0, WS2_OPT_CHOICE, &o.init, "file|none", "none: no weights, but numbers drawn with the seed",
     true, 0, 0},
    {"size", 0, WS2_OPT_CHOICE, &o.size, "auto|small|large", "of the network; auto: as the file has it", true,
     0, 0},
    {"updates", 0, WS2_OPT_INT, &o.updates, "N", "steps of refinement", true, 1, 1000},
    {"compat-neg", 0, WS2_OPT_FLAG, &o.compat_neg, NULL, "flow.prev is minus the previous frame's flow.next",
     true, 0, 0},
    {"name", 0, WS2_OPT_TEXT, &o.name, "PREFIX", "of the tensors added", true, 0, 0},
    {0}};

static const struct ws2_program program = {
    .name = "ws2-raft",
    .operands = "[FILE...]",
    .summary = "add optical flow between neighbouring frames, by the network RAFT",
    .reads = "rgb:u8[h,w,3]",
    .adds = "flow.next:f16[2,h,w],flow.prev:f16[2,h,w],flow.next.valid:u8[h,w],flow.prev.valid:u8[h,w]",
    .examples = "  ws2-raft -w raft_large.pth -o clip.flow.ws2 clip.ws2\n"
                "  ws2-read clip.mp4 | ws2-raft -w raft_small.pth --updates 6 | ws2-stat",
    .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_SEED | WS2_TAKES_DEVICE |
             WS2_TAKES_PROGRESS,
    .options = options};

/* One network for each thread; they share their weights. */
struct session {
    struct ws2_common *common;
    struct raft_stream_options stream;
    int networks;
    struct nn **nn;
    struct raft **raft;
    int64_t frames;
};

/* ---- the network ------------------------------------------------------------------------------------------ */

static void check_use(void)
{
    if (o.init == INIT_FILE && o.weights == NULL)
        ws2_die_text(WS2_ERR_USAGE,
                     "-w FILE is needed: the weights of RAFT (make weights lists some); or --init "
                     "none with --size");
    if (o.init == INIT_NONE && o.weights)
        ws2_die_text(WS2_ERR_USAGE, "-w FILE and --init none exclude each other");
    if (o.init == INIT_NONE && o.size == RAFT_ANY)
        ws2_die_text(WS2_ERR_USAGE, "--init none needs --size small or large");
}

/* A GPU has one network, the CPU one for each thread, which gives the same bytes for any number of them. */
static void open_networks(struct session *session)
{
    struct ws2_error error = {0};
    const size_t most = (size_t)session->common->threads;
    session->nn = ws2_must(ws2_calloc(most, sizeof(struct nn *)));
    session->raft = ws2_must(ws2_calloc(most, sizeof(struct raft *)));
    struct nn *nn = session->nn[0] = network_context(session->common, 1);
    session->networks = nn_device(nn) == NN_DEVICE_CPU ? session->common->threads : 1;
    if (o.init == INIT_NONE) {
        must(raft_open(session->raft, nn, (enum raft_size)o.size, (uint64_t)session->common->seed, &error),
             &error);
    } else {
        must(raft_read(session->raft, nn, o.weights, (enum raft_size)o.size, &error), &error);
        session->common->seed = 0; /* it changes nothing */
    }
    for (int i = 1; i < session->networks; i++) {
        session->nn[i] = network_context(session->common, 1);
        must(raft_twin(&session->raft[i], session->nn[i], session->raft[0], &error), &error);
    }
    o.size = (int)raft_size(session->raft[0]); /* the history tells what was used */
}

static void close_networks(struct session *session)
{
    for (int i = session->networks - 1; i >= 0; i--) {
        raft_close(session->raft[i]);
        nn_close(session->nn[i]);
    }
    free(session->raft);
    free(session->nn);
}

/* ---- the stream ------------------------------------------------------------------------------------------- */

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    const struct session *session = context;
    (void)in;
    if (ws2_cli_history(&program, session->common, out, raft_digest(session->raft[0])) < 0)
        return ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    return WS2_OK;
}

static void done(void *context)
{
    struct session *session = context;
    ws2_cli_progress_set(++session->frames, NULL);
}

static void check_only(const struct session *session, const struct ws2_reader *reader)
{
    struct ws2_error error = {0};
    const struct ws2_head *in = ws2_reader_head(reader);
    struct ws2_head *out = ws2_must(ws2_head_copy(in));
    if (raft_stream_head(&session->stream, in, out, &error) < 0 && *ws2_head_seq(in))
        ws2_error_prefix(&error, "%s", ws2_head_seq(in));
    must(error.status, &error);
    ws2_head_free(out);
}

int main(int argc, char **argv)
{
    static const char *standard_input = "-";
    ws2_cli_version_line(nn_version());
    struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    struct session session = {.common = &common};
    const char **path = common.operands ? common.operand : &standard_input;
    const int paths = common.operands ? common.operands : 1;
    check_use();
    struct ws2_reader *reader =
        ws2_cli_reader(&common, path[0]); /* a missing file is told before 0.5 s of loading */
    open_networks(&session);
    session.stream = (struct raft_stream_options){.prefix = o.name,
                                                  .updates = (int)o.updates,
                                                  .mirror = o.compat_neg,
                                                  .begin = begin,
                                                  .done = done,
                                                  .context = &session};
    struct ws2_writer *writer = common.check ? NULL : ws2_cli_writer(&common);
    ws2_cli_progress_begin(&common, "frames", 0);
    for (int i = 0; i < paths; i++) {
        struct ws2_error error = {0};
        if (i > 0)
            reader = ws2_cli_reader(&common, path[i]);
        if (common.check)
            check_only(&session, reader);
        else
            must(raft_stream(session.raft, session.networks, &session.stream, reader, writer, &error),
                 &error);
        ws2_reader_close(reader);
    }
    close_networks(&session);
    return ws2_cli_end(writer, 0);
}
