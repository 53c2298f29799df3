// SPDX-License-Identifier: Apache-2.0
// Bugs of dispatch: global id to local id on one EP rank.
#include <algorithm>
#include <vector>

#include "property_tests/mutants/mutants.h"

namespace eplora::suite {
namespace {

/// Each slot's answer through `change(slot, id, answer)`; rows past num_tokens are left alone.
template <class Change>
void change_answers(const DispatchProblem& p, const DispatchOutput& out, Change change) {
  for (std::int64_t t = 0; t < p.num_tokens.resolve(p.topk_ids.rows); ++t)
    for (std::int64_t k = 0; k < p.topk_ids.cols; ++k) {
      const std::int64_t s = t * p.topk_ids.cols + k;
      out.local_ids[s] = static_cast<std::int32_t>(change(s, p.topk_ids.at(t, k), out.local_ids[s]));
    }
}

/// Entry of the table that slot `s` reads for the valid id `e`.
std::int64_t entry_of(const DispatchProblem& p, std::int64_t s, std::int64_t e) {
  if (p.offsets.empty()) return e;
  return p.offsets[e] + (p.slot_offset + s) % (p.offsets[e + 1] - p.offsets[e]);
}

/// The rank's first expert is subtracted by the host and once more by the kernel.
struct DoubleOffset : Mutated<DoubleOffset> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    ReferenceBackend::dispatch(p, out, context);
    if (!p.offsets.empty()) return;
    const auto first = std::find_if(p.table.begin(), p.table.end(), [](std::int32_t id) { return id >= 0; });
    const auto offset = static_cast<std::int32_t>(first - p.table.begin());
    for (std::int64_t s = 0; s < p.topk_ids.size(); ++s)
      if (out.local_ids[s] >= 0) out.local_ids[s] = std::max(out.local_ids[s] - offset, -1);
  }
};

/// Rows past the real ones keep whatever ids the receive buffer held.
struct StalePadding : Mutated<StalePadding> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    DispatchProblem wrong = p;
    wrong.num_tokens = {};
    ReferenceBackend::dispatch(wrong, out, context);
  }
};

/// `table[id]` with id = -1 reads the last entry.
struct ExpertMapWrap : Mutated<ExpertMapWrap> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    ReferenceBackend::dispatch(p, out, context);
    for (std::int64_t t = 0; t < p.num_tokens.resolve(p.topk_ids.rows); ++t)
      for (std::int64_t k = 0; k < p.topk_ids.cols; ++k)
        if (p.topk_ids.at(t, k) == -1 && !p.table.empty())
          out.local_ids[t * p.topk_ids.cols + k] = std::max(p.table.back(), -1);
  }
};

/// What the configured backend wants, not the one that runs: owned experts keep their global id.
struct BackendMixup : Mutated<BackendMixup> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    ReferenceBackend::dispatch(p, out, context);
    change_answers(p, out,
                   [](std::int64_t, std::int64_t id, std::int64_t local) { return local < 0 ? local : id; });
  }
};

/// Global ids go to an operation that takes local ones: only the first experts' pass.
struct GlobalForLocal : Mutated<GlobalForLocal> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    ReferenceBackend::dispatch(p, out, context);
    const std::int64_t owned = std::count_if(p.table.begin(), p.table.end(), [](auto id) { return id >= 0; });
    change_answers(p, out, [&](std::int64_t, std::int64_t id, std::int64_t local) {
      return id < 0 ? local : id < owned ? id : -1;
    });
  }
};

/// The map is applied to ids that went through it before.
struct MappedTwice : Mutated<MappedTwice> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    ReferenceBackend::dispatch(p, out, context);
    if (!p.offsets.empty()) return;
    change_answers(p, out, [&](std::int64_t, std::int64_t, std::int64_t local) {
      return local < 0 || local >= p.num_experts ? local : std::max<std::int64_t>(p.table[local], -1);
    });
  }
};

/// With replicas, the place in the list of all replicas is passed on where a local id is expected.
struct PhysicalIds : Mutated<PhysicalIds> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    ReferenceBackend::dispatch(p, out, context);
    if (p.offsets.empty()) return;
    change_answers(p, out, [&](std::int64_t s, std::int64_t id, std::int64_t local) {
      return local < 0 ? local : entry_of(p, s, id);
    });
  }
};

/// The range of ids runs over the redundant experts too: past the model's last one the table still answers.
struct RedundantTail : Mutated<RedundantTail> {
  void dispatch(const DispatchProblem& p, const DispatchOutput& out,
                const ExecutionContext& context) override {
    ReferenceBackend::dispatch(p, out, context);
    change_answers(p, out, [&](std::int64_t, std::int64_t id, std::int64_t local) {
      const bool redundant = p.num_experts <= id && id < std::ssize(p.table);
      return redundant ? std::max<std::int64_t>(p.table[id], -1) : local;
    });
  }
};

}  // namespace

std::vector<Mutant> dispatch_mutants() {
  return {
      mutant<DoubleOffset>("double-offset", "flashinfer-ai/flashinfer#3547",
                           "dispatch subtracts the rank's first expert twice", {{"E", 2}, {"ranks", 2}}),
      mutant<StalePadding>("a2a-padding", "sgl-project/sglang#24850",
                           "dispatch passes on the stale ids of rows past num_tokens"),
      mutant<ExpertMapWrap>("expert-map-wrap", "vllm-project/vllm#46408",
                            "dispatch reads the table's last entry for id -1"),
      mutant<BackendMixup>("backend-mixup", "sgl-project/sglang#34701",
                           "dispatch leaves global ids where local ones are expected",
                           {{"E", 2}, {"ranks", 2}}),
      mutant<GlobalForLocal>("gaudi-local-ids", "vllm-project/vllm-gaudi#1796",
                             "dispatch takes global ids for local ones and drops the rest",
                             {{"E", 2}, {"ranks", 2}}),
      mutant<MappedTwice>("eplb-shared-index", "sgl-project/sglang#25285",
                          "dispatch maps ids that were mapped before", {{"E", 2}, {"ranks", 2}}),
      mutant<PhysicalIds>("replay-physical", "vllm-project/vllm#33013",
                          "dispatch answers with the place among all replicas",
                          {{"T", 2}, {"K", 2}, {"E", 2}, {"slot_offset", 1}}),
      mutant<RedundantTail>("redundant-map-tail", "vllm-project/vllm-ascend#4793",
                            "dispatch reads the table for ids past the model's experts, up to the replicas'"),
  };
}

}  // namespace eplora::suite
