// SPDX-License-Identifier: Apache-2.0
// Slicing: an adapter cut for a rank into a slot of its buffers (contract, section 6).
#include <bit>

#include "optimized/guarded_run.h"
#include "property_tests/generators/slice_cases.h"
#include "property_tests/properties/properties.h"
#include "reference/check.h"
#include "reference/contract/callables.h"
#include "reference/contract/weights.h"
#include "reference/lora/slice.h"

namespace eplora::suite {
namespace {

using contract::Verdict;
using contract::Violation;

std::string place_of(const BufferShape& shape, std::size_t layer, BufferTensor tensor, std::int64_t element) {
  const std::int64_t per_slot = std::max<std::int64_t>(shape.slot_elements(tensor), 1);
  return "layer " + std::to_string(layer) + " " + std::string(to_string(tensor)) + ", slot " +
         std::to_string(element / per_slot) + ", element " + std::to_string(element % per_slot);
}

Verdict first_difference(const std::string& law, const LoraBuffers& got, const LoraBuffers& want) {
  const BufferShape& shape = want.shape();
  for (std::size_t n = 0; n < shape.layers.size(); ++n) {
    for (const BufferTensor tensor : kBufferTensors) {
      const auto a = got.bytes(n, tensor), b = want.bytes(n, tensor);
      if (a.size() != b.size())
        return Violation{law, place_of(shape, n, tensor, 0) + ": sizes differ", -1, std::to_string(b.size()),
                         std::to_string(a.size())};
      for (std::size_t i = 0; i < a.size(); ++i) {
        if (a[i] == b[i]) continue;
        const auto element = static_cast<std::int64_t>(i / bytes_of(shape.dtype));
        const float found = load_as_float(a.data(), shape.dtype, element);
        const float expected = load_as_float(b.data(), shape.dtype, element);
        return Violation{law,
                         place_of(shape, n, tensor, element) + " is " + std::to_string(found) +
                             ", expected " + std::to_string(expected),
                         element, std::to_string(expected), std::to_string(found)};
      }
    }
  }
  for (std::size_t i = 0; i < want.scales().size(); ++i)
    if (std::bit_cast<std::uint32_t>(got.scales()[i]) != std::bit_cast<std::uint32_t>(want.scales()[i]))
      return Violation{law,
                       "scale[" + std::to_string(i) + "] is " + std::to_string(got.scales()[i]) +
                           ", expected " + std::to_string(want.scales()[i]),
                       static_cast<std::int64_t>(i), std::to_string(want.scales()[i]),
                       std::to_string(got.scales()[i])};
  return std::nullopt;
}

/// The buffers of `rank` after the backend's load into `before`.
LoraBuffers load(const SliceStorage& storage, std::int32_t rank, LoraBuffers before, Backend& backend,
                 std::uint8_t poison = 0xA5) {
  GuardedRun(backend, poison).slice(storage.problem(rank, before.shape()), before);
  return before;
}

Verdict equals_reference(const SliceCase& c, Backend& backend) {
  const SliceStorage storage(c, make_layout(c.layout));
  LoraBuffers want = storage.buffers_before(c.rank);
  reference::slice(storage.problem(c.rank, want.shape()), want.view());
  return first_difference("differential", load(storage, c.rank, storage.buffers_before(c.rank), backend),
                          want);
}

Verdict holds_the_adapter(const SliceCase& c, Backend& backend) {
  const SliceStorage storage(c, make_layout(c.layout));
  const LoraBuffers before = storage.buffers_before(c.rank);
  const LoraBuffers after = load(storage, c.rank, before, backend);
  return contract::p10_buffers(storage.problem(c.rank, before.shape()), before, after, backend.form());
}

Verdict reassembles(const SliceCase& c, Backend& backend) {
  if (c.dtype != DType::f32) {  // a narrower buffer rounds; every weight in F32 comes back exactly
    SliceCase exact = c;
    exact.dtype = DType::f32;
    return reassembles(exact, backend);
  }
  const SliceStorage storage(c, backend.layout(c.layout));
  std::vector<LoraBuffers> buffers;
  buffers.reserve(storage.layout.places.size());
  for (std::int32_t rank = 0; rank < storage.layout.mesh.num_ranks(); ++rank)
    buffers.push_back(load(storage, rank, storage.buffers_before(rank), backend));
  return contract::p7_reassembly(storage.geometry, storage.layout, storage.adapter, c.slot, buffers);
}

contract::NamedBytes named(const std::string& name, std::span<const std::byte> bytes,
                           std::size_t element_size) {
  return {name, {bytes.begin(), bytes.end()}, element_size};
}

/// The loaded slot alone, as bytes.
contract::ResultBytes slot_bytes(const LoraBuffers& buffers, std::int32_t slot) {
  const BufferShape& shape = buffers.shape();
  contract::ResultBytes result;
  for (std::size_t n = 0; n < shape.layers.size(); ++n) {
    if (!shape.layers[n].layer_id) continue;
    for (const BufferTensor tensor : kBufferTensors) {
      if (!shape.active(n, tensor)) continue;
      const std::size_t bytes = static_cast<std::size_t>(shape.slot_elements(tensor)) * bytes_of(shape.dtype);
      result.push_back(named("layer " + std::to_string(n) + " " + std::string(to_string(tensor)),
                             buffers.bytes(n, tensor).subspan(static_cast<std::size_t>(slot) * bytes, bytes),
                             bytes_of(shape.dtype)));
    }
    for (int module = 0; module < 2; ++module) {
      if (!(module == 0 ? shape.layers[n].has_gate_up : shape.layers[n].has_down)) continue;
      const float scale = buffers.scale(n, module, slot);
      result.push_back(named("scale", std::as_bytes(std::span(&scale, 1)), sizeof(float)));
    }
  }
  return result;
}

Verdict nothing_of_before(const SliceCase& c, Backend& backend) {
  const SliceStorage storage(c, make_layout(c.layout));
  return contract::p13_unwritten_memory([&](std::uint8_t poison) {
    const LoraBuffers before(storage.shape(c.rank), poison);
    return slot_bytes(load(storage, c.rank, before, backend, poison), c.slot);
  });
}

Verdict determinism(const SliceCase& c, Backend& backend) {
  const SliceStorage storage(c, make_layout(c.layout));
  return contract::p14_determinism(
      [&] { return slot_bytes(load(storage, c.rank, storage.buffers_before(c.rank), backend), c.slot); }, 3);
}

/// One more layer in the adapter than the buffers know: to load the rest in silence would lose weights.
Verdict foreign_layer_is_refused(const SliceCase& c, Backend& backend) {
  SliceStorage storage(c, make_layout(c.layout));
  AdapterRecipe recipe;
  recipe.gate_rank = recipe.up_rank = recipe.down_rank = 1;
  recipe.fit(c.gated);
  AdapterStorage weights;
  const std::int32_t foreign = 99;
  storage.adapter.layers[foreign] = weights.expand(recipe, storage.geometry);
  const LoraBuffers before = storage.buffers_before(c.rank);
  LoraBuffers buffers = before;
  std::vector<std::byte> workspace;
  try {
    if (backend.memory_space() == MemorySpace::host) {
      const SliceProblem problem = storage.problem(c.rank, buffers.shape());
      workspace.resize(std::max<std::size_t>(backend.workspace_bytes(problem), 1));
      backend.slice(problem, buffers.view(), {workspace.data(), workspace.size(), nullptr});
    } else {
      GuardedRun(backend).slice(storage.problem(c.rank, buffers.shape()), buffers);
    }
  } catch (const InvalidArgument& e) {
    if (std::string(e.what()).find("layer " + std::to_string(foreign)) == std::string::npos)
      return Violation{"P16", std::string("the refusal does not name layer 99: ") + e.what(), -1, "layer 99",
                       e.what()};
    return first_difference("P16", buffers, before);
  }
  return Violation{"P16", "an adapter with layer 99, which no buffer takes, was loaded without a word", -1,
                   "a refusal that names layer 99", "no refusal"};
}

}  // namespace

std::vector<PropertyDefinition> slice_properties() {
  const std::vector<Operation> needs = {Operation::slice};
  PropertyDefinition reassembly = property(
      {"slice", "SlicesOfAllRanksReassembleTheWholeAdapter",
       "from all ranks' buffers the unsharded adapter can be put together again, exactly", "P7", 1000},
      needs, draw_slice, reassembles);
  reassembly.scale_apart = true;
  return {
      property({"slice", "TheSlotHoldsTheZeroPaddedAdapterAndNothingElseChanged",
                "after a load the slot equals the rank's cut of the adapter in every element, the rest is as "
                "before",
                "P10"},
               needs, draw_slice, holds_the_adapter),
      byte_property({"slice", "EqualsTheReference", "the buffers equal the reference's byte for byte", ""},
                    needs, draw_slice, equals_reference),
      std::move(reassembly),
      property({"slice", "NothingOfWhatStoodBeforeIsLeft", "two different contents before give an equal slot",
                "P10 P13"},
               needs, draw_slice, nothing_of_before),
      property({"slice", "EqualInputsGiveEqualBytes", "three loads give equal bytes", "P14"}, needs,
               draw_slice, determinism),
      property({"slice", "ALayerThatNoBufferTakesIsRefusedByName",
                "an adapter layer without a buffer is refused by name and nothing is written", "P16"},
               needs, draw_slice, foreign_layer_is_refused),
  };
}

}  // namespace eplora::suite
