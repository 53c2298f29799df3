// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/record.h"

#include <algorithm>
#include <limits>

#include "benchmarks/statistics.h"

namespace eplora::bench {

double TimingRecord::median_us() const { return median(samples_us); }
double FloorRecord::median_us() const { return median(samples_us); }

namespace {

std::string hash_of_parts(const std::vector<PartDigests>& parts, Sha256::Digest PartDigests::*which) {
  std::vector<Sha256::Digest> digests;
  for (const PartDigests& part : parts) digests.push_back(part.*which);
  return hex(sha256_of_parts(digests));
}

}  // namespace

std::string ShapeRecord::inputs_sha256() const { return hash_of_parts(parts, &PartDigests::inputs); }
std::string ShapeRecord::outputs_sha256() const { return hash_of_parts(parts, &PartDigests::outputs); }

const TimingRecord* ShapeRecord::timing(const std::string& backend) const {
  const auto found = std::ranges::find(timings, backend, &TimingRecord::backend);
  return found == timings.end() ? nullptr : &*found;
}

double Record::empty_us() const {
  double least = std::numeric_limits<double>::infinity();
  for (const FloorRecord& floor : floors)
    if (!floor.is_copy) least = std::min(least, floor.median_us());
  return least;
}

double Record::copy_gb_per_s() const {
  double most = 0;
  for (const FloorRecord& floor : floors)
    if (floor.is_copy) most = std::max(most, static_cast<double>(floor.bytes) / floor.median_us() * 1e-3);
  return most;
}

double Record::floor_us(std::int64_t bytes) const {
  return std::max(empty_us(), static_cast<double>(bytes) / copy_gb_per_s() * 1e-3);
}

const ShapeRecord* Record::find(Suite suite, const std::string& name, Pattern pattern) const {
  for (const ShapeRecord& shape : shapes)
    if (shape.suite == suite && shape.name() == name && shape.pattern == pattern) return &shape;
  return nullptr;
}

}  // namespace eplora::bench
