/* Importance files. */
#include "test.h"

void suite_imatrix(void);
void suite_imatrix(void)
{
}
