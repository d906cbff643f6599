// Linear layers in int8: weights and activations quantised symmetrically, one scale for every 64
// inputs. Sums within a group are whole numbers, the same on every machine; groups add up in
// float32 in order.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "linear.h"
#include "vec.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace pt {
namespace {

// Weights are stored plus 128, as unsigned bytes, because the instruction multiplies unsigned by
// signed. Activations' offsets, -128 times their sum, take it out again.
constexpr int ZERO = 128;
constexpr int QUADS = GROUP / 4;
constexpr int SCALE_BYTES = PANEL * sizeof(float);
constexpr int GROUP_BYTES = SCALE_BYTES + PANEL * GROUP;

// Adds to every lane the products of its four weights and the four activations in `x`.
#if defined(__AVX512VNNI__)
constexpr bool TAKES_OFFSETS = true;
inline vi dot(vi acc, vi weights, int32_t x) {
  return reinterpret_cast<vi>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(acc), reinterpret_cast<__m512i>(weights), _mm512_set1_epi32(x)));
}
#elif defined(__AVX2__) && !defined(__AVX512F__)
constexpr bool TAKES_OFFSETS = false;
inline vi dot(vi acc, vi weights, int32_t x) {
  // The weight's sign goes to the activation: both are at most 127, so pairs fit 16 bits.
  const __m256i w = _mm256_xor_si256(
      reinterpret_cast<__m256i>(weights), _mm256_set1_epi8(static_cast<char>(ZERO)));
  const __m256i signed_x = _mm256_sign_epi8(_mm256_set1_epi32(x), w);
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), signed_x);
  return acc + reinterpret_cast<vi>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#else
constexpr bool TAKES_OFFSETS = true;
inline vi dot(vi acc, vi weights, int32_t x) {
  acc += (weights & 255) * static_cast<int8_t>(x);
  acc += (weights >> 8 & 255) * static_cast<int8_t>(x >> 8);
  acc += (weights >> 16 & 255) * static_cast<int8_t>(x >> 16);
  acc += (weights >> 24 & 255) * static_cast<int8_t>(x >> 24);
  return acc;
}
#endif

constexpr int ACCUMULATORS = REGISTERS == 32 ? 16 : 8;
constexpr int LARGEST = std::min(MAX_BLOCK, ACCUMULATORS / PANEL_VECTORS);

constexpr int width_for(int block) {
  const int np = ACCUMULATORS / (block * PANEL_VECTORS);
  return np < 1 ? 1 : np > MAX_NP ? MAX_NP : np;
}

inline int32_t load_quad(const int8_t* from) {
  int32_t quad;
  std::memcpy(&quad, from, sizeof quad);
  return quad;
}

inline vi load_weights(const char* from) {
  vi v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <int BLOCK, int NP>
void tile(
    const Linear& l, int panel, const Activations& x, int block, const Stage& stage, float* out) {
  constexpr int NV = NP * PANEL_VECTORS;
  const int8_t* quants = x.quants(block);
  const float* scales = x.scales(block);
  const int32_t* offsets = x.offsets(block);
  const char* w = l.panel(panel) + l.bytes_of(stage.first);
  const char* ahead = stage.ahead;
  const int last_group = ceil_div(stage.last, GROUP);
  vf acc[BLOCK][NV] = {};
  if (stage.first > 0) load_all(acc, out);
  // Scales lie between the weights: a group has a line more than it has steps.
  for (int g = stage.first / GROUP; g < last_group;
       g++, w += GROUP_BYTES, ahead += (QUADS + 1) * stage.step) {
    vi whole[BLOCK][NV];
#pragma GCC unroll 16
    for (int m = 0; m < BLOCK; m++)
#pragma GCC unroll 16
      for (int v = 0; v < NV; v++)
        whole[m][v] = vi{} + (TAKES_OFFSETS ? offsets[g * BLOCK + m] : 0);
    for (int quad = 0; quad < QUADS; quad++) {
      vi weights[NV];
#pragma GCC unroll 16
      for (int p = 0; p < NP; p++) {
        const char* row = w + p * l.panel_bytes + SCALE_BYTES + quad * (PANEL * 4);
        __builtin_prefetch(ahead + p * stage.panel_stride + quad * stage.step, 0, 3);
#pragma GCC unroll 4
        for (int v = 0; v < PANEL_VECTORS; v++)
          weights[p * PANEL_VECTORS + v] = load_weights(row + v * LANES * 4);
      }
#pragma GCC unroll 16
      for (int m = 0; m < BLOCK; m++) {
        const int32_t four = load_quad(quants + ((g * QUADS + quad) * BLOCK + m) * 4);
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) whole[m][v] = dot(whole[m][v], weights[v], four);
      }
    }
#pragma GCC unroll 16
    for (int v = 0; v < NV; v++) {
      const char* row = w + v / PANEL_VECTORS * l.panel_bytes;
      const vf scale = load(reinterpret_cast<const float*>(row) + v % PANEL_VECTORS * LANES);
#pragma GCC unroll 16
      for (int m = 0; m < BLOCK; m++)
        acc[m][v] += __builtin_convertvector(whole[m][v], vf) * (scale * scales[g * BLOCK + m]);
    }
  }
  store_all(acc, out);
}

using Row = std::array<Tile, MAX_NP>;

template <int BLOCK, int... I>
constexpr Row tiles_of(std::integer_sequence<int, I...>) {
  return {tile<BLOCK, (I < width_for(BLOCK) ? I + 1 : 1)>...};
}

template <int... I>
constexpr std::array<Row, LARGEST> all_tiles(std::integer_sequence<int, I...>) {
  return {tiles_of<I + 1>(std::make_integer_sequence<int, MAX_NP>())...};
}

constexpr std::array<Row, LARGEST> TILES = all_tiles(std::make_integer_sequence<int, LARGEST>());

// Quantises 64 values; returns the scale. NaN and infinity make the scale NaN.
float quantise(const float* from, int8_t* to) {
  vf largest = {}, unsound = {};
  for (int i = 0; i < GROUP; i += LANES) {
    const vf x = load(from + i), size = x < 0.0f ? -x : x;
    largest = largest < size ? size : largest;
    unsound += x * 0.0f;
  }
  const float top = max(largest);
  const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
  for (int i = 0; i < GROUP; i++)
    to[i] = static_cast<int8_t>(static_cast<int32_t>(std::rint(from[i] * inverse)));
  return top / 127.0f + sum(unsound);
}

// The same of fewer than 64; the others are zeros.
float quantise(const float* from, int count, int8_t* to) {
  if (count == GROUP) return quantise(from, to);
  float padded[GROUP] = {};
  std::copy(from, from + count, padded);
  return quantise(padded, to);
}

}  // namespace

Tile int8_tile(int block, int np) { return TILES[block - 1][np - 1]; }

int int8_width(int block) { return width_for(block); }

int int8_block() { return LARGEST; }

void pack_int8_weights(const Linear& l, const float* rows, const int* source) {
  const int groups = ceil_div(l.k, GROUP);
  for (int p = 0; p < l.panels; p++) {
    for (int g = 0; g < groups; g++) {
      char* area = l.weights + p * l.panel_bytes + g * GROUP_BYTES;
      const int count = std::min(GROUP, l.k - g * GROUP);
      for (int i = 0; i < PANEL; i++) {
        const int row = source[p * PANEL + i];
        int8_t quants[GROUP] = {};
        float scale = 0.0f;
        if (row >= 0)
          scale = quantise(rows + static_cast<size_t>(row) * l.k + g * GROUP, count, quants);
        std::memcpy(area + i * sizeof scale, &scale, sizeof scale);
        for (int k = 0; k < GROUP; k++)
          area[SCALE_BYTES + (k / 4 * PANEL + i) * 4 + k % 4] =
              static_cast<char>(quants[k] + ZERO);
      }
    }
  }
}

void Activations::pack_int8(int block, const float* rows_from, size_t stride) {
  const int rows = std::min(block_, rows_ - block * block_);
  const size_t first = static_cast<size_t>(block) * block_ * groups_;
  int8_t* quants = quants_.get() + first * GROUP;
  float* scales = scales_.get() + first;
  int32_t* offsets = offsets_.get() + first;
  for (int row = 0; row < block_; row++) {
    for (int g = 0; g < groups_; g++) {
      int8_t group[GROUP] = {};
      float scale = 0.0f;
      if (row < rows)
        scale = quantise(
            rows_from + row * stride + g * GROUP, std::min(GROUP, k_ - g * GROUP), group);
      int32_t total = 0;
      for (int k = 0; k < GROUP; k++) total += group[k];
      scales[g * block_ + row] = scale;
      offsets[g * block_ + row] = -ZERO * total;
      for (int quad = 0; quad < QUADS; quad++)
        std::memcpy(quants + ((g * QUADS + quad) * block_ + row) * 4, group + quad * 4, 4);
    }
  }
}

const int8_t* Activations::quants(int block) const {
  return quants_.get() + static_cast<size_t>(block) * block_ * groups_ * GROUP;
}

const float* Activations::scales(int block) const {
  return scales_.get() + static_cast<size_t>(block) * block_ * groups_;
}

const int32_t* Activations::offsets(int block) const {
  return offsets_.get() + static_cast<size_t>(block) * block_ * groups_;
}

}  // namespace pt
