/* ws2-affinity: adds what a network knows of which pixels belong together, for class maps to walk over. */
#include <stdlib.h>
#include "cli/cli.h"
#include "models/affinity.h"
#include "network.h"

/* One thread's memory. A GPU has one network, the CPU one for each thread, which share their weights. */
struct scratch {
    struct nn *nn;
    struct affinity affinity;
    struct affinity_frame frame;
};

struct job {
    const char *weights, *out;
    struct scratch *scratch;
    const struct ws2_program *program;
    struct ws2_common *common;
};

/* ---- the network ---------------------------------------------------------------------------------------------- */

static void open_networks(struct job *job)
{
    struct ws2_error error = {0};
    struct scratch *first = job->scratch;
    first->nn = network_context(job->common, 1);
    if (nn_device(first->nn) != NN_DEVICE_CPU)
        job->common->threads = 1;
    must(affinity_read(&first->affinity, first->nn, job->weights, &error), &error);
    for (int i = 1; i < job->common->threads; i++) {
        job->scratch[i].nn = network_context(job->common, 1);
        must(affinity_twin(&job->scratch[i].affinity, job->scratch[i].nn, &first->affinity, &error), &error);
    }
}

static void close_networks(struct job *job)
{
    for (int i = job->common->threads - 1; i >= 0; i--) {
        affinity_frame_free(&job->scratch[i].frame);
        affinity_close(&job->scratch[i].affinity);
        nn_close(job->scratch[i].nn);
    }
    free(job->scratch);
}

/* ---- the stream ----------------------------------------------------------------------------------------------- */

static bool has_edges(const struct job *job)
{
    return job->scratch->affinity.info.kind == AFFINITY_EDGES;
}

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    const struct job *job = context;
    if (ws2_head_want(in, "rgb", WS2_U8, error) == NULL ||
        ws2_head_add_tensor(out, job->out, WS2_F16, has_edges(job) ? "h,w" : "n,h,w",
                            has_edges(job) ? "0..1" : "raw", error) < 0)
        return error->status;
    return ws2_cli_history(job->program, job->common, out, job->scratch->affinity.digest);
}

static int work(void *context, struct ws2_record *record, int worker, struct ws2_error *error)
{
    const struct job *job = context;
    struct scratch *scratch = &job->scratch[worker];
    const struct affinity_info *info = &scratch->affinity.info;
    struct ws2_tensor rgb;
    char text[96];
    int status = ws2_record_want(record, "rgb", WS2_U8, 3, &rgb, error);
    if (status < 0)
        return status;
    const int64_t h = rgb.shape.dim[0], w = rgb.shape.dim[1], rows = (h + info->cell - 1) / info->cell,
                  columns = (w + info->cell - 1) / info->cell, planes = affinity_channels(info);
    if (rgb.shape.dim[2] != 3)
        return ws2_fail(error, WS2_ERR_INPUT, "tensor 'rgb' is %s, wanted [h,w,3]",
                        ws2_shape_text(&rgb.shape, text, sizeof text));
    status = affinity_frame_run(&scratch->affinity, h, w, rgb.data, &scratch->frame, error);
    if (status < 0)
        return status;
    const struct ws2_shape shape =
        has_edges(job) ? ws2_shape_2(rows, columns) : ws2_shape_3(planes, rows, columns);
    uint16_t *out = ws2_record_add(record, job->out, WS2_F16, &shape, error);
    if (out == NULL)
        return error->status;
    ws2_half_from_floats(out, scratch->frame.value, (size_t)(planes * rows * columns));
    return 0;
}

int main(int argc, char **argv)
{
    static struct job job;
    static const struct ws2_option options[] = {
        {"weights", 'w', WS2_OPT_TEXT, &job.weights, "FILE", "of ws2-train --method affinity", 0, 0, 0},
        {"out", 0, WS2_OPT_TEXT, &job.out, "NAME", "name of the result [edges or features]", true, 0, 0},
        {0},
    };
    static const struct ws2_program program = {
        .name = "ws2-affinity",
        .operands = "[FILE...]",
        .summary = "show which pixels belong together, as a network has learnt it",
        .reads = "rgb:u8[h,w,3]",
        .adds = "edges:f16[h,w] features:f16[n,h,w]",
        .examples = "  ws2-affinity -w edges.safetensors b1.cam.ws2 | ws2-walk --affinity edge --preset irn "
                    "| ws2-coarse\n"
                    "  ws2-affinity -w edges.safetensors b1.ws2 | ws2-show -t edges >edges.png",
        .takes =
            WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_DEVICE | WS2_TAKES_PROGRESS,
        .options = options,
    };
    ws2_cli_version_line(nn_version());
    struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    const struct ws2_filter filter = {.begin = begin, .work = work, .context = &job};
    if (job.weights == NULL)
        ws2_die_text(WS2_ERR_USAGE, "-w FILE is needed: the weights of affinities");
    job.program = &program;
    job.common = &common;
    job.scratch = ws2_must(ws2_calloc((size_t)common.threads, sizeof *job.scratch));
    open_networks(&job);
    if (job.out == NULL)
        job.out = has_edges(&job) ? "edges" : "features";
    const int code = ws2_cli_filter(&program, &common, &filter);
    close_networks(&job);
    return code;
}
