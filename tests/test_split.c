/* Models in several files. */
#include "bytes.h"

/* ---- names ---------------------------------------------------------------------------------- */

static void split_names(void)
{
    char buf[64];
    size_t n;
    CHECK(quant_split_name(buf, sizeof buf, "model", 0, 3) == 25);
    CHECK(strcmp(buf, "model-00001-of-00003.gguf") == 0);
    CHECK(quant_split_name(buf, sizeof buf, "a/b-c", 65534, 65535) == 25);
    CHECK(strcmp(buf, "a/b-c-65535-of-65535.gguf") == 0);
    CHECK(quant_split_name(buf, sizeof buf, "", 0, 1) == 20);
    CHECK(strcmp(buf, "-00001-of-00001.gguf") == 0);
    CHECK(quant_split_name(buf, sizeof buf, "m", 3, 3) == 0);
    CHECK(quant_split_name(buf, sizeof buf, "m", 0, 0) == 0);
    CHECK(quant_split_name(buf, sizeof buf, "m", 0, 65536) == 0);
    CHECK(quant_split_name(buf, sizeof buf, "m", 0xffffffffu, 0xffffffffu) == 0);
    for (n = 0; n < sizeof buf; n++) {
        memset(buf, 'z', sizeof buf);
        CHECK(quant_split_name(buf, n, "model", 1, 2) == (n > 25 ? 25 : 0));
        CHECK(buf[n] == 'z');
        if (n <= 25) CHECK(buf[0] == 'z');
    }
}

static void split_parses_names(void)
{
    static const struct { const char *path; int ok; size_t prefix; uint32_t no, count; } t[] = {
        { "model-00001-of-00003.gguf", 1, 5, 0, 3 },
        { "/a/b-00001-of-00002/m-00003-of-00003.gguf", 1, 21, 2, 3 },
        { "m-00001-of-00001.gguf", 1, 1, 0, 1 },
        { "m-65535-of-65535.gguf", 1, 1, 65534, 65535 },
        { "-00001-of-00003.gguf", 1, 0, 0, 3 },
        { "m-1-00001-of-00003.gguf", 1, 3, 0, 3 },
        { "m-00000-of-00003.gguf", 0, 0, 0, 0 },        /* counted from 1                        */
        { "m-00000-of-00000.gguf", 0, 0, 0, 0 },
        { "m-00004-of-00003.gguf", 0, 0, 0, 0 },
        { "m-65536-of-65536.gguf", 0, 0, 0, 0 },
        { "m-99999-of-99999.gguf", 0, 0, 0, 0 },
        { "m-0001-of-00003.gguf", 0, 0, 0, 0 },
        { "m-00001-of-0003.gguf", 0, 0, 0, 0 },
        { "m-000001-of-00003.gguf", 0, 0, 0, 0 },
        { "m-0000x-of-00003.gguf", 0, 0, 0, 0 },
        { "m-00001-of-0000 .gguf", 0, 0, 0, 0 },
        { "m-00001-of-+0003.gguf", 0, 0, 0, 0 },
        { "m-00001_of_00003.gguf", 0, 0, 0, 0 },
        { "m_00001-of-00003.gguf", 0, 0, 0, 0 },
        { "m-00001-of-00003.GGUF", 0, 0, 0, 0 },
        { "m-00001-of-00003.gguf.part", 0, 0, 0, 0 },
        { "m-00001-of-00003", 0, 0, 0, 0 },
        { "00001-of-00003.gguf", 0, 0, 0, 0 },
        { "model.gguf", 0, 0, 0, 0 },
        { "", 0, 0, 0, 0 }
    };
    size_t i;
    for (i = 0; i < sizeof t / sizeof t[0]; i++) {
        size_t prefix = 99;
        uint32_t no = 99, count = 99;
        test_note("%s", t[i].path);
        CHECK(quant_split_parse(t[i].path, &prefix, &no, &count) == t[i].ok);
        CHECK(quant_split_parse(t[i].path, NULL, NULL, NULL) == t[i].ok);
        if (t[i].ok) CHECK(prefix == t[i].prefix && no == t[i].no && count == t[i].count);
        else CHECK(prefix == 99 && no == 99 && count == 99);
    }
}

static void split_names_are_parsed(void)
{
    static const uint32_t counts[] = { 1, 2, 9, 10, 99, 12345, 65535 };
    size_t i;
    for (i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint32_t c = counts[i], no, got_no, got_count;
        for (no = 0; no < c; no += c / 7 + 1) {
            char buf[64];
            size_t prefix;
            CHECK(quant_split_name(buf, sizeof buf, "dir/x", no, c) == 25);
            CHECK(quant_split_parse(buf, &prefix, &got_no, &got_count) == 1);
            CHECK(prefix == 5 && got_no == no && got_count == c);
        }
    }
}

/* ---- sets ----------------------------------------------------------------------------------- */

enum { NO_KEY = -1000, AS_STRING = -1001 };

/* A shard in memory: its keys and tensors, a string of one-letter names. */
typedef struct shard { int no, count, total; const char *names; } shard;

static void put_number(quant_gguf_out *o, const char *key, int v, uint32_t type)
{
    const uint16_t u16 = (uint16_t)v;
    const int32_t i32 = v;
    if (v == NO_KEY) return;
    if (v == AS_STRING) quant_gguf_put_str(o, key, "1");
    else if (v < 0 || type == QUANT_KV_I32) quant_gguf_put(o, key, QUANT_KV_I32, &i32);
    else quant_gguf_put(o, key, QUANT_KV_U16, &u16);
}

static void build_shard(bytes *b, const shard *s)
{
    quant_gguf_out o;
    const uint64_t ne[1] = { 4 };
    const char *p;
    char name[2] = { 0, 0 };
    memset(b, 0, sizeof *b);
    quant_gguf_begin(&o, bytes_to(b), 0, NULL);
    put_number(&o, "split.no", s->no, QUANT_KV_U16);
    put_number(&o, "split.count", s->count, QUANT_KV_U16);
    put_number(&o, "split.tensors.count", s->total, QUANT_KV_I32);
    for (p = s->names; *p; p++) {
        name[0] = *p;
        quant_gguf_put_tensor(&o, name, QUANT_I8, ne, 1);
    }
    quant_gguf_header(&o);
    for (p = s->names; *p; p++) quant_gguf_write(&o, "data", 4);
    CHECK(quant_gguf_end(&o) == QUANT_OK);
}

/* Opens the shards [n <= 4] and the set; the caller closes them with close_set. */
typedef struct opened { bytes b[4]; quant_gguf g[4]; size_t n; quant_set set; } opened;

static quant_result open_set(opened *s, const shard *shards, size_t n, const quant_alloc *a)
{
    size_t i;
    memset(s, 0, sizeof *s);
    s->n = n;
    for (i = 0; i < n; i++) {
        build_shard(&s->b[i], &shards[i]);
        CHECK(quant_gguf_open(&s->g[i], s->b[i].p, s->b[i].n, NULL, NULL) == QUANT_OK);
    }
    return quant_set_init(&s->set, s->g, n, a);
}

static void close_set(opened *s)
{
    size_t i;
    quant_set_free(&s->set);
    quant_set_free(&s->set);
    for (i = 0; i < s->n; i++) {
        quant_gguf_close(&s->g[i]);
        bytes_free(&s->b[i]);
    }
}

static void split_set_of_three(void)
{
    static const shard shards[3] = { { 0, 3, 6, "" }, { 1, 3, 6, "abc" }, { 2, 3, 6, "xyz" } };
    static const char order[] = "abcxyz";
    opened s;
    size_t i, where;
    char name[2] = { 0, 0 };
    REQUIRE(open_set(&s, shards, 3, NULL) == QUANT_OK);
    CHECK(s.set.n_tensors == 6 && s.set.n_shards == 3);
    for (i = 0; i < 6; i++) {
        const quant_tensor *t = quant_set_tensor(&s.set, i, &where);
        CHECK(t && t->name.n == 1 && t->name.p[0] == order[i] && where == 1 + i / 3);
        CHECK(t == &s.g[1 + i / 3].tensors[i % 3] && t == quant_set_tensor(&s.set, i, NULL));
        name[0] = order[i];
        where = 99;
        CHECK(quant_set_find(&s.set, name, &where) == t && where == 1 + i / 3);
        CHECK(quant_set_find(&s.set, name, NULL) == t);
    }
    CHECK(quant_set_tensor(&s.set, 6, &where) == NULL);
    CHECK(quant_set_tensor(&s.set, (size_t)-1, NULL) == NULL);
    CHECK(quant_set_find(&s.set, "b2", NULL) == NULL && quant_set_find(&s.set, "", NULL) == NULL);
    quant_set_free(&s.set);
    CHECK(quant_set_tensor(&s.set, 0, NULL) == NULL && quant_set_find(&s.set, "a", NULL) == NULL);
    close_set(&s);
}

static void split_sets_of_one(void)
{
    static const shard ok[] = {
        { NO_KEY, NO_KEY, NO_KEY, "ab" }, { 0, 1, 2, "ab" }, { NO_KEY, 1, NO_KEY, "ab" },
        { 0, 1, NO_KEY, "ab" }
    };
    static const shard none = { NO_KEY, NO_KEY, NO_KEY, "" };
    opened s;
    size_t i;
    for (i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        test_note("set %u", (unsigned)i);
        CHECK(open_set(&s, &ok[i], 1, NULL) == QUANT_OK);
        CHECK(s.set.n_tensors == 2 && quant_set_find(&s.set, "b", NULL) == &s.g[0].tensors[1]);
        close_set(&s);
    }
    CHECK(open_set(&s, &none, 1, NULL) == QUANT_OK && s.set.n_tensors == 0);
    CHECK(quant_set_tensor(&s.set, 0, NULL) == NULL && quant_set_find(&s.set, "a", NULL) == NULL);
    close_set(&s);
}

static void split_refuses(void)
{
    static const struct {
        size_t n; shard shards[3]; quant_result want; uint64_t where; const char *name;
    } t[] = {
        { 1, { { 1, 3, 6, "abc" } }, QUANT_E_ARG, 0, "shard 2 of 3" },
        { 2, { { 0, 3, 4, "ab" }, { 2, 3, 4, "cd" } }, QUANT_E_ARG, 0, "shard 1 of 3" },
        { 2, { { 1, 2, 4, "ab" }, { 0, 2, 4, "cd" } }, QUANT_E_ARG, 0, "shard 2 of 2" },
        { 2, { { 0, 2, 2, "a" }, { 0, 2, 2, "b" } }, QUANT_E_ARG, 1, "shard 1 of 2" },
        { 3, { { 0, 3, 3, "a" }, { 1, 3, 3, "b" }, { 3, 3, 3, "c" } }, QUANT_E_ARG, 2,
          "shard 4 of 3" },
        { 2, { { 0, 2, 2, "a" }, { 1, 3, 2, "b" } }, QUANT_E_ARG, 1, "shard 2 of 3" },
        { 2, { { 0, 2, 3, "a" }, { 1, 2, 3, "b" } }, QUANT_E_FORMAT, 0, "shard 1 of 2" },
        { 2, { { 0, 2, 2, "a" }, { 1, 2, 1, "b" } }, QUANT_E_FORMAT, 1, "shard 2 of 2" },
        { 2, { { 0, 2, AS_STRING, "a" }, { 1, 2, 2, "b" } }, QUANT_E_FORMAT, 0, "shard 1 of 2" },
        { 2, { { 0, 2, 2, "a" }, { NO_KEY, NO_KEY, NO_KEY, "b" } }, QUANT_E_FORMAT, 1,
          "shard 2 of 2" },
        { 2, { { NO_KEY, NO_KEY, NO_KEY, "a" }, { 0, 2, 2, "b" } }, QUANT_E_FORMAT, 0,
          "shard 1 of 2" },
        { 2, { { 0, 2, 2, "a" }, { NO_KEY, 2, 2, "b" } }, QUANT_E_FORMAT, 1, "shard 2 of 2" },
        { 2, { { 0, 2, 2, "a" }, { AS_STRING, 2, 2, "b" } }, QUANT_E_FORMAT, 1, "shard 2 of 2" },
        { 2, { { 0, 2, 2, "a" }, { -1, 2, 2, "b" } }, QUANT_E_FORMAT, 1, "shard 2 of 2" },
        { 1, { { 0, AS_STRING, 1, "a" } }, QUANT_E_FORMAT, 0, "shard 1 of 1" },
        { 1, { { 0, -2, 1, "a" } }, QUANT_E_FORMAT, 0, "shard 1 of 1" },
        { 1, { { 0, 0, 1, "a" } }, QUANT_E_ARG, 0, "shard 1 of 0" },
        { 1, { { 1, 1, 1, "a" } }, QUANT_E_ARG, 0, "shard 2 of 1" },
        { 1, { { 0, 1, 2, "a" } }, QUANT_E_FORMAT, 0, "shard 1 of 1" },
        { 3, { { 0, 3, 4, "a" }, { 1, 3, 4, "bc" }, { 2, 3, 4, "b" } }, QUANT_E_FORMAT, 2, "b" }
    };
    size_t i;
    opened s;
    for (i = 0; i < sizeof t / sizeof t[0]; i++) {
        test_heap h;
        quant_alloc a = test_heap_alloc(&h);
        quant_result r;
        char line[240];
        memset(&h, 0, sizeof h);
        r = open_set(&s, t[i].shards, t[i].n, &a);
        quant_error_text(line, sizeof line, &s.set.err);
        test_note("case %u: result %d, %s", (unsigned)i, (int)r, line);
        CHECK(r == t[i].want && s.set.err.code == r && s.set.err.where == t[i].where);
        CHECK(strcmp(s.set.err.name, t[i].name) == 0 && s.set.err.what[0]);
        CHECK(s.set.n_tensors == 0 && h.live == 0);
        close_set(&s);
    }
    CHECK(quant_set_init(&s.set, NULL, 1, NULL) == QUANT_E_ARG);
    CHECK(quant_set_init(&s.set, s.g, 0, NULL) == QUANT_E_ARG);
}

static void split_without_memory(void)
{
    static const shard shards[2] = { { 0, 2, 3, "a" }, { 1, 2, 3, "bc" } };
    opened s;
    size_t n;
    for (n = 1; n < 10; n++) {
        test_heap h;
        quant_alloc a = test_heap_alloc(&h);
        quant_result r;
        memset(&h, 0, sizeof h);
        h.fail_at = n;
        r = open_set(&s, shards, 2, &a);
        CHECK(r == (n == 1 ? QUANT_E_MEMORY : QUANT_OK));
        close_set(&s);
        CHECK(h.live == 0);
        if (r == QUANT_OK) break;
    }
    CHECK(n == 2);
}

void suite_split(void);
void suite_split(void)
{
    RUN(split_names);
    RUN(split_parses_names);
    RUN(split_names_are_parsed);
    RUN(split_set_of_three);
    RUN(split_sets_of_one);
    RUN(split_refuses);
    RUN(split_without_memory);
}
