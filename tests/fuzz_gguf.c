/* Fuzz target of the GGUF reader.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_gguf.c quant.c -o fuzz_gguf
 *   cc -g -DFUZZ_REPLAY tests/fuzz_gguf.c quant.c -o replay;  replay [FILE...]
 *
 * Opens the input from memory and through a callback, reads everything that the reader hands out
 * and stops the program where a promise of the header is broken.  The replay program takes files,
 * or, without any, mutates files of its own: always the same ones, FUZZ_ROUNDS of them. */
#include "../quant.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(c) do { if (!(c)) { fprintf(stderr, "%d: %s\n", __LINE__, #c); abort(); } } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

static void touch(const void *p, uint64_t n)
{
    const uint8_t *b = (const uint8_t *)p;
    uint64_t sum = 0;
    for (; n; n--) sum += *b++;
    sink += sum;
}

typedef struct source { const uint8_t *p; size_t n; } source;

static size_t source_read(void *user, uint64_t offset, void *dst, size_t n)
{
    const source *s = (const source *)user;
    MUST(n > 0 && offset <= s->n && n <= s->n - offset);
    memcpy(dst, s->p + offset, n);
    return n;
}

static void *small_alloc(void *user, size_t size)
{
    size_t *used = (size_t *)user;
    MUST(*used == 0);                       /* one allocation                                    */
    *used = size;
    return malloc(size);
}

static void small_free(void *user, void *p, size_t size)
{
    size_t *used = (size_t *)user;
    MUST(*used == size);
    *used = 0;
    free(p);
}

/* Every element of a value, by every getter. */
static void check_kv(const quant_kv *kv)
{
    quant_cursor cur = { 0, 0 };
    uint64_t i, end = kv->count < 5000 ? kv->count : 5000, u = 0;
    int is_str = kv->elem_type == QUANT_KV_STR;
    int64_t v = 0;
    double d = 0;
    quant_str s;
    MUST(kv->type < QUANT_KV_TYPE_COUNT && kv->elem_type < QUANT_KV_TYPE_COUNT);
    MUST(kv->elem_type != QUANT_KV_ARRAY && (kv->type == QUANT_KV_ARRAY || kv->count == 1));
    MUST(kv->key.n >= 1 && kv->key.n <= 65535 && !memchr(kv->key.p, 0, kv->key.n));
    touch(kv->raw, kv->raw_size);
    for (i = 0; i < end; i++) {
        quant_result a = quant_kv_u64(kv, i, &u), b = quant_kv_i64(kv, i, &v);
        MUST(a == QUANT_OK || a == QUANT_E_KIND);
        MUST(b == QUANT_OK || b == QUANT_E_KIND);
        MUST(a != QUANT_OK || b != QUANT_OK || u == (uint64_t)v);
        MUST((quant_kv_f64(kv, i, &d) == QUANT_OK) ==
             (!is_str && kv->elem_type != QUANT_KV_BOOL));
        MUST((quant_kv_str(kv, i, &cur, &s) == QUANT_OK) == is_str);
        if (!is_str) continue;
        MUST((const uint8_t *)s.p >= kv->raw);
        MUST(s.n <= kv->raw_size - (uint64_t)((const uint8_t *)s.p - kv->raw));
        touch(s.p, s.n);
    }
    MUST(quant_kv_u64(kv, kv->count, &u) == QUANT_E_NOT_FOUND);
    MUST(quant_kv_str(kv, kv->count, &cur, &s) == QUANT_E_NOT_FOUND);
}

static void check_tensor(const quant_gguf *g, const quant_tensor *t, size_t size)
{
    const quant_type_info *info = quant_type_get(t->type);
    const uint8_t *p = (const uint8_t *)quant_gguf_data(g, t);
    uint64_t n = t->size < 512 ? t->size : 512;
    uint8_t buf[512];
    uint32_t d;
    quant_result r;
    MUST(t->size > 0 && t->size <= t->span);
    MUST(t->offset <= size && t->span <= size - t->offset);
    MUST(t->offset >= g->data_offset && (t->offset - g->data_offset) % g->alignment == 0);
    MUST(t->n_dims >= 1 && t->n_dims <= 4 && t->name.n >= 1 && t->name.n <= 63);
    for (d = 0; d < 4; d++) MUST(t->ne[d] >= 1 && (d < t->n_dims || t->ne[d] == 1));
    if (info && info->block_len) {
        MUST(t->ne[0] % info->block_len == 0);
        MUST(t->ne[0] / info->block_len * t->ne[1] * t->ne[2] * t->ne[3] * info->block_size ==
             t->size);
        n = t->size < info->block_size ? 0 : info->block_size;
    }
    r = quant_gguf_read(g, t, buf, 0, (size_t)n);
    MUST(r == QUANT_OK || (r == QUANT_E_TYPE && g->big_endian));
    if (r == QUANT_OK) touch(buf, n);
    if (p) {
        MUST(r == QUANT_OK && memcmp(buf, p, (size_t)n) == 0);
        touch(p, t->size < 65536 ? t->size : 65536);
        touch(p + t->size - 1, 1);
    }
    MUST(quant_gguf_read(g, t, buf, t->size, 1) == QUANT_E_ARG);
    MUST(quant_gguf_read(g, t, buf, t->size - 1, 2) == QUANT_E_ARG);
}

static void check_open(const quant_gguf *g, const uint8_t *data, size_t size)
{
    char name[256];
    size_t i;
    MUST(g->version >= 1 && g->version <= 3 && g->file_size == size);
    MUST(g->alignment >= 8 && g->alignment <= 65536 && !(g->alignment & (g->alignment - 1)));
    MUST(g->data_offset % g->alignment == 0 && (g->data_offset <= size || !g->n_tensors));
    for (i = 0; i < g->n_kv; i++) {
        const quant_kv *kv = &g->kv[i];
        check_kv(kv);
        if (data) MUST(kv->raw >= data && kv->raw_size <= size - (uint64_t)(kv->raw - data));
        if (kv->key.n >= sizeof name) continue;
        memcpy(name, kv->key.p, kv->key.n);
        name[kv->key.n] = 0;
        MUST(quant_gguf_find(g, name) == kv);
    }
    for (i = 0; i < g->n_tensors; i++) {
        const quant_tensor *t = &g->tensors[i];
        check_tensor(g, t, size);
        memcpy(name, t->name.p, t->name.n);
        name[t->name.n] = 0;
        MUST(quant_gguf_find_tensor(g, name) == t);
    }
}

static void check_error(const quant_gguf *g, quant_result r)
{
    char line[240];
    MUST(g->err.code == r && r < 0 && g->err.what && !g->kv && !g->n_kv && !g->n_tensors);
    MUST(quant_error_text(line, sizeof line, &g->err) < sizeof line - 1);
    MUST(memchr(g->err.name, 0, sizeof g->err.name) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    quant_gguf g, h;
    quant_io io;
    source s;
    size_t used[2] = { 0, 0 };
    quant_alloc a, b;
    quant_result r, q;
    a.alloc = b.alloc = small_alloc;
    a.free = b.free = small_free;
    a.user = &used[0];
    b.user = &used[1];
    s.p = data;
    s.n = size;
    io.read = source_read;
    io.size = size;
    io.user = &s;
    r = quant_gguf_open(&g, data, size, &a, NULL);
    MUST(used[0] <= 20 * size + 1024);
    q = quant_gguf_open_io(&h, &io, &b, NULL);
    MUST(r == q && g.err.where == h.err.where && g.n_kv == h.n_kv);
    MUST(g.n_tensors == h.n_tensors && strcmp(g.err.name, h.err.name) == 0);
    if (r == QUANT_OK) {
        check_open(&g, data, size);
        check_open(&h, NULL, size);
    } else {
        check_error(&g, r);
        check_error(&h, q);
        MUST(!used[0] && !used[1]);
    }
    quant_gguf_close(&g);
    quant_gguf_close(&h);
    MUST(!used[0] && !used[1]);
    return 0;
}

#ifdef FUZZ_REPLAY
#ifndef FUZZ_ROUNDS
#  define FUZZ_ROUNDS 30000
#endif

static uint64_t state = 1;

static uint64_t splitmix64(void)
{
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint8_t seed[2048];
static size_t seed_n, seed_header;

static void put(int big, size_t width, uint64_t v)
{
    size_t i;
    for (i = 0; i < width; i++)
        seed[seed_n++] = (uint8_t)(v >> 8 * (big ? width - 1 - i : i));
}

static void put_text(int big, size_t width, const char *s)
{
    put(big, width, strlen(s));
    while (*s) seed[seed_n++] = (uint8_t)*s++;
}

/* A valid file with all kinds of values and a few types. */
static void make_seed(uint32_t version, int big)
{
    static const uint8_t widths[13] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    static const uint32_t types[4] = { QUANT_Q4_K, QUANT_F16, 99, QUANT_I8 };
    size_t w = version == 1 ? 4 : 8;
    uint32_t i;
    char name[8] = "k0";
    seed_n = 0;
    put(0, 4, 0x46554747);
    put(big, 4, version);
    put(big, w, 4);
    put(big, w, 15);
    for (i = 0; i < 13; i++, name[1]++) {
        put_text(big, w, name);
        put(big, 4, i);
        if (widths[i]) { put(big, widths[i], i * 77); continue; }
        if (i == QUANT_KV_STR) { put_text(big, w, "text"); continue; }
        put(big, 4, QUANT_KV_STR);
        put(big, w, 2);
        put_text(big, w, "a");
        put_text(big, w, "bc");
    }
    put_text(big, w, "f32s");
    put(big, 4, QUANT_KV_ARRAY);
    put(big, 4, QUANT_KV_F32);
    put(big, w, 3);
    for (i = 0; i < 3; i++) put(big, 4, 0x3f800000 + i);
    put_text(big, w, "general.alignment");
    put(big, 4, QUANT_KV_U32);
    put(big, 4, 16);
    for (i = 0; i < 4; i++) {
        name[1] = (char)('a' + i);
        put_text(big, w, name);
        put(big, 4, 2);
        put(big, w, i ? 5 : 256);
        put(big, w, 1);
        put(big, 4, types[i]);
        put(big, 8, i ? 128 + 16 * i : 0);
    }
    while (seed_n % 16) put(big, 1, 0);
    seed_header = seed_n;
    for (i = 0; i < 197; i++) put(big, 1, i);
}

/* One to four changes: a byte, a bit, a number written over, bytes removed or doubled. */
static size_t mutate(uint8_t *p, size_t n)
{
    static const uint64_t odd[] = { 0, 1, 4, 5, 8, 9, 13, 32, 63, 64, 255, 65535, 65536, 0x7fffffff,
                                    0x80000000u, 0xffffffffu, (uint64_t)1 << 61,
                                    (uint64_t)1 << 62, (uint64_t)1 << 63, UINT64_MAX };
    size_t changes = 1 + splitmix64() % 4;
    while (changes--) {
        size_t at = splitmix64() % (seed_header < n ? seed_header : n), k = 1 + splitmix64() % 16;
        uint64_t v = odd[splitmix64() % (sizeof odd / sizeof odd[0])] + splitmix64() % 3 - 1;
        size_t width = (size_t)1 << splitmix64() % 4, i;
        switch (splitmix64() % 6) {
            case 0: p[at] = (uint8_t)splitmix64(); break;
            case 1: p[at] = (uint8_t)(p[at] ^ 1u << splitmix64() % 8); break;
            case 2:
            case 3:
                for (i = 0; i < width && at + i < n; i++) p[at + i] = (uint8_t)(v >> 8 * i);
                break;
            case 4:
                if (at + k >= n) break;
                memmove(p + at, p + at + k, n - at - k);
                n -= k;
                break;
            default:
                if (at + k >= n || n + k > sizeof seed) break;
                memmove(p + at + k, p + at, n - at);
                n += k;
                break;
        }
    }
    return n;
}

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    size_t n = 0, cap = 1 << 16, got;
    uint8_t *p = (uint8_t *)malloc(cap), *q;
    if (!f || !p) { fprintf(stderr, "%s: cannot be read\n", path); return 1; }
    while ((got = fread(p + n, 1, cap - n, f)) > 0) {
        n += got;
        if (n < cap) continue;
        q = (uint8_t *)realloc(p, cap *= 2);
        if (!q) { free(p); fclose(f); return 1; }
        p = q;
    }
    fclose(f);
    q = (uint8_t *)malloc(n ? n : 1);           /* exactly sized, for the sanitizer              */
    if (!q) return 1;
    memcpy(q, p, n);
    free(p);
    LLVMFuzzerTestOneInput(q, n);
    free(q);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned long round, opened = 0;
    int i, bad = 0;
    for (i = 1; i < argc; i++) bad |= replay(argv[i]);
    if (argc > 1) return bad;
    for (round = 0; round < FUZZ_ROUNDS; round++) {
        static uint8_t work[sizeof seed];
        quant_gguf g;
        uint8_t *p;
        size_t n;
        make_seed(1 + (uint32_t)(round / 2 % 3), (int)(round % 2));
        memcpy(work, seed, seed_n);
        n = round < 6 ? seed_n : mutate(work, seed_n);
        p = (uint8_t *)malloc(n ? n : 1);
        if (!p) return 1;
        memcpy(p, work, n);
        LLVMFuzzerTestOneInput(p, n);
        if (quant_gguf_open(&g, p, n, NULL, NULL) == QUANT_OK) opened++;
        else if (round < 6) { fprintf(stderr, "seed %lu: %s\n", round, g.err.what); bad = 1; }
        quant_gguf_close(&g);
        free(p);
    }
    /* Nearly all or nearly none would mean that the mutations test nothing. */
    if (opened < FUZZ_ROUNDS / 100 || opened > FUZZ_ROUNDS - FUZZ_ROUNDS / 10) bad = 1;
    printf("fuzz_gguf: %lu files, %lu of them valid%s\n", round, opened, bad ? ": FAILED" : "");
    return bad;
}
#endif
