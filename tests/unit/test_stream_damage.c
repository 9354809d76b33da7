/* Damaged streams: every cut, flipped, foreign and hostile input is told, and nothing wrong is read from it. */
#include <zstd.h>

#include "stream_help.h"

/* ---- cut and flipped ---------------------------------------------------------------------------------- */

static void a_cut_at_every_byte_is_truncated(void **state)
{
    (void)state;
    struct bytes one = make_stream(1, 3, 6), two = make_stream(2, 3, 6);
    for (size_t size = 0; size < two.size; size++) {
        struct bytes cut = {two.data, size};
        const int want = size == one.size ? 0 : WS2_ERR_TRUNCATED;
        const struct outcome direct = read_bytes(&cut), file = read_file_bytes(&cut),
                             indexed = read_random(&cut);
        if (direct.status != want || file.status != want || indexed.status != want)
            fail_msg("cut at %zu of %zu: %d %d %d: %s%s%s", size, two.size, direct.status, file.status,
                     indexed.status, direct.error.text, file.error.text, indexed.error.text);
    }
    bytes_free(&one);
    bytes_free(&two);
}

static void a_flipped_bit_is_always_noticed(void **state)
{
    (void)state;
    struct bytes bytes = make_stream(2, 2, 8);
    const struct outcome whole = read_bytes(&bytes);
    assert_int_equal(whole.status, 0);
    for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
        bytes.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        const struct outcome direct = read_bytes(&bytes);
        if (direct.status != WS2_ERR_INPUT && direct.status != WS2_ERR_TRUNCATED)
            fail_msg("bit %zu of byte %zu: %d", bit % 8, bit / 8, direct.status);
        bytes.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    bytes_free(&bytes);
}

/* Random access reads what it is asked for: a flip either shows there, or nothing that was read is wrong. */
static void a_flipped_bit_never_changes_a_random_read(void **state)
{
    (void)state;
    struct bytes bytes = make_stream(2, 2, 8);
    const struct outcome whole = read_random(&bytes);
    assert_int_equal(whole.status, 0);
    assert_int_equal(whole.records, 4);
    int noticed = 0;
    for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
        bytes.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        const struct outcome random = read_random(&bytes);
        noticed += random.status < 0;
        if (random.status == 0 && (random.hash != whole.hash || random.records != 4 || random.segments != 2))
            fail_msg("bit %zu of byte %zu changed what was read", bit % 8, bit / 8);
        bytes.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_true(noticed > (int)(8 * bytes.size) * 9 / 10);
    bytes_free(&bytes);
}

static void damage_is_named(void **state)
{
    (void)state;
    struct bytes bytes = make_stream(1, 4, 30);
    /* The last byte before the TAIL is the checksum of frame 13's mask. */
    const size_t tail = WS2_BODY_AT + WS2_TAIL_BODY_MIN + 4 * 8;
    bytes.data[bytes.size - tail - 1] ^= 0x10;
    const struct outcome flipped = read_file_bytes(&bytes);
    assert_int_equal(flipped.status, WS2_ERR_INPUT);
    assert_string_equal(flipped.error.text, "memory: frame 13: tensor 'fg' is corrupt (checksum)");
    bytes.data[bytes.size - tail - 1] ^= 0x10;
    struct bytes cut = {bytes.data, bytes.size - tail - 1};
    assert_string_equal(read_file_bytes(&cut).error.text, "memory: frame 13: truncated tensor 'fg'");
    cut.size = bytes.size - tail;
    assert_string_equal(read_file_bytes(&cut).error.text,
                        "memory: after frame 13: truncated, the TAIL is missing");
    cut.size = 0;
    assert_string_equal(read_file_bytes(&cut).error.text, "memory: no data at all");
    bytes_free(&bytes);
}

/* A good hash over bad content: zstd's own checksum travels end to end and is checked when unpacking. */
static void a_tensor_forged_with_its_hash_is_noticed(void **state)
{
    (void)state;
    struct bytes bytes = make_example();
    unsigned char *frame = memmem(bytes.data, bytes.size, "\x28\xb5\x2f\xfd", 4);
    assert_non_null(frame);
    char old[32], new[32];
    snprintf(old, sizeof old, "\"hash\":%u,", ws2_checksum(frame, 19));
    frame[10] ^= 1;
    const int digits = snprintf(new, sizeof new, "\"hash\":%u,", ws2_checksum(frame, 19));
    const unsigned char *record = memmem(bytes.data, bytes.size, WS2_TAG_RECORD, 4);
    const unsigned char *body = record + WS2_HEADER_SIZE,
                        *at = memmem(body, (size_t)(frame - body), old, strlen(old));
    assert_non_null(at);
    struct bytes forged = {0}, text = {0};
    bytes_add(&text, body, (size_t)(at - body));
    bytes_add(&text, new, (size_t)digits);
    bytes_add(&text, at + strlen(old), (size_t)(frame - at) - strlen(old));
    bytes_add(&forged, bytes.data, (size_t)(record - 8 - bytes.data));
    add_frame(&forged, WS2_TAG_RECORD, 1, 0, text.data, text.size);
    bytes_free(&text);
    bytes_add(&forged, frame, 19);
    const struct outcome outcome = read_bytes(&forged);
    assert_int_equal(outcome.status, WS2_ERR_INPUT);
    assert_string_equal(outcome.error.text, "tensor 'fg' is corrupt (checksum)");
    bytes_free(&forged);
    bytes_free(&bytes);
}

/* ---- foreign and hostile ------------------------------------------------------------------------------ */

static void expect(const struct bytes *bytes, int status, const char *text)
{
    const struct outcome direct = read_bytes(bytes), file = read_file_bytes(bytes);
    if (direct.status != status || strstr(direct.error.text, text) == NULL)
        fail_msg("%d '%s' instead of %d '%s'", direct.status, direct.error.text, status, text);
    assert_int_equal(file.status, status);
    assert_true(read_random(bytes).status < 0 || status == 0);
}

static void expect_text(const char *text, size_t size, int status, const char *message)
{
    const struct bytes bytes = {(unsigned char *)text, size};
    expect(&bytes, status, message);
}

static void foreign_files_are_refused(void **state)
{
    (void)state;
    char zeros[4096] = {0}, packed[200];
    expect_text("", 0, WS2_ERR_TRUNCATED, "no data at all");
    expect_text("W", 1, WS2_ERR_TRUNCATED, "truncated");
    expect_text("W*M", 3, WS2_ERR_TRUNCATED, "truncated");
    expect_text("Z", 1, WS2_ERR_TRUNCATED, "truncated"); /* 0x5A begins a skippable frame too */
    expect_text("x", 1, WS2_ERR_INPUT, "not a ws2 stream");
    expect_text("W?", 2, WS2_ERR_INPUT, "not a ws2 stream");
    expect_text("\x89PNG\r\n\x1a\n", 8, WS2_ERR_INPUT, "not a ws2 stream");
    expect_text("all the king's horses", 21, WS2_ERR_INPUT, "not a ws2 stream");
    expect_text(zeros, sizeof zeros, WS2_ERR_INPUT, "not a ws2 stream");
    const size_t size = ZSTD_compress(packed, sizeof packed, "hello", 5, 3);
    expect_text(packed, size, WS2_ERR_INPUT, "zstd data without a HEAD");
    struct bytes bytes = {0};
    add_foreign(&bytes, 0x184D2A50, "only somebody else's frame");
    expect(&bytes, WS2_ERR_TRUNCATED, "truncated");
    bytes_free(&bytes);
    assert_int_equal(read_path("/").status, WS2_ERR_INPUT);
    assert_int_equal(read_path("/no/such/file.ws2").status, WS2_ERR_INPUT);
    assert_int_equal(read_path("/dev/null").status, WS2_ERR_TRUNCATED);
}

static const char good_head[] =
    "{\"tensors\":[{\"axes\":\"h,w\",\"dtype\":\"u8\",\"name\":\"fg\",\"unit\":\"\"}]}";

struct hostile {
    const char *json, *message;
};

static const struct hostile heads[] = {
    {"", "not a JSON object"},
    {"[]", "not a JSON object"},
    {"{", "bad JSON"},
    {"{}", "no table of tensors"},
    {"{\"tensors\":{}}", "no table of tensors"},
    {"{\"tensors\":[]} x", "something follows"},
    {"{\"tensors\":[],\"tensors\":[]}", "a key stands twice"},
    {"{\"tensors\":[],\"x\":{\"a\":1,\"b\":2,\"a\":3}}", "a key stands twice"},
    {"{\"tensors\":[],\"x\":1.5}", "not an integer"},
    {"{\"tensors\":[],\"x\":1e3}", "not an integer"},
    {"{\"tensors\":[],\"x\":9223372036854775808}", "64 bits"},
    {"{\"tensors\":[],\"x\":-9223372036854775809}", "64 bits"},
    {"{\"tensors\":[],\"x\":99999999999999999999999999}", "64 bits"},
    {"{\"tensors\":[],\"x\":01}", "bad JSON"},
    {"{\"tensors\":[],\"x\":-}", "bad JSON"},
    {"{\"tensors\":[],\"x\":nul}", "bad JSON"},
    {"{\"tensors\":[],}", "bad JSON"},
    {"{\"tensors\":[1,]}", "bad JSON"},
    {"{\"tensors\":[],\"x\":\"\\q\"}", "bad JSON"},
    {"{\"tensors\":[],\"x\":\"\\u12g4\"}", "bad JSON"},
    {"{\"tensors\":[],\"x\":\"\\u0000\"}", "u0000"},
    {"{\"tensors\":[],\"x\":\"\\ud800\"}", "HEAD"},
    {"{\"tensors\":[],\"x\\u0061\":1}", "backslash"},
    {"{\"tensors\":[],\"x\":\"a\nb\"}", "bad JSON"},
    {"{\"tensors\":[],\"x\":\"\xff\"}", "UTF-8"},
    {"{\"tensors\":[],\"x\":\"\xc0\x80\"}", "UTF-8"},
    {"{\"tensors\":[],\"x\":\"\xed\xa0\x80\"}", "UTF-8"},
    {"{\"tensors\":[],\"x\":\"\xf4\x90\x80\x80\"}", "UTF-8"},
    {"{\"tensors\":[],\"x\":\"\xe2\x82\"}", "UTF-8"},
    {"{\"tensors\":[],\"seq\":7}", "bad sequence name"},
    {"{\"tensors\":[],\"seq\":\"a\\u001b[2J\"}", "bad sequence name"},
    {"{\"tensors\":[],\"role\":\"sideways\"}", "bad role"},
    {"{\"tensors\":[],\"size\":[0,5]}", "bad size"},
    {"{\"tensors\":[],\"size\":[5]}", "bad size"},
    {"{\"tensors\":[],\"size\":[5,-5]}", "bad size"},
    {"{\"tensors\":[],\"size\":\"5x5\"}", "bad size"},
    {"{\"tensors\":[],\"rate\":[25,0]}", "bad rate"},
    {"{\"tensors\":[],\"classes\":[1]}", "bad class names"},
    {"{\"tensors\":[],\"classes\":{}}", "bad class names"},
    {"{\"tensors\":[],\"notes\":[]}", "bad notes"},
    {"{\"tensors\":[],\"notes\":{\"a\":1}}", "bad notes"},
    {"{\"tensors\":[],\"history\":{}}", "bad history"},
    {"{\"tensors\":[],\"history\":[1]}", "bad history"},
    {"{\"tensors\":[1]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"u8\",\"name\":\"\",\"unit\":\"\"}]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"u8\",\"name\":\"a b\",\"unit\":\"\"}]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"u9\",\"name\":\"a\",\"unit\":\"\"}]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"complex128\",\"name\":\"a\",\"unit\":\"\"}]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"u8\",\"name\":\"a\"}]}", "bad row"},
    {"{\"tensors\":[{\"axes\":\"\",\"dtype\":\"u8\",\"name\":\"a\",\"unit\":\"\"},"
     "{\"axes\":\"\",\"dtype\":\"i8\",\"name\":\"a\",\"unit\":\"\"}]}",
     "stands twice"},
    {"{\"tensors\":[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}", "nested too deep"},
};

static void hostile_heads_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct bytes bytes = {0};
        add_text(&bytes, WS2_TAG_HEAD, heads[i].json);
        expect(&bytes, WS2_ERR_INPUT, heads[i].message);
        bytes_free(&bytes);
    }
}

#define ROW(bytes, packed, shape)                                                                            \
    "{\"bytes\":" bytes ",\"dtype\":\"u8\",\"hash\":1,\"name\":\"fg\",\"packed\":" packed                    \
    ",\"shape\":" shape "}"
#define RECORD(row) "{\"frame\":3,\"pts\":0,\"tensors\":[" row "]}"

static const struct hostile records[] = {
    {"", "not a JSON object"},
    {"{\"pts\":0,\"tensors\":[]}", "bad frame"},
    {"{\"frame\":-1,\"pts\":0,\"tensors\":[]}", "bad frame"},
    {"{\"frame\":\"1\",\"pts\":0,\"tensors\":[]}", "bad frame"},
    {"{\"frame\":1,\"tensors\":[]}", "bad pts"},
    {"{\"frame\":1,\"pts\":0}", "no table"},
    {"{\"frame\":1,\"pts\":0,\"tensors\":7}", "no table"},
    {RECORD("7"), "bad table"},
    {RECORD("{}"), "lacks a key"},
    {RECORD(ROW("6", "19", "[2,3]") "," ROW("6", "19", "[2,3]")), "frame 3: tensor 'fg' stands twice"},
    {RECORD("{\"bytes\":6,\"dtype\":\"u8\",\"hash\":1,\"name\":\"rgb\",\"packed\":19,\"shape\":[6]}"),
     "tensor 'rgb' is not in the HEAD"},
    {RECORD("{\"bytes\":6,\"dtype\":\"i8\",\"hash\":1,\"name\":\"fg\",\"packed\":19,\"shape\":[6]}"),
     "tensor 'fg' is not u8"},
    {RECORD("{\"bytes\":6,\"dtype\":\"u8\",\"hash\":1,\"name\":\"\\u001b\",\"packed\":19,\"shape\":[6]}"),
     "bad tensor name"},
    {RECORD("{\"bytes\":6,\"dtype\":\"u8\",\"hash\":4294967296,\"name\":\"fg\",\"packed\":19,\"shape\":[6]}"),
     "bad size or hash"},
    {RECORD("{\"bytes\":6,\"dtype\":\"u8\",\"hash\":-1,\"name\":\"fg\",\"packed\":19,\"shape\":[6]}"),
     "bad size or hash"},
    {RECORD(ROW("-6", "19", "[6]")), "bad size or hash"},
    {RECORD(ROW("6", "-19", "[6]")), "bad size or hash"},
    {RECORD(ROW("6", "\"19\"", "[6]")), "bad size or hash"},
    {RECORD(ROW("6", "19", "6")), "bad shape"},
    {RECORD(ROW("6", "19", "[-6]")), "bad shape"},
    {RECORD(ROW("6", "19", "[-2,-3]")), "bad shape"},
    {RECORD(ROW("6", "19", "[6,\"1\"]")), "bad shape"},
    {RECORD(ROW("1", "19", "[1,1,1,1,1,1,1,1,1]")), "bad shape"},
    {RECORD(ROW("7", "19", "[2,3]")), "do not fit its shape"},
    {RECORD(ROW("0", "19", "[4294967296,4294967296]")), "do not fit its shape"},
    {RECORD(ROW("6", "19", "[9223372036854775807,9223372036854775807,9223372036854775807]")),
     "do not fit its shape"},
    {RECORD(ROW("2147483649", "2147483649", "[2147483649]")), "larger than 2 GiB"},
    {RECORD(ROW("9223372036854775807", "19", "[9223372036854775807]")), "larger than 2 GiB"},
    {RECORD(ROW("2147483648", "19", "[2147483648]")), "compressed size 19 is impossible"},
    {RECORD(ROW("6", "9999", "[6]")), "compressed size 9999 is impossible"},
    {RECORD(ROW("6", "0", "[6]")), "compressed size 0 is impossible"},
    {RECORD(ROW("6", "13", "[6]")), "compressed size 13 is impossible"},
};

static void hostile_records_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        struct bytes bytes = {0};
        add_text(&bytes, WS2_TAG_HEAD, good_head);
        add_text(&bytes, WS2_TAG_RECORD, records[i].json);
        expect(&bytes, WS2_ERR_INPUT, records[i].message);
        bytes_free(&bytes);
    }
}

/* A promise of 2 GiB with nothing behind it: told as a cut, and no memory taken for it. */
static void a_huge_promise_is_only_a_cut(void **state)
{
    (void)state;
    struct bytes bytes = {0};
    add_text(&bytes, WS2_TAG_HEAD, good_head);
    add_text(&bytes, WS2_TAG_RECORD, RECORD(ROW("2147483648", "2147483648", "[2147483648]")));
    expect(&bytes, WS2_ERR_TRUNCATED, "truncated tensor 'fg'");
    bytes_add(&bytes, "\x28\xb5\x2f\xfd and so on", 14);
    expect(&bytes, WS2_ERR_TRUNCATED, "truncated tensor 'fg'");
    bytes_free(&bytes);
}

static void huge_and_deep_metadata_is_refused(void **state)
{
    (void)state;
    struct bytes bytes = {0}, text = {0};
    unsigned char head[WS2_BODY_AT] = {0x57, 0x2A, 0x4D, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 'W', 'S', '2', 'H', 1};
    bytes_add(&bytes, head, sizeof head);
    expect(&bytes, WS2_ERR_INPUT, "metadata larger than 16 MiB");
    ws2_store32(bytes.data + 4, WS2_HEADER_SIZE + WS2_BODY_MAX + 1);
    expect(&bytes, WS2_ERR_INPUT, "metadata larger than 16 MiB");
    ws2_store32(bytes.data + 4, WS2_HEADER_SIZE + WS2_BODY_MAX);
    expect(&bytes, WS2_ERR_TRUNCATED, "truncated");
    /* 4 GiB of somebody else's: skipped, and missing. */
    bytes.data[8] = 'X';
    ws2_store32(bytes.data + 4, 0xFFFFFFFF);
    expect(&bytes, WS2_ERR_TRUNCATED, "truncated");
    bytes_free(&bytes);
    for (int i = 0; i < 100000; i++)
        bytes_puts(&text, "[");
    struct bytes deep = {0};
    bytes_puts(&deep, "{\"tensors\":[],\"x\":");
    bytes_add(&deep, text.data, text.size);
    add_frame(&bytes, WS2_TAG_HEAD, 1, 0, deep.data, deep.size);
    expect(&bytes, WS2_ERR_INPUT, "nested too deep");
    bytes_free(&bytes);
    bytes_free(&deep);
    bytes_free(&text);
    /* Many small values cost far more memory than bytes when built: refused by number. */
    bytes_puts(&deep, "{\"tensors\":[],\"x\":[0");
    for (int i = 0; i < 70000; i++)
        bytes_puts(&deep, ",0");
    bytes_puts(&deep, "]}");
    add_frame(&bytes, WS2_TAG_HEAD, 1, 0, deep.data, deep.size);
    expect(&bytes, WS2_ERR_INPUT, "too many values");
    bytes_free(&bytes);
    bytes_free(&deep);
    bytes_puts(&deep, "{\"tensors\":[]");
    for (int i = 0; i < WS2_JSON_MEMBERS_MAX; i++) {
        char member[20];
        bytes_add(&deep, member, (size_t)snprintf(member, sizeof member, ",\"k%d\":0", i));
    }
    bytes_puts(&deep, "}");
    add_frame(&bytes, WS2_TAG_HEAD, 1, 0, deep.data, deep.size);
    expect(&bytes, WS2_ERR_INPUT, "too many members");
    bytes_free(&bytes);
    bytes_free(&deep);
}

static void other_versions_and_flags_are_refused(void **state)
{
    (void)state;
    struct bytes bytes = {0};
    add_frame(&bytes, WS2_TAG_HEAD, 2, 0, good_head, strlen(good_head));
    expect(&bytes, WS2_ERR_INPUT, "format version 2, this program knows up to 1");
    bytes_free(&bytes);
    add_frame(&bytes, WS2_TAG_HEAD, 0, 0, good_head, strlen(good_head));
    expect(&bytes, WS2_ERR_INPUT, "version or flags");
    bytes_free(&bytes);
    add_frame(&bytes, WS2_TAG_HEAD, 1, 1, good_head, strlen(good_head));
    expect(&bytes, WS2_ERR_INPUT, "version or flags");
    bytes_free(&bytes);
}

/* Frames in the wrong order, and records lost or doubled by a bad copy, each frame good in itself. */
static void wrong_order_is_noticed(void **state)
{
    (void)state;
    struct bytes whole = make_stream(1, 3, 4), bytes = {0};
    const unsigned char *record[4];
    const unsigned char *at = whole.data;
    for (int i = 0; i < 3; i++) {
        at = memmem(at, (size_t)(whole.data + whole.size - at), WS2_TAG_RECORD, 4);
        record[i] = at - 8;
        at++;
    }
    record[3] =
        (const unsigned char *)memmem(at, (size_t)(whole.data + whole.size - at), WS2_TAG_TAIL, 4) - 8;
    const unsigned char *end = whole.data + whole.size;
    bytes_add(&bytes, whole.data, (size_t)(record[1] - whole.data)); /* the second is lost */
    bytes_add(&bytes, record[2], (size_t)(end - record[2]));
    expect(&bytes, WS2_ERR_INPUT, "the TAIL counts 3 records, 2 are there");
    bytes_free(&bytes);
    bytes_add(&bytes, whole.data, (size_t)(record[2] - whole.data)); /* the second stands twice */
    bytes_add(&bytes, record[1], (size_t)(end - record[1]));
    expect(&bytes, WS2_ERR_INPUT, "the TAIL counts 3 records, 4 are there");
    bytes_free(&bytes);
    bytes_add(&bytes, whole.data, (size_t)(record[1] - whole.data)); /* second and third changed places */
    bytes_add(&bytes, record[2], (size_t)(record[3] - record[2]));
    bytes_add(&bytes, record[1], (size_t)(record[2] - record[1]));
    bytes_add(&bytes, record[3], (size_t)(end - record[3]));
    expect(&bytes, WS2_ERR_INPUT, "hash does not fit");
    bytes_free(&bytes);
    bytes_add(&bytes, record[0], (size_t)(end - record[0]));
    expect(&bytes, WS2_ERR_INPUT, "without a HEAD");
    bytes_free(&bytes);
    bytes_add(&bytes, whole.data, (size_t)(record[1] - whole.data));
    bytes_add(&bytes, whole.data, whole.size);
    expect(&bytes, WS2_ERR_INPUT, "a HEAD before the TAIL");
    bytes_free(&bytes);
    bytes_add(&bytes, whole.data, (size_t)(record[0] - whole.data));
    bytes_add(&bytes, memmem(record[0], 400, "\x28\xb5\x2f\xfd", 4), 20);
    expect(&bytes, WS2_ERR_INPUT, "a tensor without a RECORD");
    bytes_free(&bytes);
    bytes_add(&bytes, whole.data, whole.size);
    bytes_puts(&bytes, "and then some");
    expect(&bytes, WS2_ERR_INPUT, "foreign bytes");
    bytes_free(&bytes);
    bytes_free(&whole);
}

/* A TAIL whose numbers are wrong, though its checksum is right. */
static void a_wrong_tail_is_noticed(void **state)
{
    (void)state;
    static const struct {
        size_t at; /* from the end of a stream of 3 records */
        const char *message;
    } field[] = {{24 + 24 + 16, "count"}, {24 + 24 + 8, "hash"}, {24 + 24, "offsets"}, {24 + 8, "offsets"},
                 {24, "footer"},          {16, "footer"},        {8, "footer"}};
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++) {
        struct bytes bytes = make_stream(1, 3, 4);
        unsigned char *tail = bytes.data + bytes.size - (WS2_BODY_AT + WS2_TAIL_BODY_MIN + 24);
        bytes.data[bytes.size - field[i].at] ^= 1;
        ws2_store32(tail + 16, ws2_checksum(tail + WS2_BODY_AT, WS2_TAIL_BODY_MIN + 24));
        const struct outcome outcome = read_bytes(&bytes);
        assert_int_equal(outcome.status, WS2_ERR_INPUT);
        assert_non_null(strstr(outcome.error.text, field[i].message));
        bytes_free(&bytes);
    }
    struct bytes bytes = {0};
    add_text(&bytes, WS2_TAG_HEAD, good_head);
    add_text(&bytes, WS2_TAG_TAIL, "too short");
    expect(&bytes, WS2_ERR_INPUT, "corrupt TAIL (size)");
    bytes_free(&bytes);
}

/* Numbers in a TAIL that point anywhere, with a good checksum over them. */
static void hostile_offsets_are_refused(void **state)
{
    (void)state;
    static const uint64_t wild[] = {0, 1, 19, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF};
    struct bytes good = make_stream(1, 3, 4);
    for (size_t place = 24; place <= 24 + 24 + 16; place += 8) {
        for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
            for (int footer = 0; footer < 2; footer++) {
                struct bytes bytes = {0};
                bytes_add(&bytes, good.data, good.size);
                unsigned char *tail = bytes.data + bytes.size - (WS2_BODY_AT + WS2_TAIL_BODY_MIN + 24);
                ws2_store64(bytes.data + bytes.size - (footer ? place - 16 : place), wild[i]);
                ws2_store32(tail + 16, ws2_checksum(tail + WS2_BODY_AT, WS2_TAIL_BODY_MIN + 24));
                const struct outcome outcome = read_random(&bytes);
                assert_true(outcome.status == WS2_ERR_INPUT || outcome.status == WS2_ERR_TRUNCATED ||
                            outcome.records == 3);
                bytes_free(&bytes);
            }
        }
    }
    bytes_free(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_at_every_byte_is_truncated),
        cmocka_unit_test(a_flipped_bit_is_always_noticed),
        cmocka_unit_test(a_flipped_bit_never_changes_a_random_read),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(a_tensor_forged_with_its_hash_is_noticed),
        cmocka_unit_test(foreign_files_are_refused),
        cmocka_unit_test(hostile_heads_are_refused),
        cmocka_unit_test(hostile_records_are_refused),
        cmocka_unit_test(a_huge_promise_is_only_a_cut),
        cmocka_unit_test(huge_and_deep_metadata_is_refused),
        cmocka_unit_test(other_versions_and_flags_are_refused),
        cmocka_unit_test(wrong_order_is_noticed),
        cmocka_unit_test(a_wrong_tail_is_noticed),
        cmocka_unit_test(hostile_offsets_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
