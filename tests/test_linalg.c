/* Hessians, factors and inverses: against double, every instruction set against the scalar twin,
 * any split, and matrices that cannot be factored. */
#include "test.h"
#include <math.h>

static float *normals(size_t n, uint64_t seed)
{
    float *x = (float *)malloc(n * sizeof *x);
    size_t i;
    for (i = 0; i < n; i++) x[i] = (float)test_normal(&seed);
    return x;
}

static float *copy(const float *x, size_t n)
{
    float *y = (float *)malloc(n * sizeof *y);
    memcpy(y, x, n * sizeof *y);
    return y;
}

/* The sets to try: scalar, then every one that the machine has. */
static size_t cpus(quant_cpu *set)
{
    quant_cpu have = quant_cpu_detect();
    size_t n = 0;
    set[n++] = QUANT_CPU_SCALAR;
    if (have & QUANT_CPU_AVX2) set[n++] = QUANT_CPU_AVX2;
    if (have & QUANT_CPU_AVX512VNNI) set[n++] = have;
    return n;
}

static void *scratch(void) { return malloc(quant_linalg_scratch_size()); }

/* Largest |h - sum x x| over sqrt(h_ii h_jj), lower triangle. */
static double hessian_error(const float *h, size_t ldh, const float *x, size_t ldx, size_t tokens,
                            size_t cols, double start)
{
    double worst = 0;
    size_t i, j, t;
    for (i = 0; i < cols; i++)
        for (j = 0; j <= i; j++) {
            double s = start, a = 0, b = 0, e;
            for (t = 0; t < tokens; t++) {
                s += (double)x[t * ldx + i] * x[t * ldx + j];
                a += (double)x[t * ldx + i] * x[t * ldx + i];
                b += (double)x[t * ldx + j] * x[t * ldx + j];
            }
            e = fabs(h[i * ldh + j] - s) / (sqrt(a * b) + fabs(start));
            if (!(e <= worst)) worst = e;
        }
    return worst;
}

static void hessian_is_right(void)
{
    static const size_t shapes[][2] = { { 1, 1 }, { 3, 7 }, { 130, 8 }, { 5, 48 }, { 128, 49 },
                                        { 129, 100 }, { 400, 60 }, { 7, 300 } };
    quant_cpu set[4];
    size_t n_cpus = cpus(set), s, c, i, j;
    void *space = scratch();
    for (s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t tokens = shapes[s][0], cols = shapes[s][1], ldx = cols + 3, ldh = cols + 5;
        float *x = normals(tokens * ldx, s + 1), *first = NULL;
        for (c = 0; c < n_cpus; c++) {
            float *h = (float *)malloc(cols * ldh * sizeof *h);
            for (i = 0; i < cols * ldh; i++) h[i] = 0.5f;
            quant_hessian_add(h, ldh, x, ldx, tokens, cols, 0, cols, set[c], space);
            test_note("%zu x %zu, %s", tokens, cols, quant_cpu_name(set[c]));
            CHECK(hessian_error(h, ldh, x, ldx, tokens, cols, 0.5) < 1e-6);
            for (i = 0; i < cols; i++)
                for (j = i + 1; j < ldh; j++) CHECK(h[i * ldh + j] == 0.5f);
            if (first) CHECK(memcmp(first, h, cols * ldh * sizeof *h) == 0);
            if (first) free(h);
            else first = h;
        }
        free(first);
        free(x);
    }
    free(space);
}

/* Row ranges, also of width 1, and any order of them, give the bytes of one call. */
static void hessian_splits_do_not_matter(void)
{
    enum { COLS = 300, TOKENS = 150 };
    static const size_t cuts[] = { 0, 1, 8, 77, 128, 296, 300 };
    quant_cpu cpu = quant_cpu_detect();
    float *x = normals(COLS * TOKENS, 7), *y = normals(COLS * TOKENS, 8);
    float *a = (float *)calloc(COLS * COLS, 4), *b = (float *)calloc(COLS * COLS, 4);
    void *space = scratch();
    size_t i, part;
    quant_hessian_add(a, COLS, x, COLS, TOKENS, COLS, 0, COLS, cpu, space);
    for (i = sizeof cuts / sizeof *cuts - 1; i; i--)
        quant_hessian_add(b, COLS, x, COLS, TOKENS, COLS, cuts[i - 1], cuts[i], cpu, space);
    CHECK(memcmp(a, b, COLS * COLS * 4) == 0);
    memset(a, 0, COLS * COLS * 4);
    memset(b, 0, COLS * COLS * 4);
    quant_cross_add(a, COLS, x, COLS, y, COLS, TOKENS, COLS, 0, COLS, cpu, space);
    for (i = sizeof cuts / sizeof *cuts - 1; i; i--)
        quant_cross_add(b, COLS, x, COLS, y, COLS, TOKENS, COLS, cuts[i - 1], cuts[i], cpu, space);
    CHECK(memcmp(a, b, COLS * COLS * 4) == 0);
    CHECK(a[1] != a[COLS]);
    for (part = 0; part < 3; part++) {
        size_t r0 = quant_triangle_split(4096, part, 3);
        size_t r1 = quant_triangle_split(4096, part + 1, 3);
        double area = ((double)r1 * (double)r1 - (double)r0 * (double)r0) / (4096. * 4096);
        CHECK(area > 0.32 && area < 0.345);
    }
    CHECK(quant_triangle_split(10, 3, 3) == 10 && quant_triangle_split(10, 0, 3) == 0);
    free(x); free(y); free(a); free(b); free(space);
}

/* c += X^T Y against double, every instruction set. */
static void cross_is_right(void)
{
    enum { COLS = 101, TOKENS = 140 };
    quant_cpu set[4];
    size_t n_cpus = cpus(set), c, i, j, t;
    float *x = normals(COLS * TOKENS, 17), *y = normals(COLS * TOKENS, 18), *first = NULL;
    void *space = scratch();
    for (c = 0; c < n_cpus; c++) {
        float *h = (float *)calloc(COLS * COLS, 4);
        double worst = 0;
        quant_cross_add(h, COLS, x, COLS, y, COLS, TOKENS, COLS, 0, COLS, set[c], space);
        for (i = 0; i < COLS; i++)
            for (j = 0; j < COLS; j++) {
                double s = 0;
                for (t = 0; t < TOKENS; t++) s += (double)x[t * COLS + i] * y[t * COLS + j];
                if (fabs(h[i * COLS + j] - s) > worst) worst = fabs(h[i * COLS + j] - s);
            }
        CHECK(worst < 2e-5);
        if (first) CHECK(memcmp(first, h, COLS * COLS * 4) == 0);
        if (first) free(h);
        else first = h;
    }
    free(first); free(x); free(y); free(space);
}

static void partial_sums_merge(void)
{
    enum { COLS = 50, TOKENS = 256, PACKED = COLS * (COLS + 1) / 2 };
    quant_cpu cpu = quant_cpu_detect();
    float *x = normals(COLS * TOKENS, 27), packed[PACKED], *space = (float *)scratch();
    float *a = (float *)calloc(COLS * COLS, 4), *b = (float *)calloc(COLS * COLS, 4);
    float *c = (float *)calloc(COLS * COLS, 4);
    quant_hessian_add(a, COLS, x, COLS, TOKENS, COLS, 0, COLS, cpu, space);
    quant_hessian_add(b, COLS, x, COLS, 128, COLS, 0, COLS, cpu, space);
    quant_hessian_add(c, COLS, x + 128 * COLS, COLS, 128, COLS, 0, COLS, cpu, space);
    quant_triangle_pack(packed, c, COLS, COLS);
    CHECK(packed[0] == c[0] && packed[2] == c[COLS + 1] && packed[PACKED - 1] == c[50 * COLS - 1]);
    quant_triangle_add(b, COLS, packed, COLS);
    CHECK(memcmp(a, b, COLS * COLS * 4) == 0);
    free(x); free(a); free(b); free(c); free(space);
}

/* X^T X of `rank` tokens over n columns, plus `damp` times its mean diagonal. */
static float *gram(size_t n, size_t rank, float damp, uint64_t seed)
{
    float *x = normals(rank * n, seed), *h = (float *)calloc(n * n, 4);
    void *space = scratch();
    double mean = 0;
    size_t i;
    for (i = 0; i < rank * n; i++) x[i] *= (float)(1 + (i % n) % 5);
    quant_hessian_add(h, n, x, n, rank, n, 0, n, quant_cpu_detect(), space);
    for (i = 0; i < n; i++) mean += h[i * n + i] / (double)n;
    for (i = 0; i < n; i++) h[i * n + i] += (float)(damp * mean);
    free(x);
    free(space);
    return h;
}

/* Largest |A - L L^T| over sqrt(a_ii a_jj). */
static double factor_error(const float *a, const float *l, size_t n)
{
    double worst = 0;
    size_t i, j, k;
    for (i = 0; i < n; i++)
        for (j = 0; j <= i; j++) {
            double s = 0, e;
            for (k = 0; k <= j; k++) s += (double)l[i * n + k] * l[j * n + k];
            e = fabs(a[i * n + j] - s) / sqrt((double)a[i * n + i] * a[j * n + j]);
            if (!(e <= worst)) worst = e;
        }
    return worst;
}

/* Largest |(L X - I)(i, j)| over sum_k |l_ik x_kj|. */
static double inverse_error(const float *l, const float *x, size_t n)
{
    double worst = 0;
    size_t i, j, k;
    for (i = 0; i < n; i++)
        for (j = 0; j <= i; j++) {
            double s = i == j ? -1 : 0, size = 0, e;
            for (k = j; k <= i; k++) {
                s += (double)l[i * n + k] * x[k * n + j];
                size += fabs((double)l[i * n + k] * x[k * n + j]);
            }
            e = fabs(s) / size;
            if (!(e <= worst)) worst = e;
        }
    return worst;
}

static void factors_are_right(void)
{
    static const size_t sizes[] = { 1, 2, 7, 8, 9, 48, 127, 128, 129, 200, 257, 400, 521 };
    quant_cpu set[4];
    size_t n_cpus = cpus(set), s, c, i, j;
    void *space = scratch();
    for (s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s];
        float *h = gram(n, n / 2 + 1, 0.01f, s + 40), *first = NULL, *second = NULL;
        for (i = 0; i < n; i++)
            for (j = i + 1; j < n; j++) h[i * n + j] = -7;
        for (c = 0; c < n_cpus; c++) {
            float *l = copy(h, n * n), *x;
            test_note("n %zu, %s", n, quant_cpu_name(set[c]));
            CHECK(quant_cholesky(l, n, n, set[c], space, NULL) == QUANT_OK);
            CHECK(factor_error(h, l, n) < 1.5e-6);
            x = copy(l, n * n);
            CHECK(quant_triangular_inverse(x, n, n, set[c], space, NULL) == QUANT_OK);
            CHECK(inverse_error(l, x, n) < 4e-7);
            for (i = 0; i < n; i++)
                for (j = i + 1; j < n; j++) CHECK(l[i * n + j] == -7 && x[i * n + j] == -7);
            if (first) CHECK(memcmp(first, l, n * n * 4) == 0 && memcmp(second, x, n * n * 4) == 0);
            if (first) { free(l); free(x); }
            else { first = l; second = x; }
        }
        free(h); free(first); free(second);
    }
    free(space);
}

/* max |U (H + damp) U^T - I|: what GPTQ relies on. */
static double whitening_error(const float *h, const float *u, size_t n, double add)
{
    double *t = (double *)malloc(n * n * sizeof *t), worst = 0;
    size_t i, j, k;
    for (i = 0; i < n; i++)                             /* t = U H                               */
        for (j = 0; j < n; j++) {
            double s = u[i * n + j] * add;
            for (k = i; k < n; k++)
                s += (double)u[i * n + k] * (k > j ? h[k * n + j] : h[j * n + k]);
            t[i * n + j] = s;
        }
    for (i = 0; i < n; i++)
        for (j = 0; j < n; j++) {
            double s = i == j ? -1 : 0;
            for (k = j; k < n; k++) s += t[i * n + k] * u[j * n + k];
            if (!(fabs(s) <= worst)) worst = fabs(s);
        }
    free(t);
    return worst;
}

static double mean_diagonal(const float *h, size_t n)
{
    double s = 0;
    size_t i;
    for (i = 0; i < n; i++) s += h[i * n + i] / (double)n;
    return s;
}

static void inverse_factor_is_right(void)
{
    static const size_t sizes[] = { 1, 5, 64, 129, 300 };
    size_t s, i, j;
    void *space = scratch();
    for (s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s];
        float *h = gram(n, 2 * n, 0, s + 60), *u = copy(h, n * n), diag[300], damp = 0.01f;
        test_note("n %zu", n);
        CHECK(quant_inverse_factor(u, n, n, diag, &damp, quant_cpu_detect(), space, NULL)
              == QUANT_OK);
        CHECK(damp == 0.01f && diag[n - 1] == h[n * n - 1]);
        CHECK(whitening_error(h, u, n, 0.01 * mean_diagonal(h, n)) < 2e-5);
        for (i = 0; i < n; i++)
            for (j = 0; j < i; j++) CHECK(u[i * n + j] == 0);
        free(h); free(u);
    }
    free(space);
}

/* Few tokens, dead and duplicate columns, one huge outlier: factored with the damping asked for,
 * and right; without damping, refused at the column, never rounded over. */
static void hard_hessians(void)
{
    enum { N = 200 };
    quant_cpu cpu = quant_cpu_detect();
    void *space = scratch();
    int kind;
    for (kind = 0; kind < 5; kind++) {
        float *x = normals(N * N, 70 + (uint64_t)kind), *h = (float *)calloc(N * N, 4), *u, *l;
        float diag[N], damp = 0.01f, none = 0;
        size_t t, tokens = kind == 0 ? 5 : N;
        quant_error err;
        for (t = 0; t < N; t++) {
            if (kind == 1) x[t * N + 30] = 0;                           /* dead                  */
            if (kind >= 2) x[t * N + 150] = x[t * N + 20];              /* duplicate             */
            if (kind == 3) x[t * N + 60] *= 1e4f;                       /* outlier               */
            if (kind == 4) x[t * N + 20] *= 1e4f, x[t * N + 150] *= 1e4f;   /* both              */
        }
        quant_hessian_add(h, N, x, N, tokens, N, 0, N, cpu, space);
        test_note("kind %d", kind);
        u = copy(h, N * N);
        CHECK(quant_inverse_factor(u, N, N, diag, &damp, cpu, space, &err) == QUANT_OK);
        CHECK(damp == 0.01f);
        CHECK(whitening_error(h, u, N, 0.01 * mean_diagonal(h, N))
              < (kind && kind < 3 ? 1e-4 : 0.01));
        l = copy(h, N * N);
        CHECK(quant_cholesky(l, N, N, cpu, space, &err) == QUANT_E_NUMERIC);
        CHECK(err.where == (kind == 0 ? 5u : kind == 1 ? 30u : 150u));
        free(u);
        u = copy(h, N * N);
        CHECK(quant_inverse_factor(u, N, N, diag, &none, cpu, space, &err) == QUANT_OK);
        CHECK(none >= 1e-4f && none < 1e-3f);           /* raised, and said so                   */
        free(x); free(h); free(u); free(l);
    }
    free(space);
}

static void bad_matrices_are_refused(void)
{
    enum { N = 150 };
    quant_cpu cpu = quant_cpu_detect();
    float *h = gram(N, N, 0.1f, 90), *a = copy(h, N * N), diag[N], damp = 0.01f, nan = 0;
    void *space = scratch();
    quant_error err;
    nan = nan / nan;
    a[140 * N + 140] = -1;
    CHECK(quant_cholesky(a, N, N, cpu, space, &err) == QUANT_E_NUMERIC && err.where == 140);
    memcpy(a, h, N * N * 4);
    a[133 * N + 2] = nan;
    CHECK(quant_cholesky(a, N, N, cpu, space, &err) == QUANT_E_NUMERIC && err.where == 133);
    memcpy(a, h, N * N * 4);
    a[9 * N + 9] = INFINITY;
    CHECK(quant_cholesky(a, N, N, cpu, space, &err) == QUANT_E_NUMERIC && err.where == 9);
    memcpy(a, h, N * N * 4);
    a[145 * N + 145] = 0;
    CHECK(quant_triangular_inverse(a, N, N, cpu, space, &err) == QUANT_E_NUMERIC);
    CHECK(err.where == 145);
    memcpy(a, h, N * N * 4);
    a[7 * N + 7] = nan;
    CHECK(quant_inverse_factor(a, N, N, diag, &damp, cpu, space, &err) == QUANT_E_NUMERIC);
    CHECK(err.where == 7);
    memcpy(a, h, N * N * 4);
    a[77 * N + 7] = nan;                                /* no damping helps                      */
    damp = 0.01f;
    CHECK(quant_inverse_factor(a, N, N, diag, &damp, cpu, space, &err) == QUANT_E_NUMERIC);
    CHECK(err.where == 77 || err.where == 7);
    CHECK(damp == 1);
    free(h); free(a); free(space);
}

/* The same bytes for every compiler and machine: FNV-1a of a Hessian, its factor and inverse. */
static void linalg_bytes_are_fixed(void)
{
    enum { N = 203, TOKENS = 300 };
    float *x = (float *)malloc(N * TOKENS * 4), *h = (float *)calloc(N * N, 4), diag[N];
    float damp = 0.01f;
    void *space = scratch();
    uint64_t s = 5, hash[2];
    size_t i, k;
    for (i = 0; i < N * TOKENS; i++)
        x[i] = (float)((double)(int32_t)(test_random(&s) >> 32) / 2147483648.);
    quant_hessian_add(h, N, x, N, TOKENS, N, 0, N, quant_cpu_detect(), space);
    for (k = 0; k < 2; k++) {
        hash[k] = 14695981039346656037u;
        for (i = 0; i < N * N; i++) {
            uint32_t u, b;
            memcpy(&u, h + i, 4);
            for (b = 0; b < 32; b += 8) hash[k] = (hash[k] ^ (u >> b & 255)) * 1099511628211u;
        }
        if (!k) CHECK(!quant_inverse_factor(h, N, N, diag, &damp, quant_cpu_detect(), space, NULL));
    }
    test_note("%016llx %016llx", (unsigned long long)hash[0], (unsigned long long)hash[1]);
    CHECK(hash[0] == 0xa75e28c6a3fd194eu && hash[1] == 0xf24ca7e18a596537u);
    free(x); free(h); free(space);
}

void suite_linalg(void)
{
    RUN(linalg_bytes_are_fixed);
    RUN(hessian_is_right);
    RUN(hessian_splits_do_not_matter);
    RUN(cross_is_right);
    RUN(partial_sums_merge);
    RUN(factors_are_right);
    RUN(inverse_factor_is_right);
    RUN(hard_hessians);
    RUN(bad_matrices_are_refused);
}
