// SPDX-License-Identifier: Apache-2.0
#include "property_tests/suite/journal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include "property_tests/suite/journal_hook.h"
#include "property_tests/suite/picture.h"
#include "reference/check.h"

namespace eplora::suite {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kJournalBytes = std::size_t{64} << 20;  // a sparse file: only what is used is there

Journal* kept = nullptr;  // by this process

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text << std::flush;
  if (!file) reject("file", path.string(), "one that can be written");
}

}  // namespace

/// What stands in the file. The rest of it is the text.
struct Journal::Page {
  volatile std::int64_t cases, length;
  char* text() { return reinterpret_cast<char*>(this + 1); }
};

Journal::Journal(const std::filesystem::path& path, bool create) {
  const int file = open(path.c_str(), create ? O_RDWR | O_CREAT | O_TRUNC : O_RDWR, 0600);
  if (file < 0 || (create && ftruncate(file, kJournalBytes) != 0))
    throw std::runtime_error("the journal " + path.string() + " cannot be opened");
  void* const memory = mmap(nullptr, kJournalBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) throw std::runtime_error("the journal " + path.string() + " cannot be mapped");
  page_ = static_cast<Page*>(memory);
}

Journal::~Journal() { munmap(page_, kJournalBytes); }

std::int64_t Journal::cases() const { return page_->cases; }

std::string Journal::last_case() const { return {page_->text(), static_cast<std::size_t>(page_->length)}; }

void Journal::begin_case(const std::string& case_file) {
  const bool fits = case_file.size() <= kJournalBytes - sizeof(Page);
  page_->length = 0;
  if (fits) std::copy(case_file.begin(), case_file.end(), page_->text());
  page_->length = fits ? static_cast<std::int64_t>(case_file.size()) : 0;
  page_->cases = page_->cases + 1;
}

void keep_journal(Journal* journal) { kept = journal; }

void note_in_journal(const PropertyDefinition& property, const Case& c, std::string_view backend) {
  if (kept != nullptr) kept->begin_case(case_file_text(property, c, backend, "", 0));
}

Counterexample settle_lost_case(const Journal& journal, const std::string& backend, const std::string& kind,
                                const std::string& sentence, const RunOptions& options,
                                const std::function<bool(const std::filesystem::path&)>& runs_again) {
  const nlohmann::json lost = nlohmann::json::parse(journal.last_case());
  const PropertyDefinition& property = definition_of(lost.at("property").get<std::string>());
  CasePtr smallest = case_of_file(property, lost);
  const auto text_of = [&](const Case& c) {
    return case_file_text(property, c, backend, kind + ": " + sentence, options.seed);
  };
  Counterexample found;
  found.contract = kind;
  found.sentence = sentence;
  found.after_cases = journal.cases();
  found.unshrunk_path = save_case(options.save_dir, property, backend, "unshrunk", text_of(*smallest));

  const std::filesystem::path trial = std::filesystem::path(options.save_dir) / "trial.json";
  const auto ends_so = [&](const Case& c) {
    write(trial, text_of(c));
    return runs_again(trial);
  };
  const Clock::time_point until = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                                     std::chrono::duration<double>(options.shrink_limit));
  // What came back once may not come back again: then candidates get several chances, as many as a rerun.
  const int reruns = std::max(options.reruns, 1);
  int first_failed = 0;
  for (int i = 0; i < reruns && options.shrink_limit > 0; ++i) first_failed += ends_so(*smallest) ? 1 : 0;
  const int chances = first_failed < reruns ? reruns : 1;
  const CasePtr as_found = smallest;
  Progress progress{&property.info, journal.cases(), journal.cases(), 0, true, 0};
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (const auto& make : smallest->shrinks()) {
      if (Clock::now() > until) break;
      const CasePtr candidate = make();
      if (!candidate) continue;
      ++progress.shrinks;
      if (options.progress) options.progress(progress);
      bool ended_so = false;
      for (int i = 0; i < chances && !ended_so; ++i) ended_so = ends_so(*candidate);
      if (!ended_so) continue;
      smallest = candidate;  // the list of its shrinks is another
      ++found.shrinks;
      smaller = true;
      break;
    }
  }
  found.reruns = reruns;
  for (int i = 0; i < found.reruns; ++i) found.failed += ends_so(*smallest) ? 1 : 0;
  if (found.failed == 0 && first_failed > 0) {
    smallest = as_found;
    found.failed = first_failed;
    found.shrinks = 0;
  }
  std::filesystem::remove(trial);

  found.summary = smallest->show();
  found.table = smallest->table();
  found.json = text_of(*smallest);
  found.picture = picture_of(property, *smallest, nullptr, 1);
  found.shrunk_path = save_case(options.save_dir, property, backend, "shrunk", found.json);
  found.replay = "eplora check --backend " + backend + " --replay " + found.shrunk_path;
  return found;
}

}  // namespace eplora::suite
