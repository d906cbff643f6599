// The C interface that library.py loads. Functions return 0, or -1 with the reason in
// pt_last_error(). All pointers are to contiguous memory that lives until the call returns, the
// embedding's until the model is destroyed.
#pragma once

#include <cstdint>

#define PT_EXPORT extern "C" __attribute__((visibility("default")))

// Changes with every struct or function here; library.py refuses another one.
constexpr int PT_ABI = 4;

enum pt_matrix { PT_QKV, PT_OUTPUT, PT_GATE_UP, PT_DOWN, PT_HEAD };

enum pt_vector { PT_INPUT_NORM, PT_POST_NORM, PT_Q_NORM, PT_K_NORM, PT_THOUGHT, PT_NORM };

struct pt_config {
  int32_t vocab, hidden, intermediate, layers, query_heads, kv_heads, head_dim;
  int32_t int8;  // else float32
  float norm_eps;
  const float* embedding;  // [vocab, hidden]
};

struct pt_read {
  int64_t first, tokens, keys, causal;
  int64_t first_block;  // index into pt_batch.blocks
};

struct pt_batch {
  int64_t tokens, rows, reads;
  const int64_t* token_ids;
  const int64_t* positions;
  const int64_t* thought_ids;
  const int64_t* slots;
  const int64_t* row_tokens;
  const pt_read* read;
  const int64_t* blocks;
  int64_t pool_blocks;
  float* keys;         // [layers, pool_blocks, kv_heads, head_dim, 8]
  float* values;       // [layers, pool_blocks, kv_heads, 8, head_dim]
  const float* cosines;  // [positions, head_dim / 2]
  const float* sines;
  float* logits;  // [rows, vocab]
  double products_seconds;  // result: of this forward's matrix products
};

struct pt_sampling_row {
  double temperature, top_p, min_p, uniform;
  int64_t top_k, edits, first_edit;
  // Results.
  int64_t token;
  double logprob;
  int64_t sound;
};

struct pt_sampling {
  int64_t rows, vocab;
  const float* logits;  // [rows, vocab]
  pt_sampling_row* row;
  const int64_t* edit_tokens;
  const float* edit_divide;
  const float* edit_subtract;
};

PT_EXPORT int pt_abi();
// The build for this machine's processor: "avx512", "avx2" or "generic". Ask the generic one.
PT_EXPORT const char* pt_best_build();
PT_EXPORT const char* pt_last_error();
PT_EXPORT void* pt_create(const pt_config* config);
PT_EXPORT void pt_destroy(void* model);
// Packs a matrix, given as rows of outputs; `bias` may be null. Layer is ignored for PT_HEAD.
PT_EXPORT int pt_set_matrix(
    void* model, int layer, int kind, const float* rows, const float* bias);
PT_EXPORT int pt_set_vector(void* model, int layer, int kind, const float* values, int count);
PT_EXPORT int pt_set_threads(void* model, int threads);
PT_EXPORT int pt_forward(void* model, pt_batch* batch);
// On the model's threads; without a model, which it needs for nothing else, on the caller's.
PT_EXPORT int pt_sample(void* model, const pt_sampling* sampling);
// Bytes a second at which so many threads read an area of this size.
PT_EXPORT double pt_read_bandwidth(int64_t bytes, int threads);
