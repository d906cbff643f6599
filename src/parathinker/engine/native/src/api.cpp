// The C interface: errors stop here.
#include "api.h"

#include <exception>
#include <string>

#include "model.h"
#include "probe.h"
#include "sampler.h"

namespace {

thread_local std::string last_error;

template <class Work>
int guarded(const Work& work) {
  try {
    work();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown error";
  }
  return -1;
}

pt::Model& model_of(void* model) { return *static_cast<pt::Model*>(model); }

}  // namespace

int pt_abi() { return PT_ABI; }

const char* pt_best_build() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni"))
    return "avx512";
  if (avx2) return "avx2";
#endif
  return "generic";
}

const char* pt_last_error() { return last_error.c_str(); }

void* pt_create(const pt_config* config) {
  void* model = nullptr;
  guarded([&] { model = new pt::Model(*config); });
  return model;
}

void pt_destroy(void* model) { delete static_cast<pt::Model*>(model); }

int pt_set_matrix(void* model, int layer, int kind, const float* rows, const float* bias) {
  return guarded([&] { model_of(model).set_matrix(layer, kind, rows, bias); });
}

int pt_set_vector(void* model, int layer, int kind, const float* values, int count) {
  return guarded([&] { model_of(model).set_vector(layer, kind, values, count); });
}

int pt_set_threads(void* model, int threads) {
  return guarded([&] { model_of(model).set_threads(threads); });
}

int pt_forward(void* model, pt_batch* batch) {
  return guarded([&] { batch->products_seconds = model_of(model).forward(*batch); });
}

int pt_sample(void* model, const pt_sampling* sampling) {
  return guarded([&] {
    if (model != nullptr) return model_of(model).sample(*sampling);
    pt::check_edits(*sampling);
    for (int row = 0; row < sampling->rows; row++) pt::sample_row(*sampling, row);
  });
}

double pt_read_bandwidth(int64_t bytes, int threads) {
  double found = 0;
  guarded([&] { found = pt::read_bandwidth(static_cast<size_t>(bytes), threads); });
  return found;
}
