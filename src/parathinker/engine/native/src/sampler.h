// Choosing tokens; the same definition as engine/sampler.py, with the steps in the same order.
#pragma once

#include "api.h"

namespace pt {

// Throws if an edit is of a token that is not there.
void check_edits(const pt_sampling& sampling);

// Fills in the results of one row.
void sample_row(const pt_sampling& sampling, int row);

}  // namespace pt
