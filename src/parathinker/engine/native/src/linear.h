// Linear layers on packed weights: what a forward spends nearly all its time in.
//
// Every output is one chain of multiply-adds over the inputs in order, whatever tile computes it:
// a row's result does not depend on the other rows, on how many threads there are, or on chunks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "memory.h"
#include "pool.h"

namespace pt {

enum class Format { float32, int8 };

// A weight matrix [n outputs, k inputs] in panels of 16 outputs, k after k within a panel.
struct Linear {
  Format format = Format::float32;
  int n = 0;
  int k = 0;
  int panels = 0;
  size_t panel_bytes = 0;
  char* weights = nullptr;
  const float* bias = nullptr;  // one for each packed output, or null

  static Linear shape(Format format, int n, int k);
  size_t bytes() const { return panel_bytes * panels; }

  // Bytes that so many inputs take in a panel; in int8, whole groups of them.
  size_t bytes_of(int inputs) const;
  const char* panel(int index) const { return weights + index * panel_bytes; }
};

// Packs rows [n, k] into l.weights. `source` names the row that each packed output comes from;
// where that is negative, the output is zero.
void pack_weights(const Linear& l, const float* rows, const int* source);

// Rows of inputs as the kernels read them: blocks of `block` rows, with the inputs that stand
// together outside and the rows inside.
class Activations {
 public:
  // Makes room, and settles the block size, for so many rows of k inputs.
  void prepare(Format format, int rows, int k);

  int rows() const { return rows_; }
  int block() const { return block_; }
  int blocks() const { return blocks_; }

  // Packs one block of rows; `rows_from` points to its first row. Rows past the end are zeros.
  void pack(int block, const float* rows_from, size_t stride);

  // float32: values [k/16, block, 16].
  const float* floats(int block) const;
  // int8: values [k/4, block, 4], and for each group of 64 the scale and -128 times the sum.
  const int8_t* quants(int block) const;
  const float* scales(int block) const;
  const int32_t* offsets(int block) const;

 private:
  void pack_float(int block, const float* rows_from, size_t stride);
  void pack_int8(int block, const float* rows_from, size_t stride);

  Format format_ = Format::float32;
  int rows_ = 0, k_ = 0, block_ = 0, blocks_ = 0, groups_ = 0;
  Buffer<float> floats_, scales_;
  Buffer<int8_t> quants_;
  Buffer<int32_t> offsets_;
};

enum class Epilogue {
  store,     // out = result
  residual,  // out += result
  silu,      // panels hold 8 gates and their 8 ups: out = gate * sigmoid(gate) * up
};

// out[row * stride + output] for every row of x, on all threads. Meanwhile the beginning of the
// layer that follows, if any, is brought closer.
void run_linear(
    Pool& pool, const Linear& l, const Activations& x, Epilogue epilogue, float* out,
    size_t stride, const Linear* following);

constexpr int LINE = 64;      // bytes that come from memory together
constexpr int GROUP = 64;     // inputs that share a scale in int8
constexpr int MAX_BLOCK = 8;  // rows of the largest tile
constexpr int MAX_NP = 8;     // panels of the widest tile

// A part of a tile's work: some of the inputs, and the weights that are prefetched meanwhile, from
// `ahead`, `panel_stride` further on for every panel and `step` for every line of weights that the
// tile reads of each.
struct Stage {
  int first, last;  // inputs; in int8, whole groups
  const char* ahead;
  size_t panel_stride;
  size_t step;
};

// Adds what a stage's inputs come to to results [block, np * 16]; those of input 0 begin anew.
using Tile = void (*)(
    const Linear& l, int panel, const Activations& x, int block, const Stage& stage, float* out);

// For each format: the tile for a block of rows and np panels, the widest np there is for such a
// block, the largest block, and the packing.
Tile float_tile(int block, int np);
int float_width(int block);
int float_block();
void pack_float_weights(const Linear& l, const float* rows, const int* source);
Tile int8_tile(int block, int np);
int int8_width(int block);
int int8_block();
void pack_int8_weights(const Linear& l, const float* rows, const int* source);

}  // namespace pt
