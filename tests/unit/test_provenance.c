/* Heads side by side, history entries, the hash of the content, recompression. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "stream/stream.h"

static void add_history(struct ws2_head *head, const char *program, const char *option)
{
    const struct ws2_history entry = {
        .program = program, .version = "1.2", .options = &option, .count = 1, .seeded = true, .seed = 7};
    assert_int_equal(ws2_head_add_history(head, &entry), 0);
}

static struct ws2_head *make_head(const char *seq, const char *tensor)
{
    struct ws2_head *head = ws2_head_new();
    assert_int_equal(ws2_head_set_seq(head, seq), 0);
    assert_int_equal(ws2_head_set_role(head, WS2_ROLE_BEFORE), 0);
    assert_int_equal(ws2_head_add_tensor(head, tensor, WS2_U8, "n", "", NULL), 0);
    return head;
}

static void test_join(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_head *a = make_head("b1", "x"), *b = make_head("b1", "y");
    add_history(a, "ws2-read", "size=8");
    add_history(b, "ws2-read", "size=8");
    add_history(b, "ws2-cam", "method=cam");
    assert_int_equal(ws2_head_set_note(a, "split", "test"), 0);
    assert_int_equal(ws2_head_set_note(b, "split", "other"), 0);
    assert_int_equal(ws2_head_set_note(b, "more", "yes"), 0);
    assert_int_equal(ws2_head_set_size(b, 3, 2), 0);
    struct ws2_head *both = ws2_head_join(a, b, true, &error);
    assert_non_null(both);
    assert_int_equal(ws2_head_tensors(both), 2);
    assert_int_equal(ws2_head_histories(both), 2); /* the common entry once */
    assert_string_equal(ws2_head_note(both, "split"), "test");
    assert_string_equal(ws2_head_note(both, "more"), "yes");
    int64_t width, height;
    ws2_head_size(both, &width, &height);
    assert_int_equal(width, 3);
    assert_null(ws2_head_join(both, b, true, &error));
    assert_int_equal(error.status, WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "'y'"));
    ws2_head_free(both);

    struct ws2_head *turn = ws2_head_join(a, b, false, NULL); /* tensors are a's */
    assert_int_equal(ws2_head_tensors(turn), 1);
    ws2_head_free(turn);

    assert_int_equal(ws2_head_set_role(b, WS2_ROLE_AFTER), 0);
    assert_null(ws2_head_join(a, b, true, NULL));
    assert_int_equal(ws2_head_set_role(b, WS2_ROLE_NONE), 0);
    struct ws2_head *known = ws2_head_join(b, a, true, NULL);
    assert_int_equal(ws2_head_role(known), WS2_ROLE_BEFORE);
    ws2_head_free(known);
    ws2_head_free(a);
    ws2_head_free(b);
}

static void test_history(void **state)
{
    (void)state;
    char text[8];
    struct ws2_head *head = make_head("b1", "x");
    assert_false(ws2_head_history_option(head, "ws2-cam", "method", text, sizeof text));
    add_history(head, "ws2-cam", "method=cam");
    add_history(head, "ws2-cam", "method=puzzle-and-more");
    add_history(head, "ws2-pick", "methods=no");
    assert_true(ws2_head_history_option(head, "ws2-cam", "method", text, sizeof text));
    assert_string_equal(text, "puzzle-"); /* the newest, cut to fit */
    assert_false(ws2_head_history_option(head, "ws2-pick", "method", text, sizeof text));
    char *line = ws2_head_history_line(head, 0);
    assert_string_equal(line, "ws2-cam\t1.2\t7\t-\tmethod=cam");
    free(line);
    const struct ws2_history bare = {.program = "a\tb\033", .version = "1", .model = "abc"};
    assert_int_equal(ws2_head_add_history(head, &bare), 0);
    line = ws2_head_history_line(head, 3);
    assert_string_equal(line, "a?b?\t1\t-\tabc\t-");
    free(line);
    ws2_head_free(head);
}

static void put(struct ws2_record *record, const char *name, const char *bytes)
{
    struct ws2_shape shape = ws2_shape_1((int64_t)strlen(bytes));
    assert_int_equal(ws2_record_put(record, name, WS2_U8, &shape, bytes, NULL), 0);
}

static const char *sum_of(struct ws2_record *record, char text[WS2_SUM_TEXT])
{
    struct ws2_sum *sum = ws2_sum_new();
    assert_int_equal(ws2_sum_record(sum, record, NULL), 0);
    ws2_sum_text(sum, text);
    ws2_sum_free(sum);
    return text;
}

static void test_sum(void **state)
{
    (void)state;
    struct ws2_record *a = ws2_record_new(), *b = ws2_record_new();
    char x[WS2_SUM_TEXT], y[WS2_SUM_TEXT];
    ws2_record_set_frame(a, 3, -1);
    ws2_record_set_frame(b, 3, -1);
    put(a, "one", "abc");
    put(a, "two", "d");
    put(b, "two", "d");
    put(b, "one", "abc");
    assert_int_equal(ws2_record_pack(b, 19, NULL), 0);
    assert_string_equal(sum_of(a, x), sum_of(b, y)); /* neither order nor compression counts */
    assert_int_equal(strlen(x), 32);
    ws2_record_set_frame(b, 4, -1);
    assert_string_not_equal(x, sum_of(b, y));
    ws2_record_set_frame(b, 3, 0);
    assert_string_not_equal(x, sum_of(b, y));
    ws2_record_set_frame(b, 3, -1);
    assert_string_equal(x, sum_of(b, y));
    /* the same bytes cut elsewhere are another content */
    ws2_record_drop(b, "one");
    ws2_record_drop(b, "two");
    put(b, "one", "ab");
    put(b, "two", "cd");
    assert_string_not_equal(x, sum_of(b, y));
    /* as is another shape of the same bytes */
    ws2_record_drop(b, "one");
    ws2_record_drop(b, "two");
    struct ws2_shape flat = ws2_shape_2(1, 3);
    assert_int_equal(ws2_record_put(b, "one", WS2_U8, &flat, "abc", NULL), 0);
    put(b, "two", "d");
    assert_string_not_equal(x, sum_of(b, y));
    ws2_record_free(a);
    ws2_record_free(b);
}

static void test_repack(void **state)
{
    (void)state;
    char bytes[20001], small[WS2_SUM_TEXT], large[WS2_SUM_TEXT];
    for (int i = 0; i < 20000; i++)
        bytes[i] = (char)('a' + i * i % 13);
    bytes[20000] = '\0';
    struct ws2_record *record = ws2_record_new();
    put(record, "x", bytes);
    put(record, "nothing", "");
    assert_int_equal(ws2_record_pack(record, WS2_LEVEL_PIPE, NULL), 0);
    sum_of(record, large);
    assert_int_equal(ws2_record_repack(record, 19, NULL), 0);
    assert_string_equal(large, sum_of(record, small));
    assert_int_equal(ws2_record_repack(record, 1000, NULL), WS2_ERR_USAGE);
    ws2_record_free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_repack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
