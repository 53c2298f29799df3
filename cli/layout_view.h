// SPDX-License-Identifier: Apache-2.0
// What `eplora layout show` shows, in whichever form: a deployment, the sizes it cuts, and the ways of the
// example token. The tables here serve the terminal and the page.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/table.h"
#include "reference/layout/token_path.h"

namespace eplora {

struct LayoutView {
  std::string title;  ///< the layout as the user wrote it, a file by its name
  Deployment deployment;
  std::int64_t intermediate = 0;         ///< I of a routed expert
  std::vector<std::int32_t> moe_layers;  ///< of the model; empty when no model was named
  std::optional<std::int64_t> tokens;    ///< T, when asked for
  std::vector<TokenPath> paths;          ///< one a class
  bool path_asked = false;               ///< the user named the token; else it is an example for the page
  std::int64_t shared_columns(const LayerClass& c) const;  ///< of one shared expert
};

/// Reads layout and model. Throws `InvalidArgument` where sizes are missing or do not divide.
LayoutView layout_view(const LayoutShowOptions& options);

/// "moe_dp=1 x moe_ep=2 x moe_tp=2.  128 experts, linear placement.  768 columns.": what is cut, and how.
std::string class_sentence(const LayoutView& view, const LayerClass& c);
/// "layers 0-3", "all layers with experts", "all other layers with experts".
std::string layers_sentence(const LayoutView& view, const LayerClass& c);
/// "1 shared expert of 768 columns, whole on every rank"; empty where there is none.
std::string shared_sentence(const LayoutView& view, const LayerClass& c);
/// "attention: dp=4 x tp=2.  Tokens in 4 parts over dp; heads over tp.": what stands where outside the
/// experts.
std::string attention_sentence(const LayoutView& view);

struct NamedTable {
  std::string name;  ///< empty for the only one
  Table table;
};
/// One table; with several classes one of the ranks and one a class.
std::vector<NamedTable> rank_tables(const LayoutView& view);

/// Everything above for machines.
void add_layout(nlohmann::ordered_json& document, const LayoutView& view);

}  // namespace eplora
