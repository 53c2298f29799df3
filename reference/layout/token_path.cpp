// SPDX-License-Identifier: Apache-2.0
#include "reference/layout/token_path.h"

#include <algorithm>

#include "reference/check.h"
#include "reference/layout/class_plan.h"

namespace eplora {
namespace {

bool holds(const std::vector<std::int32_t>& ranks, std::int32_t rank) {
  return std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}

std::vector<std::string> wide(const Mesh& mesh, const std::vector<std::string>& axes) {
  std::vector<std::string> names;
  for (const std::string& axis : axes)
    if (mesh.size_of(axis) > 1) names.push_back(axis);
  return names;
}

/// Which part of `parts` of the batch the token is in.
std::int32_t part_of(std::int64_t token, std::int64_t tokens, std::int32_t parts) {
  std::int32_t part = 0;
  while (contiguous_part(tokens, parts, part).end <= token) ++part;
  return part;
}

void check_question(const LayerClass& c, const TokenQuestion& asked) {
  require_in_range("tokens", asked.tokens, 1, kMaxIndex);
  require_in_range("token", asked.token, 0, asked.tokens - 1);
  require_in_range("stage", asked.stage, 0, c.stages - 1);
  for (const std::int32_t id : asked.ids)
    require_in_range("expert id", id, 0, c.spec.placement.num_experts - 1);
}

SlotPath slot_path(const LayerClass& c, const TokenPath& path, std::int32_t expert, std::int64_t k,
                   std::int64_t top_k) {
  SlotPath slot;
  slot.expert = expert;
  slot.shared = expert >= c.spec.placement.num_experts;
  const std::vector<ExpertReplica>& replicas = c.layout.placement.replicas(expert);
  slot.replicas = static_cast<std::int32_t>(replicas.size());
  slot.replica = c.replica_of(expert, path.question.token, k, top_k, path.home_part);
  slot.ep_rank = replicas[slot.replica].ep_rank;
  slot.local_id = replicas[slot.replica].local_id;
  for (const std::int32_t rank : path.workers)
    if (c.layout.place(rank).ep_rank == slot.ep_rank) slot.ranks.push_back(rank);
  std::sort(slot.ranks.begin(), slot.ranks.end(), [&](std::int32_t a, std::int32_t b) {
    return c.layout.place(a).moe_tp_rank < c.layout.place(b).moe_tp_rank;
  });
  for (const std::int32_t rank : slot.ranks)
    slot.columns.push_back(c.columns(path.question.intermediate, rank));
  return slot;
}

}  // namespace

TokenPath token_path(const Deployment& deployment, const LayerClass& c, const TokenQuestion& asked) {
  check_question(c, asked);
  TokenPath path;
  path.question = asked;
  path.home_parts = deployment.home_parts;
  path.home_part = part_of(asked.token, asked.tokens, deployment.home_parts);
  path.token_shards = c.layout.place(0).token_shards;
  path.token_shard = part_of(asked.token, asked.tokens, path.token_shards);
  for (std::int32_t rank = 0; rank < deployment.num_ranks; ++rank)
    if (deployment.home[rank] == path.home_part && c.stage[rank] == asked.stage) path.home.push_back(rank);
  if (path.home.empty())  // the token comes from another stage's ranks
    for (std::int32_t rank = 0; rank < deployment.num_ranks; ++rank)
      if (deployment.home[rank] == path.home_part) path.home.push_back(rank);

  const Mesh& mesh = c.layout.mesh;
  const std::vector<std::string> summed = joined_axes(c.spec.sharding.experts, c.spec.sharding.intermediate);
  path.copies = 0;
  bool at_home = false;
  for (const std::vector<std::int32_t>& group : mesh.groups(summed)) {
    const std::int32_t first = group.front();
    if (c.layout.place(first).token_shard != path.token_shard || c.stage[first] != asked.stage) continue;
    if (path.copies++ == 0) path.workers = group;
    if (!at_home && holds(group, path.home.front())) {
      path.workers = group;
      at_home = true;
    }
  }
  path.sum_axes = wide(mesh, summed);
  path.gather_axes = wide(mesh, c.spec.sharding.tokens);
  for (const std::vector<std::int32_t>& group : mesh.groups(c.spec.sharding.tokens))
    if (holds(group, path.workers.front())) path.gathered = group;
  const bool fused = c.spec.shared_experts.kind == SharedExpertsKind::fused;
  const auto K = static_cast<std::int64_t>(asked.ids.size());
  const std::int64_t top_k = K + (fused ? c.spec.shared_experts.count : 0);
  for (std::int64_t k = 0; k < top_k; ++k)
    path.slots.push_back(slot_path(
        c, path, k < K ? asked.ids[k] : c.spec.placement.num_experts + static_cast<std::int32_t>(k - K), k,
        top_k));
  return path;
}

}  // namespace eplora
