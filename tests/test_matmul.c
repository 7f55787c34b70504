/* Matrix products. */
#include "test.h"
#include <math.h>

/* Column i of x as ggml rounds it: per 32 columns amax / 127 stored as a half, or per 256 columns
 * -extreme / 127. */
static double round_activation(const quant_matrix *m, const float *x, size_t i)
{
    size_t n = m->act == QUANT_ACT_Q8_0 ? 32 : 256, j;
    float extreme = 0, iscale, d;
    if (m->act == QUANT_ACT_F32) return (double)x[i];
    for (j = i / n * n; j < i / n * n + n; j++)
        if (fabsf(x[j]) > fabsf(extreme)) extreme = x[j];
    if (extreme == 0) return 0;
    iscale = m->act == QUANT_ACT_Q8_0 ? 127 / fabsf(extreme) : -127 / extreme;
    d = 1 / iscale;
    if (m->act == QUANT_ACT_Q8_0) {
        uint8_t h[2];
        quant_encoder e;
        d = fabsf(extreme) / 127;
        CHECK(quant_encoder_init(&e, QUANT_F16, 0, NULL, 0) == QUANT_OK);
        CHECK(quant_from_f32(&e, h, &d, 1, 1, NULL, NULL) == QUANT_OK);
        CHECK(quant_to_f32(QUANT_F16, &d, h, 1, 1) == QUANT_OK);
    }
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
                                 : m.act == QUANT_ACT_Q8_0 ? 8e-3 : 1.2e-2));
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

void suite_matmul(void);
void suite_matmul(void)
{
    RUN(products_of_all_types);
    RUN(matrix_refusals);
}
