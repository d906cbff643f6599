// Linear layers: how work is cut into chunks, and what is done with a tile's results.
#include "linear.h"

#include <algorithm>
#include <cstring>

#include "vec.h"

namespace pt {
namespace {

constexpr int SLAB_ROWS = 128;  // rows whose inputs stay in cache while the weights go by
constexpr int HALF = PANEL / 2;

struct Job {
  const Linear& l;
  const Activations& x;
  Epilogue epilogue;
  float* out;
  size_t stride;
  const Linear* following;
  int shares;
  int np;      // panels of a tile
  int width;   // panels of a chunk
  int groups;  // chunks that one slab of rows has
};

void finish_row(const Job& job, int panel, int np, int row, float* result) {
  const Linear& l = job.l;
  const int first = panel * PANEL, count = np * PANEL;
  if (l.bias != nullptr)
    for (int i = 0; i < count; i += LANES)
      store(result + i, load(result + i) + load(l.bias + first + i));
  if (job.epilogue == Epilogue::silu) {
    float* to = job.out + row * job.stride + first / 2;
    const int valid = std::min(count, l.n - first) / 2;
    // Zeros behind the last: whatever lay there could be numbers that are slow to compute with.
    float gate[MAX_NP * HALF + LANES] = {}, up[MAX_NP * HALF + LANES] = {};
    for (int p = 0; p < np; p++) {
      std::memcpy(gate + p * HALF, result + p * PANEL, HALF * sizeof(float));
      std::memcpy(up + p * HALF, result + p * PANEL + HALF, HALF * sizeof(float));
    }
    for (int i = 0; i < np * HALF; i += LANES) {
      const vf g = load(gate + i);
      store(gate + i, g / (1.0f + exp(-g)) * load(up + i));
    }
    std::memcpy(to, gate, valid * sizeof(float));
    return;
  }
  float* to = job.out + row * job.stride + first;
  const int valid = std::min(count, l.n - first);
  if (job.epilogue == Epilogue::store) {
    std::memcpy(to, result, valid * sizeof(float));
  } else {
    for (int i = 0; i < valid; i++) to[i] += result[i];
  }
}

int tile_width(const Linear& l, int block) {
  return l.format == Format::int8 ? int8_width(block) : float_width(block);
}

// Panels of a chunk: those of one tile, or more where that is little to read; of the widths near
// by that whose chunks divide most evenly among the threads, the widest of equal ones.
int chunk_width(const Linear& l, int block, int threads) {
  constexpr size_t ENOUGH = size_t{48} << 10;
  const int tile = tile_width(l, block);
  const int tiles = static_cast<int>(ENOUGH / (l.panel_bytes * tile));
  const int widest = tile * std::max(1, tiles);
  int best = widest, best_time = 1 << 30;
  for (int width = widest; width >= (widest + 1) / 2; width--) {
    const int time = ceil_div(ceil_div(l.panels, width), threads) * width;
    if (time < best_time) best = width, best_time = time;
  }
  return best;
}

// Inputs of a stage. With few blocks of rows, its weights and those of the next one fit the first
// cache, so that memory is read while the rows compute. Many blocks compute for long enough, and
// then it costs more to put their accumulators away after every stage.
int stage_inputs(const Linear& l, int blocks) {
  if (l.format == Format::int8) return blocks == 1 ? 4 * GROUP : l.k;
  return blocks <= 4 ? 64 : l.k;
}

// A stage of whoever computes a chunk's panels, up to the last stage of its last tile. What is
// prefetched meanwhile is read next: the tile's next stage, else the first one of another tile.
Stage stage_of(const Job& job, Chunk chunk, int panel, int np, int first, int inputs) {
  const Linear& l = job.l;
  const int last = std::min(first + inputs, l.k);
  if (last < l.k) return {first, last, l.panel(panel) + l.bytes_of(last), l.panel_bytes, LINE};
  const bool ends = panel + np == std::min((chunk.index % job.groups + 1) * job.width, l.panels);
  if (!(chunk.last && ends)) return {first, last, l.panel(panel + np), l.panel_bytes, LINE};
  if (job.following == nullptr) return {first, last, l.panel(panel), 0, 0};
  const Linear& f = *job.following;
  const int width = chunk_width(f, job.x.block(), job.shares);
  const int next = share_start(ceil_div(f.panels, width), chunk.share, job.shares) * width;
  return {first, last, f.panel(next), f.panel_bytes, LINE};
}

void run_tiles(
    const Job& job, Chunk chunk, int panel, int np, int first_block, int last_block) {
  thread_local Buffer<float> results;
  const Linear& l = job.l;
  const Activations& x = job.x;
  const Tile tile =
      l.format == Format::int8 ? int8_tile(x.block(), np) : float_tile(x.block(), np);
  const int blocks = last_block - first_block;
  const int inputs = stage_inputs(l, blocks);
  const size_t row_floats = np * PANEL;
  const size_t kept = inputs < l.k ? x.block() * row_floats : 0;  // of a block between stages
  results.reserve(blocks * kept + x.block() * row_floats);
  for (int first = 0; first < l.k; first += inputs) {
    Stage stage = stage_of(job, chunk, panel, np, first, inputs);
    const size_t lines = (l.bytes_of(stage.last) - l.bytes_of(first)) / LINE;
    // Prefetching is spread over all blocks of rows, so that memory is never idle.
    stage.step /= blocks;
    for (int b = 0; b < blocks; b++, stage.ahead += lines * stage.step) {
      float* result = results.get() + b * kept;
      const int first_row = (first_block + b) * x.block();
      tile(l, panel, x, first_block + b, stage, result);
      if (stage.last < l.k) continue;
      const int rows = std::min(x.block(), x.rows() - first_row);
      for (int row = 0; row < rows; row++)
        finish_row(job, panel, np, first_row + row, result + row * row_floats);
    }
  }
}

void run_chunk(const Job& job, Chunk chunk) {
  const Activations& x = job.x;
  const int slab_blocks = std::max(1, SLAB_ROWS / x.block());
  const int first_block = chunk.index / job.groups * slab_blocks;
  const int last_block = std::min(first_block + slab_blocks, x.blocks());
  int panel = chunk.index % job.groups * job.width;
  const int end = std::min(panel + job.width, job.l.panels);
  while (panel < end) {
    const int np = std::min(job.np, end - panel);
    run_tiles(job, chunk, panel, np, first_block, last_block);
    panel += np;
  }
}

}  // namespace

Linear Linear::shape(Format format, int n, int k) {
  Linear l;
  l.format = format;
  l.n = n;
  l.k = k;
  l.panels = ceil_div(n, PANEL);
  l.panel_bytes = l.bytes_of(k);
  return l;
}

size_t Linear::bytes_of(int inputs) const {
  if (format == Format::int8)
    return static_cast<size_t>(ceil_div(inputs, GROUP)) * PANEL * (GROUP + sizeof(float));
  return static_cast<size_t>(inputs) * PANEL * sizeof(float);
}

void pack_weights(const Linear& l, const float* rows, const int* source) {
  if (l.format == Format::int8)
    pack_int8_weights(l, rows, source);
  else
    pack_float_weights(l, rows, source);
}

void Activations::prepare(Format format, int rows, int k) {
  format_ = format;
  rows_ = rows;
  k_ = k;
  groups_ = ceil_div(k, GROUP);
  // Blocks of one size, none larger than the largest, with as few rows to spare as possible.
  blocks_ = ceil_div(rows, format == Format::int8 ? int8_block() : float_block());
  block_ = blocks_ == 0 ? 1 : ceil_div(rows, blocks_);
  const size_t padded = static_cast<size_t>(blocks_) * block_;
  if (format == Format::int8) {
    quants_.reserve(padded * groups_ * GROUP);
    scales_.reserve(padded * groups_);
    offsets_.reserve(padded * groups_);
  } else {
    floats_.reserve(padded * round_up(k, PANEL));
  }
}

void Activations::pack(int block, const float* rows_from, size_t stride) {
  if (format_ == Format::int8)
    pack_int8(block, rows_from, stride);
  else
    pack_float(block, rows_from, stride);
}

void run_linear(
    Pool& pool, const Linear& l, const Activations& x, Epilogue epilogue, float* out,
    size_t stride, const Linear* following) {
  const int width = chunk_width(l, x.block(), pool.threads());
  const int np = std::min(width, tile_width(l, x.block()));
  const int groups = ceil_div(l.panels, width);
  const int slabs = ceil_div(x.blocks(), std::max(1, SLAB_ROWS / x.block()));
  const Job job{l, x, epilogue, out, stride, following, pool.threads(), np, width, groups};
  pool.run(slabs * groups, [&](Chunk chunk) { run_chunk(job, chunk); });
}

}  // namespace pt
