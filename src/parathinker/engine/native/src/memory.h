// Aligned memory: buffers that only grow, and one large area on huge pages for packed weights.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#endif

namespace pt {

// Memory for working values; what it held is lost when it grows.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* reserve(size_t count) {
    if (count > size_) {
      std::free(data_);
      size_ = 0;
      const size_t bytes = (count * sizeof(T) + 4095) / 4096 * 4096;
      data_ = static_cast<T*>(std::aligned_alloc(4096, bytes));
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = count;
    }
    return data_;
  }
  T* get() const { return data_; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

// Zeroed memory handed out piece by piece, in the order in which a forward reads it.
class Arena {
 public:
  explicit Arena(size_t bytes) : bytes_(bytes + HUGE) {
    void* area = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (area == MAP_FAILED) throw std::bad_alloc();
    area_ = static_cast<char*>(area);
    used_ = (HUGE - reinterpret_cast<size_t>(area_) % HUGE) % HUGE;
#if defined(MADV_HUGEPAGE)
    madvise(area_ + used_, bytes, MADV_HUGEPAGE);
#endif
  }
  ~Arena() { munmap(area_, bytes_); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* take(size_t bytes) {
    if (used_ + bytes > bytes_) throw std::bad_alloc();
    void* piece = area_ + used_;
    used_ += (bytes + 63) / 64 * 64;
    return piece;
  }

 private:
  static constexpr size_t HUGE = size_t{2} << 20;
  char* area_;
  size_t bytes_;
  size_t used_;
};

}  // namespace pt
