/* Matrix products. */
#include "test.h"
#include <math.h>

/* Column i of x rounded to 8 bits: steps of amax / 127 per 32 columns, or of -extreme / 127 per 256
 * columns. */
static double round_activation(const quant_matrix *m, const float *x, size_t i)
{
    size_t n = m->act == QUANT_ACT_32 ? 32 : 256, j;
    float extreme = 0, iscale, d;
    if (m->act == QUANT_ACT_F32) return (double)x[i];
    for (j = i / n * n; j < i / n * n + n; j++)
        if (fabsf(x[j]) > fabsf(extreme)) extreme = x[j];
    if (extreme == 0) return 0;
    iscale = m->act == QUANT_ACT_32 ? 127 / fabsf(extreme) : -127 / extreme;
    d = m->act == QUANT_ACT_32 ? fabsf(extreme) / 127 : 1 / iscale;
    return (double)d * (double)rintf(iscale * x[i]);
}

/* Every type and awkward shapes against sums in double; any row range, any number of tokens. */
static void products_of_all_types(void)
{
    enum { ROWS = 7, TOKENS = 37 };
    quant_type t;
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        const quant_type_info *info = quant_type_get(t);
        size_t cols = info->block_len == 1 ? 301 : info->block_len == 256 ? 768
                    : 5u * info->block_len, size = quant_row_size(t, cols) * ROWS, i, r, k;
        uint64_t seed = 3 + t;
        uint8_t *q;
        float *w, *x, *y, *z;
        void *act;
        quant_matrix m;
        double err = 0, err8 = 0, ref = 0;
        if (!(info->flags & QUANT_TF_DECODE)) {
            CHECK(quant_matrix_init(&m, t, &seed, 1, 256, 0) == QUANT_E_TYPE);
            continue;
        }
        q = (uint8_t *)malloc(size);
        w = (float *)malloc(ROWS * cols * 4);
        x = (float *)malloc(TOKENS * cols * 4);
        y = (float *)malloc(TOKENS * ROWS * 4);
        z = (float *)malloc(TOKENS * ROWS * 4);
        REQUIRE(q && w && x && y && z);
        do {                                    /* random blocks with finite values              */
            for (i = 0; i < size; i++) q[i] = (uint8_t)test_random(&seed);
            if (t == QUANT_MXFP4) for (i = 0; i < size; i += 17) q[i] = 120 + q[i] % 8;
            for (i = 0; i + 1 < size && info->block_len == 1; i += info->block_size)
                q[i + info->block_size - 1u] = 0x3c;
            if (info->block_len > 1 && t != QUANT_MXFP4) {
                float *v = w;
                for (i = 0; i < ROWS * cols; i++) v[i] = (float)test_normal(&seed);
                if (info->flags & QUANT_TF_ENCODE) {
                    quant_encoder e;
                    CHECK(quant_encoder_init(&e, t, 0, NULL, 0) == QUANT_OK);
                    CHECK(quant_from_f32(&e, q, v, ROWS, cols, NULL, NULL) == QUANT_OK);
                } else {
                    for (i = 0; i < size; i += info->block_size) {
                        uint8_t *d = q + i + (t == QUANT_IQ1_M ? 54 : 0);
                        d[1] = t == QUANT_IQ1_M ? (d[1] & 15) | 0x30 : 0x2c;
                    }
                }
            }
        } while (quant_check_rows(t, q, ROWS, cols, NULL) != QUANT_OK);
        CHECK(quant_to_f32(t, w, q, ROWS, cols) == QUANT_OK);
        for (i = 0; i < TOKENS * cols; i++) x[i] = (float)test_normal(&seed);
        CHECK(quant_matrix_init(&m, t, q, ROWS, cols, quant_cpu_detect()) == QUANT_OK);
        act = malloc(quant_act_size(&m, TOKENS));
        REQUIRE(act);
        quant_act(&m, act, x, cols, TOKENS);
        for (i = 0; i < TOKENS * ROWS; i++) y[i] = z[i] = NAN;
        quant_matmul(&m, y, ROWS, act, TOKENS, 0, ROWS);
        for (k = 0; k < TOKENS; k++)
            for (r = 0; r < ROWS; r++) {
                double sum = 0, rounded = 0, got = (double)y[k * ROWS + r];
                for (i = 0; i < cols; i++) {
                    sum += (double)w[r * cols + i] * (double)x[k * cols + i];
                    rounded += (double)w[r * cols + i] * round_activation(&m, x + k * cols, i);
                }
                err += (sum - got) * (sum - got);
                err8 += (rounded - got) * (rounded - got);
                ref += sum * sum;
            }
        test_note("%s: %g, to the rounded activations %g", info->name, sqrt(err / ref),
                  sqrt(err8 / ref));
        CHECK(sqrt(err / ref) < (m.act == QUANT_ACT_F32 ? 1e-5
                                 : m.act == QUANT_ACT_32 ? 8e-3 : 1.2e-2));
        CHECK(sqrt(err8 / ref) < 2e-5);
        quant_matmul(&m, z, ROWS, act, TOKENS, 3, ROWS);        /* in two ranges                 */
        quant_matmul(&m, z, ROWS, act, TOKENS, 0, 3);
        CHECK(memcmp(y, z, TOKENS * ROWS * 4) == 0);
        for (k = 0; k < TOKENS; k++) {                          /* one token at a time           */
            quant_act(&m, act, x + k * cols, cols, 1);
            quant_matmul(&m, z + k * ROWS, ROWS, act, 1, 0, ROWS);
        }
        CHECK(memcmp(y, z, TOKENS * ROWS * 4) == 0);
        free(q);
        free(w);
        free(x);
        free(y);
        free(z);
        free(act);
    }
}

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
    CHECK(quant_matrix_pack_size(&m) == 0 && quant_matrix_row_step(&m) == 1);
    CHECK(quant_matrix_pack(&m, &m, NULL, 0) == QUANT_E_ARG);
}

static const quant_type packed_types[] = {
    QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0, QUANT_IQ4_NL, QUANT_MXFP4
};
enum { N_PACKED = sizeof packed_types / sizeof *packed_types };

/* Every set of kernels that this build has; what the machine lacks is said aloud. */
static const quant_cpu cpus[] = { QUANT_CPU_SCALAR, QUANT_CPU_AVX2, QUANT_CPU_AVX512VNNI };
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
    CHECK(strcmp(quant_cpu_name(QUANT_CPU_AVX2 | QUANT_CPU_AVX512VNNI), "avx512vnni") == 0);
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

/* Gaussian weights and activations; with `ends`, random codes and activations at +-amax. */
static int product_make(product *p, quant_type t, size_t rows, size_t cols, size_t tokens, int ends)
{
    const quant_type_info *info = quant_type_get(t);
    size_t n = rows * cols, i, size = rows * quant_row_size(t, cols);
    uint64_t seed = 1 + t + 100 * rows + 10000 * cols;
    quant_encoder e;
    p->rows = rows;
    p->cols = cols;
    p->tokens = tokens;
    p->type = t;
    p->q = (uint8_t *)malloc(size + 1);
    p->packed = (uint8_t *)malloc(size + 15 * quant_row_size(t, cols));
    p->w = (float *)malloc(n * sizeof(float));
    p->x = (float *)malloc(tokens * cols * sizeof(float));
    p->y = (float *)malloc(tokens * rows * sizeof(float));
    p->z = (float *)malloc(tokens * rows * sizeof(float));
    p->act = malloc(tokens * cols * 4);
    if (!p->q || !p->packed || !p->w || !p->x || !p->y || !p->z || !p->act) return 0;
    for (i = 0; i < n; i++) p->w[i] = (float)(0.02 * test_normal(&seed));
    for (i = 0; i < tokens * cols; i++) p->x[i] = (float)test_normal(&seed);
    if (quant_encoder_init(&e, t, 0, NULL, 0)
        || quant_from_f32(&e, p->q + 1, p->w, rows, cols, NULL, NULL)) return 0;
    if (ends) {                 /* bytes 00, ff, 7f, 80; scales of 1 and 2; x = +-3              */
        static const uint8_t end[4] = { 0x00, 0xff, 0x7f, 0x80 };
        for (i = 0; i < size; i++) {
            size_t at = i % info->block_size, b = i / info->block_size;
            p->q[1 + i] = end[b % 5 < 4 ? b % 5 : test_random(&seed) % 4];
            if (t == QUANT_MXFP4) {                 /* scales 2^-128, 2^-127, then 1 and 2       */
                if (at == 0) p->q[1 + i] = (uint8_t)(b % 7 < 2 ? b % 7 : 128 + b % 2);
            } else if (at < 2 || (at < 4 && (t == QUANT_Q4_1 || t == QUANT_Q5_1))) {
                p->q[1 + i] = at % 2 ? (b % 2 ? 0x3c : 0x40) : 0;
            }
        }
        for (i = 0; i < tokens * cols; i++)
            p->x[i] = (i / cols % 3 == 0 || (i / cols % 3 == 1 && i % 2)
                       || (i / cols % 3 == 2 && (test_random(&seed) & 1))) ? 3.f : -3.f;
    }
    return quant_to_f32(t, p->w, p->q + 1, rows, cols) == QUANT_OK;
}

/* Adds squares of the error and of the sums to total[2]; the relative error of this one. */
static double product_error(const product *p, const float *y, double *total)
{
    double err = 0, ref = 0;
    size_t k, r, i;
    for (k = 0; k < p->tokens; k++)
        for (r = 0; r < p->rows; r++) {
            double sum = 0;
            for (i = 0; i < p->cols; i++)
                sum += (double)p->w[r * p->cols + i] * (double)p->x[k * p->cols + i];
            err += (sum - (double)y[k * p->rows + r]) * (sum - (double)y[k * p->rows + r]);
            ref += sum * sum;
        }
    total[0] += err;
    total[1] += ref;
    return sqrt(err / ref);
}

/* Y with the kernels of a set; the same bytes for row ranges and for one token at a time. */
static void product_run(product *p, float *y, quant_cpu cpu)
{
    quant_matrix m;
    size_t size, i, r, n = p->tokens * p->rows;
    CHECK(quant_matrix_init(&m, p->type, p->q + 1, p->rows, p->cols, cpu) == QUANT_OK);
    size = quant_matrix_pack_size(&m);
    CHECK(size == (p->rows + 15) / 16 * 16 * quant_row_size(p->type, p->cols));
    CHECK(quant_matrix_pack(&m, &m, p->packed, size - 1) == QUANT_E_MEMORY);
    CHECK(quant_matrix_pack(&m, &m, p->packed, size) == QUANT_OK);
    CHECK(quant_matrix_pack_size(&m) == 0 && quant_matrix_row_step(&m) == 16);
    CHECK(quant_act_size(&m, p->tokens) <= p->tokens * p->cols * 4);
    quant_act(&m, p->act, p->x, p->cols, p->tokens);
    for (i = 0; i < n; i++) y[i] = NAN;
    quant_matmul(&m, y, p->rows, p->act, p->tokens, 0, p->rows);
    for (i = 0; i < n; i++) p->z[i] = NAN;
    for (r = 0; r < p->rows; r += 16)                           /* tile by tile                  */
        quant_matmul(&m, p->z, p->rows, p->act, p->tokens, r, r + 16 < p->rows ? r + 16 : p->rows);
    CHECK(memcmp(y, p->z, n * 4) == 0);
    for (i = 0; i < p->tokens; i++) {                           /* token by token                */
        quant_act(&m, p->act, p->x + i * p->cols, p->cols, 1);
        quant_matmul(&m, p->z + i * p->rows, p->rows, p->act, 1, 0, p->rows);
    }
    CHECK(memcmp(y, p->z, n * 4) == 0);
    m.scale = 2;
    quant_matmul(&m, p->z, p->rows, p->act, 1, 0, p->rows);
    for (r = 0; r < p->rows; r++) CHECK(p->z[r] == 2 * y[(p->tokens - 1) * p->rows + r]);
}

/* All sets against the scalar twin, byte for byte, and that against sums in double. */
static void product_check(quant_type t, size_t rows, size_t cols, size_t tokens, int ends,
                          double *total)
{
    product p;
    size_t c, n = tokens * rows;
    REQUIRE(product_make(&p, t, rows, cols, tokens, ends));
    test_note("%s %dx%d, %d tokens", quant_type_name(t), (int)rows, (int)cols, (int)tokens);
    product_run(&p, p.y, QUANT_CPU_SCALAR);
    {
        double e = product_error(&p, p.y, total);
        test_note("%s %dx%d, %d tokens: %g", quant_type_name(t), (int)rows, (int)cols, (int)tokens,
                  e);
        CHECK(e <= (ends ? 1e-6 : 0.1));        /* few sums may all be near 0: see the total     */
    }
    for (c = 1; c < N_CPUS; c++) {
        float *y = (float *)malloc(n * sizeof(float));
        REQUIRE(y);
        if (have(cpus[c])) {
            product_run(&p, y, cpus[c]);
            CHECK(memcmp(y, p.y, n * sizeof(float)) == 0);
        }
        free(y);
    }
    product_free(&p);
}

static void packed_products(void)
{
    static const size_t rows[] = { 1, 15, 16, 17, 48 }, cols[] = { 32, 96, 4096 + 32 };
    static const size_t tokens[] = { 1, 2, 3, 5, 8, 13, 37 };
    size_t t, r, c, k;
    for (c = 0; c < N_CPUS; c++) {
        if (have(cpus[c])) printf("matmul: %s kernels run\n", quant_cpu_name(cpus[c]));
        else printf("matmul: SKIPPED %s, %s\n", quant_cpu_name(cpus[c]),
                    cpus[c] & quant_cpu_compiled() ? "not on this machine" : "not in this build");
    }
    REQUIRE(have(QUANT_CPU_SCALAR));
    for (t = 0; t < N_PACKED; t++) {
        double total[2] = { 0, 0 };
        for (r = 0; r < 5; r++)
            for (c = 0; c < 3; c++)
                for (k = 0; k < 7; k++)
                    if (c < 2 || tokens[k] % 12 == 1 || rows[r] == 17)
                        product_check(packed_types[t], rows[r], cols[c], tokens[k], 0, total);
        test_note("%s: %g", quant_type_name(packed_types[t]), sqrt(total[0] / total[1]));
        CHECK(sqrt(total[0] / total[1]) <= 5.5e-3);
        CHECK(sqrt(total[0] / total[1]) > 1e-3);    /* else it is not the packed path            */
    }
}

/* Codes and activations at their ends: what could overflow or saturate would do so here. */
static void packed_extremes(void)
{
    double total[2] = { 0, 0 };
    size_t t;
    for (t = 0; t < N_PACKED; t++) {
        product_check(packed_types[t], 17, 32, 5, 1, total);
        product_check(packed_types[t], 48, 4096, 37, 1, total);
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
    RUN(products_of_all_types);
    RUN(matrix_refusals);
    RUN(cpu_sets);
    RUN(packed_products);
    RUN(packed_extremes);
    RUN(packed_activations);
}
