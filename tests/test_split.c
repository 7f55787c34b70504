/* Models in several files. */
#include "test.h"

void suite_split(void);
void suite_split(void)
{
}
