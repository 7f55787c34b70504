/* Properties of encoders and decoders that hold whatever the golden vectors say. */
#include "test.h"
#include <math.h>

static const float *gauss(size_t n, double scale, uint64_t seed)
{
    static float x[64 * 512];
    size_t i;
    for (i = 0; i < n; i++) x[i] = (float)(scale * test_normal(&seed));
    return x;
}

/* Conversions of all 65536 halves, and rounding of floats around them. */
static void half_floats(void)
{
    uint32_t h;
    for (h = 0; h < 65536; h++) {
        uint8_t b[2], back[2];
        float f, up;
        quant_encoder e;
        int s = h >> 15 ? -1 : 1, ex = h >> 10 & 31, m = h & 1023;
        double want = ex ? ldexp(1024 + m, ex - 25) : ldexp(m, -24);
        b[0] = (uint8_t)h;
        b[1] = (uint8_t)(h >> 8);
        CHECK(quant_to_f32(QUANT_F16, &f, b, 1, 1) == QUANT_OK);
        if (ex == 31) { CHECK(m ? f != f : f == (float)s * INFINITY); continue; }
        CHECK((double)f == s * want && !signbit(f) == (s > 0));
        CHECK(quant_encoder_init(&e, QUANT_F16, 0, NULL, 0) == QUANT_OK);
        CHECK(quant_from_f32(&e, back, &f, 1, 1, NULL, NULL) == QUANT_OK);
        CHECK(memcmp(b, back, 2) == 0);
        if (ex == 30 && m == 1023) continue;
        up = (float)(ex ? ldexp(1024 + m + 1, ex - 25) : ldexp(m + 1, -24));
        up = (float)s * (float)(want + ((double)up - want) / 2);     /* a tie: to even          */
        CHECK(quant_from_f32(&e, back, &up, 1, 1, NULL, NULL) == QUANT_OK);
        CHECK((uint32_t)(back[0] | back[1] << 8) == h + (h & 1));
    }
}

static void bfloats(void)
{
    uint32_t h;
    quant_encoder e;
    CHECK(quant_encoder_init(&e, QUANT_BF16, 0, NULL, 0) == QUANT_OK);
    for (h = 0; h < 65536; h++) {
        uint8_t b[2], back[2];
        float f;
        uint32_t u;
        b[0] = (uint8_t)h;
        b[1] = (uint8_t)(h >> 8);
        CHECK(quant_to_f32(QUANT_BF16, &f, b, 1, 1) == QUANT_OK);
        memcpy(&u, &f, 4);
        CHECK(u == h << 16);
        CHECK(quant_from_f32(&e, back, &f, 1, 1, NULL, NULL) == QUANT_OK);
        if (f == f) CHECK(memcmp(b, back, 2) == 0);
        else CHECK((back[1] & 0x7f) == 0x7f && back[0] > 0x80);
    }
}

/* Any row split and any split at block boundaries gives the same bytes. */
static void splits_do_not_matter(void)
{
    quant_type t;
    enum { R = 6, C = 512 };
    static uint8_t all[R * C * 4], part[R * C * 4];
    float w[C];
    int i, with;
    uint64_t seed = 7;
    const float *x = gauss(R * C, 0.02, 3);
    for (i = 0; i < C; i++) w[i] = (float)exp(test_normal(&seed));
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        const quant_type_info *info = quant_type_get(t);
        quant_encoder e;
        if (quant_encoder_init(&e, t, 0, NULL, 0) != QUANT_OK) continue;
        for (with = 0; with < 2; with++) {
            size_t row = quant_row_size(t, C), half = quant_row_size(t, C / 2);
            const float *imp = with ? w : NULL;
            test_note("%s", info->name);
            if (!with && info->flags & QUANT_TF_NEEDS_IMPORTANCE) continue;
            CHECK(quant_from_f32(&e, all, x, R, C, imp, NULL) == QUANT_OK);
            memset(part, 0, sizeof part);
            for (i = 0; i < R; i++)
                CHECK(quant_from_f32(&e, part + i * row, x + i * C, 1, C, imp, NULL) == QUANT_OK);
            CHECK(memcmp(all, part, R * row) == 0);
            if (with && info->flags & QUANT_TF_WHOLE_ROWS) continue;
            for (i = 0; i < 2 * R; i++)
                CHECK(quant_from_f32(&e, part + i * half, x + i * C / 2, 1, C / 2,
                                     with ? imp + i % 2 * (C / 2) : NULL, NULL) == QUANT_OK);
            CHECK(memcmp(all, part, R * row) == 0);
        }
    }
}

/* Relative RMS errors on Gaussian weights near ggml's own (its scalar code, other data). */
static void errors_are_as_expected(void)
{
    static const struct { quant_type t; double plain, flat; } want[] = {
        { QUANT_Q8_0, .00536, 0 }, { QUANT_Q6_K, .01774, .01733 }, { QUANT_Q5_K, .03618, .03543 },
        { QUANT_Q5_1, .03786, .03381 }, { QUANT_Q5_0, .04269, .04043 },
        { QUANT_Q4_K, .07139, .07078 }, { QUANT_IQ4_NL, .07610, .07490 },
        { QUANT_IQ4_XS, .07671, .07557 }, { QUANT_Q4_1, .07828, .06991 },
        { QUANT_Q4_0, .08595, .08171 }, { QUANT_MXFP4, .11365, 0 }, { QUANT_NVFP4, .10296, 0 },
        { QUANT_Q3_K, .15097, .14460 }, { QUANT_Q2_K, .29675, .26805 }, { QUANT_Q2_0, .717, 0 },
        { QUANT_IQ3_S, .16563, .13665 }, { QUANT_IQ3_XXS, .21330, .18190 },
        { QUANT_IQ2_S, .26478, .24853 }, { QUANT_IQ2_XS, 0, .29944 }, { QUANT_IQ2_XXS, 0, .34380 },
        { QUANT_IQ1_M, 0, .45115 }, { QUANT_IQ1_S, 0, .48553 },
        { QUANT_TQ1_0, .808, 0 }, { QUANT_TQ2_0, .808, 0 }, { QUANT_Q1_0, .601, 0 }
    };
    enum { R = 64, C = 512 };
    static uint8_t q[R * C * 4];
    const float *x = gauss(R * C, 0.02, 11);
    float ones[C];
    size_t i, r;
    for (i = 0; i < C; i++) ones[i] = 1;
    for (i = 0; i < sizeof want / sizeof *want; i++) {
        int flat;
        for (flat = 0; flat < 2; flat++) {
            double e2 = 0, x2 = 0, error, goal = flat ? want[i].flat : want[i].plain;
            quant_encoder e;
            if (goal == 0) continue;
            CHECK(quant_encoder_init(&e, want[i].t, 0, NULL, 0) == QUANT_OK);
            CHECK(quant_from_f32(&e, q, x, R, C, flat ? ones : NULL, NULL) == QUANT_OK);
            for (r = 0; r < R; r++)
                CHECK(quant_row_error(want[i].t, &e2, &x2, x + r * C,
                                      q + r * quant_row_size(want[i].t, C), C, NULL, 1)
                      == QUANT_OK);
            error = sqrt(e2 / x2);
            test_note("%s: %.5f, wanted %.5f", quant_type_name(want[i].t), error, goal);
            CHECK(fabs(error / goal - 1) < 0.03);
        }
    }
}

/* Importance never makes the weighted error worse. */
static void importance_helps(void)
{
    static const quant_type types[] = {
        QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K,
        QUANT_Q5_K, QUANT_Q6_K, QUANT_IQ4_NL, QUANT_IQ4_XS, QUANT_IQ3_S, QUANT_IQ3_XXS,
        QUANT_IQ2_S, QUANT_IQ2_XS, QUANT_IQ2_XXS, QUANT_IQ1_M, QUANT_IQ1_S
    };
    enum { R = 32, C = 512 };
    static uint8_t q[R * C * 2];
    const float *x = gauss(R * C, 0.02, 5);
    float w[C], ones[C];
    uint64_t seed = 33;
    size_t i, r, with;
    for (i = 0; i < C; i++) { w[i] = (float)exp(test_normal(&seed)); ones[i] = 1; }
    for (i = 0; i < sizeof types / sizeof *types; i++) {
        double e2[2] = { 0, 0 }, x2 = 0;
        quant_encoder e;
        CHECK(quant_encoder_init(&e, types[i], 0, NULL, 0) == QUANT_OK);
        for (with = 0; with < 2; with++) {
            const float *flat = quant_type_get(types[i])->flags & QUANT_TF_NEEDS_IMPORTANCE ? ones
                              : NULL;
            CHECK(quant_from_f32(&e, q, x, R, C, with ? w : flat, NULL) == QUANT_OK);
            for (r = 0; r < R; r++)
                quant_row_error(types[i], &e2[with], &x2, x + r * C,
                                q + r * quant_row_size(types[i], C), C, w, 1);
        }
        test_note("%s: %g without, %g with", quant_type_name(types[i]), e2[0], e2[1]);
        CHECK(e2[1] < 0.99 * e2[0]);
    }
}

/* The tensor scale keeps small weights: without it all become zero. */
static void nvfp4_tensor_scale(void)
{
    static const double std[] = { 1e-6, 0.001, 0.02, 1, 300 };
    enum { N = 64 * 256 };
    static uint8_t q[N];
    size_t i, j;
    for (i = 0; i < 5; i++) {
        const float *x = gauss(N, std[i], 17);
        double e2 = 0, x2 = 0;
        float amax = 0;
        quant_encoder e;
        for (j = 0; j < N; j++) amax = fabsf(x[j]) > amax ? fabsf(x[j]) : amax;
        CHECK(quant_encoder_init(&e, QUANT_NVFP4, 0, NULL, 0) == QUANT_OK);
        CHECK(e.tensor_scale == 1);
        e.tensor_scale = quant_tensor_scale(QUANT_NVFP4, amax);
        CHECK(quant_from_f32(&e, q, x, 1, N, NULL, NULL) == QUANT_OK);
        CHECK(quant_row_error(QUANT_NVFP4, &e2, &x2, x, q, N, NULL, e.tensor_scale) == QUANT_OK);
        test_note("std %g: %g", std[i], sqrt(e2 / x2));
        CHECK(sqrt(e2 / x2) < 0.1);
    }
    CHECK(quant_tensor_scale(QUANT_NVFP4, 0) == 1);
    CHECK(quant_tensor_scale(QUANT_NVFP4, INFINITY) == 1);
    CHECK(quant_tensor_scale(QUANT_Q4_0, 5) == 1);
    CHECK(quant_tensor_scale(QUANT_NVFP4, 1e-40f) == 1);
}

/* Weights that no scale can hold, NaN and infinity are refused with their place. */
static void bad_weights_are_named(void)
{
    enum { C = 512 };
    static float x[2 * C];
    static uint8_t q[2 * C * 4];
    quant_type t;
    size_t i;
    int k;
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        const quant_type_info *info = quant_type_get(t);
        quant_encoder e;
        quant_error err;
        float imp[C];
        const float *any = info->flags & QUANT_TF_NEEDS_IMPORTANCE ? imp : NULL;
        if (quant_encoder_init(&e, t, 0, NULL, 0) != QUANT_OK) continue;
        if (!(info->flags & QUANT_TF_QUANTIZED)) continue;
        test_note("%s", info->name);
        for (i = 0; i < C; i++) imp[i] = 1;
        for (k = 0; k < 4; k++) {
            static const float bad[4] = { NAN, INFINITY, -INFINITY, 1e30f };
            if (k == 3 && (t == QUANT_MXFP4 || t == QUANT_NVFP4)) continue;
            for (i = 0; i < 2 * C; i++) x[i] = (float)(i % 7) - 3;
            x[C + 401] = bad[k];
            CHECK(quant_from_f32(&e, q, x, 2, C, any, &err) == QUANT_E_NUMERIC);
            CHECK(err.code == QUANT_E_NUMERIC && err.what[0]);
            CHECK(err.where == C + 401);
        }
        for (i = 0; i < 2 * C; i++) x[i] = (float)(i % 7) - 3;
        x[C + 401] = 4e8f;                              /* finite, but no scale can hold it      */
        if (t != QUANT_MXFP4 && t != QUANT_NVFP4) {
            CHECK(quant_from_f32(&e, q, x, 2, C, any, &err) == QUANT_E_NUMERIC);
            CHECK(err.where >= C + 256 && err.where <= C + 401);
        }
        if (!(info->flags & QUANT_TF_IMPORTANCE)) continue;
        for (i = 0; i < 2 * C; i++) x[i] = (float)(i % 7) - 3;
        imp[77] = -1;
        CHECK(quant_from_f32(&e, q, x, 2, C, imp, &err) == QUANT_E_NUMERIC && err.where == 77);
        imp[77] = NAN;
        CHECK(quant_from_f32(&e, q, x, 2, C, imp, &err) == QUANT_E_NUMERIC && err.where == 77);
        for (i = 0; i < C; i++) imp[i] = 0;
        CHECK(quant_from_f32(&e, q, x, 2, C, imp, &err) == QUANT_OK);
        CHECK(quant_check_rows(t, q, 2, C, &err) == QUANT_OK);
    }
}

/* Weights over the whole float range neither trap nor write outside, whatever the result. */
static void any_finite_weights(void)
{
    enum { C = 512, ROUNDS = 60 };
    static float x[C], w[C];
    static uint8_t q[C * 4 + 1];
    quant_type t;
    uint64_t seed = 99;
    int i, k;
    for (k = 0; k < ROUNDS; k++) {
        for (i = 0; i < C; i++) {
            uint32_t u = (uint32_t)test_random(&seed);
            if (k % 3 == 1) u = (u & 0x807fffffu) | (k + 60u) << 23;    /* one exponent          */
            if (k % 3 == 2) u &= 0x80000fffu;                           /* subnormal             */
            if ((u & 0x7f800000u) == 0x7f800000u) u &= 0x807fffffu;
            memcpy(&x[i], &u, 4);
            w[i] = (float)test_uniform(&seed);
        }
        for (t = 0; t < QUANT_TYPE_COUNT; t++) {
            quant_encoder e;
            size_t n = quant_row_size(t, C);
            quant_result r;
            int with = k % 2 || quant_type_get(t)->flags & QUANT_TF_NEEDS_IMPORTANCE;
            if (quant_encoder_init(&e, t, 0, NULL, 0) != QUANT_OK) continue;
            q[n] = 0x5A;
            r = quant_from_f32(&e, q, x, 1, C, with ? w : NULL, NULL);
            CHECK(r == QUANT_OK || r == QUANT_E_NUMERIC);
            CHECK(q[n] == 0x5A);
            if (r == QUANT_OK && t != QUANT_F16)
                CHECK(quant_check_rows(t, q, 1, C, NULL) == QUANT_OK);
        }
    }
}

/* All types decode all bytes; check_rows finds the blocks whose values are not finite. */
static void any_bytes_decode(void)
{
    enum { C = 512 };
    static uint8_t q[C * 8];
    static float y[C + 1];
    quant_type t;
    uint64_t seed = 1;
    int k, i;
    for (t = 0; t < QUANT_TYPE_COUNT; t++) {
        if (!(quant_type_get(t)->flags & QUANT_TF_DECODE)) {
            CHECK(quant_to_f32(t, y, q, 1, C) == QUANT_E_TYPE);
            CHECK(quant_check_rows(t, q, 1, C, NULL) == QUANT_E_TYPE);
            continue;
        }
        for (k = 0; k < 100; k++) {
            int finite = 1;
            for (i = 0; i < (int)sizeof q; i++) q[i] = (uint8_t)test_random(&seed);
            y[C] = 42;
            CHECK(quant_to_f32(t, y, q, 1, C) == QUANT_OK);
            CHECK(y[C] == 42);
            for (i = 0; i < C; i++) finite &= isfinite(y[i]) != 0;
            test_note("%s", quant_type_name(t));
            if (quant_check_rows(t, q, 1, C, NULL) == QUANT_OK) CHECK(finite || t == QUANT_MXFP4);
        }
    }
    CHECK(quant_to_f32(12345, y, q, 1, C) == QUANT_E_TYPE);
    CHECK(quant_to_f32(QUANT_Q4_K, y, q, 1, 128) == QUANT_E_ARG);
    CHECK(quant_to_f32(QUANT_Q4_0, y, q, (size_t)-1, 64) == QUANT_E_ARG);
    CHECK(quant_to_f32(QUANT_Q4_0, y, q, 0, 64) == QUANT_OK);
}

/* Encoding what was decoded gives the same values where the grid has no choice of scale. */
static void idempotent(void)
{
    static const quant_type types[] = { QUANT_Q8_0, QUANT_MXFP4, QUANT_F16, QUANT_BF16, QUANT_F32,
                                        QUANT_TQ1_0, QUANT_TQ2_0, QUANT_Q1_0 };
    enum { C = 512 };
    static uint8_t q[C * 4], q2[C * 4];
    static float y[C], y2[C];
    size_t i, j;
    for (i = 0; i < sizeof types / sizeof *types; i++) {
        const float *x = gauss(C, 0.02, 23);
        quant_encoder e;
        CHECK(quant_encoder_init(&e, types[i], 0, NULL, 0) == QUANT_OK);
        CHECK(quant_from_f32(&e, q, x, 1, C, NULL, NULL) == QUANT_OK);
        CHECK(quant_to_f32(types[i], y, q, 1, C) == QUANT_OK);
        CHECK(quant_from_f32(&e, q2, y, 1, C, NULL, NULL) == QUANT_OK);
        CHECK(quant_to_f32(types[i], y2, q2, 1, C) == QUANT_OK);
        test_note("%s", quant_type_name(types[i]));
        for (j = 0; j < C; j++) CHECK(y[j] == y2[j]);
    }
}

static void encoder_refusals(void)
{
    quant_encoder e;
    quant_error err;
    float x[512] = { 0 };
    uint8_t q[2048];
    CHECK(quant_encoder_init(&e, QUANT_Q8_K, 0, NULL, 0) == QUANT_E_TYPE);
    CHECK(quant_encoder_init(&e, 4, 0, NULL, 0) == QUANT_E_TYPE);
    CHECK(quant_encoder_init(&e, 4000, 0, NULL, 0) == QUANT_E_TYPE);
    CHECK(quant_encoder_init(&e, QUANT_Q4_K, 3, NULL, 0) == QUANT_E_ARG);
    CHECK(quant_encoder_init(&e, QUANT_Q4_K, QUANT_EFFORT_BEST, NULL, 0) == QUANT_OK);
    CHECK(quant_from_f32(&e, q, x, 1, 255, NULL, &err) == QUANT_E_ARG && err.what[0]);
    e.type = QUANT_Q8_K;
    CHECK(quant_from_f32(&e, q, x, 1, 256, NULL, &err) == QUANT_E_TYPE);
    CHECK(quant_encoder_init(&e, QUANT_IQ2_XS, 0, NULL, 0) == QUANT_OK);
    CHECK(quant_from_f32(&e, q, x, 1, 256, NULL, &err) == QUANT_E_ARG && err.what[0]);
    CHECK(quant_encoder_init(&e, QUANT_NVFP4, 0, NULL, 0) == QUANT_OK);
    e.tensor_scale = 0;
    CHECK(quant_from_f32(&e, q, x, 1, 256, NULL, &err) == QUANT_E_ARG);
}

void suite_rows(void);
void suite_rows(void)
{
    RUN(half_floats);
    RUN(bfloats);
    RUN(splits_do_not_matter);
    RUN(errors_are_as_expected);
    RUN(importance_helps);
    RUN(nvfp4_tensor_scale);
    RUN(bad_weights_are_named);
    RUN(any_finite_weights);
    RUN(any_bytes_decode);
    RUN(idempotent);
    RUN(encoder_refusals);
}
