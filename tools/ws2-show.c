/* ws2-show: one tensor of one frame -> a picture on standard output. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "image/image.h"

static struct {
    const char *output, *tensor;
    int64_t frame;
    bool ppm;
    double radius;
    int palette;
} want = {.output = "-", .frame = -1};

static const struct ws2_option options[] = {
    {"output", 'o', WS2_OPT_TEXT, &want.output, "FILE", "write to FILE, - is standard output", false, 0, 0},
    {"frame", 'n', WS2_OPT_INT, &want.frame, "N", "the frame of this number, else the first", false, -1,
     1e15},
    {"tensor", 't', WS2_OPT_TEXT, &want.tensor, "NAME[:CHANNEL]",
     "what to show, else the frame with what was found", false, 0, 0},
    {"ppm", 0, WS2_OPT_FLAG, &want.ppm, NULL, "PPM instead of PNG", false, 0, 0},
    {"palette", 0, WS2_OPT_CHOICE, &want.palette, "turbo|viridis|grey", "colours of heat maps", false, 0, 0},
    {"radius", 0, WS2_OPT_REAL, &want.radius, "X", "pixels of flow in full colour; 0 is the longest", false,
     0, 1e6},
    {0}};

static const struct ws2_program program = {"ws2-show",
                                           "[FILE]",
                                           "show one frame as a picture",
                                           "rgb:u8[h,w,3]",
                                           "-",
                                           "  ws2-read clip.mp4 | ws2-show | chafa\n"
                                           "  ws2-show -n 12 -t cam:before -o look.png b1.cam.ws2",
                                           WS2_TAKES_INPUT,
                                           options};

/* Shown when no tensor is named and there is no frame. */
static const char *const favourites[] = {"refined", "coarse", "cam", "fg", "truth", "flow.next", "ids"};
/* Outlined over a frame: the latest product of the pipeline. */
static const char *const masks[] = {"refined", "coarse", "fg"};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static _Noreturn void die_at(const struct ws2_head *head, const struct ws2_record *record,
                             struct ws2_error *error)
{
    ws2_error_prefix(error, "frame %lld", (long long)ws2_record_frame(record));
    if (*ws2_head_seq(head))
        ws2_error_prefix(error, "%s", ws2_head_seq(head));
    ws2_die(error);
}

/* The first favourite, else the first tensor that looks like a picture, else NULL. */
static const char *favourite(const struct ws2_record *record)
{
    struct ws2_tensor tensor;
    for (size_t i = 0; i < COUNT(favourites); i++)
        if (ws2_record_has(record, favourites[i]))
            return favourites[i];
    for (int i = 0; i < ws2_record_tensors(record); i++)
        if (ws2_record_peek(record, ws2_record_name(record, i), &tensor) == 1 &&
            (tensor.shape.rank == 2 || tensor.shape.rank == 3))
            return ws2_record_name(record, i);
    return NULL;
}

/* What is to be shown: the tensor asked for, the frame under the heat map and the outline of the newest mask as far as
 * there are any, or a favourite. 1, or 0 when there is nothing. */
static int draw(struct ws2_image *image, const struct ws2_head *head, struct ws2_record *record,
                struct ws2_error *error)
{
    struct ws2_drawn drawn = {head, record};
    const struct ws2_look_source source = ws2_cli_look(&drawn);
    struct ws2_look look = {.view = {.palette = (enum ws2_palette)want.palette, .radius = (float)want.radius},
                            .heat = ws2_record_has(record, "cam") ? "cam" : NULL,
                            .mask = masks,
                            .alpha = 0.5f,
                            .thickness = 2};
    const char *text = want.tensor;
    if (!text && ws2_record_has(record, "rgb")) {
        while (look.mask < masks + COUNT(masks) && !ws2_record_has(record, *look.mask))
            look.mask++;
        look.masks = look.mask < masks + COUNT(masks);
        return ws2_look_overlay(image, &look, &source, error);
    }
    text = text ? text : favourite(record);
    if (!text)
        return ws2_fail(error, WS2_ERR_INPUT, "no tensor looks like a picture");
    const int status = ws2_look_tensor(image, &look, &source, text, false, error);
    return status != 0 ? status : ws2_fail(error, WS2_ERR_INPUT, "no tensor '%s'", text);
}

static void write_picture(const struct ws2_image *image, bool force)
{
    struct ws2_error error = {0};
    int status;
    if (strcmp(want.output, "-") != 0 && !want.ppm) {
        status = ws2_png_write(want.output, image, 6, &error);
    } else if (strcmp(want.output, "-") != 0) {
        status = ws2_pnm_write(want.output, image, &error);
    } else {
        if (isatty(STDOUT_FILENO) && !force)
            ws2_die_text(WS2_ERR_USAGE,
                         "standard output is a terminal; use -o FILE or a pipe such as | chafa");
        status = want.ppm ? ws2_pnm_write_file(stdout, image, &error)
                          : ws2_png_write_file(stdout, image, 6, &error);
    }
    if (status < 0)
        ws2_die(&error);
}

int main(int argc, char **argv)
{
    const struct ws2_common common = ws2_cli_begin(&program, argc, argv);
    struct ws2_image image = {0};
    struct ws2_reader *reader;
    struct ws2_record *record = ws2_record_new();
    int more = 1;
    if (common.operands > 1)
        ws2_die_text(WS2_ERR_USAGE, "one input only; '%s' is too much", common.operand[1]);
    if (!record)
        ws2_die_text(WS2_ERR_SYSTEM, "out of memory");
    reader = ws2_cli_reader(&common, common.operands ? common.operand[0] : "-");
    /* Walks over segments until the frame is there. */
    while (!common.check && more > 0) {
        while ((more = ws2_reader_next(reader, record)) > 0)
            if (want.frame < 0 || ws2_record_frame(record) == want.frame)
                break;
        if (more > 0)
            break;
        more = more < 0 ? more : ws2_reader_next_segment(reader);
    }
    if (more < 0)
        ws2_die(ws2_reader_error(reader));
    if (more == 0 && want.frame >= 0)
        ws2_die_text(WS2_ERR_INPUT, "no frame %lld", (long long)want.frame);
    if (more == 0)
        ws2_die_text(WS2_ERR_INPUT, "a stream without frames");
    if (!common.check) {
        struct ws2_error error = {0};
        const struct ws2_head *head = ws2_reader_head(reader);
        if (draw(&image, head, record, &error) < 0 ||
            /* PPM has no alpha, and terminals show none. */
            (image.channels == 4 && ws2_image_convert(&image, 3, &error) < 0))
            die_at(head, record, &error);
        write_picture(&image, common.force);
    }
    ws2_image_free(&image);
    ws2_record_free(record);
    ws2_reader_close(reader);
    return ws2_cli_end(NULL, 0);
}
