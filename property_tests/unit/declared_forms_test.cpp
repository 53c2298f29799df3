// SPDX-License-Identifier: Apache-2.0
// What an implementation does not promise is not asked of it, and what it promises is (contract, section 5):
// backends that do exactly what they declare hold, the same undeclared, or declared and broken, do not.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <set>

#include "optimized/backend.h"
#include "property_tests/suite/suite.h"
#include "reference/routing/align.h"
#include "reference/routing/dispatch.h"
#include "reference/routing/remap.h"

namespace eplora::suite {
namespace {

using contract::AcceptedIds;
using contract::Form;

/// The reference, with a declared form and what is done to the blocks of align and route.
class Declared : public ReferenceBackend {
 public:
  using Change = std::function<void(AlignResult&, std::int64_t n, std::int32_t B)>;
  explicit Declared(Form form, Change change = {}) : form_(form), change_(std::move(change)) {}
  Form form() const override { return form_; }

  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext&) override {
    write(reference::align(p), p.ids.size(), p.block_size, out);
  }
  void route(const RouteProblem& p, const RouteOutput& out, const ExecutionContext& context) override {
    const std::int64_t n = p.topk_ids.size();
    AlignResult blocks = blank(n, static_cast<std::int32_t>(p.num_buckets()), p.block_size, p.sentinels);
    ReferenceBackend::route(
        p,
        {{blocks.sorted_token_ids.data(), blocks.expert_ids.data(), &blocks.num_tokens_post_padded},
         out.token_lora_mask},
        context);
    write(std::move(blocks), n, p.block_size, out.blocks);
  }

 protected:
  static AlignResult blank(std::int64_t n, std::int32_t V, std::int32_t B, Sentinels sentinels) {
    const auto capacity = static_cast<std::size_t>(align_capacity(n, V, B, sentinels));
    return {std::vector<std::int32_t>(capacity), std::vector<std::int32_t>(capacity / B), 0};
  }
  void write(AlignResult blocks, std::int64_t n, std::int32_t B, const AlignOutput& out) const {
    if (change_) change_(blocks, n, B);
    const bool whole = form_.tail == contract::Tail::written;
    const auto entries = whole ? std::ssize(blocks.sorted_token_ids) : blocks.num_tokens_post_padded;
    std::copy_n(blocks.sorted_token_ids.begin(), entries, out.sorted_token_ids);
    std::copy_n(blocks.expert_ids.begin(), whole ? std::ssize(blocks.expert_ids) : entries / B,
                out.expert_ids);
    *out.num_tokens_post_padded = blocks.num_tokens_post_padded;
  }

 private:
  Form form_;
  Change change_;
};

/// Blocks of the used prefix that `wanted` picks, in order.
template <class Wanted>
void keep_blocks(AlignResult& blocks, std::int64_t n, std::int32_t B, const Wanted& wanted) {
  const AlignResult before = blocks;
  std::fill(blocks.sorted_token_ids.begin(), blocks.sorted_token_ids.end(), static_cast<std::int32_t>(n));
  std::fill(blocks.expert_ids.begin(), blocks.expert_ids.end(), -1);
  std::int32_t to = 0;
  for (const int pass : {0, 1})
    for (std::int32_t b = 0; b < before.num_tokens_post_padded / B; ++b) {
      if (wanted(before.expert_ids[b]) != pass) continue;
      blocks.expert_ids[to] = before.expert_ids[b];
      std::copy_n(before.sorted_token_ids.begin() + b * B, B, blocks.sorted_token_ids.begin() + to++ * B);
    }
  blocks.num_tokens_post_padded = to * B;
}

void sentinels_first(AlignResult& blocks, std::int64_t n, std::int32_t B) {
  keep_blocks(blocks, n, B, [](std::int32_t label) { return label < 0 ? 0 : 1; });
}

void no_sentinels(AlignResult& blocks, std::int64_t n, std::int32_t B) {
  keep_blocks(blocks, n, B, [](std::int32_t label) { return label < 0 ? -1 : 0; });
}

/// `reorder` gets the slots of each bucket, without filler.
template <class Reorder>
void reorder_buckets(AlignResult& blocks, std::int64_t n, std::int32_t B, const Reorder& reorder) {
  const std::int32_t used = blocks.num_tokens_post_padded / B;
  for (std::int32_t first = 0, last = 0; first < used; first = last) {
    for (last = first; last < used && blocks.expert_ids[last] == blocks.expert_ids[first];) ++last;
    const auto begin = blocks.sorted_token_ids.begin() + first * B;
    reorder(begin, std::find(begin, blocks.sorted_token_ids.begin() + last * B, n));
  }
}

void backwards(AlignResult& blocks, std::int64_t n, std::int32_t B) {
  reorder_buckets(blocks, n, B, [](auto begin, auto end) { std::reverse(begin, end); });
}

void other_every_time(AlignResult& blocks, std::int64_t n, std::int32_t B) {
  static std::int64_t calls = 0;
  ++calls;
  reorder_buckets(blocks, n, B, [](auto begin, auto end) {
    if (begin != end) std::rotate(begin, begin + calls % (end - begin), end);
  });
}

/// Refuses whatever the form does not promise to take.
class TakesFewIds : public ReferenceBackend {
 public:
  explicit TakesFewIds(AcceptedIds ids, std::int64_t taken_for_zero = 0)
      : accepted_(ids), taken_for_zero_(taken_for_zero) {}
  Form form() const override {
    Form form;
    form.ids = accepted_;
    return form;
  }
  void dispatch(const DispatchProblem& p, const DispatchOutput& out, const ExecutionContext& c) override {
    require(p.topk_ids, p.num_tokens, p.num_experts);
    ReferenceBackend::dispatch(p, out, c);
  }
  void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext& c) override {
    require(p.topk_ids, p.num_tokens, p.num_experts);
    ReferenceBackend::remap(p, out, c);
  }
  void align(const AlignProblem& p, const AlignOutput& out, const ExecutionContext& c) override {
    require(p.ids, p.num_tokens, p.num_buckets);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(p.ids.size()), -1);
    for (std::int64_t s = 0; s < p.num_tokens.resolve(p.ids.rows) * p.ids.cols; ++s) {
      const std::int64_t id = p.ids.at(s / p.ids.cols, s % p.ids.cols);
      ids[s] = taken_for_zero_ < 0 && id == taken_for_zero_ ? 0
               : 0 <= id && id < p.num_buckets              ? static_cast<std::int32_t>(id)
                                                            : -1;
    }
    ReferenceBackend::align({IdMatrix::of(ids, p.ids.cols), p.num_buckets, p.block_size, p.sentinels, {}},
                            out, c);
  }
  void route(const RouteProblem& p, const RouteOutput& out, const ExecutionContext& c) override {
    require(p.topk_ids, p.num_tokens, p.table.empty() ? p.num_local_experts : p.num_experts);
    ReferenceBackend::route(p, out, c);
  }

 private:
  void require(const IdMatrix& ids, const NumTokens& num_tokens, std::int64_t V) const {
    for (std::int64_t t = 0; t < num_tokens.resolve(ids.rows); ++t) {
      std::set<std::int64_t> seen;
      for (std::int64_t k = 0; k < ids.cols; ++k) {
        const std::int64_t id = ids.at(t, k);
        const bool distinct = accepted_ == AcceptedIds::distinct_in_token;
        if ((!distinct && id < -1) || (accepted_ == AcceptedIds::minus_one_to_V && id >= V) ||
            (distinct && id >= 0 && !seen.insert(id).second))
          throw std::runtime_error("asked for id " + std::to_string(id) + " of V=" + std::to_string(V) +
                                   ", which was never promised");
      }
    }
  }
  AcceptedIds accepted_;
  std::int64_t taken_for_zero_;  // a sentinel that align gets wrong, or 0
};

/// Shared-outer weights: a slot goes to its adapter's bucket wherever its expert lives.
class RoutesForeign : public ReferenceBackend {
 public:
  explicit RoutesForeign(bool declared) : declared_(declared) {}
  Form form() const override {
    Form form;
    if (declared_) form.shared_outer_sentinels = contract::SharedOuterSentinels::routed;
    return form;
  }
  void remap(const RemapProblem& p, const RemapOutput& out, const ExecutionContext& context) override {
    ReferenceBackend::remap(p, out, context);
    const std::int64_t K = p.topk_ids.cols;
    for (std::int64_t s = 0; p.shared_outer && s < p.num_tokens.resolve(p.topk_ids.rows) * K; ++s) {
      const std::int32_t l = p.token_lora_mapping[s / K];
      if (0 <= l && l < p.max_loras) out.virtual_ids[s] = l;
    }
  }
  void route(const RouteProblem& p, const RouteOutput& out, const ExecutionContext& context) override {
    const std::vector<std::int32_t> zeros(static_cast<std::size_t>(p.topk_ids.size()), 0);
    RouteProblem routed = p;
    if (p.shared_outer) {
      routed.topk_ids = IdMatrix::of(zeros, p.topk_ids.cols);
      routed.table = routed.offsets = {};
      routed.num_local_experts = 1;
    }
    ReferenceBackend::route(routed, out, context);
  }

 private:
  bool declared_;
};

/// Multiplies B by the scale when it is loaded, and computes deltas with a scale of 1.
class ScaleInB : public ReferenceBackend {
 public:
  ScaleInB(bool declared, bool multiplies) : declared_(declared), multiplies_(multiplies) {}
  Form form() const override {
    Form form;
    form.scale_in_B = declared_;
    return form;
  }
  void slice(const SliceProblem& p, const BufferView& out, const ExecutionContext& context) override {
    Adapter scaled = *p.adapter;
    std::deque<std::vector<float>> memory;
    for (auto& [id, layer] : scaled.layers) {
      for (LoraPair& half : layer.gate_up) multiply(half.B, layer.gate_up_scale, memory);
      multiply(layer.down.B, layer.down_scale, memory);
      layer.gate_up_scale = layer.down_scale = 1;
    }
    SliceProblem problem = p;
    problem.adapter = &scaled;
    ReferenceBackend::slice(problem, out, context);
  }
  void delta(const DeltaProblem& p, const DeltaOutput& out, const ExecutionContext& context) override {
    const std::vector<float> ones(static_cast<std::size_t>(p.max_loras), 1.0F);
    DeltaProblem problem = p;
    problem.scale = ones.data();
    ReferenceBackend::delta(problem, out, context);
  }

 private:
  void multiply(StridedTensor& B, float scale, std::deque<std::vector<float>>& memory) const {
    if (!B.present()) return;
    std::vector<float>& values = memory.emplace_back();
    for (std::int64_t e = 0; e < B.experts; ++e)
      for (std::int64_t row = 0; row < B.rows; ++row)
        for (std::int64_t col = 0; col < B.cols; ++col)
          values.push_back(B.at(e, row, col) * (multiplies_ ? scale : 1.0F));
    B = {values.data(), DType::f32, B.experts, B.rows, B.cols, B.rows * B.cols, B.cols, 1};
  }
  bool declared_, multiplies_;
};

/// The outcomes of an operation's properties, by name.
std::map<std::string, Outcome> outcomes(Backend& backend, const char* operation) {
  RunOptions options;
  options.cases = 300;
  std::map<std::string, Outcome> all;
  for (const PropertyInfo& property : find_properties(operation))
    all[property.full_name()] = run_property(property, backend, options);
  return all;
}

/// Nothing is violated, nothing given up, nothing discarded; what is skipped says why.
void expect_kept(Backend& backend, std::initializer_list<const char*> operations, std::size_t fewest_held) {
  std::size_t held = 0;
  for (const char* operation : operations)
    for (const auto& [name, outcome] : outcomes(backend, operation)) {
      EXPECT_TRUE(outcome.status == Status::held || outcome.status == Status::skipped) << describe(outcome);
      EXPECT_TRUE(outcome.status == Status::held || outcome.reason.find("declares") != std::string::npos)
          << outcome.reason;
      EXPECT_EQ(outcome.discarded, 0) << describe(outcome);
      held += outcome.status == Status::held ? 1 : 0;
    }
  EXPECT_GE(held, fewest_held);
}

void expect_violated(Backend& backend, const char* property) {
  RunOptions options;
  options.cases = 300;
  const Outcome outcome = run_property(find_properties(property).front(), backend, options);
  EXPECT_EQ(outcome.status, Status::violated) << describe(outcome);
}

constexpr const char* kPartition = "Align.EverySlotStandsOnceInABlockOfItsOwnId";
constexpr const char* kRouteBlocks = "Route.BlocksHoldTheSlotsOfTheirVirtualExpert";

TEST(DeclaredForms, ASentinelBucketInFrontIsAPlaceOfItsOwn) {
  Form form;
  form.sentinel = contract::SentinelPlace::first;
  Declared kept(form, sentinels_first), broken(form), undeclared({}, sentinels_first);
  expect_kept(kept, {"align", "route"}, 15);
  for (Declared* wrong : {&broken, &undeclared})
    for (const char* property : {kPartition, kRouteBlocks}) expect_violated(*wrong, property);
}

TEST(DeclaredForms, DroppedSentinelsHaveNoPlace) {
  Form form;
  form.sentinel = contract::SentinelPlace::drop;
  Declared kept(form, no_sentinels), broken(form), undeclared({}, no_sentinels);
  expect_kept(kept, {"align", "route"}, 15);
  for (Declared* wrong : {&broken, &undeclared}) expect_violated(*wrong, kPartition);
}

TEST(DeclaredForms, AnyOrderInABucketIsStillOneOrder) {
  Form form;
  form.order = contract::Order::free;
  Declared kept(form, backwards), undeclared({}, backwards), changing(form, other_every_time);
  expect_kept(kept, {"align", "route"}, 15);
  expect_violated(undeclared, kPartition);
  RunOptions options;
  options.cases = 300;
  EXPECT_TRUE(
      run_property(find_properties("Align.EqualInputsGiveEqualBytes").front(), changing, options).failed());
}

TEST(DeclaredForms, ARandomOrderIsComparedBucketByBucket) {
  Form form;
  form.order = contract::Order::nondeterministic;
  Declared kept(form, other_every_time);
  expect_kept(kept, {"align", "route"}, 15);
  EXPECT_EQ(contract::determinism_note(kept.form()), "deterministic: no (declared)");
  Declared drops(form, no_sentinels);
  expect_violated(drops, kPartition);
}

TEST(DeclaredForms, AnUnwrittenTailIsNotRead) {
  Form form;
  form.tail = contract::Tail::unwritten;
  Declared kept(form);
  expect_kept(kept, {"align", "route"}, 15);
  struct Undeclared : Declared {
    using Declared::Declared;
    Form form() const override { return {}; }
  } undeclared(form);
  expect_violated(undeclared, "Align.FillerIsNoSlot");
  expect_violated(undeclared, kRouteBlocks);
}

TEST(DeclaredForms, IdsThatAreNotTakenAreNotSent) {
  for (const AcceptedIds ids :
       {AcceptedIds::at_least_minus_one, AcceptedIds::minus_one_to_V, AcceptedIds::distinct_in_token}) {
    TakesFewIds kept(ids);
    RunOptions options;
    options.cases = 300;
    for (const char* operation : {"dispatch", "remap", "align", "route"})
      for (const auto& [name, outcome] : outcomes(kept, operation)) {
        const bool needs_others = name == "Align.ASentinelsValueDoesNotMatter";
        EXPECT_FALSE(outcome.failed()) << describe(outcome);
        EXPECT_TRUE(needs_others || outcome.status != Status::gave_up) << describe(outcome);
      }
  }
}

TEST(DeclaredForms, DistinctIdsAreNoPromiseAboutSentinels) {
  TakesFewIds right(AcceptedIds::distinct_in_token), wrong(AcceptedIds::distinct_in_token, -2);
  const Outcome outcome = outcomes(right, "align").at(kPartition);
  EXPECT_EQ(outcome.status, Status::held);
  EXPECT_GT(outcome.distribution.at("ids: below -1"), 0);
  EXPECT_GT(outcome.distribution.at("ids: >= E"), 0);
  expect_violated(wrong, kPartition);
}

TEST(DeclaredForms, RoutedSentinelsOfSharedOuterWeightsAreWantedWhereDeclared) {
  RoutesForeign kept(true), undeclared(false);
  expect_kept(kept, {"remap", "route"}, 8);
  expect_violated(undeclared, kRouteBlocks);
  expect_violated(undeclared, "Remap.NegativeIdsPassThroughBitForBit");
  struct OnlySaysSo : ReferenceBackend {
    Form form() const override { return RoutesForeign(true).form(); }
  } only_says_so;
  expect_violated(only_says_so, kRouteBlocks);
}

TEST(DeclaredForms, AScaleInBIsLookedForThere) {
  ScaleInB kept(true, true), undeclared(false, true), broken(true, false);
  expect_kept(kept, {"slice", "delta", "layer"}, 11);
  for (ScaleInB* wrong : {&undeclared, &broken})
    expect_violated(*wrong, "Slice.TheSlotHoldsTheZeroPaddedAdapterAndNothingElseChanged");
  expect_violated(undeclared, "Delta.IsWithinItsBound");
}

}  // namespace
}  // namespace eplora::suite
