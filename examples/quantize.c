/* quantize: makes a quantized GGUF of a GGUF, tensor by tensor, in little memory.
 *
 *   make && build/quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M
 *   build/quantize --help
 *
 * It shows how the parts of quant.h go together: reading through a callback (pread), the rules of
 * a mix, importance, encoding by chunks in threads of one's own, and the writer behind a sink.
 * The output is the same for any number of threads.
 *
 * Shape of the program: options -> plan (a type for every tensor; all that can be refused is
 * refused here) -> shards (which tensor goes to which output file) -> engine (chunks of about 256K
 * weights are read, encoded and written in order) -> commit (temporary files get their names). */
#ifdef __linux__
#  define _GNU_SOURCE                   /* sync_file_range                                       */
#endif
#include "common.h"
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <time.h>

enum { EXIT_DONE = 0, EXIT_USAGE = 1, EXIT_INPUT = 2, EXIT_OUTPUT = 3, EXIT_REFUSED = 4,
       EXIT_SIGNAL = 130 };

enum {
    CHUNK     = 1 << 18,                /* most weights in a unit of work                        */
    TILE      = 1 << 14,                /* floats at a time, 64 KiB; a multiple of every block   */
    COPY_SIZE = 1 << 20,                /* bytes in a unit of copying                            */
    SINK_SIZE = 2 << 20,                /* bytes in a write                                      */
    MAX_THREADS = 64
};

/* Messages --------------------------------------------------------------------------------------*/

static int bar_shown;                   /* a progress bar stands on the terminal's line          */

static void bar_clear(void)
{
    if (bar_shown) fprintf(stderr, "\r%79s\r", "");
    bar_shown = 0;
}

static void say(const char *kind, const char *format, va_list a)
{
    bar_clear();
    fflush(stdout);
    fprintf(stderr, "quantize: %s", kind);
    vfprintf(stderr, format, a);
    fputc('\n', stderr);
}

/* One line on stderr; returns the exit code, so that callers can hand it on. */
static int fail(int code, const char *format, ...)
{
    va_list a;
    va_start(a, format);
    say("", format, a);
    va_end(a);
    return code;
}

static void warn(const char *format, ...)
{
    va_list a;
    va_start(a, format);
    say("warning: ", format, a);
    va_end(a);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Options ---------------------------------------------------------------------------------------*/

typedef struct rule {                   /* --tensor-type GLOB=TYPE                               */
    char      *glob;
    quant_type type;
} rule;

typedef struct override {               /* --override-kv KEY=TYPE:VALUE                          */
    char    *key;
    uint32_t type;
    int      used;
    union {
        uint8_t u8; int8_t i8; uint16_t u16; int16_t i16; uint32_t u32; int32_t i32;
        uint64_t u64; int64_t i64; float f32; double f64; quant_str str;
    } v;
} override;

typedef struct options {
    const char *in, *out, *imatrix, *report;
    const char *type_name;
    int         mix;                    /* number of the mix                                     */
    rule       *rules;
    override   *kv;
    size_t      n_rules, n_kv;
    quant_type  output_type, embedding_type;    /* QUANT_TYPE_COUNT: not given                   */
    uint32_t    effort;
    unsigned    threads;
    uint64_t    split_size;             /* 0: one file                                           */
    int         pure, no_fallback, dry_run, keep_split, quiet, help;
} options;

static const char help_text[] =
"usage: quantize [options] IN.gguf OUT.gguf TYPE\n"
"\n"
"Writes the model IN (any shard of a split model will do) to OUT with weights of TYPE.\n"
"\n"
"  --imatrix F            importance of columns from F (GGUF or .dat)\n"
"  --tensor-type GLOB=T   type T for tensors whose whole name matches GLOB (* and ?);\n"
"                         repeatable, the first match wins\n"
"  --output-type T        type of output.weight\n"
"  --embedding-type T     type of token_embd.weight\n"
"  --pure                 one type for all instead of the mix\n"
"  --no-fallback          refuse when rows do not fit a type, instead of taking another type\n"
"  --effort E             reference (default: ggml's bytes), fast or best\n"
"  --override-kv K=T:V    sets metadata; T: int u8 i8 u16 i16 u32 i32 u64 i64 float f64 bool str\n"
"  --split-max-size N     output in shards of at most N bytes; N may end in M or G (decimal)\n"
"  --keep-split           output in the same shards as the input\n"
"  --threads N            default: one per processor\n"
"  --report F.tsv         a line a tensor: name, shape, from, to, bytes, relative RMS error\n"
"  --dry-run              only say what would be done; OUT may be left out\n"
"  --quiet                only warnings and errors\n"
"  --help                 this text\n"
"\n"
"Exit codes: 0 done, 1 bad usage, 2 bad input, 3 output failed, 4 cannot do what was asked,\n"
"130 interrupted.  OUT appears only when it is complete.\n";

static void print_help(void)
{
    size_t i, n = 0;
    fputs(help_text, stdout);
    printf("\nTypes:");
    for (i = 0; quant_mix_get(i); i++) {
        const char *name = quant_mix_get(i)->name;
        if (n + strlen(name) > 85) n = 0;
        n += (size_t)printf("%s%s", n ? " " : "\n  ", name);
    }
    printf("\n");
}

static int parse_type(const char *option, const char *text, quant_type *t)
{
    *t = quant_type_find(text);
    if (*t != QUANT_TYPE_COUNT) return 0;
    return fail(EXIT_USAGE, "%s: there is no type %s", option, text);
}

/* Decimal digits with an optional unit; 0 if it is not a number above 0. */
static uint64_t parse_size(const char *text)
{
    uint64_t v, unit = 1;
    char *end;
    if (*text < '0' || *text > '9') return 0;
    errno = 0;
    v = strtoull(text, &end, 10);
    if (*end == 'M') { unit = 1000000; end++; }
    else if (*end == 'G') { unit = 1000000000; end++; }
    return *end || errno || v > UINT64_MAX / unit ? 0 : v * unit;
}

static char *copy_text(const char *p, size_t n)
{
    char *r = (char *)malloc(n + 1);
    if (!r) { fail(EXIT_OUTPUT, "out of memory"); exit(EXIT_OUTPUT); }
    memcpy(r, p, n);
    r[n] = 0;
    return r;
}

/* Makes room for one more element of an array that only grows. */
static void *grow(void *p, size_t n, size_t size)
{
    p = realloc(p, (n + 1) * size);
    if (!p) { fail(EXIT_OUTPUT, "out of memory"); exit(EXIT_OUTPUT); }
    memset((char *)p + n * size, 0, size);
    return p;
}

static int parse_rule(options *o, const char *text)
{
    const char *equals = strrchr(text, '=');
    quant_type t;
    if (!equals || equals == text)
        return fail(EXIT_USAGE, "--tensor-type: %s is not GLOB=TYPE", text);
    if (parse_type("--tensor-type", equals + 1, &t)) return EXIT_USAGE;
    o->rules = (rule *)grow(o->rules, o->n_rules, sizeof *o->rules);
    o->rules[o->n_rules].glob = copy_text(text, (size_t)(equals - text));
    o->rules[o->n_rules++].type = t;
    return 0;
}

/* An integer into the type `k->type`; 0 if it is none or does not fit. */
static int parse_integer(override *k, const char *text)
{
    static const struct { uint32_t type; int64_t min; uint64_t max; } range[] = {
        { QUANT_KV_U8, 0, UINT8_MAX },             { QUANT_KV_I8, INT8_MIN, INT8_MAX },
        { QUANT_KV_U16, 0, UINT16_MAX },           { QUANT_KV_I16, INT16_MIN, INT16_MAX },
        { QUANT_KV_U32, 0, UINT32_MAX },           { QUANT_KV_I32, INT32_MIN, INT32_MAX },
        { QUANT_KV_U64, 0, UINT64_MAX },           { QUANT_KV_I64, INT64_MIN, INT64_MAX }
    };
    size_t i = 0;
    int negative = text[0] == '-';
    uint64_t u = 0;
    int64_t s = 0;
    char *end;
    if (text[negative] < '0' || text[negative] > '9') return 0;
    errno = 0;
    if (negative) s = strtoll(text, &end, 10); else u = strtoull(text, &end, 10);
    if (errno || *end) return 0;
    while (range[i].type != k->type) i++;
    if (negative ? s < range[i].min : u > range[i].max) return 0;
    if (!negative) s = (int64_t)u;
    switch (k->type) {
        case QUANT_KV_U8:  k->v.u8 = (uint8_t)s; break;
        case QUANT_KV_I8:  k->v.i8 = (int8_t)s; break;
        case QUANT_KV_U16: k->v.u16 = (uint16_t)s; break;
        case QUANT_KV_I16: k->v.i16 = (int16_t)s; break;
        case QUANT_KV_U32: k->v.u32 = (uint32_t)s; break;
        case QUANT_KV_I32: k->v.i32 = (int32_t)s; break;
        case QUANT_KV_U64: k->v.u64 = (uint64_t)s; break;
        default:           k->v.i64 = s; break;
    }
    return 1;
}

/* Fills k from TYPE [n] and VALUE; 0 if they do not go together. */
static int parse_value(override *k, const char *type, size_t n, const char *value)
{
    static const struct { const char *name; uint32_t type; } names[] = {
        { "u8", QUANT_KV_U8 },   { "i8", QUANT_KV_I8 },   { "u16", QUANT_KV_U16 },
        { "i16", QUANT_KV_I16 }, { "u32", QUANT_KV_U32 }, { "i32", QUANT_KV_I32 },
        { "u64", QUANT_KV_U64 }, { "i64", QUANT_KV_I64 }, { "float", QUANT_KV_F32 },
        { "f32", QUANT_KV_F32 }, { "f64", QUANT_KV_F64 }, { "bool", QUANT_KV_BOOL },
        { "str", QUANT_KV_STR }
    };
    size_t i;
    char *end;
    quant_str name;
    name.p = type;
    name.n = n;
    if (str_is(name, "int")) {          /* the narrowest of three that takes it                  */
        static const uint32_t order[] = { QUANT_KV_U32, QUANT_KV_I64, QUANT_KV_U64 };
        for (i = value[0] == '-'; i < 3; i++) {
            k->type = order[i];
            if (parse_integer(k, value)) return 1;
        }
        return 0;
    }
    for (i = 0; i < sizeof names / sizeof *names && !str_is(name, names[i].name); i++) { }
    if (i == sizeof names / sizeof *names) return 0;
    k->type = names[i].type;
    switch (k->type) {
        case QUANT_KV_STR:
            k->v.str.p = value;
            k->v.str.n = strlen(value);
            return 1;
        case QUANT_KV_BOOL:
            k->v.u8 = strcmp(value, "true") == 0;
            return k->v.u8 || strcmp(value, "false") == 0;
        case QUANT_KV_F32: case QUANT_KV_F64: {
            double d = strtod(value, &end);
            if (k->type == QUANT_KV_F64) k->v.f64 = d; else k->v.f32 = (float)d;
            return end != value && !*end;
        }
        default:
            return parse_integer(k, value);
    }
}

static int parse_override(options *o, const char *text)
{
    const char *equals = strchr(text, '='), *colon = equals ? strchr(equals, ':') : NULL;
    override k;
    size_t i;
    memset(&k, 0, sizeof k);
    if (!colon || equals == text || !parse_value(&k, equals + 1, (size_t)(colon - equals - 1),
                                                 colon + 1))
        return fail(EXIT_USAGE, "--override-kv: %s is not KEY=TYPE:VALUE, see --help", text);
    k.key = copy_text(text, (size_t)(equals - text));
    for (i = 0; i < o->n_kv && strcmp(o->kv[i].key, k.key) != 0; i++) { }
    if (i < o->n_kv || strncmp(k.key, "split.", 6) == 0 || !strcmp(k.key, "general.alignment")) {
        fail(EXIT_USAGE, "--override-kv: %s %s", k.key, i < o->n_kv ? "is given twice" :
             "describes the file itself and cannot be set");
        free(k.key);
        return EXIT_USAGE;
    }
    o->kv = (override *)grow(o->kv, o->n_kv, sizeof *o->kv);
    o->kv[o->n_kv++] = k;
    return 0;
}

static int parse_effort(options *o, const char *text)
{
    if (!strcmp(text, "reference")) o->effort = QUANT_EFFORT_REFERENCE;
    else if (!strcmp(text, "fast")) o->effort = QUANT_EFFORT_FAST;
    else if (!strcmp(text, "best")) o->effort = QUANT_EFFORT_BEST;
    else return fail(EXIT_USAGE, "--effort: %s is none of reference, fast, best", text);
    return 0;
}

static int parse_threads(options *o, const char *text)
{
    uint64_t n = parse_size(text);
    if (n < 1 || n > MAX_THREADS)
        return fail(EXIT_USAGE, "--threads: %s is no number from 1 to %d", text, MAX_THREADS);
    o->threads = (unsigned)n;
    return 0;
}

/* One option that takes a value. */
static int parse_valued(options *o, const char *name, const char *v)
{
    if (!strcmp(name, "--imatrix")) o->imatrix = v;
    else if (!strcmp(name, "--report")) o->report = v;
    else if (!strcmp(name, "--tensor-type")) return parse_rule(o, v);
    else if (!strcmp(name, "--output-type")) return parse_type(name, v, &o->output_type);
    else if (!strcmp(name, "--embedding-type")) return parse_type(name, v, &o->embedding_type);
    else if (!strcmp(name, "--effort")) return parse_effort(o, v);
    else if (!strcmp(name, "--threads")) return parse_threads(o, v);
    else if (!strcmp(name, "--override-kv")) return parse_override(o, v);
    else if ((o->split_size = parse_size(v)) == 0)      /* the last one is --split-max-size      */
        return fail(EXIT_USAGE, "--split-max-size: %s is no size like 500M, 4G", v);
    return 0;
}

static int parse_option(options *o, int argc, char **argv, int *i)
{
    static const char *const valued[] = { "--imatrix", "--report", "--tensor-type",
        "--output-type", "--embedding-type", "--effort", "--threads", "--override-kv",
        "--split-max-size" };
    const struct { const char *name; int *flag; } flags[] = {
        { "--pure", &o->pure },             { "--no-fallback", &o->no_fallback },
        { "--dry-run", &o->dry_run },       { "--keep-split", &o->keep_split },
        { "--quiet", &o->quiet },           { "--help", &o->help }, { "-h", &o->help }
    };
    const char *arg = argv[*i], *equals = strchr(arg, '=');
    quant_str name;
    size_t k;
    name.p = arg;
    name.n = equals ? (size_t)(equals - arg) : strlen(arg);
    for (k = 0; k < sizeof flags / sizeof *flags; k++)
        if (str_is(name, flags[k].name)) {
            if (equals) return fail(EXIT_USAGE, "%s takes no value", flags[k].name);
            *flags[k].flag = 1;
            return 0;
        }
    for (k = 0; k < sizeof valued / sizeof *valued; k++)
        if (str_is(name, valued[k])) {
            if (!equals && *i + 1 >= argc)
                return fail(EXIT_USAGE, "%s needs a value", valued[k]);
            return parse_valued(o, valued[k], equals ? equals + 1 : argv[++*i]);
        }
    return fail(EXIT_USAGE, "there is no option %s, see --help", arg);
}

static int parse_options(options *o, int argc, char **argv)
{
    const char *words[3] = { NULL, NULL, NULL };
    int i, n = 0, code, ended = 0;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    o->output_type = o->embedding_type = QUANT_TYPE_COUNT;
    o->threads = cores < 1 ? 1 : cores > MAX_THREADS ? MAX_THREADS : (unsigned)cores;
    for (i = 1; i < argc; i++) {
        if (!ended && !strcmp(argv[i], "--")) { ended = 1; continue; }
        if (!ended && argv[i][0] == '-' && argv[i][1]) {
            code = parse_option(o, argc, argv, &i);
            if (code) return code;
            continue;
        }
        if (n == 3) return fail(EXIT_USAGE, "%s: too many arguments, see --help", argv[i]);
        words[n++] = argv[i];
    }
    if (o->help) return 0;
    if (n != 3 && !(n == 2 && o->dry_run))
        return fail(EXIT_USAGE, "needs IN.gguf, OUT.gguf and TYPE, see --help");
    o->in = words[0];
    o->out = n == 3 ? words[1] : NULL;
    o->type_name = words[n - 1];
    o->mix = quant_mix_find(o->type_name);
    if (o->mix < 0)
        return fail(EXIT_USAGE, "there is no type %s for a model, see --help", o->type_name);
    if (o->keep_split && o->split_size)
        return fail(EXIT_USAGE, "--keep-split and --split-max-size exclude each other");
    return 0;
}

/* * stands for any number of characters, ? for one. */
static int glob_match(const char *g, quant_str s)
{
    const char *star = NULL;
    size_t i = 0, back = 0;
    while (i < s.n) {
        if (*g == '*') { star = ++g; back = i; }
        else if (*g && (*g == '?' || *g == s.p[i])) { g++; i++; }
        else if (star) { g = star; i = ++back; }
        else return 0;
    }
    while (*g == '*') g++;
    return !*g;
}

/* Plan ------------------------------------------------------------------------------------------*/

typedef struct item {                   /* one tensor of the output                              */
    const quant_tensor *t;
    size_t     shard, out_shard;        /* of the input, of the output                           */
    quant_type to, wanted;              /* wanted differs where rows did not fit                 */
    uint8_t    copy;                    /* bytes as they are                                     */
    uint8_t    scaled;                  /* NVFP4: a tensor of scales follows this one            */
    uint8_t    importance;              /* there is importance for it                            */
    uint64_t   size, extra;             /* bytes of the tensor and of its scales                 */
    double     error;                   /* relative RMS; below 0: not known                      */
} item;

typedef struct quantizer {
    options       o;
    model         in;
    quant_imatrix im;
    quant_mix_model rules;
    item         *items;
    size_t        n_items, n_out;       /* n_out: output files                                   */
    char        **paths;                /* [n_out]                                               */
    FILE         *report;
    struct engine *engine;
    char          problem[300];         /* the first thing that cannot be done ...               */
    int           problem_code;         /* ... and its exit code; 0: none                        */
    size_t        n_fallbacks, n_requantized, n_unimportant, n_made;
    char          unimportant[300];     /* names of the first few                                */
    double        weights, start, done; /* done: weights so far, for the bar                     */
    double        bar_time;
} quantizer;

/* Keeps the first problem: a dry run still lists all tensors, a real one stops after the plan. */
static void problem(quantizer *q, int code, const char *format, ...)
{
    va_list a;
    if (q->problem_code) return;
    va_start(a, format);
    vsnprintf(q->problem, sizeof q->problem, format, a);
    va_end(a);
    q->problem_code = code;
}

/* The type that options and mix want for a quantizable tensor.  The mix is always asked, because
 * it counts the tensors of a kind. */
static quant_type plan_type(const quantizer *q, const quant_tensor *t, uint32_t *counts)
{
    const options *o = &q->o;
    quant_type mixed = mix_next(o->mix, &q->rules, t, counts);
    int embedding = str_is(t->name, "token_embd.weight");
    int output = str_is(t->name, "output.weight") || (embedding && q->rules.tied);
    size_t i;
    for (i = 0; i < o->n_rules; i++)
        if (glob_match(o->rules[i].glob, t->name)) return o->rules[i].type;
    if (embedding && o->embedding_type != QUANT_TYPE_COUNT) return o->embedding_type;
    if (output && o->output_type != QUANT_TYPE_COUNT) return o->output_type;
    return o->pure ? quant_mix_get((size_t)o->mix)->base : mixed;
}

/* Is there importance for the tensor?  A wrong size is refused, but for the embedding: files are
 * about where it sits as output, with other columns. */
static void plan_importance(quantizer *q, item *p, const char *name)
{
    const float *w = NULL;
    quant_result r;
    if (!q->o.imatrix || !(quant_type_get(p->to)->flags & QUANT_TF_IMPORTANCE)) return;
    r = quant_imatrix_find(&q->im, &w, p->t->name, p->t->ne[0], 0, p->t->ne[2] * p->t->ne[3]);
    if (r != QUANT_OK && str_is(p->t->name, "token_embd.weight")) {
        warn("%s: the importance has another size and is not used", name);
    } else if (r != QUANT_OK) {
        problem(q, EXIT_INPUT, "%s: the importance in %s has another size: is it of this model?",
                name, q->o.imatrix);
    } else if (w) {
        p->importance = 1;
    } else {
        size_t n = strlen(q->unimportant);
        if (q->n_unimportant++ < 5)
            snprintf(q->unimportant + n, sizeof q->unimportant - n, "%s%.48s", n ? ", " : "", name);
    }
}

/* "blk.0.ffn_up.weight" -> "blk.0.ffn_up.scale"; NULL if the tensor can have none: runtimes apply
 * no scale to the embedding and the output.  free() it. */
static char *scale_name(const quant_tensor *t)
{
    static const char suffix[] = ".weight";
    size_t n = t->name.n, k = sizeof suffix - 1;
    char *name;
    if (n <= k || memcmp(t->name.p + n - k, suffix, k) != 0) return NULL;
    if (str_is(t->name, "token_embd.weight") || str_is(t->name, "output.weight")) return NULL;
    name = copy_text(t->name.p, n);
    memcpy(name + n - k, ".scale", sizeof ".scale");
    return name;
}

static void plan_scale(quantizer *q, item *p)
{
    char *name = scale_name(p->t);
    if (!name) return;
    p->scaled = 1;
    p->extra = p->t->ne[2] * p->t->ne[3] * 4;
    if (quant_set_find(&q->in.set, name, NULL)) {
        char text[100];
        quant_str s;
        s.p = name;
        s.n = strlen(name);
        problem(q, EXIT_REFUSED, "the input has a tensor %s already: choose another type for its "
                "weights with --tensor-type", clean_text(text, sizeof text, s));
    }
    free(name);
}

static void plan_fallback(quantizer *q, item *p, const char *name)
{
    p->to = quant_mix_fallback(p->wanted, p->t->ne[0]);
    if (p->to == p->wanted) return;
    q->n_fallbacks++;
    warn("%s: rows of %" PRIu64 " do not fit %s, takes %s", name, p->t->ne[0],
         quant_type_name(p->wanted), quant_type_name(p->to));
    if (q->o.no_fallback)
        problem(q, EXIT_REFUSED, "%s: rows of %" PRIu64 " do not fit %s: choose another type with "
                "--tensor-type or leave out --no-fallback", name, p->t->ne[0],
                quant_type_name(p->wanted));
}

static void plan_item(quantizer *q, item *p, uint32_t *counts)
{
    const quant_tensor *t = p->t;
    const quant_type_info *from = quant_type_get(t->type);
    char name[100];
    clean_text(name, sizeof name, t->name);
    p->to = p->wanted = t->type;
    p->copy = 1;
    p->size = t->size;
    p->error = 0;
    if (!from || !from->block_len) {
        problem(q, EXIT_INPUT, "%s: type %" PRIu32 " (%s) is not known here: make the file anew "
                "from its source", name, t->type, quant_type_name(t->type));
        return;
    }
    if (!quant_mix_quantizable(t)) return;
    p->wanted = plan_type(q, t, counts);
    if (p->wanted == t->type) return;
    if (!(from->flags & QUANT_TF_DECODE)) {
        warn("%s: %s cannot be decoded, copied as it is", name, from->name);
        p->wanted = t->type;
        return;
    }
    plan_fallback(q, p, name);
    if (p->to == t->type) return;
    p->copy = 0;
    p->error = -1;
    p->size = tensor_bytes(t, p->to);
    q->n_requantized += (from->flags & QUANT_TF_QUANTIZED) != 0;
    if (!(quant_type_get(p->to)->flags & QUANT_TF_ENCODE))
        problem(q, EXIT_REFUSED, "%s: no encoder for %s yet: choose another type or override with "
                "--tensor-type", name, quant_type_name(p->to));
    else if (!p->size)
        problem(q, EXIT_INPUT, "%s: too large for this machine", name);
    plan_importance(q, p, name);
    if (!p->importance && ((quant_type_get(p->to)->flags & QUANT_TF_NEEDS_IMPORTANCE) ||
                           quant_mix_needs_importance(q->o.mix, p->to, t->name)))
        problem(q, EXIT_REFUSED, "%s: %s is not usable without importance: give --imatrix F with "
                "an entry for it, or another type", name, quant_type_name(p->to));
    if (p->to == QUANT_NVFP4) plan_scale(q, p);
}

static int by_place(const void *a, const void *b)
{
    const item *x = (const item *)a, *y = (const item *)b;
    if (x->shard != y->shard) return x->shard < y->shard ? -1 : 1;
    return x->t->offset < y->t->offset ? -1 : x->t->offset > y->t->offset;
}

/* What the plan has to say once. */
static void plan_remarks(const quantizer *q)
{
    uint64_t empty = 0, n = 0;
    size_t i, first = 0;
    char name[100];
    if (q->n_requantized)
        warn("%zu tensors are quantized already: errors add up, better start from F16 or BF16",
             q->n_requantized);
    if (q->n_unimportant)
        warn("no importance for %zu tensors: %s%s", q->n_unimportant, q->unimportant,
             q->n_unimportant > 5 ? ", ..." : "");
    for (i = q->im.n_entries; i-- > 0;)
        if (q->im.entries[i].empty) { first = i; n++; empty += q->im.entries[i].empty; }
    if (n)
        warn("the importance file has no calibration data for %" PRIu64 " matrices of %" PRIu64
             " tensors (%s%s)", empty, n, clean_text(name, sizeof name, q->im.entries[first].name),
             n > 1 ? ", ..." : "");
}

static int make_plan(quantizer *q)
{
    uint32_t counts[QUANT_MIX_KIND_COUNT] = { 0 };
    tensor_ref *refs = tensors_sorted(&q->in.set);
    size_t i;
    q->n_items = q->in.set.n_tensors;
    q->items = (item *)calloc(q->n_items ? q->n_items : 1, sizeof *q->items);
    if (!refs || !q->items) { free(refs); return fail(EXIT_OUTPUT, "out of memory"); }
    quant_mix_model_init(&q->rules, &q->in.set, q->o.imatrix != NULL);
    for (i = 0; i < q->n_items; i++) {
        q->items[i].t = refs[i].t;
        q->items[i].shard = refs[i].shard;
        plan_item(q, &q->items[i], counts);
        q->weights += tensor_weights(refs[i].t);
    }
    free(refs);
    if (q->o.keep_split && q->n_items) qsort(q->items, q->n_items, sizeof *q->items, by_place);
    plan_remarks(q);
    return q->problem_code && !q->o.dry_run ? fail(q->problem_code, "%s", q->problem) : 0;
}

/* Output shards ---------------------------------------------------------------------------------*/

/* At least the bytes that the header of shard 0 takes before its tensors. */
static uint64_t metadata_size(const quantizer *q)
{
    const quant_gguf *g = &q->in.shards[0];
    uint64_t n = 4096;
    size_t i;
    for (i = 0; i < g->n_kv; i++) {     /* version 1 has shorter string lengths                  */
        n += g->kv[i].key.n + 24 + g->kv[i].raw_size;
        if (g->kv[i].layout & QUANT_LAYOUT_V1) n += 4 * g->kv[i].count;
    }
    for (i = 0; i < q->o.n_kv; i++)
        n += strlen(q->o.kv[i].key) + 24 + (q->o.kv[i].type == QUANT_KV_STR ? q->o.kv[i].v.str.n
                                                                            : 8);
    return n + (q->o.imatrix ? strlen(q->o.imatrix) + q->im.dataset.n : 0);
}

/* Gives every tensor its output file. */
static void plan_shards(quantizer *q)
{
    uint64_t used = metadata_size(q);
    size_t i, in_shard = 0;
    q->n_out = q->o.keep_split ? q->in.n_shards : 1;
    for (i = 0; i < q->n_items; i++) {
        item *p = &q->items[i];
        uint64_t need = p->size + p->extra + 2 * (p->t->name.n + 32 + 56);
        if (q->o.keep_split) p->out_shard = p->shard;
        if (!q->o.split_size) continue;
        if (in_shard && (used > q->o.split_size || need > q->o.split_size - used)) {
            q->n_out++;
            in_shard = 0;
            used = 4096;
        }
        used += need;
        in_shard++;
        p->out_shard = q->n_out - 1;
    }
}

static int same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Refuses to write `path` where it would destroy an input or something that is not a file. */
static int check_target(const quantizer *q, const char *path, int must_be_file)
{
    struct stat s, im;
    size_t i;
    if (stat(path, &s) != 0) return 0;
    if (must_be_file && !S_ISREG(s.st_mode))
        return fail(EXIT_OUTPUT, "%s: is there and not a regular file: choose another name", path);
    for (i = 0; i < q->in.n_shards; i++)
        if (same_file(&s, &q->in.stats[i]))
            return fail(EXIT_USAGE, "%s: is the input itself: choose another name", path);
    if (q->o.imatrix && stat(q->o.imatrix, &im) == 0 && same_file(&s, &im))
        return fail(EXIT_USAGE, "%s: is the importance file: choose another name", path);
    return 0;
}

static int name_outputs(quantizer *q)
{
    const char *out = q->o.out;
    size_t n = strlen(out), i, room = n + 32;
    char *prefix;
    if (q->n_out > 65535)
        return fail(EXIT_USAGE, "--split-max-size: needs %zu files, 65535 are possible", q->n_out);
    q->paths = (char **)calloc(q->n_out, sizeof *q->paths);
    if (!q->paths) return fail(EXIT_OUTPUT, "out of memory");
    if (n > 5 && !strcmp(out + n - 5, ".gguf")) n -= 5;
    prefix = copy_text(out, n);
    for (i = 0; i < q->n_out; i++) {
        q->paths[i] = (char *)malloc(room);
        if (!q->paths[i]) { free(prefix); return fail(EXIT_OUTPUT, "out of memory"); }
        if (q->n_out == 1 && !q->o.split_size) strcpy(q->paths[i], out);
        else quant_split_name(q->paths[i], room, prefix, (uint32_t)i, (uint32_t)q->n_out);
    }
    free(prefix);
    for (i = 0; i < q->n_out; i++) {
        int code = check_target(q, q->paths[i], 1);
        if (code) return code;
        if (q->o.report && !strcmp(q->o.report, q->paths[i]))
            return fail(EXIT_USAGE, "%s: is the output, too: choose another report", q->o.report);
    }
    return q->o.report ? check_target(q, q->o.report, 0) : 0;
}

/* Output files ----------------------------------------------------------------------------------
 * Every file is written under a temporary name and renamed when all are complete.  A signal sets a
 * flag and the program leaves in order; a second one removes the temporary files and ends it. */

static volatile sig_atomic_t interrupted;
static char **temps;                    /* [n_temps], for the handler                            */
static volatile sig_atomic_t n_temps;

static void on_signal(int number)
{
    sig_atomic_t i;
    (void)number;
    if (interrupted) {
        for (i = 0; i < n_temps; i++) unlink(temps[i]);
        _exit(EXIT_SIGNAL);
    }
    interrupted = 1;
}

static void catch_signals(void)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction a, old;
    size_t i;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_signal;
    sigemptyset(&a.sa_mask);
    for (i = 0; i < 3; i++)             /* what nohup and shells ignore stays ignored            */
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(numbers[i], &a, NULL);
    a.sa_handler = SIG_IGN;             /* a full disk or a limit is an error of write           */
    sigaction(SIGXFSZ, &a, NULL);
    sigaction(SIGPIPE, &a, NULL);
}

static void discard_temps(void)
{
    sig_atomic_t i, n = n_temps;
    n_temps = 0;
    for (i = 0; i < n; i++) {
        if (*temps[i]) unlink(temps[i]);
        free(temps[i]);
    }
    free(temps);
    temps = NULL;
}

typedef struct sink {
    int      fd, error;                 /* error: errno of the write that failed                 */
    uint8_t *buf;                       /* [SINK_SIZE]                                           */
    size_t   n;
    uint64_t sent, started;             /* bytes written; bytes that the disk has been given     */
} sink;

static size_t sink_push(sink *s, const uint8_t *p, size_t n)
{
    size_t done = 0;
    while (done < n && !s->error) {
        ssize_t k = write(s->fd, p + done, n - done);
        if (k > 0) done += (size_t)k;
        else if (k == 0) s->error = ENOSPC;
        else if (errno != EINTR || interrupted) s->error = errno;
    }
    s->sent += done;
#ifdef __linux__
    /* Start writing to the disk now, so that the fsync at the end finds little left to do. */
    if (s->sent - s->started >= 4 * SINK_SIZE) {
        sync_file_range(s->fd, (off_t)s->started, (off_t)(s->sent - s->started),
                        SYNC_FILE_RANGE_WRITE);
        s->started = s->sent;
    }
#endif
    return done;
}

static int sink_flush(sink *s)
{
    size_t n = s->n;
    s->n = 0;
    return sink_push(s, s->buf, n) == n;
}

/* quant_sink's callback: few large writes. */
static size_t sink_write(void *user, const void *src, size_t n)
{
    sink *s = (sink *)user;
    if (n > SINK_SIZE - s->n && !sink_flush(s)) return 0;
    if (n >= SINK_SIZE) return sink_push(s, (const uint8_t *)src, n);
    memcpy(s->buf + s->n, src, n);
    s->n += n;
    return n;
}

/* "OUT.tmp-PID" beside OUT: a rename cannot cross file systems. */
static int sink_open(sink *s, const char *path)
{
    size_t room = strlen(path) + 48;
    char *temp = (char *)malloc(room);
    unsigned i;
    if (!temp) return fail(EXIT_OUTPUT, "out of memory");
    for (i = 0; i < 100; i++) {         /* one may be left of a killed process with our number   */
        snprintf(temp, room, i ? "%s.tmp-%ld-%u" : "%s.tmp-%ld", path, (long)getpid(), i);
        s->fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (s->fd >= 0 || errno != EEXIST) break;
    }
    if (s->fd < 0) {
        int code = fail(EXIT_OUTPUT, "%s: cannot be written here: %s", path, strerror(errno));
        free(temp);
        return code;
    }
    temps[n_temps] = temp;
    n_temps++;
    s->n = 0;
    s->error = 0;
    s->sent = s->started = 0;
    return 0;
}

static int output_failed(const char *path, int error)
{
    if (interrupted) return fail(EXIT_SIGNAL, "interrupted, nothing written");
    return fail(EXIT_OUTPUT, "%s: writing failed: %s%s", path, strerror(error),
                error == ENOSPC || error == EDQUOT ? ": make room or write elsewhere" :
                error == EFBIG ? ": allow larger files (ulimit -f) or use --split-max-size" : "");
}

static int sink_close(sink *s, const char *path, int code)
{
    if (code == 0 && (!sink_flush(s) || fsync(s->fd) != 0))
        code = output_failed(path, s->error ? s->error : errno);
    if (close(s->fd) != 0 && code == 0) code = output_failed(path, errno);
    s->fd = -1;
    return code;
}

static void sync_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? copy_text(path, (size_t)(slash - path) + 1) : copy_text(".", 1);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(dir);
    if (fd < 0) return;                 /* the file is complete; only its name could be lost     */
    fsync(fd);
    close(fd);
}

/* All files are complete: give them their names. */
static int commit(const quantizer *q)
{
    size_t i;
    if (interrupted) return fail(EXIT_SIGNAL, "interrupted, nothing written");
    for (i = 0; i < q->n_out; i++) {
        if (rename(temps[i], q->paths[i]) != 0) return output_failed(q->paths[i], errno);
        *temps[i] = 0;
    }
    sync_directory(q->paths[0]);
    return 0;
}

/* Engine ----------------------------------------------------------------------------------------
 * A job is one pass over a tensor in chunks.  Workers take chunks in order, each into a slot of a
 * ring, and whoever finishes the chunk that is next in the file writes it and all that wait behind
 * it.  Sums and failures are taken over in the same order, so that nothing depends on timing. */

enum { JOB_COPY, JOB_SCAN, JOB_ENCODE };

typedef struct failure {
    quant_result code;                  /* QUANT_OK: none                                        */
    int          writing;               /* it was the output                                     */
    uint64_t     row, col;              /* E_NUMERIC                                             */
} failure;

typedef struct slot {
    uint8_t *data;
    size_t   cap, n;
    int      ready;
    uint64_t weights;
    double   err2, ref2;
    failure  bad;
} slot;

typedef struct job {
    int                 kind;
    const quant_gguf   *g;
    const quant_tensor *t;
    quant_gguf_out     *out;
    const quant_imatrix *im;            /* NULL: no importance                                   */
    quant_encoder       enc;
    float              *scales;         /* JOB_SCAN: largest magnitudes; JOB_ENCODE: scales; each
                                           one per matrix, or NULL                               */
    int                 errors;         /* add up errors                                         */
    uint64_t            n_chunks, chunk_rows, pieces;   /* pieces of a long row                  */
    size_t              piece_cols, tile_cols;
    double              err2, ref2;
    failure             bad;
} job;

typedef struct worker {
    struct engine *e;
    pthread_t      thread;
    uint8_t       *in;
    float         *x;
    size_t         in_cap, x_cap;       /* bytes                                                 */
} worker;

typedef struct engine {
    quantizer      *q;
    worker          workers[MAX_THREADS];
    slot            slots[2 * MAX_THREADS + 2];
    size_t          n_slots;
    pthread_mutex_t lock;
    pthread_cond_t  moved;
    job            *j;
    uint64_t        next, written;      /* chunks taken, chunks done with                        */
    int             writing, stop;
} engine;

/* A tile: rows of one matrix, or a piece of one row. */
typedef struct tile {
    uint64_t row;                       /* over all matrices                                     */
    size_t   rows, col, cols;
    const float *importance;            /* of its first column, or NULL                          */
    float    scale;
} tile;

static uint64_t matrix_count(const quant_tensor *t)
{
    return t->ne[2] * t->ne[3];
}

/* Largest magnitude of a tile into its matrix' place. */
static void scan_tile(engine *e, const float *x, const tile *w, slot *s)
{
    float *amax = &e->j->scales[w->row / e->j->t->ne[1]], m = 0;
    size_t i, n = w->rows * w->cols;
    for (i = 0; i < n; i++) {
        float a = x[i] < 0 ? -x[i] : x[i];
        if (a <= m) continue;
        if (!(a <= FLT_MAX)) {
            s->bad.code = QUANT_E_NUMERIC;
            s->bad.row = w->row + i / w->cols;
            s->bad.col = w->col + i % w->cols;
            return;
        }
        m = a;
    }
    pthread_mutex_lock(&e->lock);
    if (m > *amax) *amax = m;
    pthread_mutex_unlock(&e->lock);
}

static void encode_tile(const job *j, const float *x, const tile *w, slot *s)
{
    quant_encoder enc = j->enc;
    quant_error err;
    uint8_t *dst = s->data + s->n;
    size_t r, row = quant_row_size(enc.type, w->cols);
    enc.tensor_scale = w->scale;
    s->bad.code = quant_from_f32(&enc, dst, x, w->rows, w->cols, w->importance, &err);
    if (s->bad.code != QUANT_OK) {
        s->bad.row = w->row + err.where / w->cols;
        s->bad.col = w->col + err.where % w->cols;
        return;
    }
    s->n += w->rows * row;
    for (r = 0; j->errors && r < w->rows; r++)
        quant_row_error(enc.type, &s->err2, &s->ref2, x + r * w->cols, dst + r * row, w->cols, NULL,
                        w->scale);
}

/* Scales and importance are per matrix. */
static quant_result tile_matrix(const job *j, tile *w)
{
    uint64_t mat = w->row / j->t->ne[1];
    quant_result r;
    w->scale = j->kind == JOB_ENCODE && j->scales ? j->scales[mat] : 1;
    w->importance = NULL;
    if (!j->im) return QUANT_OK;
    r = quant_imatrix_find(j->im, &w->importance, j->t->name, j->t->ne[0], mat,
                           matrix_count(j->t));
    if (r == QUANT_OK && w->importance) w->importance += w->col;
    return r;
}

/* Decodes and encodes (or scans) chunk `at` by tiles that stay in the cache. */
static void chunk_tiles(worker *k, uint64_t at, slot *s)
{
    const job *j = k->e->j;
    const quant_tensor *t = j->t;
    uint64_t all = t->ne[1] * matrix_count(t), row = at / j->pieces * j->chunk_rows, end;
    size_t col = (size_t)(at % j->pieces) * j->piece_cols, done = 0, size;
    size_t cols = t->ne[0] - col < j->piece_cols ? (size_t)t->ne[0] - col : j->piece_cols;
    tile w;
    end = all - row < j->chunk_rows ? all : row + j->chunk_rows;
    size = (size_t)(end - row) * quant_row_size(t->type, cols);
    s->weights = (end - row) * cols;
    s->bad.code = quant_gguf_read(j->g, t, k->in, row * quant_row_size(t->type, (size_t)t->ne[0]) +
                                  quant_row_size(t->type, col), size);
    while (row < end && s->bad.code == QUANT_OK) {
        uint64_t left = t->ne[1] - row % t->ne[1];      /* rows of this matrix                   */
        size_t in_row;
        if (left > end - row) left = end - row;
        w.row = row;
        w.rows = j->tile_cols < cols ? 1 : TILE / cols ? TILE / cols : 1;
        if (w.rows > left) w.rows = (size_t)left;
        for (in_row = 0; in_row < cols && s->bad.code == QUANT_OK; in_row += w.cols) {
            w.col = col + in_row;
            w.cols = cols - in_row < j->tile_cols ? cols - in_row : j->tile_cols;
            s->bad.code = tile_matrix(j, &w);
            if (s->bad.code != QUANT_OK) return;
            s->bad.code = quant_to_f32(t->type, k->x, k->in + done, w.rows, w.cols);
            if (s->bad.code != QUANT_OK) return;
            done += w.rows * quant_row_size(t->type, w.cols);
            if (j->kind == JOB_SCAN) scan_tile(k->e, k->x, &w, s);
            else encode_tile(j, k->x, &w, s);
        }
        row += w.rows;
    }
}

static void do_chunk(worker *k, uint64_t at, slot *s)
{
    const job *j = k->e->j;
    memset(&s->bad, 0, sizeof s->bad);
    s->n = 0;
    s->err2 = s->ref2 = 0;
    if (j->kind == JOB_COPY) {
        uint64_t step = j->piece_cols, from = at * step, left = j->t->size - from;
        s->n = (size_t)(left < step ? left : step);
        s->weights = 0;
        s->bad.code = quant_gguf_read(j->g, j->t, s->data, from, s->n);
    } else {
        chunk_tiles(k, at, s);
    }
}

static void bar_show(quantizer *q);

/* Takes a finished chunk over, in order.  0 when the job is to stop. */
static int take_over(engine *e, slot *s)
{
    job *j = e->j;
    if (s->bad.code == QUANT_OK && s->n) {
        s->bad.code = quant_gguf_write(j->out, s->data, s->n);
        s->bad.writing = s->bad.code != QUANT_OK;
    }
    if (s->bad.code != QUANT_OK) {
        j->bad = s->bad;
        return 0;
    }
    j->err2 += s->err2;
    j->ref2 += s->ref2;
    if (j->kind == JOB_COPY) e->q->done += tensor_weights(j->t) / (double)j->n_chunks;
    else if (j->kind == JOB_ENCODE) e->q->done += (double)s->weights;
    bar_show(e->q);
    return 1;
}

/* Called with the lock held, and holds it again when it returns. */
static void drain(engine *e)
{
    if (e->writing) return;
    e->writing = 1;
    while (!e->stop && e->written < e->j->n_chunks) {
        slot *s = &e->slots[e->written % e->n_slots];
        int go_on;
        if (!s->ready) break;
        pthread_mutex_unlock(&e->lock);
        go_on = take_over(e, s);
        pthread_mutex_lock(&e->lock);
        s->ready = 0;
        e->written++;
        if (!go_on) e->stop = 1;
        pthread_cond_broadcast(&e->moved);
    }
    e->writing = 0;
}

static void *work(void *user)
{
    worker *k = (worker *)user;
    engine *e = k->e;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        slot *s;
        uint64_t at;
        while (!e->stop && e->next < e->j->n_chunks && e->next >= e->written + e->n_slots)
            pthread_cond_wait(&e->moved, &e->lock);
        if (interrupted && !e->stop) { e->stop = 1; pthread_cond_broadcast(&e->moved); }
        if (e->stop || e->next >= e->j->n_chunks) break;
        at = e->next++;
        s = &e->slots[at % e->n_slots];
        pthread_mutex_unlock(&e->lock);
        do_chunk(k, at, s);
        pthread_mutex_lock(&e->lock);
        s->ready = 1;
        drain(e);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

static void *reserve(void *p, size_t *cap, size_t size)
{
    if (size <= *cap) return p;
    free(p);
    p = malloc(size);
    *cap = p ? size : 0;
    return p;
}

/* How the tensor falls into chunks, and buffers for them.  0: out of memory. */
static int job_layout(engine *e, job *j, size_t n_workers)
{
    const quant_tensor *t = j->t;
    const quant_type_info *from = quant_type_get(t->type);
    size_t i, in_size = 0, x_size = 0, out_size;
    if (j->kind == JOB_COPY) {
        j->piece_cols = COPY_SIZE / from->block_size * from->block_size;
        j->n_chunks = t->size / j->piece_cols + (t->size % j->piece_cols != 0);
        out_size = t->size < j->piece_cols ? (size_t)t->size : j->piece_cols;
    } else {
        uint64_t rows = t->ne[1] * matrix_count(t), cols = t->ne[0], chunk = rows * cols / 16;
        int whole = j->im && (quant_type_get(j->enc.type)->flags & QUANT_TF_WHOLE_ROWS);
        if (cols > SIZE_MAX / 8) return 0;
        chunk = chunk < TILE ? TILE : chunk > CHUNK ? CHUNK : chunk;    /* work for all threads */
        j->piece_cols = whole || cols < CHUNK ? (size_t)cols : CHUNK;
        j->tile_cols = whole || cols < TILE ? (size_t)cols : TILE;
        j->pieces = cols / j->piece_cols + (cols % j->piece_cols != 0);
        j->chunk_rows = chunk > j->piece_cols ? chunk / j->piece_cols : 1;
        if (j->pieces > 1) j->chunk_rows = 1;
        if (j->chunk_rows > rows) j->chunk_rows = rows;
        j->n_chunks = (rows / j->chunk_rows + (rows % j->chunk_rows != 0)) * j->pieces;
        in_size = (size_t)j->chunk_rows * quant_row_size(t->type, j->piece_cols);
        x_size = (j->tile_cols > TILE ? j->tile_cols : TILE) * sizeof(float);
        out_size = j->kind == JOB_SCAN ? 0 :
                   (size_t)j->chunk_rows * quant_row_size(j->enc.type, j->piece_cols);
    }
    for (i = 0; i < n_workers && i < j->n_chunks; i++) {
        worker *k = &e->workers[i];
        k->in = (uint8_t *)reserve(k->in, &k->in_cap, in_size);
        k->x = (float *)reserve(k->x, &k->x_cap, x_size);
        if (k->in_cap < in_size || k->x_cap < x_size) return 0;
    }
    for (i = 0; i < e->n_slots; i++) {
        slot *s = &e->slots[i];
        s->ready = 0;
        if (i >= j->n_chunks) continue;
        s->data = (uint8_t *)reserve(s->data, &s->cap, out_size);
        if (s->cap < out_size) return 0;
    }
    return 1;
}

/* Runs a job to its end; j->bad says how it went. */
static void run_job(engine *e, job *j)
{
    size_t i, n = e->q->o.threads, started = 0;
    memset(&j->bad, 0, sizeof j->bad);
    j->err2 = j->ref2 = 0;
    e->j = j;
    e->next = e->written = 0;
    e->writing = e->stop = 0;
    e->n_slots = n == 1 ? 1 : 2 * n + 2;
    if (!job_layout(e, j, n)) {
        j->bad.code = QUANT_E_MEMORY;
        return;
    }
    if (n > j->n_chunks) n = (size_t)j->n_chunks;
    for (i = 1; i < n; i++) {           /* too few threads are slower, nothing else              */
        if (pthread_create(&e->workers[i].thread, NULL, work, &e->workers[i]) != 0) break;
        started = i;
    }
    work(&e->workers[0]);
    for (i = 1; i <= started; i++) pthread_join(e->workers[i].thread, NULL);
}

static engine *engine_new(quantizer *q)
{
    engine *e = (engine *)calloc(1, sizeof *e);
    size_t i;
    if (!e) return NULL;
    e->q = q;
    for (i = 0; i < MAX_THREADS; i++) e->workers[i].e = e;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->moved, NULL);
    return e;
}

static void engine_free(engine *e)
{
    size_t i;
    if (!e) return;
    for (i = 0; i < MAX_THREADS; i++) { free(e->workers[i].in); free(e->workers[i].x); }
    for (i = 0; i < sizeof e->slots / sizeof *e->slots; i++) free(e->slots[i].data);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->moved);
    free(e);
}

/* Progress and report ---------------------------------------------------------------------------*/

static void bar_show(quantizer *q)
{
    double now = seconds(), t = now - q->start, part = q->weights > 0 ? q->done / q->weights : 1;
    char bar[31];
    int i, full;
    if (q->o.quiet || now - q->bar_time < 0.1 || !isatty(2)) return;
    q->bar_time = now;
    if (part > 1) part = 1;
    full = (int)(part * 30);
    for (i = 0; i < 30; i++) bar[i] = i < full ? '#' : '.';
    bar[30] = 0;
    fprintf(stderr, "\r%s %3.0f %%  %.0f Mweights/s", bar, 100 * part,
            t > 0 ? q->done / t / 1e6 : 0.0);
    if (part > 0.01) fprintf(stderr, "  %.0f s left  ", t * (1 - part) / part);
    fflush(stderr);
    bar_shown = 1;
}

/* The line of a tensor; on a terminal the bar stands for it. */
static void print_item(const quantizer *q, const item *p, size_t no)
{
    char name[68], shape[96], from_to[64], size[32];
    if (q->o.quiet || (!q->o.dry_run && isatty(2))) return;
    snprintf(from_to, sizeof from_to, "%s -> %s", quant_type_name(p->t->type),
             quant_type_name(p->to));
    printf("[%4zu/%zu] %-32s %14s  %-16s %10s", no + 1, q->n_items,
           clean_text(name, sizeof name, p->t->name), shape_text(shape, p->t),
           p->copy ? quant_type_name(p->to) : from_to, size_text(size, (double)p->size));
    if (!p->copy && p->error >= 0) printf("  error %.4f", p->error);
    printf("%s\n", p->scaled ? "  + scale" : "");
}

static int report_open(quantizer *q)
{
    if (!q->o.report) return 0;
    q->report = fopen(q->o.report, "w");
    if (!q->report) return fail(EXIT_OUTPUT, "%s: %s", q->o.report, strerror(errno));
    fputs("name\tshape\tfrom\tto\tbytes\terror\n", q->report);
    return 0;
}

static void report_item(const quantizer *q, const item *p)
{
    char name[300], shape[96];
    if (!q->report) return;
    fprintf(q->report, "%s\t%s\t%s\t%s\t%" PRIu64 "\t", clean_text(name, sizeof name, p->t->name),
            shape_text(shape, p->t), quant_type_name(p->t->type), quant_type_name(p->to), p->size);
    if (p->error >= 0) fprintf(q->report, "%.6g", p->error);
    fputc('\n', q->report);
}

static int report_close(quantizer *q, int code)
{
    FILE *f = q->report;
    int bad;
    q->report = NULL;
    if (!f) return code;
    bad = ferror(f);
    errno = 0;
    bad |= fclose(f) != 0;
    if (code || !bad) return code;
    return fail(EXIT_OUTPUT, "%s: writing the report failed: %s", q->o.report,
                errno ? strerror(errno) : "no room");
}

/* Sizes before and after, and where the bits went. */
static void print_summary(const quantizer *q)
{
    size_t i, n, count[QUANT_TYPE_COUNT] = { 0 };
    double before = 0, after = 0, bytes[QUANT_TYPE_COUNT] = { 0 }, w = q->weights, t;
    char a[32], b[32];
    if (q->o.quiet) return;
    for (i = 0; i < q->n_items; i++) {
        const item *p = &q->items[i];
        before += (double)p->t->size;
        after += (double)(p->size + p->extra);
        if (p->to < QUANT_TYPE_COUNT) {
            count[p->to]++;
            bytes[p->to] += (double)p->size;
        }
    }
    if (w <= 0) w = 1;
    printf("%s: %s (%.2f bits per weight) -> %s (%.2f), %zu tensors, %.1f million weights\n",
           q->o.type_name, size_text(a, before), 8 * before / w, size_text(b, after),
           8 * after / w, q->n_items, q->weights / 1e6);
    for (i = 0; i < QUANT_TYPE_COUNT; i++)
        if (count[i])
            printf("  %-8s %5zu tensors %10s\n", quant_type_name((quant_type)i), count[i],
                   size_text(a, bytes[i]));
    for (i = n = 0; i < q->n_items; i++) n += q->items[i].copy;
    printf("  %zu quantized or converted, %zu copied", q->n_items - n, n);
    if (q->n_fallbacks) printf(", %zu fallbacks", q->n_fallbacks);
    if (q->n_requantized) printf(", %zu requantized", q->n_requantized);
    printf("\n");
    if (q->o.dry_run) return;
    t = seconds() - q->start;
    printf("  %.2f s, %.0f million weights/s, %zu %s\n", t, t > 0 ? q->weights / t / 1e6 : 0.0,
           q->n_out, q->n_out == 1 ? "file" : "files");
}

/* Writing ---------------------------------------------------------------------------------------*/

/* What went wrong with a tensor, in one line. */
static int item_failed(const quantizer *q, const item *p, const failure *f, const sink *s)
{
    char name[100];
    clean_text(name, sizeof name, p->t->name);
    if (interrupted) return fail(EXIT_SIGNAL, "interrupted, nothing written");
    if (f->writing && s->error) return output_failed(q->paths[p->out_shard], s->error);
    switch (f->code) {
        case QUANT_E_NUMERIC:
            return fail(EXIT_INPUT, "%s: row %" PRIu64 ", column %" PRIu64 " is not a finite "
                        "number: the model is damaged; F16, BF16 and F32 could hold it", name,
                        f->row, f->col);
        case QUANT_E_MEMORY:
            return fail(EXIT_OUTPUT, "%s: out of memory: use fewer --threads", name);
        case QUANT_E_IO:
            return fail(EXIT_INPUT, "%s: reading failed: check %s and its disk", name, q->o.in);
        default:
            return fail(EXIT_INPUT, "%s (%s): %s", name, quant_type_name(p->t->type),
                        quant_result_text(f->code));
    }
}

static float *new_scales(const quant_tensor *t)
{
    uint64_t n = matrix_count(t);
    return n <= SIZE_MAX / sizeof(float) ? (float *)calloc((size_t)n, sizeof(float)) : NULL;
}

/* First pass for NVFP4: the scale of every matrix from its largest magnitude. */
static void scan_scales(engine *e, job *j)
{
    uint64_t i, n = matrix_count(j->t);
    j->scales = new_scales(j->t);
    if (!j->scales) { j->bad.code = QUANT_E_MEMORY; return; }
    j->kind = JOB_SCAN;
    run_job(e, j);
    for (i = 0; i < n; i++) j->scales[i] = quant_tensor_scale(j->enc.type, j->scales[i]);
}

/* Sends a tensor's bytes and, for NVFP4, those of its scales. */
static int write_item(quantizer *q, item *p, quant_gguf_out *out, const sink *s)
{
    job j;
    void *tables = NULL;
    size_t n = p->copy ? 0 : quant_encoder_size(p->to);
    memset(&j, 0, sizeof j);
    j.g = &q->in.shards[p->shard];
    j.t = p->t;
    j.out = out;
    j.im = p->importance ? &q->im : NULL;
    j.errors = q->report != NULL;
    if (n && !(tables = malloc(n))) j.bad.code = QUANT_E_MEMORY;
    if (!p->copy && j.bad.code == QUANT_OK)
        j.bad.code = quant_encoder_init(&j.enc, p->to, q->o.effort, tables, n);
    if (p->scaled && j.bad.code == QUANT_OK) scan_scales(q->engine, &j);
    if (j.bad.code == QUANT_OK && !interrupted) {
        j.kind = p->copy ? JOB_COPY : JOB_ENCODE;
        run_job(q->engine, &j);
    }
    if (p->scaled && j.bad.code == QUANT_OK && !interrupted) {
        uint64_t i, count = matrix_count(p->t);
        for (i = 0; i < count && j.bad.code == QUANT_OK; i++) {
            quant_encoder f32;          /* puts the bytes in the file's order                    */
            uint8_t bytes[4];
            quant_encoder_init(&f32, QUANT_F32, QUANT_EFFORT_REFERENCE, NULL, 0);
            quant_from_f32(&f32, bytes, &j.scales[i], 1, 1, NULL, NULL);
            j.bad.code = quant_gguf_write(out, bytes, 4);
            j.bad.writing = 1;
        }
    }
    free(j.scales);
    free(tables);
    if (j.bad.code != QUANT_OK || interrupted) return item_failed(q, p, &j.bad, s);
    if (j.errors && !p->copy) p->error = j.ref2 > 0 ? sqrt(j.err2 / j.ref2) : j.err2 > 0;
    return 0;
}

static override *find_override(quantizer *q, quant_str key)
{
    size_t i;
    for (i = 0; i < q->o.n_kv; i++) if (str_is(key, q->o.kv[i].key)) return &q->o.kv[i];
    return NULL;
}

static void put_override(quant_gguf_out *out, override *k)
{
    quant_gguf_put(out, k->key, k->type, &k->v);
    k->used = 1;
}

/* A key of ours, unless the user wants another value. */
static void put_ours(quantizer *q, quant_gguf_out *out, const char *key, uint32_t type,
                     const void *value)
{
    quant_str s;
    override *k;
    s.p = key;
    s.n = strlen(key);
    k = find_override(q, s);
    if (k) put_override(out, k);
    else quant_gguf_put(out, key, type, value);
}

static void put_number(quantizer *q, quant_gguf_out *out, const char *key, uint64_t v)
{
    uint32_t u = v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
    put_ours(q, out, key, QUANT_KV_U32, &u);
}

/* Keys that are not taken over, because the output has its own. */
static int key_dropped(const quantizer *q, quant_str key)
{
    static const char *const ours[] = { "general.quantization_version", "general.file_type",
        "general.alignment", "quantize.imatrix.file", "quantize.imatrix.dataset",
        "quantize.imatrix.entries_count", "quantize.imatrix.chunks_count" };
    size_t i, n = q->o.imatrix ? 7 : 3;
    if (key.n >= 6 && !memcmp(key.p, "split.", 6)) return 1;
    for (i = 0; i < n; i++) if (str_is(key, ours[i])) return 1;
    return 0;
}

/* As llama.cpp's quantizer does it: all keys in their order, then those that tell of this run. */
static void put_metadata(quantizer *q, quant_gguf_out *out)
{
    const quant_gguf *g = &q->in.shards[0];
    size_t i;
    for (i = 0; i < q->o.n_kv; i++) q->o.kv[i].used = 0;
    for (i = 0; i < g->n_kv; i++) {
        override *k = find_override(q, g->kv[i].key);
        if (key_dropped(q, g->kv[i].key)) continue;
        if (k) put_override(out, k);
        else quant_gguf_put_kv(out, &g->kv[i]);
    }
    put_number(q, out, "general.quantization_version", 2);
    put_number(q, out, "general.file_type", quant_mix_get((size_t)q->o.mix)->file_type);
    if (q->o.imatrix) {
        quant_str file;
        file.p = q->o.imatrix;
        file.n = strlen(file.p);
        put_ours(q, out, "quantize.imatrix.file", QUANT_KV_STR, &file);
        if (q->im.dataset.n)
            put_ours(q, out, "quantize.imatrix.dataset", QUANT_KV_STR, &q->im.dataset);
        put_number(q, out, "quantize.imatrix.entries_count", q->im.n_entries);
        if (q->im.n_chunks)
            put_number(q, out, "quantize.imatrix.chunks_count", q->im.n_chunks);
    }
    for (i = 0; i < q->o.n_kv; i++)
        if (!q->o.kv[i].used) put_override(out, &q->o.kv[i]);
}

/* Pass 1 of the writer: every key and tensor of shard `no`. */
static void put_header(quantizer *q, quant_gguf_out *out, size_t no)
{
    size_t i, total = q->n_items;
    for (i = 0; i < q->n_items; i++) total += q->items[i].scaled;
    if (no == 0) put_metadata(q, out);
    if (q->n_out > 1 || q->o.split_size) {
        uint16_t at = (uint16_t)no, count = (uint16_t)q->n_out;
        int32_t tensors = (int32_t)total;
        quant_gguf_put(out, "split.no", QUANT_KV_U16, &at);
        quant_gguf_put(out, "split.count", QUANT_KV_U16, &count);
        quant_gguf_put(out, "split.tensors.count", QUANT_KV_I32, &tensors);
    }
    for (i = 0; i < q->n_items; i++) {
        const item *p = &q->items[i];
        char *name;
        if (p->out_shard != no) continue;
        name = copy_text(p->t->name.p, p->t->name.n);
        quant_gguf_put_tensor(out, name, p->to, p->t->ne, p->t->n_dims);
        free(name);
        if (p->scaled) {
            uint64_t n = matrix_count(p->t);
            name = scale_name(p->t);
            quant_gguf_put_tensor(out, name, QUANT_F32, &n, 1);
            free(name);
        }
    }
    quant_gguf_header(out);
}

static int write_shard(quantizer *q, size_t no, sink *s)
{
    quant_gguf_out out;
    quant_sink to;
    size_t i;
    int code = sink_open(s, q->paths[no]);
    if (code) return code;
    to.write = sink_write;
    to.user = s;
    quant_gguf_begin(&out, to, 0, NULL);
    put_header(q, &out, no);
    for (i = 0; i < q->n_items && !code && out.err.code == QUANT_OK; i++) {
        item *p = &q->items[i];
        if (p->out_shard != no) continue;
        code = write_item(q, p, &out, s);
        if (code) break;
        bar_clear();
        print_item(q, p, q->n_made++);
        report_item(q, p);
    }
    quant_gguf_end(&out);
    if (!code && out.err.code != QUANT_OK) {
        char text[240];
        quant_error_text(text, sizeof text, &out.err);
        code = s->error ? output_failed(q->paths[no], s->error)
                        : fail(EXIT_INPUT, "%s: %s", q->paths[no], text);
    }
    return sink_close(s, q->paths[no], code);
}

static int write_model(quantizer *q)
{
    sink s;
    size_t i;
    int code = report_open(q);
    if (code) return code;
    memset(&s, 0, sizeof s);
    s.buf = (uint8_t *)malloc(SINK_SIZE);
    temps = (char **)calloc(q->n_out, sizeof *temps);
    q->engine = engine_new(q);
    if (!s.buf || !temps || !q->engine) code = fail(EXIT_OUTPUT, "out of memory");
    for (i = 0; i < q->n_out && !code; i++) code = write_shard(q, i, &s);
    bar_clear();
    code = report_close(q, code);
    if (!code) code = commit(q);
    discard_temps();
    engine_free(q->engine);
    free(s.buf);
    return code;
}

static int dry_run(quantizer *q)
{
    size_t i;
    int code = report_open(q);
    for (i = 0; i < q->n_items && !code; i++) {
        print_item(q, &q->items[i], i);
        report_item(q, &q->items[i]);
    }
    code = report_close(q, code);
    if (code) return code;
    print_summary(q);
    return q->problem_code ? fail(q->problem_code, "%s", q->problem) : 0;
}

static int run(quantizer *q)
{
    char text[240];
    int code;
    q->start = seconds();
    if (!model_open(&q->in, q->o.in)) return fail(EXIT_INPUT, "%s", q->in.error);
    if (q->o.imatrix && quant_imatrix_open_file(&q->im, q->o.imatrix, NULL, NULL) != QUANT_OK) {
        quant_error_text(text, sizeof text, &q->im.err);
        return fail(EXIT_INPUT, "%s: %s", q->o.imatrix, text);
    }
    code = make_plan(q);
    if (code) return code;
    plan_shards(q);
    if (q->o.out) code = name_outputs(q);
    else if (q->o.report) code = check_target(q, q->o.report, 0);
    if (code) return code;
    if (q->o.dry_run) return dry_run(q);
    catch_signals();
    code = write_model(q);
    if (!code) print_summary(q);
    return code;
}

static void release(quantizer *q)
{
    size_t i;
    for (i = 0; q->paths && i < q->n_out; i++) free(q->paths[i]);
    for (i = 0; i < q->o.n_rules; i++) free(q->o.rules[i].glob);
    for (i = 0; i < q->o.n_kv; i++) free(q->o.kv[i].key);
    free(q->paths);
    free(q->items);
    free(q->o.rules);
    free(q->o.kv);
    quant_imatrix_close(&q->im);
    model_close(&q->in);
}

int main(int argc, char **argv)
{
    static quantizer q;
    int code = parse_options(&q.o, argc, argv);
    if (!code && q.o.help) print_help();
    else if (!code) code = run(&q);
    release(&q);
    if ((fflush(stdout) != 0 || ferror(stdout)) && !code) code = EXIT_OUTPUT;
    return code;
}
