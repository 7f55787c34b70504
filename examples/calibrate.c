/* calibrate: runs a text through a model and writes what quantizers want to know about it, or
 * quantizes it right away.
 *
 *     calibrate imatrix MODEL.gguf TEXT OUT.gguf [--ctx 512] [--chunks N] [--output] [-t THREADS]
 *     calibrate gptq|awq|awq+gptq MODEL.gguf TEXT OUT.gguf TYPE [--tokens N]
 *         [--order natural|group|act] [--damp D] [--asymmetric-calibration [A]] [--report FILE]
 *         [--threads N]
 *     calibrate hessian MODEL.gguf TEXT OUT.gguf [--tokens N] [--skip-tokens N] [--threads N]
 *     calibrate merge A.gguf B.gguf ... OUT.gguf
 *     calibrate gptq MODEL.gguf --hessian SUMS.gguf OUT.gguf TYPE [options]
 *
 * imatrix: for every matrix of the blocks the sums of x^2 of each input column over all tokens, and
 * the number of tokens: the importance file that llama-quantize and examples/quantize.c read.  OUT
 * takes the GGUF form, or llama.cpp's older one when its name ends in .dat.  Chunks are BOS and
 * ctx - 1 tokens of the text, as perplexity takes them.  --output: also the output matrix.
 *
 * gptq: quantizes matrix after matrix while the text runs through the model (layerwise.h).
 * awq: finds scales and moves them into the norms and matrices before, then rounds to
 * nearest, clipped; awq+gptq: the scales, then gptq.
 * Interrupted, the same command goes on where it was: OUT.part holds what is finished.
 *
 * hessian: what gptq needs of the text, as sums over the tokens of the inputs of the unquantized
 * model (hessian.h), so that machines share a long text; merge adds files up, in double, in the
 * order given, rounded once; gptq --hessian quantizes from them.  Inputs are then not those of the
 * blocks quantized before, which costs some quality: for where one machine is not enough.
 *
 * OUT appears under its name only when it is complete. */
#include "hessian.h"
#include <sys/stat.h>

typedef struct options {
    const char *model, *text, *out, *type, *report, *sums;
    size_t      n_ctx, chunks, threads, tokens, skip;
    int         output, gptq, as_mix, hessian;
    lw_options  lw;
} options;

/* What one matrix has seen. */
typedef struct entry {
    const llama_linear *w;
    double *sum;                    /* [cols] of x^2                                             */
    double  tokens;
} entry;

typedef struct gather {
    entry  *entries;                /* [n], in the order of the first product                    */
    size_t  n, cap, layer_mats;
    int     output, failed;
    const llama_model *model;
} gather;

static const char usage[] =
    "usage: calibrate imatrix MODEL.gguf TEXT OUT.gguf [--ctx 512] [--chunks N] [--output] [-t N]\n"
    "       calibrate gptq|awq|awq+gptq MODEL.gguf TEXT OUT.gguf TYPE [options]\n"
    "       calibrate gptq MODEL.gguf --hessian SUMS.gguf OUT.gguf TYPE [options]\n"
    "       calibrate hessian MODEL.gguf TEXT OUT.gguf [--tokens N] [--skip-tokens N]\n"
    "       calibrate merge A.gguf B.gguf ... OUT.gguf\n"
    "imatrix: importance file; OUT.dat gets llama.cpp's older form\n"
    "  --ctx N       tokens of a chunk\n"
    "  --chunks N    at most so many chunks\n"
    "  --output      also the output matrix, which llama.cpp leaves out\n"
    "gptq: a quantized model.  TYPE: for all matrices of the blocks, such as Q4_0 (embedding and\n"
    "output stay as they are), or a mix such as Q4_K_M, or int4g128: integers with groups, stored\n"
    "as the F16 values that they stand for\n"
    "  --mix         TYPE is a mix even where it names a type as well (Q4_0, Q2_K, Q6_K ...)\n"
    "  --tokens N    of the text, default 65536\n"
    "  --ctx N       tokens of a chunk, default 512\n"
    "  --order O     group (default), natural or act: which columns are rounded first\n"
    "  --damp D      part of the mean diagonal of the Hessian added to it, default 0.03; with few\n"
    "                tokens more, at least columns / tokens\n"
    "  --asymmetric-calibration [A]  how far a matrix makes up for the errors in its inputs, 0 to\n"
    "                1, default 0.6; 0 is faster\n"
    "  --residual A  how much of the errors of the sum over all blocks so far attention output\n"
    "                and ffn_down make up for, times the A above; default 0.6\n"
    "  --sweeps N    of coordinate descent after the columns, default 4, 0: none\n"
    "  --trials N    scales that are tried for a group, default all, 1: only the first fit\n"
    "  --report FILE one line for each matrix of this run: name, type, rows, columns, loss for a\n"
    "                weight and token, damp, times it was raised, dead columns, rows rounded\n"
    "                plainly because that was better\n"
    "  --hessian F   sums that hessian and merge made instead of a text; matrices are then not\n"
    "                fitted to the errors of those before\n"
    "awq: a quantized model as above, by scaling columns before plain rounding, with importance\n"
    "and searched ranges; --mix, --tokens, --ctx, --report.  awq+gptq: scales first, then gptq\n"
    "hessian: sums over tokens of the inputs of all matrices, for gptq --hessian\n"
    "  --tokens N    default 65536\n"
    "  --skip-tokens N  leaves out the first N tokens of the text; a multiple of --ctx\n"
    "merge: adds files of hessian up, made from parts of a text, maybe on several machines\n"
    "-t N, --threads N   default: all processors\n";

static int fail(const char *what, const char *why)
{
    return complain("calibrate", what, why);
}

/* Gathering -------------------------------------------------------------------------------------*/

static void see(void *user, const llama_linear *w, const float *x, size_t tokens)
{
    gather *g = (gather *)user;
    entry *e = NULL;
    size_t i, t;
    if (w == &g->model->output && !g->output) return;
    for (i = 0; i < g->n && !e; i++) if (g->entries[i].w == w) e = &g->entries[i];
    if (!e) {
        if (g->n == g->cap) { g->failed = 1; return; }
        e = &g->entries[g->n];
        e->sum = (double *)calloc(w->m.cols, sizeof *e->sum);
        if (!e->sum) { g->failed = 1; return; }
        e->w = w;
        g->n++;
    }
    for (t = 0; t < tokens; t++)
        for (i = 0; i < w->m.cols; i++) {
            double v = (double)x[t * w->m.cols + i];
            e->sum[i] += v * v;
        }
    e->tokens += (double)tokens;
}

/* Writing ---------------------------------------------------------------------------------------*/

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int write_gguf(const gather *g, const options *o, size_t chunks, out_file *f)
{
    quant_gguf_out out;
    quant_str dataset;
    char name[128];
    size_t i, k;
    dataset.p = base_name(o->text);
    dataset.n = strlen(dataset.p);
    quant_gguf_begin(&out, out_sink(f), 0, NULL);
    quant_gguf_put_str(&out, "general.type", "imatrix");
    quant_gguf_put_array(&out, "imatrix.datasets", QUANT_KV_STR, &dataset, 1);
    quant_gguf_put_u32(&out, "imatrix.chunk_count", (uint32_t)chunks);
    quant_gguf_put_u32(&out, "imatrix.chunk_size", (uint32_t)o->n_ctx);
    for (i = 0; i < g->n; i++) {                /* any failure stays in out and comes out at end */
        quant_str t = g->entries[i].w->tensor->name;
        uint64_t ne[2] = { 1, 1 };
        ne[0] = g->entries[i].w->m.cols;
        snprintf(name, sizeof name, "%.*s.in_sum2", (int)t.n, t.p);
        quant_gguf_put_tensor(&out, name, QUANT_F32, ne, 2);
        ne[0] = 1;
        snprintf(name, sizeof name, "%.*s.counts", (int)t.n, t.p);
        quant_gguf_put_tensor(&out, name, QUANT_F32, ne, 2);
    }
    quant_gguf_header(&out);
    for (i = 0; i < g->n; i++) {
        const entry *e = &g->entries[i];
        float v;
        for (k = 0; k < e->w->m.cols; k++) {
            v = (float)e->sum[k];
            quant_gguf_write(&out, &v, sizeof v);
        }
        v = (float)e->tokens;
        quant_gguf_write(&out, &v, sizeof v);
    }
    if (quant_gguf_end(&out) == QUANT_OK) return 0;
    if (out.err.code == QUANT_E_IO) return 1;   /* out_end knows why                             */
    quant_error_text(name, sizeof name, &out.err);
    return fail(o->out, name);
}

static void put_u32(FILE *f, uint32_t v)
{
    uint8_t b[4];
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
    b[2] = (uint8_t)(v >> 16);
    b[3] = (uint8_t)(v >> 24);
    fwrite(b, 1, 4, f);
}

/* The older form keeps means times a number of calls; chunks serve as calls. */
static void write_dat(const gather *g, const options *o, size_t chunks, FILE *f)
{
    const char *dataset = base_name(o->text);
    size_t i, k;
    put_u32(f, (uint32_t)g->n);
    for (i = 0; i < g->n; i++) {
        const entry *e = &g->entries[i];
        quant_str name = e->w->tensor->name;
        put_u32(f, (uint32_t)name.n);
        fwrite(name.p, 1, name.n, f);
        put_u32(f, (uint32_t)chunks);
        put_u32(f, (uint32_t)e->w->m.cols);
        for (k = 0; k < e->w->m.cols; k++) {
            float v = (float)(e->sum[k] / e->tokens * (double)chunks);
            uint32_t u;
            memcpy(&u, &v, 4);
            put_u32(f, u);
        }
    }
    put_u32(f, (uint32_t)chunks);
    put_u32(f, (uint32_t)strlen(dataset));
    fwrite(dataset, 1, strlen(dataset), f);
}

static int write_out(const gather *g, const options *o, size_t chunks)
{
    size_t n = strlen(o->out);
    int r = 0, dat = n > 4 && strcmp(o->out + n - 4, ".dat") == 0;
    out_file f;
    const char *why = out_begin(&f, o->out);
    if (why) return fail(o->out, why);
    if (dat) write_dat(g, o, chunks, f.f);
    else r = write_gguf(g, o, chunks, &f);
    why = out_end(&f, r);
    if (why) r = fail(o->out, why);
    if (r == 0)
        fprintf(stderr, "%s: %zu matrices, %zu chunks of %zu tokens\n", o->out, g->n, chunks,
                o->n_ctx);
    return r;
}

/* The program -----------------------------------------------------------------------------------*/

static int run(const options *o, llama_context *c, const llama_tokens *t)
{
    const llama_vocab *v = &c->model->vocab;
    size_t chunks = llama_n_chunks(v, t, o->n_ctx), i;
    double since = llama_seconds();
    int32_t *chunk = (int32_t *)malloc(o->n_ctx * sizeof *chunk);
    float *logits = (float *)malloc((o->output ? c->n_batch : 1) * v->n * sizeof *logits);
    gather g;
    int r = 0;
    memset(&g, 0, sizeof g);
    g.cap = 7 * c->model->hp.n_layer + 1;
    g.entries = (entry *)calloc(g.cap, sizeof *g.entries);
    g.output = o->output;
    g.model = c->model;
    c->hook = see;
    c->user = &g;
    if (chunks > o->chunks) chunks = o->chunks;
    if (!chunk || !logits || !g.entries) r = fail("out of memory", "");
    for (i = 0; i < chunks && r == 0; i++) {
        size_t at, k;
        llama_chunk(v, t, o->n_ctx, i, chunk);
        c->n_past = 0;
        for (at = 0; at < o->n_ctx && r == 0; at += k) {
            k = o->n_ctx - at < c->n_batch ? o->n_ctx - at : c->n_batch;
            if (llama_eval(c, chunk + at, k, o->output ? logits : NULL, 1)) r = fail(c->err, "");
        }
        if (g.failed) r = fail("out of memory", "");
        if (stopped()) r = fail("interrupted, nothing written", "");
        if (r == 0) llama_progress(i + 1, chunks, since, "");
    }
    if (r == 0) r = write_out(&g, o, chunks);
    for (i = 0; i < g.n; i++) free(g.entries[i].sum);
    free(g.entries);
    free(chunk);
    free(logits);
    return r;
}

static int number(const char *s, size_t least, size_t *out)
{
    char *end;
    unsigned long n = s ? strtoul(s, &end, 10) : 0;
    if (!s || *end || end == s || *s == '-' || n < least || n > 1u << 30) return 0;
    *out = n;
    return 1;
}

static int real(const char *s, double least, double most, float *out)
{
    char *end;
    double v = s ? strtod(s, &end) : 0;
    if (!s || end == s || *end || !(v >= least && v <= most)) return 0;
    *out = (float)v;
    return 1;
}

static int order(const char *s, uint32_t *out)
{
    static const char *const names[] = { "group", "natural", "act" };
    uint32_t i;
    for (i = 0; s && i < 3; i++) if (!strcmp(s, names[i])) { *out = i; return 1; }
    return 0;
}

/* "Q4_0", "Q4_K_M" or "int4g128". */
static int parse_type(options *o)
{
    const quant_type_info *t;
    unsigned bits = 0, group = 0;
    int used = 0;
    o->lw.mix = -1;
    if (sscanf(o->type, "int%u%n", &bits, &used) == 1) {
        if (o->type[used] == 'g' && sscanf(o->type + used, "g%u%n", &group, &used) != 1) return 0;
        o->lw.integers.bits = bits;
        o->lw.integers.group = group;
        o->lw.integers.search = 1;
        o->lw.type = QUANT_Q4_0;
        return bits >= 2 && bits <= 8;
    }
    o->lw.type = quant_type_find(o->type);
    t = o->as_mix ? NULL : quant_type_get(o->lw.type);
    if (t && t->flags & QUANT_TF_QUANTIZED) return 1;
    o->lw.mix = quant_mix_find(o->type);
    return o->lw.mix >= 0;
}

/* Options of gptq alone: 1, 2 if `value` is not part of it, 0 if it is bad, -1 for others. */
static int parse_gptq(options *o, const char *a, const char *value)
{
    size_t n = 0;
    int ok = -1;
    if (!strcmp(a, "--tokens")) ok = number(value, 2, &o->tokens);
    else if (o->lw.methods == LW_AWQ && strcmp(a, "--report")) ok = 0;
    else if (!strcmp(a, "--order")) ok = order(value, &o->lw.gptq.order);
    else if (!strcmp(a, "--damp")) ok = real(value, 1e-6, 1, &o->lw.gptq.damp);
    else if (!strcmp(a, "--hessian") && o->lw.methods == LW_GPTQ) ok = (o->sums = value) != NULL;
    else if (!strcmp(a, "--asymmetric-calibration"))    /* the number may be left out             */
        ok = real(value, 0, 1, &o->lw.shift) ? 1 : 2;
    else if (!strcmp(a, "--residual")) ok = real(value, 0, 1, &o->lw.residual);
    else if (!strcmp(a, "--report")) ok = (o->report = value) != NULL;
    else if (!strcmp(a, "--sweeps") && (ok = number(value, 0, &n)) != 0)
        o->lw.gptq.sweeps = n ? (int32_t)n : -1;
    else if (!strcmp(a, "--trials") && (ok = number(value, 1, &n)) != 0)
        o->lw.gptq.trials = (int32_t)n;
    return ok;
}

static int parse(options *o, int argc, char **argv)
{
    int i;
    memset(o, 0, sizeof *o);
    o->n_ctx = 512;
    o->chunks = (size_t)-1;
    o->tokens = 65536;
    o->lw.gptq.damp = 0.03f;            /* these three by trial on a text held back              */
    o->lw.shift = o->lw.residual = 0.6f;
    o->threads = llama_n_threads();
    if (argc > 1 && !strcmp(argv[1], "gptq")) o->lw.methods = LW_GPTQ;
    if (argc > 1 && !strcmp(argv[1], "awq")) o->lw.methods = LW_AWQ;
    if (argc > 1 && !strcmp(argv[1], "awq+gptq")) o->lw.methods = LW_AWQ | LW_GPTQ;
    o->hessian = argc > 1 && !strcmp(argv[1], "hessian");
    if (argc < 2 || (strcmp(argv[1], "imatrix") && !o->hessian && !o->lw.methods))
        return fail("the first argument must be imatrix, gptq, awq, awq+gptq, hessian or merge "
                    "(see --help)", "");
    o->gptq = o->lw.methods != 0;
    if (o->lw.methods == LW_AWQ) o->lw.shift = 0;
    for (i = 2; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        int ok = 1;
        if (!strcmp(a, "--output") && !o->gptq && !o->hessian) o->output = 1;
        else if (!strcmp(a, "--mix") && o->gptq) o->as_mix = 1;
        else if (a[0] != '-') {
            if (!o->model) o->model = a;
            else if (!o->text) o->text = a;
            else if (!o->out) o->out = a;
            else if (o->gptq && !o->type) o->type = a;
            else ok = 0;
        } else {
            if (!strcmp(a, "--ctx")) ok = number(value, 2, &o->n_ctx);
            else if (!strcmp(a, "-t") || !strcmp(a, "--threads"))
                ok = number(value, 1, &o->threads);
            else if (o->hessian && !strcmp(a, "--tokens")) ok = number(value, 2, &o->tokens);
            else if (o->hessian && !strcmp(a, "--skip-tokens")) ok = number(value, 0, &o->skip);
            else if (!strcmp(a, "--chunks") && !o->gptq && !o->hessian)
                ok = number(value, 1, &o->chunks);
            else ok = o->gptq ? parse_gptq(o, a, value) : 0;
            i += ok != 2;
        }
        if (ok <= 0) return fail("bad argument (see --help)", a);
    }
    if (o->sums) {                              /* no text among the arguments                    */
        if (o->type) return fail("--hessian takes the place of the text (see --help)", "");
        o->type = o->out;
        o->out = o->text;
        o->text = NULL;
        o->lw.shift = o->lw.residual = 0;
        o->n_ctx = 64;
    }
    if (o->skip % o->n_ctx) return fail("--skip-tokens is not a multiple of --ctx", "");
    if (!o->out || (o->gptq && !o->type))
        return fail(o->gptq ? "a model, a text, an output and a type are needed (see --help)"
                            : "a model, a text and an output are needed (see --help)", "");
    if (o->gptq && !parse_type(o))
        return fail(o->type, "no such type or mix; `quantize --help` lists them");
    return 0;
}

static int run_hessian(options *o, llama_context *c, const llama_tokens *t)
{
    size_t chunks = llama_n_chunks(&c->model->vocab, t, o->n_ctx);
    const char *why;
    o->lw.n_ctx = o->n_ctx;
    o->lw.first = o->skip / o->n_ctx;
    o->lw.shift = o->lw.residual = 0;
    o->lw.mix = -1;
    o->lw.type = QUANT_F16;
    if (o->lw.first >= chunks) return fail(o->text, "no whole chunk is left of the text");
    chunks -= o->lw.first;
    o->lw.chunks = o->tokens / o->n_ctx < chunks ? o->tokens / o->n_ctx : chunks;
    if (o->lw.chunks == 0) return fail("--tokens is less than one chunk", "");
    why = hs_collect(c->model, c, t, &o->lw, o->out);
    if (why) return fail(o->out, why);
    fprintf(stderr, "%s: %zu inputs, %zu tokens\n", o->out, LW_INPUTS * c->model->hp.n_layer,
            o->lw.chunks * o->n_ctx);
    return 0;
}

static int run_merge(int argc, char **argv)
{
    const char *why, *which;
    int i;
    if (argc < 4) return fail("files of sums and an output are needed (see --help)", ""), 2;
    for (i = 2; i < argc; i++)
        if (argv[i][0] == '-') return fail("bad argument (see --help)", argv[i]), 2;
    catch_interrupt();
    why = hs_merge(argv + 2, (size_t)argc - 3, argv[argc - 1], &which);
    return why ? fail(which, why) : 0;
}

/* Quantizes the model; the line `asked` must tell apart what gives different bytes. */
static int run_gptq(options *o, llama_context *c, const llama_tokens *t, uint64_t text_sum)
{
    static lw_work w;
    char asked[512];
    size_t chunks = o->sums ? 0 : llama_n_chunks(&c->model->vocab, t, o->n_ctx), n;
    FILE *report = NULL;
    int r;
    o->lw.n_ctx = o->n_ctx;
    o->lw.chunks = o->tokens / o->n_ctx < chunks ? o->tokens / o->n_ctx : chunks;
    n = o->sums ? o->lw.sums_tokens : o->lw.chunks * o->n_ctx;
    if (n == 0) return fail("--tokens is less than one chunk", "");
    if (o->report) {
        report = fopen(o->report, "w");
        if (!report) return fail(o->report, "cannot be written");
        fprintf(report, "matrix\ttype\trows\tcols\tloss\tdamp\traised\tdead\tplain\n");
    }
    o->lw.report = report;
    snprintf(asked, sizeof asked, "calibrate 3 %u %s%s ctx %zu chunks %zu order %u damp %g "
             "shift %g residual %g sweeps %d trials %d model %llu text %llx\n",
             (unsigned)o->lw.methods, o->as_mix ? "mix " : "",
             o->type, o->n_ctx,
             o->lw.chunks, (unsigned)o->lw.gptq.order, (double)o->lw.gptq.damp,
             (double)o->lw.shift, (double)o->lw.residual, (int)o->lw.gptq.sweeps,
             (int)o->lw.gptq.trials, (unsigned long long)hs_model(c->model),
             (unsigned long long)text_sum);
    r = lw_run(&w, c->model, c, t, &o->lw, o->out, asked);
    if (r) fail(w.err, "");
    else {
        fprintf(stderr, "%s: %s, %zu tokens, %.0f s", o->out, o->type, n,
                llama_seconds() - w.since);
        if (w.rows && o->lw.methods & LW_GPTQ)
            fprintf(stderr, "; plain rounding was better for %zu of %zu rows", w.plain, w.rows);
        fprintf(stderr, "\n");
    }
    if (report && fclose(report) && r == 0) r = fail(o->report, "write error");
    return r ? 1 : 0;
}

int main(int argc, char **argv)
{
    options o;
    llama_model lm;
    llama_context c;
    llama_tokens t = { NULL, 0, 0 };
    static hs_file sums;
    size_t size = 0, batch;
    const char *why = NULL;
    char *text = NULL;
    int r = 1;
    if (wants_help(argc, argv, usage)) return 0;
    if (argc > 1 && !strcmp(argv[1], "merge")) return run_merge(argc, argv);
    if (parse(&o, argc, argv)) return 2;
    catch_interrupt();
    if ((why = out_check(o.out)) != NULL) return fail(o.out, why);
    if (!o.sums && !(text = llama_read_file(o.text, &size))) return fail(o.text, "cannot be read");
    if (llama_model_map(&lm, o.model, o.gptq || o.hessian)) {   /* layerwise.h has its own copies */
        free(text);
        return fail(lm.err, "");
    }
    memset(&c, 0, sizeof c);
    batch = (1u << 23) / lm.vocab.n;
    batch = !o.output || batch > 128 ? 128 : batch < 8 ? 8 : batch;
    if (o.gptq || o.hessian) batch = o.n_ctx;
    if (o.sums && !(why = hs_open(&sums, o.sums))) why = hs_check(&sums, &lm);
    o.lw.sums = o.sums ? hs_load : NULL;
    o.lw.user = &sums;
    o.lw.sums_tokens = (size_t)sums.tokens;
    if (why) fail(o.sums, why);
    else if (llama_context_init(&c, &lm, o.n_ctx, batch, o.threads)) fail(c.err, "");
    else if (o.sums) r = run_gptq(&o, &c, &t, sums.sum);
    else if (llama_tokenize(&lm.vocab, &t, text, size, 0, 0)) fail("out of memory", "");
    else if (llama_n_chunks(&lm.vocab, &t, o.n_ctx) == 0)
        fail(o.text, "the text is shorter than one chunk of --ctx tokens");
    else if (o.hessian) r = run_hessian(&o, &c, &t);
    else r = o.gptq ? run_gptq(&o, &c, &t, lw__sum((const uint8_t *)text, size)) : run(&o, &c, &t);
    quant_gguf_close(&sums.g);
    llama_context_free(&c);
    llama_model_close(&lm);
    free(t.id);
    free(text);
    return r;
}
