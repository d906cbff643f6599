// Attention over segments: planning, the work of one piece, and merging.
#include "attention.h"

#include <algorithm>
#include <cmath>

#include "vec.h"

namespace pt {
namespace {

constexpr size_t PARTIAL_BYTES = size_t{4} << 20;  // of partial results at a time
constexpr int MAX_ROWS = 48;                       // queries that go through a span together
constexpr int TILE_ROWS = REGISTERS == 32 ? 8 : 4;

// Vectors of keys, or of a value, that go with so many queries in the registers.
constexpr int vectors_for(int rows) { return rows * 4 <= (REGISTERS == 32 ? 16 : 8) ? 4 : 2; }

// The span as one kv head sees it.
struct Span {
  // Whole vectors are read, and blocks ahead prefetched: behind the last block stands some block.
  const float* keys[SPAN_BLOCKS + 8];
  const float* values[SPAN_BLOCKS];
  int dim;
  bool fresh;  // not read a moment ago
};

struct Scores {
  alignas(64) float rows[TILE_ROWS][SPAN];
};

// The d-th component of LANES keys, `vector` vectors into the span.
inline vf load_keys(const Span& span, int vector, int d) {
#if defined(__AVX512F__)
  const __m256 low = _mm256_loadu_ps(span.keys[2 * vector] + d * BLOCK_TOKENS);
  const __m256 high = _mm256_loadu_ps(span.keys[2 * vector + 1] + d * BLOCK_TOKENS);
  return reinterpret_cast<vf>(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
#else
  constexpr int PER_BLOCK = BLOCK_TOKENS / LANES;
  return load(
      span.keys[vector / PER_BLOCK] + d * BLOCK_TOKENS + vector % PER_BLOCK * LANES);
#endif
}

// Scaled products of ROWS queries [dim, ROWS] with the first `count` keys, and some garbage behind.
template <int ROWS>
void multiply_keys(const Span& span, const float* queries, int count, float scale, Scores& out) {
  constexpr int KV = vectors_for(ROWS);
  constexpr int AHEAD = std::max(1, KV * LANES / BLOCK_TOKENS);
  for (int first = 0; first * LANES < count; first += KV) {
    vf acc[ROWS][KV] = {};
    const int block = first * LANES / BLOCK_TOKENS;
    for (int d = 0; d < span.dim; d++) {
      // Blocks lie anywhere, so the hardware cannot guess the next ones: keys of the next group of
      // blocks, values of this one, a line of each for every two components.
      for (int b = 0; span.fresh && b < AHEAD; b++) {
        const float* const* soon = d % 2 == 0 ? span.keys + AHEAD : span.values;
        __builtin_prefetch(soon[block + b] + d / 2 * 2 * BLOCK_TOKENS, 0, 2);
      }
      vf keys[KV];
#pragma GCC unroll 4
      for (int v = 0; v < KV; v++) keys[v] = load_keys(span, first + v, d);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < KV; v++) acc[r][v] += keys[v] * queries[d * ROWS + r];
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
      for (int v = 0; v < KV; v++)
        store(out.rows[r] + (first + v) * LANES, acc[r][v] * scale);
  }
}

// Turns a row's first `visible` scores into weights relative to the largest, and the rest of
// `count` into zeros; returns the largest score and the sum of weights.
std::pair<float, float> soften(float* row, int visible, int count) {
  vi lane;
  for (int i = 0; i < LANES; i++) lane[i] = i;
  vf largest = splat(-INFINITY);
  for (int i = 0; i < count; i += LANES) {
    const vf seen = lane + i < visible ? load(row + i) : splat(-INFINITY);
    largest = largest < seen ? seen : largest;
    store(row + i, seen);
  }
  const float top = max(largest);
  vf total = {};
  for (int i = 0; i < count; i += LANES) {
    const vf weight = exp(load(row + i) - top);
    total += weight;
    store(row + i, weight);
  }
  return {top, sum(total)};
}

// Sums of values, weighted by ROWS rows of scores, over the first `count` keys; DV vectors of the
// result from component `d` on, to out[row].
template <int ROWS, int DV>
void multiply_values(const Span& span, const Scores& scores, int count, int d, float* const* out) {
  vf acc[ROWS][DV] = {};
  for (int first = 0; first < count; first += BLOCK_TOKENS) {
    const float* value = span.values[first / BLOCK_TOKENS] + d;
    const int last = std::min(first + BLOCK_TOKENS, count);
    for (int key = first; key < last; key++, value += span.dim) {
      vf values[DV];
#pragma GCC unroll 4
      for (int v = 0; v < DV; v++) values[v] = load(value + v * LANES);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < DV; v++) acc[r][v] += values[v] * scores.rows[r][key];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < DV; v++) store(out[r] + d + v * LANES, acc[r][v]);
}

// The same for a single component, where the head's size is no multiple of a vector's.
void multiply_component(
    const Span& span, const Scores& scores, int rows, int count, int d, float* const* out) {
  for (int r = 0; r < rows; r++) {
    float acc = 0.0f;
    for (int key = 0; key < count; key++)
      acc += span.values[key / BLOCK_TOKENS][key % BLOCK_TOKENS * span.dim + d] *
             scores.rows[r][key];
    out[r][d] = acc;
  }
}

// Up to TILE_ROWS queries [dim, ROWS] over one span; out[row] is [dim], then the largest score and
// the sum of weights.
template <int ROWS>
void read_span(
    const Span& span, const float* queries, const int* visible, float scale, float* const* out) {
  const int dim = span.dim;
  Scores scores;
  const int most = *std::max_element(visible, visible + ROWS);
  multiply_keys<ROWS>(span, queries, most, scale, scores);
  for (int r = 0; r < ROWS; r++) {
    const auto [top, total] = soften(scores.rows[r], visible[r], round_up(most, LANES));
    out[r][dim] = top;
    out[r][dim + 1] = total;
  }
  constexpr int DV = vectors_for(ROWS);
  int d = 0;
  for (; d + DV * LANES <= dim; d += DV * LANES)
    multiply_values<ROWS, DV>(span, scores, most, d, out);
  for (; d + LANES <= dim; d += LANES) multiply_values<ROWS, 1>(span, scores, most, d, out);
  for (; d < dim; d++) multiply_component(span, scores, ROWS, most, d, out);
}

using ReadSpan = void (*)(const Span&, const float*, const int*, float, float* const*);
constexpr ReadSpan READ_SPAN[8] = {
    read_span<1>, read_span<2>, read_span<3>, read_span<4>,
#if defined(__AVX512F__) || defined(__aarch64__)
    read_span<5>, read_span<6>, read_span<7>, read_span<8>,
#endif
};

int partial_stride(int dim) { return round_up(dim + 2, 16); }

}  // namespace

void Attention::plan(
    const std::vector<Read>& reads, int tokens, const Heads& heads, int threads) {
  reads_ = reads;
  heads_ = heads;
  counts_.assign(tokens, 0);
  first_.assign(tokens, 0);
  read_first_.clear();
  read_start_.clear();
  for (const Read& read : reads_) {
    read_start_.push_back(static_cast<int>(read_first_.size()));
    for (int i = 0; i < read.tokens; i++) {
      read_first_.push_back(counts_[read.first + i]);
      counts_[read.first + i] += ceil_div(std::max(read.visible(i), 0), SPAN);
    }
  }

  const size_t limit =
      PARTIAL_BYTES / (sizeof(float) * heads.query * partial_stride(heads.dim));
  slabs_.clear();
  size_t largest = 0, held = 0;
  int begin = 0;
  for (int t = 0; t < tokens; t++) {
    if (t > begin && held + counts_[t] > limit) {
      slabs_.push_back({begin, t, 0, 0});
      begin = t;
      held = 0;
    }
    first_[t] = static_cast<int>(held);
    held += counts_[t];
    largest = std::max(largest, held);
  }
  slabs_.push_back({begin, tokens, 0, 0});
  partials_.reserve(largest * heads.query * partial_stride(heads.dim));

  // Many queries a piece read the keys seldom; many pieces keep all threads at work.
  const int shared = heads.query / heads.kv;
  for (int group = std::max(1, MAX_ROWS / shared);; group = ceil_div(group, 2)) {
    pieces_.clear();
    for (Slab& slab : slabs_) {
      slab.first_piece = pieces_.size();
      for (int r = 0; r < static_cast<int>(reads_.size()); r++) {
        const Read& read = reads_[r];
        const int last = std::min(read.tokens, slab.last - read.first);
        for (int span = 0; span * SPAN < read.keys; span++) {
          int token = std::max(0, slab.first - read.first);
          while (token < last && read.visible(token) <= span * SPAN) token++;
          for (; token < last; token += group)
            pieces_.push_back({r, token, std::min(group, last - token), span});
        }
      }
      slab.last_piece = pieces_.size();
      // Pieces that read the same keys one after the other: a path that ends and the summary.
      std::stable_sort(
          pieces_.begin() + slab.first_piece, pieces_.end(), [&](const Piece& a, const Piece& b) {
            return reads_[a.read].blocks[a.span * SPAN_BLOCKS] <
                   reads_[b.read].blocks[b.span * SPAN_BLOCKS];
          });
    }
    const size_t enough = static_cast<size_t>(6 * threads) * slabs_.size();
    if (pieces_.size() * heads.kv >= enough || group * shared <= TILE_ROWS) break;
  }
}

void Attention::run(
    Pool& pool, const float* keys, const float* values, const float* queries,
    size_t query_stride, float* out) {
  const Layer layer{keys, values, queries, query_stride, out};
  for (const Slab& slab : slabs_) {
    const int pieces = static_cast<int>(slab.last_piece - slab.first_piece);
    pool.run(pieces * heads_.kv, [&](Chunk chunk) {
      compute(layer, pieces_[slab.first_piece + chunk.index / heads_.kv], chunk.index % heads_.kv);
    });
    int work = 0;
    for (int t = slab.first; t < slab.last; t++) work += counts_[t] * heads_.query;
    // A phase of its own for every few microseconds of merging.
    const int tokens = slab.last - slab.first;
    const int chunks = std::min(tokens, ceil_div(work, 256));
    const int each = chunks == 0 ? tokens : ceil_div(tokens, chunks);
    pool.run(ceil_div(tokens, std::max(each, 1)), [&](Chunk chunk) {
      const int from = slab.first + chunk.index * each;
      for (int t = from; t < std::min(from + each, slab.last); t++) merge(layer, t);
    });
  }
}

void Attention::compute(const Layer& layer, const Piece& piece, int head) const {
  const Read& read = reads_[piece.read];
  const int dim = heads_.dim, shared = heads_.query / heads_.kv;
  const int begin = piece.span * SPAN;
  const int blocks =
      std::min(SPAN_BLOCKS, ceil_div(read.keys - begin, BLOCK_TOKENS));
  Span span;
  span.dim = dim;
  for (int b = 0; b < SPAN_BLOCKS + 8; b++) {
    const int64_t block = read.blocks[piece.span * SPAN_BLOCKS + std::min(b, blocks - 1)];
    const size_t at = (static_cast<size_t>(block) * heads_.kv + head) * dim * BLOCK_TOKENS;
    span.keys[b] = layer.keys + at;
    if (b < SPAN_BLOCKS) span.values[b] = layer.values + at;
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  const int rows = piece.tokens * shared;
  constexpr int MAX_DIM = 1024;
  alignas(64) float queries[MAX_DIM * TILE_ROWS];
  for (int first = 0; first < rows; first += TILE_ROWS) {
    const int count = std::min(TILE_ROWS, rows - first);
    int visible[TILE_ROWS];
    float* out[TILE_ROWS];
    for (int r = 0; r < count; r++) {
      const int within = piece.token + (first + r) / shared;
      const int token = read.first + within;
      const int query = head * shared + (first + r) % shared;
      const float* from = layer.queries + token * layer.query_stride + query * dim;
      for (int d = 0; d < dim; d++) queries[d * count + r] = from[d];
      visible[r] = std::min(SPAN, read.visible(within) - begin);
      const int index = read_first_[read_start_[piece.read] + within] + piece.span;
      out[r] = partial(token, index) + query * partial_stride(dim);
    }
    span.fresh = first == 0;
    READ_SPAN[count - 1](span, queries, visible, scale, out);
  }
}

void Attention::merge(const Layer& layer, int token) const {
  const int dim = heads_.dim, stride = partial_stride(dim), count = counts_[token];
  const size_t step = static_cast<size_t>(heads_.query) * stride;
  for (int head = 0; head < heads_.query; head++) {
    const float* parts = partial(token, 0) + head * stride;
    float* out = layer.out + (static_cast<size_t>(token) * heads_.query + head) * dim;
    std::fill(out, out + dim, 0.0f);
    float top = -INFINITY, total = 0.0f;
    for (int i = 0; i < count; i++) top = std::max(top, parts[i * step + dim]);
    for (int i = 0; i < count; i++) {
      const float* part = parts + i * step;
      const float weight = exp(splat(part[dim] - top))[0];
      total += part[dim + 1] * weight;
      int d = 0;
      for (; d + LANES <= dim; d += LANES)
        store(out + d, load(out + d) + load(part + d) * weight);
      for (; d < dim; d++) out[d] += part[d] * weight;
    }
    const float inverse = 1.0f / total;
    for (int d = 0; d < dim; d++) out[d] *= inverse;
  }
}

float* Attention::partial(int token, int index) const {
  const size_t at = static_cast<size_t>(first_[token]) + index;
  return partials_.get() + at * heads_.query * partial_stride(heads_.dim);
}

}  // namespace pt
