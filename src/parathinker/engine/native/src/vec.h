// Vectors of the machine's own width, written with the extensions that GCC and Clang share.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace pt {

#if defined(__AVX512F__)
constexpr int LANES = 16;
constexpr int REGISTERS = 32;
#elif defined(__AVX__)
constexpr int LANES = 8;
constexpr int REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int LANES = 4;
constexpr int REGISTERS = 32;
#else
constexpr int LANES = 4;
constexpr int REGISTERS = 16;
#endif

constexpr int PANEL = 16;                    // outputs of a linear layer that are packed together
constexpr int PANEL_VECTORS = PANEL / LANES;  // registers that hold one row's outputs of a panel

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));

inline vf load(const float* from) {
  vf v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, vf v) { std::memcpy(to, &v, sizeof v); }

inline vf splat(float x) { return x - vf{}; }

inline vi bits(vf v) {
  vi i;
  std::memcpy(&i, &v, sizeof i);
  return i;
}

inline vf from_bits(vi i) {
  vf v;
  std::memcpy(&v, &i, sizeof v);
  return v;
}

// A tile's accumulators from memory, and back.
template <int ROWS, int COLUMNS>
inline void load_all(vf (&acc)[ROWS][COLUMNS], const float* from) {
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
    for (int c = 0; c < COLUMNS; c++) acc[r][c] = load(from + (r * COLUMNS + c) * LANES);
}

template <int ROWS, int COLUMNS>
inline void store_all(const vf (&acc)[ROWS][COLUMNS], float* to) {
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
    for (int c = 0; c < COLUMNS; c++) store(to + (r * COLUMNS + c) * LANES, acc[r][c]);
}

// Lanes added in one fixed order.
inline float sum(vf v) {
  float lanes[LANES];
  std::memcpy(lanes, &v, sizeof v);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
  return lanes[0];
}

inline float max(vf v) {
  float lanes[LANES];
  std::memcpy(lanes, &v, sizeof v);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++)
      lanes[i] = lanes[i] < lanes[i + width] ? lanes[i + width] : lanes[i];
  return lanes[0];
}

// e to the x within 2 units in the last place; 0 where the result would be subnormal, and no
// larger than e to the 88. NaN stays NaN.
inline vf exp(vf x) {
  const vf shift = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const vf low = splat(-87.0f), high = splat(88.0f);
  const vf clamped = x < low ? low : (x > high ? high : x);
  const vf rounded = clamped * 1.44269504f + shift;
  const vi power = bits(rounded) - bits(shift);
  const vf n = rounded - shift;
  // ln 2 in two parts: n times the first is exact.
  const vf f = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * (f * f) + (f + 1.0f);
  const vf result = from_bits(bits(p) + (power << 23));
  return x < low ? vf{} : result;
}

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

inline int round_up(int a, int b) { return ceil_div(a, b) * b; }

}  // namespace pt
