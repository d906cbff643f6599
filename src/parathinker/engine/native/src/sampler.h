// Choosing tokens; the same definition as engine/sampler.py, with the steps in the same order.
#pragma once

#include "api.h"

namespace pt {

// Fills in the results of one row.
void sample_row(const pt_sampling& sampling, int row);

}  // namespace pt
