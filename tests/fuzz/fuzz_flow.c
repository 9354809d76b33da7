/*
 * Fuzz target of the readers of flow files, .flo and KITTI's PNG; a libFuzzer target, and without libFuzzer a program:
 *
 *     fuzz_flow FILE...       runs every file once (crashes found elsewhere)
 *     fuzz_flow -s DIRECTORY  writes the seeds
 *
 * A fuzzer does not find checksums, so each PNG runs as it is and with those of its chunks repaired. Beside not
 * crashing, it must hold that what reads well is the same when it is written and read again, and that a tensor made of
 * it is finite where the flow is known.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "image/image.h"
#include "tests/fuzz/must.h"

enum { SIZE_MAX_INPUT = 1 << 16, PIXELS_MAX = 1 << 14, PNG_SIGNATURE = 8, CHUNK_HEADER = 8, CHUNK_SUM = 4 };

/* ---- running ------------------------------------------------------------------------------------------ */

/* A folder of this process for the files that are written. */
static const char *folder(void)
{
    static char path[] = "/tmp/ws2-fuzz-flow-XXXXXX";
    static bool made;
    if (!made) {
        MUST(mkdtemp(path) != NULL);
        made = true;
    }
    return path;
}

/* Reads the bytes as a file of either kind. */
static int read_bytes(struct ws2_flow_file *flow, const uint8_t *data, size_t size)
{
    struct ws2_error error = {0};
    char path[64];
    const int memory = memfd_create("flow", 0);
    MUST(memory >= 0 && write(memory, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    const int status = ws2_flow_file_read(flow, path, &error);
    MUST(status == 0 || (status == error.status && error.text[0] != '\0'));
    close(memory);
    return status;
}

static void check_tensor(const struct ws2_flow_file *flow)
{
    const size_t pixels = (size_t)flow->width * (size_t)flow->height;
    uint16_t *half = calloc(pixels, 2 * sizeof *half);
    uint8_t *known = calloc(pixels, 1);
    MUST(half != NULL && known != NULL);
    ws2_flow_file_tensor(flow, half, known);
    for (size_t i = 0; i < pixels; i++) {
        MUST(known[i] <= flow->valid[i]);
        MUST((isfinite(ws2_half_to_float(half[i])) != 0) == known[i]);
        MUST((isfinite(ws2_half_to_float(half[pixels + i])) != 0) == known[i]);
    }
    free(half);
    free(known);
}

/* A .flo keeps every bit; KITTI's PNG keeps what it can hold, and which flow is known. */
static void check_again(const struct ws2_flow_file *flow, bool kitti)
{
    const size_t pixels = (size_t)flow->width * (size_t)flow->height;
    struct ws2_flow_file again = {0};
    struct ws2_error error = {0};
    char path[96];
    snprintf(path, sizeof path, "%s/again", folder());
    MUST((kitti ? ws2_kitti_write(path, flow, 1, &error) : ws2_flo_write(path, flow, &error)) == 0);
    MUST(ws2_flow_file_read(&again, path, &error) == 0);
    MUST(again.width == flow->width && again.height == flow->height);
    MUST(memcmp(again.valid, flow->valid, pixels) == 0);
    MUST(kitti || memcmp(again.flow, flow->flow, 2 * pixels * sizeof(float)) == 0);
    ws2_flow_file_free(&again);
    unlink(path);
}

static void run(const uint8_t *data, size_t size)
{
    struct ws2_flow_file flow = {0};
    if (read_bytes(&flow, data, size) == 0 && (int64_t)flow.width * flow.height <= PIXELS_MAX) {
        check_tensor(&flow);
        check_again(&flow, false);
        check_again(&flow, true);
    }
    ws2_flow_file_free(&flow);
}

/* Gives every whole chunk of a PNG its right checksum. */
static void repair(uint8_t *data, size_t size)
{
    size_t at = PNG_SIGNATURE;
    while (at + CHUNK_HEADER + CHUNK_SUM <= size) {
        const size_t length =
            (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 | (size_t)data[at + 2] << 8 | data[at + 3];
        if (length > size - at - CHUNK_HEADER - CHUNK_SUM)
            return;
        const uLong sum = crc32(0, data + at + 4, (uInt)length + 4);
        at += CHUNK_HEADER + length;
        for (int i = 0; i < CHUNK_SUM; i++)
            data[at++] = (uint8_t)(sum >> (24 - 8 * i));
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size > SIZE_MAX_INPUT)
        return 0;
    run(data, size);
    uint8_t *copy = malloc(size + 1);
    MUST(copy != NULL);
    memcpy(copy, data, size);
    repair(copy, size);
    run(copy, size);
    free(copy);
    return 0;
}

/* ---- as a program ------------------------------------------------------------------------------------- */

#ifndef WS2_LIBFUZZER

/* Small flows with what is special in them: unknown, huge, not a number, between two values of a file. */
static void write_seeds(const char *directory)
{
    const float special[] = {0, -0.5f, 1e10f, NAN, 511.99f, -512, 1 / 128.0f, 70000};
    for (int k = 0; k < 4; k++) {
        struct ws2_flow_file flow = {0};
        struct ws2_error error = {0};
        float data[2 * 5 * 3];
        char path[4096];
        for (int i = 0; i < 30; i++)
            data[i] = k == 0 ? (float)i : special[(i * k) % 8];
        const struct ws2_shape shape = ws2_shape_3(2, 3, 5);
        MUST(ws2_flow_file_fill(&flow, WS2_F32, &shape, data, NULL, &error) == 0);
        snprintf(path, sizeof path, "%s/seed%d.flo", directory, k);
        MUST(ws2_flo_write(path, &flow, &error) == 0);
        snprintf(path, sizeof path, "%s/seed%d.png", directory, k);
        MUST(ws2_kitti_write(path, &flow, 1, &error) == 0);
        ws2_flow_file_free(&flow);
    }
}

int main(int argc, char **argv)
{
    static uint8_t data[SIZE_MAX_INPUT];
    if (argc >= 3 && strcmp(argv[1], "-s") == 0) {
        write_seeds(argv[2]);
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL) {
            perror(argv[i]);
            return 1;
        }
        const size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
    }
    rmdir(folder());
    return 0;
}

#endif
