/* Times quant_cuda.cu against cuBLAS fp16 and against a kernel that only reads the same bytes.
 *   make cuda && build/cuda_bench [options] [N,K ...] [tokens ...]
 *     N,K      rows and columns, multiples of 32 and 128, instead of the six shapes
 *     sweep    tries every shape of block and prints the fastest (what make_plan was made from)
 *     stream   the same for the stream kernel
 *     wide     the same for the wgmma kernel (what wide_costs was fitted to)
 *     model    the linear layers of Qwen2.5-32B at 1, 8, 32 and 64 sequences, tokens a second
 *     plain    without QUANT_CUDA_OVERLAP        zp    with zero points        bf16
 *     iq4nl q6k q8    other codes than 4-bit numbers
 *     quick    medians of 5 replays instead of 9
 * Method: a CUDA graph of back-to-back calls that rotate over more than 300 MB of packed weights
 * (five times the L2, so that weights come from memory), medians of 9 replays, random data, fp16,
 * group 128.  cuBLAS and the read kernel are timed the same way in the same run.
 * Columns: shape N,K; M tokens; us a call; TB/s of packed weights; TFLOP/s; time of cuBLAS over
 * ours; ours over the pure read; the larger of bytes / 4.3 TB/s and operations / 790 TFLOP/s over
 * ours. */
#define QUANT_API extern "C" __attribute__((weak))      /* the library's are called             */
#define QUANT_CUDA_LINKED
#include "../quant_cuda.cu"
#include <algorithm>
#include <cublas_v2.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <vector>

#define CUDA(call) do { cudaError_t e_ = (call); if (e_ != cudaSuccess) { \
    printf("%s:%d %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(e_)); \
    exit(1); } } while (0)

static quant_cuda_device gpu;
static cudaStream_t stream;
static int replays = 9;
static uint32_t other;              /* bits of other codes, 0: none                              */

__global__ void fill_random(uint32_t *p, size_t n, uint32_t seed)
{
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    for (; i < n; i += (size_t)gridDim.x * blockDim.x) {
        uint64_t x = (i + ((uint64_t)seed << 40)) * 0x9e3779b97f4a7c15u;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        p[i] = (uint32_t)(x >> 16);
    }
}
/* Half floats or bfloat16: uniform in +-2 and never NaN or infinite */
__global__ void fill_values(uint16_t *p, size_t n, uint32_t seed, int bf, float scale)
{
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    for (; i < n; i += (size_t)gridDim.x * blockDim.x) {
        uint64_t x = (i + ((uint64_t)seed << 40)) * 0x9e3779b97f4a7c15u;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        float v = ((float)(x >> 40) / 8388608.0f - 1) * scale;
        if (bf) p[i] = __bfloat16_as_ushort(__float2bfloat16_rn(v));
        else p[i] = __half_as_ushort(__float2half_rn(v));
    }
}

__global__ void fill_gains(float *p, size_t n)
{
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    for (; i < n; i += (size_t)gridDim.x * blockDim.x) p[i] = 1;
}

/* Eight independent 16-byte loads a thread, 64 KiB a block: as fast as a pure read was seen. */
__global__ void __launch_bounds__(512) read_all(const uint4 *p, size_t n, uint32_t *out)
{
    size_t i = (size_t)blockIdx.x * 4096 + threadIdx.x;
    uint4 v[8];
    uint32_t sum = 0;
#pragma unroll
    for (int a = 0; a < 8; a++) {
        v[a] = make_uint4(0, 0, 0, 0);
        if (i + a * 512 < n)
            asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                         : "=r"(v[a].x), "=r"(v[a].y), "=r"(v[a].z), "=r"(v[a].w)
                         : "l"(p + i + a * 512));
    }
#pragma unroll
    for (int a = 0; a < 8; a++) sum ^= v[a].x ^ v[a].y ^ v[a].z ^ v[a].w;
    if (sum == 0x12345678) *out = sum;
}

/* Microseconds a call of `call(i)`, in a graph of n calls */
template <class F> static double time_calls(int n, F call, int times)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t a, b;
    std::vector<float> ms;
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < n; i++) call(i);
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CUDA(cudaEventCreate(&a));
    CUDA(cudaEventCreate(&b));
    for (int i = 0; i <= times; i++) {
        float t;
        CUDA(cudaEventRecord(a, stream));
        CUDA(cudaGraphLaunch(exec, stream));
        CUDA(cudaEventRecord(b, stream));
        CUDA(cudaEventSynchronize(b));
        CUDA(cudaEventElapsedTime(&t, a, b));
        if (i) ms.push_back(t);                 /* the first one warms up                      */
    }
    std::sort(ms.begin(), ms.end());
    CUDA(cudaEventDestroy(a));
    CUDA(cudaEventDestroy(b));
    CUDA(cudaGraphExecDestroy(exec));
    CUDA(cudaGraphDestroy(graph));
    return ms[ms.size() / 2] * 1000.0 / n;
}

struct shape {
    size_t n, k;
    quant_cuda_matrix w;
    std::vector<void *> copies, dense;
};

static void make_weights(shape *s, bool zp)
{
    quant_cuda_source src = {};
    uint16_t one = 0;
    src.format = QUANT_CUDA_GPTQ_V2;
    src.rows = 8;
    src.cols = 32;
    uint32_t dummy[32] = {};
    uint16_t scales[8] = {one};
    src.data = dummy;
    src.scales = scales;
    if (quant_cuda_matrix_init(&s->w, &src, NULL)) exit(1);
    s->w.rows = s->n;
    s->w.cols = s->k;
    s->w.group = 128;
    s->w.zero = zp ? QUANT_CUDA_ZERO_POINT : QUANT_CUDA_SYMMETRIC;
    s->w.factor = 1.0f / 65536;
    if (other) {
        s->w.bits = other;
        s->w.group = other == 6 ? 16 : 32;
        s->w.zero = other == 4 ? QUANT_CUDA_TABLE : QUANT_CUDA_SYMMETRIC;
    }
    size_t tiles = row_tiles(&s->w) * col_tiles(&s->w) * tile_bytes(&s->w);
    s->w.size = packed_size(&s->w);
    size_t n = std::max((size_t)2, ((size_t)320 << 20) / s->w.size + 1);
    for (size_t i = 0; i < n; i++) {
        void *p;
        CUDA(cudaMalloc(&p, s->w.size));
        fill_random<<<1024, 256>>>((uint32_t *)p, tiles / 4, (uint32_t)i);
        /* with zero points the bytes between the scales are small numbers, too: fine             */
        fill_values<<<256, 256>>>((uint16_t *)((uint8_t *)p + tiles), (s->w.size - tiles) / 2,
                                  (uint32_t)i + 77, 0, 256);
        fill_gains<<<64, 256>>>((float *)((uint8_t *)p + s->w.size) - s->n, s->n);
        s->copies.push_back(p);
    }
    size_t bytes = s->n * s->k * 2;
    n = std::max((size_t)2, ((size_t)320 << 20) / bytes + 1);
    for (size_t i = 0; i < n; i++) {
        void *p;
        CUDA(cudaMalloc(&p, bytes));
        fill_values<<<1024, 256>>>((uint16_t *)p, s->n * s->k, (uint32_t)i + 7, 0, 0.05f);
        s->dense.push_back(p);
    }
    CUDA(cudaDeviceSynchronize());
}
static void free_weights(shape *s)
{
    for (void *p : s->copies) CUDA(cudaFree(p));
    for (void *p : s->dense) CUDA(cudaFree(p));
    s->copies.clear();
    s->dense.clear();
}

static int calls_for(const shape &s, double us)
{
    int n = (int)s.copies.size();
    if (us > 400) return std::min(n, 4);
    while (n * us < 700) n += (int)s.copies.size();
    return n;
}

static double time_plan(const shape &s, const quant__plan &p, void *y, const void *x, size_t m,
                        quant_type act, void *space, double guess, int times)
{
    return time_calls(calls_for(s, guess), [&](int i) {
        quant_cuda_matrix w = s.w;
        w.data = s.copies[i % s.copies.size()];
        CUDA(launch(p, &gpu, &w, y, s.n, x, s.k, m, act, space, stream));
    }, times);
}

struct result { double us; quant__plan p; };
static void print_best(const shape &s, size_t m, double read_us, const result &now,
                       std::vector<result> *all)
{
    std::sort(all->begin(), all->end(),
              [](const result &a, const result &b) { return a.us < b.us; });
    printf("%zu,%zu\t%zu\tread %.2f\tplan %.2f (nt%u wr%u wk%u s%u o%u)", s.n, s.k, m, read_us,
           now.us, now.p.nt, now.p.wr, now.p.wk, now.p.splits, now.p.stream);
    for (size_t i = 0; i < all->size() && i < 8; i++) {
        const quant__plan &p = (*all)[i].p;
        printf("\t%.2f nt%u wr%u wk%u s%u o%u", (*all)[i].us, p.nt, p.wr, p.wk, p.splits, p.stream);
    }
    printf("\n");
    fflush(stdout);
}

/* Every shape of block of the mma.sync kernel, or of the stream kernel */
static void sweep(const shape &s, void *y, const void *x, size_t m, quant_type act, void *space,
                  double read_us, bool stream_kernel)
{
    std::vector<result> all;
    const uint32_t nt0 = m <= 8 ? 1 : m <= 16 ? 2 : 4;
    const uint32_t nt1 = m <= 16 ? nt0 : m <= 32 || stream_kernel ? 4 : 8;
    auto add = [&](const quant__plan &p) {
        result r = {time_plan(s, p, y, x, m, act, space, 2 * read_us, 3), p};
        all.push_back(r);
    };
    for (uint32_t nt = nt0; nt <= nt1; nt *= 2)
        for (uint32_t wr = 1; wr <= 16; wr += wr < 8 ? 1 : 8)
            for (uint32_t wk = 1; wk * wr <= 31; wk++)
                for (uint32_t splits = 1; splits <= 4; splits++)
                    for (uint32_t per_sm = 0; per_sm <= 6; per_sm++) {
                        quant__plan p = {nt, wr, wk, splits, splits > 1, 0, 0, 0, 0, 0, 0, 0,
                                         per_sm};
                        uint32_t warps = wr * wk;
                        if (stream_kernel != (per_sm > 0)) continue;
                        size_t blocks = plan_rows(p, &s.w) * plan_tokens(p, m) * splits;
                        if (blocks < gpu.sms * 3 / 4 || (splits > 1 && blocks > 3 * gpu.sms))
                            continue;
                        if (stream_kernel) {
                            if (splits > 2 || warps * per_sm < 7) continue;
                            if (blocks > 4 * gpu.sms * per_sm) continue;
                            if (stream_plan(&p, &gpu, &s.w, m)) add(p);
                            continue;
                        }
                        if (warps < 5 || warps > (nt <= 2 ? 16u : 8u)) continue;
                        if (nt == 8 && act == QUANT_BF16) continue;
                        p.shared = plan_shared(p, &gpu, &s.w, m);
                        if (p.shared + Q_FIXED <= gpu.shared) add(p);
                    }
    quant__plan p = make_plan(&gpu, &s.w, m, act);
    result r = {time_plan(s, p, y, x, m, act, space, 2 * read_us, 3), p};
    print_best(s, m, read_us, r, &all);
}

/* Every shape of the wgmma kernel; all are printed */
static void sweep_wide(const shape &s, void *y, const void *x, size_t m, quant_type act,
                       void *space, double read_us)
{
    static const uint32_t ts[8] = {16, 32, 48, 64, 96, 128, 192, 256};
    struct wide_result { double us; quant__plan p; uint32_t per_sm; };
    std::vector<wide_result> all;
    uint32_t first = 0;
    while (first < 7 && ts[first] < m) first++;
    for (uint32_t i = 0; i < 8; i++) {
        size_t padded = (m + ts[i] - 1) / ts[i] * ts[i];
        if (i > first + 1 || (m > ts[i] && (ts[i] < 64 || padded * 3 > m * 4))) continue;
        if (m < ts[i] && i != first && i != first + 1) continue;
        for (uint32_t rt = 4; rt <= 8; rt += 2)
            for (uint32_t splits = 0; splits <= 8; splits++)
                for (uint32_t per_sm = 1; per_sm <= W_SWAP; per_sm++) {
                    quant__plan p;
                    if (per_sm > 1 && per_sm < W_SWAP
                        && wide_blocks((int)ts[i], (int)rt) == 1) continue;
                    if (!wide_plan(&p, &gpu, &s.w, m, ts[i], rt, splits, per_sm)) continue;
                    size_t tiles = plan_rows(p, &s.w) * plan_tokens(p, m);
                    if (splits > 1 && tiles * (splits - 1) > 4 * gpu.sms) continue;
                    if (splits && tiles * splits < gpu.sms / 2) continue;
                    double guess = std::max(2 * read_us, 2.0 * s.n * s.k * m / 6e8);
                    wide_result r = {time_plan(s, p, y, x, m, act, space, guess, 3), p, per_sm};
                    all.push_back(r);
                    printf("all\t%zu,%zu\t%zu\t%u\t%u\t%u\t%u\t%u\t%.2f\n", s.n, s.k, m, ts[i],
                           rt, splits, per_sm, p.stages, r.us);
                }
    }
    quant__plan p = make_plan(&gpu, &s.w, m, act);
    wide_result r = {time_plan(s, p, y, x, m, act, space, 2 * read_us, 3), p, 0};
    std::sort(all.begin(), all.end(),
              [](const wide_result &a, const wide_result &b) { return a.us < b.us; });
    printf("best\t%zu,%zu\t%zu\tread %.2f\tplan %.2f", s.n, s.k, m, read_us, r.us);
    for (size_t i = 0; i < all.size() && i < 4; i++)
        printf("\t%.2f t%u rt%u s%u o%u", all[i].us, all[i].p.wide, all[i].p.rt,
               all[i].p.whole < plan_rows(all[i].p, &s.w) * plan_tokens(all[i].p, m)
               && all[i].p.splits == 1 ? 0 : all[i].p.splits, all[i].per_sm);
    printf("\n");
}

/* The whole matrix as half floats, the plain way: what "dequantize, then GEMM" does each time */
__global__ void unpack(quant__job j, __half *to, size_t cols)
{
    const size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x, row = i / (cols / 8);
    const size_t col = i % (cols / 8) * 8, rt = row / 32, m = row % 32 / 16, g = row % 8;
    if (row >= j.rows) return;
    const uint8_t *tile = j.tiles + (rt * j.kt + col / 32) * Q_TILE_BYTES;
    const uint8_t *rec = j.recs + (rt * j.n_recs + col / 128) * record_bytes(0);
    const float s = half_value(((const uint16_t *)rec)[g * 4 + row % 32 / 8]) * j.gains[row];
    const uint32_t shift = 4 * (row / 8 % 2 + 2 * (col / 8 % 2));
    for (int k = 0; k < 8; k += 2) {
        uint32_t w = ((const uint32_t *)tile)[(g * 4 + k / 2) * 4 + 2 * m + col % 32 / 16] >> shift;
        *(__half2 *)(to + row * cols + col + k)
            = __floats2half2_rn(((float)(w & 15) - 8) * s, ((float)(w >> 16 & 15) - 8) * s);
    }
}

/* A decoding step of Qwen2.5-32B: hidden 5120, 64 layers, 40 and 8 heads of 128, ffn 27648; its
 * linear layers only, each timed as the others are */
static void model(cublasHandle_t blas, void *y, const void *x, void *space, size_t space_size)
{
    static const size_t layers[4][2] = {{7168, 5120}, {5120, 5120}, {55296, 5120}, {5120, 27648}};
    static const size_t ms[4] = {1, 8, 32, 64};
    double us[4][3] = {};
    const float one = 1, none = 0;
    for (int l = 0; l < 4; l++) {
        shape s = {layers[l][0], layers[l][1], {}, {}, {}};
        make_weights(&s, false);
        void *dense;
        CUDA(cudaMalloc(&dense, s.n * s.k * 2));
        for (int i = 0; i < 4; i++) {
            const size_t m = ms[i];
            auto gemm = [&](const void *w) {
                if (cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)s.n, (int)m, (int)s.k, &one,
                                 w, CUDA_R_16F, (int)s.k, x, CUDA_R_16F, (int)s.k, &none, y,
                                 CUDA_R_16F, (int)s.n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT))
                    exit(1);
            };
            us[i][0] += 64 * time_calls(calls_for(s, 40), [&](int c) {
                quant_cuda_matrix w = s.w;
                w.data = s.copies[c % s.copies.size()];
                if (quant_cuda_matmul(&gpu, &w, y, s.n, x, s.k, m, QUANT_F16, space, space_size,
                                      stream, NULL)) exit(1);
            }, replays);
            us[i][1] += 64 * time_calls(calls_for(s, 100), [&](int c) {
                gemm(s.dense[c % s.dense.size()]);
            }, replays);
            us[i][2] += 64 * time_calls(calls_for(s, 200), [&](int c) {
                quant_cuda_matrix w = s.w;
                quant__job j;
                w.data = s.copies[c % s.copies.size()];
                fill_job(&j, make_plan(&gpu, &w, 1, QUANT_F16), &w, y, s.n, x, s.k, m, NULL);
                unpack<<<(unsigned)((s.n * s.k / 8 + 255) / 256), 256, 0, stream>>>(
                    j, (__half *)dense, s.k);
                gemm(dense);
            }, replays);
        }
        CUDA(cudaFree(dense));
        free_weights(&s);
    }
    printf("sequences\tours tok/s\tcublas tok/s\tunpack+gemm tok/s\tx_cublas\tx_unpack\n");
    for (int i = 0; i < 4; i++)
        printf("%zu\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\n", ms[i], ms[i] / us[i][0] * 1e6,
               ms[i] / us[i][1] * 1e6, ms[i] / us[i][2] * 1e6, us[i][1] / us[i][0],
               us[i][2] / us[i][0]);
}

/* One plan, a few launches: for a profiler.  p.wide 0: what make_plan says */
static int run_one(char **v)
{
    shape s = {(size_t)atoi(v[0]), (size_t)atoi(v[1]), {}, {}, {}};
    size_t m = (size_t)atoi(v[2]);
    void *x, *y, *space;
    make_weights(&s, false);
    CUDA(cudaMalloc(&x, m * s.k * 2));
    CUDA(cudaMalloc(&y, m * s.n * 2));
    CUDA(cudaMalloc(&space, (size_t)64 << 20));
    CUDA(cudaMemset(space, 0, (size_t)64 << 20));
    fill_values<<<1024, 256>>>((uint16_t *)x, m * s.k, 5, 0, 2);
    quant__plan p = make_plan(&gpu, &s.w, m, QUANT_F16);
    if (atoi(v[3]) && !wide_plan(&p, &gpu, &s.w, m, (uint32_t)atoi(v[3]), (uint32_t)atoi(v[4]),
                                 (uint32_t)atoi(v[5]), (uint32_t)atoi(v[6]))) return 1;
    for (int i = 0; i < 5; i++) {
        s.w.data = s.copies[(size_t)i % s.copies.size()];
        CUDA(launch(p, &gpu, &s.w, y, s.n, x, s.k, m, QUANT_F16, space, 0));
    }
    CUDA(cudaDeviceSynchronize());
    return 0;
}

int main(int argc, char **argv)
{
    typedef std::pair<size_t, size_t> size_pair;
    std::vector<size_pair> shapes;
    bool do_sweep = false, do_wide = false, do_stream = false, zp = false, do_model = false;
    quant_type act = QUANT_F16;
    std::vector<size_t> ms;
    quant_error err;
    if (quant_cuda_query(&gpu, &err)) {
        printf("SKIPPED: no CUDA device (%s)\n", err.what);
        return 0;
    }
    gpu.flags = QUANT_CUDA_OVERLAP;
    if (argc == 9 && !strcmp(argv[1], "one")) return run_one(argv + 2);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "sweep")) do_sweep = true;
        else if (!strcmp(argv[i], "model")) do_model = true;
        else if (!strcmp(argv[i], "wide")) do_sweep = do_wide = true;
        else if (!strcmp(argv[i], "stream")) do_sweep = do_stream = true;
        else if (!strcmp(argv[i], "plain")) gpu.flags = 0;
        else if (!strcmp(argv[i], "zp")) zp = true;
        else if (!strcmp(argv[i], "iq4nl")) other = 4;
        else if (!strcmp(argv[i], "q6k")) other = 6;
        else if (!strcmp(argv[i], "q8")) other = 8;
        else if (!strcmp(argv[i], "bf16")) act = QUANT_BF16;
        else if (!strcmp(argv[i], "quick")) replays = 5;
        else if (const char *k = strchr(argv[i], ',')) {
            const int rows = atoi(argv[i]), cols = atoi(k + 1);
            shapes.push_back(size_pair(rows, cols));
            if (rows <= 0 || rows % 32 || cols <= 0 || cols % 128) {
                printf("%s: rows, a multiple of 32, and columns, of 128\n", argv[i]);
                return 1;
            }
        } else if (atoi(argv[i]) > 0) ms.push_back((size_t)atoi(argv[i]));
        else {
            printf("%s: unknown; the options stand at the top of tests/cuda_bench.cu\n", argv[i]);
            return 1;
        }
    }
    if (shapes.empty())
        shapes = {{4096, 4096}, {12288, 4096}, {4096, 11008}, {22016, 4096}, {28672, 8192},
                  {8192, 28672}};
    if (ms.empty()) ms = {1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 4096};
    size_t most = *std::max_element(ms.begin(), ms.end());
    void *x, *y, *space, *blas_space;
    size_t space_size = (size_t)256 << 20, blas_size = (size_t)64 << 20;
    cublasHandle_t blas;
    CUDA(cudaStreamCreate(&stream));
    size_t widest = (size_t)64 * 55296 * 2;         /* bytes of x and of y; the model's first    */
    for (const size_pair &p : shapes)
        widest = std::max(widest, most * std::max(p.first, p.second) * 2);
    CUDA(cudaMalloc(&x, widest));
    CUDA(cudaMalloc(&y, widest));
    CUDA(cudaMalloc(&space, space_size));
    CUDA(cudaMemset(space, 0, space_size));
    CUDA(cudaMalloc(&blas_space, blas_size));
    fill_values<<<1024, 256>>>((uint16_t *)x, widest / 2, 5, act == QUANT_BF16, 2);
    if (cublasCreate(&blas) || cublasSetStream(blas, stream)
        || cublasSetWorkspace(blas, blas_space, blas_size)) return 1;
    if (do_model) {
        model(blas, y, x, space, space_size);
        return 0;
    }
    if (!do_sweep) printf("shape\tM\tus\ttb_s\ttflops\tx_cublas\tx_read\tfrac_ideal\n");
    for (const size_pair &p : shapes) {
        shape s = {p.first, p.second, {}, {}, {}};
        make_weights(&s, zp);
        usleep(400 * 1000);         /* after long products the clocks stay low for a while       */
        size_t n16 = s.w.size / 16;
        double read_us = time_calls(calls_for(s, 20), [&](int c) {
            read_all<<<(unsigned)((n16 + 4095) / 4096), 512, 0, stream>>>(
                (const uint4 *)s.copies[c % s.copies.size()], n16, (uint32_t *)space);
        }, replays);
        CUDA(cudaMemset(space, 0, 256));
        for (size_t m : ms) {
            if (do_wide) {
                sweep_wide(s, y, x, m, act, space, read_us);
                continue;
            }
            if (do_sweep) {
                sweep(s, y, x, m, act, space, read_us, do_stream);
                continue;
            }
            double us = time_calls(calls_for(s, std::max(read_us, m * 0.2)), [&](int c) {
                quant_cuda_matrix w = s.w;
                w.data = s.copies[c % s.copies.size()];
                if (quant_cuda_matmul(&gpu, &w, y, s.n, x, s.k, m, act, space, space_size, stream,
                                      &err)) { printf("%s\n", err.what); exit(1); }
            }, replays);
            float one = 1, none = 0;
            cudaDataType_t type = act == QUANT_BF16 ? CUDA_R_16BF : CUDA_R_16F;
            double blas_us = time_calls(calls_for(s, std::max(4 * read_us, m * 0.2)), [&](int c) {
                if (cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)s.n, (int)m, (int)s.k, &one,
                                 s.dense[c % s.dense.size()], type, (int)s.k, x, type, (int)s.k,
                                 &none, y, type, (int)s.n, CUBLAS_COMPUTE_32F,
                                 CUBLAS_GEMM_DEFAULT)) exit(1);
            }, replays);
            double flop = 2.0 * s.n * s.k * m, bytes = s.w.size + 2.0 * m * (s.n + s.k);
            double ideal = std::max(bytes / 4.3e6, flop / 790e6);
            printf("%zu,%zu\t%zu\t%.2f\t%.2f\t%.1f\t%.2f\t%.2f\t%.2f\n", s.n, s.k, m, us,
                   s.w.size / us / 1e6, flop / us / 1e6, blas_us / us, us / read_us, ideal / us);
        }
        free_weights(&s);
    }
    return 0;
}
