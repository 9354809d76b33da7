/* The format of streams: the page has the header's table and a real stream, what is unknown is kept or skipped. */
#include "stream_help.h"

/* ---- the page and the table --------------------------------------------------------------------------- */

static char *read_text(const char *path)
{
    const char *top = getenv("TOP");
    char full[4096];
    snprintf(full, sizeof full, "%s/%s", top != NULL ? top : ".", path);
    FILE *file = fopen(full, "r");
    if (file == NULL)
        return NULL;
    struct bytes bytes = {0};
    char part[4096];
    for (size_t got; (got = fread(part, 1, sizeof part, file)) > 0;)
        bytes_add(&bytes, part, got);
    fclose(file);
    bytes.data[bytes.size] = '\0';
    return (char *)bytes.data;
}

/* Appends a cell without the blanks around it. */
static void add_cell(struct bytes *rows, const char *cell, size_t size, bool last)
{
    while (size > 0 && *cell == ' ') {
        cell++;
        size--;
    }
    while (size > 0 && cell[size - 1] == ' ')
        size--;
    bytes_add(rows, cell, size);
    bytes_add(rows, last ? "\n" : "|", 1);
}

static void add_row(struct bytes *rows, const char *row, size_t size, const char *separator)
{
    const char *end = row + size;
    for (;;) {
        const char *next = memmem(row, (size_t)(end - row), separator, strlen(separator));
        add_cell(rows, row, (size_t)((next != NULL ? next : end) - row), next == NULL);
        if (next == NULL)
            return;
        row = next + strlen(separator);
    }
}

/* Rows " *   a | b | c" of the header. */
static struct bytes rows_of_header(const char *text)
{
    struct bytes rows = {0};
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        const size_t size = strcspn(line, "\n");
        if (strncmp(line, " *   ", 5) == 0 && memchr(line, '|', size) != NULL)
            add_row(&rows, line + 5, size - 5, "|");
        if (line[size] == '\0')
            break;
    }
    bytes_add(&rows, "", 1);
    return rows;
}

/* Rows ".It a Ta b Ta c" of the page, with mdoc's escapes undone. */
static struct bytes rows_of_page(const char *text)
{
    struct bytes rows = {0};
    char row[512];
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        const size_t size = strcspn(line, "\n");
        if (strncmp(line, ".It ", 4) == 0 && memmem(line, size, " Ta ", 4) != NULL) {
            size_t used = 0;
            for (size_t i = 4; i < size; i++) {
                if (strncmp(line + i, "\\(dq", 4) == 0) {
                    row[used++] = '"';
                    i += 3;
                } else if (strncmp(line + i, "\\e", 2) == 0) {
                    row[used++] = '\\';
                    i++;
                } else if (strncmp(line + i, "Sy ", 3) == 0) {
                    i += 2;
                } else {
                    row[used++] = line[i];
                }
                assert_true(used < sizeof row);
            }
            add_row(&rows, row, used, " Ta ");
        }
        if (line[size] == '\0')
            break;
    }
    bytes_add(&rows, "", 1);
    return rows;
}

static void expect_row(const struct bytes *rows, const char *format, ...)
{
    char row[200];
    va_list args;
    va_start(args, format);
    vsnprintf(row, sizeof row, format, args);
    va_end(args);
    if (strstr((const char *)rows->data, row) == NULL)
        fail_msg("the table lacks the row: %s", row);
}

static void page_has_the_table_of_the_header(void **state)
{
    (void)state;
    char *header = read_text("lib/stream/format.h"), *page = read_text("man/man5/ws2.5");
    if (header == NULL || page == NULL) {
        free(header);
        free(page);
        print_message("not run from the source tree\n");
        skip();
    }
    struct bytes from_header = rows_of_header(header), from_page = rows_of_page(page);
    assert_string_equal((char *)from_page.data, (char *)from_header.data);
    /* And both tell what the code does. */
    expect_row(&from_page, "any|0|4|skippable magic 0x%X\n", WS2_SKIPPABLE_MAGIC);
    expect_row(&from_page, "any|8|4|tag: %s, %s or %s\n", WS2_TAG_HEAD, WS2_TAG_RECORD, WS2_TAG_TAIL);
    expect_row(&from_page, "any|12|2|format version: %d\n", WS2_FORMAT_VERSION);
    expect_row(&from_page, "any|%d|n|body\n", WS2_BODY_AT);
    expect_row(&from_page, "size of this frame: %d + 8 c\n", WS2_BODY_AT + WS2_TAIL_BODY_MIN);
    expect_row(&from_page, "end magic: \"%.6s\\r\\n\"\n", WS2_END_MAGIC);
    expect_row(&from_page, "body|%d\n", WS2_BODY_MAX);
    expect_row(&from_page, "tensors|%d\n", WS2_TENSORS_MAX);
    expect_row(&from_page, "axes|%d\n", WS2_AXES_MAX);
    expect_row(&from_page, "tensor bytes|%zu\n", WS2_TENSOR_BYTES_MAX);
    expect_row(&from_page, "records|%d\n", WS2_RECORDS_MAX);
    expect_row(&from_page, "name|%d\n", WS2_NAME_MAX);
    expect_row(&from_page, "axes and unit|%d\n", WS2_TEXT_MAX);
    expect_row(&from_page, "JSON depth|%d\n", WS2_JSON_DEPTH_MAX);
    expect_row(&from_page, "JSON values|%d\n", WS2_JSON_VALUES_MAX);
    expect_row(&from_page, "JSON members|%d\n", WS2_JSON_MEMBERS_MAX);
    expect_row(&from_page, "\n%d|%s|", WS2_FORMAT_VERSION, WS2_VERSION);
    char text[20];
    snprintf(text, sizeof text, "format %d,", WS2_FORMAT_VERSION);
    assert_non_null(strstr(ws2_stream_version(), text));
    bytes_free(&from_header);
    bytes_free(&from_page);
    free(header);
    free(page);
}

/* Lines "00e0  3a 5b ...": offset and up to 16 bytes. */
static struct bytes dump_of_page(const char *text)
{
    struct bytes bytes = {0};
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        unsigned offset;
        int used = 0;
        if (strspn(line, "0123456789abcdef") != 4 || sscanf(line, "%4x  %n", &offset, &used) != 1 ||
            used != 6)
            continue;
        assert_int_equal(offset, bytes.size);
        for (int i = 0; i < 16 && line[6 + 3 * i] != ' '; i++) {
            const unsigned char byte = (unsigned char)strtoul(line + 6 + 3 * i, NULL, 16);
            bytes_add(&bytes, &byte, 1);
            if (line[8 + 3 * i] == '\0')
                break;
        }
    }
    return bytes;
}

static void page_shows_a_real_stream(void **state)
{
    (void)state;
    char *page = read_text("man/man5/ws2.5");
    if (page == NULL) {
        print_message("not run from the source tree\n");
        skip();
    }
    struct bytes shown = dump_of_page(page), made = make_example();
    assert_int_equal(shown.size, made.size);
    assert_memory_equal(shown.data, made.data, made.size);
    assert_int_equal(read_bytes(&shown).status, 0);
    bytes_free(&shown);
    bytes_free(&made);
    free(page);
}

/* ---- what is kept and what is skipped ----------------------------------------------------------------- */

static void foreign_frames_are_skipped(void **state)
{
    (void)state;
    struct bytes whole = make_stream(2, 2, 5), one = make_stream(1, 2, 5), bytes = {0};
    const struct outcome want = read_bytes(&whole);
    const unsigned char *tail = (const unsigned char *)memmem(one.data, one.size, WS2_TAG_TAIL, 4) - 8;
    add_foreign(&bytes, 0x184D2A5E, "a seek table of somebody else");
    add_foreign(&bytes, WS2_SKIPPABLE_MAGIC, "");
    add_foreign(&bytes, WS2_SKIPPABLE_MAGIC, "short");
    add_foreign(&bytes, WS2_SKIPPABLE_MAGIC, "WS2X is a tag of the future");
    bytes_add(&bytes, one.data, one.size);
    add_foreign(&bytes, 0x184D2A50, "between the segments");
    bytes_add(&bytes, whole.data + one.size, whole.size - one.size);
    add_foreign(&bytes, 0x184D2A5F, "at the end");
    const struct outcome got = read_bytes(&bytes), random = read_random(&bytes);
    assert_int_equal(got.status, 0);
    assert_int_equal(got.segments, 2);
    assert_true(got.hash == want.hash);
    assert_int_equal(random.status, 0);
    assert_int_equal(random.segments, 2);
    assert_true(random.hash == want.hash);
    bytes_free(&bytes);
    /* Inside a segment it counts: the TAIL's offsets were made without it. */
    bytes_add(&bytes, one.data, (size_t)(tail - one.data));
    add_foreign(&bytes, 0x184D2A50, "before the TAIL");
    bytes_add(&bytes, tail, (size_t)(one.data + one.size - tail));
    assert_int_equal(read_bytes(&bytes).status, WS2_ERR_INPUT);
    bytes_free(&bytes);
    bytes_free(&one);
    bytes_free(&whole);
}

static void unknown_keys_are_kept(void **state)
{
    (void)state;
    static const char head[] =
        "{\"aa\":[1,{\"deep\":null}],\"seq\":\"s\",\"tensors\":[{\"axes\":\"h,w\",\"colour\":\"red\","
        "\"dtype\":\"u8\",\"name\":\"fg\",\"unit\":\"\"}],\"zz\":true}";
    struct bytes plain = make_example(), bytes = {0};
    const unsigned char *frame = memmem(plain.data, plain.size, "\x28\xb5\x2f\xfd", 4);
    char record[600];
    snprintf(record, sizeof record,
             "{\"aa\":{\"k\":[-5]},\"frame\":7,\"light\":\"\\u00e9\\n\",\"pts\":1,\"tensors\":[{\"a\":0,"
             "\"bytes\":6,\"dtype\":\"u8\",\"hash\":%u,\"kind\":\"x\",\"name\":\"fg\",\"packed\":19,"
             "\"shape\":[2,3],\"z\":[]}],\"zz\":false}",
             ws2_checksum(frame, 19));
    add_text(&bytes, WS2_TAG_HEAD, head);
    const size_t head_size = bytes.size;
    add_text(&bytes, WS2_TAG_RECORD, record);
    bytes_add(&bytes, frame, 19);
    /* Read the record, and write it again. */
    struct ws2_error error = {0};
    struct ws2_reader *reader;
    struct ws2_record *kept = ws2_record_new();
    struct sink sink;
    char path[64];
    const int fd = memory_file(&bytes, path);
    assert_int_equal(ws2_reader_open(&reader, path, &error), 0);
    assert_string_equal(ws2_head_json(ws2_reader_head(reader)), head);
    assert_int_equal(ws2_reader_next(reader, kept), 1);
    sink_open(&sink, 3);
    assert_int_equal(ws2_writer_begin(sink.writer, ws2_reader_head(reader)), 0);
    assert_int_equal(ws2_writer_put(sink.writer, kept), 0);
    assert_int_equal(ws2_writer_end(sink.writer), 0);
    struct bytes out = sink_close(&sink, NULL);
    assert_true(out.size > bytes.size);
    assert_memory_equal(out.data, bytes.data, bytes.size);
    assert_int_equal(read_bytes(&out).status, 0);
    /* A change of the head leaves them in place too. */
    struct ws2_head *changed = ws2_head_copy(ws2_reader_head(reader));
    assert_int_equal(ws2_head_set_role(changed, WS2_ROLE_BEFORE), 0);
    assert_int_equal(ws2_head_add_tensor(changed, "new", WS2_U8, "", "", &error), 0);
    assert_non_null(strstr(ws2_head_json(changed), "\"aa\":[1,{\"deep\":null}]"));
    assert_non_null(strstr(ws2_head_json(changed), "\"colour\":\"red\""));
    assert_non_null(strstr(ws2_head_json(changed), "\"zz\":true"));
    assert_true(head_size > 0);
    ws2_head_free(changed);
    ws2_record_free(kept);
    ws2_reader_close(reader);
    close(fd);
    bytes_free(&out);
    bytes_free(&bytes);
    bytes_free(&plain);
}

/* Members that a foreign writer left unsorted come out sorted, whatever their keys. */
static void unknown_keys_are_sorted_in(void **state)
{
    (void)state;
    struct ws2_error error = {0};
    struct ws2_head *head = ws2_head_new();
    struct ws2_record *record = ws2_record_new();
    struct ws2_text text = {0};
    static const char in[] =
        "{ \"zz\" : 1 , \"tensors\" : [ ], \"g\":[1, 2],\"pts\":-1,\"a\":\"}\",\"frame\":0,"
        "\"tensor\":{\"x\":\"\\\"\"}}";
    assert_int_equal(ws2_record_parse(record, (struct ws2_slice){in, strlen(in)}, head, &error), 0);
    assert_int_equal(ws2_record_json(record, &text), 0);
    ws2_text_add(&text, "", 1);
    assert_string_equal(text.data, "{\"a\":\"}\",\"frame\":0,\"g\":[1, 2],\"pts\":-1,"
                                   "\"tensor\":{\"x\":\"\\\"\"},\"tensors\":[],\"zz\":1}");
    ws2_text_free(&text);
    struct bytes many = {0};
    bytes_puts(&many, "{\"frame\":0,\"pts\":0,\"tensors\":[]");
    for (int i = 0; i < 60; i++) {
        char member[20];
        bytes_add(&many, member, (size_t)snprintf(member, sizeof member, ",\"k%d\":0", i));
    }
    bytes_puts(&many, "}");
    error = (struct ws2_error){0};
    assert_int_equal(ws2_record_parse(record, (struct ws2_slice){(char *)many.data, many.size}, head, &error),
                     WS2_ERR_INPUT);
    assert_non_null(strstr(error.text, "too many unknown keys"));
    bytes_free(&many);
    ws2_record_free(record);
    ws2_head_free(head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(page_has_the_table_of_the_header), cmocka_unit_test(page_shows_a_real_stream),
        cmocka_unit_test(foreign_frames_are_skipped),       cmocka_unit_test(unknown_keys_are_kept),
        cmocka_unit_test(unknown_keys_are_sorted_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
