#define QUANT_IMPLEMENTATION
#include "quant.h"
