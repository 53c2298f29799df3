// SPDX-License-Identifier: Apache-2.0
#include "cli/layout_proof_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "cli/layout_golden_rows.h"
#include "cli/layout_text.h"
#include "optimized/guarded_run.h"
#include "reference/check.h"

namespace eplora {
namespace {

using suite::DeployedSizes;
using suite::LayoutTrial;
using suite::Proof;
using State = ProofRow::State;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Sizes of the judges: the model's where it is given, and a batch of 4096 tokens.
DeployedSizes structural_sizes(const LayerClass& c, const std::optional<ModelConfig>& model) {
  DeployedSizes sizes;
  sizes.tokens = 4096;
  sizes.hidden = model ? model->hidden : 1024;
  sizes.intermediate = model ? model->moe_intermediate : 1024;
  sizes.shared_intermediate =
      c.spec.shared_experts.intermediate != 0 ? c.spec.shared_experts.intermediate : sizes.intermediate;
  sizes.max_lora_rank = 64;
  sizes.top_k = model ? std::max(model->top_k, 1) : 8;
  sizes.num_layers =
      model && !model->moe_layers.empty() ? static_cast<std::int64_t>(model->moe_layers.size()) : 8;
  const std::int64_t wanted = sizes.intermediate, layers = sizes.num_layers;
  sizes = suite::fitting_sizes(c, sizes);
  if (!model) return sizes;
  sizes.intermediate = wanted;  // a model's sizes are not rounded: what does not divide is refused by name
  sizes.num_layers = layers;
  return sizes;
}

std::string sizes_words(const DeployedSizes& s) {
  return fmt::format("T={}, H={}, I={}, R={}", s.tokens, s.hidden, s.intermediate, s.max_lora_rank);
}

/// The i-th batch: sizes that differ in what breaks things - no tokens, one token, many, no adapters.
DeployedSizes batch_sizes(const LayerClass& c, int i) {
  constexpr std::int64_t kTokens[] = {7, 1, 13, 0, 2, 32, 5}, kTopK[] = {2, 1, 3, 4};
  DeployedSizes sizes = suite::proof_sizes(c);
  sizes.tokens = kTokens[i % std::size(kTokens)];
  sizes.top_k = kTopK[i % std::size(kTopK)];
  sizes.max_loras = (i + 2) % 5;
  sizes.max_lora_rank = 1 + i % 4;
  sizes.hidden = 3 + i % 6;
  sizes.layer = i % sizes.num_layers;
  sizes.shared_outer = i % 3 == 2;
  return suite::fitting_sizes(c, sizes);
}

class Prover {
 public:
  Prover(const ProofRun& run, const Backends& backends, Progress& progress)
      : run_(run),
        backends_(backends),
        progress_(progress),
        spoil_(run.sum_over ? sums_over(*run.sum_over) : suite::Spoil{}),
        full_(make_deployment(run.spec)),
        few_spec_(suite::shrunk_deployment(run.spec, run.most_ranks)),
        few_(make_deployment(few_spec_)) {
    if (!run.sum_over) return;
    for (const LayerClass& c : full_.classes)
      for (const std::string& axis : *run.sum_over) c.layout.mesh.size_of(axis);
  }

  std::vector<ProofRow> all() {
    for (std::size_t i = 0; i < full_.classes.size(); ++i) {
      structural(full_.classes[i], i == 0);
      numbers(few_.classes[i]);
      for (ProofRow& row :
           golden_rows({few_spec_, few_.classes[i], backends_, spoil_, ranks_words()}, progress_))
        rows_.push_back(std::move(row));
    }
    return std::move(rows_);
  }

 private:
  ProofRow row_of(Proof proof, const LayerClass& c) const {
    ProofRow row;
    row.id = to_string(proof);
    row.words = words_of(proof);
    row.contract = contract_of(proof);
    row.layer_class = c.spec.name;
    return row;
  }

  /// A broken row with its smallest case, by the steps of `backend` (none: the reference's).
  void broken(ProofRow& row, Proof proof, const LayoutTrial& trial, const contract::Violation& violation,
              Backend* backend = nullptr) {
    row.state = State::broken;
    row.sentence = violation.sentence;
    progress_.say(fmt::format("{}: making the case smaller", row.id));
    const bool own = backend == nullptr || backend->name() == "reference";
    const suite::SmallestTrial small =
        suite::smallest(proof, trial, spoil_, own ? reference::LayerSteps{} : steps_of(*backend));
    row.smallest = LayoutCase{small.trial, proof, "", run_.sum_over, own ? "" : std::string(backend->name())};
    row.smallest_sentence = small.violation.sentence;
  }

  /// A trial for shrinking: the full size is cut to few ranks first where that is broken too.
  LayoutTrial start_of(Proof proof, const LayoutTrial& full) const {
    LayoutTrial few{few_spec_, full.layer_class, {}, run_.seed};
    const LayerClass& c = few_.class_named(full.layer_class);
    few.sizes = suite::proof_sizes(c);
    return suite::prove(proof, suite::resolve(few, spoil_)) ? few : full;
  }

  void structural(const LayerClass& c, bool first) {
    const LayoutTrial trial{run_.spec, c.spec.name, structural_sizes(c, run_.model), run_.seed};
    const suite::ResolvedTrial resolved = suite::resolve(trial, spoil_);
    for (const Proof proof : suite::kProofs) {
      if (!suite::is_structural(proof) || (proof == Proof::groups && !first)) continue;
      progress_.say(fmt::format("{}: {}", c.spec.name, words_of(proof)));
      const auto start = std::chrono::steady_clock::now();
      ProofRow row = row_of(proof, c);
      if (proof == Proof::groups) row.layer_class = "";
      const contract::Verdict bad = suite::prove(proof, resolved);
      row.tried = full_.num_ranks == 1 ? "1 rank" : fmt::format("all {} ranks", full_.num_ranks);
      if (proof == Proof::slices || proof == Proof::reductions) row.tried += ", " + sizes_words(trial.sizes);
      if (proof == Proof::owners) row.tried += fmt::format(", E={}", resolved.plan.num_ids());
      if (proof == Proof::replicas)
        row.tried = fmt::format("{} ids x 64 tokens x {} slots", resolved.plan.num_ids(), trial.sizes.top_k);
      if (bad) broken(row, proof, start_of(proof, trial), *bad);
      row.seconds = seconds_since(start);
      rows_.push_back(std::move(row));
    }
  }

  std::string ranks_words() const {
    std::string ranks = describe_count(few_.num_ranks, "rank");
    if (few_.num_ranks == full_.num_ranks) return ranks;
    return fmt::format("{}, shrunk from {}", ranks, full_.num_ranks);
  }

  void numbers(const LayerClass& c) {
    bool layout_is_wrong = false;
    for (const auto& backend : backends_) {
      const bool is_reference = backend->name() == "reference";
      ProofRow row = row_of(Proof::whole, c);
      if (!is_reference) {
        row.id += fmt::format(" ({})", backend->name());
        row.words += fmt::format(", routed and sliced by {}", backend->name());
      }
      if (!routes_and_slices(*backend)) {
        row.state = State::skipped;
        row.tried = fmt::format("{} has no route or no slice", backend->name());
        rows_.push_back(std::move(row));
        continue;
      }
      const auto start = std::chrono::steady_clock::now();
      const reference::LayerSteps steps = steps_of(*backend);
      row.tried = fmt::format("{} random batches on {}, E={}, in double, bound {:.0e}", run_.batches,
                              ranks_words(), c.spec.placement.num_experts, suite::kWholeBound);
      for (int i = 0; i < run_.batches && row.state == State::holds; ++i) {
        progress_.say(fmt::format("{}: {} batch {} of {}", c.spec.name, row.id, i + 1, run_.batches));
        const LayoutTrial trial{few_spec_, c.spec.name, batch_sizes(c, i),
                                run_.seed + static_cast<std::uint64_t>(i)};
        const contract::Verdict bad = suite::prove(Proof::whole, suite::resolve(trial, spoil_), steps);
        if (!bad) continue;
        if (is_reference) layout_is_wrong = true;
        if (is_reference || !layout_is_wrong) {
          broken(row, Proof::whole, trial, *bad, backend.get());
        } else {  // the reference's smallest case shows the same
          row.state = State::broken;
          row.sentence = bad->sentence;
        }
      }
      row.seconds = seconds_since(start);
      rows_.push_back(std::move(row));
    }
    ProofRow row = row_of(Proof::necessity, c);
    const auto start = std::chrono::steady_clock::now();
    progress_.say(fmt::format("{}: {}", c.spec.name, row.words));
    const LayoutTrial trial{few_spec_, c.spec.name, suite::proof_sizes(c), run_.seed};
    row.tried = fmt::format("each axis of {}, up to 6 batches", ranks_words());
    const contract::Verdict wrong = suite::prove(Proof::whole, suite::resolve(trial, spoil_));
    if (wrong) {
      row.state = State::skipped;
      row.tried = "sharded is not whole to begin with";
    } else if (const contract::Verdict bad = suite::prove(Proof::necessity, suite::resolve(trial, spoil_))) {
      broken(row, Proof::necessity, trial, *bad);
    }
    row.seconds = seconds_since(start);
    rows_.push_back(std::move(row));
  }

  const ProofRun& run_;
  const Backends& backends_;
  Progress& progress_;
  suite::Spoil spoil_;
  Deployment full_;
  DeploymentSpec few_spec_;
  Deployment few_;
  std::vector<ProofRow> rows_;
};

}  // namespace

bool routes_and_slices(const Backend& backend) {
  return backend.supports(Operation::route) && backend.supports(Operation::slice);
}

reference::LayerSteps steps_of(Backend& backend) {
  return backend.name() == "reference" ? reference::LayerSteps{} : guarded_steps(backend);
}

reference::LayerSteps guarded_steps(Backend& backend) {
  const GuardedRun run(backend);
  reference::LayerSteps steps;
  steps.route = [run](const RouteProblem& problem) { return run.route(problem); };
  steps.slice = [run](const SliceProblem& problem, const BufferView& view) {
    LoraBuffers copy(*problem.shape);
    const auto each = [&](auto move) {
      for (std::size_t n = 0; n < problem.shape->layers.size(); ++n)
        for (const BufferTensor tensor : kBufferTensors)
          if (const auto bytes = copy.bytes(n, tensor); !bytes.empty())
            move(view.tensor[n][static_cast<std::size_t>(tensor)], bytes.data(), bytes.size());
      const auto scales = static_cast<std::size_t>(problem.shape->scale_elements()) * sizeof(float);
      if (scales > 0) move(view.scale, copy.view().scale, scales);
    };
    each([](const void* theirs, void* ours, std::size_t bytes) { std::memcpy(ours, theirs, bytes); });
    run.slice(problem, copy);
    each([](void* theirs, const void* ours, std::size_t bytes) { std::memcpy(theirs, ours, bytes); });
  };
  return steps;
}

std::vector<ProofRow> prove_layout(const ProofRun& run, const Backends& backends, Progress& progress) {
  return Prover(run, backends, progress).all();
}

}  // namespace eplora
