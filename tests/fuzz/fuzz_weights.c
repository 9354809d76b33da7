/*
 * Fuzz target of the readers of weight files; a libFuzzer target, and without libFuzzer a program:
 *
 *     fuzz_weights FILE...               runs every file once (crashes found elsewhere)
 *     fuzz_weights -s DIRECTORY FILE...  writes seeds: the files, and the pickles in them
 *
 * The checksums of an archive keep a fuzzer out of the pickle behind them. So each input is run as it is, as an
 * archive whose checksums are repaired, and as the pickle of an archive made around it. Beside not crashing, it must
 * hold that weights which open can be read, or say why not, and have one digest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/internal.h"
#include "tests/fuzz/must.h"

enum { SIZE_MAX_INPUT = 1 << 16, ELEMENTS_MAX = 1 << 20, STORAGES = 3, STORAGE_BYTES = 256 };

/* ---- running ------------------------------------------------------------------------------------------ */

/* Every weight of a reasonable size, in all types that can be asked for. */
static void read_all(const struct nn_weights *weights)
{
    for (int i = 0; i < nn_weights_count(weights); i++) {
        const struct nn_weight *weight = nn_weights_at(weights, i);
        struct ws2_error error = {0};
        size_t bytes;
        MUST(weight != NULL && nn_weights_find(weights, weight->name) >= 0);
        if (!ws2_shape_bytes(&weight->shape, WS2_U8, &bytes) || bytes > ELEMENTS_MAX)
            continue;
        double *value = malloc(bytes * sizeof(double) + 1);
        MUST(value != NULL);
        nn_weights_read_f64(weights, i, value, bytes, &error);
        nn_weights_read_f32(weights, i, (float *)(void *)value, bytes, &error);
        nn_weights_read_i64(weights, i, (int64_t *)(void *)value, bytes, &error);
        free(value);
    }
}

static void run(const uint8_t *data, size_t size, const char *key)
{
    struct ws2_error error = {0};
    struct nn_weights *weights;
    char one[NN_DIGEST_SIZE], two[NN_DIGEST_SIZE];
    const int status = nn_weights_open_memory(&weights, data, size, "input", key, &error);
    if (status < 0) {
        MUST(weights == NULL && *error.text != 0);
        return;
    }
    read_all(weights);
    if (nn_weights_digest(weights, one, &error) == 0)
        MUST(nn_weights_digest(weights, two, &error) == 0 && strcmp(one, two) == 0);
    nn_weights_close(weights);
}

/* ---- archives ----------------------------------------------------------------------------------------- */

static uint32_t get(const uint8_t *at, int bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint32_t)at[i] << (8 * i);
    return value;
}

static void put(uint8_t *at, uint32_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

/* One central directory entry of 46 bytes and more; repairs both of its checksums when they can be reached. */
static void repair_entry(uint8_t *data, size_t size, uint8_t *entry)
{
    const size_t local = get(entry + 42, 4), length = get(entry + 20, 4);
    if (local > size || size - local < 30)
        return;
    const size_t begin = local + 30 + get(data + local + 26, 2) + get(data + local + 28, 2);
    if (begin > size || length > size - begin)
        return;
    const uint32_t crc = nn_crc32(data + begin, length);
    put(entry + 16, crc, 4);
    put(data + local + 14, crc, 4);
}

static void run_repaired(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    MUST(copy != NULL);
    memcpy(copy, data, size);
    for (size_t i = 0; i + 46 <= size; i++) {
        if (memcmp(copy + i, "PK\1\2", 4) == 0)
            repair_entry(copy, size, copy + i);
    }
    run(copy, size, NULL);
    free(copy);
}

struct archive {
    uint8_t *data;
    size_t size;
    uint8_t central[8 * 64];
    size_t central_size;
    int entries;
};

/* A stored entry; its row of the directory waits in `central`. */
static void add_entry(struct archive *archive, const char *name, const uint8_t *data, size_t size)
{
    const size_t length = strlen(name);
    uint8_t *local = archive->data + archive->size, *row = archive->central + archive->central_size;
    memset(local, 0, 30);
    memcpy(local, "PK\3\4", 4);
    put(local + 4, 20, 2);
    put(local + 14, nn_crc32(data, size), 4);
    put(local + 18, (uint32_t)size, 4);
    put(local + 22, (uint32_t)size, 4);
    put(local + 26, (uint32_t)length, 2);
    memcpy(local + 30, name, length);
    memcpy(local + 30 + length, data, size);
    memset(row, 0, 46);
    memcpy(row, "PK\1\2", 4);
    put(row + 4, 20, 2);
    memcpy(row + 6, local + 4, 26); /* from the version on both are alike */
    put(row + 42, (uint32_t)archive->size, 4);
    memcpy(row + 46, name, length);
    archive->size += 30 + length + size;
    archive->central_size += 46 + length;
    archive->entries++;
}

static void run_as_pickle(const uint8_t *data, size_t size)
{
    struct archive archive = {.data = malloc(size + 4096)};
    uint8_t storage[STORAGE_BYTES];
    MUST(archive.data != NULL);
    for (int i = 0; i < STORAGE_BYTES; i++)
        storage[i] = (uint8_t)(i * 37);
    add_entry(&archive, "a/data.pkl", data, size);
    for (int i = 0; i < STORAGES; i++) {
        char name[16];
        snprintf(name, sizeof name, "a/data/%d", i);
        add_entry(&archive, name, storage, sizeof storage);
    }
    uint8_t *end = archive.data + archive.size + archive.central_size;
    memcpy(archive.data + archive.size, archive.central, archive.central_size);
    memset(end, 0, 22);
    memcpy(end, "PK\5\6", 4);
    put(end + 8, (uint32_t)archive.entries, 2);
    put(end + 10, (uint32_t)archive.entries, 2);
    put(end + 12, (uint32_t)archive.central_size, 4);
    put(end + 16, (uint32_t)archive.size, 4);
    const size_t all = archive.size + archive.central_size + 22;
    run(archive.data, all, NULL);
    run(archive.data, all, "model");
    free(archive.data);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size > SIZE_MAX_INPUT)
        return 0;
    run(data, size, NULL);
    run_repaired(data, size);
    run_as_pickle(data, size);
    return 0;
}

/* ---- as a program ------------------------------------------------------------------------------------- */

#ifndef WS2_LIBFUZZER

static uint8_t *load(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(SIZE_MAX_INPUT);
    if (file == NULL || data == NULL) {
        perror(path);
        exit(1);
    }
    *size = fread(data, 1, SIZE_MAX_INPUT, file);
    fclose(file);
    return data;
}

static void write_seed(const char *directory, int number, const uint8_t *data, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/seed%02d", directory, number);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static void write_seeds(const char *directory, char **path, int paths)
{
    int number = 0;
    for (int i = 0; i < paths; i++) {
        struct ws2_error error = {0};
        struct nn_zip zip;
        size_t size;
        uint8_t *data = load(path[i], &size);
        write_seed(directory, number++, data, size);
        if (nn_zip_open(&zip, data, size, &error) == 0) {
            for (size_t k = 0; k < zip.count; k++)
                if (zip.entry[k].name_length >= 8 &&
                    memcmp(zip.entry[k].name + zip.entry[k].name_length - 8, "data.pkl", 8) == 0)
                    write_seed(directory, number++, zip.entry[k].data, zip.entry[k].size);
            nn_zip_free(&zip);
        }
        free(data);
    }
}

int main(int argc, char **argv)
{
    if (argc >= 3 && strcmp(argv[1], "-s") == 0) {
        write_seeds(argv[2], argv + 3, argc - 3);
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        size_t size;
        uint8_t *data = load(argv[i], &size);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    return 0;
}

#endif
