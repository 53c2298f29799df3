// SPDX-License-Identifier: Apache-2.0
#include "cli/golden_run.h"

#include "reference/lora/sharded_moe_layer.h"

namespace eplora {

using reference::Matrix;

namespace {

OutputError error_of(const Matrix<double>& got, const Matrix<double>& want) {
  const Matrix<double> difference = got - want;
  return {difference.norm() / want.norm(), difference.cwiseAbs().maxCoeff() / want.cwiseAbs().maxCoeff()};
}

}  // namespace

FixtureRun::FixtureRun(const GoldenFixture& fixture) : fixture_(fixture) {
  for (const GoldenCase& golden : fixture.cases) {
    recorded_.push_back(
        Eigen::Map<const Matrix<float>>(golden.output.data(), fixture.num_tokens, fixture.geometry.hidden)
            .cast<double>());
    whole_.push_back(reference::moe_layer<double>(fixture.problem(golden)));
    whole_errors_.push_back(
        {golden.name,
         error_of(reference::moe_layer<float>(fixture.problem(golden)).cast<double>(), recorded_.back()),
         error_of(whole_.back(), recorded_.back()), 0});
  }
  data_.topk_ids = IdMatrix::of(fixture.topk_ids, fixture.top_k);
  data_.token_lora_mapping = fixture.cases.back().token_lora_mapping;  // the mixed batch
  data_.geometry = fixture.geometry;
  for (const PeftAdapter& adapter : fixture.adapters) data_.adapters.push_back(&adapter.adapter());
}

GoldenRow FixtureRun::row(const NamedLayout& named, const Backends& backends) const {
  GoldenRow row;
  row.layout = &named;
  for (std::size_t i = 0; i < fixture_.cases.size(); ++i) {
    const reference::MoeLayerProblem problem = fixture_.problem(fixture_.cases[i]);
    const Matrix<double> in_double = reference::sharded_moe_layer<double>(problem, named.layout);
    const Matrix<double> in_float = reference::sharded_moe_layer<float>(problem, named.layout).cast<double>();
    row.cases.push_back({fixture_.cases[i].name, error_of(in_float, recorded_[i]),
                         error_of(in_double, recorded_[i]), error_of(in_double, whole_[i]).frobenius});
  }
  for (const auto& backend : backends) row.backends.push_back(compare_backend(*backend, named.layout, data_));
  return row;
}

}  // namespace eplora
