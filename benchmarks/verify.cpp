// SPDX-License-Identifier: Apache-2.0
#include "benchmarks/verify.h"

#include <algorithm>

#include "benchmarks/parallel.h"
#include "benchmarks/routing_workload.h"
#include "benchmarks/slice_workload.h"
#include "benchmarks/synthetic.h"
#include "reference/check.h"

namespace eplora::bench {
namespace {

/// Shapes in an order drawn from `seed`, suites taking turns, so that a small sample has some of each.
std::vector<const ShapeRecord*> drawn_order(const Record& record, std::uint64_t seed) {
  std::vector<std::vector<const ShapeRecord*>> by_suite;
  for (const Suite suite : kSuites) {
    std::vector<const ShapeRecord*> shapes;
    for (const ShapeRecord& shape : record.shapes)
      if (shape.suite == suite) shapes.push_back(&shape);
    for (std::size_t i = shapes.size(); i > 1; --i)
      std::swap(shapes[i - 1],
                shapes[random_bits(seed, i + 4096 * (1 + static_cast<std::uint64_t>(suite))) % i]);
    by_suite.push_back(std::move(shapes));
  }
  std::vector<const ShapeRecord*> order;
  for (std::size_t turn = 0; order.size() < record.shapes.size(); ++turn)
    for (const auto& shapes : by_suite)
      if (turn < shapes.size()) order.push_back(shapes[turn]);
  return order;
}

/// The figures of a record that follow from its shape.
void require_consistent(const ShapeRecord& shape) {
  std::int64_t bytes = 0;
  if (shape.suite == Suite::slice) {
    validate(shape.slice);
    bytes = slice_bytes(shape.slice);
  } else {
    validate(shape.routing);
    bytes = routing_bytes(shape.suite, shape.routing);
  }
  if (bytes != shape.bytes)
    reject("bytes of " + std::string(to_string(shape.suite)) + " " + shape.name(),
           std::to_string(shape.bytes), "its shape gives " + std::to_string(bytes));
}

}  // namespace

std::vector<VerifiedPart> verify(const Record& record, int sample, std::uint64_t seed) {
  for (const ShapeRecord& shape : record.shapes) require_consistent(shape);
  std::vector<VerifiedPart> parts;
  const std::vector<const ShapeRecord*> order = drawn_order(record, seed);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto count = static_cast<int>(order[i]->parts.size());
    if (sample == 0)
      for (int part = 0; part < count; ++part) parts.push_back({order[i], part, false, false, {}});
    else if (parts.size() < static_cast<std::size_t>(sample))
      parts.push_back({order[i],
                       static_cast<int>(random_bits(~seed, i) % static_cast<std::uint64_t>(count)),
                       false,
                       false,
                       {}});
  }
  parallel_for(static_cast<std::int64_t>(parts.size()), [&](std::int64_t i) {
    VerifiedPart& part = parts[static_cast<std::size_t>(i)];
    const ShapeRecord& shape = *part.shape;
    part.computed = shape.suite == Suite::slice
                        ? slice_digests(shape.slice, part.part)
                        : routing_digests(shape.suite, shape.routing, shape.pattern, part.part);
    const PartDigests& recorded = shape.parts[static_cast<std::size_t>(part.part)];
    part.inputs_equal = part.computed.inputs == recorded.inputs;
    part.outputs_equal = part.computed.outputs == recorded.outputs;
  });
  return parts;
}

}  // namespace eplora::bench
