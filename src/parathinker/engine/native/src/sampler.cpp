#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "vec.h"

namespace pt {
namespace {

constexpr int DOUBLES = LANES / 2;
typedef double vd __attribute__((vector_size(LANES * 4)));
typedef int64_t vl __attribute__((vector_size(LANES * 4)));
typedef float vh __attribute__((vector_size(LANES * 2)));

vl bits(vd v) {
  vl i;
  std::memcpy(&i, &v, sizeof i);
  return i;
}

// e to the x for x up to 0, to a few units in the last place; 0 below -700.
vd exp_double(vd x) {
  const vd low = vd{} - 700.0;
  const vd shift = vd{} + 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
  const vd clamped = x < low ? low : x;
  const vd rounded = clamped * 1.4426950408889634 + shift;
  const vd n = rounded - shift;
  // ln 2 in two parts: n times the first is exact.
  const vd f = (clamped - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  // Taylor's series: |f| is at most 0.35, and so the first term left out below 1e-17.
  vd p = vd{} + 1.0 / 6227020800.0;
  for (const double inverse :
       {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
        1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0})
    p = p * f + inverse;
  const vl scaled = bits(p) + ((bits(rounded) - bits(shift)) << 52);
  vd result;
  std::memcpy(&result, &scaled, sizeof result);
  return x < low ? vd{} : result;
}

float largest(const float* logits, int count) {
  vf top = splat(-INFINITY);
  int i = 0;
  for (; i + LANES <= count; i += LANES) {
    const vf x = load(logits + i);
    top = top < x ? x : top;
  }
  float result = max(top);
  for (; i < count; i++) result = result < logits[i] ? logits[i] : result;
  return result;
}

double log_sum_exp(const float* logits, int count) {
  constexpr int BLOCK = 64 * LANES;  // summed in float32; blocks add up in float64
  const float top = largest(logits, count);
  double total = 0.0;
  for (int first = 0; first < count; first += BLOCK) {
    const int last = std::min(first + BLOCK, count);
    vf sums = {};
    int i = first;
    for (; i + LANES <= last; i += LANES) sums += exp(load(logits + i) - top);
    total += sum(sums);
    for (; i < last; i++) total += std::exp(logits[i] - top);
  }
  return top + std::log(total);
}

// Probabilities of one row, the largest being 1; those cut off are 0.
class Distribution {
 public:
  void fill(const float* logits, int count, double temperature, double min_p) {
    count_ = count;
    probs_.resize(round_up(count, DOUBLES));
    const float top = largest(logits, count);
    const double inverse = std::min(1.0 / temperature, 1e300);
    const auto fill_from = [&](const float* from, double* to) {
      vh x;
      std::memcpy(&x, from, sizeof x);
      vd p = exp_double(__builtin_convertvector(x - top, vd) * inverse);
      p = p < min_p ? vd{} : p;
      std::memcpy(to, &p, sizeof p);
    };
    int i = 0;
    for (; i + DOUBLES <= count; i += DOUBLES) fill_from(logits + i, &probs_[i]);
    if (i == count) return;
    float rest[DOUBLES];
    std::fill(rest, rest + DOUBLES, -INFINITY);
    std::copy(logits + i, logits + count, rest);
    fill_from(rest, &probs_[i]);
  }

  // Keeps the k likeliest; equal ones rank by token id.
  void keep_top_k(int64_t k) {
    make_buckets();
    int64_t seen = 0;
    int bucket = LAST;
    while (bucket > 0 && seen + counts_[bucket] < k) seen += counts_[bucket--];
    cut(bucket, [&](double) { return seen++ < k; });
  }

  // Keeps the likeliest until their mass reaches top_p of all, the one that reaches it included.
  void keep_top_p(double top_p) {
    make_buckets();
    double total = 0.0;
    for (int b = LAST; b > 0; b--) total += masses_[b];
    double before = 0.0;
    int bucket = LAST;
    while (bucket > 0 && (before + masses_[bucket]) / total < top_p) before += masses_[bucket--];
    cut(bucket, [&](double p) {
      const bool kept = before / total < top_p;
      before += p;
      return kept;
    });
  }

  // The first token whose cumulative mass exceeds `uniform` of all.
  int draw(double uniform) const {
    constexpr int BLOCK = 256;
    double total = 0.0;
    block_ends_.clear();
    for (int first = 0; first < count_; first += BLOCK) {
      const int last = std::min(first + BLOCK, static_cast<int>(probs_.size()));
      vd sums = {};
      for (int i = first; i < last; i += DOUBLES) {
        vd p;
        std::memcpy(&p, &probs_[i], sizeof p);
        sums += p;
      }
      for (int lane = 0; lane < DOUBLES; lane++) total += sums[lane];
      block_ends_.push_back(total);
    }
    const double target = uniform * total;
    size_t block = 0;
    while (block + 1 < block_ends_.size() && !(block_ends_[block] > target)) block++;
    double reached = block == 0 ? 0.0 : block_ends_[block - 1];
    int chosen = 0;
    for (int i = static_cast<int>(block) * BLOCK; i < count_; i++) {
      if (probs_[i] == 0.0) continue;
      chosen = i;
      reached += probs_[i];
      if (reached > target) break;
    }
    return chosen;
  }

 private:
  // Buckets by exponent and the highest bits of the mantissa: all of one bucket are larger than
  // all of the next one below, so that only one bucket has to be sorted. Zeros are in the lowest.
  static constexpr int SHIFT = 48;
  static constexpr int LAST = 0x3FF0;  // that of 1.0

  static int bucket_of(double p) {
    int64_t i;
    std::memcpy(&i, &p, sizeof i);
    return static_cast<int>(std::min<int64_t>(std::max<int64_t>(i >> SHIFT, 0), LAST));
  }

  void make_buckets() {
    counts_.assign(LAST + 1, 0);
    masses_.assign(LAST + 1, 0.0);
    for (int i = 0; i < count_; i++) {
      if (probs_[i] == 0.0) continue;
      const int bucket = bucket_of(probs_[i]);
      counts_[bucket]++;
      masses_[bucket] += probs_[i];
    }
  }

  // Zeros all below a bucket, and of the bucket, likeliest first, what `keep` says no to.
  template <class Keep>
  void cut(int bucket, Keep keep) {
    members_.clear();
    for (int i = 0; i < count_; i++) {
      const int b = bucket_of(probs_[i]);
      if (b < bucket) probs_[i] = 0.0;
      if (b == bucket && probs_[i] != 0.0) members_.push_back(i);
    }
    std::stable_sort(
        members_.begin(), members_.end(), [&](int a, int b) { return probs_[a] > probs_[b]; });
    for (const int i : members_)
      if (!keep(probs_[i])) probs_[i] = 0.0;
  }

  int count_ = 0;
  std::vector<double> probs_, masses_;
  std::vector<int> counts_, members_;
  mutable std::vector<double> block_ends_;
};

}  // namespace

void check_edits(const pt_sampling& sampling) {
  for (int64_t r = 0; r < sampling.rows; r++)
    for (int64_t i = 0; i < sampling.row[r].edits; i++) {
      const int64_t token = sampling.edit_tokens[sampling.row[r].first_edit + i];
      if (token < 0 || token >= sampling.vocab)
        throw std::invalid_argument("an edit of a token that is not there");
    }
}

void sample_row(const pt_sampling& sampling, int row) {
  // Kept from one step to the next.
  thread_local std::vector<float> edited;
  thread_local Distribution distribution;
  const int vocab = static_cast<int>(sampling.vocab);
  const float* raw = sampling.logits + static_cast<size_t>(row) * vocab;
  pt_sampling_row& r = sampling.row[row];
  const float* logits = raw;
  if (r.edits > 0) {
    edited.assign(raw, raw + vocab);
    for (int64_t i = r.first_edit; i < r.first_edit + r.edits; i++) {
      float& x = edited[sampling.edit_tokens[i]];
      x = x > 0.0f ? x / sampling.edit_divide[i] : x * sampling.edit_divide[i];
      x -= sampling.edit_subtract[i];
    }
    logits = edited.data();
  }
  const double lse = log_sum_exp(raw, vocab);
  if (r.temperature > 0.0 && std::isfinite(lse)) {
    distribution.fill(logits, vocab, r.temperature, r.min_p);
    if (r.top_k > 0 && r.top_k < vocab) distribution.keep_top_k(r.top_k);
    if (r.top_p < 1.0) distribution.keep_top_p(r.top_p);
    r.token = distribution.draw(r.uniform);
  } else {
    const float top = largest(logits, vocab);
    r.token = std::find(logits, logits + vocab, top) - logits;
    if (r.token == vocab) r.token = 0;
  }
  r.logprob = raw[r.token] - lse;
  r.sound = std::isfinite(lse);
}

}  // namespace pt
