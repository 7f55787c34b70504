/* The GGUF writer. */
#include "test.h"

void suite_write(void);
void suite_write(void)
{
}
