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
 *   QUANT_NO_IQ            no IQ1/IQ2/IQ3 (saves 9 KiB of codebooks)
 *   QUANT_NO_STRINGS       error texts become ""
 *   QUANT_MALLOC(n), QUANT_FREE(p), QUANT_ASSERT(c), QUANT_SQRTF(x), QUANT_MEMCPY, QUANT_MEMSET,
 *   QUANT_MEMCMP           hooks
 *
 * Map (grep for `>>name`; a section uses only what stands above it; `make map` checks this list):
 *   >>start      what this is                  >>config     versions, QUANT_API
 *   >>errors     result codes                  >>types      every ggml tensor type
 *   >>memory     the allocator                 >>rows       encode and decode rows of weights
 *   >>gguf-read  open files                    >>gguf-write write files
 *   >>imatrix    importance files              >>split      models in several files
 *   >>mix        types for a whole model
 *   >>impl       the implementation starts
 *   >>platform   compiler, libc, hooks         >>float      half floats, little-endian loads
 *   >>checked    overflow-checked sizes        >>text       error texts
 *   >>names      hash index over names         >>blocks     layouts, bit by bit; type table
 *   >>grids      IQ codebooks                  >>decode     decoders: the specification
 *   >>search     scale searches                >>encode     encoders
 *   >>row-impl   encode and decode, publicly    >>reader     GGUF reader
 *   >>writer     GGUF writer                   >>imatrix-impl  importance files
 *   >>split-impl models in several files       >>mix-impl   types for a whole model
 *   >>stdio      files by name                 >>end        clean-up, licence
 */
#ifndef QUANT_H
#define QUANT_H

/* >>config --------------------------------------------------------------------------------------*/
#define QUANT_VERSION 100           /* major * 10000 + minor * 100 + patch */

#include <stddef.h>
#include <stdint.h>

#ifdef QUANT_NO_GGUF
#  define QUANT_NO_GGUF_WRITE
#  define QUANT_NO_STDIO
#endif
#ifdef QUANT_FREESTANDING
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
 * E_ARG: cols or importance wrong.  E_TYPE: no encoder.  E_NUMERIC: NaN or infinity in x (F32, F16
 * and BF16 take them) or a bad importance; err->where is then the index in x (or importance).
 * dst is undefined after an error. */
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

typedef struct quant_gguf_out {
    quant_error err;                /* the first failure; all later calls return its code       */
    uint64_t    written;            /* bytes sent so far                                        */
    uint64_t    n_kv, n_tensors;    /* added so far                                             */
    struct {                        /* private                                                  */
        quant_sink sink; quant_alloc alloc; uint32_t alignment, state;
        struct { uint8_t *p; size_t n, cap; } kv, info, names, sizes, slots;
        uint64_t data_size, tensor, left;
    } priv;
} quant_gguf_out;

/* Starts a file.  alignment: 0 = 32; a power of two from 8 to 65536.  A general.alignment key is
 * written when it is not 32; quant_gguf_put* then refuses that key. */
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

#endif /* QUANT_H */

#ifdef QUANT_IMPLEMENTATION
/* >>impl ========================================================================================*/
#ifndef QUANT_IMPLEMENTED           /* a second inclusion in the same file emits nothing         */
#define QUANT_IMPLEMENTED

/* >>platform ------------------------------------------------------------------------------------
 * The only section, with >>stdio, that knows compilers and systems. */
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
#else
#  define QUANT__FN static
#  define QUANT__INLINE static inline
#endif
#define QUANT__STATIC_ASSERT(name, c) typedef char quant__assert_##name[(c) ? 1 : -1]

/* Output bytes are a contract, so a*b+c is two roundings everywhere: contraction into FMA and
 * -ffast-math are switched off here and restored in >>end, for the user's own code.  gcc ignores
 * STDC FP_CONTRACT and takes the option; clang is the other way round. */
#if defined(__clang__)
#  pragma float_control(precise, on, push)
#  pragma clang diagnostic push
#  pragma clang diagnostic ignored "-Wunknown-pragmas"
#  pragma STDC FP_CONTRACT OFF
#  pragma clang diagnostic pop
#elif defined(__GNUC__)
#  pragma GCC push_options
#  pragma GCC optimize("no-fast-math", "fp-contract=off")
#elif defined(_MSC_VER)
#  pragma float_control(precise, on, push)
#  pragma fp_contract(off)
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ == 2
#  error "quant.h needs float arithmetic in single precision: on 32-bit x86 use -msse2 -mfpmath=sse"
#endif

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
enum { QUANT__K = 256 };            /* weights of a super-block                                  */

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
#  define QUANT__GRID_D 0
#else
#  define QUANT__GRID_D QUANT_TF_DECODE
#endif

/* The type table, in the order of the ids. */
#define QUANT__PLAIN(name, size, flags) { name, 1, size, flags }
#define QUANT__BLOCK(name, len, block, flags) \
    { name, len, sizeof(quant__##block), QUANT_TF_QUANTIZED | (flags) }
#define QUANT__GONE(name) { name, 0, 0, QUANT_TF_REMOVED }
#define QUANT__DE (QUANT_TF_DECODE | QUANT__E)
#define QUANT__DEI (QUANT__DE | QUANT_TF_IMPORTANCE)
#define QUANT__DEW (QUANT__DEI | QUANT_TF_WHOLE_ROWS)
#define QUANT__GI (QUANT__GRID_D | QUANT_TF_IMPORTANCE)
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

/* >>grids ----------------------------------------------------------------------------------------
 * Codebooks of the IQ types. */

/* >>decode ---------------------------------------------------------------------------------------
 * Decoders. */

/* >>search ---------------------------------------------------------------------------------------
 * Scale searches. */

/* >>encode ---------------------------------------------------------------------------------------
 * Encoders. */

/* >>row-impl -------------------------------------------------------------------------------------
 * The functions declared in the section on rows. */

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
 * GGUF writer. */

/* >>imatrix-impl ---------------------------------------------------------------------------------
 * Importance files. */

/* >>split-impl -----------------------------------------------------------------------------------
 * Models in several files. */

/* >>mix-impl -------------------------------------------------------------------------------------
 * Types for a whole model. */

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
#endif /* QUANT_NO_STDIO */

/* >>end -----------------------------------------------------------------------------------------*/
#if defined(__clang__)
#  pragma float_control(pop)
#elif defined(__GNUC__)
#  pragma GCC pop_options
#elif defined(_MSC_VER)
#  pragma float_control(pop)
#endif
#undef QUANT__TEXT
#undef QUANT__FN
#undef QUANT__INLINE
#undef QUANT__STATIC_ASSERT
#undef QUANT__E
#undef QUANT__GRID_D
#undef QUANT__PLAIN
#undef QUANT__BLOCK
#undef QUANT__GONE
#undef QUANT__DE
#undef QUANT__DEI
#undef QUANT__DEW
#undef QUANT__GI
#undef QUANT__GN
#undef QUANT__NONE
#undef QUANT__MAP
#endif /* QUANT_IMPLEMENTED */
#endif /* QUANT_IMPLEMENTATION */

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
