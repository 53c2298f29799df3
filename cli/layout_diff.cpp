// SPDX-License-Identifier: Apache-2.0
// `eplora layout diff`: what moves between two layouts of one model (reference/price/reshard.h), as tables,
// as JSON and as a picture.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/formats/atomic_file.h"
#include "cli/json_output.h"
#include "cli/layout_input.h"
#include "cli/layout_text.h"
#include "cli/reshard_svg.h"
#include "cli/table.h"
#include "reference/price/reshard.h"

namespace eplora {
namespace {

constexpr std::size_t kFewRanks = 32;      // a table of ranks that can be read
constexpr std::size_t kFewMessages = 12;   // the largest, told to people
constexpr std::int32_t kManyRanks = 1024;  // up to here every message is kept

struct Diff {
  const LayoutDiffOptions& options;
  std::string model;
  std::int32_t ranks_before = 0, ranks_after = 0;
  Reshard moved;
  RankReshard sum;
  std::size_t worst_receiver = 0, worst_sender = 0;
  bool has_messages = false;

  std::int64_t needed() const { return sum.kept + sum.received.total(); }
  bool every_rank() const { return options.ranks || moved.ranks.size() <= kFewRanks; }
};

Diff diff_of(const LayoutDiffOptions& options) {
  const ModelConfig model = model_argument(options.model);
  const Deployment before = make_deployment(read_deployment(options.before, model.num_experts));
  const Deployment after = make_deployment(read_deployment(options.after, model.num_experts));
  Diff diff{options, model.name, before.num_ranks, after.num_ranks, {}, {}, 0, 0, false};
  diff.has_messages =
      options.ranks || !options.svg.empty() || std::max(before.num_ranks, after.num_ranks) <= kManyRanks;
  diff.moved = reshard(
      before, after, priced_model(model),
      {bytes_of_type("--dtype", options.dtype), bytes_of_type("--adapter-dtype", options.adapter_dtype), 2},
      {options.adapters, options.rank}, {options.ranks_per_node, diff.has_messages});
  const std::vector<RankReshard>& ranks = diff.moved.ranks;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    RankReshard& sum = diff.sum;
    sum.received += ranks[r].received;
    sum.sent += ranks[r].sent;
    for (const auto part : {&RankReshard::kept, &RankReshard::weights, &RankReshard::adapters,
                            &RankReshard::whole, &RankReshard::partly, &RankReshard::arriving,
                            &RankReshard::columns_kept, &RankReshard::columns_arriving})
      sum.*part += ranks[r].*part;
    if (ranks[r].received.total() > ranks[diff.worst_receiver].received.total()) diff.worst_receiver = r;
    if (ranks[r].sent.total() > ranks[diff.worst_sender].sent.total()) diff.worst_sender = r;
  }
  return diff;
}

std::string bytes_words(std::int64_t bytes) { return describe_bytes(static_cast<double>(bytes)); }

std::string percent(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? "0%"
                    : fmt::format("{:.1f}%", 100 * static_cast<double>(part) / static_cast<double>(whole));
}

Table rank_table(const Diff& diff) {
  Table table;
  table.column("rank", Table::Align::right);
  for (const char* header : {"stay", "in part", "arrive"})
    table.column(header, Table::Align::right, "experts, in all layers");
  table.column("columns stay", Table::Align::right);
  table.column("kept", Table::Align::right);
  for (const char* header : {"weights", "adapters", "in all", "between nodes"})
    table.column(header, Table::Align::right, "received");
  for (const char* header : {"in all", "between nodes"}) table.column(header, Table::Align::right, "sent");
  for (std::size_t r = 0; r < diff.moved.ranks.size(); ++r) {
    const RankReshard& one = diff.moved.ranks[r];
    table.row({fmt::format("{}", r), fmt::format("{}", one.whole), fmt::format("{}", one.partly),
               fmt::format("{}", one.arriving),
               percent(one.columns_kept, one.columns_kept + one.columns_arriving), bytes_words(one.kept),
               bytes_words(one.weights), bytes_words(one.adapters), bytes_words(one.received.total()),
               bytes_words(one.received.between), bytes_words(one.sent.total()),
               bytes_words(one.sent.between)});
  }
  return table;
}

Table message_table(const Diff& diff) {
  std::vector<Message> largest = diff.moved.messages;
  std::stable_sort(largest.begin(), largest.end(),
                   [](const Message& a, const Message& b) { return a.bytes > b.bytes; });
  if (largest.size() > kFewMessages) largest.resize(kFewMessages);
  Table table;
  table.column("from", Table::Align::right).column("to", Table::Align::right);
  table.column("bytes", Table::Align::right).column("over");
  const std::int32_t node = diff.options.ranks_per_node;
  for (const Message& one : largest)
    table.row({fmt::format("{}", one.from), fmt::format("{}", one.to), bytes_words(one.bytes),
               one.from / node == one.to / node ? "links inside a node" : "links between nodes"});
  return table;
}

void print_diff(const Diff& diff, const Output& output) {
  const RankReshard& sum = diff.sum;
  fmt::print("{}\n",
             styled(fmt::format("From {} to {}: {}, {} adapters of rank {}", diff.options.before,
                                diff.options.after, diff.model, diff.options.adapters, diff.options.rank),
                    Style::heading, output.color));
  fmt::print("ranks       {}{}, {} a node\n", diff.ranks_before,
             diff.ranks_after == diff.ranks_before ? "" : fmt::format(" before, {} after", diff.ranks_after),
             diff.options.ranks_per_node);
  fmt::print("stays       {} of {} ({})\n", bytes_words(sum.kept), bytes_words(diff.needed()),
             percent(sum.kept, diff.needed()));
  fmt::print("moves       {}: weights {}, adapters {}\n", bytes_words(sum.received.total()),
             bytes_words(sum.weights), bytes_words(sum.adapters));
  fmt::print("links       inside nodes {}, between nodes {}\n", bytes_words(sum.received.inside),
             bytes_words(sum.received.between));
  fmt::print(
      "experts     in all layers {} stay whole on their ranks, {} in part, {} arrive; {} of columns stay\n",
      sum.whole, sum.partly, sum.arriving,
      percent(sum.columns_kept, sum.columns_kept + sum.columns_arriving));
  if (sum.received.total() == 0) {
    fmt::print("Nothing moves.\n");
    return;
  }
  const RankReshard& to = diff.moved.ranks[diff.worst_receiver];
  const RankReshard& from = diff.moved.ranks[diff.worst_sender];
  fmt::print("most        rank {} receives {}, rank {} sends {}\n", diff.worst_receiver,
             bytes_words(to.received.total()), diff.worst_sender, bytes_words(from.sent.total()));
  if (diff.every_rank()) fmt::print("\n{}", rank_table(diff).render(output.color));
  if (!diff.has_messages) return;
  const std::size_t all = diff.moved.messages.size();
  fmt::print("\n{}\n{}",
             all > kFewMessages ? fmt::format("The {} largest of {} messages", kFewMessages, all)
                                : fmt::format("{} {}", all, all == 1 ? "message" : "messages"),
             message_table(diff).render(output.color));
}

nlohmann::ordered_json json_of(const RankReshard& one) {
  return {{"kept_bytes", one.kept},
          {"received_bytes", one.received.total()},
          {"received_weight_bytes", one.weights},
          {"received_adapter_bytes", one.adapters},
          {"received_between_nodes_bytes", one.received.between},
          {"sent_bytes", one.sent.total()},
          {"sent_between_nodes_bytes", one.sent.between},
          {"experts_whole", one.whole},
          {"experts_in_part", one.partly},
          {"experts_arriving", one.arriving},
          {"columns_kept", one.columns_kept},
          {"columns_arriving", one.columns_arriving}};
}

void print_document(const Diff& diff) {
  nlohmann::ordered_json document = json_document("layout_diff");
  document["before"] = diff.options.before;
  document["after"] = diff.options.after;
  document["model"] = diff.model;
  document["adapters"] = diff.options.adapters;
  document["rank"] = diff.options.rank;
  document["ranks_before"] = diff.ranks_before;
  document["ranks_after"] = diff.ranks_after;
  document["ranks_per_node"] = diff.options.ranks_per_node;
  document["total"] = json_of(diff.sum);
  document["worst_receiver"] = diff.worst_receiver;
  document["worst_sender"] = diff.worst_sender;
  document["max_received_bytes"] = diff.moved.ranks[diff.worst_receiver].received.total();
  document["max_sent_bytes"] = diff.moved.ranks[diff.worst_sender].sent.total();
  for (std::size_t r = 0; r < diff.moved.ranks.size() && diff.has_messages; ++r) {
    nlohmann::ordered_json row = {{"rank", r}};
    row.update(json_of(diff.moved.ranks[r]));
    document["ranks"].push_back(std::move(row));
  }
  if (diff.has_messages) document["messages"] = nlohmann::ordered_json::array();
  for (const Message& one : diff.moved.messages)
    document["messages"].push_back({{"from", one.from}, {"to", one.to}, {"bytes", one.bytes}});
  print_json(document);
}

}  // namespace

int run_layout_diff(const LayoutDiffOptions& options, const Output& output) {
  const Diff diff = diff_of(options);
  if (!options.svg.empty()) {
    const ReshardTitle title{options.before, options.after, diff.model};
    write_text_file(options.svg, reshard_svg(diff.moved, title, options.ranks_per_node));
  }
  output.json ? print_document(diff) : print_diff(diff, output);
  if (!options.svg.empty()) fmt::print(stderr, "wrote {}\n", options.svg);
  return kAgreement;
}

}  // namespace eplora
