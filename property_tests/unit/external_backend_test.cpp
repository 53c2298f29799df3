// SPDX-License-Identifier: Apache-2.0
// Shared libraries as backends: what the loader refuses and how it says so, that a call's problem reaches the
// library whole, and that a library's own refusal comes back with its sentence. The libraries are
// examples/external_backend and property_tests/unit/external_faults.c.
#include "optimized/external/external_backend.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "optimized/external/translate.h"
#include "optimized/guarded_run.h"
#include "property_tests/suite/suite.h"
#include "reference/check.h"
#include "reference/routing/align.h"
#include "reference/routing/remap.h"

namespace eplora {
namespace {

std::string library(const std::string& name) {
  return std::string(EPLORA_EXTERNAL_LIBRARIES) + "/lib" + name + ".so";
}

/// The sentence with which `name` is refused; empty if it is not, or by another exception.
template <class Exception>
std::string refusal_of(const std::string& path) {
  try {
    make_backend(path);
  } catch (const Exception& e) {
    return e.what();
  } catch (const std::exception& e) {
    ADD_FAILURE() << path << " is refused by another exception: " << e.what();
  }
  return {};
}

void expect_refused(const std::string& fault, std::initializer_list<std::string> mentions) {
  const std::string sentence = refusal_of<InvalidArgument>(library(fault));
  for (const std::string& mention : mentions)
    EXPECT_NE(sentence.find(mention), std::string::npos)
        << fault << ": \"" << sentence << "\" lacks " << mention;
}

constexpr std::array<std::int32_t, 8> kIds = {0, -1, 2, 7, -2147483647 - 1, 1, 3, 0};
constexpr std::array<std::int32_t, 4> kAdapters = {0, 1, -1, 5};

RemapProblem remap_problem() {
  RemapProblem problem;
  problem.topk_ids = IdMatrix::of(kIds, 2);
  problem.token_lora_mapping = kAdapters;
  problem.num_experts = 4;
  problem.max_loras = 2;
  return problem;
}

AlignProblem align_problem() {
  AlignProblem problem;
  problem.ids = IdMatrix::of(kIds, 2);
  problem.num_buckets = 4;
  problem.block_size = 4;
  return problem;
}

TEST(ExternalBackend, PathsAreToldFromNames) {
  EXPECT_TRUE(is_external_backend("./libmine.so"));
  EXPECT_TRUE(is_external_backend("libmine.so"));
  EXPECT_TRUE(is_external_backend("build/mine"));
  for (const BackendEntry& entry : list_backends()) EXPECT_FALSE(is_external_backend(entry.name));
}

TEST(ExternalBackend, ARightLibraryAnswersAsTheReferenceDoes) {
  const auto backend = make_backend(library("align"));
  EXPECT_EQ(backend->name(), library("align"));
  EXPECT_NE(backend->description().find("c-align"), std::string::npos);
  EXPECT_EQ(backend->form(), contract::Form{});
  EXPECT_EQ(backend->memory_space(), MemorySpace::host);
  EXPECT_EQ(GuardedRun(*backend).remap(remap_problem()), reference::remap(remap_problem()));
  EXPECT_EQ(GuardedRun(*backend).align(align_problem()), reference::align(align_problem()));
  EXPECT_EQ(backend->workspace_bytes(align_problem()), 5 * sizeof(std::int64_t));
}

TEST(ExternalBackend, WhatALibraryLacksIsNotOfferedAndRefused) {
  const auto backend = make_backend(library("align"));
  EXPECT_TRUE(backend->supports(Operation::remap));
  EXPECT_TRUE(backend->supports(Operation::align));
  for (const Operation operation : {Operation::dispatch, Operation::route, Operation::slice})
    EXPECT_FALSE(backend->supports(operation)) << to_string(operation);
  DispatchProblem problem;
  problem.topk_ids = IdMatrix::of(kIds, 2);
  const std::array<std::int32_t, 4> table = {0, 1, 2, 3};
  problem.num_experts = 4;
  problem.table = table;
  EXPECT_THROW(GuardedRun(*backend).dispatch(problem), InvalidArgument);
}

TEST(ExternalBackend, BadProblemsAreRefusedBeforeTheLibrarySeesThem) {
  const auto backend = make_backend(library("aborting"));
  RemapProblem problem = remap_problem();
  problem.num_experts = -1;
  EXPECT_THROW(backend->remap(problem, {}, {}), InvalidArgument);
  EXPECT_THROW(backend->remap(remap_problem(), {}, {}), InvalidArgument);  // null outputs
}

TEST(ExternalBackend, FilesThatAreNoLibraryAreRefused) {
  EXPECT_NE(refusal_of<InvalidArgument>("./nowhere.so").find("there is no such file"), std::string::npos);
  EXPECT_NE(refusal_of<InvalidArgument>("/").find("there is no such file"), std::string::npos);
  const std::filesystem::path text =
      std::filesystem::path(testing::TempDir()) / "eplora_external_backend_test.so";
  std::ofstream(text) << "no library";
  const std::string sentence = refusal_of<BackendUnavailable>(text.string());
  EXPECT_NE(sentence.find("cannot be loaded"), std::string::npos) << sentence;
  std::filesystem::remove(text);
}

TEST(ExternalBackend, DescriptorsThatMakeNoSenseAreRefusedByName) {
  expect_refused("no_symbol", {"libno_symbol.so", "eplora_backend_v1"});
  expect_refused("null_descriptor", {"libnull_descriptor.so", "null"});
  expect_refused("next_version", {"abi_version", "2", "version 1"});
  expect_refused("short_descriptor", {"struct_size", "16"});
  expect_refused("no_operations", {"at least one"});
  expect_refused("unknown_form", {"form.ids", "9"});
  expect_refused("unknown_memory", {"memory_space", "7"});
  expect_refused("no_name", {"name", "null"});
}

TEST(ExternalBackend, ADescriptorThatEndsBeforeDeltaIsTakenWithoutIt) {
  const auto backend = make_backend(library("before_delta"));
  EXPECT_TRUE(backend->supports(Operation::remap));
  EXPECT_FALSE(backend->supports(Operation::delta));
  EXPECT_THROW(backend->delta({}, {}, {}), InvalidArgument);
  EXPECT_TRUE(make_backend(library("delta"))->supports(Operation::delta));
}

TEST(ExternalBackend, AStatusComesBackWithTheLibrarysSentence) {
  const auto backend = make_backend(library("failing"));
  try {
    GuardedRun(*backend).remap(remap_problem());
    FAIL() << "status 3 must throw";
  } catch (const std::runtime_error& e) {
    const std::string sentence = e.what();
    EXPECT_NE(sentence.find("remap: status 3, failed: no room for 8 slots"), std::string::npos) << sentence;
  }
}

TEST(ExternalBackend, NegativeSizesAreNoSizes) {
  const auto backend = make_backend(library("negative_sizes"));
  EXPECT_THROW(backend->workspace_bytes(remap_problem()), std::runtime_error);
  EXPECT_EQ(backend->capacity(8, 4, 4, Sentinels::keep), -16);  // judged by whoever runs it
}

TEST(ExternalBackend, AWrongLibraryIsCaughtAndShrunkToThreeSlotsAtMost) {
  const auto backend = make_backend(library("wrong_align"));
  int caught = 0;
  for (const suite::PropertyInfo& property : suite::find_properties("align")) {
    const suite::Outcome outcome = suite::run_property(property, *backend);
    if (!outcome.failed()) continue;
    ++caught;
    EXPECT_EQ(outcome.status, suite::Status::violated);
    const std::string& summary = outcome.counterexample->summary;
    const auto ids = summary.substr(summary.find("ids=["), summary.find(']') - summary.find("ids=["));
    EXPECT_LE(std::count(ids.begin(), ids.end(), ' '), 2) << summary;
  }
  EXPECT_GE(caught, 3);
}

TEST(ExternalTranslation, EveryFieldOfARouteProblemArrives) {
  const std::array<std::int32_t, 3> table = {0, -1, 1};
  const std::array<std::int32_t, 4> offsets = {0, 1, 2, 3};
  const std::int32_t real = 3;
  RouteProblem problem;
  problem.topk_ids = {kIds.data(), IdType::int32, 4, 1, 2};
  problem.token_lora_mapping = kAdapters;
  problem.num_experts = 3;
  problem.table = table;
  problem.offsets = offsets;
  problem.slot_offset = 11;
  problem.num_local_experts = 2;
  problem.max_loras = 5;
  problem.shared_outer = true;
  problem.no_adapter = NoAdapter::sentinel;
  problem.block_size = 16;
  problem.sentinels = Sentinels::drop;
  problem.num_tokens = NumTokens::at(&real);
  const eplora_route_problem abi = external::translate(problem);
  EXPECT_EQ(abi.abi_version, EPLORA_ABI_VERSION);
  EXPECT_EQ(abi.struct_size, sizeof abi);
  EXPECT_EQ(abi.topk_ids.struct_size, sizeof(eplora_ids));
  EXPECT_EQ(abi.topk_ids.data, kIds.data());
  EXPECT_EQ(abi.topk_ids.type, EPLORA_ID_INT32);
  EXPECT_EQ(abi.topk_ids.rows, 4);
  EXPECT_EQ(abi.topk_ids.cols, 1);
  EXPECT_EQ(abi.topk_ids.row_stride, 2);
  EXPECT_EQ(abi.topk_ids.col_stride, 1);
  EXPECT_EQ(abi.num_tokens.kind, EPLORA_NUM_TOKENS_POINTER);
  EXPECT_EQ(abi.num_tokens.pointer, &real);
  EXPECT_EQ(abi.token_lora_mapping, kAdapters.data());
  EXPECT_EQ(abi.token_lora_mapping_size, 4);
  EXPECT_EQ(abi.num_experts, 3);
  EXPECT_EQ(abi.table, table.data());
  EXPECT_EQ(abi.table_size, 3);
  EXPECT_EQ(abi.offsets, offsets.data());
  EXPECT_EQ(abi.offsets_size, 4);
  EXPECT_EQ(abi.slot_offset, 11);
  EXPECT_EQ(abi.num_local_experts, 2);
  EXPECT_EQ(abi.max_loras, 5);
  EXPECT_EQ(abi.block_size, 16);
  EXPECT_EQ(abi.shared_outer, 1);
  EXPECT_EQ(abi.no_adapter, EPLORA_NO_ADAPTER_SENTINEL);
  EXPECT_EQ(abi.sentinels, EPLORA_SENTINELS_DROP);
}

TEST(ExternalTranslation, FormsArriveAsDeclared) {
  EXPECT_EQ(external::translate("x", EPLORA_CANONICAL_FORM), contract::Form{});
  eplora_form form = EPLORA_CANONICAL_FORM;
  form.order = EPLORA_ORDER_NONDETERMINISTIC;
  form.sentinel = EPLORA_SENTINEL_FIRST;
  form.tail = EPLORA_TAIL_UNWRITTEN;
  form.ids = EPLORA_IDS_MINUS_ONE_TO_V;
  form.shared_outer_sentinels = EPLORA_SHARED_OUTER_SENTINELS_ROUTED;
  form.scale_in_B = 1;
  form.canonical_values = 0;
  EXPECT_EQ(contract::to_string(external::translate("x", form)),
            "order=nondeterministic sentinel=first tail=unwritten ids=minus_one_to_V "
            "shared_outer_sentinels=routed scale_in_B=yes canonical_values=no");
  form.order = -1;
  EXPECT_THROW(external::translate("x", form), InvalidArgument);
}

}  // namespace
}  // namespace eplora
