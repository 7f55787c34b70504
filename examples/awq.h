/* awq.h - activation-aware scales for layerwise.h, which includes it: before the matrices of an
 * input are quantized, finds scales for their columns and moves them into the norm, v or up before
 * them.  Both streams go on with the scaled weights, which compute the same. */
#ifndef AWQ_H
#define AWQ_H

enum { AWQ_STEPS = 20, AWQ_SAMPLE = 256 };      /* of alpha; rows of all matrices of an input     */

/* How matrix `mat` would be rounded, on the inputs of w->awq.h; 0 if it stays as it is. */
static inline int awq_target(const lw_work *w, int mat, quant_awq *a)
{
    const lw_matrix *x = &w->mat[mat];
    const quant_type_info *t;
    memset(a, 0, sizeof *a);
    a->grid = lw_grid(w, x);
    a->cols = a->ldh = x->cols;
    a->h = w->awq.h;
    a->cpu = w->cpu;
    t = quant_type_get(a->grid.type);
    return a->grid.bits || (t->flags & QUANT_TF_ENCODE && t->flags & QUANT_TF_QUANTIZED);
}

struct awq__job { lw_work *w; const quant_awq *a; const quant_gptq_out *out; const float *x, *s;
                  size_t rows, ld; int failed; quant_error err; };

static inline void awq__rows_job(void *arg, size_t thread, size_t n_threads)
{
    struct awq__job *j = (struct awq__job *)arg;
    size_t r0, r1, units = (j->rows + 63) / 64;
    quant_error err;
    llama_share(units, thread, n_threads, &r0, &r1);
    r1 = r1 * 64 < j->rows ? r1 * 64 : j->rows;
    if (r0 * 64 < r1 &&
        quant_awq_rows(j->out, j->a, j->x, j->ld, r0 * 64, r1, j->s,
                       j->w->awq.scratch + thread * j->w->awq.each, j->w->awq.each, &err)) {
        j->failed = 1;
        j->err = err;
    }
}

static inline int awq_rows(lw_work *w, const quant_gptq_out *out, const quant_awq *a,
                           const float *x, size_t ld, size_t rows, const float *s)
{
    struct awq__job j;
    memset(&j, 0, sizeof j);
    j.w = w;
    j.a = a;
    j.out = out;
    j.x = x;
    j.s = s;
    j.ld = ld;
    j.rows = rows;
    llama_pool_run(&w->c->pool, awq__rows_job, &j);
    if (j.failed) quant_error_text(w->err, LLAMA_ERR, &j.err);
    return j.failed ? -1 : 0;
}

/* Loss of a candidate on at most `most` rows of each matrix that reads the input. */
static inline int awq_loss(lw_work *w, const int *mats, size_t n, const float *s, size_t most,
                           double *loss)
{
    quant_gptq_out out;
    size_t i, r;
    if (lw_stopped(w)) return -1;
    memset(&out, 0, sizeof out);
    out.loss = w->awq.loss;
    *loss = 0;
    for (i = 0; i < n; i++) {
        const lw_matrix *x = &w->mat[mats[i]];
        size_t step = (x->rows + most - 1) / most, rows = x->rows / step;
        quant_awq a;
        double sum = 0;
        if (!awq_target(w, mats[i], &a)) continue;
        a.grid.tensor_scale = lw_tensor_scale(&a.grid, x->w, x->rows * x->cols);
        if (awq_rows(w, &out, &a, x->w, step * x->cols, rows, s)) return -1;
        for (r = 0; r < rows; r++) sum += w->awq.loss[r];
        *loss += sum * (double)step;
    }
    return 0;
}

/* Tries candidate k on some rows, once; loss[k] < 0: not tried. */
static inline int awq_try(lw_work *w, const int *mats, size_t n, size_t k, double *loss)
{
    awq_state *q = &w->awq;
    if (loss[k] >= 0) return 0;
    quant_awq_scales(q->s, k, AWQ_STEPS, q->seen, q->weighed, w->mat[mats[0]].cols);
    return awq_loss(w, mats, n, q->s, AWQ_SAMPLE / n, &loss[k]);
}

/* The best scales for matrices that share an input with w->awq.h and w->awq.seen: every fourth
 * alpha with and without weights on some rows, then those between, and the best one and s = 1 on
 * all rows.  1: they are in w->awq.s; 0: none is better than 1. */
static inline int awq_search(lw_work *w, const int *mats, size_t n, size_t heads, size_t kv)
{
    awq_state *q = &w->awq;
    size_t cols = w->mat[mats[0]].cols, k, best = 0, step, from;
    double loss[2 * AWQ_STEPS + 2], plain, least;
    memset(q->weighed, 0, cols * sizeof *q->weighed);
    for (k = 0; k < n; k++)
        quant_awq_weigh(q->weighed, w->mat[mats[k]].w, cols, w->mat[mats[k]].rows, cols,
                        w->o->integers.bits ? w->o->integers.group : 32);
    if (heads) {
        quant_awq_share(q->seen, heads, kv, cols / heads);
        quant_awq_share(q->weighed, heads, kv, cols / heads);
    }
    for (k = 0; k < 2 * AWQ_STEPS + 2; k++) loss[k] = -1;
    for (k = 0; k < 2 * AWQ_STEPS + 2; k++) {
        if (k % (AWQ_STEPS + 1) % 4) continue;
        if (awq_try(w, mats, n, k, loss)) return -1;
        if (loss[k] < loss[best]) best = k;
    }
    for (step = 2; step > 0; step--) {              /* alpha of best +- 2, then +- 1 of the best  */
        size_t first = best > AWQ_STEPS ? AWQ_STEPS + 1 : 0;
        from = best;
        for (k = from < first + step ? from + step : from - step;
             k <= from + step && k <= first + AWQ_STEPS; k += 2 * step) {
            if (awq_try(w, mats, n, k, loss)) return -1;
            if (loss[k] < loss[best]) best = k;
        }
    }
    quant_awq_scales(q->s, 0, AWQ_STEPS, q->seen, q->weighed, cols);
    if (awq_loss(w, mats, n, q->s, (size_t)-1 / 2, &plain)) return -1;
    quant_awq_scales(q->s, best, AWQ_STEPS, q->seen, q->weighed, cols);
    if (awq_loss(w, mats, n, q->s, (size_t)-1 / 2, &least)) return -1;
    if (least >= plain) best = 0;
    if (w->o->report)
        fprintf(w->o->report, "# scales %.*s: alpha %.2f%s, loss %.6g, without %.6g\n",
                (int)w->mat[mats[0]].from->tensor->name.n, w->mat[mats[0]].from->tensor->name.p,
                (double)(best % (AWQ_STEPS + 1)) / AWQ_STEPS,
                best > AWQ_STEPS ? " and weights" : "",
                least, plain);
    for (k = 0; k < cols; k++) if (!(q->s[k] > 0)) return llama_fail(w->err, "a scale is 0");
    return best != 0;
}

/* A copy of a norm or bias that may be changed, kept for the output; NULL: not in the file. */
static inline float *awq_own(lw_work *w, const quant_tensor *like, const char *part,
                             const char *name, const float *from, size_t n)
{
    awq_folded *f = &w->awq.folded[w->awq.n_folded];
    const char *dot = (const char *)memchr(like->name.p + 4, '.', like->name.n - 4);
    char full[128];
    size_t shard;
    snprintf(full, sizeof full, "%.*s.%s.%s", dot ? (int)(dot - like->name.p) : 0, like->name.p,
             name, part);
    f->t = quant_set_find(&w->m->set, full, &shard);
    f->data = (float *)llama_alloc(&w->arena, n, 4);
    f->n = n;
    if (!f->t || !f->data) return NULL;
    memcpy(f->data, from, n * sizeof *from);
    w->awq.n_folded++;
    return f->data;
}

/* A norm or bias as it has become; NULL if it is as it was. */
static inline const float *awq_find(const lw_work *w, const quant_tensor *t)
{
    size_t i;
    for (i = 0; i < w->awq.n_folded; i++)
        if (w->awq.folded[i].t == t) return w->awq.folded[i].data;
    return NULL;
}

/* w->h [cols x cols], lower, to both halves of w->awq.h. */
static inline void awq_take(lw_work *w, size_t cols)
{
    memcpy(w->awq.h, w->h, cols * cols * sizeof *w->h);
    quant_triangle_mirror(w->awq.h, cols, cols);
}

/* q, k, v behind the attention's norm, or gate and up behind the other one.  w->h and w->cross are
 * of the inputs as they were and are scaled with them. */
static inline int awq_norm(lw_work *w, const int *mats, size_t n, const float **norm,
                           const char *name)
{
    size_t e = w->e, chunk, i, k;
    const float *s = w->awq.s;
    float *own;
    int r;
    memset(w->awq.seen, 0, e * sizeof *w->awq.seen);
    for (chunk = 0; chunk < w->o->chunks && !stopped(); chunk++) {
        lw_norm(w, w->a, LW_REAL, chunk, *norm);
        quant_awq_see(w->awq.seen, w->a, e, w->o->n_ctx, e);
    }
    awq_take(w, e);
    r = awq_search(w, mats, n, 0, 0);
    if (r <= 0) return r;
    own = awq_own(w, w->mat[mats[0]].from->tensor, "weight", name, *norm, e);
    if (!own) return llama_fail(w->err, "a norm is not where it should be");
    quant_awq_fold_norm(own, NULL, e, 0, s);
    *norm = own;
    for (i = 0; i < n; i++) {
        quant_awq_fold_columns(w->mat[mats[i]].w, e, w->mat[mats[i]].rows, e, s);
        lw_turn(&w->mat[mats[i]], LW_PLAIN);
    }
    for (i = 0; i < e; i++)
        for (k = 0; k < e; k++) {
            w->h[i * e + k] /= s[i] * s[k];
            w->cross[i * e + k] /= s[i] * s[k];
        }
    return 0;
}

/* o, whose scales v takes, or down and up: on what the real stream gives them while the matrices
 * before them are not quantized yet. */
static inline int awq_mid(lw_work *w, size_t layer, int mat)
{
    llama_layer *l = &w->m->layers[layer];
    const llama_hparams *hp = &w->m->hp;
    int before = mat == LW_O ? LW_V : LW_UP, r, i;
    lw_matrix *x = &w->mat[mat], *y = &w->mat[before];
    const float **bias = before == LW_V ? &l->v.bias : &l->up.bias, *s = w->awq.s;
    size_t chunk, n = w->o->n_ctx, ld = w->mat[mat].cols;
    float *own = NULL;
    for (i = mat == LW_O ? LW_Q : LW_GATE; i < mat; i++) {
        memcpy(w->mat[i].v, w->mat[i].w, w->mat[i].rows * w->mat[i].cols * sizeof *w->mat[i].w);
        lw_turn(&w->mat[i], LW_REAL);
    }
    memset(w->h, 0, ld * ld * sizeof *w->h);
    memset(w->awq.seen, 0, ld * sizeof *w->awq.seen);
    for (chunk = 0; chunk < w->o->chunks && !stopped(); chunk++) {
        const float *mid = w->mid[LW_REAL] + chunk * n * w->width;
        if (mat == LW_O) lw_attention(w, LW_REAL, chunk, layer);
        else lw_forward(w, LW_REAL, chunk, layer);
        quant_awq_see(w->awq.seen, mid, ld, n, ld);
        lw_hessian(w, w->h, mid, NULL, n, ld);
    }
    awq_take(w, ld);
    r = awq_search(w, &mat, 1, mat == LW_O ? hp->n_head : 0, hp->n_head_kv);
    if (r <= 0) return r;
    if (mat == LW_O) {
        quant_awq_unshare(w->awq.s_v, s, hp->n_head, hp->n_head_kv, hp->head_dim);
        s = w->awq.s_v;
    }
    if (*bias) {
        own = awq_own(w, y->from->tensor, "bias", before == LW_V ? "attn_v" : "ffn_up", *bias,
                      y->rows);
        if (!own) return llama_fail(w->err, "a bias is not where it should be");
        *bias = own;
    }
    quant_awq_fold_rows(y->w, y->cols, y->rows, y->cols, own, s);
    quant_awq_fold_columns(x->w, ld, x->rows, ld, w->awq.s);
    lw_turn(x, LW_PLAIN);
    lw_turn(y, LW_PLAIN);
    return 0;
}

/* Rounds matrix `mat` to nearest, on the inputs of w->awq.h.  q and k: no search of ranges, which
 * is made for errors of outputs that nothing follows. */
static inline int awq_round(lw_work *w, const quant_gptq_out *out, int mat, float tensor_scale)
{
    const lw_matrix *x = &w->mat[mat];
    quant_awq a;
    if (!awq_target(w, mat, &a)) return llama_fail(w->err, "no encoder for a type");
    a.grid.tensor_scale = tensor_scale;
    a.clip = mat == LW_Q || mat == LW_K ? 0 : a.grid.bits ? 10 : 5;
    return awq_rows(w, out, &a, x->w, x->cols, x->rows, NULL);
}

static inline int awq_reserve(lw_work *w)
{
    const llama_hparams *h = &w->m->hp;
    awq_state *q = &w->awq;
    size_t k, i, most = 0, rows = 0, layers = h->n_layer;
    int m;
    for (i = 0; i < layers; i++)
        for (m = 0; m < LW_MATS; m++) {
            quant_awq a;
            const lw_matrix *x = lw_set(w, i, (size_t)m);
            if (x->cols > most) most = x->cols;
            if (x->rows > rows) rows = x->rows;
            if (!awq_target(w, m, &a)) continue;
            k = quant_awq_scratch_size(&a);
            if (k > q->each) q->each = k;
        }
    if (q->each < quant_linalg_scratch_size()) q->each = quant_linalg_scratch_size();
    q->each = (q->each + 63) / 64 * 64;
    q->folded = (awq_folded *)llama_alloc(&w->arena, 4 * layers + 1, sizeof *q->folded);
    q->h = (float *)llama_alloc(&w->arena, most * most, 4);
    q->s = (float *)llama_alloc(&w->arena, most, 4);
    q->s_v = (float *)llama_alloc(&w->arena, most, 4);
    q->seen = (double *)llama_alloc(&w->arena, most, 8);
    q->weighed = (double *)llama_alloc(&w->arena, most, 8);
    q->loss = (double *)llama_alloc(&w->arena, rows, 8);
    q->scratch = (uint8_t *)llama_alloc(&w->arena, q->each, w->c->pool.n);
    return q->folded && q->h && q->s && q->s_v && q->seen && q->weighed && q->loss && q->scratch
           ? 0 : -1;
}
#endif
