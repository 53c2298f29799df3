// SPDX-License-Identifier: Apache-2.0
// The property suite as a library: what there is to prove, how one property runs against one backend, how a
// saved case is replayed, and the mutants that keep the suite honest. The test binary and `eplora check` /
// `eplora mutants` are two front ends to this header.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "optimized/backend.h"

namespace eplora::suite {

/// One law, for all cases of its generator.
struct PropertyInfo {
  std::string operation;  ///< "dispatch", "remap", "align", "route", "layout", "slice", "delta", "layer"
  std::string name;       ///< the law in CamelCase: "NegativeIdsPassThroughBitForBit"
  std::string sentence;   ///< the law in words
  std::string
      contract;  ///< the contract's properties it belongs to: "P1", "P3 P5"; "" for pure differential ones
  int default_cases = 2000;

  /// "Remap.NegativeIdsPassThroughBitForBit": what files, `--property` and the test binary call it.
  std::string full_name() const;
};

/// Every property, by operation, in the order in which they run.
const std::vector<PropertyInfo>& list_properties();

/// Those that `text` names, without regard to case: a full name, a name, an operation, or the start of a full
/// name; empty text = all. Throws `InvalidArgument` when nothing matches.
std::vector<PropertyInfo> find_properties(std::string_view text);

/// Why `property` is not asked of `backend`: an operation it does not offer, or what its declared form does
/// not promise. Nothing when it is asked. Calls no operation.
std::optional<std::string> reason_not_asked(const PropertyInfo& property, const Backend& backend);

enum class Status : std::uint8_t {
  held,         ///< no counterexample in `cases` cases
  violated,     ///< the shrunk case fails every time
  flaky,        ///< it failed, but not every time it was run again: equal inputs, results that differ
  gave_up,      ///< too many generated cases were outside the backend's declared form
  skipped,      ///< the property asks what the backend does not promise; `reason` says so
  interrupted,  ///< the progress callback said stop
};
std::string_view to_string(Status status);

/// Said after every case and every tried shrink.
struct Progress {
  const PropertyInfo* property = nullptr;
  std::int64_t cases = 0, wanted = 0, discarded = 0;
  bool shrinking = false;
  std::int64_t shrinks = 0;  ///< tried so far
};

struct RunOptions {
  int cases = 0;             ///< 0 = the property's default
  std::uint64_t seed = 1;    ///< equal seeds, equal cases
  double time_limit = 0;     ///< seconds for generating; 0 = none. The earlier of cases and time ends the run
  double shrink_limit = 10;  ///< seconds for shrinking one counterexample
  /// More than 1: that many threads judge cases of one property at once, on the one backend, which must stand
  /// it. The cases depend on the seed alone, but are others than those of one thread.
  int threads = 1;
  /// How often the found case, each smaller candidate of a flaky one, and the shrunk case run again.
  int reruns = 10;
  std::filesystem::path save_dir;                 ///< where counterexamples are written; empty = nowhere
  std::function<bool(const Progress&)> progress;  ///< may be empty; false = stop
};

struct Counterexample {
  std::string contract;  ///< "P3", "differential", "guard", "exception", ... what the shrunk case violates
  std::string sentence;  ///< the violation in one sentence: place, expected, found
  std::string expected, found;             ///< the two values alone; empty where there are none
  int failed = 0, reruns = 0;              ///< the shrunk case failed `failed` of `reruns` times
  std::int64_t after_cases = 0;            ///< found in this generated case, counted from 1
  std::int64_t shrinks = 0;                ///< accepted shrinking steps
  std::string summary;                     ///< the shrunk case in one line
  std::string table;                       ///< the shrunk case readable, a few lines
  std::string json;                        ///< the shrunk case as a replayable file's text
  std::string picture;                     ///< what a report draws (suite/picture.h); may be empty
  std::string unshrunk_path, shrunk_path;  ///< empty when nothing was saved
  std::string replay;  ///< "eplora check --backend NAME --replay FILE"; empty when nothing was saved
};

struct Outcome {
  PropertyInfo property;
  std::string backend;
  Status status = Status::held;
  std::string reason;  ///< why skipped or gave up; "" else
  std::int64_t cases = 0, discarded = 0;
  double seconds = 0;
  std::uint64_t seed = 0;
  bool ended_by_time = false;
  std::map<std::string, std::int64_t> distribution;  ///< label -> cases that carry it
  std::optional<Counterexample> counterexample;

  bool failed() const { return status == Status::violated || status == Status::flaky; }
};

/// Runs `property` on `backend`. A violation of the contract, a difference from the reference, a write
/// outside the outputs and an exception all are counterexamples. Throws `InvalidArgument` for an unknown
/// property.
Outcome run_property(const PropertyInfo& property, Backend& backend, const RunOptions& options = {});

/// Runs the one case of a saved file (the property it names) `options.reruns` times. Throws `InvalidArgument`
/// when the file is not a case this build understands.
Outcome replay_file(const std::filesystem::path& path, Backend& backend, const RunOptions& options = {});

/// "fails always: 10 of 10", "flaky: fails 3 of 10 times; ...".
std::string how_often(const Counterexample& found);
/// The outcome in words, several lines for a counterexample; ends with the replay line.
std::string describe(const Outcome& outcome);

/// Named sizes of a case: T, K, E, V, L, B, H, i, R, r (largest rank of an adapter), ranks, layers,
/// slot_offset.
using Sizes = std::vector<std::pair<std::string, std::int64_t>>;
/// Those of a replayable file's case; a size that the case's kind has not is missing.
Sizes sizes_of_case(const std::string& case_file);

/// A wrong backend that somebody once shipped.
struct Mutant {
  std::string id;      ///< "remap-neg"
  std::string origin;  ///< "sgl-project/sglang#24171"
  std::string wrong;   ///< what it does wrong, in one line
  /// The sizes that the bug needs above their floor (slot_offset 0, every other size 1), with the least value
  /// that shows it. A shrunk case is minimal when no size exceeds this.
  Sizes smallest;
  std::function<std::unique_ptr<Backend>()> make;
};
const std::vector<Mutant>& list_mutants();

struct MutantOutcome {
  std::string id;
  bool killed = false;
  std::string killed_by;         ///< full name of the first property that noticed
  std::string contract;          ///< "P3", ...
  std::int64_t after_cases = 0;  ///< cases of that property until it noticed
  std::string sentence;          ///< what it noticed
  std::string summary;           ///< the shrunk case in one line
  std::string json;              ///< the shrunk case as a replayable file's text
  std::string not_minimal;  ///< the sizes that are larger than they need be, "E=5 for 2"; empty = minimal
  double seconds = 0;
};

/// The mutant through all properties, first a few cases of each, then more, until one notices.
/// `options.cases` bounds the cases per property.
MutantOutcome run_mutant(const Mutant& mutant, const RunOptions& options = {});

}  // namespace eplora::suite
