/* The GGUF reader: what it must read and what it must refuse. */
#include "test.h"

void suite_read(void);
void suite_read(void)
{
}
