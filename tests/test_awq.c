/* AWQ: losses against double, never worse than no scales, folding that changes nothing, splits,
 * instruction sets, NaN and zeros. */
#include "test.h"
#include <math.h>

enum { COLS = 256, ROWS = 70, TOKENS = 300 };

typedef struct layer {
    float  *w, *x, *h;              /* [ROWS x COLS], [TOKENS x COLS], both halves               */
    double  seen[COLS], weighed[COLS];
    void   *scratch;
    size_t  size;
    quant_awq a;
} layer;

static void layer_make(layer *l, uint64_t seed)
{
    size_t i;
    void *space = malloc(quant_linalg_scratch_size());
    memset(l, 0, sizeof *l);
    l->w = (float *)malloc(ROWS * COLS * 4);
    l->x = (float *)malloc(TOKENS * COLS * 4);
    l->h = (float *)calloc(COLS * COLS, 4);
    for (i = 0; i < ROWS * COLS; i++) l->w[i] = 0.05f * (float)test_normal(&seed);
    for (i = 0; i < TOKENS * COLS; i++)             /* a few columns with large activations      */
        l->x[i] = (float)test_normal(&seed) * (i % COLS % 37 == 5 ? 12.f : 0.6f);
    quant_hessian_add(l->h, COLS, l->x, COLS, TOKENS, COLS, 0, COLS, quant_cpu_detect(), space);
    quant_triangle_mirror(l->h, COLS, COLS);
    quant_awq_see(l->seen, l->x, COLS, TOKENS, COLS);
    quant_awq_weigh(l->weighed, l->w, COLS, ROWS, COLS, 64);
    l->a.cols = l->a.ldh = COLS;
    l->a.h = l->h;
    l->a.cpu = quant_cpu_detect();
    l->a.grid.bits = 3;
    l->a.grid.group = 64;
    l->size = quant_awq_scratch_size(&l->a);
    l->a.grid.bits = 0;
    l->a.grid.type = QUANT_Q6_K;
    if (quant_awq_scratch_size(&l->a) > l->size) l->size = quant_awq_scratch_size(&l->a);
    l->scratch = malloc(l->size);
    free(space);
}

static void layer_free(layer *l)
{
    free(l->w);
    free(l->x);
    free(l->h);
    free(l->scratch);
}

/* Grids to try: 0 and 1 are integers, asymmetric and symmetric; then types. */
static const quant_type types[] = { QUANT_Q4_0, QUANT_Q4_K, QUANT_Q3_K, QUANT_IQ4_NL, QUANT_MXFP4 };
enum { GRIDS = 2 + sizeof types / sizeof *types };

static void set_grid(layer *l, size_t g)
{
    memset(&l->a.grid, 0, sizeof l->a.grid);
    l->a.clip = g < 2 ? 10 : 5;
    l->a.grid.bits = g < 2 ? 3 : 0;
    l->a.grid.group = 64;
    l->a.grid.symmetric = g == 1;
    if (g >= 2) l->a.grid.type = types[g - 2];
}

/* |(V / s - W) X^T|^2 of row r in double, V what was stored of W diag(s). */
static double real_loss(const layer *l, const float *v, const float *s, size_t r)
{
    double sum = 0;
    size_t t, i;
    for (t = 0; t < TOKENS; t++) {
        double y = 0;
        for (i = 0; i < COLS; i++)
            y += ((double)v[r * COLS + i] / (s ? (double)s[i] : 1) - (double)l->w[r * COLS + i])
               * (double)l->x[t * COLS + i];
        sum += y * y;
    }
    return sum;
}

static void awq_losses_are_real(void)
{
    layer l;
    float s[COLS], *v = (float *)malloc(ROWS * COLS * 4), *back = (float *)malloc(ROWS * COLS * 4);
    double loss[ROWS];
    uint8_t *rows = (uint8_t *)malloc(ROWS * COLS * 4), codes[ROWS * COLS], zeros[ROWS * 4];
    uint16_t scales[ROWS * 4];
    size_t g, r, i;
    layer_make(&l, 1);
    quant_awq_scales(s, 10, 0, l.seen, NULL, COLS);
    for (g = 0; g < GRIDS; g++) {
        quant_gptq_out out;
        memset(&out, 0, sizeof out);
        set_grid(&l, g);
        out.values = v;
        out.loss = loss;
        out.rows = rows;
        if (g < 2) { out.codes = codes; out.scales = scales; out.zeros = zeros; }
        test_note("grid %zu", g);
        REQUIRE(!quant_awq_rows(&out, &l.a, l.w, COLS, 0, ROWS, s, l.scratch, l.size, NULL));
        for (r = 0; r < ROWS; r += 23) {
            double real = real_loss(&l, v, s, r);
            CHECK(fabs(loss[r] - real) < 1e-4 * real);
        }
        if (g >= 2) {
            CHECK(quant_to_f32(types[g - 2], back, rows, ROWS, COLS) == QUANT_OK);
            CHECK(memcmp(back, v, ROWS * COLS * 4) == 0);
            continue;
        }
        for (i = 0; i < ROWS * COLS; i++) {
            uint32_t half = scales[i / 64];
            float scale;
            uint8_t b[2];
            b[0] = (uint8_t)half;
            b[1] = (uint8_t)(half >> 8);
            quant_to_f32(QUANT_F16, &scale, b, 1, 1);
            CHECK(codes[i] < 8 && zeros[i / 64] < 8 && (g == 0 || zeros[i / 64] == 4));
            CHECK(v[i] == scale * (float)((int)codes[i] - zeros[i / 64]));
        }
    }
    free(v); free(back); free(rows);
    layer_free(&l);
}

/* The best of all candidates: no worse than s = 1 on the real objective, and with activations like
 * these better; the same when tried by hand. */
static void awq_search_is_never_worse(void)
{
    layer l;
    float s[COLS];
    size_t g;
    layer_make(&l, 2);
    for (g = 0; g < GRIDS; g++) {
        quant_awq_matrix m[2];
        double loss, plain, row[ROWS], sum = 0;
        size_t best, i;
        quant_gptq_out out;
        set_grid(&l, g);
        l.a.clip = 0;
        m[0].w = l.w; m[0].rows = 40; m[0].ldw = COLS;
        m[1].w = l.w + 40 * COLS; m[1].rows = 30; m[1].ldw = COLS;
        test_note("grid %zu", g);
        REQUIRE(!quant_awq_search(s, &best, &loss, &plain, &l.a, m, 2, l.seen, l.weighed, 5,
                                  l.scratch, l.size, NULL));
        CHECK(loss <= plain && (loss < plain) == (best > 0) && best < quant_awq_candidates(5));
        CHECK(best > 0 || types[g - 2] == QUANT_MXFP4);     /* powers of two gain least          */
        memset(&out, 0, sizeof out);
        out.loss = row;
        CHECK(!quant_awq_rows(&out, &l.a, l.w, COLS, 0, ROWS, s, l.scratch, l.size, NULL));
        for (i = 0; i < ROWS; i++) sum += row[i];
        CHECK(fabs(sum - loss) < 1e-9 * loss);
    }
    CHECK(quant_awq_candidates(0) == 42);
    layer_free(&l);
}

/* Clipping the blocks of types, with inputs that go together (a search of scales by the diagonal
 * knows nothing of that): no row gets worse, all rows together better. */
static void awq_clipping_helps_types(void)
{
    layer l;
    float s[COLS];
    size_t g, r;
    layer_make(&l, 6);
    quant_awq_scales(s, 10, 0, l.seen, NULL, COLS);
    for (r = 0; r < COLS * COLS; r++) l.h[r] += 0.5f * TOKENS;
    for (g = 2; g < GRIDS; g++) {
        double plain[ROWS], clipped[ROWS], sum[2] = { 0, 0 };
        quant_gptq_out out;
        memset(&out, 0, sizeof out);
        set_grid(&l, g);
        out.loss = clipped;
        REQUIRE(!quant_awq_rows(&out, &l.a, l.w, COLS, 0, ROWS, s, l.scratch, l.size, NULL));
        l.a.clip = 0;
        out.loss = plain;
        REQUIRE(!quant_awq_rows(&out, &l.a, l.w, COLS, 0, ROWS, s, l.scratch, l.size, NULL));
        for (r = 0; r < ROWS; r++) {
            CHECK(clipped[r] <= plain[r] * (1 + 1e-5));
            sum[0] += clipped[r];
            sum[1] += plain[r];
        }
        test_note("%s: %g, plain %g", quant_type_name(l.a.grid.type), sum[0], sum[1]);
        CHECK(sum[0] < 0.99 * sum[1]);
    }
    layer_free(&l);
}

/* Rows in any split and on any instruction set. */
static void awq_splits_do_not_matter(void)
{
    layer l;
    float s[COLS], *v = (float *)malloc(ROWS * COLS * 4), *u = (float *)malloc(ROWS * COLS * 4);
    double a[ROWS], b[ROWS];
    size_t g;
    layer_make(&l, 3);
    quant_awq_scales(s, 27, 0, l.seen, l.weighed, COLS);
    for (g = 0; g < GRIDS; g++) {
        quant_gptq_out out;
        memset(&out, 0, sizeof out);
        set_grid(&l, g);
        out.values = v;
        out.loss = a;
        l.a.cpu = quant_cpu_detect();
        CHECK(!quant_awq_rows(&out, &l.a, l.w, COLS, 0, ROWS, s, l.scratch, l.size, NULL));
        out.values = u;
        out.loss = b;
        l.a.cpu = g % 2 ? QUANT_CPU_SCALAR : QUANT_CPU_AVX2;
        CHECK(!quant_awq_rows(&out, &l.a, l.w, COLS, 65, ROWS, s, l.scratch, l.size, NULL));
        CHECK(!quant_awq_rows(&out, &l.a, l.w, COLS, 0, 1, s, l.scratch, l.size, NULL));
        CHECK(!quant_awq_rows(&out, &l.a, l.w, COLS, 1, 65, s, l.scratch, l.size, NULL));
        CHECK(memcmp(v, u, ROWS * COLS * 4) == 0 && memcmp(a, b, sizeof a) == 0);
    }
    free(v); free(u);
    layer_free(&l);
}

/* Dead, NaN and infinite columns have scale 1, and a group of zeros stays zeros. */
static void awq_odd_values(void)
{
    layer l;
    float s[COLS], v[COLS];
    quant_gptq_out out;
    quant_error err;
    size_t k, i;
    layer_make(&l, 4);
    l.seen[3] = 0;
    l.seen[4] = NAN;
    l.seen[5] = INFINITY;
    l.weighed[6] = 0;
    l.weighed[7] = NAN;
    for (k = 0; k < quant_awq_candidates(4); k++) {
        float low = 1e30f, high = 0, alpha = quant_awq_scales(s, k, 4, l.seen, l.weighed, COLS);
        CHECK(alpha >= 0 && alpha <= 1 && s[3] == 1 && s[4] == 1 && s[5] == 1);
        for (i = 0; i < COLS; i++) {
            CHECK(s[i] > 0 && s[i] < 1e6f);
            low = fminf(low, s[i]);
            high = fmaxf(high, s[i]);
            if (k == 0) CHECK(s[i] == 1);
        }
        CHECK(fabsf(low * high - 1) < 1e-5f);
    }
    quant_awq_scales(s, 2, 4, l.seen, NULL, COLS);      /* alpha 1/2: square roots               */
    CHECK(fabs(s[20] / s[21] / sqrt(l.seen[20] / l.seen[21]) - 1) < 1e-6);
    memset(&out, 0, sizeof out);
    out.values = v;
    for (k = 0; k < 2; k++) {
        set_grid(&l, k);
        memset(l.w, 0, 64 * 4);
        CHECK(!quant_awq_rows(&out, &l.a, l.w, COLS, 0, 1, NULL, l.scratch, l.size, &err));
        for (i = 0; i < 64; i++) CHECK(v[i] == 0);
        CHECK(v[64] != 0 || v[65] != 0);
    }
    l.w[COLS + 9] = NAN;
    out.values = NULL;
    CHECK(quant_awq_rows(&out, &l.a, l.w, COLS, 0, 2, NULL, l.scratch, l.size, &err)
          == QUANT_E_NUMERIC);
    CHECK(err.where == COLS + 9);
    CHECK(quant_awq_rows(&out, &l.a, l.w, COLS, 0, 1, NULL, l.scratch, l.size - 1, &err)
          == QUANT_OK || err.code == QUANT_E_MEMORY);
    CHECK(quant_awq_rows(&out, &l.a, l.w, COLS, 0, 1, NULL, l.scratch, 1, &err) == QUANT_E_MEMORY);
    l.h[7 * COLS + 7] = INFINITY;
    CHECK(quant_awq_rows(&out, &l.a, l.w, COLS, 0, 1, NULL, l.scratch, l.size, &err)
          == QUANT_E_NUMERIC);
    CHECK(err.where == 7);
    l.a.grid.group = 48;
    CHECK(quant_awq_scratch_size(&l.a) == 0);
    CHECK(quant_awq_rows(&out, &l.a, l.w, COLS, 0, 1, NULL, l.scratch, l.size, &err)
          == QUANT_E_TYPE);
    layer_free(&l);
}

/* y = norm(x) v o with folded scales computes what it did: norm (plain and Gemma's) into v, v into
 * o with three query heads to a key head. */
static void awq_folding_changes_nothing(void)
{
    enum { E = 8, D = 4, HEADS = 6, KV = 2 };
    uint64_t seed = 9;
    float norm[E], v[KV * D * E], bias[KV * D], o[HEADS * D], s[E], so[HEADS * D], sv[KV * D];
    double sum[HEADS * D], y[2];
    size_t i, j, k, plus;
    for (plus = 0; plus < 2; plus++) {
        for (i = 0; i < E; i++) norm[i] = (float)test_uniform(&seed) + 0.5f;
        for (i = 0; i < KV * D * E; i++) v[i] = (float)test_normal(&seed);
        for (i = 0; i < KV * D; i++) bias[i] = (float)test_normal(&seed);
        for (i = 0; i < HEADS * D; i++) o[i] = (float)test_normal(&seed);
        for (i = 0; i < E; i++) s[i] = (float)(test_uniform(&seed) * 3 + 0.1);
        for (i = 0; i < HEADS * D; i++) sum[i] = test_uniform(&seed);
        quant_awq_share(sum, HEADS, KV, D);
        quant_awq_scales(so, 3, 4, sum, NULL, HEADS * D);
        quant_awq_unshare(sv, so, HEADS, KV, D);
        for (i = 0; i < HEADS * D; i++) CHECK(so[i] == sv[i / D / 3 * D + i % D]);
        for (k = 0; k < 2; k++) {
            y[k] = 0;
            for (i = 0; i < HEADS * D; i++) {
                size_t row = i / D / 3 * D + i % D;
                double mid = bias[row];
                for (j = 0; j < E; j++)
                    mid += (double)v[row * E + j] * ((double)norm[j] + (double)plus)
                         * (double)(j + 1);
                y[k] += mid * (double)o[i];
            }
            if (k) break;
            quant_awq_fold_norm(norm, NULL, E, (float)plus, s);
            quant_awq_fold_columns(v, E, KV * D, E, s);
            quant_awq_fold_rows(v, E, KV * D, E, bias, sv);
            quant_awq_fold_columns(o, HEADS * D, 1, HEADS * D, so);
        }
        CHECK(fabs(y[0] - y[1]) < 1e-4 * (1 + fabs(y[0])));
    }
}

void suite_awq(void)
{
    RUN(awq_losses_are_real);
    RUN(awq_search_is_never_worse);
    RUN(awq_clipping_helps_types);
    RUN(awq_splits_do_not_matter);
    RUN(awq_odd_values);
    RUN(awq_folding_changes_nothing);
}
