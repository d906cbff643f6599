// Linear layers in float32: packing and the tiles.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "linear.h"
#include "vec.h"

namespace pt {
namespace {

// Accumulators of a tile, so that these, one panel row and one input fit the registers.
constexpr int ACCUMULATORS = REGISTERS == 32 ? 24 : 12;

// Inputs of a row that stand together: packing copies whole vectors, and the tile finds an input of
// any row at a constant distance.
constexpr int STRIP = 16;

constexpr int width_for(int block) {
  const int np = ACCUMULATORS / (block * PANEL_VECTORS);
  // With more streams than this the hardware's prefetcher loses track.
  return np < 1 ? 1 : np > MAX_NP ? MAX_NP : np;
}

constexpr int LARGEST = std::min(MAX_BLOCK, ACCUMULATORS / PANEL_VECTORS);

template <int BLOCK, int NP>
void tile(
    const Linear& l, int panel, const Activations& x, int block, const Stage& stage, float* out) {
  constexpr int NV = NP * PANEL_VECTORS;
  static_assert(PANEL * sizeof(float) == LINE);
  const float* in = x.floats(block) + stage.first * BLOCK;
  const char* w = l.panel(panel) + l.bytes_of(stage.first);
  const char* ahead = stage.ahead;
  vf acc[BLOCK][NV] = {};
  if (stage.first > 0) load_all(acc, out);
  for (int first = stage.first; first < stage.last; first += STRIP, in += BLOCK * STRIP) {
    const size_t count = std::min(STRIP, stage.last - first);
    for (size_t i = 0; i < count; i++, w += LINE, ahead += stage.step) {
      vf weights[NV];
#pragma GCC unroll 16
      for (int p = 0; p < NP; p++) {
        __builtin_prefetch(ahead + p * stage.panel_stride, 0, 3);
#pragma GCC unroll 4
        for (int v = 0; v < PANEL_VECTORS; v++)
          weights[p * PANEL_VECTORS + v] =
              load(reinterpret_cast<const float*>(w + p * l.panel_bytes) + v * LANES);
      }
#pragma GCC unroll 16
      for (int m = 0; m < BLOCK; m++)
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) acc[m][v] += weights[v] * in[m * STRIP + i];
    }
  }
  store_all(acc, out);
}

using Row = std::array<Tile, MAX_NP>;

template <int BLOCK, int... I>
constexpr Row tiles_of(std::integer_sequence<int, I...>) {
  // Narrower tiles serve the panels that are left over.
  return {tile<BLOCK, (I < width_for(BLOCK) ? I + 1 : 1)>...};
}

template <int... I>
constexpr std::array<Row, LARGEST> all_tiles(std::integer_sequence<int, I...>) {
  return {tiles_of<I + 1>(std::make_integer_sequence<int, MAX_NP>())...};
}

constexpr std::array<Row, LARGEST> TILES = all_tiles(std::make_integer_sequence<int, LARGEST>());

}  // namespace

Tile float_tile(int block, int np) { return TILES[block - 1][np - 1]; }

int float_width(int block) { return width_for(block); }

int float_block() { return LARGEST; }

void pack_float_weights(const Linear& l, const float* rows, const int* source) {
  for (int p = 0; p < l.panels; p++) {
    float* to = reinterpret_cast<float*>(l.weights + p * l.panel_bytes);
    for (int i = 0; i < PANEL; i++) {
      const int row = source[p * PANEL + i];
      for (int k = 0; k < l.k; k++)
        to[k * PANEL + i] = row < 0 ? 0.0f : rows[static_cast<size_t>(row) * l.k + k];
    }
  }
}

void Activations::pack_float(int block, const float* rows_from, size_t stride) {
  const int rows = std::min(block_, rows_ - block * block_);
  float* to = floats_.get() + static_cast<size_t>(block) * block_ * round_up(k_, STRIP);
  for (int first = 0; first < k_; first += STRIP) {
    const int count = std::min(STRIP, k_ - first);
    for (int row = 0; row < block_; row++, to += STRIP) {
      if (row < rows && count == STRIP) {
        std::memcpy(to, rows_from + row * stride + first, STRIP * sizeof(float));
      } else {
        std::fill(to, to + STRIP, 0.0f);
        if (row < rows) std::copy_n(rows_from + row * stride + first, count, to);
      }
    }
  }
}

const float* Activations::floats(int block) const {
  return floats_.get() + static_cast<size_t>(block) * block_ * round_up(k_, STRIP);
}

}  // namespace pt
