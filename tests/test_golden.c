/* Golden vectors: every decoder bit for bit, every encoder byte for byte. */
#include "test.h"

void suite_golden(void);
void suite_golden(void)
{
}
