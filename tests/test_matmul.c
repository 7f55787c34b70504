/* Matrix products.  QUANT_TEST_REQUIRE_ISA=avx512vnni,avx2 (names of quant_cpu_name) in the
 * environment makes the run fail when the kernels of one of these sets do not run: for machines
 * that are known to have them. */
#include "test.h"
#include <math.h>

static void matrix_refusals(void)
{
    quant_matrix m;
    float f[32] = { 0 };
    CHECK(quant_matrix_init(&m, QUANT_F32, f, 0, 32, 0) == QUANT_E_ARG);
    CHECK(quant_matrix_init(&m, QUANT_F32, f, 32, 0, 0) == QUANT_E_ARG);
    CHECK(quant_matrix_init(&m, QUANT_Q4_0, f, 1, 33, 0) == QUANT_E_ARG);
    CHECK(quant_matrix_init(&m, 999, f, 1, 32, 0) == QUANT_E_TYPE);
    CHECK(quant_matrix_init(&m, QUANT_F32, f, 1, 32, 0) == QUANT_OK);
    CHECK(quant_act_size(&m, (size_t)-1) == 0);
    CHECK(quant_matrix_pack_size(&m) == 16 * 32 * 4 && quant_matrix_row_step(&m) == 1);
    CHECK(quant_matrix_pack(&m, &m, f, sizeof f) == QUANT_E_MEMORY);
    m.layout = 1;
    CHECK(quant_matrix_pack_size(&m) == 0 && quant_matrix_row_step(&m) == 16);
    CHECK(quant_matrix_pack(&m, &m, NULL, 0) == QUANT_E_ARG);
}

/* Every set of kernels that this build has; what the machine lacks is said aloud. */
static const quant_cpu cpus[] = {
    QUANT_CPU_SCALAR, QUANT_CPU_AVX2, QUANT_CPU_AVXVNNI, QUANT_CPU_AVX512VNNI,
    QUANT_CPU_NEON, QUANT_CPU_DOTPROD, QUANT_CPU_I8MM, QUANT_CPU_WASM128, QUANT_CPU_RVV
};
enum { N_CPUS = sizeof cpus / sizeof *cpus };

static int have(quant_cpu cpu)
{
    return (cpu & quant_cpu_detect() & quant_cpu_compiled()) == cpu;
}

static void cpu_sets(void)
{
    float f[32] = { 0 };
    quant_matrix m;
    size_t i;
    CHECK((quant_cpu_detect() & ~quant_cpu_compiled()) == 0);
    CHECK(strcmp(quant_cpu_name(0), "scalar") == 0);
    CHECK(strcmp(quant_cpu_name(QUANT_CPU_AVX2), "avx2") == 0);
    CHECK(strcmp(quant_cpu_name(QUANT_CPU_WASM128), "wasm128") == 0);
    CHECK(strcmp(quant_cpu_name(QUANT_CPU_RVV), "rvv") == 0);
    CHECK(strcmp(quant_cpu_name(QUANT_CPU_AVX2 | QUANT_CPU_AVXVNNI), "avxvnni") == 0);
    CHECK(strcmp(quant_cpu_name(QUANT_CPU_AVX2 | QUANT_CPU_AVX512VNNI), "avx512vnni") == 0);
    CHECK(strcmp(quant_cpu_name(QUANT_CPU_NEON), "neon") == 0);
    CHECK(strcmp(quant_cpu_name(QUANT_CPU_NEON | QUANT_CPU_DOTPROD), "dotprod") == 0);
    CHECK(strcmp(quant_cpu_name(QUANT_CPU_DOTPROD | QUANT_CPU_I8MM), "i8mm") == 0);
    for (i = 0; i < N_CPUS; i++) {                  /* what is not there is dropped              */
        CHECK(quant_matrix_init(&m, QUANT_F32, f, 1, 32, cpus[i]) == QUANT_OK);
        CHECK(m.cpu == (have(cpus[i]) ? cpus[i] : QUANT_CPU_SCALAR));
    }
    CHECK(quant_matrix_init(&m, QUANT_F32, f, 1, 32, ~(quant_cpu)0) == QUANT_OK);
    CHECK(m.cpu == quant_cpu_detect());
}

/* A matrix in the file's layout at an odd address, packed; x, y and sums in double. */
typedef struct product {
    size_t rows, cols, tokens;
    quant_type type;
    uint8_t *q, *packed;
    float *w, *x, *y, *z;
    void *act;
} product;

static void product_free(product *p)
{
    free(p->q);
    free(p->packed);
    free(p->w);
    free(p->x);
    free(p->y);
    free(p->z);
    free(p->act);
}

/* Where the half floats d and m of a block are, -1 for none. */
static const struct { quant_type type; int d, m; } halves[] = {
    { QUANT_Q4_0, 0, -1 }, { QUANT_Q4_1, 0, 2 }, { QUANT_Q5_0, 0, -1 }, { QUANT_Q5_1, 0, 2 },
    { QUANT_Q8_0, 0, -1 }, { QUANT_Q2_K, 80, 82 }, { QUANT_Q3_K, 108, -1 }, { QUANT_Q4_K, 0, 2 },
    { QUANT_Q5_K, 0, 2 }, { QUANT_Q6_K, 208, -1 }, { QUANT_IQ2_XXS, 0, -1 },
    { QUANT_IQ2_XS, 0, -1 }, { QUANT_IQ3_XXS, 0, -1 }, { QUANT_IQ1_S, 0, -1 },
    { QUANT_IQ4_NL, 0, -1 }, { QUANT_IQ3_S, 0, -1 }, { QUANT_IQ2_S, 0, -1 },
    { QUANT_IQ4_XS, 0, -1 }, { QUANT_IQ1_M, -1, -1 }, { QUANT_TQ1_0, 52, -1 },
    { QUANT_TQ2_0, 64, -1 }, { QUANT_MXFP4, -1, -1 }, { QUANT_NVFP4, -1, -1 },
    { QUANT_Q1_0, 0, -1 }, { QUANT_Q2_0, 0, -1 }, { QUANT_F32, -1, -1 }, { QUANT_F16, -1, -1 },
    { QUANT_BF16, -1, -1 }
};
enum { N_TYPES = sizeof halves / sizeof *halves };

/* Scales of one block near or, with `ends`, at powers of two. */
static void set_scales(uint8_t *block, size_t k, uint64_t random, int ends)
{
    int i, at[2];
    quant_type t = halves[k].type;
    at[0] = halves[k].d;
    at[1] = halves[k].m;
    for (i = 0; i < 2; i++) {
        if (at[i] < 0) continue;
        block[at[i]] = ends ? 0 : (uint8_t)random;
        block[at[i] + 1] = ends ? (random & 1 ? 0x3c : 0x40)
                         : (uint8_t)(0x2c | (random >> 8 & 0x81));     /* 2^-4 to 2^-3, +-       */
    }
    if (t == QUANT_MXFP4) block[0] = (uint8_t)(ends ? 127 + random % 2 : 120 + random % 8);
    for (i = 0; i < 4 && t == QUANT_NVFP4; i++)     /* the scales 0 and 0x7f too                 */
        block[i] = (uint8_t)((random >> i & 7) == 0 ? 0x7f : (random >> i & 7) == 1 ? 0
                             : 0x38 + (random >> 8 * i & 7));
    for (i = 0; i < 4 && t == QUANT_IQ1_M; i++)     /* four nibbles of a half                    */
        block[48 + 2 * i + 1] = (uint8_t)((block[48 + 2 * i + 1] & 15) | (i == 3 ? 0x30 : 0xc0));
}

enum { CODES, ENDS, GAUSS };        /* random codes; all at their ends; encoded, if possible     */

/* Weights of a kind; activations are Gaussian, or at their ends. */
static int product_make(product *p, size_t k, size_t rows, size_t cols, size_t tokens, int kind)
{
    const int ends = kind == ENDS;
    static const uint8_t end[4] = { 0x00, 0xff, 0x7f, 0x80 };
    quant_type t = halves[k].type;
    const quant_type_info *info = quant_type_get(t);
    size_t n = rows * cols, i, size = rows * quant_row_size(t, cols);
    uint64_t seed = 1 + t + 100 * rows + 10000 * cols;
    quant_matrix m;
    p->rows = rows;
    p->cols = cols;
    p->tokens = tokens;
    p->type = t;
    p->q = (uint8_t *)malloc(size + 1);
    if (!p->q || quant_matrix_init(&m, t, p->q + 1, rows, cols, 0)) return 0;
    p->packed = (uint8_t *)malloc(quant_matrix_pack_size(&m));
    p->w = (float *)malloc(n * sizeof(float));
    p->x = (float *)malloc(tokens * cols * sizeof(float));
    p->y = (float *)malloc(tokens * rows * sizeof(float));
    p->z = (float *)malloc(tokens * rows * sizeof(float));
    p->act = malloc(quant_act_size(&m, tokens));
    if (!p->packed || !p->w || !p->x || !p->y || !p->z || !p->act) return 0;
    for (i = 0; i < tokens * cols; i++) p->x[i] = (float)test_normal(&seed);
    for (i = 0; i < tokens * cols && ends; i++)
        p->x[i] = (i / cols % 3 == 0 || (i / cols % 3 == 1 && i % 2)
                   || (i / cols % 3 == 2 && (test_random(&seed) & 1))) ? 3.f : -3.f;
    if (info->block_len == 1) {
        quant_encoder e;
        for (i = 0; i < n; i++) p->w[i] = (float)(ends ? (i % 3 ? 2 : -1) : test_normal(&seed));
        if (quant_encoder_init(&e, t, 0, NULL, 0)
            || quant_from_f32(&e, p->q + 1, p->w, rows, cols, NULL, NULL)) return 0;
    }
    for (i = 0; i < size && info->block_len > 1; i++) {
        size_t b = i / info->block_size;
        p->q[1 + i] = ends ? end[b % 5 < 4 ? b % 5 : test_random(&seed) % 4]
                           : (uint8_t)(test_random(&seed) >> 8);
        if (t == QUANT_TQ1_0) p->q[1 + i] = (uint8_t)((p->q[1 + i] % 243u * 256 + 242) / 243);
    }
    for (i = 0; i < size && info->block_len > 1; i += info->block_size)
        set_scales(p->q + 1 + i, k, test_random(&seed), ends);
    if (kind == GAUSS && info->block_len > 1 && (info->flags & QUANT_TF_ENCODE)) {
        quant_encoder e;
        float *flat = NULL;
        quant_result r = quant_encoder_init(&e, t, 0, NULL, 0);
        for (i = 0; i < n; i++) p->w[i] = (float)test_normal(&seed);
        if (info->flags & QUANT_TF_NEEDS_IMPORTANCE) {
            flat = (float *)malloc(cols * sizeof(float));
            if (!flat) return 0;
            for (i = 0; i < cols; i++) flat[i] = 1;
        }
        if (!r) r = quant_from_f32(&e, p->q + 1, p->w, rows, cols, flat, NULL);
        free(flat);
        if (r) return 0;
    }
    return quant_to_f32(t, p->w, p->q + 1, rows, cols) == QUANT_OK;
}

/* Adds squares of the error and of the sums to total[2].  Returns the error of this one, relative
 * to the sums, or with `norms` to what sums of independent numbers would be: |w| |x| / sqrt(cols).
 */
static double product_error(const product *p, const float *y, double *total, int norms)
{
    double err = 0, ref = 0, expected = 0;
    size_t k, r, i;
    for (k = 0; k < p->tokens; k++)
        for (r = 0; r < p->rows; r++) {
            double sum = 0, w2 = 0, x2 = 0;
            for (i = 0; i < p->cols; i++) {
                double w = (double)p->w[r * p->cols + i], x = (double)p->x[k * p->cols + i];
                sum += w * x;
                w2 += w * w;
                x2 += x * x;
            }
            err += (sum - (double)y[k * p->rows + r]) * (sum - (double)y[k * p->rows + r]);
            ref += sum * sum;
            expected += w2 * x2 / (double)p->cols;
        }
    total[0] += err;
    total[1] += ref;
    return sqrt(err / (norms ? expected : ref));
}

/* The same bytes for the layout of the file, for row ranges and for one token at a time. */
static void product_ranges(product *p, const float *y, const quant_matrix *m, size_t step)
{
    size_t i, r, n = p->tokens * p->rows;
    quant_act(m, p->act, p->x, p->cols, p->tokens);
    for (i = 0; i < n; i++) p->z[i] = NAN;
    for (r = 0; r < p->rows; r += step)
        quant_matmul(m, p->z, p->rows, p->act, p->tokens, r,
                     r + step < p->rows ? r + step : p->rows);
    CHECK(memcmp(y, p->z, n * 4) == 0);
    for (i = 0; i < p->tokens; i++) {
        quant_act(m, p->act, p->x + i * p->cols, p->cols, 1);
        quant_matmul(m, p->z + i * p->rows, p->rows, p->act, 1, 0, p->rows);
    }
    CHECK(memcmp(y, p->z, n * 4) == 0);
}

/* Y with the kernels of a set. */
static void product_run(product *p, float *y, quant_cpu cpu)
{
    quant_matrix m, file;
    size_t size, i, r, n = p->tokens * p->rows;
    CHECK(quant_matrix_init(&m, p->type, p->q + 1, p->rows, p->cols, cpu) == QUANT_OK);
    CHECK(quant_matrix_row_step(&m) == 1);
    file = m;
    size = quant_matrix_pack_size(&m);
    CHECK(size > 0 && size % 16 == 0);
    CHECK(quant_matrix_pack(&m, &m, p->packed, size - 1) == QUANT_E_MEMORY);
    CHECK(quant_matrix_pack(&m, &m, p->packed, size) == QUANT_OK);
    CHECK(quant_matrix_pack_size(&m) == 0 && quant_matrix_row_step(&m) == 16);
    quant_act(&m, p->act, p->x, p->cols, p->tokens);
    for (i = 0; i < n; i++) y[i] = NAN;
    quant_matmul(&m, y, p->rows, p->act, p->tokens, 0, p->rows);
    product_ranges(p, y, &m, 16);
    product_ranges(p, y, &file, 5);
    m.scale = 2;
    quant_matmul(&m, p->z, p->rows, p->act, 1, 0, p->rows);
    for (r = 0; r < p->rows; r++) CHECK(p->z[r] == 2 * y[(p->tokens - 1) * p->rows + r]);
}

/* All sets against the scalar twin, byte for byte, and that against sums in double. */
static void product_check(size_t k, size_t rows, size_t cols, size_t tokens, int kind,
                          double *total)
{
    product p;
    quant_type t = halves[k].type;
    size_t c, n = tokens * rows;
    REQUIRE(product_make(&p, k, rows, cols, tokens, kind));
    test_note("%s %dx%d, %d tokens", quant_type_name(t), (int)rows, (int)cols, (int)tokens);
    product_run(&p, p.y, QUANT_CPU_SCALAR);
    {
        double e = product_error(&p, p.y, total, kind != ENDS);
        test_note("%s %dx%d, %d tokens: %g", quant_type_name(t), (int)rows, (int)cols, (int)tokens,
                  e);
        CHECK(e <= (kind == ENDS ? 1e-6 : 2e-2));
    }
    for (c = 1; c < N_CPUS; c++) {
        float *y = (float *)malloc(n * sizeof(float));
        REQUIRE(y);
        if (have(cpus[c])) {
            product_run(&p, y, cpus[c]);
            test_note("%s %dx%d, %d tokens, %s", quant_type_name(t), (int)rows, (int)cols,
                      (int)tokens, quant_cpu_name(cpus[c]));
            CHECK(memcmp(y, p.y, n * sizeof(float)) == 0);
        }
        free(y);
    }
    product_free(&p);
}

/* Every decoder has an entry above and products; the packed bytes grow by at most 3 % where the
 * file has the codes themselves. */
static void packed_sizes(void)
{
    static const struct { quant_type type; double most; } larger[] = {
        { QUANT_IQ2_XXS, 106. / 66 }, { QUANT_IQ2_XS, 114. / 74 }, { QUANT_IQ2_S, 114. / 82 },
        { QUANT_IQ3_XXS, 138. / 98 }, { QUANT_IQ3_S, 138. / 110 }, { QUANT_IQ1_S, 106. / 50 },
        { QUANT_IQ1_M, 114. / 56 }, { QUANT_TQ1_0, 66. / 54 }
    };
    quant_type t;
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        quant_matrix m;
        uint8_t any = 0;
        size_t k, known = 0;
        double most = 1.03;
        for (k = 0; k < N_TYPES; k++) known += halves[k].type == t;
        for (k = 0; k < sizeof larger / sizeof *larger; k++)
            if (larger[k].type == t) most = larger[k].most + 1e-9;
        CHECK(known == !!(quant_type_get(t)->flags & QUANT_TF_DECODE));
        if (!known) {
            CHECK(quant_matrix_init(&m, t, &any, 1, 256, 0) == QUANT_E_TYPE);
            continue;
        }
        test_note("%s", quant_type_name(t));
        CHECK(quant_matrix_init(&m, t, &any, 64, 512, 0) == QUANT_OK);
        CHECK((double)quant_matrix_pack_size(&m) <= most * 64 * (double)quant_row_size(t, 512));
    }
}

/* Set for emulators: every type and number of tokens, but only once. */
static int is_brief(void)
{
    const char *s = getenv("QUANT_TEST_SHORT");
    return s && *s;
}

static int shape_chosen(size_t len, size_t rows, size_t c, size_t tokens, int brief)
{
    if (brief) return (c == 1 && rows == 17) || (c > 0 && rows % 31 == 17 && tokens == 13);
    return (c < 2 && (len < 256 || rows % 16 == 1)) || (c == 1 && tokens == 13)
        || (rows == 17 && tokens % 12 == 1);
}

/* The sets that must run; a name that is none of them fails too. */
static void required_isas(void)
{
    const char *s = getenv("QUANT_TEST_REQUIRE_ISA");
    size_t n, c;
    for (; s && *s; s += n + (s[n] == ',')) {
        int found = 0;
        n = strcspn(s, ",");
        for (c = 0; c < N_CPUS; c++) {
            const char *name = quant_cpu_name(cpus[c]);
            if (strlen(name) == n && memcmp(name, s, n) == 0) found = have(cpus[c]);
        }
        test_note("QUANT_TEST_REQUIRE_ISA: kernels of %.*s did not run", (int)n, s);
        CHECK(found);
    }
}

static void packed_products(void)
{
    const int brief = is_brief();
    static const size_t rows[] = { 1, 15, 16, 17, 48 }, tokens[] = { 1, 2, 3, 5, 8, 13, 37 };
    size_t k, r, c, n;
    for (c = 0; c < N_CPUS; c++) {
        if (have(cpus[c])) printf("matmul: %s kernels run\n", quant_cpu_name(cpus[c]));
        else printf("matmul: SKIPPED %s, %s\n", quant_cpu_name(cpus[c]),
                    cpus[c] & quant_cpu_compiled() ? "not on this machine" : "not in this build");
    }
    required_isas();
    REQUIRE(have(QUANT_CPU_SCALAR));
    for (k = 0; k < N_TYPES; k++) {
        const quant_type_info *info = quant_type_get(halves[k].type);
        size_t len = info->block_len, cols[3];
        double total[2] = { 0, 0 };
        cols[0] = len;
        cols[1] = 3 * len;
        cols[2] = 2048 + len;
        if (len == 1) cols[1] = 301;
        for (r = 0; r < 5; r++)
            for (c = 0; c < 3; c++)
                for (n = 0; n < 7; n++)
                    if (shape_chosen(len, rows[r], c, tokens[n], brief))
                        product_check(k, rows[r], cols[c], tokens[n], CODES, total);
        if (brief) continue;
        total[0] = total[1] = 0;                    /* the error that is promised                */
        product_check(k, 96, 4096, 49, GAUSS, total);
        test_note("%s: %g", info->name, sqrt(total[0] / total[1]));
        CHECK(sqrt(total[0] / total[1]) <= (len == 1 ? 1e-6 : len == 32 ? 5.5e-3 : 7e-3));
        CHECK(sqrt(total[0] / total[1]) > (len == 1 ? 1e-8 : 4e-3));
    }
}

/* Codes and activations at their ends: what could overflow or saturate would do so here. */
static void packed_extremes(void)
{
    double total[2] = { 0, 0 };
    size_t k;
    for (k = 0; k < N_TYPES; k++) {
        product_check(k, 17, 512, 5, ENDS, total);
        if (!is_brief()) product_check(k, 32, 2048, 13, ENDS, total);
    }
}

/* Activations that are not finite make their row NaN and leave the others alone; tiny and huge
 * ones neither overflow nor divide by zero. */
static void packed_activations(void)
{
    enum { TOKENS = 6, COLS = 64 };
    uint8_t q[2 * 34] = { 0 }, packed[16 * 2 * 34];
    float x[TOKENS * COLS], y[TOKENS];
    size_t c, i;
    for (i = 0; i < sizeof q; i++) q[i] = i % 34 == 0 ? 0 : i % 34 == 1 ? 0x3c : 1;
    for (i = 0; i < TOKENS * COLS; i++) x[i] = 1;
    x[COLS + 3] = NAN;
    x[2 * COLS + 40] = INFINITY;
    x[2 * COLS + 41] = -INFINITY;
    for (i = 0; i < COLS; i++) {
        x[3 * COLS + i] = 1e-42f;                   /* counts as 0                               */
        x[4 * COLS + i] = i % 2 ? 3e38f : -3e38f;
        x[5 * COLS + i] = 1e-29f;
    }
    for (c = 0; c < N_CPUS; c++) {
        quant_matrix m;
        void *act;
        if (!have(cpus[c])) continue;
        CHECK(quant_matrix_init(&m, QUANT_Q8_0, q, 1, COLS, cpus[c]) == QUANT_OK);
        CHECK(quant_matrix_pack(&m, &m, packed, sizeof packed) == QUANT_OK);
        act = malloc(quant_act_size(&m, TOKENS));
        REQUIRE(act);
        quant_act(&m, act, x, COLS, TOKENS);
        quant_matmul(&m, y, 1, act, TOKENS, 0, 1);
        CHECK(fabsf(y[0] - 64) < 1e-4f && isnan(y[1]) && isnan(y[2]) && y[3] == 0);
        CHECK(y[4] == 0 && fabsf(y[5] - 64e-29f) < 1e-34f);
        free(act);
    }
}

void suite_matmul(void);
void suite_matmul(void)
{
    RUN(matrix_refusals);
    RUN(cpu_sets);
    RUN(packed_sizes);
    RUN(packed_products);
    RUN(packed_extremes);
    RUN(packed_activations);
}
