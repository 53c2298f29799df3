// SPDX-License-Identifier: Apache-2.0
// A whole model on a cluster: several grids over the same ranks (attention and experts are usually cut
// differently), and for each class of layers how tokens, experts and weights are cut. `DeploymentSpec` is
// what a layout file says; `Deployment` is what it means. A class of layers is a `Layout` (layout.h) plus
// what a `Layout` does not know: other tensors' cuts, padding, shared experts, a rule that picks replicas.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reference/layout/layout.h"
#include "reference/layout/weight_form.h"

namespace eplora {

/// One arrangement of the ranks: axes from slowest to fastest.
struct GridSpec {
  std::string name;
  std::vector<Axis> axes;
  bool operator==(const GridSpec&) const = default;
};

/// Which axes of the class's grid cut what. tokens, experts, intermediate and layers exclude each other: an
/// axis stands in one of them, once. hidden and lora_rank cut tensors of the adapter alone and may name axes
/// of `intermediate` again (that is fully sharded LoRA), or axes that cut nothing.
struct ClassSharding {
  std::vector<std::string> tokens;
  std::vector<std::string> experts;
  std::vector<std::string> intermediate;
  std::vector<std::string> hidden;     ///< rows of down B (H), each rank writing its part of the output
  std::vector<std::string> lora_rank;  ///< rows of gate_up A (R), the shrink's output then gathered
  std::vector<std::string> layers;     ///< pipeline stages: the class's layers in contiguous parts
  bool operator==(const ClassSharding&) const = default;
};

enum class PlacementRule : std::uint8_t {
  linear,       ///< contiguous, the first `E % ep` ranks one more
  round_robin,  ///< expert e on EP rank `e % ep`
  table,        ///< as written
  redundant,    ///< physical slot p in [0, E + redundant), cut contiguously, holds expert `p % E`
  wrap_around   ///< slot s of EP rank q holds expert `(q*E/ep + s) % E`; `(E + redundant)/ep` slots a rank
};
std::string_view to_string(PlacementRule rule);

/// Which of an expert's c replicas (ordered by EP rank, local id) serves slot s of token t.
enum class ReplicaRule : std::uint8_t {
  slot,    ///< `s mod c` (contract, section 3)
  token,   ///< `t mod c`
  source,  ///< `d mod c`, d = the token shard that the token comes from: one fixed replica a source
  first    ///< always the first: replicas serve nothing
};
std::string_view to_string(ReplicaRule rule);

struct ExpertPlacementSpec {
  PlacementRule rule = PlacementRule::linear;
  std::int32_t num_experts = 0;                       ///< E, routed experts of the model
  std::int32_t redundant = 0;                         ///< redundant, wrap_around: slots beyond E
  std::vector<std::vector<std::int32_t>> table = {};  ///< table: global experts of each EP rank
  ReplicaRule replicas = ReplicaRule::slot;
  bool operator==(const ExpertPlacementSpec&) const = default;
};

enum class SharedExpertsKind : std::uint8_t {
  none,
  replicated,  ///< whole on every rank
  sharded,     ///< columns over `axes`
  fused        ///< extra expert ids `E .. E+count-1`, on every EP rank, after its routed experts
};
std::string_view to_string(SharedExpertsKind kind);

struct SharedExpertsSpec {
  SharedExpertsKind kind = SharedExpertsKind::none;
  std::int32_t count = 0;         ///< shared experts; >= 1 unless none
  std::int64_t intermediate = 0;  ///< columns of one; 0 = the routed experts' I
  std::vector<std::string> axes;  ///< sharded only
  bool operator==(const SharedExpertsSpec&) const = default;
};

/// Where zero columns go so that every rank's slice has a size its kernels take.
enum class PaddingPlace : std::uint8_t {
  each_rank,  ///< `I % P == 0`; each rank's `I/P` columns are followed by zeros up to the multiple
  end  ///< I is rounded up to a multiple of `P * multiple` and cut evenly: the last ranks hold the zeros
};
std::string_view to_string(PaddingPlace place);

struct PaddingSpec {
  std::int64_t multiple = 1;
  PaddingPlace place = PaddingPlace::each_rank;
  bool operator==(const PaddingSpec&) const = default;
};

struct LayerClassSpec {
  std::string name = "moe";
  std::string grid;                  ///< name of a grid
  std::vector<std::int32_t> layers;  ///< ids of the model's layers; empty = all that no class names
  ClassSharding sharding;
  ExpertPlacementSpec placement;
  WeightForm weight_form = WeightForm::stacked;
  std::int64_t interleave_block = 1;  ///< block_interleaved only
  bool shared_outer = false;
  PaddingSpec padding;
  SharedExpertsSpec shared_experts;
  /// Axes over which the engine's code sums outputs; nothing: those that cut experts or columns. A claim that
  /// the judges test: any other set makes the layout a wrong one, not an illegal one.
  std::optional<std::vector<std::string>> sum_over;
  bool operator==(const LayerClassSpec&) const = default;
};

/// Where a token stands before and after a MoE layer.
struct AttentionSpec {
  std::string grid;                 ///< empty: the first class's grid and its token axes
  std::vector<std::string> tokens;  ///< axes that cut tokens (data or context parallel)
  std::vector<std::string> heads;   ///< axes that cut heads (attention TP)
  bool operator==(const AttentionSpec&) const = default;
};

struct DeploymentSpec {
  std::string name;
  std::vector<GridSpec> grids;
  AttentionSpec attention;
  std::vector<LayerClassSpec> classes;
  bool operator==(const DeploymentSpec&) const = default;
};

/// Columns a rank holds: the model's columns `real`, followed by `padding` zero columns.
struct PaddedRange {
  Range real;
  std::int64_t padding = 0;
  std::int64_t width() const { return real.size() + padding; }
  bool operator==(const PaddedRange&) const = default;
};

/// A class of layers, resolved. `layout` answers for tokens, experts and evenly cut columns; plain data, so
/// that a deliberately wrong one is a value too.
struct LayerClass {
  LayerClassSpec spec;
  Layout layout;
  std::vector<std::int32_t> hidden_index, lora_rank_index, stage;  ///< `[num_ranks]`: index along those axes
  std::int32_t hidden_parts = 1, lora_rank_parts = 1, stages = 1;
  std::vector<std::int32_t> shared_index;  ///< `[num_ranks]`: index along the shared experts' axes
  std::int32_t shared_parts = 1;

  /// The rank's columns of a routed expert. Throws when the sizes do not divide as the padding asks.
  PaddedRange columns(std::int64_t intermediate, std::int32_t rank) const;
  /// Rows of down B: contiguous parts of H, uneven where H does not divide.
  Range hidden_rows(std::int64_t hidden, std::int32_t rank) const;
  /// Rows of gate_up A: `R % parts == 0`, else throws.
  Range lora_rank_rows(std::int64_t max_lora_rank, std::int32_t rank) const;
  /// Of `num_layers` layers of this class, those on the rank's pipeline stage.
  Range layers_of(std::int64_t num_layers, std::int32_t rank) const;
  /// Columns of one shared expert on the rank; throws when they do not divide.
  Range shared_columns(std::int64_t intermediate, std::int32_t rank) const;
  /// Which replica of `expert` serves slot `t*top_k + k`.
  std::int32_t replica_of(std::int32_t expert, std::int64_t t, std::int64_t k, std::int64_t top_k,
                          std::int32_t token_shard) const;
};

struct Deployment {
  DeploymentSpec spec;
  std::vector<Mesh> meshes;  ///< one a grid
  std::vector<LayerClass> classes;
  std::int32_t num_ranks = 1;
  /// `[num_ranks]`: which part of the tokens a rank holds outside the experts, of `home_parts`.
  std::vector<std::int32_t> home;
  std::int32_t home_parts = 1;

  const Mesh& mesh_of(std::string_view grid) const;
  const LayerClass& class_named(std::string_view name) const;
  /// Tokens that stand on `rank` before a MoE layer.
  Range home_tokens(std::int64_t num_tokens, std::int32_t rank) const;
};

/// Builds the deployment. Throws `InvalidArgument` for: no grid or class; a name used twice; grids of
/// different numbers of ranks; an unknown grid or axis; an axis that cuts twice; a layer in two classes; a
/// placement, padding or shared expert that the sizes do not allow.
Deployment make_deployment(const DeploymentSpec& spec);

/// The `LayoutSpec` of a class, replicas and wrapped slots written out as a table.
LayoutSpec layout_spec_of(const DeploymentSpec& spec, const LayerClassSpec& layer_class);

/// A deployment with one grid, one class, and nothing a `LayoutSpec` cannot say.
DeploymentSpec deployment_of(const LayoutSpec& layout, std::string name);

}  // namespace eplora
