/* quant.h - quantized LLM weights in one C header: read, encode, write.  MIT licence, see >>end. */

/* >>start ---------------------------------------------------------------------------------------
 *
 * quant.h reads and writes GGUF files, decodes every ggml tensor type and encodes weights into
 * them.  It is one C99 header (C++11 clean) that needs nothing but libc, and not even that when
 * QUANT_FREESTANDING is defined.
 *
 *   #define QUANT_IMPLEMENTATION       in exactly one source file, then
 *   #include "quant.h"                 (or compile quant.c and include the header plainly)
 *
 * Open a model, decode a tensor:
 *
 *   quant_gguf g;
 *   if (quant_gguf_open_file(&g, "model.gguf", NULL, NULL) != QUANT_OK) { ... g.err ... }
 *   const quant_tensor *t = quant_gguf_find_tensor(&g, "blk.0.attn_q.weight");
 *   quant_to_f32(t->type, y, quant_gguf_data(&g, t), (size_t)t->ne[1], (size_t)t->ne[0]);
 *   quant_gguf_close(&g);
 *
 * Encode rows:
 *
 *   quant_encoder e;
 *   quant_encoder_init(&e, QUANT_Q4_K, QUANT_EFFORT_REFERENCE, NULL, 0);
 *   quant_from_f32(&e, dst, x, rows, cols, NULL, NULL);
 *
 * quant.h DOES NOT print, abort, start threads, touch errno or keep global state.  It allocates
 * only in the readers and the writer, through the caller's allocator.  It has no graph, no
 * tokenizer, no sampling: the programs in examples/ show those.
 *
 * Rules that hold for every function below:
 *   (a) No mutable global state.
 *   (b) `const` arguments are never written and may be shared by threads; two calls may run at
 *       once when their outputs do not overlap.
 *   (c) The library keeps only what an `_open` or `_init` says that it borrows.
 *   (d) A zeroed option struct, or NULL in its place, means defaults.
 *   (e) float pointers need natural alignment; quantized and file pointers need none.
 *   (f) Outputs may not overlap inputs.
 *   (g) Argument order: outputs, inputs, shapes, options, scratch, error.  size_t counts what is
 *       in memory, uint64_t what is in a file; `_size` is bytes, everything else elements.
 *   (h) Output bytes are a contract: same input and options give the same bytes on every
 *       compiler, instruction set and thread count, and for any split into rows.
 *
 * Terms (the field's own):
 *   block        the unit of a quantized type: 1, 32, 64, 128 or 256 weights with one layout
 *   super-block  a block of 256 weights with sub-blocks of 16 or 32 that have their own scale
 *   d, dmin      scale and scale of the minima of a block, stored as half floats
 *   importance   one weight per input column, E[x^2] of the activations ("imatrix")
 *   row          one output feature: ne[0] weights, contiguous;  col: one input feature
 *   tensor scale a factor outside the blocks, one per matrix (NVFP4 only)
 *   mix          a rule that gives every tensor of a model its type ("Q4_K_M")
 *   shard        one file of a model that is split over several
 *
 * Build options (define before including):
 *   QUANT_IMPLEMENTATION   emit the code                  QUANT_STATIC      all functions static
 *   QUANT_FREESTANDING     no libc header at all          QUANT_NO_STDIO    no open_file
 *   QUANT_NO_GGUF_WRITE    no writer                      QUANT_NO_GGUF     no reader, writer,
 *   QUANT_NO_ENCODE        decoders only                                    imatrix, split, mix
 *   QUANT_NO_CALIBRATION   no Hessians, GPTQ, AWQ         QUANT_NO_MATMUL   no matrix products
 *   QUANT_NO_IQ            no IQ1/IQ2/IQ3 (saves 9 KiB of codebooks)
 *   QUANT_NO_STRINGS       error texts become ""
 *   QUANT_CUDA             declare what quant_cuda.cu offers (compiled by nvcc, linked apart)
 *   QUANT_NO_MMAP          open_file always reads through stdio
 *   QUANT_NO_SIMD          scalar kernels only
 *   QUANT_SELF             the name by which this file can include itself, "quant.h"
 *   QUANT_ALLOW_FAST_MATH  compile under clang's -ffast-math all the same
 *   QUANT_MALLOC(n), QUANT_FREE(p), QUANT_ASSERT(c), QUANT_SQRTF(x), QUANT_MEMCPY, QUANT_MEMSET,
 *   QUANT_MEMCMP           hooks
 *
 * Map (grep for `>>name`; a section uses only what stands above it; `make map` checks this list):
 *   >>start      what this is                  >>config     versions, QUANT_API
 *   >>errors     result codes                  >>types      every ggml tensor type
 *   >>memory     the allocator                 >>rows       encode and decode rows of weights
 *   >>matmul     matrix products               >>gguf-read  open files
 *   >>gguf-write write files                   >>imatrix    importance files
 *   >>split      models in several files       >>mix        types for a whole model
 *   >>linalg     Hessians and their factors    >>gptq       calibrated rounding
 *   >>awq        activation-aware scaling      >>cuda       products on NVIDIA GPUs
 *   >>impl       the implementation starts
 *   >>platform   compiler, libc, hooks         >>detect     instruction sets
 *   >>float      half floats, little-endian loads
 *   >>checked    overflow-checked sizes        >>text       error texts
 *   >>names      hash index over names         >>blocks     layouts, bit by bit; type table
 *   >>grids      IQ codebooks                  >>decode     decoders: the specification
 *   >>search     scale searches                >>encode     encoders
 *   >>row-impl   encode and decode, publicly   >>product    matrix products
 *   >>reader     GGUF reader                   >>writer     GGUF writer
 *   >>imatrix-impl  importance files           >>split-impl models in several files
 *   >>mix-impl   types for a whole model       >>linalg-impl  Hessians and their factors
 *   >>gptq-impl  calibrated rounding           >>awq-impl   activation-aware scaling
 *   >>stdio      files by name
 *   >>kernels    packed matrix products        >>linalg-kernels  blocked products
 *   >>end        clean-up, licence
 */
#ifndef QUANT_H
#define QUANT_H

/* >>config --------------------------------------------------------------------------------------*/
#define QUANT_VERSION 100           /* major * 10000 + minor * 100 + patch */

#include <stddef.h>
#include <stdint.h>

#if defined(QUANT_NO_GGUF) && !defined(QUANT_NO_GGUF_WRITE)
#  define QUANT_NO_GGUF_WRITE
#endif
#if (defined(QUANT_NO_GGUF) || defined(QUANT_FREESTANDING)) && !defined(QUANT_NO_STDIO)
#  define QUANT_NO_STDIO
#endif

#ifndef QUANT_API
#  if defined(QUANT_STATIC)
#    if defined(__GNUC__) || defined(__clang__)
#      define QUANT_API static __attribute__((unused))
#    else
#      define QUANT_API static
#    endif
#  elif defined(__cplusplus)
#    define QUANT_API extern "C"
#  else
#    define QUANT_API extern
#  endif
#endif

/* >>errors --------------------------------------------------------------------------------------
 * 0 is success, failures are negative.  Nothing is ever printed. */
#define QUANT_RESULTS(X) \
    X(OK,            0, "ok")                                              \
    X(E_ARG,        -1, "bad argument")                                    \
    X(E_MEMORY,     -2, "out of memory")                                   \
    X(E_IO,         -3, "reading or writing failed")                       \
    X(E_FORMAT,     -4, "not a valid file")                                \
    X(E_LIMIT,      -5, "the file exceeds a limit")                        \
    X(E_TYPE,       -6, "unknown or unsupported tensor type")              \
    X(E_NOT_FOUND,  -7, "no such key, tensor or entry")                    \
    X(E_STATE,      -8, "call out of order")                               \
    X(E_NUMERIC,    -9, "a value is not finite")                           \
    X(E_KIND,      -10, "the value has another type or does not fit")      \
    X(E_SHORT,     -11, "the file is too short")

typedef enum quant_result {
#define QUANT__X(name, value, text) QUANT_##name = value,
    QUANT_RESULTS(QUANT__X)
#undef QUANT__X
    QUANT_RESULT_FORCE_INT = 0x7fff
} quant_result;

/* Filled on failure only; owns nothing and points to nothing that can go away. */
typedef struct quant_error {
    quant_result code;
    const char  *what;      /* static text, "" under QUANT_NO_STRINGS                          */
    uint64_t     where;     /* bytes from the start of the file, or the index of a value       */
    uint64_t     need;      /* E_SHORT, E_LIMIT: bytes (or items) needed ...                   */
    uint64_t     have;      /* ... and there (or allowed); 0, 0 where sizes are not the matter */
    char         name[68];  /* key or tensor, cut and made printable; "" where there is none   */
} quant_error;

/* The text of a code, a static string, never NULL. */
QUANT_API const char *quant_result_text(quant_result r);

/* Writes one line without a newline: what, key or tensor, position, sizes.
 * `buf` [size] is always terminated when size > 0.  Returns the length without the terminator,
 * which is size - 1 at most.  240 bytes are always enough. */
QUANT_API size_t quant_error_text(char *buf, size_t size, const quant_error *e);

/* >>types ---------------------------------------------------------------------------------------
 * Values are ggml's type ids, so that the field of a GGUF file is a quant_type as it stands.  A
 * file may hold any 32-bit value: every function takes every value and refuses what it does not
 * know.  Source of ids and layouts: ggml.h and ggml-common.h (ggml d99724f, August 2026). */
typedef uint32_t quant_type;
enum {
    QUANT_F32     =  0, QUANT_F16     =  1, QUANT_Q4_0    =  2, QUANT_Q4_1    =  3,
    QUANT_Q5_0    =  6, QUANT_Q5_1    =  7, QUANT_Q8_0    =  8, QUANT_Q8_1    =  9,
    QUANT_Q2_K    = 10, QUANT_Q3_K    = 11, QUANT_Q4_K    = 12, QUANT_Q5_K    = 13,
    QUANT_Q6_K    = 14, QUANT_Q8_K    = 15, QUANT_IQ2_XXS = 16, QUANT_IQ2_XS  = 17,
    QUANT_IQ3_XXS = 18, QUANT_IQ1_S   = 19, QUANT_IQ4_NL  = 20, QUANT_IQ3_S   = 21,
    QUANT_IQ2_S   = 22, QUANT_IQ4_XS  = 23, QUANT_I8      = 24, QUANT_I16     = 25,
    QUANT_I32     = 26, QUANT_I64     = 27, QUANT_F64     = 28, QUANT_IQ1_M   = 29,
    QUANT_BF16    = 30, QUANT_TQ1_0   = 34, QUANT_TQ2_0   = 35, QUANT_MXFP4   = 39,
    QUANT_NVFP4   = 40, QUANT_Q1_0    = 41, QUANT_Q2_0    = 42,
    QUANT_TYPE_COUNT = 43           /* also "no type" as an answer */
};

enum {                              /* quant_type_info.flags */
    QUANT_TF_DECODE      =  1,      /* quant_to_f32 reads it                                    */
    QUANT_TF_ENCODE      =  2,      /* quant_from_f32 writes it                                 */
    QUANT_TF_QUANTIZED   =  4,      /* made of blocks with scales                               */
    QUANT_TF_IMPORTANCE  =  8,      /* importance changes the result                            */
    QUANT_TF_NEEDS_IMPORTANCE = 16, /* ... and encoding without it is refused                   */
    QUANT_TF_WHOLE_ROWS  = 32,      /* with importance, a row must be encoded in one call       */
    QUANT_TF_REMOVED     = 64       /* the id was once in use; files with it are not readable   */
};

typedef struct quant_type_info {
    const char *name;               /* "Q4_K"                                                   */
    uint16_t    block_len;          /* weights in a block; 0 for a removed id                   */
    uint16_t    block_size;         /* bytes of a block;   0 for a removed id                   */
    uint32_t    flags;              /* QUANT_TF_*                                               */
} quant_type_info;

/* The row of the type table, a static struct; NULL for an id that ggml never had. */
QUANT_API const quant_type_info *quant_type_get(quant_type t);

/* The name for messages: never NULL, "unknown" for an id that ggml never had. */
QUANT_API const char *quant_type_name(quant_type t);

/* Finds a type by its name, upper or lower case.  QUANT_TYPE_COUNT if there is none. */
QUANT_API quant_type quant_type_find(const char *name);

/* Bytes of a row of `cols` weights; 0 for a bad type, cols not a multiple of the block or more
 * bytes than size_t holds. */
QUANT_API size_t quant_row_size(quant_type t, size_t cols);

/* >>memory --------------------------------------------------------------------------------------
 * Zeroed, or NULL in its place: QUANT_MALLOC and QUANT_FREE (malloc, free).  alloc returns memory
 * aligned for any object, or NULL; free gets the size that was asked for. */
typedef struct quant_alloc {
    void *(*alloc)(void *user, size_t size);
    void  (*free)(void *user, void *p, size_t size);
    void   *user;
} quant_alloc;

/* >>rows ----------------------------------------------------------------------------------------
 * x, y: [rows x cols] float, row-major, contiguous.  Quantized rows: quant_row_size bytes each,
 * contiguous.  cols must be a multiple of the type's block. */

enum {
    QUANT_EFFORT_REFERENCE = 0,     /* ggml's bytes exactly                                     */
    QUANT_EFFORT_FAST      = 1,     /* at present the same as REFERENCE                         */
    QUANT_EFFORT_BEST      = 2      /* at present the same as REFERENCE                         */
};

/* Read-only once made, may be shared by threads.  Owns nothing. */
typedef struct quant_encoder {
    quant_type  type;
    uint32_t    effort;             /* QUANT_EFFORT_*                                           */
    float       tensor_scale;       /* NVFP4: weights are divided by it before they are encoded
                                       and whoever decodes multiplies by it; 1 for other types.
                                       Set it after _init, see quant_tensor_scale             */
    const void *tables;             /* borrowed; NULL                                           */
} quant_encoder;

/* Bytes of search tables that the encoder of `t` needs; 0 for all present encoders. */
QUANT_API size_t quant_encoder_size(quant_type t);

/* Makes an encoder.  tables [size] is borrowed (NULL, 0 when quant_encoder_size is 0).
 * E_TYPE: no encoder for t.  E_ARG: unknown effort.  E_MEMORY: size is too small. */
QUANT_API quant_result quant_encoder_init(quant_encoder *e, quant_type t, uint32_t effort,
                                          void *tables, size_t size);

/* The factor that brings a matrix with largest magnitude `amax` into the range of the type's own
 * scales; 1 for types without a tensor scale and for amax 0. */
QUANT_API float quant_tensor_scale(quant_type t, float amax);

/* Encodes rows.  importance [cols], >= 0 and finite, or NULL; ignored by types without
 * QUANT_TF_IMPORTANCE.  Any split into rows gives the same bytes; a row may also be split at
 * multiples of the block unless the type is QUANT_TF_WHOLE_ROWS and importance is given.
 * E_ARG: cols wrong, or no importance for a QUANT_TF_NEEDS_IMPORTANCE type.  E_TYPE: no encoder.
 * E_NUMERIC: NaN or infinity in x (F32, F16 and BF16 take them) or a bad importance; err->where is
 * then the index in x (or importance).  dst is undefined after an error. */
QUANT_API quant_result quant_from_f32(const quant_encoder *e, void *dst, const float *x,
                                      size_t rows, size_t cols, const float *importance,
                                      quant_error *err);

/* Decodes rows, bit for bit as ggml's scalar code.  A tensor scale is not applied.  Any bytes are
 * safe to decode.  E_TYPE: the type is not QUANT_TF_DECODE.  E_ARG: cols. */
QUANT_API quant_result quant_to_f32(quant_type t, float *y, const void *src, size_t rows,
                                    size_t cols);

/* Looks for scales that are not finite in rows from outside.  E_NUMERIC: err->where is the byte
 * offset of the block.  E_TYPE, E_ARG as quant_to_f32. */
QUANT_API quant_result quant_check_rows(quant_type t, const void *src, size_t rows, size_t cols,
                                        quant_error *err);

/* Adds up the error of one encoded row: *err2 += sum w (x - scale q)^2, *ref2 += sum w x^2 with
 * w = importance [cols] or 1.  sqrt(err2 / ref2) is the relative RMS error.  tensor_scale: 1
 * except for NVFP4. */
QUANT_API quant_result quant_row_error(quant_type t, double *err2, double *ref2, const float *x,
                                       const void *q, size_t cols, const float *importance,
                                       float tensor_scale);

/* >>matmul --------------------------------------------------------------------------------------
 * Y [tokens x rows] = X [tokens x cols] W [rows x cols]^T.  ld* are in elements.
 *
 *   quant_matrix_init(&w, t->type, data, rows, cols, quant_cpu_detect());
 *   if ((size = quant_matrix_pack_size(&w)) != 0)    once at load: many times faster
 *       quant_matrix_pack(&w, &w, buf, size);        buf: size bytes, aligned to 64
 *   quant_act(&w, act, x, ldx, tokens);              act: quant_act_size bytes, aligned to 64
 *   quant_matmul(&w, y, ldy, act, tokens, 0, rows);  or any row ranges, from several threads
 *
 * F32, F16 and BF16 weights take activations as they are.  For all other types these are rounded to
 * 8 bits, 32 columns to a scale: a relative error of about 5e-3.  NaN or infinity in a row of X
 * makes sums of that row NaN.
 *
 * Row i of a batch gives the same bytes as the same row alone, any split into row ranges gives the
 * same bytes, both layouts give the same bytes, and so do all instruction sets (which is why floats
 * are multiplied and added with two roundings: not every one of them has a fused operation).
 *
 * A packed matrix has the bytes of the file, to within 3 %, for all types but those whose codes do
 * not stand in the file: IQ1, IQ2 and IQ3 take 3.3 to 4.3 bits a weight and TQ1_0 takes 2.06.
 * Memory for packed matrices is read fastest from huge pages (on Linux: madvise, MADV_HUGEPAGE).
 * In the layout of the file the kernels are the same, but each call packs what it needs. */
typedef uint32_t quant_cpu;         /* set of QUANT_CPU_* bits                                   */
enum {
    QUANT_CPU_SCALAR     = 0,       /* always there                                              */
    QUANT_CPU_AVX2       = 1,       /* AVX2, FMA, F16C                                           */
    QUANT_CPU_AVX512VNNI = 2,       /* AVX-512 F, BW, VL, VNNI                                   */
    QUANT_CPU_AVXVNNI    = 4,       /* AVX2, AVX-VNNI                                            */
    QUANT_CPU_NEON       = 8,       /* 64-bit ARM, little-endian                                 */
    QUANT_CPU_DOTPROD    = 16,      /* NEON, sdot                                                */
    QUANT_CPU_I8MM       = 32,      /* NEON, sdot, smmla                                         */
    QUANT_CPU_WASM128    = 64,      /* WebAssembly simd128, if compiled for it                   */
    QUANT_CPU_RVV        = 128      /* RISC-V V 1.0, if compiled for it                          */
};

/* The instruction sets that this machine and its system have, and this build has kernels for.  Asks
 * the machine each time, which may take microseconds on a virtual one: keep the answer. */
QUANT_API quant_cpu quant_cpu_detect(void);

/* The instruction sets that this build has kernels for. */
QUANT_API quant_cpu quant_cpu_compiled(void);

/* "scalar", "avx2", "avx512vnni" and so on: the best one of the set. */
QUANT_API const char *quant_cpu_name(quant_cpu cpu);

#ifndef QUANT_NO_MATMUL
enum {                              /* what quant_act makes of x                                 */
    QUANT_ACT_F32    = 0,           /* floats as they are, for F32, F16 and BF16                 */
    QUANT_ACT_8      = 1            /* 8 bits, a scale for 32 columns                            */
};

typedef struct quant_matrix {
    quant_type  type;
    uint32_t    act;                /* QUANT_ACT_*: matrices with equal act and cols share one
                                       quant_act                                              */
    size_t      rows, cols;
    size_t      row_size;           /* bytes                                                     */
    const void *data;               /* borrowed                                                  */
    float       scale;              /* factor for all of Y: 1, or the tensor scale of NVFP4; may
                                       be set after _init                                     */
    quant_cpu   cpu;                /* kernels in use                                            */
    uint32_t    layout;             /* 0: as in the file; else made by quant_matrix_pack         */
} quant_matrix;

/* Borrows data [rows * quant_row_size(t, cols)], any alignment.  cpu: the sets that may be used;
 * what the machine or the build lacks is dropped, so that any value is safe and 0 forces scalar
 * code.  E_TYPE: no decoder.  E_ARG: cols is not a multiple of the block, or rows or cols is 0. */
QUANT_API quant_result quant_matrix_init(quant_matrix *w, quant_type t, const void *data,
                                         size_t rows, size_t cols, quant_cpu cpu);

/* Bytes of the packed layout, rows rounded up to 16.  0: w is packed already, or overflow. */
QUANT_API size_t quant_matrix_pack_size(const quant_matrix *w);

/* Repacks w into buf [size], aligned to 64; *dst borrows buf and may be *w.  The layout is the same
 * for all instruction sets.  E_MEMORY: size is too small.  E_ARG: nothing to pack. */
QUANT_API quant_result quant_matrix_pack(quant_matrix *dst, const quant_matrix *w, void *buf,
                                         size_t size);

/* Row ranges for quant_matmul begin and end at multiples of this, or at the last row. */
QUANT_API size_t quant_matrix_row_step(const quant_matrix *w);

/* Bytes of prepared activations for `tokens` rows of X; 0 on overflow. */
QUANT_API size_t quant_act_size(const quant_matrix *w, size_t tokens);

/* Prepares x [tokens x cols], rows ldx apart, for all matrices with the same act and cols. */
QUANT_API void quant_act(const quant_matrix *w, void *act, const float *x, size_t ldx,
                         size_t tokens);

/* Rows row0 to row1 - 1 of W: y[t * ldy + r] for all tokens t.  No allocation. */
QUANT_API void quant_matmul(const quant_matrix *w, float *y, size_t ldy, const void *act,
                            size_t tokens, size_t row0, size_t row1);
#endif /* QUANT_NO_MATMUL */

#ifndef QUANT_NO_GGUF
/* >>gguf-read -----------------------------------------------------------------------------------
 * GGUF versions 1, 2 and 3, little- and big-endian.  A file is data from outside: every length is
 * checked before it is used, and no pointer or size past the end of the data is ever handed out.
 * Source of the format: ggml/docs/gguf.md, ggml/src/gguf.cpp. */

typedef struct quant_str {          /* not terminated; borrowed from the open file               */
    const char *p;
    size_t      n;
} quant_str;

enum {                              /* value types of metadata, the numbers of the format        */
    QUANT_KV_U8  = 0, QUANT_KV_I8   = 1, QUANT_KV_U16 = 2, QUANT_KV_I16   = 3, QUANT_KV_U32 = 4,
    QUANT_KV_I32 = 5, QUANT_KV_F32  = 6, QUANT_KV_BOOL = 7, QUANT_KV_STR  = 8,
    QUANT_KV_ARRAY = 9, QUANT_KV_U64 = 10, QUANT_KV_I64 = 11, QUANT_KV_F64 = 12,
    QUANT_KV_TYPE_COUNT = 13
};

/* Positional reads, so that it has no state and may be called by several threads.  read returns
 * the number of bytes read; less than n means failure. */
typedef struct quant_io {
    size_t (*read)(void *user, uint64_t offset, void *dst, size_t n);
    uint64_t size;                  /* of the whole file, in bytes                              */
    void    *user;
} quant_io;

/* Zeroed fields are the defaults: 2^20 keys, 2^20 tensors, 2^30 bytes for a string, 2^30 elements
 * for an array, 2^30 bytes for the whole header. */
typedef struct quant_limits {
    uint64_t max_kv, max_tensors, max_string, max_array, max_header;
} quant_limits;

typedef struct quant_kv {
    quant_str      key;             /* first member: the name index relies on it                */
    uint32_t       type;            /* QUANT_KV_*                                               */
    uint32_t       elem_type;       /* QUANT_KV_ARRAY: of its elements; else equal to type      */
    uint64_t       count;           /* elements; 1 for a scalar                                 */
    const uint8_t *raw;             /* the elements as they stand in the file                   */
    uint64_t       raw_size;        /* their bytes                                              */
    uint64_t       where;           /* file offset of the key                                   */
    uint32_t       layout;          /* QUANT_LAYOUT_* bits                                      */
} quant_kv;

enum {                              /* how raw differs from version 3, little-endian            */
    QUANT_LAYOUT_BIG_ENDIAN = 1,
    QUANT_LAYOUT_V1         = 2     /* string lengths have 4 bytes                              */
};

typedef struct quant_tensor {
    quant_str  name;                /* first member: the name index relies on it                */
    quant_type type;                /* any value; see quant_type_get                            */
    uint32_t   n_dims;              /* 1 to 4                                                   */
    uint64_t   ne[4];               /* ne[0] = cols; 1 beyond n_dims                            */
    uint64_t   offset;              /* of the data, from the start of the file                  */
    uint64_t   size;                /* bytes of the data; for an unknown or removed type `span` */
    uint64_t   span;                /* bytes up to the next tensor's data or the end of file    */
} quant_tensor;

typedef struct quant_gguf {
    quant_kv     *kv;               /* [n_kv], in file order                                    */
    quant_tensor *tensors;          /* [n_tensors], in file order                               */
    size_t        n_kv, n_tensors;
    uint32_t      version, alignment, big_endian;
    uint64_t      data_offset, file_size;
    quant_error   err;              /* why the open failed                                      */
    struct {                        /* private                                                  */
        quant_io io; quant_alloc alloc; const uint8_t *mem;
        void *heap; size_t heap_size;
        uint32_t *kv_slots, *tensor_slots; size_t n_kv_slots, n_tensor_slots;
        void *map; size_t map_size; void *file;
        void (*release)(void *map, size_t map_size, void *file);
    } priv;
} quant_gguf;

/* Opens a file that is in memory.  Borrows data [size] until the close; kv and strings point into
 * it.  One allocation.  On failure g->err says why and g is closed. */
QUANT_API quant_result quant_gguf_open(quant_gguf *g, const void *data, size_t size,
                                       const quant_alloc *a, const quant_limits *limits);

/* Opens a file through a callback; *io is copied, its user pointer borrowed until the close.  One
 * allocation, which also holds the header's bytes. */
QUANT_API quant_result quant_gguf_open_io(quant_gguf *g, const quant_io *io, const quant_alloc *a,
                                          const quant_limits *limits);

#ifndef QUANT_NO_STDIO
/* Opens a file by name: mapped into memory where the system can, else read through stdio (then
 * not to be used by two threads at once). */
QUANT_API quant_result quant_gguf_open_file(quant_gguf *g, const char *path, const quant_alloc *a,
                                            const quant_limits *limits);
#endif

/* Frees what the open took.  Allowed on a zeroed, failed or closed g. */
QUANT_API void quant_gguf_close(quant_gguf *g);

/* Look-ups by name, in constant time; NULL if there is none. */
QUANT_API const quant_kv     *quant_gguf_find(const quant_gguf *g, const char *key);
QUANT_API const quant_tensor *quant_gguf_find_tensor(const quant_gguf *g, const char *name);

/* Element i of a value (i = 0 for a scalar), widened.  E_KIND: the element is of another kind or
 * its value does not fit.  u64 and i64 take every integer and bool, f64 takes every number.
 * E_NOT_FOUND: kv is NULL, or i is out of range. */
QUANT_API quant_result quant_kv_u64(const quant_kv *kv, uint64_t i, uint64_t *out);
QUANT_API quant_result quant_kv_i64(const quant_kv *kv, uint64_t i, int64_t *out);
QUANT_API quant_result quant_kv_f64(const quant_kv *kv, uint64_t i, double *out);

/* Walks the strings of an array: zero it before the first call.  Going forward costs nothing,
 * going back starts over. */
typedef struct quant_cursor { uint64_t index, offset; } quant_cursor;

/* String i; cur may be NULL.  Errors as above. */
QUANT_API quant_result quant_kv_str(const quant_kv *kv, uint64_t i, quant_cursor *cur,
                                    quant_str *out);

/* quant_gguf_find and element 0 in one call.  E_NOT_FOUND: no such key; *out is untouched after
 * any failure, so that a default can be set before. */
QUANT_API quant_result quant_gguf_get_u64(const quant_gguf *g, const char *key, uint64_t *out);
QUANT_API quant_result quant_gguf_get_i64(const quant_gguf *g, const char *key, int64_t *out);
QUANT_API quant_result quant_gguf_get_f64(const quant_gguf *g, const char *key, double *out);
QUANT_API quant_result quant_gguf_get_str(const quant_gguf *g, const char *key, quant_str *out);

/* The tensor's bytes [t->size] in the file's memory; NULL when the file is not in memory or is
 * big-endian and the type has fields of several bytes (use quant_gguf_read). */
QUANT_API const void *quant_gguf_data(const quant_gguf *g, const quant_tensor *t);

/* Copies n bytes from `offset` within the tensor's data, in little-endian order whatever the file
 * has.  For a big-endian file, offset and n must be multiples of the type's block.  E_ARG: out of
 * range.  E_TYPE: big-endian blocks whose byte order nobody defined (IQ2_XXS, IQ3_XXS, IQ1_M) or an
 * unknown type.  E_IO: the callback failed. */
QUANT_API quant_result quant_gguf_read(const quant_gguf *g, const quant_tensor *t, void *dst,
                                       uint64_t offset, size_t n);
#endif /* QUANT_NO_GGUF */

#ifndef QUANT_NO_GGUF_WRITE
/* >>gguf-write ----------------------------------------------------------------------------------
 * Two passes: first name every key and tensor, then send the tensors' bytes in the same order.  The
 * sink is only ever appended to.  Writes version 3, little-endian. */

/* write returns the number of bytes taken; less than n means failure. */
typedef struct quant_sink {
    size_t (*write)(void *user, const void *src, size_t n);
    void    *user;
} quant_sink;

/* Private: bytes that grow, and an index over names that stand in such bytes. */
typedef struct quant__bytes { uint8_t *p; size_t n, cap; } quant__bytes;
typedef struct quant__index { quant__bytes at, slots; } quant__index;

typedef struct quant_gguf_out {
    quant_error err;                /* the first failure; all later calls return its code       */
    uint64_t    written;            /* bytes sent so far                                        */
    uint64_t    n_kv, n_tensors;    /* added so far                                             */
    struct {                        /* private                                                  */
        quant_sink sink; quant_alloc alloc; uint32_t alignment, state;
        quant__bytes kv, info;      /* as they will stand in the file                           */
        quant__index keys, names;   /* of kv and info                                           */
        quant__bytes sizes;         /* [n_tensors] uint64_t, bytes of each tensor               */
        uint64_t data_size;         /* all tensors, padded                                      */
        uint64_t tensor, left;      /* the tensor that is being written, its bytes to come      */
        uint64_t rest;              /* bytes to come of all tensors, without padding            */
    } priv;
} quant_gguf_out;

/* Starts a file.  alignment: 0 = 32; a power of two from 8 to 65536.  A general.alignment key is
 * written first when it is not 32; quant_gguf_put* then refuses that key, and with 32 takes no
 * other value for it. */
QUANT_API quant_result quant_gguf_begin(quant_gguf_out *o, quant_sink sink, uint32_t alignment,
                                        const quant_alloc *a);

/* Add a key.  E_ARG: empty, too long or already there, bad type.  Values are copied.
 * _put: `type` any scalar, value points to the C type of that name (bool: uint8_t, string:
 * quant_str).  _put_array: elems is [count] of that C type.  _put_kv: a reader's value, of any
 * version and byte order. */
QUANT_API quant_result quant_gguf_put(quant_gguf_out *o, const char *key, uint32_t type,
                                      const void *value);
QUANT_API quant_result quant_gguf_put_array(quant_gguf_out *o, const char *key,
                                            uint32_t elem_type, const void *elems,
                                            uint64_t count);
QUANT_API quant_result quant_gguf_put_u32(quant_gguf_out *o, const char *key, uint32_t v);
QUANT_API quant_result quant_gguf_put_str(quant_gguf_out *o, const char *key, const char *v);
QUANT_API quant_result quant_gguf_put_kv(quant_gguf_out *o, const quant_kv *kv);

/* Adds a tensor: its data follows that of the tensor before.  E_ARG: bad name or shape, or the name
 * is there already.  E_TYPE: unknown or removed type. */
QUANT_API quant_result quant_gguf_put_tensor(quant_gguf_out *o, const char *name, quant_type t,
                                             const uint64_t *ne, uint32_t n_dims);

/* Ends pass 1 and sends the header. */
QUANT_API quant_result quant_gguf_header(quant_gguf_out *o);

/* Sends tensor bytes; one call may cover part of a tensor or several.  Padding is added by itself,
 * after the last tensor too.  E_ARG: more bytes than were announced. */
QUANT_API quant_result quant_gguf_write(quant_gguf_out *o, const void *src, size_t n);

/* Ends the file and frees everything, also after a failure.  E_STATE: bytes are missing. */
QUANT_API quant_result quant_gguf_end(quant_gguf_out *o);
#endif /* QUANT_NO_GGUF_WRITE */

#ifndef QUANT_NO_GGUF
/* >>imatrix -------------------------------------------------------------------------------------
 * Importance files, GGUF form (llama.cpp since PR 9400) and legacy .dat.  Values are E[x^2] per
 * column; a matrix of the file without calibration tokens has ones. */
typedef struct quant_imatrix_entry {
    quant_str    name;              /* of the weight tensor; first member                       */
    const float *values;            /* [mats x cols]                                            */
    uint64_t     size;              /* mats * cols                                              */
    uint64_t     mats;              /* matrices (experts); 1 in the .dat form                   */
    uint64_t     empty;             /* matrices that saw no tokens                              */
} quant_imatrix_entry;

typedef struct quant_imatrix {
    quant_imatrix_entry *entries;   /* [n_entries]                                              */
    size_t               n_entries;
    uint64_t             n_chunks;  /* of calibration text; 0 when not stored                   */
    quant_str            dataset;   /* its name; empty when not stored                          */
    quant_error          err;       /* why the open failed                                      */
    struct { quant_alloc alloc; void *heap; size_t heap_size; uint32_t *slots; size_t n_slots; }
                         priv;      /* private                                                  */
} quant_imatrix;

/* Reads an importance file from memory; data is not needed afterwards.  One allocation beside the
 * reader's own, which is freed before the return.  E_NUMERIC: a value that is not finite or is
 * negative. */
QUANT_API quant_result quant_imatrix_open(quant_imatrix *m, const void *data, size_t size,
                                          const quant_alloc *a, const quant_limits *limits);
#ifndef QUANT_NO_STDIO
QUANT_API quant_result quant_imatrix_open_file(quant_imatrix *m, const char *path,
                                               const quant_alloc *a, const quant_limits *limits);
#endif
QUANT_API void quant_imatrix_close(quant_imatrix *m);

/* The importance of matrix `mat` of `mats` of the tensor `name` with `cols` columns, [cols] floats.
 * *out is NULL and the result OK when the file has no such entry.  E_FORMAT: it has one of
 * another size. */
QUANT_API quant_result quant_imatrix_find(const quant_imatrix *m, const float **out,
                                          quant_str name, uint64_t cols, uint64_t mat,
                                          uint64_t mats);

/* >>split ---------------------------------------------------------------------------------------
 * Models in several files, PREFIX-00001-of-00003.gguf (llama.cpp's gguf-split).  Each shard is a
 * complete GGUF; the first has the model's metadata. */

/* Writes the name of shard `no` (from 0) of `count`.  Returns the length, 0 if buf [size] is too
 * small or the numbers are out of range (count 1 to 65535). */
QUANT_API size_t quant_split_name(char *buf, size_t size, const char *prefix, uint32_t no,
                                  uint32_t count);

/* Takes a shard's name apart: 1 and length of the prefix, number from 0 and count; 0 if `path` is
 * not of that form. */
QUANT_API int quant_split_parse(const char *path, size_t *prefix_len, uint32_t *no,
                                uint32_t *count);

/* A set of open shards seen as one model.  Borrows the shards. */
typedef struct quant_set {
    const quant_gguf *shards;       /* [n_shards], shard 0 first                                */
    size_t            n_shards, n_tensors;
    quant_error       err;
    struct { quant_alloc alloc; void *heap; size_t heap_size;
             struct quant__set_tensor *tensors; uint32_t *slots; size_t n_slots; } priv;
} quant_set;

/* Checks split.no, split.count, split.tensors.count and that no tensor comes twice.  A single file
 * without split keys is a set of one.  One allocation. */
QUANT_API quant_result quant_set_init(quant_set *s, const quant_gguf *shards, size_t n_shards,
                                      const quant_alloc *a);
QUANT_API void quant_set_free(quant_set *s);

/* Tensor i of the set, in shard order, and its shard (may be NULL); NULL past the end. */
QUANT_API const quant_tensor *quant_set_tensor(const quant_set *s, size_t i, size_t *shard);
QUANT_API const quant_tensor *quant_set_find(const quant_set *s, const char *name, size_t *shard);

/* >>mix -----------------------------------------------------------------------------------------
 * Which type for which tensor: llama.cpp's rules (llama-quant.cpp, August 2026) as pure functions
 * of name, shape and layer.  Nothing here depends on a list of known architectures. */
typedef struct quant_mix_info {
    const char *name;               /* "Q4_K_M"                                                 */
    uint32_t    file_type;          /* general.file_type                                        */
    quant_type  base;               /* the type of most tensors                                 */
} quant_mix_info;

/* Mix number i, 0 to the first NULL; a static struct. */
QUANT_API const quant_mix_info *quant_mix_get(size_t i);
/* The number of a mix by its name, upper or lower case; -1 if there is none. */
QUANT_API int quant_mix_find(const char *name);

/* What the rules need to know of the model. */
typedef struct quant_mix_model {
    uint32_t n_layers;              /* block_count                                              */
    uint32_t n_heads, n_heads_kv;   /* of the first layer; 0 if unknown                         */
    uint32_t n_experts;             /* 0 if it has none                                         */
    uint32_t n_attn_v;              /* tensors of the kind QUANT_MIX_ATTN_V                     */
    uint32_t falcon, llama_70b;     /* the two models with rules of their own                   */
    uint32_t tied;                  /* no output.weight: token_embd serves as output            */
    uint32_t has_importance;
} quant_mix_model;

/* Fills it from a model's metadata and tensors; wrong or absent metadata gives 0. */
QUANT_API void quant_mix_model_init(quant_mix_model *m, const quant_set *s, int has_importance);

enum {                              /* kinds of tensors that the rules tell apart                */
    QUANT_MIX_OTHER = 0, QUANT_MIX_TOKEN_EMBD, QUANT_MIX_OUTPUT, QUANT_MIX_ATTN_Q,
    QUANT_MIX_ATTN_K, QUANT_MIX_ATTN_V, QUANT_MIX_ATTN_OUTPUT, QUANT_MIX_FFN_UP,
    QUANT_MIX_FFN_GATE, QUANT_MIX_FFN_DOWN, QUANT_MIX_KIND_COUNT
};
QUANT_API uint32_t quant_mix_kind(quant_str name);

/* 1 if the rules quantize this tensor at all: a matrix of weights, not a norm, a router, a
 * position table or another small thing that runtimes want in full. */
QUANT_API int quant_mix_quantizable(const quant_tensor *t);

/* The type for a quantizable tensor.  ordinal: how many tensors of its kind come before it in the
 * order of quant_mix_before.  The answer may not fit the tensor's row length: see
 * quant_mix_fallback.  QUANT_TYPE_COUNT for a bad mix. */
QUANT_API quant_type quant_mix_choose(int mix, const quant_mix_model *m, const quant_tensor *t,
                                      uint32_t ordinal);

/* The order in which llama.cpp counts and stores tensors: no layer first, then by layer, then by
 * name.  1 if a comes before b. */
QUANT_API int quant_mix_before(quant_str a, quant_str b);

/* t if rows of `cols` fit it, else the type that llama.cpp takes instead; F16 as the last one. */
QUANT_API quant_type quant_mix_fallback(quant_type t, uint64_t cols);

/* 1 if llama.cpp refuses to make this tensor of this type without importance. */
QUANT_API int quant_mix_needs_importance(int mix, quant_type t, quant_str name);
#endif /* QUANT_NO_GGUF */

#ifndef QUANT_NO_CALIBRATION
/* >>linalg --------------------------------------------------------------------------------------
 * What calibration needs of linear algebra, in float.  Hessian here means H = X^T X, the sum over
 * tokens of the products of a matrix's input columns; only its lower triangle is kept.
 *
 *   quant_hessian_add(h, cols, x, ldx, tokens, cols, 0, cols, cpu, scratch);    any number of times
 *   quant_inverse_factor(h, cols, cols, diag, &damp, cpu, scratch, &err);       U, H^-1 = U^T U
 *
 * Matrices are row-major with rows ld* elements apart; element (i, j) of a lower triangle, j <= i,
 * is a[i * lda + j], and what stands above the diagonal is neither read nor written.  Every element
 * is a sum of fused multiply-adds in a fixed order, 128 at a time from zero: all instruction sets
 * and all splits into ranges of rows give the same bytes.  Blocks of 128 on the diagonal are
 * factored and inverted in double.  Threads: each needs its own scratch. */

/* Bytes of scratch for any function below, whatever the shape. */
QUANT_API size_t quant_linalg_scratch_size(void);

/* H += X^T X: rows row0 to row1 - 1 of h [cols x cols], lower.  x [tokens x cols].  Up to 128
 * tokens of a call are summed before they are added: calls with few tokens are slower and less
 * accurate.  NaN and infinity go into H; quant_cholesky finds them there. */
QUANT_API void quant_hessian_add(float *h, size_t ldh, const float *x, size_t ldx, size_t tokens,
                                 size_t cols, size_t row0, size_t row1, quant_cpu cpu,
                                 void *scratch);

/* C += X^T Y: rows row0 to row1 - 1 of c [cols x cols], all of it.  x, y [tokens x cols]. */
QUANT_API void quant_cross_add(float *c, size_t ldc, const float *x, size_t ldx, const float *y,
                               size_t ldy, size_t tokens, size_t cols, size_t row0, size_t row1,
                               quant_cpu cpu, void *scratch);

/* The row at which part `part` of `parts` begins when a lower triangle of n rows is split into
 * equal areas; n for part == parts.  A multiple of 8 otherwise. */
QUANT_API size_t quant_triangle_split(size_t n, size_t part, size_t parts);

/* Lower triangle to packed rows, dst [n (n + 1) / 2]: row after row, 1, 2, 3 ... elements; this is
 * how sums are stored in files.  And packed rows added to a lower triangle, which is how partial
 * sums of several threads or machines are merged (add the numbers of tokens as well). */
QUANT_API void quant_triangle_pack(float *dst, const float *h, size_t ldh, size_t n);
QUANT_API void quant_triangle_add(float *h, size_t ldh, const float *src, size_t n);

/* Copies the lower triangle to above the diagonal. */
QUANT_API void quant_triangle_mirror(float *h, size_t ldh, size_t n);

/* A = L L^T, in place.  E_NUMERIC: the pivot of column err->where is not positive, not finite, or
 * less than 2^-20 of the diagonal element, below which there is only rounding; a is then
 * half-changed. */
QUANT_API quant_result quant_cholesky(float *a, size_t n, size_t lda, quant_cpu cpu, void *scratch,
                                      quant_error *err);

/* L := L^-1, in place.  E_NUMERIC: element err->where of the diagonal is zero or not finite. */
QUANT_API quant_result quant_triangular_inverse(float *l, size_t n, size_t lda, quant_cpu cpu,
                                                void *scratch, quant_error *err);

/* What GPTQ needs of a Hessian: the upper triangular U with (H + damp mean(diag H) I)^-1 = U^T U.
 * a [n x lda], in: H, lower; out: U, upper, zeros below.  diag [n] receives the diagonal of H.
 * *damp, in: the damping to begin with, 0.01 is usual; out: the one that was needed.  It is doubled
 * (from 1e-4 at least) as long as the matrix cannot be factored.  E_NUMERIC: H is not finite, its
 * diagonal is not positive, or damping 1 was not enough; err->where is the column.  a is then
 * undefined.  Derivation: with P for the reversed order, P H P = L L^T and U = P L^-1 P. */
QUANT_API quant_result quant_inverse_factor(float *a, size_t n, size_t lda, float *diag,
                                            float *damp, quant_cpu cpu, void *scratch,
                                            quant_error *err);
#endif /* QUANT_NO_CALIBRATION */

#if !defined(QUANT_NO_ENCODE) && !defined(QUANT_NO_CALIBRATION)
/* >>gptq ----------------------------------------------------------------------------------------
 * Calibrated rounding: finds codes and scales for W [rows x cols] that minimise, row by row, the
 * error of the products on calibration data X [tokens x cols],
 *     loss = |(V - W) X^T|^2 = (v - w) H (v - w)^T,    H = X^T X [cols x cols],
 * where v are the weights that the stored bytes stand for.  Three steps:
 *   1. columns one after another, the error of each spread over those still to come (GPTQ: Frantar
 *      and others, 2022), by blocks in the order of their importance;
 *   2. the scale of every group chosen among several, each tried with its own spread of errors;
 *   3. sweeps of block coordinate descent over codes and scales on the same loss.
 * GGUF types stay plain GGUF: nothing but the choice of codes and scales differs.  In the end each
 * row is compared with plain rounding, which it replaces only where its loss is not larger.
 *
 *   quant_gptq_prepare(&g, &grid, h, cols, cols, &opt, buf, size, cpu, &err);      once for an H
 *   quant_gptq_rows(&out, &g, w, cols, row0, row1, scratch, size, &err);  from several threads
 *
 * quant_gptq_shift moves W towards what the data asks of it before it is rounded: when the inputs
 * of the quantized model differ from those of the original, or the outputs should make up for
 * errors that were made before (asymmetric calibration: Li and others, GPTAQ, 2025; here the exact
 * solution by the same factor instead of a correction column by column). */
enum {                              /* order in which columns are quantized                      */
    QUANT_GPTQ_GROUP = 0,           /* groups by importance, then columns inside a group         */
    QUANT_GPTQ_NATURAL = 1,         /* as stored                                                 */
    QUANT_GPTQ_ACT = 2              /* all columns by importance.  GGUF: scales are fitted first;
                                       integers: groups are made in that order, see
                                       quant_gptq_groups, and there are no sweeps              */
};

/* What W is rounded to. */
typedef struct quant_grid {
    quant_type type;                /* Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K..Q6_K IQ4_NL IQ4_XS MXFP4
                                       NVFP4 TQ2_0; not read when bits is not 0                */
    uint32_t   bits;                /* 0, or 2 to 8: integers, w = scale (code - zero)           */
    uint32_t   group;               /* integers: columns with a scale, a power of two from 16 to
                                       128; 0: the whole row                                   */
    uint32_t   symmetric;           /* integers: zero is 2^(bits - 1) everywhere                 */
    uint32_t   search;              /* integers: ranges by least error instead of min and max    */
    float      tensor_scale;        /* NVFP4, as in quant_encoder; 0: 1                          */
} quant_grid;

typedef struct quant_gptq_opt {     /* zeroed: defaults                                          */
    float    damp;                  /* part of the mean diagonal that is added to it; 0: 0.01    */
    uint32_t order;                 /* QUANT_GPTQ_*                                              */
    int32_t  sweeps;                /* of step 3; 0: 4; below 0: none                            */
    int32_t  trials;                /* scales tried in steps 2 and 3; 0: all; 1: only the first
                                       fit, as published GPTQ has it                           */
    uint64_t tokens;                /* in H; 0: not known.  damp is at least cols / tokens, up to
                                       1: about the relative error of the inverse of a matrix
                                       that was estimated from so many samples                 */
} quant_gptq_opt;

/* Made by quant_gptq_prepare, read only afterwards, shared by threads. */
typedef struct quant_gptq {
    quant_grid      grid;
    quant_gptq_opt  opt;            /* with the defaults filled in                               */
    size_t          cols, ldh;
    const float    *h;              /* borrowed; symmetric and damped now                        */
    float          *factor;         /* U [cols x cols] upper, inverse of H in order = U^T U      */
    float          *blocks;         /* the same for each group alone [cols x group]              */
    float          *importance;     /* [cols] damped diagonal                                    */
    uint32_t       *order;          /* [cols] column quantized i-th                              */
    float           damp, added;    /* what was added, as a part of the mean diagonal; as it is  */
    uint32_t        raised;         /* times that damp had to be doubled to factor H             */
    size_t          dead;           /* columns that were always 0; cols: no data, plain rounding */
    quant_cpu       cpu;
} quant_gptq;

/* Where quant_gptq_rows writes; rows of the whole matrix, from row 0. */
typedef struct quant_gptq_out {
    void     *rows;                 /* GGUF: [rows] of quant_row_size bytes                      */
    uint8_t  *codes;                /* integers: [rows x cols] in stored order                   */
    uint16_t *scales;               /* integers: half floats [rows x groups]                     */
    uint8_t  *zeros;                /* integers: [rows x groups]                                 */
    float    *values;               /* NULL, or [rows x cols] what was stored, as floats         */
    double   *loss;                 /* NULL, or [rows] on the H that was given                   */
    uint8_t  *plain;                /* NULL, or [rows] 1 where plain rounding was better and is
                                       what was stored, else 0                                 */
} quant_gptq_out;

/* Bytes of buf for quant_gptq_prepare; 0 if the grid or the shape is not supported. */
QUANT_API size_t quant_gptq_size(const quant_grid *grid, size_t cols);

/* Orders and factors H.  h [cols x ldh]: the lower half is read, sums over any number of tokens; it
 * is made symmetric and damped in place and borrowed.  buf [size] is borrowed, too.
 * H that is not positive definite (few tokens, equal columns): damp is doubled and counted in
 * g->raised.  Columns without data count as damped only: they are rounded to nearest.  So are all,
 * with g->dead == cols, when H is 0: an expert that no token has reached.
 * E_TYPE: grid.  E_ARG: cols.  E_MEMORY: buf.  E_NUMERIC: H is not finite or has a negative
 * diagonal (where: the column), or no damping up to 1 helps. */
QUANT_API quant_result quant_gptq_prepare(quant_gptq *g, const quant_grid *grid, float *h,
                                          size_t ldh, size_t cols, const quant_gptq_opt *opt,
                                          void *buf, size_t size, quant_cpu cpu,
                                          quant_error *err);

/* W += scale E (damped H)^-1 for rows row0 to row1.  E [rows x cols] = (Y - X W^T)^T X, the product
 * of X and the errors of the outputs against what they should be, Y.  scratch as for rows. */
QUANT_API quant_result quant_gptq_shift(const quant_gptq *g, float *w, size_t ldw, const float *e,
                                        size_t lde, size_t row0, size_t row1, float scale,
                                        void *scratch, size_t size, quant_error *err);

/* Bytes of scratch for quant_gptq_rows and quant_gptq_shift, for each thread. */
QUANT_API size_t quant_gptq_scratch_size(const quant_gptq *g);

/* Quantizes rows row0 to row1 of w [rows x ldw].  Any split into rows gives the same bytes.
 * The loss of a row, on the H that was given and to the weights w as they are here (after
 * quant_gptq_shift: to the shifted ones), is never above that of the same weights rounded plainly:
 * by the type's own encoder without importance and, if it takes any, with the damped diagonal of H;
 * integers by minimum and maximum of each group and, with search, by least error.  Rounding of
 * floats aside, of the order of 1e-6.
 * E_MEMORY: scratch.  E_NUMERIC: a weight is not finite or too large, where: row * cols + col. */
QUANT_API quant_result quant_gptq_rows(const quant_gptq_out *out, const quant_gptq *g,
                                       const float *w, size_t ldw, size_t row0, size_t row1,
                                       void *scratch, size_t size, quant_error *err);

/* Group of each column [cols] (g_idx) for integer grids. */
QUANT_API void quant_gptq_groups(const quant_gptq *g, uint32_t *g_idx);
#endif /* QUANT_NO_ENCODE, QUANT_NO_CALIBRATION */

#if !defined(QUANT_NO_ENCODE) && !defined(QUANT_NO_CALIBRATION)
/* >>awq -----------------------------------------------------------------------------------------
 * Activation-aware scaling (AWQ: Lin and others, 2023): columns of W that meet large activations
 * are multiplied by s > 1 before rounding and the inputs divided by it, which is done where they
 * are made: nothing in the file shows it, and any type and runtime works unchanged.
 *     Y = X W^T = (X / s) (W diag(s))^T
 *
 * Matrices that share an input share s.  Candidates are powers of the mean activations, with and
 * without a term of the weights; the one with the least error of the outputs, over all these
 * matrices and on the real target grid, is taken.  Candidate 0 is s = 1, so the result is never
 * worse than without.
 *
 *   quant_awq_see(sum, x, ldx, tokens, cols);              while the calibration text runs
 *   quant_awq_weigh(wsum, w, ldw, rows, cols, group);      for each matrix
 *   for (k = 0; k < quant_awq_candidates(steps); k++) {
 *       quant_awq_scales(s, k, steps, sum, wsum, cols);
 *       quant_awq_rows(&out, &a, w, ldw, 0, rows, s, scratch, size, &err);    out.loss alone
 *   }                                                      or quant_awq_search, on one thread
 *   quant_awq_fold_columns(w, ldw, rows, cols, s);         each matrix, and what comes before:
 *   quant_awq_fold_norm or quant_awq_fold_rows
 *
 * Orders of columns where one feeds the other: o reads what v wrote, head by head; with grouped
 * queries several heads of o share one of v, see quant_awq_share.  down reads gate * up, so that up
 * takes the scales.  All matrices behind a norm must be folded (experts as well). */

/* sum [cols] += |x| over tokens.  A value that is not finite makes its column's scale 1. */
QUANT_API void quant_awq_see(double *sum, const float *x, size_t ldx, size_t tokens, size_t cols);

/* sum [cols] += |w| over the largest |w| of its group of columns, over rows.  group 0: the row. */
QUANT_API void quant_awq_weigh(double *sum, const float *w, size_t ldw, size_t rows, size_t cols,
                               size_t group);

/* Averages the sums of the query heads [n_head * head_dim] that share a key and value head, so that
 * their scales become equal.  n_head is a multiple of n_kv. */
QUANT_API void quant_awq_share(double *sum, size_t n_head, size_t n_kv, size_t head_dim);

/* The scales of v's rows dst [n_kv * head_dim] from those of o's columns s [n_head * head_dim]. */
QUANT_API void quant_awq_unshare(float *dst, const float *s, size_t n_head, size_t n_kv,
                                 size_t head_dim);

/* Number of candidates for alpha = 0, 1 / steps, ... 1: 2 steps + 2.  steps 0: 20. */
QUANT_API size_t quant_awq_candidates(uint32_t steps);

/* Candidate k: x^alpha, then x^alpha / w^(1 - alpha), scaled so that the largest and the smallest
 * are inverse to each other.  x, w [cols]: the sums from above, w may be NULL (candidates with it
 * are then those without).  Columns with a sum of 0 or NaN, and all columns of a candidate that
 * does not come out finite, get 1.  Returns alpha. */
QUANT_API float quant_awq_scales(float *s, size_t k, uint32_t steps, const double *x,
                                 const double *w, size_t cols);

/* What is rounded to what.  Read only, shared by threads. */
typedef struct quant_awq {
    quant_grid   grid;              /* any type with an encoder, or integers.  search is not read */
    size_t       cols, ldh;
    const float *h;                 /* [cols x ldh] sum of x x^T, both halves (see
                                       quant_triangle_mirror); its diagonal is the importance  */
    uint32_t     clip;              /* ranges tried; 0: one.  Integers: per group, down to half,
                                       AWQ has 10.  Types: per block, 1, .95, .90 ... of the
                                       largest weights, up to 20; 5 give most of the gain       */
    quant_cpu    cpu;
} quant_awq;

/* Bytes of scratch for quant_awq_rows, for each thread; 0: grid or cols is not supported. */
QUANT_API size_t quant_awq_scratch_size(const quant_awq *a);

/* Rounds rows row0 to row1 - 1 of W diag(s), s [cols] or NULL, to nearest; the range of integers by
 * the least error of the group's part of the outputs, that of a block by the error of the row,
 * which clipping never raises.  out->rows, codes, scales, zeros, values:
 * what was stored, of W diag(s); out->loss: |(Q(W diag(s)) / diag(s) - W) X^T|^2 of each row.  Any
 * of them may be NULL.  h is that of W's own inputs, not of those divided by s.  Any split
 * into rows gives the same bytes.  E_TYPE: grid.  E_MEMORY: scratch.  E_NUMERIC: a weight, plain or
 * scaled, is not finite or too large (where: row * cols + col), or h's diagonal (where: col). */
QUANT_API quant_result quant_awq_rows(const quant_gptq_out *out, const quant_awq *a,
                                      const float *w, size_t ldw, size_t row0, size_t row1,
                                      const float *s, void *scratch, size_t size,
                                      quant_error *err);

/* One of the matrices that share an input. */
typedef struct quant_awq_matrix {
    const float *w;                 /* [rows x ldw]                                              */
    size_t       rows, ldw;
} quant_awq_matrix;

/* Tries all candidates, one after another, on all rows of all matrices.  s [cols] is the best;
 * *loss and *plain (either may be NULL) are the losses of it and of s = 1, *best its number.
 * wsum as in quant_awq_scales. */
QUANT_API quant_result quant_awq_search(float *s, size_t *best, double *loss, double *plain,
                                        const quant_awq *a, const quant_awq_matrix *mats,
                                        size_t n_mats, const double *x, const double *wsum,
                                        uint32_t steps, void *scratch, size_t size,
                                        quant_error *err);

/* W := W diag(s), for every matrix that reads the scaled input. */
QUANT_API void quant_awq_fold_columns(float *w, size_t ldw, size_t rows, size_t cols,
                                      const float *s);

/* W := diag(s)^-1 W, the matrix that writes the input, and its bias [rows] or NULL. */
QUANT_API void quant_awq_fold_rows(float *w, size_t ldw, size_t rows, size_t cols, float *bias,
                                   const float *s);

/* The norm that writes the input: weight (and bias or NULL) divided by s.  plus: what the model
 * adds to the stored weight, 1 for Gemma's checkpoints; GGUF has it added already, so 0 there. */
QUANT_API void quant_awq_fold_norm(float *weight, float *bias, size_t cols, float plus,
                                   const float *s);
#endif /* QUANT_NO_ENCODE, QUANT_NO_CALIBRATION */

#ifdef QUANT_CUDA
/* >>cuda ----------------------------------------------------------------------------------------
 * Products with quantized weights on an NVIDIA GPU: quant_cuda.cu, compiled by nvcc, linked as C.
 *     Y [tokens x rows] = factor * X [tokens x cols] W [rows x cols]^T
 * X and Y are both half floats or both bfloat16, sums are fp32.
 *
 *   quant_cuda_query(&gpu, &err);                         once for each device
 *   quant_cuda_matrix_init(&w, &source, &err);            host: checks, sizes
 *   quant_cuda_pack(host, &w, &source, &err);             host [w.size] bytes
 *   cudaMemcpy(device, host, w.size, ...); w.data = device;
 *   cudaMemset(space, 0, quant_cuda_workspace_size(&gpu, &w));        once, not for each call
 *     (a source that is in device memory: _matrix_init_device, then _pack_device to w.data)
 *   quant_cuda_matmul(&gpu, &w, y, ldy, x, ldx, tokens, QUANT_F16, space, size, stream, &err);
 *
 * Nothing is allocated and no global state is kept: calls may come from several threads, for
 * several devices and streams (a workspace serves one stream at a time), and into a CUDA graph.
 * The same call gives the same bytes, from run to run and on every device of the same model.
 *
 * Limits: cols is a multiple of 32, rows a multiple of 8, tokens any number.  Other types: E_TYPE.
 *   Type                                    Kernels
 *   GPTQ int4 (v1, v2, act-order),          copy engine with mma.sync, wgmma (9.0), mma.sync (8.0
 *   AWQ "gemm" int4, GGUF Q4_0 Q4_1 Q4_K    and up), plain (any)
 *   GGUF IQ4_NL, Q6_K, Q8_0                 mma.sync without a copy pipeline (8.0 and up), plain
 * Tested on an H200, and timed there but for groups other than 128: tests/BENCH_CUDA.md.
 * Calls with the last three types always have what QUANT_CUDA_INVARIANT promises. */
enum {                              /* quant_cuda_source.format                                  */
    QUANT_CUDA_GGUF = 0,            /* data: rows of `type` as in a GGUF file                    */
    QUANT_CUDA_GPTQ_V1,             /* data: qweight i32 [cols / 8][rows], low nibble first;     */
                                    /* zeros: qzeros i32 [groups][rows / 8], zero point - 1      */
    QUANT_CUDA_GPTQ_V2,             /* the same with zeros as they are                           */
    QUANT_CUDA_AWQ_GEMM,            /* qweight i32 [cols][rows / 8], qzeros [groups][rows / 8],  */
                                    /* nibble i of a word is row 0 2 4 6 1 3 5 7 [i]             */
    QUANT_CUDA_FORMAT_COUNT
};

/* A matrix in host memory.  Little-endian, aligned to 4 bytes (GGUF: any alignment). */
typedef struct quant_cuda_source {
    uint32_t        format;         /* QUANT_CUDA_GGUF ...                                       */
    quant_type      type;           /* GGUF only                                                 */
    size_t          rows, cols;     /* output and input features                                 */
    size_t          group;          /* weights of a scale: 32, 64, 128; 0: the whole column.
                                       Not read for GGUF                                       */
    const void     *data;
    const uint16_t *scales;         /* fp16 [groups][rows], groups = cols / group rounded up;
                                       not read for GGUF                                       */
    const uint32_t *zeros;          /* NULL: the zero point is 8                                 */
    const uint32_t *g_idx;          /* NULL, or [cols] the group of each column.  Other than
                                       c / group it is act-order: columns are packed group by
                                       group, and each product first gathers x in that order.
                                       Every group must have `group` columns                     */
} quant_cuda_source;

enum {                              /* quant_cuda_matrix.zero: what a code q stands for          */
    QUANT_CUDA_SYMMETRIC = 0,       /* scale (q - 8), 6 bits: scale (q - 32), 8: scale (q - 128) */
    QUANT_CUDA_ZERO_POINT,          /* scale (q - zero), zero 0..15                              */
    QUANT_CUDA_OFFSET,              /* scale q + offset                                          */
    QUANT_CUDA_TABLE                /* scale table[q], the 16 numbers of IQ4_NL                  */
};

/* Made by quant_cuda_matrix_init; only `data`, `bias` and `factor` are the caller's to change. */
typedef struct quant_cuda_matrix {
    uint32_t    zero;               /* QUANT_CUDA_SYMMETRIC ...                                  */
    uint32_t    bits;               /* of a code: 4; 6 (Q6_K), 8 (Q8_0)                          */
    uint32_t    group;              /* 16 (Q6_K), 32, 64 or 128; 0: the whole column             */
    uint32_t    ordered;            /* 1: act-order, x is gathered first                         */
    size_t      rows, cols;
    size_t      size;               /* bytes of the packed form, host and device                 */
    float       factor;             /* of all weights                                            */
    const void *data;               /* borrowed: the packed form in device memory, aligned to
                                       256 (as cudaMalloc gives); NULL after _init             */
    const void *bias;               /* borrowed: [rows] in device memory, the type of y, aligned
                                       to 16, added to every token; NULL (after _init): none   */
} quant_cuda_matrix;

enum {                              /* quant_cuda_device.flags                                   */
    /* A product starts to read its weights while kernels before it on the stream still run
     * (programmatic dependent launch, compute capability 9.0 and up).  Only for weights that no
     * kernel on that stream has just written. */
    QUANT_CUDA_OVERLAP = 1,
    QUANT_CUDA_PLAIN   = 2,         /* use the kernel that runs on every device, for tests       */
    /* A row of Y has the same bytes whatever `tokens` is, on the same device.  Costs speed. */
    QUANT_CUDA_INVARIANT = 4
};

/* Filled by quant_cuda_query.  Owns nothing. */
typedef struct quant_cuda_device {
    uint32_t device;                /* CUDA's ordinal                                            */
    uint32_t capability;            /* 90 for 9.0                                                */
    uint32_t sms;                   /* multiprocessors                                           */
    uint32_t shared;                /* bytes of shared memory that one block can have            */
    uint32_t flags;                 /* QUANT_CUDA_OVERLAP ...; 0 after the query                 */
    size_t   l2, memory;            /* bytes of second-level cache and of device memory          */
    void    *tensor_map;            /* the driver's cuTensorMapEncodeTiled; NULL: no Hopper path */
} quant_cuda_device;

/* Describes the calling thread's current CUDA device.  E_NOT_FOUND: there is no device or no
 * driver, err->what is CUDA's text. */
QUANT_API quant_result quant_cuda_query(quant_cuda_device *gpu, quant_error *err);

/* Checks a source and says how it will be stored.  Zero points that are all 8 become SYMMETRIC.
 * Scales that do not fit fp16 exactly (Q4_K: d * scale) are rounded to it; Q6_K's are kept apart.
 * E_ARG: shape, group or a NULL pointer.  E_TYPE: a format or type that is not supported, or a
 * g_idx whose groups differ in size.  E_NUMERIC: a scale is not finite; err->where is its index
 * (GGUF: the block's). */
QUANT_API quant_result quant_cuda_matrix_init(quant_cuda_matrix *w, const quant_cuda_source *s,
                                              quant_error *err);

/* Writes the packed form, dst [w->size], host memory aligned to 16.  w must have been made from
 * the same source.  Every byte is written.  The layout is drawn in quant_cuda.cu. */
QUANT_API quant_result quant_cuda_pack(void *dst, const quant_cuda_matrix *w,
                                       const quant_cuda_source *s, quant_error *err);

/* For a source whose data, scales, zeros and g_idx are in device memory: the same without reading
 * them, so zeros mean ZERO_POINT and a g_idx act-order, whatever is in them.  E_ARG, E_TYPE. */
QUANT_API quant_result quant_cuda_matrix_init_device(quant_cuda_matrix *w,
                                                     const quant_cuda_source *s,
                                                     quant_error *err);

enum {                              /* *status of quant_cuda_pack_device                         */
    QUANT_CUDA_BAD_SCALE = 1,       /* a scale is not finite                                     */
    QUANT_CUDA_BAD_ORDER = 2        /* the groups of g_idx differ in size                        */
};

/* Packs in device memory: the bytes of quant_cuda_pack for the same w.  dst [w->size] aligned to
 * 256; w from _matrix_init_device, or from _matrix_init of a host copy of the source.  status: NULL
 * or in device memory, zeroed by the caller: QUANT_CUDA_BAD_SCALE ... are or-ed into it, and dst is
 * of no use then.  Returns once the work is queued; reads nothing of the source on the host.
 * E_ARG, E_TYPE: as quant_cuda_pack.  E_STATE: CUDA refused the launch, err->what is its text. */
QUANT_API quant_result quant_cuda_pack_device(void *dst, const quant_cuda_matrix *w,
                                              const quant_cuda_source *s, uint32_t *status,
                                              void *stream, quant_error *err);

/* Bytes of workspace for any number of tokens with w; one workspace of the largest size serves
 * all matrices of a model.  Zeroed once by the caller; every call leaves it ready for the next. */
QUANT_API size_t quant_cuda_workspace_size(const quant_cuda_device *gpu,
                                           const quant_cuda_matrix *w);

/* y [tokens x rows], x [tokens x cols]: device memory aligned to 16, rows ldy and ldx elements
 * apart, both multiples of 8.  act: QUANT_F16 or QUANT_BF16, the type of x and y.  stream: a
 * cudaStream_t; NULL is CUDA's default stream.  Returns once the work is queued.
 * E_ARG: a NULL pointer, alignment, ld or tokens 0.  E_TYPE: act.  E_MEMORY: the workspace is too
 * small.  E_STATE: CUDA refused the launch, err->what is CUDA's text. */
QUANT_API quant_result quant_cuda_matmul(const quant_cuda_device *gpu, const quant_cuda_matrix *w,
                                         void *y, size_t ldy, const void *x, size_t ldx,
                                         size_t tokens, quant_type act, void *workspace,
                                         size_t workspace_size, void *stream, quant_error *err);
#endif /* QUANT_CUDA */

#endif /* QUANT_H */

#ifdef QUANT_IMPLEMENTATION
/* >>impl ========================================================================================*/
#ifndef QUANT_IMPLEMENTED           /* a second inclusion in the same file emits nothing         */
#define QUANT_IMPLEMENTED

/* >>platform ------------------------------------------------------------------------------------
 * The only section, with >>stdio, that knows compilers and systems.  Warnings are switched off
 * before the macros: gcc counts those of a macro where it is defined. */
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wmaybe-uninitialized"   /* -O3: arrays of which n are used    */
#  ifdef __cplusplus
#    pragma GCC diagnostic ignored "-Wextra"       /* g++: condition ? QUANT_Q4_K : some_type   */
#    pragma GCC diagnostic ignored "-Wuninitialized"       /* in g++ 12's avx512fintrin.h         */
#  endif
#endif
#ifdef QUANT_FREESTANDING
#  if !defined(__GNUC__) && !defined(QUANT_MEMCPY)
#    error "QUANT_FREESTANDING needs QUANT_MEMCPY, QUANT_MEMSET and QUANT_MEMCMP on this compiler"
#  endif
#  ifndef QUANT_MEMCPY
#    define QUANT_MEMCPY(d, s, n) __builtin_memcpy(d, s, n)
#  endif
#  ifndef QUANT_MEMSET
#    define QUANT_MEMSET(d, c, n) __builtin_memset(d, c, n)
#  endif
#  ifndef QUANT_MEMCMP
#    define QUANT_MEMCMP(a, b, n) __builtin_memcmp(a, b, n)
#  endif
#  ifndef QUANT_MALLOC
#    define QUANT_MALLOC(n) ((void)(n), (void *)0)
#    define QUANT_FREE(p) ((void)(p))
#  endif
#else
#  include <stdlib.h>
#  include <string.h>
#  ifndef QUANT_MEMCPY
#    define QUANT_MEMCPY memcpy
#  endif
#  ifndef QUANT_MEMSET
#    define QUANT_MEMSET memset
#  endif
#  ifndef QUANT_MEMCMP
#    define QUANT_MEMCMP memcmp
#  endif
#  ifndef QUANT_MALLOC
#    define QUANT_MALLOC(n) malloc(n)
#    define QUANT_FREE(p) free(p)
#  endif
#endif
#ifndef QUANT_FREE
#  error "QUANT_MALLOC and QUANT_FREE go together"
#endif
#ifndef QUANT_ASSERT                /* guards mistakes of the caller, never data from outside     */
#  define QUANT_ASSERT(c) ((void)0)
#endif
#ifdef QUANT_NO_STRINGS
#  define QUANT__TEXT(s) ""
#else
#  define QUANT__TEXT(s) s
#endif

#if defined(__GNUC__) || defined(__clang__)
#  define QUANT__FN static __attribute__((unused))
#  define QUANT__INLINE static inline __attribute__((unused))
#  define QUANT__APART static __attribute__((unused, noinline))      /* a stack frame of its own  */
#else
#  define QUANT__FN static
#  define QUANT__APART static
#  define QUANT__INLINE static inline
#endif
#define QUANT__STATIC_ASSERT(name, c) typedef char quant__assert_##name[(c) ? 1 : -1]

/* Output bytes are a contract, so a*b+c is two roundings everywhere: contraction into FMA and
 * -ffast-math are switched off here and restored in >>end, for the user's own code.  gcc ignores
 * STDC FP_CONTRACT and takes the option; clang is the other way round. */
#if defined(__clang__)
#  pragma clang diagnostic push
#  pragma clang diagnostic ignored "-Wunknown-pragmas"
#  pragma clang diagnostic ignored "-Wignored-pragmas"     /* some targets lack float_control    */
#  pragma float_control(precise, on, push)
#  pragma STDC FP_CONTRACT OFF
#  pragma clang diagnostic pop
#elif defined(__GNUC__)
#  pragma GCC push_options
#  pragma GCC optimize("no-fast-math", "fp-contract=off")
#elif defined(_MSC_VER)
#  pragma float_control(precise, on, push)
#  pragma fp_contract(off)
#endif
#if defined(__clang__) && defined(__FAST_MATH__) && !defined(QUANT_ALLOW_FAST_MATH)
#  error "clang cannot undo -ffast-math in a file: compile the one with QUANT_IMPLEMENTATION with \
-ffp-contract=on and -DQUANT_ALLOW_FAST_MATH, or encoders give other bytes than everywhere else"
#endif
#if defined(__FLT_EVAL_METHOD__) \
    && (__FLT_EVAL_METHOD__ < 0 || __FLT_EVAL_METHOD__ == 1 || __FLT_EVAL_METHOD__ == 2)
#  error "quant.h needs float arithmetic in single precision: on 32-bit x86 -msse2 -mfpmath=sse, \
elsewhere -std=gnu99 or -fexcess-precision=fast"
#endif

/* Kernels for x86-64 are compiled whatever -m flags are set: every function of theirs names its
 * instruction set.  The file includes itself once for each (>>kernels), by the name QUANT_SELF. */
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__)) && !defined(_MSC_VER) \
    && !defined(QUANT_NO_SIMD) && !defined(QUANT_FREESTANDING)
#  define QUANT__X86 1
#  include <immintrin.h>
#  include <cpuid.h>
#  if (defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11)
#    define QUANT__HAS_AVXVNNI 1
#  else
#    define QUANT__HAS_AVXVNNI 0
#  endif
/* for shifts by a count that need not be a constant                                             */
typedef uint16_t quant__u16x16 __attribute__((vector_size(32)));
typedef int32_t quant__i32x8 __attribute__((vector_size(32)));
typedef uint32_t quant__u32x8 __attribute__((vector_size(32)));
typedef int32_t quant__i32x16 __attribute__((vector_size(64)));
typedef uint32_t quant__u32x16 __attribute__((vector_size(64)));
#else
#  define QUANT__X86 0
#endif
/* NEON is in every 64-bit ARM processor and arm_neon.h needs no libc.  On Linux the kernel tells
 * what else there is; elsewhere, and freestanding, it is what the -m flags allow. */
#if defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__) \
    && (defined(__GNUC__) || defined(__clang__)) && !defined(QUANT_NO_SIMD)
#  define QUANT__NEON 1
#  include <arm_neon.h>
#  if defined(__linux__) && !defined(QUANT_FREESTANDING)
#    include <sys/auxv.h>
#    define QUANT__HWCAP 1
#  else
#    define QUANT__HWCAP 0
#  endif
/* Attributes add to the -m flags with clang.  With gcc the assembler wants ARMv8.2 too, and naming
 * that drops the extensions of -m flags, of which there must be none. */
#  if defined(__clang__)
#    define QUANT__ARM(feature) __attribute__((target(feature)))
#  elif defined(__ARM_FEATURE_DOTPROD)
#    define QUANT__ARM(feature) __attribute__((target("+" feature)))
#  else
#    define QUANT__ARM(feature) __attribute__((target("arch=armv8.2-a+" feature)))
#  endif
#  if (defined(__clang__) && __clang_major__ >= 11 \
       && (QUANT__HWCAP || defined(__ARM_FEATURE_DOTPROD))) \
      || (!defined(__clang__) && __GNUC__ >= 10 && (defined(__ARM_FEATURE_DOTPROD) \
          || (QUANT__HWCAP && !defined(__ARM_FEATURE_CRYPTO) && !defined(__ARM_FEATURE_SVE) \
              && !defined(__ARM_FEATURE_AES) && !defined(__ARM_FEATURE_SHA2) \
              && !defined(__ARM_FEATURE_FP16_SCALAR_ARITHMETIC) \
              && !defined(__ARM_FEATURE_COMPLEX))))
#    define QUANT__HAS_DOTPROD 1
#  else
#    define QUANT__HAS_DOTPROD 0
#  endif
#  if QUANT__HAS_DOTPROD && (QUANT__HWCAP || defined(__ARM_FEATURE_MATMUL_INT8))
#    define QUANT__HAS_I8MM 1
#  else
#    define QUANT__HAS_I8MM 0
#  endif
typedef uint8_t quant__u8x16 __attribute__((vector_size(16)));
typedef uint32_t quant__u32x4 __attribute__((vector_size(16)));
#else
#  define QUANT__NEON 0
#endif
/* Kernels for WebAssembly and RISC-V are there where the compiler is told of the instructions. */
#if defined(__wasm_simd128__) && defined(__clang__) && !defined(QUANT_NO_SIMD)
#  define QUANT__VECTORS 1
#  define QUANT__WASM 1
#  include <wasm_simd128.h>
#elif defined(__riscv_v_intrinsic) && defined(__riscv_v_min_vlen) && defined(__riscv_v_elen_fp) \
    && !defined(QUANT_NO_SIMD)
#  if __riscv_v_intrinsic >= 11000 && __riscv_v_min_vlen >= 128 && __riscv_v_elen_fp >= 32
#    define QUANT__VECTORS 1
#    include <riscv_vector.h>
#  endif
#endif
#ifndef QUANT__VECTORS
#  define QUANT__VECTORS 0
#endif
#ifndef QUANT__WASM
#  define QUANT__WASM 0
#endif
#if QUANT__X86 || QUANT__NEON || QUANT__VECTORS
#  ifndef QUANT_SELF
#    define QUANT_SELF "quant.h"
#    define QUANT__OWN_SELF
#  endif
#  ifdef __has_include
#    if !__has_include(QUANT_SELF)
#      error "quant.h includes itself for its SIMD kernels and is not found: define QUANT_SELF as \
its name in quotes, such as \"my_quant.h\", or QUANT_NO_SIMD"
#    endif
#  endif
#endif
/* One instance of the kernels for each type, or one for all: without optimization and under the
 * sanitizers, with which gcc takes minutes for unrolled kernels. */
#if defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) \
    || __has_feature(thread_sanitizer)
#    define QUANT__INSTANCES 0
#  endif
#endif
#if !defined(QUANT__INSTANCES)
#  if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#    define QUANT__INSTANCES 1
#  else
#    define QUANT__INSTANCES 0
#  endif
#endif
#if defined(__clang__)
#  define QUANT__UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#  define QUANT__UNROLL _Pragma("GCC unroll 16")
#else
#  define QUANT__UNROLL
#endif
/* Fetches the lines of n <= 576 bytes from p on, which lies 6 to 10 KiB ahead: far enough to hide
 * DRAM, and near enough to be still in the first-level cache when they are needed.  Past the end it
 * does no harm. */
#if defined(__GNUC__) || defined(__clang__)
#  define QUANT__FETCH(p) __builtin_prefetch(p)
#  define QUANT__AHEAD1(p, n, k) \
    if ((k) < (n)) __builtin_prefetch((const void *)((uintptr_t)(p) + (k)))
#  define QUANT__AHEAD(p, n) do { \
        QUANT__AHEAD1(p, n, 0); QUANT__AHEAD1(p, n, 64); QUANT__AHEAD1(p, n, 128); \
        QUANT__AHEAD1(p, n, 192); QUANT__AHEAD1(p, n, 256); QUANT__AHEAD1(p, n, 320); \
        QUANT__AHEAD1(p, n, 384); QUANT__AHEAD1(p, n, 448); QUANT__AHEAD1(p, n, 512); \
    } while (0)
#else
#  define QUANT__FETCH(p) ((void)0)
#  define QUANT__AHEAD(p, n) ((void)0)
#endif

/* >>detect --------------------------------------------------------------------------------------
 * Which instruction sets there are.  No state: the answer is asked for where a matrix is made. */
#if QUANT__X86
QUANT__FN quant_cpu quant__cpu_machine(void)
{
    uint32_t a, b, c, d, xcr0, high, leaf1;
    quant_cpu r = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if ((c & 0x38001000u) != 0x38001000u) return 0; /* FMA, OSXSAVE, AVX, F16C                   */
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(xcr0), "=d"(high) : "c"(0));    /* xgetbv   */
    if ((xcr0 & 0x06) != 0x06) return 0;            /* the system saves xmm and ymm              */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (b >> 5 & 1) r |= QUANT_CPU_AVX2;
    if ((b >> 5 & 1) && QUANT__HAS_AVXVNNI && __get_cpuid_count(7, 1, &leaf1, &d, &d, &d)
        && (leaf1 >> 4 & 1)) r |= QUANT_CPU_AVXVNNI;
    if ((xcr0 & 0xe0) == 0xe0                       /* ... masks and zmm                         */
        && (b >> 16 & 1) && (b >> 30 & 1) && (b >> 31 & 1)     /* F, BW, VL                      */
        && (c >> 11 & 1))                                      /* VNNI                           */
        r |= QUANT_CPU_AVX512VNNI;
    return r;
}
#elif QUANT__NEON
QUANT__FN quant_cpu quant__cpu_machine(void)
{
    quant_cpu r = QUANT_CPU_NEON;
#if QUANT__HWCAP
    if (QUANT__HAS_DOTPROD && (getauxval(16) >> 20 & 1)) r |= QUANT_CPU_DOTPROD;  /* AT_HWCAP    */
    if (QUANT__HAS_I8MM && (r & QUANT_CPU_DOTPROD)
        && (getauxval(26) >> 13 & 1)) r |= QUANT_CPU_I8MM;                        /* AT_HWCAP2   */
#else
    r |= (QUANT__HAS_DOTPROD ? QUANT_CPU_DOTPROD : 0) | (QUANT__HAS_I8MM ? QUANT_CPU_I8MM : 0);
#endif
    return r;
}
#endif

QUANT_API quant_cpu quant_cpu_compiled(void)
{
#if QUANT__X86
    return QUANT_CPU_AVX2 | (QUANT__HAS_AVXVNNI ? QUANT_CPU_AVXVNNI : 0) | QUANT_CPU_AVX512VNNI;
#elif QUANT__NEON
    return QUANT_CPU_NEON | (QUANT__HAS_DOTPROD ? QUANT_CPU_DOTPROD : 0)
         | (QUANT__HAS_I8MM ? QUANT_CPU_I8MM : 0);
#elif QUANT__VECTORS
    return QUANT__WASM ? QUANT_CPU_WASM128 : QUANT_CPU_RVV;
#else
    return QUANT_CPU_SCALAR;
#endif
}

QUANT_API quant_cpu quant_cpu_detect(void)
{
#if QUANT__X86 || QUANT__NEON
    return quant__cpu_machine();
#elif QUANT__VECTORS
    return quant_cpu_compiled();
#else
    return QUANT_CPU_SCALAR;
#endif
}

QUANT_API const char *quant_cpu_name(quant_cpu cpu)
{
    return cpu & QUANT_CPU_AVX512VNNI ? "avx512vnni" : cpu & QUANT_CPU_AVXVNNI ? "avxvnni"
         : cpu & QUANT_CPU_AVX2 ? "avx2"
         : cpu & QUANT_CPU_I8MM ? "i8mm" : cpu & QUANT_CPU_DOTPROD ? "dotprod"
         : cpu & QUANT_CPU_NEON ? "neon"
         : cpu & QUANT_CPU_WASM128 ? "wasm128" : cpu & QUANT_CPU_RVV ? "rvv" : "scalar";
}

/* >>float ---------------------------------------------------------------------------------------
 * Bits, half floats and little-endian loads.  A block is bytes at any address; numbers in it are
 * put together byte by byte, which compilers turn into one load where the machine allows it. */

QUANT__INLINE uint32_t quant__bits(float f)
{
    uint32_t u;
    QUANT_MEMCPY(&u, &f, 4);
    return u;
}

QUANT__INLINE float quant__float(uint32_t u)
{
    float f;
    QUANT_MEMCPY(&f, &u, 4);
    return f;
}

QUANT__INLINE uint32_t quant__le16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

QUANT__INLINE uint32_t quant__le32(const uint8_t *p)
{
    return quant__le16(p) | quant__le16(p + 2) << 16;
}

QUANT__INLINE uint64_t quant__le64(const uint8_t *p)
{
    return (uint64_t)quant__le32(p) | (uint64_t)quant__le32(p + 4) << 32;
}

QUANT__INLINE void quant__put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

QUANT__INLINE void quant__put32(uint8_t *p, uint32_t v)
{
    quant__put16(p, v);
    quant__put16(p + 2, v >> 16);
}

QUANT__INLINE void quant__put64(uint8_t *p, uint64_t v)
{
    quant__put32(p, (uint32_t)v);
    quant__put32(p + 4, (uint32_t)(v >> 32));
}

QUANT__INLINE float quant__abs(float x)
{
    return quant__float(quant__bits(x) & 0x7fffffffu);
}

QUANT__INLINE int quant__finite(float x)
{
    return (quant__bits(x) & 0x7f800000u) != 0x7f800000u;
}

/* IEEE half [sign 1][exponent 5, bias 15][mantissa 10] to float.  Exact, also under FTZ/DAZ: a
 * subnormal half (units of 2^-24 = 5.96e-8) is converted from an integer. */
QUANT__INLINE float quant__half(uint32_t h)
{
    uint32_t m = (h & 0x7fffu) << 13;                   /* exponent and mantissa, in place       */
    uint32_t normal = m + 0x38000000u;                  /* bias 15 -> 127: + 112 << 23           */
    uint32_t small = quant__bits((float)(int32_t)(h & 0x3ffu) * 5.9604644775390625e-8f);
    normal += m >= 0x0f800000u ? 0x38000000u : 0;       /* exponent 31: infinity or NaN          */
    return quant__float((m < 0x00800000u ? small : normal) | (h & 0x8000u) << 16);
}

/* float to half, round to nearest even, overflow to infinity, NaN to a quiet NaN. */
QUANT__INLINE uint32_t quant__to_half(float f)
{
    uint32_t u = quant__bits(f), a = u & 0x7fffffffu, r;
    if (a >= 0x47800000u)                               /* 65536 and up: overflow, inf, NaN      */
        r = a > 0x7f800000u ? 0x7e00u : 0x7c00u;
    else if (a >= 0x38800000u)                          /* 2^-14 and up: carries may reach inf   */
        r = (a - 0x38000000u + 0xfffu + (a >> 13 & 1)) >> 13;
    else                                                /* adding 0.5 leaves units of 2^-24      */
        r = quant__bits(quant__float(a) + 0.5f) - 0x3f000000u;
    return r | (u >> 16 & 0x8000u);
}

/* bfloat16 is the upper half of a float; round to nearest even, NaN stays NaN. */
QUANT__INLINE uint32_t quant__to_bf16(float f)
{
    uint32_t u = quant__bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (u >> 16) | 0x40u;
    return (u + 0x7fffu + (u >> 16 & 1)) >> 16;
}

/* E8M0 exponent byte of MXFP4, halved because the FP4 table is doubled: 2^(e - 128).  e = 0 and 1
 * give subnormal floats. */
QUANT__INLINE float quant__e8m0_half(uint32_t e)
{
    return quant__float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
}

/* UE4M3 scale byte of NVFP4 [exponent 4, bias 7][mantissa 3], halved like the above.  0 and 0x7f
 * decode to 0.  Bit 7 is ignored. */
QUANT__INLINE float quant__ue4m3_half(uint32_t b)
{
    uint32_t e = b >> 3 & 15, m = b & 7;
    if (b == 0 || b == 0x7f) return 0;
    return e ? quant__float((e + 119) << 23 | m << 20) : (float)(int32_t)m / 1024;
}

/* Square root, correctly rounded, for x >= 0 and finite.  No libm: one instruction where there is
 * one, else bit by bit (the same result). */
QUANT__FN float quant__sqrt_soft(float x)
{
    uint32_t u = quant__bits(x), m = u & 0x7fffffu, root = 0, bit;
    int32_t e = (int32_t)(u >> 23) - 127;
    uint64_t rest;
    if (u == 0 || u == 0x80000000u) return x;
    if (e == -127) {                                    /* subnormal: shift the top bit to 23    */
        e = -126;
        while (!(m & 0x800000u)) { m <<= 1; e--; }
    } else {
        m |= 0x800000u;
    }
    if (e & 1) { m <<= 1; e--; }                        /* m * 2^(e - 23), e even                */
    rest = (uint64_t)m << 25;                           /* root of m << 25 has 25 bits           */
    for (bit = 1u << 24; bit; bit >>= 1) {
        uint64_t t = (uint64_t)root + bit;
        if (t * t <= rest) root += bit;
    }
    /* 24 bits and one to round by; an exact half cannot happen, the square of 25 bits is odd     */
    root = (root >> 1) + (root & 1);
    return quant__float((uint32_t)((e / 2 + 126) << 23) + root);
}

#if defined(QUANT_SQRTF)
#  define quant__sqrt(x) QUANT_SQRTF(x)
#elif defined(__SSE2__) && defined(__GNUC__)
/* asm: under -ffast-math clang makes an estimate of the intrinsic, depending on the processor */
QUANT__INLINE float quant__sqrt(float x)
{
    float r;
    __asm__("sqrtss %1, %0" : "=x"(r) : "x"(x));
    return r;
}
#elif defined(__SSE2__) || defined(_M_X64)
#  include <emmintrin.h>
QUANT__INLINE float quant__sqrt(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
#elif defined(__aarch64__) && defined(__GNUC__)
QUANT__INLINE float quant__sqrt(float x)
{
    float r;
    __asm__("fsqrt %s0, %s1" : "=w"(r) : "w"(x));
    return r;
}
#else
QUANT__INLINE float quant__sqrt(float x) { return quant__sqrt_soft(x); }
#endif

/* >>checked -------------------------------------------------------------------------------------
 * Sizes from outside.  Each returns 1 when the result would not fit. */
QUANT__INLINE int quant__add64(uint64_t *r, uint64_t a, uint64_t b)
{
    *r = a + b;
    return *r < a;
}

QUANT__INLINE int quant__mul64(uint64_t *r, uint64_t a, uint64_t b)
{
    *r = a * b;
    return b != 0 && a > UINT64_MAX / b;
}

QUANT__INLINE int quant__pad64(uint64_t *r, uint64_t n, uint64_t alignment /* power of two */)
{
    *r = 0;
    if (n > UINT64_MAX - (alignment - 1)) return 1;
    *r = (n + alignment - 1) & ~(alignment - 1);
    return 0;
}

/* One allocation is carved twice by the same routine: first with base NULL to sum it up, then for
 * real.  Every piece is aligned to 16. */
typedef struct quant__carve {
    uint8_t *base;
    size_t   used;
    int      overflow;
} quant__carve;

QUANT__FN void *quant__take(quant__carve *c, uint64_t count, size_t size)
{
    size_t at = c->used, max = (size_t)-1;
    if (size == 0 || count > (max - 15 - at) / size) { c->overflow = 1; return NULL; }
    c->used = (at + (size_t)count * size + 15) & ~(size_t)15;
    return c->base ? c->base + at : NULL;
}

QUANT__FN void *quant__default_alloc(void *user, size_t size)
{
    (void)user;
    return QUANT_MALLOC(size ? size : 1);
}

QUANT__FN void quant__default_free(void *user, void *p, size_t size)
{
    (void)user;
    (void)size;
    QUANT_FREE(p);
}

QUANT__FN quant_alloc quant__get_alloc(const quant_alloc *a)
{
    quant_alloc r;
    if (a && a->alloc && a->free) return *a;
    r.alloc = quant__default_alloc;
    r.free = quant__default_free;
    r.user = NULL;
    return r;
}

/* >>text ----------------------------------------------------------------------------------------*/
QUANT_API const char *quant_result_text(quant_result r)
{
    switch (r) {
#define QUANT__X(name, value, text) case QUANT_##name: return QUANT__TEXT(text);
        QUANT_RESULTS(QUANT__X)
#undef QUANT__X
        default: return QUANT__TEXT("unknown result");
    }
}

QUANT__FN size_t quant__strlen(const char *s)
{
    size_t n = 0;
    while (s[n]) n++;
    return n;
}

/* Fills *e (may be NULL) and returns the code. */
QUANT__FN quant_result quant__fail(quant_error *e, quant_result code, uint64_t where,
                                   const char *what)
{
    if (e) {
        QUANT_MEMSET(e, 0, sizeof *e);
        e->code = code;
        e->where = where;
        e->what = what;
    }
    return code;
}

/* Adds the name of a key or tensor: cut to fit, anything but printable ASCII becomes '?'. */
QUANT__FN void quant__fail_name(quant_error *e, const char *p, size_t n)
{
    size_t i, max = sizeof e->name - 1;
    if (!e) return;
    for (i = 0; i < n && i < max; i++) e->name[i] = p[i] >= 32 && p[i] < 127 ? p[i] : '?';
    if (n > max) QUANT_MEMCPY(e->name + max - 3, "...", 3);
    e->name[n < max ? n : max] = 0;
}

QUANT__FN quant_result quant__fail_size(quant_error *e, quant_result code, uint64_t where,
                                        const char *what, uint64_t need, uint64_t have)
{
    quant__fail(e, code, where, what);
    if (e) { e->need = need; e->have = have; }
    return code;
}

typedef struct quant__line { char *p; size_t size, n; } quant__line;

QUANT__FN void quant__line_text(quant__line *l, const char *s)
{
    for (; *s; s++) if (l->n + 1 < l->size) l->p[l->n++] = *s;
}

QUANT__FN void quant__line_number(quant__line *l, uint64_t v)
{
    char t[21], *p = t + 20;
    *p = 0;
    do *--p = (char)('0' + v % 10); while (v /= 10);
    quant__line_text(l, p);
}

QUANT_API size_t quant_error_text(char *buf, size_t size, const quant_error *e)
{
    quant__line l;
    l.p = buf;
    l.size = size;
    l.n = 0;
    if (!size) return 0;
    if (e->name[0]) {
        quant__line_text(&l, e->name);
        quant__line_text(&l, ": ");
    }
    quant__line_text(&l, e->what && e->what[0] ? e->what : quant_result_text(e->code));
    if (e->need || e->have) {
        quant__line_text(&l, ": needs ");
        quant__line_number(&l, e->need);
        quant__line_text(&l, e->code == QUANT_E_LIMIT ? ", allowed are " : " bytes, has ");
        quant__line_number(&l, e->have);
    }
    if (e->where) {
        quant__line_text(&l, " (at ");
        quant__line_number(&l, e->where);
        quant__line_text(&l, ")");
    }
    buf[l.n] = 0;
    return l.n;
}

/* >>names ---------------------------------------------------------------------------------------
 * Index over the names of an array whose elements begin with a quant_str: open addressing, slots
 * hold position + 1.  A file can be made so that all its names collide; hence the probe limit, far
 * above what a table at most half full shows by chance. */
#ifndef QUANT_NO_GGUF
enum { QUANT__PROBES = 1024 };
#define QUANT__NONE ((size_t)-1)

QUANT__FN size_t quant__name_slots(size_t count)        /* count < 2^30                          */
{
    size_t n = 4;
    while (n < 2 * count) n *= 2;
    return n;
}

QUANT__FN uint32_t quant__hash(const char *p, size_t n) /* FNV-1a, then Murmur's last mix        */
{
    uint32_t h = 2166136261u;
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ (uint8_t)p[i]) * 16777619u;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

QUANT__INLINE int quant__same(quant_str a, const char *p, size_t n)
{
    return a.n == n && QUANT_MEMCMP(a.p, p, n) == 0;
}

/* Position of the name, or QUANT__NONE.  *slot: where it is or would go, or QUANT__NONE when the
 * probe limit is reached. */
QUANT__FN size_t quant__name_find(const uint32_t *slots, size_t n_slots, const void *base,
                                  size_t stride, const char *p, size_t n, size_t *slot)
{
    size_t i, at;
    if (slot) *slot = QUANT__NONE;
    if (!n_slots) return QUANT__NONE;
    at = quant__hash(p, n) & (n_slots - 1);
    for (i = 0; i < QUANT__PROBES && i < n_slots; i++, at = (at + 1) & (n_slots - 1)) {
        quant_str s;
        if (slot) *slot = at;
        if (!slots[at]) return QUANT__NONE;
        QUANT_MEMCPY(&s, (const uint8_t *)base + (slots[at] - 1) * stride, sizeof s);
        if (quant__same(s, p, n)) return slots[at] - 1;
    }
    if (slot) *slot = QUANT__NONE;
    return QUANT__NONE;
}

/* Adds element i.  0: done, 1: the name is there already, 2: too many collisions. */
QUANT__FN int quant__name_add(uint32_t *slots, size_t n_slots, const void *base, size_t stride,
                              size_t i)
{
    quant_str s;
    size_t slot;
    QUANT_MEMCPY(&s, (const uint8_t *)base + i * stride, sizeof s);
    if (quant__name_find(slots, n_slots, base, stride, s.p, s.n, &slot) != QUANT__NONE) return 1;
    if (slot == QUANT__NONE) return 2;
    slots[slot] = (uint32_t)i + 1;
    return 0;
}
#endif

/* >>blocks --------------------------------------------------------------------------------------
 * The layout of every quantized type.  Fields are bytes (multi-byte numbers are little-endian), so
 * a block has no padding and no alignment.  Notation: x[i] weight i of the block, d and dmin half
 * floats, "lo/hi" the low and high nibble of a byte. */
#define QUANT__K 256                /* weights of a super-block                                  */

/* Q4_0  |d 16|qs 16x8|            x = (q - 8) d
 * qs[j]: lo = q of x[j], hi = q of x[j + 16] */
typedef struct { uint8_t d[2], qs[16]; } quant__q4_0;

/* Q4_1  |d 16|m 16|qs 16x8|       x = q d + m             nibbles as Q4_0 */
typedef struct { uint8_t d[2], m[2], qs[16]; } quant__q4_1;

/* Q5_0  |d 16|qh 32|qs 16x8|      x = (q - 16) d
 * nibbles as Q4_0; bit i of qh is bit 4 of q of x[i] */
typedef struct { uint8_t d[2], qh[4], qs[16]; } quant__q5_0;

/* Q5_1  |d 16|m 16|qh 32|qs 16x8| x = q d + m             bits as Q5_0 */
typedef struct { uint8_t d[2], m[2], qh[4], qs[16]; } quant__q5_1;

/* Q8_0  |d 16|qs 32xi8|           x = q d */
typedef struct { uint8_t d[2]; int8_t qs[32]; } quant__q8_0;

/* Q8_1  |d 16|s 16|qs 32xi8|      x = q d, s = d sum q: activations only, never in files */
typedef struct { uint8_t d[2], s[2]; int8_t qs[32]; } quant__q8_1;

/* Q2_K  |scales 16x8|qs 64x8|d 16|dmin 16|      16 sub-blocks of 16
 * scales[s]: lo = scale, hi = minimum of sub-block s;  x = d scale q - dmin minimum
 * qs[32 h + l], bits 2j..2j+1: q of x[128 h + 32 j + l] */
typedef struct { uint8_t scales[16], qs[64], d[2], dmin[2]; } quant__q2_k;

/* Q3_K  |hmask 32x8|qs 64x8|scales 12x8|d 16|   16 sub-blocks of 16
 * two bits of q as Q2_K; bit 4h+j of hmask[l] is the third bit of x[128 h + 32 j + l]
 * x = d (scale - 32) (q - 4); 6-bit scale s: low nibble in scales[s % 8] (lo for s < 8, else hi),
 * top two bits in scales[8 + s % 4] at 2 (s / 4) */
typedef struct { uint8_t hmask[32], qs[64], scales[12], d[2]; } quant__q3_k;

/* Q4_K  |d 16|dmin 16|scales 12x8|qs 128x8|     8 sub-blocks of 32
 * x = d scale q - dmin minimum
 * scales, 6 bits each:  byte 0-3   hh ssssss   scale of s = 0..3, hh = top bits of scale s + 4
 *                       byte 4-7   hh mmmmmm   minimum of 0..3,   hh = top bits of minimum s + 4
 *                       byte 8-11  mmmm ssss   low nibbles of scale and minimum of s = 4..7
 * qs[32 c + l]: lo = q of x[64 c + l], hi = q of x[64 c + 32 + l] */
typedef struct { uint8_t d[2], dmin[2], scales[12], qs[128]; } quant__q4_k;

/* Q5_K  |d 16|dmin 16|scales 12x8|qh 32x8|qs 128x8|
 * as Q4_K; bit s of qh[l] is bit 4 of q of x[32 s + l] */
typedef struct { uint8_t d[2], dmin[2], scales[12], qh[32], qs[128]; } quant__q5_k;

/* Q6_K  |ql 128x8|qh 64x8|scales 16xi8|d 16|    16 sub-blocks of 16, x = d scale (q - 32)
 * half h, quarter j: low nibble in ql[64 h + 32 (j % 2) + l], lo for j < 2, else hi;
 * top two bits in qh[32 h + l] at 2j;  the weight is x[128 h + 32 j + l] */
typedef struct { uint8_t ql[128], qh[64]; int8_t scales[16]; uint8_t d[2]; } quant__q6_k;

/* Q8_K  |d f32|qs 256xi8|bsums 16xi16|  activations only: x = q d, bsums = sums of 16 */
typedef struct { uint8_t d[4]; int8_t qs[256]; uint8_t bsums[32]; } quant__q8_k;

/* IQ4_NL  |d 16|qs 16x8|          x = d K[q], nibbles as Q4_0, K = quant__iq4_values */
typedef struct { uint8_t d[2], qs[16]; } quant__iq4_nl;

/* IQ4_XS  |d 16|scales_h 16|scales_l 4x8|qs 128x8|   8 sub-blocks of 32 laid out as IQ4_NL
 * 6-bit scale s: low nibble in scales_l[s / 2] (lo for even s), top two bits in scales_h at 2s
 * x = d (scale - 32) K[q] */
typedef struct { uint8_t d[2], scales_h[2], scales_l[4], qs[128]; } quant__iq4_xs;

/* TQ1_0  |qs 48x8|qh 4x8|d 16|    x = (t - 1) d, t = 0, 1, 2
 * a byte is ceil(v 256 / 243), v a number of five base-3 digits, the first most significant
 * qs[m], m < 32: digit n = x[32 n + m];  qs[32 + m], m < 16: digit n = x[160 + 16 n + m]
 * qh[m]: digits 0 to 3 = x[240 + 4 n + m] */
typedef struct { uint8_t qs[48], qh[4], d[2]; } quant__tq1_0;

/* TQ2_0  |qs 64x8|d 16|           x = (q - 1) d, bits as Q2_K */
typedef struct { uint8_t qs[64], d[2]; } quant__tq2_0;

/* MXFP4  |e 8|qs 16x8|            x = F[q] 2^(e - 128), nibbles as Q4_0, F = quant__fp4_values
 * (doubled E2M1 values); e = 255 is NaN by the standard, here it decodes as 2^127 */
typedef struct { uint8_t e, qs[16]; } quant__mxfp4;

/* NVFP4  |d 4x8|qs 32x8|          4 sub-blocks of 16, x = F[q] UE4M3(d[s]) / 2
 * qs[8 s + j]: lo = q of x[16 s + j], hi = q of x[16 s + 8 + j].  A tensor scale multiplies x. */
typedef struct { uint8_t d[4], qs[32]; } quant__nvfp4;

/* Q1_0  |d 16|qs 16x8|            128 weights; bit i % 8 of qs[i / 8]: 1 = +d, 0 = -d */
typedef struct { uint8_t d[2], qs[16]; } quant__q1_0;

/* Q2_0  |d 16|qs 16x8|            64 weights; 2 bits at 2 (i % 4) of qs[i / 4], x = (q - 1) d */
typedef struct { uint8_t d[2], qs[16]; } quant__q2_0;

/* The codebook types.  g runs over the eight groups of 32, l over the groups of 8 in it, n over all
 * 32 groups of 8.  A grid entry gives 8 (IQ3: 4) magnitudes; sign bit 1 = negative.  A 7-bit sign
 * code s stands for 8 bits with even parity (the eighth makes the number of ones even).
 *
 * IQ2_XXS  |d 16|g: idx 4x8, a 32|       x = d (1/2 + a >> 28) / 4 grid[idx[l]], signs a >> 7l */
typedef struct { uint8_t d[2], qs[64]; } quant__iq2_xxs;

/* IQ2_XS  |d 16|q 32x16|scales 8x8|      q[n] = idx 9 + sign code 7 bits
 * scales[g]: lo for l < 2, else hi;  x = d (1/2 + scale) / 4 grid[idx] */
typedef struct { uint8_t d[2], qs[64], scales[8]; } quant__iq2_xs;

/* IQ2_S  |d 16|idx 32x8|signs 32x8|qh 8x8|scales 8x8|
 * index 10 bits: idx[n] and bits 2l..2l+1 of qh[g];  signs[n] whole;  scales as IQ2_XS */
typedef struct { uint8_t d[2], qs[32], signs[32], qh[8], scales[8]; } quant__iq2_s;

/* IQ3_XXS  |d 16|idx 64x8|a 8x32|        group of 8: entries idx[2n], idx[2n + 1] of 4 weights
 * x = d (1/2 + a[g] >> 28) / 2 grid, signs a[g] >> 7l */
typedef struct { uint8_t d[2], qs[64], gas[32]; } quant__iq3_xxs;

/* IQ3_S  |d 16|idx 64x8|qh 8x8|signs 32x8|scales 4x8|
 * group of 4 e = 0..7 of g: index idx[8g + e] and bit e of qh[g];  signs[n] as IQ2_S
 * scales[g / 2]: lo for even g;  x = d (1 + 2 scale) grid */
typedef struct { uint8_t d[2], qs[64], qh[8], signs[32], scales[4]; } quant__iq3_s;

/* IQ1_S  |d 16|idx 32x8|qh 8x16|         index 11 bits: idx[n] and bits 3l..3l+2 of qh[g]
 * qh bits 12-14 = scale, bit 15 = sign of delta;  x = d (2 scale + 1) (grid + delta 1/8) */
typedef struct { uint8_t d[2], qs[32], qh[16]; } quant__iq1_s;

/* IQ1_M  |idx 32x8|qh 16x8|scales 4x16|  nibble l % 2 of qh[2g + l / 2]: index bits 8-10, bit 3 =
 * sign of delta;  3-bit scale at 6 (g % 2) + 3 (l / 2) of scales[g / 2]; their top nibbles are d */
typedef struct { uint8_t qs[32], qh[16], scales[8]; } quant__iq1_m;

#define QUANT__SIZE(type, n) QUANT__STATIC_ASSERT(type, sizeof(quant__##type) == (n))
QUANT__SIZE(q4_0, 18);   QUANT__SIZE(q4_1, 20);    QUANT__SIZE(q5_0, 22);   QUANT__SIZE(q5_1, 24);
QUANT__SIZE(q8_0, 34);   QUANT__SIZE(q8_1, 36);    QUANT__SIZE(q2_k, 84);   QUANT__SIZE(q3_k, 110);
QUANT__SIZE(q4_k, 144);  QUANT__SIZE(q5_k, 176);   QUANT__SIZE(q6_k, 210);  QUANT__SIZE(q8_k, 292);
QUANT__SIZE(iq4_nl, 18); QUANT__SIZE(iq4_xs, 136); QUANT__SIZE(tq1_0, 54);  QUANT__SIZE(tq2_0, 66);
QUANT__SIZE(mxfp4, 17);  QUANT__SIZE(nvfp4, 36);   QUANT__SIZE(q1_0, 18);   QUANT__SIZE(q2_0, 18);
QUANT__SIZE(iq2_xxs, 66); QUANT__SIZE(iq2_xs, 74); QUANT__SIZE(iq2_s, 82);
QUANT__SIZE(iq3_xxs, 98); QUANT__SIZE(iq3_s, 110); QUANT__SIZE(iq1_s, 50);  QUANT__SIZE(iq1_m, 56);
#undef QUANT__SIZE

#ifdef QUANT_NO_ENCODE
#  define QUANT__E 0
#else
#  define QUANT__E QUANT_TF_ENCODE
#endif
#ifdef QUANT_NO_IQ
#  define QUANT__GRID 0
#else
#  define QUANT__GRID (QUANT_TF_DECODE | QUANT__E)
#endif

/* The type table, in the order of the ids. */
#define QUANT__PLAIN(name, size, flags) { name, 1, size, flags }
#define QUANT__BLOCK(name, len, block, flags) \
    { name, len, sizeof(quant__##block), QUANT_TF_QUANTIZED | (flags) }
#define QUANT__GONE(name) { name, 0, 0, QUANT_TF_REMOVED }
#define QUANT__DE (QUANT_TF_DECODE | QUANT__E)
#define QUANT__DEI (QUANT__DE | QUANT_TF_IMPORTANCE)
#define QUANT__DEW (QUANT__DEI | QUANT_TF_WHOLE_ROWS)
#define QUANT__GI (QUANT__GRID | QUANT_TF_IMPORTANCE)
#define QUANT__GN (QUANT__GI | QUANT_TF_NEEDS_IMPORTANCE)
static const quant_type_info quant__types[QUANT_TYPE_COUNT] = {
    QUANT__PLAIN("F32", 4, QUANT__DE),              QUANT__PLAIN("F16", 2, QUANT__DE),
    QUANT__BLOCK("Q4_0", 32, q4_0, QUANT__DEW),     QUANT__BLOCK("Q4_1", 32, q4_1, QUANT__DEW),
    QUANT__GONE("Q4_2 (removed)"),                  QUANT__GONE("Q4_3 (removed)"),
    QUANT__BLOCK("Q5_0", 32, q5_0, QUANT__DEW),     QUANT__BLOCK("Q5_1", 32, q5_1, QUANT__DEW),
    QUANT__BLOCK("Q8_0", 32, q8_0, QUANT__DE),      QUANT__BLOCK("Q8_1", 32, q8_1, 0),
    QUANT__BLOCK("Q2_K", 256, q2_k, QUANT__DEI),    QUANT__BLOCK("Q3_K", 256, q3_k, QUANT__DEI),
    QUANT__BLOCK("Q4_K", 256, q4_k, QUANT__DEI),    QUANT__BLOCK("Q5_K", 256, q5_k, QUANT__DEI),
    QUANT__BLOCK("Q6_K", 256, q6_k, QUANT__DEI),    QUANT__BLOCK("Q8_K", 256, q8_k, 0),
    QUANT__BLOCK("IQ2_XXS", 256, iq2_xxs, QUANT__GN),
    QUANT__BLOCK("IQ2_XS", 256, iq2_xs, QUANT__GN),
    QUANT__BLOCK("IQ3_XXS", 256, iq3_xxs, QUANT__GI), QUANT__BLOCK("IQ1_S", 256, iq1_s, QUANT__GN),
    QUANT__BLOCK("IQ4_NL", 32, iq4_nl, QUANT__DEI), QUANT__BLOCK("IQ3_S", 256, iq3_s, QUANT__GI),
    QUANT__BLOCK("IQ2_S", 256, iq2_s, QUANT__GI),
    QUANT__BLOCK("IQ4_XS", 256, iq4_xs, QUANT__DEI),
    QUANT__PLAIN("I8", 1, 0),                       QUANT__PLAIN("I16", 2, 0),
    QUANT__PLAIN("I32", 4, 0),                      QUANT__PLAIN("I64", 8, 0),
    QUANT__PLAIN("F64", 8, 0),                      QUANT__BLOCK("IQ1_M", 256, iq1_m, QUANT__GI),
    QUANT__PLAIN("BF16", 2, QUANT__DE),             QUANT__GONE("Q4_0_4_4 (removed)"),
    QUANT__GONE("Q4_0_4_8 (removed)"),              QUANT__GONE("Q4_0_8_8 (removed)"),
    QUANT__BLOCK("TQ1_0", 256, tq1_0, QUANT__DE),   QUANT__BLOCK("TQ2_0", 256, tq2_0, QUANT__DE),
    QUANT__GONE("IQ4_NL_4_4 (removed)"),            QUANT__GONE("IQ4_NL_4_8 (removed)"),
    QUANT__GONE("IQ4_NL_8_8 (removed)"),            QUANT__BLOCK("MXFP4", 32, mxfp4, QUANT__DE),
    QUANT__BLOCK("NVFP4", 64, nvfp4, QUANT__DE),    QUANT__BLOCK("Q1_0", 128, q1_0, QUANT__DE),
    QUANT__BLOCK("Q2_0", 64, q2_0, QUANT__DE)
};

/* Where a block has half floats: 1 + offset of d, and of m, s or dmin; 0 for none.  IQ1_M spreads
 * its d over four nibbles. */
static const uint8_t quant__halves[QUANT_TYPE_COUNT][2] = {
    {0, 0}, {1, 0}, {1, 0}, {1, 3}, {0, 0}, {0, 0}, {1, 0}, {1, 3}, {1, 0}, {1, 3},
    {81, 83}, {109, 0}, {1, 3}, {1, 3}, {209, 0}, {0, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0},
    {1, 0}, {1, 0}, {1, 0}, {1, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0},
    {0, 0}, {0, 0}, {0, 0}, {0, 0}, {53, 0}, {65, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0},
    {0, 0}, {1, 0}, {1, 0}
};

QUANT_API const quant_type_info *quant_type_get(quant_type t)
{
    return t < QUANT_TYPE_COUNT ? &quant__types[t] : NULL;
}

QUANT_API const char *quant_type_name(quant_type t)
{
    return t < QUANT_TYPE_COUNT ? quant__types[t].name : "unknown";
}

/* Equal but for the case of ASCII letters. */
QUANT__FN int quant__same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        char x = *a >= 'a' && *a <= 'z' ? (char)(*a - 32) : *a;
        char y = *b >= 'a' && *b <= 'z' ? (char)(*b - 32) : *b;
        if (x != y) return 0;
    }
    return *a == *b;
}

QUANT_API quant_type quant_type_find(const char *name)
{
    quant_type t;
    for (t = 0; t < QUANT_TYPE_COUNT; t++)
        if (quant__types[t].block_len && quant__same_name(quant__types[t].name, name)) return t;
    return QUANT_TYPE_COUNT;
}

QUANT_API size_t quant_row_size(quant_type t, size_t cols)
{
    const quant_type_info *i = quant_type_get(t);
    if (!i || !i->block_len || cols % i->block_len) return 0;
    if (cols / i->block_len > (size_t)-1 / i->block_size) return 0;
    return cols / i->block_len * i->block_size;
}

/* >>grids ---------------------------------------------------------------------------------------
 * Codebooks.  The FP4 and IQ4 levels, and the grids of the IQ types in compact form: a code holds
 * one digit per element, element j in bits 2j (IQ1, IQ2: eight digits) or 3j (IQ3: four).  The
 * numbers are part of the file format (ggml-quants.c, MIT licence); no formula gives them. */
static const int8_t quant__iq4_values[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
};
static const int8_t quant__fp4_values[16] = {   /* E2M1 doubled                                  */
    0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12
};

#ifndef QUANT_NO_IQ
static const uint8_t quant__iq2_digits[4] = { 8, 25, 43, 0 };
static const uint8_t quant__iq3_digits[8] = { 4, 12, 20, 28, 36, 44, 52, 62 };

static const uint16_t quant__grid_iq2_xxs[256] = {
    0, 2, 5, 8, 10, 17, 20, 32, 34, 40, 42, 65, 68, 80, 88, 97, 100, 128, 130, 138, 162, 257, 260,
    272, 277, 320, 388, 408, 512, 514, 546, 642, 1025, 1028, 1040, 1057, 1060, 1088, 1090, 1096,
    1120, 1153, 1156, 1168, 1188, 1280, 1282, 1288, 1312, 1350, 1385, 1408, 1425, 1545, 1552,
    1600, 1668, 1700, 2048, 2053, 2056, 2068, 2088, 2113, 2116, 2128, 2130, 2184, 2308, 2368,
    2562, 2580, 4097, 4100, 4112, 4129, 4160, 4192, 4228, 4240, 4245, 4352, 4360, 4384, 4432,
    4442, 4480, 4644, 4677, 5120, 5128, 5152, 5157, 5193, 5248, 5400, 5474, 5632, 5654, 6145,
    6148, 6160, 6208, 6273, 6400, 6405, 6560, 6737, 8192, 8194, 8202, 8260, 8289, 8320, 8322,
    8489, 8520, 8704, 8706, 9217, 9220, 9232, 9280, 9302, 9472, 9537, 9572, 9872, 10248, 10272,
    10388, 10820, 16385, 16388, 16400, 16408, 16417, 16420, 16448, 16456, 16470, 16480, 16513,
    16516, 16528, 16640, 16672, 16737, 16768, 16773, 16897, 16912, 16968, 16982, 17000, 17408,
    17416, 17440, 17536, 17561, 17682, 17700, 17920, 18433, 18436, 18448, 18496, 18501, 18688,
    18776, 18785, 18818, 19013, 19088, 20480, 20488, 20497, 20505, 20512, 20608, 20616, 20740,
    20802, 20900, 21137, 21648, 21650, 21770, 22017, 22100, 22528, 22545, 22553, 22628, 22848,
    23048, 24580, 24592, 24640, 24680, 24832, 24917, 25112, 25184, 25600, 25605, 25872, 25874,
    25988, 26690, 32768, 32770, 32778, 32833, 32898, 33028, 33048, 33088, 33297, 33793, 33796,
    33808, 33813, 33856, 33888, 34048, 34118, 34196, 34313, 34368, 34400, 34818, 35076, 35345,
    36868, 36880, 36900, 36928, 37025, 37142, 37248, 37445, 37888, 37922, 37956, 38225, 39041,
    39200, 40962, 41040, 41093, 41225, 41472, 42008, 43088, 43268
};
static const uint16_t quant__grid_iq2_xs[512] = {
    0, 2, 5, 8, 10, 17, 20, 22, 25, 32, 34, 37, 40, 65, 68, 70, 73, 80, 82, 85, 88, 97, 100, 128,
    130, 133, 136, 145, 148, 153, 160, 257, 260, 262, 265, 272, 274, 277, 280, 282, 289, 292, 320,
    322, 325, 328, 337, 340, 352, 360, 385, 388, 400, 512, 514, 517, 520, 529, 532, 544, 577, 580,
    592, 597, 640, 650, 1025, 1028, 1030, 1033, 1040, 1042, 1045, 1048, 1057, 1060, 1088, 1090,
    1093, 1096, 1105, 1108, 1110, 1120, 1153, 1156, 1168, 1280, 1282, 1285, 1288, 1297, 1300,
    1312, 1345, 1348, 1360, 1377, 1408, 1537, 1540, 1552, 1574, 1600, 1602, 1668, 2048, 2050,
    2053, 2056, 2058, 2065, 2068, 2080, 2085, 2113, 2116, 2128, 2136, 2176, 2208, 2218, 2305,
    2308, 2320, 2368, 2433, 2441, 2560, 2592, 2600, 2710, 2720, 4097, 4100, 4102, 4105, 4112,
    4114, 4117, 4120, 4129, 4132, 4160, 4162, 4165, 4168, 4177, 4180, 4192, 4202, 4225, 4228,
    4240, 4352, 4354, 4357, 4360, 4369, 4372, 4384, 4417, 4420, 4432, 4480, 4500, 4502, 4609,
    4612, 4614, 4624, 4672, 4704, 5120, 5122, 5125, 5128, 5137, 5140, 5152, 5185, 5188, 5193,
    5200, 5220, 5248, 5377, 5380, 5392, 5440, 5632, 5652, 5705, 6145, 6148, 6160, 6162, 6208,
    6228, 6278, 6400, 6405, 6502, 6737, 6825, 8192, 8194, 8197, 8200, 8202, 8209, 8212, 8224,
    8257, 8260, 8272, 8320, 8352, 8449, 8452, 8464, 8512, 8520, 8549, 8704, 8738, 8832, 8872,
    9217, 9220, 9232, 9257, 9280, 9472, 9537, 9554, 9625, 9729, 9754, 9894, 10240, 10248, 10250,
    10272, 10325, 10376, 10402, 10600, 10640, 10760, 10784, 10882, 10888, 10890, 16385, 16388,
    16390, 16393, 16400, 16402, 16405, 16408, 16417, 16420, 16448, 16450, 16453, 16456, 16458,
    16465, 16468, 16480, 16485, 16513, 16516, 16528, 16640, 16642, 16645, 16648, 16657, 16660,
    16672, 16705, 16708, 16720, 16768, 16773, 16802, 16897, 16900, 16912, 16914, 16937, 16960,
    17408, 17410, 17413, 17416, 17425, 17428, 17433, 17440, 17473, 17476, 17488, 17536, 17556,
    17665, 17668, 17680, 17700, 17728, 17818, 17920, 17930, 17988, 18000, 18433, 18436, 18448,
    18496, 18501, 18516, 18530, 18688, 18705, 18756, 18768, 18793, 18948, 20480, 20482, 20485,
    20488, 20497, 20500, 20512, 20520, 20545, 20548, 20560, 20608, 20737, 20740, 20752, 20757,
    20800, 20802, 20992, 21060, 21162, 21505, 21508, 21520, 21537, 21568, 21600, 21633, 21665,
    21760, 21768, 21888, 21896, 22049, 22120, 22177, 22528, 22548, 22593, 22608, 22681, 22810,
    22848, 22850, 23173, 24577, 24580, 24592, 24640, 24660, 24674, 24710, 24745, 24832, 25124,
    25162, 25234, 25600, 25622, 25872, 25920, 25925, 26020, 26625, 26730, 26917, 27142, 27220,
    27234, 32768, 32770, 32773, 32776, 32785, 32788, 32800, 32810, 32833, 32836, 32848, 32896,
    32898, 32936, 32938, 33025, 33028, 33030, 33040, 33088, 33105, 33113, 33280, 33312, 33408,
    33410, 33440, 33448, 33793, 33796, 33808, 33810, 33813, 33856, 33888, 33929, 34048, 34116,
    34213, 34328, 34410, 34816, 34824, 34853, 34906, 34944, 34946, 34984, 35078, 35362, 35456,
    35464, 35478, 35496, 36865, 36868, 36880, 36928, 36950, 36996, 37120, 37154, 37220, 37462,
    37513, 37888, 37893, 37956, 37968, 37976, 38185, 38288, 38290, 38465, 38993, 39078, 39241,
    39445, 39520, 40960, 40962, 40968, 40970, 40992, 41002, 41120, 41297, 41305, 41382, 41472,
    41474, 41480, 41514, 41600, 41632, 42048, 42133, 42597, 42648, 43018, 43040, 43042, 43048,
    43168, 43176, 43268, 43396, 43398, 43560, 43562, 43665, 43690
};
static const uint16_t quant__grid_iq2_s[1024] = {
    0, 2, 5, 8, 10, 17, 20, 22, 25, 32, 34, 37, 40, 65, 68, 70, 73, 80, 82, 85, 88, 97, 100, 102,
    105, 128, 130, 133, 136, 145, 148, 160, 165, 170, 257, 260, 262, 265, 272, 274, 277, 280, 289,
    292, 320, 322, 325, 328, 337, 340, 342, 345, 352, 357, 360, 385, 388, 400, 402, 405, 417, 420,
    512, 514, 517, 520, 529, 532, 544, 554, 577, 580, 582, 585, 592, 597, 640, 645, 650, 660, 674,
    1025, 1028, 1030, 1033, 1040, 1042, 1045, 1048, 1057, 1060, 1062, 1065, 1088, 1090, 1093,
    1096, 1098, 1105, 1108, 1110, 1113, 1120, 1122, 1125, 1153, 1156, 1158, 1161, 1168, 1173,
    1176, 1185, 1188, 1280, 1282, 1285, 1288, 1290, 1297, 1300, 1302, 1305, 1312, 1317, 1320,
    1345, 1348, 1350, 1353, 1360, 1362, 1365, 1368, 1377, 1380, 1408, 1410, 1413, 1416, 1425,
    1428, 1440, 1537, 1540, 1542, 1545, 1552, 1557, 1600, 1605, 1608, 1617, 1620, 1632, 1665,
    1668, 1680, 2048, 2050, 2053, 2056, 2065, 2068, 2070, 2073, 2080, 2085, 2090, 2113, 2116,
    2118, 2121, 2128, 2130, 2133, 2136, 2145, 2148, 2176, 2181, 2196, 2218, 2305, 2308, 2320,
    2322, 2325, 2328, 2337, 2368, 2373, 2376, 2385, 2388, 2400, 2433, 2448, 2560, 2577, 2580,
    2594, 2600, 2602, 2640, 2713, 4097, 4100, 4102, 4105, 4112, 4114, 4117, 4120, 4129, 4132,
    4134, 4160, 4162, 4165, 4168, 4177, 4180, 4182, 4185, 4192, 4194, 4197, 4200, 4225, 4228,
    4230, 4240, 4245, 4248, 4257, 4260, 4352, 4354, 4357, 4360, 4362, 4369, 4372, 4374, 4377,
    4384, 4386, 4389, 4392, 4417, 4420, 4422, 4425, 4432, 4434, 4437, 4440, 4449, 4452, 4480,
    4482, 4485, 4488, 4497, 4500, 4609, 4612, 4617, 4624, 4629, 4641, 4644, 4672, 4677, 4689,
    4692, 4737, 4740, 4752, 5120, 5122, 5125, 5128, 5137, 5140, 5142, 5145, 5152, 5157, 5160,
    5185, 5188, 5190, 5193, 5200, 5202, 5205, 5208, 5217, 5220, 5248, 5250, 5253, 5256, 5265,
    5268, 5280, 5377, 5380, 5382, 5385, 5392, 5394, 5397, 5400, 5409, 5412, 5440, 5442, 5445,
    5448, 5457, 5460, 5472, 5505, 5508, 5520, 5632, 5637, 5640, 5649, 5652, 5664, 5697, 5700,
    5712, 5760, 5802, 6145, 6148, 6150, 6153, 6160, 6165, 6168, 6177, 6208, 6210, 6213, 6216,
    6225, 6228, 6240, 6273, 6276, 6400, 6402, 6405, 6408, 6417, 6420, 6432, 6465, 6468, 6480,
    6505, 6562, 6660, 6672, 6720, 6742, 8192, 8194, 8197, 8200, 8209, 8212, 8214, 8217, 8224,
    8229, 8234, 8257, 8260, 8272, 8274, 8277, 8292, 8320, 8330, 8340, 8362, 8449, 8452, 8464,
    8466, 8469, 8481, 8512, 8514, 8517, 8529, 8532, 8544, 8577, 8580, 8592, 8704, 8714, 8738,
    8744, 8746, 8772, 8784, 8840, 8842, 8872, 9217, 9220, 9222, 9225, 9232, 9237, 9240, 9249,
    9252, 9280, 9282, 9285, 9288, 9297, 9300, 9312, 9345, 9348, 9360, 9472, 9477, 9480, 9489,
    9492, 9504, 9537, 9540, 9552, 9574, 9600, 9729, 9732, 9744, 9792, 9817, 10240, 10245, 10257,
    10260, 10305, 10308, 10320, 10378, 10410, 10497, 10500, 10512, 10645, 10762, 10786, 10852,
    10888, 10890, 16385, 16388, 16390, 16393, 16400, 16402, 16405, 16408, 16410, 16417, 16420,
    16422, 16448, 16450, 16453, 16456, 16458, 16465, 16468, 16470, 16473, 16480, 16482, 16485,
    16513, 16516, 16528, 16533, 16536, 16545, 16548, 16640, 16642, 16645, 16648, 16657, 16660,
    16662, 16665, 16672, 16674, 16677, 16705, 16708, 16710, 16713, 16720, 16722, 16725, 16728,
    16737, 16740, 16768, 16770, 16773, 16776, 16785, 16788, 16800, 16897, 16900, 16912, 16914,
    16917, 16920, 16932, 16960, 16965, 16968, 16977, 16980, 16992, 17025, 17028, 17408, 17410,
    17413, 17416, 17418, 17425, 17428, 17430, 17433, 17440, 17442, 17445, 17448, 17473, 17476,
    17478, 17481, 17488, 17490, 17493, 17496, 17505, 17508, 17536, 17538, 17541, 17544, 17553,
    17556, 17568, 17665, 17668, 17670, 17673, 17680, 17682, 17685, 17688, 17697, 17700, 17728,
    17730, 17733, 17736, 17745, 17748, 17760, 17770, 17793, 17796, 17808, 17920, 17922, 17925,
    17928, 17937, 17940, 17952, 17985, 17988, 18000, 18048, 18085, 18433, 18436, 18441, 18448,
    18450, 18453, 18456, 18465, 18468, 18496, 18498, 18501, 18504, 18513, 18516, 18528, 18564,
    18576, 18688, 18690, 18693, 18696, 18705, 18708, 18720, 18753, 18756, 18768, 18816, 18838,
    18945, 18948, 18960, 19008, 20480, 20482, 20485, 20488, 20497, 20500, 20502, 20505, 20512,
    20514, 20517, 20520, 20545, 20548, 20550, 20553, 20560, 20562, 20565, 20568, 20577, 20580,
    20608, 20610, 20613, 20616, 20625, 20628, 20737, 20740, 20742, 20745, 20752, 20754, 20757,
    20760, 20769, 20772, 20800, 20802, 20805, 20808, 20817, 20820, 20832, 20865, 20868, 20880,
    20992, 20997, 21000, 21009, 21012, 21024, 21057, 21060, 21072, 21097, 21120, 21505, 21508,
    21510, 21513, 21520, 21522, 21525, 21528, 21537, 21540, 21568, 21570, 21573, 21576, 21585,
    21588, 21600, 21633, 21636, 21648, 21760, 21762, 21765, 21768, 21777, 21780, 21792, 21825,
    21828, 21840, 21888, 22017, 22020, 22032, 22054, 22080, 22528, 22530, 22533, 22536, 22545,
    22548, 22560, 22593, 22596, 22608, 22618, 22656, 22785, 22788, 22800, 22848, 23040, 23065,
    23173, 23208, 24577, 24580, 24582, 24592, 24594, 24597, 24600, 24609, 24612, 24640, 24645,
    24648, 24657, 24660, 24672, 24708, 24720, 24832, 24834, 24837, 24840, 24849, 24852, 24864,
    24897, 24900, 24912, 24960, 24985, 25092, 25104, 25152, 25174, 25249, 25600, 25605, 25608,
    25617, 25620, 25632, 25665, 25668, 25680, 25728, 25857, 25860, 25872, 25920, 25930, 25960,
    26002, 26112, 26260, 26625, 26628, 26640, 26725, 26776, 26880, 26922, 27202, 27297, 32768,
    32770, 32773, 32776, 32785, 32788, 32793, 32800, 32805, 32833, 32836, 32848, 32850, 32853,
    32856, 32865, 32896, 32901, 32913, 32916, 33025, 33028, 33033, 33040, 33042, 33045, 33048,
    33057, 33060, 33088, 33090, 33093, 33096, 33105, 33108, 33153, 33156, 33168, 33193, 33280,
    33285, 33290, 33297, 33300, 33345, 33348, 33360, 33793, 33796, 33798, 33801, 33808, 33810,
    33813, 33816, 33825, 33856, 33858, 33861, 33864, 33873, 33876, 33888, 33921, 33924, 33936,
    34048, 34050, 34053, 34056, 34065, 34068, 34080, 34113, 34116, 34128, 34176, 34186, 34305,
    34308, 34320, 34345, 34368, 34816, 34821, 34833, 34836, 34881, 34884, 34896, 34978, 35073,
    35076, 35136, 35173, 35362, 35416, 35418, 35458, 35490, 36865, 36868, 36873, 36880, 36882,
    36885, 36888, 36900, 36928, 36930, 36933, 36936, 36945, 36948, 36960, 36993, 36996, 37008,
    37120, 37125, 37137, 37140, 37185, 37188, 37200, 37210, 37377, 37380, 37392, 37440, 37542,
    37888, 37890, 37893, 37896, 37905, 37908, 37920, 37953, 37956, 37968, 38016, 38038, 38145,
    38148, 38160, 38208, 38296, 38305, 38400, 38470, 38500, 38913, 38916, 38928, 38950, 38976,
    39081, 39168, 39241, 39250, 39568, 40960, 40965, 40970, 40980, 40994, 41002, 41025, 41028,
    41040, 41122, 41130, 41280, 41317, 41474, 41482, 41506, 41512, 41514, 41602, 41608, 41610,
    41640, 41985, 41988, 42000, 42048, 42121, 42148, 42240, 42265, 42577, 43018, 43048, 43170,
    43348, 43398, 43528, 43530, 43552, 43554, 43560, 43656, 43690
};
static const uint16_t quant__grid_iq3_xxs[256] = {
    0, 2, 4, 9, 11, 15, 16, 18, 25, 34, 59, 61, 65, 67, 72, 74, 81, 85, 88, 90, 97, 108, 120, 128,
    130, 132, 137, 144, 146, 153, 155, 159, 169, 175, 189, 193, 199, 200, 202, 213, 248, 267, 287,
    292, 303, 315, 317, 321, 327, 346, 362, 413, 436, 456, 460, 462, 483, 497, 513, 515, 520, 522,
    529, 531, 536, 538, 540, 551, 552, 576, 578, 585, 592, 594, 641, 643, 648, 650, 657, 664, 698,
    704, 706, 720, 729, 742, 758, 769, 773, 808, 848, 852, 870, 889, 901, 978, 992, 1024, 1026,
    1033, 1035, 1040, 1042, 1046, 1049, 1058, 1089, 1091, 1093, 1096, 1098, 1105, 1112, 1139,
    1143, 1144, 1152, 1154, 1161, 1167, 1168, 1170, 1183, 1184, 1197, 1217, 1224, 1228, 1272,
    1276, 1309, 1323, 1347, 1367, 1377, 1404, 1473, 1475, 1486, 1509, 1537, 1544, 1546, 1553,
    1555, 1576, 1589, 1594, 1600, 1602, 1616, 1625, 1636, 1638, 1665, 1667, 1672, 1685, 1706,
    1722, 1737, 1755, 1816, 1831, 1850, 1856, 1862, 1874, 1901, 1932, 1950, 1971, 2011, 2032,
    2052, 2063, 2077, 2079, 2091, 2095, 2172, 2192, 2207, 2208, 2224, 2230, 2247, 2277, 2308,
    2345, 2356, 2389, 2403, 2424, 2501, 2504, 2506, 2520, 2570, 2593, 2616, 2624, 2630, 2646,
    2669, 2700, 2714, 2746, 2754, 2795, 2824, 2835, 2839, 2874, 2882, 2905, 2984, 3028, 3042,
    3092, 3108, 3110, 3124, 3153, 3185, 3215, 3252, 3288, 3294, 3364, 3397, 3434, 3483, 3523,
    3537, 3587, 3589, 3591, 3592, 3610, 3626, 3670, 3680, 3722, 3749, 3754, 3776, 3789, 3803,
    3824, 3857, 3873, 3904, 3906, 3924, 3992
};
static const uint16_t quant__grid_iq3_s[512] = {
    0, 1, 2, 5, 7, 8, 9, 10, 12, 14, 16, 17, 21, 27, 32, 34, 37, 39, 41, 43, 48, 50, 57, 60, 63,
    64, 65, 66, 68, 72, 73, 77, 80, 83, 87, 89, 93, 100, 113, 117, 122, 128, 129, 133, 135, 136,
    139, 142, 145, 149, 152, 156, 162, 165, 167, 169, 171, 184, 187, 195, 201, 205, 208, 210, 217,
    219, 222, 228, 232, 234, 247, 249, 253, 256, 267, 271, 273, 276, 282, 288, 291, 297, 312, 322,
    324, 336, 338, 342, 347, 353, 357, 359, 374, 379, 390, 393, 395, 409, 426, 441, 448, 450, 452,
    464, 466, 470, 475, 488, 492, 512, 513, 514, 516, 520, 521, 523, 525, 527, 528, 530, 537, 540,
    542, 556, 558, 561, 570, 576, 577, 579, 582, 584, 588, 593, 600, 603, 609, 616, 618, 632, 638,
    640, 650, 653, 655, 656, 660, 666, 672, 675, 685, 688, 698, 705, 708, 711, 712, 715, 721, 727,
    728, 732, 737, 754, 760, 771, 773, 778, 780, 793, 795, 802, 806, 808, 812, 833, 840, 843, 849,
    856, 858, 873, 912, 916, 919, 932, 934, 961, 963, 968, 970, 977, 989, 993, 1010, 1016, 1024,
    1025, 1027, 1029, 1031, 1032, 1034, 1036, 1038, 1041, 1043, 1047, 1048, 1050, 1057, 1059,
    1061, 1064, 1066, 1079, 1080, 1083, 1085, 1088, 1090, 1096, 1099, 1103, 1106, 1109, 1113,
    1116, 1122, 1129, 1153, 1156, 1159, 1169, 1171, 1176, 1183, 1185, 1195, 1199, 1209, 1212,
    1216, 1218, 1221, 1225, 1234, 1236, 1241, 1243, 1250, 1256, 1270, 1281, 1287, 1296, 1299,
    1306, 1309, 1313, 1338, 1341, 1348, 1353, 1362, 1375, 1376, 1387, 1400, 1408, 1410, 1415,
    1425, 1453, 1457, 1477, 1481, 1494, 1496, 1507, 1512, 1538, 1545, 1547, 1549, 1551, 1554,
    1561, 1563, 1565, 1570, 1572, 1575, 1577, 1587, 1593, 1601, 1603, 1605, 1612, 1617, 1619,
    1632, 1648, 1658, 1662, 1664, 1674, 1680, 1690, 1692, 1704, 1729, 1736, 1740, 1745, 1747,
    1751, 1752, 1761, 1763, 1767, 1773, 1787, 1795, 1801, 1806, 1810, 1817, 1834, 1840, 1844,
    1857, 1864, 1866, 1877, 1882, 1892, 1902, 1915, 1934, 1953, 1985, 1987, 2000, 2002, 2013,
    2048, 2052, 2058, 2064, 2068, 2071, 2074, 2081, 2088, 2104, 2114, 2119, 2121, 2123, 2130,
    2136, 2141, 2147, 2153, 2157, 2177, 2179, 2184, 2189, 2193, 2203, 2208, 2223, 2226, 2232,
    2244, 2249, 2251, 2256, 2258, 2265, 2269, 2304, 2306, 2324, 2335, 2336, 2361, 2373, 2375,
    2385, 2418, 2443, 2460, 2480, 2504, 2509, 2520, 2531, 2537, 2562, 2568, 2572, 2578, 2592,
    2596, 2599, 2602, 2614, 2620, 2625, 2627, 2629, 2634, 2641, 2650, 2682, 2688, 2697, 2707,
    2712, 2718, 2731, 2754, 2759, 2760, 2775, 2788, 2793, 2805, 2811, 2817, 2820, 2832, 2842,
    2854, 2890, 2902, 2921, 2923, 2978, 3010, 3012, 3026, 3081, 3083, 3085, 3097, 3099, 3120,
    3136, 3152, 3159, 3188, 3210, 3228, 3234, 3245, 3250, 3256, 3264, 3276, 3281, 3296, 3349,
    3363, 3378, 3392, 3395, 3420, 3440, 3461, 3488, 3529, 3531, 3584, 3588, 3591, 3600, 3602,
    3614, 3616, 3628, 3634, 3650, 3657, 3668, 3683, 3685, 3713, 3716, 3720, 3726, 3729, 3736,
    3753, 3778, 3802, 3805, 3819, 3841, 3845, 3851, 3856, 3880, 3922, 3938, 3970, 3993, 4032
};
static const uint16_t quant__grid_iq1_s[2048] = {
    0, 2, 5, 8, 10, 17, 21, 32, 34, 40, 42, 69, 81, 84, 86, 101, 128, 130, 136, 138, 149, 160,
    162, 168, 170, 260, 261, 273, 276, 278, 281, 282, 293, 321, 326, 329, 338, 341, 346, 353, 356,
    358, 360, 389, 401, 404, 406, 421, 512, 514, 520, 522, 533, 544, 546, 552, 554, 581, 593, 601,
    612, 617, 640, 642, 648, 650, 657, 661, 665, 672, 674, 680, 682, 1041, 1044, 1046, 1061, 1089,
    1097, 1109, 1114, 1124, 1125, 1169, 1177, 1189, 1281, 1284, 1285, 1286, 1301, 1304, 1306,
    1321, 1344, 1349, 1354, 1360, 1361, 1364, 1365, 1366, 1369, 1376, 1378, 1381, 1384, 1386,
    1409, 1425, 1429, 1432, 1434, 1441, 1444, 1445, 1446, 1449, 1556, 1561, 1601, 1604, 1616,
    1618, 1621, 1624, 1632, 1633, 1638, 1641, 1669, 1681, 1684, 1689, 2048, 2050, 2056, 2058,
    2069, 2080, 2082, 2088, 2090, 2117, 2129, 2134, 2149, 2176, 2178, 2184, 2186, 2197, 2208,
    2210, 2216, 2218, 2309, 2321, 2324, 2329, 2340, 2341, 2369, 2384, 2385, 2389, 2401, 2404,
    2409, 2449, 2452, 2454, 2457, 2469, 2560, 2562, 2568, 2570, 2581, 2592, 2594, 2600, 2602,
    2629, 2641, 2649, 2657, 2661, 2688, 2690, 2693, 2696, 2698, 2709, 2720, 2722, 2728, 2730,
    4112, 4113, 4116, 4121, 4132, 4133, 4161, 4164, 4176, 4181, 4184, 4193, 4196, 4197, 4201,
    4241, 4244, 4246, 4257, 4261, 4353, 4356, 4358, 4361, 4368, 4370, 4373, 4376, 4385, 4388,
    4393, 4421, 4426, 4432, 4433, 4434, 4436, 4437, 4438, 4441, 4448, 4453, 4484, 4498, 4501,
    4513, 4516, 4625, 4628, 4630, 4645, 4672, 4678, 4681, 4690, 4693, 4696, 4698, 4708, 4710,
    4741, 4753, 4756, 4758, 4773, 5121, 5126, 5129, 5140, 5141, 5144, 5145, 5153, 5158, 5185,
    5189, 5190, 5192, 5194, 5201, 5204, 5205, 5206, 5209, 5218, 5221, 5224, 5252, 5257, 5264,
    5268, 5269, 5272, 5273, 5274, 5281, 5284, 5285, 5289, 5378, 5381, 5386, 5393, 5396, 5397,
    5398, 5401, 5408, 5410, 5413, 5416, 5418, 5441, 5444, 5445, 5446, 5457, 5458, 5460, 5461,
    5462, 5465, 5466, 5473, 5476, 5477, 5478, 5481, 5504, 5506, 5508, 5509, 5512, 5514, 5520,
    5521, 5524, 5525, 5526, 5529, 5530, 5536, 5538, 5541, 5633, 5636, 5637, 5638, 5653, 5654,
    5656, 5658, 5665, 5670, 5696, 5698, 5700, 5701, 5704, 5706, 5713, 5717, 5718, 5720, 5721,
    5729, 5732, 5733, 5736, 5737, 5738, 5766, 5770, 5778, 5781, 5796, 5801, 6161, 6166, 6181,
    6209, 6212, 6214, 6217, 6224, 6229, 6232, 6234, 6240, 6241, 6244, 6246, 6249, 6277, 6289,
    6292, 6309, 6416, 6418, 6421, 6426, 6433, 6437, 6466, 6468, 6469, 6472, 6481, 6484, 6485,
    6486, 6489, 6490, 6496, 6501, 6506, 6537, 6545, 6546, 6549, 6552, 6561, 6566, 6569, 6665,
    6678, 6692, 6694, 6724, 6726, 6729, 6736, 6738, 6741, 6744, 6753, 6758, 6761, 6789, 6801,
    6806, 6810, 8192, 8194, 8200, 8202, 8213, 8224, 8226, 8229, 8232, 8234, 8261, 8273, 8281,
    8289, 8293, 8320, 8322, 8328, 8330, 8341, 8352, 8354, 8357, 8360, 8362, 8453, 8465, 8468,
    8473, 8485, 8514, 8516, 8521, 8533, 8536, 8538, 8545, 8548, 8549, 8550, 8581, 8592, 8598,
    8601, 8613, 8705, 8712, 8714, 8721, 8725, 8736, 8738, 8744, 8746, 8773, 8785, 8790, 8793,
    8805, 8833, 8840, 8842, 8849, 8853, 8864, 8866, 8872, 8874, 9221, 9236, 9238, 9241, 9253,
    9284, 9285, 9286, 9289, 9298, 9301, 9304, 9306, 9318, 9349, 9361, 9364, 9369, 9377, 9381,
    9481, 9493, 9505, 9513, 9536, 9541, 9544, 9553, 9556, 9557, 9561, 9570, 9573, 9576, 9609,
    9616, 9620, 9621, 9624, 9626, 9633, 9636, 9638, 9641, 9733, 9744, 9746, 9753, 9765, 9793,
    9801, 9813, 9824, 9825, 9833, 9860, 9862, 9872, 9882, 10240, 10242, 10248, 10250, 10261,
    10272, 10274, 10280, 10282, 10309, 10321, 10324, 10341, 10368, 10370, 10376, 10378, 10400,
    10402, 10408, 10410, 10505, 10513, 10516, 10521, 10533, 10566, 10569, 10578, 10581, 10593,
    10596, 10598, 10601, 10629, 10640, 10646, 10649, 10660, 10661, 10752, 10754, 10760, 10762,
    10784, 10786, 10792, 10794, 10821, 10833, 10838, 10841, 10853, 10880, 10882, 10888, 10890,
    10901, 10912, 10914, 10920, 10922, 16389, 16401, 16406, 16421, 16457, 16466, 16469, 16472,
    16474, 16481, 16484, 16486, 16532, 16537, 16545, 16550, 16640, 16641, 16644, 16646, 16649,
    16658, 16661, 16662, 16664, 16666, 16673, 16678, 16681, 16709, 16712, 16714, 16721, 16724,
    16725, 16726, 16729, 16730, 16741, 16744, 16746, 16769, 16772, 16774, 16784, 16786, 16789,
    16800, 16801, 16802, 16901, 16913, 16916, 16918, 16933, 16961, 16978, 16981, 16986, 16996,
    17001, 17033, 17044, 17061, 17409, 17429, 17433, 17449, 17477, 17480, 17482, 17489, 17492,
    17493, 17494, 17505, 17506, 17509, 17512, 17514, 17537, 17542, 17545, 17552, 17554, 17557,
    17568, 17569, 17577, 17665, 17666, 17669, 17674, 17681, 17684, 17685, 17686, 17689, 17696,
    17701, 17706, 17729, 17732, 17733, 17734, 17737, 17744, 17745, 17748, 17749, 17750, 17752,
    17753, 17761, 17764, 17765, 17766, 17769, 17794, 17796, 17797, 17800, 17809, 17812, 17813,
    17814, 17817, 17818, 17829, 17832, 17834, 17921, 17925, 17929, 17940, 17941, 17944, 17946,
    17953, 17956, 17961, 17984, 17986, 17989, 17992, 18000, 18001, 18002, 18005, 18006, 18009,
    18018, 18021, 18024, 18049, 18053, 18058, 18068, 18069, 18081, 18084, 18086, 18437, 18449,
    18453, 18458, 18469, 18498, 18505, 18512, 18517, 18520, 18529, 18532, 18534, 18537, 18565,
    18577, 18580, 18582, 18585, 18597, 18689, 18693, 18694, 18698, 18704, 18708, 18709, 18712,
    18721, 18724, 18726, 18752, 18757, 18762, 18769, 18770, 18772, 18773, 18774, 18777, 18784,
    18786, 18789, 18790, 18794, 18822, 18825, 18834, 18837, 18838, 18840, 18849, 18852, 18854,
    18857, 18966, 19012, 19014, 19017, 19029, 19032, 19034, 19044, 19049, 19092, 19109, 20481,
    20484, 20485, 20486, 20489, 20498, 20501, 20506, 20513, 20516, 20521, 20544, 20549, 20552,
    20561, 20564, 20565, 20566, 20569, 20581, 20584, 20614, 20617, 20629, 20632, 20640, 20641,
    20646, 20649, 20741, 20744, 20745, 20746, 20753, 20756, 20757, 20758, 20760, 20761, 20768,
    20773, 20774, 20776, 20778, 20801, 20804, 20805, 20806, 20809, 20816, 20817, 20818, 20820,
    20821, 20822, 20824, 20825, 20826, 20833, 20836, 20837, 20838, 20841, 20866, 20869, 20881,
    20884, 20885, 20886, 20889, 20896, 20901, 20906, 20993, 20998, 21010, 21013, 21018, 21025,
    21028, 21058, 21061, 21066, 21073, 21076, 21077, 21078, 21081, 21090, 21093, 21125, 21136,
    21138, 21141, 21145, 21146, 21156, 21508, 21509, 21521, 21524, 21525, 21526, 21528, 21529,
    21537, 21541, 21544, 21546, 21569, 21572, 21573, 21574, 21577, 21578, 21584, 21585, 21588,
    21589, 21590, 21592, 21593, 21594, 21601, 21602, 21604, 21605, 21606, 21609, 21632, 21640,
    21642, 21649, 21652, 21653, 21654, 21657, 21665, 21668, 21669, 21674, 21761, 21762, 21764,
    21765, 21766, 21769, 21776, 21777, 21778, 21780, 21781, 21782, 21785, 21786, 21793, 21796,
    21797, 21798, 21801, 21824, 21825, 21826, 21828, 21829, 21830, 21832, 21833, 21840, 21841,
    21842, 21844, 21845, 21846, 21848, 21849, 21850, 21856, 21857, 21860, 21861, 21862, 21864,
    21865, 21866, 21889, 21892, 21893, 21897, 21898, 21904, 21905, 21908, 21909, 21910, 21912,
    21913, 21921, 21924, 21925, 21926, 21929, 22016, 22017, 22018, 22020, 22022, 22024, 22025,
    22033, 22036, 22037, 22040, 22041, 22048, 22049, 22050, 22052, 22053, 22054, 22056, 22057,
    22081, 22085, 22086, 22088, 22089, 22090, 22096, 22097, 22098, 22100, 22101, 22102, 22104,
    22105, 22106, 22113, 22116, 22117, 22121, 22146, 22149, 22150, 22152, 22153, 22154, 22161,
    22165, 22170, 22178, 22181, 22182, 22184, 22185, 22532, 22533, 22534, 22537, 22544, 22549,
    22552, 22561, 22570, 22597, 22600, 22602, 22609, 22612, 22613, 22614, 22616, 22617, 22624,
    22626, 22628, 22629, 22658, 22665, 22672, 22674, 22677, 22680, 22689, 22697, 22785, 22786,
    22789, 22794, 22801, 22804, 22805, 22806, 22809, 22821, 22849, 22852, 22853, 22854, 22857,
    22864, 22865, 22866, 22868, 22869, 22870, 22872, 22873, 22874, 22881, 22884, 22885, 22886,
    22889, 22913, 22917, 22921, 22929, 22932, 22933, 22934, 22936, 22937, 22949, 23044, 23048,
    23061, 23066, 23072, 23077, 23078, 23081, 23109, 23112, 23113, 23121, 23125, 23126, 23128,
    23129, 23138, 23141, 23144, 23146, 23169, 23178, 23186, 23189, 23190, 23192, 23194, 23201,
    24581, 24596, 24598, 24601, 24613, 24644, 24656, 24661, 24662, 24664, 24666, 24673, 24676,
    24678, 24681, 24705, 24726, 24741, 24833, 24836, 24838, 24841, 24850, 24853, 24865, 24866,
    24870, 24873, 24901, 24905, 24913, 24917, 24918, 24921, 24933, 24934, 24938, 24964, 24970,
    24978, 24981, 24993, 24998, 25001, 25105, 25110, 25113, 25152, 25153, 25158, 25173, 25174,
    25176, 25184, 25221, 25233, 25238, 25253, 25617, 25618, 25621, 25622, 25626, 25633, 25638,
    25641, 25664, 25666, 25669, 25672, 25674, 25681, 25684, 25685, 25686, 25689, 25690, 25696,
    25698, 25701, 25732, 25733, 25737, 25744, 25746, 25748, 25749, 25750, 25752, 25754, 25761,
    25764, 25769, 25861, 25864, 25866, 25873, 25877, 25878, 25881, 25924, 25925, 25926, 25929,
    25936, 25937, 25940, 25941, 25942, 25945, 25953, 25956, 25957, 25958, 25961, 25990, 25993,
    25994, 26001, 26005, 26006, 26009, 26010, 26018, 26021, 26022, 26024, 26114, 26121, 26133,
    26144, 26150, 26152, 26153, 26176, 26181, 26184, 26186, 26193, 26196, 26197, 26198, 26200,
    26202, 26208, 26213, 26216, 26240, 26242, 26245, 26250, 26260, 26262, 26264, 26265, 26272,
    26276, 26278, 26282, 26646, 26649, 26661, 26689, 26706, 26709, 26714, 26721, 26729, 26757,
    26769, 26776, 26790, 26881, 26884, 26896, 26901, 26913, 26916, 26918, 26921, 26944, 26945,
    26949, 26950, 26952, 26961, 26964, 26965, 26966, 26969, 26976, 26981, 26986, 27010, 27012,
    27018, 27029, 27041, 27044, 27045, 27049, 27153, 27158, 27160, 27201, 27204, 27209, 27216,
    27221, 27224, 27226, 27236, 27237, 27241, 27270, 27284, 27288, 27290, 27302, 32768, 32770,
    32776, 32778, 32800, 32802, 32808, 32810, 32837, 32848, 32849, 32852, 32854, 32857, 32869,
    32896, 32898, 32904, 32906, 32917, 32928, 32930, 32936, 32938, 33029, 33041, 33044, 33046,
    33049, 33061, 33089, 33092, 33097, 33104, 33106, 33109, 33110, 33112, 33113, 33124, 33126,
    33129, 33157, 33161, 33172, 33174, 33177, 33189, 33280, 33282, 33288, 33290, 33301, 33312,
    33314, 33320, 33322, 33361, 33364, 33369, 33381, 33408, 33410, 33416, 33418, 33429, 33440,
    33442, 33448, 33450, 33812, 33817, 33857, 33860, 33873, 33877, 33882, 33889, 33892, 33897,
    33940, 33945, 34049, 34057, 34066, 34069, 34074, 34086, 34089, 34112, 34113, 34117, 34120,
    34129, 34132, 34133, 34134, 34137, 34138, 34149, 34150, 34152, 34154, 34177, 34180, 34182,
    34185, 34192, 34194, 34197, 34200, 34214, 34321, 34326, 34329, 34341, 34369, 34372, 34377,
    34378, 34384, 34389, 34393, 34394, 34401, 34406, 34410, 34437, 34449, 34458, 34468, 34816,
    34818, 34824, 34826, 34837, 34848, 34850, 34856, 34858, 34881, 34885, 34897, 34900, 34905,
    34917, 34921, 34944, 34946, 34952, 34954, 34965, 34976, 34978, 34984, 34986, 35077, 35078,
    35089, 35092, 35094, 35109, 35137, 35140, 35142, 35145, 35152, 35154, 35157, 35162, 35169,
    35172, 35205, 35222, 35225, 35237, 35328, 35330, 35336, 35338, 35349, 35360, 35362, 35368,
    35370, 35397, 35409, 35412, 35414, 35456, 35458, 35464, 35466, 35477, 35488, 35490, 35496,
    35498, 36869, 36881, 36886, 36888, 36889, 36901, 36929, 36934, 36937, 36949, 36952, 36954,
    36969, 36970, 36997, 37009, 37012, 37014, 37017, 37029, 37121, 37124, 37126, 37129, 37136,
    37141, 37144, 37146, 37153, 37156, 37158, 37161, 37184, 37189, 37200, 37201, 37204, 37205,
    37206, 37209, 37218, 37221, 37252, 37254, 37266, 37269, 37272, 37281, 37284, 37286, 37289,
    37381, 37393, 37396, 37401, 37413, 37444, 37446, 37449, 37456, 37458, 37461, 37464, 37478,
    37481, 37509, 37524, 37526, 37545, 37889, 37892, 37894, 37904, 37909, 37912, 37926, 37952,
    37962, 37969, 37972, 37973, 37974, 37976, 37977, 37984, 37985, 37986, 37989, 38020, 38022,
    38034, 38036, 38037, 38040, 38049, 38057, 38144, 38149, 38152, 38154, 38160, 38161, 38164,
    38165, 38166, 38169, 38177, 38181, 38185, 38186, 38209, 38212, 38213, 38214, 38217, 38224,
    38225, 38226, 38228, 38229, 38230, 38232, 38233, 38234, 38241, 38244, 38245, 38246, 38249,
    38273, 38277, 38280, 38289, 38290, 38292, 38293, 38294, 38297, 38298, 38304, 38306, 38309,
    38312, 38314, 38401, 38404, 38416, 38421, 38425, 38432, 38438, 38441, 38469, 38472, 38473,
    38481, 38482, 38485, 38486, 38489, 38501, 38504, 38530, 38532, 38537, 38538, 38546, 38548,
    38549, 38564, 38566, 38569, 38917, 38934, 38937, 38949, 38977, 38982, 38992, 38994, 38997,
    38998, 39002, 39012, 39013, 39045, 39057, 39062, 39065, 39077, 39172, 39174, 39177, 39184,
    39186, 39189, 39192, 39194, 39200, 39201, 39204, 39206, 39232, 39234, 39237, 39240, 39242,
    39249, 39252, 39253, 39254, 39257, 39266, 39269, 39270, 39274, 39297, 39300, 39312, 39314,
    39317, 39322, 39329, 39334, 39429, 39445, 39461, 39492, 39494, 39497, 39504, 39509, 39512,
    39521, 39557, 39569, 39572, 39573, 39574, 40960, 40962, 40968, 40970, 40981, 40992, 40994,
    41000, 41002, 41029, 41041, 41044, 41046, 41049, 41088, 41090, 41096, 41098, 41109, 41120,
    41122, 41128, 41130, 41221, 41225, 41233, 41236, 41238, 41241, 41242, 41286, 41289, 41297,
    41301, 41304, 41306, 41313, 41316, 41349, 41360, 41362, 41366, 41369, 41474, 41480, 41482,
    41488, 41497, 41506, 41512, 41514, 41541, 41553, 41558, 41561, 41573, 41600, 41602, 41608,
    41610, 41621, 41632, 41634, 41640, 41642, 42009, 42021, 42049, 42052, 42064, 42068, 42069,
    42072, 42074, 42081, 42085, 42086, 42088, 42089, 42117, 42246, 42249, 42256, 42258, 42261,
    42264, 42278, 42281, 42306, 42309, 42321, 42324, 42325, 42326, 42329, 42341, 42346, 42369,
    42372, 42373, 42374, 42377, 42386, 42389, 42392, 42501, 42513, 42518, 42522, 42529, 42533,
    42564, 42566, 42570, 42578, 42581, 42582, 42584, 42592, 42594, 42630, 42640, 42645, 42646,
    42649, 42657, 42660, 42662, 43008, 43010, 43016, 43018, 43040, 43042, 43048, 43050, 43089,
    43092, 43094, 43097, 43136, 43138, 43144, 43146, 43157, 43168, 43170, 43176, 43178, 43269,
    43284, 43289, 43297, 43301, 43329, 43344, 43349, 43354, 43361, 43366, 43369, 43408, 43414,
    43520, 43522, 43528, 43530, 43552, 43554, 43560, 43562, 43601, 43604, 43606, 43648, 43650,
    43656, 43658, 43669, 43680, 43682, 43688, 43690
};
#endif

/* >>decode --------------------------------------------------------------------------------------
 * One function per type: a block at `src` to its weights at y.  This text is the specification of
 * the formats; the layouts are drawn in >>blocks.  The order of the float operations is part of it:
 * scale times sub-scale first, then times q, then minus the minimum. */

QUANT__FN void quant__decode_q4_0(float *y, const void *src)
{
    const quant__q4_0 *b = (const quant__q4_0 *)src;
    float d = quant__half(quant__le16(b->d));
    int j;
    for (j = 0; j < 16; j++) {
        y[j] = (float)((b->qs[j] & 15) - 8) * d;
        y[j + 16] = (float)((b->qs[j] >> 4) - 8) * d;
    }
}

QUANT__FN void quant__decode_q4_1(float *y, const void *src)
{
    const quant__q4_1 *b = (const quant__q4_1 *)src;
    float d = quant__half(quant__le16(b->d)), m = quant__half(quant__le16(b->m));
    int j;
    for (j = 0; j < 16; j++) {
        y[j] = (float)(b->qs[j] & 15) * d + m;
        y[j + 16] = (float)(b->qs[j] >> 4) * d + m;
    }
}

QUANT__FN void quant__decode_q5_0(float *y, const void *src)
{
    const quant__q5_0 *b = (const quant__q5_0 *)src;
    float d = quant__half(quant__le16(b->d));
    uint32_t qh = quant__le32(b->qh);
    int j;
    for (j = 0; j < 16; j++) {
        y[j] = (float)((int)((b->qs[j] & 15u) | (qh >> j & 1) << 4) - 16) * d;
        y[j + 16] = (float)((int)(b->qs[j] >> 4 | (qh >> (j + 16) & 1) << 4) - 16) * d;
    }
}

QUANT__FN void quant__decode_q5_1(float *y, const void *src)
{
    const quant__q5_1 *b = (const quant__q5_1 *)src;
    float d = quant__half(quant__le16(b->d)), m = quant__half(quant__le16(b->m));
    uint32_t qh = quant__le32(b->qh);
    int j;
    for (j = 0; j < 16; j++) {
        y[j] = (float)(int)((b->qs[j] & 15u) | (qh >> j & 1) << 4) * d + m;
        y[j + 16] = (float)(int)(b->qs[j] >> 4 | (qh >> (j + 16) & 1) << 4) * d + m;
    }
}

QUANT__FN void quant__decode_q8_0(float *y, const void *src)
{
    const quant__q8_0 *b = (const quant__q8_0 *)src;
    float d = quant__half(quant__le16(b->d));
    int j;
    for (j = 0; j < 32; j++) y[j] = (float)b->qs[j] * d;
}

QUANT__FN void quant__decode_q1_0(float *y, const void *src)
{
    const quant__q1_0 *b = (const quant__q1_0 *)src;
    float d = quant__half(quant__le16(b->d));
    int j;
    for (j = 0; j < 128; j++) y[j] = b->qs[j / 8] >> j % 8 & 1 ? d : -d;
}

QUANT__FN void quant__decode_q2_0(float *y, const void *src)
{
    const quant__q2_0 *b = (const quant__q2_0 *)src;
    float d = quant__half(quant__le16(b->d));
    int j;
    for (j = 0; j < 64; j++) y[j] = (float)((b->qs[j / 4] >> 2 * (j % 4) & 3) - 1) * d;
}

/* Two-bit field of weight i in the order of Q2_K, Q3_K and TQ2_0: 128 weights in 32 bytes. */
QUANT__INLINE int quant__crumb(const uint8_t *qs, int i)
{
    return qs[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
}

QUANT__FN void quant__decode_q2_k(float *y, const void *src)
{
    const quant__q2_k *b = (const quant__q2_k *)src;
    float d = quant__half(quant__le16(b->d)), dmin = quant__half(quant__le16(b->dmin));
    int s, i;
    for (s = 0; s < 16; s++) {
        float dl = d * (float)(b->scales[s] & 15), ml = dmin * (float)(b->scales[s] >> 4);
        for (i = 16 * s; i < 16 * s + 16; i++) y[i] = dl * (float)quant__crumb(b->qs, i) - ml;
    }
}

/* Scale of sub-block s of Q3_K, -32 to 31. */
QUANT__INLINE int quant__q3_k_scale(const uint8_t *scales, int s)
{
    int low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
    return (low | (scales[8 + s % 4] >> 2 * (s / 4) & 3) << 4) - 32;
}

QUANT__FN void quant__decode_q3_k(float *y, const void *src)
{
    const quant__q3_k *b = (const quant__q3_k *)src;
    float d = quant__half(quant__le16(b->d));
    int s, i;
    for (s = 0; s < 16; s++) {
        float dl = d * (float)quant__q3_k_scale(b->scales, s);
        for (i = 16 * s; i < 16 * s + 16; i++) {
            int high = b->hmask[i % 32] >> (i / 32) & 1;
            y[i] = dl * (float)(quant__crumb(b->qs, i) - 4 + 4 * high);
        }
    }
}

/* Scale and minimum, 6 bits each, of sub-block s of Q4_K and Q5_K. */
QUANT__INLINE void quant__q4_k_scale(const uint8_t *p, int s, int *scale, int *min)
{
    if (s < 4) {
        *scale = p[s] & 63;
        *min = p[s + 4] & 63;
    } else {
        *scale = (p[s + 4] & 15) | (p[s - 4] >> 6) << 4;
        *min = p[s + 4] >> 4 | (p[s] >> 6) << 4;
    }
}

QUANT__FN void quant__decode_q4_k(float *y, const void *src)
{
    const quant__q4_k *b = (const quant__q4_k *)src;
    float d = quant__half(quant__le16(b->d)), dmin = quant__half(quant__le16(b->dmin));
    int s, l, scale, min;
    for (s = 0; s < 8; s++) {
        const uint8_t *qs = b->qs + 32 * (s / 2);
        float dl, ml;
        quant__q4_k_scale(b->scales, s, &scale, &min);
        dl = d * (float)scale;
        ml = dmin * (float)min;
        for (l = 0; l < 32; l++) *y++ = dl * (float)(qs[l] >> 4 * (s % 2) & 15) - ml;
    }
}

QUANT__FN void quant__decode_q5_k(float *y, const void *src)
{
    const quant__q5_k *b = (const quant__q5_k *)src;
    float d = quant__half(quant__le16(b->d)), dmin = quant__half(quant__le16(b->dmin));
    int s, l, scale, min;
    for (s = 0; s < 8; s++) {
        const uint8_t *qs = b->qs + 32 * (s / 2);
        float dl, ml;
        quant__q4_k_scale(b->scales, s, &scale, &min);
        dl = d * (float)scale;
        ml = dmin * (float)min;
        for (l = 0; l < 32; l++) {
            int q = (qs[l] >> 4 * (s % 2) & 15) | (b->qh[l] >> s & 1) << 4;
            *y++ = dl * (float)q - ml;
        }
    }
}

QUANT__FN void quant__decode_q6_k(float *y, const void *src)
{
    const quant__q6_k *b = (const quant__q6_k *)src;
    float d = quant__half(quant__le16(b->d));
    int h, j, l;
    for (h = 0; h < 2; h++) for (j = 0; j < 4; j++) {
        const uint8_t *ql = b->ql + 64 * h + 32 * (j % 2), *qh = b->qh + 32 * h;
        const int8_t *scale = b->scales + 8 * h + 2 * j;
        float dl[2];
        dl[0] = d * (float)scale[0];
        dl[1] = d * (float)scale[1];
        for (l = 0; l < 32; l++) {
            int q = (ql[l] >> 4 * (j / 2) & 15) | (qh[l] >> 2 * j & 3) << 4;
            *y++ = dl[l / 16] * (float)(q - 32);
        }
    }
}

/* 32 weights by table, nibble order of Q4_0: IQ4_NL, IQ4_XS and MXFP4. */
QUANT__INLINE void quant__decode_table(float *y, const uint8_t *qs, const int8_t *values, float d)
{
    int j;
    for (j = 0; j < 16; j++) {
        y[j] = d * (float)values[qs[j] & 15];
        y[j + 16] = d * (float)values[qs[j] >> 4];
    }
}

QUANT__FN void quant__decode_iq4_nl(float *y, const void *src)
{
    const quant__iq4_nl *b = (const quant__iq4_nl *)src;
    quant__decode_table(y, b->qs, quant__iq4_values, quant__half(quant__le16(b->d)));
}

QUANT__FN void quant__decode_iq4_xs(float *y, const void *src)
{
    const quant__iq4_xs *b = (const quant__iq4_xs *)src;
    float d = quant__half(quant__le16(b->d));
    uint32_t high = quant__le16(b->scales_h);
    int s;
    for (s = 0; s < 8; s++) {
        int scale = (b->scales_l[s / 2] >> 4 * (s % 2) & 15) | (int)(high >> 2 * s & 3) << 4;
        quant__decode_table(y + 32 * s, b->qs + 16 * s, quant__iq4_values,
                            d * (float)(scale - 32));
    }
}

QUANT__FN void quant__decode_mxfp4(float *y, const void *src)
{
    const quant__mxfp4 *b = (const quant__mxfp4 *)src;
    quant__decode_table(y, b->qs, quant__fp4_values, quant__e8m0_half(b->e));
}

QUANT__FN void quant__decode_nvfp4(float *y, const void *src)
{
    const quant__nvfp4 *b = (const quant__nvfp4 *)src;
    int s, j;
    for (s = 0; s < 4; s++) {
        float d = quant__ue4m3_half(b->d[s]);
        for (j = 0; j < 8; j++) {
            y[16 * s + j] = d * (float)quant__fp4_values[b->qs[8 * s + j] & 15];
            y[16 * s + 8 + j] = d * (float)quant__fp4_values[b->qs[8 * s + j] >> 4];
        }
    }
}

/* Digit n, 0 to 2, of a TQ1_0 byte: the fraction byte / 256 times 3^n, then its first digit. */
QUANT__INLINE int quant__trit(uint8_t byte, int n)
{
    static const uint8_t power[5] = { 1, 3, 9, 27, 81 };
    return (int)((uint8_t)(byte * power[n]) * 3u >> 8);
}

QUANT__FN void quant__decode_tq1_0(float *y, const void *src)
{
    const quant__tq1_0 *b = (const quant__tq1_0 *)src;
    float d = quant__half(quant__le16(b->d));
    int n, m;
    for (n = 0; n < 5; n++)
        for (m = 0; m < 32; m++) *y++ = (float)(quant__trit(b->qs[m], n) - 1) * d;
    for (n = 0; n < 5; n++)
        for (m = 32; m < 48; m++) *y++ = (float)(quant__trit(b->qs[m], n) - 1) * d;
    for (n = 0; n < 4; n++)
        for (m = 0; m < 4; m++) *y++ = (float)(quant__trit(b->qh[m], n) - 1) * d;
}

QUANT__FN void quant__decode_tq2_0(float *y, const void *src)
{
    const quant__tq2_0 *b = (const quant__tq2_0 *)src;
    float d = quant__half(quant__le16(b->d));
    int i;
    for (i = 0; i < QUANT__K; i++) y[i] = (float)(quant__crumb(b->qs, i) - 1) * d;
}

#ifndef QUANT_NO_IQ
/* The eighth sign bit makes the number of ones even. */
QUANT__INLINE uint32_t quant__signs(uint32_t code)      /* code < 128                            */
{
    uint32_t p = code ^ code >> 4;
    p ^= p >> 2;
    p ^= p >> 1;
    return code | (p & 1) << 7;
}

/* Eight weights of an IQ2 grid entry. */
QUANT__INLINE void quant__decode_grid2(float *y, uint32_t entry, uint32_t signs, float d)
{
    int j;
    for (j = 0; j < 8; j++) {
        float v = d * (float)quant__iq2_digits[entry >> 2 * j & 3];
        y[j] = signs >> j & 1 ? -v : v;
    }
}

QUANT__FN void quant__decode_iq2_xxs(float *y, const void *src)
{
    const quant__iq2_xxs *b = (const quant__iq2_xxs *)src;
    float d = quant__half(quant__le16(b->d));
    int g, l;
    for (g = 0; g < 8; g++) {
        uint32_t a = quant__le32(b->qs + 8 * g + 4);
        float db = d * (0.5f + (float)(int)(a >> 28)) * 0.25f;
        for (l = 0; l < 4; l++, y += 8)
            quant__decode_grid2(y, quant__grid_iq2_xxs[b->qs[8 * g + l]],
                                quant__signs(a >> 7 * l & 127), db);
    }
}

QUANT__FN void quant__decode_iq2_xs(float *y, const void *src)
{
    const quant__iq2_xs *b = (const quant__iq2_xs *)src;
    float d = quant__half(quant__le16(b->d));
    int n;
    for (n = 0; n < 32; n++, y += 8) {
        uint32_t q = quant__le16(b->qs + 2 * n);
        float db = d * (0.5f + (float)(b->scales[n / 4] >> 4 * (n % 4 / 2) & 15)) * 0.25f;
        quant__decode_grid2(y, quant__grid_iq2_xs[q & 511], quant__signs(q >> 9), db);
    }
}

QUANT__FN void quant__decode_iq2_s(float *y, const void *src)
{
    const quant__iq2_s *b = (const quant__iq2_s *)src;
    float d = quant__half(quant__le16(b->d));
    int n;
    for (n = 0; n < 32; n++, y += 8) {
        uint32_t i = b->qs[n] | (b->qh[n / 4] >> 2 * (n % 4) & 3u) << 8;
        float db = d * (0.5f + (float)(b->scales[n / 4] >> 4 * (n % 4 / 2) & 15)) * 0.25f;
        quant__decode_grid2(y, quant__grid_iq2_s[i], b->signs[n], db);
    }
}

QUANT__FN void quant__decode_iq3_xxs(float *y, const void *src)
{
    const quant__iq3_xxs *b = (const quant__iq3_xxs *)src;
    float d = quant__half(quant__le16(b->d));
    int n, j;
    for (n = 0; n < 32; n++) {
        uint32_t a = quant__le32(b->gas + 4 * (n / 4));
        uint32_t signs = quant__signs(a >> 7 * (n % 4) & 127);
        uint32_t entry = quant__grid_iq3_xxs[b->qs[2 * n]]
                       | (uint32_t)quant__grid_iq3_xxs[b->qs[2 * n + 1]] << 12;
        float db = d * (0.5f + (float)(int)(a >> 28)) * 0.5f;
        for (j = 0; j < 8; j++) {
            float v = db * (float)quant__iq3_digits[entry >> 3 * j & 7];
            *y++ = signs >> j & 1 ? -v : v;
        }
    }
}

QUANT__FN void quant__decode_iq3_s(float *y, const void *src)
{
    const quant__iq3_s *b = (const quant__iq3_s *)src;
    float d = quant__half(quant__le16(b->d));
    int e, j;
    for (e = 0; e < 64; e++) {                          /* groups of four                        */
        int g = e / 8, scale = b->scales[g / 2] >> 4 * (g % 2) & 15;
        uint32_t entry = quant__grid_iq3_s[b->qs[e] | (b->qh[g] >> e % 8 & 1u) << 8];
        uint32_t signs = (uint32_t)b->signs[e / 2] >> 4 * (e % 2);
        float db = d * (float)(1 + 2 * scale);
        for (j = 0; j < 4; j++) {
            float v = db * (float)(int)(2 * (entry >> 3 * j & 7) + 1);
            *y++ = signs >> j & 1 ? -v : v;
        }
    }
}

/* Eight weights of an IQ1 grid entry, digits -1, 0, 1, shifted by delta = +-1/8. */
QUANT__INLINE void quant__decode_grid1(float *y, uint32_t entry, float delta, float d)
{
    int j;
    for (j = 0; j < 8; j++) y[j] = d * ((float)((int)(entry >> 2 * j & 3) - 1) + delta);
}

QUANT__FN void quant__decode_iq1_s(float *y, const void *src)
{
    const quant__iq1_s *b = (const quant__iq1_s *)src;
    float d = quant__half(quant__le16(b->d));
    int n;
    for (n = 0; n < 32; n++, y += 8) {
        uint32_t h = quant__le16(b->qh + 2 * (n / 4));
        quant__decode_grid1(y, quant__grid_iq1_s[b->qs[n] | (h >> 3 * (n % 4) & 7) << 8],
                            h & 0x8000u ? -0.125f : 0.125f,
                            d * (float)(int)(2 * (h >> 12 & 7) + 1));
    }
}

/* d of IQ1_M: the top nibbles of the four scale words, the first one lowest. */
QUANT__INLINE uint32_t quant__iq1_m_d(const uint8_t *scales)
{
    return scales[1] >> 4 | (scales[3] >> 4) << 4 | (scales[5] >> 4) << 8
         | (uint32_t)(scales[7] >> 4) << 12;
}

QUANT__FN void quant__decode_iq1_m(float *y, const void *src)
{
    const quant__iq1_m *b = (const quant__iq1_m *)src;
    float d = quant__half(quant__iq1_m_d(b->scales));
    int n;
    for (n = 0; n < 32; n++, y += 8) {
        int g = n / 4, l = n % 4;
        uint32_t h = (uint32_t)b->qh[n / 2] >> 4 * (n % 2);
        uint32_t scale = quant__le16(b->scales + 2 * (g / 2)) >> (6 * (g % 2) + 3 * (l / 2)) & 7;
        quant__decode_grid1(y, quant__grid_iq1_s[b->qs[n] | (h & 7) << 8],
                            h & 8 ? -0.125f : 0.125f, d * (float)(int)(2 * scale + 1));
    }
}
#endif

/* >>search --------------------------------------------------------------------------------------
 * Scale searches shared by the encoders.  They follow ggml-quants.c operation by operation: which
 * sums are taken in which order is part of the result.  Where ggml tries scales one after another,
 * the trials run side by side here, one array element each; a trial's own sums keep their order,
 * so the bytes are the same and compilers can use vectors. */
/* Nearest integer, halves to even, for |v| < 2^22; any other value gives some integer. */
QUANT__INLINE int32_t quant__nearest(float v)
{
    return (int32_t)(quant__bits(v + 12582912.f) & 0x7fffffu) - 0x400000;
}

/* Nearest integer, halves away from zero, for |v| < 2^23. */
QUANT__INLINE int32_t quant__round(float v)
{
    int32_t t = (int32_t)v;
    float rest = v - (float)t;
    return t + (rest >= 0.5f) - (rest <= -0.5f);
}

QUANT__INLINE int32_t quant__clamp(int32_t v, int32_t lo, int32_t hi)
{
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
}

/* 1 / d, or 0 where that is no number: d = 0 or so small that it becomes infinite. */
QUANT__INLINE float quant__inverse(float d)
{
    float r = d != 0 ? 1 / d : 0;
    return quant__finite(r) ? r : 0;
}

/* Largest magnitude of x [n].  On integers, because floats with the sign off are ordered like
 * their bits and integer maxima may be taken in any order. */
QUANT__INLINE float quant__amax(const float *x, int n)
{
    int32_t m = 0, i;
    for (i = 0; i < n; i++) {
        int32_t a = (int32_t)(quant__bits(x[i]) & 0x7fffffffu);
        m = a > m ? a : m;
    }
    return quant__float((uint32_t)m);
}

/* The first value of that magnitude, with its sign. */
QUANT__INLINE float quant__extreme(const float *x, int n)
{
    float amax = quant__amax(x, n);
    int i;
    for (i = 0; i < n; i++) if (quant__abs(x[i]) == amax) return amax == 0 ? 0 : x[i];
    return 0;
}

#ifndef QUANT_NO_ENCODE
static const float quant__eps = 1e-15f;     /* groups with smaller magnitudes count as zero      */

QUANT__INLINE float quant__sum_squares(const float *x, size_t n)
{
    float s = 0;
    size_t i;
    for (i = 0; i < n; i++) s += x[i] * x[i];
    return s;
}

/* Weights of the searches with importance: importance times sqrt(variance + x^2). */
QUANT__INLINE void quant__weigh(float *w, const float *importance, const float *x, int n,
                                float variance)
{
    int i;
    for (i = 0; i < n; i++) w[i] = importance[i] * quant__sqrt(variance + x[i] * x[i]);
}

/* Symmetric search: codes L in [0, 2 nmax) for x ~ scale (L - nmax), maximising
 * (sum w x l)^2 / sum w l^2 over 19 scales around -nmax / extreme.  w: weights [n], or NULL for
 * x^2.  Returns the scale.  n <= 32. */
QUANT__FN float quant__search_symmetric(int n, int nmax, const float *x, uint8_t *L,
                                        const float *weights)
{
    enum { T = 20 };                        /* trial 0, then -9..9 without 0, one unused         */
    float iscale[T], sumlx[T], suml2[T], max = quant__extreme(x, n), scale, best;
    int i, t, chosen = 0;
    if (quant__abs(max) < quant__eps) {
        QUANT_MEMSET(L, 0, (size_t)n);
        return 0;
    }
    for (t = 0; t < T; t++) {
        int step = t == 0 || t == 19 ? 0 : t <= 9 ? t - 10 : t - 9;
        iscale[t] = -((float)nmax + 0.1f * (float)step) / max;
        sumlx[t] = suml2[t] = 0;
    }
    for (i = 0; i < n; i++) {
        float w = weights ? weights[i] : x[i] * x[i], wx = w * x[i];
        for (t = 0; t < T; t++) {
            float l = (float)quant__clamp(quant__nearest(iscale[t] * x[i]), -nmax, nmax - 1);
            sumlx[t] += wx * l;
            suml2[t] += w * l * l;
        }
    }
    scale = suml2[0] != 0 ? sumlx[0] / suml2[0] : 0;
    best = scale * sumlx[0];
    for (t = 1; t < 19; t++) {
        if (suml2[t] > 0 && sumlx[t] * sumlx[t] > best * suml2[t]) {
            scale = sumlx[t] / suml2[t];
            best = scale * sumlx[t];
            chosen = t;
        }
    }
    for (i = 0; i < n; i++)
        L[i] = (uint8_t)(quant__clamp(quant__nearest(iscale[chosen] * x[i]), -nmax, nmax - 1)
                         + nmax);
    return scale;
}

/* Q3_K without importance: one start, then at most five sweeps that move single codes. */
QUANT__FN float quant__search_q3(const float *x, uint8_t *L)
{
    float max = quant__extreme(x, 16), iscale, sumlx = 0, suml2 = 0;
    int l[16], i, sweep, changed = 1;
    if (quant__abs(max) < quant__eps) {
        QUANT_MEMSET(L, 0, 16);
        return 0;
    }
    iscale = -4 / max;
    for (i = 0; i < 16; i++) {
        float w = x[i] * x[i];
        l[i] = quant__clamp(quant__nearest(iscale * x[i]), -4, 3);
        sumlx += w * x[i] * (float)l[i];
        suml2 += w * (float)l[i] * (float)l[i];
    }
    for (sweep = 0; sweep < 5 && changed; sweep++) {
        changed = 0;
        for (i = 0; i < 16; i++) {
            float w = x[i] * x[i], slx = sumlx - w * x[i] * (float)l[i], sl2;
            int k;
            if (!(slx > 0)) continue;
            sl2 = suml2 - w * (float)l[i] * (float)l[i];
            k = quant__clamp(quant__nearest(x[i] * sl2 / slx), -4, 3);
            if (k == l[i]) continue;
            slx += w * x[i] * (float)k;
            sl2 += w * (float)k * (float)k;
            if (sl2 > 0 && slx * slx * suml2 > sumlx * sumlx * sl2) {
                l[i] = k;
                sumlx = slx;
                suml2 = sl2;
                changed = 1;
            }
        }
    }
    for (i = 0; i < 16; i++) L[i] = (uint8_t)(l[i] + 4);
    return suml2 > 0 ? sumlx / suml2 : 0;
}

/* Asymmetric search: codes L in [0, nmax] for x ~ scale L - *min_out, least weighted error (of
 * squares, or magnitudes if mad) over steps + 1 ranges, scale and minimum by least squares.
 * A better trial changes the minimum from which the later ones start; so trials are computed in
 * batches, and those after a better one are computed again.  *min_out >= 0.  n <= 32. */
typedef struct quant__range { float first, step; int steps, mad; } quant__range;

enum { QUANT__BATCH = 8 };
typedef struct quant__trials {      /* one batch of ranges; det <= 0: the trial does not count   */
    float iscale[QUANT__BATCH], det[QUANT__BATCH], scale[QUANT__BATCH], offset[QUANT__BATCH];
    float error[QUANT__BATCH];
} quant__trials;

QUANT__FN void quant__try_ranges(quant__trials *r, int n, int nmax, const float *x,
                                 const float *w, float min, float sum_w, float sum_x, int mad)
{
    enum { T = QUANT__BATCH };
    float sum_l[T], sum_l2[T], sum_xl[T], l[32][T], scale[T], offset[T], error[T];
    int i, t;
    for (t = 0; t < T; t++) sum_l[t] = sum_l2[t] = sum_xl[t] = error[t] = 0;
    for (i = 0; i < n; i++) {
        float xi = x[i], wi = w[i], xm = xi - min;
        for (t = 0; t < T; t++) {
            float wl, k = (float)quant__clamp(quant__nearest(r->iscale[t] * xm), 0, nmax);
            l[i][t] = k;
            wl = wi * k;
            sum_l[t] += wl;
            sum_l2[t] += wl * k;
            sum_xl[t] += wl * xi;
        }
    }
    for (t = 0; t < T; t++) {
        float det = sum_w * sum_l2[t] - sum_l[t] * sum_l[t];
        float both = (sum_w * sum_xl[t] - sum_x * sum_l[t]) / det;
        float o = (sum_l2[t] * sum_x - sum_l[t] * sum_xl[t]) / det;
        scale[t] = o > 0 ? sum_xl[t] / sum_l2[t] : both;
        offset[t] = o > 0 ? 0 : o;
        r->det[t] = det;
    }
    for (i = 0; i < n; i++) {                   /* no branch inside: compilers make vectors of it */
        float xi = x[i], wi = w[i], diff[T];
        for (t = 0; t < T; t++) diff[t] = scale[t] * l[i][t] + offset[t] - xi;
        if (mad) for (t = 0; t < T; t++) error[t] += wi * quant__abs(diff[t]);
        else for (t = 0; t < T; t++) error[t] += wi * (diff[t] * diff[t]);
    }
    QUANT_MEMCPY(r->scale, scale, sizeof scale);
    QUANT_MEMCPY(r->offset, offset, sizeof offset);
    QUANT_MEMCPY(r->error, error, sizeof error);
}

QUANT__FN float quant__search_range(int n, int nmax, const float *x, const float *w, uint8_t *L,
                                    float *min_out, const quant__range *r)
{
    quant__trials trials;
    float min = x[0], max = x[0], sum_w = w[0], sum_x = w[0] * x[0];
    float best = 0, scale, code_iscale, code_min;       /* codes: round(iscale (x - min))        */
    int i, t, b;
    for (i = 1; i < n; i++) {
        if (x[i] < min) min = x[i];
        if (x[i] > max) max = x[i];
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    if (min > 0) min = 0;
    if (max == min) {
        QUANT_MEMSET(L, 0, (size_t)n);
        *min_out = -min;
        return 0;
    }
    code_min = min;
    code_iscale = (float)nmax / (max - min);            /* the plain range                       */
    scale = 1 / code_iscale;
    for (i = 0; i < n; i++) {
        int l = quant__clamp(quant__nearest(code_iscale * (x[i] - min)), 0, nmax);
        float diff = scale * (float)l + min - x[i];
        best += w[i] * (r->mad ? quant__abs(diff) : diff * diff);
    }
    for (t = 0; t <= r->steps; t += b) {
        for (b = 0; b < QUANT__BATCH; b++)
            trials.iscale[b] = (r->first + r->step * (float)(t + b) + (float)nmax) / (max - min);
        quant__try_ranges(&trials, n, nmax, x, w, min, sum_w, sum_x, r->mad);
        for (b = 0; b < QUANT__BATCH && t + b <= r->steps; b++)
            if (trials.det[b] > 0 && trials.error[b] < best) break;
        if (b == QUANT__BATCH || t + b > r->steps) continue;
        best = trials.error[b];
        scale = trials.scale[b];
        code_iscale = trials.iscale[b];
        code_min = min;
        min = trials.offset[b];
        b++;
    }
    for (i = 0; i < n; i++)
        L[i] = (uint8_t)quant__clamp(quant__nearest(code_iscale * (x[i] - code_min)), 0, nmax);
    *min_out = -min;
    return scale;
}

/* Scales and minima of a super-block, x >= 0, to codes in [0, nmax]: nine ranges, then at most five
 * sweeps that move single codes.  IQ2_XXS passes magnitudes of which some are negative: as in ggml,
 * their codes are negative in the trials and wrap around to a byte in the sweeps. */
QUANT__FN float quant__search_scales(int n, int nmax, const float *x, uint8_t *L, const float *w)
{
    float max = 0, iscale = 0, best = 0, sumlx = 0, suml2 = 0;
    int i, step, sweep, changed = 1;
    for (i = 0; i < n; i++) max = max > x[i] ? max : x[i];
    if (max < quant__eps) {
        QUANT_MEMSET(L, 0, (size_t)n);
        return 0;
    }
    for (step = 0; step < 9; step++) {      /* 0, then -4..4 without 0; 0 is not clamped         */
        int s = step == 0 ? 0 : step <= 4 ? step - 5 : step - 4;
        float is = (0.1f * (float)s + (float)nmax) / max, scale = 1 / is, mse = 0;
        for (i = 0; i < n; i++) {
            int l = quant__nearest(is * x[i]);
            float diff = x[i] - scale * (float)(!s ? (uint8_t)l : l > nmax ? nmax : l);
            mse += w[i] * diff * diff;
        }
        if (step == 0 || mse < best) { best = mse; iscale = is; }
    }
    for (i = 0; i < n; i++) {
        int l = quant__nearest(iscale * x[i]);
        l = l < nmax ? l : nmax;
        L[i] = (uint8_t)l;
        sumlx += w[i] * x[i] * (float)l;
        suml2 += w[i] * (float)l * (float)l;
    }
    for (sweep = 0; sweep < 5 && changed; sweep++) {
        changed = 0;
        for (i = 0; i < n; i++) {
            float slx = sumlx - w[i] * x[i] * (float)L[i];
            float sl2 = suml2 - w[i] * (float)L[i] * (float)L[i];
            int k;
            if (!(slx > 0 && sl2 > 0)) continue;
            k = quant__nearest(x[i] * sl2 / slx);
            k = k < nmax ? k : nmax;
            if (k == L[i]) continue;
            slx += w[i] * x[i] * (float)k;
            sl2 += w[i] * (float)k * (float)k;
            if (slx * slx * suml2 > sumlx * sumlx * sl2) {
                L[i] = (uint8_t)k;
                sumlx = slx;
                suml2 = sl2;
                changed = 1;
            }
        }
    }
    return suml2 > 0 ? sumlx / suml2 : 0;
}

/* Index of the IQ4 level nearest to x, the upper one on a tie: the number of mid-points that x
 * reaches.  (x - lower < upper - x, as ggml has it, is exact near a mid-point.) */
QUANT__INLINE int quant__iq4_index(float x)
{
    int k, l = 0;
    for (k = 0; k < 15; k++)
        l += x >= 0.5f * (float)(quant__iq4_values[k] + quant__iq4_values[k + 1]);
    return l;
}

/* Scale of 32 weights on the IQ4 levels: the one of 16 trials with the largest
 * (sum w q x)^2 / sum w q^2. */
QUANT__FN float quant__search_iq4(const float *x, const float *w)
{
    enum { T = 16 };                        /* trials -7 to 7; T - 1 is the plain range          */
    float id[T], sumqx[T], sumq2[T], max = quant__extreme(x, 32), d, best;
    int i, t, k;
    if (quant__abs(max) < quant__eps) return 0;
    for (t = 0; t < T; t++) {
        id[t] = (float)(t - 7 + quant__iq4_values[0]) / max;
        sumqx[t] = sumq2[t] = 0;
    }
    id[T - 1] = 1 / (-max / (float)quant__iq4_values[0]);
    for (i = 0; i < 32; i++) {
        float q[T];
        for (t = 0; t < T; t++) q[t] = (float)quant__iq4_values[0];
        for (k = 0; k < 15; k++) {
            float lo = (float)quant__iq4_values[k], hi = (float)quant__iq4_values[k + 1];
            float mid = 0.5f * (lo + hi), gap = hi - lo;
            for (t = 0; t < T; t++) q[t] += id[t] * x[i] >= mid ? gap : 0;
        }
        for (t = 0; t < T; t++) {
            sumqx[t] += w[i] * q[t] * x[i];
            sumq2[t] += w[i] * q[t] * q[t];
        }
    }
    d = sumq2[T - 1] > 0 ? sumqx[T - 1] / sumq2[T - 1] : 0;
    best = d * sumqx[T - 1];
    for (t = 0; t < T - 1; t++) {
        if (sumq2[t] > 0 && sumqx[t] * sumqx[t] > best * sumq2[t]) {
            d = sumqx[t] / sumq2[t];
            best = d * sumqx[t];
        }
    }
    return d;
}

#ifndef QUANT_NO_IQ
/* Codebooks.  A group of weights (eight, IQ3: four) is rounded digit by digit; where the digits are
 * no entry of the codebook, its neighbours are tried: all entries at the least squared distances.
 * ggml keeps lists of them for every point; here a point's neighbours are found by a pass over the
 * codebook, which is short, and shared by all scales that round to the same point. */
typedef struct quant__codebook {
    const uint16_t *codes;              /* ascending                                             */
    int n, bits;                        /* entries, a power of two; bits of a digit, 2 or 3      */
    int shells;                         /* so many different distances make neighbours           */
} quant__codebook;

enum { QUANT__NEAR = 292 };             /* most neighbours of a point, of all points and books   */

static const float quant__odd_levels[8] = { 1, 3, 5, 7, 9, 11, 13, 15 };

/* Weights in a group; the digits' mask. */
QUANT__INLINE int quant__book_len(const quant__codebook *b) { return b->bits == 3 ? 4 : 8; }
QUANT__INLINE uint32_t quant__book_mask(const quant__codebook *b) { return (1u << b->bits) - 1; }

/* Index of a code; -1 if it is not in the book. */
QUANT__FN int quant__book_find(const quant__codebook *b, uint32_t code)
{
    int at = 0, step;
    for (step = b->n / 2; step; step /= 2) at += b->codes[at + step] <= code ? step : 0;
    return b->codes[at] == code ? at : -1;
}

/* (digit - of)^2. */
QUANT__INLINE uint16_t quant__digit_square(uint32_t digit, uint32_t of)
{
    uint16_t diff = (uint16_t)(digit - of);
    return (uint16_t)(diff * (uint32_t)diff);
}

/* Squared distances of 64 entries from a code, in digits; of IQ3 127 at most.  Digits of 2 bits are
 * turned into as many ones, whose differences are counted in parallel: two in a digit count 4. */
QUANT__INLINE void quant__book_distances(uint8_t *d, const uint16_t *codes, int bits, uint32_t code)
{
    uint16_t c[64];
    uint16_t of = (uint16_t)(code | (code >> 1 & 0x5555)), p0, p1, p2, p3;
    int i;
    QUANT_MEMCPY(c, codes, sizeof c);
    if (bits == 2) {
        for (i = 0; i < 64; i++) {
            uint16_t x = (uint16_t)((c[i] | (c[i] >> 1 & 0x5555)) ^ of), lo, hi;
            x = (uint16_t)(x - (x >> 1 & 0x5555));
            lo = x & 0x3333;
            hi = x >> 2 & 0x3333;
            x = (uint16_t)(lo + hi + (lo & 0x2222) + (hi & 0x2222));
            x = (uint16_t)((x & 0x0f0f) + (x >> 4 & 0x0f0f));
            d[i] = (uint8_t)(x + (x >> 8));
        }
        return;
    }
    p0 = code & 7, p1 = code >> 3 & 7, p2 = code >> 6 & 7, p3 = (uint16_t)(code >> 9);
    for (i = 0; i < 64; i++) {
        uint16_t sum = (uint16_t)(quant__digit_square(c[i] & 7, p0)
                     + quant__digit_square(c[i] >> 3 & 7, p1)
                     + quant__digit_square(c[i] >> 6 & 7, p2) + quant__digit_square(c[i] >> 9, p3));
        d[i] = (uint8_t)(sum < 127 ? sum : 127);
    }
}

/* The neighbours of a code that is not in the book: indices, nearest first, then ascending.
 * Returns their number. */
QUANT__APART int quant__book_near(const quant__codebook *b, uint32_t code, uint16_t *list)
{
    const uint64_t ones = 0x0101010101010101u;
    uint8_t d[2048];
    uint32_t distance;
    int i, s, n = 0, before;
    for (i = 0; i < b->n; i += 64) {
        if (b->bits == 3) quant__book_distances(d + i, b->codes + i, 3, code);
        else quant__book_distances(d + i, b->codes + i, 2, code);
    }
    for (distance = 1, s = 0; s < b->shells; distance++, s += n > before) {
        for (before = n, i = 0; i < b->n; i += 8) {     /* eight bytes below 128 at once         */
            uint64_t w = quant__le64(d + i) ^ ones * distance;
            uint64_t hits = ~(w + ones * 127) & ones << 7, low;
            for (; hits; hits ^= low) {                 /* its first bit to the byte's index     */
                low = hits & (0 - hits);
                list[n++] = (uint16_t)(i + (int)((low >> 7) * 0x0001020304050607u >> 56));
            }
        }
    }
    return n;
}

/* For each of 8 scales the neighbour with the least sum w (scale level - x)^2, as a code. */
QUANT__FN void quant__book_pick(const quant__codebook *b, uint16_t *code, const uint16_t *list,
                                int n, const float *levels, const float *scale, const float *x,
                                const float *w)
{
    enum { T = 8 };
    float best[T], s[T];
    int32_t chosen[T];
    int i, j, t, len = quant__book_len(b);
    QUANT_MEMCPY(s, scale, sizeof s);
    for (t = 0; t < T; t++) { best[t] = 3.40282347e38f; chosen[t] = b->codes[list[0]]; }
    for (j = 0; j < n; j++) {
        int32_t c = b->codes[list[j]];
        float e[T];
        for (t = 0; t < T; t++) e[t] = 0;
        for (i = 0; i < len; i++) {
            float q = levels[(uint32_t)c >> b->bits * i & quant__book_mask(b)];
            float xi = x[i], wi = w[i];
            for (t = 0; t < T; t++) {
                float diff = s[t] * q - xi;
                e[t] += wi * diff * diff;
            }
        }
        for (t = 0; t < T; t++) {
            chosen[t] = e[t] < best[t] ? c : chosen[t];
            best[t] = e[t] < best[t] ? e[t] : best[t];
        }
    }
    for (t = 0; t < T; t++) code[t] = (uint16_t)chosen[t];
}

/* The search of IQ2 and IQ3: a scale for `len` magnitudes, from trials around the one that gives
 * the largest of them the highest level. */
typedef struct quant__book_kind {
    quant__codebook book;
    int len, side;                  /* 16 or 32 weights; trials -side to side                    */
    float step, eps;                /* of a trial, in levels; magnitudes that count as zero      */
    float variance, fudge;          /* factors of the variance in weights, of the stored d       */
    int even;                       /* signs have 7 bits, the eighth by parity                   */
    int refit;                      /* groups that the best scale rounds anew: 0 those off the
                                       book, 1 all if one is, 2 all; a rough scale comes first   */
} quant__book_kind;

enum { QUANT__TRIALS = 32 };        /* 31 at most, and room for the last batch of 8              */

/* Codes of one group under n scales, id = 1 / scale.  id has room up to a multiple of 8, scale for
 * 8 more.  Returns the set of scales whose digits are in the book. */
QUANT__FN uint32_t quant__book_round(const quant__codebook *b, uint16_t *code, int n,
                                     const float *id, const float *scale, const float *x,
                                     const float *root)
{
    uint16_t list[QUANT__NEAR], some[8];
    int32_t u[QUANT__TRIALS];
    int i, t, e, r, near, len = quant__book_len(b), top = b->bits == 3 ? 7 : 2;
    uint32_t on = 0;
    for (t = 0; t < n; t += 8) {
        int32_t v[8] = { 0, 0, 0, 0, 0, 0, 0, 0 };
        for (i = 0; i < len; i++)
            for (r = 0; r < 8; r++)
                v[r] |= quant__clamp(quant__nearest(0.5f * (id[t + r] * x[i] - 1)), 0, top)
                        << b->bits * i;
        QUANT_MEMCPY(u + t, v, sizeof v);
    }
    for (t = 0; t < n; t = e) {             /* larger scales come first, equal codes in a row    */
        for (e = t + 1; e < n && u[e] == u[t];) e++;
        if (quant__book_find(b, (uint32_t)u[t]) >= 0) {
            for (r = t; r < e; r++) { code[r] = (uint16_t)u[r]; on |= 1u << r; }
            continue;
        }
        near = quant__book_near(b, (uint32_t)u[t], list);
        for (i = t; i < e; i += 8) {
            quant__book_pick(b, some, list, near, quant__odd_levels, scale + i, x, root);
            for (r = i; r < e && r < i + 8; r++) code[r] = some[r - i];
        }
    }
    return on;
}

/* sum w x q and sum w q^2 of 8 trials; the codes of a group stand QUANT__TRIALS after those of the
 * one before. */
QUANT__FN void quant__book_sums(const quant__book_kind *k, const uint16_t *code, const float *x,
                                const float *w, float *sumqx, float *sumq2)
{
    enum { T = 8 };
    int i, j, t, len = quant__book_len(&k->book);
    float qx[T], q2[T];
    for (t = 0; t < T; t++) qx[t] = q2[t] = 0;
    for (i = 0; i < k->len; i += len, code += QUANT__TRIALS) {
        int32_t c[T];
        for (t = 0; t < T; t++) c[t] = code[t];
        for (j = i; j < i + len; j++) {
            float wj = w[j], wx = w[j] * x[j];
            for (t = 0; t < T; t++) {
                float q = (float)(2 * (c[t] & (int32_t)quant__book_mask(&k->book)) + 1);
                qx[t] += wx * q;
                q2[t] += wj * q * q;
                c[t] >>= k->book.bits;
            }
        }
    }
    QUANT_MEMCPY(sumqx, qx, sizeof qx);
    QUANT_MEMCPY(sumq2, q2, sizeof q2);
}

/* Entries for the groups of k->len magnitudes x (a flipped one is negative) and their scale, which
 * wild weights can make negative.  Returns 0 if all count as zero. */
QUANT__FN int quant__search_book(const quant__book_kind *k, const float *x, const float *w,
                                 uint16_t *entry, float *scale_out)
{
    enum { T = QUANT__TRIALS };
    const quant__codebook *b = &k->book;
    float id[T], trial[T + 8], sumqx[T], sumq2[T], root[32], max = x[0], scale, best = 0;
    float top = b->bits == 3 ? 15.0f : 5.0f;
    uint16_t code[8][T];
    uint32_t on[8], off = 0;
    int g, t, i, len = quant__book_len(b), groups = k->len / len, chosen = -1;
    int n = 2 * k->side + 1;
    for (i = 1; i < k->len; i++) max = x[i] > max ? x[i] : max;
    if (max < k->eps || max == 0) return 0;
    scale = max / top;
    if (k->refit == 2) {
        uint8_t L[32];
        scale = quant__search_scales(k->len, 4, x, L, w);
        max = scale * 3;
        if (max <= 0) return 0;
    }
    for (i = 0; i < k->len; i++) root[i] = quant__sqrt(w[i]);
    for (t = 0; t < T + 8; t++) {
        float inverse = (top + (float)((t < n ? t : n - 1) - k->side) * k->step) / max;
        if (t < T) id[t] = inverse;
        trial[t] = 1 / inverse;
    }
    QUANT_MEMSET(code, 0, sizeof code);
    for (g = 0; g < groups; g++)
        on[g] = quant__book_round(b, code[g], n, id, trial, x + len * g, root + len * g);
    for (t = 0; t < n; t += 8) quant__book_sums(k, code[0] + t, x, w, sumqx + t, sumq2 + t);
    for (t = 0; t < n; t++) {
        if (sumq2[t] > 0 && sumqx[t] * sumqx[t] > best * sumq2[t]) {
            scale = sumqx[t] / sumq2[t];
            best = scale * sumqx[t];
            chosen = t;
        }
    }
    for (g = 0; g < groups; g++) {
        code[g][0] = chosen < 0 ? 0 : code[g][chosen];
        off |= (uint32_t)(chosen < 0 ? k->refit != 0 : !(on[g] >> chosen & 1)) << g;
    }
    if ((off || k->refit == 2) && scale > 0) {
        for (t = 0; t < 16; t++) trial[t] = scale;
        for (t = 0; t < 8; t++) id[t] = 1 / scale;
        for (g = 0; g < groups; g++)
            if (k->refit || off >> g & 1)
                quant__book_round(b, code[g], 1, id, trial, x + len * g, root + len * g);
        quant__book_sums(k, code[0], x, w, sumqx, sumq2);
        if (sumq2[0] > 0) scale = sumqx[0] / sumq2[0];
    }
    for (g = 0; g < groups; g++) entry[g] = (uint16_t)quant__book_find(b, code[g][0]);
    *scale_out = scale;
    return 1;
}

/* IQ1: digits 0, 1, 2 stand for -1, 0, 1, all shifted by 1/8 up or down. */
static const float quant__shifted_levels[2][3] = { { -1.125f, -0.125f, 0.875f },
                                                   { -0.875f, 0.125f, 1.125f } };

/* A sub-block of IQ1_S (32 weights) or IQ1_M (16); up[g]: the groups of 8 whose levels are shifted
 * up. */
typedef struct quant__ternary { float scale; uint16_t entry[4]; uint8_t up[4]; } quant__ternary;

/* A cut of sorted weights into those on -1, from first on 0 and from second on 1; first < 0 if
 * nothing has a score. */
typedef struct quant__cut { float scale, best; int first, second; uint32_t up; } quant__cut;

QUANT__INLINE void quant__better_cut(quant__cut *c, float qx, float q2, int first, int second,
                                     uint32_t up)
{
    if (!(q2 > 0 && qx * qx > c->best * q2)) return;
    c->scale = qx / q2;
    c->best = c->scale * qx;
    c->first = first;
    c->second = second;
    c->up = up;
}

/* Order of x [n], equal ones as they come. */
QUANT__FN void quant__ascending(uint8_t *order, const float *x, int n)
{
    int i, j;
    for (i = 0; i < n; i++) {
        for (j = i; j && x[i] < x[order[j - 1]]; j--) order[j] = order[j - 1];
        order[j] = (uint8_t)i;
    }
}

/* The cut with the largest (sum w x q)^2 / sum w q^2, of all there are and both shifts.  Sums over
 * a part of the sorted weights are differences of sums from the start. */
QUANT__FN void quant__cut_iq1_s(quant__cut *c, const uint8_t *order, const float *x, const float *w)
{
    float sumx[33], sumw[33], qx[2][33], q2[2][33];
    int i, j, up;
    sumx[0] = sumw[0] = 0;
    for (i = 0; i < 32; i++) {
        sumx[i + 1] = sumx[i] + w[order[i]] * x[order[i]];
        sumw[i + 1] = sumw[i] + w[order[i]];
    }
    for (i = 0; i <= 32; i++) {
        for (up = 0; up < 2; up++) {
            const float *v = quant__shifted_levels[up];
            for (j = 0; j <= 32; j++) {
                qx[up][j] = sumx[i] * v[0] + (sumx[j] - sumx[i]) * v[1]
                          + (sumx[32] - sumx[j]) * v[2];
                q2[up][j] = sumw[i] * v[0] * v[0] + (sumw[j] - sumw[i]) * v[1] * v[1]
                          + (sumw[32] - sumw[j]) * v[2] * v[2];
            }
        }
        for (j = i; j <= 32; j++)
            for (up = 2; up-- > 0;)
                quant__better_cut(c, qx[up][j], q2[up][j], i, j, up ? 15 : 0);
    }
}

/* The same for 16 weights whose two groups have shifts of their own, with the sums of ggml since
 * llama.cpp's change 28706 (those before gave other bytes here and there).  As the levels are 1
 * apart, sum w x q of a group is its sum w x times the top level, less what lies below the cuts. */
QUANT__FN void quant__cut_iq1_m(quant__cut *c, const uint8_t *order, const float *x, const float *w)
{
    float sumx[2][17], sumw[2][17], qx[2][2], q2[2][2];
    int i, j, h, up;
    for (h = 0; h < 2; h++) {
        sumx[h][0] = sumw[h][0] = 0;
        for (i = 0; i < 16; i++) {
            int in = order[i] / 8 == h;
            sumx[h][i + 1] = in ? sumx[h][i] + w[order[i]] * x[order[i]] : sumx[h][i];
            sumw[h][i + 1] = in ? sumw[h][i] + w[order[i]] : sumw[h][i];
        }
    }
    for (i = 0; i <= 16; i++)
        for (j = i; j <= 16; j++) {
            for (h = 0; h < 2; h++)
                for (up = 0; up < 2; up++) {
                    const float *v = quant__shifted_levels[up];
                    qx[h][up] = sumx[h][16] * v[2] - (sumx[h][i] + sumx[h][j]);
                    q2[h][up] = sumw[h][16] * v[2] * v[2] + sumw[h][i] * (v[0] * v[0] - v[1] * v[1])
                              + sumw[h][j] * (v[1] * v[1] - v[2] * v[2]);
                }
            for (up = 4; up-- > 0;)             /* up up, up down, down up, down down            */
                quant__better_cut(c, qx[0][up >> 1] + qx[1][up & 1],
                                  q2[0][up >> 1] + q2[1][up & 1], i, j,
                                  (uint32_t)(up >> 1 | (up & 1) << 1));
        }
}

static const quant__codebook quant__book_iq1 = { quant__grid_iq1_s, 2048, 2, 3 };

/* Scale, entries and shifts of n = 32 (IQ1_S) or 16 (IQ1_M) weights. */
QUANT__FN void quant__search_iq1(quant__ternary *s, int n, const float *x, const float *w)
{
    uint8_t order[32], L[32];
    uint16_t list[QUANT__NEAR], code[8];
    float scales[8], sumqx = 0, sumq2 = 0;
    quant__cut c = { 0, -3.40282347e38f, -1, 0, 0 };
    int i, g, off = 0;
    QUANT_MEMSET(s, 0, sizeof *s);
    for (g = 0; g < 4; g++) s->up[g] = 1;
    if (quant__amax(x, n) < (n == 32 ? 1e-12f : 1e-7f)) return;
    quant__ascending(order, x, n);
    if (n == 32) quant__cut_iq1_s(&c, order, x, w);
    else quant__cut_iq1_m(&c, order, x, w);
    if (c.first < 0) return;
    for (i = 0; i < n; i++) L[order[i]] = (uint8_t)((i >= c.first) + (i >= c.second));
    if (c.scale < 0) {                          /* the same weights upside down                  */
        for (i = 0; i < n; i++) L[i] = (uint8_t)(2 - L[i]);
        c.scale = -c.scale;
        c.up = ~c.up;
    }
    for (i = 0; i < 8; i++) scales[i] = c.scale;
    for (g = 0; g < n / 8; g++) {
        uint32_t u = 0;
        int at;
        s->up[g] = c.up >> g & 1;
        for (i = 0; i < 8; i++) u |= (uint32_t)L[8 * g + i] << 2 * i;
        at = quant__book_find(&quant__book_iq1, u);
        if (at < 0) {
            int near = quant__book_near(&quant__book_iq1, u, list);
            quant__book_pick(&quant__book_iq1, code, list, near, quant__shifted_levels[s->up[g]],
                             scales, x + 8 * g, w + 8 * g);
            at = quant__book_find(&quant__book_iq1, code[0]);
            off = 1;
        }
        s->entry[g] = (uint16_t)at;
    }
    s->scale = c.scale;
    if (!off) return;
    for (i = 0; i < n; i++) {
        uint32_t digit = quant__grid_iq1_s[s->entry[i / 8]] >> 2 * (i % 8) & 3;
        float q = quant__shifted_levels[s->up[i / 8]][digit];
        sumqx += w[i] * q * x[i];
        sumq2 += w[i] * q * q;
    }
    if (sumqx > 0 && sumq2 > 0) s->scale = sumqx / sumq2;
}
#endif /* QUANT_NO_IQ */

/* >>encode --------------------------------------------------------------------------------------
 * One function per type: a block of weights at x to its bytes at dst.  importance: for the block's
 * columns, or NULL. */
typedef struct quant__params {
    float row_variance;             /* sum x^2 / cols: QUANT_TF_WHOLE_ROWS types with importance */
    float tensor_scale;             /* NVFP4                                                     */
} quant__params;

#define QUANT__ENCODER(name) \
    QUANT__FN void name(void *dst, const float *x, const float *importance, \
                        const quant__params *params)

static const quant__range quant__range_20 = { -1.0f, 0.1f, 20, 0 };
static const quant__range quant__range_15 = { -0.5f, 0.1f, 15, 0 };
static const quant__range quant__range_15_mad = { -0.5f, 0.1f, 15, 1 };
static const quant__range quant__range_36 = { -0.9f, 0.05f, 36, 0 };

/* 32 codes of 4 or 5 bits to nibbles; returns the fifth bits, bit i of code i. */
QUANT__INLINE uint32_t quant__pack_nibbles(uint8_t *qs, const uint8_t *L)
{
    uint32_t high = 0;
    int j;
    for (j = 0; j < 16; j++) {
        qs[j] = (uint8_t)((L[j] & 15) | L[j + 16] << 4);
        high |= (uint32_t)(L[j] >> 4) << j | (uint32_t)(L[j + 16] >> 4) << (j + 16);
    }
    return high;
}

/* Codes of Q4_0 (bits 4) and Q5_0 (bits 5) and their scale. */
QUANT__INLINE float quant__encode_signed(uint8_t *L, const float *x, const float *importance,
                                         int bits, const quant__params *params)
{
    float w[32], d, id, half = (float)(1 << (bits - 1));
    int j, top = (1 << bits) - 1;
    if (importance) {
        quant__weigh(w, importance, x, 32, params->row_variance);
        return quant__search_symmetric(32, 1 << (bits - 1), x, L, w);
    }
    d = quant__extreme(x, 32) / -half;
    id = quant__inverse(d);
    for (j = 0; j < 32; j++) {
        int q = (int)(x[j] * id + (half + 0.5f));
        L[j] = (uint8_t)(q < top ? q : top);
    }
    return d;
}

QUANT__ENCODER(quant__encode_q4_0)
{
    quant__q4_0 *b = (quant__q4_0 *)dst;
    uint8_t L[32];
    quant__put16(b->d, quant__to_half(quant__encode_signed(L, x, importance, 4, params)));
    quant__pack_nibbles(b->qs, L);
}

QUANT__ENCODER(quant__encode_q5_0)
{
    quant__q5_0 *b = (quant__q5_0 *)dst;
    uint8_t L[32];
    quant__put16(b->d, quant__to_half(quant__encode_signed(L, x, importance, 5, params)));
    quant__put32(b->qh, quant__pack_nibbles(b->qs, L));
}

/* Codes of Q4_1 (top 15) and Q5_1 (top 31), their scale and *m, the value of code 0. */
QUANT__INLINE float quant__encode_ranged(uint8_t *L, float *m, const float *x,
                                         const float *importance, int top,
                                         const quant__params *params)
{
    float w[32], min = x[0], max = x[0], d, id;
    int j;
    if (importance) {
        quant__weigh(w, importance, x, 32, params->row_variance);
        d = quant__search_range(32, top, x, w, L, &min, &quant__range_36);
        *m = -min;
        return d;
    }
    for (j = 1; j < 32; j++) {
        min = x[j] < min ? x[j] : min;
        max = x[j] > max ? x[j] : max;
    }
    d = (max - min) / (float)top;
    id = quant__inverse(d);
    for (j = 0; j < 32; j++) {
        int q = (int)((x[j] - min) * id + 0.5f);
        L[j] = (uint8_t)(q < top ? q : top);
    }
    *m = min;
    return d;
}

QUANT__ENCODER(quant__encode_q4_1)
{
    quant__q4_1 *b = (quant__q4_1 *)dst;
    uint8_t L[32];
    float m;
    quant__put16(b->d, quant__to_half(quant__encode_ranged(L, &m, x, importance, 15, params)));
    quant__put16(b->m, quant__to_half(m));
    quant__pack_nibbles(b->qs, L);
}

QUANT__ENCODER(quant__encode_q5_1)
{
    quant__q5_1 *b = (quant__q5_1 *)dst;
    uint8_t L[32];
    float m;
    quant__put16(b->d, quant__to_half(quant__encode_ranged(L, &m, x, importance, 31, params)));
    quant__put16(b->m, quant__to_half(m));
    quant__put32(b->qh, quant__pack_nibbles(b->qs, L));
}

QUANT__ENCODER(quant__encode_q8_0)
{
    quant__q8_0 *b = (quant__q8_0 *)dst;
    float d = quant__amax(x, 32) / 127, id = quant__inverse(d);
    int j;
    (void)importance;
    (void)params;
    quant__put16(b->d, quant__to_half(d));
    for (j = 0; j < 32; j++) b->qs[j] = (int8_t)quant__round(x[j] * id);
}

QUANT__ENCODER(quant__encode_q1_0)
{
    quant__q1_0 *b = (quant__q1_0 *)dst;
    float sum = 0;
    int j;
    (void)importance;
    (void)params;
    QUANT_MEMSET(b->qs, 0, sizeof b->qs);
    for (j = 0; j < 128; j++) {
        sum += quant__abs(x[j]);
        b->qs[j / 8] = (uint8_t)(b->qs[j / 8] | (x[j] >= 0) << j % 8);
    }
    quant__put16(b->d, quant__to_half(sum / 128));
}

QUANT__ENCODER(quant__encode_q2_0)
{
    quant__q2_0 *b = (quant__q2_0 *)dst;
    float d = quant__amax(x, 64), id = quant__inverse(d);
    int j;
    (void)importance;
    (void)params;
    quant__put16(b->d, quant__to_half(d));
    QUANT_MEMSET(b->qs, 0, sizeof b->qs);
    for (j = 0; j < 64; j++) {
        int q = quant__clamp(quant__round(x[j] * id) + 1, 0, 3);
        b->qs[j / 4] = (uint8_t)(b->qs[j / 4] | q << 2 * (j % 4));
    }
}

/* Codes of 2 bits in the order of quant__crumb. */
QUANT__INLINE void quant__pack_crumbs(uint8_t *qs, const uint8_t *L)
{
    int h, l;
    for (h = 0; h < 2; h++, L += 128, qs += 32)
        for (l = 0; l < 32; l++)
            qs[l] = (uint8_t)((L[l] & 3) | (L[l + 32] & 3) << 2 | (L[l + 64] & 3) << 4
                              | (L[l + 96] & 3) << 6);
}

/* Codes anew with the stored scale: round((x + dm) / d) within [0, top].  A scale of 0 keeps what
 * the search left. */
QUANT__INLINE void quant__recode(uint8_t *L, const float *x, int n, float d, float dm, int top)
{
    int i;
    if (d == 0) return;
    for (i = 0; i < n; i++) L[i] = (uint8_t)quant__clamp(quant__nearest((x[i] + dm) / d), 0, top);
}

/* Scales or minima of a super-block to codes in [0, top] by their maximum; returns the step. */
QUANT__INLINE float quant__scale_codes(int n, int top, const float *x, uint8_t *L)
{
    float max = 0, inverse;
    int i;
    for (i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    inverse = max > 0 ? (float)top / max : 0;
    for (i = 0; i < n; i++) {
        int l = quant__nearest(inverse * x[i]);
        L[i] = (uint8_t)(l < top ? l : top);
    }
    return max / (float)top;
}

/* What Q2_K, Q4_K and Q5_K have in common: n sub-blocks of len weights, codes up to top, codes of
 * scales and minima up to scale_top, and the search without importance. */
typedef struct quant__subblock_kind {
    int n, len, top, scale_top;
    const quant__range *plain;
} quant__subblock_kind;

static const quant__subblock_kind quant__kind_q2_k = { 16, 16, 3, 15, &quant__range_15_mad };
static const quant__subblock_kind quant__kind_q4_k = { 8, 32, 15, 63, &quant__range_20 };
static const quant__subblock_kind quant__kind_q5_k = { 8, 32, 31, 63, &quant__range_15 };

/* An encoded super-block before it is packed; d and dmin are halves. */
typedef struct quant__subblocks {
    uint8_t L[QUANT__K], scales[16], mins[16];
    uint32_t d, dmin;
} quant__subblocks;

QUANT__FN void quant__encode_subblocks(quant__subblocks *s, const quant__subblock_kind *k,
                                       const float *x, const float *importance)
{
    float scale[16], min[16], sum_w[16], w[32];
    /* variance of the super-block; Q2_K takes it once, the others twice                          */
    float variance = quant__sum_squares(x, QUANT__K);
    int b, i;
    variance = k->len == 16 ? variance / QUANT__K : 2 * variance / QUANT__K;
    for (b = 0; b < k->n; b++) {
        const float *xb = x + b * k->len;
        sum_w[b] = 0;
        if (importance) {
            quant__weigh(w, importance + b * k->len, xb, k->len, variance);
            for (i = 0; i < k->len; i++) sum_w[b] += w[i];
        } else {
            float rms = k->len == 16 ? 0 : quant__sqrt(quant__sum_squares(xb, 32) / 32);
            for (i = 0; i < k->len; i++) w[i] = rms + quant__abs(xb[i]);
        }
        scale[b] = quant__search_range(k->len, k->top, xb, w, s->L + b * k->len, &min[b],
                                       importance ? &quant__range_36 : k->plain);
    }
    if (importance) {
        s->d = quant__to_half(quant__search_scales(k->n, k->scale_top, scale, s->scales, sum_w));
        s->dmin = quant__to_half(quant__search_scales(k->n, k->scale_top, min, s->mins, sum_w));
    } else {
        s->d = quant__to_half(quant__scale_codes(k->n, k->scale_top, scale, s->scales));
        s->dmin = quant__to_half(quant__scale_codes(k->n, k->scale_top, min, s->mins));
    }
    for (b = 0; b < k->n; b++)
        quant__recode(s->L + b * k->len, x + b * k->len, k->len,
                      quant__half(s->d) * (float)s->scales[b],
                      quant__half(s->dmin) * (float)s->mins[b], k->top);
}

QUANT__ENCODER(quant__encode_q2_k)
{
    quant__q2_k *b = (quant__q2_k *)dst;
    quant__subblocks s;
    int k;
    (void)params;
    quant__encode_subblocks(&s, &quant__kind_q2_k, x, importance);
    for (k = 0; k < 16; k++) b->scales[k] = (uint8_t)(s.scales[k] | s.mins[k] << 4);
    quant__put16(b->d, s.d);
    quant__put16(b->dmin, s.dmin);
    quant__pack_crumbs(b->qs, s.L);
}

/* The head of Q4_K and Q5_K: d, dmin and 12 bytes of scales, the inverse of quant__q4_k_scale. */
QUANT__INLINE void quant__pack_q4_k_head(uint8_t *dst, const quant__subblocks *s)
{
    uint8_t *p = dst + 4;
    int k;
    quant__put16(dst, s->d);
    quant__put16(dst + 2, s->dmin);
    for (k = 0; k < 4; k++) {
        p[k] = (uint8_t)(s->scales[k] | (s->scales[k + 4] >> 4) << 6);
        p[k + 4] = (uint8_t)(s->mins[k] | (s->mins[k + 4] >> 4) << 6);
        p[k + 8] = (uint8_t)((s->scales[k + 4] & 15) | (s->mins[k + 4] & 15) << 4);
    }
}

QUANT__ENCODER(quant__encode_q4_k)
{
    quant__q4_k *b = (quant__q4_k *)dst;
    quant__subblocks s;
    int c, l;
    (void)params;
    quant__encode_subblocks(&s, &quant__kind_q4_k, x, importance);
    quant__pack_q4_k_head((uint8_t *)dst, &s);
    for (c = 0; c < 4; c++)
        for (l = 0; l < 32; l++)
            b->qs[32 * c + l] = (uint8_t)(s.L[64 * c + l] | s.L[64 * c + 32 + l] << 4);
}

QUANT__ENCODER(quant__encode_q5_k)
{
    quant__q5_k *b = (quant__q5_k *)dst;
    quant__subblocks s;
    int c, l;
    (void)params;
    quant__encode_subblocks(&s, &quant__kind_q5_k, x, importance);
    quant__pack_q4_k_head((uint8_t *)dst, &s);
    QUANT_MEMSET(b->qh, 0, sizeof b->qh);
    for (c = 0; c < 4; c++)
        for (l = 0; l < 32; l++) {
            int lo = s.L[64 * c + l], hi = s.L[64 * c + 32 + l];
            b->qs[32 * c + l] = (uint8_t)((lo & 15) | (hi & 15) << 4);
            b->qh[l] = (uint8_t)(b->qh[l] | (lo >> 4) << 2 * c | (hi >> 4) << (2 * c + 1));
        }
}

QUANT__ENCODER(quant__encode_q3_k)
{
    quant__q3_k *b = (quant__q3_k *)dst;
    uint8_t L[QUANT__K], Ls[16];
    float scale[16], sum_w[16], w[16], d, variance = 2 * quant__sum_squares(x, QUANT__K) / QUANT__K;
    int k, i;
    (void)params;
    for (k = 0; k < 16; k++) {
        if (importance) {
            quant__weigh(w, importance + 16 * k, x + 16 * k, 16, variance);
            for (sum_w[k] = 0, i = 0; i < 16; i++) sum_w[k] += w[i];
            scale[k] = quant__search_symmetric(16, 4, x + 16 * k, L + 16 * k, w);
        } else {
            scale[k] = quant__search_q3(x + 16 * k, L + 16 * k);
        }
    }
    if (importance) {
        d = quant__search_symmetric(16, 32, scale, Ls, sum_w);
    } else {
        float max = quant__extreme(scale, 16), iscale = max != 0 ? -32 / max : 0;
        for (k = 0; k < 16; k++)
            Ls[k] = (uint8_t)(quant__clamp(quant__nearest(iscale * scale[k]), -32, 31) + 32);
        d = max != 0 ? 1 / iscale : 0;
        if (max == 0) QUANT_MEMSET(Ls, 0, 16);
    }
    quant__put16(b->d, quant__to_half(d));
    d = quant__half(quant__le16(b->d));
    QUANT_MEMSET(b->scales, 0, sizeof b->scales);
    QUANT_MEMSET(b->hmask, 0, sizeof b->hmask);
    for (k = 0; k < 16; k++) {
        uint8_t *high = &b->scales[8 + k % 4];
        float dk = d * (float)(Ls[k] - 32);
        b->scales[k % 8] = (uint8_t)(b->scales[k % 8] | (Ls[k] & 15) << 4 * (k / 8));
        *high = (uint8_t)(*high | (Ls[k] >> 4) << 2 * (k / 4));
        if (dk == 0) continue;
        for (i = 16 * k; i < 16 * k + 16; i++)
            L[i] = (uint8_t)(quant__clamp(quant__nearest(x[i] / dk), -4, 3) + 4);
    }
    for (i = 0; i < QUANT__K; i++)
        b->hmask[i % 32] = (uint8_t)(b->hmask[i % 32] | (L[i] >> 2) << i / 32);
    quant__pack_crumbs(b->qs, L);
}

QUANT__ENCODER(quant__encode_q6_k)
{
    quant__q6_k *b = (quant__q6_k *)dst;
    uint8_t L[QUANT__K];
    float scale[16], max, iscale, d;
    int k, i, h, l;
    (void)params;
    for (k = 0; k < 16; k++)
        scale[k] = quant__search_symmetric(16, 32, x + 16 * k, L + 16 * k,
                                           importance ? importance + 16 * k : NULL);
    max = quant__extreme(scale, 16);
    if (quant__abs(max) < quant__eps) {
        QUANT_MEMSET(b, 0, sizeof *b);
        return;
    }
    iscale = -128 / max;
    quant__put16(b->d, quant__to_half(1 / iscale));
    d = quant__half(quant__le16(b->d));
    for (k = 0; k < 16; k++) {
        int code = quant__nearest(iscale * scale[k]);
        float dk;
        b->scales[k] = (int8_t)(code < 127 ? code : 127);
        dk = d * (float)b->scales[k];
        if (dk == 0) continue;
        for (i = 16 * k; i < 16 * k + 16; i++)
            L[i] = (uint8_t)(quant__clamp(quant__nearest(x[i] / dk), -32, 31) + 32);
    }
    for (h = 0; h < 2; h++)
        for (l = 0; l < 32; l++) {
            const uint8_t *q = L + 128 * h + l;
            b->ql[64 * h + l] = (uint8_t)((q[0] & 15) | (q[64] & 15) << 4);
            b->ql[64 * h + 32 + l] = (uint8_t)((q[32] & 15) | (q[96] & 15) << 4);
            b->qh[32 * h + l] = (uint8_t)(q[0] >> 4 | (q[32] >> 4) << 2 | (q[64] >> 4) << 4
                                          | (q[96] >> 4) << 6);
        }
}

/* Weights of the IQ4 search: x^2 without importance. */
QUANT__INLINE void quant__weigh_iq4(float *w, const float *importance, const float *x,
                                    float variance)
{
    int i;
    if (importance) quant__weigh(w, importance, x, 32, variance);
    else for (i = 0; i < 32; i++) w[i] = x[i] * x[i];
}

QUANT__INLINE void quant__code_iq4(uint8_t *qs, const float *x, float id)
{
    uint8_t L[32];
    int i;
    for (i = 0; i < 32; i++) L[i] = (uint8_t)quant__iq4_index(id * x[i]);
    quant__pack_nibbles(qs, L);
}

QUANT__ENCODER(quant__encode_iq4_nl)
{
    quant__iq4_nl *b = (quant__iq4_nl *)dst;
    float w[32], d;
    (void)params;
    quant__weigh_iq4(w, importance, x, quant__sum_squares(x, 32) * (2.f / 32));
    d = quant__search_iq4(x, w);
    quant__put16(b->d, quant__to_half(d));
    quant__code_iq4(b->qs, x, quant__inverse(d));
}

QUANT__ENCODER(quant__encode_iq4_xs)
{
    quant__iq4_xs *b = (quant__iq4_xs *)dst;
    float scale[8], w[32], d, id, variance = quant__sum_squares(x, QUANT__K) * (2.f / QUANT__K);
    uint32_t high = 0;
    int s;
    (void)params;
    for (s = 0; s < 8; s++) {
        const float *xs = x + 32 * s;
        quant__weigh_iq4(w, importance ? importance + 32 * s : NULL, xs, variance);
        scale[s] = quant__search_iq4(xs, w);
    }
    d = -quant__extreme(scale, 8) / 32;
    id = quant__inverse(d);
    quant__put16(b->d, quant__to_half(d));
    QUANT_MEMSET(b->scales_l, 0, sizeof b->scales_l);
    for (s = 0; s < 8; s++) {               /* codes by the unrounded d, as ggml has it          */
        int l = quant__clamp(quant__nearest(id * scale[s]), -32, 31);
        quant__code_iq4(b->qs + 16 * s, x + 32 * s, quant__inverse(d * (float)l));
        l += 32;
        b->scales_l[s / 2] = (uint8_t)(b->scales_l[s / 2] | (l & 15) << 4 * (s % 2));
        high |= (uint32_t)(l >> 4) << 2 * s;
    }
    quant__put16(b->scales_h, high);
}

/* A TQ1_0 byte of n digits x[0], x[stride], ...: ceil(v 256 / 243), v with five digits. */
QUANT__INLINE uint8_t quant__pack_trits(const float *x, int n, int stride, float id)
{
    int k, v = 0;
    for (k = 0; k < n; k++) v = 3 * v + quant__round(x[k * stride] * id) + 1;
    for (; k < 5; k++) v *= 3;
    return (uint8_t)((v * 256 + 242) / 243);
}

QUANT__ENCODER(quant__encode_tq1_0)
{
    quant__tq1_0 *b = (quant__tq1_0 *)dst;
    float d = quant__amax(x, QUANT__K), id = quant__inverse(d);
    int m;
    (void)importance;
    (void)params;
    quant__put16(b->d, quant__to_half(d));
    for (m = 0; m < 32; m++) b->qs[m] = quant__pack_trits(x + m, 5, 32, id);
    for (m = 0; m < 16; m++) b->qs[32 + m] = quant__pack_trits(x + 160 + m, 5, 16, id);
    for (m = 0; m < 4; m++) b->qh[m] = quant__pack_trits(x + 240 + m, 4, 4, id);
}

QUANT__ENCODER(quant__encode_tq2_0)
{
    quant__tq2_0 *b = (quant__tq2_0 *)dst;
    float d = quant__amax(x, QUANT__K), id = quant__inverse(d);
    uint8_t L[QUANT__K];
    int i;
    (void)importance;
    (void)params;
    quant__put16(b->d, quant__to_half(d));
    for (i = 0; i < QUANT__K; i++) L[i] = (uint8_t)(quant__round(x[i] * id) + 1);
    quant__pack_crumbs(b->qs, L);
}

/* Index of the FP4 level nearest to x at scale d, the first one on a tie; d = 0 gives 0. */
QUANT__INLINE int quant__fp4_index(float x, float d)
{
    float best = quant__abs((float)quant__fp4_values[0] * d - x);
    int k, l = 0;
    for (k = 1; k < 16; k++) {
        float e = quant__abs((float)quant__fp4_values[k] * d - x);
        if (e < best) { best = e; l = k; }
    }
    return l;
}

/* floor(log2f(a)), a > 0 and normal, where log2f rounds to float: just below a power of two 2^k the
 * rounded logarithm can be k itself.  For a = 2^k (1 - t): log2 a = k - (t + t^2/2 + ..) / ln 2. */
QUANT__FN int quant__floor_log2(float a)
{
    uint32_t u = quant__bits(a), below = 0x800000u - (u & 0x7fffffu);   /* ulps up to 2^k        */
    int k = (int)(u >> 23) - 126;
    if (below < 0x1000u) {
        double t = below / 16777216.0;
        float rounded = (float)(k - (t + t * t / 2 + t * t * t / 3) * 1.4426950408889634);
        if (rounded >= (float)k) return k;
    }
    return k - 1;
}

QUANT__ENCODER(quant__encode_mxfp4)
{
    quant__mxfp4 *b = (quant__mxfp4 *)dst;
    float amax = quant__amax(x, 32), d;
    int j, e = amax >= 1.17549435e-38f ? quant__floor_log2(amax) - 2 + 127 : 0;
    (void)importance;
    (void)params;
    b->e = (uint8_t)(e > 0 ? e : 0);
    d = quant__e8m0_half(b->e);
    for (j = 0; j < 16; j++)
        b->qs[j] = (uint8_t)(quant__fp4_index(x[j], d) | quant__fp4_index(x[j + 16], d) << 4);
}

/* float to UE4M3, halves up.  As in ggml, everything from 256 on becomes 448 and the largest
 * subnormal does not carry into the smallest normal. */
QUANT__FN uint32_t quant__to_ue4m3(float v)
{
    uint32_t u = quant__bits(v), code;
    int m;
    if (!(v > 0)) return 0;
    if (v >= 248) return 0x7e;              /* 248 rounds up to 256                              */
    if (v < 0.015625f) {                    /* 2^-6: subnormal, units of 2^-9                    */
        m = (int)(v * 512 + 0.5f);
        return (uint32_t)(m < 7 ? m : 7);
    }
    code = (u >> 20) - (120u << 3) + (u >> 19 & 1);
    return code;
}

QUANT__ENCODER(quant__encode_nvfp4)
{
    quant__nvfp4 *b = (quant__nvfp4 *)dst;
    float v[16], d;
    int s, j;
    (void)importance;
    for (s = 0; s < 4; s++) {
        for (j = 0; j < 16; j++) v[j] = x[16 * s + j] / params->tensor_scale;
        b->d[s] = (uint8_t)quant__to_ue4m3(quant__amax(v, 16) / 6);
        d = quant__ue4m3_half(b->d[s]);
        for (j = 0; j < 8; j++)
            b->qs[8 * s + j] = (uint8_t)(quant__fp4_index(v[j], d)
                                         | quant__fp4_index(v[j + 8], d) << 4);
    }
}

#ifndef QUANT_NO_IQ
#define QUANT__BOOK(name, n, bits, shells) { quant__grid_##name, n, bits, shells }
static const quant__book_kind quant__kind_iq2_xxs = { QUANT__BOOK(iq2_xxs, 256, 2, 2),
                                                      32, 6, 0.1f, 1e-15f, 1, 1, 1, 2 };
static const quant__book_kind quant__kind_iq2_xs = { QUANT__BOOK(iq2_xs, 512, 2, 2),
                                                     16, 9, 0.1f, 1e-15f, 1, 1, 1, 0 };
static const quant__book_kind quant__kind_iq2_s = { QUANT__BOOK(iq2_s, 1024, 2, 1),
                                                    16, 9, 0.1f, 1e-8f, 2, 0.9875f, 0, 0 };
static const quant__book_kind quant__kind_iq3_xxs = { QUANT__BOOK(iq3_xxs, 256, 3, 2),
                                                      32, 15, 0.2f, 1e-8f, 2, 1.0125f, 1, 0 };
static const quant__book_kind quant__kind_iq3_s = { QUANT__BOOK(iq3_s, 512, 3, 3),
                                                    32, 9, 0.2f, 0, 2, 1.033f, 0, 1 };
#undef QUANT__BOOK

/* An encoded super-block before it is packed; d is a half. */
typedef struct quant__booked {
    uint16_t entry[64];             /* of the groups of 8, IQ3: of 4                             */
    uint8_t signs[32], scale[16];   /* of the groups of 8; codes of the sub-blocks' scales       */
    uint32_t d;
} quant__booked;

/* Magnitudes of eight weights; returns their signs.  even: an odd number of minuses is made even at
 * the weight that costs least, whose magnitude becomes negative. */
QUANT__FN uint32_t quant__take_signs(float *m, const float *x, const float *w, int even)
{
    uint32_t signs = 0, odd = 0;
    int i, cheap = 0;
    for (i = 0; i < 8; i++) {
        uint32_t minus = !(x[i] >= 0);
        m[i] = minus ? -x[i] : x[i];
        signs |= minus << i;
        odd ^= minus;
        if (w[i] * x[i] * x[i] < w[cheap] * x[cheap] * x[cheap]) cheap = i;
    }
    if (even && odd) {
        m[cheap] = -m[cheap];
        signs ^= 1u << cheap;
    }
    return signs;
}

/* Weights of n columns of a search with importance, or without: x^2. */
QUANT__INLINE void quant__weigh_or_square(float *w, const float *importance, const float *x,
                                          int n, float variance)
{
    int i;
    if (importance) quant__weigh(w, importance, x, n, variance);
    else for (i = 0; i < n; i++) w[i] = x[i] * x[i];
}

QUANT__FN void quant__encode_book(quant__booked *s, const quant__book_kind *k, const float *x,
                                  const float *importance)
{
    float w[32], m[32], scale[16], max = 0, d, id;
    float variance = k->variance * quant__sum_squares(x, QUANT__K) / QUANT__K;
    int b, i, n = QUANT__K / k->len, groups = k->len / quant__book_len(&k->book);
    QUANT_MEMSET(s, 0, sizeof *s);
    for (b = 0; b < n; b++, x += k->len) {
        uint8_t *signs = s->signs + k->len / 8 * b;
        quant__weigh_or_square(w, importance ? importance + k->len * b : NULL, x, k->len, variance);
        if (!importance && k == &quant__kind_iq2_s)
            for (i = 0; i < k->len; i++) w[i] = 0.25f * variance + w[i];
        for (i = 0; i < k->len; i += 8)
            signs[i / 8] = (uint8_t)quant__take_signs(m + i, x + i, w + i, k->even);
        scale[b] = 0;
        if (!quant__search_book(k, m, w, s->entry + groups * b, &scale[b]))
            QUANT_MEMSET(signs, 0, (size_t)k->len / 8);
        if (scale[b] < 0) {
            scale[b] = -scale[b];
            for (i = 0; i < k->len / 8; i++) signs[i] = (uint8_t)~signs[i];
        }
        max = scale[b] > max ? scale[b] : max;
    }
    if (max == 0) {
        if (k->even) QUANT_MEMSET(s, 0, sizeof *s);
        return;
    }
    d = max / 31;
    id = 1 / d;
    s->d = quant__to_half(d * k->fudge);
    for (b = 0; b < n; b++)
        s->scale[b] = (uint8_t)quant__clamp(quant__nearest(0.5f * (id * scale[b] - 1)), 0, 15);
}

/* Signs of the four groups of 8 of sub-block g in 7 bits each, and its scale: IQ2_XXS, IQ3_XXS. */
QUANT__INLINE uint32_t quant__signs_and_scale(const quant__booked *s, int g)
{
    uint32_t a = (uint32_t)s->scale[g] << 28;
    int l;
    for (l = 0; l < 4; l++) a |= (s->signs[4 * g + l] & 127u) << 7 * l;
    return a;
}

QUANT__ENCODER(quant__encode_iq2_xxs)
{
    quant__iq2_xxs *b = (quant__iq2_xxs *)dst;
    quant__booked s;
    int g, l;
    (void)params;
    quant__encode_book(&s, &quant__kind_iq2_xxs, x, importance);
    quant__put16(b->d, s.d);
    for (g = 0; g < 8; g++) {
        for (l = 0; l < 4; l++) b->qs[8 * g + l] = (uint8_t)s.entry[4 * g + l];
        quant__put32(b->qs + 8 * g + 4, quant__signs_and_scale(&s, g));
    }
}

QUANT__ENCODER(quant__encode_iq2_xs)
{
    quant__iq2_xs *b = (quant__iq2_xs *)dst;
    quant__booked s;
    int i;
    (void)params;
    quant__encode_book(&s, &quant__kind_iq2_xs, x, importance);
    quant__put16(b->d, s.d);
    for (i = 0; i < 32; i++)
        quant__put16(b->qs + 2 * i, s.entry[i] | (s.signs[i] & 127u) << 9);
    for (i = 0; i < 8; i++) b->scales[i] = (uint8_t)(s.scale[2 * i] | s.scale[2 * i + 1] << 4);
}

QUANT__ENCODER(quant__encode_iq2_s)
{
    quant__iq2_s *b = (quant__iq2_s *)dst;
    quant__booked s;
    int i;
    (void)params;
    quant__encode_book(&s, &quant__kind_iq2_s, x, importance);
    quant__put16(b->d, s.d);
    QUANT_MEMSET(b->qh, 0, sizeof b->qh);
    QUANT_MEMCPY(b->signs, s.signs, sizeof b->signs);
    for (i = 0; i < 32; i++) {
        b->qs[i] = (uint8_t)s.entry[i];
        b->qh[i / 4] = (uint8_t)(b->qh[i / 4] | s.entry[i] >> 8 << 2 * (i % 4));
    }
    for (i = 0; i < 8; i++) b->scales[i] = (uint8_t)(s.scale[2 * i] | s.scale[2 * i + 1] << 4);
}

QUANT__ENCODER(quant__encode_iq3_xxs)
{
    quant__iq3_xxs *b = (quant__iq3_xxs *)dst;
    quant__booked s;
    int i;
    (void)params;
    quant__encode_book(&s, &quant__kind_iq3_xxs, x, importance);
    quant__put16(b->d, s.d);
    for (i = 0; i < 64; i++) b->qs[i] = (uint8_t)s.entry[i];
    for (i = 0; i < 8; i++) quant__put32(b->gas + 4 * i, quant__signs_and_scale(&s, i));
}

QUANT__ENCODER(quant__encode_iq3_s)
{
    quant__iq3_s *b = (quant__iq3_s *)dst;
    quant__booked s;
    int i;
    (void)params;
    quant__encode_book(&s, &quant__kind_iq3_s, x, importance);
    quant__put16(b->d, s.d);
    QUANT_MEMSET(b->qh, 0, sizeof b->qh);
    QUANT_MEMCPY(b->signs, s.signs, sizeof b->signs);
    for (i = 0; i < 64; i++) {
        b->qs[i] = (uint8_t)s.entry[i];
        b->qh[i / 8] = (uint8_t)(b->qh[i / 8] | s.entry[i] >> 8 << i % 8);
    }
    for (i = 0; i < 4; i++) b->scales[i] = (uint8_t)(s.scale[2 * i] | s.scale[2 * i + 1] << 4);
}

/* n sub-blocks of IQ1: their searches, and their scales as codes of 3 bits.  Returns the largest
 * scale / 15, of which code c means 2 c + 1. */
QUANT__FN float quant__encode_ternary(quant__ternary *s, uint8_t *code, int n, const float *x,
                                      const float *importance, float variance)
{
    float w[32], max = 0, id;
    int b, len = QUANT__K / n;
    for (b = 0; b < n; b++) {
        quant__weigh_or_square(w, importance ? importance + len * b : NULL, x + len * b, len,
                               variance);
        quant__search_iq1(&s[b], len, x + len * b, w);
        max = s[b].scale > max ? s[b].scale : max;
    }
    id = max != 0 ? 1 / (max / 15) : 0;
    for (b = 0; b < n; b++)
        code[b] = (uint8_t)quant__clamp(quant__nearest(0.5f * (id * s[b].scale - 1)), 0, 7);
    return max / 15;
}

QUANT__ENCODER(quant__encode_iq1_s)
{
    quant__iq1_s *b = (quant__iq1_s *)dst;
    quant__ternary s[8];
    uint8_t code[8];
    float d = quant__encode_ternary(s, code, 8, x, importance,
                                    2 * quant__sum_squares(x, QUANT__K) / QUANT__K);
    int g, l;
    (void)params;
    quant__put16(b->d, quant__to_half(d * 1.125f));
    for (g = 0; g < 8; g++) {
        uint32_t h = d != 0 ? (uint32_t)code[g] << 12 | (s[g].up[0] ? 0 : 0x8000u) : 0;
        for (l = 0; l < 4; l++) {
            b->qs[4 * g + l] = (uint8_t)s[g].entry[l];
            h |= (uint32_t)(s[g].entry[l] >> 8) << 3 * l;
        }
        quant__put16(b->qh + 2 * g, h);
    }
}

/* d is fitted once more, over all weights, with the codes that the scales have become. */
QUANT__ENCODER(quant__encode_iq1_m)
{
    quant__iq1_m *b = (quant__iq1_m *)dst;
    quant__ternary s[16];
    uint8_t code[16];
    float w[16], variance = 2 * quant__sum_squares(x, QUANT__K) / QUANT__K, sumqx = 0, sumq2 = 0;
    float d = quant__encode_ternary(s, code, 16, x, importance, variance);
    uint32_t bits[4] = { 0, 0, 0, 0 }, half;
    int k, i;
    (void)params;
    for (k = 0; k < 16; k++) {
        const float *xk = x + 16 * k;
        const quant__ternary *t = &s[k];
        int down = d != 0 ? !t->up[0] << 3 | !t->up[1] << 7 : 0;
        b->qs[2 * k] = (uint8_t)t->entry[0];
        b->qs[2 * k + 1] = (uint8_t)t->entry[1];
        b->qh[k] = (uint8_t)(t->entry[0] >> 8 | t->entry[1] >> 8 << 4 | down);
        bits[k / 4] |= (uint32_t)code[k] << 3 * (k % 4);
        quant__weigh_or_square(w, importance ? importance + 16 * k : NULL, xk, 16, variance);
        for (i = 0; i < 16; i++) {
            uint32_t digit = quant__grid_iq1_s[t->entry[i / 8]] >> 2 * (i % 8) & 3;
            float q = quant__shifted_levels[t->up[i / 8]][digit] * (float)(2 * code[k] + 1);
            sumqx += w[i] * q * xk[i];
            sumq2 += w[i] * q * q;
        }
    }
    if (d != 0 && sumq2 > 0) d = sumqx / sumq2;
    half = quant__to_half(d * 1.1125f);
    for (k = 0; k < 4; k++)
        quant__put16(b->scales + 2 * k, bits[k] | (half >> 4 * k & 15) << 12);
}
#endif /* QUANT_NO_IQ */
#endif /* QUANT_NO_ENCODE */

/* >>row-impl ------------------------------------------------------------------------------------
 * Rows: loops over blocks through one table of functions. */
typedef void (*quant__decoder)(float *y, const void *src);

QUANT__FN quant__decoder quant__get_decoder(quant_type t)
{
    switch (t) {
        case QUANT_Q4_0: return quant__decode_q4_0;
        case QUANT_Q4_1: return quant__decode_q4_1;
        case QUANT_Q5_0: return quant__decode_q5_0;
        case QUANT_Q5_1: return quant__decode_q5_1;
        case QUANT_Q8_0: return quant__decode_q8_0;
        case QUANT_Q2_K: return quant__decode_q2_k;
        case QUANT_Q3_K: return quant__decode_q3_k;
        case QUANT_Q4_K: return quant__decode_q4_k;
        case QUANT_Q5_K: return quant__decode_q5_k;
        case QUANT_Q6_K: return quant__decode_q6_k;
        case QUANT_IQ4_NL: return quant__decode_iq4_nl;
        case QUANT_IQ4_XS: return quant__decode_iq4_xs;
        case QUANT_TQ1_0: return quant__decode_tq1_0;
        case QUANT_TQ2_0: return quant__decode_tq2_0;
        case QUANT_MXFP4: return quant__decode_mxfp4;
        case QUANT_NVFP4: return quant__decode_nvfp4;
        case QUANT_Q1_0: return quant__decode_q1_0;
        case QUANT_Q2_0: return quant__decode_q2_0;
#ifndef QUANT_NO_IQ
        case QUANT_IQ1_S: return quant__decode_iq1_s;
        case QUANT_IQ1_M: return quant__decode_iq1_m;
        case QUANT_IQ2_XXS: return quant__decode_iq2_xxs;
        case QUANT_IQ2_XS: return quant__decode_iq2_xs;
        case QUANT_IQ2_S: return quant__decode_iq2_s;
        case QUANT_IQ3_XXS: return quant__decode_iq3_xxs;
        case QUANT_IQ3_S: return quant__decode_iq3_s;
#endif
        default: return NULL;
    }
}

/* n weights of F32, F16 or BF16. */
QUANT__FN void quant__decode_plain(quant_type t, float *y, const uint8_t *p, size_t n)
{
    size_t i;
    if (t == QUANT_F32)
        for (i = 0; i < n; i++) y[i] = quant__float(quant__le32(p + 4 * i));
    else if (t == QUANT_F16)
        for (i = 0; i < n; i++) y[i] = quant__half(quant__le16(p + 2 * i));
    else
        for (i = 0; i < n; i++) y[i] = quant__float(quant__le16(p + 2 * i) << 16);
}

/* Checks type and shape; gives the number of blocks in all rows. */
QUANT__FN quant_result quant__rows(quant_type t, size_t rows, size_t cols, uint32_t flag,
                                   size_t *blocks)
{
    const quant_type_info *info = quant_type_get(t);
    if (!info || !(info->flags & flag)) return QUANT_E_TYPE;
    if (cols % info->block_len) return QUANT_E_ARG;
    if (cols && rows > (size_t)-1 / cols) return QUANT_E_ARG;
    *blocks = rows * (cols / info->block_len);
    return QUANT_OK;
}

QUANT_API quant_result quant_to_f32(quant_type t, float *y, const void *src, size_t rows,
                                    size_t cols)
{
    const uint8_t *p = (const uint8_t *)src;
    quant__decoder decode = quant__get_decoder(t);
    size_t i, n;
    quant_result r = quant__rows(t, rows, cols, QUANT_TF_DECODE, &n);
    if (r) return r;
    if (!decode) quant__decode_plain(t, y, p, n);
    else for (i = 0; i < n; i++)
        decode(y + i * quant__types[t].block_len, p + i * quant__types[t].block_size);
    return QUANT_OK;
}

/* 1 if a scale of the block (a value of F32, F16, BF16) is NaN or infinite. */
QUANT__FN int quant__bad_block(quant_type t, const uint8_t *p)
{
    int i;
    if (t == QUANT_F32) return !quant__finite(quant__float(quant__le32(p)));
    if (t == QUANT_BF16) return (quant__le16(p) & 0x7f80u) == 0x7f80u;
    if (t == QUANT_MXFP4) return p[0] == 0xff;
    if (t == QUANT_NVFP4) {
        for (i = 0; i < 4; i++) if ((p[i] & 0x7f) == 0x7f) return 1;
        return 0;
    }
    if (t == QUANT_IQ1_M)                   /* exponent bits of d, see quant__iq1_m              */
        return (p[55] >> 4 & 7) == 7 && (p[53] >> 4 & 12) == 12;
    for (i = 0; i < 2; i++) {
        int at = quant__halves[t][i];
        if (at && (quant__le16(p + at - 1) & 0x7c00u) == 0x7c00u) return 1;
    }
    return 0;
}

QUANT_API quant_result quant_check_rows(quant_type t, const void *src, size_t rows, size_t cols,
                                        quant_error *err)
{
    const uint8_t *p = (const uint8_t *)src;
    size_t i, n;
    quant_result r = quant__rows(t, rows, cols, QUANT_TF_DECODE, &n);
    if (r) return quant__fail(err, r, 0, QUANT__TEXT("no decoder for the type, or bad shape"));
    for (i = 0; i < n; i++, p += quant__types[t].block_size)
        if (quant__bad_block(t, p))
            return quant__fail(err, QUANT_E_NUMERIC, (uint64_t)i * quant__types[t].block_size,
                               QUANT__TEXT("a block has a scale that is not finite"));
    return QUANT_OK;
}

QUANT_API quant_result quant_row_error(quant_type t, double *err2, double *ref2, const float *x,
                                       const void *q, size_t cols, const float *importance,
                                       float tensor_scale)
{
    const uint8_t *p = (const uint8_t *)q;
    float y[QUANT__K];
    size_t i, j, n, len;
    quant_result r = quant__rows(t, 1, cols, QUANT_TF_DECODE, &n);
    if (r) return r;
    for (i = 0; i < cols; i += len) {
        len = quant__types[t].block_len == 1 ? QUANT__K : quant__types[t].block_len;
        if (len > cols - i) len = cols - i;
        quant_to_f32(t, y, p, 1, len);
        p += quant_row_size(t, len);
        for (j = 0; j < len; j++) {
            double w = importance ? importance[i + j] : 1;
            double e = (double)x[i + j] - (double)tensor_scale * (double)y[j];
            *err2 += w * e * e;
            *ref2 += w * (double)x[i + j] * (double)x[i + j];
        }
    }
    return QUANT_OK;
}

#ifdef QUANT_NO_ENCODE
QUANT_API size_t quant_encoder_size(quant_type t) { (void)t; return 0; }
QUANT_API float quant_tensor_scale(quant_type t, float amax) { (void)t; (void)amax; return 1; }
#else
typedef void (*quant__encode_fn)(void *dst, const float *x, const float *importance,
                                 const quant__params *params);

QUANT__FN quant__encode_fn quant__get_encoder(quant_type t)
{
    switch (t) {
        case QUANT_Q4_0: return quant__encode_q4_0;
        case QUANT_Q4_1: return quant__encode_q4_1;
        case QUANT_Q5_0: return quant__encode_q5_0;
        case QUANT_Q5_1: return quant__encode_q5_1;
        case QUANT_Q8_0: return quant__encode_q8_0;
        case QUANT_Q2_K: return quant__encode_q2_k;
        case QUANT_Q3_K: return quant__encode_q3_k;
        case QUANT_Q4_K: return quant__encode_q4_k;
        case QUANT_Q5_K: return quant__encode_q5_k;
        case QUANT_Q6_K: return quant__encode_q6_k;
        case QUANT_IQ4_NL: return quant__encode_iq4_nl;
        case QUANT_IQ4_XS: return quant__encode_iq4_xs;
        case QUANT_TQ1_0: return quant__encode_tq1_0;
        case QUANT_TQ2_0: return quant__encode_tq2_0;
        case QUANT_MXFP4: return quant__encode_mxfp4;
        case QUANT_NVFP4: return quant__encode_nvfp4;
        case QUANT_Q1_0: return quant__encode_q1_0;
        case QUANT_Q2_0: return quant__encode_q2_0;
#ifndef QUANT_NO_IQ
        case QUANT_IQ2_XXS: return quant__encode_iq2_xxs;
        case QUANT_IQ2_XS: return quant__encode_iq2_xs;
        case QUANT_IQ2_S: return quant__encode_iq2_s;
        case QUANT_IQ3_XXS: return quant__encode_iq3_xxs;
        case QUANT_IQ3_S: return quant__encode_iq3_s;
        case QUANT_IQ1_S: return quant__encode_iq1_s;
        case QUANT_IQ1_M: return quant__encode_iq1_m;
#endif
        default: return NULL;
    }
}

QUANT_API size_t quant_encoder_size(quant_type t)
{
    (void)t;
    return 0;
}

QUANT_API quant_result quant_encoder_init(quant_encoder *e, quant_type t, uint32_t effort,
                                          void *tables, size_t size)
{
    const quant_type_info *info = quant_type_get(t);
    QUANT_MEMSET(e, 0, sizeof *e);
    if (!info || !(info->flags & QUANT_TF_ENCODE)) return QUANT_E_TYPE;
    if (effort > QUANT_EFFORT_BEST) return QUANT_E_ARG;
    if (size < quant_encoder_size(t)) return QUANT_E_MEMORY;
    e->type = t;
    e->effort = effort;
    e->tensor_scale = 1;
    e->tables = tables;
    return QUANT_OK;
}

/* The largest sub-block scale becomes 240, the last one that UE4M3 rounds well: the reference
 * encoder takes everything above 248 for 448. */
QUANT_API float quant_tensor_scale(quant_type t, float amax)
{
    float scale = amax / (6 * 240);
    return t == QUANT_NVFP4 && scale >= 1.17549435e-38f && quant__finite(amax) ? scale : 1;
}

/* Index of the first value of magnitude `limit` or more, or NaN; n if there is none. */
QUANT__FN size_t quant__first_bad(const float *x, size_t n, float limit)
{
    int32_t top = (int32_t)quant__bits(limit);
    size_t i = 0, j;
    for (; i + 64 <= n; i += 64) {          /* 64 at a time, without a branch                    */
        int32_t m = 0;
        for (j = 0; j < 64; j++) {
            int32_t a = (int32_t)(quant__bits(x[i + j]) & 0x7fffffffu);
            m = a > m ? a : m;
        }
        if (m >= top) break;
    }
    for (; i < n; i++) if ((int32_t)(quant__bits(x[i]) & 0x7fffffffu) >= top) break;
    return i;
}

QUANT__FN void quant__encode_plain(quant_type t, uint8_t *p, const float *x, size_t n)
{
    size_t i;
    if (t == QUANT_F32)
        for (i = 0; i < n; i++) quant__put32(p + 4 * i, quant__bits(x[i]));
    else if (t == QUANT_F16)
        for (i = 0; i < n; i++) quant__put16(p + 2 * i, quant__to_half(x[i]));
    else
        for (i = 0; i < n; i++) quant__put16(p + 2 * i, quant__to_bf16(x[i]));
}

/* One row of n blocks; returns the index of the block that could not be encoded, n if all were. */
QUANT__FN size_t quant__encode_row(const quant_encoder *e, quant__encode_fn encode, uint8_t *dst,
                                   const float *x, size_t n, const float *importance)
{
    const quant_type_info *info = &quant__types[e->type];
    quant__params p;
    size_t i, len = info->block_len;
    p.tensor_scale = e->tensor_scale;
    p.row_variance = 0;
    if (importance && info->flags & QUANT_TF_WHOLE_ROWS)
        p.row_variance = quant__sum_squares(x, n * len) / (float)(n * len);
    for (i = 0; i < n; i++, dst += info->block_size) {
        encode(dst, x + i * len, importance ? importance + i * len : NULL, &p);
        if (quant__bad_block(e->type, dst)) return i;
    }
    return n;
}

/* Importance is finite and not negative. */
QUANT__FN quant_result quant__check_importance(const float *importance, size_t cols,
                                               quant_error *err)
{
    size_t i;
    for (i = 0; i < cols; i++)
        if (!(importance[i] >= 0) || !quant__finite(importance[i]))
            return quant__fail(err, QUANT_E_NUMERIC, i,
                               QUANT__TEXT("an importance is negative or not finite"));
    return QUANT_OK;
}

QUANT_API quant_result quant_from_f32(const quant_encoder *e, void *dst, const float *x,
                                      size_t rows, size_t cols, const float *importance,
                                      quant_error *err)
{
    uint8_t *p = (uint8_t *)dst;
    quant__encode_fn encode = quant__get_encoder(e->type);
    const char *too_large = QUANT__TEXT("weights are too large for the scales of the type");
    /* No type with half scales reaches 2^29, and below it the sums of the searches are finite    */
    int fp4 = e->type == QUANT_MXFP4 || e->type == QUANT_NVFP4;
    float limit = fp4 ? quant__float(0x7f800000u) : 536870912.f;
    size_t i, bad, n, len;
    quant_result r = quant__rows(e->type, rows, cols, QUANT_TF_ENCODE, &n);
    if (r) return quant__fail(err, r, 0, r == QUANT_E_TYPE ? QUANT__TEXT("no encoder for the type")
                              : QUANT__TEXT("the columns are not a multiple of the block"));
    if (!encode) {
        quant__encode_plain(e->type, p, x, n);
        return QUANT_OK;
    }
    if (!(e->tensor_scale > 0) || !quant__finite(e->tensor_scale))
        return quant__fail(err, QUANT_E_ARG, 0, QUANT__TEXT("the tensor scale is not positive"));
    if (!(quant__types[e->type].flags & QUANT_TF_IMPORTANCE)) importance = NULL;
    if (!importance && quant__types[e->type].flags & QUANT_TF_NEEDS_IMPORTANCE)
        return quant__fail(err, QUANT_E_ARG, 0, QUANT__TEXT("the type needs importance"));
    if (importance && (r = quant__check_importance(importance, cols, err)) != QUANT_OK) return r;
    len = quant__types[e->type].block_len;
    for (i = 0; i < rows; i++, x += cols, p += cols / len * quant__types[e->type].block_size) {
        bad = quant__first_bad(x, cols, limit);
        if (bad < cols)
            return quant__fail(err, QUANT_E_NUMERIC, (uint64_t)i * cols + bad,
                               quant__finite(x[bad]) ? too_large
                               : QUANT__TEXT("a weight is NaN or infinite"));
        bad = quant__encode_row(e, encode, p, x, cols / len, importance) * len;
        if (bad < cols)
            return quant__fail(err, QUANT_E_NUMERIC, (uint64_t)i * cols + bad, too_large);
    }
    return QUANT_OK;
}
#endif

/* >>product -------------------------------------------------------------------------------------
 * Matrix products.  Every type is computed from one kind of tile, "P16", which quant_matrix_pack
 * makes once, or quant_matmul for a few columns at a time from the layout of the file.  The kernels
 * that read tiles are in >>kernels, one text for all instruction sets. */
#ifndef QUANT_NO_MATMUL
enum {
    QUANT__TILE  = 16,              /* rows of a tile                                            */
    QUANT__FEW_TOKENS = 8,         /* up to so many the kernels read tiles as they are          */
    QUANT__STRIPES = 8,             /* stripes of 32 columns that are decoded at a time          */
    QUANT__FRAME = 4,               /* of these in a stack frame: 3 KiB                         */
    QUANT__TILES = 4                /* of so many tiles at most                                  */
};

/* P16.  A tile is 16 rows (the last one of a matrix is filled up with zeros); in it unit follows
 * unit.  A unit is the columns that share a scale d, in the parts below, each over r = row 0 to 15:
 *
 *   scale    d[r], half floats; MXFP4: e[r], bytes; NVFP4: one UE4M3 byte per 16 columns
 *   minimum  m[r] or dmin[r], half floats
 *   factors  one or two signed bytes f[i][r] for each stripe of 32 columns
 *   factors of the minimum, likewise
 *   high     words of 64 bytes: bits of the codes above those of low
 *   low      words of 64 bytes: the low bits of the codes
 *
 * Byte 4 r + k of a word belongs to row r and to the columns 4 g + k of its stripes, g = 0 to 7:
 * groups of four, as dot products of bytes want them, a row of Y per 32-bit lane, so that no sum
 * crosses lanes.  Which word and which bits hold group g of stripe j is the `order`: that of the
 * file, four bytes at a time, or, for codes of 3 and 6 bits, one whose shifts are constants and
 * whose stripes follow each other. */
enum quant__order {
    /* low:                                word            first bit                             */
    QUANT__N32,                     /* 4 j + g % 4                     4 (g / 4)                 */
    QUANT__N16,                     /* 4 j + 2 (g / 4) + g % 2         4 (g / 2 % 2)             */
    QUANT__N64,                     /* 8 (j / 2) + g                   4 (j % 2)                 */
    QUANT__C128,                    /* 8 (j / 4) + g                   2 (j % 4)                 */
    QUANT__C64,                     /* g % 4                           4 j + 2 (g / 4)           */
    QUANT__B128,                    /* j                               g                         */
    QUANT__W8,                      /* 8 j + g                         0                         */
    QUANT__T3,                      /* 3 j + g / 2                     3 (g % 2): all three bits;
        of groups 6 and 7 the lower two in bits 6 and 7 of words 0 and 1, the third in word 2's  */
    QUANT__S6,                      /* 6 j + g                         0: all six bits; of groups
        6 and 7 two each in bits 6 and 7 of words 0, 2, 4 and 1, 3, 5                            */
    /* high:                                                                                     */
    QUANT__H0,                      /* none                                                      */
    QUANT__H32,                     /* one word                        g: bit 4 of the code      */
    QUANT__H256                     /* g                               j: bit 4                  */
};
enum quant__scales {
    QUANT__D,                       /* d                                                         */
    QUANT__E8,                      /* 2^(e - 128)                                               */
    QUANT__U4,                      /* UE4M3, one per 16 columns                                 */
    QUANT__F1,                      /* d f, one factor for a stripe                              */
    QUANT__F2,                      /* d f, two                                                  */
    QUANT__N2,                      /* Q2_K: two bytes, low nibble factor, high the minimum's    */
    QUANT__F6                       /* Q3_K: 12 bytes of 6-bit factors, as in the file, become F2 */
};
enum quant__minima { QUANT__M0, QUANT__M, QUANT__MF };      /* none; m; - dmin f                 */

/* What a code stands for: itself, or an entry of quant__values. */
enum quant__meaning { QUANT__ITSELF, QUANT__IQ4, QUANT__FP4, QUANT__IQ3X, QUANT__IQ3S, QUANT__IQ2,
                      QUANT__IQ1, QUANT__PM1 };

/* Added to the values of the tables so that they are not negative (IQ4 excepted: it needs 8 bits).
 * IQ2: digit + 4 sign of the grids in decoding; IQ3: digit + 8 sign; IQ1: digit + 4 (delta < 0) for
 * 8 (digit - 1) +- 1; PM1: -1 and 1. */
static const uint8_t quant__values[8][16] = {
    { 0 },
    { 129, 152, 173, 191, 207, 221, 234, 246, 1, 13, 25, 38, 53, 69, 89, 113 },   /* = IQ4 values */
    { 16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4 },                     /* + 16 */
    { 68, 76, 84, 92, 100, 108, 116, 126, 60, 52, 44, 36, 28, 20, 12, 2 },                /* + 64 */
    { 17, 19, 21, 23, 25, 27, 29, 31, 15, 13, 11, 9, 7, 5, 3, 1 },                        /* + 16 */
    { 72, 89, 107, 64, 56, 39, 21, 64, 72, 89, 107, 64, 56, 39, 21, 64 },                 /* + 64 */
    { 9, 17, 25, 16, 7, 15, 23, 16, 9, 17, 25, 16, 7, 15, 23, 16 },                       /* + 16 */
    { 0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2 }                                    /* + 1  */
};

/* The layout of a type.  most: the largest code: what the sums of byte products may add up in 16
 * bits depends on it; 255: signed.  The value is code - 2^offset (none if 32) times factor. */
typedef struct quant__p16 {
    uint16_t stripes;               /* stripes of a unit; 0: no such layout                      */
    uint16_t size;                  /* bytes of a unit; parts follow each other in this order:   */
    uint16_t min, fac, minfac, high, low;                   /* where they begin                  */
    uint8_t  order, high_order, scales, minima, meaning, most, offset;
    float    factor;                /* of d                                                      */
} quant__p16;

/* stripes, bytes in 16 rows of d, m, factors, minimum's factors, high; words of low; the rest */
#define QUANT__P(st, d, m, f, mf, h, words, order, ho, sc, mi, mean, most, off, factor) \
    { st, (d) + (m) + (f) + (mf) + (h) + 64 * (words), d, (d) + (m), (d) + (m) + (f), \
      (d) + (m) + (f) + (mf), (d) + (m) + (f) + (mf) + (h), \
      QUANT__##order, QUANT__##ho, QUANT__##sc, QUANT__##mi, QUANT__##mean, most, off, factor }
#define QUANT__P0 { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
static const quant__p16 quant__p16s[QUANT_TYPE_COUNT] = {
    QUANT__P0, QUANT__P0,                                                       /* F32, F16      */
    QUANT__P(1, 32, 0, 0, 0, 0, 4, N32, H0, D, M0, ITSELF, 15, 3, 1),            /* Q4_0          */
    QUANT__P(1, 32, 32, 0, 0, 0, 4, N32, H0, D, M, ITSELF, 15, 32, 1),           /* Q4_1          */
    QUANT__P0, QUANT__P0,
    QUANT__P(1, 32, 0, 0, 0, 64, 4, N32, H32, D, M0, ITSELF, 31, 4, 1),          /* Q5_0          */
    QUANT__P(1, 32, 32, 0, 0, 64, 4, N32, H32, D, M, ITSELF, 31, 32, 1),         /* Q5_1          */
    QUANT__P(1, 32, 0, 0, 0, 0, 8, W8, H0, D, M0, ITSELF, 255, 32, 1),           /* Q8_0          */
    QUANT__P0,
    QUANT__P(8, 32, 32, 256, 0, 0, 16, C128, H0, N2, MF, ITSELF, 3, 32, 1),      /* Q2_K          */
    QUANT__P(8, 32, 0, 192, 0, 0, 24, T3, H0, F6, M0, ITSELF, 7, 2, 1),          /* Q3_K          */
    QUANT__P(8, 32, 32, 128, 128, 0, 32, N64, H0, F1, MF, ITSELF, 15, 32, 1),    /* Q4_K          */
    QUANT__P(8, 32, 32, 128, 128, 512, 32, N64, H256, F1, MF, ITSELF, 31, 32, 1),/* Q5_K          */
    QUANT__P(8, 32, 0, 256, 0, 0, 48, S6, H0, F2, M0, ITSELF, 63, 5, 1),         /* Q6_K          */
    QUANT__P0,
    QUANT__P(8, 32, 0, 128, 0, 0, 24, T3, H0, F1, M0, IQ2, 127, 6, .125f),/* IQ2_XXS       */
    QUANT__P(8, 32, 0, 256, 0, 0, 24, T3, H0, F2, M0, IQ2, 127, 6, .125f),/* IQ2_XS        */
    QUANT__P(8, 32, 0, 128, 0, 0, 32, N32, H0, F1, M0, IQ3X, 127, 6, .25f),     /* IQ3_XXS       */
    QUANT__P(8, 32, 0, 128, 0, 0, 24, T3, H0, F1, M0, IQ1, 31, 4, .125f), /* IQ1_S         */
    QUANT__P(1, 32, 0, 0, 0, 0, 4, N32, H0, D, M0, IQ4, 255, 32, 1),            /* IQ4_NL        */
    QUANT__P(8, 32, 0, 128, 0, 0, 32, N32, H0, F1, M0, IQ3S, 31, 4, 1),         /* IQ3_S         */
    QUANT__P(8, 32, 0, 256, 0, 0, 24, T3, H0, F2, M0, IQ2, 127, 6, .125f),/* IQ2_S         */
    QUANT__P(8, 32, 0, 128, 0, 0, 32, N32, H0, F1, M0, IQ4, 255, 32, 1),        /* IQ4_XS        */
    QUANT__P0, QUANT__P0, QUANT__P0, QUANT__P0, QUANT__P0,
    QUANT__P(8, 32, 0, 256, 0, 0, 24, T3, H0, F2, M0, IQ1, 31, 4, .125f), /* IQ1_M         */
    QUANT__P0, QUANT__P0, QUANT__P0, QUANT__P0,
    QUANT__P(8, 32, 0, 0, 0, 0, 16, C128, H0, D, M0, ITSELF, 3, 0, 1),           /* TQ1_0         */
    QUANT__P(8, 32, 0, 0, 0, 0, 16, C128, H0, D, M0, ITSELF, 3, 0, 1),           /* TQ2_0         */
    QUANT__P0, QUANT__P0, QUANT__P0,
    QUANT__P(1, 16, 0, 0, 0, 0, 4, N32, H0, E8, M0, FP4, 31, 4, 1),             /* MXFP4         */
    QUANT__P(2, 64, 0, 0, 0, 0, 8, N16, H0, U4, M0, FP4, 31, 4, 1),             /* NVFP4         */
    QUANT__P(4, 32, 0, 0, 0, 0, 4, B128, H0, D, M0, PM1, 3, 0, 1),              /* Q1_0          */
    QUANT__P(2, 32, 0, 0, 0, 0, 4, C64, H0, D, M0, ITSELF, 3, 0, 1)              /* Q2_0          */
};
#undef QUANT__P
#undef QUANT__P0

/* 32 activations: x = d q with |q| <= 127.  The sums are made once: a type with codes q - 2^s
 * begins its sums at -sum q << s.  One line of the cache. */
typedef struct quant__act32 {
    float   d, ds, dh[2];           /* scale; d sum q, and of its halves, for minima             */
    int32_t n, nh[2], zero;         /* -sum q; -32 sum q of its halves, for Q6_K as it is        */
    uint8_t q[32];                  /* two's complement                                          */
} quant__act32;
QUANT__STATIC_ASSERT(act32, sizeof(quant__act32) == 64);

/* A decoded stripe: 16 rows of 32 columns.  s: scale and minimum's scale of the first 16 columns
 * and the second (or of all 32: s[0], s[2]); q[g][4 r + k] as in the words of P16. */
typedef struct quant__stripe {
    float   s[4][QUANT__TILE];      /* scale 0, scale 1, minimum 0, minimum 1                    */
    uint8_t q[8][4 * QUANT__TILE];
} quant__stripe;

/* What the kernels of an instruction set do: quant__run_scalar and the like, in >>kernels. */
enum quant__op {
    QUANT__FEW,                     /* y of up to 4 tokens from stripes of P16                   */
    QUANT__DECODE,                  /* stripes of P16 to quant__stripe                           */
    QUANT__MANY,                    /* y of some tokens from decoded stripes                     */
    QUANT__FLOATS,                  /* y of some tokens from 16 rows of floats, column by column */
    QUANT__ACT                      /* activations to 8 bits                                     */
};
typedef struct quant__job {
    enum quant__op op;
    quant_type     type;
    const uint8_t *w;               /* first unit of the tile; FLOATS: 16 numbers for each column*/
    const uint8_t *next;            /* MANY: what will be decoded next, fetch_size bytes of each */
    size_t         tile, fetch_size;    /* tile; bytes from tile to tile                         */
    size_t         share;           /* MANY: bytes to fetch with each stripe of four tokens      */
    quant__stripe *decoded[QUANT__TILES][2];    /* [FRAME] each. DECODE: [0][0], MANY: of tiles  */
    size_t         stripe, n_stripes;   /* FEW, DECODE: which ones, from w on; MANY: of x        */
    const quant__act32 *x;          /* [groups of four tokens][stripes][the tokens of a group]   */
    size_t         group, blocks;   /* from group to group; stripes of a row                     */
    const float   *xf;              /* FLOATS, ACT: [tokens x ldx]                               */
    size_t         ldx, cols;
    quant__act32  *act;             /* ACT: out, 4 tokens at most, side by side                  */
    float         *y;               /* y[t * ldy + r]; MANY adds to it                           */
    size_t         ldy, rows;       /* rows to write: 16, less at the end; MANY: 16 a tile       */
    int            tokens;
    int            add, last;       /* y holds a part of the sum; it is the last part: scale it  */
    float          scale;
} quant__job;

/* The sums so far of a job's tokens, 4 at most, and their way back, scaled after the last part. */
QUANT__APART void quant__sums_in(float *sums, const quant__job *a)
{
    size_t t;
    QUANT_MEMSET(sums, 0, 4 * QUANT__TILE * sizeof *sums);
    for (t = 0; t < (size_t)a->tokens && a->add; t++)
        QUANT_MEMCPY(sums + t * QUANT__TILE, a->y + t * a->ldy, a->rows * sizeof *sums);
}

QUANT__APART void quant__sums_out(const float *sums, const quant__job *a)
{
    size_t t, r;
    for (t = 0; t < (size_t)a->tokens; t++)
        for (r = 0; r < a->rows; r++) {
            float v = sums[t * QUANT__TILE + r];
            a->y[t * a->ldy + r] = a->last ? v * a->scale : v;
        }
}

typedef void quant__run(const quant__job *a);
QUANT__FN quant__run quant__run_scalar;
#if QUANT__X86
QUANT__FN quant__run quant__run_avx2;
QUANT__FN quant__run quant__run_avx512vnni;
#if QUANT__HAS_AVXVNNI
QUANT__FN quant__run quant__run_avxvnni;
#endif
#endif
#if QUANT__NEON
QUANT__FN quant__run quant__run_neon, quant__run_dotprod, quant__run_i8mm;
#endif
#if QUANT__VECTORS
QUANT__FN quant__run quant__run_vectors;
#endif

QUANT__FN quant__run *quant__kernels(quant_cpu cpu)
{
#if QUANT__X86
    if (cpu & QUANT_CPU_AVX512VNNI) return quant__run_avx512vnni;
#if QUANT__HAS_AVXVNNI
    if (cpu & QUANT_CPU_AVXVNNI) return quant__run_avxvnni;
#endif
    if (cpu & QUANT_CPU_AVX2) return quant__run_avx2;
#endif
#if QUANT__NEON
#if QUANT__HAS_I8MM
    if (cpu & QUANT_CPU_I8MM) return quant__run_i8mm;
#endif
#if QUANT__HAS_DOTPROD
    if (cpu & QUANT_CPU_DOTPROD) return quant__run_dotprod;
#endif
    if (cpu & QUANT_CPU_NEON) return quant__run_neon;
#endif
#if QUANT__VECTORS
    if (cpu & (QUANT_CPU_WASM128 | QUANT_CPU_RVV)) return quant__run_vectors;
#endif
    (void)cpu;
    return quant__run_scalar;
}

QUANT_API quant_result quant_matrix_init(quant_matrix *w, quant_type t, const void *data,
                                         size_t rows, size_t cols, quant_cpu cpu)
{
    size_t blocks;
    quant_result r;
    QUANT_MEMSET(w, 0, sizeof *w);
    if (!rows || !cols) return QUANT_E_ARG;
    r = quant__rows(t, rows, cols, QUANT_TF_DECODE, &blocks);
    if (r) return r;
    w->type = t;
    w->act = quant__p16s[t].stripes ? QUANT_ACT_8 : QUANT_ACT_F32;
    w->rows = rows;
    w->cols = cols;
    w->row_size = quant_row_size(t, cols);
    w->data = data;
    w->scale = 1;
    w->cpu = cpu ? cpu & quant_cpu_detect() : 0;
    return w->row_size ? QUANT_OK : QUANT_E_ARG;
}

/* Bytes of a packed tile, 0 on overflow. */
QUANT__FN size_t quant__tile_size(quant_type t, size_t cols)
{
    const quant__p16 *p = &quant__p16s[t];
    size_t units = p->stripes ? cols / 32 / p->stripes : cols;
    size_t size = p->stripes ? p->size : (size_t)quant__types[t].block_size * QUANT__TILE;
    return units > (size_t)-1 / size ? 0 : units * size;
}

QUANT_API size_t quant_matrix_pack_size(const quant_matrix *w)
{
    size_t tiles = w->rows / QUANT__TILE + (w->rows % QUANT__TILE != 0);
    size_t size = quant__tile_size(w->type, w->cols);
    return w->layout || !size || tiles > (size_t)-1 / size ? 0 : tiles * size;
}

/* n bytes of a row into a part of a unit, `each` of them at a time. */
QUANT__INLINE void quant__spread(uint8_t *part, const uint8_t *src, size_t n, size_t each, size_t r)
{
    size_t i;
    for (i = 0; i < n / each; i++)
        QUANT_MEMCPY(part + (QUANT__TILE * i + r) * each, src + each * i, each);
}

/* Bits 4 g + k of a stripe: byte k of a word with one bit for each g. */
QUANT__INLINE void quant__bit_word(uint8_t *dst, uint32_t bits)
{
    uint32_t k, v;
    for (k = 0; k < 4; k++) {
        v = bits >> k & 0x11111111u;
        v = (v | v >> 3) & 0x03030303u;
        v = (v | v >> 6) & 0x000f000fu;
        dst[k] = (uint8_t)(v | v >> 12);
    }
}

/* Digit n of eight TQ1_0 bytes: as quant__trit. */
QUANT__INLINE uint64_t quant__trits8(uint64_t v, int n)
{
    static const uint8_t power[5] = { 1, 3, 9, 27, 81 };
    const uint64_t mask = 0x00ff00ff00ff00ffu, even = (v & mask) * power[n] & mask;
    const uint64_t odd = (v >> 8 & mask) * power[n] & mask;
    return (even * 3 >> 8 & 0x0003000300030003u) | (odd * 3 & 0x0300030003000300u);
}

/* Digits of 2 bits to bytes, 8 of them. */
QUANT__INLINE uint64_t quant__digits2(uint64_t v)
{
    v = (v | v << 24) & 0x000000ff000000ffu;
    v = (v | v << 12) & 0x000f000f000f000fu;
    return (v | v << 6) & 0x0303030303030303u;
}

/* Digits of 3 bits, likewise. */
QUANT__INLINE uint64_t quant__digits3(uint64_t v)
{
    v = (v & 0xfff) | (v & 0xfff000) << 20;
    v = (v | v << 10) & 0x003f003f003f003fu;
    return (v | v << 5) & 0x0707070707070707u;
}

/* Eight bits to the lowest bits of bytes. */
QUANT__INLINE uint64_t quant__digits1(uint64_t v)
{
    v = v * 0x0101010101010101u & 0x8040201008040201u;
    return (v + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}

/* A row of a stripe, codes of 3 bits in bytes, eight of them in each of a to d, in the order T3:
 * q [12]. */
QUANT__INLINE void quant__put_codes3(uint8_t *q, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    const uint64_t two = d & 0x0303030303030303u, third = d ^ two;
    quant__put64(q, (uint32_t)(a | a >> 29) | (b | b >> 29) << 32 | two << 6);
    quant__put32(q + 8, (uint32_t)(c | c >> 29 | third << 4 | third >> 27));
}

/* Weights 8 n to 8 n + 7, codes of 4 bits in bytes, into the order N32 of a row: qs [128]. */
QUANT__INLINE void quant__put_codes4(uint8_t *qs, int n, uint64_t codes)
{
    uint8_t *q = qs + 16 * (n / 4) + 8 * (n % 2);
    quant__put64(q, quant__le64(q) | codes << 4 * (n / 2 % 2));
}

#ifndef QUANT_NO_IQ
/* A block of a codebook type: codes of its values to q, odd factors to f. */
QUANT__FN void quant__pack_grid(uint8_t *q, uint8_t *f, uint8_t *d, const uint8_t *src,
                                quant_type t)
{
    uint64_t c[4];
    int n;
    d[0] = src[0];
    d[1] = src[1];
    for (n = 0; n < 32; n++) {                      /* groups of 8 weights                       */
        int g = n / 4, l = n % 4;
        uint32_t a, e, s;
        switch (t) {
        case QUANT_IQ2_XXS: {
            const quant__iq2_xxs *b = (const quant__iq2_xxs *)(const void *)src;
            a = quant__le32(b->qs + 8 * g + 4);
            e = quant__grid_iq2_xxs[b->qs[8 * g + l]];
            s = quant__signs(a >> 7 * l & 127);
            f[g] = (uint8_t)(2 * (a >> 28) + 1);
            break;
        }
        case QUANT_IQ2_XS: {
            const quant__iq2_xs *b = (const quant__iq2_xs *)(const void *)src;
            a = quant__le16(b->qs + 2 * n);
            e = quant__grid_iq2_xs[a & 511];
            s = quant__signs(a >> 9);
            f[n / 2] = (uint8_t)(2 * (b->scales[g] >> 4 * (l / 2) & 15) + 1);
            break;
        }
        case QUANT_IQ2_S: {
            const quant__iq2_s *b = (const quant__iq2_s *)(const void *)src;
            e = quant__grid_iq2_s[b->qs[n] | (b->qh[g] >> 2 * l & 3u) << 8];
            s = b->signs[n];
            f[n / 2] = (uint8_t)(2 * (b->scales[g] >> 4 * (l / 2) & 15) + 1);
            break;
        }
        case QUANT_IQ3_XXS: {
            const quant__iq3_xxs *b = (const quant__iq3_xxs *)(const void *)src;
            a = quant__le32(b->gas + 4 * g);
            e = quant__grid_iq3_xxs[b->qs[2 * n]]
              | (uint32_t)quant__grid_iq3_xxs[b->qs[2 * n + 1]] << 12;
            s = quant__signs(a >> 7 * l & 127);
            f[g] = (uint8_t)(2 * (a >> 28) + 1);
            break;
        }
        case QUANT_IQ3_S: {
            const quant__iq3_s *b = (const quant__iq3_s *)(const void *)src;
            a = b->qh[g] >> 2 * l;
            e = quant__grid_iq3_s[b->qs[2 * n] | (a & 1) << 8]
              | (uint32_t)quant__grid_iq3_s[b->qs[2 * n + 1] | (a >> 1 & 1) << 8] << 12;
            s = b->signs[n];
            f[g] = (uint8_t)(2 * (b->scales[g / 2] >> 4 * (g % 2) & 15) + 1);
            break;
        }
        case QUANT_IQ1_S: {
            const quant__iq1_s *b = (const quant__iq1_s *)(const void *)src;
            a = quant__le16(b->qh + 2 * g);
            e = quant__grid_iq1_s[b->qs[n] | (a >> 3 * l & 7) << 8];
            s = a & 0x8000u ? 255 : 0;
            f[g] = (uint8_t)(2 * (a >> 12 & 7) + 1);
            break;
        }
        default: {
            const quant__iq1_m *b = (const quant__iq1_m *)(const void *)src;
            quant__put16(d, quant__iq1_m_d(b->scales));
            a = (uint32_t)b->qh[n / 2] >> 4 * (n % 2);
            e = quant__grid_iq1_s[b->qs[n] | (a & 7) << 8];
            s = a & 8 ? 255 : 0;
            a = quant__le16(b->scales + 2 * (g / 2)) >> (6 * (g % 2) + 3 * (l / 2)) & 7;
            f[n / 2] = (uint8_t)(2 * a + 1);
            break;
        }
        }
        if (quant__p16s[t].order == QUANT__N32) {
            quant__put_codes4(q, n, quant__digits3(e) | quant__digits1(s) << 3);
            continue;
        }
        c[l] = quant__digits2(e) | quant__digits1(s) << 2;
        if (l == 3) quant__put_codes3(q + 12 * g, c[0], c[1], c[2], c[3]);
    }
}
#endif

/* Eight digits of 2 bits in bytes to weights i to i + 7 of the order C128. */
QUANT__INLINE void quant__put_codes2(uint8_t *qs, int i, uint64_t codes)
{
    uint8_t *q = qs + 32 * (i / 128) + i % 32;
    quant__put64(q, quant__le64(q) | codes << 2 * (i / 32 % 4));
}

/* A block whose bits the file has in another order than P16: its parts as those of a row, q zero at
 * first. */
QUANT__FN void quant__reorder(uint8_t *q, uint8_t *d, const uint8_t *src, quant_type t)
{
    int n, m, j, g;
    d[0] = src[0];
    d[1] = src[1];
    if (t == QUANT_TQ1_0) {
        const quant__tq1_0 *b = (const quant__tq1_0 *)(const void *)src;
        for (n = 0; n < 5; n++) {
            for (m = 0; m < 32; m += 8)
                quant__put_codes2(q, 32 * n + m, quant__trits8(quant__le64(b->qs + m), n));
            for (m = 0; m < 16; m += 8)
                quant__put_codes2(q, 160 + 16 * n + m,
                                  quant__trits8(quant__le64(b->qs + 32 + m), n));
        }
        for (n = 0; n < 16; n++)                    /* weights 240 to 255, the last of all fields */
            q[48 + n] |= (uint8_t)(quant__trit(b->qh[n % 4], n / 4) << 6);
        d[0] = b->d[0];
        d[1] = b->d[1];
    }
    for (j = 0; j < 4 && t == QUANT_Q1_0; j++)
        quant__bit_word(q + 4 * j, quant__le32(src + 2 + 4 * j));
    for (j = 0; j < 2 && t == QUANT_Q2_0; j++)
        for (g = 0; g < 8; g += 2) {
            uint64_t codes = quant__digits2(quant__le16(src + 2 + 8 * j + g));
            quant__put64(q + 4 * (g % 4),
                         quant__le64(q + 4 * (g % 4)) | codes << (4 * j + 2 * (g / 4)));
        }
}

/* Weights 8 n to 8 n + 7 of stripe j of a Q3_K block, codes of 3 bits in bytes. */
QUANT__INLINE uint64_t quant__q3_k_codes(const uint8_t *src, int j, int n)
{
    const uint64_t low = quant__le64(src + 32 + 32 * (j / 4) + 8 * n) >> 2 * (j % 4);
    const uint64_t high = quant__le64(src + 8 * n) >> j;
    return (low & 0x0303030303030303u) | (high & 0x0101010101010101u) << 2;
}

/* A row of a stripe, codes of 6 bits, likewise, in the order S6: q [24]. */
QUANT__INLINE void quant__put_codes6(uint8_t *q, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    const uint64_t two = 0x0303030303030303u;
    quant__put64(q, a | (d & two) << 6);
    quant__put64(q + 8, b | (d >> 2 & two) << 6);
    quant__put64(q + 16, c | (d >> 4 & two) << 6);
}

/* Half h of a Q6_K block, four stripes: q [4][24]. */
QUANT__INLINE void quant__q6_k_half(uint8_t *q, const uint8_t *src, int h)
{
    const uint64_t four = 0x0f0f0f0f0f0f0f0fu, two = 0x3030303030303030u;
    uint64_t c[4][4];
    int n;
    for (n = 0; n < 4; n++) {
        const uint64_t a = quant__le64(src + 64 * h + 8 * n);
        const uint64_t b = quant__le64(src + 64 * h + 32 + 8 * n);
        const uint64_t high = quant__le64(src + 128 + 32 * h + 8 * n);
        c[0][n] = (a & four) | (high << 4 & two);
        c[1][n] = (b & four) | (high << 2 & two);
        c[2][n] = (a >> 4 & four) | (high & two);
        c[3][n] = (b >> 4 & four) | (high >> 2 & two);
    }
    for (n = 0; n < 4; n++)
        quant__put_codes6(q + 24 * n, c[n][0], c[n][1], c[n][2], c[n][3]);
}

/* One block of row r of a tile into the unit at dst.  Parts of the file's blocks, in their own
 * order, for all types but Q3_K, Q6_K and those of quant__pack_grid and quant__reorder. */
QUANT__FN void quant__pack_block(uint8_t *dst, const uint8_t *src, quant_type t, size_t r)
{
    const quant__p16 *p = &quant__p16s[t];
    const uint8_t *d = src, *m = src + 2, *q = src + 2, *high = src, *f = src;
    uint8_t made_q[192], made_f[16], made_m[8], made_d[2];
    int i, scale, min;
    switch (t) {
    case QUANT_Q4_1: case QUANT_Q5_1: q += 2; break;
    case QUANT_Q2_K: d = src + 80; m = src + 82; q = src + 16; break;
    case QUANT_Q3_K:
        for (i = 0; i < 8; i++)
            quant__put_codes3(made_q + 12 * i, quant__q3_k_codes(src, i, 0),
                              quant__q3_k_codes(src, i, 1), quant__q3_k_codes(src, i, 2),
                              quant__q3_k_codes(src, i, 3));
        d = src + 108;
        f = src + 96;
        q = made_q;
        break;
    case QUANT_Q4_K: case QUANT_Q5_K:
        for (i = 0; i < 8; i++) {
            quant__q4_k_scale(src + 4, i, &scale, &min);
            made_f[i] = (uint8_t)scale;
            made_m[i] = (uint8_t)min;
        }
        f = made_f;
        high = src + 16;
        q = src + (t == QUANT_Q4_K ? 16 : 48);
        break;
    case QUANT_Q6_K:
        quant__q6_k_half(made_q, src, 0);
        quant__q6_k_half(made_q + 96, src, 1);
        f = src + 192;
        d = src + 208;
        q = made_q;
        break;
    case QUANT_IQ4_XS:
        for (i = 0; i < 8; i++) {
            scale = (src[4 + i / 2] >> 4 * (i % 2) & 15)
                  | (int)(quant__le16(src + 2) >> 2 * i & 3) << 4;
            made_f[i] = (uint8_t)(scale - 32);
        }
        f = made_f;
        q = src + 8;
        break;
    case QUANT_TQ2_0: q = src; d = src + 64; break;
    case QUANT_MXFP4: q = src + 1; break;
    case QUANT_NVFP4:
        for (i = 0; i < 4; i++)
            dst[QUANT__TILE * (size_t)i + r] = src[i] == 0x7f ? 0 : src[i] & 127;
        q = src + 4;
        break;
    case QUANT_Q5_0: case QUANT_Q4_0: case QUANT_Q8_0: case QUANT_IQ4_NL: break;
    default:
        QUANT_MEMSET(made_q, 0, sizeof made_q);
        q = made_q;
        d = made_d;
        f = made_f;
#ifndef QUANT_NO_IQ
        if (p->scales == QUANT__F1 || p->scales == QUANT__F2) {
            quant__pack_grid(made_q, made_f, made_d, src, t);
            break;
        }
#endif
        quant__reorder(made_q, made_d, src, t);
        break;
    }
    if (p->scales == QUANT__E8) dst[r] = *d;
    else if (p->scales != QUANT__U4) quant__spread(dst, d, 2, 2, r);
    if (p->minima != QUANT__M0) quant__spread(dst + p->min, m, 2, 2, r);
    quant__spread(dst + p->fac, f, (p->minfac - p->fac) / 16u, 1, r);
    quant__spread(dst + p->minfac, made_m, (p->high - p->minfac) / 16u, 1, r);
    if (p->high_order == QUANT__H32) {
        q += 4;
        quant__bit_word(dst + p->high + 4 * r, quant__le32(q - 4));
    } else {
        quant__spread(dst + p->high, high, (p->low - p->high) / 16u, 4, r);
    }
    quant__spread(dst + p->low, q, (p->size - p->low) / 16u, 4, r);
}

/* `rows` rows of `cols` columns, row_size bytes apart, to a tile at dst; rows that are missing are
 * zeros. */
QUANT__FN void quant__pack_tile(uint8_t *dst, const uint8_t *src, quant_type t, size_t row_size,
                                size_t rows, size_t cols)
{
    size_t block = quant__types[t].block_size, unit = QUANT__TILE * block, n = cols, r, b;
    if (quant__p16s[t].stripes) {
        unit = quant__p16s[t].size;
        n = cols / 32 / quant__p16s[t].stripes;
    }
    if (rows < QUANT__TILE) QUANT_MEMSET(dst, 0, n * unit);
    for (r = 0; r < rows; r++, src += row_size) {
        for (b = 0; b < n && quant__p16s[t].stripes; b++)
            quant__pack_block(dst + b * unit, src + b * block, t, r);
        if (t == QUANT_F32) quant__spread(dst, src, 4 * cols, 4, r);
        if (t == QUANT_F16 || t == QUANT_BF16) quant__spread(dst, src, 2 * cols, 2, r);
    }
}

QUANT_API quant_result quant_matrix_pack(quant_matrix *dst, const quant_matrix *w, void *buf,
                                         size_t size)
{
    quant_matrix packed = *w;
    size_t need = quant_matrix_pack_size(w), tile = quant__tile_size(w->type, w->cols), r;
    if (!need) return QUANT_E_ARG;
    if (size < need) return QUANT_E_MEMORY;
    for (r = 0; r < w->rows; r += QUANT__TILE)
        quant__pack_tile((uint8_t *)buf + r / QUANT__TILE * tile,
                         (const uint8_t *)w->data + r * w->row_size, w->type, w->row_size,
                         w->rows - r < QUANT__TILE ? w->rows - r : QUANT__TILE, w->cols);
    packed.data = buf;
    packed.layout = 1;
    *dst = packed;
    return QUANT_OK;
}

QUANT_API size_t quant_matrix_row_step(const quant_matrix *w)
{
    return w->layout ? QUANT__TILE : 1;
}

/* From one group of four tokens to the next, in quant__act32: a power of two would put the same
 * columns of all groups into a few sets of the first-level cache. */
QUANT__INLINE size_t quant__act_group(size_t blocks)
{
    return 4 * blocks + (blocks % 16 ? 0 : 16);
}

QUANT_API size_t quant_act_size(const quant_matrix *w, size_t tokens)
{
    const size_t blocks = w->cols / 32, group = quant__act_group(blocks), max = (size_t)-1;
    if (w->act == QUANT_ACT_F32)
        return tokens > max / sizeof(float) / w->cols ? 0 : tokens * w->cols * sizeof(float);
    if (w->cols > max / 8 || tokens / 4 + 1 > max / sizeof(quant__act32) / group) return 0;
    return (tokens / 4 * group + tokens % 4 * blocks) * sizeof(quant__act32);
}

QUANT_API void quant_act(const quant_matrix *w, void *act, const float *x, size_t ldx,
                         size_t tokens)
{
    size_t t, i;
    quant__run *run = quant__kernels(w->cpu);
    quant__job a;
    QUANT_MEMSET(&a, 0, sizeof a);
    a.op = QUANT__ACT;
    a.blocks = w->cols / 32;
    a.ldx = ldx;
    for (t = 0; t < tokens; t += 4) {
        a.tokens = tokens - t < 4 ? (int)(tokens - t) : 4;
        if (w->act == QUANT_ACT_F32) {
            for (i = t; i < t + (size_t)a.tokens; i++)
                QUANT_MEMCPY((float *)act + i * w->cols, x + i * ldx, w->cols * sizeof *x);
            continue;
        }
        a.act = (quant__act32 *)act + t / 4 * quant__act_group(a.blocks);
        a.xf = x + t * ldx;
        run(&a);
    }
}

/* n stripes, the first of them job->w's and number `first` of the row, decoded a few at a time
 * and multiplied with all tokens of the job.  Room for them is in stack frames, one or two for each
 * tile; `done` are there. */
QUANT__APART void quant__product_decoded(const quant__job *job, quant__run *run, size_t done,
                                         size_t first, size_t n)
{
    const size_t bytes = quant__p16s[job->type].size / quant__p16s[job->type].stripes;
    const size_t frames = n > QUANT__FRAME ? 2 : 1;
    uint8_t room[QUANT__FRAME * sizeof(quant__stripe) + 63];
    size_t s, i, left;
    quant__job a = *job, d;
    a.decoded[done / frames][done % frames] =
        (quant__stripe *)(void *)(room + (63 & (0 - (uintptr_t)room)));
    if (++done < a.rows / QUANT__TILE * frames) {
        quant__product_decoded(&a, run, done, first, n);
        return;
    }
    a.op = QUANT__MANY;
    for (s = 0; s < n; s += QUANT__STRIPES) {
        a.n_stripes = n - s < QUANT__STRIPES ? n - s : QUANT__STRIPES;
        d = a;
        d.op = QUANT__DECODE;
        for (i = 0; i < done; i++) {
            d.stripe = s + QUANT__FRAME * (i % frames);
            if (d.stripe >= n) continue;
            left = n - d.stripe;
            d.n_stripes = left < QUANT__FRAME ? left : QUANT__FRAME;
            d.decoded[0][0] = a.decoded[i / frames][i % frames];
            d.w = a.w + i / frames * a.tile;
            run(&d);
        }
        a.stripe = first + s;
        a.next = a.w + (s + QUANT__STRIPES < n ? (s + QUANT__STRIPES) * bytes
                                               : done / frames * a.tile);
        a.fetch_size = a.tile ? QUANT__STRIPES * bytes : 0;
        i = ((size_t)a.tokens + 3) / 4 * a.n_stripes;
        a.share = (a.fetch_size / 64 + i) / i * 64;
        run(&a);
        a.add = 1;
    }
}

/* A tile of which only some rows are wanted, some tokens at a time. */
QUANT__APART void quant__product_partial(const quant__job *job, quant__run *run, size_t first,
                                         size_t n)
{
    enum { TOKENS = 32 };
    float sums[(size_t)TOKENS * QUANT__TILE];
    size_t t, i, end = (size_t)job->tokens;
    quant__job a = *job;
    a.y = sums;
    a.ldy = a.rows = QUANT__TILE;
    QUANT_MEMSET(sums, 0, sizeof sums);
    for (t = 0; t < end; t += TOKENS, a.x += TOKENS / 4 * a.group) {
        const size_t tokens = end - t < TOKENS ? end - t : TOKENS;
        a.tokens = (int)tokens;
        for (i = 0; i < tokens && a.add; i++)
            QUANT_MEMCPY(sums + i * QUANT__TILE, job->y + (t + i) * job->ldy,
                         job->rows * sizeof *sums);
        quant__product_decoded(&a, run, 0, first, n);
        for (i = 0; i < tokens; i++)
            QUANT_MEMCPY(job->y + (t + i) * job->ldy, sums + i * QUANT__TILE,
                         job->rows * sizeof *sums);
    }
}

/* The same stripes, into y.  A few tokens read the tile itself, more of them decoded stripes. */
QUANT__FN void quant__product_stripes(quant__job *a, quant__run *run, size_t first, size_t n)
{
    size_t t, i;
    a->add = first > 0;
    a->last = first + n == a->blocks;
    if (a->tokens <= QUANT__FEW_TOKENS) {
        quant__job few = *a;
        few.op = QUANT__FEW;
        few.stripe = 0;
        few.n_stripes = n;
        for (t = 0; t < (size_t)a->tokens; t += 4) {
            few.tokens = a->tokens - (int)t < 4 ? a->tokens - (int)t : 4;
            few.x = a->x + t / 4 * a->group + first * (size_t)few.tokens;
            few.y = a->y + t * a->ldy;
            run(&few);
        }
        return;
    }
    if (a->rows % QUANT__TILE == 0) quant__product_decoded(a, run, 0, first, n);
    else quant__product_partial(a, run, first, n);
    for (t = 0; t < (size_t)a->tokens && a->last && a->scale != 1; t++)
        for (i = 0; i < a->rows; i++) a->y[t * a->ldy + i] *= a->scale;
}

/* Tokens in batches whose activations stay in the second-level cache while the weights pass by; for
 * each, tile by tile.  Rows in the layout of the file become tiles here, some columns at a time. */
QUANT_API void quant_matmul(const quant_matrix *w, float *y, size_t ldy, const void *act,
                            size_t tokens, size_t row0, size_t row1)
{
    const size_t unit = 32u * quant__p16s[w->type].stripes, blocks = w->cols / 32;
    const size_t cols = w->layout ? unit ? w->cols : 512 : !unit ? 32 : unit > 128 ? unit : 128;
    const size_t tile = quant__tile_size(w->type, w->cols);
    const int wide = w->layout && unit && w->cpu;   /* several tiles at a time                   */
    const size_t fit = 2048 * 1024 / sizeof(quant__act32) / (blocks + 1) / 4 * 4;
    const size_t batch = fit > 256 ? 256 : fit < 24 ? 24 : fit;
    uint8_t made[16 * 210];                         /* the largest: 256 columns of Q6_K          */
    size_t t, r, c;
    quant__run *run = quant__kernels(w->cpu);
    quant__job a;
    QUANT_ASSERT(row0 <= row1 && row1 <= w->rows);
    QUANT_ASSERT(row0 % quant_matrix_row_step(w) == 0
                 && (row1 % quant_matrix_row_step(w) == 0 || row1 == w->rows));
    QUANT_MEMSET(&a, 0, sizeof a);
    a.type = w->type;
    a.blocks = blocks;
    a.group = quant__act_group(blocks);
    a.ldy = ldy;
    a.ldx = w->cols;
    a.scale = w->scale;
    a.tile = w->layout ? tile : 0;
    for (t = 0; t < tokens; t += batch) {
        a.tokens = (int)(tokens - t < batch ? tokens - t : batch);
        a.x = (const quant__act32 *)act + t / 4 * a.group;
        for (r = row0; r < row1; r += a.rows) {
            a.rows = row1 - r < QUANT__TILE ? row1 - r : QUANT__TILE;
            if (wide && a.tokens > QUANT__FEW_TOKENS && row1 - r >= 2 * QUANT__TILE) {
                a.rows = (row1 - r) / QUANT__TILE * QUANT__TILE;
                if (a.rows > QUANT__TILES * QUANT__TILE) a.rows = QUANT__TILES * QUANT__TILE;
            }
            a.y = y + t * ldy + r;
            for (c = 0; c < w->cols; c += cols) {
                size_t n = w->cols - c < cols ? w->cols - c : cols;
                a.w = (const uint8_t *)w->data + r / QUANT__TILE * tile;
                if (w->layout) {
                    if (!unit) a.w += c * QUANT__TILE * quant__types[w->type].block_size;
                } else {
                    quant__pack_tile(made, (const uint8_t *)w->data + r * w->row_size
                                     + quant_row_size(w->type, c), w->type, w->row_size, a.rows, n);
                    a.w = made;
                }
                if (unit) {
                    quant__product_stripes(&a, run, c / 32, n / 32);
                    continue;
                }
                a.op = QUANT__FLOATS;
                a.xf = (const float *)act + t * w->cols + c;
                a.cols = n;
                a.add = c > 0;
                a.last = c + n == w->cols;
                run(&a);
            }
        }
    }
}
#endif /* QUANT_NO_MATMUL */

/* >>reader ---------------------------------------------------------------------------------------
 * GGUF reader.  One parser text runs twice over the header.  Pass 1 validates and measures; it sees
 * the file's memory, or a small window that is refilled through the callback.  Then one allocation
 * is carved.  Pass 2 validates everything again, because a mapped file or one behind a callback may
 * have changed, and fills the tables; what pass 1 measured only bounds it. */
#ifndef QUANT_NO_GGUF

enum {
    QUANT__WINDOW   = 2048,         /* bytes of the file seen at a time by pass 1 over a callback */
    QUANT__MAX_KEY  = 65535,        /* bytes of a key, by the format                             */
    QUANT__MAX_NAME = 63,           /* bytes of a tensor's name: ggml's 64 with the terminator   */
    QUANT__MIN_HEAD = 24            /* bytes of the smallest file of version 2 and 3             */
};

/* Bytes of a value type; 0 for strings, arrays and unknown types. */
QUANT__INLINE uint32_t quant__kv_size(uint32_t type)
{
    static const uint8_t sizes[QUANT_KV_TYPE_COUNT] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return type < QUANT_KV_TYPE_COUNT ? sizes[type] : 0;
}

QUANT__INLINE uint32_t quant__be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

/* An unsigned number of 1, 2, 4 or 8 bytes in the file's order. */
QUANT__INLINE uint64_t quant__load(const uint8_t *p, uint32_t width, uint32_t big)
{
    switch (width) {
        case 1:  return p[0];
        case 2:  return big ? (uint32_t)p[0] << 8 | p[1] : quant__le16(p);
        case 4:  return big ? quant__be32(p) : quant__le32(p);
        default: return big ? (uint64_t)quant__be32(p) << 32 | quant__be32(p + 4) : quant__le64(p);
    }
}

/* Where the parser reads, and how far it is.  at <= end <= size always. */
typedef struct quant__in {
    quant_gguf    *g;               /* takes the tables and the error                            */
    const uint8_t *mem;             /* bytes [0, end) of the file; NULL: they come by the window */
    uint64_t       at, end, size;   /* position; where the header must end; bytes of the file    */
    uint32_t       fill;            /* pass 2                                                    */
    uint32_t       big, v1, width;  /* width: bytes of a length                                  */
    quant_limits   max;
    quant_str      name;            /* the key or tensor at hand, for errors                     */
    uint8_t       *window;          /* [QUANT__WINDOW]                                           */
    uint64_t       window_at;
    size_t         window_n;
    char           start[72];       /* of the name at hand, where the window may move on         */
} quant__in;

QUANT__FN quant_result quant__in_fail(quant__in *in, quant_result code, uint64_t where,
                                      const char *what)
{
    quant__fail(&in->g->err, code, where, what);
    if (in->name.n) quant__fail_name(&in->g->err, in->name.p, in->name.n);
    return code;
}

QUANT__FN quant_result quant__in_fail_size(quant__in *in, quant_result code, uint64_t where,
                                           const char *what, uint64_t need, uint64_t have)
{
    quant__in_fail(in, code, where, what);
    in->g->err.need = need;
    in->g->err.have = have;
    return code;
}

/* The next n bytes are not all there: says which of the three bounds they cross. */
QUANT__FN quant_result quant__in_short(quant__in *in, uint64_t n)
{
    uint64_t need;
    if (quant__add64(&need, in->at, n)) need = UINT64_MAX;
    if (n > in->size - in->at)
        return quant__in_fail_size(in, QUANT_E_SHORT, in->at,
                                   QUANT__TEXT("the file ends within its header"), need, in->size);
    if (in->fill && in->end < in->max.max_header)
        return quant__in_fail(in, QUANT_E_FORMAT, in->at,
                              QUANT__TEXT("the file changed while it was read"));
    return quant__in_fail_size(in, QUANT_E_LIMIT, in->at,
                               QUANT__TEXT("the header is larger than the limit"), need, in->end);
}

/* Bytes [at, at + n) through the window, n <= QUANT__WINDOW and within the file; NULL: failed. */
QUANT__FN const uint8_t *quant__in_window(quant__in *in, size_t n)
{
    uint64_t skip = in->at - in->window_at;             /* wraps to a large one where at is less */
    if (skip > in->window_n || n > in->window_n - skip) {
        const quant_io *io = &in->g->priv.io;
        uint64_t left = in->end - in->at;
        size_t want = QUANT__WINDOW;
        if (left < want) want = (size_t)left;
        in->window_n = 0;
        if (io->read(io->user, in->at, in->window, want) != want) {
            quant__in_fail(in, QUANT_E_IO, in->at, QUANT__TEXT("reading the file failed"));
            return NULL;
        }
        in->window_at = in->at;
        in->window_n = want;
        skip = 0;
    }
    return in->window + skip;
}

/* The next n bytes, n <= 72; the position moves on.  NULL: failed, the error is set. */
QUANT__INLINE const uint8_t *quant__in_bytes(quant__in *in, size_t n)
{
    const uint8_t *p;
    if (n > in->end - in->at) { quant__in_short(in, n); return NULL; }
    if (in->mem) p = in->mem + (size_t)in->at;
    else if (!(p = quant__in_window(in, n))) return NULL;
    in->at += n;
    return p;
}

QUANT__INLINE quant_result quant__in_number(quant__in *in, uint32_t width, uint64_t *v)
{
    const uint8_t *p = quant__in_bytes(in, width);
    if (!p) return in->g->err.code;
    *v = quant__load(p, width, in->big);
    return QUANT_OK;
}

QUANT__INLINE quant_result quant__in_skip(quant__in *in, uint64_t n)
{
    if (n > in->end - in->at) return quant__in_short(in, n);
    in->at += n;
    return QUANT_OK;
}

/* `count` things of at least `size` bytes each cannot be in what is left of the file. */
QUANT__FN quant_result quant__in_count(quant__in *in, uint64_t count, uint64_t size,
                                       const char *what)
{
    uint64_t need;
    if (count <= (in->size - in->at) / size) return QUANT_OK;
    if (quant__mul64(&need, count, size) || quant__add64(&need, need, in->at)) need = UINT64_MAX;
    return quant__in_fail_size(in, QUANT_E_SHORT, in->at, what, need, in->size);
}

/* A key or tensor name of 1 to max bytes, which becomes the name at hand.  Over the window only its
 * start is there, so NUL is looked for in pass 2. */
QUANT__FN quant_result quant__in_name(quant__in *in, quant_str *out, uint64_t max)
{
    uint64_t n = 0, where = in->at, i;
    const uint8_t *p;
    quant_result r;
    in->name.n = 0;
    if ((r = quant__in_number(in, in->width, &n)) != QUANT_OK) return r;
    if (n > in->end - in->at) return quant__in_short(in, n);
    if (n == 0) return quant__in_fail(in, QUANT_E_FORMAT, where, QUANT__TEXT("a name is empty"));
    if (in->mem) {
        p = in->mem + (size_t)in->at;
        in->name.p = (const char *)p;
        in->name.n = (size_t)n;
        in->at += n;
    } else {
        size_t part = n < sizeof in->start ? (size_t)n : sizeof in->start;
        if (!(p = quant__in_bytes(in, part))) return in->g->err.code;
        QUANT_MEMCPY(in->start, p, part);
        in->name.p = in->start;
        in->name.n = part;
        in->at += n - part;
    }
    *out = in->name;
    if (n > max)
        return quant__in_fail(in, QUANT_E_FORMAT, where, QUANT__TEXT("the name is too long"));
    if (in->fill)
        for (i = 0; i < n; i++)
            if (!p[i])
                return quant__in_fail(in, QUANT_E_FORMAT, where,
                                      QUANT__TEXT("the name contains a zero byte"));
    return QUANT_OK;
}

/* Walks `count` strings.  Vocabularies make this the hot loop of opening a model: in memory the
 * strings are walked with one load and one comparison each, up to the first one that is wrong;
 * the second loop then says what is wrong with it, and serves the window. */
QUANT__FN quant_result quant__in_strings(quant__in *in, uint64_t count)
{
    uint64_t i = 0, n = 0;
    quant_result r;
    if (in->mem && !in->big && !in->v1) {
        const uint8_t *mem = in->mem;
        uint64_t at = in->at, end = in->end, max = in->max.max_string;
        for (; i < count && end - at >= 8; i++) {
            n = quant__le64(mem + (size_t)at);
            if (n > end - at - 8 || n > max) break;
            at += 8 + n;
        }
        in->at = at;
    }
    for (; i < count; i++) {
        uint64_t where = in->at;
        if ((r = quant__in_number(in, in->width, &n)) != QUANT_OK) return r;
        if (n <= in->size - in->at && n > in->max.max_string)
            return quant__in_fail_size(in, QUANT_E_LIMIT, where,
                                       QUANT__TEXT("a string is longer than the limit"), n,
                                       in->max.max_string);
        if ((r = quant__in_skip(in, n)) != QUANT_OK) return r;
    }
    return QUANT_OK;
}

/* Enters general.alignment, whose value has been read whole. */
QUANT__FN quant_result quant__parse_alignment(quant__in *in, const quant_kv *kv)
{
    uint64_t v;
    if (kv->type != QUANT_KV_U32)
        return quant__in_fail(in, QUANT_E_FORMAT, kv->where,
                              QUANT__TEXT("the alignment is not a u32"));
    v = quant__load(kv->raw, 4, in->big);
    if (v < 8 || v > 65536 || (v & (v - 1)))
        return quant__in_fail(in, QUANT_E_FORMAT, kv->where,
                              QUANT__TEXT("the alignment is not a power of two from 8 to 65536"));
    in->g->alignment = (uint32_t)v;
    return QUANT_OK;
}

/* The element type and count of an array. */
QUANT__FN quant_result quant__parse_array(quant__in *in, quant_kv *kv)
{
    uint64_t type = 0, where = in->at, size;
    quant_result r;
    if ((r = quant__in_number(in, 4, &type)) != QUANT_OK) return r;
    if (type == QUANT_KV_ARRAY)
        return quant__in_fail(in, QUANT_E_FORMAT, where, QUANT__TEXT("an array of arrays"));
    if (type >= QUANT_KV_TYPE_COUNT)
        return quant__in_fail(in, QUANT_E_FORMAT, where,
                              QUANT__TEXT("an array of an unknown value type"));
    kv->elem_type = (uint32_t)type;
    where = in->at;
    if ((r = quant__in_number(in, in->width, &kv->count)) != QUANT_OK) return r;
    size = type == QUANT_KV_STR ? in->width : quant__kv_size(kv->elem_type);
    r = quant__in_count(in, kv->count, size, QUANT__TEXT("the file is too short for an array"));
    if (r == QUANT_OK && kv->count > in->max.max_array)
        r = quant__in_fail_size(in, QUANT_E_LIMIT, where,
                                QUANT__TEXT("an array has more elements than the limit"),
                                kv->count, in->max.max_array);
    return r;
}

QUANT__FN quant_result quant__parse_kv(quant__in *in, size_t i)
{
    quant_gguf *g = in->g;
    quant_kv kv;
    uint64_t type = 0, start;
    quant_result r;
    QUANT_MEMSET(&kv, 0, sizeof kv);
    kv.where = in->at;
    if ((r = quant__in_name(in, &kv.key, QUANT__MAX_KEY)) != QUANT_OK) return r;
    start = in->at;
    if ((r = quant__in_number(in, 4, &type)) != QUANT_OK) return r;
    if (type >= QUANT_KV_TYPE_COUNT)
        return quant__in_fail(in, QUANT_E_FORMAT, start, QUANT__TEXT("an unknown value type"));
    kv.type = kv.elem_type = (uint32_t)type;
    kv.count = 1;
    if (type == QUANT_KV_ARRAY && (r = quant__parse_array(in, &kv)) != QUANT_OK) return r;
    start = in->at;
    if (kv.elem_type == QUANT_KV_STR) r = quant__in_strings(in, kv.count);
    else r = quant__in_skip(in, kv.count * quant__kv_size(kv.elem_type));   /* quant__in_count  */
    if (r != QUANT_OK || !in->fill) return r;

    kv.raw = in->mem + (size_t)start;
    kv.raw_size = in->at - start;
    if (in->big) kv.layout |= QUANT_LAYOUT_BIG_ENDIAN;
    if (in->v1) kv.layout |= QUANT_LAYOUT_V1;
    g->kv[i] = kv;
    switch (quant__name_add(g->priv.kv_slots, g->priv.n_kv_slots, g->kv, sizeof kv, i)) {
        case 0: break;
        case 1: return quant__in_fail(in, QUANT_E_FORMAT, kv.where,
                                      QUANT__TEXT("the key is there twice"));
        default: return quant__in_fail(in, QUANT_E_LIMIT, kv.where,
                                       QUANT__TEXT("too many keys with the same hash"));
    }
    if (quant__same(kv.key, "general.alignment", 17)) return quant__parse_alignment(in, &kv);
    return QUANT_OK;
}

/* Number of dimensions and shape; *count = elements of the tensor. */
QUANT__FN quant_result quant__parse_shape(quant__in *in, quant_tensor *t, uint64_t *count)
{
    uint64_t v = 0, where = in->at;
    uint32_t d;
    quant_result r;
    if ((r = quant__in_number(in, 4, &v)) != QUANT_OK) return r;
    if (v < 1 || v > 4)
        return quant__in_fail(in, QUANT_E_FORMAT, where,
                              QUANT__TEXT("a tensor must have 1 to 4 dimensions"));
    t->n_dims = (uint32_t)v;
    *count = 1;
    for (d = 0; d < 4; d++) {
        t->ne[d] = 1;
        if (d >= t->n_dims) continue;
        where = in->at;
        if ((r = quant__in_number(in, in->width, &v)) != QUANT_OK) return r;
        t->ne[d] = v;
        if (v == 0)
            return quant__in_fail(in, QUANT_E_FORMAT, where, QUANT__TEXT("a dimension is zero"));
        if (quant__mul64(count, *count, v) || *count > UINT64_MAX / 2)
            return quant__in_fail(in, QUANT_E_FORMAT, where,
                                  QUANT__TEXT("the tensor has 2^63 elements or more"));
    }
    return QUANT_OK;
}

/* Leaves the offset as it stands in the file; quant__layout completes it. */
QUANT__FN quant_result quant__parse_tensor(quant__in *in, size_t i)
{
    quant_gguf *g = in->g;
    const quant_type_info *info;
    quant_tensor t;
    uint64_t count = 0, type = 0, start = in->at;
    quant_result r;
    QUANT_MEMSET(&t, 0, sizeof t);
    if ((r = quant__in_name(in, &t.name, QUANT__MAX_NAME)) != QUANT_OK) return r;
    if ((r = quant__parse_shape(in, &t, &count)) != QUANT_OK) return r;
    if ((r = quant__in_number(in, 4, &type)) != QUANT_OK) return r;
    t.type = (quant_type)type;
    info = quant_type_get(t.type);
    if (info && info->block_len) {
        if (t.ne[0] % info->block_len)
            return quant__in_fail(in, QUANT_E_FORMAT, start,
                                  QUANT__TEXT("the rows are not a multiple of the type's block"));
        if (quant__mul64(&t.size, count / info->block_len, info->block_size))
            return quant__in_fail(in, QUANT_E_FORMAT, start,
                                  QUANT__TEXT("the tensor has 2^64 bytes or more"));
    }
    if ((r = quant__in_number(in, 8, &t.offset)) != QUANT_OK || !in->fill) return r;

    if (t.offset & (g->alignment - 1))
        return quant__in_fail(in, QUANT_E_FORMAT, in->at - 8,
                              QUANT__TEXT("the tensor's offset is not aligned"));
    g->tensors[i] = t;
    switch (quant__name_add(g->priv.tensor_slots, g->priv.n_tensor_slots, g->tensors, sizeof t,
                            i)) {
        case 0: return QUANT_OK;
        case 1: return quant__in_fail(in, QUANT_E_FORMAT, start,
                                      QUANT__TEXT("the tensor is there twice"));
        default: return quant__in_fail(in, QUANT_E_LIMIT, start,
                                       QUANT__TEXT("too many tensors with the same hash"));
    }
}

/* Magic and version: sets byte order and width of lengths. */
QUANT__FN quant_result quant__parse_version(quant__in *in)
{
    const uint8_t *p = quant__in_bytes(in, 4);
    uint64_t v = 0;
    quant_result r;
    if (!p) return in->g->err.code;
    if (QUANT_MEMCMP(p, "GGUF", 4) != 0)
        return quant__in_fail(in, QUANT_E_FORMAT, 0, QUANT__TEXT("not a GGUF file"));
    in->big = 0;
    if ((r = quant__in_number(in, 4, &v)) != QUANT_OK) return r;
    if (v != 0 && (v & 0xffff) == 0) {                  /* 1 to 3 with the bytes reversed        */
        in->big = 1;
        v = (v >> 24 & 0xff) | (v >> 8 & 0xff00);
    }
    if (v < 1 || v > 3) {
        char text[32];
        quant__line l;
        l.p = text;
        l.size = sizeof text;
        l.n = 0;
        quant__line_text(&l, "version ");
        quant__line_number(&l, v);
        in->name.p = text;
        in->name.n = l.n;
        r = quant__in_fail(in, QUANT_E_FORMAT, 4,
                           v ? QUANT__TEXT("a version of GGUF that is not known here (1 to 3 are)")
                             : QUANT__TEXT("no such version of GGUF"));
        in->name.n = 0;
        return r;
    }
    in->g->version = (uint32_t)v;
    in->g->big_endian = in->big;
    in->v1 = v == 1;
    in->width = v == 1 ? 4 : 8;
    return QUANT_OK;
}

/* The header.  in->at is its end afterwards. */
QUANT__FN quant_result quant__parse(quant__in *in)
{
    quant_gguf *g = in->g;
    uint64_t n_tensors = 0, n_kv = 0, most = (uint64_t)1 << 29;     /* bound of the name index   */
    uint64_t max_t = in->max.max_tensors, max_k = in->max.max_kv;
    size_t i;
    quant_result r;
    in->at = 0;
    in->name.n = 0;
    g->alignment = 32;
    if ((r = quant__parse_version(in)) != QUANT_OK) return r;
    if ((r = quant__in_number(in, in->width, &n_tensors)) != QUANT_OK) return r;
    if ((r = quant__in_number(in, in->width, &n_kv)) != QUANT_OK) return r;
    /* The least entries: name of one byte, type, value of one byte; name, dimensions, one
     * dimension, type, offset. */
    r = quant__in_count(in, n_kv, in->v1 ? 10 : 14,
                        QUANT__TEXT("the file is too short for the number of its keys"));
    if (r != QUANT_OK) return r;
    r = quant__in_count(in, n_tensors, in->v1 ? 25 : 33,
                        QUANT__TEXT("the file is too short for the number of its tensors"));
    if (r != QUANT_OK) return r;
    if (max_t > most) max_t = most;
    if (max_k > most) max_k = most;
    if (n_kv > max_k)
        return quant__in_fail_size(in, QUANT_E_LIMIT, 8 + in->width,
                                   QUANT__TEXT("more keys than the limit"), n_kv, max_k);
    if (n_tensors > max_t)
        return quant__in_fail_size(in, QUANT_E_LIMIT, 8,
                                   QUANT__TEXT("more tensors than the limit"), n_tensors, max_t);
    if (in->fill && (n_kv != g->n_kv || n_tensors != g->n_tensors))
        return quant__in_fail(in, QUANT_E_FORMAT, 8,
                              QUANT__TEXT("the file changed while it was read"));
    g->n_kv = (size_t)n_kv;
    g->n_tensors = (size_t)n_tensors;
    for (i = 0; i < g->n_kv; i++) if ((r = quant__parse_kv(in, i)) != QUANT_OK) return r;
    for (i = 0; i < g->n_tensors; i++) if ((r = quant__parse_tensor(in, i)) != QUANT_OK) return r;
    in->name.n = 0;
    return QUANT_OK;
}

/* order [n] = positions of the tensors by ascending offset.  Heapsort, because it needs neither
 * memory nor luck; files that are in order already are done at once. */
QUANT__FN void quant__sort_offsets(uint32_t *order, const quant_tensor *t, size_t n)
{
    size_t i, build = n / 2, end = n;
    int sorted = 1;
    for (i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
        if (i && t[i].offset < t[i - 1].offset) sorted = 0;
    }
    if (sorted) return;
    for (;;) {
        size_t at, child;
        uint32_t x;
        if (build) {
            x = order[at = --build];
        } else {
            if (--end == 0) return;
            x = order[end];
            order[end] = order[0];
            at = 0;
        }
        for (; (child = 2 * at + 1) < end; at = child) {
            if (child + 1 < end && t[order[child + 1]].offset > t[order[child]].offset) child++;
            if (t[order[child]].offset <= t[x].offset) break;
            order[at] = order[child];
        }
        order[at] = x;
        if (end <= 1 && !build) return;
    }
}

/* Places the tensors' data in the file: each before the next and all inside it.  The overlap is
 * looked for first: a type id that means something else to another program shows as one, whereas a
 * truncated file has none and is told its full need. */
QUANT__FN quant_result quant__layout(quant__in *in, uint32_t *order)
{
    quant_gguf *g = in->g;
    size_t i, outside = QUANT__NONE;
    uint64_t end = 0;
    if (quant__pad64(&g->data_offset, in->at, g->alignment))
        return quant__in_fail(in, QUANT_E_FORMAT, in->at, QUANT__TEXT("the header is too large"));
    for (i = 0; i < g->n_tensors; i++) {
        quant_tensor *t = &g->tensors[i];
        if (!quant__add64(&t->offset, g->data_offset, t->offset) &&
            !quant__add64(&end, t->offset, t->size ? t->size : 1)) continue;
        in->name = t->name;
        return quant__in_fail_size(in, QUANT_E_SHORT, t->offset,
                                   QUANT__TEXT("tensor data reaches past the end of the file"),
                                   UINT64_MAX, in->size);
    }
    quant__sort_offsets(order, g->tensors, g->n_tensors);
    for (i = 0; i < g->n_tensors; i++) {
        quant_tensor *t = &g->tensors[order[i]];
        uint64_t size = t->size ? t->size : 1;          /* of an unknown type: at least a byte   */
        uint64_t next = i + 1 < g->n_tensors ? g->tensors[order[i + 1]].offset : in->size;
        end = t->offset + size;
        if (outside == QUANT__NONE && end > in->size) outside = order[i];
        if (i + 1 < g->n_tensors && size > next - t->offset) {
            in->name = t->name;
            return quant__in_fail(in, QUANT_E_FORMAT, t->offset,
                                  QUANT__TEXT("tensor data overlaps the next tensor "
                                              "(a type id of another program?)"));
        }
        t->span = next - t->offset;
        if (!t->size) t->size = t->span;
    }
    if (outside == QUANT__NONE) return QUANT_OK;
    in->name = g->tensors[outside].name;
    return quant__in_fail_size(in, QUANT_E_SHORT, g->tensors[outside].offset,
                               QUANT__TEXT("tensor data reaches past the end of the file"), end,
                               in->size);
}

typedef struct quant__gguf_parts { uint32_t *order; uint8_t *header; } quant__gguf_parts;

QUANT__FN void quant__gguf_carve(quant_gguf *g, quant__gguf_parts *p, quant__carve *c,
                                 uint64_t header_size)
{
    g->kv = (quant_kv *)quant__take(c, g->n_kv, sizeof(quant_kv));
    g->tensors = (quant_tensor *)quant__take(c, g->n_tensors, sizeof(quant_tensor));
    g->priv.kv_slots = (uint32_t *)quant__take(c, g->priv.n_kv_slots, 4);
    g->priv.tensor_slots = (uint32_t *)quant__take(c, g->priv.n_tensor_slots, 4);
    p->order = (uint32_t *)quant__take(c, g->n_tensors, 4);
    p->header = (uint8_t *)quant__take(c, header_size, 1);
}

/* Allocates what pass 1 measured; over a callback also reads the header, [header_size]. */
QUANT__FN quant_result quant__gguf_alloc(quant__in *in, quant__gguf_parts *parts)
{
    quant_gguf *g = in->g;
    uint64_t header_size = in->mem ? 0 : in->at;
    quant__carve c;
    QUANT_MEMSET(&c, 0, sizeof c);
    g->priv.n_kv_slots = g->n_kv ? quant__name_slots(g->n_kv) : 0;
    g->priv.n_tensor_slots = g->n_tensors ? quant__name_slots(g->n_tensors) : 0;
    quant__gguf_carve(g, parts, &c, header_size);
    if (!c.overflow && c.used)
        c.base = (uint8_t *)g->priv.alloc.alloc(g->priv.alloc.user, c.used);
    if (c.overflow || (c.used && !c.base)) {
        quant__in_fail(in, QUANT_E_MEMORY, 0, QUANT__TEXT("out of memory"));
        return QUANT_E_MEMORY;
    }
    g->priv.heap = c.base;
    g->priv.heap_size = c.used;
    c.used = 0;
    quant__gguf_carve(g, parts, &c, header_size);
    if (g->n_kv) QUANT_MEMSET(g->priv.kv_slots, 0, g->priv.n_kv_slots * 4);
    if (g->n_tensors) QUANT_MEMSET(g->priv.tensor_slots, 0, g->priv.n_tensor_slots * 4);
    if (in->mem) return QUANT_OK;
    if (g->priv.io.read(g->priv.io.user, 0, parts->header, (size_t)header_size) != header_size)
        return quant__in_fail(in, QUANT_E_IO, 0, QUANT__TEXT("reading the file failed"));
    in->mem = parts->header;
    in->end = header_size;
    return QUANT_OK;
}

/* Opens mem [size], or the callback where mem is NULL; g is zeroed but for priv.io. */
QUANT__FN quant_result quant__gguf_open(quant_gguf *g, const uint8_t *mem, uint64_t size,
                                        const quant_alloc *a, const quant_limits *limits)
{
    uint8_t window[QUANT__WINDOW];
    quant__gguf_parts parts;
    quant__in in;
    uint64_t header_size;
    quant_result r;
    QUANT_MEMSET(&in, 0, sizeof in);
    if (limits) in.max = *limits;
    if (!in.max.max_kv)      in.max.max_kv      = (uint64_t)1 << 20;
    if (!in.max.max_tensors) in.max.max_tensors = (uint64_t)1 << 20;
    if (!in.max.max_string)  in.max.max_string  = (uint64_t)1 << 30;
    if (!in.max.max_array)   in.max.max_array   = (uint64_t)1 << 30;
    if (!in.max.max_header)  in.max.max_header  = (uint64_t)1 << 30;
    in.g = g;
    in.mem = mem;
    in.size = size;
    in.end = size < in.max.max_header ? size : in.max.max_header;
    in.window = window;
    g->priv.alloc = quant__get_alloc(a);
    g->priv.mem = mem;
    g->file_size = size;
    if (size == 0)
        return quant__fail_size(&g->err, QUANT_E_SHORT, 0, QUANT__TEXT("the file is empty"),
                                QUANT__MIN_HEAD, 0);
    if ((r = quant__parse(&in)) != QUANT_OK) return r;
    header_size = in.at;
    if ((r = quant__gguf_alloc(&in, &parts)) != QUANT_OK) return r;
    in.fill = 1;
    if ((r = quant__parse(&in)) != QUANT_OK) return r;
    if (in.at != header_size)
        return quant__in_fail(&in, QUANT_E_FORMAT, in.at,
                              QUANT__TEXT("the file changed while it was read"));
    return quant__layout(&in, parts.order);
}

QUANT_API quant_result quant_gguf_open(quant_gguf *g, const void *data, size_t size,
                                       const quant_alloc *a, const quant_limits *limits)
{
    quant_result r;
    if (!g) return QUANT_E_ARG;
    QUANT_MEMSET(g, 0, sizeof *g);
    if (!data && size) return quant__fail(&g->err, QUANT_E_ARG, 0, QUANT__TEXT("data is NULL"));
    r = quant__gguf_open(g, (const uint8_t *)data, size, a, limits);
    if (r != QUANT_OK) quant_gguf_close(g);
    return r;
}

QUANT_API quant_result quant_gguf_open_io(quant_gguf *g, const quant_io *io, const quant_alloc *a,
                                          const quant_limits *limits)
{
    quant_result r;
    if (!g) return QUANT_E_ARG;
    QUANT_MEMSET(g, 0, sizeof *g);
    if (!io || !io->read)
        return quant__fail(&g->err, QUANT_E_ARG, 0, QUANT__TEXT("there is no read callback"));
    g->priv.io = *io;
    r = quant__gguf_open(g, NULL, io->size, a, limits);
    if (r != QUANT_OK) quant_gguf_close(g);
    return r;
}

QUANT_API void quant_gguf_close(quant_gguf *g)
{
    quant_error err;
    if (!g) return;
    if (g->priv.heap) g->priv.alloc.free(g->priv.alloc.user, g->priv.heap, g->priv.heap_size);
    if (g->priv.release) g->priv.release(g->priv.map, g->priv.map_size, g->priv.file);
    err = g->err;
    QUANT_MEMSET(g, 0, sizeof *g);
    g->err = err;
}

QUANT_API const quant_kv *quant_gguf_find(const quant_gguf *g, const char *key)
{
    size_t i;
    if (!g || !key) return NULL;
    i = quant__name_find(g->priv.kv_slots, g->priv.n_kv_slots, g->kv, sizeof(quant_kv), key,
                         quant__strlen(key), NULL);
    return i == QUANT__NONE ? NULL : &g->kv[i];
}

QUANT_API const quant_tensor *quant_gguf_find_tensor(const quant_gguf *g, const char *name)
{
    size_t i;
    if (!g || !name) return NULL;
    i = quant__name_find(g->priv.tensor_slots, g->priv.n_tensor_slots, g->tensors,
                         sizeof(quant_tensor), name, quant__strlen(name), NULL);
    return i == QUANT__NONE ? NULL : &g->tensors[i];
}

/* Element i: its bits, integers sign-extended to 64; a bool is 0 or 1. */
QUANT__FN quant_result quant__kv_bits(const quant_kv *kv, uint64_t i, uint64_t *bits)
{
    uint32_t width;
    uint64_t v;
    if (!kv || i >= kv->count) return QUANT_E_NOT_FOUND;
    width = quant__kv_size(kv->elem_type);
    if (!width) return QUANT_E_KIND;
    v = quant__load(kv->raw + (size_t)i * width, width, kv->layout & QUANT_LAYOUT_BIG_ENDIAN);
    switch (kv->elem_type) {
        case QUANT_KV_I8:   v = (v ^ 0x80u) - 0x80u; break;
        case QUANT_KV_I16:  v = (v ^ 0x8000u) - 0x8000u; break;
        case QUANT_KV_I32:  v = (v ^ 0x80000000u) - 0x80000000u; break;
        case QUANT_KV_BOOL: v = v != 0; break;
        default: break;
    }
    *bits = v;
    return QUANT_OK;
}

QUANT__INLINE int quant__kv_signed(uint32_t type)
{
    return type == QUANT_KV_I8 || type == QUANT_KV_I16 || type == QUANT_KV_I32 ||
           type == QUANT_KV_I64;
}

QUANT__INLINE int quant__kv_float(uint32_t type)
{
    return type == QUANT_KV_F32 || type == QUANT_KV_F64;
}

QUANT_API quant_result quant_kv_u64(const quant_kv *kv, uint64_t i, uint64_t *out)
{
    uint64_t v = 0;
    quant_result r = quant__kv_bits(kv, i, &v);
    if (r != QUANT_OK) return r;
    if (quant__kv_float(kv->elem_type)) return QUANT_E_KIND;
    if (quant__kv_signed(kv->elem_type) && v >> 63) return QUANT_E_KIND;
    *out = v;
    return QUANT_OK;
}

QUANT_API quant_result quant_kv_i64(const quant_kv *kv, uint64_t i, int64_t *out)
{
    uint64_t v = 0;
    quant_result r = quant__kv_bits(kv, i, &v);
    if (r != QUANT_OK) return r;
    if (quant__kv_float(kv->elem_type)) return QUANT_E_KIND;
    if (!quant__kv_signed(kv->elem_type) && v >> 63) return QUANT_E_KIND;
    QUANT_MEMCPY(out, &v, 8);
    return QUANT_OK;
}

QUANT_API quant_result quant_kv_f64(const quant_kv *kv, uint64_t i, double *out)
{
    uint64_t v = 0;
    int64_t s;
    quant_result r = quant__kv_bits(kv, i, &v);
    if (r != QUANT_OK) return r;
    QUANT_MEMCPY(&s, &v, 8);
    if (kv->elem_type == QUANT_KV_BOOL) return QUANT_E_KIND;
    if (kv->elem_type == QUANT_KV_F64) QUANT_MEMCPY(out, &v, 8);
    else if (kv->elem_type == QUANT_KV_F32) *out = (double)quant__float((uint32_t)v);
    else if (quant__kv_signed(kv->elem_type)) *out = (double)s;
    else *out = (double)v;
    return QUANT_OK;
}

QUANT_API quant_result quant_kv_str(const quant_kv *kv, uint64_t i, quant_cursor *cur,
                                    quant_str *out)
{
    quant_cursor c;
    uint32_t width;
    c.index = c.offset = 0;
    if (!kv || i >= kv->count) return QUANT_E_NOT_FOUND;
    if (kv->elem_type != QUANT_KV_STR) return QUANT_E_KIND;
    if (cur && cur->index <= i) c = *cur;
    width = kv->layout & QUANT_LAYOUT_V1 ? 4 : 8;
    for (;;) {                      /* checked again: a mapped file may have changed             */
        uint64_t n;
        if (c.offset > kv->raw_size || kv->raw_size - c.offset < width) return QUANT_E_FORMAT;
        n = quant__load(kv->raw + (size_t)c.offset, width, kv->layout & QUANT_LAYOUT_BIG_ENDIAN);
        if (n > kv->raw_size - c.offset - width) return QUANT_E_FORMAT;
        if (c.index == i) {
            out->p = (const char *)kv->raw + (size_t)c.offset + width;
            out->n = (size_t)n;
            if (cur) *cur = c;
            return QUANT_OK;
        }
        c.index++;
        c.offset += width + n;
    }
}

QUANT_API quant_result quant_gguf_get_u64(const quant_gguf *g, const char *key, uint64_t *out)
{
    return quant_kv_u64(quant_gguf_find(g, key), 0, out);
}

QUANT_API quant_result quant_gguf_get_i64(const quant_gguf *g, const char *key, int64_t *out)
{
    return quant_kv_i64(quant_gguf_find(g, key), 0, out);
}

QUANT_API quant_result quant_gguf_get_f64(const quant_gguf *g, const char *key, double *out)
{
    return quant_kv_f64(quant_gguf_find(g, key), 0, out);
}

QUANT_API quant_result quant_gguf_get_str(const quant_gguf *g, const char *key, quant_str *out)
{
    return quant_kv_str(quant_gguf_find(g, key), 0, NULL, out);
}

/* The multi-byte numbers of each type, which a big-endian file has the other way round: `count`
 * numbers of `width` bytes from byte `at` of a block.  A known type that is not here has none.
 * qh of Q5_0 and Q5_1 counts: ggml copies it from and to a 32-bit number of the machine.  Width 0:
 * ggml mixes bytes and numbers over the same memory, so that big-endian files have no meaning. */
typedef struct quant__field { uint8_t type, width, count; uint16_t at; } quant__field;
#define QUANT__AT(type, field) offsetof(quant__##type, field)
static const quant__field quant__fields[] = {
    { QUANT_F32, 4, 1, 0 },  { QUANT_F16, 2, 1, 0 },  { QUANT_BF16, 2, 1, 0 },
    { QUANT_I16, 2, 1, 0 },  { QUANT_I32, 4, 1, 0 },  { QUANT_I64, 8, 1, 0 },
    { QUANT_F64, 8, 1, 0 },
    { QUANT_Q4_0,   2,  1, QUANT__AT(q4_0, d) },    { QUANT_Q4_1,  2,  2, QUANT__AT(q4_1, d) },
    { QUANT_Q5_0,   2,  1, QUANT__AT(q5_0, d) },    { QUANT_Q5_0,  4,  1, QUANT__AT(q5_0, qh) },
    { QUANT_Q5_1,   2,  2, QUANT__AT(q5_1, d) },    { QUANT_Q5_1,  4,  1, QUANT__AT(q5_1, qh) },
    { QUANT_Q8_0,   2,  1, QUANT__AT(q8_0, d) },    { QUANT_Q8_1,  2,  2, QUANT__AT(q8_1, d) },
    { QUANT_Q2_K,   2,  2, QUANT__AT(q2_k, d) },    { QUANT_Q3_K,  2,  1, QUANT__AT(q3_k, d) },
    { QUANT_Q4_K,   2,  2, QUANT__AT(q4_k, d) },    { QUANT_Q5_K,  2,  2, QUANT__AT(q5_k, d) },
    { QUANT_Q6_K,   2,  1, QUANT__AT(q6_k, d) },    { QUANT_Q8_K,  4,  1, QUANT__AT(q8_k, d) },
    { QUANT_Q8_K,   2, 16, QUANT__AT(q8_k, bsums) },
    { QUANT_IQ4_NL, 2,  1, QUANT__AT(iq4_nl, d) },  { QUANT_IQ4_XS, 2, 2, QUANT__AT(iq4_xs, d) },
    { QUANT_TQ1_0,  2,  1, QUANT__AT(tq1_0, d) },   { QUANT_TQ2_0, 2,  1, QUANT__AT(tq2_0, d) },
    { QUANT_Q1_0,   2,  1, QUANT__AT(q1_0, d) },    { QUANT_Q2_0,  2,  1, QUANT__AT(q2_0, d) },
    { QUANT_IQ2_XS, 2, 33, QUANT__AT(iq2_xs, d) },  { QUANT_IQ2_S, 2,  1, QUANT__AT(iq2_s, d) },
    { QUANT_IQ3_S,  2,  1, QUANT__AT(iq3_s, d) },
    { QUANT_IQ1_S,  2,  1, QUANT__AT(iq1_s, d) },   { QUANT_IQ1_S, 2,  8, QUANT__AT(iq1_s, qh) },
    { QUANT_IQ2_XXS, 0, 0, 0 }, { QUANT_IQ3_XXS, 0, 0, 0 }, { QUANT_IQ1_M, 0, 0, 0 }
};
#undef QUANT__AT

/* 0: single bytes only, 1: has numbers of several bytes, 2: unknown, removed or without meaning. */
QUANT__FN int quant__byte_order(quant_type t)
{
    const quant_type_info *info = quant_type_get(t);
    size_t i;
    int r = 0;
    if (!info || !info->block_len) return 2;
    for (i = 0; i < sizeof quant__fields / sizeof quant__fields[0]; i++)
        if (quant__fields[i].type == t) r = quant__fields[i].width ? 1 : 2;
    return r;
}

QUANT__FN void quant__reverse(uint8_t *p, size_t width, size_t count)
{
    for (; count; count--, p += width) {
        size_t i;
        for (i = 0; i < width / 2; i++) {
            uint8_t x = p[i];
            p[i] = p[width - 1 - i];
            p[width - 1 - i] = x;
        }
    }
}

/* Turns blocks p [n] of a big-endian file into little-endian ones; n is whole blocks. */
QUANT__FN void quant__to_little(quant_type t, uint8_t *p, size_t n)
{
    size_t block = quant__types[t].block_size, i, b;
    for (i = 0; i < sizeof quant__fields / sizeof quant__fields[0]; i++) {
        const quant__field *f = &quant__fields[i];
        if (f->type != t) continue;
        if (f->width == block) { quant__reverse(p, block, n / block); continue; }
        for (b = 0; b + block <= n; b += block) quant__reverse(p + b + f->at, f->width, f->count);
    }
}

QUANT_API const void *quant_gguf_data(const quant_gguf *g, const quant_tensor *t)
{
    if (!g || !t || !g->priv.mem) return NULL;
    if (g->big_endian && quant__byte_order(t->type) != 0) return NULL;
    return g->priv.mem + (size_t)t->offset;
}

QUANT_API quant_result quant_gguf_read(const quant_gguf *g, const quant_tensor *t, void *dst,
                                       uint64_t offset, size_t n)
{
    int order = 0;
    if (!g || !t || offset > t->size || n > t->size - offset) return QUANT_E_ARG;
    if (g->big_endian) {
        order = quant__byte_order(t->type);
        if (order == 2) return QUANT_E_TYPE;
        if (offset % quant__types[t->type].block_size) return QUANT_E_ARG;
        if (n % quant__types[t->type].block_size) return QUANT_E_ARG;
    }
    if (n == 0) return QUANT_OK;
    if (g->priv.mem) {
        QUANT_MEMCPY(dst, g->priv.mem + (size_t)(t->offset + offset), n);
    } else {
        if (!g->priv.io.read) return QUANT_E_STATE;
        if (g->priv.io.read(g->priv.io.user, t->offset + offset, dst, n) != n) return QUANT_E_IO;
    }
    if (order) quant__to_little(t->type, (uint8_t *)dst, n);
    return QUANT_OK;
}
#endif /* QUANT_NO_GGUF */

/* >>writer ---------------------------------------------------------------------------------------
 * GGUF writer.  Keys and tensor infos are encoded as they are named, so that the header is sent as
 * it stands: the offsets of the data count from the end of the header and do not need its size. */
#ifndef QUANT_NO_GGUF_WRITE
enum { QUANT__OUT_NAMES = 1, QUANT__OUT_DATA = 2, QUANT__OUT_ENDED = 3 };   /* priv.state        */

/* What a call begins with: the first failure sticks, and calls come in their order. */
QUANT__FN quant_result quant__out_ready(quant_gguf_out *o, uint32_t state)
{
    const char *what = QUANT__TEXT("the file was not begun or is ended");
    if (o->err.code != QUANT_OK) return o->err.code;
    if (o->priv.state == state) return QUANT_OK;
    if (o->priv.state == QUANT__OUT_NAMES) what = QUANT__TEXT("the header must be sent before");
    if (o->priv.state == QUANT__OUT_DATA) what = QUANT__TEXT("the header is sent already");
    return quant__fail(&o->err, QUANT_E_STATE, o->written, what);
}

QUANT__FN quant_result quant__out_fail(quant_gguf_out *o, quant_result code, quant_str name,
                                       const char *what)
{
    quant__fail(&o->err, code, 0, what);
    quant__fail_name(&o->err, name.p, name.n);
    return code;
}

QUANT__FN quant_str quant__out_str(const char *s)
{
    quant_str r;
    r.p = s;
    r.n = s ? quant__strlen(s) : 0;
    return r;
}

QUANT__FN void quant__out_free(quant_gguf_out *o, quant__bytes *b)
{
    if (b->p) o->priv.alloc.free(o->priv.alloc.user, b->p, b->cap);
    QUANT_MEMSET(b, 0, sizeof *b);
}

/* Appends room for n bytes and returns it, never NULL for n = 0; NULL: no memory, o->err says so.
 * The capacity doubles, so that appending costs constant time per byte. */
QUANT__FN uint8_t *quant__out_room(quant_gguf_out *o, quant__bytes *b, uint64_t n)
{
    size_t cap = b->cap ? b->cap : 256, half = (size_t)-1 / 2;
    if (!b->p || n > b->cap - b->n) {
        uint8_t *p = NULL;
        if (b->n <= half && n <= half - b->n) {         /* hence 2 cap does not overflow         */
            while (cap - b->n < n) cap *= 2;
            p = (uint8_t *)o->priv.alloc.alloc(o->priv.alloc.user, cap);
        }
        if (!p) {
            quant__fail(&o->err, QUANT_E_MEMORY, 0, QUANT__TEXT("out of memory"));
            return NULL;
        }
        if (b->n) QUANT_MEMCPY(p, b->p, b->n);
        if (b->p) o->priv.alloc.free(o->priv.alloc.user, b->p, b->cap);
        b->p = p;
        b->cap = cap;
    }
    b->n += (size_t)n;
    return b->p + (b->n - (size_t)n);
}

/* The slot that holds the name or the free one that it would take; QUANT__NONE after too many
 * collisions.  at[i] is where in `text` name i begins: 8 bytes of length, then the bytes.  (The
 * index of >>names keeps pointers, which a growing buffer would leave dangling.) */
QUANT__FN size_t quant__index_slot(const quant__index *x, const quant__bytes *text, quant_str name)
{
    const uint32_t *slots = (const uint32_t *)(const void *)x->slots.p;
    const size_t *at = (const size_t *)(const void *)x->at.p;
    size_t n = x->slots.n / sizeof *slots, i, s = quant__hash(name.p, name.n) & (n - 1);
    for (i = 0; i < QUANT__PROBES && i < n; i++, s = (s + 1) & (n - 1)) {
        const uint8_t *p;
        if (!slots[s]) return s;
        p = text->p + at[slots[s] - 1];
        if (quant__le64(p) == name.n && QUANT_MEMCMP(p + 8, name.p, name.n) == 0) return s;
    }
    return QUANT__NONE;
}

QUANT__FN quant_result quant__index_collide(quant_gguf_out *o, quant_str name)
{
    return quant__out_fail(o, QUANT_E_LIMIT, name, QUANT__TEXT("too many names share a hash"));
}

/* Makes the table at least twice as large as the names that it will hold, a power of two. */
QUANT__FN quant_result quant__index_grow(quant_gguf_out *o, quant__index *x,
                                         const quant__bytes *text)
{
    size_t n = x->at.n / sizeof(size_t), i;
    quant__bytes old = x->slots;
    const size_t *at = (const size_t *)(const void *)x->at.p;
    if (old.n / sizeof(uint32_t) >= 2 * (n + 1)) return QUANT_OK;
    if (n >= (size_t)1 << 29)
        return quant__fail(&o->err, QUANT_E_LIMIT, 0, QUANT__TEXT("too many keys or tensors"));
    QUANT_MEMSET(&x->slots, 0, sizeof x->slots);
    if (!quant__out_room(o, &x->slots, old.n ? 2 * (uint64_t)old.n : 64 * sizeof(uint32_t))) {
        x->slots = old;
        return o->err.code;
    }
    QUANT_MEMSET(x->slots.p, 0, x->slots.n);
    quant__out_free(o, &old);
    for (i = 0; i < n; i++) {
        quant_str name;
        size_t s;
        name.n = (size_t)quant__le64(text->p + at[i]);
        name.p = (const char *)(text->p + at[i] + 8);
        s = quant__index_slot(x, text, name);
        if (s == QUANT__NONE) return quant__index_collide(o, name);
        ((uint32_t *)(void *)x->slots.p)[s] = (uint32_t)i + 1;
    }
    return QUANT_OK;
}

/* Appends a string: length and bytes. */
QUANT__FN quant_result quant__out_string(quant_gguf_out *o, quant__bytes *b, const char *p,
                                         uint64_t n)
{
    uint8_t *dst;
    if (n > UINT64_MAX - 8) n = UINT64_MAX - 8;         /* fails for want of memory              */
    dst = quant__out_room(o, b, n + 8);
    if (!dst) return o->err.code;
    quant__put64(dst, n);
    if (n) QUANT_MEMCPY(dst + 8, p, (size_t)n);
    return QUANT_OK;
}

/* Appends the name to text and to its index. */
QUANT__FN quant_result quant__out_name(quant_gguf_out *o, quant__index *x, quant__bytes *text,
                                       quant_str name)
{
    size_t s, at = text->n, i;
    uint8_t *p;
    for (i = 0; i < name.n; i++)
        if (!name.p[i]) return quant__out_fail(o, QUANT_E_ARG, name,
                                               QUANT__TEXT("the name has a zero byte"));
    if (quant__index_grow(o, x, text) != QUANT_OK) return o->err.code;
    s = quant__index_slot(x, text, name);
    if (s == QUANT__NONE) return quant__index_collide(o, name);
    if (((uint32_t *)(void *)x->slots.p)[s])
        return quant__out_fail(o, QUANT_E_ARG, name, QUANT__TEXT("the name is there already"));
    p = quant__out_room(o, &x->at, sizeof at);
    if (!p) return o->err.code;
    QUANT_MEMCPY(p, &at, sizeof at);
    ((uint32_t *)(void *)x->slots.p)[s] = (uint32_t)(x->at.n / sizeof at);
    return quant__out_string(o, text, name.p, name.n);
}

QUANT__FN quant_result quant__out_u32(quant_gguf_out *o, quant__bytes *b, uint32_t v)
{
    uint8_t *p = quant__out_room(o, b, 4);
    if (!p) return o->err.code;
    quant__put32(p, v);
    return QUANT_OK;
}

QUANT__FN quant_result quant__out_u64(quant_gguf_out *o, quant__bytes *b, uint64_t v)
{
    uint8_t *p = quant__out_room(o, b, 8);
    if (!p) return o->err.code;
    quant__put64(p, v);
    return QUANT_OK;
}

/* Appends the key and the type of its value; for an array, elem_type and count too. */
QUANT__FN quant_result quant__out_key(quant_gguf_out *o, quant_str key, uint32_t type,
                                      uint32_t elem_type, uint64_t count)
{
    quant__bytes *b = &o->priv.kv;
    if (!key.p || !key.n)
        return quant__fail(&o->err, QUANT_E_ARG, o->n_kv, QUANT__TEXT("a key is empty"));
    if (key.n > QUANT__MAX_KEY)
        return quant__out_fail(o, QUANT_E_ARG, key, QUANT__TEXT("the key is over 65535 bytes"));
    if (elem_type != QUANT_KV_STR && !quant__kv_size(elem_type))
        return quant__out_fail(o, QUANT_E_ARG, key, QUANT__TEXT("no such value type"));
    if (quant__out_name(o, &o->priv.keys, b, key) != QUANT_OK) return o->err.code;
    if (quant__out_u32(o, b, type) != QUANT_OK) return o->err.code;
    if (type != QUANT_KV_ARRAY) return QUANT_OK;
    if (quant__out_u32(o, b, elem_type) != QUANT_OK) return o->err.code;
    return quant__out_u64(o, b, count);
}

/* Appends numbers, which stand in src with swapped bytes or without. */
QUANT__FN quant_result quant__out_numbers(quant_gguf_out *o, uint32_t type, const uint8_t *src,
                                          uint64_t count, int swap)
{
    size_t size = quant__kv_size(type), i, j, n;
    uint64_t bytes;
    uint8_t *dst;
    if (quant__mul64(&bytes, count, size)) bytes = UINT64_MAX;  /* fails for want of memory      */
    dst = quant__out_room(o, &o->priv.kv, bytes);
    if (!dst) return o->err.code;
    n = (size_t)bytes;
    if (type == QUANT_KV_BOOL) {
        for (i = 0; i < n; i++) dst[i] = src[i] != 0;   /* the format knows 0 and 1 only         */
    } else if (swap) {
        for (i = 0; i < n; i += size)
            for (j = 0; j < size; j++) dst[i + j] = src[i + size - 1 - j];
    } else if (n) {
        QUANT_MEMCPY(dst, src, n);
    }
    return QUANT_OK;
}

/* Appends values that stand in memory as the C types of quant_gguf_put. */
QUANT__FN quant_result quant__out_values(quant_gguf_out *o, uint32_t type, const void *src,
                                         uint64_t count)
{
    const uint8_t *p = (const uint8_t *)src;
    uint16_t one = 1;
    uint8_t low;                                        /* 0 on a big-endian machine             */
    uint64_t i;
    QUANT_MEMCPY(&low, &one, 1);
    if (type != QUANT_KV_STR) return quant__out_numbers(o, type, p, count, !low);
    for (i = 0; i < count; i++) {
        quant_str s;
        QUANT_MEMCPY(&s, p + (size_t)i * sizeof s, sizeof s);
        if (!s.p && s.n) return quant__fail(&o->err, QUANT_E_ARG, i, QUANT__TEXT("no string"));
        if (quant__out_string(o, &o->priv.kv, s.p, s.n) != QUANT_OK) return o->err.code;
    }
    return QUANT_OK;
}

/* Appends the strings of a reader's value, whose lengths have 4 or 8 bytes in either order. */
QUANT__FN quant_result quant__out_strings(quant_gguf_out *o, const quant_kv *kv)
{
    uint32_t head = kv->layout & QUANT_LAYOUT_V1 ? 4 : 8;
    uint64_t i, at = 0;
    for (i = 0; i < kv->count; i++) {
        const uint8_t *p = kv->raw + (size_t)at;
        uint64_t n;
        if (kv->raw_size - at < head) break;
        n = quant__load(p, head, kv->layout & QUANT_LAYOUT_BIG_ENDIAN);
        if (n > kv->raw_size - at - head) break;
        if (quant__out_string(o, &o->priv.kv, (const char *)p + head, n) != QUANT_OK)
            return o->err.code;
        at += head + n;
    }
    if (i == kv->count && at == kv->raw_size) return QUANT_OK;
    return quant__out_fail(o, QUANT_E_ARG, kv->key, QUANT__TEXT("the value has a wrong size"));
}

/* Ends a key that begins at `start` of kv.  The reader of the file believes general.alignment, so
 * it must be what the offsets were made with. */
QUANT__FN quant_result quant__out_key_done(quant_gguf_out *o, size_t start)
{
    static const char key[] = "general.alignment";
    const uint8_t *p = o->priv.kv.p + start;
    size_t n = sizeof key - 1;
    if (quant__le64(p) == n && QUANT_MEMCMP(p + 8, key, n) == 0
        && (quant__le32(p + 8 + n) != QUANT_KV_U32
            || quant__le32(p + 12 + n) != o->priv.alignment))
        return quant__out_fail(o, QUANT_E_ARG, quant__out_str(key),
                               QUANT__TEXT("differs from the alignment of quant_gguf_begin"));
    o->n_kv++;
    return QUANT_OK;
}

QUANT_API quant_result quant_gguf_begin(quant_gguf_out *o, quant_sink sink, uint32_t alignment,
                                        const quant_alloc *a)
{
    QUANT_MEMSET(o, 0, sizeof *o);
    if (alignment == 0) alignment = 32;
    o->priv.sink = sink;
    o->priv.alloc = quant__get_alloc(a);
    o->priv.alignment = alignment;
    o->priv.state = QUANT__OUT_NAMES;
    if (!sink.write) return quant__fail(&o->err, QUANT_E_ARG, 0, QUANT__TEXT("no sink"));
    if (alignment < 8 || alignment > 65536 || (alignment & (alignment - 1)))
        return quant__fail(&o->err, QUANT_E_ARG, 0,
                           QUANT__TEXT("the alignment is no power of two from 8 to 65536"));
    if (alignment == 32) return QUANT_OK;
    return quant_gguf_put_u32(o, "general.alignment", alignment);
}

QUANT_API quant_result quant_gguf_put(quant_gguf_out *o, const char *key, uint32_t type,
                                      const void *value)
{
    size_t start = o->priv.kv.n;
    if (quant__out_ready(o, QUANT__OUT_NAMES) != QUANT_OK) return o->err.code;
    if (quant__out_key(o, quant__out_str(key), type, type, 1) != QUANT_OK) return o->err.code;
    if (!value)
        return quant__out_fail(o, QUANT_E_ARG, quant__out_str(key), QUANT__TEXT("no value"));
    if (quant__out_values(o, type, value, 1) != QUANT_OK) return o->err.code;
    return quant__out_key_done(o, start);
}

QUANT_API quant_result quant_gguf_put_array(quant_gguf_out *o, const char *key,
                                            uint32_t elem_type, const void *elems,
                                            uint64_t count)
{
    size_t start = o->priv.kv.n;
    quant_str k = quant__out_str(key);
    if (quant__out_ready(o, QUANT__OUT_NAMES) != QUANT_OK) return o->err.code;
    if (quant__out_key(o, k, QUANT_KV_ARRAY, elem_type, count) != QUANT_OK) return o->err.code;
    if (!elems && count) return quant__out_fail(o, QUANT_E_ARG, k, QUANT__TEXT("no value"));
    if (quant__out_values(o, elem_type, elems, count) != QUANT_OK) return o->err.code;
    return quant__out_key_done(o, start);
}

QUANT_API quant_result quant_gguf_put_u32(quant_gguf_out *o, const char *key, uint32_t v)
{
    return quant_gguf_put(o, key, QUANT_KV_U32, &v);
}

QUANT_API quant_result quant_gguf_put_str(quant_gguf_out *o, const char *key, const char *v)
{
    quant_str s = quant__out_str(v);
    return quant_gguf_put(o, key, QUANT_KV_STR, v ? &s : NULL);
}

QUANT_API quant_result quant_gguf_put_kv(quant_gguf_out *o, const quant_kv *kv)
{
    size_t start = o->priv.kv.n;
    uint32_t elem;
    uint64_t bytes;
    if (quant__out_ready(o, QUANT__OUT_NAMES) != QUANT_OK) return o->err.code;
    if (!kv) return quant__fail(&o->err, QUANT_E_ARG, o->n_kv, QUANT__TEXT("no value"));
    elem = kv->type == QUANT_KV_ARRAY ? kv->elem_type : kv->type;
    if (quant__out_key(o, kv->key, kv->type, elem, kv->count) != QUANT_OK) return o->err.code;
    if (quant__mul64(&bytes, kv->count, quant__kv_size(elem))
        || (elem != QUANT_KV_STR && bytes != kv->raw_size) || (!kv->raw && kv->raw_size)
        || (kv->type != QUANT_KV_ARRAY && kv->count != 1))
        return quant__out_fail(o, QUANT_E_ARG, kv->key, QUANT__TEXT("the value has a wrong size"));
    if (elem == QUANT_KV_STR) quant__out_strings(o, kv);
    else quant__out_numbers(o, elem, kv->raw, kv->count,
                            (kv->layout & QUANT_LAYOUT_BIG_ENDIAN) != 0);
    return o->err.code != QUANT_OK ? o->err.code : quant__out_key_done(o, start);
}

/* Bytes of a tensor's data, or NULL in *bad; else what is wrong with its shape. */
QUANT__FN uint64_t quant__out_tensor_size(const quant_type_info *i, const uint64_t *ne,
                                          uint32_t n_dims, const char **bad)
{
    uint64_t n = 1, size = 0;
    uint32_t d;
    *bad = QUANT__TEXT("a tensor has 1 to 4 dimensions");
    if (!ne || n_dims < 1 || n_dims > 4) return 0;
    *bad = QUANT__TEXT("a dimension is 0");
    for (d = 0; d < n_dims; d++) if (!ne[d]) return 0;
    *bad = QUANT__TEXT("the rows are no multiple of the type's block");
    if (ne[0] % i->block_len) return 0;
    *bad = QUANT__TEXT("the tensor is too large");
    for (d = 0; d < n_dims; d++) if (quant__mul64(&n, n, ne[d])) return 0;
    if (n > INT64_MAX || quant__mul64(&size, n / i->block_len, i->block_size)) return 0;
    *bad = NULL;
    return size;
}

QUANT_API quant_result quant_gguf_put_tensor(quant_gguf_out *o, const char *name, quant_type t,
                                             const uint64_t *ne, uint32_t n_dims)
{
    const quant_type_info *i = quant_type_get(t);
    quant__bytes *b = &o->priv.info;
    quant_str s = quant__out_str(name);
    const char *bad;
    uint64_t size, padded, end;
    uint32_t d;
    uint8_t *p;
    if (quant__out_ready(o, QUANT__OUT_NAMES) != QUANT_OK) return o->err.code;
    if (s.n < 1 || s.n > QUANT__MAX_NAME)
        return quant__out_fail(o, QUANT_E_ARG, s,
                               QUANT__TEXT("a tensor's name has 1 to 63 bytes"));
    if (!i || !i->block_len)
        return quant__out_fail(o, QUANT_E_TYPE, s, QUANT__TEXT("no such tensor type"));
    size = quant__out_tensor_size(i, ne, n_dims, &bad);
    if (bad) return quant__out_fail(o, QUANT_E_ARG, s, bad);
    if (quant__pad64(&padded, size, o->priv.alignment)
        || quant__add64(&end, o->priv.data_size, padded) || end > INT64_MAX)
        return quant__out_fail(o, QUANT_E_ARG, s, QUANT__TEXT("the tensors are too large"));
    if (quant__out_name(o, &o->priv.names, b, s) != QUANT_OK) return o->err.code;
    if (quant__out_u32(o, b, n_dims) != QUANT_OK) return o->err.code;
    for (d = 0; d < n_dims; d++)
        if (quant__out_u64(o, b, ne[d]) != QUANT_OK) return o->err.code;
    if (quant__out_u32(o, b, t) != QUANT_OK) return o->err.code;
    if (quant__out_u64(o, b, o->priv.data_size) != QUANT_OK) return o->err.code;
    p = quant__out_room(o, &o->priv.sizes, sizeof size);
    if (!p) return o->err.code;
    QUANT_MEMCPY(p, &size, sizeof size);
    o->priv.data_size = end;
    o->priv.rest += size;
    o->n_tensors++;
    return QUANT_OK;
}

QUANT__FN quant_result quant__out_send(quant_gguf_out *o, const uint8_t *p, size_t n)
{
    size_t got = n ? o->priv.sink.write(o->priv.sink.user, p, n) : 0;
    o->written += got < n ? got : n;
    if (got >= n) return QUANT_OK;
    return quant__fail(&o->err, QUANT_E_IO, o->written, QUANT__TEXT("the sink failed"));
}

/* Sends zeros up to the next multiple of the alignment. */
QUANT__FN quant_result quant__out_pad(quant_gguf_out *o)
{
    static const uint8_t zeros[256] = { 0 };
    size_t over = (size_t)(o->written & (o->priv.alignment - 1));
    size_t n = over ? o->priv.alignment - over : 0;
    while (n) {
        size_t take = n < sizeof zeros ? n : sizeof zeros;
        if (quant__out_send(o, zeros, take) != QUANT_OK) return o->err.code;
        n -= take;
    }
    return QUANT_OK;
}

/* Takes the bytes of the current tensor from the list. */
QUANT__FN void quant__out_next(quant_gguf_out *o)
{
    if (o->priv.tensor >= o->n_tensors) return;
    QUANT_MEMCPY(&o->priv.left, o->priv.sizes.p + (size_t)o->priv.tensor * sizeof(uint64_t),
                 sizeof(uint64_t));
}

/* Frees what only the header needs. */
QUANT__FN void quant__out_free_names(quant_gguf_out *o)
{
    quant__out_free(o, &o->priv.kv);
    quant__out_free(o, &o->priv.info);
    quant__out_free(o, &o->priv.keys.at);
    quant__out_free(o, &o->priv.keys.slots);
    quant__out_free(o, &o->priv.names.at);
    quant__out_free(o, &o->priv.names.slots);
}

QUANT_API quant_result quant_gguf_header(quant_gguf_out *o)
{
    static const uint8_t magic[4] = { 'G', 'G', 'U', 'F' };
    uint8_t head[24];
    if (quant__out_ready(o, QUANT__OUT_NAMES) != QUANT_OK) return o->err.code;
    QUANT_MEMCPY(head, magic, 4);
    quant__put32(head + 4, 3);
    quant__put64(head + 8, o->n_tensors);
    quant__put64(head + 16, o->n_kv);
    if (quant__out_send(o, head, sizeof head) != QUANT_OK) return o->err.code;
    if (quant__out_send(o, o->priv.kv.p, o->priv.kv.n) != QUANT_OK) return o->err.code;
    if (quant__out_send(o, o->priv.info.p, o->priv.info.n) != QUANT_OK) return o->err.code;
    if (quant__out_pad(o) != QUANT_OK) return o->err.code;
    quant__out_free_names(o);
    o->priv.state = QUANT__OUT_DATA;
    quant__out_next(o);
    return QUANT_OK;
}

QUANT_API quant_result quant_gguf_write(quant_gguf_out *o, const void *src, size_t n)
{
    const uint8_t *p = (const uint8_t *)src;
    if (quant__out_ready(o, QUANT__OUT_DATA) != QUANT_OK) return o->err.code;
    if (n > o->priv.rest)
        return quant__fail_size(&o->err, QUANT_E_ARG, o->written,
                                QUANT__TEXT("more data than the tensors have"), n, o->priv.rest);
    while (n) {
        size_t take = n < o->priv.left ? n : (size_t)o->priv.left;
        if (quant__out_send(o, p, take) != QUANT_OK) return o->err.code;
        p += take;
        n -= take;
        o->priv.rest -= take;
        o->priv.left -= take;
        if (o->priv.left) continue;
        if (quant__out_pad(o) != QUANT_OK) return o->err.code;
        o->priv.tensor++;
        quant__out_next(o);
    }
    return QUANT_OK;
}

QUANT_API quant_result quant_gguf_end(quant_gguf_out *o)
{
    quant_result r = quant__out_ready(o, QUANT__OUT_DATA);
    if (r == QUANT_OK && o->priv.rest)
        r = quant__fail(&o->err, QUANT_E_STATE, o->written,
                        QUANT__TEXT("bytes of the tensors are missing"));
    if (o->priv.state == QUANT__OUT_NAMES || o->priv.state == QUANT__OUT_DATA) {
        quant__out_free_names(o);
        quant__out_free(o, &o->priv.sizes);
    }
    o->priv.state = QUANT__OUT_ENDED;
    return r;
}
#endif /* QUANT_NO_GGUF_WRITE */

/* >>imatrix-impl ---------------------------------------------------------------------------------
 * Importance files.  Both forms are read twice by the same text: first with carve.base NULL, which
 * checks the structure and sums up the memory, then into the one allocation.  The second pass
 * checks all of it again and keeps within that memory: a mapped file may change under it.
 *
 * .dat, little-endian, no magic:  i32 entries
 *     per entry  i32 n, name [n], i32 calls, i32 values, f32 [values]     E[x^2] * calls
 *     optional   i32 chunks, i32 n, name of the dataset [n]
 * GGUF, general.type = "imatrix":  per weight tensor NAME two F32 tensors
 *     NAME.in_sum2 [cols x mats]  sums of squares       NAME.counts [1 x mats]  tokens */
#ifndef QUANT_NO_GGUF
typedef struct quant__importance {
    quant_imatrix  *m;
    quant__carve    carve;
    const uint8_t  *data;           /* .dat: the file ...                                       */
    uint64_t        size, at;       /* ... and the reading position                             */
    const quant_gguf *g;            /* GGUF, else NULL                                          */
    uint64_t        max_entries, max_string;
} quant__importance;

/* Fails at .dat position `at` and names an entry. */
QUANT__FN quant_result quant__importance_fail(quant__importance *s, quant_result code,
                                              quant_str name, uint64_t at, const char *what)
{
    quant__fail(&s->m->err, code, at, what);
    quant__fail_name(&s->m->err, name.p, name.n);
    return code;
}

/* Takes memory; in the second pass no more than the first one summed up. */
QUANT__FN void *quant__importance_take(quant__importance *s, uint64_t count, size_t size)
{
    void *p = quant__take(&s->carve, count, size);
    if (s->carve.base && s->carve.used > s->m->priv.heap_size) s->carve.overflow = 1;
    return s->carve.overflow ? NULL : p;
}

QUANT__FN quant_result quant__importance_changed(quant__importance *s)
{
    return quant__fail(&s->m->err, QUANT_E_FORMAT, s->at,
                       QUANT__TEXT("the file changed while it was read"));
}

/* Copies a string into the allocation. */
QUANT__FN quant_str quant__importance_str(quant__importance *s, const char *p, size_t n)
{
    quant_str r;
    char *dst = (char *)quant__importance_take(s, n, 1);
    if (dst && n) QUANT_MEMCPY(dst, p, n);
    r.p = dst;
    r.n = n;
    return r;
}

/* Begins a pass: forgets what the one before found, takes the entries and their index. */
QUANT__FN void quant__importance_tables(quant__importance *s, size_t n)
{
    quant_imatrix *m = s->m;
    QUANT_MEMSET(&m->dataset, 0, sizeof m->dataset);
    m->n_chunks = 0;
    m->n_entries = n;
    m->priv.n_slots = quant__name_slots(n);
    m->entries = (quant_imatrix_entry *)quant__importance_take(s, n, sizeof *m->entries);
    m->priv.slots = (uint32_t *)quant__importance_take(s, m->priv.n_slots, sizeof(uint32_t));
    if (m->priv.slots) QUANT_MEMSET(m->priv.slots, 0, m->priv.n_slots * sizeof(uint32_t));
}

/* Puts entry i, whose values are set, into the index. */
QUANT__FN quant_result quant__importance_add(quant__importance *s, size_t i, uint64_t at)
{
    quant_imatrix *m = s->m;
    int bad = quant__name_add(m->priv.slots, m->priv.n_slots, m->entries, sizeof *m->entries, i);
    if (bad == 1)
        return quant__importance_fail(s, QUANT_E_FORMAT, m->entries[i].name, at,
                                      QUANT__TEXT("the entry is there twice"));
    if (bad)
        return quant__importance_fail(s, QUANT_E_LIMIT, m->entries[i].name, at,
                                      QUANT__TEXT("too many names share a hash"));
    return QUANT_OK;
}

/* From little-endian bytes to means, in place; count 0 leaves sums as they are.  Returns the index
 * of the first value that is no importance (not finite or negative), or n. */
QUANT__FN uint64_t quant__importance_means(float *v, uint64_t n, float count)
{
    uint64_t i;
    for (i = 0; i < n; i++) {
        uint8_t b[4];
        float x;
        QUANT_MEMCPY(b, v + (size_t)i, 4);
        x = quant__float(quant__le32(b));
        if (!quant__finite(x) || x < 0) return i;
        if (count > 0) x /= count;
        if (!quant__finite(x)) return i;                /* a count far below 1                   */
        v[(size_t)i] = x;
    }
    return n;
}

QUANT__FN quant_result quant__dat_i32(quant__importance *s, quant_str name, int32_t *v)
{
    if (s->size - s->at < 4) {
        quant__importance_fail(s, QUANT_E_SHORT, name, s->at, QUANT__TEXT("the file is too short"));
        s->m->err.need = s->at + 4;
        s->m->err.have = s->size;
        return QUANT_E_SHORT;
    }
    *v = (int32_t)quant__le32(s->data + (size_t)s->at);
    s->at += 4;
    return QUANT_OK;
}

/* A length: i32 from min to max, with `unit` bytes behind it for each. */
QUANT__FN quant_result quant__dat_length(quant__importance *s, quant_str name, int32_t min,
                                         uint64_t max, uint64_t unit, uint64_t *n)
{
    int32_t v;
    uint64_t at = s->at;
    quant_result r = quant__dat_i32(s, name, &v);
    if (r != QUANT_OK) return r;
    if (v < min)
        return quant__importance_fail(s, QUANT_E_FORMAT, name, at,
                                      QUANT__TEXT("not an importance file: a length of 0 or "
                                                  "below"));
    *n = (uint64_t)v;                                   /* below 2^31, so n unit fits            */
    if (*n > max)
        return quant__fail_size(&s->m->err, QUANT_E_LIMIT, at,
                                QUANT__TEXT("a length is over the limit, or this is no "
                                            "importance file"), *n, max);
    if (*n * unit <= s->size - s->at) return QUANT_OK;
    quant__importance_fail(s, QUANT_E_SHORT, name, at, QUANT__TEXT("the file is too short"));
    s->m->err.need = s->at + *n * unit;
    s->m->err.have = s->size;
    return QUANT_E_SHORT;
}

/* Entry i of a .dat file. */
QUANT__FN quant_result quant__dat_entry(quant__importance *s, size_t i)
{
    quant_imatrix_entry e;
    quant_str none = { NULL, 0 }, name;
    uint64_t start = s->at, n, k;
    int32_t calls;
    float *values;
    quant_result r = quant__dat_length(s, none, 1, s->max_string, 1, &n);
    if (r != QUANT_OK) return r;
    name.p = (const char *)s->data + (size_t)s->at;
    name.n = (size_t)n;
    for (k = 0; k < n; k++)
        if (!name.p[(size_t)k])
            return quant__importance_fail(s, QUANT_E_FORMAT, name, start,
                                          QUANT__TEXT("the name contains a zero byte"));
    s->at += n;
    r = quant__dat_i32(s, name, &calls);
    if (r != QUANT_OK) return r;
    if (calls < 0)
        return quant__importance_fail(s, QUANT_E_FORMAT, name, s->at - 4,
                                      QUANT__TEXT("the number of calls is negative"));
    r = quant__dat_length(s, name, 1, INT32_MAX, 4, &n);
    if (r != QUANT_OK) return r;
    e.name = quant__importance_str(s, name.p, name.n);
    e.values = values = (float *)quant__importance_take(s, n, sizeof(float));
    e.size = n;
    e.mats = 1;
    e.empty = 0;
    if (s->carve.base) {
        if (s->carve.overflow) return quant__importance_changed(s);
        QUANT_MEMCPY(values, s->data + (size_t)s->at, (size_t)n * 4);
        k = quant__importance_means(values, n, (float)calls);
        if (k < n)
            return quant__importance_fail(s, QUANT_E_NUMERIC, name, s->at + 4 * k,
                                          QUANT__TEXT("a value is not finite or is negative"));
        /* never called: without this, all weights of the matrix would count nothing */
        for (k = 0; calls == 0 && k < n && values[(size_t)k] == 0; k++) {}
        if (calls == 0 && k == n) {
            e.empty = 1;
            for (k = 0; k < n; k++) values[(size_t)k] = 1;
        }
        s->m->entries[i] = e;
        r = quant__importance_add(s, i, start);
    }
    s->at += n * 4;
    return r;
}

QUANT__FN quant_result quant__dat_read(quant__importance *s)
{
    quant_str none = { NULL, 0 };
    int32_t chunks;
    uint64_t n;
    size_t i;
    quant_result r;
    s->at = 0;
    r = quant__dat_length(s, none, 1, s->max_entries, 17, &n);  /* 17: the shortest entry        */
    if (r != QUANT_OK) return r;
    quant__importance_tables(s, (size_t)n);
    for (i = 0; i < n; i++) {
        r = quant__dat_entry(s, i);
        if (r != QUANT_OK) return r;
    }
    if (s->at == s->size) return QUANT_OK;              /* files before 2024-03 end here         */
    r = quant__dat_i32(s, none, &chunks);
    if (r != QUANT_OK) return r;
    if (chunks < 0)
        return quant__fail(&s->m->err, QUANT_E_FORMAT, s->at - 4,
                           QUANT__TEXT("the number of chunks is negative"));
    s->m->n_chunks = (uint64_t)chunks;
    if (s->at == s->size) return QUANT_OK;
    r = quant__dat_length(s, none, 0, s->max_string, 1, &n);
    if (r != QUANT_OK) return r;
    s->m->dataset = quant__importance_str(s, (const char *)s->data + (size_t)s->at, (size_t)n);
    if (s->carve.base && s->carve.overflow) return quant__importance_changed(s);
    return QUANT_OK;
}

/* 1 if the tensor is called NAME + suffix; its NAME. */
QUANT__FN int quant__importance_base(const quant_tensor *t, const char *suffix, quant_str *base)
{
    size_t n = quant__strlen(suffix);
    base->p = t->name.p;
    base->n = 0;
    if (t->name.n < n || QUANT_MEMCMP(t->name.p + (t->name.n - n), suffix, n) != 0) return 0;
    base->n = t->name.n - n;
    return 1;
}

/* The other tensor of a pair, or NULL: it has no such name or is not of F32. */
QUANT__FN const quant_tensor *quant__importance_partner(const quant_gguf *g, quant_str base,
                                                        const char *suffix)
{
    char name[80];
    const quant_tensor *t;
    size_t n = quant__strlen(suffix);
    if (base.n > sizeof name - 1 - n) return NULL;
    QUANT_MEMCPY(name, base.p, base.n);
    QUANT_MEMCPY(name + base.n, suffix, n + 1);
    t = quant_gguf_find_tensor(g, name);
    return t && t->type == QUANT_F32 ? t : NULL;
}

/* Reads entry i's matrices: sums of squares, divided by the tokens that each matrix saw. */
QUANT__FN quant_result quant__importance_fill(quant__importance *s, quant_imatrix_entry *e,
                                              float *values, const quant_tensor *sums,
                                              const quant_tensor *counts)
{
    uint64_t cols = sums->ne[0], mat, k;
    for (mat = 0; mat < e->mats; mat++) {
        float *v = values + (size_t)(mat * cols), count;
        quant_result r = quant_gguf_read(s->g, counts, &count, mat * 4, 4);
        if (r == QUANT_OK)
            r = quant_gguf_read(s->g, sums, v, mat * cols * 4, (size_t)cols * 4);
        if (r != QUANT_OK)
            return quant__importance_fail(s, r, e->name, sums->offset,
                                          QUANT__TEXT("the values cannot be read"));
        if (quant__importance_means(&count, 1, 0) == 0)
            return quant__importance_fail(s, QUANT_E_NUMERIC, e->name, counts->offset + mat * 4,
                                          QUANT__TEXT("a count is not finite or is negative"));
        k = quant__importance_means(v, cols, count);
        if (k < cols)
            return quant__importance_fail(s, QUANT_E_NUMERIC, e->name,
                                          sums->offset + (mat * cols + k) * 4,
                                          QUANT__TEXT("a value is not finite or is negative"));
        if (count > 0) continue;
        e->empty++;
        for (k = 0; k < cols; k++) v[(size_t)k] = 1;
    }
    return QUANT_OK;
}

/* Entry i: the tensor `sums` and its counts. */
QUANT__FN quant_result quant__importance_pair(quant__importance *s, size_t i, quant_str base,
                                              const quant_tensor *sums)
{
    const quant_tensor *counts = quant__importance_partner(s->g, base, ".counts");
    quant_imatrix_entry e;
    quant_result r;
    float *values;
    uint64_t mats, have, d;
    if (!base.n)
        return quant__importance_fail(s, QUANT_E_FORMAT, sums->name, sums->offset,
                                      QUANT__TEXT("the name of a weight tensor is empty"));
    if (sums->type != QUANT_F32)
        return quant__importance_fail(s, QUANT_E_FORMAT, sums->name, sums->offset,
                                      QUANT__TEXT("the tensor is not of F32"));
    if (!counts)
        return quant__importance_fail(s, QUANT_E_FORMAT, sums->name, sums->offset,
                                      QUANT__TEXT("no F32 tensor .counts belongs to it"));
    mats = sums->size / 4 / sums->ne[0];                /* the reader checked size and ne        */
    have = 1;
    for (d = 0; d < 4; d++) if (quant__mul64(&have, have, counts->ne[d])) have = 0;
    if (have != mats)
        return quant__importance_fail(s, QUANT_E_FORMAT, counts->name, counts->offset,
                                      QUANT__TEXT("not one count for each matrix"));
    e.name = quant__importance_str(s, base.p, base.n);
    e.size = sums->size / 4;
    e.mats = mats;
    e.empty = 0;
    e.values = values = (float *)quant__importance_take(s, e.size, sizeof(float));
    if (!s->carve.base) return QUANT_OK;
    if (s->carve.overflow || i >= s->m->n_entries) return quant__importance_changed(s);
    r = quant__importance_fill(s, &e, values, sums, counts);
    if (r != QUANT_OK) return r;
    s->m->entries[i] = e;
    return quant__importance_add(s, i, sums->offset);
}

QUANT__FN quant_result quant__importance_gguf(quant__importance *s)
{
    const quant_gguf *g = s->g;
    quant_str str, base;
    size_t i, n = 0;
    quant_result r;
    if (quant_gguf_get_str(g, "general.type", &str) != QUANT_OK || !quant__same(str, "imatrix", 7))
        return quant__fail(&s->m->err, QUANT_E_FORMAT, 0,
                           QUANT__TEXT("not an importance file: general.type is not imatrix"));
    for (i = 0; i < g->n_tensors; i++)
        n += (size_t)quant__importance_base(&g->tensors[i], ".in_sum2", &base);
    if (!n) return quant__fail(&s->m->err, QUANT_E_FORMAT, 0, QUANT__TEXT("no tensor .in_sum2"));
    quant__importance_tables(s, n);
    if (quant_kv_str(quant_gguf_find(g, "imatrix.datasets"), 0, NULL, &str) == QUANT_OK)
        s->m->dataset = quant__importance_str(s, str.p, str.n);
    (void)quant_gguf_get_u64(g, "imatrix.chunk_count", &s->m->n_chunks);    /* else it stays 0   */
    for (i = n = 0; i < g->n_tensors; i++) {
        const quant_tensor *t = &g->tensors[i];
        if (quant__importance_base(t, ".counts", &base)
            && !quant__importance_partner(g, base, ".in_sum2"))
            return quant__importance_fail(s, QUANT_E_FORMAT, t->name, t->offset,
                                          QUANT__TEXT("no F32 tensor .in_sum2 belongs to it"));
        if (!quant__importance_base(t, ".in_sum2", &base)) continue;
        r = quant__importance_pair(s, n++, base, t);
        if (r != QUANT_OK) return r;
    }
    if (s->carve.base && (s->carve.overflow || n != s->m->n_entries))
        return quant__importance_changed(s);
    return QUANT_OK;
}

/* Both passes.  On failure m->err is set and the memory is left to quant_imatrix_close. */
QUANT__FN quant_result quant__importance_read(quant__importance *s)
{
    quant_imatrix *m = s->m;
    quant_result r = s->g ? quant__importance_gguf(s) : quant__dat_read(s);
    if (r != QUANT_OK) return r;
    if (s->carve.overflow)
        return quant__fail(&m->err, QUANT_E_MEMORY, 0, QUANT__TEXT("larger than the memory"));
    m->priv.heap_size = s->carve.used;
    m->priv.heap = m->priv.alloc.alloc(m->priv.alloc.user, m->priv.heap_size);
    if (!m->priv.heap) return quant__fail(&m->err, QUANT_E_MEMORY, 0, QUANT__TEXT("out of memory"));
    s->carve.base = (uint8_t *)m->priv.heap;
    s->carve.used = 0;
    return s->g ? quant__importance_gguf(s) : quant__dat_read(s);
}

QUANT_API quant_result quant_imatrix_open(quant_imatrix *m, const void *data, size_t size,
                                          const quant_alloc *a, const quant_limits *limits)
{
    quant__importance s;
    quant_gguf g;
    quant_result r;
    QUANT_MEMSET(m, 0, sizeof *m);
    QUANT_MEMSET(&s, 0, sizeof s);
    m->priv.alloc = quant__get_alloc(a);
    s.m = m;
    s.data = (const uint8_t *)data;
    s.size = size;
    s.max_entries = limits && limits->max_tensors ? limits->max_tensors : (uint64_t)1 << 20;
    s.max_string = limits && limits->max_string ? limits->max_string : (uint64_t)1 << 30;
    if (s.max_entries > 1u << 29) s.max_entries = 1u << 29;     /* quant__name_slots             */
    if (!data && size) return quant__fail(&m->err, QUANT_E_ARG, 0, QUANT__TEXT("no data"));
    if (size >= 4 && QUANT_MEMCMP(data, "GGUF", 4) == 0) {
        r = quant_gguf_open(&g, data, size, a, limits);
        s.g = &g;
        if (r == QUANT_OK) r = quant__importance_read(&s);
        else m->err = g.err;
        quant_gguf_close(&g);
    } else {
        r = quant__importance_read(&s);
    }
    if (r != QUANT_OK) {
        quant_error e = m->err;
        quant_imatrix_close(m);
        m->err = e;
    }
    return r;
}

QUANT_API void quant_imatrix_close(quant_imatrix *m)
{
    if (m->priv.heap) m->priv.alloc.free(m->priv.alloc.user, m->priv.heap, m->priv.heap_size);
    QUANT_MEMSET(m, 0, sizeof *m);
}

QUANT_API quant_result quant_imatrix_find(const quant_imatrix *m, const float **out,
                                          quant_str name, uint64_t cols, uint64_t mat,
                                          uint64_t mats)
{
    const quant_imatrix_entry *e;
    uint64_t size;
    size_t i;
    *out = NULL;
    if (mat >= mats) return QUANT_E_ARG;
    i = quant__name_find(m->priv.slots, m->priv.n_slots, m->entries, sizeof *m->entries, name.p,
                         name.n, NULL);
    if (i == QUANT__NONE) return QUANT_OK;
    e = &m->entries[i];
    /* the .dat form has all experts in one vector; else the matrices must be the same */
    if (quant__mul64(&size, cols, mats) || e->size != size || (e->mats != 1 && e->mats != mats))
        return QUANT_E_FORMAT;
    *out = e->values + (size_t)(mat * cols);
    return QUANT_OK;
}
#endif /* QUANT_NO_GGUF */

/* >>split-impl -----------------------------------------------------------------------------------
 * Models in several files. */
#ifndef QUANT_NO_GGUF
typedef struct quant__set_tensor {
    quant_str           name;       /* first member: the name index relies on it                */
    const quant_tensor *tensor;
    size_t              shard;
} quant__set_tensor;

enum { QUANT__SPLIT_TAIL = 20, QUANT__SPLIT_MAX = 65535 };      /* "-00001-of-00003.gguf"        */

QUANT__FN void quant__split_digits(char *p, uint32_t v)
{
    int i;
    for (i = 4; i >= 0; i--, v /= 10) p[i] = (char)('0' + v % 10);
}

QUANT_API size_t quant_split_name(char *buf, size_t size, const char *prefix, uint32_t no,
                                  uint32_t count)
{
    size_t n = quant__strlen(prefix);
    char *p = buf + n;
    if (no >= count || count > QUANT__SPLIT_MAX) return 0;
    if (size <= QUANT__SPLIT_TAIL || n > size - QUANT__SPLIT_TAIL - 1) return 0;
    QUANT_MEMCPY(buf, prefix, n);
    QUANT_MEMCPY(p, "-00000-of-00000.gguf", QUANT__SPLIT_TAIL + 1);
    quant__split_digits(p + 1, no + 1);
    quant__split_digits(p + 10, count);
    return n + QUANT__SPLIT_TAIL;
}

QUANT_API int quant_split_parse(const char *path, size_t *prefix_len, uint32_t *no,
                                uint32_t *count)
{
    size_t n = quant__strlen(path), i;
    uint32_t v[2] = { 0, 0 };
    const char *p;
    if (n < QUANT__SPLIT_TAIL) return 0;
    p = path + (n - QUANT__SPLIT_TAIL);
    if (p[0] != '-' || QUANT_MEMCMP(p + 6, "-of-", 4) != 0
        || QUANT_MEMCMP(p + 15, ".gguf", 5) != 0) return 0;
    for (i = 0; i < 10; i++) {
        char c = p[i < 5 ? 1 + i : 5 + i];
        if (c < '0' || c > '9') return 0;
        v[i / 5] = v[i / 5] * 10 + (uint32_t)(c - '0');
    }
    if (v[0] < 1 || v[0] > v[1] || v[1] > QUANT__SPLIT_MAX) return 0;
    if (prefix_len) *prefix_len = n - QUANT__SPLIT_TAIL;
    if (no) *no = v[0] - 1;
    if (count) *count = v[1];
    return 1;
}

/* Fails at shard i, with "shard 2 of 3" as the name. */
QUANT__FN quant_result quant__set_fail(quant_set *s, quant_result code, size_t i, uint64_t no,
                                       uint64_t count, const char *what)
{
    quant__line l;
    quant__fail(&s->err, code, i, what);
    l.p = s->err.name;
    l.size = sizeof s->err.name;
    l.n = 0;
    quant__line_text(&l, "shard ");
    quant__line_number(&l, no < UINT64_MAX ? no + 1 : no);
    quant__line_text(&l, " of ");
    quant__line_number(&l, count);
    l.p[l.n] = 0;
    return code;
}

/* Checks the split keys of shard i; total is the number of tensors in all given shards. */
QUANT__FN quant_result quant__set_check(quant_set *s, size_t i, uint64_t total)
{
    const quant_gguf *g = &s->shards[i];
    const char *what;
    uint64_t n = s->n_shards, no = 0, count = 1, tensors = total;
    quant_result r = quant_gguf_get_u64(g, "split.count", &count);
    if (r == QUANT_E_NOT_FOUND && n == 1) return QUANT_OK;
    what = QUANT__TEXT("split.count is missing or no number: not a part of a split model");
    if (r != QUANT_OK) return quant__set_fail(s, QUANT_E_FORMAT, i, i, n, what);
    what = QUANT__TEXT("split.no is missing or no number");
    r = quant_gguf_get_u64(g, "split.no", &no);
    if (r != QUANT_OK && (n > 1 || count > 1 || r != QUANT_E_NOT_FOUND))
        return quant__set_fail(s, QUANT_E_FORMAT, i, i, n, what);
    if (count != n) {
        what = QUANT__TEXT("split.count is not the number of shards given: give all shards of one "
                           "model");
        return quant__set_fail(s, QUANT_E_ARG, i, no, count, what);
    }
    if (no != i) {
        what = QUANT__TEXT("split.no is not its place: give the shards in order, each once");
        return quant__set_fail(s, QUANT_E_ARG, i, no, count, what);
    }
    r = quant_gguf_get_u64(g, "split.tensors.count", &tensors);
    if (r != QUANT_OK && r != QUANT_E_NOT_FOUND)
        return quant__set_fail(s, QUANT_E_FORMAT, i, no, count,
                               QUANT__TEXT("split.tensors.count is no number"));
    if (tensors != total)
        return quant__set_fail(s, QUANT_E_FORMAT, i, no, count,
                               QUANT__TEXT("split.tensors.count is not the number of tensors in "
                                           "the shards: they are of different models"));
    return QUANT_OK;
}

/* Lists all tensors and puts them into the index. */
QUANT__FN quant_result quant__set_fill(quant_set *s)
{
    size_t i, k, n = 0;
    for (i = 0; i < s->n_shards; i++) {
        for (k = 0; k < s->shards[i].n_tensors; k++, n++) {
            quant__set_tensor *t = &s->priv.tensors[n];
            int bad;
            t->tensor = &s->shards[i].tensors[k];
            t->name = t->tensor->name;
            t->shard = i;
            bad = quant__name_add(s->priv.slots, s->priv.n_slots, s->priv.tensors, sizeof *t, n);
            if (!bad) continue;
            quant__fail(&s->err, bad == 1 ? QUANT_E_FORMAT : QUANT_E_LIMIT, i,
                        bad == 1 ? QUANT__TEXT("the tensor is in the shards twice")
                                 : QUANT__TEXT("too many names share a hash"));
            quant__fail_name(&s->err, t->name.p, t->name.n);
            return s->err.code;
        }
    }
    return QUANT_OK;
}

/* Takes the list and the index. */
QUANT__FN void quant__set_carve(quant_set *s, quant__carve *c)
{
    s->priv.tensors = (quant__set_tensor *)quant__take(c, s->n_tensors, sizeof(quant__set_tensor));
    s->priv.slots = (uint32_t *)quant__take(c, s->priv.n_slots, sizeof(uint32_t));
}

/* The set, but for the clean-up after a failure. */
QUANT__FN quant_result quant__set_read(quant_set *s)
{
    quant__carve c = { NULL, 0, 0 };
    uint64_t total = 0;
    size_t i;
    for (i = 0; i < s->n_shards; i++)
        if (quant__add64(&total, total, s->shards[i].n_tensors) || total > 1u << 29)
            return quant__fail(&s->err, QUANT_E_LIMIT, i, QUANT__TEXT("too many tensors"));
    for (i = 0; i < s->n_shards; i++) {
        quant_result r = quant__set_check(s, i, total);
        if (r != QUANT_OK) return r;
    }
    s->n_tensors = (size_t)total;
    s->priv.n_slots = quant__name_slots(s->n_tensors);
    quant__set_carve(s, &c);
    if (!c.overflow) s->priv.heap = s->priv.alloc.alloc(s->priv.alloc.user, c.used);
    if (!s->priv.heap)
        return quant__fail(&s->err, QUANT_E_MEMORY, 0, QUANT__TEXT("out of memory"));
    s->priv.heap_size = c.used;
    c.base = (uint8_t *)s->priv.heap;
    c.used = 0;
    quant__set_carve(s, &c);
    QUANT_MEMSET(s->priv.slots, 0, s->priv.n_slots * sizeof(uint32_t));
    return quant__set_fill(s);
}

QUANT_API quant_result quant_set_init(quant_set *s, const quant_gguf *shards, size_t n_shards,
                                      const quant_alloc *a)
{
    quant_result r;
    QUANT_MEMSET(s, 0, sizeof *s);
    if (!shards || !n_shards)
        return quant__fail(&s->err, QUANT_E_ARG, 0, QUANT__TEXT("no shards"));
    s->shards = shards;
    s->n_shards = n_shards;
    s->priv.alloc = quant__get_alloc(a);
    r = quant__set_read(s);
    if (r != QUANT_OK) {
        quant_error e = s->err;
        quant_set_free(s);
        s->err = e;
    }
    return r;
}

QUANT_API void quant_set_free(quant_set *s)
{
    if (s->priv.heap) s->priv.alloc.free(s->priv.alloc.user, s->priv.heap, s->priv.heap_size);
    QUANT_MEMSET(s, 0, sizeof *s);
}

QUANT_API const quant_tensor *quant_set_tensor(const quant_set *s, size_t i, size_t *shard)
{
    if (i >= s->n_tensors) return NULL;
    if (shard) *shard = s->priv.tensors[i].shard;
    return s->priv.tensors[i].tensor;
}

QUANT_API const quant_tensor *quant_set_find(const quant_set *s, const char *name, size_t *shard)
{
    size_t i = quant__name_find(s->priv.slots, s->priv.n_slots, s->priv.tensors,
                                sizeof *s->priv.tensors, name, quant__strlen(name), NULL);
    return i == QUANT__NONE ? NULL : quant_set_tensor(s, i, shard);
}
#endif /* QUANT_NO_GGUF */

/* >>mix-impl ------------------------------------------------------------------------------------
 * The rules of llama.cpp's llama-quant.cpp.  Sets of mixes are bit masks over general.file_type,
 * which is below 64 for all of them. */
#ifndef QUANT_NO_GGUF
enum {
    QUANT__F32 = 0, QUANT__F16 = 1, QUANT__Q4_0 = 2, QUANT__Q4_1 = 3, QUANT__Q8_0 = 7,
    QUANT__Q5_0 = 8, QUANT__Q5_1 = 9, QUANT__Q2_K = 10, QUANT__Q3_K_S = 11, QUANT__Q3_K_M = 12,
    QUANT__Q3_K_L = 13, QUANT__Q4_K_S = 14, QUANT__Q4_K_M = 15, QUANT__Q5_K_S = 16,
    QUANT__Q5_K_M = 17, QUANT__Q6_K = 18, QUANT__IQ2_XXS = 19, QUANT__IQ2_XS = 20,
    QUANT__Q2_K_S = 21, QUANT__IQ3_XS = 22, QUANT__IQ3_XXS = 23, QUANT__IQ1_S = 24,
    QUANT__IQ4_NL = 25, QUANT__IQ3_S = 26, QUANT__IQ3_M = 27, QUANT__IQ2_S = 28,
    QUANT__IQ2_M = 29, QUANT__IQ4_XS = 30, QUANT__IQ1_M = 31, QUANT__BF16 = 32,
    QUANT__TQ1_0 = 36, QUANT__TQ2_0 = 37, QUANT__MXFP4_MOE = 38, QUANT__NVFP4 = 39,
    QUANT__Q1_0 = 40, QUANT__Q2_0 = 41
};

static const quant_mix_info quant__mixes[] = {
    { "F32", QUANT__F32, QUANT_F32 },             { "F16", QUANT__F16, QUANT_F16 },
    { "BF16", QUANT__BF16, QUANT_BF16 },          { "Q8_0", QUANT__Q8_0, QUANT_Q8_0 },
    { "Q6_K", QUANT__Q6_K, QUANT_Q6_K },          { "Q5_K_M", QUANT__Q5_K_M, QUANT_Q5_K },
    { "Q5_K_S", QUANT__Q5_K_S, QUANT_Q5_K },      { "Q5_1", QUANT__Q5_1, QUANT_Q5_1 },
    { "Q5_0", QUANT__Q5_0, QUANT_Q5_0 },          { "Q4_K_M", QUANT__Q4_K_M, QUANT_Q4_K },
    { "Q4_K_S", QUANT__Q4_K_S, QUANT_Q4_K },      { "Q4_1", QUANT__Q4_1, QUANT_Q4_1 },
    { "Q4_0", QUANT__Q4_0, QUANT_Q4_0 },          { "IQ4_NL", QUANT__IQ4_NL, QUANT_IQ4_NL },
    { "IQ4_XS", QUANT__IQ4_XS, QUANT_IQ4_XS },    { "MXFP4_MOE", QUANT__MXFP4_MOE, QUANT_MXFP4 },
    { "NVFP4", QUANT__NVFP4, QUANT_NVFP4 },       { "Q3_K_L", QUANT__Q3_K_L, QUANT_Q3_K },
    { "Q3_K_M", QUANT__Q3_K_M, QUANT_Q3_K },      { "Q3_K_S", QUANT__Q3_K_S, QUANT_Q3_K },
    { "IQ3_M", QUANT__IQ3_M, QUANT_IQ3_S },       { "IQ3_S", QUANT__IQ3_S, QUANT_IQ3_S },
    { "IQ3_XS", QUANT__IQ3_XS, QUANT_IQ3_S },     { "IQ3_XXS", QUANT__IQ3_XXS, QUANT_IQ3_XXS },
    { "Q2_K", QUANT__Q2_K, QUANT_Q2_K },          { "Q2_K_S", QUANT__Q2_K_S, QUANT_Q2_K },
    { "IQ2_M", QUANT__IQ2_M, QUANT_IQ2_S },       { "IQ2_S", QUANT__IQ2_S, QUANT_IQ2_XS },
    { "IQ2_XS", QUANT__IQ2_XS, QUANT_IQ2_XS },    { "IQ2_XXS", QUANT__IQ2_XXS, QUANT_IQ2_XXS },
    { "Q2_0", QUANT__Q2_0, QUANT_Q2_0 },          { "TQ2_0", QUANT__TQ2_0, QUANT_TQ2_0 },
    { "IQ1_M", QUANT__IQ1_M, QUANT_IQ1_M },       { "TQ1_0", QUANT__TQ1_0, QUANT_TQ1_0 },
    { "IQ1_S", QUANT__IQ1_S, QUANT_IQ1_S },       { "Q1_0", QUANT__Q1_0, QUANT_Q1_0 }
};
enum { QUANT__N_MIXES = sizeof quant__mixes / sizeof *quant__mixes };

QUANT_API const quant_mix_info *quant_mix_get(size_t i)
{
    return i < QUANT__N_MIXES ? &quant__mixes[i] : NULL;
}

QUANT_API int quant_mix_find(const char *name)
{
    static const char alias[3][2][8] = {    /* names without a size mean the middle one          */
        { "Q3_K", "Q3_K_M" }, { "Q4_K", "Q4_K_M" }, { "Q5_K", "Q5_K_M" }
    };
    size_t i;
    for (i = 0; i < 3; i++) if (quant__same_name(alias[i][0], name)) name = alias[i][1];
    for (i = 0; i < QUANT__N_MIXES; i++)
        if (quant__same_name(quant__mixes[i].name, name)) return (int)i;
    return -1;
}

/* 1 if `part` occurs in the name. */
QUANT__FN int quant__has(quant_str name, const char *part)
{
    size_t i, n = quant__strlen(part);
    for (i = 0; i + n <= name.n; i++) if (QUANT_MEMCMP(name.p + i, part, n) == 0) return 1;
    return 0;
}

QUANT__FN int quant__is(quant_str name, const char *text)
{
    return quant__same(name, text, quant__strlen(text));
}

/* The number after "blk.", -1 if the name has none or it is no sensible one. */
QUANT__FN int64_t quant__layer(quant_str name)
{
    int64_t v = 0;
    size_t i = 4;
    if (name.n < 5 || QUANT_MEMCMP(name.p, "blk.", 4) != 0) return -1;
    for (; i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && v < 1000000; i++)
        v = 10 * v + (name.p[i] - '0');
    return i > 4 && i < name.n && name.p[i] == '.' ? v : -1;
}

QUANT_API int quant_mix_before(quant_str a, quant_str b)
{
    int64_t la = quant__layer(a), lb = quant__layer(b);
    size_t n = a.n < b.n ? a.n : b.n;
    int c;
    if (la != lb) return la < lb;
    c = n ? QUANT_MEMCMP(a.p, b.p, n) : 0;
    return c ? c < 0 : a.n < b.n;
}

QUANT_API uint32_t quant_mix_kind(quant_str name)
{
    static const struct { const char *part; uint32_t kind; } rule[] = {
        { "attn_qkv.weight", QUANT_MIX_ATTN_V }, { "attn_kv_b.weight", QUANT_MIX_ATTN_V },
        { "attn_v.weight", QUANT_MIX_ATTN_V },   { "attn_k.weight", QUANT_MIX_ATTN_K },
        { "attn_q.weight", QUANT_MIX_ATTN_Q },   { "attn_output.weight", QUANT_MIX_ATTN_OUTPUT },
        { "ffn_up", QUANT_MIX_FFN_UP },          { "ffn_gate", QUANT_MIX_FFN_GATE },
        { "ffn_down", QUANT_MIX_FFN_DOWN }
    };
    size_t i;
    if (quant__is(name, "output.weight")) return QUANT_MIX_OUTPUT;
    if (quant__is(name, "token_embd.weight") || quant__is(name, "per_layer_token_embd.weight"))
        return QUANT_MIX_TOKEN_EMBD;
    for (i = 0; i < sizeof rule / sizeof *rule; i++)
        if (quant__has(name, rule[i].part)) return rule[i].kind;
    return QUANT_MIX_OTHER;
}

QUANT_API int quant_mix_quantizable(const quant_tensor *t)
{
    static const char *const keep[] = {     /* norms, routers, small and positional tensors      */
        "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel",
        "per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight",
        "indexer.q_proj.weight", "time_mix_first.weight", "time_mix_w0.weight",
        "time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight", "time_mix_v1.weight",
        "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
        "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight",
        ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd",
        ".patch_merger", "a.rvq.codebook", "mm.a.code_embd"
    };
    size_t i;
    if (t->ne[1] == 1 && t->ne[2] == 1 && t->ne[3] == 1) return 0;
    if (t->name.n < 6 || QUANT_MEMCMP(t->name.p + t->name.n - 6, "weight", 6) != 0) return 0;
    if (quant__is(t->name, "position_embd.weight") || quant__is(t->name, "token_types.weight"))
        return 0;
    for (i = 0; i < sizeof keep / sizeof *keep; i++)
        if (quant__has(t->name, keep[i])) return 0;
    return 1;
}

/* Metadata "<architecture><suffix>", first element; `otherwise` if there is no such number. */
QUANT__FN uint32_t quant__arch_u32(const quant_gguf *g, quant_str arch, const char *suffix,
                                   uint32_t otherwise)
{
    char key[128];
    uint64_t v;
    size_t n = quant__strlen(suffix);
    if (arch.n + n + 1 > sizeof key) return otherwise;
    QUANT_MEMCPY(key, arch.p, arch.n);
    QUANT_MEMCPY(key + arch.n, suffix, n + 1);
    if (quant_gguf_get_u64(g, key, &v) != QUANT_OK || v > 0x7fffffffu) return otherwise;
    return (uint32_t)v;
}

QUANT_API void quant_mix_model_init(quant_mix_model *m, const quant_set *s, int has_importance)
{
    quant_str arch;
    size_t i;
    QUANT_MEMSET(m, 0, sizeof *m);
    m->has_importance = has_importance != 0;
    m->tied = 1;
    for (i = 0; i < s->n_tensors; i++) {
        uint32_t kind = quant_mix_kind(quant_set_tensor(s, i, NULL)->name);
        m->n_attn_v += kind == QUANT_MIX_ATTN_V;
        if (kind == QUANT_MIX_OUTPUT) m->tied = 0;
    }
    if (!s->n_shards) return;
    if (quant_gguf_get_str(s->shards, "general.architecture", &arch) != QUANT_OK) return;
    m->n_layers = quant__arch_u32(s->shards, arch, ".block_count", 0);
    m->n_heads = quant__arch_u32(s->shards, arch, ".attention.head_count", 0);
    m->n_heads_kv = quant__arch_u32(s->shards, arch, ".attention.head_count_kv", m->n_heads);
    m->n_experts = quant__arch_u32(s->shards, arch, ".expert_count", 0);
    m->falcon = (uint32_t)quant__is(arch, "falcon");
    m->llama_70b = quant__is(arch, "llama") && m->n_layers == 80 && m->n_heads != m->n_heads_kv;
}

/* What one choice depends on. */
typedef struct quant__choice {
    uint32_t ft, kind;              /* file type of the mix; kind of the tensor                  */
    quant_type base;
    int gqa4, experts8, falcon, importance;
    int64_t i, n;                   /* layer, or number among its kind, and how many there are   */
} quant__choice;

#define QUANT__BIT(mix) ((uint64_t)1 << QUANT__##mix)
#define QUANT__IN(c, set) (((uint64_t)1 << (c)->ft & (set)) != 0)
#define QUANT__VERY_LOW (QUANT__BIT(IQ2_XXS) | QUANT__BIT(IQ2_XS) | QUANT__BIT(IQ2_S) \
                         | QUANT__BIT(IQ2_M) | QUANT__BIT(IQ1_S) | QUANT__BIT(IQ1_M))
#define QUANT__IQ2_SM (QUANT__BIT(IQ2_S) | QUANT__BIT(IQ2_M))

/* The layers that get more bits: the first and last eighth and every third between. */
QUANT__FN int quant__more(int64_t i, int64_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

QUANT__FN quant_type quant__mix_output(const quant__choice *c, uint64_t cols)
{
    if (QUANT__IN(c, QUANT__BIT(MXFP4_MOE)) || c->falcon) return QUANT_Q8_0;
    if (cols % quant__types[c->base].block_len) return QUANT_Q8_0;
    if (QUANT__IN(c, QUANT__VERY_LOW | QUANT__BIT(IQ3_XXS))) return QUANT_Q5_K;
    return c->base == QUANT_Q8_0 ? QUANT_Q8_0 : QUANT_Q6_K;
}

QUANT__FN quant_type quant__mix_token_embd(const quant__choice *c)
{
    if (QUANT__IN(c, QUANT__IQ2_SM | QUANT__BIT(IQ3_XXS))) return QUANT_IQ3_S;
    if (QUANT__IN(c, QUANT__VERY_LOW)) return QUANT_Q2_K;
    if (QUANT__IN(c, QUANT__BIT(TQ1_0) | QUANT__BIT(TQ2_0) | QUANT__BIT(Q2_0))) return QUANT_Q4_K;
    if (QUANT__IN(c, QUANT__BIT(NVFP4))) return QUANT_Q4_K;     /* ours: no tensor scale there   */
    return c->base;
}

QUANT__FN quant_type quant__mix_very_low(const quant__choice *c, uint32_t n_experts)
{
    quant_type better = QUANT__IN(c, QUANT__IQ2_SM) ? QUANT_IQ3_S : QUANT_Q2_K;
    switch (c->kind) {
        case QUANT_MIX_ATTN_V: return c->gqa4 || n_experts >= 4 ? QUANT_Q4_K : better;
        case QUANT_MIX_ATTN_K: return c->experts8 ? QUANT_Q4_K : c->base;
        case QUANT_MIX_FFN_DOWN: return c->i < c->n / 8 ? better : c->base;
        case QUANT_MIX_ATTN_OUTPUT:
            if (c->experts8) return QUANT_Q5_K;
            if (QUANT__IN(c, QUANT__BIT(IQ1_S) | QUANT__BIT(IQ1_M))) return QUANT_IQ2_XXS;
            return QUANT__IN(c, QUANT__IQ2_SM) ? QUANT_IQ3_S : c->base;
        default: return c->base;
    }
}

QUANT__FN quant_type quant__mix_attn_v(const quant__choice *c, int llama_70b)
{
    quant_type t = c->base;
    switch (c->ft) {
        case QUANT__Q2_K: t = c->gqa4 ? QUANT_Q4_K : QUANT_Q3_K; break;
        case QUANT__IQ3_XXS:
            t = c->gqa4 ? QUANT_Q4_K : c->importance ? QUANT_IQ3_XXS : QUANT_IQ3_S;
            break;
        case QUANT__Q2_K_S: case QUANT__IQ3_XS: case QUANT__IQ3_S:
            t = c->gqa4 ? QUANT_Q4_K : t;
            break;
        case QUANT__IQ3_M: t = QUANT_Q4_K; break;
        case QUANT__Q3_K_M: t = c->i < 2 ? QUANT_Q5_K : QUANT_Q4_K; break;
        case QUANT__Q3_K_L: t = QUANT_Q5_K; break;
        case QUANT__IQ4_NL: case QUANT__IQ4_XS: t = c->gqa4 ? QUANT_Q5_K : t; break;
        case QUANT__Q4_K_M: case QUANT__Q5_K_M:
            t = quant__more(c->i, c->n) ? QUANT_Q6_K : t;
            break;
        case QUANT__Q4_K_S: t = c->i < 4 ? QUANT_Q5_K : t; break;
        default: break;
    }
    if (llama_70b && (t == QUANT_Q3_K || t == QUANT_Q4_K)) t = QUANT_Q5_K;
    return c->experts8 ? QUANT_Q8_0 : t;
}

QUANT__FN quant_type quant__mix_ffn_down(const quant__choice *c)
{
    int first8 = c->i < c->n / 8, first16 = c->i < c->n / 16, more = quant__more(c->i, c->n);
    switch (c->ft) {
        case QUANT__Q2_K: return QUANT_Q3_K;
        case QUANT__Q2_K_S: return first8 ? QUANT_Q4_K : c->base;
        case QUANT__IQ3_XXS:
            return c->importance ? c->base : first8 ? QUANT_Q4_K : QUANT_Q3_K;
        case QUANT__Q3_K_M:
            return first16 ? QUANT_Q5_K : !c->falcon || more ? QUANT_Q4_K : QUANT_Q3_K;
        case QUANT__IQ3_M: return first8 || (c->experts8 && more) ? QUANT_Q4_K : c->base;
        case QUANT__Q3_K_L: return c->falcon ? QUANT_Q4_K : QUANT_Q5_K;
        case QUANT__Q4_K_M:
            if (!c->falcon) return more ? QUANT_Q6_K : c->base;
            return first16 ? QUANT_Q6_K : more ? QUANT_Q5_K : QUANT_Q4_K;
        case QUANT__Q5_K_M: return more ? QUANT_Q6_K : c->base;
        case QUANT__IQ4_NL: case QUANT__IQ4_XS:
            return first8 && !c->importance ? QUANT_Q5_K : c->base;
        case QUANT__Q4_K_S: return first8 && !c->falcon ? QUANT_Q5_K : c->base;
        case QUANT__Q4_0: return first8 && c->importance ? QUANT_Q4_1 : c->base;
        case QUANT__Q5_0: return first8 && c->importance ? QUANT_Q5_1 : c->base;
        default: return c->base;
    }
}

QUANT__FN quant_type quant__mix_attn_output(const quant__choice *c)
{
    uint64_t low = QUANT__BIT(Q2_K) | QUANT__BIT(IQ3_XS) | QUANT__BIT(IQ3_XXS) | QUANT__BIT(Q3_K_S)
                 | QUANT__BIT(Q3_K_M) | QUANT__BIT(IQ4_NL) | QUANT__BIT(IQ4_XS) | QUANT__BIT(Q4_K_S)
                 | QUANT__BIT(Q4_K_M) | QUANT__BIT(IQ3_S) | QUANT__BIT(IQ3_M);
    if (c->falcon) return QUANT__IN(c, QUANT__BIT(Q3_K_L)) ? QUANT_Q4_K : c->base;
    if (c->experts8) return QUANT__IN(c, low) ? QUANT_Q5_K : c->base;
    switch (c->ft) {
        case QUANT__Q2_K: return QUANT_Q3_K;
        case QUANT__IQ3_XXS: return QUANT_IQ3_S;
        case QUANT__Q3_K_M: case QUANT__IQ3_M: return QUANT_Q4_K;
        case QUANT__Q3_K_L: return QUANT_Q5_K;
        default: return c->base;
    }
}

QUANT_API quant_type quant_mix_choose(int mix, const quant_mix_model *m, const quant_tensor *t,
                                      uint32_t ordinal)
{
    quant__choice c;
    if (mix < 0 || mix >= (int)QUANT__N_MIXES) return QUANT_TYPE_COUNT;
    c.ft = quant__mixes[mix].file_type;
    c.base = quant__mixes[mix].base;
    if (!(quant__types[c.base].flags & QUANT_TF_QUANTIZED)) return c.base;
    c.kind = quant_mix_kind(t->name);
    c.gqa4 = m->n_heads_kv && m->n_heads / m->n_heads_kv >= 4;
    c.experts8 = m->n_experts == 8;
    c.falcon = m->falcon != 0;
    c.importance = m->has_importance != 0;
    c.i = ordinal;
    c.n = c.kind == QUANT_MIX_ATTN_V ? m->n_attn_v : m->n_layers;
    if (m->n_experts > 1 && c.kind >= QUANT_MIX_FFN_UP) {
        int64_t layer = quant__layer(t->name);  /* experts are not stored layer by layer         */
        if (layer >= 0) c.i = layer;
    }
    if (c.kind == QUANT_MIX_OUTPUT || (m->tied && c.kind == QUANT_MIX_TOKEN_EMBD))
        return quant__mix_output(&c, t->ne[0]);
    if (c.ft == QUANT__MXFP4_MOE) return t->ne[2] > 1 ? QUANT_MXFP4 : QUANT_Q8_0;
    if (c.kind == QUANT_MIX_TOKEN_EMBD) return quant__mix_token_embd(&c);
    if (QUANT__IN(&c, QUANT__VERY_LOW)) return quant__mix_very_low(&c, m->n_experts);
    switch (c.kind) {
        case QUANT_MIX_ATTN_V: return quant__mix_attn_v(&c, m->llama_70b != 0);
        case QUANT_MIX_ATTN_K: if (c.experts8) return QUANT_Q8_0; /* fall through */
        case QUANT_MIX_ATTN_Q:
            if (c.ft == QUANT__IQ3_XS) return QUANT_IQ3_XXS;
            return c.ft == QUANT__IQ3_XXS ? QUANT_IQ2_S : c.base;
        case QUANT_MIX_FFN_DOWN: return quant__mix_ffn_down(&c);
        case QUANT_MIX_ATTN_OUTPUT: return quant__mix_attn_output(&c);
        case QUANT_MIX_FFN_UP: case QUANT_MIX_FFN_GATE:
            if (c.ft == QUANT__IQ3_XS && c.i >= c.n / 8 && c.i < 7 * c.n / 8)
                return QUANT_IQ3_XXS;
            return c.base;
        default: return c.base;
    }
}

QUANT_API quant_type quant_mix_fallback(quant_type t, uint64_t cols)
{
    const quant_type_info *info = quant_type_get(t);
    quant_type f;
    if (!info || !info->block_len || cols % info->block_len == 0) return t;
    switch (t) {
        case QUANT_IQ1_S: case QUANT_IQ1_M: case QUANT_IQ2_XXS: case QUANT_IQ2_XS:
        case QUANT_IQ2_S: case QUANT_IQ3_XXS: case QUANT_IQ3_S: case QUANT_IQ4_XS:
        case QUANT_NVFP4: f = QUANT_IQ4_NL; break;
        case QUANT_Q2_K: case QUANT_Q3_K: case QUANT_TQ1_0: case QUANT_TQ2_0: case QUANT_Q2_0:
        case QUANT_Q1_0: f = QUANT_Q4_0; break;
        case QUANT_Q4_K: f = QUANT_Q5_0; break;
        case QUANT_Q5_K: f = QUANT_Q5_1; break;
        case QUANT_Q6_K: f = QUANT_Q8_0; break;
        default: f = QUANT_F16; break;
    }
    return cols % quant__types[f].block_len ? (quant_type)QUANT_F16 : f;
}

QUANT_API int quant_mix_needs_importance(int mix, quant_type t, quant_str name)
{
    uint32_t kind = quant_mix_kind(name);
    if (kind == QUANT_MIX_TOKEN_EMBD || kind == QUANT_MIX_OUTPUT) return 0;
    switch (t) {
        case QUANT_IQ3_XXS: case QUANT_IQ2_XXS: case QUANT_IQ2_XS: case QUANT_IQ2_S:
        case QUANT_IQ1_M: case QUANT_IQ1_S: return 1;
        case QUANT_Q2_K:
            return mix >= 0 && mix < (int)QUANT__N_MIXES
                && quant__mixes[mix].file_type == QUANT__Q2_K_S;
        default: return 0;
    }
}
#endif

#ifndef QUANT_NO_CALIBRATION
/* >>linalg-impl ---------------------------------------------------------------------------------
 * One blocked product does the work; factorization, inverse and GPTQ's updates are arranged around
 * it.  Operands are packed: A into strips of 8 rows, strip[k][8], B into panels of 48 columns,
 * panel[k][48], which a kernel (>>linalg-kernels) multiplies into a tile of 8 x 48.
 *
 *   loop over QUANT__LA_M rows of C and QUANT__LA_K of k: pack A (384 KiB, second-level cache)
 *       loop over 48 columns: pack B (72 KiB)
 *           loop over chunks of 128 k: its part of B is 24 KiB (first-level cache)
 *               loop over strips: C tile += sum over the chunk */
enum { QUANT__LA_R = 8, QUANT__LA_C = 48, QUANT__LA_CHUNK = 128, QUANT__LA_M = 256,
       QUANT__LA_K = 384 };
enum { QUANT__LA_SET, QUANT__LA_ADD, QUANT__LA_SUB };       /* what becomes of a sum             */

/* One for each instruction set, in >>linalg-kernels. */
typedef struct quant__la {
    /* c [8 x 48] = or += or -= sum over k of strip a [k][8] times panel b [k][48] */
    void (*tile)(float *c, size_t ldc, const float *a, const float *b, size_t k, int op);
    /* k <= 128 rows and n columns of src, element (t, j) at src[t * ks + j * js], into n / width
     * panels dst[k][width], filled up with zeros.  width is 8 or 48; ks or js is 1. */
    void (*pack)(float *dst, size_t width, const float *src, size_t ks, size_t js, size_t k,
                 size_t n);
    /* Solves L x = b in place for x [8][48]; l(i, j) = l[j * 8 + i]. */
    void (*solve)(float *x, const float *l);
} quant__la;

QUANT__FN const quant__la *quant__la_kernels_scalar(void);
#if QUANT__X86
QUANT__FN const quant__la *quant__la_kernels_avx2(void);
QUANT__FN const quant__la *quant__la_kernels_avx512(void);
#endif

/* Kernels and scratch of one thread. */
typedef struct quant__la_run {
    const quant__la *k;
    float *a, *b;                   /* packed operands                                           */
} quant__la_run;

QUANT_API size_t quant_linalg_scratch_size(void)
{
    return (QUANT__LA_M + QUANT__LA_C) * (size_t)QUANT__LA_K * sizeof(float) + 64;
}

QUANT__FN quant__la_run quant__la_begin(quant_cpu cpu, void *scratch)
{
    quant__la_run r;
    r.k = quant__la_kernels_scalar();
#if QUANT__X86
    if (cpu) cpu &= quant_cpu_detect();
    if (cpu & QUANT_CPU_AVX512VNNI) r.k = quant__la_kernels_avx512();
    else if (cpu & QUANT_CPU_AVX2) r.k = quant__la_kernels_avx2();
#else
    (void)cpu;
#endif
    r.a = (float *)scratch + (64 - (uintptr_t)scratch % 64) % 64 / sizeof(float);
    r.b = r.a + QUANT__LA_M * (size_t)QUANT__LA_K;
    return r;
}

/* a * b + c with one rounding.  The product is exact in double; the sum is rounded to odd there (a
 * last bit of 1 stands for everything below it), so that the rounding to float is the only one. */
QUANT__INLINE float quant__fma(float a, float b, float c)
{
#if defined(__FP_FAST_FMAF) && defined(__OPTIMIZE__)
    return __builtin_fmaf(a, b, c);
#else
    double p = (double)a * b, d = c, s = p + d, t = s - p;
    double rest = (p - (s - t)) + (d - t);      /* s + rest is the exact sum; NaN beside infinity */
    uint64_t u;
    if (rest > 0 || rest < 0) {
        QUANT_MEMCPY(&u, &s, 8);
        if (!(u & 1)) u += (rest > 0) == (s > 0) ? 1u : ~(uint64_t)0;
        QUANT_MEMCPY(&s, &u, 8);
    }
    return (float)s;
#endif
}

/* A view of a matrix for packing: element (i, k) at p[i * rs + k * ks]. */
typedef struct quant__la_view { const float *p; size_t rs, ks; } quant__la_view;

QUANT__INLINE quant__la_view quant__la_at(const float *p, size_t rs, size_t ks)
{
    quant__la_view v;
    v.p = p;
    v.rs = rs;
    v.ks = ks;
    return v;
}

/* What a product writes.  (i, j) of C is left alone where j > i + low. */
typedef struct quant__la_out {
    float *c;
    size_t ld, low;                 /* low: QUANT__LA_ALL for all of C                           */
    int    op;                      /* QUANT__LA_*                                               */
    int    tri;                     /* B(k, j) counts as zero where j > k                        */
} quant__la_out;
#define QUANT__LA_ALL ((size_t)-1 / 2)

/* One tile, cut to m x n and to the triangle. */
QUANT__FN void quant__la_tile(const quant__la *f, const quant__la_out *o, size_t i, size_t j,
                              size_t m, size_t n, const float *a, const float *b, size_t k, int op)
{
    float sum[QUANT__LA_R * QUANT__LA_C], *c = o->c + i * o->ld + j;
    size_t r, l, to;
    if (m >= QUANT__LA_R && n >= QUANT__LA_C && j + QUANT__LA_C - 1 <= i + o->low) {
        f->tile(c, o->ld, a, b, k, op);
        return;
    }
    f->tile(sum, QUANT__LA_C, a, b, k, QUANT__LA_SET);
    for (r = 0; r < m && r < QUANT__LA_R; r++) {
        const float *s = sum + r * QUANT__LA_C;
        float *cr = c + r * o->ld;
        to = n < QUANT__LA_C ? n : QUANT__LA_C;
        if (j > i + r + o->low) continue;
        if (to > i + r + o->low - j + 1) to = i + r + o->low - j + 1;
        if (op == QUANT__LA_SET) for (l = 0; l < to; l++) cr[l] = s[l];
        else if (op == QUANT__LA_ADD) for (l = 0; l < to; l++) cr[l] += s[l];
        else for (l = 0; l < to; l++) cr[l] -= s[l];
    }
}

/* A panel of B, k up to QUANT__LA_K in chunks; tri: zeros where j0 + j > k. */
QUANT__FN void quant__la_pack_b(const quant__la_run *run, quant__la_view b, size_t j0, size_t n,
                                size_t k, int tri)
{
    size_t k0, t, j;
    for (k0 = 0; k0 < k; k0 += QUANT__LA_CHUNK) {
        size_t part = k - k0 < QUANT__LA_CHUNK ? k - k0 : QUANT__LA_CHUNK;
        float *p = run->b + k0 * QUANT__LA_C;
        run->k->pack(p, QUANT__LA_C, b.p + k0 * b.ks + j0 * b.rs, b.ks, b.rs, part,
                     n < QUANT__LA_C ? n : QUANT__LA_C);
        for (t = 0; tri && t < part; t++)
            for (j = k0 + t < j0 ? 0 : k0 + t - j0 + 1; j < QUANT__LA_C; j++)
                p[t * QUANT__LA_C + j] = 0;
    }
}

/* C [m x n] = or += or -= A B, A(i, k) and B(k, j) being a's (i, k) and b's (j, k). */
QUANT__FN void quant__la_product(const quant__la_run *run, const quant__la_out *o,
                                 quant__la_view a, quant__la_view b, size_t m, size_t n, size_t k)
{
    enum { R = QUANT__LA_R, C = QUANT__LA_C, M = QUANT__LA_M, K = QUANT__LA_K,
           CHUNK = QUANT__LA_CHUNK };
    size_t i0, k0, kc, j, i;
    for (i0 = 0; i0 < m; i0 += M) {
        size_t mc = m - i0 < M ? m - i0 : M;
        for (k0 = 0; k0 < k; k0 += K) {
            size_t kk = k - k0 < K ? k - k0 : K;
            for (kc = 0; kc < kk; kc += CHUNK)
                run->k->pack(run->a + kc * M, R, a.p + i0 * a.rs + (k0 + kc) * a.ks, a.ks, a.rs,
                             kk - kc < CHUNK ? kk - kc : CHUNK, mc);
            for (j = 0; j < n && j <= i0 + mc - 1 + o->low; j += C) {
                size_t first = o->tri ? j / CHUNK * CHUNK : 0;
                quant__la_pack_b(run, quant__la_at(b.p + k0 * b.ks, b.rs, b.ks), j, n - j, kk,
                                 o->tri);
                for (kc = first; kc < kk; kc += CHUNK) {
                    size_t part = kk - kc < CHUNK ? kk - kc : CHUNK;
                    int op = o->op == QUANT__LA_SET && k0 + kc != first ? QUANT__LA_ADD : o->op;
                    for (i = 0; i < mc; i += R)
                        if (j <= i0 + i + R - 1 + o->low)
                            quant__la_tile(run->k, o, i0 + i, j, mc - i, n - j,
                                           run->a + kc * M + i * part, run->b + kc * C, part, op);
                }
            }
        }
    }
}

/* C [rows x n] = A [rows x k] B [k x n], or += or -= of it as op says. */
QUANT__FN void quant__la_multiply(const quant__la_run *run, int op, float *c, size_t ldc,
                                  const float *a, size_t lda, const float *b, size_t ldb,
                                  size_t rows, size_t n, size_t k)
{
    quant__la_out o;
    o.c = c;
    o.ld = ldc;
    o.low = QUANT__LA_ALL;
    o.op = op;
    o.tri = 0;
    quant__la_product(run, &o, quant__la_at(a, lda, 1), quant__la_at(b, 1, ldb), rows, n, k);
}

QUANT_API void quant_hessian_add(float *h, size_t ldh, const float *x, size_t ldx, size_t tokens,
                                 size_t cols, size_t row0, size_t row1, quant_cpu cpu,
                                 void *scratch)
{
    quant__la_run run = quant__la_begin(cpu, scratch);
    quant__la_out o;
    QUANT_ASSERT(row0 <= row1 && row1 <= cols);
    if (row0 >= row1) return;
    o.c = h + row0 * ldh;
    o.ld = ldh;
    o.low = row0;
    o.op = QUANT__LA_ADD;
    o.tri = 0;
    quant__la_product(&run, &o, quant__la_at(x + row0, 1, ldx), quant__la_at(x, 1, ldx),
                      row1 - row0, row1 < cols ? row1 : cols, tokens);
}

QUANT_API void quant_cross_add(float *c, size_t ldc, const float *x, size_t ldx, const float *y,
                               size_t ldy, size_t tokens, size_t cols, size_t row0, size_t row1,
                               quant_cpu cpu, void *scratch)
{
    quant__la_run run = quant__la_begin(cpu, scratch);
    quant__la_out o;
    QUANT_ASSERT(row0 <= row1 && row1 <= cols);
    if (row0 >= row1) return;
    o.c = c + row0 * ldc;
    o.ld = ldc;
    o.low = QUANT__LA_ALL;
    o.op = QUANT__LA_ADD;
    o.tri = 0;
    quant__la_product(&run, &o, quant__la_at(x + row0, 1, ldx), quant__la_at(y, 1, ldy),
                      row1 - row0, cols, tokens);
}

QUANT_API size_t quant_triangle_split(size_t n, size_t part, size_t parts)
{
    float share;
    size_t row;
    if (part >= parts) return n;
    share = quant__sqrt((float)part / (float)parts);
    row = (size_t)((float)n * share) / QUANT__LA_R * QUANT__LA_R;
    return row < n ? row : n;
}

QUANT_API void quant_triangle_pack(float *dst, const float *h, size_t ldh, size_t n)
{
    size_t i;
    for (i = 0; i < n; dst += ++i) QUANT_MEMCPY(dst, h + i * ldh, (i + 1) * sizeof *dst);
}

QUANT_API void quant_triangle_add(float *h, size_t ldh, const float *src, size_t n)
{
    size_t i, j;
    for (i = 0; i < n; src += ++i)
        for (j = 0; j <= i; j++) h[i * ldh + j] += src[j];
}

/* sqrt in double for x > 0 that fits a float: the float's root, then Newton's step twice. */
QUANT__FN double quant__sqrt_double(double x)
{
    double s = quant__sqrt((float)x);
    if (!(s > 0)) return 0;
    s = 0.5 * (s + x / s);
    return 0.5 * (s + x / s);
}

/* The block of n <= 128 on the diagonal at column `at` of the matrix, in double.  Fails with the
 * column in *bad.  What was subtracted from the diagonal so far is found again in row i of L. */
QUANT__FN int quant__la_factor_block(const quant__la_run *run, float *a, size_t n, size_t lda,
                                     size_t at, size_t *bad)
{
    double *d = (double *)(void *)run->a, column[QUANT__LA_CHUNK];
    size_t i, j, k;
    for (i = 0; i < n; i++)
        for (j = 0; j <= i; j++) d[i * n + j] = a[i * lda + j];
    for (j = 0; j < n; j++) {
        const float *row = a + j * lda - at;        /* from column 0 of the matrix on            */
        double pivot = d[j * n + j], whole = pivot, root;
        for (k = 0; k < at + j; k++) whole += (double)row[k] * row[k];
        root = pivot > whole * 9.5367431640625e-7 && pivot < 3e38 ? quant__sqrt_double(pivot) : 0;
        if (!(root > 0)) { *bad = at + j; return 0; }
        for (i = j; i < n; i++) {
            column[i] = i == j ? root : d[i * n + j] / root;
            a[i * lda + j] = (float)column[i];
        }
        for (i = j + 1; i < n; i++)
            for (k = j + 1; k <= i; k++) d[i * n + k] -= column[i] * column[k];
    }
    return 1;
}

/* Strips of the lower triangle l [n x n], n <= 128, for quant__la_solve. */
QUANT__FN float *quant__la_pack_triangle(const quant__la_run *run, const float *l, size_t ldl,
                                         size_t n)
{
    size_t i, fill = (QUANT__LA_R - n % QUANT__LA_R) % QUANT__LA_R;
    float *last = run->a + n / QUANT__LA_R * QUANT__LA_R * n;   /* the last, partly filled strip */
    run->k->pack(run->a, QUANT__LA_R, l, 1, ldl, n, n);
    QUANT_MEMSET(last + n * QUANT__LA_R, 0, fill * QUANT__LA_R * sizeof *last);
    for (i = n; i < n + fill; i++) last[i * QUANT__LA_R + i % QUANT__LA_R] = 1;
    return run->a;
}

/* Panel x [n][48] := L^-1 x, in place, from packed strips of L.  x has room for n rounded up to a
 * multiple of 8, and so have the strips. */
QUANT__FN void quant__la_solve(const quant__la_run *run, float *x, const float *strips, size_t n)
{
    size_t i;
    QUANT_MEMSET(x + n * QUANT__LA_C, 0, (8 - n % 8) % 8 * QUANT__LA_C * sizeof *x);
    for (i = 0; i < n; i += QUANT__LA_R) {
        const float *l = strips + i * n;
        if (i) run->k->tile(x + i * QUANT__LA_C, QUANT__LA_C, l, x, i, QUANT__LA_SUB);
        run->k->solve(x + i * QUANT__LA_C, l + i * QUANT__LA_R);
    }
}

/* X := X L^-T for X [m x n], L [n x n] lower. */
QUANT__FN void quant__la_solve_right(const quant__la_run *run, float *x, size_t ldx,
                                     const float *l, size_t ldl, size_t m, size_t n)
{
    size_t half = (n / 2 + QUANT__LA_CHUNK - 1) / QUANT__LA_CHUNK * QUANT__LA_CHUNK, i, r, c;
    quant__la_out o;
    const float *strips;
    if (n > QUANT__LA_CHUNK) {
        quant__la_solve_right(run, x, ldx, l, ldl, m, half);
        o.c = x + half;
        o.ld = ldx;
        o.low = QUANT__LA_ALL;
        o.op = QUANT__LA_SUB;
        o.tri = 0;
        quant__la_product(run, &o, quant__la_at(x, ldx, 1), quant__la_at(l + half * ldl, ldl, 1),
                          m, n - half, half);
        quant__la_solve_right(run, x + half, ldx, l + half * ldl + half, ldl, m, n - half);
        return;
    }
    strips = quant__la_pack_triangle(run, l, ldl, n);
    for (i = 0; i < m; i += QUANT__LA_C) {
        size_t rows = m - i < QUANT__LA_C ? m - i : QUANT__LA_C;
        float *turned = run->a + QUANT__LA_M * QUANT__LA_CHUNK;     /* behind the strips         */
        run->k->pack(run->b, QUANT__LA_C, x + i * ldx, 1, ldx, n, rows);
        quant__la_solve(run, run->b, strips, n);
        run->k->pack(turned, QUANT__LA_C, run->b, 1, QUANT__LA_C, QUANT__LA_C, n);
        for (r = 0; r < rows; r++)                  /* turned: [n / 48] panels [48][48]          */
            for (c = 0; c < n; c += QUANT__LA_C)
                QUANT_MEMCPY(x + (i + r) * ldx + c,
                             turned + c * QUANT__LA_C + r * QUANT__LA_C,
                             (n - c < QUANT__LA_C ? n - c : QUANT__LA_C) * sizeof *x);
    }
}

QUANT__FN int quant__la_cholesky(const quant__la_run *run, float *a, size_t n, size_t lda,
                                 size_t at, size_t *bad)
{
    size_t half = (n / 2 + QUANT__LA_CHUNK - 1) / QUANT__LA_CHUNK * QUANT__LA_CHUNK;
    float *below = a + half * lda;
    quant__la_out o;
    if (n <= QUANT__LA_CHUNK) return quant__la_factor_block(run, a, n, lda, at, bad);
    if (!quant__la_cholesky(run, a, half, lda, at, bad)) return 0;
    quant__la_solve_right(run, below, lda, a, lda, n - half, half);
    o.c = below + half;
    o.ld = lda;
    o.low = 0;
    o.op = QUANT__LA_SUB;
    o.tri = 0;
    quant__la_product(run, &o, quant__la_at(below, lda, 1), quant__la_at(below, lda, 1),
                      n - half, n - half, half);
    return quant__la_cholesky(run, below + half, n - half, lda, at + half, bad);
}

QUANT_API quant_result quant_cholesky(float *a, size_t n, size_t lda, quant_cpu cpu, void *scratch,
                                      quant_error *err)
{
    quant__la_run run = quant__la_begin(cpu, scratch);
    size_t bad = 0;
    if (n == 0 || quant__la_cholesky(&run, a, n, lda, 0, &bad)) return QUANT_OK;
    return quant__fail(err, QUANT_E_NUMERIC, bad,
                       QUANT__TEXT("the matrix is not positive definite at this column"));
}

/* The block of n <= 128 on the diagonal := its inverse, in double. */
QUANT__FN void quant__la_invert_block(const quant__la_run *run, float *l, size_t n, size_t ldl)
{
    double *d = (double *)(void *)run->a, row[QUANT__LA_CHUNK];
    size_t i, j, k;
    for (i = 0; i < n; i++) {
        double p = l[i * ldl + i];
        for (j = 0; j < i; j++) row[j] = 0;
        for (k = 0; k < i; k++) {
            double f = l[i * ldl + k];
            for (j = 0; j <= k; j++) row[j] += f * d[k * n + j];
        }
        for (j = 0; j < i; j++) d[i * n + j] = -row[j] / p;
        d[i * n + i] = 1 / p;
    }
    for (i = 0; i < n; i++)
        for (j = 0; j <= i; j++) l[i * ldl + j] = (float)d[i * n + j];
}

/* Rows j to j + n - 1 of the inverse, left of the diagonal block: -L_jj^-1 (L_j X), where X is the
 * inverse above and L_j [n x j] the rows as they are.  Columns are replaced from left to right:
 * those at c need L_j from c on only, and the part at c itself is packed before it is replaced. */
QUANT__FN void quant__la_invert_rows(const quant__la_run *run, float *l, size_t ldl, size_t j,
                                     size_t n)
{
    float *row = l + j * ldl;
    const float *strips;
    quant__la_out o;
    size_t c, r, i;
    o.ld = ldl;
    o.low = QUANT__LA_ALL;
    for (c = 0; c < j; c += QUANT__LA_K) {
        size_t width = j - c < QUANT__LA_K ? j - c : QUANT__LA_K, next = c + width;
        o.c = row + c;
        o.op = QUANT__LA_SET;
        o.tri = 1;
        quant__la_product(run, &o, quant__la_at(row + c, ldl, 1),
                          quant__la_at(l + c * ldl + c, 1, ldl), n, width, width);
        o.op = QUANT__LA_ADD;
        o.tri = 0;
        quant__la_product(run, &o, quant__la_at(row + next, ldl, 1),
                          quant__la_at(l + next * ldl + c, 1, ldl), n, width, j - next);
    }
    strips = quant__la_pack_triangle(run, row + j, ldl, n);
    for (c = 0; c < j; c += QUANT__LA_C) {
        size_t width = j - c < QUANT__LA_C ? j - c : QUANT__LA_C;
        run->k->pack(run->b, QUANT__LA_C, row + c, ldl, 1, n, width);
        quant__la_solve(run, run->b, strips, n);
        for (r = 0; r < n; r++)
            for (i = 0; i < width; i++) row[r * ldl + c + i] = -run->b[r * QUANT__LA_C + i];
    }
}

QUANT_API quant_result quant_triangular_inverse(float *l, size_t n, size_t lda, quant_cpu cpu,
                                                void *scratch, quant_error *err)
{
    quant__la_run run = quant__la_begin(cpu, scratch);
    size_t j;
    for (j = 0; j < n; j++)
        if (l[j * lda + j] == 0 || !quant__finite(l[j * lda + j]))
            return quant__fail(err, QUANT_E_NUMERIC, j,
                               QUANT__TEXT("an element of the diagonal is zero or not finite"));
    for (j = 0; j < n; j += QUANT__LA_CHUNK) {
        size_t width = n - j < QUANT__LA_CHUNK ? n - j : QUANT__LA_CHUNK;
        quant__la_invert_rows(&run, l, lda, j, width);
        quant__la_invert_block(&run, l + j * lda + j, width, lda);
    }
    return QUANT_OK;
}

QUANT_API void quant_triangle_mirror(float *a, size_t lda, size_t n)
{
    size_t i0, j0, i, j;
    for (i0 = 0; i0 < n; i0 += 32)              /* tiles of 32                                   */
        for (j0 = 0; j0 <= i0; j0 += 32)
            for (i = i0; i < i0 + 32 && i < n; i++)
                for (j = j0; j < j0 + 32 && j < i; j++) a[j * lda + i] = a[i * lda + j];
}

QUANT_API quant_result quant_inverse_factor(float *a, size_t n, size_t lda, float *diag,
                                            float *damp, quant_cpu cpu, void *scratch,
                                            quant_error *err)
{
    double sum = 0;
    float mean;
    quant_error e;
    size_t i, j;
    if (n == 0) return QUANT_OK;
    for (i = 0; i < n; i++) {
        diag[i] = a[i * lda + i];
        if (!(diag[i] >= 0) || !quant__finite(diag[i]))
            return quant__fail(err, QUANT_E_NUMERIC, i,
                               QUANT__TEXT("the diagonal is negative or not finite"));
        sum += diag[i];
    }
    mean = (float)(sum / (double)n);
    if (!(mean > 0) || !quant__finite(mean) || !(*damp >= 0))
        return quant__fail(err, QUANT_E_NUMERIC, 0, QUANT__TEXT("the diagonal or damp is bad"));
    quant_triangle_mirror(a, lda, n);       /* H stays above the diagonal until U replaces it    */
    for (;;) {
        for (i = 0; i < n; i++) {
            size_t from = n - 1 - i;
            for (j = 0; j < i; j++) a[i * lda + j] = a[from * lda + n - 1 - j];
            a[i * lda + i] = diag[from] + *damp * mean;
        }
        if (quant_cholesky(a, n, lda, cpu, scratch, &e) == QUANT_OK) break;
        if (*damp >= 1)
            return quant__fail(err, QUANT_E_NUMERIC, n - 1 - e.where,
                               QUANT__TEXT("not positive definite, even with damping"));
        *damp = *damp < 5e-5f ? 1e-4f : *damp * 2;
        if (*damp > 1) *damp = 1;
    }
    if (quant_triangular_inverse(a, n, lda, cpu, scratch, &e) != QUANT_OK)
        return quant__fail(err, QUANT_E_NUMERIC, n - 1 - e.where, e.what);
    for (i = 0; i < n; i++) {               /* U(i, j) = L^-1(n - 1 - i, n - 1 - j)              */
        const float *from = a + (n - 1 - i) * lda;
        for (j = i + 1; j < n; j++) a[i * lda + j] = from[n - 1 - j];
    }
    for (i = 0; i < n; i++) {
        float *x = a + i * lda + i, *y = a + (n - 1 - i) * lda + n - 1 - i, t = *x;
        if (i < n - 1 - i) { *x = *y; *y = t; }
        QUANT_MEMSET(a + i * lda, 0, i * sizeof *a);
    }
    return QUANT_OK;
}
#endif /* QUANT_NO_CALIBRATION */

#if !defined(QUANT_NO_ENCODE) && !defined(QUANT_NO_CALIBRATION)
/* >>gptq-impl -----------------------------------------------------------------------------------
 * Panels of 64 rows ("lanes"): what depends on neighbours in a row is written for all lanes at
 * once, arrays are [position][lane].  A lane never sees another one, so that any split into rows
 * gives the same bytes.  Products of panels with H or U keep rows: [lane][column]; four panels go
 * side by side, for one reading of H serves all. */
enum {
    QUANT__LANES = 64,
    QUANT__PANELS = 4,
    QUANT__GQ_ROWS = QUANT__PANELS * QUANT__LANES,
    QUANT__CHUNK = 256,             /* columns after which the others are brought up to date      */
    QUANT__RUN   = 128,             /* most columns with one scale that are tried together        */
    QUANT__SETS  = 3                /* roundings of a panel that are compared in the end          */
};
enum {                              /* how scales are stored                                     */
    QUANT__S_HALF,                  /* half float                                                */
    QUANT__S_HALF_MIN,              /* half floats, value = s k + m                              */
    QUANT__S_STEP,                  /* integer times d of the block                              */
    QUANT__S_STEP_MIN,              /* the same, and an integer times dmin is subtracted         */
    QUANT__S_E8M0, QUANT__S_UE4M3,  /* powers of two; 8-bit floats                               */
    QUANT__S_ZERO                   /* half float, value = s (k - zero)                          */
};

/* A grid: value = s level - m.  Levels are the integers lo to hi, or a table of n_levels. */
typedef struct quant__gq_grid {
    int           kind, len, n_sub; /* len columns share a scale, n_sub of them make a block     */
    int           lo, hi;
    const int8_t *table;
    int           n_levels, scale_lo, scale_hi;
} quant__gq_grid;

static const int8_t quant__fp4_levels[15] = {
    -12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12
};

QUANT__FN int quant__gq_get_grid(quant__gq_grid *q, const quant_grid *grid, size_t cols)
{
    static const struct { quant_type type; quant__gq_grid grid; } kinds[] = {
        { QUANT_Q4_0, { QUANT__S_HALF, 32, 1, -8, 7, NULL, 0, 0, 0 } },
        { QUANT_Q4_1, { QUANT__S_HALF_MIN, 32, 1, 0, 15, NULL, 0, 0, 0 } },
        { QUANT_Q5_0, { QUANT__S_HALF, 32, 1, -16, 15, NULL, 0, 0, 0 } },
        { QUANT_Q5_1, { QUANT__S_HALF_MIN, 32, 1, 0, 31, NULL, 0, 0, 0 } },
        { QUANT_Q8_0, { QUANT__S_HALF, 32, 1, -127, 127, NULL, 0, 0, 0 } },
        { QUANT_Q2_K, { QUANT__S_STEP_MIN, 16, 16, 0, 3, NULL, 0, 0, 15 } },
        { QUANT_Q3_K, { QUANT__S_STEP, 16, 16, -4, 3, NULL, 0, -32, 31 } },
        { QUANT_Q4_K, { QUANT__S_STEP_MIN, 32, 8, 0, 15, NULL, 0, 0, 63 } },
        { QUANT_Q5_K, { QUANT__S_STEP_MIN, 32, 8, 0, 31, NULL, 0, 0, 63 } },
        { QUANT_Q6_K, { QUANT__S_STEP, 16, 16, -32, 31, NULL, 0, -128, 127 } },
        { QUANT_IQ4_NL, { QUANT__S_HALF, 32, 1, 0, 0, quant__iq4_values, 16, 0, 0 } },
        { QUANT_IQ4_XS, { QUANT__S_STEP, 32, 8, 0, 0, quant__iq4_values, 16, -32, 31 } },
        { QUANT_MXFP4, { QUANT__S_E8M0, 32, 1, 0, 0, quant__fp4_levels, 15, 0, 0 } },
        { QUANT_NVFP4, { QUANT__S_UE4M3, 16, 4, 0, 0, quant__fp4_levels, 15, 0, 0 } },
        { QUANT_TQ2_0, { QUANT__S_HALF, 256, 1, -1, 1, NULL, 0, 0, 0 } }
    };
    size_t i, group = grid->group ? grid->group : cols;
    if (cols == 0 || cols > 0x7fffffff) return 0;
    if (grid->bits) {
        QUANT_MEMSET(q, 0, sizeof *q);
        if (grid->bits < 2 || grid->bits > 8 || cols % group) return 0;
        if (grid->group && (group < 16 || group > 128 || (group & (group - 1)))) return 0;
        q->kind = QUANT__S_ZERO;
        q->len = (int)group;
        q->n_sub = 1;
        q->hi = (1 << grid->bits) - 1;
        return 1;
    }
    for (i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].type == grid->type) {
            *q = kinds[i].grid;
            return cols % (size_t)(q->len * q->n_sub) == 0;
        }
    return 0;
}

/* Preparing -------------------------------------------------------------------------------------*/

/* U [n x n], upper, with (H of the columns order[], plus damp on the diagonal)^-1 = U^T U.  With
 * the columns backwards H = L L^T has the inverse factor L^-1, and backwards again that is U: one
 * array read from its end.  Returns 0 when H is not positive definite. */
QUANT__FN int quant__gq_factor(float *u, const float *h, size_t ldh, const uint32_t *order,
                               uint32_t first, size_t n, float damp, quant_cpu cpu, void *scratch)
{
    size_t i, j;
    for (i = 0; i < n; i++) {
        size_t row = order ? order[n - 1 - i] : first + n - 1 - i;
        for (j = 0; j <= i; j++)
            u[i * n + j] = h[row * ldh + (order ? order[n - 1 - j] : first + n - 1 - j)];
        for (; j < n; j++) u[i * n + j] = 0;
        u[i * n + i] += damp;
    }
    if (quant_cholesky(u, n, n, cpu, scratch, NULL) != QUANT_OK) return 0;
    if (quant_triangular_inverse(u, n, n, cpu, scratch, NULL) != QUANT_OK) return 0;
    for (i = 0, j = n * n - 1; i < j; i++, j--) {
        float t = u[i];
        u[i] = u[j];
        u[j] = t;
    }
    return 1;
}

QUANT__FN void *quant__gq_carve(quant__carve *c, quant_gptq *g, size_t cols, size_t len)
{
    g->factor = (float *)quant__take(c, (uint64_t)cols * cols, sizeof(float));
    g->blocks = (float *)quant__take(c, len <= QUANT__RUN ? (uint64_t)cols * len : 0,
                                     sizeof(float));
    g->importance = (float *)quant__take(c, cols, sizeof(float));
    g->order = (uint32_t *)quant__take(c, cols, sizeof(uint32_t));
    return quant__take(c, quant_linalg_scratch_size(), 1);
}

QUANT_API size_t quant_gptq_size(const quant_grid *grid, size_t cols)
{
    quant__gq_grid q;
    quant__carve c = { NULL, 0, 0 };
    quant_gptq g;
    if (!quant__gq_get_grid(&q, grid, cols)) return 0;
    quant__gq_carve(&c, &g, cols, (size_t)q.len);
    return c.overflow ? 0 : c.used;
}

/* Sorts ids [n] by weight, the largest first, equal ones by id: a heap, for no recursion. */
QUANT__FN int quant__gq_after(const float *w, uint32_t a, uint32_t b)
{
    return w[a] < w[b] || (w[a] == w[b] && a > b);
}

QUANT__FN void quant__gq_sort(uint32_t *ids, size_t n, const float *w)
{
    size_t i, k, end;
    for (end = n, i = n / 2; end > 1;) {
        uint32_t x;
        size_t at;
        if (i > 0) {
            x = ids[at = --i];
        } else {
            end--;
            x = ids[end];
            ids[end] = ids[0];
            at = 0;
        }
        for (; (k = 2 * at + 1) < end; at = k) {        /* the last in order stays on top        */
            if (k + 1 < end && quant__gq_after(w, ids[k + 1], ids[k])) k++;
            if (!quant__gq_after(w, ids[k], x)) break;
            ids[at] = ids[k];
        }
        ids[at] = x;
    }
}

/* The order by groups: blocks by the largest importance in them, sub-blocks in a block and columns
 * in a sub-block likewise.  key [cols] is scratch. */
QUANT__FN void quant__gq_order(quant_gptq *g, const quant__gq_grid *q, float *key)
{
    size_t cols = g->cols, len = (size_t)q->len, block = len * (size_t)q->n_sub, i, b, s, n = 0;
    uint32_t *o = g->order;
    for (i = 0; i < cols; i++) o[i] = (uint32_t)i;
    if (g->opt.order == QUANT_GPTQ_NATURAL) return;
    if (g->opt.order == QUANT_GPTQ_ACT) {
        quant__gq_sort(o, cols, g->importance);
        return;
    }
    for (b = 0; b < cols / block; b++) {
        key[b] = 0;
        for (i = b * block; i < (b + 1) * block; i++)
            if (g->importance[i] > key[b]) key[b] = g->importance[i];
    }
    quant__gq_sort(o, cols / block, key);
    for (i = 0; i < cols / block; i++) key[cols / block + i] = (float)o[i];  /* < 2^24: exact     */
    for (b = 0; b < cols / block; b++) {
        size_t first = (size_t)key[cols / block + b] * block;
        uint32_t sub[16];
        float most[16];
        for (s = 0; s < (size_t)q->n_sub; s++) {
            sub[s] = (uint32_t)s;
            most[s] = 0;
            for (i = first + s * len; i < first + (s + 1) * len; i++)
                if (g->importance[i] > most[s]) most[s] = g->importance[i];
        }
        quant__gq_sort(sub, (size_t)q->n_sub, most);
        for (s = 0; s < (size_t)q->n_sub; s++, n += len) {
            for (i = 0; i < len; i++) o[n + i] = (uint32_t)(first + sub[s] * len + i);
            quant__gq_sort(o + n, len, g->importance);
        }
    }
}

/* Checks H, makes it symmetric and fills in importance; the mean of the diagonal over live columns
 * or an error. */
QUANT__FN quant_result quant__gq_check(quant_gptq *g, float *h, double *mean, quant_error *err)
{
    size_t i, j, n = g->cols, live = 0;
    *mean = 0;
    g->dead = 0;
    for (i = 0; i < n; i++) {
        float d = h[i * g->ldh + i];
        if (!(d >= 0) || !quant__finite(d))
            return quant__fail(err, QUANT_E_NUMERIC, i,
                               QUANT__TEXT("the Hessian is not finite or negative in a column"));
        for (j = 0; j < i; j++) {
            float v = h[i * g->ldh + j];
            if (!quant__finite(v))
                return quant__fail(err, QUANT_E_NUMERIC, j,
                                   QUANT__TEXT("the Hessian is not finite in a column"));
            h[j * g->ldh + i] = v;
        }
        if (d > 0) { *mean += (double)d; live++; }
        else g->dead++;
    }
    *mean = live ? *mean / (double)live : 1;
    return QUANT_OK;
}

QUANT_API quant_result quant_gptq_prepare(quant_gptq *g, const quant_grid *grid, float *h,
                                          size_t ldh, size_t cols, const quant_gptq_opt *opt,
                                          void *buf, size_t size, quant_cpu cpu,
                                          quant_error *err)
{
    quant__gq_grid q;
    quant__carve c = { NULL, 0, 0 };
    quant_result r;
    double mean;
    float add = 0;
    size_t i, b;
    void *scratch;
    QUANT_MEMSET(g, 0, sizeof *g);
    if (!quant__gq_get_grid(&q, grid, cols))
        return quant__fail(err, QUANT_E_TYPE, 0,
                           QUANT__TEXT("no such grid, or the columns are not a multiple of it"));
    if (ldh < cols) return quant__fail(err, QUANT_E_ARG, 0, QUANT__TEXT("ldh is too small"));
    if (opt) g->opt = *opt;
    if (!(g->opt.damp >= 0) || g->opt.damp > 1 || g->opt.order > QUANT_GPTQ_ACT)
        return quant__fail(err, QUANT_E_ARG, 0, QUANT__TEXT("damp or order is out of range"));
    if (g->opt.damp == 0) g->opt.damp = 0.01f;
    if (g->opt.sweeps == 0) g->opt.sweeps = 4;
    g->grid = *grid;
    if (g->grid.tensor_scale == 0) g->grid.tensor_scale = 1;
    g->cols = cols;
    g->h = h;
    g->ldh = ldh;
    g->cpu = cpu;
    c.base = (uint8_t *)buf;
    scratch = quant__gq_carve(&c, g, cols, (size_t)q.len);
    if (c.overflow || size < c.used || !buf)
        return quant__fail_size(err, QUANT_E_MEMORY, 0, QUANT__TEXT("the buffer is too small"),
                                c.used, size);
    if ((r = quant__gq_check(g, h, &mean, err)) != QUANT_OK) return r;
    g->damp = g->opt.damp;
    if (g->opt.tokens && g->opt.tokens < cols) g->damp = 1;
    else if (g->opt.tokens && g->damp < (float)((double)cols / (double)g->opt.tokens))
        g->damp = (float)((double)cols / (double)g->opt.tokens);
    for (;; g->damp *= 2, g->raised++) {
        if (g->damp > 1 && g->raised)
            return quant__fail(err, QUANT_E_NUMERIC, 0,
                               QUANT__TEXT("the Hessian cannot be factored with any damping"));
        add = (float)((double)g->damp * mean);
        for (i = 0; i < cols; i++) g->importance[i] = h[i * ldh + i] + add;
        quant__gq_order(g, &q, g->factor);
        if (quant__gq_factor(g->factor, h, ldh, g->order, 0, cols, add, cpu, scratch)) break;
    }
    for (i = 0; i < cols; i++) h[i * ldh + i] += add;
    g->added = add;
    for (b = 0; q.len <= QUANT__RUN && b < cols / (size_t)q.len; b++)
        quant__gq_factor(g->blocks + b * (size_t)(q.len * q.len), h, ldh, NULL,
                         (uint32_t)(b * (size_t)q.len), (size_t)q.len, 0, cpu, scratch);
    return QUANT_OK;
}

QUANT_API void quant_gptq_groups(const quant_gptq *g, uint32_t *g_idx)
{
    size_t group = g->grid.group ? g->grid.group : g->cols, i;
    for (i = 0; i < g->cols; i++)
        if (g->opt.order == QUANT_GPTQ_ACT) g_idx[g->order[i]] = (uint32_t)(i / group);
        else g_idx[i] = (uint32_t)(i / group);
}

/* Scales ----------------------------------------------------------------------------------------*/

/* A panel while it is being quantized.  sc, mn: scale and minimum as stored, by sub-block. */
typedef struct quant__panel {
    const quant_gptq *g;
    quant__gq_grid q;
    size_t   cols, n;               /* n: lanes in use                                           */
    int      by_order;              /* integers in act-order: sub-blocks are made of positions    */
    size_t   rows;                  /* of all panels in use                                      */
    float   *target;                /* [lane][col] what is to be rounded                         */
    float   *work;                  /* [lane][position]; in sweeps [lane][col] target - value    */
    float   *grad;                  /* [lane][col] - work H                                      */
    float   *level;                 /* [col][lane]                                               */
    int32_t *sc, *mn;               /* [sub][lane]                                               */
    int32_t *d, *dmin;              /* [block][lane] half floats                                 */
    float   *t, *trial, *keep;      /* [RUN][lane]                                               */
    float   *s, *m;                 /* [sub][lane] scale and offset as floats                    */
    float   *err;                   /* [lane][CHUNK]                                             */
    float   *quad;                  /* [SETS][lanes of all panels][CHUNK]                        */
    double  *loss;                  /* the same [SETS][lane]                                     */
    float   *variance;              /* [lane] mean square of the row                             */
    void    *linalg;
    quant__la_run run;
    quant_cpu cpu;
} quant__panel;

/* All panels of a thread.  In target, work, grad, level and err each panel follows the one before;
 * work, grad and level of all are one array. */
QUANT__FN void quant__gq_panels(quant__carve *c, quant__panel *p, const quant_gptq *g)
{
    uint64_t L = QUANT__GQ_ROWS, cols = g->cols, subs;
    int k;
    p->g = g;
    p->cols = g->cols;
    quant__gq_get_grid(&p->q, &g->grid, g->cols);
    p->by_order = g->grid.bits && g->opt.order == QUANT_GPTQ_ACT;
    subs = cols / (uint64_t)p->q.len;
    p->target = (float *)quant__take(c, L * cols, sizeof(float));
    p->work = (float *)quant__take(c, QUANT__SETS * L * cols, sizeof(float));
    p->sc = (int32_t *)quant__take(c, L * subs, sizeof(int32_t));
    p->mn = (int32_t *)quant__take(c, L * subs, sizeof(int32_t));
    p->d = (int32_t *)quant__take(c, L * subs, sizeof(int32_t));
    p->dmin = (int32_t *)quant__take(c, L * subs, sizeof(int32_t));
    p->s = (float *)quant__take(c, L * subs, sizeof(float));
    p->m = (float *)quant__take(c, L * subs, sizeof(float));
    p->t = (float *)quant__take(c, QUANT__LANES * QUANT__RUN, sizeof(float));
    p->trial = (float *)quant__take(c, QUANT__LANES * QUANT__RUN, sizeof(float));
    p->keep = (float *)quant__take(c, QUANT__LANES * QUANT__RUN, sizeof(float));
    p->err = (float *)quant__take(c, L * QUANT__CHUNK, sizeof(float));
    p->quad = (float *)quant__take(c, QUANT__SETS * L * QUANT__CHUNK, sizeof(float));
    p->loss = (double *)quant__take(c, QUANT__SETS * L, sizeof(double));
    p->variance = (float *)quant__take(c, L, sizeof(float));
    p->linalg = quant__take(c, quant_linalg_scratch_size(), 1);
    if (!c->base) return;
    p->grad = p->work + L * cols;
    p->level = p->grad + L * cols;
    p->run = quant__la_begin(g->cpu, p->linalg);
    p->cpu = g->cpu & quant_cpu_detect();
    for (k = 1; k < QUANT__PANELS; k++) {
        p[k] = p[k - 1];
        p[k].target += QUANT__LANES * cols;
        p[k].work += QUANT__LANES * cols;
        p[k].grad += QUANT__LANES * cols;
        p[k].level += QUANT__LANES * cols;
        p[k].sc += QUANT__LANES * subs;
        p[k].mn += QUANT__LANES * subs;
        p[k].d += QUANT__LANES * subs;
        p[k].dmin += QUANT__LANES * subs;
        p[k].s += QUANT__LANES * subs;
        p[k].m += QUANT__LANES * subs;
        p[k].err += QUANT__LANES * QUANT__CHUNK;
        p[k].variance += QUANT__LANES;
    }
}

QUANT_API size_t quant_gptq_scratch_size(const quant_gptq *g)
{
    quant__carve c = { NULL, 0, 0 };
    quant__panel p[QUANT__PANELS];
    quant__gq_panels(&c, p, g);
    return c.overflow ? 0 : c.used;
}

/* C [lanes x n] -= A [lanes x k] B [k x n] */
QUANT__FN void quant__gq_less(const quant__panel *p, float *c, size_t ldc, const float *a,
                              size_t lda, const float *b, size_t ldb, size_t n, size_t k)
{
    quant__la_multiply(&p->run, QUANT__LA_SUB, c, ldc, a, lda, b, ldb, QUANT__LANES, n, k);
}

/* The same for all panels; p is the first one. */
QUANT__FN void quant__gq_less_all(const quant__panel *p, float *c, size_t ldc, const float *a,
                                  size_t lda, const float *b, size_t ldb, size_t n, size_t k)
{
    quant__la_multiply(&p->run, QUANT__LA_SUB, c, ldc, a, lda, b, ldb, p->rows, n, k);
}

/* Scale *s and offset *m (value = s level - m) of stored numbers. */
QUANT__INLINE void quant__gq_scale(const quant__panel *p, int32_t sc, int32_t mn, int32_t d,
                                   int32_t dmin, float *s, float *m)
{
    *m = 0;
    switch (p->q.kind) {
        case QUANT__S_HALF: *s = quant__half((uint32_t)sc); break;
        case QUANT__S_HALF_MIN:
            *s = quant__half((uint32_t)sc);
            *m = -quant__half((uint32_t)mn);
            break;
        case QUANT__S_STEP: *s = quant__half((uint32_t)d) * (float)sc; break;
        case QUANT__S_STEP_MIN:
            *s = quant__half((uint32_t)d) * (float)sc;
            *m = quant__half((uint32_t)dmin) * (float)mn;
            break;
        case QUANT__S_E8M0: *s = quant__e8m0_half((uint32_t)sc); break;
        case QUANT__S_UE4M3:
            *s = quant__ue4m3_half((uint32_t)sc) * p->g->grid.tensor_scale;
            break;
        default:
            *s = quant__half((uint32_t)sc);
            *m = *s * (float)mn;
            break;
    }
}

/* A half float nearest to v, finite. */
QUANT__INLINE int32_t quant__gq_half(float v)
{
    uint32_t h;
    if (v > 65504) v = 65504;
    if (v < -65504) v = -65504;
    h = quant__to_half(v);
    return (int32_t)h;
}

/* v where quant__nearest can take it. */
QUANT__INLINE float quant__gq_within(float v)
{
    v = v > -1e6f ? v : -1e6f;
    return v < 1e6f ? v : 1e6f;
}

/* The c-th scale to try instead of sc0, mn0; 0 when there are no more, -1 to skip this one.
 * round: 0 for the first choice, then the number of the sweep, with finer steps. */
QUANT__FN int quant__gq_trial(const quant__panel *p, int c, int round, int32_t sc0, int32_t mn0,
                              int32_t *sc, int32_t *mn)
{
    static const float coarse[12] = { .97f, 1.03f, .94f, 1.06f, .9f, 1.1f, .85f, 1.15f, -1, -1.07f,
                                      -.93f, .8f };
    static const float fine[8] = { .985f, 1.015f, .97f, 1.03f, .95f, 1.05f, .92f, 1.08f };
    static const float finest[8] = { .997f, 1.003f, .993f, 1.007f, .985f, 1.015f, .97f, 1.03f };
    static const int8_t near2[12][2] = { {1, 0}, {-1, 0}, {0, 1}, {0, -1}, {1, 1}, {-1, -1},
                                         {1, -1}, {-1, 1}, {2, 0}, {-2, 0}, {2, 2}, {-2, -2} };
    static const int8_t near1[8] = { 1, -1, 2, -2, 3, -3, 4, -4 };
    const float *f = round == 0 ? coarse : round < 3 ? fine : finest;
    int n = round == 0 ? 12 : 8, step;
    float s;
    *sc = sc0;
    *mn = mn0;
    if (c-- == 0) return 1;
    switch (p->q.kind) {
        case QUANT__S_HALF:
            if (c >= n) return 0;
            if (p->q.table == NULL && p->q.lo + p->q.hi == 0 && f[c] < 0) return -1;
            *sc = quant__gq_half(quant__half((uint32_t)sc0) * f[c]);
            return 1;
        case QUANT__S_HALF_MIN:                 /* the scale about the middle, or the offset      */
            if (c >= 12) return 0;
            s = quant__half((uint32_t)sc0);
            if (c < 8) {
                *sc = quant__gq_half(s * f[c]);
                *mn = quant__gq_half(quant__half((uint32_t)mn0)
                                     + (s - quant__half((uint32_t)*sc)) * (float)p->q.hi / 2);
            } else {
                s *= (float)near1[c - 8] * (round < 3 ? 0.15f : 0.05f);
                *mn = quant__gq_half(quant__half((uint32_t)mn0) + s);
            }
            return 1;
        case QUANT__S_STEP:
            if (c >= 8) return 0;
            step = p->q.scale_hi > 63 && round < 3 ? 1 + (sc0 < 0 ? -sc0 : sc0) / 48 : 1;
            *sc = sc0 + near1[c] * step;
            return *sc >= p->q.scale_lo && *sc <= p->q.scale_hi ? 1 : -1;
        case QUANT__S_STEP_MIN:
            if (c >= 12) return 0;
            *sc = sc0 + near2[c][0];
            *mn = mn0 + near2[c][1];
            return *sc >= 0 && *mn >= 0 && *sc <= p->q.scale_hi && *mn <= p->q.scale_hi ? 1 : -1;
        case QUANT__S_E8M0:
            if (c >= 2) return 0;
            *sc = sc0 + near1[c];
            return *sc >= 0 && *sc < 255 ? 1 : -1;
        case QUANT__S_UE4M3:
            if (c >= 4) return 0;
            *sc = sc0 + near1[c];
            return *sc >= 0 && *sc < 0x7f ? 1 : -1;
        default:
            if (c >= (p->g->grid.symmetric ? 8 : 12)) return 0;
            if (c < 8) *sc = quant__gq_half(quant__half((uint32_t)sc0) * f[c]);
            else *mn = mn0 + near1[c - 8];
            return *mn >= 0 && *mn <= p->q.hi ? 1 : -1;
    }
}

/* Rounding --------------------------------------------------------------------------------------
 * Loops over lanes that compilers turn into vectors.  They are inlined into one function for each
 * instruction set; plain arithmetic without contraction gives the same numbers on all. */
#if defined(__GNUC__) || defined(__clang__)
#  define QUANT__GQ_BODY static inline __attribute__((always_inline, unused))
#  define QUANT__GQ_APART static __attribute__((noinline, unused))     /* frames do not add up    */
#else
#  define QUANT__GQ_BODY static inline
#  define QUANT__GQ_APART static
#endif
#if QUANT__X86
#  define QUANT__GQ_EACH(X, name) X(name##_scalar, ) \
    X(name##_avx2, __attribute__((target("avx2")))) \
    X(name##_avx512, __attribute__((target("avx512f,avx512bw,avx512vl"))))
#  define QUANT__GQ_CALL(name, args) \
    if (p->cpu & QUANT_CPU_AVX512VNNI) name##_avx512 args; \
    else if (p->cpu & QUANT_CPU_AVX2) name##_avx2 args; \
    else name##_scalar args;
#else
#  define QUANT__GQ_EACH(X, name) X(name##_scalar, )
#  define QUANT__GQ_CALL(name, args) name##_scalar args;
#endif

/* Level [lane] nearest to t, and its value. */
QUANT__GQ_BODY void quant__gq_round(const quant__gq_grid *q, float *level, float *value,
                                   const float *t, const float *s, const float *inv,
                                   const float *m)
{
    int r, k;
    if (!q->table) {
        float lo = (float)q->lo, hi = (float)q->hi;
        for (r = 0; r < QUANT__LANES; r++) {
            float v = (t[r] + m[r]) * inv[r];
            v = v > lo ? v : lo;                /* also where v is no number                      */
            v = v < hi ? v : hi;
            v = (v + 12582912.f) - 12582912.f;
            level[r] = v;
            value[r] = s[r] * v - m[r];
        }
        return;
    }
    for (r = 0; r < QUANT__LANES; r++) level[r] = (float)q->table[0];
    for (k = 0; k + 1 < q->n_levels; k++) {
        float lo = (float)q->table[k], hi = (float)q->table[k + 1];
        float mid = 0.5f * (lo + hi), gap = hi - lo;
        for (r = 0; r < QUANT__LANES; r++) level[r] += t[r] * inv[r] >= mid ? gap : 0;
    }
    for (r = 0; r < QUANT__LANES; r++) value[r] = s[r] * level[r];
}

QUANT__GQ_BODY void quant__gq_inverses(float *inv, const float *s)
{
    int r;
    for (r = 0; r < QUANT__LANES; r++) inv[r] = quant__inverse(s[r]);
}

/* Quantizes n columns t [n][lane] in order: each error goes on to the later ones by U [n x n], ldu.
 * t becomes the errors over the diagonal, loss [lane] their squares.  sub [n]: scale of each
 * column among s, m; NULL: all have the first.  level [n][lane] or NULL. */
QUANT__GQ_BODY void quant__gq_run(const quant__gq_grid *q, float *t, float *level, float *loss,
                                  const float *s, const float *m, const uint32_t *sub,
                                  const float *u, size_t ldu, size_t n)
{
    float inv[QUANT__LANES], k[QUANT__LANES], v[QUANT__LANES], sum[QUANT__LANES];
    size_t i, j;
    int r;
    for (r = 0; r < QUANT__LANES; r++) sum[r] = 0;
    quant__gq_inverses(inv, s);
    for (i = 0; i < n; i++) {
        const float *si = s, *mi = m;
        float *ti = t + i * QUANT__LANES, diag = 1 / u[i * ldu + i];
        if (sub) {
            si = s + (size_t)sub[i] * QUANT__LANES;
            mi = m + (size_t)sub[i] * QUANT__LANES;
            quant__gq_inverses(inv, si);
        }
        quant__gq_round(q, k, v, ti, si, inv, mi);
        if (level) QUANT_MEMCPY(level + i * QUANT__LANES, k, sizeof k);
        for (r = 0; r < QUANT__LANES; r++) v[r] = (ti[r] - v[r]) * diag;
        for (r = 0; r < QUANT__LANES; r++) sum[r] += v[r] * v[r];
        QUANT_MEMCPY(ti, v, sizeof v);
        for (j = i + 1; j < n; j++) {
            float *tj = t + j * QUANT__LANES, uij = u[i * ldu + j];
            for (r = 0; r < QUANT__LANES; r++) tj[r] -= v[r] * uij;
        }
    }
    QUANT_MEMCPY(loss, sum, sizeof sum);
}

/* First scales of a block: the encoder's for GGUF types, of which the scales are kept. */
QUANT__FN void quant__gq_unpack(const quant__panel *p, const uint8_t *b, size_t block, size_t lane)
{
    int32_t *sc = p->sc + block * (size_t)p->q.n_sub * QUANT__LANES + lane;
    int32_t *mn = p->mn + block * (size_t)p->q.n_sub * QUANT__LANES + lane;
    int32_t *d = p->d + block * QUANT__LANES + lane, *dmin = p->dmin + block * QUANT__LANES + lane;
    int s, a, c;
    *d = *dmin = 0;
    for (s = 0; s < p->q.n_sub; s++) {
        a = c = 0;
        switch (p->g->grid.type) {
            case QUANT_Q4_1: case QUANT_Q5_1:
                a = (int)quant__le16(b);
                c = (int)quant__le16(b + 2);
                break;
            case QUANT_Q4_0: case QUANT_Q5_0: case QUANT_Q8_0: case QUANT_IQ4_NL:
                a = (int)quant__le16(b);
                break;
            case QUANT_TQ2_0: a = (int)quant__le16(b + 64); break;
            case QUANT_MXFP4: a = b[0]; break;
            case QUANT_NVFP4: a = b[s] & 0x7f; break;
            case QUANT_Q2_K: a = b[s] & 15; c = b[s] >> 4; break;
            case QUANT_Q3_K: a = quant__q3_k_scale(b + 96, s); break;
            case QUANT_Q6_K: a = ((const int8_t *)b)[192 + s]; break;
            case QUANT_IQ4_XS:
                a = (int)(b[4 + s / 2] >> 4 * (s % 2) & 15) |
                    (int)(quant__le16(b + 2) >> 2 * s & 3) << 4;
                a -= 32;
                break;
            default: quant__q4_k_scale(b + 4, s, &a, &c); break;
        }
        sc[s * QUANT__LANES] = a;
        mn[s * QUANT__LANES] = c;
    }
    switch (p->g->grid.type) {
        case QUANT_Q2_K: *d = (int)quant__le16(b + 80); *dmin = (int)quant__le16(b + 82); break;
        case QUANT_Q4_K: case QUANT_Q5_K:
            *d = (int)quant__le16(b);
            *dmin = (int)quant__le16(b + 2);
            break;
        case QUANT_Q3_K: *d = (int)quant__le16(b + 108); break;
        case QUANT_Q6_K: *d = (int)quant__le16(b + 208); break;
        case QUANT_IQ4_XS: *d = (int)quant__le16(b); break;
        default: break;
    }
}

/* Integers: scale and zero of n values x [stride]; w: their importance. */
QUANT__FN void quant__gq_fit_integers(const quant__panel *p, int32_t *sc, int32_t *zero,
                                      const float *x, const float *w, size_t n, int search)
{
    float lo = 0, hi = 0, top = (float)p->q.hi, best = 0;
    size_t i;
    int step, steps = search ? 40 : 1, sym = p->g->grid.symmetric != 0;
    for (i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    if (sym) { hi = hi > -lo ? hi : -lo; lo = -hi; }
    if (lo == 0 && hi == 0) { lo = -1; hi = 1; }
    for (step = 0; step < steps; step++) {
        float f = 1 - (float)step * 0.02f, s, z, inv, e = 0;
        int32_t half = quant__gq_half((hi - lo) * f / top);
        if (half == 0) half = 1;
        s = quant__half((uint32_t)half);
        inv = 1 / s;
        z = sym ? (float)((p->q.hi + 1) / 2)
                : (float)quant__clamp(quant__nearest(-lo * f * inv), 0, p->q.hi);
        for (i = 0; i < n && steps > 1; i++) {
            float v = x[i] * inv + z, diff;
            v = v > 0 ? v : 0;
            v = v < top ? v : top;
            v = (v + 12582912.f) - 12582912.f;
            diff = (v - z) * s - x[i];
            e += w[i] * diff * diff;
        }
        if (step == 0 || e < best) {
            best = e;
            *sc = half;
            *zero = (int32_t)z;
        }
    }
}

/* First scales of a block of columns (integers in act-order: positions) from x [n] of a lane. */
QUANT__FN void quant__gq_fit(const quant__panel *p, const float *x, const float *importance,
                             size_t block, size_t lane)
{
    uint8_t bytes[QUANT__K];
    quant__params params;
    size_t n = (size_t)(p->q.len * p->q.n_sub);
    if (p->q.kind == QUANT__S_ZERO) {
        quant__gq_fit_integers(p, p->sc + block * QUANT__LANES + lane,
                               p->mn + block * QUANT__LANES + lane, x, importance, n,
                               p->g->grid.search != 0);
        return;
    }
    params.row_variance = p->variance[lane];
    params.tensor_scale = p->g->grid.tensor_scale;
    quant__get_encoder(p->g->grid.type)(bytes, x, importance, &params);
    quant__gq_unpack(p, bytes, block, lane);
}

/* Floats of the stored scales of n sub-blocks. */
QUANT__FN void quant__gq_scales(const quant__panel *p, size_t first, size_t n)
{
    size_t i, r;
    for (i = first; i < first + n; i++)
        for (r = 0; r < QUANT__LANES; r++) {
            size_t at = i * QUANT__LANES + r;
            size_t block = i / (size_t)p->q.n_sub * QUANT__LANES + r;
            quant__gq_scale(p, p->sc[at], p->mn[at], p->d[block], p->dmin[block], &p->s[at],
                            &p->m[at]);
        }
}

/* Tries scales around those of sub-block `sub` for p->t [n][lane] and the factor u; leaves the best
 * of each lane in sc, mn, s, m and its loss in best. */
QUANT__GQ_BODY void quant__gq_choose_body(const quant__panel *p, size_t sub, int round,
                                          const float *u, size_t ldu, size_t n, float *best)
{
    float s[QUANT__LANES], m[QUANT__LANES], loss[QUANT__LANES];
    int32_t sc0[QUANT__LANES], mn0[QUANT__LANES], sc[QUANT__LANES], mn[QUANT__LANES];
    size_t at = sub * QUANT__LANES, block = sub / (size_t)p->q.n_sub * QUANT__LANES, r;
    int c, more = 1, ok[QUANT__LANES];
    QUANT_MEMCPY(sc0, p->sc + at, sizeof sc0);
    QUANT_MEMCPY(mn0, p->mn + at, sizeof mn0);
    for (c = 0; more && (p->g->opt.trials == 0 || c < p->g->opt.trials); c++) {
        more = 0;
        for (r = 0; r < QUANT__LANES; r++) {
            ok[r] = quant__gq_trial(p, c, round, sc0[r], mn0[r], &sc[r], &mn[r]);
            more |= ok[r] != 0;
            quant__gq_scale(p, sc[r], mn[r], p->d[block + r], p->dmin[block + r], &s[r], &m[r]);
        }
        if (!more) break;
        QUANT_MEMCPY(p->trial, p->t, n * QUANT__LANES * sizeof *p->t);
        quant__gq_run(&p->q, p->trial, NULL, loss, s, m, NULL, u, ldu, n);
        for (r = 0; r < QUANT__LANES; r++)
            if (c == 0 || (ok[r] == 1 && loss[r] < best[r])) {
                best[r] = loss[r];
                p->sc[at + r] = sc[r];
                p->mn[at + r] = mn[r];
            }
    }
    quant__gq_scales(p, sub, 1);
}

#define QUANT__GQ_CHOOSE(name, target) \
    target QUANT__GQ_APART void name(const quant__panel *p, size_t sub, int round, const float *u, \
                                     size_t ldu, size_t n, float *best) \
    { quant__gq_choose_body(p, sub, round, u, ldu, n, best); }
QUANT__GQ_EACH(QUANT__GQ_CHOOSE, quant__gq_choose)
#undef QUANT__GQ_CHOOSE

QUANT__FN void quant__gq_choose(const quant__panel *p, size_t sub, int round, const float *u,
                                size_t ldu, size_t n, float *best)
{
    QUANT__GQ_CALL(quant__gq_choose, (p, sub, round, u, ldu, n, best))
}

/* Column by column ------------------------------------------------------------------------------*/

/* Fits the first scales of the block at position `at`. */
QUANT__GQ_APART void quant__gq_fit_at(const quant__panel *p, size_t at)
{
    float x[QUANT__K], w[QUANT__K];
    const uint32_t *order = p->g->order;
    size_t n = (size_t)(p->q.len * p->q.n_sub), lane, i;
    size_t block = p->by_order ? at / n : order[at] / n;
    for (i = 0; i < n; i++) {
        size_t to = p->by_order ? i : order[at + i] - block * n;
        w[to] = p->g->importance[order[at + i]];
    }
    for (lane = 0; lane < p->n; lane++) {
        for (i = 0; i < n; i++) {
            size_t to = p->by_order ? i : order[at + i] - block * n;
            x[to] = p->work[lane * p->cols + at + i];
        }
        quant__gq_fit(p, x, w, block, lane);
    }
    quant__gq_scales(p, block * (size_t)p->q.n_sub, (size_t)p->q.n_sub);
}

/* All scales from the weights as they are, before any column is rounded. */
QUANT__FN void quant__gq_fit_all(const quant__panel *p)
{
    size_t n = (size_t)(p->q.len * p->q.n_sub), lane, b;
    for (b = 0; b < p->cols / n; b++)
        for (lane = 0; lane < p->n; lane++)
            quant__gq_fit(p, p->target + lane * p->cols + b * n, p->g->importance + b * n, b, lane);
    quant__gq_scales(p, 0, p->cols / (size_t)p->q.len);
}

/* Rounds p->t [n][lane]; levels go to p->trial. */
QUANT__GQ_BODY void quant__gq_part_body(const quant__panel *p, size_t at, size_t n,
                                        const uint32_t *sub, size_t one_sub, int choose)
{
    const float *u = p->g->factor + at * p->cols + at;
    const float *s = p->s + (sub ? 0 : one_sub) * QUANT__LANES;
    const float *m = p->m + (sub ? 0 : one_sub) * QUANT__LANES;
    float loss[QUANT__LANES];
    if (choose) quant__gq_choose(p, one_sub, 0, u, p->cols, n, loss);
    quant__gq_run(&p->q, p->t, p->trial, loss, s, m, sub, u, p->cols, n);
}

#define QUANT__GQ_PART(name, target) \
    target QUANT__GQ_APART void name(const quant__panel *p, size_t at, size_t n, \
                                     const uint32_t *sub, size_t one_sub, int choose) \
    { quant__gq_part_body(p, at, n, sub, one_sub, choose); }
QUANT__GQ_EACH(QUANT__GQ_PART, quant__gq_part)
#undef QUANT__GQ_PART

QUANT__FN void quant__gq_part(const quant__panel *p, size_t at, size_t n, const uint32_t *sub,
                              size_t one_sub, int choose)
{
    QUANT__GQ_CALL(quant__gq_part, (p, at, n, sub, one_sub, choose))
}

/* n columns from position `at`: loads, rounds, and brings the rest of the chunk up to date.  sub:
 * NULL, or the sub-block of each. */
QUANT__FN void quant__gq_columns(const quant__panel *p, size_t at, size_t n, size_t chunk,
                                 size_t chunk_end, const uint32_t *sub, size_t one_sub, int choose)
{
    const quant_gptq *g = p->g;
    size_t lane, i;
    for (lane = 0; lane < QUANT__LANES; lane++)
        for (i = 0; i < n; i++)
            p->t[i * QUANT__LANES + lane] = p->work[lane * p->cols + at + i];
    quant__gq_part(p, at, n, sub, one_sub, choose);
    for (i = 0; i < n; i++)
        QUANT_MEMCPY(p->level + g->order[at + i] * QUANT__LANES, p->trial + i * QUANT__LANES,
                     QUANT__LANES * sizeof(float));
    for (lane = 0; lane < QUANT__LANES; lane++)
        for (i = 0; i < n; i++)
            p->err[lane * QUANT__CHUNK + at - chunk + i] = p->t[i * QUANT__LANES + lane];
    if (at + n < chunk_end)
        quant__gq_less(p, p->work + at + n, p->cols, p->err + (at - chunk), QUANT__CHUNK,
                       g->factor + at * p->cols + at + n, p->cols, chunk_end - at - n, n);
}

/* Are scales fitted before any column is rounded?  Where a block's own columns cannot choose them
 * when their turn comes. */
QUANT__FN int quant__gq_early(const quant__panel *p)
{
    return p->q.len * p->q.n_sub > QUANT__CHUNK
        || (p->g->opt.order == QUANT_GPTQ_ACT && !p->by_order);
}

/* One panel, positions chunk to end. */
QUANT__GQ_APART void quant__gq_first_chunk(const quant__panel *p, size_t chunk, size_t end)
{
    const quant_gptq *g = p->g;
    size_t len = (size_t)p->q.len, block = len * (size_t)p->q.n_sub, at, n, i;
    uint32_t sub[QUANT__RUN];
    int early = quant__gq_early(p);
    for (at = chunk; at < end; at += n) {
        size_t one = p->by_order ? at / len : g->order[at] / len;
        n = len < QUANT__RUN ? len : QUANT__RUN;
        if (n > end - at) n = end - at;
        if (!early && at % block == 0) quant__gq_fit_at(p, at);
        for (i = 0; i < n && early; i++) sub[i] = (uint32_t)(g->order[at + i] / len);
        quant__gq_columns(p, at, n, chunk, end, early ? sub : NULL, one, !early && n == len);
    }
}

/* All panels, all columns. */
QUANT__FN void quant__gq_first(const quant__panel *p)
{
    const quant_gptq *g = p->g;
    size_t i, chunk, end, row, k, panels = p->rows / QUANT__LANES;
    for (row = 0; row < p->rows; row++)
        for (i = 0; i < p->cols; i++)
            p->work[row * p->cols + i] = p->target[row * p->cols + g->order[i]];
    for (k = 0; k < panels && quant__gq_early(p); k++) quant__gq_fit_all(&p[k]);
    for (chunk = 0; chunk < p->cols; chunk = end) {
        end = p->cols - chunk < QUANT__CHUNK ? p->cols : chunk + QUANT__CHUNK;
        for (k = 0; k < panels; k++) quant__gq_first_chunk(&p[k], chunk, end);
        if (end < p->cols)
            quant__gq_less_all(p, p->work + end, p->cols, p->err, QUANT__CHUNK,
                               g->factor + chunk * p->cols + end, p->cols, p->cols - end,
                               end - chunk);
    }
}

/* Sweeps ----------------------------------------------------------------------------------------*/

/* work = target - value. */
QUANT__FN void quant__gq_difference(const quant__panel *p)
{
    size_t lane, i, len = (size_t)p->q.len;
    const uint32_t *order = p->g->order;
    for (i = 0; i < p->cols; i++) {
        size_t col = p->by_order ? order[i] : i, sub = i / len * QUANT__LANES;
        for (lane = 0; lane < QUANT__LANES; lane++) {
            float v = p->s[sub + lane] * p->level[col * QUANT__LANES + lane] - p->m[sub + lane];
            p->work[lane * p->cols + col] = p->target[lane * p->cols + col] - v;
        }
    }
}

/* Moves single levels of columns first .. first + n while that lowers the loss; grad [n][lane] of
 * these columns is kept up to date. */
QUANT__GQ_BODY void quant__gq_polish_body(const quant__panel *p, size_t sub, size_t first,
                                          size_t n, float *grad, float *level)
{
    const float *s = p->s + sub * QUANT__LANES, *m = p->m + sub * QUANT__LANES;
    const float *h = p->g->h + first * p->g->ldh + first;
    float inv[QUANT__LANES], t[QUANT__LANES], k[QUANT__LANES], v[QUANT__LANES];
    size_t i, j;
    int r, pass, moved = 1;
    quant__gq_inverses(inv, s);
    for (pass = 0; pass < 3 && moved; pass++) {
        moved = 0;
        for (i = 0; i < n; i++) {
            const float *hi = h + i * p->g->ldh;
            float *gi = grad + i * QUANT__LANES, *li = level + i * QUANT__LANES;
            float hii = hi[i], ih = 1 / hii;
            int any = 0;
            for (r = 0; r < QUANT__LANES; r++) t[r] = s[r] * li[r] - m[r] - gi[r] * ih;
            quant__gq_round(&p->q, k, v, t, s, inv, m);
            for (r = 0; r < QUANT__LANES; r++) {
                float delta = s[r] * (k[r] - li[r]);
                t[r] = delta * (2 * gi[r] + delta * hii) < 0 ? delta : 0;
            }
            for (r = 0; r < QUANT__LANES; r++) v[r] = t[r] != 0 ? k[r] : li[r];
            QUANT_MEMCPY(li, v, sizeof v);
            for (r = 0; r < QUANT__LANES; r++) any |= t[r] != 0;
            if (!any) continue;
            moved = 1;
            for (j = 0; j < n; j++) {
                float *gj = grad + j * QUANT__LANES, hj = hi[j];
                for (r = 0; r < QUANT__LANES; r++) gj[r] += t[r] * hj;
            }
        }
    }
}

#define QUANT__GQ_POLISH(name, target) \
    target QUANT__GQ_APART void name(const quant__panel *p, size_t sub, size_t first, size_t n, \
                                     float *grad, float *level) \
    { quant__gq_polish_body(p, sub, first, n, grad, level); }
QUANT__GQ_EACH(QUANT__GQ_POLISH, quant__gq_polish)
#undef QUANT__GQ_POLISH

QUANT__FN void quant__gq_polish(const quant__panel *p, size_t sub, size_t first, size_t n,
                            float *grad, float *level)
{
    QUANT__GQ_CALL(quant__gq_polish, (p, sub, first, n, grad, level))
}

/* Scale and offset of a sub-block anew by least squares, its codes kept: steps along the levels
 * (integers: levels less zero) and along -1, rounded to what can be stored.  grad is kept up to
 * date. */
QUANT__GQ_BODY void quant__gq_resolve_body(const quant__panel *p, size_t sub, size_t first,
                                         size_t n, float *grad, const float *level)
{
    const size_t L = QUANT__LANES, at = sub * L, block = sub / (size_t)p->q.n_sub * L;
    const float *h = p->g->h + first * p->g->ldh + first;
    const int kind = p->q.kind, two = kind == QUANT__S_HALF_MIN || kind == QUANT__S_STEP_MIN;
    float a[2][QUANT__LANES], b[3][QUANT__LANES], zero[QUANT__LANES], ds[QUANT__LANES];
    float dm[QUANT__LANES];
    size_t i, j, r;
    if (kind == QUANT__S_E8M0 || kind == QUANT__S_UE4M3) return;
    QUANT_MEMSET(a, 0, sizeof a);
    QUANT_MEMSET(b, 0, sizeof b);
    for (r = 0; r < L; r++) zero[r] = kind == QUANT__S_ZERO ? (float)p->mn[at + r] : 0;
    for (i = 0; i < n; i++) {
        const float *hi = h + i * p->g->ldh;
        float x[QUANT__LANES], sum = 0;
        for (r = 0; r < QUANT__LANES; r++) x[r] = 0;
        for (j = 0; j < n; j++) {
            const float *lj = level + j * L, hj = hi[j];
            sum += hj;
            for (r = 0; r < QUANT__LANES; r++) x[r] += hj * (lj[r] - zero[r]);
        }
        for (r = 0; r < QUANT__LANES; r++) {
            const float k = level[i * L + r] - zero[r], gk = grad[i * L + r];
            a[0][r] += k * gk;
            a[1][r] -= gk;
            b[0][r] += k * x[r];
            b[1][r] -= x[r];
            b[2][r] += sum;
        }
    }
    for (r = 0; r < L; r++) {
        float det = b[0][r] * b[2][r] - b[1][r] * b[1][r], xs = 0, xm = 0, d, s, m, gain;
        int32_t sc = p->sc[at + r], mn = p->mn[at + r], top = p->q.scale_hi;
        if (two && det > 1e-4f * b[0][r] * b[2][r]) {
            xs = (b[1][r] * a[1][r] - b[2][r] * a[0][r]) / det;
            xm = (b[1][r] * a[0][r] - b[0][r] * a[1][r]) / det;
        } else if (b[0][r] > 0) {
            xs = -a[0][r] / b[0][r];
        }
        s = p->s[at + r] + xs;
        m = p->m[at + r] + xm;
        if (kind == QUANT__S_STEP || kind == QUANT__S_STEP_MIN) {
            d = quant__inverse(quant__half((uint32_t)p->d[block + r]));
            sc = quant__clamp(quant__nearest(quant__gq_within(s * d)), p->q.scale_lo, top);
            d = quant__inverse(quant__half((uint32_t)p->dmin[block + r]));
            if (two) mn = quant__clamp(quant__nearest(quant__gq_within(m * d)), 0, top);
        } else {
            sc = quant__gq_half(s);
            if (two) mn = quant__gq_half(-m);
        }
        quant__gq_scale(p, sc, mn, p->d[block + r], p->dmin[block + r], &s, &m);
        xs = s - p->s[at + r];
        xm = two ? m - p->m[at + r] : 0;
        gain = 2 * (xs * a[0][r] + xm * a[1][r]) + xs * xs * b[0][r] + 2 * xs * xm * b[1][r]
             + xm * xm * b[2][r];
        ds[r] = dm[r] = 0;
        if (!(gain < 0)) continue;
        p->sc[at + r] = sc;
        p->mn[at + r] = mn;
        p->s[at + r] = s;
        p->m[at + r] = m;
        ds[r] = xs;
        dm[r] = xm;
    }
    for (i = 0; i < n; i++) {
        const float *hi = h + i * p->g->ldh;
        float delta[QUANT__LANES];
        for (r = 0; r < QUANT__LANES; r++) delta[r] = ds[r] * (level[i * L + r] - zero[r]) - dm[r];
        for (j = 0; j < n; j++) {
            float *gj = grad + j * L, hj = hi[j];
            for (r = 0; r < QUANT__LANES; r++) gj[r] += delta[r] * hj;
        }
    }
}

#define QUANT__GQ_RESOLVE(name, target) \
    target QUANT__GQ_APART void name(const quant__panel *p, size_t sub, size_t first, size_t n, \
                                     float *grad, const float *level) \
    { quant__gq_resolve_body(p, sub, first, n, grad, level); }
QUANT__GQ_EACH(QUANT__GQ_RESOLVE, quant__gq_resolve)
#undef QUANT__GQ_RESOLVE

QUANT__FN void quant__gq_resolve(const quant__panel *p, size_t sub, size_t first, size_t n,
                            float *grad, const float *level)
{
    QUANT__GQ_CALL(quant__gq_resolve, (p, sub, first, n, grad, level))
}

/* One sub-block given all others: the free optimum t of its columns, rounded with several scales by
 * the factor of its own part of H, then polished.  p->err gets the change of values. */
QUANT__GQ_BODY void quant__gq_sub_body(const quant__panel *p, size_t sub, int round, size_t chunk)
{
    const size_t n = (size_t)p->q.len, first = sub * n;
    const float *u = p->g->blocks + sub * n * n;
    float *level = p->level + first * QUANT__LANES, *gr = p->keep, *t = p->t;
    const float *s1 = p->s + sub * QUANT__LANES, *m1 = p->m + sub * QUANT__LANES;
    float base[QUANT__LANES], best[QUANT__LANES], s0[QUANT__LANES], m0[QUANT__LANES];
    int32_t sc0[QUANT__LANES], mn0[QUANT__LANES];
    size_t i, j, at = sub * QUANT__LANES;
    int r;
    QUANT_MEMCPY(sc0, p->sc + at, sizeof sc0);
    QUANT_MEMCPY(mn0, p->mn + at, sizeof mn0);
    QUANT_MEMCPY(s0, p->s + at, sizeof s0);
    QUANT_MEMCPY(m0, p->m + at, sizeof m0);
    for (r = 0; r < QUANT__LANES; r++) base[r] = 0;
    for (i = 0; i < n; i++)
        for (r = 0; r < QUANT__LANES; r++) {
            gr[i * QUANT__LANES + r] = p->grad[(size_t)r * p->cols + first + i];
            t[i * QUANT__LANES + r] = s0[r] * level[i * QUANT__LANES + r] - m0[r];
        }
    for (i = 0; i < n; i++) {                   /* y = U g; t = value - U^T y                     */
        float y[QUANT__LANES];
        for (r = 0; r < QUANT__LANES; r++) y[r] = 0;
        for (j = i; j < n; j++) {
            const float *gj = gr + j * QUANT__LANES, uij = u[i * n + j];
            for (r = 0; r < QUANT__LANES; r++) y[r] += uij * gj[r];
        }
        for (r = 0; r < QUANT__LANES; r++) base[r] += y[r] * y[r];
        for (j = i; j < n; j++) {
            float *tj = t + j * QUANT__LANES, uij = u[i * n + j];
            for (r = 0; r < QUANT__LANES; r++) tj[r] -= uij * y[r];
        }
    }
    quant__gq_choose(p, sub, round, u, n, n, best);
    quant__gq_run(&p->q, p->t, p->trial, best, p->s + at, p->m + at, NULL, u, n, n);
    for (i = 0; i < n; i++)                     /* p->t is free now: old values                   */
        for (r = 0; r < QUANT__LANES; r++)
            t[i * QUANT__LANES + r] = s0[r] * level[i * QUANT__LANES + r] - m0[r];
    for (r = 0; r < QUANT__LANES; r++) {
        if (best[r] < base[r] * 0.99999f) {
            for (i = 0; i < n; i++)
                level[i * QUANT__LANES + r] = p->trial[i * QUANT__LANES + r];
        } else {
            p->sc[at + r] = sc0[r];
            p->mn[at + r] = mn0[r];
            p->s[at + r] = s0[r];
            p->m[at + r] = m0[r];
        }
    }
    for (i = 0; i < n; i++) {                   /* gradient after the change                      */
        const float *h = p->g->h + (first + i) * p->g->ldh + first;
        float delta[QUANT__LANES];
        for (r = 0; r < QUANT__LANES; r++)
            delta[r] = s1[r] * level[i * QUANT__LANES + r] - m1[r] - t[i * QUANT__LANES + r];
        for (j = 0; j < n; j++) {
            float *gj = gr + j * QUANT__LANES, hj = h[j];
            for (r = 0; r < QUANT__LANES; r++) gj[r] += delta[r] * hj;
        }
    }
    quant__gq_polish(p, sub, first, n, gr, level);
    if (p->g->opt.trials != 1) quant__gq_resolve(p, sub, first, n, gr, level);
    for (i = 0; i < n; i++)
        for (r = 0; r < QUANT__LANES; r++) {
            float delta = p->s[at + r] * level[i * QUANT__LANES + r] - p->m[at + r]
                        - t[i * QUANT__LANES + r];
            p->err[(size_t)r * QUANT__CHUNK + first - chunk + i] = -delta;
        }
}

#define QUANT__GQ_SUB(name, target) \
    target QUANT__GQ_APART void name(const quant__panel *p, size_t sub, int round, size_t chunk) \
    { quant__gq_sub_body(p, sub, round, chunk); }
QUANT__GQ_EACH(QUANT__GQ_SUB, quant__gq_sub)
#undef QUANT__GQ_SUB

QUANT__FN void quant__gq_sub(const quant__panel *p, size_t sub, int round, size_t chunk)
{
    QUANT__GQ_CALL(quant__gq_sub, (p, sub, round, chunk))
}

/* d and dmin of a block anew by least squares, all codes kept.  quad: [0] the direction of d, [1]
 * that of dmin, [2] one of them times H.  p->err collects the change. */
QUANT__GQ_APART void quant__gq_refit(const quant__panel *p, size_t block, size_t chunk)
{
    const size_t n = (size_t)(p->q.len * p->q.n_sub), first = block * n, L = QUANT__LANES;
    float *qd = p->quad, *qm = qd + L * QUANT__CHUNK, *hq = qm + L * QUANT__CHUNK;
    int two = p->q.kind == QUANT__S_STEP_MIN;
    double a[2][QUANT__LANES], b[3][QUANT__LANES];
    size_t i, r;
    const float *h = p->g->h + first * p->g->ldh + first;
    for (r = 0; r < L; r++)
        for (i = 0; i < n; i++) {
            size_t sub = (first + i) / (size_t)p->q.len * L + r;
            qd[r * QUANT__CHUNK + i] = (float)p->sc[sub] * p->level[(first + i) * L + r];
            qm[r * QUANT__CHUNK + i] = two ? -(float)p->mn[sub] : 0;
        }
    QUANT_MEMSET(a, 0, sizeof a);
    QUANT_MEMSET(b, 0, sizeof b);
    QUANT_MEMSET(hq, 0, L * QUANT__CHUNK * sizeof *hq);
    quant__gq_less(p, hq, QUANT__CHUNK, qd, QUANT__CHUNK, h, p->g->ldh, n, n);
    for (r = 0; r < L; r++)
        for (i = 0; i < n; i++) {
            size_t at = r * QUANT__CHUNK + i;
            double gi = (double)p->grad[r * p->cols + first + i];
            a[0][r] += (double)qd[at] * gi;
            a[1][r] += (double)qm[at] * gi;
            b[0][r] -= (double)qd[at] * (double)hq[at];
            b[1][r] -= (double)qm[at] * (double)hq[at];
        }
    if (two) {
        QUANT_MEMSET(hq, 0, L * QUANT__CHUNK * sizeof *hq);
        quant__gq_less(p, hq, QUANT__CHUNK, qm, QUANT__CHUNK, h, p->g->ldh, n, n);
        for (r = 0; r < L; r++)
            for (i = 0; i < n; i++) {
                size_t at = r * QUANT__CHUNK + i;
                b[2][r] -= (double)qm[at] * (double)hq[at];
            }
    }
    for (r = 0; r < L; r++) {
        int32_t *d = p->d + block * L + r, *dmin = p->dmin + block * L + r;
        float d0 = quant__half((uint32_t)*d), m0 = quant__half((uint32_t)*dmin);
        double det = b[0][r] * b[2][r] - b[1][r] * b[1][r], xd = 0, xm = 0, gain;
        int32_t nd, nm;
        if (two && det > 1e-9 * b[0][r] * b[2][r]) {
            xd = (b[1][r] * a[1][r] - b[2][r] * a[0][r]) / det;
            xm = (b[1][r] * a[0][r] - b[0][r] * a[1][r]) / det;
        } else if (b[0][r] > 0) {
            xd = -a[0][r] / b[0][r];
        }
        nd = quant__gq_half(d0 + (float)xd);
        nm = quant__gq_half(m0 + (float)xm);
        if (two && quant__half((uint32_t)nm) < 0) nm = *dmin;
        xd = (double)quant__half((uint32_t)nd) - (double)d0;
        xm = (double)quant__half((uint32_t)nm) - (double)m0;
        gain = 2 * (xd * a[0][r] + xm * a[1][r]) + xd * xd * b[0][r] + 2 * xd * xm * b[1][r]
             + xm * xm * b[2][r];
        if (!(gain < 0)) { nd = *d; nm = *dmin; xd = xm = 0; }
        *d = nd;
        *dmin = nm;
        for (i = 0; i < n; i++) {
            size_t at = r * QUANT__CHUNK + i;
            qd[at] = -(float)(xd * (double)qd[at] + xm * (double)qm[at]);
            p->err[r * QUANT__CHUNK + first - chunk + i] += qd[at];
        }
    }
    quant__gq_less(p, p->grad + first, p->cols, qd, QUANT__CHUNK, h, p->g->ldh, n, n);
    quant__gq_scales(p, block * (size_t)p->q.n_sub, (size_t)p->q.n_sub);
}

/* Sub-blocks of one panel in columns chunk to end.  err: minus the change of values. */
QUANT__GQ_APART void quant__gq_sweep_chunk(const quant__panel *p, int round, size_t chunk,
                                           size_t end)
{
    const quant_gptq *g = p->g;
    size_t len = (size_t)p->q.len, block = len * (size_t)p->q.n_sub, at, r, i;
    for (at = chunk; at < end; at += len) {
        quant__gq_sub(p, at / len, round, chunk);
        quant__gq_less(p, p->grad + chunk, p->cols, p->err + (at - chunk), QUANT__CHUNK,
                       g->h + at * g->ldh + chunk, g->ldh, end - chunk, len);
        if ((p->q.kind == QUANT__S_STEP || p->q.kind == QUANT__S_STEP_MIN)
            && (at + len) % block == 0)
            quant__gq_refit(p, at / block, chunk);
    }
    for (r = 0; r < QUANT__LANES; r++)
        for (i = chunk; i < end; i++)
            p->work[r * p->cols + i] += p->err[r * QUANT__CHUNK + i - chunk];
}

/* Sweeps over all sub-blocks of all panels.  Gradients are kept up to date inside the chunk at
 * once, in the other columns after it, as long as they are needed. */
QUANT__FN void quant__gq_sweeps(const quant__panel *p, int sweeps)
{
    const quant_gptq *g = p->g;
    size_t cols = p->cols, chunk, end, k;
    int round;
    QUANT_MEMSET(p->grad, 0, p->rows * cols * sizeof *p->grad);
    quant__gq_less_all(p, p->grad, cols, p->work, cols, g->h, g->ldh, cols, cols);
    for (round = 1; round <= sweeps; round++)
        for (chunk = 0; chunk < cols; chunk = end) {
            const float *h = g->h + chunk * g->ldh;
            end = cols - chunk < QUANT__CHUNK ? cols : chunk + QUANT__CHUNK;
            for (k = 0; k < p->rows / QUANT__LANES; k++)
                quant__gq_sweep_chunk(&p[k], round, chunk, end);
            if (chunk > 0 && round < sweeps)
                quant__gq_less_all(p, p->grad, cols, p->err, QUANT__CHUNK, h, g->ldh, chunk,
                                   end - chunk);
            if (end < cols)
                quant__gq_less_all(p, p->grad + end, cols, p->err, QUANT__CHUNK, h + end, g->ldh,
                                   cols - end, end - chunk);
        }
}

/* Storing ---------------------------------------------------------------------------------------*/

/* Codes of the block's weights from levels. */
QUANT__FN void quant__gq_codes(const quant__panel *p, uint8_t *code, size_t first, size_t n,
                               size_t lane)
{
    size_t i;
    for (i = 0; i < n; i++) {
        int k = (int)p->level[(first + i) * QUANT__LANES + lane], c = k - p->q.lo;
        if (p->q.table == quant__iq4_values)
            for (c = 0; c < 15 && quant__iq4_values[c] != k; c++) {}
        else if (p->q.table)
            for (c = 0; c < 15 && quant__fp4_values[c] != k; c++) {}
        code[i] = (uint8_t)c;
    }
}

QUANT__FN void quant__gq_pack_q3_k(uint8_t *b, const uint8_t *code, const int32_t *sc)
{
    int k;
    QUANT_MEMSET(b, 0, 110);
    for (k = 0; k < 16; k++) {
        int s = (int)sc[k * QUANT__LANES] + 32;
        b[96 + k % 8] = (uint8_t)(b[96 + k % 8] | (s & 15) << 4 * (k / 8));
        b[104 + k % 4] = (uint8_t)(b[104 + k % 4] | (s >> 4) << 2 * (k / 4));
    }
    for (k = 0; k < QUANT__K; k++) b[k % 32] = (uint8_t)(b[k % 32] | (code[k] >> 2) << k / 32);
    quant__pack_crumbs(b + 32, code);
}

QUANT__FN void quant__gq_pack_q6_k(uint8_t *b, const uint8_t *code, const int32_t *sc)
{
    int h, l;
    for (h = 0; h < 2; h++)
        for (l = 0; l < 32; l++) {
            const uint8_t *q = code + 128 * h + l;
            b[64 * h + l] = (uint8_t)((q[0] & 15) | (q[64] & 15) << 4);
            b[64 * h + 32 + l] = (uint8_t)((q[32] & 15) | (q[96] & 15) << 4);
            b[128 + 32 * h + l] = (uint8_t)(q[0] >> 4 | (q[32] >> 4) << 2 | (q[64] >> 4) << 4
                                            | (q[96] >> 4) << 6);
        }
    for (l = 0; l < 16; l++) b[192 + l] = (uint8_t)(int8_t)sc[l * QUANT__LANES];
}

/* Q4_K and Q5_K */
QUANT__FN void quant__gq_pack_q4_k(uint8_t *b, const uint8_t *code, const int32_t *sc,
                                   const int32_t *mn, uint32_t d, uint32_t dmin, int five)
{
    quant__subblocks s;
    uint8_t *qs = b + (five ? 48 : 16);
    int c, l;
    for (c = 0; c < 8; c++) {
        s.scales[c] = (uint8_t)sc[c * QUANT__LANES];
        s.mins[c] = (uint8_t)mn[c * QUANT__LANES];
    }
    s.d = d;
    s.dmin = dmin;
    quant__pack_q4_k_head(b, &s);
    if (five) QUANT_MEMSET(b + 16, 0, 32);
    for (c = 0; c < 4; c++)
        for (l = 0; l < 32; l++) {
            int lo = code[64 * c + l], hi = code[64 * c + 32 + l];
            qs[32 * c + l] = (uint8_t)((lo & 15) | (hi & 15) << 4);
            if (five)
                b[16 + l] = (uint8_t)(b[16 + l] | (lo >> 4) << 2 * c | (hi >> 4) << (2 * c + 1));
        }
}

QUANT__FN void quant__gq_pack(const quant__panel *p, uint8_t *b, size_t block, size_t lane)
{
    uint8_t code[QUANT__K];
    size_t L = QUANT__LANES, n = (size_t)(p->q.len * p->q.n_sub), i;
    const int32_t *sc = p->sc + block * (size_t)p->q.n_sub * L + lane;
    const int32_t *mn = p->mn + block * (size_t)p->q.n_sub * L + lane;
    uint32_t d = (uint32_t)p->d[block * L + lane], dmin = (uint32_t)p->dmin[block * L + lane];
    quant__gq_codes(p, code, block * n, n, lane);
    if (p->q.kind == QUANT__S_HALF || p->q.kind == QUANT__S_HALF_MIN)
        quant__put16(p->g->grid.type == QUANT_TQ2_0 ? b + 64 : b, (uint32_t)sc[0]);
    switch (p->g->grid.type) {
        case QUANT_Q4_0: case QUANT_IQ4_NL: quant__pack_nibbles(b + 2, code); break;
        case QUANT_Q4_1:
            quant__put16(b + 2, (uint32_t)mn[0]);
            quant__pack_nibbles(b + 4, code);
            break;
        case QUANT_Q5_0: quant__put32(b + 2, quant__pack_nibbles(b + 6, code)); break;
        case QUANT_Q5_1:
            quant__put16(b + 2, (uint32_t)mn[0]);
            quant__put32(b + 4, quant__pack_nibbles(b + 8, code));
            break;
        case QUANT_Q8_0: for (i = 0; i < 32; i++) b[2 + i] = (uint8_t)(code[i] - 127); break;
        case QUANT_TQ2_0: quant__pack_crumbs(b, code); break;
        case QUANT_MXFP4:
            b[0] = (uint8_t)sc[0];
            quant__pack_nibbles(b + 1, code);
            break;
        case QUANT_NVFP4:
            for (i = 0; i < 4; i++) b[i] = (uint8_t)sc[i * L];
            for (i = 0; i < 32; i++)
                b[4 + i] = (uint8_t)(code[16 * (i / 8) + i % 8]
                                     | code[16 * (i / 8) + 8 + i % 8] << 4);
            break;
        case QUANT_Q2_K:
            for (i = 0; i < 16; i++) b[i] = (uint8_t)(sc[i * L] | mn[i * L] << 4);
            quant__pack_crumbs(b + 16, code);
            quant__put16(b + 80, d);
            quant__put16(b + 82, dmin);
            break;
        case QUANT_Q3_K:
            quant__gq_pack_q3_k(b, code, sc);
            quant__put16(b + 108, d);
            break;
        case QUANT_Q4_K: case QUANT_Q5_K:
            quant__gq_pack_q4_k(b, code, sc, mn, d, dmin, p->g->grid.type == QUANT_Q5_K);
            break;
        case QUANT_Q6_K:
            quant__gq_pack_q6_k(b, code, sc);
            quant__put16(b + 208, d);
            break;
        default: {                              /* IQ4_XS                                        */
            uint32_t high = 0;
            quant__put16(b, d);
            QUANT_MEMSET(b + 4, 0, 4);
            for (i = 0; i < 8; i++) {
                uint32_t s = (uint32_t)(sc[i * L] + 32);
                b[4 + i / 2] = (uint8_t)(b[4 + i / 2] | (s & 15) << 4 * (i % 2));
                high |= s >> 4 << 2 * i;
                quant__pack_nibbles(b + 8 + 16 * i, code + 32 * i);
            }
            quant__put16(b + 2, high);
            break;
        }
    }
}

/* Writes the lanes to rows row0 and on. */
QUANT__FN void quant__gq_store(const quant__panel *p, const quant_gptq_out *out, size_t row0)
{
    size_t cols = p->cols, n = (size_t)(p->q.len * p->q.n_sub), lane, i, L = QUANT__LANES;
    size_t blocks = cols / n, row_size = quant_row_size(p->g->grid.type, cols);
    for (lane = 0; lane < p->n; lane++) {
        size_t row = row0 + lane;
        for (i = 0; i < blocks; i++) {
            if (!p->g->grid.bits) {
                if (out->rows)
                    quant__gq_pack(p, (uint8_t *)out->rows + row * row_size
                                   + i * (row_size / blocks), i, lane);
                continue;
            }
            if (out->scales) out->scales[row * blocks + i] = (uint16_t)p->sc[i * L + lane];
            if (out->zeros) out->zeros[row * blocks + i] = (uint8_t)p->mn[i * L + lane];
        }
        for (i = 0; i < cols; i++) {
            if (p->g->grid.bits && out->codes)
                out->codes[row * cols + i] = (uint8_t)(int)p->level[i * L + lane];
            if (out->values) {
                size_t col = p->by_order ? p->g->order[i] : i;
                size_t sub = i / (size_t)p->q.len * L + lane;
                out->values[row * cols + col] = p->s[sub] * p->level[col * L + lane] - p->m[sub];
            }
        }
    }
}

/* Against plain rounding ------------------------------------------------------------------------*/

/* A group of integers of a lane in the order of its scale: v [cols] becomes what they stand for. */
QUANT__FN void quant__gq_plain_group(const quant__panel *p, int how, size_t lane, size_t b,
                                     float *v, const quant_gptq_out *out, size_t row)
{
    const float *x = p->target + lane * p->cols, *w = p->g->importance;
    const size_t n = (size_t)p->q.len, at = b * QUANT__LANES + lane;
    const uint32_t *order = p->by_order && n < p->cols ? p->g->order + b * n : NULL;
    float xs[QUANT__RUN], ws[QUANT__RUN], s, m;
    size_t i;
    for (i = 0; order && i < n; i++) {
        xs[i] = x[order[i]];
        ws[i] = w[order[i]];
    }
    quant__gq_fit_integers(p, p->sc + at, p->mn + at, order ? xs : x + b * n,
                           order ? ws : w + b * n, n, how);
    quant__gq_scale(p, p->sc[at], p->mn[at], 0, 0, &s, &m);
    for (i = 0; i < n; i++) {
        size_t col = order ? order[i] : b * n + i;
        int32_t code = quant__nearest(quant__gq_within(x[col] / s)) + p->mn[at];
        code = quant__clamp(code, 0, p->q.hi);
        v[col] = s * (float)code - m;
        if (out && out->codes) out->codes[row * p->cols + col] = (uint8_t)code;
    }
    if (out && out->scales) out->scales[row * (p->cols / n) + b] = (uint16_t)p->sc[at];
    if (out && out->zeros) out->zeros[row * (p->cols / n) + b] = (uint8_t)p->mn[at];
}

/* A lane rounded plainly: v [cols] becomes what it stands for; stored as `row` unless out is NULL.
 * how: 0 without importance or search, 1 with.  Returns 0 if it cannot be encoded. */
QUANT__FN int quant__gq_plain(const quant__panel *p, int how, size_t lane, float *v,
                              const quant_gptq_out *out, size_t row)
{
    const quant_grid *grid = &p->g->grid;
    const float *x = p->target + lane * p->cols;
    size_t len = (size_t)(p->q.len * p->q.n_sub), blocks = p->cols / len, size, i, b;
    uint8_t bytes[QUANT__K * 2];
    quant__params params;
    if (grid->bits) {
        for (b = 0; b < blocks; b++) quant__gq_plain_group(p, how, lane, b, v, out, row);
    } else {
        size = quant__types[grid->type].block_size;
        params.row_variance = p->variance[lane];
        params.tensor_scale = grid->tensor_scale;
        for (b = 0; b < blocks; b++) {
            quant__get_encoder(grid->type)(bytes, x + b * len,
                                           how ? p->g->importance + b * len : NULL, &params);
            if (quant__bad_block(grid->type, bytes)) return 0;
            quant_to_f32(grid->type, v + b * len, bytes, 1, len);
            if (out && out->rows)
                QUANT_MEMCPY((uint8_t *)out->rows + (row * blocks + b) * size, bytes, size);
        }
        for (i = 0; grid->tensor_scale != 1 && i < p->cols; i++) v[i] *= grid->tensor_scale;
    }
    if (out && out->values) QUANT_MEMCPY(out->values + row * p->cols, v, p->cols * sizeof *v);
    return 1;
}

/* p->loss [n] = d H d^T, H without the damping, for d [n][cols] at p->work: twice the products with
 * the lower triangle, less the diagonal.  A multiple of 48 columns at a time fits the products. */
QUANT__FN void quant__gq_square(const quant__panel *p, size_t n)
{
    enum { WIDTH = (int)QUANT__CHUNK / (int)QUANT__LA_C * (int)QUANT__LA_C };
    const float *d = p->work, *h = p->g->h;
    size_t cols = p->cols, ldh = p->g->ldh, at, width, next, r, i;
    quant__la_out o;
    for (r = 0; r < n; r++) p->loss[r] = 0;
    o.c = p->quad;
    o.ld = WIDTH;
    o.low = QUANT__LA_ALL;
    for (at = 0; at < cols; at = next) {
        width = cols - at < WIDTH ? cols - at : WIDTH;
        next = at + width;
        o.op = QUANT__LA_SET;
        o.tri = 1;
        quant__la_product(&p->run, &o, quant__la_at(d + at, cols, 1),
                          quant__la_at(h + at * ldh + at, 1, ldh), n, width, width);
        o.op = QUANT__LA_ADD;
        o.tri = 0;
        if (next < cols)
            quant__la_product(&p->run, &o, quant__la_at(d + next, cols, 1),
                              quant__la_at(h + next * ldh + at, 1, ldh), n, width, cols - next);
        for (r = 0; r < n; r++) {
            double s = 0;
            for (i = 0; i < width; i++) {
                double v = (double)d[r * cols + at + i], t = (double)p->quad[r * WIDTH + i];
                double hii = (double)h[(at + i) * ldh + at + i] + (double)p->g->added;
                s += v * (2 * t - hii * v);
            }
            p->loss[r] += s;
        }
    }
    for (r = 0; r < n; r++) p->loss[r] = p->loss[r] > 0 ? p->loss[r] : 0;
}

/* Replaces the rows, stored as row0 and on, for which plain rounding has a smaller loss.  level is
 * free now; the differences of the plain roundings go to grad and level. */
QUANT__FN void quant__gq_compare(const quant__panel *p, const quant_gptq_out *out, size_t row0,
                                 size_t n)
{
    const size_t cols = p->cols;
    size_t r, i, set, best, sets;
    if (p->g->grid.bits) sets = p->g->grid.search ? 3 : 2;
    else sets = quant__types[p->g->grid.type].flags & QUANT_TF_IMPORTANCE ? 3 : 2;
    for (set = 1; set < sets; set++)
        for (r = 0; r < p->rows; r++) {
            float *d = p->work + (set * p->rows + r) * cols;
            const float *x = p->target + r * cols;
            int ok = quant__gq_plain(&p[r / QUANT__LANES], set == 2, r % QUANT__LANES, d, NULL, 0);
            for (i = 0; i < cols; i++) d[i] = ok ? d[i] - x[i] : 0;
            if (!ok) QUANT_MEMCPY(d, p->work + r * cols, cols * sizeof *d);    /* a tie          */
        }
    quant__gq_square(p, sets * p->rows);
    for (r = 0; r < n; r++) {
        for (best = 0, set = 1; set < sets; set++)
            if (p->loss[set * p->rows + r] < p->loss[best * p->rows + r]) best = set;
        if (best)
            quant__gq_plain(&p[r / QUANT__LANES], best == 2, r % QUANT__LANES, p->grad, out,
                            row0 + r);
        if (out->loss) out->loss[row0 + r] = p->loss[best * p->rows + r];
        if (out->plain) out->plain[row0 + r] = best != 0;
    }
}

/* n <= ROWS rows from row0 on to the panels; the index of a weight that is no good, n * cols if all
 * are. */
QUANT__FN size_t quant__gq_load(quant__panel *p, const float *w, size_t ldw, size_t n)
{
    size_t r, cols = p->cols;
    for (r = 0; r < QUANT__PANELS; r++) {
        size_t first = r * QUANT__LANES, left = n > first ? n - first : 0;
        p[r].n = left < QUANT__LANES ? left : QUANT__LANES;
        p[r].rows = (n + QUANT__LANES - 1) / QUANT__LANES * QUANT__LANES;
    }
    for (r = 0; r < n; r++) {
        const float *x = w + r * ldw;
        size_t bad = quant__first_bad(x, cols, 65504.f);
        if (bad < cols) return r * cols + bad;
        QUANT_MEMCPY(p->target + r * cols, x, cols * sizeof *x);
        p->variance[r] = quant__sum_squares(x, cols) / (float)cols;
    }
    return n * cols;
}

QUANT_API quant_result quant_gptq_rows(const quant_gptq_out *out, const quant_gptq *g,
                                       const float *w, size_t ldw, size_t row0, size_t row1,
                                       void *scratch, size_t size, quant_error *err)
{
    quant__carve c = { NULL, 0, 0 };
    quant__panel p[QUANT__PANELS];
    size_t row, n, bad, k;
    c.base = (uint8_t *)scratch;
    quant__gq_panels(&c, p, g);
    if (c.overflow || size < c.used)
        return quant__fail_size(err, QUANT_E_MEMORY, 0, QUANT__TEXT("the scratch is too small"),
                                c.used, size);
    for (row = row0; row < row1; row += n) {
        n = row1 - row < QUANT__GQ_ROWS ? row1 - row : QUANT__GQ_ROWS;
        /* lanes that are not in use must be numbers, too                                         */
        QUANT_MEMSET(scratch, 0, (size_t)((uint8_t *)p->linalg - (uint8_t *)scratch));
        bad = quant__gq_load(p, w + row * ldw, ldw, n);
        if (bad < n * g->cols)
            return quant__fail(err, QUANT_E_NUMERIC, (uint64_t)row * g->cols + bad,
                               QUANT__TEXT("a weight is not finite or too large"));
        quant__gq_first(p);
        for (k = 0; k < p->rows / QUANT__LANES; k++) quant__gq_difference(&p[k]);
        if (g->opt.sweeps > 0 && !p->by_order && p->q.len <= QUANT__RUN)
            quant__gq_sweeps(p, g->opt.sweeps);
        for (k = 0; k < QUANT__PANELS; k++)
            quant__gq_store(&p[k], out, row + k * QUANT__LANES);
        quant__gq_compare(p, out, row, n);
    }
    return QUANT_OK;
}

/* W += scale E U^T U, in the order of the factor. */
QUANT_API quant_result quant_gptq_shift(const quant_gptq *g, float *w, size_t ldw, const float *e,
                                        size_t lde, size_t row0, size_t row1, float scale,
                                        void *scratch, size_t size, quant_error *err)
{
    quant__carve c = { NULL, 0, 0 };
    quant__panel p[QUANT__PANELS];
    quant__la_out o;
    size_t row, lane, i, cols = g->cols;
    o.ld = cols;
    o.low = QUANT__LA_ALL;
    o.op = QUANT__LA_SUB;
    o.tri = 0;
    c.base = (uint8_t *)scratch;
    quant__gq_panels(&c, p, g);
    if (c.overflow || size < c.used)
        return quant__fail_size(err, QUANT_E_MEMORY, 0, QUANT__TEXT("the scratch is too small"),
                                c.used, size);
    for (row = row0; row < row1; row += QUANT__GQ_ROWS) {
        size_t n = row1 - row < QUANT__GQ_ROWS ? row1 - row : QUANT__GQ_ROWS;
        for (lane = 0; lane < n; lane++) {
            float *x = p->target + lane * cols;
            for (i = 0; i < cols; i++) x[i] = e[(row + lane) * lde + g->order[i]];
        }
        o.c = p->work;                          /* work = - x U^T, grad = x U^T U                */
        QUANT_MEMSET(p->work, 0, QUANT__GQ_ROWS * cols * sizeof *p->work);
        QUANT_MEMSET(p->grad, 0, QUANT__GQ_ROWS * cols * sizeof *p->grad);
        quant__la_product(&p->run, &o, quant__la_at(p->target, cols, 1),
                          quant__la_at(g->factor, cols, 1), n, cols, cols);
        quant__la_multiply(&p->run, QUANT__LA_SUB, p->grad, cols, p->work, cols, g->factor, cols,
                           n, cols, cols);
        for (lane = 0; lane < n; lane++)
            for (i = 0; i < cols; i++)
                w[(row + lane) * ldw + g->order[i]] += scale * p->grad[lane * cols + i];
    }
    return QUANT_OK;
}
#endif /* QUANT_NO_ENCODE, QUANT_NO_CALIBRATION */

#if !defined(QUANT_NO_ENCODE) && !defined(QUANT_NO_CALIBRATION)
/* >>awq-impl ------------------------------------------------------------------------------------
 * Rows are rounded 64 at a time; the error of their outputs is d H d^T, one blocked product. */
enum { QUANT__AW_ROWS = 64 };

QUANT_API void quant_awq_see(double *sum, const float *x, size_t ldx, size_t tokens, size_t cols)
{
    size_t t, i;
    for (t = 0; t < tokens; t++)
        for (i = 0; i < cols; i++) sum[i] += quant__abs(x[t * ldx + i]);
}

QUANT_API void quant_awq_weigh(double *sum, const float *w, size_t ldw, size_t rows, size_t cols,
                               size_t group)
{
    size_t r, i, g, n;
    if (group == 0) group = cols;
    for (r = 0; r < rows; r++)
        for (g = 0; g < cols; g += group) {
            const float *x = w + r * ldw + g;
            float amax = 0;
            n = cols - g < group ? cols - g : group;
            for (i = 0; i < n; i++) amax = quant__abs(x[i]) > amax ? quant__abs(x[i]) : amax;
            if (!(amax > 0)) continue;
            for (i = 0; i < n; i++) sum[g + i] += quant__abs(x[i]) / amax;
        }
}

QUANT_API void quant_awq_share(double *sum, size_t n_head, size_t n_kv, size_t head_dim)
{
    size_t k, i, j, each = n_head / n_kv;
    QUANT_ASSERT(n_kv > 0 && n_head % n_kv == 0);
    for (k = 0; k < n_kv; k++)
        for (i = 0; i < head_dim; i++) {
            double *p = sum + k * each * head_dim + i, mean = 0;
            for (j = 0; j < each; j++) mean += p[j * head_dim];
            for (j = 0; j < each; j++) p[j * head_dim] = mean / (double)each;
        }
}

QUANT_API void quant_awq_unshare(float *dst, const float *s, size_t n_head, size_t n_kv,
                                 size_t head_dim)
{
    size_t k, i, each = n_head / n_kv;
    for (k = 0; k < n_kv; k++)
        for (i = 0; i < head_dim; i++)
            dst[k * head_dim + i] = s[k * each * head_dim + i];
}

/* log2 x for x > 0, normal: exponent, and 2 artanh((m - 1) / (m + 1)) of m in [0.7, 1.42). */
QUANT__FN double quant__log2(double x)
{
    uint64_t u;
    double m, t, t2, sum = 0;
    int e, k;
    QUANT_MEMCPY(&u, &x, 8);
    e = (int)(u >> 52) - 1023;
    u = (u & 0xfffffffffffffu) | (uint64_t)1023 << 52;
    QUANT_MEMCPY(&m, &u, 8);
    if (m > 1.4142135623730951) { m *= 0.5; e++; }
    t = (m - 1) / (m + 1);
    t2 = t * t;
    for (k = 21; k > 0; k -= 2) sum = sum * t2 + 1.0 / k;
    return (double)e + 2 * t * sum * 1.4426950408889634;
}

/* 2^y for |y| < 1000: the series of e^z for |z| <= ln 2 / 2. */
QUANT__FN double quant__exp2(double y)
{
    int n = (int)(y + (y < 0 ? -0.5 : 0.5)), k;
    double z = (y - n) * 0.6931471805599453, sum = 1, p;
    uint64_t u = (uint64_t)(n + 1023) << 52;
    for (k = 13; k > 0; k--) sum = 1 + z * sum / k;
    QUANT_MEMCPY(&p, &u, 8);
    return sum * p;
}

QUANT_API size_t quant_awq_candidates(uint32_t steps)
{
    return 2 * (size_t)(steps ? steps : 20) + 2;
}

/* Is a sum one that a scale can be made of? */
QUANT__INLINE int quant__aw_usable(double x) { return x > 0 && x < 1e300; }

QUANT_API float quant_awq_scales(float *s, size_t k, uint32_t steps, const double *x,
                                 const double *w, size_t cols)
{
    double alpha, low = 1e300, high = -1e300, xmean = 0, wmean = 0;
    size_t i, n = steps ? steps : 20, seen = 0;
    int both = k > n && w != NULL;
    alpha = (double)(k > n ? k - n - 1 : k) / (double)n;
    for (i = 0; i < cols; i++) {
        if (!quant__aw_usable(x[i])) continue;
        xmean += x[i];
        if (both && quant__aw_usable(w[i])) wmean += w[i];
        seen++;
    }
    xmean = seen ? xmean / (double)seen : 1;
    wmean = wmean > 0 ? wmean / (double)seen : 1;
    for (i = 0; i < cols; i++) {                    /* s: log2 of the scale; 1e-4 keeps it small  */
        double l = 0;
        if (!quant__aw_usable(x[i])) continue;
        if (alpha > 0) l = alpha * quant__log2(x[i] / xmean + 1e-8);
        if (both && w[i] >= 0 && w[i] < 1e300) l -= (1 - alpha) * quant__log2(w[i] / wmean + 1e-4);
        low = l < low ? l : low;
        high = l > high ? l : high;
        s[i] = (float)l;
    }
    for (i = 0; i < cols; i++)
        s[i] = quant__aw_usable(x[i])
             ? (float)quant__exp2((double)s[i] - (low + high) / 2) : 1.0f;
    return (float)alpha;
}

/* The scratch of one thread. */
typedef struct quant__aw_work {
    float   *w, *d, *t;             /* [64 x cols] scaled weights; values or errors; d H         */
    float   *inverse, *importance;  /* [cols] 1 / s; of scaled columns, mean 1                   */
    float   *range;                 /* [64 x 4] low, high; best factor, best error               */
    float   *v, *u;                 /* types: [64 x cols] another rounding; [64 x block]         */
    uint8_t *rows, *other;          /* encoded; otherwise encoded                                */
    float   *linalg;
} quant__aw_work;

QUANT__FN int quant__aw_carve(quant__aw_work *k, size_t *used, const quant_awq *a, void *scratch)
{
    quant__carve c = { NULL, 0, 0 };
    size_t row = a->grid.bits ? 0 : quant_row_size(a->grid.type, a->cols);
    size_t group = a->grid.group ? a->grid.group : a->cols, block = 0;
    if (a->grid.bits ? a->grid.bits < 2 || a->grid.bits > 8 || a->cols % group : !row) return 0;
    if (a->cols == 0 || a->cols > 0x7fffffff) return 0;
    c.base = (uint8_t *)scratch;
    k->w = (float *)quant__take(&c, (uint64_t)a->cols * QUANT__AW_ROWS, sizeof(float));
    k->d = (float *)quant__take(&c, (uint64_t)a->cols * QUANT__AW_ROWS, sizeof(float));
    k->t = (float *)quant__take(&c, (uint64_t)a->cols * QUANT__AW_ROWS, sizeof(float));
    k->inverse = (float *)quant__take(&c, a->cols, sizeof(float));
    k->importance = (float *)quant__take(&c, a->cols, sizeof(float));
    k->range = (float *)quant__take(&c, 4 * QUANT__AW_ROWS, sizeof(float));
    if (row) block = quant_type_get(a->grid.type)->block_len;
    k->v = (float *)quant__take(&c, (row ? (uint64_t)a->cols : 0) * QUANT__AW_ROWS, sizeof(float));
    k->u = (float *)quant__take(&c, (uint64_t)block * QUANT__AW_ROWS, sizeof(float));
    k->rows = (uint8_t *)quant__take(&c, row, QUANT__AW_ROWS);
    k->other = (uint8_t *)quant__take(&c, row, QUANT__AW_ROWS);
    k->linalg = (float *)quant__take(&c, quant_linalg_scratch_size(), 1);
    *used = c.used;
    return !c.overflow;
}

QUANT_API size_t quant_awq_scratch_size(const quant_awq *a)
{
    quant__aw_work k;
    size_t used;
    return quant__aw_carve(&k, &used, a, NULL) ? used : 0;
}

/* Scale, as a half float, and zero point of a range that includes 0. */
QUANT__FN float quant__aw_scale(const quant_grid *g, float low, float high, uint32_t *half,
                                int32_t *zero)
{
    const int32_t top = (1 << g->bits) - 1;
    float amax = high > -low ? high : -low, s;
    s = g->symmetric ? amax / (float)(top / 2) : (high - low) / (float)top;
    *half = quant__to_half(s);
    if (quant__half(*half) == 0) *half = 1;         /* 2^-24: zeros, and what is next to nothing  */
    s = quant__half(*half);
    *zero = g->symmetric ? top / 2 + 1
          : quant__clamp(-low / s < 1e6f ? quant__nearest(-low / s) : top, 0, top);
    return s;
}

/* n weights on the grid of a range; codes may be NULL. */
QUANT__FN void quant__aw_round(float *values, uint8_t *codes, const float *w, size_t n,
                               const quant_grid *g, float scale, int32_t zero)
{
    const int32_t top = (1 << g->bits) - 1;
    const float id = 1 / scale;
    size_t i;
    for (i = 0; i < n; i++) {
        float v = w[i] * id;
        int32_t q;
        v = v < 1e6f ? v : 1e6f;
        v = v > -1e6f ? v : -1e6f;
        q = quant__clamp(quant__nearest(v) + zero, 0, top);
        values[i] = scale * (float)(q - zero);
        if (codes) codes[i] = (uint8_t)q;
    }
}

/* Chooses the range of each row for columns g to g + n - 1: factors of the whole range, by the
 * error of this group's part of the outputs. */
QUANT__FN void quant__aw_clip(const quant__aw_work *k, const quant__la_run *run,
                              const quant_awq *a, size_t rows, size_t g, size_t n)
{
    size_t r, i, c, tries = a->clip ? a->clip : 1;
    for (r = 0; r < rows; r++) {
        const float *w = k->w + r * a->cols + g;
        float low = 0, high = 0;
        for (i = 0; i < n; i++) {
            low = w[i] < low ? w[i] : low;
            high = w[i] > high ? w[i] : high;
        }
        k->range[4 * r] = low;
        k->range[4 * r + 1] = high;
        k->range[4 * r + 2] = 1;
        k->range[4 * r + 3] = 0;
    }
    for (c = 0; c < tries && tries > 1; c++) {
        float f = 1 - 0.5f * (float)c / (float)tries;
        for (r = 0; r < rows; r++) {
            const float *w = k->w + r * a->cols + g;
            uint32_t half;
            int32_t zero;
            float *d = k->d + r * a->cols + g, s;
            s = quant__aw_scale(&a->grid, f * k->range[4 * r], f * k->range[4 * r + 1], &half,
                                &zero);
            quant__aw_round(d, NULL, w, n, &a->grid, s, zero);
            for (i = 0; i < n; i++) d[i] = (d[i] - w[i]) * k->inverse[g + i];
        }
        quant__la_multiply(run, QUANT__LA_SET, k->t, n, k->d + g, a->cols,
                           a->h + g * a->ldh + g, a->ldh, rows, n, n);
        for (r = 0; r < rows; r++) {
            const float *d = k->d + r * a->cols + g, *t = k->t + r * n;
            double e = 0;
            for (i = 0; i < n; i++) e += (double)d[i] * (double)t[i];
            if (c > 0 && !((float)e < k->range[4 * r + 3])) continue;
            k->range[4 * r + 2] = f;
            k->range[4 * r + 3] = (float)e;
        }
    }
}

/* Rows of k->w to integers; k->d becomes what they stand for. */
QUANT__FN void quant__aw_integers(const quant__aw_work *k, const quant__la_run *run,
                                  const quant_awq *a, const quant_gptq_out *out, size_t row0,
                                  size_t rows)
{
    size_t n = a->grid.group ? a->grid.group : a->cols, groups = a->cols / n, g, r;
    for (g = 0; g < groups; g++) {
        quant__aw_clip(k, run, a, rows, g * n, n);
        for (r = 0; r < rows; r++) {
            const float *p = k->range + 4 * r;
            size_t at = (row0 + r) * groups + g;
            uint32_t half;
            int32_t zero;
            float s = quant__aw_scale(&a->grid, p[0] * p[2], p[1] * p[2], &half, &zero);
            quant__aw_round(k->d + r * a->cols + g * n,
                            out->codes ? out->codes + (row0 + r) * a->cols + g * n : NULL,
                            k->w + r * a->cols + g * n, n, &a->grid, s, zero);
            if (out->scales) out->scales[at] = (uint16_t)half;
            if (out->zeros) out->zeros[at] = (uint8_t)zero;
        }
    }
}

/* 1 / s and importance of the scaled columns. */
QUANT__FN quant_result quant__aw_columns(const quant__aw_work *k, const quant_awq *a,
                                         const float *s, quant_error *err)
{
    double mean = 0;
    size_t i;
    for (i = 0; i < a->cols; i++) {
        float h = a->h[i * a->ldh + i];
        k->inverse[i] = s ? 1 / s[i] : 1;
        if (!(h >= 0) || !quant__finite(h) || !(k->inverse[i] > 0) || !quant__finite(k->inverse[i]))
            return quant__fail(err, QUANT_E_NUMERIC, i,
                               QUANT__TEXT("a scale or the diagonal of H is bad"));
        mean += (double)h * k->inverse[i] * k->inverse[i] / (double)a->cols;
    }
    for (i = 0; i < a->cols; i++)
        k->importance[i] = mean > 0 ? (float)((double)a->h[i * a->ldh + i] * k->inverse[i]
                                              * k->inverse[i] / mean) : 1;
    return QUANT_OK;
}

/* |d H d^T| of each row, d = (values - scaled weights) / s. */
QUANT__FN void quant__aw_loss(const quant__aw_work *k, const quant__la_run *run,
                              const quant_awq *a, double *loss, size_t rows)
{
    size_t r, i;
    for (r = 0; r < rows; r++)
        for (i = 0; i < a->cols; i++) {
            float *d = k->d + r * a->cols + i;
            *d = (*d - k->w[r * a->cols + i]) * k->inverse[i];
        }
    quant__la_multiply(run, QUANT__LA_SET, k->t, a->cols, k->d, a->cols, a->h, a->ldh, rows,
                       a->cols, a->cols);
    for (r = 0; r < rows; r++) {
        const float *d = k->d + r * a->cols, *t = k->t + r * a->cols;
        double e = 0;
        for (i = 0; i < a->cols; i++) e += (double)d[i] * (double)t[i];
        loss[r] = e > 0 ? e : 0;
    }
}

/* dst = the values of n encoded rows */
QUANT__FN void quant__aw_decode(float *dst, const quant_encoder *e, const uint8_t *rows, size_t n,
                                size_t cols)
{
    size_t i;
    quant_to_f32(e->type, dst, rows, n, cols);
    for (i = 0; e->tensor_scale != 1 && i < n * cols; i++) dst[i] *= e->tensor_scale;
}

/* Takes over from k->other, decoded in k->v, those blocks that lessen the errors of their rows.
 * k->d is what `rows` stand for, k->t = (their errors) H; all of them change together. */
QUANT__FN void quant__aw_take(const quant__aw_work *k, const quant__la_run *run,
                              const quant_awq *a, uint8_t *rows, size_t n)
{
    const quant_type_info *t = quant_type_get(a->grid.type);
    size_t len = t->block_len, cols = a->cols, row = cols / len * t->block_size, b, r, i;
    for (i = 0; i < n * cols; i++) k->v[i] = (k->v[i] - k->d[i]) * k->inverse[i % cols];
    for (b = 0; b < cols; b += len) {
        quant__la_multiply(run, QUANT__LA_SET, k->u, len, k->v + b, cols, a->h + b * a->ldh + b,
                           a->ldh, n, len, len);
        for (r = 0; r < n; r++) {               /* (e + v) H (e + v)^T - e H e^T = v (2 e + v) H  */
            float *v = k->v + r * cols + b, *d = k->d + r * cols + b;
            const float *eh = k->t + r * cols + b, *vh = k->u + r * len;
            size_t at = r * row + b / len * t->block_size;
            double change = 0;
            for (i = 0; i < len; i++) change += (double)v[i] * (2 * (double)eh[i] + (double)vh[i]);
            if (change < 0) QUANT_MEMCPY(rows + at, k->other + at, t->block_size);
            if (change < 0) for (i = 0; i < len; i++) d[i] += v[i] / k->inverse[b + i];
            else QUANT_MEMSET(v, 0, len * sizeof *v);
        }
        quant__la_multiply(run, QUANT__LA_ADD, k->t, cols, k->v + b, cols, a->h + b * a->ldh,
                           a->ldh, n, cols, len);
    }
}

/* n rows of k->w to a type, the weights of each 32 clipped to a part of the largest; k->d becomes
 * what they stand for. */
QUANT__FN quant_result quant__aw_types(const quant__aw_work *k, const quant__la_run *run,
                                       const quant_awq *a, const quant_encoder *e, uint8_t *rows,
                                       size_t n, quant_error *err)
{
    size_t cols = a->cols, c, i, j, to;
    quant_result r = quant_from_f32(e, rows, k->w, n, cols, k->importance, err);
    if (r) return r;
    quant__aw_decode(k->d, e, rows, n, cols);
    if (a->clip < 2) return QUANT_OK;
    for (i = 0; i < n * cols; i++) k->v[i] = (k->d[i] - k->w[i]) * k->inverse[i % cols];
    quant__la_multiply(run, QUANT__LA_SET, k->t, cols, k->v, cols, a->h, a->ldh, n, cols, cols);
    for (c = 1; c < a->clip && c < 20; c++) {
        float f = 1 - (float)c / 20;
        for (i = 0; i < n * cols; i = to) {     /* a row may end in fewer than 32                 */
            size_t end = (i / cols + 1) * cols;
            float most = 0;
            to = i + 32 < end ? i + 32 : end;
            for (j = i; j < to; j++)
                if (quant__abs(k->w[j]) > most) most = quant__abs(k->w[j]);
            most *= f;
            for (j = i; j < to; j++) {
                float x = k->w[j] < most ? k->w[j] : most;
                k->v[j] = x > -most ? x : -most;
            }
        }
        r = quant_from_f32(e, k->other, k->v, n, cols, k->importance, err);
        if (r) return r;
        quant__aw_decode(k->v, e, k->other, n, cols);
        quant__aw_take(k, run, a, rows, n);
    }
    quant__aw_decode(k->d, e, rows, n, cols);   /* without the rounding of sums                   */
    return QUANT_OK;
}

QUANT_API quant_result quant_awq_rows(const quant_gptq_out *out, const quant_awq *a,
                                      const float *w, size_t ldw, size_t row0, size_t row1,
                                      const float *s, void *scratch, size_t size,
                                      quant_error *err)
{
    quant__aw_work k;
    quant__la_run run;
    quant_encoder e;
    size_t used, row, r, i, row_size = a->grid.bits ? 0 : quant_row_size(a->grid.type, a->cols);
    quant_result result = QUANT_OK;
    if (!quant__aw_carve(&k, &used, a, scratch))
        return quant__fail(err, QUANT_E_TYPE, 0, QUANT__TEXT("no such grid for these columns"));
    if (size < used)
        return quant__fail_size(err, QUANT_E_MEMORY, 0, QUANT__TEXT("the scratch is too small"),
                                used, size);
    if (!a->grid.bits) {
        result = quant_encoder_init(&e, a->grid.type, QUANT_EFFORT_REFERENCE, NULL, 0);
        if (result) return quant__fail(err, result, 0, QUANT__TEXT("no encoder for the type"));
        if (a->grid.tensor_scale > 0) e.tensor_scale = a->grid.tensor_scale;
    }
    run = quant__la_begin(a->cpu, k.linalg);
    result = quant__aw_columns(&k, a, s, err);
    for (row = row0; row < row1 && result == QUANT_OK; row += QUANT__AW_ROWS) {
        size_t n = row1 - row < QUANT__AW_ROWS ? row1 - row : QUANT__AW_ROWS;
        uint8_t *rows = out->rows ? (uint8_t *)out->rows + row * row_size : k.rows;
        for (r = 0; r < n; r++) {
            float *x = k.w + r * a->cols;
            size_t bad;
            for (i = 0; i < a->cols; i++) x[i] = w[(row + r) * ldw + i] * (s ? s[i] : 1);
            bad = quant__first_bad(x, a->cols, 65504.f);
            if (bad < a->cols)
                return quant__fail(err, QUANT_E_NUMERIC, (uint64_t)(row + r) * a->cols + bad,
                                   QUANT__TEXT("a weight is not finite or too large"));
        }
        if (a->grid.bits) {
            quant__aw_integers(&k, &run, a, out, row, n);
        } else {
            result = quant__aw_types(&k, &run, a, &e, rows, n, err);
            if (result) return result;
        }
        if (out->values) QUANT_MEMCPY(out->values + row * a->cols, k.d, n * a->cols * sizeof *k.d);
        if (out->loss) quant__aw_loss(&k, &run, a, out->loss + row, n);
    }
    return result;
}

QUANT_API quant_result quant_awq_search(float *s, size_t *best, double *loss, double *plain,
                                        const quant_awq *a, const quant_awq_matrix *mats,
                                        size_t n_mats, const double *x, const double *wsum,
                                        uint32_t steps, void *scratch, size_t size,
                                        quant_error *err)
{
    double least = 0, sum, part[QUANT__AW_ROWS];
    size_t k, m, r, i, n = quant_awq_candidates(steps), chosen = 0;
    quant_gptq_out out;
    QUANT_MEMSET(&out, 0, sizeof out);
    for (k = 0; k < n; k++) {
        quant_awq_scales(s, k, steps, x, wsum, a->cols);
        for (sum = 0, m = 0; m < n_mats; m++)
            for (r = 0; r < mats[m].rows; r += QUANT__AW_ROWS) {
                size_t rows = mats[m].rows - r < QUANT__AW_ROWS ? mats[m].rows - r : QUANT__AW_ROWS;
                quant_result result;
                out.loss = part;
                result = quant_awq_rows(&out, a, mats[m].w + r * mats[m].ldw, mats[m].ldw, 0, rows,
                                        k ? s : NULL, scratch, size, err);
                if (result) return result;
                for (i = 0; i < rows; i++) sum += part[i];
            }
        if (k == 0 && plain) *plain = sum;
        if (k == 0 || sum < least) { least = sum; chosen = k; }
    }
    quant_awq_scales(s, chosen, steps, x, wsum, a->cols);
    if (best) *best = chosen;
    if (loss) *loss = least;
    return QUANT_OK;
}

QUANT_API void quant_awq_fold_columns(float *w, size_t ldw, size_t rows, size_t cols,
                                      const float *s)
{
    size_t r, i;
    for (r = 0; r < rows; r++)
        for (i = 0; i < cols; i++) w[r * ldw + i] *= s[i];
}

QUANT_API void quant_awq_fold_rows(float *w, size_t ldw, size_t rows, size_t cols, float *bias,
                                   const float *s)
{
    size_t r, i;
    for (r = 0; r < rows; r++) {
        for (i = 0; i < cols; i++) w[r * ldw + i] /= s[r];
        if (bias) bias[r] /= s[r];
    }
}

QUANT_API void quant_awq_fold_norm(float *weight, float *bias, size_t cols, float plus,
                                   const float *s)
{
    size_t i;
    for (i = 0; i < cols; i++) {
        weight[i] = (weight[i] + plus) / s[i] - plus;
        if (bias) bias[i] /= s[i];
    }
}
#endif /* QUANT_NO_ENCODE, QUANT_NO_CALIBRATION */

/* >>stdio ----------------------------------------------------------------------------------------
 * Files by name, the path in the encoding of fopen.  Mapped where the system has it: opening then
 * costs only the pages of the header.  Whoever shortens a mapped file takes the pages from under
 * the reader (SIGBUS); that cannot be guarded against here, use quant_gguf_open_io for such files.
 * QUANT_NO_MMAP: always stdio. */
#ifndef QUANT_NO_STDIO
#include <limits.h>
#include <stdio.h>
#if defined(QUANT_NO_MMAP)
#  define QUANT__MAP 0
#elif defined(_WIN32)
#  define QUANT__MAP 1
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#  endif
#  ifndef NOMINMAX
#    define NOMINMAX
#  endif
#  include <windows.h>
#elif defined(__unix__) || defined(__APPLE__) || defined(__linux__) || defined(__HAIKU__)
#  define QUANT__MAP 2
#  include <fcntl.h>
#  include <sys/mman.h>
#  include <sys/stat.h>
#  include <unistd.h>
#else
#  define QUANT__MAP 0
#endif

/* A file as quant__map_file found it. */
typedef struct quant__mapped {
    void  *p;                       /* NULL: it cannot be mapped, though it may be readable      */
    size_t size;
    int    empty, directory;
} quant__mapped;

#if QUANT__MAP == 1
QUANT__FN void quant__map_file(quant__mapped *m, const char *path)
{
    HANDLE f, map = NULL;
    LARGE_INTEGER size;
    DWORD attributes = GetFileAttributesA(path);
    QUANT_MEMSET(m, 0, sizeof *m);
    if (attributes == INVALID_FILE_ATTRIBUTES) return;
    if (attributes & FILE_ATTRIBUTE_DIRECTORY) { m->directory = 1; return; }
    f = CreateFileA(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING,
                    FILE_ATTRIBUTE_NORMAL, NULL);
    if (f == INVALID_HANDLE_VALUE) return;
    if (GetFileSizeEx(f, &size)) {
        m->empty = size.QuadPart == 0;
        if (size.QuadPart > 0 && (uint64_t)size.QuadPart <= (size_t)-1 / 2)
            map = CreateFileMappingA(f, NULL, PAGE_READONLY, 0, 0, NULL);
        if (map) {
            m->p = MapViewOfFile(map, FILE_MAP_READ, 0, 0, 0);
            m->size = (size_t)size.QuadPart;
            CloseHandle(map);
        }
    }
    CloseHandle(f);
}

QUANT__FN void quant__unmap_file(void *map, size_t size, void *file)
{
    (void)size;
    (void)file;
    UnmapViewOfFile(map);
}
#elif QUANT__MAP == 2
QUANT__FN void quant__map_file(quant__mapped *m, const char *path)
{
    struct stat st;
#  ifdef O_CLOEXEC
    int fd = open(path, O_RDONLY | O_CLOEXEC);
#  else
    int fd = open(path, O_RDONLY);
#  endif
    QUANT_MEMSET(m, 0, sizeof *m);
    if (fd < 0) return;
    if (fstat(fd, &st) == 0) {
        m->directory = S_ISDIR(st.st_mode);
        m->empty = S_ISREG(st.st_mode) && st.st_size == 0;
        if (S_ISREG(st.st_mode) && st.st_size > 0 && (uint64_t)st.st_size <= (size_t)-1 / 2) {
            m->size = (size_t)st.st_size;
            m->p = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
            if (m->p == MAP_FAILED) m->p = NULL;
        }
    }
    close(fd);
}

QUANT__FN void quant__unmap_file(void *map, size_t size, void *file)
{
    (void)file;
    munmap(map, size);
}
#endif

QUANT__FN size_t quant__file_read(void *user, uint64_t offset, void *dst, size_t n)
{
    FILE *f = (FILE *)user;
    if (offset > LONG_MAX || fseek(f, (long)offset, SEEK_SET) != 0) return 0;
    return fread(dst, 1, n, f);
}

QUANT__FN void quant__file_close(void *map, size_t size, void *file)
{
    (void)map;
    (void)size;
    fclose((FILE *)file);
}

QUANT__FN quant_result quant__open_stdio(quant_gguf *g, const char *path, const quant_alloc *a,
                                         const quant_limits *limits)
{
    FILE *f = fopen(path, "rb");
    quant_io io;
    long size = -1;
    quant_result r;
    if (!f) return quant__fail(&g->err, QUANT_E_IO, 0, QUANT__TEXT("cannot open the file"));
    if (fgetc(f) == EOF && ferror(f)) {                 /* some systems open a directory         */
        fclose(f);
        return quant__fail(&g->err, QUANT_E_IO, 0, QUANT__TEXT("cannot read the file"));
    }
    if (fseek(f, 0, SEEK_END) == 0) size = ftell(f);
    if (size < 0) {
        fclose(f);
        return quant__fail(&g->err, QUANT_E_IO, 0, QUANT__TEXT("cannot tell the file's size"));
    }
    io.read = quant__file_read;
    io.size = (uint64_t)size;
    io.user = f;
    r = quant_gguf_open_io(g, &io, a, limits);
    if (r != QUANT_OK) { fclose(f); return r; }
    g->priv.file = f;
    g->priv.release = quant__file_close;
    return r;
}

QUANT_API quant_result quant_gguf_open_file(quant_gguf *g, const char *path, const quant_alloc *a,
                                            const quant_limits *limits)
{
    if (!g) return QUANT_E_ARG;
    QUANT_MEMSET(g, 0, sizeof *g);
    if (!path) return quant__fail(&g->err, QUANT_E_ARG, 0, QUANT__TEXT("the path is NULL"));
#if QUANT__MAP
    {
        quant__mapped m;
        quant__map_file(&m, path);
        if (m.directory)
            return quant__fail(&g->err, QUANT_E_IO, 0, QUANT__TEXT("this is a directory"));
        if (m.empty) return quant_gguf_open(g, NULL, 0, a, limits);
        if (m.p) {
            quant_result r = quant_gguf_open(g, m.p, m.size, a, limits);
            if (r != QUANT_OK) { quant__unmap_file(m.p, m.size, NULL); return r; }
            g->priv.map = m.p;
            g->priv.map_size = m.size;
            g->priv.release = quant__unmap_file;
            return r;
        }
    }
#endif
    return quant__open_stdio(g, path, a, limits);
}

QUANT__FN quant_result quant__imatrix_stdio(quant_imatrix *m, const char *path,
                                            const quant_alloc *a, const quant_limits *limits)
{
    quant_alloc alloc = quant__get_alloc(a);
    FILE *f = fopen(path, "rb");
    void *p = NULL;
    long size = -1;
    quant_result r;
    if (!f) return quant__fail(&m->err, QUANT_E_IO, 0, QUANT__TEXT("cannot open the file"));
    if (fseek(f, 0, SEEK_END) == 0) size = ftell(f);
    if (size < 0 || size == LONG_MAX) {                 /* LONG_MAX: a directory, on Linux       */
        r = quant__fail(&m->err, QUANT_E_IO, 0, QUANT__TEXT("cannot tell the file's size"));
    } else if (size && !(p = alloc.alloc(alloc.user, (size_t)size))) {
        r = quant__fail(&m->err, QUANT_E_MEMORY, 0, QUANT__TEXT("out of memory"));
    } else {
        rewind(f);
        if (size && fread(p, 1, (size_t)size, f) != (size_t)size)
            r = quant__fail(&m->err, QUANT_E_IO, 0, QUANT__TEXT("reading the file failed"));
        else
            r = quant_imatrix_open(m, p, (size_t)size, a, limits);
    }
    if (p) alloc.free(alloc.user, p, (size_t)size);
    fclose(f);
    return r;
}

QUANT_API quant_result quant_imatrix_open_file(quant_imatrix *m, const char *path,
                                               const quant_alloc *a, const quant_limits *limits)
{
    QUANT_MEMSET(m, 0, sizeof *m);
    if (!path) return quant__fail(&m->err, QUANT_E_ARG, 0, QUANT__TEXT("the path is NULL"));
#if QUANT__MAP
    {
        quant__mapped f;
        quant__map_file(&f, path);
        if (f.directory)
            return quant__fail(&m->err, QUANT_E_IO, 0, QUANT__TEXT("this is a directory"));
        if (f.p) {
            quant_result r = quant_imatrix_open(m, f.p, f.size, a, limits);
            quant__unmap_file(f.p, f.size, NULL);
            return r;
        }
    }
#endif
    return quant__imatrix_stdio(m, path, a, limits);
}
#endif /* QUANT_NO_STDIO */

/* >>kernels -------------------------------------------------------------------------------------
 * Kernels of the packed layout, written once over a few lane functions.  The region is compiled
 * for each instruction set: the lines below include the file again with QUANT__PASS set, which then
 * holds nothing but this region; the scalar pass follows in place, and so needs no inclusion. */
#if QUANT__X86 && !defined(QUANT_NO_MATMUL)
#  define QUANT__SELF
#  define QUANT__PASS QUANT_CPU_AVX2
#  define QUANT__IS_AVX2 1
#  include QUANT_SELF
#  if QUANT__HAS_AVXVNNI
#    define QUANT__IS_AVXVNNI 1
#    include QUANT_SELF
#    undef QUANT__IS_AVXVNNI
#  endif
#  undef QUANT__PASS
#  undef QUANT__IS_AVX2
#  define QUANT__PASS QUANT_CPU_AVX512VNNI
#  define QUANT__IS_AVX512 1
#  include QUANT_SELF
#  undef QUANT__PASS
#  undef QUANT__IS_AVX512
#  undef QUANT__SELF
#endif
#if QUANT__NEON && !defined(QUANT_NO_MATMUL)
#  define QUANT__SELF
#  define QUANT__IS_NEON 1
#  define QUANT__PASS QUANT_CPU_NEON
#  include QUANT_SELF
#  if QUANT__HAS_DOTPROD
#    define QUANT__IS_DOTPROD 1
#    include QUANT_SELF
#  endif
#  if QUANT__HAS_I8MM
#    define QUANT__IS_I8MM 1        /* for many tokens; for others the pass above          */
#    include QUANT_SELF
#    undef QUANT__IS_I8MM
#  endif
#  undef QUANT__IS_DOTPROD
#  undef QUANT__IS_NEON
#  undef QUANT__PASS
#  undef QUANT__SELF
#endif
#if QUANT__VECTORS && !defined(QUANT_NO_MATMUL)
#  define QUANT__SELF
#  define QUANT__PASS QUANT_CPU_WASM128
#  define QUANT__IS_VECTORS 1
#  include QUANT_SELF
#  undef QUANT__PASS
#  undef QUANT__IS_VECTORS
#  undef QUANT__SELF
#endif
#define QUANT__PASS QUANT_CPU_SCALAR
#define QUANT__IS_SCALAR 1
#endif /* QUANT_IMPLEMENTED */
#endif /* QUANT_IMPLEMENTATION */

#if defined(QUANT__PASS) && !defined(QUANT_NO_MATMUL)
/* Lanes: QUANT__W rows at a time, a register each.  V is 4 W codes, lane byte 4 r + k; I and F
 * are W integers or floats, one a row.  QUANT__FLIP is 1 where the dot product of bytes wants the
 * weights unsigned: signed codes then come with their top bit flipped, which adds 128, and the
 * sums begin at -128 sum q.  QUANT__NARROW is 1 where sums of products of bytes pass through 16
 * bits. */
#if defined(QUANT__IS_AVX512)
#define QUANT__N(name) quant__##name##_avx512vnni
#define QUANT__TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c")))
#define QUANT__LANE static inline __attribute__((always_inline, unused)) QUANT__TARGET
#define QUANT__W 16
#define QUANT__FLIP 1
#define QUANT__NARROW 0
#define QUANT__PAIRS 1                  /* two row vectors at a time: 16 + 8 + 2 of 32 registers */
typedef __m512i QUANT__N(V);
typedef __m512i QUANT__N(I);
typedef __m512i QUANT__N(Q);
typedef __m512 QUANT__N(F);

QUANT__LANE __m512i QUANT__N(load)(const uint8_t *p) { return _mm512_loadu_si512(p); }
QUANT__LANE void QUANT__N(keep)(uint8_t *p, __m512i v) { _mm512_storeu_si512(p, v); }
/* (v >> shift & mask) << to in each byte; whole words move or, by a count that is no constant,
 * turn; the mask drops strays                                                                   */
QUANT__LANE __m512i QUANT__N(field)(__m512i v, int shift, int to, int mask)
{
    const int by = shift - to;
    if (!__builtin_constant_p(by)) v = _mm512_rorv_epi32(v, _mm512_set1_epi32(by));
    else if (by > 0) v = (__m512i)((quant__u32x16)v >> by);
    else if (by < 0) v = (__m512i)((quant__u32x16)v << -by);
    return _mm512_and_si512(v, _mm512_set1_epi8((char)(mask << to)));
}
QUANT__LANE __m512i QUANT__N(less)(__m512i a, int n)          /* bytes - n                        */
{
    return _mm512_sub_epi8(a, _mm512_set1_epi8((char)n));
}
QUANT__LANE __m512i QUANT__N(either)(__m512i a, __m512i b) { return _mm512_or_si512(a, b); }
QUANT__LANE __m512i QUANT__N(flip)(__m512i v)
{
    return _mm512_xor_si512(v, _mm512_set1_epi8(-128));
}
QUANT__LANE __m512i QUANT__N(table)(const uint8_t *t)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)t));
}
QUANT__LANE __m512i QUANT__N(lookup)(__m512i t, __m512i v) { return _mm512_shuffle_epi8(t, v); }
QUANT__LANE __m512i QUANT__N(start)(int32_t n, int shift)    /* n << shift; 0 for 32             */
{
    return _mm512_sllv_epi32(_mm512_set1_epi32(n), _mm512_set1_epi32(shift));
}
QUANT__LANE __m512i QUANT__N(four)(const uint8_t *q)         /* four activations, everywhere     */
{
    int32_t four;
    QUANT_MEMCPY(&four, q, 4);
    return _mm512_set1_epi32(four);
}
QUANT__LANE __m512i QUANT__N(dot4)(__m512i acc, __m512i c, __m512i q, int most)
{
    (void)most;
    return _mm512_dpbusd_epi32(acc, c, q);
}
QUANT__LANE __m512 QUANT__N(to_float)(__m512i a) { return _mm512_cvtepi32_ps(a); }
QUANT__LANE __m512 QUANT__N(set)(float x) { return _mm512_set1_ps(x); }
QUANT__LANE __m512 QUANT__N(add)(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
QUANT__LANE __m512 QUANT__N(mul)(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
QUANT__LANE __m512 QUANT__N(get)(const void *p) { return _mm512_loadu_ps(p); }
QUANT__LANE void QUANT__N(put)(float *p, __m512 a) { _mm512_storeu_ps(p, a); }
QUANT__LANE __m512 QUANT__N(singles)(const uint8_t *p) { return QUANT__N(get)(p); }
QUANT__LANE __m512 QUANT__N(halves)(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
QUANT__LANE __m512 QUANT__N(bf16)(const uint8_t *p)
{
    __m512i v = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
}
QUANT__LANE __m512i QUANT__N(bytes)(const uint8_t *p)        /* signed                           */
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
QUANT__LANE __m512i QUANT__N(ibits)(__m512i v, int shift, int mask)
{
    return _mm512_and_si512((__m512i)((quant__u32x16)v >> shift), _mm512_set1_epi32(mask));
}
QUANT__LANE __m512i QUANT__N(power)(__m512i v, int by)       /* v 2^by, of multiples of 2^-by    */
{
    return (__m512i)(by < 0 ? (quant__i32x16)v >> -by : (quant__i32x16)v << by);
}
QUANT__LANE __m512 QUANT__N(e8m0)(const uint8_t *p)          /* as quant__e8m0_half              */
{
    __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x200000), e);
    __m512i r = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(
        r, _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2)), small));
}
/* as quant__ue4m3_half of bytes below 0x7f: a half float with its exponent 7 too small */
QUANT__LANE __m512 QUANT__N(ue4m3)(const uint8_t *p)
{
    __m256i v = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_slli_epi16(v, 7)), _mm512_set1_ps(128));
}
QUANT__LANE __m512i QUANT__N(as_int)(__m512 v) { return _mm512_castps_si512(v); }
QUANT__LANE __m512i QUANT__N(iadd)(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
QUANT__LANE __m512i QUANT__N(iset)(int32_t x) { return _mm512_set1_epi32(x); }
QUANT__LANE __m512i QUANT__N(imax)(__m512i a, __m512i b) { return _mm512_max_epi32(a, b); }
QUANT__LANE int32_t QUANT__N(hmax)(__m512i a) { return _mm512_reduce_max_epi32(a); }
QUANT__LANE int32_t QUANT__N(hsum)(__m512i a) { return _mm512_reduce_add_epi32(a); }
QUANT__LANE __m512 QUANT__N(clamp)(__m512 v)                 /* to +-127; NaN to 127             */
{
    return _mm512_max_ps(_mm512_min_ps(v, _mm512_set1_ps(127)), _mm512_set1_ps(-127));
}
QUANT__LANE void QUANT__N(narrow)(uint8_t *p, __m512i a)     /* to bytes                         */
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(a));
}

#elif defined(QUANT__IS_AVX2)
#if defined(QUANT__IS_AVXVNNI)
#define QUANT__N(name) quant__##name##_avxvnni
#define QUANT__TARGET __attribute__((target("avx2,f16c,avxvnni")))
#else
#define QUANT__N(name) quant__##name##_avx2
#define QUANT__TARGET __attribute__((target("avx2,f16c")))
#endif
#define QUANT__LANE static inline __attribute__((always_inline, unused)) QUANT__TARGET
#define QUANT__W 8
#define QUANT__PAIRS 0                  /* 4 + 4 + 4 of 16 registers                             */
typedef __m256i QUANT__N(V);
typedef __m256i QUANT__N(I);
typedef __m256i QUANT__N(Q);
typedef __m256 QUANT__N(F);

QUANT__LANE __m256i QUANT__N(load)(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
QUANT__LANE void QUANT__N(keep)(uint8_t *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}
/* (v >> shift & mask) << to in each byte; whole words move, the mask drops strays               */
QUANT__LANE __m256i QUANT__N(field)(__m256i v, int shift, int to, int mask)
{
    v = _mm256_and_si256((__m256i)((quant__u16x16)v >> shift), _mm256_set1_epi8((char)mask));
    return to ? (__m256i)((quant__u16x16)v << to) : v;
}
QUANT__LANE __m256i QUANT__N(less)(__m256i a, int n)          /* bytes - n                        */
{
    return _mm256_sub_epi8(a, _mm256_set1_epi8((char)n));
}
QUANT__LANE __m256i QUANT__N(either)(__m256i a, __m256i b) { return _mm256_or_si256(a, b); }
QUANT__LANE __m256i QUANT__N(table)(const uint8_t *t)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)t));
}
QUANT__LANE __m256i QUANT__N(lookup)(__m256i t, __m256i v) { return _mm256_shuffle_epi8(t, v); }
QUANT__LANE __m256i QUANT__N(start)(int32_t n, int shift)    /* n << shift; 0 for 32             */
{
    return _mm256_sllv_epi32(_mm256_set1_epi32(n), _mm256_set1_epi32(shift));
}
QUANT__LANE __m256i QUANT__N(four)(const uint8_t *q)         /* four activations, everywhere     */
{
    int32_t four;
    QUANT_MEMCPY(&four, q, 4);
    return _mm256_set1_epi32(four);
}
#if defined(QUANT__IS_AVXVNNI)
#define QUANT__FLIP 1
#define QUANT__NARROW 0
QUANT__LANE __m256i QUANT__N(flip)(__m256i v)
{
    return _mm256_xor_si256(v, _mm256_set1_epi8(-128));
}
QUANT__LANE __m256i QUANT__N(dot4)(__m256i acc, __m256i c, __m256i q, int most)
{
    (void)most;
    return _mm256_dpbusd_avx_epi32(acc, c, q);
}
#else
#define QUANT__FLIP 0
#define QUANT__NARROW 1
QUANT__LANE __m256i QUANT__N(flip)(__m256i v) { return v; }
typedef __m256i QUANT__N(P);
/* Two products of bytes added up in each 16 bits; such sums added; pairs of sums, widened. */
QUANT__LANE __m256i QUANT__N(pairs)(__m256i c, __m256i q) { return _mm256_maddubs_epi16(c, q); }
QUANT__LANE __m256i QUANT__N(padd)(__m256i a, __m256i b) { return _mm256_add_epi16(a, b); }
QUANT__LANE __m256i QUANT__N(widen)(__m256i v)
{
    return _mm256_madd_epi16(v, _mm256_set1_epi16(1));
}
/* acc += a group of four columns.  maddubs adds two products with saturation at 32767: up to 127
 * that is 2 * 127 * 127 = 32258; signed, |code| <= 128 unsigned times the activation with the
 * code's sign, 2 * 128 * 127 = 32512.  Each sum is widened at once. */
QUANT__LANE __m256i QUANT__N(dot4)(__m256i acc, __m256i c, __m256i q, int most)
{
    if (most == 255) q = _mm256_sign_epi8(q, c), c = _mm256_abs_epi8(c);
    return _mm256_add_epi32(acc, QUANT__N(widen)(_mm256_maddubs_epi16(c, q)));
}
#endif
QUANT__LANE __m256 QUANT__N(to_float)(__m256i a) { return _mm256_cvtepi32_ps(a); }
QUANT__LANE __m256 QUANT__N(set)(float x) { return _mm256_set1_ps(x); }
QUANT__LANE __m256 QUANT__N(add)(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
QUANT__LANE __m256 QUANT__N(mul)(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
QUANT__LANE __m256 QUANT__N(get)(const void *p) { return _mm256_loadu_ps((const float *)p); }
QUANT__LANE void QUANT__N(put)(float *p, __m256 a) { _mm256_storeu_ps(p, a); }
QUANT__LANE __m256 QUANT__N(singles)(const uint8_t *p) { return QUANT__N(get)(p); }
QUANT__LANE __m256 QUANT__N(halves)(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
QUANT__LANE __m256 QUANT__N(bf16)(const uint8_t *p)
{
    __m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
}
QUANT__LANE __m256i QUANT__N(bytes)(const uint8_t *p)        /* signed                           */
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}
QUANT__LANE __m256i QUANT__N(ibits)(__m256i v, int shift, int mask)
{
    return _mm256_and_si256((__m256i)((quant__u32x8)v >> shift), _mm256_set1_epi32(mask));
}
QUANT__LANE __m256i QUANT__N(power)(__m256i v, int by)       /* v 2^by, of multiples of 2^-by    */
{
    return (__m256i)(by < 0 ? (quant__i32x8)v >> -by : (quant__i32x8)v << by);
}
QUANT__LANE __m256 QUANT__N(e8m0)(const uint8_t *p)          /* as quant__e8m0_half              */
{
    __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), e);
    __m256i r = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    return _mm256_castsi256_ps(
        _mm256_blendv_epi8(r, small, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}
/* as quant__ue4m3_half of bytes below 0x7f: a half float with its exponent 7 too small */
QUANT__LANE __m256 QUANT__N(ue4m3)(const uint8_t *p)
{
    __m128i v = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)p));
    return _mm256_mul_ps(_mm256_cvtph_ps(_mm_slli_epi16(v, 7)), _mm256_set1_ps(128));
}
QUANT__LANE __m256i QUANT__N(as_int)(__m256 v) { return _mm256_castps_si256(v); }
QUANT__LANE __m256i QUANT__N(iadd)(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
QUANT__LANE __m256i QUANT__N(iset)(int32_t x) { return _mm256_set1_epi32(x); }
QUANT__LANE __m256i QUANT__N(imax)(__m256i a, __m256i b) { return _mm256_max_epi32(a, b); }
QUANT__LANE int32_t QUANT__N(hmax)(__m256i a)
{
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
}
QUANT__LANE int32_t QUANT__N(hsum)(__m256i a)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
QUANT__LANE __m256 QUANT__N(clamp)(__m256 v)                 /* to +-127; NaN to 127             */
{
    return _mm256_max_ps(_mm256_min_ps(v, _mm256_set1_ps(127)), _mm256_set1_ps(-127));
}
QUANT__LANE void QUANT__N(narrow)(uint8_t *p, __m256i a)     /* to bytes                         */
{
    __m128i v = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(v, v));
}

#elif defined(QUANT__IS_NEON)
#if defined(QUANT__IS_DOTPROD)
#if defined(QUANT__IS_I8MM)
#define QUANT__N(name) quant__##name##_i8mm
#define QUANT__TARGET QUANT__ARM("i8mm")
#else
#define QUANT__N(name) quant__##name##_dotprod
#define QUANT__TARGET QUANT__ARM("dotprod")
#endif
#define QUANT__NARROW 0
#else
#define QUANT__N(name) quant__##name##_neon
#define QUANT__TARGET
#define QUANT__NARROW 1
#endif
#define QUANT__LANE static inline __attribute__((always_inline, unused)) QUANT__TARGET
#define QUANT__W 4
#define QUANT__FLIP 0
#define QUANT__PAIRS 1                  /* 8 + 8 + 8 of 32 registers                             */
#define QUANT__DOT16                    /* defined here                                          */
typedef uint8x16_t QUANT__N(V);
typedef int32x4_t QUANT__N(I);
typedef float32x4_t QUANT__N(F);

QUANT__LANE uint8x16_t QUANT__N(load)(const uint8_t *p) { return vld1q_u8(p); }
QUANT__LANE void QUANT__N(keep)(uint8_t *p, uint8x16_t v) { vst1q_u8(p, v); }
/* (v >> shift & mask) << to in each byte: one shift either way, and a mask if strays are left    */
QUANT__LANE uint8x16_t QUANT__N(field)(uint8x16_t v, int shift, int to, int mask)
{
    quant__u8x16 b = (quant__u8x16)v;
    if (shift > to) b = b >> (shift - to);
    if (shift < to) b = b << (to - shift);
    if ((shift > to ? 255 >> (shift - to) : 255 << (to - shift) & 255) == mask << to)
        return (uint8x16_t)b;
    return vandq_u8((uint8x16_t)b, vdupq_n_u8((uint8_t)(mask << to)));
}
QUANT__LANE uint8x16_t QUANT__N(less)(uint8x16_t a, int n)   /* bytes - n                        */
{
    return vsubq_u8(a, vdupq_n_u8((uint8_t)n));
}
QUANT__LANE uint8x16_t QUANT__N(either)(uint8x16_t a, uint8x16_t b) { return vorrq_u8(a, b); }
QUANT__LANE uint8x16_t QUANT__N(flip)(uint8x16_t v) { return v; }
QUANT__LANE uint8x16_t QUANT__N(table)(const uint8_t *t) { return vld1q_u8(t); }
QUANT__LANE uint8x16_t QUANT__N(lookup)(uint8x16_t t, uint8x16_t v) { return vqtbl1q_u8(t, v); }
QUANT__LANE int32x4_t QUANT__N(start)(int32_t n, int shift)  /* n << shift; 0 for 32             */
{
    return vshlq_s32(vdupq_n_s32(n), vdupq_n_s32(shift));
}
#if defined(QUANT__IS_I8MM)                             /* see QUANT__N(pair)                    */
#elif defined(QUANT__IS_DOTPROD)
/* acc += four columns, those of lane k of q.  By name, because clang before 16 has the intrinsic
 * with -m flags only. */
#define QUANT__SDOT(acc, c, q, k) \
    __asm__("sdot %0.4s, %1.16b, %2.4b[" #k "]" : "+w"(acc) : "w"(c), "w"(q))
/* acc += 16 columns */
QUANT__LANE int32x4_t QUANT__N(dot16)(int32x4_t acc, uint8x16_t c0, uint8x16_t c1, uint8x16_t c2,
                                      uint8x16_t c3, const uint8_t *p, int most)
{
    const uint8x16_t q = vld1q_u8(p);
    (void)most;
    QUANT__SDOT(acc, c0, q, 0);
    QUANT__SDOT(acc, c1, q, 1);
    QUANT__SDOT(acc, c2, q, 2);
    QUANT__SDOT(acc, c3, q, 3);
    return acc;
}
#undef QUANT__SDOT
#else
QUANT__LANE int8x16_t QUANT__N(four)(const uint8_t *q)       /* four activations, everywhere     */
{
    int32_t four;
    QUANT_MEMCPY(&four, q, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
/* Products of rows 0 and 1, or 2 and 3, in 16 bits: two groups of columns come to 2 * 128 * 127 =
 * 32512 at most.                                                                                */
QUANT__LANE int16x8_t QUANT__N(low)(uint8x16_t c0, uint8x16_t c1, int8x16_t q0, int8x16_t q1)
{
    return vmlal_s8(vmull_s8(vget_low_s8(vreinterpretq_s8_u8(c0)), vget_low_s8(q0)),
                    vget_low_s8(vreinterpretq_s8_u8(c1)), vget_low_s8(q1));
}
QUANT__LANE int16x8_t QUANT__N(high)(uint8x16_t c0, uint8x16_t c1, int8x16_t q0, int8x16_t q1)
{
    return vmlal_high_s8(vmull_high_s8(vreinterpretq_s8_u8(c0), q0), vreinterpretq_s8_u8(c1), q1);
}
/* acc += 16 columns.  Codes up to 31 may be added up in 16 bits over four groups and two columns
 * of each, 4 * 2 * 31 * 127 = 31496, codes up to 63 over half as many, 32004. */
QUANT__LANE int32x4_t QUANT__N(dot16)(int32x4_t acc, uint8x16_t c0, uint8x16_t c1, uint8x16_t c2,
                                      uint8x16_t c3, const uint8_t *q, int most)
{
    const int8x16_t q0 = QUANT__N(four)(q), q1 = QUANT__N(four)(q + 4);
    const int8x16_t q2 = QUANT__N(four)(q + 8), q3 = QUANT__N(four)(q + 12);
    const int16x8_t l0 = QUANT__N(low)(c0, c1, q0, q1), h0 = QUANT__N(high)(c0, c1, q0, q1);
    if (most <= 31) {
        int16x8_t l = vmlal_s8(l0, vget_low_s8(vreinterpretq_s8_u8(c2)), vget_low_s8(q2));
        int16x8_t h = vmlal_high_s8(h0, vreinterpretq_s8_u8(c2), q2);
        l = vmlal_s8(l, vget_low_s8(vreinterpretq_s8_u8(c3)), vget_low_s8(q3));
        h = vmlal_high_s8(h, vreinterpretq_s8_u8(c3), q3);
        return vpadalq_s16(acc, vpaddq_s16(l, h));
    } else {
        int16x8_t l1 = QUANT__N(low)(c2, c3, q2, q3), h1 = QUANT__N(high)(c2, c3, q2, q3);
        if (most <= 63)
            return vpadalq_s16(vpadalq_s16(acc, vpaddq_s16(l0, h0)), vpaddq_s16(l1, h1));
        return vaddq_s32(acc, vpaddq_s32(vpadalq_s16(vpaddlq_s16(l0), l1),
                                         vpadalq_s16(vpaddlq_s16(h0), h1)));
    }
}
#endif
QUANT__LANE float32x4_t QUANT__N(to_float)(int32x4_t a) { return vcvtq_f32_s32(a); }
QUANT__LANE float32x4_t QUANT__N(set)(float x) { return vdupq_n_f32(x); }
QUANT__LANE float32x4_t QUANT__N(add)(float32x4_t a, float32x4_t b) { return a + b; }
QUANT__LANE float32x4_t QUANT__N(mul)(float32x4_t a, float32x4_t b) { return a * b; }
QUANT__LANE float32x4_t QUANT__N(get)(const void *p) { return vld1q_f32((const float *)p); }
QUANT__LANE void QUANT__N(put)(float *p, float32x4_t a) { vst1q_f32(p, a); }
QUANT__LANE float32x4_t QUANT__N(singles)(const uint8_t *p) { return QUANT__N(get)(p); }
QUANT__LANE float32x4_t QUANT__N(halves)(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
QUANT__LANE float32x4_t QUANT__N(bf16)(const uint8_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
QUANT__LANE uint8x8_t QUANT__N(word)(const uint8_t *p)       /* four bytes                       */
{
    uint32_t w;
    QUANT_MEMCPY(&w, p, 4);
    return vreinterpret_u8_u32(vdup_n_u32(w));
}
QUANT__LANE int32x4_t QUANT__N(bytes)(const uint8_t *p)      /* signed                           */
{
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(QUANT__N(word)(p)))));
}
QUANT__LANE int32x4_t QUANT__N(ibits)(int32x4_t v, int shift, int mask)
{
    return vandq_s32((int32x4_t)((quant__u32x4)v >> shift), vdupq_n_s32(mask));
}
QUANT__LANE int32x4_t QUANT__N(power)(int32x4_t v, int by)   /* v 2^by, of multiples of 2^-by    */
{
    return vshlq_s32(v, vdupq_n_s32(by));
}
QUANT__LANE float32x4_t QUANT__N(e8m0)(const uint8_t *p)     /* as quant__e8m0_half              */
{
    uint32x4_t e = vmovl_u16(vget_low_u16(vmovl_u8(QUANT__N(word)(p))));
    uint32x4_t small = vshlq_u32(vdupq_n_u32(0x200000), vreinterpretq_s32_u32(e));
    uint32x4_t r = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
    return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), small, r));
}
/* as quant__ue4m3_half of bytes below 0x7f: a half float with its exponent 7 too small */
QUANT__LANE float32x4_t QUANT__N(ue4m3)(const uint8_t *p)
{
    uint16x4_t v = vshl_n_u16(vget_low_u16(vmovl_u8(QUANT__N(word)(p))), 7);
    return vcvt_f32_f16(vreinterpret_f16_u16(v)) * vdupq_n_f32(128);
}
QUANT__LANE int32x4_t QUANT__N(as_int)(float32x4_t v) { return vreinterpretq_s32_f32(v); }
QUANT__LANE int32x4_t QUANT__N(iadd)(int32x4_t a, int32x4_t b) { return vaddq_s32(a, b); }
QUANT__LANE int32x4_t QUANT__N(iset)(int32_t x) { return vdupq_n_s32(x); }
QUANT__LANE int32x4_t QUANT__N(imax)(int32x4_t a, int32x4_t b) { return vmaxq_s32(a, b); }
QUANT__LANE int32_t QUANT__N(hmax)(int32x4_t a) { return vmaxvq_s32(a); }
QUANT__LANE int32_t QUANT__N(hsum)(int32x4_t a) { return vaddvq_s32(a); }
QUANT__LANE float32x4_t QUANT__N(clamp)(float32x4_t v)       /* to +-127; NaN to 127             */
{
    return vmaxnmq_f32(vminnmq_f32(v, vdupq_n_f32(127)), vdupq_n_f32(-127));
}
QUANT__LANE void QUANT__N(narrow)(uint8_t *p, int32x4_t a)   /* to bytes                         */
{
    int16x4_t v = vmovn_s32(a);
    uint32_t w = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(v, v))), 0);
    QUANT_MEMCPY(p, &w, 4);
}
#elif defined(QUANT__IS_VECTORS)
/* Vectors as gcc and clang offer them: unlike RISC-V's own types they may stand in arrays, and both
 * make vector instructions of them.  Intrinsics only where these say too little. */
#define QUANT__N(name) quant__##name##_vectors
#define QUANT__TARGET
#if QUANT__INSTANCES
#define QUANT__LANE static inline __attribute__((always_inline, unused))
#else                                   /* no instruction set to agree upon: calls will do       */
#define QUANT__LANE QUANT__FN
#endif
#if QUANT__WASM
#define QUANT__W 4
#define QUANT__PAIRS 1
#else
#define QUANT__W 16                     /* registers of 128 bits in fours: 16 rows cost the fewest
                                           instructions, though four tokens spill */
#define QUANT__PAIRS 0
#endif
#define QUANT__FLIP 0
#define QUANT__NARROW 1
#define QUANT__VECTOR(type, name, n) \
    typedef type QUANT__N(name) __attribute__((vector_size(n * QUANT__W)));
QUANT__VECTOR(uint8_t, V, 4)
QUANT__VECTOR(int16_t, P, 4)
QUANT__VECTOR(uint16_t, U16, 4)
QUANT__VECTOR(int32_t, I, 4)
QUANT__VECTOR(uint32_t, U32, 4)
QUANT__VECTOR(float, F, 4)
QUANT__VECTOR(uint8_t, Byte, 1)                             /* of W rows, to be widened          */
QUANT__VECTOR(int8_t, Signed, 1)
QUANT__VECTOR(uint16_t, Half, 2)
typedef struct { QUANT__N(P) even, odd; } QUANT__N(Q);      /* bytes 0 and 2, 1 and 3, widened   */
/* a value of a type from memory */
#define QUANT__FROM(type, p) \
    { QUANT__N(type) r; QUANT_MEMCPY(&r, p, sizeof r); return r; }

QUANT__LANE QUANT__N(V) QUANT__N(load)(const uint8_t *p) QUANT__FROM(V, p)
QUANT__LANE QUANT__N(F) QUANT__N(get)(const void *p) QUANT__FROM(F, p)
QUANT__LANE QUANT__N(Byte) QUANT__N(get1)(const uint8_t *p) QUANT__FROM(Byte, p)
QUANT__LANE QUANT__N(Signed) QUANT__N(get1s)(const uint8_t *p) QUANT__FROM(Signed, p)
QUANT__LANE QUANT__N(Half) QUANT__N(get2)(const uint8_t *p) QUANT__FROM(Half, p)
#undef QUANT__FROM
QUANT__LANE void QUANT__N(keep)(uint8_t *p, QUANT__N(V) v) { QUANT_MEMCPY(p, &v, sizeof v); }
QUANT__LANE void QUANT__N(put)(float *p, QUANT__N(F) v) { QUANT_MEMCPY(p, &v, sizeof v); }
QUANT__LANE QUANT__N(I) QUANT__N(iset)(int32_t x)
{
    const QUANT__N(I) zero = { 0 };
    return zero + x;
}
QUANT__LANE QUANT__N(F) QUANT__N(set)(float x)
{
    const QUANT__N(F) zero = { 0 };
    return x - zero;                                        /* keeps -0, unlike + 0              */
}
/* a where mask is -1, b where it is 0 */
QUANT__LANE QUANT__N(I) QUANT__N(pick)(QUANT__N(I) mask, QUANT__N(I) a, QUANT__N(I) b)
{
    return (mask & a) | (~mask & b);
}
/* (v >> shift & mask) << to in each byte */
QUANT__LANE QUANT__N(V) QUANT__N(field)(QUANT__N(V) v, int shift, int to, int mask)
{
#if QUANT__WASM                         /* few machines shift bytes: words, the mask drops strays */
    v = (QUANT__N(V))((QUANT__N(U16))v >> (uint16_t)shift) & (uint8_t)mask;
    return to ? (QUANT__N(V))((QUANT__N(U16))v << (uint16_t)to) : v;
#else
    v = v >> (uint8_t)shift & (uint8_t)mask;
    return to ? v << (uint8_t)to : v;
#endif
}
QUANT__LANE QUANT__N(V) QUANT__N(less)(QUANT__N(V) a, int n) { return a - (uint8_t)n; }
QUANT__LANE QUANT__N(V) QUANT__N(either)(QUANT__N(V) a, QUANT__N(V) b) { return a | b; }
QUANT__LANE QUANT__N(V) QUANT__N(flip)(QUANT__N(V) v) { return v; }
QUANT__LANE QUANT__N(I) QUANT__N(start)(int32_t n, int shift)       /* n << shift; 0 for 32      */
{
    return QUANT__N(iset)(shift < 32 ? (int32_t)((uint32_t)n << shift) : 0);
}
QUANT__LANE QUANT__N(Q) QUANT__N(four)(const uint8_t *q)    /* four activations, everywhere      */
{
    QUANT__N(P) v;
    QUANT__N(Q) r;
    int32_t four;
    QUANT_MEMCPY(&four, __builtin_assume_aligned(q, 4), 4);     /* of quant__act32               */
    v = (QUANT__N(P))QUANT__N(iset)(four);
    r.even = (QUANT__N(P))((QUANT__N(U16))v << 8) >> 8;
    r.odd = v >> 8;
    return r;
}
/* bytes 0 and 2 or 1 and 3 of codes, widened; most: 255 if signed                               */
QUANT__LANE QUANT__N(P) QUANT__N(even)(QUANT__N(V) c, int most)
{
    if (most == 255) return (QUANT__N(P))((QUANT__N(U16))c << 8) >> 8;
    return (QUANT__N(P))((QUANT__N(U16))c & 255);
}
QUANT__LANE QUANT__N(P) QUANT__N(odd)(QUANT__N(V) c, int most)
{
    return most == 255 ? (QUANT__N(P))c >> 8 : (QUANT__N(P))((QUANT__N(U16))c >> 8);
}
/* Two products added up in each 16 bits; such sums added; pairs of sums, widened. */
QUANT__LANE QUANT__N(P) QUANT__N(pairs)(QUANT__N(V) c, QUANT__N(Q) q)
{
    return QUANT__N(even)(c, 0) * q.even + QUANT__N(odd)(c, 0) * q.odd;
}
QUANT__LANE QUANT__N(P) QUANT__N(padd)(QUANT__N(P) a, QUANT__N(P) b) { return a + b; }
#if QUANT__WASM
QUANT__LANE QUANT__N(V) QUANT__N(table)(const uint8_t *t) { return QUANT__N(load)(t); }
QUANT__LANE QUANT__N(V) QUANT__N(lookup)(QUANT__N(V) t, QUANT__N(V) v)
{
    return (QUANT__N(V))wasm_i8x16_swizzle((v128_t)t, (v128_t)v);
}
QUANT__LANE QUANT__N(I) QUANT__N(widen)(QUANT__N(P) v)
{
    return (QUANT__N(I))wasm_i32x4_extadd_pairwise_i16x8((v128_t)v);
}
QUANT__LANE QUANT__N(I) QUANT__N(dot4)(QUANT__N(I) acc, QUANT__N(V) c, QUANT__N(Q) q, int most)
{
    acc += (QUANT__N(I))wasm_i32x4_dot_i16x8((v128_t)QUANT__N(even)(c, most), (v128_t)q.even);
    return acc + (QUANT__N(I))wasm_i32x4_dot_i16x8((v128_t)QUANT__N(odd)(c, most), (v128_t)q.odd);
}
QUANT__LANE QUANT__N(F) QUANT__N(clamp)(QUANT__N(F) v)      /* to +-127; NaN to 127              */
{
    v128_t r = wasm_f32x4_pmin(wasm_f32x4_splat(127), (v128_t)v);
    return (QUANT__N(F))wasm_f32x4_pmax(r, wasm_f32x4_splat(-127));
}
#else
QUANT__LANE QUANT__N(V) QUANT__N(table)(const uint8_t *t)
{
    QUANT__N(V) r;
    int i;
    for (i = 0; i < 4; i++) QUANT_MEMCPY((uint8_t *)&r + 16 * i, t, 16);
    return r;
}
/* Through memory: there is no way from a vector of fixed size to one of RISC-V's own types. */
QUANT__LANE QUANT__N(V) QUANT__N(lookup)(QUANT__N(V) t, QUANT__N(V) v)
{
    const size_t n = sizeof v;
    const uint8_t *from = (const uint8_t *)&t;
    uint8_t *at = (uint8_t *)&v;
    __riscv_vse8_v_u8m4(at, __riscv_vrgather_vv_u8m4(__riscv_vle8_v_u8m4(from, n),
                                                     __riscv_vle8_v_u8m4(at, n), n), n);
    return v;
}
QUANT__LANE QUANT__N(I) QUANT__N(widen)(QUANT__N(P) v)
{
    return ((QUANT__N(I))((QUANT__N(U32))v << 16) >> 16) + ((QUANT__N(I))v >> 16);
}
/* 2 * 127 * 127 = 32258 or, signed, 2 * 128 * 127 = 32512 in 16 bits                            */
QUANT__LANE QUANT__N(I) QUANT__N(dot4)(QUANT__N(I) acc, QUANT__N(V) c, QUANT__N(Q) q, int most)
{
    return acc + QUANT__N(widen)(QUANT__N(even)(c, most) * q.even
                                 + QUANT__N(odd)(c, most) * q.odd);
}
QUANT__LANE QUANT__N(F) QUANT__N(clamp)(QUANT__N(F) v)      /* to +-127; NaN to 127              */
{
    const QUANT__N(F) most = QUANT__N(set)(127), least = -most;
    v = (QUANT__N(F))QUANT__N(pick)(v <= most, (QUANT__N(I))v, (QUANT__N(I))most);
    return (QUANT__N(F))QUANT__N(pick)(v >= least, (QUANT__N(I))v, (QUANT__N(I))least);
}
#endif
QUANT__LANE QUANT__N(F) QUANT__N(to_float)(QUANT__N(I) a)
{
    return __builtin_convertvector(a, QUANT__N(F));
}
QUANT__LANE QUANT__N(F) QUANT__N(add)(QUANT__N(F) a, QUANT__N(F) b) { return a + b; }
QUANT__LANE QUANT__N(F) QUANT__N(mul)(QUANT__N(F) a, QUANT__N(F) b) { return a * b; }
QUANT__LANE QUANT__N(F) QUANT__N(singles)(const uint8_t *p) { return QUANT__N(get)(p); }
/* The bits of quant__half: exponent and mantissa in place make a number 2^112 too small, which the
 * product puts right, subnormal halves included (these machines do not flush); exponent 31 is set
 * to 255. */
QUANT__LANE QUANT__N(F) QUANT__N(halves)(const uint8_t *p)
{
    const QUANT__N(I) h = (QUANT__N(I))__builtin_convertvector(QUANT__N(get2)(p), QUANT__N(U32));
    const QUANT__N(I) m = (h & 0x7fff) << 13;
    const QUANT__N(F) v = (QUANT__N(F))m * 5.192296858534828e33f;
    return (QUANT__N(F))((QUANT__N(I))v | ((m >= 0x0f800000) & 0x7f800000) | (h >> 15) << 31);
}
QUANT__LANE QUANT__N(F) QUANT__N(bf16)(const uint8_t *p)
{
    return (QUANT__N(F))(__builtin_convertvector(QUANT__N(get2)(p), QUANT__N(U32)) << 16);
}
QUANT__LANE QUANT__N(I) QUANT__N(bytes)(const uint8_t *p)   /* signed                            */
{
    return __builtin_convertvector(QUANT__N(get1s)(p), QUANT__N(I));
}
QUANT__LANE QUANT__N(I) QUANT__N(ibits)(QUANT__N(I) v, int shift, int mask)
{
    return (QUANT__N(I))((QUANT__N(U32))v >> (uint32_t)shift) & mask;
}
QUANT__LANE QUANT__N(I) QUANT__N(power)(QUANT__N(I) v, int by)  /* v 2^by, of multiples of 2^-by */
{
    return by < 0 ? v >> -by : (QUANT__N(I))((QUANT__N(U32))v << (uint32_t)by);
}
QUANT__LANE QUANT__N(F) QUANT__N(e8m0)(const uint8_t *p)    /* as quant__e8m0_half               */
{
    const QUANT__N(U32) e = __builtin_convertvector(QUANT__N(get1)(p), QUANT__N(U32));
    const QUANT__N(I) small = (QUANT__N(I))((e & 1) * 0x200000 + 0x200000);    /* of e = 0 and 1 */
    return (QUANT__N(F))QUANT__N(pick)((QUANT__N(I))e < 2, small, (QUANT__N(I))((e - 1) << 23));
}
/* as quant__ue4m3_half of bytes below 0x7f: exponent and mantissa in place, 2^119 too small     */
QUANT__LANE QUANT__N(F) QUANT__N(ue4m3)(const uint8_t *p)
{
    const QUANT__N(U32) v = __builtin_convertvector(QUANT__N(get1)(p), QUANT__N(U32));
    return (QUANT__N(F))(v << 20) * 6.646139978924579e35f;
}
QUANT__LANE QUANT__N(I) QUANT__N(as_int)(QUANT__N(F) v) { return (QUANT__N(I))v; }
QUANT__LANE QUANT__N(I) QUANT__N(iadd)(QUANT__N(I) a, QUANT__N(I) b)
{
    return (QUANT__N(I))((QUANT__N(U32))a + (QUANT__N(U32))b);
}
QUANT__LANE QUANT__N(I) QUANT__N(imax)(QUANT__N(I) a, QUANT__N(I) b)
{
    return QUANT__N(pick)(a > b, a, b);
}
QUANT__LANE int32_t QUANT__N(hmax)(QUANT__N(I) a)
{
    int32_t m = a[0], i;
    for (i = 1; i < QUANT__W; i++) m = a[i] > m ? a[i] : m;
    return m;
}
QUANT__LANE int32_t QUANT__N(hsum)(QUANT__N(I) a)
{
    int32_t s = 0, i;
    for (i = 0; i < QUANT__W; i++) s += a[i];
    return s;
}
QUANT__LANE void QUANT__N(narrow)(uint8_t *p, QUANT__N(I) a)        /* to bytes                  */
{
    const QUANT__N(Byte) r = __builtin_convertvector(a, QUANT__N(Byte));
    QUANT_MEMCPY(p, &r, sizeof r);
}
#undef QUANT__VECTOR

#else
#define QUANT__N(name) quant__##name##_scalar
#define QUANT__TARGET
#define QUANT__LANE QUANT__INLINE
#define QUANT__W 16
#define QUANT__FLIP 0
#define QUANT__NARROW 0
#define QUANT__PAIRS 0
typedef struct { uint8_t v[64]; } QUANT__N(V);
typedef struct { int32_t v[16]; } QUANT__N(I);
typedef const uint8_t *QUANT__N(Q);
typedef struct { float v[16]; } QUANT__N(F);
/* a function of the lanes: body makes r.v[i] */
#define QUANT__LANES(type, n, body) \
    { QUANT__N(type) r; int i; for (i = 0; i < n; i++) r.v[i] = body; return r; }

QUANT__LANE QUANT__N(V) QUANT__N(load)(const uint8_t *p) QUANT__LANES(V, 64, p[i])
QUANT__LANE void QUANT__N(keep)(uint8_t *p, QUANT__N(V) v) { QUANT_MEMCPY(p, v.v, 64); }
QUANT__LANE QUANT__N(V) QUANT__N(field)(QUANT__N(V) v, int shift, int to, int mask)
    QUANT__LANES(V, 64, (uint8_t)((v.v[i] >> shift & mask) << to))
QUANT__LANE QUANT__N(V) QUANT__N(less)(QUANT__N(V) a, int n)
    QUANT__LANES(V, 64, (uint8_t)(a.v[i] - n))
QUANT__LANE QUANT__N(V) QUANT__N(either)(QUANT__N(V) a, QUANT__N(V) b)
    QUANT__LANES(V, 64, a.v[i] | b.v[i])
QUANT__LANE QUANT__N(V) QUANT__N(flip)(QUANT__N(V) v) { return v; }
QUANT__LANE QUANT__N(V) QUANT__N(table)(const uint8_t *t) QUANT__LANES(V, 64, t[i % 16])
QUANT__LANE QUANT__N(V) QUANT__N(lookup)(QUANT__N(V) t, QUANT__N(V) v)
    QUANT__LANES(V, 64, t.v[v.v[i] & 15])
QUANT__LANE QUANT__N(I) QUANT__N(start)(int32_t n, int shift)
    QUANT__LANES(I, 16, shift < 32 ? (int32_t)((uint32_t)n << shift) : 0)
QUANT__LANE const uint8_t *QUANT__N(four)(const uint8_t *q) { return q; }
QUANT__LANE QUANT__N(I) QUANT__N(dot4)(QUANT__N(I) acc, QUANT__N(V) c, const uint8_t *q, int most)
{
    const int32_t q0 = (int8_t)q[0], q1 = (int8_t)q[1], q2 = (int8_t)q[2], q3 = (int8_t)q[3];
    int r;
    (void)most;
    for (r = 0; r < 16; r++) {
        const uint8_t *p = c.v + 4 * r;
        acc.v[r] += (int8_t)p[0] * q0 + (int8_t)p[1] * q1 + (int8_t)p[2] * q2 + (int8_t)p[3] * q3;
    }
    return acc;
}
QUANT__LANE QUANT__N(F) QUANT__N(to_float)(QUANT__N(I) a) QUANT__LANES(F, 16, (float)a.v[i])
QUANT__LANE QUANT__N(F) QUANT__N(set)(float x) QUANT__LANES(F, 16, x)
QUANT__LANE QUANT__N(F) QUANT__N(add)(QUANT__N(F) a, QUANT__N(F) b)
    QUANT__LANES(F, 16, a.v[i] + b.v[i])
QUANT__LANE QUANT__N(F) QUANT__N(mul)(QUANT__N(F) a, QUANT__N(F) b)
    QUANT__LANES(F, 16, a.v[i] * b.v[i])
QUANT__LANE QUANT__N(F) QUANT__N(get)(const void *p)
{
    QUANT__N(F) r;
    QUANT_MEMCPY(r.v, p, sizeof r.v);
    return r;
}
QUANT__LANE void QUANT__N(put)(float *p, QUANT__N(F) a) { QUANT_MEMCPY(p, a.v, sizeof a.v); }
QUANT__LANE QUANT__N(F) QUANT__N(singles)(const uint8_t *p)      /* the file's order of bytes    */
    QUANT__LANES(F, 16, quant__float(quant__le32(p + 4 * i)))
QUANT__LANE QUANT__N(F) QUANT__N(halves)(const uint8_t *p)
    QUANT__LANES(F, 16, quant__half(quant__le16(p + 2 * i)))
QUANT__LANE QUANT__N(F) QUANT__N(bf16)(const uint8_t *p)
    QUANT__LANES(F, 16, quant__float(quant__le16(p + 2 * i) << 16))
QUANT__LANE QUANT__N(I) QUANT__N(bytes)(const uint8_t *p) QUANT__LANES(I, 16, (int8_t)p[i])
QUANT__LANE QUANT__N(I) QUANT__N(ibits)(QUANT__N(I) v, int shift, int mask)
    QUANT__LANES(I, 16, (int32_t)((uint32_t)v.v[i] >> shift & (uint32_t)mask))
QUANT__LANE QUANT__N(I) QUANT__N(power)(QUANT__N(I) v, int by)  /* v 2^by, of multiples of 2^-by */
    QUANT__LANES(I, 16, by < 0 ? v.v[i] / (1 << -by) : v.v[i] * (1 << by))
QUANT__LANE QUANT__N(F) QUANT__N(e8m0)(const uint8_t *p)
    QUANT__LANES(F, 16, quant__e8m0_half(p[i]))
QUANT__LANE QUANT__N(F) QUANT__N(ue4m3)(const uint8_t *p)
    QUANT__LANES(F, 16, quant__half((uint32_t)p[i] << 7) * 128)
QUANT__LANE QUANT__N(I) QUANT__N(as_int)(QUANT__N(F) v)
    QUANT__LANES(I, 16, (int32_t)quant__bits(v.v[i]))
QUANT__LANE QUANT__N(I) QUANT__N(iadd)(QUANT__N(I) a, QUANT__N(I) b)
    QUANT__LANES(I, 16, (int32_t)((uint32_t)a.v[i] + (uint32_t)b.v[i]))
QUANT__LANE QUANT__N(I) QUANT__N(iset)(int32_t x) QUANT__LANES(I, 16, x)
QUANT__LANE QUANT__N(I) QUANT__N(imax)(QUANT__N(I) a, QUANT__N(I) b)
    QUANT__LANES(I, 16, a.v[i] > b.v[i] ? a.v[i] : b.v[i])
QUANT__LANE int32_t QUANT__N(hmax)(QUANT__N(I) a)
{
    int32_t m = a.v[0], i;
    for (i = 1; i < 16; i++) m = a.v[i] > m ? a.v[i] : m;
    return m;
}
QUANT__LANE int32_t QUANT__N(hsum)(QUANT__N(I) a)
{
    int32_t s = 0, i;
    for (i = 0; i < 16; i++) s += a.v[i];
    return s;
}
QUANT__LANE QUANT__N(F) QUANT__N(clamp)(QUANT__N(F) v)       /* to +-127; NaN to 127             */
    QUANT__LANES(F, 16, v.v[i] <= 127 ? v.v[i] >= -127 ? v.v[i] : -127 : 127)
QUANT__LANE void QUANT__N(narrow)(uint8_t *p, QUANT__N(I) a)
{
    int i;
    for (i = 0; i < 16; i++) p[i] = (uint8_t)(a.v[i] & 255);
}
#undef QUANT__LANES
#endif

#ifndef QUANT__DOT16
/* acc += 16 columns.  In 16 bits, codes up to 31 add up to 4 * 2 * 31 * 127 = 31496 over four
 * groups, up to 63 to 2 * 2 * 63 * 127 = 32004 over two. */
QUANT__LANE QUANT__N(I) QUANT__N(dot16)(QUANT__N(I) acc, QUANT__N(V) c0, QUANT__N(V) c1,
                                        QUANT__N(V) c2, QUANT__N(V) c3, const uint8_t *q, int most)
{
    const QUANT__N(Q) q0 = QUANT__N(four)(q), q1 = QUANT__N(four)(q + 4);
    const QUANT__N(Q) q2 = QUANT__N(four)(q + 8), q3 = QUANT__N(four)(q + 12);
#if QUANT__NARROW
    if (most <= 63) {
        QUANT__N(P) a = QUANT__N(padd)(QUANT__N(pairs)(c0, q0), QUANT__N(pairs)(c1, q1));
        QUANT__N(P) b = QUANT__N(padd)(QUANT__N(pairs)(c2, q2), QUANT__N(pairs)(c3, q3));
        if (most <= 31) return QUANT__N(iadd)(acc, QUANT__N(widen)(QUANT__N(padd)(a, b)));
        return QUANT__N(iadd)(acc, QUANT__N(iadd)(QUANT__N(widen)(a), QUANT__N(widen)(b)));
    }
#endif
    acc = QUANT__N(dot4)(QUANT__N(dot4)(acc, c0, q0, most), c1, q1, most);
    return QUANT__N(dot4)(QUANT__N(dot4)(acc, c2, q2, most), c3, q3, most);
}
#endif

/* The statements for i = 0, 1 .. n - 1, written out: gcc and clang keep arrays in registers when
 * the indices are constants, but do not both unroll nested loops. */
#define QUANT__STEP(k, n, ...) if (k < (n)) { const int i = k; __VA_ARGS__ }
#define QUANT__EACH(n, ...) { \
    QUANT__STEP(0, n, __VA_ARGS__) QUANT__STEP(1, n, __VA_ARGS__) \
    QUANT__STEP(2, n, __VA_ARGS__) QUANT__STEP(3, n, __VA_ARGS__) }

/* Codes of group g of stripe j of the unit at u, rows r to r + W - 1: see enum quant__order. */
QUANT__LANE QUANT__N(V) QUANT__N(codes)(const quant__p16 *p, const uint8_t *u, int j, int g, int r,
                                        QUANT__N(V) table)
{
    const uint8_t *low = u + p->low + 4 * r, *high = u + p->high + 4 * r;
    int word = 0, shift = 0, mask = p->order <= QUANT__N64 ? 15 : p->order <= QUANT__C64 ? 3 : 1;
    QUANT__N(V) v;
    switch (p->order) {
    case QUANT__N32: word = 4 * j + g % 4; shift = 4 * (g / 4); break;
    case QUANT__N16: word = 4 * j + 2 * (g / 4) + g % 2; shift = 4 * (g / 2 % 2); break;
    case QUANT__N64: word = 8 * (j / 2) + g; shift = 4 * (j % 2); break;
    case QUANT__C128: word = 8 * (j / 4) + g; shift = 2 * (j % 4); break;
    case QUANT__C64: word = g % 4; shift = 4 * j + 2 * (g / 4); break;
    case QUANT__B128: word = j; shift = g; break;
    case QUANT__T3:
        word = 3 * j + (g < 6 ? g / 2 : g - 6);
        shift = g < 6 ? 3 * (g % 2) : 6;
        mask = g < 6 ? 7 : 3;
        break;
    case QUANT__S6:
        word = 6 * j + g % 6;
        shift = g < 6 ? 0 : 6;
        mask = g < 6 ? 63 : 3;
        break;
    default: word = 8 * j + g; break;
    }
    v = QUANT__N(load)(low + 64 * word);
    if (p->order == QUANT__W8) return QUANT__N(flip)(v);
    v = QUANT__N(field)(v, shift, 0, mask);
    if (p->order == QUANT__T3 && g >= 6)
        v = QUANT__N(either)(v, QUANT__N(field)(QUANT__N(load)(low + 64 * (3 * j + 2)), g, 2, 1));
    if (p->high_order == QUANT__H32)
        v = QUANT__N(either)(v, QUANT__N(field)(QUANT__N(load)(high), g, 4, 1));
    if (p->high_order == QUANT__H256)
        v = QUANT__N(either)(v, QUANT__N(field)(QUANT__N(load)(high + 64 * g), j, 4, 1));
    if (p->order == QUANT__S6 && g >= 6)
        v = QUANT__N(either)(
            QUANT__N(either)(v, QUANT__N(field)(QUANT__N(load)(low + 64 * (word + 2)), 6, 2, 3)),
            QUANT__N(field)(QUANT__N(load)(low + 64 * (word + 4)), 6, 4, 3));
    return p->meaning != QUANT__ITSELF ? QUANT__N(lookup)(table, v) : v;
}

QUANT__LANE QUANT__N(V) QUANT__N(values)(const quant__p16 *p)
{
    QUANT__N(V) table = QUANT__N(table)(quant__values[p->meaning]);
    return p->most == 255 ? QUANT__N(flip)(table) : table;
}

/* The 6-bit factors of a unit, joined from their two parts: signed bytes [16][row].  Once for a
 * unit, because bytes of four factors lie side by side. */
QUANT__LANE void QUANT__N(join)(uint8_t *to, const uint8_t *f)
{
    int r;
    for (r = 0; r < 4 * QUANT__TILE; r += 4 * QUANT__W, f += 4 * QUANT__W)
        QUANT__EACH(4, QUANT__N(keep)(to + 64 * i + r, QUANT__N(less)(QUANT__N(either)(
            QUANT__N(field)(QUANT__N(load)(f + 64 * (i % 2)), 4 * (i / 2), 0, 15),
            QUANT__N(field)(QUANT__N(load)(f + 128), 2 * i, 4, 3)), 32));)
}

/* Scale, or scales, and minima of stripe j, rows r to r + W - 1; joined: of F6. */
QUANT__LANE void QUANT__N(scales)(const quant__p16 *p, const uint8_t *u, const uint8_t *joined,
                                  int j, int r, QUANT__N(F) s[4])
{
    const uint8_t *mf = u + p->minfac + r;
    const uint8_t *fac = (p->scales == QUANT__F6 ? joined : u + p->fac) + r;
    QUANT__N(F) m, d = p->scales == QUANT__E8 ? QUANT__N(e8m0)(u + r)
                     : p->scales == QUANT__U4 ? QUANT__N(set)(0) : QUANT__N(halves)(u + 2 * r);
    QUANT__N(I) a, b;
    m = p->minima != QUANT__M0 ? QUANT__N(halves)(u + p->min + 2 * r) : d;
    if (p->minima == QUANT__MF) m = QUANT__N(mul)(m, QUANT__N(set)(-1));
    if (p->factor != 1) d = QUANT__N(mul)(d, QUANT__N(set)(p->factor));
    s[0] = s[1] = d;
    s[2] = s[3] = m;
    switch (p->scales) {
    case QUANT__U4:
        s[0] = QUANT__N(ue4m3)(u + 32 * j + r);
        s[1] = QUANT__N(ue4m3)(u + 32 * j + 16 + r);
        break;
    case QUANT__F1:
        s[0] = QUANT__N(mul)(d, QUANT__N(to_float)(QUANT__N(bytes)(fac + 16 * j)));
        if (p->minima == QUANT__MF)
            s[2] = QUANT__N(mul)(m, QUANT__N(to_float)(QUANT__N(bytes)(mf + 16 * j)));
        break;
    case QUANT__F2: case QUANT__F6:
        s[0] = QUANT__N(mul)(d, QUANT__N(to_float)(QUANT__N(bytes)(fac + 32 * j)));
        s[1] = QUANT__N(mul)(d, QUANT__N(to_float)(QUANT__N(bytes)(fac + 32 * j + 16)));
        break;
    case QUANT__N2:
        a = QUANT__N(bytes)(fac + 32 * j);
        b = QUANT__N(bytes)(fac + 32 * j + 16);
        s[0] = QUANT__N(mul)(d, QUANT__N(to_float)(QUANT__N(ibits)(a, 0, 15)));
        s[1] = QUANT__N(mul)(d, QUANT__N(to_float)(QUANT__N(ibits)(b, 0, 15)));
        s[2] = QUANT__N(mul)(m, QUANT__N(to_float)(QUANT__N(ibits)(a, 4, 15)));
        s[3] = QUANT__N(mul)(m, QUANT__N(to_float)(QUANT__N(ibits)(b, 4, 15)));
        break;
    default: break;
    }
}

/* Where a kernel finds the codes and scales of W rows: a packed unit, or a decoded stripe. */
typedef struct {
    const uint8_t *u, *joined;      /* unit and its 6-bit factors, if packed                     */
    int j, r;                       /* stripe of the unit, first row                             */
    const quant__stripe *dec;       /* else                                                      */
} QUANT__N(place);

QUANT__LANE QUANT__N(V) QUANT__N(take)(const quant__p16 *p, int packed, const QUANT__N(place) *at,
                                       int g, QUANT__N(V) table)
{
    return packed ? QUANT__N(codes)(p, at->u, at->j, g, at->r, table)
                  : QUANT__N(load)(at->dec->q[g] + 4 * at->r);
}

QUANT__LANE void QUANT__N(take_scales)(const quant__p16 *p, int packed, int halves, int mins,
                                       const QUANT__N(place) *at, QUANT__N(F) s[4])
{
    if (packed) {
        QUANT__N(scales)(p, at->u, at->joined, at->j, at->r, s);
        return;
    }
    s[0] = QUANT__N(get)(at->dec->s[0] + at->r);
    s[1] = halves ? QUANT__N(get)(at->dec->s[1] + at->r) : s[0];
    s[2] = mins ? QUANT__N(get)(at->dec->s[2] + at->r) : s[0];
    s[3] = mins && halves ? QUANT__N(get)(at->dec->s[3] + at->r) : s[0];
}

/* f += d_x (s codes . q) + m d_x sum q for one token, the last sum of which is acc; part: that of
 * the first 16 columns, scaled, with halves.  Two roundings for each multiply-add on every
 * instruction set, so that all give the same bytes. */
QUANT__LANE QUANT__N(F) QUANT__N(scale)(QUANT__N(F) f, QUANT__N(I) acc, QUANT__N(F) part,
                                        const QUANT__N(F) s[4], const quant__act32 *x, int halves,
                                        int mins)
{
    QUANT__N(F) d = QUANT__N(set)(x->d), v = QUANT__N(to_float)(acc);
    if (halves)
        v = QUANT__N(mul)(QUANT__N(add)(part, QUANT__N(mul)(v, s[1])), d);
    else
        v = QUANT__N(mul)(v, QUANT__N(mul)(s[0], d));
    f = QUANT__N(add)(f, v);
    if (mins && halves)
        f = QUANT__N(add)(f, QUANT__N(add)(QUANT__N(mul)(s[2], QUANT__N(set)(x->dh[0])),
                                           QUANT__N(mul)(s[3], QUANT__N(set)(x->dh[1]))));
    else if (mins)
        f = QUANT__N(add)(f, QUANT__N(mul)(s[2], QUANT__N(set)(x->ds)));
    return f;
}

/* Start of the sums of a half, n32 / 32 << shift: Q6_K, which is most often used of these types,
 * needs no shift. */
QUANT__LANE QUANT__N(I) QUANT__N(start_half)(int32_t n32, int shift, int most)
{
    const QUANT__N(I) n = QUANT__N(iset)(n32);
    return most == 63 ? n : QUANT__N(power)(n, shift - 5);
}

#ifdef QUANT__IS_I8MM
/* Matrices of 2 x 8 bytes: decoded words g and g + 1 become rows 0 and 1, 2 and 3 of eight columns.
 * For few tokens that costs what it saves. */
QUANT__LANE void QUANT__N(interleave)(quant__stripe *s)
{
    int g, r;
    for (g = 0; g < 8; g += 2)
        for (r = 0; r < 64; r += 16) {
            uint32x4_t a = vreinterpretq_u32_u8(vld1q_u8(s->q[g] + r));
            uint32x4_t b = vreinterpretq_u32_u8(vld1q_u8(s->q[g + 1] + r));
            vst1q_u8(s->q[g] + r, vreinterpretq_u8_u32(vzip1q_u32(a, b)));
            vst1q_u8(s->q[g + 1] + r, vreinterpretq_u8_u32(vzip2q_u32(a, b)));
        }
}

/* acc[0], lanes r0 t0, r0 t1, r1 t0, r1 t1, and acc[1] with rows 2 and 3 += 16 columns of tokens t0
 * and t1. */
QUANT__LANE void QUANT__N(pair)(int32x4_t acc[2], const uint8x16_t c[4], const uint8_t *t0,
                                const uint8_t *t1)
{
    const uint64x2_t a = vreinterpretq_u64_u8(vld1q_u8(t0)), b = vreinterpretq_u64_u8(vld1q_u8(t1));
    const uint64x2_t q0 = vzip1q_u64(a, b), q1 = vzip2q_u64(a, b);
#define QUANT__SMMLA(acc, c, q) \
    __asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(c), "w"(q))
    QUANT__SMMLA(acc[0], c[0], q0);
    QUANT__SMMLA(acc[1], c[1], q0);
    QUANT__SMMLA(acc[0], c[2], q1);
    QUANT__SMMLA(acc[1], c[3], q1);
#undef QUANT__SMMLA
}

/* Rows 0 to 3 of token t0 or t1 */
QUANT__LANE int32x4_t QUANT__N(token)(const int32x4_t acc[2], int which)
{
    return which ? vuzp2q_s32(acc[0], acc[1]) : vuzp1q_s32(acc[0], acc[1]);
}

/* As below, for decoded and interleaved stripes. */
#define QUANT__TWO(k, n, ...) \
    if (2 * k < (n)) { const int i = 2 * k, l = i + 1 < (n) ? i + 1 : i; __VA_ARGS__ }
#define QUANT__PAIRWISE(n, ...) QUANT__TWO(0, n, __VA_ARGS__) QUANT__TWO(1, n, __VA_ARGS__)
QUANT__LANE void QUANT__N(stripe)(float32x4_t *fa, float32x4_t *fb, const quant__p16 *p, int halves,
                                  int mins, int most, int shift, int packed, int two,
                                  const QUANT__N(place) *a, const QUANT__N(place) *b,
                                  uint8x16_t table, const quant__act32 *const *x, int n)
{
    uint8x16_t ca[4], cb[4];
    int32x4_t acc[4][2], bcc[4][2], start;              /* [i], i even: of tokens i and i + 1     */
    float32x4_t sa[4], sb[4], pa[4], pb[4];
    QUANT__N(take_scales)(p, packed, halves, mins, a, sa);
    if (two) QUANT__N(take_scales)(p, packed, halves, mins, b, sb);
    QUANT__EACH(4, ca[i] = QUANT__N(take)(p, packed, a, i, table); pa[i] = sa[0];
                if (two) cb[i] = QUANT__N(take)(p, packed, b, i, table); if (two) pb[i] = sb[0];)
#define QUANT__BOTH(f) vzip1q_s32(vdupq_n_s32(x[i]->f), vdupq_n_s32(x[l]->f))
#define QUANT__START(f) (mins ? vdupq_n_s32(0) : most == 63 ? QUANT__BOTH(f) \
    : QUANT__N(power)(QUANT__BOTH(f), shift - 5))
    QUANT__PAIRWISE(n,
        start = halves ? QUANT__START(nh[0]) : mins ? vdupq_n_s32(0)
              : vshlq_s32(QUANT__BOTH(n), vdupq_n_s32(shift));
        acc[i][0] = acc[i][1] = start;
        QUANT__N(pair)(acc[i], ca, x[i]->q, x[l]->q);
        if (halves) pa[i] = QUANT__N(to_float)(QUANT__N(token)(acc[i], 0)) * sa[0];
        if (halves && l > i) pa[l] = QUANT__N(to_float)(QUANT__N(token)(acc[i], 1)) * sa[0];
        if (two) {
            bcc[i][0] = bcc[i][1] = start;
            QUANT__N(pair)(bcc[i], cb, x[i]->q, x[l]->q);
            if (halves) pb[i] = QUANT__N(to_float)(QUANT__N(token)(bcc[i], 0)) * sb[0];
            if (halves && l > i) pb[l] = QUANT__N(to_float)(QUANT__N(token)(bcc[i], 1)) * sb[0];
        }
    )
    QUANT__EACH(4, ca[i] = QUANT__N(take)(p, packed, a, i + 4, table);
                if (two) cb[i] = QUANT__N(take)(p, packed, b, i + 4, table);)
    QUANT__PAIRWISE(n,
        if (halves) acc[i][0] = acc[i][1] = start = QUANT__START(nh[1]);
        QUANT__N(pair)(acc[i], ca, x[i]->q + 16, x[l]->q + 16);
        fa[i] = QUANT__N(scale)(fa[i], QUANT__N(token)(acc[i], 0), pa[i], sa, x[i], halves, mins);
        if (l > i)
            fa[l] = QUANT__N(scale)(fa[l], QUANT__N(token)(acc[i], 1), pa[l], sa, x[l], halves,
                                    mins);
        if (two) {
            if (halves) bcc[i][0] = bcc[i][1] = start;
            QUANT__N(pair)(bcc[i], cb, x[i]->q + 16, x[l]->q + 16);
            fb[i] = QUANT__N(scale)(fb[i], QUANT__N(token)(bcc[i], 0), pb[i], sb, x[i], halves,
                                    mins);
            if (l > i)
                fb[l] = QUANT__N(scale)(fb[l], QUANT__N(token)(bcc[i], 1), pb[l], sb, x[l], halves,
                                        mins);
        }
    )
#undef QUANT__START
#undef QUANT__BOTH
}
#undef QUANT__TWO
#undef QUANT__PAIRWISE
#else
/* One stripe times n <= 4 tokens for the row vectors at `a` and, if two, at `b`:
 * what is read of a token serves both.  halves, mins: what scales there are; shift: of the start of
 * the sums. */
QUANT__LANE void QUANT__N(stripe)(QUANT__N(F) *fa, QUANT__N(F) *fb, const quant__p16 *p, int halves,
                                  int mins, int most, int shift, int packed, int two,
                                  const QUANT__N(place) *a, const QUANT__N(place) *b,
                                  QUANT__N(V) table, const quant__act32 *const *x, int n)
{
    QUANT__N(V) ca[4], cb[4];
    QUANT__N(I) acc[4], bcc[4];
    QUANT__N(F) sa[4], sb[4], pa[4], pb[4];
    QUANT__N(take_scales)(p, packed, halves, mins, a, sa);
    if (two) QUANT__N(take_scales)(p, packed, halves, mins, b, sb);
    QUANT__EACH(4, ca[i] = QUANT__N(take)(p, packed, a, i, table);
                if (two) cb[i] = QUANT__N(take)(p, packed, b, i, table);)
    QUANT__EACH(n,
        const QUANT__N(I) start = mins ? QUANT__N(iset)(0)      /* their codes are as they are  */
                                : halves ? QUANT__N(start_half)(x[i]->nh[0], shift, most)
                                : QUANT__N(start)(x[i]->n, shift);
        acc[i] = QUANT__N(dot16)(start, ca[0], ca[1], ca[2], ca[3], x[i]->q, most);
        pa[i] = sa[0];
        if (halves) pa[i] = QUANT__N(mul)(QUANT__N(to_float)(acc[i]), sa[0]);
        if (two) {
            bcc[i] = QUANT__N(dot16)(start, cb[0], cb[1], cb[2], cb[3], x[i]->q, most);
            pb[i] = sb[0];
            if (halves) pb[i] = QUANT__N(mul)(QUANT__N(to_float)(bcc[i]), sb[0]);
        }
    )
    QUANT__EACH(4, ca[i] = QUANT__N(take)(p, packed, a, i + 4, table);
                if (two) cb[i] = QUANT__N(take)(p, packed, b, i + 4, table);)
    QUANT__EACH(n,
        const QUANT__N(I) start = mins || !halves ? QUANT__N(iset)(0)
                                : QUANT__N(start_half)(x[i]->nh[1], shift, most);
        acc[i] = QUANT__N(dot16)(halves ? start : acc[i], ca[0], ca[1], ca[2], ca[3],
                                 x[i]->q + 16, most);
        fa[i] = QUANT__N(scale)(fa[i], acc[i], pa[i], sa, x[i], halves, mins);
        if (two) {
            bcc[i] = QUANT__N(dot16)(halves ? start : bcc[i], cb[0], cb[1], cb[2], cb[3],
                                     x[i]->q + 16, most);
            fb[i] = QUANT__N(scale)(fb[i], bcc[i], pb[i], sb, x[i], halves, mins);
        }
    )
}
#endif

QUANT__INLINE int QUANT__N(has_halves)(const quant__p16 *p)
{
    return p->scales == QUANT__U4 || p->scales > QUANT__F1;
}

QUANT__INLINE int QUANT__N(shift)(const quant__p16 *p)
{
    return p->most == 255 && QUANT__FLIP ? 7 : p->offset;
}

/* n tokens, 1 or 4, from the tile itself; with fewer than 4 in the job the last ones are the first
 * one again. */
QUANT__LANE void QUANT__N(few)(const quant__job *a, const quant_type t, const int n)
{
    const quant__p16 *p = &quant__p16s[t];
    const int halves = QUANT__N(has_halves)(p), mins = p->minima != QUANT__M0;
    const int stripes = p->stripes, shift = QUANT__N(shift)(p);
    /* a super-block's first stripe needs bytes from its middle                                 */
    const int ahead = (p->size + p->stripes - 1) / p->stripes;
    /* the less arithmetic for a byte, the nearer; four tokens take longer for theirs           */
    const size_t far = (ahead < 256 ? 10240 : ahead > 400 ? 6144 : 8192) + (n > 1 ? 4096u : 0)
                     + (p->stripes == 8 ? p->low : 0u);
    const uint8_t *u = a->w;
    const QUANT__N(V) table = QUANT__N(values)(p);
    const size_t width = (size_t)a->tokens;
    const quant__act32 *x[4];
    float sums[4 * QUANT__TILE];
    uint8_t joined[16 * QUANT__TILE];
    QUANT__N(F) f[4][4];                            /* [16 / W][n] are used                      */
    QUANT__N(place) at;
    size_t s;
    int j = 0;
    at.dec = NULL;
    at.joined = joined;
    quant__sums_in(sums, a);
    QUANT__EACH(n, x[i] = a->x + (i < a->tokens ? i : 0);)
#define QUANT__ROWS(k, ...) if (k < QUANT__TILE / QUANT__W) { const int row = k; __VA_ARGS__ }
#define QUANT__ALL(...) QUANT__ROWS(0, __VA_ARGS__) QUANT__ROWS(1, __VA_ARGS__) \
    QUANT__ROWS(2, __VA_ARGS__) QUANT__ROWS(3, __VA_ARGS__)
    QUANT__ALL(QUANT__EACH(n, f[row][i] = QUANT__N(get)(sums + QUANT__TILE * i + QUANT__W * row);))
    for (s = 0; s < a->n_stripes; s++) {
        QUANT__AHEAD((uintptr_t)u + (size_t)(ahead * j) + far, ahead);
        if (p->scales == QUANT__F6 && j == 0) QUANT__N(join)(joined, u + p->fac);
        at.u = u;
        at.j = j;
        QUANT__ALL(
            at.r = row * QUANT__W;
            QUANT__N(stripe)(f[row], NULL, p, halves, mins, p->most, shift, 1, 0, &at, NULL, table,
                             x, n);)
        QUANT__EACH(n, x[i] += width;)
        if (++j == stripes) {
            j = 0;
            u += p->size;
        }
    }
    QUANT__ALL(QUANT__EACH(n, QUANT__N(put)(sums + QUANT__TILE * i + QUANT__W * row, f[row][i]);))
#undef QUANT__ALL
#undef QUANT__ROWS
    quant__sums_out(sums, a);
}

QUANT__LANE void QUANT__N(decode)(const quant__job *a, const quant_type t)
{
    const quant__p16 *p = &quant__p16s[t];
    const QUANT__N(V) table = QUANT__N(values)(p);
    const uint8_t *u = a->w + a->stripe / p->stripes * p->size;
    uint8_t joined[16 * QUANT__TILE];
    quant__stripe *to = a->decoded[0][0];
    size_t s;
    int j = (int)(a->stripe % p->stripes), r;
    for (s = 0; s < a->n_stripes; s++, to++) {
        if (p->scales == QUANT__F6 && (s == 0 || j == 0)) QUANT__N(join)(joined, u + p->fac);
        for (r = 0; r < QUANT__TILE; r += QUANT__W) {
            QUANT__N(F) d[4];
            QUANT__N(scales)(p, u, joined, j, r, d);
            QUANT__EACH(4, QUANT__N(put)(to->s[i] + r, d[i]);)
            QUANT__EACH(4,
                QUANT__N(keep)(to->q[i] + 4 * r, QUANT__N(codes)(p, u, j, i, r, table));
                QUANT__N(keep)(to->q[i + 4] + 4 * r, QUANT__N(codes)(p, u, j, i + 4, r, table));)
        }
        if (++j == p->stripes) {
            j = 0;
            u += p->size;
        }
    }
}

/* n <= 4 tokens of a job, t the first, for W rows from row r on, or twice that.  ahead: fetch the
 * activations of the next tokens. */
QUANT__LANE void QUANT__N(some)(const quant__job *a, int halves, int mins, int most, int two,
                                int ahead, size_t t, size_t r, int n)
{
    /* what is next arrives while this is multiplied                                             */
    const uint8_t *next = a->next + r / QUANT__TILE * a->tile, *next2 = next + a->tile;
    size_t from = t / 4 * a->n_stripes * a->share, k;
    const quant__p16 *p = &quant__p16s[a->type];
    const int shift = QUANT__N(shift)(p);
    const QUANT__N(V) none = QUANT__N(load)(a->decoded[0][0]->q[0]);
    const quant__act32 *x[4];
    float *y = a->y + t * a->ldy + r, *y2 = y + QUANT__W;
    QUANT__N(F) fa[4], fb[4];
    QUANT__N(place) at[2];
    size_t s;
    at[0].u = at[1].u = at[0].joined = at[1].joined = NULL;
    at[0].j = at[1].j = 0;
    at[0].r = (int)(r % QUANT__TILE);
    at[1].r = (int)((r + QUANT__W) % QUANT__TILE);
    at[0].dec = a->decoded[r / QUANT__TILE][0];
    at[1].dec = two ? a->decoded[(r + QUANT__W) / QUANT__TILE][0] : NULL;
    QUANT__EACH(n, fa[i] = QUANT__N(set)(0);)
    QUANT__EACH(n, if (two) fb[i] = QUANT__N(set)(0);)
    if (a->add) {
        QUANT__EACH(n, fa[i] = QUANT__N(get)(y + (size_t)i * a->ldy);)
        QUANT__EACH(n, if (two) fb[i] = QUANT__N(get)(y2 + (size_t)i * a->ldy);)
    }
    QUANT__EACH(n, x[i] = a->x + t / 4 * a->group + a->stripe * (size_t)n + i;)
    for (s = 0; s < a->n_stripes; s++, at[0].dec++) {
        if (s == QUANT__FRAME) {
            at[0].dec = a->decoded[r / QUANT__TILE][1];
            if (two) at[1].dec = a->decoded[(r + QUANT__W) / QUANT__TILE][1];
        }
        if (ahead) QUANT__EACH(n, QUANT__FETCH(x[i] + a->group);)
        for (k = 0; k < a->share && from < a->fetch_size; k += 64, from += 64) {
            QUANT__FETCH(next + from);
            if (two) QUANT__FETCH(next2 + from);
        }
        QUANT__N(stripe)(fa, fb, p, halves, mins, most, shift, 0, two, at, at + 1, none, x, n);
        if (two) at[1].dec++;
        QUANT__EACH(n, x[i] += n;)
    }
    QUANT__EACH(n, QUANT__N(put)(y + (size_t)i * a->ldy, fa[i]);)
    QUANT__EACH(n, if (two) QUANT__N(put)(y2 + (size_t)i * a->ldy, fb[i]);)
}

/* n <= 4 tokens, all rows of a job. */
QUANT__LANE void QUANT__N(rows)(const quant__job *a, int halves, int mins, int most, size_t t,
                                int n)
{
    size_t r = 0;
#if QUANT__PAIRS
    if (a->rows >= 2 * QUANT__W) {
        QUANT__N(some)(a, halves, mins, most, 1, 1, t, 0, n);
        for (r = 2 * QUANT__W; r + QUANT__W < a->rows; r += 2 * QUANT__W)
            QUANT__N(some)(a, halves, mins, most, 1, 0, t, r, n);
    }
#endif
    for (; r < a->rows; r += QUANT__W) QUANT__N(some)(a, halves, mins, most, 0, r == 0, t, r, n);
}

QUANT__LANE void QUANT__N(many)(const quant__job *a, int halves, int mins, int most)
{
    const size_t tokens = (size_t)a->tokens;
    size_t t = 0;
    for (; tokens - t >= 4; t += 4) QUANT__N(rows)(a, halves, mins, most, t, 4);
    if (tokens - t == 3) QUANT__N(rows)(a, halves, mins, most, t, 3);
    if (tokens - t == 2) QUANT__N(rows)(a, halves, mins, most, t, 2);
    if (tokens - t == 1) QUANT__N(rows)(a, halves, mins, most, t, 1);
}

QUANT__LANE QUANT__N(F) QUANT__N(wide)(const uint8_t *p, quant_type t)
{
    return t == QUANT_F32 ? QUANT__N(singles)(p) : t == QUANT_F16 ? QUANT__N(halves)(p)
         : QUANT__N(bf16)(p);
}

/* n tokens of a job times 16 rows of F32, F16 or BF16, added to sums: of 32 columns, even and odd
 * ones apart. */
QUANT__LANE void QUANT__N(some_floats)(float *sums, const quant__job *a, quant_type t, int n)
{
    const size_t size = 16u * (t == QUANT_F32 ? 4 : 2);              /* bytes of a column         */
    size_t c, k, end;
    int r;
    for (r = 0; r < QUANT__TILE; r += QUANT__W) {
        const uint8_t *w = a->w + (size_t)r * (size / 16u);
        QUANT__N(F) f[4], even[4], odd[4], w0, w1;
        QUANT__EACH(n, f[i] = QUANT__N(get)(sums + QUANT__TILE * i + r);)
        for (c = 0; c < a->cols; c += 32) {
            const float *x = a->xf + c;
            end = a->cols - c < 32 ? a->cols - c : 32;
            QUANT__EACH(n, even[i] = odd[i] = QUANT__N(set)(0);)
            for (k = 0; k + 2 <= end; k += 2, w += 2 * size) {
                if (r == 0) QUANT__AHEAD((uintptr_t)w + (size > 32 ? 8192 : 6656), 2 * size);
                w0 = QUANT__N(wide)(w, t);
                w1 = QUANT__N(wide)(w + size, t);
                QUANT__EACH(n,
                    const float *xi = x + (size_t)i * a->ldx + k;
                    even[i] = QUANT__N(add)(even[i], QUANT__N(mul)(w0, QUANT__N(set)(xi[0])));
                    odd[i] = QUANT__N(add)(odd[i], QUANT__N(mul)(w1, QUANT__N(set)(xi[1])));
                )
            }
            if (k < end) {
                w0 = QUANT__N(wide)(w, t);
                QUANT__EACH(n, even[i] = QUANT__N(add)(even[i], QUANT__N(mul)(
                    w0, QUANT__N(set)(x[(size_t)i * a->ldx + k])));)
            }
            QUANT__EACH(n, f[i] = QUANT__N(add)(f[i], QUANT__N(add)(even[i], odd[i]));)
        }
        QUANT__EACH(n, QUANT__N(put)(sums + QUANT__TILE * i + r, f[i]);)
    }
}

QUANT__LANE void QUANT__N(floats)(const quant__job *job, quant_type t)
{
    quant__job a = *job;
    float sums[4 * QUANT__TILE];
    int left;
    for (left = a.tokens; left > 0; left -= a.tokens) {
        a.tokens = left >= 4 ? 4 : 1;
        quant__sums_in(sums, &a);
        if (a.tokens == 4) QUANT__N(some_floats)(sums, &a, t, 4);
        else QUANT__N(some_floats)(sums, &a, t, 1);
        quant__sums_out(sums, &a);
        a.xf += (size_t)a.tokens * a.ldx;
        a.y += (size_t)a.tokens * a.ldy;
    }
}

/* 32 activations to the nearest of 255 steps, ties to even.  Magnitudes are compared as bits, which
 * order like the numbers with infinity and NaN on top: one of those makes d NaN, and so Y.  Blocks
 * below 2^-100, where 127 / amax could overflow, count as zeros.  Adding 1.5 * 2^23 leaves the
 * integer, rounded, in the low bits. */
QUANT__LANE void QUANT__N(act_block)(quant__act32 *a, const float *x)
{
    QUANT__N(I) m = QUANT__N(iset)(0), q, s;
    float d, id, max;
    int32_t sum[2];
    int i, h;
    for (i = 0; i < 32; i += QUANT__W)
        m = QUANT__N(imax)(m, QUANT__N(ibits)(QUANT__N(as_int)(QUANT__N(get)(x + i)), 0,
                                              0x7fffffff));
    max = quant__float((uint32_t)QUANT__N(hmax)(m));
    d = max / 127;
    id = 127 / max;
    if (quant__bits(max) < (127u - 100u) << 23) d = id = 0;
    if (quant__bits(max) >= 0x7f800000u) d = quant__float(0x7fc00000u), id = 0;
    for (h = 0; h < 2; h++) {
        s = QUANT__N(iset)(0);
        for (i = 16 * h; i < 16 * h + 16; i += QUANT__W) {
            QUANT__N(F) v = QUANT__N(clamp)(QUANT__N(mul)(QUANT__N(get)(x + i),
                                                          QUANT__N(set)(id)));
            q = QUANT__N(iadd)(QUANT__N(as_int)(QUANT__N(add)(v, QUANT__N(set)(12582912.f))),
                               QUANT__N(iset)(-0x4b400000));
            s = QUANT__N(iadd)(s, q);
            QUANT__N(narrow)(a->q + i, q);
        }
        sum[h] = QUANT__N(hsum)(s);
        a->nh[h] = -32 * sum[h];
        a->dh[h] = d * (float)sum[h];
    }
    a->d = d;
    a->ds = d * (float)(sum[0] + sum[1]);
    a->n = -sum[0] - sum[1];
    a->zero = 0;
}

QUANT__TARGET QUANT__FN void QUANT__N(act)(const quant__job *a)
{
    size_t t, b, n = (size_t)a->tokens;
    for (t = 0; t < n; t++)
        for (b = 0; b < a->blocks; b++)
            QUANT__N(act_block)(a->act + b * n + t, a->xf + t * a->ldx + 32 * b);
}

/* With optimization, instances for each type and number of tokens, so that what depends on them is
 * constant and accumulators stay in registers; else, and for the scalar twin, one for all. */
#if QUANT__INSTANCES && !defined(QUANT__IS_SCALAR)
#ifndef QUANT__IS_I8MM
#define QUANT__BY_TYPE(X) \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) \
    X(IQ4_XS) X(TQ2_0) X(MXFP4) X(NVFP4) X(Q1_0) X(Q2_0) QUANT__BY_IQ(X)
#ifdef QUANT_NO_IQ
#define QUANT__BY_IQ(X)
#else                                   /* IQ2_S, IQ1_M as these, TQ1_0 as TQ2_0: see _run       */
#define QUANT__BY_IQ(X) X(IQ2_XXS) X(IQ2_XS) X(IQ3_XXS) X(IQ3_S) X(IQ1_S) X(IQ1_M)
#endif
#define QUANT__INSTANCE(type) \
    QUANT__TARGET static void QUANT__N(few_##type)(const quant__job *a) \
    { \
        if (a->tokens == 1) QUANT__N(few)(a, QUANT_##type, 1); \
        else QUANT__N(few)(a, QUANT_##type, 4); \
    } \
    QUANT__TARGET static void QUANT__N(decode_##type)(const quant__job *a) \
    { QUANT__N(decode)(a, QUANT_##type); }
QUANT__BY_TYPE(QUANT__INSTANCE)
#undef QUANT__INSTANCE

QUANT__TARGET static void QUANT__N(run_type)(const quant__job *a)
{
    quant_type t = a->type;
    t = t == QUANT_IQ2_S ? QUANT_IQ2_XS : t == QUANT_TQ1_0 ? QUANT_TQ2_0 : t;  /* the same layout */
    switch (t) {
#define QUANT__CASE(type) \
    case QUANT_##type: \
        if (a->op == QUANT__FEW) QUANT__N(few_##type)(a); \
        else QUANT__N(decode_##type)(a); \
        break;
    QUANT__BY_TYPE(QUANT__CASE)
#undef QUANT__CASE
    default: break;
    }
}
#undef QUANT__BY_TYPE
#undef QUANT__BY_IQ

QUANT__TARGET static void QUANT__N(run_floats)(const quant__job *a)
{
    if (a->type == QUANT_F32) QUANT__N(floats)(a, QUANT_F32);
    else if (a->type == QUANT_F16) QUANT__N(floats)(a, QUANT_F16);
    else QUANT__N(floats)(a, QUANT_BF16);
}
#endif

/* Many tokens: halves, minima and, where sums pass through 16 bits, the largest code. */
#if QUANT__NARROW
#define QUANT__BY_KIND(X) X(0, 0, 31) X(0, 0, 127) X(0, 0, 255) X(0, 1, 31) \
    X(1, 0, 31) X(1, 0, 63) X(1, 0, 127) X(1, 1, 31)
#else
#define QUANT__BY_KIND(X) X(0, 0, 0) X(0, 1, 0) X(1, 0, 0) X(1, 0, 63) X(1, 1, 0)
#endif
#define QUANT__KIND(halves, mins, most) \
    QUANT__TARGET static void QUANT__N(many_##halves##mins##_##most)(const quant__job *a) \
    { QUANT__N(many)(a, halves, mins, most); }
QUANT__BY_KIND(QUANT__KIND)
#undef QUANT__KIND

QUANT__TARGET static void QUANT__N(run_many)(const quant__job *a)
{
    const quant__p16 *p = &quant__p16s[a->type];
    const int halves = QUANT__N(has_halves)(p), mins = p->minima != QUANT__M0;
    const int most = !QUANT__NARROW ? (p->most == 63 ? 63 : 0) : p->most < 31 ? 31 : p->most;
#define QUANT__KIND(h, m, o) \
    if (halves == h && mins == m && most == o) QUANT__N(many_##h##m##_##o)(a);
    QUANT__BY_KIND(QUANT__KIND)
#undef QUANT__KIND
}
#undef QUANT__BY_KIND
#else
QUANT__TARGET QUANT__FN void QUANT__N(run_type)(const quant__job *a)
{
    if (a->op == QUANT__FEW) QUANT__N(few)(a, a->type, a->tokens == 1 ? 1 : 4);
    else QUANT__N(decode)(a, a->type);
}
QUANT__TARGET QUANT__FN void QUANT__N(run_many)(const quant__job *a)
{
    const quant__p16 *p = &quant__p16s[a->type];
    QUANT__N(many)(a, QUANT__N(has_halves)(p), p->minima != QUANT__M0, p->most);
}
QUANT__TARGET QUANT__FN void QUANT__N(run_floats)(const quant__job *a)
{
    QUANT__N(floats)(a, a->type);
}
#endif

QUANT__TARGET QUANT__FN void QUANT__N(run)(const quant__job *a)
{
#ifdef QUANT__IS_I8MM
    size_t s;
    if (a->op == QUANT__MANY) QUANT__N(run_many)(a);
    else quant__run_dotprod(a);
    for (s = 0; a->op == QUANT__DECODE && s < a->n_stripes; s++)
        QUANT__N(interleave)(a->decoded[0][0] + s);
#else
    switch (a->op) {
    case QUANT__FEW: case QUANT__DECODE: QUANT__N(run_type)(a); break;
    case QUANT__MANY: QUANT__N(run_many)(a); break;
    case QUANT__FLOATS: QUANT__N(run_floats)(a); break;
    default: QUANT__N(act)(a); break;
    }
#endif
}
#undef QUANT__STEP
#undef QUANT__EACH
#undef QUANT__HALF
#undef QUANT__X
#undef QUANT__N
#undef QUANT__TARGET
#undef QUANT__LANE
#undef QUANT__W
#undef QUANT__FLIP
#undef QUANT__NARROW
#undef QUANT__PAIRS
#undef QUANT__DOT16
#endif /* QUANT__PASS, QUANT_NO_MATMUL */

/* >>linalg-kernels ------------------------------------------------------------------------------
 * Kernels of >>linalg-impl, written once over a few lanes and compiled for each instruction set as
 * in >>kernels; QUANT__LPASS is the pass. */
#if defined(QUANT__PASS) && !defined(QUANT__SELF) && !defined(QUANT_NO_CALIBRATION)
#  if QUANT__X86
#    undef QUANT__PASS
#    define QUANT__SELF
#    define QUANT__LPASS 1
#    include QUANT_SELF
#    undef QUANT__LPASS
#    define QUANT__LPASS 2
#    include QUANT_SELF
#    undef QUANT__LPASS
#    undef QUANT__SELF
#    define QUANT__PASS QUANT_CPU_SCALAR
#  endif
#  define QUANT__LPASS 0
#endif

#ifdef QUANT__LPASS
#if QUANT__LPASS == 2                       /* AVX-512                                           */
#define QUANT__L(name) quant__la_##name##_avx512
#define QUANT__LTARGET __attribute__((target("avx512f,avx2,fma")))
#define QUANT__LLANE static inline __attribute__((always_inline, unused)) QUANT__LTARGET
#define QUANT__LWIDE 16
#define QUANT__LROWS 8                      /* 8 x 3 accumulators of 32 registers                */
typedef __m512 QUANT__L(F);
QUANT__LLANE __m512 QUANT__L(zero)(void) { return _mm512_setzero_ps(); }
QUANT__LLANE __m512 QUANT__L(set)(float x) { return _mm512_set1_ps(x); }
QUANT__LLANE __m512 QUANT__L(load)(const float *p) { return _mm512_loadu_ps(p); }
QUANT__LLANE void QUANT__L(store)(float *p, __m512 a) { _mm512_storeu_ps(p, a); }
QUANT__LLANE __m512 QUANT__L(add)(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
QUANT__LLANE __m512 QUANT__L(sub)(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }
QUANT__LLANE __m512 QUANT__L(div)(__m512 a, __m512 b) { return _mm512_div_ps(a, b); }
QUANT__LLANE __m512 QUANT__L(fma)(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
QUANT__LLANE __m512 QUANT__L(fnma)(__m512 a, __m512 b, __m512 c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

#elif QUANT__LPASS == 1                     /* AVX2 and FMA                                      */
#define QUANT__L(name) quant__la_##name##_avx2
#define QUANT__LTARGET __attribute__((target("avx2,fma")))
#define QUANT__LLANE static inline __attribute__((always_inline, unused)) QUANT__LTARGET
#define QUANT__LWIDE 8
#define QUANT__LROWS 4                      /* 4 x 3 accumulators of 16 registers                */
typedef __m256 QUANT__L(F);
QUANT__LLANE __m256 QUANT__L(zero)(void) { return _mm256_setzero_ps(); }
QUANT__LLANE __m256 QUANT__L(set)(float x) { return _mm256_set1_ps(x); }
QUANT__LLANE __m256 QUANT__L(load)(const float *p) { return _mm256_loadu_ps(p); }
QUANT__LLANE void QUANT__L(store)(float *p, __m256 a) { _mm256_storeu_ps(p, a); }
QUANT__LLANE __m256 QUANT__L(add)(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
QUANT__LLANE __m256 QUANT__L(sub)(__m256 a, __m256 b) { return _mm256_sub_ps(a, b); }
QUANT__LLANE __m256 QUANT__L(div)(__m256 a, __m256 b) { return _mm256_div_ps(a, b); }
QUANT__LLANE __m256 QUANT__L(fma)(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
QUANT__LLANE __m256 QUANT__L(fnma)(__m256 a, __m256 b, __m256 c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

#else
#define QUANT__L(name) quant__la_##name##_scalar
#define QUANT__LTARGET
#define QUANT__LLANE QUANT__INLINE
#define QUANT__LWIDE 4
#define QUANT__LROWS 4
typedef struct { float v[4]; } QUANT__L(F);
#define QUANT__LEACH(body) \
    { QUANT__L(F) r; int i; for (i = 0; i < 4; i++) r.v[i] = body; return r; }
QUANT__LLANE QUANT__L(F) QUANT__L(zero)(void) QUANT__LEACH(0)
QUANT__LLANE QUANT__L(F) QUANT__L(set)(float x) QUANT__LEACH(x)
QUANT__LLANE QUANT__L(F) QUANT__L(load)(const float *p) QUANT__LEACH(p[i])
QUANT__LLANE void QUANT__L(store)(float *p, QUANT__L(F) a) { QUANT_MEMCPY(p, a.v, sizeof a.v); }
QUANT__LLANE QUANT__L(F) QUANT__L(add)(QUANT__L(F) a, QUANT__L(F) b)
    QUANT__LEACH(a.v[i] + b.v[i])
QUANT__LLANE QUANT__L(F) QUANT__L(sub)(QUANT__L(F) a, QUANT__L(F) b)
    QUANT__LEACH(a.v[i] - b.v[i])
QUANT__LLANE QUANT__L(F) QUANT__L(div)(QUANT__L(F) a, QUANT__L(F) b)
    QUANT__LEACH(a.v[i] / b.v[i])
QUANT__LLANE QUANT__L(F) QUANT__L(fma)(QUANT__L(F) a, QUANT__L(F) b, QUANT__L(F) c)
    QUANT__LEACH(quant__fma(a.v[i], b.v[i], c.v[i]))
QUANT__LLANE QUANT__L(F) QUANT__L(fnma)(QUANT__L(F) a, QUANT__L(F) b, QUANT__L(F) c)
    QUANT__LEACH(quant__fma(-a.v[i], b.v[i], c.v[i]))
#undef QUANT__LEACH
#endif

/* Statements for each row of a tile, written out: accumulators are variables of their own. */
#if QUANT__LROWS == 8
#define QUANT__LEACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#else
#define QUANT__LEACH_ROW(X) X(0) X(1) X(2) X(3)
#endif
#if defined(__GNUC__) || defined(__clang__)
#define QUANT__LFETCH(i) \
    __builtin_prefetch(c + i * ldc, 1); \
    if (QUANT__LWIDE >= 8) __builtin_prefetch(c + i * ldc + QUANT__LWIDE, 1); \
    if (QUANT__LWIDE >= 8) __builtin_prefetch(c + i * ldc + 2 * QUANT__LWIDE, 1);
#else
#define QUANT__LFETCH(i)
#endif

/* QUANT__LROWS rows and three vectors of columns. */
QUANT__LTARGET static void QUANT__L(part)(float *c, size_t ldc, const float *a, const float *b,
                                          size_t k, int op)
{
    typedef QUANT__L(F) F;
#define X(i) F x##i = QUANT__L(zero)(), y##i = x##i, z##i = x##i;
    QUANT__LEACH_ROW(X)
#undef X
    if (op != QUANT__LA_SET) { QUANT__LEACH_ROW(QUANT__LFETCH) }
    for (; k; k--, a += QUANT__LA_R, b += QUANT__LA_C) {
        const F p = QUANT__L(load)(b), q = QUANT__L(load)(b + QUANT__LWIDE);
        const F r = QUANT__L(load)(b + 2 * QUANT__LWIDE);
#define X(i) { const F s = QUANT__L(set)(a[i]); x##i = QUANT__L(fma)(s, p, x##i); \
        y##i = QUANT__L(fma)(s, q, y##i); z##i = QUANT__L(fma)(s, r, z##i); }
        QUANT__LEACH_ROW(X)
#undef X
    }
#define X(i) { float *d = c + i * ldc; \
        if (op == QUANT__LA_ADD) { \
            x##i = QUANT__L(add)(QUANT__L(load)(d), x##i); \
            y##i = QUANT__L(add)(QUANT__L(load)(d + QUANT__LWIDE), y##i); \
            z##i = QUANT__L(add)(QUANT__L(load)(d + 2 * QUANT__LWIDE), z##i); \
        } else if (op == QUANT__LA_SUB) { \
            x##i = QUANT__L(sub)(QUANT__L(load)(d), x##i); \
            y##i = QUANT__L(sub)(QUANT__L(load)(d + QUANT__LWIDE), y##i); \
            z##i = QUANT__L(sub)(QUANT__L(load)(d + 2 * QUANT__LWIDE), z##i); \
        } \
        QUANT__L(store)(d, x##i); \
        QUANT__L(store)(d + QUANT__LWIDE, y##i); \
        QUANT__L(store)(d + 2 * QUANT__LWIDE, z##i); }
    QUANT__LEACH_ROW(X)
#undef X
}

static void QUANT__L(tile)(float *c, size_t ldc, const float *a, const float *b, size_t k, int op)
{
    size_t i, j;
    for (j = 0; j < QUANT__LA_C; j += 3 * QUANT__LWIDE)
        for (i = 0; i < QUANT__LA_R; i += QUANT__LROWS)
            QUANT__L(part)(c + i * ldc + j, ldc, a + i, b + j, k, op);
}

/* d [8][ldd] = the transposed s [8][lds] */
QUANT__LLANE void QUANT__L(turn)(float *d, size_t ldd, const float *s, size_t lds)
{
#if QUANT__LPASS
    __m256 r[8], t[8];
    int i;
    QUANT__UNROLL
    for (i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(s + (size_t)i * lds);
    QUANT__UNROLL
    for (i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    QUANT__UNROLL
    for (i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    QUANT__UNROLL
    for (i = 0; i < 4; i++) {
        _mm256_storeu_ps(d + (size_t)i * ldd, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(d + (size_t)(i + 4) * ldd, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
#else
    size_t i, j;
    for (i = 0; i < 8; i++)
        for (j = 0; j < 8; j++) d[j * ldd + i] = s[i * lds + j];
#endif
}

/* Rows t to t + rows - 1 of a panel whose n <= width columns are side by side. */
QUANT__LLANE void QUANT__L(copy)(float *dst, const size_t width, const float *src, size_t ks,
                                 size_t rows, size_t n)
{
    size_t t, j;
    for (t = 0; t < rows; t++, dst += width, src += ks) {
        if (n >= width) {
            QUANT_MEMCPY(dst, src, width * sizeof *dst);
            continue;
        }
        for (j = 0; j < n; j++) dst[j] = src[j];
        for (; j < width; j++) dst[j] = 0;
    }
}

QUANT__LTARGET static void QUANT__L(pack)(float *dst, size_t width, const float *src, size_t ks,
                                          size_t js, size_t k, size_t n)
{
    size_t t, j, i, columns = (n + width - 1) / width * width;
    if (js == 1) {                          /* 8 rows at a time: whole cache lines of strips     */
        for (t = 0; t < k; t += 8)
            for (j = 0; j < n; j += width) {
                float *d = dst + j * k + t * width;
                const float *s = src + t * ks + j;
                size_t rows = k - t < 8 ? k - t : 8;
                if (width == QUANT__LA_R) QUANT__L(copy)(d, QUANT__LA_R, s, ks, rows, n - j);
                else QUANT__L(copy)(d, QUANT__LA_C, s, ks, rows, n - j);
            }
        return;
    }
    for (j = 0; j < columns; j += 8) {
        float *d = dst + j / width * width * k + j % width;
        const float *s = src + j * js;
        for (t = 0; j + 8 <= n && t + 8 <= k; t += 8)
            QUANT__L(turn)(d + t * width, width, s + t, js);
        for (; t < k; t++)
            for (i = 0; i < 8; i++)
                d[t * width + i] = j + i < n ? s[i * js + t] : 0;
    }
}

QUANT__LTARGET static void QUANT__L(solve)(float *x, const float *l)
{
    size_t c, i, j;
    for (c = 0; c < QUANT__LA_C; c += QUANT__LWIDE)
        for (i = 0; i < QUANT__LA_R; i++) {
            QUANT__L(F) s = QUANT__L(load)(x + i * QUANT__LA_C + c);
            for (j = 0; j < i; j++)
                s = QUANT__L(fnma)(QUANT__L(set)(l[j * QUANT__LA_R + i]),
                                   QUANT__L(load)(x + j * QUANT__LA_C + c), s);
            s = QUANT__L(div)(s, QUANT__L(set)(l[i * QUANT__LA_R + i]));
            QUANT__L(store)(x + i * QUANT__LA_C + c, s);
        }
}

QUANT__FN const quant__la *QUANT__L(kernels)(void)
{
    static const quant__la k = { QUANT__L(tile), QUANT__L(pack), QUANT__L(solve) };
    return &k;
}
#undef QUANT__L
#undef QUANT__LTARGET
#undef QUANT__LLANE
#undef QUANT__LWIDE
#undef QUANT__LROWS
#undef QUANT__LEACH_ROW
#undef QUANT__LFETCH
#endif /* QUANT__LPASS */

/* >>end -----------------------------------------------------------------------------------------*/
#if defined(QUANT__PASS) && !defined(QUANT__SELF)
#if defined(__clang__)
#  pragma clang diagnostic push
#  pragma clang diagnostic ignored "-Wignored-pragmas"
#  pragma float_control(pop)
#  pragma clang diagnostic pop
#elif defined(__GNUC__)
#  pragma GCC pop_options
#  pragma GCC diagnostic pop
#elif defined(_MSC_VER)
#  pragma float_control(pop)
#endif
#undef QUANT__TEXT
#undef QUANT__FN
#undef QUANT__INLINE
#undef QUANT__APART
#undef QUANT__STATIC_ASSERT
#undef QUANT__E
#undef QUANT__GRID
#undef QUANT__PLAIN
#undef QUANT__BLOCK
#undef QUANT__GONE
#undef QUANT__DE
#undef QUANT__DEI
#undef QUANT__DEW
#undef QUANT__GI
#undef QUANT__GN
#undef QUANT__BIT
#undef QUANT__IN
#undef QUANT__VERY_LOW
#undef QUANT__IQ2_SM
#undef QUANT__K
#undef QUANT__ENCODER
#undef QUANT__NONE
#undef QUANT__MAP
#undef QUANT__PASS
#undef QUANT__IS_SCALAR
#undef QUANT__X86
#undef QUANT__HAS_AVXVNNI
#undef QUANT__NEON
#undef QUANT__HWCAP
#undef QUANT__ARM
#undef QUANT__HAS_DOTPROD
#undef QUANT__HAS_I8MM
#undef QUANT__VECTORS
#undef QUANT__WASM
#undef QUANT__AHEAD
#undef QUANT__AHEAD1
#undef QUANT__GQ_BODY
#undef QUANT__GQ_APART
#undef QUANT__GQ_EACH
#undef QUANT__GQ_CALL
#undef QUANT__LPASS
#undef QUANT__LA_ALL
#undef QUANT__FETCH
#undef QUANT__UNROLL
#undef QUANT__INSTANCES
#ifdef QUANT__OWN_SELF
#  undef QUANT__OWN_SELF
#  undef QUANT_SELF
#endif
#endif /* QUANT__PASS */

/*
 * MIT License
 *
 * Copyright (c) 2026 the quant.h developers
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software
 * and associated documentation files (the "Software"), to deal in the Software without
 * restriction, including without limitation the rights to use, copy, modify, merge, publish,
 * distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
 * Software is furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies or
 * substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
 * BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
 * NONINFRINGEMENT.  IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
 * DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */
