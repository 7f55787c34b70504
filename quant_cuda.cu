/* quant_cuda.cu - products with quantized weights on NVIDIA GPUs.  The interface is section >>cuda
 * of quant.h; MIT licence, see LICENSE.
 *
 *   nvcc -O3 -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a \
 *        -gencode arch=compute_80,code=compute_80 -c quant_cuda.cu
 *
 * 1. The packed form.  One layout for every 4-bit type (3. is about the others): nibbles q with one
 *    record of scales for each group of columns.  The matrix is cut into tiles of 32 rows x 32
 *    columns, 512 bytes each, stored row tile by row tile, along the columns inside it.  Row tiles
 *    beyond `rows` are padded with zero scales; columns are never padded.
 *
 *    A tile is 32 lanes x 16 bytes: what lane l of a warp loads is its own operand of four
 *    mma.m16n8k16, W as the A operand (16 rows x 16 columns).  g = l / 4, t = l % 4:
 *      word 2 m + s (m, s = 0, 1), nibble pair j = 0..3 at bits 4 j (low) and 4 j + 16 (high):
 *        row    16 m + g + 8 (j & 1)
 *        column 16 s + 2 t + 8 (j >> 1)     and the next one in the high half
 *    so register a[j] of the instruction is (word >> 4 j) & 0x000f000f, made a half float or a
 *    bfloat16 by or-ing an exponent or by nothing at all (see `policy`).  wgmma.m64nNk16 wants the
 *    same operand: four warps with a tile each, m = 0 or 1, have its 64 rows.
 *
 *    Records follow the tiles, [row tile][group]: fp16 scales [8][4], entry [g][i] of row g + 8 i;
 *    then ZERO_POINT: bytes [8][4];  OFFSET: fp16 offsets [8][4].  64, 96 or 128 bytes.
 *    Scales and offsets of a row are multiplied by a power of two that brings the largest to
 *    256..512, so that products of scales and nibbles stay in the range of half floats.  What takes
 *    it out again follows the records: fp32 [row tile][32].
 *
 * 2. The kernel.  A block has wk x wr warps: wr row tiles side by side, wk slices of the columns.
 *    A unit of work is 128 columns: each warp copies its own 2 KiB of weights and its records by
 *    cp.async into a ring in shared memory, the wr warps of a slice share the activations.  No
 *    lane reads weights that another lane loaded.  Partial sums are added over the slices of the
 *    block in shared memory, then over `splits` blocks: of one cluster through distributed shared
 *    memory (9.0 and up), else through the workspace, the last block to arrive adding in the
 *    fixed order 0, 1, ... and resetting its counter.  Every order is fixed: same call, same bytes.
 *    Hopper has two more for the same packed form, with the tensor copy engine: one that computes
 *    as this one does, for few tokens, and one with wgmma.  make_plan() chooses.
 *
 * 3. Codes of other widths, with a kernel of their own (see there): IQ4_NL, Q6_K, Q8_0.  A tile has
 *    128 bytes for each bit of a code, a lane as many words as a code has bits, for the same
 *    weights as above, so that these tiles, too, are operands of mma.m16n8k16:
 *      IQ4_NL  as above, q is an index into a table of 16 numbers.
 *      Q6_K    512 bytes of nibbles as above, bits 0-3 of q; then 256 bytes, 8 of a lane, word m,
 *              pair j of the nibbles' word 2 m + s at bits 8 s + 2 j (low) and + 16: bits 4-5.
 *      Q8_0    512 bytes for m = 0, as many for m = 1, 16 of a lane; word 2 s + (j >> 1), byte
 *              2 (j & 1) for the first column, the next byte for the second; q is the code + 128.
 *    Records of 32 columns like SYMMETRIC; Q6_K's of 256 columns: fp16 scales [8][4], then for each
 *    16 columns bytes [8][4], signed, that multiply them: 576 bytes.
 */
#ifndef QUANT_CUDA
#define QUANT_CUDA
#endif
#include "quant.h"

#include <cuda.h>               /* types only: the driver is not linked */
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <string.h>

#ifdef QUANT_CUDA_EMULATE
#include QUANT_CUDA_EMULATE     /* a text: the machine, for the host                          */
#define Q_WIDE
#endif

/* ---- sizes of the packed form ----------------------------------------------------------------*/
#define Q_BOTH static __host__ __device__       /* tests run these on the host               */

enum {
    Q_TILE_BYTES = 512,
    Q_UNIT = 4,                     /* tiles of a unit of work: 128 columns                      */
    Q_STAGES = 3,                   /* units of the ring in shared memory                        */
    Q_MAX_WARPS = 16,               /* of a block                                                */
    Q_FIXED = 3072,                 /* shared memory beside the ring, with some to spare         */
    Q_COUNTERS = 4096,              /* of the workspace                                          */
    C_WARPS = 8                     /* of a block of the kernels for other codes                 */
};

/* Bytes of a record of one row tile and one group: for 4-bit kernels, for any matrix. */
static __host__ __device__ constexpr uint32_t record_bytes(uint32_t zero)
{
    return zero == QUANT_CUDA_SYMMETRIC ? 64 : zero == QUANT_CUDA_ZERO_POINT ? 96 : 128;
}
Q_BOTH uint32_t matrix_rec_bytes(const quant_cuda_matrix *w)
{
    return w->bits == 6 ? 576 : w->zero == QUANT_CUDA_TABLE ? 64 : record_bytes(w->zero);
}

Q_BOTH size_t row_tiles(const quant_cuda_matrix *w) { return (w->rows + 31) / 32; }
Q_BOTH size_t col_tiles(const quant_cuda_matrix *w) { return w->cols / 32; }
/* Units of work along the columns; records of one */
Q_BOTH size_t col_units(const quant_cuda_matrix *w) { return (col_tiles(w) + Q_UNIT - 1) / Q_UNIT; }
Q_BOTH size_t unit_records(const quant_cuda_matrix *w) { return w->group ? 128 / w->group : 1; }
Q_BOTH size_t tile_bytes(const quant_cuda_matrix *w) { return w->bits * (size_t)128; }
Q_BOTH size_t records(const quant_cuda_matrix *w)
{
    if (w->bits == 6) return w->cols / 256;
    return w->group ? (w->cols + w->group - 1) / w->group : 1;
}
/* Not for the 4-bit kernels but for those of `other codes` */
static bool is_other(const quant_cuda_matrix *w)
{
    return w->bits != 4 || w->zero == QUANT_CUDA_TABLE;
}

Q_BOTH float half_value(uint32_t h)
{
    return __half2float(__half(__half_raw{(unsigned short)h}));
}
Q_BOTH uint32_t half_of(float f)
{
    return ((__half_raw)__float2half_rn(f)).x;
}

/* ---- the machine -----------------------------------------------------------------------------*/
/* A function for each instruction that C++ has no words for; nothing else knows them.  A host
 * without a GPU can bring functions that do the same, as tests/cuda_emulate.h does. */
#ifndef QUANT_CUDA_EMULATE
#define Q_DYNAMIC_SHARED extern __shared__ __align__(128) uint8_t smem[]
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
/* Four 8 x 8 matrices of half floats whose rows lie at the addresses of lanes 0-7, 8-15, ...: lane
 * l gets elements 2 (l % 4) and the next one of row l / 4 of each. */
static __device__ __forceinline__ uint4 load_matrices(uint32_t a)
{
    uint4 v = {0, 0, 0, 0};
#if __CUDA_ARCH__ >= 750
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(a));
#endif
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

/* Barrier `id` for so many threads of the block */
static __device__ __forceinline__ void barrier_sync(uint32_t id, uint32_t threads)
{
    asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(threads) : "memory");
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

/* v of another lane */
static __device__ __forceinline__ float shuffle(float v, uint32_t lane)
{
    return __shfl_sync(0xffffffffu, v, (int)lane);
}

/* Bytes number s & 7 for each nibble s of `sel` out of b:a */
static __device__ __forceinline__ uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t sel)
{
    return __byte_perm(a, b, sel);
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
template <int BF> static __device__ __forceinline__ uint32_t pack_pair(float lo, float hi)
{
    uint32_t r;
    if (BF) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define Q_WIDE
/* *p += v, after all that was written before, also by lanes met in __syncwarp(); what *p was */
static __device__ __forceinline__ unsigned add_release(unsigned *p, unsigned v)
{
    unsigned old;
    asm volatile("atom.add.release.gpu.global.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v)
                 : "memory");
    return old;
}
/* *p, before all that is read after it */
static __device__ __forceinline__ unsigned load_acquire(const unsigned *p)
{
    unsigned v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
/* A vote orders no memory: what the lane that says true has seen is there for all only after
 * __syncwarp() */
static __device__ __forceinline__ bool any_lane(bool b)
{
    const bool any = __any_sync(0xffffffffu, b);
    __syncwarp();
    return any;
}
/* Barrier 1 for the first N threads of the block */
template <int N> static __device__ __forceinline__ void barrier_sync_first()
{
    asm volatile("bar.sync 1, %0;" :: "n"(N) : "memory");
}
/* barrier_init() is seen by the copy engine */
static __device__ __forceinline__ void barrier_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/* Registers of a lane of this warpgroup, from now on */
template <int N> static __device__ __forceinline__ void fewer_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(N));
}
template <int N> static __device__ __forceinline__ void more_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(N));
}
/* The address that shared address a has in block `rank` of the cluster; four floats from there */
static __device__ __forceinline__ uint32_t cluster_address(uint32_t a, uint32_t rank)
{
    uint32_t r;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(rank));
    return r;
}
static __device__ __forceinline__ float4 cluster_load4(uint32_t a)
{
    float4 v;
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(a) : "memory");
    return v;
}
/* The opposite of load_matrices(), transposed */
static __device__ __forceinline__ void store_matrices(uint32_t a, const uint32_t (&v)[4])
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
                 :: "r"(a), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
}
static __device__ __forceinline__ void barrier_init(uint32_t bar, uint32_t count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(bar), "r"(count) : "memory");
}
static __device__ __forceinline__ void barrier_expect(uint32_t bar, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(bar), "r"(bytes)
                 : "memory");
}
static __device__ __forceinline__ void barrier_arrive(uint32_t bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(bar) : "memory");
}
static __device__ __forceinline__ void barrier_wait(uint32_t bar, uint32_t parity)
{
    asm volatile("{\n\t.reg .pred p;\n"
                 "again:\n\t"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n\t"
                 "@!p bra again;\n\t}" :: "r"(bar), "r"(parity) : "memory");
}
/* Copies a box of a tensor, from (col, row, plane) on; its bytes count at the barrier.  What lies
 * outside the tensor becomes 0. */
static __device__ __forceinline__ void tensor_copy(uint32_t dst, const CUtensorMap *map,
                                                   uint32_t col, uint32_t row, uint32_t plane,
                                                   uint32_t bar)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];"
                 :: "r"(dst), "l"(map), "r"(col), "r"(row), "r"(plane), "r"(bar) : "memory");
}
/* The copy engine will need this map soon */
static __device__ __forceinline__ void map_prefetch(const CUtensorMap *map)
{
    asm volatile("prefetch.tensormap [%0];" :: "l"(map) : "memory");
}

static __device__ __forceinline__ void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N> static __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(N) : "memory");
}

/* v, of which the compiler knows no more how it came about */
static __device__ __forceinline__ uint32_t opaque(uint32_t v)
{
    asm volatile("" : "+r"(v));
    return v;
}
/* d is what the wgmma before wgmma_wait<0>() left, not what the compiler knew of it */
static __device__ __forceinline__ void wgmma_result(float &d)
{
    asm volatile("" : "+f"(d) :: "memory");
}

/* Operand lists of the instruction, eight accumulators at a time */
#define W_R(a, b, c, d, e, f, g, h) "%" #a ",%" #b ",%" #c ",%" #d ",%" #e ",%" #f ",%" #g ",%" #h
#define W_R0 W_R(0, 1, 2, 3, 4, 5, 6, 7)
#define W_R1 W_R0 "," W_R(8, 9, 10, 11, 12, 13, 14, 15)
#define W_R2 W_R1 "," W_R(16, 17, 18, 19, 20, 21, 22, 23)
#define W_R3 W_R2 "," W_R(24, 25, 26, 27, 28, 29, 30, 31)
#define W_R4 W_R3 "," W_R(32, 33, 34, 35, 36, 37, 38, 39)
#define W_R5 W_R4 "," W_R(40, 41, 42, 43, 44, 45, 46, 47)
#define W_R6 W_R5 "," W_R(48, 49, 50, 51, 52, 53, 54, 55)
#define W_R7 W_R6 "," W_R(56, 57, 58, 59, 60, 61, 62, 63)
#define W_R11 W_R7 "," W_R(64, 65, 66, 67, 68, 69, 70, 71) "," \
    W_R(72, 73, 74, 75, 76, 77, 78, 79) "," W_R(80, 81, 82, 83, 84, 85, 86, 87) "," \
    W_R(88, 89, 90, 91, 92, 93, 94, 95)
#define W_R15 W_R11 "," W_R(96, 97, 98, 99, 100, 101, 102, 103) "," \
    W_R(104, 105, 106, 107, 108, 109, 110, 111) "," \
    W_R(112, 113, 114, 115, 116, 117, 118, 119) "," \
    W_R(120, 121, 122, 123, 124, 125, 126, 127)
#define W_D(i) "+f"(d[8 * i]), "+f"(d[8 * i + 1]), "+f"(d[8 * i + 2]), "+f"(d[8 * i + 3]), \
    "+f"(d[8 * i + 4]), "+f"(d[8 * i + 5]), "+f"(d[8 * i + 6]), "+f"(d[8 * i + 7])
#define W_D1 W_D(0), W_D(1)
#define W_D3 W_D1, W_D(2), W_D(3)
#define W_D5 W_D3, W_D(4), W_D(5)
#define W_D7 W_D5, W_D(6), W_D(7)
#define W_D11 W_D7, W_D(8), W_D(9), W_D(10), W_D(11)
#define W_D15 W_D11, W_D(12), W_D(13), W_D(14), W_D(15)
#define W_ASM(N, TYPE, REGS, IN, ...) \
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.b32 p, 1, 0;\n\t" \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" REGS "}, " \
                 IN ", p, 1, 1, 0;\n\t}" : __VA_ARGS__ \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(desc))
#define W_CASE(N, REGS, IN, ...) \
    if constexpr (T == N && BF) W_ASM(N, "bf16", REGS, IN, __VA_ARGS__); \
    if constexpr (T == N && !BF) W_ASM(N, "f16", REGS, IN, __VA_ARGS__)

/* d += A B: 64 rows x T tokens x 16 columns; lane l of warp w has rows 16 w + l / 4 (+ 8) and of
 * every eight tokens 2 (l % 4) and the next one: d[4 n + 2 (row half) + (token & 1)]. */
template <int BF, int T>
static __device__ __forceinline__ void wgmma(float (&d)[T / 2], const uint32_t (&a)[4],
                                             uint64_t desc)
{
    W_CASE(16, W_R0, "{%8,%9,%10,%11}, %12", W_D(0));
    W_CASE(32, W_R1, "{%16,%17,%18,%19}, %20", W_D1);
    W_CASE(48, W_R2, "{%24,%25,%26,%27}, %28", W_D1, W_D(2));
    W_CASE(64, W_R3, "{%32,%33,%34,%35}, %36", W_D3);
    W_CASE(96, W_R5, "{%48,%49,%50,%51}, %52", W_D5);
    W_CASE(128, W_R7, "{%64,%65,%66,%67}, %68", W_D7);
    W_CASE(192, W_R11, "{%96,%97,%98,%99}, %100", W_D11);
    W_CASE(256, W_R15, "{%128,%129,%130,%131}, %132", W_D15);
}
#endif /* __CUDA_ARCH_FEAT_SM90_ALL */
#endif /* QUANT_CUDA_EMULATE */

/* ---- device code -----------------------------------------------------------------------------*/
/* All that a kernel needs, passed by value. */
struct quant__job {
    const uint8_t *tiles, *recs;    /* the packed form                                           */
    const float *gains;
    const void *x, *bias;           /* bias: [row], the type of y; NULL: none                    */
    void *y;
    /* of the workspace; the wgmma kernel has its own arrangement: see wide_left() */
    float *part;                    /* [block][split][token][row]                                */
    unsigned *count;                /* [block]                                                   */
    size_t ldx, ldy;
    uint32_t rows, tokens, kt;      /* kt: tiles of 32 columns                                   */
    uint32_t row_tiles, n_recs;
    uint32_t tiles_per_group;       /* 1, 2, 4; 4 for a whole column, too                        */
    uint32_t recs_per_unit;         /* 4 / tiles_per_group; 0: the one record of a whole column  */
    uint32_t wr, wk, splits, cluster;
    float factor;
};

template <int BF> Q_BOTH __forceinline__ float load_act(const void *x, size_t i)
{
    if (BF) return __bfloat162float(((const __nv_bfloat16 *)x)[i]);
    return __half2float(((const __half *)x)[i]);
}
template <int BF> Q_BOTH __forceinline__ void store_pair(void *y, size_t i, float2 v)
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

/* factor gain v + bias, for two rows of y */
template <int BF>
Q_BOTH __forceinline__ float2 scaled(const quant__job &j, float2 v, float factor,
                                                float2 gain, uint32_t row)
{
    float2 b = {0, 0};
    v.x *= gain.x;
    v.y *= gain.y;
    if (j.bias && row < j.rows) b = make_float2(load_act<BF>(j.bias, row),
                                                load_act<BF>(j.bias, row + 1));
    return make_float2(fmaf(v.x, factor, b.x), fmaf(v.y, factor, b.y));
}

/* How the tensor-core kernel treats the scales, by the number of 8-token tiles NT.
 *   2 and 4 tiles: q - zero is formed exactly, in half floats or bfloat16, before the product; sums
 *     of a group are multiplied by their scale in fp32.
 *   1 tile, and OFFSET: mma takes the bare nibbles: as half floats they are denormals q 2^-24,
 *     which the tensor cores multiply exactly (2^24 goes into the last factor), as bfloat16
 *     128 + q.  One more mma with ones for 32 columns of a tile gives the sums of x that offsets
 *     and zero points multiply.  For more tiles that costs more than the subtractions.
 *   8 tiles: two sets of accumulators would not fit; the scale goes into the weights.
 * Half floats have room for a nibble at bit 4 as well, which saves shifts: rows g + 8 are then 16
 * times too large and their scales divided by 16 (`high`). */
template <int BF, int NT, int ZM> struct policy {
    static constexpr bool high = !BF;
    static constexpr bool in_weights = NT >= 8 && !BF;
    static constexpr bool ones = !in_weights && (ZM == QUANT_CUDA_OFFSET || NT == 1);
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
            r.s[i] = half_value(sh) * (high ? 0.0625f : 1.0f);
            if (ZM == QUANT_CUDA_OFFSET) r.z[i] = half_value(oh);
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
    const int t = threadIdx.x & 3;
#pragma unroll
    for (int n = 0; n < NT; n++) {
        /* The activations of 32 columns as they are, taken for an A operand, are eight tokens of
         * columns 0-7 and 16-23, then the same tokens of columns 8-15 and 24-31. */
        float sums[2] = {0, 0};                 /* of this lane's two tokens                   */
        if (P::ones) {
            const float sum = sum_x[n][0] + sum_x[n][2];
#pragma unroll
            for (int c = 0; c < 2; c++) sums[c] = shuffle(sum, (uint32_t)(2 * t + c) * 4);
        }
#pragma unroll
        for (int m = 0; m < 2; m++) {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                int row = 2 * m + (c >> 1);
                float v = acc[m][n][c], sx = sums[c & 1];
                if (ZM == QUANT_CUDA_OFFSET) {
                    if (BF) v = fmaf(-128.0f, sx, v);
                    total[m][n][c] = fmaf(r.z[row], sx, total[m][n][c]);
                } else if (P::ones) v = fmaf(-r.z[row], sx, v);
                total[m][n][c] = fmaf(r.s[row], v, total[m][n][c]);
                acc[m][n][c] = 0;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < NT * 4; i++) sum_x[i / 4][i % 4] = 0;
}

/* Activations of 128 columns in shared memory: two halves, each [token][128 bytes] in 16-byte
 * pieces, piece p of a line at p ^ (line & 7), so that one piece of eight tokens lies in all 32
 * banks.  Where in its half this lane finds its piece of the first 32 columns; line: number of the
 * first one of the half.  Columns of a product are independent: what is read for tokens beyond the
 * last one does not matter, if only it is inside our memory. */
static __device__ __forceinline__ uint32_t x_place(uint32_t lane, uint32_t token, uint32_t line)
{
    return token * 128 + ((lane >> 3 ^ (line + token)) & 7) * 16;
}

/* One unit: 32 rows x 128 columns x NT * 8 tokens.  Shared addresses: ws this lane's 16 bytes of
 * the first tile, rec the records, x0 and x1 its places in the halves of the activations.  TPG:
 * tiles of a group where known, else 0. */
template <int BF, int NT, int ZM, int TPG, bool AHEAD>
static __device__ __forceinline__ void unit(float (&total)[2][NT][4], uint32_t ws, uint32_t rec,
                                            uint32_t x0, uint32_t x1, uint32_t tiles_per_group,
                                            int g)
{
    typedef policy<BF, NT, ZM> P;
    const uint32_t one = BF ? 0x3f803f80u : 0x00010001u;
    float acc[2][NT][4] = {}, sum_x[NT][4] = {};
    row_scales r;
    uint4 q[Q_UNIT], b[2][NT];
    if (TPG) tiles_per_group = TPG;
    auto load_x = [&](int k) {
#pragma unroll
        for (int n = 0; n < NT; n++)
            b[k & 1][n] = load_matrices(((k < 2 ? x0 : x1) ^ (uint32_t)((k & 1) * 64)) + n * 1024);
    };
    if (AHEAD) {
        q[0] = load_shared16(ws);
        load_x(0);
#pragma unroll
        for (int k = 1; k < Q_UNIT; k++) q[k] = load_shared16(ws + k * Q_TILE_BYTES);
    }
#pragma unroll
    for (int k = 0; k < Q_UNIT; k++) {
        if ((k & (tiles_per_group - 1)) == 0) {
            load_scales<BF, NT, ZM>(r, rec, g);
            rec += record_bytes(ZM);
        }
        if (!AHEAD) q[k] = load_shared16(ws + k * Q_TILE_BYTES);
        if (!AHEAD) load_x(k);
        else if (k + 1 < Q_UNIT) load_x(k + 1);
#pragma unroll
        for (int s = 0; s < 2; s++) {
            uint32_t a[2][4];
            weights<BF, NT, ZM>(a[0], s ? q[k].y : q[k].x, r, 0);
            weights<BF, NT, ZM>(a[1], s ? q[k].w : q[k].z, r, 1);
#pragma unroll
            for (int n = 0; n < NT; n++) {
                const uint4 x = b[k & 1][n];
                const uint32_t b0 = s ? x.z : x.x, b1 = s ? x.w : x.y;
#pragma unroll
                for (int m = 0; m < 2; m++)
                    mma<BF>(P::in_weights ? total[m][n] : acc[m][n], a[m], b0, b1);
                if (P::ones && s) {             /* tokens as rows, see end_group()             */
                    const uint32_t rows[4] = {x.x, x.y, x.z, x.w};
                    mma<BF>(sum_x[n], rows, one, one);
                }
            }
        }
        if (!P::in_weights && ((k + 1) & (tiles_per_group - 1)) == 0)
            end_group<BF, NT, ZM>(total, acc, sum_x, r);
    }
}

/* Adds the partial sums of a block's slices and of all blocks of the split, and writes y.
 * Called by all threads, also of a warp beyond wr wk, which has none; `part` is free shared memory,
 * [wk][mt][pitch]. */
template <int BF, int NT>
static __device__ __forceinline__ void finish(const quant__job &j, float (&total)[2][NT][4],
                                              float *part, uint32_t block_row, uint32_t split,
                                              uint32_t token0, uint32_t mt, float factor,
                                              const float *gains)
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
                if (token < mt && wk < j.wk)
                    part[(wk * mt + token) * pitch + wr * 32 + 16 * m + g + 8 * (c >> 1)]
                        = total[m][n][c];
            }
    __syncthreads();
    const uint32_t block = blockIdx.z * (gridDim.x / j.splits) + block_row;
    const size_t tile = (size_t)n_rows * mt;
    float *mine = j.part + ((size_t)block * j.splits) * n_rows * (NT * 8);
    /* a warp adds up its own rows, two a lane, two tokens at a time, its slice's share of them: no
     * division, which took as long as the rest */
    const uint32_t end = wk < j.wk ? mt : 0, r = wr * 32 + (lane & 15) * 2;
    for (uint32_t token = wk * 2 + (lane >> 4); token < end; token += j.wk * 2) {
        float *p = part + token * pitch + r;
        float2 v = *(float2 *)p;
        for (uint32_t k = 1; k < j.wk; k++) {
            float2 a = *(float2 *)(p + k * mt * pitch);
            v.x += a.x;
            v.y += a.y;
        }
        if (j.splits == 1) {
            v = scaled<BF>(j, v, factor, *(const float2 *)(gains + r), row0 + r);
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
        /* a warp's pairs stay together: 32 pairs in turn for each block of the cluster; without the
         * division ptxas takes 16 registers more for unit(), of all things */
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
        v = scaled<BF>(j, v, factor, *(const float2 *)(gains + r), row0 + r);
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
    Q_DYNAMIC_SHARED;
    __shared__ __align__(16) float gains[Q_MAX_WARPS * 32];     /* of the rows of the block      */
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
    const uint32_t x_half = (NT == 1 ? mt : NT * 8) * 128;
    const uint32_t stage_bytes = (j.wr * w_bytes + 2 * x_half + 127) / 128 * 128;
    const uint32_t ring = smem_address(smem) + wk * ST * stage_bytes;
    const uint32_t w_at = 2 * x_half + wr * w_bytes;            /* in a stage, after x           */

    /* What the next copies read; all advance by wk units at a time. */
    const uint8_t *w_src = j.tiles + ((size_t)row_tile * j.kt + (size_t)u0 * Q_UNIT)
                                     * Q_TILE_BYTES + lane * 16;
    const uint8_t *rec_src = j.recs + (size_t)row_tile * j.n_recs * record_bytes(ZM) + lane * 16;
    uint32_t rec_off = u0 * j.recs_per_unit * record_bytes(ZM);
    uint32_t w_unit = u0, x_unit = u0;
    const uint32_t full = j.kt / Q_UNIT;        /* units before the last one, if that is cut   */

    /* This lane copies 16-byte piece p of 256 bytes of tokens x_token, x_token + 2 wr, ... */
    const uint32_t x_token = (wr * 32 + lane) >> 4, p = lane & 15;
    const uint8_t *x_src = (const uint8_t *)j.x
        + ((size_t)(token0 + x_token) * j.ldx + (size_t)u0 * 128) * 2 + p * 16;
    const size_t x_step = (size_t)j.wr * 2 * j.ldx * 2;

    auto copy_weights = [&](uint32_t stage) {
        const uint32_t dst = stage + w_at + lane * 16;
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
        const uint32_t dst = stage + (p >> 3) * x_half;
        for (uint32_t token = x_token; token < mt; token += j.wr * 2) {
            copy16_if(dst + token * 128 + (((p ^ token) & 7) << 4), src, valid);
            src += x_step;
        }
        x_src += (size_t)j.wk * 256;
        x_unit += j.wk;
    };

    let_next_start();
    if (threadIdx.x < j.wr * 8) {
        const uint32_t r = block_row * j.wr * 32 + threadIdx.x * 4;
        copy16_if(smem_address(gains + threadIdx.x * 4), j.gains + r, r < j.row_tiles * 32);
    }
    for (uint32_t i = 0; i < ST - 1 && i < n; i++) copy_weights(ring + i * stage_bytes);
    wait_for_stream();
    for (uint32_t i = 0; i < ST - 1; i++) {
        if (i < n) copy_x(ring + i * stage_bytes);
        copy_commit();
    }

    const uint32_t my_x = x_place(lane, NT == 1 ? min(lane & 7, mt - 1) : lane & 7, 0);
    float total[2][NT][4] = {};
    uint32_t use = ring, fill = ring + (ST - 1) * stage_bytes;
    const uint32_t end = ring + ST * stage_bytes;
    for (uint32_t i = 0; i < n; i++) {
        copy_wait<ST - 2>();
        if (j.wr == 1) __syncwarp();
        else barrier_sync(wk + 1, j.wr * 32);
        /* all warps of the slice are past unit i - 1, whose stage is the next to be filled */
        if (i + ST - 1 < n) {
            copy_weights(fill);
            copy_x(fill);
        }
        copy_commit();
        unit<BF, NT, ZM, TPG, false>(total, use + w_at + lane * 16,
                                     use + w_at + Q_UNIT * Q_TILE_BYTES, use + my_x,
                                     use + my_x + x_half, j.tiles_per_group, lane >> 2);
        use = use + stage_bytes == end ? ring : use + stage_bytes;
        fill = fill + stage_bytes == end ? ring : fill + stage_bytes;
    }
    copy_wait<0>();
    __syncthreads();
    float factor = j.factor * (P::ones && !BF ? 16777216.0f : 1.0f);
    finish<BF, NT>(j, total, (float *)smem, block_row, split, token0, mt, factor, gains);
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
                x[i] = load_act<BF>(j.x, token * j.ldx + k * 32 + (i >> 2) * 16
                                         + (i >> 1 & 1) * 8 + t * 2 + (i & 1));
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
                float s = half_value(((const uint16_t *)rec)[g * 4 + r]), off = -8 * s;
                if (zero == QUANT_CUDA_ZERO_POINT) off = -s * rec[64 + g * 4 + r];
                if (zero == QUANT_CUDA_OFFSET)
                    off = half_value(((const uint16_t *)(rec + 64))[g * 4 + r]);
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
            v = scaled<BF>(j, v, j.factor, *(const float2 *)(j.gains + row_tile * 32 + row),
                           row_tile * 32 + row);
            store_pair<BF>(j.y, token * j.ldy + row_tile * 32 + row, v);
        }
        __syncthreads();
    }
}

/* ---- Hopper: wgmma, the weights as its register operand --------------------------------------*/
/* A block is 8 or 12 consumer warps and two that copy.  It has RT row tiles and T tokens: 8 tiles,
 * one for each of 8 warps; 4 and 6 tiles, half of one for each of 8 or 12; four warps with a half
 * each, 64 rows, make one wgmma.m64nTk16.  A stage of the ring is 128 columns: activations
 * [2][T][64] as the tensor copy engine swizzles them (128 bytes a row), the tiles [RT][4], the
 * records [RT][..].  full[]: bytes have arrived; empty[]: the consumers are done.
 *   Which columns of which tile a block takes, see wide_walk: whole tiles in turn, the ring running
 * on; then an equal share, to the unit, of the tiles that do not go round.  A tile that several
 * blocks share is added up by one of them, in their order, from the workspace: see wide_sharers.
 * Small products are split evenly instead: two to four blocks swap their sums, see wide_swap(), or
 * the blocks of a cluster add up through distributed shared memory. */
struct quant__wide_job {
    CUtensorMap x_map;              /* columns, tokens, 1; boxes of 64 x T x 1                   */
    CUtensorMap tile_map, rec_map;  /* 8 bytes, row tiles, 1; boxes of a unit x RT x 1           */
    quant__job j;
    uint32_t stages, stage_bytes;   /* of the ring                                               */
    uint32_t row_blocks, tiles;     /* tiles: row_blocks times token tiles                       */
    uint32_t whole;                 /* the first tiles, which are not shared                     */
    uint32_t zero;                  /* quant_cuda_matrix.zero                                    */
};

enum { W_GROUP = 16 };              /* row blocks that are done for all tokens before the next   */
static constexpr uint32_t W_MAX_STAGES = 16;
/* Consumer warps of a block */
static __host__ __device__ constexpr int wide_warps(int rt) { return rt == 6 ? 12 : 8; }
/* Shared memory beside the ring: `transposed`, `gains` and `bars` */
static __host__ __device__ constexpr size_t wide_fixed(int rt)
{
    return wide_warps(rt) * (768 + 32 * 4) + 2 * W_MAX_STAGES * 8;
}

/* Blocks of a multiprocessor that the registers should allow, and threads of a block.  Alone, a
 * block has whole warpgroups only and moves registers from the copying one to the others: a quarter
 * of the multiprocessor has 512 for each lane, 232 + 232 + 40 or 3 x 152 + 40.  Of two blocks, each
 * has two warps that copy and 96 registers. */
static __host__ __device__ constexpr int wide_blocks(int t, int rt)
{
    return t <= (rt == 4 ? 48 : rt == 8 ? 32 : 0) ? 2 : 1;
}
static __host__ __device__ constexpr int wide_threads(int t, int rt)
{
    return wide_warps(rt) * 32 + (wide_blocks(t, rt) == 1 ? 128 : 64);
}

/* Whether there is a wide_swap() of S blocks */
static __host__ __device__ constexpr bool wide_swaps(int t, int rt, int s)
{
    return rt != 8 && s >= 2 && s <= 4 && t / 16 >= s;
}

/* Whether there is such a kernel, see wide_kernel() */
static constexpr bool wide_exists(uint32_t t, uint32_t rt)
{
    return rt == 4 || (t <= 128 && (rt == 8 || t >= 64));
}

#ifdef Q_WIDE
/* Halves of row tiles of a consumer warp; the sums of a lane: of each half, eight tokens and two
 * rows at a time */
static __host__ __device__ constexpr int wide_halves(int rt) { return rt == 8 ? 2 : 1; }
template <int T, int RT> using wide_sums = float[wide_halves(RT)][T / 2];

/* Scale, zero point and offset of a lane's 2 MT rows, each twice in a register as half floats, for
 * weights W_SCALE times too small: a nibble q where it stands in its word is the half float q 2^-24
 * (rows g) or q 2^-20 (rows g + 8), a denormal, which costs nothing on these devices.  So
 *     w = q s - 8 s           8 s is exact; offsets alike: one fma
 *     w = (q - z) s           z s would not be exact: one subtraction more, ZERO_POINT only
 * s up to 512 gives w up to 2^-5; scales 2^-8 times the row's largest still keep all their bits. */
#define W_SCALE 262144.0f           /* 2^18                                                      */
template <int MT, int SUB> struct wide_scales { uint32_t s[2 * MT], o[2 * MT], z[2 * MT]; };

template <int MT, int SUB>
static __device__ __forceinline__ void wide_load_scales(wide_scales<MT, SUB> &r, uint32_t rec,
                                                        int g, uint32_t half, uint32_t zero)
{
    uint32_t s[2] = {0, 0}, o[2] = {0, 0}, z = 0;
    if (MT == 2) {
        uint2 v = load_shared8(rec + g * 8);
        s[0] = v.x;
        s[1] = v.y;
    } else s[0] = load_shared4(rec + g * 8 + half * 4);
    if (SUB) {
        z = load_shared4(rec + 64 + g * 4);
        if (MT == 1 && half) z >>= 16;
    } else {
        const bool is_offset = zero == QUANT_CUDA_OFFSET;
        const uint32_t by = is_offset ? 0x00010001u /* 2^-24 */ : 0x82008200u /* -2^-15 */;
#pragma unroll
        for (int m = 0; m < MT; m++) {
            o[m] = s[m];
            if (is_offset) o[m] = load_shared4(rec + 64 + g * 8 + (MT == 2 ? m : half) * 4);
            if (is_offset) o[m] = half2_mul(o[m], 0x54005400u);     /* 2^6: 2^-18 in all       */
            o[m] = half2_mul(o[m], by);
        }
    }
#pragma unroll
    for (int i = 0; i < 2 * MT; i++) {
        const uint32_t zi = z >> 8 * i & 0xff;
        r.s[i] = pick_bytes(s[i >> 1], 0, i & 1 ? 0x3232 : 0x1010);
        r.s[i] = half2_mul(r.s[i], i & 1 ? 0x44004400u /* 4 */ : 0x54005400u /* 64 */);
        if (SUB) r.z[i] = (i & 1 ? zi * 16 : zi) * 0x10001u;
        else r.o[i] = pick_bytes(o[i >> 1], 0, i & 1 ? 0x3232 : 0x1010);
    }
}

/* The A operand of 16 rows x 16 columns from one word; i: its first row in r */
template <int BF, int MT, int SUB>
static __device__ __forceinline__ void wide_weights(uint32_t (&a)[4], uint32_t w,
                                                    const wide_scales<MT, SUB> &r, int i)
{
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const int row = i + (k & 1);
        a[k] = (k & 2 ? w >> 8 : w) & (k & 1 ? 0x00f000f0u : 0x000f000fu);
        if (SUB) a[k] = half2_mul(half2_sub(a[k], r.z[row]), r.s[row]);
        else a[k] = half2_fma(a[k], r.s[row], r.o[row]);
        if (BF) {
            __half2 h = *(__half2 *)&a[k];
            __nv_bfloat162 b = __floats2bfloat162_rn(__low2float(h), __high2float(h));
            a[k] = *(uint32_t *)&b;
        }
    }
}

/* A walk over the stages of the ring; the barrier's parity to wait for */
struct wide_cursor { uint32_t stage, parity; };

static __device__ __forceinline__ void wide_next(wide_cursor &c, uint32_t stages)
{
    if (++c.stage == stages) {
        c.stage = 0;
        c.parity ^= 1;
    }
}

/* Row block and token tile of a tile; neighbours share activations, groups of them share weights */
static __device__ __forceinline__ uint2 wide_place(const quant__wide_job &w, uint32_t tile)
{
    const uint32_t token_tiles = w.tiles / w.row_blocks, in_group = W_GROUP * token_tiles;
    const uint32_t first = tile / in_group * W_GROUP, r = tile % in_group;
    const uint32_t width = min((uint32_t)W_GROUP, w.row_blocks - first);
    return make_uint2(first + r % width, r / width);
}

/* The work of a block: tiles block, block + blocks, ... < whole, then units pos .. end - 1 counted
 * through the tiles from `whole` on.  Split over a cluster: pos .. end only. */
struct wide_walk { uint32_t units, tile, pos, end; };
struct wide_part { uint32_t tile, u0, u1; };        /* units u0 .. u1 - 1 of a tile               */

static __device__ __forceinline__ uint32_t wide_share(const quant__wide_job &w, uint32_t units,
                                                      uint32_t block)
{
    return (uint32_t)((uint64_t)(w.tiles - w.whole) * units * block / gridDim.x);
}
static __device__ __forceinline__ wide_walk wide_start(const quant__wide_job &w)
{
    wide_walk k = {(w.j.kt + Q_UNIT - 1) / Q_UNIT, blockIdx.x, 0, 0};
    if (w.j.splits > 1) {           /* at most 8: no overflow; divisions of 64 bits take long    */
        const uint32_t split = blockIdx.x % w.j.splits, first = blockIdx.x / w.j.splits * k.units;
        k.pos = first + k.units * split / w.j.splits;
        k.end = first + k.units * (split + 1) / w.j.splits;
    } else if (w.whole < w.tiles) {
        k.pos = wide_share(w, k.units, blockIdx.x);
        k.end = wide_share(w, k.units, blockIdx.x + 1);
    }
    return k;
}
static __device__ __forceinline__ bool wide_step(const quant__wide_job &w, wide_walk &k,
                                                 wide_part &p)
{
    if (k.tile < w.whole) {
        p = {k.tile, 0, k.units};
        k.tile += gridDim.x;
        return true;
    }
    if (k.pos >= k.end) return false;
    p.tile = k.pos / k.units;
    p.u0 = k.pos - p.tile * k.units;
    p.u1 = min(k.units, p.u0 + k.end - k.pos);
    p.tile += w.whole;
    k.pos += p.u1 - p.u0;
    return true;
}

/* The copying threads, of a warp each: one asks for weights and records, the other for activations,
 * once the kernels before this one are done: it takes a thread a microsecond to ask for as much as
 * the ring holds, which x should not have to wait for. */
template <int T, int RT>
static __device__ __forceinline__ void wide_copy(const quant__wide_job &w, bool x, uint32_t ring,
                                                 uint32_t full, uint32_t empty, wide_walk &walk,
                                                 wide_part &p)
{
    constexpr uint32_t W_BYTES = RT * Q_UNIT * Q_TILE_BYTES;
    const uint32_t rec_words = max(w.j.recs_per_unit, 1u) * record_bytes(w.zero) / 8;
    const uint32_t bytes = T * 256 + W_BYTES + RT * rec_words * 8;
    const uint32_t rec_step = w.j.recs_per_unit ? rec_words : 0;
    wide_cursor c = {0, 1};
    if (x) wait_for_stream();
    do {
        const uint2 at = wide_place(w, p.tile);
        for (uint32_t u = p.u0; u < p.u1; u++, wide_next(c, w.stages)) {
            const uint32_t bar = full + c.stage * 8;
            const uint32_t x_to = ring + c.stage * w.stage_bytes, to = x_to + T * 256;
            barrier_wait(empty + c.stage * 8, c.parity);
            if (x) {
                tensor_copy(x_to, &w.x_map, u * 128, at.y * T, 0, bar);
                tensor_copy(x_to + T * 128, &w.x_map, u * 128 + 64, at.y * T, 0, bar);
            } else {
                barrier_expect(bar, bytes);
                tensor_copy(to, &w.tile_map, u * (Q_UNIT * Q_TILE_BYTES / 8), at.x * RT, 0, bar);
                tensor_copy(to + W_BYTES, &w.rec_map, u * rec_step, at.x * RT, 0, bar);
            }
        }
    } while (wide_step(w, walk, p));
}

/* One tile of the product.  The words of the next 32 columns are made into operands while the
 * tensor cores work on those before: two sets of registers. */
template <int BF, int T, int RT, int BIG, int SUB>
static __device__ __forceinline__ void wide_tile(const quant__wide_job &w, wide_sums<T, RT> &acc,
                                                 uint32_t ring, uint32_t full, uint32_t empty,
                                                 wide_cursor &c, uint32_t u0, uint32_t u1)
{
    constexpr int MT = wide_halves(RT);
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2;
    /* opaque, or ptxas may put operands together between two wgmma and serialize them (C7513) */
    const uint32_t half = opaque(warp / RT), my_tile = opaque(warp % RT);
    const uint32_t rpu = max(w.j.recs_per_unit, 1u), rb = record_bytes(w.zero);
    const uint32_t w_at = T * 256 + my_tile * (Q_UNIT * Q_TILE_BYTES) + lane * 16 + half * 8;
    const uint32_t rec_at = T * 256 + RT * (Q_UNIT * Q_TILE_BYTES) + my_tile * rpu * rb;
    wide_scales<MT, SUB> r;
    uint32_t a[2][2][MT][4], before = 0;

#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < T / 2; i++) acc[m][i] = 0;
    for (uint32_t u = u0; u < u1; u++) {
        const uint32_t stage = ring + c.stage * w.stage_bytes, bar = c.stage * 8;
        const uint64_t desc = (stage >> 4) | 1u << 16 | (uint64_t)(64 | 1u << 30) << 32;
        barrier_wait(full + bar, c.parity);
        if (BIG) wide_load_scales<MT, SUB>(r, stage + rec_at, g, half, w.zero);
#pragma unroll
        for (int k = 0; k < Q_UNIT; k++) {
            uint32_t q[2][MT];          /* [columns 0-15, 16-31][half]                           */
            if (MT == 2) {
                const uint4 v = load_shared16(stage + w_at + k * Q_TILE_BYTES);
                q[0][0] = v.x;
                q[1][0] = v.y;
                q[0][MT - 1] = v.z;
                q[1][MT - 1] = v.w;
            } else {
                const uint2 v = load_shared8(stage + w_at + k * Q_TILE_BYTES);
                q[0][0] = v.x;
                q[1][0] = v.y;
            }
            if (!BIG) {
                const uint32_t i = k >> (w.j.tiles_per_group >> 1);     /* 1 or 2              */
                wide_load_scales<MT, SUB>(r, stage + rec_at + i * rb, g, half, w.zero);
            }
            wgmma_wait<1>();
            if (k == 1) {               /* all that was read before this stage is done with      */
                if (u > u0 && lane == 0) barrier_arrive(empty + before);
                before = bar;
            }
#pragma unroll
            for (int s = 0; s < 2; s++)
#pragma unroll
                for (int m = 0; m < MT; m++)
                    wide_weights<BF, MT, SUB>(a[k & 1][s][m], q[s][m], r, 2 * m);
            wgmma_fence();
#pragma unroll
            for (int s = 0; s < 2; s++)
#pragma unroll
                for (int m = 0; m < MT; m++)
                    wgmma<BF, T>(acc[m], a[k & 1][s][m],
                                 desc + (k >> 1) * (T * 8) + ((k & 1) * 2 + s) * 2);
            wgmma_commit();
        }
        wide_next(c, w.stages);
    }
    wgmma_wait<0>();
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < T / 2; i++) wgmma_result(acc[m][i]);
    if (u0 < u1 && lane == 0) barrier_arrive(empty + before);
}

/* First row of a warp in a block; its gains into shared memory, by the time of copy_wait() */
template <int RT> static __device__ __forceinline__ uint32_t wide_row()
{
    const uint32_t warp = threadIdx.x >> 5;
    return warp % RT * 32 + warp / RT * 16;
}
template <int RT>
static __device__ __forceinline__ void wide_gains(const quant__job &j, float *gains,
                                                  uint32_t row_block)
{
    const uint32_t lane = threadIdx.x & 31;
    const uint32_t row = row_block * (RT * 32) + wide_row<RT>() + lane * 4;
    copy_wait<0>();                     /* those of the tile before have come, and been read   */
    __syncwarp();
    if (lane < wide_halves(RT) * 4)
        copy16_if(smem_address(gains + lane * 4), j.gains + row, row < j.row_tiles * 32);
    copy_commit();
}

/* Writes a whole tile, a warp its own rows, transposed through `stage` (bytes of this warp alone),
 * 8 or 16 tokens at a time: RT = 8: [8 tokens][32 rows], 80 bytes apart; else [16 tokens][16 rows],
 * 48 bytes apart.  step: every so many of these eights or sixteens of y are there. */
template <int BF, int T, int RT>
static __device__ __forceinline__ void wide_store(const quant__job &j, wide_sums<T, RT> &acc,
                                                  const float *gains, uint32_t stage, uint32_t row0,
                                                  uint32_t token0, uint32_t step)
{
    constexpr int MT = wide_halves(RT);
    constexpr uint32_t PITCH = MT == 2 ? 80 : 48, PIECES = MT == 2 ? 4 : 2;
    constexpr int OCTETS = MT == 2 ? 1 : 2;             /* of tokens at a time                  */
    const uint32_t lane = threadIdx.x & 31;
    const uint32_t mat = lane >> 3, piece = lane % PIECES, token = lane / PIECES;
    const uint32_t to = stage + (MT == 2 ? (lane & 7) * PITCH + mat * 16
                                         : ((mat >> 1) * 8 + (lane & 7)) * PITCH + (mat & 1) * 16);
    const uint32_t from = stage + token * PITCH + piece * 16;
    const uint32_t row = row0 + wide_row<RT>() + piece * 8;
    float b[MT][2], f[MT][2];           /* bias and factor                                       */
#pragma unroll
    for (int i = 0; i < 2 * MT; i++) {
        uint32_t r = row - piece * 8 + i * 8 + (lane >> 2);
        f[i >> 1][i & 1] = gains[i * 8 + (lane >> 2)] * j.factor * W_SCALE;
        b[i >> 1][i & 1] = j.bias && r < j.rows ? load_act<BF>(j.bias, r) : 0.0f;
    }
#pragma unroll
    for (int n = 0; n < T / 8; n += OCTETS) {
        uint32_t v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int m = MT == 2 ? i >> 1 : 0, e = 4 * (n + (MT == 2 ? 0 : i >> 1)) + 2 * (i & 1);
            v[i] = pack_pair<BF>(fmaf(acc[m][e], f[m][i & 1], b[m][i & 1]),
                                 fmaf(acc[m][e + 1], f[m][i & 1], b[m][i & 1]));
        }
        __syncwarp();
        store_matrices(to, v);
        __syncwarp();
        const uint4 o = load_shared16(from);
        const size_t t = token0 + n * 8 * step + token;
        if (t < j.tokens && row < j.rows) *(uint4 *)((uint16_t *)j.y + t * j.ldy + row) = o;
    }
}

/* Adds the partial sums of the blocks of a cluster, in their order; each block writes its share.
 * Called by the consumers: the copying warps have left, and barriers of a cluster know that. */
template <int BF, int T, int RT>
static __device__ __forceinline__ void wide_reduce(const quant__job &j, wide_sums<T, RT> &acc,
                                                   const float (*gains)[32], float *part,
                                                   uint32_t row0, uint32_t token0, uint32_t split)
{
    constexpr int MT = wide_halves(RT);
    constexpr uint32_t R = RT * 32, PITCH = R + 4;
    const uint32_t tid = threadIdx.x, lane = tid & 31;
    const uint32_t mt = min((uint32_t)T, j.tokens - token0);
    const uint32_t row = wide_row<RT>() + (lane >> 2);
    /* nobody reads the ring any more */
    barrier_sync_first<wide_warps(RT) * 32>();
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < T / 2; i++) {
            uint32_t token = i / 4 * 8 + 2 * (lane & 3) + (i & 1);
            if (token < mt) part[token * PITCH + row + 16 * m + (i & 2) * 4] = acc[m][i];
        }
    cluster_barrier();
    for (uint32_t i = tid; ; i += wide_warps(RT) * 32) {
        const uint32_t e = ((i >> 5) * j.splits + split) * 32 + (i & 31);
        const uint32_t token = e / (R / 8), r = e % (R / 8) * 8;
        if (token >= mt) break;
        float v[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        const uint32_t at = smem_address(part + token * PITCH + r);
        for (uint32_t s = 0; s < j.splits; s++) {
            const uint32_t a = cluster_address(at, s);
            const float4 lo = cluster_load4(a), hi = cluster_load4(a + 16);
            const float f[8] = {lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w};
#pragma unroll
            for (int k = 0; k < 8; k++) v[k] += f[k];
        }
        if (row0 + r >= j.rows) continue;
        const float *gain = MT == 2 ? gains[r >> 5] + (r & 31)
                                    : gains[(r >> 5) + (r >> 4 & 1) * RT] + (r & 15);
#pragma unroll
        for (int k = 0; k < 8; k++)
            v[k] = fmaf(v[k], gain[k] * j.factor * W_SCALE,
                        j.bias ? load_act<BF>(j.bias, row0 + r + k) : 0.0f);
        *(uint4 *)((uint16_t *)j.y + (size_t)(token0 + token) * j.ldy + row0 + r)
            = make_uint4(pack_pair<BF>(v[0], v[1]), pack_pair<BF>(v[2], v[3]),
                         pack_pair<BF>(v[4], v[5]), pack_pair<BF>(v[6], v[7]));
    }
    cluster_barrier();                  /* nobody leaves while its memory is being read        */
}
/* The blocks of a shared tile, first to last in the order of its columns.  A warp of one has to do
 * with the same warp of the others only, which has the same sums: a counter for each.
 *   The first block comes to the tile last of all that it does, the others first of their share.
 * So these leave their sums in the workspace and go on, and that one, which finds them there as a
 * rule, adds them to its own, in the order of the columns.  If it has waited for long, since they
 * found no place on the device, it leaves its own sums, too, and W_GONE in the counter; who comes
 * last then adds up, at its end.  A block has two places in the workspace: for the tile in which
 * its share begins, and for the one in which it ends. */
enum { W_GONE = 1 << 16, W_PATIENCE = 1 << 20 /* cycles */ };
struct wide_sharers { uint32_t tile, first, last; };

static __device__ __forceinline__ wide_sharers wide_who(const quant__wide_job &w, uint32_t units,
                                                        uint32_t tile)
{
    const uint64_t all = (uint64_t)(w.tiles - w.whole) * units, begin = (uint64_t)tile * units;
    return {tile, (uint32_t)(((begin + 1) * gridDim.x - 1) / all),
            (uint32_t)(((begin + units) * gridDim.x - 1) / all)};
}
/* Where a thread's first four sums of its block's part of the tile are; the next four lie as many
 * places on as there are consumers */
template <int T, int RT>
static __device__ __forceinline__ float4 *wide_left(const quant__wide_job &w, uint32_t units,
                                                    uint32_t tile, uint32_t block)
{
    const uint32_t later = wide_share(w, units, block) < tile * units;
    return (float4 *)w.j.part
           + (size_t)(2 * block + later) * (RT * T * 8) + threadIdx.x;
}
template <int T, int RT>
static __device__ __forceinline__ void wide_leave(float4 *p, const wide_sums<T, RT> &acc)
{
#pragma unroll
    for (int i = 0; i < wide_halves(RT) * T / 8; i++) {
        const float *d = acc[i / (T / 8)] + i % (T / 8) * 4;
        __stcg(p + i * (wide_warps(RT) * 32), make_float4(d[0], d[1], d[2], d[3]));
    }
    __syncwarp();
}
/* The leading lane waits, not for ever, until *count & mask is what it should be. */
static __device__ __forceinline__ bool wide_wait(const unsigned *count, unsigned mask,
                                                 unsigned wanted)
{
    const long long start = clock64();
    bool all;
    do all = (load_acquire(count) & mask) == wanted;
    while (!all && clock64() - start < W_PATIENCE);
    return all;
}
/* Adds what blocks b0 .. b1 left */
template <int T, int RT>
static __device__ __forceinline__ void wide_add(const quant__wide_job &w, wide_sums<T, RT> &acc,
                                                uint32_t units, uint32_t tile, uint32_t b0,
                                                uint32_t b1)
{
    for (uint32_t b = b0; b <= b1; b++) {
        const float4 *p = wide_left<T, RT>(w, units, tile, b);
#pragma unroll
        for (int i = 0; i < wide_halves(RT) * T / 8; i++) {
            const float4 v = __ldcg(p + i * (wide_warps(RT) * 32));
            float *d = acc[i / (T / 8)] + i % (T / 8) * 4;
            d[0] += v.x;
            d[1] += v.y;
            d[2] += v.z;
            d[3] += v.w;
        }
    }
}

/* After a part of a shared tile.  True: acc are the sums of the whole tile.  `before` becomes what
 * the counter was when this block left its sums. */
template <int T, int RT>
static __device__ __forceinline__ bool wide_fixup(const quant__wide_job &w, wide_sums<T, RT> &acc,
                                                  uint32_t units, const wide_sharers &s,
                                                  unsigned &before)
{
    const bool lead = (threadIdx.x & 31) == 0;
    const unsigned others = s.last - s.first;
    unsigned *count = w.j.count + s.tile * wide_warps(RT) + (threadIdx.x >> 5);
    if (blockIdx.x != s.first) {
        wide_leave<T, RT>(wide_left<T, RT>(w, units, s.tile, blockIdx.x), acc);
        if (lead) before = add_release(count, 1);
        return false;
    }
    bool all = false;
    if (lead) all = wide_wait(count, ~0u, others);
    if (!any_lane(all)) {
        wide_leave<T, RT>(wide_left<T, RT>(w, units, s.tile, blockIdx.x), acc);
        if (lead) {
            all = add_release(count, W_GONE) == others;
            __threadfence();
        }
        if (!any_lane(all)) return false;
    }
    if (lead) *count = 0;
    wide_add<T, RT>(w, acc, units, s.tile, s.first + 1, s.last);
    return true;
}
/* At the end of a block; before: 0 if it left nothing.  True, once, if it was the last one of the
 * tile with which its share begins and the first one had gone: acc are the sums of that tile. */
template <int T, int RT>
static __device__ __forceinline__ bool wide_settle(const quant__wide_job &w, uint32_t &tile,
                                                   wide_sums<T, RT> &acc, unsigned &before)
{
    if (!any_lane(before >= W_GONE)) return false;
    const uint32_t units = (w.j.kt + Q_UNIT - 1) / Q_UNIT;
    const wide_sharers s = wide_who(w, units, wide_share(w, units, blockIdx.x) / units);
    __threadfence();
    if (!any_lane(before == W_GONE + (s.last - s.first) - 1)) return false;
    before = 0;
    if ((threadIdx.x & 31) == 0) w.j.count[s.tile * wide_warps(RT) + (threadIdx.x >> 5)] = 0;
#pragma unroll
    for (int i = 0; i < wide_halves(RT) * T / 2; i++) acc[i / (T / 2)][i % (T / 2)] = 0;
    wide_add<T, RT>(w, acc, units, s.tile, s.first, s.last);
    tile = s.tile + w.whole;
    return true;
}

/* A tile that S blocks share evenly, RT = 4 or 6, which are on the device together as a rule: not a
 * cluster, since clusters of more than two blocks do not fill a device.  Sixteens of tokens belong
 * to the blocks in turn; each block leaves its sums of what is not its own, waits for the others,
 * and adds up what is, in the order of the columns.  Between warps as above.  The counter: how many
 * have left their sums, in bits 8 to 15 how many have seen all of them, then a bit for each block
 * that has gone, after a long wait, leaving all of its sums; the last one to come, who sees that
 * bit, does its part, too. */
enum { W_SEEN = 1 << 8 };
template <int BF, int T, int RT, int S>
static __device__ __forceinline__ void wide_swap(const quant__wide_job &w, wide_sums<T, RT> &acc,
                                                 const float *gains, uint32_t stage, uint32_t tile,
                                                 uint32_t row0, uint32_t token0)
{
    constexpr int ALL = T / 16, OWN = (ALL + S - 1) / S;    /* sixteens, of each block           */
    constexpr int SOME = T > 128 || ALL % (2 * S) ? 1 : 2;  /* in a turn: registers               */
    constexpr size_t PITCH = wide_warps(RT) * 32;
    const uint32_t me = blockIdx.x % S;
    const bool lead = (threadIdx.x & 31) == 0;
    unsigned *count = w.j.count + tile * wide_warps(RT) + (threadIdx.x >> 5), before = 0;
    float4 *left = (float4 *)w.j.part + (size_t)tile * S * (T / 8) * PITCH + threadIdx.x;
    auto leave = [&](bool own) {
#pragma unroll
        for (int i = 0; i < T / 8; i++)
            if ((i / 2 % S == (int)me) == own)
                __stcg(left + (me * (T / 8) + i) * PITCH,
                       make_float4(acc[0][4 * i], acc[0][4 * i + 1], acc[0][4 * i + 2],
                                   acc[0][4 * i + 3]));
        __syncwarp();
    };
    leave(false);
    bool all = false;
    if (lead) {
        before = add_release(count, 1);
        all = wide_wait(count, 255, S);         /* before the addition has come back           */
    }
    if (!any_lane(all)) {
        leave(true);
        if (lead) {
            all = (add_release(count, W_GONE << me) & 255) == S;
            __threadfence();
        }
        if (!any_lane(all)) return;
    }
    uint32_t todo = 1u << me;                   /* of the leading lane                         */
    if (lead) {
        if ((before & 255) == S - 1) todo |= before / W_GONE;
        before = atomicAdd(count, W_SEEN * (unsigned)__popc(todo));
    }
    for (uint32_t o = 0; o < S; o++) {          /* whose part                                  */
        if (!any_lane(lead && todo >> o & 1)) continue;
#pragma unroll
        for (int c = 0; c < OWN; c += SOME) {   /* sixteens c, c + 1 of them                   */
            if (c * S + o >= ALL) continue;
            float sum[1][SOME * 8];
            float4 v[SOME * 2][S];
#pragma unroll
            for (int i = 0; i < SOME * 2; i++)
#pragma unroll
                for (int k = 0; k < S; k++) {
                    const uint32_t at = k * (T / 8) + ((c + i / 2) * S + o) * 2 + i % 2;
                    v[i][k] = k == (int)me ? make_float4(0, 0, 0, 0) : __ldcg(left + at * PITCH);
                }
#pragma unroll
            for (int i = 0; i < SOME * 8; i++) {
                const int at = (c + i / 8) * S * 8 + i % 8;
                float mine = acc[0][at];
#pragma unroll
                for (int k = 1; k < S; k++)
                    if (k == (int)o && at + k * 8 < T / 2) mine = acc[0][at + k * 8];
                sum[0][i] = 0;
#pragma unroll
                for (int k = 0; k < S; k++) {
                    const float4 f = v[i / 4][k];
                    const float left = i % 4 < 2 ? i % 2 ? f.y : f.x : i % 2 ? f.w : f.z;
                    sum[0][i] += k == (int)me ? mine : left;
                }
            }
            wide_store<BF, SOME * 16, RT>(w.j, sum, gains, stage, row0,
                                         token0 + (c * S + o) * 16, S);
        }
    }
    if (lead && (before >> 8 & 255) + __popc(todo) == S) *count = 0;
}
#endif /* Q_WIDE */

/* Grid: tiles * splits blocks (splits > 1), or any number of blocks that share the tiles.
 * Built for other targets it is empty; see find_wide_driver(). */
template <int BF, int T, int RT, int BIG, int SUB>
__global__ void __launch_bounds__(wide_threads(T, RT), wide_blocks(T, RT))
quant__wide_kernel(const __grid_constant__ quant__wide_job w)
{
#ifdef Q_WIDE
    Q_DYNAMIC_SHARED;
    __shared__ __align__(16) uint8_t transposed[wide_warps(RT)][768];
    __shared__ __align__(16) float gains[wide_warps(RT)][32];   /* of the rows of each warp      */
    __shared__ uint64_t bars[2 * W_MAX_STAGES];
    const quant__job &j = w.j;
    const uint32_t warp = threadIdx.x >> 5, pad = (0u - smem_address(smem)) & 1023;
    const uint32_t ring = smem_address(smem) + pad;
    const uint32_t full = smem_address(bars), empty = full + W_MAX_STAGES * 8;
    wide_walk walk = wide_start(w);
    wide_part p;
    bool more = wide_step(w, walk, p);
    if (threadIdx.x == 0) {
        map_prefetch(&w.tile_map);
        map_prefetch(&w.rec_map);
        map_prefetch(&w.x_map);
        for (uint32_t i = 0; i < w.stages; i++) {
            barrier_init(full + i * 8, 1);
            barrier_init(empty + i * 8, wide_warps(RT));
        }
        barrier_fence();
    }
    __syncthreads();
    let_next_start();
    if (warp >= wide_warps(RT)) {
        if (wide_blocks(T, RT) == 1) fewer_registers<40>();
        if (threadIdx.x % 32 == 0 && warp < wide_warps(RT) + 2 && more)
            wide_copy<T, RT>(w, warp > wide_warps(RT), ring, full, empty, walk, p);
    } else {
        wide_sums<T, RT> acc;
        wide_cursor c = {0, 0};
        if (wide_blocks(T, RT) == 1) more_registers<RT == 6 ? 152 : 232>();
        unsigned before = 0;                    /* see wide_fixup()                            */
        for (;; more = wide_step(w, walk, p)) {
            if (more) {
                wide_gains<RT>(j, gains[warp], wide_place(w, p.tile).x);
                wide_tile<BF, T, RT, BIG, SUB>(w, acc, ring, full, empty, c, p.u0, p.u1);
                if (j.splits == 1 && p.u1 - p.u0 < walk.units
                    && !wide_fixup<T, RT>(w, acc, walk.units,
                                          wide_who(w, walk.units, p.tile - w.whole), before))
                    continue;
            } else {
                if (!wide_settle<T, RT>(w, p.tile, acc, before)) break;
                wide_gains<RT>(j, gains[warp], wide_place(w, p.tile).x);
            }
            copy_wait<0>();
            __syncwarp();
            const uint2 at = wide_place(w, p.tile);
            const uint32_t row0 = at.x * (RT * 32), token0 = at.y * T;
            const uint32_t stage = smem_address(transposed[warp]);
            if (j.splits > 1 && j.cluster)
                wide_reduce<BF, T, RT>(j, acc, gains, (float *)(smem + pad), row0, token0,
                                       blockIdx.x % j.splits);
            else if (j.splits > 1) {
                if constexpr (wide_swaps(T, RT, 2))
                    if (j.splits == 2)
                        wide_swap<BF, T, RT, 2>(w, acc, gains[warp], stage, p.tile, row0, token0);
                if constexpr (wide_swaps(T, RT, 3))
                    if (j.splits == 3)
                        wide_swap<BF, T, RT, 3>(w, acc, gains[warp], stage, p.tile, row0, token0);
                if constexpr (wide_swaps(T, RT, 4))
                    if (j.splits == 4)
                        wide_swap<BF, T, RT, 4>(w, acc, gains[warp], stage, p.tile, row0, token0);
            } else wide_store<BF, T, RT>(j, acc, gains[warp], stage, row0, token0, 1);
        }
    }
#endif
}

/* ---- Hopper: few tokens, the copy engine and mma.sync ----------------------------------------*/
/* The kernel of 2. with another way to its operands: a warp beside the wr wk others has the tensor
 * copy engine fill a ring of stages of wk units, so that those spend no instruction on copies and
 * do not wait for each other.  A stage: activations [wk][2][xt][64] as the engine swizzles them,
 * which is how unit() reads them; tiles [wk][wr][4], records [wk][wr][..].
 *   Where each multiprocessor has room for twice the blocks that it gets, the grid is filled up
 * with blocks that do nothing, to the same number everywhere: the blocks of the next product, which
 * fill their rings while this one ends, then spread evenly, too. */
struct quant__stream_job {
    CUtensorMap x_map;              /* columns, tokens, planes of 64 columns                     */
    CUtensorMap tile_map, rec_map;  /* 8 bytes, row tiles, planes of a unit                      */
    quant__job j;
    uint32_t stages, stage_bytes;   /* of the ring                                               */
    uint32_t xt;                    /* tokens of a stage, at most NT * 8                         */
    uint32_t row_blocks;
    uint32_t rec_pitch;             /* bytes from the records of a unit to those of the next     */
    /* 1: one copy takes a stage's units from planes of the maps; 0: the maps have whole rows and a
     * unit (of x, half of one) is copied at a time, since the last one is cut, or since all units
     * have the same records */
    uint32_t planes, rec_planes;
    uint32_t stay;                  /* cycles that a block with nothing to do stays              */
};

/* Warps of a block, the one that copies included: a lane has 80, 96 or 128 registers */
static __host__ __device__ constexpr int stream_warps(int nt)
{
    return nt == 1 ? 24 : nt == 2 ? 20 : 16;
}
/* Warps of a multiprocessor's blocks: kernels of one and two tiles need fewer registers */
static uint32_t stream_most(uint32_t nt) { return nt == 1 ? 28 : nt == 2 ? 24 : 16; }
enum { S_STAY = 110 };              /* cycles for a unit, see launch_stream()                    */

#ifdef Q_WIDE
/* Asks for wk pieces of columns (units, of x halves of them) from piece u on, one by one, `width`
 * elements and `bytes` each; or for all of a stage at once, from plane u * planes on */
static __device__ __forceinline__ void stream_units(uint32_t dst, const CUtensorMap *map,
                                                    uint32_t planes, uint32_t wk, uint32_t u,
                                                    uint32_t width, uint32_t bytes, uint32_t row,
                                                    uint32_t bar)
{
    if (planes) {
        tensor_copy(dst, map, 0, row, u * planes, bar);
        return;
    }
    for (uint32_t k = 0; k < wk; k++)
        tensor_copy(dst + k * bytes, map, (u + k) * width, row, 0, bar);
}

/* The copying thread fills stages: weights and records, then x */
struct stream_ring { uint32_t base, full, empty, n; };  /* shared addresses; stages in all       */
static __device__ __forceinline__ void stream_weights(const quant__stream_job &w,
                                                      const stream_ring &r, uint32_t stage,
                                                      uint32_t row_tile, uint32_t u,
                                                      uint32_t rec_bytes)
{
    const uint32_t wk = w.j.wk, wr = w.j.wr, bar = r.full + stage * 8;
    const uint32_t tiles = wr * (Q_UNIT * Q_TILE_BYTES);
    const uint32_t dst = r.base + stage * w.stage_bytes + wk * w.xt * 256;
    barrier_expect(bar, wk * (w.xt * 256 + tiles + wr * rec_bytes));
    stream_units(dst, &w.tile_map, w.planes, wk, u, Q_UNIT * Q_TILE_BYTES / 8, tiles, row_tile,
                 bar);
    stream_units(dst + wk * tiles, &w.rec_map, w.rec_planes, wk, u,
                 w.j.recs_per_unit ? rec_bytes / 8 : 0, w.rec_pitch, row_tile, bar);
}
static __device__ __forceinline__ void stream_x(const quant__stream_job &w, const stream_ring &r,
                                                uint32_t stage, uint32_t token0, uint32_t u)
{
    stream_units(r.base + stage * w.stage_bytes, &w.x_map, 2 * w.planes, 2 * w.j.wk,
                 w.planes ? u : 2 * u, 64, w.xt * 128, token0, r.full + stage * 8);
}
#endif

/* Grid and sums as in quant__mma_kernel. */
template <int BF, int NT, int ZM, int TPG>
__global__ void __launch_bounds__(stream_warps(NT) * 32, 1)
quant__stream_kernel(const __grid_constant__ quant__stream_job w)
{
#ifdef Q_WIDE
    typedef policy<BF, NT, ZM> P;
    Q_DYNAMIC_SHARED;
    __shared__ __align__(16) float gains[Q_MAX_WARPS * 32];     /* of the rows of the block      */
    __shared__ uint64_t bars[2 * W_MAX_STAGES];
    const quant__job &j = w.j;
    const uint32_t lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const uint32_t wr = warp % j.wr, wk = warp / j.wr;
    const uint32_t block_row = blockIdx.x / j.splits, split = blockIdx.x % j.splits;
    const uint32_t token0 = blockIdx.z * (NT * 8);
    const uint32_t mt = min((uint32_t)(NT * 8), j.tokens - token0);
    const uint32_t units = (j.kt + Q_UNIT - 1) / Q_UNIT;
    const uint32_t u0 = (uint32_t)((uint64_t)units * split / j.splits);
    const uint32_t u1 = (uint32_t)((uint64_t)units * (split + 1) / j.splits);
    const uint32_t rec_bytes = (TPG == 4 ? 1 : j.recs_per_unit) * record_bytes(ZM);
    const uint32_t pad = (0u - smem_address(smem)) & 1023, bar = smem_address(bars);
    const stream_ring r = {smem_address(smem) + pad, bar, bar + W_MAX_STAGES * 8,
                           (u1 - u0 + j.wk - 1) / j.wk};
    float total[2][NT][4] = {};

    if (block_row >= w.row_blocks) {            /* to be there is all that it is for           */
        let_next_start();
        wait_for_stream();
        /* If it left much earlier than a block that works, its place would go to the product after
         * the next one while the other places are still taken: two blocks of it would come here. */
        for (const long long t = clock64(); clock64() - t < (long long)w.stay; ) { }
        return;
    }
    if (threadIdx.x == j.wr * j.wk * 32) {
        for (uint32_t i = 0; i < w.stages; i++) {
            barrier_init(r.full + i * 8, 1);
            barrier_init(r.empty + i * 8, j.wr * j.wk);
        }
        barrier_fence();
        map_prefetch(&w.x_map);
        for (uint32_t i = 0; i < w.stages && i < r.n; i++)
            stream_weights(w, r, i, block_row * j.wr, u0 + i * j.wk, rec_bytes);
    } else if (threadIdx.x < j.wr * 8) {
        const uint32_t row = block_row * j.wr * 32 + threadIdx.x * 4;
        copy16_if(smem_address(gains + threadIdx.x * 4), j.gains + row, row < j.row_tiles * 32);
    }
    copy_commit();
    __syncthreads();
    let_next_start();

    wide_cursor c = {0, 0};
    if (warp < j.wr * j.wk) {
        const uint32_t line = wk * 2 * w.xt, x = w.xt * 128 * j.wk * 2;
        const uint32_t x0 = line * 128 + x_place(lane, lane & 7, line);
        const uint32_t x1 = (line + w.xt) * 128 + x_place(lane, lane & 7, line + w.xt);
        const uint32_t w_at = x + (wk * j.wr + wr) * (Q_UNIT * Q_TILE_BYTES) + lane * 16;
        const uint32_t rec_at = x + j.wk * j.wr * (Q_UNIT * Q_TILE_BYTES) + wk * w.rec_pitch
                                + wr * rec_bytes;
        for (uint32_t u = u0 + wk; u < u0 + wk + r.n * j.wk; u += j.wk, wide_next(c, w.stages)) {
            const uint32_t stage = r.base + c.stage * w.stage_bytes;
            barrier_wait(r.full + c.stage * 8, c.parity);
            if (u < u1)
                unit<BF, NT, ZM, TPG, NT <= 2>(total, stage + w_at, stage + rec_at, stage + x0,
                                               stage + x1, j.tiles_per_group, lane >> 2);
            __syncwarp();
            if (lane == 0) barrier_arrive(r.empty + c.stage * 8);
        }
    } else if (lane == 0) {
        wait_for_stream();
        for (uint32_t i = 0; i < r.n; i++, wide_next(c, w.stages)) {
            if (i >= w.stages) {
                barrier_wait(r.empty + c.stage * 8, c.parity ^ 1);
                stream_weights(w, r, c.stage, block_row * j.wr, u0 + i * j.wk, rec_bytes);
            }
            stream_x(w, r, c.stage, token0, u0 + i * j.wk);
        }
    }
    copy_wait<0>();
    __syncthreads();
    float factor = j.factor * (P::ones && !BF ? 16777216.0f : 1.0f);
    finish<BF, NT>(j, total, (float *)(smem + pad), block_row, split, token0, mt, factor, gains);
#endif
}

/* Act-order: to [token][i] = x [token][order[i]], eight columns a thread */
static __global__ void __launch_bounds__(128)
quant__gather_kernel(uint16_t *to, const uint16_t *x, size_t ldx, const uint32_t *order,
                     uint32_t cols)
{
    const uint32_t i = (blockIdx.x * 128 + threadIdx.x) * 8;
    if (i >= cols) return;
    x += blockIdx.y * ldx;
    uint32_t v[4];
#pragma unroll
    for (int k = 0; k < 4; k++)
        v[k] = x[order[i + 2 * k]] | (uint32_t)x[order[i + 2 * k + 1]] << 16;
    *(uint4 *)(to + (size_t)blockIdx.y * cols + i) = make_uint4(v[0], v[1], v[2], v[3]);
}

/* ---- other codes: IQ4_NL, Q6_K, Q8_0 ---------------------------------------------------------*/
/* A block of C_WARPS warps has one row tile and all columns, each warp a slice of them: 4 tiles in
 * turn.  Two kernels: mma.m16n8k16 with bare codes, small integers that are exact in both kinds of
 * 16-bit floats, sums of 16 or 32 columns being multiplied by their scale in fp32; and fp32
 * arithmetic for any device.  Then the slices are added, in their order. */
enum {
    C_OCTETS = 4,                   /* of tokens in a block, for more than 8 tokens              */
    C_PLAIN_TOKENS = 4,             /* the same of the kernel without tensor cores               */
    C_AHEAD = 4,                    /* tiles that a warp loads at once                           */
    C_PITCH = 36,                   /* floats of a token's 32 rows: 2 C_PITCH = 8 mod 32 banks   */
    C_PLAIN_PITCH = 40              /* the same, of a quarter of a token's sums                  */
};

static __device__ __forceinline__ float float_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
/* A lane's words of one tile */
template <int BITS>
static __device__ __forceinline__ void code_load(uint32_t (&q)[BITS], const uint8_t *tile,
                                                 uint32_t lane)
{
    const uint4 a = *(const uint4 *)(tile + lane * 16);
    q[0] = a.x;
    q[1] = a.y;
    q[2] = a.z;
    q[3] = a.w;
    if constexpr (BITS == 6) {
        const uint2 b = *(const uint2 *)(tile + 512 + lane * 8);
        q[4] = b.x;
        q[5] = b.y;
    }
    if constexpr (BITS == 8) {
        const uint4 b = *(const uint4 *)(tile + 512 + lane * 16);
        q[4] = b.x;
        q[5] = b.y;
        q[6] = b.z;
        q[7] = b.w;
    }
}

/* What four codes stand for, each plus 128 in a byte: columns 16 s + 8 h + 2 t and the next one of
 * row 16 m + g, then of row 16 m + g + 8 */
template <int BITS>
static __device__ __forceinline__ uint32_t code_quad(const uint32_t (&q)[BITS], int m, int s,
                                                     int h)
{
    if constexpr (BITS == 8) return q[4 * m + 2 * s + h];
    else if constexpr (BITS == 6) {
        const uint32_t v = q[2 * m + s] >> 8 * h, e = q[4 + m] >> (8 * s + 4 * h);
        const uint32_t low = (v & 0x000f000fu) | (e & 0x00030003u) << 4;
        const uint32_t high = (v >> 4 & 0x000f000fu) | (e << 2 & 0x00300030u);
        return pick_bytes(low, high, 0x6420) + 0x60606060u;             /* q - 32 + 128        */
    } else {
        /* IQ4_NL's table plus 128, 16 bytes; the nibbles select out of both halves, their highest
         * bits out of the two results */
        const uint32_t v = q[2 * m + s] >> 8 * h, sel = (v & 0xffu) | (v >> 8 & 0xff00u);
        const uint32_t a = pick_bytes(0x3f2d1801u /*  63  45  24   1 */,
                                      0x766a5d4fu /* 118 106  93  79 */, sel & 0x7777u);
        const uint32_t b = pick_bytes(0xa6998d81u /* 166 153 141 129 */,
                                      0xf1d9c5b5u /* 241 217 197 181 */, sel & 0x7777u);
        return pick_bytes(pick_bytes(a, b, 0x3210u | (sel & 0x8888u) >> 1), 0, 0x3120);
    }
}

/* Byte i less 128: the byte is made the end of 2^23 + byte */
static __device__ __forceinline__ float code_float(uint32_t quad, int i)
{
    return float_bits(pick_bytes(quad, 0x4b000000u, 0x7440u + (uint32_t)i)) - 8388736.0f;
}
/* Bytes i and i + 1 less 128 as a pair of half floats (1024 + byte, less 1152) or bfloat16 */
template <int BF> static __device__ __forceinline__ uint32_t code_pair(uint32_t quad, int i)
{
    uint32_t r;
    if (BF) {
        __nv_bfloat162 b;
        b.x = __float2bfloat16_rn(code_float(quad, i));
        b.y = __float2bfloat16_rn(code_float(quad, i + 1));
        memcpy(&r, &b, 4);
        return r;
    }
    r = pick_bytes(quad, 0x64646464u, i ? 0x4342u : 0x4140u);
    return half2_sub(r, 0x64806480u);
}

/* Scales of rows g, g + 8, g + 16, g + 24 for columns 0-15 and 16-31 of tile k */
template <int BITS>
static __device__ __forceinline__ void code_scales(float (&f)[2][4], const uint8_t *recs,
                                                   uint32_t k, uint32_t g)
{
    constexpr uint32_t BYTES = BITS == 6 ? 576 : 64;
    const uint8_t *rec = recs + (size_t)(BITS == 6 ? k / 8 : k) * BYTES;
    const uint2 d = *(const uint2 *)(rec + g * 8);
    uint32_t by[2] = {0, 0};
    if (BITS == 6)
        for (int s = 0; s < 2; s++)
            by[s] = *(const uint32_t *)(rec + 64 + (k % 8 * 2 + s) * 32 + g * 4);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        f[0][i] = half_value((i < 2 ? d.x : d.y) >> 16 * (i & 1) & 0xffff);
        f[1][i] = f[0][i];
        if (BITS == 6) {
            f[0][i] *= (float)(int8_t)(by[0] >> 8 * i & 255);
            f[1][i] *= (float)(int8_t)(by[1] >> 8 * i & 255);
        }
    }
}

/* What a lane keeps */
template <int BITS, int NT> struct code_lane {
    uint32_t q[C_AHEAD][BITS];
    uint32_t a[2][2][4], b[NT][4];  /* operands: weights [m][s], activations [octet][s, h]       */
    float scale[2][4], acc[2][NT][4], total[2][NT][4];
};

/* The operands of tile k, whose words are v.q[i] */
template <int BITS, int BF, int NT>
static __device__ __forceinline__ void code_operands(code_lane<BITS, NT> &v, const quant__job &j,
                                                     const uint8_t *recs, uint32_t lane,
                                                     uint32_t k, int i, uint32_t token0)
{
    const uint32_t g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int s = 0; s < 2; s++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const uint32_t quad = code_quad<BITS>(v.q[i], m, s, h);
                v.a[m][s][2 * h] = code_pair<BF>(quad, 0);
                v.a[m][s][2 * h + 1] = code_pair<BF>(quad, 2);
            }
#pragma unroll
    for (int n = 0; n < NT; n++) {
        /* beyond the last token it is read again; columns of a product do not mix */
        const uint32_t token = token0 + n * 8 + g;
        const uint16_t *x = (const uint16_t *)j.x + k * 32 + 2 * t
                            + (size_t)(token < j.tokens ? token : j.tokens - 1) * j.ldx;
#pragma unroll
        for (int h = 0; h < 4; h++) v.b[n][h] = *(const uint32_t *)(x + 8 * h);
    }
    code_scales<BITS>(v.scale, recs, k, g);
}

/* The slice of a warp.  part: [warp][NT * 8][C_PITCH] */
template <int BITS, int BF, int NT>
static __device__ __forceinline__ void code_slice(const quant__job &j, float *part,
                                                  uint32_t row_tile, uint32_t token0,
                                                  uint32_t warp, uint32_t lane)
{
    const uint8_t *tiles = j.tiles + (size_t)row_tile * j.kt * (BITS * 128);
    const uint8_t *recs = j.recs + (size_t)row_tile * j.n_recs * (BITS == 6 ? 576 : 64);
    const uint32_t g = lane >> 2, t = lane & 3;
    code_lane<BITS, NT> v;
    memset(&v, 0, sizeof v);
    for (uint32_t k0 = warp * C_AHEAD; k0 < j.kt; k0 += C_WARPS * C_AHEAD) {
#pragma unroll
        for (uint32_t i = 0; i < C_AHEAD; i++)
            if (k0 + i < j.kt)
                code_load<BITS>(v.q[i], tiles + (size_t)(k0 + i) * (BITS * 128), lane);
#pragma unroll
        for (uint32_t i = 0; i < C_AHEAD; i++) {
            if (k0 + i >= j.kt) break;
            code_operands<BITS, BF, NT>(v, j, recs, lane, k0 + i, (int)i, token0);
#pragma unroll
            for (int s = 0; s < 2; s++) {
#pragma unroll
                for (int n = 0; n < NT; n++)
#pragma unroll
                    for (int m = 0; m < 2; m++)
                        mma<BF>(v.acc[m][n], v.a[m][s], v.b[n][2 * s], v.b[n][2 * s + 1]);
                if (BITS != 6 && s == 0) continue;      /* one scale for both halves           */
#pragma unroll
                for (int e = 0; e < 8 * NT; e++) {
                    const int m = e & 1, n = e >> 3, c = e >> 1 & 3;
                    v.total[m][n][c] = fmaf(v.scale[s][2 * m + (c >> 1)], v.acc[m][n][c],
                                            v.total[m][n][c]);
                    v.acc[m][n][c] = 0;
                }
            }
        }
    }
#pragma unroll
    for (int e = 0; e < 8 * NT; e++) {
        const int m = e & 1, n = e >> 3, c = e >> 1 & 3;
        part[(warp * (NT * 8) + n * 8 + 2 * t + (c & 1)) * C_PITCH + 16 * m + g + 8 * (c >> 1)]
            = v.total[m][n][c];
    }
}

/* The rest, after a barrier.  part: [C_WARPS][tokens][second][pitch] partial sums of 32 rows */
template <int BF>
static __device__ __forceinline__ void code_finish(const quant__job &j, const float *part,
                                                   uint32_t row_tile, uint32_t token0,
                                                   uint32_t tokens, uint32_t second,
                                                   uint32_t pitch, uint32_t thread)
{
    for (uint32_t e = thread; e < tokens * 16; e += C_WARPS * 32) {
        const uint32_t token = e / 16, r = e % 16 * 2, row = row_tile * 32 + r;
        float2 v = make_float2(0, 0);
        for (uint32_t a = 0; a < C_WARPS; a++)
            for (uint32_t b = 0; b < second; b++) {
                const float *p = part + ((a * tokens + token) * second + b) * pitch + r;
                v.x += p[0];
                v.y += p[1];
            }
        if (row >= j.rows || token0 + token >= j.tokens) continue;
        v = scaled<BF>(j, v, j.factor, make_float2(j.gains[row], j.gains[row + 1]), row);
        store_pair<BF>(j.y, (size_t)(token0 + token) * j.ldy + row, v);
    }
}

template <int BITS, int BF, int NT>
__global__ void __launch_bounds__(C_WARPS * 32, 2)
quant__code_kernel(const __grid_constant__ quant__job j)
{
    __shared__ __align__(16) float part[C_WARPS * NT * 8 * C_PITCH];
    const uint32_t token0 = blockIdx.y * (NT * 8);
    code_slice<BITS, BF, NT>(j, part, blockIdx.x, token0, threadIdx.x >> 5, threadIdx.x & 31);
    __syncthreads();
    code_finish<BF>(j, part, blockIdx.x, token0, NT * 8, 1, C_PITCH, threadIdx.x);
}

/* The slice of one thread without tensor cores: four rows, a quarter of the columns of its warp's
 * tiles.  part: [warp][T][quarter][C_PLAIN_PITCH] */
template <int BITS, int BF, int T>
static __device__ __forceinline__ void code_plain_slice(const quant__job &j, float *part,
                                                        uint32_t row_tile, uint32_t token0,
                                                        uint32_t thread)
{
    const uint32_t lane = thread & 31, warp = thread >> 5, g = lane >> 2, t = lane & 3;
    const uint8_t *tiles = j.tiles + (size_t)row_tile * j.kt * (BITS * 128);
    const uint8_t *recs = j.recs + (size_t)row_tile * j.n_recs * (BITS == 6 ? 576 : 64);
    float total[T][4] = {};
    for (uint32_t k = warp; k < j.kt; k += C_WARPS) {
        uint32_t q[BITS];
        float scale[2][4];
        code_load<BITS>(q, tiles + (size_t)k * (BITS * 128), lane);
        code_scales<BITS>(scale, recs, k, g);
#pragma unroll
        for (int s = 0; s < 2; s++) {
            float w[2][8];              /* [m][h, row half, column]                              */
#pragma unroll
            for (int e = 0; e < 16; e++)
                w[e >> 3][e & 7] = code_float(code_quad<BITS>(q, e >> 3, s, e >> 2 & 1), e & 3);
#pragma unroll
            for (int n = 0; n < T; n++) {
                const uint32_t token = token0 + n < j.tokens ? token0 + n : j.tokens - 1;
                const size_t at = token * j.ldx + k * 32 + s * 16 + 2 * t;
                float x[4], dot[4] = {0, 0, 0, 0};
#pragma unroll
                for (int c = 0; c < 4; c++) x[c] = load_act<BF>(j.x, at + (c >> 1) * 8 + (c & 1));
#pragma unroll
                for (int e = 0; e < 16; e++) {
                    const int row = 2 * (e >> 3) + (e >> 1 & 1), c = 2 * (e >> 2 & 1) + (e & 1);
                    dot[row] = fmaf(w[e >> 3][e & 7], x[c], dot[row]);
                }
#pragma unroll
                for (int r = 0; r < 4; r++) total[n][r] = fmaf(scale[s][r], dot[r], total[n][r]);
            }
        }
    }
#pragma unroll
    for (int n = 0; n < T; n++)
#pragma unroll
        for (int r = 0; r < 4; r++)
            part[((warp * T + n) * 4 + t) * C_PLAIN_PITCH + g + 8 * r] = total[n][r];
}

template <int BITS, int BF, int T>
__global__ void __launch_bounds__(C_WARPS * 32)
quant__code_plain_kernel(const __grid_constant__ quant__job j)
{
    __shared__ __align__(16) float part[C_WARPS * T * 4 * C_PLAIN_PITCH];
    for (uint64_t token0 = blockIdx.y * (uint64_t)T; token0 < j.tokens;
         token0 += gridDim.y * (uint64_t)T) {
        code_plain_slice<BITS, BF, T>(j, part, blockIdx.x, (uint32_t)token0, threadIdx.x);
        __syncthreads();
        code_finish<BF>(j, part, blockIdx.x, (uint32_t)token0, T, 4, C_PLAIN_PITCH, threadIdx.x);
        __syncthreads();
    }
}

/* ---- which kernel, which shape of block ------------------------------------------------------*/
struct quant__plan {
    uint32_t nt;                    /* 8-token tiles: 1, 2, 4, 8; 0: the plain kernel            */
    uint32_t wr, wk, splits, cluster;
    size_t shared;                  /* bytes of dynamic shared memory                            */
    uint32_t wide, rt, stages;      /* wide: tokens of a tile of the wgmma kernel, 0: not it; rt:
                                     * row tiles of its blocks                                   */
    uint32_t blocks, whole;         /* wide, splits 1: blocks; tiles that they do not share      */
    uint32_t plain;                 /* other codes: 1 without tensor cores                       */
    uint32_t stream;                /* blocks of the stream kernel on a multiprocessor; 0: not it */
};

static size_t wide_stage(const quant__plan &p, const quant_cuda_matrix *w)
{
    size_t recs = unit_records(w), tiles = p.rt;
    size_t n = p.wide * 256 + tiles * (Q_UNIT * Q_TILE_BYTES + recs * record_bytes(w->zero));
    return (n + 1023) / 1024 * 1024;
}

/* Blocks that share the tiles evenly: at least one round of whole tiles less than there would be,
 * so that shares are not tiny; or all in whole tiles. */
static void wide_share_out(quant__plan *p, size_t tiles, size_t units, size_t blocks, bool shared)
{
    if (blocks > tiles * units) blocks = tiles * units;
    if (!shared && blocks > tiles) blocks = tiles;
    p->blocks = (uint32_t)blocks;
    p->whole = (uint32_t)tiles;
    if (shared && tiles % blocks)
        p->whole = (uint32_t)(tiles < blocks ? 0 : (tiles / blocks - 1) * blocks);
}

/* A plan of the wgmma kernel, per_sm blocks on a multiprocessor; false if it does not fit.
 * splits: 0 shares tiles out, 1 does not, more split them, in clusters.  W_SPREAD: tiles are
 * shared out to one block on each multiprocessor, with room left for the next product's.  W_SWAP:
 * one block on a multiprocessor, splits without a cluster. */
enum { W_SPREAD = 3, W_SWAP };
static bool wide_plan(quant__plan *p, const quant_cuda_device *gpu, const quant_cuda_matrix *w,
                      size_t tokens, uint32_t t, uint32_t rt, uint32_t splits, uint32_t per_sm)
{
    const bool spread = per_sm == W_SPREAD, swap = per_sm == W_SWAP;
    if (!wide_exists(t, rt) || (spread && splits)) return false;
    if (swap && !wide_swaps((int)t, (int)rt, (int)splits)) return false;
    if (spread || swap) per_sm = spread ? 2 : 1;
    const size_t fixed = wide_fixed((int)rt) + 1024 /* alignment */;
    const size_t warps = (size_t)wide_warps((int)rt);
    const size_t units = col_units(w);
    const size_t room = (gpu->shared + 1024) / per_sm - 1024 - fixed;
    memset(p, 0, sizeof *p);
    p->wide = t;
    p->rt = rt;
    p->splits = splits > 1 ? splits : 1;
    p->cluster = splits > 1 && !swap;
    if (splits > units || splits > 8) return false;
    size_t stage = wide_stage(*p, w), reduce = p->cluster ? (size_t)t * (rt * 32 + 4) * 4 : 0;
    size_t stages = room / stage < W_MAX_STAGES ? room / stage : W_MAX_STAGES;
    size_t longest = splits > 1 ? (units + splits - 1) / splits : W_MAX_STAGES;
    size_t tiles = (row_tiles(w) + rt - 1) / rt * ((tokens + t - 1) / t);
    if (stages > longest) stages = longest;
    if (stages < 2 && stages < longest) return false;
    if (reduce > room || tiles * splits >= 1u << 31) return false;
    if (swap && (tiles * splits > gpu->sms || tiles > Q_COUNTERS / warps)) return false;
    p->stages = (uint32_t)stages;
    p->shared = 1024 + (stages * stage > reduce ? stages * stage : reduce);
    wide_share_out(p, tiles, units, gpu->sms * (spread ? 1 : per_sm), splits == 0);
    if (splits == 0 && (p->whole == tiles || (tiles - p->whole) * units >= 1u << 31
                        || tiles - p->whole > Q_COUNTERS / warps)) return false;
    return true;
}

/* A tensor copy begins at a multiple of 128 bytes. */
static size_t stream_rec_pitch(const quant__plan &p, const quant_cuda_matrix *w)
{
    const size_t n = p.wr * unit_records(w) * record_bytes(w->zero);
    return w->group && w->cols % 128 == 0 ? n : (n + 127) / 128 * 128;
}
static size_t stream_tokens(const quant__plan &p, size_t tokens)
{
    return tokens < p.nt * 8 ? tokens : p.nt * 8;
}
static size_t stream_stage(const quant__plan &p, const quant_cuda_matrix *w, size_t tokens)
{
    size_t x = stream_tokens(p, tokens) * 256;
    size_t n = x + p.wr * (Q_UNIT * Q_TILE_BYTES) + stream_rec_pitch(p, w);
    return (p.wk * n + 1023) / 1024 * 1024;
}

/* Completes a plan of the stream kernel: nt, wr, wk, splits and blocks on a multiprocessor are
 * there; false if it does not fit.  Not more blocks than that get room, so that those of the next
 * product, which may start before this one is done, spread evenly. */
static bool stream_plan(quant__plan *p, const quant_cuda_device *gpu, const quant_cuda_matrix *w,
                        size_t tokens)
{
    const size_t mt = stream_tokens(*p, tokens);
    /* unit() reads NT * 8 tokens */
    const size_t beyond = (p->nt * 8 - mt) * 128;
    const size_t fixed = Q_FIXED + 1024 /* alignment */ + beyond;
    const size_t room = (gpu->shared + 1024) / p->stream - 1024 - fixed;
    const size_t least = (gpu->shared + 1024) / (p->stream + 1);
    const size_t units = col_units(w);
    const size_t longest = ((units + p->splits - 1) / p->splits + p->wk - 1) / p->wk;
    const size_t stage = stream_stage(*p, w, tokens), part = p->wk * mt * (p->wr * 32 + 4) * 4;
    size_t stages = room / stage < W_MAX_STAGES ? room / stage : W_MAX_STAGES;
    const uint32_t warps = p->wr * p->wk + 1;
    if (warps > (uint32_t)stream_warps((int)p->nt) || warps * p->stream > stream_most(p->nt)
        || p->wr > Q_MAX_WARPS || p->splits > units) return false;
    if (stages > longest) stages = longest;
    if ((stages < 2 && stages < longest) || part > room) return false;
    p->stages = (uint32_t)stages;
    p->cluster = p->splits > 1;
    p->shared = 1024 + beyond + (stages * stage > part ? stages * stage : part);
    if (p->shared < least) p->shared = least;
    return true;
}

/* Bytes of shared memory: the ring, or the partial sums that take its place. */
static size_t shared_bytes(const quant__plan &p, const quant_cuda_matrix *w, size_t tokens)
{
    size_t mt = tokens < p.nt * 8 ? tokens : p.nt * 8;
    size_t unit_recs = unit_records(w);
    size_t stage = p.wr * (Q_UNIT * Q_TILE_BYTES + unit_recs * record_bytes(w->zero))
                   + (p.nt == 1 ? mt : p.nt * 8) * 256;
    size_t ring = p.wk * Q_STAGES * ((stage + 127) / 128 * 128);
    size_t part = p.wk * mt * (p.wr * 32 + 4) * 4;
    return ring > part ? ring : part;
}

/* Blocks along the rows, along the tokens */
static size_t plan_rows(const quant__plan &p, const quant_cuda_matrix *w)
{
    size_t n = p.wide ? p.rt : p.wr;
    return (row_tiles(w) + n - 1) / n;
}
static size_t plan_tokens(const quant__plan &p, size_t tokens)
{
    size_t n = p.wide ? p.wide : p.nt * 8;
    return (tokens + n - 1) / n;
}

/* Counters first, in a place of their own: they must be zero between calls, whatever shape the
 * next call has.  Then partial sums.  Neither when the blocks of a split form a cluster. */
static size_t wide_space(size_t blocks, size_t area)    /* area: T RT                          */
{
    return Q_COUNTERS * sizeof(unsigned) + blocks * 2 * area * 32 * sizeof(float);
}
static size_t plan_workspace(const quant__plan &p, const quant_cuda_matrix *w, size_t tokens)
{
    if (!p.wide && p.nt == 0) return 0;         /* without tiles: no division by their size    */
    size_t tiles = plan_rows(p, w) * plan_tokens(p, tokens);
    if (p.wide && p.splits == 1 && p.whole < tiles)
        return wide_space(p.blocks, p.wide * p.rt);
    if (p.wide && p.splits > 1 && !p.cluster) return wide_space(tiles * p.splits, p.wide * p.rt);
    if (p.wide || p.splits == 1 || p.cluster) return 0;
    return Q_COUNTERS * sizeof(unsigned)
           + tiles * p.splits * (p.wr * 32) * (p.nt * 8) * sizeof(float);
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

/* The same for the stream kernel (cuda_bench stream), here for up to so many units of columns, too.
 * nt 0: another kernel is faster; wr 0: what shares the row tiles out best.  per_sm 2 and more: see
 * quant__stream_job.  Bounds of row tiles are multiples of 132, beyond which some multiprocessor
 * has one more; and 66 for two splits, 200 where the next shape of block is faster. */
static const struct { uint32_t tokens, row_tiles, units, nt, wr, wk, splits, per_sm; } streams[] = {
    {4, 66, ~0u, 1, 1, 4, 2, 2}, {4, 132, 40, 1, 1, 8, 1, 2}, {4, 132, ~0u, 0, 0, 0, 0, 0},
    {4, 264, 64, 1, 1, 4, 1, 4}, {4, 264, ~0u, 1, 1, 8, 1, 2}, {4, 396, ~0u, 0, 0, 0, 0, 0},
    {4, 528, ~0u, 1, 1, 4, 1, 4}, {4, 660, ~0u, 1, 3, 4, 1, 2}, {4, 792, ~0u, 0, 0, 0, 0, 0},
    {4, ~0u, ~0u, 1, 1, 4, 1, 4},
    {8, 66, ~0u, 1, 1, 4, 2, 2}, {8, 132, ~0u, 1, 1, 8, 1, 2}, {8, 200, ~0u, 1, 1, 4, 1, 2},
    {8, 264, 64, 1, 2, 4, 1, 2}, {8, 396, ~0u, 0, 0, 0, 0, 0}, {8, 528, ~0u, 1, 2, 4, 1, 2},
    {8, 660, ~0u, 1, 1, 4, 1, 5}, {8, 792, ~0u, 0, 0, 0, 0, 0}, {8, ~0u, ~0u, 1, 0, 2, 1, 1},
    {16, 66, ~0u, 2, 1, 4, 2, 2}, {16, 132, 40, 2, 1, 8, 1, 2}, {16, 132, ~0u, 2, 1, 11, 1, 1},
    {16, 200, ~0u, 2, 1, 4, 1, 2}, {16, 264, 48, 2, 2, 4, 1, 2}, {16, 264, ~0u, 2, 2, 8, 1, 1},
    {16, 396, ~0u, 2, 1, 4, 1, 3}, {16, 528, ~0u, 2, 1, 4, 1, 4}, {16, 660, ~0u, 2, 5, 2, 1, 2},
    {16, 792, ~0u, 2, 2, 2, 1, 3}, {16, ~0u, ~0u, 2, 0, 2, 1, 1},
    {32, 132, 40, 4, 1, 8, 1, 1}, {32, 132, ~0u, 4, 1, 7, 1, 1}, {32, 264, ~0u, 4, 2, 6, 1, 1},
    {32, 396, ~0u, 4, 3, 4, 1, 1}, {32, 528, ~0u, 4, 2, 2, 1, 2}, {32, 660, ~0u, 4, 5, 3, 1, 1},
    {64, 66, 40, 4, 1, 8, 1, 1}};

/* Row tiles of a block, 8 to 4, for the fewest row tiles on the multiprocessor that has most */
static uint32_t share_rows(size_t tiles)
{
    size_t least = ~(size_t)0;
    uint32_t best = 8;
    for (uint32_t wr = 8; wr >= 4; wr--) {
        const size_t blocks = (tiles + wr - 1) / wr, most = (blocks + 131) / 132 * wr;
        if (most >= least) continue;
        least = most;
        best = wr;
    }
    return best;
}

/* The stream kernel's plan; false, *best as it was: not it.  tiles: row tiles for 132
 * multiprocessors */
static bool choose_stream(quant__plan *best, const quant_cuda_device *gpu,
                          const quant_cuda_matrix *w, size_t tokens, size_t tiles)
{
    const size_t units = col_units(w);
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        const auto &s = streams[i];
        if (tokens > s.tokens || tiles > s.row_tiles || units > s.units) continue;
        quant__plan p = {};
        p.nt = s.nt;
        p.wr = s.wr ? s.wr : share_rows(tiles);
        p.wk = s.wk;
        p.splits = s.splits;
        p.stream = s.per_sm;
        if (p.nt == 0 || units < p.wk * p.splits || !stream_plan(&p, gpu, w, tokens)) return false;
        *best = p;
        return true;
    }
    return false;
}

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

/* Microseconds that a block of the wgmma kernel takes for 128 columns, alone on its multiprocessor
 * or with another one, fitted to 6,258 measurements of cuda_bench wide on an H200, that for 16
 * tokens guessed. */
static const struct { uint32_t t, rt; float alone, both; } wide_costs[] = {
    {16, 4, 0.41f, 0.70f}, {16, 8, 0.77f, 1.44f}, {32, 4, 0.438f, 0.72f}, {32, 8, 0.885f, 1.534f},
    {48, 4, 0.489f, 0.823f}, {48, 8, 0.771f, 0}, {64, 4, 0.504f, 0}, {64, 6, 0.677f, 0},
    {64, 8, 0.86f, 0}, {96, 4, 0.598f, 0}, {96, 6, 0.848f, 0}, {96, 8, 1.092f, 0},
    {128, 4, 0.714f, 0}, {128, 6, 1.079f, 0}, {128, 8, 1.368f, 0}, {192, 4, 1.002f, 0},
    {256, 4, 1.443f, 0}};

/* What they add up to, with the cost of writing y and of adding up.  Infinite for plans that
 * measure badly: clusters of three and more do not fill the device (they want one group of its
 * multiprocessors), and small ones are put two on a multiprocessor while others are free. */
static float wide_time(uint32_t i, size_t tiles, size_t units, size_t sms, uint32_t splits,
                       uint32_t per_sm)
{
    const uint32_t t = wide_costs[i].t, rt = wide_costs[i].rt;
    const float area = (float)(t * rt) / 512, store = 1.29f * area;
    const float cost = per_sm == 2 ? wide_costs[i].both : wide_costs[i].alone, no = 1e30f;
    size_t slots = sms * (per_sm == 2 ? 2 : 1), blocks = tiles * splits;
    if (splits == 0) {
        if (per_sm > 1 && rt == 8 && t > 16) return no;
        const float each = (float)tiles * (float)units / (float)slots;
        const float parts = (float)slots / (float)tiles;
        float fixup = (per_sm == W_SPREAD ? 4.55f : 5.32f) + 0.38f * parts;
        if (parts > 1) fixup += 0.39f * area * area * (parts - 1);
        return 1.07f * (each * (cost + store / (float)units) + fixup);
    }
    if (per_sm == W_SWAP)
        return (float)units / (float)splits * cost + store / (float)splits + 2.71f + 0.8f * area
               + 0.66f * (float)splits;
    if (splits >= 3) {
        slots = slots * (per_sm == 2 ? 87 : 75) / 100;
        if (blocks > slots || (per_sm == 1 ? splits > 3 : t > 32 || (rt == 8 && t > 16)))
            return no;
    }
    if (per_sm == 2 && splits > 1 && blocks <= sms) return no;
    size_t rounds = (blocks + slots - 1) / slots, in_last = blocks - (rounds - 1) * slots;
    float each = (float)units / (float)splits, all = each * cost, last = all;
    if (per_sm == 2 && in_last <= sms) last = each * wide_costs[i].alone;
    float add = splits > 1 ? 0.95f + 0.6f * (float)splits + 1.14f * area : 0;
    add += 1.9f;                        /* the start, which is in `fixup` above, too             */
    /* a device that is not full is faster */
    if (rounds == 1 && per_sm == 1 && t >= 96) {
        const float full = 0.4f + 0.6f * (float)blocks / (float)slots;
        last *= full > 0.89f ? full : 0.89f;
    }
    return (float)(rounds - 1) * all + last + (float)rounds * (store + add);
}

/* The plan that should be fastest, with splits from `low` to `high` */
static bool choose_wide(quant__plan *best, const quant_cuda_device *gpu, const quant_cuda_matrix *w,
                        size_t tokens, uint32_t low, uint32_t high)
{
    const size_t units = col_units(w), sms = gpu->sms ? gpu->sms : 1;
    float least = 1e30f;
    for (uint32_t i = 0; i < sizeof wide_costs / sizeof *wide_costs; i++) {
        const uint32_t t = wide_costs[i].t, rt = wide_costs[i].rt;
        const size_t token_tiles = (tokens + t - 1) / t;
        const size_t tiles = (row_tiles(w) + rt - 1) / rt * token_tiles;
        if (tokens > 1024 && t * rt != 1024) continue;
        if (token_tiles > 1 && t < 64) continue;
        for (uint32_t per_sm = 1; per_sm <= W_SWAP; per_sm++) {
            if (per_sm > 1 && per_sm < W_SWAP && wide_blocks((int)t, (int)rt) == 1) continue;
            for (uint32_t splits = low; splits <= high; splits++) {
                quant__plan p;
                float time = wide_time(i, tiles, units, sms, splits, per_sm);
                if (time >= least || !wide_plan(&p, gpu, w, tokens, t, rt, splits, per_sm))
                    continue;
                least = time;
                *best = p;
            }
        }
    }
    return least < 1e30f;
}

/* QUANT_CUDA_INVARIANT: a sum must not depend on the number of tokens.  Its order does depend on
 * the number of splits, which is that for few tokens here; not on the size of tiles, since the
 * columns of a wgmma or mma do not mix. */
static quant__plan invariant_plan(const quant_cuda_device *gpu, const quant_cuda_matrix *w,
                                  size_t tokens)
{
    quant__plan p = {4, 2, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    const size_t units = col_units(w);
    if (gpu->tensor_map && choose_wide(&p, gpu, w, 16, 1, 2)
        && choose_wide(&p, gpu, w, tokens, p.splits, p.splits)) return p;
    while (p.wk > 1 && (units < p.wk || shared_bytes(p, w, 32) + Q_FIXED > gpu->shared)) p.wk /= 2;
    while (p.wr > 1 && shared_bytes(p, w, 32) + Q_FIXED > gpu->shared) p.wr /= 2;
    p.nt = tokens <= 16 ? 2 : 4;        /* one tile alone treats zero points otherwise         */
    p.shared = plan_shared(p, gpu, w, tokens);
    return p;
}

static quant__plan make_plan(const quant_cuda_device *gpu, const quant_cuda_matrix *w,
                             size_t tokens, quant_type act)
{
    quant__plan p = {0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    const size_t tiles = row_tiles(w) * 132 / (gpu->sms ? gpu->sms : 1);
    const size_t units = col_units(w);
    size_t i = 0;
    if (gpu->capability < 80 || gpu->flags & QUANT_CUDA_PLAIN) return p;
    if (gpu->flags & QUANT_CUDA_INVARIANT) return invariant_plan(gpu, w, tokens);
    if (gpu->tensor_map && choose_stream(&p, gpu, w, tokens, tiles)) return p;
    if (gpu->tensor_map && tokens > (tiles <= 200 ? 32u : 16u)
        && choose_wide(&p, gpu, w, tokens, 0, 7)) return p;
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
    while (p.wk > 1 && shared_bytes(p, w, tokens) + Q_FIXED > gpu->shared) p.wk /= 2;
    while (p.wr > 1 && shared_bytes(p, w, tokens) + Q_FIXED > gpu->shared) p.wr /= 2;
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

/* The kernel of a plan, NULL if there is none.  Tests and benchmarks include this file for its
 * private parts but define QUANT_CUDA_LINKED: the kernels, which take long to compile, are those of
 * the library then. */
const void *quant__cuda_kernel(const quant__plan &p, const quant_cuda_matrix *w, quant_type act);

#ifndef QUANT_CUDA_LINKED
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

template <int BF, int NT, int TPG> static const void *stream_kernel(uint32_t zero)
{
    if (zero == QUANT_CUDA_SYMMETRIC)
        return (const void *)quant__stream_kernel<BF, NT, QUANT_CUDA_SYMMETRIC, TPG>;
    if (zero == QUANT_CUDA_ZERO_POINT)
        return (const void *)quant__stream_kernel<BF, NT, QUANT_CUDA_ZERO_POINT, TPG>;
    return (const void *)quant__stream_kernel<BF, NT, QUANT_CUDA_OFFSET, TPG>;
}
template <int BF, int TPG> static const void *stream_of(uint32_t nt, uint32_t zero)
{
    if (nt == 1) return stream_kernel<BF, 1, TPG>(zero);
    if (nt == 2) return stream_kernel<BF, 2, TPG>(zero);
    return nt == 4 ? stream_kernel<BF, 4, TPG>(zero) : NULL;
}
static const void *find_stream(const quant__plan &p, const quant_cuda_matrix *w, quant_type act)
{
    const bool bf = act == QUANT_BF16, big = w->group == 0 || w->group == 128;
    if (bf) return big ? stream_of<1, 4>(p.nt, w->zero) : stream_of<1, 0>(p.nt, w->zero);
    return big ? stream_of<0, 4>(p.nt, w->zero) : stream_of<0, 0>(p.nt, w->zero);
}

template <int BF, int BIG, int SUB> static const void *wide_kernel(uint32_t t, uint32_t rt)
{
#define W_KERNEL(T, RT) \
    if (t == T && rt == RT) return (const void *)quant__wide_kernel<BF, T, RT, BIG, SUB>
    W_KERNEL(16, 4);
    W_KERNEL(32, 4);
    W_KERNEL(48, 4);
    W_KERNEL(64, 4);
    W_KERNEL(96, 4);
    W_KERNEL(128, 4);
    W_KERNEL(192, 4);
    W_KERNEL(256, 4);
    W_KERNEL(64, 6);
    W_KERNEL(96, 6);
    W_KERNEL(128, 6);
    W_KERNEL(16, 8);
    W_KERNEL(32, 8);
    W_KERNEL(48, 8);
    W_KERNEL(64, 8);
    W_KERNEL(96, 8);
    W_KERNEL(128, 8);
#undef W_KERNEL
    return NULL;
}

static const void *find_wide(const quant__plan &p, const quant_cuda_matrix *w, quant_type act)
{
    bool bf = act == QUANT_BF16, big = w->group == 0 || w->group == 128;
    const uint32_t t = p.wide, rt = p.rt;
    if (w->zero == QUANT_CUDA_ZERO_POINT) {
        if (bf) return big ? wide_kernel<1, 1, 1>(t, rt) : wide_kernel<1, 0, 1>(t, rt);
        return big ? wide_kernel<0, 1, 1>(t, rt) : wide_kernel<0, 0, 1>(t, rt);
    }
    if (bf) return big ? wide_kernel<1, 1, 0>(t, rt) : wide_kernel<1, 0, 0>(t, rt);
    return big ? wide_kernel<0, 1, 0>(t, rt) : wide_kernel<0, 0, 0>(t, rt);
}

template <int BITS, int BF> static const void *code_kernel(uint32_t nt, uint32_t plain)
{
    if (plain) return nt == 1 ? (const void *)quant__code_plain_kernel<BITS, BF, 1>
                              : (const void *)quant__code_plain_kernel<BITS, BF, C_PLAIN_TOKENS>;
    return nt == 1 ? (const void *)quant__code_kernel<BITS, BF, 1>
                   : (const void *)quant__code_kernel<BITS, BF, C_OCTETS>;
}
static const void *find_code(const quant__plan &p, const quant_cuda_matrix *w, quant_type act)
{
    const bool bf = act == QUANT_BF16;
    const uint32_t n = p.nt, plain = p.plain;
    if (w->bits == 4) return bf ? code_kernel<4, 1>(n, plain) : code_kernel<4, 0>(n, plain);
    if (w->bits == 6) return bf ? code_kernel<6, 1>(n, plain) : code_kernel<6, 0>(n, plain);
    return bf ? code_kernel<8, 1>(n, plain) : code_kernel<8, 0>(n, plain);
}

const void *quant__cuda_kernel(const quant__plan &p, const quant_cuda_matrix *w, quant_type act)
{
    if (is_other(w)) return find_code(p, w, act);
    if (p.wide) return find_wide(p, w, act);
    return p.stream ? find_stream(p, w, act) : find_kernel(p, w, act);
}
#endif /* QUANT_CUDA_LINKED */

static void fill_job(quant__job *j, const quant__plan &p, const quant_cuda_matrix *w, void *y,
                     size_t ldy, const void *x, size_t ldx, size_t tokens, void *workspace)
{
    memset(j, 0, sizeof *j);
    j->tiles = (const uint8_t *)w->data;
    j->recs = j->tiles + row_tiles(w) * col_tiles(w) * tile_bytes(w);
    j->gains = (const float *)(j->recs + row_tiles(w) * records(w) * matrix_rec_bytes(w));
    j->x = x;
    j->bias = w->bias;
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

static cudaError_t start_plain(const void *kernel, dim3 grid, uint32_t threads, cudaStream_t stream,
                               void **args)
{
    cudaLaunchConfig_t c = {};
    c.stream = stream;
    c.gridDim = grid;
    c.blockDim = dim3(threads);
    return cudaLaunchKernelExC(&c, kernel, args);
}

/* The kernel may start before the one before it on the stream is done. */
static bool overlaps(const quant_cuda_device *gpu)
{
    return gpu->flags & QUANT_CUDA_OVERLAP && gpu->capability >= 90;
}

/* Launches with the attributes of the plan.  All shared memory that the kernel, which has `fixed`
 * bytes of its own, could use is asked for, not what this launch needs: the number belongs to the
 * kernel, and another thread could be about to launch it with more. */
static cudaError_t start(const quant__plan &p, const quant_cuda_device *gpu, const void *kernel,
                         size_t fixed, cudaLaunchConfig_t c, void **args)
{
    cudaLaunchAttribute attr[2] = {};
    cudaError_t e;
    c.attrs = attr;
    c.dynamicSmemBytes = p.shared;
    if (p.shared > 40 * 1024) {         /* 48 KiB without asking, static arrays included       */
        e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 (int)(gpu->shared - fixed));
        if (e != cudaSuccess) return e;
    }
    if (p.cluster) {
        attr[c.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attr[c.numAttrs].val.clusterDim.x = p.splits;
        attr[c.numAttrs].val.clusterDim.y = attr[c.numAttrs].val.clusterDim.z = 1;
        c.numAttrs++;
    }
    if (overlaps(gpu)) {
        attr[c.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attr[c.numAttrs].val.programmaticStreamSerializationAllowed = 1;
        c.numAttrs++;
    }
    return cudaLaunchKernelExC(&c, kernel, args);
}

/* A tensor for the copy engine: size and box in elements, rows and planes so many bytes apart; half
 * floats swizzled as wgmma and unit() want them */
struct quant__tensor { size_t size[3], pitch, plane, box[3]; };
static bool describe(CUtensorMap *map, const quant_cuda_device *gpu, CUtensorMapDataType type,
                     const void *data, const quant__tensor &t)
{
    const cuuint64_t size[3] = {t.size[0], t.size[1], t.size[2]}, stride[2] = {t.pitch, t.plane};
    const cuuint32_t box[3] = {(cuuint32_t)t.box[0], (cuuint32_t)t.box[1], (cuuint32_t)t.box[2]};
    const cuuint32_t one[3] = {1, 1, 1};
    return ((decltype(&cuTensorMapEncodeTiled))gpu->tensor_map)(
               map, type, 3, const_cast<void *>(data), size, stride, box, one,
               CU_TENSOR_MAP_INTERLEAVE_NONE,
               type == CU_TENSOR_MAP_DATA_TYPE_INT64 ? CU_TENSOR_MAP_SWIZZLE_NONE
                                                     : CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
           == CUDA_SUCCESS;
}

/* x, tiles and records, in boxes of T tokens and R row tiles; `units` in a box: planes of a unit
 * (of x, two), 0: whole rows without planes and boxes of one unit (of x, half of one).  Planes lie
 * closer together than rows, which the engine does not mind: it adds up coordinate times stride. */
struct quant__maps { CUtensorMap *x, *tiles, *recs; };
static bool describe_all(const quant__maps &m, const quant_cuda_device *gpu,
                         const quant_cuda_matrix *w, const quant__job &j, quant_type act, size_t t,
                         size_t r, size_t units, size_t rec_units)
{
    const CUtensorMapDataType type = act == QUANT_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                       : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    const size_t unit_recs = unit_records(w), rec = unit_recs * record_bytes(w->zero);
    const size_t rec_row = records(w) * record_bytes(w->zero);
    const size_t tile_row = col_tiles(w) * Q_TILE_BYTES;
    const size_t rows = row_tiles(w), all = w->cols / 128, tile = Q_UNIT * Q_TILE_BYTES;
    const quant__tensor x = {{units ? 64 : w->cols, j.tokens, units ? 2 * all : 1}, j.ldx * 2,
                             units ? 128 : j.tokens * j.ldx * 2, {64, t, units ? 2 * units : 1}};
    const quant__tensor q = {{(units ? tile : tile_row) / 8, rows, units ? all : 1}, tile_row,
                             units ? tile : rows * tile_row, {tile / 8, r, units ? units : 1}};
    const quant__tensor s = {{(rec_units ? rec : rec_row) / 8, rows, rec_units ? all : 1}, rec_row,
                             rec_units ? rec : rows * rec_row, {rec / 8, r, rec_units ? units : 1}};
    return describe(m.x, gpu, type, j.x, x)
           && describe(m.tiles, gpu, CU_TENSOR_MAP_DATA_TYPE_INT64, j.tiles, q)
           && describe(m.recs, gpu, CU_TENSOR_MAP_DATA_TYPE_INT64, j.recs, s);
}

/* The wgmma kernel and the stream kernel, on a device that has a tensor_map; c: the stream */
static cudaError_t launch_wide(const quant__plan &p, const quant_cuda_device *gpu,
                               const quant_cuda_matrix *w, const quant__job &j, quant_type act,
                               const void *kernel, cudaLaunchConfig_t c)
{
    quant__wide_job v;
    void *args[1] = {&v};

    if (!describe_all({&v.x_map, &v.tile_map, &v.rec_map}, gpu, w, j, act, p.wide, p.rt, 0, 0))
        return cudaErrorInvalidValue;
    v.j = j;
    v.stages = p.stages;
    v.stage_bytes = (uint32_t)wide_stage(p, w);
    v.row_blocks = (uint32_t)plan_rows(p, w);
    v.tiles = (uint32_t)(plan_rows(p, w) * plan_tokens(p, j.tokens));
    v.zero = w->zero;
    v.whole = p.whole;
    if (p.splits > 1) v.whole = 0;
    c.gridDim = dim3(p.splits > 1 ? v.tiles * p.splits : p.blocks);
    c.blockDim = dim3(wide_threads((int)p.wide, (int)p.rt));
    return start(p, gpu, kernel, wide_fixed((int)p.rt), c, args);
}

static cudaError_t launch_stream(const quant__plan &p, const quant_cuda_device *gpu,
                                 const quant_cuda_matrix *w, const quant__job &j, quant_type act,
                                 const void *kernel, cudaLaunchConfig_t c)
{
    quant__stream_job v;
    void *args[1] = {&v};

    v.j = j;
    v.stages = p.stages;
    v.stage_bytes = (uint32_t)stream_stage(p, w, j.tokens);
    v.xt = (uint32_t)stream_tokens(p, j.tokens);
    v.row_blocks = (uint32_t)plan_rows(p, w);
    v.rec_pitch = (uint32_t)stream_rec_pitch(p, w);
    v.planes = w->cols % 128 == 0;
    v.rec_planes = v.planes && w->group;
    if (!describe_all({&v.x_map, &v.tile_map, &v.rec_map}, gpu, w, j, act, v.xt, p.wr,
                      v.planes * p.wk, v.rec_planes * p.wk)) return cudaErrorInvalidValue;
    /* see quant__stream_job; who has nothing to do stays about as long as the others work, less
     * if there are few of them, as they are faster then */
    const uint32_t z = (uint32_t)plan_tokens(p, j.tokens), blocks = v.row_blocks * p.splits;
    const uint32_t sms = gpu->sms ? gpu->sms : 1, full = (blocks + sms - 1) / sms;
    const uint64_t units = col_units(w);
    const bool fill = 2 * full <= p.stream && z == 1 && p.splits == 1 && overlaps(gpu);
    v.stay = (uint32_t)(units * S_STAY * blocks / ((uint64_t)full * sms));
    c.gridDim = dim3(fill ? full * sms : blocks, 1, z);
    c.blockDim = dim3(p.wr * p.wk * 32 + 32);
    return start(p, gpu, kernel, Q_FIXED, c, args);
}

/* Other codes.  The slices of the columns do not depend on the number of tokens, nor does the order
 * of a sum: always QUANT_CUDA_INVARIANT. */
static quant__plan code_plan(const quant_cuda_device *gpu, size_t tokens)
{
    quant__plan p = {};
    p.plain = gpu->capability < 80 || gpu->flags & QUANT_CUDA_PLAIN;
    p.nt = p.plain ? (tokens == 1 ? 1 : C_PLAIN_TOKENS) : tokens <= 8 ? 1 : C_OCTETS;
    return p;
}
static cudaError_t launch_code(const quant_cuda_device *gpu, const quant_cuda_matrix *w,
                               quant__job j, quant_type act, cudaStream_t stream)
{
    const quant__plan p = code_plan(gpu, j.tokens);
    const uint32_t each = p.plain ? p.nt : p.nt * 8, blocks = (j.tokens + each - 1) / each;
    void *args[1] = {&j};
    return start_plain(quant__cuda_kernel(p, w, act),
                       dim3(j.row_tiles, blocks < 65535 ? blocks : 65535), C_WARPS * 32, stream,
                       args);
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
    const void *kernel;
    cudaLaunchConfig_t c = {};

    fill_job(&j, p, w, y, ldy, x, ldx, tokens, workspace);
    if (is_other(w)) return launch_code(gpu, w, j, act, stream);
    kernel = quant__cuda_kernel(p, w, act);
    if (!kernel || ((p.wide || p.stream) && !gpu->tensor_map)) return cudaErrorInvalidValue;
    c.stream = stream;
    if (p.wide) return launch_wide(p, gpu, w, j, act, kernel, c);
    if (p.stream) return launch_stream(p, gpu, w, j, act, kernel, c);
    if (p.nt == 0)
        return start_plain(kernel, dim3(j.row_tiles, (unsigned)(tokens < 65535 ? tokens : 65535)),
                           128, stream, args);
    c.gridDim = dim3((unsigned)(plan_rows(p, w) * p.splits), 1, (unsigned)plan_tokens(p, tokens));
    c.blockDim = dim3(p.wr * p.wk * 32);
    return start(p, gpu, kernel, Q_FIXED, c, args);
}

/* The driver's function that describes tensors to the copy engine, or NULL if the kernels with it
 * cannot run: wrong device, or this file was not compiled for sm_90a (its body is empty then and
 * has no shared memory). */
static void *find_wide_driver(uint32_t capability)
{
    void *f = NULL;
#if CUDART_VERSION >= 12050
    cudaFuncAttributes a;
    cudaDriverEntryPointQueryResult found;
    quant__plan p = {};
    quant_cuda_matrix w = {};
    if (capability != 90) return NULL;
    w.bits = 4;
    p.wide = 64;
    p.rt = 4;
    if (cudaFuncGetAttributes(&a, quant__cuda_kernel(p, &w, QUANT_F16)) != cudaSuccess
        || a.sharedSizeBytes == 0
        || cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault,
                                            &found) != cudaSuccess
        || found != cudaDriverEntryPointSuccess) {
        (void)cudaGetLastError();
        return NULL;
    }
#endif
    return f;
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
    gpu->tensor_map = find_wide_driver(gpu->capability);
    return QUANT_OK;
}

/* Act-order: bytes at the end of the workspace for x in the order of the packed columns, so many
 * tokens at a time; what lies before them starts with the counters. */
enum { Q_CHUNK = 512 };
static size_t order_space(const quant_cuda_matrix *w)
{
    return w->ordered ? Q_CHUNK * w->cols * 2 : 0;
}

size_t quant_cuda_workspace_size(const quant_cuda_device *gpu, const quant_cuda_matrix *w)
{
    size_t most = 0, tokens;
    if (!gpu || !w || is_other(w)) return 0;
    /* blocks are split only while there are few of them: tokens far beyond one block need none */
    for (tokens = 1; tokens <= 512; tokens++) {
        quant__plan a = make_plan(gpu, w, tokens, QUANT_F16);
        quant__plan b = make_plan(gpu, w, tokens, QUANT_BF16);
        size_t na = plan_workspace(a, w, tokens), nb = plan_workspace(b, w, tokens);
        if (na > most) most = na;
        if (nb > most) most = nb;
    }
    /* but those of the wgmma kernel share what does not go round, whatever their number */
    if (gpu->tensor_map && most < wide_space(gpu->sms, 1024)) most = wide_space(gpu->sms, 1024);
    if (w->ordered)
        most = (most < wide_space(0, 0) ? wide_space(0, 0) : most) + order_space(w) + 256;
    return most;
}

/* One product, its arguments checked; x in the order of the packed columns */
static quant_result multiply(const quant_cuda_device *gpu, const quant_cuda_matrix *w, void *y,
                             size_t ldy, const void *x, size_t ldx, size_t tokens, quant_type act,
                             void *workspace, size_t workspace_size, cudaStream_t stream,
                             quant_error *err)
{
    quant__plan p = is_other(w) ? quant__plan{} : make_plan(gpu, w, tokens, act);
    if (plan_workspace(p, w, tokens) > (workspace ? workspace_size : 0))
        return fail(err, QUANT_E_MEMORY, 0, "the workspace is too small");
    cudaError_t e = launch(p, gpu, w, y, ldy, x, ldx, tokens, act, workspace, stream);
    if (e != cudaSuccess) {
        (void)cudaGetLastError();
        return fail(err, QUANT_E_STATE, 0, cudaGetErrorString(e));
    }
    return QUANT_OK;
}

static const uint32_t *packed_order(const quant_cuda_matrix *w)
{
    return (const uint32_t *)((const uint8_t *)w->data + w->size) - w->cols;
}

quant_result quant_cuda_matmul(const quant_cuda_device *gpu, const quant_cuda_matrix *w, void *y,
                               size_t ldy, const void *x, size_t ldx, size_t tokens,
                               quant_type act, void *workspace, size_t workspace_size,
                               void *stream, quant_error *err)
{
    const size_t max_tokens = 65535 * 32;       /* the grid's limit, at the smallest blocks    */
    if (!gpu || !w || !w->data || !y || !x || tokens == 0)
        return fail(err, QUANT_E_ARG, 0, "NULL, no device data or no tokens");
    if (act != QUANT_F16 && act != QUANT_BF16)
        return fail(err, QUANT_E_TYPE, 0, "x and y are F16 or BF16");
    if (((uintptr_t)x | (uintptr_t)y | (uintptr_t)w->data | (uintptr_t)workspace) % 16)
        return fail(err, QUANT_E_ARG, 0, "x, y, data and workspace are aligned to 16 bytes");
    if (ldx % 8 || ldy % 8 || ldx < w->cols || ldy < w->rows)
        return fail(err, QUANT_E_ARG, 0, "ldx, ldy: at least cols, rows and multiples of 8");
    if (tokens > max_tokens) return fail(err, QUANT_E_ARG, 0, "more than 2,097,120 tokens");
    if (!w->ordered)
        return multiply(gpu, w, y, ldy, x, ldx, tokens, act, workspace, workspace_size,
                        (cudaStream_t)stream, err);
    if (!workspace || workspace_size < wide_space(0, 0) + order_space(w) + 256)
        return fail(err, QUANT_E_MEMORY, 0, "the workspace is too small");
    const size_t before = (workspace_size - order_space(w)) / 256 * 256;
    uint16_t *in_order = (uint16_t *)((uint8_t *)workspace + before);
    for (size_t t = 0; t < tokens; t += Q_CHUNK) {
        const size_t left = tokens - t, n = left < Q_CHUNK ? left : (size_t)Q_CHUNK;
        const dim3 grid((unsigned)((w->cols + 1023) / 1024), (unsigned)n);
        const uint16_t *from = (const uint16_t *)x + t * ldx;
        const uint32_t *order = packed_order(w);
        uint32_t cols = (uint32_t)w->cols;
        void *args[5] = {&in_order, &from, &ldx, &order, &cols};
        cudaError_t e = start_plain((const void *)quant__gather_kernel, grid, 128,
                                    (cudaStream_t)stream, args);
        if (e != cudaSuccess) return fail(err, QUANT_E_STATE, 0, cudaGetErrorString(e));
        quant_result r = multiply(gpu, w, (uint16_t *)y + t * ldy, ldy, in_order, w->cols, n, act,
                                  workspace, before, (cudaStream_t)stream, err);
        if (r) return r;
    }
    return QUANT_OK;
}

/* ---- packing ---------------------------------------------------------------------------------*/
/* One text for the host and for kernels: a function for each row's gain, and one for each word of
 * tiles and records. */
Q_BOTH uint32_t get16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
Q_BOTH uint32_t get32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }

/* GGUF: bytes and weights of a block; 0 for a type that cannot be packed */
Q_BOTH size_t block_bytes(quant_type t)
{
    return t == QUANT_Q4_0 || t == QUANT_IQ4_NL ? 18 : t == QUANT_Q4_1 ? 20 : t == QUANT_Q8_0 ? 34
         : t == QUANT_Q4_K ? 144 : t == QUANT_Q6_K ? 210 : 0;
}
Q_BOTH size_t block_cols(quant_type t) { return t == QUANT_Q4_K || t == QUANT_Q6_K ? 256 : 32; }

Q_BOTH const uint8_t *gguf_block(const quant_cuda_source *s, size_t row, size_t col)
{
    size_t n = block_cols(s->type);
    return (const uint8_t *)s->data + (row * (s->cols / n) + col / n) * block_bytes(s->type);
}

/* AWQ: where the nibble of a row is in its word, rows 0 to 7 being 0 4 1 5 2 6 3 7 */
Q_BOTH uint32_t awq_shift(size_t row) { return 4 * ((row & 1) * 4 + (row >> 1 & 3)); }

/* GGUF: 32 weights are 16 bytes, the high nibble 16 further on; Q4_K's 64 are 32 bytes, 32 further
 * on; Q6_K's 128 are 64 bytes, 64 further on, and 32 bytes for two bits more, 32 further on each */
Q_BOTH uint32_t gguf_code(const quant_cuda_source *s, size_t row, size_t col)
{
    const uint8_t *b = gguf_block(s, row, col);
    const size_t i = col % block_cols(s->type);
    switch (s->type) {
    case QUANT_Q8_0: return b[2 + i] ^ 128u;
    case QUANT_Q4_K: return b[16 + i / 64 * 32 + i % 32] >> (i & 32 ? 4 : 0) & 15;
    case QUANT_Q6_K:
        return (b[i / 128 * 64 + i % 64] >> (i & 64 ? 4 : 0) & 15)
               | (b[128 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3) << 4;
    default: return b[(s->type == QUANT_Q4_1 ? 4 : 2) + i % 16] >> (i < 16 ? 0 : 4) & 15;
    }
}

/* The code of one weight; col: in the order of the source */
Q_BOTH uint32_t get_code(const quant_cuda_source *s, size_t row, size_t col)
{
    const uint32_t *words = (const uint32_t *)s->data;
    if (s->format == QUANT_CUDA_GGUF) return gguf_code(s, row, col);
    if (s->format == QUANT_CUDA_AWQ_GEMM)
        return get32(words + col * (s->rows / 8) + row / 8) >> awq_shift(row) & 15;
    return get32(words + col / 8 * s->rows + row) >> 4 * (col & 7) & 15;
}

Q_BOTH uint32_t get_zero(const quant_cuda_source *s, size_t row, size_t group)
{
    if (!s->zeros) return 8;
    uint32_t word = get32(s->zeros + group * (s->rows / 8) + row / 8);
    if (s->format == QUANT_CUDA_AWQ_GEMM) return word >> awq_shift(row) & 15;
    /* v1 stores zero - 1, and a zero of 0 as 15 */
    return ((word >> 4 * (row & 7)) + (s->format == QUANT_CUDA_GPTQ_V1)) & 15;
}

/* Scale and offset (0 unless OFFSET) of a row and group; Q6_K: of a row and block */
Q_BOTH void get_scale(float *scale, float *offset, const quant_cuda_source *s, size_t row,
                      size_t group)
{
    *offset = 0;
    if (s->format != QUANT_CUDA_GGUF) {
        *scale = half_value(get16((const uint8_t *)(s->scales + group * s->rows + row)));
        return;
    }
    const uint8_t *b = gguf_block(s, row, group * (s->type == QUANT_Q6_K ? 256 : 32));
    *scale = half_value(get16(b + (s->type == QUANT_Q6_K ? 208 : 0)));
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

/* A NaN fails both comparisons */
Q_BOTH bool are_finite(float scale, float offset)
{
    return fabsf(scale) <= 1e30f && fabsf(offset) <= 1e30f;
}

/* The power of two that brings `most`, the largest scale, to 256..512; 1 for 0 */
Q_BOTH float scale_gain(float most)
{
    float gain = 1;
    if (most == 0) return 1;
    while (most * gain < 256) gain *= 2;
    while (most * gain >= 512) gain /= 2;
    return gain;
}

/* All that packing needs, passed by value */
struct quant__pack_job {
    quant_cuda_source s;
    quant_cuda_matrix w;
    uint8_t *dst;
    size_t tiles, recs;             /* bytes; gains [row_tiles][32] and the order follow         */
    uint32_t *status;               /* device only                                               */
};
static quant__pack_job pack_job(void *dst, const quant_cuda_matrix *w, const quant_cuda_source *s,
                                uint32_t *status)
{
    quant__pack_job j = {*s, *w, (uint8_t *)dst, 0, 0, status};
    j.tiles = row_tiles(w) * col_tiles(w) * tile_bytes(w);
    j.recs = row_tiles(w) * records(w) * matrix_rec_bytes(w);
    return j;
}
Q_BOTH float *pack_gains(const quant__pack_job &j) { return (float *)(j.dst + j.tiles + j.recs); }
Q_BOTH uint32_t *pack_order(const quant__pack_job &j)   /* [cols]; of ordered matrices only      */
{
    return (uint32_t *)(j.dst + j.w.size) - j.w.cols;
}

/* 1 / gain of a row, padding included, a power of two; false: a scale is not finite */
Q_BOTH bool pack_gain(const quant__pack_job &j, size_t row)
{
    float most = 0, scale, offset;
    bool good = true;
    if (row >= j.w.rows) {
        pack_gains(j)[row] = 0;
        return true;
    }
    for (size_t g = 0; g < records(&j.w); g++) {
        get_scale(&scale, &offset, &j.s, row, g);
        most = fmaxf(most, fmaxf(fabsf(scale), fabsf(offset)));
        good = good && are_finite(scale, offset);
    }
    pack_gains(j)[row] = 1 / scale_gain(most);
    return good;
}

/* A word of a tile: the place of a code in it is drawn at the top.  at: word of the tile */
Q_BOTH uint32_t pack_tile_word(const quant__pack_job &j, size_t tile, uint32_t at)
{
    const uint32_t *order = j.w.ordered ? pack_order(j) : NULL;
    const size_t row_tile = tile / col_tiles(&j.w), col_tile = tile % col_tiles(&j.w);
    const bool bytes = j.w.bits == 8, two_bits = j.w.bits == 6 && at >= 128;
    const uint32_t in = two_bits ? at - 128 : at & 127;     /* bytes: m is the half of the tile  */
    const uint32_t lane = two_bits ? in / 2 : in / 4, word = two_bits ? in % 2 : in % 4;
    uint32_t v = 0;
    for (uint32_t k = 0; k < (two_bits ? 16u : bytes ? 4u : 8u); k++) {
        const uint32_t c = k & 1;       /* k: column, pair, then s, as the word has them         */
        const uint32_t pair = bytes ? (k >> 1) + 2 * (word & 1) : k >> 1 & 3;
        const uint32_t m = bytes ? at / 128 : two_bits ? word : word / 2;
        const uint32_t s = bytes ? word / 2 : two_bits ? k / 8 : word % 2;
        const size_t row = row_tile * 32 + 16 * m + lane / 4 + 8 * (pair & 1);
        const size_t col = col_tile * 32 + 16 * s + lane % 4 * 2 + 8 * (pair >> 1) + c;
        if (row >= j.w.rows) continue;
        const uint32_t q = get_code(&j.s, row, order ? order[col] : col);
        if (bytes) v |= q << 8 * k;
        else if (two_bits) v |= q >> 4 << (8 * s + 2 * pair + 16 * c);
        else v |= (q & 15) << (4 * pair + 16 * c);
    }
    return v;
}

/* A word of a record, [g][i] being of row g + 8 i; padding is 0 */
Q_BOTH uint32_t pack_record_word(const quant__pack_job &j, size_t record, uint32_t at)
{
    const size_t row0 = record / records(&j.w) * 32, group = record % records(&j.w);
    const bool halves = at < 16 || j.w.zero == QUANT_CUDA_OFFSET;
    uint32_t v = 0;
    for (uint32_t k = 0; k < (halves ? 2u : 4u); k++) {
        const uint32_t e = halves ? at % 16 * 2 + k : at % 8 * 4 + k;
        const size_t row = row0 + e / 4 + 8 * (e % 4);
        float scale, offset;
        if (row >= j.w.rows) continue;
        if (halves) {
            get_scale(&scale, &offset, &j.s, row, group);
            v |= half_of((at < 16 ? scale : offset) * (1 / pack_gains(j)[row])) << 16 * k;
        } else if (j.w.bits == 6)
            v |= (uint32_t)gguf_block(&j.s, row, group * 256)[192 + (at - 16) / 8] << 8 * k;
        else v |= get_zero(&j.s, row, group) << 8 * k;
    }
    return v;
}

/* Word i of tiles and records, once the gains and the order are there */
Q_BOTH void pack_word(const quant__pack_job &j, size_t i)
{
    const size_t tile = tile_bytes(&j.w) / 4, rec = matrix_rec_bytes(&j.w) / 4, n = j.tiles / 4;
    ((uint32_t *)j.dst)[i] = i < n ? pack_tile_word(j, i / tile, (uint32_t)(i % tile))
                                   : pack_record_word(j, (i - n) / rec, (uint32_t)((i - n) % rec));
}

/* The place of column c in the order, by counting; false: its group has too many.  If all find
 * one, no group has too few. */
Q_BOTH inline bool pack_column(const quant__pack_job &j, size_t c)
{
    const size_t g = j.s.g_idx[c], n = j.s.group;
    size_t rank = 0;
    if (g >= (j.s.cols + n - 1) / n) return false;
    for (size_t i = 0; i < c; i++) rank += j.s.g_idx[i] == g;
    if (rank >= n || g * n + rank >= j.s.cols) return false;
    pack_order(j)[g * n + rank] = (uint32_t)c;
    return true;
}

static __global__ void quant__pack_order_kernel(const __grid_constant__ quant__pack_job j)
{
    const size_t c = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (c < j.w.cols && !pack_column(j, c) && j.status)
        atomicOr((unsigned *)j.status, QUANT_CUDA_BAD_ORDER);
}
static __global__ void quant__pack_gain_kernel(const __grid_constant__ quant__pack_job j)
{
    const size_t row = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (row < row_tiles(&j.w) * 32 && !pack_gain(j, row) && j.status)
        atomicOr((unsigned *)j.status, QUANT_CUDA_BAD_SCALE);
}
static __global__ void quant__pack_word_kernel(const __grid_constant__ quant__pack_job j)
{
    const size_t n = (j.tiles + j.recs) / 4;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x)
        pack_word(j, i);
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
            return fail(err, QUANT_E_TYPE, 0,
                        "GGUF types for the GPU: Q4_0, Q4_1, Q4_K, IQ4_NL, Q6_K, Q8_0");
        if (s->cols % block_cols(s->type))
            return fail(err, QUANT_E_ARG, 0, "cols: a multiple of the block");
        return QUANT_OK;
    }
    if (!s->scales) return fail(err, QUANT_E_ARG, 0, "scales is NULL");
    if (s->group != 0 && s->group != 32 && s->group != 64 && s->group != 128)
        return fail(err, QUANT_E_ARG, 0, "group: 32, 64, 128 or 0");
    return QUANT_OK;
}

static bool in_order(const quant_cuda_source *s)
{
    if (s->format == QUANT_CUDA_GGUF || !s->g_idx || !s->group) return true;
    for (size_t c = 0; c < s->cols; c++)
        if (get32(s->g_idx + c) != c / s->group) return false;
    return true;
}

/* Act-order: the columns group by group, in their order; order may be NULL.  A group with too many
 * or too few columns cannot be packed. */
static quant_result sort_columns(uint32_t *order, const quant_cuda_source *s, quant_error *err)
{
    size_t n = 0, g, c;
    for (g = 0; g < (s->cols + s->group - 1) / s->group; g++) {
        const size_t want = s->cols - n < s->group ? s->cols - n : s->group, first = n;
        for (c = 0; c < s->cols; c++) {
            if (get32(s->g_idx + c) != g) continue;
            if (n - first == want) return fail(err, QUANT_E_TYPE, c, "g_idx: a group is too large");
            if (order) order[n] = (uint32_t)c;
            n++;
        }
        if (n - first != want) return fail(err, QUANT_E_TYPE, g, "g_idx: a group is too small");
    }
    return QUANT_OK;
}

/* Everything but the size, from what can be known without reading: zero points stay what they are,
 * and g_idx is taken for an order */
static void describe_source(quant_cuda_matrix *w, const quant_cuda_source *s)
{
    const bool gguf = s->format == QUANT_CUDA_GGUF;
    memset(w, 0, sizeof *w);
    w->rows = s->rows;
    w->cols = s->cols;
    w->bits = 4;
    w->group = gguf ? 32 : (uint32_t)s->group;
    w->factor = 1;
    if (!gguf) {
        w->ordered = s->g_idx && s->group;
        w->zero = s->zeros ? QUANT_CUDA_ZERO_POINT : QUANT_CUDA_SYMMETRIC;
        return;
    }
    if (s->type == QUANT_Q4_1 || s->type == QUANT_Q4_K) w->zero = QUANT_CUDA_OFFSET;
    if (s->type == QUANT_IQ4_NL) w->zero = QUANT_CUDA_TABLE;
    if (s->type == QUANT_Q8_0) w->bits = 8;
    if (s->type == QUANT_Q6_K) {
        w->bits = 6;
        w->group = 16;
    }
}
static size_t packed_size(const quant_cuda_matrix *w)
{
    return row_tiles(w) * (col_tiles(w) * tile_bytes(w) + records(w) * matrix_rec_bytes(w)
                           + 32 * sizeof(float))
           + (w->ordered ? w->cols * sizeof(uint32_t) : 0);
}

quant_result quant_cuda_matrix_init(quant_cuda_matrix *w, const quant_cuda_source *s,
                                    quant_error *err)
{
    float scale, offset;
    size_t row, g;
    quant_result r;
    if (!w || !s) return fail(err, QUANT_E_ARG, 0, "w or s is NULL");
    memset(w, 0, sizeof *w);
    r = check_source(s, err);
    if (r) return r;
    bool gguf = s->format == QUANT_CUDA_GGUF, zero_points = false;
    describe_source(w, s);
    for (g = 0; g < records(w); g++) {
        for (row = 0; row < s->rows; row++) {
            get_scale(&scale, &offset, s, row, g);
            if (!are_finite(scale, offset)) {
                const size_t blocks = s->cols / block_cols(s->type);    /* of a row            */
                uint64_t where = gguf ? row * blocks + g * blocks / records(w) : g * s->rows + row;
                return fail(err, QUANT_E_NUMERIC, where, "a scale is not finite");
            }
            if (!gguf && get_zero(s, row, g) != 8) zero_points = true;
        }
    }
    if (!gguf) w->zero = zero_points ? QUANT_CUDA_ZERO_POINT : QUANT_CUDA_SYMMETRIC;
    w->ordered = 0;
    if (!in_order(s)) {
        r = sort_columns(NULL, s, err);
        if (r) return r;
        w->ordered = 1;
    }
    w->size = packed_size(w);
    return QUANT_OK;
}

quant_result quant_cuda_matrix_init_device(quant_cuda_matrix *w, const quant_cuda_source *s,
                                           quant_error *err)
{
    if (!w || !s) return fail(err, QUANT_E_ARG, 0, "w or s is NULL");
    memset(w, 0, sizeof *w);
    quant_result r = check_source(s, err);
    if (r) return r;
    describe_source(w, s);
    w->size = packed_size(w);
    return QUANT_OK;
}

static quant_result check_pack(const void *dst, const quant_cuda_matrix *w,
                               const quant_cuda_source *s, quant_error *err)
{
    quant_cuda_matrix same;
    if (!dst || !w || !s) return fail(err, QUANT_E_ARG, 0, "dst, w or s is NULL");
    quant_result r = check_source(s, err);
    if (r) return r;
    describe_source(&same, s);
    if (w->rows != s->rows || w->cols != s->cols || w->size == 0 || w->bits != same.bits
        || w->group != same.group || (w->ordered && !same.ordered)
        || (w->zero != same.zero
            && (w->zero != QUANT_CUDA_SYMMETRIC || same.zero != QUANT_CUDA_ZERO_POINT)))
        return fail(err, QUANT_E_ARG, 0, "w was made from another source");
    return QUANT_OK;
}

quant_result quant_cuda_pack(void *dst, const quant_cuda_matrix *w, const quant_cuda_source *s,
                             quant_error *err)
{
    quant_result r = check_pack(dst, w, s, err);
    if (r) return r;
    const quant__pack_job j = pack_job(dst, w, s, NULL);
    if (w->ordered) {
        r = sort_columns(pack_order(j), s, err);
        if (r) return r;
    }
    for (size_t row = 0; row < row_tiles(w) * 32; row++) pack_gain(j, row);
    for (size_t i = 0; i < (j.tiles + j.recs) / 4; i++) pack_word(j, i);
    return QUANT_OK;
}

quant_result quant_cuda_pack_device(void *dst, const quant_cuda_matrix *w,
                                    const quant_cuda_source *s, uint32_t *status, void *stream,
                                    quant_error *err)
{
    quant_result r = check_pack(dst, w, s, err);
    if (r) return r;
    if ((uintptr_t)dst % 256) return fail(err, QUANT_E_ARG, 0, "dst is aligned to 256 bytes");
    quant__pack_job j = pack_job(dst, w, s, status);
    void *args[1] = {&j};
    const cudaStream_t st = (cudaStream_t)stream;
    const size_t words = (j.tiles + j.recs) / 4, blocks = (words + 255) / 256;
    cudaError_t e = cudaSuccess;
    if (w->ordered) {
        /* columns of a wrong g_idx that find no place must not leave one undefined */
        e = cudaMemsetAsync(pack_order(j), 0, w->cols * sizeof(uint32_t), st);
        if (e == cudaSuccess)
            e = start_plain((const void *)quant__pack_order_kernel,
                            dim3((unsigned)((w->cols + 127) / 128)), 128, st, args);
    }
    if (e == cudaSuccess)
        e = start_plain((const void *)quant__pack_gain_kernel,
                        dim3((unsigned)((row_tiles(w) + 3) / 4)), 128, st, args);
    if (e == cudaSuccess)
        e = start_plain((const void *)quant__pack_word_kernel,
                        dim3((unsigned)(blocks < 65536 ? blocks : 65536)), 256, st, args);
    if (e == cudaSuccess) return QUANT_OK;
    (void)cudaGetLastError();           /* the next CUDA call should not report ours           */
    return fail(err, QUANT_E_STATE, 0, cudaGetErrorString(e));
}
