/* The fuzz targets on inputs of their own, always the same. */
#include "test.h"

static void replay(const char *target)
{
    char command[64];
    snprintf(command, sizeof command, "build/%s > build/%s.out", target, target);
    test_note("%s", command);
    CHECK(system(command) == 0);
}

static void fuzz_replay_gguf(void) { replay("fuzz_gguf"); }
static void fuzz_replay_rows(void) { replay("fuzz_rows"); }
static void fuzz_replay_imatrix(void) { replay("fuzz_imatrix"); }

void suite_fuzz(void);
void suite_fuzz(void)
{
    RUN(fuzz_replay_gguf);
    RUN(fuzz_replay_rows);
    RUN(fuzz_replay_imatrix);
}
