/* Fuzz target: opens the input as an importance file and reads all that it gives.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_imatrix.c quant.c -o fuzz_imatrix
 *   cc -g -fsanitize=address,undefined -DFUZZ_REPLAY tests/fuzz_imatrix.c quant.c -o replay
 *
 * With FUZZ_REPLAY it has a main of its own: `replay FILE...` runs the files of a corpus or a
 * crash, `replay` changes two built-in files at random, the same changes every time. */
#include "../quant.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a file may take: otherwise a fuzzer only finds that large files need memory. */
static const quant_limits fuzz_limits = { 1000, 1000, 1000, 1000, 1 << 20 };

static void demand(int ok)
{
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    quant_imatrix m;
    size_t i, k, sum = 0;
    char line[240];
    quant_result r = quant_imatrix_open(&m, data, size, NULL, &fuzz_limits);
    if (r != QUANT_OK) {
        demand(m.err.code == r && m.entries == NULL && m.n_entries == 0);
        demand(quant_error_text(line, sizeof line, &m.err) > 0);
        return 0;
    }
    for (i = 0; i < m.dataset.n; i++) sum += (uint8_t)m.dataset.p[i];
    for (i = 0; i < m.n_entries; i++) {
        const quant_imatrix_entry *e = &m.entries[i];
        const float *out;
        for (k = 0; k < e->name.n; k++) sum += (uint8_t)e->name.p[k];
        for (k = 0; k < e->size; k++) demand(e->values[k] >= 0 && e->values[k] <= 3.4028234e38f);
        for (k = 0; k < e->mats; k++) {
            r = quant_imatrix_find(&m, &out, e->name, e->size / e->mats, k, e->mats);
            demand(r == QUANT_OK && out == e->values + k * (e->size / e->mats));
        }
    }
    demand(sum > 0 && m.n_entries > 0);
    quant_imatrix_close(&m);
    return 0;
}

#ifdef FUZZ_REPLAY
/* An exactly sized copy, so that a sanitizer sees the first byte read past the end. */
static void try_copy(const uint8_t *p, size_t n)
{
    uint8_t *q = (uint8_t *)malloc(n ? n : 1);
    demand(q != NULL);
    if (n) memcpy(q, p, n);
    LLVMFuzzerTestOneInput(q, n);
    free(q);
}

static uint64_t next(uint64_t *state)                   /* splitmix64                            */
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

typedef struct seed { uint8_t p[2048]; size_t n; } seed;

static size_t seed_write(void *user, const void *p, size_t n)
{
    seed *s = (seed *)user;
    if (n > sizeof s->p - s->n) return 0;
    memcpy(s->p + s->n, p, n);
    s->n += n;
    return n;
}

static void put(uint8_t *p, uint64_t v, int size)      /* little-endian                         */
{
    int i;
    for (i = 0; i < size; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static void seed_i32(seed *s, uint32_t v)
{
    uint8_t b[4];
    put(b, v, 4);
    demand(seed_write(s, b, 4) == 4);
}

static void seed_dat(seed *s)
{
    int i, k;
    seed_i32(s, 3);
    for (i = 0; i < 3; i++) {
        char name[] = "blk.0.attn_q.weight";
        name[4] = (char)('0' + i);
        seed_i32(s, sizeof name - 1);
        seed_write(s, name, sizeof name - 1);
        seed_i32(s, (uint32_t)i);
        seed_i32(s, 5);
        for (k = 0; k < 5; k++) {
            float f = (float)(i * k);
            uint32_t bits;
            memcpy(&bits, &f, 4);
            seed_i32(s, bits);
        }
    }
    seed_i32(s, 100);
    seed_i32(s, 4);
    seed_write(s, "text", 4);
}

static void seed_gguf(seed *s)
{
    static const quant_str sets[1] = { { "text", 4 } };
    static const float v[] = { 1, 2, 3, 4, 2, 1, 2, 3, 4, 5, 6, 0, 7 };
    const uint64_t a[2] = { 4, 1 }, a1[2] = { 1, 1 }, b[2] = { 3, 2 }, b1[2] = { 1, 2 };
    quant_gguf_out o;
    quant_sink sink;
    sink.write = seed_write;
    sink.user = s;
    quant_gguf_begin(&o, sink, 0, NULL);
    quant_gguf_put_str(&o, "general.type", "imatrix");
    quant_gguf_put_array(&o, "imatrix.datasets", QUANT_KV_STR, sets, 1);
    quant_gguf_put_u32(&o, "imatrix.chunk_count", 100);
    quant_gguf_put_tensor(&o, "blk.0.ffn_up.weight.in_sum2", QUANT_F32, a, 2);
    quant_gguf_put_tensor(&o, "blk.0.ffn_up.weight.counts", QUANT_F32, a1, 2);
    quant_gguf_put_tensor(&o, "blk.0.ffn_down_exps.weight.in_sum2", QUANT_F32, b, 2);
    quant_gguf_put_tensor(&o, "blk.0.ffn_down_exps.weight.counts", QUANT_F32, b1, 2);
    quant_gguf_header(&o);
    quant_gguf_write(&o, v, sizeof v);
    demand(quant_gguf_end(&o) == QUANT_OK);
}

/* One change: a bit, a byte, a number that is likely to hurt, bytes taken out, put in or copied. */
static void mutate(seed *s, uint64_t *state)
{
    static const uint32_t hurt[] = { 0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000u,
                                     0xffffffffu, 0xfffffff0u, 0x40000000, 0x7f800000, 0x7fc00000 };
    size_t at = s->n ? (size_t)(next(state) % s->n) : 0, k = (size_t)(next(state) % 24) + 1;
    size_t left = s->n - at, from;
    uint32_t v = hurt[next(state) % (sizeof hurt / sizeof hurt[0])];
    switch (next(state) % 7) {
        case 0: if (left) s->p[at] ^= (uint8_t)(1u << next(state) % 8); break;
        case 1: if (left) s->p[at] = (uint8_t)next(state); break;
        case 2: if (left >= 4) put(s->p + at, v, 4); break;
        case 3: if (left >= 8) put(s->p + at, (uint64_t)v << next(state) % 33, 8); break;
        case 4:
            if (k > left) k = left;
            memmove(s->p + at, s->p + at + k, left - k);
            s->n -= k;
            break;
        case 5:
            if (k > sizeof s->p - s->n) break;
            memmove(s->p + at + k, s->p + at, left);
            memset(s->p + at, (int)(next(state) & 0xff), k);
            s->n += k;
            break;
        default:
            from = s->n ? (size_t)(next(state) % s->n) : 0;
            if (k > left) k = left;
            if (k > s->n - from) k = s->n - from;
            memmove(s->p + at, s->p + from, k);
            break;
    }
}

static int replay(const char *path)
{
    static uint8_t buf[1 << 20];
    FILE *f = fopen(path, "rb");
    size_t n;
    if (!f) { fprintf(stderr, "%s: cannot open it\n", path); return 1; }
    n = fread(buf, 1, sizeof buf, f);
    fclose(f);
    try_copy(buf, n);
    return 0;
}

int main(int argc, char **argv)
{
    static seed seeds[2], s;
    uint64_t state = 1;
    int i, bad = 0, rounds = 40000;
    for (i = 1; i < argc; i++) bad |= replay(argv[i]);
    if (argc > 1) return bad;
    seed_dat(&seeds[0]);
    seed_gguf(&seeds[1]);
    for (i = 0; i < 2; i++) {
        quant_imatrix m;
        demand(quant_imatrix_open(&m, seeds[i].p, seeds[i].n, NULL, &fuzz_limits) == QUANT_OK);
        quant_imatrix_close(&m);
    }
    for (i = 0; i < rounds; i++) {
        uint64_t k;
        s = seeds[i % 2];
        for (k = next(&state) % 4 + 1; k; k--) mutate(&s, &state);
        try_copy(s.p, s.n);
    }
    printf("fuzz_imatrix: %d inputs\n", rounds);
    return 0;
}
#endif
