#include "pool.h"

#include <unistd.h>

#include <chrono>

namespace pt {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than the gaps within a forward; a step's work in Python takes longer.
constexpr std::chrono::microseconds SPIN{150};
// A thread that found nothing for so long may stand in the way of the one it waits for.
constexpr int PAUSES_BEFORE_YIELD = 512;
constexpr uint64_t FIELD = (1u << 24) - 1;

int next_of(uint64_t word) { return static_cast<int>(word & FIELD); }

int end_of(uint64_t word) { return static_cast<int>(word >> 24 & FIELD); }

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// One look after another at something another thread will change.
class Spin {
 public:
  void wait() {
    if (count_++ < PAUSES_BEFORE_YIELD)
      pause();
    else
      std::this_thread::yield();
  }

 private:
  int count_ = 0;
};

}  // namespace

Pool::Pool(int threads)
    : threads_(threads < 1 ? 1 : threads), process_(getpid()), shares_(threads_) {
  for (int i = 1; i < threads_; i++) workers_.emplace_back([this, i] { serve(i); });
}

Pool::~Pool() {
  stop_.store(true);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  for (std::thread& worker : workers_) worker.join();
}

bool Pool::alive() const { return process_ == getpid(); }

void Pool::run_shared(int chunks, Call call, const void* work) {
  call_ = call;
  work_ = work;
  done_.store(0, std::memory_order_relaxed);
  phase_++;
  // Sequentially consistent, as is the sleepers' side: either a worker that goes to sleep sees
  // these chunks, or this thread sees the sleeper.
  for (int i = 0; i < threads_; i++) {
    const uint64_t start = share_start(chunks, i, threads_);
    const uint64_t end = share_start(chunks, i + 1, threads_);
    shares_[i].word.store(phase_ << 48 | end << 24 | start);
  }
  if (sleepers_.load() > 0) {
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  while (do_one(0)) {
  }
  Spin spin;
  while (done_.load(std::memory_order_acquire) != chunks) spin.wait();
}

bool Pool::do_one(int thread) {
  for (int i = 0; i < threads_; i++) {
    const int share = thread + i < threads_ ? thread + i : thread + i - threads_;
    std::atomic<uint64_t>& claimed = shares_[share].word;
    uint64_t word = claimed.load();
    while (next_of(word) < end_of(word)) {
      if (!claimed.compare_exchange_weak(word, word + 1, std::memory_order_acq_rel)) continue;
      // The claim keeps the phase, and so these two fields, in place until it counts as done.
      const int index = next_of(word);
      call_(work_, Chunk{index, share, index + 1 == end_of(word)});
      done_.fetch_add(1, std::memory_order_release);
      return true;
    }
  }
  return false;
}

bool Pool::any_left() const {
  for (const Share& share : shares_) {
    const uint64_t word = share.word.load();
    if (next_of(word) < end_of(word)) return true;
  }
  return false;
}

void Pool::serve(int thread) {
  while (!stop_.load(std::memory_order_relaxed)) {
    if (do_one(thread)) continue;
    const Clock::time_point start = Clock::now();
    Spin spin;
    while (!stop_.load(std::memory_order_relaxed) && !do_one(thread)) {
      spin.wait();
      if (!busy_.load(std::memory_order_relaxed) && Clock::now() - start > SPIN) {
        sleep();
        break;
      }
    }
  }
}

void Pool::sleep() {
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  wake_.wait(lock, [this] { return stop_.load() || any_left(); });
  sleepers_.fetch_sub(1);
}

}  // namespace pt
