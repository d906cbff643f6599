// Linear layers in float32: packing and the tiles.
#include <algorithm>
#include <array>
#include <utility>

#include "linear.h"
#include "vec.h"

namespace pt {
namespace {

// Accumulators of a tile, so that these, one panel row and one input fit the registers.
constexpr int ACCUMULATORS = REGISTERS == 32 ? 24 : 12;

constexpr int width_for(int block) {
  const int np = ACCUMULATORS / (block * PANEL_VECTORS);
  // With more streams than this the hardware's prefetcher loses track.
  return np < 1 ? 1 : np > MAX_NP ? MAX_NP : np;
}

constexpr int LARGEST = std::min(MAX_BLOCK, ACCUMULATORS / PANEL_VECTORS);

template <int BLOCK, int NP>
void tile(
    const Linear& l, int panel, const Activations& x, int block, const Ahead& ahead, float* out) {
  constexpr int NV = NP * PANEL_VECTORS;
  const float* in = x.floats(block);
  const char* w = l.weights + panel * l.panel_bytes;
  vf acc[BLOCK][NV] = {};
  for (int k = 0; k < l.k; k++) {
    vf weights[NV];
#pragma GCC unroll 16
    for (int p = 0; p < NP; p++) {
      const char* row = w + p * l.panel_bytes + k * (PANEL * sizeof(float));
      __builtin_prefetch(ahead.start + p * ahead.panel_stride + k * ahead.step, 0, 2);
#pragma GCC unroll 4
      for (int v = 0; v < PANEL_VECTORS; v++)
        weights[p * PANEL_VECTORS + v] = load(reinterpret_cast<const float*>(row) + v * LANES);
    }
#pragma GCC unroll 16
    for (int m = 0; m < BLOCK; m++)
#pragma GCC unroll 16
      for (int v = 0; v < NV; v++) acc[m][v] += weights[v] * in[k * BLOCK + m];
  }
#pragma GCC unroll 16
  for (int m = 0; m < BLOCK; m++)
#pragma GCC unroll 16
    for (int v = 0; v < NV; v++) store(out + (m * NV + v) * LANES, acc[m][v]);
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
  float* to = floats_.get() + static_cast<size_t>(block) * block_ * k_;
  const int rows = std::min(block_, rows_ - block * block_);
  for (int row = 0; row < block_; row++) {
    const float* from = rows_from + row * stride;
    if (row < rows)
      for (int k = 0; k < k_; k++) to[k * block_ + row] = from[k];
    else
      for (int k = 0; k < k_; k++) to[k * block_ + row] = 0.0f;
  }
}

const float* Activations::floats(int block) const {
  return floats_.get() + static_cast<size_t>(block) * block_ * k_;
}

}  // namespace pt
