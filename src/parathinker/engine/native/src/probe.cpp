// How fast memory can be read here: the measure that a forward's time is held against.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>

#include "memory.h"
#include "pool.h"
#include "probe.h"
#include "vec.h"

namespace pt {
namespace {

constexpr int STREAMS = 8;  // that a thread reads side by side: one alone is half as fast
constexpr size_t STREAM_BYTES = size_t{512} << 10;
constexpr size_t CHUNK_BYTES = STREAMS * STREAM_BYTES;

std::mutex mutex;
std::unique_ptr<Arena> arena;
const char* area = nullptr;
size_t area_bytes = 0;
volatile float sink;  // so that reading is not optimised away

void read_chunk(const char* from) {
  vf sums[STREAMS] = {};
  for (size_t at = 0; at < STREAM_BYTES; at += 64)
    for (int s = 0; s < STREAMS; s++) {
      const auto* line = reinterpret_cast<const float*>(from + s * STREAM_BYTES + at);
      for (int v = 0; v < 16 / LANES; v++) sums[s] += load(line + v * LANES);
    }
  vf all = {};
  for (int s = 0; s < STREAMS; s++) all += sums[s];
  sink = sum(all);
}

}  // namespace

double read_bandwidth(size_t bytes, int threads) {
  std::lock_guard<std::mutex> lock(mutex);
  bytes = std::max(bytes, 2 * CHUNK_BYTES) / CHUNK_BYTES * CHUNK_BYTES;
  if (bytes != area_bytes) {
    arena.reset();
    arena = std::make_unique<Arena>(bytes);
    char* fresh = static_cast<char*>(arena->take(bytes));
    std::memset(fresh, 1, bytes);
    area = fresh;
    area_bytes = bytes;
  }
  Pool pool(threads);
  const Busy busy(pool);
  // The first chunks wake the threads up.
  pool.run(2 * threads, [](Chunk chunk) { read_chunk(area + chunk.index % 2 * CHUNK_BYTES); });
  const auto began = std::chrono::steady_clock::now();
  pool.run(static_cast<int>(bytes / CHUNK_BYTES), [](Chunk chunk) {
    read_chunk(area + chunk.index * CHUNK_BYTES);
  });
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
  return static_cast<double>(bytes) / taken.count();
}

}  // namespace pt
