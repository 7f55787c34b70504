/* Golden vectors: every decoder bit for bit, every encoder byte for byte.  tests/golden holds what
 * ggml's scalar code gives (commit d99724f2, no contraction); the container is described in
 * tests/golden/README.md. */
#include "test.h"

typedef struct golden {
    uint8_t *b;
    size_t   n;
    uint32_t kind, type, block_len, block_size, rows, cols, attr;
} golden;

static uint32_t u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t crc32(const uint8_t *p, size_t n)
{
    uint32_t c = ~0u;
    int k;
    while (n--) {
        c ^= *p++;
        for (k = 0; k < 8; k++) c = c >> 1 ^ (0xEDB88320u & (0u - (c & 1)));
    }
    return ~c;
}

static int golden_open(golden *g, quant_type t, const char *kind)
{
    char path[64];
    uint32_t i;
    snprintf(path, sizeof path, "tests/golden/%s.%s", quant_type_name(t), kind);
    g->b = test_file(path, &g->n);
    if (!g->b) return 0;
    g->kind = u32(g->b + 8);
    g->type = u32(g->b + 12);
    g->block_len = u32(g->b + 32);
    g->block_size = u32(g->b + 36);
    g->rows = u32(g->b + 40);
    g->cols = u32(g->b + 44);
    g->attr = u32(g->b + 64);
    for (i = 0; i < u32(g->b + 68); i++) {
        const uint8_t *s = g->b + 72 + 24 * i;
        CHECK(crc32(g->b + u32(s + 16), u32(s + 20)) == u32(s + 12));
    }
    return CHECK(memcmp(g->b, "QGLD", 4) == 0 && g->type == t);
}

static const uint8_t *golden_section(const golden *g, const char *tag, size_t *size)
{
    char name[8] = { 0 };
    uint32_t i;
    memcpy(name, tag, strlen(tag));
    for (i = 0; i < u32(g->b + 68); i++) {
        const uint8_t *s = g->b + 72 + 24 * i;
        if (memcmp(s, name, 8) == 0) { *size = u32(s + 20); return g->b + u32(s + 16); }
    }
    *size = 0;
    return NULL;
}

/* The 27 weight types. */
static const quant_type weights[] = {
    QUANT_F16, QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0, QUANT_Q2_K,
    QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K, QUANT_IQ4_NL, QUANT_IQ4_XS, QUANT_TQ1_0,
    QUANT_TQ2_0, QUANT_MXFP4, QUANT_NVFP4, QUANT_Q1_0, QUANT_Q2_0, QUANT_IQ1_S, QUANT_IQ1_M,
    QUANT_IQ2_XXS, QUANT_IQ2_XS, QUANT_IQ2_S, QUANT_IQ3_XXS, QUANT_IQ3_S
};
enum { N_WEIGHTS = sizeof weights / sizeof *weights };

static void golden_decode(void)
{
    int i;
    size_t j, n, n_raw, bad, decoded = 0;
    for (i = 0; i < N_WEIGHTS; i++) {
        golden g;
        const uint8_t *want, *raw;
        float *y;
        if (!(quant_type_get(weights[i])->flags & QUANT_TF_DECODE)) continue;
        REQUIRE(golden_open(&g, weights[i], "decode"));
        CHECK(quant_type_get(weights[i])->block_len == g.block_len || g.block_len == 1);
        CHECK(quant_type_get(weights[i])->block_size == g.block_size);
        raw = golden_section(&g, "raw", &n_raw);
        want = golden_section(&g, "f32", &n);
        y = (float *)malloc(g.cols * sizeof *y);
        REQUIRE(raw && want && y && n == 4 * g.cols);
        CHECK(quant_to_f32(weights[i], y, raw, 1, g.cols) == QUANT_OK);
        for (bad = 0, j = 0; j < g.cols; j++) {
            uint32_t bits;
            memcpy(&bits, &y[j], 4);
            bad += bits != u32(want + 4 * j);
        }
        test_note("%s: %u of %u values differ", quant_type_name(weights[i]), (unsigned)bad, g.cols);
        CHECK(bad == 0);
        decoded++;
        free(y);
        free(g.b);
    }
#ifdef QUANT_NO_IQ
    CHECK(decoded == N_WEIGHTS - 7);
#else
    CHECK(decoded == N_WEIGHTS);
#endif
}

/* Encodes with and without importance and compares segments of 256 columns that are not flagged. */
static size_t golden_compare(const golden *g, const char *tag, const float *x,
                             const float *importance, uint8_t skip, size_t *segments)
{
    size_t n, n_flags, i, bad = 0, row = quant_row_size(g->type, g->cols);
    size_t part = quant_row_size(g->type, 256);
    const uint8_t *want = golden_section(g, tag, &n);
    const uint8_t *flags = golden_section(g, "flags", &n_flags);
    uint8_t *dst = (uint8_t *)malloc(n + 1);
    quant_encoder e;
    quant_error err;
    CHECK(quant_encoder_init(&e, g->type, QUANT_EFFORT_REFERENCE, NULL, 0) == QUANT_OK);
    CHECK(n == row * g->rows && n_flags == g->rows * g->cols / 256);
    if (!dst || !want || !flags) return 1;
    dst[n] = 0xA5;
    CHECK(quant_from_f32(&e, dst, x, g->rows, g->cols, importance, &err) == QUANT_OK);
    CHECK(dst[n] == 0xA5);
    for (i = 0; i < n_flags; i++) {
        if (flags[i] & skip) continue;
        ++*segments;
        if (memcmp(dst + i * part, want + i * part, part)) {
            bad++;
            test_note("%s %s: row %u half %u differs", quant_type_name(g->type), tag,
                      (unsigned)(i / (g->cols / 256)), (unsigned)(i % (g->cols / 256)));
            CHECK(0 && "bytes differ");
        }
    }
    free(dst);
    return bad;
}

static void golden_encode(void)
{
    int i;
    size_t n, j, encoded = 0, needy = 0, segments = 0;
    for (i = 0; i < N_WEIGHTS; i++) {
        golden g;
        const uint8_t *src, *imat;
        float *x, *w;
        if (!(quant_type_get(weights[i])->flags & QUANT_TF_ENCODE)) continue;
        REQUIRE(golden_open(&g, weights[i], "encode"));
        src = golden_section(&g, "src", &n);
        x = (float *)malloc(n + 1);
        w = (float *)malloc(4 * g.cols);
        REQUIRE(src && x && w && n == 4 * (size_t)g.rows * g.cols);
        for (j = 0; j < n / 4; j++) { uint32_t u = u32(src + 4 * j); memcpy(&x[j], &u, 4); }
        if (g.attr & 1) {                   /* not without importance                            */
            CHECK(!golden_section(&g, "q", &n));
            CHECK(quant_type_get(weights[i])->flags & QUANT_TF_NEEDS_IMPORTANCE);
            needy++;
        } else {
            golden_compare(&g, "q", x, NULL, 0x15, &segments);
        }
        imat = golden_section(&g, "imat", &n);
        if (imat) {
            for (j = 0; j < g.cols; j++) { uint32_t u = u32(imat + 4 * j); memcpy(&w[j], &u, 4); }
            golden_compare(&g, "q_imat", x, w, 0x2A, &segments);
        }
        encoded++;
        free(x);
        free(w);
        free(g.b);
    }
    test_note("%u types, %u segments", (unsigned)encoded, (unsigned)segments);
#ifdef QUANT_NO_IQ
    CHECK(encoded == N_WEIGHTS - 7 && needy == 0 && segments == 604);
#else
    CHECK(encoded == N_WEIGHTS && needy == 3 && segments == 768);
#endif
}

void suite_golden(void);
void suite_golden(void)
{
    RUN(golden_decode);
#ifndef QUANT_NO_ENCODE
    RUN(golden_encode);
#endif
}
