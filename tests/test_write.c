/* The GGUF writer. */
#include "bytes.h"

/* Sends the whole header and `size` bytes of data, then ends. */
static quant_result finish(quant_gguf_out *o, const void *data, size_t size)
{
    quant_result r, e;
    quant_gguf_header(o);
    r = quant_gguf_write(o, data, size);
    e = quant_gguf_end(o);
    return r != QUANT_OK ? r : e;
}

static uint8_t *pattern(size_t n, uint64_t seed)
{
    uint8_t *p = (uint8_t *)malloc(n ? n : 1);
    size_t i;
    for (i = 0; i < n; i++) p[i] = (uint8_t)(test_random(&seed) | 1);   /* no zeros: not padding */
    return p;
}

/* ---- the bytes of a file -------------------------------------------------------------------- */

static void write_golden(void)
{
    static const uint8_t want[] = {
        'G', 'G', 'U', 'F', 3, 0, 0, 0,
        2, 0, 0, 0, 0, 0, 0, 0,                         /* tensors                               */
        3, 0, 0, 0, 0, 0, 0, 0,                         /* keys                                  */
        1, 0, 0, 0, 0, 0, 0, 0, 'a', 0, 0, 0, 0, 7,     /* u8                                    */
        2, 0, 0, 0, 0, 0, 0, 0, 's', '.', 8, 0, 0, 0,   /* string                                */
        2, 0, 0, 0, 0, 0, 0, 0, 'h', 'i',
        1, 0, 0, 0, 0, 0, 0, 0, 'r', 9, 0, 0, 0,        /* array of i16                          */
        3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xfe, 0xff,
        1, 0, 0, 0, 0, 0, 0, 0, 't', 1, 0, 0, 0,        /* F32 [2], offset 0                     */
        2, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 0, 0, 0, 0, 0, 0, 0, 'u', 2, 0, 0, 0,        /* I8 [3, 1], offset 32                  */
        3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        24, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                /* 165 -> 192                            */
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 2, 3,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    };
    static const uint8_t data[] = { 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 1, 2, 3 };
    static const int16_t r[] = { 1, -2 };
    const uint64_t two[1] = { 2 }, three[2] = { 3, 1 };
    const uint8_t seven = 7;
    quant_gguf_out o;
    bytes b;
    memset(&b, 0, sizeof b);
    CHECK(quant_gguf_begin(&o, bytes_to(&b), 0, NULL) == QUANT_OK);
    CHECK(quant_gguf_put(&o, "a", QUANT_KV_U8, &seven) == QUANT_OK);
    CHECK(quant_gguf_put_str(&o, "s.", "hi") == QUANT_OK);
    CHECK(quant_gguf_put_array(&o, "r", QUANT_KV_I16, r, 2) == QUANT_OK);
    CHECK(quant_gguf_put_tensor(&o, "t", QUANT_F32, two, 1) == QUANT_OK);
    CHECK(quant_gguf_put_tensor(&o, "u", QUANT_I8, three, 2) == QUANT_OK);
    CHECK(b.n == 0 && o.n_kv == 3 && o.n_tensors == 2);
    CHECK(finish(&o, data, sizeof data) == QUANT_OK);
    CHECK(o.written == sizeof want && b.n == sizeof want);
    CHECK(b.n == sizeof want && memcmp(b.p, want, sizeof want) == 0);
    bytes_free(&b);
}

static void write_empty_file(void)
{
    quant_gguf_out o;
    quant_gguf g;
    bytes b;
    memset(&b, 0, sizeof b);
    CHECK(quant_gguf_begin(&o, bytes_to(&b), 0, NULL) == QUANT_OK);
    CHECK(finish(&o, NULL, 0) == QUANT_OK);
    CHECK(b.n == 32);                                   /* 24 bytes, padded                      */
    REQUIRE(quant_gguf_open(&g, b.p, b.n, NULL, NULL) == QUANT_OK);
    CHECK(g.n_kv == 0 && g.n_tensors == 0 && g.alignment == 32 && g.version == 3);
    quant_gguf_close(&g);
    bytes_free(&b);
}

/* ---- what is written is read ---------------------------------------------------------------- */

typedef struct values {
    uint8_t u8[3]; int8_t i8[3]; uint16_t u16[3]; int16_t i16[3]; uint32_t u32[3]; int32_t i32[3];
    float f32[3]; uint8_t truth[3]; uint64_t u64[3]; int64_t i64[3]; double f64[3];
    quant_str str[3];
} values;

static void set_values(values *v)
{
    static const char *const text[3] = { "one", "", "\xc3\xa9t\xc3\xa9 with \n and quotes \"" };
    int i;
    for (i = 0; i < 3; i++) {
        v->str[i].p = text[i];
        v->str[i].n = strlen(text[i]);
        v->truth[i] = (uint8_t)(i == 1 ? 0 : 1);
    }
    v->u8[0] = 0;   v->u8[1] = 1;    v->u8[2] = UINT8_MAX;
    v->u16[0] = 0;  v->u16[1] = 258; v->u16[2] = UINT16_MAX;
    v->u32[0] = 0;  v->u32[1] = 0x01020304; v->u32[2] = UINT32_MAX;
    v->u64[0] = 0;  v->u64[1] = 0x0102030405060708u; v->u64[2] = UINT64_MAX;
    v->i8[0] = -1;  v->i8[1] = INT8_MIN;   v->i8[2] = INT8_MAX;
    v->i16[0] = -2; v->i16[1] = INT16_MIN; v->i16[2] = INT16_MAX;
    v->i32[0] = -3; v->i32[1] = INT32_MIN; v->i32[2] = INT32_MAX;
    v->i64[0] = -4; v->i64[1] = INT64_MIN; v->i64[2] = INT64_MAX;
    v->f32[0] = -0.1f; v->f32[1] = 1e-40f; v->f32[2] = 3e38f;
    v->f64[0] = 0.1;   v->f64[1] = -1e-310; v->f64[2] = 1e300;
}

/* The C array of a value type and the size of its elements. */
static const void *value_of(const values *v, uint32_t type, size_t *size)
{
    switch (type) {
        case QUANT_KV_U8:   *size = 1; return v->u8;
        case QUANT_KV_I8:   *size = 1; return v->i8;
        case QUANT_KV_U16:  *size = 2; return v->u16;
        case QUANT_KV_I16:  *size = 2; return v->i16;
        case QUANT_KV_U32:  *size = 4; return v->u32;
        case QUANT_KV_I32:  *size = 4; return v->i32;
        case QUANT_KV_F32:  *size = 4; return v->f32;
        case QUANT_KV_BOOL: *size = 1; return v->truth;
        case QUANT_KV_STR:  *size = sizeof(quant_str); return v->str;
        case QUANT_KV_U64:  *size = 8; return v->u64;
        case QUANT_KV_I64:  *size = 8; return v->i64;
        case QUANT_KV_F64:  *size = 8; return v->f64;
        default:            *size = 0; return NULL;
    }
}

static int is_signed(uint32_t t)
{
    return t == QUANT_KV_I8 || t == QUANT_KV_I16 || t == QUANT_KV_I32 || t == QUANT_KV_I64;
}

static int unsigned_is(const values *v, uint32_t type, int i, uint64_t x)
{
    switch (type) {
        case QUANT_KV_U8:   return v->u8[i] == x;
        case QUANT_KV_U16:  return v->u16[i] == x;
        case QUANT_KV_U32:  return v->u32[i] == x;
        case QUANT_KV_BOOL: return v->truth[i] == x;
        default:            return v->u64[i] == x;
    }
}

static int signed_is(const values *v, uint32_t type, int i, int64_t x)
{
    switch (type) {
        case QUANT_KV_I8:   return v->i8[i] == x;
        case QUANT_KV_I16:  return v->i16[i] == x;
        case QUANT_KV_I32:  return v->i32[i] == x;
        default:            return v->i64[i] == x;
    }
}

/* Element `at` of kv is element i of v. */
static int value_is(const quant_kv *kv, uint64_t at, const values *v, int i)
{
    uint32_t t = kv->elem_type;
    uint64_t u = 0;
    int64_t s = 0;
    double d = 0;
    quant_str str;
    if (t == QUANT_KV_STR)
        return quant_kv_str(kv, at, NULL, &str) == QUANT_OK && str.n == v->str[i].n
               && memcmp(str.p, v->str[i].p, str.n) == 0;
    if (t == QUANT_KV_F32) return quant_kv_f64(kv, at, &d) == QUANT_OK && d == (double)v->f32[i];
    if (t == QUANT_KV_F64) return quant_kv_f64(kv, at, &d) == QUANT_OK && d == v->f64[i];
    if (is_signed(t)) return quant_kv_i64(kv, at, &s) == QUANT_OK && signed_is(v, t, i, s);
    return quant_kv_u64(kv, at, &u) == QUANT_OK && unsigned_is(v, t, i, u);
}

/* Names of keys: s<type>.<i> scalar i, a<type>.<n> array of n. */
static void key_name(char *buf, char kind, uint32_t type, int i)
{
    sprintf(buf, "%c%u.%d", kind, (unsigned)type, i);
}

static quant_result put_all_values(quant_gguf_out *o, const values *v)
{
    uint32_t t;
    int i;
    char key[32];
    for (t = 0; t < QUANT_KV_TYPE_COUNT; t++) {
        size_t size;
        const uint8_t *p = (const uint8_t *)value_of(v, t, &size);
        if (!p) continue;
        for (i = 0; i < 3; i++) {
            key_name(key, 's', t, i);
            quant_gguf_put(o, key, t, p + (size_t)i * size);
        }
        for (i = 0; i <= 3; i++) {
            key_name(key, 'a', t, i);
            quant_gguf_put_array(o, key, t, i ? p : NULL, (uint64_t)i);
        }
    }
    return o->err.code;
}

static void check_all_values(const quant_gguf *g, const values *v)
{
    uint32_t t;
    int i, k;
    char key[32];
    for (t = 0; t < QUANT_KV_TYPE_COUNT; t++) {
        if (t == QUANT_KV_ARRAY) continue;
        for (i = 0; i < 3; i++) {
            const quant_kv *kv;
            key_name(key, 's', t, i);
            test_note("%s", key);
            kv = quant_gguf_find(g, key);
            CHECK(kv && kv->type == t && kv->count == 1 && value_is(kv, 0, v, i));
        }
        for (i = 0; i <= 3; i++) {
            const quant_kv *kv;
            key_name(key, 'a', t, i);
            test_note("%s", key);
            kv = quant_gguf_find(g, key);
            CHECK(kv && kv->type == QUANT_KV_ARRAY && kv->elem_type == t
                  && kv->count == (uint64_t)i);
            for (k = 0; k < i; k++) CHECK(kv && value_is(kv, (uint64_t)k, v, k));
        }
    }
}

static void write_values_round_trip(void)
{
    quant_gguf_out o;
    quant_gguf g;
    values v;
    bytes b;
    memset(&b, 0, sizeof b);
    set_values(&v);
    quant_gguf_begin(&o, bytes_to(&b), 0, NULL);
    CHECK(put_all_values(&o, &v) == QUANT_OK);
    CHECK(finish(&o, NULL, 0) == QUANT_OK);
    REQUIRE(quant_gguf_open(&g, b.p, b.n, NULL, NULL) == QUANT_OK);
    CHECK(g.n_kv == 12 * 7);
    check_all_values(&g, &v);
    quant_gguf_close(&g);
    bytes_free(&b);
}

static void write_bool_is_0_or_1(void)
{
    static const uint8_t odd[3] = { 0, 2, 255 };
    quant_gguf_out o;
    quant_gguf g;
    bytes b;
    memset(&b, 0, sizeof b);
    quant_gguf_begin(&o, bytes_to(&b), 0, NULL);
    quant_gguf_put_array(&o, "b", QUANT_KV_BOOL, odd, 3);
    CHECK(finish(&o, NULL, 0) == QUANT_OK);
    REQUIRE(quant_gguf_open(&g, b.p, b.n, NULL, NULL) == QUANT_OK);
    CHECK(memcmp(g.kv[0].raw, "\0\1\1", 3) == 0);
    quant_gguf_close(&g);
    bytes_free(&b);
}

static const struct { const char *name; quant_type type; uint32_t n_dims; uint64_t ne[4]; }
tensors[] = {
    { "one",   QUANT_F32,   1, { 1, 1, 1, 1 } },      { "half", QUANT_F16, 2, { 5, 3, 1, 1 } },
    { "q4",    QUANT_Q4_0,  2, { 64, 3, 1, 1 } },     { "k",    QUANT_Q4_K, 3, { 256, 2, 2, 1 } },
    { "iq",    QUANT_IQ1_M, 4, { 256, 1, 2, 3 } },    { "byte", QUANT_I8, 4, { 3, 1, 1, 1 } },
    { "d",     QUANT_F64,   1, { 7, 1, 1, 1 } },      { "mx",   QUANT_MXFP4, 1, { 32, 1, 1, 1 } },
    { "big",   QUANT_BF16,  2, { 1000, 33, 1, 1 } },  { "last", QUANT_I8, 1, { 1, 1, 1, 1 } }
};
enum { N_TENSORS = sizeof tensors / sizeof tensors[0] };

static size_t put_tensors(quant_gguf_out *o)
{
    size_t i, total = 0, d;
    for (i = 0; i < N_TENSORS; i++) {
        size_t n = quant_row_size(tensors[i].type, (size_t)tensors[i].ne[0]);
        for (d = 1; d < 4; d++) n *= (size_t)tensors[i].ne[d];
        CHECK(quant_gguf_put_tensor(o, tensors[i].name, tensors[i].type, tensors[i].ne,
                                    tensors[i].n_dims) == QUANT_OK);
        total += n;
    }
    return total;
}

static void write_tensors_round_trip(void)
{
    static const uint32_t alignments[] = { 0, 8, 16, 32, 64, 4096, 65536 };
    size_t a, i, size, at;
    for (a = 0; a < sizeof alignments / sizeof alignments[0]; a++) {
        uint32_t align = alignments[a] ? alignments[a] : 32;
        quant_gguf_out o;
        quant_gguf g;
        uint8_t *data;
        bytes b;
        memset(&b, 0, sizeof b);
        test_note("alignment %u", (unsigned)align);
        CHECK(quant_gguf_begin(&o, bytes_to(&b), alignments[a], NULL) == QUANT_OK);
        size = put_tensors(&o);
        data = pattern(size, a);
        CHECK(finish(&o, data, size) == QUANT_OK);
        CHECK(b.n % align == 0 && b.n == o.written);
        CHECK(b.p[b.n - align] != 0 && b.p[b.n - align + 1] == 0);  /* the last tensor: one byte */
        REQUIRE(quant_gguf_open(&g, b.p, b.n, NULL, NULL) == QUANT_OK);
        CHECK(g.alignment == align && g.n_tensors == N_TENSORS && g.data_offset % align == 0);
        CHECK(g.n_kv == (align != 32));
        if (align != 32) CHECK(memcmp(g.kv[0].key.p, "general.alignment", 17) == 0);
        for (i = at = 0; i < N_TENSORS && g.n_tensors == N_TENSORS; i++) {
            const quant_tensor *t = &g.tensors[i];
            CHECK(t->type == tensors[i].type && t->n_dims == tensors[i].n_dims);
            CHECK(memcmp(t->ne, tensors[i].ne, sizeof t->ne) == 0 && t->offset % align == 0);
            CHECK(t->name.n == strlen(tensors[i].name));
            CHECK(memcmp(b.p + t->offset, data + at, (size_t)t->size) == 0);
            at += (size_t)t->size;
        }
        CHECK(at == size);
        quant_gguf_close(&g);
        bytes_free(&b);
        free(data);
    }
}

static void write_in_any_chunks(void)
{
    quant_gguf_out o;
    bytes whole, b;
    uint8_t *data;
    size_t size, n, at;
    memset(&whole, 0, sizeof whole);
    quant_gguf_begin(&o, bytes_to(&whole), 64, NULL);
    size = put_tensors(&o);
    data = pattern(size, 5);
    CHECK(finish(&o, data, size) == QUANT_OK);
    for (n = 1; n < size; n = n < 200 ? n + 1 : n * 3) {
        memset(&b, 0, sizeof b);
        quant_gguf_begin(&o, bytes_to(&b), 64, NULL);
        put_tensors(&o);
        quant_gguf_header(&o);
        for (at = 0; at < size; at += n)
            quant_gguf_write(&o, data + at, n < size - at ? n : size - at);
        CHECK(quant_gguf_write(&o, NULL, 0) == QUANT_OK);
        CHECK(quant_gguf_end(&o) == QUANT_OK);
        CHECK(b.n == whole.n && memcmp(b.p, whole.p, b.n) == 0);
        bytes_free(&b);
    }
    free(data);
    bytes_free(&whole);
}

/* ---- copies --------------------------------------------------------------------------------- */

/* A file of the values above, by hand: any version and order.  Array of bool last. */
static void build_values(bytes *b, uint32_t version, int big, const values *v)
{
    uint32_t t;
    int i, k;
    char key[32];
    b->big = big;
    bytes_gguf(b, version, 0, 12 * 7);
    for (t = 0; t < QUANT_KV_TYPE_COUNT; t++) {
        size_t size, s;
        const uint8_t *p = (const uint8_t *)value_of(v, t, &size);
        if (!p) continue;
        for (i = 0; i < 7; i++) {
            int first = i < 3 ? i : 0, end = i < 3 ? i + 1 : i - 3;
            key_name(key, i < 3 ? 's' : 'a', t, i < 3 ? i : i - 3);
            bytes_str(b, key);
            bytes_int(b, i < 3 ? t : QUANT_KV_ARRAY, 4);
            if (i >= 3) { bytes_int(b, t, 4); bytes_len(b, (uint64_t)(i - 3)); }
            for (k = first; k < end; k++) {
                uint64_t u = 0;
                const uint8_t *e = p + (size_t)k * size;
                if (t == QUANT_KV_STR) {
                    bytes_len(b, v->str[k].n);
                    bytes_add(b, v->str[k].p, v->str[k].n);
                    continue;
                }
                for (s = 0; s < size; s++) {            /* the machine's order, by value         */
                    const uint16_t one = 1;
                    int low_first = *(const uint8_t *)&one;
                    u |= (uint64_t)e[s] << 8 * (low_first ? s : size - 1 - s);
                }
                bytes_int(b, u, (int)size);
            }
        }
    }
}

static void write_copies_of_all_layouts(void)
{
    static const struct { uint32_t version; int big; } layouts[] = {
        { 1, 0 }, { 2, 0 }, { 3, 0 }, { 1, 1 }, { 2, 1 }, { 3, 1 }
    };
    values v;
    bytes want;
    quant_gguf_out o;
    size_t l, i;
    memset(&want, 0, sizeof want);
    set_values(&v);
    quant_gguf_begin(&o, bytes_to(&want), 0, NULL);
    put_all_values(&o, &v);
    CHECK(finish(&o, NULL, 0) == QUANT_OK);
    for (l = 0; l < sizeof layouts / sizeof layouts[0]; l++) {
        bytes src, b;
        quant_gguf g;
        memset(&src, 0, sizeof src);
        memset(&b, 0, sizeof b);
        test_note("version %u, big-endian %d", (unsigned)layouts[l].version, layouts[l].big);
        build_values(&src, layouts[l].version, layouts[l].big, &v);
        if (!CHECK(quant_gguf_open(&g, src.p, src.n, NULL, NULL) == QUANT_OK)) continue;
        quant_gguf_begin(&o, bytes_to(&b), 0, NULL);
        for (i = 0; i < g.n_kv; i++) CHECK(quant_gguf_put_kv(&o, &g.kv[i]) == QUANT_OK);
        CHECK(finish(&o, NULL, 0) == QUANT_OK);
        CHECK(b.n == want.n && memcmp(b.p, want.p, b.n) == 0);
        quant_gguf_close(&g);
        bytes_free(&src);
        bytes_free(&b);
    }
    bytes_free(&want);
}

static void write_copy_of_a_model(void)
{
    size_t size = 0, i, k;
    uint8_t *file = test_file("examples/models/tiny-f16.gguf", &size);
    quant_gguf_out o;
    quant_gguf g;
    bytes b;
    REQUIRE(file != NULL);
    memset(&b, 0, sizeof b);
    REQUIRE(quant_gguf_open(&g, file, size, NULL, NULL) == QUANT_OK);
    quant_gguf_begin(&o, bytes_to(&b), g.alignment, NULL);
    for (i = 0; i < g.n_kv; i++) CHECK(quant_gguf_put_kv(&o, &g.kv[i]) == QUANT_OK);
    for (i = 0; i < g.n_tensors; i++) {
        char name[64];
        for (k = 0; k < g.tensors[i].name.n; k++) name[k] = g.tensors[i].name.p[k];
        name[k] = 0;
        CHECK(quant_gguf_put_tensor(&o, name, g.tensors[i].type, g.tensors[i].ne,
                                    g.tensors[i].n_dims) == QUANT_OK);
    }
    CHECK(quant_gguf_header(&o) == QUANT_OK);
    for (i = 0; i < g.n_tensors; i++)
        CHECK(quant_gguf_write(&o, quant_gguf_data(&g, &g.tensors[i]), (size_t)g.tensors[i].size)
              == QUANT_OK);
    CHECK(quant_gguf_end(&o) == QUANT_OK);
    CHECK(b.n == size && memcmp(b.p, file, size) == 0);
    quant_gguf_close(&g);
    bytes_free(&b);
    free(file);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static bytes sunk;                  /* takes what refused files send                             */

static quant_gguf_out started(uint32_t alignment)
{
    quant_gguf_out o;
    sunk.n = sunk.calls = 0;
    quant_gguf_begin(&o, bytes_to(&sunk), alignment, NULL);
    return o;
}

/* The call failed with this code, it stays, and the end gives it too. */
static void refused(quant_gguf_out *o, quant_result got, quant_result want)
{
    const uint64_t one[1] = { 1 };
    CHECK(got == want);
    CHECK(o->err.code == want && o->err.what && o->err.what[0]);
    CHECK(quant_gguf_put_u32(o, "later", 1) == want);
    CHECK(quant_gguf_put_tensor(o, "later", QUANT_F32, one, 1) == want);
    CHECK(quant_gguf_header(o) == want);
    CHECK(quant_gguf_write(o, NULL, 0) == want);
    CHECK(quant_gguf_end(o) == want);
    CHECK(quant_gguf_end(o) == want);                   /* a second time frees nothing           */
}

static void write_refuses_keys(void)
{
    quant_gguf_out o;
    quant_kv kv;
    quant_str str;
    char *huge = (char *)malloc(65537);
    size_t i;
    memset(huge, 'k', 65536);
    huge[65536] = 0;
    o = started(0);
    refused(&o, quant_gguf_put_u32(&o, "", 1), QUANT_E_ARG);
    o = started(0);
    refused(&o, quant_gguf_put_u32(&o, NULL, 1), QUANT_E_ARG);
    o = started(0);
    refused(&o, quant_gguf_put_u32(&o, huge, 1), QUANT_E_ARG);
    huge[65535] = 0;
    o = started(0);
    CHECK(quant_gguf_put_u32(&o, huge, 1) == QUANT_OK);
    CHECK(finish(&o, NULL, 0) == QUANT_OK);
    o = started(0);
    quant_gguf_put_u32(&o, "twice", 1);
    refused(&o, quant_gguf_put_str(&o, "twice", "x"), QUANT_E_ARG);
    CHECK(strcmp(o.err.name, "twice") == 0);
    for (i = 0; i < 3; i++) {
        static const uint32_t types[3] = { QUANT_KV_ARRAY, QUANT_KV_TYPE_COUNT, 0xffffffffu };
        o = started(0);
        refused(&o, quant_gguf_put(&o, "k", types[i], huge), QUANT_E_ARG);
        o = started(0);
        refused(&o, quant_gguf_put_array(&o, "k", types[i], huge, 1), QUANT_E_ARG);
    }
    o = started(0);
    refused(&o, quant_gguf_put(&o, "k", QUANT_KV_U8, NULL), QUANT_E_ARG);
    o = started(0);
    refused(&o, quant_gguf_put_str(&o, "k", NULL), QUANT_E_ARG);
    o = started(0);
    refused(&o, quant_gguf_put_array(&o, "k", QUANT_KV_U8, NULL, 1), QUANT_E_ARG);
    str.p = NULL;
    str.n = 1;
    o = started(0);
    refused(&o, quant_gguf_put(&o, "k", QUANT_KV_STR, &str), QUANT_E_ARG);
    o = started(0);
    refused(&o, quant_gguf_put_array(&o, "k", QUANT_KV_U64, huge, UINT64_MAX / 4), QUANT_E_MEMORY);
    o = started(0);
    refused(&o, quant_gguf_put_kv(&o, NULL), QUANT_E_ARG);
    memset(&kv, 0, sizeof kv);
    kv.key.p = "a\0b";
    kv.key.n = 3;
    kv.type = kv.elem_type = QUANT_KV_U8;
    kv.count = kv.raw_size = 1;
    kv.raw = (const uint8_t *)huge;
    o = started(0);
    refused(&o, quant_gguf_put_kv(&o, &kv), QUANT_E_ARG);
    free(huge);
}

/* Values that no reader gives. */
static void write_refuses_kv(void)
{
    static const uint8_t raw[20] = { 3, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c' };
    static const struct { uint32_t type, elem; uint64_t count, size; } t[] = {
        { QUANT_KV_U32, QUANT_KV_U32, 1, 3 },       { QUANT_KV_U32, QUANT_KV_U32, 2, 8 },
        { QUANT_KV_U32, QUANT_KV_U32, 0, 0 },       { QUANT_KV_ARRAY, QUANT_KV_U64, 3, 20 },
        { QUANT_KV_ARRAY, QUANT_KV_U64, (uint64_t)1 << 61, 0 },
        { QUANT_KV_STR, QUANT_KV_STR, 1, 10 },      { QUANT_KV_STR, QUANT_KV_STR, 1, 7 },
        { QUANT_KV_STR, QUANT_KV_STR, 1, 0 },       { QUANT_KV_STR, QUANT_KV_STR, 1, 12 },
        { QUANT_KV_ARRAY, QUANT_KV_STR, 2, 11 },    { QUANT_KV_ARRAY, QUANT_KV_STR, 2, 18 },
        { QUANT_KV_ARRAY, QUANT_KV_STR, UINT64_MAX, 11 },
        { QUANT_KV_ARRAY, QUANT_KV_ARRAY, 1, 8 },   { QUANT_KV_TYPE_COUNT, 0, 1, 1 }
    };
    size_t i;
    for (i = 0; i < sizeof t / sizeof t[0]; i++) {
        quant_gguf_out o = started(0);
        uint8_t *exact = bytes_exact(raw, (size_t)t[i].size);
        quant_kv kv;
        memset(&kv, 0, sizeof kv);
        kv.key.p = "key";
        kv.key.n = 3;
        kv.type = t[i].type;
        kv.elem_type = t[i].elem;
        kv.count = t[i].count;
        kv.raw = exact;
        kv.raw_size = t[i].size;
        test_note("value %u", (unsigned)i);
        refused(&o, quant_gguf_put_kv(&o, &kv), QUANT_E_ARG);
        free(exact);
    }
}

static void write_refuses_tensors(void)
{
    static const struct { quant_type type; uint32_t n_dims; uint64_t ne[4]; quant_result want; }
    t[] = {
        { QUANT_F32, 0, { 1, 1, 1, 1 }, QUANT_E_ARG },
        { QUANT_F32, 5, { 1, 1, 1, 1 }, QUANT_E_ARG },
        { QUANT_F32, 1, { 0, 1, 1, 1 }, QUANT_E_ARG },
        { QUANT_F32, 4, { 1, 1, 1, 0 }, QUANT_E_ARG },
        { QUANT_F32, 2, { UINT64_MAX / 2, 3, 1, 1 }, QUANT_E_ARG },
        { QUANT_F32, 1, { (uint64_t)1 << 62, 1, 1, 1 }, QUANT_E_ARG },
        { QUANT_I8, 1, { UINT64_MAX, 1, 1, 1 }, QUANT_E_ARG },
        { QUANT_I8, 1, { (uint64_t)1 << 63, 1, 1, 1 }, QUANT_E_ARG },
        { QUANT_I8, 1, { INT64_MAX, 1, 1, 1 }, QUANT_E_ARG },   /* fits, but not padded          */
        { QUANT_I8, 4, { 65536, 65536, 65536, 65536 }, QUANT_E_ARG },
        { QUANT_Q4_K, 1, { 255, 1, 1, 1 }, QUANT_E_ARG },
        { QUANT_Q4_0, 2, { 16, 2, 1, 1 }, QUANT_E_ARG },
        { 4, 1, { 32, 1, 1, 1 }, QUANT_E_TYPE },
        { 31, 1, { 256, 1, 1, 1 }, QUANT_E_TYPE },
        { QUANT_TYPE_COUNT, 1, { 256, 1, 1, 1 }, QUANT_E_TYPE },
        { 0xffffffffu, 1, { 256, 1, 1, 1 }, QUANT_E_TYPE }
    };
    const uint64_t one[1] = { 1 }, half[1] = { (uint64_t)1 << 62 };
    static const char *const names[] = { "", NULL,
        "1234567890123456789012345678901234567890123456789012345678901234" };
    quant_gguf_out o;
    size_t i;
    for (i = 0; i < sizeof t / sizeof t[0]; i++) {
        test_note("tensor %u", (unsigned)i);
        o = started(0);
        refused(&o, quant_gguf_put_tensor(&o, "t", t[i].type, t[i].ne, t[i].n_dims), t[i].want);
        CHECK(strcmp(o.err.name, "t") == 0);
    }
    for (i = 0; i < 3; i++) {
        o = started(0);
        refused(&o, quant_gguf_put_tensor(&o, names[i], QUANT_F32, one, 1), QUANT_E_ARG);
    }
    o = started(0);
    CHECK(quant_gguf_put_tensor(&o, names[2] + 1, QUANT_F32, one, 1) == QUANT_OK);
    refused(&o, quant_gguf_put_tensor(&o, names[2] + 1, QUANT_F16, one, 1), QUANT_E_ARG);
    o = started(0);
    refused(&o, quant_gguf_put_tensor(&o, "t", QUANT_F32, NULL, 1), QUANT_E_ARG);
    o = started(0);
    CHECK(quant_gguf_put_tensor(&o, "a", QUANT_I8, half, 1) == QUANT_OK);
    refused(&o, quant_gguf_put_tensor(&o, "b", QUANT_I8, half, 1), QUANT_E_ARG);
}

static void write_refuses_alignments(void)
{
    static const uint32_t bad[] = { 1, 2, 4, 7, 9, 24, 33, 65535, 1u << 17, 1u << 31, 0xffffffffu };
    quant_gguf_out o;
    quant_sink none;
    uint32_t v;
    size_t i;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        quant_result r = quant_gguf_begin(&o, bytes_to(&sunk), bad[i], NULL);
        refused(&o, r, QUANT_E_ARG);
    }
    none.write = NULL;
    none.user = NULL;
    CHECK(quant_gguf_begin(&o, none, 0, NULL) == QUANT_E_ARG);
    CHECK(quant_gguf_end(&o) == QUANT_E_ARG);
    o = started(64);
    refused(&o, quant_gguf_put_u32(&o, "general.alignment", 64), QUANT_E_ARG);
    o = started(0);
    refused(&o, quant_gguf_put_u32(&o, "general.alignment", 64), QUANT_E_ARG);
    o = started(0);
    v = 32;
    refused(&o, quant_gguf_put(&o, "general.alignment", QUANT_KV_I32, &v), QUANT_E_ARG);
    o = started(0);
    refused(&o, quant_gguf_put_array(&o, "general.alignment", QUANT_KV_U32, &v, 1), QUANT_E_ARG);
    o = started(0);
    CHECK(quant_gguf_put_u32(&o, "general.alignment", 32) == QUANT_OK);
    CHECK(finish(&o, NULL, 0) == QUANT_OK);
}

static void write_refuses_wrong_order(void)
{
    quant_gguf_out o;
    const uint64_t one[1] = { 1 };
    float x = 1;
    memset(&o, 0, sizeof o);
    CHECK(quant_gguf_put_u32(&o, "k", 1) == QUANT_E_STATE);
    memset(&o, 0, sizeof o);
    CHECK(quant_gguf_end(&o) == QUANT_E_STATE);
    o = started(0);
    refused(&o, quant_gguf_write(&o, &x, 4), QUANT_E_STATE);
    o = started(0);
    refused(&o, quant_gguf_end(&o), QUANT_E_STATE);
    o = started(0);
    quant_gguf_header(&o);
    refused(&o, quant_gguf_put_u32(&o, "k", 1), QUANT_E_STATE);
    o = started(0);
    quant_gguf_header(&o);
    refused(&o, quant_gguf_put_tensor(&o, "k", QUANT_F32, one, 1), QUANT_E_STATE);
    o = started(0);
    quant_gguf_header(&o);
    refused(&o, quant_gguf_header(&o), QUANT_E_STATE);
    o = started(0);
    CHECK(finish(&o, NULL, 0) == QUANT_OK);
    refused(&o, quant_gguf_write(&o, NULL, 0), QUANT_E_STATE);
}

static void write_counts_the_data(void)
{
    quant_gguf_out o = started(0);
    const uint64_t ne[1] = { 3 };
    size_t sent;
    uint8_t data[8] = { 0 };
    quant_gguf_put_tensor(&o, "a", QUANT_I8, ne, 1);
    quant_gguf_put_tensor(&o, "b", QUANT_I8, ne, 1);
    quant_gguf_header(&o);
    sent = sunk.n;
    refused(&o, quant_gguf_write(&o, data, 7), QUANT_E_ARG);
    CHECK(sunk.n == sent && o.err.need == 7 && o.err.have == 6);
    o = started(0);
    quant_gguf_put_tensor(&o, "a", QUANT_I8, ne, 1);
    quant_gguf_header(&o);
    CHECK(quant_gguf_write(&o, data, 3) == QUANT_OK);
    refused(&o, quant_gguf_write(&o, data, 1), QUANT_E_ARG);
    o = started(0);
    quant_gguf_put_tensor(&o, "a", QUANT_I8, ne, 1);
    quant_gguf_header(&o);
    CHECK(quant_gguf_write(&o, data, 2) == QUANT_OK);
    refused(&o, quant_gguf_end(&o), QUANT_E_STATE);
}

/* ---- failures from outside ------------------------------------------------------------------ */

/* One file with everything; returns the first failure.  Every handle is ended. */
static quant_result write_once(bytes *b, test_heap *h, quant_gguf_out *o)
{
    quant_alloc a = test_heap_alloc(h);
    values v;
    size_t size;
    uint8_t *data;
    quant_result r;
    set_values(&v);
    quant_gguf_begin(o, bytes_to(b), 64, &a);
    put_all_values(o, &v);
    if (o->err.code == QUANT_OK) {
        size = put_tensors(o);
        data = pattern(size, 1);
        r = finish(o, data, size);
        free(data);
    } else {
        r = o->err.code;
        CHECK(quant_gguf_end(o) == r);
    }
    return r;
}

/* Enough names and data for every buffer to grow; calls go on after a failure, as a careless caller
 * would. */
static quant_result write_many(bytes *b, test_heap *h, quant_gguf_out *o)
{
    quant_alloc a = test_heap_alloc(h);
    const uint64_t ne[1] = { 1 };
    char name[32];
    int i;
    quant_gguf_begin(o, bytes_to(b), 64, &a);
    for (i = 0; i < 150; i++) {
        sprintf(name, "key.%d", i);
        quant_gguf_put_str(o, name, "some text");
        quant_gguf_put_tensor(o, name, QUANT_I8, ne, 1);
    }
    quant_gguf_header(o);
    for (i = 0; i < 150; i++) quant_gguf_write(o, "x", 1);
    return quant_gguf_end(o);
}

static void write_without_memory(void)
{
    size_t n, cap = 10000;
    for (n = 1; n < cap; n++) {
        quant_gguf_out o;
        test_heap h;
        bytes b;
        quant_result r;
        memset(&h, 0, sizeof h);
        memset(&b, 0, sizeof b);
        h.fail_at = n;
        r = write_many(&b, &h, &o);
        CHECK(h.live == 0 && h.live_bytes == 0);
        CHECK(r == QUANT_OK || r == QUANT_E_MEMORY);
        bytes_free(&b);
        if (r == QUANT_OK) break;
    }
    CHECK(n > 20 && n < cap);
}

static void write_to_failing_sinks(void)
{
    size_t n, cap = 10000;
    for (n = 1; n < cap; n++) {
        quant_gguf_out o;
        test_heap h;
        bytes b;
        quant_result r;
        memset(&h, 0, sizeof h);
        memset(&b, 0, sizeof b);
        b.fail_at = n;
        r = write_once(&b, &h, &o);
        CHECK(h.live == 0 && h.calls > 0);
        CHECK(o.written == b.n);
        if (r != QUANT_OK) CHECK(r == QUANT_E_IO && o.err.where == o.written && b.calls == n);
        bytes_free(&b);
        if (r == QUANT_OK) break;
    }
    CHECK(n > 10 && n < cap);
}

/* 200,000 keys and 50,000 tensors: a search through all names for each would take minutes. */
static void write_many_names(void)
{
    const uint64_t ne[1] = { 1 };
    quant_gguf_out o;
    quant_gguf g;
    bytes b;
    char name[32];
    uint32_t i;
    uint64_t v;
    memset(&b, 0, sizeof b);
    quant_gguf_begin(&o, bytes_to(&b), 8, NULL);
    for (i = 0; i < 200000; i++) {
        sprintf(name, "key.%u", (unsigned)i);
        if (quant_gguf_put_u32(&o, name, i) != QUANT_OK) break;
    }
    CHECK(o.n_kv == 200001);
    for (i = 0; i < 50000; i++) {
        sprintf(name, "tensor.%u", (unsigned)i);
        if (quant_gguf_put_tensor(&o, name, QUANT_I8, ne, 1) != QUANT_OK) break;
    }
    CHECK(o.n_tensors == 50000);
    quant_gguf_header(&o);
    for (i = 0; i < 50000; i++) quant_gguf_write(&o, &"abcdefgh"[i % 8], 1);
    CHECK(quant_gguf_end(&o) == QUANT_OK);
    REQUIRE(quant_gguf_open(&g, b.p, b.n, NULL, NULL) == QUANT_OK);
    CHECK(quant_gguf_get_u64(&g, "key.123456", &v) == QUANT_OK && v == 123456);
    CHECK(*(const char *)quant_gguf_data(&g, quant_gguf_find_tensor(&g, "tensor.43210")) == 'c');
    quant_gguf_close(&g);
    bytes_free(&b);
    o = started(0);
    for (i = 0; i < 1000; i++) {
        sprintf(name, "key.%u", (unsigned)i);
        quant_gguf_put_u32(&o, name, i);
    }
    refused(&o, quant_gguf_put_u32(&o, "key.500", 1), QUANT_E_ARG);
}

void suite_write(void);
void suite_write(void)
{
    RUN(write_golden);
    RUN(write_empty_file);
    RUN(write_values_round_trip);
    RUN(write_bool_is_0_or_1);
    RUN(write_tensors_round_trip);
    RUN(write_in_any_chunks);
    RUN(write_copies_of_all_layouts);
    RUN(write_copy_of_a_model);
    RUN(write_refuses_keys);
    RUN(write_refuses_kv);
    RUN(write_refuses_tensors);
    RUN(write_refuses_alignments);
    RUN(write_refuses_wrong_order);
    RUN(write_counts_the_data);
    RUN(write_without_memory);
    RUN(write_to_failing_sinks);
    RUN(write_many_names);
    bytes_free(&sunk);
}
