/* Properties of encoders and decoders. */
#include "test.h"

void suite_rows(void);
void suite_rows(void)
{
}
