/* The programs, run as a user would. */
#include "test.h"

void suite_cli(void);
void suite_cli(void)
{
}
