/* gemm.h - products of float matrices for the example programs, at the speed of the machine:
 *
 *     C [m x n] += sign A [m x k] B [k x n]
 *
 * A is read through two strides, so that it may be stored either way round.  Every element is one
 * chain of fused multiply and add in the order of k, in stretches of GEMM_K: the result depends
 * neither on the instruction set nor on how columns are split over threads. */
#ifndef GEMM_H
#define GEMM_H
#include <math.h>
#include <stddef.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#  define GEMM_X86 1
#  include <immintrin.h>
#else
#  define GEMM_X86 0
#endif

enum { GEMM_M = 8, GEMM_N = 32, GEMM_K = 512 };     /* a tile; columns summed in one go          */

typedef struct gemm_task {
    float       *c;                 /* [m x ldc]                                                 */
    const float *a, *b;             /* A(i, l) = a[i * a_row + l * a_col]; b [k x ldb]           */
    size_t       ldc, a_row, a_col, ldb, m, n, k;
    float        sign;
} gemm_task;

/* c [GEMM_M][GEMM_N], rows ldc apart, += sign times A tile times panel [k][GEMM_N]. */
typedef void (*gemm_kernel)(float *c, size_t ldc, const float *const *a, size_t a_col,
                            const float *panel, size_t k, float sign);

static inline void gemm__scalar(float *c, size_t ldc, const float *const *a, size_t a_col,
                                const float *panel, size_t k, float sign)
{
    float out[GEMM_M * GEMM_N] = { 0 };
    size_t l, i, j;
    for (l = 0; l < k; l++)
        for (i = 0; i < GEMM_M; i++)
            for (j = 0; j < GEMM_N; j++)
                out[i * GEMM_N + j] = fmaf(a[i][l * a_col], panel[l * GEMM_N + j],
                                           out[i * GEMM_N + j]);
    for (i = 0; i < GEMM_M; i++)
        for (j = 0; j < GEMM_N; j++) c[i * ldc + j] += sign * out[i * GEMM_N + j];
}

#if GEMM_X86
__attribute__((target("avx512f")))
static inline void gemm__avx512(float *c, size_t ldc, const float *const *a, size_t a_col,
                                const float *panel, size_t k, float sign)
{
    __m512 s[GEMM_M][2], f = _mm512_set1_ps(sign);
    size_t l, i;
#pragma GCC unroll 8
    for (i = 0; i < GEMM_M; i++) s[i][0] = s[i][1] = _mm512_setzero_ps();
    for (l = 0; l < k; l++) {
        __m512 b0 = _mm512_loadu_ps(panel + l * GEMM_N);
        __m512 b1 = _mm512_loadu_ps(panel + l * GEMM_N + 16);
#pragma GCC unroll 8
        for (i = 0; i < GEMM_M; i++) {
            __m512 x = _mm512_set1_ps(a[i][l * a_col]);
            s[i][0] = _mm512_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm512_fmadd_ps(x, b1, s[i][1]);
        }
    }
#pragma GCC unroll 8
    for (i = 0; i < GEMM_M; i++) {
        float *x = c + i * ldc;
        s[i][0] = _mm512_add_ps(_mm512_loadu_ps(x), _mm512_mul_ps(f, s[i][0]));
        s[i][1] = _mm512_add_ps(_mm512_loadu_ps(x + 16), _mm512_mul_ps(f, s[i][1]));
        _mm512_storeu_ps(x, s[i][0]);
        _mm512_storeu_ps(x + 16, s[i][1]);
    }
}

__attribute__((target("avx2,fma")))
static inline void gemm__avx2(float *c, size_t ldc, const float *const *a, size_t a_col,
                              const float *panel, size_t k, float sign)
{
    __m256 f = _mm256_set1_ps(sign);
    size_t l, i, h, half;
    for (half = 0; half < GEMM_N; half += 16)
        for (h = 0; h < GEMM_M; h += 4) {
            __m256 s[4][2];
#pragma GCC unroll 4
            for (i = 0; i < 4; i++) s[i][0] = s[i][1] = _mm256_setzero_ps();
            for (l = 0; l < k; l++) {
                __m256 b0 = _mm256_loadu_ps(panel + l * GEMM_N + half);
                __m256 b1 = _mm256_loadu_ps(panel + l * GEMM_N + half + 8);
#pragma GCC unroll 4
                for (i = 0; i < 4; i++) {
                    __m256 x = _mm256_set1_ps(a[h + i][l * a_col]);
                    s[i][0] = _mm256_fmadd_ps(x, b0, s[i][0]);
                    s[i][1] = _mm256_fmadd_ps(x, b1, s[i][1]);
                }
            }
#pragma GCC unroll 4
            for (i = 0; i < 4; i++) {
                float *x = c + (h + i) * ldc + half;
                s[i][0] = _mm256_add_ps(_mm256_loadu_ps(x), _mm256_mul_ps(f, s[i][0]));
                s[i][1] = _mm256_add_ps(_mm256_loadu_ps(x + 8), _mm256_mul_ps(f, s[i][1]));
                _mm256_storeu_ps(x, s[i][0]);
                _mm256_storeu_ps(x + 8, s[i][1]);
            }
        }
}
#endif

static inline gemm_kernel gemm__choose(void)
{
#if GEMM_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return gemm__avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return gemm__avx2;
#endif
    return gemm__scalar;
}

/* Columns j .. j + GEMM_N of B, rows l .. l + k, zeros past its end. */
static inline void gemm__pack(float *panel, const gemm_task *t, size_t j, size_t l, size_t k)
{
    size_t w = t->n - j < GEMM_N ? t->n - j : GEMM_N, i;
    if (w < GEMM_N) memset(panel, 0, k * GEMM_N * sizeof *panel);
    for (i = 0; i < k; i++)
        memcpy(panel + i * GEMM_N, t->b + (l + i) * t->ldb + j, w * sizeof *panel);
}

/* The share of one of n_threads.  panel: scratch of GEMM_K * GEMM_N floats of the thread's own. */
static inline void gemm_share(const gemm_task *t, float *panel, size_t thread, size_t n_threads)
{
    gemm_kernel kernel = gemm__choose();
    float out[GEMM_M * GEMM_N];
    const float *a[GEMM_M];
    size_t panels = (t->n + GEMM_N - 1) / GEMM_N, p, l, i, j, r, k;
    for (p = thread; p < panels; p += n_threads) {
        size_t at = p * GEMM_N, w = t->n - at < GEMM_N ? t->n - at : GEMM_N;
        for (l = 0; l < t->k; l += k) {
            k = t->k - l < GEMM_K ? t->k - l : GEMM_K;
            gemm__pack(panel, t, at, l, k);
            for (i = 0; i < t->m; i += GEMM_M) {
                size_t h = t->m - i < GEMM_M ? t->m - i : GEMM_M;
                for (r = 0; r < GEMM_M; r++)
                    a[r] = t->a + (i + (r < h ? r : h - 1)) * t->a_row + l * t->a_col;
                if (h == GEMM_M && w == GEMM_N) {
                    kernel(t->c + i * t->ldc + at, t->ldc, a, t->a_col, panel, k, t->sign);
                    continue;
                }
                memset(out, 0, sizeof out);
                kernel(out, GEMM_N, a, t->a_col, panel, k, t->sign);
                for (r = 0; r < h; r++) {
                    float *c = t->c + (i + r) * t->ldc + at;
                    for (j = 0; j < w; j++) c[j] += out[r * GEMM_N + j];
                }
            }
        }
    }
}
#endif
