/* ws2-cam: adds class activation maps to the frames of a stream. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cam/cam.h"
#include "cli/cli.h"
#include "models/classifier.h"
#include "network.h"

enum { AUTO = 0, NO = 1, YES = 2 };

static struct {
    int method, target, form, flip, kernel, input, stride;
    int64_t size, batch;
    bool raw;
    double eps;
    const char *weights, *scales;
    struct ws2_text_list layers;
} o = {.batch = 8, .eps = 1e-6, .scales = "0.5,1,2"};

static const struct ws2_option options[] = {
    {"weights", 'w', WS2_OPT_TEXT, &o.weights, "FILE", "of the classifier", 0, 0, 0},
    {"method", 0, WS2_OPT_CHOICE, &o.method, "auto|cam|gradcam|gradcam++|layercam|puzzle|pof",
     "how maps are made", true, 0, 0},
    {"layer", 0, WS2_OPT_LIST, &o.layers, "NAME", "layer to look at [layer4], repeatable", true, 0, 0},
    {"target", 0, WS2_OPT_CHOICE, &o.target, "logit|prob", "what is differentiated", true, 0, 0},
    {"eps", 0, WS2_OPT_REAL, &o.eps, "X", "of gradcam++", true, 0, 1},
    {"form", 0, WS2_OPT_CHOICE, &o.form, "auto|closed|autograd", "formula or backward pass", true, 0, 0},
    {"scales", 0, WS2_OPT_TEXT, &o.scales, "A,B,C", "sizes of the input; papers: 0.2,0.5,1,2,4,6", true, 0,
     0},
    {"flip", 0, WS2_OPT_CHOICE, &o.flip, "auto|no|yes", "add the mirrored picture's map", true, 0, 0},
    {"kernel", 0, WS2_OPT_CHOICE, &o.kernel, "auto|linear|cubic", "of scaled pictures", true, 0, 0},
    {"raw", 0, WS2_OPT_FLAG, &o.raw, NULL, "do not divide maps by their maxima", true, 0, 0},
    {"input", 0, WS2_OPT_CHOICE, &o.input, "raw|masked", "masked: what is not fg is filled as learnt", true,
     0, 0},
    {"size", 0, WS2_OPT_INT, &o.size, "N", "side of the network's input; 0: as learnt", true, 0, 8192},
    {"stride", 0, WS2_OPT_CHOICE, &o.stride, "32|16", "for weights that do not say", true, 0, 0},
    {"batch", 0, WS2_OPT_INT, &o.batch, "N", "frames at a time", false, 1, 1024},
    {0}};

static const struct ws2_program program = {
    .name = "ws2-cam",
    .operands = "[FILE...]",
    .summary = "show which pixels speak for which class: class activation maps",
    .reads = "rgb:u8[h,w,3]",
    .adds = "cam:f16[c,h,w],prob:f32[c]",
    .examples = "  ws2-cam -w puzzle.safetensors clip.ws2 | ws2-coarse -o mask.ws2\n"
                "  ws2-cam -w standard.safetensors --method layercam --layer layer3 clip.ws2 | ws2-show",
    .takes = WS2_TAKES_INPUT | WS2_TAKES_OUTPUT | WS2_TAKES_THREADS | WS2_TAKES_DEVICE | WS2_TAKES_PROGRESS,
    .options = options};

/* One network for each thread; they share their weights. */
struct session {
    struct ws2_common *common;
    int networks;
    struct nn **nn;
    struct classifier *classifier;
    struct ws2_cam **cam;
    int64_t frames;
};

/* ---- the network ------------------------------------------------------------------------------------------ */

static struct nn_tensor *forward(void *model, struct nn_tensor *images, const char *layer, bool graph,
                                 struct nn_tensor **activation)
{
    const int tap = resnet_tap_find(model, layer);
    const struct resnet_out out =
        resnet_forward(model, images, &(struct resnet_run){false, graph ? tap : -1, tap});
    *activation = out.tap;
    return out.logits;
}

static bool has_layer(void *model, const char *layer)
{
    return resnet_tap_find(model, layer) >= 0;
}

static struct nn_tensor *weight(void *model)
{
    return resnet_head_weight(model);
}

/* A GPU has one network, the CPU one for each thread, which is faster than all threads on one, and gives the same bytes
 * for any number of them. */
static void open_networks(struct session *session)
{
    struct ws2_error error = {0};
    const struct classifier_info fallback = {.net.stride = o.stride ? RESNET_STRIDE_16 : RESNET_STRIDE_32,
                                             .size = 512};
    const size_t most = (size_t)session->common->threads;
    session->nn = ws2_calloc(most, sizeof(struct nn *));
    session->classifier = ws2_calloc(most, sizeof *session->classifier);
    session->cam = ws2_calloc(most, sizeof(struct ws2_cam *));
    if (!session->nn || !session->classifier || !session->cam)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    session->nn[0] = network_context(session->common, 1);
    session->networks = nn_device(session->nn[0]) == NN_DEVICE_CPU ? session->common->threads : 1;
    must(classifier_read(session->classifier, session->nn[0], o.weights, &fallback, &error), &error);
    for (int i = 1; i < session->networks; i++) {
        session->nn[i] = network_context(session->common, 1);
        must(classifier_twin(&session->classifier[i], session->nn[i], session->classifier, &error), &error);
    }
    if (o.input == 1 && session->classifier->info.fill == CLASSIFIER_FILL_BELT)
        ws2_die_text(WS2_ERR_USAGE,
                     "%s was trained on whole belts (--fill belt); --input masked is not for it", o.weights);
}

static void close_networks(struct session *session)
{
    for (int i = session->networks - 1; i >= 0; i--) {
        ws2_cam_close(session->cam[i]);
        classifier_close(&session->classifier[i]);
        nn_close(session->nn[i]);
    }
    free(session->nn);
    free(session->classifier);
    free(session->cam);
}

/* Where nothing is said, maps are made as the authors make them for weights of this kind. */
static void open_cams(struct session *session)
{
    struct ws2_error error = {0};
    const struct classifier *classifier = session->classifier;
    const bool maps = classifier->info.net.head == RESNET_HEAD_MAPS;
    struct ws2_cam_options cam = {.target = (enum ws2_cam_target)o.target,
                                  .form = (enum ws2_cam_form)o.form,
                                  .eps = o.eps,
                                  .raw = o.raw};
    o.method -= o.method == WS2_CAM_PUZZLE + 2; /* pof: what a puzzle's maps are made of */
    cam.method = o.method ? (enum ws2_cam_method)(o.method - 1) : maps ? WS2_CAM_PUZZLE : WS2_CAM_GRADCAM;
    const bool puzzle = cam.method == WS2_CAM_PUZZLE;
    cam.flip = o.flip == AUTO ? puzzle : o.flip == YES;
    cam.kernel = o.kernel ? (enum ws2_cam_kernel)(o.kernel - 1) : puzzle ? WS2_CAM_CUBIC : WS2_CAM_LINEAR;
    cam.scales = ws2_cli_numbers("scales", o.scales, 1, WS2_CAM_SCALES_MAX, 0, 16, cam.scale);
    for (int i = 0; i < o.layers.count; i++) {
        if (i == WS2_CAM_LAYERS_MAX)
            ws2_die_text(WS2_ERR_USAGE, "--layer: at most %d layers", WS2_CAM_LAYERS_MAX);
        cam.layer[cam.layers++] = o.layers.item[i];
    }
    /* The history tells what was done. */
    o.method = (int)cam.method + 1;
    o.flip = cam.flip ? YES : NO;
    o.kernel = (int)cam.kernel + 1;
    o.stride = classifier->info.net.stride == RESNET_STRIDE_16;
    o.size = o.size ? o.size : classifier->info.size;
    for (int i = 0; i < session->networks; i++) {
        const struct ws2_cam_network network = {.model = session->classifier[i].net,
                                                .params = session->classifier[i].params,
                                                .classes = classifier->info.net.classes,
                                                .exclusive = classifier->info.exclusive,
                                                .biased = !maps,
                                                .last = "layer4",
                                                .has_layer = has_layer,
                                                .forward = forward,
                                                .weight = weight};
        must(ws2_cam_open(&session->cam[i], session->nn[i], &network, &cam, &error), &error);
    }
}

/* ---- the stream ------------------------------------------------------------------------------------------- */

static int begin(void *context, const struct ws2_head *in, struct ws2_head *out, struct ws2_error *error)
{
    const struct session *session = context;
    const struct classifier_info *info = &session->classifier->info;
    const struct ws2_tensor_info *rgb = ws2_head_find(in, "rgb");
    const char *name[CLASSIFIER_CLASSES_MAX];
    if (rgb == NULL || rgb->dtype != WS2_U8)
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor rgb of type u8");
    if (o.input == 1 && ws2_head_find(in, "fg") == NULL)
        return ws2_fail(error, WS2_ERR_INPUT,
                        "no tensor fg, needed for --input masked: run ws2-bgmask first");
    int status = ws2_head_add_tensor(out, "cam", WS2_F16, "c,h,w", o.raw ? "raw" : "0..1", error);
    if (status >= 0)
        status = ws2_head_add_tensor(out, "prob", WS2_F32, "c", "0..1", error);
    for (int c = 0; c < info->net.classes; c++)
        name[c] = info->class_name[c];
    if (status >= 0 && (ws2_head_set_classes(out, name, info->net.classes) < 0 ||
                        ws2_cli_history(&program, session->common, out, session->classifier->digest) < 0))
        status = ws2_fail(error, WS2_ERR_SYSTEM, "out of memory");
    return status;
}

static void done(void *context)
{
    struct session *session = context;
    ws2_cli_progress_set(++session->frames, NULL);
}

static void check_only(struct session *session, const struct ws2_reader *reader)
{
    struct ws2_error error = {0};
    struct ws2_head *head = ws2_head_copy(ws2_reader_head(reader));
    if (head == NULL)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    if (begin(session, ws2_reader_head(reader), head, &error) < 0)
        ws2_error_prefix(&error, "%s", ws2_head_seq(head));
    must(error.status, &error);
    ws2_head_free(head);
}

int main(int argc, char **argv)
{
    static const char *standard_input = "-";
    ws2_cli_version_line(nn_version());
    struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    struct session session = {.common = &common};
    const char **path = common.operands ? common.operand : &standard_input;
    const int paths = common.operands ? common.operands : 1;
    if (o.weights == NULL)
        ws2_die_text(WS2_ERR_USAGE, "-w FILE is needed: the weights of a classifier");
    struct ws2_reader *reader =
        ws2_cli_reader(&common, path[0]); /* a missing file is told before 0.5 s of loading */
    open_networks(&session);
    open_cams(&session);
    const struct ws2_cam_stream_options stream = {.size = (int)o.size,
                                                  .masked = o.input == 1,
                                                  .fill_mean =
                                                      session.classifier->info.fill == CLASSIFIER_FILL_MEAN,
                                                  .batch = (int)o.batch,
                                                  .threads = common.threads,
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
            must(ws2_cam_stream(session.cam, session.networks, &stream, reader, writer, &error), &error);
        ws2_reader_close(reader);
    }
    close_networks(&session);
    return ws2_cli_end(writer, 0);
}
