/* head: every field, what it refuses, history, agreement, and that a failed change changes nothing. */
#include "stream_help.h"

static void a_new_head_is_empty(void **state)
{
    (void)state;
    int64_t a, b;
    struct ws2_head *head = ws2_head_new();
    assert_string_equal(ws2_head_json(head), "{\"tensors\":[]}");
    assert_string_equal(ws2_head_seq(head), "");
    assert_int_equal(ws2_head_role(head), WS2_ROLE_NONE);
    ws2_head_size(head, &a, &b);
    assert_int_equal(a, 0);
    assert_int_equal(b, 0);
    ws2_head_rate(head, &a, &b);
    assert_int_equal(a, 0);
    assert_int_equal(b, 1);
    assert_int_equal(ws2_head_classes(head), 0);
    assert_null(ws2_head_class(head, 0));
    assert_null(ws2_head_class(head, -1));
    assert_null(ws2_head_note(head, "any"));
    assert_int_equal(ws2_head_tensors(head), 0);
    assert_null(ws2_head_tensor(head, 0));
    assert_null(ws2_head_tensor(head, -1));
    assert_null(ws2_head_find(head, "rgb"));
    assert_int_equal(ws2_head_histories(head), 0);
    assert_null(ws2_head_history(head, 0));
    ws2_head_free(head);
    ws2_head_free(NULL);
}

static struct ws2_head *full_head(void)
{
    static const char *const classes[] = {"background", "wanted", "unwanted"};
    static const char *const options[] = {"threshold=3", "morph=5"};
    const struct ws2_history first = {"ws2-read", "0.1.0", NULL, 0, false, 0, NULL};
    const struct ws2_history second = {"ws2-cam", "0.1.0", options, 2, true, -7, "sha256:00ff"};
    struct ws2_error error = {0};
    struct ws2_head *head = ws2_head_new();
    assert_int_equal(ws2_head_set_seq(head, "Förderband 1"), 0);
    assert_int_equal(ws2_head_set_role(head, WS2_ROLE_AFTER), 0);
    assert_int_equal(ws2_head_set_size(head, 640, 480), 0);
    assert_int_equal(ws2_head_set_rate(head, 30000, 1001), 0);
    assert_int_equal(ws2_head_set_classes(head, classes, 3), 0);
    assert_int_equal(ws2_head_set_note(head, "truth.split", "test \"a\"\n"), 0);
    assert_int_equal(ws2_head_add_tensor(head, "rgb", WS2_U8, "h,w,3", "", &error), 0);
    assert_int_equal(ws2_head_add_tensor(head, "flow.next", WS2_F16, "2,h,w", "pixel", &error), 0);
    assert_int_equal(ws2_head_add_history(head, &first), 0);
    assert_int_equal(ws2_head_add_history(head, &second), 0);
    return head;
}

static const char full_json[] =
    "{\"classes\":[\"background\",\"wanted\",\"unwanted\"],\"history\":[{\"options\":[],\"program\":\"ws2-"
    "read\","
    "\"version\":\"0.1.0\"},{\"model\":\"sha256:00ff\",\"options\":[\"morph=5\",\"threshold=3\"],"
    "\"program\":\"ws2-cam\",\"seed\":-7,\"version\":\"0.1.0\"}],\"notes\":{\"truth.split\":\"test "
    "\\\"a\\\"\\n\"},"
    "\"rate\":[30000,1001],\"role\":\"after\",\"seq\":\"Förderband 1\",\"size\":[640,480],\"tensors\":["
    "{\"axes\":\"h,w,3\",\"dtype\":\"u8\",\"name\":\"rgb\",\"unit\":\"\"},"
    "{\"axes\":\"2,h,w\",\"dtype\":\"f16\",\"name\":\"flow.next\",\"unit\":\"pixel\"}]}";

static void check_full(const struct ws2_head *head)
{
    int64_t a, b;
    assert_string_equal(ws2_head_json(head), full_json);
    assert_string_equal(ws2_head_seq(head), "Förderband 1");
    assert_int_equal(ws2_head_role(head), WS2_ROLE_AFTER);
    ws2_head_size(head, &a, &b);
    assert_int_equal(a, 640);
    assert_int_equal(b, 480);
    ws2_head_rate(head, &a, &b);
    assert_int_equal(a, 30000);
    assert_int_equal(b, 1001);
    assert_int_equal(ws2_head_classes(head), 3);
    assert_string_equal(ws2_head_class(head, 2), "unwanted");
    assert_null(ws2_head_class(head, 3));
    assert_string_equal(ws2_head_note(head, "truth.split"), "test \"a\"\n");
    assert_int_equal(ws2_head_tensors(head), 2);
    assert_string_equal(ws2_head_tensor(head, 1)->name, "flow.next");
    assert_int_equal(ws2_head_tensor(head, 1)->dtype, WS2_F16);
    assert_string_equal(ws2_head_find(head, "rgb")->axes, "h,w,3");
    assert_string_equal(ws2_head_find(head, "flow.next")->unit, "pixel");
    assert_int_equal(ws2_head_histories(head), 2);
    assert_string_equal(ws2_head_history(head, 0),
                        "{\"options\":[],\"program\":\"ws2-read\",\"version\":\"0.1.0\"}");
}

static void every_field_comes_back(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_head *head = full_head(), *copy = ws2_head_copy(head);
    check_full(head);
    check_full(copy);
    struct ws2_head *read = ws2_head_parse((struct ws2_slice){full_json, strlen(full_json)}, &error);
    assert_non_null(read);
    check_full(read);
    /* A change of one leaves the other. */
    assert_int_equal(ws2_head_drop_tensor(copy, "rgb"), 0);
    assert_int_equal(ws2_head_drop_tensor(copy, "rgb"), 0);
    assert_null(ws2_head_find(copy, "rgb"));
    assert_non_null(ws2_head_find(copy, "flow.next"));
    check_full(head);
    ws2_head_free(read);
    ws2_head_free(copy);
    ws2_head_free(head);
}

static void fields_can_be_unset(void **state)
{
    (void)state;
    struct ws2_head *head = full_head();
    assert_int_equal(ws2_head_set_seq(head, ""), 0);
    assert_int_equal(ws2_head_set_role(head, WS2_ROLE_NONE), 0);
    assert_int_equal(ws2_head_set_size(head, 0, 0), 0);
    assert_int_equal(ws2_head_set_rate(head, 0, 1), 0);
    assert_int_equal(ws2_head_set_classes(head, NULL, 0), 0);
    assert_int_equal(ws2_head_drop_tensor(head, "rgb"), 0);
    assert_int_equal(ws2_head_drop_tensor(head, "flow.next"), 0);
    static const char *const gone[] = {"seq", "role", "size", "rate", "classes", "rgb", "flow"};
    for (int i = 0; i < 7; i++)
        assert_null(strstr(ws2_head_json(head), gone[i]));
    ws2_head_free(head);
}

static void wrong_values_change_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {"fine", "not \xff utf-8"}, *const control[] = {"fine", "two\nlines"};
    static const char *const long_text =
        "a text of more than sixty-three characters is too long for the axes of a tensor, or its unit";
    const struct ws2_history entry = {"x", "1", bad, 2, false, 0, NULL};
    struct ws2_error error = {0};
    struct ws2_head *head = full_head();
    assert_int_equal(ws2_head_set_seq(head, "\xc3"), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_seq(head, "bell\a"), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_role(head, (enum ws2_role)7), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_size(head, -1, 5), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_size(head, 5, 0), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_rate(head, 25, 0), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_classes(head, bad, 2), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_classes(head, control, 2), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_note(head, "key", "\xff"), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_note(head, "a\\b", "text"), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_note(head, "a\"b", "text"), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_set_note(head, "a\tb", "text"), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_add_history(head, &entry), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_add_tensor(head, "rgb", WS2_U8, "", "", &error), WS2_ERR_USAGE);
    assert_string_equal(error.text, "tensor 'rgb' is already in the stream");
    assert_int_equal(ws2_head_add_tensor(head, "", WS2_U8, "", "", NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_add_tensor(head, "a b", WS2_U8, "", "", NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_add_tensor(head, "a", WS2_DTYPES, "", "", NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_add_tensor(head, "a", WS2_U8, long_text, "", NULL), WS2_ERR_USAGE);
    assert_int_equal(ws2_head_add_tensor(head, "a", WS2_U8, "", long_text, NULL), WS2_ERR_USAGE);
    check_full(head);
    ws2_head_free(head);
}

static void roles_have_names(void **state)
{
    (void)state;
    enum ws2_role role;
    static const char *const names[] = {"none", "before", "after"};
    for (int i = 0; i < 3; i++) {
        assert_string_equal(ws2_role_name((enum ws2_role)i), names[i]);
        assert_int_equal(ws2_role_parse(names[i], &role), 0);
        assert_int_equal(role, i);
    }
    assert_int_equal(ws2_role_parse("during", &role), WS2_ERR_USAGE);
    assert_int_equal(ws2_role_parse("", &role), WS2_ERR_USAGE);
}

static void expect_difference(const struct ws2_head *a, const struct ws2_head *b, const char *text)
{
    for (int turn = 0; turn < 2; turn++) {
        struct ws2_error error = {0};
        assert_int_equal(ws2_head_agree(turn ? a : b, turn ? b : a, &error), WS2_ERR_INPUT);
        assert_non_null(strstr(error.text, text));
    }
}

static void agreement_names_the_difference(void **state)
{
    (void)state;
    static const char *const classes[] = {"background", "wanted", "else"};
    struct ws2_error error = {0};
    struct ws2_head *a = full_head(), *b = full_head();
    assert_int_equal(ws2_head_set_seq(b, "another"), 0);
    assert_int_equal(ws2_head_set_rate(b, 25, 1), 0);
    assert_int_equal(ws2_head_set_note(b, "k", "v"), 0);
    assert_int_equal(ws2_head_agree(a, b, &error), 0);
    assert_int_equal(ws2_head_set_role(b, WS2_ROLE_BEFORE), 0);
    expect_difference(a, b, "role");
    assert_int_equal(ws2_head_set_role(b, WS2_ROLE_AFTER), 0);
    assert_int_equal(ws2_head_set_size(b, 640, 481), 0);
    expect_difference(a, b, "640x481");
    assert_int_equal(ws2_head_set_size(b, 640, 480), 0);
    assert_int_equal(ws2_head_set_classes(b, classes, 3), 0);
    expect_difference(a, b, "class");
    assert_int_equal(ws2_head_set_classes(b, NULL, 0), 0);
    expect_difference(a, b, "class");
    ws2_head_free(b);
    b = full_head();
    assert_int_equal(ws2_head_add_tensor(b, "fg", WS2_U8, "h,w", "", &error), 0);
    expect_difference(a, b, "'fg'");
    assert_int_equal(ws2_head_add_tensor(a, "fg", WS2_I8, "h,w", "", &error), 0);
    expect_difference(a, b, "'fg'");
    /* The order of the table says nothing. */
    assert_int_equal(ws2_head_drop_tensor(a, "fg"), 0);
    assert_int_equal(ws2_head_drop_tensor(b, "fg"), 0);
    assert_int_equal(ws2_head_drop_tensor(b, "rgb"), 0);
    assert_int_equal(ws2_head_add_tensor(b, "rgb", WS2_U8, "h,w,3", "", &error), 0);
    assert_int_equal(ws2_head_agree(a, b, &error), 0);
    ws2_head_free(a);
    ws2_head_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_head_is_empty), cmocka_unit_test(every_field_comes_back),
        cmocka_unit_test(fields_can_be_unset), cmocka_unit_test(wrong_values_change_nothing),
        cmocka_unit_test(roles_have_names),    cmocka_unit_test(agreement_names_the_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
