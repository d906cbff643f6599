// A decoder: packed weights and one forward over a batch of tokens. See modeling/decoder.py, which
// computes the same.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "api.h"
#include "attention.h"
#include "linear.h"
#include "memory.h"
#include "pool.h"

namespace pt {

class Model {
 public:
  explicit Model(const pt_config& config);

  void set_matrix(int layer, int kind, const float* rows, const float* bias);
  void set_vector(int layer, int kind, const float* values, int count);
  void set_threads(int threads);
  // Returns the seconds that its matrix products took.
  double forward(const pt_batch& batch);
  void sample(const pt_sampling& sampling);

 private:
  struct Layer {
    Linear qkv, output, gate_up, down;
    std::vector<float> input_norm, post_norm, q_norm, k_norm, thought;
    std::vector<float> qkv_bias, output_bias, gate_up_bias, down_bias;
  };

  Pool& pool();
  void check(const pt_batch& batch) const;
  void start(const pt_batch& batch);
  // A layer up to where its keys and values are in the pool, and the rest of it.
  void make_heads(const pt_batch& batch, int layer);
  void attend_and_mlp(const pt_batch& batch, int layer);
  void make_heads_of(const pt_batch& batch, const Layer& w, int token, float* keys, float* values);
  void write_logits(const pt_batch& batch);
  void pack_normed(int rows, const float* from, const std::vector<float>& weight);
  void pack(int rows, const float* from, int k);
  // A matrix product of what is packed, on the clock.
  void multiply(
      const Linear& by, Epilogue epilogue, float* out, int stride, const Linear* following);

  const pt_config config_;
  const int heads_width_, qkv_width_;
  Arena arena_;
  std::vector<Layer> layers_;
  Linear head_;
  std::vector<float> norm_;
  int threads_ = 1;
  std::unique_ptr<Pool> pool_;
  std::mutex mutex_;
  std::chrono::steady_clock::duration products_{};  // of the forward under way

  Attention attention_;
  Activations packed_;
  Buffer<float> x_, normed_, qkv_, attended_, hidden_, chosen_;
};

}  // namespace pt
