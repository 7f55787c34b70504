/* hessian.h - sums of a calibration in files, for calibrate.c: made on several machines from parts
 * of a text, merged, and used to quantize without the text.
 *
 * A GGUF file with, for each input of the blocks' matrices as the unquantized model has it, the
 * lower triangle of X^T X: tensor blk.N.NAME.hessian, F32 [cols (cols + 1) / 2], row after row (see
 * quant_triangle_pack).  NAME is attn_q (k and v share it), attn_output, ffn_gate (up shares it)
 * and ffn_down.  hessian.tokens [inputs]: tokens in each, in the order of the tensors.
 * hessian.model: tells the model from others. */
#ifndef HESSIAN_H
#define HESSIAN_H
#include "layerwise.h"

typedef struct hs_writer {
    quant_gguf_out out;
    float *packed;                  /* [most cols (cols + 1) / 2]                                */
    size_t done;
} hs_writer;

/* The matrix that stands for input i of all the model's, [LW_INPUTS] of each layer. */
static inline llama_linear *hs_matrix(const llama_model *m, size_t i)
{
    return llama_layer_matrix(&m->layers[i / LW_INPUTS], (size_t)lw_inputs[i % LW_INPUTS].mats[0]);
}

/* "blk.0.attn_q.weight" -> "blk.0.attn_q.hessian"; buf needs 160 bytes. */
static inline const char *hs_name(char *buf, const llama_linear *l)
{
    quant_str t = l->tensor->name;
    size_t n = t.n > 7 && t.n < 128 ? t.n - 7 : 0;      /* less ".weight"                         */
    snprintf(buf, 160, "%.*s.hessian", (int)n, t.p);
    return buf;
}

static inline uint64_t hs_cells(size_t cols) { return (uint64_t)cols * (cols + 1) / 2; }

/* A number for the model: names, shapes and types, and the first bytes of every tensor. */
static inline uint64_t hs_model(const llama_model *m)
{
    uint64_t h = 0;
    size_t i, shard;
    for (i = 0; i < m->set.n_tensors; i++) {
        const quant_tensor *t = quant_set_tensor(&m->set, i, &shard);
        const uint8_t *p = (const uint8_t *)quant_gguf_data(&m->shards[shard], t);
        h = h * 31 + lw__sum((const uint8_t *)t->name.p, t->name.n);
        h = h * 31 + t->type + 3 * t->ne[0] + 7 * t->ne[1];
        if (p) h = h * 31 + lw__sum(p, t->size < 4096 ? (size_t)t->size : 4096);
    }
    return h;
}

/* What stands before the tensors of a file. */
static inline void hs_header(quant_gguf_out *out, quant_sink sink, uint64_t id,
                             const uint64_t *tokens, size_t n)
{
    quant_gguf_begin(out, sink, 0, NULL);
    quant_gguf_put_str(out, "general.type", "hessian");
    quant_gguf_put(out, "hessian.model", QUANT_KV_U64, &id);
    quant_gguf_put_array(out, "hessian.tokens", QUANT_KV_U64, tokens, n);
}

static inline int hs_emit(void *user, lw_work *w, int mat)
{
    hs_writer *hw = (hs_writer *)user;
    size_t cols = w->mat[mat].cols;
    quant_triangle_pack(hw->packed, w->h, cols, cols);
    quant_gguf_write(&hw->out, hw->packed, (size_t)hs_cells(cols) * sizeof *hw->packed);
    llama_progress(++hw->done, LW_INPUTS * w->m->hp.n_layer, w->since, "");
    return hw->out.err.code ? llama_fail(w->err, "write error") : lw_stopped(w);
}

/* Runs tokens through the model and writes the sums.  0, or why not. */
static inline const char *hs_collect(llama_model *m, llama_context *c, const llama_tokens *t,
                                     const lw_options *o, const char *path)
{
    static lw_work w;
    static hs_writer hw;
    const size_t n = LW_INPUTS * m->hp.n_layer;
    uint64_t *tokens = (uint64_t *)malloc(n * sizeof *tokens), most = 0, cells;
    lw_options options = *o;
    out_file f;
    char name[160];
    const char *why;
    size_t i;
    int r;
    for (i = 0; i < n; i++) {
        cells = hs_cells(hs_matrix(m, i)->m.cols);
        if (cells > most) most = cells;
        if (tokens) tokens[i] = (uint64_t)o->n_ctx * o->chunks;
    }
    hw.packed = (float *)malloc((size_t)most * sizeof *hw.packed);
    why = !tokens || !hw.packed ? "out of memory" : out_begin(&f, path);
    if (why) { free(tokens); free(hw.packed); return why; }
    hs_header(&hw.out, out_sink(&f), hs_model(m), tokens, n);
    for (i = 0; i < n; i++) {
        cells = hs_cells(hs_matrix(m, i)->m.cols);
        quant_gguf_put_tensor(&hw.out, hs_name(name, hs_matrix(m, i)), QUANT_F32, &cells, 1);
    }
    quant_gguf_header(&hw.out);
    options.emit = hs_emit;
    options.user = &hw;
    r = lw_gather(&w, m, c, t, &options);
    if (quant_gguf_end(&hw.out) != QUANT_OK && r == 0)
        r = llama_fail(w.err, "the file cannot be written");
    why = out_end(&f, r != 0);
    free(tokens);
    free(hw.packed);
    return why ? why : r ? w.err : NULL;
}

/* Using a file ----------------------------------------------------------------------------------*/

typedef struct hs_file {
    quant_gguf g;
    uint64_t   tokens;              /* least over the inputs                                     */
    uint64_t   sum;                 /* of some of the contents                                   */
} hs_file;

/* Opens and checks the form of a file.  0, or why not. */
static inline const char *hs_open(hs_file *h, const char *path)
{
    static char text[240];
    const quant_kv *kv;
    quant_str type = { NULL, 0 };
    uint64_t v;
    size_t i;
    memset(h, 0, sizeof *h);
    if (quant_gguf_open_file(&h->g, path, NULL, NULL) != QUANT_OK)
        return quant_error_text(text, sizeof text, &h->g.err), text;
    quant_gguf_get_str(&h->g, "general.type", &type);
    kv = quant_gguf_find(&h->g, "hessian.tokens");
    if (!str_is(type, "hessian") || !kv || kv->count != h->g.n_tensors || kv->count == 0 ||
        quant_gguf_get_u64(&h->g, "hessian.model", &v) != QUANT_OK)
        return "not a file of `calibrate hessian`";
    h->tokens = UINT64_MAX;
    for (i = 0; i < h->g.n_tensors; i++) {
        const quant_tensor *t = &h->g.tensors[i];
        const uint8_t *p = (const uint8_t *)quant_gguf_data(&h->g, t);
        if (quant_kv_u64(kv, i, &v) != QUANT_OK || v == 0 || t->type != QUANT_F32 || t->n_dims != 1
            || !p || t->ne[0] > SIZE_MAX / 8) return "a damaged file of `calibrate hessian`";
        if (v < h->tokens) h->tokens = v;
        h->sum = h->sum * 31 + v + lw__sum(p, t->size < 65536 ? (size_t)t->size : 65536);
    }
    return NULL;
}

/* 0 if the sums are of this model, or why not. */
static inline const char *hs_check(const hs_file *h, const llama_model *m)
{
    char name[160];
    uint64_t id = 0;
    size_t i;
    quant_gguf_get_u64(&h->g, "hessian.model", &id);
    if (id != hs_model(m)) return "the sums were made with another model";
    for (i = 0; i < LW_INPUTS * m->hp.n_layer; i++) {
        const llama_linear *l = hs_matrix(m, i);
        const quant_tensor *t = quant_gguf_find_tensor(&h->g, hs_name(name, l));
        if (!t || t->ne[0] != hs_cells(l->m.cols))
            return "an input's sums are missing or have another shape";
    }
    return NULL;
}

/* Fills w->h [cols x cols], lower, with the sums of the input of matrix `mat`. */
static inline int hs_load(void *user, lw_work *w, int mat)
{
    const hs_file *h = (const hs_file *)user;
    size_t cols = w->mat[mat].cols;
    char name[160];
    const quant_tensor *t = quant_gguf_find_tensor(&h->g, hs_name(name, w->mat[mat].from));
    float *packed = (float *)malloc((size_t)hs_cells(cols) * sizeof *packed);
    if (!t || !packed || quant_to_f32(QUANT_F32, packed, quant_gguf_data(&h->g, t), 1,
                                      (size_t)hs_cells(cols)) != QUANT_OK) {
        free(packed);
        return llama_fail(w->err, "sums cannot be read");
    }
    memset(w->h, 0, cols * cols * sizeof *w->h);
    quant_triangle_add(w->h, cols, packed, cols);
    free(packed);
    return 0;
}

/* Merging ---------------------------------------------------------------------------------------*/

/* Do b's tensors and model equal a's? */
static inline const char *hs_alike(const hs_file *a, const hs_file *b)
{
    uint64_t x = 0, y = 1;
    size_t i;
    quant_gguf_get_u64(&a->g, "hessian.model", &x);
    quant_gguf_get_u64(&b->g, "hessian.model", &y);
    if (x != y) return "made with another model than the first file";
    if (a->g.n_tensors != b->g.n_tensors) return "other inputs than in the first file";
    for (i = 0; i < a->g.n_tensors; i++) {
        const quant_tensor *s = &a->g.tensors[i], *t = &b->g.tensors[i];
        if (s->name.n != t->name.n || memcmp(s->name.p, t->name.p, s->name.n) ||
            s->ne[0] != t->ne[0]) return "other inputs or shapes than in the first file";
    }
    return NULL;
}

/* One tensor of the sum: the files' elements added in double in the order given, rounded once. */
static inline int hs_merge_tensor(quant_gguf_out *out, const hs_file *h, size_t n, size_t tensor)
{
    enum { PART = 4096 };
    size_t size = (size_t)h[0].g.tensors[tensor].ne[0], at, k, i;
    double sum[PART];
    float x[PART];
    for (at = 0; at < size; at += PART) {
        size_t part = size - at < PART ? size - at : PART;
        for (k = 0; k < n; k++) {
            const quant_tensor *t = &h[k].g.tensors[tensor];
            if (quant_gguf_read(&h[k].g, t, x, at * sizeof *x, part * sizeof *x) != QUANT_OK)
                return -1;
            quant_to_f32(QUANT_F32, x, x, 1, part);
            for (i = 0; i < part; i++) sum[i] = (k ? sum[i] : 0) + (double)x[i];
        }
        for (i = 0; i < part; i++) x[i] = (float)sum[i];
        quant_gguf_write(out, x, part * sizeof *x);
    }
    return 0;
}

/* OUT = sum of the files.  0, or why not; *which is the file that is to blame. */
static inline const char *hs_merge(char **paths, size_t n, const char *path, const char **which)
{
    static const char *bad = "the file cannot be written";
    hs_file *h = (hs_file *)calloc(n, sizeof *h);
    uint64_t *tokens = NULL, v, id = 0;
    const char *why = h ? NULL : "out of memory";
    quant_gguf_out out;
    out_file f;
    char name[160];
    size_t i, k;
    int r = 0;
    *which = path;
    for (k = 0; k < n && !why; k++) {
        why = hs_open(&h[k], paths[k]);
        if (!why && k) why = hs_alike(&h[0], &h[k]);
        if (why) *which = paths[k];
    }
    if (!why && !(tokens = (uint64_t *)calloc(h[0].g.n_tensors, sizeof *tokens)))
        why = "out of memory";
    if (!why) why = out_begin(&f, path);
    if (!why) {
        for (k = 0; k < n; k++)
            for (i = 0; i < h[0].g.n_tensors; i++)
                if (quant_kv_u64(quant_gguf_find(&h[k].g, "hessian.tokens"), i, &v) == QUANT_OK)
                    tokens[i] += v;
        quant_gguf_get_u64(&h[0].g, "hessian.model", &id);
        hs_header(&out, out_sink(&f), id, tokens, h[0].g.n_tensors);
        for (i = 0; i < h[0].g.n_tensors; i++) {
            const quant_tensor *t = &h[0].g.tensors[i];
            snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
            quant_gguf_put_tensor(&out, name, QUANT_F32, t->ne, 1);
        }
        quant_gguf_header(&out);
        for (i = 0; i < h[0].g.n_tensors && r == 0; i++)
            r = stopped() ? -1 : hs_merge_tensor(&out, h, n, i);
        if (quant_gguf_end(&out) != QUANT_OK) r = -1;
        why = out_end(&f, r);
        if (r && !why) why = stopped() ? "interrupted, nothing written" : bad;
        else if (!why)
            fprintf(stderr, "%s: %zu inputs, %" PRIu64 " tokens\n", path, h[0].g.n_tensors,
                    tokens[0]);
    }
    for (k = 0; k < n && h; k++) quant_gguf_close(&h[k].g);
    free(h);
    free(tokens);
    return why;
}
#endif
