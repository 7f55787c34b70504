/* The type table, float conversions, error texts. */
#include "test.h"

static void type_names_and_ids(void)
{
    quant_type t;
    for (t = 0; t < 1000; t++) {
        const quant_type_info *i = quant_type_get(t);
        CHECK(quant_type_name(t) != NULL);
        CHECK((i == NULL) == (t >= QUANT_TYPE_COUNT));
        if (!i) { CHECK(quant_row_size(t, 256) == 0); continue; }
        if (i->flags & QUANT_TF_REMOVED) {
            CHECK(i->block_len == 0 && quant_row_size(t, 256) == 0);
            CHECK(strstr(i->name, "removed") != NULL);
            continue;
        }
        CHECK(quant_type_find(i->name) == t);
        CHECK(quant_row_size(t, 512) == 512u / i->block_len * i->block_size);
        CHECK(i->block_len == 1 || quant_row_size(t, 257) == 0);
    }
    CHECK(quant_type_get(0xffffffffu) == NULL);
    CHECK(quant_type_find("q4_k") == QUANT_Q4_K);
    CHECK(quant_type_find("Q4_2") == QUANT_TYPE_COUNT);
    CHECK(quant_type_find("") == QUANT_TYPE_COUNT);
    CHECK(quant_row_size(QUANT_F32, (size_t)-1) == 0);
}

static void error_text_fits(void)
{
    quant_error e;
    char buf[240];
    size_t n, i;
    memset(&e, 0, sizeof e);
    e.code = QUANT_E_SHORT;
    e.what = "the file is too short";
    e.need = e.have = e.where = UINT64_MAX;
    memset(e.name, 'x', sizeof e.name - 1);
    n = quant_error_text(buf, sizeof buf, &e);
    CHECK(n == strlen(buf) && n < sizeof buf - 1);
    for (i = 0; i < 40; i++) {
        memset(buf, 'z', sizeof buf);
        n = quant_error_text(buf, i, &e);
        CHECK(i == 0 ? n == 0 && buf[0] == 'z' : n == i - 1 && buf[n] == 0 && buf[i] == 'z');
    }
    CHECK(strcmp(quant_result_text(QUANT_OK), "ok") == 0);
    CHECK(quant_result_text((quant_result)1234)[0] != 0);
}

void suite_types(void);
void suite_types(void)
{
    RUN(type_names_and_ids);
    RUN(error_text_fits);
}
