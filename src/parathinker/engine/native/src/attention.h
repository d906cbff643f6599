// Attention over the segments of a KV pool: which keys each token reads, cut into pieces of work.
//
// A segment is read in spans of 256 keys, counted from its beginning. Every query's result over a
// span is computed by itself and these are merged in order, so that neither threads nor the
// prompt's chunks nor the other queries change a bit of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memory.h"
#include "pool.h"

namespace pt {

constexpr int BLOCK_TOKENS = 8;
constexpr int SPAN_BLOCKS = 32;
constexpr int SPAN = SPAN_BLOCKS * BLOCK_TOKENS;

// Consecutive tokens that read the beginning of one segment; see batch.py.
struct Read {
  int first;
  int tokens;
  const int64_t* blocks;
  int keys;
  bool causal;

  int visible(int token) const { return causal ? keys - (tokens - 1 - token) : keys; }
};

struct Heads {
  int query;
  int kv;
  int dim;
};

class Attention {
 public:
  // Cuts the reads of one forward into pieces; the same in every layer.
  void plan(const std::vector<Read>& reads, int tokens, const Heads& heads, int threads);

  // keys [blocks, kv, dim, 8] and values [blocks, kv, 8, dim] of one layer; queries
  // [tokens, query_stride], heads first; out [tokens, heads.query * dim].
  void run(
      Pool& pool, const float* keys, const float* values, const float* queries,
      size_t query_stride, float* out);

 private:
  // Some tokens' reading of one span; all heads of all pieces are independent.
  struct Piece {
    int read;
    int token;  // first, counted within the read
    int tokens;
    int span;
  };
  struct Layer {
    const float* keys;
    const float* values;
    const float* queries;
    size_t query_stride;
    float* out;
  };
  // Tokens whose partial results are in memory at the same time.
  struct Slab {
    int first, last;
    size_t first_piece, last_piece;
  };

  void compute(const Layer& layer, const Piece& piece, int head) const;
  void merge(const Layer& layer, int token) const;
  float* partial(int token, int index) const;

  std::vector<Read> reads_;
  std::vector<Piece> pieces_;
  std::vector<Slab> slabs_;
  std::vector<int> counts_;      // spans that each token reads
  std::vector<int> first_;       // index of each token's first partial result in its slab
  std::vector<int> read_first_;  // for each read and token of it: spans read before
  std::vector<int> read_start_;
  Heads heads_{};
  Buffer<float> partials_;
};

}  // namespace pt
