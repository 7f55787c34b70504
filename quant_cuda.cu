/* quant_cuda.cu - products with 4-bit weights on NVIDIA GPUs.  The interface is section >>cuda of
 * quant.h; MIT licence, see LICENSE.
 *
 *   nvcc -O3 -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a \
 *        -gencode arch=compute_80,code=compute_80 -c quant_cuda.cu
 *
 * 1. The packed form.  One layout for every type: nibbles q with one record of scales for each
 *    group of columns.  The matrix is cut into tiles of 32 rows x 32 columns, 512 bytes each,
 *    stored row tile by row tile, along the columns inside it.  Row tiles beyond `rows` are
 *    padded with zero scales; columns are never padded.
 *
 *    A tile is 32 lanes x 16 bytes: what lane l of a warp loads is its own operand of four
 *    mma.m16n8k16, W as the A operand (16 rows x 16 columns).  g = l / 4, t = l % 4:
 *      word 2 m + s (m, s = 0, 1), nibble pair j = 0..3 at bits 4 j (low) and 4 j + 16 (high):
 *        row    16 m + g + 8 (j & 1)
 *        column  8 t + 4 s + 2 (j >> 1)     and the next one in the high half
 *    so register a[j] of the instruction is (word >> 4 j) & 0x000f000f, made a half float or a
 *    bfloat16 by or-ing an exponent or by nothing at all (see `raw`).  Inside a tile the columns
 *    are permuted such that the matching B operands of lane l (token g) are x[8 t .. 8 t + 7],
 *    16 contiguous bytes: x needs no shuffle and no ldmatrix.
 *
 *    Records follow the tiles, [row tile][group]: fp16 scales [8][4], entry [g][i] of row g + 8 i;
 *    then ZERO_POINT: bytes [8][4];  OFFSET: fp16 offsets [8][4].  64, 96 or 128 bytes.
 *    Scales and offsets are multiplied by a power of two that brings the largest to 256..512 (it
 *    is taken out again by quant_cuda_matrix.factor), so that no product of a scale and a nibble
 *    leaves the normal range of half floats.
 *
 * 2. The kernel.  A block has wk x wr warps: wr row tiles side by side, wk slices of the columns.
 *    A unit of work is 128 columns: each warp copies its own 2 KiB of weights and its records by
 *    cp.async into a ring in shared memory, the wr warps of a slice share the activations.  No
 *    lane reads weights that another lane loaded.  Partial sums are added over the slices of the
 *    block in shared memory, then over `splits` blocks: of one cluster through distributed shared
 *    memory (9.0 and up), else through the workspace, the last block to arrive adding in the
 *    fixed order 0, 1, ... and resetting its counter.  Every order is fixed: same call, same bytes.
 */
#ifndef QUANT_CUDA
#define QUANT_CUDA
#endif
#include "quant.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <string.h>

/* ---- sizes of the packed form ----------------------------------------------------------------*/
enum {
    Q_TILE_BYTES = 512,
    Q_UNIT = 4,                     /* tiles of a unit of work: 128 columns                      */
    Q_STAGES = 3                    /* units of the ring in shared memory                        */
};

/* Bytes of a record of one row tile and one group. */
static __host__ __device__ constexpr uint32_t record_bytes(uint32_t zero)
{
    return zero == QUANT_CUDA_SYMMETRIC ? 64 : zero == QUANT_CUDA_ZERO_POINT ? 96 : 128;
}

static size_t row_tiles(const quant_cuda_matrix *w) { return (w->rows + 31) / 32; }
static size_t col_tiles(const quant_cuda_matrix *w) { return w->cols / 32; }
static size_t records(const quant_cuda_matrix *w)
{
    return w->group ? (w->cols + w->group - 1) / w->group : 1;
}

/* ---- device code -----------------------------------------------------------------------------*/
/* All that a kernel needs, passed by value. */
struct quant__job {
    const uint8_t *tiles, *recs;    /* the packed form                                           */
    const void *x;
    void *y;
    float *part;                    /* [block][split][token][row] of the workspace               */
    unsigned *count;                /* [block]                                                   */
    size_t ldx, ldy;
    uint32_t rows, tokens, kt;      /* kt: tiles of 32 columns                                   */
    uint32_t row_tiles, n_recs;
    uint32_t tiles_per_group;       /* 1, 2, 4; 4 for a whole column, too                        */
    uint32_t recs_per_unit;         /* 4 / tiles_per_group; 0: the one record of a whole column  */
    uint32_t wr, wk, splits, cluster;
    float factor;
};

static __device__ __forceinline__ uint32_t smem_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Copies 16 bytes past L1 to a shared address. */
static __device__ __forceinline__ void copy16(uint32_t dst, const void *src)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(dst), "l"(src) : "memory");
#endif
}
/* The same, or zeros when !valid (the source is not read then). */
static __device__ __forceinline__ void copy16_if(uint32_t dst, const void *src, bool valid)
{
#if __CUDA_ARCH__ >= 800
    int n = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(dst), "l"(src), "r"(n)
                 : "memory");
#endif
}
/* Volatile: stays behind the waits and barriers, which are volatile, too. */
static __device__ __forceinline__ uint4 load_shared16(uint32_t a)
{
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(a));
    return v;
}
static __device__ __forceinline__ uint2 load_shared8(uint32_t a)
{
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(a));
    return v;
}
static __device__ __forceinline__ uint32_t load_shared4(uint32_t a)
{
    uint32_t v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(a));
    return v;
}
static __device__ __forceinline__ void copy_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int N> static __device__ __forceinline__ void copy_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
#endif
}

/* The kernels before this one on the stream are done and their results visible. */
static __device__ __forceinline__ void wait_for_stream()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
static __device__ __forceinline__ void let_next_start()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
static __device__ __forceinline__ void cluster_barrier()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
#endif
}
/* Two floats of the shared memory of block `rank` of the cluster, at our own address p. */
static __device__ __forceinline__ float2 cluster_load(const float *p, uint32_t rank)
{
    float2 v = {0, 0};
#if __CUDA_ARCH__ >= 900
    uint32_t a;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(a) : "r"(smem_address(p)), "r"(rank));
    asm volatile("ld.shared::cluster.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(a)
                 : "memory");
#endif
    return v;
}

/* c += A B, 16 rows x 8 tokens x 16 columns, fp32 sums */
template <int BF>
static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                           uint32_t b1)
{
#if __CUDA_ARCH__ >= 800
    if (BF)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
            "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
            "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/* Two nibbles with an exponent, one lop3: (w & mask) | magic */
template <uint32_t MASK>
static __device__ __forceinline__ uint32_t nibbles(uint32_t w, uint32_t magic)
{
    uint32_t r;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(w), "n"(MASK), "r"(magic));
    return r;
}

static __device__ __forceinline__ uint32_t half2_sub(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("sub.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
static __device__ __forceinline__ uint32_t half2_mul(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("mul.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
static __device__ __forceinline__ uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t r;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}
/* a - b as a 1 + -b, exact for the small integers it is used on */
static __device__ __forceinline__ uint32_t bf162_sub(uint32_t a, uint32_t b)
{
    uint32_t r = 0;
#if __CUDA_ARCH__ >= 800
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(0x3f803f80u), "r"(b ^ 0x80008000u));
#endif
    return r;
}

static __device__ __forceinline__ float half_bits(uint32_t h)
{
    return __half2float(__ushort_as_half((unsigned short)h));
}

template <int BF> static __device__ __forceinline__ float load_act(const void *x, size_t i)
{
    if (BF) return __bfloat162float(((const __nv_bfloat16 *)x)[i]);
    return __half2float(((const __half *)x)[i]);
}
template <int BF> static __device__ __forceinline__ void store_pair(void *y, size_t i, float2 v)
{
    if (BF) {
        __nv_bfloat162 h;
        h.x = __float2bfloat16_rn(v.x);
        h.y = __float2bfloat16_rn(v.y);
        *(__nv_bfloat162 *)((__nv_bfloat16 *)y + i) = h;
    } else {
        *(__half2 *)((__half *)y + i) = __floats2half2_rn(v.x, v.y);
    }
}

/* How the tensor-core kernel treats the scales, by the number of 8-token tiles NT.
 *   Up to 4 tiles: q - zero is formed exactly, in half floats or bfloat16, before the product; sums
 *     of a group are multiplied by their scale in fp32.
 *   OFFSET: mma takes the bare nibbles: as half floats they are denormals q 2^-24, which the tensor
 *     cores multiply exactly (2^24 goes into the last factor), as bfloat16 128 + q.  One more mma
 *     with ones gives the sums of x that the offsets multiply.
 *   8 tiles: two sets of accumulators would not fit; the scale goes into the weights.
 * Half floats have room for a nibble at bit 4 as well, which saves shifts: rows g + 8 are then 16
 * times too large and their scales divided by 16 (`high`). */
template <int BF, int NT, int ZM> struct policy {
    static constexpr bool high = !BF;
    static constexpr bool in_weights = NT >= 8 && !BF;
    static constexpr bool ones = !in_weights && ZM == QUANT_CUDA_OFFSET;
};

/* Scales of the four rows of a lane (g, g + 8, g + 16, g + 24) in the form its policy wants. */
struct row_scales {
    float s[4], z[4];               /* fp32 policies: scale, zero point or offset                */
    uint32_t s2[4], z2[4];          /* the same twice in a register, as half floats or bfloat16   */
};

template <int BF, int NT, int ZM>
static __device__ __forceinline__ void load_scales(row_scales &r, uint32_t rec, int g)
{
    typedef policy<BF, NT, ZM> P;
    uint2 s = load_shared8(rec + g * 8), o = make_uint2(0, 0);
    uint32_t z = 0x08080808u;
    if (ZM == QUANT_CUDA_ZERO_POINT) z = load_shared4(rec + 64 + g * 4);
    if (ZM == QUANT_CUDA_OFFSET) o = load_shared8(rec + 64 + g * 8);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const bool high = P::high && (i & 1);
        uint32_t sh = (i < 2 ? s.x : s.y) >> 16 * (i & 1) & 0xffff;
        uint32_t oh = (i < 2 ? o.x : o.y) >> 16 * (i & 1) & 0xffff;
        uint32_t zi = z >> 8 * i & 0xff;
        if (P::in_weights) {
            r.s2[i] = sh * 0x10001u;
            if (high) r.s2[i] = half2_mul(r.s2[i], 0x2c002c00u);        /* 1 / 16              */
            r.z2[i] = ZM == QUANT_CUDA_OFFSET ? oh * 0x10001u
                                              : (0x6400u + (high ? zi * 16 : zi)) * 0x10001u;
        } else {
            r.s[i] = half_bits(sh) * (high ? 0.0625f : 1.0f);
            if (ZM == QUANT_CUDA_OFFSET) r.z[i] = half_bits(oh);
            else if (P::ones) r.z[i] = (float)(high ? zi * 16 : zi) + (BF ? 128.0f : 0.0f);
            else r.z2[i] = ((BF ? 0x4300u : 0x6400u) + (high ? zi * 16 : zi)) * 0x10001u;
        }
    }
}

/* The A operand of 16 rows x 16 columns from one word of the packed form; m: which row half */
template <int BF, int NT, int ZM>
static __device__ __forceinline__ void weights(uint32_t (&a)[4], uint32_t w, const row_scales &r,
                                               int m)
{
    typedef policy<BF, NT, ZM> P;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        int row = 2 * m + (j & 1);
        uint32_t magic = BF ? 0x43004300u : P::ones ? 0u : 0x64006400u;
        if (P::high) a[j] = j & 1 ? nibbles<0x00f000f0u>(w >> 4 * (j & 2), magic)
                                  : nibbles<0x000f000fu>(w >> 4 * j, magic);
        else a[j] = nibbles<0x000f000fu>(w >> 4 * j, magic);
        if (P::in_weights && ZM == QUANT_CUDA_OFFSET)
            a[j] = half2_fma(half2_sub(a[j], 0x64006400u), r.s2[row], r.z2[row]);
        else if (P::in_weights) a[j] = half2_mul(half2_sub(a[j], r.z2[row]), r.s2[row]);
        else if (!P::ones) a[j] = BF ? bf162_sub(a[j], r.z2[row]) : half2_sub(a[j], r.z2[row]);
    }
}

/* total += scale (acc - zero sum_x), then acc = sum_x = 0: the end of a group */
template <int BF, int NT, int ZM>
static __device__ __forceinline__ void end_group(float (&total)[2][NT][4], float (&acc)[2][NT][4],
                                                 float (&sum_x)[NT][4], const row_scales &r)
{
    typedef policy<BF, NT, ZM> P;
#pragma unroll
    for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int m = 0; m < 2; m++) {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                int row = 2 * m + (c >> 1);
                float v = acc[m][n][c], sx = sum_x[n][c & 1];
                if (ZM == QUANT_CUDA_OFFSET) {
                    if (BF) v = fmaf(-128.0f, sx, v);
                    total[m][n][c] = fmaf(r.z[row], sx, total[m][n][c]);
                } else if (P::ones) v = fmaf(-r.z[row], sx, v);
                total[m][n][c] = fmaf(r.s[row], v, total[m][n][c]);
                acc[m][n][c] = 0;
            }
        }
#pragma unroll
        for (int c = 0; c < 4; c++) sum_x[n][c] = 0;
    }
}

/* One unit: 32 rows x 128 columns x NT * 8 tokens.  Shared addresses: ws this lane's 16 bytes of
 * the first tile, rec the records, xs the activations [token][256 bytes] in 16-byte pieces.
 * TPG: tiles of a group where known, else 0. */
template <int BF, int NT, int ZM, int TPG>
static __device__ __forceinline__ void unit(float (&total)[2][NT][4], uint32_t ws, uint32_t rec,
                                            uint32_t xs, uint32_t x_piece,
                                            uint32_t tiles_per_group, int g)
{
    typedef policy<BF, NT, ZM> P;
    const uint32_t one = BF ? 0x3f803f80u : 0x00010001u;
    const uint32_t ones[4] = {one, one, one, one};
    float acc[2][NT][4] = {}, sum_x[NT][4] = {};
    row_scales r;
    if (TPG) tiles_per_group = TPG;
#pragma unroll
    for (int k = 0; k < Q_UNIT; k++) {
        if ((k & (tiles_per_group - 1)) == 0) {
            load_scales<BF, NT, ZM>(r, rec, g);
            rec += record_bytes(ZM);
        }
        const uint4 q = load_shared16(ws + k * Q_TILE_BYTES);
        uint32_t a[2][2][4];
#pragma unroll
        for (int m = 0; m < 2; m++) {
            weights<BF, NT, ZM>(a[m][0], m ? q.z : q.x, r, m);
            weights<BF, NT, ZM>(a[m][1], m ? q.w : q.y, r, m);
        }
#pragma unroll
        for (int n = 0; n < NT; n++) {
            const uint4 b = load_shared16(xs + (x_piece ^ (uint32_t)(k * 64)) + n * 2048);
#pragma unroll
            for (int m = 0; m < 2; m++)
                mma<BF>(P::in_weights ? total[m][n] : acc[m][n], a[m][0], b.x, b.y);
#pragma unroll
            for (int m = 0; m < 2; m++)
                mma<BF>(P::in_weights ? total[m][n] : acc[m][n], a[m][1], b.z, b.w);
            if (P::ones) {
                mma<BF>(sum_x[n], ones, b.x, b.y);
                mma<BF>(sum_x[n], ones, b.z, b.w);
            }
        }
        if (!P::in_weights && ((k + 1) & (tiles_per_group - 1)) == 0)
            end_group<BF, NT, ZM>(total, acc, sum_x, r);
    }
}

/* Adds the partial sums of a block's slices and of all blocks of the split, and writes y.
 * Called by all threads; `part` is free shared memory, [wk][mt][pitch]. */
template <int BF, int NT>
static __device__ __forceinline__ void finish(const quant__job &j, float (&total)[2][NT][4],
                                              float *part, uint32_t block_row, uint32_t split,
                                              uint32_t token0, uint32_t mt, float factor)
{
    const uint32_t tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const uint32_t wr = warp % j.wr, wk = warp / j.wr, g = lane >> 2, t = lane & 3;
    const uint32_t n_rows = j.wr * 32, pitch = n_rows + 4;  /* 2 pitch = 8 mod 32: no conflicts */
    const uint32_t row0 = block_row * n_rows, half_rows = n_rows / 2, pairs = half_rows * mt;
    __shared__ uint32_t last;

#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int c = 0; c < 4; c++) {
                uint32_t token = n * 8 + 2 * t + (c & 1);
                if (token < mt)
                    part[(wk * mt + token) * pitch + wr * 32 + 16 * m + g + 8 * (c >> 1)]
                        = total[m][n][c];
            }
    __syncthreads();
    const uint32_t block = blockIdx.z * (gridDim.x / j.splits) + block_row;
    const size_t tile = (size_t)n_rows * mt;
    float *mine = j.part + ((size_t)block * j.splits) * n_rows * (NT * 8);
    for (uint32_t e = tid; e < pairs; e += blockDim.x) {
        uint32_t token = e / half_rows, r = e % half_rows * 2;
        float *p = part + token * pitch + r;
        float2 v = *(float2 *)p;
        for (uint32_t k = 1; k < j.wk; k++) {
            float2 a = *(float2 *)(p + k * mt * pitch);
            v.x += a.x;
            v.y += a.y;
        }
        if (j.splits == 1) {
            v.x *= factor;
            v.y *= factor;
            if (row0 + r < j.rows) store_pair<BF>(j.y, (token0 + token) * j.ldy + row0 + r, v);
        } else if (j.cluster) *(float2 *)p = v;
        else *(float2 *)(mine + split * tile + token * n_rows + r) = v;
    }
    if (j.splits == 1) return;

    uint32_t first = 0, step = 1;       /* which of the pairs this block adds up               */
    if (j.cluster) {
        cluster_barrier();
        first = split;
        step = j.splits;
    } else {
        __threadfence();
        __syncthreads();
        if (tid == 0) {
            last = atomicAdd(j.count + block, 1) == j.splits - 1;
            if (last) j.count[block] = 0;
            __threadfence();
        }
        __syncthreads();
        if (!last) return;
    }
    for (uint32_t i = tid; ; i += blockDim.x) {
        /* a warp's pairs stay together: 32 pairs in turn for each block of the cluster */
        uint32_t e = ((i >> 5) * step + first) * 32 + (i & 31);
        if (e >= pairs) break;
        uint32_t token = e / half_rows, r = e % half_rows * 2;
        float2 v = {0, 0};
        for (uint32_t s = 0; s < j.splits; s++) {
            float2 a = j.cluster ? cluster_load(part + token * pitch + r, s)
                                 : __ldcg((const float2 *)(mine + s * tile + token * n_rows + r));
            v.x += a.x;
            v.y += a.y;
        }
        v.x *= factor;
        v.y *= factor;
        if (row0 + r < j.rows) store_pair<BF>(j.y, (token0 + token) * j.ldy + row0 + r, v);
    }
    if (j.cluster) cluster_barrier();   /* nobody leaves while its memory is being read        */
}

/* Tensor cores, compute capability 8.0 and up.  Grid: x row blocks * splits, z blocks of NT * 8
 * tokens.  Dynamic shared memory: ring_bytes(), see plan. */
template <int BF, int NT, int ZM, int TPG, int WARPS>
__global__ void __launch_bounds__(WARPS * 32, WARPS == 16 ? 1 : NT == 1 ? 4 : 2)
quant__mma_kernel(const __grid_constant__ quant__job j)
{
    typedef policy<BF, NT, ZM> P;
    constexpr int ST = Q_STAGES;
    extern __shared__ __align__(128) uint8_t smem[];
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const uint32_t wr = warp % j.wr, wk = warp / j.wr;
    const uint32_t block_row = blockIdx.x / j.splits, split = blockIdx.x % j.splits;
    const uint32_t token0 = blockIdx.z * (NT * 8);
    const uint32_t mt = min((uint32_t)(NT * 8), j.tokens - token0);
    /* Row tiles beyond the last one repeat it; their results are not stored. */
    const uint32_t row_tile = min(block_row * j.wr + wr, j.row_tiles - 1);
    const uint32_t units = (j.kt + Q_UNIT - 1) / Q_UNIT;
    const uint32_t u0 = (uint32_t)((uint64_t)units * split / j.splits) + wk;
    const uint32_t u1 = (uint32_t)((uint64_t)units * (split + 1) / j.splits);
    const uint32_t n = u0 < u1 ? (u1 - u0 + j.wk - 1) / j.wk : 0;

    const uint32_t unit_recs = TPG == 4 ? 1 : j.recs_per_unit;
    const uint32_t rec_bytes = unit_recs * record_bytes(ZM);
    const uint32_t w_bytes = Q_UNIT * Q_TILE_BYTES + rec_bytes;
    const uint32_t stage_bytes = j.wr * w_bytes + (NT == 1 ? mt : NT * 8) * 256;
    const uint32_t ring = smem_address(smem) + wk * ST * stage_bytes;
    const uint32_t w_at = wr * w_bytes + lane * 16, x_at = j.wr * w_bytes;

    /* What the next copies read; all advance by wk units at a time. */
    const uint8_t *w_src = j.tiles + ((size_t)row_tile * j.kt + (size_t)u0 * Q_UNIT)
                                     * Q_TILE_BYTES + lane * 16;
    const uint8_t *rec_src = j.recs + (size_t)row_tile * j.n_recs * record_bytes(ZM) + lane * 16;
    uint32_t rec_off = u0 * j.recs_per_unit * record_bytes(ZM);
    uint32_t w_unit = u0, x_unit = u0;
    const uint32_t full = j.kt / Q_UNIT;        /* units before the last one, if that is cut   */

    /* Activations in shared memory: [token][16 pieces]; piece p of an odd token is stored at
     * p ^ 4, so that the eight lanes of a quarter warp read all 32 banks.  This lane copies piece
     * p of tokens x_token, x_token + 2 wr, ... */
    const uint32_t x_token = (wr * 32 + lane) >> 4, p = lane & 15;
    const uint32_t x_dst = x_at + x_token * 256 + (p ^ (x_token & 1) << 2) * 16;
    const uint8_t *x_src = (const uint8_t *)j.x
        + ((size_t)(token0 + x_token) * j.ldx + (size_t)u0 * 128) * 2 + p * 16;
    const size_t x_step = (size_t)j.wr * 2 * j.ldx * 2;

    auto copy_weights = [&](uint32_t stage) {
        const uint32_t dst = stage + w_at;
        if (w_unit < full) {
#pragma unroll
            for (int a = 0; a < Q_UNIT; a++)
                copy16(dst + a * Q_TILE_BYTES, w_src + a * Q_TILE_BYTES);
        } else {
#pragma unroll
            for (int a = 0; a < Q_UNIT; a++)
                copy16_if(dst + a * Q_TILE_BYTES, w_src + a * Q_TILE_BYTES,
                          w_unit * Q_UNIT + a < j.kt);
        }
        if (lane * 16 < rec_bytes)
            copy16_if(dst + Q_UNIT * Q_TILE_BYTES, rec_src + rec_off,
                      rec_off + lane * 16 < j.n_recs * record_bytes(ZM));
        w_src += (size_t)j.wk * Q_UNIT * Q_TILE_BYTES;
        rec_off += j.wk * j.recs_per_unit * record_bytes(ZM);
        w_unit += j.wk;
    };
    auto copy_x = [&](uint32_t stage) {
        const bool valid = x_unit * Q_UNIT + (p >> 2) < j.kt;
        const uint8_t *src = x_src;
        uint32_t dst = stage + x_dst;
        for (uint32_t token = x_token; token < mt; token += j.wr * 2) {
            copy16_if(dst, src, valid);
            src += x_step;
            dst += j.wr * 512;
        }
        x_src += (size_t)j.wk * 256;
        x_unit += j.wk;
    };

    let_next_start();
    for (uint32_t i = 0; i < ST - 1 && i < n; i++) copy_weights(ring + i * stage_bytes);
    wait_for_stream();
    for (uint32_t i = 0; i < ST - 1; i++) {
        if (i < n) copy_x(ring + i * stage_bytes);
        copy_commit();
    }

    /* Columns of the product are independent: what is read for tokens beyond the last one does not
     * matter, if only it is inside our memory. */
    const uint32_t my_token = NT == 1 ? min(lane >> 2, mt - 1) : lane >> 2;
    const uint32_t x_piece = my_token * 256 + ((my_token & 1) << 2 ^ (lane & 3)) * 16;
    float total[2][NT][4] = {};
    uint32_t use = ring, fill = ring + (ST - 1) * stage_bytes;
    const uint32_t end = ring + ST * stage_bytes;
    for (uint32_t i = 0; i < n; i++) {
        copy_wait<ST - 2>();
        if (j.wr == 1) __syncwarp();
        else asm volatile("bar.sync %0, %1;" :: "r"(wk + 1), "r"(j.wr * 32) : "memory");
        /* all warps of the slice are past unit i - 1, whose stage is the next to be filled */
        if (i + ST - 1 < n) {
            copy_weights(fill);
            copy_x(fill);
        }
        copy_commit();
        unit<BF, NT, ZM, TPG>(total, use + w_at,
                              use + wr * w_bytes + Q_UNIT * Q_TILE_BYTES, use + x_at, x_piece,
                              j.tiles_per_group, lane >> 2);
        use = use + stage_bytes == end ? ring : use + stage_bytes;
        fill = fill + stage_bytes == end ? ring : fill + stage_bytes;
    }
    copy_wait<0>();
    __syncthreads();
    float factor = j.factor * (P::ones && !BF ? 16777216.0f : 1.0f);
    finish<BF, NT>(j, total, (float *)smem, block_row, split, token0, mt, factor);
}

/* Any device: fp32 arithmetic without tensor cores.  A block of 4 warps has 32 rows of one token;
 * a lane has rows g, g + 8, g + 16, g + 24 and 8 columns of a tile, as in the packed form. */
template <int BF>
__global__ void __launch_bounds__(128) quant__plain_kernel(const __grid_constant__ quant__job j,
                                                           uint32_t zero)
{
    __shared__ float part[4][32];
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const uint32_t row_tile = blockIdx.x, rb = record_bytes(zero);
    const uint8_t *recs = j.recs + (size_t)row_tile * j.n_recs * rb;
    for (size_t token = blockIdx.y; token < j.tokens; token += gridDim.y) {
        float sum[4] = {0, 0, 0, 0};
        for (uint32_t k = warp; k < j.kt; k += 4) {
            const uint4 q4 = *(const uint4 *)(j.tiles + ((size_t)row_tile * j.kt + k)
                                              * Q_TILE_BYTES + lane * 16);
            const uint32_t q[4] = {q4.x, q4.y, q4.z, q4.w};
            const uint8_t *rec = recs + (j.recs_per_unit ? k / j.tiles_per_group : 0) * rb;
            float x[8], dot[4] = {0, 0, 0, 0}, sum_x = 0;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                x[i] = load_act<BF>(j.x, token * j.ldx + k * 32 + t * 8 + i);
                sum_x += x[i];
            }
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int r = 0; r < 4; r++) {
                    int pair = (r & 1) + 2 * (i >> 1 & 1);
                    uint32_t v = q[2 * (r >> 1) + (i >> 2)] >> (4 * pair + 16 * (i & 1)) & 15;
                    dot[r] = fmaf((float)v, x[i], dot[r]);
                }
#pragma unroll
            for (int r = 0; r < 4; r++) {
                float s = half_bits(((const uint16_t *)rec)[g * 4 + r]), off = -8 * s;
                if (zero == QUANT_CUDA_ZERO_POINT) off = -s * rec[64 + g * 4 + r];
                if (zero == QUANT_CUDA_OFFSET)
                    off = half_bits(((const uint16_t *)(rec + 64))[g * 4 + r]);
                sum[r] = fmaf(s, dot[r], fmaf(off, sum_x, sum[r]));
            }
        }
#pragma unroll
        for (int r = 0; r < 4; r++) {
            sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
            sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
            if (t == 0) part[warp][g + 8 * r] = sum[r];
        }
        __syncthreads();
        uint32_t row = threadIdx.x * 2;
        if (row < 32 && row_tile * 32 + row < j.rows) {
            float2 v;
            v.x = part[0][row] + part[1][row] + part[2][row] + part[3][row];
            v.y = part[0][row + 1] + part[1][row + 1] + part[2][row + 1] + part[3][row + 1];
            v.x *= j.factor;
            v.y *= j.factor;
            store_pair<BF>(j.y, token * j.ldy + row_tile * 32 + row, v);
        }
        __syncthreads();
    }
}

/* ---- which kernel, which shape of block ------------------------------------------------------*/
struct quant__plan {
    uint32_t nt;                    /* 8-token tiles: 1, 2, 4, 8; 0: the plain kernel            */
    uint32_t wr, wk, splits, cluster;
    size_t shared;                  /* bytes of dynamic shared memory                            */
};

/* Bytes of shared memory: the ring, or the partial sums that take its place. */
static size_t shared_bytes(const quant__plan &p, const quant_cuda_matrix *w, size_t tokens)
{
    size_t mt = tokens < p.nt * 8 ? tokens : p.nt * 8;
    size_t unit_recs = w->group ? 128 / w->group : 1;
    size_t stage = p.wr * (Q_UNIT * Q_TILE_BYTES + unit_recs * record_bytes(w->zero))
                   + (p.nt == 1 ? mt : p.nt * 8) * 256;
    size_t ring = p.wk * Q_STAGES * stage, part = p.wk * mt * (p.wr * 32 + 4) * 4;
    return ring > part ? ring : part;
}

/* Blocks along the rows, along the tokens */
static size_t plan_rows(const quant__plan &p, const quant_cuda_matrix *w)
{
    return (row_tiles(w) + p.wr - 1) / p.wr;
}
static size_t plan_tokens(const quant__plan &p, size_t tokens)
{
    return (tokens + p.nt * 8 - 1) / (p.nt * 8);
}

/* Counters first, in a place of their own: they must be zero between calls, whatever shape the
 * next call has.  Then partial sums.  Neither when the blocks of a split form a cluster. */
enum { Q_COUNTERS = 4096 };
static size_t plan_workspace(const quant__plan &p, const quant_cuda_matrix *w, size_t tokens)
{
    if (p.nt == 0 || p.splits == 1 || p.cluster) return 0;
    return Q_COUNTERS * sizeof(unsigned) + plan_rows(p, w) * plan_tokens(p, tokens) * p.splits
                                           * (p.wr * 32) * (p.nt * 8) * sizeof(float);
}

/* The fastest shapes of block for up to so many tokens and row tiles, measured on an H200 (132
 * multiprocessors) with cuda_bench sweep; other devices count their row tiles per 132.  The last
 * row of each number of tokens has row_tiles ~0u. */
static const struct { uint32_t tokens, row_tiles, nt, wr, wk, splits; } measured[] = {
    {2, 132, 1, 1, 12, 1}, {2, 320, 1, 2, 8, 1}, {2, 800, 1, 3, 4, 1}, {2, ~0u, 1, 1, 8, 1},
    {8, 132, 1, 1, 12, 1}, {8, 320, 1, 2, 8, 1}, {8, 800, 1, 3, 4, 1}, {8, ~0u, 1, 4, 3, 1},
    {16, 132, 2, 1, 8, 1}, {16, 320, 2, 4, 4, 2}, {16, 500, 2, 3, 4, 1}, {16, 800, 2, 6, 2, 1},
    {16, ~0u, 2, 4, 2, 1},
    {32, 132, 4, 2, 4, 2}, {32, 320, 4, 2, 3, 2}, {32, 500, 4, 3, 2, 2}, {32, 800, 4, 3, 2, 1},
    {32, ~0u, 4, 4, 2, 1},
    {64, 132, 4, 2, 4, 1}, {64, 320, 8, 4, 2, 2}, {64, 500, 4, 3, 2, 1}, {64, 800, 8, 6, 1, 2},
    {64, ~0u, 8, 7, 1, 2},
    {128, 132, 4, 2, 3, 1}, {128, 320, 8, 4, 2, 1}, {128, 500, 8, 6, 1, 2}, {128, 800, 8, 6, 1, 1},
    {128, ~0u, 8, 7, 1, 1},
    {~0u, 320, 8, 4, 2, 1}, {~0u, 800, 8, 6, 1, 1}, {~0u, ~0u, 8, 7, 1, 1}};

/* Shared memory to ask for.  A grid that fits the device once gets more than half of it: were there
 * room for two blocks, those of a product that overlaps with the one before it would not spread
 * evenly, and a multiprocessor with two blocks of one product takes twice as long. */
static size_t plan_shared(const quant__plan &p, const quant_cuda_device *gpu,
                          const quant_cuda_matrix *w, size_t tokens)
{
    size_t need = shared_bytes(p, w, tokens), half = gpu->shared / 2 + 1024;
    bool once = plan_rows(p, w) * plan_tokens(p, tokens) * p.splits <= gpu->sms;
    return once && p.wr * p.wk > 8 && need < half ? half : need;
}

static quant__plan make_plan(const quant_cuda_device *gpu, const quant_cuda_matrix *w,
                             size_t tokens, quant_type act)
{
    quant__plan p = {0, 1, 1, 1, 0, 0};
    const size_t tiles = row_tiles(w) * 132 / (gpu->sms ? gpu->sms : 1);
    const size_t units = (col_tiles(w) + Q_UNIT - 1) / Q_UNIT;
    size_t i = 0;
    if (gpu->capability < 80 || gpu->flags & QUANT_CUDA_PLAIN) return p;
    while (tokens > measured[i].tokens && measured[i].tokens != ~0u) i++;
    while (tiles > measured[i].row_tiles && measured[i].row_tiles != ~0u) i++;
    p.nt = measured[i].nt;
    p.wr = measured[i].wr;
    p.wk = measured[i].wk;
    p.splits = measured[i].splits;
    if (p.nt == 8 && act == QUANT_BF16) p.nt = 4;       /* its scales would lose too much      */
    while (p.splits > 1 && units < p.splits * p.wk) p.splits /= 2;
    while (p.wk > 1 && units < p.wk) p.wk /= 2;
    /* Older devices have less shared memory; few counters: see Q_COUNTERS. */
    while (p.wk > 1 && shared_bytes(p, w, tokens) + 1024 > gpu->shared) p.wk /= 2;
    while (p.wr > 1 && shared_bytes(p, w, tokens) + 1024 > gpu->shared) p.wr /= 2;
    if (plan_rows(p, w) * plan_tokens(p, tokens) > Q_COUNTERS) p.splits = 1;
    p.cluster = gpu->capability >= 90 && p.splits > 1;
    p.shared = plan_shared(p, gpu, w, tokens);
    return p;
}

/* ---- host side of the interface --------------------------------------------------------------*/
static quant_result fail(quant_error *e, quant_result code, uint64_t where, const char *what)
{
    if (e) {
        memset(e, 0, sizeof *e);
        e->code = code;
        e->where = where;
        e->what = what;
    }
    return code;
}

template <int BF, int NT, int TPG, int WARPS> static const void *mma_kernel(uint32_t zero)
{
    if (zero == QUANT_CUDA_SYMMETRIC)
        return (const void *)quant__mma_kernel<BF, NT, QUANT_CUDA_SYMMETRIC, TPG, WARPS>;
    if (zero == QUANT_CUDA_ZERO_POINT)
        return (const void *)quant__mma_kernel<BF, NT, QUANT_CUDA_ZERO_POINT, TPG, WARPS>;
    return (const void *)quant__mma_kernel<BF, NT, QUANT_CUDA_OFFSET, TPG, WARPS>;
}

template <int BF, int TPG> static const void *mma_kernel_for(const quant__plan &p, uint32_t zero)
{
    if (p.nt == 1 && p.wr * p.wk > 8) return mma_kernel<BF, 1, TPG, 16>(zero);
    if (p.nt == 1) return mma_kernel<BF, 1, TPG, 8>(zero);
    if (p.nt == 2 && p.wr * p.wk > 8) return mma_kernel<BF, 2, TPG, 16>(zero);
    if (p.nt == 2) return mma_kernel<BF, 2, TPG, 8>(zero);
    if (p.nt == 4) return mma_kernel<BF, 4, TPG, 8>(zero);
    return BF ? NULL : mma_kernel<0, 8, TPG, 8>(zero);
}

/* TPG 4: groups of 128 and whole columns, which have one record for each unit */
static const void *find_kernel(const quant__plan &p, const quant_cuda_matrix *w, quant_type act)
{
    bool bf = act == QUANT_BF16, big = w->group == 0 || w->group == 128;
    if (p.nt == 0)
        return bf ? (const void *)quant__plain_kernel<1> : (const void *)quant__plain_kernel<0>;
    if (bf) return big ? mma_kernel_for<1, 4>(p, w->zero) : mma_kernel_for<1, 0>(p, w->zero);
    return big ? mma_kernel_for<0, 4>(p, w->zero) : mma_kernel_for<0, 0>(p, w->zero);
}

static void fill_job(quant__job *j, const quant__plan &p, const quant_cuda_matrix *w, void *y,
                     size_t ldy, const void *x, size_t ldx, size_t tokens, void *workspace)
{
    memset(j, 0, sizeof *j);
    j->tiles = (const uint8_t *)w->data;
    j->recs = j->tiles + row_tiles(w) * col_tiles(w) * Q_TILE_BYTES;
    j->x = x;
    j->y = y;
    j->ldx = ldx;
    j->ldy = ldy;
    j->rows = (uint32_t)w->rows;
    j->tokens = (uint32_t)tokens;
    j->kt = (uint32_t)col_tiles(w);
    j->row_tiles = (uint32_t)row_tiles(w);
    j->n_recs = (uint32_t)records(w);
    j->tiles_per_group = w->group ? w->group / 32 : 4;
    j->recs_per_unit = w->group ? 128 / w->group : 0;
    j->wr = p.wr;
    j->wk = p.wk;
    j->splits = p.splits;
    j->cluster = p.cluster;
    j->factor = w->factor;
    if (plan_workspace(p, w, tokens)) {
        j->count = (unsigned *)workspace;
        j->part = (float *)((uint8_t *)workspace + Q_COUNTERS * sizeof(unsigned));
    }
}

/* Queues one product as planned. */
static cudaError_t launch(const quant__plan &p, const quant_cuda_device *gpu,
                          const quant_cuda_matrix *w, void *y, size_t ldy, const void *x,
                          size_t ldx, size_t tokens, quant_type act, void *workspace,
                          cudaStream_t stream)
{
    quant__job j;
    uint32_t zero = w->zero;
    void *args[2] = {&j, &zero};
    const void *kernel = find_kernel(p, w, act);
    cudaLaunchAttribute attr[2] = {};
    cudaLaunchConfig_t c = {};
    cudaError_t e;

    if (!kernel) return cudaErrorInvalidValue;
    fill_job(&j, p, w, y, ldy, x, ldx, tokens, workspace);
    c.stream = stream;
    c.attrs = attr;
    if (p.nt == 0) {
        c.gridDim = dim3(j.row_tiles, (unsigned)(tokens < 65535 ? tokens : 65535));
        c.blockDim = dim3(128);
        return cudaLaunchKernelExC(&c, kernel, args);
    }
    c.gridDim = dim3((unsigned)(plan_rows(p, w) * p.splits), 1, (unsigned)plan_tokens(p, tokens));
    c.blockDim = dim3(p.wr * p.wk * 32);
    c.dynamicSmemBytes = p.shared;
    if (p.shared > 48 * 1024 - 64) {
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 (int)p.shared);
        if (e != cudaSuccess) return e;
    }
    if (p.cluster) {
        attr[c.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attr[c.numAttrs].val.clusterDim.x = p.splits;
        attr[c.numAttrs].val.clusterDim.y = attr[c.numAttrs].val.clusterDim.z = 1;
        c.numAttrs++;
    }
    if (gpu->flags & QUANT_CUDA_OVERLAP && gpu->capability >= 90) {
        attr[c.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attr[c.numAttrs].val.programmaticStreamSerializationAllowed = 1;
        c.numAttrs++;
    }
    return cudaLaunchKernelExC(&c, kernel, args);
}

quant_result quant_cuda_query(quant_cuda_device *gpu, quant_error *err)
{
    static const cudaDeviceAttr wanted[5] = {
        cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor,
        cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin,
        cudaDevAttrL2CacheSize};
    int device = 0, v[5] = {0, 0, 0, 0, 0}, i;
    size_t free_bytes = 0;
    cudaError_t e;

    if (!gpu) return fail(err, QUANT_E_ARG, 0, "gpu is NULL");
    memset(gpu, 0, sizeof *gpu);
    e = cudaGetDevice(&device);
    for (i = 0; i < 5 && e == cudaSuccess; i++)
        e = cudaDeviceGetAttribute(&v[i], wanted[i], device);
    if (e == cudaSuccess) e = cudaMemGetInfo(&free_bytes, &gpu->memory);
    if (e != cudaSuccess) {
        (void)cudaGetLastError();       /* the next CUDA call should not report ours           */
        return fail(err, QUANT_E_NOT_FOUND, 0, cudaGetErrorString(e));
    }
    gpu->device = (uint32_t)device;
    gpu->capability = (uint32_t)(v[0] * 10 + v[1]);
    gpu->sms = (uint32_t)v[2];
    gpu->shared = (uint32_t)v[3];
    gpu->l2 = (size_t)v[4];
    return QUANT_OK;
}

size_t quant_cuda_workspace_size(const quant_cuda_device *gpu, const quant_cuda_matrix *w)
{
    size_t most = 0, tokens;
    if (!gpu || !w) return 0;
    /* blocks are split only while there are few of them: tokens far beyond one block need none */
    for (tokens = 1; tokens <= 512; tokens++) {
        quant__plan a = make_plan(gpu, w, tokens, QUANT_F16);
        quant__plan b = make_plan(gpu, w, tokens, QUANT_BF16);
        size_t na = plan_workspace(a, w, tokens), nb = plan_workspace(b, w, tokens);
        if (na > most) most = na;
        if (nb > most) most = nb;
    }
    return most;
}

quant_result quant_cuda_matmul(const quant_cuda_device *gpu, const quant_cuda_matrix *w, void *y,
                               size_t ldy, const void *x, size_t ldx, size_t tokens,
                               quant_type act, void *workspace, size_t workspace_size,
                               void *stream, quant_error *err)
{
    const size_t max_tokens = 65535 * 32;       /* the grid's limit, at the smallest blocks    */
    cudaError_t e;
    if (!gpu || !w || !w->data || !y || !x || tokens == 0)
        return fail(err, QUANT_E_ARG, 0, "NULL, no device data or no tokens");
    if (act != QUANT_F16 && act != QUANT_BF16)
        return fail(err, QUANT_E_TYPE, 0, "x and y are F16 or BF16");
    if (((uintptr_t)x | (uintptr_t)y | (uintptr_t)w->data | (uintptr_t)workspace) % 16)
        return fail(err, QUANT_E_ARG, 0, "x, y, data and workspace are aligned to 16 bytes");
    if (ldx % 8 || ldy % 8 || ldx < w->cols || ldy < w->rows)
        return fail(err, QUANT_E_ARG, 0, "ldx, ldy: at least cols, rows and multiples of 8");
    if (tokens > max_tokens) return fail(err, QUANT_E_ARG, 0, "more than 2,097,120 tokens");
    quant__plan p = make_plan(gpu, w, tokens, act);
    if (plan_workspace(p, w, tokens) > (workspace ? workspace_size : 0))
        return fail(err, QUANT_E_MEMORY, 0, "the workspace is too small");
    e = launch(p, gpu, w, y, ldy, x, ldx, tokens, act, workspace, (cudaStream_t)stream);
    if (e != cudaSuccess) {
        (void)cudaGetLastError();
        return fail(err, QUANT_E_STATE, 0, cudaGetErrorString(e));
    }
    return QUANT_OK;
}

/* ---- packing ---------------------------------------------------------------------------------*/
static uint32_t get16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t get32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }

static float half_value(uint32_t h)
{
    return __half2float(__half(__half_raw{(unsigned short)h}));
}
static uint32_t half_of(float f)
{
    return ((__half_raw)__float2half_rn(f)).x;
}

/* GGUF: bytes and weights of a block; 0 for a type that cannot be packed */
static size_t block_bytes(quant_type t)
{
    return t == QUANT_Q4_0 ? 18 : t == QUANT_Q4_1 ? 20 : t == QUANT_Q4_K ? 144 : 0;
}
static size_t block_cols(quant_type t) { return t == QUANT_Q4_K ? 256 : 32; }

static const uint8_t *gguf_block(const quant_cuda_source *s, size_t row, size_t col)
{
    size_t n = block_cols(s->type);
    return (const uint8_t *)s->data + (row * (s->cols / n) + col / n) * block_bytes(s->type);
}

static const uint8_t awq_place[8] = {0, 4, 1, 5, 2, 6, 3, 7};  /* nibble of row r % 8            */

/* Nibbles of 32 columns from `col` on */
static void get_nibbles(uint8_t *q, const quant_cuda_source *s, size_t row, size_t col)
{
    const uint8_t *b;
    const uint32_t *words = (const uint32_t *)s->data;
    size_t i;
    switch (s->format) {
    case QUANT_CUDA_GGUF:
        b = gguf_block(s, row, col);
        if (s->type == QUANT_Q4_K) {        /* 64 weights in 32 bytes, low nibbles first       */
            size_t sub = col % 256 / 32;
            b += 16 + sub / 2 * 32;
            for (i = 0; i < 32; i++) q[i] = b[i] >> 4 * (sub & 1) & 15;
        } else {                            /* 32 in 16 bytes, the high nibble 16 further on   */
            b += s->type == QUANT_Q4_0 ? 2 : 4;
            for (i = 0; i < 32; i++) q[i] = b[i & 15] >> (i < 16 ? 0 : 4) & 15;
        }
        break;
    case QUANT_CUDA_AWQ_GEMM:
        for (i = 0; i < 32; i++)
            q[i] = get32(words + (col + i) * (s->rows / 8) + row / 8)
                   >> 4 * awq_place[row & 7] & 15;
        break;
    default:
        for (i = 0; i < 32; i++)
            q[i] = get32(words + (col + i) / 8 * s->rows + row) >> 4 * (i & 7) & 15;
    }
}

static uint32_t get_zero(const quant_cuda_source *s, size_t row, size_t group)
{
    if (!s->zeros) return 8;
    uint32_t word = get32(s->zeros + group * (s->rows / 8) + row / 8);
    if (s->format == QUANT_CUDA_AWQ_GEMM) return word >> 4 * awq_place[row & 7] & 15;
    /* v1 stores zero - 1, and a zero of 0 as 15 */
    return ((word >> 4 * (row & 7)) + (s->format == QUANT_CUDA_GPTQ_V1)) & 15;
}

/* Scale and offset (0 unless OFFSET) of a row and group */
static void get_scale(float *scale, float *offset, const quant_cuda_source *s, size_t row,
                      size_t group)
{
    *offset = 0;
    if (s->format != QUANT_CUDA_GGUF) {
        *scale = half_value(get16((const uint8_t *)(s->scales + group * s->rows + row)));
        return;
    }
    const uint8_t *b = gguf_block(s, row, group * 32);
    *scale = half_value(get16(b));
    if (s->type == QUANT_Q4_1) *offset = half_value(get16(b + 2));
    if (s->type == QUANT_Q4_K) {            /* scales and minima of 6 bits, see >>blocks       */
        const uint8_t *c = b + 4;
        size_t i = group % 8;
        uint32_t sc = i < 4 ? c[i] & 63 : (c[i + 4] & 15) | c[i - 4] >> 6 << 4;
        uint32_t mn = i < 4 ? c[i + 4] & 63 : c[i + 4] >> 4 | c[i] >> 6 << 4;
        *offset = -half_value(get16(b + 2)) * (float)mn;
        *scale *= (float)sc;
    }
}

/* The power of two that brings `most`, the largest scale, to 256..512; 1 for 0 */
static float scale_gain(float most)
{
    float gain = 1;
    if (most == 0) return 1;
    while (most * gain < 256) gain *= 2;
    while (most * gain >= 512) gain /= 2;
    return gain;
}

static quant_result check_source(const quant_cuda_source *s, quant_error *err)
{
    if (s->format >= QUANT_CUDA_FORMAT_COUNT) return fail(err, QUANT_E_TYPE, 0, "unknown format");
    if (s->rows == 0 || s->cols == 0 || s->rows % 8 || s->cols % 32)
        return fail(err, QUANT_E_ARG, 0, "rows: a multiple of 8, cols: of 32");
    if (s->rows >= 1u << 30 || s->cols >= 1u << 30
        || s->rows > ((size_t)1 << 44) / s->cols)
        return fail(err, QUANT_E_ARG, 0, "rows or cols too large");
    if (!s->data) return fail(err, QUANT_E_ARG, 0, "data is NULL");
    if (s->format == QUANT_CUDA_GGUF) {
        if (!block_bytes(s->type))
            return fail(err, QUANT_E_TYPE, 0, "GGUF types for the GPU: Q4_0, Q4_1, Q4_K");
        if (s->cols % block_cols(s->type))
            return fail(err, QUANT_E_ARG, 0, "cols: a multiple of the block");
        return QUANT_OK;
    }
    if (!s->scales) return fail(err, QUANT_E_ARG, 0, "scales is NULL");
    if (s->group != 0 && s->group != 32 && s->group != 64 && s->group != 128)
        return fail(err, QUANT_E_ARG, 0, "group: 32, 64, 128 or 0");
    for (size_t c = 0; s->g_idx && c < s->cols; c++)
        if (get32(s->g_idx + c) != (s->group ? c / s->group : 0))
            return fail(err, QUANT_E_TYPE, c, "act-order is not supported yet");
    return QUANT_OK;
}

quant_result quant_cuda_matrix_init(quant_cuda_matrix *w, const quant_cuda_source *s,
                                    quant_error *err)
{
    float most = 0, scale, offset;
    size_t row, g;
    quant_result r;
    if (!w || !s) return fail(err, QUANT_E_ARG, 0, "w or s is NULL");
    memset(w, 0, sizeof *w);
    r = check_source(s, err);
    if (r) return r;
    bool gguf = s->format == QUANT_CUDA_GGUF;
    w->rows = s->rows;
    w->cols = s->cols;
    w->group = gguf ? 32 : (uint32_t)s->group;
    if (gguf) w->zero = s->type == QUANT_Q4_0 ? QUANT_CUDA_SYMMETRIC : QUANT_CUDA_OFFSET;
    for (g = 0; g < records(w); g++) {
        for (row = 0; row < s->rows; row++) {
            get_scale(&scale, &offset, s, row, g);
            /* a NaN fails both comparisons */
            if (!(fabsf(scale) <= 1e30f) || !(fabsf(offset) <= 1e30f)) {
                uint64_t where = gguf ? row * (s->cols / block_cols(s->type))
                                        + g * 32 / block_cols(s->type) : g * s->rows + row;
                return fail(err, QUANT_E_NUMERIC, where, "a scale is not finite");
            }
            most = fmaxf(most, fmaxf(fabsf(scale), fabsf(offset)));
            if (!gguf && get_zero(s, row, g) != 8) w->zero = QUANT_CUDA_ZERO_POINT;
        }
    }
    w->factor = 1 / scale_gain(most);
    w->size = row_tiles(w) * (col_tiles(w) * Q_TILE_BYTES + records(w) * record_bytes(w->zero));
    return QUANT_OK;
}

/* Places the nibbles of one row (0..31) of a tile; the layout is drawn at the top. */
static void put_nibbles(uint8_t *tile, uint32_t row, const uint8_t *q)
{
    uint32_t m = row / 16, g = row % 8, high_row = row / 8 % 2, k;
    for (k = 0; k < 32; k++) {
        uint32_t lane = g * 4 + k / 8, word = 2 * m + k % 8 / 4;
        uint32_t bit = 4 * (high_row + 2 * (k % 4 / 2)) + 16 * (k & 1);
        tile[lane * 16 + word * 4 + bit / 8] |= (uint8_t)(q[k] << bit % 8);
    }
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

quant_result quant_cuda_pack(void *dst, const quant_cuda_matrix *w, const quant_cuda_source *s,
                             quant_error *err)
{
    uint8_t *tiles = (uint8_t *)dst, *recs, q[32];
    size_t tile_row, k, g;
    quant_result r;
    if (!dst || !w || !s) return fail(err, QUANT_E_ARG, 0, "dst, w or s is NULL");
    r = check_source(s, err);
    if (r) return r;
    if (w->rows != s->rows || w->cols != s->cols || w->size == 0)
        return fail(err, QUANT_E_ARG, 0, "w was made from another source");
    recs = tiles + row_tiles(w) * col_tiles(w) * Q_TILE_BYTES;
    memset(dst, 0, w->size);
    const float gain = 1 / w->factor;           /* a power of two: exact                       */
    const uint32_t rb = record_bytes(w->zero);
    for (tile_row = 0; tile_row < row_tiles(w); tile_row++) {
        for (uint32_t i = 0; i < 32 && tile_row * 32 + i < w->rows; i++) {
            size_t row = tile_row * 32 + i;
            for (k = 0; k < col_tiles(w); k++) {
                get_nibbles(q, s, row, k * 32);
                put_nibbles(tiles + (tile_row * col_tiles(w) + k) * Q_TILE_BYTES, i, q);
            }
            for (g = 0; g < records(w); g++) {
                uint8_t *rec = recs + (tile_row * records(w) + g) * rb;
                uint32_t at = i % 8 * 4 + i / 8;        /* [g][i] of row g + 8 i               */
                float scale, offset;
                get_scale(&scale, &offset, s, row, g);
                put16(rec + at * 2, half_of(scale * gain));
                if (w->zero == QUANT_CUDA_ZERO_POINT) rec[64 + at] = (uint8_t)get_zero(s, row, g);
                if (w->zero == QUANT_CUDA_OFFSET) put16(rec + 64 + at * 2, half_of(offset * gain));
            }
        }
    }
    return QUANT_OK;
}
