/* The GGUF reader: what it must read and what it must refuse.  Files are built in memory, so that
 * every wrong one is the right one but for a single thing. */
#include "test.h"

/* ---- a file under construction --------------------------------------------------------------- */
typedef struct file {
    uint8_t *p;
    size_t   n, cap;
    uint32_t version;
    int      big;
    size_t   data;                  /* where tensor data starts, once begin_data was called       */
} file;

static void add(file *f, const void *p, size_t n)
{
    if (f->n + n > f->cap) {
        f->cap = 2 * (f->n + n) + 64;
        f->p = (uint8_t *)realloc(f->p, f->cap);
        if (!f->p) abort();
    }
    if (n) memcpy(f->p + f->n, p, n);
    f->n += n;
}

static void set(file *f, size_t at, size_t width, uint64_t v)
{
    size_t i;
    for (i = 0; i < width; i++)
        f->p[at + i] = (uint8_t)(v >> 8 * (f->big ? width - 1 - i : i));
}

static void num(file *f, size_t width, uint64_t v)
{
    static const uint8_t zero[8] = { 0 };
    add(f, zero, width);
    set(f, f->n - width, width, v);
}

static size_t length_size(const file *f) { return f->version == 1 ? 4 : 8; }
static void len(file *f, uint64_t v) { num(f, length_size(f), v); }

static void bytes(file *f, const char *s, size_t n)
{
    len(f, n);
    add(f, s, n);
}

static void text(file *f, const char *s) { bytes(f, s, strlen(s)); }

static void begin(file *f, uint32_t version, int big, uint64_t n_tensors, uint64_t n_kv)
{
    memset(f, 0, sizeof *f);
    f->version = version;
    f->big = big;
    add(f, "GGUF", 4);
    num(f, 4, version);
    len(f, n_tensors);
    len(f, n_kv);
}

static void begin_kv(file *f, const char *key, uint32_t type)
{
    text(f, key);
    num(f, 4, type);
}

static void begin_array(file *f, const char *key, uint32_t elem_type, uint64_t count)
{
    begin_kv(f, key, QUANT_KV_ARRAY);
    num(f, 4, elem_type);
    len(f, count);
}

static void kv_u32(file *f, const char *key, uint32_t v)
{
    begin_kv(f, key, QUANT_KV_U32);
    num(f, 4, v);
}

static void info(file *f, const char *name, uint64_t ne0, uint64_t ne1, quant_type t, uint64_t at)
{
    text(f, name);
    num(f, 4, 2);
    len(f, ne0);
    len(f, ne1);
    num(f, 4, t);
    num(f, 8, at);
}

static void fill(file *f, size_t n)         /* n bytes, each another                             */
{
    for (; n; n--) num(f, 1, f->n * 37 & 255);
}

static void begin_data(file *f, size_t alignment)
{
    while (f->n % alignment) num(f, 1, 0);
    f->data = f->n;
}

/* A key, a tensor [8 x 2] F32 of 64 bytes and its data; *shape: where ne[0] stands. */
static void small_file(file *f, size_t *shape)
{
    begin(f, 3, 0, 1, 1);
    kv_u32(f, "some.key", 7);
    *shape = f->n + 8 + 1 + 4;
    info(f, "w", 8, 2, QUANT_F32, 0);
    begin_data(f, 32);
    fill(f, 64);
}

/* Every value type, arrays, four tensors, in any version and byte order. */
static void full_file(file *f, uint32_t version, int big)
{
    size_t i;
    uint32_t t;
    static const char *const keys[12] = { "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool",
                                          "u64", "i64", "f64", "str" };
    static const uint32_t types[12] = { 0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 8 };
    static const size_t widths[11] = { 1, 1, 2, 2, 4, 4, 4, 1, 8, 8, 8 };
    static const uint64_t values[11] = { 200, 0x80, 60000, 0x8000, 4000000000u, 0x80000000u,
                                         0x3fc00000, 2, UINT64_MAX, (uint64_t)1 << 63,
                                         0x4004000000000000u };
    begin(f, version, big, 4, 26);
    for (i = 0; i < 12; i++) {
        begin_kv(f, keys[i], types[i]);
        if (i < 11) num(f, widths[i], values[i]); else text(f, "a string");
    }
    for (i = 0; i < 12; i++) {
        char key[16];
        sprintf(key, "array.%s", keys[i]);
        begin_array(f, key, types[i], 3);
        if (i < 11) for (t = 0; t < 3; t++) num(f, widths[i], t == 1 ? values[i] : t);
        else { text(f, "one"); text(f, ""); text(f, "three"); }
    }
    begin_array(f, "empty", QUANT_KV_STR, 0);
    kv_u32(f, "general.alignment", 64);
    info(f, "f16", 4, 8, QUANT_F16, 0);
    info(f, "q4_K", 256, 2, QUANT_Q4_K, 64);
    info(f, "i8", 3, 5, QUANT_I8, 384);
    info(f, "f64", 2, 2, QUANT_F64, 448);
    begin_data(f, 64);
    fill(f, 448 + 32);
}

/* ---- opening --------------------------------------------------------------------------------- */
typedef struct source {
    const uint8_t *p, *later;       /* later: what it becomes after `turn` reads                 */
    size_t n, calls, fail_at, turn;
} source;

static size_t source_read(void *user, uint64_t offset, void *dst, size_t n)
{
    source *s = (source *)user;
    const uint8_t *p = s->later && s->calls >= s->turn ? s->later : s->p;
    if (++s->calls == s->fail_at) return n / 2;
    CHECK(offset <= s->n && n <= s->n - offset && "reads stay in the file");
    if (offset > s->n || n > s->n - offset) return 0;
    memcpy(dst, p + offset, n);
    return n;
}

static quant_io source_io(source *s, const uint8_t *p, size_t n)
{
    quant_io io;
    memset(s, 0, sizeof *s);
    s->p = p;
    s->n = n;
    io.read = source_read;
    io.size = n;
    io.user = s;
    return io;
}

static uint64_t sink;               /* what was read, so that reading is not optimized away      */

static void touch(const void *p, uint64_t n)
{
    const uint8_t *b = (const uint8_t *)p;
    for (; n; n--) sink += *b++;
}

/* Reads everything that an open file hands out; mem: where its bytes are, or NULL. */
static void touch_all(const quant_gguf *g, const uint8_t *mem, size_t size)
{
    size_t i;
    uint64_t j;
    for (i = 0; i < g->n_kv; i++) {
        const quant_kv *kv = &g->kv[i];
        quant_cursor cur = { 0, 0 };
        quant_str s;
        CHECK(kv->key.n > 0 && kv->where < size);
        if (mem) {
            CHECK(kv->raw >= mem && kv->raw_size <= size - (uint64_t)(kv->raw - mem));
            CHECK((const uint8_t *)kv->key.p >= mem);
            CHECK(kv->key.n <= (size_t)(kv->raw - (const uint8_t *)kv->key.p));
        }
        touch(kv->key.p, kv->key.n);
        touch(kv->raw, kv->raw_size);
        for (j = 0; j < kv->count; j++) {
            uint64_t u; int64_t v; double d;
            quant_result r = quant_kv_str(kv, j, &cur, &s);
            CHECK((r == QUANT_OK) == (kv->elem_type == QUANT_KV_STR));
            if (r == QUANT_OK) touch(s.p, s.n);
            CHECK(quant_kv_u64(kv, j, &u) != QUANT_E_NOT_FOUND);
            CHECK(quant_kv_i64(kv, j, &v) != QUANT_E_NOT_FOUND);
            CHECK(quant_kv_f64(kv, j, &d) != QUANT_E_NOT_FOUND);
        }
    }
    for (i = 0; i < g->n_tensors; i++) {
        const quant_tensor *t = &g->tensors[i];
        const void *data = quant_gguf_data(g, t);
        uint8_t buf[64];
        CHECK(t->size > 0 && t->size <= t->span);
        CHECK(t->offset <= size && t->span <= size - t->offset);
        CHECK(t->offset % g->alignment == 0 && t->n_dims >= 1 && t->n_dims <= 4);
        touch(t->name.p, t->name.n);
        if (data) touch(data, t->size);
        if (!g->big_endian)
            CHECK(quant_gguf_read(g, t, buf, t->size - 1, 1) == QUANT_OK);
        CHECK(quant_gguf_read(g, t, buf, t->size, 1) == QUANT_E_ARG);
    }
}

static quant_error last;            /* of the memory open of `opens`                             */

/* Opens from exactly sized memory and through a callback, which must agree in everything. */
static quant_result opens(const uint8_t *p, size_t n, const quant_limits *limits)
{
    uint8_t *copy = (uint8_t *)malloc(n ? n : 1);
    quant_gguf g, h;
    source s;
    quant_io io;
    quant_result r, q;
    test_heap heap = { 0, 0, 0, 0, 0 };
    quant_alloc a = test_heap_alloc(&heap);
    if (!copy) abort();
    memcpy(copy, p, n);
    io = source_io(&s, copy, n);
    r = quant_gguf_open(&g, copy, n, &a, limits);
    q = quant_gguf_open_io(&h, &io, &a, limits);
    CHECK(r == q && r == g.err.code && q == h.err.code);
    CHECK(g.err.where == h.err.where && g.err.need == h.err.need && g.err.have == h.err.have);
    CHECK(strcmp(g.err.name, h.err.name) == 0);
    CHECK((r == QUANT_OK) == (g.err.what == NULL));
    CHECK(r == QUANT_OK || strcmp(g.err.what, h.err.what) == 0);
    CHECK(r == QUANT_OK || (g.kv == NULL && g.n_kv == 0 && g.n_tensors == 0 && heap.live == 0));
    CHECK(heap.calls <= 2);
    last = g.err;
    if (r == QUANT_OK) {
        size_t i;
        touch_all(&g, copy, n);
        touch_all(&h, NULL, n);
        CHECK(g.n_kv == h.n_kv && g.n_tensors == h.n_tensors && g.data_offset == h.data_offset);
        CHECK(g.version == h.version && g.alignment == h.alignment && g.file_size == n);
        for (i = 0; i < g.n_kv; i++) {
            const quant_kv *x = &g.kv[i], *y = &h.kv[i];
            CHECK(x->type == y->type && x->elem_type == y->elem_type && x->count == y->count);
            CHECK(x->raw_size == y->raw_size && memcmp(x->raw, y->raw, (size_t)x->raw_size) == 0);
            CHECK(x->where == y->where && x->layout == y->layout && x->key.n == y->key.n);
            CHECK(memcmp(x->key.p, y->key.p, x->key.n) == 0);
        }
        for (i = 0; i < g.n_tensors; i++) {
            const quant_tensor *x = &g.tensors[i], *y = &h.tensors[i];
            CHECK(x->type == y->type && memcmp(x->ne, y->ne, sizeof x->ne) == 0);
            CHECK(x->offset == y->offset && x->size == y->size && x->span == y->span);
            CHECK(x->name.n == y->name.n && memcmp(x->name.p, y->name.p, x->name.n) == 0);
            CHECK(quant_gguf_data(&h, y) == NULL);
        }
    }
    quant_gguf_close(&g);
    quant_gguf_close(&h);
    CHECK(heap.live == 0);
    free(copy);
    return r;
}

/* Opens and frees f; the error must have this code, name and place. */
#define REFUSED(f, want, at, who) \
    do { \
        quant_result r_ = opens((f)->p, (f)->n, NULL); \
        test_note("%d '%s' at %d, %s", (int)r_, last.what ? last.what : "", (int)last.where, \
                  last.name); \
        CHECK(r_ == (want)); \
        CHECK(last.where == (uint64_t)(at)); \
        CHECK(strcmp(last.name, who) == 0); \
        test_note("%s", ""); \
        free((f)->p); \
    } while (0)
#define ACCEPTED(f) \
    do { \
        CHECK(opens((f)->p, (f)->n, NULL) == QUANT_OK); \
        free((f)->p); \
    } while (0)

/* ---- the rules of a safe reader, by number --------------------------------------------------- */
static void read_rule_01_counts_are_bounded_by_the_file(void)
{
    static const uint64_t bad[] = { 100, 1u << 31, (uint64_t)1 << 60, (uint64_t)1 << 63,
                                    UINT64_MAX / 80, UINT64_MAX };
    size_t i, shape;
    file f;
    test_heap heap = { 0, 0, 0, 0, 0 };
    quant_alloc a = test_heap_alloc(&heap);
    quant_gguf g;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        small_file(&f, &shape);
        set(&f, 16, 8, bad[i]);
        CHECK(quant_gguf_open(&g, f.p, f.n, &a, NULL) == QUANT_E_SHORT && heap.calls == 0);
        CHECK(g.err.have == f.n && g.err.need > f.n);
        REFUSED(&f, QUANT_E_SHORT, 24, "");
        small_file(&f, &shape);
        set(&f, 8, 8, bad[i]);
        CHECK(quant_gguf_open(&g, f.p, f.n, &a, NULL) == QUANT_E_SHORT && heap.calls == 0);
        REFUSED(&f, QUANT_E_SHORT, 24, "");
    }
}

static void read_rule_02_string_lengths(void)
{
    static const uint64_t bad[] = { 1000, UINT64_MAX, UINT64_MAX - 8, UINT64_MAX - 40 };
    size_t i, at;
    file f;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        begin(&f, 3, 0, 0, 1);
        kv_u32(&f, "some.key", 7);
        set(&f, 24, 8, bad[i]);
        REFUSED(&f, QUANT_E_SHORT, 32, "");
        begin(&f, 3, 0, 0, 1);
        begin_kv(&f, "s", QUANT_KV_STR);
        at = f.n;
        text(&f, "value");
        set(&f, at, 8, bad[i]);
        REFUSED(&f, QUANT_E_SHORT, at + 8, "s");
        begin(&f, 3, 0, 0, 1);
        begin_array(&f, "a", QUANT_KV_STR, 2);
        text(&f, "first");
        at = f.n;
        text(&f, "second");
        set(&f, at, 8, bad[i]);
        REFUSED(&f, QUANT_E_SHORT, at + 8, "a");
        small_file(&f, &at);
        set(&f, at - 13, 8, bad[i]);
        REFUSED(&f, QUANT_E_SHORT, at - 5, "");
    }
}

static void read_rule_03_dimensions(void)
{
    static const uint32_t bad[] = { 0, 5, 8, 0x7fffffff, 0xffffffffu };
    size_t i, shape;
    file f;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        small_file(&f, &shape);
        set(&f, shape - 4, 4, bad[i]);
        REFUSED(&f, QUANT_E_FORMAT, shape - 4, "w");
    }
}

static void read_rule_04_value_types_and_array_sizes(void)
{
    static const uint32_t bad[] = { 13, 14, 255, 0x80000000u, 0xffffffffu };
    static const uint64_t counts[] = { 4, (uint64_t)1 << 61, (uint64_t)1 << 62, UINT64_MAX / 4,
                                       UINT64_MAX / 8 + 1, UINT64_MAX };
    size_t i, at;
    file f;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        begin(&f, 3, 0, 0, 1);
        begin_kv(&f, "k", bad[i]);
        fill(&f, 8);
        REFUSED(&f, QUANT_E_FORMAT, 33, "k");
        begin(&f, 3, 0, 0, 1);
        begin_array(&f, "k", bad[i], 1);
        fill(&f, 8);
        REFUSED(&f, QUANT_E_FORMAT, 37, "k");
    }
    for (i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        begin(&f, 3, 0, 0, 1);
        begin_array(&f, "k", QUANT_KV_U32, counts[i]);
        at = f.n;
        fill(&f, 12);
        REFUSED(&f, QUANT_E_SHORT, at, "k");
        begin(&f, 3, 0, 0, 1);
        begin_array(&f, "k", QUANT_KV_STR, counts[i]);
        fill(&f, 16);
        REFUSED(&f, QUANT_E_SHORT, at, "k");
    }
}

static void read_rule_05_nested_arrays(void)
{
    file f;
    begin(&f, 3, 0, 0, 1);
    begin_array(&f, "k", QUANT_KV_ARRAY, 1);
    num(&f, 4, QUANT_KV_U8);
    len(&f, 1);
    num(&f, 1, 0);
    REFUSED(&f, QUANT_E_FORMAT, 37, "k");
}

static void read_rule_06_sum_of_tensor_sizes(void)
{
    uint64_t half = (uint64_t)1 << 62;      /* four tensors of 2^62 bytes: the sum wraps to 0    */
    size_t i;
    file f;
    char name[2] = "a";
    begin(&f, 3, 0, 4, 0);
    for (i = 0; i < 4; i++, name[0]++) info(&f, name, half, 1, QUANT_I8, half * i);
    begin_data(&f, 32);
    fill(&f, 64);
    CHECK(opens(f.p, f.n, NULL) == QUANT_E_SHORT && last.need == UINT64_MAX);
    REFUSED(&f, QUANT_E_SHORT, f.data + 3 * half, "d");
}

static void read_rule_07_offsets_wrap(void)
{
    static const uint64_t bad[] = { (uint64_t)-32, (uint64_t)-64, (uint64_t)-96,
                                    (uint64_t)1 << 63 };
    size_t i, shape;
    uint64_t wrapped;
    file f;
    for (i = 0; i < 4; i++) {
        small_file(&f, &shape);
        set(&f, shape + 20, 8, bad[i]);
        wrapped = f.data + bad[i];
        REFUSED(&f, QUANT_E_SHORT, wrapped, "w");
    }
}

static void read_rule_07_heap_is_in_proportion_to_the_file(void)
{
    enum { N = 3000 };
    test_heap heap = { 0, 0, 0, 0, 0 };
    quant_alloc a = test_heap_alloc(&heap);
    quant_gguf g;
    size_t i;
    file f;
    begin(&f, 3, 0, 0, N);
    for (i = 0; i < N; i++) {
        char key[8];
        sprintf(key, "%u", (unsigned)i);
        begin_kv(&f, key, QUANT_KV_U8);
        num(&f, 1, 0);
    }
    CHECK(quant_gguf_open(&g, f.p, f.n, &a, NULL) == QUANT_OK);
    CHECK(heap.calls == 1 && heap.peak_bytes < N * (sizeof(quant_kv) + 16) + 64);
    quant_gguf_close(&g);
    free(f.p);
}

static void read_rule_08_shape_products(void)
{
    static const uint64_t bad[][3] = {
        { (uint64_t)1 << 32, (uint64_t)1 << 32, QUANT_F32 },
        { (uint64_t)1 << 32, (uint64_t)1 << 31, QUANT_I8 },
        { (uint64_t)1 << 63, 1, QUANT_I8 },
        { UINT64_MAX, UINT64_MAX, QUANT_F32 },
        { (uint64_t)1 << 40, (uint64_t)1 << 24, 99 }
    };
    size_t i, shape;
    file f;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        small_file(&f, &shape);
        set(&f, shape, 8, bad[i][0]);
        set(&f, shape + 8, 8, bad[i][1]);
        set(&f, shape + 16, 4, bad[i][2]);
        CHECK(opens(f.p, f.n, NULL) == QUANT_E_FORMAT);
        REFUSED(&f, QUANT_E_FORMAT, bad[i][0] >> 63 ? shape : shape + 8, "w");
    }
    small_file(&f, &shape);                 /* 2^62 elements, but 2^65 bytes                     */
    set(&f, shape, 8, (uint64_t)1 << 61);
    set(&f, shape + 16, 4, QUANT_F64);
    REFUSED(&f, QUANT_E_FORMAT, shape - 13, "w");
    small_file(&f, &shape);                 /* rows that are no whole blocks                     */
    set(&f, shape + 16, 4, QUANT_Q8_0);
    REFUSED(&f, QUANT_E_FORMAT, shape - 13, "w");
}

/* A string that ends just before 2^64, in a file of that size: only a callback can claim it. */
static size_t huge_read(void *user, uint64_t offset, void *dst, size_t n)
{
    const file *f = (const file *)user;
    size_t i;
    for (i = 0; i < n; i++) ((uint8_t *)dst)[i] = offset + i < f->n ? f->p[offset + i] : 0;
    return n;
}

static void read_rule_09_padding_wraps(void)
{
    uint64_t tail;
    for (tail = 0; tail < 70; tail++) {
        test_heap heap = { 0, 0, 0, 0, 0 };
        quant_alloc a = test_heap_alloc(&heap);
        quant_limits max;
        quant_gguf g;
        quant_io io;
        file f;
        begin(&f, 3, 0, 0, 1);
        begin_kv(&f, "s", QUANT_KV_STR);
        len(&f, UINT64_MAX - tail - f.n - 8);
        io.read = huge_read;
        io.size = UINT64_MAX;
        io.user = &f;
        memset(&max, 0xff, sizeof max);
        CHECK(quant_gguf_open_io(&g, &io, &a, &max) == QUANT_E_MEMORY);
        CHECK(tail >= 15 || heap.calls == 0);
        CHECK(quant_gguf_open_io(&g, &io, &a, NULL) == QUANT_E_LIMIT);
        CHECK(heap.live == 0);
        free(f.p);
    }
}

static void read_rule_10_alignment(void)
{
    static const uint32_t bad[] = { 0, 1, 2, 4, 12, 24, 33, 65535, 131072, 0x80000000u,
                                    0xffffffffu };
    uint32_t i;
    file f;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        begin(&f, 3, 0, 0, 1);
        kv_u32(&f, "general.alignment", bad[i]);
        REFUSED(&f, QUANT_E_FORMAT, 24, "general.alignment");
    }
    begin(&f, 3, 0, 0, 1);
    begin_kv(&f, "general.alignment", QUANT_KV_I32);
    num(&f, 4, 32);
    REFUSED(&f, QUANT_E_FORMAT, 24, "general.alignment");
    begin(&f, 3, 0, 0, 1);
    begin_kv(&f, "general.alignment", QUANT_KV_U64);
    num(&f, 8, 32);
    REFUSED(&f, QUANT_E_FORMAT, 24, "general.alignment");
    begin(&f, 3, 0, 0, 1);
    begin_array(&f, "general.alignment", QUANT_KV_U32, 1);
    num(&f, 4, 32);
    REFUSED(&f, QUANT_E_FORMAT, 24, "general.alignment");
    for (i = 8; i <= 65536; i *= 2) {
        quant_gguf g;
        begin(&f, 3, 0, 1, 1);
        kv_u32(&f, "general.alignment", i);
        info(&f, "w", 5, 1, QUANT_I8, i);
        begin_data(&f, i);
        fill(&f, i + 5);
        CHECK(quant_gguf_open(&g, f.p, f.n, NULL, NULL) == QUANT_OK && g.alignment == i);
        CHECK(g.tensors && g.tensors[0].offset == f.data + i && g.data_offset == f.data);
        quant_gguf_close(&g);
        ACCEPTED(&f);
    }
}

static void read_rule_11_zero_dimensions(void)
{
    size_t i, shape;
    file f;
    for (i = 0; i < 2; i++) {
        small_file(&f, &shape);
        set(&f, shape + 8 * i, 8, 0);
        REFUSED(&f, QUANT_E_FORMAT, shape + 8 * i, "w");
    }
}

static void read_rule_12_lengths_are_unsigned(void)
{
    uint64_t top = (uint64_t)1 << 63;
    uint64_t v;
    size_t shape;
    file f;
    for (v = top; v; v = v == top ? (uint64_t)-24 : 0) {
        begin(&f, 3, 0, 0, 1);
        kv_u32(&f, "some.key", 7);
        set(&f, 24, 8, v);
        REFUSED(&f, QUANT_E_SHORT, 32, "");
        begin(&f, 3, 0, 0, 1);
        begin_array(&f, "a", QUANT_KV_I8, v);
        fill(&f, 8);
        REFUSED(&f, QUANT_E_SHORT, 24 + 9 + 16, "a");
        small_file(&f, &shape);
        set(&f, shape, 8, v);
        REFUSED(&f, QUANT_E_FORMAT, shape, "w");
    }
}

static void two_tensors(file *f, uint64_t a, uint64_t b, size_t data)
{
    begin(f, 3, 0, 2, 0);
    info(f, "a", 8, 2, QUANT_F32, a);
    info(f, "b", 8, 2, QUANT_F32, b);
    begin_data(f, 32);
    fill(f, data);
}

static void read_rule_13_offsets(void)
{
    file f;
    two_tensors(&f, 0, 64, 128);            /* as ggml writes them                               */
    ACCEPTED(&f);
    two_tensors(&f, 64, 0, 128);            /* in another order                                  */
    ACCEPTED(&f);
    two_tensors(&f, 32, 160, 256);          /* with gaps                                         */
    ACCEPTED(&f);
    two_tensors(&f, 0, 1, 128);
    REFUSED(&f, QUANT_E_FORMAT, f.data > 0 ? 24 + 9 + 4 + 16 + 4 + 8 + 9 + 4 + 16 + 4 : 0, "b");
    two_tensors(&f, 0, 48, 128);
    REFUSED(&f, QUANT_E_FORMAT, 24 + 9 + 4 + 16 + 4 + 8 + 9 + 4 + 16 + 4, "b");
    two_tensors(&f, 0, 0, 128);             /* overlaps                                          */
    REFUSED(&f, QUANT_E_FORMAT, f.data, "a");
    two_tensors(&f, 0, 32, 128);
    REFUSED(&f, QUANT_E_FORMAT, f.data, "a");
    two_tensors(&f, 32, 0, 128);
    REFUSED(&f, QUANT_E_FORMAT, f.data, "b");
    two_tensors(&f, 0, 96, 128);            /* half outside                                      */
    REFUSED(&f, QUANT_E_SHORT, f.data + 96, "b");
    two_tensors(&f, 0, 128, 128);           /* just outside                                      */
    REFUSED(&f, QUANT_E_SHORT, f.data + 128, "b");
    two_tensors(&f, 0, 1 << 20, 128);       /* far outside                                       */
    REFUSED(&f, QUANT_E_SHORT, f.data + (1 << 20), "b");
}

static void read_rule_14_shape_larger_than_data(void)
{
    quant_gguf g;
    size_t shape;
    uint8_t buf[128];
    file f;
    small_file(&f, &shape);
    set(&f, shape + 8, 8, 3);
    CHECK(opens(f.p, f.n, NULL) == QUANT_E_SHORT);
    CHECK(last.need == f.data + 96 && last.have == f.n);
    REFUSED(&f, QUANT_E_SHORT, f.data, "w");
    small_file(&f, &shape);
    REQUIRE(quant_gguf_open(&g, f.p, f.n, NULL, NULL) == QUANT_OK);
    CHECK(quant_gguf_read(&g, g.tensors, buf, 0, 64) == QUANT_OK);
    CHECK(quant_gguf_read(&g, g.tensors, buf, 63, 1) == QUANT_OK);
    CHECK(quant_gguf_read(&g, g.tensors, buf, 64, 0) == QUANT_OK);
    CHECK(quant_gguf_read(&g, g.tensors, buf, 0, 65) == QUANT_E_ARG);
    CHECK(quant_gguf_read(&g, g.tensors, buf, 65, 0) == QUANT_E_ARG);
    CHECK(quant_gguf_read(&g, g.tensors, buf, UINT64_MAX, 2) == QUANT_E_ARG);
    CHECK(quant_gguf_read(&g, g.tensors, buf, 1, (size_t)-1) == QUANT_E_ARG);
    CHECK(quant_gguf_read(&g, NULL, buf, 0, 0) == QUANT_E_ARG);
    CHECK(quant_gguf_data(&g, NULL) == NULL && quant_gguf_data(NULL, g.tensors) == NULL);
    quant_gguf_close(&g);
    free(f.p);
}

static void limited(const file *f, const quant_limits *max, uint64_t need, uint64_t have)
{
    CHECK(opens(f->p, f->n, max) == QUANT_E_LIMIT);
    test_note("%d: %d %d", (int)last.code, (int)last.need, (int)last.have);
    CHECK(last.need == need && last.have == have);
}

static void read_rule_15_limits(void)
{
    quant_limits max;
    file f;
    size_t header;
    full_file(&f, 3, 0);
    memset(&max, 0, sizeof max);
    max.max_kv = 25;
    limited(&f, &max, 26, 25);
    max.max_kv = 26;
    CHECK(opens(f.p, f.n, &max) == QUANT_OK);
    max.max_tensors = 3;
    limited(&f, &max, 4, 3);
    max.max_tensors = 4;
    CHECK(opens(f.p, f.n, &max) == QUANT_OK);
    max.max_string = 7;
    limited(&f, &max, 8, 7);
    CHECK(strcmp(last.name, "str") == 0);
    max.max_string = 8;
    CHECK(opens(f.p, f.n, &max) == QUANT_OK);
    max.max_array = 2;
    limited(&f, &max, 3, 2);
    CHECK(strcmp(last.name, "array.u8") == 0);
    max.max_array = 3;
    CHECK(opens(f.p, f.n, &max) == QUANT_OK);
    for (header = f.data; header > 0; header--) {
        max.max_header = header;
        if (opens(f.p, f.n, &max) == QUANT_OK) continue;
        CHECK(last.code == QUANT_E_LIMIT && last.have == header && last.need > header);
        CHECK(header + 64 > f.data || last.need <= f.data);
    }
    free(f.p);
}

static void read_rule_16_names(void)
{
    static char text70k[70000];
    file f;
    size_t shape, i;
    memset(text70k, 'x', sizeof text70k);
    begin(&f, 3, 0, 0, 1);                  /* an empty key                                      */
    kv_u32(&f, "", 1);
    fill(&f, 8);
    REFUSED(&f, QUANT_E_FORMAT, 24, "");
    begin(&f, 3, 0, 0, 3);                  /* a key twice                                       */
    kv_u32(&f, "a", 1);
    kv_u32(&f, "b", 1);
    kv_u32(&f, "a", 2);
    REFUSED(&f, QUANT_E_FORMAT, 24 + 2 * 17, "a");
    begin(&f, 3, 0, 0, 1);                  /* a zero byte                                       */
    bytes(&f, "a\0b", 3);
    num(&f, 4, QUANT_KV_U8);
    num(&f, 1, 0);
    REFUSED(&f, QUANT_E_FORMAT, 24, "a?b");
    for (i = 65535; i <= 65536; i++) {      /* the longest key and one more                      */
        begin(&f, 3, 0, 0, 1);
        bytes(&f, text70k, i);
        num(&f, 4, QUANT_KV_U8);
        num(&f, 1, 0);
        if (i == 65535) { ACCEPTED(&f); continue; }
        CHECK(opens(f.p, f.n, NULL) == QUANT_E_FORMAT && last.where == 24);
        CHECK(strlen(last.name) == 67 && strcmp(last.name + 64, "...") == 0);
        free(f.p);
    }
    for (i = 63; i <= 64; i++) {            /* ggml's names have room for 63 bytes               */
        begin(&f, 3, 0, 1, 0);
        text70k[i] = 0;
        info(&f, text70k, 8, 1, QUANT_F32, 0);
        begin_data(&f, 32);
        fill(&f, 32);
        if (i == 63) ACCEPTED(&f);
        else REFUSED(&f, QUANT_E_FORMAT, 24, text70k);
        text70k[i] = 'x';
    }
    small_file(&f, &shape);
    f.p[shape - 5] = 0;
    REFUSED(&f, QUANT_E_FORMAT, shape - 13, "?");
    begin(&f, 3, 0, 1, 0);
    info(&f, "", 8, 1, QUANT_F32, 0);
    fill(&f, 100);
    REFUSED(&f, QUANT_E_FORMAT, 24, "");
    begin(&f, 3, 0, 2, 0);
    info(&f, "same", 8, 1, QUANT_F32, 0);
    info(&f, "same", 8, 1, QUANT_F32, 32);
    begin_data(&f, 32);
    fill(&f, 64);
    REFUSED(&f, QUANT_E_FORMAT, 24 + 12 + 4 + 16 + 4 + 8, "same");
}

/* Keys made to fall into one place of the index; the hash is that of quant.h. */
static uint32_t hash(const char *p)
{
    uint32_t h = 2166136261u;
    for (; *p; p++) h = (h ^ (uint8_t)*p) * 16777619u;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

static void read_rule_16_names_that_collide(void)
{
    enum { N = 1500 };                      /* an index of 4096 places                           */
    unsigned i, found = 0;
    char key[16];
    file f;
    begin(&f, 3, 0, 0, N);
    for (i = 0; found < N; i++) {
        sprintf(key, "%x", i);
        if ((hash(key) & 4095) != 17) continue;
        kv_u32(&f, key, i);
        found++;
    }
    CHECK(opens(f.p, f.n, NULL) == QUANT_E_LIMIT);
    set(&f, 16, 8, 1000);                   /* so many may collide                               */
    CHECK(opens(f.p, f.n, NULL) == QUANT_OK);
    free(f.p);
}

static void read_rule_18_type_ids_of_other_programs(void)
{
    quant_gguf g;
    uint8_t buf[8];
    size_t i;
    file f;
    begin(&f, 3, 0, 2, 0);                  /* Q2_0 with blocks of 34 bytes for 128 weights      */
    info(&f, "a", 8, 1, QUANT_F32, 0);
    info(&f, "b", 128, 64, QUANT_Q2_0, 32);
    begin_data(&f, 32);
    fill(&f, 32 + 2176);
    REFUSED(&f, QUANT_E_SHORT, f.data + 32, "b");
    begin(&f, 3, 0, 2, 0);
    info(&f, "a", 128, 64, QUANT_Q2_0, 0);
    info(&f, "b", 8, 1, QUANT_F32, 2176);
    begin_data(&f, 32);
    fill(&f, 2176 + 32);
    CHECK(opens(f.p, f.n, NULL) == QUANT_E_FORMAT && strstr(last.what, "another program"));
    REFUSED(&f, QUANT_E_FORMAT, f.data, "a");

    begin(&f, 3, 0, 4, 0);                  /* unknown and removed ids: listed, raw              */
    info(&f, "a", 7, 3, 144, 0);
    info(&f, "b", 8, 1, QUANT_F32, 96);
    info(&f, "c", 33, 1, 36, 160);
    info(&f, "d", 1, 1, 0xffffffffu, 128);
    begin_data(&f, 32);
    fill(&f, 200);
    REQUIRE(quant_gguf_open(&g, f.p, f.n, NULL, NULL) == QUANT_OK);
    CHECK(g.tensors[0].size == 96 && g.tensors[0].span == 96 && g.tensors[0].type == 144);
    CHECK(g.tensors[1].size == 32 && g.tensors[1].span == 32);
    CHECK(g.tensors[2].size == 40 && g.tensors[3].size == 32);
    for (i = 0; i < 4; i++) {
        const uint8_t *p = (const uint8_t *)quant_gguf_data(&g, &g.tensors[i]);
        CHECK(p == f.p + g.tensors[i].offset);
        CHECK(quant_gguf_read(&g, &g.tensors[i], buf, 8, 8) == QUANT_OK);
        CHECK(memcmp(buf, p + 8, 8) == 0);
    }
    quant_gguf_close(&g);
    ACCEPTED(&f);
    begin(&f, 3, 0, 1, 0);                  /* at the very end: nothing is there                 */
    info(&f, "a", 7, 3, 144, 0);
    begin_data(&f, 32);
    REFUSED(&f, QUANT_E_SHORT, f.data, "a");
    begin(&f, 3, 0, 2, 0);
    info(&f, "a", 7, 3, 144, 0);
    info(&f, "b", 7, 3, 144, 0);
    begin_data(&f, 32);
    fill(&f, 32);
    REFUSED(&f, QUANT_E_FORMAT, f.data, "a");
}

static void read_rule_19_truncated_at_every_byte(void)
{
    uint32_t version;
    int big;
    for (version = 1; version <= 3; version++) {
        for (big = 0; big < 2; big++) {
            size_t n, header;
            file f;
            full_file(&f, version, big);
            header = f.data;
            CHECK(opens(f.p, f.n, NULL) == QUANT_OK);
            for (n = 0; n < f.n; n++) {
                quant_result r = opens(f.p, n, NULL);
                test_note("length %d of %d", (int)n, (int)f.n);
                CHECK(r == QUANT_E_SHORT && last.have == n && last.need > n);
                CHECK(n < 24 || last.need <= f.n);
                CHECK(n < header || last.need == f.n);
            }
            free(f.p);
        }
    }
}

static void read_rule_19_padding_at_the_end_may_be_missing(void)
{
    file f;
    begin(&f, 3, 0, 1, 0);
    info(&f, "w", 5, 1, QUANT_I8, 0);
    begin_data(&f, 32);
    fill(&f, 5);
    ACCEPTED(&f);
    begin(&f, 3, 0, 1, 0);
    info(&f, "w", 5, 1, QUANT_I8, 0);
    begin_data(&f, 32);
    fill(&f, 100);
    ACCEPTED(&f);
}

static void read_rule_21_versions_and_byte_order(void)
{
    static const uint32_t bad[] = { 0, 4, 5, 100, 0x7fffffff, 0x10000, 0x04000000 };
    static const char *const name[] = { "version 0", "version 4", "version 5", "version 100",
                                        "version 2147483647", "version 256", "version 4" };
    size_t i, shape;
    uint32_t version;
    int big;
    file f;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        small_file(&f, &shape);
        set(&f, 4, 4, bad[i]);
        REFUSED(&f, QUANT_E_FORMAT, 4, name[i]);
    }
    for (i = 0; i < 4; i++) {
        small_file(&f, &shape);
        f.p[i] ^= 32;
        REFUSED(&f, QUANT_E_FORMAT, 0, "");
    }
    for (version = 1; version <= 3; version++) {
        for (big = 0; big < 2; big++) {
            quant_gguf g;
            full_file(&f, version, big);
            CHECK(quant_gguf_open(&g, f.p, f.n, NULL, NULL) == QUANT_OK);
            CHECK(g.version == version && (int)g.big_endian == big && g.alignment == 64);
            CHECK(g.n_kv == 26 && g.n_tensors == 4 && g.data_offset == f.data);
            quant_gguf_close(&g);
            ACCEPTED(&f);
        }
    }
}

/* ---- what comes out -------------------------------------------------------------------------- */
/* The twelve scalars, and element 1 of the twelve arrays, as full_file wrote them. */
static void check_values(const quant_gguf *g, const char *prefix, uint64_t i)
{
    static const struct { const char *key; int u_ok, i_ok, f_ok; uint64_t u; int64_t i; double d; }
    want[] = {
        { "u8",   1, 1, 1, 200, 200, 200 },
        { "i8",   0, 1, 1, 0, -128, -128 },
        { "u16",  1, 1, 1, 60000, 60000, 60000 },
        { "i16",  0, 1, 1, 0, -32768, -32768 },
        { "u32",  1, 1, 1, 4000000000u, 4000000000, 4e9 },
        { "i32",  0, 1, 1, 0, -(int64_t)2147483647 - 1, -2147483648.0 },
        { "f32",  0, 0, 1, 0, 0, 1.5 },
        { "bool", 1, 1, 0, 1, 1, 0 },
        { "u64",  1, 0, 1, UINT64_MAX, 0, 18446744073709551616.0 },
        { "i64",  0, 1, 1, 0, INT64_MIN, -9223372036854775808.0 },
        { "f64",  0, 0, 1, 0, 0, 2.5 },
        { "str",  0, 0, 0, 0, 0, 0 }
    };
    size_t k;
    for (k = 0; k < sizeof want / sizeof want[0]; k++) {
        char key[32];
        const quant_kv *kv;
        uint64_t u = 77;
        int64_t v = 77;
        double d = 77;
        quant_str s;
        s.p = NULL;
        s.n = 77;
        sprintf(key, "%s%s", prefix, want[k].key);
        test_note("%s", key);
        kv = quant_gguf_find(g, key);
        REQUIRE(kv != NULL);
        CHECK(quant_kv_u64(kv, i, &u) == (want[k].u_ok ? QUANT_OK : QUANT_E_KIND));
        CHECK(u == (want[k].u_ok ? want[k].u : 77));
        CHECK(quant_kv_i64(kv, i, &v) == (want[k].i_ok ? QUANT_OK : QUANT_E_KIND));
        CHECK(v == (want[k].i_ok ? want[k].i : 77));
        CHECK(quant_kv_f64(kv, i, &d) == (want[k].f_ok ? QUANT_OK : QUANT_E_KIND));
        CHECK(d == (want[k].f_ok ? want[k].d : 77));
        CHECK(quant_kv_str(kv, i, NULL, &s) == (k == 11 ? QUANT_OK : QUANT_E_KIND));
        CHECK(s.n == (k < 11 ? 77u : i ? 0u : 8u));
        CHECK(quant_kv_u64(kv, kv->count, &u) == QUANT_E_NOT_FOUND);
        CHECK(quant_kv_i64(kv, UINT64_MAX, &v) == QUANT_E_NOT_FOUND);
        CHECK(quant_kv_f64(kv, kv->count, &d) == QUANT_E_NOT_FOUND);
        CHECK(quant_kv_str(kv, kv->count, NULL, &s) == QUANT_E_NOT_FOUND);
    }
}

static void read_values_of_every_type(void)
{
    uint32_t version;
    int big;
    for (version = 1; version <= 3; version++) {
        for (big = 0; big < 2; big++) {
            quant_gguf g;
            const quant_kv *kv;
            uint64_t u = 5;
            int64_t v = 5;
            double d = 5;
            quant_str s;
            file f;
            full_file(&f, version, big);
            REQUIRE(quant_gguf_open(&g, f.p, f.n, NULL, NULL) == QUANT_OK);
            check_values(&g, "", 0);
            check_values(&g, "array.", 1);
            kv = quant_gguf_find(&g, "array.u16");
            REQUIRE(kv != NULL);
            CHECK(kv->type == QUANT_KV_ARRAY && kv->elem_type == QUANT_KV_U16 && kv->count == 3);
            CHECK(kv->raw_size == 6 && quant_kv_u64(kv, 2, &u) == QUANT_OK && u == 2);
            kv = quant_gguf_find(&g, "empty");
            REQUIRE(kv != NULL);
            CHECK(kv->count == 0 && kv->raw_size == 0);
            CHECK(quant_kv_str(kv, 0, NULL, &s) == QUANT_E_NOT_FOUND);
            CHECK(quant_gguf_get_u64(&g, "u16", &u) == QUANT_OK && u == 60000);
            CHECK(quant_gguf_get_i64(&g, "i16", &v) == QUANT_OK && v == -32768);
            CHECK(quant_gguf_get_f64(&g, "f64", &d) == QUANT_OK && d == 2.5);
            CHECK(quant_gguf_get_str(&g, "str", &s) == QUANT_OK && s.n == 8);
            CHECK(memcmp(s.p, "a string", 8) == 0);
            CHECK(quant_gguf_get_u64(&g, "none", &u) == QUANT_E_NOT_FOUND && u == 60000);
            CHECK(quant_gguf_get_i64(&g, "f32", &v) == QUANT_E_KIND && v == -32768);
            CHECK(quant_gguf_get_f64(&g, "str", &d) == QUANT_E_KIND && d == 2.5);
            CHECK(quant_gguf_get_str(&g, "u8", &s) == QUANT_E_KIND && s.n == 8);
            CHECK(quant_kv_u64(NULL, 0, &u) == QUANT_E_NOT_FOUND);
            CHECK(quant_kv_str(NULL, 0, NULL, &s) == QUANT_E_NOT_FOUND);
            CHECK(quant_gguf_find(&g, "") == NULL && quant_gguf_find(&g, "u") == NULL);
            CHECK(quant_gguf_find_tensor(&g, "q4_k") == NULL);
            CHECK(quant_gguf_find_tensor(&g, "q4_K") == &g.tensors[1]);
            quant_gguf_close(&g);
            free(f.p);
        }
    }
}

static void read_strings_with_a_cursor(void)
{
    enum { N = 300 };
    uint32_t version;
    int big;
    for (version = 1; version <= 3; version++) {
        for (big = 0; big < 2; big++) {
            quant_cursor cur = { 0, 0 };
            uint64_t random = version, i, k;
            const quant_kv *kv;
            quant_gguf g;
            quant_str s;
            file f;
            begin(&f, version, big, 0, 1);
            begin_array(&f, "a", QUANT_KV_STR, N);
            for (i = 0; i < N; i++) {
                char word[32];
                sprintf(word, "%.*s%d", (int)(i % 7), "......", (int)i);
                text(&f, word);
            }
            REQUIRE(quant_gguf_open(&g, f.p, f.n, NULL, NULL) == QUANT_OK);
            kv = &g.kv[0];
            for (k = 0; k < 4 * N; k++) {   /* forward, the same, backward, at random            */
                char word[32];
                i = k < N ? k : k < 2 * N ? (k - N) / 2 : k < 3 * N ? 3 * N - 1 - k
                          : test_random(&random) % N;
                sprintf(word, "%.*s%d", (int)(i % 7), "......", (int)i);
                REQUIRE(quant_kv_str(kv, i, k % 5 ? &cur : NULL, &s) == QUANT_OK);
                CHECK(s.n == strlen(word) && memcmp(s.p, word, s.n) == 0);
            }
            CHECK(quant_kv_str(kv, N, &cur, &s) == QUANT_E_NOT_FOUND);
            cur.index = 0;                  /* one that belongs to another value                 */
            cur.offset = UINT64_MAX - 4;
            CHECK(quant_kv_str(kv, 3, &cur, &s) == QUANT_E_FORMAT);
            quant_gguf_close(&g);
            free(f.p);
        }
    }
}

/* What a big-endian machine would have stored: the numbers of each block reversed. */
static void reverse(uint8_t *p, size_t width, size_t count)
{
    size_t i;
    for (; count; count--, p += width)
        for (i = 0; i < width / 2; i++) {
            uint8_t x = p[i];
            p[i] = p[width - 1 - i];
            p[width - 1 - i] = x;
        }
}

/* Fields by hand from the layouts in ggml-common.h: at, width, count, twice. */
static const struct { quant_type t; size_t f[6]; } fields[] = {
    { QUANT_F32, { 0, 4, 1, 0, 0, 0 } },      { QUANT_F16, { 0, 2, 1, 0, 0, 0 } },
    { QUANT_BF16, { 0, 2, 1, 0, 0, 0 } },     { QUANT_F64, { 0, 8, 1, 0, 0, 0 } },
    { QUANT_I8, { 0, 0, 0, 0, 0, 0 } },       { QUANT_I16, { 0, 2, 1, 0, 0, 0 } },
    { QUANT_I32, { 0, 4, 1, 0, 0, 0 } },      { QUANT_I64, { 0, 8, 1, 0, 0, 0 } },
    { QUANT_Q4_0, { 0, 2, 1, 0, 0, 0 } },     { QUANT_Q4_1, { 0, 2, 2, 0, 0, 0 } },
    { QUANT_Q5_0, { 0, 2, 1, 2, 4, 1 } },     { QUANT_Q5_1, { 0, 2, 2, 4, 4, 1 } },
    { QUANT_Q8_0, { 0, 2, 1, 0, 0, 0 } },     { QUANT_Q8_1, { 0, 2, 2, 0, 0, 0 } },
    { QUANT_Q2_K, { 80, 2, 2, 0, 0, 0 } },    { QUANT_Q3_K, { 108, 2, 1, 0, 0, 0 } },
    { QUANT_Q4_K, { 0, 2, 2, 0, 0, 0 } },     { QUANT_Q5_K, { 0, 2, 2, 0, 0, 0 } },
    { QUANT_Q6_K, { 208, 2, 1, 0, 0, 0 } },   { QUANT_Q8_K, { 0, 4, 1, 260, 2, 16 } },
    { QUANT_IQ2_XS, { 0, 2, 1, 2, 2, 32 } },  { QUANT_IQ2_S, { 0, 2, 1, 0, 0, 0 } },
    { QUANT_IQ3_S, { 0, 2, 1, 0, 0, 0 } },    { QUANT_IQ1_S, { 0, 2, 1, 34, 2, 8 } },
    { QUANT_IQ4_NL, { 0, 2, 1, 0, 0, 0 } },   { QUANT_IQ4_XS, { 0, 2, 1, 2, 2, 1 } },
    { QUANT_TQ1_0, { 52, 2, 1, 0, 0, 0 } },   { QUANT_TQ2_0, { 64, 2, 1, 0, 0, 0 } },
    { QUANT_MXFP4, { 0, 0, 0, 0, 0, 0 } },    { QUANT_NVFP4, { 0, 0, 0, 0, 0, 0 } },
    { QUANT_Q1_0, { 0, 2, 1, 0, 0, 0 } },     { QUANT_Q2_0, { 0, 2, 1, 0, 0, 0 } }
};

static void read_big_endian_data_of_every_type(void)
{
    quant_type t;
    for (t = 0; t <= QUANT_TYPE_COUNT; t++) {
        const quant_type_info *ti = quant_type_get(t);
        size_t block = ti ? ti->block_size : 0, n = block ? block * 6 : 96, k, b;
        size_t n_fields = sizeof fields / sizeof fields[0];
        int readable, bytes_only;
        uint8_t *twin = (uint8_t *)malloc(n), *out = (uint8_t *)malloc(n);
        quant_gguf g, h;
        source s;
        quant_io io;
        file f;
        if (!twin || !out) abort();
        test_note("%s", quant_type_name(t));
        begin(&f, 3, 1, 1, 0);
        info(&f, "w", block ? ti->block_len * (size_t)2 : 64, 3, t, 0);
        begin_data(&f, 32);
        fill(&f, n);
        memcpy(twin, f.p + f.data, n);
        for (k = 0; k < n_fields && fields[k].t != t; k++) {}
        readable = k < n_fields;
        bytes_only = readable && !fields[k].f[1];
        for (b = 0; readable && b < n; b += block) {
            reverse(twin + b + fields[k].f[0], fields[k].f[1], fields[k].f[2]);
            reverse(twin + b + fields[k].f[3], fields[k].f[4], fields[k].f[5]);
        }
        io = source_io(&s, f.p, f.n);
        REQUIRE(quant_gguf_open(&g, f.p, f.n, NULL, NULL) == QUANT_OK);
        REQUIRE(quant_gguf_open_io(&h, &io, NULL, NULL) == QUANT_OK);
        CHECK((quant_gguf_data(&g, g.tensors) != NULL) == bytes_only);
        memset(out, 0, n);
        CHECK(quant_gguf_read(&g, g.tensors, out, 0, n) == (readable ? QUANT_OK : QUANT_E_TYPE));
        CHECK(!readable || memcmp(out, twin, n) == 0);
        memset(out, 0, n);
        CHECK(quant_gguf_read(&h, h.tensors, out, 0, n) == (readable ? QUANT_OK : QUANT_E_TYPE));
        CHECK(!readable || memcmp(out, twin, n) == 0);
        if (readable) {
            CHECK(quant_gguf_read(&g, g.tensors, out, block, 3 * block) == QUANT_OK);
            CHECK(memcmp(out, twin + block, 3 * block) == 0);
            CHECK(block == 1 || quant_gguf_read(&g, g.tensors, out, 1, block) == QUANT_E_ARG);
            CHECK(block == 1 || quant_gguf_read(&g, g.tensors, out, 0, 1) == QUANT_E_ARG);
        } else {
            CHECK(!block || t == QUANT_IQ2_XXS || t == QUANT_IQ3_XXS || t == QUANT_IQ1_M);
        }
        quant_gguf_close(&g);
        quant_gguf_close(&h);
        free(f.p);
        free(twin);
        free(out);
    }
}

static void read_shuffled_offsets(void)
{
    enum { N = 257 };
    uint64_t random = 3;
    uint32_t at[N];
    size_t i, round;
    quant_gguf g;
    file f;
    for (round = 0; round < 8; round++) {
        size_t n = round < 4 ? round + 2 : N - round;
        for (i = 0; i < n; i++) at[i] = (uint32_t)i;
        for (i = n - 1; i > 0; i--) {
            size_t j = test_random(&random) % (i + 1);
            uint32_t x = at[i];
            at[i] = at[j];
            at[j] = x;
        }
        begin(&f, 3, 0, n, 0);
        for (i = 0; i < n; i++) {
            char name[16];
            sprintf(name, "t%u", (unsigned)i);
            info(&f, name, 33, 1, QUANT_I8, at[i] * 64);
        }
        begin_data(&f, 32);
        fill(&f, 64 * n);
        REQUIRE(quant_gguf_open(&g, f.p, f.n, NULL, NULL) == QUANT_OK);
        for (i = 0; i < n; i++) {
            CHECK(g.tensors[i].offset == f.data + at[i] * 64);
            CHECK(g.tensors[i].size == 33 && g.tensors[i].span == 64);
        }
        quant_gguf_close(&g);
        CHECK(opens(f.p, f.n, NULL) == QUANT_OK);
        set(&f, 24 + (8 + 2 + 4 + 16 + 4), 8, at[n - 1] * 64);  /* t0 onto the last one           */
        CHECK(opens(f.p, f.n, NULL) == QUANT_E_FORMAT);
        free(f.p);
    }
}

static void read_a_file_without_tensors(void)
{
    quant_gguf g;
    file f;
    begin(&f, 3, 0, 0, 0);
    REQUIRE(quant_gguf_open(&g, f.p, f.n, NULL, NULL) == QUANT_OK);
    CHECK(g.n_kv == 0 && g.n_tensors == 0 && g.alignment == 32 && g.data_offset == 32);
    CHECK(quant_gguf_find(&g, "a") == NULL && quant_gguf_find_tensor(&g, "a") == NULL);
    quant_gguf_close(&g);
    ACCEPTED(&f);
    begin(&f, 1, 0, 0, 0);
    ACCEPTED(&f);
}

static void read_many_keys(void)
{
    enum { N = 20000 };
    quant_gguf g;
    unsigned i;
    uint64_t v;
    char key[32];
    file f;
    begin(&f, 3, 0, 0, N);
    for (i = 0; i < N; i++) {
        sprintf(key, "some.prefix.key.%u", i);
        kv_u32(&f, key, i);
    }
    REQUIRE(quant_gguf_open(&g, f.p, f.n, NULL, NULL) == QUANT_OK);
    for (i = 0; i < N; i++) {
        sprintf(key, "some.prefix.key.%u", i);
        CHECK(quant_gguf_get_u64(&g, key, &v) == QUANT_OK && v == i);
    }
    CHECK(quant_gguf_find(&g, "some.prefix.key.20000") == NULL);
    quant_gguf_close(&g);
    ACCEPTED(&f);
}

static void read_the_tiny_model_in_three_ways(void)
{
    const char *path = "examples/models/tiny-f16.gguf";
    size_t n, i;
    uint8_t *p = test_file(path, &n), *buf;
    quant_gguf g[3];
    source s;
    quant_io io;
    int w;
    REQUIRE(p != NULL);
    io = source_io(&s, p, n);
    CHECK(quant_gguf_open(&g[0], p, n, NULL, NULL) == QUANT_OK);
    CHECK(quant_gguf_open_io(&g[1], &io, NULL, NULL) == QUANT_OK);
    CHECK(quant_gguf_open_file(&g[2], path, NULL, NULL) == QUANT_OK);
    for (w = 0; w < 3; w++) {
        quant_str str;
        REQUIRE(g[w].n_tensors == 39 && g[w].n_kv == 24 && g[w].file_size == n);
        CHECK(quant_gguf_get_str(&g[w], "general.architecture", &str) == QUANT_OK);
        CHECK(str.n == 5 && memcmp(str.p, "llama", 5) == 0);
        CHECK(quant_gguf_find_tensor(&g[w], "token_embd.weight") != NULL);
        for (i = 0; i < 39; i++) {
            const quant_tensor *t = &g[w].tensors[i];
            buf = (uint8_t *)malloc((size_t)t->size);
            if (!buf) abort();
            CHECK(quant_gguf_read(&g[w], t, buf, 0, (size_t)t->size) == QUANT_OK);
            CHECK(memcmp(buf, p + t->offset, (size_t)t->size) == 0);
            CHECK(t->offset == g[0].tensors[i].offset && t->size == g[0].tensors[i].size);
            free(buf);
        }
    }
    for (w = 0; w < 6; w++) quant_gguf_close(&g[w % 3]);
    CHECK(opens(p, n, NULL) == QUANT_OK);
    free(p);
}

/* ---- faults ---------------------------------------------------------------------------------- */
static void read_files_that_cannot_be_opened(void)
{
    const char *path = "build/test_read.tmp";
    quant_gguf g;
    FILE *out;
    CHECK(quant_gguf_open_file(&g, "tests/no such file", NULL, NULL) == QUANT_E_IO);
    CHECK(g.err.what && strstr(g.err.what, "open"));
    CHECK(quant_gguf_open_file(&g, "tests", NULL, NULL) == QUANT_E_IO);
    CHECK(g.err.what != NULL);
    CHECK(quant_gguf_open_file(&g, "tests/test_read.c", NULL, NULL) == QUANT_E_FORMAT);
    CHECK(quant_gguf_open_file(&g, NULL, NULL, NULL) == QUANT_E_ARG);
    CHECK(quant_gguf_open_file(NULL, path, NULL, NULL) == QUANT_E_ARG);
    out = fopen(path, "wb");
    REQUIRE(out != NULL);
    fclose(out);
    CHECK(quant_gguf_open_file(&g, path, NULL, NULL) == QUANT_E_SHORT);
    CHECK(g.err.what && strstr(g.err.what, "empty"));
    remove(path);
}

static void read_bad_arguments(void)
{
    quant_gguf g;
    quant_io io;
    memset(&io, 0, sizeof io);
    CHECK(quant_gguf_open(&g, NULL, 5, NULL, NULL) == QUANT_E_ARG && g.err.code == QUANT_E_ARG);
    CHECK(quant_gguf_open(&g, NULL, 0, NULL, NULL) == QUANT_E_SHORT);
    CHECK(quant_gguf_open(NULL, "x", 1, NULL, NULL) == QUANT_E_ARG);
    CHECK(quant_gguf_open_io(&g, &io, NULL, NULL) == QUANT_E_ARG);
    CHECK(quant_gguf_open_io(&g, NULL, NULL, NULL) == QUANT_E_ARG);
    CHECK(quant_gguf_open_io(NULL, &io, NULL, NULL) == QUANT_E_ARG);
    quant_gguf_close(&g);
    CHECK(g.err.code == QUANT_E_ARG && "close keeps the error");
    quant_gguf_close(NULL);
    memset(&g, 0, sizeof g);
    quant_gguf_close(&g);
    quant_gguf_close(&g);
    CHECK(quant_gguf_find(&g, "a") == NULL && quant_gguf_find(NULL, "a") == NULL);
    CHECK(quant_gguf_find_tensor(&g, "a") == NULL && quant_gguf_find_tensor(&g, NULL) == NULL);
}

static void read_with_failing_allocations_and_reads(void)
{
    size_t k;
    quant_gguf g;
    file f;
    full_file(&f, 3, 0);
    for (k = 1; k < 4; k++) {
        test_heap heap = { 0, 0, 0, 0, 0 };
        quant_alloc a = test_heap_alloc(&heap);
        quant_result r;
        heap.fail_at = k;
        r = quant_gguf_open(&g, f.p, f.n, &a, NULL);
        CHECK(r == (k == 1 ? QUANT_E_MEMORY : QUANT_OK) && g.err.code == r);
        quant_gguf_close(&g);
        CHECK(heap.calls == 1 && heap.live == 0);
    }
    for (k = 1; k < 100; k++) {
        test_heap heap = { 0, 0, 0, 0, 0 };
        quant_alloc a = test_heap_alloc(&heap);
        source s;
        quant_io io = source_io(&s, f.p, f.n);
        quant_result r;
        quant_tensor t;
        uint8_t buf[8];
        s.fail_at = k;
        r = quant_gguf_open_io(&g, &io, &a, NULL);
        if (r == QUANT_OK) {
            size_t before = s.calls;
            s.fail_at = before + 1;
            CHECK(quant_gguf_read(&g, g.tensors, buf, 0, 8) == QUANT_E_IO);
            CHECK(quant_gguf_read(&g, g.tensors, buf, 0, 8) == QUANT_OK);
            CHECK(quant_gguf_read(&g, g.tensors, NULL, 0, 0) == QUANT_OK);
            CHECK(s.calls == before + 2 && "nothing to read, no call");
            t = g.tensors[0];
        } else {
            CHECK(r == QUANT_E_IO && g.err.code == r);
        }
        quant_gguf_close(&g);
        CHECK(heap.live == 0);
        if (r != QUANT_OK) continue;
        CHECK(quant_gguf_read(&g, &t, buf, 0, 8) == QUANT_E_STATE);
        CHECK(quant_gguf_data(&g, &t) == NULL);
        break;
    }
    CHECK(k > 2 && k < 100);
    free(f.p);
}

/* The file is another one when pass 2 reads it. */
static void read_through_a_callback_that_lies(void)
{
    static const uint8_t flips[] = { 1, 0x80, 0xff };
    file f;
    uint8_t *other;
    size_t i, k, refused = 0;
    full_file(&f, 3, 0);
    other = (uint8_t *)malloc(f.n);
    if (!other) abort();
    memcpy(other, f.p, f.n);
    for (i = 0; i < f.data; i++) {
        for (k = 0; k < sizeof flips; k++) {
            source s;
            quant_io io = source_io(&s, f.p, f.n);
            test_heap heap = { 0, 0, 0, 0, 0 };
            quant_alloc a = test_heap_alloc(&heap);
            quant_gguf g;
            quant_result r;
            other[i] = (uint8_t)(f.p[i] ^ flips[k]);
            s.later = other;
            s.turn = (f.data + 2047) / 2048;
            r = quant_gguf_open_io(&g, &io, &a, NULL);
            if (r == QUANT_OK) touch_all(&g, NULL, f.n); else refused++;
            quant_gguf_close(&g);
            CHECK(heap.live == 0);
        }
        other[i] = f.p[i];
    }
    CHECK(refused > 1000);
    free(other);
    free(f.p);
}

/* Files of one header length whose counts or lengths differ from what pass 1 measured. */
static void read_counts_that_change_between_the_passes(void)
{
    static const size_t keys[] = { 2, 1, 3, 2, 2 };     /* the first one is the honest file      */
    static const size_t length[] = { 60, 141, 33, 50, 70 };
    file f[5];
    size_t i, k;
    for (i = 0; i < 5; i++) {
        begin(&f[i], 3, 0, 0, keys[i]);
        for (k = 0; k < keys[i]; k++) {
            char key[2] = "a";
            key[0] = (char)('a' + k);
            begin_kv(&f[i], key, QUANT_KV_STR);
            len(&f[i], length[i]);
            fill(&f[i], length[i]);
        }
        while (f[i].n < 300) num(&f[i], 1, 0);
        CHECK(opens(f[i].p, f[i].n, NULL) == QUANT_OK);
    }
    for (i = 1; i < 5; i++) {
        source s;
        quant_io io = source_io(&s, f[0].p, 300);
        quant_gguf g;
        s.later = f[i].p;
        s.turn = 1;
        test_note("%d", (int)i);
        CHECK(quant_gguf_open_io(&g, &io, NULL, NULL) == QUANT_E_FORMAT);
        CHECK(g.err.what && strstr(g.err.what, "changed"));
        quant_gguf_close(&g);
    }
    for (i = 0; i < 5; i++) free(f[i].p);
}

/* Memory that changes after the open: strings are never handed out past their value. */
static void read_strings_that_change_after_the_open(void)
{
    size_t at, k;
    uint64_t v;
    file f;
    begin(&f, 3, 0, 0, 1);
    begin_array(&f, "a", QUANT_KV_STR, 2);
    at = f.n;
    text(&f, "first");
    text(&f, "second");
    for (v = 0; v < 64; v++) {
        uint8_t *copy = (uint8_t *)malloc(f.n);
        uint64_t lie = v < 60 ? v : (uint64_t)0 - v;
        quant_str s;
        quant_gguf g;
        quant_result r;
        if (!copy) abort();
        memcpy(copy, f.p, f.n);
        REQUIRE(quant_gguf_open(&g, copy, f.n, NULL, NULL) == QUANT_OK);
        for (k = 0; k < 8; k++) copy[at + k] = (uint8_t)(lie >> 8 * k);
        r = quant_kv_str(g.kv, 0, NULL, &s);
        CHECK((r == QUANT_OK) == (lie <= 5 + 8 + 6) && (r == QUANT_OK || r == QUANT_E_FORMAT));
        if (r == QUANT_OK) touch(s.p, s.n);
        r = quant_kv_str(g.kv, 1, NULL, &s);
        CHECK(r == QUANT_OK || r == QUANT_E_FORMAT);
        if (r == QUANT_OK) touch(s.p, s.n);
        CHECK(lie < 12 || r == QUANT_E_FORMAT);
        quant_gguf_close(&g);
        free(copy);
    }
    free(f.p);
}

/* A mapped file changes between the passes: the allocator, called between them, does it. */
typedef struct meddler { uint8_t *p; size_t at; uint8_t flip; } meddler;

static void *meddling_alloc(void *user, size_t size)
{
    meddler *m = (meddler *)user;
    m->p[m->at] ^= m->flip;
    return malloc(size);
}

static void meddling_free(void *user, void *p, size_t size)
{
    (void)user;
    (void)size;
    free(p);
}

static void read_memory_that_changes(void)
{
    file f;
    uint8_t *copy;
    size_t i, counts = 0;
    int flip;
    full_file(&f, 3, 0);
    copy = (uint8_t *)malloc(f.n);
    if (!copy) abort();
    memcpy(copy, f.p, f.n);
    for (i = 0; i < f.data; i++) {
        for (flip = 1; flip < 256; flip = flip * 2 + 1) {
            meddler m;
            quant_alloc a;
            quant_gguf g;
            m.p = copy;
            m.at = i;
            m.flip = (uint8_t)flip;
            a.alloc = meddling_alloc;
            a.free = meddling_free;
            a.user = &m;
            if (quant_gguf_open(&g, copy, f.n, &a, NULL) == QUANT_OK) touch_all(&g, copy, f.n);
            else if (g.err.what && strstr(g.err.what, "changed")) counts++;
            quant_gguf_close(&g);
            copy[i] ^= (uint8_t)flip;
        }
    }
    CHECK(memcmp(copy, f.p, f.n) == 0 && counts > 0);
    free(copy);
    free(f.p);
}

static void read_every_corrupted_byte(void)
{
    static const struct { uint32_t version; int big; } kinds[] = { { 3, 0 }, { 3, 1 }, { 1, 0 } };
    size_t kind, i;
    for (kind = 0; kind < 3; kind++) {
        file f;
        uint8_t *copy;
        size_t good = 0, bad = 0;
        int v;
        full_file(&f, kinds[kind].version, kinds[kind].big);
        copy = (uint8_t *)malloc(f.n);
        if (!copy) abort();
        memcpy(copy, f.p, f.n);
        for (i = 0; i < f.data; i++) {
            for (v = 0; v < 256; v++) {
                quant_gguf g;
                source s;
                quant_io io;
                quant_result r;
                copy[i] = (uint8_t)v;
                r = quant_gguf_open(&g, copy, f.n, NULL, NULL);
                if (r == QUANT_OK) { touch_all(&g, copy, f.n); good++; } else bad++;
                CHECK(r == g.err.code && (r == QUANT_OK || g.err.what[0]));
                quant_gguf_close(&g);
                if (v & 7) continue;
                io = source_io(&s, copy, f.n);
                CHECK(quant_gguf_open_io(&g, &io, NULL, NULL) == r);
                if (r == QUANT_OK) touch_all(&g, NULL, f.n);
                quant_gguf_close(&g);
            }
            copy[i] = f.p[i];
        }
        CHECK(good > 10000 && bad > 10000);
        free(copy);
        free(f.p);
    }
}

void suite_read(void);
void suite_read(void)
{
    RUN(read_rule_01_counts_are_bounded_by_the_file);
    RUN(read_rule_02_string_lengths);
    RUN(read_rule_03_dimensions);
    RUN(read_rule_04_value_types_and_array_sizes);
    RUN(read_rule_05_nested_arrays);
    RUN(read_rule_06_sum_of_tensor_sizes);
    RUN(read_rule_07_offsets_wrap);
    RUN(read_rule_07_heap_is_in_proportion_to_the_file);
    RUN(read_rule_08_shape_products);
    RUN(read_rule_09_padding_wraps);
    RUN(read_rule_10_alignment);
    RUN(read_rule_11_zero_dimensions);
    RUN(read_rule_12_lengths_are_unsigned);
    RUN(read_rule_13_offsets);
    RUN(read_rule_14_shape_larger_than_data);
    RUN(read_rule_15_limits);
    RUN(read_rule_16_names);
    RUN(read_rule_16_names_that_collide);
    RUN(read_rule_18_type_ids_of_other_programs);
    RUN(read_rule_19_truncated_at_every_byte);
    RUN(read_rule_19_padding_at_the_end_may_be_missing);
    RUN(read_rule_21_versions_and_byte_order);
    RUN(read_values_of_every_type);
    RUN(read_strings_with_a_cursor);
    RUN(read_big_endian_data_of_every_type);
    RUN(read_shuffled_offsets);
    RUN(read_a_file_without_tensors);
    RUN(read_many_keys);
    RUN(read_the_tiny_model_in_three_ways);
    RUN(read_files_that_cannot_be_opened);
    RUN(read_bad_arguments);
    RUN(read_with_failing_allocations_and_reads);
    RUN(read_through_a_callback_that_lies);
    RUN(read_counts_that_change_between_the_passes);
    RUN(read_strings_that_change_after_the_open);
    RUN(read_memory_that_changes);
    RUN(read_every_corrupted_byte);
}
