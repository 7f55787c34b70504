/* What the example programs share: a model opened through pread (one file or all shards of a
 * split set), text from files made safe to print, the types that a mix gives its tensors, and what
 * every program does at its start and at an interrupt. */
#ifndef COMMON_H
#define COMMON_H
#include "../quant.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Programs --------------------------------------------------------------------------------------*/

static inline volatile sig_atomic_t *stop_flag(void)
{
    static volatile sig_atomic_t flag;
    return &flag;
}

/* 1 once the user has interrupted the program: long work then ends at the next good place. */
static inline int stopped(void)
{
    return *stop_flag();
}

static inline void on_interrupt(int sig)
{
    (void)sig;
    *stop_flag() = 1;
}

static inline void catch_interrupt(void)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_interrupt;
    sigaction(SIGINT, &sa, NULL);
    sa.sa_handler = SIG_IGN;            /* a limit on sizes is an error of write, as a full disk  */
    sigaction(SIGXFSZ, &sa, NULL);
}

/* 1, and the usage is printed, if that is all the user wants. */
static inline int wants_help(int argc, char **argv, const char *usage)
{
    if (argc < 2 || (strcmp(argv[1], "--help") && strcmp(argv[1], "-h"))) return 0;
    fputs(usage, stdout);
    return 1;
}

/* "program: what: why" on stderr; why may be empty.  Returns 1. */
static inline int complain(const char *program, const char *what, const char *why)
{
    fprintf(stderr, "%s: %s%s%s\n", program, what, *why ? ": " : "", why);
    return 1;
}

/* Numbers ---------------------------------------------------------------------------------------*/

/* "18.0 MiB"; buf needs 32 bytes. */
static inline const char *size_text(char *buf, double bytes)
{
    static const char *unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    int i = 0;
    while (bytes >= 1024 && i < 6) { bytes /= 1024; i++; }
    snprintf(buf, 32, i ? bytes < 10 ? "%.2f %s" : "%.1f %s" : "%.0f %s", bytes, unit[i]);
    return buf;
}

/* "4096x14336"; buf needs 96 bytes. */
static inline const char *shape_text(char *buf, const quant_tensor *t)
{
    size_t n = 0;
    uint32_t i;
    for (i = 0; i < t->n_dims && i < 4; i++)
        n += (size_t)snprintf(buf + n, 96 - n, "%s%" PRIu64, i ? "x" : "", t->ne[i]);
    buf[n] = 0;
    return buf;
}

static inline double tensor_weights(const quant_tensor *t)
{
    return (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2] * (double)t->ne[3];
}

/* Text from files -------------------------------------------------------------------------------*/

/* Reads one code point of p [n > 0] and returns its bytes; 1 and U+FFFD for a byte that is not
 * UTF-8 (also: over-long forms, surrogates, past U+10FFFF). */
static inline size_t utf8_next(const char *p, size_t n, uint32_t *cp)
{
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    uint32_t c = (uint8_t)p[0], v;
    size_t len = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 :
                 c >= 0xf0 && c < 0xf5 ? 4 : 0, i;
    *cp = 0xfffd;
    if (len == 0 || len > n) return 1;
    v = len == 1 ? c : c & (0xffu >> (len + 1));
    for (i = 1; i < len; i++) {
        if (((uint8_t)p[i] & 0xc0) != 0x80) return 1;
        v = v << 6 | ((uint8_t)p[i] & 0x3f);
    }
    if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000)) return 1;
    *cp = v;
    return len;
}

/* A name or a text from a file for people to read: what could steer a terminal (control
 * characters, changes of direction) becomes '?', what does not fit is cut.  Returns buf. */
static inline const char *clean_text(char *buf, size_t size, quant_str s)
{
    size_t i = 0, n = 0;
    while (i < s.n) {
        uint32_t cp;
        size_t len = utf8_next(s.p + i, s.n - i, &cp);
        if (n + len + (i + len < s.n ? 4 : 1) > size) {
            memcpy(buf + n, "...", 4);
            return buf;
        }
        if (cp < 32 || (cp >= 127 && cp < 160) || cp == 0xfffd ||
            (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069)) buf[n++] = '?';
        else { memcpy(buf + n, s.p + i, len); n += len; }
        i += len;
    }
    buf[n] = 0;
    return buf;
}

static inline int str_is(quant_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* Files that appear when they are complete -----------------------------------------------------*/

typedef struct out_file { FILE *f; char *temp; const char *path; int error; } out_file;

/* Opens a temporary file beside `path`.  NULL, or why not. */
static inline const char *out_begin(out_file *o, const char *path)
{
    size_t n = strlen(path);
    struct stat st;
    int fd;
    o->f = NULL;
    o->path = path;
    o->error = 0;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return strerror(EISDIR);
    o->temp = (char *)malloc(n + 8);
    if (!o->temp) return "out of memory";
    memcpy(o->temp, path, n);
    memcpy(o->temp + n, ".XXXXXX", 8);
    fd = mkstemp(o->temp);
    if (fd >= 0) o->f = fdopen(fd, "wb");
    if (o->f) {
        fchmod(fd, 0644);
        return NULL;
    }
    o->error = errno;
    if (fd >= 0) { close(fd); remove(o->temp); }
    free(o->temp);
    return strerror(o->error);
}

/* Closes it, and gives it its name unless it failed.  NULL, or what went wrong here. */
static inline const char *out_end(out_file *o, int failed)
{
    const char *why = !ferror(o->f) ? NULL : o->error ? strerror(o->error) : "write error";
    if (fclose(o->f) && !why) why = strerror(errno);
    if (!why && !failed && rename(o->temp, o->path)) why = strerror(errno);
    if (why || failed) remove(o->temp);
    free(o->temp);
    return why;
}

/* Before long work: could a file of that name be written?  NULL, or why not. */
static inline const char *out_check(const char *path)
{
    out_file o;
    const char *why = out_begin(&o, path);
    return why ? why : out_end(&o, 1);
}

static inline size_t out_write(void *user, const void *src, size_t n)
{
    out_file *o = (out_file *)user;
    size_t done = fwrite(src, 1, n, o->f);
    if (done < n && !o->error) o->error = errno;
    return done;
}

static inline quant_sink out_sink(out_file *o)
{
    quant_sink s;
    s.write = out_write;
    s.user = o;
    return s;
}

/* Models ----------------------------------------------------------------------------------------*/

/* The files stay open and are read by position: unlike a mapping this leaves nothing behind in the
 * process's memory, and a file that shrinks meanwhile is an error and no SIGBUS. */
typedef struct model {
    quant_gguf *shards;
    int        *fds;
    struct stat *stats;
    size_t      n_shards, prefix_len;   /* of the path given, if it is a shard's                 */
    quant_set   set;
    char        error[400];             /* one line when model_open fails                        */
} model;

static inline size_t model_read(void *user, uint64_t offset, void *dst, size_t n)
{
    int fd = *(const int *)user;
    size_t done = 0;
    while (done < n) {
        ssize_t k = pread(fd, (char *)dst + done, n - done, (off_t)(offset + done));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) break;
        done += (size_t)k;
    }
    return done;
}

/* Opens shard i, whose place in the arrays is there already. */
static inline int model_open_shard(model *m, size_t i, const char *path)
{
    quant_io io;
    quant_result r;
    char text[240];
    m->fds[i] = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  /* a pipe must not block         */
    if (m->fds[i] < 0 || fstat(m->fds[i], &m->stats[i]) != 0) {
        snprintf(m->error, sizeof m->error, "%s: %s", path, strerror(errno));
        return 0;
    }
    if (!S_ISREG(m->stats[i].st_mode)) {
        snprintf(m->error, sizeof m->error, "%s: not a regular file", path);
        return 0;
    }
    io.read = model_read;
    io.size = (uint64_t)m->stats[i].st_size;
    io.user = &m->fds[i];
    r = quant_gguf_open_io(&m->shards[i], &io, NULL, NULL);
    if (r == QUANT_OK) return 1;
    quant_error_text(text, sizeof text, &m->shards[i].err);
    snprintf(m->error, sizeof m->error, "%s: %s", path, text);
    return 0;
}

static inline int model_reserve(model *m, size_t n)
{
    size_t i;
    m->shards = (quant_gguf *)calloc(n, sizeof *m->shards);
    m->fds = (int *)malloc(n * sizeof *m->fds);
    m->stats = (struct stat *)calloc(n, sizeof *m->stats);
    if (!m->shards || !m->fds || !m->stats) {
        snprintf(m->error, sizeof m->error, "out of memory");
        return 0;
    }
    for (i = 0; i < n; i++) m->fds[i] = -1;
    m->n_shards = n;
    return 1;
}

static inline void model_release(model *m)
{
    size_t i;
    for (i = 0; i < m->n_shards; i++) {
        quant_gguf_close(&m->shards[i]);
        if (m->fds[i] >= 0) close(m->fds[i]);
    }
    free(m->shards);
    free(m->fds);
    free(m->stats);
    m->shards = NULL;
    m->fds = NULL;
    m->stats = NULL;
    m->n_shards = 0;
}

static inline void model_close(model *m)
{
    quant_set_free(&m->set);
    model_release(m);
}

/* Opens a model: a whole file, or all shards when `path` is any one of them.  0 and m->error on
 * failure; model_close is allowed then, too. */
static inline int model_open(model *m, const char *path)
{
    uint64_t count = 1;
    uint32_t no = 0, named = 0, i;
    size_t room = strlen(path) + 32;
    char *name, text[240];
    int ok = 1;
    memset(m, 0, sizeof *m);
    if (!model_reserve(m, 1) || !model_open_shard(m, 0, path)) return 0;
    quant_gguf_get_u64(&m->shards[0], "split.count", &count);
    if (count > 1) {
        if (!quant_split_parse(path, &m->prefix_len, &no, &named) || named != count) {
            snprintf(m->error, sizeof m->error, "%s: one of %" PRIu64 " shards, and a shard's name "
                     "must end in -NNNNN-of-%05" PRIu64 ".gguf", path, count, count);
            return 0;
        }
        model_release(m);
        name = (char *)malloc(2 * room);
        if (!name || !model_reserve(m, named)) { free(name); return 0; }
        memcpy(name + room, path, m->prefix_len);
        name[room + m->prefix_len] = 0;
        for (i = 0; i < named && ok; i++)
            ok = quant_split_name(name, room, name + room, i, named) != 0 &&
                 model_open_shard(m, i, name);
        free(name);
        if (!ok) return 0;
    }
    if (quant_set_init(&m->set, m->shards, m->n_shards, NULL) == QUANT_OK) return 1;
    quant_error_text(text, sizeof text, &m->set.err);
    snprintf(m->error, sizeof m->error, "%s: %s", path, text);
    return 0;
}

/* Mixes -----------------------------------------------------------------------------------------*/

typedef struct tensor_ref {
    const quant_tensor *t;
    size_t              shard;
} tensor_ref;

static inline int tensor_ref_compare(const void *a, const void *b)
{
    quant_str x = ((const tensor_ref *)a)->t->name, y = ((const tensor_ref *)b)->t->name;
    return quant_mix_before(x, y) ? -1 : quant_mix_before(y, x);
}

/* The set's tensors in the order in which mixes count them; NULL when out of memory.  free() it. */
static inline tensor_ref *tensors_sorted(const quant_set *s)
{
    tensor_ref *r = (tensor_ref *)malloc((s->n_tensors ? s->n_tensors : 1) * sizeof *r);
    size_t i;
    if (!r) return NULL;
    for (i = 0; i < s->n_tensors; i++) r[i].t = quant_set_tensor(s, i, &r[i].shard);
    if (s->n_tensors) qsort(r, s->n_tensors, sizeof *r, tensor_ref_compare);
    return r;
}

/* The type that a mix wants for the next quantizable tensor in that order.  counts
 * [QUANT_MIX_KIND_COUNT] is zero before the first. */
static inline quant_type mix_next(int mix, const quant_mix_model *m, const quant_tensor *t,
                           uint32_t *counts)
{
    uint32_t kind = quant_mix_kind(t->name), ordinal = counts[kind]++;
    quant_type base = quant_mix_get((size_t)mix)->base;
    if (!(quant_type_get(base)->flags & QUANT_TF_QUANTIZED)) return base;
    return quant_mix_choose(mix, m, t, ordinal);
}

/* Bytes of the tensor's shape in type `to`; 0 if its rows do not fit the type. */
static inline uint64_t tensor_bytes(const quant_tensor *t, quant_type to)
{
    size_t row = t->ne[0] <= SIZE_MAX ? quant_row_size(to, (size_t)t->ne[0]) : 0;
    uint64_t rows = t->ne[1] * t->ne[2] * t->ne[3];     /* the reader checked the product        */
    return row && rows <= UINT64_MAX / row ? row * rows : 0;
}
#endif
