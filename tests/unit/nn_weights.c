/* Weight files as their real writers make them (tests/golden/weights.py), damaged ones, and a hostile one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nn/nn.h"

#define FOLDER "tests/golden/weights/"

static const char *const types_files[] = {FOLDER "types.pth", FOLDER "types.stream.pth",
                                          FOLDER "types.safetensors"};
static const char *const formats[] = {"pytorch zip", "pytorch stream", "safetensors"};

static struct nn_weights *open_weights(const char *path)
{
    struct nn_weights *weights;
    struct ws2_error error = {0};
    if (nn_weights_open(&weights, path, NULL, &error) < 0)
        fail_msg("%s", error.text);
    return weights;
}

/* ---- reading ---------------------------------------------------------------------------------------------- */

static int find(const struct nn_weights *weights, const char *name, enum nn_dtype dtype, int rank)
{
    const int index = nn_weights_find(weights, name);
    if (index < 0)
        fail_msg("%s is not there", name);
    assert_int_equal(nn_weights_at(weights, index)->dtype, dtype);
    assert_int_equal(nn_weights_at(weights, index)->shape.rank, rank);
    return index;
}

static void check_values(const struct nn_weights *weights, int index, const double *want, size_t count)
{
    double wide[32];
    float narrow[32];
    assert_int_equal(nn_weights_read_f64(weights, index, wide, count, NULL), 0);
    assert_int_equal(nn_weights_read_f32(weights, index, narrow, count, NULL), 0);
    for (size_t i = 0; i < count; i++) {
        assert_true(wide[i] == want[i]);
        assert_true(narrow[i] == (float)want[i]);
    }
    assert_true(nn_weights_read_f64(weights, index, wide, count + 1, NULL) < 0);
}

static void check_types(const struct nn_weights *weights)
{
    static const struct {
        const char *name;
        enum nn_dtype dtype;
    } real[] = {{"f32", NN_F32}, {"f64", NN_F64}, {"f16", NN_F16}, {"bf16", NN_BF16}},
      whole[] = {{"u8", NN_U8}, {"i8", NN_I8}, {"i16", NN_I16}, {"i32", NN_I32}, {"i64", NN_I64}};
    static const double ramp[] = {-3, -2.5, -2, -1.5, -1, -0.5}, count[] = {0, 1, 2, 3, 4, 5};
    for (size_t i = 0; i < sizeof real / sizeof *real; i++)
        check_values(weights, find(weights, real[i].name, real[i].dtype, 2), ramp, 6);
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        check_values(weights, find(weights, whole[i].name, whole[i].dtype, 2), count, 6);
    check_values(weights, find(weights, "bool", NN_BOOL, 1), (const double[]){1, 0, 1}, 3);
    check_values(weights, find(weights, "scalar", NN_F32, 0), (const double[]){2.5}, 1);
    check_values(weights, find(weights, "empty", NN_F32, 2), NULL, 0);
}

/* Views of a ramp [4,6]: element (y,x) of the whole is (6 y + x) / 2 - 3. */
static void check_views(const struct nn_weights *weights)
{
    double transposed[24], rows[12], columns[12];
    for (int y = 0; y < 4; y++) {
        for (int x = 0; x < 6; x++) {
            const double value = 0.5 * (6 * y + x) - 3;
            transposed[4 * x + y] = value;
            if (y == 1 || y == 2)
                rows[6 * (y - 1) + x] = value;
            if (x % 2 == 1)
                columns[3 * y + x / 2] = value;
        }
    }
    check_values(weights, find(weights, "transposed", NN_F32, 2), transposed, 24);
    check_values(weights, find(weights, "rows", NN_F32, 2), rows, 12);
    check_values(weights, find(weights, "columns", NN_F32, 2), columns, 12);
}

static void reads_all_formats(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct nn_weights *weights = open_weights(types_files[i]);
        assert_string_equal(nn_weights_format(weights), formats[i]);
        check_types(weights);
        check_views(weights);
        assert_int_equal(nn_weights_count(weights), i == 2 ? 15 : 16);
        const char *made = nn_weights_meta(weights, "made");
        assert_true(i == 2 ? strcmp(made, "by safetensors") == 0 : made == NULL);
        nn_weights_close(weights);
    }
}

static void digests_agree(void **state)
{
    (void)state;
    static const char *const file[] = {FOLDER "network.pth", FOLDER "nested.pth",
                                       FOLDER "network.safetensors"};
    char first[NN_DIGEST_SIZE], digest[NN_DIGEST_SIZE];
    for (int i = 0; i < 3; i++) {
        struct nn_weights *weights = open_weights(file[i]);
        assert_int_equal(nn_weights_digest(weights, i ? digest : first, NULL), 0);
        if (i > 0)
            assert_string_equal(first, digest);
        nn_weights_close(weights);
    }
}

/* ---- strict loading --------------------------------------------------------------------------------------- */

/* What a network declares: all of network.pth, with one thing wrong. */
enum change { AS_IT_IS, ONE_MORE, ONE_LESS, OTHER_SHAPE };

static struct nn_params *declare(struct nn *nn, enum change change)
{
    const struct nn_init init = nn_init_make(NN_INIT_CONSTANT, 9);
    struct nn_params *params = nn_params_new(nn);
    nn_declare(params, NN_WEIGHT, "conv1.weight", ws2_shape_4(4, change == OTHER_SHAPE ? 1 : 3, 3, 3), init);
    nn_bn_declare(params, "bn1", 4);
    nn_declare(params, NN_WEIGHT, "fc.weight", ws2_shape_2(3, 4), init);
    if (change != ONE_LESS)
        nn_declare(params, NN_BIAS, "fc.bias", ws2_shape_1(3), init);
    if (change == ONE_MORE)
        nn_declare(params, NN_WEIGHT, "conv2.weight", ws2_shape_4(4, 4, 1, 1), init);
    assert_int_equal(nn_params_init(params, 1), 0);
    return params;
}

static double value_at(struct nn *nn, const struct nn_params *params, const char *name, size_t index)
{
    const struct nn_param *param = nn_params_at(params, nn_params_find(params, name));
    double value[128];
    assert_non_null(param);
    assert_int_equal(nn_to_f64(nn, param->tensor, value, (size_t)nn_count(param->tensor)), 0);
    return value[index];
}

static void check_strict(struct nn *nn, const char *path, enum change change, const char *reason)
{
    struct nn_weights *weights = open_weights(path);
    struct nn_params *params = declare(nn, change);
    struct ws2_error error = {0};
    struct nn_load_report report;
    const int status = nn_params_load(params, weights, NULL, &report, &error);
    if (reason == NULL) {
        assert_int_equal(status, 0);
        assert_int_equal(report.loaded, nn_params_count(params));
        assert_true(value_at(nn, params, "conv1.weight", 107) == 107 * 0.5 - 3);
        assert_true(value_at(nn, params, "bn1.running_var", 3) == -1.5);
        assert_true(value_at(nn, params, "bn1.num_batches_tracked", 0) == 7);
        assert_true(value_at(nn, params, "fc.bias", 1) == -2.5);
    } else {
        assert_int_equal(status, WS2_ERR_MODEL);
        if (strstr(error.text, reason) == NULL)
            fail_msg("'%s' does not say '%s'", error.text, reason);
        assert_true(value_at(nn, params, "fc.weight", 0) == 9); /* nothing was changed */
    }
    nn_params_free(params);
    nn_weights_close(weights);
}

static void loads_strictly(void **state)
{
    (void)state;
    static const char *const file[] = {FOLDER "network.pth", FOLDER "nested.pth",
                                       FOLDER "network.safetensors"};
    struct ws2_error error = {0};
    struct nn *nn;
    if (nn_open(&nn, &(struct nn_options){.device = NN_DEVICE_CPU}, &error) < 0)
        fail_msg("%s", error.text);
    for (int i = 0; i < 3; i++) {
        check_strict(nn, file[i], AS_IT_IS, NULL);
        check_strict(nn, file[i], ONE_MORE, "no 'conv2.weight' (wanted [4,4,1,1])");
        check_strict(nn, file[i], ONE_LESS, "holds 'fc.bias' [3]");
        check_strict(nn, file[i], OTHER_SHAPE, "'conv1.weight': wanted [4,1,3,3], found [4,3,3,3]");
    }
    nn_close(nn);
}

/* ---- damage and malice ------------------------------------------------------------------------------------ */

static uint8_t *whole_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("%s is not there", path);
    uint8_t *bytes = malloc(1 << 16);
    *size = fread(bytes, 1, 1 << 16, file);
    fclose(file);
    return bytes;
}

/* Opens a copy that ends where its memory ends, so that a sanitizer sees the first byte read beyond. */
static int open_copy(const uint8_t *bytes, size_t size, struct ws2_error *error)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, bytes, size);
    struct nn_weights *weights;
    const int status = nn_weights_open_memory(&weights, copy, size, "copy", NULL, error);
    if (status == 0) {
        for (int i = 0; i < nn_weights_count(weights); i++) {
            size_t count;
            assert_true(ws2_shape_count(&nn_weights_at(weights, i)->shape, &count));
            double *value = malloc((count + 1) * sizeof *value);
            assert_int_equal(nn_weights_read_f64(weights, i, value, count, NULL), 0);
            free(value);
        }
        nn_weights_close(weights);
    }
    free(copy);
    return status;
}

static void cut_anywhere(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        size_t size;
        uint8_t *bytes = whole_file(types_files[i], &size);
        for (size_t n = 0; n < size; n++) {
            struct ws2_error error = {0};
            const int status = open_copy(bytes, n, &error);
            if (status != WS2_ERR_INPUT && status != WS2_ERR_TRUNCATED)
                fail_msg("%s cut at %zu: status %d", types_files[i], n, status);
            if (strncmp(error.text, "copy: ", 6) != 0)
                fail_msg("%s cut at %zu: '%s'", types_files[i], n, error.text);
        }
        free(bytes);
    }
}

/* A flipped bit is an error or, where nothing checks it (values outside of a zip), another value; never harm. */
static void flipped_anywhere(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        size_t size;
        uint8_t *bytes = whole_file(types_files[i], &size);
        for (size_t n = 0; n < 8 * size; n++) {
            struct ws2_error error = {0};
            bytes[n / 8] ^= (uint8_t)(1 << n % 8);
            const int status = open_copy(bytes, size, &error);
            if (status < 0 && status != WS2_ERR_INPUT && status != WS2_ERR_TRUNCATED)
                fail_msg("%s bit %zu: status %d, '%s'", types_files[i], n, status, error.text);
            bytes[n / 8] ^= (uint8_t)(1 << n % 8);
        }
        free(bytes);
    }
}

/* Loaded by Python's pickle these run "touch executed". */
static void nothing_is_executed(void **state)
{
    (void)state;
    static const char *const file[] = {FOLDER "hostile.pth", FOLDER "hostile.stream.pth"};
    for (int i = 0; i < 2; i++) {
        struct nn_weights *weights;
        struct ws2_error error = {0};
        assert_int_equal(nn_weights_open(&weights, file[i], NULL, &error), WS2_ERR_INPUT);
        assert_null(weights);
        assert_non_null(strstr(error.text, "'posix.system'"));
        assert_int_not_equal(access("executed", F_OK), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_all_formats), cmocka_unit_test(digests_agree),
        cmocka_unit_test(loads_strictly),    cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(flipped_anywhere),  cmocka_unit_test(nothing_is_executed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
