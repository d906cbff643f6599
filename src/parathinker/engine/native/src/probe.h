// How fast memory can be read here.
#pragma once

#include <cstddef>

namespace pt {

// Bytes a second at which all threads together read an area of this size once, at least 8 MiB.
double read_bandwidth(size_t bytes, int threads);

}  // namespace pt
