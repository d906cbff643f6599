#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "sampler.h"
#include "vec.h"

namespace pt {
namespace {

constexpr int TOKENS_A_CHUNK = 4;

Format format_of(const pt_config& c) { return c.int8 ? Format::int8 : Format::float32; }

size_t weight_bytes(const pt_config& c) {
  const Format format = format_of(c);
  const int query = c.query_heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  const size_t layer = Linear::shape(format, query + 2 * kv, c.hidden).bytes() +
                       Linear::shape(format, c.hidden, query).bytes() +
                       Linear::shape(format, 2 * c.intermediate, c.hidden).bytes() +
                       Linear::shape(format, c.hidden, c.intermediate).bytes();
  return layer * c.layers + Linear::shape(format, c.vocab, c.hidden).bytes();
}

// RMSNorm of `count` values, divided in the order in which the decoder does it.
void rms_norm(const float* from, const float* weight, int count, float eps, float* to) {
  // Four sums at a time, because an addition takes as long as four can be begun.
  vf squares[4] = {};
  int i = 0;
  for (; i + 4 * LANES <= count; i += 4 * LANES)
    for (int j = 0; j < 4; j++)
      squares[j] += load(from + i + j * LANES) * load(from + i + j * LANES);
  float total = sum((squares[0] + squares[1]) + (squares[2] + squares[3]));
  for (; i < count; i++) total += from[i] * from[i];
  const float factor = 1.0f / std::sqrt(total / count + eps);
  for (i = 0; i + LANES <= count; i += LANES)
    store(to + i, load(from + i) * factor * load(weight + i));
  for (; i < count; i++) to[i] = from[i] * factor * weight[i];
}

// Rotates the pairs (i, i + dim / 2) of a head.
void rotate(float* head, const float* cosine, const float* sine, int dim) {
  const int half = dim / 2;
  float* other = head + half;
  int i = 0;
  for (; i + LANES <= half; i += LANES) {
    const vf first = load(head + i), second = load(other + i);
    store(head + i, first * load(cosine + i) - second * load(sine + i));
    store(other + i, second * load(cosine + i) + first * load(sine + i));
  }
  for (; i < half; i++) {
    const float first = head[i], second = other[i];
    head[i] = first * cosine[i] - second * sine[i];
    other[i] = second * cosine[i] + first * sine[i];
  }
}

void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

}  // namespace

Model::Model(const pt_config& config)
    : config_(config),
      heads_width_(config.query_heads * config.head_dim),
      qkv_width_((config.query_heads + 2 * config.kv_heads) * config.head_dim),
      arena_(weight_bytes(config)),
      layers_(config.layers) {
  const auto place = [&](Linear& l, int n, int k) {
    l = Linear::shape(format_of(config_), n, k);
    l.weights = static_cast<char*>(arena_.take(l.bytes()));
  };
  for (Layer& w : layers_) {
    place(w.qkv, qkv_width_, config_.hidden);
    place(w.output, config_.hidden, heads_width_);
    place(w.gate_up, 2 * config_.intermediate, config_.hidden);
    place(w.down, config_.hidden, config_.intermediate);
  }
  place(head_, config_.vocab, config_.hidden);
}

void Model::set_matrix(int layer, int kind, const float* rows, const float* bias) {
  std::lock_guard<std::mutex> lock(mutex_);
  require(kind == PT_HEAD || (layer >= 0 && layer < config_.layers), "no such layer");
  Layer* w = kind == PT_HEAD ? nullptr : &layers_[layer];
  Linear* l = kind == PT_HEAD      ? &head_
              : kind == PT_QKV     ? &w->qkv
              : kind == PT_OUTPUT  ? &w->output
              : kind == PT_GATE_UP ? &w->gate_up
              : kind == PT_DOWN    ? &w->down
                                   : nullptr;
  require(l != nullptr, "no such matrix");
  std::vector<int> source(l->panels * PANEL, -1);
  for (int i = 0; i < l->panels * PANEL; i++) {
    if (kind == PT_GATE_UP) {
      constexpr int HALF = PANEL / 2;
      const int output = i / PANEL * HALF + i % HALF;
      if (output < config_.intermediate)
        source[i] = i % PANEL < HALF ? output : config_.intermediate + output;
    } else if (i < l->n) {
      source[i] = i;
    }
  }
  pack_weights(*l, rows, source.data());
  if (bias == nullptr) return;
  require(w != nullptr, "the head has no bias");
  std::vector<float>& packed = kind == PT_QKV      ? w->qkv_bias
                               : kind == PT_OUTPUT ? w->output_bias
                               : kind == PT_DOWN   ? w->down_bias
                                                   : w->gate_up_bias;
  packed.resize(source.size());
  for (size_t i = 0; i < source.size(); i++) packed[i] = source[i] < 0 ? 0.0f : bias[source[i]];
  l->bias = packed.data();
}

void Model::set_vector(int layer, int kind, const float* values, int count) {
  std::lock_guard<std::mutex> lock(mutex_);
  require(kind == PT_NORM || (layer >= 0 && layer < config_.layers), "no such layer");
  Layer* w = kind == PT_NORM ? nullptr : &layers_[layer];
  std::vector<float>* to = kind == PT_NORM         ? &norm_
                           : kind == PT_INPUT_NORM ? &w->input_norm
                           : kind == PT_POST_NORM  ? &w->post_norm
                           : kind == PT_Q_NORM     ? &w->q_norm
                           : kind == PT_K_NORM     ? &w->k_norm
                           : kind == PT_THOUGHT    ? &w->thought
                                                   : nullptr;
  require(to != nullptr, "no such vector");
  to->assign(values, values + count);
}

void Model::set_threads(int threads) {
  std::lock_guard<std::mutex> lock(mutex_);
  threads_ = threads;
  if (pool_ != nullptr && !pool_->alive()) pool_.release();
  pool_.reset();
}

Pool& Model::pool() {
  // After a fork the threads are gone, and only their owner's memory is left: it is given up.
  if (pool_ != nullptr && !pool_->alive()) pool_.release();
  if (pool_ == nullptr) pool_ = std::make_unique<Pool>(threads_);
  return *pool_;
}

double Model::forward(const pt_batch& batch) {
  std::lock_guard<std::mutex> lock(mutex_);
  check(batch);
  if (batch.tokens == 0) return 0;
  Busy busy(pool());
  products_ = {};
  start(batch);
  for (int layer = 0; layer < config_.layers; layer++) {
    make_heads(batch, layer);
    // Behind the last layer's keys only the logits are left.
    if (layer + 1 < config_.layers || batch.rows > 0) attend_and_mlp(batch, layer);
  }
  if (batch.rows > 0) write_logits(batch);
  return std::chrono::duration<double>(products_).count();
}

void Model::check(const pt_batch& batch) const {
  const int64_t slots = batch.pool_blocks * BLOCK_TOKENS;
  const int64_t thoughts = static_cast<int64_t>(layers_[0].thought.size()) / config_.head_dim;
  for (int64_t t = 0; t < batch.tokens; t++) {
    require(batch.token_ids[t] >= 0 && batch.token_ids[t] < config_.vocab, "no such token id");
    require(batch.slots[t] >= 0 && batch.slots[t] < slots, "no such slot");
    require(
        thoughts == 0 || (batch.thought_ids[t] >= 0 && batch.thought_ids[t] < thoughts),
        "no such thought id");
  }
  for (int64_t r = 0; r < batch.reads; r++) {
    const pt_read& read = batch.read[r];
    require(
        read.first >= 0 && read.tokens >= 0 && read.first + read.tokens <= batch.tokens,
        "a read of tokens that are not there");
    for (int64_t b = 0; b < (read.keys + BLOCK_TOKENS - 1) / BLOCK_TOKENS; b++) {
      const int64_t block = batch.blocks[read.first_block + b];
      require(block >= 0 && block < batch.pool_blocks, "a read of a block that is not there");
    }
  }
  for (int64_t r = 0; r < batch.rows; r++)
    require(
        batch.row_tokens[r] >= 0 && batch.row_tokens[r] < batch.tokens,
        "logits of a token that is not there");
}

void Model::start(const pt_batch& batch) {
  const int tokens = static_cast<int>(batch.tokens), E = config_.hidden;
  x_.reserve(static_cast<size_t>(tokens) * E);
  normed_.reserve(static_cast<size_t>(tokens) * E);
  qkv_.reserve(static_cast<size_t>(tokens) * qkv_width_);
  attended_.reserve(static_cast<size_t>(tokens) * heads_width_);
  hidden_.reserve(static_cast<size_t>(tokens) * config_.intermediate);
  for (int t = 0; t < tokens; t++)
    std::memcpy(
        x_.get() + static_cast<size_t>(t) * E,
        config_.embedding + static_cast<size_t>(batch.token_ids[t]) * E, E * sizeof(float));
  std::vector<Read> reads;
  for (int64_t r = 0; r < batch.reads; r++) {
    const pt_read& read = batch.read[r];
    if (read.tokens > 0 && read.keys > 0)
      reads.push_back(
          {static_cast<int>(read.first), static_cast<int>(read.tokens),
           batch.blocks + read.first_block, static_cast<int>(read.keys), read.causal != 0});
  }
  attention_.plan(
      reads, tokens, {config_.query_heads, config_.kv_heads, config_.head_dim}, threads_);
}

void Model::make_heads(const pt_batch& batch, int layer) {
  const Layer& w = layers_[layer];
  const int tokens = static_cast<int>(batch.tokens);
  pack_normed(tokens, x_.get(), w.input_norm);
  multiply(w.qkv, Epilogue::store, qkv_.get(), qkv_width_, &w.output);
  const size_t layer_size =
      static_cast<size_t>(batch.pool_blocks) * config_.kv_heads * config_.head_dim * BLOCK_TOKENS;
  float* keys = batch.keys + layer * layer_size;
  float* values = batch.values + layer * layer_size;
  pool_->run(ceil_div(tokens, TOKENS_A_CHUNK), [&](Chunk chunk) {
    const int first = chunk.index * TOKENS_A_CHUNK;
    for (int t = first; t < std::min(first + TOKENS_A_CHUNK, tokens); t++)
      make_heads_of(batch, w, t, keys, values);
  });
}

void Model::make_heads_of(
    const pt_batch& batch, const Layer& w, int token, float* keys, float* values) {
  const int H = config_.query_heads, K = config_.kv_heads, D = config_.head_dim;
  const float eps = config_.norm_eps;
  float* q = qkv_.get() + static_cast<size_t>(token) * qkv_width_;
  float* k = q + H * D;
  float* v = k + K * D;
  if (!w.q_norm.empty())
    for (int h = 0; h < H; h++) rms_norm(q + h * D, w.q_norm.data(), D, eps, q + h * D);
  if (!w.k_norm.empty())
    for (int h = 0; h < K; h++) rms_norm(k + h * D, w.k_norm.data(), D, eps, k + h * D);
  if (!w.thought.empty()) {
    const float* thought = w.thought.data() + batch.thought_ids[token] * D;
    for (int h = 0; h < K; h++)
      for (int d = 0; d < D; d++) {
        k[h * D + d] += thought[d];
        v[h * D + d] += thought[d];
      }
  }
  const size_t angle = static_cast<size_t>(batch.positions[token]) * (D / 2);
  for (int h = 0; h < H + K; h++)
    rotate(q + h * D, batch.cosines + angle, batch.sines + angle, D);
  const size_t block = batch.slots[token] / BLOCK_TOKENS;
  const int place = static_cast<int>(batch.slots[token] % BLOCK_TOKENS);
  for (int h = 0; h < K; h++) {
    const size_t at = (block * K + h) * D * BLOCK_TOKENS;
    float* key = keys + at + place;
    for (int d = 0; d < D; d++) key[d * BLOCK_TOKENS] = k[h * D + d];
    std::memcpy(values + at + place * D, v + h * D, D * sizeof(float));
  }
}

void Model::attend_and_mlp(const pt_batch& batch, int layer) {
  const Layer& w = layers_[layer];
  const Linear& following = layer + 1 < config_.layers ? layers_[layer + 1].qkv : head_;
  const int tokens = static_cast<int>(batch.tokens);
  const size_t layer_size =
      static_cast<size_t>(batch.pool_blocks) * config_.kv_heads * config_.head_dim * BLOCK_TOKENS;
  attention_.run(
      *pool_, batch.keys + layer * layer_size, batch.values + layer * layer_size, qkv_.get(),
      qkv_width_, attended_.get());
  pack(tokens, attended_.get(), heads_width_);
  multiply(w.output, Epilogue::residual, x_.get(), config_.hidden, &w.gate_up);
  pack_normed(tokens, x_.get(), w.post_norm);
  multiply(w.gate_up, Epilogue::silu, hidden_.get(), config_.intermediate, &w.down);
  pack(tokens, hidden_.get(), config_.intermediate);
  multiply(w.down, Epilogue::residual, x_.get(), config_.hidden, &following);
}

void Model::write_logits(const pt_batch& batch) {
  const int rows = static_cast<int>(batch.rows), E = config_.hidden;
  chosen_.reserve(static_cast<size_t>(rows) * E);
  normed_.reserve(static_cast<size_t>(rows) * E);
  for (int r = 0; r < rows; r++)
    std::memcpy(
        chosen_.get() + static_cast<size_t>(r) * E,
        x_.get() + static_cast<size_t>(batch.row_tokens[r]) * E, E * sizeof(float));
  pack_normed(rows, chosen_.get(), norm_);
  multiply(head_, Epilogue::store, batch.logits, config_.vocab, nullptr);
}

void Model::pack_normed(int rows, const float* from, const std::vector<float>& weight) {
  const int E = config_.hidden;
  packed_.prepare(format_of(config_), rows, E);
  pool_->run(packed_.blocks(), [&](Chunk chunk) {
    const int block = chunk.index, first = block * packed_.block();
    for (int row = first; row < std::min(first + packed_.block(), rows); row++) {
      const size_t at = static_cast<size_t>(row) * E;
      rms_norm(from + at, weight.data(), E, config_.norm_eps, normed_.get() + at);
    }
    packed_.pack(block, normed_.get() + static_cast<size_t>(first) * E, E);
  });
}

void Model::pack(int rows, const float* from, int k) {
  packed_.prepare(format_of(config_), rows, k);
  pool_->run(packed_.blocks(), [&](Chunk chunk) {
    const int block = chunk.index;
    packed_.pack(block, from + static_cast<size_t>(block) * packed_.block() * k, k);
  });
}

void Model::multiply(
    const Linear& by, Epilogue epilogue, float* out, int stride, const Linear* following) {
  const auto began = std::chrono::steady_clock::now();
  run_linear(*pool_, by, packed_, epilogue, out, stride, following);
  products_ += std::chrono::steady_clock::now() - began;
}

void Model::sample(const pt_sampling& sampling) {
  std::lock_guard<std::mutex> lock(mutex_);
  check_edits(sampling);
  pool().run(static_cast<int>(sampling.rows), [&](Chunk chunk) {
    sample_row(sampling, chunk.index);
  });
}

}  // namespace pt
