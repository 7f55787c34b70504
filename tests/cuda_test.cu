/* Tests of quant_cuda.cu: packing on the host, products on the GPU against float64.
 *   make cuda && build/cuda_test             all;  build/cuda_test small: under a memory checker;
 *   build/cuda_test small nocluster: splits through the workspace, as before 9.0
 *   build/cuda_test races                    every kernel, fewer shapes: for a racechecker
 *   build/cuda_emulated small                the same tests where no GPU is: cuda_emulate.h
 *   build/cuda_races races                   the same under the thread sanitizer
 * Without a GPU build/cuda_test skips the products, loudly.  The file is included, so that every
 * shape of block can be tried, not only those that make_plan would choose; the kernels and the
 * public functions are those of the library. */
#define QUANT_API extern "C" __attribute__((weak))
#ifndef QUANT_CUDA_EMULATE
#define QUANT_CUDA_LINKED
#endif
#include "../quant_cuda.cu"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

static int passed, failed, skipped, small;
static double worst[2];                 /* largest relative error seen, fp16 and bf16            */
static int reported;
static int one_plan_of = 1;             /* plans tried, of those that tests of every plan name    */

static void count(bool ok, const char *what, const char *detail)
{
    if (ok) passed++;
    else {
        failed++;
        if (reported++ < 40) printf("FAILED %s %s\n", what, detail);
    }
}
#define CUDA(call) do { cudaError_t e_ = (call); if (e_ != cudaSuccess) { \
    printf("FAILED %s:%d %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(e_)); \
    printf("%d passed, %d failed, %d skipped\n", passed, failed + 1, skipped); exit(1); \
    } } while (0)

static uint64_t rng = 42;
static uint64_t next_random(void)
{
    uint64_t x = rng += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
static double uniform(void) { return ((double)(next_random() >> 11) + 0.5) / 9007199254740992.0; }
static double normal(void)
{
    double r = sqrt(-2 * log(uniform()));
    return r * cos(6.283185307179586 * uniform());
}

/* ---- sources: random bytes with sane scales, and what they mean, written from the formats ----*/
struct source {
    quant_cuda_source s;
    void *data;
    uint16_t *scales;
    uint32_t *zeros, *g_idx;
    size_t data_size, scales_size, zeros_size;      /* bytes                                     */
    char name[64];
};
enum kind { GPTQ_SYM, GPTQ_V1, GPTQ_V2, AWQ, GPTQ_ACT, Q4_0, Q4_1, Q4_K, IQ4_NL, Q6_K, Q8_0,
            N_KINDS };
static const char *const kind_names[N_KINDS] = {"gptq-sym", "gptq-v1", "gptq-v2", "awq",
                                                "gptq-act", "Q4_0", "Q4_1", "Q4_K", "IQ4_NL",
                                                "Q6_K", "Q8_0"};
static const quant_type types[N_KINDS] = {QUANT_F32, QUANT_F32, QUANT_F32, QUANT_F32, QUANT_F32,
                                          QUANT_Q4_0, QUANT_Q4_1, QUANT_Q4_K, QUANT_IQ4_NL,
                                          QUANT_Q6_K, QUANT_Q8_0};
static const size_t blocks_bytes[N_KINDS] = {0, 0, 0, 0, 0, 18, 20, 144, 18, 210, 34};
static bool is_gguf(kind k) { return k >= Q4_0; }
static bool is_super(kind k) { return k == Q4_K || k == Q6_K; }

static void put_half(uint8_t *p, double v)
{
    uint32_t h = half_of((float)v);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

static source make_source(kind k, size_t rows, size_t cols, size_t group)
{
    source r;
    memset(&r, 0, sizeof r);
    snprintf(r.name, sizeof r.name, "%s N=%zu K=%zu g=%zu", kind_names[k], rows, cols, group);
    r.s.rows = rows;
    r.s.cols = cols;
    r.s.group = group;
    if (is_gguf(k)) {
        r.s.format = QUANT_CUDA_GGUF;
        r.s.type = types[k];
        size_t bytes = blocks_bytes[k], n = rows * cols / (is_super(k) ? 256 : 32);
        uint8_t *p = (uint8_t *)malloc(n * bytes + 8);
        for (size_t i = 0; i + 8 <= n * bytes + 8; i += 8) {
            uint64_t v = next_random();
            memcpy(p + i, &v, 8);
        }
        for (size_t i = 0; i < n; i++) {
            double d = (0.5 + uniform()) * 0.01 * (uniform() < 0.5 ? -1 : 1);
            if (k == Q6_K || k == Q8_0 || k == IQ4_NL) d /= k == Q6_K ? 256 : 16;
            put_half(p + i * bytes + (k == Q6_K ? 208 : 0), k == Q4_K ? fabs(d) / 32 : d);
            if (k == Q4_1) put_half(p + i * bytes + 2, -8 * d * uniform());
            if (k == Q4_K) put_half(p + i * bytes + 2, fabs(d) / 8);
        }
        r.data = p;
        r.data_size = n * bytes;
    } else {
        r.s.format = k == AWQ ? QUANT_CUDA_AWQ_GEMM : k == GPTQ_V2 ? QUANT_CUDA_GPTQ_V2
                                                                   : QUANT_CUDA_GPTQ_V1;
        size_t groups = group ? (cols + group - 1) / group : 1, words = rows * cols / 8;
        uint32_t *p = (uint32_t *)malloc(words * 4);
        for (size_t i = 0; i < words; i++) p[i] = (uint32_t)next_random();
        r.data = p;
        r.data_size = words * 4;
        r.scales_size = groups * rows * 2;
        r.scales = (uint16_t *)malloc(groups * rows * 2);
        for (size_t i = 0; i < groups * rows; i++)
            r.scales[i] = (uint16_t)half_of((float)((0.5 + uniform()) * 0.01));
        if (k == GPTQ_ACT && group) {       /* any order of columns, as act-order leaves it      */
            r.g_idx = (uint32_t *)malloc(cols * 4);
            for (size_t i = 0; i < cols; i++) r.g_idx[i] = (uint32_t)(i / group);
            for (size_t i = cols - 1; i > 0; i--) {
                size_t o = next_random() % (i + 1);
                uint32_t t = r.g_idx[i];
                r.g_idx[i] = r.g_idx[o];
                r.g_idx[o] = t;
            }
        }
        if (k != GPTQ_SYM) {
            r.zeros_size = groups * rows / 8 * 4;
            r.zeros = (uint32_t *)malloc(r.zeros_size);
            for (size_t i = 0; i < groups * rows / 8; i++) r.zeros[i] = (uint32_t)next_random();
        }
    }
    r.s.data = r.data;
    r.s.scales = r.scales;
    r.s.zeros = r.zeros;
    r.s.g_idx = r.g_idx;
    return r;
}
static void free_source(source *r)
{
    free(r->data);
    free(r->scales);
    free(r->zeros);
    free(r->g_idx);
}

static double half_at(const uint8_t *p) { return half_value(p[0] | (uint32_t)p[1] << 8); }

/* The types of which the library has a decoder that is tested by itself */
static double decoded_weight(const quant_cuda_source *s, size_t row, size_t col)
{
    static float block[256];
    static uint8_t of[210];
    const bool super = s->type == QUANT_Q6_K;
    const size_t len = super ? 256 : 32, bytes = super ? 210 : s->type == QUANT_Q8_0 ? 34 : 18;
    const uint8_t *b = (const uint8_t *)s->data + (row * (s->cols / len) + col / len) * bytes;
    static quant_type last;
    if (last != s->type || memcmp(of, b, bytes)) {
        if (quant_to_f32(s->type, block, b, 1, len)) exit(1);
        memcpy(of, b, bytes);
        last = s->type;
    }
    return block[col % len];
}

/* What the weight at (row, col) is. */
static double weight(const source *r, size_t row, size_t col)
{
    const quant_cuda_source *s = &r->s;
    size_t group = s->g_idx ? s->g_idx[col] : s->group ? col / s->group : 0;
    const uint8_t *b = (const uint8_t *)s->data;
    const uint32_t *w = (const uint32_t *)s->data;
    if (s->format == QUANT_CUDA_GGUF && s->type != QUANT_Q4_0 && s->type != QUANT_Q4_1
        && s->type != QUANT_Q4_K) return decoded_weight(s, row, col);
    if (s->format == QUANT_CUDA_GGUF && s->type == QUANT_Q4_K) {
        b += (row * (s->cols / 256) + col / 256) * 144;
        size_t i = col % 256 / 32, l = col % 32;
        const uint8_t *c = b + 4;
        int sc = i < 4 ? c[i] & 63 : (c[i + 4] & 15) + (c[i - 4] / 64) * 16;
        int mn = i < 4 ? c[i + 4] & 63 : (c[i + 4] / 16) + (c[i] / 64) * 16;
        int q = b[16 + i / 2 * 32 + l];
        q = i % 2 ? q / 16 : q % 16;
        return half_at(b) * sc * q - half_at(b + 2) * mn;
    }
    if (s->format == QUANT_CUDA_GGUF) {
        bool one = s->type == QUANT_Q4_1;
        b += (row * (s->cols / 32) + col / 32) * (one ? 20 : 18);
        int q = b[(one ? 4 : 2) + col % 16];
        q = col % 32 < 16 ? q % 16 : q / 16;
        return one ? half_at(b) * q + half_at(b + 2) : half_at(b) * (q - 8);
    }
    double scale = half_value(s->scales[group * s->rows + row]);
    if (s->format == QUANT_CUDA_AWQ_GEMM) {
        static const int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
        int i = 0, q, z = 8;
        while (order[i] != (int)(row % 8)) i++;
        q = (int)(w[col * (s->rows / 8) + row / 8] >> 4 * i & 15);
        if (s->zeros) z = (int)(s->zeros[group * (s->rows / 8) + row / 8] >> 4 * i & 15);
        return scale * (q - z);
    }
    int q = (int)(w[col / 8 * s->rows + row] >> col % 8 * 4 & 15), z = 8;
    if (s->zeros) {
        z = (int)(s->zeros[group * (s->rows / 8) + row / 8] >> row % 8 * 4 & 15);
        if (s->format == QUANT_CUDA_GPTQ_V1) z = (z + 1) % 16;
    }
    return scale * (q - z);
}

/* ---- host: the packed bytes mean the same weights --------------------------------------------*/
/* Reads the packed form as the drawing at the top of quant_cuda.cu says. */
static uint32_t word_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static double packed_other(const quant_cuda_matrix *w, const uint8_t *p, size_t row, size_t col)
{
    static const int table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69,
                                  89, 113};
    size_t kt = w->cols / 32, rt = (w->rows + 31) / 32, r = row % 32, c = col % 32;
    size_t g = r % 8, lane = g * 4 + c % 8 / 2, m = r / 16, s = c / 16, at = g * 4 + r / 8;
    size_t j = r / 8 % 2 + 2 * (c % 16 / 8), size = w->bits * 128, rec_size = 64, recs = kt;
    const uint8_t *tile = p + (row / 32 * kt + col / 32) * size, *rec = p + rt * kt * size;
    double q = 0;
    float gain;
    if (w->bits == 8)
        q = tile[m * 512 + lane * 16 + (2 * s + j / 2) * 4 + 2 * (j % 2) + c % 2] - 128.0;
    else q = word_at(tile + lane * 16 + (2 * m + s) * 4) >> (4 * j + 16 * (c % 2)) & 15;
    if (w->bits == 4) q = table[(int)q];
    if (w->bits == 6) {
        uint32_t high = word_at(tile + 512 + lane * 8 + m * 4) >> (8 * s + 2 * j + 16 * (c % 2));
        q += 16 * (high & 3) - 32.0;
        rec_size = 576;
        recs = kt / 8;
    }
    memcpy(&gain, rec + rt * recs * rec_size + row * 4, 4);
    rec += (row / 32 * recs + col / 32 * recs / kt) * rec_size;
    if (w->bits == 6) q *= (int8_t)rec[64 + col % 256 / 16 * 32 + at];
    return gain * half_at(rec + at * 2) * q;
}
static double packed_weight(const quant_cuda_matrix *w, const uint8_t *p, size_t row, size_t col)
{
    if (w->bits != 4 || w->zero == QUANT_CUDA_TABLE) return packed_other(w, p, row, col);
    size_t kt = w->cols / 32, rt = (w->rows + 31) / 32, r = row % 32, c = col % 32;
    size_t lane = r % 8 * 4 + c % 8 / 2, word = r / 16 * 2 + c / 16;
    size_t j = r / 8 % 2 + 2 * (c % 16 / 8), bit = 4 * j + 16 * (c % 2);
    uint32_t v;
    memcpy(&v, p + (row / 32 * kt + col / 32) * 512 + lane * 16 + word * 4, 4);
    double q = v >> bit & 15;
    size_t recs = w->group ? (w->cols + w->group - 1) / w->group : 1;
    size_t rb = w->zero == QUANT_CUDA_SYMMETRIC ? 64 : w->zero == QUANT_CUDA_ZERO_POINT ? 96 : 128;
    const uint8_t *rec = p + rt * kt * 512;
    rec += (row / 32 * recs + (w->group ? col / w->group : 0)) * rb;
    size_t at = r % 8 * 4 + r / 8;
    double s = half_at(rec + at * 2);
    float gain;
    memcpy(&gain, p + rt * (kt * 512 + recs * rb) + row * 4, 4);
    if (w->zero == QUANT_CUDA_SYMMETRIC) return gain * s * (q - 8);
    if (w->zero == QUANT_CUDA_ZERO_POINT) return gain * s * (q - rec[64 + at]);
    return gain * (s * q + half_at(rec + 64 + at * 2));
}

/* The bytes of the formats that a GPU has seen are those that it saw. */
#define PACKED_HASH 0x74b60a3a8211f3cfu
static uint64_t packed_hash = 0xcbf29ce484222325u;

/* Packs as the kernels do, in an order of threads that no GPU would choose. */
static bool pack_by_threads(uint8_t *p, const quant_cuda_matrix *w, const quant_cuda_source *s)
{
    const quant__pack_job j = pack_job(p, w, s, NULL);
    const size_t words = (j.tiles + j.recs) / 4;
    bool ok = true;
    for (size_t c = s->cols; w->ordered && c-- > 0; ) ok = pack_column(j, c) && ok;
    for (size_t r = (w->rows + 31) / 32 * 32; r-- > 0; ) ok = pack_gain(j, r) && ok;
    for (size_t i = 0; i < words; i += 2) pack_word(j, i);
    for (size_t i = 1; i < words; i += 2) pack_word(j, i);
    return ok;
}

static bool same_weights(kind k, const source *r, const quant_cuda_matrix *w, const uint8_t *p)
{
    for (size_t i = 0; i < w->rows; i++)
        for (size_t c = 0; c < w->cols; c++) {
            uint32_t at = (uint32_t)c;
            if (w->ordered) memcpy(&at, p + w->size - (w->cols - c) * 4, 4);
            double want = weight(r, i, at), got = packed_weight(w, p, i, c);
            /* Q4_K: scale and minimum are rounded to half floats, 2^-11 of 63 d and 63 dmin; the
             * decoder of Q6_K rounds to a float */
            double bound = k == Q4_K ? (15.0 * 63 * 0.015 / 32 + 63 * 0.015 / 8) / 2048
                         : k == Q6_K ? fabs(want) / (1 << 24) : 0;
            if (!(fabs(want - got) <= bound)) return false;
        }
    return true;
}

static void test_pack(kind k, size_t rows, size_t cols, size_t group)
{
    source r = make_source(k, rows, cols, group);
    quant_cuda_matrix w, wd;
    quant_error err;
    bool ok = quant_cuda_matrix_init(&w, &r.s, &err) == QUANT_OK;
    if (ok) {
        uint8_t *p = (uint8_t *)malloc(w.size + 16);
        memset(p, 0xcd, w.size + 16);
        ok = quant_cuda_pack(p, &w, &r.s, &err) == QUANT_OK;
        for (size_t i = 0; i < 16; i++) ok = ok && p[w.size + i] == 0xcd;
        ok = ok && same_weights(k, &r, &w, p);
        for (size_t i = 0; k < IQ4_NL && i < w.size; i++)
            packed_hash = (packed_hash ^ p[i]) * 0x100000001b3u;
        /* on the device, with what _matrix_init says and with what _matrix_init_device says      */
        count(quant_cuda_matrix_init_device(&wd, &r.s, &err) == QUANT_OK, "init for device",
              r.name);
        for (int i = 0; i < 2; i++) {
            const quant_cuda_matrix *v = i ? &wd : &w;
            uint8_t *host = (uint8_t *)malloc(v->size), *d = (uint8_t *)malloc(v->size + 16);
            memset(host, 0xcd, v->size);
            memset(d, 0x5b, v->size + 16);
            bool same = quant_cuda_pack(host, v, &r.s, &err) == QUANT_OK
                        && pack_by_threads(d, v, &r.s) && !memcmp(d, host, v->size)
                        && same_weights(k, &r, v, d);
            for (size_t a = 0; a < 16; a++) same = same && d[v->size + a] == 0x5b;
            count(same, "pack by threads", r.name);
            free(host);
            free(d);
        }
        free(p);
    }
    count(ok, "pack", r.name);
    free_source(&r);
}

/* What the kernels find wrong, they report. */
static void test_pack_status(void)
{
    source r = make_source(GPTQ_ACT, 40, 160, 32);
    quant_cuda_matrix w;
    bool ok = quant_cuda_matrix_init_device(&w, &r.s, NULL) == QUANT_OK && w.ordered;
    uint8_t *p = (uint8_t *)calloc(w.size, 1);
    const quant__pack_job j = pack_job(p, &w, &r.s, NULL);
    for (size_t c = 0; c < 160; c++) ok = ok && pack_column(j, c);
    count(ok, "status", "good order");
    for (int bad = 0; bad < 2; bad++) {     /* a group too many columns; no such group           */
        uint32_t old = r.g_idx[7];
        size_t wrong = 0;
        r.g_idx[7] = bad ? 5 : (old + 1) % 5;
        for (size_t c = 0; c < 160; c++) wrong += !pack_column(j, c);
        count(wrong == 1, "status", "bad order");
        r.g_idx[7] = old;
    }
    r.scales[2 * 40 + 13] = 0xfc00;
    for (size_t i = 0; i < 64; i++) count(pack_gain(j, i) == (i != 13), "status", "bad scale");
    free(p);
    free_source(&r);
}

static void test_errors(void)
{
    source r = make_source(GPTQ_V2, 64, 64, 32);
    quant_cuda_matrix w;
    quant_error err;
    quant_cuda_source s = r.s;
#define WANT(change, result) do { s = r.s; change; \
    count(quant_cuda_matrix_init(&w, &s, &err) == result && err.code == result, "init", #change); \
    } while (0)
    WANT(s.rows = 60, QUANT_E_ARG);
    WANT(s.cols = 48, QUANT_E_ARG);
    WANT(s.rows = 0, QUANT_E_ARG);
    WANT(s.group = 48, QUANT_E_ARG);
    WANT(s.data = NULL, QUANT_E_ARG);
    WANT(s.scales = NULL, QUANT_E_ARG);
    WANT(s.format = 77, QUANT_E_TYPE);
    WANT((s.format = QUANT_CUDA_GGUF, s.type = QUANT_Q5_K), QUANT_E_TYPE);
    WANT((s.format = QUANT_CUDA_GGUF, s.type = QUANT_Q6_K), QUANT_E_ARG);
    WANT((s.format = QUANT_CUDA_GGUF, s.type = QUANT_Q4_K), QUANT_E_ARG);
    uint32_t order[64];
    for (uint32_t i = 0; i < 64; i++) order[i] = i / 32;
    s = r.s;
    s.g_idx = order;
    count(quant_cuda_matrix_init(&w, &s, &err) == QUANT_OK, "init", "plain g_idx");
    order[5] = 1;
    WANT(s.g_idx = order, QUANT_E_TYPE);
    r.scales[3] = 0x7c00;
    WANT(s.rows = 64, QUANT_E_NUMERIC);
    count(err.where == 3, "init", "where");
    for (int i = 0; i < 16; i++) r.zeros[i] = 0x88888888u;
    r.scales[3] = 0x3c00;
    count(quant_cuda_matrix_init(&w, &r.s, NULL) == QUANT_OK && w.zero == QUANT_CUDA_SYMMETRIC,
          "init", "zeros of 8");
    free_source(&r);
}

/* ---- device ----------------------------------------------------------------------------------*/
static quant_cuda_device gpu;

__global__ void reference(double *y, const double *w, const void *x, int bf, size_t n, size_t k,
                          size_t ldx)
{
    size_t row = blockIdx.x * (size_t)blockDim.x + threadIdx.x, token = blockIdx.y;
    double sum = 0;
    if (row >= n) return;
    for (size_t c = 0; c < k; c++) {
        double v = bf ? load_act<1>(x, token * ldx + c) : load_act<0>(x, token * ldx + c);
        sum += v * w[c * n + row];
    }
    y[token * n + row] = sum;
}

/* Every code at every place of a pair: [q][bf], pairs of q and 255 - q, then [q][place] */
__global__ void code_table(uint32_t *pairs, float *floats)
{
    const uint32_t q = threadIdx.x, quad = q | (255 - q) << 8;
    pairs[2 * q] = code_pair<0>(quad, 0);
    pairs[2 * q + 1] = code_pair<1>(quad, 0);
    for (int i = 0; i < 2; i++) floats[2 * q + i] = code_float(quad, i);
}
static void test_codes(void)
{
    static uint32_t pairs[512];
    static float floats[512];
    uint32_t *p;
    float *f;
    CUDA(cudaMalloc(&p, sizeof pairs));
    CUDA(cudaMalloc(&f, sizeof floats));
    void *args[2] = {&p, &f};
    CUDA(start_plain((const void *)code_table, dim3(1), 256, NULL, args));
    CUDA(cudaMemcpy(pairs, p, sizeof pairs, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(floats, f, sizeof floats, cudaMemcpyDeviceToHost));
    for (uint32_t q = 0; q < 256; q++)
        for (int at = 0; at < 2; at++) {
            const float want = at ? 127.0f - (float)q : (float)q - 128;
            const uint32_t b = pairs[2 * q + 1] >> 16 * at << 16;
            float bf;
            memcpy(&bf, &b, 4);
            count(half_value(pairs[2 * q] >> 16 * at & 0xffff) == want && bf == want
                  && floats[2 * q + at] == want, "codes", "a pair");
        }
    CUDA(cudaFree(p));
    CUDA(cudaFree(f));
}

/* The kernels that pack write the bytes that the host writes, for what _matrix_init says and for
 * what _matrix_init_device says. */
static void test_pack_device(const source *r)
{
    const size_t sizes[4] = {r->data_size, r->scales_size, r->zeros_size,
                             r->g_idx ? r->s.cols * 4 : 0};
    const void *from[4] = {r->data, r->scales, r->zeros, r->g_idx};
    void *to[4] = {NULL, NULL, NULL, NULL}, *dst;
    uint32_t *status, found = 77;
    quant_cuda_source s = r->s;
    quant_error err;
    for (int i = 0; i < 4; i++) {
        if (!sizes[i]) continue;
        CUDA(cudaMalloc(&to[i], sizes[i]));
        CUDA(cudaMemcpy(to[i], from[i], sizes[i], cudaMemcpyHostToDevice));
    }
    s.data = to[0];
    s.scales = (const uint16_t *)to[1];
    s.zeros = (const uint32_t *)to[2];
    s.g_idx = (const uint32_t *)to[3];
    CUDA(cudaMalloc(&status, 4));
    CUDA(cudaMemset(status, 0, 4));
    for (int i = 0; i < 2; i++) {
        quant_cuda_matrix w;
        bool ok = (i ? quant_cuda_matrix_init_device(&w, &s, &err)
                     : quant_cuda_matrix_init(&w, &r->s, &err)) == QUANT_OK;
        uint8_t *host = (uint8_t *)malloc(w.size), *back = (uint8_t *)malloc(w.size);
        CUDA(cudaMalloc(&dst, w.size));
        CUDA(cudaMemset(dst, 0x5b, w.size));
        ok = ok && quant_cuda_pack(host, &w, &r->s, &err) == QUANT_OK
             && quant_cuda_pack_device(dst, &w, &s, i ? status : NULL, NULL, &err) == QUANT_OK;
        CUDA(cudaMemcpy(back, dst, w.size, cudaMemcpyDeviceToHost));
        count(ok && !memcmp(host, back, w.size), "pack on the device", r->name);
        CUDA(cudaFree(dst));
        free(host);
        free(back);
    }
    CUDA(cudaMemcpy(&found, status, 4, cudaMemcpyDeviceToHost));
    count(found == 0, "pack on the device, status", r->name);
    if (r->scales) {
        const uint16_t infinite = 0x7c00;
        quant_cuda_matrix w;
        if (quant_cuda_matrix_init_device(&w, &s, &err)) exit(1);
        CUDA(cudaMalloc(&dst, w.size));
        CUDA(cudaMemcpy((uint16_t *)to[1] + 5, &infinite, 2, cudaMemcpyHostToDevice));
        if (r->g_idx) CUDA(cudaMemset(to[3], 1, 4));        /* no such group                   */
        count(quant_cuda_pack_device(dst, &w, &s, status, NULL, &err) == QUANT_OK, "pack", r->name);
        CUDA(cudaMemcpy(&found, status, 4, cudaMemcpyDeviceToHost));
        count(found == (w.ordered ? QUANT_CUDA_BAD_SCALE | QUANT_CUDA_BAD_ORDER
                                  : QUANT_CUDA_BAD_SCALE), "pack, bad status", r->name);
        CUDA(cudaFree(dst));
    }
    for (int i = 0; i < 4; i++) CUDA(cudaFree(to[i]));
    CUDA(cudaFree(status));
}

struct on_device {
    source src;
    quant_cuda_matrix w;
    void *data, *space, *bias[2];       /* bias: fp16 and bf16 of the same numbers               */
    size_t space_size;
    float *host_bias;
    double *dense;
};
static on_device upload(kind k, size_t rows, size_t cols, size_t group)
{
    on_device d;
    quant_error err;
    d.src = make_source(k, rows, cols, group);
    if (quant_cuda_matrix_init(&d.w, &d.src.s, &err)) {
        printf("FAILED init %s: %s\n", d.src.name, err.what);
        exit(1);
    }
    void *host = malloc(d.w.size);
    quant_cuda_pack(host, &d.w, &d.src.s, &err);
    CUDA(cudaMalloc(&d.data, d.w.size));
    CUDA(cudaMemcpy(d.data, host, d.w.size, cudaMemcpyHostToDevice));
    free(host);
    d.w.data = d.data;
    test_pack_device(&d.src);
    double *dense = (double *)malloc(rows * cols * sizeof(double));
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) dense[c * rows + r] = weight(&d.src, r, c);
    CUDA(cudaMalloc(&d.dense, rows * cols * sizeof(double)));
    CUDA(cudaMemcpy(d.dense, dense, rows * cols * sizeof(double), cudaMemcpyHostToDevice));
    free(dense);
    d.host_bias = (float *)malloc(rows * sizeof(float));
    uint16_t *bits = (uint16_t *)malloc(rows * 4);
    for (size_t r = 0; r < rows; r++) {     /* multiples of 1/8 up to 16: exact in both        */
        d.host_bias[r] = (float)((int)(next_random() % 256) - 128) / 8;
        uint32_t u;
        memcpy(&u, &d.host_bias[r], 4);
        bits[r] = (uint16_t)half_of(d.host_bias[r]);
        bits[rows + r] = (uint16_t)(u >> 16);
    }
    for (int i = 0; i < 2; i++) {
        CUDA(cudaMalloc(&d.bias[i], rows * 2));
        CUDA(cudaMemcpy(d.bias[i], bits + i * rows, rows * 2, cudaMemcpyHostToDevice));
    }
    free(bits);
    d.space_size = (size_t)64 << 20;    /* room for forced plans, too                            */
    CUDA(cudaMalloc(&d.space, d.space_size));
    CUDA(cudaMemset(d.space, 0, d.space_size));
    return d;
}
static void drop(on_device *d)
{
    free_source(&d->src);
    CUDA(cudaFree(d->data));
    CUDA(cudaFree(d->space));
    CUDA(cudaFree(d->bias[0]));
    CUDA(cudaFree(d->bias[1]));
    free(d->host_bias);
    CUDA(cudaFree(d->dense));
}

/* m tokens; products take `each` at a time.  The relative error of a few bfloat16 numbers says
 * little: rounding alone moves a number by up to 3.9e-3 of itself.  So they are 1,000 at least. */
struct batch {
    size_t m, each, ldx, ldy;
    int bf;
    void *x, *y;
    uint16_t *host;
    double *want;                       /* host [m][rows]                                        */
};
static batch make_batch(const on_device *d, size_t m, int bf, double mean)
{
    batch b;
    size_t k = d->w.cols, n = d->w.rows;
    double *y;
    b.each = m;
    if (bf) m *= (999 + n * m) / (n * m);
    b.m = m;
    b.bf = bf;
    b.ldx = k + 8;
    b.ldy = n + 8;
    b.host = (uint16_t *)malloc((m * b.ldy + m * b.ldx) * 2);
    uint16_t *x = b.host + m * b.ldy;
    for (size_t i = 0; i < m * b.ldx; i++) {
        float v = (float)(normal() + mean);
        uint32_t u;
        memcpy(&u, &v, 4);
        x[i] = i % b.ldx >= k ? 0x7fff : bf ? (uint16_t)(u >> 16) : (uint16_t)half_of(v);
    }
    CUDA(cudaMalloc(&b.x, m * b.ldx * 2));
    CUDA(cudaMalloc(&b.y, m * b.ldy * 2));
    CUDA(cudaMemcpy(b.x, x, m * b.ldx * 2, cudaMemcpyHostToDevice));
    CUDA(cudaMalloc(&y, m * n * sizeof(double)));
    void *args[7] = {&y, (void *)&d->dense, &b.x, &bf, &n, &k, &b.ldx};
    CUDA(start_plain((const void *)reference, dim3((unsigned)((n + 127) / 128), (unsigned)m), 128,
                     NULL, args));
    b.want = (double *)malloc(m * n * sizeof(double));
    CUDA(cudaMemcpy(b.want, y, m * n * sizeof(double), cudaMemcpyDeviceToHost));
    CUDA(cudaFree(y));
    return b;
}
static void free_batch(batch *b)
{
    free(b->host);
    free(b->want);
    CUDA(cudaFree(b->x));
    CUDA(cudaFree(b->y));
}
static void poison(batch *b) { CUDA(cudaMemset(b->y, 0xff, b->m * b->ldy * 2)); }

/* Compares y with the reference; what lies between the rows must still be poison. */
static void check(batch *b, const on_device *d, const char *what)
{
    char text[160];
    double err = 0, ref = 0;
    size_t n = d->w.rows, written = 0, far = 0;
    for (size_t i = 0; i < b->m * n; i++) ref += b->want[i] * b->want[i];
    const double rms = sqrt(ref / (double)(b->m * n));
    ref = 0;
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaMemcpy(b->host, b->y, b->m * b->ldy * 2, cudaMemcpyDeviceToHost));
    for (size_t t = 0; t < b->m; t++) {
        for (size_t r = 0; r < b->ldy; r++) {
            uint16_t h = b->host[t * b->ldy + r];
            if (r >= n) {
                written += h != 0xffff;
                continue;
            }
            uint32_t u = (uint32_t)h << 16;
            float f;
            memcpy(&f, &u, 4);
            double v = b->bf ? f : half_value(h), w = b->want[t * n + r];
            if (d->w.bias) w += d->host_bias[r];
            err += (v - w) * (v - w);
            ref += w * w;
            far += !(fabs(v - w) <= fabs(w) / (b->bf ? 256 : 2048) + 1e-5 * rms);
        }
    }
    double e = sqrt(err / ref);
    /* bf16: rounding y alone gives 1.7e-3 on average */
    const double bound = b->bf ? 3e-3 : 5e-4;
    bool ok = e <= bound && !written;                       /* a NaN is not <=                   */
    if (is_other(&d->w) && far) ok = false;     /* exact codes: y is rounded, no more            */
    if (b->bf && b->m * n < 1000) ok = false;
    if (!(e <= worst[b->bf])) worst[b->bf] = e;
    snprintf(text, sizeof text, "%s %s M=%zu x %zu %s error %.2e, %zu written outside", what,
             d->src.name, b->each, b->m / b->each, b->bf ? "bf16" : "fp16", e, written);
    count(ok, "product", text);
}

/* Calls `product(y, x)` for each part of the batch. */
template <class F> static void for_each_call(const batch *b, F product)
{
    for (size_t t = 0; t < b->m; t += b->each)
        product((uint16_t *)b->y + t * b->ldy, (const uint16_t *)b->x + t * b->ldx);
}

static void run(const on_device *d, batch *b, const char *what)
{
    quant_error err;
    quant_result r = QUANT_OK;
    poison(b);
    for_each_call(b, [&](void *y, const void *x) {
        if (!r) r = quant_cuda_matmul(&gpu, &d->w, y, b->ldy, x, b->ldx, b->each,
                                      b->bf ? QUANT_BF16 : QUANT_F16, d->space, d->space_size,
                                      NULL, &err);
    });
    if (r) count(false, what, err.what);
    else check(b, d, what);
}
/* false: not this one */
static bool run_plan(const on_device *d, batch *b, const quant__plan &p, const char *what)
{
    static int n;
    if (n++ % one_plan_of) return false;
    poison(b);
    for_each_call(b, [&](void *y, const void *x) {
        CUDA(launch(p, &gpu, &d->w, y, b->ldy, x, b->ldx, b->each,
                    b->bf ? QUANT_BF16 : QUANT_F16, d->space, NULL));
    });
    check(b, d, what);
    return true;
}

/* Every kernel, every shape of block and split on one matrix; each twice, so that counters that do
 * not come back to zero show. */
static void test_plans(const on_device *d, size_t m, int bf)
{
    if (d->w.ordered || is_other(&d->w)) return;        /* plans take x in the packed order      */
    batch b = make_batch(d, m, bf, 0);
    for (uint32_t nt = 1; nt <= 8; nt *= 2)
        for (uint32_t wr = 1; wr <= 8; wr += wr < 4 ? 1 : 3)
            for (uint32_t wk = 1; wk * wr <= 16; wk *= 2)
                for (uint32_t splits = 1; splits <= 8; splits += splits < 2 ? 1 : 3)
                    for (uint32_t cluster = 0; cluster <= (splits > 1 && gpu.capability >= 90);
                         cluster++) {
                        quant__plan p = {nt, wr, wk, splits, cluster, 0, 0, 0, 0, 0, 0, 0, 0};
                        if (wr * wk > (nt <= 2 ? 16u : 8u) || (bf && nt == 8)) continue;
                        p.shared = shared_bytes(p, &d->w, m);
                        if (p.shared + Q_FIXED > gpu.shared) continue;
                        if (plan_workspace(p, &d->w, m) > d->space_size) continue;
                        char text[96];
                        snprintf(text, sizeof text, "plan nt%u wr%u wk%u splits%u %s", nt, wr, wk,
                                 splits, cluster ? "cluster" : "workspace");
                        for (int twice = 0; twice < (cluster || splits == 1 ? 1 : 2); twice++)
                            run_plan(d, &b, p, text);
                    }
    free_batch(&b);
}

/* The same for the stream kernel */
static void test_stream_plans(const on_device *d, size_t m, int bf)
{
    if (!gpu.tensor_map || d->w.ordered || is_other(&d->w)) return;
    batch b = make_batch(d, m, bf, 0);
    const uint32_t most = one_plan_of > 1 ? 8 : 31;     /* warps; searching for races is slow    */
    for (uint32_t nt = 1; nt <= 4; nt *= 2)
        for (uint32_t wr = 1; wr <= 7; wr += wr < 4 ? 1 : 3)
            for (uint32_t wk = 1; wk * wr <= most; wk += wk < 4 ? 1 : 4)
                for (uint32_t splits = 1; splits <= 2; splits++)
                    for (uint32_t per_sm = 1; per_sm <= 3; per_sm++) {
                        /* clusters are slowest there; per_sm is the ring's length             */
                        const bool slow = per_sm != 2 || (splits > 1 && wr * wk > 2);
                        if (one_plan_of > 1 && slow) continue;
                        quant__plan p = {nt, wr, wk, splits, 0, 0, 0, 0, 0, 0, 0, 0, per_sm};
                        if (!stream_plan(&p, &gpu, &d->w, m)) continue;
                        char text[96];
                        snprintf(text, sizeof text, "stream nt%u wr%u wk%u splits%u stages%u", nt,
                                 wr, wk, splits, p.stages);
                        gpu.flags = per_sm == 2 ? QUANT_CUDA_OVERLAP : 0;   /* grids filled up   */
                        run_plan(d, &b, p, text);
                        gpu.flags = 0;
                    }
    free_batch(&b);
}

/* The same for the wgmma kernel */
static void test_wide_plans(const on_device *d, size_t m, int bf)
{
    static const uint32_t ts[8] = {16, 32, 48, 64, 96, 128, 192, 256}, ss[6] = {0, 1, 2, 3, 4, 8};
    if (!gpu.tensor_map || d->w.ordered || is_other(&d->w)) return;
    batch b = make_batch(d, m, bf, 0);
    for (int i = 0; i < 8; i++)
        for (uint32_t rt = 4; rt <= 8; rt += 2)
            for (int s = 0; s < 6; s++) {
                std::vector<uint16_t> before;
                for (uint32_t per_sm = 1; per_sm <= W_SWAP; per_sm++) {
                    quant__plan p;
                    char text[96];
                    if (!wide_plan(&p, &gpu, &d->w, m, ts[i], rt, ss[s], per_sm)) continue;
                    size_t tiles = plan_rows(p, &d->w) * plan_tokens(p, m);
                    /* fewer blocks than tiles: each has several in turn                        */
                    if (per_sm == 2 && ss[s] <= 1)
                        wide_share_out(&p, tiles, (d->w.cols + 127) / 128, 3 + (size_t)i % 3,
                                       ss[s] == 0);
                    if (plan_workspace(p, &d->w, m) > d->space_size) continue;
                    snprintf(text, sizeof text, "wide t%u rt%u splits%u stages%u%s", ts[i], rt,
                             ss[s], p.stages, per_sm == W_SWAP ? " swap" : "");
                    /* whoever adds up a shared tile, and wherever, the bytes are the same */
                    if (ss[s] < 2) before.clear();
                    for (int twice = 0; twice < (ss[s] == 0 ? 2 : 1); twice++) {
                        if (!run_plan(d, &b, p, text)) continue;
                        const std::vector<uint16_t> now(b.host, b.host + m * b.ldy);
                        if (before.size()) count(now == before, "same bytes", text);
                        before = now;
                    }
                }
            }
    free_batch(&b);
}

static void test_bias(on_device *d)
{
    static const size_t ms[] = {1, 7, 16, 40, 128, 300};
    for (size_t i = 0; i < (small ? 3 : 6); i++)
        for (int bf = 0; bf < 2; bf++) {
            batch b = make_batch(d, ms[i], bf, 0);
            d->w.bias = d->bias[bf];
            run(d, &b, "bias");
            gpu.flags = QUANT_CUDA_PLAIN;
            run(d, &b, "bias, plain");
            gpu.flags = 0;
            test_wide_plans(d, ms[i], bf);
            test_stream_plans(d, ms[i], bf);
            d->w.bias = NULL;
            free_batch(&b);
        }
}

/* A graph of calls, replayed seven times: the same bytes each time. */
static void test_replays(const on_device *d, size_t m, int overlap)
{
    batch b = make_batch(d, m, 0, 0);
    size_t n = m * b.ldy;
    uint16_t *first = (uint16_t *)malloc(n * 2);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    quant_cuda_device with = gpu;
    bool ok = true;
    with.flags = overlap ? QUANT_CUDA_OVERLAP : 0;
    CUDA(cudaStreamCreate(&stream));
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < 20; i++)
        ok = ok && !quant_cuda_matmul(&with, &d->w, b.y, b.ldy, b.x, b.ldx, m, QUANT_F16, d->space,
                                      d->space_size, stream, NULL);
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 7; i++) {
        poison(&b);
        CUDA(cudaDeviceSynchronize());
        CUDA(cudaGraphLaunch(exec, stream));
        CUDA(cudaStreamSynchronize(stream));
        check(&b, d, "replay");
        if (i == 0) memcpy(first, b.host, n * 2);
        ok = ok && memcmp(first, b.host, n * 2) == 0;
    }
    count(ok, "replays differ", d->src.name);
    CUDA(cudaGraphExecDestroy(exec));
    CUDA(cudaGraphDestroy(graph));
    CUDA(cudaStreamDestroy(stream));
    free(first);
    free_batch(&b);
}

/* Batch-invariant mode: the first row is the same whatever the number of tokens. */
static void test_invariant(const on_device *d, int bf)
{
    static const size_t ms[] = {1, 2, 7, 8, 9, 16, 17, 33, 64, 65, 100, 129, 200, 300};
    const size_t n = sizeof ms / sizeof *ms, rows = d->w.rows;
    batch b = make_batch(d, ms[n - 1], bf, 0);
    const size_t all = b.m;
    uint16_t *first = (uint16_t *)malloc(rows * 2);
    quant_cuda_device with = gpu;
    for (int old = 0; old < 2; old++) {
        if (old) with.tensor_map = NULL;
        with.flags = QUANT_CUDA_INVARIANT;
        for (size_t i = 0; i < n; i++) {
            poison(&b);
            b.m = b.each = ms[i];
            if (quant_cuda_matmul(&with, &d->w, b.y, b.ldy, b.x, b.ldx, b.m,
                                  bf ? QUANT_BF16 : QUANT_F16, d->space, d->space_size, NULL,
                                  NULL)) count(false, "invariant", d->src.name);
            check(&b, d, "invariant");
            b.m = all;
            if (i == 0) memcpy(first, b.host, rows * 2);
            char text[96];
            snprintf(text, sizeof text, "%s M=%zu %s", d->src.name, ms[i], old ? "mma" : "wgmma");
            count(memcmp(first, b.host, rows * 2) == 0, "invariant", text);
        }
    }
    free(first);
    free_batch(&b);
}

/* Three streams at once, each with a workspace of its own */
static void test_streams(const on_device *d, size_t m)
{
    cudaStream_t streams[3];
    batch b[3];
    void *space[3];
    const size_t size = quant_cuda_workspace_size(&gpu, &d->w);
    quant_cuda_device with = gpu;
    with.flags = QUANT_CUDA_OVERLAP;
    for (int i = 0; i < 3; i++) {
        CUDA(cudaStreamCreate(&streams[i]));
        b[i] = make_batch(d, m + (size_t)i, 0, 0);
        poison(&b[i]);
        CUDA(cudaMalloc(&space[i], size + 16));
        CUDA(cudaMemset(space[i], 0, size + 16));
    }
    CUDA(cudaDeviceSynchronize());
    for (int n = 0; n < 20; n++)
        for (int i = 0; i < 3; i++)
            if (quant_cuda_matmul(&with, &d->w, b[i].y, b[i].ldy, b[i].x, b[i].ldx, b[i].m,
                                  QUANT_F16, space[i], size, streams[i], NULL))
                count(false, "streams", d->src.name);
    CUDA(cudaDeviceSynchronize());
    for (int i = 0; i < 3; i++) {
        check(&b[i], d, "streams");
        free_batch(&b[i]);
        CUDA(cudaFree(space[i]));
        CUDA(cudaStreamDestroy(streams[i]));
    }
}

static void test_arguments(const on_device *d)
{
    batch b = make_batch(d, 2, 0, 0);
    quant_error err;
    quant_cuda_matrix w = d->w;
    uint8_t *y = (uint8_t *)b.y, *x = (uint8_t *)b.x;
#define BAD(result, ...) count(quant_cuda_matmul(__VA_ARGS__, d->space, d->space_size, NULL, &err) \
                             == result && err.code == result, "argument", #__VA_ARGS__)
    BAD(QUANT_E_ARG, &gpu, &w, y, b.ldy, x, b.ldx, 0, QUANT_F16);
    BAD(QUANT_E_ARG, &gpu, &w, y + 2, b.ldy, x, b.ldx, 2, QUANT_F16);
    BAD(QUANT_E_ARG, &gpu, &w, y, b.ldy, x + 8, b.ldx, 2, QUANT_F16);
    BAD(QUANT_E_ARG, &gpu, &w, y, b.ldy, x, w.cols - 8, 2, QUANT_F16);
    BAD(QUANT_E_ARG, &gpu, &w, y, b.ldy + 4, x, b.ldx, 2, QUANT_F16);
    BAD(QUANT_E_TYPE, &gpu, &w, y, b.ldy, x, b.ldx, 2, QUANT_F32);
    w.data = NULL;
    BAD(QUANT_E_ARG, &gpu, &w, y, b.ldy, x, b.ldx, 2, QUANT_F16);
    free_batch(&b);
}

static void test_device(void)
{
    static const size_t shapes[][2] = {{8, 32}, {8, 64}, {16, 96}, {40, 160}, {72, 416}, {256, 256},
        {264, 4096}, {2880, 2880}, {7392, 1024}, {1024, 10944}, {4096, 4096}};
    static const size_t ms[] = {1, 2, 3, 5, 8, 9, 16, 17, 31, 32, 33, 48, 64, 65, 100, 130};
    const size_t n_shapes = small ? 5 : sizeof shapes / sizeof *shapes;
    for (size_t i = 0; i < n_shapes; i++)
        for (int k = 0; k < N_KINDS; k++)
            for (size_t g = 0; g < 4; g++) {
                size_t n = shapes[i][0], cols = shapes[i][1];
                static const size_t groups[4] = {128, 32, 64, 0};
                if (is_gguf((kind)k) && groups[g] != 32) continue;
                if (is_super((kind)k) && cols % 256) continue;
                if (i >= 6 && g >= 2 && k != GPTQ_V1 && k != GPTQ_SYM) continue;
                on_device d = upload((kind)k, n, cols, groups[g]);
                for (size_t m = 0; m < sizeof ms / sizeof *ms; m++) {
                    if ((i >= 6 || small) && (m + i + (size_t)k + g) % 4) continue;
                    for (int bf = 0; bf < 2; bf++) {
                        batch b = make_batch(&d, ms[m], bf, 0);
                        run(&d, &b, "auto");
                        free_batch(&b);
                    }
                }
                for (int v = 0; v < 4 && i < 6; v++) {      /* the kernels for every device      */
                    if (v != ((int)g & 1) && !is_other(&d.w)) continue;
                    batch b = make_batch(&d, v < 2 ? 3 : 1, v & 1, 0);
                    gpu.flags = QUANT_CUDA_PLAIN;
                    run(&d, &b, "plain");
                    gpu.flags = 0;
                    free_batch(&b);
                }
                drop(&d);
            }
    test_codes();
    for (int k = IQ4_NL; k < N_KINDS; k++)      /* always invariant; of bf16 1,000 numbers each */
        for (int bf = 0; bf < 2; bf++) {
            on_device o = upload((kind)k, bf ? 1000 : 104, bf ? 256 : 768, 32);
            test_invariant(&o, bf);
            drop(&o);
        }
    on_device d = upload(GPTQ_SYM, 264, small ? 512 : 2880, 128);
    test_arguments(&d);
    for (size_t m = 1; m <= (small ? 3 : 130); m++) {
        batch b = make_batch(&d, m, 0, 0);
        run(&d, &b, "every M");
        free_batch(&b);
    }
    test_plans(&d, small ? 3 : 6, 0);
    test_wide_plans(&d, small ? 21 : 70, 0);
    test_stream_plans(&d, small ? 21 : 70, 0);
    test_bias(&d);
    if (!small) {
        test_wide_plans(&d, 257, 1);
        test_stream_plans(&d, 257, 1);
        test_wide_plans(&d, 600, 0);
        test_stream_plans(&d, 600, 0);
        test_plans(&d, 70, 0);
        test_plans(&d, 21, 1);
        static const size_t large[] = {192, 333, 512, 1024, 2049, 4096};
        for (size_t i = 0; i < 6; i++) {
            batch b = make_batch(&d, large[i], 0, 0);
            run(&d, &b, "large M");
            free_batch(&b);
        }
    }
    drop(&d);
    if (!small) for (int k = 0; k < N_KINDS; k++) {
        d = upload((kind)k, 1024, 2048, is_gguf((kind)k) ? 32 : 128);
        test_plans(&d, 11, k & 1);
        test_wide_plans(&d, 75, k & 1);
        test_stream_plans(&d, 75, k & 1);
        for (size_t m = 1; m <= 64; m *= 4) {       /* activations that are not centred          */
            batch b = make_batch(&d, m, 0, 3);
            run(&d, &b, "mean 3");
            free_batch(&b);
        }
        test_invariant(&d, k & 1);
        for (size_t m = 1; m <= 512; m *= 8) test_streams(&d, m);
        for (size_t m = 1; m <= 512; m *= 2) test_replays(&d, m, (int)(m & 0x55) != 0);
        drop(&d);
    }
    if (!small) {                       /* groups of which a unit has several, cut last units    */
        static const size_t groups[3] = {32, 64, 0};
        for (int k = 0; k < 3; k++) {
            d = upload(GPTQ_V1, 328, 1888, groups[k]);
            test_wide_plans(&d, 37, k & 1);
            test_stream_plans(&d, 37, k & 1);
            drop(&d);
        }
    }
    for (int k = 0; small && k < 2; k++) {      /* the last unit is cut                          */
        d = upload(GPTQ_V1, 72, 1888, k ? 0 : 32);
        test_stream_plans(&d, 5 + 8 * (size_t)k, k);
        drop(&d);
    }
    d = upload(GPTQ_SYM, small ? 264 : 4096, small ? 512 : 4096, 128);
    for (size_t m = 1; m <= 256; m *= 4)
        for (int overlap = 0; overlap < 2; overlap++) test_replays(&d, m, overlap);
    drop(&d);
}

/* Every kernel once or more, on matrices whose columns go around the rings several times: for a
 * search of races, which is slow. */
static void test_races(void)
{
    one_plan_of = 9;
    gpu.sms = 3;                        /* grids that are filled up, or shared out, stay small  */
    for (int i = 0; i < 2; i++) {
        on_device d = upload(i ? GPTQ_V1 : GPTQ_SYM, 72, 672, i ? 32 : 128);
        test_plans(&d, i ? 3 : 21, i);
        test_wide_plans(&d, i ? 70 : 21, i);
        test_stream_plans(&d, i ? 70 : 21, i);
        test_invariant(&d, 0);
        drop(&d);
    }
    for (int k = 0; k < N_KINDS; k++) {
        on_device d = upload((kind)k, 40, 768, is_gguf((kind)k) ? 32 : 128);
        for (size_t m = 1; m <= 50; m *= 7)
            for (int plain = 0; plain < 2; plain++) {
                batch b = make_batch(&d, m, k & 1, 0);
                gpu.flags = plain ? QUANT_CUDA_PLAIN : QUANT_CUDA_OVERLAP;
                run(&d, &b, "races");
                gpu.flags = 0;
                free_batch(&b);
            }
        drop(&d);
    }
}

int main(int argc, char **argv)
{
    quant_error err;
    small = argc > 1 && !strcmp(argv[1], "small");
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int k = 0; k < N_KINDS; k++) {
        test_pack((kind)k, 8, 256, is_gguf((kind)k) ? 32 : 128);
        test_pack((kind)k, 104, 768, is_gguf((kind)k) ? 32 : 0);
        test_pack((kind)k, 40, is_gguf((kind)k) ? 1024 : 416, is_gguf((kind)k) ? 32 : 128);
        if (is_gguf((kind)k)) continue;
        test_pack((kind)k, 24, 352, 64);
        test_pack((kind)k, 72, 96, 32);
    }
    char text[40];
    snprintf(text, sizeof text, "hash %016llx", (unsigned long long)packed_hash);
    count(packed_hash == PACKED_HASH, "packed bytes", text);
    test_pack_status();
    test_errors();
    printf("host: %d passed, %d failed\n", passed, failed);
    if (quant_cuda_query(&gpu, &err)) {
        printf("SKIPPED: no CUDA device (%s): nothing was run on a GPU\n", err.what);
        skipped++;
    } else {
        /* a checker of races does not follow shared memory from block to block of a cluster */
        if (argc > 2 && !strcmp(argv[2], "nocluster")) gpu.capability = 80;
        if (argc > 1 && !strcmp(argv[1], "races")) test_races();
        else test_device();
    }
    if (gpu.sms) printf("largest relative error: fp16 %.2e, bf16 %.2e\n", worst[0], worst[1]);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}

#ifdef QUANT_CUDA_EMULATE
/* Which kernel takes what */
template <int BF, int BIG, int SUB> static bool is_wide_of(const void *k)
{
    for (uint32_t t = 16; t <= 256; t += 16)
        for (uint32_t rt = 4; rt <= 8; rt += 2)
            if (wide_kernel<BF, BIG, SUB>(t, rt) == k) return true;
    return false;
}
static bool is_wide(const void *k)
{
    return is_wide_of<0, 0, 0>(k) || is_wide_of<0, 0, 1>(k) || is_wide_of<0, 1, 0>(k)
           || is_wide_of<0, 1, 1>(k) || is_wide_of<1, 0, 0>(k) || is_wide_of<1, 0, 1>(k)
           || is_wide_of<1, 1, 0>(k) || is_wide_of<1, 1, 1>(k);
}
template <int BF, int TPG> static bool is_stream_of(const void *k)
{
    for (uint32_t nt = 1; nt <= 4; nt *= 2)
        for (uint32_t zero = 0; zero < 3; zero++)
            if (stream_of<BF, TPG>(nt, zero) == k) return true;
    return false;
}
static bool is_stream(const void *k)
{
    return is_stream_of<0, 0>(k) || is_stream_of<0, 4>(k) || is_stream_of<1, 0>(k)
           || is_stream_of<1, 4>(k);
}
template <class... A, size_t... I>
static std::function<void()> bind_to(void (*f)(A...), void **args, std::index_sequence<I...>)
{
    const std::tuple<std::decay_t<A>...> copy(*(std::decay_t<A> *)args[I]...);
    return [=] { std::apply(f, copy); };
}
template <class... A> static std::function<void()> bind_to(void (*f)(A...), void **args)
{
    return bind_to(f, args, std::index_sequence_for<A...>());
}
static std::function<void()> emu_bind(const void *k, void **args)
{
    if (k == (const void *)reference) return bind_to(reference, args);
    if (k == (const void *)code_table) return bind_to(code_table, args);
    if (k == (const void *)quant__gather_kernel) return bind_to(quant__gather_kernel, args);
    if (k == (const void *)quant__pack_order_kernel || k == (const void *)quant__pack_gain_kernel
        || k == (const void *)quant__pack_word_kernel)
        return bind_to((void (*)(quant__pack_job))k, args);
    if (k == (const void *)quant__plain_kernel<0> || k == (const void *)quant__plain_kernel<1>)
        return bind_to((void (*)(quant__job, uint32_t))k, args);
    if (is_stream(k)) return bind_to((void (*)(quant__stream_job))k, args);
    if (is_wide(k)) return bind_to((void (*)(quant__wide_job))k, args);
    return bind_to((void (*)(quant__job))k, args);
}
#endif
