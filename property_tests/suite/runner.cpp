// SPDX-License-Identifier: Apache-2.0
// Runs one property: RapidCheck draws the cases and walks the tree of smaller ones, this file writes the
// first failing case down before anything is shrunk, keeps the time, and runs the smallest case again to tell
// a bug from a flake.
#include <rapidcheck.h>

#include <algorithm>
#include <chrono>
#include <ostream>

#include "optimized/guarded_run.h"
#include "property_tests/suite/journal_hook.h"
#include "property_tests/suite/picture.h"
#include "property_tests/suite/property.h"
#include "reference/check.h"

namespace eplora::suite {

/// What RapidCheck carries around: a case, shown by its one line.
struct AnyCase {
  CasePtr value;
};
void showValue(const AnyCase& c, std::ostream& out) { out << c.value->show(); }

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Leaves RapidCheck from within a listener.
struct StopTesting {
  bool interrupted = false;
};

std::uint64_t seed_of(const PropertyInfo& info, std::uint64_t seed) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : info.full_name()) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash_at(seed, hash);
}

class Run final : public rc::detail::TestListener {
 public:
  Run(const PropertyDefinition& property, Backend& backend, const RunOptions& options)
      : property_(property), backend_(backend), options_(options), start_(Clock::now()) {
    outcome.property = property.info;
    outcome.backend = backend.name();
    outcome.seed = options.seed;
    wanted_ = options.cases > 0 ? options.cases : property.info.default_cases;
  }

  void execute() {
    if (const auto reason = reason_to_skip(property_, backend_)) {
      outcome.status = Status::skipped;
      outcome.reason = *reason;
      return;
    }
    if (options_.threads > 1 && !search_in_parallel()) {
      outcome.seconds = seconds_since(start_);
      return;
    }
    rc::detail::TestParams params;
    params.seed = seed_of(property_.info, options_.seed);
    params.maxSuccess = first_ ? 1 : wanted_;
    rc::detail::TestMetadata metadata;
    metadata.id = property_.info.full_name();
    metadata.description = property_.info.sentence;
    try {
      const auto cases = generator();
      const auto result = rc::detail::checkTestable(
          [&] {
            const AnyCase c = *cases;
            return try_case(c.value);
          },
          metadata, params, *this, std::unordered_map<std::string, rc::detail::Reproduce>{});
      rc::detail::GaveUpResult gave_up;
      if (result.match(gave_up)) {
        outcome.status = Status::gave_up;
        outcome.reason = gave_up.description;
      }
      rc::detail::FailureResult failure;  // without a case of ours: the file of one could not be written
      if (result.match(failure) && !smallest_) throw std::runtime_error(failure.description);
      rc::detail::Error error;
      if (result.match(error)) throw std::runtime_error(error.description);
    } catch (const StopTesting& stop) {
      outcome.ended_by_time = !stop.interrupted;
      if (stop.interrupted) outcome.status = Status::interrupted;
    }
    if (first_) settle_on_the_first();
    if (smallest_) finish_counterexample();
    outcome.seconds = seconds_since(start_);
  }

  Outcome outcome;

 private:
  /// True when a case failed: RapidCheck, which knows one thread only, then gets this case to make it
  /// smaller.
  bool search_in_parallel() {
    Sweep swept = sweep(property_, backend_, options_, wanted_, seed_of(property_.info, options_.seed));
    outcome.cases = swept.cases;
    outcome.discarded = swept.discarded;
    outcome.distribution = std::move(swept.distribution);
    outcome.ended_by_time = swept.ended_by_time;
    if (swept.interrupted) outcome.status = Status::interrupted;
    if (swept.gave_up) {
      outcome.status = Status::gave_up;
      outcome.reason = std::to_string(swept.discarded) + " cases are outside the backend's form";
    }
    if (!swept.found) return false;
    outcome.cases = swept.found->index + 1;
    first_ = swept.found->failing;
    first_violation_ = std::move(swept.found->violation);
    return true;
  }

  /// The case that failed among others may hold alone: that is a finding too, a flaky one.
  void settle_on_the_first() {
    if (!smallest_) {
      smallest_ = found_ = first_;
      violation_ = found_violation_ = first_violation_;
      unshrunk_path_ =
          save_case(options_.save_dir, property_, backend_.name(), "unshrunk",
                    case_file_text(property_, *first_, backend_.name(),
                                   violation_->property + ": " + violation_->sentence, options_.seed));
    }
  }

  /// Draws with our own counter-based numbers, seeded by RapidCheck's; smaller cases are made one at a time
  /// and no more once shrinking has used its time.
  rc::Gen<AnyCase> generator() {
    return [this](const rc::Random& random, int size) {
      Draw draw(rc::Random(random).next());
      AnyCase first{first_ ? first_ : property_.draw(draw, size, backend_.form())};
      return rc::shrinkable::shrinkRecur(std::move(first), [this](const AnyCase& c) { return smaller(c); });
    };
  }

  rc::Seq<AnyCase> smaller(const AnyCase& c) {
    struct Walk {
      Run* run;
      CasePtr parent;
      std::shared_ptr<const Shrinks<CasePtr>> candidates;
      std::size_t next;
      rc::Maybe<AnyCase> operator()() {
        while (next < candidates->size() && !run->shrinking_is_over())
          if (CasePtr candidate = (*candidates)[next++]()) return AnyCase{std::move(candidate)};
        return rc::Nothing;
      }
    };
    if (shrinking_is_over()) return {};
    return rc::makeSeq<Walk>(
        Walk{this, c.value, std::make_shared<const Shrinks<CasePtr>>(c.value->shrinks()), 0});
  }

  bool shrinking_is_over() const { return smallest_ && Clock::now() > shrink_until_; }

  rc::detail::CaseResult try_case(const CasePtr& c) {
    using rc::detail::CaseResult;
    contract::Verdict verdict;
    try {
      verdict = judge(property_, *c, backend_);
      // A flaky failure must not lose its smaller cases to luck.
      for (int i = 1; !verdict && flaky_ && i < options_.reruns && !shrinking_is_over(); ++i)
        verdict = judge(property_, *c, backend_);
    } catch (const Discard& discard) {
      return CaseResult(CaseResult::Type::Discard, discard.reason);
    }
    if (!smallest_ && !first_)
      for (const std::string& label : c->labels()) ++outcome.distribution[label];
    if (!verdict) return CaseResult(CaseResult::Type::Success, "held");
    const std::string sentence = verdict->sentence;
    if (!smallest_) {
      unshrunk_path_ = save_case(
          options_.save_dir, property_, backend_.name(), "unshrunk",
          case_file_text(property_, *c, backend_.name(), verdict->property + ": " + sentence, options_.seed));
      for (int i = 0; i < reruns(); ++i) first_failed_ += judge(property_, *c, backend_) ? 1 : 0;
      flaky_ = first_failed_ < reruns();
      found_ = c;
      found_violation_ = verdict;
      shrink_until_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                         std::chrono::duration<double>(options_.shrink_limit));
    } else {
      ++accepted_shrinks_;
    }
    smallest_ = c;
    violation_ = std::move(verdict);
    return CaseResult(CaseResult::Type::Failure, sentence);
  }

  void onTestCaseFinished(const rc::detail::CaseDescription& description) override {
    if (first_) return;  // counted when it was found
    const bool discarded = description.result.type == rc::detail::CaseResult::Type::Discard;
    ++(discarded ? outcome.discarded : outcome.cases);
    report(false);
    if (!smallest_ && options_.time_limit > 0 && seconds_since(start_) > options_.time_limit)
      throw StopTesting{};
  }
  void onShrinkTried(const rc::detail::CaseDescription&, bool) override {
    ++tried_shrinks_;
    report(true);
  }
  void onTestFinished(const rc::detail::TestMetadata&, const rc::detail::TestResult&) override {}

  void report(bool shrinking) {
    if (!options_.progress) return;
    const Progress progress{&property_.info,   outcome.cases, wanted_,
                            outcome.discarded, shrinking,     tried_shrinks_};
    if (!options_.progress(progress)) throw StopTesting{true};
  }

  int reruns() const { return std::max(options_.reruns, 1); }

  void finish_counterexample() {
    Counterexample found;
    found.reruns = reruns();
    for (int i = 0; i < found.reruns; ++i) found.failed += judge(property_, *smallest_, backend_) ? 1 : 0;
    if (found.failed == 0 && first_failed_ > 0) {  // made too small to be seen again: keep what was found
      smallest_ = found_;
      violation_ = found_violation_;
      found.failed = first_failed_;
      accepted_shrinks_ = 0;
    }
    if (outcome.status != Status::interrupted)
      outcome.status = found.failed == found.reruns ? Status::violated : Status::flaky;
    found.contract = violation_->property;
    found.sentence = violation_->sentence;
    found.expected = violation_->expected;
    found.found = violation_->found;
    found.picture = picture_of(property_, *smallest_, &backend_, found.reruns);
    found.after_cases = outcome.cases;
    found.shrinks = accepted_shrinks_;
    found.summary = smallest_->show();
    found.table = smallest_->table();
    found.json = case_file_text(property_, *smallest_, backend_.name(),
                                found.contract + ": " + found.sentence, options_.seed);
    found.unshrunk_path = unshrunk_path_;
    found.shrunk_path = save_case(options_.save_dir, property_, backend_.name(), "shrunk", found.json);
    if (!found.shrunk_path.empty())
      found.replay =
          "eplora check --backend " + std::string(backend_.name()) + " --replay " + found.shrunk_path;
    outcome.counterexample = std::move(found);
  }

  const PropertyDefinition& property_;
  Backend& backend_;
  const RunOptions& options_;
  const Clock::time_point start_;
  int wanted_ = 0;
  CasePtr first_;  // what several threads found
  contract::Verdict first_violation_;
  CasePtr found_;  // before it was made smaller
  contract::Verdict found_violation_;
  int first_failed_ = 0;
  bool flaky_ = false;
  CasePtr smallest_;
  contract::Verdict violation_;
  Clock::time_point shrink_until_;
  std::string unshrunk_path_;
  std::int64_t tried_shrinks_ = 0, accepted_shrinks_ = 0;
};

}  // namespace

contract::Verdict judge(const PropertyDefinition& property, const Case& c, Backend& backend) {
  note_in_journal(property, c, backend.name());
  try {
    return property.check(c, backend);
  } catch (const GuardViolation& e) {
    return contract::Violation{"guard", e.what(), -1, "writes inside the outputs alone, inputs unchanged",
                               "another write"};
  } catch (const std::exception& e) {
    return contract::Violation{"exception", std::string("the operation threw: ") + e.what(), -1, "a result",
                               "an exception"};
  }
}

Outcome run_property(const PropertyInfo& property, Backend& backend, const RunOptions& options) {
  Run run(definition_of(property.full_name()), backend, options);
  run.execute();
  return std::move(run.outcome);
}

}  // namespace eplora::suite
