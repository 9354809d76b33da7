/* A hash of what a stream says, whatever the compression: see stream.h. Every part is preceded by its length or
 * kind, so that no two different contents give the same bytes to hash. */
#define XXH_NO_STREAM_DEPRECATED
#include <stdlib.h>
#include <xxhash.h>
#include "stream/internal.h"

struct ws2_sum {
    XXH3_state_t *state;
};

struct ws2_sum *ws2_sum_new(void)
{
    struct ws2_sum *sum = ws2_calloc(1, sizeof *sum);
    if (sum == NULL)
        return NULL;
    sum->state = XXH3_createState();
    if (sum->state == NULL) {
        free(sum);
        return NULL;
    }
    XXH3_128bits_reset(sum->state);
    return sum;
}

void ws2_sum_free(struct ws2_sum *sum)
{
    if (sum == NULL)
        return;
    XXH3_freeState(sum->state);
    free(sum);
}

static void add_number(struct ws2_sum *sum, int64_t number)
{
    unsigned char bytes[8];
    ws2_store64(bytes, (uint64_t)number);
    XXH3_128bits_update(sum->state, bytes, sizeof bytes);
}

static void add_text(struct ws2_sum *sum, const char *text)
{
    const size_t size = strlen(text);
    add_number(sum, (int64_t)size);
    XXH3_128bits_update(sum->state, text, size);
}

void ws2_sum_head(struct ws2_sum *sum, const struct ws2_head *head)
{
    add_number(sum, -1); /* no frame has this number */
    add_text(sum, ws2_head_seq(head));
    add_text(sum, ws2_role_name(ws2_head_role(head)));
    add_number(sum, ws2_head_classes(head));
    for (int i = 0; i < ws2_head_classes(head); i++)
        add_text(sum, ws2_head_class(head, i));
}

static int add_tensor(struct ws2_sum *sum, struct ws2_record *record, const char *name,
                      struct ws2_error *error)
{
    struct ws2_tensor tensor;
    const int got = ws2_record_get(record, name, &tensor, error);
    if (got <= 0)
        return got;
    add_text(sum, name);
    add_text(sum, ws2_dtype_name(tensor.dtype));
    add_number(sum, tensor.shape.rank);
    for (int i = 0; i < tensor.shape.rank; i++)
        add_number(sum, tensor.shape.dim[i]);
    XXH3_128bits_update(sum->state, tensor.data, tensor.bytes);
    return 0;
}

/* The names of the record's tensors in alphabetical order. */
static int sorted_names(const struct ws2_record *record, const char **name)
{
    const int count = ws2_record_tensors(record);
    for (int i = 0; i < count; i++) {
        const char *now = ws2_record_name(record, i);
        int at = i;
        for (; at > 0 && strcmp(name[at - 1], now) > 0; at--)
            name[at] = name[at - 1];
        name[at] = now;
    }
    return count;
}

int ws2_sum_record(struct ws2_sum *sum, struct ws2_record *record, struct ws2_error *error)
{
    const char *name[WS2_TENSORS_MAX];
    const int count = sorted_names(record, name);
    add_number(sum, ws2_record_frame(record));
    add_number(sum, ws2_record_pts(record));
    add_number(sum, count);
    for (int i = 0; i < count; i++) {
        const int status = add_tensor(sum, record, name[i], error);
        if (status < 0)
            return status;
    }
    return 0;
}

int ws2_sum_tensor(struct ws2_sum *sum, struct ws2_record *record, const char *name, struct ws2_error *error)
{
    if (!ws2_record_has(record, name))
        return 0;
    add_number(sum, ws2_record_frame(record));
    return add_tensor(sum, record, name, error);
}

const char *ws2_sum_text(const struct ws2_sum *sum, char text[WS2_SUM_TEXT])
{
    static const char digit[] = "0123456789abcdef";
    XXH128_canonical_t bytes;
    XXH128_canonicalFromHash(&bytes, XXH3_128bits_digest(sum->state));
    for (size_t i = 0; i < sizeof bytes.digest; i++) {
        text[2 * i] = digit[bytes.digest[i] >> 4];
        text[2 * i + 1] = digit[bytes.digest[i] & 15];
    }
    text[2 * sizeof bytes.digest] = '\0';
    return text;
}
