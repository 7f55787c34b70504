/* layerwise.h - quantizes a model matrix by matrix while a text runs through it, for calibrate.c.
 *
 * Two streams of hidden states go through the blocks side by side: `plain`, the model as it was,
 * and `real`, the model with everything quantized so far.  A matrix is quantized once all tokens
 * have reached it in both; then the tokens go on.  So every matrix sees what it will see later, and
 * knows what it should have seen.  In memory: one block's weights as floats, the states of all
 * tokens, the finished bytes of the quantized matrices; the model itself stays in its file.
 *
 * Sections: >>work >>products >>stream >>capture >>matrices >>resume >>write */
#ifndef LAYERWISE_H
#define LAYERWISE_H
#include "common.h"
#include "gemm.h"
#include "llama.h"

/* >>work ----------------------------------------------------------------------------------------*/
enum { LW_Q, LW_K, LW_V, LW_O, LW_GATE, LW_UP, LW_DOWN, LW_MATS };

/* The matrices that share an input.  mid: it is not the output of a norm. */
typedef struct lw_input { int mats[3]; size_t n; int mid; } lw_input;
enum { LW_INPUTS = 4 };
static const lw_input lw_inputs[LW_INPUTS] = {
    { { LW_Q, LW_K, LW_V }, 3, 0 }, { { LW_O, 0, 0 }, 1, 1 },
    { { LW_GATE, LW_UP, 0 }, 2, 0 }, { { LW_DOWN, 0, 0 }, 1, 1 }
};

enum { LW_PLAIN, LW_REAL, LW_STREAMS };
enum { LW_ROWS = 64 };              /* queries at a time in attention                            */

enum { LW_AWQ = 1, LW_GPTQ = 2 };      /* methods: scales before rounding; GPTQ, else nearest   */

struct lw_work;

typedef struct lw_options {
    size_t         n_ctx, chunks;   /* tokens are n_ctx * chunks                                 */
    size_t         first;           /* chunks of the text that are left out                      */
    quant_gptq_opt gptq;
    quant_grid     integers;        /* bits != 0: rounded to these and stored as F16             */
    float          shift;           /* how far W moves towards what the data asks of it          */
    float          residual;        /* how much of the stream's own error o and down make up for */
    int            mix;             /* mix number, or -1: `type` for all matrices of the blocks  */
    quant_type     type;
    uint32_t       methods;         /* LW_AWQ, LW_GPTQ or both                                   */
    FILE          *report;          /* NULL, or one line for each matrix                         */
    /* NULL, or gives w->h instead of a text, for all matrices that share mat's input            */
    int          (*sums)(void *user, struct lw_work *w, int mat);
    size_t         sums_tokens;
    /* NULL, or takes w->h, lower, and nothing is quantized; methods and shift are 0             */
    int          (*emit)(void *user, struct lw_work *w, int mat);
    void          *user;
} lw_options;

/* One matrix of the block being worked on. */
typedef struct lw_matrix {
    const llama_linear *from;
    float *w;                       /* [rows x cols] as in the model                             */
    float *v;                       /* [rows x cols] what was stored                             */
    float *turned[LW_STREAMS];      /* [cols x rows] w and v                                     */
    size_t rows, cols;
} lw_matrix;

/* A finished tensor. */
typedef struct lw_tensor {
    const quant_tensor *t;
    quant_type type;
    uint8_t   *data;
    size_t     size;
    float      scale;               /* NVFP4                                                     */
} lw_tensor;

/* A norm or bias that was divided by scales, for the output file. */
typedef struct awq_folded { const quant_tensor *t; float *data; size_t n; } awq_folded;

typedef struct awq_state {
    awq_folded *folded;             /* [n_folded]                                                */
    size_t n_folded;
    float  *h;                      /* [cols x cols] both halves                                 */
    float  *s, *s_v;                /* [cols] scales; those of v's rows                          */
    double *seen, *weighed, *loss;  /* [cols] sums of |x|, of weights; [rows]                    */
    uint8_t *scratch;               /* of each thread, for quant_awq_rows                        */
    size_t  each;
} awq_state;

typedef struct lw_work {
    char              err[LLAMA_ERR];
    const lw_options *o;
    llama_model      *m;
    llama_context    *c;
    size_t            tokens, e, width;     /* e: length of a state; width: of a middle one      */
    float *x[LW_STREAMS];           /* [tokens x e] states                                       */
    float *mid[LW_STREAMS];         /* [tokens x width] inputs of o and of down                  */
    lw_matrix mat[LW_MATS];
    float *h, *cross, *e_rows;      /* [cols x cols], [cols x cols] or [rows x cols], the same   */
    float *a, *b;                   /* [n_ctx x most] inputs and outputs of a chunk              */
    float *panels;                  /* of each thread for gemm                                   */
    void  *linalg;                  /* and for quant_hessian_add                                 */
    float *heads;                   /* and for attention, heads_each                             */
    size_t heads_each;
    void  *prepared;                /* for quant_gptq_prepare                                    */
    size_t prepared_size;
    void  *scratch;                 /* for quant_gptq_rows, of each thread                       */
    size_t scratch_each, most;
    lw_tensor *done;                /* [n_done]                                                  */
    size_t n_done, n_mats, restored;        /* restored: done by an earlier run                  */
    size_t rows, plain;             /* quantized by this run; plain rounding was better for      */
    awq_state awq;
    quant_cpu cpu;
    double since;
    FILE  *part;                    /* finished tensors are appended to it                       */
    llama_arena arena;
} lw_work;

/* -1 and why, once the user has interrupted the program: sums may then lack tokens. */
static inline int lw_stopped(lw_work *w)
{
    if (!stopped()) return 0;
    return llama_fail(w->err, w->o->emit ? "interrupted, nothing written"
                                         : "interrupted; the same command goes on");
}

/* >>products ------------------------------------------------------------------------------------*/
struct lw__gemm { const gemm_task *t; float *panels; };

static inline void lw__gemm_job(void *arg, size_t thread, size_t n_threads)
{
    const struct lw__gemm *g = (const struct lw__gemm *)arg;
    gemm_share(g->t, g->panels + thread * GEMM_K * GEMM_N, thread, n_threads);
}

static inline void lw_gemm(lw_work *w, const gemm_task *t)
{
    struct lw__gemm g;
    g.t = t;
    g.panels = w->panels;
    llama_pool_run(&w->c->pool, lw__gemm_job, &g);
}

/* y [n x rows] = x [n x cols] W^T with the matrix as this stream has it */
static inline void lw_product(lw_work *w, float *y, const float *x, int stream, int mat, size_t n)
{
    const lw_matrix *m = &w->mat[mat];
    gemm_task t;
    memset(&t, 0, sizeof t);
    memset(y, 0, n * m->rows * sizeof *y);
    t.c = y; t.ldc = m->rows;
    t.a = x; t.a_row = m->cols; t.a_col = 1;
    t.b = m->turned[stream]; t.ldb = m->rows;
    t.m = n; t.n = m->rows; t.k = m->cols;
    t.sign = 1;
    lw_gemm(w, &t);
}

/* Makes the turned copy of w or v; tiles, for the sake of the cache. */
static inline void lw_turn(lw_matrix *m, int stream)
{
    const float *src = stream == LW_PLAIN ? m->w : m->v;
    float *dst = m->turned[stream];
    size_t i0, j0, i, j;
    for (i0 = 0; i0 < m->rows; i0 += 16)
        for (j0 = 0; j0 < m->cols; j0 += 16)
            for (i = i0; i < i0 + 16 && i < m->rows; i++)
                for (j = j0; j < j0 + 16 && j < m->cols; j++)
                    dst[j * m->rows + i] = src[i * m->cols + j];
}

struct lw__hessian { float *h; const float *x, *y; size_t tokens, cols; uint8_t *scratch; };

static inline void lw__hessian_job(void *arg, size_t thread, size_t n_threads)
{
    const struct lw__hessian *j = (const struct lw__hessian *)arg;
    void *scratch = j->scratch + thread * quant_linalg_scratch_size();
    size_t n = j->cols, r0 = quant_triangle_split(n, thread, n_threads);
    size_t r1 = quant_triangle_split(n, thread + 1, n_threads);
    if (!j->y) {
        quant_hessian_add(j->h, n, j->x, n, j->tokens, n, r0, r1, quant_cpu_detect(), scratch);
        return;
    }
    llama_share((n + 7) / 8, thread, n_threads, &r0, &r1);
    quant_cross_add(j->h, n, j->x, n, j->y, n, j->tokens, n, r0 * 8, r1 * 8 < n ? r1 * 8 : n,
                    quant_cpu_detect(), scratch);
}

/* Lower half of h [cols x cols] += x^T x, or with y all of h += x^T y; x, y [tokens x cols]. */
static inline void lw_hessian(lw_work *w, float *h, const float *x, const float *y, size_t tokens,
                              size_t cols)
{
    struct lw__hessian j;
    j.h = h;
    j.x = x;
    j.y = y;
    j.tokens = tokens;
    j.cols = cols;
    j.scratch = (uint8_t *)w->linalg;
    llama_pool_run(&w->c->pool, lw__hessian_job, &j);
}

/* c [m x n] += sign a [k x m]^T b [k x n] */
static inline void lw_outer(lw_work *w, float *c, const float *a, const float *b, size_t k,
                            size_t m, size_t n, float sign)
{
    gemm_task t;
    memset(&t, 0, sizeof t);
    t.c = c; t.ldc = n;
    t.a = a; t.a_row = 1; t.a_col = m;
    t.b = b; t.ldb = n;
    t.m = m; t.n = n; t.k = k;
    t.sign = sign;
    lw_gemm(w, &t);
}

/* c [m x n] += sign a [m x k] b [k x n] */
static inline void lw_inner(lw_work *w, float *c, const float *a, const float *b, size_t m,
                            size_t k, size_t n, float sign)
{
    gemm_task t;
    memset(&t, 0, sizeof t);
    t.c = c; t.ldc = n;
    t.a = a; t.a_row = k; t.a_col = 1;
    t.b = b; t.ldb = n;
    t.m = m; t.n = n; t.k = k;
    t.sign = sign;
    lw_gemm(w, &t);
}

/* >>stream --------------------------------------------------------------------------------------
 * Chunks of n_ctx tokens, each a text of its own. */
struct lw__norm { float *h; const float *x, *w; size_t n, e; float eps; };

static inline void lw__norm_job(void *arg, size_t thread, size_t n_threads)
{
    const struct lw__norm *j = (const struct lw__norm *)arg;
    size_t t, t1;
    llama_share(j->n, thread, n_threads, &t, &t1);
    for (; t < t1; t++) llama__rms(j->h + t * j->e, j->x + t * j->e, j->w, j->e, j->eps);
}

/* h = the normed states of a chunk. */
static inline void lw_norm(lw_work *w, float *h, int stream, size_t chunk, const float *weight)
{
    struct lw__norm j;
    j.h = h;
    j.x = w->x[stream] + chunk * w->o->n_ctx * w->e;
    j.w = weight;
    j.n = w->o->n_ctx;
    j.e = w->e;
    j.eps = w->m->hp.eps;
    llama_pool_run(&w->c->pool, lw__norm_job, &j);
}

/* Probabilities in s [n][ld]: row r, the query t0 + r, sees keys first .. t0 + r. */
static inline void lw__softmax(float *s, size_t ld, size_t n, size_t t0, size_t keys, float scale,
                               size_t window)
{
    size_t r, j;
    for (r = 0; r < n; r++, s += ld) {
        size_t end = t0 + r + 1, first = window && end > window ? end - window : 0;
        float most = -INFINITY, inv;
        double sum = 0;
        for (j = first; j < end; j++) most = s[j] > most ? s[j] : most;
        for (j = first; j < end; j++) {
            s[j] = expf(scale * (s[j] - most));
            sum += (double)s[j];
        }
        inv = (float)(1 / sum);
        for (j = 0; j < keys; j++) s[j] = j < first || j >= end ? 0 : s[j] * inv;
    }
}

/* Attention of whole chunks as products, a head for a thread at a time: out c->h. */
static inline void lw__heads_job(void *arg, size_t thread, size_t n_threads)
{
    llama__step *st = (llama__step *)arg;
    llama_context *c = st->c;
    lw_work *w = (lw_work *)c->user;
    const llama_hparams *h = &c->model->hp;
    size_t d = h->head_dim, n = st->n, head, t0, i, j, q = h->n_head * d;
    float *s = w->heads + thread * w->heads_each, *kt = s + LW_ROWS * n, *v = kt + n * d;
    float *panel = w->panels + thread * GEMM_K * GEMM_N;
    gemm_task t;
    memset(&t, 0, sizeof t);
    t.sign = 1;
    for (head = thread; head < h->n_head; head += n_threads) {
        size_t at = head / (h->n_head / h->n_head_kv) * c->n_ctx * d;
        quant_to_f32(QUANT_F16, v, c->k + at, n, d);
        for (i = 0; i < n; i++) for (j = 0; j < d; j++) kt[j * n + i] = v[i * d + j];
        quant_to_f32(QUANT_F16, v, c->v + at, n, d);
        for (t0 = 0; t0 < n; t0 += LW_ROWS) {
            size_t rows = n - t0 < LW_ROWS ? n - t0 : LW_ROWS, keys = t0 + rows;
            memset(s, 0, LW_ROWS * n * sizeof *s);
            t.c = s; t.ldc = n; t.m = rows; t.n = keys; t.k = d;
            t.a = c->q + t0 * q + head * d; t.a_row = q; t.a_col = 1;
            t.b = kt; t.ldb = n;
            gemm_share(&t, panel, 0, 1);
            lw__softmax(s, n, rows, t0, keys, h->attn_scale, st->layer->windowed ? h->window : 0);
            for (i = 0; i < rows; i++) memset(c->h + (t0 + i) * q + head * d, 0, d * sizeof *s);
            t.c = c->h + t0 * q + head * d; t.ldc = q; t.n = d; t.k = keys;
            t.a = s; t.a_row = n;
            t.b = v; t.ldb = d;
            gemm_share(&t, panel, 0, 1);
        }
    }
}

/* The inputs of o: attention over one chunk. */
static inline void lw_attention(lw_work *w, int stream, size_t chunk, size_t layer)
{
    const llama_hparams *h = &w->m->hp;
    llama_context *c = w->c;
    llama__step s;
    size_t n = w->o->n_ctx, q = h->n_head * h->head_dim;
    memset(&s, 0, sizeof s);
    s.c = c;
    s.n = n;
    s.layer = &w->m->layers[layer];
    s.layer_index = 0;              /* the cache has room for one layer's keys only              */
    c->n_past = 0;
    lw_norm(w, c->h, stream, chunk, s.layer->attn_norm);
    lw_product(w, c->q, c->h, stream, LW_Q, n);
    lw_product(w, c->kn, c->h, stream, LW_K, n);
    lw_product(w, c->vn, c->h, stream, LW_V, n);
    llama_pool_run(&c->pool, llama__heads, &s);
    llama_pool_run(&c->pool, lw__heads_job, &s);
    memcpy(w->mid[stream] + chunk * n * w->width, c->h, n * q * sizeof *c->h);
}

/* The inputs of down. */
static inline void lw_forward(lw_work *w, int stream, size_t chunk, size_t layer)
{
    llama_context *c = w->c;
    llama__step s;
    size_t n = w->o->n_ctx, ff = w->m->hp.n_ff;
    memset(&s, 0, sizeof s);
    s.c = c;
    s.n = n;
    s.layer = &w->m->layers[layer];
    lw_norm(w, c->h, stream, chunk, s.layer->ffn_norm);
    lw_product(w, c->gate, c->h, stream, LW_GATE, n);
    lw_product(w, c->up, c->h, stream, LW_UP, n);
    llama_pool_run(&c->pool, llama__activate, &s);
    memcpy(w->mid[stream] + chunk * n * w->width, c->gate, n * ff * sizeof *c->gate);
}

/* x += y [n_ctx x e], the product of o or down, with what the model does to it before. */
static inline void lw_add(lw_work *w, int stream, size_t chunk, size_t layer, int mat, float *y)
{
    const llama_layer *l = &w->m->layers[layer];
    size_t n = w->o->n_ctx, t, i, e = w->e;
    const float *bias = mat == LW_O ? l->o.bias : l->down.bias;
    const float *post = mat == LW_O ? l->attn_post : l->ffn_post;
    for (t = 0; t < n; t++, y += e) {
        float *x = w->x[stream] + (chunk * n + t) * e;
        if (bias) for (i = 0; i < e; i++) y[i] += bias[i];
        if (post) llama__rms(y, y, post, e, w->m->hp.eps);
        for (i = 0; i < e; i++) x[i] += y[i];
    }
}

/* The real stream goes on past o or down. */
static inline void lw_residual(lw_work *w, size_t layer, int mat)
{
    size_t n = w->o->n_ctx, chunk;
    for (chunk = 0; chunk < w->o->chunks && !stopped(); chunk++) {
        lw_product(w, w->b, w->mid[LW_REAL] + chunk * n * w->width, LW_REAL, mat, n);
        lw_add(w, LW_REAL, chunk, layer, mat, w->b);
    }
}

/* >>capture -------------------------------------------------------------------------------------
 * What quantizing needs of the inputs: H = X^T X of the real stream, and the cross products
 * of X with what the outputs lack. */

/* q, k, v or gate, up: H and D = (plain - real)^T real of the normed states. */
static inline void lw_capture_norm(lw_work *w, const float *norm)
{
    size_t e = w->e, n = w->o->n_ctx, chunk, i;
    memset(w->h, 0, e * e * sizeof *w->h);
    memset(w->cross, 0, e * e * sizeof *w->cross);
    for (chunk = 0; chunk < w->o->chunks && !stopped(); chunk++) {
        lw_norm(w, w->a, LW_REAL, chunk, norm);
        lw_hessian(w, w->h, w->a, NULL, n, e);
        if (w->o->shift <= 0) continue;
        lw_norm(w, w->b, LW_PLAIN, chunk, norm);
        for (i = 0; i < n * e; i++) w->b[i] -= w->a[i];
        lw_hessian(w, w->cross, w->b, w->a, n, e);
    }
}

/* o and down: H of the middle states, and cross [e x cols] = (what the outputs should be)^T X.
 * The plain stream goes on past the matrix. */
static inline void lw_capture_mid(lw_work *w, size_t layer, int mat)
{
    const llama_layer *l = &w->m->layers[layer];
    size_t e = w->e, n = w->o->n_ctx, cols = w->mat[mat].cols, chunk, i;
    int post = (mat == LW_O ? l->attn_post : l->ffn_post) != NULL;
    memset(w->h, 0, cols * cols * sizeof *w->h);
    memset(w->cross, 0, e * cols * sizeof *w->cross);
    for (chunk = 0; chunk < w->o->chunks && !stopped(); chunk++) {
        const float *mid = w->mid[LW_REAL] + chunk * n * w->width;
        const float *plain = w->x[LW_PLAIN] + chunk * n * e, *real = w->x[LW_REAL] + chunk * n * e;
        lw_hessian(w, w->h, mid, NULL, n, cols);
        if (w->o->shift <= 0) continue;
        lw_product(w, w->b, w->mid[LW_PLAIN] + chunk * n * w->width, LW_PLAIN, mat, n);
        for (i = 0; i < n * e; i++)             /* the states before this matrix: how far apart  */
            w->a[i] = w->b[i] + (post ? 0 : w->o->residual * (plain[i] - real[i]));
        lw_outer(w, w->cross, w->a, mid, n, e, cols, 1);
        lw_add(w, LW_PLAIN, chunk, layer, mat, w->b);
    }
}

static inline quant_type lw_type(const lw_work *w, const llama_linear *l);

/* Makes w->mat[mat] that of a layer, without its weights. */
static inline lw_matrix *lw_set(lw_work *w, size_t layer, size_t mat)
{
    lw_matrix *x = &w->mat[mat];
    x->from = llama_layer_matrix(&w->m->layers[layer], mat);
    x->rows = x->from->m.rows;
    x->cols = x->from->m.cols;
    return x;
}

/* What x is rounded to; integers whose groups do not divide a row have groups of 32. */
static inline quant_grid lw_grid(const lw_work *w, const lw_matrix *x)
{
    quant_grid grid = w->o->integers;
    grid.type = lw_type(w, x->from);
    if (grid.bits && x->cols % (grid.group ? grid.group : 1)) grid.group = 32;
    return grid;
}

/* The tensor scale for n weights, 0 for grids without one. */
static inline float lw_tensor_scale(const quant_grid *grid, const float *x, size_t n)
{
    float amax = 0;
    size_t i;
    if (grid->bits || grid->type != QUANT_NVFP4) return 0;
    for (i = 0; i < n; i++) amax = fmaxf(amax, fabsf(x[i]));
    return quant_tensor_scale(grid->type, amax);
}

#include "awq.h"

/* >>matrices ------------------------------------------------------------------------------------*/
struct lw__rows { const quant_gptq *g; const quant_gptq_out *out; float *w; const float *e;
                  size_t rows; float shift; lw_work *work; int failed; quant_error err; };

static inline void lw__rows_job(void *arg, size_t thread, size_t n_threads)
{
    struct lw__rows *j = (struct lw__rows *)arg;
    uint8_t *scratch = (uint8_t *)j->work->scratch + thread * j->work->scratch_each;
    size_t r0, r1, cols = j->g->cols, units = (j->rows + 31) / 32;
    quant_error err;
    quant_result r = QUANT_OK;
    llama_share(units, thread, n_threads, &r0, &r1);
    r0 *= 32;
    r1 = r1 * 32 < j->rows ? r1 * 32 : j->rows;
    if (r0 >= r1) return;
    if (j->e)
        r = quant_gptq_shift(j->g, j->w, cols, j->e, cols, r0, r1, j->shift, scratch,
                             j->work->scratch_each, &err);
    if (r == QUANT_OK)
        r = quant_gptq_rows(j->out, j->g, j->w, cols, r0, r1, scratch, j->work->scratch_each,
                            &err);
    if (r != QUANT_OK) { j->failed = 1; j->err = err; }
}

/* The finished tensor of a name, NULL if there is none. */
static inline lw_tensor *lw_find(const lw_work *w, const quant_tensor *t)
{
    size_t i;
    for (i = 0; i < w->n_done; i++) if (w->done[i].t == t) return &w->done[i];
    return NULL;
}

static inline int lw_save(lw_work *w, const lw_tensor *t);

/* What a finished tensor stands for, as every reader of the file will see it. */
static inline int lw_decode(lw_matrix *x, const lw_tensor *t)
{
    size_t k, n = x->rows * x->cols;
    if (quant_to_f32(t->type, x->v, t->data, x->rows, x->cols) != QUANT_OK) return -1;
    if (t->type == QUANT_NVFP4) for (k = 0; k < n; k++) x->v[k] *= t->scale;
    lw_turn(x, LW_REAL);
    return 0;
}

/* Quantizes matrix `mat` from w->h, which is prepared already.  e: [rows x cols] or NULL. */
static inline int lw_quantize(lw_work *w, const quant_gptq *g, int mat, const float *e)
{
    lw_matrix *x = &w->mat[mat];
    lw_tensor *t = &w->done[w->n_done];
    quant_gptq_out out;
    struct lw__rows j;
    double *loss = (double *)malloc(x->rows * sizeof *loss), sum = 0, since;
    uint8_t *plain = (uint8_t *)calloc(x->rows, 1);
    size_t i, n_plain = 0;
    int r = -1;
    memset(t, 0, sizeof *t);
    memset(&out, 0, sizeof out);
    memset(&j, 0, sizeof j);
    t->t = x->from->tensor;
    t->type = w->o->integers.bits ? QUANT_F16 : g->grid.type;
    t->scale = g->grid.tensor_scale;
    t->size = quant_row_size(t->type, x->cols) * x->rows;
    t->data = (uint8_t *)malloc(t->size);
    j.w = (float *)malloc(x->rows * x->cols * sizeof *j.w);
    if (!loss || !plain || !t->data || !j.w) {
        llama_fail(w->err, "out of memory");
    } else {
        memcpy(j.w, x->w, x->rows * x->cols * sizeof *j.w);
        out.rows = t->data;
        out.values = x->v;
        out.loss = loss;
        out.plain = plain;
        j.g = g;
        j.out = &out;
        j.e = e;
        j.shift = w->o->shift;
        j.rows = x->rows;
        j.work = w;
        if (!(w->o->methods & LW_GPTQ)) j.failed = awq_round(w, &out, mat, g->grid.tensor_scale);
        else llama_pool_run(&w->c->pool, lw__rows_job, &j);
        if (!(w->o->methods & LW_GPTQ)) r = j.failed ? -1 : 0;
        else if (j.failed) quant_error_text(w->err, LLAMA_ERR, &j.err);
        else r = 0;
    }
    for (i = 0; i < x->rows && r == 0; i++) {
        sum += loss[i];
        n_plain += plain[i];
    }
    if (r == 0) {
        char name[96];
        if (w->o->integers.bits) {
            quant_encoder f16;
            quant_encoder_init(&f16, QUANT_F16, QUANT_EFFORT_REFERENCE, NULL, 0);
            quant_from_f32(&f16, t->data, x->v, x->rows, x->cols, NULL, NULL);
        }
        llama_printable(name, sizeof name, t->t->name);
        sum /= (double)w->tokens * (double)x->rows;
        if (w->o->report)
            fprintf(w->o->report, "%s\t%s\t%zu\t%zu\t%.6g\t%.4g\t%u\t%zu\t%zu\n", name,
                    w->o->integers.bits ? "int" : quant_type_name(t->type), x->rows, x->cols, sum,
                    (double)g->damp, (unsigned)g->raised, g->dead, n_plain);
        w->n_done++;
        w->rows += x->rows;
        w->plain += n_plain;
        r = lw_decode(x, t);
        if (r == 0) r = lw_save(w, t);
        snprintf(name + strlen(name), sizeof name - strlen(name), " loss %.3g", sum);
        since = llama_seconds() - w->since;     /* as if all had taken as long as those of now   */
        since *= (double)w->n_done / (double)(w->n_done - w->restored);
        llama_progress(w->n_done, w->n_mats, llama_seconds() - since, name);
    } else {
        free(t->data);
    }
    free(loss);
    free(plain);
    free(j.w);
    return r;
}

/* Quantizes the matrices of one input.  mid: w->cross is [rows x cols] and wants W H taken off;
 * else it is D [cols x cols]. */
static inline int lw_group(lw_work *w, const int *mats, size_t n, int mid)
{
    size_t i, cols = w->mat[mats[0]].cols, k;
    quant_gptq g;
    quant_error err;
    quant_type before = QUANT_TYPE_COUNT;
    float *full = (float *)malloc(cols * cols * sizeof *full);
    int r = 0;
    if (!full) return llama_fail(w->err, "out of memory");
    for (i = 0; i < cols; i++)                  /* whole, undamped: W H and a second type        */
        for (k = 0; k <= i; k++) full[k * cols + i] = full[i * cols + k] = w->h[i * cols + k];
    for (i = 0; i < n && r == 0; i++) {
        lw_matrix *x = &w->mat[mats[i]];
        quant_grid grid = lw_grid(w, x);
        lw_tensor *done = lw_find(w, x->from->tensor);
        if (done) {
            r = lw_decode(x, done);
            continue;
        }
        grid.tensor_scale = lw_tensor_scale(&grid, x->w, x->rows * cols);
        if (grid.type == QUANT_NVFP4) before = QUANT_TYPE_COUNT;
        if (!(w->o->methods & LW_GPTQ)) {
            memset(&g, 0, sizeof g);
            g.grid = grid;
            memcpy(w->awq.h, full, cols * cols * sizeof *full);
        } else if (grid.type != before) {
            quant_gptq_opt opt = w->o->gptq;
            opt.tokens = w->tokens;
            memcpy(w->h, full, cols * cols * sizeof *full);
            if (quant_gptq_prepare(&g, &grid, w->h, cols, cols, &opt, w->prepared,
                                   w->prepared_size, quant_cpu_detect(), &err) != QUANT_OK) {
                quant_error_text(w->err, LLAMA_ERR, &err);
                r = -1;
                break;
            }
            before = grid.type;
        }
        if (w->o->shift > 0 && !mid) {
            memset(w->e_rows, 0, x->rows * cols * sizeof *w->e_rows);
            lw_inner(w, w->e_rows, x->w, w->cross, x->rows, cols, cols, 1);
        } else if (w->o->shift > 0) {
            memcpy(w->e_rows, w->cross, x->rows * cols * sizeof *w->e_rows);
            lw_inner(w, w->e_rows, x->w, full, x->rows, cols, cols, -1);
        }
        r = lw_quantize(w, &g, mats[i], w->o->shift > 0 ? w->e_rows : NULL);
        if (r == 0) r = lw_stopped(w);
    }
    free(full);
    return r;
}

/* Weights of a block as floats. */
static inline int lw_load(lw_work *w, size_t layer)
{
    size_t i;
    for (i = 0; i < LW_MATS; i++) {
        lw_matrix *x = lw_set(w, layer, i);
        const llama_linear *l = x->from;
        const void *data;
        size_t shard = 0, k;
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)l->tensor->name.n, l->tensor->name.p);
        quant_set_find(&w->m->set, name, &shard);
        data = quant_gguf_data(&w->m->shards[shard], l->tensor);
        if (!data || quant_to_f32(l->tensor->type, x->w, data, x->rows, x->cols) != QUANT_OK)
            return llama_fail(w->err, "a matrix cannot be read");
        if (l->m.scale != 1) for (k = 0; k < x->rows * x->cols; k++) x->w[k] *= l->m.scale;
        lw_turn(x, LW_PLAIN);
        if (!w->o->emit) continue;
        memcpy(x->v, x->w, x->rows * x->cols * sizeof *x->v);
        lw_turn(x, LW_REAL);
    }
    return 0;
}

/* The sums of an input are in w->h. */
static inline int lw_take(lw_work *w, const lw_input *in)
{
    if (lw_stopped(w)) return -1;
    if (w->o->emit) return w->o->emit(w->o->user, w, in->mats[0]);
    return lw_group(w, in->mats, in->n, in->mid);
}

static inline int lw_block(lw_work *w, size_t layer)
{
    const lw_input *qkv = &lw_inputs[0], *o = &lw_inputs[1], *gu = &lw_inputs[2];
    const lw_input *down = &lw_inputs[3];
    llama_layer *l = &w->m->layers[layer];
    size_t chunk;
    int awq = (w->o->methods & LW_AWQ) != 0;
    int s, first = w->o->shift > 0 ? LW_PLAIN : LW_REAL;
    if (lw_load(w, layer)) return -1;
    if (awq && awq_mid(w, layer, LW_O)) return -1;
    lw_capture_norm(w, l->attn_norm);
    if (awq && awq_norm(w, qkv->mats, qkv->n, &l->attn_norm, "attn_norm")) return -1;
    if (lw_take(w, qkv)) return -1;
    for (chunk = 0; chunk < w->o->chunks && !stopped(); chunk++)
        for (s = first; s < LW_STREAMS; s++) lw_attention(w, s, chunk, layer);
    lw_capture_mid(w, layer, LW_O);
    if (lw_take(w, o)) return -1;
    lw_residual(w, layer, LW_O);
    if (awq && awq_mid(w, layer, LW_DOWN)) return -1;
    lw_capture_norm(w, l->ffn_norm);
    if (awq && awq_norm(w, gu->mats, gu->n, &l->ffn_norm, "ffn_norm")) return -1;
    if (lw_take(w, gu)) return -1;
    for (chunk = 0; chunk < w->o->chunks && !stopped(); chunk++)
        for (s = first; s < LW_STREAMS; s++) lw_forward(w, s, chunk, layer);
    lw_capture_mid(w, layer, LW_DOWN);
    if (lw_take(w, down)) return -1;
    if (layer + 1 < w->m->hp.n_layer) lw_residual(w, layer, LW_DOWN);
    return 0;
}

/* A block from sums that are there already: no stream goes through it. */
static inline int lw_block_sums(lw_work *w, size_t layer)
{
    const lw_input *in;
    if (lw_load(w, layer)) return -1;
    for (in = lw_inputs; in < lw_inputs + LW_INPUTS; in++)
        if (w->o->sums(w->o->user, w, in->mats[0]) || lw_take(w, in)) return -1;
    return 0;
}

/* >>resume --------------------------------------------------------------------------------------
 * OUT.part: a line that says what was asked for, then the finished tensors.  A later run with the
 * same line takes them as they are; a record that was cut off by an interruption is dropped. */
static inline uint64_t lw__sum(const uint8_t *p, size_t n)
{
    uint64_t h = 1469598103934665603u;
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

struct lw__record { uint64_t name_n, size, sum; uint32_t type; float scale; };

static inline int lw_save(lw_work *w, const lw_tensor *t)
{
    struct lw__record r;
    memset(&r, 0, sizeof r);
    r.name_n = t->t->name.n;
    r.size = t->size;
    r.sum = lw__sum(t->data, t->size);
    r.type = t->type;
    r.scale = t->scale;
    if (fwrite(&r, sizeof r, 1, w->part) != 1 ||
        fwrite(t->t->name.p, 1, t->t->name.n, w->part) != t->t->name.n ||
        fwrite(t->data, 1, t->size, w->part) != t->size || fflush(w->part))
        return llama_fail(w->err, "the file of finished matrices cannot be written: %s; the same "
                          "command goes on", strerror(errno));
    return 0;
}

/* Reads one record; 0 at the end or where it is cut off. */
static inline int lw__restore_one(lw_work *w, FILE *f)
{
    struct lw__record r;
    lw_tensor *t = &w->done[w->n_done];
    char name[128];
    size_t shard;
    memset(t, 0, sizeof *t);
    if (fread(&r, sizeof r, 1, f) != 1 || r.name_n >= sizeof name) return 0;
    if (fread(name, 1, (size_t)r.name_n, f) != r.name_n) return 0;
    name[r.name_n] = 0;
    t->t = quant_set_find(&w->m->set, name, &shard);
    t->type = r.type;
    t->scale = r.scale;
    if (!t->t || w->n_done >= w->n_mats || t->t->ne[0] > SIZE_MAX) return 0;
    t->size = quant_row_size(t->type, (size_t)t->t->ne[0]) * (size_t)t->t->ne[1];
    if (t->size != r.size) return 0;
    t->data = (uint8_t *)malloc(t->size);
    if (!t->data || fread(t->data, 1, t->size, f) != t->size ||
        lw__sum(t->data, t->size) != r.sum) {
        free(t->data);
        return 0;
    }
    w->n_done++;
    return 1;
}

/* Opens OUT.part and takes over what is in it, if it was made for `asked`. */
static inline int lw_restore(lw_work *w, const char *path, const char *asked)
{
    FILE *f = fopen(path, "r+b");
    size_t n = strlen(asked);
    char *line = (char *)malloc(n + 1);
    long good = 0;
    if (!line) { if (f) fclose(f); return llama_fail(w->err, "out of memory"); }
    if (f && fread(line, 1, n, f) == n && memcmp(line, asked, n) == 0) {
        do good = ftell(f); while (lw__restore_one(w, f));
        if (good < 0 || ftruncate(fileno(f), good) || fseek(f, good, SEEK_SET)) good = 0;
    }
    free(line);
    if (good == 0) {
        if (f) fclose(f);
        f = fopen(path, "w+b");
        if (!f || fwrite(asked, 1, n, f) != n || fflush(f)) {
            llama_fail(w->err, "%.300s: %s", path, strerror(errno));
            if (f) fclose(f);
            return -1;
        }
    }
    w->part = f;
    return 0;
}

/* >>write ---------------------------------------------------------------------------------------*/
/* "blk.0.ffn_up.weight" -> "blk.0.ffn_up.scale" */
static inline void lw__scale_name(char *buf, size_t size, quant_str name)
{
    snprintf(buf, size, "%.*s.scale", (int)(name.n - 7), name.p);
}

/* Encodes a tensor outside the blocks for a mix, without calibration; NULL: out of memory. */
static inline uint8_t *lw__encode(const llama_model *m, const quant_tensor *t, size_t shard,
                                  quant_type type, size_t *size)
{
    size_t rows = (size_t)t->ne[1], cols = (size_t)t->ne[0], row = quant_row_size(type, cols), i;
    float *x = (float *)malloc(cols * sizeof *x);
    uint8_t *out = (uint8_t *)malloc(rows * row);
    const uint8_t *src = (const uint8_t *)quant_gguf_data(&m->shards[shard], t);
    quant_encoder e;
    quant_result r = quant_encoder_init(&e, type, QUANT_EFFORT_REFERENCE, NULL, 0);
    *size = rows * row;
    for (i = 0; i < rows && x && out && src && r == QUANT_OK; i++) {
        r = quant_to_f32(t->type, x, src + i * quant_row_size(t->type, cols), 1, cols);
        if (r == QUANT_OK) r = quant_from_f32(&e, out + i * row, x, 1, cols, NULL, NULL);
    }
    free(x);
    if (!x || !src || r != QUANT_OK) { free(out); return NULL; }
    return out;
}

/* The type of a tensor by name: what the mix says, or the one type for matrices of blocks. */
typedef struct lw_plan { tensor_ref *refs; quant_type *types, *wanted; size_t n; } lw_plan;

static inline int lw__in_block(quant_str name)
{
    uint32_t k = quant_mix_kind(name);
    return k >= QUANT_MIX_ATTN_Q && k <= QUANT_MIX_FFN_DOWN;
}

static inline int lw_plan_init(lw_plan *p, const llama_model *m, const lw_options *o)
{
    uint32_t counts[QUANT_MIX_KIND_COUNT];
    quant_mix_model mm;
    size_t i;
    memset(counts, 0, sizeof counts);
    p->n = m->set.n_tensors;
    p->refs = tensors_sorted(&m->set);
    p->types = (quant_type *)calloc(p->n ? p->n : 1, sizeof *p->types);
    p->wanted = (quant_type *)calloc(p->n ? p->n : 1, sizeof *p->wanted);
    if (!p->refs || !p->types || !p->wanted) return -1;
    if (o->mix >= 0) quant_mix_model_init(&mm, &m->set, 1);
    for (i = 0; i < p->n; i++) {
        const quant_tensor *t = p->refs[i].t;
        p->types[i] = p->wanted[i] = t->type;
        if (!quant_mix_quantizable(t)) continue;
        if (o->mix >= 0) p->wanted[i] = mix_next(o->mix, &mm, t, counts);
        else if (lw__in_block(t->name)) p->wanted[i] = o->type;
        p->types[i] = quant_mix_fallback(p->wanted[i], t->ne[0]);
    }
    return 0;
}

static lw_plan lw_the_plan;             /* of the one model of this process                     */

static inline quant_type lw__planned(const quant_tensor *t)
{
    size_t i;
    for (i = 0; i < lw_the_plan.n; i++)
        if (lw_the_plan.refs[i].t == t) return lw_the_plan.types[i];
    return t->type;
}

static inline quant_type lw_type(const lw_work *w, const llama_linear *l)
{
    (void)w;
    return lw__planned(l->tensor);
}

/* Before the long work: can every matrix be rounded to its type? */
static inline int lw_check(lw_work *w)
{
    size_t i, m;
    for (i = 0; i < w->m->hp.n_layer; i++)
        for (m = 0; m < LW_MATS; m++) {
            const lw_matrix *x = lw_set(w, i, m);
            quant_grid grid = lw_grid(w, x);
            quant_awq a;
            char name[96];
            if (w->o->methods & LW_GPTQ ? quant_gptq_size(&grid, x->cols) != 0
                : awq_target(w, (int)m, &a) && quant_awq_scratch_size(&a) != 0) continue;
            return llama_fail(w->err, "%s: %s is not for %s%s",
                              llama_printable(name, sizeof name, x->from->tensor->name),
                              w->o->methods & LW_GPTQ ? "gptq" : "awq",
                              grid.bits ? "these integers" : quant_type_name(grid.type),
                              w->o->methods & LW_GPTQ && !grid.bits
                              ? "; it takes Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS, MXFP4, "
                                "NVFP4, TQ2_0; awq takes codebooks, too" : "");
        }
    return 0;
}

/* What a user should know before the long work: types that rows do not fit, a line for each pair,
 * and matrices that are quantized already. */
static inline void lw_remarks(const lw_work *w)
{
    const lw_plan *p = &lw_the_plan;
    size_t i, k, n, again = 0;
    for (i = 0; i < p->n; i++) {
        const quant_tensor *t = p->refs[i].t;
        const quant_type_info *from = quant_type_get(t->type);
        again += lw__in_block(t->name) && from && from->flags & QUANT_TF_QUANTIZED;
        if (w->o->integers.bits || p->types[i] == p->wanted[i]) continue;
        for (n = 0, k = 0; k < p->n; k++) {
            if (p->types[k] != p->types[i] || p->wanted[k] != p->wanted[i]) continue;
            if (k < i) break;
            n++;
        }
        if (k == p->n)
            fprintf(stderr, "warning: rows of %zu matrices do not fit %s, they take %s\n", n,
                    quant_type_name(p->wanted[i]), quant_type_name(p->types[i]));
    }
    if (again)
        fprintf(stderr, "warning: %zu matrices are quantized already: errors add up, better start "
                "from F16 or BF16\n", again);
}

static inline void lw__metadata(lw_work *w, quant_gguf_out *out)
{
    const quant_gguf *g = &w->m->shards[0];
    uint32_t ftype = 0;
    size_t i;
    int mix = w->o->mix >= 0 ? w->o->mix : quant_mix_find(quant_type_name(w->o->type));
    if (mix < 0 && w->o->type == QUANT_Q4_K) mix = quant_mix_find("Q4_K_S");
    if (mix < 0 && w->o->type == QUANT_Q5_K) mix = quant_mix_find("Q5_K_S");
    if (mix < 0 && w->o->type == QUANT_Q3_K) mix = quant_mix_find("Q3_K_S");
    ftype = mix >= 0 ? quant_mix_get((size_t)mix)->file_type : 1;
    for (i = 0; i < g->n_kv; i++) {
        quant_str k = g->kv[i].key;
        if (k.n >= 6 && !memcmp(k.p, "split.", 6)) continue;
        if (llama_is(k, "general.file_type") || llama_is(k, "general.quantization_version") ||
            llama_is(k, "general.alignment") ||
            llama_is(k, "quantize.calibration.method")) continue;
        quant_gguf_put_kv(out, &g->kv[i]);
    }
    quant_gguf_put_u32(out, "general.quantization_version", 2);
    quant_gguf_put_u32(out, "general.file_type", w->o->integers.bits ? 1 : ftype);
    quant_gguf_put_str(out, "quantize.calibration.method",
                       w->o->methods == LW_GPTQ ? "gptq" : w->o->methods == LW_AWQ ? "awq"
                       : "awq+gptq");
}

static inline int lw__tensors(lw_work *w, quant_gguf_out *out, int data)
{
    size_t i, shard, size;
    char name[160];
    for (i = 0; i < w->m->set.n_tensors; i++) {
        const quant_tensor *t = quant_set_tensor(&w->m->set, i, &shard);
        const lw_tensor *d = lw_find(w, t);
        const float *folded = awq_find(w, t);
        quant_type type = folded ? QUANT_F32 : d ? d->type : lw__planned(t);
        const void *src = d ? d->data : quant_gguf_data(&w->m->shards[shard], t);
        if (!data) {
            uint64_t one = 1;
            snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
            quant_gguf_put_tensor(out, name, type, t->ne, t->n_dims);
            if (!d || d->type != QUANT_NVFP4) continue;
            lw__scale_name(name, sizeof name, t->name);
            quant_gguf_put_tensor(out, name, QUANT_F32, &one, 1);
        } else if (folded) {
            quant_gguf_write(out, folded, (size_t)t->ne[0] * sizeof *folded);
        } else if (!d && type != t->type) {
            uint8_t *made = lw__encode(w->m, t, shard, type, &size);
            if (!made) return llama_fail(w->err, "a tensor cannot be encoded");
            quant_gguf_write(out, made, size);
            free(made);
        } else {
            quant_gguf_write(out, src, d ? d->size : (size_t)t->size);
            if (d && d->type == QUANT_NVFP4) quant_gguf_write(out, &d->scale, sizeof d->scale);
        }
    }
    return 0;
}

/* Writes the model to `path`, which appears when it is complete. */
static inline int lw_write(lw_work *w, const char *path)
{
    quant_gguf_out out;
    out_file f;
    const char *why = out_begin(&f, path);
    int r;
    if (why) return llama_fail(w->err, "%.300s: %s", path, why);
    quant_gguf_begin(&out, out_sink(&f), 0, NULL);
    lw__metadata(w, &out);
    lw__tensors(w, &out, 0);
    quant_gguf_header(&out);
    r = lw__tensors(w, &out, 1);
    if (quant_gguf_end(&out) != QUANT_OK && r == 0) {
        quant_error_text(w->err, LLAMA_ERR, &out.err);
        r = -1;
    }
    why = out_end(&f, r);
    if (why) r = llama_fail(w->err, "%.300s: %s; the same command goes on", path, why);
    return r;
}

/* The states of all tokens before the first block. */
static inline void lw_embed(lw_work *w, const llama_tokens *t)
{
    const llama_model *m = w->m;
    const quant_matrix *em = &m->embd.m;
    float scale = m->hp.embd_scale * em->scale;
    size_t chunk, i, k, n = w->o->n_ctx;
    int32_t *ids = (int32_t *)w->a;             /* [n_ctx]: a has room for n_ctx states           */
    for (chunk = 0; chunk < w->o->chunks; chunk++) {
        llama_chunk(&m->vocab, t, n, w->o->first + chunk, ids);
        for (i = 0; i < n; i++) {
            float *x = w->x[LW_PLAIN] + (chunk * n + i) * w->e;
            quant_to_f32(em->type, x, (const uint8_t *)em->data + (size_t)ids[i] * em->row_size, 1,
                         em->cols);
            for (k = 0; k < w->e; k++) x[k] *= scale;
            memcpy(w->x[LW_REAL] + (chunk * n + i) * w->e, x, w->e * sizeof *x);
        }
    }
}

/* Memory for everything; the largest of each over the matrices of a block. */
static inline int lw_reserve(lw_work *w)
{
    const llama_hparams *h = &w->m->hp;
    llama_arena *a = &w->arena;
    size_t q = h->n_head * h->head_dim, n = w->o->n_ctx, k, i, e = h->n_embd;
    size_t wide = q > h->n_ff ? q : h->n_ff, cols = wide > e ? wide : e;
    size_t all = w->o->chunks * n;
    quant_grid grid = w->o->integers;
    w->e = e;
    w->width = wide;
    w->tokens = w->o->sums ? w->o->sums_tokens : all;
    w->n_mats = h->n_layer * LW_MATS;
    for (k = 0; k < LW_STREAMS; k++) {
        w->x[k] = (float *)llama_alloc(a, all * e, 4);
        w->mid[k] = k == LW_PLAIN && w->o->shift <= 0 ? NULL
                  : (float *)llama_alloc(a, all * wide, 4);
        if (!w->x[k] || (!w->mid[k] && (k || w->o->shift > 0))) return -1;
    }
    for (k = 0; k < LW_MATS; k++) {
        size_t size = llama_layer_matrix(&w->m->layers[0], k)->m.rows *
                      llama_layer_matrix(&w->m->layers[0], k)->m.cols;
        w->mat[k].w = (float *)llama_alloc(a, size, 4);
        w->mat[k].v = (float *)llama_alloc(a, size, 4);
        w->mat[k].turned[LW_PLAIN] = (float *)llama_alloc(a, size, 4);
        w->mat[k].turned[LW_REAL] = (float *)llama_alloc(a, size, 4);
        if (!w->mat[k].w || !w->mat[k].v || !w->mat[k].turned[LW_PLAIN] ||
            !w->mat[k].turned[LW_REAL]) return -1;
    }
    w->h = (float *)llama_alloc(a, cols * cols, 4);
    w->cross = (float *)llama_alloc(a, cols * cols, 4);
    w->e_rows = (float *)llama_alloc(a, cols * cols, 4);
    w->a = (float *)llama_alloc(a, n * cols, 4);
    w->b = (float *)llama_alloc(a, n * cols, 4);
    w->panels = (float *)llama_alloc(a, w->c->pool.n * GEMM_K * GEMM_N, 4);
    w->heads_each = LW_ROWS * n + 2 * n * h->head_dim;
    w->heads = (float *)llama_alloc(a, w->c->pool.n * w->heads_each, 4);
    w->linalg = llama_alloc(a, w->c->pool.n, quant_linalg_scratch_size());
    w->cpu = quant_cpu_detect();
    if (awq_reserve(w)) return -1;
    w->done = (lw_tensor *)llama_alloc(a, w->n_mats + 1, sizeof *w->done);
    for (i = 0; i < lw_the_plan.n + 1; i++) {   /* sizes depend on the grid                       */
        grid.type = i < lw_the_plan.n ? lw_the_plan.types[i] : QUANT_Q4_0;
        for (k = 0; k < 2; k++) {
            quant_gptq g;
            size_t c = k ? cols : e, s = quant_gptq_size(&grid, c);
            if (!s) continue;
            if (s > w->prepared_size) w->prepared_size = s;
            memset(&g, 0, sizeof g);
            g.grid = grid;
            g.cols = c;
            s = quant_gptq_scratch_size(&g);
            if (s > w->scratch_each) w->scratch_each = s;
        }
    }
    w->scratch_each = (w->scratch_each + 63) / 64 * 64;
    w->prepared = llama_alloc(a, w->prepared_size, 1);
    w->scratch = llama_alloc(a, w->scratch_each * w->c->pool.n, 1);
    return w->linalg && w->h && w->cross && w->e_rows && w->a && w->b && w->panels && w->done &&
           w->prepared && w->scratch && w->heads ? 0 : -1;
}

/* Angles of the positions, which are the same for every chunk. */
static inline void lw_turns(llama_context *c, size_t n)
{
    const llama_hparams *h = &c->model->hp;
    size_t k, t, i;
    for (k = 0; k < 2; k++)
        for (t = 0; t < n; t++)
            for (i = 0; i < h->rope_dim / 2; i++) {
                double angle = (double)t * (double)c->freq[k][i];
                c->turn[k][t * h->rope_dim + 2 * i] = (float)cos(angle);
                c->turn[k][t * h->rope_dim + 2 * i + 1] = (float)sin(angle);
            }
}

static inline int lw_begin(lw_work *w, llama_model *m, llama_context *c, const lw_options *o)
{
    memset(w, 0, sizeof *w);
    w->o = o;
    w->m = m;
    w->c = c;
    c->user = w;
    w->since = llama_seconds();
    return lw_plan_init(&lw_the_plan, m, o);
}

static inline int lw_blocks(lw_work *w, const llama_tokens *t)
{
    size_t i;
    int r = 0;
    if (!w->o->sums) lw_embed(w, t);
    lw_turns(w->c, w->o->n_ctx);
    for (i = 0; i < w->m->hp.n_layer && r == 0; i++)
        r = w->o->sums ? lw_block_sums(w, i) : lw_block(w, i);
    return r;
}

static inline void lw_end(lw_work *w)
{
    llama_arena_free(&w->arena);
    free(lw_the_plan.refs);
    free(lw_the_plan.types);
    free(lw_the_plan.wanted);
}

/* Quantizes m on the tokens t and writes `path`.  c: a context of n_ctx tokens and batches of as
 * many.  asked: a line that tells this task from others.  w->err says why it failed (-1). */
static inline int lw_run(lw_work *w, llama_model *m, llama_context *c, const llama_tokens *t,
                         const lw_options *o, const char *path, const char *asked)
{
    size_t n = strlen(path), i;
    char *part = (char *)malloc(n + 6);
    int r = -1;
    if (part) { memcpy(part, path, n); memcpy(part + n, ".part", 6); }
    if (lw_begin(w, m, c, o) || !part) llama_fail(w->err, "out of memory");
    else if (lw_check(w) == 0) {
        lw_remarks(w);
        if (lw_reserve(w)) llama_fail(w->err, "out of memory");
        else r = lw_restore(w, part, asked);
        w->restored = w->n_done;
    }
    if (r == 0) {
        if (w->n_done) fprintf(stderr, "going on after %zu matrices\n", w->n_done);
        r = lw_blocks(w, t);
        if (r == 0) r = lw_write(w, path);
    }
    if (w->part) fclose(w->part);
    if (r == 0) remove(part);
    for (i = 0; i < w->n_done; i++) free(w->done[i].data);
    lw_end(w);
    free(part);
    return r;
}

/* Gives the sums of every input of the unquantized model to o->emit, block after block. */
static inline int lw_gather(lw_work *w, llama_model *m, llama_context *c, const llama_tokens *t,
                            const lw_options *o)
{
    int r = lw_begin(w, m, c, o) || lw_reserve(w) ? llama_fail(w->err, "out of memory")
                                                  : lw_blocks(w, t);
    lw_end(w);
    return r;
}
#endif
