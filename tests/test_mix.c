/* Types for whole models. */
#include "test.h"

void suite_mix(void);
void suite_mix(void)
{
}
