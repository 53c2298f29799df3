// SPDX-License-Identifier: Apache-2.0
// Smaller trials of a layout: axes divided over all grids at once, experts taken away, features switched off,
// batches cut. Greedy: the first smaller trial that is still broken becomes the next start.
#include <algorithm>
#include <limits>
#include <optional>

#include "property_tests/suite/layout_proofs.h"
#include "reference/check.h"

namespace eplora::suite {
namespace {

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::int64_t extent(const DeploymentSpec& spec, const LayerClassSpec& c) {
  std::int64_t ep = 1;
  for (const GridSpec& grid : spec.grids)
    if (grid.name == c.grid)
      for (const Axis& axis : grid.axes) ep *= has(c.sharding.experts, axis.name) ? axis.size : 1;
  return ep;
}

/// A table for fewer EP ranks or experts: rows cut, experts that stand nowhere renumbered away.
void trim_table(ExpertPlacementSpec& placement, std::int64_t ep, std::int32_t without = -1) {
  placement.table.resize(ep);
  std::vector<std::int32_t> name(placement.num_experts, -1);
  for (const auto& row : placement.table)
    for (const std::int32_t e : row)
      if (e != without) name.at(e) = 0;
  std::int32_t next = 0;
  for (std::int32_t& one : name)
    if (one == 0) one = next++;
  for (auto& row : placement.table) {
    std::erase_if(row, [&](std::int32_t e) { return name.at(e) < 0; });
    for (std::int32_t& e : row) e = name[e];
  }
  placement.num_experts = next;
}

/// After an axis changed: placements that fit the new number of EP ranks.
void fit_placements(DeploymentSpec& spec) {
  for (LayerClassSpec& c : spec.classes) {
    ExpertPlacementSpec& p = c.placement;
    const std::int64_t ep = extent(spec, c);
    if (p.rule == PlacementRule::table) trim_table(p, ep);
    if (p.rule != PlacementRule::redundant && p.rule != PlacementRule::wrap_around) continue;
    // At most E slots a rank, and as many as before modulo ep.
    while (p.redundant >= ep && (p.num_experts + p.redundant) / ep > p.num_experts)
      p.redundant -= static_cast<std::int32_t>(ep);
  }
}

/// `spec` with one axis of each grid divided by `by`, over all choices of axes.
void divided(const DeploymentSpec& spec, std::int32_t by, std::size_t grid,
             std::vector<DeploymentSpec>& out) {
  if (grid == spec.grids.size()) {
    out.push_back(spec);
    fit_placements(out.back());
    return;
  }
  for (std::size_t a = 0; a < spec.grids[grid].axes.size(); ++a) {
    if (spec.grids[grid].axes[a].size % by != 0) continue;
    DeploymentSpec next = spec;
    next.grids[grid].axes[a].size /= by;
    divided(next, by, grid + 1, out);
  }
}

std::vector<DeploymentSpec> smaller_meshes(const DeploymentSpec& spec) {
  std::vector<DeploymentSpec> out;
  std::int64_t ranks = 1;
  for (const Axis& axis : spec.grids.front().axes) ranks *= axis.size;
  for (std::int64_t by = ranks; by >= 2; --by) {
    if (ranks % by != 0 || by > std::numeric_limits<std::int32_t>::max()) continue;
    divided(spec, static_cast<std::int32_t>(by), 0, out);
  }
  return out;
}

void drop_axis(std::vector<std::string>& names, const std::string& axis) { std::erase(names, axis); }

/// Axes of size one, grids that nobody uses, and classes other than the one on trial.
std::vector<DeploymentSpec> simpler_grids(const LayoutTrial& trial) {
  std::vector<DeploymentSpec> out;
  const DeploymentSpec& spec = trial.spec;
  if (spec.classes.size() > 1) {
    DeploymentSpec one = spec;
    if (one.attention.grid.empty())
      one.attention = {spec.classes.front().grid, spec.classes.front().sharding.tokens, {}};
    std::erase_if(one.classes, [&](const LayerClassSpec& c) { return c.name != trial.layer_class; });
    out.push_back(one);
  }
  if (!spec.attention.grid.empty()) {
    DeploymentSpec plain = spec;
    plain.attention = {};
    out.push_back(plain);
  }
  for (std::size_t g = 0; g < spec.grids.size(); ++g) {
    const std::string& name = spec.grids[g].name;
    const bool used =
        spec.attention.grid == name || std::any_of(spec.classes.begin(), spec.classes.end(),
                                                   [&](const LayerClassSpec& c) { return c.grid == name; });
    if (!used) {
      out.push_back(spec);
      out.back().grids.erase(out.back().grids.begin() + static_cast<std::ptrdiff_t>(g));
      continue;
    }
    for (const Axis& axis : spec.grids[g].axes) {
      if (axis.size != 1) continue;
      DeploymentSpec without = spec;
      std::erase(without.grids[g].axes, axis);
      if (without.attention.grid == name) {
        drop_axis(without.attention.tokens, axis.name);
        drop_axis(without.attention.heads, axis.name);
      }
      for (LayerClassSpec& c : without.classes) {
        if (c.grid != name) continue;
        for (auto* axes :
             {&c.sharding.tokens, &c.sharding.experts, &c.sharding.intermediate, &c.sharding.hidden,
              &c.sharding.lora_rank, &c.sharding.layers, &c.shared_experts.axes})
          drop_axis(*axes, axis.name);
        if (c.sum_over) drop_axis(*c.sum_over, axis.name);
      }
      out.push_back(without);
    }
  }
  return out;
}

/// Fewer experts, fewer slots, features off.
std::vector<LayerClassSpec> simpler_classes(const DeploymentSpec& spec, const LayerClassSpec& c) {
  std::vector<LayerClassSpec> out;
  const auto add = [&](auto change) {
    out.push_back(c);
    change(out.back());
    if (out.back() == c) out.pop_back();
  };
  const auto ep = static_cast<std::int32_t>(extent(spec, c));
  const std::int32_t E = c.placement.num_experts;
  if (c.placement.rule == PlacementRule::table) {
    for (std::int32_t e = E - 1; E > 1 && e >= 0; --e)
      add([&](LayerClassSpec& d) { trim_table(d.placement, ep, e); });
    for (std::size_t q = 0; q < c.placement.table.size(); ++q)
      for (std::size_t j = 0; j < c.placement.table[q].size(); ++j)
        add([&](LayerClassSpec& d) {
          auto& row = d.placement.table[q];
          row.erase(row.begin() + static_cast<std::ptrdiff_t>(j));
        });
  } else {
    const bool slots =
        c.placement.rule == PlacementRule::redundant || c.placement.rule == PlacementRule::wrap_around;
    for (std::int32_t fewer = 1; fewer < E; fewer = fewer < E / 2 ? E / 2 : fewer + 1) {
      if (!slots) add([&](LayerClassSpec& d) { d.placement.num_experts = fewer; });
      const std::int64_t most = std::min(std::int64_t{fewer} * ep, std::int64_t{c.placement.redundant} + E);
      for (std::int32_t more = 0; slots && more <= most; ++more)
        add([&](LayerClassSpec& d) { d.placement.num_experts = fewer, d.placement.redundant = more; });
    }
    if (slots && c.placement.redundant >= ep) add([&](LayerClassSpec& d) { d.placement.redundant -= ep; });
  }
  add([](LayerClassSpec& d) {
    d.placement.rule = PlacementRule::linear, d.placement.redundant = 0, d.placement.table.clear();
  });
  add([](LayerClassSpec& d) { d.placement.replicas = ReplicaRule::slot; });
  add([](LayerClassSpec& d) { d.weight_form = WeightForm::stacked, d.interleave_block = 1; });
  add([](LayerClassSpec& d) { d.padding = {}; });
  add([](LayerClassSpec& d) { d.shared_experts = {}; });
  add([](LayerClassSpec& d) { d.shared_experts.count = std::min(d.shared_experts.count, 1); });
  add([](LayerClassSpec& d) { d.shared_outer = false; });
  add([](LayerClassSpec& d) { d.sum_over.reset(); });
  for (std::size_t a = 0; c.sum_over && a < c.sum_over->size(); ++a)
    add([&](LayerClassSpec& d) { d.sum_over->erase(d.sum_over->begin() + static_cast<std::ptrdiff_t>(a)); });
  for (auto axes : {&ClassSharding::hidden, &ClassSharding::lora_rank, &ClassSharding::layers,
                    &ClassSharding::tokens, &ClassSharding::experts, &ClassSharding::intermediate})
    add([&](LayerClassSpec& d) {
      (d.sharding.*axes).clear();
      if (axes == &ClassSharding::experts) {
        DeploymentSpec changed = spec;
        changed.classes = {d};
        fit_placements(changed);
        d = changed.classes.front();
      }
    });
  return out;
}

std::vector<DeployedSizes> smaller_sizes(const DeployedSizes& sizes) {
  std::vector<DeployedSizes> out;
  const auto lower = [&](auto DeployedSizes::*field, std::int64_t least) {
    const std::int64_t now = sizes.*field;
    std::vector<std::int64_t> tries = {least, now / 2, now - 1};
    for (const std::int64_t value : tries) {
      if (value < least || value >= now) continue;
      out.push_back(sizes);
      out.back().*field = static_cast<std::remove_reference_t<decltype(sizes.*field)>>(value);
    }
  };
  lower(&DeployedSizes::tokens, 0);
  lower(&DeployedSizes::top_k, 1);
  lower(&DeployedSizes::max_loras, 0);
  lower(&DeployedSizes::layer, 0);
  lower(&DeployedSizes::num_layers, 1);
  lower(&DeployedSizes::hidden, 1);
  lower(&DeployedSizes::intermediate, 1);
  lower(&DeployedSizes::max_lora_rank, 1);
  if (sizes.sentinels) {
    out.push_back(sizes);
    out.back().sentinels = false;
  }
  return out;
}

/// What "smaller" means; every step of the search lowers it.
std::int64_t measure(const LayoutTrial& trial) {
  std::int64_t sum = 0, ranks = 1;
  for (const Axis& axis : trial.spec.grids.front().axes) ranks *= axis.size;
  for (const GridSpec& grid : trial.spec.grids) sum += 200 + 40 * static_cast<std::int64_t>(grid.axes.size());
  sum += trial.spec.attention.grid.empty() ? 0 : 100;
  for (const LayerClassSpec& c : trial.spec.classes) {
    std::int64_t places = c.placement.num_experts + c.placement.redundant;
    for (const auto& row : c.placement.table) places += static_cast<std::int64_t>(row.size());
    sum += 500 + 60 * places + (c.placement.rule != PlacementRule::linear ? 50 : 0) +
           (c.placement.replicas != ReplicaRule::slot ? 20 : 0) +
           (c.weight_form != WeightForm::stacked ? 30 : 0) + (c.padding != PaddingSpec{} ? 30 : 0) +
           30 * c.shared_experts.count + (c.shared_outer ? 10 : 0) +
           (c.sum_over ? 10 + 10 * static_cast<std::int64_t>(c.sum_over->size()) : 0);
    const ClassSharding& cut = c.sharding;
    for (const auto& axes :
         {cut.tokens, cut.experts, cut.intermediate, cut.hidden, cut.lora_rank, cut.layers})
      sum += 10 * static_cast<std::int64_t>(axes.size());
  }
  const DeployedSizes& s = trial.sizes;
  return sum + 1000 * ranks + 12 * s.tokens + 12 * s.top_k + 3 * s.hidden + 3 * s.intermediate +
         6 * s.max_loras + 3 * s.max_lora_rank + 12 * s.num_layers + s.layer + (s.sentinels ? 2 : 0) +
         s.shared_intermediate;
}

/// `trial` with sizes that fit its class; nothing where the description is not legal.
std::optional<LayoutTrial> fitted(LayoutTrial trial) {
  try {
    const Deployment deployment = make_deployment(trial.spec);
    trial.sizes = fitting_sizes(deployment.class_named(trial.layer_class), trial.sizes);
    return trial;
  } catch (const InvalidArgument&) {
    return std::nullopt;
  }
}

std::vector<LayoutTrial> smaller(const LayoutTrial& trial) {
  std::vector<LayoutTrial> out;
  const auto with_spec = [&](DeploymentSpec spec) {
    out.push_back(trial);
    out.back().spec = std::move(spec);
  };
  for (DeploymentSpec& spec : smaller_meshes(trial.spec)) with_spec(std::move(spec));
  for (DeploymentSpec& spec : simpler_grids(trial)) with_spec(std::move(spec));
  for (std::size_t i = 0; i < trial.spec.classes.size(); ++i)
    for (LayerClassSpec& c : simpler_classes(trial.spec, trial.spec.classes[i])) {
      DeploymentSpec spec = trial.spec;
      spec.classes[i] = std::move(c);
      with_spec(std::move(spec));
    }
  for (const DeployedSizes& sizes : smaller_sizes(trial.sizes)) {
    out.push_back(trial);
    out.back().sizes = sizes;
  }
  return out;
}

/// Whether a smaller case shows the same thing. Necessity asks many questions, and a case with no adapters or
/// no tokens answers some of them wrongly on its own account: it must be the same sum and the same axis.
bool same_complaint(Proof proof, const contract::Violation& first, const contract::Violation& now) {
  const auto subject = [](const std::string& sentence) { return sentence.substr(0, sentence.find(':')); };
  return proof != Proof::necessity || subject(first.sentence) == subject(now.sentence);
}

}  // namespace

SmallestTrial smallest(Proof proof, const LayoutTrial& trial, const Spoil& spoil,
                       const reference::LayerSteps& steps) {
  constexpr int kMostTried = 20000;
  const auto still_broken = [&](const LayoutTrial& candidate) -> contract::Verdict {
    try {
      return prove(proof, resolve(candidate, spoil), steps);
    } catch (const InvalidArgument&) {  // no deployment of these sizes
      return std::nullopt;
    }
  };
  const contract::Verdict first = still_broken(trial);
  if (!first) reject("proof", to_string(proof), "it must be broken on the trial that is made smaller");
  SmallestTrial result{trial, *first, 0};
  for (bool moved = true; moved && result.tried < kMostTried;) {
    moved = false;
    for (const LayoutTrial& candidate : smaller(result.trial)) {
      const std::optional<LayoutTrial> fits = fitted(candidate);
      if (!fits || measure(*fits) >= measure(result.trial)) continue;
      ++result.tried;
      contract::Verdict bad = still_broken(*fits);
      if (!bad || !same_complaint(proof, *first, *bad)) continue;
      result.trial = *fits;
      result.violation = *bad;
      moved = true;
      break;
    }
  }
  return result;
}

DeploymentSpec shrunk_deployment(const DeploymentSpec& spec, std::int32_t max_ranks) {
  constexpr std::int32_t kFewExperts = 16;
  DeploymentSpec now = spec;
  const auto legal = [](const DeploymentSpec& candidate) {
    try {
      const Deployment deployment = make_deployment(candidate);
      for (const LayerClass& c : deployment.classes) fitting_intermediate(c, 1);
      return true;
    } catch (const InvalidArgument&) {
      return false;
    }
  };
  const auto largest_axis = [](const DeploymentSpec& one) {
    std::int64_t sum = 0;  // squares: halving the largest axis lowers it most
    for (const GridSpec& grid : one.grids)
      for (const Axis& axis : grid.axes) sum += std::int64_t{axis.size} * axis.size;
    return sum;
  };
  for (;;) {
    std::int64_t ranks = 1;
    for (const Axis& axis : now.grids.front().axes) ranks *= axis.size;
    if (ranks <= max_ranks) break;
    std::int32_t by = 2;
    while (ranks % by != 0) ++by;
    std::vector<DeploymentSpec> candidates;
    divided(now, by, 0, candidates);
    std::erase_if(candidates, [&](const DeploymentSpec& one) { return !legal(one); });
    if (candidates.empty()) break;
    now = *std::min_element(candidates.begin(), candidates.end(),
                            [&](const auto& a, const auto& b) { return largest_axis(a) < largest_axis(b); });
  }
  for (LayerClassSpec& c : now.classes) {
    ExpertPlacementSpec& p = c.placement;
    while (p.rule != PlacementRule::table && p.num_experts > kFewExperts) {
      const ExpertPlacementSpec before = p;
      const auto ep = static_cast<std::int32_t>(extent(now, c));
      p.num_experts = std::max(p.num_experts / 2, 1);
      if (p.redundant > 0) {
        p.redundant = std::min(p.redundant, ep);
        p.redundant += (ep - (p.num_experts + p.redundant) % ep) % ep;
      }
      if (legal(now)) continue;
      p = before;
      break;
    }
  }
  return now;
}

}  // namespace eplora::suite
