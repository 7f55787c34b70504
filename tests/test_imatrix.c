/* Importance files. */
#include "bytes.h"
#include <math.h>

/* The means of the test file; sums and counts are exact, so that both forms give these floats. */
static const float up[4] = { 0.5f, 0, 3.25f, 1e-3f };
static const float down[6] = { 1, 2, 3, 0.25f, 7, 65536 };      /* 2 experts of 3 columns        */
#define UP "blk.0.ffn_up.weight"
#define DOWN "blk.0.ffn_down_exps.weight"
enum { N_DAT_ENTRY_UP = 4 + 19 + 4 + 4 + 16 };

/* What a test makes wrong, or just different. */
enum {
    PLAIN, NAN_VALUE, INF_VALUE, NEGATIVE_VALUE, TWICE, EMPTY_NAME, NO_TRAILER, CHUNKS_ONLY,
    NEGATIVE_CALLS, NEVER_CALLED, RAW_MEANS, NO_VALUES, NEGATIVE_NAME, NEGATIVE_CHUNKS,
    NEGATIVE_DATASET, ZERO_IN_NAME,
    NEGATIVE_COUNT, NAN_COUNT, TINY_COUNT, NO_COUNTS, NO_SUMS, COUNTS_SIZE, SUMS_F16, COUNTS_F16,
    OTHER_KIND, NO_KIND, NO_TENSORS, ZERO_COUNT, NO_KEYS, OTHER_TENSOR, LONG_NAME
};

static float spoilt(float x, int i, int what)
{
    if (i != 1) return x;
    if (what == NAN_VALUE) return (float)NAN;
    if (what == INF_VALUE) return (float)INFINITY;
    return what == NEGATIVE_VALUE ? -1e-30f : x;
}

static void dat_entry(bytes *b, const char *name, int calls, const float *v, int n, int what)
{
    int i, length = what == EMPTY_NAME ? 0 : (int)strlen(name);
    bytes_int(b, what == NEGATIVE_NAME ? (uint64_t)-1 : (uint64_t)length, 4);
    bytes_add(b, name, (size_t)length);
    if (what == ZERO_IN_NAME) b->p[b->n - 1] = 0;
    if (what == NEGATIVE_CALLS) calls = -1;
    if (what == NEVER_CALLED || what == RAW_MEANS) calls = 0;
    bytes_int(b, (uint64_t)calls, 4);
    bytes_int(b, what == NO_VALUES ? 0 : (uint64_t)n, 4);
    for (i = 0; i < n && what != NO_VALUES; i++)
        bytes_float(b, what == NEVER_CALLED ? 0
                       : spoilt(calls ? v[i] * (float)calls : v[i], i, what));
}

static void build_dat(bytes *b, int what)
{
    memset(b, 0, sizeof *b);
    bytes_int(b, 2, 4);
    dat_entry(b, UP, 4, up, 4, PLAIN);
    dat_entry(b, what == TWICE ? UP : DOWN, 16, down, 6, what);
    if (what == NO_TRAILER) return;
    bytes_int(b, what == NEGATIVE_CHUNKS ? (uint64_t)-5 : 123, 4);
    if (what == CHUNKS_ONLY) return;
    bytes_int(b, what == NEGATIVE_DATASET ? (uint64_t)-1 : 8, 4);
    bytes_add(b, "wiki.txt", 8);
}

typedef struct part { const char *name; quant_type type; uint64_t ne0, ne1; float v[6]; } part;

static void gguf_keys(bytes *b, int what)
{
    if (what != NO_KIND) {
        bytes_str(b, "general.type");
        bytes_int(b, QUANT_KV_STR, 4);
        bytes_str(b, what == OTHER_KIND ? "model" : "imatrix");
    }
    if (what == NO_KEYS) return;
    bytes_str(b, "imatrix.chunk_count");
    bytes_int(b, QUANT_KV_U32, 4);
    bytes_int(b, 123, 4);
    bytes_str(b, "imatrix.datasets");
    bytes_int(b, QUANT_KV_ARRAY, 4);
    bytes_int(b, QUANT_KV_STR, 4);
    bytes_len(b, 2);
    bytes_str(b, "wiki.txt");
    bytes_str(b, "more.txt");
}

static void build_gguf(bytes *b, int big, int what)
{
    part p[5] = {
        { UP ".in_sum2", QUANT_F32, 4, 1, { 0 } },   { UP ".counts", QUANT_F32, 1, 1, { 8 } },
        { DOWN ".counts", QUANT_F32, 1, 2, { 2, 16 } }, { DOWN ".in_sum2", QUANT_F32, 3, 2, { 0 } },
        { UP ".in_sum", QUANT_F32, 1, 1, { -1 } }
    };
    uint64_t n = what == NO_TENSORS ? 0 : what == OTHER_TENSOR ? 5 : 4, i, k, at = 0;
    memset(b, 0, sizeof *b);
    b->big = big;
    for (i = 0; i < 4; i++) p[0].v[i] = up[i] * 8;
    for (i = 0; i < 6; i++) p[3].v[i] = spoilt(down[i] * (i < 3 ? 2.0f : 16.0f), (int)i, what);
    if (what == NEGATIVE_COUNT) p[2].v[1] = -2;
    if (what == NAN_COUNT) p[2].v[1] = (float)NAN;
    if (what == ZERO_COUNT) p[2].v[1] = 0;
    if (what == TINY_COUNT) p[2].v[1] = 1e-38f;
    if (what == NO_COUNTS) p[2].name = DOWN ".count";
    if (what == NO_SUMS) p[3].name = DOWN ".in_sum3";
    if (what == COUNTS_SIZE) p[2].ne1 = 3;
    if (what == SUMS_F16) p[3].type = QUANT_F16;
    if (what == COUNTS_F16) p[2].type = QUANT_F16;
    if (what == EMPTY_NAME) { p[2].name = ".counts"; p[3].name = ".in_sum2"; }
    if (what == LONG_NAME) {                            /* the partner's name would have 62 + 1  */
        p[3].name = "123456789012345678901234567890123456789012345678901234.in_sum2";
        p[2].name = "123456789012345678901234567890123456789012345678901234.counts";
    }
    bytes_gguf(b, 3, n, what == NO_KEYS ? 1 : what == NO_KIND ? 2 : 3);
    gguf_keys(b, what);
    for (i = 0; i < n; i++, at += 32) {
        bytes_str(b, p[i].name);
        bytes_int(b, 2, 4);
        bytes_len(b, p[i].ne0);
        bytes_len(b, p[i].ne1);
        bytes_int(b, p[i].type, 4);
        bytes_int(b, at, 8);
    }
    while (b->n % 32) bytes_int(b, 0, 1);
    for (i = 0; i < n; i++) {
        for (k = 0; k < 6; k++) bytes_float(b, p[i].v[k]);
        bytes_int(b, 0, 8);
    }
}

static quant_str str(const char *s)
{
    quant_str r;
    r.p = s;
    r.n = strlen(s);
    return r;
}

/* Opens an exactly sized copy that is gone afterwards. */
static quant_result open_copy(quant_imatrix *m, const uint8_t *p, size_t n, const quant_alloc *a)
{
    uint8_t *q = bytes_exact(p, n);
    quant_result r = quant_imatrix_open(m, q, n, a, NULL);
    memset(q, 0xee, n);
    free(q);
    return r;
}

/* Reads all that the struct promises; 0 if a value is no importance. */
static int touch(const quant_imatrix *m)
{
    size_t i, k, sum = 0;
    int ok = m->n_entries > 0;
    for (i = 0; i < m->dataset.n; i++) sum += (uint8_t)m->dataset.p[i];
    for (i = 0; i < m->n_entries; i++) {
        const quant_imatrix_entry *e = &m->entries[i];
        const float *out;
        ok &= e->name.n > 0 && e->size > 0 && e->mats > 0 && e->size % e->mats == 0;
        ok &= e->empty <= e->mats;
        for (k = 0; k < e->name.n; k++) sum += (uint8_t)e->name.p[k];
        for (k = 0; k < e->size; k++) ok &= e->values[k] >= 0 && e->values[k] <= 3.4028234e38f;
        ok &= quant_imatrix_find(m, &out, e->name, e->size / e->mats, 0, e->mats) == QUANT_OK;
        ok &= out == e->values;
    }
    return ok && sum != 1;
}

static void check_plain(const quant_imatrix *m, uint64_t mats)
{
    const float *v;
    CHECK(m->n_entries == 2 && m->n_chunks == 123 && touch(m));
    CHECK(m->dataset.n == 8 && memcmp(m->dataset.p, "wiki.txt", 8) == 0);
    CHECK(m->entries[0].size == 4 && m->entries[0].mats == 1 && m->entries[0].empty == 0);
    CHECK(m->entries[1].size == 6 && m->entries[1].mats == mats && m->entries[1].empty == 0);
    CHECK(quant_imatrix_find(m, &v, str(UP), 4, 0, 1) == QUANT_OK && v);
    CHECK(v && memcmp(v, up, sizeof up) == 0);
    CHECK(quant_imatrix_find(m, &v, str(DOWN), 3, 0, 2) == QUANT_OK && v);
    CHECK(v && memcmp(v, down, 12) == 0);
    CHECK(quant_imatrix_find(m, &v, str(DOWN), 3, 1, 2) == QUANT_OK && v);
    CHECK(v && memcmp(v, down + 3, 12) == 0);
    CHECK(quant_imatrix_find(m, &v, str("blk.1.ffn_up.weight"), 4, 0, 1) == QUANT_OK && !v);
    CHECK(quant_imatrix_find(m, &v, str(""), 4, 0, 1) == QUANT_OK && !v);
    CHECK(quant_imatrix_find(m, &v, str(UP), 3, 0, 1) == QUANT_E_FORMAT && !v);
    CHECK(quant_imatrix_find(m, &v, str(UP), 4, 0, 2) == QUANT_E_FORMAT && !v);
    CHECK(quant_imatrix_find(m, &v, str(DOWN), 3, 0, 1) == QUANT_E_FORMAT && !v);
    CHECK(quant_imatrix_find(m, &v, str(DOWN), 3, 2, 2) == QUANT_E_ARG && !v);
    CHECK(quant_imatrix_find(m, &v, str(DOWN), (uint64_t)1 << 63, 0, 2) == QUANT_E_FORMAT && !v);
    if (mats == 2)                                      /* the same size, but other matrices     */
        CHECK(quant_imatrix_find(m, &v, str(DOWN), 6, 0, 1) == QUANT_E_FORMAT && !v);
}

static void imatrix_both_forms(void)
{
    quant_imatrix m;
    bytes b;
    int big;
    build_dat(&b, PLAIN);
    REQUIRE(open_copy(&m, b.p, b.n, NULL) == QUANT_OK);
    check_plain(&m, 1);
    quant_imatrix_close(&m);
    quant_imatrix_close(&m);
    bytes_free(&b);
    for (big = 0; big < 2; big++) {
        test_note("big-endian %d", big);
        build_gguf(&b, big, PLAIN);
        REQUIRE(open_copy(&m, b.p, b.n, NULL) == QUANT_OK);
        check_plain(&m, 2);
        quant_imatrix_close(&m);
        bytes_free(&b);
    }
}

/* The form that llama.cpp writes, through the writer. */
static void imatrix_from_the_writer(void)
{
    static const quant_str sets[1] = { { "wiki.txt", 8 } };
    const uint64_t up_ne[2] = { 4, 1 }, one_ne[2] = { 1, 1 };
    const uint64_t down_ne[2] = { 3, 2 }, two_ne[2] = { 1, 2 };
    float v[13];
    quant_gguf_out o;
    quant_imatrix m;
    bytes b;
    int i;
    memset(&b, 0, sizeof b);
    for (i = 0; i < 4; i++) v[i] = up[i] * 8;
    v[4] = 8;
    for (i = 0; i < 6; i++) v[5 + i] = down[i] * (i < 3 ? 2.0f : 16.0f);
    v[11] = 2;
    v[12] = 16;
    quant_gguf_begin(&o, bytes_to(&b), 0, NULL);
    quant_gguf_put_str(&o, "general.type", "imatrix");
    quant_gguf_put_array(&o, "imatrix.datasets", QUANT_KV_STR, sets, 1);
    quant_gguf_put_u32(&o, "imatrix.chunk_count", 123);
    quant_gguf_put_u32(&o, "imatrix.chunk_size", 512);
    quant_gguf_put_tensor(&o, UP ".in_sum2", QUANT_F32, up_ne, 2);
    quant_gguf_put_tensor(&o, UP ".counts", QUANT_F32, one_ne, 2);
    quant_gguf_put_tensor(&o, DOWN ".in_sum2", QUANT_F32, down_ne, 2);
    quant_gguf_put_tensor(&o, DOWN ".counts", QUANT_F32, two_ne, 2);
    quant_gguf_header(&o);
    quant_gguf_write(&o, v, sizeof v);
    CHECK(quant_gguf_end(&o) == QUANT_OK);
    REQUIRE(quant_imatrix_open(&m, b.p, b.n, NULL, NULL) == QUANT_OK);
    check_plain(&m, 2);
    quant_imatrix_close(&m);
    bytes_free(&b);
}

static void imatrix_by_name(void)
{
    static const char path[] = "build/test_imatrix.tmp";
    quant_imatrix m;
    bytes b;
    int form;
    for (form = 0; form < 3; form++) {
        FILE *f = fopen(path, "wb");
        test_note("form %d", form);
        REQUIRE(f != NULL);
        if (form == 0) build_dat(&b, PLAIN);
        else build_gguf(&b, 0, PLAIN);
        if (form == 2) b.n = 0;
        CHECK(fwrite(b.p, 1, b.n, f) == b.n);
        fclose(f);
        if (form == 2) {
            CHECK(quant_imatrix_open_file(&m, path, NULL, NULL) == QUANT_E_SHORT);
        } else if (CHECK(quant_imatrix_open_file(&m, path, NULL, NULL) == QUANT_OK)) {
            check_plain(&m, form == 0 ? 1 : 2);
        }
        quant_imatrix_close(&m);
        bytes_free(&b);
        remove(path);
    }
    CHECK(quant_imatrix_open_file(&m, path, NULL, NULL) == QUANT_E_IO && m.err.what[0]);
    CHECK(quant_imatrix_open_file(&m, "tests", NULL, NULL) == QUANT_E_IO);
    CHECK(quant_imatrix_open_file(&m, NULL, NULL, NULL) == QUANT_E_ARG);
}

/* Forms that differ from the plain one and are right too. */
static void imatrix_variants(void)
{
    quant_imatrix m;
    bytes b;
    size_t i;
    build_dat(&b, NO_TRAILER);
    REQUIRE(open_copy(&m, b.p, b.n, NULL) == QUANT_OK);
    CHECK(m.n_chunks == 0 && m.dataset.n == 0 && memcmp(m.entries[1].values, down, 24) == 0);
    quant_imatrix_close(&m);
    bytes_free(&b);
    build_dat(&b, CHUNKS_ONLY);
    REQUIRE(open_copy(&m, b.p, b.n, NULL) == QUANT_OK);
    CHECK(m.n_chunks == 123 && m.dataset.n == 0);
    quant_imatrix_close(&m);
    bytes_free(&b);
    build_dat(&b, NEVER_CALLED);
    REQUIRE(open_copy(&m, b.p, b.n, NULL) == QUANT_OK);
    CHECK(m.entries[1].empty == 1);
    for (i = 0; i < 6; i++) CHECK(m.entries[1].values[i] == 1);
    quant_imatrix_close(&m);
    bytes_free(&b);
    build_dat(&b, RAW_MEANS);
    REQUIRE(open_copy(&m, b.p, b.n, NULL) == QUANT_OK);
    CHECK(m.entries[1].empty == 0 && memcmp(m.entries[1].values, down, 24) == 0);
    quant_imatrix_close(&m);
    bytes_free(&b);

    build_gguf(&b, 0, ZERO_COUNT);
    REQUIRE(open_copy(&m, b.p, b.n, NULL) == QUANT_OK);
    CHECK(m.entries[1].empty == 1 && memcmp(m.entries[1].values, down, 12) == 0);
    for (i = 3; i < 6; i++) CHECK(m.entries[1].values[i] == 1);
    quant_imatrix_close(&m);
    bytes_free(&b);
    build_gguf(&b, 0, NO_KEYS);
    REQUIRE(open_copy(&m, b.p, b.n, NULL) == QUANT_OK);
    CHECK(m.n_chunks == 0 && m.dataset.n == 0 && m.n_entries == 2);
    quant_imatrix_close(&m);
    bytes_free(&b);
    build_gguf(&b, 0, OTHER_TENSOR);
    REQUIRE(open_copy(&m, b.p, b.n, NULL) == QUANT_OK);
    check_plain(&m, 2);
    quant_imatrix_close(&m);
    bytes_free(&b);
    build_gguf(&b, 0, LONG_NAME);
    REQUIRE(open_copy(&m, b.p, b.n, NULL) == QUANT_OK);
    CHECK(m.entries[1].name.n == 54);
    quant_imatrix_close(&m);
    bytes_free(&b);
}

static void imatrix_refuses(void)
{
    static const struct { int gguf, what; quant_result want; const char *name; } t[] = {
        { 0, NAN_VALUE, QUANT_E_NUMERIC, DOWN },       { 1, NAN_VALUE, QUANT_E_NUMERIC, DOWN },
        { 0, INF_VALUE, QUANT_E_NUMERIC, DOWN },       { 1, INF_VALUE, QUANT_E_NUMERIC, DOWN },
        { 0, NEGATIVE_VALUE, QUANT_E_NUMERIC, DOWN },  { 1, NEGATIVE_VALUE, QUANT_E_NUMERIC, DOWN },
        { 0, TWICE, QUANT_E_FORMAT, UP },              { 0, EMPTY_NAME, QUANT_E_FORMAT, "" },
        { 0, NEGATIVE_CALLS, QUANT_E_FORMAT, DOWN },   { 0, NO_VALUES, QUANT_E_FORMAT, DOWN },
        { 0, NEGATIVE_NAME, QUANT_E_FORMAT, "" },      { 0, NEGATIVE_CHUNKS, QUANT_E_FORMAT, "" },
        { 0, NEGATIVE_DATASET, QUANT_E_FORMAT, "" },
        { 0, ZERO_IN_NAME, QUANT_E_FORMAT, "blk.0.ffn_down_exps.weigh?" },
        { 1, EMPTY_NAME, QUANT_E_FORMAT, ".in_sum2" },
        { 1, NEGATIVE_COUNT, QUANT_E_NUMERIC, DOWN },  { 1, NAN_COUNT, QUANT_E_NUMERIC, DOWN },
        { 1, TINY_COUNT, QUANT_E_NUMERIC, DOWN },
        { 1, NO_COUNTS, QUANT_E_FORMAT, DOWN ".in_sum2" },
        { 1, NO_SUMS, QUANT_E_FORMAT, DOWN ".counts" },
        { 1, COUNTS_SIZE, QUANT_E_FORMAT, DOWN ".counts" },
        { 1, SUMS_F16, QUANT_E_FORMAT, DOWN ".counts" },
        { 1, COUNTS_F16, QUANT_E_FORMAT, DOWN ".in_sum2" },
        { 1, OTHER_KIND, QUANT_E_FORMAT, "" },         { 1, NO_KIND, QUANT_E_FORMAT, "" },
        { 1, NO_TENSORS, QUANT_E_FORMAT, "" }
    };
    size_t i;
    for (i = 0; i < sizeof t / sizeof t[0]; i++) {
        quant_imatrix m;
        test_heap h;
        quant_alloc a = test_heap_alloc(&h);
        quant_result r;
        bytes b;
        memset(&h, 0, sizeof h);
        if (t[i].gguf) build_gguf(&b, 0, t[i].what);
        else build_dat(&b, t[i].what);
        r = open_copy(&m, b.p, b.n, &a);
        test_note("case %u: result %d, %s: %s", (unsigned)i, (int)r, m.err.name, m.err.what);
        CHECK(r == t[i].want && m.err.code == r && m.err.what[0]);
        CHECK(strcmp(m.err.name, t[i].name) == 0);
        CHECK(m.entries == NULL && m.n_entries == 0 && h.live == 0);
        quant_imatrix_close(&m);
        bytes_free(&b);
    }
}

/* Where the first value of a NUMERIC error stands, and sizes of lengths that cannot be. */
static void imatrix_says_where(void)
{
    static const struct { uint32_t n; quant_result want; } counts[] = {
        { 0, QUANT_E_FORMAT }, { 0xffffffffu, QUANT_E_FORMAT }, { 0x80000000u, QUANT_E_FORMAT },
        { 0x7fffffffu, QUANT_E_LIMIT }, { (1u << 20) + 1, QUANT_E_LIMIT },
        { 1u << 20, QUANT_E_SHORT }, { 3, QUANT_E_SHORT }
    };
    quant_imatrix m;
    quant_limits limits;
    bytes b;
    size_t i;
    build_dat(&b, NAN_VALUE);
    CHECK(open_copy(&m, b.p, b.n, NULL) == QUANT_E_NUMERIC);
    CHECK(m.err.where == 4 + N_DAT_ENTRY_UP + 4 + 26 + 4 + 4 + 4);
    bytes_free(&b);
    for (i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        build_dat(&b, NO_TRAILER);
        b.n -= 24;                                      /* else 3 entries of 17 bytes would fit  */
        memcpy(b.p + 4 + N_DAT_ENTRY_UP + 34, "\6\0\0\0", 4);
        b.p[0] = (uint8_t)counts[i].n;
        b.p[1] = (uint8_t)(counts[i].n >> 8);
        b.p[2] = (uint8_t)(counts[i].n >> 16);
        b.p[3] = (uint8_t)(counts[i].n >> 24);
        CHECK(open_copy(&m, b.p, b.n, NULL) == counts[i].want);
        if (counts[i].want == QUANT_E_SHORT) CHECK(m.err.have == b.n && m.err.need > b.n);
        bytes_free(&b);
    }
    memset(&limits, 0, sizeof limits);
    limits.max_tensors = 1;
    build_dat(&b, PLAIN);
    CHECK(quant_imatrix_open(&m, b.p, b.n, NULL, &limits) == QUANT_E_LIMIT);
    CHECK(m.err.need == 2 && m.err.have == 1);
    limits.max_tensors = 2;
    limits.max_string = 25;
    CHECK(quant_imatrix_open(&m, b.p, b.n, NULL, &limits) == QUANT_E_LIMIT);
    limits.max_string = 26;
    CHECK(quant_imatrix_open(&m, b.p, b.n, NULL, &limits) == QUANT_OK);
    quant_imatrix_close(&m);
    CHECK(quant_imatrix_open(&m, NULL, 5, NULL, NULL) == QUANT_E_ARG);
    CHECK(quant_imatrix_open(&m, NULL, 0, NULL, NULL) == QUANT_E_SHORT);
    bytes_free(&b);
}

static void imatrix_truncated(void)
{
    quant_imatrix m;
    bytes b, shorter;
    size_t n;
    build_dat(&b, PLAIN);
    build_dat(&shorter, NO_TRAILER);
    for (n = 0; n < b.n; n++) {
        quant_result r = open_copy(&m, b.p, n, NULL);
        test_note("%u of %u bytes", (unsigned)n, (unsigned)b.n);
        if (n == shorter.n || n == shorter.n + 4) {     /* both parts of the trailer may be away */
            CHECK(r == QUANT_OK && touch(&m));
        } else {
            CHECK(r == QUANT_E_SHORT && m.err.have == n && m.err.need > n && m.err.need <= b.n);
        }
        quant_imatrix_close(&m);
    }
    bytes_free(&shorter);
    bytes_free(&b);
    build_gguf(&b, 0, PLAIN);
    for (n = 0; n < b.n; n++) {
        quant_result r = open_copy(&m, b.p, n, NULL);
        test_note("%u of %u bytes", (unsigned)n, (unsigned)b.n);
        CHECK(n + 32 > b.n || r == QUANT_E_SHORT);      /* the last padding may be away          */
        if (r == QUANT_OK) CHECK(touch(&m));
        quant_imatrix_close(&m);
    }
    bytes_free(&b);
}

static void imatrix_corrupted(void)
{
    int form;
    for (form = 0; form < 3; form++) {
        bytes b;
        size_t i, bit;
        if (form == 0) build_dat(&b, PLAIN);
        else build_gguf(&b, form == 2, PLAIN);
        for (i = 0; i < b.n; i++) {
            static const uint8_t masks[] = { 1, 2, 4, 8, 16, 32, 64, 128, 0xff, 0x7f };
            for (bit = 0; bit < sizeof masks; bit++) {
                quant_imatrix m;
                test_heap h;
                quant_alloc a = test_heap_alloc(&h);
                memset(&h, 0, sizeof h);
                b.p[i] ^= masks[bit];
                if (open_copy(&m, b.p, b.n, &a) == QUANT_OK) CHECK(touch(&m));
                CHECK(h.peak_bytes < 100000);
                b.p[i] ^= masks[bit];
                quant_imatrix_close(&m);
                CHECK(h.live == 0);
            }
        }
        bytes_free(&b);
    }
}

/* An allocator that changes one byte of the file: what another program may do to a mapped file
 * between the two passes. */
typedef struct changer { test_heap h; uint8_t *byte; uint8_t mask; size_t at_call; } changer;

static void *changer_alloc(void *user, size_t size)
{
    changer *c = (changer *)user;
    quant_alloc a = test_heap_alloc(&c->h);
    if (c->h.calls + 1 == c->at_call) *c->byte ^= c->mask;
    return a.alloc(a.user, size);
}

static void changer_free(void *user, void *p, size_t size)
{
    quant_alloc a = test_heap_alloc(&((changer *)user)->h);
    a.free(a.user, p, size);
}

static void imatrix_changed_while_read(void)
{
    int form;
    for (form = 0; form < 4; form++) {                  /* 2, 3: the reader's allocation is first */
        bytes b;
        size_t i, k;
        if (form < 2) build_dat(&b, form ? CHUNKS_ONLY : PLAIN);
        else build_gguf(&b, 0, PLAIN);
        for (i = 0; i < b.n; i++) {
            static const uint8_t masks[] = { 1, 2, 4, 0x10, 0x40, 0x80, 0xff };
            for (k = 0; k < sizeof masks; k++) {
                quant_imatrix m;
                changer c;
                quant_alloc a;
                uint8_t *copy = bytes_exact(b.p, b.n);
                memset(&c, 0, sizeof c);
                c.byte = copy + i;
                c.mask = masks[k];
                c.at_call = form == 3 ? 2 : 1;
                a.alloc = changer_alloc;
                a.free = changer_free;
                a.user = &c;
                if (quant_imatrix_open(&m, copy, b.n, &a, NULL) == QUANT_OK) CHECK(touch(&m));
                quant_imatrix_close(&m);
                CHECK(c.h.live == 0);
                free(copy);
            }
        }
        bytes_free(&b);
    }
}

static void imatrix_without_memory(void)
{
    int form;
    for (form = 0; form < 2; form++) {
        bytes b;
        size_t n;
        if (form == 0) build_dat(&b, PLAIN);
        else build_gguf(&b, 0, PLAIN);
        for (n = 1; n < 100; n++) {
            quant_imatrix m;
            test_heap h;
            quant_alloc a = test_heap_alloc(&h);
            quant_result r;
            memset(&h, 0, sizeof h);
            h.fail_at = n;
            r = open_copy(&m, b.p, b.n, &a);
            CHECK(r == QUANT_OK ? h.live == 1 : r == QUANT_E_MEMORY && h.live == 0);
            quant_imatrix_close(&m);
            CHECK(h.live == 0 && h.live_bytes == 0);
            if (r == QUANT_OK) break;
        }
        CHECK(n == (form == 0 ? 2 : 3));
        bytes_free(&b);
    }
}

/* As many entries as a large mixture of experts has, found in constant time. */
static void imatrix_many_entries(void)
{
    quant_imatrix m;
    bytes b;
    char name[32];
    const float *v;
    uint32_t i;
    float x[2];
    memset(&b, 0, sizeof b);
    bytes_int(&b, 50000, 4);
    for (i = 0; i < 50000; i++) {
        sprintf(name, "blk.%u.weight", (unsigned)i);
        x[0] = (float)i;
        x[1] = 1;
        dat_entry(&b, name, 1, x, 2, PLAIN);
    }
    REQUIRE(quant_imatrix_open(&m, b.p, b.n, NULL, NULL) == QUANT_OK);
    for (i = 0; i < 50000; i += 7) {
        sprintf(name, "blk.%u.weight", (unsigned)i);
        if (!CHECK(quant_imatrix_find(&m, &v, str(name), 2, 0, 1) == QUANT_OK && v)) break;
        CHECK(v[0] == (float)i && v[1] == 1);
    }
    quant_imatrix_close(&m);
    bytes_free(&b);
}

void suite_imatrix(void);
void suite_imatrix(void)
{
    RUN(imatrix_both_forms);
    RUN(imatrix_from_the_writer);
    RUN(imatrix_by_name);
    RUN(imatrix_variants);
    RUN(imatrix_refuses);
    RUN(imatrix_says_where);
    RUN(imatrix_truncated);
    RUN(imatrix_corrupted);
    RUN(imatrix_changed_while_read);
    RUN(imatrix_without_memory);
    RUN(imatrix_many_entries);
}
