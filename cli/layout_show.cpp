// SPDX-License-Identifier: Apache-2.0
// `eplora layout show`: what every rank of a layout owns, as tables, as JSON, as a picture and as a page.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/formats/atomic_file.h"
#include "cli/json_output.h"
#include "cli/layout_page.h"
#include "cli/layout_svg.h"
#include "cli/layout_text.h"
#include "cli/layout_view.h"
#include "cli/token_path_picture.h"

namespace eplora {
namespace {

void print_view(const LayoutView& view, const Output& output) {
  const Deployment& d = view.deployment;
  fmt::print("{}\n", styled("Layout " + view.title, Style::heading, output.color));
  fmt::print("ranks       {} (of a mesh the last axis varies fastest)\n", d.num_ranks);
  if (d.spec.grids.size() > 1) fmt::print("outside     {}\n", attention_sentence(view));
  for (const LayerClass& c : d.classes) {
    if (d.classes.size() > 1 || c.stages > 1)
      fmt::print("class       {}: {}\n", c.spec.name, layers_sentence(view, c));
    fmt::print("{}     {}\n", d.spec.grids.size() > 1 ? "experts" : "mesh   ", class_sentence(view, c));
    if (const std::string shared = shared_sentence(view, c); !shared.empty())
      fmt::print("shared      {}\n", shared);
    fmt::print("a rank      {}\n", describe_count(describe_expert_counts(c.layout.placement), "expert"));
    fmt::print("recombine   {}\n", describe_recombination(c));
  }
  for (const NamedTable& one : rank_tables(view)) {
    fmt::print("\n");
    if (!one.name.empty()) fmt::print("{}\n", styled(one.name, Style::heading, output.color));
    fmt::print("{}", one.table.render(output.color));
  }
  for (std::size_t c = 0; view.path_asked && c < view.paths.size(); ++c)
    fmt::print("\n{}", token_path_text(view, c, output.color));
}

}  // namespace

int run_layout_show(const LayoutShowOptions& options, const Output& output) {
  const LayoutView view = layout_view(options);
  if (!options.svg.empty()) write_text_file(options.svg, layout_svg(view, SvgUse::file));
  if (!options.html.empty()) write_text_file(options.html, layout_page(view));
  if (output.json) {
    nlohmann::ordered_json document = json_document("layout_show");
    document["schema"] = "eplora.layout_show/2";  // 1 knew one mesh only
    add_layout(document, view);
    print_json(document);
  } else {
    print_view(view, output);
  }
  for (const std::string& written : {options.svg, options.html})
    if (!written.empty()) fmt::print(stderr, "wrote {}\n", written);
  return kAgreement;
}

}  // namespace eplora
