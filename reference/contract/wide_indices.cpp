// SPDX-License-Identifier: Apache-2.0
// P15 on a host: ten rows of ids in a mapping of 28 GB of address space, of which only the touched pages
// exist. The mapping reaches 2^31 elements below the base pointer, so that an offset that wrapped reads a
// wrong id, not a fault.
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "reference/contract/callables.h"
#include "reference/contract/sentence.h"

namespace eplora::contract {
namespace {

class SparseMapping {
 public:
  explicit SparseMapping(std::size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data_ == MAP_FAILED)
      throw std::runtime_error("P15 needs " + std::to_string(bytes) +
                               " bytes of address space: " + std::strerror(errno));
    madvise(data_, bytes, MADV_NOHUGEPAGE);  // 4 KB a touched row, not 2 MB; an old kernel may decline
  }
  ~SparseMapping() { munmap(data_, bytes_); }
  SparseMapping(const SparseMapping&) = delete;
  SparseMapping& operator=(const SparseMapping&) = delete;
  std::int32_t* data() const { return static_cast<std::int32_t*>(data_); }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

}  // namespace

Verdict p15_wide_indices(
    const std::function<std::vector<std::int32_t>(const std::int32_t* base, std::int64_t rows,
                                                  std::int64_t cols, std::int64_t row_stride)>& run,
    const std::function<std::int32_t(std::int32_t id)>& expected) {
  // Row 4 stands across 2^31 and row 8 across 2^32 elements; row 9 lies past both.
  constexpr std::int64_t kRows = 10, kCols = 16, kRowStride = (std::int64_t{1} << 29) - 1;
  constexpr std::int64_t kBelow = std::int64_t{1} << 31,
                         kElements = kBelow + (kRows - 1) * kRowStride + kCols;
  const SparseMapping mapping(kElements * sizeof(std::int32_t));
  std::int32_t* const base = mapping.data() + kBelow;
  for (std::int64_t slot = 0; slot < kRows * kCols; ++slot)
    base[slot / kCols * kRowStride + slot % kCols] = static_cast<std::int32_t>(slot + 1);

  const std::vector<std::int32_t> result = run(base, kRows, kCols, kRowStride);
  if (static_cast<std::int64_t>(result.size()) != kRows * kCols)
    return violation("P15", -1, "length of the result", std::to_string(kRows * kCols),
                     std::to_string(result.size()));
  for (std::int64_t slot = 0; slot < kRows * kCols; ++slot) {
    const std::int32_t id = static_cast<std::int32_t>(slot + 1), want = expected(id);
    const std::int64_t offset = slot / kCols * kRowStride + slot % kCols;
    if (result[slot] != want)
      return violation("P15", slot,
                       slot_words(slot, kCols) + " at element offset " + std::to_string(offset) + " has id " +
                           std::to_string(id) + "; its result",
                       std::to_string(want), std::to_string(result[slot]));
    if (base[offset] != id)
      return violation("P15", slot, slot_words(slot, kCols) + ", an input, after the run", std::to_string(id),
                       std::to_string(base[offset]));
  }
  return std::nullopt;
}

}  // namespace eplora::contract
