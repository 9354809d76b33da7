/* Hashes, aligned blocks and growing text for the other files of this room. */
#include "stream/internal.h"

#include <stdlib.h>
#include <xxhash.h>

uint32_t ws2_checksum(const void *bytes, size_t count)
{
    return (uint32_t)XXH3_64bits(bytes, count);
}

int ws2_running_open(struct ws2_running *running)
{
    running->state = XXH3_createState();
    if (running->state == NULL)
        return WS2_ERR_SYSTEM;
    ws2_running_reset(running);
    return WS2_OK;
}

void ws2_running_close(struct ws2_running *running)
{
    XXH3_freeState(running->state);
    running->state = NULL;
}

void ws2_running_reset(struct ws2_running *running)
{
    XXH3_64bits_reset(running->state);
}

void ws2_running_add(struct ws2_running *running, const void *bytes, size_t count)
{
    XXH3_64bits_update(running->state, bytes, count);
}

uint64_t ws2_running_value(const struct ws2_running *running)
{
    return XXH3_64bits_digest(running->state);
}

/* ---- blocks ------------------------------------------------------------------------------------------- */

int ws2_block_reserve(struct ws2_block *block, size_t bytes, size_t keep)
{
    if (block->data != NULL && block->capacity >= bytes)
        return WS2_OK;
    const size_t capacity = (bytes + 64) & ~(size_t)63; /* at least 1 byte more, so never 0 */
    unsigned char *data = capacity > bytes ? aligned_alloc(64, capacity) : NULL;
    if (data == NULL)
        return WS2_ERR_SYSTEM;
    if (keep > 0)
        memcpy(data, block->data, keep);
    free(block->data);
    block->data = data;
    block->capacity = capacity;
    return WS2_OK;
}

void ws2_block_free(struct ws2_block *block)
{
    free(block->data);
    *block = (struct ws2_block){0};
}

/* ---- text --------------------------------------------------------------------------------------------- */

void ws2_text_add(struct ws2_text *text, const char *bytes, size_t count)
{
    if (text->failed || text->capacity - text->size < count) {
        void *data = text->data;
        const size_t want = text->size + count > 2 * text->capacity ? text->size + count : 2 * text->capacity;
        if (text->failed || ws2_reserve(&data, &text->capacity, want) != WS2_OK) {
            text->failed = true;
            return;
        }
        text->data = data;
    }
    if (count > 0)
        memcpy(text->data + text->size, bytes, count);
    text->size += count;
}

void ws2_text_puts(struct ws2_text *text, const char *string)
{
    ws2_text_add(text, string, strlen(string));
}

void ws2_text_number(struct ws2_text *text, int64_t number)
{
    char digits[24];
    char *at = digits + sizeof digits;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (number < 0)
        *--at = '-';
    ws2_text_add(text, at, (size_t)(digits + sizeof digits - at));
}

void ws2_text_free(struct ws2_text *text)
{
    free(text->data);
    *text = (struct ws2_text){0};
}
