// Threads that share the chunks of one phase of a forward after another.
//
// Each thread has its own share of a phase's chunks, one behind the other, and helps with the
// others' when it is through. A chunk is claimed by a compare-and-swap on its share, so the
// calling thread waits only for chunks that a worker has begun, never for a worker that the
// operating system has not let run.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace pt {

// A piece of a phase. `share` is whose it was to begin with, `last` whether that share is through.
struct Chunk {
  int index;
  int share;
  bool last;
};

// The first chunk of a share.
inline int share_start(int chunks, int share, int shares) {
  return static_cast<int>(static_cast<int64_t>(chunks) * share / shares);
}

class Pool {
 public:
  // The calling thread is one of the threads.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Whether this process is the one that made the threads: they do not survive a fork.
  bool alive() const;

  // Calls work(Chunk) for every chunk, on any thread, and returns when all are done.
  template <class Work>
  void run(int chunks, const Work& work) {
    if (threads_ == 1 || chunks <= 1) {
      for (int i = 0; i < chunks; i++) work(Chunk{i, 0, i + 1 == chunks});
      return;
    }
    run_shared(
        chunks, [](const void* w, Chunk chunk) { (*static_cast<const Work*>(w))(chunk); }, &work);
  }

  // Between these two, workers look for the next phase instead of going to sleep.
  void begin() { busy_.store(true, std::memory_order_relaxed); }
  void end() { busy_.store(false, std::memory_order_relaxed); }

 private:
  using Call = void (*)(const void*, Chunk);
  // Phase number (16 bits), end of the share (24), its next unclaimed chunk (24).
  struct alignas(64) Share {
    std::atomic<uint64_t> word{0};
  };

  void run_shared(int chunks, Call call, const void* work);
  bool do_one(int thread);
  bool any_left() const;
  void serve(int thread);
  void sleep();

  const int threads_;
  const long process_;
  std::vector<Share> shares_;
  alignas(64) std::atomic<int> done_{0};
  alignas(64) Call call_ = nullptr;
  const void* work_ = nullptr;
  uint64_t phase_ = 0;
  alignas(64) std::atomic<bool> busy_{false};
  std::atomic<bool> stop_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

// Calls begin and end whatever happens.
class Busy {
 public:
  explicit Busy(Pool& pool) : pool_(pool) { pool_.begin(); }
  ~Busy() { pool_.end(); }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  Pool& pool_;
};

}  // namespace pt
