/* cuda_emulate.h - runs the kernels of quant_cuda.cu on a host without a GPU.
 *
 *   make cuda-emulated cuda-races
 *
 * quant_cuda.cu includes this text in place of its section "the machine" (its instructions), and
 * the test that includes quant_cuda.cu gets a runtime (cudaMalloc, launches, streams, graphs) at
 * the end of this file.  Every thread of a block is a fiber with a stack of its own; all fibers of
 * a block take turns on one thread of the host, in an order that changes from turn to turn.  Shared
 * memory is thread_local, so that the blocks of a cluster, each on a thread of its own, have
 * theirs; those pass a baton.  What is asynchronous happens at a random time between its start and
 * the wait for it: cp.async at once or at the wait, tensor copies by a fiber of the copy engine,
 * wgmma at the wait.
 *   Under -fsanitize=thread the fibers are known to the sanitizer as threads.  Only what orders
 * memory on the device orders it here: barriers of a block or warp, mbarriers, cluster barriers; an
 * mma, for example, does not.  So a missing or misplaced barrier is reported as a data race even if
 * every result is right.  Blocks run one after another: races between blocks are not seen. */
#ifndef CUDA_EMULATE_H
#define CUDA_EMULATE_H
#include <condition_variable>
#include <functional>
#include <tuple>
#include <utility>
#include <mutex>
#include <thread>
#include <vector>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#undef __align__
#define __global__
#define __device__
#define __host__
#define __shared__ thread_local
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

#if defined __SANITIZE_THREAD__
#define EMU_TSAN 1
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define EMU_TSAN 1
#endif
#endif
#ifdef EMU_TSAN
extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);     /* flags 1: orders nothing         */
void __tsan_acquire(void *p);
void __tsan_release(void *p);
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
}
/* What the emulation itself reads and writes, while one of these lives, is not the kernel's. */
struct emu_quiet {
    emu_quiet() { AnnotateIgnoreReadsBegin("", 0), AnnotateIgnoreWritesBegin("", 0); }
    ~emu_quiet() { AnnotateIgnoreWritesEnd("", 0), AnnotateIgnoreReadsEnd("", 0); }
};
#else
static inline void __tsan_acquire(void *) {}
static inline void __tsan_release(void *) {}
struct emu_quiet { emu_quiet() {} ~emu_quiet() {} };
#endif

/* ---- fibers and blocks -----------------------------------------------------------------------*/
enum { EMU_STACK = 128 * 1024, EMU_SHARED = 232448, EMU_MAX_THREADS = 1025 };

struct emu_copy { const void *src; uint32_t dst, group; bool valid; };      /* a cp.async        */
struct emu_box {                        /* a tensor copy                                         */
    uint32_t dst, col, row, plane, bar;
    const CUtensorMap *map;
};
/* From one stack to another.  swapcontext() does it, too, but asks the kernel about signals. */
#ifdef __x86_64__
typedef void *emu_context;
extern "C" void emu_swap(emu_context *from, emu_context *to);
__asm__(".text\n.globl emu_swap\n.type emu_swap, @function\nemu_swap:\n\t"
        "push %rbp\n\tpush %rbx\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
        "mov %rsp, (%rdi)\n\tmov (%rsi), %rsp\n\t"
        "pop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbx\n\tpop %rbp\n\tret\n");
static void emu_context_make(emu_context *c, uint8_t *stack, size_t size, void (*f)(void))
{
    void **top = (void **)(((uintptr_t)stack + size) & ~(uintptr_t)15) - 1;
    *--top = (void *)f;                 /* at f, as after a call: 8 below a multiple of 16       */
    *c = top - 6;
}
#else
typedef ucontext_t emu_context;
static void emu_swap(emu_context *from, emu_context *to) { swapcontext(from, to); }
static void emu_context_make(emu_context *c, uint8_t *stack, size_t size, void (*f)(void))
{
    if (getcontext(c)) abort();
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = size;
    c->uc_link = NULL;
    makecontext(c, f, 0);
}
#endif

struct emu_fiber {
    emu_context context;
    uint8_t *stack;
    const uint32_t *turn;               /* waits until *turn is not `old` any more; or NULL      */
    uint32_t old;
    void *tsan;
    uint3 thread;
    bool done;
    emu_copy copies[512];               /* not made yet                                          */
    uint32_t n_copies, group;           /* group: the one that is open                           */
    emu_fiber *free_next;
};

/* sync: addresses, what the sanitizer knows a turn by */
struct emu_barrier { uint32_t arrived, turn; char sync[2]; };

/* Of what all lanes of a warp take part in, with what they bring */
struct emu_warp {
    uint32_t arrived, turn;
    const uint32_t *a[32], *b[32];
    float *c[32];
    uint32_t out[32][4], row[32][4];
    emu_barrier barrier;
};

/* A wgmma that has been issued: executed by lane 0 of the warp at the wait */
struct emu_wgmma {
    uint32_t a[32][4];
    float *d[32];
    uint64_t desc;
    int tokens, bf;
};
struct emu_block;
struct emu_cluster {
    std::mutex lock;
    std::condition_variable change;
    size_t baton, arrived, turn, live;  /* live: threads that have not returned                  */
    std::vector<emu_block *> blocks;
    size_t idle;                        /* blocks in a row without progress                      */
    char sync[2];
};
struct emu_block {
    uint3 index;
    dim3 threads, grid;
    emu_fiber *all[EMU_MAX_THREADS + 1];
    size_t n, live;
    emu_context back;
    void *tsan;                         /* of the scheduler                                      */
    emu_barrier barriers[16];
    emu_warp warps[EMU_MAX_THREADS / 32];
    std::vector<std::vector<emu_wgmma>> wgmmas[16];     /* groups, the last one still open       */
    std::vector<emu_box> boxes;
    emu_cluster *cluster;
    uint8_t *shared;
    const std::function<void()> *kernel;
    size_t progress;
};
static thread_local emu_block *emu_here;
static thread_local emu_fiber *emu_now;
static thread_local emu_fiber *emu_free;
static bool emu_deadlock;
alignas(1024) static thread_local uint8_t smem[EMU_SHARED];
#define Q_DYNAMIC_SHARED static_assert(EMU_SHARED > 0, "smem")

#define threadIdx (emu_now->thread)
static thread_local uint3 blockIdx;
static thread_local dim3 blockDim, gridDim;

static thread_local uint64_t emu_seed = 1;
static uint32_t emu_random(void)
{
    const emu_quiet quiet;
    emu_seed = emu_seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(emu_seed >> 33);
}

static void emu_switch(emu_fiber *to)   /* NULL: back to the scheduler                           */
{
    emu_context *from, *next;
    void *tsan;
    {
        const emu_quiet quiet;
        from = emu_now ? &emu_now->context : &emu_here->back;
        next = to ? &to->context : &emu_here->back;
        tsan = to ? to->tsan : emu_here->tsan;
        emu_now = to;
    }
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(tsan, 1);
#else
    (void)tsan;
#endif
    emu_swap(from, next);
}
/* Waits until `ready`; the other fibers go on meanwhile. */
template <class F> static inline void emu_wait(F ready)
{
    const emu_quiet quiet;
    emu_here->progress++;
    while (!ready()) emu_switch(NULL);
    emu_here->progress++;
}

/* The same for the end of a turn, which the scheduler can see by itself */
static void emu_wait_turn(const uint32_t *turn, uint32_t old)
{
    const emu_quiet quiet;
    emu_here->progress++;
    if (*turn != old) return;
    emu_now->turn = turn;
    emu_now->old = old;
    emu_switch(NULL);
    emu_here->progress++;
}

static void emu_engine(void);

static void emu_enter(void)             /* a fiber's life: one kernel, then the next             */
{
    for (;;) {
        __tsan_acquire(emu_now);
        if (emu_now->thread.x == ~0u) emu_engine();
        else {
            {
                const emu_quiet quiet;
                emu_now->n_copies = emu_now->group = 0;
            }
            (*emu_here->kernel)();
        }
        {
            const emu_quiet quiet;
            emu_now->done = true;
        }
        __tsan_release(emu_now);
        emu_switch(NULL);
    }
}
static emu_fiber *emu_fiber_new(void)
{
    emu_fiber *f = emu_free;
    if (f) {
        emu_free = f->free_next;
        return f;
    }
    f = new emu_fiber();
    f->stack = (uint8_t *)malloc(EMU_STACK);
    if (!f->stack) abort();
    emu_context_make(&f->context, f->stack, EMU_STACK, emu_enter);
#ifdef EMU_TSAN
    f->tsan = __tsan_create_fiber(0);
#endif
    return f;
}

/* Runs the fibers of emu_here until all have returned, or none can go on; false then. */
static bool emu_run_fibers(void)
{
    const emu_quiet quiet;
    emu_block *b = emu_here;
    while (b->live || !b->all[b->n - 1]->done) {
        const size_t before = b->progress, first = emu_random() % b->n;
        const bool down = emu_random() & 1;
        for (size_t i = 0; i < b->n; i++) {
            emu_fiber *f = b->all[down ? (first + b->n - i) % b->n : (first + i) % b->n];
            if (f->done || (f->turn && *f->turn == f->old)) continue;
            f->turn = NULL;
            emu_switch(f);
            if (f->done) b->progress++;
            if (f->done && f->thread.x != ~0u) {
                b->live--;
                if (b->cluster) b->cluster->live--;
            }
        }
        if (b->progress == before) return false;
    }
    return true;
}

static void emu_block_start(emu_block *b)
{
    const emu_quiet quiet;
    memset(smem, 0xff, sizeof smem);
    blockIdx = b->index;
    blockDim = b->threads;
    gridDim = b->grid;
    b->shared = smem;
    b->n = b->threads.x + 1;            /* the last one is the copy engine                       */
    b->live = b->threads.x;
    for (size_t i = 0; i < b->n; i++) {
        b->all[i] = emu_fiber_new();
        b->all[i]->done = false;
        b->all[i]->thread = make_uint3(i + 1 == b->n ? ~0u : (unsigned)i, 0, 0);
    }
#ifdef EMU_TSAN
    /* what happened before the kernel is before it */
    b->tsan = __tsan_get_current_fiber();
    for (size_t i = 0; i < b->n; i++) __tsan_release(b->all[i]);
#endif
}
static void emu_block_end(emu_block *b)
{
    const emu_quiet quiet;
    for (size_t i = 0; i < b->n; i++) {
        __tsan_acquire(b->all[i]);
        b->all[i]->free_next = emu_free;
        emu_free = b->all[i];
    }
}

/* One block by itself, on this thread */
static void emu_run_block(emu_block *b)
{
    const emu_quiet quiet;
    emu_here = b;
    emu_block_start(b);
    if (!emu_run_fibers()) emu_deadlock = true;
    if (!emu_deadlock) emu_block_end(b);
    emu_here = NULL;
}

/* A block of a cluster: turns with the others whenever it cannot go on */
static void emu_run_in_cluster(emu_block *b, size_t rank, uint64_t seed)
{
    emu_cluster *c = b->cluster;
    std::unique_lock<std::mutex> hold(c->lock);
    bool done = false;
    emu_seed = seed;
    emu_here = b;
    emu_block_start(b);
    while (!emu_deadlock) {
        c->change.wait(hold, [&] { return c->baton == rank || emu_deadlock; });
        if (emu_deadlock) break;
        const size_t before = b->progress;
        if (!done) done = emu_run_fibers();
        c->idle = b->progress == before ? c->idle + 1 : 0;
        c->baton = (rank + 1) % c->blocks.size();
        if (c->live && c->idle > c->blocks.size()) emu_deadlock = true;
        c->change.notify_all();
        if (done && c->live == 0) break;
    }
    /* shared memory lives until all are here */
    for (size_t i = 0; i < b->n; i++) {
        __tsan_acquire(b->all[i]);
#ifdef EMU_TSAN
        __tsan_destroy_fiber(b->all[i]->tsan);
#endif
        free(b->all[i]->stack);
        delete b->all[i];
    }
    emu_free = NULL;
}

static void emu_launch(dim3 grid, dim3 threads, size_t cluster, const std::function<void()> &kernel)
{
    const size_t blocks = (size_t)grid.x * grid.y * grid.z;
    std::vector<size_t> order(blocks / cluster);
    for (size_t i = 0; i < order.size(); i++) {
        const size_t o = emu_random() % (i + 1);
        order[i] = order[o];
        order[o] = i;
    }
    for (size_t group : order) {
        emu_cluster c = {};
        std::vector<std::thread> hosts;
        for (size_t rank = 0; rank < cluster; rank++) {
            const size_t i = group * cluster + rank;
            emu_block *b = new emu_block();
            b->index = make_uint3((unsigned)(i % grid.x), (unsigned)(i / grid.x % grid.y),
                                  (unsigned)(i / grid.x / grid.y));
            b->threads = threads;
            b->grid = grid;
            b->kernel = &kernel;
            if (cluster > 1) {
                b->cluster = &c;
                c.live += threads.x;
            }
            c.blocks.push_back(b);
        }
        if (cluster == 1) emu_run_block(c.blocks[0]);
        else for (size_t rank = 0; rank < cluster; rank++)
            hosts.emplace_back(emu_run_in_cluster, c.blocks[rank], rank, emu_random() + 1u);
        for (std::thread &t : hosts) t.join();
        for (emu_block *b : c.blocks) delete b;
        if (emu_deadlock) {
            printf("FAILED: threads of a block wait for each other\n");
            exit(1);
        }
    }
}

/* ---- barriers --------------------------------------------------------------------------------*/
static void emu_meet(emu_barrier *b, uint32_t threads)
{
    const emu_quiet quiet;
    const uint32_t turn = b->turn;
    __tsan_release(&b->sync[turn & 1]);
    if (++b->arrived == threads) {
        b->arrived = 0;
        b->turn++;
    }
    emu_wait_turn(&b->turn, turn);
    __tsan_acquire(&b->sync[turn & 1]);
}
static inline void barrier_sync(uint32_t id, uint32_t threads)
{
    emu_meet(&emu_here->barriers[id], threads);
}
template <int N> static inline void barrier_sync_first() { barrier_sync(1, N); }
static inline void emu_syncthreads(void) { barrier_sync(0, emu_here->threads.x); }
#define __syncthreads emu_syncthreads

static emu_warp *emu_my_warp(void) { return &emu_here->warps[emu_now->thread.x / 32]; }
static uint32_t emu_my_lane(void) { return emu_now->thread.x % 32; }

/* All lanes of the warp are here; the last one does `work` for all.  Orders no memory. */
template <class F> static void emu_together(F work)
{
    const emu_quiet quiet;
    emu_warp *w = emu_my_warp();
    const uint32_t turn = w->turn;
    if (++w->arrived == 32) {
        w->arrived = 0;
        work(w);
        w->turn++;
    }
    emu_wait_turn(&w->turn, turn);
}
static void emu_nothing(emu_warp *) {}
static inline void emu_syncwarp(void) { emu_meet(&emu_my_warp()->barrier, 32); }
#define __syncwarp emu_syncwarp

static void cluster_barrier(void)
{
    const emu_quiet quiet;
    emu_cluster *c = emu_here->cluster;
    if (!c) abort();
    const size_t turn = c->turn;
    __tsan_release(&c->sync[turn & 1]);
    c->arrived++;
    /* threads that have returned count as arrived */
    emu_wait([&] {
        if (c->turn == turn && c->arrived >= c->live) {
            c->arrived = 0;
            c->turn++;
        }
        return c->turn != turn;
    });
    __tsan_acquire(&c->sync[turn & 1]);
}
static inline void __threadfence(void) {}
static inline void wait_for_stream() {}
static inline void let_next_start() {}
template <int N> static inline void fewer_registers() {}
template <int N> static inline void more_registers() {}

/* ---- memory ----------------------------------------------------------------------------------*/
/* A shared address: 24 bits from the dynamic memory on; above them rank + 1 of another block */
static inline uint32_t smem_address(const void *p)
{
    return (uint32_t)((const uint8_t *)p - smem) & 0xffffff;
}
static inline uint8_t *emu_shared(uint32_t a)
{
    uint8_t *base = a >> 24 ? emu_here->cluster->blocks[(a >> 24) - 1]->shared : smem;
    return base + ((int32_t)(a << 8) >> 8);
}
template <class T> static inline T emu_load(uint32_t a)
{
    if (a % sizeof(T)) abort();         /* a misaligned address                                  */
    return *(const T *)emu_shared(a);
}
struct alignas(16) emu_16 { uint32_t v[4]; };
static inline uint4 load_shared16(uint32_t a)
{
    const emu_16 v = emu_load<emu_16>(a);
    return make_uint4(v.v[0], v.v[1], v.v[2], v.v[3]);
}
static inline uint2 load_shared8(uint32_t a) { return emu_load<uint2>(a); }
static inline uint32_t load_shared4(uint32_t a) { return emu_load<uint32_t>(a); }
static inline uint32_t cluster_address(uint32_t a, uint32_t rank) { return a | (rank + 1) << 24; }
static inline float4 cluster_load4(uint32_t a)
{
    const uint4 v = load_shared16(a);
    float4 f;
    memcpy(&f, &v, 16);
    return f;
}
static inline float2 cluster_load(const float *p, uint32_t rank)
{
    return emu_load<float2>(cluster_address(smem_address(p), rank));
}
template <class T> static inline T __ldcg(const T *p) { return *p; }
template <class T> static inline void __stcg(T *p, T v) { *p = v; }
static inline unsigned atomicAdd(unsigned *p, unsigned v)
{
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);
}
static inline unsigned add_release(unsigned *p, unsigned v) { return atomicAdd(p, v); }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline unsigned load_acquire(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static inline unsigned atomicOr(unsigned *p, unsigned v)
{
    return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);
}
static void emu_shuffle(emu_warp *w)        /* row: the number, and the lane to take it from      */
{
    for (int lane = 0; lane < 32; lane++) w->out[lane][0] = w->row[w->row[lane][1]][0];
}
template <class A, class B> static inline auto min(A a, B b) { return a < b ? a : b; }
template <class A, class B> static inline auto max(A a, B b) { return a > b ? a : b; }

static void emu_do_copy(const emu_copy &c)
{
    emu_16 v = {};
    if (c.valid) v = *(const emu_16 *)c.src;
    *(emu_16 *)emu_shared(c.dst) = v;
}
static void copy16_if(uint32_t dst, const void *src, bool valid)
{
    const emu_copy c = {src, dst, emu_now->group, valid};
    if (dst % 16 || (valid && (uintptr_t)src % 16)) abort();
    if (emu_random() & 1) {
        emu_do_copy(c);
        return;
    }
    const emu_quiet quiet;
    if (emu_now->n_copies == 512) abort();
    emu_now->copies[emu_now->n_copies++] = c;
}
static inline void copy16(uint32_t dst, const void *src) { copy16_if(dst, src, true); }
static inline void copy_commit()
{
    const emu_quiet quiet;
    emu_now->group++;
}
/* The oldest copy, if its group is not among the last `left` or still open */
static bool emu_next_copy(emu_copy *c, uint32_t left)
{
    const emu_quiet quiet;
    emu_fiber *f = emu_now;
    if (!f->n_copies || f->copies[0].group + left >= f->group) return false;
    *c = f->copies[0];
    memmove(f->copies, f->copies + 1, --f->n_copies * sizeof *f->copies);
    return true;
}
template <int N> static inline void copy_wait()
{
    emu_copy c;
    while (emu_next_copy(&c, N)) emu_do_copy(c);
}

/* ---- arithmetic ------------------------------------------------------------------------------*/
static uint16_t emu_half(double v)      /* to the nearest half float, ties to even               */
{
    const uint16_t sign = signbit(v) ? 0x8000 : 0;
    int e;
    v = fabs(v);
    if (!(v < 65520)) return sign | (v >= 65520 ? 0x7c00 : 0x7e00);
    if (v < 6.103515625e-5) return (uint16_t)(sign | (uint16_t)nearbyint(v * 16777216));
    frexp(v, &e);                       /* v = f 2^e, f in [0.5, 1)                              */
    return (uint16_t)(sign | (((e + 14) << 10) + (int)nearbyint(ldexp(v, 11 - e)) - 1024));
}
struct emu_halves {
    float value[65536];
    emu_halves()
    {
        for (uint32_t i = 0; i < 65536; i++)
            value[i] = __half2float(__half(__half_raw{(unsigned short)i}));
    }
};
static const emu_halves emu_half_table;
static inline float emu_value(uint16_t h) { return emu_half_table.value[h]; }

template <class F> static inline uint32_t emu_pair(uint32_t a, uint32_t b, uint32_t c, F f)
{
    return emu_half(f((double)emu_value((uint16_t)a), (double)emu_value((uint16_t)b),
                      (double)emu_value((uint16_t)c)))
           | (uint32_t)emu_half(f((double)emu_value((uint16_t)(a >> 16)),
                                  (double)emu_value((uint16_t)(b >> 16)),
                                  (double)emu_value((uint16_t)(c >> 16)))) << 16;
}
static inline uint32_t half2_sub(uint32_t a, uint32_t b)
{
    return emu_pair(a, b, 0, [](double x, double y, double) { return x - y; });
}
static inline uint32_t half2_mul(uint32_t a, uint32_t b)
{
    return emu_pair(a, b, 0, [](double x, double y, double) { return x * y; });
}
static inline uint32_t half2_fma(uint32_t a, uint32_t b, uint32_t c)    /* the sum is exact      */
{
    return emu_pair(a, b, c, [](double x, double y, double z) { return x * y + z; });
}
static inline float emu_bf(uint32_t h)
{
    float f;
    h <<= 16;
    memcpy(&f, &h, 4);
    return f;
}
static inline uint32_t emu_bf_of(float f)
{
    __nv_bfloat16 b = __float2bfloat16_rn(f);
    uint16_t h;
    memcpy(&h, &b, 2);
    return h;
}
static inline uint32_t bf162_sub(uint32_t a, uint32_t b)
{
    return emu_bf_of(emu_bf(a & 0xffff) - emu_bf(b & 0xffff))
           | emu_bf_of(emu_bf(a >> 16) - emu_bf(b >> 16)) << 16;
}
template <int BF> static inline uint32_t pack_pair(float lo, float hi)
{
    return BF ? emu_bf_of(lo) | emu_bf_of(hi) << 16
              : (uint32_t)emu_half(lo) | (uint32_t)emu_half(hi) << 16;
}
template <uint32_t MASK> static inline uint32_t nibbles(uint32_t w, uint32_t magic)
{
    return (w & MASK) | magic;
}
static inline uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t sel)
{
    const uint64_t all = (uint64_t)b << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++) r |= (uint32_t)(all >> 8 * (sel >> 4 * i & 7) & 255) << 8 * i;
    return r;
}

/* ---- what a warp does together ---------------------------------------------------------------*/
template <int BF> static inline float emu_16bit(uint32_t w, int high)
{
    w = w >> 16 * high & 0xffff;
    return BF ? emu_bf(w) : emu_value((uint16_t)w);
}
/* mma.m16n8k16, by the places that its definition gives the numbers in 32 lanes */
template <int BF> static void emu_mma(emu_warp *w)
{
    const emu_quiet quiet;
    float a[16][16], b[16][8];
    for (int k = 0; k < 16; k++) {
        for (int row = 0; row < 16; row++)
            a[row][k] = emu_16bit<BF>(w->a[row % 8 * 4 + k % 8 / 2][row / 8 + 2 * (k / 8)], k & 1);
        for (int token = 0; token < 8; token++)
            b[k][token] = emu_16bit<BF>(w->b[token * 4 + k % 8 / 2][k / 8], k & 1);
    }
    for (int row = 0; row < 16; row++)
        for (int token = 0; token < 8; token++) {
            float sum = 0, *c = &w->c[row % 8 * 4 + token / 2][row / 8 * 2 + token % 2];
            for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][token];
            *c += sum;
        }
}
template <int BF>
static void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    const emu_quiet quiet;
    emu_warp *w = emu_my_warp();
    const uint32_t b[2] = {b0, b1}, lane = emu_my_lane();
    w->a[lane] = a;
    w->b[lane] = b;
    w->c[lane] = c;
    emu_together(emu_mma<BF>);
}
static void emu_matrices(emu_warp *w)
{
    const emu_quiet quiet;
    for (int lane = 0; lane < 32; lane++)
        for (int m = 0; m < 4; m++) w->out[lane][m] = w->row[8 * m + lane / 4][lane % 4];
}
static void emu_bring(const uint4 v)
{
    const emu_quiet quiet;
    emu_warp *w = emu_my_warp();
    const uint32_t lane = emu_my_lane();
    w->row[lane][0] = v.x;
    w->row[lane][1] = v.y;
    w->row[lane][2] = v.z;
    w->row[lane][3] = v.w;
}
static uint4 emu_take(void)
{
    const emu_quiet quiet;
    const uint32_t *v = emu_my_warp()->out[emu_my_lane()];
    return make_uint4(v[0], v[1], v[2], v[3]);
}
static inline float shuffle(float v, uint32_t lane)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    emu_bring(make_uint4(u, lane, 0, 0));
    emu_together(emu_shuffle);
    const uint4 r = emu_take();
    memcpy(&v, &r.x, 4);
    emu_together(emu_nothing);
    return v;
}
static inline float __shfl_xor_sync(uint32_t, float v, uint32_t mask)
{
    return shuffle(v, emu_my_lane() ^ mask);
}
static void emu_any(emu_warp *w)
{
    uint32_t any = 0;
    for (int lane = 0; lane < 32; lane++) any |= w->row[lane][0];
    for (int lane = 0; lane < 32; lane++) w->out[lane][0] = any;
}
static inline bool any_lane(bool b)
{
    emu_bring(make_uint4(b, 0, 0, 0));
    emu_together(emu_any);
    const uint4 r = emu_take();
    emu_syncwarp();
    return r.x != 0;
}
static inline long long clock64(void)   /* blocks run one after another: nobody waits for long   */
{
    static long long n;
    return __atomic_add_fetch(&n, 50000, __ATOMIC_RELAXED);
}
static inline uint4 load_matrices(uint32_t a)
{
    emu_bring(load_shared16(a));
    emu_together(emu_matrices);
    const uint4 v = emu_take();
    emu_together(emu_nothing);
    return v;
}
/* transposed: lane l brings elements of row 2 (l % 4) and the next one, column l / 4, of each */
static void emu_transposed(emu_warp *w)
{
    const emu_quiet quiet;
    for (int lane = 0; lane < 32; lane++)
        for (int e = 0; e < 4; e++) {
            uint32_t v = 0;
            for (int h = 0; h < 2; h++) {
                const int row = lane % 8, col = 2 * e + h;
                v |= (w->row[col * 4 + row / 2][lane / 8] >> 16 * (row & 1) & 0xffff) << 16 * h;
            }
            w->out[lane][e] = v;
        }
}
static inline void store_matrices(uint32_t a, const uint32_t (&v)[4])
{
    if (a % 16) abort();
    emu_bring(make_uint4(v[0], v[1], v[2], v[3]));
    emu_together(emu_transposed);
    const uint4 o = emu_take();
    const emu_16 r = {{o.x, o.y, o.z, o.w}};
    emu_together(emu_nothing);
    *(emu_16 *)emu_shared(a) = r;
}

/* ---- Hopper: mbarriers, tensor copies, wgmma -------------------------------------------------*/
struct emu_mbarrier { uint16_t count, pending; int32_t bytes : 31; uint32_t phase : 1; };
static_assert(sizeof(emu_mbarrier) == 8, "an mbarrier has 8 bytes");

static void emu_mbarrier_init(emu_mbarrier *b, uint32_t count)
{
    const emu_quiet quiet;
    const emu_mbarrier v = {(uint16_t)count, (uint16_t)count, 0, 0};
    *b = v;
}
static void emu_mbarrier_add(emu_mbarrier *b, int arrive, int bytes)
{
    const emu_quiet quiet;
    b->pending = (uint16_t)(b->pending - arrive);
    b->bytes += bytes;
    if (b->pending == 0 && b->bytes == 0) {
        b->pending = b->count;
        b->phase ^= 1;
    }
    emu_here->progress++;
}
static uint32_t emu_mbarrier_phase(const emu_mbarrier *b)
{
    const emu_quiet quiet;
    return b->phase;
}
static inline emu_mbarrier *emu_bar(uint32_t a) { return (emu_mbarrier *)emu_shared(a); }

static inline void barrier_init(uint32_t bar, uint32_t count)
{
    emu_mbarrier_init(emu_bar(bar), count);
}
static inline void barrier_fence() {}
static inline void barrier_expect(uint32_t bar, uint32_t bytes)
{
    __tsan_release(emu_bar(bar));
    emu_mbarrier_add(emu_bar(bar), 1, (int)bytes);
}
static inline void barrier_arrive(uint32_t bar)
{
    __tsan_release(emu_bar(bar));
    emu_mbarrier_add(emu_bar(bar), 1, 0);
}
static inline void barrier_wait(uint32_t bar, uint32_t parity)
{
    emu_mbarrier *b = emu_bar(bar);
    emu_wait([&] { return emu_mbarrier_phase(b) != parity; });
    __tsan_acquire(b);
}

/* What cuTensorMapEncodeTiled() is told */
struct emu_map { const uint8_t *data; size_t dim[3], pitch[2], box[3], size; };
static_assert(sizeof(emu_map) <= sizeof(CUtensorMap), "a tensor map has 128 bytes");

static inline void map_prefetch(const CUtensorMap *) {}
static void tensor_copy(uint32_t dst, const CUtensorMap *map, uint32_t col, uint32_t row,
                        uint32_t plane, uint32_t bar)
{
    const emu_box box = {dst, col, row, plane, bar, map};
    if (dst % 128) abort();
    const emu_quiet quiet;
    __tsan_release(&emu_here->boxes);
    emu_here->boxes.push_back(box);
}
static bool emu_engine_needed(const emu_block *b)
{
    const emu_quiet quiet;
    return b->live || !b->boxes.empty();
}
static bool emu_next_box(emu_box *x, emu_map *m)
{
    const emu_quiet quiet;
    std::vector<emu_box> *v = &emu_here->boxes;
    if (v->empty()) return false;
    emu_here->progress++;
    if (emu_random() % 4 == 0) return false;
    const size_t i = emu_random() % v->size();
    *x = (*v)[i];
    memcpy(m, x->map, sizeof *m);
    v->erase(v->begin() + (ptrdiff_t)i);
    __tsan_acquire(v);
    return true;
}
static void emu_do_box(const emu_box &x, const emu_map &m)
{
    const size_t line = m.box[0] * m.size, piece = m.size == 2 ? 16 : 8;
    for (size_t r = 0; r < m.box[1] * m.box[2]; r++)
        for (size_t c = 0; c < line; c += piece) {
            const size_t col = x.col + c / m.size, row = x.row + r % m.box[1];
            const size_t plane = x.plane + r / m.box[1];
            /* half floats: 128-byte lines, their pieces swizzled by the line's address */
            size_t to = x.dst + r * line + c;
            if (m.size == 2) to ^= (to >> 7 & 7) << 4;
            for (size_t e = 0; e < piece; e += m.size) {
                uint8_t *d = emu_shared((uint32_t)(to + e));
                if (plane < m.dim[2] && row < m.dim[1] && col + e / m.size < m.dim[0])
                    memcpy(d, m.data + plane * m.pitch[1] + row * m.pitch[0] + (col * m.size + e),
                           m.size);
                else memset(d, 0, m.size);
            }
        }
    __tsan_release(emu_bar(x.bar));
    emu_mbarrier_add(emu_bar(x.bar), 0, -(int)(m.box[1] * m.box[2] * line));
}
/* The copy engine: boxes in any order, each at some time.  To the sanitizer it is 16 threads in
 * turn: one box is not ordered by another. */
static void emu_engine(void)
{
#ifdef EMU_TSAN
    static thread_local void *others[16];
    static thread_local size_t turn;
#endif
    emu_block *b = emu_here;
    while (emu_engine_needed(b)) {
        emu_box x;
        emu_map m;
        if (!emu_next_box(&x, &m)) {
            emu_switch(NULL);
            continue;
        }
#ifdef EMU_TSAN
        void *self = __tsan_get_current_fiber(), *other;
        {
            const emu_quiet quiet;
            if (!others[turn % 16]) others[turn % 16] = __tsan_create_fiber(0);
            other = others[turn++ % 16];
        }
        __tsan_release(&turn);
        __tsan_switch_to_fiber(other, 1);
        __tsan_acquire(&turn);
        emu_do_box(x, m);
        __tsan_switch_to_fiber(self, 1);
#else
        emu_do_box(x, m);
#endif
    }
}

static inline void wgmma_fence() {}
static inline uint32_t opaque(uint32_t v) { return v; }
static inline void wgmma_result(float &) {}
static std::vector<std::vector<emu_wgmma>> *emu_queue(void)
{
    const emu_quiet quiet;
    return &emu_here->wgmmas[emu_now->thread.x / 32];
}
/* d += A B: this warp's 16 rows.  B: [token][16] half floats, lines of 128 bytes swizzled */
static void emu_do_wgmma(const emu_wgmma &g)
{
    const uint32_t base = (uint32_t)(g.desc & 0xffff) << 4;
    float a[16][16], b[16];
    for (int k = 0; k < 16; k++)
        for (int row = 0; row < 16; row++) {
            const uint32_t v = g.a[row % 8 * 4 + k % 8 / 2][row / 8 + 2 * (k / 8)];
            a[row][k] = g.bf ? emu_16bit<1>(v, k & 1) : emu_16bit<0>(v, k & 1);
        }
    if ((g.desc >> 32) != (64 | 1u << 30)) abort();     /* 8 rows are 1,024 bytes; 128B swizzle  */
    for (int token = 0; token < g.tokens; token++) {
        for (int k = 0; k < 16; k++) {
            uint32_t at = base + (uint32_t)token * 128 + (uint32_t)k * 2;
            at ^= (at >> 7 & 7) << 4;
            const uint16_t h = *(const uint16_t *)emu_shared(at);
            b[k] = g.bf ? emu_bf(h) : emu_value(h);
        }
        for (int row = 0; row < 16; row++) {
            float sum = 0;
            for (int k = 0; k < 16; k++) sum += a[row][k] * b[k];
            const emu_quiet quiet;          /* a register of another lane                    */
            g.d[row % 8 * 4 + token % 8 / 2][token / 8 * 4 + row / 8 * 2 + token % 2] += sum;
        }
    }
}
template <int BF, int T>
static void wgmma(float (&d)[T / 2], const uint32_t (&a)[4], uint64_t desc)
{
    const emu_quiet quiet;
    auto *q = emu_queue();
    emu_warp *w = emu_my_warp();
    const uint32_t lane = emu_my_lane();
    w->a[lane] = a;
    w->c[lane] = d;
    emu_together([=](emu_warp *v) {
        emu_wgmma g;
        for (int l = 0; l < 32; l++) {
            memcpy(g.a[l], v->a[l], sizeof g.a[l]);
            g.d[l] = v->c[l];
        }
        g.desc = desc;
        g.tokens = T;
        g.bf = BF;
        if (q->empty()) q->emplace_back();
        q->back().push_back(g);
    });
}
static void emu_close_group(emu_warp *)
{
    const emu_quiet quiet;
    auto *q = emu_queue();
    q->emplace_back();
}
static inline void wgmma_commit() { emu_together(emu_close_group); }

static bool emu_next_group(std::vector<emu_wgmma> *group, size_t left)
{
    const emu_quiet quiet;
    auto *q = emu_queue();
    if (q->size() <= left + 1) return false;
    group->swap(q->front());
    q->erase(q->begin());
    return true;
}
/* Lane 0 has read B then, and waits for nothing else before it says so. */
template <int N> static inline void wgmma_wait()
{
    emu_syncwarp();
    while (emu_my_lane() == 0) {
        std::vector<emu_wgmma> group;
        if (!emu_next_group(&group, N)) break;
        for (const emu_wgmma &g : group) emu_do_wgmma(g);
    }
    emu_syncwarp();
}

/* ---- the runtime -----------------------------------------------------------------------------*/
/* What the kernel behind a pointer is called with; the file that knows the kernels defines it. */
static std::function<void()> emu_bind(const void *kernel, void **args);

static thread_local std::vector<std::function<void()>> *emu_graph;      /* being captured        */
static void emu_do(const std::function<void()> &f)
{
    if (emu_graph) emu_graph->push_back(f);
    else f();
}
extern "C" {
cudaError_t cudaMalloc(void **p, size_t size)
{
    *p = aligned_alloc(256, (size + 255) / 256 * 256 + 256);
    if (!*p) return cudaErrorMemoryAllocation;
    memset(*p, 0xff, size);
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) { free(p); return cudaSuccess; }
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind)
{
    memcpy(to, from, n);
    return cudaSuccess;
}
cudaError_t cudaMemset(void *p, int v, size_t n) { memset(p, v, n); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t)
{
    emu_do([=] { memset(p, v, n); });
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t e) { return e ? "an emulated error" : "no error"; }
cudaError_t cudaGetDevice(int *d) { *d = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int)
{
    *v = a == cudaDevAttrComputeCapabilityMajor ? 9 : a == cudaDevAttrMultiProcessorCount ? 132
       : a == cudaDevAttrMaxSharedMemoryPerBlockOptin ? EMU_SHARED
       : a == cudaDevAttrL2CacheSize ? 50 << 20 : 0;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *left, size_t *all)
{
    *left = *all = (size_t)1 << 34;
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int v)
{
    return v <= EMU_SHARED ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, const void *)
{
    memset(a, 0, sizeof *a);
    a->sharedSizeBytes = 1;
    return cudaSuccess;
}
static CUresult emu_encode(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *data,
                           const cuuint64_t *size, const cuuint64_t *stride, const cuuint32_t *box,
                           const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                           CUtensorMapL2promotion, CUtensorMapFloatOOBfill)
{
    const bool wide = type == CU_TENSOR_MAP_DATA_TYPE_INT64;
    const emu_map m = {(const uint8_t *)data, {(size_t)size[0], (size_t)size[1], (size_t)size[2]},
                       {(size_t)stride[0], (size_t)stride[1]}, {box[0], box[1], box[2]},
                       wide ? 8u : 2u};
    for (int i = 0; i < 3; i++) if (rank != 3 || box[i] == 0 || box[i] > 256) abort();
    if ((uintptr_t)data % 16 || stride[0] % 16 || stride[1] % 16 || box[0] * m.size % 16
        || stride[0] < size[0] * m.size || (stride[0] | stride[1]) >> 40
        || (swizzle == CU_TENSOR_MAP_SWIZZLE_128B) == wide || (!wide && box[0] * 2 != 128))
        return CUDA_ERROR_INVALID_VALUE;
    memset(map, 0, sizeof *map);
    memcpy(map, &m, sizeof m);
    return CUDA_SUCCESS;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *, void **f, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *found)
{
    *f = (void *)emu_encode;
    *found = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *c, const void *kernel, void **args)
{
    size_t cluster = 1;
    for (unsigned i = 0; i < c->numAttrs; i++)
        if (c->attrs[i].id == cudaLaunchAttributeClusterDimension)
            cluster = c->attrs[i].val.clusterDim.x;
    if (!kernel || c->blockDim.x == 0 || c->blockDim.x >= EMU_MAX_THREADS || c->blockDim.x % 32
        || c->gridDim.x == 0 || c->gridDim.x % cluster || c->dynamicSmemBytes > EMU_SHARED)
        return cudaErrorInvalidConfiguration;
    const std::function<void()> f = emu_bind(kernel, args);
    const dim3 grid = c->gridDim, threads = c->blockDim;
    emu_do([=] { emu_launch(grid, threads, cluster, f); });
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) { *s = NULL; return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode)
{
    emu_graph = new std::vector<std::function<void()>>;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *g)
{
    *g = (cudaGraph_t)emu_graph;
    emu_graph = NULL;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    *e = (cudaGraphExec_t)g;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t)
{
    for (const auto &f : *(std::vector<std::function<void()>> *)e) f();
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete (std::vector<std::function<void()>> *)g;
    return cudaSuccess;
}
}
#endif /* CUDA_EMULATE_H */
